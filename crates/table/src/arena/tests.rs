//! The arena against a map of what is allocated: nothing overlaps, contents stay, and the counters are exact.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Op {
    Alloc { bytes: usize, purpose: Use, count: usize },
    Free { nth: prop::sample::Index, count: usize },
    FreeAll,
    Release,
    Collapse,
    Detach,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let bytes = prop_oneof![4 => 1usize..200, 2 => 1usize..4500, 1 => 4000usize..70_000];
    let purpose = prop_oneof![4 => Just(Use::Entry), 1 => Just(Use::Index), 2 => Just(Use::Lines)];
    let most = if cfg!(miri) { 20 } else { 400 };
    let op = prop_oneof![
        6 => (bytes, purpose, 1usize..most).prop_map(|(bytes, purpose, count)| Op::Alloc { bytes, purpose, count }),
        5 => (any::<prop::sample::Index>(), 1usize..most).prop_map(|(nth, count)| Op::Free { nth, count }),
        1 => Just(Op::FreeAll),
        1 => Just(Op::Release),
        2 => Just(Op::Collapse),
        1 => Just(Op::Detach),
    ];
    prop::collection::vec(op, 1..40)
}

/// What the arena handed out: by address, size and purpose; and what was written to it.
struct Model {
    arena: Mapped<Arena>,
    live: BTreeMap<usize, (NonNull<u8>, usize, Use)>,
}

impl Model {
    fn arena(&self) -> &Arena {
        &self.arena[0]
    }

    fn alloc(&mut self, bytes: usize, purpose: Use) {
        let bytes = if purpose == Use::Lines { bytes.next_multiple_of(64) } else { bytes };
        let object = self.arena().alloc(bytes, purpose);
        let (address, room) = (object.addr().get(), purpose.charged(bytes));
        assert_eq!(address % if purpose == Use::Lines { 64 } else { 8 }, 0);
        let below = self.live.range(..=address).next_back();
        assert!(
            below.is_none_or(|(at, (_, bytes, purpose))| at + purpose.charged(*bytes) <= address),
            "overlap"
        );
        let above = self.live.range(address..).next();
        assert!(above.is_none_or(|(at, _)| address + room <= *at), "overlap");
        // SAFETY: the object is as large as charged, and ours.
        unsafe { object.write_bytes(address as u8 ^ (address >> 8) as u8, room) };
        self.live.insert(address, (object, bytes, purpose));
    }

    fn free(&mut self, nth: usize) {
        let Some(address) = self.live.keys().nth(nth).copied() else { return };
        let (object, bytes, purpose) = self.live.remove(&address).unwrap();
        let mark = address as u8 ^ (address >> 8) as u8;
        for at in 0..purpose.charged(bytes) {
            // SAFETY: within the object, which is ours until it is freed below.
            assert_eq!(unsafe { object.add(at).read() }, mark, "somebody else wrote to the object");
        }
        // SAFETY: allocated with this size and purpose, and forgotten now.
        unsafe { self.arena().free(object, bytes, purpose) };
    }

    fn detach(&mut self) {
        let chunks = self.arena().detach();
        for (object, bytes, purpose) in std::mem::take(&mut self.live).into_values() {
            if purpose.is_outside(bytes) {
                // SAFETY: the object is outside the chunks, its arena was detached, and it is forgotten now.
                unsafe { Arena::free_uncounted(object, bytes, purpose) };
            }
        }
        drop(chunks);
    }

    fn check(&self) {
        self.arena().check();
        let sum = |wanted: &dyn Fn(usize, Use) -> bool| -> usize {
            let objects = self.live.values().filter(|(_, bytes, purpose)| wanted(*bytes, *purpose));
            objects.map(|(_, bytes, purpose)| purpose.charged(*bytes)).sum()
        };
        let stats = self.arena().stats();
        assert_eq!(stats.entries.load(Relaxed), sum(&|_, purpose| purpose == Use::Entry));
        assert_eq!(stats.index.load(Relaxed), sum(&|_, purpose| purpose != Use::Entry));
        assert_eq!(stats.outside.load(Relaxed), sum(&|bytes, purpose| purpose.is_outside(bytes)));
        let inside = sum(&|bytes, purpose| !purpose.is_outside(bytes));
        assert!(inside <= stats.spans.load(Relaxed));
        assert!(stats.spans.load(Relaxed) <= stats.mapped.load(Relaxed));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 3 } else { 60 }))]

    #[test]
    fn objects_never_overlap_and_are_counted_exactly(ops in ops()) {
        let mut model = Model { arena: Mapped::new(1), live: BTreeMap::new() };
        for op in ops {
            match op {
                Op::Alloc { bytes, purpose, count } => (0..count).for_each(|_| model.alloc(bytes, purpose)),
                Op::Free { nth, count } => {
                    for _ in 0..count.min(model.live.len()) {
                        model.free(nth.index(model.live.len()));
                    }
                }
                Op::FreeAll => {
                    while !model.live.is_empty() {
                        model.free(0);
                    }
                    // One empty chunk may stay for the next object.
                    prop_assert!(model.arena().stats().mapped.load(Relaxed) <= CHUNK_BYTES);
                    prop_assert_eq!(model.arena().stats().spans.load(Relaxed), 0);
                }
                Op::Release => {
                    model.arena().release_unused();
                    if model.live.is_empty() {
                        prop_assert_eq!(model.arena().stats().mapped.load(Relaxed), 0);
                    }
                }
                Op::Collapse => _ = model.arena().collapse_dense(&mut 2),
                Op::Detach => model.detach(),
            }
            model.check();
        }
        model.detach();
        model.check();
        drop(model.arena);
    }
}

