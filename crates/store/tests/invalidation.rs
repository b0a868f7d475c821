//! Invalidation of prefixes and tags beside a model that walks over all keys at once.
//!
//! Invariant: whatever is done in whatever order, at whatever stage the sweep is and however the table grows, a key is there for its
//! reader if and only if it is in the model, with its value and end; and a lease stands if and only if it does there.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use larder_store::{
    Concerns, Db, DbIndex, Entered, Epochs, Event, Expire, Force, Hasher, Keyspace, Leased, Local, Mark,
    Millis, Nature, Removal, StoreStats,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const START: u64 = 1_800_000_000_000;
const BULK: u32 = 3_000;

/// A key's tag by route is its last byte, and what begins with a g may be given old for a second.
#[derive(Debug)]
struct ByName;

impl Nature for ByName {
    fn tags(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) {
        if let Some(last) = key.last() {
            visit(&[b't', *last]);
        }
    }

    fn grace_ms(&self, key: &[u8]) -> u64 {
        if key.starts_with(b"g") { 1000 } else { 0 }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, Option<u64>),
    /// Set with a tag of its own, and a time for which it may be given old.
    Marked(u8, u8, u64),
    Append(u8),
    Get(u8),
    Del(u8),
    Prefix(Vec<u8>, bool),
    Tag(u8, bool),
    Sweep(u16),
    Pass(u64),
    Scan,
    Bulk,
    Swap,
    Flush,
    Lease(u8),
    Redeem(u8),
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Kept {
    value: Vec<u8>,
    end: Option<u64>,
    tag: Option<u8>,
    stale_ms: u64,
}

#[derive(Default)]
struct Model {
    keys: [BTreeMap<Vec<u8>, Kept>; 2],
    leases: [BTreeMap<Vec<u8>, u64>; 2],
    now: u64,
}

struct World {
    keyspace: Keyspace,
    local: Local,
    nature: Arc<dyn Nature>,
    model: Model,
    version: u32,
}

fn name(number: u8) -> Vec<u8> {
    let first = [b'a', b'b', b'g'][usize::from(number % 3)];
    vec![first, b"xy"[usize::from(number / 3 % 2)], b':', b'0' + number / 6 % 5]
}

fn step() -> impl Strategy<Value = Step> {
    let prefix = prop::sample::select(vec!["", "a", "ax", "g", "gy:", "ax:1", "gx:1", "bulk:1", "none"]);
    let key = || 0u8..30;
    prop_oneof![
        6 => (key(), prop::option::of(1u64..3000)).prop_map(|(key, ttl)| Step::Set(key, ttl)),
        3 => (key(), 0u8..3, 0u64..2000).prop_map(|(key, tag, stale)| Step::Marked(key, tag, stale)),
        2 => key().prop_map(Step::Append),
        6 => key().prop_map(Step::Get),
        2 => key().prop_map(Step::Del),
        3 => (prefix, any::<bool>()).prop_map(|(prefix, hard)| Step::Prefix(prefix.into(), hard)),
        3 => (0u8..8, any::<bool>()).prop_map(|(tag, hard)| Step::Tag(tag, hard)),
        4 => (1u16..1500).prop_map(Step::Sweep),
        2 => (1u64..800).prop_map(Step::Pass),
        1 => Just(Step::Scan),
        1 => Just(Step::Bulk),
        1 => Just(Step::Swap),
        1 => Just(Step::Flush),
        3 => key().prop_map(Step::Lease),
        3 => key().prop_map(Step::Redeem),
    ]
}

impl Model {
    fn expire(&mut self) {
        let now = self.now;
        self.keys.iter_mut().for_each(|keys| keys.retain(|_, kept| kept.end.is_none_or(|end| end > now)));
    }

    fn invalidate(&mut self, hard: bool, concerns: impl Fn(&[u8], Option<u8>) -> bool) {
        let (now, keys) = (self.now, &mut self.keys[0]);
        self.leases[0].retain(|key, _| !concerns(key, keys.get(key).and_then(|kept| kept.tag)));
        keys.retain(|key, kept| {
            if !concerns(key, kept.tag) {
                return true;
            }
            let grace = if kept.stale_ms != 0 { kept.stale_ms } else { ByName.grace_ms(key) };
            let until = now + grace;
            kept.end = Some(kept.end.map_or(until, |end| end.min(until)));
            !hard && grace != 0
        });
    }
}

impl World {
    fn new() -> World {
        let keyspace = Keyspace::new(2, 1, Hasher::keyed([3, 4]), Epochs::new(2));
        let mut local = Local::new(7, Arc::new(StoreStats::default()));
        local.now = Millis(START);
        local.effects.tell(Arc::clone(&keyspace.followed));
        let model = Model { now: START, ..Model::default() };
        World { keyspace, local, nature: Arc::new(ByName), model, version: 0 }
    }

