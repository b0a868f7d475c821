//! The index: references of records, found by the hash of their keys.
//!
//! A directory, addressed by the first bits of a hash, names the segment of each range of hashes. A
//! segment of at most a thousand elements grows, shrinks, splits and joins alone, so no insert and no
//! removal moves more than that. Positions are hashes: a cursor holds however the index grows or
//! shrinks, and a random position is a random element.
//! Invariants: a segment of `depth` d is named by the 2^(D - d) entries of a directory of depth D that
//! begin with its bits; `deepest` counts the segments with d = D. `check` compares.

use super::bucket::{Bucket, SLOTS};
use super::chunks::Chunks;
use super::segment::{BUCKETS_MAX, DEPTH_MAX, POSITION_BITS, Place, Segment, tag};
use super::{Draws, hash_of};
use crate::collection::AHEAD_MAX;
use crate::mover::Mover;

/// Two halves with at most so many elements together become one segment again.
const JOIN_MAX: usize = 400;

/// The most elements that a segment is made for at once. It can have more: hashes are not spread evenly.
const EXPECTED_MAX: usize = 900;

/// Places tried for a random element, before one is searched from the last place on.
const TRIES_MAX: usize = 200;

/// The directory does not double when it has this many entries a segment: hashes that are all alike
/// would make it huge.
const DIRECTORY_SHARE: usize = 64;

/// Buckets that a step of a scan looks at for each element it was asked for.
const BUCKETS_PER_ELEMENT: usize = 10;

/// Bits of hashes by which many entries are dealt out, so that each part can be sorted in the nearest cache.
const DEALT_BITS: u32 = 10;

/// Entries sorted by their hashes.
fn in_order_of_hashes(mut entries: Vec<(u64, u32)>) -> Vec<(u64, u32)> {
    if entries.len() <= 1 << DEALT_BITS {
        entries.sort_unstable_by_key(|(hash, _)| *hash);
        return entries;
    }
    let part = |hash: u64| (hash >> (64 - DEALT_BITS)) as usize;
    let mut next = [0_usize; (1 << DEALT_BITS) + 1];
    entries.iter().for_each(|(hash, _)| next[part(*hash) + 1] += 1);
    (1..next.len()).for_each(|at| next[at] += next[at - 1]);
    let mut dealt = vec![(0, 0); entries.len()];
    for entry in entries {
        let place = &mut next[part(entry.0)];
        dealt[*place] = entry;
        *place += 1;
    }
    // Where the next entry of a part would stand is where it ends.
    let (mut start, mut spare) = (0, Vec::new());
    for &end in next.iter().take(1 << DEALT_BITS) {
        sort_part(&mut dealt[start..end], &mut spare);
        start = end;
    }
    dealt
}

/// Bits of hashes, those behind [`DEALT_BITS`], by which a part is dealt out once more.
const PART_BITS: u32 = 8;
/// Up to so many entries of a part that have these bits in common, about, are put in order one by one.
const ALIKE_MAX: usize = 16;

/// Sorts entries by their hashes, of which the first [`DEALT_BITS`] bits are alike, and the others as good as random.
fn sort_part(part: &mut [(u64, u32)], spare: &mut Vec<(u64, u32)>) {
    if part.len() > ALIKE_MAX << PART_BITS {
        part.sort_unstable_by_key(|(hash, _)| *hash);
        return;
    }
    let place = |hash: u64| (hash << DEALT_BITS >> (64 - PART_BITS)) as usize;
    let mut next = [0_u32; (1 << PART_BITS) + 1];
    part.iter().for_each(|(hash, _)| next[place(*hash) + 1] += 1);
    (1..next.len()).for_each(|at| next[at] += next[at - 1]);
    spare.clear();
    spare.extend_from_slice(part);
    for entry in &*spare {
        let to = &mut next[place(entry.0)];
        part[*to as usize] = *entry;
        *to += 1;
    }
    // What is left to do is among few neighbours.
    for at in 1..part.len() {
        let entry = part[at];
        let mut to = at;
        while to > 0 && part[to - 1].0 > entry.0 {
            part[to] = part[to - 1];
            to -= 1;
        }
        part[to] = entry;
    }
}

/// An index of references. The record of a reference must keep its hash while it is in here.
#[derive(Debug, Clone, Default)]
pub struct Index {
    directory: Vec<u32>,
    segments: Chunks<Segment>,
    len: usize,
    bucket_bytes: usize,
    deepest: usize,
}

impl Index {
    /// An empty one, which holds no memory.
    #[must_use]
    pub fn new() -> Index {
        Index::default()
    }

