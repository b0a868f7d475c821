//! The large form: chunks, filled and split as Redis' quicklists are.
//!
//! Where a new element goes decides what OBJECT ENCODING answers later, since only a list of one
//! chunk becomes small again; and what DUMP gives. So the rules are Redis', also where others would
//! fill better: nothing is joined but around a split, and a full chunk that is inserted into spills
//! into its neighbour only at its edges.
//! Invariant: the list is not empty while anyone looks at it.

use super::chunks::{At, Chunk, Chunks};
use super::{End, Limit, Side};
use crate::packed::{Cursor, Element, LISTPACK_OVERHEAD_BYTES, Packed, PackedBuf};

/// A list of many chunks, or of one that is too large to be packed.
#[derive(Clone, Debug)]
pub struct Quick {
    chunks: Chunks,
    /// The limit in force when the list became large; it stays.
    limit: Limit,
}

/// An element: its chunk, its place in it, and its index in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) at: At,
    pub(super) cursor: Cursor,
    pub(super) offset: usize,
}

impl Quick {
    /// A list without chunks.
    pub(super) fn new(limit: Limit) -> Quick {
        Quick { chunks: Chunks::default(), limit }
    }

    /// How many elements there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.chunks.len() == 0
    }

    /// The chunks as DUMP writes them: whether it is a large element alone, and what is in it.
    pub fn chunks(&self) -> impl ExactSizeIterator<Item = (bool, Packed<'_>)> {
        ChunkIter { chunks: &self.chunks, at: self.chunks.first(), left: self.chunks.chunks() }
    }

    pub(super) fn inner(&self) -> &Chunks {
        &self.chunks
    }

    /// Memory held.
    pub(super) fn heap_bytes(&self) -> usize {
        self.chunks.heap_bytes()
    }

    /// The one chunk of a list that is to be packed again.
    pub(super) fn small_chunk(&mut self, limit: Limit, after_removal: bool) -> Option<PackedBuf> {
        let first = self.chunks.first().filter(|_| self.chunks.chunks() == 1)?;
        let chunk = self.chunks.get(first);
        let bytes = chunk.packed.view().listpack_bytes();
        if chunk.plain || !limit.is_small(bytes, chunk.count(), after_removal) {
            return None;
        }
        Some(self.chunks.remove(first).0.packed)
    }

    /// Appends a chunk as it is.
    pub(super) fn append_chunk(&mut self, packed: PackedBuf) {
        if !packed.is_empty() {
            self.chunks.push_back(Chunk::of(packed));
        }
    }

    /// Appends a large element as a chunk of its own.
    pub(super) fn append_plain(&mut self, text: &[u8]) {
        self.chunks.push_back(Chunk::single(text, true));
    }

    /// Adds an element at an end.
    pub(super) fn push(&mut self, end: End, text: &[u8]) {
        let outer = match end {
            End::Head => self.chunks.first(),
            End::Tail => self.chunks.last(),
        };
        if let Some(at) = outer.filter(|&at| self.has_room(at, text.len())) {
            self.chunks.edit(at, |packed| match end {
                End::Head => packed.push_front(text),
                End::Tail => packed.push_back(text),
            });
            return;
        }
        if let Some(full) = outer {
            self.chunks.edit(full, give_back);
        }
        let chunk = Chunk::single(text, self.limit.is_large(text.len()));
        match end {
            End::Head => self.chunks.push_front(chunk),
            End::Tail => self.chunks.push_back(chunk),
        };
    }

    /// The place of the element with this index.
    pub(super) fn seek(&self, index: usize) -> Option<Place> {
        let (at, offset) = self.chunks.seek(index)?;
        let cursor = self.chunks.get(at).packed.view().seek(offset)?;
        Some(Place { at, cursor, offset })
    }

    /// Removes the elements from index `first` on, at most `count`; how many.
    pub(super) fn remove_range(&mut self, first: usize, count: usize) -> usize {
        let wanted = count.min(self.len().saturating_sub(first));
        let Some((mut at, mut offset)) = self.chunks.seek(first).filter(|_| wanted > 0) else { return 0 };
        let mut left = wanted;
        loop {
            let present = self.chunks.get(at).count();
            let taken = left.min(present - offset);
            left -= taken;
            let next = if taken == present {
                self.chunks.remove(at).1
            } else {
                self.chunks.edit(at, |packed| {
                    packed.remove_range(offset, taken);
                    give_back(packed);
                });
                self.chunks.next(at)
            };
            match next {
                Some(next) if left > 0 => (at, offset) = (next, 0),
                _ => return wanted,
            }
        }
    }

    /// Puts an element beside the one at `place`.
    pub(super) fn insert(&mut self, place: Place, side: Side, text: &[u8]) {
        let chunk = self.chunks.get(place.at);
        let at_edge = match side {
            Side::After => place.offset + 1 == chunk.count(),
            Side::Before => place.offset == 0,
        };
        if self.limit.is_large(text.len()) {
            self.insert_chunk(place, side, at_edge, Chunk::single(text, true));
            return;
        }
        if self.has_room(place.at, text.len()) {
            self.chunks.edit(place.at, |packed| match side {
                Side::Before => packed.insert_before(place.cursor, text),
                Side::After => packed.insert_after(place.cursor, text),
            });
            return;
        }
        if at_edge {
            self.insert_at_edge(place.at, side, text);
            return;
        }
        let (low, high) = self.split(place, side);
        match side {
            Side::After => self.chunks.edit(high, |packed| packed.push_front(text)),
            Side::Before => self.chunks.edit(low, |packed| packed.push_back(text)),
        }
        self.join_around(if side == Side::After { low } else { high });
    }

    /// Replaces the element at `place`. A chunk may outgrow the limit by it, as in Redis.
    pub(super) fn replace(&mut self, place: Place, text: &[u8]) {
        let is_plain = self.chunks.get(place.at).plain;
        match (is_plain, self.limit.is_large(text.len())) {
            (false, false) => self.chunks.edit(place.at, |packed| packed.replace(place.cursor, text)),
            (false, true) => self.replace_by_chunk(place, Chunk::single(text, true)),
            (true, true) => self.chunks.replace(place.at, Chunk::single(text, true)),
            (true, false) => match self.chunks.next(place.at).filter(|&at| self.has_room(at, text.len())) {
                Some(next) => {
                    self.chunks.edit(next, |packed| packed.push_front(text));
                    self.chunks.remove(place.at);
                }
                None => self.chunks.replace(place.at, Chunk::single(text, false)),
            },
        }
    }

    /// Takes up to `count` elements from an end, one behind the other; how many there were.
    pub(super) fn pop(&mut self, end: End, count: usize, visit: &mut impl FnMut(Element<'_>)) -> usize {
        let mut left = count;
        while left > 0 {
            let outer = match end {
                End::Head => self.chunks.first(),
                End::Tail => self.chunks.last(),
            };
            let Some(at) = outer else { break };
            let chunk = self.chunks.get(at);
            let (view, present) = (chunk.packed.view(), chunk.count());
            let taken = left.min(present);
            match end {
                End::Head => view.iter().take(taken).for_each(&mut *visit),
                End::Tail => view.iter().rev().take(taken).for_each(&mut *visit),
            }
            if taken == present {
                self.chunks.remove(at);
            } else {
                let first = if end == End::Head { 0 } else { present - taken };
                self.chunks.edit(at, |packed| packed.remove_range(first, taken));
            }
            left -= taken;
        }
        count - left
    }

    /// Removes elements that are `what`, at most `count` of them, searched from an end; how many.
    pub(super) fn remove_matching(&mut self, from: End, count: usize, what: &[u8]) -> usize {
        let mut next = match from {
            End::Head => self.chunks.first(),
            End::Tail => self.chunks.last(),
        };
        let mut removed = 0;
        while removed < count
            && let Some(at) = next
        {
            let present = self.chunks.get(at).packed.view();
            let holds_one = present.first().is_some_and(|first| present.find(first, what, 0).is_some());
            let mut gone = 0;
            if holds_one {
                let mut left = present_without(present, from, count - removed, what, &mut gone);
                if left.is_empty() {
                    next = self.remove_towards(at, from);
                    removed += gone;
                    continue;
                }
                self.chunks.edit(at, |packed| std::mem::swap(packed, &mut left));
            }
            removed += gone;
            next = match from {
                End::Head => self.chunks.next(at),
                End::Tail => self.chunks.prev(at),
            };
        }
        removed
    }

    /// Takes a chunk out; the next one in the direction that begins at `from`.
    fn remove_towards(&mut self, at: At, from: End) -> Option<At> {
        let (_, behind) = self.chunks.remove(at);
        match (from, behind) {
            (End::Head, behind) => behind,
            (End::Tail, Some(behind)) => self.chunks.prev(behind),
            (End::Tail, None) => self.chunks.last(),
        }
    }

    /// Frees about `budget` elements, whole chunks of them; whether none is left.
    pub(super) fn free_step(&mut self, budget: usize) -> bool {
        let mut freed = 0;
        while let Some(last) = self.chunks.last() {
            if freed >= budget {
                return false;
            }
            freed += self.chunks.remove(last).0.count();
        }
        true
    }

    fn has_room(&self, at: At, element_bytes: usize) -> bool {
        let chunk = self.chunks.get(at);
        !chunk.plain
            && !self.limit.is_large(element_bytes)
            && self.limit.has_room(chunk.packed.view().listpack_bytes(), chunk.count(), element_bytes)
    }

    /// The element at the edge of a full chunk goes into the neighbour, or into a chunk of its own.
    fn insert_at_edge(&mut self, at: At, side: Side, text: &[u8]) {
        let neighbour = match side {
            Side::After => self.chunks.next(at),
            Side::Before => self.chunks.prev(at),
        };
        if let Some(neighbour) = neighbour.filter(|&at| self.has_room(at, text.len())) {
            self.chunks.edit(neighbour, |packed| match side {
                Side::After => packed.push_front(text),
                Side::Before => packed.push_back(text),
            });
            return;
        }
        self.put_beside(at, side, Chunk::single(text, false));
    }

    /// Puts a chunk beside an element, whose chunk is split unless it stands at the edge.
    fn insert_chunk(&mut self, place: Place, side: Side, at_edge: bool, chunk: Chunk) {
        let is_plain = self.chunks.get(place.at).plain;
        if is_plain || at_edge {
            self.put_beside(place.at, side, chunk);
            return;
        }
        let (low, _) = self.split(place, side);
        self.chunks.insert_after(low, chunk);
    }

    fn put_beside(&mut self, at: At, side: Side, chunk: Chunk) -> At {
        match side {
            Side::Before => self.chunks.insert_before(at, chunk),
            Side::After => self.chunks.insert_after(at, chunk),
        }
    }

    /// Splits the chunk before or behind an element that is not at that edge; the two places.
    fn split(&mut self, place: Place, side: Side) -> (At, At) {
        let cut = match side {
            Side::Before => place.offset,
            Side::After => place.offset + 1,
        };
        let tail = self.chunks.edit(place.at, |packed| {
            let tail = packed.split_off(cut);
            give_back(packed);
            tail
        });
        let high = self.chunks.insert_after(place.at, Chunk::of(tail));
        // The insertion may have moved what is before it into another block.
        let low = self.chunks.prev(high).unwrap_or(place.at);
        (low, high)
    }

    /// Replaces an element by a chunk; what was before and behind it stays in chunks of its own.
    fn replace_by_chunk(&mut self, place: Place, chunk: Chunk) {
        let count = self.chunks.get(place.at).count();
        let mut low = place.at;
        if place.offset + 1 < count {
            (low, _) = self.split(place, Side::After);
        }
        let new = self.chunks.insert_after(low, chunk);
        let Some(low) = self.chunks.prev(new) else { return };
        if self.chunks.get(low).count() == 1 {
            self.chunks.remove(low);
            return;
        }
        self.chunks.edit(low, |packed| {
            if let Some(last) = packed.view().last() {
                packed.remove(last, 1);
            }
        });
        self.join_around(new);
    }

    /// Joins chunks around one that was split, as far as they fit: the two before it, the two behind
    /// it, then it with what is before it and behind it.
    fn join_around(&mut self, center: At) {
        let mut center = center;
        if let Some(before) = self.chunks.prev(center)
            && let Some(before_that) = self.chunks.prev(before)
            && self.may_join(before_that, before)
        {
            let joined = self.join_with_next(before_that);
            center = self.chunks.next(joined).unwrap_or(joined);
        }
        if let Some(behind) = self.chunks.next(center)
            && let Some(behind_that) = self.chunks.next(behind)
            && self.may_join(behind, behind_that)
        {
            let joined = self.join_with_next(behind);
            center = self.chunks.prev(joined).unwrap_or(joined);
        }
        if let Some(before) = self.chunks.prev(center).filter(|&before| self.may_join(before, center)) {
            center = self.join_with_next(before);
        }
        if self.chunks.next(center).is_some_and(|behind| self.may_join(center, behind)) {
            self.join_with_next(center);
        }
    }

    fn may_join(&self, one: At, other: At) -> bool {
        let (one, other) = (self.chunks.get(one), self.chunks.get(other));
        let bytes = one.packed.view().listpack_bytes() + other.packed.view().listpack_bytes();
        !one.plain
            && !other.plain
            && !self.limit.is_exceeded(bytes - LISTPACK_OVERHEAD_BYTES, one.count() + other.count())
    }

    /// Appends the next chunk's elements to the one at `at`; its place then.
    fn join_with_next(&mut self, at: At) -> At {
        let Some(next) = self.chunks.next(at) else { return at };
        let (removed, behind) = self.chunks.remove(next);
        // The removal may have joined blocks: the chunk is the one before what is behind, or the last.
        let before = match behind {
            Some(behind) => self.chunks.prev(behind),
            None => self.chunks.last(),
        };
        let Some(at) = before else { return at };
        self.chunks.edit(at, |packed| packed.append(removed.packed.view()));
        at
    }

    /// Panics where an invariant is broken.
    pub(super) fn check(&self) {
        self.chunks.check();
        assert!(!self.is_empty(), "a large list is empty");
    }
}