    fn with<R>(
        &mut self,
        key: &[u8],
        writes: bool,
        work: impl FnOnce(&mut Db<'_>, &larder_store::Hashed<'_>) -> R,
    ) -> R {
        self.local.settles = self.keyspace.is_lagging();
        let locked = self.keyspace.lock_many(DbIndex(0), &[self.keyspace.hash(key)]);
        let mut db = Db::new(&self.keyspace, DbIndex(0), locked, &mut self.local);
        let key = db.key(key);
        db.settle(&key, writes);
        work(&mut db, &key)
    }

    fn next_value(&mut self) -> Vec<u8> {
        self.version += 1;
        format!("value {}", self.version).into_bytes()
    }

    fn set(&mut self, key: &[u8], ttl: Option<u64>, mark: Option<(u8, u64)>) {
        let (value, end) = (self.next_value(), ttl.map(|ttl| self.model.now + ttl));
        self.with(key, true, |db, hashed| {
            db.put_string(hashed, &value, end.map_or(Expire::Clear, |end| Expire::At(Millis(end))));
            db.changed(hashed, Event::SET);
            if let Some((tag, stale_ms)) = mark {
                db.mark(hashed, Mark::new(None, stale_ms, [&[b't', b'A' + tag][..]]));
            }
        });
        let (tag, stale_ms) = mark.map_or((None, 0), |(tag, stale_ms)| (Some(b'A' + tag), stale_ms));
        self.model.leases[0].remove(key);
        self.model.keys[0].insert(key.to_vec(), Kept { value, end, tag, stale_ms });
    }

    fn look(&mut self, key: &[u8]) {
        let found = self.with(key, false, |db, hashed| {
            let item = db.peek(hashed)?;
            Some((item.string().unwrap().to_vec(), item.deadline().map(|end| end.0)))
        });
        let expected = self.model.keys[0].get(key).map(|kept| (kept.value.clone(), kept.end));
        assert_eq!(found, expected, "{}", key.escape_ascii());
    }

    fn invalidate(&mut self, concerns: Concerns<'_>, hard: bool) {
        let force = if hard { Force::Hard } else { Force::Soft };
        let now = self.local.now;
        let entered = self.keyspace.invalidate(DbIndex(0), concerns, (force, now), &self.nature);
        assert_ne!(entered, Entered::Full);
        self.model.invalidate(hard, |key, tag| match concerns {
            Concerns::Prefix(prefix) => key.starts_with(prefix),
            Concerns::Tag(wanted) => {
                wanted == [b't', key[key.len() - 1]] || tag.is_some_and(|tag| wanted == [b't', tag])
            }
        });
    }

    fn sweep(&mut self, steps: u16) -> bool {
        let mut left = steps;
        self.keyspace.sweep_invalidated(&mut self.local, &mut || {
            left = left.saturating_sub(1);
            left > 0
        })
    }

