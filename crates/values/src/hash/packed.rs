//! The small forms of a hash: one packed buffer of pairs (field, value), or of triples (field, value,
//! end), where an end of 0 says that there is none.
//!
//! Invariants: a field occurs once; triples with an end stand first, in the order of their ends, and
//! of two with the same end the one that got it later stands first. Pairs stand in the order they came.

use super::{Before, End};
use crate::packed::{Cursor, Element, Packed, PackedBuf};

/// Where a field of a packed form lies, and what it holds.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) field: Cursor,
    pub(super) value_at: Cursor,
    pub(super) value: Element<'a>,
    pub(super) end: Option<u64>,
}

fn moment(element: Element<'_>) -> Option<u64> {
    element.to_i64().and_then(|end| u64::try_from(end).ok()).filter(|end| *end > 0)
}

/// The place of a field among pairs.
#[inline]
pub(super) fn find_pair<'a>(pairs: Packed<'a>, field: &[u8]) -> Option<Place<'a>> {
    let field = pairs.find(pairs.first()?, field, 1)?;
    let value_at = pairs.next(field)?;
    Some(Place { field, value_at, value: pairs.get(value_at), end: None })
}

/// The place of a field among triples.
#[inline]
pub(super) fn find_triple<'a>(triples: Packed<'a>, field: &[u8]) -> Option<Place<'a>> {
    place_at(triples, triples.find(triples.first()?, field, 2)?)
}

fn place_at(triples: Packed<'_>, field: Cursor) -> Option<Place<'_>> {
    let value_at = triples.next(field)?;
    let (value, end_at) = triples.step(value_at);
    Some(Place { field, value_at, value, end: moment(triples.get(end_at?)) })
}

/// The earliest end among triples.
#[inline]
pub(super) fn next_due(triples: Packed<'_>) -> u64 {
    let first = triples.first().and_then(|first| place_at(triples, first));
    first.and_then(|place| place.end).unwrap_or(u64::MAX)
}

/// How many triples are over: they stand in front.
pub(super) fn count_due(triples: Packed<'_>, now: u64) -> usize {
    ends(triples).take_while(|end| end.is_some_and(|end| end <= now)).count()
}

/// The ends of all triples, in order.
pub(super) fn ends(triples: Packed<'_>) -> impl Iterator<Item = Option<u64>> {
    let mut elements = triples.iter();
    std::iter::from_fn(move || elements.nth(2).map(moment))
}

/// Pairs as triples without an end.
pub(super) fn to_triples(pairs: Packed<'_>) -> PackedBuf {
    let mut triples = PackedBuf::new();
    triples.reserve_exact(pairs.bytes().len() + pairs.len());
    let mut at = pairs.first();
    while let Some(field) = at {
        triples.push_back_raw(pairs.raw(field));
        let Some(value) = pairs.next(field) else { break };
        triples.push_back_raw(pairs.raw(value));
        triples.push_back_int(0);
        at = pairs.next(value);
    }
    triples
}

/// Sets a field among pairs.
#[inline]
pub(super) fn set_pair(pairs: &mut PackedBuf, field: &[u8], value: Element<'_>) -> Before {
    if let Some(place) = find_pair(pairs.view(), field) {
        let at = place.value_at;
        replace(pairs, at, value);
        return Before::Live;
    }
    pairs.push_back(field);
    pairs.push_back_element(value);
    Before::Absent
}

fn replace(packed: &mut PackedBuf, at: Cursor, value: Element<'_>) {
    match value {
        Element::Int(value) => packed.replace_int(at, value),
        Element::Bytes(value) => packed.replace(at, value),
    }
}

/// Sets a field among triples.
pub(super) fn set_triple(
    triples: &mut PackedBuf,
    field: &[u8],
    value: Element<'_>,
    end: End,
    now: u64,
) -> Before {
    let Some(place) = find_triple(triples.view(), field) else {
        insert_triple(triples, field, value, end.moment(None));
        return Before::Absent;
    };
    let (before, old_end, at, value_at) =
        (Before::of(place.end, now), place.end, place.field, place.value_at);
    let new_end = end.moment(old_end.filter(|_| before == Before::Live));
    if new_end == old_end && !matches!(end, End::At(_)) {
        replace(triples, value_at, value);
    } else {
        triples.remove(at, 3);
        insert_triple(triples, field, value, new_end);
    }
    before
}

/// Puts a triple where its end belongs.
fn insert_triple(triples: &mut PackedBuf, field: &[u8], value: Element<'_>, end: Option<u64>) {
    let Some(end) = end else {
        triples.push_back(field);
        triples.push_back_element(value);
        return triples.push_back_int(0);
    };
    let later = ends(triples.view()).position(|other| other.is_none_or(|other| other >= end));
    let end = end.min(i64::MAX as u64) as i64;
    match later.and_then(|index| triples.view().seek(index * 3)) {
        None => {
            triples.push_back(field);
            triples.push_back_element(value);
            triples.push_back_int(end);
        }
        Some(at) => {
            // Each goes before the one put there last.
            triples.insert_int_before(at, end);
            match value {
                Element::Int(value) => triples.insert_int_before(at, value),
                Element::Bytes(value) => triples.insert_before(at, value),
            }
            triples.insert_before(at, field);
        }
    }
}

/// Sets or takes away the end of a field. Answers whether the field is there.
pub(super) fn set_end(
    triples: &mut PackedBuf,
    field: &[u8],
    end: Option<u64>,
    scratch: &mut Vec<u8>,
) -> bool {
    let Some(place) = find_triple(triples.view(), field) else { return false };
    let (at, value) = (place.field, place.value);
    scratch.clear();
    let value = match value {
        Element::Int(value) => Element::Int(value),
        Element::Bytes(bytes) => {
            scratch.extend_from_slice(bytes);
            Element::Bytes(scratch)
        }
    };
    triples.remove(at, 3);
    insert_triple(triples, field, value, end);
    true
}

/// Removes triples whose time has come, at most `limit`, and names their fields. Answers how many.
pub(super) fn expire_due(
    triples: &mut PackedBuf,
    now: u64,
    limit: usize,
    gone: &mut dyn FnMut(&[u8]),
) -> usize {
    let due = count_due(triples.view(), now).min(limit);
    let mut field = Vec::new();
    for element in triples.view().iter().step_by(3).take(due) {
        field.clear();
        element.write_to(&mut field);
        gone(&field);
    }
    triples.remove_range(0, due * 3);
    due
}
