//! wtinylfu: a window for what is new, and a main region that takes in only what is used more often than what it would
//! push out (Einziger, Friedman, Manes, TOS 2017); a hill climber moves the border (Einziger et al., Middleware 2018).
//!
//! Entries count their own uses, in four bits; the sketch holds only the counts of what is not here. So a hit costs
//! nothing beyond the entry, and the sketch two bytes an entry. The main region has no list: the victim is, of those
//! sampled, the one used least often, of these the one used longest ago.
//!
//! Field, from the top: 16 bits clock of the last use, bit 7 main region, 3 bits halvings, 4 bits uses.
//! Cost: two bytes an entry for the sketch, and a reference for each entry in the window.
//! Invariant: counts are halved after every ten uses an entry, those of entries when they are next looked at.

use super::balance::Balance;
use super::sampler::{Choice, Sampler, Scale};
use super::{Numbers, leftovers_max, push_f32};
use crate::Hits;
use crate::interface::{Entries, Epoch, Policy, Ref, Scope, Seen, Step};
use crate::random::{Random, mix};
use crate::ring::Rings;

const MAIN: u32 = 1 << 7;
/// Where bytes are counted.
const WINDOW: usize = 0;
const LARGE: usize = 1;
const USES: u32 = 15;
const LOOKS: usize = 16;
/// Uses an entry between two halvings, and between two moves of the border.
const PERIOD: u64 = 10;
/// Ticks of the clock in as many uses as there are entries.
const TICKS_A_ROUND: u64 = 64;
/// Words of the sketch halved in one step.
const HALVED_A_STEP: usize = 512;
const SHARE_MIN: f64 = 0.01;
const SHARE_MAX: f64 = 0.8;
const STEP_FIRST: f64 = 0.0625;
const STEP_DECAY: f64 = 0.98;
const RESTART: f64 = 0.05;

/// Counts of uses of what is not here: sixteen counters of four bits a word, of which a name has four.
#[derive(Debug, Default)]
struct Sketch {
    words: Vec<u64>,
    made_for: usize,
    /// The next word to be halved.
    halving: usize,
}

impl Sketch {
    fn fit(&mut self, entries: usize) {
        if self.made_for == 0 || entries > self.made_for * 3 / 2 || entries < self.made_for * 3 / 4 {
            self.made_for = entries.max(64);
            self.words = vec![0; self.made_for / 4];
            self.halving = self.words.len();
        }
    }

    fn place(&self, at: Ref) -> (usize, [u32; 4]) {
        let hash = mix(u64::from(at.0) ^ 0x736b_6574_6368);
        let word = (((hash >> 32) * self.words.len() as u64) >> 32) as usize;
        (word, std::array::from_fn(|row| (hash as u32 >> (row * 4) & 3) * 4 + row as u32 * 16))
    }

    fn estimate(&self, at: Ref) -> u32 {
        let (word, shifts) = self.place(at);
        let word = self.words.get(word).copied().unwrap_or(0);
        shifts.iter().map(|shift| (word >> shift) as u32 & USES).min().unwrap_or(0)
    }

    /// Raises the counts of a name to at least so many.
    fn raise(&mut self, at: Ref, uses: u32) {
        let (word, shifts) = self.place(at);
        if let Some(word) = self.words.get_mut(word) {
            for shift in shifts {
                if (*word >> shift) as u32 & USES < uses {
                    *word = *word & !(u64::from(USES) << shift) | u64::from(uses) << shift;
                }
            }
        }
    }

    /// Halves some words, if a halving is under way.
    fn go_on(&mut self) {
        let end = (self.halving + HALVED_A_STEP).min(self.words.len());
        for word in self.words.get_mut(self.halving..end).unwrap_or_default() {
            *word = *word >> 1 & 0x7777_7777_7777_7777;
        }
        self.halving = end;
    }
}

