//! The table against a sorted map: the same operations on both, the same answers, and all invariants after each.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use larder_table::{
    Compacted, DeadlineChange, Epochs, Hasher, NewEntry, Next, Payload, PayloadRef, Removed, Shard, Table,
    TableConfig,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

type Boxed = Arc<Vec<u8>>;

#[derive(Clone, Debug, PartialEq)]
struct Stored {
    kind: u8,
    access: u32,
    deadline: Option<u64>,
    boxed: bool,
    value: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Op {
    /// Insert or replace a run of keys.
    Put {
        first: u16,
        count: u16,
        stored: Stored,
        keep: bool,
    },
    Remove {
        first: u16,
        count: u16,
    },
    SetDeadline {
        first: u16,
        count: u16,
        deadline: Option<u64>,
    },
    Expire {
        forward: u64,
        limit: usize,
    },
    Rewrite {
        key: u16,
    },
    Detach {
        slice: usize,
    },
    Release,
    /// Moves entries together, some slots at a time.
    Compact {
        slots: usize,
    },
}

const KEYS: u16 = 900;

fn stored() -> impl Strategy<Value = Stored> {
    let len = prop_oneof![8 => 0usize..40, 2 => 240usize..600, 1 => 3000usize..6000];
    (0u8..32, 0u32..1 << 24, deadline(), any::<bool>(), len).prop_map(
        |(kind, access, deadline, boxed, len)| Stored {
            kind,
            access,
            deadline,
            boxed,
            value: vec![kind; len],
        },
    )
}

fn deadline() -> impl Strategy<Value = Option<u64>> {
    let at = prop_oneof![
        6 => 0u64..20_000,
        2 => 0u64..10_000_000,
        1 => (1u64 << 48) - 100..(1u64 << 48) + 100,
        1 => u64::MAX - 1000..=u64::MAX,
    ];
    prop::option::of(at)
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let run = || (0..KEYS, prop_oneof![1u16..4, 1u16..300]);
    let op = prop_oneof![
        8 => (run(), stored(), any::<bool>()).prop_map(|((first, count), stored, keep)| Op::Put { first, count, stored, keep }),
        4 => run().prop_map(|(first, count)| Op::Remove { first, count }),
        2 => (run(), deadline()).prop_map(|((first, count), deadline)| Op::SetDeadline { first, count, deadline }),
        3 => (prop_oneof![0u64..5000, 0u64..3_000_000], prop_oneof![1usize..5, Just(usize::MAX)])
            .prop_map(|(forward, limit)| Op::Expire { forward, limit }),
        2 => (0..KEYS).prop_map(|key| Op::Rewrite { key }),
        1 => (1usize..500).prop_map(|slice| Op::Detach { slice }),
        1 => Just(Op::Release),
        3 => prop_oneof![1usize..20, Just(10_000)].prop_map(|slots| Op::Compact { slots }),
    ];
    prop::collection::vec(op, 1..30)
}

/// Keys of several lengths, some beyond one length byte.
fn key(i: u16) -> Vec<u8> {
    let mut key = format!("{i}").into_bytes();
    if i.is_multiple_of(50) {
        key.resize(260, b'-');
    }
    key
}

struct Pair {
    table: Table<Boxed>,
    model: BTreeMap<Vec<u8>, Stored>,
    now: u64,
    /// Every boxed value ever made: in the end nobody else holds one.
    made: Vec<Boxed>,
}

impl Pair {
    fn new(shard_bits: u8, hasher: Hasher) -> Self {
        let table = Table::new(TableConfig { shard_bits, hasher, one_thread: false }, Epochs::new(2));
        Self { table, model: BTreeMap::new(), now: 0, made: Vec::new() }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Put { first, count, stored, keep } => {
                keys(*first, *count).for_each(|key| self.put(&key, stored, *keep))
            }
            Op::Remove { first, count } => keys(*first, *count).for_each(|key| self.remove(&key)),
            Op::SetDeadline { first, count, deadline } => {
                keys(*first, *count).for_each(|key| self.set_deadline(&key, *deadline));
            }
            Op::Expire { forward, limit } => self.expire(*forward, *limit),
            Op::Rewrite { key } => self.rewrite(&self::key(*key)),
            Op::Detach { slice } => {
                let mut detached = self.table.detach_all();
                assert_eq!(detached.len(), self.model.len());
                self.model.clear();
                while !detached.free_some(*slice) {}
            }
            Op::Release => {
                self.table.release_unused();
            }
            Op::Compact { slots } => self.compact(*slots),
        }
    }

    /// Moves everything together, and replaces each boxed value by a copy on the way.
    fn compact(&mut self, slots: usize) {
        let Self { table, made, .. } = self;
        let (mut done, mut seen) = (Compacted::default(), 0);
        for shard in 0..table.shards() {
            let mut position = None;
            loop {
                let mut visit = |boxed: &mut Boxed| {
                    *boxed = Arc::new(boxed.to_vec());
                    made.push(Arc::clone(boxed));
                    seen += 1;
                    if seen % 5 == 0 { Next::Pause } else { Next::On }
                };
                position = table.lock(shard).compact(position, slots, &mut done, &mut visit);
                if position.is_none() {
                    break;
                }
            }
        }
        assert_eq!(done.moved + done.stayed, self.model.len());
        assert_eq!(seen, self.model.values().filter(|stored| stored.boxed).count());
    }

