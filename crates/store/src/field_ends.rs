//! Which keys of a table hold fields that end by themselves, and when the first of them does.
//!
//! Nothing is made and nothing is asked before the first field of a table gets an end; a key without such fields
//! is not in here. With a table's shard locked, its part of this is the locker's alone but for figures, which are
//! atomic. Invariants: a key is in here exactly while the earliest end of its fields is a moment, and under that
//! moment; `check` of a shard's two sides is that they hold the same.

use crate::followed::Followed;
use crate::generations::Generations;
use crate::object::{Object, has_ends};
use crate::rest::Rest;
use crate::sizes::Sizes;
use crate::snapshot::Snapshots;
use larder_table::{Removed, Table};
use std::collections::{BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A table of keys, with what it knows of the ends of fields.
pub struct DbTable {
    table: Table<Object>,
    /// Which of the keyspace's tables it is.
    pub(crate) number: u32,
    /// The keys whose fields end.
    pub(crate) field_ends: FieldEnds,
    /// How large the values are.
    pub(crate) sizes: Sizes,
    /// What invalidations are still to be carried out.
    pub(crate) generations: Generations,
    /// Who follows keys.
    pub(crate) followed: Arc<Followed>,
    /// Whether a snapshot is in force.
    pub(crate) snapshots: Arc<Snapshots>,
    /// Which keys have left while the rest of a file is to come.
    pub(crate) rest: Arc<Rest>,
}

impl DbTable {
    /// What `workers` workers share, under its number.
    pub(crate) fn new(
        number: u32,
        table: Table<Object>,
        workers: usize,
        (followed, snapshots, rest): (&Arc<Followed>, &Arc<Snapshots>, &Arc<Rest>),
    ) -> Self {
        let field_ends =
            FieldEnds { shards: OnceLock::new(), count: table.shards(), keys: AtomicUsize::new(0) };
        let (generations, followed) = (Generations::new(workers), Arc::clone(followed));
        let (sizes, snapshots, rest) = (Sizes::new(workers), Arc::clone(snapshots), Arc::clone(rest));
        DbTable { table, number, field_ends, sizes, generations, followed, snapshots, rest }
    }

    /// Forgets the ends of fields of a key that was removed or given another value. Its shard is locked.
    #[inline]
    pub(crate) fn forget(&self, hash: u64, key: &[u8], removed: &Removed<Object>) {
        if has_ends(removed.kind, removed.boxed.as_ref()) {
            self.field_ends.note(self.shard_of(hash), key, u64::MAX);
        }
    }
}

impl Deref for DbTable {
    type Target = Table<Object>;

    #[inline]
    fn deref(&self) -> &Table<Object> {
        &self.table
    }
}

/// The keys of a table whose fields end, by shard.
pub(crate) struct FieldEnds {
    shards: OnceLock<Box<[ShardEnds]>>,
    /// How many shards there are, once there are any.
    count: usize,
    keys: AtomicUsize,
}

struct ShardEnds {
    /// The earliest moment; `u64::MAX` where there is none.
    next_due: AtomicU64,
    keys: Mutex<Keys>,
}

/// Keys both ways: when the first field of each ends, and which is next.
#[derive(Default)]
pub(crate) struct Keys {
    due_of: HashMap<Arc<[u8]>, u64>,
    in_order: BTreeSet<(u64, Arc<[u8]>)>,
}

impl Keys {
    /// Sets or, with `u64::MAX`, takes away a key's moment. Answers how many keys more there are, or fewer.
    fn set(&mut self, key: &[u8], due: u64) -> isize {
        let before = self.due_of.remove_entry(key);
        if let Some((key, before)) = &before {
            self.in_order.remove(&(*before, Arc::clone(key)));
        }
        let was_there = before.is_some();
        if due == u64::MAX {
            return -isize::from(was_there);
        }
        let key = before.map_or_else(|| Arc::from(key), |(key, _)| key);
        self.in_order.insert((due, Arc::clone(&key)));
        self.due_of.insert(key, due);
        isize::from(!was_there)
    }

    fn next_due(&self) -> u64 {
        self.in_order.first().map_or(u64::MAX, |(due, _)| *due)
    }
}

impl FieldEnds {
    /// How many keys have fields that end.
    pub(crate) fn keys(&self) -> usize {
        self.keys.load(Relaxed)
    }

    /// The earliest end of a field in a shard; `u64::MAX` where there is none.
    #[inline]
    pub(crate) fn next_due(&self, shard: usize) -> u64 {
        let shards = self.shards.get().and_then(|shards| shards.get(shard));
        shards.map_or(u64::MAX, |shard| shard.next_due.load(Relaxed))
    }

    /// The earliest end of a field in any shard. O(shards).
    pub(crate) fn earliest(&self) -> u64 {
        let shards = self.shards.get().filter(|_| self.keys() > 0);
        shards.into_iter().flatten().map(|shard| shard.next_due.load(Relaxed)).min().unwrap_or(u64::MAX)
    }

    /// Says when the first field of a key ends; `u64::MAX`: none does. The shard is locked.
    #[cold]
    pub(crate) fn note(&self, shard: usize, key: &[u8], due: u64) {
        let make = || (0..self.count).map(|_| ShardEnds::new()).collect();
        let Some(shard) = self.shards.get_or_init(make).get(shard) else { return };
        let mut keys = shard.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let more = keys.set(key, due);
        shard.next_due.store(keys.next_due(), Relaxed);
        // Wraps around where there are fewer.
        self.keys.fetch_add(more as usize, Relaxed);
    }

    /// At most `limit` keys of a shard with fields whose time has come. The shard is locked.
    pub(crate) fn due(&self, shard: usize, now: u64, limit: usize) -> Vec<Arc<[u8]>> {
        let Some(shard) = self.shards.get().and_then(|shards| shards.get(shard)) else { return Vec::new() };
        let keys = shard.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let due = keys.in_order.iter().take_while(|(due, _)| *due <= now).take(limit);
        due.map(|(_, key)| Arc::clone(key)).collect()
    }

    /// Takes everything out: the table is flushed, and nobody else is at it.
    pub(crate) fn detach(&self) -> Vec<Keys> {
        if self.keys.swap(0, Relaxed) == 0 {
            return Vec::new();
        }
        let take = |shard: &ShardEnds| {
            shard.next_due.store(u64::MAX, Relaxed);
            std::mem::take(&mut *shard.keys.lock().unwrap_or_else(PoisonError::into_inner))
        };
        self.shards.get().into_iter().flatten().map(take).collect()
    }
}

impl ShardEnds {
    fn new() -> ShardEnds {
        ShardEnds { next_due: AtomicU64::new(u64::MAX), keys: Mutex::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn a_key_stands_under_its_last_moment(
            steps in proptest::collection::vec((0_u8..20, proptest::option::of(0_u64..50)), 0..200),
        ) {
            let ends = FieldEnds { shards: OnceLock::new(), count: 4, keys: AtomicUsize::new(0) };
            let mut model = BTreeMap::new();
            for (key, due) in steps {
                let shard = usize::from(key) % 4;
                ends.note(shard, &[key], due.unwrap_or(u64::MAX));
                match due {
                    Some(due) => drop(model.insert(key, due)),
                    None => drop(model.remove(&key)),
                }
                prop_assert_eq!(ends.keys(), model.len());
                prop_assert_eq!(ends.earliest(), model.values().copied().min().unwrap_or(u64::MAX));
                let mut due: Vec<u8> = (0..4).flat_map(|shard| ends.due(shard, 25, 100)).map(|key| key[0]).collect();
                due.sort_unstable();
                let expected: Vec<u8> = model.iter().filter(|(_, due)| **due <= 25).map(|(key, _)| *key).collect();
                prop_assert_eq!(due, expected);
            }
            ends.detach();
            prop_assert_eq!((ends.keys(), ends.earliest()), (0, u64::MAX));
        }
    }
}
