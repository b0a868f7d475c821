//! Flights: who fetches a key, and who waits for it.
//!
//! A key that is fetched has one flight. Who misses it joins; whatever changes or drops the key meanwhile *overtakes* the flight: who
//! waits is still given what it brings, since they asked before, but it is not kept, and who asks later begins another.
//! That closes the race in which an old value is kept after it was invalidated (Nishtala et al., *Scaling
//! Memcache at Facebook*, NSDI 2013, section 3.2.1).
//!
//! Keys that are missed together are a [`Batch`], and a flight is a place in one: its key, its route and who missed it stand there, once
//! for all. A flight is found by the hash that its key has anyway.
//!
//! Beside them stands what is known of keys: that the store has nothing for them, and what names the version of a copy, so that
//! the store need not send it again.
//!
//! Invariants: a flight lands once. At most one flight of a key is not overtaken. Who joins a flight is given back by its landing, or by
//! [`Flights::release`], once. Callers hold the lock of the key's shard while they join, overtake or land, so that
//! "absent" and "fetched" do not change in between; the locks here are taken after it and nothing else under them.

use crate::batch::Batch;
use crate::driver::Validator;
use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use hashbrown::HashTable;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parts with a lock each.
const PARTS: usize = 64;
/// Keys that are known to be absent, in one part; beyond that old ones are forgotten first.
const ABSENT_MAX: usize = 4096;
/// Keys whose versions are known, in one part.
const VERSIONS_MAX: usize = 4096;
/// Keys that are remembered as overtaken while something is warmed, in one part.
const OVERTAKEN_MAX: usize = 16_384;
/// Flights and absent keys that [`Flights::invalidate`] looks at one by one.
const JUDGED_MAX: usize = 4096;

/// A key in a database.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct FlightKey {
    /// The database.
    pub db: u32,
    /// The key.
    pub key: Box<[u8]>,
}

/// All flights, and what is known to be absent. `W` is who waits.
#[derive(Debug)]
pub struct Flights<W> {
    parts: Box<[Mutex<Part<W>>]>,
    /// Flights, absent keys and versions together: nothing to overtake where there is none.
    known: AtomicUsize,
    /// Of them the versions.
    versions: AtomicUsize,
    /// Whether a route is being warmed.
    is_warming: AtomicBool,
    /// Set when so much was overtaken that what is being warmed cannot be told from what is old.
    is_warming_spoilt: AtomicBool,
    /// What was noted as absent before this many invalidations is not known any more.
    era: AtomicU64,
}

#[derive(Debug)]
struct Part<W> {
    /// The flights that are not overtaken, one of a key at most.
    current: HashTable<Flight<W>>,
    /// Those that are.
    passed: HashTable<Flight<W>>,
    /// Keys that are known to be absent.
    absent: HashTable<Absent>,
    /// What names the versions of copies.
    versions: HashMap<FlightKey, Validator>,
    /// While a route is warmed, the keys that were overtaken since that began.
    overtaken: HashSet<FlightKey>,
}

#[derive(Debug)]
struct Flight<W> {
    /// Where its key stands.
    batch: Arc<Batch<W>>,
    at: u32,
    /// Who waits for its batch waits for it.
    is_awaited: bool,
    replaces: bool,
    /// The store has not been asked yet.
    is_to_ask: bool,
    hash: u64,
    /// Who else waits for it.
    #[expect(
        clippy::box_collection,
        reason = "few flights have any, and there are thousands of flights at a time"
    )]
    others: Option<Box<Vec<W>>>,
}

#[derive(Debug)]
struct Absent {
    hash: u64,
    key: FlightKey,
    /// Until when, in milliseconds, and in which era that was noted.
    until_ms: u64,
    era: u64,
}

/// What came of a miss.
#[derive(Debug, Eq, PartialEq)]
pub enum Joined {
    /// A flight began; the caller sees that the store is asked.
    Leads,
    /// Another asks already.
    Follows,
    /// The store was asked a moment ago and has nothing.
    Absent,
}

