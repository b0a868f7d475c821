//! What is told is compared with exact counts, made beside.
//! Invariant: the loads are random and the same in every run, so that a tolerance once kept is kept always.

use super::*;
use crate::db::{Db, Expire};
use crate::keyspace::{DbIndex, Keyspace, TableNumber};
use crate::local::Local;
use crate::stats::StoreStats;
use larder_policy::{Random, mix};
use larder_table::{Epochs, Hasher};
use larder_values::list::{self, Limit, List};
use proptest::prelude::*;
use std::collections::HashMap;

const ONE: DbIndex = DbIndex(0);
const TABLE: TableNumber = TableNumber(0);
const START: u64 = 1_700_000_000_000;

struct Stage {
    keyspace: Keyspace,
    locals: Vec<Local>,
}

impl Stage {
    fn new(workers: usize) -> Stage {
        let keyspace = Keyspace::new(2, workers, Hasher::keyed([1, 2]), Epochs::new(workers));
        let locals = (0..workers).map(|worker| {
            let mut local = Local::of_worker(worker, 7, Arc::new(StoreStats::default()));
            local.now = Millis(START);
            local.insight.join(&keyspace.insight, worker, &local.stats);
            local.insight.switch(true);
            local
        });
        Stage { locals: locals.collect(), keyspace }
    }

    fn with<R>(&mut self, worker: usize, key: &[u8], act: impl FnOnce(&mut Db<'_>, &Hashed<'_>) -> R) -> R {
        let locked = self.keyspace.lock_many(ONE, &[self.keyspace.hash(key)]);
        let mut db = Db::new(&self.keyspace, ONE, locked, &mut self.locals[worker]);
        let key = db.key(key);
        act(&mut db, &key)
    }

    fn set(&mut self, worker: usize, key: &[u8], bytes: usize) {
        // No number, and nothing that could be packed: a byte is a byte.
        self.with(worker, key, |db, key| db.put_string(key, &vec![200; bytes], Expire::Clear));
    }

    fn get(&mut self, worker: usize, key: &[u8]) -> bool {
        self.with(worker, key, |db, key| db.read(key).is_some())
    }

    fn panel(&self) -> &Panel {
        &self.keyspace.insight
    }
}

/// Numbers below `keys` under Zipf's law of exponent 1, about.
fn skewed(random: &mut Random, keys: f64) -> u64 {
    keys.powf(random.share()) as u64
}

#[test]
fn hot_keys_and_prefixes_are_those_of_an_exact_count() {
    let (mut stage, mut random) = (Stage::new(2), Random::new(3));
    let (mut by_key, mut by_prefix) = (HashMap::<Vec<u8>, u64>::new(), HashMap::<Vec<u8>, (u64, u64)>::new());
    let accesses = 600_000;
    for access in 0..accesses {
        let number = skewed(&mut random, 20_000.0);
        let prefix: &[u8] = [&b"user:"[..], b"item:", b"cart:"][(number % 3) as usize];
        let key = [prefix, number.to_string().as_bytes()].concat();
        *by_key.entry(key.clone()).or_default() += 1;
        let of_prefix = by_prefix.entry(prefix.to_vec()).or_default();
        if access % 2 == 0 || by_key[&key] == 1 {
            stage.set(access % 2, &key, 50);
        } else {
            // Keys of carts are looked for where they never are.
            let asked = if prefix == b"cart:" { [&key[..], b"?"].concat() } else { key };
            if stage.get(access % 2, &asked) {
                of_prefix.0 += 1;
            } else {
                of_prefix.1 += 1;
            }
        }
    }
    let (hot, whole) = stage.panel().hot_keys(20);
    assert!((whole as f64 / accesses as f64 - 1.0).abs() < 0.05, "{whole} of {accesses}");
    let mut exact: Vec<(u64, Vec<u8>)> = by_key.into_iter().map(|(key, count)| (count, key)).collect();
    exact.sort_unstable_by(|a, b| b.cmp(a));
    for (count, key) in exact.iter().filter(|(_, key)| !key.starts_with(b"cart:")).take(8) {
        let told = hot.iter().find(|hot| hot.key == *key).unwrap_or_else(|| panic!("{key:?} is missing"));
        // Each sample stands for 256 accesses, so that many times fewer of them carry the figure.
        let tolerance = 4.0 * (*count as f64 * 256.0).sqrt() + told.over as f64;
        assert!((told.accesses as f64 - *count as f64).abs() < tolerance, "{told:?} for {count}");
    }
    let (prefixes, _) = stage.panel().prefixes(3);
    assert_eq!(prefixes.len(), 3);
    for figures in &prefixes {
        let (hits, misses) = by_prefix[&figures.prefix];
        let ratio = hits as f64 / (hits + misses) as f64;
        assert!((figures.traffic.hit_ratio() - ratio).abs() < 0.06, "{figures:?} for {ratio}");
    }
    assert!(stage.panel().memory() < 2 << 20, "{}", stage.panel().memory());
}