    fn with<R>(&mut self, key: &[u8], act: impl FnOnce(&mut Shard<'_, Boxed>, u64) -> R) -> R {
        let hash = self.table.hash(key);
        act(&mut self.table.lock(self.table.shard_of(hash)), hash)
    }

    fn put(&mut self, key: &[u8], stored: &Stored, keep: bool) {
        let arc = Arc::new(stored.value.clone());
        if stored.boxed {
            self.made.push(Arc::clone(&arc));
        }
        let payload = if stored.boxed { Payload::Boxed(arc) } else { Payload::Inline(&stored.value) };
        let mut stored = stored.clone();
        match self.model.get(key).cloned() {
            Some(old) => {
                let change = if keep { DeadlineChange::Keep } else { DeadlineChange::Set(stored.deadline) };
                let removed = self.with(key, |shard, hash| {
                    let mut entry = shard.find_mut(hash, key).unwrap();
                    let size = entry.view().size();
                    let removed = entry.replace(stored.kind, payload, change);
                    assert_eq!(removed.size, size);
                    removed
                });
                assert_removed(&removed, &old);
                stored.access = old.access;
                if keep {
                    stored.deadline = old.deadline;
                }
            }
            None => self.with(key, |shard, hash| {
                assert!(shard.find_mut(hash, key).is_none());
                let Stored { kind, access, deadline, .. } = stored;
                let entry = shard.insert(hash, key, NewEntry { kind, access, deadline, payload });
                assert_eq!(entry.view().key(), key);
            }),
        }
        self.model.insert(key.to_vec(), stored);
    }

    fn remove(&mut self, key: &[u8]) {
        let removed = self.with(key, |shard, hash| Some(shard.find_mut(hash, key)?.remove()));
        let old = self.model.remove(key);
        assert_eq!(removed.is_some(), old.is_some());
        if let (Some(removed), Some(old)) = (removed, old) {
            assert_removed(&removed, &old);
        }
    }

    fn set_deadline(&mut self, key: &[u8], deadline: Option<u64>) {
        let found = self.with(key, |shard, hash| {
            let mut entry = shard.find_mut(hash, key)?;
            entry.set_deadline(deadline);
            Some(())
        });
        let stored = self.model.get_mut(key);
        assert_eq!(found.is_some(), stored.is_some());
        if let Some(stored) = stored {
            stored.deadline = deadline;
        }
    }

    fn expire(&mut self, forward: u64, limit: usize) {
        self.now += forward;
        let now = self.now;
        for shard in 0..self.table.shards() {
            let mut gone = Vec::new();
            let next = self.table.next_due(shard);
            let count = self
                .table
                .lock(shard)
                .expire_due(now, limit, &mut |key, _, removed| gone.push((key.to_vec(), removed)));
            assert!(count <= limit && count == gone.len());
            for (key, removed) in gone {
                let old = self.model.remove(&key).expect("only what is there expires");
                assert!(old.deadline.unwrap() <= now && next <= old.deadline.unwrap());
                assert_removed(&removed, &old);
            }
            if count < limit {
                let of_shard = |key: &&Vec<u8>| self.table.shard_of(self.table.hash(key)) == shard;
                let left = self
                    .model
                    .iter()
                    .filter(|(key, _)| of_shard(key))
                    .filter_map(|(_, stored)| stored.deadline);
                assert!(left.min().unwrap_or(u64::MAX) > now, "a due entry was left");
                // Otherwise the sweeper would come again in vain.
                assert!(self.table.next_due(shard) > now || now == u64::MAX);
            }
        }
    }

    fn rewrite(&mut self, key: &[u8]) {
        let Some(stored) = self.model.get_mut(key) else { return };
        stored.value.iter_mut().for_each(|byte| *byte ^= 1);
        (stored.kind, stored.access) = (stored.kind ^ 1, stored.access ^ 1);
        let Stored { kind, access, value, .. } = stored.clone();
        let boxed = self.with(key, |shard, hash| {
            let mut entry = shard.find_mut(hash, key).unwrap();
            entry.set_kind(kind);
            entry.view().set_access(access);
            match entry.inline_mut() {
                Some(bytes) => bytes.copy_from_slice(&value),
                None => *entry.boxed_mut().unwrap() = Arc::new(value),
            }
            entry.into_boxed_mut().map(|boxed| Arc::clone(boxed))
        });
        self.made.extend(boxed);
    }

    fn check(&self) {
        self.table.check();
        assert_eq!(self.table.len(), self.model.len());
        for (key, stored) in &self.model {
            let hash = self.table.hash(key);
            let shard = self.table.lock(self.table.shard_of(hash));
            let entry = shard.find(hash, key).expect("every key of the model is found");
            let (boxed, value) = match entry.payload() {
                PayloadRef::Inline(bytes) => (false, bytes.to_vec()),
                PayloadRef::Boxed(boxed) => (true, boxed.to_vec()),
            };
            let found = Stored {
                kind: entry.kind(),
                access: entry.access(),
                deadline: entry.deadline(),
                boxed,
                value,
            };
            assert_eq!(&found, stored);
            assert_eq!(entry.key(), &key[..]);
        }
    }

    fn finish(self) {
        let Self { table, made, .. } = self;
        drop(table);
        assert!(made.iter().all(|boxed| Arc::strong_count(boxed) == 1), "a boxed value leaked");
    }
}

fn keys(first: u16, count: u16) -> impl Iterator<Item = Vec<u8>> {
    (first..first.saturating_add(count)).map(|i| key(i % KEYS))
}

fn assert_removed(removed: &Removed<Boxed>, old: &Stored) {
    assert_eq!(
        (removed.kind, removed.deadline, removed.boxed.is_some()),
        (old.kind, old.deadline, old.boxed)
    );
    if let Some(boxed) = &removed.boxed {
        assert_eq!(**boxed, old.value);
    }
}

fn number(key: &[u8]) -> u64 {
    key.iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
}

/// Hash functions from good to hopeless: a keyed one, all equal, few values at the top, few at the bottom, a long common
/// prefix, and consecutive ones.
fn hashers() -> impl Strategy<Value = Hasher> {
    prop_oneof![
        4 => any::<[u64; 2]>().prop_map(Hasher::keyed),
        1 => Just(Hasher::custom(|_| 0x5555_5555_5555_5555)),
        1 => Just(Hasher::custom(|key| (number(key) % 7) << 61)),
        1 => Just(Hasher::custom(|key| number(key) % 16)),
        1 => Just(Hasher::custom(|key| 0xabcd_ef01_2340_0000 | number(key))),
        1 => Just(Hasher::custom(|key| number(key) << 46)),
        1 => Just(Hasher::custom(|key| number(key) << 24)),
    ]
}

fn cases(count: u32) -> ProptestConfig {
    let scale =
        std::env::var("LARDER_TEST_SCALE").ok().and_then(|scale| scale.parse::<f64>().ok()).unwrap_or(1.0);
    ProptestConfig {
        cases: ((f64::from(count) * scale) as u32).max(1),
        max_shrink_iters: 20_000,
        ..Default::default()
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn the_table_behaves_like_a_map(shard_bits in 0u8..4, hasher in hashers(), ops in ops()) {
        let mut pair = Pair::new(shard_bits, hasher);
        for op in &ops {
            pair.apply(op);
            pair.check();
        }
        pair.finish();
    }

    /// The promise of SCAN: what is there from the first step to the last is shown, whatever happens between.
    #[test]
    fn a_scan_shows_all_that_stays(
        shard_bits in 0u8..4,
        hasher in hashers(),
        before in ops(),
        during in ops(),
        stride in 1usize..40,
    ) {
        let mut pair = Pair::new(shard_bits, hasher);
        before.iter().for_each(|op| pair.apply(op));
        let mut stay = pair.model.clone();
        let mut seen = std::collections::BTreeSet::new();
        let mut during = during.iter();
        let mut cursor = 0;
        for step in 0.. {
            cursor = pair.table.scan(cursor, &mut |entry| _ = seen.insert(entry.key().to_vec()));
            prop_assert!(cursor < 1 << 48 && step < 1_000_000);
            if cursor == 0 {
                break;
            }
            if step % stride == 0 && let Some(op) = during.next() {
                pair.apply(op);
                stay.retain(|key, _| pair.model.contains_key(key));
            }
        }
        for key in stay.keys() {
            prop_assert!(seen.contains(key), "{} was not shown", String::from_utf8_lossy(key));
        }
        pair.check();
        pair.finish();
    }
}

#[test]
fn a_table_grows_and_shrinks_through_every_size() {
    for hasher in [Hasher::keyed([3, 4]), Hasher::fast(5)] {
        let mut pair = Pair::new(0, hasher);
        let stored = Stored { kind: 0, access: 0, deadline: None, boxed: false, value: vec![1; 8] };
        let key = |i: u32| format!("key:{i:08}").into_bytes();
        for i in 0..20_000 {
            pair.put(&key(i), &stored, false);
            if i % 501 == 0 {
                pair.table.check();
            }
        }
        let full = pair.table.memory();
        for i in 0..20_000 {
            pair.remove(&key(i));
            if i % 501 == 0 {
                pair.table.check();
                let (memory, len) = (pair.table.memory(), pair.table.len());
                assert!(memory.index <= 32 * len + 6000, "{len} entries left {memory:?} of {full:?}");
            }
        }
        pair.table.release_unused();
        pair.table.check();
        assert_eq!(pair.table.live_bytes(), 0);
        pair.finish();
    }
}
