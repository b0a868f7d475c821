//! Active expiry: finds the keys whose time has come by their deadlines, not by sampling.
//!
//! Each shard knows the earliest deadline it may hold, of keys and of fields of hashes, so a sweep of
//! nothing costs one load a shard. Work is done in bites under one shard's lock at a time, and the caller asks between
//! bites whether there is time left. Each worker has shards of its own to sweep; one that is through
//! with them sweeps those of workers that are behind, from the other end.
//! Invariant: a sweep waits for no lock. A shard that is locked is left for the next call.

use crate::db::{Db, expired};
use crate::discard::{Removal, discard};
use crate::effects::Event;
use crate::field_ends::DbTable;
use crate::keyspace::{Database, DbIndex, Hashed, Keyspace, Locked};
use crate::local::Local;
use crate::object::{Object, Type, size_of_value};
use larder_table::PayloadRef;
use larder_values::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Keys removed under one hold of a shard's lock: about 50 microseconds.
const BITE: usize = 512;
/// Keys removed at a time where values stand apart from their entries: freeing large ones takes the kernel long.
const BITE_OF_VALUES: usize = 8;
/// Fields removed under one hold of a shard's lock: about 50 microseconds.
const BITE_OF_FIELDS: usize = 128;
/// The first bite of a call, when it is not known yet what is due.
const BITE_FIRST: usize = 32;
/// A worker that was not through with its shards for so long is behind, milliseconds.
const BEHIND_MS: u64 = 15;

/// When each worker was last through with its shards. Relaxed everywhere: they are hints.
#[derive(Debug)]
pub(crate) struct Sweeps {
    through_ms: Box<[Through]>,
}

/// On a line of its own: it is written every few milliseconds.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Through(AtomicU64);

impl Sweeps {
    pub(crate) fn new(workers: usize) -> Self {
        Sweeps { through_ms: (0..workers).map(|_| Through::default()).collect() }
    }

    fn is_through(&self, worker: usize, now: u64) {
        if let Some(through) = self.through_ms.get(worker) {
            through.0.store(now, Relaxed);
        }
    }

    fn is_behind(&self, worker: usize, now: u64) -> bool {
        self.through_ms
            .get(worker)
            .is_some_and(|through| now.saturating_sub(through.0.load(Relaxed)) > BEHIND_MS)
    }
}

/// One call's work on one database.
struct Sweep<'k, 'l, 'm> {
    index: DbIndex,
    table: &'k DbTable,
    local: &'l mut Local,
    more_time: &'m mut dyn FnMut() -> bool,
    /// Values of removed keys, freed when the shard is unlocked.
    values: Vec<Object>,
    bite: usize,
}

/// How far a sweep got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Swept {
    All,
    /// A shard was locked by somebody else.
    Passed,
    /// There was no time left.
    Stopped,
}

impl Keyspace {
    /// Removes keys whose time has come from the shards that belong to `worker` of `workers`, and
    /// then from those of workers that are behind with theirs.
    ///
    /// `more_time` is asked after every bite; answers whether everything due has been removed.
    pub fn sweep_expired(
        &self,
        (worker, workers): (usize, usize),
        local: &mut Local,
        more_time: &mut dyn FnMut() -> bool,
    ) -> bool {
        let now = local.now.0;
        let own = self.sweep_shards_of(worker, workers, local, more_time);
        if own == Swept::All {
            self.sweeps.is_through(worker, now);
        }
        if own == Swept::Stopped {
            return false;
        }
        let others = (1..workers).map(|step| (worker + step) % workers);
        for other in others.filter(|other| self.sweeps.is_behind(*other, now)) {
            // Not through with theirs: the owner may be at one of them, and says so itself.
            if self.help(other, workers, local, more_time) == Swept::Stopped {
                return false;
            }
        }
        own == Swept::All
    }

    /// A time, Unix ms, before which no key of any database is due; `u64::MAX` when none has a deadline. O(shards).
    pub fn next_due(&self) -> u64 {
        let timed = self.tables_in_use().filter(|table| table.len_with_deadline() > 0);
        let keys = timed.flat_map(|table| (0..table.shards()).map(|shard| table.next_due(shard))).min();
        let fields = self.tables_in_use().map(|table| table.field_ends.earliest()).min();
        keys.unwrap_or(u64::MAX).min(fields.unwrap_or(u64::MAX))
    }

