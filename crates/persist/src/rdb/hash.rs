//! Hashes: pairs one by one or as a listpack, with the ends of fields or without.
//!
//! What is read is looked at as a whole before it is believed: fields must differ, ends stand in order.
//! Ends that are over are read like others; whoever holds the hash finds them.

use super::dump::{Dumped, RestoreError, Writer, push_footer};
use super::{BadData, Reader, push_length, ziplist};
use larder_values::hash::{Hash, HashView, Loader, PackedLimits};
use larder_values::packed::{Element, Packed, PackedBuf, Seen, are_distinct};
use std::collections::HashSet;

/// Pairs, one by one.
pub(super) const TYPE_HASH: u8 = 4;
/// A map of bytes, as Redis before 2.6 wrote it.
pub(super) const TYPE_HASH_ZIPMAP: u8 = 9;
/// Pairs in a ziplist.
pub(super) const TYPE_HASH_ZIPLIST: u8 = 13;
/// Pairs in a listpack.
pub(super) const TYPE_HASH_LISTPACK: u8 = 16;
/// Triples with absolute ends, as previews of Redis 7.4 wrote them.
pub(super) const TYPE_HASH_METADATA_OLD: u8 = 22;
/// Triples in a listpack, likewise.
pub(super) const TYPE_HASH_LISTPACK_EX_OLD: u8 = 23;
/// The earliest end, then triples with ends relative to it.
pub(super) const TYPE_HASH_METADATA: u8 = 24;
/// The earliest end, then triples in a listpack.
pub(super) const TYPE_HASH_LISTPACK_EX: u8 = 25;

/// The latest end that is read, Unix ms.
const END_MAX: u64 = (1 << 48) - 2;

/// Fields up to this number may become a packed hash: a listpack counts 65,535 elements.
const PACKED_FIELDS_MAX: u64 = 65_535 / 3;

/// Fields one by one, more than this: they go to a table at once, since no usual limit asks for another form.
const TABLE_ABOVE: u64 = 512;

/// A hash as it was read, before the limits of the small forms are asked.
#[derive(Debug)]
pub enum DumpedHash {
    /// A small form; only its number of fields counts.
    Small(Hash),
    /// Fields one by one, in order.
    Fields {
        /// They.
        fields: Vec<Field>,
        /// Whether each was written with its end, though it be that there is none: the small form has room for ends.
        with_ends: bool,
    },
    /// Many fields, one by one.
    Large {
        /// They, in a table.
        hash: Hash,
        /// As above.
        with_ends: bool,
    },
}

/// A field, its value, and its end if it has one.
pub type Field = (Vec<u8>, Vec<u8>, Option<u64>);

impl DumpedHash {
    /// The hash, in the form that the limits say.
    #[must_use]
    pub fn into_hash(self, limits: PackedLimits) -> Hash {
        match self {
            DumpedHash::Large { hash, .. } if hash.len() > limits.entries_max => hash,
            DumpedHash::Large { hash, with_ends } => hash_of(fields_of(hash.look()), with_ends, limits),
            DumpedHash::Small(mut hash) => {
                if hash.len() > limits.entries_max {
                    hash.make_table();
                }
                hash
            }
            DumpedHash::Fields { fields, with_ends } => hash_of(fields, with_ends, limits),
        }
    }
}

impl PartialEq for DumpedHash {
    fn eq(&self, other: &DumpedHash) -> bool {
        self.sorted() == other.sorted()
    }
}

impl DumpedHash {
    fn sorted(&self) -> Vec<Field> {
        let mut fields = match self {
            DumpedHash::Fields { fields, .. } => fields.clone(),
            DumpedHash::Small(hash) | DumpedHash::Large { hash, .. } => fields_of(hash.look()),
        };
        fields.sort();
        fields
    }
}

fn fields_of(hash: HashView<'_>) -> Vec<Field> {
    let mut fields = Vec::new();
    hash.for_each_stored(|field, value, end| fields.push((field.to_vec(), value.to_vec(), end)));
    fields
}

