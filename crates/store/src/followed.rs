//! Who follows keys: clients that watch them for their transactions, clients that wait for them, clients that have leases
//! on them (`leases.rs`), and clients that keep copies of them. Of these only how many there are is known here: whoever
//! tells them asks [`crate::Effects`] what has changed.
//!
//! Every change of a key asks here, through [`crate::Effects`]. While nobody follows any key that is one
//! load; while somebody does, a change of another key costs a hash and a second load.
//!
//! Invariants: a follower is added while the key's shard is locked, and a change is announced while it is
//! locked, so no change between the two is missed. The locks in here are the last to be taken.

use crate::effects::Event;
use crate::keyspace::DbIndex;
use crate::leases::{LeasePart, Leased, Leases, Mark, PARTS as LEASE_PARTS};
use crate::local::Millis;
use larder_table::Hasher;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parts of the register, each with a lock of its own.
const PARTS: usize = 32;
/// Counters by which a change of a key nobody follows is told without a lock.
const COUNTERS: usize = 4096;

/// A client's eye on the keys it watches.
#[derive(Debug, Default)]
pub struct Watch {
    /// One of them has changed. Written and read under the lock of that key's shard.
    changed: AtomicBool,
}

impl Watch {
    /// Whether a watched key has changed.
    #[inline]
    pub fn has_changed(&self) -> bool {
        self.changed.load(Relaxed)
    }

    /// Starts anew, once no key is watched any more.
    pub fn reset(&self) {
        self.changed.store(false, Relaxed);
    }

    fn change(&self) {
        self.changed.store(true, Relaxed);
    }
}

/// A client that waits for a key: its place in the order of arrival, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Grows with every client that begins to wait.
    pub place: u64,
    /// The client's number.
    pub client: u64,
}

/// A client's watch of one key.
#[derive(Debug)]
struct Watcher {
    watch: Arc<Watch>,
    /// What is watched is a key that is over and that nobody has removed yet. That it goes changes nothing.
    sees_over: bool,
}

impl Watcher {
    fn of(&self, watch: &Arc<Watch>) -> bool {
        Arc::ptr_eq(&self.watch, watch)
    }

    fn meet(&mut self, fate: Fate) {
        match fate {
            Fate::Gone if std::mem::take(&mut self.sees_over) => {}
            Fate::Over { .. } if self.sees_over => {}
            Fate::Over { was_there: false } => self.sees_over = true,
            Fate::Gone | Fate::Over { .. } | Fate::Changed => self.watch.change(),
        }
    }
}

/// What a change makes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing is left of it.
    Gone,
    /// Where something was or nothing, a key came that is over already: SWAPDB.
    Over { was_there: bool },
    /// It has another value, or another end.
    Changed,
}

impl Fate {
    fn of(event: Event) -> Self {
        match event {
            Event::EXPIRED | Event::EVICTED | Event::DEL => Fate::Gone,
            _ => Fate::Changed,
        }
    }
}

/// Who follows one key of one database.
#[derive(Debug)]
struct Followers {
    db: DbIndex,
    watches: Vec<Watcher>,
    /// Clients by their places.
    waiting: BTreeMap<u64, u64>,
}

/// The followers of a key in all databases.
type Part = HashMap<Box<[u8]>, Vec<Followers>>;

/// All followers of all keys.
#[derive(Debug)]
pub struct Followed {
    /// Pairs of a follower and a key, leases and marks included.
    count: AtomicUsize,
    /// Those without leases and marks, by a key's hash.
    counters: Box<[AtomicU32]>,
    parts: Box<[Mutex<Part>]>,
    hasher: Hasher,
    /// Leases, and what is known of values that were set under one.
    pub leases: Leases,
    /// Keys of which clients keep copies, whichever database they are in, by hash.
    copied: Box<[AtomicU32]>,
    /// How often all keys are taken to be copied.
    all_copied: AtomicUsize,
    /// Numbers reads and changes of such keys, in the order in which they happen to each key.
    copied_clock: AtomicU64,
    /// The last number that a version of a value was given; see `noted.rs`.
    pub(crate) uniques: AtomicU64,
}

