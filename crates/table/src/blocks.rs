//! Blocks of middling size for the global allocator: more than a kibibyte, at most 64, which is where long strings, nodes of
//! lists and pages of large collections lie. Served here, since here it is known how full their slabs are, so that what
//! lies in a sparse one can be moved, and slabs can be given back to the system.
//!
//! ```text
//! region 32 MiB | tract 2 MiB: 64 units of 32 KiB, the first of which begins with the tract's head
//! slab: 1, 2, 4 .. 32 units, aligned to its size, that serve 17 to 32 blocks of one class
//! ```
//! Sizes go up by a 16th to a 32nd, so that about 2.5% is lost to rounding. Which blocks of a slab are out is a bit each in
//! its record in the tract's head: nothing is ever written into a free block, and its pages can be given back.
//! Invariant: a pool's lists and tracts are touched under its lock only. A thread allocates from the pool of its number, and
//! a block goes back to the pool of its tract. Nothing here allocates, and regions stay mapped.
//! Read next: `is_sparse`.

use crate::arena::sys::{BLOCK_BYTES as TRACT_BYTES, REGION_BYTES, discard, map_region};
use std::cell::UnsafeCell;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Blocks of up to so many bytes are not served here.
pub const BYTES_BELOW: usize = 1024;
/// The largest block, bytes.
pub const BYTES_MAX: usize = 64 << 10;
/// Largest alignment of a block.
const ALIGN_MAX: usize = 16;

/// Bytes of a unit: the smallest slab.
const UNIT_BYTES: usize = 32 << 10;
const UNITS: usize = TRACT_BYTES / UNIT_BYTES;
/// Doublings from the smallest block to the largest, each of which has slabs of its own size.
const ORDERS: usize = 6;
/// Classes in a doubling.
const STEPS: usize = 16;
const CLASSES: usize = ORDERS * STEPS;
/// Blocks of the largest class of an order in a slab.
const FEWEST: usize = 16;
/// Pools. Threads beyond share.
const POOLS: usize = 4;
/// Slabs that are compared when a block may move.
const COMPARED: usize = 32;
/// Free units whose pages are kept: so many, and a share of those in use.
const IDLE_MIN: usize = 32;
const IDLE_SHARE: usize = 32;
/// Addresses of user space, as bits.
const ADDRESS_BITS: u32 = 48;

const _: () = assert!(UNITS == 64 && BYTES_BELOW << ORDERS == BYTES_MAX && FEWEST + STEPS <= 32);
const _: () = assert!(UNIT_BYTES << (ORDERS - 1) <= TRACT_BYTES / 2);

/// A size class: its order and how many blocks a slab has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Class {
    order: usize,
    blocks: usize,
}

impl Class {
    /// The smallest class for `bytes`, which are within the limits.
    #[inline]
    fn of(bytes: usize) -> Class {
        let order = ((bytes - 1) / BYTES_BELOW).ilog2() as usize;
        let slab = UNIT_BYTES << order;
        // The most blocks that are each large enough, after rounding down to the alignment.
        let rounded = bytes.next_multiple_of(ALIGN_MAX);
        Class { order, blocks: (slab / rounded).min(FEWEST + STEPS - 1) }
    }

    #[inline]
    fn slab_bytes(self) -> usize {
        UNIT_BYTES << self.order
    }

    /// Bytes of a block.
    #[inline]
    fn bytes(self) -> usize {
        self.slab_bytes() / self.blocks / ALIGN_MAX * ALIGN_MAX
    }

    #[inline]
    fn index(self) -> usize {
        self.order * STEPS + self.blocks - FEWEST
    }

    /// A bit for each block.
    #[inline]
    fn all(self) -> u32 {
        ((1u64 << self.blocks) - 1) as u32
    }
}

/// The record of a slab, at the index of its first unit.
#[derive(Clone, Copy)]
#[repr(C)]
struct Slab {
    /// The pool's list of slabs of the class with room.
    next: *mut Slab,
    previous: *mut Slab,
    /// Blocks that are out.
    used: u32,
    /// The class's index; `NO_CLASS` of a unit that begins no slab.
    class: u32,
}

const NO_CLASS: u32 = u32::MAX;

/// The head of a tract.
#[repr(C, align(64))]
struct Tract {
    /// The pool's list of tracts with free runs of an order.
    next: *mut Tract,
    previous: *mut Tract,
    /// The pool's list of all its tracts.
    after: *mut Tract,
    /// Units in use; the first always is.
    taken: u64,
    /// Free units whose pages may be resident.
    idle: u64,
    pool: u32,
    /// Which list it is on: the largest order of which it has a free run; `ORDERS` for none.
    listed: u32,
    slabs: [Slab; UNITS],
}

