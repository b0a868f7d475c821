//! A sequence of chunks of elements, found by the index of an element.
//!
//! Chunks stand in blocks of at most 128, blocks in a deque. A walk to an index passes over blocks,
//! then over the chunks of one block; a chunk is inserted or removed by moving one block's. Ten
//! million chunks are some 100,000 blocks, half of which a walk passes in some 50 microseconds.
//! Invariant: no block and no chunk is empty; a block's counts are those of its chunks; `len` and
//! `bytes` are the sums. Which chunks are compressed is settled after a change, by [`Chunks::settle`].

use super::End;
use super::chunk::Chunk;
use crate::mover::{Mover, Resume};
use crate::packed::PackedBuf;
use std::collections::VecDeque;

/// Chunks in a block at most.
const BLOCK_CHUNKS_MAX: usize = 128;

/// A block of fewer chunks is joined with a neighbour when both together have at most half of a block.
const BLOCK_CHUNKS_FEW: usize = BLOCK_CHUNKS_MAX / 4;

/// Neighbouring chunks.
#[derive(Clone, Debug, Default)]
struct Block {
    chunks: Vec<Chunk>,
    /// Elements in them.
    count: usize,
    /// How many of them are open: nobody has tried to compress them.
    open: usize,
}

impl Block {
    fn of(chunks: Vec<Chunk>) -> Block {
        let count = chunks.iter().map(Chunk::count).sum();
        let open = chunks.iter().filter(|chunk| chunk.is_open()).count();
        Block { chunks, count, open }
    }

    /// Memory of the chunks, but not of their elements.
    fn heap_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Chunk>()
    }
}

/// The place of a chunk. Good until a chunk is inserted or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    block: usize,
    slot: usize,
}

/// Where chunks were made, removed or edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// At the ends of the list only.
    Ends,
    /// Anywhere.
    Anywhere,
}

/// Chunks in order.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    blocks: VecDeque<Block>,
    /// Elements in all.
    len: usize,
    /// Chunks in all.
    chunks: usize,
    /// Memory of all chunks and their elements, but not of the deque.
    bytes: usize,
}

impl Chunks {
    /// See [`crate::collection::Collection::move_blocks`].
    pub(super) fn move_blocks(&mut self, mover: &mut Mover<'_>, from: Resume) -> Resume {
        let mut at = from.index();
        while let Some(block) = self.blocks.get_mut(at) {
            if mover.is_spent() {
                return Resume::at(at);
            }
            mover.vec(&mut block.chunks);
            block.chunks.iter_mut().for_each(|chunk| chunk.move_blocks(mover));
            mover.pass(block.count);
            at += 1;
        }
        Resume::START
    }

    /// Elements in all chunks.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many chunks there are.
    #[inline]
    pub(super) fn chunks(&self) -> usize {
        self.chunks
    }

    /// Memory held. O(blocks).
    pub(super) fn heap_bytes(&self) -> usize {
        let blocks: usize =
            self.blocks.iter().map(|block| block.chunks.capacity() * size_of::<Chunk>()).sum();
        blocks + self.blocks.capacity() * size_of::<Block>() + self.bytes
    }

    /// The first chunk's place.
    #[inline]
    pub(super) fn first(&self) -> Option<At> {
        (!self.blocks.is_empty()).then_some(At { block: 0, slot: 0 })
    }

    /// The last chunk's place.
    #[inline]
    pub(super) fn last(&self) -> Option<At> {
        let block = self.blocks.len().checked_sub(1)?;
        Some(At { block, slot: self.blocks[block].chunks.len() - 1 })
    }

    /// The place after `at`.
    #[inline]
    pub(super) fn next(&self, at: At) -> Option<At> {
        if at.slot + 1 < self.blocks[at.block].chunks.len() {
            return Some(At { slot: at.slot + 1, ..at });
        }
        (at.block + 1 < self.blocks.len()).then_some(At { block: at.block + 1, slot: 0 })
    }

    /// The place before `at`.
    #[inline]
    pub(super) fn prev(&self, at: At) -> Option<At> {
        if let Some(slot) = at.slot.checked_sub(1) {
            return Some(At { slot, ..at });
        }
        let block = at.block.checked_sub(1)?;
        Some(At { block, slot: self.blocks[block].chunks.len() - 1 })
    }

    /// The chunk at `at`.
    #[inline]
    pub(super) fn get(&self, at: At) -> &Chunk {
        &self.blocks[at.block].chunks[at.slot]
    }

