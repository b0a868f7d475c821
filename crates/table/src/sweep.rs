//! Removing what is due from a shard: by the segments' bounds, then by codes, then by the entries' own deadlines.
//!
//! What this costs is the cache misses of memory nobody touched for long, a chain of four to each entry: the segment's
//! header, its codes, the bucket, the entry. So while one segment is swept, those after it are fetched, each a stage
//! further than the next.
//! Invariant: fetching ahead decides nothing. A sweep looks at everything again, since removals move slots within a
//! segment, and shrinking and merging replace the segments ahead.
//! Read next: `deadline.rs`, `segment.rs`.

use crate::arena::Use;
use crate::bucket::SLOTS;
use crate::entry::{Raw, Removed, SLOT_BYTES};
use crate::segment::Segment;
use crate::shard::{Core, Shard};
use std::ptr::NonNull;

/// Segments ahead whose place is known. Entries are fetched one segment ahead, buckets two, codes three, headers five.
const AHEAD: usize = 4;
/// Where most entries' deadlines end, bytes from their start.
const DEADLINE_END: usize = 11;
/// Entries freed under one hold of their arena's lock.
const BATCH: usize = 32;

/// Is told of an entry that was removed: its key, its payload if that was inline, and what else there was.
pub type Gone<'g, B> = dyn FnMut(&[u8], &[u8], Removed<B>) + 'g;

impl<'t, B: Send + Sync + 'static> Shard<'t, B> {
    /// Removes entries due at `now` (Unix ms), at most `limit`, telling `gone` of each. Returns how many.
    /// A result below `limit` promises that no entry with a deadline at or before `now` is left.
    /// Costs nothing when nothing is due, else a look at each segment's header and work for the due ones.
    pub fn expire_due(&mut self, now: u64, limit: usize, gone: &mut Gone<'_, B>) -> usize {
        if self.next_due() > now || limit == 0 {
            return 0;
        }
        let this: &Self = self;
        let mut left = limit;
        let mut due = u64::MAX;
        let mut scout = Scout::new(&this.core, now);
        let mut out = Batch::new(&this.core);
        this.core.for_each_segment(|hash, word| {
            // SAFETY: words in the directory name live segments; the lock is held, and nothing is borrowed from it.
            let segment = (!word.is_vacant()).then(|| unsafe { Segment::held(word) });
            let is_due = segment.is_some_and(|segment| segment.due() <= now);
            scout.advance(hash, is_due);
            if let Some(segment) = segment {
                if is_due {
                    left -= this.sweep(segment, now, left, &mut out, gone);
                }
                due = due.min(segment.due());
            }
            if is_due {
                this.core.settle(hash);
            }
            left > 0
        });
        if left > 0 {
            this.core.header.set_due(due);
        }
        limit - left
    }

    /// Removes a segment's due entries, at most `limit`.
    fn sweep(
        &self,
        segment: Segment<'_>,
        now: u64,
        limit: usize,
        out: &mut Batch<'_, 't>,
        gone: &mut Gone<'_, B>,
    ) -> usize {
        segment.refresh(now);
        let mut work = Work { shard: self, segment, now, left: limit, exact: u64::MAX, out };
        if work.sweep_overflow(gone) && work.sweep_down(gone) && work.sweep_up(gone) {
            segment.set_due(work.exact, segment.lowest_code_after(now));
            segment.relieve_all(self.core.index_arena());
        }
        limit - work.left
    }
}

/// A segment being swept.
struct Work<'a, 'o, 't, B> {
    shard: &'a Shard<'t, B>,
    segment: Segment<'a>,
    now: u64,
    left: usize,
    /// The earliest deadline among the entries that were looked at and stay.
    exact: u64,
    out: &'a mut Batch<'o, 't>,
}

impl<B: Send + Sync + 'static> Work<'_, '_, '_, B> {
    /// All three sweeps answer false when the limit keeps them from taking an entry out.
    fn sweep_overflow(&mut self, gone: &mut Gone<'_, B>) -> bool {
        let slots = self.segment.slots();
        (slots..slots + self.segment.overflow_len()).rev().all(|at| self.look(at, gone) != Look::Refused)
    }