#[test]
fn a_key_that_a_whole_pipeline_asks_for_is_told_of_once_a_turn() {
    let mut stage = Stage::new(1);
    let hash = stage.keyspace.hash(b"hot");
    stage.set(0, b"hot", 100);
    assert!(stage.get(0, b"hot"));
    let insight = &mut stage.locals[0].insight;
    insight.until_sample = 1000;
    assert!(!insight.wants_read(hash) && !insight.wants_edited(hash));
    assert!(!insight.wants_written(hash, 150), "it has about that size already");
    assert!(insight.wants_written(hash, 500) && insight.wants_written(hash, 20));
    insight.turn();
    assert!(insight.wants_read(hash) && insight.wants_edited(hash));
    assert!(stage.get(0, b"hot"));
    let insight = &mut stage.locals[0].insight;
    insight.until_sample = 1000;
    assert!(!insight.wants_read(hash));
    insight.removed(hash, Removal::Deleted, Millis(START));
    assert!(insight.wants_read(hash), "the next key of this name is another");
}

#[test]
fn the_curve_is_within_two_points_of_full_simulation() {
    for (keys, accesses) in [(3_000.0, 300_000), (150_000.0, 900_000)] {
        let (mut stage, mut random) = (Stage::new(2), Random::new(5));
        // An exact LRU of every size at once: the distances of a list, counted by a tree of bytes over time.
        let mut last: HashMap<u64, usize> = HashMap::new();
        let mut tree = vec![0i64; accesses + 1];
        let add = |tree: &mut Vec<i64>, mut at: usize, bytes: i64| {
            at += 1;
            while let Some(sum) = tree.get_mut(at) {
                *sum += bytes;
                at += at & at.wrapping_neg();
            }
        };
        let before = |tree: &Vec<i64>, mut at: usize| {
            let mut sum = 0;
            while at > 0 {
                sum += tree[at];
                at &= at - 1;
            }
            sum
        };
        let mut distances: Vec<i64> = Vec::new();
        let mut memory = 0i64;
        for access in 0..accesses {
            let number = skewed(&mut random, keys);
            let key = number.to_le_bytes();
            let value = 20 + (mix(number) % 900) as usize;
            // Cache-aside: what is not there is stored.
            let worker = access / 64 % 2;
            if !stage.get(worker, &key) {
                stage.set(worker, &key, value);
            }
            let bytes =
                stage.with(worker, &key, |db, key| db.peek(key).map_or(0, |item| item.memory())) as i64;
            if let Some(at) = last.insert(number, access) {
                distances.push(before(&tree, accesses) - before(&tree, at + 1) + bytes);
                add(&mut tree, at, -bytes);
            } else {
                memory += bytes;
            }
            add(&mut tree, access, bytes);
            if access % 64 == 0 {
                stage.locals[worker].insight.turn();
            }
        }
        let told = stage.panel().miss_ratio();
        let (mut sum, mut points) = (0.0, 0);
        for share in [0.03, 0.0625, 0.125, 0.25, 0.5, 0.75, 1.0] {
            let size = (memory as f64 * share) as i64;
            let hits = distances.iter().filter(|distance| **distance <= size).count();
            sum += (told.curve.hit_ratio(size as u64) - hits as f64 / accesses as f64).abs();
            points += 1;
        }
        let error = 100.0 * sum / f64::from(points);
        assert!(error < 2.0, "{keys} keys: {error} points, {} followed at {}", told.keys, told.rate);
        assert!(told.rate < 0.2 || keys < 10_000.0, "{}", told.rate);
        let shards = told.reads_followed;
        assert!(shards > 0);
    }
}

