//! A shard: its header line, its lock, and what can be done while it is held.
//!
//! Invariant: the header's counters equal what the segments hold; `due` is never above the earliest deadline.
//! Read next: `occupied.rs` for changing an entry, `sweep.rs` for expiry, `directory.rs` for the structure, `segment.rs` for the search.

use crate::arena::{Arena, Use, Zeroed};
use crate::bucket::{Pattern, Slot};
use crate::directory::{PREFIX_BITS_MAX, Root, directory_bytes, tag_of};
use crate::entry::{Content, Entry, NewEntry, Payload, Raw, Removed, SLOT_BYTES, Shape};
use crate::lock::{Lock, Owner, WasOwed};
use crate::occupied::Occupied;
use crate::segment::{Segment, SegmentRef};
use crate::table::{Inner, prefetch_matches};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Random slots tried before a sample walks on from where it is.
const SAMPLE_TRIES: usize = 48;

/// One cache line per shard. All zero is an empty, unlocked shard.
#[repr(C, align(64))]
pub(crate) struct ShardHeader {
    lock: Lock,
    /// Entries.
    pub(crate) len: AtomicU32,
    /// See `directory::Root`.
    pub(crate) root: AtomicU64,
    /// Entries with a deadline.
    pub(crate) timed: AtomicU32,
    /// What unmapping the arena's chunks would not free: boxed payloads, large entries, large or overflowing index blocks.
    pub(crate) outside: AtomicU32,
    /// Complement of a time not above any deadline, so that zero says "none".
    due: AtomicU64,
}

const _: () = assert!(size_of::<ShardHeader>() == 64);

// SAFETY: an unlocked lock and zero counters.
unsafe impl Zeroed for ShardHeader {}

impl ShardHeader {
    #[inline]
    pub(crate) fn lock(&self, owner: &Owner) -> WasOwed {
        self.lock.lock(owner)
    }

    #[inline]
    pub(crate) fn try_lock(&self, owner: &Owner) -> bool {
        self.lock.try_lock(owner)
    }

    pub(crate) fn try_lock_owed(&self, owner: &Owner) -> Option<WasOwed> {
        self.lock.try_lock_owed(owner)
    }

    /// # Safety
    /// The calling thread holds the lock.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.lock.unlock() }
    }

    #[inline]
    pub(crate) fn due(&self) -> u64 {
        !self.due.load(Relaxed)
    }

    #[inline]
    pub(crate) fn set_due(&self, due: u64) {
        self.due.store(!due, Relaxed);
    }
}

/// What becomes of the lock when a [`Core`] is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtEnd {
    /// It is given back.
    Unlock,
    /// It is given back, owing.
    Owe,
    /// Another `Core`, borrowed for as long as this one lives, gives it back.
    Nothing,
}

/// A locked shard without the payload's type: unlocks when dropped.
pub(crate) struct Core<'t> {
    pub(crate) inner: &'t Inner,
    pub(crate) header: &'t ShardHeader,
    pub(crate) index: usize,
    at_end: AtEnd,
    /// The lock belongs to this thread.
    thread: PhantomData<*mut ()>,
}

impl Drop for Core<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.at_end == AtEnd::Unlock {
            // SAFETY: a `Core` exists only while its lock is held, and one of them is not lent.
            unsafe { self.header.unlock() }
        } else {
            self.end_otherwise();
        }
    }
}

impl<'t> Core<'t> {
    /// # Safety
    /// The calling thread holds the lock of shard `index`, whose header is `header`, and hands it over to the new value.
    #[inline]
    pub(crate) unsafe fn held(inner: &'t Inner, header: &'t ShardHeader, index: usize) -> Self {
        Self { inner, header, index, at_end: AtEnd::Unlock, thread: PhantomData }
    }

    #[cold]
    fn end_otherwise(&mut self) {
        if self.at_end == AtEnd::Owe {
            // SAFETY: as where it is just unlocked.
            unsafe { self.header.lock.unlock_owed() }
        }
    }

