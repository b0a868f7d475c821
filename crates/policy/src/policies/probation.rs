//! Admission in front of any policy: what is new is on probation, and leaves before what is used.
//!
//! A new entry whose name is not remembered stands in a queue beside the policy's own order. Where the queue holds more than
//! its part of the entries, its oldest leaves, unless it was used since it was made; its name is remembered for as long
//! as as many others leave, and who comes back within that time is admitted at once. So what is asked for once passes
//! through a tenth of the room and pushes nothing else out. The queue and the names are those of S3-FIFO (Yang et al., SOSP
//! 2023); what is admitted leaves in the order of the policy.
//!
//! Cost: the policy's, 4 bytes an entry for names and less than one for the queue.

use super::ghosts::Ghosts;
use super::leftovers_max;
use crate::Hits;
use crate::interface::{Entries, Policy, Ref, Scope, Seen, Step};
use crate::ring::Rings;

/// The part of the entries that may be on probation, as a divisor.
const PART: usize = 10;
const LOOKS: usize = 16;

/// A policy with probation in front of it.
#[derive(Debug)]
pub struct Probation {
    inner: Box<dyn Policy>,
    scope: Scope,
    queue: Rings,
    names: Ghosts,
    newest: Option<Ref>,
}

impl Probation {
    /// Has what is new in a policy pass through probation.
    #[must_use]
    pub fn before(inner: Box<dyn Policy>, scope: Scope) -> Self {
        Probation { inner, scope, queue: Rings::new(1), names: Ghosts::default(), newest: None }
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
                    self.names.insert(at, 1);
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
        if self.names.sets() > 0 && self.names.take(at).is_none() {
            self.queue.push(0, at);
        }
        self.inner.created(at, bytes)
    }

    fn adopt(&mut self, at: Ref, seen: Seen, idle: f32) -> u32 {
        self.inner.adopt(at, seen, idle)
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
        self.names.fit(entries.len());
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
