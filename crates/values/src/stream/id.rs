//! The numbers of entries: a time in milliseconds and a sequence within it.
//!
//! Invariant: ids are ordered by time, then sequence; their text is `ms-seq`.

use crate::number;

/// The id of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Milliseconds, by convention since the Unix epoch.
    pub ms: u64,
    /// Tells entries of one millisecond apart.
    pub seq: u64,
}

/// The longest text that is looked at as an id.
const TEXT_BYTES_MAX: usize = 127;

/// The longest text that is written: twice 20 digits and the dash.
const ID_TEXT_MAX: usize = 41;

/// The text of an id.
#[derive(Clone, Copy, Debug)]
pub struct IdText {
    bytes: [u8; ID_TEXT_MAX],
    len: u8,
}

impl std::ops::Deref for IdText {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// An id as a client writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedId {
    /// The id; where the sequence was not given, it has the one the caller named.
    pub id: StreamId,
    /// The sequence was written as `*`.
    pub seq_is_open: bool,
}

impl StreamId {
    /// Before every entry; no entry has it.
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    /// After every entry.
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

    /// The id of a time and a sequence.
    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// The id right after this one; none after the last.
    pub fn next(self) -> Option<StreamId> {
        match (self.ms, self.seq) {
            (ms, seq) if seq < u64::MAX => Some(StreamId { ms, seq: seq + 1 }),
            (ms, _) if ms < u64::MAX => Some(StreamId { ms: ms + 1, seq: 0 }),
            _ => None,
        }
    }

    /// The id right before this one; none before the first.
    pub fn previous(self) -> Option<StreamId> {
        match (self.ms, self.seq) {
            (ms, seq) if seq > 0 => Some(StreamId { ms, seq: seq - 1 }),
            (ms, _) if ms > 0 => Some(StreamId { ms: ms - 1, seq: u64::MAX }),
            _ => None,
        }
    }

    /// The 16 bytes under which Redis files an id: both numbers, high bytes first.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.ms.to_be_bytes());
        bytes[8..].copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }

    /// The id that [`StreamId::to_bytes`] wrote.
    pub fn from_bytes(bytes: [u8; 16]) -> StreamId {
        let both = u128::from_be_bytes(bytes);
        StreamId { ms: (both >> 64) as u64, seq: both as u64 }
    }

    /// The text.
    #[inline]
    pub fn text(self) -> IdText {
        let (mut ms, mut seq) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (ms, seq) = (ms.format(self.ms).as_bytes(), seq.format(self.seq).as_bytes());
        let mut text = IdText { bytes: [b'-'; ID_TEXT_MAX], len: (ms.len() + 1 + seq.len()) as u8 };
        text.bytes[..ms.len()].copy_from_slice(ms);
        text.bytes[ms.len() + 1..][..seq.len()].copy_from_slice(seq);
        text
    }

    /// Reads `-`, `+`, `ms`, `ms-seq` or `ms-*`; `missing_seq` stands for a sequence that is not
    /// given. What counts as a number is what Redis takes: it reads the text as a C string, and
    /// accepts blanks, signs and zeros in front of it.
    pub fn parse(text: &[u8], missing_seq: u64) -> Option<ParsedId> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let text = until_nul(text);
        match text {
            b"-" => return Some(ParsedId { id: StreamId::MIN, seq_is_open: false }),
            b"+" => return Some(ParsedId { id: StreamId::MAX, seq_is_open: false }),
            _ => {}
        }
        let Some(dash) = text.iter().position(|byte| *byte == b'-') else {
            let ms = parse_number(text)?;
            return Some(ParsedId { id: StreamId { ms, seq: missing_seq }, seq_is_open: false });
        };
        let ms = parse_number(&text[..dash])?;
        match &text[dash + 1..] {
            b"*" => Some(ParsedId { id: StreamId { ms, seq: 0 }, seq_is_open: true }),
            seq => Some(ParsedId { id: StreamId { ms, seq: parse_number(seq)? }, seq_is_open: false }),
        }
    }

    /// Like [`StreamId::parse`], for places where only an id of both numbers or of a time will do:
    /// no `-`, `+` or `*`.
    pub fn parse_strict(text: &[u8], missing_seq: u64) -> Option<StreamId> {
        if matches!(until_nul(text), b"-" | b"+") {
            return None;
        }
        StreamId::parse(text, missing_seq).filter(|parsed| !parsed.seq_is_open).map(|parsed| parsed.id)
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

fn until_nul(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    &text[..end]
}

/// A canonical decimal number, or what C's `strtoull` makes of the text: blanks and one sign in front,
/// a negative number wraps. A canonical negative one is refused.
fn parse_number(text: &[u8]) -> Option<u64> {
    if let Some(number) = number::parse_i64(text) {
        return u64::try_from(number).ok();
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|byte| !is_blank(byte))?;
    let (negative, digits) = match &text[start..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    Some(if negative { number.wrapping_neg() } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_an_id() {
        let id = |ms, seq| Some(ParsedId { id: StreamId { ms, seq }, seq_is_open: false });
        for (text, parsed) in [
            (&b"-"[..], id(0, 0)),
            (b"+", id(u64::MAX, u64::MAX)),
            (b"5", id(5, 7)),
            (b"5-3", id(5, 3)),
            (b"18446744073709551615-18446744073709551615", id(u64::MAX, u64::MAX)),
            (b"18446744073709551616-1", None),
            (b"", None),
            (b"1-", None),
            (b"-1", None),
            (b"1--1", None),
            (b"1- -1", id(1, u64::MAX)),
            (b"007-+08", id(7, 8)),
            (b"1-1-1", None),
            (b"1 -1", None),
            (b"1-1\0x", id(1, 1)),
            (b"-\0x", id(0, 0)),
            (b"a-1", None),
            (b"*", None),
            (b"1-**", None),
        ] {
            assert_eq!(StreamId::parse(text, 7), parsed, "{}", text.escape_ascii());
        }
        assert_eq!(StreamId::parse(b"5-*", 7), Some(ParsedId { id: StreamId::new(5, 0), seq_is_open: true }));
        assert_eq!(StreamId::parse(&[b'0'; 127], 7), id(0, 7));
        assert_eq!(StreamId::parse(&[b'0'; 128], 7), None);
        assert_eq!(StreamId::parse_strict(b"5-*", 7), None);
        assert_eq!(StreamId::parse_strict(b"+", 7), None);
        assert_eq!(StreamId::parse_strict(b"5", 7), Some(StreamId::new(5, 7)));
    }

    proptest! {
        #[test]
        fn order_text_and_neighbours_agree(ms: u64, seq: u64) {
            let id = StreamId { ms, seq };
            prop_assert_eq!(StreamId::parse_strict(&id.text(), 0), Some(id));
            prop_assert_eq!(id.text().to_vec(), id.to_string().into_bytes());
            prop_assert_eq!(StreamId::from_bytes(id.to_bytes()), id);
            if let Some(next) = id.next() {
                prop_assert!(next > id && next.to_bytes() > id.to_bytes());
                prop_assert_eq!(next.previous(), Some(id));
            }
        }
    }
}
