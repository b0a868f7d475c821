//! Bodies of fuzz targets, plain functions so that a test on stable Rust runs them too.
//!
//! Each takes any bytes and panics only if an invariant is broken.

use crate::rdb::file::{
    About, Cut, Cutter, Dialect, FileError, Part, ReadPart, Record, Records, Terms, Value, Why, join,
    read_part,
};
use crate::rdb::{
    BadData, Dumped, DumpedHash, DumpedList, DumpedSet, DumpedZSet, FunctionsError, RestoreError, VERSION,
    Writer, dump_functions, dump_string, restore, restore_functions,
};
use larder_values::collection::{Collection, PackedLimits};
pub use larder_values::fuzz::{fuzz_glob, fuzz_hll};
use larder_values::list::Limit;
use larder_values::set;
use larder_values::zset::ZSet;

const STRING_MAX: usize = 1 << 20;

/// Restores the bytes as a payload, and as the object of a payload whose footer is right.
pub fn fuzz_restore(bytes: &[u8]) {
    let _ = restore(bytes, STRING_MAX);
    let mut payload = bytes.to_vec();
    payload.extend_from_slice(&VERSION.to_le_bytes());
    let checksum = crate::crc64::checksum(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    match restore(&payload, STRING_MAX) {
        Ok(dumped) => {
            if let Dumped::String(text) = &dumped {
                assert!(text.len() <= STRING_MAX, "a string passed its bound");
            }
            exercise(dumped);
        }
        Err(error) => assert_ne!(error, RestoreError::VersionOrChecksum, "a right footer was refused"),
    }
}

/// Reads the bytes as a file: however it arrives the same is found, and the same is refused.
pub fn fuzz_rdb_file(bytes: &[u8]) {
    let Some((&step, file)) = bytes.split_first() else { return };
    let step = usize::from(step) * 4 + 1;
    let found = read_file(file, step, usize::MAX);
    assert_eq!(
        found,
        read_file(file, file.len().max(1), usize::MAX),
        "what is found depends on how it arrives"
    );
    assert_eq!(found, read_file(file, step, 0), "what is found depends on where values are cut");
}

/// A value that comes in parts.
#[derive(Default)]
pub(crate) struct InParts {
    key: Option<(Record<'static>, u64)>,
    parts: Vec<ReadPart>,
    is_broken: bool,
}

impl InParts {
    /// Takes a part in. With the last one, the key and what comes of the value.
    pub(crate) fn take(
        &mut self,
        piece: &[u8],
        (cut, part): (&Cut, Part),
        dialect: Dialect,
    ) -> Option<(Record<'static>, Result<Value<'static>, FileError>)> {
        let (record, read) = read_part(piece, (cut, part), dialect);
        self.key = record.map(|record| (record, cut.at)).or(self.key.take());
        self.is_broken |= read.is_err();
        self.parts.extend(read);
        if !part.is_last {
            return None;
        }
        let InParts { key, parts, is_broken } = std::mem::take(self);
        let (record, at) = key.expect("the first part has the key");
        let value = if is_broken { Err(BadData) } else { join(parts.into_iter()) };
        let value = value.map_err(|BadData| record.error(at, Why::Value));
        Some((record, value))
    }
}

/// What is shown of a value.
fn show(value: Result<Value<'_>, FileError>) -> String {
    match value {
        Ok(Value::Collection(dumped)) => {
            let shown = format!("{dumped:?}");
            exercise(dumped);
            shown
        }
        Ok(value) => format!("{value:?}"),
        Err(error) => error.to_string(),
    }
}

/// What a file says of itself and which keys it holds, read as it arrives `step` bytes at a time.
fn read_file(file: &[u8], step: usize, whole_max: usize) -> Result<(Vec<About>, Vec<String>), FileError> {
    let terms = Terms { databases: 16, skips_modules: true, sums: false, stops_behind: b"", whole_max };
    let mut in_parts = InParts::default();
    let (mut about, mut found, mut cutter) = (Vec::new(), Vec::new(), Cutter::new(terms));
    let (mut start, mut end) = (0, 0);
    loop {
        let offered = file.get(start..end).unwrap_or_default();
        let cut = cutter.cut(offered, &mut |told| about.push(told))?;
        let piece = offered.get(..cut.bytes).unwrap_or_default();
        if let Some(part) = cut.part
            && let Some((Record { db, head, key, .. }, value)) =
                in_parts.take(piece, (&cut, part), cutter.dialect())
        {
            found.push(format!("{db} {head:?} {key:?}"));
            found.push(show(value));
        }
        let has_keys = cut.keys > 0 && cut.part.is_none();
        let mut records = Records::new(if has_keys { piece } else { &[] }, &cut, cutter.dialect());
        while let Some(record) = records.next_key()? {
            let Record { db, head, key, .. } = &record;
            found.push(format!("{db} {head:?} {key:?}"));
            found.push(show(records.value(&record)));
        }
        start += cut.bytes;
        if cut.is_last {
            return Ok((about, found));
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

/// A value that was accepted holds its invariants, and comes back from its own payload.
fn exercise(dumped: Dumped) {
    match dumped {
        Dumped::Set(set) => restored_set(set),
        Dumped::String(text) => {
            let mut again = Vec::new();
            dump_string(&text, &mut again);
            assert_eq!(restore(&again, usize::MAX), Ok(Dumped::String(text)), "a string changed on its way");
        }
        Dumped::ZSet(dumped) => exercise_zset(dumped),
        Dumped::Stream(stream) => {
            stream.check();
            let mut again = Vec::new();
            Writer::new(true).dump_stream(&stream, &mut again);
            let restored = restore(&again, usize::MAX);
            assert_eq!(restored, Ok(Dumped::Stream(stream)), "a stream changed on its way");
        }
        Dumped::Hash(dumped) => {
            let hash = dumped.into_hash(PackedLimits { entries_max: 4, value_bytes_max: 8 });
            hash.check();
            let mut again = Vec::new();
            Writer::new(true).dump_hash(hash.look(), &mut again);
            let same = Ok(Dumped::Hash(DumpedHash::Small(hash)));
            assert_eq!(restore(&again, usize::MAX), same, "a hash changed on its way");
        }
        Dumped::List(dumped) => exercise_list(dumped),
    }
}

/// Restores the bytes as a payload of functions, and as the libraries of one whose footer is right.
pub fn fuzz_functions(bytes: &[u8]) {
    let _ = restore_functions(bytes, STRING_MAX);
    let mut payload = bytes.to_vec();
    payload.extend_from_slice(&VERSION.to_le_bytes());
    let checksum = crate::crc64::checksum(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    match restore_functions(&payload, STRING_MAX) {
        Ok(texts) => {
            assert!(texts.iter().all(|text| text.len() <= STRING_MAX), "a text passed its bound");
            let again = dump_functions(texts.iter().map(Vec::as_slice));
            assert_eq!(restore_functions(&again, STRING_MAX), Ok(texts), "a text changed on its way");
        }
        Err(error) => assert_ne!(error, FunctionsError::VersionOrChecksum, "a right footer was refused"),
    }
}

/// A sorted set that was accepted holds its invariants, and comes back from its own payload.
fn exercise_zset(dumped: DumpedZSet) {
    let limits = PackedLimits { entries_max: 8, value_bytes_max: 64 };
    let build = |dumped: DumpedZSet| dumped.into_zset(limits);
    let all = |set: &ZSet| -> Vec<_> { set.view().iter().map(|(m, score)| (m.to_vec(), score)).collect() };
    let set = build(dumped);
    set.check();
    let mut payload = Vec::new();
    Writer::new(true).dump_zset(set.view(), &mut payload);
    let Ok(Dumped::ZSet(again)) = restore(&payload, usize::MAX) else { panic!("own payload was refused") };
    let again = build(again);
    again.check();
    assert_eq!(all(&again), all(&set), "a sorted set changed on its way");
}

/// A list that was accepted holds its invariants, and comes back from its own payload.
fn exercise_list(dumped: DumpedList) {
    let limit = Limit::of(3);
    let list = dumped.into_list(limit);
    list.check();
    let mut payload = Vec::new();
    Writer::new(true).dump_list(list.view(), &mut payload);
    let Ok(Dumped::List(again)) = restore(&payload, usize::MAX) else { panic!("own payload was refused") };
    let again = again.into_list(limit);
    again.check();
    assert_eq!(list.view().to_vecs(), again.view().to_vecs(), "a list changed");
}

/// A set comes back as the same members.
fn restored_set(dumped: DumpedSet) {
    let packed = PackedLimits { entries_max: 16, value_bytes_max: 32 };
    let limits = set::Limits { ints_max: 16, packed };
    let set = dumped.into_set(&limits);
    set.check();
    let mut again = Vec::new();
    Writer::new(true).dump_set(set.view(), &mut again);
    let Ok(Dumped::Set(restored)) = restore(&again, STRING_MAX) else {
        panic!("its own payload was refused")
    };
    let restored = restored.into_set(&limits);
    assert_eq!(restored.len(), set.len(), "a set changed on its way");
    restored.view().for_each(|member| assert!(set.view().contains(&member.to_vec()), "a member changed"));
}

/// Reads the bytes as a log, as a manifest, and as names in one.
pub fn fuzz_aof(bytes: &[u8]) {
    let (mut scan, mut at) = (crate::aof::Scan::default(), 0);
    while let crate::aof::Found::Piece(len) | crate::aof::Found::Time(_, len) =
        scan.feed(bytes.get(at..).unwrap_or_default())
    {
        assert!(len > 0, "a piece of nothing");
        at += len;
        assert!(scan.good <= scan.read && scan.read == at as u64, "more was read than is there");
    }
    if let Ok(manifest) = crate::aof::Manifest::parse(bytes) {
        let again = crate::aof::Manifest::parse(manifest.print().as_bytes());
        assert_eq!(again, Ok(manifest), "a manifest changed on its way");
    }
    if let crate::aof::Next::Command(len, words) = crate::aof::next(bytes) {
        let words: Vec<&[u8]> = words.into_iter().filter_map(|word| bytes.get(word)).collect();
        let mut again = Vec::new();
        crate::aof::append(&mut again, words.iter().copied());
        assert!(again.len() <= len, "a command became longer on its way");
        let crate::aof::Next::Command(_, places) = crate::aof::next(&again) else {
            panic!("a command is none any more")
        };
        let read: Vec<&[u8]> = places.into_iter().filter_map(|word| again.get(word)).collect();
        assert_eq!(read, words, "a command changed on its way");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn no_bytes_break_restore(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            super::fuzz_restore(&bytes);
            super::fuzz_restore(&[b"\0\xc3", bytes.as_slice()].concat());
            for kind in [4, 9, 13, 16, 22, 23, 24, 25] {
                super::fuzz_restore(&[&[kind], bytes.as_slice()].concat());
            }
        }
    }
}