const _: () = assert!(size_of::<Tract>() <= UNIT_BYTES);

struct State {
    /// Slabs with room, by class.
    slabs: [*mut Slab; CLASSES],
    /// Tracts by the largest order of which they have a free run.
    tracts: [*mut Tract; ORDERS],
    all: *mut Tract,
    /// Tracts mapped and never used: from `fresh` to `fresh_end`.
    fresh: *mut u8,
    fresh_end: *mut u8,
    /// Units of slabs.
    used_units: usize,
    idle_units: usize,
}

/// What one or some threads allocate from.
#[repr(align(128))]
struct Pool {
    locked: AtomicBool,
    state: UnsafeCell<State>,
    /// Bytes of blocks that are out.
    live: AtomicUsize,
    /// Bytes of slabs.
    slabs: AtomicUsize,
}

// SAFETY: `state` is touched under the lock only; what its pointers lead to belongs to the pool.
unsafe impl Sync for Pool {}

static POOL: [Pool; POOLS] = [const { Pool::new() }; POOLS];

/// A bit for each tract of the address space: whether it is ours. Mapped when the first region is.
static OURS: AtomicUsize = AtomicUsize::new(0);
const OURS_BYTES: usize = (1 << ADDRESS_BITS) / TRACT_BYTES / 8;

/// What blocks take, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlocksMemory {
    /// Blocks that are out, each rounded to its class.
    pub live: usize,
    /// The slabs they lie in.
    pub slabs: usize,
}

/// What they take; exact when nobody allocates.
#[must_use]
pub fn memory() -> BlocksMemory {
    POOL.iter().fold(BlocksMemory::default(), |sum, pool| BlocksMemory {
        live: sum.live + pool.live.load(Ordering::Relaxed),
        slabs: sum.slabs + pool.slabs.load(Ordering::Relaxed),
    })
}

/// Whether blocks of this size and alignment come from here.
#[inline]
#[must_use]
pub const fn serves(bytes: usize, align: usize) -> bool {
    bytes > BYTES_BELOW && bytes <= BYTES_MAX && align <= ALIGN_MAX
}

/// The usable bytes of a block of `bytes`, which are served here.
#[inline]
#[must_use]
pub fn usable(bytes: usize) -> usize {
    Class::of(bytes).bytes()
}

/// Allocates a block of `bytes`, which are served here. `thread` is a number of the calling thread. Ends the process when memory
/// is exhausted.
#[inline]
#[must_use]
pub fn alloc(thread: usize, bytes: usize) -> NonNull<u8> {
    let class = Class::of(bytes);
    POOL[thread % POOLS].hold(|pool, state| {
        add(&pool.live, class.bytes());
        // SAFETY: the lock is held.
        unsafe { state.take(pool, thread % POOLS, class) }
    })
}

/// Frees a block.
///
/// # Safety
/// `alloc` returned it for as many bytes, or for bytes of the same class, and nobody uses it any more.
#[inline]
pub unsafe fn free(block: NonNull<u8>, bytes: usize) {
    let class = Class::of(bytes);
    // SAFETY: the tract of a live block is live, and its pool never changes.
    let pool = unsafe { (*tract_of(block.as_ptr())).pool } as usize;
    POOL[pool % POOLS].hold(|pool, state| {
        subtract(&pool.live, class.bytes());
        // SAFETY: the lock is held, and the caller's promise.
        unsafe { state.put(pool, block, class) }
    });
}

/// Whether a block of `bytes` should move, since its slab is one of the emptier ones of its class and blocks moved together
/// would set a slab free. If so, the next block of this size that `thread` allocates comes from a fuller one. An
/// address that is not of such a block should not move.
#[must_use]
pub fn is_sparse(thread: usize, block: *const u8, bytes: usize) -> bool {
    if !serves(bytes, ALIGN_MAX) || !is_ours(block.addr()) {
        return false;
    }
    let class = Class::of(bytes);
    let tract = tract_of(block.cast_mut());
    // SAFETY: tracts that are ours stay mapped, and their pool never changes.
    let number = unsafe { (*tract).pool } as usize % POOLS;
    let own = thread % POOLS;
    // SAFETY: the tract is ours, and its pool's lock is held.
    let sparse =
        POOL[number].hold(|_, state| unsafe { state.is_sparse(tract, block.addr(), class, number == own) });
    if sparse && number != own {
        POOL[own].hold(|_, state| _ = state.fullest_first(class));
    }
    sparse
}

