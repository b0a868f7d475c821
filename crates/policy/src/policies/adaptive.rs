//! The adaptive policy: learns when entries like this one come back, and lets go of the one least worth its room.
//!
//! Entries are classed by how often they were used (eight steps, also through evictions that are still remembered) and
//! how long the last pause between two uses was (eight steps, relative to the size of the cache). For each class and
//! age since the last use (32 steps, two an octave) the policy estimates the hazard: hits per entry and tick. Hits are
//! counted by the threads that serve them; the entry-ticks they are divided by come from a census, of the entries that
//! the evicting hand sees anyway and of a set of remembered names at each step, so that what would have been a hit
//! counts as one, and nothing depends on what the policy itself chose to keep. Classes with little to tell lean on
//! those around them.
//!
//! From hazards follows the rank, the largest ratio of expected hits to expected room over all times at which one could
//! let go: the Gittins index (Gittins, Journal of the Royal Statistical Society B 41, 1979), which is what hit density
//! (LHD: Beckmann, Chen, Cidon, NSDI 2018) becomes when the time to let go is free to choose. In loops it lets go of the
//! youngest, under skewed popularity of the rarest, under drift of the oldest, without being told which it is.
//! A power of the entry's size divides the rank.
//!
//! Field, from the top: 16 bits tick of the last use, 3 bits uses, 3 bits pause.
//! A remembered name: the class in 6 bits, the tick in units of four in 14.
//! Invariant: the work of a step is bounded; learning is spread over steps, a class at a time.

use super::ghosts::Ghosts;
use super::sampler::{Choice, KEPT, Sampler, Scale};
use super::{Numbers, push_f32};
use crate::Hits;
use crate::interface::{Entries, Policy, Ref, Scope, Seen, Step};
use crate::random::{Random, mix};

const BINS: usize = 32;
const LEVELS: usize = 8;
const PAUSES: usize = 8;
const CLASSES: usize = LEVELS * PAUSES;
/// Counters of hits a thread keeps.
pub(crate) const CELLS: usize = CLASSES * BINS;
/// Ticks in which as many uses happen as there are entries.
const TICKS_A_ROUND: usize = 64;
/// What is left of old evidence after each round.
const MEMORY: f32 = 0.95;
/// Hits that a parent's hazard counts for.
const LEAN: f32 = 3.0;
/// Ages beyond this are taken back to it, so that no clock that wraps makes the old young.
const AGE_MAX: u32 = 0xc000;
/// Of the candidates that policies are to keep so many parts are enough: since each step takes one and sees eight, what
/// is behind the first of them hardly ever gets its turn.
const KEPT_PART: usize = 3;
/// Entries counted in one census.
const SHOWN_MAX: usize = 64;
/// Uses between two lessons, at least.
const LESSON_USES_MIN: u64 = 2048;

const fn start_of(bin: usize) -> f32 {
    if bin < 4 { bin as f32 } else { (1u32 << (bin / 2)) as f32 * (1.0 + (bin % 2) as f32 * 0.5) }
}

#[inline]
fn bin_of(age: u32) -> usize {
    if age < 4 {
        return age as usize;
    }
    let octave = age.ilog2();
    ((octave * 2 + (age >> (octave - 1) & 1)) as usize).min(BINS - 1)
}

/// The step of a pause that ended in a bin: each is an octave and a half.
fn pause_of(bin: usize) -> u32 {
    if bin == 0 { 0 } else { (bin as u32 / 3 + 1).min(PAUSES as u32 - 1) }
}

#[inline]
fn class_of(field: u32) -> usize {
    (field >> 2 & 0x3f) as usize
}

/// Where class and age of an entry stand.
#[inline]
fn cell_of(field: u32, clock: u32) -> usize {
    class_of(field) * BINS + bin_of(age_of(field, clock))
}

#[inline]
fn age_of(field: u32, clock: u32) -> u32 {
    clock.wrapping_sub(field >> 8) & 0xffff
}

/// The field of an entry as old as an age can be told.
fn aged(field: u32, clock: u32) -> u32 {
    field & 0xff | (clock.wrapping_sub(AGE_MAX) & 0xffff) << 8
}

