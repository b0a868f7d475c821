//! Probation in front of policies: what is asked for once passes through, what is used stays.

use larder_policy::Scope;
use larder_policy::model::{Model, Room, Use};
use larder_policy::policies::Kind;
use larder_policy::sim::Cache;

const KEYS: u32 = 400_000;
const CAPACITY: u64 = 2_000;

fn request(key: u32) -> Use {
    Use { key, size: 1, next: u32::MAX, second: 0, end: u32::MAX }
}

/// Misses of the keys that are asked for often, where every second request is for a key that never comes back.
fn misses(kind: Kind, is_admitting: bool) -> u32 {
    let room = Room { capacity: CAPACITY, entries: CAPACITY as usize, keys: KEYS };
    let policy = if is_admitting { kind.make_admitting(Scope::All, 1) } else { kind.make(Scope::All, 1) };
    let mut cache = Cache::with(room, kind, Scope::All, policy);
    let (mut seed, mut misses) = (7u64, 0);
    for round in 0..300_000u32 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Skewed: the lower a key, the likelier.
        let share = (seed >> 33) as f64 / (1u64 << 31) as f64;
        let often = (20_000f64.powf(share)) as u32;
        misses += u32::from(!cache.access(request(often)));
        cache.access(request(20_001 + round));
    }
    assert!(cache.used() <= CAPACITY);
    misses
}

#[test]
fn what_is_asked_for_once_pushes_nothing_out() {
    for kind in [Kind::Lru, Kind::Fifo, Kind::Lfu, Kind::Random, Kind::Sieve, Kind::Gdsf] {
        let (plain, admitting) = (misses(kind, false), misses(kind, true));
        // Least-used ones are what these two let go of anyway.
        let most = if matches!(kind, Kind::Lfu | Kind::Gdsf | Kind::Sieve) {
            plain + plain / 10
        } else {
            plain - plain / 10
        };
        assert!(admitting <= most, "{}: {admitting} misses, {plain} without", kind.name());
    }
}

#[test]
fn policies_that_judge_by_themselves_are_left_alone() {
    for kind in Kind::ALL {
        let own = format!("{:?}", kind.make_admitting(Scope::All, 1));
        assert_eq!(own.starts_with("Probation"), !kind.has_admission(), "{}", kind.name());
    }
}