/// How long ago it was used, and the region. Counts of uses are not kept: those of what left are lost, and nothing new would stand up to
/// the ones that are here (0.4 points of the hit ratio less than without a restart, and 1.1 with the counts).
pub(super) fn kept(field: u32, epoch: Epoch) -> u32 {
    epoch.age(field >> 8, 16) << 8 | field & MAIN
}

/// The main region before the window, and what was used lately before the rest of each.
pub(super) fn warmth(kept: u32) -> u32 {
    (kept & MAIN) << 16 | (0xffff - (kept >> 8 & 0xffff)) << 7
}

/// What entries of the main region are worth at a moment.
struct Worth {
    clock: u32,
    halvings: u32,
}

impl Scale for Worth {
    fn epoch(&self) -> u64 {
        u64::from(self.halvings) << 32 | u64::from(self.clock)
    }

    #[inline]
    fn rank(&self, field: u32, _deadline: u64, _bytes: impl FnOnce() -> u32) -> f32 {
        let age = self.clock.wrapping_sub(field >> 8) & 0xffff;
        if field & MAIN == 0 {
            // Not a candidate: the window has its own way out.
            return f32::MAX;
        }
        (field & USES) as f32 - age as f32 / 65_536.0
    }
}

/// The policy.
#[derive(Debug)]
pub struct WTinyLfu {
    scope: Scope,
    window: Rings,
    sampler: Sampler,
    sketch: Sketch,
    random: Random,
    bytes: Balance,
    /// The window's share of all bytes.
    share: f64,
    step: f64,
    hits_before: f64,
    uses: u64,
    hits: u64,
    halving_at: u64,
    halvings: u32,
    clock: u32,
    ticked_at: u64,
    entries: u64,
    newest: Option<Ref>,
}

fn region(field: u32) -> usize {
    if field & MAIN == 0 { WINDOW } else { LARGE }
}

impl WTinyLfu {
    /// An empty one.
    #[must_use]
    pub fn new(scope: Scope, seed: u64) -> Self {
        WTinyLfu {
            scope,
            window: Rings::new(),
            sampler: Sampler::new(scope, seed as u32),
            sketch: Sketch::default(),
            random: Random::new(seed),
            bytes: Balance::default(),
            share: SHARE_MIN,
            step: STEP_FIRST,
            hits_before: 0.0,
            uses: 0,
            hits: 0,
            halving_at: 0,
            halvings: 0,
            clock: 0,
            ticked_at: 0,
            entries: 0,
            newest: None,
        }
    }

    fn used(&mut self, uses: u64) {
        self.uses += uses;
        let tick = (self.entries / TICKS_A_ROUND).max(1);
        let ticks = (self.uses - self.ticked_at) / tick;
        self.ticked_at += ticks * tick;
        self.clock = self.clock.wrapping_add(ticks as u32) & 0xffff;
    }

    /// Halves counts and moves the border when it is time.
    fn turn(&mut self) {
        let period = PERIOD * self.entries.max(8);
        if self.uses < self.halving_at + period {
            return;
        }
        let ratio = self.hits as f64 / (self.uses - self.halving_at) as f64;
        let change = ratio - self.hits_before;
        let amount = if change >= 0.0 { self.step } else { -self.step };
        self.step = if change.abs() >= RESTART { STEP_FIRST.copysign(amount) } else { amount * STEP_DECAY };
        self.share = (self.share + amount).clamp(SHARE_MIN, SHARE_MAX);
        (self.hits_before, self.hits, self.halving_at) = (ratio, 0, self.uses);
        self.halvings = self.halvings.wrapping_add(1);
        self.sketch.halving = 0;
    }

    fn renewed(field: u32, halvings: u32) -> u32 {
        let behind = halvings.wrapping_sub(field >> 4) & 7;
        field & !0x7f | (halvings & 7) << 4 | (field & USES) >> behind
    }

    fn leave(&mut self, at: Ref, seen: &Seen) {
        self.bytes.take(region(seen.field), seen.bytes);
        self.sketch.raise(at, Self::renewed(seen.field, self.halvings) & USES);
    }

