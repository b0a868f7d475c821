//! Sorted sets with many members from outside, member by member in any order.
//!
//! Members go to the records that a large sorted set has, and what finds them is built when all are there: the tree in order, the
//! index in the order of hashes, so that no step waits for memory that the one before did not touch.
//! Invariant: no score is NaN.

use super::large::{Large, member_of};
use super::tree::{Item, Tree};
use super::{Form, ZSet, compare_scores};
use crate::collection::{Collection, PackedLimits};
use crate::index::{Index, Slab, hash_of};

/// Members with scores that have come so far.
#[derive(Debug, Default)]
pub struct Loader {
    records: Slab,
    items: Vec<Item>,
    /// The hash of each member, and its record.
    hashes: Vec<(u64, u32)>,
}

/// A sorted set that was loaded, before the limits are known.
#[derive(Debug)]
pub struct Loaded(ZSet);

impl Loader {
    /// One with room for so many members, though not for their texts.
    #[must_use]
    pub fn with_room(members: usize) -> Loader {
        Loader {
            records: Slab::default(),
            items: Vec::with_capacity(members),
            hashes: Vec::with_capacity(members),
        }
    }

    /// Adds a member, of which it is not known whether it is there.
    #[inline]
    pub fn add(&mut self, member: &[u8], score: f64) {
        let record = self.records.alloc(&[&score.to_le_bytes(), member]);
        self.items.push(Item { score, record });
        self.hashes.push((hash_of(member), record));
    }

    /// The sorted set of all; `None` if a member was added twice. O(N log N), in order or in reverse O(N) but for the hashes.
    #[must_use]
    pub fn finish(self) -> Option<Loaded> {
        let Loader { records, mut items, hashes } = self;
        let member = |record| member_of(records.get(record));
        let index = Index::of_all(
            hashes,
            |record| hash_of(member(record)),
            |one, other| member(one) == member(other),
        )?;
        items.sort_unstable_by(|one, other| {
            compare_scores(one.score, other.score).then_with(|| member(one.record).cmp(member(other.record)))
        });
        let tree = Tree::from_sorted(items);
        Some(Loaded(ZSet { form: Form::Large(Box::new(Large::of_parts(records, index, tree))) }))
    }
}

impl Loaded {
    /// The set, in the form that the limits say.
    #[must_use]
    pub fn into_zset(self, limits: PackedLimits) -> ZSet {
        if self.0.view().len() > limits.entries_max {
            return self.0;
        }
        ZSet::from_pairs(self.pairs(), limits)
    }

    fn pairs(&self) -> Vec<(Vec<u8>, f64)> {
        self.0.view().iter().map(|(member, score)| (member.to_vec(), score)).collect()
    }
}

impl PartialEq for Loaded {
    fn eq(&self, other: &Loaded) -> bool {
        self.pairs() == other.pairs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Orders in which members may come.
    #[derive(Debug, Clone, Copy)]
    enum Order {
        Any,
        Up,
        Down,
    }

    proptest! {
        #[test]
        fn what_is_loaded_is_what_is_added_one_by_one(
            members in proptest::collection::vec(("[a-z0-9]{0,3}", -20_i32..20), 1..2000),
            order in proptest::sample::select(&[Order::Any, Order::Up, Order::Down][..]),
            entries_max in prop_oneof![Just(0_usize), Just(128), Just(4000)],
        ) {
            let limits = PackedLimits { entries_max, value_bytes_max: 64 };
            let model: BTreeMap<String, i32> = members.iter().cloned().collect();
            let mut pairs: Vec<(&str, f64)> = model.iter().map(|(member, score)| (&member[..], f64::from(*score))).collect();
            match order {
                Order::Any => {}
                Order::Up => super::super::sort_pairs(&mut pairs),
                Order::Down => {
                    super::super::sort_pairs(&mut pairs);
                    pairs.reverse();
                }
            }
            let mut loader = Loader::default();
            pairs.iter().for_each(|(member, score)| loader.add(member.as_bytes(), *score));
            let set = loader.finish().expect("no member is there twice").into_zset(limits);
            set.check();
            let added = ZSet::from_pairs(pairs, limits);
            let texts = |set: &ZSet| set.view().iter().map(|(member, score)| (member.to_vec(), score)).collect::<Vec<_>>();
            prop_assert_eq!(texts(&set), texts(&added));
            prop_assert_eq!(ZSet::encoding(set.view()), ZSet::encoding(added.view()));
        }

        #[test]
        fn a_member_that_is_there_twice_is_noticed(count in 1_usize..6000, twice in any::<proptest::sample::Index>()) {
            let mut loader = Loader::default();
            (0..count).for_each(|number| loader.add(number.to_string().as_bytes(), number as f64));
            loader.add(twice.index(count).to_string().as_bytes(), -1.0);
            prop_assert!(loader.finish().is_none());
        }
    }
}
