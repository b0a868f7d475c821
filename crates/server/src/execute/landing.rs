//! A flight lands: what it brought is kept, unless something overtook it, and who waited is asked again.

use super::{Core, lock_one};
use crate::server::{Message, Work};
use crate::through::{Brought, Waiting, keep};
use larder_source::{FlightId, FlightKey, freshness};
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
    /// Ends a flight with what it brought. Inside a turn.
    pub fn land(&mut self, flight: FlightId, brought: Brought, fresh_ms: Option<u64>) {
        let flights = &self.server.through.flights;
        let Some(key) = flights.key_of(flight) else { return };
        // Room is made before anything is locked.
        let has_room = !matches!(brought, Brought::Value(_)) || !self.is_limited || self.make_room();
        let hash = self.server.keyspace.hash(&key.key);
        let db = DbIndex(key.db);
        let Some(locked) = lock_one(self.server.keyspace.open(db), hash) else {
            let work = move |core: &mut Core| core.land(flight, brought, fresh_ms);
            self.server.mailboxes[self.id].send(Message::Work(Work(Box::new(work))));
            return;
        };
        let random = self.local.random();
        let mut keys = Db::new(&self.server.keyspace, db, locked, &mut self.local);
        let Some(landed) = flights.land(flight) else { return };
        let hashed = Hashed { bytes: &key.key, hash };
        // A client wrote the key meanwhile: that is newer than what was read before.
        let may_keep = landed.may_keep && (landed.replaces || !keys.exists(&hashed));
        let now = keys.now().0;
        match &brought {
            Brought::Value(value) => {
                let (fresh, grace) = freshness::lifetime_ms(&landed.route, fresh_ms, random);
                let is_kept = may_keep && has_room && fresh > 0;
                if is_kept {
                    let end = Millis(now.saturating_add(fresh).saturating_add(grace));
                    keep(&mut keys, &hashed, value, Expire::At(end), &self.limits);
                } else {
                    landed.route.stats.not_kept.fetch_add(1, Relaxed);
                    if may_keep && landed.replaces {
                        // The old copy is known to be older, and there is no room for the new one.
                        keys.remove(&hashed);
                    }
                }
            }
            Brought::Nothing if may_keep => {
                if landed.replaces && keys.exists(&hashed) {
                    keys.remove(&hashed);
                }
                let until = now.saturating_add(landed.route.negative_ttl.as_millis() as u64);
                flights.note_absent(key.clone(), hash, now, until);
            }
            _ => {}
        }
        drop(keys);
        self.tell(landed.waiters, db, key, Arc::new(brought));
    }

    /// Tells those who wait for a flight that it takes long.
    pub fn release_waiters(&mut self, flight: FlightId, text: String) {
        let flights = &self.server.through.flights;
        let Some(key) = flights.key_of(flight) else { return };
        let waiting = flights.release(flight);
        self.tell(waiting, DbIndex(key.db), key, Arc::new(Brought::Late(text)));
    }

    fn tell(&mut self, waiters: Vec<Waiting>, db: DbIndex, key: FlightKey, brought: Arc<Brought>) {
        for (worker, mailbox) in self.server.mailboxes.iter().enumerate() {
            let own = waiters.iter().filter(|waiting| waiting.worker == worker);
            let waiting: Vec<(u64, u64)> = own.map(|waiting| (waiting.client, waiting.ticket)).collect();
            if !waiting.is_empty() {
                let settled = Settled { waiting, db, key: key.key.clone(), brought: Arc::clone(&brought) };
                mailbox.send(Message::Settled(Box::new(settled)));
            }
        }
    }
}
