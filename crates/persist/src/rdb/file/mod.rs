//! RDB files: a header, then records up to the end and its checksum.
//!
//! A record is an opcode and what belongs to it, or a key: what is known of it under opcodes, its type, itself, its
//! value. What is written are pieces that are appended to a buffer; whoever has a file sums and writes them. What is
//! read is cut into pieces of whole records first, by lengths alone, and each piece can be read by another thread; a long list or stream
//! is several pieces.
//! Invariant: what is read is hostile, and nothing is believed before it is there.
//! Read next: `write`; `cut` and then `records`, `parts` for what is long.

mod cut;
mod error;
mod foreign;
mod parts;
mod records;
mod scan;
mod write;

#[cfg(test)]
mod read_tests;

pub use cut::{About, Cut, Cutter, Part, Terms};
pub use error::{FileError, Why};
pub(super) use foreign::read_valkey;
pub use parts::{ReadPart, join, read_part};
pub use records::{Record, Records, Value};
pub use write::{Access, Head, Pieces, push_end, push_head, push_header, push_resize, push_select};

/// What a file begins with, behind it four digits of version.
const MAGIC: &[u8; 5] = b"REDIS";
/// What files of Valkey 9 and later begin with, behind it three digits of version.
const MAGIC_VALKEY: &[u8; 6] = b"VALKEY";
/// So many bytes of a file tell whether it is one.
pub const START_BYTES: usize = MAGIC_VALKEY.len();
/// Bytes of either, with its version.
const HEADER_BYTES: usize = 9;
/// Versions of Valkey's own.
pub(super) const VALKEY_VERSIONS: std::ops::RangeInclusive<u32> = 80..=80;
/// From this version on files end with a checksum.
const CHECKSUM_SINCE: u32 = 5;

/// Whether a file that begins with these bytes, [`START_BYTES`] of them or all it has, is a snapshot or means to be one.
#[must_use]
pub fn is_start(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC) || bytes.starts_with(MAGIC_VALKEY)
}

/// Whose file it is: the same type byte means different things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Redis', and that of whoever writes as Redis does.
    #[default]
    Redis,
    /// That of Valkey 9 and later.
    Valkey,
}

/// Opcodes: what a record begins with that is not a key's type.
mod opcode {
    /// Dragonfly's flags of the next key, four bytes.
    pub const DRAGONFLY_MASK: u8 = 220;
    /// Valkey: slots are being moved here.
    pub const SLOT_IMPORT: u8 = 243;
    /// Sizes of a slot.
    pub const SLOT: u8 = 244;
    /// A library of functions.
    pub const LIBRARY: u8 = super::super::functions::OPCODE_FUNCTION;
    /// One in the form that was given up.
    pub const LIBRARY_EARLY: u8 = super::super::functions::OPCODE_FUNCTION_EARLY;
    /// What a module keeps beside keys.
    pub const MODULE: u8 = 247;
    /// How long the next key was not used, seconds.
    pub const IDLE: u8 = 248;
    /// How often the next key was used, one byte.
    pub const FREQUENCY: u8 = 249;
    /// Name and value about the file or who wrote it.
    pub const AUX: u8 = 250;
    /// How many keys a database has, and how many of them end.
    pub const RESIZE: u8 = 251;
    /// The next key ends: Unix ms.
    pub const END_MS: u8 = 252;
    /// The next key ends: Unix seconds, four bytes.
    pub const END_SECONDS: u8 = 253;
    /// The following keys are of this database.
    pub const SELECT: u8 = 254;
    /// The file ends; its checksum follows.
    pub const END: u8 = 255;
    /// The first of them that Redis has.
    pub const FIRST: u8 = 240;
}

/// Types beside those that payloads have, and our own numbers of those whose byte means something else elsewhere.
mod kind {
    pub const STRING: u8 = 0;
    pub const MODULE_EARLY: u8 = 6;
    pub const MODULE: u8 = 7;
    /// Dragonfly: a JSON document.
    pub const JSON: u8 = 30;
    /// Dragonfly: fields with ends.
    pub const HASH_WITH_ENDS: u8 = 31;
    /// Dragonfly: members with ends.
    pub const SET_WITH_ENDS: u8 = 32;
    /// Valkey: fields with ends, 22 in its files.
    pub const HASH_VALKEY: u8 = 122;
    const HASH_VALKEY_IN_FILES: u8 = 22;

    /// The type that a byte means.
    pub fn of(byte: u8, dialect: super::Dialect) -> u8 {
        match (byte, dialect) {
            (HASH_VALKEY_IN_FILES, super::Dialect::Valkey) => HASH_VALKEY,
            // Nobody writes these.
            (HASH_VALKEY, _) => super::opcode::FIRST - 1,
            _ => byte,
        }
    }

    /// What a type that is not read is called.
    pub fn name(kind: u8) -> Option<&'static str> {
        Some(match kind {
            MODULE_EARLY => "a value of a module, as previews of Redis 4 wrote it",
            JSON => "a JSON document of Dragonfly",
            SET_WITH_ENDS => "a set of Dragonfly's whose members end",
            33 | 34 => "a Bloom filter of Dragonfly",
            35 => "a count-min sketch of Dragonfly",
            _ => return None,
        })
    }
}
