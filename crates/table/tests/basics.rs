//! The table's calls one by one, on small examples.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use larder_table::{
    Compacted, DeadlineChange, Epochs, Hasher, NewEntry, Next, Payload, PayloadRef, Shard, Table, TableConfig,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

type Boxed = Arc<Vec<u8>>;

fn table(shard_bits: u8) -> Table<Boxed> {
    Table::new(TableConfig { shard_bits, hasher: Hasher::keyed([1, 2]), one_thread: false }, Epochs::new(4))
}

fn inline(value: &[u8]) -> NewEntry<'_, Boxed> {
    NewEntry { kind: 1, access: 0, deadline: None, payload: Payload::Inline(value) }
}

fn put(table: &Table<Boxed>, key: &[u8], new: NewEntry<'_, Boxed>) {
    let hash = table.hash(key);
    table.lock(table.shard_of(hash)).insert(hash, key, new);
}

/// Inserts the `round`th key that lies in a locked shard.
fn put_locked(shard: &mut Shard<'_, Boxed>, table: &Table<Boxed>, round: u8) {
    let in_shard = |key: &Vec<u8>| table.shard_of(table.hash(key)) == shard.index();
    let key = (0..).map(key).filter(in_shard).nth(usize::from(round)).unwrap();
    shard.insert(table.hash(&key), &key, inline(b"value"));
}

fn get(table: &Table<Boxed>, key: &[u8]) -> Option<Vec<u8>> {
    let hash = table.hash(key);
    table.lock(table.shard_of(hash)).find(hash, key).map(|entry| match entry.payload() {
        PayloadRef::Inline(bytes) => bytes.to_vec(),
        PayloadRef::Boxed(boxed) => boxed.to_vec(),
    })
}

fn key(i: usize) -> Vec<u8> {
    format!("key:{i}").into_bytes()
}

#[test]
fn what_is_inserted_is_found_and_what_is_removed_is_not() {
    let table = table(3);
    for i in 0..3000 {
        put(&table, &key(i), inline(&i.to_le_bytes()));
    }
    table.check();
    assert_eq!(table.len(), 3000);
    for i in 0..3000 {
        assert_eq!(get(&table, &key(i)), Some(i.to_le_bytes().to_vec()));
        assert_eq!(get(&table, &key(i + 3000)), None);
    }
    for i in 0..3000 {
        let hash = table.hash(&key(i));
        let mut shard = table.lock(table.shard_of(hash));
        let removed = shard.find_mut(hash, &key(i)).unwrap().remove();
        assert_eq!((removed.kind, removed.deadline), (1, None));
        assert!(shard.find(hash, &key(i)).is_none());
    }
    table.check();
    assert!(table.is_empty());
    table.release_unused();
    let memory = table.memory();
    assert_eq!((memory.entries, memory.index, memory.spans), (0, 0, 0));
    assert_eq!(table.live_bytes(), 0);
}

#[test]
fn an_empty_table_has_no_contents_and_survives_every_call() {
    let table = table(4);
    assert_eq!(table.scan(0, &mut |_| panic!("nothing to visit")), 0);
    assert_eq!(table.next_due(3), u64::MAX);
    let mut shard = table.lock(3);
    shard.sample(7, 5, &mut |_| panic!("nothing to sample"));
    assert_eq!(shard.expire_due(u64::MAX - 1, 10, &mut |_, _, _| panic!("nothing is due")), 0);
    assert!(table.try_lock(3).is_none());
    drop(shard);
    assert!(table.try_lock(3).is_some());
    assert!(table.detach_all().is_empty());
    assert_eq!(table.memory().mapped, 0);
}

