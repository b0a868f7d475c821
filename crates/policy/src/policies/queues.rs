//! sieve and s3fifo over rings of references, with two bits of uses in each entry.
//!
//! sieve (Zhang et al., NSDI 2024) is one queue and a hand that clears marks from the oldest on; here the queue stands in
//! two rings, before the hand and behind it, which change places when the hand comes to the end. s3fifo (Yang et al.,
//! SOSP 2023) keeps what is new in a small queue of a tenth; its main region is swept by a hand in the order of hashes,
//! like CLOCK, so that it needs no references of its own.
//!
//! Field, from the top: 16 bits number of the filing, bit 7 main region, 2 bits uses. A reference whose number is not the
//! entry's is a leftover of a deletion, and dropped.
//! Cost: sieve about 4.6 bytes an entry; s3fifo 0.5 for the small queue and 4 for the names of what left it.

use super::balance::Balance;
use super::ghosts::Ghosts;
use super::leftovers_max;
use crate::Hits;
use crate::interface::{Entries, Policy, Ref, Scope, Seen, Step};
use crate::ring::Rings;

const LOOKS: usize = 16;
const USES: u32 = 3;
const MAIN: u32 = 1 << 7;

/// Rings whose references are numbered.
#[derive(Debug)]
struct Numbered {
    rings: Rings,
    /// The number of the oldest reference of each ring, and the one that comes next.
    numbers: [(u32, u32); 2],
}

impl Numbered {
    fn new() -> Self {
        Numbered { rings: Rings::new(), numbers: [(0, 0); 2] }
    }

    /// Appends a reference; answers the bits of the field that hold its number.
    fn push(&mut self, ring: usize, at: Ref) -> u32 {
        let (_, next) = &mut self.numbers[ring];
        let number = *next;
        *next = next.wrapping_add(1);
        self.rings.push(ring, at);
        (number & 0xffff) << 8
    }

    /// Takes the oldest reference, with the bits of its number.
    fn pop(&mut self, ring: usize) -> Option<(Ref, u32)> {
        let at = self.rings.pop(ring)?;
        let (oldest, _) = &mut self.numbers[ring];
        let number = *oldest;
        *oldest = oldest.wrapping_add(1);
        Some((at, (number & 0xffff) << 8))
    }
}

/// Looks at the entry of a reference, if it is the one by which the entry is filed.
fn filed(entries: &mut dyn Entries, scope: Scope, (at, number): (Ref, u32)) -> Option<Seen> {
    entries.look(at).filter(|seen| scope.has(seen) && seen.field & (0x00ff_ff00 | MAIN) == number)
}

/// Region and uses. Where in a queue an entry stood is not kept.
pub(super) fn kept(field: u32) -> u32 {
    field & (MAIN | USES)
}

/// sieve.
#[derive(Debug)]
pub struct Sieve {
    scope: Scope,
    queue: Numbered,
    /// The ring before the hand; the other is behind it.
    ahead: usize,
    newest: Option<Ref>,
}

impl Sieve {
    /// An empty one.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Sieve { scope, queue: Numbered::new(), ahead: 0, newest: None }
    }
}

impl Sieve {
    fn next(&mut self, entries: &mut dyn Entries, spared: &mut Option<Ref>) -> Step {
        for _ in 0..LOOKS {
            let Some(popped) = self.queue.pop(self.ahead) else {
                if self.queue.rings.total() == 0 {
                    return Step::Nothing;
                }
                self.ahead = 1 - self.ahead;
                continue;
            };
            let Some(seen) = filed(entries, self.scope, popped) else { continue };
            let (at, is_used) = (popped.0, seen.field & USES != 0);
            if seen.is_over {
                return Step::Evict(at);
            }
            if self.newest == Some(at) && entries.len() > 1 {
                *spared = Some(at);
            } else if is_used {
                let field = self.queue.push(1 - self.ahead, at);
                entries.set_field(at, field);
            } else {
                return Step::Evict(at);
            }
        }
        Step::More
    }
}

impl Policy for Sieve {
    fn created(&mut self, at: Ref, _bytes: u32) -> u32 {
        self.newest = Some(at);
        self.queue.push(self.ahead, at)
    }

    fn adopt(&mut self, at: Ref, _seen: Seen, _idle: f32) -> u32 {
        self.queue.push(self.ahead, at)
    }

    fn recall(&mut self, at: Ref, _bytes: u32, kept: u32) -> u32 {
        self.queue.push(self.ahead, at) | kept & USES
    }