    fn sweep_shards_of(
        &self,
        worker: usize,
        workers: usize,
        local: &mut Local,
        more_time: &mut dyn FnMut() -> bool,
    ) -> Swept {
        let shards = |table: &DbTable| (worker..table.shards()).step_by(workers.max(1));
        self.sweep_each(local, more_time, |sweep| sweep.shards(shards(sweep.table)))
    }

    fn help(
        &self,
        other: usize,
        workers: usize,
        local: &mut Local,
        more_time: &mut dyn FnMut() -> bool,
    ) -> Swept {
        let shards = |table: &DbTable| (other..table.shards()).step_by(workers.max(1)).rev();
        self.sweep_each(local, more_time, |sweep| sweep.shards(shards(sweep.table)))
    }

    fn sweep_each(
        &self,
        local: &mut Local,
        more_time: &mut dyn FnMut() -> bool,
        act: impl Fn(&mut Sweep<'_, '_, '_>) -> Swept,
    ) -> Swept {
        let mut all = Swept::All;
        for index in self.indexes() {
            let Some(table) = self.table_if_used(index) else { continue };
            if table.len_with_deadline() == 0 && table.field_ends.keys() == 0 {
                continue;
            }
            let mut sweep = Sweep {
                index,
                table,
                local: &mut *local,
                more_time: &mut *more_time,
                values: Vec::new(),
                bite: BITE_FIRST,
            };
            match act(&mut sweep) {
                Swept::All => {}
                Swept::Passed => all = Swept::Passed,
                Swept::Stopped => return Swept::Stopped,
            }
        }
        all
    }
}

impl Sweep<'_, '_, '_> {
    fn shards(&mut self, shards: impl Iterator<Item = usize>) -> Swept {
        let now = self.local.now.0;
        let mut all = Swept::All;
        for shard in shards {
            while self.table.next_due(shard) <= now {
                if !self.bite(shard, now) {
                    all = Swept::Passed;
                    break;
                }
                if !(self.more_time)() {
                    return Swept::Stopped;
                }
            }
            while self.table.field_ends.next_due(shard) <= now {
                if !self.bite_fields(shard, now) {
                    all = Swept::Passed;
                    break;
                }
                if !(self.more_time)() {
                    return Swept::Stopped;
                }
            }
        }
        all
    }

    /// Removes some of the due fields of a shard's hashes. False when somebody else has it.
    fn bite_fields(&mut self, shard: usize, now: u64) -> bool {
        let Some(guard) = self.table.try_lock(shard) else { return false };
        let database = Database { table: self.table, index: self.index };
        let no_touch = std::mem::replace(&mut self.local.no_touch, true);
        let mut db = Db::on(database, Locked::one(guard), self.local);
        let mut left = BITE_OF_FIELDS;
        for key in self.table.field_ends.due(shard, now, BITE_OF_FIELDS) {
            let key = Hashed { bytes: &key, hash: self.table.hash(&key) };
            db.settle(&key, false);
            let mut gone = Vec::new();
            let edited = db.edit::<Hash, _>(&key, |hash| {
                hash.expire_due(now, left, &mut |field| gone.push(Box::from(field)))
            });
            let Ok(Some(edited)) = edited else {
                // A key that is over itself was removed by the look at it.
                self.table.field_ends.note(shard, key.bytes, u64::MAX);
                continue;
            };
            db.fields_expired(&key, gone.iter().map(AsRef::as_ref));
            if edited.emptied {
                db.notify(&key, Event::DEL);
            }
            left = left.saturating_sub(edited.value);
            if left == 0 {
                break;
            }
        }
        drop(db);
        self.local.no_touch = no_touch;
        self.local.free_spent();
        true
    }

