//! Queues of references: first in, first out, four bytes each, in chunks of a cache line that queues hand to each other.
//!
//! Invariant: `len` is the number of references between head and tail; a chunk belongs to one queue or is free.
//! Growing takes a page of 4 KiB at a time and copies nothing; [`Rings::shrink`] gives one back.

use crate::interface::Ref;

const CHUNK: usize = 14;
const PAGE: usize = 64;
const NONE: u32 = u32::MAX;
/// Stands for `before` in chunks that no queue has.
const FREE: u32 = u32::MAX - 1;
/// Pages that are kept free for what comes.
const PAGES_SPARE: usize = 2;

#[derive(Clone, Copy, Debug)]
struct Chunk {
    next: u32,
    before: u32,
    refs: [u32; CHUNK],
}

/// A queue's place in the chunks.
#[derive(Clone, Copy, Debug)]
struct Queue {
    first: u32,
    first_at: u32,
    last: u32,
    last_end: u32,
    len: u32,
}

const EMPTY: Queue = Queue { first: NONE, first_at: 0, last: NONE, last_end: 0, len: 0 };

/// Chunks that come and go together.
#[derive(Debug)]
struct Page {
    /// The first of those that are free, which name each other by `next`.
    free: u32,
    chunks: [Chunk; PAGE],
}

impl Page {
    fn new() -> Box<Page> {
        let chunk = |at| Chunk {
            next: if at + 1 < PAGE { at as u32 + 1 } else { NONE },
            before: FREE,
            refs: [0; CHUNK],
        };
        Box::new(Page { free: 0, chunks: std::array::from_fn(chunk) })
    }

    fn take(&mut self) -> Option<usize> {
        let at = self.free as usize;
        self.free = self.chunks.get(at)?.next;
        Some(at)
    }

    fn give(&mut self, at: usize) {
        (self.chunks[at].next, self.chunks[at].before) = (self.free, FREE);
        self.free = at as u32;
    }
}

/// Some queues over one store of chunks.
#[derive(Debug, Default)]
pub struct Rings {
    pages: Vec<Box<Page>>,
    /// Pages with free chunks, the one to take from last.
    open: Vec<u32>,
    /// Chunks that are free.
    free: usize,
    queues: Vec<Queue>,
    len: usize,
}

impl Rings {
    /// Empty queues, numbered from 0; there is room for as many as the highest that was used.
    #[must_use]
    pub fn new() -> Self {
        Rings::default()
    }

    fn queue(&self, queue: usize) -> Queue {
        self.queues.get(queue).copied().unwrap_or(EMPTY)
    }

    fn set_queue(&mut self, queue: usize, held: Queue) {
        if queue >= self.queues.len() {
            self.queues.resize(queue + 1, EMPTY);
        }
        self.queues[queue] = held;
    }

    /// References in all queues.
    #[must_use]
    pub fn total(&self) -> usize {
        self.len
    }

    /// References in a queue.
    #[must_use]
    pub fn count(&self, queue: usize) -> usize {
        self.queue(queue).len as usize
    }

    /// Whether a queue has none.
    #[must_use]
    pub fn has_none(&self, queue: usize) -> bool {
        self.count(queue) == 0
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.pages.len() * size_of::<Page>()
            + self.pages.capacity() * size_of::<usize>()
            + self.open.capacity() * size_of::<u32>()
            + self.queues.capacity() * size_of::<Queue>()
    }

    fn chunk(&mut self, at: u32) -> &mut Chunk {
        &mut self.pages[at as usize / PAGE].chunks[at as usize % PAGE]
    }

    fn take_chunk(&mut self) -> u32 {
        loop {
            let Some(number) = self.open.last().copied() else {
                self.open.push(self.pages.len() as u32);
                self.pages.push(Page::new());
                self.free += PAGE;
                continue;
            };
            // What was given back meanwhile is open no more.
            let page = self.pages.get_mut(number as usize);
            let Some((page, at)) = page.and_then(|page| page.take().map(|at| (page, at))) else {
                self.open.pop();
                continue;
            };
            page.chunks[at] = Chunk { next: NONE, before: NONE, refs: [0; CHUNK] };
            if page.free == NONE {
                self.open.pop();
            }
            self.free -= 1;
            return (number as usize * PAGE + at) as u32;
        }
    }

    fn give_chunk(&mut self, at: u32) {
        let page = &mut self.pages[at as usize / PAGE];
        if page.free == NONE {
            self.open.push(at / PAGE as u32);
        }
        page.give(at as usize % PAGE);
        self.free += 1;
    }