    fn refile(&mut self, at: Ref, seen: Seen) -> u32 {
        self.queue.push(1 - self.ahead, at) | seen.field & USES
    }

    fn is_cluttered(&self, entries: usize) -> bool {
        self.queue.rings.total() > leftovers_max(entries)
    }

    fn arriving(&mut self) {
        self.newest = None;
    }

    fn removed(&mut self, _at: Ref, _seen: Seen) {}

    fn was_used(&self, seen: &Seen) -> bool {
        seen.field & USES > 0
    }

    fn absorb(&mut self, hits: &mut Hits) {
        hits.count = 0;
    }

    fn step(&mut self, entries: &mut dyn Entries) -> Step {
        // What was just made stands aside for the step: it may be all there is.
        let mut spared = None;
        let step = self.next(entries, &mut spared);
        if let Some(at) = spared {
            let field = self.queue.push(1 - self.ahead, at);
            entries.set_field(at, field);
        }
        step
    }

    fn observe(&mut self, entries: &mut dyn Entries) {
        self.queue.rings.shrink();
        if self.queue.rings.total() <= leftovers_max(entries.len()) {
            return;
        }
        for _ in 0..LOOKS {
            // What is moved behind the hand keeps its mark: only leftovers go.
            let Some(popped) = self.queue.pop(self.ahead) else {
                self.ahead = 1 - self.ahead;
                return;
            };
            if let Some(seen) = filed(entries, self.scope, popped) {
                let number = self.queue.push(1 - self.ahead, popped.0);
                entries.set_field(popped.0, number | seen.field & 0xff);
            }
        }
    }

    fn memory(&self) -> usize {
        self.queue.rings.memory() + size_of::<Self>()
    }
}

/// s3fifo.
#[derive(Debug)]
pub struct S3Fifo {
    scope: Scope,
    queue: Numbered,
    ghosts: Ghosts,
    bytes: Balance,
    hand: u32,
    /// Entries of the bucket the hand is at that were not used since it came by last.
    pending: Vec<Ref>,
    barren: usize,
    newest: Option<Ref>,
}

const SMALL: usize = 0;
/// The main region, beside the small queue.
const LARGE: usize = 1;
/// The small queue's part of all bytes.
const SMALL_PART: u64 = 10;
/// Uses after which an entry goes from the small queue to the main region.
const USES_TO_STAY: u32 = 2;

fn region(field: u32) -> usize {
    if field & MAIN == 0 { SMALL } else { LARGE }
}

impl S3Fifo {
    /// An empty one.
    #[must_use]
    pub fn new(scope: Scope, seed: u64) -> Self {
        S3Fifo {
            scope,
            queue: Numbered::new(),
            ghosts: Ghosts::default(),
            bytes: Balance::default(),
            hand: seed as u32,
            pending: Vec::with_capacity(16),
            barren: 0,
            newest: None,
        }
    }

    fn leave(&mut self, seen: &Seen) {
        self.bytes.take(region(seen.field), seen.bytes);
    }

    /// Looks at the oldest of the small queue.
    fn step_small(&mut self, entries: &mut dyn Entries) -> Option<Step> {
        let popped = self.queue.pop(SMALL)?;
        let Some(seen) = filed(entries, self.scope, popped) else { return Some(Step::More) };
        if seen.is_over {
            self.leave(&seen);
            return Some(Step::Evict(popped.0));
        }
        if seen.field & USES >= USES_TO_STAY {
            self.leave(&seen);
            self.barren = 0;
            self.bytes.add(LARGE, seen.bytes);
            entries.set_field(popped.0, MAIN);
            return Some(Step::More);
        }
        if self.newest == Some(popped.0) && entries.len() > 1 {
            let number = self.queue.push(SMALL, popped.0);
            entries.set_field(popped.0, number | seen.field & 0xff);
            // Alone in the small queue it leaves the turn to the main region.
            return (self.queue.rings.total() > 1).then_some(Step::More);
        }
        self.leave(&seen);
        self.ghosts.insert(popped.0, 0);
        Some(Step::Evict(popped.0))
    }

