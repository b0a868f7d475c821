//! Lists: since Redis 7 chunks, each a listpack or one large element.
//!
//! Older forms are read: elements one by one, one ziplist, and chunks that are ziplists.
//! Invariant: what is read is checked as a whole, and holds at least one element.

use super::dump::{Dumped, RestoreError, Writer, push_footer};
use super::{BadData, Reader, push_length, ziplist};
use larder_values::list::{Limit, List, ListView};
use larder_values::packed::{Element, Packed, PackedBuf};

pub(super) const TYPE_LIST: u8 = 1;
pub(super) const TYPE_LIST_ZIPLIST: u8 = 10;
pub(super) const TYPE_LIST_QUICKLIST: u8 = 14;
pub(super) const TYPE_LIST_QUICKLIST_2: u8 = 18;

/// What a chunk is: one large element, or a listpack.
const CHUNK_PLAIN: u64 = 1;
const CHUNK_PACKED: u64 = 2;

/// A list from a payload.
#[derive(Debug, PartialEq)]
pub enum DumpedList {
    /// Elements, to be put into chunks of whatever size is in force.
    Elements {
        /// The elements.
        elements: PackedBuf,
        /// Whether the list stays in chunks also where it could be small.
        stays: bool,
    },
    /// Chunks, which stay as they are.
    Chunks(Vec<DumpedChunk>),
}

/// A chunk from a payload.
#[derive(Debug, PartialEq)]
pub enum DumpedChunk {
    /// One large element.
    Plain(Vec<u8>),
    /// Elements; some.
    Packed(PackedBuf),
}

impl DumpedChunk {
    /// Chunks without elements are passed over, as in Redis.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, DumpedChunk::Packed(packed) if packed.is_empty())
    }
}

impl DumpedList {
    /// The list, in the form that it has under the limit in force.
    pub fn into_list(self, limit: Limit) -> List {
        let mut list = List::of_chunks(limit);
        match self {
            DumpedList::Elements { elements, stays } => {
                list.append_each(elements.view());
                if stays {
                    return list;
                }
            }
            DumpedList::Chunks(chunks) => {
                for chunk in chunks {
                    match chunk {
                        DumpedChunk::Plain(text) => list.append_plain(&text),
                        DumpedChunk::Packed(packed) => list.append_chunk(packed),
                    }
                }
            }
        }
        list.settle(limit, false);
        list
    }
}

impl Writer {
    /// Appends the payload of a list.
    pub fn dump_list(&mut self, list: ListView<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        self.push_list(None, list, out);
        push_footer(out, start);
    }

    /// Appends the type of a list, the key where there is one, and the object.
    pub fn push_list(&mut self, key: Option<&[u8]>, list: ListView<'_>, out: &mut Vec<u8>) {
        self.push_type(TYPE_LIST_QUICKLIST_2, key, out);
        match list {
            ListView::Bare(bare) => {
                push_length(out, 1);
                self.push_packed(bare.to_packed().view(), out);
            }
            ListView::Packed(packed) => {
                push_length(out, 1);
                self.push_packed(packed, out);
            }
            ListView::Quick(quick) => {
                push_length(out, quick.chunks() as u64);
                quick.for_each_chunk(|is_plain, packed| match packed.iter().next().filter(|_| is_plain) {
                    Some(Element::Bytes(text)) => {
                        push_length(out, CHUNK_PLAIN);
                        self.strings.push(out, text);
                    }
                    Some(Element::Int(value)) => {
                        push_length(out, CHUNK_PLAIN);
                        self.strings.push_integer(out, value);
                    }
                    None => self.push_packed(packed, out),
                });
            }
        }
    }

    fn push_packed(&mut self, packed: Packed<'_>, out: &mut Vec<u8>) {
        push_length(out, CHUNK_PACKED);
        self.push_listpack(packed, out);
    }
}

/// Reads an object of type 1: elements behind their number.
pub(super) fn read_elements(reader: &mut Reader<'_>, string_max: usize) -> Result<Dumped, RestoreError> {
    let len = reader.plain_length().map_err(bad)?;
    // Room is made as elements arrive: the number is only what is announced.
    let mut elements = PackedBuf::new();
    for _ in 0..len {
        elements.push_back(&reader.string(string_max)?);
    }
    loose(elements, false)
}

/// Reads an object of type 10: one ziplist. Redis makes a large list of it whatever its size.
pub(super) fn read_ziplist(reader: &mut Reader<'_>) -> Result<Dumped, RestoreError> {
    let bytes = reader.string(usize::MAX)?;
    let elements = ziplist::read(&bytes).map_err(bad)?;
    loose(elements, true)
}

/// Reads an object of type 14: ziplists behind their number.
pub(super) fn read_ziplists(reader: &mut Reader<'_>) -> Result<Dumped, RestoreError> {
    read_chunks(reader, |reader| {
        let bytes = reader.string(usize::MAX)?;
        ziplist::read(&bytes).map(DumpedChunk::Packed).map_err(bad)
    })
}