#[test]
fn keys_that_are_expected_are_followed_by_the_share_that_there_is_room_for() {
    let keys = 100_000;
    let mut stage = Stage::new(1);
    stage.panel().expect(keys);
    let of_all = |stage: &Stage| f64::from(stage.panel().threshold()) / f64::from(u32::MAX) * keys as f64;
    let followed = of_all(&stage);
    assert!((8192.0..9000.0).contains(&followed), "{followed}");
    for number in 0..keys {
        stage.set(0, number.to_string().as_bytes(), 10);
        stage.locals[0].insight.turn();
    }
    let followed = of_all(&stage);
    assert!((7500.0..9000.0).contains(&followed), "{followed}");
    // Fewer than can be followed change nothing.
    let stage = Stage::new(1);
    stage.panel().expect(5000);
    assert_eq!(stage.panel().threshold(), u32::MAX);
}

#[test]
fn a_small_cache_is_watched_with_little_memory() {
    let [small, large] = [2_700_000, usize::MAX].map(|limit| {
        let mut stage = Stage::new(1);
        stage.panel().fit(limit);
        for number in 0..20_000u32 {
            let key = (number % 3_000).to_be_bytes();
            if !stage.get(0, &key) {
                stage.set(0, &key, 100);
            }
        }
        let told = stage.panel().miss_ratio();
        assert!(told.curve.hit_ratio(1 << 30) > 0.7, "the loop fits into a gigabyte");
        assert!(told.curve.hit_ratio(1000) < 0.1, "and not into a kilobyte");
        (told.keys, stage.panel().memory())
    });
    assert!(small.0 <= 256 && large.0 > 1_000, "{small:?} {large:?}");
    assert!(small.1 + 256 * 1024 < large.1, "{small:?} {large:?}");
    assert!(small.1 < 200 * 1024, "{small:?}");
}

#[test]
fn large_values_are_found_however_they_grow() {
    let mut stage = Stage::new(2);
    for number in 0..3000usize {
        stage.set(number % 2, format!("s{number}").as_bytes(), 10 + number);
    }
    stage.set(0, b"s7", 100_000);
    stage.with(1, b"grown", |db, key| {
        for _ in 0..100 {
            db.edit_string(key, |text| (text.resize(text.len() + 2000, 1), true)).unwrap();
        }
    });
    for _ in 0..20_000 {
        stage.with(0, b"list", |db, key| {
            let edited = db.edit_or_create::<List, _>(key, |list| {
                list.make_room(Limit::of(8), 1, 100);
                list.push(list::End::Tail, &[1; 100]);
            });
            edited.unwrap();
        });
    }
    let large = stage.panel().large_keys();
    let names: Vec<&[u8]> = large.iter().take(5).map(|(_, key, _)| &key[..]).collect();
    assert_eq!(names[0], b"list");
    assert_eq!(names[1], b"grown");
    assert_eq!(names[2..], [&b"s7"[..], b"s2999", b"s2998"]);
    assert!(large[0].2 >= 1_900_000, "{}", large[0].2);
    // What went is forgotten by who looked it up, and others take the places.
    stage.panel().correct_large(TABLE, b"list", None);
    stage.panel().correct_large(TABLE, b"s7", Some(5000));
    let large = stage.panel().large_keys();
    assert_eq!((&large[0].1[..], &large[1].1[..]), (&b"grown"[..], &b"s7"[..]));
    assert_eq!(large[1].2, 5000);
}

