//! What a read did not find, or found too old, is fetched from its source; the connection is parked meanwhile, and asked again.
//!
//! A command runs first and is looked at afterwards: the store's lookups note what is missing (`Unfound`), so that a hit
//! costs nothing. A read that missed has changed nothing, so its reply is dropped and it runs again once everything it misses is
//! there. What was brought and is not in the keyspace by then (it was overtaken, or there is no room) is lent to that one
//! run: put under its key and taken away again under the same locks, seen by nobody else.
//!
//! Read next: `landing.rs`, where what was fetched is kept; `through/mod.rs` for the whole.

use super::behind::keep_queued;
use super::exec::{lend, places};
use super::fields::writes_fields;
use super::settle::settle;
use super::{Core, Outcome, lock_one};
use crate::connection::{Connection, Parked};
use crate::registry::{Fetches, Row};
use crate::through::{BATCH_KEYS_MAX, Brought, Given, Leads, Loading, Waiting, fetch, keep, laid_over};
use larder_commands::Args;
use larder_resp::{Output, Reply};
use larder_source::freshness::{self, Age};
use larder_source::{Batch, FlightKey, Joined, Keys, Route};
use larder_store::{Db, DbIndex, Expire, Hashed, Millis};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Keys of one route that somebody is to wait for.
pub(super) struct Wanted {
    pub(super) route: Arc<Route>,
    keys: Keys,
    /// Which are there, and too old.
    are_old: Vec<bool>,
}

impl Wanted {
    /// One key. `is_old`: it is there, and too old.
    pub(super) fn one(route: &Arc<Route>, key: &[u8], hash: u64, is_old: bool) -> Wanted {
        Wanted { route: Arc::clone(route), keys: Keys::one(key, hash), are_old: vec![is_old] }
    }

    fn push(&mut self, key: &[u8], hash: u64, is_old: bool) {
        self.keys.push(key, hash);
        self.are_old.push(is_old);
    }
}

/// A key in a database.
type Place = (DbIndex, Box<[u8]>);

/// What came of joining flights.
pub(super) enum Waits {
    /// Nothing to wait for: the store has nothing, or the reply is right as it is.
    No,
    /// The connection is parked.
    Yes,
    /// A key is locked, or has come meanwhile: to be asked again at once.
    Again,
}

/// What a connection has joined of what it is to wait for.
struct Joining {
    waiting: Waiting,
    /// Flights that it waits for.
    left: usize,
    /// Whether something is to be asked again at once.
    again: bool,
}

impl Core {
    /// Notes how close to their ends copies need a look at present. Some times a second.
    pub fn look_after_routes(&mut self) {
        let is_bypassed = self.server.through.is_any_bypassed(&self.routes, self.local.now.0);
        self.local.unfound.ahead_ms = if is_bypassed { u64::MAX } else { self.routes.attention_ms() };
    }

    /// Whether something that the command at hand did not find is to be fetched before it is answered. The short way: the
    /// command then runs again the long way.
    #[cold]
    pub(super) fn must_fetch(&mut self, row: &Row) -> bool {
        self.sort_unfound(row, None, |_| ());
        let must = !self.wanted.is_empty();
        self.wanted.clear();
        must
    }

    /// Turns what was noted into what is wanted; old copies that may be given meanwhile are fetched anew on the way. `full` is called
    /// when as much is wanted as goes into one query.
    fn sort_unfound(&mut self, row: &Row, settled: Option<&Loading>, mut full: impl FnMut(&mut Core)) {
        let mut noted = std::mem::take(&mut self.local.unfound.keys);
        if row.fetches != Fetches::No {
            for (db, key, end) in noted.iter() {
                self.sort_one(row, settled, (db, key, end));
                if self.wanted.last().is_some_and(|wanted| wanted.keys.len() >= BATCH_KEYS_MAX) {
                    full(self);
                }
            }
        }
        noted.clear();
        // The memory is used again.
        self.local.unfound.keys = noted;
    }