#[test]
fn a_value_is_replaced_in_place_or_moved_and_keeps_what_it_should() {
    let table = table(0);
    let hash = table.hash(b"k");
    let mut shard = table.lock(0);
    shard.insert(
        hash,
        b"k",
        NewEntry { kind: 3, access: 77, deadline: Some(500), payload: Payload::Inline(b"0123456789") },
    );
    let mut entry = shard.find_mut(hash, b"k").unwrap();
    let before = entry.view().key().as_ptr();
    let old = entry.replace(4, Payload::Inline(b"abcdefghij"), DeadlineChange::Keep);
    assert_eq!((old.kind, old.deadline), (3, Some(500)));
    assert_eq!(entry.view().key().as_ptr(), before);
    for len in [0, 1, 11, 252, 253, 254, 255, 256, 4000, 65_535, 65_536, 9] {
        let value = vec![b'v'; len];
        entry.replace(5, Payload::Inline(&value), DeadlineChange::Keep);
        assert_eq!(entry.view().payload(), PayloadRef::Inline(&value[..]));
        assert_eq!((entry.view().key(), entry.view().kind()), (&b"k"[..], 5));
        assert_eq!((entry.view().access(), entry.view().deadline()), (77, Some(500)));
    }
    entry.replace(6, Payload::Boxed(Arc::new(vec![9])), DeadlineChange::Set(None));
    assert!(entry.inline_mut().is_none());
    *entry.boxed_mut().unwrap() = Arc::new(vec![8]);
    assert_eq!(entry.view().deadline(), None);
    for deadline in [Some(1), Some(u64::MAX), None, Some(1 << 48), Some((1 << 48) - 1)] {
        entry.set_deadline(deadline);
        assert_eq!(entry.view().deadline(), deadline);
        assert_eq!(entry.view().payload(), PayloadRef::Boxed(&Arc::new(vec![8])));
    }
    entry.set_kind(31);
    entry.view().set_access(5);
    let old = entry.replace(1, Payload::Inline(b"xy"), DeadlineChange::Keep);
    assert_eq!(old.boxed, Some(Arc::new(vec![8])));
    assert_eq!(old.kind, 31);
    entry.inline_mut().unwrap()[1] = b'z';
    assert_eq!(entry.view().payload(), PayloadRef::Inline(b"xz"));
    assert_eq!(entry.into_view().access(), 5);
    drop(shard);
    table.check();
}

#[test]
fn due_entries_go_exactly_when_they_are_due() {
    let table = table(1);
    let start = 1_700_000_000_000u64;
    for i in 0..2000u64 {
        let deadline = (i % 4 != 0).then_some(start + i * 977 % 10_000);
        put(&table, &key(i as usize), NewEntry { deadline, ..inline(b"v") });
    }
    table.check();
    let mut gone = 0;
    for now in (start..start + 10_100).step_by(7) {
        for shard in 0..2 {
            let mut shard = table.lock(shard);
            while shard.expire_due(now, 3, &mut |_, _, removed| {
                assert!(removed.deadline.unwrap() <= now && removed.deadline.unwrap() + 7 > now);
                gone += 1;
            }) == 3
            {}
            shard.for_each(&mut |entry| assert!(entry.deadline().is_none_or(|at| at > now)));
            assert!(shard.next_due() > now);
        }
    }
    table.check();
    assert_eq!(gone, 1500);
    assert_eq!((table.len(), table.len_with_deadline()), (500, 0));
    assert_eq!((table.next_due(0), table.next_due(1)), (u64::MAX, u64::MAX));
}

/// Bursts at every density, so that removals chain through full buckets and around the ends of segments.
#[test]
fn what_is_due_together_goes_together_and_nothing_else() {
    for (one_in, limit) in [(1, usize::MAX), (2, 7), (3, 512), (10, usize::MAX), (10, 31), (97, 1)] {
        let table = table(1);
        let due = |i: usize| (i * 7919).is_multiple_of(one_in);
        for i in 0..9000 {
            // Some of what stays is due within the same tick.
            let later = [None, Some(50_001), Some(50_020), Some(9_000_000)][i % 4];
            let deadline = if due(i) { Some(50_000 - i as u64 % 3) } else { later };
            let payload = match i % 11 {
                0 => Payload::Boxed(Arc::new(vec![1; 9])),
                _ => Payload::Inline(b"0123456789abcdef"),
            };
            put(&table, &key(i), NewEntry { deadline, payload, ..inline(b"") });
        }
        let mut gone = 0;
        for shard in 0..2 {
            let mut shard = table.lock(shard);
            loop {
                let count = shard.expire_due(50_000, limit, &mut |key, _, removed| {
                    let number = std::str::from_utf8(&key[4..]).unwrap().parse::<usize>().unwrap();
                    assert!(due(number) && removed.deadline.unwrap() <= 50_000);
                });
                gone += count;
                if count < limit {
                    break;
                }
            }
            assert!(shard.next_due() > 50_000);
            shard.check();
        }
        assert_eq!(gone, (0..9000).filter(|i| due(*i)).count());
        table.check();
        assert!((0..9000).all(|i| get(&table, &key(i)).is_some() != due(i)));
    }
}

