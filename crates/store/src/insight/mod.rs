//! What the cache is doing: which hit ratio it would have at other sizes, which keys and prefixes are behind the traffic,
//! which values are large, and what becomes of keys.
//!
//! An access costs two comparisons. One in some hundreds, counted down with chance so that no rhythm of a load meets it, is
//! a *sample*: its key and prefixes enter sketches of heavy hitters. And keys whose hash lies below a threshold are *followed*:
//! each use of them is noted, for the miss ratio curve and for records of their lives. The threshold falls as keys become
//! more, and as notes become more than a small share of all accesses. A value is looked at when it is larger than the
//! least of the largest values known.
//! Invariants: nothing here is on the way of an access that is neither; no lock that another thread may hold for longer
//! than it takes to copy figures is taken by a worker; memory is bounded whatever the load.
//! Read next: `panel.rs` (what threads share and who asks), `lives.rs`, `prefix.rs`; the sketches are in `larder-policy`.

mod lives;
mod panel;
mod prefix;
mod remembered;

use crate::discard::Removal;
use crate::item::Item;
use crate::keyspace::{Hashed, TableNumber};
use crate::local::Millis;
use crate::object::Object;
use larder_table::Entry;
use panel::{Kind, Note};
use std::sync::Arc;

pub use lives::{End, Ended, Kept};
pub use panel::{HotKey, Lifetimes, MissRatio, Panel, PrefixFigures, Traffic};
pub use prefix::{DELIMITERS, PREFIX_BYTES_MAX};

/// Places for values that were looked at and found in place.
const LOOKED_AT: usize = 256;

/// Places for what was told in a turn, of reads and of writes.
const SAID: usize = 16;

/// What a use of a key was told of in this turn of the event loop.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    hash: u64,
    /// Bytes of the value.
    bytes: usize,
}

/// What is told of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Write,
}

/// One thread's part: what is compared on every access. All zeros and maxima while off.
#[derive(Debug)]
pub struct Insight {
    /// Keys are followed whose hash's lower half lies below.
    threshold: u32,
    /// Accesses until the next sample, that one included.
    until_sample: u32,
    /// Values of more bytes are looked at.
    large_min: usize,
    /// Where the next look was asked for out of turn: what is then left until the next sample, and one more; else 0.
    rest: u32,
    /// Turns of the event loop since notes were handed over.
    turns: u32,
    /// What was told in this turn, reads first: a key that is asked for by a whole pipeline is told of once.
    said: [[Said; SAID]; 2],
    has_said: bool,
    worker: usize,
    panel: Option<Arc<Panel>>,
    /// Large values that were noted as they are, by their hashes: a part of it, and the bytes.
    looked_at: Box<[(u32, u32)]>,
}

impl Default for Insight {
    /// One that is off.
    fn default() -> Insight {
        Insight {
            threshold: 0,
            until_sample: u32::MAX,
            large_min: usize::MAX,
            rest: 0,
            turns: 0,
            said: Default::default(),
            has_said: false,
            worker: 0,
            panel: None,
            looked_at: Box::default(),
        }
    }
}

/// A value that is there, as far as it is told of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Bytes of key and value, as memory is counted.
    memory: usize,
    /// Bytes of the value.
    value: usize,
    /// When it ends, Unix ms; 0 for never.
    deadline: u64,
}

impl Found {
    pub(crate) fn of(entry: &Entry<'_, Object>) -> Found {
        let item = Item::new(*entry);
        Found { memory: item.memory(), value: item.value_bytes(), deadline: entry.deadline().unwrap_or(0) }
    }
}

/// Bytes of a value that lies apart, whether or not a reply holds it as well.
pub(crate) fn bytes_of(object: &Object) -> usize {
    object.blob().map_or_else(|| object.bytes(), |blob| blob.capacity())
}

