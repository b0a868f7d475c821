//! The shards of a transaction: all locked before its first command, lent to one command after the other.
//!
//! A shard may be given back *owed*: what was changed in it has been promised to somebody who could not be given it
//! yet, so it stays closed to all but those who pay such debts.
//!
//! Invariants: `shards` ascends by place, each once; dropping or releasing it unlocks all.

use crate::keyspace::{Locked, Place};
use crate::object::Object;
use larder_table::Shard;

/// Locked shards of any databases.
#[derive(Default)]
pub struct Held<'k> {
    shards: Vec<(Place, Shard<'k, Object>)>,
}

impl<'k> Held<'k> {
    /// Locks `places`, which ascend, one after the other; `lock` may refuse one, and then none is locked.
    pub(crate) fn lock_all(
        &mut self,
        places: &[Place],
        mut lock: impl FnMut(Place) -> Option<Shard<'k, Object>>,
    ) -> bool {
        debug_assert!(self.shards.is_empty() && places.is_sorted_by(|a, b| a < b));
        self.shards.reserve(places.len());
        for place in places {
            let Some(shard) = lock(*place) else {
                self.shards.clear();
                return false;
            };
            self.shards.push((*place, shard));
        }
        true
    }

    /// The shard of one key, for a command.
    ///
    /// Where it is not held the command gets no shard, and its first look at a key ends it.
    pub fn lend_one(&mut self, place: Place) -> Locked<'_> {
        let at = self.shards.binary_search_by_key(&place, |(place, _)| *place).ok();
        let shard = at.and_then(|at| self.shards.get_mut(at)).map(|(_, shard)| shard.lend());
        Locked::of(shard.into_iter())
    }

    /// The shards of several keys of one database, for a command. `places` is sorted here.
    pub fn lend(&mut self, places: &mut smallvec::SmallVec<[Place; 16]>) -> Locked<'_> {
        places.sort_unstable();
        places.dedup();
        let mut left = self.shards.as_mut_slice();
        let mut lent = Vec::with_capacity(places.len());
        for place in places.iter() {
            let at = left.partition_point(|(held, _)| held < place);
            let Some(((held, shard), rest)) = left.get_mut(at..).and_then(<[_]>::split_first_mut) else {
                break;
            };
            left = rest;
            if held == place {
                lent.push(shard.lend());
            }
        }
        Locked::of(lent.into_iter())
    }

    /// The shards of two keys in different tables, for a command on two databases.
    pub fn lend_two(&mut self, [one, other]: [Place; 2]) -> [Locked<'_>; 2] {
        let at = |place| self.shards.binary_search_by_key(&place, |(held, _)| *held).ok();
        let (first, second) = (at(one.min(other)), at(one.max(other)));
        let (Some(first), Some(second)) = (first, second) else {
            return [Locked::of(None.into_iter()), Locked::of(None.into_iter())];
        };
        let (left, right) = self.shards.split_at_mut(second);
        let lower = Locked::of(left.get_mut(first).map(|(_, shard)| shard.lend()).into_iter());
        let upper = Locked::of(right.first_mut().map(|(_, shard)| shard.lend()).into_iter());
        if one < other { [lower, upper] } else { [upper, lower] }
    }

    /// Says whether a shard is owed once it is given back. Answers whether it is held at all.
    pub fn set_owed(&mut self, place: Place, is_owed: bool) -> bool {
        let at = self.shards.binary_search_by_key(&place, |(place, _)| *place).ok();
        let shard = at.and_then(|at| self.shards.get_mut(at));
        shard.map(|(_, shard)| shard.set_owed(is_owed)).is_some()
    }

    /// Whether a shard is held, and owed once it is given back.
    pub fn is_owed(&self, place: Place) -> bool {
        let at = self.shards.binary_search_by_key(&place, |(place, _)| *place).ok();
        at.and_then(|at| self.shards.get(at)).is_some_and(|(_, shard)| shard.is_owed())
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// Whether a shard is held.
    pub fn has(&self, place: Place) -> bool {
        self.shards.binary_search_by_key(&place, |(held, _)| *held).is_ok()
    }

    /// Takes over a shard that has been locked, if it has.
    pub(crate) fn add(&mut self, place: Place, shard: Option<Shard<'k, Object>>) -> bool {
        let Some(shard) = shard else { return false };
        let at = self.shards.partition_point(|(held, _)| *held < place);
        self.shards.insert(at, (place, shard));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{DbIndex, Keyspace};
    use larder_table::{Epochs, Hasher};

    const ATTEMPTS: u32 = 3;

    fn keyspace() -> Keyspace {
        Keyspace::new(4, 1, Hasher::keyed([1, 2]), Epochs::new(2))
    }

    /// The places of some keys in two databases, a few of them twice.
    fn places(keyspace: &Keyspace) -> Vec<Place> {
        let place = |key: u32| keyspace.place(DbIndex(key % 2 * 3), keyspace.hash(&(key / 3).to_le_bytes()));
        (0..40).rev().map(place).collect()
    }

    #[test]
    fn everything_is_locked_or_nothing() {
        let keyspace = keyspace();
        let mut places = places(&keyspace);
        let (mut held, mut other) = (Held::default(), Held::default());
        assert!(keyspace.try_hold(&mut places, ATTEMPTS, &mut held));
        assert!(places.is_sorted_by(|a, b| a < b) && places.iter().all(|place| held.has(*place)));
        for place in &places {
            assert!(!keyspace.try_hold(&mut vec![*place], ATTEMPTS, &mut other));
        }
        drop(held);
        // One that somebody else has lets go of all the others.
        assert!(keyspace.try_hold(&mut vec![places[places.len() / 2]], ATTEMPTS, &mut other));
        let mut held = Held::default();
        assert!(!keyspace.try_hold(&mut places, ATTEMPTS, &mut held));
        assert!(places.iter().all(|place| !held.has(*place)));
        drop(other);
        assert!(keyspace.try_hold(&mut places, ATTEMPTS, &mut held));
    }

    #[test]
    fn what_is_lent_comes_back_and_stays_locked() {
        let keyspace = keyspace();
        let mut places = places(&keyspace);
        let mut held = Held::default();
        assert!(keyspace.try_hold(&mut places, ATTEMPTS, &mut held));
        let of_one_database: Vec<Place> = places.iter().take(5).copied().collect();
        for _ in 0..3 {
            drop(held.lend_one(places[0]));
            let mut wanted = of_one_database.iter().rev().chain(&of_one_database).copied().collect();
            let lent = held.lend(&mut wanted);
            let shards: Vec<usize> = wanted.iter().map(|place| place.shard()).collect();
            assert!(shards.iter().all(|shard| lent.has(*shard)));
            drop(lent);
            let mut other = Held::default();
            assert!(!keyspace.try_hold(&mut vec![places[0]], ATTEMPTS, &mut other));
        }
    }

    #[test]
    fn more_is_locked_by_trying_only() {
        let keyspace = keyspace();
        let places = places(&keyspace);
        let (one, other) = (places[0], places[39]);
        let (mut held, mut elsewhere) = (Held::default(), Held::default());
        assert!(keyspace.try_hold(&mut vec![one], ATTEMPTS, &mut elsewhere));
        assert!(keyspace.try_hold(&mut vec![other], ATTEMPTS, &mut held));
        assert!(!keyspace.try_hold_more(one, ATTEMPTS, &mut held));
        assert!(keyspace.try_hold_more(other, ATTEMPTS, &mut held));
        drop(elsewhere);
        assert!(keyspace.try_hold_more(one, ATTEMPTS, &mut held) && held.has(one) && held.has(other));
    }

    #[test]
    fn what_is_owed_is_locked_by_those_who_pay_only() {
        let keyspace = keyspace();
        let mut places = places(&keyspace);
        let (owed, free) = (places[0], places[39]);
        let mut held = Held::default();
        assert!(keyspace.try_hold(&mut places.clone(), ATTEMPTS, &mut held));
        assert!(held.set_owed(owed, true));
        drop(held);
        let mut held = Held::default();
        assert!(!held.set_owed(owed, true));
        for _ in 0..2 {
            // It stays owed, whoever looks.
            assert!(!keyspace.try_hold(&mut places, ATTEMPTS, &mut held) && held.is_empty());
            assert!(keyspace.try_hold(&mut vec![free], ATTEMPTS, &mut held));
            assert!(keyspace.try_hold_more(owed, ATTEMPTS, &mut held));
            held = Held::default();
            assert!(keyspace.try_hold_owed(&mut places, ATTEMPTS, &mut held));
            held = Held::default();
        }
        assert!(keyspace.try_hold_owed(&mut vec![owed], ATTEMPTS, &mut held));
        held.set_owed(owed, false);
        drop(held);
        assert!(keyspace.try_hold(&mut places, ATTEMPTS, &mut Held::default()));
    }
}
