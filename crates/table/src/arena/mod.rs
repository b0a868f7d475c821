//! The arena: a slab allocator for entries and index blocks, one per group of shards, with exact accounting.
//!
//! Invariant: the counters equal the sum over live objects (rounded to their class), over serving spans and over
//! mapped chunks. Callers name the size when they free, so objects carry no header.
//! Read next: `class.rs` (sizes), `chunk.rs` (spans and free lists), `pool.rs` (blocks), `sys.rs` (mappings).

mod chunk;
mod class;
mod pool;
mod sys;

pub(crate) use class::{charged, charged_lines};
pub(crate) use sys::{Mapped, Zeroed};

use chunk::{Chunk, Huge, RECORDS_BYTES, Span, link, unlink};
use class::{CLASSES, Class};
use parking_lot::RawMutex;
use parking_lot::lock_api::RawMutex as _;
use pool::{POOL, Pinned};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::UnsafeCell;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use sys::{BLOCK_BYTES, CHUNK_BYTES};

/// Empty chunks an arena keeps mapped for the next object.
const SPARE_CHUNKS: usize = 1;

/// Bytes of a block that must be in use for it to become a huge page: what else there is becomes resident. The spans of
/// some classes end in a rest of 3%.
const DENSE_BYTES_MIN: usize = BLOCK_BYTES / 16 * 15;

/// Bits of an object's address; the others are free for what points to it.
pub(crate) const ADDRESS_BITS: u32 = 48;

/// What an object is for: decides its alignment and the counter it is charged to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Use {
    /// An entry, 8-byte aligned.
    Entry,
    /// A segment's side array, 8-byte aligned.
    Index,
    /// A segment or a directory, 64-byte aligned.
    Lines,
}

impl Use {
    #[inline]
    fn class(self, bytes: usize) -> Option<Class> {
        if cfg!(feature = "sanitize") {
            return None;
        }
        match self {
            Use::Entry | Use::Index => Class::of(bytes),
            Use::Lines => Class::of_lines(bytes),
        }
    }

    /// Bytes charged for an object of this use.
    #[inline]
    pub(crate) fn charged(self, bytes: usize) -> usize {
        match self {
            Use::Entry | Use::Index => charged(bytes),
            Use::Lines => charged_lines(bytes),
        }
    }

    /// Whether an object of this use and size lives outside the chunks, so that unmapping them does not free it.
    #[inline]
    pub(crate) fn is_outside(self, bytes: usize) -> bool {
        self.class(bytes).is_none()
    }

    fn layout(self, bytes: usize) -> Layout {
        let align = if self == Use::Lines { 64 } else { 8 };
        match Layout::from_size_align(self.charged(bytes), align) {
            Ok(layout) => layout,
            Err(_) => handle_alloc_error(Layout::new::<u64>()),
        }
    }
}

/// Byte counters of one arena. Written under its lock, read by anybody.
#[derive(Default)]
pub(crate) struct Stats {
    /// Live entries, rounded to their class.
    pub(crate) entries: AtomicUsize,
    /// Live segments, directories and side arrays, rounded to their class.
    pub(crate) index: AtomicUsize,
    /// Live objects outside the chunks; part of the two above.
    pub(crate) outside: AtomicUsize,
    /// Spans that serve a class.
    pub(crate) spans: AtomicUsize,
    /// Mapped chunks.
    pub(crate) mapped: AtomicUsize,
}

/// Whether slots and directory words can hold the address. Kernels hand out higher ones only to those who ask.
fn is_addressable(object: &NonNull<u8>) -> bool {
    object.addr().get() >> ADDRESS_BITS == 0
}

/// Adds to a counter that only the lock holder writes: no read-modify-write instruction is needed.
#[inline]
fn add(counter: &AtomicUsize, bytes: usize) {
    counter.store(counter.load(Relaxed).wrapping_add(bytes), Relaxed);
}

#[inline]
fn subtract(counter: &AtomicUsize, bytes: usize) {
    debug_assert!(counter.load(Relaxed) >= bytes, "more is freed than was allocated");
    counter.store(counter.load(Relaxed).wrapping_sub(bytes), Relaxed);
}

/// One arena. Dropping it does not free its chunks: whoever owns it detaches them first.
#[repr(C, align(64))]
pub(crate) struct Arena {
    lock: RawMutex,
    state: UnsafeCell<State>,
    stats: Stats,
}

