//! Payloads of DUMP and RESTORE: a type byte, an object, two bytes of version, eight of CRC-64.

use super::file::{self, Dialect};
use super::hash::{self, DumpedHash};
use super::list::{self, DumpedList};
use super::set::{self, DumpedSet};
use super::stream::{TYPE_STREAM, TYPE_STREAM_2, TYPE_STREAM_3};
use super::string::StringError;
use super::zset::{self, DumpedZSet};
use super::{Reader, StringWriter, VERSION, VERSION_WITHOUT_FIELD_ENDS};
use crate::crc64;
use larder_values::packed::{Packed, to_listpack};
use larder_values::stream::Stream;

const TYPE_STRING: u8 = 0;

/// Bytes of a buffer that is kept from one object to the next.
pub(super) const BUFFER_KEPT_MAX: usize = 1 << 20;

/// Version and checksum at the end of a payload.
const FOOTER_BYTES: usize = 10;

/// A value read from a payload.
#[derive(Debug, PartialEq)]
pub enum Dumped {
    /// A string.
    String(Vec<u8>),
    /// A sorted set.
    ZSet(DumpedZSet),
    /// A stream.
    Stream(Box<Stream>),
    /// A hash.
    Hash(DumpedHash),
    /// A set.
    Set(DumpedSet),
    /// A list.
    List(DumpedList),
}

/// Why a payload was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// Too short, of a newer version, or with another checksum.
    VersionOrChecksum,
    /// Not an object.
    BadData,
    /// A collection of nothing.
    Empty,
    /// An object of a type that Redis knows and this build does not read; the type byte.
    UnsupportedType(u8),
    /// A string longer than the caller allows.
    TooLong,
}

impl std::fmt::Display for RestoreError {
    /// The error's text as a reply, code first.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RestoreError::VersionOrChecksum => f.write_str("ERR DUMP payload version or checksum are wrong"),
            RestoreError::BadData | RestoreError::Empty => f.write_str("ERR Bad data format"),
            RestoreError::UnsupportedType(kind) => {
                write!(f, "ERR DUMP payload holds a value of RDB type {kind}, which is not supported")
            }
            RestoreError::TooLong => {
                f.write_str("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
            }
        }
    }
}

impl std::error::Error for RestoreError {}

impl From<StringError> for RestoreError {
    fn from(error: StringError) -> RestoreError {
        match error {
            StringError::Bad => RestoreError::BadData,
            StringError::TooLong => RestoreError::TooLong,
        }
    }
}

/// Writes objects and payloads; kept for its compressor's table and its buffers.
pub struct Writer {
    pub(super) strings: StringWriter,
    listpack: Vec<u8>,
}

impl Writer {
    /// A writer that compresses, or does not, as `rdbcompression` says.
    pub fn new(compress: bool) -> Writer {
        Writer { strings: StringWriter::new(compress), listpack: Vec::new() }
    }

    /// Its strings: how they are written, see [`StringWriter::leave`].
    pub fn strings(&mut self) -> &mut StringWriter {
        &mut self.strings
    }

    /// Appends the payload of a string.
    pub fn dump_string(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        self.push_string(None, text, out);
        push_footer(out, start);
    }

    /// Appends the payload of a string that is an integer's decimal text.
    pub fn dump_integer(&mut self, value: i64, out: &mut Vec<u8>) {
        let start = out.len();
        self.push_integer(None, value, out);
        push_footer(out, start);
    }

    /// Appends the type of a string, the key where there is one, and the object.
    pub fn push_string(&mut self, key: Option<&[u8]>, text: &[u8], out: &mut Vec<u8>) {
        self.push_type(TYPE_STRING, key, out);
        self.strings.push(out, text);
    }

    /// The same of a string that is an integer's decimal text.
    pub fn push_integer(&mut self, key: Option<&[u8]>, value: i64, out: &mut Vec<u8>) {
        self.push_type(TYPE_STRING, key, out);
        self.strings.push_integer(out, value);
    }

    /// Appends a type byte, and behind it the key where there is one: in files, not in payloads.
    pub(super) fn push_type(&mut self, kind: u8, key: Option<&[u8]>, out: &mut Vec<u8>) {
        out.push(kind);
        if let Some(key) = key {
            self.strings.push(out, key);
        }
    }

    /// Appends packed elements as a listpack in a string object.
    pub(super) fn push_listpack(&mut self, packed: Packed<'_>, out: &mut Vec<u8>) {
        self.listpack.clear();
        to_listpack(packed, &mut self.listpack);
        self.strings.push(out, &self.listpack);
        self.listpack.shrink_to(BUFFER_KEPT_MAX);
    }
}

impl Writer {
    /// Appends the payload of a stream.
    pub fn dump_stream(&mut self, stream: &Stream, out: &mut Vec<u8>) {
        let start = out.len();
        self.push_stream(None, stream, out);
        push_footer(out, start);
    }

