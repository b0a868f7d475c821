//! Databases, which table each of them is, and the one place where shards are locked.
//!
//! Invariants: shards are locked in ascending order of (table, shard), never in another; the world
//! lock is taken before any shard; no lock is held across I/O. SWAPDB exchanges which table a
//! database number means, so it costs the same for any size.

use crate::db::Db;
use crate::effects::Effects;
use crate::evict::Eviction;
use crate::field_ends::{DbTable, Keys};
use crate::followed::{Fate, Followed};
use crate::generations::Invalidated;
use crate::held::Held;
use crate::insight::Panel;
use crate::item::Item;
use crate::leases::LeasePart;
use crate::local::{Local, Millis};
use crate::object::{Object, Type};
use crate::rest::Rest;
use crate::sizes::SIZE_BINS;
use crate::snapshot::{Snapshots, Unsaved};
use crate::sweep::Sweeps;
use crate::world::World;
use larder_table::{Detached, Epochs, Hasher, Participant, PayloadRef, Shard, Table, TableConfig};
use larder_values::collection::AHEAD_MAX;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Shards of a table, as a power of two.
pub(crate) const SHARD_BITS: u8 = 10;

/// How often a locked shard is asked for again before whoever wants it does something else meanwhile.
pub const LOCK_ATTEMPTS: u32 = 200;

/// The number of a database, checked against `databases` when a client names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct DbIndex(pub u32);

/// The number of a table. SWAPDB changes which database it is, so what is remembered of keys is remembered by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableNumber(pub u32);

/// A key and its hash, computed once per command.
#[derive(Debug, Clone, Copy)]
pub struct Hashed<'a> {
    /// The key.
    pub bytes: &'a [u8],
    /// Its hash under the keyspace's hasher.
    pub hash: u64,
}

/// Where a key lies. Places ascend in the order in which shards are locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    table: u32,
    shard: u32,
}

impl Place {
    /// The shard's number in its table.
    #[cfg(test)]
    pub(crate) fn shard(self) -> usize {
        self.shard as usize
    }
}

/// From so many keys on their shards are put in order by a bit for each shard.
const MANY_KEYS: usize = 256;

/// Shards locked for one command, in ascending order.
pub struct Locked<'t> {
    /// The only shard of most commands stands apart, so that they allocate nothing and have little to carry around.
    first: Option<Shard<'t, Object>>,
    /// Those after the first, in a box of their own for the same reason.
    others: Option<Box<[Shard<'t, Object>]>>,
}

