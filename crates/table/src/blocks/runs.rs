//! Blocks of more than 64 KiB: runs of whole pages, so that what is free between them can be given back page by page, and
//! none of them ever needs to be moved to that end. To map each by itself would do as much, but a process may have only
//! some 65,000 mappings.
//!
//! ```text
//! stretch 2 MiB: 512 pages of 4 KiB, the first of which begins with the stretch's head
//! ```
//! A stretch's head has a bit for each page: whether it is taken, and, of a free one, whether it may be resident (idle).
//! Stretches are listed by the length of their longest free run, so one that fits is found without a search.
//! Invariant: a free page that is not idle reads as zero. Nothing under the lock panics, allocates, or asks the system
//! for anything but a new region.

use super::bits::Bits;
use super::lock::{Guarded, add, subtract};
use crate::arena::sys::{BLOCK_BYTES as STRETCH_BYTES, PAGE_BYTES, REGION_BYTES, discard, map_region};
use std::ops::Range;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicUsize;

/// Pages of a stretch.
pub(super) const PAGES: usize = STRETCH_BYTES / PAGE_BYTES;
/// Lists of stretches: by the binary logarithm of the longest free run.
const LISTS: usize = PAGES.ilog2() as usize + 1;
/// The list of those without a free page, which is none.
const UNLISTED: usize = LISTS;
/// Stretches that are looked at where their list does not tell whether one fits.
const LOOKS: usize = 4;

/// The head of a stretch.
#[repr(C, align(64))]
struct Stretch {
    /// The list it is on.
    next: *mut Stretch,
    previous: *mut Stretch,
    /// The pool's list of all its stretches. Never changes.
    after: *mut Stretch,
    /// Pages that are not free; the first never is.
    taken: Bits,
    /// Free pages that may be resident.
    idle: Bits,
    /// The length of the longest free run, and which list it stands on for that.
    longest: u32,
    listed: u32,
    /// The number of the pool. Never changes.
    pool: u32,
}

const _: () = assert!(size_of::<Stretch>() <= PAGE_BYTES);

/// What one or some threads allocate from.
#[repr(align(128))]
pub(super) struct Runs {
    state: Guarded<State>,
    /// Bytes of runs that are out. Written under the lock, read by anybody.
    pub(super) live: AtomicUsize,
}

struct State {
    /// Stretches by their longest free run.
    lists: [*mut Stretch; LISTS],
    all: *mut Stretch,
    /// Stretches mapped and never used: from `fresh` to `fresh_end`.
    fresh: *mut u8,
    fresh_end: *mut u8,
    used_pages: usize,
    /// Free pages that may be resident.
    idle_pages: usize,
}

// SAFETY: what its pointers lead to belongs to the pool, and is touched under its lock only.
unsafe impl Send for State {}

/// Pages of a block.
#[inline]
pub(super) fn pages_of(bytes: usize) -> usize {
    bytes.div_ceil(PAGE_BYTES)
}

fn stretch_of(block: NonNull<u8>) -> *mut Stretch {
    block.as_ptr().map_addr(|address| address & !(STRETCH_BYTES - 1)).cast()
}

fn page_of(block: NonNull<u8>) -> usize {
    block.addr().get() % STRETCH_BYTES / PAGE_BYTES
}

fn address_of(stretch: *mut Stretch, page: usize) -> *mut u8 {
    stretch.cast::<u8>().wrapping_add(page * PAGE_BYTES)
}

/// The number of the pool that a block came from.
///
/// # Safety
/// The block is a live run.
#[inline]
pub(super) unsafe fn pool_of(block: NonNull<u8>) -> usize {
    // SAFETY: the stretch of a live run has its head, and its pool never changes.
    unsafe { (*stretch_of(block)).pool as usize }
}

impl Runs {
    pub(super) const fn new() -> Runs {
        let state = State {
            lists: [null_mut(); LISTS],
            all: null_mut(),
            fresh: null_mut(),
            fresh_end: null_mut(),
            used_pages: 0,
            idle_pages: 0,
        };
        Runs { state: Guarded::new(state), live: AtomicUsize::new(0) }
    }

