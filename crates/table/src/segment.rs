//! A segment: a header line and up to a few dozen buckets, holding one range of the hash space.
//!
//! Invariants. An entry's home bucket follows from its tag, monotonically: table order is hash order. It lives at home,
//! or displaced in the bucket after it (the last one's is the first), and the latter only while its home is full: so a
//! search that finds room in the home bucket is over, unless the segment overflows. What fits nowhere is in the overflow list, which stays empty
//! unless many hashes are equal. Each timed slot has its code at the same index.
//! Read next: `directory.rs` for growing, splitting and merging.

use crate::arena::{Arena, Use};
use crate::bucket::{Bucket, Pattern, SLOTS, Slot, TAG_BITS, bits};
use crate::deadline;
use crate::entry::Raw;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};

/// Bucket counts a segment grows through. With its header line a segment fills 2, 3, 4, 6, 8 .. 32 lines.
const STEPS: [usize; 17] = [1, 2, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, BUCKETS_MAX];
/// Buckets beyond which a segment splits instead of growing.
pub(crate) const BUCKETS_MAX: usize = 31;
/// Buckets beyond which not even a segment that can't split grows.
const BUCKETS_LIMIT: usize = 1023;
/// Longest chain of displacements an insertion makes, buckets.
const CHAIN_MAX: usize = 16;
/// Overflowing entries tried when a slot falls free.
const RETRIES: usize = 16;

const DEPTH_MASK: u64 = 63;
const ADDRESS: u64 = 0x0000_ffff_ffff_ffc0;
const COUNT_SHIFT: u32 = 48;
const COUNT_MASK: u64 = 1023;
const OVERFLOWING: u64 = 1 << 63;

const _: () = assert!(BUCKETS_LIMIT as u64 <= COUNT_MASK);

/// A directory word: where a segment is, its bucket count and depth, and whether it overflows. Everything a search
/// needs, so that it goes from the directory straight to the bucket. A word without an address stands for an empty
/// range, and the word zero for an empty shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentRef(pub(crate) u64);

impl SegmentRef {
    /// The word of a range without entries.
    pub(crate) const fn vacant(depth: u32) -> Self {
        Self(depth as u64)
    }

    /// Hash bits, after the shard's, that all entries of the segment share.
    #[inline]
    pub(crate) fn depth(self) -> u32 {
        (self.0 & DEPTH_MASK) as u32
    }

    /// Buckets; 0 when vacant.
    #[inline]
    pub(crate) fn buckets(self) -> usize {
        (self.0 >> COUNT_SHIFT & COUNT_MASK) as usize
    }

    /// Whether there is no segment.
    #[inline]
    pub(crate) fn is_vacant(self) -> bool {
        self.0 & ADDRESS == 0
    }

    #[inline]
    pub(crate) fn is_overflowing(self) -> bool {
        self.0 & OVERFLOWING != 0
    }

    #[inline]
    fn header(self) -> *mut Header {
        std::ptr::with_exposed_provenance_mut((self.0 & ADDRESS) as usize)
    }

    /// Asks for the header's line.
    #[inline]
    pub(crate) fn prefetch_header(self) {
        crate::prefetch(self.header());
    }

    /// Where bucket `index` begins. Not dereferenced here, so any word will do.
    #[inline]
    pub(crate) fn bucket(self, index: usize) -> *const Bucket {
        self.header().cast::<Bucket>().wrapping_add(1 + index).cast_const()
    }

    /// The home bucket of a tag.
    #[inline]
    pub(crate) fn home(self, tag: u64) -> usize {
        (tag as usize * self.buckets()) >> TAG_BITS
    }

    /// The bucket that takes what its home `index` can't.
    #[inline]
    pub(crate) fn after(self, index: usize) -> usize {
        if index + 1 == self.buckets() { 0 } else { index + 1 }
    }
}

