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
use crate::connection::{Connection, Loading, Parked};
use crate::registry::{Fetches, Row};
use crate::through::{BATCH_KEYS_MAX, Brought, Lead, Waiting, fetch, keep, laid_over};
use larder_commands::Args;
use larder_resp::{Output, Reply};
use larder_source::freshness::{self, Age};
use larder_source::{FlightKey, Joined, Parameter, Route};
use larder_store::{Db, DbIndex, Expire, Hashed, Millis};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A key that somebody is to wait for.
pub(super) struct Wanted {
    pub(super) db: DbIndex,
    pub(super) key: Box<[u8]>,
    pub(super) route: Arc<Route>,
    pub(super) words: Vec<Parameter>,
    /// It is there, and too old.
    pub(super) is_old: bool,
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
        self.sort_unfound(row, None);
        let must = !self.wanted.is_empty();
        self.wanted.clear();
        must
    }

    /// Turns what was noted into what is wanted; old copies that may be given meanwhile are fetched anew on the way.
    fn sort_unfound(&mut self, row: &Row, settled: Option<&Loading>) {
        let mut noted = std::mem::take(&mut self.local.unfound.keys);
        for (db, key, end) in noted.drain(..) {
            if row.fetches == Fetches::No {
                continue;
            }
            let place = (db, key);
            if settled.is_some_and(|loading| loading.settles(&place, end.is_some())) {
                continue;
            }
            let (db, key) = place;
            let Some(route) = self.routes.find(db.0, &key) else { continue };
            if row.fetches == Fetches::IfAsked && !route.exists_loads {
                continue;
            }
            let route = Arc::clone(route);
            if end.is_some() && self.server.through.queued(&route, db.0, &key).is_some() {
                // The copy is what was written; the store is older.
                continue;
            }
            // A key whose words are not of their types is a plain miss.
            let Some(words) = route.words_of(&key) else { continue };
            let is_old = match end {
                None => {
                    if self.server.through.is_bypassed(&route, self.local.now.0) {
                        let hash = self.server.keyspace.hash(&key);
                        let key = FlightKey { db: db.0, key: key.clone() };
                        self.server.through.flights.forget_absent(&key, hash);
                    }
                    false
                }
                Some(end) => match self.age_of(&route, end) {
                    Age::Fresh => continue,
                    Age::Renew => {
                        self.renew(Wanted { db, key, route, words, is_old: false });
                        continue;
                    }
                    Age::Old => true,
                },
            };
            self.wanted.push(Wanted { db, key, route, words, is_old });
        }
        // The memory is used again.
        self.local.unfound.keys = noted;
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
    pub(super) fn renew(&mut self, Wanted { db, key, route, words, .. }: Wanted) {
        let hash = self.server.keyspace.hash(&key);
        let flight_key = FlightKey { db: db.0, key: key.clone() };
        let flights = &self.server.through.flights;
        let validator = flights.version(&flight_key, hash);
        if let Some(flight) = flights.renew(flight_key, hash, &route, self.local.now.0, None) {
            route.stats.renewed.fetch_add(1, Relaxed);
            let queued = self.server.through.queued_change(&route, db.0, &key);
            fetch(self.server, self.id, vec![Lead { flight, key, route, words, validator, queued }]);
        }
    }

    /// Has a key fetched anew, whether there is a copy or not. False where no route has it.
    pub fn refresh(&mut self, db: DbIndex, key: &[u8]) -> bool {
        let Some(route) = self.routes.find(db.0, key).cloned() else { return false };
        let Some(words) = route.words_of(key) else { return false };
        // What is under way may have been asked before the change that the client knows of.
        let hash = self.server.keyspace.hash(key);
        self.server.through.flights.overtake(&FlightKey { db: db.0, key: key.into() }, hash);
        self.renew(Wanted { db, key: key.into(), route, words, is_old: false });
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
        let (missing, refused) = match &conn.loading {
            Some(_) => self.missing(),
            None => (Vec::new(), Vec::new()),
        };
        let loading = conn.loading.take();
        self.sort_unfound(row, loading.as_deref());
        conn.loading = loading;
        match self.join_wanted(conn) {
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
        let brought = |place: &Place| loading.brought(place).cloned();
        let refused: Vec<Arc<Brought>> = refused.iter().filter_map(brought).collect();
        let brought: Vec<Arc<Brought>> = missing.iter().filter_map(brought).collect();
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
        let place = |(db, key, _): &(DbIndex, Box<[u8]>, Option<Millis>)| (*db, key.clone());
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

    /// Joins the flights of all that is wanted, and parks the connection for them.
    pub(super) fn join_wanted(&mut self, conn: &mut Connection) -> Waits {
        let wanted = std::mem::take(&mut self.wanted);
        if wanted.is_empty() {
            return Waits::No;
        }
        let ticket = self.server.next_ticket();
        let waiting = Waiting::new(self.id, conn.client.id, ticket);
        let (mut leads, mut left, mut again) = (Vec::new(), 0, false);
        let (now, has_room) = (self.local.now.0, self.has_room_for_queued(&wanted));
        for Wanted { db, key, route, words, is_old } in wanted {
            let hash = self.server.keyspace.hash(&key);
            // Under the lock, so that what lands meanwhile is either seen here or still in the air.
            let Some(locked) = lock_one(self.server.keyspace.open(db), hash) else {
                again = true;
                continue;
            };
            let mut keys = Db::new(&self.server.keyspace, db, locked, &mut self.local);
            keys.settle(&Hashed { bytes: &key, hash }, false);
            let is_there = keys.exists(&Hashed { bytes: &key, hash });
            if is_there && !is_old {
                again = true;
                continue;
            }
            let queued = self.server.through.queued_change(&route, db.0, &key);
            if let Some(change) = queued.as_ref().filter(|change| change.is_whole()) {
                let queued = laid_over(change, Brought::Nothing);
                if has_room && !is_there {
                    keep_queued(&mut keys, &Hashed { bytes: &key, hash }, &queued, &route, &self.limits);
                }
                // Also where it is not kept the command is given it.
                conn.loading.get_or_insert_default().add(db, key, Arc::new(queued));
                again = true;
                continue;
            }
            let flight_key = FlightKey { db: db.0, key: key.clone() };
            let flights = &self.server.through.flights;
            let validator = if is_there { flights.version(&flight_key, hash) } else { None };
            let joined = if is_there {
                flights
                    .renew(flight_key, hash, &route, now, Some(waiting))
                    .map_or(Joined::Follows, Joined::Leads)
            } else {
                route.stats.misses.fetch_add(1, Relaxed);
                flights.join(flight_key, hash, &route, now, waiting)
            };
            drop(keys);
            match joined {
                Joined::Leads(flight) => {
                    left += 1;
                    self.lead(&mut leads, Lead { flight, key, route, words, validator, queued });
                }
                Joined::Follows => {
                    left += 1;
                    route.stats.coalesced.fetch_add(1, Relaxed);
                }
                Joined::Absent => {
                    route.stats.negative.fetch_add(1, Relaxed);
                }
            }
        }
        if left == 0 {
            return if again { Waits::Again } else { Waits::No };
        }
        let loading = conn.loading.get_or_insert_default();
        (loading.ticket, loading.left) = (ticket, left);
        conn.parked = Some(Parked::Load(ticket));
        conn.client.parked.store(true, Relaxed);
        fetch(self.server, self.id, leads);
        Waits::Yes
    }

    /// Puts a flight to others that are to be fetched for. Once there are as many as one batch takes, the store is asked, and is at it
    /// while the others join.
    fn lead(&self, leads: &mut Vec<Lead>, lead: Lead) {
        leads.push(lead);
        if leads.len() == BATCH_KEYS_MAX {
            fetch(self.server, self.id, std::mem::take(leads));
        }
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
        let brought = conn.loading.as_ref().map(|loading| loading.all.clone()).unwrap_or_default();
        let mut lent = Vec::new();
        for ((db, key), value) in &brought {
            let Brought::Value(value) = &**value else { continue };
            let key = Hashed { bytes: key, hash: keyspace.hash(key) };
            let place = keyspace.place(*db, key.hash);
            if !self.places.contains(&place) {
                continue;
            }
            let mut keys = Db::new(keyspace, *db, held.lend_one(place), &mut self.local);
            if !keys.exists(&key) {
                keep(&mut keys, &key, value, Expire::Clear, &self.limits);
                lent.push((*db, key));
            }
        }
        self.local.unfound.is_on = false;
        let result = self.dispatch(conn, out, row, args, hash, Some(&mut held));
        self.local.unfound.is_on = true;
        for (db, key) in lent {
            let locked = held.lend_one(keyspace.place(db, key.hash));
            Db::new(keyspace, db, locked, &mut self.local).remove(&key);
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
            let Some(words) = route.words_of(&key).filter(|_| !known.contains(&key)) else { continue };
            known.insert(key.clone());
            let hash = self.server.keyspace.hash(&key);
            // A key that is locked is left to what comes.
            let Some(locked) = lock_one(self.server.keyspace.open(conn.db), hash) else { continue };
            let mut there = Db::new(&self.server.keyspace, conn.db, locked, &mut self.local);
            there.settle(&Hashed { bytes: &key, hash }, false);
            if !there.exists(&Hashed { bytes: &key, hash }) {
                self.wanted.push(Wanted { db: conn.db, key, route: Arc::clone(route), words, is_old: false });
            }
        }
        matches!(self.join_wanted(conn), Waits::Yes).then_some(Outcome::Later)
    }
}

/// Whether a command runs a script.
pub(crate) fn is_script(row: &Row) -> bool {
    matches!(row.spec.name, "eval" | "eval_ro" | "evalsha" | "evalsha_ro" | "fcall" | "fcall_ro")
}
