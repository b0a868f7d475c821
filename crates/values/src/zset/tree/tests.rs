//! The tree beside a sorted vector.

use super::*;
use proptest::prelude::*;

/// Few scores, so that references decide often.
fn item(key: u32) -> Item {
    Item { score: f64::from(key % 7) - 3.0, record: key }
}

fn compare(one: Item, other: Item) -> Ordering {
    one.score.partial_cmp(&other.score).unwrap().then(one.record.cmp(&other.record))
}

/// Places are found by either way of saying where they are.
fn key_is_even(item: Item) -> bool {
    item.record.is_multiple_of(2)
}

fn check(tree: &Tree, model: &[Item]) {
    tree.check(|one, next| compare(one, next) == Ordering::Less);
    let seen: Vec<Item> = tree.range(0, u32::MAX, false).collect();
    assert_eq!(seen, model);
}

fn add(tree: &mut Tree, model: &mut Vec<Item>, new: Item) {
    if let Err(at) = model.binary_search_by(|item| compare(*item, new)) {
        model.insert(at, new);
        if key_is_even(new) {
            tree.insert(new, |item: Item| compare(item, new) == Ordering::Less);
        } else {
            tree.insert(new, Among(new.score, |record| record < new.record));
        }
    }
}

#[test]
fn items_in_order_fill_their_leaves() {
    let (mut up, mut down) = (Tree::new(), Tree::new());
    for key in 0..100_000_u32 {
        let item = Item { score: f64::from(key), record: key };
        up.insert(item, |other: Item| other.score < item.score);
        let item = Item { score: -f64::from(key), record: key };
        down.insert(item, |other: Item| other.score < item.score);
    }
    for tree in [&up, &down] {
        tree.check(|one, next| one.score < next.score);
        assert!(tree.heap_bytes() < 100_000 * 15, "{}", tree.heap_bytes());
    }
}

#[test]
fn random_items_use_little_memory() {
    let mut tree = Tree::new();
    let mut state = 1_u64;
    for record in 0..100_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let item = Item { score: (state >> 11) as f64, record };
        tree.insert(item, |other: Item| other.score < item.score);
    }
    tree.check(|one, next| one.score <= next.score);
    assert!(tree.heap_bytes() < 100_000 * 17, "{}", tree.heap_bytes());
    for rank in (0..100_000).rev().step_by(2) {
        assert!(tree.remove_rank(rank).is_some());
    }
    tree.check(|one, next| one.score <= next.score);
    assert!(tree.heap_bytes() < 50_000 * 34, "{}", tree.heap_bytes());
    let mut steps = 0;
    while !tree.free_step(1000) {
        steps += 1;
    }
    assert!((45..=60).contains(&steps), "{steps}");
    tree.check(|_, _| true);
}

#[test]
fn ranges_end_where_the_items_do() {
    let tree = Tree::from_sorted((0..200).map(|key| Item { score: f64::from(key), record: key }));
    let records = |first, count, backwards| -> Vec<u32> {
        tree.range(first, count, backwards).map(|item| item.record).collect()
    };
    assert_eq!(records(198, 5, false), [198, 199]);
    assert_eq!(records(1, 5, true), [1, 0]);
    assert_eq!(records(64, 3, true), [64, 63, 62]);
    assert_eq!(records(200, 5, false), []);
    assert_eq!(records(u32::MAX, 5, true), []);
    assert_eq!(records(5, 0, true), []);
    assert_eq!(tree.range(100, 1000, true).len(), 101);
}

#[derive(Debug, Clone)]
enum Do {
    Add(u32),
    AddRun(u32, u32),
    Remove(u32),
    RemoveRank(u32),
    RemoveRun(u32, u32),
    Rescore(u32, i8),
    Look(u32),
}

fn steps() -> impl Strategy<Value = Vec<Do>> {
    let step = prop_oneof![
        4 => (0..3000_u32).prop_map(Do::Add),
        2 => (0..3000_u32, 0..300_u32).prop_map(|(from, count)| Do::AddRun(from, count)),
        3 => (0..3000_u32).prop_map(Do::Remove),
        2 => any::<u32>().prop_map(Do::RemoveRank),
        1 => (any::<u32>(), 0..300_u32).prop_map(|(from, count)| Do::RemoveRun(from, count)),
        2 => (0..3000_u32, any::<i8>()).prop_map(|(key, score)| Do::Rescore(key, score)),
        2 => any::<u32>().prop_map(Do::Look),
    ];
    proptest::collection::vec(step, 0..60)
}

fn step(tree: &mut Tree, model: &mut Vec<Item>, step: &Do) {
    match *step {
        Do::Add(key) => add(tree, model, item(key)),
        Do::AddRun(from, count) => (from..from + count).for_each(|key| add(tree, model, item(key))),
        Do::Remove(key) => {
            let expected = model.binary_search_by(|other| compare(*other, item(key))).ok();
            let removed = tree.remove(item(key).score, |record| record.cmp(&key));
            assert_eq!(removed, expected.map(|at| model.remove(at)));
        }
        Do::RemoveRank(rank) => {
            let rank = rank % (model.len() as u32 + 1);
            let expected = (rank < model.len() as u32).then(|| model.remove(rank as usize));
            assert_eq!(tree.remove_rank(rank), expected);
        }
        Do::RemoveRun(from, count) => {
            let from = from % (model.len() as u32 + 1);
            for _ in 0..count.min(model.len() as u32 - from) {
                assert_eq!(tree.remove_rank(from), Some(model.remove(from as usize)));
            }
        }
        Do::Rescore(key, score) => {
            let score = f64::from(score) / 40.0;
            let at = model.iter().position(|item| item.record == key);
            let old = at.map_or(item(key), |at| model[at]);
            if tree.rescore(old.score, score, |record| record.cmp(&key)) {
                model[at.unwrap()].score = score;
            }
        }
        Do::Look(rank) => {
            let rank = rank % (model.len() as u32 + 1);
            let expected = model.get(rank as usize).copied();
            assert_eq!(tree.get(rank), expected);
            if let Some(item) = expected {
                assert_eq!(tree.rank(|other: Item| compare(other, item) == Ordering::Less), rank);
                assert_eq!(tree.rank(|other: Item| compare(other, item) != Ordering::Greater), rank + 1);
                assert_eq!(tree.rank(Among(item.score, |record| record < item.record)), rank);
                assert_eq!(tree.rank(Among(item.score, |record| record <= item.record)), rank + 1);
            }
            let backwards: Vec<Item> = tree.range(rank, 100, true).collect();
            let expected: Vec<Item> = model.iter().take(rank as usize + 1).rev().take(100).copied().collect();
            assert_eq!(backwards, if rank as usize == model.len() { Vec::new() } else { expected });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn does_what_a_sorted_vector_does(steps in steps()) {
        let (mut tree, mut model) = (Tree::new(), Vec::new());
        for each in &steps {
            step(&mut tree, &mut model, each);
            check(&tree, &model);
        }
        let mut built = Tree::from_sorted(model.iter().copied());
        check(&built, &model);
        check(&tree.clone(), &model);
        // What is built by one pass takes changes like any other.
        for each in &steps {
            step(&mut built, &mut model, each);
        }
        check(&built, &model);
        while !tree.free_step(7) {}
        prop_assert!(tree.is_empty());
    }
}