/// Gives pages back that no block needs, but for some that are kept for the next ones, or none if `all`; returns how many bytes.
pub fn release(all: bool) -> usize {
    POOL.iter()
        .map(|pool| {
            let mut bytes = 0;
            // A little at a time, so that nobody waits long for the lock.
            loop {
                let some = pool.hold(|_, state| {
                    let keep = if all { 0 } else { IDLE_MIN + state.used_units / IDLE_SHARE };
                    // SAFETY: the lock is held.
                    if state.idle_units > keep { unsafe { state.release_some() } } else { 0 }
                });
                if some == 0 {
                    return bytes;
                }
                bytes += some;
            }
        })
        .sum()
}

/// Where the head of the tract of an address is.
#[inline]
fn tract_of(block: *mut u8) -> *mut Tract {
    block.map_addr(|address| address & !(TRACT_BYTES - 1)).cast()
}

#[inline]
fn add(counter: &AtomicUsize, bytes: usize) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
}

#[inline]
fn subtract(counter: &AtomicUsize, bytes: usize) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_sub(bytes), Ordering::Relaxed);
}

fn is_ours(address: usize) -> bool {
    // Acquire: pairs with the Release in `claim`.
    let map = OURS.load(Ordering::Acquire);
    if map == 0 || address >> ADDRESS_BITS != 0 {
        return false;
    }
    let tract = address / TRACT_BYTES;
    let words: *const AtomicU64 = std::ptr::with_exposed_provenance(map);
    // SAFETY: the map has a bit for each tract of the address space and is never unmapped.
    let word = unsafe { &*words.add(tract / 64) };
    word.load(Ordering::Acquire) >> (tract % 64) & 1 == 1
}

/// Notes that a tract is ours and its head written.
fn claim(tract: *mut Tract) {
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
    // SAFETY: as in `is_ours`; the pool of tables asserts that addresses have 48 bits, as does `State::open_tract`.
    // Release: pairs with the Acquire in `is_ours`; the tract's head is there.
    unsafe { (*words.add(at / 64)).fetch_or(1 << (at % 64), Ordering::Release) };
}

impl Pool {
    const fn new() -> Pool {
        Pool {
            locked: AtomicBool::new(false),
            state: UnsafeCell::new(State {
                slabs: [null_mut(); CLASSES],
                tracts: [null_mut(); ORDERS],
                all: null_mut(),
                fresh: null_mut(),
                fresh_end: null_mut(),
                used_units: 0,
                idle_units: 0,
            }),
            live: AtomicUsize::new(0),
            slabs: AtomicUsize::new(0),
        }
    }

    /// Runs `act` under the lock. It must neither panic nor allocate: a lock that parks threads would.
    #[inline]
    fn hold<R>(&self, act: impl FnOnce(&Pool, &mut State) -> R) -> R {
        let mut tries = 0u32;
        // Acquire: pairs with the Release below.
        while self.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            tries += 1;
            if tries % 64 == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        // SAFETY: the lock is held, so this is the only reference.
        let result = act(self, unsafe { &mut *self.state.get() });
        self.locked.store(false, Ordering::Release);
        result
    }
}

/// The bits of a run of units of an order that begins at `unit`.
#[inline]
fn run_bits(unit: usize, order: usize) -> u64 {
    let units = 1u32 << order;
    (u64::MAX >> (64 - units)) << unit
}

