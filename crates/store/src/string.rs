//! How strings are kept: four forms, chosen so that a value takes the least memory that keeps reads
//! cheap.
//!
//! - an integer takes eight bytes and is changed in place;
//! - a short string lies in its entry as it is;
//! - a short string of ASCII is packed, eight bytes in seven, when that saves a size class;
//! - a long string lies apart in a shared buffer, so that a reply can hold it without a copy.
//!
//! What OBJECT ENCODING answers is Redis' word for the same value and history, not our form.

use crate::object::Object;
use larder_table::PayloadRef;
use larder_values::{ascii7, number};
use std::sync::Arc;

/// Longest string kept inside its entry, in bytes.
pub const INLINE_BYTES_MAX: usize = 1024;

/// Redis keeps key, value and end in one allocation of up to this many bytes; OBJECT ENCODING answers
/// `embstr` for such a value.
const EMBEDDED_BYTES_MAX: usize = 64;
/// What such an allocation holds beside key and value: the object, and the headers of both.
const EMBEDDED_FIXED_BYTES: usize = 23;
/// What the end of a key takes in it.
const EMBEDDED_END_BYTES: usize = 8;
/// The header of a key of this many bytes is longer by two, which Redis overlooks when it decides: the
/// largest values beside such a key lie in the next larger allocation, with room for an end.
const WIDE_KEY_BYTES: usize = 32;
/// By how much the header of such a key is longer.
const WIDE_KEY_EXTRA_BYTES: usize = 2;

/// Forms of a value, as the entry's 5-bit kind names them.
pub(crate) mod kind {
    /// Bytes as they are.
    pub const TEXT: u8 = 0;
    /// ASCII packed eight in seven; the length is not one short of a multiple of eight.
    pub const TEXT7: u8 = 1;
    /// An `i64` in little-endian order.
    pub const INT: u8 = 2;
    /// A long string.
    pub const BLOB: u8 = 4;
    /// ASCII packed eight in seven; the length is one short of a multiple of eight.
    pub const TEXT7_SHORT: u8 = 5;
    /// Beside a text's kind: Redis keeps it apart from its key, whatever becomes of key and end. It was
    /// assembled by a command such as APPEND, or did not fit when it was stored.
    pub const RAW: u8 = 8;
    /// Bytes as they are, assembled by a command.
    pub const EDITED: u8 = TEXT | RAW;
    /// Bytes behind a note, of which a state, flags and a number are there; see `noted.rs`.
    pub const NOTED: u8 = 6;
    /// The same of a note with a state and flags.
    pub const NOTED_FLAGS: u8 = 3;
    /// The same of a note with a state only.
    pub const NOTED_STATE: u8 = 7;

    /// How long the note is that stands in front of a value inside its entry.
    #[inline]
    pub fn note_bytes(entry_kind: u8) -> usize {
        match entry_kind & !RAW {
            NOTED if entry_kind < STRINGS_END => 13,
            NOTED_FLAGS if entry_kind < STRINGS_END => 5,
            NOTED_STATE if entry_kind < STRINGS_END => 1,
            _ => 0,
        }
    }

    /// Whether a value inside its entry is a text, not an integer or something else.
    #[inline]
    pub fn is_text(entry_kind: u8) -> bool {
        const TEXTS: u32 = 1 << TEXT | 1 << TEXT7 | 1 << TEXT7_SHORT;
        (TEXTS | TEXTS << RAW) >> (entry_kind & 31) & 1 != 0
    }

    /// Kinds below it are strings; `object.rs` has those from it on.
    pub const STRINGS_END: u8 = 16;
}

/// What OBJECT ENCODING answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `int`
    Int,
    /// `embstr`
    Embstr,
    /// `raw`
    Raw,
}

impl Encoding {
    /// The word OBJECT ENCODING answers.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Int => "int",
            Encoding::Embstr => "embstr",
            Encoding::Raw => "raw",
        }
    }
}

