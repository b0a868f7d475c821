//! What a queue knows in memory: what waits of each key, and whose turn it is.
//!
//! A key stands in line by its oldest write that is not done, so one that is written again and again gets its turn all the same; what is
//! sent then is all that waits of it, as one change. While that is under way the key is not in line, and what is written meanwhile
//! waits beside it. Sent again, both are one.
//!
//! Invariants (`check`): a key is in line, under way or held back; the bytes are those of what waits and what is under way. A part
//! holds the segments of all that it was made of. An owner has as many unsettled writes as the parts have of it.

use crate::change::Change;
use crate::queue::Owner;
use crate::record::{Key, Write};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Writes of owners that are settled when some write is.
pub(crate) type Owners = Vec<(Arc<Owner>, u64)>;

/// Segments that writes are needed in no longer, each as often as there are such writes.
pub(crate) type Freed = Vec<u64>;

/// Some of what was written to a key, as one write: the number is that of the last.
#[derive(Debug)]
struct Part {
    write: Write,
    /// The segments of all that it was made of.
    segments: Vec<u64>,
    /// Whose writes are settled when it is.
    owners: Owners,
}

impl Part {
    /// Makes one part of this and a later one. The segments that are needed no longer.
    fn add(&mut self, later: Part) -> Freed {
        let is_needed = self.write.change.add(later.write.change);
        (self.write.seq, self.write.at_ms) = (later.write.seq, later.write.at_ms);
        later.owners.iter().for_each(|(owner, count)| own(&mut self.owners, owner, *count));
        if !is_needed {
            return std::mem::replace(&mut self.segments, later.segments);
        }
        let mut freed = Vec::new();
        for segment in later.segments {
            let known = self.segments.contains(&segment);
            if known { &mut freed } else { &mut self.segments }.push(segment);
        }
        freed
    }

    fn is_in_segments_to(&self, number: u64) -> bool {
        self.segments.iter().any(|segment| *segment <= number)
    }
}

/// A key with writes that are not done.
#[derive(Debug)]
struct Entry {
    waiting: Option<Part>,
    /// What is under way.
    sending: Option<Part>,
    /// The number of the oldest that is not done, and when that came.
    position: u64,
    since_ms: u64,
}

impl Entry {
    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.sending.iter().chain(&self.waiting)
    }

    fn parts_mut(&mut self) -> impl Iterator<Item = &mut Part> {
        self.sending.iter_mut().chain(&mut self.waiting)
    }

    fn bytes(&self) -> u64 {
        self.parts().map(|part| part.write.size()).sum()
    }
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

impl Pending {
    /// Adds a write that is on disk, in a segment that holds it. The segments that hold too much then, if another write waited, which
    /// is one with it now.
    pub(crate) fn add(&mut self, write: Write, segment: u64, owner: Option<&Arc<Owner>>) -> Option<Freed> {
        let key = Arc::clone(&write.key);
        let owners = owner.map(|owner| vec![(Arc::clone(owner), 1)]).unwrap_or_default();
        let (position, since_ms) = (write.seq, write.at_ms);
        let part = Part { write, segments: vec![segment], owners };
        let Some(entry) = self.entries.get_mut(&key) else {
            self.bytes += part.write.size();
            self.line.insert(position, Arc::clone(&key));
            self.entries.insert(key, Entry { waiting: Some(part), sending: None, position, since_ms });
            return None;
        };
        self.bytes -= entry.bytes();
        let freed = match &mut entry.waiting {
            Some(waiting) => Some(waiting.add(part)),
            none => {
                *none = Some(part);
                None
            }
        };
        self.bytes += entry.bytes();
        freed
    }

    /// What becomes of a key by all that is not done of it.
    pub(crate) fn newest(&self, key: &Key) -> Option<Change> {
        let mut parts = self.entries.get(key)?.parts();
        let mut change = parts.next()?.write.change.clone();
        parts.for_each(|part| _ = change.add(part.write.change.clone()));
        Some(change)
    }