/// The cell to count a use in, and the field after it.
#[inline]
pub(crate) fn touched(field: u32, clock: u32, random: &mut Random) -> (usize, u32) {
    let bin = bin_of(age_of(field, clock));
    let class = class_of(field);
    let level = (class / PAUSES) as u32;
    // From the fourth on a level takes twice the uses of the one before: 1, 2, 3, 5, 9, 17, 33.
    let rises = level < 3 || level < LEVELS as u32 - 1 && random.next() >> (66 - level) == 0;
    let level = level + u32::from(rises);
    (class * BINS + bin, (clock & 0xffff) << 8 | (level * PAUSES as u32 + pause_of(bin)) << 2)
}

/// The policy.
#[derive(Debug)]
pub struct Adaptive {
    sampler: Sampler,
    ghosts: Ghosts,
    /// Uses there were.
    uses: u64,
    uses_a_tick: u64,
    uses_in_tick: u64,
    /// Uses when the census was taken last.
    counted_at: u64,
    lesson_at: u64,
    /// The class that is learned next; `CLASSES` is none.
    lesson: usize,
    hits: Box<[f32]>,
    room: Box<[f32]>,
    /// Hazards of all classes together, and of the level in the lesson.
    whole: [f32; BINS],
    level: [f32; BINS],
    ranks: Ranks,
    /// Whether threads have been asked for their counters of hits.
    has_asked: bool,
    /// Lessons asked for.
    round: u32,
    random: Random,
}

/// What an entry is worth.
#[derive(Debug)]
struct Ranks {
    clock: u32,
    /// Classes learned so far.
    learned: u32,
    cells: Box<[f32; CELLS]>,
    /// What ranks are multiplied by for the size, by half octaves.
    size_weights: [f32; 64],
}

impl Scale for Ranks {
    fn epoch(&self) -> u64 {
        u64::from(self.learned) << 32 | u64::from(self.clock)
    }

    #[inline]
    fn rank(&self, field: u32, _deadline: u64, bytes: impl FnOnce() -> u32) -> f32 {
        self.cells[cell_of(field, self.clock)] * self.weight(bytes())
    }
}

impl Ranks {
    #[inline]
    fn weight(&self, bytes: u32) -> f32 {
        let octave = (bytes | 1).ilog2();
        // The bit after the first; a byte alone has none.
        let half = bytes << 1 >> octave & 1;
        self.size_weights[(octave * 2 + half) as usize & 63]
    }
}

impl Adaptive {
    /// An empty one. `size_power` of the size divides the rank: 0 lets sizes out of it, 1 counts hits of objects alone.
    #[must_use]
    pub fn new(scope: Scope, size_power: f32, seed: u64) -> Self {
        let weight = |step: usize| {
            let size = (2.0f32).powi(step as i32 / 2) * (1.0 + (step % 2) as f32 * 0.5);
            size.powf(-size_power)
        };
        let mut policy = Adaptive {
            sampler: Sampler::new(scope, seed as u32),
            ghosts: Ghosts::default(),
            uses: 0,
            uses_a_tick: 1,
            uses_in_tick: 0,
            counted_at: 0,
            lesson_at: LESSON_USES_MIN,
            lesson: 0,
            hits: vec![0.0; CELLS].into(),
            room: vec![0.0; CELLS].into(),
            whole: [0.0; BINS],
            level: [0.0; BINS],
            ranks: Ranks {
                clock: 0,
                learned: 0,
                cells: Box::new([0.0; CELLS]),
                size_weights: std::array::from_fn(weight),
            },
            has_asked: false,
            round: 0,
            random: Random::new(seed),
        };
        policy.keep(KEPT);
        while policy.lesson < CLASSES {
            policy.learn();
        }
        policy
    }

    fn used(&mut self, uses: u64) {
        self.uses += uses;
        self.uses_in_tick += uses;
        if self.uses_in_tick >= self.uses_a_tick {
            let ticks = self.uses_in_tick / self.uses_a_tick;
            self.uses_in_tick -= ticks * self.uses_a_tick;
            self.ranks.clock = self.ranks.clock.wrapping_add(ticks as u32);
        }
    }

    /// Counts the entries that the hand saw, by their cells, and some remembered names, for the time since the last count.
    fn census(&mut self, entries: usize, shown: &[u16]) {
        let ticks = (self.uses - self.counted_at) as f32 / self.uses_a_tick as f32;
        self.counted_at = self.uses;
        if ticks == 0.0 {
            return;
        }
        let weight = ticks * entries as f32 / shown.len().max(1) as f32;
        for cell in shown {
            self.room[usize::from(*cell)] += weight;
        }
        let weight = ticks * self.ghosts.sets() as f32;
        for note in self.ghosts.sample(self.random.next() as usize >> 1) {
            let class = (note >> 14) as usize & (CLASSES - 1);
            self.room[class * BINS + bin_of(ghost_age(note, self.ranks.clock))] += weight;
        }
    }

