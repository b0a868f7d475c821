//! Sorted sets: pairs of member and score, in a listpack while they are few.
//!
//! Invariant: what is read is checked as a whole: scores are numbers, members do not repeat, and the
//! packed form is in order.

use super::dump::{Dumped, RestoreError, Writer, push_footer};
use super::{BadData, Reader, push_length, text_of, ziplist};
use larder_values::collection::PackedLimits;
use larder_values::number;
use larder_values::packed::{Element, PackedBuf, Seen, are_distinct};
use larder_values::zset::{Loaded, Loader, View, ZSet, is_sorted};

pub(super) const TYPE_ZSET: u8 = 3;
pub(super) const TYPE_ZSET_2: u8 = 5;
pub(super) const TYPE_ZSET_ZIPLIST: u8 = 12;
pub(super) const TYPE_ZSET_LISTPACK: u8 = 17;

/// More pairs than this go to a tree at once, since no usual limit asks for another form.
const TREE_ABOVE: u64 = 512;

/// Lengths of a score's text that stand for what is no finite number.
pub(super) const TEXT_NAN: u8 = 253;
const TEXT_INFINITY: u8 = 254;
const TEXT_MINUS_INFINITY: u8 = 255;

/// A sorted set from a payload.
#[derive(Debug, PartialEq)]
pub enum DumpedZSet {
    /// Pairs of member and score, in order.
    Packed(PackedBuf),
    /// Members that do not repeat, with their scores.
    Pairs(Pairs),
    /// Many of them.
    Large(Loaded),
}

/// Members with their scores, in one piece.
#[derive(Debug, Default, PartialEq)]
pub struct Pairs {
    members: Vec<u8>,
    /// Where each member ends, and its score.
    ends: Vec<(usize, f64)>,
}

impl Pairs {
    fn push(&mut self, member: &[u8], score: f64) {
        self.members.extend_from_slice(member);
        self.ends.push((self.members.len(), score));
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], f64)> + Clone {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        let pairs = starts.zip(&self.ends);
        pairs.map(|(start, (end, score))| (self.members.get(start..*end).unwrap_or_default(), *score))
    }
}

impl DumpedZSet {
    /// The sorted set, in the form that the limits say.
    #[must_use]
    pub fn into_zset(self, limits: PackedLimits) -> ZSet {
        match self {
            DumpedZSet::Packed(packed) => ZSet::from_packed(packed, limits),
            DumpedZSet::Pairs(pairs) => ZSet::from_pairs(pairs.iter().collect(), limits),
            DumpedZSet::Large(loaded) => loaded.into_zset(limits),
        }
    }
}

impl Writer {
    /// Appends the payload of a sorted set.
    pub fn dump_zset(&mut self, set: View<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        self.push_zset(None, set, out);
        push_footer(out, start);
    }