    /// Gives the last page back where more than a quarter of all chunks are free. What it held moves; some microseconds.
    #[inline]
    pub fn shrink(&mut self) {
        if self.free >= (self.pages.len() / 4 + PAGES_SPARE) * PAGE {
            self.give_page();
        }
    }

    #[cold]
    fn give_page(&mut self) {
        let start = (self.pages.len() - 1) * PAGE;
        let Some(page) = self.pages.last_mut() else { return };
        page.free = NONE;
        self.free -= page.chunks.iter().filter(|chunk| chunk.before == FREE).count();
        for at in start..start + PAGE {
            let chunk = *self.chunk(at as u32);
            if chunk.before != FREE {
                self.move_chunk(at as u32, chunk);
            }
        }
        self.pages.pop();
        if self.pages.capacity() > 4 * self.pages.len() + 64 {
            self.pages.shrink_to(2 * self.pages.len());
        }
    }

    /// Moves a chunk that a queue has to one that is free.
    fn move_chunk(&mut self, from: u32, chunk: Chunk) {
        let to = self.take_chunk();
        *self.chunk(to) = chunk;
        if chunk.before == NONE {
            self.each_queue(|queue| queue.first = if queue.first == from { to } else { queue.first });
        } else {
            self.chunk(chunk.before).next = to;
        }
        if chunk.next == NONE {
            self.each_queue(|queue| queue.last = if queue.last == from { to } else { queue.last });
        } else {
            self.chunk(chunk.next).before = to;
        }
    }

    fn each_queue(&mut self, change: impl Fn(&mut Queue)) {
        self.queues.iter_mut().filter(|queue| queue.len > 0).for_each(change);
    }

    /// Appends a reference to a queue.
    #[inline]
    pub fn push(&mut self, queue: usize, at: Ref) {
        if let Some(held) = self.queues.get_mut(queue)
            && held.last != NONE
            && let Some(page) = self.pages.get_mut(held.last as usize / PAGE)
            && let Some(place) = page.chunks[held.last as usize % PAGE].refs.get_mut(held.last_end as usize)
        {
            *place = at.0;
            (held.last_end, held.len) = (held.last_end + 1, held.len + 1);
            self.len += 1;
        } else {
            self.push_in_chunk(queue, at);
        }
    }

    /// As `push`, where the queue has no chunk with room.
    fn push_in_chunk(&mut self, queue: usize, at: Ref) {
        let mut held = self.queue(queue);
        if held.last == NONE || held.last_end as usize == CHUNK {
            let chunk = self.take_chunk();
            if held.last == NONE {
                (held.first, held.first_at) = (chunk, 0);
            } else {
                self.chunk(held.last).next = chunk;
                self.chunk(chunk).before = held.last;
            }
            (held.last, held.last_end) = (chunk, 0);
        }
        self.chunk(held.last).refs[held.last_end as usize] = at.0;
        held.last_end += 1;
        held.len += 1;
        self.set_queue(queue, held);
        self.len += 1;
    }

    /// Takes the oldest reference of a queue.
    #[inline]
    pub fn pop(&mut self, queue: usize) -> Option<Ref> {
        let held = self.queues.get_mut(queue)?;
        if held.len < 2 || held.first_at as usize + 1 == CHUNK {
            return self.pop_last_of_chunk(queue);
        }
        let page = self.pages.get(held.first as usize / PAGE)?;
        let at = page.chunks[held.first as usize % PAGE].refs[held.first_at as usize];
        (held.first_at, held.len) = (held.first_at + 1, held.len - 1);
        self.len -= 1;
        Some(Ref(at))
    }

    /// As `pop`, where that is the last of its chunk, or there is none.
    fn pop_last_of_chunk(&mut self, queue: usize) -> Option<Ref> {
        let mut held = self.queue(queue);
        if held.len == 0 {
            return None;
        }
        let at = self.chunk(held.first).refs[held.first_at as usize];
        held.first_at += 1;
        held.len -= 1;
        self.len -= 1;
        if held.len == 0 {
            self.give_chunk(held.first);
            held = EMPTY;
        } else if held.first_at as usize == CHUNK {
            let next = self.chunk(held.first).next;
            self.give_chunk(held.first);
            (held.first, held.first_at) = (next, 0);
            self.chunk(next).before = NONE;
        }
        self.set_queue(queue, held);
        Some(Ref(at))
    }

