//! Blocks against a map of what is out: nothing overlaps, contents stay, and moving them sets slabs free.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Tests share the pools, so those that look at counters take turns.
static TURN: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

#[test]
fn every_size_has_a_block_that_is_large_enough_and_hardly_larger() {
    let mut sizes = std::collections::BTreeSet::new();
    for bytes in BYTES_BELOW + 1..=BYTES_MAX {
        let class = Class::of(bytes);
        assert!(class.bytes() >= bytes, "{bytes}: {class:?}");
        assert!(class.bytes() * class.blocks <= class.slab_bytes());
        assert!(class.bytes() <= bytes + bytes / 15 + 16, "{bytes}: {class:?} of {}", class.bytes());
        assert!((FEWEST..FEWEST + STEPS).contains(&class.blocks) && class.index() < CLASSES);
        assert_eq!(Class::of(class.bytes()), class);
        sizes.insert(class.bytes());
    }
    assert_eq!(sizes.len(), CLASSES);
}

#[test]
fn a_free_run_is_found_wherever_there_is_one() {
    let mut random = 1u64;
    for _ in 0..10_000 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        for taken in [random, random | random >> 7, random & random >> 3 & random >> 9, 1, u64::MAX] {
            for order in 0..ORDERS {
                let slowly = (0..UNITS).step_by(1 << order).find(|unit| taken & run_bits(*unit, order) == 0);
                assert_eq!(free_run(taken, order), slowly);
            }
        }
    }
}

/// Blocks that are out: by address, how many bytes were asked for.
#[derive(Default)]
struct Model {
    out: BTreeMap<usize, (NonNull<u8>, usize)>,
}

impl Model {
    fn alloc(&mut self, thread: usize, bytes: usize) {
        let block = alloc(thread, bytes);
        let address = block.addr().get();
        assert_eq!(address % ALIGN_MAX, 0);
        let below = self.out.range(..=address).next_back();
        assert!(below.is_none_or(|(at, (_, bytes))| at + usable(*bytes) <= address), "overlap");
        assert!(
            self.out.range(address..).next().is_none_or(|(at, _)| address + usable(bytes) <= *at),
            "overlap"
        );
        // SAFETY: the block is ours and so large.
        unsafe { block.write_bytes(mark(address), usable(bytes)) };
        self.out.insert(address, (block, bytes));
    }

    fn free(&mut self, nth: usize) {
        let Some((at, (block, bytes))) = self.out.iter().nth(nth).map(|(at, out)| (*at, *out)) else {
            return;
        };
        self.out.remove(&at);
        // SAFETY: allocated above for so many bytes, and forgotten.
        unsafe {
            assert!((0..bytes).all(|byte| block.add(byte).read() == mark(at)), "a block lost its contents");
            free(block, bytes);
        }
    }

    /// Moves what lies sparsely, as often as something does; how often something moved.
    fn compact(&mut self, thread: usize) -> usize {
        let mut moved = 0;
        let addresses: Vec<usize> = self.out.keys().copied().collect();
        for at in addresses {
            let (block, bytes) = self.out[&at];
            if is_sparse(thread, block.as_ptr(), bytes) {
                self.alloc(thread, bytes);
                let nth = self.out.range(..at).count();
                self.free(nth);
                moved += 1;
            }
        }
        moved
    }

    fn empty(&mut self) {
        while !self.out.is_empty() {
            self.free(0);
        }
    }
}

fn mark(address: usize) -> u8 {
    (address >> 4) as u8 ^ (address >> 12) as u8
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 40 }))]

    #[test]
    fn blocks_never_overlap_and_keep_what_is_in_them(
        ops in prop::collection::vec((0usize..6, 0usize..POOLS, BYTES_BELOW + 1..=BYTES_MAX, 1usize..60, any::<prop::sample::Index>()), 1..40),
        small in any::<bool>(),
    ) {
        let turn = TURN.lock();
        let before = memory();
        let mut model = Model::default();
        for (op, thread, bytes, count, nth) in ops {
            let bytes = if small { BYTES_BELOW + 1 + bytes % 1500 } else { bytes };
            match op {
                0..=2 => (0..count).for_each(|_| model.alloc(thread, bytes)),
                3 => (0..count).for_each(|_| if !model.out.is_empty() { model.free(nth.index(model.out.len())) }),
                4 => _ = model.compact(thread),
                _ => _ = release(count % 2 == 0),
            }
            let live: usize = model.out.values().map(|(_, bytes)| usable(*bytes)).sum();
            prop_assert_eq!(memory().live - before.live, live);
            prop_assert!(memory().slabs - before.slabs >= live);
        }
        model.empty();
        prop_assert_eq!(memory(), before);
        drop(turn);
    }
}

#[test]
fn what_is_left_of_many_blocks_is_moved_into_few_slabs() {
    let _turn = TURN.lock();
    let before = memory();
    let mut model = Model::default();
    for i in 0..if cfg!(miri) { 200 } else { 6000 } {
        model.alloc(i % 2, 2000 + i * 7 % 3000);
    }
    for nth in (0..model.out.len()).rev().filter(|nth| nth % 10 >= 3) {
        model.free(nth);
    }
    let live = memory().live - before.live;
    let sparse = memory().slabs - before.slabs;
    for _ in 0..20 {
        if model.compact(0) == 0 {
            break;
        }
    }
    assert_eq!(model.compact(0), 0, "moving never ends");
    let dense = memory().slabs - before.slabs;
    assert_eq!(memory().live - before.live, live);
    assert!(
        cfg!(miri) || (dense < live * 3 / 2 && dense < sparse / 2),
        "{live} live, {sparse} before, {dense} after"
    );
    model.empty();
    assert_eq!(memory(), before);
}

#[test]
fn addresses_that_are_of_no_block_are_not_looked_at() {
    let local = [0u8; 2000];
    assert!(!is_sparse(0, local.as_ptr(), local.len()));
    assert!(!is_sparse(0, std::ptr::null(), 2000));
    assert!(!is_sparse(0, std::ptr::without_provenance(usize::MAX), 2000));
    assert!(!is_sparse(0, local.as_ptr(), 10));
}
