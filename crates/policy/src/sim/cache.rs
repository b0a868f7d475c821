//! A cache of keys without values, run by the server's policies: the [`Entries`] of the simulator.
//!
//! Keys stand in the order of a random permutation, as a hash table has them. Invariant: after each request the cache
//! holds at most its capacity; `used` is the sum of sizes held.

use crate::hits::Hits;
use crate::interface::{Entries, Passing, Policy, Ref, Scope, Seen, Shown, Step};
use crate::model::{Model, Room, Use};
use crate::policies::Kind;
use crate::random::Random;

/// Entries a bucket of the table shows.
const BUCKET: usize = 8;
/// Hits between two times the policy takes notes in, as a server does once a turn.
const TURN: u32 = 32;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    field: u32,
    bytes: u32,
    end: u32,
}

/// The table.
#[derive(Debug)]
struct Table {
    slots: Vec<Slot>,
    is_held: Vec<u64>,
    len: usize,
    used: u64,
    second: u32,
    shown: Shown,
}

impl Table {
    fn has(&self, at: u32) -> bool {
        self.is_held.get(at as usize / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn insert(&mut self, at: u32, slot: Slot) {
        self.is_held[at as usize / 64] |= 1 << (at % 64);
        self.slots[at as usize] = slot;
        self.len += 1;
        self.used += u64::from(slot.bytes);
    }

    fn remove(&mut self, at: u32) {
        self.is_held[at as usize / 64] &= !(1 << (at % 64));
        self.len -= 1;
        self.used -= u64::from(self.slots[at as usize].bytes);
    }

    fn seen(&self, at: u32) -> Seen {
        let Slot { field, bytes, end } = self.slots[at as usize];
        let deadline = if end == u32::MAX { u64::MAX } else { u64::from(end) * 1000 };
        Seen { field, bytes, deadline, is_over: end <= self.second }
    }
}

impl Entries for Table {
    fn look(&mut self, at: Ref) -> Option<Seen> {
        self.has(at.0).then(|| self.seen(at.0))
    }

    fn set_field(&mut self, at: Ref, field: u32) {
        if self.has(at.0) {
            self.slots[at.0 as usize].field = field;
        }
    }

    fn walk(&mut self, from: u32, show: &mut dyn FnMut(&[Seen], &dyn Passing)) -> u32 {
        let keys = self.slots.len() as u32;
        let from = if from < keys { from } else { from % keys.max(1) };
        let mut shown = 0;
        let mut word_at = from as usize / 64;
        let mut word = self.is_held.get(word_at).copied().unwrap_or(0) >> (from % 64) << (from % 64);
        let next = 'bucket: loop {
            while word != 0 {
                let at = (word_at * 64) as u32 + word.trailing_zeros();
                word &= word - 1;
                let seen = self.seen(at);
                self.shown.add(Ref(at), seen);
                shown += 1;
                if shown == BUCKET {
                    break 'bucket at + 1;
                }
            }
            word_at += 1;
            match self.is_held.get(word_at) {
                Some(next) => word = *next,
                None => break 0,
            }
        };
        for (at, field) in self.shown.to(show) {
            self.slots[at.0 as usize].field = field;
        }
        next
    }

    fn len(&self) -> usize {
        self.len
    }
}

/// The cache.
#[derive(Debug)]
pub struct Cache {
    capacity: u64,
    scope: Scope,
    policy: Box<dyn Policy>,
    hits: Hits,
    table: Table,
    places: Vec<u32>,
    memory_most: f64,
}

impl Cache {
    /// An empty cache under a policy.
    #[must_use]
    pub fn new(room: Room, kind: Kind, scope: Scope) -> Self {
        Cache::with(room, kind, scope, kind.make(scope, 1))
    }

