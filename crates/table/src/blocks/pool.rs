//! Pools: lists of slabs and tracts behind a lock.
//!
//! Invariant: what a pool's pointers lead to is touched under its lock only, but for what never changes. Nothing under the lock
//! panics, allocates, or asks the system for anything but a new region.
//! Read next: `State::take` and `State::put`.

use super::class::{CLASSES, Class, ORDERS, UNIT_BYTES};
use super::lock::{Guarded, add, subtract};
use super::tract::{
    ADDRESS_BITS, NO_CLASS, Slab, Tract, claim, free_run, largest_order, run_bits, slab_of, start_of,
    tract_of, unit_of,
};
use crate::arena::sys::{BLOCK_BYTES as TRACT_BYTES, REGION_BYTES, discard, map_region};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicUsize;

/// Slabs that are compared when a block may move.
const COMPARED: usize = 32;

/// What one or some threads allocate from.
#[repr(align(128))]
pub(super) struct Pool {
    state: Guarded<State>,
    /// Bytes of blocks that are out. Written under the lock, read by anybody.
    pub(super) live: AtomicUsize,
    /// Bytes of slabs. As above.
    pub(super) slabs: AtomicUsize,
}

/// The lists of a pool.
pub(super) struct State {
    /// Slabs with room, by class.
    slabs: [*mut Slab; CLASSES],
    /// Tracts by the largest order of which they have a free run.
    tracts: [*mut Tract; ORDERS],
    /// All tracts.
    pub(super) all: *mut Tract,
    /// Tracts mapped and never used: from `fresh` to `fresh_end`.
    fresh: *mut u8,
    fresh_end: *mut u8,
    /// Units of slabs.
    pub(super) used_units: usize,
    /// Free units whose pages may be resident.
    pub(super) idle_units: usize,
}

// SAFETY: what its pointers lead to belongs to the pool, and is touched under its lock only.
unsafe impl Send for State {}

impl Pool {
    pub(super) const fn new() -> Pool {
        let state = State {
            slabs: [null_mut(); CLASSES],
            tracts: [null_mut(); ORDERS],
            all: null_mut(),
            fresh: null_mut(),
            fresh_end: null_mut(),
            used_units: 0,
            idle_units: 0,
        };
        Pool { state: Guarded::new(state), live: AtomicUsize::new(0), slabs: AtomicUsize::new(0) }
    }

    /// Runs `act` under the lock. It must neither panic nor allocate.
    #[inline]
    pub(super) fn hold<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        self.state.hold(act)
    }

    /// A block of a class, from pool `number`, which this is.
    #[inline]
    pub(super) fn take(&self, number: usize, class: Class) -> NonNull<u8> {
        self.hold(|state| {
            add(&self.live, class.bytes());
            // SAFETY: the lock is held.
            unsafe { state.take(self, number, class) }
        })
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// `take` of this pool returned it for this class, and nobody uses it any more.
    #[inline]
    pub(super) unsafe fn put(&self, block: NonNull<u8>, class: Class) {
        self.hold(|state| {
            subtract(&self.live, class.bytes());
            // SAFETY: the lock is held, and the caller's promise.
            unsafe { state.put(self, block, class) }
        });
    }

    /// Gives the pages of idle units back while there are more of them than `keep` says; how many bytes.
    pub(super) fn release(&self, keep: impl Fn(&State) -> usize) -> usize {
        let mut bytes = 0;
        let mut tract = self.hold(|state| state.all);
        while !tract.is_null() {
            // SAFETY: tracts stay mapped, and this one is the pool's.
            let withheld =
                self.hold(|state| unsafe { state.withhold(tract, state.idle_units > keep(state)) });
            if withheld != 0 {
                // SAFETY: the units are the tract's and withheld: nothing is in them, and nobody is given them.
                unsafe { discard_units(tract, withheld) };
                // SAFETY: as for `withhold`, which withheld them.
                self.hold(|state| unsafe { state.restore(tract, withheld) });
                bytes += withheld.count_ones() as usize * UNIT_BYTES;
            } else {
                // SAFETY: tracts stay mapped, and `after` never changes.
                tract = unsafe { (*tract).after };
            }
        }
        bytes
    }
}

