//! The packed buffer against a vector of byte strings.

use super::*;
use proptest::prelude::*;

/// Elements in which the limits of all encodings occur.
pub(crate) fn element() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (-200_i64..200).prop_map(|value| value.to_string().into_bytes()),
        3 => (any::<i64>(), 0_u32..64).prop_map(|(value, shift)| (value >> shift).to_string().into_bytes()),
        3 => "[a-c]{0,4}".prop_map(String::into_bytes),
        1 => "[-+]?0?[0-9]{1,20}".prop_map(String::into_bytes),
        2 => (prop_oneof![Just(63), Just(126), Just(127), Just(4095), Just(16_380)], 0_usize..4)
            .prop_map(|(len, more)| vec![b'x'; len + more]),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    PushBack(Vec<u8>),
    PushFront(Vec<u8>),
    PushInt(i64),
    InsertBefore(usize, Vec<u8>),
    InsertAfter(usize, Vec<u8>),
    Replace(usize, Vec<u8>),
    ReplaceInt(usize, i64),
    Remove(usize, usize),
    RemoveRange(usize, usize),
    SplitAndJoin(usize),
    CopyRaw(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0_usize..40;
    prop_oneof![
        3 => element().prop_map(Step::PushBack),
        2 => element().prop_map(Step::PushFront),
        1 => any::<i64>().prop_map(Step::PushInt),
        2 => (at(), element()).prop_map(|(at, text)| Step::InsertBefore(at, text)),
        2 => (at(), element()).prop_map(|(at, text)| Step::InsertAfter(at, text)),
        2 => (at(), element()).prop_map(|(at, text)| Step::Replace(at, text)),
        1 => (at(), any::<i64>()).prop_map(|(at, value)| Step::ReplaceInt(at, value)),
        2 => (at(), 0_usize..5).prop_map(|(at, count)| Step::Remove(at, count)),
        1 => (at(), 0_usize..9).prop_map(|(at, count)| Step::RemoveRange(at, count)),
        1 => at().prop_map(Step::SplitAndJoin),
        1 => at().prop_map(Step::CopyRaw),
    ]
}

fn apply(buf: &mut PackedBuf, model: &mut Vec<Vec<u8>>, step: Step) {
    let text_of = |value: i64| value.to_string().into_bytes();
    match step {
        Step::PushBack(text) => {
            buf.push_back(&text);
            model.push(text);
        }
        Step::PushFront(text) => {
            buf.push_front(&text);
            model.insert(0, text);
        }
        Step::PushInt(value) => {
            buf.push_back_int(value);
            model.push(text_of(value));
        }
        Step::RemoveRange(at, count) => {
            let end = (at + count).min(model.len()).max(at);
            let removed = if at < model.len() { model.drain(at..end).count() } else { 0 };
            assert_eq!(buf.remove_range(at, count), removed);
        }
        Step::SplitAndJoin(at) => {
            let at = at.min(model.len());
            let tail = buf.split_off(at);
            assert_eq!(contents(&tail), &model[at..]);
            assert_eq!(contents(buf), &model[..at]);
            buf.append(tail.view());
        }
        step => apply_at(buf, model, step),
    }
}

fn apply_at(buf: &mut PackedBuf, model: &mut Vec<Vec<u8>>, step: Step) {
    let find = |buf: &PackedBuf, at: usize| buf.view().seek(at % buf.len().max(1));
    match step {
        Step::InsertBefore(at, text) => {
            if let Some(cursor) = find(buf, at) {
                buf.insert_before(cursor, &text);
                model.insert(at % model.len(), text);
            }
        }
        Step::InsertAfter(at, text) => {
            if let Some(cursor) = find(buf, at) {
                buf.insert_after(cursor, &text);
                model.insert(at % model.len() + 1, text);
            }
        }
        Step::Replace(at, text) => {
            if let Some(cursor) = find(buf, at) {
                buf.replace(cursor, &text);
                let at = at % model.len();
                model[at] = text;
            }
        }
        Step::ReplaceInt(at, value) => {
            if let Some(cursor) = find(buf, at) {
                buf.replace_int(cursor, value);
                let at = at % model.len();
                model[at] = value.to_string().into_bytes();
            }
        }
        Step::Remove(at, count) => {
            if let Some(cursor) = find(buf, at) {
                let at = at % model.len();
                model.drain(at..(at + count).min(model.len()));
                let next = buf.remove(cursor, count);
                assert_eq!(next.map(|next| buf.view().get(next).to_vec()), model.get(at).cloned());
            }
        }
        Step::CopyRaw(at) => {
            if let Some(cursor) = find(buf, at) {
                let raw = buf.view().raw(cursor).to_vec();
                buf.push_back_raw(&raw);
                model.push(model[at % model.len()].clone());
            }
        }
        _ => unreachable!("the others are done by `apply`"),
    }
}

