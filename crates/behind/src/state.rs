//! What a queue knows in memory: the newest write of each key, and whose turn it is.
//!
//! A key stands in line by its oldest write that is not done, so one that is written again and again gets its turn all the same; what is
//! sent then is its newest write. While that is under way the key is not in line.
//!
//! Invariants (`check`): a key is in line, under way or held back; the bytes are those of the newest writes. An owner has as
//! many unsettled writes as the entries have of it.

use crate::queue::Owner;
use crate::record::{Key, Write};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Writes of owners that are settled when some write is.
pub(crate) type Owners = Vec<(Arc<Owner>, u64)>;

/// A key with writes that are not done.
#[derive(Debug)]
struct Entry {
    /// The newest.
    write: Write,
    /// The segment it is in.
    segment: u64,
    /// The number of the oldest that is not done, and when that came.
    position: u64,
    since_ms: u64,
    /// The write that is under way, and whose it is.
    sending: Option<(u64, Owners)>,
    /// Whose writes are settled when the newest is.
    owners: Owners,
}

/// All keys with writes that are not done.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    entries: HashMap<Arc<Key>, Entry>,
    /// Keys whose turn will come, by their positions.
    line: BTreeMap<u64, Arc<Key>>,
    /// Those whose writes are under way.
    sending: BTreeMap<u64, Arc<Key>>,
    /// Those that nobody knows how to send.
    held: BTreeMap<u64, Arc<Key>>,
    bytes: u64,
}

/// How far a walk over all writes has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    place: usize,
    from: u64,
}

/// Writes looked at under one lock.
const LOOKED_AT: usize = 1000;

/// What became of the segment of a write before a newer one of its key.
pub(crate) type Freed = Option<u64>;

impl Pending {
    /// Adds a write that is on disk. The segment of the one that it supersedes, if it does.
    pub(crate) fn add(&mut self, write: Write, segment: u64, owner: Option<&Arc<Owner>>) -> Freed {
        self.bytes += write.size();
        let key = Arc::clone(&write.key);
        let Some(entry) = self.entries.get_mut(&key) else {
            let owners = owner.map(|owner| vec![(Arc::clone(owner), 1)]).unwrap_or_default();
            let (position, since_ms) = (write.seq, write.at_ms);
            self.line.insert(position, Arc::clone(&key));
            let entry = Entry { write, segment, position, since_ms, sending: None, owners };
            self.entries.insert(key, entry);
            return None;
        };
        if let Some(owner) = owner {
            own(&mut entry.owners, owner, 1);
        }
        self.bytes -= entry.write.size();
        entry.write = write;
        Some(std::mem::replace(&mut entry.segment, segment))
    }

    /// The newest write of a key.
    pub(crate) fn newest(&self, key: &Key) -> Option<&Write> {
        self.entries.get(key).map(|entry| &entry.write)
    }