/// A flight that is over.
#[derive(Debug)]
pub struct Landed<W> {
    /// Whether what it brings may be kept.
    pub may_keep: bool,
    /// Whether it was to bring a copy anew that is there, rather than one that was missing.
    pub replaces: bool,
    /// Whether who waits for its batch waits for it.
    pub is_awaited: bool,
    /// Who else waits for it.
    pub others: Vec<W>,
}

impl<W> Default for Flights<W> {
    fn default() -> Self {
        let part = || {
            Mutex::new(Part {
                current: HashTable::new(),
                passed: HashTable::new(),
                absent: HashTable::new(),
                versions: HashMap::new(),
                overtaken: HashSet::new(),
            })
        };
        Flights {
            parts: (0..PARTS).map(|_| part()).collect(),
            known: AtomicUsize::new(0),
            versions: AtomicUsize::new(0),
            is_warming: AtomicBool::new(false),
            is_warming_spoilt: AtomicBool::new(false),
            era: AtomicU64::new(0),
        }
    }
}

impl<W: Copy> Flights<W> {
    /// Joins the flight of a key of a batch that is not there, or begins it.
    pub fn join(&self, batch: &Arc<Batch<W>>, at: usize, now_ms: u64) -> Joined {
        let (key, hash) = (batch.key(at), batch.hash(at));
        let mut part = self.part(hash);
        if let Ok(absent) = part.absent.find_entry(hash, |absent| absent.is_of(batch.db(), key)) {
            if absent.get().is_known(now_ms, self.era.load(Relaxed)) {
                return Joined::Absent;
            }
            absent.remove();
            self.known.fetch_sub(1, Relaxed);
        }
        if self.begin(&mut part, batch, at, false) { Joined::Leads } else { Joined::Follows }
    }

    /// Begins to fetch a key of a batch anew that is there; false where that is under way, and who waits for the batch joined it.
    pub fn renew(&self, batch: &Arc<Batch<W>>, at: usize) -> bool {
        self.begin(&mut self.part(batch.hash(at)), batch, at, true)
    }

    fn begin(&self, part: &mut Part<W>, batch: &Arc<Batch<W>>, at: usize, replaces: bool) -> bool {
        let (key, hash) = (batch.key(at), batch.hash(at));
        if let Some(flight) = part.current.find_mut(hash, |flight| flight.is_of(batch.db(), key)) {
            if let Some(waiter) = batch.waiter() {
                flight.others.get_or_insert_default().push(*waiter);
            }
            return false;
        }
        let flight = Flight {
            batch: Arc::clone(batch),
            at: at as u32,
            is_awaited: batch.waiter().is_some(),
            replaces,
            is_to_ask: false,
            hash,
            others: None,
        };
        part.current.insert_unique(hash, flight, |flight| flight.hash);
        self.known.fetch_add(1, Relaxed);
        true
    }

    /// Gives those back who wait for the flight that a key of a batch began, which goes on without them: whether who waits for the
    /// batch did, and who else.
    pub fn release(&self, batch: &Batch<W>, at: usize) -> (bool, Vec<W>) {
        let hash = batch.hash(at);
        let part = &mut *self.part(hash);
        let began = |flight: &Flight<W>| flight.is_at(batch, at);
        let flight = part.current.find_mut(hash, began).or_else(|| part.passed.find_mut(hash, began));
        flight
            .map(|flight| (std::mem::take(&mut flight.is_awaited), flight.take_others()))
            .unwrap_or_default()
    }
}

impl<W> Flights<W> {
    /// Ends the flight that a key of a batch began. `None` if it ended before.
    pub fn land(&self, batch: &Batch<W>, at: usize) -> Option<Landed<W>> {
        let hash = batch.hash(at);
        let part = &mut *self.part(hash);
        let began = |flight: &Flight<W>| flight.is_at(batch, at);
        let (flight, may_keep) = match part.current.find_entry(hash, began) {
            Ok(flight) => (flight, true),
            Err(_) => (part.passed.find_entry(hash, began).ok()?, false),
        };
        let (mut flight, _) = flight.remove();
        self.known.fetch_sub(1, Relaxed);
        let others = flight.take_others();
        Some(Landed { may_keep, replaces: flight.replaces, is_awaited: flight.is_awaited, others })
    }

