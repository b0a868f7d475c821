//! Sorted sets: pairs of member and score, in a listpack while they are few.
//!
//! Invariant: what is read is checked as a whole: scores are numbers, members do not repeat, and the
//! packed form is in order.

use super::dump::{Dumped, RestoreError, Writer, push_footer};
use super::{BadData, Reader, push_length, ziplist};
use larder_values::number;
use larder_values::packed::{Element, PackedBuf, from_listpack, to_listpack};
use larder_values::zset::{View, is_sorted};
use std::collections::HashSet;

pub(super) const TYPE_ZSET: u8 = 3;
pub(super) const TYPE_ZSET_2: u8 = 5;
pub(super) const TYPE_ZSET_ZIPLIST: u8 = 12;
pub(super) const TYPE_ZSET_LISTPACK: u8 = 17;

/// Lengths of a score's text that stand for what is no finite number.
const TEXT_NAN: u8 = 253;
const TEXT_INFINITY: u8 = 254;
const TEXT_MINUS_INFINITY: u8 = 255;

/// A sorted set from a payload.
#[derive(Debug, PartialEq)]
pub enum DumpedZSet {
    /// Pairs of member and score, in order.
    Packed(PackedBuf),
    /// Members that do not repeat, with their scores.
    Pairs(Vec<(Vec<u8>, f64)>),
}

impl Writer {
    /// Appends the payload of a sorted set.
    pub fn dump_zset(&mut self, set: View<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        match set {
            View::Packed(packed) => {
                let mut listpack = Vec::new();
                to_listpack(packed, &mut listpack);
                out.push(TYPE_ZSET_LISTPACK);
                self.strings.push(out, &listpack);
            }
            View::Large(_) => {
                out.push(TYPE_ZSET_2);
                push_length(out, set.len() as u64);
                // From the highest score down, as Redis writes it.
                for (member, score) in set.range(set.len().saturating_sub(1), usize::MAX, true) {
                    match member {
                        Element::Bytes(member) => self.strings.push(out, member),
                        Element::Int(member) => self.strings.push_integer(out, member),
                    }
                    out.extend_from_slice(&score.to_le_bytes());
                }
            }
        }
        push_footer(out, start);
    }
}