    /// A run of so many pages, at least one and at most half a stretch, from pool `number`, which this is; and which of its
    /// pages may hold something, by their place in the stretch.
    pub(super) fn take(&self, number: usize, pages: usize) -> (NonNull<u8>, Bits) {
        self.state.hold(|state| {
            add(&self.live, pages * PAGE_BYTES);
            // SAFETY: the lock is held.
            unsafe { state.take(number, pages) }
        })
    }

    /// Makes a run a zeroed one, of which these pages may hold something, as `take` answers.
    ///
    /// # Safety
    /// `take` answered both, and nobody uses the run yet.
    pub(super) unsafe fn zero(block: NonNull<u8>, used: &Bits) {
        for span in used.spans(true) {
            let start = address_of(stretch_of(block), span.start);
            // SAFETY: the pages are the run's, which is the caller's alone.
            unsafe { start.write_bytes(0, span.len() * PAGE_BYTES) };
        }
    }

    /// Takes a run back.
    ///
    /// # Safety
    /// `take` of this pool returned it for so many pages, or it was made so long, and nobody uses it any more.
    pub(super) unsafe fn put(&self, block: NonNull<u8>, pages: usize) {
        self.state.hold(|state| {
            subtract(&self.live, pages * PAGE_BYTES);
            let page = page_of(block);
            // SAFETY: the lock is held, and the caller's promise.
            unsafe { state.free(stretch_of(block), page..page + pages) }
        });
    }

    /// Makes a run longer or shorter where it is; whether that could be done.
    ///
    /// # Safety
    /// As `put`, but for the use.
    pub(super) unsafe fn resize(&self, block: NonNull<u8>, before: usize, after: usize) -> bool {
        self.state.hold(|state| {
            let (stretch, page) = (stretch_of(block), page_of(block));
            let (old, new) = (page + before, page + after);
            // SAFETY: the lock is held; the run is live, so the pages that it loses are its own, and those it gains are
            // looked at first.
            unsafe {
                if new < old {
                    state.free(stretch, new..old);
                } else if new > PAGES || (*stretch).taken.count(old..new) > 0 {
                    return false;
                } else {
                    state.claim(stretch, old..new);
                }
            }
            subtract(&self.live, before * PAGE_BYTES);
            add(&self.live, after * PAGE_BYTES);
            true
        })
    }

    /// Gives idle pages back while there are more of them than `keep` says of those in use; how many bytes.
    pub(super) fn release(&self, keep: impl Fn(usize) -> usize) -> usize {
        let mut bytes = 0;
        let mut stretch = self.state.hold(|state| state.all);
        while !stretch.is_null() {
            let withheld = self.state.hold(|state| {
                let wanted = state.idle_pages > keep(state.used_pages);
                // SAFETY: stretches stay mapped, and this one is the pool's.
                if wanted { unsafe { state.withhold(stretch) } } else { Bits::default() }
            });
            if withheld != Bits::default() {
                let mut left = Bits::default();
                for span in withheld.spans(true) {
                    let (start, len) = (address_of(stretch, span.start), span.len() * PAGE_BYTES);
                    // SAFETY: the pages are withheld: nothing is in them, and nobody is given them; an address in a mapping
                    // is not null.
                    let given = unsafe { discard(NonNull::new_unchecked(start), len) };
                    bytes += given;
                    if given < len {
                        left.put(span, true);
                    }
                }
                // SAFETY: as for `withhold`, which withheld them.
                self.state.hold(|state| unsafe { state.restore(stretch, &withheld, &left) });
            }
            // SAFETY: stretches stay mapped, and `after` never changes.
            stretch = unsafe { (*stretch).after };
        }
        bytes
    }
}

