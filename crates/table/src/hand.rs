//! What eviction asks of a table: entries by the first bits of their hashes, and a hand that goes from bucket to bucket.
//!
//! Nobody is waited for: what another thread holds is tried for a moment, and then passed over or come back to.
//! Read next: `shard.rs`.

use crate::bucket::{self, Pattern, SLOTS, Slot, TAG_BITS};
use crate::directory::tag_of;
use crate::entry::{Entry, Raw, Removed};
use crate::occupied::Occupied;
use crate::segment::{Segment, SegmentRef};
use crate::shard::Shard;
use crate::table::Table;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// Empty places that one step of the hand passes over: empty shards cost 1, empty buckets 4.
const SKIPS_MAX: usize = 64;
/// Most entries of a bucket that are shown at once; all are asked for before the first is.
pub const AT_ONCE: usize = 2 * SLOTS;
/// How often a shard that another thread holds is asked for.
const LOCK_ATTEMPTS: usize = 100;
/// A shard that another thread holds is passed over in so many parts, as a power of two.
const BUSY_PARTS_BITS: u32 = 6;
/// Positions of the hand are this many top bits of a hash.
const POSITION_BITS: u32 = 48;

/// Entries that a hand comes past together.
pub struct Passed<'a, B> {
    slots: &'a [Slot],
    payloads: PhantomData<&'a B>,
}

impl<'a, B: Send + Sync + 'static> Passed<'a, B> {
    /// How many they are.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// One of them.
    ///
    /// # Panics
    /// When there are not so many.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Entry<'a, B> {
        // SAFETY: used slots point to live entries with payloads of type B; the lock is held for as long as they are shown.
        unsafe { Entry::new(Raw(self.slots[index].entry())) }
    }

    /// All of them.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Entry<'a, B>> {
        // SAFETY: as in `get`.
        self.slots.iter().map(|slot| unsafe { Entry::new(Raw(slot.entry())) })
    }
}

/// How a hand walks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hand {
    /// Does not pass over a locked shard: stays before it, to come back.
    pub stays: bool,
    /// Sees only entries with a deadline, and passes over shards and segments without any.
    pub timed_only: bool,
}

/// Where an entry was found.
#[derive(Clone, Copy, Debug)]
struct Spot {
    hash: u64,
    word: SegmentRef,
    index: usize,
    raw: Raw,
}

/// A locked shard and an entry of it, which is not looked for again.
///
/// Invariant: the entry is at its spot. The shard is changed through here only by what ends the pin.
pub struct Pinned<'t, B> {
    shard: Shard<'t, B>,
    spot: Spot,
}

impl<'t, B: Send + Sync + 'static> Pinned<'t, B> {
    /// The whole hash of the entry's key.
    #[inline]
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.spot.hash
    }

    /// The entry.
    #[inline]
    #[must_use]
    pub fn entry(&self) -> Entry<'_, B> {
        // SAFETY: the invariant; changing the shard takes `&mut self` or `self`.
        unsafe { Entry::new(self.spot.raw) }
    }

    /// The shard, to be read.
    #[inline]
    #[must_use]
    pub fn shard(&self) -> &Shard<'t, B> {
        &self.shard
    }

    /// Removes the entry, and gives the lock back.
    #[inline]
    pub fn remove(mut self) -> Removed<B> {
        let Spot { hash, word, index, raw } = self.spot;
        Occupied::new(&mut self.shard, hash, word, index, raw).remove()
    }
}

