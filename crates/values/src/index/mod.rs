//! The large form of sets, hashes and sorted sets stands on two structures: a [`Slab`] holds records
//! of bytes and gives each a reference of 32 bits, an [`Index`] finds references by the hash of what
//! their records call a key.
//!
//! Neither knows what is in a record: the collection passes closures that hash and compare.
//! Read next: `slab.rs`, then `table.rs`.

mod slab;
pub use slab::Slab;

mod table;
pub use table::Index;

mod segment;

mod bucket;

mod chunks;

use crate::mover::{Mover, Resume};
use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use std::hash::Hasher as _;
use std::sync::OnceLock;

/// Moves the memory of a slab and then of an index; see [`crate::collection::Collection::move_blocks`].
pub fn move_both(slab: &mut Slab, index: &mut Index, mover: &mut Mover<'_>, from: Resume) -> Resume {
    let end = slab.blocks_end();
    let at = slab.move_blocks(mover, from.index());
    if at < end {
        return Resume::at(at);
    }
    match index.move_blocks(mover, at - end) {
        Some(segment) => Resume::at(end + segment),
        None => Resume::START,
    }
}

/// The seed until one is set. Not nought, with which the function does not tell `a` from `aa`.
const SEED_UNTOLD: u64 = 0x243f_6a88_85a3_08d3;

static SEED: OnceLock<(u64, SharedSeed)> = OnceLock::new();

/// Sets the secret under which members are hashed. The server passes a random one before it makes its
/// first value; without it (in tests) the seed is a fixed one. False if it was set or used before.
pub fn set_hash_seed(seed: u64) -> bool {
    let seed = if seed == 0 { SEED_UNTOLD } else { seed };
    SEED.set((seed, SharedSeed::from_u64(seed.rotate_left(32)))).is_ok()
}

/// The hash of a member or field: 64 well-mixed bits under the secret of the process.
#[inline]
#[must_use]
pub fn hash_of(bytes: &[u8]) -> u64 {
    let (seed, shared) = SEED.get_or_init(|| (SEED_UNTOLD, SharedSeed::from_u64(SEED_UNTOLD)));
    let mut hasher = FoldHasher::with_seed(*seed, shared);
    hasher.write(bytes);
    hasher.finish()
}

/// Random numbers that one of the caller's is stretched to: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Draws(u64);

impl Draws {
    /// Numbers that follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Draws {
        Draws(seed)
    }

    /// The next number, uniform over all 64 bits.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number below `limit`; 0 if there is none.
    #[inline]
    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.draw()) * limit as u128) >> 64) as usize
    }
}
