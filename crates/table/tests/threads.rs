//! Several threads on one table: random changes, prefetching without locks, scans, sweeps and wholesale removal.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use larder_table::{
    Compacted, DeadlineChange, Epochs, Hasher, NewEntry, Next, Payload, PayloadRef, Shard, Table, TableConfig,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

type Boxed = Arc<[u8; 16]>;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}

fn steps() -> u64 {
    std::env::var("LARDER_TEST_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(40_000)
}

fn key(i: u64) -> Vec<u8> {
    format!("key:{i}").into_bytes()
}

/// Each value says which key it belongs to, so that a mix-up is noticed.
fn value(key: &[u8], random: &mut Random) -> Vec<u8> {
    let mut value = key.to_vec();
    value.resize(key.len() + random.below(120) as usize, key.len() as u8);
    value
}

fn assert_belongs(key: &[u8], payload: PayloadRef<'_, Boxed>) {
    match payload {
        PayloadRef::Inline(bytes) => assert!(bytes.starts_with(key)),
        PayloadRef::Boxed(boxed) => assert_eq!(boxed[0], key.len() as u8),
    }
}

fn change(table: &Table<Boxed>, random: &mut Random, keys: u64, now: u64) {
    let key = key(random.below(keys));
    let hash = table.hash(&key);
    let mut shard = table.lock(table.shard_of(hash));
    let deadline = (random.below(3) == 0).then(|| now + random.below(2000));
    let value = value(&key, random);
    let payload = if random.below(4) == 0 {
        Payload::Boxed(Arc::new([key.len() as u8; 16]))
    } else {
        Payload::Inline(&value)
    };
    match shard.find_mut(hash, &key) {
        None => _ = shard.insert(hash, &key, NewEntry { kind: 1, access: 1, deadline, payload }),
        Some(mut entry) => match random.below(4) {
            0 => _ = entry.replace(2, payload, DeadlineChange::Set(deadline)),
            1 => entry.set_deadline(deadline),
            _ => _ = entry.remove(),
        },
    }
    if let Some(entry) = shard.find(hash, &key) {
        entry.set_access(random.below(1 << 24) as u32);
        assert_belongs(&key, entry.payload());
    }
}

fn prefetch_batch(
    table: &Table<Boxed>,
    participant: &larder_table::Participant,
    random: &mut Random,
    keys: u64,
) {
    participant.enter();
    let batch: Vec<_> = (0..16).map(|_| key(random.below(keys))).collect();
    let hashes: Vec<_> = batch.iter().map(|key| table.hash(key)).collect();
    hashes.iter().for_each(|hash| table.prefetch_shard(*hash));
    Table::prefetch_all(participant, hashes.iter().map(|hash| (table, *hash)));
    for (key, hash) in batch.iter().zip(hashes) {
        let shard = table.lock(table.shard_of(hash));
        if let Some(entry) = shard.find(hash, key) {
            assert_eq!(entry.key(), &key[..]);
            assert_belongs(key, entry.payload());
        }
    }
    if random.below(8) == 0 {
        participant.leave();
    }
}

#[test]
fn threads_do_not_disturb_each_other() {
    let steps = steps();
    for (shard_bits, keys, detach) in [(1, 3000, false), (3, 20_000, true), (6, 200, true)] {
        let epochs = Epochs::new(4);
        let table = Arc::new(Table::<Boxed>::new(
            TableConfig { shard_bits, hasher: Hasher::random(), one_thread: false },
            Arc::clone(&epochs),
        ));
        let clock = AtomicU64::new(1_000_000);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..3u64)
                .map(|seed| {
                    let (table, epochs, clock) = (&table, &epochs, &clock);
                    scope.spawn(move || {
                        let participant = epochs.register();
                        let mut random = Random(seed);
                        for step in 0..steps {
                            let now = clock.fetch_add(1, Ordering::Relaxed);
                            change(table, &mut random, keys, now);
                            if step % 16 == 0 {
                                prefetch_batch(table, &participant, &mut random, keys);
                            }
                            if step % 64 == 0 {
                                let shard = random.below(table.shards() as u64) as usize;
                                table.lock(shard).expire_due(now, 10, &mut |_, _, removed| {
                                    assert!(removed.deadline.unwrap() <= now);
                                });
                                let mut visit = |boxed: &mut Boxed| {
                                    *boxed = Arc::new(**boxed);
                                    Next::On
                                };
                                let shard = random.below(table.shards() as u64) as usize;
                                let (mut done, mut at) = (Compacted::default(), None);
                                for _ in 0..random.below(10) {
                                    at = table.lock(shard).compact(at, 50, &mut done, &mut visit);
                                }
                            }
                        }
                    })
                })
                .collect();
            let observer = scope.spawn(|| {
                let mut rounds = 0u64;
                while !done.load(Ordering::Relaxed) {
                    let mut cursor = 0;
                    loop {
                        cursor =
                            table.scan(cursor, &mut |entry| assert_belongs(entry.key(), entry.payload()));
                        if cursor == 0 {
                            break;
                        }
                    }
                    rounds += 1;
                    if detach && rounds.is_multiple_of(5) {
                        let mut detached = table.detach_all();
                        for _ in 0..rounds % 20 {
                            detached.free_some(100);
                        }
                    }
                    if rounds.is_multiple_of(7) {
                        table.release_unused();
                    }
                    let memory = table.memory();
                    assert!(memory.all >= memory.fixed);
                }
            });
            for worker in workers {
                worker.join().unwrap();
            }
            done.store(true, Ordering::Relaxed);
            observer.join().unwrap();
        });
        table.check();
        let now = u64::MAX - 1;
        for shard in 0..table.shards() {
            table.lock(shard).expire_due(now, usize::MAX, &mut |_, _, _| {});
        }
        assert_eq!(table.len_with_deadline(), 0);
        table.check();
    }
}

