//! The miss ratio curve of LRU while serving, by fixed-size SHARDS (Waldspurger, Park, Garthwaite, Ahmad, FAST 2015).
//!
//! Keys whose hash lies below a threshold are followed, at most so many, [`KEYS_MAX`] unless told otherwise; where there are more the threshold falls, and
//! counts made under a higher one are scaled down. For each read of a followed key the stack distance, the bytes of
//! all followed keys used since, divided by the rate at which keys are followed, is the size of cache at which this read
//! would have been a hit. Distances are counted in steps of an eighth of an octave. The difference between reads expected
//! and reads seen goes to the smallest distance, as the paper's SHARDS-adj does.
//!
//! A server knows more than a trace: a read that finds nothing brings nothing in by itself, a write does, and what was
//! deleted or is over its time would be a hit at no size. Only one key in many is followed, and whether a key is can be
//! told from its hash alone: threads note those uses and no others, and hand them over now and then. Hashes must be
//! well mixed. Invariant: the order of uses and the Fenwick tree over it agree; `check` compares.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// Keys followed at most, unless it is to be fewer.
pub const KEYS_MAX: usize = 8192;
/// Places in the order of uses for each of them; when all are taken the order is packed anew.
const PLACES_A_KEY: usize = 2;
/// Distances counted: eighths of octaves, up to 2^48 bytes.
const STEPS: usize = 48 * 8;
/// A key's rank, the lower half of its hash, is compared with the threshold in this range.
const RANGE: u64 = 1 << 32;
/// Nobody stands at this place.
const NOBODY: u64 = u64::MAX;

/// Hashes are keys here, so they need not be hashed once more.
#[derive(Clone, Debug, Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A map from hashes.
pub type HashesTo<V> = HashMap<u64, V, BuildHasherDefault<AsItIs>>;

#[derive(Clone, Copy, Debug)]
struct Followed {
    /// Its place in the order of uses.
    place: u32,
    bytes: u32,
    /// When its time is over, in seconds of any clock; 0 for never.
    ends: u32,
}

/// The estimator.
#[derive(Debug)]
pub struct Shards {
    threshold: u64,
    keys_max: usize,
    followed: HashesTo<Followed>,
    /// Hashes of what is followed, their halves exchanged, so that the largest rank is found.
    ranks: BTreeSet<u64>,
    /// Bytes by place, as a Fenwick tree (Fenwick, Software: Practice and Experience 24, 1994).
    tree: Vec<u64>,
    /// Who stands at a place.
    places: Vec<u64>,
    next: usize,
    bytes: u64,
    histogram: Vec<f64>,
    /// Reads of followed keys, in the scale of the threshold now.
    seen: f64,
    reads: u64,
}

/// What the estimator has counted, without which keys they were.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CurveCounts {
    /// Below which keys were followed; counts are in its scale.
    pub threshold: u64,
    /// Reads of followed keys.
    pub seen: f64,
    /// All reads.
    pub reads: u64,
    /// Steps of distances and how often each was met, where it was.
    pub steps: Vec<(u32, f32)>,
}

/// What the estimator tells: hit ratios by size.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Hits by reads at each step of sizes.
    ratios: Vec<f64>,
}

impl Curve {
    /// The hit ratio at a size in bytes.
    #[must_use]
    pub fn hit_ratio(&self, bytes: u64) -> f64 {
        let at = exact_step(bytes);
        let (low, share) = (at.floor() as usize, at.fract());
        let ratio = |step: usize| self.ratios.get(step).or(self.ratios.last()).copied().unwrap_or(0.0);
        ratio(low) + (ratio(low + 1) - ratio(low)) * share
    }
}

/// A size in eighths of octaves.
fn exact_step(bytes: u64) -> f64 {
    ((bytes.max(1) as f64).log2() * 8.0).clamp(0.0, STEPS as f64)
}