    /// Looks at the next of the main region.
    fn step_main(&mut self, entries: &mut dyn Entries) -> Step {
        let Some(at) = self.pending.pop() else {
            let (pending, mut shown, mut found, scope) = (&mut self.pending, 0usize, 0usize, self.scope);
            let newest = self.newest.filter(|_| entries.len() > 1);
            self.hand = entries.walk(self.hand, &mut |seen, passing| {
                shown += seen.len();
                for (index, seen) in seen.iter().enumerate() {
                    if !scope.has(seen) || seen.field & MAIN == 0 {
                        continue;
                    }
                    if seen.field & USES > 0 && !seen.is_over {
                        passing.set_field(index, seen.field - 1);
                        found += 1;
                        continue;
                    }
                    let at = passing.at(index);
                    if newest != Some(at) {
                        pending.push(at);
                        found += 1;
                    }
                }
            });
            self.barren = if found == 0 { self.barren + shown.max(1) } else { 0 };
            return Step::More;
        };
        let Some(seen) = entries.look(at) else { return Step::More };
        if seen.field & MAIN == 0 || !self.scope.has(&seen) || self.newest == Some(at) && entries.len() > 1 {
            return Step::More;
        }
        if seen.is_over || seen.field & USES == 0 {
            self.leave(&seen);
            return Step::Evict(at);
        }
        entries.set_field(at, seen.field - 1);
        Step::More
    }
}

impl Policy for S3Fifo {
    fn created(&mut self, at: Ref, bytes: u32) -> u32 {
        self.newest = Some(at);
        // While nothing had to leave all goes into the main region, which needs no references.
        if self.ghosts.sets() == 0 || self.ghosts.take(at).is_some() {
            self.barren = 0;
            self.bytes.add(LARGE, bytes);
            return MAIN;
        }
        self.bytes.add(SMALL, bytes);
        self.queue.push(SMALL, at)
    }

    fn adopt(&mut self, _at: Ref, seen: Seen, _idle: f32) -> u32 {
        self.barren = 0;
        self.bytes.add(LARGE, seen.bytes);
        MAIN
    }

    fn recall(&mut self, at: Ref, bytes: u32, kept: u32) -> u32 {
        self.barren = 0;
        self.bytes.add(region(kept), bytes);
        if kept & MAIN != 0 {
            return kept & (MAIN | USES);
        }
        self.queue.push(SMALL, at) | kept & USES
    }

    fn refile(&mut self, at: Ref, seen: Seen) -> u32 {
        if seen.field & MAIN != 0 {
            return seen.field;
        }
        self.queue.push(SMALL, at) | seen.field & USES
    }

    fn is_cluttered(&self, entries: usize) -> bool {
        self.queue.rings.total() > leftovers_max(entries)
    }

    fn arriving(&mut self) {
        self.newest = None;
    }

    fn removed(&mut self, _at: Ref, seen: Seen) {
        self.leave(&seen);
    }

    fn resized(&mut self, field: u32, before: u32, after: u32) {
        self.bytes.add(region(field), after);
        self.bytes.take(region(field), before);
    }

    fn absorb(&mut self, hits: &mut Hits) {
        hits.count = 0;
    }

    fn step(&mut self, entries: &mut dyn Entries) -> Step {
        self.ghosts.fit(entries.len());
        for _ in 0..LOOKS {
            let (small, main) = (self.bytes.of(SMALL), self.bytes.of(LARGE));
            let is_small_full = small.saturating_mul(SMALL_PART) >= small.saturating_add(main);
            let is_main_barren = self.barren > 2 * entries.len() + 64;
            let step = if is_small_full || is_main_barren { self.step_small(entries) } else { None };
            let step = step.unwrap_or_else(|| self.step_main(entries));
            if step == Step::More && is_main_barren && self.barren > 0 && self.queue.rings.total() <= 1 {
                return Step::Nothing;
            }
            if step != Step::More {
                return step;
            }
        }
        Step::More
    }

    fn observe(&mut self, entries: &mut dyn Entries) {
        let scope = self.scope;
        self.queue.rings.shrink();
        self.bytes.look(entries, &mut |seen| scope.has(seen).then(|| region(seen.field)));
        if !self.is_cluttered(entries.len()) {
            return;
        }
        for _ in 0..LOOKS {
            let Some(popped) = self.queue.pop(SMALL) else { return };
            if let Some(seen) = filed(entries, self.scope, popped) {
                let number = self.queue.push(SMALL, popped.0);
                entries.set_field(popped.0, number | seen.field & 0xff);
            }
        }
    }

    fn memory(&self) -> usize {
        self.queue.rings.memory() + self.ghosts.memory() + self.pending.capacity() * 4 + size_of::<Self>()
    }
}
