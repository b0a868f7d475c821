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
            match guard.find_by_prefix(known, bits) {
                Some((found, entry)) => {
                    prop_assert!(expected.contains(&found));
                    prop_assert_eq!(entry.key(), &by_hash[&found][..]);
                }
                None => prop_assert!(expected.is_empty(), "{:x} by {} bits", known, bits),
            }
        }
    }

    #[test]
    fn a_spot_is_of_its_entry_or_of_none(
        shard_bits in 0u8..6,
        keys in 1u32..2000,
        bits in 0u32..=64,
        pick in any::<usize>(),
        removed in proptest::collection::vec(any::<usize>(), 0..40),
    ) {
        let (table, by_hash) = table(shard_bits, keys);
        let hashes: Vec<u64> = by_hash.keys().copied().collect();
        let hash = hashes[pick % hashes.len()];
        let spot = table.lock(table.shard_of(hash)).spot_by_prefix(hash, bits.max(u32::from(shard_bits)));
        let spot = spot.expect("the entry is there");
        let wanted = spot.hash();
        prop_assert!(begins(wanted, hash, bits.max(u32::from(shard_bits))));
        let mut shard = table.lock(table.shard_of(wanted));
        prop_assert_eq!(shard.at(spot).map(|entry| entry.key().to_vec()), by_hash.get(&wanted).cloned());
        for other in removed.iter().map(|pick| hashes[pick % hashes.len()]).filter(|other| *other != wanted) {
            if table.shard_of(other) == table.shard_of(wanted)
                && let Some(entry) = shard.find_mut(other, &by_hash[&other])
            {
                entry.remove();
            }
        }
        // It may have moved to another slot. Whatever is found by the spot is the entry.
        if let Some(entry) = shard.at(spot) {
            prop_assert_eq!(entry.key(), &by_hash[&wanted][..]);
        }
        if let Some(entry) = shard.at_mut(spot) {
            entry.remove();
            prop_assert!(shard.find(wanted, &by_hash[&wanted]).is_none());
        }
        prop_assert!(shard.at(spot).is_none());
        let elsewhere = (0..table.shards()).find(|other| *other != table.shard_of(wanted));
        drop(shard);
        if let Some(other) = elsewhere {
            prop_assert!(table.lock(other).at(spot).is_none());
        }
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
            at = table.walk(hash, Hand { stays: false, timed_only }, &mut |lowest, entry| {
                let own = table.hash(entry.key());
                is_near &= lowest >> 16 >= hash >> 16 && table.shard_of(lowest) == table.shard_of(own);
                shown.insert(own, entry.key().to_vec());
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