/// The lists of an arena. All zero is an arena without memory.
struct State {
    /// Spans with room, by class.
    partial: [*mut Span; CLASSES],
    chunks: *mut Chunk,
    roomy: *mut Chunk,
    /// Chunks whose twin is closed.
    halves: *mut Chunk,
    /// Lower chunks of blocks that were full and are not huge pages.
    dense: *mut Chunk,
    empty: usize,
}

const NO_MEMORY: State = State {
    partial: [null_mut(); CLASSES],
    chunks: null_mut(),
    roomy: null_mut(),
    halves: null_mut(),
    dense: null_mut(),
    empty: 0,
};

// SAFETY: `state` is touched only under `lock`; the raw pointers in it point to chunks the arena owns.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}
// SAFETY: null lists, zero counters, and an unlocked mutex (asserted below).
unsafe impl Zeroed for Arena {}

// SAFETY: RawMutex is one byte without padding or a destructor.
const _: () = assert!(unsafe { std::mem::transmute::<RawMutex, u8>(RawMutex::INIT) } == 0);

/// Unlocks when dropped.
struct Held<'a>(&'a Arena);

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `Arena::hold` locked it.
        unsafe { self.0.lock.unlock() }
    }
}

impl Held<'_> {
    #[inline]
    fn state(&mut self) -> &mut State {
        // SAFETY: the lock is held as long as `self` lives, and `&mut self` makes this the only reference.
        unsafe { &mut *self.0.state.get() }
    }

    /// # Safety
    /// As `Arena::free`.
    #[inline]
    unsafe fn give_back(&mut self, object: NonNull<u8>, bytes: usize, purpose: Use) {
        let arena = self.0;
        match purpose.class(bytes) {
            Some(class) => {
                subtract(arena.counter(purpose), class.bytes());
                // SAFETY: the caller's promise, and the lock is held.
                unsafe { self.state().put(object, class, &arena.stats) }
            }
            None => {
                let layout = purpose.layout(bytes);
                subtract(arena.counter(purpose), layout.size());
                subtract(&arena.stats.outside, layout.size());
                // SAFETY: `alloc_outside` allocated it with the same layout.
                unsafe { dealloc(object.as_ptr(), layout) }
            }
        }
    }
}