impl<'t, B: Send + Sync + 'static> Shard<'t, B> {
    /// Pins an entry whose hash begins with the first `bits` of `hash`, which belongs to this shard; the first of several.
    /// Where there is none the lock is given back. O(1) while `bits` are as many as the table uses to find an entry, which they
    /// are up to some hundred million entries for 32; more buckets are looked through above.
    #[inline]
    #[must_use]
    pub fn pin_by_prefix(self, hash: u64, bits: u32) -> Option<Pinned<'t, B>> {
        let spot = self.spot_by_prefix(hash, bits)?;
        Some(Pinned { shard: self, spot })
    }

    #[inline]
    fn spot_by_prefix(&self, hash: u64, bits: u32) -> Option<Spot> {
        let word = self.core.lookup(hash);
        if word.is_vacant() {
            return None;
        }
        let prefix_bits = self.core.prefix_bits(word.depth());
        if bits < prefix_bits + TAG_BITS {
            return self.find_in_range(hash, bits);
        }
        let tag = tag_of(hash, prefix_bits);
        let home = word.home(tag);
        // SAFETY: words in the directory name live segments; the lock is held.
        let segment = unsafe { Segment::held(word) };
        for (bucket, displaced) in [(home, false), (word.after(home), true)] {
            let line = segment.bucket(bucket);
            let pattern = Pattern::new(tag, displaced);
            // SAFETY: the lock is held.
            for at in bucket::bits(unsafe { line.matches(pattern) }) {
                if let Some((hash, raw)) = self.if_begins(line.get(at), hash, bits) {
                    return Some(Spot { hash, word: segment.reference(), index: bucket * SLOTS + at, raw });
                }
            }
        }
        self.spot_in_overflow(segment, tag, hash, bits)
    }

    #[cold]
    fn spot_in_overflow(&self, segment: Segment<'_>, tag: u64, hash: u64, bits: u32) -> Option<Spot> {
        (segment.slots()..segment.slots() + segment.overflow_len()).find_map(|index| {
            let slot = Some(segment.get(index)).filter(|slot| slot.tag() == tag)?;
            let (hash, raw) = self.if_begins(slot, hash, bits)?;
            Some(Spot { hash, word: segment.reference(), index, raw })
        })
    }

    /// The entry of a slot, and its hash, if that begins with these bits.
    #[inline]
    fn if_begins(&self, slot: Slot, hash: u64, bits: u32) -> Option<(u64, Raw)> {
        if slot.is_empty() {
            return None;
        }
        let raw = Raw(slot.entry());
        // SAFETY: used slots point to live entries; the lock is held.
        let own = self.core.inner.hasher.hash(unsafe { raw.key() });
        begins(own, hash, bits).then_some((own, raw))
    }

    /// As `spot_by_prefix`, where the bits are fewer than those that tell a bucket.
    fn find_in_range(&self, hash: u64, bits: u32) -> Option<Spot> {
        let mut position = clear_below(hash, bits) >> (u64::BITS - POSITION_BITS);
        loop {
            let start = position << (u64::BITS - POSITION_BITS);
            let mut found = None;
            let next = self.for_each_at_home(start, &mut |slot| {
                found = found.or_else(|| self.if_begins(slot, hash, bits));
            });
            if let Some((hash, raw)) = found {
                // SAFETY: the entry is live; the lock is held.
                let (word, index, raw) = self.core.find(hash, unsafe { raw.key() })?;
                return Some(Spot { hash, word, index, raw });
            }
            if next >> POSITION_BITS != 0 {
                return None;
            }
            let start = next << (u64::BITS - POSITION_BITS);
            if !begins(start, hash, bits) || self.core.inner.shard_of(start) != self.index() {
                return None;
            }
            position = next;
        }
    }

    /// Whether the segment of `hash` holds no entry with a deadline.
    fn is_without_timed(&self, hash: u64) -> bool {
        self.core.segment(hash).is_none_or(|segment| segment.timed() == 0)
    }

    /// Where the segment after that of `hash` begins, in units of 2^16 hashes.
    fn segment_after(&self, hash: u64) -> u64 {
        let range = 1u64 << (POSITION_BITS - self.core.prefix_bits(self.core.lookup(hash).depth()));
        (hash >> (u64::BITS - POSITION_BITS) & !(range - 1)) + range
    }

    /// Shows the used slots of entries at home in the bucket of `hash`. Answers where the next bucket's range begins, in
    /// units of 2^16 hashes.
    #[inline]
    pub(crate) fn for_each_at_home(&self, hash: u64, visit: &mut impl FnMut(Slot)) -> u64 {
        let word = self.core.lookup(hash);
        let prefix_bits = self.core.prefix_bits(word.depth());
        let range = 1u64 << (POSITION_BITS - prefix_bits);
        let start = hash >> (u64::BITS - POSITION_BITS) & !(range - 1);
        if word.is_vacant() {
            return start + range;
        }
        // SAFETY: words in the directory name live segments; the lock is held.
        let segment = unsafe { Segment::held(word) };
        let home = word.home(tag_of(hash, prefix_bits));
        self.slots_at_home(segment, word, home, visit);
        if home + 1 == segment.buckets() {
            return start + range;
        }
        let tag = ((home as u64 + 1) << TAG_BITS).div_ceil(segment.buckets() as u64);
        start + (tag << (POSITION_BITS - prefix_bits - TAG_BITS))
    }

    #[inline]
    fn slots_at_home(
        &self,
        segment: Segment<'_>,
        word: SegmentRef,
        home: usize,
        visit: &mut impl FnMut(Slot),
    ) {
        let line = segment.bucket(home);
        // Used slots come first.
        for slot in (0..SLOTS).map(|at| line.get(at)).take_while(|slot| !slot.is_empty()) {
            if !slot.is_displaced() {
                visit(slot);
            }
        }
        let line = segment.bucket(word.after(home));
        // SAFETY: the lock is held.
        for at in bucket::bits(unsafe { line.displaced() }) {
            visit(line.get(at));
        }
        for at in 0..segment.overflow_len() {
            let slot = segment.get(segment.slots() + at);
            if !slot.is_empty() && word.home(slot.tag()) == home {
                visit(slot);
            }
        }
    }
}

