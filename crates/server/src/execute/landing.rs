//! A flight lands: what it brought is kept, unless something overtook it, and who waited is asked again.

use super::{Core, lock_one};
use crate::mailbox::Mailbox;
use crate::server::{Message, Work};
use crate::through::{Brought, Cargo, Landing, Piece, Waiting, keep, laid_over};
use larder_source::{FlightId, FlightKey, Landed, freshness};
use larder_store::{Db, DbIndex, Expire, Hashed, Millis};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What a worker's connections waited for.
#[derive(Debug)]
pub struct Settled {
    /// The clients, and what their connections are parked under.
    pub waiting: SmallVec<[(u64, u64); 1]>,
    /// The database of the key.
    pub db: DbIndex,
    /// The key.
    pub key: Box<[u8]>,
    /// What was brought.
    pub brought: Arc<Brought>,
}

impl Core {
    /// Ends flights with what they brought. Inside a turn.
    pub fn land(&mut self, landings: Vec<Landing>) {
        let mut tidings = Tidings::new(self.server.mailboxes.len());
        let mut locked = Vec::new();
        for landing in landings {
            locked.extend(self.land_one(landing, &mut tidings));
        }
        tidings.send(&self.server.mailboxes);
        if !locked.is_empty() {
            let work = move |core: &mut Core| core.land(locked);
            self.server.mailboxes[self.id].send(Message::Work(Work(Box::new(work))));
        }
    }

    /// Ends a flight; it comes back where the shard of its key is locked.
    fn land_one(&mut self, landing: Landing, tidings: &mut Tidings) -> Option<Landing> {
        let flights = &self.server.through.flights;
        let Landing { flight, key, route, queued: before, cargo } = landing;
        // Room is made before anything is locked.
        let has_room = !matches!(cargo.brought, Brought::Value(_)) || !self.is_limited || self.make_room();
        let hash = self.server.keyspace.hash(&key.key);
        let db = DbIndex(key.db);
        let Some(locked) = lock_one(self.server.keyspace.open(db), hash) else {
            return Some(Landing { flight, key, route, queued: before, cargo });
        };
        let random = self.local.random();
        let mut keys = Db::new(&self.server.keyspace, db, locked, &mut self.local);
        // Asked before the flight ends: a write that leaves its queue overtakes the flight first.
        let queued = self.server.through.queued_change(&route, key.db, &key.key);
        let landed = flights.land(flight, &key)?;
        let hashed = Hashed { bytes: &key.key, hash };
        keys.settle(&hashed, true);
        // A client wrote the key meanwhile: that is newer than what was read before.
        // With fields that are queued laid over it, what was brought is what the key is.
        let is_known = queued.as_ref().is_none_or(|change| !change.is_whole());
        let may_keep = landed.may_keep && is_known && (landed.replaces || !keys.exists(&hashed));
        if may_keep && landed.replaces && matches!(cargo.brought, Brought::Value(_) | Brought::Nothing) {
            keys.local.effects.tell_copiers(&key.key);
        }
        let Cargo { brought, fresh_ms, validator } = cargo;
        let brought =
            [before, queued].iter().flatten().fold(brought, |brought, change| laid_over(change, brought));
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
        None
    }

    /// Tells those who wait for a flight that it takes long.
    pub fn release_waiters(&mut self, flight: FlightId, key: FlightKey, text: String) {
        let waiting = self.server.through.flights.release(flight, &key);
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
            if place % 16 == 0 && (self.is_nearly_full() || self.is_share_nearly_full(&route)) {
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
            let is_queued = self.server.through.queued_change(&route, db.0, &key).is_some();
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
        if let [one] = waiters[..] {
            let waiting = SmallVec::from_buf([(one.client, one.ticket)]);
            self.0[one.worker].push(Settled { waiting, db, key: key.key, brought });
            return;
        }
        for (worker, settled) in self.0.iter_mut().enumerate() {
            let own = waiters.iter().filter(|waiting| waiting.worker == worker);
            let waiting: SmallVec<[(u64, u64); 1]> =
                own.map(|waiting| (waiting.client, waiting.ticket)).collect();
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
