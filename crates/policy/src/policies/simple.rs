//! random, volatile-ttl and gdsf: policies that are a rank and nothing more.
//!
//! gdsf is Greedy Dual Size Frequency (Cherkasova, HP Labs 1998): an entry is worth its uses by its size on top of the
//! worth of what left last when it was used last. Here the worth that rises with each eviction is a clock of 16 bits in
//! logarithmic steps of the scale it has, and the victim is the least of the sampled ones.
//! Cost: nothing an entry beside its field. Read next: `sampler.rs`.

use super::sampler::{Choice, Sampler, Scale};
use super::{Numbers, push_f32};
use crate::Hits;
use crate::interface::{Entries, Policy, Ref, Scope, Seen, Step};
use crate::random::Random;

/// Any may leave.
#[derive(Debug)]
pub struct Chance {
    scope: Scope,
    random: Random,
    hand: u32,
    barren: usize,
    newest: Option<Ref>,
}

impl Chance {
    /// An empty one.
    #[must_use]
    pub fn new(scope: Scope, seed: u64) -> Self {
        Chance { scope, random: Random::new(seed), hand: 0, barren: 0, newest: None }
    }
}

impl Policy for Chance {
    fn created(&mut self, at: Ref, _bytes: u32) -> u32 {
        self.newest = Some(at);
        self.barren = 0;
        0
    }

    fn adopt(&mut self, _at: Ref, _seen: Seen, _idle: f32) -> u32 {
        self.barren = 0;
        0
    }

    fn refile(&mut self, _at: Ref, seen: Seen) -> u32 {
        seen.field
    }

    fn arriving(&mut self) {
        self.newest = None;
    }

    fn removed(&mut self, _at: Ref, _seen: Seen) {}

    fn absorb(&mut self, hits: &mut Hits) {
        hits.count = 0;
    }

    fn step(&mut self, entries: &mut dyn Entries) -> Step {
        // Where few are in scope the hand walks on from where it found none, so that it comes around.
        let from = if self.barren == 0 { self.random.next() as u32 } else { self.hand };
        let (mut chosen, mut found, mut shown) = (None, 0, 0usize);
        let (scope, random, newest) = (self.scope, &mut self.random, self.newest);
        let is_last = entries.len() <= 1;
        self.hand = entries.walk(from, &mut |seen, passing| {
            shown += seen.len();
            for (index, seen) in seen.iter().enumerate() {
                if !scope.has(seen) {
                    continue;
                }
                // Who is not chosen is not asked for its name.
                if random.below(found + 1) == 0 {
                    let at = passing.at(index);
                    if newest == Some(at) && !is_last {
                        continue;
                    }
                    chosen = Some(at);
                }
                found += 1;
            }
        });
        self.barren = if found > 0 { 0 } else { self.barren + shown.max(1) };
        match chosen {
            Some(at) => Step::Evict(at),
            None if self.barren > 2 * entries.len() + 64 => Step::Nothing,
            None => Step::More,
        }
    }

    fn memory(&self) -> usize {
        size_of::<Self>()
    }
}

/// Who ends first is ranked lowest.
struct Ends;

impl Scale for Ends {
    fn epoch(&self) -> u64 {
        0
    }

    #[inline]
    fn rank(&self, _field: u32, deadline: u64, _bytes: impl FnOnce() -> u32) -> f32 {
        // Milliseconds since 1970 lose their last bits in a rank; the order within a minute does not matter here.
        deadline as f32
    }
}

/// The one that ends first leaves, of those sampled.
#[derive(Debug)]
pub struct EndsFirst {
    sampler: Sampler,
}

impl EndsFirst {
    /// An empty one.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        EndsFirst { sampler: Sampler::new(Scope::Timed, seed as u32) }
    }
}

impl Policy for EndsFirst {
    fn created(&mut self, at: Ref, _bytes: u32) -> u32 {
        self.sampler.created(at);
        0
    }

    fn adopt(&mut self, _at: Ref, _seen: Seen, _idle: f32) -> u32 {
        self.sampler.has_more();
        0
    }

    fn refile(&mut self, _at: Ref, seen: Seen) -> u32 {
        seen.field
    }

    fn arriving(&mut self) {
        self.sampler.arriving();
    }

    fn removed(&mut self, _at: Ref, _seen: Seen) {}

    fn absorb(&mut self, hits: &mut Hits) {
        hits.count = 0;
    }

    fn step(&mut self, entries: &mut dyn Entries) -> Step {
        self.sampler.step::<true>(entries, |field| field, &Ends).step()
    }

