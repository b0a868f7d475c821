//! Snapshots beside everything that changes keys: what is saved is what there was at the moment, each key once.
//!
//! Two threads' companions take turns at random. What there is at the moment is read by a scan; where a key ended since, or was
//! invalidated, it may be missing from what was saved, and nothing else may.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use larder_store::{
    Access, Choice, Chunk, Concerns, Db, DbIndex, DefragCursor, Defragged, Entered, Epochs, Event, Evictor,
    Expire, Force, Garbage, Hashed, Hasher, Item, Keyspace, Kind, Local, Millis, Nature, Removal, Saved,
    Scope, Scribe, Sink, StoreStats,
};
use larder_values::hash::{End, Hash, PackedLimits};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const START: u64 = 1_800_000_000_000;
const BULK: u32 = 3_000;
const WORKERS: usize = 2;

/// A key with the number of its database, what it holds, and its end.
type Contents = BTreeMap<(u32, Vec<u8>), (Vec<u8>, Option<u64>)>;

#[derive(Debug)]
struct NoTags;

impl Nature for NoTags {
    fn tags(&self, _: &[u8], _: &mut dyn FnMut(&[u8])) {}

    fn grace_ms(&self, key: &[u8]) -> u64 {
        if key.starts_with(b"b") { 700 } else { 0 }
    }
}

/// Everything that a key holds, whatever its type.
fn rendered(item: &Item<'_>) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    if let Ok(text) = item.string() {
        out.extend_from_slice(&text.to_vec());
    } else {
        let hash = item.view::<Hash>().unwrap();
        let mut fields: Vec<String> = Vec::new();
        hash.for_each_stored(|field, value, end| fields.push(format!("{field:?}={value:?}@{end:?};")));
        fields.sort();
        out.extend_from_slice(fields.concat().as_bytes());
    }
    out
}

struct Plain;

impl Scribe for Plain {
    fn asks_for_idle(&self) -> bool {
        true
    }

    fn write(&mut self, item: &Item<'_>, _: Option<u64>, to: &mut Vec<u8>) -> bool {
        let value = rendered(item);
        for part in [item.key(), &value, &item.deadline().map_or(0, |end| end.0).to_le_bytes()] {
            to.extend_from_slice(&(part.len() as u32).to_le_bytes());
            to.extend_from_slice(part);
        }
        true
    }
}

#[derive(Default)]
struct Got {
    saved: Contents,
    /// Keys that came as cold ones.
    cold: Vec<Vec<u8>>,
    is_whole: bool,
    is_aborted: bool,
}

#[derive(Clone, Default)]
struct Gather(Arc<Mutex<Got>>);

impl Sink for Gather {
    fn scribe(&self) -> Box<dyn Scribe> {
        Box::new(Plain)
    }

    fn take(&self, chunk: Chunk) {
        let mut got = self.0.lock().unwrap();
        assert!(!got.is_whole, "something comes behind the end");
        let (mut rest, mut keys) = (&chunk.bytes[..], 0);
        let mut next = || {
            let (len, behind) = rest.split_first_chunk::<4>()?;
            let (part, behind) = behind.split_at(u32::from_le_bytes(*len) as usize);
            rest = behind;
            Some(part.to_vec())
        };
        while let Some(key) = next() {
            let (value, end) = (next().unwrap(), next().unwrap());
            let end = Some(u64::from_le_bytes(end.try_into().unwrap())).filter(|end| *end != 0);
            let before = got.saved.insert((chunk.db.0, key.clone()), (value, end));
            got.cold.extend(chunk.is_cold.then(|| key.clone()));
            assert!(before.is_none(), "{} is there twice", key.escape_ascii());
            keys += 1;
        }
        assert_eq!(keys, chunk.keys);
    }

    fn is_behind(&self) -> bool {
        false
    }

    fn end(&self) {
        assert!(!std::mem::replace(&mut self.0.lock().unwrap().is_whole, true));
    }

    fn abort(&self) {
        assert!(!std::mem::replace(&mut self.0.lock().unwrap().is_aborted, true));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, u16, Option<u64>),
    Append(u8),
    Count(u8),
    Field(u8, u8, Option<u64>),
    Unfield(u8, u8),
    Get(u8),
    Del(u8),
    Take(u8),
    Rename(u8, u8),
    End(u8, Option<u64>),
    Pass(u64),
    SweepExpired,
    Evict(usize),
    Defrag,
    Invalidate(u8, bool),
    SweepInvalidated(u16),
    Bulk(u16),
    Swap,
    Flush,
    FreeSome(usize),
    FlushAll,
    Begin,
    Sweep(u16),
}