impl Arena {
    #[inline]
    fn hold(&self) -> Held<'_> {
        self.lock.lock();
        Held(self)
    }

    /// The counters.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    #[inline]
    fn counter(&self, purpose: Use) -> &AtomicUsize {
        match purpose {
            Use::Entry => &self.stats.entries,
            Use::Index | Use::Lines => &self.stats.index,
        }
    }

    /// Allocates an object of `bytes` > 0. Ends the process when memory is exhausted, as any allocation does.
    #[inline]
    pub(crate) fn alloc(&self, bytes: usize, purpose: Use) -> NonNull<u8> {
        let mut held = self.hold();
        match purpose.class(bytes) {
            Some(class) => {
                add(self.counter(purpose), class.bytes());
                // SAFETY: the lock is held.
                unsafe { held.state().take(class, &self.stats) }
            }
            None => self.alloc_outside(bytes, purpose),
        }
    }

    #[cold]
    fn alloc_outside(&self, bytes: usize, purpose: Use) -> NonNull<u8> {
        let layout = purpose.layout(bytes);
        // SAFETY: `layout` has a size above zero.
        let object = NonNull::new(unsafe { alloc(layout) }).filter(is_addressable);
        let object = object.unwrap_or_else(|| handle_alloc_error(layout));
        let _ = object.as_ptr().expose_provenance();
        add(self.counter(purpose), layout.size());
        add(&self.stats.outside, layout.size());
        object
    }

    /// Frees an object.
    ///
    /// # Safety
    /// `alloc` of this arena returned `object` for these `bytes` and `purpose`; nobody uses it any more.
    #[inline]
    pub(crate) unsafe fn free(&self, object: NonNull<u8>, bytes: usize, purpose: Use) {
        // SAFETY: the caller's promise.
        unsafe { self.hold().give_back(object, bytes, purpose) }
    }

    /// Frees objects, each given with its bytes, under one hold of the lock.
    ///
    /// # Safety
    /// As `free`, for each.
    pub(crate) unsafe fn free_all(&self, objects: &[(NonNull<u8>, usize)], purpose: Use) {
        let mut held = self.hold();
        for (object, bytes) in objects {
            // SAFETY: the caller's promise.
            unsafe { held.give_back(*object, *bytes, purpose) }
        }
    }

    /// Asks for the record that freeing an object will write. The object may lie outside the chunks.
    #[inline]
    pub(crate) fn prefetch_record(&self, object: NonNull<u8>) {
        crate::prefetch(Chunk::record_place(object));
    }

    /// Frees an object outside the chunks that was detached, and so is not counted any more.
    ///
    /// # Safety
    /// As `free`; the object is outside the chunks and its arena was detached since.
    pub(crate) unsafe fn free_uncounted(object: NonNull<u8>, bytes: usize, purpose: Use) {
        debug_assert!(purpose.is_outside(bytes));
        // SAFETY: `alloc_outside` allocated it with the same layout.
        unsafe { dealloc(object.as_ptr(), purpose.layout(bytes)) }
    }

    /// Charges bytes of an index block that lives outside the arena's objects (an overflow list).
    pub(crate) fn charge_index(&self, bytes: usize) {
        let _held = self.hold();
        add(&self.stats.index, bytes);
        add(&self.stats.outside, bytes);
    }

    /// Takes such a charge back.
    pub(crate) fn discharge_index(&self, bytes: usize) {
        let _held = self.hold();
        subtract(&self.stats.index, bytes);
        subtract(&self.stats.outside, bytes);
    }

    /// Closes empty chunks and gives the pages of free spans back; returns how many bytes of address space or pages.
    pub(crate) fn release_unused(&self) -> usize {
        let mut held = self.hold();
        let state = held.state();
        let mut bytes = 0;
        let mut chunk = state.chunks;
        while !chunk.is_null() {
            // SAFETY: chunks on the list are live and the lock is held; `next` is read before the chunk may go.
            unsafe {
                let next = (*chunk).all.next;
                if (*chunk).is_empty() {
                    state.empty -= 1;
                    state.close(chunk, &self.stats);
                    bytes += CHUNK_BYTES;
                } else {
                    let discarded = Chunk::discard_free(chunk);
                    if discarded > 0 {
                        state.forget_dense(chunk);
                    }
                    bytes += discarded;
                }
                chunk = next;
            }
        }
        bytes
    }

    /// Makes huge pages of dense blocks; how many. `budget` limits how often the kernel is asked, and is reduced by that.
    /// Each takes about a millisecond, without the lock: others go on, and wait only for pages of that very block.
    pub(crate) fn collapse_dense(&self, budget: &mut usize) -> usize {
        let mut collapsed = 0;
        while *budget > 0
            && let Some(block) = self.pin_dense()
        {
            *budget -= 1;
            collapsed += usize::from(block.collapse());
        }
        collapsed
    }

    /// Takes a dense block off the list.
    fn pin_dense(&self) -> Option<Pinned<'static>> {
        let mut held = self.hold();
        let state = held.state();
        let mut chunk = state.dense;
        // What is passed over is full but for spans just begun, one a class: there can't be many.
        while !chunk.is_null() {
            // SAFETY: chunks on the list are live and their twins open, and the lock is held.
            unsafe {
                let (twin, next) = (Chunk::twin(chunk), (*chunk).block.next);
                if (*chunk).bytes_used() + (*twin).bytes_used() >= DENSE_BYTES_MIN {
                    state.unlist_dense(chunk, Huge::Tried);
                    return POOL.pin(Chunk::block_of(chunk));
                }
                if !(*chunk).is_full() || !(*twin).is_full() {
                    // It is listed again when it is full again.
                    state.unlist_dense(chunk, Huge::No);
                }
                chunk = next;
            }
        }
        None
    }

    /// Takes all chunks out, leaving the arena empty with its counters at zero. Objects outside the chunks are the
    /// caller's to free, uncounted.
    pub(crate) fn detach(&self) -> Chunks {
        let mut held = self.hold();
        let state = held.state();
        let chunks = Chunks { first: state.chunks };
        *state = NO_MEMORY;
        let Stats { entries, index, outside, spans, mapped } = &self.stats;
        for counter in [entries, index, outside, spans, mapped] {
            counter.store(0, Relaxed);
        }
        chunks
    }

    /// Bytes of chunk records, part of the mapped bytes.
    pub(crate) fn record_bytes(&self) -> usize {
        self.stats.mapped.load(Relaxed) / CHUNK_BYTES * RECORDS_BYTES
    }

    /// Checks lists and counters. For tests and audits: panics when one is wrong.
    pub(crate) fn check(&self) {
        let mut held = self.hold();
        let state = held.state();
        let (mut mapped, mut spans, mut live, mut empty, mut roomy) = (0, 0, 0, 0, 0);
        let (mut halves, mut dense) = (0, 0);
        let mut chunk = state.chunks;
        while !chunk.is_null() {
            // SAFETY: chunks on the list are live and the lock is held.
            let it = unsafe { &*chunk };
            mapped += CHUNK_BYTES;
            spans += it.bytes_serving();
            live += it.check();
            empty += usize::from(it.is_empty());
            roomy += usize::from(!it.is_full());
            halves += usize::from(!it.paired);
            dense += usize::from(it.huge == Huge::Listed);
            assert!(it.huge == Huge::No || (it.paired && Chunk::lower(chunk) == chunk));
            chunk = it.all.next;
        }
        let count = |mut at: *mut Chunk, links: fn(&Chunk) -> *mut Chunk| {
            let mut listed = 0;
            while !at.is_null() {
                listed += 1;
                // SAFETY: as above.
                at = links(unsafe { &*at });
            }
            listed
        };
        for (index, head) in state.partial.iter().enumerate() {
            let mut span = *head;
            while !span.is_null() {
                // SAFETY: spans on the list belong to live chunks.
                unsafe {
                    assert_eq!((*span).class().index(), index);
                    assert!(!Span::is_full(span) && !(*span).is_empty());
                    span = (*span).links.next;
                }
            }
        }
        assert_eq!((mapped, spans), (self.stats.mapped.load(Relaxed), self.stats.spans.load(Relaxed)));
        assert_eq!(roomy, count(state.roomy, |chunk| chunk.roomy.next));
        assert_eq!(halves, count(state.halves, |chunk| chunk.block.next));
        assert_eq!(dense, count(state.dense, |chunk| chunk.block.next));
        assert_eq!(empty, state.empty);
        assert!(empty <= SPARE_CHUNKS);
        let counted = self.stats.entries.load(Relaxed) + self.stats.index.load(Relaxed);
        assert_eq!(live, counted - self.stats.outside.load(Relaxed));
    }
}

