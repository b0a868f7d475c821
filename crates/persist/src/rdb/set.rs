//! Sets: sorted integers, a listpack, or members one by one.
//!
//! Invariant: what is read has a member at least, and none twice.

use super::dump::{Dumped, RestoreError, Writer, push_footer};
use super::{Length, Reader, push_length};
use larder_values::packed::{Element, PackedBuf, Seen};
use larder_values::set::{Ints, IntsBuf, Large, LargeLoader, Limits, Loader, Set, View};

pub(super) const TYPE_SET: u8 = 2;
pub(super) const TYPE_SET_INTSET: u8 = 11;
pub(super) const TYPE_SET_LISTPACK: u8 = 20;

/// Members one by one, more than this: they go to a table at once, since no usual limit asks for another form.
const TABLE_ABOVE: u64 = 512;

/// Bytes of the width and the count in front of sorted integers.
const INTSET_HEADER_BYTES: usize = 8;

/// A set from a payload. Its form follows from limits, which a payload does not know.
#[derive(Debug, PartialEq)]
pub enum DumpedSet {
    /// Sorted integers.
    Ints(IntsBuf),
    /// Packed members, in order of insertion.
    Packed(PackedBuf),
    /// Members one by one; packed only to have them in one buffer.
    Members(PackedBuf),
    /// Many members, one by one.
    Large(Large),
}

impl DumpedSet {
    /// The set, in the form that Redis gives it under these limits.
    pub fn into_set(self, limits: &Limits) -> Set {
        match self {
            DumpedSet::Ints(ints) => Set::of_ints(ints, limits),
            DumpedSet::Large(large) => large.into_set(limits),
            DumpedSet::Packed(packed) => Set::of_packed(packed, limits),
            DumpedSet::Members(members) => {
                let mut loader = Loader::new(members.len(), limits);
                let mut text = Vec::new();
                for member in members.view() {
                    text.clear();
                    member.write_to(&mut text);
                    loader.add(&text);
                }
                loader.finish()
            }
        }
    }
}

impl Writer {
    /// Appends the payload of a set.
    pub fn dump_set(&mut self, set: View<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        self.push_set(None, set, out);
        push_footer(out, start);
    }

    /// Appends the type of a set, the key where there is one, and the object.
    pub fn push_set(&mut self, key: Option<&[u8]>, set: View<'_>, out: &mut Vec<u8>) {
        match set {
            View::Ints(ints) => {
                let mut intset = Vec::with_capacity(INTSET_HEADER_BYTES + ints.bytes().len());
                intset.extend_from_slice(&(ints.width() as u32).to_le_bytes());
                intset.extend_from_slice(&(ints.len() as u32).to_le_bytes());
                intset.extend_from_slice(ints.bytes());
                self.push_type(TYPE_SET_INTSET, key, out);
                self.strings.push(out, &intset);
            }
            View::Packed(packed) => {
                self.push_type(TYPE_SET_LISTPACK, key, out);
                self.push_listpack(packed, out);
            }
            View::Table(_) => {
                self.push_type(TYPE_SET, key, out);
                push_length(out, set.len() as u64);
                set.for_each(|member| match member {
                    Element::Bytes(member) => self.strings.push(out, member),
                    Element::Int(member) => self.strings.push_integer(out, member),
                });
            }
        }
    }
}

/// Reads an object of one of the types above.
pub(super) fn read(kind: u8, reader: &mut Reader<'_>, string_max: usize) -> Result<Dumped, RestoreError> {
    let dumped = match kind {
        TYPE_SET_INTSET => read_ints(&reader.text(string_max)?).map(DumpedSet::Ints),
        TYPE_SET_LISTPACK => {
            let mut seen = Seen::default();
            let packed = reader.listpack_shown(string_max, |_, member| seen.add(member))?;
            distinct(packed, &seen)?.map(DumpedSet::Packed)
        }
        _ => read_members(reader, string_max)?,
    };
    dumped.map(Dumped::Set).ok_or(RestoreError::BadData)
}

/// Members, all of which were seen.
fn distinct(members: PackedBuf, seen: &Seen) -> Result<Option<PackedBuf>, RestoreError> {
    if members.is_empty() {
        return Err(RestoreError::Empty);
    }
    Ok(Some(members).filter(|members| seen.are_distinct(members.view().iter())))
}

fn read_ints(intset: &[u8]) -> Option<IntsBuf> {
    let (width, rest) = intset.split_first_chunk::<4>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let ints = Ints::checked(u32::from_le_bytes(*width) as usize, rest)?;
    let right = !ints.is_empty() && ints.len() == u32::from_le_bytes(*count) as usize;
    right.then(|| IntsBuf::copy_of(ints))
}

