//! Tracts: 2 MiB aligned to their size, cut into units, of which slabs are made. A tract begins with its head, where
//! the records of its slabs stand, so that a block's address leads to both.
//!
//! Invariant: a unit is of a slab, free, or withheld while its pages are given back; `taken` has the bits of all that are not
//! free. A slab is as many units as its order says, aligned to its size.

use super::class::{Class, ORDERS, UNIT_BYTES};
use crate::arena::sys::BLOCK_BYTES as TRACT_BYTES;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub(super) const UNITS: usize = TRACT_BYTES / UNIT_BYTES;
/// Addresses of user space, as bits.
pub(super) const ADDRESS_BITS: u32 = 48;

const _: () = assert!(UNITS == u64::BITS as usize && UNIT_BYTES << (ORDERS - 1) <= TRACT_BYTES / 2);

/// The record of a slab, at the index of its first unit.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Slab {
    /// The pool's list of slabs of the class with room.
    pub(super) next: *mut Slab,
    pub(super) previous: *mut Slab,
    /// Blocks that are out.
    pub(super) used: u32,
    /// The class's index; `NO_CLASS` of a unit that begins no slab.
    pub(super) class: u32,
}

pub(super) const NO_CLASS: u32 = u32::MAX;

/// The head of a tract.
#[repr(C, align(64))]
pub(super) struct Tract {
    /// The pool's list of tracts with free runs of an order.
    pub(super) next: *mut Tract,
    pub(super) previous: *mut Tract,
    /// The pool's list of all its tracts. Never changes.
    pub(super) after: *mut Tract,
    /// Units that are not free; the first never is.
    pub(super) taken: u64,
    /// Free units whose pages may be resident.
    pub(super) idle: u64,
    /// The number of the pool. Never changes.
    pub(super) pool: u32,
    /// Which list it is on: the largest order of which it has a free run; `ORDERS` for none.
    pub(super) listed: u32,
    pub(super) slabs: [Slab; UNITS],
}

const _: () = assert!(size_of::<Tract>() <= UNIT_BYTES);

impl Tract {
    /// A head with all units free but the one it lies in, on no list.
    pub(super) fn unused(pool: usize, after: *mut Tract) -> Tract {
        let nothing = Slab { next: null_mut(), previous: null_mut(), used: 0, class: NO_CLASS };
        Tract {
            next: null_mut(),
            previous: null_mut(),
            after,
            taken: 1,
            idle: 0,
            pool: pool as u32,
            listed: ORDERS as u32,
            slabs: [nothing; UNITS],
        }
    }
}

/// Where the head of the tract of an address is.
#[inline]
pub(super) fn tract_of(block: *mut u8) -> *mut Tract {
    block.map_addr(|address| address & !(TRACT_BYTES - 1)).cast()
}

/// The record of the slab in which a block of a class at this address would lie.
///
/// # Safety
/// The tract is ours.
#[inline]
pub(super) unsafe fn slab_of(tract: *mut Tract, address: usize, class: Class) -> *mut Slab {
    let unit = ((address % TRACT_BYTES) & !(class.slab_bytes() - 1)) / UNIT_BYTES;
    // SAFETY: `unit` < `UNITS`, so the record lies in the tract's head, which the caller says is there.
    unsafe { &raw mut (*tract).slabs[unit] }
}

/// The unit with which a slab begins.
#[inline]
pub(super) fn unit_of(slab: *mut Slab) -> usize {
    (slab.addr() % TRACT_BYTES - std::mem::offset_of!(Tract, slabs)) / size_of::<Slab>()
}

/// Where the blocks of a slab begin.
#[inline]
pub(super) fn start_of(slab: *mut Slab) -> *mut u8 {
    tract_of(slab.cast()).cast::<u8>().wrapping_add(unit_of(slab) * UNIT_BYTES)
}

/// The bits of a run of units of an order that begins at `unit`.
#[inline]
pub(super) fn run_bits(unit: usize, order: usize) -> u64 {
    let units = 1u32 << order;
    (u64::MAX >> (u64::BITS - units)) << unit
}

/// Where the first free run of an order begins, aligned to its size.
#[inline]
pub(super) fn free_run(taken: u64, order: usize) -> Option<usize> {
    // Folds each aligned run onto its first bit: what stays set is free as a whole.
    let mut free = !taken;
    for step in 0..order {
        free &= free >> (1 << step);
        free &= ALIGNED[step + 1];
    }
    (free != 0).then(|| free.trailing_zeros() as usize)
}

/// Bits at multiples of two to the power of the index.
const ALIGNED: [u64; ORDERS] = {
    let mut masks = [0; ORDERS];
    let mut order = 0;
    while order < ORDERS {
        let mut at = 0;
        while at < UNITS {
            masks[order] |= 1 << at;
            at += 1 << order;
        }
        order += 1;
    }
    masks
};

/// The largest order of which there is a free run; `ORDERS` for none.
pub(super) fn largest_order(taken: u64) -> usize {
    (0..ORDERS).rev().find(|order| free_run(taken, *order).is_some()).unwrap_or(ORDERS)
}

/// A bit for each tract of the address space: whether it is ours. Mapped when the first region is; most of it is never touched.
static OURS: AtomicUsize = AtomicUsize::new(0);
const OURS_BYTES: usize = (1 << ADDRESS_BITS) / TRACT_BYTES / 8;

/// Whether an address lies in a tract of ours.
pub(super) fn is_ours(address: usize) -> bool {
    // Acquire: pairs with the exchange in `claim`.
    let map = OURS.load(Ordering::Acquire);
    if map == 0 || address >> ADDRESS_BITS != 0 {
        return false;
    }
    let tract = address / TRACT_BYTES;
    let words: *const AtomicU64 = std::ptr::with_exposed_provenance(map);
    // SAFETY: the map has a bit for each tract of the address space and is never unmapped.
    let word = unsafe { &*words.add(tract / 64) };
    // Acquire: pairs with the Release in `claim`; the tract's head is there.
    word.load(Ordering::Acquire) >> (tract % 64) & 1 == 1
}

/// Notes that a tract is ours and its head written. Its address has `ADDRESS_BITS`.
pub(super) fn claim(tract: *mut Tract) {
    let mut map = OURS.load(Ordering::Acquire);
    if map == 0 {
        let made = crate::arena::sys::map(OURS_BYTES).as_ptr().expose_provenance();
        // AcqRel: publishes the map, or finds another's; ours is lost then, which costs address space only.
        map = match OURS.compare_exchange(0, made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => made,
            Err(other) => other,
        };
    }
    let at = tract.addr() / TRACT_BYTES;
    let words: *const AtomicU64 = std::ptr::with_exposed_provenance(map);
    // SAFETY: as in `is_ours`; the caller says that the address is within what the map is for.
    // Release: pairs with the Acquire in `is_ours`.
    unsafe { (*words.add(at / 64)).fetch_or(1 << (at % 64), Ordering::Release) };
}