impl<'t> Locked<'t> {
    /// One shard that is locked already.
    pub(crate) fn one(shard: Shard<'t, Object>) -> Locked<'t> {
        Locked { first: Some(shard), others: None }
    }

    /// Locks by ascending number; `lock` may refuse, and then none is locked.
    fn all(numbers: &[u32], mut lock: impl FnMut(usize) -> Option<Shard<'t, Object>>) -> Option<Locked<'t>> {
        debug_assert!(numbers.is_sorted_by(|a, b| a < b));
        let Some((first, others)) = numbers.split_first() else {
            return Some(Locked { first: None, others: None });
        };
        let first = Some(lock(*first as usize)?);
        let others = match others {
            [] => None,
            others => {
                // Of the right length from the start: what it is collected into would grow, and shrink.
                let mut guards = Vec::with_capacity(others.len());
                for number in others {
                    guards.push(lock(*number as usize)?);
                }
                Some(guards.into_boxed_slice())
            }
        };
        Some(Locked { first, others })
    }

    /// Shards that are locked already, in ascending order.
    pub(crate) fn of(mut shards: impl ExactSizeIterator<Item = Shard<'t, Object>>) -> Locked<'t> {
        let first = shards.next();
        Locked { first, others: (shards.len() != 0).then(|| shards.collect()) }
    }

    /// Whether a shard is among them.
    pub(crate) fn has(&self, shard: usize) -> bool {
        self.first.iter().chain(self.others.iter().flatten()).any(|guard| guard.index() == shard)
    }

    /// The locked shard that holds keys of this hash.
    ///
    /// # Panics
    /// When the shard was not declared: a bug in a command's key specification, caught at the
    /// command boundary.
    #[inline]
    pub(crate) fn shard_mut(&mut self, shard: usize) -> &mut Shard<'t, Object> {
        match &mut self.first {
            Some(guard) if guard.index() == shard => guard,
            _ => Self::other(self.others.as_deref_mut().unwrap_or_default(), shard),
        }
    }

    /// The locked shard that holds keys of this hash, for looking only.
    ///
    /// # Panics
    /// As [`Locked::shard_mut`].
    pub(crate) fn shard(&self, shard: usize) -> &Shard<'t, Object> {
        let mut guards = self.first.iter().chain(self.others.as_deref().unwrap_or_default());
        match guards.find(|guard| guard.index() == shard) {
            Some(guard) => guard,
            None => panic!("a command reached for a key it did not declare"),
        }
    }

    #[inline(never)]
    fn other<'l>(others: &'l mut [Shard<'t, Object>], shard: usize) -> &'l mut Shard<'t, Object> {
        // Of thousands of keys the shards are nearly all there are: then it stands where it would if none were left out.
        let end = others.last().map_or(1, |guard| guard.index() + 1);
        let guess = shard * others.len() / end;
        let at = match others.get(guess) {
            Some(guard) if guard.index() == shard => guess,
            _ => others.partition_point(|guard| guard.index() < shard),
        };
        match others.get_mut(at) {
            Some(guard) if guard.index() == shard => guard,
            _ => panic!("a command reached for a key it did not declare"),
        }
    }
}

/// One database, found once and used for many keys. Holds no lock.
#[derive(Clone, Copy)]
pub struct Database<'k> {
    pub(crate) table: &'k DbTable,
    pub(crate) index: DbIndex,
}

impl<'k> Database<'k> {
    /// First stage of prefetching a key: the head of its shard.
    #[inline]
    pub fn prefetch_shard(&self, hash: u64) {
        self.table.prefetch_shard(hash);
    }

    /// The beginning of the second stage, for keys whose turn is later: their buckets. The caller is inside a turn.
    #[inline]
    pub fn prefetch_homes(participant: &Participant, keys: impl Iterator<Item = (Database<'k>, u64)>) {
        Table::prefetch_homes(participant, keys.map(|(database, hash)| (&**database.table, hash)));
    }

    /// Second stage, for a window of keys in any databases: their buckets, then their entries. The caller is inside
    /// a turn. Takes at most [`larder_table::WINDOW_MAX`] keys.
    #[inline]
    pub fn prefetch_all(participant: &Participant, keys: impl Iterator<Item = (Database<'k>, u64)>) {
        Table::prefetch_all(participant, keys.map(|(database, hash)| (&**database.table, hash)));
    }

    /// Third stage, for requests that look up elements of one key: what those look-ups will read, where it holds a large
    /// collection. Looks under the shard's lock; does nothing where somebody else has it.
    pub fn prefetch_elements(&self, key: &Hashed<'_>, elements: &[&[u8]]) {
        let Some(shard) = self.table.try_lock(self.table.shard_of(key.hash)) else { return };
        if let Some(PayloadRef::Boxed(object)) = shard.find(key.hash, key.bytes).map(|entry| entry.payload())
        {
            elements.chunks(AHEAD_MAX).for_each(|elements| object.look_ahead(elements));
        }
    }

    /// Makes room for about so many keys, where there are none yet.
    pub fn reserve(&self, keys: u64) {
        let each = usize::try_from(keys >> SHARD_BITS).unwrap_or(0);
        (0..1 << SHARD_BITS).for_each(|shard| self.table.lock(shard).reserve(each));
    }

    /// Locks the shard of one key, or answers `None` when another thread holds it.
    #[inline]
    pub fn try_lock_one(&self, hash: u64) -> Option<Locked<'k>> {
        let shard = self.table.shard_of(hash);
        Some(Locked { first: Some(self.table.try_lock(shard)?), others: None })
    }

    /// Locks the shards of several keys, all or none.
    pub fn try_lock_many(&self, hashes: &[u64]) -> Option<Locked<'k>> {
        Locked::all(&self.shards_of(hashes), |shard| self.table.try_lock(shard))
    }

