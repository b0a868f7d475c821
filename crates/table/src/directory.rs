//! A shard's directory: from hash to segment, and how segments grow, split, shrink, merge and vanish.
//!
//! Invariant: the root word is zero for an empty shard, a segment's word for a shard of one segment, and else the
//! address and depth of 2^depth segment words in hash order; a segment of lesser depth fills several neighbouring words.
//! Prefetchers read root, directory and buckets without the lock, so replaced blocks are retired, not freed.
//! One change touches one segment (two for a merge); only a directory, a few words a segment, is copied whole.

use crate::arena::Use;
use crate::bucket::TAG_BITS;
use crate::deadline;
use crate::entry::Raw;
use crate::segment::{BUCKETS_MAX, Moved, Segment, SegmentRef, Times, next_step, step_for};
use crate::shard::Core;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Hash bits that shard and directory may consume together, so that SCAN cursors of 48 bits resolve every bucket.
pub(crate) const PREFIX_BITS_MAX: u32 = 48 - TAG_BITS;
/// Load below which a full bucket is bad luck that growing would not cure, percent.
const LOAD_CURABLE: usize = 70;
/// Load below which a segment shrinks, and the load it shrinks to, percent.
const LOAD_SHRINK: usize = 50;
const LOAD_SHRUNK: usize = 72;
/// Entries two buddies have together when they merge.
const MERGE_LEN_MAX: usize = BUCKETS_MAX * 8 * 45 / 100;
/// Words a directory may have whatever the shard holds, and entries per word beyond: bounds what odd hashes can cost.
const WORDS_FREE: usize = 16;
const ENTRIES_PER_WORD: usize = 16;
/// Entries for which a segment is made at most before they come: some more fit, since not all are filled alike.
const RESERVED_LEN_MAX: usize = BUCKETS_MAX * 8 * 70 / 100;
/// How far ahead of its use an entry is prefetched while a segment splits.
const AHEAD: usize = 12;

const DEPTH_MASK: u64 = 63;

/// A root word, taken apart.
#[derive(Clone, Copy)]
pub(crate) enum Root {
    /// The shard's only segment, or none.
    Segment(SegmentRef),
    /// 2^depth words.
    Directory { words: *const AtomicU64, depth: u32 },
}

impl Root {
    #[inline]
    pub(crate) fn read(root: u64) -> Self {
        let depth = (root & DEPTH_MASK) as u32;
        if depth == 0 {
            Root::Segment(SegmentRef(root))
        } else {
            let words = std::ptr::with_exposed_provenance((root & !DEPTH_MASK) as usize);
            Root::Directory { words, depth }
        }
    }

    fn depth(self) -> u32 {
        match self {
            Root::Segment(_) => 0,
            Root::Directory { depth, .. } => depth,
        }
    }

    /// The word for a hash.
    ///
    /// # Safety
    /// The directory is live: the shard's lock is held, or the thread has been a participant since before reading the root.
    #[inline]
    pub(crate) unsafe fn find(self, hash: u64, shard_bits: u32) -> SegmentRef {
        match self {
            Root::Segment(word) => word,
            Root::Directory { words, depth } => {
                let at = hash << shard_bits >> (u64::BITS - depth);
                // SAFETY: `at` < 2^depth, and the words are there by the caller's promise.
                // Acquire: pairs with the Release in `set_words`, for prefetchers.
                SegmentRef(unsafe { (*words.add(at as usize)).load(Ordering::Acquire) })
            }
        }
    }
}

/// Bytes of a directory block; whole lines, since the root word keeps the depth in the address's low bits.
pub(crate) fn directory_bytes(depth: u32) -> usize {
    (size_of::<u64>() << depth).max(64)
}

/// The tag of a hash in a segment whose range has `prefix_bits` hash bits in common.
#[inline]
pub(crate) fn tag_of(hash: u64, prefix_bits: u32) -> u64 {
    hash << prefix_bits >> (u64::BITS - TAG_BITS)
}

impl<'t> Core<'t> {
    #[inline]
    fn root(&self) -> Root {
        Root::read(self.header.root.load(Ordering::Relaxed))
    }

    fn set_root(&self, root: u64) {
        // Release: pairs with the Acquire of prefetchers; publishes the block.
        self.header.root.store(root, Ordering::Release);
    }

    /// The directory word for a hash of this shard.
    #[inline]
    pub(crate) fn lookup(&self, hash: u64) -> SegmentRef {
        // SAFETY: the lock is held as long as `self` lives.
        unsafe { self.root().find(hash, self.inner.shard_bits) }
    }

