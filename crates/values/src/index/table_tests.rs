//! The index against the standard library's map, and its promises of scans and chances.

use super::super::hash_of;
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashSet};

fn hash(reference: u32) -> u64 {
    hash_of(&reference.to_le_bytes())
}

/// A hash that puts elements into few segments, and some on the same place.
fn bad_hash(reference: u32) -> u64 {
    u64::from(reference / 3) << 40
}

fn insert(index: &mut Index, reference: u32, hash: fn(u32) -> u64) -> bool {
    if index.find(hash(reference), |other| other == reference).is_some() {
        return false;
    }
    index.insert(hash(reference), reference, hash);
    true
}

fn remove(index: &mut Index, reference: u32, hash: fn(u32) -> u64) -> bool {
    index.remove(hash(reference), |other| other == reference, hash).is_some()
}

fn scan_all(index: &Index, count: usize, hash: fn(u32) -> u64) -> Vec<u32> {
    let (mut cursor, mut seen) = (0, Vec::new());
    loop {
        cursor = index.scan(cursor, count, hash, |reference| seen.push(reference));
        if cursor == 0 {
            return seen;
        }
    }
}

fn follow_model(steps: &[(bool, u32)], hash: fn(u32) -> u64) {
    let (mut index, mut model) = (Index::new(), BTreeSet::new());
    for &(add, reference) in steps {
        if add {
            assert_eq!(insert(&mut index, reference, hash), model.insert(reference));
        } else {
            assert_eq!(remove(&mut index, reference, hash), model.remove(&reference));
        }
        assert_eq!(index.len(), model.len());
    }
    index.check(hash);
    assert!(index.iter().collect::<BTreeSet<_>>() == model);
    let seen = scan_all(&index, 7, hash);
    assert_eq!(seen.len(), model.len(), "a scan of what does not change repeats nothing");
    assert!(seen.into_iter().collect::<BTreeSet<_>>() == model);
    assert_eq!(index.random(5).is_some(), !model.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn it_is_a_set(steps in proptest::collection::vec((any::<bool>(), 0_u32..300), 0..600)) {
        follow_model(&steps, hash);
        follow_model(&steps, bad_hash);
    }

    #[test]
    fn a_scan_sees_what_stays(
        (seed, count, grow) in (any::<u64>(), 1_usize..200, any::<bool>())
    ) {
        let (stay, come) = (2_000_u32, 30_000_u32);
        let mut index = Index::new();
        let initial = if grow { stay } else { stay + come };
        (0..initial).for_each(|reference| index.insert(hash(reference), reference, hash));
        let (mut cursor, mut seen, mut draws, mut next) = (0, HashSet::new(), Draws::new(seed), stay);
        loop {
            cursor = index.scan(cursor, count, hash, |reference| { seen.insert(reference); });
            if cursor == 0 {
                break;
            }
            for _ in 0..draws.below(2_000) {
                if next < stay + come {
                    if grow { index.insert(hash(next), next, hash) } else { assert!(remove(&mut index, next, hash)) }
                    next += 1;
                }
            }
        }
        index.check(hash);
        prop_assert!((0..stay).all(|reference| seen.contains(&reference)));
    }
}

#[test]
fn it_grows_and_shrinks_as_a_whole() {
    let mut index = Index::new();
    let count = 200_000;
    for reference in 0..count {
        index.insert(hash(reference), reference, hash);
        if reference % 20_011 == 0 {
            index.check(hash);
        }
    }
    index.check(hash);
    let per_element = index.heap_bytes() as f64 / f64::from(count);
    assert!(per_element < 7.5, "{per_element} bytes an element");
    assert!((0..count).all(|reference| index.find(hash(reference), |other| other == reference).is_some()));
    for reference in 0..count {
        assert!(remove(&mut index, reference, hash));
        if reference % 20_011 == 0 {
            index.check(hash);
            let left = (count - reference) as usize;
            assert!(index.heap_bytes() < left * 30 + 1000, "{} bytes for {left}", index.heap_bytes());
        }
    }
    index.check(hash);
    assert!(index.heap_bytes() < 500, "{} bytes for none", index.heap_bytes());
}

#[test]
fn an_index_that_was_told_how_much_comes_is_as_one_that_grew() {
    for count in [1, 10, 900, 901, 1_000, 5_000, 100_000] {
        let (mut told, mut grown) = (Index::new(), Index::new());
        told.expect(count);
        for reference in 0..count as u32 {
            told.insert(hash(reference), reference, hash);
            grown.insert(hash(reference), reference, hash);
        }
        told.check(hash);
        assert_eq!(scan_all(&told, 9, hash).len(), count);
        let (told_bytes, grown_bytes) = (told.heap_bytes(), grown.heap_bytes());
        assert!(
            told_bytes * 4 <= grown_bytes * 5,
            "{count}: {told_bytes} bytes, and {grown_bytes} where it grew"
        );
        for reference in 0..count as u32 {
            assert!(remove(&mut told, reference, hash));
        }
        told.check(hash);
        assert!(told.heap_bytes() < 500, "{} bytes for none of {count}", told.heap_bytes());
    }
}

#[test]
fn equal_hashes_are_found_and_cost_no_directory() {
    let all_alike = |_: u32| 77_u64;
    let mut index = Index::new();
    (0..3_000).for_each(|reference| index.insert(77, reference, all_alike));
    index.check(all_alike);
    assert!(index.heap_bytes() < 100_000);
    assert!((0..3_000).all(|reference| index.find(77, |other| other == reference).is_some()));
    assert_eq!(scan_all(&index, 10, all_alike).len(), 3_000);
    (0..3_000)
        .for_each(|reference| assert!(index.remove(77, |other| other == reference, all_alike).is_some()));
    index.check(all_alike);
}

#[test]
fn each_element_has_the_same_chance() {
    for count in [5_u32, 100, 1_500, 40_000] {
        let mut index = Index::new();
        (0..count).for_each(|reference| index.insert(hash(reference), reference, hash));
        // In 64 groups, so that each is drawn a thousand times.
        let groups = count.min(64);
        let draws = groups * 1_000;
        let (mut draws_of, mut drawn) = (Draws::new(9), vec![0_u32; groups as usize]);
        for _ in 0..draws {
            let reference = index.random(draws_of.draw()).expect("it is not empty");
            drawn[(reference % groups) as usize] += 1;
        }
        let expected =
            |group: u32| f64::from((count - group).div_ceil(groups)) * f64::from(draws) / f64::from(count);
        for (group, &times) in (0..).zip(&drawn) {
            let ratio = f64::from(times) / expected(group);
            assert!((0.8..1.2).contains(&ratio), "group {group} of {count} was drawn {ratio} times as often");
        }
    }
}

#[test]
fn freeing_goes_in_steps() {
    let mut index = Index::new();
    (0..50_000).for_each(|reference| index.insert(hash(reference), reference, hash));
    let mut steps = 0;
    while !index.free_step(1_000) {
        steps += 1;
    }
    assert!((20..=50).contains(&steps), "{steps}");
    assert_eq!((index.len(), index.heap_bytes()), (0, 0));
}

#[test]
fn nearly_all_references_are_told_before_they_are_looked_for() {
    let mut index = Index::new();
    for reference in 0..20_000 {
        insert(&mut index, reference, hash);
    }
    let (mut told, lines) = (0, std::cell::Cell::new(0));
    for first in (0..20_000_u32).step_by(AHEAD_MAX) {
        let keys: Vec<[u8; 4]> = (first..).take(AHEAD_MAX).map(u32::to_le_bytes).collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let wanted = first..first + AHEAD_MAX as u32;
        index.look_ahead(&keys, &|_| lines.set(lines.get() + 1), |reference| {
            told += usize::from(wanted.contains(&reference));
        });
    }
    assert_eq!(lines.get(), 20_000, "each key has a home");
    assert!(told > 18_000, "{told} of 20000 references told");
    // More keys than are looked for at a time, keys that are not there, and an empty index.
    let many = vec![&b"absent"[..]; AHEAD_MAX * 3];
    index.look_ahead(&many, &|_| {}, |_| {});
    Index::new().look_ahead(&many, &|_| panic!("an empty index has no line"), |_| {});
}

proptest! {
    #[test]
    fn entries_come_in_the_order_of_their_hashes(
        seed: u32,
        count in prop_oneof![0_u32..40, 1_000_u32..1_100, 1_100_u32..9_000],
        // Hashes of no bits in front are all in one part, those of few bits are there many times.
        alike in prop_oneof![Just(0_u32), 1_u32..20, 40_u32..63],
    ) {
        let entries: Vec<_> = (0..count).map(|at| (hash(at ^ seed) >> alike, at)).collect();
        let mut ordered = in_order_of_hashes(entries.clone());
        prop_assert!(ordered.is_sorted_by_key(|(hash, _)| *hash));
        ordered.sort_unstable_by_key(|(_, at)| *at);
        prop_assert_eq!(ordered, entries);
    }
}
