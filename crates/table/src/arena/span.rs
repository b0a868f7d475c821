//! A span: 16 KiB that serve objects of one class, or runs of units for segments. Its record stands at the start of the
//! block it lies in, and both find each other by their addresses.
//!
//! Invariant: of a slab, `live` objects are out, the others are on its free list or beyond `bump`. Of a span of runs,
//! the bits in `taken` are those of the units that are out, and of those that are not there.
//! The first span of a block is shorter by the records.
//! Read next: `pool.rs`, where spans come from.

use super::class::{Class, SPAN_BYTES, UNIT_BYTES, UNITS_MAX};
use super::sys::BLOCK_BYTES;
use std::ptr::{NonNull, null_mut};

/// Spans in a block.
pub(crate) const SPANS: usize = BLOCK_BYTES / SPAN_BYTES;
/// Bytes of a span's record: a cache line, since neighbours may be of different arenas.
pub(crate) const RECORD_BYTES: usize = size_of::<Span>();
/// Bytes at the start of a block that hold the records of its spans.
pub(crate) const RECORDS_BYTES: usize = SPANS * RECORD_BYTES;

const NO_OBJECT: u16 = u16::MAX;
/// In place of a class: the span serves runs.
const RUNS: u8 = u8::MAX;

const _: () = assert!(SPANS == 128 && RECORD_BYTES == 64 && RECORDS_BYTES < SPAN_BYTES);
const _: () = assert!(SPAN_BYTES / UNIT_BYTES == u128::BITS as usize);

/// The record of one span in use.
#[repr(C, align(64))]
pub(crate) struct Span {
    /// The arena's list of spans with room for the same.
    pub(crate) room: Links,
    /// The arena's list of all its spans.
    pub(crate) all: Links,
    /// Of a span of runs: the units that are out or not there.
    taken: u128,
    /// First object of the free list, in units of 8 bytes from the span's start. The list runs through the objects.
    free: u16,
    /// Where memory never handed out begins, in the same unit.
    bump: u16,
    live: u16,
    class: u8,
}

/// Links of an intrusive doubly linked list; null at both ends.
#[repr(C)]
pub(crate) struct Links {
    pub(crate) next: *mut Span,
    pub(crate) previous: *mut Span,
}

/// Puts `span` at the head of a list whose links `links` finds.
///
/// # Safety
/// `span` is live and on no list through these links; every span on the list is live.
pub(crate) unsafe fn link(head: &mut *mut Span, span: *mut Span, links: impl Fn(*mut Span) -> *mut Links) {
    // SAFETY: by the caller's promise all pointers here are live, and only the arena's lock holder touches them.
    unsafe {
        (*links(span)).next = *head;
        (*links(span)).previous = null_mut();
        if !head.is_null() {
            (*links(*head)).previous = span;
        }
    }
    *head = span;
}

/// Takes `span` off the list it is on.
///
/// # Safety
/// `span` is on the list of `head`; every span on the list is live.
pub(crate) unsafe fn unlink(head: &mut *mut Span, span: *mut Span, links: impl Fn(*mut Span) -> *mut Links) {
    // SAFETY: by the caller's promise all pointers here are live.
    unsafe {
        let (next, previous) = ((*links(span)).next, (*links(span)).previous);
        if previous.is_null() {
            *head = next;
        } else {
            (*links(previous)).next = next;
        }
        if !next.is_null() {
            (*links(next)).previous = previous;
        }
    }
}

/// Offset of a span in its block, bytes.
pub(crate) const fn start_of(index: usize) -> usize {
    if index == 0 { RECORDS_BYTES } else { index * SPAN_BYTES }
}

/// Bytes of a span.
pub(crate) const fn bytes_of(index: usize) -> usize {
    if index == 0 { SPAN_BYTES - RECORDS_BYTES } else { SPAN_BYTES }
}

impl Span {
    /// The record of span `index` of a block.
    ///
    /// # Safety
    /// `block` is mapped, and `index` < `SPANS`.
    pub(crate) unsafe fn at(block: NonNull<u8>, index: usize) -> *mut Self {
        debug_assert!(index < SPANS);
        // SAFETY: the records lie at the start of the block.
        unsafe { block.as_ptr().cast::<Self>().add(index) }
    }

    /// Writes a record that is not in use: of a slab of `class`, or of runs where the class is served by runs.
    ///
    /// # Safety
    /// The span is the caller's alone.
    pub(crate) unsafe fn open(span: *mut Self, class: Class) {
        let nowhere = || Links { next: null_mut(), previous: null_mut() };
        let taken = Self::missing(span);
        let class = if class.units().is_some() { RUNS } else { class.index() as u8 };
        // SAFETY: the caller's promise.
        unsafe {
            span.write(Self {
                room: nowhere(),
                all: nowhere(),
                taken,
                free: NO_OBJECT,
                bump: 0,
                live: 0,
                class,
            });
        }
    }

