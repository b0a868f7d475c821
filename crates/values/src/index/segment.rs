//! A part of the index that grows, shrinks, splits and joins alone: what one insert or removal may
//! have to move.
//!
//! It holds the elements whose hashes begin with the same `depth` bits, in buckets in the order of
//! the bits that follow. An element whose home bucket is full lies in the next one with room, round
//! the end if need be. Numbers of buckets follow the allocator's size classes, so nothing is lost to it.
//! Invariant: buckets hold `len` elements, at most `limit` of their number.

use super::bucket::{Bucket, SLOTS};

/// Buckets from which a segment does not grow but splits.
pub(super) const BUCKETS_MAX: usize = 96;

/// Bits of the hash behind the first `depth` that choose a bucket.
const HOME_BITS: u32 = 24;

/// What splits deepest. Two elements that agree in more bits are there once in 2^24 segments.
pub(super) const DEPTH_MAX: u32 = 24;

/// Hash bits that decide where an element lies; a cursor needs no more.
pub(super) const POSITION_BITS: u32 = DEPTH_MAX + HOME_BITS;

/// The elements of one range of hashes.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    buckets: Box<[Bucket]>,
    /// The lowest hash of the range.
    base: u64,
    len: u32,
    depth: u8,
}

/// Where an element lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    bucket: usize,
    slot: usize,
}

/// Elements that a number of buckets holds before it grows: seven of eight places.
fn limit(buckets: usize) -> usize {
    buckets * SLOTS * 7 / 8
}

/// The next number of buckets: four steps a doubling.
fn next_size(buckets: usize) -> usize {
    let power = buckets.checked_ilog2().map_or(0, |log| 1 << log);
    buckets + (power / 4).max(1)
}

/// The number of buckets for `len` elements.
fn size_for(len: usize) -> usize {
    let mut buckets = 1;
    while limit(buckets) < len {
        buckets = next_size(buckets);
    }
    buckets
}

impl Segment {
    pub(super) fn new(base: u64, depth: u32, expected: usize) -> Segment {
        Segment {
            buckets: vec![Bucket::EMPTY; size_for(expected)].into_boxed_slice(),
            base,
            len: 0,
            depth: depth as u8,
        }
    }

    /// Moves its buckets if they lie badly.
    pub(super) fn move_blocks(&mut self, mover: &mut crate::mover::Mover<'_>) {
        mover.slice(&mut self.buckets);
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn depth(&self) -> u32 {
        u32::from(self.depth)
    }

    pub(super) fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    pub(super) fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    pub(super) fn bucket(&self, at: usize) -> &Bucket {
        &self.buckets[at]
    }

    pub(super) fn references(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        self.buckets.iter().flat_map(|bucket| bucket.references().iter().copied())
    }

    /// The bucket an element of this hash belongs to.
    #[inline]
    pub(super) fn home(&self, hash: u64) -> usize {
        let within = (hash << self.depth) >> (64 - HOME_BITS);
        ((within * self.buckets.len() as u64) >> HOME_BITS) as usize
    }

    /// The lowest hash whose home is bucket `at`; nothing for the first bucket of the next segment
    /// where the space of hashes ends.
    pub(super) fn lowest_hash(&self, at: usize) -> Option<u64> {
        let within = ((at as u64) << HOME_BITS).div_ceil(self.buckets.len() as u64);
        let offset = u128::from(within) << (64 - HOME_BITS - self.depth());
        u64::try_from(u128::from(self.base) + offset).ok()
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, mut eq: impl FnMut(u32) -> bool) -> Option<Place> {
        let home = self.home(hash);
        let mut at = home;
        loop {
            let bucket = &self.buckets[at];
            if let Some(slot) = bucket.find(tag(hash), &mut eq) {
                return Some(Place { bucket: at, slot });
            }
            if bucket.passed() == 0 {
                return None;
            }
            at = self.after(at);
            if at == home {
                return None;
            }
        }
    }

    #[inline]
    pub(super) fn get(&self, place: Place) -> u32 {
        self.buckets[place.bucket].get(place.slot)
    }

    pub(super) fn set(&mut self, place: Place, reference: u32) {
        self.buckets[place.bucket].set(place.slot, reference);
    }

    /// The reference at a place of any bucket, if something is there.
    pub(super) fn at(&self, bucket: usize, slot: usize) -> Option<u32> {
        self.buckets.get(bucket)?.references().get(slot).copied()
    }

    /// Whether one more element would be above the limit.
    #[inline]
    pub(super) fn is_at_limit(&self) -> bool {
        self.len() >= limit(self.buckets.len())
    }

    /// Adds an element; there is room.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, reference: u32) {
        let mut at = self.home(hash);
        while self.buckets[at].is_full() {
            self.buckets[at].pass();
            at = self.after(at);
        }
        self.buckets[at].push(tag(hash), reference);
        self.len += 1;
    }