/// A string as it is kept.
#[derive(Debug, Clone, Copy)]
pub enum Str<'a> {
    /// An integer.
    Int(i64),
    /// Bytes as they are.
    Bytes(&'a [u8]),
    /// Packed ASCII: the packed bytes and the length of the text.
    Ascii7(&'a [u8], usize),
    /// A long string apart.
    Blob(&'a Arc<Vec<u8>>),
}

impl<'a> Str<'a> {
    /// Reads an entry's payload of a string kind.
    #[inline(always)]
    pub(crate) fn decode(kind: u8, payload: PayloadRef<'a, Object>) -> Str<'a> {
        match payload {
            PayloadRef::Boxed(object) => object.blob().map_or(Str::Bytes(&[]), Str::Blob),
            PayloadRef::Inline(bytes) => match kind & !kind::RAW {
                kind::INT => Str::Int(decode_int(bytes)),
                kind::TEXT7 | kind::TEXT7_SHORT => Str::Ascii7(bytes, text_len(kind, bytes.len())),
                kind::NOTED | kind::NOTED_FLAGS | kind::NOTED_STATE => {
                    Str::Bytes(bytes.get(kind::note_bytes(kind)..).unwrap_or_default())
                }
                _ => Str::Bytes(bytes),
            },
        }
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Str::Int(value) => number::i64_len(*value),
            Str::Bytes(bytes) => bytes.len(),
            Str::Ascii7(_, len) => *len,
            Str::Blob(blob) => blob.len(),
        }
    }

    /// Whether the string has no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the string's bytes. O(length).
    #[inline]
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Str::Int(value) => number::write_i64(out, *value),
            Str::Bytes(bytes) => out.extend_from_slice(bytes),
            Str::Ascii7(packed, len) => {
                let whole = ascii7::unpack_into(packed, *len, out);
                debug_assert!(whole, "the length was told by the packed bytes");
            }
            Str::Blob(blob) => out.extend_from_slice(blob),
        }
    }

    /// The string's bytes, assembled in `scratch` where they are not kept as they are.
    #[inline]
    pub fn bytes<'s>(&self, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        match self {
            Str::Bytes(bytes) => bytes,
            Str::Blob(blob) => blob,
            Str::Int(_) | Str::Ascii7(..) => {
                scratch.clear();
                self.write_to(scratch);
                scratch
            }
        }
    }

    /// The string's bytes in a buffer of their own.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.write_to(&mut bytes);
        bytes
    }

    /// The integer the string spells, if it spells one as Redis requires.
    #[inline]
    pub fn to_i64(&self) -> Option<i64> {
        match self {
            Str::Int(value) => Some(*value),
            Str::Bytes(bytes) => number::parse_i64(bytes),
            Str::Ascii7(_, len) if *len > 20 => None,
            Str::Ascii7(..) => number::parse_i64(&self.to_vec()),
            Str::Blob(_) => None,
        }
    }
}

/// Redis' word for the form of a string under a key of `key_bytes`.
///
/// A text that was stored whole is `embstr` when it fits beside its key and its end. An end that comes
/// later is taken in where there is room to spare, and has the value moved out where there is not.
pub(crate) fn encoding(kind: u8, value: &Str<'_>, key_bytes: usize, has_end: bool) -> Encoding {
    match value {
        Str::Int(_) => Encoding::Int,
        Str::Blob(_) => Encoding::Raw,
        Str::Bytes(_) | Str::Ascii7(..) => {
            let fits = |has_end| embeds(key_bytes, value.len(), has_end);
            let embedded = kind & kind::RAW == 0
                && fits(false)
                && (!has_end || fits(true) || has_room_to_spare(key_bytes, value.len()));
            if embedded { Encoding::Embstr } else { Encoding::Raw }
        }
    }
}

/// Whether Redis keeps a text in one allocation with its key when it stores it.
pub(crate) fn embeds(key_bytes: usize, text_bytes: usize, has_end: bool) -> bool {
    let end = if has_end { EMBEDDED_END_BYTES } else { 0 };
    EMBEDDED_FIXED_BYTES + end + key_bytes + text_bytes <= EMBEDDED_BYTES_MAX
}

/// Whether a text that is embedded without an end takes one in later.
pub(crate) fn has_room_to_spare(key_bytes: usize, text_bytes: usize) -> bool {
    key_bytes >= WIDE_KEY_BYTES
        && EMBEDDED_FIXED_BYTES + WIDE_KEY_EXTRA_BYTES + key_bytes + text_bytes > EMBEDDED_BYTES_MAX
}

/// The kind of a string that stays `raw` from now on.
pub(crate) fn raw_kind(kind: u8) -> u8 {
    match kind {
        kind::INT | kind::BLOB => kind,
        text => text | kind::RAW,
    }
}

/// The length of a text of this kind whose payload has `payload_bytes`.
#[inline]
pub(crate) fn text_len(kind: u8, payload_bytes: usize) -> usize {
    match kind & !kind::RAW {
        kind::TEXT7 => payload_bytes + payload_bytes / 7,
        kind::TEXT7_SHORT => (payload_bytes + payload_bytes / 7).saturating_sub(1),
        _ => payload_bytes,
    }
}

#[inline]
pub(crate) fn decode_int(bytes: &[u8]) -> i64 {
    match bytes.try_into() {
        Ok(array) => i64::from_le_bytes(array),
        // An INT entry has eight bytes: `put` wrote them.
        Err(_) => 0,
    }
}

/// The form a string is stored in: kind and payload bytes. `scratch` holds a packed form; one that is shorter than
/// `value` leaves that as it is.
///
/// `fixed` is what the entry takes beside the payload, in bytes; packing must save a size class.
#[inline]
pub(crate) fn choose<'v>(value: &'v [u8], fixed: usize, scratch: &'v mut [u8]) -> (u8, &'v [u8]) {
    let saves = (fixed + value.len()).div_ceil(8) > (fixed + ascii7::packed_len(value.len())).div_ceil(8);
    if saves && let Some(len) = ascii7::pack(value, scratch) {
        let kind = if value.len() % 8 == 7 { kind::TEXT7_SHORT } else { kind::TEXT7 };
        return (kind, scratch.get(..len).unwrap_or_default());
    }
    (kind::TEXT, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_packed_text_has_the_length_it_had(text in "[\\x00-\\x7f]{1,200}") {
            let mut scratch = [0; INLINE_BYTES_MAX];
            let (kind, payload) = choose(text.as_bytes(), 22, &mut scratch);
            let value = Str::decode(kind, PayloadRef::Inline(payload));
            prop_assert_eq!(value.len(), text.len());
            prop_assert_eq!(value.to_vec(), text.into_bytes());
        }
    }
}
