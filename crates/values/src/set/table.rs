//! The large form of a set: records that are members, found by their hash.
//!
//! Invariant: the index holds a reference to every record of the slab, and no two records are alike.

use crate::index::{Index, Slab, hash_of};
use crate::mover::{Mover, Resume};

/// Members in no order.
#[derive(Debug, Clone, Default)]
pub struct Table {
    slab: Slab,
    index: Index,
}

impl Table {
    /// How many members there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether a member is there.
    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        self.contains_hashed(hash_of(member), member)
    }

    /// Whether a member is there, by its hash.
    #[inline]
    pub fn contains_hashed(&self, hash: u64, member: &[u8]) -> bool {
        self.index.find(hash, |reference| self.slab.get(reference) == member).is_some()
    }

    /// See [`crate::collection::Collection::look_ahead`].
    pub(super) fn look_ahead(&self, members: &[&[u8]], ask: &impl Fn(*const u8)) {
        self.index.look_ahead(members, ask, |reference| self.slab.look_ahead(reference, ask));
    }

    /// All members, in the order in which they lie in memory.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.slab.iter()
    }

    /// Visits about `count` members from a position on and answers the next; see [`Index::scan`].
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, mut visit: impl FnMut(&'a [u8])) -> u64 {
        let hash = |reference| hash_of(self.slab.get(reference));
        self.index.scan(cursor, count, hash, |reference| visit(self.slab.get(reference)))
    }

    /// A member by chance, and what tells it from others: each with the same chance.
    pub fn random(&self, random: u64) -> Option<(u32, &[u8])> {
        let reference = self.index.random(random)?;
        Some((reference, self.slab.get(reference)))
    }

    /// The table of records, each with its hash; `None` if two are alike.
    pub(super) fn of_all(slab: Slab, hashes: Vec<(u64, u32)>) -> Option<Table> {
        let member = |reference| slab.get(reference);
        let index = Index::of_all(
            hashes,
            |reference| hash_of(member(reference)),
            |one, other| member(one) == member(other),
        )?;
        Some(Table { slab, index })
    }

    /// Adds a member; false if it was there.
    #[inline]
    pub fn insert(&mut self, member: &[u8]) -> bool {
        let hash = hash_of(member);
        if self.contains_hashed(hash, member) {
            return false;
        }
        let reference = self.slab.alloc(&[member]);
        let slab = &self.slab;
        self.index.insert(hash, reference, |reference| hash_of(slab.get(reference)));
        true
    }

    /// Takes out a member; false if it was not there.
    #[inline]
    pub fn remove(&mut self, member: &[u8]) -> bool {
        let slab = &self.slab;
        let removed = self.index.remove(
            hash_of(member),
            |reference| slab.get(reference) == member,
            |reference| hash_of(slab.get(reference)),
        );
        let Some(reference) = removed else { return false };
        self.slab.free(reference);
        true
    }

    /// Takes out a member by chance, which `take` sees.
    pub fn pop<R>(&mut self, random: u64, take: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let reference = self.index.random(random)?;
        let slab = &self.slab;
        let member = slab.get(reference);
        let taken = take(member);
        self.index.remove(
            hash_of(member),
            |other| other == reference,
            |reference| hash_of(slab.get(reference)),
        );
        self.slab.free(reference);
        Some(taken)
    }

    /// Bytes it holds.
    pub fn heap_bytes(&self) -> usize {
        self.slab.heap_bytes() + self.index.heap_bytes()
    }

    /// See [`crate::collection::Collection::move_blocks`].
    pub(super) fn move_blocks(&mut self, mover: &mut Mover<'_>, from: Resume) -> Resume {
        crate::index::move_both(&mut self.slab, &mut self.index, mover, from)
    }

    /// Frees about `budget` members; true when nothing is left.
    pub fn free_step(&mut self, budget: usize) -> bool {
        // Both, so that neither is left for one long step.
        let records_gone = self.slab.free_step(budget);
        self.index.free_step(budget) && records_gone
    }

    /// Panics if an invariant does not hold.
    pub fn check(&self) {
        self.slab.check();
        self.index.check(|reference| hash_of(self.slab.get(reference)));
        assert_eq!(self.slab.len(), self.index.len(), "a record is not in the index, or not in the slab");
        for member in self.iter() {
            assert!(self.contains(member), "a member is not found");
        }
    }
}
