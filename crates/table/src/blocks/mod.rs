//! Blocks of middling size for the global allocator: more than a kibibyte, at most 64, which is where long strings, nodes of
//! lists and pages of large collections lie. Served here, since here it is known how full their slabs are, so that what
//! lies in a sparse one can be moved, and slabs can be given back to the system.
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

mod class;
mod pool;
mod tract;

use class::Class;
use pool::Pool;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use tract::{is_ours, tract_of};

/// Blocks of up to so many bytes are not served here.
pub const BYTES_BELOW: usize = 1024;
/// The largest block, bytes.
pub const BYTES_MAX: usize = 64 << 10;
/// Largest alignment of a block.
const ALIGN_MAX: usize = 16;

/// Pools. Threads beyond share.
const POOLS: usize = 32;
/// Free units whose pages are kept: so many, and a share of those in use.
const IDLE_MIN: usize = 32;
const IDLE_SHARE: usize = 32;

static POOL: [Pool; POOLS] = [const { Pool::new() }; POOLS];

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
    Class::of(bytes).bytes()
}

/// Allocates a block of `bytes`, which are served here. `thread` is a number of the calling thread. Ends the process when memory
/// is exhausted.
#[inline]
#[must_use]
pub fn alloc(thread: usize, bytes: usize) -> NonNull<u8> {
    POOL[thread % POOLS].take(thread % POOLS, Class::of(bytes))
}

/// Frees a block.
///
/// # Safety
/// `alloc` returned it for as many bytes, or for bytes of the same class, and nobody uses it any more.
#[inline]
pub unsafe fn free(block: NonNull<u8>, bytes: usize) {
    // SAFETY: the tract of a live block is ours, and its pool never changes.
    let number = unsafe { (*tract_of(block.as_ptr())).pool } as usize;
    // SAFETY: the caller's promise; the block is of its tract's pool.
    unsafe { POOL[number % POOLS].put(block, Class::of(bytes)) }
}

/// Whether a block of `bytes` should move, since its slab is one of the emptier ones of its class and blocks moved together
/// would set a slab free. If so, the next block of this size that `thread` allocates comes from a fuller one. An
/// address that is not of such a block should not move.
#[must_use]
pub fn is_sparse(thread: usize, block: *const u8, bytes: usize) -> bool {
    if bytes <= BYTES_BELOW || bytes > BYTES_MAX || !is_ours(block.addr()) {
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
    POOL.iter().map(|pool| pool.release(|state| keep(state.used_units))).sum()
}

/// Checks lists, bits and counters of all pools. Panics where one is wrong, which only a test may.
#[cfg(test)]
fn check() {
    POOL.iter().for_each(|pool| {
        let (live, slabs) = pool.hold(|state| state.check());
        assert_eq!((pool.live.load(Relaxed), pool.slabs.load(Relaxed)), (live, slabs));
    });
}

#[cfg(test)]
mod tests;