fn hash_of(mut fields: Vec<Field>, with_ends: bool, limits: PackedLimits) -> Hash {
    let fits = |text: &Vec<u8>| text.len() <= limits.value_bytes_max;
    let is_small = fields.len() <= limits.entries_max
        && fields.len() as u64 <= PACKED_FIELDS_MAX
        && fields.iter().all(|(field, value, _)| fits(field) && fits(value));
    if !is_small {
        return table_of(fields);
    }
    if with_ends {
        // Of two with the same end, the later one stands first.
        fields.reverse();
        fields.sort_by_key(|(_, _, end)| end.unwrap_or(u64::MAX));
        let first = fields.partition_point(|(_, _, end)| end.is_some());
        fields[first..].reverse();
    }
    let mut packed = PackedBuf::new();
    for (field, value, end) in fields {
        packed.push_back(&field);
        packed.push_back(&value);
        if with_ends {
            packed.push_back_int(end.and_then(|end| i64::try_from(end).ok()).unwrap_or(0));
        }
    }
    if with_ends { Hash::of_triples(packed) } else { Hash::of_pairs(packed) }
}

/// The table of fields of which none is there twice.
fn table_of(fields: Vec<Field>) -> Hash {
    let mut loader = Loader::default();
    fields.iter().for_each(|(field, value, end)| loader.add(field, value, *end));
    Hash::of_loaded(loader).unwrap_or_default()
}

impl Writer {
    /// Appends the payload of a hash. O(its size).
    pub fn dump_hash(&mut self, hash: HashView<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        self.push_hash(None, hash, out);
        push_footer(out, start);
    }

    /// Appends the type of a hash, the key where there is one, and the object. O(its size).
    pub fn push_hash(&mut self, key: Option<&[u8]>, hash: HashView<'_>, out: &mut Vec<u8>) {
        match hash {
            HashView::Pairs(pairs) => {
                self.push_type(TYPE_HASH_LISTPACK, key, out);
                self.push_listpack(pairs, out);
            }
            HashView::Triples(triples) => {
                self.push_type(TYPE_HASH_LISTPACK_EX, key, out);
                push_earliest(hash, out);
                self.push_listpack(triples, out);
            }
            HashView::Table(_) => self.push_fields(key, hash, out),
        }
    }

    fn push_fields(&mut self, key: Option<&[u8]>, hash: HashView<'_>, out: &mut Vec<u8>) {
        let earliest = hash.next_due();
        let timed = earliest != u64::MAX;
        if timed {
            self.push_type(TYPE_HASH_METADATA, key, out);
            push_earliest(hash, out);
        } else {
            self.push_type(TYPE_HASH, key, out);
        }
        push_length(out, hash.len() as u64);
        hash.for_each_stored(|field, value, end| {
            if timed {
                push_length(out, end.map_or(0, |end| end - earliest + 1));
            }
            for element in [field, value] {
                match element {
                    Element::Bytes(bytes) => self.strings.push(out, bytes),
                    Element::Int(integer) => self.strings.push_integer(out, integer),
                }
            }
        });
    }
}

/// Appends the earliest end of a field, 0 where there is none.
fn push_earliest(hash: HashView<'_>, out: &mut Vec<u8>) {
    let earliest = Some(hash.next_due()).filter(|due| *due != u64::MAX).unwrap_or(0);
    out.extend_from_slice(&earliest.to_le_bytes());
}

/// Reads the object of one of the types above.
pub(super) fn read(kind: u8, reader: &mut Reader<'_>, string_max: usize) -> Result<Dumped, RestoreError> {
    let bad = |_: BadData| RestoreError::BadData;
    let hash = match kind {
        TYPE_HASH => read_fields(reader, string_max, None)?,
        TYPE_HASH_METADATA_OLD => read_fields(reader, string_max, Some(None))?,
        TYPE_HASH_METADATA => {
            let earliest = u64::from_le_bytes(reader.array().map_err(bad)?);
            read_fields(reader, string_max, Some(Some(earliest)))?
        }
        TYPE_HASH_LISTPACK_EX => {
            // The earliest end is told by the first triple, too.
            reader.take(8).map_err(bad)?;
            read_listpack(reader, 3)?
        }
        TYPE_HASH_LISTPACK_EX_OLD => read_listpack(reader, 3)?,
        TYPE_HASH_ZIPMAP => {
            let fields = read_zipmap(&reader.string(usize::MAX)?).map_err(bad)?;
            DumpedHash::Fields { fields, with_ends: false }
        }
        TYPE_HASH_ZIPLIST => {
            let packed = ziplist::read(&reader.string(usize::MAX)?).map_err(bad)?;
            let mut seen = Seen::default();
            packed.view().iter().step_by(2).for_each(|field| seen.add(field));
            small(packed, 2, &seen)?
        }
        _ => read_listpack(reader, 2)?,
    };
    Ok(Dumped::Hash(hash))
}