    /// Appends the type of a stream, the key where there is one, and the object.
    pub fn push_stream(&mut self, key: Option<&[u8]>, stream: &Stream, out: &mut Vec<u8>) {
        self.push_type(TYPE_STREAM_3, key, out);
        super::stream::push(&mut self.strings, stream, out);
    }
}

/// Appends version and checksum of a payload that began at `start`.
pub fn push_footer(out: &mut Vec<u8>, start: usize) {
    push_footer_of(VERSION, out, start);
}

/// The same, of the lowest version that has the type of the value: servers that do not know ours read it, too, Valkey among them.
pub fn push_footer_for_any(out: &mut Vec<u8>, start: usize) {
    let has_ends = out.get(start).is_some_and(|kind| *kind >= hash::TYPE_HASH_METADATA_OLD);
    push_footer_of(if has_ends { VERSION } else { VERSION_WITHOUT_FIELD_ENDS }, out, start);
}

fn push_footer_of(version: u16, out: &mut Vec<u8>, start: usize) {
    out.extend_from_slice(&version.to_le_bytes());
    let checksum = crc64::checksum(&out[start..]);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// Appends the payload that DUMP answers for a string, compressed where Redis would.
pub fn dump_string(text: &[u8], out: &mut Vec<u8>) {
    Writer::new(true).dump_string(text, out);
}

/// Appends a payload of a string that any server reads.
pub fn dump_string_for_any(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    Writer::new(true).push_string(None, text, out);
    push_footer_for_any(out, start);
}

/// The value in a payload; `string_max` bounds each string in it. Bytes between the object and
/// the footer are ignored, as Redis does.
// Differs from Redis: an object that runs into the footer is refused, where Redis reads the
// footer's bytes as the object's.
// Differs from Redis: payloads of Valkey 9 are read, whose versions are numbers of its own.
pub fn restore(payload: &[u8], string_max: usize) -> Result<Dumped, RestoreError> {
    let (body, dialect) = checked_body(payload).ok_or(RestoreError::VersionOrChecksum)?;
    let mut reader = Reader::new(body);
    let kind = reader.byte().map_err(|_| RestoreError::BadData)?;
    let read = match dialect {
        Dialect::Redis => read_object(kind, &mut reader, string_max),
        Dialect::Valkey => file::read_valkey(kind, &mut reader, string_max),
    };
    read.map_err(|error| match error {
        RestoreError::Empty => RestoreError::BadData,
        error => error,
    })
}

/// Reads the object of a type that payloads may have.
pub(super) fn read_object(
    kind: u8,
    reader: &mut Reader<'_>,
    string_max: usize,
) -> Result<Dumped, RestoreError> {
    match kind {
        TYPE_STRING => Ok(Dumped::String(reader.string(string_max)?)),
        zset::TYPE_ZSET => zset::read_pairs(reader, string_max, zset::text_score),
        zset::TYPE_ZSET_2 => zset::read_pairs(reader, string_max, zset::binary_score),
        zset::TYPE_ZSET_LISTPACK => zset::read_listpack(reader),
        zset::TYPE_ZSET_ZIPLIST => zset::read_ziplist(reader),
        kind @ (TYPE_STREAM | TYPE_STREAM_2 | TYPE_STREAM_3) => {
            Ok(Dumped::Stream(Box::new(reader.stream(kind, string_max)?)))
        }
        kind @ (hash::TYPE_HASH
        | hash::TYPE_HASH_ZIPMAP
        | hash::TYPE_HASH_ZIPLIST
        | hash::TYPE_HASH_LISTPACK
        | hash::TYPE_HASH_METADATA_OLD..=hash::TYPE_HASH_LISTPACK_EX) => hash::read(kind, reader, string_max),
        kind @ (set::TYPE_SET | set::TYPE_SET_INTSET | set::TYPE_SET_LISTPACK) => {
            set::read(kind, reader, string_max)
        }
        list::TYPE_LIST => list::read_elements(reader, string_max),
        list::TYPE_LIST_ZIPLIST => list::read_ziplist(reader),
        list::TYPE_LIST_QUICKLIST => list::read_ziplists(reader),
        list::TYPE_LIST_QUICKLIST_2 => list::read_listpacks(reader, string_max),
        // 8 was never used; 26 and up are not objects.
        kind @ (6 | 7) => Err(RestoreError::UnsupportedType(kind)),
        _ => Err(RestoreError::BadData),
    }
}

/// The payload without its footer, if that is right, and whose it is.
pub(super) fn checked_body(payload: &[u8]) -> Option<(&[u8], Dialect)> {
    let (body, footer) = payload.split_at_checked(payload.len().checked_sub(FOOTER_BYTES)?)?;
    let (version, checksum) = footer.split_first_chunk::<2>()?;
    let summed = &payload[..payload.len() - checksum.len()];
    let dialect = match u16::from_le_bytes(*version) {
        ..=VERSION => Dialect::Redis,
        version if file::VALKEY_VERSIONS.contains(&u32::from(version)) => Dialect::Valkey,
        _ => return None,
    };
    (crc64::checksum(summed).to_le_bytes() == *checksum).then_some((body, dialect))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payload(object: &[u8], version: u16) -> Vec<u8> {
        let mut out = [object, &version.to_le_bytes()].concat();
        let checksum = crc64::checksum(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    #[test]
    fn payloads_as_redis_writes_them() {
        let mut out = b"before".to_vec();
        dump_string(b"hello world", &mut out);
        assert_eq!(out, b"before\0\x0bhello world\x0c\0\xc0\x8a}y\\\xed>}");
        out.clear();
        Writer::new(true).dump_integer(128, &mut out);
        assert_eq!(out, b"\0\xc1\x80\0\x0c\0 \x0c\x87u\xea\xe5\xd5,");
    }

    #[test]
    fn what_is_refused_and_why() {
        let text = |bytes: &[u8]| Ok(Dumped::String(bytes.to_vec()));
        for (object, result) in [
            (&b"\0\x01a"[..], text(b"a")),
            (b"\0\x01axyz", text(b"a")),
            (b"\0\x40\x01a", text(b"a")),
            (b"\0\x81\0\0\0\0\0\0\0\x01a", text(b"a")),
            (b"\0\x05a", Err(RestoreError::BadData)),
            (b"\0", Err(RestoreError::BadData)),
            (b"", Err(RestoreError::BadData)),
            (b"\x08\x01a", Err(RestoreError::BadData)),
            (b"\x1a\x01a", Err(RestoreError::BadData)),
            (b"\0\x81\xff\xff\xff\xff\xff\xff\xff\xff", Err(RestoreError::BadData)),
        ] {
            assert_eq!(restore(&payload(object, 12), 100), result, "{object:?}");
        }
        for version in 0..=12 {
            assert_eq!(restore(&payload(b"\0\x01a", version), 100), text(b"a"));
        }
        assert_eq!(restore(&payload(b"\0\x01a", 80), 100), text(b"a"));
        for version in [13, 14, 79, 81, 255, 0xff00] {
            assert_eq!(restore(&payload(b"\0\x01a", version), 100), Err(RestoreError::VersionOrChecksum));
        }
        for short in [&b""[..], b"123456789"] {
            assert_eq!(restore(short, 100), Err(RestoreError::VersionOrChecksum));
        }
    }

    #[test]
    fn a_type_means_in_a_payload_of_valkey_what_it_means_there() {
        let end = 1_800_000_000_000_u64;
        let object = [&b"\x16\x01\x01f\x01v"[..], &end.to_le_bytes()].concat();
        let Ok(Dumped::Hash(hash)) = restore(&payload(&object, 80), 100) else { panic!("no hash") };
        let DumpedHash::Fields { fields, with_ends: true } = hash else { panic!("no ends") };
        assert_eq!(fields, [(b"f".to_vec(), b"v".to_vec(), Some(end))]);
        assert_eq!(restore(&payload(&object, 12), 100), Err(RestoreError::BadData));
        let long = [&b"\x16\x01\x01f\x40\x65"[..], &[b'v'; 101], &end.to_le_bytes()].concat();
        assert_eq!(restore(&payload(&long, 80), 100), Err(RestoreError::TooLong));
    }

    #[test]
    fn a_payload_for_any_has_the_lowest_version_that_will_do() {
        let version = |object: &[u8]| {
            let mut out = [b"before", object].concat();
            push_footer_for_any(&mut out, 6);
            assert!(checked_body(&out[6..]).is_some());
            out[out.len() - FOOTER_BYTES]
        };
        assert_eq!(
            (version(b"\0\x01a"), version(b"\x15"), version(b"\x18"), version(b"\x19")),
            (11, 11, 12, 12)
        );
        let mut out = Vec::new();
        dump_string_for_any(b"a", &mut out);
        assert_eq!(out[..5], *b"\0\x01a\x0b\0");
    }

    proptest! {
        #[test]
        fn dumped_then_restored(text in proptest::collection::vec(any::<u8>(), 0..300), times in 1_usize..20) {
            let (text, mut out) = (text.repeat(times), Vec::new());
            dump_string(&text, &mut out);
            prop_assert_eq!(restore(&out, text.len()), Ok(Dumped::String(text)));
        }

        #[test]
        fn one_changed_bit_is_seen(text in "[a-z]{0,60}", at: usize) {
            let mut out = Vec::new();
            dump_string(text.as_bytes(), &mut out);
            let at = at % (out.len() * 8);
            out[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(restore(&out, 1000), Err(RestoreError::VersionOrChecksum));
        }
    }
}