    /// The flight that a key of a batch began waits before it has the store asked; or it waits no more.
    pub fn set_to_ask(&self, batch: &Batch<W>, at: usize, is_to_ask: bool) {
        let hash = batch.hash(at);
        if let Some(flight) = self.part(hash).current.find_mut(hash, |flight| flight.is_at(batch, at)) {
            flight.is_to_ask = is_to_ask;
        }
    }

    /// Notes that the store has nothing for a key, until then. It is for the caller to see that no write overtook this.
    pub fn note_absent(&self, key: FlightKey, hash: u64, now_ms: u64, until_ms: u64) {
        if until_ms <= now_ms {
            return;
        }
        let mut part = self.part(hash);
        let era = self.era.load(Relaxed);
        if part.absent.len() >= ABSENT_MAX {
            let before = part.absent.len();
            part.absent.retain(|absent| absent.is_known(now_ms, era));
            let mut surplus = (part.absent.len() + 1).saturating_sub(ABSENT_MAX);
            part.absent.retain(|_| {
                let is_surplus = surplus > 0;
                surplus -= usize::from(is_surplus);
                !is_surplus
            });
            self.known.fetch_sub(before - part.absent.len(), Relaxed);
        }
        if let Some(absent) = part.absent.find_mut(hash, |absent| absent.is_of(key.db, &key.key)) {
            (absent.until_ms, absent.era) = (until_ms, era);
            return;
        }
        let absent = Absent { hash, key, until_ms, era };
        part.absent.insert_unique(hash, absent, |absent| absent.hash);
        self.known.fetch_add(1, Relaxed);
    }

    /// A change or an invalidation of a key: what is under way will not be kept, and it is not known to be absent.
    pub fn overtake(&self, key: &FlightKey, hash: u64) {
        if self.is_idle() {
            return;
        }
        let mut part = self.part(hash);
        part.forget(key, hash, &self.known, &self.versions);
        self.note_overtaken(&mut part, key);
        part.overtake(key, hash);
    }

    /// Whether a key is known to be absent.
    pub fn is_absent(&self, key: &FlightKey, hash: u64, now_ms: u64) -> bool {
        let is_of = |absent: &Absent| absent.is_of(key.db, &key.key);
        let era = self.era.load(Relaxed);
        !self.is_idle()
            && self.part(hash).absent.find(hash, is_of).is_some_and(|absent| absent.is_known(now_ms, era))
    }

