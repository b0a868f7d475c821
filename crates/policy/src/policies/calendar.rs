//! lru, lrm, fifo and mru: a calendar of periods, in which entries stand under the time they were filed.
//!
//! A hit writes the current generation into the entry and nothing else. Each entry stands in the ring of one period, as old
//! as its last use or older; whoever comes out of the oldest ring with a newer use is filed again under that. So the one
//! that leaves is the one used longest ago up to the length of a period, 1/512 of the entries made in the time an entry
//! lives unused, and exactly the one made longest ago where uses do not count (but that a key which is deleted and made anew within
//! a period leaves where it stood). The idea is that of lazy promotion (Yang
//! et al., HotOS 2023) in a calendar queue (Brown, CACM 1988).
//!
//! A generation begins with every 1/512 of the entries made anew, and with every second or so. While nothing leaves, there
//! come to be more periods than rings: then old ones are joined two by two, so that they are the coarser the older they are.
//!
//! mru takes the one touched last by what threads list of their hits, else the newest of the newest ring.
//!
//! Field, from the top: 14 bits generation of the last use, 10 bits ring. A reference that comes out of another ring than
//! the entry says is a leftover of a deletion, and dropped.
//! Cost: 4.6 bytes an entry. Invariants: periods ascend, each has a ring of its own, the last is the current one;
//! no entry that is filed was used more than [`AGE_MAX`] generations ago by its field.

use super::{Numbers, leftovers_max};
use crate::Hits;
use crate::hits::{CLOCK_BITS, CLOCK_MASK, CLOCK_SHIFT, Recording};
use crate::interface::{Entries, Epoch, Policy, Ref, Scope, Seen, Step};
use crate::ring::Rings;
use std::collections::VecDeque;

