//! Blocks of middling size for the global allocator: more than a kibibyte, at most a mebibyte, which is where long strings,
//! nodes of lists and pages of large collections lie. Served here, since here it is known how full their slabs are, so
//! that what lies in a sparse one can be moved, and slabs can be given back to the system. Blocks of more than 64 KiB
//! are runs of whole pages (`runs.rs`).
//!
//! ```text
//! region 32 MiB | tract 2 MiB: 64 units of 32 KiB, the first of which begins with the tract's head
//! slab: 1, 2, 4 .. 32 units, aligned to its size, that serve 16 to 31 blocks of one class
//! ```
//! Which blocks of a slab are out is a bit each in its record in the tract's head: nothing is ever written into a free block, and
//! its pages can be given back. A thread allocates from the pool of its number; a block goes back to the pool of its tract,
//! whichever thread frees it. Threads keep nothing for themselves, so nothing is left of one that ends.
//! Invariant: nothing here panics or allocates, and what was mapped once stays mapped.
//! Read next: `class.rs` (sizes), `tract.rs` (where what lies), `pool.rs` (what is done to it).

mod bits;
mod class;
mod lock;
mod pool;
mod runs;
mod tract;

use crate::arena::sys::PAGE_BYTES;
use class::Class;
use pool::Pool;
use runs::{Runs, pages_of};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use tract::{is_ours, tract_of};

/// Blocks of up to so many bytes are not served here.
pub const BYTES_BELOW: usize = 1024;
/// The largest block, bytes.
pub const BYTES_MAX: usize = 1 << 20;
/// The largest block that comes from a slab, bytes.
const SLAB_BYTES_MAX: usize = 64 << 10;
/// Largest alignment of a block.
const ALIGN_MAX: usize = 16;

/// Pools. Threads beyond share.
const POOLS: usize = 32;
/// Free units whose pages are kept: so many, and a share of those in use.
const IDLE_MIN: usize = 32;
const IDLE_SHARE: usize = 32;
/// As `IDLE_MIN`, for pages between runs: a mebibyte.
const IDLE_PAGES_MIN: usize = 256;

static POOL: [Pool; POOLS] = [const { Pool::new() }; POOLS];
static RUNS: [Runs; POOLS] = [const { Runs::new() }; POOLS];

/// What blocks take, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlocksMemory {
    /// Blocks that are out, each rounded to its class or to pages.
    pub live: usize,
    /// The slabs and pages they lie in.
    pub slabs: usize,
}

/// What they take; exact when nobody allocates.
#[must_use]
pub fn memory() -> BlocksMemory {
    let runs = RUNS.iter().map(|runs| runs.live.load(Relaxed)).sum();
    POOL.iter().fold(BlocksMemory { live: runs, slabs: runs }, |sum, pool| BlocksMemory {
        live: sum.live + pool.live.load(Relaxed),
        slabs: sum.slabs + pool.slabs.load(Relaxed),
    })
}

/// Whether blocks of this size and alignment come from here.
#[inline]
#[must_use]
pub const fn serves(bytes: usize, align: usize) -> bool {
    !cfg!(feature = "sanitize") && bytes > BYTES_BELOW && bytes <= BYTES_MAX && align <= ALIGN_MAX
}

/// The usable bytes of a block of `bytes`, which are served here.
#[inline]
#[must_use]
pub fn usable(bytes: usize) -> usize {
    if is_run(bytes) { pages_of(bytes) * PAGE_BYTES } else { Class::of(bytes).bytes() }
}

/// Whether a block of `bytes`, which are served here, is a run of pages.
#[inline]
const fn is_run(bytes: usize) -> bool {
    bytes > SLAB_BYTES_MAX
}

/// Allocates a block of `bytes`, which are served here. `thread` is a number of the calling thread. Ends the process when memory
/// is exhausted.
#[inline]
#[must_use]
pub fn alloc(thread: usize, bytes: usize) -> NonNull<u8> {
    let own = thread % POOLS;
    if is_run(bytes) {
        return RUNS[own].take(own, pages_of(bytes)).0;
    }
    POOL[own].take(own, Class::of(bytes))
}