fn on_each(
    table: &Table<Boxed>,
    keys: std::ops::Range<u64>,
    act: impl Fn(&mut Shard<'_, Boxed>, u64, &[u8]),
) {
    for key in keys.map(key) {
        let hash = table.hash(&key);
        act(&mut table.lock(table.shard_of(hash)), hash, &key);
    }
}

/// Fills a range of keys, looks at all of it, and removes it.
fn wave(table: &Table<Boxed>, keys: std::ops::Range<u64>) {
    on_each(table, keys.clone(), |shard, hash, key| {
        let payload = key.repeat(8);
        let payload = Payload::Inline(&payload[..]);
        shard.insert(hash, key, NewEntry { kind: 1, access: 1, deadline: None, payload });
    });
    // What is missing was detached.
    on_each(table, keys.clone(), |shard, hash, key| {
        if let Some(entry) = shard.find(hash, key) {
            assert_eq!(entry.payload(), PayloadRef::Inline(&key.repeat(8)[..]));
        }
    });
    on_each(table, keys, |shard, hash, key| _ = shard.find_mut(hash, key).map(|entry| entry.remove()));
}

#[test]
fn pages_are_kept_under_threads_that_fill_and_empty_the_table() {
    let epochs = Epochs::new(4);
    let table = Table::<Boxed>::new(
        TableConfig { shard_bits: 1, hasher: Hasher::random(), one_thread: false },
        epochs,
    );
    let keys = steps();
    let running = AtomicU64::new(2);
    let mut rounds = 0u64;
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (table, running) = (&table, &running);
            scope.spawn(move || {
                (0..10).for_each(|_| wave(table, thread * keys..(thread + 1) * keys));
                running.fetch_sub(1, Ordering::Relaxed);
            });
        }
        while running.load(Ordering::Relaxed) > 0 {
            larder_table::keep_pages(3);
            rounds += 1;
            if rounds.is_multiple_of(7) {
                table.release_unused();
            }
            if rounds.is_multiple_of(100) {
                table.detach_all().free_some(100);
            }
        }
    });
    drop(table.detach_all());
    table.check();
    assert_eq!(table.memory().mapped, 0);
}
