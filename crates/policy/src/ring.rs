//! Queues of references: first in, first out, four bytes each, in chunks of two cache lines that queues hand to each other.
//!
//! Invariant: `len` is the number of references between head and tail; a chunk belongs to one queue or is free.
//! Growing takes a page of 16 KiB at a time and copies nothing.

use crate::interface::Ref;

const CHUNK: usize = 30;
const PAGE: usize = 128;
const NONE: u32 = u32::MAX;

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

/// Some queues over one store of chunks.
#[derive(Debug)]
pub struct Rings {
    pages: Vec<Box<[Chunk; PAGE]>>,
    free: u32,
    queues: Vec<Queue>,
    len: usize,
}

impl Rings {
    /// So many empty queues.
    #[must_use]
    pub fn new(queues: usize) -> Self {
        Rings { pages: Vec::new(), free: NONE, queues: vec![EMPTY; queues], len: 0 }
    }

    /// References in all queues.
    #[must_use]
    pub fn total(&self) -> usize {
        self.len
    }

    /// References in a queue.
    #[must_use]
    pub fn count(&self, queue: usize) -> usize {
        self.queues[queue].len as usize
    }

    /// Whether a queue has none.
    #[must_use]
    pub fn has_none(&self, queue: usize) -> bool {
        self.count(queue) == 0
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.pages.len() * size_of::<[Chunk; PAGE]>()
            + self.pages.capacity() * size_of::<usize>()
            + self.queues.capacity() * size_of::<Queue>()
    }

    fn chunk(&mut self, at: u32) -> &mut Chunk {
        &mut self.pages[at as usize / PAGE][at as usize % PAGE]
    }

    fn take_chunk(&mut self) -> u32 {
        if self.free == NONE {
            let start = (self.pages.len() * PAGE) as u32;
            let mut page = Box::new([Chunk { next: NONE, before: NONE, refs: [0; CHUNK] }; PAGE]);
            for (at, chunk) in page.iter_mut().enumerate() {
                chunk.next = if at + 1 < PAGE { start + at as u32 + 1 } else { NONE };
            }
            self.pages.push(page);
            self.free = start;
        }
        let at = self.free;
        self.free = self.chunk(at).next;
        *self.chunk(at) = Chunk { next: NONE, before: NONE, refs: [0; CHUNK] };
        at
    }

    fn give_chunk(&mut self, at: u32) {
        let free = self.free;
        self.chunk(at).next = free;
        self.free = at;
    }

    /// Appends a reference to a queue.
    pub fn push(&mut self, queue: usize, at: Ref) {
        let mut held = self.queues[queue];
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
        self.queues[queue] = held;
        self.len += 1;
    }

    /// Takes the oldest reference of a queue.
    pub fn pop(&mut self, queue: usize) -> Option<Ref> {
        let mut held = self.queues[queue];
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
        self.queues[queue] = held;
        Some(Ref(at))
    }

    /// Takes the newest reference of a queue.
    pub fn pop_newest(&mut self, queue: usize) -> Option<Ref> {
        let mut held = self.queues[queue];
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
        self.queues[queue] = held;
        Some(Ref(at))
    }

    /// Puts a reference before all others of a queue.
    pub fn push_oldest(&mut self, queue: usize, at: Ref) {
        let mut held = self.queues[queue];
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
        self.queues[queue] = held;
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
            let mut rings = Rings::new(3);
            let mut model = vec![VecDeque::new(); 3];
            for (queue, operation, value) in operations {
                match operation {
                    0..=3 => {
                        rings.push(queue, Ref(value));
                        model[queue].push_back(Ref(value));
                    }
                    4 | 5 => prop_assert_eq!(rings.pop(queue), model[queue].pop_front()),
                    6 => prop_assert_eq!(rings.pop_newest(queue), model[queue].pop_back()),
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
            let mut rings = Rings::new(2);
            for at in 0..count {
                rings.push(0, Ref(at as u32));
            }
            let full = rings.memory();
            prop_assert!(full <= count * 128 / 30 + 20_000, "{} for {}", full, count);
            for at in 0..count * 3 {
                let taken = rings.pop(at % 2).or_else(|| rings.pop(1 - at % 2)).unwrap();
                rings.push(1, taken);
            }
            prop_assert!(rings.memory() <= full + size_of::<[Chunk; PAGE]>() + 1024);
        }
    }
}
