//! Files that are read: whole, in pieces, of every version, broken.

use super::*;
use crate::crc64;
use crate::fuzz::InParts;
use crate::rdb::VERSION;
use crate::rdb::{Dumped, DumpedHash, Writer};
use larder_values::collection::PackedLimits;
use proptest::prelude::*;

const TERMS: Terms =
    Terms { databases: 16, skips_modules: false, sums: true, stops_behind: b"", whole_max: usize::MAX };

/// What a file says, in the order in which it says it.
#[derive(Debug, Default, PartialEq)]
struct Read {
    about: Vec<About>,
    keys: Vec<(u64, Vec<u8>, Head, String)>,
    /// Bytes of the file.
    bytes: u64,
    /// Pieces that were part of a value.
    parts: u64,
}

/// Reads a file that arrives `step` bytes at a time.
fn read(file: &[u8], step: usize, terms: Terms) -> Result<Read, FileError> {
    let (mut read, mut cutter) = (Read::default(), Cutter::new(terms));
    let (mut start, mut end) = (0, 0);
    let mut in_parts = InParts::default();
    loop {
        let offered = &file[start..end];
        let cut = cutter.cut(offered, &mut |about| read.about.push(about))?;
        let piece = &offered[..cut.bytes];
        let mut records = Records::new(piece, &cut, cutter.dialect());
        let mut keys = 0;
        if let Some(part) = cut.part {
            read.parts += 1;
            if let Some((record, value)) = in_parts.take(piece, (&cut, part), cutter.dialect()) {
                keys += 1;
                let value = format!("{:?}", value?);
                read.keys.push((record.db, record.key.into_owned(), record.head, value));
            }
        }
        while cut.at != 0
            && cut.part.is_none()
            && let Some(record) = records.next_key()?
        {
            let value = format!("{:?}", records.value(&record)?);
            keys += 1;
            read.keys.push((record.db, record.key.into_owned(), record.head, value));
        }
        assert_eq!(keys, cut.keys);
        start += cut.bytes;
        assert_eq!(cutter.taken(), start as u64);
        if cut.is_last {
            read.bytes = start as u64;
            return Ok(read);
        }
        if cut.bytes == 0 {
            assert!(cutter.wanted() > offered.len() as u64, "nothing was taken of what was enough");
            if end == file.len() {
                return Err(cutter.short(offered));
            }
            end = (end + step).min(file.len());
        }
    }
}

fn ended(mut file: Vec<u8>) -> Vec<u8> {
    push_end(&mut file, crc64::checksum);
    file
}

/// A file of one key of Redis' version 12, or of another header.
fn one(header: &[u8], record: &[u8]) -> Vec<u8> {
    ended([header, record].concat())
}

fn value(header: &[u8], record: &[u8]) -> Result<Value<'static>, Why> {
    let file = one(header, record);
    let mut cutter = Cutter::new(TERMS);
    cutter.cut(&file, &mut |_| ()).map_err(|error| error.why)?;
    let rest = &file[HEADER_BYTES..];
    let cut = cutter.cut(rest, &mut |_| ()).map_err(|error| error.why)?;
    let mut records = Records::new(&rest[..cut.bytes], &cut, cutter.dialect());
    let key = records.next_key().map_err(|error| error.why)?.expect("a key");
    assert_eq!(&*key.key, b"k");
    let value = match records.value(&key).map_err(|error| error.why)? {
        Value::Text(text) => Value::Text(text.into_owned().into()),
        Value::Integer(integer) => Value::Integer(integer),
        Value::Collection(dumped) => Value::Collection(dumped),
        Value::Empty => Value::Empty,
        Value::Skipped => Value::Skipped,
    };
    assert!(records.next_key().map_err(|error| error.why)?.is_none());
    Ok(value)
}

fn text(text: &[u8]) -> Value<'static> {
    Value::Text(text.to_vec().into())
}

fn hash(fields: &[(&str, &str, Option<u64>)]) -> Value<'static> {
    let field = |&(field, value, end): &(&str, &str, Option<u64>)| (field.into(), value.into(), end);
    let fields: Vec<_> = fields.iter().map(field).collect();
    let with_ends = fields.iter().any(|(_, _, end): &(_, _, Option<u64>)| end.is_some());
    Value::Collection(Dumped::Hash(DumpedHash::Fields { fields, with_ends }))
}