impl Insight {
    /// Makes it the part of one worker. It stays off until it is switched on.
    pub fn join(&mut self, panel: &Arc<Panel>, worker: usize, stats: &Arc<crate::stats::StoreStats>) {
        panel.join(worker, stats);
        (self.worker, self.panel) = (worker, Some(Arc::clone(panel)));
    }

    /// Switches it on or off.
    pub fn switch(&mut self, on: bool) {
        let Some(panel) = self.panel.clone() else { return };
        let is_on = self.threshold != 0;
        if is_on == on {
            return;
        }
        if on {
            self.looked_at = vec![(0, 0); LOOKED_AT].into();
            (self.until_sample, self.large_min, self.threshold) = (1, 0, panel.threshold());
        } else {
            *self = Insight { worker: self.worker, panel: Some(panel), ..Insight::default() };
        }
    }

    /// A turn of the event loop began: it pays for a share of a note.
    #[inline]
    pub fn turn(&mut self) {
        self.turns = self.turns.wrapping_add(1);
        if std::mem::take(&mut self.has_said) {
            self.said = Default::default();
        }
    }

    /// Whether a read of a key is to be told.
    #[inline(always)]
    pub(crate) fn wants_read(&mut self, hash: u64) -> bool {
        self.wants(hash, Use::Read)
    }

    /// Whether an edit of a key's value is to be told.
    #[inline(always)]
    pub(crate) fn wants_edited(&mut self, hash: u64) -> bool {
        self.wants(hash, Use::Write)
    }

    #[inline(always)]
    fn wants(&mut self, hash: u64, what: Use) -> bool {
        self.until_sample = self.until_sample.wrapping_sub(1);
        self.until_sample == 0 || ((hash as u32) < self.threshold && self.said_of(hash, what).is_none())
    }

    /// Whether a key was given a value of so many bytes is to be told.
    #[inline(always)]
    pub(crate) fn wants_written(&mut self, hash: u64, bytes: usize) -> bool {
        self.wants(hash, Use::Write) || self.is_large(hash, bytes)
    }

    /// Has the next access looked at, if the value of a key is large: it is of this key.
    #[inline]
    pub(crate) fn edited(&mut self, hash: u64, bytes: usize) {
        if self.rest == 0 && self.is_large(hash, bytes) {
            (self.rest, self.until_sample) = (self.until_sample, 1);
        }
    }

    /// Whether a value is to be told of for its size: one about as large was not told of in this turn.
    #[inline]
    fn is_large(&self, hash: u64, bytes: usize) -> bool {
        bytes > self.large_min
            && self.said_of(hash, Use::Write).is_none_or(|said| bytes / 2 > said || bytes < said / 2)
    }

    /// The size of a key's value, if such a use of it was told in this turn.
    #[inline]
    fn said_of(&self, hash: u64, what: Use) -> Option<usize> {
        let said = &self.said[what as usize][said_at(hash)];
        (said.hash == hash).then_some(said.bytes)
    }

    fn say(&mut self, hash: u64, what: Use, bytes: usize) {
        self.said[what as usize][said_at(hash)] = Said { hash, bytes };
        self.has_said = true;
    }

