//! The server's policies against exact algorithms, against their promises, and against their budgets of memory.

use larder_policy::model::{Model, Room, Use};
use larder_policy::policies::Kind;
use larder_policy::sim::{Cache, Operation, Request, Subject, Trace, replay};
use larder_policy::{Entries, Passing, Ref, Scope, Seen, Shown, Step};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn share(&mut self) -> f64 {
        self.next() as f64 / (1u64 << 31) as f64
    }
}

/// Numbers keys in order of appearance.
fn trace_of(keys: impl Iterator<Item = (u64, u32)>) -> Trace {
    let mut numbers = BTreeMap::new();
    let requests = keys.map(|(key, bytes)| {
        let fresh = numbers.len() as u32;
        let key = *numbers.entry(key).or_insert(fresh);
        Request { key, bytes, second: 0, ttl_seconds: 0, operation: Operation::Get }
    });
    let requests = requests.collect();
    Trace { requests, keys: numbers.len() as u32 }
}

/// Skewed popularity that drifts, with scans in between.
fn mixed(requests: usize, keys: f64, seed: u64) -> Trace {
    let mut random = Random(seed);
    let mut scan = 0u64;
    trace_of((0..requests).map(move |at| {
        let is_scan = at / 2000 % 5 == 4;
        let key = if is_scan {
            scan += 1;
            (1 << 40) + scan % 6000
        } else {
            let rank = keys.powf(random.share()) as u64;
            rank + (at / 20_000) as u64 * 40
        };
        (key, 1)
    }))
}

fn misses(trace: &Trace, subject: Subject, capacity: u64) -> f64 {
    let outcomes = replay(trace, &[subject], &[capacity], 1, &mut |_, _| {});
    outcomes[0].tally.misses as f64
}

#[test]
fn lru_mru_fifo_and_lfu_are_within_a_hundredth_of_the_exact_algorithms() {
    let trace = mixed(200_000, 8000.0, 3);
    let pairs = [
        (Kind::Lru, Subject::ExactLru),
        (Kind::Mru, Subject::ExactMru),
        (Kind::Fifo, Subject::ExactFifo),
        (Kind::Lfu, Subject::ExactLfu),
    ];
    for (kind, exact) in pairs {
        for capacity in [8, 80, 800, 3000] {
            let (mine, exact) =
                (misses(&trace, Subject::Policy(kind), capacity), misses(&trace, exact, capacity));
            assert!((mine / exact - 1.0).abs() < 0.01, "{kind:?} at {capacity}: {mine} for {exact}");
        }
    }
}

#[test]
fn the_adaptive_policy_saves_misses_on_mixed_loads_and_loses_none_where_lru_is_best() {
    let trace = mixed(400_000, 8000.0, 5);
    for capacity in [80, 800, 3000] {
        let adaptive = misses(&trace, Subject::Policy(Kind::Adaptive), capacity);
        let redis = misses(&trace, Subject::RedisLru, capacity);
        assert!(adaptive < 0.95 * redis, "at {capacity}: {adaptive} for {redis}");
    }
    // Every key comes a few times within a short while and then never again.
    let mut random = Random(9);
    let drift = trace_of((0..300_000u64).map(|at| (at / 4 + random.next() % 400, 1)));
    for capacity in [100, 400] {
        let adaptive = misses(&drift, Subject::Policy(Kind::Adaptive), capacity);
        let lru = misses(&drift, Subject::ExactLru, capacity);
        assert!(adaptive < 1.05 * lru, "at {capacity}: {adaptive} for {lru}");
    }
}

#[test]
fn in_a_loop_the_adaptive_policy_keeps_what_fits() {
    let trace = trace_of((0..400_000u64).map(|at| (at % 2000, 1)));
    let adaptive = misses(&trace, Subject::Policy(Kind::Adaptive), 1000);
    let optimum = misses(&trace, Subject::Belady, 1000);
    let lru = misses(&trace, Subject::ExactLru, 1000);
    assert_eq!(lru, 400_000.0);
    assert!(adaptive < 1.3 * optimum, "{adaptive} for {optimum}");
}

#[test]
fn size_aware_policies_hit_more_objects() {
    let mut random = Random(77);
    // Popularity and size are independent; sizes differ by a factor of a thousand.
    let size = |key: u64| 16u32 << (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61);
    let trace = trace_of((0..300_000).map(|_| {
        let key = 20_000f64.powf(random.share()) as u64;
        (key, size(key))
    }));
    let capacity = trace.footprint() / 20;
    let lru = misses(&trace, Subject::ExactLru, capacity);
    for kind in [Kind::Gdsf, Kind::Adaptive] {
        let mine = misses(&trace, Subject::Policy(kind), capacity);
        assert!(mine < 0.91 * lru, "{kind:?}: {mine} for {lru}");
    }
}