impl<B: Send + Sync + 'static> Table<B> {
    /// Locks a shard unless another thread holds it for longer than an instant, or it is owed.
    ///
    /// # Panics
    /// When there is no such shard.
    #[inline]
    #[must_use]
    pub fn try_lock_for_a_moment(&self, shard: usize) -> Option<Shard<'_, B>> {
        self.try_lock(shard).or_else(|| self.keep_trying_lock(shard))
    }

    #[cold]
    fn keep_trying_lock(&self, shard: usize) -> Option<Shard<'_, B>> {
        (1..LOCK_ATTEMPTS).find_map(|_| {
            std::hint::spin_loop();
            self.try_lock(shard)
        })
    }

    /// One step of a hand over all entries: visits those at home in the next bucket that has any, with the hash at which the
    /// hand came upon the bucket, of the same shard as theirs, and answers where the bucket after it begins; `None` at the
    /// end. An entry may be visited again where a bucket began
    /// before `hash`. A shard that is locked is passed over in parts, unless the hand stays: then what is answered is where
    /// that shard stops it. A step passes over a
    /// bounded stretch of empty space, so it may visit nothing. `visit` gets some [`AT_ONCE`] of them at once, runs under the
    /// shard's lock, and must not lock a shard of this table.
    #[inline]
    pub fn walk(&self, hash: u64, hand: Hand, visit: &mut impl FnMut(u64, &Passed<'_, B>)) -> Option<u64> {
        let end = 1u64 << POSITION_BITS;
        let mut position = hash >> (u64::BITS - POSITION_BITS);
        let mut skipped = 0;
        loop {
            let start = position << (u64::BITS - POSITION_BITS);
            let shard = self.shard_of(start);
            let shard_range = 1u64 << (POSITION_BITS - self.inner.shard_bits);
            let mut count = 0;
            // Acquire: what was inserted before is seen.
            let header = &self.inner.shards[shard];
            let has_none = hand.timed_only && header.timed.load(Relaxed) == 0;
            let next = if has_none || header.root.load(Acquire) == 0 {
                skipped += 1;
                (position & !(shard_range - 1)) + shard_range
            } else if let Some(guard) = self.try_lock_for_a_moment(shard) {
                if hand.timed_only && guard.is_without_timed(start) {
                    skipped += 1;
                    guard.segment_after(start)
                } else {
                    skipped += 4;
                    // What is in memory far away is asked for all at once.
                    let (mut slots, mut len, mut others) = ([Slot::EMPTY; AT_ONCE], 0, Vec::new());
                    let next = guard.for_each_at_home(start, &mut |slot| {
                        if hand.timed_only && !slot.is_timed() {
                            return;
                        }
                        crate::prefetch(slot.entry().as_ptr());
                        match slots.get_mut(len) {
                            Some(place) => (*place, len) = (slot, len + 1),
                            None => others.push(slot),
                        }
                    });
                    let others = others.chunks(AT_ONCE);
                    for slots in
                        std::iter::once(&slots[..len]).chain(others).filter(|slots| !slots.is_empty())
                    {
                        count += slots.len();
                        visit(start, &Passed { slots, payloads: PhantomData });
                    }
                    next
                }
            } else if hand.stays {
                return Some(start);
            } else {
                let part = shard_range >> BUSY_PARTS_BITS;
                ((position & !(part - 1)) + part).min((position & !(shard_range - 1)) + shard_range)
            };
            if next >= end {
                return None;
            }
            position = next;
            if count > 0 || skipped >= SKIPS_MAX {
                return Some(position << (u64::BITS - POSITION_BITS));
            }
        }
    }
}

/// Whether two hashes have their first bits in common.
fn begins(one: u64, other: u64, bits: u32) -> bool {
    (one ^ other).checked_shr(u64::BITS - bits).unwrap_or(0) == 0
}

/// The first bits of a hash, and zeros.
fn clear_below(hash: u64, bits: u32) -> u64 {
    hash & !u64::MAX.checked_shr(bits).unwrap_or(0)
}