/// The first line of a segment. Only the holder of the shard's lock reads or writes it.
#[repr(C, align(64))]
struct Header {
    len: Cell<u32>,
    timed: Cell<u32>,
    codes: Cell<*mut Cell<u16>>,
    /// What the codes count from, Unix ms.
    base: Cell<u64>,
    /// Not above any deadline in the segment; `u64::MAX` when there is none.
    due: Cell<u64>,
    overflow: Cell<Vec<Slot>>,
}

const _: () = assert!(size_of::<Header>() == 64);

/// An entry on its way between segments.
#[derive(Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) slot: Slot,
    pub(crate) code: u16,
}

/// What a set of moved entries shares.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) base: u64,
    pub(crate) due: u64,
}

/// A live segment of a shard whose lock the current thread holds as long as this value is used.
#[derive(Clone, Copy)]
pub(crate) struct Segment<'a> {
    word: SegmentRef,
    lock: PhantomData<(&'a Header, *mut ())>,
}

/// Bytes of a segment with so many buckets.
fn bytes(buckets: usize) -> usize {
    (1 + buckets) * size_of::<Bucket>()
}

/// The next larger bucket count; `None` at the limit.
pub(crate) fn next_step(buckets: usize) -> Option<usize> {
    match STEPS.iter().find(|step| **step > buckets) {
        Some(step) => Some(*step),
        None if buckets < BUCKETS_LIMIT => Some(((buckets * 5 / 4) | 1).min(BUCKETS_LIMIT)),
        None => None,
    }
}

/// The smallest regular bucket count that holds `len` entries at 85% load, or the largest there is.
pub(crate) fn step_for(len: usize) -> usize {
    STEPS.into_iter().find(|step| len * 100 <= step * SLOTS * 85).unwrap_or(BUCKETS_MAX)
}

impl<'a> Segment<'a> {
    /// # Safety
    /// `word` is not vacant, its segment is live, and the calling thread holds the shard's lock for `'a`.
    #[inline]
    pub(crate) unsafe fn held(word: SegmentRef) -> Self {
        debug_assert!(!word.is_vacant());
        Self { word, lock: PhantomData }
    }

    /// The word the segment was found by.
    #[inline]
    pub(crate) fn reference(self) -> SegmentRef {
        self.word
    }

    /// The word that its directory should hold: the same, but for whether it overflows.
    #[inline]
    pub(crate) fn word(self) -> SegmentRef {
        let overflows = if self.overflow_len() > 0 { OVERFLOWING } else { 0 };
        SegmentRef(self.word.0 & !OVERFLOWING | overflows)
    }

