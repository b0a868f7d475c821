//! Bodies of fuzz targets, plain functions so that a test on stable Rust runs them too.
//!
//! Each takes any bytes and panics only if an invariant is broken.

use crate::hash::{End, Hash, PackedLimits};
use crate::packed::{self, Element, PackedBuf};
use crate::{glob, hll, lzf};
use std::collections::BTreeMap;

/// Matches one part of the bytes against the other, and compares with all ways tried at once.
pub fn fuzz_glob(bytes: &[u8]) {
    let Some((&cut, rest)) = bytes.split_first() else { return };
    let (pattern, text) = rest.split_at(usize::from(cut).min(rest.len()));
    let matched = glob::matches(pattern, text);
    let _ = glob::matches_with(pattern, text, glob::Case::Ignored);
    assert_eq!(matched, glob::matches_all_ways(pattern, text), "the retry point missed a way");
    if matched {
        assert!(text.starts_with(glob::literal_prefix(pattern)), "the literal prefix is not one");
    }
}

/// Does everything to the bytes as a HyperLogLog, and to them as the body of one.
pub fn fuzz_hll(bytes: &[u8]) {
    exercise(bytes.to_vec());
    let mut sparse = hll::create();
    sparse.truncate(sparse.len() - 2);
    sparse.extend_from_slice(bytes);
    exercise(sparse);
    let mut dense = hll::create();
    let _ = hll::to_dense(&mut dense);
    let room = dense.len() - 16;
    dense[16..16 + bytes.len().min(room)].copy_from_slice(&bytes[..bytes.len().min(room)]);
    exercise(dense);
}

/// Changes a list as the bytes say, and compares with a deque.
pub fn fuzz_list(bytes: &[u8]) {
    crate::list::fuzz::fuzz_changes(bytes);
}

/// Changes a set as the bytes say, and compares with the standard library's.
pub fn fuzz_set(bytes: &[u8]) {
    crate::set::fuzz::fuzz_changes(bytes);
}

/// Changes a sorted set as the bytes say, and compares with a map.
pub fn fuzz_zset(bytes: &[u8]) {
    crate::zset::fuzz::fuzz_changes(bytes);
}

/// Takes the bytes as a node of a stream in Redis' form, behind the id of its first entry.
pub fn fuzz_stream(bytes: &[u8]) {
    crate::stream::fuzz::fuzz_listpack(bytes);
}

fn exercise(mut value: Vec<u8>) {
    let valid = hll::estimate(&value).is_ok();
    let before = hll::registers(&value);
    assert_eq!(before.is_ok(), valid, "reading and counting disagree on what is valid");
    let _ = (hll::decode(&value), hll::cached_count(&value));
    for element in [&b"a"[..], b"b", b"", b"12345678"] {
        let added = hll::add(&mut value, element, 3000);
        if valid {
            assert!(added.is_ok(), "a valid one refused an element");
            assert_eq!(hll::add(&mut value, element, 3000), Ok(false), "an element was added twice");
        }
    }
    if let (Ok(before), Ok(after)) = (before, hll::registers(&value)) {
        assert!(before.iter().zip(after.iter()).all(|(old, new)| old <= new), "a register fell");
        let mut union = hll::Union::new();
        assert_eq!(union.merge(&value), Ok(()));
        assert_eq!(union.store(&mut value, 3000), Ok(()));
        assert_eq!(hll::registers(&value), Ok(after), "a union with itself changed it");
    }
    let _ = (hll::count(&mut value), hll::to_dense(&mut value));
}

/// Reads the bytes as packed elements, bare, with a fitting count and as a listpack; what is accepted
/// is read from both ends and changed.
pub fn fuzz_packed(bytes: &[u8]) {
    if packed::check(bytes).is_ok() {
        change_packed(PackedBuf::from_vec(bytes.to_vec()));
    }
    for count in 0..=bytes.len().min(40) {
        let counted = [&(count as u16).to_le_bytes(), bytes].concat();
        if packed::check(&counted) == Ok(count) {
            change_packed(PackedBuf::from_vec(counted));
        }
    }
    if let Ok(buf) = packed::from_listpack(bytes) {
        change_packed(buf);
    }
}