/// Fields one by one. `ends`: each begins with its end, relative to an earliest one or absolute.
fn read_fields(
    reader: &mut Reader<'_>,
    string_max: usize,
    ends: Option<Option<u64>>,
) -> Result<DumpedHash, RestoreError> {
    let count = reader.plain_length().map_err(|_| RestoreError::BadData)?;
    if count == 0 {
        return Err(RestoreError::Empty);
    }
    let mut large = (count > TABLE_ABOVE).then(|| Loader::with_room(reader.worth_room(count)));
    let mut fields: Vec<Field> = Vec::new();
    for _ in 0..count {
        let end = match ends {
            None => None,
            Some(earliest) => read_end(reader, earliest)?,
        };
        let (field, value) = (reader.text(string_max)?, reader.text(string_max)?);
        match &mut large {
            Some(loader) => loader.add(&field, &value, end),
            None => fields.push((field.into_owned(), value.into_owned(), end)),
        }
    }
    if !are_distinct(fields.iter().map(|(field, ..)| Element::Bytes(field))) {
        return Err(RestoreError::BadData);
    }
    let with_ends = ends.is_some();
    Ok(match large {
        Some(loader) => {
            let hash = Hash::of_loaded(loader).ok_or(RestoreError::BadData)?;
            DumpedHash::Large { hash, with_ends }
        }
        None => DumpedHash::Fields { fields, with_ends },
    })
}

fn read_end(reader: &mut Reader<'_>, earliest: Option<u64>) -> Result<Option<u64>, RestoreError> {
    let number = reader.plain_length().map_err(|_| RestoreError::BadData)?;
    if number == 0 {
        return Ok(None);
    }
    let end = match earliest {
        None => Some(number),
        Some(earliest) => earliest.checked_add(number - 1),
    };
    let end = end.filter(|end| *end <= END_MAX).ok_or(RestoreError::BadData)?;
    Ok(Some(end).filter(|end| *end > 0))
}

/// A listpack of pairs, or of triples.
fn read_listpack(reader: &mut Reader<'_>, elements: usize) -> Result<DumpedHash, RestoreError> {
    let mut seen = Seen::default();
    let packed = reader.listpack_shown(usize::MAX, |index, element| {
        if index.is_multiple_of(elements) {
            seen.add(element);
        }
    })?;
    small(packed, elements, &seen)
}

/// A small form, if it is one, whose fields were seen.
fn small(packed: PackedBuf, elements: usize, seen: &Seen) -> Result<DumpedHash, RestoreError> {
    if packed.is_empty() {
        return Err(RestoreError::Empty);
    }
    if is_whole(packed.view(), elements, seen) {
        let hash = if elements == 2 { Hash::of_pairs(packed) } else { Hash::of_triples(packed) };
        return Ok(DumpedHash::Small(hash));
    }
    Err(RestoreError::BadData)
}

/// Whether packed elements are pairs or triples as a hash has them: some, all different, ends in order.
fn is_whole(packed: Packed<'_>, elements: usize, seen: &Seen) -> bool {
    let count = packed.len();
    count > 0
        && count.is_multiple_of(elements)
        && (elements < 3 || ends_are_in_order(packed))
        && seen.are_distinct(packed.iter().step_by(elements))
}

fn ends_are_in_order(triples: Packed<'_>) -> bool {
    // None counts as later than all.
    let ends = triples.iter().skip(2).step_by(3).map(as_end);
    let ends = ends.map(|end| end.map(|end| if end == 0 { u64::MAX } else { end }));
    ends.clone().all(|end| end.is_some()) && ends.is_sorted()
}

fn as_end(element: Element<'_>) -> Option<u64> {
    let Element::Int(end) = element else { return None };
    u64::try_from(end).ok().filter(|end| *end <= END_MAX)
}

