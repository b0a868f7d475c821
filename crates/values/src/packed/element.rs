//! One element in bytes: a head, a payload, and the length of both in one to five bytes that are
//! read backwards.
//!
//! | head | payload |
//! |---|---|
//! | `0vvvvvvv` | none: an integer of 0 to 127 |
//! | `10nnnnnn` | n bytes |
//! | `110vvvvv` + 1 byte | none: a signed integer of 13 bits, high bits first |
//! | `1110nnnn` + 1 byte | n bytes, high bits first |
//! | `f0` + 4 bytes | n bytes, low byte first |
//! | `f1` `f2` `f3` `f4` | a signed integer of 2, 3, 4, 8 bytes, low byte first |
//!
//! Invariant: what is written takes the shortest head; what is read may have a longer one.

use crate::number;

pub(super) const SHORT_STRING: u8 = 0x80;
pub(super) const SHORT_STRING_MASK: u8 = 0xc0;
const SHORT_STRING_BYTES_MAX: usize = 63;

const INT_13: u8 = 0xc0;
const INT_13_MASK: u8 = 0xe0;
const MIDDLE_STRING: u8 = 0xe0;
const MIDDLE_STRING_MASK: u8 = 0xf0;
const MIDDLE_STRING_BYTES_MAX: usize = 4095;
const LONG_STRING: u8 = 0xf0;
const INT_16: u8 = 0xf1;
const INT_24: u8 = 0xf2;
const INT_32: u8 = 0xf3;
const INT_64: u8 = 0xf4;

/// Longest text that is tried as an integer.
const INTEGER_TEXT_MAX: usize = 20;

/// An element as it is stored.
///
/// Two equal elements can be stored in two ways where the bytes came from elsewhere: compare with
/// [`Element::is`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// The decimal text of an integer.
    Int(i64),
    /// Any other bytes.
    Bytes(&'a [u8]),
}