    fn sort_one(
        &mut self,
        row: &Row,
        settled: Option<&Loading>,
        (db, key, end): (DbIndex, &[u8], Option<Millis>),
    ) {
        if settled.is_some_and(|loading| loading.settles(&(db, key.into()), end.is_some())) {
            return;
        }
        let Some(route) = self.routes.find(db.0, key) else { return };
        // A key whose words are not of their types is a plain miss.
        if row.fetches == Fetches::IfAsked && !route.exists_loads || !route.has_words(key) {
            return;
        }
        let hash = self.server.keyspace.hash(key);
        let Some(end) = end else {
            if self.server.through.is_bypassed(route, self.local.now.0) {
                let key = FlightKey { db: db.0, key: key.into() };
                self.server.through.flights.forget_absent(&key, hash);
            }
            want(&mut self.wanted, route, key, hash, false);
            return;
        };
        if self.server.through.queued(route, db.0, key).is_some() {
            // The copy is what was written; the store is older.
            return;
        }
        let route = Arc::clone(route);
        match self.age_of(&route, end) {
            Age::Fresh => {}
            Age::Renew => self.renew(&route, key, hash),
            Age::Old => want(&mut self.wanted, &route, key, hash, true),
        }
    }

    pub(super) fn age_of(&mut self, route: &Route, end: Millis) -> Age {
        if self.server.through.is_bypassed(route, self.local.now.0) {
            return Age::Old;
        }
        let random = self.local.random();
        let age = freshness::age(route, self.local.now.0, end.0, route.stats.recent_ms(), random);
        if age == Age::Renew && end.0.saturating_sub(route.grace().as_millis() as u64) <= self.local.now.0 {
            route.stats.stale.fetch_add(1, Relaxed);
        }
        age
    }

    /// Has a copy that is there fetched anew; nobody waits for it.
    pub(super) fn renew(&mut self, route: &Arc<Route>, key: &[u8], hash: u64) {
        let flights = &self.server.through.flights;
        let batch = Arc::new(Batch::new(Arc::clone(route), Keys::one(key, hash), None));
        let validator = flights.version(&FlightKey { db: route.db, key: key.into() }, hash);
        if flights.renew(&batch, 0) {
            route.stats.renewed.fetch_add(1, Relaxed);
            let mut leads = Leads::none(&batch);
            leads.add(0, validator, self.server.through.queued_change(route, route.db, key));
            fetch(self.server, self.id, leads);
        }
    }

    /// Has a key fetched anew, whether there is a copy or not. False where no route has it.
    pub fn refresh(&mut self, db: DbIndex, key: &[u8]) -> bool {
        let Some(route) = self.routes.find(db.0, key).cloned() else { return false };
        if !route.has_words(key) {
            return false;
        }
        // What is under way may have been asked before the change that the client knows of.
        let hash = self.server.keyspace.hash(key);
        self.server.through.flights.overtake(&FlightKey { db: db.0, key: key.into() }, hash);
        self.renew(&route, key, hash);
        true
    }

    /// After a command ran that did not find something: what becomes of it, unless its reply stands.
    #[cold]
    pub(super) fn after_unfound(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: &'static Row,
        args: &Args<'_>,
        hash: u64,
    ) -> Option<Outcome> {
        if !conn.loads || conn.is_in_exec || conn.transaction.is_some() || row.fetches == Fetches::No {
            self.local.unfound.keys.clear();
            return None;
        }
        let mark = self.mark;
        let (missing, refused) = match &mut conn.loading {
            Some(loading) => {
                loading.sort();
                self.missing()
            }
            None => (Vec::new(), Vec::new()),
        };
        match self.join_unfound(conn, row) {
            Waits::No => {}
            Waits::Yes => {
                out.truncate(mark);
                return Some(Outcome::Later);
            }
            Waits::Again => {
                out.truncate(mark);
                conn.parked = Some(Parked::Busy);
                return Some(Outcome::Later);
            }
        }
        let loading = conn.loading.as_deref()?;
        let brought = |place: &Place| loading.brought(place);
        let refused: Vec<Given> = refused.iter().filter_map(brought).collect();
        let brought: Vec<Given> = missing.iter().filter_map(brought).collect();
        let failure = brought.iter().chain(&refused).find_map(|brought| match &**brought {
            Brought::Failure(Some(text)) | Brought::Late(text) => Some(text.clone()),
            _ => None,
        });
        if let Some(text) = failure {
            out.truncate(mark);
            self.answer_failure(conn, out, row, text.as_bytes());
            return None;
        }
        if brought.iter().any(|brought| matches!(**brought, Brought::Value(_))) {
            return self.run_with_lent(conn, out, row, args, hash);
        }
        None
    }

