//! Loads that a command asks for by itself, rather than by what it did not find: CACHE GET.

use super::unfound::{Waits, Wanted};
use super::{Core, Settled};
use crate::connection::{Connection, Parked};
use crate::server::Message;
use crate::through::Brought;
use larder_source::freshness::Age;
use larder_source::{FlightKey, Route, Validator};
use larder_store::{DbIndex, Millis};
use std::sync::Arc;
use std::time::Duration;

/// What came of asking for a load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Looked {
    /// The connection waits, and its request is kept.
    Parked,
    /// It is under way; nobody waits for it.
    Under,
    /// The store was asked a moment ago and has nothing.
    Absent,
    /// The store has nothing by such a key, or this connection wants nothing fetched.
    NoKey,
}

impl Core {
    /// The route of a key.
    pub fn route_of(&self, db: DbIndex, key: &[u8]) -> Option<Arc<Route>> {
        self.routes.find(db.0, key).cloned()
    }

    /// How old a copy is.
    pub fn age_of_copy(&mut self, route: &Route, end: Millis) -> Age {
        self.age_of(route, end)
    }

    /// What names the version of a copy.
    pub fn version_of(&self, db: DbIndex, key: &[u8]) -> Option<Validator> {
        let hash = self.server.keyspace.hash(key);
        self.server.through.flights.version(&FlightKey { db: db.0, key: key.into() }, hash)
    }

    /// Has a key fetched, and its connection wait for it: for so long at most, if that is said.
    pub fn load_for(
        &mut self,
        conn: &mut Connection,
        (db, key): &(DbIndex, Box<[u8]>),
        (route, is_there): (&Arc<Route>, bool),
        wait: Option<Duration>,
    ) -> Looked {
        if !conn.loads || !route.has_words(key) {
            return Looked::NoKey;
        }
        let hash = self.server.keyspace.hash(key);
        // What is queued for the store is there at once.
        let is_queued = !is_there && self.server.through.queued(route, db.0, key).is_some();
        if wait == Some(Duration::ZERO) && !is_queued {
            let flight_key = FlightKey { db: db.0, key: key.clone() };
            if !is_there && self.server.through.flights.is_absent(&flight_key, hash, self.local.now.0) {
                return Looked::Absent;
            }
            self.renew(route, key, hash);
            return Looked::Under;
        }
        self.wanted.push(Wanted::one(route, key, hash, is_there));
        match self.join_wanted(conn) {
            Waits::No => Looked::Absent,
            Waits::Again => {
                conn.parked = Some(Parked::Busy);
                Looked::Parked
            }
            Waits::Yes => {
                if let Some(wait) = wait {
                    self.end_wait_after(conn, (*db, key.clone()), wait);
                }
                Looked::Parked
            }
        }
    }

    /// Lets a connection that waits for a load go on without it after a while.
    fn end_wait_after(&self, conn: &Connection, (db, key): (DbIndex, Box<[u8]>), wait: Duration) {
        let (server, worker, client) = (self.server, self.id, conn.client.id);
        let (Some(loading), Ok(runtime)) = (&conn.loading, server.through.runtime()) else { return };
        let ticket = loading.ticket;
        runtime.spawn(async move {
            larder_source_fetch::pause(wait).await;
            let brought = Arc::new(Brought::Late("LOADTIMEOUT it takes longer than asked for".to_owned()));
            let settled = Settled { waiting: (client, ticket), db, key, brought };
            server.mailboxes[worker].send(Message::Settled(settled));
        });
    }
}
