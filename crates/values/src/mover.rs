//! Moving the memory of values: blocks that lie where little else does are made again elsewhere.
//!
//! Which blocks those are is said by who knows the allocator. A large value is moved in steps, each as long as the mover has
//! something left of its budget; one that has nothing left moves nothing. Invariant: a value that was moved equals what it was,
//! holds as much memory as before, and keeps its room to spare.

use crate::collection::Collection;

/// Moves blocks, and counts them.
pub struct Mover<'a> {
    is_sparse: &'a dyn Fn(*const u8, usize) -> bool,
    /// Blocks that were moved.
    pub moved: u64,
    /// Blocks that lay well.
    pub stayed: u64,
    elements_left: usize,
    bytes_left: usize,
}

/// Where in a value the work goes on. The default is its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resume(pub(crate) u128);

impl Resume {
    /// The beginning of a value, or its end.
    pub const START: Resume = Resume(0);

    pub(crate) fn at(index: usize) -> Resume {
        Resume(index as u128)
    }

    /// As an index; beyond every end where it is none.
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<'a> Mover<'a> {
    /// Moves what `is_sparse` says of an address and a number of bytes, until it has passed over about so many elements or moved about so
    /// many bytes.
    pub fn new(
        is_sparse: &'a dyn Fn(*const u8, usize) -> bool,
        elements_left: usize,
        bytes_left: usize,
    ) -> Mover<'a> {
        Mover { is_sparse, moved: 0, stayed: 0, elements_left, bytes_left }
    }

    /// Whether nothing is left of its budget.
    pub fn is_spent(&self) -> bool {
        self.elements_left == 0 || self.bytes_left == 0
    }

    /// Takes elements that were passed over from the budget; one at least.
    pub(crate) fn pass(&mut self, elements: usize) {
        self.elements_left = self.elements_left.saturating_sub(elements.max(1));
    }

    fn wants(&mut self, block: *const u8, bytes: usize) -> bool {
        let moves = bytes != 0 && (self.is_sparse)(block, bytes);
        self.moved += u64::from(moves);
        self.stayed += u64::from(!moves);
        self.bytes_left = self.bytes_left.saturating_sub(if moves { bytes } else { 0 });
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

/// Moves all memory of a value, in steps of so many elements; how many blocks moved. What it shows stays as it is: for tests.
pub(crate) fn shake<C: Collection>(value: &mut C, elements: usize) -> u64 {
    let (mut at, mut moved, before) = (Resume::START, 0, value.heap_bytes());
    loop {
        let mut mover = Mover::new(&|_, _| true, elements, 64 * 1024);
        let next = value.move_blocks(&mut mover, at);
        assert!(next == Resume::START || next.0 > at.0, "a walk that never ends");
        (at, moved) = (next, moved + mover.moved);
        if at == Resume::START {
            assert_eq!(value.heap_bytes(), before, "a value that was moved holds another amount of memory");
            return moved;
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
    use crate::collection::PackedLimits;
    use crate::hash::{End, Hash};
    use crate::set::{Limits, Set};
    use proptest::prelude::*;

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
            prop_assert!(shake(&mut hash, budget) > 0);
            prop_assert!(shake(&mut set, budget) > 0);
            prop_assert_eq!((hash.heap_bytes(), set.heap_bytes()), before);
            for i in 0..count {
                prop_assert!(set.view().contains(&member(i)));
            }
            prop_assert_eq!(Hash::items(hash.view()), count);
            // Beyond the end there is nothing.
            prop_assert_eq!(hash.move_blocks(&mut Mover::new(&|_, _| true, 10, 10), Resume(u128::MAX >> 1)), Resume::START);
        }
    }
}
