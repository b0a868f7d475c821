//! The large form: chunks, filled and split as Redis' quicklists are.
//!
//! Where a new element goes decides what OBJECT ENCODING answers later, since only a list of one
//! chunk becomes small again; and what DUMP gives. So the rules are Redis', also where others would
//! fill better: nothing is joined but around a split, and a full chunk that is inserted into spills
//! into its neighbour only at its edges. Chunks that are far enough from both ends are kept compressed, opened
//! for an edit, and compressed again behind it.
//! Invariant: while anyone looks at it, the list is not empty, and as its compression depth says.

use super::chunk::Chunk;
use super::chunks::{At, Changed, Chunks};
use super::{End, Limit, Side};
use crate::mover::{Mover, Resume};
use crate::packed::{Cursor, Element, LISTPACK_OVERHEAD_BYTES, Packed, PackedBuf};

/// A list of many chunks, or of one that is too large to be packed.
#[derive(Clone, Debug)]
pub struct Quick {
    chunks: Chunks,
    /// The limit in force when the list became large; it stays, but for what counts for all lists at once.
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
    /// See [`crate::collection::Collection::move_blocks`].
    pub(super) fn move_blocks(&mut self, mover: &mut Mover<'_>, from: Resume) -> Resume {
        self.chunks.move_blocks(mover, from)
    }

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

    /// Gives `visit` the chunks as DUMP writes them: whether it is a large element alone, and what is in it.
    pub fn for_each_chunk(&self, mut visit: impl FnMut(bool, Packed<'_>)) {
        let (mut next, mut room) = (self.chunks.first(), Vec::new());
        while let Some(at) = next {
            let chunk = self.chunks.get(at);
            visit(chunk.plain, chunk.look(&mut room));
            next = self.chunks.next(at);
        }
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> usize {
        self.chunks.chunks()
    }

    /// The limit in force when the list became large.
    pub fn limit(&self) -> Limit {
        self.limit
    }

    /// Takes over what of a limit counts for all lists at once.
    #[inline]
    pub(super) fn follow(&mut self, in_force: Limit) {
        self.limit.follow(in_force);
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
        let bytes = chunk.listpack_bytes();
        if chunk.plain || !limit.is_small(bytes, chunk.count(), after_removal) {
            return None;
        }
        Some(self.chunks.remove(first).0.into_packed())
    }

    /// Appends a chunk as it is.
    pub(super) fn append_chunk(&mut self, packed: PackedBuf) {
        if !packed.is_empty() {
            self.chunks.push_back(Chunk::of(packed));
            self.settle(Changed::Ends);
        }
    }

    /// Appends a large element as a chunk of its own.
    pub(super) fn append_plain(&mut self, text: &[u8]) {
        self.chunks.push_back(Chunk::single(text, true));
        self.settle(Changed::Ends);
    }

    /// Adds an element at an end.
    pub(super) fn push(&mut self, end: End, text: &[u8]) {
        let outer = match end {
            End::Head => self.chunks.first(),
            End::Tail => self.chunks.last(),
        };
        if let Some(at) = outer.filter(|&at| self.has_room(at, text.len())) {
            self.chunks.push_to(at, end, text);
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
        self.settle(Changed::Ends);
    }

    /// Has the chunks compressed that are to be.
    #[inline]
    fn settle(&mut self, changed: Changed) {
        self.chunks.settle(self.limit.depth(), changed);
    }

    /// The place of the element with this index, for an edit: its chunk is open.
    pub(super) fn open(&mut self, index: usize) -> Option<Place> {
        let (at, offset) = self.chunks.seek(index)?;
        self.chunks.open(at);
        let cursor = self.chunks.get(at).look(&mut Vec::new()).seek(offset)?;
        Some(Place { at, cursor, offset })
    }

    /// The place of the first element that is `what`, for an edit.
    pub(super) fn open_found(&mut self, what: &[u8]) -> Option<Place> {
        let (mut next, mut room) = (self.chunks.first(), Vec::new());
        while let Some(at) = next {
            let packed = self.chunks.get(at).look(&mut room);
            if let Some(cursor) = packed.first().and_then(|first| packed.find(first, what, 0)) {
                let offset = packed.iter_to(cursor).count() - 1;
                self.chunks.open(at);
                return Some(Place { at, cursor, offset });
            }
            next = self.chunks.next(at);
        }
        None
    }

    /// Removes the elements from index `first` on, at most `count`; how many.
    pub(super) fn remove_range(&mut self, first: usize, count: usize) -> usize {
        let removed = self.take_range(first, count);
        self.settle(Changed::Anywhere);
        removed
    }

    fn take_range(&mut self, first: usize, count: usize) -> usize {
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

    /// Puts an element beside the one at `place`, which is open.
    pub(super) fn insert(&mut self, place: Place, side: Side, text: &[u8]) {
        self.insert_beside(place, side, text);
        self.settle(Changed::Anywhere);
    }

    fn insert_beside(&mut self, place: Place, side: Side, text: &[u8]) {
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

    /// Replaces the element at `place`, which is open. A chunk may outgrow the limit by it, as in Redis.
    pub(super) fn replace(&mut self, place: Place, text: &[u8]) {
        self.replace_at(place, text);
        self.settle(Changed::Anywhere);
    }

    fn replace_at(&mut self, place: Place, text: &[u8]) {
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
        let (mut left, mut room, chunks) = (count, Vec::new(), self.chunks.chunks());
        while left > 0 {
            let outer = match end {
                End::Head => self.chunks.first(),
                End::Tail => self.chunks.last(),
            };
            let Some(at) = outer else { break };
            let chunk = self.chunks.get(at);
            let (view, present) = (chunk.look(&mut room), chunk.count());
            let taken = left.min(present);
            match end {
                End::Head => view.iter().take(taken).for_each(&mut *visit),
                End::Tail => view.iter().rev().take(taken).for_each(&mut *visit),
            }
            if taken == present {
                self.chunks.remove(at);
            } else {
                self.chunks.pop_from(at, end, taken);
            }
            left -= taken;
        }
        if self.chunks.chunks() != chunks {
            self.settle(Changed::Ends);
        }
        count - left
    }

    /// Removes elements that are `what`, at most `count` of them, searched from an end; how many.
    pub(super) fn remove_matching(&mut self, from: End, count: usize, what: &[u8]) -> usize {
        let removed = self.take_matching(from, count, what);
        if removed > 0 {
            self.settle(Changed::Anywhere);
        }
        removed
    }

    fn take_matching(&mut self, from: End, count: usize, what: &[u8]) -> usize {
        let mut room = Vec::new();
        let mut next = match from {
            End::Head => self.chunks.first(),
            End::Tail => self.chunks.last(),
        };
        let mut removed = 0;
        while removed < count
            && let Some(at) = next
        {
            let present = self.chunks.get(at).look(&mut room);
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
            && self.limit.has_room(chunk.listpack_bytes(), chunk.count(), element_bytes)
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
        let bytes = one.listpack_bytes() + other.listpack_bytes();
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
        let removed = removed.into_packed();
        self.chunks.edit(at, |packed| packed.append(removed.view()));
        at
    }

    /// Panics where an invariant is broken.
    pub(super) fn check(&self) {
        self.chunks.check();
        self.chunks.check_settled(self.limit.depth());
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
