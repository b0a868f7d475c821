//! The form of what is in the queue's files: records behind one another, each with its length and a checksum.
//!
//! ```text
//! mark (4) | length of the body (4) | CRC-32C of length and body (4) | body
//! body of a write:   kind | sequence (8) | time (8) | database (4) | length of the key (4) | key | what it does
//!   kind 1 set: the value; 2 delete: nothing; 5 fields, 6 fields of a hash that is new: for each
//!   1 with a value, 0 removed | length (4) and field | length (4) and value
//! body of what is done: 3 | sequence (8) ...
//! body of a dead letter: 4 | stream id (8 + 8) | length (4) and statement | length (4) and error | body of the write
//! body of a group of writes: 7 | length (4) and body of a write ...
//! ```
//!
//! Numbers are little-endian. Invariant: nothing read is believed before its checksum is right, and no room is made for what a length
//! announces.

use crate::change::{Change, Fields};
use crate::letters::Letter;
use std::sync::Arc;

/// A key of a database.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// The database.
    pub db: u32,
    /// The key.
    pub bytes: Box<[u8]>,
}

/// A write of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Write {
    /// Its number: later ones have greater.
    pub seq: u64,
    /// When it came, in milliseconds of Unix time.
    pub at_ms: u64,
    /// The key.
    pub key: Arc<Key>,
    /// What becomes of the key.
    pub change: Change,
}

impl Write {
    /// How much of the queue's room it takes, in bytes.
    pub fn size(&self) -> u64 {
        room_of(self.key.bytes.len(), &self.change)
    }
}

/// Bytes of a write beside its key and what it does, on disk and about so many in memory.
const WRITE_BYTES: usize = HEAD_BYTES + 1 + 8 + 8 + 4 + 4;

/// How much of the queue's room a write takes.
pub(crate) fn room_of(key: usize, change: &Change) -> u64 {
    (WRITE_BYTES + key + change.bytes()) as u64
}

/// A record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Record {
    /// A write.
    Write(Write),
    /// Writes that were pushed together.
    Group(Vec<Write>),
    /// Writes that need not be sent any more: neither these, nor what was written to their keys before.
    Done(Vec<u64>),
    /// A write that the store refused for good.
    Letter(Letter),
}

/// What a record begins with: it can be found again behind damage.
const MARK: [u8; 4] = *b"\x9dLwb";
const HEAD_BYTES: usize = 12;

/// Appends a write.
pub(crate) fn write_write(write: &Write, out: &mut Vec<u8>) {
    framed(out, |out| write_body(write, out));
}

/// Appends writes that are on disk together or not at all.
pub(crate) fn write_group(writes: &[Write], out: &mut Vec<u8>) {
    if let [write] = writes {
        return write_write(write, out);
    }
    framed(out, |out| {
        out.push(7);
        for write in writes {
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            write_body(write, out);
            let length = ((out.len() - start - 4) as u32).to_le_bytes();
            out[start..start + 4].copy_from_slice(&length);
        }
    });
}

/// Appends what is done.
pub(crate) fn write_done(seqs: impl IntoIterator<Item = u64>, out: &mut Vec<u8>) {
    framed(out, |out| {
        out.push(3);
        seqs.into_iter().for_each(|seq| out.extend_from_slice(&seq.to_le_bytes()));
    });
}

/// Appends a dead letter.
pub(crate) fn write_letter(letter: &Letter, out: &mut Vec<u8>) {
    framed(out, |out| {
        out.push(4);
        out.extend_from_slice(&letter.id.0.to_le_bytes());
        out.extend_from_slice(&letter.id.1.to_le_bytes());
        [&letter.statement, &letter.error].iter().for_each(|text| write_bytes(text.as_bytes(), out));
        write_body(&letter.write, out);
    });
}