/// Gives room back that a chunk will hardly need: it is not at the end any more, or became shorter.
fn give_back(packed: &mut PackedBuf) {
    let used = packed.view().bytes().len();
    if packed.heap_bytes() - used > used / 8 {
        packed.shrink_to_fit();
    }
}

/// A copy of a chunk without up to `count` elements that are `what`, searched from an end; counts them.
fn present_without(present: Packed<'_>, from: End, count: usize, what: &[u8], gone: &mut usize) -> PackedBuf {
    let matching = present.iter().filter(|element| element.is(what)).count();
    let removed = matching.min(count);
    // From the tail, the first ones stay.
    let mut kept = if from == End::Tail { matching - removed } else { 0 };
    let mut left = PackedBuf::new();
    left.reserve_exact(present.element_bytes().len());
    let mut next = present.first();
    while let Some(cursor) = next {
        let (element, after) = present.step(cursor);
        let goes = element.is(what) && {
            let goes = kept == 0 && *gone < removed;
            kept = kept.saturating_sub(1);
            goes
        };
        if goes {
            *gone += 1;
        } else {
            left.push_back_raw(present.raw(cursor));
        }
        next = after;
    }
    left.shrink_to_fit();
    left
}

struct ChunkIter<'a> {
    chunks: &'a Chunks,
    at: Option<At>,
    left: usize,
}

impl<'a> Iterator for ChunkIter<'a> {
    type Item = (bool, Packed<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at?;
        self.at = self.chunks.next(at);
        self.left -= 1;
        let chunk = self.chunks.get(at);
        Some((chunk.plain, chunk.packed.view()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ChunkIter<'_> {}