    /// Of what was noted, the keys that are not there; and those whose copies are not to be given even if the store does not
    /// answer.
    fn missing(&self) -> (Vec<Place>, Vec<Place>) {
        let noted = self.local.unfound.keys.iter();
        let (missing, there): (Vec<_>, Vec<_>) = noted.partition(|(.., end)| end.is_none());
        let is_refused =
            |db: DbIndex, key: &[u8]| self.routes.find(db.0, key).is_some_and(|route| self.is_refused(route));
        let place = |(db, key, _): (DbIndex, &[u8], Option<Millis>)| (db, key.into());
        let refused = there.into_iter().filter(|(db, key, _)| is_refused(*db, key)).map(place).collect();
        (missing.into_iter().map(place).collect(), refused)
    }

    /// Answers an error that stands for the command itself, and counts it.
    pub(super) fn answer_failure(&self, conn: &Connection, out: &mut Output, row: &Row, text: &[u8]) {
        self.stats.by_command[row.id].failed.add(1);
        self.count_error(text);
        Reply::new(out, conn.protocol).error(text);
    }

    /// Whether copies of a route are not to be given even if the store does not answer: nobody knows how old they are.
    pub fn is_refused(&self, route: &Route) -> bool {
        route.stale_if_error.is_zero() && self.server.through.is_bypassed(route, self.local.now.0)
    }

    /// Joins the flights of all that a command did not find, and parks the connection for them. Where there are many, the store is asked
    /// for the first while the others are looked at.
    fn join_unfound(&mut self, conn: &mut Connection, row: &Row) -> Waits {
        let Some(loading) = conn.loading.take() else {
            let mut joining = None;
            self.sort_unfound(row, None, |core| core.join_more(conn, &mut joining));
            return self.join_rest(conn, joining);
        };
        // What was brought is not added to while it is looked at.
        self.sort_unfound(row, Some(&loading), |_| ());
        conn.loading = Some(loading);
        self.join_wanted(conn)
    }

    /// Joins the flights of all that is wanted, and parks the connection for them.
    pub(super) fn join_wanted(&mut self, conn: &mut Connection) -> Waits {
        self.join_rest(conn, None)
    }

    /// Joins the flights of what is wanted so far.
    fn join_more(&mut self, conn: &mut Connection, joining: &mut Option<Joining>) {
        let wanted = std::mem::take(&mut self.wanted);
        let has_room = self.has_room_for_queued(&wanted);
        for Wanted { route, keys, are_old } in wanted {
            let joining = joining.get_or_insert_with(|| {
                let ticket = self.server.next_ticket();
                let waiting = Waiting { worker: self.id, client: conn.client.id, ticket };
                Joining { waiting, left: 0, again: false }
            });
            let batch = Arc::new(Batch::new(route, keys, Some(joining.waiting)));
            let (count, is_again) = self.join_batch(conn, &batch, &are_old, has_room);
            joining.left += count;
            joining.again |= is_again;
        }
    }

    /// Joins the last of them, and parks the connection for all.
    fn join_rest(&mut self, conn: &mut Connection, mut joining: Option<Joining>) -> Waits {
        self.join_more(conn, &mut joining);
        let Some(Joining { waiting, left, again }) = joining else { return Waits::No };
        if left == 0 {
            return if again { Waits::Again } else { Waits::No };
        }
        let loading = conn.loading.get_or_insert_default();
        (loading.ticket, loading.left) = (waiting.ticket, left);
        conn.parked = Some(Parked::Load(waiting.ticket));
        conn.client.parked.store(true, Relaxed);
        Waits::Yes
    }

