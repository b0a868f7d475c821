//! What is written: pieces of a file, each appended to a buffer.
//!
//! The order is header, aux fields, functions, then for each part of a database its number, its sizes and its keys, and
//! the end. The checksum is of everything before it; it is 0 where none was asked for.

use super::super::functions::OPCODE_FUNCTION;
use super::super::{StringWriter, push_length};
use super::{MAGIC, opcode};

/// What a file knows of a key's uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    #[default]
    Unknown,
    /// It was not used for so many seconds.
    Idle(u64),
    /// The counter of its uses.
    Frequency(u8),
}

/// What stands before a key's type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// When it ends, Unix ms.
    pub end_ms: Option<u64>,
    /// Its uses.
    pub access: Access,
}

/// Writes the pieces that hold strings.
pub struct Pieces(StringWriter);

impl Pieces {
    /// A writer that compresses, or does not, as `rdbcompression` says.
    #[must_use]
    pub fn new(compress: bool) -> Pieces {
        Pieces(StringWriter::new(compress))
    }

    /// Appends a name and a value about the file.
    pub fn push_aux(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        out.push(opcode::AUX);
        self.0.push(out, name);
        self.0.push(out, value);
    }

    /// Appends the text of a library of functions.
    pub fn push_library(&mut self, text: &[u8], out: &mut Vec<u8>) {
        out.push(OPCODE_FUNCTION);
        self.0.push(out, text);
    }
}

/// Appends what a file begins with.
pub fn push_header(version: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(format!("{version:04}").as_bytes());
}

/// Appends that the keys that follow are of a database.
pub fn push_select(db: u64, out: &mut Vec<u8>) {
    out.push(opcode::SELECT);
    push_length(out, db);
}

/// Appends how many keys the database has, and how many of them end: a hint for who reads.
pub fn push_resize(keys: u64, ending: u64, out: &mut Vec<u8>) {
    out.push(opcode::RESIZE);
    push_length(out, keys);
    push_length(out, ending);
}

/// Appends what stands before a key's type.
pub fn push_head(head: Head, out: &mut Vec<u8>) {
    if let Some(end_ms) = head.end_ms {
        out.push(opcode::END_MS);
        out.extend_from_slice(&end_ms.to_le_bytes());
    }
    match head.access {
        Access::Unknown => {}
        Access::Idle(seconds) => {
            out.push(opcode::IDLE);
            push_length(out, seconds);
        }
        Access::Frequency(counter) => out.extend_from_slice(&[opcode::FREQUENCY, counter]),
    }
}

/// Appends the end. `checksum` is asked for the sum of everything before it, the mark of the end included, which it is
/// given as far as it stands in this buffer; 0 says that nothing was summed.
pub fn push_end(out: &mut Vec<u8>, checksum: impl FnOnce(&[u8]) -> u64) {
    out.push(opcode::END);
    let checksum = checksum(out);
    out.extend_from_slice(&checksum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crc64::{self, Running};
    use crate::rdb::VERSION;
    use crate::rdb::Writer;

    /// A file as redis-server 8.2.3 writes it, its aux fields but one left out.
    fn file(checksum: bool) -> Vec<u8> {
        let (mut out, mut running) = (Vec::new(), Running::new());
        push_header(VERSION, &mut out);
        let mut pieces = Pieces::new(true);
        pieces.push_aux(b"redis-bits", b"64", &mut out);
        pieces.push_library(b"#!lua name=l", &mut out);
        running.update(&out);
        let mut second = Vec::new();
        push_select(3, &mut second);
        push_resize(2, 1, &mut second);
        push_head(Head { end_ms: Some(1 << 40), access: Access::Idle(100) }, &mut second);
        Writer::new(true).push_string(Some(b"key"), b"value", &mut second);
        push_head(Head { end_ms: None, access: Access::Frequency(5) }, &mut second);
        Writer::new(true).push_integer(Some(b"12"), 7, &mut second);
        push_end(&mut second, |last| {
            running.update(last);
            if checksum { running.value() } else { 0 }
        });
        out.extend_from_slice(&second);
        out
    }

    #[test]
    fn a_file_byte_for_byte() {
        let expected = b"REDIS0012\xfa\x0aredis-bits\xc0\x40\xf5\x0c#!lua name=l\xfe\x03\xfb\x02\x01\
            \xfc\0\0\0\0\0\x01\0\0\xf8\x40\x64\0\x03key\x05value\xf9\x05\0\xc0\x0c\xc0\x07\xff";
        let sum = crc64::checksum(expected).to_le_bytes();
        assert_eq!(file(true), [&expected[..], &sum].concat());
        assert_eq!(file(false), [&expected[..], &[0; 8]].concat());
    }
}