    /// The record of the span that holds `object`.
    ///
    /// # Safety
    /// `object` was handed out by a span that is still in use.
    #[inline]
    pub(crate) unsafe fn of(object: NonNull<u8>) -> *mut Self {
        Self::place_of(object)
    }

    /// As `of`, of any address: where the record would be if the object lay in a span. To be prefetched.
    #[inline]
    pub(crate) fn place_of(object: NonNull<u8>) -> *mut Self {
        let index = object.addr().get() / SPAN_BYTES % SPANS;
        let block: *mut Self = object.as_ptr().map_addr(|address| address & !(BLOCK_BYTES - 1)).cast();
        // The records lie at the start of the block.
        block.wrapping_add(index)
    }

    /// Position in the block.
    #[inline]
    pub(crate) fn index(span: *mut Self) -> usize {
        span.addr() % BLOCK_BYTES / RECORD_BYTES
    }

    /// The block it lies in.
    pub(crate) fn block(span: *mut Self) -> *mut u8 {
        span.map_addr(|address| address & !(BLOCK_BYTES - 1)).cast()
    }

    /// Where its objects begin.
    #[inline]
    fn start(span: *mut Self) -> *mut u8 {
        // Within the block, of which the span is a part.
        Self::block(span).wrapping_add(start_of(Self::index(span)))
    }

    /// Bytes that are there to serve objects.
    #[inline]
    pub(crate) fn bytes(span: *mut Self) -> usize {
        bytes_of(Self::index(span))
    }

    /// The class a slab serves; `None` of a span of runs.
    #[inline]
    pub(crate) fn class(&self) -> Option<Class> {
        (self.class != RUNS).then(|| Class::at(self.class))
    }

    /// Units of a span of runs that are not there.
    fn missing(span: *mut Self) -> u128 {
        let units = Self::bytes(span) / UNIT_BYTES;
        u128::MAX.checked_shl(units as u32).unwrap_or(0)
    }

    /// Whether no object is out.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Objects that are out.
    #[inline]
    pub(crate) fn live(&self) -> usize {
        usize::from(self.live)
    }

