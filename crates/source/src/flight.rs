//! Flights: who fetches a key, and who waits for it.
//!
//! A key that is fetched has one flight. Who misses it joins; whatever changes or drops the key meanwhile *overtakes* the flight: who
//! waits is still given what it brings, since they asked before, but it is not kept, and who asks later begins another.
//! That closes the race in which an old value is kept after it was invalidated (Nishtala et al., *Scaling
//! Memcache at Facebook*, NSDI 2013, section 3.2.1).
//!
//! Beside them stands what is known of keys: that the store has nothing for them, and what names the version of a copy, so that
//! the store need not send it again.
//!
//! Invariants: a flight lands once. At most one flight of a key is not overtaken. Who joins a flight is given back by its landing, or by
//! [`Flights::release`], once. Callers hold the lock of the key's shard while they join, overtake or land, so that
//! "absent" and "fetched" do not change in between; the locks here are taken after it and nothing else under them.

use crate::driver::Validator;
use crate::route::Route;
use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
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

impl FlightKey {
    /// Whether it is one of a route's.
    pub fn is_of(&self, route: &Route) -> bool {
        self.db == route.db && route.pattern.capture(&self.key).is_some()
    }
}

/// A flight's number.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, PartialOrd, Ord)]
pub struct FlightId(pub u64);

/// All flights, and what is known to be absent. `W` is who waits.
#[derive(Debug)]
pub struct Flights<W> {
    parts: Box<[Mutex<Part<W>>]>,
    next: AtomicU64,
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
    /// The flight of each key that is not overtaken.
    current: HashMap<FlightKey, Flight<W>>,
    /// Those that are.
    passed: HashMap<FlightId, Flight<W>>,
    /// Until when keys are known to be absent, in milliseconds, and in which era that was noted.
    absent: HashMap<FlightKey, (u64, u64)>,
    /// What names the versions of copies.
    versions: HashMap<FlightKey, Validator>,
    /// While a route is warmed, the keys that were overtaken since that began.
    overtaken: HashSet<FlightKey>,
}

#[derive(Debug)]
struct Flight<W> {
    id: FlightId,
    route: Arc<Route>,
    began_ms: u64,
    replaces: bool,
    /// The store has not been asked yet.
    is_to_ask: bool,
    waiters: Vec<W>,
}

/// What came of a miss.
#[derive(Debug, Eq, PartialEq)]
pub enum Joined {
    /// A flight began; the caller sees that the store is asked.
    Leads(FlightId),
    /// Another asks already.
    Follows,
    /// The store was asked a moment ago and has nothing.
    Absent,
}

/// A flight that is over.
#[derive(Debug)]
pub struct Landed<W> {
    /// The route of its key.
    pub route: Arc<Route>,
    /// When it began, in milliseconds.
    pub began_ms: u64,
    /// Whether what it brings may be kept.
    pub may_keep: bool,
    /// Whether it was to bring a copy anew that is there, rather than one that was missing.
    pub replaces: bool,
    /// Who waits for it.
    pub waiters: Vec<W>,
}

impl<W> Default for Flights<W> {
    fn default() -> Self {
        let part = || {
            Mutex::new(Part {
                current: HashMap::new(),
                passed: HashMap::new(),
                absent: HashMap::new(),
                versions: HashMap::new(),
                overtaken: HashSet::new(),
            })
        };
        Flights {
            parts: (0..PARTS).map(|_| part()).collect(),
            next: AtomicU64::new(1),
            known: AtomicUsize::new(0),
            versions: AtomicUsize::new(0),
            is_warming: AtomicBool::new(false),
            is_warming_spoilt: AtomicBool::new(false),
            era: AtomicU64::new(0),
        }
    }
}