#[test]
fn deadlines_over_hours_outlive_the_range_of_their_codes() {
    let table = table(0);
    let start = 1_700_000_000_000u64;
    let hours = 6 * 3600 * 1000;
    for i in 0..900u64 {
        let deadline = Some(start + i * 7_368_787 % hours);
        put(&table, &key(i as usize), NewEntry { deadline, ..inline(b"v") });
    }
    // Few are due at a time, so segments move their bases at different times, and merge with what they then have.
    let mut gone = 0;
    for now in (start..=start + hours).step_by(20_000) {
        let mut shard = table.lock(0);
        gone += shard.expire_due(now, usize::MAX, &mut |_, _, removed| {
            assert!(removed.deadline.unwrap() <= now && removed.deadline.unwrap() + 20_000 > now);
        });
        assert!(shard.next_due() > now);
        shard.check();
    }
    assert_eq!((gone, table.len()), (900, 0));
}

#[test]
fn a_scan_visits_everything_and_ends() {
    let table = table(5);
    for i in 0..5000 {
        put(&table, &key(i), inline(b"v"));
    }
    let mut seen = vec![0; 5000];
    let (mut cursor, mut steps) = (0, 0);
    loop {
        cursor = table.scan(cursor, &mut |entry| {
            let number: usize = std::str::from_utf8(&entry.key()[4..]).unwrap().parse().unwrap();
            seen[number] += 1;
        });
        steps += 1;
        assert!(cursor < 1 << 48 && steps < 5000);
        if cursor == 0 {
            break;
        }
    }
    assert!(seen.iter().all(|count| *count == 1), "a table at rest shows each entry once");
    // A few entries in many shards: the empty ones are skipped in bulk.
    let sparse = self::table(10);
    put(&sparse, b"one", inline(b"v"));
    let (mut cursor, mut steps, mut count) = (sparse.scan(0, &mut |_| {}), 1, 0);
    while cursor != 0 {
        cursor = sparse.scan(cursor, &mut |_| count += 1);
        steps += 1;
    }
    assert!(steps <= 8 && count <= 1, "{steps} steps");
}

#[test]
fn samples_are_about_uniform() {
    let table = table(0);
    let mut counts = vec![0u32; 300];
    for i in 0..300 {
        put(&table, &key(i), inline(b"v"));
    }
    let shard = table.lock(0);
    for seed in 0..60_000u64 {
        let mut visited = 0;
        shard.sample(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1, &mut |entry| {
            let number: usize = std::str::from_utf8(&entry.key()[4..]).unwrap().parse().unwrap();
            counts[number] += 1;
            visited += 1;
        });
        assert_eq!(visited, 1);
    }
    assert!(counts.iter().all(|count| (120..320).contains(count)), "{counts:?}");
    for want in [2, 299, 300, 1000] {
        let mut keys = std::collections::HashSet::new();
        shard.sample(42, want, &mut |entry| assert!(keys.insert(entry.key().to_vec())));
        assert_eq!(keys.len(), want.min(300));
    }
}

#[test]
fn detached_contents_are_dropped_once_and_the_table_goes_on() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl Counted {
        fn new() -> Box<Self> {
            ALIVE.fetch_add(1, Ordering::SeqCst);
            Box::new(Self)
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let epochs = Epochs::new(2);
    let table = Table::<Box<Counted>>::new(
        TableConfig { shard_bits: 2, hasher: Hasher::random(), one_thread: false },
        Arc::clone(&epochs),
    );
    let fill = || {
        for i in 0..4000usize {
            let hash = table.hash(&key(i));
            let value = vec![0; if i % 97 == 0 { 5000 } else { 10 }];
            let payload = if i % 3 == 0 { Payload::Boxed(Counted::new()) } else { Payload::Inline(&value) };
            let new = NewEntry { kind: 0, access: 0, deadline: (i % 2 == 0).then_some(9), payload };
            table.lock(table.shard_of(hash)).insert(hash, &key(i), new);
        }
        table.check();
    };
    fill();
    let participant = epochs.register();
    participant.enter();
    let mut detached = table.detach_all();
    assert_eq!((detached.len(), table.len(), table.live_bytes()), (4000, 0, 0));
    table.check();
    fill();
    for _ in 0..1000 {
        assert!(!detached.free_some(100), "the participant may still read");
    }
    assert_eq!(ALIVE.load(Ordering::SeqCst), 1334, "entries need not wait for it");
    participant.leave();
    let slices = (0..10_000).position(|_| detached.free_some(1)).unwrap();
    assert!(slices > 0);
    drop(table.detach_all());
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
    fill();
    participant.enter();
    drop(table);
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
    participant.leave();
    epochs.collect();
}

#[test]
fn a_shard_that_is_lent_stays_locked_by_its_owner() {
    let table = table(2);
    let hash = table.hash(b"key");
    let index = table.shard_of(hash);
    let mut shard = table.lock(index);
    for round in 0..3u8 {
        let mut lent = shard.lend();
        put_locked(&mut lent.lend(), &table, round);
        assert_eq!((lent.index(), lent.len()), (index, usize::from(round) + 1));
        drop(lent);
        assert!(table.try_lock(index).is_none());
    }
    drop(shard);
    assert!(table.try_lock(index).is_some());
    table.check();
}

#[test]
fn a_panic_in_a_callback_leaves_the_shard_healthy() {
    let table = table(0);
    for i in 0..500 {
        put(
            &table,
            &key(i),
            NewEntry { deadline: Some(100), payload: Payload::Boxed(Arc::new(vec![1])), ..inline(b"") },
        );
    }
    let attempt = |act: &mut dyn FnMut()| {
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).is_err());
        table.check();
    };
    attempt(&mut || _ = table.scan(0, &mut |_| panic!("scan")));
    attempt(&mut || table.lock(0).sample(1, 3, &mut |_| panic!("sample")));
    attempt(&mut || table.lock(0).for_each(&mut |_| panic!("each")));
    let mut count = 0;
    attempt(&mut || {
        table.lock(0).expire_due(100, 1000, &mut |_, _, _| {
            count += 1;
            assert!(count < 100, "expire");
        });
    });
    assert_eq!(table.len(), 400);
    assert_eq!(table.lock(0).expire_due(100, 1000, &mut |_, _, _| {}), 400);
    table.check();
}