#[test]
#[cfg(not(feature = "sanitize"))]
fn an_emptied_span_serves_other_classes() {
    let arena = Mapped::<Arena>::new(1);
    let fill = |bytes: usize| -> Vec<_> { (0..3000).map(|_| arena[0].alloc(bytes, Use::Entry)).collect() };
    let mut mapped = 0;
    for bytes in [88, 256, 304, 16, 1000, 96] {
        let objects = fill(bytes);
        mapped = mapped.max(objects.len() * bytes);
        let bound = (objects.len() * bytes).next_multiple_of(CHUNK_BYTES) + CHUNK_BYTES;
        assert!(
            arena[0].stats().mapped.load(Relaxed) <= bound,
            "{bytes}-byte objects did not reuse the memory"
        );
        for object in objects {
            // SAFETY: allocated above with this size.
            unsafe { arena[0].free(object, bytes, Use::Entry) };
        }
        arena[0].check();
    }
    assert!(arena[0].release_unused() > 0);
    assert_eq!(arena[0].stats().mapped.load(Relaxed), 0);
}

#[test]
#[cfg(not(feature = "sanitize"))]
fn untouched_memory_is_handed_out_last() {
    let arena = Mapped::<Arena>::new(1);
    let first = arena[0].alloc(64, Use::Entry);
    // SAFETY: allocated above with this size.
    unsafe { arena[0].free(first, 64, Use::Entry) };
    let second = arena[0].alloc(128, Use::Entry);
    assert_eq!(
        first.addr().get() >> 14,
        second.addr().get() >> 14,
        "the span whose pages are resident comes first"
    );
    // SAFETY: allocated above with this size.
    unsafe { arena[0].free(second, 128, Use::Entry) };
}

#[test]
#[cfg(not(feature = "sanitize"))]
fn an_arena_fills_both_halves_of_its_blocks_and_nobody_elses() {
    let arenas = Mapped::<Arena>::new(2);
    let mut blocks = Vec::new();
    for arena in arenas.iter() {
        let mut objects: Vec<_> =
            (0..3 * BLOCK_BYTES / 4096).map(|_| arena.alloc(4096, Use::Entry)).collect();
        let block_of = |object: &NonNull<u8>| object.addr().get() / BLOCK_BYTES;
        let mut own: Vec<_> = objects.iter().map(block_of).collect();
        own.dedup();
        assert!(own.len() <= 4, "{} blocks for 6 MiB: chunks of a block were opened apart", own.len());
        // Closes one half of the second block, which is the first to be opened again.
        let half =
            objects.iter().find(|object| block_of(object) == own[1]).unwrap().addr().get() / CHUNK_BYTES;
        let closed: Vec<_> =
            objects.extract_if(.., |object| object.addr().get() / CHUNK_BYTES == half).collect();
        for object in &closed {
            // SAFETY: allocated above with this size, and forgotten.
            unsafe { arena.free(*object, 4096, Use::Entry) };
        }
        arena.release_unused();
        arena.check();
        objects.extend(closed.iter().map(|_| arena.alloc(4096, Use::Entry)));
        assert!(
            objects.iter().any(|object| object.addr().get() / CHUNK_BYTES == half),
            "the half stays closed"
        );
        assert!(objects.iter().all(|object| own.contains(&block_of(object))), "a new block was begun");
        arena.check();
        blocks.extend(own);
    }
    let count = blocks.len();
    blocks.sort_unstable();
    blocks.dedup();
    assert_eq!(blocks.len(), count, "a block serves two arenas");
    arenas.iter().for_each(|arena| drop(arena.detach()));
}

#[test]
#[cfg(not(any(miri, feature = "sanitize")))]
fn only_full_blocks_are_tried_and_once_until_they_gave_memory_back() {
    let arenas = Mapped::<Arena>::new(1);
    let arena = &arenas[0];
    let tries = || {
        let mut left = 100;
        arena.collapse_dense(&mut left);
        arena.check();
        100 - left
    };
    let fill = |count: usize| -> Vec<_> { (0..count).map(|_| arena.alloc(64, Use::Entry)).collect() };
    let mut objects = fill(BLOCK_BYTES / 64 / 4 * 3);
    assert_eq!(tries(), 0, "a block is tried that is not full");
    objects.extend(fill(BLOCK_BYTES / 64));
    assert_eq!(tries(), 1);
    assert_eq!(tries(), 0);
    let freed = objects.split_off(BLOCK_BYTES / 64 / 8);
    for object in freed {
        // SAFETY: allocated above with this size, and forgotten.
        unsafe { arena.free(object, 64, Use::Entry) };
    }
    assert!(arena.release_unused() > 0);
    assert_eq!(tries(), 0);
    objects.extend(fill(2 * BLOCK_BYTES / 64));
    assert_eq!(tries(), 2, "a block that filled up again is tried again");
    drop(arena.detach());
    assert_eq!(tries(), 0);
}