    /// Whether what the shard owes is still to be paid when this is dropped.
    pub(crate) fn set_owed(&mut self, is_owed: bool) {
        debug_assert_ne!(self.at_end, AtEnd::Nothing, "what is lent says nothing about the lock");
        self.at_end = if is_owed { AtEnd::Owe } else { AtEnd::Unlock };
    }

    /// The same shard for as long as this one is borrowed; the lock stays with this one.
    fn lend(&mut self) -> Core<'_> {
        Core {
            inner: self.inner,
            header: self.header,
            index: self.index,
            at_end: AtEnd::Nothing,
            thread: PhantomData,
        }
    }

    /// The arena of the shard's entries.
    #[inline]
    pub(crate) fn arena(&self) -> &'t Arena {
        self.inner.arena(self.index)
    }

    /// The arena of its segments and directory.
    #[inline]
    pub(crate) fn index_arena(&self) -> &'t Arena {
        &self.inner.arenas[self.inner.group_of(self.index) << self.inner.group_shift]
    }

    /// The lowest hash of the shard.
    pub(crate) fn start(&self) -> u64 {
        self.inner.start_of(self.index)
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.header.len.load(Relaxed) as usize
    }

    /// Counts something that unmapping chunks would not free in or out. The lock is held: no atomic addition is needed.
    #[inline]
    pub(crate) fn count_outside(&self, more: bool, less: bool) {
        if more != less {
            add(&self.header.outside, if more { 1 } else { u32::MAX });
        }
    }

    #[inline]
    pub(crate) fn count_timed(&self, before: bool, after: Option<u64>) {
        if let Some(at) = after
            && at < self.header.due()
        {
            self.header.set_due(at);
        }
        if before != after.is_some() {
            add(&self.header.timed, if before { u32::MAX } else { 1 });
        }
    }

    #[inline]
    pub(crate) fn entry_bytes(&self, raw: Raw) -> usize {
        // SAFETY: callers pass live entries of this shard.
        unsafe { raw.shape().bytes(self.inner.boxed_bytes) }
    }

    #[inline(always)]
    pub(crate) fn find(&self, hash: u64, key: &[u8]) -> Option<(SegmentRef, usize, Raw)> {
        debug_assert_eq!(self.inner.shard_of(hash), self.index, "a hash of another shard");
        let segment = self.segment(hash)?;
        let tag = tag_of(hash, self.prefix_bits(segment.reference().depth()));
        segment.find(tag, key).map(|(index, raw)| (segment.reference(), index, raw))
    }

    /// Puts an entry's slot in, making room as needed. Returns the segment's word and the index.
    fn place(&self, hash: u64, raw: Raw, deadline: Option<u64>) -> (SegmentRef, usize) {
        add(&self.header.len, 1);
        self.count_timed(false, deadline);
        loop {
            let Some(segment) = self.segment(hash) else {
                self.make_room(hash);
                continue;
            };
            let tag = tag_of(hash, self.prefix_bits(segment.reference().depth()));
            let slot = Slot::new(raw.0, tag, deadline.is_some());
            if let Some(index) = segment.insert(self.index_arena(), slot, deadline) {
                return (segment.reference(), index);
            }
            if !self.make_room(hash) {
                let index = segment.insert_overflow(self.index_arena(), slot, deadline);
                self.republish(hash, segment);
                return (segment.word(), index);
            }
        }
    }

    /// Takes the slot at `index` out; the entry itself stays for the caller to free.
    #[inline]
    pub(crate) fn displace(&self, segment: Segment<'_>, index: usize, relieve: bool) -> Raw {
        let slot = segment.get(index);
        segment.remove(self.index_arena(), index, relieve);
        add(&self.header.len, u32::MAX);
        self.count_timed(slot.is_timed(), None);
        Raw(slot.entry())
    }

    /// Frees the memory of an entry of so many bytes; a boxed payload has been moved out.
    #[inline]
    pub(crate) fn free_entry(&self, raw: Raw, bytes: usize) {
        self.count_outside(false, Use::Entry.is_outside(bytes));
        // SAFETY: the caller took the entry out of the table; it was allocated with the size its header tells.
        unsafe { self.arena().free(raw.0, bytes, Use::Entry) };
    }

    /// Allocates memory for an entry.
    #[inline]
    pub(crate) fn alloc_entry(&self, bytes: usize) -> Raw {
        self.count_outside(Use::Entry.is_outside(bytes), false);
        Raw(self.arena().alloc(bytes, Use::Entry))
    }
}

