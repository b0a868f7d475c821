//! Sets against the standard library's, in every form, and Redis' rules of forms.

use super::*;
use crate::index::Draws;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

const LIMITS: Limits = Limits { ints_max: 12, packed: PackedLimits { entries_max: 8, value_bytes_max: 10 } };

fn members(view: View<'_>) -> Vec<Vec<u8>> {
    let mut members = Vec::new();
    view.for_each(|member| members.push(member.to_vec()));
    members
}

fn sorted(view: View<'_>) -> BTreeSet<Vec<u8>> {
    members(view).into_iter().collect()
}

fn encoding(set: &Set) -> &'static str {
    Set::encoding(set.view())
}

fn set_of<T: AsRef<[u8]>>(members: impl IntoIterator<Item = T>) -> Set {
    let mut set = Set::empty();
    for member in members {
        set.add(member.as_ref(), &LIMITS);
    }
    set
}

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        5 => (-20_i64..20).prop_map(|value| value.to_string().into_bytes()),
        1 => any::<i64>().prop_map(|value| value.to_string().into_bytes()),
        3 => proptest::collection::vec(97_u8..101, 0..3),
        1 => proptest::collection::vec(any::<u8>(), 0..30),
        1 => Just(b"-0".to_vec()),
        1 => Just(b"007".to_vec()),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Add(Vec<u8>),
    Remove(Vec<u8>),
    Pop(u64),
    PopMany(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => member().prop_map(Step::Add),
        4 => member().prop_map(Step::Remove),
        1 => any::<u64>().prop_map(Step::Pop),
        1 => (1_usize..12, any::<u64>()).prop_map(|(count, seed)| Step::PopMany(count, seed)),
    ]
}