    /// Takes the writes whose turn it is: so many at most, of so many bytes unless it is one.
    pub(crate) fn take(&mut self, most: usize, bytes_most: u64) -> Vec<Write> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < most
            && let Some((position, key)) = self.line.pop_first()
        {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let Some(waiting) = &entry.waiting else { continue };
            bytes += waiting.write.size();
            if bytes > bytes_most && !taken.is_empty() {
                self.line.insert(position, key);
                break;
            }
            taken.push(waiting.write.clone());
            entry.sending = entry.waiting.take();
            self.sending.insert(position, key);
        }
        taken
    }

    /// A write that was under way is done: its segments, and whose it is.
    pub(crate) fn done(&mut self, key: &Arc<Key>) -> (Freed, Owners) {
        let Some(entry) = self.entries.get_mut(key) else { return (Vec::new(), Vec::new()) };
        let Some(sent) = entry.sending.take() else { return (Vec::new(), Vec::new()) };
        self.sending.remove(&entry.position);
        self.bytes -= sent.write.size();
        match &entry.waiting {
            Some(waiting) => {
                (entry.position, entry.since_ms) = (waiting.write.seq, waiting.write.at_ms);
                self.line.insert(entry.position, Arc::clone(key));
            }
            None => _ = self.entries.remove(key),
        }
        (sent.segments, sent.owners)
    }

    /// A write that was under way is to be sent again, with what was written meanwhile; not before somebody knows how, if it is held. The
    /// segments that hold too much then, if something was.
    pub(crate) fn back(&mut self, key: &Arc<Key>, is_held: bool) -> Option<Freed> {
        let entry = self.entries.get_mut(key)?;
        let mut part = entry.sending.take()?;
        self.sending.remove(&entry.position);
        let place = if is_held { &mut self.held } else { &mut self.line };
        place.insert(entry.position, Arc::clone(key));
        let later = entry.waiting.take();
        let before = part.write.size() + later.as_ref().map_or(0, |later| later.write.size());
        let freed = later.map(|later| part.add(later));
        self.bytes = self.bytes - before + part.write.size();
        entry.waiting = Some(part);
        freed
    }

    /// Has those take their turn again that were held.
    pub(crate) fn release(&mut self) {
        self.line.append(&mut self.held);
    }

    /// Writes in segments up to this one, some of them at a time, those of a key together; `None` behind the last. Those that change
    /// their places meanwhile may be left out.
    pub(crate) fn next(&self, cursor: &mut Cursor, number: u64) -> Option<Vec<Write>> {
        let places = [&self.line, &self.held, &self.sending];
        let place = places.get(cursor.place)?;
        let (mut writes, mut looked_at) = (Vec::new(), 0);
        for (position, key) in place.range(cursor.from..).take(LOOKED_AT) {
            (looked_at, cursor.from) = (looked_at + 1, position.saturating_add(1));
            let parts = self.entries.get(key).into_iter().flat_map(Entry::parts);
            let concerned = parts.filter(|part| part.is_in_segments_to(number));
            writes.extend(concerned.map(|part| part.write.clone()));
        }
        if looked_at < LOOKED_AT {
            *cursor = Cursor { place: cursor.place + 1, from: 0 };
        }
        Some(writes)
    }

    /// Whether any write is in a segment up to this one. Looks at all of them.
    pub(crate) fn is_any_in_segments_to(&self, number: u64) -> bool {
        self.entries.values().flat_map(Entry::parts).any(|part| part.is_in_segments_to(number))
    }

    /// A write is in another segment now, whole: which ones it was in, if it is still to be sent and nothing was added to it.
    pub(crate) fn moved(&mut self, write: &Write, segment: u64) -> Option<Freed> {
        let entry = self.entries.get_mut(&write.key)?;
        let is_it =
            |part: &&mut Part| part.write.seq == write.seq && part.write.change.is_same(&write.change);
        let part = entry.parts_mut().find(is_it)?;
        Some(std::mem::replace(&mut part.segments, vec![segment]))
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
        assert_eq!(self.bytes, self.entries.values().map(Entry::bytes).sum::<u64>());
        assert_eq!(self.entries.len(), self.line.len() + self.sending.len() + self.held.len());
        for (place, is_sending) in [(&self.line, false), (&self.sending, true), (&self.held, false)] {
            for (position, key) in place {
                let entry = &self.entries[key];
                assert!(entry.position == *position);
                assert_eq!(entry.sending.is_some(), is_sending);
                assert!(is_sending || entry.waiting.is_some());
                for part in entry.parts() {
                    assert!(entry.position <= part.write.seq && !part.segments.is_empty());
                }
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
