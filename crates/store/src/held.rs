//! The shards of a transaction: all locked before its first command, lent to one command after the other.
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
