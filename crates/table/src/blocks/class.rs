//! Size classes of blocks.
//!
//! Each doubling of the size is an order with slabs of its own size, which are divided into 31, 30 .. 16 blocks: sizes go up
//! by a 31st to a 16th, so that about 2.5% is lost to rounding.
//! Invariant: a class's blocks are at least as large as what it is asked for, multiples of `ALIGN_MAX`, and lie in its slab.

use super::{ALIGN_MAX, BYTES_BELOW, SLAB_BYTES_MAX};

/// Bytes of a unit: the smallest slab.
pub(super) const UNIT_BYTES: usize = 32 << 10;
/// Doublings from the smallest block to the largest.
pub(super) const ORDERS: usize = 6;
/// Classes in a doubling.
pub(super) const STEPS: usize = 16;
pub(super) const CLASSES: usize = ORDERS * STEPS;
/// Blocks of the largest class of an order in a slab.
pub(super) const FEWEST: usize = 16;

const _: () = assert!(BYTES_BELOW << ORDERS == SLAB_BYTES_MAX && FEWEST + STEPS <= 32);

/// A size class: its order and how many blocks a slab has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Class {
    pub(super) order: usize,
    pub(super) blocks: usize,
}

impl Class {
    /// The smallest class for `bytes`, which are within the limits.
    #[inline]
    pub(super) fn of(bytes: usize) -> Class {
        let order = ((bytes - 1) / BYTES_BELOW).ilog2() as usize;
        let slab = UNIT_BYTES << order;
        // The most blocks that are each large enough, after rounding down to the alignment.
        let rounded = bytes.next_multiple_of(ALIGN_MAX);
        Class { order, blocks: (slab / rounded).min(FEWEST + STEPS - 1) }
    }

    #[inline]
    pub(super) fn slab_bytes(self) -> usize {
        UNIT_BYTES << self.order
    }

    /// Bytes of a block.
    #[inline]
    pub(super) fn bytes(self) -> usize {
        self.slab_bytes() / self.blocks / ALIGN_MAX * ALIGN_MAX
    }

    /// Position in tables by class.
    #[inline]
    pub(super) fn index(self) -> usize {
        self.order * STEPS + self.blocks - FEWEST
    }

    /// The class at a position.
    #[cfg(test)]
    pub(super) fn at(index: usize) -> Class {
        Class { order: index / STEPS, blocks: index % STEPS + FEWEST }
    }

    /// A bit for each block.
    #[inline]
    pub(super) fn all(self) -> u32 {
        ((1u64 << self.blocks) - 1) as u32
    }
}
