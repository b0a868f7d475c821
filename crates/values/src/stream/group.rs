//! A group of consumers: up to where it has read, and what was delivered and is not acknowledged.
//!
//! Invariant: a pending entry is filed once in the group and once with the consumer it was delivered
//! to; `check` compares the two.

use super::range::Spot;
use super::{Entries, Entry, Numbers, Stream, StreamId};
use std::collections::{BTreeMap, BTreeSet};

/// A group of consumers.
#[derive(Clone, Debug)]
pub struct Group {
    last_id: StreamId,
    entries_read: Option<u64>,
    pending: BTreeMap<StreamId, Pending>,
    names: BTreeMap<Box<[u8]>, ConsumerId>,
    consumers: Vec<Option<Consumer>>,
    vacant: Vec<ConsumerId>,
    /// Where what it has not read begins, if that is known.
    spot: Option<Spot>,
}

/// A consumer's place in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerId(u32);

/// A member of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Consumer {
    name: Box<[u8]>,
    /// When it last asked for anything.
    pub seen_ms: i64,
    /// When it last got anything.
    pub active_ms: Option<i64>,
    pending: BTreeSet<StreamId>,
}

/// A delivery that is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// When it was delivered last.
    pub delivered_ms: i64,
    /// How often it was delivered.
    pub deliveries: u64,
    /// To whom.
    pub consumer: ConsumerId,
}

impl Consumer {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Number of its pending entries.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }
}

/// Where consumers are kept means nothing.
impl PartialEq for Group {
    fn eq(&self, other: &Group) -> bool {
        let told = |group: &Group| (group.last_id, group.entries_read, group.pending.len());
        let consumers = || self.consumers().map(|(_, consumer)| consumer);
        let pending = |group: &Group, pending: &Pending| {
            (pending.delivered_ms, pending.deliveries, group.get(pending.consumer).name.clone())
        };
        told(self) == told(other)
            && consumers().eq(other.consumers().map(|(_, consumer)| consumer))
            && self.pending.iter().zip(&other.pending).all(|((id, one), (other_id, two))| {
                id == other_id && pending(self, one) == pending(other, two)
            })
    }
}

impl Group {
    pub(super) fn new(last_id: StreamId, entries_read: Option<u64>) -> Group {
        Group {
            last_id,
            entries_read,
            pending: BTreeMap::new(),
            names: BTreeMap::new(),
            consumers: Vec::new(),
            vacant: Vec::new(),
            spot: None,
        }
    }

    /// The last entry delivered to any consumer.
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// How many entries were read up to the last one, where that is known.
    pub fn entries_read(&self) -> Option<u64> {
        self.entries_read
    }

    /// Sets both (XGROUP SETID).
    pub fn set_last_id(&mut self, id: StreamId, entries_read: Option<u64>) {
        self.last_id = id;
        self.entries_read = entries_read;
        self.spot = None;
    }

    /// Moves the last id forward, to what another server delivered (XCLAIM LASTID).
    pub fn advance_last_id(&mut self, id: StreamId) {
        self.last_id = self.last_id.max(id);
        self.spot = None;
    }