    /// Begins to warm: keys that are overtaken from here on are known until the guard is dropped. Nothing if that is under way
    /// already.
    pub fn begin_warming(&self) -> Option<Warming<'_, W>> {
        if self.is_warming.swap(true, Relaxed) {
            return None;
        }
        self.known.fetch_add(1, Relaxed);
        (0..PARTS).for_each(|index| self.part_at(index).overtaken.clear());
        self.is_warming_spoilt.store(false, Relaxed);
        Some(Warming(self))
    }

    /// Whether a key may be kept that was read since warming began. Under the lock of its shard.
    pub fn may_warm(&self, key: &FlightKey, hash: u64) -> bool {
        !self.is_warming_spoilt() && !self.part(hash).overtaken.contains(key)
    }

    /// Whether what is being warmed may be old, all of it.
    pub fn is_warming_spoilt(&self) -> bool {
        self.is_warming_spoilt.load(Relaxed)
    }

    fn note_overtaken(&self, part: &mut Part<W>, key: &FlightKey) {
        if !self.is_warming.load(Relaxed) {
            return;
        }
        if part.overtaken.len() >= OVERTAKEN_MAX {
            self.is_warming_spoilt.store(true, Relaxed);
        } else {
            part.overtaken.insert(key.clone());
        }
    }

    /// Forgets that a key is known to be absent, where that is not to be relied on.
    pub fn forget_absent(&self, key: &FlightKey, hash: u64) {
        if !self.is_idle() && self.part(hash).forget_absent(key, hash) {
            self.known.fetch_sub(1, Relaxed);
        }
    }

    /// The same as [`Flights::overtake`] for every key of which `concerns` says yes.
    pub fn overtake_all(&self, concerns: impl FnMut(u32, &[u8]) -> bool) {
        self.overtake_some(false, concerns);
    }

    /// The same where something changed in the store alone, and queries see it: flights that have not asked it yet will bring it.
    pub fn overtake_asked(&self, concerns: impl FnMut(u32, &[u8]) -> bool) {
        self.overtake_some(true, concerns);
    }

    fn overtake_some(&self, only_asked: bool, mut concerns: impl FnMut(u32, &[u8]) -> bool) {
        if self.is_idle() {
            return;
        }
        self.is_warming_spoilt.store(true, Relaxed);
        for index in 0..PARTS {
            let mut part = self.part_at(index);
            let (absent, versions) = (part.absent.len(), part.versions.len());
            part.absent.retain(|absent| !concerns(absent.key.db, &absent.key.key));
            part.versions.retain(|key, _| !concerns(key.db, &key.key));
            let versions = versions - part.versions.len();
            self.known.fetch_sub(absent - part.absent.len() + versions, Relaxed);
            self.versions.fetch_sub(versions, Relaxed);
            part.overtake_where(|flight| {
                !(only_asked && flight.is_to_ask) && concerns(flight.batch.db(), flight.key())
            });
        }
    }

    /// The same where much is known of keys: then no key is known to be absent any more, since to look at each would take long.
    /// Versions stay, and are of no use without their copies.
    pub fn invalidate(&self, mut concerns: impl FnMut(u32, &[u8]) -> bool) {
        if self.known.load(Relaxed) <= JUDGED_MAX {
            return self.overtake_all(concerns);
        }
        self.is_warming_spoilt.store(true, Relaxed);
        self.era.fetch_add(1, Relaxed);
        for index in 0..PARTS {
            let mut part = self.part_at(index);
            part.overtake_where(|flight| concerns(flight.batch.db(), flight.key()));
        }
    }

    /// Notes what names the version of a copy, or that nothing does.
    pub fn note_version(&self, db: u32, key: &[u8], hash: u64, version: Option<Validator>) {
        if version.is_none() && self.versions.load(Relaxed) == 0 {
            return;
        }
        let key = FlightKey { db, key: key.into() };
        let mut part = self.part(hash);
        let before = part.versions.len();
        match version {
            None => {
                part.versions.remove(&key);
            }
            Some(version) => {
                if before >= VERSIONS_MAX
                    && let Some(any) = part.versions.keys().next().cloned()
                {
                    // Its copy will be sent again, though it may not have changed.
                    part.versions.remove(&any);
                }
                part.versions.insert(key, version);
            }
        }
        let after = part.versions.len();
        self.known.fetch_add(after.saturating_sub(before), Relaxed);
        self.known.fetch_sub(before.saturating_sub(after), Relaxed);
        self.versions.fetch_add(after.saturating_sub(before), Relaxed);
        self.versions.fetch_sub(before.saturating_sub(after), Relaxed);
    }

    /// What names the version of a copy. It is for the caller to know that there is one.
    pub fn version(&self, key: &FlightKey, hash: u64) -> Option<Validator> {
        if self.versions.load(Relaxed) == 0 {
            return None;
        }
        self.part(hash).versions.get(key).cloned()
    }

    /// Whether nothing is under way and nothing known. One load.
    pub fn is_idle(&self) -> bool {
        self.known.load(Relaxed) == 0
    }

    /// Flights under way, those who wait for them, and keys known to be absent.
    pub fn counts(&self) -> (usize, usize, usize) {
        let (mut flights, mut waiters, mut absent) = (0, 0, 0);
        for index in 0..PARTS {
            let part = self.part_at(index);
            flights += part.current.len() + part.passed.len();
            let all = part.current.iter().chain(part.passed.iter());
            waiters += all.map(Flight::waiters).sum::<usize>();
            absent += part.absent.len();
        }
        (flights, waiters, absent)
    }

    fn part(&self, hash: u64) -> MutexGuard<'_, Part<W>> {
        self.part_at(part_of(hash))
    }

    fn part_at(&self, index: usize) -> MutexGuard<'_, Part<W>> {
        // What it guards is whole between any two statements of this file.
        self.parts[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives a route is being warmed.
#[derive(Debug)]
pub struct Warming<'f, W>(&'f Flights<W>);

