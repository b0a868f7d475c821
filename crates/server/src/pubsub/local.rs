//! What a worker and its connections keep of subscriptions.
//!
//! Invariant: `Subscribers` of a worker, `Subscriptions` of its connections and the counts in `PubSub` say
//! the same: they change together, in the functions of this file.

use super::{Delivery, Kind, Name};
use crate::connection::{Closing, Connection};
use crate::execute::Core;
use crate::server::Message;
use larder_config::ClientClass;
use larder_resp::Output;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes that a subscription takes beside its name, about: its places in three tables.
const ENTRY_BYTES: usize = 112;

/// The subscribed connections of one worker, by what they are subscribed to.
#[derive(Debug, Default)]
pub struct Subscribers {
    /// By kind and name: tokens of connections, each with the version since which it gets messages.
    names: [HashMap<Name, HashMap<u64, u64>>; 3],
}

/// What one connection is subscribed to.
#[derive(Debug, Default)]
pub struct Subscriptions {
    names: [HashSet<Name>; 3],
    name_bytes: usize,
}

/// A subscription that ends: what was published up to this version still goes to the connection.
#[derive(Debug, Clone, Copy)]
struct Leaving<'a> {
    kind: Kind,
    name: &'a [u8],
    version: u64,
}

impl Subscribers {
    /// The tokens of all connections that get a message, with the pattern they get it by.
    pub fn of<'a>(&'a self, delivery: &'a Delivery) -> impl Iterator<Item = (u64, Option<&'a [u8]>)> {
        let kind = if delivery.is_sharded() { Kind::Shard } else { Kind::Channel };
        let by_name = self.tokens(kind, delivery.channel(), delivery.version()).map(|token| (token, None));
        let by_pattern = delivery.patterns().iter().flat_map(|pattern| {
            let tokens = self.tokens(Kind::Pattern, pattern, delivery.pattern_version());
            tokens.map(move |token| (token, Some(&**pattern)))
        });
        by_name.chain(by_pattern)
    }

    fn tokens(&self, kind: Kind, name: &[u8], version: u64) -> impl Iterator<Item = u64> {
        let receivers = self.names[kind as usize].get(name).into_iter().flatten();
        receivers.filter(move |(_, since)| **since <= version).map(|(token, _)| *token)
    }

    /// Whether a connection is subscribed to something and was when a message of `version` was counted.
    fn has(&self, kind: Kind, name: &[u8], version: u64, token: u64) -> bool {
        let since = self.names[kind as usize].get(name).and_then(|receivers| receivers.get(&token));
        since.is_some_and(|since| *since <= version)
    }

    fn remove(&mut self, kind: Kind, name: &[u8], token: u64) {
        let names = &mut self.names[kind as usize];
        if let Some(receivers) = names.get_mut(name) {
            receivers.remove(&token);
            if receivers.is_empty() {
                names.remove(name);
            }
        }
    }
}

impl Subscriptions {
    /// How many of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.names[kind as usize].len()
    }

    /// The names of a kind.
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &Name> {
        self.names[kind as usize].iter()
    }

    /// Memory taken for them, in bytes.
    pub fn memory(&self) -> usize {
        let entries: usize = self.names.iter().map(HashSet::len).sum();
        size_of::<Subscriptions>() + self.name_bytes + entries * ENTRY_BYTES
    }

    fn is_empty(&self) -> bool {
        self.names.iter().all(HashSet::is_empty)
    }
}

impl Core {
    /// Subscribes a connection, unless it is.
    pub fn subscribe(&mut self, conn: &mut Connection, kind: Kind, name: &[u8]) {
        let subscriptions = conn.subscriptions.get_or_insert_default();
        let own = &mut subscriptions.names[kind as usize];
        if own.contains(name) {
            return;
        }
        let (name, since) = self.server.pubsub.subscribe(kind, name, self.id);
        subscriptions.name_bytes += name.len();
        own.insert(Name::clone(&name));
        self.subscribers.names[kind as usize].entry(name).or_default().insert(conn.token, since);
        note(conn);
    }

