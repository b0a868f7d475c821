//! Which keys are decided while a file is still being loaded and others are served already.
//!
//! A key is *decided* once the table has it, or had it and it went: whatever the file still has of it is older than what happened
//! since, and is left out by who loads. Of any other key nothing can be said before all of the file is there. Decided keys stay so.
//!
//! Invariant: while a rest is to come every key that leaves the table is noted here, under the lock of its shard: `DbTable::remove` and `evict`,
//! collections that were emptied, and the sweep of keys whose time has come. Databases are neither flushed nor exchanged meanwhile.

use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Parts with a lock each.
const PARTS: usize = 64;

/// Keys by the number of their table.
type Keys = HashMap<u32, HashSet<Box<[u8]>>>;

/// Keys that have left while the rest of a file is to come.
pub(crate) struct Rest {
    is_to_come: AtomicBool,
    gone: [Mutex<Keys>; PARTS],
}

impl Default for Rest {
    fn default() -> Rest {
        Rest { is_to_come: AtomicBool::new(false), gone: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Rest {
    /// From now on keys that leave are noted. No key is there yet; who stores some hears of it by a lock or a message.
    pub(crate) fn expect(&self) {
        self.is_to_come.store(true, Relaxed);
    }

    /// Everything is there.
    pub(crate) fn forget(&self) {
        self.is_to_come.store(false, Relaxed);
        self.gone.iter().for_each(|keys| *keys.lock() = Keys::new());
    }

    /// Whether a rest is to come.
    pub(crate) fn is_to_come(&self) -> bool {
        self.is_to_come.load(Relaxed)
    }

    /// A key has left. Its shard is locked.
    #[inline]
    pub(crate) fn note(&self, table: u32, hash: u64, key: &[u8]) {
        if self.is_to_come() {
            self.note_gone(table, hash, key);
        }
    }

    #[cold]
    fn note_gone(&self, table: u32, hash: u64, key: &[u8]) {
        self.keys(hash).lock().entry(table).or_default().insert(key.into());
    }

    /// Whether a key has left. Its shard is locked.
    pub(crate) fn has(&self, table: u32, hash: u64, key: &[u8]) -> bool {
        self.keys(hash).lock().get(&table).is_some_and(|keys| keys.contains(key))
    }

    fn keys(&self, hash: u64) -> &Mutex<Keys> {
        // Not the bits that shards are told by: those of one shard are spread.
        &self.gone[hash as usize % PARTS]
    }
}

#[cfg(test)]
mod tests {
    use crate::db::{Db, Expire};
    use crate::discard::Removal;
    use crate::keyspace::{DbIndex, Keyspace};
    use crate::local::{Local, Millis};
    use crate::stats::StoreStats;
    use larder_table::{Epochs, Hasher};
    use larder_values::list::{self, Limit, List};
    use std::sync::Arc;

    fn with(work: impl FnOnce(&mut Db<'_>, &Keyspace)) {
        let keyspace = Keyspace::new(2, 1, Hasher::fast(7), Epochs::new(1));
        let mut local = Local::new(1, Arc::<StoreStats>::default());
        local.now = Millis(1_000);
        keyspace.expect_rest();
        let db = DbIndex(0);
        let hashes: Vec<u64> = KEYS.iter().map(|key| keyspace.hash(key)).collect();
        let locked = keyspace.lock_many(db, &hashes);
        work(&mut Db::new(&keyspace, db, locked, &mut local), &keyspace);
    }

    const KEYS: [&[u8]; 3] = [b"a", b"b", b"c"];

    #[test]
    fn a_key_is_decided_from_when_it_is_there_on() {
        with(|db, keyspace| {
            let key = db.key(KEYS[0]);
            assert!(!db.is_decided(&key));
            db.put_string(&key, b"v", Expire::Clear);
            assert!(db.is_decided(&key));
            assert!(db.remove_for(&key, Removal::Deleted));
            assert!(db.is_decided(&key), "it was there");
            let other = db.key(KEYS[1]);
            assert!(!db.is_decided(&other));
            keyspace.forget_rest();
            assert!(!db.is_decided(&key), "nothing is remembered longer than it is needed");
        });
    }

    #[test]
    fn whichever_way_a_key_goes_it_is_noted() {
        with(|db, _| {
            let [ends, taken, emptied] = KEYS.map(|key| db.key(key));
            db.put_string(&ends, b"v", Expire::At(Millis(500)));
            assert!(!db.exists(&ends), "its time was over");
            assert!(db.is_decided(&ends));
            db.put_string(&taken, b"v", Expire::Clear);
            assert!(db.take(&taken).is_some());
            assert!(db.is_decided(&taken));
            // Inside its entry, and beside it.
            for bytes in [1, 5_000] {
                let limit = Limit::of(-2);
                let edit = db.edit_or_create::<List, _>(&emptied, |list| {
                    list.make_room(limit, 1, bytes);
                    list.push(list::End::Tail, &vec![b'x'; bytes]);
                });
                assert!(edit.is_ok_and(|edit| edit.created));
                let edit = db.edit::<List, _>(&emptied, |list| list.pop(limit, list::End::Head, 1, |_| ()));
                assert!(edit.is_ok_and(|edit| edit.is_some_and(|edit| edit.emptied)));
                assert!(db.is_decided(&emptied), "{bytes}");
            }
        });
    }
}
