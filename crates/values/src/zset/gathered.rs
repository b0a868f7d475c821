//! Members gathered from several sources, each once, to be read in order or to become a sorted set.
//!
//! They lie in the records and the index that a large sorted set has, so that becoming one only sorts references.
//! Invariant: no score is NaN.

use super::large::{Large, member_of, score_of};
use super::tree::{Item, Tree};
use super::{Form, ZSet, compare_scores, small};
use crate::collection::PackedLimits;
use crate::index::{Index, Slab, hash_of};
use crate::packed::{Packed, PackedBuf};

/// Members with scores in no order.
#[derive(Debug)]
pub struct Gathered {
    records: Slab,
    index: Index,
    /// All records, in order of arrival.
    arrived: Vec<u32>,
}

impl Default for Gathered {
    fn default() -> Gathered {
        Gathered::new()
    }
}

impl Gathered {
    /// No members.
    pub fn new() -> Gathered {
        Gathered { records: Slab::new(), index: Index::new(), arrived: Vec::new() }
    }

    /// How many members there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.arrived.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.arrived.is_empty()
    }

    /// Adds a member; if it is there, `aggregate` makes one of its score and the other.
    #[inline]
    pub fn add(&mut self, member: &[u8], score: f64, aggregate: impl FnOnce(f64, f64) -> f64) {
        let (hash, records) = (hash_of(member), &self.records);
        if let Some(record) = self.index.find(hash, |record| member_of(records.get(record)) == member) {
            let bytes = self.records.get_mut(record);
            let score = aggregate(score_of(bytes), score);
            if let Some(place) = bytes.first_chunk_mut() {
                *place = score.to_le_bytes();
            }
            return;
        }
        let record = self.records.alloc(&[&score.to_le_bytes(), member]);
        let records = &self.records;
        self.index.insert(hash, record, |record| hash_of(member_of(records.get(record))));
        self.arrived.push(record);
    }

    /// All members in the order of sorted sets. O(N log N).
    fn sorted(&self) -> Vec<Item> {
        let member = |item: &Item| member_of(self.records.get(item.record));
        let scored =
            self.arrived.iter().map(|&record| Item { score: score_of(self.records.get(record)), record });
        let mut items: Vec<Item> = scored.collect();
        items.sort_unstable_by(|one, other| {
            compare_scores(one.score, other.score).then_with(|| member(one).cmp(member(other)))
        });
        items
    }

    /// Visits all members in the order of sorted sets. O(N log N).
    pub fn for_each_sorted(&self, mut visit: impl FnMut(&[u8], f64)) {
        self.sorted().iter().for_each(|item| visit(member_of(self.records.get(item.record)), item.score));
    }

    /// The sorted set of them, in the form that the limits say. O(N log N).
    pub fn into_set(self, limits: PackedLimits) -> ZSet {
        let items = self.sorted();
        let members = || items.iter().map(|item| member_of(self.records.get(item.record)));
        let longest = members().map(<[u8]>::len).max().unwrap_or(0);
        let is_small = items.len() <= limits.entries_max && longest <= limits.value_bytes_max;
        if is_small && small::has_room(Packed::new(&[]), members().map(<[u8]>::len).sum()) {
            let mut buf = PackedBuf::new();
            for (member, item) in members().zip(&items) {
                small::push(&mut buf, member, item.score);
            }
            return ZSet { form: Form::Packed(buf) };
        }
        let tree = Tree::from_sorted(items);
        ZSet { form: Form::Large(Box::new(Large::of_parts(self.records, self.index, tree))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::Collection;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn becomes_what_the_pairs_become(
            pairs in proptest::collection::vec(("[a-c0-9]{0,3}", -3_i32..4), 0..300),
            entries_max in prop_oneof![Just(0_usize), Just(20), Just(1000)],
        ) {
            let limits = PackedLimits { entries_max, value_bytes_max: 2 };
            let (mut gathered, mut model) = (Gathered::new(), BTreeMap::new());
            for (member, score) in pairs {
                let score = f64::from(score);
                gathered.add(member.as_bytes(), score, |present, other| present + other);
                *model.entry(member.into_bytes()).or_insert(0.0) += score;
            }
            let pairs: Vec<(Vec<u8>, f64)> = model.into_iter().collect();
            let expected = ZSet::from_pairs(pairs, limits);
            let (mut seen, mut of_expected) = (Vec::new(), Vec::new());
            gathered.for_each_sorted(|member, score| seen.push((member.to_vec(), score)));
            expected.view().iter().for_each(|(member, score)| of_expected.push((member.to_vec(), score)));
            prop_assert_eq!((gathered.len(), gathered.is_empty()), (seen.len(), seen.is_empty()));
            prop_assert_eq!(&seen, &of_expected);
            let set = gathered.into_set(limits);
            set.check();
            let of_set: Vec<_> = set.view().iter().map(|(member, score)| (member.to_vec(), score)).collect();
            prop_assert_eq!(of_set, seen);
            let forms = [set.view(), expected.view()].map(|view| matches!(view, super::super::View::Packed(_)));
            prop_assert_eq!(forms[0], forms[1]);
        }
    }
}
