//! Admission in front of any policy: what is new is on probation, and leaves before what is used.
//!
//! A new entry whose name is not remembered stands in a queue beside the policy's own order. Where the queue holds more than
//! its part of the entries, its oldest leaves, unless it was used since it was made; its name is remembered while half
//! as many others leave, and who comes back within that time is admitted at once. So what is asked for once passes
//! through a tenth of the room and pushes nothing else out. The queue and the names are those of S3-FIFO (Yang et al., SOSP
//! 2023); what is admitted leaves in the order of the policy.
//!
//! Cost: the policy's, a byte an entry for names and half a byte for the queue.

use super::leftovers_max;
use crate::Hits;
use crate::interface::{Entries, Epoch, Policy, Ref, Scope, Seen, Step};
use crate::random::mix;
use crate::ring::Rings;

/// The part of the entries that may be on probation, as a divisor.
const PART: usize = 10;
const LOOKS: usize = 16;

/// Names in a set.
const WAYS: usize = 32;

#[derive(Clone, Debug)]
#[repr(align(64))]
struct Set([u16; WAYS]);

/// The names of entries that left: 16 bits of the hash each, in sets of a cache line that are first in, first out. Of those
/// asked for, about one in two thousand that was never here is taken for one that was. Zero is no name.
#[derive(Debug, Default)]
struct Names {
    sets: Vec<Set>,
    made_for: usize,
}

impl Names {
    /// Has room for so many names, within a fifth. What was known is forgotten when that changes.
    fn fit(&mut self, names: usize) {
        if self.made_for == 0 || names > self.made_for * 5 / 4 || names < self.made_for * 5 / 6 {
            self.made_for = names.max(1);
            let sets = self.made_for.div_ceil(WAYS);
            if sets != self.sets.len() {
                self.sets = vec![Set([0; WAYS]); sets];
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    fn place(&mut self, at: Ref) -> (Option<&mut [u16; WAYS]>, u16) {
        let hash = mix(u64::from(at.0) ^ 0x6e61_6d65_7300);
        let set = ((hash >> 32) * self.sets.len() as u64) >> 32;
        (self.sets.get_mut(set as usize).map(|set| &mut set.0), (hash as u16).max(1))
    }

    fn insert(&mut self, at: Ref) {
        if let (Some(ways), name) = self.place(at) {
            ways.copy_within(0..WAYS - 1, 1);
            ways[0] = name;
        }
    }

    /// Whether it is remembered; it is forgotten.
    fn take(&mut self, at: Ref) -> bool {
        let (Some(ways), name) = self.place(at) else { return false };
        let Some(way) = ways.iter().position(|known| *known == name) else { return false };
        ways.copy_within(way + 1.., way);
        ways[WAYS - 1] = 0;
        true
    }

    fn memory(&self) -> usize {
        self.sets.capacity() * size_of::<Set>()
    }
}

/// A policy with probation in front of it.
#[derive(Debug)]
pub struct Probation {
    inner: Box<dyn Policy>,
    scope: Scope,
    queue: Rings,
    names: Names,
    newest: Option<Ref>,
}

impl Probation {
    /// Has what is new in a policy pass through probation.
    #[must_use]
    pub fn before(inner: Box<dyn Policy>, scope: Scope) -> Self {
        Probation { inner, scope, queue: Rings::new(), names: Names::default(), newest: None }
    }

    /// The oldest on probation, if it is to leave.
    fn failed(&mut self, entries: &mut dyn Entries) -> Option<Ref> {
        for _ in 0..LOOKS {
            if self.queue.total() * PART <= entries.len() {
                return None;
            }
            let at = self.queue.pop(0)?;
            if self.newest == Some(at) && entries.len() > 1 {
                self.queue.push(0, at);
                return None;
            }
            if let Some(seen) = entries.look(at)
                && self.scope.has(&seen)
                && (seen.is_over || !self.inner.was_used(&seen))
            {
                self.inner.removed(at, seen);
                if !seen.is_over {
                    self.names.insert(at);
                }
                return Some(at);
            }
        }
        None
    }
}

impl Policy for Probation {
    fn created(&mut self, at: Ref, bytes: u32) -> u32 {
        self.newest = Some(at);
        // While nothing had to leave there is nothing to be protected.
        if !self.names.is_empty() && !self.names.take(at) {
            self.queue.push(0, at);
        }
        self.inner.created(at, bytes)
    }

    fn adopt(&mut self, at: Ref, seen: Seen, idle: f32) -> u32 {
        self.inner.adopt(at, seen, idle)
    }

    fn recall(&mut self, at: Ref, bytes: u32, kept: u32) -> u32 {
        self.inner.recall(at, bytes, kept)
    }

    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }

    fn learned(&self, out: &mut Vec<u8>) {
        self.inner.learned(out);
    }

    fn learn_from(&mut self, learned: &[u8]) {
        self.inner.learn_from(learned);
    }

    fn refile(&mut self, at: Ref, seen: Seen) -> u32 {
        // Whose shard is taken is used: its probation is over.
        self.inner.refile(at, seen)
    }

    fn is_cluttered(&self, entries: usize) -> bool {
        self.queue.total() > leftovers_max(entries) || self.inner.is_cluttered(entries)
    }

    fn arriving(&mut self) {
        self.newest = None;
        self.inner.arriving();
    }

    fn removed(&mut self, at: Ref, seen: Seen) {
        self.inner.removed(at, seen);
    }

    fn resized(&mut self, field: u32, before: u32, after: u32) {
        self.inner.resized(field, before, after);
    }

    fn absorb(&mut self, hits: &mut Hits) {
        self.inner.absorb(hits);
    }

    fn step(&mut self, entries: &mut dyn Entries) -> Step {
        self.names.fit(entries.len() / 2);
        match self.failed(entries) {
            Some(at) => Step::Evict(at),
            None => self.inner.step(entries),
        }
    }

    fn was_used(&self, seen: &Seen) -> bool {
        self.inner.was_used(seen)
    }

    fn second_passed(&mut self) {
        self.inner.second_passed();
    }

    fn clock(&self) -> u32 {
        self.inner.clock()
    }

    fn expect(&mut self, entries: usize) {
        self.inner.expect(entries);
    }

    fn keep(&mut self, candidates: usize) {
        self.inner.keep(candidates);
    }

    fn observe(&mut self, entries: &mut dyn Entries) {
        self.inner.observe(entries);
        self.queue.shrink();
        if self.queue.total() <= leftovers_max(entries.len()) {
            return;
        }
        for _ in 0..LOOKS {
            let Some(at) = self.queue.pop(0) else { return };
            if entries.look(at).is_some_and(|seen| self.scope.has(&seen)) {
                self.queue.push(0, at);
            }
        }
    }

    fn memory(&self) -> usize {
        self.inner.memory() + self.queue.memory() + self.names.memory() + size_of::<Self>()
    }
}