fn step() -> impl Strategy<Value = (bool, bool, Step)> {
    let key = || 0u8..60;
    let end = || prop::option::of(1u64..3000);
    let step = prop_oneof![
        10 => (key(), 0u16..1500, end()).prop_map(|(key, len, end)| Step::Set(key, len, end)),
        4 => key().prop_map(Step::Append),
        4 => key().prop_map(Step::Count),
        6 => (key(), 0u8..20, end()).prop_map(|(key, field, end)| Step::Field(key, field, end)),
        2 => (key(), 0u8..20).prop_map(|(key, field)| Step::Unfield(key, field)),
        4 => key().prop_map(Step::Get),
        4 => key().prop_map(Step::Del),
        2 => key().prop_map(Step::Take),
        4 => (key(), key()).prop_map(|(from, to)| Step::Rename(from, to)),
        4 => (key(), end()).prop_map(|(key, end)| Step::End(key, end)),
        3 => (1u64..800).prop_map(Step::Pass),
        3 => Just(Step::SweepExpired),
        4 => (1usize..40).prop_map(Step::Evict),
        1 => Just(Step::Defrag),
        2 => (0u8..4, any::<bool>()).prop_map(|(prefix, hard)| Step::Invalidate(prefix, hard)),
        2 => (1u16..600).prop_map(Step::SweepInvalidated),
        1 => (1u16..2000).prop_map(Step::Bulk),
        2 => Just(Step::Swap),
        1 => Just(Step::Flush),
        2 => (1usize..500).prop_map(Step::FreeSome),
        1 => Just(Step::FlushAll),
        6 => Just(Step::Begin),
        8 => (1u16..600).prop_map(Step::Sweep),
    ];
    (any::<bool>(), any::<bool>(), step)
}

struct Taken {
    gather: Gather,
    moment: Contents,
    /// What was invalidated since.
    prefixes: Vec<Vec<u8>>,
    is_cancelled: bool,
}

struct World {
    keyspace: Keyspace,
    locals: [Local; WORKERS],
    evictors: [Evictor; WORKERS],
    cursor: DefragCursor,
    garbage: Vec<Garbage>,
    nature: Arc<dyn Nature>,
    taken: Option<Taken>,
    whole: usize,
}

fn name(number: u8) -> Vec<u8> {
    vec![b"abcd"[usize::from(number % 4)], b':', number]
}

impl World {
    fn new() -> World {
        let keyspace = Keyspace::new(2, WORKERS, Hasher::keyed([3, 4]), Epochs::new(2));
        let mut evictors = [Evictor::default(), Evictor::default()];
        let locals = [0, 1].map(|number| {
            let mut local = Local::of_worker(number, 7 + number as u64, Arc::new(StoreStats::default()));
            local.now = Millis(START);
            local.effects.tell(Arc::clone(&keyspace.followed));
            let chosen = keyspace
                .choose_policy(Some(Choice { kind: Kind::Lru, scope: Scope::All, admission: false }), 8);
            local.uses.follow(chosen.clone(), &keyspace.policies_of_classes(), 5);
            evictors[number].follow(chosen);
            (local.unclassed, local.access) = (Access::Policy, Access::Policy);
            local
        });
        let (cursor, garbage, nature) = (DefragCursor::default(), Vec::new(), Arc::new(NoTags));
        World { keyspace, locals, evictors, cursor, garbage, nature, taken: None, whole: 0 }
    }