#[test]
fn ends_of_keys_are_told_by_their_reasons() {
    let mut stage = Stage::new(1);
    for number in 0..200u64 {
        let key = number.to_le_bytes();
        let end = if number < 100 { Expire::At(Millis(START + 10_000)) } else { Expire::Clear };
        stage.with(0, &key, |db, key| db.put_string(key, b"v", end));
        if number % 4 == 0 {
            assert!(stage.get(0, &key));
        }
    }
    stage.locals[0].now = Millis(START + 10_000);
    let Stage { keyspace, locals } = &mut stage;
    keyspace.sweep_expired((0, 1), &mut locals[0], &mut || true);
    for number in 100..120u64 {
        assert!(stage.with(0, &number.to_le_bytes(), |db, key| db.remove_for(key, Removal::Deleted)));
    }
    let lives = stage.panel().lifetimes();
    assert_eq!((lives.expired.keys, lives.expired.unread, lives.deleted.keys), (100, 75, 20));
    assert!((8.0..12.5).contains(&lives.expired.age_seconds(50.0)), "{}", lives.expired.age_seconds(50.0));
    assert_eq!(lives.keys, 80);
    stage.keyspace.flush(ONE, &mut stage.locals[0].effects);
    assert_eq!((stage.panel().lifetimes().keys, stage.panel().miss_ratio().keys), (0, 0));
}

#[test]
fn switched_off_it_tells_nothing_and_on_again_it_begins_anew() {
    let mut stage = Stage::new(1);
    (0..100u64).for_each(|number| stage.set(0, &number.to_le_bytes(), 100));
    stage.locals[0].insight.switch(false);
    stage.keyspace.insight.reset();
    for number in 0..1000u64 {
        stage.set(0, &number.to_le_bytes(), 100);
        stage.get(0, &number.to_le_bytes());
    }
    assert!(stage.panel().hot_keys(1).0.is_empty());
    assert_eq!((stage.panel().miss_ratio().keys, stage.panel().lifetimes().keys), (0, 0));
    stage.locals[0].insight.switch(true);
    (0..100u64).for_each(|number| stage.set(0, &number.to_le_bytes(), 100));
    assert!(!stage.panel().hot_keys(1).0.is_empty() && !stage.panel().large_keys().is_empty());
    assert_eq!(stage.panel().miss_ratio().keys, 100);
    // Counts begin anew, and what is there stays known.
    stage.panel().reset_counts();
    assert!(stage.panel().hot_keys(1).0.is_empty());
    assert_eq!((stage.panel().miss_ratio().keys, stage.panel().lifetimes().keys), (100, 100));
    assert!(stage.panel().large_keys().len() >= 100);
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, u16),
    Get(u8),
    Incr(u8),
    Push(u8, u16),
    Pop(u8),
    Remove(u8),
    Wait(u16),
    Flush,
    Switch(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (any::<u8>(), 0u16..2000).prop_map(|(key, bytes)| Step::Set(key, bytes)),
        8 => any::<u8>().prop_map(Step::Get),
        2 => any::<u8>().prop_map(Step::Incr),
        2 => (any::<u8>(), 1u16..900).prop_map(|(key, bytes)| Step::Push(key, bytes)),
        2 => any::<u8>().prop_map(Step::Pop),
        2 => any::<u8>().prop_map(Step::Remove),
        2 => any::<u16>().prop_map(Step::Wait),
        1 => Just(Step::Flush),
        1 => any::<bool>().prop_map(Step::Switch),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn records_are_of_keys_that_are_there(steps in proptest::collection::vec((0usize..2, step()), 1..400)) {
        let mut stage = Stage::new(2);
        let mut is_on = true;
        for (worker, step) in steps {
            match step {
                Step::Set(key, bytes) => stage.set(worker, &[key], bytes.into()),
                Step::Get(key) => drop(stage.get(worker, &[key])),
                Step::Incr(key) => drop(stage.with(worker, &[key], |db, key| db.edit_integer(key, |n| Ok::<_, ()>(n + 1)))),
                Step::Push(key, bytes) => drop(stage.with(worker, &[key], |db, key| {
                    db.edit_or_create::<List, _>(key, |list| {
                        list.make_room(Limit::of(8), 1, bytes.into());
                        list.push(list::End::Tail, &vec![1; bytes.into()]);
                    })
                })),
                Step::Pop(key) => drop(stage.with(worker, &[key], |db, key| {
                    db.edit::<List, _>(key, |list| list.pop(Limit::of(8), list::End::Head, 2, |_| ()))
                })),
                Step::Remove(key) => drop(stage.with(worker, &[key], |db, key| db.remove_for(key, Removal::Unlinked))),
                Step::Wait(ms) => stage.locals.iter_mut().for_each(|local| local.now.0 += u64::from(ms)),
                Step::Flush => drop(stage.keyspace.flush(ONE, &mut stage.locals[0].effects)),
                Step::Switch(on) => {
                    if on != is_on {
                        stage.keyspace.insight.reset();
                        stage.locals.iter_mut().for_each(|local| local.insight.switch(on));
                        is_on = on;
                    }
                }
            }
        }
        // Everything is followed while so little is there: a record for no key that is gone.
        let there = stage.keyspace.len(ONE);
        let lives = stage.panel().lifetimes();
        prop_assert!(lives.keys <= there, "{} records for {there} keys", lives.keys);
        for local in &stage.locals {
            prop_assert!(!is_on || (local.insight.until_sample > 0 && local.insight.until_sample < 1000));
        }
    }
}

