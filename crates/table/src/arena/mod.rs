//! The arena: a slab allocator for entries and index blocks, one per group of shards, with exact accounting.
//!
//! Invariant: the counters equal the sum over live objects (rounded to their class) and over spans in use. Callers name
//! the size when they free, so objects carry no header.
//! Read next: `class.rs` (sizes), `span.rs` (free lists), `pool.rs` (where spans come from), `sys.rs` (mappings).

mod class;
mod pool;
mod span;
pub(crate) mod sys;

pub(crate) use class::{charged, charged_lines};
pub(crate) use sys::{Mapped, Zeroed};

use class::{Class, SLABS, SPAN_BYTES, UNITS_MAX};
use parking_lot::RawMutex;
use parking_lot::lock_api::RawMutex as _;
use pool::POOL;
use span::{RECORD_BYTES, Span, link, unlink};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::UnsafeCell;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Spans given back together when contents are freed as a whole: a megabyte.
const SPANS_AT_A_TIME: usize = 64;

/// Spans with room for a class that are compared when an object may move.
const COMPARED: usize = 32;

/// How long a round of keeping waits for work.
const PATIENCE: Duration = Duration::from_millis(500);

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

    /// Whether an object of this use and size lives outside the spans, so that returning them does not free it.
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
    /// Live objects outside the spans; part of the two above.
    pub(crate) outside: AtomicUsize,
    /// Spans in use, without their records.
    pub(crate) spans: AtomicUsize,
    /// Spans in use, with them.
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

/// One arena. Dropping it does not free its spans: whoever owns it detaches them first.
#[repr(C, align(64))]
pub(crate) struct Arena {
    lock: RawMutex,
    state: UnsafeCell<State>,
    stats: Stats,
}

/// The lists of an arena. All zero is an arena without memory.
struct State {
    /// Slabs with room, by class.
    slabs: [*mut Span; SLABS],
    /// Spans of runs with room, by the longest run they have.
    runs: [*mut Span; UNITS_MAX + 1],
    /// All spans.
    all: *mut Span,
}

const NO_MEMORY: State =
    State { slabs: [null_mut(); SLABS], runs: [null_mut(); UNITS_MAX + 1], all: null_mut() };

// SAFETY: `state` is touched only under `lock`; the raw pointers in it point to spans the arena owns.
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

/// One round of keeping the pool of memory that all tables of the process share, for a thread that serves nobody: waits
/// until there is work, half a second at most, makes up to `budget` huge pages ready for growth (each takes the kernel up
/// to some milliseconds), and gives idle memory back. Returns how many it made. Whoever calls this once goes on calling
/// it: workers leave that work to the caller from then on.
pub fn keep_pages(budget: usize) -> usize {
    POOL.keep(PATIENCE, budget)
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

    /// Where an object of a slab should move to, so that its span gets empty: memory for it in a fuller span of its class.
    /// `None` when the object lies well, which is when moving objects together would not set a span free.
    ///
    /// # Safety
    /// `alloc` of this arena returned `object` for these `bytes` and `purpose`; it is live.
    pub(crate) unsafe fn better_place(
        &self,
        object: NonNull<u8>,
        bytes: usize,
        purpose: Use,
    ) -> Option<NonNull<u8>> {
        let class = purpose.class(bytes).filter(|class| class.units().is_none())?;
        let mut held = self.hold();
        // SAFETY: the lock is held, and the object's span is live as long as it is.
        let place = unsafe { held.state().take_better(Span::of(object), class) }?;
        add(self.counter(purpose), class.bytes());
        Some(place)
    }

    /// Asks for the record that freeing an object will write. The object may lie outside the spans.
    #[inline]
    pub(crate) fn prefetch_record(&self, object: NonNull<u8>) {
        crate::prefetch(Span::place_of(object));
    }

    /// Frees an object outside the spans that was detached, and so is not counted any more.
    ///
    /// # Safety
    /// As `free`; the object is outside the spans and its arena was detached since.
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

    /// Gives idle memory back to the system, that of other arenas too, for all share a pool; returns how many bytes.
    pub(crate) fn release_unused(&self) -> usize {
        POOL.release_unused()
    }

    /// Takes all spans out, leaving the arena empty with its counters at zero. Objects outside the spans are the caller's to
    /// free, uncounted.
    pub(crate) fn detach(&self) -> Chunks {
        let mut held = self.hold();
        let state = held.state();
        let chunks = Chunks { first: state.all };
        *state = NO_MEMORY;
        let Stats { entries, index, outside, spans, mapped } = &self.stats;
        for counter in [entries, index, outside, spans, mapped] {
            counter.store(0, Relaxed);
        }
        chunks
    }

    /// Bytes of the records of spans, part of the mapped bytes.
    pub(crate) fn record_bytes(&self) -> usize {
        self.stats.mapped.load(Relaxed) / SPAN_BYTES * RECORD_BYTES
    }

    /// Checks lists and counters. For tests and audits: panics when one is wrong.
    pub(crate) fn check(&self) {
        let mut held = self.hold();
        let state = held.state();
        let (mut mapped, mut spans, mut live, mut roomy) = (0, 0, 0, 0);
        for span in listed(state.all, |span| &span.all.next) {
            mapped += SPAN_BYTES;
            spans += Span::bytes(span);
            // SAFETY: spans on the list are live and the lock is held.
            unsafe {
                live += Span::check(span);
                roomy += usize::from(match (*span).class() {
                    Some(class) => !Span::is_full(span, class),
                    None => (*span).longest_run() > 0,
                });
            }
        }
        for (index, head) in state.slabs.iter().enumerate() {
            for span in listed(*head, |span| &span.room.next) {
                // SAFETY: as above.
                let class = unsafe { (*span).class() };
                assert_eq!(class.map(Class::index), Some(index));
                roomy -= 1;
            }
        }
        for (longest, head) in state.runs.iter().enumerate() {
            for span in listed(*head, |span| &span.room.next) {
                // SAFETY: as above.
                assert_eq!(unsafe { ((*span).class(), (*span).longest_run()) }, (None, longest));
                roomy -= 1;
            }
        }
        assert_eq!(roomy, 0, "a span with room is on no list");
        assert_eq!((mapped, spans), (self.stats.mapped.load(Relaxed), self.stats.spans.load(Relaxed)));
        let counted = self.stats.entries.load(Relaxed) + self.stats.index.load(Relaxed);
        assert_eq!(live, counted - self.stats.outside.load(Relaxed));
    }
}

