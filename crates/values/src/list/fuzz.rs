//! The body of the fuzz target: a list beside the deque that the same changes make.

use super::{End, Limit, List, Side};
use crate::collection::Collection;
use crate::mover::shake;
use std::collections::VecDeque;

type Model = VecDeque<Vec<u8>>;

/// Takes four bytes a change: what, where, and two for the element.
pub fn fuzz_changes(bytes: &[u8]) {
    let Some((&option, changes)) = bytes.split_first() else { return };
    // The sizes that `list-max-listpack-size` may have: up to 8 KiB, or a few elements; and depths of compression.
    let limit = Limit::of(i64::from(option % 16) - 2).compressed_from(u32::from(option >> 4) % 3);
    let (mut list, mut model) = (List::empty(), Model::new());
    for change in changes.as_chunks::<4>().0 {
        apply(&mut list, &mut model, *change, limit);
        if list.view().is_empty() {
            // The store lets go of a list that has become empty.
            list = List::empty();
        } else {
            shake(&mut list, 1 + usize::from(change[3] % 8));
            list.check();
        }
    }
    let view = list.view();
    assert_eq!(view.len(), model.len(), "a list is not as long as it should be");
    assert_eq!(view.to_vecs(), Vec::from(model.clone()), "a list is not what was put in");
    let mut backwards = Vec::new();
    view.walk(End::Tail, |element| {
        backwards.push(element.to_vec());
        true
    });
    assert!(backwards.iter().eq(model.iter().rev()), "the two directions disagree");
    for (at, element) in model.iter().enumerate() {
        assert_eq!(view.look_at(at, |element| element.to_vec()).as_ref(), Some(element), "an index is wrong");
    }
}

/// A number, a few letters, or something as long as a chunk.
fn text([kind, which]: [u8; 2]) -> Vec<u8> {
    match kind % 8 {
        0..3 => i64::from(which.cast_signed()).to_string().into_bytes(),
        3 => (i64::from(which) << (kind / 8 * 2)).to_string().into_bytes(),
        4 | 5 => vec![b'a' + which % 3; usize::from(kind / 64)],
        6 => vec![which; usize::from(kind)],
        _ => vec![b'y'; usize::from(which) * 40],
    }
}

fn apply(list: &mut List, model: &mut Model, [what, at, kind, which]: [u8; 4], limit: Limit) {
    let element = text([kind, which]);
    let (from, to) = (end(what), end(at));
    let at = usize::from(at);
    match what % 16 {
        0..6 => {
            let times = 1 + at % 4;
            list.make_room(limit, element.len() * times, times);
            for _ in 0..times {
                list.push(from, &element);
                put(model, from, element.clone());
            }
        }
        6 | 7 => {
            let mut popped = Vec::new();
            list.pop(limit, from, at % 32, |element| popped.push(element.to_vec()));
            let expected: Vec<_> = (0..at % 32).map_while(|_| take(model, from)).collect();
            assert_eq!(popped, expected, "what came off an end");
        }
        8 | 9 => {
            assert_eq!(list.set(limit, at, &element), at < model.len(), "set or not");
            if let Some(old) = model.get_mut(at) {
                *old = element;
            }
        }
        10 | 11 => insert(list, model, from, at, element, limit),
        12 | 13 => {
            let what = model.get(at).cloned().unwrap_or(element);
            let count = 1 + usize::from(which % 4);
            assert_eq!(list.remove(limit, from, count, &what), remove(model, from, count, &what), "removed");
        }
        14 => {
            let (first, end) = (usize::from(kind % 16), usize::from(kind % 16) + at);
            list.trim(limit, first, end);
            model.truncate(end);
            model.drain(..first.min(model.len()));
        }
        _ => {
            let mut moved = None;
            list.rotate(limit, from, to, |element| moved = Some(element.to_vec()));
            let expected = take(model, from);
            assert_eq!(moved, expected, "what was moved");
            expected.into_iter().for_each(|element| put(model, to, element));
        }
    }
}

fn insert(list: &mut List, model: &mut Model, from: End, at: usize, element: Vec<u8>, limit: Limit) {
    let side = if from == End::Head { Side::Before } else { Side::After };
    let pivot = model.get(at).cloned().unwrap_or_else(|| b"nowhere".to_vec());
    let place = model.iter().position(|element| *element == pivot);
    assert_eq!(list.insert(limit, side, &pivot, &element), place.is_some(), "inserted or not");
    if let Some(place) = place {
        model.insert(if side == Side::Before { place } else { place + 1 }, element);
    }
}

fn end(byte: u8) -> End {
    if byte < 128 { End::Head } else { End::Tail }
}

fn put(model: &mut Model, end: End, element: Vec<u8>) {
    match end {
        End::Head => model.push_front(element),
        End::Tail => model.push_back(element),
    }
}

fn take(model: &mut Model, end: End) -> Option<Vec<u8>> {
    match end {
        End::Head => model.pop_front(),
        End::Tail => model.pop_back(),
    }
}

fn remove(model: &mut Model, from: End, count: usize, what: &[u8]) -> usize {
    let find = |model: &Model| match from {
        End::Head => model.iter().position(|element| element == what),
        End::Tail => model.iter().rposition(|element| element == what),
    };
    (0..count).map_while(|_| find(model).and_then(|at| model.remove(at))).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_bytes_break_lists(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            super::fuzz_changes(&bytes);
        }
    }
}
