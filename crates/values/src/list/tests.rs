//! Lists against a deque of byte strings, with small limits so that chunks fill and split.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Clone, Debug)]
enum Step {
    Push(End, Vec<Vec<u8>>),
    Pop(End, usize),
    Set(usize, Vec<u8>),
    Insert(Side, usize, Vec<u8>),
    Remove(End, usize, Vec<u8>),
    Trim(usize, usize),
    Move(End, End),
    Copy,
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0_i64..30).prop_map(|value| value.to_string().into_bytes()),
        3 => "[a-c]{0,3}".prop_map(String::into_bytes),
        2 => (100_usize..1500).prop_map(|len| vec![b'x'; len]),
        1 => (4000_usize..9000).prop_map(|len| vec![b'y'; len]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let end = || prop_oneof![Just(End::Head), Just(End::Tail)];
    let side = || prop_oneof![Just(Side::Before), Just(Side::After)];
    let at = || 0_usize..200;
    prop_oneof![
        6 => (end(), proptest::collection::vec(text(), 1..12)).prop_map(|(end, texts)| Step::Push(end, texts)),
        2 => (end(), 0_usize..30).prop_map(|(end, count)| Step::Pop(end, count)),
        2 => (at(), text()).prop_map(|(at, text)| Step::Set(at, text)),
        4 => (side(), at(), text()).prop_map(|(side, at, text)| Step::Insert(side, at, text)),
        2 => (end(), 1_usize..9, text()).prop_map(|(end, count, text)| Step::Remove(end, count, text)),
        1 => (0_usize..30, 0_usize..150).prop_map(|(first, len)| Step::Trim(first, first + len)),
        1 => (end(), end()).prop_map(|(from, to)| Step::Move(from, to)),
        1 => Just(Step::Copy),
    ]
}

fn end_of<T>(model: &mut VecDeque<T>, end: End) -> Option<T> {
    if end == End::Head { model.pop_front() } else { model.pop_back() }
}

fn push_to<T>(model: &mut VecDeque<T>, end: End, text: T) {
    if end == End::Head { model.push_front(text) } else { model.push_back(text) }
}

fn remove_from(model: &mut VecDeque<Vec<u8>>, from: End, count: usize, text: &[u8]) -> usize {
    let places = (0..model.len()).filter(|&at| model[at] == text);
    let mut places: Vec<usize> =
        if from == End::Head { places.take(count).collect() } else { places.rev().take(count).collect() };
    places.sort_unstable();
    for at in places.iter().rev() {
        model.remove(*at);
    }
    places.len()
}

fn apply(list: &mut List, model: &mut VecDeque<Vec<u8>>, limit: Limit, step: Step) {
    match step {
        Step::Push(end, texts) => {
            list.make_room(limit, texts.iter().map(Vec::len).sum(), texts.len());
            for text in texts {
                list.push(end, &text);
                push_to(model, end, text);
            }
        }
        Step::Pop(end, count) => {
            let mut popped = Vec::new();
            let number = list.pop(limit, end, count, |element| popped.push(element.to_vec()));
            let wanted: Vec<Vec<u8>> = (0..count).map_while(|_| end_of(model, end)).collect();
            assert_eq!((number, popped), (wanted.len(), wanted));
        }
        Step::Set(at, text) => {
            assert_eq!(list.set(limit, at, &text), at < model.len());
            if let Some(place) = model.get_mut(at) {
                *place = text;
            }
        }
        Step::Insert(side, at, text) => {
            let pivot = model.get(at).cloned().unwrap_or_else(|| b"nowhere".to_vec());
            let place = model.iter().position(|element| *element == pivot);
            assert_eq!(list.insert(limit, side, &pivot, &text), place.is_some());
            if let Some(place) = place {
                model.insert(if side == Side::Before { place } else { place + 1 }, text);
            }
        }
        Step::Remove(from, count, text) => {
            let removed = remove_from(model, from, count, &text);
            assert_eq!(list.remove(limit, from, count, &text), removed);
        }
        Step::Trim(first, end) => {
            model.truncate(end);
            model.drain(..first.min(model.len()));
            list.trim(limit, first, end);
        }
        Step::Move(from, to) => {
            let mut moved = None;
            list.rotate(limit, from, to, |element| moved = Some(element.to_vec()));
            assert_eq!(moved, end_of(model, from));
            if let Some(text) = moved {
                push_to(model, to, text);
            }
        }
        Step::Copy => *list = list.clone(),
    }
}

