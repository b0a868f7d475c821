//! Active defragmentation: moves entries and values out of memory of which little is used, so that it can be given back.
//!
//! Each worker goes over shards of its own, one bounded step at a time under one shard's lock, and goes on where it was.
//! Invariant: a step changes no value, waits for no lock, and moves a bounded number of bytes beyond one block.

use crate::keyspace::Keyspace;
use larder_table::{Compacted, Next, Position};
use larder_values::mover::{Mover, Resume};

/// Slots looked at in a step.
const SLOTS: usize = 64;
/// Bytes moved in a step, but for those of the last block: some ten microseconds.
const STEP_BYTES: usize = 64 * 1024;

/// Where a worker's walk over the keyspace goes on.
#[derive(Debug, Clone, Copy, Default)]
pub struct DefragCursor {
    /// The table, counting those in use.
    table: usize,
    /// The shard, counting those of the worker.
    shard: usize,
    position: Option<Position>,
    /// Where in the value of the entry at `position`.
    value: Resume,
}

/// What steps of defragmentation did, as INFO tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Defragged {
    /// Blocks of memory that were moved, entries and parts of values.
    pub hits: u64,
    /// Blocks that lay well.
    pub misses: u64,
    /// Keys of which something was moved.
    pub key_hits: u64,
    /// Keys of which nothing was.
    pub key_misses: u64,
}

impl Keyspace {
    /// One step over the shards of `worker` of `workers`. `is_sparse` says of an address and a number of bytes whether such a block
    /// should move; a step passes over about `elements_max` elements of large values. True when the worker is through with its shards, and
    /// the cursor is at the beginning again.
    pub fn defrag_step(
        &self,
        (worker, workers): (usize, usize),
        cursor: &mut DefragCursor,
        elements_max: usize,
        is_sparse: &dyn Fn(*const u8, usize) -> bool,
        done: &mut Defragged,
    ) -> bool {
        let Some(table) = self.tables_in_use().nth(cursor.table) else {
            *cursor = DefragCursor::default();
            return true;
        };
        let shard = worker + cursor.shard * workers.max(1);
        if shard >= table.shards() {
            *cursor = DefragCursor { table: cursor.table + 1, ..DefragCursor::default() };
            return false;
        }
        // One that is locked, or empty, is left for the next time round.
        let guard = if table.shard_len(shard) == 0 { None } else { table.try_lock(shard) };
        let Some(mut guard) = guard else {
            *cursor =
                DefragCursor { shard: cursor.shard + 1, position: None, value: Resume::START, ..*cursor };
            return false;
        };
        let mut mover = Mover::new(is_sparse, elements_max.max(1), STEP_BYTES);
        let (mut entries, mut keys_moved) = (Compacted::default(), 0);
        let mut value = cursor.value;
        let next = guard.compact(cursor.position, SLOTS, &mut entries, &mut |object| {
            let before = mover.moved;
            value = object.move_blocks(&mut mover, value);
            keys_moved += u64::from(mover.moved > before);
            match value {
                Resume::START if mover.is_spent() => Next::Pause,
                Resume::START => Next::On,
                _ => Next::Again,
            }
        });
        drop(guard);
        *cursor = match next {
            Some(position) => DefragCursor { position: Some(position), value, ..*cursor },
            None => DefragCursor { shard: cursor.shard + 1, position: None, value: Resume::START, ..*cursor },
        };
        let (moved, stayed) = (entries.moved as u64, entries.stayed as u64);
        let key_hits = moved.max(keys_moved);
        done.hits += moved + mover.moved;
        done.misses += stayed + mover.stayed;
        done.key_hits += key_hits;
        done.key_misses += (moved + stayed).saturating_sub(key_hits);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Db, Expire};
    use crate::keyspace::DbIndex;
    use crate::local::Local;
    use crate::stats::StoreStats;
    use larder_table::{Epochs, Hasher};
    use std::sync::Arc;

    #[test]
    fn every_key_of_every_worker_is_met_once_and_keeps_its_value() {
        let keyspace = Keyspace::new(2, 2, Hasher::keyed([1, 2]), Epochs::new(2));
        let mut local = Local::new(7, Arc::new(StoreStats::default()));
        let value = |i: u32| vec![i as u8; 5 + i as usize % 3000];
        for db in [0, 1] {
            for i in 0..2000u32 {
                let key = i.to_le_bytes();
                let locked = keyspace.lock_many(DbIndex(db), &[keyspace.hash(&key)]);
                let mut db = Db::new(&keyspace, DbIndex(db), locked, &mut local);
                let key = db.key(&key);
                db.put_string(&key, &value(i), Expire::Clear);
            }
        }
        let mut done = Defragged::default();
        for worker in [0, 1] {
            let mut cursor = DefragCursor::default();
            while !keyspace.defrag_step((worker, 2), &mut cursor, 10, &|_, _| true, &mut done) {}
        }
        assert_eq!(done.key_hits + done.key_misses, 4000);
        // Strings of more than a kibibyte lie apart, and all of those were said to lie badly.
        assert_eq!(done.hits, 2 * (1020..2000).count() as u64, "{done:?}");
        for i in 0..2000u32 {
            let key = i.to_le_bytes();
            let locked = keyspace.lock_many(DbIndex(1), &[keyspace.hash(&key)]);
            let mut db = Db::new(&keyspace, DbIndex(1), locked, &mut local);
            let key = db.key(&key);
            assert_eq!(
                db.peek(&key).and_then(|item| item.string().ok().map(|text| text.to_vec())),
                Some(value(i))
            );
        }
    }
}