/// How far the curve is from exact LRU on the traces of a folder, from half to eight times a twentieth of the footprint:
/// `TRACES=folder cargo test -p larder-store --release traces -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes, and needs traces"]
fn the_curve_is_within_two_points_on_the_traces() {
    use larder_policy::sim::{Operation, Subject, Trace, replay};
    let folder = std::env::var("TRACES").expect("TRACES names the folder");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_str().is_some_and(|path| path.ends_with(".kvt.zst")));
    paths.sort();
    let mut worst: f64 = 0.0;
    for path in paths {
        let trace = Trace::read_kvt1(&path, usize::MAX).unwrap();
        let today = trace.footprint() as f64 / 20.0;
        let sizes: Vec<u64> = [0.5, 1.0, 2.0, 4.0, 8.0].iter().map(|times| (today * times) as u64).collect();
        let mut stage = Stage::new(1);
        let local = &mut stage.locals[0];
        for (number, request) in trace.requests.iter().enumerate() {
            let name = request.key.to_le_bytes();
            let key = Hashed { bytes: &name, hash: mix(u64::from(request.key) + 1) };
            let bytes = request.bytes.max(1) as usize;
            let found = Found { memory: bytes, value: 0, deadline: 0 };
            local.now = Millis(START + number as u64 / 1000);
            if number % 64 == 0 {
                local.insight.turn();
            }
            match request.operation {
                Operation::Get => {
                    local.stats.hits.add(1);
                    if local.insight.wants_read(key.hash) {
                        local.insight.read(TABLE, &key, Some(found), local.now);
                    }
                }
                Operation::Set | Operation::Update | Operation::Expire => {
                    if local.insight.wants_edited(key.hash) {
                        local.insight.wrote(TABLE, &key, found, local.now);
                    }
                }
                Operation::Delete => local.insight.removed(key.hash, Removal::Deleted, local.now),
            }
        }
        let told = stage.panel().miss_ratio();
        let exact = replay(&trace, &[Subject::ExactLru], &sizes, 1, &mut |_, _| {});
        let errors: Vec<f64> = sizes
            .iter()
            .zip(&exact)
            .map(|(size, outcome)| 100.0 * (told.curve.hit_ratio(*size) - 1.0 + outcome.tally.miss_ratio()))
            .collect();
        let mean = errors.iter().map(|error| error.abs()).sum::<f64>() / errors.len() as f64;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (keys, rate, memory) = (told.keys, told.rate, stage.panel().memory());
        println!("{name}: {mean:.2} points ({errors:.2?}), {keys} keys at {rate:.5}, {memory} bytes");
        worst = worst.max(mean);
    }
    assert!(worst < 2.0, "{worst} points");
}