/// Reads the pairs of an object of type 3 or 5.
pub(super) fn read_pairs(
    reader: &mut Reader<'_>,
    string_max: usize,
    read_score: impl Fn(&mut Reader<'_>) -> Result<f64, BadData>,
) -> Result<Dumped, RestoreError> {
    let len = reader.plain_length().map_err(|BadData| RestoreError::BadData)?;
    // Room is made as pairs arrive: the count is only what is announced.
    let (mut pairs, mut members) = (Vec::new(), HashSet::new());
    for _ in 0..len {
        let member = reader.string(string_max)?;
        let score = read_score(reader).map_err(|BadData| RestoreError::BadData)?;
        if score.is_nan() || !members.insert(member.clone()) {
            return Err(RestoreError::BadData);
        }
        pairs.push((member, score));
    }
    if pairs.is_empty() { Err(RestoreError::BadData) } else { Ok(Dumped::ZSet(DumpedZSet::Pairs(pairs))) }
}

/// A score as eight bytes.
pub(super) fn binary_score(reader: &mut Reader<'_>) -> Result<f64, BadData> {
    Ok(f64::from_le_bytes(reader.array()?))
}

/// A score as text behind its length.
pub(super) fn text_score(reader: &mut Reader<'_>) -> Result<f64, BadData> {
    match reader.byte()? {
        TEXT_NAN => Err(BadData),
        TEXT_INFINITY => Ok(f64::INFINITY),
        TEXT_MINUS_INFINITY => Ok(f64::NEG_INFINITY),
        len => number::parse_f64(reader.take(u64::from(len))?).ok_or(BadData),
    }
}

/// Reads an object of type 17.
pub(super) fn read_listpack(reader: &mut Reader<'_>) -> Result<Dumped, RestoreError> {
    let listpack = reader.string(usize::MAX)?;
    let packed = from_listpack(&listpack).map_err(|_| RestoreError::BadData)?;
    checked(packed)
}

/// Reads an object of type 12.
pub(super) fn read_ziplist(reader: &mut Reader<'_>) -> Result<Dumped, RestoreError> {
    let bytes = reader.string(usize::MAX)?;
    let packed = ziplist::read(&bytes).map_err(|BadData| RestoreError::BadData)?;
    checked(packed)
}

/// Looks at every pair of a packed set.
// Differs from Redis: a listpack with repeated members, odd length or scores that are no numbers is
// refused whatever sanitize-dump-payload says, and one out of order is put in order.
fn checked(packed: PackedBuf) -> Result<Dumped, RestoreError> {
    let mut elements = packed.view().iter();
    let (mut pairs, mut members) = (Vec::new(), HashSet::new());
    while let Some(member) = elements.next() {
        let score = match elements.next() {
            Some(Element::Int(score)) => score as f64,
            Some(Element::Bytes(text)) => number::parse_f64(text).ok_or(RestoreError::BadData)?,
            None => return Err(RestoreError::BadData),
        };
        if !members.insert(member.to_vec()) {
            return Err(RestoreError::BadData);
        }
        pairs.push((member.to_vec(), score));
    }
    if pairs.is_empty() {
        return Err(RestoreError::BadData);
    }
    // What is not in order is put in order, as Redis does where it makes a large set of it.
    let set = if is_sorted(&pairs) { DumpedZSet::Packed(packed) } else { DumpedZSet::Pairs(pairs) };
    Ok(Dumped::ZSet(set))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::restore;
    use larder_values::collection::{Collection, PackedLimits};
    use larder_values::zset::ZSet;

    const LIMITS: PackedLimits = PackedLimits { entries_max: 4, value_bytes_max: 10 };

    fn payload(object: &[u8]) -> Vec<u8> {
        let mut out = object.to_vec();
        push_footer(&mut out, 0);
        out
    }

    fn pairs(count: usize) -> Vec<(Vec<u8>, f64)> {
        (0..count).map(|n| (format!("m{n}").into_bytes(), n as f64 / 2.0 - 1.0)).collect()
    }

    #[test]
    fn what_is_dumped_is_restored() {
        for count in [1, 4, 5, 500] {
            let set = ZSet::from_pairs(pairs(count), LIMITS);
            let mut out = Vec::new();
            Writer::new(true).dump_zset(set.view(), &mut out);
            let seen = match restore(&out, 100).unwrap() {
                Dumped::ZSet(DumpedZSet::Packed(packed)) => ZSet::from_packed(packed, LIMITS),
                Dumped::ZSet(DumpedZSet::Pairs(pairs)) => ZSet::from_pairs(pairs, LIMITS),
                _ => panic!("not a sorted set"),
            };
            seen.check();
            let all = |set: &ZSet| -> Vec<(Vec<u8>, f64)> {
                set.view().iter().map(|(member, score)| (member.to_vec(), score)).collect()
            };
            assert_eq!(all(&seen), all(&set));
            assert_eq!(seen.is_large(), set.is_large());
        }
    }

    #[test]
    fn older_forms_are_read() {
        let expected = vec![(b"a".to_vec(), 1.5), (b"b".to_vec(), f64::INFINITY)];
        let text = payload(b"\x03\x02\x01a\x031.5\x01b\xfe");
        assert_eq!(restore(&text, 100), Ok(Dumped::ZSet(DumpedZSet::Pairs(expected))));
        let ziplist = payload(b"\x0c\x13\x13\0\0\0\x0d\0\0\0\x02\0\0\x01a\x03\x031.5\xff");
        let Ok(Dumped::ZSet(DumpedZSet::Packed(packed))) = restore(&ziplist, 100) else { panic!("not read") };
        let set = ZSet::from_packed(packed, LIMITS);
        assert_eq!(set.view().score(b"a"), Some(1.5));
    }

    #[test]
    fn what_is_no_sorted_set_is_refused() {
        let nan = [&b"\x05\x01\x01a"[..], &f64::NAN.to_le_bytes()].concat();
        for object in [
            &b"\x03\0"[..],
            b"\x05\0",
            b"\x05\x02\x01a\0\0\0\0\0\0\0\0",
            b"\x05\x02\x01a\0\0\0\0\0\0\0\0\x01a\0\0\0\0\0\0\0\0",
            b"\x03\x01\x01a\x03abc",
            b"\x03\x01\x01a\xfd",
            &nan,
            // Listpacks: empty, one element, a member twice, a score that is none.
            b"\x11\x07\x07\0\0\0\0\0\xff",
            b"\x11\x0a\x0a\0\0\0\x01\0\x81a\x02\xff",
            b"\x11\x11\x11\0\0\0\x04\0\x81a\x02\x01\x01\x81a\x02\x02\x01\xff",
            b"\x11\x0d\x0d\0\0\0\x02\0\x81a\x02\x81b\x02\xff",
        ] {
            assert_eq!(
                restore(&payload(object), 100),
                Err(RestoreError::BadData),
                "{}",
                object.escape_ascii()
            );
        }
    }

    #[test]
    fn pairs_out_of_order_are_put_in_order() {
        let object = payload(b"\x11\x11\x11\0\0\0\x04\0\x81b\x02\x02\x01\x81a\x02\x01\x01\xff");
        let expected = vec![(b"b".to_vec(), 2.0), (b"a".to_vec(), 1.0)];
        assert_eq!(restore(&object, 100), Ok(Dumped::ZSet(DumpedZSet::Pairs(expected))));
    }
}