impl<W> Flights<W> {
    /// Joins the flight of a key that is not there, or begins it. `hash` is the key's.
    pub fn join(&self, key: FlightKey, hash: u64, route: &Arc<Route>, now_ms: u64, waiter: W) -> Joined {
        let mut part = self.part(hash);
        match part.absent.get(&key) {
            Some((until_ms, era)) if *until_ms > now_ms && *era == self.era.load(Relaxed) => {
                return Joined::Absent;
            }
            Some(_) => {
                part.absent.remove(&key);
                self.known.fetch_sub(1, Relaxed);
            }
            None => {}
        }
        if let Some(flight) = part.current.get_mut(&key) {
            flight.waiters.push(waiter);
            return Joined::Follows;
        }
        Joined::Leads(self.begin(&mut part, hash, key, route, now_ms, (false, vec![waiter])))
    }

    /// Begins to fetch a key anew that is there, for `waiter` if somebody waits; nothing to do where that is under way.
    pub fn renew(
        &self,
        key: FlightKey,
        hash: u64,
        route: &Arc<Route>,
        now_ms: u64,
        waiter: Option<W>,
    ) -> Option<FlightId> {
        let mut part = self.part(hash);
        if let Some(flight) = part.current.get_mut(&key) {
            flight.waiters.extend(waiter);
            return None;
        }
        Some(self.begin(&mut part, hash, key, route, now_ms, (true, waiter.into_iter().collect())))
    }

    fn begin(
        &self,
        part: &mut Part<W>,
        hash: u64,
        key: FlightKey,
        route: &Arc<Route>,
        now_ms: u64,
        (replaces, waiters): (bool, Vec<W>),
    ) -> FlightId {
        // The number tells the part, too.
        let id = FlightId(self.next.fetch_add(1, Relaxed) * PARTS as u64 + part_of(hash) as u64);
        let (route, began_ms) = (Arc::clone(route), now_ms);
        part.current.insert(key, Flight { id, route, began_ms, replaces, is_to_ask: false, waiters });
        self.known.fetch_add(1, Relaxed);
        id
    }

    /// Ends a flight, of this key. `None` if it ended before.
    pub fn land(&self, id: FlightId, key: &FlightKey) -> Option<Landed<W>> {
        let mut part = self.part(id.0 % PARTS as u64);
        let may_keep = part.current.get(key).is_some_and(|flight| flight.id == id);
        let flight = if may_keep { part.current.remove(key) } else { part.passed.remove(&id) }?;
        self.known.fetch_sub(1, Relaxed);
        Some(Landed {
            route: flight.route,
            began_ms: flight.began_ms,
            may_keep,
            replaces: flight.replaces,
            waiters: flight.waiters,
        })
    }

    /// A flight, of this key, waits before it has the store asked; or it waits no more.
    pub fn set_to_ask(&self, id: FlightId, key: &FlightKey, is_to_ask: bool) {
        let mut part = self.part(id.0 % PARTS as u64);
        if let Some(flight) = part.current.get_mut(key).filter(|flight| flight.id == id) {
            flight.is_to_ask = is_to_ask;
        }
    }

    /// Gives those back who wait for a flight, of this key, which goes on without them.
    pub fn release(&self, id: FlightId, key: &FlightKey) -> Vec<W> {
        let mut part = self.part(id.0 % PARTS as u64);
        let part = &mut *part;
        let current = part.current.get_mut(key).filter(|flight| flight.id == id);
        let flight = current.or_else(|| part.passed.get_mut(&id));
        flight.map(|flight| std::mem::take(&mut flight.waiters)).unwrap_or_default()
    }

    /// Notes that the store has nothing for a key, until then. It is for the caller to see that no write overtook this.
    pub fn note_absent(&self, key: FlightKey, hash: u64, now_ms: u64, until_ms: u64) {
        if until_ms <= now_ms {
            return;
        }
        let mut part = self.part(hash);
        if part.absent.len() >= ABSENT_MAX {
            let before = part.absent.len();
            let era = self.era.load(Relaxed);
            part.absent.retain(|_, (until, noted)| *until > now_ms && *noted == era);
            while part.absent.len() >= ABSENT_MAX
                && let Some(any) = part.absent.keys().next().cloned()
            {
                part.absent.remove(&any);
            }
            self.known.fetch_sub(before - part.absent.len(), Relaxed);
        }
        if part.absent.insert(key, (until_ms, self.era.load(Relaxed))).is_none() {
            self.known.fetch_add(1, Relaxed);
        }
    }