fn write_body(write: &Write, out: &mut Vec<u8>) {
    out.push(match &write.change {
        Change::Set(_) => 1,
        Change::Delete => 2,
        Change::Fields(fields) => 5 + u8::from(fields.is_new()),
    });
    out.extend_from_slice(&write.seq.to_le_bytes());
    out.extend_from_slice(&write.at_ms.to_le_bytes());
    out.extend_from_slice(&write.key.db.to_le_bytes());
    write_bytes(&write.key.bytes, out);
    match &write.change {
        Change::Set(value) => out.extend_from_slice(value),
        Change::Delete => {}
        Change::Fields(fields) => {
            for (field, value) in fields.iter() {
                out.push(u8::from(value.is_some()));
                write_bytes(field, out);
                write_bytes(value.unwrap_or_default(), out);
            }
        }
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn framed(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[0; 8]);
    body(out);
    // Who pushes sees that keys and values are far shorter than 4 GiB.
    let length = ((out.len() - start - HEAD_BYTES) as u32).to_le_bytes();
    let checksum = crc32c(crc32c(0, &length), &out[start + HEAD_BYTES..]).to_le_bytes();
    out[start + 4..start + 8].copy_from_slice(&length);
    out[start + 8..start + 12].copy_from_slice(&checksum);
}

/// The record at the start of `bytes`, and its length with all there is of it. `None`: there is no whole, right one.
pub(crate) fn read(bytes: &[u8]) -> Option<(Record, usize)> {
    let head = bytes.get(..HEAD_BYTES)?;
    let rest = head.strip_prefix(&MARK)?;
    let (length, checksum) = rest.split_first_chunk::<4>()?;
    let end = HEAD_BYTES.checked_add(u32::from_le_bytes(*length) as usize)?;
    let body = bytes.get(HEAD_BYTES..end)?;
    if crc32c(crc32c(0, length), body).to_le_bytes() != checksum {
        return None;
    }
    Some((read_body(body)?, end))
}

fn read_body(body: &[u8]) -> Option<Record> {
    let mut rest = Rest(body);
    match rest.byte()? {
        kind @ (1 | 2 | 5 | 6) => Some(Record::Write(read_write(kind, rest)?)),
        3 => {
            let (seqs, left) = rest.0.as_chunks::<8>();
            left.is_empty().then(|| Record::Done(seqs.iter().map(|seq| u64::from_le_bytes(*seq)).collect()))
        }
        4 => {
            let id = (rest.number()?, rest.number()?);
            let (statement, error) = (rest.text()?, rest.text()?);
            let kind = rest.byte()?;
            Some(Record::Letter(Letter { id, statement, error, write: read_write(kind, rest)? }))
        }
        7 => {
            let mut writes = Vec::new();
            while !rest.0.is_empty() {
                let mut body = Rest(rest.bytes()?);
                let kind = body.byte()?;
                writes.push(read_write(kind, body)?);
            }
            (writes.len() > 1).then_some(Record::Group(writes))
        }
        _ => None,
    }
}

fn read_write(kind: u8, mut rest: Rest<'_>) -> Option<Write> {
    let (seq, at_ms, db) = (rest.number()?, rest.number()?, rest.short()?);
    let key = Key { db, bytes: rest.bytes()?.into() };
    let change = match kind {
        1 => Change::Set(rest.0.into()),
        2 if rest.0.is_empty() => Change::Delete,
        5 | 6 => {
            let mut fields = Fields::new(kind == 6);
            while !rest.0.is_empty() {
                let is_set = rest.byte()?;
                let (field, value) = (rest.bytes()?, rest.bytes()?);
                match is_set {
                    1 => fields.put(field, Some(value)),
                    0 if value.is_empty() => fields.put(field, None),
                    _ => return None,
                }
            }
            Change::Fields(Arc::new(fields))
        }
        _ => return None,
    };
    Some(Write { seq, at_ms, key: Arc::new(key), change })
}

/// What is left to read.
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn short(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'b [u8]> {
        let length = self.short()? as usize;
        self.take(length)
    }

    fn text(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(self.bytes()?).into_owned())
    }
}

