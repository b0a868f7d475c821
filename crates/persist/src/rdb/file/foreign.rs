//! Values in forms that others than Redis write.

use super::super::dump::{Dumped, RestoreError, read_object};
use super::super::hash::{DumpedHash, Field};
use super::super::set::DumpedSet;
use super::super::{BadData, Reader};
use super::{Dialect, kind};
use larder_values::number;
use larder_values::packed::PackedBuf;
use larder_values::packed::are_distinct;
use std::collections::HashSet;

/// From when Dragonfly counts the ends of fields and members: 2023-02-01, Unix seconds.
const DRAGONFLY_SECONDS: u64 = 1_675_209_600;

/// The latest end that a field may have, Unix ms.
const END_MAX: u64 = (1 << 48) - 2;

/// Reads the object of a type that only such files have.
pub(super) fn read(of: u8, reader: &mut Reader<'_>) -> Result<Dumped, RestoreError> {
    match of {
        kind::HASH_VALKEY => read_hash(reader, usize::MAX, valkey_end),
        kind::HASH_WITH_ENDS => read_hash(reader, usize::MAX, dragonfly_end),
        kind::SET_WITH_ENDS => read_set(reader),
        of => Err(RestoreError::UnsupportedType(of)),
    }
}

/// Reads the object in a payload of Valkey 9; `string_max` bounds each string.
pub(in super::super) fn read_valkey(
    byte: u8,
    reader: &mut Reader<'_>,
    string_max: usize,
) -> Result<Dumped, RestoreError> {
    match kind::of(byte, Dialect::Valkey) {
        kind::HASH_VALKEY => read_hash(reader, string_max, valkey_end),
        of => read_object(of, reader, string_max),
    }
}

type ReadEnd = fn(&mut Reader<'_>) -> Result<Option<u64>, BadData>;

/// Fields, each with its value and its end.
fn read_hash(reader: &mut Reader<'_>, string_max: usize, read_end: ReadEnd) -> Result<Dumped, RestoreError> {
    let bad = |BadData| RestoreError::BadData;
    let count = reader.plain_length().map_err(bad)?;
    let (mut fields, mut seen): (Vec<Field>, _) = (Vec::new(), HashSet::new());
    for _ in 0..count {
        let (field, value) = (reader.string(string_max)?, reader.string(string_max)?);
        let end = read_end(reader).map_err(bad)?;
        if !seen.insert(field.clone()) {
            return Err(RestoreError::BadData);
        }
        fields.push((field, value, end));
    }
    if fields.is_empty() {
        return Err(RestoreError::Empty);
    }
    let with_ends = fields.iter().any(|(_, _, end)| end.is_some());
    Ok(Dumped::Hash(DumpedHash::Fields { fields, with_ends }))
}

/// Eight bytes of Unix ms; -1 for none.
fn valkey_end(reader: &mut Reader<'_>) -> Result<Option<u64>, BadData> {
    let number = i64::from_le_bytes(reader.array()?);
    checked_end(u64::try_from(number).ok(), number)
}

/// Seconds since Dragonfly's beginning as text; -1 for none.
fn dragonfly_end(reader: &mut Reader<'_>) -> Result<Option<u64>, BadData> {
    let text = reader.string(usize::MAX).map_err(|_| BadData)?;
    let number = number::parse_i64(&text).ok_or(BadData)?;
    let seconds = u64::try_from(number).ok().and_then(|seconds| seconds.checked_add(DRAGONFLY_SECONDS));
    checked_end(seconds.and_then(|seconds| seconds.checked_mul(1000)), number)
}

fn checked_end(end: Option<u64>, number: i64) -> Result<Option<u64>, BadData> {
    if number == -1 {
        return Ok(None);
    }
    end.filter(|end| (1..=END_MAX).contains(end)).map(Some).ok_or(BadData)
}

/// Members, each with its end. Members that end are none that a set here can have.
fn read_set(reader: &mut Reader<'_>) -> Result<Dumped, RestoreError> {
    let count = reader.plain_length().map_err(|BadData| RestoreError::BadData)?;
    let mut members = PackedBuf::new();
    for _ in 0..count {
        members.push_back(&reader.string(usize::MAX)?);
        if dragonfly_end(reader).map_err(|BadData| RestoreError::BadData)?.is_some() {
            return Err(RestoreError::UnsupportedType(kind::SET_WITH_ENDS));
        }
    }
    if members.is_empty() {
        return Err(RestoreError::Empty);
    }
    if are_distinct(members.view().iter()) {
        Ok(Dumped::Set(DumpedSet::Members(members)))
    } else {
        Err(RestoreError::BadData)
    }
}