fn contents(buf: &PackedBuf) -> Vec<Vec<u8>> {
    buf.view().iter().map(Element::to_vec).collect()
}

/// Every way to read agrees with the model.
fn compare(buf: &PackedBuf, model: &[Vec<u8>]) {
    let view = buf.view();
    assert_eq!(check(view.bytes()), Ok(model.len()));
    assert_eq!((view.len(), view.is_empty()), (model.len(), model.is_empty()));
    assert_eq!(contents(buf), model);
    let mut backwards: Vec<Vec<u8>> = view.iter().rev().map(Element::to_vec).collect();
    backwards.reverse();
    assert_eq!(backwards, model);
    let (mut at, mut walked) = (view.first(), Vec::new());
    while let Some(cursor) = at {
        assert_eq!(view.seek(walked.len()), Some(cursor));
        assert_eq!(view.next(cursor), view.step(cursor).1);
        assert_eq!(view.next(cursor).and_then(|next| view.prev(next)), view.next(cursor).map(|_| cursor));
        assert_eq!(encoded_bytes(&model[walked.len()]), view.raw(cursor).len());
        assert!(view.get(cursor).is(&model[walked.len()]));
        walked.push(view.get(cursor).to_vec());
        at = view.next(cursor);
    }
    assert_eq!(walked, model);
    assert_eq!(view.seek(model.len()), None);
    assert_eq!(view.last().map(|last| view.get(last).to_vec()), model.last().cloned());
    for skip in 0..3 {
        for what in model.iter().take(5).map(Vec::as_slice).chain([&b"a"[..], b"", b"7"]) {
            let found = view.first().and_then(|first| view.find(first, what, skip));
            let wanted = (0..model.len()).step_by(skip + 1).find(|&at| model[at] == what);
            assert_eq!(found, wanted.and_then(|at| view.seek(at)));
        }
    }
    let mut listpack = Vec::new();
    to_listpack(view, &mut listpack);
    assert_eq!(listpack.len(), view.listpack_bytes());
    let back = from_listpack(&listpack).map(|back| contents(&back));
    assert_eq!(from_listpack_vec(listpack.clone()).map(|back| contents(&back)), back);
    assert_eq!(back.as_deref(), Ok(model));
}

#[test]
fn encodings_as_redis_writes_them() {
    for (text, bytes) in [
        (&b"0"[..], &b"\x00\x01"[..]),
        (b"127", b"\x7f\x01"),
        (b"128", b"\xc0\x80\x02"),
        (b"-1", b"\xdf\xff\x02"),
        (b"4095", b"\xcf\xff\x02"),
        (b"-4096", b"\xd0\x00\x02"),
        (b"4096", b"\xf1\x00\x10\x03"),
        (b"-32768", b"\xf1\x00\x80\x03"),
        (b"32768", b"\xf2\x00\x80\x00\x04"),
        (b"-8388609", b"\xf3\xff\xff\x7f\xff\x05"),
        (b"2147483648", b"\xf4\x00\x00\x00\x80\x00\x00\x00\x00\x09"),
        (b"-9223372036854775808", b"\xf4\x00\x00\x00\x00\x00\x00\x00\x80\x09"),
        (b"", b"\x80\x01"),
        (b"a", b"\x81a\x02"),
        (b"007", b"\x83007\x04"),
    ] {
        let buf = PackedBuf::from_iter([text]);
        assert_eq!(buf.view().element_bytes(), bytes, "{}", text.escape_ascii());
        assert_eq!(contents(&buf), [text]);
    }
    let of = |len: usize| PackedBuf::from_iter([vec![b'x'; len]]).view().element_bytes().to_vec();
    assert_eq!((&of(64)[..2], &of(64)[66..]), (&b"\xe0\x40"[..], &b"\x42"[..]));
    assert_eq!((&of(126)[..2], &of(126)[128..]), (&b"\xe0\x7e"[..], &b"\x01\x80"[..]));
    assert_eq!((&of(4096)[..5], &of(4096)[4101..]), (&b"\xf0\0\x10\0\0"[..], &b"\x20\x85"[..]));
    // Head and payload of 16,382 and 16,383 bytes.
    assert_eq!(of(16_377)[16_382..], *b"\x7f\xfe");
    assert_eq!(of(16_378)[16_383..], *b"\x00\xff\xff");
}