    /// A change or an invalidation of a key: what is under way will not be kept, and it is not known to be absent.
    pub fn overtake(&self, key: &FlightKey, hash: u64) {
        if self.is_idle() {
            return;
        }
        let mut part = self.part(hash);
        part.forget(key, &self.known, &self.versions);
        self.note_overtaken(&mut part, key);
        part.overtake(key);
    }

    /// Whether a key is known to be absent.
    pub fn is_absent(&self, key: &FlightKey, hash: u64, now_ms: u64) -> bool {
        let era = self.era.load(Relaxed);
        let is_known = |(until_ms, noted): &(u64, u64)| *until_ms > now_ms && *noted == era;
        !self.is_idle() && self.part(hash).absent.get(key).is_some_and(is_known)
    }

    /// Begins to warm: keys that are overtaken from here on are known until the guard is dropped. Nothing if that is under way
    /// already.
    pub fn begin_warming(&self) -> Option<Warming<'_, W>> {
        if self.is_warming.swap(true, Relaxed) {
            return None;
        }
        self.known.fetch_add(1, Relaxed);
        (0..PARTS).for_each(|index| self.part(index as u64).overtaken.clear());
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
        if !self.is_idle() && self.part(hash).absent.remove(key).is_some() {
            self.known.fetch_sub(1, Relaxed);
        }
    }

    /// The same as [`Flights::overtake`] for every key of which `concerns` says yes.
    pub fn overtake_all(&self, concerns: impl FnMut(&FlightKey) -> bool) {
        self.overtake_some(false, concerns);
    }

    /// The same where something changed in the store alone, and queries see it: flights that have not asked it yet will bring it.
    pub fn overtake_asked(&self, concerns: impl FnMut(&FlightKey) -> bool) {
        self.overtake_some(true, concerns);
    }

    fn overtake_some(&self, only_asked: bool, mut concerns: impl FnMut(&FlightKey) -> bool) {
        if self.is_idle() {
            return;
        }
        self.is_warming_spoilt.store(true, Relaxed);
        for index in 0..PARTS {
            let mut part = self.part(index as u64);
            let (absent, versions) = (part.absent.len(), part.versions.len());
            part.absent.retain(|key, _| !concerns(key));
            part.versions.retain(|key, _| !concerns(key));
            let versions = versions - part.versions.len();
            self.known.fetch_sub(absent - part.absent.len() + versions, Relaxed);
            self.versions.fetch_sub(versions, Relaxed);
            overtake_where(&mut part, |key, flight| !(only_asked && flight.is_to_ask) && concerns(key));
        }
    }

    /// The same where much is known of keys: then no key is known to be absent any more, since to look at each would take long.
    /// Versions stay, and are of no use without their copies.
    pub fn invalidate(&self, mut concerns: impl FnMut(&FlightKey) -> bool) {
        if self.known.load(Relaxed) <= JUDGED_MAX {
            return self.overtake_all(concerns);
        }
        self.is_warming_spoilt.store(true, Relaxed);
        self.era.fetch_add(1, Relaxed);
        for index in 0..PARTS {
            let mut part = self.part(index as u64);
            overtake_where(&mut part, |key, _| concerns(key));
        }
    }

    /// Notes what names the version of a copy, or that nothing does.
    pub fn note_version(&self, key: &FlightKey, hash: u64, version: Option<Validator>) {
        if version.is_none() && self.versions.load(Relaxed) == 0 {
            return;
        }
        let mut part = self.part(hash);
        let before = part.versions.len();
        match version {
            None => {
                part.versions.remove(key);
            }
            Some(version) => {
                if before >= VERSIONS_MAX
                    && let Some(any) = part.versions.keys().next().cloned()
                {
                    // Its copy will be sent again, though it may not have changed.
                    part.versions.remove(&any);
                }
                part.versions.insert(key.clone(), version);
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
            let part = self.part(index as u64);
            flights += part.current.len() + part.passed.len();
            let all = part.current.values().chain(part.passed.values());
            waiters += all.map(|flight| flight.waiters.len()).sum::<usize>();
            absent += part.absent.len();
        }
        (flights, waiters, absent)
    }

    fn part(&self, hash: u64) -> MutexGuard<'_, Part<W>> {
        // What it guards is whole between any two statements of this file.
        self.parts[part_of(hash)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn overtake_where<W>(part: &mut Part<W>, mut concerns: impl FnMut(&FlightKey, &Flight<W>) -> bool) {
    let concerned = part.current.iter().filter(|(key, flight)| concerns(key, flight));
    let overtaken: Vec<FlightKey> = concerned.map(|(key, _)| key.clone()).collect();
    overtaken.iter().for_each(|key| part.overtake(key));
}

/// While it lives a route is being warmed.
#[derive(Debug)]
pub struct Warming<'f, W>(&'f Flights<W>);

impl<W> Drop for Warming<'_, W> {
    fn drop(&mut self) {
        let flights = self.0;
        flights.is_warming.store(false, Relaxed);
        flights.known.fetch_sub(1, Relaxed);
        (0..PARTS).for_each(|index| flights.part(index as u64).overtaken = HashSet::new());
    }
}

