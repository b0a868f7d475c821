//! The body of the fuzz target: a set beside the standard library's that the same changes make.

use super::{Limits, Set};
use crate::collection::PackedLimits;
use crate::index::Draws;
use crate::mover::shake;
use crate::packed::Element;
use std::collections::BTreeSet;

type Model = BTreeSet<Vec<u8>>;

/// How many steps a scan of what so few bytes make may take.
const SCAN_STEPS_MAX: usize = 10_000;

/// Takes three bytes a change: what, and two for the member.
pub fn fuzz_changes(bytes: &[u8]) {
    let Some((&form, changes)) = bytes.split_first() else { return };
    let limits = Limits {
        ints_max: usize::from(form % 16),
        packed: PackedLimits { entries_max: usize::from(form / 16), value_bytes_max: 12 },
    };
    let (mut set, mut model) = (Set::empty(), Model::new());
    for change in changes.as_chunks::<3>().0 {
        apply(&mut set, &mut model, *change, &limits);
        shake(&mut set, 1 + usize::from(change[2] % 8));
        set.check();
    }
    let mut seen = Vec::new();
    set.view().for_each(|member| seen.push(member.to_vec()));
    assert_eq!(seen.len(), set.len(), "a set is not as long as it says");
    seen.sort_unstable();
    assert!(seen.iter().eq(&model), "a set is not what was put in");
    assert!(model.iter().all(|member| set.view().contains(member)), "a member is not found");
    scan(&set, &model);
}

/// A scan meets every member of a set that nobody changes.
fn scan(set: &Set, model: &Model) {
    let (mut met, mut cursor) = (Model::new(), 0);
    for _ in 0..SCAN_STEPS_MAX {
        cursor = set.view().scan(cursor, 3, |member| {
            met.insert(member.to_vec());
        });
        if cursor == 0 {
            assert_eq!(met, *model, "a scan missed a member");
            return;
        }
    }
    panic!("a scan does not end");
}

/// A small number, any number, one badly written, letters, or something too long for the small form.
fn member([kind, which]: [u8; 2]) -> Vec<u8> {
    let number = i64::from(which.cast_signed());
    match kind % 8 {
        0..3 => number.to_string().into_bytes(),
        3 => (number << (kind / 8 * 2)).to_string().into_bytes(),
        4 => format!("0{which}").into_bytes(),
        5 | 6 => vec![which; usize::from(kind / 64)],
        _ => vec![which % 4; usize::from(kind / 8)],
    }
}

fn apply(set: &mut Set, model: &mut Model, [what, kind, which]: [u8; 3], limits: &Limits) {
    let member = member([kind, which]);
    match what % 16 {
        0..10 => assert_eq!(set.add(&member, limits), model.insert(member), "added or not"),
        10..13 => assert_eq!(set.remove(&member), model.remove(&member), "removed or not"),
        13 => {
            let drawn = set.view().random(u64::from(which)).map(Element::to_vec);
            assert_eq!(drawn.is_some(), !model.is_empty(), "drawn or not");
            assert!(drawn.is_none_or(|member| model.contains(&member)), "what was drawn is no member");
        }
        14 => {
            let popped = set.pop(u64::from(which), |member| member.to_vec());
            assert_eq!(popped.is_some(), !model.is_empty(), "popped or not");
            assert!(popped.is_none_or(|member| model.remove(&member)), "what was popped is no member");
        }
        _ => {
            // SPOP of as many as there are, or more, removes the key instead.
            let count = 1 + usize::from(kind % 16);
            if count < model.len() {
                let mut popped = Vec::new();
                set.pop_many(count, &mut Draws::new(u64::from(which)), limits, |member| {
                    popped.push(member.to_vec());
                });
                assert_eq!(popped.len(), count, "as many as were asked for");
                assert!(popped.iter().all(|member| model.remove(member)), "what was popped is no member");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn no_bytes_break_sets(bytes in proptest::collection::vec(any::<u8>(), 0..900)) {
            super::fuzz_changes(&bytes);
        }
    }
}