impl<W> Drop for Warming<'_, W> {
    fn drop(&mut self) {
        let flights = self.0;
        flights.is_warming.store(false, Relaxed);
        flights.known.fetch_sub(1, Relaxed);
        (0..PARTS).for_each(|index| flights.part_at(index).overtaken = HashSet::new());
    }
}

impl<W> Flight<W> {
    fn key(&self) -> &[u8] {
        self.batch.key(self.at as usize)
    }

    /// Whether it is of this key.
    fn is_of(&self, db: u32, key: &[u8]) -> bool {
        self.batch.db() == db && self.key() == key
    }

    /// Whether this place in a batch began it.
    fn is_at(&self, batch: &Batch<W>, at: usize) -> bool {
        self.at as usize == at && std::ptr::eq(&raw const *self.batch, batch)
    }

    fn waiters(&self) -> usize {
        usize::from(self.is_awaited) + self.others.as_ref().map_or(0, |others| others.len())
    }

    fn take_others(&mut self) -> Vec<W> {
        self.others.take().map(|others| *others).unwrap_or_default()
    }
}

impl Absent {
    fn is_of(&self, db: u32, key: &[u8]) -> bool {
        self.key.db == db && *self.key.key == *key
    }

    fn is_known(&self, now_ms: u64, era: u64) -> bool {
        self.until_ms > now_ms && self.era == era
    }
}

impl<W> Part<W> {
    /// Forgets what is known of a key.
    fn forget(&mut self, key: &FlightKey, hash: u64, known: &AtomicUsize, versions: &AtomicUsize) {
        let absent = usize::from(self.forget_absent(key, hash));
        let version = usize::from(self.versions.remove(key).is_some());
        known.fetch_sub(absent + version, Relaxed);
        versions.fetch_sub(version, Relaxed);
    }

    /// Forgets that a key is absent; whether that was known.
    fn forget_absent(&mut self, key: &FlightKey, hash: u64) -> bool {
        let found = self.absent.find_entry(hash, |absent| absent.is_of(key.db, &key.key));
        found.map(|absent| absent.remove()).is_ok()
    }

    /// What the flight of a key brings is not kept.
    fn overtake(&mut self, key: &FlightKey, hash: u64) {
        if let Ok(flight) = self.current.find_entry(hash, |flight| flight.is_of(key.db, &key.key)) {
            let (flight, _) = flight.remove();
            self.passed.insert_unique(hash, flight, |flight| flight.hash);
        }
    }

    /// The same for every flight of which `concerns` says yes.
    fn overtake_where(&mut self, mut concerns: impl FnMut(&Flight<W>) -> bool) {
        for flight in self.current.extract_if(|flight| concerns(flight)) {
            self.passed.insert_unique(flight.hash, flight, |flight| flight.hash);
        }
    }
}