impl<W> Part<W> {
    /// Forgets what is known of a key.
    fn forget(&mut self, key: &FlightKey, known: &AtomicUsize, versions: &AtomicUsize) {
        let absent = usize::from(self.absent.remove(key).is_some());
        let version = usize::from(self.versions.remove(key).is_some());
        known.fetch_sub(absent + version, Relaxed);
        versions.fetch_sub(version, Relaxed);
    }

    /// What the flight of a key brings is not kept.
    fn overtake(&mut self, key: &FlightKey) {
        if let Some(flight) = self.current.remove(key) {
            self.passed.insert(flight.id, flight);
        }
    }
}

fn part_of(hash: u64) -> usize {
    (hash % PARTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn many_misses_are_one_flight() {
        let (flights, route) = (Flights::default(), route());
        let Joined::Leads(id) = flights.join(key(1), 1, &route, 0, 100) else { panic!("the first leads") };
        for waiter in 101..200 {
            assert_eq!(flights.join(key(1), 1, &route, 0, waiter), Joined::Follows);
        }
        let landed = flights.land(id, &key(1)).expect("its landing");
        assert_eq!((landed.waiters, landed.may_keep), ((100..200).collect(), true));
        assert!(flights.land(id, &key(1)).is_none() && flights.is_idle());
    }

    #[test]
    fn what_is_overtaken_is_given_and_not_kept() {
        let (flights, route) = (Flights::default(), route());
        let Joined::Leads(first) = flights.join(key(1), 1, &route, 0, 1) else { panic!("leads") };
        flights.overtake(&key(1), 1);
        let Joined::Leads(second) = flights.join(key(1), 1, &route, 0, 2) else { panic!("another begins") };
        let landed = flights.land(first, &key(1)).expect("its landing");
        assert_eq!((landed.waiters, landed.may_keep), (vec![1], false));
        assert_eq!(flights.join(key(1), 1, &route, 0, 3), Joined::Follows);
        let landed = flights.land(second, &key(1)).expect("its landing");
        assert_eq!((landed.waiters, landed.may_keep), (vec![2, 3], true));
    }

    #[test]
    fn what_is_yet_to_ask_brings_what_the_store_has_by_then() {
        let (flights, route) = (Flights::default(), route());
        let lead = |id: u8| match flights.join(key(id), u64::from(id), &route, 0, u32::from(id)) {
            Joined::Leads(flight) => flight,
            other => panic!("{other:?}"),
        };
        let (waits, asked, written) = (lead(1), lead(2), lead(3));
        let late = lead(4);
        for (flight, id) in [(waits, 1), (asked, 2), (written, 3), (late, 4)] {
            flights.set_to_ask(flight, &key(id), true);
        }
        flights.set_to_ask(asked, &key(2), false);
        flights.overtake(&key(3), 3);
        flights.overtake_asked(|concerned| *concerned != key(4));
        flights.set_to_ask(late, &key(4), false);
        flights.overtake_asked(|_| true);
        let kept = [(waits, 1), (asked, 2), (written, 3), (late, 4)]
            .map(|(flight, id)| flights.land(flight, &key(id)).expect("its landing").may_keep);
        assert_eq!(kept, [true, false, false, false]);
    }

    #[test]
    fn absence_is_known_for_a_while_and_until_a_change() {
        let (flights, route) = (Flights::default(), route());
        flights.note_absent(key(1), 1, 0, 1000);
        assert_eq!(flights.join(key(1), 1, &route, 999, 1), Joined::Absent);
        flights.overtake(&key(1), 1);
        assert!(matches!(flights.join(key(1), 1, &route, 999, 1), Joined::Leads(_)));
        flights.note_absent(key(2), 2, 0, 1000);
        assert!(matches!(flights.join(key(2), 2, &route, 1000, 1), Joined::Leads(_)));
    }

    #[test]
    fn what_is_known_to_be_absent_is_bounded() {
        let flights: Flights<u32> = Flights::default();
        for number in 0..ABSENT_MAX as u32 + 100 {
            let key = FlightKey { db: 0, key: number.to_le_bytes().into() };
            flights.note_absent(key, 7, 0, 1000);
        }
        assert_eq!(flights.counts(), (0, 0, ABSENT_MAX));
        flights.overtake_all(|_| true);
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
            let Joined::Leads(id) = flights.join(key(1), 1, &route, 0, 1) else { panic!("leads") };
            flights.invalidate(|concerned| *concerned == name(3) || *concerned == key(1));
            assert!(!flights.land(id, &key(1)).expect("its landing").may_keep);
            assert!(matches!(flights.join(name(3), 3, &route, 1, 2), Joined::Leads(_)));
            let is_known = flights.join(name(4), 4, &route, 1, 3) == Joined::Absent;
            assert_eq!(is_known, stays, "{count}");
            // What is noted since is known.
            flights.note_absent(name(5), 5, 1, 1000);
            assert_eq!(flights.join(name(5), 5, &route, 2, 4), Joined::Absent);
        }
    }

    proptest! {
        /// Whatever is done in whatever order: who joined is given back once, and nothing that was overtaken is kept.
        #[test]
        fn everybody_is_answered_once(steps in proptest::collection::vec((0u8..5, 0u8..3), 1..80)) {
            let (flights, route) = (Flights::default(), route());
            let mut joined = Vec::new();
            let mut answered = Vec::new();
            let mut open: Vec<(FlightId, u8, bool)> = Vec::new();
            for (number, (step, id)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => {
                        joined.push(number);
                        if let Joined::Leads(flight) = flights.join(key(id), u64::from(id), &route, 0, number) {
                            prop_assert!(!open.iter().any(|(_, other, overtaken)| *other == id && !overtaken));
                            open.push((flight, id, false));
                        }
                    }
                    2 => {
                        flights.overtake(&key(id), u64::from(id));
                        open.iter_mut().filter(|(_, other, _)| *other == id).for_each(|flight| flight.2 = true);
                    }
                    3 if !open.is_empty() => {
                        let (flight, id, overtaken) = open.remove(usize::from(id) % open.len());
                        let landed = flights.land(flight, &key(id)).expect("it is under way");
                        prop_assert_eq!(landed.may_keep, !overtaken);
                        answered.extend(landed.waiters);
                    }
                    4 if !open.is_empty() => {
                        let (flight, id, _) = open[usize::from(id) % open.len()];
                        answered.extend(flights.release(flight, &key(id)));
                    }
                    _ => {}
                }
            }
            for (flight, id, _) in open {
                answered.extend(flights.land(flight, &key(id)).expect("it is under way").waiters);
            }
            answered.sort_unstable();
            prop_assert_eq!(answered, joined);
            prop_assert!(flights.is_idle());
        }
    }
}