/// Gives the pages of units back to the system.
///
/// # Safety
/// The tract is ours; nothing is in the units, its head is not, and they are the caller's alone.
unsafe fn discard_units(tract: *mut Tract, mut units: u64) {
    while units != 0 {
        let first = units.trailing_zeros();
        let count = (units >> first).trailing_ones();
        units &= u64::MAX.checked_shl(first + count).unwrap_or(0);
        let start = tract.cast::<u8>().wrapping_add(first as usize * UNIT_BYTES);
        // SAFETY: the units lie in the tract, which is mapped, and the caller's promise; an address in a mapping is not null.
        unsafe { discard(NonNull::new_unchecked(start), count as usize * UNIT_BYTES) };
    }
}

/// Ends the process: a list of the pool said what is not so. To go on would give memory out twice.
#[cold]
fn broken() -> ! {
    std::process::abort()
}

impl State {
    /// # Safety
    /// The lock of `pool`, whose state this is, is held; so for all that follows.
    #[inline]
    unsafe fn take(&mut self, pool: &Pool, number: usize, class: Class) -> NonNull<u8> {
        // SAFETY: slabs on the lists are live and have room, and their blocks lie in a mapping, which does not begin at null.
        unsafe {
            let mut slab = self.slabs[class.index()];
            if slab.is_null() {
                slab = self.open(pool, number, class);
            }
            let at = (!(*slab).used).trailing_zeros() as usize;
            debug_assert!(at < class.blocks);
            (*slab).used |= 1 << at;
            if (*slab).used == class.all() {
                self.unlink(slab, class);
            }
            NonNull::new_unchecked(start_of(slab).add(at * class.bytes()))
        }
    }

    /// # Safety
    /// As `take`; the block is a live one of this class and of the pool.
    #[inline]
    unsafe fn put(&mut self, pool: &Pool, block: NonNull<u8>, class: Class) {
        // SAFETY: a slab is aligned to its size, so its record is found from the block's address; it is live as long as
        // a block of it is.
        unsafe {
            let slab = slab_of(tract_of(block.as_ptr()), block.addr().get(), class);
            debug_assert_eq!((*slab).class as usize, class.index(), "freed with another size than allocated");
            let at = (block.addr().get() & (class.slab_bytes() - 1)) / class.bytes();
            debug_assert!((*slab).used >> at & 1 == 1, "freed twice");
            let was_full = (*slab).used == class.all();
            (*slab).used &= !(1 << at);
            if (*slab).used == 0 {
                if !was_full {
                    self.unlink(slab, class);
                }
                self.close(pool, slab, class);
            } else if was_full {
                self.link(slab, class);
            }
        }
    }

    /// Lists a slab as having room.
    ///
    /// # Safety
    /// As `take`; the slab is live, of this class, and not listed.
    unsafe fn link(&mut self, slab: *mut Slab, class: Class) {
        let head = &mut self.slabs[class.index()];
        // SAFETY: slabs on the lists are live.
        unsafe {
            ((*slab).next, (*slab).previous) = (*head, null_mut());
            if !head.is_null() {
                (**head).previous = slab;
            }
        }
        *head = slab;
    }

    /// # Safety
    /// As `take`; the slab is listed, under this class.
    unsafe fn unlink(&mut self, slab: *mut Slab, class: Class) {
        // SAFETY: slabs on the lists are live, and this is one of them.
        unsafe {
            let (next, previous) = ((*slab).next, (*slab).previous);
            if previous.is_null() {
                self.slabs[class.index()] = next;
            } else {
                (*previous).next = next;
            }
            if !next.is_null() {
                (*next).previous = previous;
            }
        }
    }

    /// Opens a slab and lists it.
    ///
    /// # Safety
    /// As `take`.
    #[cold]
    unsafe fn open(&mut self, pool: &Pool, number: usize, class: Class) -> *mut Slab {
        // The tract with the shortest run that is long enough, lest long ones be broken.
        let fitting = self.tracts[class.order..].iter().copied().find(|tract| !tract.is_null());
        // SAFETY: tracts on the lists are live and have a free run as long as their list says.
        unsafe {
            let tract = match fitting {
                Some(tract) => tract,
                None => self.open_tract(number),
            };
            let Some(unit) = free_run((*tract).taken, class.order) else { broken() };
            let run = run_bits(unit, class.order);
            self.idle_units -= ((*tract).idle & run).count_ones() as usize;
            self.used_units += 1 << class.order;
            (*tract).idle &= !run;
            (*tract).taken |= run;
            self.relist(tract);
            let slab = &raw mut (*tract).slabs[unit];
            (*slab).used = 0;
            (*slab).class = class.index() as u32;
            self.link(slab, class);
            add(&pool.slabs, class.slab_bytes());
            slab
        }
    }

