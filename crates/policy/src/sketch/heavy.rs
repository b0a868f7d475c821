//! Heavy hitters by their hashes, for a path where every instruction counts.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi, ICDT 2005) in buckets of [`WAYS`]: a name belongs to the bucket its hash names,
//! and replaces the least of that bucket when it is new there. Adding is a walk over one bucket, without a heap to order
//! and, once names have been as long, without an allocation. A count is at most `over` too high and never too low, and
//! whoever has more than an eighth of what came to its bucket is there for certain: with 64 buckets, about a five hundredth of
//! everything. Each name has a place for what else is to be known of it, which begins anew when it comes.

use crate::random::mix;

/// Names of a bucket.
const WAYS: usize = 8;

/// A name and what it has had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hitter<T> {
    hash: u64,
    /// The name.
    pub name: Vec<u8>,
    /// Where the name is from, such as a database: names that differ in it are different ones.
    pub space: u32,
    /// Its weight, or a little more.
    pub count: u64,
    /// How much more at most.
    pub over: u64,
    /// What else is known of it since it came.
    pub more: T,
}

/// The sketch.
#[derive(Debug)]
pub struct Heavy<T> {
    buckets: Vec<[Hitter<T>; WAYS]>,
    name_bytes_max: usize,
    whole: u64,
}

impl<T: Default> Heavy<T> {
    /// A sketch of so many buckets, a power of two is made of it, for names of at most so many bytes.
    #[must_use]
    pub fn new(buckets: usize, name_bytes_max: usize) -> Self {
        let buckets = buckets.max(1).next_power_of_two();
        let fresh = || std::array::from_fn(|_| Hitter::default());
        Heavy { buckets: (0..buckets).map(|_| fresh()).collect(), name_bytes_max, whole: 0 }
    }

    /// Adds to a name's weight, and gives what else is known of it. A name that is too long is not kept.
    #[inline]
    pub fn add(&mut self, hash: u64, space: u32, name: &[u8], weight: u64) -> Option<&mut T> {
        self.whole = self.whole.saturating_add(weight);
        if name.len() > self.name_bytes_max || weight == 0 {
            return None;
        }
        let hash = if space == 0 { hash } else { hash ^ mix(u64::from(space)) };
        let at = (hash >> 40) as usize & (self.buckets.len() - 1);
        let bucket = self.buckets.get_mut(at)?;
        let known = bucket.iter().position(|one| one.hash == hash && one.space == space && one.name == name);
        let place = match known {
            Some(place) if bucket.get(place)?.count != 0 => place,
            _ => {
                let least =
                    (0..WAYS).min_by_key(|place| bucket.get(*place).map_or(u64::MAX, |one| one.count))?;
                let one = bucket.get_mut(least)?;
                one.name.clear();
                one.name.extend_from_slice(name);
                (one.hash, one.space, one.over, one.more) = (hash, space, one.count, T::default());
                least
            }
        };
        let one = bucket.get_mut(place)?;
        one.count = one.count.saturating_add(weight);
        Some(&mut one.more)
    }

    /// Enters a name that was kept by another sketch, by what is a hash of it now, with its weight and how much of that may be another's. False
    /// where its bucket has no room: the heaviest are to come first.
    pub fn recall(
        &mut self,
        (hash, space, name): (u64, u32, &[u8]),
        (count, over): (u64, u64),
        more: T,
    ) -> bool {
        let hash = if space == 0 { hash } else { hash ^ mix(u64::from(space)) };
        let at = (hash >> 40) as usize & (self.buckets.len() - 1);
        let Some(bucket) = self.buckets.get_mut(at) else { return false };
        if name.len() > self.name_bytes_max || count == 0 || over > count {
            return false;
        }
        let is_known = bucket
            .iter()
            .any(|one| one.count != 0 && one.space == space && one.hash == hash && one.name == name);
        let Some(one) = bucket.iter_mut().find(|one| one.count == 0).filter(|_| !is_known) else {
            return false;
        };
        *one = Hitter { hash, name: name.to_vec(), space, count, over, more };
        self.whole = self.whole.saturating_add(count);
        true
    }

    /// Adds to the weight of names that are not kept.
    pub fn count(&mut self, weight: u64) {
        self.whole = self.whole.saturating_add(weight);
    }

    /// All names kept, in no order.
    pub fn hitters(&self) -> impl Iterator<Item = &Hitter<T>> {
        self.buckets.iter().flatten().filter(|one| one.count != 0)
    }

    /// The weight of all names, kept or not.
    #[must_use]
    pub fn whole(&self) -> u64 {
        self.whole
    }

    /// Halves all counts, so that what was heavy long ago makes room; `halve` does the same to what else is known.
    pub fn halve(&mut self, halve: impl Fn(&mut T)) {
        self.whole /= 2;
        for one in self.buckets.iter_mut().flatten() {
            (one.count, one.over) = (one.count / 2, one.over / 2);
            halve(&mut one.more);
        }
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let names: usize = self.buckets.iter().flatten().map(|one| one.name.capacity()).sum();
        names + self.buckets.capacity() * size_of::<[Hitter<T>; WAYS]>()
    }