/// Moves everything together; how many entries moved.
fn compact_all(table: &Table<Boxed>) -> usize {
    let mut done = Compacted::default();
    for shard in 0..table.shards() {
        let mut at = None;
        loop {
            at = table.lock(shard).compact(at, 64, &mut done, &mut |_| Next::On);
            if at.is_none() {
                break;
            }
        }
    }
    done.moved
}

#[test]
fn entries_that_are_few_and_far_between_are_moved_together() {
    // So many that every arena has some spans of every class, and the last of each counts for little.
    const KEYS: u32 = 160_000;
    let table = table(4);
    let value = [7u8; 300];
    for i in 0..KEYS {
        put(&table, &i.to_le_bytes(), inline(&value[..100 + i as usize % 200]));
    }
    for i in (0..KEYS).filter(|i| i % 10 >= 3) {
        let hash = table.hash(&i.to_le_bytes());
        table.lock(table.shard_of(hash)).find_mut(hash, &i.to_le_bytes()).unwrap().remove();
    }
    let before = table.memory();
    assert!(before.spans > 2 * before.entries, "removing left the spans full: {before:?}");
    // One pass goes by what it finds on its way; the next one finds what that has left.
    let moved: usize = (0..20).map(|_| compact_all(&table)).take_while(|moved| *moved > 0).sum();
    table.check();
    let after = table.memory();
    assert_eq!(after.entries, before.entries);
    assert!(after.spans < before.spans * 6 / 10, "{before:?} {after:?} {moved} moved");
    for i in 0..KEYS {
        let key = i.to_le_bytes();
        let hash = table.hash(&key);
        let shard = table.lock(table.shard_of(hash));
        let found = shard
            .find(hash, &key)
            .map(|entry| entry.payload() == PayloadRef::Inline(&value[..100 + i as usize % 200]));
        assert_eq!(found, (i % 10 < 3).then_some(true));
    }
    assert_eq!(compact_all(&table), 0, "where nothing would be gained something is moved");
}

#[test]
fn room_that_was_made_is_used_and_need_not_be() {
    for (reserved, keys) in [(0, 500), (1, 500), (100, 1_000), (2_000, 16_000), (2_000, 3), (5_000, 80_000)] {
        let table = table(3);
        for index in 0..8 {
            table.lock(index).reserve(reserved);
        }
        table.check();
        let before = table.memory().index;
        for i in 0..keys {
            put(&table, &key(i), inline(&i.to_le_bytes()));
        }
        table.check();
        assert_eq!(table.len(), keys);
        assert!((0..keys).all(|i| get(&table, &key(i)).is_some()));
        assert!(reserved < 2_000 || keys > reserved * 8 || table.memory().index <= before * 11 / 10);
        // In a shard that has entries nothing is made ready.
        let index = table.memory().index;
        (0..8).for_each(|shard| table.lock(shard).reserve(100_000));
        assert_eq!(table.memory().index, index, "{reserved} {keys}");
        for i in 0..keys {
            let hash = table.hash(&key(i));
            table.lock(table.shard_of(hash)).find_mut(hash, &key(i)).unwrap().remove();
        }
        table.check();
        assert_eq!(table.len(), 0);
    }
}