    /// Joins the flights of the keys of a batch, and has the store asked for those that it begins: for how many there is something to
    /// wait for, and whether any is to be asked again at once.
    fn join_batch(
        &mut self,
        conn: &mut Connection,
        batch: &Arc<Batch<Waiting>>,
        are_old: &[bool],
        has_room: bool,
    ) -> (usize, bool) {
        let mut leads = Leads::none(batch);
        let (mut followed, mut negative, mut again) = (0, 0, false);
        let (route, db, now) = (batch.route(), DbIndex(batch.db()), self.local.now.0);
        let mut misses = 0;
        for (at, is_old) in are_old.iter().enumerate() {
            let hashed = Hashed { bytes: batch.key(at), hash: batch.hash(at) };
            // Under the lock, so that what lands meanwhile is either seen here or still in the air.
            let Some(locked) = lock_one(self.server.keyspace.open(db), hashed.hash) else {
                again = true;
                continue;
            };
            let mut keys = Db::new(&self.server.keyspace, db, locked, &mut self.local);
            keys.settle(&hashed, false);
            let is_there = keys.exists(&hashed);
            if is_there && !is_old {
                again = true;
                continue;
            }
            let queued = self.server.through.queued_change(route, db.0, hashed.bytes);
            if let Some(change) = queued.as_ref().filter(|change| change.is_whole()) {
                let queued = laid_over(change, Brought::Nothing);
                if has_room && !is_there {
                    keep_queued(&mut keys, &hashed, &queued, route, &self.limits);
                }
                // Also where it is not kept the command is given it.
                conn.loading.get_or_insert_default().add(db, hashed.bytes.into(), Arc::new(queued));
                again = true;
                continue;
            }
            let flights = &self.server.through.flights;
            let (joined, validator) = if is_there {
                let version = flights.version(&FlightKey { db: db.0, key: hashed.bytes.into() }, hashed.hash);
                (if flights.renew(batch, at) { Joined::Leads } else { Joined::Follows }, version)
            } else {
                misses += 1;
                (flights.join(batch, at, now), None)
            };
            drop(keys);
            match joined {
                Joined::Leads => leads.add(at as u32, validator, queued),
                Joined::Follows => followed += 1,
                Joined::Absent => negative += 1,
            }
        }
        route.stats.misses.fetch_add(misses, Relaxed);
        route.stats.coalesced.fetch_add(followed, Relaxed);
        route.stats.negative.fetch_add(negative, Relaxed);
        let left = leads.places.len() + followed as usize;
        fetch(self.server, self.id, leads);
        (left, again)
    }

    /// Runs a command on values that were brought for it and are not kept.
    fn run_with_lent(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: &'static Row,
        args: &Args<'_>,
        hash: u64,
    ) -> Option<Outcome> {
        out.truncate(self.mark);
        let keyspace = &self.server.keyspace;
        self.places.clear();
        self.places.extend(places(keyspace, conn.db, row, args, hash));
        let Some(mut held) = self.hold() else {
            conn.parked = Some(Parked::Busy);
            return Some(Outcome::Later);
        };
        let settles = std::mem::replace(&mut self.local.settles, false);
        if settles {
            // Now, since what is lent is not to be taken away by an invalidation that comes after it was fetched.
            let locked = lend(&mut held, keyspace, conn.db, row, args, hash);
            settle(&mut Db::new(keyspace, conn.db, locked, &mut self.local), row, args, hash);
        }
        // Sorted by who looked for what was brought.
        let loading = conn.loading.take();
        let mut lent: Vec<(DbIndex, Box<[u8]>, u64)> = Vec::new();
        for ((db, key), value) in loading.iter().flat_map(|loading| loading.all()) {
            let Brought::Value(value) = &**value else { continue };
            let hashed = Hashed { bytes: key, hash: keyspace.hash(key) };
            let place = keyspace.place(*db, hashed.hash);
            if !self.places.contains(&place) {
                continue;
            }
            let mut keys = Db::new(keyspace, *db, held.lend_one(place), &mut self.local);
            if !keys.exists(&hashed) {
                keep(&mut keys, &hashed, value, Expire::Clear, &self.limits);
                lent.push((*db, key.clone(), hashed.hash));
            }
        }
        conn.loading = loading;
        self.local.unfound.is_on = false;
        let result = self.dispatch(conn, out, row, args, hash, Some(&mut held));
        self.local.unfound.is_on = true;
        for (db, key, hash) in &lent {
            let locked = held.lend_one(keyspace.place(*db, *hash));
            Db::new(keyspace, *db, locked, &mut self.local).remove(&Hashed { bytes: key, hash: *hash });
        }
        self.local.settles = settles;
        if let Err(error) = result {
            out.truncate(self.mark);
            self.answer_failure(conn, out, row, error.text());
        }
        None
    }