impl State {
    /// # Safety
    /// The lock of the pool whose state this is, is held; so for all that follows.
    unsafe fn take(&mut self, number: usize, pages: usize) -> (NonNull<u8>, Bits) {
        // SAFETY: stretches on the lists are live, and a page of one does not begin at null.
        unsafe {
            let stretch = match self.fitting(pages) {
                Some(stretch) => stretch,
                None => self.open(number),
            };
            let Some(run) = (*stretch).taken.spans(false).find(|run| run.len() >= pages) else {
                // A list said what is not so: to go on would give memory out twice.
                std::process::abort()
            };
            let run = run.start..run.start + pages;
            let mut used = Bits::default();
            for span in (*stretch).idle.spans(true) {
                used.put(span.start.max(run.start)..span.end.min(run.end).max(run.start), true);
            }
            self.claim(stretch, run.clone());
            (NonNull::new_unchecked(address_of(stretch, run.start)), used)
        }
    }

    /// A stretch with a free run of so many pages: one whose longest is hardly longer, if one is near.
    ///
    /// # Safety
    /// As `take`.
    unsafe fn fitting(&self, pages: usize) -> Option<*mut Stretch> {
        let list = pages.ilog2() as usize;
        let mut stretch = *self.lists.get(list)?;
        // SAFETY: stretches on the lists are live.
        unsafe {
            for _ in 0..LOOKS {
                if stretch.is_null() {
                    break;
                }
                if (*stretch).longest as usize >= pages {
                    return Some(stretch);
                }
                stretch = (*stretch).next;
            }
        }
        self.lists.iter().skip(list + 1).copied().find(|stretch| !stretch.is_null())
    }

    /// Takes free pages.
    ///
    /// # Safety
    /// As `take`; the stretch is the pool's, and the pages are free.
    unsafe fn claim(&mut self, stretch: *mut Stretch, pages: Range<usize>) {
        self.used_pages += pages.len();
        // SAFETY: stretches stay mapped.
        unsafe {
            self.idle_pages -= (*stretch).idle.count(pages.clone());
            (*stretch).idle.put(pages.clone(), false);
            (*stretch).taken.put(pages, true);
            self.relist(stretch);
        }
    }

    /// Frees taken pages.
    ///
    /// # Safety
    /// As `take`; the stretch is the pool's, and the pages are those of a run or its end.
    unsafe fn free(&mut self, stretch: *mut Stretch, pages: Range<usize>) {
        self.used_pages -= pages.len();
        self.idle_pages += pages.len();
        // SAFETY: stretches stay mapped.
        unsafe {
            debug_assert_eq!((*stretch).taken.count(pages.clone()), pages.len(), "freed twice");
            (*stretch).idle.put(pages.clone(), true);
            (*stretch).taken.put(pages, false);
            self.relist(stretch);
        }
    }

    /// Takes the idle pages of a stretch out of everybody's reach; answers which.
    ///
    /// # Safety
    /// As `take`; the stretch is the pool's.
    unsafe fn withhold(&mut self, stretch: *mut Stretch) -> Bits {
        // SAFETY: stretches stay mapped.
        unsafe {
            let idle = std::mem::take(&mut (*stretch).idle);
            if idle != Bits::default() {
                self.idle_pages -= idle.count(0..PAGES);
                (*stretch).taken.set_all(&idle);
                self.relist(stretch);
            }
            idle
        }
    }

    /// Makes pages that were withheld free again; `left` are those that the system did not take.
    ///
    /// # Safety
    /// As `withhold`, which withheld them from this stretch.
    unsafe fn restore(&mut self, stretch: *mut Stretch, withheld: &Bits, left: &Bits) {
        self.idle_pages += left.count(0..PAGES);
        // SAFETY: stretches stay mapped.
        unsafe {
            (*stretch).taken.clear_all(withheld);
            (*stretch).idle.set_all(left);
            self.relist(stretch);
        }
    }