    /// Locks the shards of several keys, waiting for each in turn.
    pub fn lock_many(&self, hashes: &[u64]) -> Locked<'k> {
        let locked = Locked::all(&self.shards_of(hashes), |shard| Some(self.table.lock(shard)));
        locked.unwrap_or(Locked { first: None, others: None })
    }

    /// The shards of several keys in ascending order, each once.
    fn shards_of(&self, hashes: &[u64]) -> SmallVec<[u32; 16]> {
        let mut numbers: SmallVec<[u32; 16]> =
            hashes.iter().map(|hash| self.table.shard_of(*hash) as u32).collect();
        if numbers.len() < MANY_KEYS {
            numbers.sort_unstable();
            numbers.dedup();
        } else {
            sort_by_bits(&mut numbers);
        }
        numbers
    }
}

/// The same as to sort them and leave each in once, where there are many and none is large.
fn sort_by_bits(numbers: &mut SmallVec<[u32; 16]>) {
    let most = numbers.iter().copied().max().unwrap_or(0) as usize;
    let mut bits = vec![0_u64; most / 64 + 1];
    for number in &*numbers {
        bits[*number as usize / 64] |= 1 << (number % 64);
    }
    numbers.clear();
    for (at, word) in (0..).zip(&mut bits) {
        while *word != 0 {
            numbers.push(at * 64 + word.trailing_zeros());
            *word &= *word - 1;
        }
    }
}

/// What was taken out of the keyspace and is still to be freed.
pub enum Garbage {
    /// One value that the background was to free.
    Object(Object),
    /// One value that would take its thread too long; Redis would free it on the spot, so nobody counts it.
    Unasked(Object),
    /// A whole database, with what was known of the ends of fields in it.
    Database(Box<Flushed>),
}

/// A whole database, taken out.
pub struct Flushed {
    contents: Detached<Object>,
    field_ends: Vec<Keys>,
    marks: Vec<LeasePart>,
    /// What a snapshot still needs of it.
    unsaved: Option<Unsaved>,
    /// Redis would free it on the spot, so nobody counts it.
    is_unasked: bool,
}

impl Flushed {
    /// Frees about `limit` keys with what they hold; true when nothing is left.
    pub fn free_some(&mut self, limit: usize) -> bool {
        if self.field_ends.pop().is_some() || self.marks.pop().is_some() {
            return false;
        }
        let Some(unsaved) = self.unsaved.as_mut().filter(|unsaved| unsaved.is_needed()) else {
            return self.contents.free_some(limit);
        };
        let is_free = self.contents.free_some_shown(limit, &mut |entry| unsaved.show(entry));
        if self.contents.is_walked() {
            unsaved.end();
        }
        is_free
    }
}

impl Garbage {
    /// Has a database freed without being counted.
    pub fn unask(&mut self) {
        if let Garbage::Database(flushed) = self {
            flushed.is_unasked = true;
        }
    }

    /// How many objects it is, as INFO counts them: a database is as many as it holds keys.
    #[must_use]
    pub fn objects(&self) -> usize {
        match self {
            Garbage::Object(_) => 1,
            Garbage::Unasked(_) => 0,
            Garbage::Database(flushed) if flushed.is_unasked => 0,
            Garbage::Database(flushed) => flushed.contents.len(),
        }
    }

    /// Bytes of a single value that freeing it will give back; a database counts its own.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        match self {
            Garbage::Object(object) | Garbage::Unasked(object) => object.bytes(),
            Garbage::Database(_) => 0,
        }
    }
}

impl std::fmt::Debug for Garbage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Garbage")
    }
}