    /// Before EXEC: has what its reads, and the keys of its scripts, will miss fetched. A value that is not kept is a plain miss then.
    pub(super) fn fetch_for_exec(&mut self, conn: &mut Connection) -> Option<Outcome> {
        let transaction = conn.transaction.take()?;
        let mut keys: Vec<Box<[u8]>> = Vec::new();
        for (row, args, _) in transaction.commands() {
            if row.fetches == Fetches::Yes || is_script(row) || writes_fields(row) {
                let all = larder_commands::keys_of(row.spec, &args).unwrap_or_default();
                keys.extend(all.iter().map(|key| Box::from(args.get(key.index as usize))));
            }
        }
        conn.transaction = Some(transaction);
        self.fetch_before(conn, keys)
    }

    /// Before a script: has the keys that it declares, and that are not there, fetched. As for EXEC.
    pub(super) fn fetch_for_script(
        &mut self,
        conn: &mut Connection,
        row: &Row,
        args: &Args<'_>,
    ) -> Option<Outcome> {
        let keys = larder_commands::keys_of(row.spec, args).unwrap_or_default();
        let keys = keys.iter().map(|key| Box::from(args.get(key.index as usize))).collect();
        let waits = self.fetch_before(conn, keys);
        if waits.is_none() {
            conn.loading = None;
        }
        waits
    }

    /// Has those of some keys fetched that a route covers and that are not there, once.
    fn fetch_before(&mut self, conn: &mut Connection, keys: Vec<Box<[u8]>>) -> Option<Outcome> {
        if conn.loading.is_some() || !conn.loads {
            return None;
        }
        let mut known: HashSet<Box<[u8]>> = HashSet::new();
        for key in keys {
            let Some(route) = self.routes.find(conn.db.0, &key) else { continue };
            if !route.has_words(&key) || !known.insert(key.clone()) {
                continue;
            }
            let hash = self.server.keyspace.hash(&key);
            // A key that is locked is left to what comes.
            let Some(locked) = lock_one(self.server.keyspace.open(conn.db), hash) else { continue };
            let mut there = Db::new(&self.server.keyspace, conn.db, locked, &mut self.local);
            there.settle(&Hashed { bytes: &key, hash }, false);
            if !there.exists(&Hashed { bytes: &key, hash }) {
                want(&mut self.wanted, route, &key, hash, false);
            }
        }
        matches!(self.join_wanted(conn), Waits::Yes).then_some(Outcome::Later)
    }
}

/// Puts a key to the others of its route that are wanted.
fn want(wanted: &mut Vec<Wanted>, route: &Arc<Route>, key: &[u8], hash: u64, is_old: bool) {
    let fits = |other: &&mut Wanted| Arc::ptr_eq(&other.route, route) && other.keys.len() < BATCH_KEYS_MAX;
    match wanted.iter_mut().rev().find(fits) {
        Some(others) => others.push(key, hash, is_old),
        None => wanted.push(Wanted::one(route, key, hash, is_old)),
    }
}

/// Whether a command runs a script.
pub(crate) fn is_script(row: &Row) -> bool {
    matches!(row.spec.name, "eval" | "eval_ro" | "evalsha" | "evalsha_ro" | "fcall" | "fcall_ro")
}