/// As [`alloc`], zeroed. Pages that nobody has touched yet stay untouched.
#[must_use]
pub fn alloc_zeroed(thread: usize, bytes: usize) -> NonNull<u8> {
    let own = thread % POOLS;
    if is_run(bytes) {
        let (block, used) = RUNS[own].take(own, pages_of(bytes));
        // SAFETY: both were answered just now.
        unsafe { Runs::zero(block, &used) };
        return block;
    }
    let block = alloc(thread, bytes);
    // SAFETY: the block is the caller's to be, and so large.
    unsafe { block.write_bytes(0, bytes) };
    block
}

/// Makes a block larger or smaller where it is; whether that could be done. Its contents stay, as far as they fit.
///
/// # Safety
/// As [`free`], but for the use; `after` is served here, too.
#[inline]
pub unsafe fn resize(block: NonNull<u8>, before: usize, after: usize) -> bool {
    match (is_run(before), is_run(after)) {
        (false, false) => Class::of(before) == Class::of(after),
        (true, true) => {
            let (before, after) = (pages_of(before), pages_of(after));
            // SAFETY: the caller's promise: the block is a live run of its pool.
            before == after || unsafe { RUNS[runs::pool_of(block) % POOLS].resize(block, before, after) }
        }
        _ => false,
    }
}

/// Frees a block.
///
/// # Safety
/// `alloc` returned it for as many bytes, or for bytes of the same class, or `resize` made it so large, and nobody uses it any more.
#[inline]
pub unsafe fn free(block: NonNull<u8>, bytes: usize) {
    if is_run(bytes) {
        // SAFETY: the caller's promise: the block is a live run of its pool.
        unsafe { RUNS[runs::pool_of(block) % POOLS].put(block, pages_of(bytes)) };
        return;
    }
    // SAFETY: the tract of a live block is ours, and its pool never changes.
    let number = unsafe { (*tract_of(block.as_ptr())).pool } as usize;
    // SAFETY: the caller's promise; the block is of its tract's pool.
    unsafe { POOL[number % POOLS].put(block, Class::of(bytes)) }
}

/// Whether a block of `bytes` should move, since its slab is one of the emptier ones of its class and blocks moved together
/// would set a slab free; pages are given back from between runs, so those need not. If so, the next block of this size that `thread` allocates comes from a fuller one. An
/// address that is not of such a block should not move.
#[must_use]
pub fn is_sparse(thread: usize, block: *const u8, bytes: usize) -> bool {
    if bytes <= BYTES_BELOW || is_run(bytes) || !is_ours(block.addr()) {
        return false;
    }
    let class = Class::of(bytes);
    let tract = tract_of(block.cast_mut());
    // SAFETY: tracts that are ours stay mapped, and their pool never changes.
    let number = unsafe { (*tract).pool } as usize % POOLS;
    let own = thread % POOLS;
    // SAFETY: the tract is ours and of this pool, whose lock is held.
    let sparse =
        POOL[number].hold(|state| unsafe { state.is_sparse(tract, block.addr(), class, number == own) });
    if sparse && number != own {
        POOL[own].hold(|state| _ = state.fullest_first(class));
    }
    sparse
}

/// Gives pages back that no block needs, but for some that are kept for the next ones, or none if `all`; returns how many bytes.
pub fn release(all: bool) -> usize {
    let keep = |used: usize| if all { 0 } else { IDLE_MIN + used / IDLE_SHARE };
    let keep_pages = |used: usize| if all { 0 } else { IDLE_PAGES_MIN + used / IDLE_SHARE };
    let slabs: usize = POOL.iter().map(|pool| pool.release(|state| keep(state.used_units))).sum();
    slabs + RUNS.iter().map(|runs| runs.release(keep_pages)).sum::<usize>()
}

/// Checks lists, bits and counters of all pools. Panics where one is wrong, which only a test may.
#[cfg(test)]
fn check() {
    RUNS.iter().for_each(Runs::check);
    POOL.iter().for_each(|pool| {
        let (live, slabs) = pool.hold(|state| state.check());
        assert_eq!((pool.live.load(Relaxed), pool.slabs.load(Relaxed)), (live, slabs));
    });
}

#[cfg(test)]
mod tests;
