//! A full table becomes huge pages, and takes no more memory for it. Alone in its file, for it measures the process.

#![cfg(all(target_os = "linux", not(miri), not(feature = "sanitize")))]
#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use larder_table::{Epochs, Hasher, NewEntry, Payload, PayloadRef, Table, TableConfig};

const KEYS: u64 = 1_000_000;
const BLOCK_BYTES: usize = 2 << 20;

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
fn a_full_table_becomes_huge_pages_and_grows_by_little() {
    let table = Table::new(TableConfig { shard_bits: 2, hasher: Hasher::random() }, Epochs::new(1));
    assert_eq!(table.collapse_dense(10), 0);
    (0..KEYS).for_each(|i| insert(&table, i));
    let blocks = table.memory().mapped / BLOCK_BYTES;
    let before = memory("Rss:");
    let first = table.collapse_dense(1);
    assert!(first <= 1, "more than the budget");
    if first == 0 {
        eprintln!("skipped: the kernel makes no huge pages here");
        return;
    }
    let collapsed = first + table.collapse_dense(usize::MAX);
    let (after, huge) = (memory("Rss:"), memory("AnonHugePages:"));
    eprintln!(
        "{collapsed} of {blocks} blocks; {before} bytes resident before, {after} after, {huge} in huge pages"
    );
    assert!(collapsed * 5 > blocks * 4, "only {collapsed} of {blocks} blocks");
    assert!(huge >= collapsed * BLOCK_BYTES, "only {huge} bytes are in huge pages");
    assert!(after < before + before / 50, "{before} bytes became {after}");
    assert_eq!(table.collapse_dense(usize::MAX), 0, "a block was tried twice");
    check_all(&table);
    drop(table.detach_all());
    table.check();
    assert_eq!(table.memory().mapped, 0);
    assert!(memory("Rss:") < before / 4, "the memory was not given back");
}
