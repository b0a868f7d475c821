//! A sequence of chunks of elements, found by the index of an element.
//!
//! Chunks stand in blocks of at most 128, blocks in a deque. A walk to an index passes over blocks,
//! then over the chunks of one block; a chunk is inserted or removed by moving one block's. Ten
//! million chunks are some 100,000 blocks, half of which a walk passes in some 50 microseconds.
//! Invariant: no block and no chunk is empty; a block's count is that of its chunks; `len` and
//! `bytes` are the sums.

use crate::packed::PackedBuf;
use std::collections::VecDeque;

/// Chunks in a block at most.
const BLOCK_CHUNKS_MAX: usize = 128;

/// A block of fewer chunks is joined with a neighbour when both together have at most half of a block.
const BLOCK_CHUNKS_FEW: usize = BLOCK_CHUNKS_MAX / 4;

/// Some elements behind each other.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// The elements.
    pub(super) packed: PackedBuf,
    /// How many there are, for walks that do not look at them.
    count: u32,
    /// It holds one large element and takes no others: a plain node of Redis.
    pub(super) plain: bool,
}

impl Chunk {
    /// A chunk of these elements.
    pub(super) fn of(packed: PackedBuf) -> Chunk {
        let count = packed.len() as u32;
        Chunk { packed, count, plain: false }
    }

    /// A chunk of one element; `plain` if that is a large one.
    pub(super) fn single(text: &[u8], plain: bool) -> Chunk {
        let mut packed = PackedBuf::new();
        if plain {
            packed.reserve_exact(crate::packed::encoded_bytes(text));
        }
        packed.push_back(text);
        Chunk { packed, count: 1, plain }
    }

    /// How many elements it has.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }
}

/// Neighbouring chunks.
#[derive(Clone, Debug, Default)]
struct Block {
    chunks: Vec<Chunk>,
    /// Elements in them.
    count: usize,
}

impl Block {
    /// Memory of the chunks, but not of their elements.
    fn heap_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Chunk>()
    }
}

/// The place of a chunk. Good until a chunk is inserted or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    block: usize,
    slot: usize,
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
        let block = &mut self.blocks[at.block];
        let chunk = &mut block.chunks[at.slot];
        let (count, bytes) = (chunk.count(), chunk.packed.heap_bytes());
        let answer = edit(&mut chunk.packed);
        chunk.count = chunk.packed.len() as u32;
        debug_assert!(chunk.count > 0, "an empty chunk is removed instead");
        block.count = block.count - count + chunk.count();
        self.len = self.len - count + chunk.count();
        self.bytes = self.bytes - bytes + chunk.packed.heap_bytes();
        answer
    }

    /// Puts another chunk in the place of the one at `at`.
    pub(super) fn replace(&mut self, at: At, chunk: Chunk) {
        let block = &mut self.blocks[at.block];
        let (count, bytes) = (chunk.count(), chunk.packed.heap_bytes());
        let old = std::mem::replace(&mut block.chunks[at.slot], chunk);
        block.count = block.count - old.count() + count;
        self.len = self.len - old.count() + count;
        self.bytes = self.bytes - old.packed.heap_bytes() + bytes;
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
        self.len -= chunk.count();
        self.chunks -= 1;
        self.bytes -= chunk.packed.heap_bytes();
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
            let count: usize = block.chunks.iter().map(Chunk::count).sum();
            assert_eq!(count, block.count, "a block's count is wrong");
            assert!((1..=BLOCK_CHUNKS_MAX).contains(&block.chunks.len()), "a block of no size");
            for chunk in &block.chunks {
                assert_eq!(crate::packed::check(chunk.packed.view().bytes()), Ok(chunk.count()));
                assert!(chunk.count() > 0, "an empty chunk");
                assert!(!chunk.plain || chunk.count() == 1, "a plain chunk of several elements");
                bytes += chunk.packed.heap_bytes();
            }
            len += count;
            chunks += block.chunks.len();
        }
        assert_eq!((len, chunks, bytes), (self.len, self.chunks, self.bytes), "a sum is wrong");
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
        self.bytes += chunk.packed.heap_bytes();
        let block = &mut self.blocks[at.block];
        let before = block.heap_bytes();
        block.count += chunk.count();
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
        let chunks = block.chunks.split_off(BLOCK_CHUNKS_MAX / 2);
        block.chunks.shrink_to_fit();
        let count = chunks.iter().map(Chunk::count).sum();
        block.count -= count;
        let behind = Block { chunks, count };
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
            self.bytes = self.bytes - before + block.heap_bytes();
        }
    }
}

impl Clone for Chunks {
    fn clone(&self) -> Chunks {
        let blocks = self.blocks.clone();
        // A copy has no room to spare, so its memory is not the original's.
        let chunks = blocks.iter().flat_map(|block| &block.chunks);
        let elements: usize = chunks.map(|chunk| chunk.packed.heap_bytes()).sum();
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

const _: () = assert!(size_of::<Chunk>() == 32);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(number: u32) -> Chunk {
        Chunk::of((0..=number % 3).map(|_| number.to_string()).collect())
    }

    fn numbers(chunks: &Chunks) -> Vec<u32> {
        let (mut at, mut found) = (chunks.first(), Vec::new());
        while let Some(place) = at {
            let packed = chunks.get(place).packed.view();
            found.extend(packed.iter().next().and_then(|element| element.to_i64()).map(|value| value as u32));
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
                        let next = next.map(|next| chunks.get(next).packed.view().iter().next().and_then(|e| e.to_i64()));
                        prop_assert_eq!(next, model.get(at).map(|number| Some(i64::from(*number))));
                    }
                    _ => {}
                }
            }
            chunks.check();
            prop_assert_eq!(numbers(&chunks), model);
        }
    }
}