impl State {
    /// # Safety
    /// The arena's lock is held.
    #[inline]
    unsafe fn take(&mut self, class: Class, stats: &Stats) -> NonNull<u8> {
        // SAFETY: spans on a partial list are live and have room.
        unsafe {
            let mut span = self.partial[class.index()];
            if span.is_null() {
                span = self.open_span(class, stats);
            }
            let object = Span::take(span);
            if Span::is_full(span) {
                unlink(&mut self.partial[class.index()], span, |span| &raw mut (*span).links);
            }
            object
        }
    }

    /// # Safety
    /// As `take`.
    #[cold]
    unsafe fn open_span(&mut self, class: Class, stats: &Stats) -> *mut Span {
        // SAFETY: chunks on the lists are live; a chunk from the roomy list has a free span.
        unsafe {
            let mut chunk = self.roomy;
            if chunk.is_null() {
                chunk = self.open(stats);
            }
            self.empty -= usize::from((*chunk).is_empty());
            let span = Chunk::take_span(chunk, class);
            add(&stats.spans, Span::bytes(span));
            if (*chunk).is_full() {
                unlink(&mut self.roomy, chunk, |chunk| &raw mut (*chunk).roomy);
                self.list_dense(chunk);
            }
            link(&mut self.partial[class.index()], span, |span| &raw mut (*span).links);
            span
        }
    }

    /// Opens a chunk: the twin of one that has none, lest blocks be shared by arenas and fill slowly; else half a block.
    ///
    /// # Safety
    /// As `take`.
    unsafe fn open(&mut self, stats: &Stats) -> *mut Chunk {
        // SAFETY: chunks on the lists are live; the closed twin of one is this arena's, and so is a block just taken.
        unsafe {
            let half = self.halves;
            let chunk = if half.is_null() {
                let chunk = Chunk::open(POOL.take());
                link(&mut self.halves, chunk, |chunk| &raw mut (*chunk).block);
                chunk
            } else {
                unlink(&mut self.halves, half, |chunk| &raw mut (*chunk).block);
                let chunk = Chunk::open(NonNull::new_unchecked(Chunk::twin(half)).cast());
                (*half).paired = true;
                (*chunk).paired = true;
                chunk
            };
            add(&stats.mapped, CHUNK_BYTES);
            link(&mut self.chunks, chunk, |chunk| &raw mut (*chunk).all);
            link(&mut self.roomy, chunk, |chunk| &raw mut (*chunk).roomy);
            self.empty += 1;
            chunk
        }
    }