    /// Takes out nearly all that is due in buckets. From the last slot down: what fills a slot that falls free comes from
    /// further on and was looked at before, so that eight buckets' codes are read at once, which spares a guess each.
    /// Only around the segment's end, whose next bucket is the first, can a removal move what was not looked at.
    fn sweep_down(&mut self, gone: &mut Gone<'_, B>) -> bool {
        for first in (0..self.segment.buckets()).step_by(8).rev() {
            let mut probable = self.segment.probable_in_eight(first, self.now);
            while let Some(at) = probable.checked_ilog2() {
                probable ^= 1 << at;
                let index = first * SLOTS + at as usize;
                if !self.segment.get(index).is_empty() && self.look(index, gone) == Look::Refused {
                    return false;
                }
            }
        }
        true
    }

    /// Takes out all that is due in buckets, looking again at what fills a slot that falls free.
    fn sweep_up(&mut self, gone: &mut Gone<'_, B>) -> bool {
        for bucket in 0..self.segment.buckets() {
            let mut from = 0;
            loop {
                let probable = self.segment.probable(bucket, self.now) >> from << from;
                if probable == 0 {
                    break;
                }
                let at = probable.trailing_zeros() as usize;
                match self.look(bucket * SLOTS + at, gone) {
                    Look::Refused => return false,
                    // The slot may have been refilled, from this bucket or one further on.
                    Look::Taken => from = at,
                    Look::Stays => from = at + 1,
                }
            }
        }
        true
    }

    /// Takes the entry at an index out if it is due.
    #[inline]
    fn look(&mut self, index: usize, gone: &mut Gone<'_, B>) -> Look {
        // SAFETY: slots with a code, and overflowing ones, are used, and used slots point to live entries.
        let deadline = unsafe { Raw(self.segment.get(index).entry()).deadline() };
        match deadline {
            Some(at) if at <= self.now && self.left == 0 => Look::Refused,
            Some(at) if at <= self.now => {
                self.left -= 1;
                self.take(index, at, gone);
                Look::Taken
            }
            at => {
                self.exact = self.exact.min(at.unwrap_or(u64::MAX));
                Look::Stays
            }
        }
    }

    fn take(&mut self, index: usize, deadline: u64, gone: &mut Gone<'_, B>) {
        let core = &self.shard.core;
        // No relief of an overflowing segment meanwhile: what it moves to an earlier slot would be missed.
        let raw = core.displace(self.segment, index, false);
        // SAFETY: the entry is out of the table and this thread's until freed; a boxed payload is of type B and moved
        // out once. The batch frees the memory with the size of its layout, also when `gone` panics.
        unsafe {
            let shape = raw.shape();
            let bytes = shape.bytes(size_of::<B>());
            let (place, inline_len) = raw.payload();
            let boxed = inline_len.is_none().then(|| place.cast::<B>().read());
            let inline = inline_len.map_or(&[][..], |len| std::slice::from_raw_parts(place.as_ptr(), len));
            core.count_outside(false, boxed.is_some());
            core.count_outside(false, Use::Entry.is_outside(bytes));
            let size = Use::Entry.charged(bytes) + SLOT_BYTES;
            let (kind, access) = (raw.kind(), raw.access());
            let removed = Removed { kind, deadline: Some(deadline), access, size, inline_len, boxed };
            self.out.push(raw, bytes);
            gone(raw.key(), inline, removed);
        }
        self.out.make_room();
    }
}

/// What became of an entry that was looked at.
#[derive(PartialEq, Eq)]
enum Look {
    Taken,
    Stays,
    /// It is due, but the limit is reached.
    Refused,
}

/// Entries out of the table whose memory is still to be freed; dropping it frees them.
struct Batch<'a, 't> {
    core: &'a Core<'t>,
    len: usize,
    entries: [(NonNull<u8>, usize); BATCH],
}

impl<'a, 't> Batch<'a, 't> {
    fn new(core: &'a Core<'t>) -> Self {
        Self { core, len: 0, entries: [(NonNull::dangling(), 0); BATCH] }
    }

    /// Adds an entry to an incomplete batch.
    ///
    /// # Safety
    /// The entry is out of the table, was allocated from the shard's arena with `bytes`, and nobody uses it once the
    /// batch is freed.
    unsafe fn push(&mut self, raw: Raw, bytes: usize) {
        self.entries[self.len] = (raw.0, bytes);
        self.len += 1;
    }

    /// Frees a complete batch.
    fn make_room(&mut self) {
        if self.len == BATCH {
            self.free();
        }
    }

    fn free(&mut self) {
        let full = std::mem::take(&mut self.len);
        // SAFETY: `push`'s promise; each entry is freed once, since the batch is empty from here on.
        unsafe { self.core.arena().free_all(&self.entries[..full], Use::Entry) };
    }
}