    /// The chunk of the element with this index, and the element's index in it. Walks from the
    /// nearer end.
    pub(super) fn seek(&self, index: usize) -> Option<(At, usize)> {
        if index >= self.len {
            return None;
        }
        let (block, mut offset) = if index <= self.len / 2 {
            let mut rest = index;
            let block = self.blocks.iter().position(|block| passes_over(&mut rest, block.count))?;
            (block, rest)
        } else {
            let mut rest = self.len - 1 - index;
            let block = self.blocks.iter().rposition(|block| passes_over(&mut rest, block.count))?;
            (block, self.blocks[block].count - 1 - rest)
        };
        let slot =
            self.blocks[block].chunks.iter().position(|chunk| passes_over(&mut offset, chunk.count()))?;
        Some((At { block, slot }, offset))
    }

    /// Changes the elements of the chunk at `at`, of which some must be left.
    #[inline]
    pub(super) fn edit<R>(&mut self, at: At, edit: impl FnOnce(&mut PackedBuf) -> R) -> R {
        self.with_chunk(at, |chunk| chunk.edit(edit))
    }

    /// Adds an element at an end of the chunk at `at`.
    #[inline]
    pub(super) fn push_to(&mut self, at: At, end: End, text: &[u8]) {
        self.with_chunk(at, |chunk| chunk.push(end, text));
    }

    /// Takes `count` elements from an end of the chunk at `at`, which has more.
    #[inline]
    pub(super) fn pop_from(&mut self, at: At, end: End, count: usize) {
        self.with_chunk(at, |chunk| chunk.pop(end, count));
    }

    /// Has the chunk at `at` uncompressed, so that places in it can be named.
    #[inline]
    pub(super) fn open(&mut self, at: At) {
        if self.get(at).is_compressed() {
            self.with_chunk(at, Chunk::open);
        }
    }

    /// Puts another chunk in the place of the one at `at`.
    pub(super) fn replace(&mut self, at: At, chunk: Chunk) {
        self.with_chunk(at, |old| *old = chunk);
    }

    /// Changes a chunk, and the sums by what that changes.
    #[inline]
    fn with_chunk<R>(&mut self, at: At, change: impl FnOnce(&mut Chunk) -> R) -> R {
        let block = &mut self.blocks[at.block];
        let chunk = &mut block.chunks[at.slot];
        let (count, bytes, open) = (chunk.count(), chunk.heap_bytes(), chunk.is_open());
        let answer = change(chunk);
        debug_assert!(chunk.count() > 0, "an empty chunk is removed instead");
        block.count = block.count - count + chunk.count();
        block.open = block.open - usize::from(open) + usize::from(chunk.is_open());
        self.len = self.len - count + chunk.count();
        self.bytes = self.bytes - bytes + chunk.heap_bytes();
        answer
    }

    /// Opens the chunks that are fewer than `depth` from an end, and compresses those that are not: the outermost of
    /// them where only the ends of the list have changed, else all. O(depth), and O(blocks) for all.
    pub(super) fn settle(&mut self, depth: usize, changed: Changed) {
        if depth == 0 {
            return;
        }
        let (mut low, mut high) = (self.first(), self.last());
        for _ in 0..depth {
            let (Some(from_head), Some(from_tail)) = (low, high) else { return };
            self.open(from_head);
            self.open(from_tail);
            (low, high) = (self.next(from_head), self.prev(from_tail));
        }
        let (Some(low), Some(high)) = (low, high) else { return };
        if self.chunks <= 2 * depth {
            return;
        }
        match changed {
            Changed::Ends => {
                self.with_chunk(low, Chunk::compress);
                self.with_chunk(high, Chunk::compress);
            }
            Changed::Anywhere => self.compress_between(low, high),
        }
    }

    /// Compresses the open chunks from one place to another, both included.
    fn compress_between(&mut self, low: At, high: At) {
        for block in low.block..=high.block {
            if self.blocks[block].open == 0 {
                continue;
            }
            let from = if block == low.block { low.slot } else { 0 };
            let to = if block == high.block { high.slot } else { self.blocks[block].chunks.len() - 1 };
            for slot in from..=to {
                self.with_chunk(At { block, slot }, Chunk::compress);
            }
        }
    }

    /// Puts a chunk before all others.
    pub(super) fn push_front(&mut self, chunk: Chunk) -> At {
        match self.first() {
            Some(first) => self.insert_before(first, chunk),
            None => self.push_only(chunk),
        }
    }