/// Members behind their count; `None` where one is there twice. Room is made for what is there.
fn read_members(reader: &mut Reader<'_>, string_max: usize) -> Result<Option<DumpedSet>, RestoreError> {
    let Ok(Length::Plain(len)) = reader.length() else { return Err(RestoreError::BadData) };
    if len > TABLE_ABOVE {
        let mut loader = LargeLoader::with_room(reader.worth_room(len));
        for _ in 0..len {
            loader.add(&reader.text(string_max)?);
        }
        return Ok(loader.finish().map(DumpedSet::Large));
    }
    let (mut members, mut seen) = (PackedBuf::new(), Seen::default());
    for _ in 0..len {
        let member = reader.text(string_max)?;
        seen.add(Element::Bytes(&member));
        members.push_back(&member);
    }
    Ok(distinct(members, &seen)?.map(DumpedSet::Members))
}

#[cfg(test)]
mod tests {
    use super::super::restore;
    use super::*;
    use larder_values::collection::{Collection, PackedLimits};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const LIMITS: Limits =
        Limits { ints_max: 8, packed: PackedLimits { entries_max: 6, value_bytes_max: 64 } };

    fn sorted(set: View<'_>) -> BTreeSet<Vec<u8>> {
        let mut members = BTreeSet::new();
        set.for_each(|member| {
            members.insert(member.to_vec());
        });
        members
    }

    fn restored(object: &[u8]) -> Option<Set> {
        let mut payload = object.to_vec();
        push_footer(&mut payload, 0);
        match restore(&payload, 1_000) {
            Ok(Dumped::Set(set)) => Some(set.into_set(&LIMITS)),
            _ => None,
        }
    }

    proptest! {
        #[test]
        fn dumped_then_restored(
            members in proptest::collection::btree_set("[a-c]{0,3}|-?[0-9]{1,4}|x{80}", 1..20)
        ) {
            let mut set = Set::empty();
            for member in &members {
                set.add(member.as_bytes(), &LIMITS);
            }
            let mut payload = Vec::new();
            Writer::new(true).dump_set(set.view(), &mut payload);
            let Ok(Dumped::Set(dumped)) = restore(&payload, 1_000) else { panic!("it was refused") };
            let again = dumped.into_set(&LIMITS);
            again.check();
            prop_assert_eq!(sorted(again.view()), sorted(set.view()));
        }
    }

    #[test]
    fn many_members_have_the_form_of_the_limits() {
        let mut object = b"\x02\x42\x58".to_vec();
        for member in 0..600 {
            object.extend_from_slice(format!("\x0a{member:010}").as_bytes());
        }
        assert_eq!(
            restored(&object).map(|set| (set.len(), Set::encoding(set.view()))),
            Some((600, "hashtable"))
        );
        let mut payload = object.clone();
        push_footer(&mut payload, 0);
        let Ok(Dumped::Set(dumped)) = restore(&payload, 1_000) else { panic!("it was refused") };
        let packed = PackedLimits { entries_max: 1000, value_bytes_max: 64 };
        let set = dumped.into_set(&Limits { ints_max: 1000, packed });
        set.check();
        assert_eq!((set.len(), Set::encoding(set.view())), (600, "listpack"));
        object.truncate(object.len() - 10);
        object.extend_from_slice(b"0000000000");
        assert!(restored(&object).is_none(), "one is there twice");
    }

    #[test]
    fn what_is_refused() {
        for object in [
            &b"\x02\0"[..],                                    // no member
            b"\x02\x02\x01a\x01a",                             // one twice
            b"\x02\x02\x01a",                                  // cut off
            b"\x02\x02\x011\xc0\x01",                          // one twice, differently written
            b"\x0b\x08\x02\0\0\0\0\0\0\0",                     // no integer
            b"\x0b\x0c\x02\0\0\0\x02\0\0\0\x02\0\x01\0",       // not in order
            b"\x0b\x0c\x02\0\0\0\x01\0\0\0\x01\0\x02\0",       // more than announced
            b"\x0b\x0c\x03\0\0\0\x01\0\0\0\x01\0\x02\0",       // no such width
            b"\x14\x07\x07\0\0\0\0\0\xff",                     // no member
            b"\x14\x0d\x0d\0\0\0\x02\0\x81a\x02\x81a\x02\xff", // one twice
            b"\x14\x0d\x0d\0\0\0\x03\0\x81a\x02\x81b\x02\xff", // less than announced
        ] {
            assert!(restored(object).is_none(), "{}", object.escape_ascii());
        }
        assert!(restored(b"\x02\x02\x01a\x01b").is_some());
        assert!(restored(b"\x0b\x0c\x02\0\0\0\x02\0\0\0\x01\0\x02\0").is_some());
        assert!(restored(b"\x14\x0d\x0d\0\0\0\x02\0\x81a\x02\x81b\x02\xff").is_some());
    }
}
