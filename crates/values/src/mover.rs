//! Moving the memory of values: blocks that lie where little else does are made again elsewhere.
//!
//! Which blocks those are is said by who knows the allocator. Invariant: a value that was moved equals what it was, holds as much
//! memory as before, and keeps its room to spare.

/// Moves blocks, and counts them.
pub struct Mover<'a> {
    is_sparse: &'a dyn Fn(*const u8, usize) -> bool,
    /// Blocks that were moved.
    pub moved: u64,
    /// Blocks that lay well.
    pub stayed: u64,
    /// Bytes of the blocks that were moved.
    pub bytes: usize,
}

impl<'a> Mover<'a> {
    /// Moves what `is_sparse` says of an address and a number of bytes.
    pub fn new(is_sparse: &'a dyn Fn(*const u8, usize) -> bool) -> Mover<'a> {
        Mover { is_sparse, moved: 0, stayed: 0, bytes: 0 }
    }

    fn wants(&mut self, block: *const u8, bytes: usize) -> bool {
        let moves = bytes != 0 && (self.is_sparse)(block, bytes);
        self.moved += u64::from(moves);
        self.stayed += u64::from(!moves);
        self.bytes += if moves { bytes } else { 0 };
        moves
    }

    /// Moves a vector's memory.
    pub fn vec<T>(&mut self, vec: &mut Vec<T>) {
        if self.wants(vec.as_ptr().cast(), vec.capacity() * size_of::<T>()) {
            let mut moved = Vec::with_capacity(vec.capacity());
            moved.append(vec);
            *vec = moved;
        }
    }

    /// Moves the memory of a slice in a box.
    pub fn slice<T>(&mut self, slice: &mut Box<[T]>) {
        if self.wants(slice.as_ptr().cast(), size_of_val(&**slice)) {
            let mut vec = std::mem::take(slice).into_vec();
            let mut moved = Vec::with_capacity(vec.len());
            moved.append(&mut vec);
            *slice = moved.into_boxed_slice();
        }
    }
}

impl std::fmt::Debug for Mover<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Mover({} moved, {} stayed)", self.moved, self.stayed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::{Collection, PackedLimits};
    use crate::hash::{End, Hash};
    use crate::set::{Limits, Set};
    use proptest::prelude::*;

    /// Settles all of a value in steps of `budget`; how many blocks moved.
    fn move_all<C: Collection>(value: &mut C, budget: usize) -> u64 {
        let always = |_: *const u8, _: usize| true;
        let mut mover = Mover::new(&always);
        let (mut at, mut steps) = (0, 0);
        loop {
            at = value.move_blocks(&mut mover, at, budget);
            steps += 1;
            assert!(steps < 100_000, "a walk that never ends");
            if at == 0 {
                return mover.moved;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_moved_is_what_it_was(count in prop_oneof![1usize..20, 1000usize..4000], bytes in 1usize..700, budget in 1usize..2000) {
            let limits = PackedLimits { entries_max: 64, value_bytes_max: 64 };
            let member = |i: usize| { let mut m = i.to_string().into_bytes(); m.resize(m.len().max(bytes), b'-'); m };
            let mut hash = Hash::new(Vec::new());
            let mut set = Set::new(Vec::new());
            for i in 0..count {
                hash.set(&member(i), &i.to_le_bytes(), End::Clear, 0, limits);
                set.add(&member(i), &Limits { ints_max: 16, packed: limits });
            }
            let before = (hash.heap_bytes(), set.heap_bytes());
            prop_assert!(move_all(&mut hash, budget) > 0);
            prop_assert!(move_all(&mut set, budget) > 0);
            prop_assert_eq!((hash.heap_bytes(), set.heap_bytes()), before);
            for i in 0..count {
                prop_assert!(set.view().contains(&member(i)));
            }
            prop_assert_eq!(Hash::items(hash.view()), count);
            // Beyond the end there is nothing.
            prop_assert_eq!(hash.move_blocks(&mut Mover::new(&|_, _| true), usize::MAX >> 1, 10), 0);
        }
    }
}