    #[inline]
    fn header(self) -> &'a Header {
        // SAFETY: `held`'s promise; the header is shared within this thread only, and made of cells.
        unsafe { &*self.word.header() }
    }

    #[inline]
    pub(crate) fn bucket(self, index: usize) -> &'a Bucket {
        debug_assert!(index < self.word.buckets());
        // SAFETY: `held`'s promise; `index` is below the bucket count.
        unsafe { &*self.word.bucket(index) }
    }

    /// Buckets.
    #[inline]
    pub(crate) fn buckets(self) -> usize {
        self.word.buckets()
    }

    /// Slots in buckets; indexes at and above this one are positions in the overflow list.
    #[inline]
    pub(crate) fn slots(self) -> usize {
        self.buckets() * SLOTS
    }

    /// Entries.
    #[inline]
    pub(crate) fn len(self) -> usize {
        self.header().len.get() as usize
    }

    /// Entries with a deadline.
    #[inline]
    pub(crate) fn timed(self) -> usize {
        self.header().timed.get() as usize
    }

    /// See `Header::due`.
    #[inline]
    pub(crate) fn due(self) -> u64 {
        self.header().due.get()
    }

    pub(crate) fn times(self) -> Times {
        Times { base: self.header().base.get(), due: self.due() }
    }

    pub(crate) fn overflow_len(self) -> usize {
        self.with_overflow(|list| list.len())
    }

    pub(crate) fn with_overflow<R>(self, act: impl FnOnce(&mut Vec<Slot>) -> R) -> R {
        // Taken out meanwhile: `act` can't reach it a second time. A panic inside would lose the list, so none happens.
        let mut list = self.header().overflow.take();
        let result = act(&mut list);
        self.header().overflow.set(list);
        result
    }

    #[inline]
    fn codes(self) -> Option<&'a [Cell<u16>]> {
        let codes = self.header().codes.get();
        // SAFETY: the array has a code per slot, lives as long as the segment, and is this thread's while it holds the lock.
        (!codes.is_null()).then(|| unsafe { std::slice::from_raw_parts(codes, self.slots()) })
    }

    #[inline]
    pub(crate) fn code(self, index: usize) -> u16 {
        self.codes().and_then(|codes| codes.get(index)).map_or(deadline::NONE, Cell::get)
    }

    #[inline]
    fn set_code(self, index: usize, code: u16) {
        if let Some(cell) = self.codes().and_then(|codes| codes.get(index)) {
            cell.set(code);
        }
    }

    /// The slot at an index, in a bucket or the overflow list. Indexes come from this segment.
    #[inline]
    pub(crate) fn get(self, index: usize) -> Slot {
        if index < self.slots() {
            self.bucket(index / SLOTS).get(index % SLOTS)
        } else {
            self.with_overflow(|list| list.get(index - self.slots()).copied().unwrap_or(Slot::EMPTY))
        }
    }

    /// Replaces the slot of the same entry.
    #[inline]
    pub(crate) fn set(self, index: usize, slot: Slot) {
        if index < self.slots() {
            self.bucket(index / SLOTS).set(index % SLOTS, slot);
        } else {
            self.with_overflow(|list| {
                if let Some(place) = list.get_mut(index - self.slots()) {
                    *place = slot;
                }
            });
        }
    }

    /// Finds the entry with this key: its index and itself.
    #[inline(always)]
    pub(crate) fn find(self, tag: u64, key: &[u8]) -> Option<(usize, Raw)> {
        let home = self.word.home(tag);
        if let Some(found) = self.find_in(home, Pattern::new(tag, false), key) {
            return Some(found);
        }
        if !self.bucket(home).is_full() && !self.word.is_overflowing() {
            return None;
        }
        self.find_beyond(home, tag, key)
    }

    #[inline(always)]
    fn find_in(self, bucket: usize, pattern: Pattern, key: &[u8]) -> Option<(usize, Raw)> {
        let line = self.bucket(bucket);
        // SAFETY: the lock is held (`held`'s promise).
        for at in bits(unsafe { line.matches(pattern) }) {
            let slot = line.get(at);
            // SAFETY: used slots point to live entries.
            if !slot.is_empty() && unsafe { Raw(slot.entry()).key_is(key) } {
                return Some((bucket * SLOTS + at, Raw(slot.entry())));
            }
        }
        None
    }

    /// The rest of a search whose home bucket is full.
    #[inline(never)]
    fn find_beyond(self, home: usize, tag: u64, key: &[u8]) -> Option<(usize, Raw)> {
        self.find_in(self.word.after(home), Pattern::new(tag, true), key).or_else(|| {
            if !self.word.is_overflowing() {
                return None;
            }
            // SAFETY: listed slots point to live entries.
            let is_it = |slot: &Slot| slot.tag() == tag && unsafe { Raw(slot.entry()).key_is(key) };
            let at = self.slots() + self.with_overflow(|list| list.iter().position(is_it))?;
            Some((at, Raw(self.get(at).entry())))
        })
    }

    /// Adds an entry, absent so far. `None` when its buckets are full and no displacement helps.
    pub(crate) fn insert(self, arena: &Arena, slot: Slot, deadline: Option<u64>) -> Option<usize> {
        if deadline.is_some() {
            self.want_codes(arena, deadline);
        }
        let index = self.place(slot, self.code_of(deadline))?;
        self.count_in(deadline);
        Some(index)
    }

    /// Adds an entry to the overflow list.
    pub(crate) fn insert_overflow(self, arena: &Arena, slot: Slot, deadline: Option<u64>) -> usize {
        self.push_overflow(arena, slot);
        self.count_in(deadline);
        self.slots() + self.overflow_len() - 1
    }

    fn push_overflow(self, arena: &Arena, slot: Slot) {
        let (before, after) = self.with_overflow(|list| {
            let before = list.capacity();
            list.push(slot.with_displaced(false));
            (before, list.capacity())
        });
        arena.charge_index((after - before) * size_of::<Slot>());
    }

    fn count_in(self, deadline: Option<u64>) {
        let header = self.header();
        header.len.set(header.len.get() + 1);
        if let Some(at) = deadline {
            header.timed.set(header.timed.get() + 1);
            header.due.set(header.due.get().min(at));
        }
    }

    #[inline]
    fn code_of(self, deadline: Option<u64>) -> u16 {
        deadline::code(self.header().base.get(), deadline)
    }

    /// Makes sure that there is a code array.
    fn want_codes(self, arena: &Arena, first: Option<u64>) {
        let header = self.header();
        if !header.codes.get().is_null() {
            return;
        }
        let codes = arena.alloc(self.slots() * size_of::<u16>(), Use::Index).cast::<Cell<u16>>();
        for index in 0..self.slots() {
            // SAFETY: the array was just allocated for so many codes.
            unsafe { codes.add(index).write(Cell::new(deadline::NONE)) };
        }
        header.codes.set(codes.as_ptr());
        header.base.set(deadline::base_for(first.unwrap_or(0)));
    }

    fn drop_codes(self, arena: &Arena) {
        if let Some(codes) = NonNull::new(self.header().codes.replace(null_mut())) {
            // SAFETY: allocated by `want_codes` with this size; nobody else reads codes.
            unsafe { arena.free(codes.cast(), self.slots() * size_of::<u16>(), Use::Index) };
        }
    }

    /// Finds a slot for an entry and writes it there, displacing others if need be.
    fn place(self, slot: Slot, code: u16) -> Option<usize> {
        let home = self.word.home(slot.tag());
        if !self.bucket(home).is_full() {
            return Some(self.append(home, slot.with_displaced(false), code));
        }
        let after = self.word.after(home);
        if after == home {
            return None;
        }
        if !self.bucket(after).is_full() {
            return Some(self.append(after, slot.with_displaced(true), code));
        }
        let index = after * SLOTS + self.make_hole(home, after)?;
        self.write(index, slot.with_displaced(true), code);
        Some(index)
    }

    /// Frees a slot in the full bucket `first` by moving a native of each of a chain of full buckets one further.
    /// Returns the slot's position; the slot itself is then garbage to be overwritten.
    fn make_hole(self, home: usize, first: usize) -> Option<usize> {
        let mut chain = [0u8; CHAIN_MAX];
        let mut bucket = first;
        let mut len = 0;
        while self.bucket(bucket).is_full() {
            let native = (0..SLOTS).rev().find(|at| !self.bucket(bucket).get(*at).is_displaced())?;
            *chain.get_mut(len)? = native as u8;
            len += 1;
            bucket = self.word.after(bucket);
            if bucket == home {
                return None;
            }
        }
        // From the far end: each native goes to the hole behind it.
        let mut hole = bucket * SLOTS + self.bucket(bucket).len();
        for step in (0..len).rev() {
            bucket = if bucket == 0 { self.buckets() - 1 } else { bucket - 1 };
            let from = bucket * SLOTS + usize::from(chain[step]);
            self.write(hole, self.get(from).with_displaced(true), self.code(from));
            hole = from;
        }
        Some(hole % SLOTS)
    }

    #[inline]
    fn append(self, bucket: usize, slot: Slot, code: u16) -> usize {
        let index = bucket * SLOTS + self.bucket(bucket).len();
        self.write(index, slot, code);
        index
    }

    #[inline]
    fn write(self, index: usize, slot: Slot, code: u16) {
        self.bucket(index / SLOTS).set(index % SLOTS, slot);
        self.set_code(index, code);
    }

    /// Takes the entry at `index` out of the segment, and pulls displaced ones home where that made room.
    /// Entries move from later buckets to earlier ones, within a bucket to lower slots, or from the overflow list.
    /// With `relieve`, an overflowing entry may take the place; a sweep forgoes that, since it must not miss one.
    pub(crate) fn remove(self, arena: &Arena, index: usize, relieve: bool) {
        let header = self.header();
        header.len.set(header.len.get() - 1);
        if self.get(index).is_timed() {
            self.count_untimed(arena);
        }
        if index >= self.slots() {
            self.take_overflow(arena, index - self.slots());
        } else {
            self.vacate(index);
            if relieve && self.word.is_overflowing() {
                self.relieve(arena);
            }
        }
    }

    fn count_untimed(self, arena: &Arena) {
        let header = self.header();
        header.timed.set(header.timed.get() - 1);
        if header.timed.get() == 0 {
            header.due.set(u64::MAX);
            self.drop_codes(arena);
        }
    }

    fn take_overflow(self, arena: &Arena, at: usize) -> Slot {
        let (slot, freed) = self.with_overflow(|list| {
            let slot = list.swap_remove(at);
            let before = list.capacity();
            if list.len() * 4 <= before {
                list.shrink_to(list.len() * 2);
            }
            (slot, before - list.capacity())
        });
        arena.discharge_index(freed * size_of::<Slot>());
        slot
    }

    #[inline]
    fn vacate(self, index: usize) {
        if self.codes().is_some() {
            self.vacate_in::<true>(index);
        } else {
            self.vacate_in::<false>(index);
        }
    }

    /// `CODED`: there are codes.
    fn vacate_in<const CODED: bool>(self, index: usize) {
        let write = |at: usize, slot: Slot, from: Option<usize>| {
            self.bucket(at / SLOTS).set(at % SLOTS, slot);
            if CODED {
                self.set_code(at, from.map_or(deadline::NONE, |from| self.code(from)));
            }
        };
        let (mut bucket, mut at) = (index / SLOTS, index % SLOTS);
        loop {
            let line = self.bucket(bucket);
            let is_full = line.is_full();
            let last = if is_full { SLOTS - 1 } else { line.len() - 1 };
            write(bucket * SLOTS + at, line.get(last), Some(bucket * SLOTS + last));
            let after = self.word.after(bucket);
            let displaced = if is_full && after != bucket {
                // SAFETY: the lock is held.
                unsafe { self.bucket(after).displaced() }
            } else {
                0
            };
            if displaced == 0 {
                write(bucket * SLOTS + last, Slot::EMPTY, None);
                return;
            }
            // Which of them it is, nobody can predict, so that is no branch.
            let back = displaced.trailing_zeros() as usize;
            let from = after * SLOTS + back;
            write(bucket * SLOTS + last, self.bucket(after).get(back).with_displaced(false), Some(from));
            (bucket, at) = (after, back);
        }
    }

    /// Brings overflowing entries back into buckets as far as they fit.
    pub(crate) fn relieve_all(self, arena: &Arena) {
        while self.word.is_overflowing() && self.relieve(arena) {}
    }

    /// Tries to bring an overflowing entry back into a bucket.
    fn relieve(self, arena: &Arena) -> bool {
        let len = self.overflow_len();
        for at in (len.saturating_sub(RETRIES)..len).rev() {
            let slot = self.get(self.slots() + at);
            // SAFETY: listed slots point to live entries.
            let deadline = unsafe { Raw(slot.entry()).deadline() };
            if self.place(slot, self.code_of(deadline)).is_some() {
                self.take_overflow(arena, at);
                return true;
            }
        }
        false
    }

    /// Records that the entry at `index` has another deadline than before.
    pub(crate) fn set_deadline(self, arena: &Arena, index: usize, deadline: Option<u64>) {
        let slot = self.get(index);
        let header = self.header();
        match (slot.is_timed(), deadline) {
            (false, Some(at)) => {
                self.want_codes(arena, Some(at));
                header.timed.set(header.timed.get() + 1);
            }
            (true, None) => self.count_untimed(arena),
            _ => {}
        }
        if let Some(at) = deadline {
            header.due.set(header.due.get().min(at));
        }
        self.set(index, slot.with_timed(deadline.is_some()));
        self.set_code(index, self.code_of(deadline));
    }

    /// A bit for each slot of a bucket whose entry may be due at `now`.
    #[inline]
    pub(crate) fn probable(self, bucket: usize, now: u64) -> u32 {
        let codes = self.codes().and_then(|codes| codes.as_chunks::<SLOTS>().0.get(bucket));
        codes.map_or(0, |codes| deadline::up_to(codes, self.code_of(Some(now))))
    }

    /// A bit for each slot of up to eight buckets from `first` on whose entry may be due at `now`.
    #[inline]
    pub(crate) fn probable_in_eight(self, first: usize, now: u64) -> u64 {
        let Some(codes) = self.codes() else { return 0 };
        let limit = self.code_of(Some(now));
        let buckets = codes.as_chunks::<SLOTS>().0.iter().skip(first).take(8);
        buckets.enumerate().map(|(at, codes)| u64::from(deadline::up_to(codes, limit)) << (at * SLOTS)).sum()
    }

    /// The lowest code that says "not due at `now`".
    pub(crate) fn lowest_code_after(self, now: u64) -> u16 {
        self.codes().map_or(deadline::NONE, |codes| deadline::lowest_above(codes, self.code_of(Some(now))))
    }

    /// Asks for the lines of the codes.
    #[inline]
    pub(crate) fn prefetch_codes(self) {
        let codes = self.header().codes.get();
        if !codes.is_null() {
            for line in 0..(self.slots() * size_of::<u16>()).div_ceil(64) {
                crate::prefetch(codes.cast::<u8>().wrapping_add(line * 64));
            }
        }
    }

    /// Prepares a sweep at `now`: moves the base when the codes have worn out.
    pub(crate) fn refresh(self, now: u64) {
        let header = self.header();
        if !deadline::is_worn(header.base.get(), now) {
            return;
        }
        header.base.set(now);
        for index in (0..self.slots()).filter(|index| self.get(*index).is_timed()) {
            // SAFETY: used slots point to live entries.
            let at = unsafe { Raw(self.get(index).entry()).deadline() };
            self.set_code(index, self.code_of(at));
        }
    }

    /// Sets the lower bound of deadlines after a sweep; `passed` is the lowest code the sweep did not look behind.
    pub(crate) fn set_due(self, exact: u64, passed: u16) {
        let header = self.header();
        if header.timed.get() > 0 {
            header.due.set(exact.min(deadline::earliest(header.base.get(), passed)));
        }
    }

    /// All entries, in slot order, the overflowing last.
    pub(crate) fn gather(self, into: &mut Vec<Moved>) {
        let codes = self.codes();
        for bucket in 0..self.buckets() {
            let line = self.bucket(bucket);
            for at in 0..line.len() {
                let code = codes.map_or(deadline::NONE, |codes| codes[bucket * SLOTS + at].get());
                into.push(Moved { slot: line.get(at), code });
            }
        }
        for at in 0..self.overflow_len() {
            let slot = self.get(self.slots() + at);
            // SAFETY: listed slots point to live entries.
            let deadline = unsafe { Raw(slot.entry()).deadline() };
            into.push(Moved { slot, code: self.code_of(deadline) });
        }
    }

    /// A new segment of `buckets` with these entries, their codes counted from `times.base`.
    /// What does not fit goes to the overflow list if allowed; otherwise there is no segment.
    pub(crate) fn build(
        arena: &Arena,
        depth: u32,
        buckets: usize,
        entries: &[Moved],
        times: Times,
        may_overflow: bool,
    ) -> Option<Self> {
        let segment = Self::empty(arena, depth, buckets);
        let timed = entries.iter().filter(|moved| moved.slot.is_timed()).count();
        let header = segment.header();
        if timed > 0 {
            segment.want_codes(arena, None);
            header.base.set(times.base);
            header.due.set(times.due);
        }
        header.len.set(entries.len() as u32);
        header.timed.set(timed as u32);
        if segment.place_all(arena, entries, may_overflow) {
            return Some(segment);
        }
        // SAFETY: nobody knows of it yet.
        unsafe { segment.discard(arena) };
        None
    }

    /// Places entries in an empty segment; whether all found room.
    fn place_all(self, arena: &Arena, entries: &[Moved], may_overflow: bool) -> bool {
        if self.place_by_count(entries) {
            return true;
        }
        if !may_overflow {
            return false;
        }
        for moved in entries {
            if self.place(moved.slot, moved.code).is_none() {
                self.push_overflow(arena, moved.slot);
            }
        }
        true
    }

    /// Places entries in an empty segment by counting how many are at home in each bucket: what exceeds one goes to the
    /// next. False, and nothing placed, when one bucket would have to pass on more than the next can take.
    fn place_by_count(self, entries: &[Moved]) -> bool {
        let mut counts = [0u8; BUCKETS_MAX];
        for moved in entries {
            match counts.get_mut(self.word.home(moved.slot.tag())) {
                Some(count) if usize::from(*count) < 2 * SLOTS => *count += 1,
                _ => return false,
            }
        }
        let Some(mut homes) = self.passed_on(&counts) else { return false };
        let codes = self.codes();
        for moved in entries {
            let home = self.word.home(moved.slot.tag());
            let (stays, passes) = homes[home % BUCKETS_MAX];
            let stay = usize::from(stays) < SLOTS;
            let (bucket, at) = if stay { (home, stays) } else { (self.word.after(home), passes) };
            let next = &mut homes[home % BUCKETS_MAX];
            *(if stay { &mut next.0 } else { &mut next.1 }) += 1;
            self.bucket(bucket).set(usize::from(at), moved.slot.with_displaced(!stay));
            if let Some(codes) = codes {
                codes[bucket * SLOTS + usize::from(at)].set(moved.code);
            }
        }
        true
    }

    /// For each bucket, where its natives begin, and where in the bucket after it those begin that it passes on (0).
    fn passed_on(self, counts: &[u8; BUCKETS_MAX]) -> Option<[(u8, u8); BUCKETS_MAX]> {
        let mut homes = [(0, 0); BUCKETS_MAX];
        let mut passed = 0;
        // The last bucket passes on to the first, which may set off another round; a stable one is mostly the first.
        for _ in 0..4 {
            let first = passed;
            for (home, count) in homes.iter_mut().zip(counts).take(self.buckets()) {
                *home = (passed, 0);
                passed = (count + passed).saturating_sub(SLOTS as u8);
                if usize::from(passed) > SLOTS || (passed > 0 && self.buckets() == 1) {
                    return None;
                }
            }
            if passed == first {
                return Some(homes);
            }
        }
        None
    }

    /// A new segment without entries.
    pub(crate) fn empty(arena: &Arena, depth: u32, buckets: usize) -> Self {
        let start = arena.alloc(bytes(buckets), Use::Lines);
        let header = Header {
            len: Cell::new(0),
            timed: Cell::new(0),
            codes: Cell::new(null_mut()),
            base: Cell::new(0),
            due: Cell::new(u64::MAX),
            overflow: Cell::new(Vec::new()),
        };
        let address = start.as_ptr().expose_provenance() as u64;
        assert!(address & !ADDRESS == 0, "a segment beyond 48 bits or misaligned");
        let word = SegmentRef((buckets as u64) << COUNT_SHIFT | address | u64::from(depth));
        // SAFETY: the block was just allocated with room for the header and so many buckets, zero bytes are empty
        // buckets, and nobody else knows of it: the lock on it is trivially held.
        unsafe {
            start.cast::<Header>().write(header);
            start.cast::<Bucket>().add(1).write_bytes(0, buckets);
            Self::held(word)
        }
    }

    /// Frees the side arrays and returns the segment's block, which prefetchers may still read.
    pub(crate) fn strip(self, arena: &Arena) -> (NonNull<u8>, usize) {
        self.drop_codes(arena);
        let overflow = self.header().overflow.take();
        if overflow.capacity() > 0 {
            arena.discharge_index(overflow.capacity() * size_of::<Slot>());
        }
        // SAFETY: the address of a live segment is not null.
        (unsafe { NonNull::new_unchecked(self.word.header()) }.cast(), bytes(self.buckets()))
    }

    /// As `strip`, of a segment whose arena was detached: what unmapping its chunks does not free is freed here.
    pub(crate) fn strip_uncounted(self) -> (NonNull<u8>, usize) {
        let codes = self.slots() * size_of::<u16>();
        if let Some(block) = NonNull::new(self.header().codes.replace(null_mut()))
            && Use::Index.is_outside(codes)
        {
            // SAFETY: allocated by `want_codes` with this size; nobody else reads codes.
            unsafe { Arena::free_uncounted(block.cast(), codes, Use::Index) };
        }
        drop(self.header().overflow.take());
        // SAFETY: the address of a live segment is not null.
        (unsafe { NonNull::new_unchecked(self.word.header()) }.cast(), bytes(self.buckets()))
    }

    /// Frees a segment at once.
    ///
    /// # Safety
    /// No directory names the segment, and no prefetcher can have found it.
    pub(crate) unsafe fn discard(self, arena: &Arena) {
        let (block, bytes) = self.strip(arena);
        // SAFETY: allocated by `empty` with this size; the caller's promise.
        unsafe { arena.free(block, bytes, Use::Lines) };
    }

    /// Whether unmapping the arena's chunks does not free all of the segment.
    pub(crate) fn is_outside(self) -> bool {
        self.overflow_len() > 0 || Use::Lines.is_outside(bytes(self.buckets()))
    }

    /// Checks the invariants; returns the bytes of index memory. For tests and audits: panics when one is broken.
    pub(crate) fn check(self) -> usize {
        let (mut len, mut timed, mut earliest) = (0, 0, u64::MAX);
        for index in 0..self.slots() + self.overflow_len() {
            let slot = self.get(index);
            if slot.is_empty() {
                assert_eq!(self.code(index), deadline::NONE, "an empty slot has a code");
                continue;
            }
            len += 1;
            timed += usize::from(slot.is_timed());
            // SAFETY: used slots point to live entries.
            let at = unsafe { Raw(slot.entry()).deadline() };
            assert_eq!(slot.is_timed(), at.is_some(), "the flag and the entry disagree");
            earliest = earliest.min(at.unwrap_or(u64::MAX));
            if index < self.slots() {
                self.check_place(index, slot);
                assert_eq!(self.code(index), if at.is_some() { self.code_of(at) } else { deadline::NONE });
            }
        }
        assert_eq!((len, timed), (self.len(), self.timed()), "a segment's counts are wrong");
        assert!(self.due() <= earliest, "a segment's bound is above a deadline");
        assert_eq!(self.codes().is_some(), timed > 0, "codes without deadlines or the reverse");
        let overflow = self.with_overflow(|list| list.capacity() * size_of::<Slot>());
        let codes = if timed > 0 { Use::Index.charged(self.slots() * size_of::<u16>()) } else { 0 };
        Use::Lines.charged(bytes(self.buckets())) + overflow + codes
    }

    fn check_place(self, index: usize, slot: Slot) {
        let (bucket, at) = (index / SLOTS, index % SLOTS);
        let home = self.word.home(slot.tag());
        assert!(at == 0 || !self.bucket(bucket).get(at - 1).is_empty(), "a used slot after an empty one");
        if slot.is_displaced() {
            assert_eq!(bucket, self.word.after(home), "displaced to a strange bucket");
            assert_ne!(bucket, home);
            assert!(self.bucket(home).is_full(), "displaced although there is room at home");
        } else {
            assert_eq!(bucket, home, "a native in a strange bucket");
        }
    }
}