    fn keep(&mut self, candidates: usize) {
        self.sampler.keep(candidates);
    }

    fn memory(&self) -> usize {
        self.sampler.memory() + size_of::<Self>()
    }
}

/// Greedy Dual Size Frequency.
#[derive(Debug)]
pub struct Gdsf {
    sampler: Sampler,
    worth: Worth,
}

/// The scale of worth: the clock counts steps.
#[derive(Debug)]
struct Worth {
    /// What left last was worth, in steps.
    clock: f64,
    /// What one step is worth; decided when something has to leave for the first time.
    step: f32,
    /// The mean size of what was made.
    bytes_mean: f32,
}

/// Steps in the worth of one use of an entry of mean size.
const STEPS: f32 = 256.0;

impl Worth {
    /// Takes note of a size; answers the field of an entry that was used once.
    fn made(&mut self, bytes: u32) -> u32 {
        let mean = &mut self.bytes_mean;
        *mean = if *mean == 0.0 { bytes as f32 } else { *mean + (bytes as f32 - *mean) / 1024.0 };
        (self.clock as u64 as u32 & 0xffff) << 8 | 1
    }
}

impl Scale for Worth {
    fn epoch(&self) -> u64 {
        self.clock as u64
    }

    /// In steps more than what left last.
    #[inline]
    fn rank(&self, field: u32, _deadline: u64, bytes: impl FnOnce() -> u32) -> f32 {
        let behind = (self.clock as u64 as u32).wrapping_sub(field >> 8) & 0xffff;
        let uses = (field & 0xff) as f32;
        uses / bytes().max(1) as f32 / self.step - behind as f32
    }
}

impl Gdsf {
    /// An empty one.
    #[must_use]
    pub fn new(scope: Scope, seed: u64) -> Self {
        Gdsf {
            sampler: Sampler::new(scope, seed as u32),
            worth: Worth { clock: 0.0, step: 0.0, bytes_mean: 0.0 },
        }
    }
}

impl Policy for Gdsf {
    fn created(&mut self, at: Ref, bytes: u32) -> u32 {
        self.sampler.created(at);
        self.worth.made(bytes)
    }

    fn adopt(&mut self, _at: Ref, seen: Seen, _idle: f32) -> u32 {
        self.sampler.has_more();
        self.worth.made(seen.bytes)
    }

    fn recall(&mut self, _at: Ref, bytes: u32, kept: u32) -> u32 {
        self.sampler.has_more();
        let made = self.worth.made(bytes);
        ((made >> 8).wrapping_sub(kept >> 8) & 0xffff) << 8 | (kept & 0xff).max(1)
    }

    fn learned(&self, out: &mut Vec<u8>) {
        push_f32(self.worth.step, out);
        push_f32(self.worth.bytes_mean, out);
    }

    fn learn_from(&mut self, learned: &[u8]) {
        let mut numbers = Numbers(learned);
        if let (Some(step), Some(mean)) = (numbers.next_f32(), numbers.next_f32()) {
            // Zero where nothing had to leave yet: it is decided then.
            (self.worth.step, self.worth.bytes_mean) = (step, mean);
        }
    }

    fn refile(&mut self, _at: Ref, seen: Seen) -> u32 {
        seen.field
    }

    fn arriving(&mut self) {
        self.sampler.arriving();
    }

    fn removed(&mut self, _at: Ref, _seen: Seen) {}

    fn was_used(&self, seen: &Seen) -> bool {
        seen.field & 0xff > 1
    }

    fn absorb(&mut self, hits: &mut Hits) {
        hits.count = 0;
        hits.clock = self.worth.clock as u64 as u32 & 0xffff;
    }

    fn keep(&mut self, candidates: usize) {
        self.sampler.keep(candidates);
    }

    fn clock(&self) -> u32 {
        self.worth.clock as u64 as u32 & 0xffff
    }

    fn step(&mut self, entries: &mut dyn Entries) -> Step {
        if self.worth.step == 0.0 {
            self.worth.step = 1.0 / self.worth.bytes_mean.max(1.0) / STEPS;
        }
        let choice = self.sampler.step::<true>(entries, |field| field, &self.worth);
        if let Choice::Found(candidate, lowest) = choice
            && !candidate.seen.is_over
        {
            self.worth.clock += f64::from(lowest.max(0.0));
        }
        choice.step()
    }

    fn memory(&self) -> usize {
        self.sampler.memory() + size_of::<Self>()
    }
}
