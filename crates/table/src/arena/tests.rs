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
    Keep,
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
        2 => Just(Op::Keep),
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
                    prop_assert_eq!(model.arena().stats().mapped.load(Relaxed), 0);
                    prop_assert_eq!(model.arena().stats().spans.load(Relaxed), 0);
                }
                Op::Release => _ = model.arena().release_unused(),
                Op::Keep => _ = POOL.keep(Duration::from_micros(1), 2),
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
    for bytes in [88, 256, 304, 16, 1000, 96] {
        let objects = fill(bytes);
        // A span of large objects may end in a rest, and the first of a block is shorter.
        let bound = objects.len() * bytes / 8 * 9 + SPAN_BYTES;
        assert!(arena[0].stats().mapped.load(Relaxed) <= bound, "{bytes}-byte objects take too many spans");
        arena[0].check();
        for object in objects {
            // SAFETY: allocated above with this size.
            unsafe { arena[0].free(object, bytes, Use::Entry) };
        }
        arena[0].check();
        assert_eq!(arena[0].stats().mapped.load(Relaxed), 0);
    }
}

#[test]
#[cfg(not(feature = "sanitize"))]
fn segments_that_grow_together_leave_little_behind() {
    let arena = Mapped::<Arena>::new(1);
    let (mut next, mut random) = (Vec::new(), 7u64);
    let mut objects: Vec<_> = (0..2000).map(|_| (arena[0].alloc(640, Use::Lines), 640)).collect();
    for bytes in (768..=2048).step_by(128) {
        while !objects.is_empty() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (object, old) = objects.swap_remove((random >> 33) as usize % objects.len());
            next.push((arena[0].alloc(bytes, Use::Lines), bytes));
            // SAFETY: allocated above with this size, and forgotten.
            unsafe { arena[0].free(object, old, Use::Lines) };
        }
        arena[0].check();
        let (live, spans) = (arena[0].stats().index.load(Relaxed), arena[0].stats().spans.load(Relaxed));
        assert!(spans <= live / 3 * 4, "{spans} bytes in spans hold {live} of objects of {bytes}");
        std::mem::swap(&mut objects, &mut next);
    }
    drop(arena[0].detach());
}