    /// Takes an empty slab back.
    ///
    /// # Safety
    /// As `take`; the slab is live, of this class, empty, and not listed.
    #[cold]
    unsafe fn close(&mut self, pool: &Pool, slab: *mut Slab, class: Class) {
        // SAFETY: the slab is live; it lies in its tract's head.
        unsafe {
            let tract = tract_of(slab.cast());
            let run = run_bits(unit_of(slab), class.order);
            (*slab).class = NO_CLASS;
            (*tract).taken &= !run;
            (*tract).idle |= run;
            self.idle_units += 1 << class.order;
            self.used_units -= 1 << class.order;
            self.relist(tract);
        }
        subtract(&pool.slabs, class.slab_bytes());
    }

    /// Puts a tract on the list that its free runs ask for.
    ///
    /// # Safety
    /// As `take`; the tract is the pool's.
    unsafe fn relist(&mut self, tract: *mut Tract) {
        // SAFETY: tracts stay mapped, and those on the lists are the pool's.
        unsafe {
            let (before, after) = ((*tract).listed as usize, largest_order((*tract).taken));
            if before == after {
                return;
            }
            if before < ORDERS {
                let (next, previous) = ((*tract).next, (*tract).previous);
                if previous.is_null() {
                    self.tracts[before] = next;
                } else {
                    (*previous).next = next;
                }
                if !next.is_null() {
                    (*next).previous = previous;
                }
            }
            if after < ORDERS {
                let head = self.tracts[after];
                ((*tract).next, (*tract).previous) = (head, null_mut());
                if !head.is_null() {
                    (*head).previous = tract;
                }
                self.tracts[after] = tract;
            }
            (*tract).listed = after as u32;
        }
    }

    /// Makes a tract, all of it free but for its head, and lists it.
    ///
    /// # Safety
    /// As `take`.
    #[cold]
    unsafe fn open_tract(&mut self, number: usize) -> *mut Tract {
        if self.fresh == self.fresh_end {
            let region = map_region().as_ptr();
            if (region.addr() + REGION_BYTES) >> ADDRESS_BITS != 0 {
                // The kernel maps such addresses only for who asks for them.
                broken();
            }
            self.fresh = region;
            self.fresh_end = region.wrapping_add(REGION_BYTES);
        }
        let tract: *mut Tract = self.fresh.cast();
        self.fresh = self.fresh.wrapping_add(TRACT_BYTES);
        // SAFETY: the tract is mapped, aligned to its size and nobody's yet.
        unsafe {
            tract.write(Tract::unused(number, self.all));
            self.all = tract;
            self.relist(tract);
        }
        claim(tract);
        tract
    }

    /// Finds the fullest of the slabs with room of a class and puts it first. Answers it, and of those that were compared
    /// how many there are and how many blocks are out of them.
    pub(super) fn fullest_first(&mut self, class: Class) -> (*mut Slab, usize, usize) {
        let (mut slabs, mut live) = (0, 0);
        let mut fullest: *mut Slab = null_mut();
        let mut slab = self.slabs[class.index()];
        // SAFETY: slabs on the lists are live; the lock is held, for `hold` alone hands out states.
        unsafe {
            // By address where two are as full, so that neither gives to the other in turn.
            let rank = |slab: *mut Slab| ((*slab).used.count_ones(), std::cmp::Reverse(slab.addr()));
            while !slab.is_null() && slabs < COMPARED {
                slabs += 1;
                live += (*slab).used.count_ones() as usize;
                if fullest.is_null() || rank(slab) > rank(fullest) {
                    fullest = slab;
                }
                slab = (*slab).next;
            }
            if !fullest.is_null() && fullest != self.slabs[class.index()] {
                self.unlink(fullest, class);
                self.link(fullest, class);
            }
        }
        (fullest, slabs, live)
    }