#[inline]
fn add(counter: &AtomicU32, delta: u32) {
    counter.store(counter.load(Relaxed).wrapping_add(delta), Relaxed);
}

/// A locked shard. Everything is reached through it; dropping it unlocks.
pub struct Shard<'t, B> {
    pub(crate) core: Core<'t>,
    payloads: PhantomData<B>,
}

impl<'t, B: Send + Sync + 'static> Shard<'t, B> {
    #[inline(always)]
    pub(crate) fn new(core: Core<'t>) -> Self {
        Self { core, payloads: PhantomData }
    }

    /// The same shard, to be handed on for as long as this one is borrowed. Dropping what is lent does not unlock.
    #[must_use]
    pub fn lend(&mut self) -> Shard<'_, B> {
        Shard::new(self.core.lend())
    }

    /// Says whether something is owed to others than this thread: with it, who tries the lock finds it taken after
    /// this is dropped, but for [`crate::Table::try_lock_owed`] and [`crate::Table::lock`]. Not for what is lent.
    pub fn set_owed(&mut self, is_owed: bool) {
        self.core.set_owed(is_owed);
    }

    /// Whether it is given back owing.
    #[must_use]
    pub fn is_owed(&self) -> bool {
        self.core.at_end == AtEnd::Owe
    }

    /// The shard's number.
    #[inline]
    #[must_use]
    pub fn index(&self) -> usize {
        self.core.index
    }

    /// Entries in the shard.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.len()
    }

    /// Whether the shard has no entry.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries with a deadline.
    #[inline]
    #[must_use]
    pub fn len_with_deadline(&self) -> usize {
        self.core.header.timed.load(Relaxed) as usize
    }

    /// A time, Unix ms, not above any deadline in the shard; `u64::MAX` when there is none.
    #[inline]
    #[must_use]
    pub fn next_due(&self) -> u64 {
        self.core.header.due()
    }

    /// Makes room for about so many entries, if there is none in the shard.
    pub fn reserve(&mut self, entries: usize) {
        self.core.reserve(entries);
    }

    /// Finds a key. `hash` is the table's hash of it and belongs to this shard.
    #[inline]
    #[must_use]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Entry<'_, B>> {
        let (_, _, raw) = self.core.find(hash, key)?;
        // SAFETY: used slots point to live entries with payloads of type B; changing them takes `&mut self`.
        Some(unsafe { Entry::new(raw) })
    }

    /// First step of prefetching one of several keys that are about to be looked up: its home bucket.
    #[inline]
    pub fn prefetch_home(&self, hash: u64) {
        if let Some((word, tag)) = self.word_of(hash) {
            crate::prefetch(word.bucket(word.home(tag)));
        }
    }

    /// Second step, once the bucket has come: the entries that may be the key's.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        if let Some((word, tag)) = self.word_of(hash) {
            // SAFETY: the lock is held, so the segment that the directory names is live.
            unsafe { prefetch_matches(word.bucket(word.home(tag)), Pattern::new(tag, false)) };
        }
    }

    #[inline]
    fn word_of(&self, hash: u64) -> Option<(SegmentRef, u64)> {
        let word = self.core.segment(hash)?.reference();
        Some((word, tag_of(hash, self.core.prefix_bits(word.depth()))))
    }

    /// Finds a key, to change or remove its entry.
    #[inline(always)]
    #[must_use]
    pub fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<Occupied<'_, 't, B>> {
        let (word, index, raw) = self.core.find(hash, key)?;
        Some(Occupied::new(self, hash, word, index, raw))
    }

    /// Inserts a key that is absent.
    #[inline]
    pub fn insert(&mut self, hash: u64, key: &[u8], new: NewEntry<'_, B>) -> Occupied<'_, 't, B> {
        debug_assert!(self.find(hash, key).is_none(), "the key is present");
        let NewEntry { kind, access, deadline, payload } = new;
        let content = Content::new(kind, access, deadline, key.len(), payload.inline_len());
        let shape = content.shape;
        let core = &self.core;
        let raw = core.alloc_entry(shape.bytes(size_of::<B>()));
        core.count_outside(payload.inline_len().is_none(), false);
        // SAFETY: the memory was allocated for this shape.
        unsafe {
            raw.write_header(&content);
            raw.write_key(&shape, key);
            write_payload(raw.payload_place(&shape), payload);
        }
        let (word, index) = core.place(hash, raw, deadline);
        Occupied::new(self, hash, word, index, raw)
    }

    /// Visits every entry of the shard, in no order to rely on.
    pub fn for_each(&self, visit: &mut dyn FnMut(&Entry<'_, B>)) {
        self.core.for_each_segment(|_, word| {
            if !word.is_vacant() {
                // SAFETY: words in the directory name live segments; the lock is held.
                let segment = unsafe { Segment::held(word) };
                for index in 0..segment.slots() + segment.overflow_len() {
                    self.show(segment.get(index), visit);
                }
            }
            true
        });
    }

    fn show(&self, slot: Slot, visit: &mut dyn FnMut(&Entry<'_, B>)) -> bool {
        if slot.is_empty() {
            return false;
        }
        // SAFETY: used slots point to live entries with payloads of type B; the lock is held and `self` is borrowed.
        visit(&unsafe { Entry::new(Raw(slot.entry())) });
        true
    }

    /// Visits up to `want` entries from a random position: each entry is about equally likely to be the first.
    /// Fewer only when the shard has fewer.
    pub fn sample(&self, random: u64, want: usize, visit: &mut dyn FnMut(&Entry<'_, B>)) {
        let want = want.min(self.len());
        if want == 0 {
            return;
        }
        let mut random = Random(random);
        let shard_bits = self.core.inner.shard_bits;
        let (mut hash, mut first) = (self.core.start(), 0);
        for _ in 0..SAMPLE_TRIES {
            let try_hash = self.core.start() | random.next() >> shard_bits;
            let Some(segment) = self.core.segment(try_hash) else { continue };
            let slots = segment.slots() + segment.overflow_len();
            let index = ((u128::from(random.next()) * slots as u128) >> 64) as usize;
            (hash, first) = (try_hash, index);
            if !segment.get(index).is_empty() {
                break;
            }
        }
        self.visit_from(hash, first, want, visit);
    }

    /// Visits `want` entries from slot `first` of the segment of `hash` on, around the shard.
    fn visit_from(&self, hash: u64, first: usize, mut want: usize, visit: &mut dyn FnMut(&Entry<'_, B>)) {
        let mut visit_segment = |word: SegmentRef, from: usize, to: usize, want: &mut usize| {
            if word.is_vacant() {
                return;
            }
            // SAFETY: words in the directory name live segments; the lock is held.
            let segment = unsafe { Segment::held(word) };
            for index in from..to.min(segment.slots() + segment.overflow_len()) {
                if *want == 0 {
                    return;
                }
                *want -= usize::from(self.show(segment.get(index), visit));
            }
        };
        let own = self.core.lookup(hash);
        visit_segment(own, first, usize::MAX, &mut want);
        for behind in [true, false] {
            self.core.for_each_segment(|start, word| {
                if word != own && (start > hash) == behind {
                    visit_segment(word, 0, usize::MAX, &mut want);
                }
                want > 0
            });
        }
        visit_segment(own, 0, first, &mut want);
    }

    /// Moves out what is of interest in an entry of this shape.
    ///
    /// # Safety
    /// The entry is live and of this shape, and its payload is not used afterwards.
    #[inline]
    pub(crate) unsafe fn unpack(&self, raw: Raw, shape: &Shape) -> Removed<B> {
        // SAFETY: the caller's promise.
        unsafe {
            let inline_len = shape.inline_len();
            let boxed = inline_len.is_none().then(|| raw.payload_place(shape).cast::<B>().read());
            self.core.count_outside(false, boxed.is_some());
            let size = Use::Entry.charged(shape.bytes(size_of::<B>())) + SLOT_BYTES;
            let (kind, deadline, access) = (raw.kind(), raw.deadline(), raw.access());
            Removed { kind, deadline, access, size, inline_len, boxed }
        }
    }

    /// Visits the entries at home in the bucket of `hash`, which may have hashes before and behind it, and answers the first
    /// hash of the next bucket, if there is one in the table.
    pub fn scan_home(&self, hash: u64, visit: &mut dyn FnMut(&Entry<'_, B>)) -> Option<u64> {
        let (_, next) = self.scan_bucket(hash, visit);
        next.checked_mul(1 << 16)
    }

    /// Visits the entries at home in the bucket of `hash`. Returns how many, and where the next bucket's range begins
    /// in units of 2^16 hashes.
    pub(crate) fn scan_bucket(&self, hash: u64, visit: &mut dyn FnMut(&Entry<'_, B>)) -> (usize, u64) {
        let mut count = 0;
        let next = self.for_each_at_home(hash, &mut |slot| count += usize::from(self.show(slot, visit)));
        (count, next)
    }

    /// Checks all invariants of the shard. For tests and audits.
    ///
    /// # Panics
    /// When one is broken.
    pub fn check(&self) {
        let core = &self.core;
        let (mut len, mut timed, mut outside) = (0, 0, 0);
        core.for_each_segment(|start, word| {
            assert!(core.prefix_bits(word.depth()) <= PREFIX_BITS_MAX);
            if word.is_vacant() {
                return true;
            }
            // SAFETY: words in the directory name live segments; the lock is held.
            let segment = unsafe { Segment::held(word) };
            assert_eq!(segment.word(), word, "the directory's word is stale");
            segment.check();
            assert!(core.header.due() <= segment.due(), "the shard's bound is above a segment's");
            outside += u32::from(segment.is_outside());
            len += segment.len();
            timed += segment.timed();
            for index in 0..segment.slots() + segment.overflow_len() {
                let slot = segment.get(index);
                if !slot.is_empty() {
                    outside += self.check_entry(start, word, slot);
                }
            }
            true
        });
        if let Root::Directory { depth, .. } = Root::read(core.header.root.load(Relaxed)) {
            outside += u32::from(Use::Lines.is_outside(directory_bytes(depth)));
        }
        assert_eq!(len, self.len(), "the shard's count is wrong");
        assert_eq!(timed, self.len_with_deadline(), "the shard's count of deadlines is wrong");
        assert_eq!(outside, core.header.outside.load(Relaxed), "the count of outside memory is wrong");
    }

    fn check_entry(&self, start: u64, word: SegmentRef, slot: Slot) -> u32 {
        let core = &self.core;
        // SAFETY: used slots point to live entries.
        let (key, boxed) = unsafe { (Raw(slot.entry()).key(), Raw(slot.entry()).is_boxed()) };
        let hash = core.inner.hasher.hash(key);
        let prefix_bits = core.prefix_bits(word.depth());
        assert_eq!(core.inner.shard_of(hash), core.index, "an entry in another shard");
        assert_eq!(core.lookup(hash), word, "an entry in another segment than its hash's");
        assert!(hash >= start);
        assert_eq!(slot.tag(), tag_of(hash, prefix_bits), "a wrong tag");
        let found = self.find(hash, key).expect("every entry can be found");
        assert_eq!(found.key().as_ptr(), key.as_ptr(), "another entry has the same key");
        u32::from(boxed) + u32::from(Use::Entry.is_outside(core.entry_bytes(Raw(slot.entry()))))
    }
}

/// Writes a payload to its place.
///
/// # Safety
/// The place has room for it; inline bytes do not overlap it.
#[inline]
pub(crate) unsafe fn write_payload<B>(place: NonNull<u8>, payload: Payload<'_, B>) {
    // SAFETY: the caller's promise; a boxed payload's place is 8-byte aligned.
    unsafe {
        match payload {
            Payload::Inline(bytes) => {
                place.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len())
            }
            Payload::Boxed(boxed) => place.cast::<B>().write(boxed),
        }
    }
}

/// SplitMix64: good enough to spread one random number over a few draws.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
