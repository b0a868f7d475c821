//! A flight lands: what it brought is kept, unless something overtook it, and who waited is asked again.

use super::{Core, lock_one};
use crate::mailbox::Mailbox;
use crate::server::{Message, Work};
use crate::through::{Brought, Cargo, Piece, Waiting, keep};
use larder_source::{FlightId, FlightKey, Landed, freshness};
use larder_store::{Db, DbIndex, Expire, Hashed, Millis};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What a worker's connections waited for.
#[derive(Debug)]
pub struct Settled {
    /// The clients, and what their connections are parked under.
    pub waiting: Vec<(u64, u64)>,
    /// The database of the key.
    pub db: DbIndex,
    /// The key.
    pub key: Box<[u8]>,
    /// What was brought.
    pub brought: Arc<Brought>,
}

impl Core {
    /// Ends flights with what they brought. Inside a turn.
    pub fn land(&mut self, landings: Vec<(FlightId, Cargo)>) {
        let mut tidings = Tidings::new(self.server.mailboxes.len());
        let mut locked = Vec::new();
        for (flight, cargo) in landings {
            if let Err(cargo) = self.land_one(flight, cargo, &mut tidings) {
                locked.push((flight, cargo));
            }
        }
        tidings.send(&self.server.mailboxes);
        if !locked.is_empty() {
            let work = move |core: &mut Core| core.land(locked);
            self.server.mailboxes[self.id].send(Message::Work(Work(Box::new(work))));
        }
    }

    /// Ends a flight.
    ///
    /// # Errors
    /// The shard of its key is locked: the cargo comes back.
    fn land_one(&mut self, flight: FlightId, cargo: Cargo, tidings: &mut Tidings) -> Result<(), Cargo> {
        let flights = &self.server.through.flights;
        let Some(key) = flights.key_of(flight) else { return Ok(()) };
        // Room is made before anything is locked.
        let has_room = !matches!(cargo.brought, Brought::Value(_)) || !self.is_limited || self.make_room();
        let hash = self.server.keyspace.hash(&key.key);
        let db = DbIndex(key.db);
        let Some(locked) = lock_one(self.server.keyspace.open(db), hash) else { return Err(cargo) };
        let random = self.local.random();
        let mut keys = Db::new(&self.server.keyspace, db, locked, &mut self.local);
        // Asked before the flight ends: a write that leaves its queue overtakes the flight first.
        let queued = self.routes.find(key.db, &key.key);
        let queued = queued.and_then(|route| self.server.through.queued(route, key.db, &key.key));
        let Some(landed) = flights.land(flight) else { return Ok(()) };
        let hashed = Hashed { bytes: &key.key, hash };
        keys.settle(&hashed, true);
        // A client wrote the key meanwhile: that is newer than what was read before.
        let may_keep = landed.may_keep && queued.is_none() && (landed.replaces || !keys.exists(&hashed));
        let Cargo { brought, fresh_ms, validator } = cargo;
        let brought = queued.unwrap_or(brought);
        match &brought {
            Brought::Value(_) | Brought::Unchanged => {
                let lifetime = freshness::lifetime_ms(&landed.route, fresh_ms, random);
                let is_kept = may_keep
                    && has_room
                    && keep_copy(&mut keys, &hashed, &landed, (&brought, lifetime), &self.limits);
                if may_keep && landed.replaces && !has_room {
                    // The old copy is known to be older, and there is no room for the new one.
                    keys.remove(&hashed);
                }
                if !is_kept && matches!(brought, Brought::Value(_)) {
                    landed.route.stats.not_kept.fetch_add(1, Relaxed);
                }
                if may_keep {
                    flights.note_version(&key, hash, validator.filter(|_| is_kept));
                }
            }
            Brought::Nothing if may_keep => {
                if landed.replaces && keys.exists(&hashed) {
                    keys.remove(&hashed);
                }
                let now = keys.now().0;
                let until = now.saturating_add(landed.route.negative_ttl.as_millis() as u64);
                flights.note_version(&key, hash, None);
                flights.note_absent(key.clone(), hash, now, until);
            }
            _ => {}
        }
        drop(keys);
        tidings.add(landed.waiters, db, key, Arc::new(brought));
        Ok(())
    }