    /// Takes the newest reference of a queue.
    pub fn pop_newest(&mut self, queue: usize) -> Option<Ref> {
        let mut held = self.queue(queue);
        if held.len == 0 {
            return None;
        }
        held.last_end -= 1;
        let at = self.chunk(held.last).refs[held.last_end as usize];
        held.len -= 1;
        self.len -= 1;
        if held.len == 0 {
            self.give_chunk(held.last);
            held = EMPTY;
        } else if held.last_end == 0 {
            let before = self.chunk(held.last).before;
            self.give_chunk(held.last);
            (held.last, held.last_end) = (before, CHUNK as u32);
            self.chunk(before).next = NONE;
        }
        self.set_queue(queue, held);
        Some(Ref(at))
    }

    /// Puts a reference before all others of a queue.
    pub fn push_oldest(&mut self, queue: usize, at: Ref) {
        let mut held = self.queue(queue);
        if held.len == 0 {
            return self.push(queue, at);
        }
        if held.first_at == 0 {
            let chunk = self.take_chunk();
            self.chunk(chunk).next = held.first;
            self.chunk(held.first).before = chunk;
            (held.first, held.first_at) = (chunk, CHUNK as u32);
        }
        held.first_at -= 1;
        self.chunk(held.first).refs[held.first_at as usize] = at.0;
        held.len += 1;
        self.set_queue(queue, held);
        self.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn queues_are_what_deques_are(operations in proptest::collection::vec((0usize..3, 0u8..8, 0u32..1000), 0..4000)) {
            let mut rings = Rings::new();
            let mut model = vec![VecDeque::new(); 3];
            for (queue, operation, value) in operations {
                match operation {
                    0..=3 => {
                        rings.push(queue, Ref(value));
                        model[queue].push_back(Ref(value));
                    }
                    4 | 5 => prop_assert_eq!(rings.pop(queue), model[queue].pop_front()),
                    6 => prop_assert_eq!(rings.pop_newest(queue), model[queue].pop_back()),
                    7 if value < 100 => rings.shrink(),
                    _ => {
                        rings.push_oldest(queue, Ref(value));
                        model[queue].push_front(Ref(value));
                    }
                }
                prop_assert_eq!(rings.count(queue), model[queue].len());
                prop_assert_eq!(rings.total(), model.iter().map(VecDeque::len).sum::<usize>());
            }
            for (queue, model) in model.iter_mut().enumerate() {
                while let Some(expected) = model.pop_front() {
                    prop_assert_eq!(rings.pop(queue), Some(expected));
                }
                prop_assert_eq!(rings.pop(queue), None);
            }
        }

        #[test]
        fn what_is_taken_out_makes_room_for_what_comes(count in 1usize..20_000) {
            let mut rings = Rings::new();
            for at in 0..count {
                rings.push(0, Ref(at as u32));
            }
            let full = rings.memory();
            prop_assert!(full <= count * 64 / 14 * 101 / 100 + 6_000, "{} for {}", full, count);
            for at in 0..count * 3 {
                let taken = rings.pop(at % 2).or_else(|| rings.pop(1 - at % 2)).unwrap();
                rings.push(1, taken);
            }
            prop_assert!(rings.memory() <= full + size_of::<Page>() + 1024);
        }

        #[test]
        fn pages_are_given_back(counts in proptest::collection::vec(0usize..30_000, 1..6), left in 1usize..50) {
            let mut rings = Rings::new();
            let mut model = vec![VecDeque::new(); 8];
            for count in counts {
                for at in 0..count {
                    let queue = at * at % 8;
                    rings.push(queue, Ref(at as u32));
                    model[queue].push_back(Ref(at as u32));
                }
                // From both ends, so that what is left lies anywhere.
                for (queue, model) in model.iter_mut().enumerate() {
                    while model.len() > left {
                        let is_oldest = model.len() % 3 == 0;
                        let (mine, theirs) = if is_oldest {
                            (rings.pop(queue), model.pop_front())
                        } else {
                            (rings.pop_newest(queue), model.pop_back())
                        };
                        prop_assert_eq!(mine, theirs);
                        rings.shrink();
                    }
                }
            }
            prop_assert!(rings.memory() <= 5 * size_of::<Page>(), "{}", rings.memory());
            for (queue, model) in model.iter_mut().enumerate() {
                while let Some(expected) = model.pop_front() {
                    prop_assert_eq!(rings.pop(queue), Some(expected));
                }
            }
        }
    }
}