    fn with<R>(
        &mut self,
        (worker, db): (usize, u32),
        keys: &[&[u8]],
        work: impl FnOnce(&mut Db<'_>, &[Hashed<'_>]) -> R,
    ) -> R {
        let local = &mut self.locals[worker];
        local.settles = self.keyspace.is_lagging();
        let keys: Vec<Hashed<'_>> =
            keys.iter().map(|bytes| Hashed { bytes, hash: self.keyspace.hash(bytes) }).collect();
        let hashes: Vec<u64> = keys.iter().map(|key| key.hash).collect();
        let locked = self.keyspace.lock_many(DbIndex(db), &hashes);
        let mut db = Db::new(&self.keyspace, DbIndex(db), locked, local);
        keys.iter().for_each(|key| db.settle(key, true));
        work(&mut db, &keys)
    }

    fn contents(&self) -> Contents {
        let mut contents = Contents::new();
        for db in 0..2 {
            let mut cursor = 0;
            loop {
                cursor = self.keyspace.scan(DbIndex(db), cursor, self.locals[0].now, &mut |item| {
                    let value = (rendered(&item), item.deadline().map(|end| end.0));
                    contents.insert((db, item.key().to_vec()), value);
                });
                if cursor == 0 {
                    break;
                }
            }
        }
        contents
    }

    fn begin(&mut self) {
        if self.taken.is_some() {
            return;
        }
        let (gather, moment) = (Gather::default(), self.contents());
        let parts = self.locals[0].random() & 1 == 0;
        let prepared = self.keyspace.prepare_snapshot(&mut self.locals[0], parts);
        let now = self.locals[0].now;
        assert!(self.keyspace.begin_snapshot(prepared, now, Box::new(gather.clone())).is_some());
        self.taken = Some(Taken { gather, moment, prefixes: Vec::new(), is_cancelled: false });
    }

    fn sweep(&mut self, worker: usize, steps: u16) -> Saved {
        let mut left = steps;
        let saved = self.keyspace.sweep_snapshot(&mut self.locals[worker], &mut || {
            left = left.saturating_sub(1);
            left > 0
        });
        self.check();
        saved
    }

    /// Compares, once everything was saved.
    fn check(&mut self) {
        let now = self.locals[0].now.0;
        let Some(taken) = &self.taken else { return };
        let got = taken.gather.0.lock().unwrap();
        assert_eq!(got.is_aborted, taken.is_cancelled);
        if !got.is_whole {
            return;
        }
        for (key, value) in &got.saved {
            assert_eq!(taken.moment.get(key), Some(value), "{} {}", key.0, key.1.escape_ascii());
        }
        for (key, (_, end)) in &taken.moment {
            let is_over = end.is_some_and(|end| end <= now);
            let is_invalid = taken.prefixes.iter().any(|prefix| key.1.starts_with(prefix));
            assert!(
                is_over || is_invalid || got.saved.contains_key(key),
                "{} {} was not saved",
                key.0,
                key.1.escape_ascii()
            );
        }
        drop(got);
        self.taken = None;
        self.whole += 1;
    }

    fn run(&mut self, (worker, db, step): (bool, bool, Step)) {
        let worker = usize::from(worker);
        let at = (worker, u32::from(db));
        self.locals[worker].look_for_snapshot(&self.keyspace);
        self.run_on(at, step);
        let local = &mut self.locals[worker];
        local.uses.tell(&self.keyspace, local.now);
        local.free_spent();
        self.garbage.append(&mut local.garbage);
    }

    fn set(&mut self, at: (usize, u32), key: &[u8], value: &[u8], ttl: Option<u64>) {
        let expire = ttl.map_or(Expire::Clear, |ttl| Expire::At(Millis(self.locals[0].now.0 + ttl)));
        self.with(at, &[key], |db, keys| {
            db.put_string(&keys[0], value, expire);
            db.changed(&keys[0], Event::SET);
        });
    }

    fn run_on(&mut self, at: (usize, u32), step: Step) {
        let (worker, now) = (at.0, self.locals[0].now);
        let limits = PackedLimits { entries_max: 8, value_bytes_max: 64 };
        match step {
            Step::Set(key, len, ttl) => {
                let value: Vec<u8> = (0..len).map(|at| (at as u8).wrapping_add(self.whole as u8)).collect();
                self.set(at, &name(key), &value, ttl);
            }
            Step::Append(key) => self.with(at, &[&name(key)], |db, keys| {
                let _ = db.edit_string(&keys[0], |bytes| (bytes.extend_from_slice(&[b'+'; 200]), true));
            }),
            Step::Count(key) => self.with(at, &[&name(key)], |db, keys| {
                let _ = db.edit_integer::<()>(&keys[0], |value| Ok(value + 1));
            }),
            Step::Field(key, field, ttl) => self.with(at, &[&name(key)], |db, keys| {
                let end = ttl.map_or(End::Clear, |ttl| End::At(now.0 + ttl));
                let _ = db.edit_or_create::<Hash, _>(&keys[0], |hash| {
                    hash.set(&[field], b"a value of some length", end, now.0, limits);
                });
            }),
            Step::Unfield(key, field) => self.with(at, &[&name(key)], |db, keys| {
                let _ = db.edit::<Hash, _>(&keys[0], |hash| hash.remove(&[field], now.0));
            }),
            Step::Get(key) => drop(self.with(at, &[&name(key)], |db, keys| db.read(&keys[0]).is_some())),
            Step::Del(key) => {
                self.with(at, &[&name(key)], |db, keys| _ = db.remove_for(&keys[0], Removal::Deleted));
            }
            Step::Take(key) => {
                self.with(at, &[&name(key)], |db, keys| drop(db.take_as::<Hash>(&keys[0])));
            }
            Step::Rename(from, to) if from != to => {
                self.with(at, &[&name(from), &name(to)], |db, keys| {
                    if let Some(value) = db.take(&keys[0]) {
                        db.remove(&keys[1]);
                        db.put_value(&keys[1], value);
                    }
                });
            }
            Step::Rename(..) => {}
            Step::End(key, ttl) => {
                let end = ttl.map(|ttl| Millis(now.0 + ttl));
                self.with(at, &[&name(key)], |db, keys| _ = db.set_deadline(&keys[0], end));
            }
            Step::Pass(millis) => {
                self.locals.iter_mut().for_each(|local| local.now = Millis(now.0 + millis));
            }
            Step::SweepExpired => {
                let local = &mut self.locals[worker];
                let _ = self.keyspace.sweep_expired((0, 1), local, &mut || true);
            }
            Step::Evict(count) => {
                let local = &mut self.locals[worker];
                self.evictors[worker].evict(&self.keyspace, local, usize::MAX, count as u32);
            }
            Step::Defrag => {
                let mut done = Defragged::default();
                for _ in 0..100 {
                    let (cursor, keyspace) = (&mut self.cursor, &self.keyspace);
                    keyspace.defrag_step((0, 1), cursor, 1000, &|_, _| true, &mut done);
                }
            }
            Step::Bulk(count) => {
                for number in (0..BULK).step_by(1 + BULK as usize / usize::from(count)) {
                    self.set(at, format!("bulk:{number}").as_bytes(), b"of many", None);
                }
            }
            step => self.run_on_all(at, step),
        }
    }

    fn run_on_all(&mut self, (worker, db): (usize, u32), step: Step) {
        match step {
            Step::Invalidate(prefix, is_hard) => {
                let prefix = vec![b"abcd"[usize::from(prefix)]];
                let force = if is_hard { Force::Hard } else { Force::Soft };
                let (now, nature) = (self.locals[0].now, &self.nature);
                let concerns = Concerns::Prefix(&prefix);
                let entered = self.keyspace.invalidate(DbIndex(db), concerns, (force, now), nature);
                assert_ne!(entered, Entered::Full);
                self.taken.iter_mut().for_each(|taken| taken.prefixes.push(prefix.clone()));
            }
            Step::SweepInvalidated(mut left) => {
                let local = &mut self.locals[worker];
                self.keyspace.sweep_invalidated(local, &mut || {
                    left = left.saturating_sub(1);
                    left > 0
                });
            }
            Step::Swap => {
                self.keyspace.swap(DbIndex(0), DbIndex(1), &mut self.locals[worker]);
            }
            Step::Flush => {
                self.garbage.extend(self.keyspace.flush(DbIndex(db), &mut self.locals[worker].effects));
            }
            Step::FreeSome(limit) => {
                if let Some(Garbage::Database(flushed)) = self.garbage.last_mut()
                    && flushed.free_some(limit)
                {
                    self.garbage.pop();
                }
            }
            Step::FlushAll => {
                if let Some(taken) = &mut self.taken {
                    taken.is_cancelled = true;
                }
                self.keyspace.end_snapshot();
                self.check();
                self.taken = None;
                for db in 0..2 {
                    self.garbage.extend(self.keyspace.flush(DbIndex(db), &mut self.locals[worker].effects));
                }
            }
            Step::Begin => self.begin(),
            Step::Sweep(steps) => drop(self.sweep(worker, steps)),
            other => panic!("{other:?} is not for all keys"),
        }
    }

    fn finish(&mut self) {
        for mut garbage in std::mem::take(&mut self.garbage) {
            if let Garbage::Database(flushed) = &mut garbage {
                while !flushed.free_some(1000) {}
            }
        }
        for _ in 0..3 {
            for worker in 0..WORKERS {
                self.locals[worker].look_for_snapshot(&self.keyspace);
                self.sweep(worker, u16::MAX);
            }
        }
        assert!(self.taken.is_none(), "the snapshot does not come to its end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_saved_is_what_there_was(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        world.finish();
        world.begin();
        world.finish();
    }
}

