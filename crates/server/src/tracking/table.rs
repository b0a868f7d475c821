//! Who has read which key.
//!
//! By the names of keys alone: as in Redis a change in any database is told. A key leaves the table when it changes, and when
//! there are too many; then its clients are told that it has changed, which makes them forget it.
//! Reads and changes of a key are numbered while it is locked: who has read it after a change that is yet to be told stays in.

use super::Tracked;
use larder_store::Followed;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Parts that are locked apart.
const PARTS: usize = 64;

/// A client that has read a key.
#[derive(Debug)]
struct Reader {
    tracked: Arc<Tracked>,
    /// When it did first, of the times since it was told last, and when last, as `Followed::tick` counts.
    first: u64,
    last: u64,
}

type Part = HashMap<Box<[u8]>, SmallVec<[Reader; 1]>>;

/// Clients that are to be told.
pub(super) type Told = SmallVec<[Arc<Tracked>; 2]>;

#[derive(Debug)]
pub(super) struct Table {
    parts: Box<[Mutex<Part>]>,
    hasher: RandomState,
    keys: AtomicUsize,
    items: AtomicUsize,
}

impl Default for Table {
    fn default() -> Self {
        Table {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            keys: AtomicUsize::new(0),
            items: AtomicUsize::new(0),
        }
    }
}

impl Table {
    /// Keys, and clients of all of them.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.keys.load(Relaxed), self.items.load(Relaxed))
    }

    fn part(&self, key: &[u8]) -> &Mutex<Part> {
        &self.parts[self.hasher.hash_one(key) as usize % PARTS]
    }

    /// Notes that a client has read a key, whose shard the caller has locked. O(clients that have read it).
    pub(super) fn enter(&self, key: &[u8], tracked: &Arc<Tracked>, followed: &Followed) {
        let mut part = self.part(key).lock();
        let now = followed.tick();
        let reader = Reader { tracked: Arc::clone(tracked), first: now, last: now };
        if let Some(readers) = part.get_mut(key) {
            if let Some(reader) = readers.iter_mut().find(|reader| Arc::ptr_eq(&reader.tracked, tracked)) {
                reader.last = now;
                return;
            }
            readers.push(reader);
        } else {
            part.insert(key.into(), SmallVec::from_iter([reader]));
            self.keys.fetch_add(1, Relaxed);
            followed.add_copied(key);
        }
        self.items.fetch_add(1, Relaxed);
    }

    /// Takes out that a client has read a key, whose shard the caller has locked. Whether it had.
    pub(super) fn leave(&self, key: &[u8], tracked: &Arc<Tracked>, followed: &Followed) -> bool {
        let mut part = self.part(key).lock();
        let Some(readers) = part.get_mut(key) else { return false };
        let Some(at) = readers.iter().position(|reader| Arc::ptr_eq(&reader.tracked, tracked)) else {
            return false;
        };
        readers.remove(at);
        self.items.fetch_sub(1, Relaxed);
        if readers.is_empty() {
            part.remove(key);
            self.keys.fetch_sub(1, Relaxed);
            followed.remove_copied(key);
        }
        true
    }

    /// Who has read a key before it changed at a time. They leave the table, unless they have read it again since.
    pub(super) fn take(&self, key: &[u8], at: u64, followed: &Followed) -> Told {
        let mut told = Told::new();
        let mut part = self.part(key).lock();
        let Some(readers) = part.get_mut(key) else { return told };
        let before = readers.len();
        readers.retain(|reader| {
            if reader.first < at {
                told.push(Arc::clone(&reader.tracked));
                reader.first = reader.last;
            }
            reader.last > at
        });
        self.items.fetch_sub(before - readers.len(), Relaxed);
        if readers.is_empty() {
            part.remove(key);
            self.keys.fetch_sub(1, Relaxed);
            followed.remove_copied(key);
        }
        told
    }

    /// Takes some key out, where there are more than `max`; `start` says where to look first.
    pub(super) fn take_any(
        &self,
        max: usize,
        start: usize,
        followed: &Followed,
    ) -> Option<(Box<[u8]>, Told)> {
        if self.keys.load(Relaxed) <= max {
            return None;
        }
        (0..PARTS).find_map(|step| {
            let mut part = self.parts[start.wrapping_add(step) % PARTS].lock();
            let key = part.keys().next()?.clone();
            let Entry::Occupied(entry) = part.entry(key) else { return None };
            let (key, readers) = entry.remove_entry();
            self.gone(&key, readers.len(), followed);
            Some((key, readers.into_iter().map(|reader| reader.tracked).collect()))
        })
    }

    /// Forgets everything.
    pub(super) fn clear(&self, followed: &Followed) {
        for part in &self.parts {
            for (key, readers) in part.lock().drain() {
                self.gone(&key, readers.len(), followed);
            }
        }
    }

    fn gone(&self, key: &[u8], items: usize, followed: &Followed) {
        self.keys.fetch_sub(1, Relaxed);
        self.items.fetch_sub(items, Relaxed);
        followed.remove_copied(key);
    }
}