/// Where the keyspace's memory goes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyspaceMemory {
    /// Entries, rounded to their size classes.
    pub entries: usize,
    /// Segments, directories and deadline codes of the tables.
    pub index: usize,
    /// Shard headers and the arenas' own records.
    pub fixed: usize,
    /// Spans that serve entries or index, full or not.
    pub spans: usize,
    /// Of entries and index, what lives in the global allocator.
    pub outside: usize,
}

/// All databases.
pub struct Keyspace {
    /// Tables, made when their database is first used.
    tables: Box<[OnceLock<DbTable>]>,
    /// No table from this number on was ever made.
    tables_end: AtomicU32,
    /// Which table each database is.
    table_of: Box<[AtomicU32]>,
    hasher: Hasher,
    /// How many threads touch keys: no other ever does.
    workers: usize,
    epochs: Arc<Epochs>,
    /// The lock over everything.
    pub world: World,
    pub(crate) sweeps: Sweeps,
    pub(crate) eviction: Eviction,
    /// The number of the last effect, when somebody orders them.
    sequence: AtomicU64,
    /// Who follows which keys.
    pub followed: Arc<Followed>,
    /// What the cache is doing.
    pub insight: Arc<Panel>,
    /// What was invalidated.
    pub invalidated: Invalidated,
    /// Snapshots.
    pub(crate) snapshots: Arc<Snapshots>,
    /// The rest of a file.
    rest: Arc<Rest>,
}

impl Keyspace {
    /// `databases` empty databases for `workers` worker threads. Where there is one, no other thread may lock keys.
    pub fn new(databases: u32, workers: usize, hasher: Hasher, epochs: Arc<Epochs>) -> Self {
        Keyspace {
            tables: (0..databases).map(|_| OnceLock::new()).collect(),
            tables_end: AtomicU32::new(0),
            table_of: (0..databases).map(AtomicU32::new).collect(),
            followed: Arc::new(Followed::new(hasher.clone(), databases)),
            hasher,
            workers,
            epochs,
            world: World::new(workers),
            sweeps: Sweeps::new(workers),
            eviction: Eviction::default(),
            sequence: AtomicU64::new(0),
            insight: Arc::new(Panel::new(workers)),
            invalidated: Invalidated::default(),
            snapshots: Arc::default(),
            rest: Arc::default(),
        }
    }

    /// Keys are about to be stored of a file whose rest comes while others are served: [`Db::is_decided`](crate::Db::is_decided) is to
    /// be known of keys from now on. There are none yet.
    pub fn expect_rest(&self) {
        self.rest.expect();
    }

    /// All of the file is there.
    pub fn forget_rest(&self) {
        self.rest.forget();
    }

    /// Number of databases.
    pub fn databases(&self) -> u32 {
        self.table_of.len() as u32
    }

    /// All database numbers.
    pub fn indexes(&self) -> impl Iterator<Item = DbIndex> + use<> {
        (0..self.databases()).map(DbIndex)
    }