#[test]
fn a_sink_that_is_behind_is_given_no_more_than_what_has_to_be_saved() {
    struct Full(Gather);
    impl Sink for Full {
        fn scribe(&self) -> Box<dyn Scribe> {
            self.0.scribe()
        }
        fn take(&self, chunk: Chunk) {
            self.0.take(chunk);
        }
        fn is_behind(&self) -> bool {
            true
        }
        fn end(&self) {
            self.0.end();
        }
        fn abort(&self) {
            self.0.abort();
        }
    }
    let mut world = World::new();
    world.run_on((0, 0), Step::Bulk(BULK as u16));
    let prepared = world.keyspace.prepare_snapshot(&mut world.locals[0], false);
    let sink = Box::new(Full(Gather::default()));
    let snapshot = world.keyspace.begin_snapshot(prepared, Millis(START), sink).unwrap();
    assert_eq!(snapshot.progress(), (u64::from(BULK) / 2, 0));
    world.locals[0].look_for_snapshot(&world.keyspace);
    assert_eq!(world.sweep(0, u16::MAX), Saved::Waiting);
    assert_eq!(snapshot.progress().1, 0);
    world.set((0, 0), b"bulk:0", b"new", None);
    assert!((1..100).contains(&snapshot.progress().1), "{:?}", snapshot.progress());
}