    /// Puts a chunk behind all others.
    pub(super) fn push_back(&mut self, chunk: Chunk) -> At {
        match self.last() {
            Some(last) => self.insert_after(last, chunk),
            None => self.push_only(chunk),
        }
    }

    /// Puts a chunk before the one at `at`; its place. The other is behind it.
    pub(super) fn insert_before(&mut self, at: At, chunk: Chunk) -> At {
        let opens = at == At { block: 0, slot: 0 } && self.blocks[0].chunks.len() == BLOCK_CHUNKS_MAX;
        if opens {
            self.blocks.push_front(Block::default());
            return self.insert(At { block: 0, slot: 0 }, chunk);
        }
        self.insert(at, chunk)
    }

    /// Puts a chunk behind the one at `at`, which keeps its place unless its block is split; the
    /// new one's place.
    pub(super) fn insert_after(&mut self, at: At, chunk: Chunk) -> At {
        let block = at.block;
        if self.last() == Some(at) && self.blocks[block].chunks.len() == BLOCK_CHUNKS_MAX {
            self.blocks.push_back(Block::default());
            return self.insert(At { block: block + 1, slot: 0 }, chunk);
        }
        self.insert(At { slot: at.slot + 1, ..at }, chunk)
    }

    /// Takes the chunk at `at` out; the place of the one behind it.
    pub(super) fn remove(&mut self, at: At) -> (Chunk, Option<At>) {
        let block = &mut self.blocks[at.block];
        let chunk = block.chunks.remove(at.slot);
        block.count -= chunk.count();
        block.open -= usize::from(chunk.is_open());
        self.len -= chunk.count();
        self.chunks -= 1;
        self.bytes -= chunk.heap_bytes();
        let next = if block.chunks.is_empty() {
            self.bytes -= block.heap_bytes();
            self.blocks.remove(at.block);
            At { block: at.block, slot: 0 }
        } else {
            self.joined(at)
        };
        if next.block >= self.blocks.len() {
            return (chunk, None);
        }
        let within = next.slot < self.blocks[next.block].chunks.len();
        let next = if within { Some(next) } else { self.next(At { slot: next.slot - 1, ..next }) };
        (chunk, next)
    }

    /// Panics where the sums are wrong.
    pub(super) fn check(&self) {
        let (mut len, mut chunks, mut bytes) = (0, 0, 0);
        for block in &self.blocks {
            bytes += block.heap_bytes();
            let counted = Block::of(block.chunks.clone());
            assert_eq!((counted.count, counted.open), (block.count, block.open), "a block's count is wrong");
            assert!((1..=BLOCK_CHUNKS_MAX).contains(&block.chunks.len()), "a block of no size");
            for chunk in &block.chunks {
                chunk.check();
                bytes += chunk.heap_bytes();
            }
            len += block.count;
            chunks += block.chunks.len();
        }
        assert_eq!((len, chunks, bytes), (self.len, self.chunks, self.bytes), "a sum is wrong");
    }

    /// Panics where a chunk is compressed that should not be, or was not tried.
    pub(super) fn check_settled(&self, depth: usize) {
        let chunks = self.blocks.iter().flat_map(|block| &block.chunks);
        for (place, chunk) in chunks.enumerate() {
            let is_inner = depth > 0 && place.min(self.chunks - 1 - place) >= depth;
            assert!(
                if is_inner { !chunk.is_open() } else { !chunk.is_compressed() },
                "{place} of {}",
                self.chunks
            );
        }
    }

    fn push_only(&mut self, chunk: Chunk) -> At {
        self.blocks.push_back(Block::default());
        self.insert(At { block: 0, slot: 0 }, chunk)
    }

    /// Puts a chunk at `at`, whose slot may be the one behind the block's last.
    fn insert(&mut self, at: At, chunk: Chunk) -> At {
        let at = self.with_room(at);
        self.len += chunk.count();
        self.chunks += 1;
        self.bytes += chunk.heap_bytes();
        let block = &mut self.blocks[at.block];
        let before = block.heap_bytes();
        block.count += chunk.count();
        block.open += usize::from(chunk.is_open());
        block.chunks.insert(at.slot, chunk);
        self.bytes = self.bytes - before + block.heap_bytes();
        at
    }