impl Drop for Batch<'_, '_> {
    fn drop(&mut self) {
        if self.len > 0 {
            self.free();
        }
    }
}

/// Runs ahead of a sweep and fetches.
struct Scout<'a, 't> {
    core: &'a Core<'t>,
    now: u64,
    /// Where the segments ahead begin, the nearest at `turn` % `AHEAD`, then the others in order.
    starts: [Option<u64>; AHEAD],
    turn: usize,
    /// The segment before was due, so what lies ahead of this one was fetched meanwhile.
    in_step: bool,
}

/// What is fetched of a segment; each needs what the one before fetched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Codes,
    Buckets,
    Entries,
}

impl<'a, 't> Scout<'a, 't> {
    fn new(core: &'a Core<'t>, now: u64) -> Self {
        let mut scout = Self { core, now, starts: [None; AHEAD], turn: 0, in_step: false };
        let mut start = Some(core.start());
        for at in 0..AHEAD {
            start = start.and_then(|start| core.following(start));
            scout.starts[at] = start;
            scout.fetch(Stage::Header, start);
        }
        scout
    }

    /// The sweep has reached the segment that begins at `start`, and will stay a while if that `is_due`.
    #[inline]
    fn advance(&mut self, start: u64, is_due: bool) {
        let starts = self.starts;
        let ahead = |segments: usize| starts[(self.turn + segments - 1) % AHEAD];
        let next = ahead(AHEAD).and_then(|start| self.core.following(start));
        self.fetch(Stage::Header, next);
        if is_due && !self.in_step {
            // What was passed over left no time for fetching: once for all that would be under way.
            [Some(start), ahead(1), ahead(2)].into_iter().for_each(|start| self.fetch(Stage::Codes, start));
            [Some(start), ahead(1)].into_iter().for_each(|start| self.fetch(Stage::Buckets, start));
            self.fetch(Stage::Entries, Some(start));
        }
        if is_due {
            self.fetch(Stage::Codes, ahead(3));
            self.fetch(Stage::Buckets, ahead(2));
            self.fetch(Stage::Entries, ahead(1));
        }
        self.in_step = is_due;
        // In the place of the nearest, which the sweep will have reached by the next call.
        self.starts[self.turn % AHEAD] = next;
        self.turn += 1;
    }

    #[inline]
    fn fetch(&self, stage: Stage, start: Option<u64>) {
        let Some(word) = start.map(|start| self.core.lookup(start)).filter(|word| !word.is_vacant()) else {
            return;
        };
        if stage == Stage::Header {
            word.prefetch_header();
            return;
        }
        // SAFETY: words in the directory name live segments, and the lock is held.
        let segment = unsafe { Segment::held(word) };
        if segment.due() > self.now {
            return;
        }
        match stage {
            Stage::Header => {}
            Stage::Codes => segment.prefetch_codes(),
            // The bucket after it, too: what a removal pulls back is there.
            Stage::Buckets => self.for_each_probable(segment, |index| {
                let bucket = index / SLOTS;
                crate::prefetch(word.bucket(bucket));
                crate::prefetch(word.bucket(word.after(bucket)));
            }),
            Stage::Entries => self.for_each_probable(segment, |index| {
                let slot = segment.get(index);
                if !slot.is_empty() {
                    // The deadline may begin a line of its own.
                    crate::prefetch(slot.entry().as_ptr());
                    crate::prefetch(slot.entry().as_ptr().wrapping_add(DEADLINE_END));
                    self.core.arena().prefetch_record(slot.entry());
                }
            }),
        }
    }

    #[inline]
    fn for_each_probable(&self, segment: Segment<'_>, mut visit: impl FnMut(usize)) {
        for first in (0..segment.buckets()).step_by(8) {
            let mut probable = segment.probable_in_eight(first, self.now);
            while probable != 0 {
                visit(first * SLOTS + probable.trailing_zeros() as usize);
                probable &= probable - 1;
            }
        }
    }
}

impl Core<'_> {
    /// Where the range after that of the segment of `hash` begins; `None` behind the last.
    #[inline]
    pub(crate) fn following(&self, hash: u64) -> Option<u64> {
        let depth = self.lookup(hash).depth();
        if depth == 0 {
            return None;
        }
        let range = 1u64 << (u64::BITS - self.prefix_bits(depth));
        let next = (hash & !(range - 1)).checked_add(range)?;
        (self.inner.shard_of(next) == self.index).then_some(next)
    }
}
