//! Policies over a real keyspace: several databases, keys with and without ends, collections, other threads.

use super::*;
use crate::db::{Db, Expire};
use crate::keyspace::{DbIndex, Hashed};
use crate::local::{Access, Local};
use crate::stats::StoreStats;
use larder_table::{Epochs, Hasher};
use larder_values::hash::{End, Hash, PackedLimits};
use proptest::prelude::*;
use std::collections::BTreeMap;

const DATABASES: u32 = 3;
const START: u64 = 1_000_000;

fn keyspace(workers: usize) -> Keyspace {
    Keyspace::new(DATABASES, workers, Hasher::keyed([3, 4]), Epochs::new(8))
}

fn worker(keyspace: &Keyspace, number: usize, choice: Choice) -> (Local, Evictor) {
    let mut local = Local::of_worker(number, 77 + number as u64, Arc::new(StoreStats::default()));
    local.now = Millis(START);
    let mut evictor = Evictor::default();
    follow(keyspace, &mut local, &mut evictor, choice);
    (local, evictor)
}

fn follow(keyspace: &Keyspace, local: &mut Local, evictor: &mut Evictor, choice: Choice) {
    let chosen = keyspace.choose_policy(Some(choice), 24);
    let classes = keyspace.policies_of_classes();
    local.uses.follow(chosen.clone(), &classes, 5);
    evictor.follow(chosen);
    local.unclassed = if local.uses.has_fields() { Access::Policy } else { Access::Lru };
    local.access = if classes.is_empty() { local.unclassed } else { Access::ByClass };
}

/// Classes of keys by what is left of their first byte divided by three: of the first database and of the second.
fn classes(first: Kind, second: Kind) -> Vec<ClassSpec> {
    let class = |db, kind, rest| ClassSpec {
        name: format!("{db} {rest}").into(),
        db: DbIndex(db),
        prefix: Box::default(),
        matches: Arc::new(move |key: &[u8]| key[0] % 3 == rest),
        kind,
        scope: if kind == Kind::Ttl { Scope::Timed } else { Scope::All },
    };
    vec![class(0, first, 0), class(1, second, 1)]
}

/// Keys and bytes of each class, counted anew.
fn counted(keyspace: &Keyspace) -> Vec<(usize, usize)> {
    let of = |spec: &ClassSpec| {
        let (mut keys, mut bytes) = (0, 0);
        for shard in 0..keyspace.table(spec.db).shards() {
            keyspace.table(spec.db).lock(shard).for_each(&mut |entry| {
                if (spec.matches)(entry.key()) {
                    (keys, bytes) = (keys + 1, bytes + bytes_of(entry) as usize);
                }
            });
        }
        (keys, bytes)
    };
    classes(Kind::Lru, Kind::Lru).iter().map(of).collect()
}

fn told(keyspace: &Keyspace) -> Vec<(usize, usize)> {
    keyspace.use_of_classes().iter().map(|class| (class.keys, class.bytes)).collect()
}

fn with<R>(
    keyspace: &Keyspace,
    db: u32,
    local: &mut Local,
    key: u32,
    act: impl FnOnce(&mut Db<'_>, &Hashed<'_>) -> R,
) -> R {
    let (db, bytes) = (DbIndex(db), key.to_le_bytes());
    let locked = keyspace.lock_many(db, &[keyspace.hash(&bytes)]);
    let mut db = Db::new(keyspace, db, locked, local);
    let key = db.key(&bytes);
    act(&mut db, &key)
}

fn exists(keyspace: &Keyspace, local: &mut Local, db: u32, key: u32) -> bool {
    with(keyspace, db, local, key, |db, key| db.peek(key).is_some())
}

#[derive(Debug, Clone)]
enum Step {
    Put { len: usize, end: Option<u64> },
    Read,
    Fields(u32),
    Empty,
    Remove,
    Expire(u64),
    Persist,
    Append(usize),
    Wait(u64),
    Sweep,
    Swap,
    Flush,
    Look,
    Evict(usize),
    Change(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0usize..3000, prop::option::of(1u64..5000)).prop_map(|(len, end)| Step::Put { len, end }),
        10 => Just(Step::Read),
        3 => (1u32..60).prop_map(Step::Fields),
        1 => Just(Step::Empty),
        2 => Just(Step::Remove),
        2 => (1u64..5000).prop_map(Step::Expire),
        1 => Just(Step::Persist),
        2 => (0usize..2000).prop_map(Step::Append),
        1 => (0u64..300).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
        1 => Just(Step::Swap),
        1 => Just(Step::Flush),
        2 => Just(Step::Look),
        4 => (1usize..6).prop_map(Step::Evict),
        1 => (0usize..48).prop_map(Step::Change),
    ]
}

