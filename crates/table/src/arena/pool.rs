//! The pool: blocks of 2 MiB, the size of a huge page, for the arenas of all tables to cut chunks from.
//!
//! Invariant: a block is in use, or free, or returned while pinned and then leaving; only a free block is handed out, and
//! only a region whose blocks are all free is unmapped. What lies in a free block reads as zero and takes no memory.
//! Blocks are handed out lowest address first, so that regions empty. The lock is taken after an arena's, and no system
//! call but mapping a region is made under it.
//! Read next: `sys.rs`.

use super::sys::{self, BLOCK_BYTES, REGION_BYTES};
use parking_lot::Mutex;
use std::ptr::NonNull;

/// Blocks in a region.
const BLOCKS: usize = REGION_BYTES / BLOCK_BYTES;
const ALL: u16 = (((1u32 << BLOCKS) - 1) & 0xffff) as u16;
/// Free regions kept mapped.
const SPARE_REGIONS: usize = 1;

const _: () = assert!(BLOCKS >= 1 && BLOCKS <= u16::BITS as usize);

/// The pool all arenas share.
pub(crate) static POOL: Pool = Pool::new();

/// A pool of blocks.
pub(crate) struct Pool {
    /// By address.
    regions: Mutex<Vec<Region>>,
}

/// A mapping of `REGION_BYTES`. Bit i of each set stands for block i.
struct Region {
    start: NonNull<u8>,
    free: u16,
    pinned: u16,
    /// Pinned ones that were returned: free once unpinned.
    leaving: u16,
}

// SAFETY: a region is memory of the pool's own; who may touch a block is the callers' agreement.
unsafe impl Send for Region {}

impl Region {
    /// The block at an address, as a set.
    fn bit(&self, block: NonNull<u8>) -> u16 {
        1 << ((block.addr().get() - self.start.addr().get()) / BLOCK_BYTES)
    }
}

/// The region an address lies in.
fn region_of(regions: &mut [Region], block: NonNull<u8>) -> &mut Region {
    let after = regions.partition_point(|region| region.start <= block);
    &mut regions[after - 1]
}

/// Takes a free region out, if there are more of them than are kept.
fn take_surplus(regions: &mut Vec<Region>) -> Option<Region> {
    let mut free = (0..regions.len()).rev().filter(|at| regions[*at].free == ALL);
    let last = free.next()?;
    (free.count() >= SPARE_REGIONS).then(|| regions.remove(last))
}

impl Pool {
    pub(crate) const fn new() -> Self {
        Self { regions: Mutex::new(Vec::new()) }
    }

    /// Hands out the lowest free block. Ends the process when memory is exhausted, as any allocation does.
    pub(crate) fn take(&self) -> NonNull<u8> {
        let mut regions = self.regions.lock();
        let at = regions.iter().position(|region| region.free != 0).unwrap_or_else(|| {
            let start = sys::map_region();
            let at = regions.partition_point(|region| region.start < start);
            regions.insert(at, Region { start, free: ALL, pinned: 0, leaving: 0 });
            at
        });
        let region = &mut regions[at];
        let index = region.free.trailing_zeros() as usize;
        region.free &= region.free - 1;
        // SAFETY: block `index` lies in the region.
        unsafe { region.start.add(index * BLOCK_BYTES) }
    }

    /// Takes a block back and gives its memory to the system.
    ///
    /// # Safety
    /// `take` of this pool returned the block, and nobody uses it any more.
    pub(crate) unsafe fn put(&self, block: NonNull<u8>) {
        // SAFETY: the block is mapped and the caller's; what is in it is not needed.
        unsafe { sys::discard(block, BLOCK_BYTES) };
        let mut regions = self.regions.lock();
        let region = region_of(&mut regions, block);
        let bit = region.bit(block);
        debug_assert_eq!((region.free | region.leaving) & bit, 0, "a block is returned twice");
        if region.pinned & bit != 0 {
            region.leaving |= bit;
            return;
        }
        region.free |= bit;
        let surplus = take_surplus(&mut regions);
        drop(regions);
        surplus.into_iter().for_each(unmap);
    }

    /// Keeps a block from being unmapped or used by others, should it be returned; `None` when somebody else does.
    ///
    /// # Safety
    /// The block is in use, and not being returned during this call.
    pub(crate) unsafe fn pin(&self, block: NonNull<u8>) -> Option<Pinned<'_>> {
        let mut regions = self.regions.lock();
        let region = region_of(&mut regions, block);
        let bit = region.bit(block);
        debug_assert_eq!((region.free | region.leaving) & bit, 0, "a free block is pinned");
        if region.pinned & bit != 0 {
            return None;
        }
        region.pinned |= bit;
        Some(Pinned { pool: self, block })
    }

    fn unpin(&self, block: NonNull<u8>) {
        let mut regions = self.regions.lock();
        let region = region_of(&mut regions, block);
        let bit = region.bit(block);
        debug_assert_ne!(region.pinned & bit, 0);
        region.pinned &= !bit;
        if region.leaving & bit == 0 {
            return;
        }
        region.leaving &= !bit;
        drop(regions);
        // SAFETY: neither free nor leaving nor used any more, the block is this call's alone. It is discarded again, for a
        // huge page may have been put there since it was returned.
        unsafe { self.put(block) };
    }
}