    /// The hash of a key, the same in every database.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash(key)
    }

    /// The table behind a database, made when it is first asked for.
    #[inline]
    pub(crate) fn table(&self, db: DbIndex) -> &DbTable {
        let table = self.table_of[db.0 as usize].load(Ordering::Relaxed) as usize;
        self.tables[table].get_or_init(|| {
            let config = TableConfig {
                shard_bits: SHARD_BITS,
                hasher: self.hasher.clone(),
                one_thread: self.workers == 1,
            };
            self.tables_end.fetch_max(table as u32 + 1, Ordering::Relaxed);
            let made = Table::new(config, Arc::clone(&self.epochs));
            let shared = (&self.followed, &self.snapshots, &self.rest);
            DbTable::new(table as u32, made, self.workers, shared)
        })
    }

    /// The table behind a database, if anything was ever stored there.
    pub(crate) fn table_if_used(&self, db: DbIndex) -> Option<&DbTable> {
        self.tables[self.table_of[db.0 as usize].load(Ordering::Relaxed) as usize].get()
    }

    /// A table by its number, if it is in use.
    pub(crate) fn table_of_number(&self, number: u32) -> Option<&DbTable> {
        self.tables.get(number as usize)?.get()
    }

    /// How many threads touch keys.
    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    /// The tables in use, with their numbers.
    pub(crate) fn numbered_tables(&self) -> impl Iterator<Item = (u32, &DbTable)> {
        self.tables_in_use().map(|table| (table.number, table))
    }

    /// The database that a table is at the moment.
    pub fn database_of_table(&self, table: TableNumber) -> DbIndex {
        self.database_of(table.0)
    }

    /// The database that a table is at the moment.
    pub(crate) fn database_of(&self, table: u32) -> DbIndex {
        let is_it = |db: &u32| self.table_of[*db as usize].load(Ordering::Relaxed) == table;
        DbIndex(Some(table).filter(is_it).or_else(|| (0..self.databases()).find(is_it)).unwrap_or(table))
    }

    /// The tables in use, whichever database they are.
    pub(crate) fn tables_in_use(&self) -> impl Iterator<Item = &DbTable> {
        let end = self.tables_end.load(Ordering::Relaxed) as usize;
        self.tables.iter().take(end).filter_map(OnceLock::get)
    }

    /// A database, to work on several of its keys. Good until the end of the turn: SWAPDB may change
    /// which table the number means.
    #[inline]
    pub fn open(&self, db: DbIndex) -> Database<'_> {
        Database { table: self.table(db), index: db }
    }

    /// Locks the shards of several keys, waiting for each in turn.
    pub fn lock_many(&self, db: DbIndex, hashes: &[u64]) -> Locked<'_> {
        self.open(db).lock_many(hashes)
    }

    /// Where a key of this hash lies. Good until the end of the turn.
    #[inline]
    pub fn place(&self, db: DbIndex, hash: u64) -> Place {
        let table = self.table_of[db.0 as usize].load(Ordering::Relaxed);
        Place { table, shard: self.table(db).shard_of(hash) as u32 }
    }

    /// Locks `places`, sorting them first, into `held`, which holds nothing. Each is asked for at most `attempts`
    /// times; where one stays locked, or owed, nothing is held and the answer is false.
    pub fn try_hold<'k>(&'k self, places: &mut Vec<Place>, attempts: u32, held: &mut Held<'k>) -> bool {
        places.sort_unstable();
        places.dedup();
        held.lock_all(places, |place| self.try_lock(place, attempts, |table, shard| table.try_lock(shard)))
    }

    /// As [`Keyspace::try_hold`], for who pays what is owed: shards that are owed are locked as well, and stay owed.
    pub fn try_hold_owed<'k>(&'k self, places: &mut Vec<Place>, attempts: u32, held: &mut Held<'k>) -> bool {
        places.sort_unstable();
        places.dedup();
        held.lock_all(places, |place| {
            self.try_lock(place, attempts, |table, shard| table.try_lock_owed(shard))
        })
    }

    /// Locks one more shard into `held`, out of order, unless it is there, also where it is owed: tried at most
    /// `attempts` times and never waited for. False where it stays locked.
    pub fn try_hold_more<'k>(&'k self, place: Place, attempts: u32, held: &mut Held<'k>) -> bool {
        held.has(place)
            || held.add(place, self.try_lock(place, attempts, |table, shard| table.try_lock_owed(shard)))
    }

    /// As [`Keyspace::try_hold_more`], for a shard that must not be owed.
    pub fn try_hold_free<'k>(&'k self, place: Place, held: &mut Held<'k>) -> bool {
        if held.has(place) {
            return !held.is_owed(place);
        }
        held.add(place, self.try_lock(place, 1, |table, shard| table.try_lock(shard)))
    }

    /// What a command on one database has locked, as a transaction holds it.
    pub fn hold_locked<'k>(&self, db: DbIndex, locked: Locked<'k>) -> Held<'k> {
        let table = self.table_of[db.0 as usize].load(Ordering::Relaxed);
        let mut held = Held::default();
        for shard in locked.first.into_iter().chain(locked.others.into_iter().flatten()) {
            held.add(Place { table, shard: shard.index() as u32 }, Some(shard));
        }
        held
    }

    fn try_lock<'k>(
        &'k self,
        place: Place,
        attempts: u32,
        lock: impl Fn(&'k Table<Object>, usize) -> Option<Shard<'k, Object>>,
    ) -> Option<Shard<'k, Object>> {
        let table = self.tables[place.table as usize].get()?;
        (0..attempts).find_map(|_| {
            let shard = lock(table, place.shard as usize);
            if shard.is_none() {
                std::hint::spin_loop();
            }
            shard
        })
    }

    /// Keys in a database, expired ones that nobody has met yet included.
    pub fn len(&self, db: DbIndex) -> usize {
        self.table_if_used(db).map_or(0, |table| table.len())
    }

    /// Keys in all databases. O(shards).
    pub fn keys(&self) -> usize {
        self.tables_in_use().map(|table| table.len()).sum()
    }

    /// Whether no database holds a key.
    pub fn is_empty(&self) -> bool {
        self.tables_in_use().all(|table| table.is_empty())
    }

    /// Keys with a time to live in a database.
    pub fn len_with_deadline(&self, db: DbIndex) -> usize {
        self.table_if_used(db).map_or(0, |table| table.len_with_deadline())
    }

    /// Keys of a database with fields that have a time to live.
    pub fn len_with_field_ends(&self, db: DbIndex) -> usize {
        self.table_if_used(db).map_or(0, |table| table.field_ends.keys())
    }

    /// How many values of a type a database holds by their sizes, expired ones that nobody has met yet included:
    /// those of no byte or element first, then from each power of two on. `None` where nothing was ever stored.
    pub fn sizes(&self, db: DbIndex, value_type: Type) -> Option<[u64; SIZE_BINS]> {
        self.table_if_used(db).map(|table| table.sizes.sum(value_type))
    }

    /// Mean time to live of the keys of a database that have one, in milliseconds, from a sample of
    /// at most a few hundred keys.
    pub fn mean_ttl(&self, db: DbIndex, local: &mut Local) -> u64 {
        let Some(table) = self.table_if_used(db) else { return 0 };
        let (now, mut sum, mut count) = (local.now.0, 0u128, 0u128);
        sample_deadlines(table, local, &mut |deadline| {
            sum += u128::from(deadline.saturating_sub(now));
            count += 1;
        });
        sum.checked_div(count).map_or(0, |mean| u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// Which part of the keys with a deadline is over it and not removed yet, 0 to 1, from a sample of
    /// at most a few hundred keys of each database.
    pub fn stale_share(&self, local: &mut Local) -> f64 {
        let (now, mut due, mut count) = (local.now.0, 0u32, 0u32);
        for table in self.indexes().filter_map(|db| self.table_if_used(db)) {
            sample_deadlines(table, local, &mut |deadline| {
                due += u32::from(deadline <= now);
                count += 1;
            });
        }
        if count == 0 { 0.0 } else { f64::from(due) / f64::from(count) }
    }

    /// One bounded step of a scan: visits the live keys at `cursor` and answers the next cursor,
    /// zero when the scan is through. Every key that exists for the whole of a scan is visited
    /// exactly once, whatever grows or shrinks meanwhile.
    pub fn scan(&self, db: DbIndex, cursor: u64, now: Millis, visit: &mut dyn FnMut(Item<'_>)) -> u64 {
        self.walk(db, cursor, now, visit, &mut |_| {})
    }

    /// As [`Keyspace::scan`], and removes the keys it meets whose time has come.
    pub fn scan_and_clear(
        &self,
        db: DbIndex,
        cursor: u64,
        local: &mut Local,
        visit: &mut dyn FnMut(Item<'_>),
    ) -> u64 {
        let mut over: Vec<Box<[u8]>> = Vec::new();
        let next = self.walk(db, cursor, local.now, visit, &mut |key| over.push(key.into()));
        self.clear(db, &over, local);
        next
    }

    /// Removes those of these keys whose time has come, shard by shard.
    fn clear(&self, db: DbIndex, over: &[Box<[u8]>], local: &mut Local) {
        for key in over {
            let key = Hashed { bytes: key, hash: self.hash(key) };
            let mut at = Db::new(self, db, self.lock_many(db, &[key.hash]), local);
            if at.local.settles {
                at.settle(&key, false);
            }
            at.exists(&key);
        }
    }

    fn walk(
        &self,
        db: DbIndex,
        cursor: u64,
        now: Millis,
        visit: &mut dyn FnMut(Item<'_>),
        meet_over: &mut dyn FnMut(&[u8]),
    ) -> u64 {
        let Some(table) = self.table_if_used(db) else { return 0 };
        table.scan(cursor, &mut |entry| {
            // A bucket that shrinkage made of several may begin before the cursor: what lies there
            // has been visited. A cursor is the upper 48 bits of a hash.
            let key = Hashed { bytes: entry.key(), hash: table.hash(entry.key()) };
            if entry.deadline().is_some_and(|deadline| deadline <= now.0) {
                meet_over(key.bytes);
            } else if key.hash >> 16 >= cursor & (u64::MAX >> 16)
                && !table.generations.is_gone(&self.followed, db, &key)
            {
                visit(Item::new(*entry));
            }
        })
    }

    /// A random live key of a database, or `None` when there is none. Keys whose time has come are removed where they
    /// are met.
    pub fn random_key(&self, db: DbIndex, local: &mut Local) -> Option<Vec<u8>> {
        let table = self.table_if_used(db)?;
        let (now, leaves_expired) = (local.now, local.leaves_expired);
        // Few attempts find a key unless nearly all are expired or the table is nearly empty; then
        // the shards are walked from a random one on.
        for _ in 0..64 {
            let shard = local.random() as usize % table.shards();
            if let Some(key) = self.random_in_shard(db, table, shard, local, now) {
                return Some(key);
            }
        }
        let start = local.random() as usize % table.shards();
        let mut walk = |now: Millis| {
            (0..table.shards())
                .find_map(|step| self.random_in_shard(db, table, (start + step) % table.shards(), local, now))
        };
        let found = walk(now);
        // Where what is over stays for a while it is better than nothing, as in Redis.
        if found.is_none() && leaves_expired { walk(Millis(0)) } else { found }
    }

    fn random_in_shard(
        &self,
        db: DbIndex,
        table: &DbTable,
        shard: usize,
        local: &mut Local,
        now: Millis,
    ) -> Option<Vec<u8>> {
        let guard = table.lock(shard);
        if guard.is_empty() {
            return None;
        }
        let (mut seen, mut found) = (0, None);
        let mut over: Vec<Box<[u8]>> = Vec::new();
        let (position, mut pick) = (local.random(), local.random());
        guard.sample(position, 8, &mut |entry| {
            let key = Hashed { bytes: entry.key(), hash: table.hash(entry.key()) };
            if entry.deadline().is_some_and(|deadline| deadline <= now.0) {
                over.push(key.bytes.into());
            } else if !table.generations.is_gone(&self.followed, db, &key) {
                seen += 1;
                pick = pick.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                // Reservoir of one: each of the sampled keys is as likely.
                if pick % seen == 0 {
                    found = Some(entry.key().to_vec());
                }
            }
        });
        drop(guard);
        self.clear(db, &over, local);
        found
    }

    /// Takes everything out of a database. The caller is exclusive; O(shards and followed keys).
    pub fn flush(&self, db: DbIndex, effects: &mut Effects) -> Option<Garbage> {
        effects.flushed();
        let table = self.table_if_used(db)?;
        let mut marks = Vec::new();
        if self.followed.any() {
            let keys = self.followed.change_all(db, |key| end_of(table, key).map(|_| Fate::Gone));
            effects.ready_all(db, keys);
            marks = self.followed.flush_leases(db);
        }
        if table.is_empty() {
            return None;
        }
        table.sizes.clear();
        self.classes_emptied(table.number);
        let mut unsaved = self.snapshots.detach(table.number, &self.hasher);
        if let Some(unsaved) = &mut unsaved {
            unsaved.invalidated = self.take_invalidations(table);
        }
        let (contents, field_ends) = (table.detach_all(), table.field_ends.detach());
        self.insight.flushed(TableNumber(table.number), self.is_empty());
        Some(Garbage::Database(Box::new(Flushed { contents, field_ends, marks, unsaved, is_unasked: false })))
    }

    /// Exchanges two databases. The caller is exclusive; O(followed keys).
    pub fn swap(&self, one: DbIndex, other: DbIndex, local: &mut Local) {
        if one != other && self.followed.any() {
            let now = local.now.0;
            for (from, to) in [(one, other), (other, one)] {
                let [from_table, to_table] = [from, to].map(|db| self.table_if_used(db));
                let keys = self.followed.change_all(from, |key| {
                    let was_there = from_table.and_then(|table| end_of(table, key)).is_some();
                    match to_table.and_then(|table| end_of(table, key)) {
                        None => was_there.then_some(Fate::Gone),
                        Some(end) if end <= now => Some(Fate::Over { was_there }),
                        Some(_) => Some(Fate::Changed),
                    }
                });
                local.effects.ready_all(from, keys);
            }
        }
        self.followed.leases.swap(one, other);
        let (one, other) = (&self.table_of[one.0 as usize], &self.table_of[other.0 as usize]);
        let table = one.load(Ordering::Relaxed);
        one.store(other.load(Ordering::Relaxed), Ordering::Relaxed);
        other.store(table, Ordering::Relaxed);
        self.classes_moved();
    }

    /// Where memory goes. O(tables x shards).
    pub fn memory(&self) -> KeyspaceMemory {
        self.tables_in_use().fold(KeyspaceMemory::default(), |sum, table| {
            let memory = table.memory();
            KeyspaceMemory {
                entries: sum.entries + memory.entries,
                index: sum.index + memory.index,
                fixed: sum.fixed + memory.fixed,
                spans: sum.spans + memory.spans,
                outside: sum.outside + memory.outside,
            }
        })
    }

    /// Bytes that the tables' own arenas hold for entries and index; what they take from the global
    /// allocator is counted there. O(arenas), cheap enough to ask before a write.
    pub fn arena_bytes(&self) -> usize {
        self.tables_in_use().map(|table| table.arena_bytes()).sum()
    }

    /// Gives unused memory back to the system and answers how many bytes.
    pub fn release_unused(&self) -> usize {
        self.tables_in_use().map(|table| table.release_unused()).sum()
    }

    /// Reserves `count` places in the order of effects and answers the first. Called while the
    /// locks of the changed keys are held, so that the order of effects is the order of execution.
    pub fn reserve_sequence(&self, count: u64) -> u64 {
        self.sequence.fetch_add(count, Ordering::Relaxed) + 1
    }
}

/// When a key that lies in a table ends or has ended, `u64::MAX` for never. Waits for its shard.
fn end_of(table: &Table<Object>, key: &[u8]) -> Option<u64> {
    let hash = table.hash(key);
    let shard = table.lock(table.shard_of(hash));
    shard.find(hash, key).map(|entry| entry.deadline().unwrap_or(u64::MAX))
}

/// Shows `visit` the deadlines, Unix ms, among at most a few hundred keys of a table from random places.
fn sample_deadlines(table: &Table<Object>, local: &mut Local, visit: &mut dyn FnMut(u64)) {
    if table.len_with_deadline() == 0 {
        return;
    }
    for _ in 0..32 {
        let random = local.random();
        let shard = table.lock(random as usize % table.shards());
        shard.sample(local.random(), 16, &mut |entry| entry.deadline().into_iter().for_each(&mut *visit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_numbers_are_put_in_order_as_few_are() {
        let mut numbers: SmallVec<[u32; 16]> = (0..2000_u32).map(|at| at * 7919 % 1024).collect();
        numbers.retain(|number| *number % 5 != 3);
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        sort_by_bits(&mut numbers);
        assert_eq!(numbers, sorted);
    }
}