/// The spans of a list. All are live, and their arena's lock is held.
fn listed(first: *mut Span, next: impl Fn(&Span) -> &*mut Span) -> impl Iterator<Item = *mut Span> {
    let there = |span: *mut Span| (!span.is_null()).then_some(span);
    // SAFETY: the caller's promise.
    std::iter::successors(there(first), move |span| there(*next(unsafe { &**span })))
}

impl State {
    /// # Safety
    /// The arena's lock is held.
    #[inline]
    unsafe fn take(&mut self, class: Class, stats: &Stats) -> NonNull<u8> {
        // SAFETY: spans on the lists are live and have room.
        unsafe {
            if let Some(units) = class.units() {
                return self.take_run(class, units, stats);
            }
            let mut span = self.slabs[class.index()];
            if span.is_null() {
                span = self.open(class, stats);
                link(&mut self.slabs[class.index()], span, |span| &raw mut (*span).room);
            }
            let object = Span::take(span, class);
            if Span::is_full(span, class) {
                unlink(&mut self.slabs[class.index()], span, |span| &raw mut (*span).room);
            }
            object
        }
    }

    /// Takes an object from the fullest of the spans of a class that have room, if `from` is one of the emptier of them and
    /// together they have room for all that is in one.
    ///
    /// # Safety
    /// As `take`; `from` is a live slab of `class`, which is not of runs.
    unsafe fn take_better(&mut self, from: *mut Span, class: Class) -> Option<NonNull<u8>> {
        // SAFETY: spans on the lists are live and have room.
        unsafe {
            if Span::is_full(from, class) {
                return None;
            }
            let (mut spans, mut live, mut room) = (0, 0, 0);
            let mut fullest: *mut Span = null_mut();
            // By address where two are as full, so that neither gives to the other in turn.
            let rank = |span: *mut Span| ((*span).live(), std::cmp::Reverse(span.addr()));
            for span in listed(self.slabs[class.index()], |span| &span.room.next).take(COMPARED) {
                spans += 1;
                live += (*span).live();
                room += Span::bytes(span) / class.bytes() - (*span).live();
                if fullest.is_null() || rank(span) > rank(fullest) {
                    fullest = span;
                }
            }
            let objects = SPAN_BYTES / class.bytes();
            if fullest.is_null() || fullest == from || room < objects || (*from).live() * spans > live {
                return None;
            }
            let object = Span::take(fullest, class);
            if Span::is_full(fullest, class) {
                unlink(&mut self.slabs[class.index()], fullest, |span| &raw mut (*span).room);
            }
            Some(object)
        }
    }