/// Where the first free run of an order begins, aligned to its size.
#[inline]
fn free_run(taken: u64, order: usize) -> Option<usize> {
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
fn largest_order(taken: u64) -> usize {
    (0..ORDERS).rev().find(|order| free_run(taken, *order).is_some()).unwrap_or(ORDERS)
}

impl State {
    /// # Safety
    /// The pool's lock is held, as for all that follows.
    #[inline]
    unsafe fn take(&mut self, pool: &Pool, number: usize, class: Class) -> NonNull<u8> {
        // SAFETY: slabs on the lists are live and have room.
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
        // SAFETY: a slab is aligned to its size, so its record is found from the block's address.
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
    #[cold]
    unsafe fn open(&mut self, pool: &Pool, number: usize, class: Class) -> *mut Slab {
        // SAFETY: tracts on the lists are live and have a free run as long as their list says.
        unsafe {
            // The tract with the shortest run that is long enough, lest long ones be broken.
            let fitting = self.tracts[class.order..].iter().copied().find(|tract| !tract.is_null());
            let tract = match fitting {
                Some(tract) => tract,
                None => self.open_tract(number),
            };
            let unit = free_run((*tract).taken, class.order).unwrap_or(0);
            let run = run_bits(unit, class.order);
            debug_assert_eq!((*tract).taken & run, 0, "the list promised a run");
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

    /// Takes an empty slab back, which is not listed.
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
    unsafe fn relist(&mut self, tract: *mut Tract) {
        // SAFETY: tracts on the lists are live.
        unsafe {
            let (before, now) = ((*tract).listed as usize, largest_order((*tract).taken));
            if before == now {
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
            if now < ORDERS {
                let head = self.tracts[now];
                ((*tract).next, (*tract).previous) = (head, null_mut());
                if !head.is_null() {
                    (*head).previous = tract;
                }
                self.tracts[now] = tract;
            }
            (*tract).listed = now as u32;
        }
    }

    /// Makes a tract, all of it free but for its head, and lists it.
    #[cold]
    unsafe fn open_tract(&mut self, number: usize) -> *mut Tract {
        if self.fresh == self.fresh_end {
            let region = map_region().as_ptr();
            if (region.addr() + REGION_BYTES) >> ADDRESS_BITS != 0 {
                // Nothing here may panic; the kernel maps such addresses only for who asks for them.
                std::process::abort();
            }
            self.fresh = region;
            self.fresh_end = region.wrapping_add(REGION_BYTES);
        }
        let tract: *mut Tract = self.fresh.cast();
        self.fresh = self.fresh.wrapping_add(TRACT_BYTES);
        // SAFETY: the tract is mapped, aligned to its size and nobody's yet.
        unsafe {
            let nothing = Slab { next: null_mut(), previous: null_mut(), used: 0, class: NO_CLASS };
            tract.write(Tract {
                next: null_mut(),
                previous: null_mut(),
                after: self.all,
                taken: 1,
                idle: 0,
                pool: number as u32,
                listed: ORDERS as u32,
                slabs: [nothing; UNITS],
            });
            self.all = tract;
            self.relist(tract);
        }
        claim(tract);
        tract
    }

    /// Finds the fullest of the slabs with room of a class and puts it first. Answers it, and of those that were compared
    /// how many there are and how many blocks are out of them.
    fn fullest_first(&mut self, class: Class) -> (*mut Slab, usize, usize) {
        let (mut slabs, mut live) = (0, 0);
        let mut fullest: *mut Slab = null_mut();
        let mut slab = self.slabs[class.index()];
        // SAFETY: slabs on the lists are live; the lock is held, as `&mut self` says.
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
    unsafe fn is_sparse(&mut self, tract: *mut Tract, address: usize, class: Class, own: bool) -> bool {
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

    /// Gives the pages of the idle units of one tract back; returns how many bytes.
    unsafe fn release_some(&mut self) -> usize {
        let mut tract = self.all;
        // SAFETY: tracts are live. What is given back is in no slab, nor the tract's head.
        unsafe {
            while !tract.is_null() && (*tract).idle == 0 {
                tract = (*tract).after;
            }
            if tract.is_null() {
                return 0;
            }
            let mut left = std::mem::take(&mut (*tract).idle);
            let units = left.count_ones() as usize;
            self.idle_units -= units;
            while left != 0 {
                let first = left.trailing_zeros();
                let count = (left >> first).trailing_ones();
                left &= u64::MAX.checked_shl(first + count).unwrap_or(0);
                let start = tract.cast::<u8>().add(first as usize * UNIT_BYTES);
                discard(NonNull::new_unchecked(start), count as usize * UNIT_BYTES);
            }
            units * UNIT_BYTES
        }
    }
}

/// The record of the slab in which a block of a class at this address would lie.
///
/// # Safety
/// The tract is ours.
#[inline]
unsafe fn slab_of(tract: *mut Tract, address: usize, class: Class) -> *mut Slab {
    let unit = (address % TRACT_BYTES & !(class.slab_bytes() - 1)) / UNIT_BYTES;
    // SAFETY: `unit` < `UNITS`.
    unsafe { &raw mut (*tract).slabs[unit] }
}

/// The unit with which a slab begins.
#[inline]
fn unit_of(slab: *mut Slab) -> usize {
    (slab.addr() % TRACT_BYTES - std::mem::offset_of!(Tract, slabs)) / size_of::<Slab>()
}

/// Where the blocks of a slab begin.
#[inline]
fn start_of(slab: *mut Slab) -> *mut u8 {
    tract_of(slab.cast()).cast::<u8>().wrapping_add(unit_of(slab) * UNIT_BYTES)
}

#[cfg(test)]
mod tests;