#[test]
fn every_version_is_read() {
    for version in 1..=12 {
        let header = format!("REDIS{version:04}").into_bytes();
        let file = [&header[..], b"\xfe\x03\x00\x01k\x01v\xff"].concat();
        let sum = if version < 5 { 0 } else { crc64::checksum(&file) };
        let whole = [&file[..], if version < 5 { &[] } else { &[0; 8] }].concat();
        let summed = [&file[..], &sum.to_le_bytes()[..if version < 5 { 0 } else { 8 }], b"more"].concat();
        for file in [&whole, &summed] {
            let read = read(file, 3, TERMS).unwrap();
            assert_eq!(read.keys, [(3, b"k".to_vec(), Head::default(), format!("{:?}", text(b"v")))]);
            assert_eq!(read.bytes, whole.len() as u64);
        }
    }
    for header in ["REDIS0000", "REDIS0013", "REDIS0080", "VALKEY079", "VALKEY081"] {
        let version = header[header.len() - 3..].parse().unwrap();
        assert_eq!(read(header.as_bytes(), 9, TERMS).unwrap_err().why, Why::Version(version), "{header}");
    }
    for header in ["REDIS00x1", "redis0012", "VALKEY 80", "<!DOCTYPE"] {
        assert_eq!(read(header.as_bytes(), 9, TERMS).unwrap_err().why, Why::NotRdb, "{header}");
    }
    assert_eq!(read(b"REDIS00", 9, TERMS).unwrap_err().why, Why::Short);
}

#[test]
fn what_is_known_of_a_key_stands_in_front_of_it() {
    let file = one(
        b"REDIS0012",
        b"\xf4\x01\x02\x03\xfe\x02\xfb\x02\x01\xfd\x10\0\0\0\xf8\x05\0\x01a\x01x\xfc\xff\xff\xff\xff\xff\xff\xff\xff\xf9\x07\0\x01b\x01x\
          \xfd\xf0\xff\xff\xff\0\x01c\x01x\xdc\x03\0\0\0\x09\0\0\0\0\x01d\x01x",
    );
    let read = read(&file, 1, TERMS).unwrap();
    let head = |end_ms, access| Head { end_ms, access };
    let heads: Vec<_> = read.keys.iter().map(|(db, key, head, _)| (*db, key.as_slice(), *head)).collect();
    let expected = [
        (2, &b"a"[..], head(Some(16_000), Access::Idle(5))),
        (2, b"b", head(None, Access::Frequency(7))),
        (2, b"c", head(Some(0), Access::Unknown)),
        (2, b"d", head(None, Access::Unknown)),
    ];
    assert_eq!(heads, expected);
    assert_eq!(read.about, [About::Sizes { db: 2, keys: 2, ending: 1 }]);
}

#[test]
fn forms_of_others_are_read() {
    let valkey = b"\x16\x01k\x02\x01a\xc0\x01\x00\xd8\xc3\x2c\xbb\x03\0\0\x01b\xc0\x02\xff\xff\xff\xff\xff\xff\xff\xff";
    let fields = hash(&[("a", "1", Some(4_102_444_800_000)), ("b", "2", None)]);
    assert_eq!(value(b"VALKEY080", valkey), Ok(fields));
    // Redis' 22 is another form.
    let old = b"\x16\x01k\x01\x43\xe8\x01a\x011";
    assert_eq!(value(b"REDIS0012", old), Ok(hash(&[("a", "1", Some(1000))])));
    let dragonfly = b"\x1f\x01k\x02\x01a\xc0\x01\xc0\x0a\x01b\xc0\x02\xc0\xff";
    let fields = hash(&[("a", "1", Some(1_675_209_610_000)), ("b", "2", None)]);
    assert_eq!(value(b"REDIS0009", dragonfly), Ok(fields));
    let members = value(b"REDIS0009", b"\x20\x01k\x01\x01a\xc0\xff");
    assert!(matches!(members, Ok(Value::Collection(Dumped::Set(_)))), "{members:?}");
    let ending = value(b"REDIS0009", b"\x20\x01k\x01\x01a\xc0\x05");
    assert!(matches!(ending, Err(Why::Foreign(_))), "{ending:?}");
}