    /// # Safety
    /// As `take`; `class` is of runs of `units`.
    unsafe fn take_run(&mut self, class: Class, units: usize, stats: &Stats) -> NonNull<u8> {
        // SAFETY: spans on the lists are live and have a run as long as their list says.
        unsafe {
            let fitting = self.runs.iter().skip(units).find(|head| !head.is_null());
            let span = match fitting {
                Some(span) => {
                    let span = *span;
                    self.unlist_runs(span);
                    span
                }
                None => self.open(class, stats),
            };
            let object = Span::take_run(span, units);
            self.list_runs(span);
            object
        }
    }

    /// Lists a span of runs by what it has, unless it is full.
    ///
    /// # Safety
    /// As `take`; the span is live, of runs, and not listed as having room.
    unsafe fn list_runs(&mut self, span: *mut Span) {
        // SAFETY: the caller's promise.
        unsafe {
            let longest = (*span).longest_run();
            if longest > 0 {
                link(&mut self.runs[longest], span, |span| &raw mut (*span).room);
            }
        }
    }

    /// Undoes that, before the span's runs change.
    ///
    /// # Safety
    /// As `take`; the span is live, of runs, and not changed since it was listed.
    unsafe fn unlist_runs(&mut self, span: *mut Span) {
        // SAFETY: the caller's promise.
        unsafe {
            let longest = (*span).longest_run();
            if longest > 0 {
                unlink(&mut self.runs[longest], span, |span| &raw mut (*span).room);
            }
        }
    }

    /// Opens a span. It is not listed as having room.
    ///
    /// # Safety
    /// As `take`.
    #[cold]
    unsafe fn open(&mut self, class: Class, stats: &Stats) -> *mut Span {
        let span = POOL.take();
        // SAFETY: the pool's spans are mapped, and this one is the arena's now.
        unsafe {
            Span::open(span, class);
            link(&mut self.all, span, |span| &raw mut (*span).all);
        }
        add(&stats.spans, Span::bytes(span));
        add(&stats.mapped, SPAN_BYTES);
        span
    }

    /// # Safety
    /// As `take`; `object` is a live object of `class` from this arena.
    #[inline]
    unsafe fn put(&mut self, object: NonNull<u8>, class: Class, stats: &Stats) {
        // SAFETY: the object's span is live as long as it is.
        unsafe {
            let span = Span::of(object);
            if let Some(units) = class.units() {
                return self.put_run(span, object, units, stats);
            }
            debug_assert_eq!((*span).class(), Some(class), "freed with another size than allocated");
            let was_full = Span::is_full(span, class);
            Span::put(span, object);
            if (*span).is_empty() {
                if !was_full {
                    unlink(&mut self.slabs[class.index()], span, |span| &raw mut (*span).room);
                }
                self.close(span, stats);
            } else if was_full {
                link(&mut self.slabs[class.index()], span, |span| &raw mut (*span).room);
            }
        }
    }

    /// # Safety
    /// As `put`; the object is a run of so many units of this span.
    unsafe fn put_run(&mut self, span: *mut Span, object: NonNull<u8>, units: usize, stats: &Stats) {
        // SAFETY: the caller's promise.
        unsafe {
            self.unlist_runs(span);
            Span::put_run(span, object, units);
            if (*span).is_empty() {
                self.close(span, stats);
            } else {
                self.list_runs(span);
            }
        }
    }

    /// # Safety
    /// As `take`; `span` is one of this arena's, empty, and not listed as having room.
    #[cold]
    unsafe fn close(&mut self, span: *mut Span, stats: &Stats) {
        subtract(&stats.spans, Span::bytes(span));
        subtract(&stats.mapped, SPAN_BYTES);
        // SAFETY: the caller's promise; no object of the span is live, so nobody points into it.
        unsafe {
            unlink(&mut self.all, span, |span| &raw mut (*span).all);
            POOL.put(span);
        }
    }
}

/// Spans taken out of an arena. Dropping them frees them, whatever they hold.
pub(crate) struct Chunks {
    first: *mut Span,
}

// SAFETY: the spans are owned by this value alone.
unsafe impl Send for Chunks {}

impl Chunks {
    /// Frees a megabyte of them; false when none is left.
    pub(crate) fn free_one(&mut self) -> bool {
        for _ in 0..SPANS_AT_A_TIME {
            if self.first.is_null() {
                return false;
            }
            let span = self.first;
            // SAFETY: the span is ours and mapped; whoever made this value promised that its objects are done with.
            unsafe {
                self.first = (*span).all.next;
                POOL.put(span);
            }
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
