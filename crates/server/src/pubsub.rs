//! Publish and subscribe: which channels have subscribers, on which workers, and how a message gets
//! to them.
//!
//! What all threads share is how many connections of each worker want a channel or a pattern. A
//! publisher counts them, leaves the message once in the mailbox of each worker that has any, and the
//! worker appends it to the outputs of its connections, which only it knows.
//!
//! Invariant: a message goes to those who were subscribed when it was counted, and to nobody else. It is
//! left in the mailboxes while the channel is locked, and carries the version of the subscriptions it
//! was counted by, so that a worker can tell who came later. All subscribers of a channel see its
//! messages in the same order.
//! Read next: `pubsub/local.rs` (what a worker keeps), `pubsub/delivery.rs` (the message),
//! `pubsub/notify.rs` (keyspace notifications).

mod delivery;
mod local;
mod notify;

pub use delivery::Delivery;
pub use local::{Subscribers, Subscriptions};
pub use notify::Notifier;

use crate::mailbox::Mailbox;
use crate::server::Message;
use crossbeam_utils::CachePadded;
use larder_values::glob;
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Parts of a name space that are locked apart.
const PARTS: usize = 64;

/// What can be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A channel, by its name.
    Channel,
    /// All channels that match a pattern.
    Pattern,
    /// A shard channel; these have names of their own.
    Shard,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::Shard];
}

/// The name or pattern of a subscription, shared by all who hold it.
pub type Name = Arc<[u8]>;

/// Who is subscribed to what, as far as all threads need to know.
#[derive(Debug, Default)]
pub struct PubSub {
    channels: Names,
    shard_channels: Names,
    patterns: RwLock<Patterns>,
    pattern_count: AtomicUsize,
}

/// How many connections of each worker receive something.
#[derive(Debug, Default)]
struct Receivers(SmallVec<[(usize, usize); 2]>);

/// The channels of one name space.
#[derive(Debug)]
struct Names {
    parts: Box<[CachePadded<Mutex<Part>>]>,
    hasher: RandomState,
    count: AtomicUsize,
}

/// Channels that are locked together.
#[derive(Debug, Default)]
struct Part {
    /// Grows with every change of a subscription to one of the channels.
    version: u64,
    channels: HashMap<Name, Receivers>,
}

#[derive(Debug, Default)]
struct Patterns {
    /// Grows with every change of a subscription to one of the patterns.
    version: u64,
    list: Vec<(Name, Receivers)>,
    places: HashMap<Name, usize>,
}

impl PubSub {
    /// Adds a subscription of a connection of `worker`. Answers the name, to be shared, and the version
    /// from which on the connection gets messages.
    pub fn subscribe(&self, kind: Kind, name: &[u8], worker: usize) -> (Name, u64) {
        match kind {
            Kind::Channel => self.channels.add(name, worker),
            Kind::Shard => self.shard_channels.add(name, worker),
            Kind::Pattern => {
                let mut patterns = self.patterns.write();
                let name = patterns.add(name, worker);
                self.pattern_count.store(patterns.list.len(), Relaxed);
                (name, patterns.version)
            }
        }
    }

    /// Takes a subscription back. Answers the version from which on the connection gets nothing.
    pub fn unsubscribe(&self, kind: Kind, name: &[u8], worker: usize) -> u64 {
        match kind {
            Kind::Channel => self.channels.remove(name, worker),
            Kind::Shard => self.shard_channels.remove(name, worker),
            Kind::Pattern => {
                let mut patterns = self.patterns.write();
                patterns.remove(name, worker);
                self.pattern_count.store(patterns.list.len(), Relaxed);
                patterns.version
            }
        }
    }