/// Reads an object of type 18: listpacks and large elements behind their number.
pub(super) fn read_listpacks(reader: &mut Reader<'_>, string_max: usize) -> Result<Dumped, RestoreError> {
    read_chunks(reader, |reader| read_chunk(reader, string_max))
}

/// Reads a chunk of an object of type 18, which may be empty.
pub(super) fn read_chunk(reader: &mut Reader<'_>, string_max: usize) -> Result<DumpedChunk, RestoreError> {
    match reader.plain_length().map_err(bad)? {
        CHUNK_PLAIN => match reader.string(string_max)? {
            text if text.is_empty() => Err(RestoreError::BadData),
            text => Ok(DumpedChunk::Plain(text)),
        },
        CHUNK_PACKED => Ok(DumpedChunk::Packed(reader.listpack(usize::MAX)?)),
        _ => Err(RestoreError::BadData),
    }
}

fn read_chunks(
    reader: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<DumpedChunk, RestoreError>,
) -> Result<Dumped, RestoreError> {
    let len = reader.plain_length().map_err(bad)?;
    let mut chunks = Vec::new();
    for _ in 0..len {
        let chunk = read(reader)?;
        if !chunk.is_empty() {
            chunks.push(chunk);
        }
    }
    if chunks.is_empty() { Err(RestoreError::Empty) } else { Ok(Dumped::List(DumpedList::Chunks(chunks))) }
}

fn loose(elements: PackedBuf, stays: bool) -> Result<Dumped, RestoreError> {
    if elements.is_empty() {
        return Err(RestoreError::Empty);
    }
    Ok(Dumped::List(DumpedList::Elements { elements, stays }))
}

fn bad(BadData: BadData) -> RestoreError {
    RestoreError::BadData
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::restore;
    use larder_values::collection::Collection;
    use larder_values::list::End;

    fn payload(object: &[u8]) -> Vec<u8> {
        let mut out = object.to_vec();
        push_footer(&mut out, 0);
        out
    }

    fn texts(dumped: Dumped) -> Vec<String> {
        let Dumped::List(list) = dumped else { panic!("not a list") };
        let list = list.into_list(Limit::of(3));
        list.check();
        list.view().to_vecs().into_iter().map(|element| String::from_utf8(element).unwrap()).collect()
    }

    #[test]
    fn what_is_dumped_is_restored() {
        for (count, long) in [(1, 0), (3, 0), (4, 0), (100, 0), (7, 9000)] {
            let limit = Limit::of(3);
            let mut list = List::empty();
            for number in 0..count {
                let text = format!("{number}{}", "x".repeat(if number % 3 == 1 { long } else { 0 }));
                list.make_room(limit, text.len(), 1);
                list.push(End::Tail, text.as_bytes());
            }
            let mut out = Vec::new();
            Writer::new(true).dump_list(list.view(), &mut out);
            let Ok(Dumped::List(dumped)) = restore(&out, 1 << 20) else { panic!("own payload was refused") };
            let again = dumped.into_list(limit);
            assert_eq!(again.view().is_quick(), list.view().is_quick());
            assert_eq!(again.view().to_vecs(), list.view().to_vecs());
            let mut second = Vec::new();
            Writer::new(true).dump_list(again.view(), &mut second);
            assert_eq!(second, out);
        }
    }

    #[test]
    fn older_forms_are_read() {
        let ziplist = b"\x12\0\0\0\x0d\0\0\0\x02\0\0\x01a\x03\x0215\xff";
        let ziplist = [&[ziplist.len() as u8], &ziplist[..]].concat();
        let mut lengths = ziplist.clone();
        lengths[1] = ziplist.len() as u8 - 1;
        for (object, expected) in [
            (b"\x01\x03\x01a\xc0\x05\x01b".to_vec(), vec!["a", "5", "b"]),
            ([b"\x0a", &lengths[..]].concat(), vec!["a", "15"]),
            ([b"\x0e\x02", &lengths[..], &lengths[..]].concat(), vec!["a", "15", "a", "15"]),
            (b"\x12\x02\x01\x03abc\x02\x09\x09\0\0\0\x01\0\x07\x01\xff".to_vec(), vec!["abc", "7"]),
        ] {
            let dumped = restore(&payload(&object), 100);
            assert_eq!(dumped.map(texts), Ok(expected.iter().map(|text| (*text).to_owned()).collect()));
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for object in [
            &b"\x01\0"[..],
            b"\x01\x02\x01a",
            b"\x01\xc0\x01a",
            b"\x0a\0",
            b"\x0e\0",
            b"\x12\0",
            b"\x12\x01",
            b"\x12\x01\x03\x01a",
            b"\x12\x01\x02\x07\x07\0\0\0\0\0\xff",
            b"\x12\x01\x02\x09\x09\0\0\0\x01\0\x07\x02\xff",
            b"\x12\x01\x02\x09\x09\0\0\0\x02\0\x07\x01\xff",
            b"\x12\x81\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01a",
        ] {
            let refused = restore(&payload(object), 100);
            assert_eq!(refused, Err(RestoreError::BadData), "{}", object.escape_ascii());
        }
    }
}