    /// Ends a subscription of a connection, if it has it. What it is still to get is in `out` then.
    pub fn unsubscribe(&mut self, conn: &mut Connection, out: &mut Output, kind: Kind, name: &[u8]) {
        if !conn.subscriptions.as_ref().is_some_and(|own| own.names[kind as usize].contains(name)) {
            return;
        }
        let version = self.server.pubsub.unsubscribe(kind, name, self.id);
        // What was counted before lies in the mailbox: it was left there under the lock just taken.
        self.take_mail(conn, out, Some(Leaving { kind, name, version }));
        self.subscribers.remove(kind, name, conn.token);
        if let Some(own) = &mut conn.subscriptions {
            own.names[kind as usize].remove(name);
            own.name_bytes -= name.len();
            if own.is_empty() {
                conn.subscriptions = None;
            }
        }
        note(conn);
    }

    /// Ends all subscriptions of a connection that gets nothing more.
    pub fn forget_subscriptions(&mut self, conn: &mut Connection) {
        let Some(own) = conn.subscriptions.take() else { return };
        for kind in Kind::ALL {
            for name in own.names(kind) {
                self.server.pubsub.unsubscribe(kind, name, self.id);
                self.subscribers.remove(kind, name, conn.token);
            }
        }
        note(conn);
    }

    /// Writes the messages that have come to a subscribed connection whose command has just been carried
    /// out. All others get them a little later, in the same order.
    pub fn take_messages(&mut self, conn: &mut Connection, out: &mut Output) {
        for (delivery, pattern) in std::mem::take(&mut self.held_back) {
            delivery.write(out, conn.protocol, pattern.as_deref());
        }
        self.take_mail(conn, out, None);
    }

    fn take_mail(&mut self, conn: &mut Connection, out: &mut Output, leaving: Option<Leaving<'_>>) {
        let server = self.server;
        while let Some(message) = server.mailboxes[self.id].take() {
            match message {
                Message::Publish(delivery) => {
                    self.write_own(conn, out, &delivery, leaving);
                    self.undelivered.push((delivery, conn.token));
                }
                other => self.set_aside.push(other),
            }
        }
    }

    /// Writes a message to the connection at hand as often as it is subscribed to it.
    fn write_own(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        delivery: &Arc<Delivery>,
        leaving: Option<Leaving<'_>>,
    ) {
        if conn.closing != Closing::No {
            return;
        }
        let token = conn.token;
        let is_subscribed = |kind: Kind, name: &[u8], version: u64| {
            let has_left =
                leaving.is_some_and(|left| left.kind == kind && left.name == name && left.version <= version);
            !has_left && self.subscribers.has(kind, name, version, token)
        };
        let kind = if delivery.is_sharded() { Kind::Shard } else { Kind::Channel };
        let by_name = is_subscribed(kind, delivery.channel(), delivery.version());
        let by_pattern = delivery.patterns().iter();
        let by_pattern =
            by_pattern.filter(|pattern| is_subscribed(Kind::Pattern, pattern, delivery.pattern_version()));
        for pattern in by_name.then_some(None).into_iter().chain(by_pattern.map(Some)) {
            if conn.is_in_exec {
                self.held_back.push((Arc::clone(delivery), pattern.cloned()));
            } else {
                delivery.write(out, conn.protocol, pattern.map(|pattern| &**pattern));
            }
        }
        if out.len() as u64 >= self.backlog_bytes_max() {
            self.close_deaf(conn, out.len());
        }
    }

    /// How many bytes of output a subscriber may owe.
    pub fn backlog_bytes_max(&self) -> u64 {
        match self.settings.client_output_buffer_limit().of(ClientClass::PubSub).hard_bytes {
            0 => u64::MAX,
            bytes => bytes,
        }
    }

    /// Ends a subscriber that owes too much.
    #[cold]
    pub fn close_deaf(&self, conn: &mut Connection, bytes: usize) {
        let client = conn.client.id;
        tracing::warn!(client, bytes, "closing a subscriber that does not read its messages");
        self.stats.output_limit_closes.add(1);
        conn.closing = Closing::Now;
    }
}

/// Lets other threads know how many subscriptions a connection has.
fn note(conn: &Connection) {
    for kind in Kind::ALL {
        let count = conn.subscriptions.as_ref().map_or(0, |own| own.count(kind));
        conn.client.subscriptions[kind as usize].store(count, Relaxed);
    }
}