    /// Learns a class. The first of a round begins it: what all classes have in common, and how long a tick is.
    fn learn(&mut self) {
        let class = self.lesson;
        if class == 0 {
            self.whole = self.hazards(0..CLASSES, &std::array::from_fn(|bin| 0.3 / middle(bin)), 1.0);
        }
        if class.is_multiple_of(PAUSES) {
            self.level = self.hazards(class..class + PAUSES, &self.whole, LEAN);
        }
        let hazards = self.hazards(class..class + 1, &self.level, LEAN);
        let ranks = gittins(&hazards);
        self.ranks.cells[class * BINS..(class + 1) * BINS].copy_from_slice(&ranks);
        self.ranks.learned = self.ranks.learned.wrapping_add(1);
        self.lesson += 1;
    }

    fn end_round(&mut self, entries: usize) {
        for value in self.hits.iter_mut().chain(self.room.iter_mut()) {
            *value *= MEMORY;
        }
        self.uses_a_tick = (entries / TICKS_A_ROUND).max(1) as u64;
        // The first rounds are short: there is little to forget yet.
        let pause = (entries as u64).min(self.uses).max(LESSON_USES_MIN);
        self.lesson_at = self.uses + pause;
    }

    fn teach(&mut self, entries: usize) {
        if self.lesson < CLASSES {
            self.learn();
            if self.lesson == CLASSES {
                self.end_round(entries);
            }
        } else if self.has_asked {
            self.has_asked = false;
            self.lesson = 0;
        } else if self.uses >= self.lesson_at {
            self.has_asked = true;
            self.round = self.round.wrapping_add(1);
        }
    }

    /// Hits by room of some classes together, leaning on a parent's with the weight of so many hits.
    fn hazards(&self, classes: std::ops::Range<usize>, parent: &[f32; BINS], lean: f32) -> [f32; BINS] {
        let mut hazards = [0.0; BINS];
        for (bin, hazard) in hazards.iter_mut().enumerate() {
            let (mut hits, mut room) = (0.0, 0.0);
            for class in classes.clone() {
                hits += self.hits[class * BINS + bin];
                room += self.room[class * BINS + bin];
            }
            *hazard = (hits + lean) / (room + lean / parent[bin].max(1e-12));
        }
        hazards
    }
}

fn middle(bin: usize) -> f32 {
    (start_of(bin) + start_of(bin + 1)) / 2.0
}

fn ghost_age(note: u32, clock: u32) -> u32 {
    (clock >> 2).wrapping_sub(note) % (1 << 14) * 4 + 2
}

/// For an entry in each bin, the most hits for its room: over all bins at whose end it could be let go.
fn gittins(hazards: &[f32; BINS]) -> [f32; BINS] {
    let mut ranks = [0.0; BINS];
    let (mut gone, mut half) = ([0.0; BINS], [0.0; BINS]);
    for bin in 0..BINS {
        let expected = hazards[bin] * (start_of(bin + 1) - start_of(bin));
        gone[bin] = -(-expected).exp_m1();
        half[bin] = -(-expected / 2.0).exp_m1();
    }
    for (bin, rank) in ranks.iter_mut().enumerate() {
        let (mut hits, mut room, mut alive, mut best) = (0.0f32, 0.0f32, 1.0f32, 0.0f32);
        for end in bin..BINS {
            let share = if end == bin { half[end] } else { gone[end] };
            hits += alive * share;
            room += alive * share / hazards[end].max(1e-15);
            alive *= 1.0 - share;
            best = best.max(hits / room.max(1e-12));
        }
        *rank = best;
    }
    ranks
}

impl Policy for Adaptive {
    fn created(&mut self, at: Ref, _bytes: u32) -> u32 {
        self.used(1);
        self.sampler.created(at);
        let new = (self.ranks.clock & 0xffff) << 8;
        let Some(note) = self.ghosts.take(at) else { return new };
        let age = ghost_age(note, self.ranks.clock);
        let field = (self.ranks.clock.wrapping_sub(age) & 0xffff) << 8 | (note >> 14 & 0x3f) << 2;
        let (cell, field) = touched(field, self.ranks.clock, &mut self.random);
        self.hits[cell] += 1.0;
        field
    }