/// The first step of sizes that is not below a distance: its eighths of octaves, rounded up.
fn step_of(distance: f64) -> usize {
    /// Powers of two to 0, 1/8 ... 7/8.
    const EIGHTHS: [f64; 8] = [
        1.0,
        1.090_507_732_665_257_7,
        1.189_207_115_002_721,
        1.296_839_554_651_009_6,
        std::f64::consts::SQRT_2,
        1.542_210_825_407_940_7,
        1.681_792_830_507_429,
        1.834_008_086_409_342_4,
    ];
    if distance <= 1.0 {
        return 0;
    }
    let bits = distance.to_bits();
    let octave = (bits >> 52) as usize - 1023;
    let rest = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    (8 * octave + EIGHTHS.iter().filter(|eighth| rest > **eighth).count()).min(STEPS - 1)
}

fn rank(hash: u64) -> u64 {
    hash & (RANGE - 1)
}

impl Default for Shards {
    fn default() -> Self {
        Shards::new()
    }
}

impl Shards {
    /// An empty one, that follows every key while they are few.
    #[must_use]
    pub fn new() -> Self {
        Shards::following(KEYS_MAX)
    }

    /// An empty one, that follows at most so many keys: the fewer, the rougher the curve and the less memory it takes.
    #[must_use]
    pub fn following(keys_max: usize) -> Self {
        let places = PLACES_A_KEY * keys_max.max(1);
        Shards {
            threshold: RANGE,
            keys_max,
            followed: HashesTo::default(),
            ranks: BTreeSet::new(),
            tree: vec![0; places + 1],
            places: vec![NOBODY; places],
            next: 0,
            bytes: 0,
            histogram: vec![0.0; STEPS],
            seen: 0.0,
            reads: 0,
        }
    }

    /// What it has counted.
    #[must_use]
    pub fn counts(&self) -> CurveCounts {
        let counts = self.histogram.iter().zip(0..).filter(|(count, _)| **count > 0.0);
        CurveCounts {
            threshold: self.threshold,
            seen: self.seen,
            reads: self.reads,
            steps: counts.map(|(count, step)| (step, *count as f32)).collect(),
        }
    }

    /// Adds what another has counted. What no estimator counts is left alone.
    pub fn recall(&mut self, counts: &CurveCounts) {
        let is_count = |count: f64| count.is_finite() && count >= 0.0;
        let is_right = (1..=RANGE).contains(&counts.threshold)
            && is_count(counts.seen)
            && counts.steps.iter().all(|(_, count)| is_count(f64::from(*count)));
        if !is_right {
            return;
        }
        let scale = self.threshold as f64 / counts.threshold as f64;
        self.seen += counts.seen * scale;
        self.reads = self.reads.saturating_add(counts.reads);
        for (step, count) in &counts.steps {
            if let Some(place) = self.histogram.get_mut(*step as usize) {
                *place += f64::from(*count) * scale;
            }
        }
    }

    /// Whether uses of a key with this hash are to be told. What is not followed once is never followed again.
    #[inline]
    #[must_use]
    pub fn follows(&self, hash: u64) -> bool {
        rank(hash) < self.threshold && hash != NOBODY
    }

    /// Below which value the lower half of a key's hash must lie for the key to be followed; at most 2^32.
    #[must_use]
    pub fn threshold(&self) -> u64 {
        self.threshold
    }