    /// Looks for what must not be.
    ///
    /// # Panics
    /// When a name is kept twice, in a wrong bucket, or with an error above its count.
    pub fn check(&self) {
        for (at, bucket) in self.buckets.iter().enumerate() {
            for (place, one) in bucket.iter().enumerate().filter(|(_, one)| one.count != 0) {
                assert!(one.over <= one.count);
                assert_eq!((one.hash >> 40) as usize & (self.buckets.len() - 1), at);
                let twice = bucket.iter().skip(place + 1).filter(|other| other.count != 0);
                assert!(
                    twice.filter(|other| other.space == one.space && other.name == one.name).count() == 0
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn hash(name: &[u8]) -> u64 {
        name.iter().fold(7, |hash, byte| mix(hash ^ u64::from(*byte)))
    }

    proptest! {
        #[test]
        fn counts_are_never_too_low_and_errors_are_told(
            uses in proptest::collection::vec((0u8..90, 0u32..2, 1u64..9), 1..1500)
        ) {
            let (mut heavy, mut exact) = (Heavy::<u64>::new(4, 8), HashMap::new());
            let mut by_bucket = HashMap::new();
            for (name, space, weight) in uses {
                if let Some(more) = heavy.add(hash(&[name]), space, &[name], weight) {
                    *more += weight;
                }
                *exact.entry((name, space)).or_insert(0u64) += weight;
                let mixed = if space == 0 { hash(&[name]) } else { hash(&[name]) ^ mix(u64::from(space)) };
                *by_bucket.entry(mixed >> 40 & 3).or_insert(0u64) += weight;
                heavy.check();
            }
            prop_assert_eq!(heavy.whole(), exact.values().sum::<u64>());
            for one in heavy.hitters() {
                let truth = exact[&(one.name[0], one.space)];
                prop_assert!(one.count >= truth && one.count - one.over <= truth);
                prop_assert_eq!(one.more, one.count - one.over);
            }
            for ((name, space), count) in &exact {
                let is_kept = heavy.hitters().any(|one| one.name == [*name] && one.space == *space);
                let mixed = if *space == 0 { hash(&[*name]) } else { hash(&[*name]) ^ mix(u64::from(*space)) };
                prop_assert!(is_kept || *count <= by_bucket[&(mixed >> 40 & 3)] / WAYS as u64);
            }
        }
    }

    #[test]
    fn under_skewed_load_the_top_ten_are_the_true_ones() {
        let (mut heavy, mut exact, mut random) = (Heavy::<()>::new(64, 64), HashMap::new(), Random::new(6));
        for _ in 0..200_000 {
            let key = format!("key:{}", 50_000f64.powf(random.share().powi(2)) as u64);
            heavy.add(hash(key.as_bytes()), 0, key.as_bytes(), 1);
            *exact.entry(key).or_insert(0u64) += 1;
        }
        let mut kept: Vec<_> = heavy.hitters().cloned().collect();
        kept.sort_unstable_by_key(|one| std::cmp::Reverse(one.count));
        let mut true_ones: Vec<(u64, &String)> = exact.iter().map(|(key, count)| (*count, key)).collect();
        true_ones.sort_unstable_by(|a, b| b.cmp(a));
        for (one, (count, key)) in kept.iter().zip(true_ones.iter().take(10)) {
            assert_eq!(one.name, key.as_bytes());
            assert!(one.count - count <= count / 20, "{key}: {} for {count}", one.count);
        }
        assert!(heavy.memory() < 64 * 1024, "{}", heavy.memory());
        heavy.halve(|()| {});
        heavy.check();
        assert_eq!(heavy.whole(), 100_000);
    }

    #[test]
    fn what_another_sketch_kept_is_gone_on_from() {
        let mut heavy = Heavy::<u64>::new(1, 4);
        for name in 0..12u8 {
            let is_kept = heavy.recall((hash(&[name]), 0, &[name]), (100 - u64::from(name), 3), 7);
            assert_eq!(is_kept, name < 8, "the heaviest come first");
        }
        assert!(!heavy.recall((hash(&[1]), 0, &[1]), (5, 0), 0), "it is there");
        assert!(!heavy.recall((hash(b"12345"), 0, b"12345"), (5, 0), 0));
        heavy.check();
        heavy.count(10);
        assert_eq!(heavy.whole(), (93..=100).sum::<u64>() + 10);
        heavy.add(hash(&[3]), 0, &[3], 5);
        let one = heavy.hitters().find(|one| one.name == [3]).map(|one| (one.count, one.over, one.more));
        assert_eq!(one, Some((102, 3, 7)));
    }

    #[test]
    fn names_that_are_too_long_are_counted_and_not_kept() {
        let mut heavy = Heavy::<()>::new(1, 4);
        assert!(heavy.add(1, 0, b"12345", 3).is_none());
        assert!(heavy.add(1, 0, b"1234", 3).is_some());
        assert_eq!((heavy.whole(), heavy.hitters().count()), (6, 1));
    }
}
