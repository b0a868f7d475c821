//! When the fields of a large hash end: moments with the references of records, in order.
//!
//! Entries of ten bytes lie in sorted chunks, and a tree names the chunks by the lowest entry each may
//! hold: a fraction of what a tree of single entries takes.
//! Invariants: a chunk's entries are not below its name and below the next one's; no chunk is empty.

use std::collections::BTreeMap;

/// Six bytes of moment and four of reference, high bytes first, so that bytes compare as numbers do.
type Entry = [u8; 10];

/// Entries of a chunk before it is split.
const CHUNK_MAX: usize = 128;

/// By how many entries a chunk's memory grows.
const CHUNK_STEP: usize = 16;

/// The highest moment that fits an entry, Unix ms.
pub(super) const MOMENT_MAX: u64 = (1 << 48) - 1;

/// Moments with references, earliest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Deadlines {
    chunks: BTreeMap<Entry, Vec<Entry>>,
    len: usize,
}

fn entry(moment: u64, reference: u32) -> Entry {
    let ([_, _, moment @ ..], reference) = (moment.min(MOMENT_MAX).to_be_bytes(), reference.to_be_bytes());
    let mut entry = Entry::default();
    entry[..6].copy_from_slice(&moment);
    entry[6..].copy_from_slice(&reference);
    entry
}

fn parts(entry: &Entry) -> (u64, u32) {
    let [a, b, c, d, e, f, reference @ ..] = *entry;
    (u64::from_be_bytes([0, 0, a, b, c, d, e, f]), u32::from_be_bytes(reference))
}

impl Deadlines {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The earliest moment; `u64::MAX` where there is none.
    #[inline]
    pub(super) fn earliest(&self) -> u64 {
        self.first().map_or(u64::MAX, |(moment, _)| moment)
    }

    /// The earliest moment and its reference.
    pub(super) fn first(&self) -> Option<(u64, u32)> {
        self.chunks.first_key_value().and_then(|(_, chunk)| chunk.first()).map(parts)
    }

    /// How many moments are not after `now`. O(of them / a chunk).
    pub(super) fn count_due(&self, now: u64) -> usize {
        let bound = entry(now, u32::MAX);
        self.chunks
            .range(..=bound)
            .map(|(_, chunk)| match chunk.last() {
                Some(last) if *last <= bound => chunk.len(),
                _ => chunk.partition_point(|entry| *entry <= bound),
            })
            .sum()
    }

    pub(super) fn insert(&mut self, moment: u64, reference: u32) {
        let new = entry(moment, reference);
        self.len += 1;
        let Some((_, chunk)) = self.chunks.range_mut(..=new).next_back() else {
            return self.insert_first(new);
        };
        let at = chunk.partition_point(|entry| *entry < new);
        if chunk.len() < CHUNK_MAX {
            put(chunk, at, new);
            return;
        }
        // Moments mostly come in order: then the chunk stays full and the next one begins.
        let split = if at == chunk.len() { at } else { CHUNK_MAX / 2 };
        let mut upper = chunk.split_off(split);
        if at < split {
            put(chunk, at, new);
        } else {
            put(&mut upper, at - split, new);
        }
        chunk.shrink_to_fit();
        if let Some(first) = upper.first().copied() {
            self.chunks.insert(first, upper);
        }
    }

    /// Below every name: the first chunk gets a lower one, or a new one is begun in front.
    fn insert_first(&mut self, new: Entry) {
        let mut chunk = match self.chunks.first_entry() {
            Some(first) if first.get().len() < CHUNK_MAX => first.remove(),
            _ => Vec::new(),
        };
        put(&mut chunk, 0, new);
        self.chunks.insert(new, chunk);
    }

    /// Takes an entry out; false if it is not there.
    pub(super) fn remove(&mut self, moment: u64, reference: u32) -> bool {
        let old = entry(moment, reference);
        let Some((name, chunk)) = self.chunks.range_mut(..=old).next_back() else { return false };
        let Ok(at) = chunk.binary_search(&old) else { return false };
        chunk.remove(at);
        if chunk.is_empty() {
            let name = *name;
            self.chunks.remove(&name);
        } else if chunk.len() * 4 < chunk.capacity() {
            chunk.shrink_to(chunk.len() * 2);
        }
        self.len -= 1;
        true
    }

    /// Frees about `budget` entries; true when none is left.
    pub(super) fn free_step(&mut self, budget: usize) -> bool {
        let mut freed = 0;
        while freed < budget {
            let Some((_, chunk)) = self.chunks.pop_first() else { return true };
            freed += chunk.len();
            self.len -= chunk.len();
        }
        self.chunks.is_empty()
    }

    /// Bytes it holds, the tree's own estimated. O(1).
    pub(super) fn heap_bytes(&self) -> usize {
        // A chunk is three quarters full, a node of the tree two thirds.
        let entries = self.len * size_of::<Entry>() * 4 / 3;
        entries + self.chunks.len() * (size_of::<Entry>() + size_of::<Vec<Entry>>()) * 3 / 2
    }

    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        let mut before: Option<Entry> = None;
        for (name, chunk) in &self.chunks {
            assert!(!chunk.is_empty() && chunk.len() <= CHUNK_MAX, "a chunk of {}", chunk.len());
            assert!(chunk.is_sorted() && chunk.first() >= Some(name), "a chunk out of order");
            assert!(before < chunk.first().copied(), "chunks overlap");
            assert!(before < Some(*name), "a name within the chunk before");
            before = chunk.last().copied();
        }
        assert_eq!(self.chunks.values().map(Vec::len).sum::<usize>(), self.len, "the count is wrong");
    }
}

fn put(chunk: &mut Vec<Entry>, at: usize, entry: Entry) {
    if chunk.len() == chunk.capacity() {
        chunk.reserve_exact(CHUNK_STEP);
    }
    chunk.insert(at, entry);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_an_ordered_set(
            steps in proptest::collection::vec((0_u64..300, 0_u32..4, any::<bool>(), 0_u8..8), 0..1500),
        ) {
            let (mut deadlines, mut model) = (Deadlines::default(), BTreeSet::new());
            for (moment, reference, ordered, action) in steps {
                let moment = if ordered { 1000 + model.len() as u64 } else { moment };
                if action == 0 {
                    prop_assert_eq!(deadlines.remove(moment, reference), model.remove(&(moment, reference)));
                } else if action == 1 {
                    let first = model.pop_first();
                    prop_assert_eq!(deadlines.first(), first);
                    prop_assert!(first.is_none_or(|(moment, reference)| deadlines.remove(moment, reference)));
                } else if model.insert((moment, reference)) {
                    deadlines.insert(moment, reference);
                }
                deadlines.check();
                prop_assert_eq!(deadlines.len(), model.len());
                prop_assert_eq!(deadlines.first(), model.first().copied());
                prop_assert_eq!(deadlines.count_due(moment), model.range(..=(moment, u32::MAX)).count());
            }
            while !deadlines.free_step(50) {}
            prop_assert_eq!(deadlines.len(), 0);
        }
    }
}