fn unmap(region: Region) {
    // SAFETY: mapped by `take`; all blocks are free and unpinned, and the region is no longer listed.
    unsafe { sys::unmap_region(region.start) };
}

/// A block that stays mapped and is not handed out anew while this lives.
pub(crate) struct Pinned<'a> {
    pool: &'a Pool,
    block: NonNull<u8>,
}

impl Pinned<'_> {
    /// Makes the block one huge page; whether the kernel did. Contents stay, and others may use them meanwhile.
    pub(crate) fn collapse(&self) -> bool {
        sys::collapse(self.block)
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        self.pool.unpin(self.block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Drop for Pool {
        fn drop(&mut self) {
            self.regions.get_mut().drain(..).for_each(unmap);
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Take(usize),
        Put(prop::sample::Index),
        Pin(prop::sample::Index),
        Unpin(prop::sample::Index),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (1usize..20).prop_map(Op::Take),
            30 => any::<prop::sample::Index>().prop_map(Op::Put),
            5 => any::<prop::sample::Index>().prop_map(Op::Pin),
            5 => any::<prop::sample::Index>().prop_map(Op::Unpin),
        ]
    }

    fn check(pool: &Pool, used: &[NonNull<u8>], pinned: &[Pinned<'_>]) {
        let regions = pool.regions.lock();
        assert!(
            regions
                .windows(2)
                .all(|pair| pair[0].start.addr().get() + REGION_BYTES <= pair[1].start.addr().get())
        );
        assert!(regions.iter().filter(|region| region.free == ALL).count() <= SPARE_REGIONS);
        let busy: u32 =
            regions.iter().map(|region| BLOCKS as u32 - (region.free | region.leaving).count_ones()).sum();
        let pins: u32 = regions.iter().map(|region| region.pinned.count_ones()).sum();
        assert_eq!((busy as usize, pins as usize), (used.len(), pinned.len()));
        assert!(
            regions
                .iter()
                .all(|region| region.leaving & !region.pinned == 0 && region.free & region.pinned == 0)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 60 }))]

        #[test]
        fn blocks_are_aligned_zeroed_lowest_and_nobody_elses(ops in prop::collection::vec(op(), 1..80)) {
            let pool = Pool::new();
            let (mut used, mut pinned) = (Vec::<NonNull<u8>>::new(), Vec::new());
            for op in ops {
                match op {
                    Op::Take(count) => for _ in 0..count {
                        let block = pool.take();
                        prop_assert_eq!(block.addr().get() % BLOCK_BYTES, 0);
                        prop_assert!(!used.contains(&block), "handed out twice");
                        prop_assert!(pinned.iter().all(|pin: &Pinned<'_>| pin.block != block || used.contains(&block)));
                        // SAFETY: the block is ours.
                        unsafe {
                            if cfg!(not(miri)) {
                                prop_assert_eq!((block.read(), block.add(BLOCK_BYTES - 1).read()), (0, 0));
                            }
                            block.write(1);
                            block.add(BLOCK_BYTES - 1).write(1);
                        }
                        used.push(block);
                    },
                    Op::Put(nth) => if !used.is_empty() {
                        let block = used.swap_remove(nth.index(used.len()));
                        // SAFETY: taken above, and forgotten.
                        unsafe { pool.put(block) };
                        let again = pool.take();
                        let is_pinned = pinned.iter().any(|pin| pin.block == block);
                        let lowest = if is_pinned { again != block } else { again <= block };
                        prop_assert!(lowest, "not the lowest free block");
                        // SAFETY: as above.
                        unsafe { pool.put(again) };
                    },
                    Op::Pin(nth) => if !used.is_empty() {
                        let block = used[nth.index(used.len())];
                        // SAFETY: the block is in use.
                        let pin = unsafe { pool.pin(block) };
                        prop_assert_eq!(pin.is_none(), pinned.iter().any(|other| other.block == block));
                        pinned.extend(pin);
                    },
                    Op::Unpin(nth) => if !pinned.is_empty() {
                        let pin = pinned.swap_remove(nth.index(pinned.len()));
                        pin.collapse();
                    },
                }
                check(&pool, &used, &pinned);
            }
            pinned.clear();
            // SAFETY: taken above, and forgotten.
            used.drain(..).for_each(|block| unsafe { pool.put(block) });
            check(&pool, &[], &[]);
        }
    }
}