#[test]
fn longer_heads_than_needed_are_read() {
    // 5 as a 64-bit integer, "7" as a string, "x" with a head of five bytes.
    let foreign = b"\x03\0\xf4\x05\0\0\0\0\0\0\0\x09\x817\x02\xf0\x01\0\0\0x\x06";
    assert_eq!(check(foreign), Ok(3));
    let view = Packed::new(foreign);
    assert_eq!(view.iter().map(Element::to_vec).collect::<Vec<_>>(), [b"5", b"7", b"x"]);
    for (at, what) in [b"5", b"7", b"x"].into_iter().enumerate() {
        assert_eq!(view.find(Cursor(2), what, 0), view.seek(at));
    }
    assert_eq!(view.iter().nth(1).and_then(Element::to_i64), Some(7));
}

#[test]
fn what_is_refused() {
    for bad in [
        &b"\0"[..],
        b"\x01\0",
        b"\x02\0\x05\x01",
        b"\x01\0\x05\x02",
        b"\x01\0\x05",
        b"\x01\0\xf5\x01",
        b"\x01\0\xff\x01",
        b"\x01\0\x82a\x03",
        b"\x01\0\xf0\xff\xff\xff\xffx\x05",
        b"\x01\0\xf4\0\0\0\0",
        b"\x01\0\x81a\x80",
        b"\x01\0\x81a\x82",
    ] {
        assert_eq!(check(bad), Err(Bad), "{bad:?}");
    }
    let right = b"\x09\0\0\0\x01\0\x05\x01\xff";
    assert_eq!(from_listpack(right).map(|buf| contents(&buf)), Ok(vec![b"5".to_vec()]));
    for at in [0, 4, 7, 8] {
        let mut wrong = *right;
        wrong[at] ^= 2;
        assert_eq!(from_listpack(&wrong), Err(Bad), "{at}");
        assert_eq!(from_listpack_vec(wrong.to_vec()), Err(Bad), "{at}");
    }
    let uncounted = b"\x09\0\0\0\xff\xff\x05\x01\xff";
    assert_eq!(from_listpack(uncounted).map(|buf| buf.len()), Ok(1));
    assert_eq!(from_listpack(b"\x07\0\0\0\0\0\xff").map(|buf| buf.len()), Ok(0));
    assert_eq!(from_listpack(b"\x07\0\0\0\0\0"), Err(Bad));
}

#[test]
fn counts_beyond_sixteen_bits() {
    let mut buf = PackedBuf::new();
    for value in 0..70_000 {
        buf.push_back_int(value % 100);
    }
    assert_eq!((buf.len(), check(buf.view().bytes())), (70_000, Ok(70_000)));
    assert_eq!(buf.view().seek(69_999).map(|at| buf.view().get(at)), Some(Element::Int(99)));
    assert_eq!(buf.remove_range(10, 4465), 4465);
    assert_eq!((buf.len(), check(buf.view().bytes())), (65_535, Ok(65_535)));
    assert_eq!(buf.remove_range(0, 1), 1);
    assert_eq!((buf.len(), check(buf.view().bytes())), (65_534, Ok(65_534)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn does_what_a_vector_does(steps in proptest::collection::vec(step(), 1..40)) {
        let (mut buf, mut model) = (PackedBuf::new(), Vec::new());
        for step in steps {
            apply(&mut buf, &mut model, step);
            compare(&buf, &model);
        }
    }

    #[test]
    fn partial_iterators_are_parts(elements in proptest::collection::vec(element(), 1..20), at: usize) {
        let (buf, at) = (PackedBuf::from_iter(&elements), at % elements.len());
        let view = buf.view();
        let cursor = view.seek(at);
        let after: Vec<_> = cursor.into_iter().flat_map(|at| view.iter_from(at)).map(Element::to_vec).collect();
        prop_assert_eq!(&after[..], &elements[at..]);
        let before: Vec<_> = cursor.into_iter().flat_map(|at| view.iter_to(at).rev()).map(Element::to_vec).collect();
        prop_assert!(before.iter().eq(elements[..=at].iter().rev()));
        prop_assert_eq!(view.iter().nth(at).map(Element::to_vec), Some(elements[at].clone()));
    }

    #[test]
    fn foreign_bytes_are_refused_or_work(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        crate::fuzz::fuzz_packed(&bytes);
    }
}
