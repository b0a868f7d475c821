//! A flight lands: what it brought is kept, unless something overtook it, and who waited is asked again.

use super::{Core, lock_one};
use crate::server::{Message, Server, Work};
use crate::through::{Arrived, Brought, Landings, Piece, Waiting, keep, laid_over};
use larder_behind::Change;
use larder_source::{Batch, FlightKey, Landed, Route, Validator, freshness};
use larder_store::{Db, DbIndex, Expire, Hashed, Millis};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What a connection of a worker waited for by itself.
#[derive(Debug)]
pub struct Settled {
    /// The client, and what its connection is parked under.
    pub waiting: (u64, u64),
    /// The database of the key.
    pub db: DbIndex,
    /// The key.
    pub key: Box<[u8]>,
    /// What was brought.
    pub brought: Arc<Brought>,
}

/// What connections of a worker waited for and flights of one batch brought.
#[derive(Debug)]
pub struct Tidings {
    /// What was brought.
    pub arrived: Arc<Arrived>,
    /// The client whose command all of it was fetched for, and what its connection is parked under.
    pub whole: Option<(u64, u64)>,
    /// Clients that waited for some of it, each for what stands at a position.
    pub parts: Vec<((u64, u64), usize)>,
}

/// A flight, by the place of its key in a batch, and what it brings.
struct Landing<'l> {
    batch: &'l Batch<Waiting>,
    place: u32,
    brought: Brought,
    /// What was queued of its key before the store was asked.
    before: Option<&'l Change>,
    fresh_ms: Option<u64>,
    validator: Option<Validator>,
}

/// What became of a flight.
enum Down {
    /// It is over.
    Yes(Brought, Landed<Waiting>),
    /// It was over before.
    Before,
    /// The shard of its key is locked.
    Locked(Brought),
}

impl Core {
    /// Ends flights with what they brought. Inside a turn.
    pub fn land(&mut self, landings: Landings) {
        let Landings { batch, mut brought, queued, fresh_ms, validator } = landings;
        let mut locked = Vec::new();
        let mut told = Told::new(&batch, brought.len());
        // In its place, which becomes what all who waited share.
        brought.retain_mut(|(place, brought)| {
            // In the order of places, as flights are.
            let before = queued.binary_search_by_key(place, |(of, _)| *of).ok();
            let before = before.and_then(|at| queued.get(at)).map(|(_, change)| change);
            let (validator, place) = (validator.clone(), *place);
            let cargo = std::mem::replace(brought, Brought::Nothing);
            match self.land_one(Landing { batch: &batch, place, brought: cargo, before, fresh_ms, validator })
            {
                Down::Yes(cargo, landed) => {
                    *brought = cargo;
                    told.add(landed.is_awaited, landed.others);
                    return true;
                }
                Down::Before => {}
                Down::Locked(cargo) => locked.push((place, cargo)),
            }
            false
        });
        told.send(self.server, brought);
        if !locked.is_empty() {
            let landings = Landings { batch, brought: locked, queued, fresh_ms, validator };
            let work = move |core: &mut Core| core.land(landings);
            self.server.mailboxes[self.id].send(Message::Work(Work(Box::new(work))));
        }
    }