    /// Removes some of a shard's due keys. False when somebody else has it.
    fn bite(&mut self, shard: usize, now: u64) -> bool {
        let Some(mut guard) = self.table.try_lock(shard) else { return false };
        let (index, table, local, values) = (self.index, self.table, &mut *self.local, &mut self.values);
        guard.expire_due(now, self.bite, &mut |key, inline, removed| {
            let payload = removed.boxed.as_ref().map_or(PayloadRef::Inline(inline), PayloadRef::Boxed);
            local.uses.removed_key(table, key, &removed);
            if table.rest.is_to_come() {
                table.rest.note(table.number, table.hash(key), key);
            }
            if local.insight.is_on() {
                local.insight.removed(table.hash(key), Removal::Expired, local.now);
            }
            table.sizes.went(local, Type::of_kind(removed.kind), size_of_value(removed.kind, payload));
            expired(local, index, key);
            values.extend(removed.boxed);
        });
        drop(guard);
        self.bite = if self.values.is_empty() { BITE } else { BITE_OF_VALUES };
        for value in self.values.drain(..) {
            discard(self.local, Some(value), Removal::Expired);
        }
        // Here and now, so that whoever watches the time sees what it takes.
        self.local.free_spent();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Db, Expire};
    use crate::local::Millis;
    use crate::stats::StoreStats;
    use larder_table::{Epochs, Hasher};
    use larder_values::hash::{End, PackedLimits};
    use std::sync::Arc;

    const DUE: u64 = 1_700_000_000_000;

    fn keyspace_with_due_keys(count: u32, value: &[u8]) -> (Keyspace, Local) {
        let keyspace = Keyspace::new(2, 2, Hasher::keyed([1, 2]), Epochs::new(2));
        let mut local = Local::new(7, Arc::new(StoreStats::default()));
        local.now = Millis(DUE - 1000);
        for i in 0..count {
            let key = i.to_le_bytes();
            let locked = keyspace.lock_many(DbIndex(1), &[keyspace.hash(&key)]);
            let mut db = Db::new(&keyspace, DbIndex(1), locked, &mut local);
            let key = db.key(&key);
            db.put_string(&key, value, Expire::At(Millis(DUE)));
        }
        (keyspace, local)
    }

    #[test]
    fn a_worker_sweeps_its_own_shards_and_then_those_of_one_that_is_behind() {
        let (keyspace, mut local) = keyspace_with_due_keys(5000, b"value");
        assert!(keyspace.next_due() <= DUE && keyspace.next_due() > DUE - 1000);
        keyspace.sweeps.is_through(1, DUE - 5);
        local.now = Millis(DUE);
        assert!(keyspace.sweep_expired((0, 2), &mut local, &mut || true));
        let left = keyspace.len(DbIndex(1));
        assert!(left > 2000 && left < 3000, "{left} left");
        local.now = Millis(DUE + BEHIND_MS + 1);
        assert!(keyspace.sweep_expired((0, 2), &mut local, &mut || true));
        assert_eq!((keyspace.len(DbIndex(1)), local.stats.expired.get()), (0, 5000));
        assert_eq!(keyspace.next_due(), u64::MAX);
    }

    /// Makes hashes of which every field ends, so many under each key.
    fn keyspace_with_due_fields(keys: u32, fields: u32) -> (Keyspace, Local) {
        let keyspace = Keyspace::new(2, 1, Hasher::keyed([1, 2]), Epochs::new(2));
        let mut local = Local::new(7, Arc::new(StoreStats::default()));
        local.now = Millis(DUE - 1000);
        let limits = PackedLimits { entries_max: 8, value_bytes_max: 64 };
        for i in 0..keys {
            let key = i.to_le_bytes();
            let locked = keyspace.lock_many(DbIndex(0), &[keyspace.hash(&key)]);
            let mut db = Db::new(&keyspace, DbIndex(0), locked, &mut local);
            let key = db.key(&key);
            let made = db.edit_or_create::<Hash, _>(&key, |hash| {
                for field in 0..fields {
                    hash.set(&field.to_le_bytes(), b"value", End::At(DUE + u64::from(field % 2)), 0, limits);
                }
                hash.set(b"stays", b"value", End::Clear, 0, limits);
            });
            assert!(made.is_ok_and(|edited| edited.created));
        }
        (keyspace, local)
    }

