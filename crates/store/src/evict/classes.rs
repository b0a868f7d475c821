//! Classes of keys that have room of their own: each its limit and its policy, apart from what the other keys may take.
//!
//! A class is told by the key alone, so no entry bears a mark; only where there are classes is a key looked at for it.
//! Invariant: what a class takes is counted under the lock of the key's shard, wherever an entry is made, changed or removed, from
//! when its shard was counted on; so the count is exact. Counters are shared by all threads: who writes keys of a class writes a line
//! that others write, too.

use crate::field_ends::DbTable;
use crate::keyspace::DbIndex;
use larder_policy::Scope;
use larder_policy::policies::Kind;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU32, AtomicUsize, Ordering::Relaxed};

/// Tells whether a key that has the prefix is of a class.
pub type Matcher = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// A class of keys to be.
#[derive(Clone)]
pub struct ClassSpec {
    /// What it is told by in reports; two of one name are the same class.
    pub name: Box<str>,
    /// The database of its keys.
    pub db: DbIndex,
    /// What all its keys begin with.
    pub prefix: Box<[u8]>,
    /// Which of the keys that begin so are its own.
    pub matches: Matcher,
    /// Its policy.
    pub kind: Kind,
    /// Which of its keys may leave.
    pub scope: Scope,
}

impl fmt::Debug for ClassSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassSpec")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl PartialEq for ClassSpec {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.db, self.kind, self.scope) == (&other.name, other.db, other.kind, other.scope)
    }
}

/// The classes in force. The class 0 is that of all other keys.
#[derive(Debug, Default)]
pub(crate) struct Classes(Vec<Class>);

#[derive(Debug)]
struct Class {
    spec: ClassSpec,
    /// The table that its database is.
    table: AtomicU32,
}

impl Classes {
    pub(super) fn new(specs: Vec<ClassSpec>, table_of: impl Fn(DbIndex) -> u32) -> Classes {
        let class = |spec: ClassSpec| Class { table: AtomicU32::new(table_of(spec.db)), spec };
        Classes(specs.into_iter().map(class).collect())
    }

    pub(super) fn specs(&self) -> impl Iterator<Item = &ClassSpec> {
        self.0.iter().map(|class| &class.spec)
    }

    pub(super) fn are(&self, specs: &[ClassSpec]) -> bool {
        self.0.len() == specs.len() && self.specs().eq(specs)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The class of a key of a table. O(classes), and O(length of the key) for one.
    #[inline]
    pub(crate) fn of(&self, table: u32, key: &[u8]) -> usize {
        let is_it = |class: &Class| {
            class.table.load(Relaxed) == table
                && key.starts_with(&class.spec.prefix)
                && (class.spec.matches)(key)
        };
        self.0.iter().position(is_it).map_or(0, |at| at + 1)
    }

    /// The table that a class's keys are in.
    pub(super) fn table(&self, class: usize) -> Option<u32> {
        Some(self.0.get(class.checked_sub(1)?)?.table.load(Relaxed))
    }

    /// Has each class follow its database to the table that this is now. Answers which have moved. The caller is exclusive.
    pub(super) fn reseat(&self, table_of: impl Fn(DbIndex) -> u32) -> Vec<usize> {
        let moved = |(at, class): (usize, &Class)| {
            let table = table_of(class.spec.db);
            (class.table.swap(table, Relaxed) != table).then_some(at + 1)
        };
        self.0.iter().enumerate().filter_map(moved).collect()
    }
}

/// What a class takes, and may take.
#[derive(Debug)]
pub(crate) struct Room {
    bytes: AtomicIsize,
    keys: AtomicIsize,
    limit: AtomicUsize,
    /// How often a key was evicted to keep the limit.
    pub(super) evicted: AtomicUsize,
    /// Which shards were counted: what happens in them is told from then on.
    counted: Box<[AtomicBool]>,
    uncounted: AtomicUsize,
}

impl Room {
    /// Room for the class of a table with this many shards; `is_empty`: which has no key yet.
    pub(super) fn new(shards: usize, is_empty: bool) -> Room {
        Room {
            bytes: AtomicIsize::new(0),
            keys: AtomicIsize::new(0),
            limit: AtomicUsize::new(usize::MAX),
            evicted: AtomicUsize::new(0),
            counted: (0..shards).map(|_| AtomicBool::new(is_empty)).collect(),
            uncounted: AtomicUsize::new(if is_empty { 0 } else { shards }),
        }
    }

    /// Nothing is counted any more; `is_empty`: since there is nothing. The caller is exclusive.
    pub(super) fn begin_again(&self, is_empty: bool) {
        self.bytes.store(0, Relaxed);
        self.keys.store(0, Relaxed);
        self.counted.iter().for_each(|counted| counted.store(is_empty, Relaxed));
        self.uncounted.store(if is_empty { 0 } else { self.counted.len() }, Relaxed);
    }

    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.bytes.load(Relaxed)).unwrap_or(0)
    }

    pub(super) fn keys(&self) -> usize {
        usize::try_from(self.keys.load(Relaxed)).unwrap_or(0)
    }

    /// About how many keys there will be when the limit is reached.
    pub(super) fn keys_expected(&self) -> usize {
        const BYTES_A_KEY: usize = 256;
        let a_key = if self.keys() < 1000 { BYTES_A_KEY } else { self.bytes() / self.keys() };
        if self.limit() == usize::MAX { self.keys() } else { self.limit() / a_key.max(1) }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    pub(super) fn has_to_count(&self) -> bool {
        self.uncounted.load(Relaxed) > 0
    }

    /// An entry of a shard changed by so much. The caller has the shard.
    pub(super) fn change(&self, shard: usize, keys: isize, bytes: isize) {
        if self.counted.get(shard).is_some_and(|counted| counted.load(Relaxed)) {
            self.bytes.fetch_add(bytes, Relaxed);
            if keys != 0 {
                self.keys.fetch_add(keys, Relaxed);
            }
        }
    }

    /// Counts some shards that are not counted yet, those that nobody holds. True when all are. O(entries of a shard) under its lock.
    pub(super) fn count_some(
        &self,
        table: &DbTable,
        shards: usize,
        bytes_if: impl Fn(&larder_table::Entry<'_, crate::object::Object>) -> Option<u32>,
    ) -> bool {
        if self.uncounted.load(Relaxed) == 0 {
            return true;
        }
        let mut left = shards;
        for (number, counted) in self.counted.iter().enumerate() {
            if left == 0 {
                return false;
            }
            if counted.load(Relaxed) {
                continue;
            }
            left -= 1;
            let Some(shard) = table.try_lock(number) else { continue };
            // Another thread may have counted it meanwhile.
            if counted.load(Relaxed) {
                continue;
            }
            let (mut keys, mut bytes) = (0, 0);
            shard.for_each(&mut |entry| {
                if let Some(more) = bytes_if(entry) {
                    (keys, bytes) = (keys + 1, bytes + more as isize);
                }
            });
            self.keys.fetch_add(keys, Relaxed);
            self.bytes.fetch_add(bytes, Relaxed);
            counted.store(true, Relaxed);
            self.uncounted.fetch_sub(1, Relaxed);
        }
        self.uncounted.load(Relaxed) == 0
    }
}

/// What a class takes, for reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassUse {
    /// Its name.
    pub name: Box<str>,
    /// Its keys, as far as they were counted.
    pub keys: usize,
    /// What they take of the limit, in bytes.
    pub bytes: usize,
    /// What they may take; `usize::MAX` for no limit.
    pub limit: usize,
    /// Keys evicted to keep it.
    pub evicted: usize,
}
