//! The large form: records of score and member, found by the member through an index and by the order
//! through a tree.
//!
//! Invariant: index and tree hold the same references, and a reference's score in the tree is that in
//! its record. `check` compares.

use super::compare_scores;
use super::tree::{Among, Item, Tree};
use crate::collection::AHEAD_MAX;
use crate::index::{Index, Slab, hash_of};
use crate::mover::{Mover, Resume};
use std::cmp::Ordering;

/// Bytes of the score in front of a record.
const SCORE_BYTES: usize = size_of::<f64>();

/// Members with scores, any number of them.
#[derive(Debug)]
pub struct Large {
    records: Slab,
    index: Index,
    tree: Tree,
}

/// The member in a record.
#[inline]
pub(super) fn member_of(record: &[u8]) -> &[u8] {
    record.get(SCORE_BYTES..).unwrap_or_default()
}

/// The score in a record.
#[inline]
pub(super) fn score_of(record: &[u8]) -> f64 {
    f64::from_le_bytes(record.first_chunk().copied().unwrap_or_default())
}

impl Large {
    /// So many members in order, without repetition.
    pub(super) fn from_sorted<'m>(
        count: usize,
        pairs: impl Iterator<Item = (impl AsRef<[u8]> + 'm, f64)>,
    ) -> Large {
        let (mut records, mut index) = (Slab::new(), Index::new());
        index.expect(count);
        let tree = Tree::from_sorted(pairs.map(|(member, score)| {
            let member = member.as_ref();
            let record = records.alloc(&[&score.to_le_bytes(), member]);
            index.insert(hash_of(member), record, |record| hash_of(member_of(records.get(record))));
            Item { score, record }
        }));
        Large { records, index, tree }
    }

    /// Records that the index finds and that stand in the tree.
    pub(super) fn of_parts(records: Slab, index: Index, tree: Tree) -> Large {
        Large { records, index, tree }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Large>() + self.records.heap_bytes() + self.index.heap_bytes() + self.tree.heap_bytes()
    }

    /// The order of members and scores.
    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The member behind a reference.
    #[inline]
    pub(super) fn member(&self, record: u32) -> &[u8] {
        member_of(self.records.get(record))
    }

    #[inline]
    fn find(&self, hash: u64, member: &[u8]) -> Option<u32> {
        self.index.find(hash, |record| member_of(self.records.get(record)) == member)
    }

    /// See [`crate::collection::Collection::look_ahead`]: buckets, records, and the leaves of members that are there.
    pub(super) fn look_ahead(&self, members: &[&[u8]], ask: &impl Fn(*const u8)) {
        let (mut found, mut count) = ([0; AHEAD_MAX], 0);
        self.index.look_ahead(members, ask, |record| {
            self.records.look_ahead(record, ask);
            if let Some(place) = found.get_mut(count) {
                *place = record;
                count += 1;
            }
        });
        for &record in &found[..count] {
            self.tree.look_ahead(score_of(self.records.get(record)), ask);
        }
    }