impl<'a> Element<'a> {
    /// The form in which `text` is stored: an integer if it spells one canonically.
    #[inline]
    pub fn of(text: &'a [u8]) -> Element<'a> {
        if text.len() <= INTEGER_TEXT_MAX
            && let Some(value) = number::parse_i64(text)
        {
            return Element::Int(value);
        }
        Element::Bytes(text)
    }

    /// Appends the element's text.
    #[inline]
    pub fn write_to(self, out: &mut Vec<u8>) {
        match self {
            Element::Int(value) => number::write_i64(out, value),
            Element::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// The element's text.
    pub fn to_vec(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        self.write_to(&mut out);
        out
    }

    /// Bytes of the element's text.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            Element::Int(value) => number::i64_len(value),
            Element::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether the element is the empty string.
    #[inline]
    pub fn is_empty(self) -> bool {
        matches!(self, Element::Bytes([]))
    }

    /// Whether the element's text is `text`.
    #[inline]
    pub fn is(self, text: &[u8]) -> bool {
        match self {
            Element::Int(value) => number::parse_i64(text) == Some(value),
            Element::Bytes(bytes) => bytes == text,
        }
    }

    /// The integer that the element's text spells canonically.
    #[inline]
    pub fn to_i64(self) -> Option<i64> {
        match self {
            Element::Int(value) => Some(value),
            Element::Bytes(bytes) => number::parse_i64(bytes),
        }
    }

    /// Bytes that the element takes when written: head, payload and backward length.
    #[inline]
    pub fn encoded_bytes(self) -> usize {
        let len = self.bare_bytes();
        len + backlen_bytes(len)
    }

    /// Bytes of head and payload alone.
    #[inline]
    pub(crate) fn bare_bytes(self) -> usize {
        match self {
            Element::Int(value) => int_bytes(value),
            Element::Bytes(bytes) => string_head_bytes(bytes.len()) + bytes.len(),
        }
    }

    /// Appends head and payload, without the backward length.
    #[inline]
    pub(crate) fn encode_bare(self, out: &mut Vec<u8>) {
        match self {
            Element::Bytes(bytes) if bytes.len() <= SHORT_STRING_BYTES_MAX => {
                out.reserve(bytes.len() + 1);
                out.push(SHORT_STRING | bytes.len() as u8);
                out.extend_from_slice(bytes);
            }
            _ => {
                out.extend_from_slice(self.head().bytes());
                out.extend_from_slice(self.payload());
            }
        }
    }

    /// Appends the element in its encoding.
    #[inline]
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        if let Element::Bytes(bytes) = self
            && bytes.len() <= SHORT_STRING_BYTES_MAX
        {
            out.reserve(bytes.len() + 2);
            out.push(SHORT_STRING | bytes.len() as u8);
            out.extend_from_slice(bytes);
            out.push(bytes.len() as u8 + 1);
            return;
        }
        let (head, payload) = (self.head(), self.payload());
        let back = backlen(head.len + payload.len());
        out.reserve(head.len + payload.len() + back.len);
        out.extend_from_slice(head.bytes());
        out.extend_from_slice(payload);
        out.extend_from_slice(back.bytes());
    }

    /// Writes the element in its encoding over `out`, which has the length for it.
    pub(crate) fn encode_over(self, out: &mut [u8]) {
        if let Element::Bytes(bytes) = self
            && bytes.len() <= SHORT_STRING_BYTES_MAX
            && let [head, payload @ .., back] = out
        {
            (*head, *back) = (SHORT_STRING | bytes.len() as u8, bytes.len() as u8 + 1);
            payload.copy_from_slice(bytes);
            return;
        }
        let (head, payload) = (self.head(), self.payload());
        let back = backlen(head.len + payload.len());
        let (head_out, rest) = out.split_at_mut(head.len);
        let (payload_out, back_out) = rest.split_at_mut(payload.len());
        head_out.copy_from_slice(head.bytes());
        payload_out.copy_from_slice(payload);
        back_out.copy_from_slice(back.bytes());
    }

    fn payload(self) -> &'a [u8] {
        match self {
            Element::Int(_) => &[],
            Element::Bytes(bytes) => bytes,
        }
    }

    fn head(self) -> Short {
        match self {
            Element::Int(value) => int_head(value),
            Element::Bytes(bytes) => string_head(bytes.len()),
        }
    }
}

/// A few bytes.
#[derive(Clone, Copy)]
struct Short {
    bytes: [u8; 9],
    len: usize,
}

impl Short {
    fn of(bytes: &[u8]) -> Short {
        let mut short = Short { bytes: [0; 9], len: bytes.len() };
        short.bytes[..bytes.len()].copy_from_slice(bytes);
        short
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Bytes that an element with this text takes.
pub fn encoded_bytes(text: &[u8]) -> usize {
    Element::of(text).encoded_bytes()
}

/// Bytes of an integer's head.
fn int_bytes(value: i64) -> usize {
    match value {
        0..=127 => 1,
        -4096..=4095 => 2,
        -0x8000..=0x7fff => 3,
        -0x80_0000..=0x7f_ffff => 4,
        -0x8000_0000..=0x7fff_ffff => 5,
        _ => 9,
    }
}

fn int_head(value: i64) -> Short {
    let bytes = value.to_le_bytes();
    match int_bytes(value) {
        1 => Short::of(&bytes[..1]),
        2 => Short::of(&[INT_13 | (bytes[1] & !INT_13_MASK), bytes[0]]),
        3 => Short::of(&[INT_16, bytes[0], bytes[1]]),
        4 => Short::of(&[INT_24, bytes[0], bytes[1], bytes[2]]),
        5 => Short::of(&[INT_32, bytes[0], bytes[1], bytes[2], bytes[3]]),
        _ => {
            let [a, b, c, d, e, f, g, h] = bytes;
            Short::of(&[INT_64, a, b, c, d, e, f, g, h])
        }
    }
}

/// Bytes of the head of a string of `len` bytes.
fn string_head_bytes(len: usize) -> usize {
    if len <= SHORT_STRING_BYTES_MAX {
        1
    } else if len <= MIDDLE_STRING_BYTES_MAX {
        2
    } else {
        5
    }
}

/// The head of a string of `len` bytes, which are fewer than 2^32.
fn string_head(len: usize) -> Short {
    match string_head_bytes(len) {
        1 => Short::of(&[SHORT_STRING | len as u8]),
        2 => Short::of(&[MIDDLE_STRING | (len >> 8) as u8, len as u8]),
        _ => {
            debug_assert!(u32::try_from(len).is_ok(), "no caller stores so long an element packed");
            let [a, b, c, d] = (len as u32).to_le_bytes();
            Short::of(&[LONG_STRING, a, b, c, d])
        }
    }
}

/// Bytes of the backward length of an element whose head and payload take `len`. The limits are
/// Redis', which takes a byte more than needed at three numbers.
#[inline]
pub(super) fn backlen_bytes(len: usize) -> usize {
    match len {
        0..128 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    }
}

/// The backward length of an element whose head and payload take `len`.
fn backlen(len: usize) -> Short {
    let mut back = Short { bytes: [0; 9], len: backlen_bytes(len) };
    for at in 0..back.len {
        // All but the leftmost say that another follows to the left.
        let more = if at + 1 == back.len { 0 } else { 0x80 };
        back.bytes[back.len - 1 - at] = (len >> (7 * at)) as u8 & 0x7f | more;
    }
    back
}

/// The element that starts at `at`, and where the next one does.
#[inline(always)]
pub(super) fn decode(bytes: &[u8], at: usize) -> (Element<'_>, usize) {
    let head = bytes[at];
    if head & SHORT_STRING_MASK == SHORT_STRING {
        let end = at + 1 + usize::from(head & !SHORT_STRING_MASK);
        return (Element::Bytes(&bytes[at + 1..end]), end + 1);
    }
    if head < SHORT_STRING {
        return (Element::Int(i64::from(head)), at + 2);
    }
    decode_other(bytes, at)
}

/// Elements that are neither a string of up to 63 bytes nor an integer of 0 to 127.
fn decode_other(bytes: &[u8], at: usize) -> (Element<'_>, usize) {
    let first = bytes[at];
    if (MIDDLE_STRING..=LONG_STRING).contains(&first) {
        let (head, payload) = head(bytes, at);
        let (start, end) = (at + head, at + head + payload);
        return (Element::Bytes(&bytes[start..end]), end + backlen_bytes(head + payload));
    }
    // The bytes of each width are taken by its number, which costs less than a copy of as many as there are.
    let (value, len) = match first {
        INT_16 => (i64::from(i16::from_le_bytes(array(bytes, at + 1))), 3),
        INT_24 => {
            let [low, middle, high] = array(bytes, at + 1);
            (i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8), 4)
        }
        INT_32 => (i64::from(i32::from_le_bytes(array(bytes, at + 1))), 5),
        // Nothing else was accepted.
        INT_64.. => (i64::from_le_bytes(array(bytes, at + 1)), 9),
        _ => {
            let low = u16::from(first & !INT_13_MASK) << 8 | u16::from(bytes[at + 1]);
            // The sign bit of 13 moves to that of 16, and back with its copies.
            (i64::from((low << 3) as i16 >> 3), 2)
        }
    };
    (Element::Int(value), at + len + 1)
}

/// The `N` bytes from `at` on.
#[inline]
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// By the first byte of an element: how many bytes it has before the length behind it, where that is one byte. 0: the first byte does
/// not tell, or begins no element.
const SHORT_BYTES: [u8; 256] = {
    let (mut table, mut first) = ([0; 256], 0);
    while first < table.len() {
        table[first] = match first as u8 {
            0..SHORT_STRING => 1,
            byte @ SHORT_STRING..INT_13 => 1 + (byte & !SHORT_STRING_MASK),
            INT_13..MIDDLE_STRING => 2,
            INT_16 => 3,
            INT_24 => 4,
            INT_32 => 5,
            INT_64 => 9,
            _ => 0,
        };
        first += 1;
    }
    table
};

/// Bytes of the head and of the payload of the element at `at`.
#[inline]
pub(super) fn head(bytes: &[u8], at: usize) -> (usize, usize) {
    let first = bytes[at];
    match first {
        0..SHORT_STRING => (1, 0),
        SHORT_STRING..INT_13 => (1, usize::from(first & !SHORT_STRING_MASK)),
        INT_13..MIDDLE_STRING => (2, 0),
        MIDDLE_STRING..LONG_STRING => {
            (2, usize::from(first & !MIDDLE_STRING_MASK) << 8 | usize::from(bytes[at + 1]))
        }
        LONG_STRING => {
            let len = [bytes[at + 1], bytes[at + 2], bytes[at + 3], bytes[at + 4]];
            (5, u32::from_le_bytes(len) as usize)
        }
        INT_16 => (3, 0),
        INT_24 => (4, 0),
        INT_32 => (5, 0),
        // Nothing else was accepted.
        INT_64.. => (9, 0),
    }
}

/// Where the element after the one at `at` starts.
#[inline]
pub(super) fn end_of(bytes: &[u8], at: usize) -> usize {
    let short = usize::from(SHORT_BYTES[usize::from(bytes[at])]);
    if short != 0 {
        return at + short + 1;
    }
    let (head, payload) = head(bytes, at);
    at + head + payload + backlen_bytes(head + payload)
}

/// The element that starts at `at` and has no backward length behind it, and where the next one does. Head and payload
/// are short enough for a backward length of one byte.
#[inline]
pub(crate) fn decode_bare(bytes: &[u8], at: usize) -> (Element<'_>, usize) {
    let (element, next) = decode(bytes, at);
    (element, next - 1)
}

/// Where the element after such a one starts.
#[inline]
pub(crate) fn end_of_bare(bytes: &[u8], at: usize) -> usize {
    end_of(bytes, at) - 1
}

/// Where the element that ends at `end` starts.
#[inline]
pub(super) fn start_before(bytes: &[u8], end: usize) -> usize {
    let (len, taken) = read_backlen(&bytes[..end]);
    end - taken - len
}

/// The backward length at the end of `bytes`, and how many bytes it takes.
#[inline]
fn read_backlen(bytes: &[u8]) -> (usize, usize) {
    let (mut len, mut taken) = (0, 0);
    for &byte in bytes.iter().rev().take(5) {
        len |= usize::from(byte & 0x7f) << (7 * taken);
        taken += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (len, taken)
}

/// Where the element that starts at `at` ends, with every byte of it looked at; `None` if it is
/// none, or runs beyond the end.
#[inline]
pub(super) fn checked_end(bytes: &[u8], at: usize) -> Option<usize> {
    let short = SHORT_BYTES[usize::from(*bytes.get(at)?)];
    if short == 0 {
        return checked_end_of_other(bytes, at);
    }
    let end = at + usize::from(short);
    (bytes.get(end) == Some(&short)).then_some(end + 1)
}

/// The element that starts at `at`, and where it ends, looked at as [`checked_end`] does.
#[inline(always)]
pub(super) fn checked(bytes: &[u8], at: usize) -> Option<(Element<'_>, usize)> {
    let first = *bytes.get(at)?;
    let end = checked_end(bytes, at)?;
    let element = match first {
        0..SHORT_STRING => Element::Int(i64::from(first)),
        SHORT_STRING..INT_13 => Element::Bytes(bytes.get(at + 1..end - 1)?),
        _ => decode_other(bytes, at).0,
    };
    Some((element, end))
}

fn checked_end_of_other(bytes: &[u8], at: usize) -> Option<usize> {
    let head_bytes = match *bytes.get(at)? {
        0..INT_13 => 1,
        INT_13..LONG_STRING => 2,
        LONG_STRING | INT_32 => 5,
        INT_16 => 3,
        INT_24 => 4,
        INT_64 => 9,
        _ => return None,
    };
    if bytes.len() - at < head_bytes {
        return None;
    }
    let (head, payload) = head(bytes, at);
    let len = head.checked_add(payload)?;
    let back = backlen_bytes(len);
    let end = at.checked_add(len)?.checked_add(back)?;
    let backlen = bytes.get(end - back..end)?;
    let ends = backlen.first().is_some_and(|leftmost| leftmost & 0x80 == 0);
    (ends && read_backlen(backlen) == (len, back)).then_some(end)
}