    /// Sends a message to all who want it and answers how many these are.
    ///
    /// Called by worker `own`, which looks into its mailbox before its turn ends and is not woken.
    pub fn publish(
        &self,
        mailboxes: &[Mailbox<Message>],
        own: usize,
        is_sharded: bool,
        channel: &[u8],
        payload: &[u8],
    ) -> usize {
        // Patterns before channels, everywhere: both stay locked until the message is on its way.
        let patterns = if is_sharded { None } else { self.patterns_in_use() };
        let names = if is_sharded { &self.shard_channels } else { &self.channels };
        let part = names.part_in_use(channel);
        let mut audience = Audience::default();
        if let Some(receivers) = part.as_ref().and_then(|part| part.channels.get(channel)) {
            audience.add(receivers);
        }
        let mut matched = Vec::new();
        for (pattern, receivers) in patterns.iter().flat_map(|patterns| &patterns.list) {
            if glob::matches(pattern, channel) {
                matched.push(Name::clone(pattern));
                audience.add(receivers);
            }
        }
        if audience.count == 0 {
            return 0;
        }
        let versions = (
            part.as_ref().map_or(0, |part| part.version),
            patterns.as_ref().map_or(0, |patterns| patterns.version),
        );
        let delivery = Arc::new(Delivery::new(is_sharded, channel, payload, matched, versions));
        audience.post(mailboxes, delivery);
        drop((part, patterns));
        for worker in audience.workers.iter().filter(|worker| **worker != own) {
            if let Some(mailbox) = mailboxes.get(*worker) {
                mailbox.wake();
            }
        }
        audience.count
    }

    /// The channels, shard channels or patterns with subscribers, in no order.
    pub fn names(&self, kind: Kind) -> Vec<Name> {
        match kind {
            Kind::Channel => self.channels.all(),
            Kind::Shard => self.shard_channels.all(),
            Kind::Pattern => {
                self.patterns.read().list.iter().map(|(pattern, _)| Name::clone(pattern)).collect()
            }
        }
    }

    /// How many connections are subscribed to a channel or shard channel by its name.
    pub fn subscribers(&self, is_sharded: bool, channel: &[u8]) -> usize {
        let names = if is_sharded { &self.shard_channels } else { &self.channels };
        names
            .part_in_use(channel)
            .and_then(|part| part.channels.get(channel).map(Receivers::sum))
            .unwrap_or(0)
    }

    /// How many channels, shard channels or patterns have subscribers.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel => self.channels.count.load(Relaxed),
            Kind::Shard => self.shard_channels.count.load(Relaxed),
            Kind::Pattern => self.pattern_count.load(Relaxed),
        }
    }

    /// The patterns, locked, if there are any.
    fn patterns_in_use(&self) -> Option<RwLockReadGuard<'_, Patterns>> {
        if self.pattern_count.load(Relaxed) == 0 { None } else { Some(self.patterns.read()) }
    }
}

impl Default for Names {
    fn default() -> Self {
        let parts = (0..PARTS).map(|_| CachePadded::default()).collect();
        Names { parts, hasher: RandomState::new(), count: AtomicUsize::new(0) }
    }
}

impl Names {
    fn part(&self, name: &[u8]) -> MutexGuard<'_, Part> {
        let index = self.hasher.hash_one(name) as usize % PARTS;
        self.parts[index].lock()
    }

    /// The part of a name, unless no name at all is in use.
    fn part_in_use(&self, name: &[u8]) -> Option<MutexGuard<'_, Part>> {
        if self.count.load(Relaxed) == 0 { None } else { Some(self.part(name)) }
    }

    fn add(&self, name: &[u8], worker: usize) -> (Name, u64) {
        let mut part = self.part(name);
        part.version += 1;
        let version = part.version;
        if let Some((shared, _)) = part.channels.get_key_value(name) {
            let shared = Name::clone(shared);
            part.channels.entry(Name::clone(&shared)).or_default().add(worker);
            return (shared, version);
        }
        let shared = Name::from(name);
        part.channels.entry(Name::clone(&shared)).or_default().add(worker);
        self.count.fetch_add(1, Relaxed);
        (shared, version)
    }

    fn remove(&self, name: &[u8], worker: usize) -> u64 {
        let mut part = self.part(name);
        part.version += 1;
        if let Some(receivers) = part.channels.get_mut(name)
            && receivers.remove(worker)
        {
            part.channels.remove(name);
            self.count.fetch_sub(1, Relaxed);
        }
        part.version
    }

    fn all(&self) -> Vec<Name> {
        let mut all = Vec::new();
        for part in &self.parts {
            all.extend(part.lock().channels.keys().cloned());
        }
        all
    }
}