    #[test]
    fn fields_go_when_their_time_has_come_and_nobody_touched_them() {
        for (keys, fields) in [(300, 4), (3, 1000)] {
            let (keyspace, mut local) = keyspace_with_due_fields(keys, fields);
            let with_ends = |keyspace: &Keyspace| keyspace.len_with_field_ends(DbIndex(0));
            assert_eq!((keyspace.next_due(), with_ends(&keyspace)), (DUE, keys as usize));
            local.now = Millis(DUE - 1);
            assert!(keyspace.sweep_expired((0, 1), &mut local, &mut || true));
            assert_eq!(local.stats.expired_fields.get(), 0);
            local.now = Millis(DUE);
            assert!(keyspace.sweep_expired((0, 1), &mut local, &mut || true));
            assert_eq!(local.stats.expired_fields.get(), u64::from(keys * fields / 2));
            assert_eq!((keyspace.next_due(), with_ends(&keyspace)), (DUE + 1, keys as usize));
            local.now = Millis(DUE + 1);
            assert!(keyspace.sweep_expired((0, 1), &mut local, &mut || true));
            assert_eq!(local.stats.expired_fields.get(), u64::from(keys * fields));
            assert_eq!((keyspace.next_due(), with_ends(&keyspace)), (u64::MAX, 0));
            assert_eq!(keyspace.len(DbIndex(0)), keys as usize);
        }
    }

    #[test]
    fn removed_and_flushed_keys_are_forgotten() {
        let (keyspace, mut local) = keyspace_with_due_fields(20, 4);
        for i in 0..10_u32 {
            let key = i.to_le_bytes();
            let locked = keyspace.lock_many(DbIndex(0), &[keyspace.hash(&key)]);
            let mut db = Db::new(&keyspace, DbIndex(0), locked, &mut local);
            let key = db.key(&key);
            if i % 2 == 0 {
                assert!(db.remove(&key));
            } else {
                db.put_string(&key, b"text", Expire::Clear);
            }
        }
        assert_eq!(keyspace.len_with_field_ends(DbIndex(0)), 10);
        keyspace.swap(DbIndex(0), DbIndex(1), &mut local);
        assert_eq!(keyspace.len_with_field_ends(DbIndex(1)), 10);
        assert!(keyspace.flush(DbIndex(1), &mut local.effects).is_some());
        assert_eq!((keyspace.len_with_field_ends(DbIndex(1)), keyspace.next_due()), (0, u64::MAX));
    }

    #[test]
    fn a_locked_shard_is_left_for_later_and_not_forgotten() {
        let (keyspace, mut local) = keyspace_with_due_keys(3000, b"value");
        local.now = Millis(DUE + 1000);
        let table = keyspace.table(DbIndex(1));
        let shard = (0..table.shards()).step_by(2).find(|shard| table.shard_len(*shard) > 0);
        let locked = table.lock(shard.expect("three keys a shard"));
        let in_shard = locked.len();
        assert!(!keyspace.sweep_expired((0, 2), &mut local, &mut || true));
        assert_eq!(keyspace.len(DbIndex(1)), in_shard);
        drop(locked);
        assert!(keyspace.sweep_expired((0, 2), &mut local, &mut || true));
        assert!(keyspace.is_empty());
    }

    #[test]
    fn a_sweep_stops_when_told_and_frees_large_values_bite_by_bite() {
        let (keyspace, mut local) = keyspace_with_due_keys(400, &vec![b'x'; 100_000]);
        local.now = Millis(DUE);
        let mut bites = 0;
        assert!(!keyspace.sweep_expired((0, 1), &mut local, &mut || {
            bites += 1;
            bites < 3
        }));
        let gone = 400 - keyspace.len(DbIndex(1));
        assert!(gone > 0 && gone <= BITE_FIRST + 2 * BITE_OF_VALUES, "{gone} gone");
        assert!(local.spent.is_empty() && local.garbage.is_empty());
        assert!(keyspace.sweep_expired((0, 1), &mut local, &mut || true));
        assert!(keyspace.is_empty());
    }
}
