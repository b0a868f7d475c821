//! lru, lrm, fifo and mru: a calendar of generations, in which entries stand under the time they were filed.
//!
//! A hit writes the current generation into the entry and nothing else. Each entry stands in the ring of one generation,
//! as old as its last use or older; whoever comes out of the oldest ring with a newer use is filed again under that.
//! So the one that leaves is the one used longest ago up to the length of a generation, 1/512 of the entries made in
//! the time an entry lives unused, and exactly the one made longest ago where uses do not count. The idea is that of lazy
//! promotion (Yang et al., HotOS 2023) in a calendar queue (Brown, CACM 1988).
//!
//! mru takes the one touched last by what threads list of their hits, else the newest of the newest ring.
//!
//! Field, from the top: 14 bits generation of the last use, 10 bits ring. A reference that comes out of another ring than
//! the entry says is a leftover of a deletion, and dropped.
//! Cost: four bytes an entry. Invariant: generations in use span at most 1,023, so a ring's number tells it.

use super::leftovers_max;
use crate::Hits;
use crate::hits::{CLOCK_MASK, CLOCK_SHIFT, Recording};
use crate::interface::{Entries, Policy, Ref, Scope, Seen, Step};
use crate::ring::Rings;

const RINGS: usize = 1 << RING_BITS;
const RING_BITS: u32 = 10;
const RING_MASK: u32 = (1 << RING_BITS) - 1;
/// References looked at in one step.
const LOOKS: usize = 16;
/// References looked at for leftovers in one step.
const TIDY_LOOKS: usize = 64;

/// Which uses count, and who leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one used longest ago.
    Lru,
    /// The one written longest ago.
    Lrm,
    /// The one made longest ago.
    Fifo,
    /// The one used last.
    Mru,
}

impl Order {
    /// Generations in the time in which all entries are made anew.
    fn generations(self) -> usize {
        match self {
            Order::Lru | Order::Lrm => 512,
            // What is made later stands later in its ring, and that is all that counts.
            Order::Fifo | Order::Mru => 8,
        }
    }

    /// What threads do on a hit.
    #[must_use]
    pub fn recording(self) -> Recording {
        match self {
            Order::Lru => Recording::Clock,
            Order::Lrm => Recording::ClockOfWrites,
            Order::Fifo => Recording::None,
            Order::Mru => Recording::ClockAndLog,
        }
    }
}

/// The policy.
#[derive(Debug)]
pub struct Calendar {
    order: Order,
    scope: Scope,
    rings: Rings,
    /// The current generation.
    now: u32,
    /// The oldest generation with a ring in use.
    oldest: u32,
    /// Entries made in the current generation.
    made: usize,
    entries: usize,
    /// mru: what was touched last, the last at the end.
    touched: Vec<Ref>,
    newest: Option<Ref>,
    /// The generation whose ring is looked through for leftovers, and how many of its references are left to see.
    turning: u32,
    turning_left: usize,
}

const TOUCHED_MAX: usize = 512;

impl Calendar {
    /// An empty one.
    #[must_use]
    pub fn new(order: Order, scope: Scope) -> Self {
        Calendar {
            order,
            scope,
            rings: Rings::new(RINGS),
            now: 0,
            oldest: 0,
            made: 0,
            entries: 0,
            touched: Vec::new(),
            newest: None,
            turning: 0,
            turning_left: 0,
        }
    }

    fn ring(generation: u32) -> usize {
        (generation & RING_MASK) as usize
    }

    fn field(generation: u32) -> u32 {
        (generation & CLOCK_MASK) << CLOCK_SHIFT | generation & RING_MASK
    }

    /// The generation of the last use of an entry filed under one: not before that, where a thread's clock was behind.
    fn generation(&self, field: u32, filed: u32) -> u32 {
        let behind = self.now.wrapping_sub(field >> CLOCK_SHIFT) & CLOCK_MASK;
        self.now.wrapping_sub(behind.min(self.now.wrapping_sub(filed)))
    }

    /// Begins a generation when it is time and there is a ring for it.
    fn turn(&mut self) {
        self.made += 1;
        if self.made * self.order.generations() >= self.entries
            && self.now.wrapping_sub(self.oldest) < RINGS as u32 - 1
        {
            self.made = 0;
            self.now = self.now.wrapping_add(1);
        }
    }

    fn file(&mut self, entries: &mut dyn Entries, at: Ref, generation: u32, field: u32) {
        entries.set_field(at, field & !RING_MASK | generation & RING_MASK);
        self.rings.push(Self::ring(generation), at);
    }

    /// Whether this reference is the one by which the entry is filed.
    fn is_filed(&self, seen: &Seen, generation: u32) -> bool {
        self.scope.has(seen) && seen.field & RING_MASK == generation & RING_MASK
    }