    /// The segment for a hash, unless vacant.
    #[inline]
    pub(crate) fn segment(&self, hash: u64) -> Option<Segment<'_>> {
        let word = self.lookup(hash);
        // SAFETY: words in the directory name live segments, and the lock is held as long as `self` lives.
        (!word.is_vacant()).then(|| unsafe { Segment::held(word) })
    }

    /// Hash bits all entries of a segment of this depth share.
    #[inline]
    pub(crate) fn prefix_bits(&self, depth: u32) -> u32 {
        self.inner.shard_bits + depth
    }

    /// Calls `visit` with the first hash of each segment's range, in hash order, and its word, until it says stop.
    /// The structure may change meanwhile: the walk goes on behind the range it has visited.
    pub(crate) fn for_each_segment(&self, mut visit: impl FnMut(u64, SegmentRef) -> bool) {
        let shard_start = self.start();
        let mut offset = 0u64;
        loop {
            let hash = shard_start | offset >> self.inner.shard_bits;
            let word = self.lookup(hash);
            if !visit(hash, word) || word.depth() == 0 {
                return;
            }
            // A merge may have put the segment's start before the offset.
            let range = 1u64 << (u64::BITS - word.depth());
            match (offset & !(range - 1)).checked_add(range) {
                Some(next) => offset = next,
                None => return,
            }
        }
    }

    /// Writes the words of a range: that of the given depth around `hash`.
    fn set_words(&self, hash: u64, word: SegmentRef) {
        match self.root() {
            Root::Segment(_) => self.set_root(word.0),
            Root::Directory { words, depth } => {
                let at = (hash << self.inner.shard_bits >> (u64::BITS - depth)) as usize;
                let count = 1usize << (depth - word.depth());
                let first = at & !(count - 1);
                for at in first..first + count {
                    // SAFETY: below 2^depth; the lock is held.
                    // Release: pairs with the Acquire in `Root::find`; publishes the segment.
                    unsafe { (*words.add(at)).store(word.0, Ordering::Release) };
                }
            }
        }
    }

    /// Replaces a range's word, keeping count of what unmapping would not free.
    fn publish(&self, hash: u64, old: SegmentRef, new: SegmentRef) {
        self.count_outside(is_outside(new), is_outside(old));
        self.set_words(hash, new);
    }

    /// Writes the word again if the segment began or ceased to overflow.
    pub(crate) fn republish(&self, hash: u64, segment: Segment<'_>) {
        let old = self.lookup(hash);
        let new = segment.word();
        if old != new {
            self.publish(hash, old, new);
        }
    }

    fn retire_segment(&self, segment: Segment<'_>) {
        let (block, bytes) = segment.strip(self.index_arena());
        self.inner.retire(self.index, block, bytes);
    }

    /// Makes room where an insertion of `hash` failed. False when only the overflow list can take it.
    pub(crate) fn make_room(&self, hash: u64) -> bool {
        let Some(segment) = self.segment(hash) else {
            let old = self.lookup(hash);
            let new = Segment::empty(self.index_arena(), old.depth(), 1);
            self.publish(hash, old, new.word());
            return true;
        };
        if segment.len() * 100 < segment.slots() * LOAD_CURABLE {
            return false;
        }
        if segment.buckets() >= BUCKETS_MAX && self.may_split(segment.word().depth()) {
            self.split(hash, segment);
            return true;
        }
        self.grow(hash, segment)
    }

    /// Makes room for about so many entries in a shard that has none, so that it hardly grows on the way there.
    pub(crate) fn reserve(&self, entries: usize) {
        let is_untouched = matches!(self.root(), Root::Segment(word) if word.is_vacant());
        if !is_untouched || entries == 0 {
            return;
        }
        let mut depth = 0;
        while entries >> depth > RESERVED_LEN_MAX && self.prefix_bits(depth + 1) < PREFIX_BITS_MAX {
            depth += 1;
        }
        (0..depth).for_each(|_| self.double());
        // Segments differ as hashes do, by about the root of their number.
        let each = entries >> depth;
        let buckets = step_for(each + each.isqrt());
        for at in 0..1_u64 << depth {
            let hash = self.start() | (at.rotate_right(depth) >> self.inner.shard_bits);
            let segment = Segment::empty(self.index_arena(), depth, buckets);
            self.count_outside(is_outside(segment.word()), false);
            self.set_words(hash, segment.word());
        }
    }

    fn grow(&self, hash: u64, segment: Segment<'_>) -> bool {
        let Some(buckets) = next_step(segment.buckets()) else { return false };
        let old = segment.word();
        let entries = gather(&[segment]);
        let new = self.build(old.depth(), buckets, &entries, segment.times());
        self.publish(hash, old, new.word());
        self.retire_segment(segment);
        true
    }

    /// A segment for these entries, of at least `buckets`.
    fn build(&self, depth: u32, mut buckets: usize, entries: &[Moved], times: Times) -> Segment<'_> {
        loop {
            let curable = entries.len() * 100 >= buckets * 8 * LOAD_CURABLE;
            let next = if curable { next_step(buckets) } else { None };
            if let Some(segment) =
                Segment::build(self.index_arena(), depth, buckets, entries, times, next.is_none())
            {
                return segment;
            }
            buckets = next.unwrap_or(buckets);
        }
    }

    fn may_split(&self, depth: u32) -> bool {
        if self.prefix_bits(depth) >= PREFIX_BITS_MAX {
            return false;
        }
        let global = self.root().depth();
        depth < global || 2usize << global <= WORDS_FREE.max(self.len() / ENTRIES_PER_WORD)
    }

    fn split(&self, hash: u64, segment: Segment<'_>) {
        let old = segment.word();
        let depth = old.depth() + 1;
        let entries = gather(&[segment]);
        let mut halves = [Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len())];
        for (at, moved) in entries.iter().enumerate() {
            if let Some(later) = entries.get(at + AHEAD) {
                crate::prefetch(later.slot.entry().as_ptr());
            }
            // SAFETY: used slots point to live entries.
            let hash = self.inner.hasher.hash(unsafe { Raw(moved.slot.entry()).key() });
            let slot = moved.slot.with_tag(tag_of(hash, self.prefix_bits(depth)));
            let side = hash << self.prefix_bits(old.depth()) >> (u64::BITS - 1);
            halves[side as usize & 1].push(Moved { slot, ..*moved });
        }
        if self.root().depth() < depth {
            self.double();
        }
        let side_bit = 1u64 << (u64::BITS - self.prefix_bits(depth));
        self.count_outside(false, is_outside(old));
        for (side, half) in halves.iter().enumerate() {
            let word = if half.is_empty() {
                SegmentRef::vacant(depth)
            } else {
                self.build(depth, step_for(half.len()), half, segment.times()).word()
            };
            self.count_outside(is_outside(word), false);
            self.set_words(if side == 0 { hash & !side_bit } else { hash | side_bit }, word);
        }
        self.retire_segment(segment);
    }

    /// Doubles the directory.
    fn double(&self) {
        let root = self.root();
        let depth = root.depth() + 1;
        let word_at = |at: usize| match root {
            Root::Segment(word) => word.0,
            // SAFETY: `at` / 2 is below the old directory's length; the lock is held.
            Root::Directory { words, .. } => unsafe { (*words.add(at / 2)).load(Ordering::Relaxed) },
        };
        self.replace_directory(depth, word_at);
    }

    /// Halves the directory as long as no segment needs its depth.
    fn halve(&self) {
        while let Root::Directory { words, depth } = self.root() {
            // SAFETY: all indexes are below 2^depth; the lock is held.
            let word_at = |at: usize| unsafe { (*words.add(at)).load(Ordering::Relaxed) };
            if (0..1usize << depth).any(|at| SegmentRef(word_at(at)).depth() == depth) {
                return;
            }
            self.replace_directory(depth - 1, |at| word_at(at * 2));
        }
    }

    fn replace_directory(&self, depth: u32, word_at: impl Fn(usize) -> u64) {
        let old = self.root();
        let bytes = directory_bytes(depth);
        if depth == 0 {
            self.set_root(word_at(0));
        } else {
            let block = self.index_arena().alloc(bytes, Use::Lines);
            let words = block.cast::<AtomicU64>();
            for at in 0..1usize << depth {
                // SAFETY: the block has room for 2^depth words.
                unsafe { words.add(at).write(AtomicU64::new(word_at(at))) };
            }
            self.count_outside(Use::Lines.is_outside(bytes), false);
            self.set_root(block.as_ptr().expose_provenance() as u64 | u64::from(depth));
        }
        if let Root::Directory { words, depth } = old {
            let bytes = directory_bytes(depth);
            self.count_outside(false, Use::Lines.is_outside(bytes));
            // SAFETY: a directory's address is not null.
            let block = unsafe { NonNull::new_unchecked(words.cast_mut()) }.cast();
            self.inner.retire(self.index, block, bytes);
        }
    }

    /// After a removal from a segment, which is that of `hash`: as [`Core::settle`].
    #[inline]
    pub(crate) fn settle_segment(&self, segment: Segment<'_>, hash: u64) {
        if segment.reference().is_overflowing() || is_sparse(segment) {
            self.settle(hash);
        }
    }

    /// After removals around `hash`: frees or shrinks the segment, and merges it with its buddy where both are sparse.
    #[inline]
    pub(crate) fn settle(&self, hash: u64) {
        if let Some(segment) = self.segment(hash) {
            if segment.reference().is_overflowing() && segment.overflow_len() == 0 {
                self.republish(hash, segment);
            }
            if is_sparse(segment) && self.shrink(hash, segment) {
                while self.merge(hash) {}
            }
        }
    }

    /// Whether the segment became smaller or vanished.
    #[cold]
    fn shrink(&self, hash: u64, segment: Segment<'_>) -> bool {
        let old = self.lookup(hash);
        if segment.len() == 0 {
            self.publish(hash, old, SegmentRef::vacant(old.depth()));
            self.retire_segment(segment);
            return true;
        }
        let buckets = step_for(segment.len() * 85 / LOAD_SHRUNK);
        if buckets >= segment.buckets() {
            return false;
        }
        let entries = gather(&[segment]);
        let built =
            Segment::build(self.index_arena(), old.depth(), buckets, &entries, segment.times(), false);
        let Some(new) = built else { return false };
        self.publish(hash, old, new.word());
        self.retire_segment(segment);
        true
    }

    /// Merges the segment of `hash` with its buddy; whether it did.
    fn merge(&self, hash: u64) -> bool {
        let own = self.lookup(hash);
        let Some(depth) = own.depth().checked_sub(1) else { return false };
        let side_bit = 1u64 << (u64::BITS - self.prefix_bits(own.depth()));
        let hashes = [hash & !side_bit, hash | side_bit];
        let words = hashes.map(|hash| self.lookup(hash));
        let sides = hashes.map(|hash| self.segment(hash));
        let len: usize = sides.iter().flatten().map(|side| side.len()).sum();
        if words.iter().any(|word| word.depth() != own.depth()) || len > MERGE_LEN_MAX {
            return false;
        }
        let base = sides.iter().flatten().filter(|side| side.timed() > 0).map(|side| side.times().base).min();
        let due = sides.iter().flatten().map(|side| side.due()).min().unwrap_or(u64::MAX);
        let times = Times { base: base.unwrap_or(0), due };
        let mut entries = Vec::with_capacity(len);
        for (side, segment) in
            sides.iter().enumerate().filter_map(|(side, found)| found.map(|found| (side, found)))
        {
            let first = entries.len();
            segment.gather(&mut entries);
            for moved in entries.iter_mut().skip(first) {
                let tag = (side as u64) << (TAG_BITS - 1) | moved.slot.tag() >> 1;
                *moved = recoded(Moved { slot: moved.slot.with_tag(tag), ..*moved }, times.base);
            }
        }
        let new = if entries.is_empty() {
            SegmentRef::vacant(depth)
        } else {
            self.build(depth, step_for(len * 85 / LOAD_SHRUNK), &entries, times).word()
        };
        for (word, segment) in words.into_iter().zip(sides) {
            self.count_outside(false, is_outside(word));
            if let Some(segment) = segment {
                self.retire_segment(segment);
            }
        }
        self.count_outside(is_outside(new), false);
        self.set_words(hash, new);
        self.halve();
        true
    }
}

/// Whether a segment has so few entries that it should be smaller.
#[inline]
fn is_sparse(segment: Segment<'_>) -> bool {
    segment.len() * 100 < segment.slots() * LOAD_SHRINK
}

/// Whether a word's segment holds memory outside the arena's chunks.
fn is_outside(word: SegmentRef) -> bool {
    // The buckets and the header line.
    !word.is_vacant() && (word.is_overflowing() || Use::Lines.is_outside((1 + word.buckets()) * 64))
}

fn gather(segments: &[Segment<'_>]) -> Vec<Moved> {
    let mut entries = Vec::with_capacity(segments.iter().map(|segment| segment.len()).sum());
    for segment in segments {
        segment.gather(&mut entries);
    }
    entries
}

/// The same entry with its code counted from another base.
fn recoded(moved: Moved, base: u64) -> Moved {
    if !moved.slot.is_timed() {
        return moved;
    }
    // SAFETY: slots on their way point to live entries.
    let at = unsafe { Raw(moved.slot.entry()).deadline() };
    Moved { code: deadline::code(base, at), ..moved }
}