/// Fields of a zipmap: a count, then for each a length with the field and a length, a number of unused
/// bytes, the value and those bytes; a byte of ones at the end.
fn read_zipmap(zipmap: &[u8]) -> Result<Vec<Field>, BadData> {
    const END: u8 = 0xff;
    const WIDE: u8 = 0xfe;
    let mut reader = Reader::new(zipmap);
    reader.byte()?;
    let (mut fields, mut seen) = (Vec::new(), HashSet::new());
    let length = |reader: &mut Reader<'_>, first: u8| match first {
        END => Err(BadData),
        WIDE => Ok(u64::from(u32::from_le_bytes(reader.array()?))),
        short => Ok(u64::from(short)),
    };
    loop {
        let first = reader.byte()?;
        if first == END {
            break;
        }
        let field_len = length(&mut reader, first)?;
        let field = reader.take(field_len)?.to_vec();
        let first = reader.byte()?;
        let value_len = length(&mut reader, first)?;
        let unused = u64::from(reader.byte()?);
        let value = reader.take(value_len)?.to_vec();
        reader.take(unused)?;
        if !seen.insert(field.clone()) {
            return Err(BadData);
        }
        fields.push((field, value, None));
    }
    if fields.is_empty() || !reader.rest().is_empty() { Err(BadData) } else { Ok(fields) }
}

#[cfg(test)]
mod tests {
    use super::super::dump::restore;
    use super::*;
    use larder_values::collection::Collection;
    use larder_values::hash::End;
    use proptest::prelude::*;

    const LIMITS: PackedLimits = PackedLimits { entries_max: 8, value_bytes_max: 20 };

    fn object(kind: u8, parts: &[&[u8]]) -> Result<Dumped, RestoreError> {
        let mut payload = [&[kind], parts.concat().as_slice()].concat();
        push_footer(&mut payload, 0);
        restore(&payload, 1000)
    }