fn compare(list: &List, model: &VecDeque<Vec<u8>>) {
    if !list.is_empty() || list.inline().is_some() {
        list.check();
    }
    let view = list.view();
    assert_eq!((list.len(), view.is_empty()), (model.len(), model.is_empty()));
    assert!(view.to_vecs().iter().eq(model.iter()));
    let mut backwards = Vec::new();
    view.walk(End::Tail, |element| {
        backwards.push(element.to_vec());
        backwards.len() < 500
    });
    assert!(backwards.iter().eq(model.iter().rev().take(500)));
    for at in (0..=model.len()).step_by(7) {
        assert_eq!(view.look_at(at, |element| element.to_vec()), model.get(at).cloned());
        let mut part = Vec::new();
        view.for_each(at, 20, |element| part.push(element.to_vec()));
        assert!(part.iter().eq(model.iter().skip(at).take(20)));
        part.clear();
        view.walk(End::Head, |element| {
            part.push(element.to_vec());
            part.len() <= at
        });
        assert!(part.iter().eq(model.iter().take(at + 1)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn does_what_a_deque_does(
        option in prop_oneof![Just(-2_i64), Just(-1), 1_i64..6, Just(40)],
        depth in prop_oneof![Just(0_u32), Just(1), Just(2), Just(100)],
        large in prop_oneof![3 => Just(0_u32), 1 => 1_u32..200],
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let limit = Limit::of(option).compressed_from(depth).large_from(large);
        let (mut list, mut model) = (List::empty(), VecDeque::new());
        for step in steps {
            apply(&mut list, &mut model, limit, step);
            compare(&list, &model);
            if list.is_empty() {
                list = List::empty();
            }
        }
        let mut rounds = 0;
        while !list.free_step(3) {
            rounds += 1;
        }
        prop_assert!(list.is_empty() && rounds <= model.len() / 3 + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_few_short_elements_have_no_lengths_behind_them(
        steps in proptest::collection::vec(short_step(), 1..40),
    ) {
        let limit = Limit::of(-2);
        let (mut list, mut model) = (List::empty(), VecDeque::new());
        for step in steps {
            apply(&mut list, &mut model, limit, step);
            compare(&list, &model);
            let (form, bytes) = list.inline().expect("a small list");
            let text_bytes: usize = model.iter().map(Vec::len).sum();
            if model.len() <= COUNT_BACK && text_bytes < 100 {
                // A byte of count, and a byte in front of each text, two of a long one: numbers take no more than that either.
                prop_assert_eq!(form, FORM_BARE, "{} elements keep their lengths", model.len());
                prop_assert!(bytes.len() <= 2 + model.len() + text_bytes);
            }
            prop_assert!(form == FORM_PACKED || model.len() <= bare::COUNT_MAX);
            // What lies in an entry is the list, and is told as a listpack of Redis would be.
            compare(&List::from_inline(form, bytes.to_vec()), &model);
            if let ListView::Bare(bare) = list.view() {
                let packed: PackedBuf = model.iter().collect();
                prop_assert_eq!(bare.to_packed(), packed.clone());
                prop_assert_eq!(bare.listpack_bytes(), packed.view().listpack_bytes());
            }
        }
    }
}

/// Steps with short elements, around the number of those that go without lengths.
fn short_step() -> impl Strategy<Value = Step> {
    let end = || prop_oneof![Just(End::Head), Just(End::Tail)];
    let side = || prop_oneof![Just(Side::Before), Just(Side::After)];
    let text = || {
        prop_oneof![
            4 => (-40_i64..200).prop_map(|value| value.to_string().into_bytes()),
            2 => any::<i64>().prop_map(|value| value.to_string().into_bytes()),
            4 => "[a-c]{0,9}".prop_map(String::into_bytes),
            1 => (60_usize..135).prop_map(|len| vec![b'x'; len]),
        ]
    };
    prop_oneof![
        6 => (end(), proptest::collection::vec(text(), 1..9)).prop_map(|(end, texts)| Step::Push(end, texts)),
        4 => (end(), 0_usize..12).prop_map(|(end, count)| Step::Pop(end, count)),
        3 => (0_usize..40, text()).prop_map(|(at, text)| Step::Set(at, text)),
        3 => (side(), 0_usize..40, text()).prop_map(|(side, at, text)| Step::Insert(side, at, text)),
        3 => (end(), 1_usize..9, text()).prop_map(|(end, count, text)| Step::Remove(end, count, text)),
        1 => (0_usize..9, 0_usize..30).prop_map(|(first, len)| Step::Trim(first, first + len)),
        1 => (end(), end()).prop_map(|(from, to)| Step::Move(from, to)),
    ]
}

#[test]
fn a_list_grows_and_shrinks_as_in_redis() {
    let limit = Limit::of(3);
    let mut list = List::empty();
    for number in 0..3 {
        list.make_room(limit, 1, 1);
        list.push(End::Tail, number.to_string().as_bytes());
    }
    assert!(!list.view().is_quick());
    list.make_room(limit, 1, 1);
    assert!(list.view().is_quick(), "a fourth is one too many");
    list.push(End::Tail, b"3");
    assert_eq!(list.pop(limit, End::Tail, 1, |_| ()), 1);
    assert!(list.view().is_quick(), "three are more than half of three");
    list.pop(limit, End::Tail, 2, |_| ());
    assert!(!list.view().is_quick());
}

#[test]
fn memory_is_counted() {
    let mut list = List::empty();
    assert_eq!(list.heap_bytes(), 0);
    list.push(End::Tail, b"hello");
    assert_eq!(list.heap_bytes(), list.clone().into_spare().capacity().max(list.heap_bytes()));
    list.make_room(Limit::of(1), 1, 1);
    for number in 0..1000 {
        list.push(End::Tail, number.to_string().as_bytes());
    }
    assert!(list.heap_bytes() >= 1000 * 32);
    assert_eq!(list.into_spare().capacity(), 0);
}

/// A list of a thousand elements of which every chunk is alike.
fn long_list(depth: u32) -> List {
    let limit = Limit::of(10).compressed_from(depth);
    let mut list = List::empty();
    for number in 0..1000 {
        list.make_room(limit, 100, 1);
        list.push(End::Tail, format!("element {number} {}", "padding ".repeat(10)).as_bytes());
    }
    list.check();
    list
}

#[test]
fn compression_takes_less_memory_and_reading_does_not_undo_it() {
    let [open, one, few] = [0, 1, 10].map(|depth| long_list(depth).heap_bytes());
    assert!(one * 3 < open && one < few && few < open, "{open} {one} {few}");
    let mut list = long_list(1);
    assert_eq!(list.view().to_vecs(), long_list(0).view().to_vecs());
    assert_eq!(list.heap_bytes(), one);
    let limit = Limit::of(10).compressed_from(1);
    assert!(list.set(limit, 500, b"short"));
    assert!(list.insert(limit, Side::After, b"short", b"another"));
    assert_eq!(list.remove(limit, End::Head, 0_usize.wrapping_sub(1), b"short"), 1);
    list.check();
    assert!(list.heap_bytes() < one + 1000);
}

#[test]
fn a_list_keeps_the_depth_it_became_large_with() {
    let mut list = long_list(1);
    let limit = Limit::of(10);
    for number in 0..1000 {
        list.make_room(limit, 100, 1);
        list.push(End::Head, format!("element {number} {}", "padding ".repeat(10)).as_bytes());
    }
    list.check();
    let (compressed, open) = (list.heap_bytes(), long_list(0).heap_bytes());
    assert!(compressed < open, "{compressed} {open}");
    list.trim(limit, 0, 3);
    assert!(!list.view().is_quick());
}