    /// Puts a stretch on the list that its longest free run asks for.
    ///
    /// # Safety
    /// As `take`; the stretch is the pool's.
    unsafe fn relist(&mut self, stretch: *mut Stretch) {
        // SAFETY: stretches stay mapped, and those on the lists are the pool's.
        unsafe {
            let longest = (*stretch).taken.spans(false).map(|run| run.len()).max().unwrap_or(0);
            let (before, after) =
                ((*stretch).listed as usize, longest.checked_ilog2().map_or(UNLISTED, |list| list as usize));
            (*stretch).longest = longest as u32;
            if before == after {
                return;
            }
            (*stretch).listed = after as u32;
            let (next, previous) = ((*stretch).next, (*stretch).previous);
            if !next.is_null() {
                (*next).previous = previous;
            }
            if !previous.is_null() {
                (*previous).next = next;
            } else if let Some(head) = self.lists.get_mut(before) {
                *head = next;
            }
            ((*stretch).next, (*stretch).previous) = (null_mut(), null_mut());
            if let Some(head) = self.lists.get_mut(after) {
                (*stretch).next = *head;
                if !head.is_null() {
                    (**head).previous = stretch;
                }
                *head = stretch;
            }
        }
    }

    /// Makes a stretch, all of it free but for its head, and lists it.
    ///
    /// # Safety
    /// As `take`.
    #[cold]
    unsafe fn open(&mut self, number: usize) -> *mut Stretch {
        if self.fresh == self.fresh_end {
            self.fresh = map_region().as_ptr();
            self.fresh_end = self.fresh.wrapping_add(REGION_BYTES);
        }
        let stretch: *mut Stretch = self.fresh.cast();
        self.fresh = self.fresh.wrapping_add(STRETCH_BYTES);
        let mut taken = Bits::default();
        taken.put(0..1, true);
        // SAFETY: the stretch is mapped, aligned to its size and nobody's yet.
        unsafe {
            stretch.write(Stretch {
                next: null_mut(),
                previous: null_mut(),
                after: self.all,
                taken,
                idle: Bits::default(),
                longest: 0,
                listed: UNLISTED as u32,
                pool: number as u32,
            });
            self.all = stretch;
            self.relist(stretch);
        }
        stretch
    }
}

#[cfg(test)]
impl Runs {
    /// Checks lists, bits and counters against each other. Panics where one is wrong.
    pub(super) fn check(&self) {
        // SAFETY: stretches on the lists are live; the lock is held, for `hold` alone hands out states.
        let used = self.state.hold(|state| unsafe {
            let next = |next: fn(&Stretch) -> *mut Stretch| {
                move |stretch: &*mut Stretch| {
                    let next = next(&**stretch);
                    (!next.is_null()).then_some(next)
                }
            };
            let first = |first: *mut Stretch| (!first.is_null()).then_some(first);
            let (mut used, mut idle, mut listed) = (0, 0, 0);
            for stretch in std::iter::successors(first(state.all), next(|stretch| stretch.after)) {
                let Stretch { taken, idle: free, longest, .. } = *stretch;
                used += taken.count(0..PAGES) - 1;
                idle += free.count(0..PAGES);
                assert_eq!(taken.count(0..1), 1);
                assert!(free.spans(true).all(|span| taken.count(span) == 0), "idle and taken");
                let found = taken.spans(false).map(|run| run.len()).max().unwrap_or(0);
                assert_eq!(found, longest as usize);
                listed += usize::from(found > 0);
            }
            for (list, head) in state.lists.iter().enumerate() {
                for stretch in std::iter::successors(first(*head), next(|stretch| stretch.next)) {
                    assert_eq!(
                        ((*stretch).listed as usize, (*stretch).longest.ilog2() as usize),
                        (list, list)
                    );
                    listed -= 1;
                }
            }
            assert_eq!(listed, 0, "a stretch with room is on no list");
            assert_eq!((used, idle), (state.used_pages, state.idle_pages));
            used
        });
        assert_eq!(self.live.load(std::sync::atomic::Ordering::Relaxed), used * PAGE_BYTES);
    }
}