fn choice_at(index: usize) -> Choice {
    let kind = Kind::ALL[index % Kind::ALL.len()];
    let scope = if (index / Kind::ALL.len()).is_multiple_of(2) && kind != Kind::Ttl {
        Scope::All
    } else {
        Scope::Timed
    };
    Choice { kind, scope, admission: index >= 2 * Kind::ALL.len() }
}

/// The keys of all databases, with whether they have an end.
fn keys(keyspace: &Keyspace) -> BTreeMap<(u32, Vec<u8>), bool> {
    let mut keys = BTreeMap::new();
    for db in 0..DATABASES {
        let mut cursor = 0;
        loop {
            cursor = keyspace.scan(DbIndex(db), cursor, Millis(0), &mut |item| {
                keys.insert((db, item.key().to_vec()), item.deadline().is_some());
            });
            if cursor == 0 {
                break;
            }
        }
    }
    keys
}

/// Evicts one key, in so many looks at most. Answers whether one left.
fn evict(keyspace: &Keyspace, local: &mut Local, evictor: &mut Evictor) -> bool {
    for _ in 0..20_000 {
        match evictor.evict(keyspace, local, 1, 1) {
            Evicted::Bytes(bytes) => {
                assert!(bytes > 0);
                return true;
            }
            Evicted::NotYet => {}
            Evicted::Nothing => return false,
        }
    }
    panic!("an eviction comes to no end: {:?} {:?}", local.uses.choice(), keys(keyspace));
}