    /// Takes out the element of this hash at `place`.
    #[inline]
    pub(super) fn remove(&mut self, hash: u64, place: Place) -> u32 {
        let mut at = self.home(hash);
        while at != place.bucket {
            self.buckets[at].unpass();
            at = self.after(at);
        }
        self.len -= 1;
        self.buckets[at].swap_remove(place.slot)
    }

    /// Makes room for more: one step more buckets, whatever the limit of a segment is.
    pub(super) fn grow(&mut self, hash_of: impl Fn(u32) -> u64) {
        self.resize(next_size(self.buckets.len()), hash_of);
    }

    /// Gives buckets back when three quarters or more are not needed; true if it did.
    #[inline]
    pub(super) fn shrink(&mut self, hash_of: impl Fn(u32) -> u64) -> bool {
        if self.buckets.len() == 1 || self.len() * 4 > limit(self.buckets.len()) {
            return false;
        }
        self.resize(size_for(self.len() + self.len() / 4 + 1), hash_of);
        true
    }

    fn resize(&mut self, buckets: usize, hash_of: impl Fn(u32) -> u64) {
        let old = std::mem::replace(&mut self.buckets, vec![Bucket::EMPTY; buckets].into_boxed_slice());
        self.len = 0;
        self.insert_all(&old, hash_of);
    }

    fn insert_all(&mut self, buckets: &[Bucket], hash_of: impl Fn(u32) -> u64) {
        for bucket in buckets {
            // All hashes first: the records' cache misses then overlap.
            let mut hashes = [0; SLOTS];
            for (hash, &reference) in hashes.iter_mut().zip(bucket.references()) {
                *hash = hash_of(reference);
            }
            for (&hash, &reference) in hashes.iter().zip(bucket.references()) {
                self.insert(hash, reference);
            }
        }
    }

    /// Keeps the elements of the lower half of the range and answers a segment with those of the upper.
    /// Either may need to grow where the halves are very unequal.
    pub(super) fn split(&mut self, hash_of: impl Fn(u32) -> u64) -> Segment {
        let bit = 1_u64 << (63 - self.depth());
        let hashed: Vec<(u64, u32)> =
            self.references().map(|reference| (hash_of(reference), reference)).collect();
        let upper_len = hashed.iter().filter(|(hash, _)| hash & bit != 0).count();
        let depth = self.depth() + 1;
        let mut upper = Segment::new(self.base | bit, depth, upper_len + 1);
        *self = Segment::new(self.base, depth, hashed.len() - upper_len + 1);
        for (hash, reference) in hashed {
            let half = if hash & bit == 0 { &mut *self } else { &mut upper };
            half.insert(hash, reference);
        }
        upper
    }

    /// One segment of the two halves of a range.
    pub(super) fn join(lower: &Segment, upper: &Segment, hash_of: impl Fn(u32) -> u64) -> Segment {
        let mut joined = Segment::new(lower.base, lower.depth() - 1, lower.len() + upper.len() + 1);
        joined.insert_all(&lower.buckets, &hash_of);
        joined.insert_all(&upper.buckets, &hash_of);
        joined
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() { 0 } else { at + 1 }
    }

    /// Panics if an invariant does not hold.
    pub(super) fn check(&self, hash_of: impl Fn(u32) -> u64) {
        assert_eq!(self.references().count(), self.len(), "the count of a segment is wrong");
        assert!(self.len() <= limit(self.buckets.len()), "a segment is too full");
        let mut passed = vec![0_u16; self.buckets.len()];
        for (at, bucket) in self.buckets.iter().enumerate() {
            for &reference in bucket.references() {
                let hash = hash_of(reference);
                let prefix = (hash ^ self.base).checked_shr(64 - self.depth()).unwrap_or(0);
                assert_eq!(prefix, 0, "an element is in the wrong segment");
                let mut from = self.home(hash);
                while from != at {
                    passed[from] += 1;
                    from = self.after(from);
                }
            }
        }
        for (bucket, counted) in self.buckets.iter().zip(passed) {
            assert_eq!(bucket.passed(), counted, "a bucket counts wrongly what passed it");
        }
    }
}

/// The byte of the hash that is kept beside a reference: bits that choose neither segment nor bucket.
#[inline]
pub(super) fn tag(hash: u64) -> u8 {
    hash as u8
}