/// What is in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// The records up to where the first one is not right.
    pub records: Vec<Record>,
    /// Where that is: the length of the file if all are right.
    pub good: usize,
    /// Where the next right one begins behind that, if there is one: then something is damaged. Without one the end was
    /// being written when the system stopped.
    pub next: Option<usize>,
}

/// Reads the records of a file from `start` on.
pub fn scan(bytes: &[u8], start: usize) -> Scanned {
    let mut scanned = Scanned { good: start.min(bytes.len()), ..Scanned::default() };
    while let Some((record, length)) = bytes.get(scanned.good..).and_then(read) {
        scanned.records.push(record);
        scanned.good += length;
    }
    if scanned.good < bytes.len() {
        let behind = (scanned.good + 1)..bytes.len();
        let is_one = |at: &usize| bytes[*at..].starts_with(&MARK) && read(&bytes[*at..]).is_some();
        scanned.next = behind.into_iter().find(is_one);
    }
    scanned
}

/// CRC-32C (Castagnoli) of more bytes behind those that gave `before`.
pub(crate) fn crc32c(before: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!before, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(0, b"1234"), b"56789"), 0xe306_9283);
    }

    fn writes() -> impl Strategy<Value = Write> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..20);
        let field = (bytes(), proptest::option::of(bytes()));
        let fields = (any::<bool>(), proptest::collection::vec(field, 0..4)).prop_map(|(is_new, all)| {
            let mut fields = Fields::new(is_new);
            all.iter().for_each(|(field, value)| fields.put(field, value.as_deref()));
            Change::Fields(Arc::new(fields))
        });
        let change =
            prop_oneof![bytes().prop_map(|value| Change::Set(value.into())), Just(Change::Delete), fields,];
        (any::<u64>(), any::<u64>(), 0u32..3, bytes(), change).prop_map(|(seq, at_ms, db, key, change)| {
            Write { seq, at_ms, key: Arc::new(Key { db, bytes: key.into() }), change }
        })
    }

    fn records() -> impl Strategy<Value = Record> {
        prop_oneof![
            writes().prop_map(Record::Write),
            proptest::collection::vec(writes(), 2..4).prop_map(Record::Group),
            proptest::collection::vec(any::<u64>(), 0..5).prop_map(Record::Done),
            (writes(), any::<(u64, u64)>(), "[a-z $]{0,9}", "\\PC{0,9}").prop_map(
                |(write, id, statement, error)| Record::Letter(Letter { id, statement, error, write })
            ),
        ]
    }

    fn file_of(records: &[Record]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for record in records {
            match record {
                Record::Write(write) => write_write(write, &mut bytes),
                Record::Group(writes) => write_group(writes, &mut bytes),
                Record::Done(seqs) => write_done(seqs.iter().copied(), &mut bytes),
                Record::Letter(letter) => write_letter(letter, &mut bytes),
            }
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    proptest! {
        #[test]
        fn every_truncation_of_a_file_is_a_prefix(all in proptest::collection::vec(records(), 0..6)) {
            let (bytes, ends) = file_of(&all);
            for length in 0..=bytes.len() {
                let scanned = scan(&bytes[..length], 0);
                let whole = ends.iter().filter(|end| **end <= length).count() - 1;
                prop_assert_eq!(&scanned.records, &all[..whole]);
                prop_assert_eq!((scanned.good, scanned.next), (ends[whole], None));
            }
        }

        #[test]
        fn every_flipped_bit_is_found(all in proptest::collection::vec(records(), 2..5)) {
            let (bytes, ends) = file_of(&all);
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let hit = ends.iter().rposition(|end| *end <= bit / 8).expect("0 is among them");
                let scanned = scan(&damaged, 0);
                prop_assert_eq!(&scanned.records, &all[..hit]);
                prop_assert_eq!(scanned.good, ends[hit]);
                // In the last record it looks like a torn end; before, what follows tells.
                let next = if hit + 1 < all.len() { Some(ends[hit + 1]) } else { None };
                prop_assert_eq!(scanned.next, next);
            }
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            crate::fuzz::fuzz_behind(&bytes);
        }
    }
}