    /// Makes room in an empty index for `count` elements that are about to be inserted: what would be moved again and again
    /// while it grows stays where it is put.
    pub fn expect(&mut self, count: usize) {
        if !self.is_empty() || count == 0 {
            return;
        }
        let depth = (0..DEPTH_MAX).find(|depth| count >> depth <= EXPECTED_MAX).unwrap_or(DEPTH_MAX);
        *self = Index::new();
        for at in 0..1_u64 << depth {
            let segment =
                Segment::new(at.checked_shl(64 - depth).unwrap_or(0), depth, (count >> depth).max(1));
            self.bucket_bytes += segment.bytes();
            self.segments.push(segment);
        }
        self.directory = (0..1 << depth).collect();
        self.deepest = self.segments.len();
    }

    /// An index of all these references with their hashes; `None` if two of the same hash are `alike`. What is inserted behind
    /// each other lies beside each other.
    #[must_use]
    pub fn of_all(
        entries: Vec<(u64, u32)>,
        hash_of: impl Fn(u32) -> u64,
        alike: impl Fn(u32, u32) -> bool,
    ) -> Option<Index> {
        let entries = in_order_of_hashes(entries);
        for run in entries.chunk_by(|(hash, _), (next, _)| hash == next).filter(|run| run.len() > 1) {
            // Hashes are well mixed: where two are equal it is all but certain that more than these are.
            let pairs = run
                .iter()
                .enumerate()
                .flat_map(|(at, one)| run.iter().skip(at + 1).map(move |other| (one.1, other.1)));
            if pairs.into_iter().any(|(one, other)| alike(one, other)) {
                return None;
            }
        }
        let mut index = Index::new();
        index.expect(entries.len());
        entries.into_iter().for_each(|(hash, reference)| index.insert(hash, reference, &hash_of));
        Some(index)
    }