#[test]
fn what_is_nothing_is_no_key() {
    for record in [
        &b"\x01\x01k\0"[..],
        b"\x02\x01k\0",
        b"\x03\x01k\0",
        b"\x05\x01k\0",
        b"\x04\x01k\0",
        b"\x0e\x01k\0",
        b"\x12\x01k\0",
        b"\x18\x01k\0\0\0\0\0\0\0\0\0",
        b"\x10\x01k\x07\x07\0\0\0\0\0\xff",
        b"\x11\x01k\x07\x07\0\0\0\0\0\xff",
        b"\x14\x01k\x07\x07\0\0\0\0\0\xff",
        b"\x1f\x01k\0",
        b"\x20\x01k\0",
    ] {
        assert_eq!(value(b"REDIS0012", record), Ok(Value::Empty), "{}", record.escape_ascii());
    }
}

#[test]
fn modules_are_refused_by_name_or_left_out() {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let id = "ReJSON-RL".chars().fold(0_u64, |id, c| id << 6 | letters.find(c).unwrap() as u64) << 10 | 3;
    let id = [&[0x81], &id.to_be_bytes()[..]].concat();
    let data = b"\x01\x05\x02\x07\x03abcd\x04abcdefgh\x05\x03str\0";
    let beside = [&b"\xf7"[..], &id, b"\x02\x01", data].concat();
    let value = [&b"\x07\x01k"[..], &id, data].concat();
    let json = b"\x1e\x01j\x02{}".to_vec();
    let skipping = Terms { skips_modules: true, ..TERMS };
    for record in [&beside, &value] {
        let file = one(b"REDIS0012", record);
        assert_eq!(read(&file, 5, TERMS).unwrap_err().why, Why::Module("ReJSON-RL".into()));
    }
    let file = one(b"REDIS0012", &[beside, b"\0\x01a\x01x".to_vec(), value, json].concat());
    let read = read(&file, 5, skipping).unwrap();
    assert_eq!(read.about, [About::SkippedModule("ReJSON-RL".into())]);
    let values: Vec<_> = read.keys.iter().map(|(_, _, _, value)| value.clone()).collect();
    let skipped = format!("{:?}", Value::Skipped);
    assert_eq!(values, [format!("{:?}", text(b"x")), skipped.clone(), skipped]);
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_key() {
    let good = b"\xfe\x01\0\x01a\x01x";
    let at = (HEADER_BYTES + good.len()) as u64;
    for (record, place, key, why) in [
        (&b"\x01\x01k\x02\x01a\xc4"[..], at + 7, Some(b"k"), Why::Bad("a string of unknown encoding")),
        (b"\x08\x01k\x01a", at + 3, Some(b"k"), Why::Unknown(8)),
        (b"\xc8", at + 2, None, Why::Bad("a string of unknown encoding")),
        (
            b"\x06\x01k\x01a",
            at + 3,
            Some(b"k"),
            Why::Foreign("a value of a module, as previews of Redis 4 wrote it"),
        ),
        (b"\xf6\x01a", at + 1, None, Why::EarlyFunctions),
        (b"\xf0", at + 1, None, Why::Unknown(0xf0)),
        (b"\xfe\x10", at + 2, None, Why::Databases(16)),
        (b"\xf8\x01\xff", at + 3, None, Why::Bad("what is known of a key, with no key behind it,")),
        (b"\x05\x01k\x01\x01a\0\0\0\0\0\0\xf8\x7f", at, Some(b"k"), Why::Value),
        (b"\x02\x01k\x02\x01a\x01a", at, Some(b"k"), Why::Value),
        (b"\xfc\0\0\0\0\0\0\0\0\x0d\x01k\x01a", at, Some(b"k"), Why::Value),
    ] {
        let error = read(&one(b"REDIS0012", &[good, record].concat()), 4, TERMS).unwrap_err();
        let key = key.map(|key| (1, Box::from(&key[..])));
        assert_eq!(error, FileError { at: place, key, why }, "{}", record.escape_ascii());
    }
    // Of several things that are wrong the first is told, whatever was offered at once.
    let (bad_value, bad_record) = (&b"\x02\x01k\x02\x01a\x01a"[..], &b"\xfe\x10"[..]);
    let mut twice = one(b"REDIS0012", &[good, bad_value, bad_record].concat());
    for step in [1, 7, twice.len()] {
        assert_eq!(read(&twice, step, TERMS).unwrap_err().why, Why::Value);
    }
    twice.truncate(twice.len() - bad_record.len() - 9);
    twice.extend_from_slice(b"\xffno sum!!");
    for step in [1, 7, twice.len()] {
        assert_eq!(read(&twice, step, TERMS).unwrap_err().why, Why::Value);
    }
    let whole = one(b"REDIS0012", good);
    for len in 0..whole.len() {
        let error = read(&whole[..len], 3, TERMS).unwrap_err();
        assert_eq!((error.why, error.at), (Why::Short, len as u64));
    }
    let mut wrong = whole.clone();
    wrong[at as usize - 1] = b'y';
    let error = read(&wrong, 9, TERMS).unwrap_err();
    assert!(matches!(error.why, Why::Checksum { .. }), "{error}");
    assert!(read(&wrong, 9, Terms { sums: false, ..TERMS }).is_ok());
}

/// A file of a list and a stream of many nodes each, and of keys in front of them, between them and behind.
fn long_values() -> Vec<u8> {
    use larder_values::collection::Collection;
    use larder_values::list::{End, Limit, List};
    use larder_values::stream::{NodeLimits, Pending, Stream, StreamId};
    let limit = Limit::of(3);
    let mut list = List::empty();
    for number in 0..100 {
        let text = if number % 10 == 3 { "long".repeat(3000) } else { format!("element {number}") };
        list.make_room(limit, text.len(), 1);
        list.push(End::Tail, text.as_bytes());
    }
    let mut stream = Stream::new();
    for ms in 1..200 {
        let limits = NodeLimits { entries_max: 3, bytes_max: 4096 };
        stream.add(StreamId::new(ms, 0), [&b"field"[..], b"value"].into_iter(), limits).unwrap();
    }
    stream.create_group(b"group", StreamId::new(5, 0), None);
    let group = stream.group_mut(b"group").unwrap();
    let consumer = group.create_consumer(b"alice", 1000).unwrap();
    group.put_pending(StreamId::new(2, 0), Pending { delivered_ms: 1400, deliveries: 2, consumer });
    let (mut out, mut writer) = (Vec::new(), Writer::new(true));
    push_header(VERSION, &mut out);
    push_select(3, &mut out);
    writer.push_string(Some(b"first"), b"1", &mut out);
    push_head(Head { end_ms: Some(1 << 41), access: Access::Idle(7) }, &mut out);
    writer.push_list(Some(b"list"), list.view(), &mut out);
    writer.push_string(Some(b"between"), b"text", &mut out);
    writer.push_stream(Some(b"stream"), &stream, &mut out);
    writer.push_string(Some(b"last"), b"text", &mut out);
    ended(out)
}

#[test]
fn a_value_in_parts_is_the_value() {
    let file = long_values();
    let whole = read(&file, 1 << 20, TERMS).unwrap();
    assert_eq!((whole.keys.len(), whole.parts), (5, 0));
    for (whole_max, step) in [(0, 1), (0, 50), (100, 7), (1000, 300), (1000, 1000)] {
        let in_parts = read(&file, step, Terms { whole_max, ..TERMS }).unwrap();
        assert!(in_parts.parts >= 4, "{} parts for {whole_max} bytes", in_parts.parts);
        assert_eq!(Read { parts: 0, ..in_parts }, whole, "{whole_max} {step}");
    }
    // What is all there at once is not cut.
    assert_eq!(read(&file, 1 << 20, Terms { whole_max: 0, ..TERMS }).unwrap().parts, 0);
}

#[test]
fn what_is_wrong_with_a_value_in_parts_is_told_as_of_a_whole_one() {
    let file = long_values();
    for at in (0..file.len() - 8).step_by(37) {
        let mut wrong = file.clone();
        wrong[at] ^= 0x21;
        let terms = Terms { sums: false, ..TERMS };
        let whole = read(&wrong, file.len(), terms);
        let in_parts = read(&wrong, 100, Terms { whole_max: 0, ..terms });
        assert_eq!(in_parts.map(|read| Read { parts: 0, ..read }), whole, "byte {at}");
        let short = read(&file[..at], at.max(1), terms);
        let in_parts = read(&file[..at], 100, Terms { whole_max: 0, ..terms });
        assert_eq!(in_parts.map(|read| Read { parts: 0, ..read }), short, "{at} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn written_then_read(
        keys in proptest::collection::vec(
            (0_u64..3, "[a-z0-9]{0,30}", proptest::option::of(1_u64..1 << 50), 0_u8..4, any::<i64>(), 0_usize..40),
            0..20,
        ),
        step in 1_usize..200,
        compress: bool,
    ) {
        let mut out = Vec::new();
        push_header(VERSION, &mut out);
        let (mut pieces, mut writer) = (Pieces::new(compress), Writer::new(compress));
        pieces.push_aux(b"redis-ver", b"8.2.3", &mut out);
        pieces.push_library(b"#!lua name=x\n", &mut out);
        let mut expected = Read {
            about: vec![
                About::Aux { name: b"redis-ver".to_vec(), value: b"8.2.3".to_vec(), keys_before: 0 },
                About::Library(b"#!lua name=x\n".to_vec()),
            ],
            ..Read::default()
        };
        for (db, key, end_ms, form, number, len) in keys {
            push_select(db, &mut out);
            push_resize(number.unsigned_abs(), 0, &mut out);
            expected.about.push(About::Sizes { db, keys: number.unsigned_abs(), ending: 0 });
            let access = match form {
                0 => Access::Idle(number.unsigned_abs()),
                1 => Access::Frequency(number as u8),
                _ => Access::Unknown,
            };
            let head = Head { end_ms, access };
            push_head(head, &mut out);
            let value = if form == 2 {
                writer.push_integer(Some(key.as_bytes()), number, &mut out);
                if i32::try_from(number).is_ok() { Value::Integer(number) } else { text(number.to_string().as_bytes()) }
            } else if form == 3 {
                let limits = PackedLimits { entries_max: 8, value_bytes_max: 20 };
                let mut hash = larder_values::hash::Hash::default();
                for field in 0..=len {
                    let end = larder_values::hash::End::Clear;
                    hash.set(format!("f{field}").as_bytes(), b"v", end, 0, limits);
                }
                writer.push_hash(Some(key.as_bytes()), hash.look(), &mut out);
                Value::Collection(Dumped::Hash(DumpedHash::Small(hash)))
            } else {
                let value = format!("v{number}").repeat(len).into_bytes();
                writer.push_string(Some(key.as_bytes()), &value, &mut out);
                text(&value)
            };
            // How a hash shows depends on its form, which is not what is looked at here.
            let shown = if form == 3 { None } else { Some(format!("{value:?}")) };
            expected.keys.push((db, key.into_bytes(), head, shown.unwrap_or_default()));
        }
        let file = ended(out);
        expected.bytes = file.len() as u64;
        let mut seen = read(&file, step, TERMS).unwrap();
        for (seen, expected) in seen.keys.iter_mut().zip(&expected.keys) {
            if expected.3.is_empty() {
                prop_assert!(seen.3.starts_with("Collection(Hash("));
                seen.3.clear();
            }
        }
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..120), step in 1_usize..50) {
        let terms = Terms { skips_modules: true, ..TERMS };
        for header in [&b""[..], b"REDIS0012", b"REDIS0001\0\x01k", b"VALKEY080"] {
            for kind in [&b""[..], b"\x12\x01k", b"\x15\x01k", b"\x18\x01k", b"\x07\x01k", b"\x1f\x01k", b"\xf7"] {
                let file = [header, kind, bytes.as_slice()].concat();
                let in_pieces = read(&file, step, terms);
                // However it arrives, the same is found.
                prop_assert_eq!(&in_pieces, &read(&file, file.len().max(1), terms));
                let in_parts = read(&file, step, Terms { whole_max: 0, ..terms });
                prop_assert_eq!(in_pieces, in_parts.map(|read| Read { parts: 0, ..read }));
            }
        }
    }
}