    /// Whether the block at an address should move; see the function of the module. `own`: it will move within this pool.
    ///
    /// # Safety
    /// As `take`; the tract is the pool's, and the address lies in it.
    pub(super) unsafe fn is_sparse(
        &mut self,
        tract: *mut Tract,
        address: usize,
        class: Class,
        own: bool,
    ) -> bool {
        // SAFETY: the tract is live; the record lies in its head, whatever the address.
        unsafe {
            let slab = slab_of(tract, address, class);
            if (*slab).class as usize != class.index() || (*slab).used == class.all() {
                return false;
            }
            let (fullest, slabs, live) = self.fullest_first(class);
            let room = slabs * class.blocks - live;
            let is_emptier = (*slab).used.count_ones() as usize * slabs <= live;
            // Into another pool it may move from the fullest, too: that pool's is no emptier than none.
            is_emptier && room >= class.blocks && (fullest != slab || !own && slabs > 1)
        }
    }

    /// Takes some idle units of a tract out of everybody's reach if `wanted`; answers which.
    ///
    /// # Safety
    /// As `take`; the tract is the pool's.
    unsafe fn withhold(&mut self, tract: *mut Tract, wanted: bool) -> u64 {
        // SAFETY: tracts stay mapped.
        unsafe {
            let units = if wanted { (*tract).idle } else { 0 };
            if units != 0 {
                (*tract).idle &= !units;
                (*tract).taken |= units;
                self.idle_units -= units.count_ones() as usize;
                self.relist(tract);
            }
            units
        }
    }

    /// Makes units that were withheld free again.
    ///
    /// # Safety
    /// As `withhold`, which withheld them from this tract.
    unsafe fn restore(&mut self, tract: *mut Tract, units: u64) {
        // SAFETY: tracts stay mapped.
        unsafe {
            (*tract).taken &= !units;
            self.relist(tract);
        }
    }

    /// Checks lists and bits against each other; answers the bytes of blocks that are out and of slabs.
    #[cfg(test)]
    pub(super) fn check(&mut self) -> (usize, usize) {
        let (mut live, mut slabs, mut roomy, mut units, mut idle) = (0, 0, 0, 0, 0);
        // SAFETY: tracts and slabs on the lists are live; the lock is held.
        unsafe {
            for tract in listed(self.all, |tract| (*tract).after) {
                let mut taken = 1;
                for (unit, slab) in
                    (*tract).slabs.iter().enumerate().filter(|(_, slab)| slab.class != NO_CLASS)
                {
                    let class = Class::at(slab.class as usize);
                    assert!(slab.used != 0 && slab.used & !class.all() == 0, "an empty slab was kept");
                    live += slab.used.count_ones() as usize * class.bytes();
                    slabs += class.slab_bytes();
                    roomy += usize::from(slab.used != class.all());
                    assert_eq!(taken & run_bits(unit, class.order), 0, "slabs overlap");
                    taken |= run_bits(unit, class.order);
                }
                // Nobody gives pages back while a test looks.
                assert_eq!(((*tract).taken, (*tract).idle & taken), (taken, 0));
                assert_eq!((*tract).listed as usize, largest_order(taken));
                units += taken.count_ones() as usize - 1;
                idle += (*tract).idle.count_ones() as usize;
            }
            for (order, head) in self.tracts.iter().enumerate() {
                assert!(listed(*head, |tract| (*tract).next).all(|tract| (*tract).listed as usize == order));
            }
            for (class, head) in self.slabs.iter().enumerate() {
                for slab in listed(*head, |slab| (*slab).next) {
                    assert_eq!((*slab).class as usize, class);
                    roomy -= 1;
                }
            }
        }
        assert_eq!(roomy, 0, "a slab with room is on no list");
        assert_eq!((units, idle), (self.used_units, self.idle_units));
        (live, slabs)
    }
}

/// What is on a list.
#[cfg(test)]
fn listed<T>(first: *mut T, next: impl Fn(*mut T) -> *mut T) -> impl Iterator<Item = *mut T> {
    let there = |item: *mut T| (!item.is_null()).then_some(item);
    std::iter::successors(there(first), move |item| there(next(*item)))
}