    /// Takes the oldest out of the window; answers it when it is still there.
    fn candidate(&mut self, entries: &mut dyn Entries) -> Option<(Ref, Seen)> {
        let (mut spared, mut found) = (None, None);
        for _ in 0..LOOKS {
            let Some(at) = self.window.pop(0) else { break };
            let Some(mut seen) = entries.look(at) else { continue };
            if !self.scope.has(&seen) || seen.field & MAIN != 0 {
                continue;
            }
            if self.newest == Some(at) && entries.len() > 1 {
                // It may be filed twice, and be all there is.
                spared = Some(at);
                continue;
            }
            seen.field = Self::renewed(seen.field, self.halvings);
            found = Some((at, seen));
            break;
        }
        if let Some(at) = spared {
            self.window.push(0, at);
        }
        found
    }

    fn victim(&mut self, entries: &mut dyn Entries) -> Choice {
        let (clock, halvings) = (self.clock, self.halvings);
        self.sampler.lonely(entries);
        self.sampler.step::<false>(
            entries,
            |field| Self::renewed(field, halvings),
            &Worth { clock, halvings },
        )
    }

    /// The candidate goes into the main region.
    fn admit(&mut self, entries: &mut dyn Entries, at: Ref, seen: &Seen) {
        self.bytes.take(WINDOW, seen.bytes);
        self.bytes.add(LARGE, seen.bytes);
        entries.set_field(at, seen.field | MAIN);
    }

    fn evict(&mut self, at: Ref, seen: &Seen) -> Step {
        self.leave(at, seen);
        Step::Evict(at)
    }

    /// The window has too much: its oldest stands against the least of the main region.
    fn contest(&mut self, entries: &mut dyn Entries) -> Option<Step> {
        let (at, seen) = self.candidate(entries)?;
        if seen.is_over {
            return Some(self.evict(at, &seen));
        }
        if self.bytes.of(LARGE) == 0 {
            return Some(self.evict(at, &seen));
        }
        let Choice::Found(victim, worth) = self.victim(entries) else {
            self.admit(entries, at, &seen);
            return Some(Step::More);
        };
        if worth == f32::MAX {
            return Some(self.evict(at, &seen));
        }
        let (mine, theirs) = (seen.field & USES, victim.seen.field & USES);
        let is_admitted = victim.seen.is_over || mine > theirs || mine > 5 && self.random.below(128) == 0;
        if !is_admitted {
            return Some(self.evict(at, &seen));
        }
        self.admit(entries, at, &seen);
        Some(self.evict(victim.at, &victim.seen))
    }
}

impl Policy for WTinyLfu {
    fn created(&mut self, at: Ref, bytes: u32) -> u32 {
        self.used(1);
        self.entries += 1;
        self.newest = Some(at);
        self.sampler.created(at);
        let uses = (self.sketch.estimate(at) + 1).min(USES);
        let field = self.clock << 8 | (self.halvings & 7) << 4 | uses;
        if self.sketch.made_for == 0 {
            // Nothing had to leave so far, so there is nothing to choose: all goes into the main region.
            self.bytes.add(LARGE, bytes);
            return field | MAIN;
        }
        self.bytes.add(WINDOW, bytes);
        self.window.push(0, at);
        field
    }

    fn adopt(&mut self, _at: Ref, seen: Seen, idle: f32) -> u32 {
        self.entries += 1;
        self.sampler.has_more();
        self.bytes.add(LARGE, seen.bytes);
        let ticks = (idle.clamp(0.0, 1.0) * TICKS_A_ROUND as f32) as u32;
        (self.clock.wrapping_sub(ticks) & 0xffff) << 8 | MAIN | (self.halvings & 7) << 4 | 1
    }

    fn recall(&mut self, at: Ref, bytes: u32, kept: u32) -> u32 {
        self.entries += 1;
        self.sampler.has_more();
        self.bytes.add(region(kept), bytes);
        if kept & MAIN == 0 {
            self.window.push(0, at);
        }
        let used = self.clock.wrapping_sub(kept >> 8) & 0xffff;
        used << 8 | (self.halvings & 7) << 4 | kept & MAIN | 1
    }

