//! A table that grows is given huge pages, and takes little memory beyond its contents. Alone in its file, for it measures the process.

#![cfg(all(target_os = "linux", not(miri), not(feature = "sanitize")))]
#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use larder_table::{Epochs, Hasher, NewEntry, Payload, PayloadRef, Table, TableConfig, keep_pages};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const KEYS: u64 = 1_000_000;

fn value(i: u64) -> [u8; 56] {
    let mut value = [i as u8; 56];
    value[..8].copy_from_slice(&i.to_le_bytes());
    value
}

/// Bytes of a field of this process's memory.
fn memory(field: &str) -> usize {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn insert(table: &Table<Box<u8>>, i: u64) {
    let key = i.to_be_bytes();
    let hash = table.hash(&key);
    let payload = Payload::Inline(&value(i)[..]);
    let new = NewEntry { kind: 0, access: 0, deadline: None, payload };
    table.lock(table.shard_of(hash)).insert(hash, &key, new);
}

fn check_all(table: &Table<Box<u8>>) {
    table.check();
    for i in 0..KEYS {
        let hash = table.hash(&i.to_be_bytes());
        let shard = table.lock(table.shard_of(hash));
        let entry = shard.find(hash, &i.to_be_bytes()).unwrap();
        assert_eq!(entry.payload(), PayloadRef::Inline(&value(i)[..]));
    }
}

#[test]
fn a_growing_table_gets_huge_pages_and_gives_them_back() {
    let table = Table::new(
        TableConfig { shard_bits: 2, hasher: Hasher::random(), one_thread: false },
        Epochs::new(1),
    );
    let empty = memory("Rss:");
    let (growing, mut made) = (AtomicBool::new(true), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..KEYS).for_each(|i| insert(&table, i));
            growing.store(false, Relaxed);
        });
        while growing.load(Relaxed) {
            made += keep_pages(4);
        }
    });
    let (full, huge, spans) = (memory("Rss:") - empty, memory("AnonHugePages:"), table.memory().spans);
    eprintln!("{spans} bytes in spans, {full} resident, {huge} in {made} huge pages");
    if made == 0 {
        eprintln!("skipped: the kernel makes no huge pages here");
    } else {
        assert!(huge > spans / 2, "only {huge} of {spans} bytes are in huge pages");
    }
    // What is ready for further growth comes on top, and is given back when there is none.
    for _ in 0..6 {
        keep_pages(4);
    }
    let rested = memory("Rss:") - empty;
    assert!(rested < spans / 50 * 51 + (4 << 20), "{spans} bytes in spans take {rested}");
    check_all(&table);
    drop(table.detach_all());
    table.check();
    assert_eq!(table.memory().mapped, 0);
    keep_pages(4);
    assert!(memory("Rss:") < full / 4, "the memory was not given back");
}