    /// Which share of all keys is followed.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.threshold as f64 / RANGE as f64
    }

    /// Keys that are followed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.followed.len()
    }

    /// Whether no key is followed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.followed.is_empty()
    }

    /// Counts reads of all keys, followed or not.
    pub fn count(&mut self, reads: u64) {
        self.reads += reads;
    }

    /// Reads of followed keys that were never there, beside those told one by one.
    pub fn missed(&mut self, reads: u64) {
        self.seen += reads as f64;
    }

    /// All reads counted, less what has faded.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// Reads of followed keys, in the scale of the threshold now.
    #[must_use]
    pub fn reads_followed(&self) -> f64 {
        self.seen
    }

    /// A read of a key that is followed, as a trace has it: what is not there is brought in.
    pub fn used(&mut self, hash: u64, bytes: u32) {
        self.read(hash, Some(bytes), 0);
    }

    /// A read of a key that is followed: its bytes with key and value where it was found, and the time in seconds.
    pub fn read(&mut self, hash: u64, found: Option<u32>, now: u32) {
        if !self.follows(hash) {
            return;
        }
        self.seen += 1.0;
        let Some(known) = self.followed.get(&hash).copied() else {
            return found.into_iter().for_each(|bytes| self.enter(hash, bytes, 0));
        };
        if found.is_none() && known.ends != 0 && known.ends <= now {
            return self.removed(hash);
        }
        let bytes = found.unwrap_or(known.bytes);
        let distance = self.bytes_after(known.place as usize) + u64::from(bytes);
        let whole = distance as f64 * RANGE as f64 / self.threshold as f64;
        if let Some(count) = self.histogram.get_mut(step_of(whole)) {
            *count += 1.0;
        }
        self.leave(known);
        self.stand(hash, bytes, known.ends);
    }

    /// A write of a key that is followed: what it takes from then on, and when it ends in seconds, 0 for never.
    pub fn wrote(&mut self, hash: u64, bytes: u32, ends: u32) {
        if !self.follows(hash) {
            return;
        }
        if let Some(known) = self.followed.get(&hash).copied() {
            self.leave(known);
        }
        self.enter(hash, bytes, ends);
    }

    /// A key was removed for another reason than want of room: a larger cache would not hold it either.
    pub fn removed(&mut self, hash: u64) {
        if let Some(known) = self.followed.remove(&hash) {
            self.ranks.remove(&hash.rotate_left(32));
            self.leave(known);
        }
    }

    /// All keys were removed.
    pub fn removed_all(&mut self) {
        self.followed.clear();
        self.ranks.clear();
        self.tree.fill(0);
        self.places.fill(NOBODY);
        (self.next, self.bytes) = (0, 0);
    }

    fn enter(&mut self, hash: u64, bytes: u32, ends: u32) {
        self.stand(hash, bytes, ends);
        while self.followed.len() > self.keys_max {
            let Some(last) = self.ranks.last().copied() else { return };
            self.lower_to(rank(last.rotate_left(32)));
        }
    }

    /// Lowers the threshold and drops the keys of larger ranks; none like them is followed from now on.
    pub fn lower_to(&mut self, threshold: u64) {
        if threshold >= self.threshold || threshold == 0 {
            return;
        }
        let scale = threshold as f64 / self.threshold as f64;
        self.threshold = threshold;
        for last in self.ranks.split_off(&(threshold << 32)) {
            if let Some(known) = self.followed.remove(&last.rotate_left(32)) {
                self.leave(known);
            }
        }
        for count in &mut self.histogram {
            *count *= scale;
        }
        self.seen *= scale;
    }

    fn stand(&mut self, hash: u64, bytes: u32, ends: u32) {
        if self.next == self.places.len() {
            self.pack();
        }
        let place = self.next;
        self.next += 1;
        if let Some(entry) = self.places.get_mut(place) {
            *entry = hash;
        }
        let before = self.followed.insert(hash, Followed { place: place as u32, bytes, ends });
        if before.is_none() {
            self.ranks.insert(hash.rotate_left(32));
        }
        self.add(place, u64::from(bytes));
        self.bytes += u64::from(bytes);
    }

    fn leave(&mut self, known: Followed) {
        if let Some(entry) = self.places.get_mut(known.place as usize) {
            *entry = NOBODY;
        }
        self.add(known.place as usize, u64::from(known.bytes).wrapping_neg());
        self.bytes -= u64::from(known.bytes);
    }

    /// Closes the gaps in the order of uses.
    fn pack(&mut self) {
        let order: Vec<u64> = self.places.iter().filter(|hash| **hash != NOBODY).copied().collect();
        self.places.fill(NOBODY);
        self.tree.fill(0);
        self.next = 0;
        self.bytes = 0;
        for hash in order {
            if let Some(known) = self.followed.get(&hash).copied() {
                self.stand(hash, known.bytes, known.ends);
            }
        }
    }

    fn add(&mut self, place: usize, bytes: u64) {
        let mut at = place + 1;
        while let Some(sum) = self.tree.get_mut(at) {
            *sum = sum.wrapping_add(bytes);
            at += at & at.wrapping_neg();
        }
    }

    /// The bytes of keys used after a place.
    fn bytes_after(&self, place: usize) -> u64 {
        let (mut at, mut sum) = (place + 1, 0u64);
        while at > 0 {
            sum = sum.wrapping_add(self.tree.get(at).copied().unwrap_or(0));
            at &= at - 1;
        }
        self.bytes.wrapping_sub(sum)
    }

    /// Forgets a part of what was counted, so that the curve follows a load that changes. The order of uses stays.
    pub fn fade(&mut self, kept: f64) {
        for count in &mut self.histogram {
            *count *= kept;
        }
        self.seen *= kept;
        self.reads = (self.reads as f64 * kept) as u64;
    }

    /// The curve so far.
    #[must_use]
    pub fn curve(&self) -> Curve {
        let expected = (self.reads as f64 * self.rate()).max(1.0);
        // Popular keys among those followed, or missing there, show as too many or too few reads: of short distances.
        let mut sum = if self.reads == 0 { 0.0 } else { expected - self.seen };
        let all = if self.reads == 0 { self.seen.max(1.0) } else { expected };
        let ratios = self.histogram.iter().map(|count| {
            sum += count;
            (sum / all).clamp(0.0, 1.0)
        });
        Curve { ratios: ratios.collect() }
    }

    /// Memory held, in bytes, at most.
    #[must_use]
    pub fn memory(&self) -> usize {
        // A hash map has room for up to twice its entries and a byte of its own for each; a node of a B-tree is half full at worst.
        let map = self.followed.capacity() * (size_of::<(u64, Followed)>() + 1) * 8 / 7;
        let tree = self.ranks.len() * size_of::<u64>() * 2;
        map + tree + self.tree.len() * 8 + self.places.len() * 8 + self.histogram.len() * 8
    }

    /// Compares what is kept twice.
    ///
    /// # Panics
    /// When the order of uses, the tree and the keys disagree.
    pub fn check(&self) {
        assert_eq!(self.followed.len(), self.ranks.len());
        assert_eq!(self.places.iter().filter(|hash| **hash != NOBODY).count(), self.followed.len());
        assert_eq!(self.bytes, self.followed.values().map(|known| u64::from(known.bytes)).sum::<u64>());
        for (hash, known) in &self.followed {
            assert_eq!(self.places.get(known.place as usize), Some(hash));
            assert!(self.ranks.contains(&hash.rotate_left(32)));
            assert!(self.follows(*hash));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, mix};
    use crate::sim::{Operation, Request, Subject, Trace, replay};
    use proptest::prelude::*;

    /// The mean difference, in points, between estimated and simulated hit ratios from an eighth of the footprint to all of it.
    fn error(trace: &Trace) -> f64 {
        let mut shards = Shards::new();
        for request in &trace.requests {
            shards.count(1);
            shards.used(mix(u64::from(request.key) + 1), request.bytes);
        }
        shards.check();
        assert!(shards.memory() <= 1 << 20, "{} bytes", shards.memory());
        let sizes: Vec<u64> = (1..=8).map(|eighth| (trace.footprint() * eighth / 8).max(1)).collect();
        let curve = shards.curve();
        let exact = replay(trace, &[Subject::ExactLru], &sizes, 1, &mut |_, _| {});
        let difference = |size: &u64, miss: f64| (curve.hit_ratio(*size) - (1.0 - miss)).abs();
        let sum: f64 = sizes.iter().zip(&exact).map(|(size, o)| difference(size, o.tally.miss_ratio())).sum();
        100.0 * sum / sizes.len() as f64
    }

    fn skewed(requests: usize, keys: f64, size: impl Fn(u32) -> u32, drift: usize) -> Trace {
        let mut random = Random::new(8);
        let mut numbers = HashMap::new();
        let requests: Vec<Request> = (0..requests)
            .map(|at| {
                let name = keys.powf(random.share()) as usize + at / drift.max(1);
                let fresh = numbers.len() as u32;
                let key = *numbers.entry(name).or_insert(fresh);
                Request { key, bytes: size(key), second: 0, ttl_seconds: 0, operation: Operation::Get }
            })
            .collect();
        Trace { requests, keys: numbers.len() as u32 }
    }

    #[test]
    fn the_curve_is_within_two_points_of_full_simulation() {
        let loads = [
            skewed(60_000, 3_000.0, |_| 1, usize::MAX),
            skewed(400_000, 100_000.0, |_| 1, usize::MAX),
            skewed(400_000, 100_000.0, |key| 50 + (mix(u64::from(key)) % 900) as u32, usize::MAX),
            skewed(400_000, 40_000.0, |_| 100, 20),
        ];
        for (number, load) in loads.iter().enumerate() {
            let error = error(load);
            assert!(error < 2.0, "load {number}: {error} points");
        }
    }

    #[test]
    fn the_curve_of_a_loop_is_a_cliff() {
        let mut shards = Shards::new();
        for use_number in 0..20_000u64 {
            shards.count(1);
            shards.used(mix(use_number % 1000), 10);
        }
        let curve = shards.curve();
        assert!(curve.hit_ratio(8_000) < 0.01 && curve.hit_ratio(11_000) > 0.94, "{curve:?}");
    }

    #[test]
    fn steps_are_logarithms_rounded_up() {
        for distance in
            (0..200_000u64).chain((20..47).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]))
        {
            let expected = ((distance as f64).log2() * 8.0).ceil().max(0.0) as usize;
            assert_eq!(step_of(distance as f64), expected, "{distance}");
        }
        assert_eq!(step_of(1e30), STEPS - 1);
    }

    #[test]
    fn what_was_deleted_or_is_over_would_be_a_hit_at_no_size() {
        let mut shards = Shards::new();
        for key in [1, 2, 3, 4] {
            shards.wrote(mix(key), 10, if key == 3 { 50 } else { 0 });
        }
        shards.removed(mix(2));
        shards.check();
        // Read at time 60: 1 is a hit from 30 bytes on (3 lies between), 2 and 3 nowhere, 5 was never there.
        for key in [1, 2, 3, 5] {
            shards.count(1);
            shards.read(mix(key), None, 60);
            shards.check();
        }
        assert_eq!(shards.curve().hit_ratio(1 << 20), 0.25);
        assert!(shards.curve().hit_ratio(20) < 0.01);
        assert_eq!(shards.len(), 2);
        shards.removed_all();
        shards.check();
        assert!(shards.is_empty());
    }

    #[test]
    fn a_lower_threshold_keeps_the_share_of_its_keys() {
        let mut shards = Shards::new();
        for round in 0..2 {
            for key in 0..4000u64 {
                shards.count(1);
                shards.used(mix(key + 1), 10);
            }
            if round == 0 {
                shards.lower_to(RANGE / 8);
                shards.check();
            }
        }
        assert!((400..600).contains(&shards.len()), "{}", shards.len());
        assert_eq!(shards.rate(), 0.125);
        assert!((shards.curve().hit_ratio(1 << 20) - 0.5).abs() < 0.06);
    }

    proptest! {
        #[test]
        fn writes_and_removals_keep_order_and_tree_together(
            uses in proptest::collection::vec((0u64..60, 0u8..5, 1u32..500), 1..600)
        ) {
            let mut shards = Shards::new();
            for (key, kind, bytes) in uses {
                match kind {
                    0 => shards.read(mix(key), None, 5),
                    1 => shards.read(mix(key), Some(bytes), 5),
                    2 => shards.wrote(mix(key), bytes, bytes % 10),
                    3 => shards.removed(mix(key)),
                    _ => shards.lower_to(shards.threshold() - u64::from(bytes)),
                }
                shards.check();
            }
        }

        #[test]
        fn while_all_keys_are_followed_distances_are_those_of_a_list(
            uses in proptest::collection::vec((0u64..40, 1u32..500), 1..400)
        ) {
            let mut shards = Shards::new();
            let mut list: Vec<(u64, u32)> = Vec::new();
            let mut expected = vec![0.0; STEPS];
            for (key, bytes) in uses {
                shards.count(1);
                shards.used(key, bytes);
                if let Some(at) = list.iter().position(|held| held.0 == key) {
                    let distance = list[at + 1..].iter().map(|held| u64::from(held.1)).sum::<u64>() + u64::from(bytes);
                    expected[((distance as f64).log2() * 8.0).ceil() as usize] += 1.0;
                    list.remove(at);
                }
                list.push((key, bytes));
                shards.check();
            }
            prop_assert_eq!(&shards.histogram, &expected);
        }
    }
}