    /// An empty cache under a policy of a kind, made by the caller.
    #[must_use]
    pub fn with(room: Room, kind: Kind, scope: Scope, policy: Box<dyn Policy>) -> Self {
        let mut places: Vec<u32> = (0..room.keys).collect();
        let mut random = Random::new(0x7061_7274);
        for last in (1..places.len()).rev() {
            places.swap(last, random.below(last + 1));
        }
        Cache {
            capacity: room.capacity,
            scope,
            policy,
            hits: kind.hits(99),
            table: Table {
                slots: vec![Slot::default(); room.keys as usize],
                is_held: vec![0; (room.keys as usize).div_ceil(64)],
                len: 0,
                used: 0,
                second: 0,
                shown: Shown::default(),
            },
            places,
            memory_most: 0.0,
        }
    }

    /// The policy's memory, in bytes, by the entry; the most it was since the cache was full.
    #[must_use]
    pub fn memory_an_entry(&self) -> f64 {
        self.memory_most
    }

    /// Entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.len == 0
    }

    fn make_room(&mut self, size: u64) -> bool {
        while self.table.used + size > self.capacity {
            match self.policy.step(&mut self.table) {
                Step::Evict(at) => {
                    assert!(self.table.has(at.0), "a victim that is not there");
                    self.table.remove(at.0);
                }
                Step::More => {}
                Step::Nothing => return false,
            }
        }
        true
    }
}

impl Model for Cache {
    fn access(&mut self, request: Use) -> bool {
        let at = self.places[request.key as usize];
        if self.table.has(at) {
            let slot = &mut self.table.slots[at as usize];
            slot.field = self.hits.read(Ref(at), slot.field);
            if self.hits.count() >= TURN {
                self.policy.absorb(&mut self.hits);
            }
            return true;
        }
        if u64::from(request.size) > self.capacity {
            return false;
        }
        self.policy.absorb(&mut self.hits);
        self.table.second = request.second;
        if self.table.used + u64::from(request.size) > self.capacity && self.table.len > 0 {
            self.memory_most = self.memory_most.max(self.policy.memory() as f64 / self.table.len as f64);
        }
        let was_full = self.table.used + u64::from(request.size) > self.capacity;
        self.policy.arriving();
        if !self.make_room(u64::from(request.size)) {
            return false;
        }
        if !was_full {
            self.policy.observe(&mut self.table);
        }
        let may_leave = self.scope == Scope::All || request.end != u32::MAX;
        let field = if may_leave { self.policy.created(Ref(at), request.size) } else { 0 };
        self.table.insert(at, Slot { field, bytes: request.size, end: request.end });
        self.policy.absorb(&mut self.hits);
        false
    }

    fn remove(&mut self, key: u32) {
        let at = self.places[key as usize];
        if self.table.has(at) {
            let seen = self.table.seen(at);
            if self.scope.has(&seen) {
                self.policy.removed(Ref(at), seen);
            }
            self.table.remove(at);
        }
    }

    fn expire(&mut self, key: u32, end: u32) {
        let at = self.places[key as usize];
        if !self.table.has(at) {
            return;
        }
        let before = self.table.seen(at);
        self.table.slots[at as usize].end = end;
        let after = self.table.seen(at);
        match (self.scope.has(&before), self.scope.has(&after)) {
            (true, false) => self.policy.removed(Ref(at), before),
            (false, true) => {
                self.table.slots[at as usize].field = self.policy.created(Ref(at), after.bytes);
            }
            _ => {}
        }
    }

    fn store(&mut self, request: Use) {
        let at = self.places[request.key as usize];
        if !self.table.has(at) {
            self.access(request);
            return;
        }
        let slot = &mut self.table.slots[at as usize];
        let before = std::mem::replace(&mut slot.bytes, request.size);
        slot.field = self.hits.wrote(Ref(at), slot.field);
        self.table.used = self.table.used + u64::from(request.size) - u64::from(before);
        if before != request.size && self.scope.has(&self.table.seen(at)) {
            self.policy.resized(self.table.slots[at as usize].field, before, request.size);
        }
        self.expire(request.key, request.end);
        self.table.second = request.second;
        self.policy.absorb(&mut self.hits);
        self.make_room(0);
    }

    fn size_of(&self, key: u32) -> Option<u32> {
        let at = self.places[key as usize];
        self.table.has(at).then(|| self.table.slots[at as usize].bytes)
    }

    fn used(&self) -> u64 {
        self.table.used
    }
}
