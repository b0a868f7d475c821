//! Blocks against a map of what is out: nothing overlaps, contents stay, and moving them sets slabs free.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use super::class::{CLASSES, FEWEST, ORDERS, STEPS};
use super::tract::{UNITS, free_run, run_bits};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Tests share the pools, so those that look at counters take turns.
static TURN: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

#[test]
fn every_size_has_a_block_that_is_large_enough_and_hardly_larger() {
    let mut sizes = std::collections::BTreeSet::new();
    for bytes in BYTES_BELOW + 1..=SLAB_BYTES_MAX {
        let class = Class::of(bytes);
        assert!(class.bytes() >= bytes, "{bytes}: {class:?}");
        assert!(class.bytes() * class.blocks <= class.slab_bytes());
        assert!(class.bytes() <= bytes + bytes / 15 + 16, "{bytes}: {class:?} of {}", class.bytes());
        assert!((FEWEST..FEWEST + STEPS).contains(&class.blocks) && class.index() < CLASSES);
        assert_eq!(Class::of(class.bytes()), class);
        assert_eq!(Class::at(class.index()), class);
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
        self.keep(alloc(thread, bytes), bytes);
    }

    fn alloc_zeroed(&mut self, thread: usize, bytes: usize) {
        let block = alloc_zeroed(thread, bytes);
        // SAFETY: the block is ours and so large.
        assert!(unsafe { (0..bytes).all(|at| block.add(at).read() == 0) });
        self.keep(block, bytes);
    }

    fn keep(&mut self, block: NonNull<u8>, bytes: usize) {
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

    /// What `realloc` does: the block where it is, if it can stay, or another with as much of the contents as fits.
    fn resize(&mut self, thread: usize, nth: usize, bytes: usize) {
        let Some((block, before)) = self.out.values().nth(nth).copied() else { return };
        // SAFETY: the block is live and so large.
        if unsafe { resize(block, before, bytes) } {
            let (address, both) = (block.addr().get(), before.min(bytes));
            // SAFETY: it is as large now.
            unsafe {
                assert!(
                    (0..both).all(|at| block.add(at).read() == mark(address)),
                    "a block lost its contents"
                );
                block.write_bytes(mark(address), usable(bytes));
            }
            self.out.insert(address, (block, bytes));
            let above = self.out.range(address + 1..).next();
            assert!(above.is_none_or(|(at, _)| address + usable(bytes) <= *at), "overlap");
            return;
        }
        self.alloc(thread, bytes);
        let both = before.min(bytes);
        // SAFETY: both are live and so large.
        let same = unsafe { (0..both).all(|at| block.add(at).read() == mark(block.addr().get())) };
        assert!(same, "a block lost its contents");
        let nth = self.out.range(..block.addr().get()).count();
        self.free(nth);
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
        ops in prop::collection::vec((0usize..8, 0usize..4, BYTES_BELOW + 1..=BYTES_MAX, 1usize..60, any::<prop::sample::Index>()), 1..40),
        sizes in 0usize..3,
    ) {
        let turn = TURN.lock();
        let before = memory();
        let mut model = Model::default();
        for (op, thread, bytes, count, nth) in ops {
            let most = [1500, SLAB_BYTES_MAX - BYTES_BELOW - 1, BYTES_MAX][sizes];
            let bytes = if sizes == 2 { bytes } else { BYTES_BELOW + 1 + bytes % most };
            let count = if sizes == 2 { count.div_ceil(8) } else { count };
            match op {
                0..=2 => (0..count).for_each(|_| model.alloc(thread, bytes)),
                3 => (0..count).for_each(|_| if !model.out.is_empty() { model.free(nth.index(model.out.len())) }),
                4 => _ = model.compact(thread),
                5 => model.alloc_zeroed(thread, bytes),
                6 => if !model.out.is_empty() { model.resize(thread, nth.index(model.out.len()), bytes) },
                _ => _ = release(count % 2 == 0),
            }
            let live: usize = model.out.values().map(|(_, bytes)| usable(*bytes)).sum();
            prop_assert_eq!(memory().live - before.live, live);
            prop_assert!(memory().slabs - before.slabs >= live);
            check();
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
fn pages_between_runs_are_given_back_and_read_as_zero() {
    let _turn = TURN.lock();
    let before = memory();
    let mut model = Model::default();
    let thread = POOLS - 2;
    (0..40).for_each(|i| model.alloc(thread, SLAB_BYTES_MAX + 1 + i * 9_000));
    let (live, whole) = (memory().live, model.out.len());
    for nth in (0..whole).rev().step_by(2) {
        model.free(nth);
    }
    let freed = live - memory().live;
    release(true);
    assert_eq!(release(true), 0, "given back twice");
    check();
    // Some of them fit where pages were given back.
    (0..20).for_each(|i| model.alloc_zeroed(thread, SLAB_BYTES_MAX + 1 + i * 17_000));
    let nth = model.out.len() / 2;
    model.resize(thread, nth, SLAB_BYTES_MAX + 1);
    model.resize(thread, nth, BYTES_MAX);
    assert!(cfg!(miri) || freed > 2 << 20, "{freed}");
    model.empty();
    check();
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

/// A block that travels between threads.
struct Sent(NonNull<u8>, usize);

// SAFETY: a block is nobody's but the owner's of this value.
unsafe impl Send for Sent {}

/// What one thread does: takes, frees, resizes and moves blocks, gives some to its neighbour, and frees what it is given.
fn live(
    thread: usize,
    rounds: usize,
    give: &std::sync::mpsc::Sender<Sent>,
    given: &std::sync::mpsc::Receiver<Sent>,
) {
    let mut model = Model::default();
    let mut random = thread as u64 + 1;
    let mut below = |bound: usize| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize % bound
    };
    for _ in 0..rounds {
        // Small ones more often, so that many are out.
        let doublings = if below(4) == 0 { 10 } else { 6 };
        let bytes = (BYTES_BELOW + 1) << below(doublings);
        let bytes = bytes + below(bytes);
        let bytes = bytes.min(BYTES_MAX);
        let nth = below(model.out.len().max(1));
        match below(12) {
            0..=4 => model.alloc(thread, bytes),
            5..=7 => model.free(nth),
            8 => model.resize(thread, nth, bytes),
            9 => {
                let at = model.out.keys().nth(nth).copied();
                if let Some((block, bytes)) = at.and_then(|at| model.out.remove(&at)) {
                    let _ = give.send(Sent(block, bytes));
                }
            }
            10 if below(20) == 0 => _ = model.compact(thread),
            _ => {
                for Sent(block, bytes) in given.try_iter() {
                    // The neighbour's memory may be taken over in the meantime by nobody: the model says so.
                    model.out.insert(block.addr().get(), (block, bytes));
                }
            }
        }
    }
    for Sent(block, bytes) in given.try_iter() {
        model.out.insert(block.addr().get(), (block, bytes));
    }
    model.empty();
}

#[test]
fn threads_take_and_free_each_others_blocks_while_pages_are_given_back() {
    let turn = TURN.lock();
    let before = memory();
    let (threads, rounds) = if cfg!(miri) { (2, 100) } else { (4, 20_000) };
    let done = std::sync::atomic::AtomicUsize::new(0);
    let mut channels: Vec<_> = (0..threads).map(|_| std::sync::mpsc::channel()).collect();
    let givers: Vec<_> = channels.iter().map(|(give, _)| give.clone()).collect();
    let left: Vec<Sent> = std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (thread, (_, given)) in channels.drain(..).enumerate() {
            let give = givers[(thread + 1) % threads].clone();
            let done = &done;
            running.push(scope.spawn(move || {
                live(thread, rounds, &give, &given);
                done.fetch_add(1, Relaxed);
                // Kept until all are through: what is sent to one that is through is freed below.
                given
            }));
        }
        while done.load(Relaxed) < threads {
            release(true);
            std::thread::yield_now();
        }
        running.into_iter().flat_map(|thread| thread.join().unwrap().try_iter().collect::<Vec<_>>()).collect()
    });
    for Sent(block, bytes) in left {
        // SAFETY: whoever had it gave it away.
        unsafe { free(block, bytes) };
    }
    assert_eq!(memory(), before);
    check();
    drop(turn);
}

#[test]
fn pages_that_were_given_back_are_empty_and_can_be_used_again() {
    let _turn = TURN.lock();
    let before = memory();
    let mut model = Model::default();
    // By a thread of its own, so that no other test's blocks lie among these.
    let thread = POOLS - 1;
    for round in 0..3 {
        (0..if cfg!(miri) { 20 } else { 500 }).for_each(|_| model.alloc(thread, 60_000));
        model.empty();
        check();
        let kept = release(false);
        let all = release(true);
        assert_eq!(release(true), 0, "{round}: given back twice");
        assert!(cfg!(miri) || kept > 20 << 20 && all > 0, "{round}: {kept} {all}");
        check();
    }
    assert_eq!(memory(), before);
}