    fn step_oldest(&mut self, entries: &mut dyn Entries) -> Step {
        for _ in 0..LOOKS {
            while self.rings.has_none(Self::ring(self.oldest)) {
                if self.oldest == self.now {
                    return Step::Nothing;
                }
                self.oldest = self.oldest.wrapping_add(1);
            }
            let generation = self.oldest;
            let Some(at) = self.rings.pop(Self::ring(generation)) else { continue };
            let Some(seen) = entries.look(at) else { continue };
            if !self.is_filed(&seen, generation) {
                continue;
            }
            let used = self.generation(seen.field, generation);
            if seen.is_over || used == generation && self.may_go(at, entries) {
                return Step::Evict(at);
            }
            if used == generation && self.rings.total() == 0 {
                self.file(entries, at, used, seen.field);
                return Step::Nothing;
            }
            self.file(entries, at, used, seen.field);
        }
        Step::More
    }

    fn step_newest(&mut self, entries: &mut dyn Entries) -> Step {
        for _ in 0..LOOKS {
            let Some(at) = self.touched.pop() else { break };
            if entries.look(at).is_some_and(|seen| self.scope.has(&seen)) && self.may_go(at, entries) {
                self.drop_newest(at);
                return Step::Evict(at);
            }
        }
        let mut generation = self.now;
        let mut spared = None;
        let mut step = Step::More;
        for _ in 0..LOOKS {
            while self.rings.has_none(Self::ring(generation)) {
                if generation == self.oldest {
                    step = Step::Nothing;
                    break;
                }
                generation = generation.wrapping_sub(1);
            }
            let Some(at) = self.rings.pop_newest(Self::ring(generation)) else { break };
            let Some(seen) = entries.look(at) else { continue };
            if !self.is_filed(&seen, generation) {
                continue;
            }
            if self.may_go(at, entries) {
                step = Step::Evict(at);
                break;
            }
            spared = Some((at, generation));
        }
        if let Some((at, generation)) = spared {
            self.rings.push(Self::ring(generation), at);
        }
        step
    }

    /// Drops the last reference if it is this entry's, as it is where one after the other is made and evicted.
    fn drop_newest(&mut self, at: Ref) {
        let ring = Self::ring(self.now);
        if let Some(last) = self.rings.pop_newest(ring)
            && last != at
        {
            self.rings.push(ring, last);
        }
    }

    /// What was just made stays, so that it is there for whoever made it.
    fn may_go(&mut self, at: Ref, entries: &mut dyn Entries) -> bool {
        self.newest != Some(at) || entries.len() <= 1
    }

    /// Drops some leftovers of deletions, when there are many: one ring after the other is turned once around.
    fn tidy(&mut self, entries: &mut dyn Entries) {
        if self.rings.total() <= leftovers_max(entries.len()) {
            return;
        }
        for _ in 0..TIDY_LOOKS {
            if self.turning_left == 0 {
                let behind = self.now.wrapping_sub(self.turning);
                let is_inside = behind > 0 && behind <= self.now.wrapping_sub(self.oldest);
                self.turning = if is_inside { self.turning.wrapping_add(1) } else { self.oldest };
                self.turning_left = self.rings.count(Self::ring(self.turning));
                continue;
            }
            self.turning_left -= 1;
            let generation = self.turning;
            let Some(at) = self.rings.pop(Self::ring(generation)) else { continue };
            if let Some(seen) = entries.look(at)
                && self.is_filed(&seen, generation)
            {
                let used = self.generation(seen.field, generation);
                self.file(entries, at, used, seen.field);
            }
        }
    }
}

impl Policy for Calendar {
    fn created(&mut self, at: Ref, _bytes: u32) -> u32 {
        self.entries += 1;
        self.turn();
        self.rings.push(Self::ring(self.now), at);
        self.newest = Some(at);
        if self.order == Order::Mru {
            self.note(at);
        }
        Self::field(self.now)
    }

    fn arriving(&mut self) {
        self.newest = None;
    }

    fn removed(&mut self, _at: Ref, _seen: Seen) {
        self.entries = self.entries.saturating_sub(1);
    }

    fn absorb(&mut self, hits: &mut Hits) {
        hits.count = 0;
        hits.clock = self.now & CLOCK_MASK;
        if self.order == Order::Mru {
            for at in std::mem::take(&mut hits.log) {
                self.note(at);
            }
        }
    }

    fn step(&mut self, entries: &mut dyn Entries) -> Step {
        self.tidy(entries);
        let step =
            if self.order == Order::Mru { self.step_newest(entries) } else { self.step_oldest(entries) };
        if let Step::Evict(_) = step {
            self.entries = self.entries.saturating_sub(1);
        }
        step
    }

    fn observe(&mut self, entries: &mut dyn Entries) {
        self.tidy(entries);
    }

    fn memory(&self) -> usize {
        self.rings.memory() + self.touched.capacity() * size_of::<Ref>() + size_of::<Self>()
    }
}

impl Calendar {
    fn note(&mut self, at: Ref) {
        if self.touched.len() == TOUCHED_MAX {
            self.touched.drain(..TOUCHED_MAX / 2);
        }
        self.touched.push(at);
    }
}