#[test]
fn memory_stays_within_the_budget_of_each_policy() {
    let mut random = Random(4);
    let trace = trace_of((0..900_000).map(|_| ((400_000.0 * random.share() * random.share()) as u64, 1)));
    for kind in Kind::ALL.iter().copied() {
        let room = Room { capacity: 120_000, keys: trace.keys, entries: 120_000 };
        let mut cache = Cache::new(room, kind, Scope::All);
        for request in &trace.requests {
            cache.access(Use { key: request.key, size: 1, next: 0, second: 0, end: u32::MAX });
        }
        let budget = match kind {
            Kind::Random | Kind::Ttl | Kind::Gdsf => 0.1,
            Kind::Lru | Kind::Lrm | Kind::Lfu => 8.0,
            _ => 5.0,
        };
        let (len, bytes) = (cache.len(), cache.memory_an_entry());
        assert!(len >= 100_000 || kind == Kind::Ttl, "{kind:?} holds {len}");
        assert!(bytes <= budget, "{kind:?}: {bytes} bytes an entry");
    }
}

#[test]
fn probation_takes_less_than_three_bytes_an_entry() {
    let mut random = Random(4);
    let trace = trace_of((0..900_000).map(|_| ((400_000.0 * random.share() * random.share()) as u64, 1)));
    // lfu and sieve drop the references of what left on probation only while they look around, which a server has them do.
    for kind in [Kind::Lru, Kind::Lrm, Kind::Fifo, Kind::Mru, Kind::Random, Kind::Gdsf] {
        let room = Room { capacity: 120_000, keys: trace.keys, entries: 120_000 };
        let memory = |policy| {
            let mut cache = Cache::with(room, kind, Scope::All, policy);
            for request in &trace.requests {
                cache.access(Use { key: request.key, size: 1, next: 0, second: 0, end: u32::MAX });
            }
            cache.memory_an_entry()
        };
        let (plain, admitting) =
            (memory(kind.make(Scope::All, 1)), memory(kind.make_admitting(Scope::All, 1)));
        assert!(admitting < plain + 3.0 && admitting <= 8.0, "{kind:?}: {plain}, with probation {admitting}");
    }
}

#[test]
fn few_entries_take_little_memory() {
    for kind in [Kind::Lru, Kind::Lrm, Kind::Fifo, Kind::Mru] {
        let room = Room { capacity: 5_000, keys: 200_000, entries: 5_000 };
        let mut cache = Cache::new(room, kind, Scope::All);
        for key in 0..200_000 {
            cache.access(Use { key, size: 1, next: 0, second: 0, end: u32::MAX });
        }
        let bytes = cache.memory_an_entry() * 5_000.0;
        assert!(bytes < 80e3, "{kind:?}: {bytes} bytes for 5,000 entries");
    }
}

/// A table of few entries that says what was asked of it.
#[derive(Default)]
struct Naive {
    entries: BTreeMap<u32, Seen>,
}

impl Entries for Naive {
    fn look(&mut self, at: Ref) -> Option<Seen> {
        self.entries.get(&at.0).copied()
    }

    fn set_field(&mut self, at: Ref, field: u32) {
        assert!(field <= larder_policy::FIELD_MAX, "a field beyond its bits: {field:x}");
        if let Some(seen) = self.entries.get_mut(&at.0) {
            seen.field = field;
        }
    }