    /// Whether every object of a slab is out.
    ///
    /// # Safety
    /// `span` is live and a slab, under its arena's lock.
    #[inline]
    pub(crate) unsafe fn is_full(span: *mut Self, class: Class) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            let end = usize::from((*span).bump) * 8 + class.bytes();
            (*span).free == NO_OBJECT && end > Self::bytes(span)
        }
    }

    /// Hands out an object of a slab.
    ///
    /// # Safety
    /// As `is_full`, and the span is not full.
    #[inline]
    pub(crate) unsafe fn take(span: *mut Self, class: Class) -> NonNull<u8> {
        // SAFETY: the span is not full: either the free list has an object, or one fits between `bump` and the end.
        // Offsets stay within the block the record lies in.
        unsafe {
            let start = Self::start(span);
            (*span).live += 1;
            let at = (*span).free;
            let object = if at != NO_OBJECT {
                let object = start.add(usize::from(at) * 8);
                (*span).free = object.cast::<u16>().read();
                object
            } else {
                let object = start.add(usize::from((*span).bump) * 8);
                (*span).bump += (class.bytes() / 8) as u16;
                object
            };
            NonNull::new_unchecked(object)
        }
    }

    /// Takes an object of a slab back.
    ///
    /// # Safety
    /// As `is_full`; `object` is a live object of this span, used by nobody any more.
    #[inline]
    pub(crate) unsafe fn put(span: *mut Self, object: NonNull<u8>) {
        // SAFETY: the object is at least 16 bytes, ours again, and lies behind the span's start.
        unsafe {
            debug_assert!((*span).live > 0);
            let at = (object.addr().get() - Self::start(span).addr()) / 8;
            object.cast::<u16>().write((*span).free);
            (*span).free = at as u16;
            (*span).live -= 1;
        }
    }

    /// The longest run a span of runs can hand out, in units, at most `UNITS_MAX`; 0 when it is full.
    pub(crate) fn longest_run(&self) -> usize {
        runs(self.taken).map(|(_, units)| units).max().unwrap_or(0).min(UNITS_MAX)
    }

    /// Hands out a run: from the shortest free one that holds it, lest long ones be broken.
    ///
    /// # Safety
    /// `span` is live and of runs, under its arena's lock; `units` <= `longest_run`.
    pub(crate) unsafe fn take_run(span: *mut Self, units: usize) -> NonNull<u8> {
        // SAFETY: the caller's promise; the run lies in the span, since bits of units that are not there are set.
        unsafe {
            let fit = best_fit((*span).taken, units);
            debug_assert!(fit.is_some(), "the list promised a run");
            let at = fit.unwrap_or(0);
            (*span).taken |= run_bits(at, units);
            (*span).live += 1;
            NonNull::new_unchecked(Self::start(span).add(at * UNIT_BYTES))
        }
    }

    /// Takes a run back.
    ///
    /// # Safety
    /// As `take_run`; `object` is a live run of so many units, used by nobody any more.
    pub(crate) unsafe fn put_run(span: *mut Self, object: NonNull<u8>, units: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let at = (object.addr().get() - Self::start(span).addr()) / UNIT_BYTES;
            debug_assert_eq!(
                !(*span).taken & run_bits(at, units),
                0,
                "freed with another size than allocated"
            );
            (*span).taken &= !run_bits(at, units);
            (*span).live -= 1;
        }
    }

    /// Checks the record; returns the bytes in live objects.
    ///
    /// # Safety
    /// `span` is live, under its arena's lock.
    pub(crate) unsafe fn check(span: *mut Self) -> usize {
        // SAFETY: the caller's promise.
        let it = unsafe { &*span };
        assert!(it.live > 0, "an empty span was kept");
        let Some(class) = it.class() else {
            let missing = Self::missing(span);
            assert_eq!(it.taken & missing, missing);
            let units = (it.taken & !missing).count_ones() as usize;
            assert!(units >= usize::from(it.live));
            return units * UNIT_BYTES;
        };
        let (mut listed, mut at) = (0, it.free);
        while at != NO_OBJECT {
            assert!(at < it.bump && usize::from(at) * 8 % class.bytes() == 0);
            listed += 1;
            assert!(listed <= it.bump, "the free list is a cycle");
            // SAFETY: `at` is an object of this span by the assertion above.
            at = unsafe { Self::start(span).add(usize::from(at) * 8).cast::<u16>().read() };
        }
        let out = usize::from(it.bump) * 8 / class.bytes();
        assert_eq!(out, usize::from(it.live) + usize::from(listed));
        usize::from(it.live) * class.bytes()
    }
}

/// The free runs among 128 units: where each begins and how long it is.
fn runs(taken: u128) -> impl Iterator<Item = (usize, usize)> {
    let mut free = !taken;
    std::iter::from_fn(move || {
        if free == 0 {
            return None;
        }
        let at = free.trailing_zeros();
        let units = (free >> at).trailing_ones();
        free &= u128::MAX.checked_shl(at + units).unwrap_or(0);
        Some((at as usize, units as usize))
    })
}

/// Where the shortest free run of at least `units` begins.
fn best_fit(taken: u128, units: usize) -> Option<usize> {
    runs(taken).filter(|(_, free)| *free >= units).min_by_key(|(_, free)| *free).map(|(at, _)| at)
}

/// The bits of a run. `units` is at least 1 and at most `UNITS_MAX`.
fn run_bits(at: usize, units: usize) -> u128 {
    ((1 << units) - 1) << at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same, a unit at a time.
    fn best_fit_slowly(taken: &[bool], units: usize) -> Option<usize> {
        let mut best: Option<(usize, usize)> = None;
        let mut at = 0;
        while at < taken.len() {
            let free = taken[at..].iter().take_while(|taken| !**taken).count();
            if free >= units && best.is_none_or(|(shortest, _)| free < shortest) {
                best = Some((free, at));
            }
            at += free.max(1);
        }
        best.map(|(_, at)| at)
    }

    proptest! {
        #[test]
        fn runs_are_found_as_by_counting(words in any::<[u128; 3]>(), units in 1..=UNITS_MAX) {
            for taken in [words[0], words[0] | words[1], words[0] & words[1], words[0] & words[1] & words[2], 0, u128::MAX] {
                let flags: Vec<bool> = (0..128).map(|bit| taken >> bit & 1 == 1).collect();
                let fit = best_fit(taken, units);
                prop_assert_eq!(fit, best_fit_slowly(&flags, units));
                if let Some(at) = fit {
                    prop_assert_eq!(taken & run_bits(at, units), 0);
                }
                let longest = (0..=128).rev().find(|units| best_fit_slowly(&flags, *units).is_some());
                let found = runs(taken).map(|(_, units)| units).max().unwrap_or(0);
                prop_assert_eq!(Some(found).filter(|units| *units > 0), longest.filter(|units| *units > 0));
            }
        }
    }
}