    /// Takes the writes whose turn it is: so many at most, of so many bytes unless it is one.
    pub(crate) fn take(&mut self, most: usize, bytes_most: u64) -> Vec<Write> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < most
            && let Some((position, key)) = self.line.pop_first()
        {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            bytes += entry.write.size();
            if bytes > bytes_most && !taken.is_empty() {
                self.line.insert(position, key);
                break;
            }
            entry.sending = Some((entry.write.seq, std::mem::take(&mut entry.owners)));
            taken.push(entry.write.clone());
            self.sending.insert(position, key);
        }
        taken
    }

    /// A write that was under way is done: its segment, unless a newer one has taken its place, and whose it is.
    pub(crate) fn done(&mut self, key: &Arc<Key>) -> (Freed, Owners) {
        let Some(entry) = self.entries.get_mut(key) else { return (None, Vec::new()) };
        let Some((seq, owners)) = entry.sending.take() else { return (None, Vec::new()) };
        self.sending.remove(&entry.position);
        if entry.write.seq != seq {
            (entry.position, entry.since_ms) = (entry.write.seq, entry.write.at_ms);
            self.line.insert(entry.position, Arc::clone(key));
            return (None, owners);
        }
        let segment = entry.segment;
        self.bytes -= entry.write.size();
        self.entries.remove(key);
        (Some(segment), owners)
    }

    /// A write that was under way is to be sent again, or what has taken its place; not before somebody knows how, if it is held.
    pub(crate) fn back(&mut self, key: &Arc<Key>, is_held: bool) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Some((_, owners)) = entry.sending.take() else { return };
        owners.iter().for_each(|(owner, count)| own(&mut entry.owners, owner, *count));
        self.sending.remove(&entry.position);
        let place = if is_held { &mut self.held } else { &mut self.line };
        place.insert(entry.position, Arc::clone(key));
    }

    /// Has those take their turn again that were held.
    pub(crate) fn release(&mut self) {
        self.line.append(&mut self.held);
    }

    /// Newest writes in segments up to this one, some of them at a time; `None` behind the last. Those that change their places
    /// meanwhile may be left out.
    pub(crate) fn next(&self, cursor: &mut Cursor, number: u64) -> Option<Vec<Write>> {
        let places = [&self.line, &self.held, &self.sending];
        let place = places.get(cursor.place)?;
        let (mut writes, mut looked_at) = (Vec::new(), 0);
        for (position, key) in place.range(cursor.from..).take(LOOKED_AT) {
            (looked_at, cursor.from) = (looked_at + 1, position.saturating_add(1));
            writes.extend(
                self.entries
                    .get(key)
                    .filter(|entry| entry.segment <= number)
                    .map(|entry| entry.write.clone()),
            );
        }
        if looked_at < LOOKED_AT {
            *cursor = Cursor { place: cursor.place + 1, from: 0 };
        }
        Some(writes)
    }

    /// Whether any write is in a segment up to this one. Looks at all of them.
    pub(crate) fn is_any_in_segments_to(&self, number: u64) -> bool {
        self.entries.values().any(|entry| entry.segment <= number)
    }

    /// A write is in another segment now: which one it was in, if it is still to be sent.
    pub(crate) fn moved(&mut self, write: &Write, segment: u64) -> Freed {
        let entry = self.entries.get_mut(&write.key).filter(|entry| entry.write.seq == write.seq)?;
        Some(std::mem::replace(&mut entry.segment, segment))
    }

    /// Keys with writes that are not done; all bytes; of them that are held; since when the oldest waits.
    pub(crate) fn figures(&self) -> (u64, u64, u64, Option<u64>) {
        let firsts = [&self.line, &self.sending, &self.held].map(BTreeMap::first_key_value);
        let oldest = firsts.into_iter().flatten().filter_map(|(_, key)| self.entries.get(key));
        let oldest_ms = oldest.map(|entry| entry.since_ms).min();
        (self.entries.len() as u64, self.bytes, self.held.len() as u64, oldest_ms)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn has_next(&self) -> bool {
        !self.line.is_empty()
    }

    pub(crate) fn check(&self) {
        assert_eq!(self.bytes, self.entries.values().map(|entry| entry.write.size()).sum::<u64>());
        assert_eq!(self.entries.len(), self.line.len() + self.sending.len() + self.held.len());
        for (place, is_sending) in [(&self.line, false), (&self.sending, true), (&self.held, false)] {
            for (position, key) in place {
                let entry = &self.entries[key];
                assert!(entry.position == *position && entry.position <= entry.write.seq);
                assert_eq!(entry.sending.is_some(), is_sending);
            }
        }
    }
}

fn own(owners: &mut Owners, owner: &Arc<Owner>, count: u64) {
    match owners.iter_mut().find(|(known, _)| Arc::ptr_eq(known, owner)) {
        Some((_, known)) => *known += count,
        None => owners.push((Arc::clone(owner), count)),
    }
}
