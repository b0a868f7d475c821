//! The miss ratio curve of LRU while serving, by fixed-size SHARDS (Waldspurger, Park, Garthwaite, Ahmad, FAST 2015).
//!
//! Keys whose hash lies below a threshold are followed, at most [`KEYS_MAX`]; where there are more the threshold falls, and
//! counts made under a higher one are scaled down. For each use of a followed key the stack distance, the bytes of
//! all followed keys used since, divided by the rate at which keys are followed, is the size of cache at which this use
//! would have been a hit. Distances are counted in steps of an eighth of an octave. The difference between uses expected
//! and uses seen goes to the smallest distance, as the paper's SHARDS-adj does.
//!
//! Only one key in many is followed, and whether a key is can be told from its hash alone: threads note those uses and no
//! others, and hand them over once a turn. Invariant: the order of uses and the Fenwick tree over it agree; `check` compares.

use crate::random::mix;
use std::collections::{BTreeSet, HashMap};

/// Keys followed at most.
pub const KEYS_MAX: usize = 8192;
/// Places in the order of uses; when all are taken the order is packed anew.
const PLACES: usize = 2 * KEYS_MAX;
/// Distances counted: eighths of octaves, up to 2^48 bytes.
const STEPS: usize = 48 * 8;
/// Hashes are compared with the threshold in this range.
const RANGE: u64 = 1 << 32;

#[derive(Clone, Copy, Debug)]
struct Followed {
    /// Its place in the order of uses.
    place: u32,
    bytes: u32,
}

/// The estimator.
#[derive(Debug)]
pub struct Shards {
    threshold: u64,
    followed: HashMap<u64, Followed>,
    /// Hashes of what is followed, so that the largest is found.
    hashes: BTreeSet<(u64, u64)>,
    /// Bytes by place, as a Fenwick tree (Fenwick, Software: Practice and Experience 24, 1994).
    tree: Vec<u64>,
    /// Who stands at a place.
    places: Vec<Option<u64>>,
    next: usize,
    bytes: u64,
    histogram: Vec<f64>,
    /// Uses of followed keys seen for the first time, and the expected uses, in the scale of the threshold now.
    firsts: f64,
    seen: f64,
    uses: u64,
}

/// What the estimator tells: hit ratios by size.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Hits by uses at each step of sizes.
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

impl Default for Shards {
    fn default() -> Self {
        Shards::new()
    }
}

impl Shards {
    /// An empty one, that follows every key while they are few.
    #[must_use]
    pub fn new() -> Self {
        Shards {
            threshold: RANGE,
            followed: HashMap::new(),
            hashes: BTreeSet::new(),
            tree: vec![0; PLACES + 1],
            places: vec![None; PLACES],
            next: 0,
            bytes: 0,
            histogram: vec![0.0; STEPS],
            firsts: 0.0,
            seen: 0.0,
            uses: 0,
        }
    }

    fn rank(hash: u64) -> u64 {
        mix(hash ^ 0x7368_6172_6473) >> 32
    }

    /// Whether uses of a key with this hash are to be told. What is not followed once is never followed again.
    #[inline]
    #[must_use]
    pub fn follows(&self, hash: u64) -> bool {
        Self::rank(hash) < self.threshold
    }

    /// Below which value of a key's rank it is followed; for threads that decide by themselves.
    #[must_use]
    pub fn threshold(&self) -> u64 {
        self.threshold
    }

    /// Counts uses of all keys, followed or not.
    pub fn count(&mut self, uses: u64) {
        self.uses += uses;
    }

    /// A use of a key that is followed: its hash, and its size with key and value.
    pub fn used(&mut self, hash: u64, bytes: u32) {
        if !self.follows(hash) {
            return;
        }
        self.seen += 1.0;
        if let Some(known) = self.followed.get(&hash).copied() {
            let distance = self.bytes_after(known.place as usize) + u64::from(bytes);
            let whole = distance as f64 * RANGE as f64 / self.threshold as f64;
            let step = ((whole.log2() * 8.0).ceil().max(0.0) as usize).min(STEPS - 1);
            if let Some(count) = self.histogram.get_mut(step) {
                *count += 1.0;
            }
            self.leave(known);
        } else {
            self.firsts += 1.0;
            self.hashes.insert((Self::rank(hash), hash));
        }
        self.stand(hash, bytes);
        while self.followed.len() > KEYS_MAX {
            self.lower();
        }
    }

    /// Drops the keys of the largest hash, and follows none like it from now on.
    fn lower(&mut self) {
        let Some((rank, _)) = self.hashes.last().copied() else { return };
        let scale = rank as f64 / self.threshold as f64;
        self.threshold = rank;
        while let Some((other, hash)) = self.hashes.last().copied()
            && other >= rank
        {
            self.hashes.remove(&(other, hash));
            if let Some(known) = self.followed.remove(&hash) {
                self.leave(known);
            }
        }
        for count in &mut self.histogram {
            *count *= scale;
        }
        self.firsts *= scale;
        self.seen *= scale;
    }

    fn stand(&mut self, hash: u64, bytes: u32) {
        if self.next == PLACES {
            self.pack();
        }
        let place = self.next;
        self.next += 1;
        if let Some(entry) = self.places.get_mut(place) {
            *entry = Some(hash);
        }
        self.followed.insert(hash, Followed { place: place as u32, bytes });
        self.add(place, u64::from(bytes));
        self.bytes += u64::from(bytes);
    }

    fn leave(&mut self, known: Followed) {
        if let Some(entry) = self.places.get_mut(known.place as usize) {
            *entry = None;
        }
        self.add(known.place as usize, u64::from(known.bytes).wrapping_neg());
        self.bytes -= u64::from(known.bytes);
    }

    /// Closes the gaps in the order of uses.
    fn pack(&mut self) {
        let order: Vec<u64> = self.places.iter().flatten().copied().collect();
        self.places.fill(None);
        self.tree.fill(0);
        self.next = 0;
        self.bytes = 0;
        for hash in order {
            if let Some(bytes) = self.followed.get(&hash).map(|known| known.bytes) {
                self.stand(hash, bytes);
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
        self.firsts *= kept;
        self.seen *= kept;
        self.uses = (self.uses as f64 * kept) as u64;
    }

    /// The curve so far.
    #[must_use]
    pub fn curve(&self) -> Curve {
        let expected = (self.uses as f64 * self.threshold as f64 / RANGE as f64).max(1.0);
        // Popular keys among those followed, or missing there, show as too many or too few uses: of short distances.
        let mut sum = if self.uses == 0 { 0.0 } else { expected - self.seen };
        let all = if self.uses == 0 { self.seen.max(1.0) } else { expected };
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
        let tree = self.hashes.len() * size_of::<(u64, u64)>() * 2;
        map + tree + self.tree.len() * 8 + self.places.len() * 16 + self.histogram.len() * 8
    }

    /// Compares what is kept twice.
    ///
    /// # Panics
    /// When the order of uses, the tree and the keys disagree.
    pub fn check(&self) {
        assert_eq!(self.followed.len(), self.hashes.len());
        assert_eq!(self.places.iter().flatten().count(), self.followed.len());
        assert_eq!(self.bytes, self.followed.values().map(|known| u64::from(known.bytes)).sum::<u64>());
        for (hash, known) in &self.followed {
            assert_eq!(self.places.get(known.place as usize), Some(&Some(*hash)));
            assert!(Self::rank(*hash) < self.threshold);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
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

    proptest! {
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