    #[inline]
    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        Some(score_of(self.records.get(self.find(hash_of(member), member)?)))
    }

    /// How many come before a member, and its score.
    pub(super) fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(member)?;
        let rank = self.tree.rank(Among(score, |record| self.member(record) < member));
        Some((rank as usize, score))
    }

    /// Visits about `count` members from a position on, and answers the next position.
    pub(super) fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(&[u8], f64)) -> u64 {
        let hash = |record| hash_of(member_of(self.records.get(record)));
        self.index.scan(cursor, count, hash, |record| {
            let record = self.records.get(record);
            visit(member_of(record), score_of(record));
        })
    }

    /// Gives a member the score that `change` answers from the present one, `None` for a new member;
    /// nothing changes where it answers `None`.
    #[inline]
    pub(super) fn change(&mut self, member: &[u8], change: impl FnOnce(Option<f64>) -> Option<f64>) {
        let hash = hash_of(member);
        let Some(record) = self.find(hash, member) else {
            if let Some(score) = change(None) {
                self.insert(hash, member, score);
            }
            return;
        };
        let old = score_of(self.records.get(record));
        if let Some(score) = change(Some(old)) {
            self.rescore(record, member, old, score);
        }
    }

    fn insert(&mut self, hash: u64, member: &[u8], score: f64) {
        let record = self.records.alloc(&[&score.to_le_bytes(), member]);
        let records = &self.records;
        self.index.insert(hash, record, |record| hash_of(member_of(records.get(record))));
        let lead = Among(score, |other| member_of(records.get(other)) < member);
        self.tree.insert(Item { score, record }, lead);
    }

    fn rescore(&mut self, record: u32, member: &[u8], old: f64, score: f64) {
        let records = &self.records;
        let order = |other| member_of(records.get(other)).cmp(member);
        if !self.tree.rescore(old, score, order) {
            self.tree.remove(old, order);
            let lead = Among(score, |other| order(other).is_lt());
            self.tree.insert(Item { score, record }, lead);
        }
        if let Some(bytes) = self.records.get_mut(record).first_chunk_mut() {
            *bytes = score.to_le_bytes();
        }
    }

    /// Takes a member out; whether it was there.
    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let hash = hash_of(member);
        let Some(record) = self.find(hash, member) else { return false };
        let (records, score) = (&self.records, score_of(self.records.get(record)));
        self.tree.remove(score, |other| member_of(records.get(other)).cmp(member));
        self.forget(hash, record);
        true
    }

    /// Takes `count` members out from rank `first` on, or as many as there are; how many.
    pub(super) fn remove_span(&mut self, first: usize, count: usize) -> usize {
        let Ok(first) = u32::try_from(first) else { return 0 };
        let mut removed = 0;
        while removed < count
            && let Some(item) = self.tree.remove_rank(first)
        {
            self.forget(hash_of(member_of(self.records.get(item.record))), item.record);
            removed += 1;
        }
        removed
    }

    fn forget(&mut self, hash: u64, record: u32) {
        let records = &self.records;
        let hash_at = |record| hash_of(member_of(records.get(record)));
        self.index.remove(hash, |other| other == record, hash_at);
        self.records.free(record);
    }

    /// See [`crate::collection::Collection::move_blocks`].
    pub(super) fn move_blocks(&mut self, mover: &mut Mover<'_>, from: Resume) -> Resume {
        crate::index::move_both(&mut self.records, &mut self.index, mover, from)
    }

    /// Frees about `budget` members; true when nothing is left.
    pub(super) fn free_step(&mut self, budget: usize) -> bool {
        if !self.tree.is_empty() {
            self.tree.free_step(budget);
            return false;
        }
        if !self.index.is_empty() {
            self.index.free_step(budget);
            return false;
        }
        self.records.free_step(budget)
    }

    /// Panics unless all parts agree. O(N), for tests.
    pub(super) fn check(&self) {
        self.records.check();
        self.index.check(|record| hash_of(self.member(record)));
        self.tree.check(|one, next| {
            compare(&self.records, one, next.score, self.member(next.record)) == Ordering::Less
        });
        assert_eq!(self.index.len(), self.tree.len() as usize, "index and tree are equally large");
        assert_eq!(self.index.len(), self.records.len(), "each record is in use");
        for item in self.tree.range(0, u32::MAX, false) {
            let record = self.records.get(item.record);
            assert_eq!(score_of(record).to_bits(), item.score.to_bits(), "tree and record agree");
            assert_eq!(self.find(hash_of(member_of(record)), member_of(record)), Some(item.record));
        }
    }
}

/// Compares an item with a score and a member.
#[inline]
fn compare(records: &Slab, item: Item, score: f64, member: &[u8]) -> Ordering {
    match compare_scores(item.score, score) {
        Ordering::Equal => member_of(records.get(item.record)).cmp(member),
        order => order,
    }
}