    fn scan(&mut self) {
        let (mut cursor, mut seen) = (0, Vec::new());
        loop {
            cursor = self.keyspace.scan(DbIndex(0), cursor, self.local.now, &mut |item| {
                seen.push(item.key().to_vec());
            });
            if cursor == 0 {
                break;
            }
        }
        seen.sort();
        seen.dedup();
        // One that a soft invalidation gave an end may still be met past it.
        let model: Vec<Vec<u8>> = self.model.keys[0].keys().cloned().collect();
        let is_known = |key: &Vec<u8>| model.binary_search(key).is_ok();
        assert!(model.iter().all(|key| seen.binary_search(key).is_ok()), "a key is not seen");
        if !self.keyspace.is_lagging() {
            assert!(seen.iter().all(is_known), "a key is seen that is not there");
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Set(key, ttl) => self.set(&name(key), ttl, None),
            Step::Marked(key, tag, stale) => self.set(&name(key), None, Some((tag, stale))),
            Step::Append(key) => {
                let key = name(key);
                self.with(&key, true, |db, hashed| {
                    db.edit_string(hashed, |bytes| (bytes.push(b'+'), true)).unwrap();
                    db.changed(hashed, Event::APPEND);
                });
                self.model.leases[0].remove(&key);
                self.model.keys[0].entry(key).or_default().value.push(b'+');
            }
            Step::Get(key) => self.look(&name(key)),
            Step::Del(key) => {
                let key = name(key);
                let existed = self.with(&key, true, |db, hashed| {
                    let existed = db.remove_for(hashed, Removal::Deleted);
                    if existed {
                        db.changed(hashed, Event::DEL);
                    }
                    existed
                });
                assert_eq!(existed, self.model.keys[0].remove(&key).is_some());
                if existed {
                    self.model.leases[0].remove(&key);
                }
            }
            Step::Prefix(prefix, hard) => self.invalidate(Concerns::Prefix(&prefix), hard),
            Step::Tag(tag, hard) => {
                let byte = if tag < 5 { b'0' + tag } else { b'A' + tag - 5 };
                self.invalidate(Concerns::Tag(&[b't', byte]), hard);
            }
            Step::Sweep(steps) => drop(self.sweep(steps)),
            Step::Pass(millis) => {
                self.model.now += millis;
                self.local.now = Millis(self.model.now);
                self.model.expire();
            }
            Step::Scan => self.scan(),
            Step::Bulk => {
                for number in 0..BULK {
                    self.set(format!("bulk:{number}").as_bytes(), None, None);
                }
            }
            Step::Swap => {
                self.keyspace.swap(DbIndex(0), DbIndex(1), &mut self.local);
                self.model.keys.swap(0, 1);
                self.model.leases.swap(0, 1);
            }
            Step::Flush => {
                drop(self.keyspace.flush(DbIndex(0), &mut self.local.effects));
                self.model.keys[0].clear();
                self.model.leases[0].clear();
            }
            Step::Lease(key) => {
                let (key, token, until) = (name(key), self.local.token(), Millis(u64::MAX));
                let leased = self.with(&key, true, |db, hashed| db.lease(hashed, token, until));
                let expected =
                    if self.model.leases[0].contains_key(&key) { Leased::Taken } else { Leased::Given };
                assert_eq!(leased, expected);
                self.model.leases[0].entry(key).or_insert(token);
            }
            Step::Redeem(key) => {
                let key = name(key);
                let token = self.with(&key, true, |db, hashed| db.lease_stands(hashed));
                assert_eq!(token, self.model.leases[0].get(&key).copied());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_seen_is_what_a_walk_over_all_keys_would_have_left(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        for key in 0..30 {
            world.look(&name(key));
        }
        while !world.sweep(u16::MAX) {}
        assert!(!world.keyspace.is_lagging() && world.keyspace.rules() == 0);
        world.scan();
        for number in 0..BULK {
            world.look(format!("bulk:{number}").as_bytes());
        }
    }
}

#[test]
fn an_invalidation_walks_over_no_key_and_a_reader_over_none_but_its_own() {
    let mut world = World::new();
    let keys: Vec<Vec<u8>> = (0..100_000).map(|number| format!("ax:{number}").into_bytes()).collect();
    for key in &keys {
        world.set(key, None, None);
    }
    world.invalidate(Concerns::Prefix(b"ax:"), true);
    assert_eq!((world.local.stats.settled.get(), world.local.stats.invalidated.get()), (0, 0));
    assert_eq!(world.keyspace.len(DbIndex(0)), keys.len());
    for key in keys.iter().step_by(1000) {
        world.look(key);
    }
    assert_eq!((world.local.stats.settled.get(), world.local.stats.invalidated.get()), (0, 100));
    // A writer has what lies close to its key looked at.
    world.set(b"ax:7", None, None);
    let settled = world.local.stats.settled.get();
    assert!((1..200).contains(&settled), "{settled}");
    while !world.sweep(1000) {}
    assert_eq!(world.keyspace.len(DbIndex(0)), 1);
    assert!(world.local.stats.settled.get() <= 100_000);
    world.look(b"ax:7");
}

#[test]
fn rules_are_bounded_and_the_same_one_counts_once() {
    let mut world = World::new();
    world.set(b"k", None, None);
    for number in 0..20_000u32 {
        let now = world.local.now;
        let prefix = format!("p{number}");
        let entered =
            |concerns| world.keyspace.invalidate(DbIndex(0), concerns, (Force::Hard, now), &world.nature);
        let entered = (entered(Concerns::Prefix(prefix.as_bytes())), entered(Concerns::Tag(b"same")));
        if entered.0 == Entered::Full {
            assert!((1000..20_000).contains(&number));
            assert_eq!(entered.1, Entered::Yes);
            while !world.sweep(u16::MAX) {}
            assert_eq!(world.keyspace.rules(), 0);
            return;
        }
    }
    panic!("there is no bound");
}