    /// Lists the block of a chunk that just filled up, if its twin is full too and it was not tried.
    ///
    /// # Safety
    /// As `take`; `chunk` is live.
    unsafe fn list_dense(&mut self, chunk: *mut Chunk) {
        // SAFETY: the caller's promise; the twin is live when paired.
        unsafe {
            let lower = Chunk::lower(chunk);
            if (*chunk).paired && (*Chunk::twin(chunk)).is_full() && (*lower).huge == Huge::No {
                (*lower).huge = Huge::Listed;
                link(&mut self.dense, lower, |chunk| &raw mut (*chunk).block);
            }
        }
    }

    /// Takes a block off the list of dense ones.
    ///
    /// # Safety
    /// As `take`; `lower` is on the list.
    unsafe fn unlist_dense(&mut self, lower: *mut Chunk, huge: Huge) {
        // SAFETY: the caller's promise.
        unsafe {
            unlink(&mut self.dense, lower, |chunk| &raw mut (*chunk).block);
            (*lower).huge = huge;
        }
    }

    /// Notes that the block of a chunk gives memory back: it may be tried when it is full again.
    ///
    /// # Safety
    /// As `take`; `chunk` is live.
    unsafe fn forget_dense(&mut self, chunk: *mut Chunk) {
        // SAFETY: the caller's promise; both chunks of a pair are live.
        unsafe {
            if (*chunk).paired {
                let lower = Chunk::lower(chunk);
                if (*lower).huge == Huge::Listed {
                    self.unlist_dense(lower, Huge::No);
                }
                (*lower).huge = Huge::No;
            }
        }
    }

    /// # Safety
    /// As `take`; `object` is a live object of `class` from this arena.
    #[inline]
    unsafe fn put(&mut self, object: NonNull<u8>, class: Class, stats: &Stats) {
        // SAFETY: the object's chunk and span are live as long as it is.
        unsafe {
            let span = Chunk::span_of(object);
            debug_assert!((*span).class() == class, "freed with another size than allocated");
            let was_full = Span::is_full(span);
            Span::put(span, object);
            if (*span).is_empty() {
                if !was_full {
                    unlink(&mut self.partial[class.index()], span, |span| &raw mut (*span).links);
                }
                self.close_span(Chunk::of(object), span, stats);
            } else if was_full {
                link(&mut self.partial[class.index()], span, |span| &raw mut (*span).links);
            }
        }
    }

    /// # Safety
    /// As `take`; `span` belongs to `chunk`, is empty and on no list.
    #[cold]
    unsafe fn close_span(&mut self, chunk: *mut Chunk, span: *mut Span, stats: &Stats) {
        // SAFETY: the caller's promise.
        unsafe {
            subtract(&stats.spans, Span::bytes(span));
            let was_full = (*chunk).is_full();
            Chunk::return_span(chunk, span);
            if was_full {
                link(&mut self.roomy, chunk, |chunk| &raw mut (*chunk).roomy);
            }
            if (*chunk).is_empty() {
                if self.empty >= SPARE_CHUNKS {
                    self.close(chunk, stats);
                } else {
                    self.empty += 1;
                }
            }
        }
    }

    /// # Safety
    /// As `take`; `chunk` is empty (and so on the lists) and not counted in `empty`.
    unsafe fn close(&mut self, chunk: *mut Chunk, stats: &Stats) {
        // SAFETY: no object of the chunk is live, so nobody points into it.
        unsafe {
            unlink(&mut self.roomy, chunk, |chunk| &raw mut (*chunk).roomy);
            unlink(&mut self.chunks, chunk, |chunk| &raw mut (*chunk).all);
            self.forget_dense(chunk);
            if (*chunk).paired {
                link(&mut self.halves, Chunk::twin(chunk), |chunk| &raw mut (*chunk).block);
            } else {
                unlink(&mut self.halves, chunk, |chunk| &raw mut (*chunk).block);
            }
            Chunk::close(chunk);
        }
        subtract(&stats.mapped, CHUNK_BYTES);
    }
}

/// Chunks taken out of an arena. Dropping them frees them, whatever they hold.
pub(crate) struct Chunks {
    first: *mut Chunk,
}

// SAFETY: the chunks are owned by this value alone.
unsafe impl Send for Chunks {}

impl Chunks {
    /// Frees one chunk; false when none is left.
    pub(crate) fn free_one(&mut self) -> bool {
        let Some(chunk) = NonNull::new(self.first) else { return false };
        // SAFETY: the chunk is ours and mapped; whoever made this value promised that its objects are done with.
        unsafe {
            self.first = chunk.as_ref().all.next;
            Chunk::close(chunk.as_ptr());
        }
        true
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        while self.free_one() {}
    }
}

#[cfg(test)]
mod tests;
