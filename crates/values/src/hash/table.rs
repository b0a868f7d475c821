//! The large form of a hash: records in a slab, found by an index of the hashes of their fields, and
//! the ends of those that have one, in order.
//!
//! A record is the field's length with one bit for "has an end", in seven bits a byte; the end in six
//! bytes, if it has one; the field; the value, which takes the rest.
//! Invariants: the index holds exactly the slab's records; `deadlines` holds exactly the records with an
//! end. `check` compares.

use super::deadlines::{Deadlines, MOMENT_MAX};
use super::{Before, End};
use crate::index::{Index, Slab, hash_of};
use crate::mover::{Mover, Resume};

/// Bytes of an end in a record.
const END_BYTES: usize = 6;
/// Bytes of the longest head: a length of 32 bits and one more.
const HEAD_BYTES_MAX: usize = 5 + END_BYTES;

/// Fields and values beyond the limits of the packed forms.
#[derive(Debug, Default)]
pub struct Table {
    slab: Slab,
    index: Index,
    deadlines: Deadlines,
}

/// A record in its parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) field: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) end: Option<u64>,
}

impl Record<'_> {
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.end.is_some_and(|end| end <= now)
    }
}

/// What stands before the field in a record.
struct Head {
    bytes: [u8; HEAD_BYTES_MAX],
    len: usize,
}

impl Head {
    #[inline]
    fn new(field: &[u8], end: Option<u64>) -> Head {
        let mut head = Head { bytes: [0; HEAD_BYTES_MAX], len: 0 };
        let mut rest = (field.len() as u64) << 1 | u64::from(end.is_some());
        while rest >= 0x80 && head.len < HEAD_BYTES_MAX - END_BYTES - 1 {
            head.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        head.push(rest as u8);
        if let Some(end) = end {
            let [moment @ .., _, _] = end.min(MOMENT_MAX).to_le_bytes();
            moment.into_iter().for_each(|byte| head.push(byte));
        }
        head
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Reads a record that this file wrote.
#[inline]
fn read(record: &[u8]) -> Record<'_> {
    let (mut head, mut at, mut shift) = (0_u64, 0, 0);
    for &byte in record {
        at += 1;
        head |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut end = None;
    if head & 1 != 0 {
        let mut moment = [0; 8];
        moment[..END_BYTES].copy_from_slice(&record[at..at + END_BYTES]);
        end = Some(u64::from_le_bytes(moment));
        at += END_BYTES;
    }
    let (field, value) = record[at..].split_at((head >> 1) as usize);
    Record { field, value, end }
}

/// Fields of a large hash from outside, one behind the other, before what finds them is built.
#[derive(Debug, Default)]
pub struct Loader {
    slab: Slab,
    /// The hash of each field, and its record.
    hashes: Vec<(u64, u32)>,
    deadlines: Deadlines,
}

impl Loader {
    /// One with room for so many fields, though not for their texts.
    #[must_use]
    pub fn with_room(fields: usize) -> Loader {
        Loader { hashes: Vec::with_capacity(fields), ..Loader::default() }
    }

    /// Adds a field, of which it is not known whether it is there.
    #[inline]
    pub fn add(&mut self, field: &[u8], value: &[u8], end: Option<u64>) {
        let reference = self.slab.alloc(&[Head::new(field, end).bytes(), field, value]);
        self.hashes.push((hash_of(field), reference));
        if let Some(end) = end {
            self.deadlines.insert(end, reference);
        }
    }

    /// The table of all; `None` if a field was added twice.
    pub(super) fn finish(self) -> Option<Table> {
        let Loader { slab, hashes, deadlines } = self;
        let field = |reference| read(slab.get(reference)).field;
        let index = Index::of_all(
            hashes,
            |reference| hash_of(field(reference)),
            |one, other| field(one) == field(other),
        )?;
        Some(Table { slab, index, deadlines })
    }
}

impl Table {
    /// See [`crate::collection::Collection::look_ahead`].
    pub(super) fn look_ahead(&self, fields: &[&[u8]], ask: &impl Fn(*const u8)) {
        self.index.look_ahead(fields, ask, |reference| self.slab.look_ahead(reference, ask));
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    #[inline]
    pub(super) fn get(&self, field: &[u8]) -> Option<Record<'_>> {
        self.find(hash_of(field), field).map(|reference| self.record(reference))
    }

    #[inline]
    pub(super) fn record(&self, reference: u32) -> Record<'_> {
        read(self.slab.get(reference))
    }

    #[inline]
    fn find(&self, hash: u64, field: &[u8]) -> Option<u32> {
        self.index.find(hash, |reference| read(self.slab.get(reference)).field == field)
    }

    /// Sets a field.
    pub(super) fn set(&mut self, field: &[u8], value: &[u8], end: End, now: u64) -> Before {
        let hash = hash_of(field);
        let Some(reference) = self.find(hash, field) else {
            self.add(hash, field, value, end.moment(None));
            return Before::Absent;
        };
        let old = self.record(reference);
        let (before, old_end) = (Before::of(old.end, now), old.end);
        let end = end.moment(old_end.filter(|_| before == Before::Live));
        self.rewrite(hash, reference, old_end, &[Head::new(field, end).bytes(), field, value], end);
        before
    }

    /// Sets or takes away the end of a field. Answers whether the field is there.
    pub(super) fn set_end(&mut self, field: &[u8], end: Option<u64>, scratch: &mut Vec<u8>) -> bool {
        let hash = hash_of(field);
        let Some(reference) = self.find(hash, field) else { return false };
        let old = self.record(reference);
        if old.end == end {
            return true;
        }
        scratch.clear();
        scratch.extend_from_slice(old.value);
        let old_end = old.end;
        self.rewrite(hash, reference, old_end, &[Head::new(field, end).bytes(), field, scratch], end);
        true
    }

    fn add(&mut self, hash: u64, field: &[u8], value: &[u8], end: Option<u64>) {
        let reference = self.slab.alloc(&[Head::new(field, end).bytes(), field, value]);
        let slab = &self.slab;
        self.index.insert(hash, reference, |reference| hash_of(read(slab.get(reference)).field));
        if let Some(end) = end {
            self.deadlines.insert(end, reference);
        }
    }

    /// Writes a record anew, in its place where it fits.
    fn rewrite(&mut self, hash: u64, old: u32, old_end: Option<u64>, parts: &[&[u8]; 3], end: Option<u64>) {
        let new = self.slab.replace(old, parts);
        if new != old {
            let replaced = self.index.replace(hash, new, |reference| reference == old);
            debug_assert!(replaced, "it was found a moment ago");
        }
        if (old, old_end) == (new, end) {
            return;
        }
        if let Some(old_end) = old_end {
            self.deadlines.remove(old_end, old);
        }
        if let Some(end) = end {
            self.deadlines.insert(end, new);
        }
    }

    /// Removes a field; what was there is told by its end.
    pub(super) fn remove(&mut self, field: &[u8], now: u64) -> Before {
        let hash = hash_of(field);
        let slab = &self.slab;
        let removed = self.index.remove(
            hash,
            |reference| read(slab.get(reference)).field == field,
            |reference| hash_of(read(slab.get(reference)).field),
        );
        let Some(reference) = removed else { return Before::Absent };
        let end = self.record(reference).end;
        self.forget(reference, end);
        Before::of(end, now)
    }

    fn forget(&mut self, reference: u32, end: Option<u64>) {
        if let Some(end) = end {
            self.deadlines.remove(end, reference);
        }
        self.slab.free(reference);
    }

    /// Removes fields whose time has come, at most `limit`, and names them. Answers how many.
    pub(super) fn expire_due(&mut self, now: u64, limit: usize, gone: &mut dyn FnMut(&[u8])) -> usize {
        let mut removed = 0;
        while removed < limit {
            let Some((end, reference)) = self.deadlines.first().filter(|(end, _)| *end <= now) else { break };
            let slab = &self.slab;
            let field = read(slab.get(reference)).field;
            gone(field);
            let hash = hash_of(field);
            let found = self.index.remove(
                hash,
                |other| other == reference,
                |reference| hash_of(read(slab.get(reference)).field),
            );
            debug_assert_eq!(found, Some(reference), "every record is in the index");
            self.forget(reference, Some(end));
            removed += 1;
        }
        removed
    }

    /// The earliest end of a field; `u64::MAX` where none has one.
    #[inline]
    pub(super) fn next_due(&self) -> u64 {
        self.deadlines.earliest()
    }

    pub(super) fn timed(&self) -> usize {
        self.deadlines.len()
    }

    pub(super) fn count_due(&self, now: u64) -> usize {
        self.deadlines.count_due(now)
    }

    /// All records, in the order in which they lie in memory.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.slab.iter().map(read)
    }

    /// All references with their records.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u32, Record<'_>)> {
        self.index.iter().map(|reference| (reference, self.record(reference)))
    }