fn change_packed(mut buf: PackedBuf) {
    let elements: Vec<Vec<u8>> = buf.view().iter().map(Element::to_vec).collect();
    let backwards = buf.view().iter().rev().map(Element::to_vec);
    assert!(backwards.eq(elements.iter().rev().cloned()), "the two directions disagree");
    assert_eq!(buf.len(), elements.len(), "the count is wrong");
    let mut listpack = Vec::new();
    packed::to_listpack(buf.view(), &mut listpack);
    let back = packed::from_listpack(&listpack);
    assert_eq!(back.as_ref().map(PackedBuf::len), Ok(elements.len()), "a listpack of ours is refused");
    for (at, element) in elements.iter().enumerate().take(20) {
        let view = buf.view();
        let found = view.first().and_then(|first| view.find(first, element, 0));
        assert!(found.is_some_and(|found| Some(found) <= view.seek(at)), "an element is not found");
        if let Some(cursor) = view.seek(at) {
            buf.replace(cursor, element);
        }
    }
    assert!(buf.view().iter().map(Element::to_vec).eq(elements.iter().cloned()), "replacing changed some");
    if let Some(first) = buf.view().first() {
        buf.insert_after(first, b"between");
        buf.remove(first, 1);
    }
    assert_eq!(packed::check(buf.view().bytes()), Ok(elements.len()), "a change broke it");
}

/// Carries the bytes out as changes of a hash, four bytes each, and compares it with a map.
pub fn fuzz_hash(bytes: &[u8]) {
    let limits = PackedLimits { entries_max: 6, value_bytes_max: 20 };
    let (mut hash, mut now) = (Hash::default(), 1000_u64);
    let mut map: BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)> = BTreeMap::new();
    for &[action, number, a, b] in bytes.as_chunks().0 {
        let field = vec![b'0' + number % 16; 1 + usize::from(number / 16)];
        let value = if a % 2 == 0 { b.to_string().into_bytes() } else { vec![b; usize::from(a)] };
        let end = Some(now + u64::from(b)).filter(|_| a % 4 == 1);
        match action % 5 {
            0 | 1 => {
                hash.set(&field, &value, end.map_or(End::Clear, End::At), now, limits);
                map.insert(field, (value, end));
            }
            2 => {
                hash.remove(&field, now);
                map.remove(&field);
            }
            3 => {
                let there = hash.set_end(&field, end, &mut Vec::new());
                assert_eq!(there, map.get_mut(&field).map(|(_, old)| *old = end).is_some());
            }
            _ => {
                now += u64::from(b);
                hash.expire_due(now, usize::MAX, &mut |_| {});
                map.retain(|_, (_, end)| end.is_none_or(|end| end > now));
            }
        }
        hash.check();
    }
    let mut seen = BTreeMap::new();
    hash.look().for_each_stored(|field, value, end| {
        seen.insert(field.to_vec(), (value.to_vec(), end));
    });
    assert_eq!(seen, map, "a hash is not what was set");
}

/// Decompresses the bytes to a length taken from the first three, and compresses all of them.
pub fn fuzz_lzf(bytes: &[u8]) {
    if let Some((&[a, b, c], rest)) = bytes.split_first_chunk() {
        let len = u32::from_le_bytes([a, b, c, 0]) as usize;
        let mut out = Vec::new();
        let result = lzf::decompress(rest, len, &mut out);
        assert_eq!(out.len(), if result.is_ok() { len } else { 0 }, "not the length told");
    }
    let (mut small, mut back) = (Vec::new(), Vec::new());
    if lzf::Compressor::new().compress(bytes, bytes.len() + bytes.len() / 8 + 16, &mut small) {
        assert_eq!(lzf::decompress(&small, bytes.len(), &mut back), Ok(()), "own output was refused");
        assert_eq!(back, bytes, "own output came back changed");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn no_bytes_break_globs(
            cut in 0_u8..20,
            bytes in proptest::collection::vec(proptest::sample::select(b"ab*?[]^-\\\x80\xff".as_slice()), 0..40),
        ) {
            super::fuzz_glob(&[&[cut], bytes.as_slice()].concat());
        }

        #[test]
        fn no_bytes_break_lzf(bytes in proptest::collection::vec(0_u8..70, 0..300)) {
            super::fuzz_lzf(&bytes);
        }

        #[test]
        fn no_bytes_break_hashes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            super::fuzz_hash(&bytes);
        }

        #[test]
        fn no_bytes_break_hyperloglogs(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            super::fuzz_hll(&bytes);
        }
    }
}