/// A fifth of the keys is hot, and those that were used last are among them; who asks for no such parts gets none.
#[test]
fn keys_that_were_used_last_come_as_hot_ones() {
    let mut world = World::new();
    world.run_on((0, 0), Step::Bulk(BULK as u16));
    let keys = world.contents().len();
    let used = |number: u32| format!("bulk:{}", number * 20).into_bytes();
    world.run_on((0, 0), Step::Pass(4_000_000));
    let is_there =
        |world: &mut World, key: &[u8]| world.with((0, 0), &[key], |db, keys| db.read(&keys[0]).is_some());
    let used: Vec<_> = (0..BULK / 20).map(used).filter(|key| is_there(&mut world, key)).collect();
    assert!(used.len() > keys / 20, "of {keys}");
    for parts in [true, false] {
        let gather = Gather::default();
        let prepared = world.keyspace.prepare_snapshot(&mut world.locals[0], parts);
        let now = world.locals[0].now;
        assert!(world.keyspace.begin_snapshot(prepared, now, Box::new(gather.clone())).is_some());
        while !gather.0.lock().unwrap().is_whole {
            for worker in [0, 1] {
                world.locals[worker].look_for_snapshot(&world.keyspace);
                world.sweep(worker, u16::MAX);
            }
        }
        let got = gather.0.lock().unwrap();
        assert_eq!(got.saved.len(), keys);
        assert!(used.iter().all(|key| !got.cold.contains(key)));
        let hot = keys - got.cold.len();
        // A sample says which they are.
        let expected = if parts { keys / 10..keys * 3 / 10 } else { keys..keys + 1 };
        assert!(expected.contains(&hot), "{hot} of {keys} are hot");
    }
}

/// A scribe that panics loses what its buffer held.
#[test]
fn a_snapshot_of_which_something_was_lost_is_none() {
    struct Broken;
    impl Scribe for Broken {
        fn asks_for_idle(&self) -> bool {
            false
        }
        fn write(&mut self, _: &Item<'_>, _: Option<u64>, _: &mut Vec<u8>) -> bool {
            panic!("as a bug would");
        }
    }
    struct Breaks(Arc<Mutex<Got>>);
    impl Sink for Breaks {
        fn scribe(&self) -> Box<dyn Scribe> {
            Box::new(Broken)
        }
        fn take(&self, _: Chunk) {}
        fn is_behind(&self) -> bool {
            false
        }
        fn end(&self) {
            self.0.lock().unwrap().is_whole = true;
        }
        fn abort(&self) {
            self.0.lock().unwrap().is_aborted = true;
        }
    }
    let mut world = World::new();
    world.run_on((0, 0), Step::Set(1, 10, None));
    let got = Arc::new(Mutex::new(Got::default()));
    let prepared = world.keyspace.prepare_snapshot(&mut world.locals[0], false);
    assert!(
        world.keyspace.begin_snapshot(prepared, Millis(START), Box::new(Breaks(Arc::clone(&got)))).is_some()
    );
    world.locals[0].look_for_snapshot(&world.keyspace);
    let swept = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.sweep(0, u16::MAX)));
    assert!(swept.is_err() && got.lock().unwrap().is_aborted);
    world.locals[1].look_for_snapshot(&world.keyspace);
    world.sweep(1, u16::MAX);
    assert!(!got.lock().unwrap().is_whole);
    // It is out of the way, and its shards are not locked.
    world.locals[0].look_for_snapshot(&world.keyspace);
    world.begin();
    world.finish();
}