    /// The consumers, by their names in order.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = (ConsumerId, &Consumer)> {
        self.names.values().map(|id| (*id, self.get(*id)))
    }

    /// The consumer of a name.
    pub fn consumer(&self, name: &[u8]) -> Option<ConsumerId> {
        self.names.get(name).copied()
    }

    /// A consumer.
    ///
    /// # Panics
    /// Where it is none of this group.
    pub fn get(&self, id: ConsumerId) -> &Consumer {
        let consumer = self.consumers.get(id.0 as usize).and_then(Option::as_ref);
        #[expect(clippy::expect_used, reason = "ids are handed out by this group and end with the consumer")]
        consumer.expect("a consumer of this group")
    }

    /// A consumer, to be changed.
    ///
    /// # Panics
    /// Where it is none of this group.
    pub fn get_mut(&mut self, id: ConsumerId) -> &mut Consumer {
        let consumer = self.consumers.get_mut(id.0 as usize).and_then(Option::as_mut);
        #[expect(clippy::expect_used, reason = "ids are handed out by this group and end with the consumer")]
        consumer.expect("a consumer of this group")
    }

    /// Makes a consumer; nothing where there is one of that name.
    pub fn create_consumer(&mut self, name: &[u8], seen_ms: i64) -> Option<ConsumerId> {
        if self.names.contains_key(name) {
            return None;
        }
        let consumer = Consumer { name: name.into(), seen_ms, active_ms: None, pending: BTreeSet::new() };
        let id = match self.vacant.pop() {
            Some(id) => {
                self.consumers[id.0 as usize] = Some(consumer);
                id
            }
            None => {
                let id = ConsumerId(u32::try_from(self.consumers.len()).ok()?);
                self.consumers.push(Some(consumer));
                id
            }
        };
        self.names.insert(name.into(), id);
        Some(id)
    }

    /// Removes a consumer with its pending entries; answers how many those were. O(those).
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let id = self.names.remove(name)?;
        let consumer = self.consumers.get_mut(id.0 as usize)?.take()?;
        self.vacant.push(id);
        for entry in &consumer.pending {
            self.pending.remove(entry);
        }
        Some(consumer.pending.len())
    }

    /// Number of pending entries.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The delivery of an entry, if it is pending.
    pub fn pending(&self, id: StreamId) -> Option<Pending> {
        self.pending.get(&id).copied()
    }

    /// What is pending from `start` to `end`, by id.
    pub fn pending_in(
        &self,
        start: StreamId,
        end: StreamId,
    ) -> impl DoubleEndedIterator<Item = (StreamId, Pending)> {
        let end = end.max(start);
        self.pending.range(start..=end).map(|(id, pending)| (*id, *pending))
    }

    /// What is pending with a consumer from `start` to `end`, by id.
    pub fn pending_of(
        &self,
        consumer: ConsumerId,
        start: StreamId,
        end: StreamId,
    ) -> impl DoubleEndedIterator<Item = StreamId> {
        let end = end.max(start);
        self.get(consumer).pending.range(start..=end).copied()
    }

    /// Notes that an entry was delivered, whoever had it before.
    pub fn put_pending(&mut self, id: StreamId, pending: Pending) {
        let consumer = pending.consumer;
        if let Some(before) = self.pending.insert(id, pending) {
            if before.consumer == consumer {
                return;
            }
            self.get_mut(before.consumer).pending.remove(&id);
        }
        self.get_mut(consumer).pending.insert(id);
    }

    /// Takes an entry out of what is pending; false where it was not.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(&id) else { return false };
        self.get_mut(pending.consumer).pending.remove(&id);
        true
    }

    /// Looks for its place by ids again: they may not have grown.
    pub(super) fn forget_spot(&mut self) {
        self.spot = None;
    }

    /// Whether the group has still to read or to acknowledge an entry.
    pub(super) fn needs(&self, id: StreamId) -> bool {
        id > self.last_id || self.pending.contains_key(&id)
    }

    /// Notes that the group has read the entry `id`, which is in a stream of these numbers.
    fn note_read(&mut self, id: StreamId, numbers: &Numbers) {
        if id <= self.last_id {
            return;
        }
        match self.entries_read {
            Some(read) if self.last_id >= numbers.first_id && !numbers.has_tombstones_from(self.last_id) => {
                self.entries_read = Some(read.wrapping_add(1));
            }
            _ if numbers.entries_added != 0 => self.entries_read = numbers.entries_up_to(id),
            _ => {}
        }
        self.last_id = id;
    }

    /// Memory it holds beside itself, in bytes. O(consumers).
    pub(super) fn heap_bytes(&self) -> usize {
        // Maps that fill in order are a good half full.
        let pending = size_of::<(StreamId, Pending)>() + size_of::<StreamId>();
        let names: usize = self.names.keys().map(|name| 2 * name.len()).sum();
        self.pending.len() * pending * 11 / 6
            + names
            + self.names.len() * size_of::<(Box<[u8]>, ConsumerId)>()
            + self.consumers.capacity() * size_of::<Option<Consumer>>()
    }

    /// Frees up to `left` pending entries; true when nothing is left.
    pub(super) fn free_step(&mut self, left: &mut u64) -> bool {
        while *left > 0 {
            if self.pending.pop_first().is_some() {
                *left -= 1;
                continue;
            }
            let Some(consumer) = self.consumers.last_mut() else {
                self.names.clear();
                return true;
            };
            *left -= 1;
            if consumer.as_mut().is_none_or(|consumer| consumer.pending.pop_first().is_none()) {
                self.consumers.pop();
            }
        }
        false
    }

    pub(super) fn check(&self) {
        let mut of_consumers = 0;
        assert_eq!(self.names.len(), self.consumers.iter().flatten().count());
        for (name, id) in &self.names {
            let consumer = self.get(*id);
            assert_eq!(*name, consumer.name);
            for entry in &consumer.pending {
                assert_eq!(self.pending.get(entry).map(|pending| pending.consumer), Some(*id));
            }
            of_consumers += consumer.pending.len();
        }
        assert_eq!(of_consumers, self.pending.len());
    }
}

/// How entries are delivered to a consumer.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// To whom.
    pub consumer: ConsumerId,
    /// When.
    pub now_ms: i64,
    /// At most so many.
    pub count: u64,
    /// They need no acknowledgement.
    pub no_ack: bool,
}

impl Stream {
    /// What a group has not read. O(1) behind what was delivered last, while that is there.
    pub fn unread(&self, group: &Group) -> Option<Entries<'_>> {
        let here = group.spot.and_then(|spot| self.entries_at(spot));
        here.or_else(|| Some(self.entries(group.last_id.next()?, StreamId::MAX)))
    }

    /// Delivers entries that a group has not read, and has `write` see each.
    pub fn deliver(&mut self, group: &[u8], delivery: Delivery, mut write: impl FnMut(Entry<'_>)) {
        let numbers = self.numbers;
        // The group leaves the stream for the time in which entries are read.
        let Some(mut taken) =
            self.groups.get_mut(group).map(|group| std::mem::replace(group, Group::new(StreamId::MIN, None)))
        else {
            return;
        };
        if let Some(mut unread) = self.unread(&taken) {
            for _ in 0..delivery.count {
                let Some(entry) = unread.next() else { break };
                taken.note_read(entry.id, &numbers);
                write(entry);
                if !delivery.no_ack {
                    let pending =
                        Pending { delivered_ms: delivery.now_ms, deliveries: 1, consumer: delivery.consumer };
                    taken.put_pending(entry.id, pending);
                    taken.get_mut(delivery.consumer).active_ms = Some(delivery.now_ms);
                }
            }
            taken.spot = unread.spot();
        }
        if let Some(group) = self.groups.get_mut(group) {
            *group = taken;
        }
    }
}