    /// A record chosen by a random number, and its reference.
    pub(super) fn random(&self, random: u64) -> Option<(u32, Record<'_>)> {
        self.index.random(random).map(|reference| (reference, self.record(reference)))
    }

    /// Visits about `count` records from a position on; answers the next position, 0 at the end.
    pub(super) fn scan<'t>(&'t self, cursor: u64, count: usize, mut visit: impl FnMut(Record<'t>)) -> u64 {
        let hash = |reference| hash_of(self.record(reference).field);
        self.index.scan(cursor, count, hash, |reference| visit(self.record(reference)))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.slab.heap_bytes() + self.index.heap_bytes() + self.deadlines.heap_bytes()
    }

    /// See [`crate::collection::Collection::move_blocks`].
    pub(super) fn move_blocks(&mut self, mover: &mut Mover<'_>, from: Resume) -> Resume {
        crate::index::move_both(&mut self.slab, &mut self.index, mover, from)
    }

    /// Frees about `budget` fields; true when nothing is left.
    pub(super) fn free_step(&mut self, budget: usize) -> bool {
        self.deadlines.free_step(budget) && self.index.free_step(budget) && self.slab.free_step(budget)
    }

    /// A copy that shares nothing with it. O(fields).
    pub(super) fn duplicate(&self) -> Table {
        let mut copy = Table::default();
        for record in self.records() {
            copy.add(hash_of(record.field), record.field, record.value, record.end);
        }
        copy
    }

    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        self.slab.check();
        self.index.check(|reference| hash_of(self.record(reference).field));
        self.deadlines.check();
        assert_eq!(self.slab.len(), self.index.len(), "records that nobody finds");
        let timed = self.index.iter().filter(|reference| self.record(*reference).end.is_some());
        assert_eq!(timed.count(), self.deadlines.len(), "ends that no record has");
        let mut deadlines = self.deadlines.clone();
        while let Some((end, reference)) = deadlines.first() {
            assert_eq!(self.record(reference).end, Some(end), "an end that is not its record's");
            deadlines.remove(end, reference);
        }
    }
}
