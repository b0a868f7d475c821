//! The body of the fuzz target: a sorted set beside the map that the same changes make.

use super::{Add, Outcome, ZSet, sort_pairs};
use crate::collection::{Collection, PackedLimits};
use crate::mover::shake;
use std::collections::BTreeMap;

/// Takes three bytes a change: what, which member, which score.
pub fn fuzz_changes(bytes: &[u8]) {
    let Some((&form, changes)) = bytes.split_first() else { return };
    let limits = PackedLimits { entries_max: usize::from(form % 64), value_bytes_max: 6 };
    let (mut set, mut model) = (ZSet::new(Vec::new()), BTreeMap::new());
    for change in changes.as_chunks::<3>().0 {
        apply(&mut set, &mut model, *change, limits);
        shake(&mut set, 1 + usize::from(change[2] % 8));
    }
    set.check();
    let mut pairs: Vec<(Vec<u8>, f64)> = model.into_iter().collect();
    sort_pairs(&mut pairs);
    let seen: Vec<(Vec<u8>, f64)> =
        set.view().iter().map(|(member, score)| (member.to_vec(), score)).collect();
    assert_eq!(seen, pairs, "a sorted set is not what was set");
    for (rank, (member, score)) in pairs.iter().enumerate() {
        assert_eq!(set.view().rank(member), Some((rank, *score)), "a rank is wrong");
    }
}

fn apply(
    set: &mut ZSet,
    model: &mut BTreeMap<Vec<u8>, f64>,
    [what, which, score]: [u8; 3],
    limits: PackedLimits,
) {
    let member = match which % 4 {
        0 => which.to_string().into_bytes(),
        1 => vec![which; usize::from(which % 8)],
        _ => vec![which],
    };
    let score = f64::from(score.cast_signed()) / 4.0;
    let (kind, increment) = (what % 8, what >= 128);
    match kind {
        0..=4 => {
            let how = Add { increment, ..Add::default() };
            if let Outcome::Added(score) | Outcome::Changed(score) = set.add(&member, score, how, limits) {
                model.insert(member, score);
            }
        }
        5 | 6 => assert_eq!(set.remove(&member), model.remove(&member).is_some(), "removed or not"),
        _ => {
            let (first, count) = (usize::from(which), usize::from(what / 8));
            let gone: Vec<Vec<u8>> =
                set.view().range(first, count, false).map(|(member, _)| member.to_vec()).collect();
            assert_eq!(set.remove_span(first, count), gone.len(), "a span is as long as it is");
            for member in &gone {
                model.remove(member);
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
        fn no_bytes_break_sorted_sets(bytes in proptest::collection::vec(any::<u8>(), 0..900)) {
            super::fuzz_changes(&bytes);
        }
    }
}