impl Patterns {
    fn add(&mut self, pattern: &[u8], worker: usize) -> Name {
        self.version += 1;
        if let Some((shared, receivers)) =
            self.places.get(pattern).and_then(|place| self.list.get_mut(*place))
        {
            receivers.add(worker);
            return Name::clone(shared);
        }
        let shared = Name::from(pattern);
        self.places.insert(Name::clone(&shared), self.list.len());
        self.list.push((Name::clone(&shared), Receivers::default()));
        if let Some((_, receivers)) = self.list.last_mut() {
            receivers.add(worker);
        }
        shared
    }

    fn remove(&mut self, pattern: &[u8], worker: usize) {
        self.version += 1;
        let Some(&place) = self.places.get(pattern) else { return };
        if self.list.get_mut(place).is_some_and(|(_, receivers)| receivers.remove(worker)) {
            self.places.remove(pattern);
            self.list.swap_remove(place);
            if let Some((moved, _)) = self.list.get(place) {
                self.places.insert(Name::clone(moved), place);
            }
        }
    }
}

impl Receivers {
    fn add(&mut self, worker: usize) {
        match self.0.iter_mut().find(|(of, _)| *of == worker) {
            Some((_, count)) => *count += 1,
            None => self.0.push((worker, 1)),
        }
    }

    /// Takes one away. Answers whether nobody is left.
    fn remove(&mut self, worker: usize) -> bool {
        if let Some(place) = self.0.iter().position(|(of, _)| *of == worker) {
            self.0[place].1 -= 1;
            if self.0[place].1 == 0 {
                self.0.swap_remove(place);
            }
        }
        self.0.is_empty()
    }

    fn sum(&self) -> usize {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

/// Who gets one message.
#[derive(Default)]
struct Audience {
    workers: SmallVec<[usize; 16]>,
    count: usize,
}

impl Audience {
    fn add(&mut self, receivers: &Receivers) {
        for (worker, count) in &receivers.0 {
            self.count += count;
            if !self.workers.contains(worker) {
                self.workers.push(*worker);
            }
        }
    }

    fn post(&self, mailboxes: &[Mailbox<Message>], delivery: Arc<Delivery>) {
        for mailbox in self.workers.iter().filter_map(|worker| mailboxes.get(*worker)) {
            mailbox.leave(Message::Publish(Arc::clone(&delivery)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_there_while_somebody_is_subscribed() {
        let pubsub = PubSub::default();
        for kind in Kind::ALL {
            let (name, first) = pubsub.subscribe(kind, b"a", 0);
            let (again, second) = pubsub.subscribe(kind, b"a", 3);
            assert!(Arc::ptr_eq(&name, &again) && first < second);
            assert_eq!((pubsub.count(kind), pubsub.names(kind)), (1, vec![name]));
            assert!(pubsub.unsubscribe(kind, b"a", 0) > second);
            assert_eq!(pubsub.count(kind), 1);
            let last = pubsub.unsubscribe(kind, b"a", 3);
            assert_eq!((pubsub.count(kind), pubsub.names(kind)), (0, vec![]));
            // A channel that comes again goes on with its versions: old messages are not for it.
            assert!(pubsub.subscribe(kind, b"a", 0).1 > last);
            pubsub.unsubscribe(kind, b"a", 0);
        }
    }

    #[test]
    fn patterns_are_found_after_others_went() {
        let pubsub = PubSub::default();
        for pattern in [b"a", b"b", b"c", b"d"] {
            pubsub.subscribe(Kind::Pattern, pattern, 0);
        }
        for (left, pattern) in [(3, b"a"), (2, b"d"), (1, b"c"), (0, b"b")] {
            pubsub.unsubscribe(Kind::Pattern, pattern, 0);
            assert_eq!(pubsub.count(Kind::Pattern), left);
        }
        pubsub.unsubscribe(Kind::Pattern, b"never", 0);
        assert!(pubsub.patterns.read().places.is_empty());
    }

    #[test]
    fn subscribers_are_counted_by_worker() {
        let pubsub = PubSub::default();
        for worker in [0, 1, 1, 5] {
            pubsub.subscribe(Kind::Channel, b"c", worker);
        }
        assert_eq!((pubsub.subscribers(false, b"c"), pubsub.subscribers(true, b"c")), (4, 0));
        let mut audience = Audience::default();
        audience.add(&pubsub.channels.part(b"c").channels[&b"c"[..]]);
        assert_eq!((audience.count, &audience.workers[..]), (4, &[0, 1, 5][..]));
    }
}