fn take_step(
    keyspace: &Keyspace,
    local: &mut Local,
    evictor: &mut Evictor,
    (db, key): (u32, u32),
    step: &Step,
) {
    let now = local.now.0;
    match step {
        Step::Put { len, end } => {
            evictor.arriving();
            let expire = end.map_or(Expire::Clear, |end| Expire::At(Millis(now + end)));
            with(keyspace, db, local, key, |db, key| db.put_string(key, &vec![b'v'; *len], expire));
        }
        Step::Read => drop(with(keyspace, db, local, key, |db, key| db.read(key).map(|item| item.memory()))),
        Step::Fields(count) => with(keyspace, db, local, key, |db, key| {
            let limits = PackedLimits { entries_max: 16, value_bytes_max: 64 };
            let _ = db.edit_or_create::<Hash, _>(key, |hash| {
                (0..*count).for_each(|field| {
                    let _ = hash.set(&field.to_le_bytes(), b"value", End::Clear, now, limits);
                });
            });
        }),
        Step::Empty => with(keyspace, db, local, key, |db, key| {
            let _ = db.edit::<Hash, _>(key, |hash| {
                (0..60u32).for_each(|field| _ = hash.remove(&field.to_le_bytes(), now));
            });
        }),
        Step::Remove => drop(with(keyspace, db, local, key, |db, key| db.remove(key))),
        Step::Expire(end) => {
            with(keyspace, db, local, key, |db, key| db.set_deadline(key, Some(Millis(now + end))));
        }
        Step::Persist => drop(with(keyspace, db, local, key, |db, key| db.set_deadline(key, None))),
        Step::Append(len) => with(keyspace, db, local, key, |db, key| {
            let _ = db.edit_string(key, |bytes| {
                bytes.resize(bytes.len() + len, b'a');
                ((), true)
            });
        }),
        Step::Wait(ms) => local.now.0 += ms,
        Step::Sweep => drop(keyspace.sweep_expired((0, 1), local, &mut || true)),
        Step::Swap => keyspace.swap(DbIndex(db), DbIndex((db + 1) % DATABASES), local),
        Step::Flush if key % 8 == 0 => drop(keyspace.flush(DbIndex(db), &mut local.effects)),
        Step::Flush => {}
        Step::Look => {
            evictor.observe(keyspace, local);
            keyspace.look_after_policy(local.now, true, 100);
        }
        Step::Change(index) => follow(keyspace, local, evictor, choice_at(*index)),
        Step::Evict(count) => {
            for _ in 0..*count {
                evictor.arriving();
                let before = keys(keyspace);
                let left = evict(keyspace, local, evictor);
                let after = keys(keyspace);
                let scope = local.uses.choice().map_or(Scope::All, |choice| choice.scope);
                let eligible = before.values().filter(|is_timed| scope == Scope::All || **is_timed).count();
                assert_eq!(left, eligible > 0, "of {} keys {eligible} may leave", before.len());
                let gone: Vec<_> = before.iter().filter(|(key, _)| !after.contains_key(*key)).collect();
                assert_eq!(gone.len(), usize::from(left));
                assert!(gone.iter().all(|(_, is_timed)| scope == Scope::All || **is_timed));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_one_key_of_those_that_may_leave_does(
        first in 0usize..48,
        steps in prop::collection::vec((0..DATABASES, 0u32..60, step()), 1..250),
    ) {
        let keyspace = keyspace(1);
        let (mut local, mut evictor) = worker(&keyspace, 0, choice_at(first));
        for (db, key, step) in steps {
            take_step(&keyspace, &mut local, &mut evictor, (db, key), &step);
            local.uses.tell(&keyspace, local.now);
            local.effects.take_changes();
            local.garbage.clear();
        }
        for db in 0..DATABASES {
            keyspace.table(DbIndex(db)).check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn what_classes_take_is_what_there_is_of_them(
        kinds in (0usize..24, 0usize..24, 0usize..24),
        begins in 0usize..150,
        steps in prop::collection::vec((0..DATABASES, 0u32..60, step()), 1..250),
    ) {
        let keyspace = keyspace(1);
        let (mut local, mut evictor) = worker(&keyspace, 0, choice_at(kinds.0));
        let mut of_classes = Vec::new();
        for (number, (db, key, step)) in steps.into_iter().enumerate() {
            if number == begins {
                let kind = |at: usize| Kind::ALL[at % Kind::ALL.len()];
                prop_assert!(keyspace.choose_classes(classes(kind(kinds.1), kind(kinds.2))));
                follow(&keyspace, &mut local, &mut evictor, choice_at(kinds.0));
                for chosen in keyspace.policies_of_classes() {
                    let mut evictor = Evictor::default();
                    evictor.follow(Some(chosen));
                    while !evictor.adopt(&keyspace, &mut local) {}
                    of_classes.push(evictor);
                }
            }
            match step {
                // What the policy of the others evicts is none of theirs; each of theirs evicts its own.
                Step::Evict(_) if !of_classes.is_empty() => {
                    let (before, all) = (counted(&keyspace), keys(&keyspace).len());
                    evictor.arriving();
                    let others = all - before.iter().map(|(keys, _)| keys).sum::<usize>();
                    let left = usize::from(evict(&keyspace, &mut local, &mut evictor));
                    prop_assert_eq!(counted(&keyspace), before.clone());
                    if local.uses.choice().is_some_and(|choice| choice.scope == Scope::All) {
                        prop_assert_eq!(left, others.min(1));
                    }
                    let class = key as usize % 2;
                    of_classes[class].arriving();
                    let is_ttl = keyspace.policies_of_classes()[class].choice.kind == Kind::Ttl;
                    if !is_ttl {
                        let left = evict(&keyspace, &mut local, &mut of_classes[class]);
                        prop_assert_eq!(left, before[class].0 > 0);
                        prop_assert_eq!(counted(&keyspace)[class].0, before[class].0 - usize::from(left));
                        prop_assert_eq!(counted(&keyspace)[1 - class], before[1 - class]);
                    }
                }
                Step::Evict(_) | Step::Change(_) => {}
                step => take_step(&keyspace, &mut local, &mut evictor, (db, key), &step),
            }
            local.uses.tell(&keyspace, local.now);
            for evictor in &mut of_classes {
                while !evictor.adopt(&keyspace, &mut local) {}
            }
            local.effects.take_changes();
            local.garbage.clear();
            if !of_classes.is_empty() {
                prop_assert_eq!(told(&keyspace), counted(&keyspace));
            }
        }
    }
}

#[test]
fn lru_lets_go_of_what_was_used_longest_ago() {
    let keyspace = keyspace(1);
    let (mut local, mut evictor) =
        worker(&keyspace, 0, Choice { kind: Kind::Lru, scope: Scope::All, admission: false });
    keyspace.look_after_policy(local.now, true, 10_000);
    for key in 0..10_000 {
        with(&keyspace, key % 2, &mut local, key, |db, key| db.put_string(key, b"value", Expire::Clear));
    }
    local.uses.tell(&keyspace, local.now);
    keyspace.look_after_policy(local.now, true, 10_000);
    // Those of the first half that are used stay longer than any of the second half.
    for key in (0..5_000).step_by(2) {
        with(&keyspace, key % 2, &mut local, key, |db, key| db.read(key).is_some());
        local.uses.tell(&keyspace, local.now);
    }
    for _ in 0..7_400 {
        evictor.arriving();
        assert!(evict(&keyspace, &mut local, &mut evictor));
    }
    let used = (0..5_000).step_by(2).filter(|key| exists(&keyspace, &mut local, key % 2, *key)).count();
    assert!(used >= 2_480, "{used} of 2,500 that were used last are left");
    assert_eq!(keys(&keyspace).len(), 2_600);
}

#[test]
fn idle_times_and_counts_of_uses_are_told() {
    let keyspace = keyspace(1);
    let (mut local, mut evictor) =
        worker(&keyspace, 0, Choice { kind: Kind::Lru, scope: Scope::All, admission: false });
    with(&keyspace, 0, &mut local, 1, |db, key| db.put_string(key, b"value", Expire::Clear));
    for _ in 0..100 {
        local.now.0 += 1000;
        keyspace.look_after_policy(local.now, true, 100);
        local.uses.tell(&keyspace, local.now);
    }
    let told = with(&keyspace, 0, &mut local, 1, |db, key| {
        let field = db.peek(key).map_or(0, |item| item.access());
        db.idle_ms(key, field)
    });
    assert!(told.is_some_and(|idle| idle.abs_diff(100_000) <= 2000), "{told:?}");
    with(&keyspace, 0, &mut local, 1, |db, key| db.set_idle(key, 40_000));
    let told = with(&keyspace, 0, &mut local, 1, |db, key| {
        let field = db.peek(key).map_or(0, |item| item.access());
        db.idle_ms(key, field)
    });
    assert!(told.is_some_and(|idle| idle.abs_diff(40_000) <= 2000), "{told:?}");

    follow(
        &keyspace,
        &mut local,
        &mut evictor,
        Choice { kind: Kind::Lfu, scope: Scope::All, admission: false },
    );
    with(&keyspace, 0, &mut local, 2, |db, key| db.put_string(key, b"value", Expire::Clear));
    for _ in 0..9 {
        with(&keyspace, 0, &mut local, 2, |db, key| db.read(key).is_some());
    }
    let uses = with(&keyspace, 0, &mut local, 2, |db, key| db.peek(key).map(|item| item.access()));
    assert_eq!(uses.map(crate::uses_of), Some(10));
    with(&keyspace, 0, &mut local, 2, |db, key| db.set_uses(key, 77));
    let uses = with(&keyspace, 0, &mut local, 2, |db, key| db.peek(key).map(|item| item.access()));
    assert_eq!(uses.map(crate::uses_of), Some(77));
}

#[test]
fn workers_evict_side_by_side() {
    for kind in Kind::ALL {
        let keyspace = keyspace(2);
        let choice = Choice {
            kind: *kind,
            scope: if *kind == Kind::Ttl { Scope::Timed } else { Scope::All },
            admission: false,
        };
        std::thread::scope(|scope| {
            for number in 0..2 {
                let keyspace = &keyspace;
                scope.spawn(move || {
                    let (mut local, mut evictor) = worker(keyspace, number, choice);
                    let end = Expire::At(Millis(START + 1_000_000));
                    for round in 0..20_000u32 {
                        let key = round * 2 + number as u32;
                        with(keyspace, 0, &mut local, key, |db, key| db.put_string(key, b"value", end));
                        with(keyspace, 0, &mut local, key / 2, |db, key| db.read(key).is_some());
                        if round >= 2_000 {
                            evictor.arriving();
                            assert!(evict(keyspace, &mut local, &mut evictor), "{}", kind.name());
                        }
                        if round % 32 == 0 {
                            local.uses.tell(keyspace, local.now);
                        }
                    }
                    local.uses.tell(keyspace, local.now);
                });
            }
        });
        assert_eq!(keys(&keyspace).len(), 4_000, "{}", kind.name());
        let (mut local, mut evictor) = worker(&keyspace, 0, choice);
        keyspace.look_after_policy(local.now, true, 100);
        while evict(&keyspace, &mut local, &mut evictor) {}
        assert!(keyspace.is_empty(), "{}", kind.name());
        keyspace.table(DbIndex(0)).check();
    }
}

#[test]
fn keys_of_a_shard_that_is_taken_are_filed_once_it_is_given_back() {
    for kind in [Kind::Lru, Kind::S3Fifo] {
        let keyspace = keyspace(2);
        let (mut local, mut evictor) =
            worker(&keyspace, 0, Choice { kind: Kind::Random, scope: Scope::All, admission: false });
        for key in 0..2_000 {
            with(&keyspace, key % 2, &mut local, key, |db, key| db.put_string(key, b"value", Expire::Clear));
        }
        follow(&keyspace, &mut local, &mut evictor, Choice { kind, scope: Scope::All, admission: false });
        let taken = keyspace.lock_many(DbIndex(0), &[keyspace.hash(&0u32.to_le_bytes())]);
        assert!((0..1_000).all(|_| !evictor.adopt(&keyspace, &mut local)), "nobody waits for the shard");
        drop(taken);
        let rounds = (0..1_000).position(|_| evictor.adopt(&keyspace, &mut local));
        assert!(rounds.is_some(), "{}", kind.name());
        keyspace.look_after_policy(local.now, true, 2_000);
        let mut left = 0;
        while evict(&keyspace, &mut local, &mut evictor) {
            left += 1;
        }
        assert_eq!(left, 2_000, "{}", kind.name());
    }
}