fn part_of(hash: u64) -> usize {
    // Other bits than those by which the tables of a part tell keys apart.
    ((hash >> 32) % PARTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Keys;
    use crate::route::Route;
    use crate::template::Language;
    use proptest::prelude::*;

    fn route() -> Arc<Route> {
        let line = ["k:<id>", "s", "as", "string", "query", "SELECT 1"];
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        Arc::new(Route::parse(&words, |_| Some(Language::Sql)).expect("a route"))
    }

    fn key(id: u8) -> FlightKey {
        FlightKey { db: 0, key: vec![id].into() }
    }

    /// A batch of one key.
    fn batch(id: u8, route: &Arc<Route>, waiter: u32) -> Arc<Batch<u32>> {
        Arc::new(Batch::new(Arc::clone(route), Keys::one(&key(id).key, u64::from(id)), Some(waiter)))
    }

    /// Has somebody miss a key.
    fn join(flights: &Flights<u32>, id: u8, route: &Arc<Route>, now_ms: u64, waiter: u32) -> Joined {
        flights.join(&batch(id, route, waiter), 0, now_ms)
    }

    /// The batch of a key, whose flight begins.
    fn lead(flights: &Flights<u32>, id: u8, route: &Arc<Route>, waiter: u32) -> Arc<Batch<u32>> {
        let batch = batch(id, route, waiter);
        assert_eq!(flights.join(&batch, 0, 0), Joined::Leads);
        batch
    }

    /// All who wait for a flight that ends, and whether what it brings is kept.
    fn land(flights: &Flights<u32>, batch: &Batch<u32>) -> (Vec<u32>, bool) {
        let landed = flights.land(batch, 0).expect("its landing");
        let first = batch.waiter().copied().filter(|_| landed.is_awaited);
        (first.into_iter().chain(landed.others).collect(), landed.may_keep)
    }

    #[test]
    fn many_misses_are_one_flight() {
        let (flights, route) = (Flights::default(), route());
        let first = lead(&flights, 1, &route, 100);
        for waiter in 101..200 {
            assert_eq!(join(&flights, 1, &route, 0, waiter), Joined::Follows);
        }
        assert_eq!(flights.counts(), (1, 100, 0));
        assert_eq!(land(&flights, &first), ((100..200).collect(), true));
        assert!(flights.land(&first, 0).is_none() && flights.is_idle());
    }

    #[test]
    fn a_batch_has_a_flight_for_each_of_its_keys() {
        let (flights, route) = (Flights::default(), route());
        let mut keys = Keys::default();
        (1..=3u8).for_each(|id| keys.push(&key(id).key, u64::from(id)));
        // The same key once more.
        keys.push(&key(2).key, 2);
        let all = Arc::new(Batch::new(Arc::clone(&route), keys, Some(7)));
        lead(&flights, 3, &route, 8);
        let joined = [0, 1, 2, 3].map(|at| flights.join(&all, at, 0));
        assert_eq!(joined, [Joined::Leads, Joined::Leads, Joined::Follows, Joined::Follows]);
        flights.overtake(&key(1), 1);
        let landed = [0, 1, 2, 3].map(|at| flights.land(&all, at).map(|landed| landed.may_keep));
        assert_eq!(landed, [Some(false), Some(true), None, None]);
    }

    #[test]
    fn what_is_overtaken_is_given_and_not_kept() {
        let (flights, route) = (Flights::default(), route());
        let first = lead(&flights, 1, &route, 1);
        flights.overtake(&key(1), 1);
        let second = lead(&flights, 1, &route, 2);
        assert_eq!(land(&flights, &first), (vec![1], false));
        assert_eq!(join(&flights, 1, &route, 0, 3), Joined::Follows);
        assert_eq!(land(&flights, &second), (vec![2, 3], true));
    }

    #[test]
    fn what_is_yet_to_ask_brings_what_the_store_has_by_then() {
        let (flights, route) = (Flights::default(), route());
        let lead = |id: u8| lead(&flights, id, &route, u32::from(id));
        let (waits, asked, written) = (lead(1), lead(2), lead(3));
        let late = lead(4);
        for flight in [&waits, &asked, &written, &late] {
            flights.set_to_ask(flight, 0, true);
        }
        flights.set_to_ask(&asked, 0, false);
        flights.overtake(&key(3), 3);
        flights.overtake_asked(|_, concerned| *concerned != *key(4).key);
        flights.set_to_ask(&late, 0, false);
        flights.overtake_asked(|_, _| true);
        let kept = [waits, asked, written, late].map(|flight| land(&flights, &flight).1);
        assert_eq!(kept, [true, false, false, false]);
    }

    #[test]
    fn absence_is_known_for_a_while_and_until_a_change() {
        let (flights, route) = (Flights::default(), route());
        flights.note_absent(key(1), 1, 0, 1000);
        assert_eq!(join(&flights, 1, &route, 999, 1), Joined::Absent);
        flights.overtake(&key(1), 1);
        assert!(matches!(join(&flights, 1, &route, 999, 1), Joined::Leads));
        flights.note_absent(key(2), 2, 0, 1000);
        assert!(matches!(join(&flights, 2, &route, 1000, 1), Joined::Leads));
    }

    #[test]
    fn what_is_known_to_be_absent_is_bounded() {
        let flights: Flights<u32> = Flights::default();
        for number in 0..ABSENT_MAX as u32 + 100 {
            let key = FlightKey { db: 0, key: number.to_le_bytes().into() };
            flights.note_absent(key, 7, 0, 1000);
        }
        assert_eq!(flights.counts(), (0, 0, ABSENT_MAX));
        flights.overtake_all(|_, _| true);
        assert!(flights.is_idle());
    }

    #[test]
    fn an_invalidation_forgets_absence_one_by_one_or_all_at_once() {
        for (count, stays) in [(100u32, true), (JUDGED_MAX as u32 + 1, false)] {
            let (flights, route) = (Flights::default(), route());
            let name = |number: u32| FlightKey { db: 0, key: number.to_le_bytes().into() };
            for number in 0..count {
                flights.note_absent(name(number), u64::from(number), 0, 1000);
            }
            let flight = lead(&flights, 1, &route, 1);
            flights.invalidate(|_, concerned| *concerned == *name(3).key || *concerned == *key(1).key);
            assert!(!land(&flights, &flight).1);
            let join = |id: u32, now_ms| {
                let keys = Keys::one(&name(id).key, u64::from(id));
                flights.join(&Arc::new(Batch::new(Arc::clone(&route), keys, Some(2))), 0, now_ms)
            };
            assert_eq!(join(3, 1), Joined::Leads);
            assert_eq!(join(4, 1) == Joined::Absent, stays, "{count}");
            // What is noted since is known.
            flights.note_absent(name(5), 5, 1, 1000);
            assert_eq!(join(5, 2), Joined::Absent);
        }
    }

    proptest! {
        /// Whatever is done in whatever order: who joined is given back once, and nothing that was overtaken is kept.
        #[test]
        fn everybody_is_answered_once(steps in proptest::collection::vec((0u8..5, 0u8..3), 1..80)) {
            let (flights, route) = (Flights::default(), route());
            let mut joined = Vec::new();
            let mut answered = Vec::new();
            let mut open: Vec<(Arc<Batch<u32>>, u8, bool)> = Vec::new();
            for (number, (step, id)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => {
                        let flight = batch(id, &route, number as u32);
                        joined.push(number as u32);
                        if flights.join(&flight, 0, 0) == Joined::Leads {
                            prop_assert!(!open.iter().any(|(_, other, overtaken)| *other == id && !overtaken));
                            open.push((flight, id, false));
                        }
                    }
                    2 => {
                        flights.overtake(&key(id), u64::from(id));
                        open.iter_mut().filter(|(_, other, _)| *other == id).for_each(|flight| flight.2 = true);
                    }
                    3 if !open.is_empty() => {
                        let (flight, _, overtaken) = open.remove(usize::from(id) % open.len());
                        let (waiters, may_keep) = land(&flights, &flight);
                        prop_assert_eq!(may_keep, !overtaken);
                        answered.extend(waiters);
                    }
                    4 if !open.is_empty() => {
                        let (flight, ..) = &open[usize::from(id) % open.len()];
                        let (is_awaited, others) = flights.release(flight, 0);
                        answered.extend(flight.waiter().filter(|_| is_awaited).into_iter().chain(&others));
                    }
                    _ => {}
                }
            }
            for (flight, ..) in open {
                answered.extend(land(&flights, &flight).0);
            }
            answered.sort_unstable();
            prop_assert_eq!(answered, joined);
            prop_assert!(flights.is_idle());
        }
    }
}
