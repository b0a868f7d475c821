//! The names of entries that left: a set-associative table of words, a cache line a set, each set first in, first out.
//!
//! A word holds 12 bits of the hash and 20 of whatever the policy remembers. Of those asked for, about one in 270 that
//! was never here is taken for one that was. Invariant: zero is no name; the newest of a set comes first.

use crate::interface::Ref;
use crate::random::mix;

/// Names in a set.
pub(super) const WAYS: usize = 16;
/// Bits remembered of each.
pub(super) const NOTE_BITS: u32 = 20;
const NOTE_MASK: u32 = (1 << NOTE_BITS) - 1;
/// Four KiB: where entries are few, more names help.
const SETS_MIN: usize = 64;

#[derive(Clone, Debug)]
#[repr(align(64))]
struct Set([u32; WAYS]);

/// The table.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    sets: Vec<Set>,
    /// For fewer entries there are too many sets, and for more too few.
    fits: (usize, usize),
}

/// The set, and the bits of the name in the upper bits of a word.
fn place(at: Ref, sets: usize) -> (usize, u32) {
    let hash = mix(u64::from(at.0) ^ 0x6768_6f73_7473);
    let set = (((hash >> 32) * sets as u64) >> 32) as usize;
    (set, (hash as u32 & 0xfff).max(1) << NOTE_BITS)
}

impl Ghosts {
    pub(super) fn memory(&self) -> usize {
        self.sets.capacity() * size_of::<Set>()
    }

    /// Has room for as many names as there are entries, within a fifth. What was known is forgotten when that changes.
    #[inline]
    pub(super) fn fit(&mut self, entries: usize) {
        if self.sets.is_empty() || entries < self.fits.0 || entries > self.fits.1 {
            self.make_for(entries);
        }
    }

    #[cold]
    fn make_for(&mut self, entries: usize) {
        let made_for = entries.max(1);
        self.fits = (made_for * 5 / 6, made_for * 5 / 4);
        let sets = (entries.div_ceil(WAYS)).max(SETS_MIN);
        if sets != self.sets.len() {
            self.sets = vec![Set([0; WAYS]); sets];
        }
    }

    /// Remembers one that left.
    pub(super) fn insert(&mut self, at: Ref, note: u32) {
        let (set, name) = place(at, self.sets.len());
        if let Some(Set(ways)) = self.sets.get_mut(set) {
            ways.copy_within(0..WAYS - 1, 1);
            ways[0] = name | note & NOTE_MASK;
        }
    }

    /// What was remembered of one that comes back; it is forgotten.
    pub(super) fn take(&mut self, at: Ref) -> Option<u32> {
        let (set, name) = place(at, self.sets.len());
        let Set(ways) = self.sets.get_mut(set)?;
        // All at once: which of them it is, if any, nobody can predict.
        let found = ways.iter().enumerate();
        let found =
            found.fold(0, |found: u32, (way, word)| found | u32::from(word & !NOTE_MASK == name) << way);
        if found == 0 {
            return None;
        }
        let way = found.trailing_zeros() as usize;
        let note = ways[way] & NOTE_MASK;
        ways.copy_within(way + 1.., way);
        ways[WAYS - 1] = 0;
        Some(note)
    }

    /// The notes of a set chosen by a number.
    pub(super) fn sample(&self, random: usize) -> impl Iterator<Item = u32> + '_ {
        let set = self.sets.get(random % self.sets.len().max(1));
        set.into_iter().flat_map(|set| set.0.iter()).filter(|word| **word != 0).map(|word| word & NOTE_MASK)
    }

    /// Sets there are.
    pub(super) fn sets(&self) -> usize {
        self.sets.len()
    }
}