    fn learned(&self, out: &mut Vec<u8>) {
        push_f32(self.share as f32, out);
        push_f32(self.step.abs() as f32, out);
        push_f32(self.hits_before as f32, out);
        out.push(u8::from(self.step < 0.0));
    }

    fn learn_from(&mut self, learned: &[u8]) {
        let mut numbers = Numbers(learned);
        if let (Some(share), Some(step), Some(ratio)) =
            (numbers.next_f32(), numbers.next_f32(), numbers.next_f32())
        {
            let step = f64::from(step).min(STEP_FIRST);
            self.step = if numbers.0 == [1] { -step } else { step };
            self.share = f64::from(share).clamp(SHARE_MIN, SHARE_MAX);
            self.hits_before = f64::from(ratio).min(1.0);
        }
    }

    fn refile(&mut self, at: Ref, seen: Seen) -> u32 {
        if seen.field & MAIN == 0 {
            self.window.push(0, at);
        }
        seen.field
    }

    fn is_cluttered(&self, entries: usize) -> bool {
        self.window.total() > leftovers_max(entries)
    }

    fn arriving(&mut self) {
        self.newest = None;
        self.sampler.arriving();
    }

    fn removed(&mut self, at: Ref, seen: Seen) {
        self.entries = self.entries.saturating_sub(1);
        self.leave(at, &seen);
    }

    fn resized(&mut self, field: u32, before: u32, after: u32) {
        self.bytes.add(region(field), after);
        self.bytes.take(region(field), before);
    }

    fn absorb(&mut self, hits: &mut Hits) {
        let count = u64::from(std::mem::take(&mut hits.count));
        self.hits += count;
        self.used(count);
        hits.clock = self.clock;
    }

    fn keep(&mut self, candidates: usize) {
        self.sampler.keep(candidates);
    }

    fn clock(&self) -> u32 {
        self.clock
    }

    fn step(&mut self, entries: &mut dyn Entries) -> Step {
        self.entries = entries.len() as u64;
        self.sketch.fit(entries.len());
        self.sketch.go_on();
        self.turn();
        let window = self.bytes.of(WINDOW);
        let all = window.saturating_add(self.bytes.of(LARGE));
        let is_window_full = window as f64 > self.share * all as f64;
        if is_window_full && let Some(step) = self.contest(entries) {
            return step;
        }
        let choice = self.victim(entries);
        match choice {
            Choice::Found(victim, worth) if worth < f32::MAX => self.evict(victim.at, &victim.seen),
            Choice::Nothing => Step::Nothing,
            Choice::Found(..) | Choice::More => match (self.candidate(entries), choice) {
                // Everything seen is in the window.
                (Some((at, seen)), _) if self.bytes.of(LARGE) == 0 => self.evict(at, &seen),
                (Some((at, seen)), _) => {
                    self.admit(entries, at, &seen);
                    Step::More
                }
                // It looks as if it was in the window, where there is none but what was made last.
                (None, Choice::Found(victim, _)) if self.window.total() <= 1 => {
                    self.evict(victim.at, &victim.seen)
                }
                (None, _) => Step::More,
            },
        }
    }

    fn observe(&mut self, entries: &mut dyn Entries) {
        let scope = self.scope;
        self.window.shrink();
        self.bytes.look(entries, &mut |seen| scope.has(seen).then(|| region(seen.field)));
        if !self.is_cluttered(entries.len()) {
            return;
        }
        for _ in 0..LOOKS {
            let Some(at) = self.window.pop(0) else { return };
            if entries.look(at).is_some_and(|seen| scope.has(&seen) && seen.field & MAIN == 0) {
                self.window.push(0, at);
            }
        }
    }

    fn memory(&self) -> usize {
        self.window.memory() + self.sampler.memory() + self.sketch.words.capacity() * 8 + size_of::<Self>()
    }
}