    /// Splits a full block in half; where `at` is then.
    fn with_room(&mut self, at: At) -> At {
        let block = &mut self.blocks[at.block];
        if block.chunks.len() < BLOCK_CHUNKS_MAX {
            return at;
        }
        let before = block.heap_bytes();
        let behind = Block::of(block.chunks.split_off(BLOCK_CHUNKS_MAX / 2));
        block.chunks.shrink_to_fit();
        block.count -= behind.count;
        block.open -= behind.open;
        self.bytes = self.bytes - before + block.heap_bytes() + behind.heap_bytes();
        self.blocks.insert(at.block + 1, behind);
        match at.slot.checked_sub(BLOCK_CHUNKS_MAX / 2) {
            Some(slot) => At { block: at.block + 1, slot },
            None => at,
        }
    }

    /// Joins the block of `at` with a neighbour if both have few chunks; where `at` is then.
    fn joined(&mut self, at: At) -> At {
        let few = |at: usize| self.blocks.get(at).is_some_and(|block| block.chunks.len() <= BLOCK_CHUNKS_FEW);
        if !few(at.block) {
            return at;
        }
        if few(at.block + 1) {
            self.join_with_next(at.block);
            return at;
        }
        match at.block.checked_sub(1).filter(|&before| few(before)) {
            Some(before) => {
                let slot = at.slot + self.blocks[before].chunks.len();
                self.join_with_next(before);
                At { block: before, slot }
            }
            None => at,
        }
    }

    fn join_with_next(&mut self, at: usize) {
        if let Some(mut next) = self.blocks.remove(at + 1) {
            let block = &mut self.blocks[at];
            let before = block.heap_bytes() + next.heap_bytes();
            block.chunks.append(&mut next.chunks);
            block.count += next.count;
            block.open += next.open;
            self.bytes = self.bytes - before + block.heap_bytes();
        }
    }
}

impl Clone for Chunks {
    fn clone(&self) -> Chunks {
        let blocks = self.blocks.clone();
        // A copy has no room to spare, so its memory is not the original's.
        let chunks = blocks.iter().flat_map(|block| &block.chunks);
        let elements: usize = chunks.map(Chunk::heap_bytes).sum();
        let bytes = elements + blocks.iter().map(Block::heap_bytes).sum::<usize>();
        Chunks { blocks, bytes, ..*self }
    }
}

/// Whether the wanted index lies within `count` elements; else takes them off.
#[inline]
fn passes_over(rest: &mut usize, count: usize) -> bool {
    if *rest < count {
        return true;
    }
    *rest -= count;
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(number: u32) -> Chunk {
        Chunk::of((0..=number % 3).map(|_| number.to_string()).collect())
    }

    fn number_of(chunk: &Chunk) -> Option<u32> {
        let mut room = Vec::new();
        chunk.look(&mut room).iter().next().and_then(|element| element.to_i64()).map(|value| value as u32)
    }

    fn numbers(chunks: &Chunks) -> Vec<u32> {
        let (mut at, mut found) = (chunks.first(), Vec::new());
        while let Some(place) = at {
            found.extend(number_of(chunks.get(place)));
            assert!(chunks.next(place).is_none_or(|next| chunks.prev(next) == Some(place)));
            at = chunks.next(place);
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn does_what_a_vector_does(steps in proptest::collection::vec((0_u8..7, any::<usize>()), 1..600)) {
            let (mut chunks, mut model) = (Chunks::default(), Vec::new());
            // Enough for several blocks from the beginning.
            for number in 0..300 {
                chunks.push_back(chunk(number));
                model.push(number);
            }
            for (number, (kind, place)) in steps.into_iter().enumerate() {
                let number = 1000 + number as u32;
                let at = place % model.len().max(1);
                let index: usize = model.iter().take(at).map(|number| chunk(*number).count()).sum();
                match (kind, chunks.seek(index)) {
                    (0, _) => { chunks.push_front(chunk(number)); model.insert(0, number); }
                    (1, _) => { chunks.push_back(chunk(number)); model.push(number); }
                    (2, Some((place, _))) => { chunks.insert_before(place, chunk(number)); model.insert(at, number); }
                    (3, Some((place, _))) => { chunks.insert_after(place, chunk(number)); model.insert(at + 1, number); }
                    (_, Some((place, offset))) => {
                        prop_assert_eq!(offset, 0);
                        let (removed, next) = chunks.remove(place);
                        prop_assert_eq!(removed.count(), chunk(model.remove(at)).count());
                        let next = next.map(|next| number_of(chunks.get(next)));
                        prop_assert_eq!(next, model.get(at).map(|number| Some(*number)));
                    }
                    _ => {}
                }
            }
            chunks.check();
            prop_assert_eq!(numbers(&chunks), model);
        }
    }
}