    fn adopt(&mut self, _at: Ref, _seen: Seen, idle: f32) -> u32 {
        self.sampler.has_more();
        let ticks = (idle.clamp(0.0, 1.0) * TICKS_A_ROUND as f32) as u32;
        (self.ranks.clock.wrapping_sub(ticks) & 0xffff) << 8
    }

    fn recall(&mut self, _at: Ref, _bytes: u32, kept: u32) -> u32 {
        self.sampler.has_more();
        (self.ranks.clock.wrapping_sub(kept >> 8) & 0xffff) << 8 | kept & 0xfc
    }

    fn learned(&self, out: &mut Vec<u8>) {
        // A tick is as long as the entries were many.
        out.extend_from_slice(&u32::try_from(self.uses_a_tick).unwrap_or(u32::MAX).to_le_bytes());
        self.hits.iter().chain(&self.room).for_each(|count| push_f32(*count, out));
    }

    fn learn_from(&mut self, learned: &[u8]) {
        let mut numbers = Numbers(learned);
        let Some(uses_a_tick) = numbers.next() else { return };
        let counts: Option<Vec<f32>> = (0..2 * CELLS).map(|_| numbers.next_f32()).collect();
        let Some(counts) = counts else { return };
        let (hits, room) = counts.split_at(CELLS);
        self.hits.copy_from_slice(hits);
        self.room.copy_from_slice(room);
        self.uses_a_tick = u64::from(uses_a_tick.max(1));
        self.lesson = 0;
        while self.lesson < CLASSES {
            self.learn();
        }
    }

    fn refile(&mut self, _at: Ref, seen: Seen) -> u32 {
        seen.field
    }

    fn arriving(&mut self) {
        self.sampler.arriving();
    }

    fn removed(&mut self, _at: Ref, _seen: Seen) {}

    fn absorb(&mut self, hits: &mut Hits) {
        self.used(u64::from(std::mem::take(&mut hits.count)));
        hits.clock = self.ranks.clock;
        if hits.round != self.round {
            hits.round = self.round;
            for (sum, count) in self.hits.iter_mut().zip(hits.histogram.iter_mut()) {
                *sum += std::mem::take(count) as f32;
            }
        }
    }

    fn step(&mut self, entries: &mut dyn Entries) -> Step {
        let len = entries.len();
        self.ghosts.fit(len);
        self.teach(len);
        let (mut shown, mut count) = ([0; SHOWN_MAX], 0);
        let ranks = &self.ranks;
        for _ in 0..4 {
            let judge = |seen: &Seen| {
                let age = age_of(seen.field, ranks.clock);
                let cell = class_of(seen.field) * BINS + bin_of(age);
                if let Some(place) = shown.get_mut(count) {
                    *place = cell as u16;
                    count += 1;
                }
                let field = if age > AGE_MAX { aged(seen.field, ranks.clock) } else { seen.field };
                (field, ranks.cells[cell] * ranks.weight(seen.bytes))
            };
            if self.sampler.walk::<true>(entries, ranks, judge) {
                break;
            }
        }
        self.census(len, &shown[..count]);
        self.sampler.lonely(entries);
        let choice = self.sampler.choose(entries, &self.ranks);
        if let Choice::Found(candidate, _) = choice
            && !candidate.seen.is_over
        {
            let field = candidate.seen.field;
            let note = (class_of(field) as u32) << 14 | field >> 10;
            self.ghosts.insert(candidate.at, note);
        }
        choice.step()
    }

    fn keep(&mut self, candidates: usize) {
        self.sampler.keep(candidates / KEPT_PART);
    }

    fn clock(&self) -> u32 {
        self.ranks.clock & 0xffff
    }

    fn observe(&mut self, entries: &mut dyn Entries) {
        let len = entries.len();
        self.teach(len);
        let (mut shown, mut count, clock) = ([0; SHOWN_MAX], 0, self.ranks.clock);
        self.sampler.observe(entries, &mut |field| {
            if let Some(place) = shown.get_mut(count) {
                *place = cell_of(field, clock) as u16;
                count += 1;
            }
        });
        self.census(len, &shown[..count]);
    }

    fn memory(&self) -> usize {
        self.ghosts.memory()
            + self.sampler.memory()
            + (self.hits.len() + self.room.len() + self.ranks.cells.len()) * size_of::<f32>()
            + size_of::<Self>()
    }
}

/// So that policies on different parts of the keyspace walk differently.
#[must_use]
pub(super) fn seed_of(part: u32) -> u64 {
    mix(u64::from(part) + 1)
}