    /// Ends a flight, unless the shard of its key is locked.
    fn land_one(&mut self, landing: Landing<'_>) -> Down {
        let Landing { batch, place, brought, before, fresh_ms, validator } = landing;
        let flights = &self.server.through.flights;
        let (route, db, at) = (batch.route(), DbIndex(batch.db()), place as usize);
        // Room is made before anything is locked.
        let has_room = !matches!(brought, Brought::Value(_)) || !self.is_limited || self.make_room();
        let hashed = Hashed { bytes: batch.key(at), hash: batch.hash(at) };
        let Some(locked) = lock_one(self.server.keyspace.open(db), hashed.hash) else {
            return Down::Locked(brought);
        };
        let random = self.local.random();
        let mut keys = Db::new(&self.server.keyspace, db, locked, &mut self.local);
        // Asked before the flight ends: a write that leaves its queue overtakes the flight first.
        let queued = self.server.through.queued_change(route, db.0, hashed.bytes);
        let Some(landed) = flights.land(batch, at) else { return Down::Before };
        keys.settle(&hashed, true);
        // A client wrote the key meanwhile: that is newer than what was read before.
        // With fields that are queued laid over it, what was brought is what the key is.
        let is_known = queued.as_ref().is_none_or(|change| !change.is_whole());
        let may_keep = landed.may_keep && is_known && (landed.replaces || !keys.exists(&hashed));
        if may_keep && landed.replaces && matches!(brought, Brought::Value(_) | Brought::Nothing) {
            keys.local.effects.tell_copiers(hashed.bytes);
        }
        let brought =
            before.into_iter().chain(&queued).fold(brought, |brought, change| laid_over(change, brought));
        match &brought {
            Brought::Value(_) | Brought::Unchanged => {
                let lifetime = freshness::lifetime_ms(route, fresh_ms, random);
                let is_kept = may_keep
                    && has_room
                    && keep_copy(&mut keys, &hashed, route, (&brought, lifetime), &self.limits);
                if may_keep && landed.replaces && !has_room {
                    // The old copy is known to be older, and there is no room for the new one.
                    keys.remove(&hashed);
                }
                if !is_kept && matches!(brought, Brought::Value(_)) {
                    route.stats.not_kept.fetch_add(1, Relaxed);
                }
                if may_keep {
                    let version = validator.filter(|_| is_kept);
                    flights.note_version(db.0, hashed.bytes, hashed.hash, version);
                }
            }
            Brought::Nothing if may_keep => {
                if landed.replaces && keys.exists(&hashed) {
                    keys.remove(&hashed);
                }
                let now = keys.now().0;
                let until = now.saturating_add(route.negative_ttl.as_millis() as u64);
                flights.note_version(db.0, hashed.bytes, hashed.hash, None);
                flights.note_absent(
                    FlightKey { db: db.0, key: hashed.bytes.into() },
                    hashed.hash,
                    now,
                    until,
                );
            }
            _ => {}
        }
        Down::Yes(brought, landed)
    }

    /// Tells those who wait for flights that a batch began that they take long.
    pub fn release_waiters(&mut self, batch: &Arc<Batch<Waiting>>, places: &[u32], text: &str) {
        let mut told = Told::new(batch, places.len());
        for place in places {
            let (is_awaited, others) = self.server.through.flights.release(batch, *place as usize);
            told.add(is_awaited, others);
        }
        let late = places.iter().map(|place| (*place, Brought::Late(text.to_owned())));
        told.send(self.server, late.collect());
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
    route: &Route,
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
            route.stats.unchanged.fetch_add(1, Relaxed);
            if fresh > 0 {
                keys.set_deadline(hashed, Some(end));
            }
        }
    }
    true
}

/// Who is to be told of what flights of a batch brought.
struct Told<'b> {
    batch: &'b Arc<Batch<Waiting>>,
    /// How many there are so far.
    count: u32,
    /// Of them those that who waits for the batch waits for.
    awaited: Vec<u32>,
    others: Vec<(Waiting, u32)>,
}

impl Told<'_> {
    fn new(batch: &Arc<Batch<Waiting>>, count: usize) -> Told<'_> {
        let awaited = if batch.waiter().is_some() { Vec::with_capacity(count) } else { Vec::new() };
        Told { batch, count: 0, awaited, others: Vec::new() }
    }

    /// Who waits for the next of them.
    fn add(&mut self, is_awaited: bool, others: Vec<Waiting>) {
        let at = self.count;
        self.count += 1;
        if is_awaited {
            self.awaited.push(at);
        }
        self.others.extend(others.into_iter().map(|waiting| (waiting, at)));
    }

    /// Tells everybody, where this is what was brought.
    fn send(self, server: &Server, brought: Vec<(u32, Brought)>) {
        let Told { batch, count, awaited, mut others } = self;
        debug_assert_eq!(brought.len(), count as usize);
        let is_whole = count > 0 && awaited.len() == count as usize;
        let first = batch.waiter().copied();
        if !is_whole {
            others.extend(first.into_iter().flat_map(|first| awaited.iter().map(move |at| (first, *at))));
        }
        let arrived = Arc::new(Arrived { batch: Arc::clone(batch), brought });
        for (worker, mailbox) in server.mailboxes.iter().enumerate() {
            let own = |waiting: &Waiting| waiting.worker == worker;
            let name = |waiting: Waiting| (waiting.client, waiting.ticket);
            let whole = first.filter(|first| is_whole && own(first)).map(name);
            let here = others.iter().filter(|(waiting, _)| own(waiting));
            let parts: Vec<_> = here.map(|(waiting, at)| (name(*waiting), *at as usize)).collect();
            if whole.is_some() || !parts.is_empty() {
                mailbox.send(Message::Tidings(Tidings { arrived: Arc::clone(&arrived), whole, parts }));
            }
        }
    }
}