    fn walk(&mut self, from: u32, show: &mut dyn FnMut(&[Seen], &dyn Passing)) -> u32 {
        let bucket: Vec<(u32, Seen)> =
            self.entries.range(from..).take(8).map(|(at, seen)| (*at, *seen)).collect();
        let mut shown: Shown = bucket.iter().map(|(at, seen)| (Ref(*at), *seen)).collect();
        shown.to(show).into_iter().for_each(|(at, field)| self.set_field(at, field));
        if bucket.len() < 8 { 0 } else { bucket.last().map_or(0, |(at, _)| at.saturating_add(1)) }
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}

#[derive(Clone, Debug)]
enum Act {
    Make(u32, u32, bool),
    Read(u32),
    Write(u32, u32),
    Remove(u32),
    Absorb,
    Observe,
    Evict,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let key = || 0u32..60;
    let act = prop_oneof![
        4 => (key(), 1u32..5000, any::<bool>()).prop_map(|(key, bytes, is_timed)| Act::Make(key, bytes, is_timed)),
        4 => key().prop_map(Act::Read),
        1 => (key(), 1u32..5000).prop_map(|(key, bytes)| Act::Write(key, bytes)),
        2 => key().prop_map(Act::Remove),
        1 => Just(Act::Absorb),
        1 => Just(Act::Observe),
        3 => Just(Act::Evict),
    ];
    proptest::collection::vec(act, 1..300)
}

/// Where a key stands: spread, so that references are large numbers too.
fn at_of(key: u32) -> Ref {
    Ref(key.wrapping_mul(0x9e37_79b1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever happens: a victim is there and in scope, the entry made last is no victim, and as long as anything is in
    /// scope something is found in bounded time.
    #[test]
    fn victims_are_there_and_in_scope(acts in acts()) {
        for kind in Kind::ALL.iter().copied() {
            for scope in [Scope::All, Scope::Timed] {
                run(kind, scope, &acts)?;
            }
        }
    }
}

fn run(kind: Kind, scope: Scope, acts: &[Act]) -> Result<(), TestCaseError> {
    let is_ttl = kind == Kind::Ttl;
    let (mut policy, mut hits, mut table) = (kind.make(scope, 1), kind.hits(2), Naive::default());
    let mut newest = None;
    let in_scope = |seen: &Seen| if is_ttl { seen.is_timed() } else { scope.has(seen) };
    for act in acts {
        match *act {
            Act::Make(key, bytes, is_timed) => {
                let at = at_of(key);
                let deadline = if is_timed { 1_700_000_000_000 + u64::from(bytes) } else { u64::MAX };
                let mut seen = Seen { field: 0, bytes, deadline, is_over: false };
                if let Entry::Vacant(vacant) = table.entries.entry(at.0) {
                    if in_scope(&seen) {
                        policy.arriving();
                        seen.field = policy.created(at, bytes);
                        newest = Some(at);
                    }
                    vacant.insert(seen);
                }
            }
            Act::Read(key) => {
                if let Some(seen) = table.entries.get_mut(&at_of(key).0) {
                    seen.field = hits.read(at_of(key), seen.field);
                    prop_assert!(seen.field <= larder_policy::FIELD_MAX);
                }
            }
            Act::Write(key, bytes) => {
                if let Some(seen) = table.entries.get_mut(&at_of(key).0) {
                    let before = std::mem::replace(&mut seen.bytes, bytes);
                    seen.field = hits.wrote(at_of(key), seen.field);
                    if in_scope(seen) {
                        policy.resized(seen.field, before, bytes);
                    }
                }
            }
            Act::Remove(key) => {
                if let Some(seen) = table.entries.remove(&at_of(key).0)
                    && in_scope(&seen)
                {
                    policy.removed(at_of(key), seen);
                }
            }
            Act::Absorb => policy.absorb(&mut hits),
            Act::Observe => policy.observe(&mut table),
            Act::Evict => evict(kind, policy.as_mut(), &mut table, newest, &in_scope)?,
        }
    }
    // At the end all of it may leave, but for what was made last.
    policy.arriving();
    while table.entries.values().filter(|seen| in_scope(seen)).count() > 1 {
        evict(kind, policy.as_mut(), &mut table, None, &in_scope)?;
    }
    Ok(())
}

fn evict(
    kind: Kind,
    policy: &mut dyn larder_policy::Policy,
    table: &mut Naive,
    newest: Option<Ref>,
    in_scope: &dyn Fn(&Seen) -> bool,
) -> Result<(), TestCaseError> {
    let candidates = table.entries.values().filter(|seen| in_scope(seen)).count();
    for _ in 0..2000 {
        match policy.step(table) {
            Step::Evict(at) => {
                let seen = table.entries.remove(&at.0);
                prop_assert!(
                    seen.is_some_and(|seen| in_scope(&seen)),
                    "{:?} evicts what may not leave",
                    kind
                );
                prop_assert!(
                    newest != Some(at) || table.entries.is_empty(),
                    "{:?} evicts what was just made",
                    kind
                );
                return Ok(());
            }
            Step::More => {}
            Step::Nothing if candidates <= 1 => return Ok(()),
            Step::Nothing => {}
        }
    }
    prop_assert!(candidates <= 1, "{:?} finds none of {}", kind, candidates);
    Ok(())
}