    /// Elements.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes it holds.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.bucket_bytes + self.directory.capacity() * size_of::<u32>() + self.segments.heap_bytes()
    }

    /// Moves the memory of segments from number `from` on until the mover is spent; the number to go on with, if it was.
    pub fn move_blocks(&mut self, mover: &mut Mover<'_>, from: usize) -> Option<usize> {
        let mut at = from;
        while at < self.segments.len() {
            if mover.is_spent() {
                return Some(at);
            }
            let segment = self.segments.get_mut(at);
            segment.move_blocks(mover);
            mover.pass(segment.len());
            at += 1;
        }
        None
    }

    /// The element of this hash that `eq` accepts.
    #[inline]
    #[must_use]
    pub fn find(&self, hash: u64, eq: impl FnMut(u32) -> bool) -> Option<u32> {
        let segment = self.segments.get(self.segment_of(hash)?);
        segment.find(hash, eq).map(|place| segment.get(place))
    }

    /// Has `ask` told which lines finding the first [`AHEAD_MAX`] of some keys reads first, their home buckets, and then
    /// `record` which references may be theirs. What lies away from home is not among them.
    #[inline]
    pub fn look_ahead(&self, keys: &[&[u8]], ask: &impl Fn(*const u8), mut record: impl FnMut(u32)) {
        let mut homes: [Option<(u64, &Bucket)>; AHEAD_MAX] = [None; AHEAD_MAX];
        for (home, key) in homes.iter_mut().zip(keys) {
            let hash = hash_of(key);
            let Some(at) = self.segment_of(hash) else { return };
            let segment = self.segments.get(at);
            let bucket = segment.bucket(segment.home(hash));
            ask(std::ptr::from_ref(bucket).cast());
            *home = Some((hash, bucket));
        }
        for (hash, bucket) in homes.iter().flatten() {
            bucket.find(tag(*hash), |reference| {
                record(reference);
                false
            });
        }
    }

    /// Adds an element that is not there yet.
    #[inline]
    pub fn insert(&mut self, hash: u64, reference: u32, hash_of: impl Fn(u32) -> u64) {
        let mut at = match self.segment_of(hash) {
            Some(at) => at,
            None => self.first_segment(),
        };
        while self.segments.get(at).is_at_limit() {
            self.make_room(at, &hash_of);
            at = self.segment_of(hash).unwrap_or(at);
        }
        self.segments.get_mut(at).insert(hash, reference);
        self.len += 1;
    }

    /// Puts `reference` in place of an element with the same hash, of which the record has moved; false
    /// if `eq` accepts none.
    #[inline]
    pub fn replace(&mut self, hash: u64, reference: u32, eq: impl FnMut(u32) -> bool) -> bool {
        let Some((at, place)) = self.locate(hash, eq) else { return false };
        self.segments.get_mut(at).set(place, reference);
        true
    }

    /// Takes out the element of this hash that `eq` accepts.
    #[inline]
    pub fn remove(
        &mut self,
        hash: u64,
        eq: impl FnMut(u32) -> bool,
        hash_of: impl Fn(u32) -> u64,
    ) -> Option<u32> {
        let (at, place) = self.locate(hash, eq)?;
        let segment = self.segments.get_mut(at);
        let removed = segment.remove(hash, place);
        self.len -= 1;
        let before = segment.bytes();
        // `hash_of` is asked for the elements that are left only: the caller may free the removed one after.
        let shrunk = segment.shrink(&hash_of);
        self.bucket_bytes = self.bucket_bytes + segment.bytes() - before;
        if shrunk {
            self.join(hash, &hash_of);
        }
        Some(removed)
    }

    /// All elements, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        self.segments.iter().flat_map(Segment::references)
    }

    /// Visits about `count` elements from a position on, and answers the next position; 0 begins and
    /// ends. What is there from the first step to the last is visited at least once, whatever else is
    /// added and removed between the steps. Looks at a bounded number of buckets.
    pub fn scan(
        &self,
        cursor: u64,
        count: usize,
        hash_of: impl Fn(u32) -> u64,
        mut visit: impl FnMut(u32),
    ) -> u64 {
        const SHIFT: u32 = 64 - POSITION_BITS;
        if cursor >> POSITION_BITS != 0 {
            return 0;
        }
        let mut from = cursor << SHIFT;
        let mut visited = 0;
        for _ in 0..count.max(1).saturating_mul(BUCKETS_PER_ELEMENT) {
            let Some(at) = self.segment_of(from) else { return 0 };
            let segment = self.segments.get(at);
            let home = segment.home(from);
            visit_home(segment, home, &hash_of, |hash, reference| {
                if hash >= from {
                    visited += 1;
                    visit(reference);
                }
            });
            match segment.lowest_hash(home + 1) {
                Some(next) => from = next,
                None => return 0,
            }
            if visited >= count {
                break;
            }
        }
        from >> SHIFT
    }

    /// An element chosen by a random number, uniform over all 64 bits; each with the same chance.
    #[must_use]
    pub fn random(&self, random: u64) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        let depth = self.depth();
        let mut draws = Draws::new(random);
        for _ in 0..TRIES_MAX {
            let slot = draws.below(self.directory.len());
            let segment = self.segments.get(self.directory[slot] as usize);
            // Every segment is tried as often as any other, and every place in it as if it had all buckets:
            // what is not there is a try without success, and no element is preferred.
            if segment.base() != (slot as u64).checked_shl(64 - depth).unwrap_or(0) {
                continue;
            }
            let buckets = if self.directory.len() == 1 {
                segment.bucket_count()
            } else {
                BUCKETS_MAX.max(segment.bucket_count())
            };
            let place = draws.below(buckets * SLOTS);
            if let Some(reference) = segment.at(place / SLOTS, place % SLOTS) {
                return Some(reference);
            }
        }
        self.first_from(draws.below(self.segments.len()))
    }

    /// Frees about `budget` elements' worth of memory, whatever the records are; true when nothing is left.
    pub fn free_step(&mut self, budget: usize) -> bool {
        self.directory = Vec::new();
        let mut freed = 0;
        while freed < budget {
            let Some(segment) = self.segments.pop() else {
                *self = Index::new();
                return true;
            };
            freed += segment.len().max(1);
            self.bucket_bytes -= segment.bytes();
            self.len -= segment.len();
        }
        false
    }

    /// Panics if an invariant does not hold.
    pub fn check(&self, hash_of: impl Fn(u32) -> u64) {
        assert_eq!(self.segments.iter().map(Segment::len).sum::<usize>(), self.len, "the count is wrong");
        assert_eq!(self.segments.iter().map(Segment::bytes).sum::<usize>(), self.bucket_bytes);
        let depth = self.depth();
        let deepest = self.segments.iter().filter(|segment| segment.depth() == depth).count();
        assert_eq!(deepest, self.deepest, "the count of deepest segments is wrong");
        let mut named = 0;
        for at in 0..self.segments.len() {
            let segment = self.segments.get(at);
            segment.check(&hash_of);
            for slot in self.range_of(segment) {
                assert_eq!(self.directory[slot] as usize, at, "the directory names another segment");
                named += 1;
            }
        }
        assert_eq!(named, self.directory.len(), "the directory has entries without a segment");
    }

    fn depth(&self) -> u32 {
        self.directory.len().checked_ilog2().unwrap_or(0)
    }

    #[inline]
    fn segment_of(&self, hash: u64) -> Option<usize> {
        // In two steps, since a shift by all 64 bits is none. The length is a power of two.
        let slot = (hash >> 1) >> (63_u32.wrapping_sub(self.directory.len().trailing_zeros()) & 63);
        self.directory.get(slot as usize).map(|&at| at as usize)
    }

    #[inline]
    fn locate(&self, hash: u64, eq: impl FnMut(u32) -> bool) -> Option<(usize, Place)> {
        let at = self.segment_of(hash)?;
        self.segments.get(at).find(hash, eq).map(|place| (at, place))
    }

    /// The entries of the directory that name a segment.
    fn range_of(&self, segment: &Segment) -> std::ops::Range<usize> {
        let depth = self.depth();
        let first = segment.base().checked_shr(64 - depth).unwrap_or(0) as usize;
        first..first + (1 << (depth - segment.depth()))
    }

    #[cold]
    fn first_segment(&mut self) -> usize {
        let segment = Segment::new(0, 0, 1);
        self.bucket_bytes = segment.bytes();
        self.segments.push(segment);
        self.directory = vec![0];
        self.deepest = 1;
        0
    }

    #[cold]
    fn make_room(&mut self, at: usize, hash_of: impl Fn(u32) -> u64) {
        let (depth, count) = (self.depth(), self.segments.len());
        let segment = self.segments.get_mut(at);
        let before = segment.bytes();
        let lonely = self.directory.len() > DIRECTORY_SHARE * count && segment.depth() == depth;
        if segment.bucket_count() < BUCKETS_MAX || segment.depth() >= DEPTH_MAX || lonely {
            segment.grow(hash_of);
            self.bucket_bytes += segment.bytes() - before;
            return;
        }
        let upper = segment.split(hash_of);
        self.bucket_bytes = self.bucket_bytes - before + segment.bytes() + upper.bytes();
        if upper.depth() > depth {
            self.directory = self.directory.iter().flat_map(|&at| [at, at]).collect();
            self.deepest = 0;
        }
        if upper.depth() == self.depth() {
            self.deepest += 2;
        }
        let upper_at = self.segments.len() as u32;
        let range = self.range_of(&upper);
        self.directory[range].fill(upper_at);
        self.segments.push(upper);
    }

    /// Joins the segment of `hash` with its other half if both have become small, and so on upwards.
    #[cold]
    fn join(&mut self, hash: u64, hash_of: impl Fn(u32) -> u64) {
        while let Some(at) = self.segment_of(hash) {
            let segment = self.segments.get(at);
            let depth = segment.depth();
            if depth == 0 {
                return;
            }
            let bit = 1_u64 << (64 - depth);
            let Some(other) = self.segment_of(segment.base() ^ bit) else { return };
            let half = self.segments.get(other);
            if half.depth() != depth || segment.len() + half.len() > JOIN_MAX {
                return;
            }
            let (lower, upper) = if segment.base() & bit == 0 { (at, other) } else { (other, at) };
            self.join_halves(lower, upper, &hash_of);
        }
    }

    fn join_halves(&mut self, lower: usize, upper: usize, hash_of: impl Fn(u32) -> u64) {
        let (low, high) = (self.segments.get(lower), self.segments.get(upper));
        if low.depth() == self.depth() {
            self.deepest -= 2;
        }
        let joined = Segment::join(low, high, hash_of);
        self.bucket_bytes = self.bucket_bytes + joined.bytes() - low.bytes() - high.bytes();
        let range = self.range_of(&joined);
        self.directory[range].fill(lower as u32);
        *self.segments.get_mut(lower) = joined;
        self.segments.swap_remove(upper);
        if upper < self.segments.len() {
            let range = self.range_of(self.segments.get(upper));
            self.directory[range].fill(upper as u32);
        }
        if self.deepest == 0 {
            self.halve_directory();
        }
    }

    /// No segment needs the last bit of the directory: every second entry repeats the one before.
    fn halve_directory(&mut self) {
        while self.deepest == 0 && self.directory.len() > 1 {
            self.directory = self.directory.iter().step_by(2).copied().collect();
            let depth = self.depth();
            self.deepest = self.segments.iter().filter(|segment| segment.depth() == depth).count();
        }
    }

    fn first_from(&self, segment: usize) -> Option<u32> {
        let later = (segment..self.segments.len()).chain(0..segment);
        later.filter_map(|at| self.segments.get(at).references().next()).next()
    }
}

/// Visits the elements that belong to bucket `home`, which may lie in those behind it, with their hashes.
fn visit_home(segment: &Segment, home: usize, hash_of: impl Fn(u32) -> u64, mut visit: impl FnMut(u64, u32)) {
    let mut at = home;
    loop {
        let bucket = segment.bucket(at);
        for &reference in bucket.references() {
            let hash = hash_of(reference);
            if segment.home(hash) == home {
                visit(hash, reference);
            }
        }
        at = (at + 1) % segment.bucket_count();
        if bucket.passed() == 0 || at == home {
            return;
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