    fn fields(result: Result<Dumped, RestoreError>) -> Option<Vec<Field>> {
        match result {
            Ok(Dumped::Hash(hash)) => Some(fields_of(hash.into_hash(LIMITS).look())),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert_eq!(error, RestoreError::BadData);
                None
            }
        }
    }

    fn field(field: &str, value: &str, end: Option<u64>) -> Field {
        (field.into(), value.into(), end)
    }

    #[test]
    fn what_redis_reads() {
        let pairs = Some(vec![field("a", "1", None), field("b", "2", None)]);
        assert_eq!(fields(object(4, &[b"\x02\x01a\x011\x01b\xc0\x02"])), pairs);
        assert_eq!(fields(object(9, &[b"\x0c\x02\x01a\x01\x001\x01b\x01\x002\xff"])), pairs);
        let listpack = b"\x11\x11\0\0\0\x04\0\x81a\x02\x01\x01\x81b\x02\x02\x01\xff";
        assert_eq!(fields(object(16, &[listpack])), pairs);
        let timed =
            Some(vec![field("b", "2", Some(1000)), field("c", "3", Some(1031)), field("a", "1", None)]);
        let earliest = 1000_u64.to_le_bytes();
        assert_eq!(
            fields(object(24, &[&earliest, b"\x03\0\x01a\xc0\x01\x01\x01b\xc0\x02\x20\x01c\xc0\x03"])),
            timed
        );
        assert_eq!(
            fields(object(22, &[b"\x03\0\x01a\xc0\x01\x43\xe8\x01b\xc0\x02\x44\x07\x01c\xc0\x03"])),
            timed
        );
        let triples =
            b"\x1d\x1d\0\0\0\x06\0\x81a\x02\x01\x01\xf4\xe8\x03\0\0\0\0\0\0\x09\x81b\x02\x02\x01\0\x01\xff";
        let timed = Some(vec![field("a", "1", Some(1000)), field("b", "2", None)]);
        assert_eq!(fields(object(25, &[&earliest, triples])), timed);
        assert_eq!(fields(object(23, &[triples])), timed);
    }

    #[test]
    fn fields_written_with_ends_have_room_for_ends() {
        let encoding = |kind, parts: &[&[u8]]| match object(kind, parts) {
            Ok(Dumped::Hash(dumped)) => Hash::encoding(dumped.into_hash(LIMITS).look()),
            other => panic!("{other:?}"),
        };
        let earliest = 1000_u64.to_le_bytes();
        assert_eq!(encoding(4, &[b"\x01\x01b\xc0\x02"]), "listpack");
        assert_eq!(encoding(22, &[b"\x01\0\x01b\xc0\x02"]), "listpackex");
        assert_eq!(encoding(24, &[&earliest, b"\x01\0\x01b\xc0\x02"]), "listpackex");
    }

    #[test]
    fn what_redis_refuses() {
        for (kind, bytes) in [
            (4, &b"\0"[..]),
            (4, b"\x02\x01a\x011\x01a\xc0\x02"),
            (4, b"\x02\x01a\x011\x01b"),
            (4, b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\x01a\x011"),
            (9, b"\x02\0\xff"),
            (9, b"\x0c\x02\x01a\x01\x001\x01a\x01\x002\xff"),
            (9, b"\x0c\x02\x01a\x01\x001\x01b\x01\x002\xfe"),
            (16, b"\x07\x07\0\0\0\0\0\xff"),
            (16, b"\x11\x11\0\0\0\x04\0\x81a\x02\x01\x01\x81a\x02\x02\x01\xff"),
            (16, b"\x0f\x0f\0\0\0\x03\0\x81a\x02\x01\x01\x81b\x02\xff"),
            (23, b"\x11\x11\0\0\0\x04\0\x81a\x02\x01\x01\x81b\x02\x02\x01\xff"),
            (23, b"\x15\x15\0\0\0\x06\0\x81a\x02\x01\x01\0\x01\x81b\x02\x02\x01\x05\x01\xff"),
            (23, b"\x15\x15\0\0\0\x06\0\x81a\x02\x01\x01\x81c\x02\x81b\x02\x02\x01\xff"),
            (24, b"\xff\xff\xff\xff\xff\xff\0\0\x01\x01\x01a\x01b"),
            (24, b"\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x01a\x01b"),
        ] {
            assert_eq!(fields(object(kind, &[bytes])), None, "{kind} {}", bytes.escape_ascii());
        }
    }

    fn some_field() -> impl Strategy<Value = Field> {
        let value = prop_oneof![
            any::<i64>().prop_map(|value| value.to_string().into_bytes()),
            proptest::collection::vec(any::<u8>(), 0..30)
        ];
        (proptest::collection::vec(any::<u8>(), 0..3), value, proptest::option::of(1_u64..1 << 46))
    }

    #[test]
    fn many_fields_have_the_form_of_the_limits() {
        let mut parts = b"\x42\x58".to_vec();
        for field in 0..600 {
            parts.extend_from_slice(format!("\x03{field:03}\x01v").as_bytes());
        }
        let hash_under = |entries_max| match object(4, &[&parts[..]]) {
            Ok(Dumped::Hash(dumped)) => dumped.into_hash(PackedLimits { entries_max, value_bytes_max: 20 }),
            other => panic!("{other:?}"),
        };
        for (entries_max, encoding) in [(512, "hashtable"), (600, "listpack")] {
            let hash = hash_under(entries_max);
            hash.check();
            assert_eq!((hash.len(), Hash::encoding(hash.look())), (600, encoding));
        }
        parts.truncate(parts.len() - 6);
        parts.extend_from_slice(b"\x03000\x01v");
        assert_eq!(fields(object(4, &[&parts[..]])), None, "one is there twice");
    }

    proptest! {
        #[test]
        fn dumped_then_restored(
            fields in proptest::collection::vec(some_field(), 1..30),
            entries_max in 0_usize..40,
        ) {
            let mut hash = Hash::default();
            let limits = PackedLimits { entries_max, ..LIMITS };
            for (field, value, end) in &fields {
                hash.set(field, value, end.map_or(End::Clear, End::At), 0, limits);
            }
            let mut payload = Vec::new();
            Writer::new(true).dump_hash(hash.look(), &mut payload);
            let restored = match restore(&payload, 1000) {
                Ok(Dumped::Hash(dumped)) => dumped.into_hash(limits),
                other => panic!("{other:?}"),
            };
            restored.check();
            let (mut before, mut after) = (fields_of(hash.look()), fields_of(restored.look()));
            // A table that has become small comes back in a small form.
            if let HashView::Table(_) = hash.look() {
                before.sort();
                after.sort();
            } else {
                let forms = [hash.look(), restored.look()].map(|view| std::mem::discriminant(&view));
                prop_assert_eq!(forms[0], forms[1]);
            }
            prop_assert_eq!(before, after);
        }
    }
}