    /// Tells those who wait for a flight that it takes long.
    pub fn release_waiters(&mut self, flight: FlightId, text: String) {
        let flights = &self.server.through.flights;
        let Some(key) = flights.key_of(flight) else { return };
        let waiting = flights.release(flight);
        let mut tidings = Tidings::new(self.server.mailboxes.len());
        tidings.add(waiting, DbIndex(key.db), key, Arc::new(Brought::Late(text)));
        tidings.send(&self.server.mailboxes);
    }
}

impl Core {
    /// Keeps what warming brought, but for keys that are there and those that were overtaken. Inside a turn.
    pub fn keep_piece(&mut self, piece: Piece) {
        let Piece { route, keys, mut kept, done } = piece;
        let (mut has_room, mut left) = (true, Vec::new());
        let flights = &self.server.through.flights;
        for (place, (key, value)) in keys.into_iter().enumerate() {
            if place % 16 == 0 && self.is_nearly_full() {
                has_room = false;
                break;
            }
            let hash = self.server.keyspace.hash(&key);
            let db = DbIndex(route.db);
            let Some(locked) = lock_one(self.server.keyspace.open(db), hash) else {
                left.push((key, value));
                continue;
            };
            let random = self.local.random();
            let mut keys = Db::new(&self.server.keyspace, db, locked, &mut self.local);
            let hashed = Hashed { bytes: &key, hash };
            keys.settle(&hashed, true);
            let (fresh, grace) = freshness::lifetime_ms(&route, None, random);
            // First what is queued: a write that leaves its queue is noted before.
            let is_queued = self.server.through.queued(&route, db.0, &key).is_some();
            let may_keep = flights.may_warm(&FlightKey { db: db.0, key: key.clone() }, hash);
            if fresh > 0 && may_keep && !is_queued && !keys.exists(&hashed) {
                let end = Millis(keys.now().0.saturating_add(fresh).saturating_add(grace));
                keep(&mut keys, &hashed, &value, Expire::At(end), &self.limits);
                kept += 1;
            }
        }
        if has_room && !left.is_empty() {
            // Those that somebody has locked: in the next turn.
            let piece = Piece { route, keys: left, kept, done };
            let work = move |core: &mut Core| core.keep_piece(piece);
            self.server.mailboxes[self.id].send(Message::Work(Work(Box::new(work))));
            return;
        }
        // Who asked may be gone.
        _ = done.try_send((kept, has_room));
    }
}

/// Keeps a copy that a flight brought, or the one there is for longer: fresh for so long, and to be given in need for so long, both
/// in milliseconds. False where there is none then.
fn keep_copy(
    keys: &mut Db<'_>,
    hashed: &Hashed<'_>,
    landed: &Landed<Waiting>,
    (brought, (fresh, grace)): (&Brought, (u64, u64)),
    limits: &larder_commands::Limits,
) -> bool {
    let end = Millis(keys.now().0.saturating_add(fresh).saturating_add(grace));
    match brought {
        Brought::Value(_) if fresh == 0 => return false,
        Brought::Value(value) => keep(keys, hashed, value, Expire::At(end), limits),
        // It was evicted meanwhile.
        _ if !keys.exists(hashed) => return false,
        _ => {
            landed.route.stats.unchanged.fetch_add(1, Relaxed);
            if fresh > 0 {
                keys.set_deadline(hashed, Some(end));
            }
        }
    }
    true
}

/// What is to be told to those who waited, by worker.
struct Tidings(Vec<Vec<Settled>>);

impl Tidings {
    fn new(workers: usize) -> Tidings {
        Tidings((0..workers).map(|_| Vec::new()).collect())
    }

    fn add(&mut self, waiters: Vec<Waiting>, db: DbIndex, key: FlightKey, brought: Arc<Brought>) {
        for (worker, settled) in self.0.iter_mut().enumerate() {
            let own = waiters.iter().filter(|waiting| waiting.worker == worker);
            let waiting: Vec<(u64, u64)> = own.map(|waiting| (waiting.client, waiting.ticket)).collect();
            if !waiting.is_empty() {
                settled.push(Settled { waiting, db, key: key.key.clone(), brought: Arc::clone(&brought) });
            }
        }
    }

    fn send(self, mailboxes: &[Mailbox<Message>]) {
        for (settled, mailbox) in self.0.into_iter().zip(mailboxes) {
            if !settled.is_empty() {
                mailbox.send(Message::Settled(settled));
            }
        }
    }
}