fn take_step(set: &mut Set, model: &mut BTreeSet<Vec<u8>>, step: Step) {
    match step {
        Step::Add(member) => assert_eq!(set.add(&member, &LIMITS), model.insert(member)),
        Step::Remove(member) => assert_eq!(set.remove(&member), model.remove(&member)),
        Step::Pop(seed) => {
            let popped = set.pop(seed, |member| member.to_vec());
            assert_eq!(popped.is_some(), !model.is_empty());
            assert!(popped.is_none_or(|member| model.remove(&member)));
        }
        Step::PopMany(count, seed) if count < model.len() => {
            let mut popped = Vec::new();
            set.pop_many(count, &mut Draws::new(seed), &LIMITS, |member| popped.push(member.to_vec()));
            assert_eq!(popped.len(), count);
            assert!(popped.into_iter().all(|member| model.remove(&member)));
        }
        Step::PopMany(..) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn it_is_a_set(steps in proptest::collection::vec(step(), 0..80)) {
        let (mut set, mut model) = (Set::empty(), BTreeSet::new());
        for step in steps {
            take_step(&mut set, &mut model, step);
            set.check();
            prop_assert_eq!(set.len(), model.len());
            prop_assert!(model.iter().all(|member| set.view().contains(member)));
            // As it is kept inside of an entry.
            if let Some((form, bytes)) = set.inline() {
                let again = Set::from_inline(form, bytes.to_vec());
                prop_assert_eq!(members(again.view()), members(Set::view_inline(form, bytes)));
                set = again;
            }
        }
        prop_assert_eq!(sorted(set.view()), model.clone());
        prop_assert_eq!(sorted(set.duplicate().view()), model.clone());
        let (mut cursor, mut seen) = (0, BTreeSet::new());
        loop {
            cursor = set.view().scan(cursor, 3, |member| { seen.insert(member.to_vec()); });
            if cursor == 0 {
                break;
            }
        }
        prop_assert_eq!(seen, model);
        let mut steps = 0;
        while !set.free_step(1) {
            steps += 1;
            prop_assert!(steps < 1_000);
        }
    }

    #[test]
    fn operations_are_those_of_sets(
        sets in proptest::collection::vec(proptest::collection::btree_set(member(), 0..20), 1..9)
    ) {
        let made: Vec<Set> = sets.iter().map(set_of).collect();
        let mut views: Vec<View<'_>> = made.iter().map(Set::view).collect();

        let union: BTreeSet<Vec<u8>> = sets.iter().flatten().cloned().collect();
        let mut visited = Vec::new();
        operations::union(&views, |member| visited.push(member.to_vec()));
        prop_assert_eq!(visited.len(), union.len());
        prop_assert_eq!(visited.into_iter().collect::<BTreeSet<_>>(), union.clone());
        let stored = operations::make_union(&views, &LIMITS);
        stored.check();
        prop_assert_eq!(sorted(stored.view()), union);

        let (first, others) = sets.split_first().expect("there is one");
        let left: BTreeSet<Vec<u8>> =
            first.iter().filter(|&member| !others.iter().any(|set| set.contains(member))).cloned().collect();
        let mut visited = BTreeSet::new();
        operations::difference(views[0], &views[1..], |member| { visited.insert(member.to_vec()); });
        prop_assert_eq!(&visited, &left);
        let stored = operations::make_difference(views[0], &views[1..], &LIMITS);
        stored.check();
        prop_assert_eq!(sorted(stored.view()), left);

        let shared: BTreeSet<Vec<u8>> =
            first.iter().filter(|&member| others.iter().all(|set| set.contains(member))).cloned().collect();
        operations::sort_by_size(&mut views);
        let mut visited = BTreeSet::new();
        operations::intersection(&views, |member| {
            visited.insert(member.to_vec());
            ControlFlow::Continue(())
        });
        prop_assert_eq!(&visited, &shared);
        let stored = operations::make_intersection(&views, &LIMITS);
        stored.check();
        prop_assert_eq!(sorted(stored.view()), shared);
    }

    #[test]
    fn samples_are_members(
        (all, count, seed) in (proptest::collection::btree_set(member(), 1..40), 1_usize..50, any::<u64>())
    ) {
        let set = set_of(&all);
        let (mut sample, mut draws) = (Vec::new(), Draws::new(seed));
        set.view().sample(count, &mut draws, |member| sample.push(member.to_vec()));
        prop_assert_eq!(sample.len(), count.min(all.len()));
        prop_assert_eq!(sample.iter().collect::<BTreeSet<_>>().len(), sample.len(), "one came twice");
        prop_assert!(sample.iter().all(|member| all.contains(member)));
        sample.clear();
        set.view().draw(count, &mut draws, |member| sample.push(member.to_vec()));
        prop_assert_eq!(sample.len(), count);
        prop_assert!(sample.iter().all(|member| all.contains(member)));
    }

    #[test]
    fn what_is_loaded_is_what_was_there(all in proptest::collection::vec(member(), 0..30)) {
        let mut loader = Loader::new(all.len(), &LIMITS);
        let mut model = BTreeSet::new();
        for member in all {
            prop_assert_eq!(loader.add(&member), model.insert(member));
        }
        let set = loader.finish();
        set.check();
        prop_assert_eq!(sorted(set.view()), model);
    }
}

#[test]
fn the_form_follows_the_members() {
    let ints = |count: i64| (0..count).map(|value| value.to_string());
    assert_eq!(encoding(&set_of(ints(12))), "intset");
    assert_eq!(encoding(&set_of(ints(13))), "hashtable");
    let mut mixed = set_of(ints(7));
    mixed.add(b"a", &LIMITS);
    assert_eq!(encoding(&mixed), "listpack");
    mixed.add(b"a", &LIMITS);
    assert_eq!(encoding(&mixed), "listpack");
    mixed.add(b"b", &LIMITS);
    assert_eq!(encoding(&mixed), "hashtable");
    let mut long = set_of(["a"]);
    long.add(b"longer than ten", &LIMITS);
    assert_eq!(encoding(&long), "hashtable");
    let mut digits = set_of(["12345678901"]);
    digits.add(b"a", &LIMITS);
    assert_eq!(encoding(&digits), "hashtable");
}

#[test]
fn a_new_set_is_made_for_what_is_expected() {
    let made = |first: &str, count| {
        let mut set = Set::empty();
        set.expect(first.as_bytes(), count, &LIMITS);
        set.add(first.as_bytes(), &LIMITS);
        encoding(&set)
    };
    assert_eq!(
        [made("1", 12), made("1", 13), made("a", 8), made("a", 9)],
        ["intset", "hashtable", "listpack", "hashtable"]
    );
    let few = Limits { ints_max: 2, ..LIMITS };
    let mut set = Set::empty();
    set.expect(b"1", 3, &few);
    set.add(b"1", &few);
    assert_eq!(encoding(&set), "listpack");
    set.expect(b"2", 9, &few);
    assert_eq!(encoding(&set), "hashtable");
}

#[test]
fn what_stays_after_most_were_popped_is_small() {
    let mut set = set_of((0..100).map(|number| format!("m{number}")));
    let mut popped = 0;
    set.pop_many(95, &mut Draws::new(3), &LIMITS, |_| popped += 1);
    assert_eq!((popped, set.len(), encoding(&set)), (95, 5, "listpack"));
}

#[test]
fn large_sets_cost_little_more_than_their_members() {
    let mut set = Set::empty();
    let count = 300_000;
    for number in 0..count {
        set.add(format!("m{number:09}").as_bytes(), &LIMITS);
    }
    let bytes = set.heap_bytes() as f64 / f64::from(count);
    assert!(bytes < 20.0, "{bytes} bytes a member of ten");
}