    /// Whether anything is told.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.threshold != 0
    }

    /// Whether a key is followed.
    #[inline]
    pub(crate) fn follows(&self, hash: u64) -> bool {
        (hash as u32) < self.threshold
    }

    /// Tells of a read of a key, which found what is there.
    #[cold]
    #[inline(never)]
    pub(crate) fn read(&mut self, table: TableNumber, key: &Hashed<'_>, found: Option<Found>, now: Millis) {
        let Some(panel) = self.panel.take() else { return self.rest_for_long() };
        let traffic = if found.is_some() { Traffic::HIT } else { Traffic::MISS };
        self.tell(&panel, table, key, found, traffic, now);
        self.panel = Some(panel);
    }

    /// Tells of a write of a key, and what it holds from then on.
    #[cold]
    #[inline(never)]
    pub(crate) fn wrote(&mut self, table: TableNumber, key: &Hashed<'_>, found: Found, now: Millis) {
        let Some(panel) = self.panel.take() else { return self.rest_for_long() };
        self.tell(&panel, table, key, Some(found), Traffic::WRITE, now);
        self.panel = Some(panel);
    }

    /// What was to be told of is not there any more.
    pub(crate) fn passed(&mut self) {
        if self.rest != 0 {
            self.until_sample = std::mem::take(&mut self.rest);
        }
        self.until_sample = self.until_sample.max(1);
    }

    fn rest_for_long(&mut self) {
        self.until_sample = u32::MAX;
    }

    fn tell(
        &mut self,
        panel: &Panel,
        table: TableNumber,
        key: &Hashed<'_>,
        found: Option<Found>,
        traffic: Traffic,
        now: Millis,
    ) {
        let is_asked_for = self.rest != 0;
        if is_asked_for {
            self.until_sample = std::mem::take(&mut self.rest).saturating_sub(1);
        }
        if self.threshold == 0 {
            return self.rest_for_long();
        }
        if let Some(found) = found {
            let what = if traffic == Traffic::WRITE { Use::Write } else { Use::Read };
            self.say(key.hash, what, found.value);
        }
        let is_sample = self.until_sample == 0;
        let is_followed = self.follows(key.hash);
        if !is_sample && !is_followed && found.is_some_and(|found| !self.is_news(key.hash, found.value)) {
            return;
        }
        let mut thread = panel.thread(self.worker);
        if let Some(found) = found
            && found.value > self.large_min
        {
            thread.note_large(table, key.bytes, found.value as u64);
        }
        if is_sample {
            self.until_sample = thread.sample(table, key, traffic);
        }
        if is_followed {
            let kind = match found {
                _ if traffic == Traffic::WRITE => Kind::Wrote,
                Some(_) => Kind::Found,
                None => Kind::Missed,
            };
            let note = Note::new(key, table, kind, found.map(|found| (found.memory, found.deadline)), now);
            if thread.note(note) {
                panel.take_over(&mut thread, std::mem::take(&mut self.turns), Some(self.threshold));
            }
        }
        self.large_min = thread.large_min();
        self.threshold = panel.threshold();
    }

    /// Whether a large value was not looked at before as it is.
    fn is_news(&mut self, hash: u64, bytes: usize) -> bool {
        let seen = ((hash >> 32) as u32, bytes as u32);
        match self.looked_at.get_mut((hash >> 24) as usize % LOOKED_AT) {
            Some(place) if *place != seen => {
                *place = seen;
                true
            }
            _ => false,
        }
    }

    /// Tells that a key was removed.
    #[inline]
    pub(crate) fn removed(&mut self, hash: u64, removal: Removal, now: Millis) {
        if self.follows(hash) {
            // A use of the next key of this name is to be told.
            self.said.iter_mut().for_each(|said| said[said_at(hash)] = Said::default());
            self.tell_removed(hash, removal, now);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_removed(&self, hash: u64, removal: Removal, now: Millis) {
        let Some(panel) = &self.panel else { return };
        let kind = match removal {
            Removal::Evicted => Kind::Left(End::Evicted),
            Removal::Expired => Kind::Left(End::Expired),
            Removal::Deleted | Removal::Unlinked => Kind::Left(End::Deleted),
            Removal::Replaced => Kind::Lost,
        };
        let key = Hashed { bytes: b"", hash };
        let mut thread = panel.thread(self.worker);
        if thread.note(Note::new(&key, TableNumber(0), kind, None, now)) {
            panel.take_over(&mut thread, 0, None);
        }
    }
}

/// Where a use of a key is remembered that was told.
#[inline]
fn said_at(hash: u64) -> usize {
    (hash >> 16) as usize % SAID
}

#[cfg(test)]
mod tests;