impl Followed {
    pub(crate) fn new(hasher: Hasher, databases: u32) -> Self {
        Followed {
            leases: Leases::new(databases),
            count: AtomicUsize::new(0),
            counters: (0..COUNTERS).map(|_| AtomicU32::new(0)).collect(),
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher,
            copied: (0..COUNTERS).map(|_| AtomicU32::new(0)).collect(),
            all_copied: AtomicUsize::new(0),
            copied_clock: AtomicU64::new(0),
            uniques: AtomicU64::new(0),
        }
    }

    /// Notes that clients have copies of so many keys more with a key's hash. The caller has the key's shard locked.
    pub fn add_copied(&self, key: &[u8]) {
        self.copied_counter(key).fetch_add(1, Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    /// Takes one [`Followed::add_copied`] back.
    pub fn remove_copied(&self, key: &[u8]) {
        self.copied_counter(key).fetch_sub(1, Relaxed);
        self.count.fetch_sub(1, Relaxed);
    }

    /// A number greater than all before, for a read or a change of a key whose shard the caller has locked.
    pub fn tick(&self) -> u64 {
        self.copied_clock.fetch_add(1, Relaxed) + 1
    }

    /// There is a client more that keeps copies: it is to hear of databases that are emptied, and, if it says so, of changes of all
    /// keys.
    pub fn add_copier(&self, of_all: bool) {
        self.all_copied.fetch_add(usize::from(of_all), Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    /// Takes one [`Followed::add_copier`] back.
    pub fn remove_copier(&self, of_all: bool) {
        self.all_copied.fetch_sub(usize::from(of_all), Relaxed);
        self.count.fetch_sub(1, Relaxed);
    }

    /// Whether clients may have copies of a key.
    pub(crate) fn is_copied(&self, key: &[u8]) -> bool {
        self.all_copied.load(Relaxed) != 0 || self.copied_counter(key).load(Relaxed) != 0
    }

    fn copied_counter(&self, key: &[u8]) -> &AtomicU32 {
        &self.copied[(self.hasher.hash(key) >> 32) as usize % COUNTERS]
    }

    /// Whether anybody follows any key. One load.
    #[inline]
    pub fn any(&self) -> bool {
        self.count.load(Relaxed) != 0
    }

    /// Has a client watch a key whose shard the caller has locked, and which may be there though it is over. Answers
    /// whether it did not before.
    pub fn watch(&self, db: DbIndex, key: &[u8], watch: &Arc<Watch>, sees_over: bool) -> bool {
        self.add(db, key, |followers| {
            let is_new = !followers.watches.iter().any(|other| other.of(watch));
            if is_new {
                followers.watches.push(Watcher { watch: Arc::clone(watch), sees_over });
            }
            is_new
        })
    }

    /// Whether a key that a client watches was over already when it began to, and has not gone since. The caller has its
    /// shard locked.
    pub fn sees_over(&self, db: DbIndex, key: &[u8], watch: &Arc<Watch>) -> bool {
        let part = lock(self.part(self.hasher.hash(key)));
        let followers = part.get(key).and_then(|all| all.iter().find(|followers| followers.db == db));
        followers.is_some_and(|it| it.watches.iter().any(|other| other.of(watch) && other.sees_over))
    }

    /// Ends a watch.
    pub fn unwatch(&self, db: DbIndex, key: &[u8], watch: &Arc<Watch>) {
        self.remove(db, key, |followers| {
            let at = followers.watches.iter().position(|other| other.of(watch));
            at.map(|at| followers.watches.swap_remove(at)).is_some()
        });
    }

    /// Has a client wait for a key whose shard the caller has locked.
    pub fn wait(&self, db: DbIndex, key: &[u8], Waiting { place, client }: Waiting) {
        self.add(db, key, |followers| followers.waiting.insert(place, client).is_none());
    }

    /// Ends a wait.
    pub fn stop_waiting(&self, db: DbIndex, key: &[u8], place: u64) {
        self.remove(db, key, |followers| followers.waiting.remove(&place).is_some());
    }

    /// The first client at or behind `place` that waits for a key.
    pub fn next_waiting(&self, db: DbIndex, key: &[u8], place: u64) -> Option<Waiting> {
        let part = lock(self.part(self.hasher.hash(key)));
        let followers = part.get(key)?.iter().find(|followers| followers.db == db)?;
        let (place, client) = followers.waiting.range(place..).next()?;
        Some(Waiting { place: *place, client: *client })
    }

    /// Gives a key's lease out, unless somebody has it; see [`Leases`]. The caller has its shard locked.
    pub(crate) fn lease(
        &self,
        db: DbIndex,
        key: (&[u8], u64),
        token: (u64, u64),
        times: (Millis, Millis),
    ) -> Leased {
        let (leased, added) = self.leases.lease(db, key, token, times);
        self.count.fetch_add(added, Relaxed);
        leased
    }

    /// Ends the lease of a key whose shard the caller has locked.
    pub(crate) fn end_lease(&self, db: DbIndex, key: &[u8], hash: u64) {
        self.fewer(self.leases.end(db, key, hash));
    }

    /// Says what is known of a value whose shard the caller has locked.
    pub(crate) fn mark(&self, db: DbIndex, key: &[u8], hash: u64, mark: Mark) {
        self.count.fetch_add(self.leases.mark(db, key, hash, mark), Relaxed);
    }

    /// Forgets leases whose time is over. Answers those of their keys that somebody may wait for: the next of them is to be given the
    /// lease. O(leases of the parts of the register in which one is over).
    pub fn forget_leases(&self, now: Millis) -> Vec<(DbIndex, Box<[u8]>)> {
        let mut waited = Vec::new();
        if self.leases.counts().0 == 0 {
            return waited;
        }
        for part in 0..LEASE_PARTS {
            let over = self.leases.forget_over(part, now, |key| self.hasher.hash(key));
            self.fewer(over.len());
            let is_followed =
                |(_, key): &(DbIndex, Box<[u8]>)| self.counter(self.hasher.hash(key)).load(Relaxed) != 0;
            waited.extend(over.into_iter().filter(is_followed));
        }
        waited
    }

    /// Forgets the leases and marks of a database. The caller is exclusive.
    pub(crate) fn flush_leases(&self, db: DbIndex) -> Vec<LeasePart> {
        let (entries, taken) = self.leases.flush(db);
        self.fewer(entries);
        taken
    }

    pub(crate) fn fewer(&self, entries: usize) {
        if entries != 0 {
            self.count.fetch_sub(entries, Relaxed);
        }
    }

    /// Tells the watches of a key that it has changed, and answers whether anybody waits for it. The
    /// caller has its shard locked.
    pub(crate) fn change(&self, db: DbIndex, key: &[u8], event: Event) -> bool {
        let hash = self.hasher.hash(key);
        self.fewer(self.leases.change(db, key, hash, event));
        if self.counter(hash).load(Relaxed) == 0 {
            return false;
        }
        let mut part = lock(self.part(hash));
        let Some(all) = part.get_mut(key) else { return false };
        let Some(followers) = all.iter_mut().find(|followers| followers.db == db) else { return false };
        followers.watches.iter_mut().for_each(|watcher| watcher.meet(Fate::of(event)));
        !followers.waiting.is_empty()
    }

    /// Tells the watches of all keys of a database what becomes of them, as far as `fate` says that anything does, and
    /// answers those of the keys for which somebody waits. The caller is exclusive. O(followed keys).
    pub(crate) fn change_all(&self, db: DbIndex, fate: impl Fn(&[u8]) -> Option<Fate>) -> Vec<Box<[u8]>> {
        let mut waited = Vec::new();
        for part in &self.parts {
            for (key, all) in lock(part).iter_mut() {
                let Some(followers) = all.iter_mut().find(|followers| followers.db == db) else { continue };
                if let Some(fate) = fate(key) {
                    followers.watches.iter_mut().for_each(|watcher| watcher.meet(fate));
                    if !followers.waiting.is_empty() {
                        waited.push(key.clone());
                    }
                }
            }
        }
        waited
    }

    /// How many keys are watched and how many are waited for. O(followed keys).
    pub fn keys(&self) -> (usize, usize) {
        let mut sum = (0, 0);
        for part in &self.parts {
            for followers in lock(part).values().flatten() {
                let is_watched = followers.watches.iter().any(|watcher| !watcher.watch.has_changed());
                sum.0 += usize::from(is_watched);
                sum.1 += usize::from(!followers.waiting.is_empty());
            }
        }
        sum
    }

    /// Adds a follower unless `add` says that it is one already.
    fn add(&self, db: DbIndex, key: &[u8], add: impl FnOnce(&mut Followers) -> bool) -> bool {
        let hash = self.hasher.hash(key);
        let mut part = lock(self.part(hash));
        if !part.contains_key(key) {
            part.insert(key.into(), Vec::new());
        }
        let mut is_new = false;
        if let Some(all) = part.get_mut(key) {
            let at = all.iter().position(|followers| followers.db == db).unwrap_or(all.len());
            if at == all.len() {
                all.push(Followers { db, watches: Vec::new(), waiting: BTreeMap::new() });
            }
            is_new = add(&mut all[at]);
        }
        if is_new {
            self.counter(hash).fetch_add(1, Relaxed);
            self.count.fetch_add(1, Relaxed);
        }
        is_new
    }

    fn remove(&self, db: DbIndex, key: &[u8], remove: impl FnOnce(&mut Followers) -> bool) {
        let hash = self.hasher.hash(key);
        let mut part = lock(self.part(hash));
        let Some(all) = part.get_mut(key) else { return };
        let Some(at) = all.iter().position(|followers| followers.db == db) else { return };
        if !remove(&mut all[at]) {
            return;
        }
        if all[at].watches.is_empty() && all[at].waiting.is_empty() {
            all.swap_remove(at);
        }
        if all.is_empty() {
            part.remove(key);
        }
        self.counter(hash).fetch_sub(1, Relaxed);
        self.count.fetch_sub(1, Relaxed);
    }

    fn part(&self, hash: u64) -> &Mutex<Part> {
        &self.parts[hash as usize % PARTS]
    }

    fn counter(&self, hash: u64) -> &AtomicU32 {
        &self.counters[(hash >> 32) as usize % COUNTERS]
    }
}

/// A panic under one of these locks leaves a follower too many or too few, which ends a transaction or wakes a
/// client in vain.
fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: DbIndex = DbIndex(0);
    const ONE: DbIndex = DbIndex(1);

    #[test]
    fn a_change_reaches_the_watches_of_that_key_in_that_database() {
        let followed = Followed::new(Hasher::keyed([1, 2]), 2);
        let (watch, other) = (Arc::new(Watch::default()), Arc::new(Watch::default()));
        assert!(!followed.any() && !followed.change(ZERO, b"k", Event::SET));
        assert!(followed.watch(ZERO, b"k", &watch, false));
        assert!(!followed.watch(ZERO, b"k", &watch, false));
        followed.watch(ONE, b"k", &other, false);
        followed.watch(ZERO, b"j", &other, false);
        assert!(followed.any());
        assert_eq!(followed.keys(), (3, 0));
        assert!(!followed.change(ZERO, b"i", Event::SET));
        assert!(!watch.has_changed() && !other.has_changed());
        assert!(!followed.change(ZERO, b"k", Event::SET));
        assert!(watch.has_changed() && !other.has_changed());
        assert_eq!(followed.keys(), (2, 0));
        followed.unwatch(ZERO, b"k", &watch);
        watch.reset();
        followed.change(ZERO, b"k", Event::SET);
        assert!(!watch.has_changed());
        assert!(followed.change_all(ONE, |key| (key == b"k").then_some(Fate::Gone)).is_empty());
        assert!(other.has_changed());
        followed.unwatch(ONE, b"k", &other);
        followed.unwatch(ZERO, b"j", &other);
        followed.unwatch(ZERO, b"j", &other);
        assert!(!followed.any());
        assert!(followed.counters.iter().all(|counter| counter.load(Relaxed) == 0));
        assert!(followed.parts.iter().all(|part| lock(part).is_empty()));
    }

    #[test]
    fn a_key_that_was_over_may_go_and_no_more() {
        let followed = Followed::new(Hasher::keyed([1, 2]), 2);
        let watch = Arc::new(Watch::default());
        let anew = |sees_over| {
            followed.unwatch(ZERO, b"k", &watch);
            watch.reset();
            followed.watch(ZERO, b"k", &watch, sees_over);
        };
        for (fates, has_changed) in [
            (&[Fate::Gone][..], false),
            (&[Fate::Gone, Fate::Gone], true),
            (&[Fate::Gone, Fate::Changed], true),
            (&[Fate::Changed], true),
            (&[Fate::Over { was_there: true }, Fate::Gone], false),
            (&[Fate::Gone, Fate::Over { was_there: false }, Fate::Gone], false),
            (&[Fate::Gone, Fate::Over { was_there: true }], true),
        ] {
            anew(true);
            for fate in fates {
                followed.change_all(ZERO, |_| Some(*fate));
            }
            assert_eq!(watch.has_changed(), has_changed, "{fates:?}");
        }
        anew(true);
        assert!(followed.sees_over(ZERO, b"k", &watch) && !followed.sees_over(ONE, b"k", &watch));
        followed.change(ZERO, b"k", Event::EXPIRED);
        assert!(!watch.has_changed() && !followed.sees_over(ZERO, b"k", &watch));
        anew(false);
        followed.change(ZERO, b"k", Event::EXPIRED);
        assert!(watch.has_changed());
    }

    #[test]
    fn clients_wait_in_the_order_of_their_places() {
        let followed = Followed::new(Hasher::keyed([1, 2]), 2);
        let waiting = |place, client| Waiting { place, client };
        for (place, client) in [(5, 50), (3, 30), (9, 90)] {
            followed.wait(ZERO, b"k", waiting(place, client));
            followed.wait(ZERO, b"k", waiting(place, client));
        }
        assert!(followed.change(ZERO, b"k", Event::SET));
        assert!(!followed.change(ONE, b"k", Event::SET));
        assert_eq!(followed.next_waiting(ZERO, b"k", 0), Some(waiting(3, 30)));
        assert_eq!(followed.next_waiting(ZERO, b"k", 4), Some(waiting(5, 50)));
        assert_eq!(followed.next_waiting(ZERO, b"k", 10), None);
        assert_eq!(followed.next_waiting(ONE, b"k", 0), None);
        followed.stop_waiting(ZERO, b"k", 3);
        followed.stop_waiting(ZERO, b"k", 3);
        assert_eq!(followed.next_waiting(ZERO, b"k", 0), Some(waiting(5, 50)));
        assert_eq!(followed.change_all(ZERO, |_| Some(Fate::Changed)), [Box::from(&b"k"[..])]);
        assert_eq!(followed.keys(), (0, 1));
        followed.stop_waiting(ZERO, b"k", 5);
        followed.stop_waiting(ZERO, b"k", 9);
        assert!(!followed.any() && !followed.change(ZERO, b"k", Event::SET));
    }
}
