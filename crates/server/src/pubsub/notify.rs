//! Keyspace notifications: what happens to keys is published on channels named after key and event.
//!
//! The store tells of an event while the key's shard is locked, and it is on its way before the lock is
//! released, so that the events of a key are published in the order in which they happened.

use crate::server::Server;
use larder_config::KeyspaceEvents;
use larder_store::{DbIndex, Event, Listener};
use larder_values::number;

/// A database's number and what follows it in the name of a channel, in bytes.
const DATABASE_BYTES_MAX: usize = 13;

/// Publishes the events of one worker.
pub struct Notifier {
    server: &'static Server,
    worker: usize,
    events: KeyspaceEvents,
}

impl Notifier {
    /// Publishes what `events` asks for, if anything.
    pub fn new(server: &'static Server, worker: usize, events: KeyspaceEvents) -> Option<Notifier> {
        let publishes =
            events.contains(KeyspaceEvents::KEYSPACE) || events.contains(KeyspaceEvents::KEYEVENT);
        publishes.then_some(Notifier { server, worker, events })
    }

    fn publish(&self, kind: &[u8], db: DbIndex, name: &[u8], payload: &[u8]) {
        let mut channel = Vec::with_capacity(kind.len() + DATABASE_BYTES_MAX + name.len());
        channel.extend_from_slice(kind);
        number::write_u64(&mut channel, u64::from(db.0));
        channel.extend_from_slice(b"__:");
        channel.extend_from_slice(name);
        self.server.pubsub.publish(&self.server.mailboxes, self.worker, false, &channel, payload);
    }
}

impl Listener for Notifier {
    fn hear(&self, db: DbIndex, key: &[u8], event: Event) {
        if self.events.contains(KeyspaceEvents::KEYSPACE) {
            self.publish(b"__keyspace@", db, key, event.name.as_bytes());
        }
        if self.events.contains(KeyspaceEvents::KEYEVENT) {
            self.publish(b"__keyevent@", db, event.name.as_bytes(), key);
        }
    }
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Notifier").field("events", &self.events).finish_non_exhaustive()
    }
}
