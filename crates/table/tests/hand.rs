//! What eviction asks of a table: entries by the first bits of their hashes, and a walk over all.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use larder_table::{Epochs, Hand, Hasher, NewEntry, Payload, Table, TableConfig};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

type Value = Arc<u64>;

fn table(shard_bits: u8, keys: u32) -> (Table<Value>, BTreeMap<u64, Vec<u8>>) {
    let config = TableConfig { shard_bits, hasher: Hasher::keyed([1, 2]), one_thread: false };
    let table = Table::new(config, Epochs::new(4));
    let mut by_hash = BTreeMap::new();
    for number in 0..keys {
        let key = number.to_le_bytes();
        let hash = table.hash(&key);
        let entry = NewEntry {
            kind: 1,
            access: number & 0xffff,
            deadline: is_timed(&key).then_some(1000),
            payload: Payload::Inline(b"v"),
        };
        table.lock(table.shard_of(hash)).insert(hash, &key, entry);
        by_hash.insert(hash, key.to_vec());
    }
    (table, by_hash)
}

/// One key in 64 has a deadline.
fn is_timed(key: &[u8]) -> bool {
    key.first().is_some_and(|first| first % 64 == 5)
}

fn begins(one: u64, other: u64, bits: u32) -> bool {
    bits == 0 || (one ^ other) >> (64 - bits) == 0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn an_entry_is_found_by_the_first_bits_of_its_hash(
        shard_bits in 0u8..6,
        keys in 0u32..3000,
        bits in 8u32..=64,
        absent in any::<u64>(),
    ) {
        let (table, by_hash) = table(shard_bits, keys);
        for hash in by_hash.keys().copied().step_by(7).chain([absent, 0, u64::MAX]) {
            // Nothing below the bits is known.
            let known = if bits == 64 { hash } else { hash & !(u64::MAX >> bits) };
            let guard = table.lock(table.shard_of(known));
            let expected: Vec<u64> = by_hash.keys().copied().filter(|own| begins(*own, known, bits)).collect();
            match guard.pin_by_prefix(known, bits) {
                Some(pinned) => {
                    prop_assert!(expected.contains(&pinned.hash()));
                    prop_assert_eq!(pinned.entry().key(), &by_hash[&pinned.hash()][..]);
                }
                None => prop_assert!(expected.is_empty(), "{:x} by {} bits", known, bits),
            }
        }
    }

    #[test]
    fn what_is_pinned_can_be_removed(
        shard_bits in 0u8..6,
        keys in 1u32..2000,
        bits in 0u32..=64,
        picks in proptest::collection::vec(any::<usize>(), 1..60),
    ) {
        let (table, mut by_hash) = table(shard_bits, keys);
        let bits = bits.max(u32::from(shard_bits));
        for pick in picks {
            let Some(hash) = by_hash.keys().nth(pick % by_hash.len().max(1)).copied() else { break };
            let pinned = table.lock(table.shard_of(hash)).pin_by_prefix(hash, bits);
            let pinned = pinned.expect("the entry is there");
            let found = pinned.hash();
            prop_assert!(begins(found, hash, bits));
            let key = by_hash.remove(&found);
            prop_assert_eq!(Some(pinned.entry().key()), key.as_deref());
            prop_assert_eq!(pinned.shard().index(), table.shard_of(found));
            let size = pinned.entry().size();
            prop_assert_eq!(pinned.remove().size, size);
            let shard = table.lock(table.shard_of(found));
            prop_assert!(shard.find(found, &key.unwrap_or_default()).is_none(), "it is gone, and the lock given back");
        }
        prop_assert_eq!((0..table.shards()).map(|shard| table.shard_len(shard)).sum::<usize>(), by_hash.len());
        (0..table.shards()).for_each(|shard| table.lock(shard).check());
    }

    #[test]
    fn a_walk_shows_every_entry_that_is_not_held(
        shard_bits in 0u8..6,
        keys in 0u32..3000,
        start in any::<u64>(),
        held in proptest::option::of(0usize..32),
        timed_only in any::<bool>(),
    ) {
        let (table, by_hash) = table(shard_bits, keys);
        let held = held.filter(|shard| *shard < table.shards());
        let guard = held.map(|shard| table.lock(shard));
        let mut shown = BTreeMap::new();
        let (mut at, mut steps) = (Some(start), 0);
        while let Some(hash) = at {
            let mut is_near = true;
            at = table.walk(hash, Hand { stays: false, timed_only }, &mut |lowest, passed| {
                for entry in passed.iter() {
                    let own = table.hash(entry.key());
                    is_near &= lowest >> 16 >= hash >> 16 && table.shard_of(lowest) == table.shard_of(own);
                    shown.insert(own, entry.key().to_vec());
                }
            });
            prop_assert!(is_near, "what is shown is where it is said to be");
            prop_assert!(at.is_none_or(|next| next > hash), "the hand goes on");
            steps += 1;
            prop_assert!(steps < 70_000, "and comes to the end");
        }
        drop(guard);
        for (hash, key) in &by_hash {
            let is_held = held == Some(table.shard_of(*hash));
            if *hash >= start && !is_held && (!timed_only || is_timed(key)) {
                prop_assert_eq!(shown.get(hash), Some(key));
            }
            prop_assert!(!timed_only || is_timed(key) || !shown.contains_key(hash));
            prop_assert!(!is_held || !shown.contains_key(hash));
        }
    }
}
