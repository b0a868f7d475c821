//! Fields and values as a stream keeps them: an integer or bytes, in as few bytes as will do.
//!
//! The codes are those of Redis' listpack without the length that follows each element there: entries
//! are read from the front, and sizes that Redis' limits speak of are computed.
//! Invariant: text that spells a canonical 64-bit integer is kept as one.

use crate::number;

/// A field or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// Text that spells this integer.
    Int(i64),
    /// Any bytes.
    Bytes(&'a [u8]),
}

/// Longest text of a 64-bit integer.
const INTEGER_TEXT_MAX: usize = 20;

const INT16: u8 = 0xf1;
const INT24: u8 = 0xf2;
const INT32: u8 = 0xf3;
const INT64: u8 = 0xf4;
const BYTES32: u8 = 0xf0;

impl<'a> Element<'a> {
    /// The element for some text.
    #[inline]
    pub fn of(text: &'a [u8]) -> Element<'a> {
        match may_be_integer(text).then(|| number::parse_i64(text)).flatten() {
            Some(value) => Element::Int(value),
            None => Element::Bytes(text),
        }
    }

    /// Length of the text.
    pub fn text_len(self) -> usize {
        match self {
            Element::Int(value) => number::i64_len(value),
            Element::Bytes(bytes) => bytes.len(),
        }
    }

    /// Appends the text.
    pub fn write_to(self, out: &mut Vec<u8>) {
        match self {
            Element::Int(value) => number::write_i64(out, value),
            Element::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// The text, copied.
    pub fn to_vec(self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.text_len());
        self.write_to(&mut text);
        text
    }

    /// Appends the code.
    #[inline]
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        match self {
            Element::Bytes(bytes) => {
                let len = bytes.len();
                if len < 1 << 6 {
                    out.push(0x80 | len as u8);
                } else if len < 1 << 12 {
                    out.extend_from_slice(&[0xe0 | (len >> 8) as u8, len as u8]);
                } else {
                    out.push(BYTES32);
                    out.extend_from_slice(&(len as u32).to_le_bytes());
                }
                out.extend_from_slice(bytes);
            }
            Element::Int(value) => encode_int(value, out),
        }
    }

    /// Length of the code.
    #[inline]
    pub(super) fn encoded_len(self) -> usize {
        match self {
            Element::Int(value) => int_len(value),
            Element::Bytes(bytes) => {
                bytes.len()
                    + match bytes.len() {
                        ..64 => 1,
                        64..4096 => 2,
                        _ => 5,
                    }
            }
        }
    }
}

/// Whether it is worth looking whether a text spells an integer.
#[inline]
fn may_be_integer(text: &[u8]) -> bool {
    matches!(text, [b'0'..=b'9' | b'-', ..])
        && matches!(text, [.., b'0'..=b'9'])
        && text.len() <= INTEGER_TEXT_MAX
}

/// The length of the code that begins `bytes`, where it is quickly told that it is the one [`Element::encode`] writes for the same text,
/// and all of it is there.
#[inline]
pub(super) fn len_of_kept(bytes: &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    match first {
        ..0x80 => Some(1),
        0x80..0xc0 => {
            let len = 1 + usize::from(first & 0x3f);
            let (begin, end) = (*bytes.get(1)?, *bytes.get(len - 1)?);
            // As `may_be_integer` has it, without a branch for each: what a text begins and ends with is not foreseen.
            let is_number = (begin.is_ascii_digit() | (begin == b'-')) & end.is_ascii_digit();
            (!is_number | (len > 1 + INTEGER_TEXT_MAX)).then_some(len)
        }
        _ => None,
    }
}

/// The integer of 13 bits in the two bytes of its code.
#[inline]
pub(super) fn of_13_bits(high: u8, low: u8) -> i64 {
    let low = u16::from(high & 0x1f) << 8 | u16::from(low);
    // The sign bit of 13 moves to that of 16, and back with its copies.
    i64::from((low << 3) as i16 >> 3)
}

fn encode_int(value: i64, out: &mut Vec<u8>) {
    let bytes = value.to_le_bytes();
    match value {
        0..=127 => out.push(value as u8),
        -4096..=4095 => {
            let low = (value & 0x1fff) as u16;
            out.extend_from_slice(&[0xc0 | (low >> 8) as u8, low as u8]);
        }
        -0x8000..=0x7fff => {
            out.push(INT16);
            out.extend_from_slice(&bytes[..2]);
        }
        -0x80_0000..=0x7f_ffff => {
            out.push(INT24);
            out.extend_from_slice(&bytes[..3]);
        }
        -0x8000_0000..=0x7fff_ffff => {
            out.push(INT32);
            out.extend_from_slice(&bytes[..4]);
        }
        _ => {
            out.push(INT64);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Length of an integer's code.
#[inline]
pub(super) fn int_len(value: i64) -> usize {
    match value {
        0..=127 => 1,
        -4096..=4095 => 2,
        -0x8000..=0x7fff => 3,
        -0x80_0000..=0x7f_ffff => 4,
        -0x8000_0000..=0x7fff_ffff => 5,
        _ => 9,
    }
}

/// Size in a listpack of an element whose code has `encoded` bytes: the length behind it included.
#[inline]
pub(super) fn listpack_size(encoded: usize) -> usize {
    encoded
        + match encoded {
            ..128 => 1,
            128..16_383 => 2,
            16_383..2_097_151 => 3,
            2_097_151..268_435_455 => 4,
            _ => 5,
        }
}

/// Size of an integer in a listpack.
#[inline]
pub(super) fn int_listpack_size(value: i64) -> usize {
    listpack_size(int_len(value))
}

/// The element whose code begins `bytes`, and the length of the code. Nothing where the bytes end
/// too early or begin no code.
#[inline]
pub(super) fn decode(bytes: &[u8]) -> Option<(Element<'_>, usize)> {
    let first = *bytes.first()?;
    if first & 0xc0 == 0x80 {
        let end = 1 + usize::from(first & 0x3f);
        return Some((Element::Bytes(bytes.get(1..end)?), end));
    }
    if first < 0x80 {
        return Some((Element::Int(i64::from(first)), 1));
    }
    decode_wide(first, bytes)
}

fn decode_wide(first: u8, bytes: &[u8]) -> Option<(Element<'_>, usize)> {
    let text = |start: usize, len: usize| {
        let end = start.checked_add(len)?;
        Some((Element::Bytes(bytes.get(start..end)?), end))
    };
    match first {
        0xc0..=0xdf => Some((Element::Int(of_13_bits(first, *bytes.get(1)?)), 2)),
        0xe0..=0xef => text(2, usize::from(first & 0xf) << 8 | usize::from(*bytes.get(1)?)),
        BYTES32 => text(5, u32::from_le_bytes(*bytes.get(1..5)?.first_chunk()?) as usize),
        INT16 => Some((Element::Int(little_endian(bytes.get(1..3)?)), 3)),
        INT24 => Some((Element::Int(little_endian(bytes.get(1..4)?)), 4)),
        INT32 => Some((Element::Int(little_endian(bytes.get(1..5)?)), 5)),
        INT64 => Some((Element::Int(little_endian(bytes.get(1..9)?)), 9)),
        _ => None,
    }
}

fn little_endian(bytes: &[u8]) -> i64 {
    let mut wide = [0; 8];
    wide[8 - bytes.len()..].copy_from_slice(bytes);
    i64::from_le_bytes(wide) >> (64 - 8 * bytes.len())
}

/// Length of the code that begins `bytes`, which are the stream's own.
#[inline]
pub(super) fn skip(bytes: &[u8]) -> usize {
    match bytes[0] {
        ..=0x7f => 1,
        first @ 0x80..=0xbf => 1 + usize::from(first & 0x3f),
        0xc0..=0xdf => 2,
        first @ 0xe0..=0xef => 2 + (usize::from(first & 0xf) << 8 | usize::from(bytes[1])),
        INT16 => 3,
        INT24 => 4,
        INT32 => 5,
        INT64 => 9,
        _ => 5 + u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize,
    }
}

/// Bytes of the longest number in groups of seven bits.
pub(super) const VARINT_BYTES_MAX: usize = 10;

/// Appends a number in groups of seven bits, low ones first.
#[inline]
pub(super) fn push_varint(out: &mut Vec<u8>, value: u64) {
    match u8::try_from(value) {
        Ok(byte @ ..0x80) => out.push(byte),
        _ => {
            let mut bytes = [0; VARINT_BYTES_MAX];
            let len = put_varint(&mut bytes, value);
            out.extend_from_slice(&bytes[..len]);
        }
    }
}

/// The same, to the start of bytes that have room for it. Answers how many it took.
#[inline]
pub(super) fn put_varint(out: &mut [u8], mut value: u64) -> usize {
    let mut len = 0;
    while value >= 0x80 {
        out[len] = value as u8 | 0x80;
        (value, len) = (value >> 7, len + 1);
    }
    out[len] = value as u8;
    len + 1
}

/// The number that begins `bytes`, which are the stream's own, and its length.
#[inline]
pub(super) fn varint(bytes: &[u8]) -> (u64, usize) {
    if bytes[0] < 0x80 {
        return (u64::from(bytes[0]), 1);
    }
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return (value, index + 1);
        }
    }
    (value, 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_those_of_a_listpack() {
        for (text, size) in [
            (&b""[..], 2),
            (b"0", 2),
            (b"127", 2),
            (b"128", 3),
            (b"-1", 3),
            (b"4095", 3),
            (b"4096", 4),
            (b"32768", 5),
            (b"8388608", 6),
            (b"2147483648", 10),
            (b"007", 5),
            (&[b'a'; 63], 65),
            (&[b'a'; 64], 67),
            (&[b'a'; 126], 130),
            (&[b'a'; 4095], 4099),
            (&[b'a'; 4096], 4103),
        ] {
            assert_eq!(listpack_size(Element::of(text).encoded_len()), size, "{}", text.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn a_code_that_is_kept_is_the_one_that_is_written(
            text in prop_oneof!["-?[0-9]{0,22}", "[-0-9a-c]{0,4}", proptest::collection::vec(any::<u8>(), 0..64).prop_map(|text| text.escape_ascii().to_string())],
            small in 0_u8..0x80,
            behind: [u8; 3],
        ) {
            let text = &text.as_bytes()[..text.len().min(63)];
            let code = [&[0x80 | text.len() as u8], text, &behind].concat();
            let mut written = Vec::new();
            Element::of(text).encode(&mut written);
            match len_of_kept(&code) {
                Some(len) => prop_assert_eq!(&code[..len], written),
                // What may spell an integer is looked at more closely.
                None => prop_assert!(may_be_integer(text)),
            }
            prop_assert_eq!(len_of_kept(&code[..text.len()]), None);
            prop_assert_eq!(len_of_kept(&[small, behind[0]]), Some(1));
            let code = [0xc0 | small & 0x1f, behind[0]];
            prop_assert_eq!(decode(&code), Some((Element::Int(of_13_bits(code[0], code[1])), 2)));
        }

        #[test]
        fn encoded_then_decoded(
            text in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..70),
                (any::<i64>(), 0_u32..64).prop_map(|(value, shift)| (value >> shift).to_string().into_bytes()),
                (any::<u8>(), 0_usize..9000).prop_map(|(byte, len)| vec![byte; len]),
            ],
        ) {
            let element = Element::of(&text);
            let mut out = Vec::new();
            element.encode(&mut out);
            prop_assert_eq!(out.len(), element.encoded_len());
            prop_assert_eq!(decode(&out), Some((element, out.len())));
            prop_assert_eq!(skip(&out), out.len());
            prop_assert_eq!(element.to_vec(), text);
            prop_assert!(decode(&out[..out.len() - 1]).is_none());
        }

        #[test]
        fn numbers_of_any_width(value: u64, shift in 0_u32..64) {
            let mut out = Vec::new();
            push_varint(&mut out, value >> shift);
            prop_assert_eq!(varint(&out), (value >> shift, out.len()));
        }
    }
}