const RINGS: usize = 1 << 10;
const RING_MASK: u32 = RINGS as u32 - 1;
/// References looked at in one step.
const LOOKS: usize = 16;
/// References looked at for leftovers in one step.
const TIDY_LOOKS: usize = 64;
/// References moved in one step where periods are joined, and with each entry that is made.
const JOIN_LOOKS: usize = 64;
const JOIN_LOOKS_MADE: usize = 4;
/// Entries made in a generation, at least, where that leaves enough of them.
const ENTRIES_A_GENERATION: usize = 32;
/// An entry used longer ago than so many generations looks as if it was so many, so that no clock that wraps makes it young.
const AGE_MAX: u32 = CLOCK_MASK / 4 * 3;
/// A generation lasts at least this part of the time that the oldest period is ago, as a divisor.
const SECONDS_PART: u64 = 4096;

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
    /// Generations in the time in which all of so many entries are made anew.
    #[inline]
    fn generations(self, entries: usize) -> usize {
        match self {
            // Where entries are few, as few as tell their order to half a percent.
            Order::Lru | Order::Lrm => (entries / ENTRIES_A_GENERATION).clamp(256, 512),
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

/// A stretch of generations whose entries stand in one ring.
#[derive(Clone, Copy, Debug)]
struct Period {
    ring: u16,
    /// Its first generation; it lasts until the next one's.
    first: u32,
    /// The second in which it began.
    second: u64,
}

/// The policy.
#[derive(Debug)]
pub struct Calendar {
    order: Order,
    scope: Scope,
    rings: Rings,
    /// From the oldest to the current one; never empty.
    periods: VecDeque<Period>,
    free: Vec<u16>,
    /// The current generation.
    now: u32,
    /// Entries made in the current generation.
    made: usize,
    entries: usize,
    /// Entries there will be when the cache is full.
    expected: usize,
    /// Seconds that have passed, and the one in which the current generation began.
    seconds: u64,
    began: u64,
    /// mru: what was touched last, the last at the end.
    touched: Vec<Ref>,
    newest: Option<Ref>,
    /// The period whose ring is looked through for leftovers, and how many of its references are left to see.
    turning: usize,
    turning_left: usize,
    /// The period that is joined with the one after it.
    joining: usize,
    /// Periods were laid out for entries from before a restart, and nothing has left since.
    awaits_entries: bool,
}

const TOUCHED_MAX: usize = 512;

impl Calendar {
    /// An empty one.
    #[must_use]
    pub fn new(order: Order, scope: Scope) -> Self {
        Calendar {
            order,
            scope,
            rings: Rings::new(),
            periods: VecDeque::from([Period { ring: 0, first: 0, second: 0 }]),
            free: (1..RINGS as u16).rev().collect(),
            now: 0,
            made: 0,
            entries: 0,
            expected: 0,
            seconds: 0,
            began: 0,
            touched: Vec::new(),
            newest: None,
            turning: 0,
            turning_left: 0,
            joining: 0,
            awaits_entries: false,
        }
    }

    /// How many generations ago.
    fn age(&self, generation: u32) -> u32 {
        self.now.wrapping_sub(generation)
    }

    /// The generation of the last use of an entry filed in a period: not before that, where a thread's clock was behind.
    fn generation(&self, field: u32, period: usize) -> u32 {
        let behind = self.age(field >> CLOCK_SHIFT) & CLOCK_MASK;
        self.now.wrapping_sub(behind.min(self.age(self.periods[period].first)))
    }

    /// The period that a generation belongs to.
    fn period_of(&self, generation: u32) -> usize {
        let age = self.age(generation);
        self.periods.partition_point(|period| self.age(period.first) >= age).saturating_sub(1)
    }

    fn current(&self) -> usize {
        self.periods.len() - 1
    }

    /// Begins a generation, if there is a ring for it.
    fn begin(&mut self) {
        // Those without entries need no joining; but those that were laid out are still to get theirs.
        while let Some(oldest) = self.periods.front()
            && !self.awaits_entries
            && self.periods.len() > 1
            && self.rings.has_none(oldest.ring.into())
        {
            self.drop_period(0);
        }
        let Some(ring) = self.free.pop() else { return };
        self.made = 0;
        self.now = self.now.wrapping_add(1);
        self.began = self.seconds;
        self.periods.push_back(Period { ring, first: self.now, second: self.seconds });
    }

    /// Makes periods for what was used up to so many generations ago.
    fn lay_out(&mut self, oldest: u32) {
        let most = self.order.generations(self.entries.max(self.expected)).max(256) as u32;
        let each = oldest.div_ceil(most).max(1);
        self.now = self.now.wrapping_add(oldest);
        self.awaits_entries = true;
        while self.periods.len() > 1 {
            self.drop_period(0);
        }
        self.periods.iter_mut().for_each(|current| current.first = self.now);
        for age in (each..=oldest).step_by(each as usize) {
            let Some(ring) = self.free.pop() else { return };
            self.periods.push_front(Period { ring, first: self.now.wrapping_sub(age), second: self.seconds });
        }
    }

    fn drop_period(&mut self, at: usize) {
        if let Some(gone) = self.periods.remove(at) {
            self.free.push(gone.ring);
        }
        self.turning -= usize::from(self.turning > at);
        if self.joining > at {
            self.joining -= 1;
        }
    }

    /// Begins a generation when so many entries were made that it is time.
    fn turn(&mut self) {
        self.made += 1;
        let entries = self.entries.max(self.expected / 2);
        if self.made * self.order.generations(entries) >= entries {
            self.begin();
        }
    }

    fn file(&mut self, entries: &mut dyn Entries, at: Ref, generation: u32) {
        let ring = self.periods[self.period_of(generation)].ring;
        entries.set_field(at, field(generation, ring));
        self.rings.push(ring.into(), at);
    }

    /// Whether this reference out of a period's ring is the one by which the entry is filed.
    fn is_filed(&self, seen: &Seen, period: usize) -> bool {
        self.scope.has(seen) && seen.field & RING_MASK == u32::from(self.periods[period].ring)
    }

    /// Joins old periods while too few rings are free: each of two by two gives its references to the one after it,
    /// but for those used since, which are filed under that.
    #[inline]
    fn join(&mut self, entries: &mut dyn Entries, looks: usize) {
        let held = self.entries.max(self.expected / 2);
        if self.periods.len() > self.order.generations(held).max(256) * 3 / 2 {
            self.join_some(entries, looks);
        }
    }

    #[inline(never)]
    fn join_some(&mut self, entries: &mut dyn Entries, looks: usize) {
        // The newer half of the periods stays as fine as it was made.
        let end = self.periods.len() / 2;
        for _ in 0..looks {
            if self.joining + 1 >= end {
                self.joining = 0;
            }
            let (older, newer) = (self.joining, self.joining + 1);
            if newer >= self.periods.len() {
                return;
            }
            // Oldest last, and before those that are there: the order stays.
            let Some(at) = self.rings.pop_newest(self.periods[older].ring.into()) else {
                let Period { first, second, .. } = self.periods[older];
                (self.periods[newer].first, self.periods[newer].second) = (first, second);
                self.drop_period(older);
                self.joining = older + 1;
                continue;
            };
            let Some(seen) = entries.look(at) else { continue };
            if !self.is_filed(&seen, older) {
                continue;
            }
            let used = self.generation(seen.field, older);
            if self.period_of(used) > newer {
                self.file(entries, at, used);
                continue;
            }
            let used = if self.age(used) > AGE_MAX { self.now.wrapping_sub(AGE_MAX) } else { used };
            let ring = self.periods[newer].ring;
            entries.set_field(at, field(used, ring));
            self.rings.push_oldest(ring.into(), at);
        }
    }

    fn step_oldest(&mut self, entries: &mut dyn Entries) -> Step {
        // What was just made stands aside for the step: it may be filed twice, and be all there is.
        let mut spared = None;
        let step = self.oldest(entries, &mut spared);
        if let Some((at, used)) = spared {
            self.file(entries, at, used);
        }
        step
    }

    fn oldest(&mut self, entries: &mut dyn Entries, spared: &mut Option<(Ref, u32)>) -> Step {
        for _ in 0..LOOKS {
            while self.rings.has_none(self.periods[0].ring.into()) {
                if self.periods.len() == 1 {
                    return Step::Nothing;
                }
                self.drop_period(0);
            }
            let Some(at) = self.rings.pop(self.periods[0].ring.into()) else { continue };
            let Some(seen) = entries.look(at) else { continue };
            if !self.is_filed(&seen, 0) {
                continue;
            }
            let used = self.generation(seen.field, 0);
            let is_oldest = self.periods.get(1).is_none_or(|next| self.age(next.first) < self.age(used));
            if seen.is_over || is_oldest && self.may_go(at, entries) {
                return Step::Evict(at);
            }
            if is_oldest {
                *spared = Some((at, used));
            } else {
                self.file(entries, at, used);
            }
        }
        Step::More
    }

    fn step_newest(&mut self, entries: &mut dyn Entries) -> Step {
        let mut spared = None;
        let mut found = None;
        for _ in 0..LOOKS {
            let Some(at) = self.touched.pop() else { break };
            if entries.look(at).is_some_and(|seen| self.scope.has(&seen)) {
                if self.may_go(at, entries) {
                    found = Some(at);
                    break;
                }
                spared = Some(at);
            }
        }
        self.touched.extend(spared);
        if let Some(at) = found {
            self.drop_newest(at);
            return Step::Evict(at);
        }
        let mut period = self.current();
        let mut spared = None;
        let mut step = Step::More;
        for _ in 0..LOOKS {
            while self.rings.has_none(self.periods[period].ring.into()) {
                if period == 0 {
                    step = Step::Nothing;
                    break;
                }
                period -= 1;
            }
            let Some(at) = self.rings.pop_newest(self.periods[period].ring.into()) else { break };
            let Some(seen) = entries.look(at) else { continue };
            if !self.is_filed(&seen, period) {
                continue;
            }
            if self.may_go(at, entries) {
                step = Step::Evict(at);
                break;
            }
            spared = Some((at, period));
        }
        if let Some((at, period)) = spared {
            self.rings.push(self.periods[period].ring.into(), at);
        }
        step
    }

    /// Drops the last reference if it is this entry's, as it is where one after the other is made and evicted.
    fn drop_newest(&mut self, at: Ref) {
        let ring = self.periods[self.current()].ring.into();
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
    #[inline]
    fn tidy(&mut self, entries: &mut dyn Entries) {
        self.rings.shrink();
        // As many as was told just now: `entries.len()`.
        if self.rings.total() > leftovers_max(self.entries) {
            self.turn_some(entries);
        }
    }

    #[cold]
    fn turn_some(&mut self, entries: &mut dyn Entries) {
        for _ in 0..TIDY_LOOKS {
            if self.turning_left == 0 {
                self.turning = if self.turning < self.current() { self.turning + 1 } else { 0 };
                self.turning_left = self.rings.count(self.periods[self.turning].ring.into());
                continue;
            }
            self.turning_left -= 1;
            let period = self.turning;
            let Some(at) = self.rings.pop(self.periods[period].ring.into()) else { continue };
            if let Some(seen) = entries.look(at)
                && self.is_filed(&seen, period)
            {
                let used = self.generation(seen.field, period);
                self.file(entries, at, used);
            }
        }
    }

    fn note(&mut self, at: Ref) {
        if self.touched.len() == TOUCHED_MAX {
            self.touched.drain(..TOUCHED_MAX / 2);
        }
        self.touched.push(at);
    }
}

fn field(generation: u32, ring: u16) -> u32 {
    (generation & CLOCK_MASK) << CLOCK_SHIFT | u32::from(ring)
}

/// The age of an entry, in generations.
pub(super) fn kept(field: u32, epoch: Epoch) -> u32 {
    epoch.age(field >> CLOCK_SHIFT, CLOCK_BITS)
}

impl Policy for Calendar {
    fn created(&mut self, at: Ref, _bytes: u32) -> u32 {
        self.entries += 1;
        self.turn();
        let ring = self.periods[self.current()].ring;
        self.rings.push(ring.into(), at);
        self.newest = Some(at);
        if self.order == Order::Mru {
            self.note(at);
        }
        field(self.now, ring)
    }

    fn adopt(&mut self, at: Ref, _seen: Seen, idle: f32) -> u32 {
        self.entries += 1;
        // As many periods as were made for it when the first came.
        let made = self.periods.len();
        if made < ADOPTED_PERIODS {
            (made..ADOPTED_PERIODS).for_each(|_| self.begin());
        }
        let place = (1.0 - idle.clamp(0.0, 1.0)) * (ADOPTED_PERIODS - 1) as f32;
        let Period { ring, first, .. } = self.periods[(place as usize).min(self.current())];
        self.rings.push(ring.into(), at);
        field(first, ring)
    }

    fn recall(&mut self, at: Ref, _bytes: u32, kept: u32) -> u32 {
        self.entries += 1;
        let used = self.now.wrapping_sub(kept.min(AGE_MAX));
        let Period { ring, first, .. } = self.periods[self.period_of(used)];
        self.rings.push(ring.into(), at);
        // In the oldest period stands what is older still.
        let used = if self.age(used) > self.age(first) { first } else { used };
        field(used, ring)
    }

    fn learned(&self, out: &mut Vec<u8>) {
        let oldest = self.periods.front().map_or(0, |oldest| self.age(oldest.first));
        out.extend_from_slice(&oldest.to_le_bytes());
    }

    fn learn_from(&mut self, learned: &[u8]) {
        if let Some(oldest) = Numbers(learned).next()
            && self.rings.total() == 0
        {
            self.lay_out(oldest.min(AGE_MAX));
        }
    }

    fn refile(&mut self, at: Ref, seen: Seen) -> u32 {
        let used = self.generation(seen.field, 0);
        let ring = self.periods[self.period_of(used)].ring;
        self.rings.push(ring.into(), at);
        field(used, ring)
    }

    fn is_cluttered(&self, entries: usize) -> bool {
        self.rings.total() > leftovers_max(entries)
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

    fn was_used(&self, seen: &Seen) -> bool {
        let ring = seen.field & RING_MASK;
        let filed = self.periods.iter().position(|period| u32::from(period.ring) == ring);
        filed.is_some_and(|period| self.period_of(self.generation(seen.field, period)) > period)
    }

    fn second_passed(&mut self) {
        // So that uses are told apart also while nothing is made.
        self.seconds += 1;
        let oldest = self.periods.front().map_or(0, |oldest| oldest.second);
        if self.seconds - self.began > (self.seconds - oldest) / SECONDS_PART {
            self.begin();
        }
    }

    fn clock(&self) -> u32 {
        self.now & CLOCK_MASK
    }

    fn expect(&mut self, entries: usize) {
        self.expected = entries;
    }

    fn step(&mut self, entries: &mut dyn Entries) -> Step {
        self.entries = entries.len();
        self.awaits_entries = false;
        self.tidy(entries);
        self.join(entries, JOIN_LOOKS_MADE);
        if self.order == Order::Mru { self.step_newest(entries) } else { self.step_oldest(entries) }
    }

    fn observe(&mut self, entries: &mut dyn Entries) {
        self.entries = entries.len();
        self.tidy(entries);
        self.join(entries, JOIN_LOOKS);
    }

    fn memory(&self) -> usize {
        self.rings.memory()
            + self.touched.capacity() * size_of::<Ref>()
            + self.periods.capacity() * size_of::<Period>()
            + self.free.capacity() * size_of::<u16>()
            + size_of::<Self>()
    }
}

/// Periods in which what was there before the policy is filed, by how long it had not been used.
const ADOPTED_PERIODS: usize = 64;