    /// Appends the type of a sorted set, the key where there is one, and the object.
    pub fn push_zset(&mut self, key: Option<&[u8]>, set: View<'_>, out: &mut Vec<u8>) {
        match set {
            View::Packed(packed) => {
                self.push_type(TYPE_ZSET_LISTPACK, key, out);
                self.push_listpack(packed, out);
            }
            View::Large(_) => {
                self.push_type(TYPE_ZSET_2, key, out);
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
    }
}

/// Reads the pairs of an object of type 3 or 5.
pub(super) fn read_pairs(
    reader: &mut Reader<'_>,
    string_max: usize,
    read_score: impl Fn(&mut Reader<'_>) -> Result<f64, BadData>,
) -> Result<Dumped, RestoreError> {
    let len = reader.plain_length().map_err(|BadData| RestoreError::BadData)?;
    let read_pair = |reader: &mut Reader<'_>, add: &mut dyn FnMut(&[u8], f64)| {
        let member = reader.text(string_max)?;
        let score = read_score(reader).map_err(|BadData| RestoreError::BadData)?;
        if score.is_nan() {
            return Err(RestoreError::BadData);
        }
        add(&member, score);
        Ok(())
    };
    if len > TREE_ABOVE {
        let mut loader = Loader::with_room(reader.worth_room(len));
        for _ in 0..len {
            read_pair(reader, &mut |member, score| loader.add(member, score))?;
        }
        let loaded = loader.finish().ok_or(RestoreError::BadData)?;
        return Ok(Dumped::ZSet(DumpedZSet::Large(loaded)));
    }
    let mut pairs = Pairs::default();
    for _ in 0..len {
        read_pair(reader, &mut |member, score| pairs.push(member, score))?;
    }
    if !are_distinct(pairs.iter().map(|(member, _)| Element::Bytes(member))) {
        return Err(RestoreError::BadData);
    }
    if pairs.ends.is_empty() { Err(RestoreError::Empty) } else { Ok(Dumped::ZSet(DumpedZSet::Pairs(pairs))) }
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
    let mut looked = Looked::default();
    let packed = reader.listpack_shown(usize::MAX, |index, element| looked.take(index, element))?;
    looked.judge(packed)
}

/// Reads an object of type 12.
pub(super) fn read_ziplist(reader: &mut Reader<'_>) -> Result<Dumped, RestoreError> {
    let bytes = reader.string(usize::MAX)?;
    let packed = ziplist::read(&bytes).map_err(|BadData| RestoreError::BadData)?;
    let mut looked = Looked::default();
    packed.view().iter().enumerate().for_each(|(index, element)| looked.take(index, element));
    looked.judge(packed)
}

/// What was seen of the pairs of a packed set.
struct Looked {
    members: Seen,
    /// The highest score so far.
    highest: f64,
    /// Each score was above that before: no text tells the order.
    rises: bool,
    /// Something is no score.
    is_bad: bool,
    elements: usize,
}

impl Default for Looked {
    fn default() -> Looked {
        Looked {
            members: Seen::default(),
            highest: f64::NEG_INFINITY,
            rises: true,
            is_bad: false,
            elements: 0,
        }
    }
}

impl Looked {
    /// Takes note of the next element, a member or the score behind it.
    #[inline]
    fn take(&mut self, index: usize, element: Element<'_>) {
        self.elements = index + 1;
        if index.is_multiple_of(2) {
            self.members.add(element);
            return;
        }
        match score_of(Some(element)) {
            Ok(score) => {
                self.rises &= self.highest < score;
                self.highest = score;
            }
            Err(_) => self.is_bad = true,
        }
    }

    /// The set, if all is right with it.
    fn judge(&self, packed: PackedBuf) -> Result<Dumped, RestoreError> {
        if packed.is_empty() {
            return Err(RestoreError::Empty);
        }
        let is_whole = !self.is_bad && self.elements.is_multiple_of(2);
        if !is_whole || !self.members.are_distinct(packed.view().iter().step_by(2)) {
            return Err(RestoreError::BadData);
        }
        if self.rises || is_in_order(&packed) {
            Ok(Dumped::ZSet(DumpedZSet::Packed(packed)))
        } else {
            in_order(&packed)
        }
    }
}

/// Whether the pairs of a packed set are in the order of sorted sets.
fn is_in_order(packed: &PackedBuf) -> bool {
    let mut before = None;
    let mut elements = packed.view().iter();
    while let Some(member) = elements.next() {
        let Ok(score) = score_of(elements.next()) else { return false };
        let pair = (member, score);
        if !before.is_none_or(|before| follows(before, pair)) {
            return false;
        }
        before = Some(pair);
    }
    true
}

/// The pairs of a packed set, to be put in order, as Redis does where it makes a large set of it.
// Differs from Redis: a listpack with repeated members, odd length or scores that are no numbers is
// refused whatever sanitize-dump-payload says, and one out of order is put in order.
fn in_order(packed: &PackedBuf) -> Result<Dumped, RestoreError> {
    let mut pairs = Pairs::default();
    let mut elements = packed.view().iter();
    while let Some(member) = elements.next() {
        pairs.push(&text_of(member), score_of(elements.next())?);
    }
    Ok(Dumped::ZSet(DumpedZSet::Pairs(pairs)))
}

/// Whether a member with its score comes behind another in the order of sorted sets.
fn follows((before, before_score): (Element<'_>, f64), (member, score): (Element<'_>, f64)) -> bool {
    // Where scores differ no text is looked at.
    before_score < score || is_sorted(&[(text_of(before), before_score), (text_of(member), score)])
}

/// The score that an element is.
fn score_of(element: Option<Element<'_>>) -> Result<f64, RestoreError> {
    match element {
        Some(Element::Int(score)) => Ok(score as f64),
        Some(Element::Bytes(text)) => number::parse_f64(text).ok_or(RestoreError::BadData),
        None => Err(RestoreError::BadData),
    }
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
                Dumped::ZSet(dumped) => dumped.into_zset(LIMITS),
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
        let mut expected = Pairs::default();
        expected.push(b"a", 1.5);
        expected.push(b"b", f64::INFINITY);
        let text = payload(b"\x03\x02\x01a\x031.5\x01b\xfe");
        assert_eq!(restore(&text, 100), Ok(Dumped::ZSet(DumpedZSet::Pairs(expected))));
        let ziplist = payload(b"\x0c\x13\x13\0\0\0\x0d\0\0\0\x02\0\0\x01a\x03\x031.5\xff");
        let Ok(Dumped::ZSet(DumpedZSet::Packed(packed))) = restore(&ziplist, 100) else { panic!("not read") };
        let set = ZSet::from_packed(packed, LIMITS);
        assert_eq!(set.view().score(b"a"), Some(1.5));
    }

    #[test]
    fn many_pairs_have_the_form_of_the_limits() {
        let mut object = b"\x05\x42\x58".to_vec();
        for number in (0..600).rev() {
            object.extend_from_slice(format!("\x03{number:03}").as_bytes());
            object.extend_from_slice(&f64::from(number / 2).to_le_bytes());
        }
        let loaded = |entries_max| match restore(&payload(&object), 100) {
            Ok(Dumped::ZSet(dumped)) => dumped.into_zset(PackedLimits { entries_max, value_bytes_max: 10 }),
            other => panic!("{other:?}"),
        };
        for (entries_max, encoding) in [(128, "skiplist"), (600, "listpack")] {
            let set = loaded(entries_max);
            set.check();
            assert_eq!((set.view().len(), ZSet::encoding(set.view())), (600, encoding));
            assert_eq!(set.view().rank(b"501"), Some((501, 250.0)));
        }
        let at = object.len() - 11;
        object[at..at + 3].copy_from_slice(b"599");
        assert_eq!(restore(&payload(&object), 100), Err(RestoreError::BadData), "one is there twice");
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
        let mut expected = Pairs::default();
        expected.push(b"b", 2.0);
        expected.push(b"a", 1.0);
        assert_eq!(restore(&object, 100), Ok(Dumped::ZSet(DumpedZSet::Pairs(expected))));
    }
}
