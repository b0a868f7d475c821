//! Redis' RDB format: lengths, string objects, values, the payloads of DUMP and RESTORE, and files.
//!
//! Invariant: what is written is what redis-server 8.2 writes; what is read is what it reads.
//! Read next: `file` for files, `dump` for payloads, `string` for objects, `length` below both.

pub mod file;

mod dump;
mod functions;
mod hash;
mod length;
mod list;
mod luck;
mod set;
mod stream;
mod string;
mod ziplist;
mod zset;

pub use dump::{
    Dumped, RestoreError, Writer, dump_string, dump_string_for_any, push_footer, push_footer_for_any, restore,
};
pub use functions::{FunctionsError, dump_functions, restore_functions};
pub use hash::DumpedHash;
pub use length::{Length, push_length};
pub use list::{DumpedChunk, DumpedList};
pub use set::DumpedSet;
pub use string::StringWriter;
pub use zset::DumpedZSet;

use larder_values::packed::Element;
use std::borrow::Cow;

/// The version written, and the highest that is read.
pub const VERSION: u16 = 12;

/// The version that a file needs in which no field of a hash has an end: redis-server 7.2 and Valkey read it.
pub const VERSION_WITHOUT_FIELD_ENDS: u16 = 11;

/// What an element of a large collection takes, more or less.
const ELEMENT_BYTES: usize = 8;
/// Elements for which room is made at once; for more it grows as they come.
const ROOM_MAX: usize = 1 << 20;

/// The data does not follow the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadData;

/// The text of an element, where it stands if it stands there as it is.
fn text_of(element: Element<'_>) -> Cow<'_, [u8]> {
    match element {
        Element::Bytes(text) => Cow::Borrowed(text),
        Element::Int(_) => Cow::Owned(element.to_vec()),
    }
}

/// Reads pieces from bytes that are all there.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, BadData> {
        let (&byte, rest) = self.rest.split_first().ok_or(BadData)?;
        self.rest = rest;
        Ok(byte)
    }

    /// `len` bytes, which must be there.
    pub fn take(&mut self, len: u64) -> Result<&'a [u8], BadData> {
        let len = usize::try_from(len).map_err(|_| BadData)?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(BadData)?;
        self.rest = rest;
        Ok(taken)
    }

    /// For how many elements it is worth making room where so many are announced: no more than the bytes that are there have, if
    /// each takes [`ELEMENT_BYTES`] of them, nor than [`ROOM_MAX`].
    fn worth_room(&self, announced: u64) -> usize {
        usize::try_from(announced).unwrap_or(usize::MAX).min(self.rest.len() / ELEMENT_BYTES).min(ROOM_MAX)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadData> {
        self.take(N as u64)?.try_into().map_err(|_| BadData)
    }
}
