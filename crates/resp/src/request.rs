//! The request parser: resumable, without recursion, without a copy of any argument.
//!
//! A request is an array of bulk strings, or an inline line of words. The parser is handed the
//! bytes that have arrived, from the first byte of the request on, and answers the positions of the
//! arguments. When bytes are missing it remembers how far it came, so that a request which arrives
//! in a thousand pieces is still read once. Room is made for what has arrived, never for what a
//! header announces.
//!
//! An inline request has no argument positions of its own (quotes change bytes): its words are
//! rewritten by the caller through [`crate::split_words`]; the parser only finds the line.

use crate::limits::{
    ITEMS_MAX, LINE_BYTES_MAX, Limits, UNAUTHENTICATED_BULK_BYTES_MAX, UNAUTHENTICATED_ITEMS_MAX,
};
use memchr::memchr;

/// Where one argument lies, relative to the first byte of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Span {
    /// The bytes this span names in a request.
    #[inline]
    pub fn of<'a>(&self, request: &'a [u8]) -> &'a [u8] {
        let start = self.start as usize;
        &request[start..start + self.len as usize]
    }
}

/// What a call to [`RequestParser::parse`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A whole request of so many bytes; its argument positions have been pushed. No argument at
    /// all (an empty array or line) is a request that asks nothing.
    Complete(usize),
    /// A whole inline request: `line` bytes of text, `consumed` bytes with the terminator.
    Inline {
        /// Bytes of text before the terminator.
        line: usize,
        /// Bytes including the terminator.
        consumed: usize,
    },
    /// More bytes are needed; at least so many in all, counted from the request's first byte.
    Incomplete {
        /// A lower bound of the request's length, in bytes.
        wanted: usize,
    },
}

/// A violation of the protocol. The connection is answered with it and closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// A line without an end in sight where an inline request was read.
    InlineTooLong,
    /// Quotes in an inline request do not balance.
    UnbalancedQuotes,
    /// A line without an end in sight where an array length was read.
    ItemCountTooLong,
    /// The array length is no number or out of bounds.
    InvalidItemCount,
    /// An array length over what a peer may announce before it authenticates.
    UnauthenticatedItemCount,
    /// A line without an end in sight where a bulk length was read.
    BulkLengthTooLong,
    /// Something else than a bulk string inside a request.
    ExpectedBulk(u8),
    /// The bulk length is no number, negative, or above `proto-max-bulk-len`.
    InvalidBulkLength,
    /// A bulk length over what a peer may announce before it authenticates.
    UnauthenticatedBulkLength,
}

impl ProtocolError {
    /// Appends the text of the error reply, without the leading `-ERR `.
    pub fn write_text(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Protocol error: ");
        out.extend_from_slice(match self {
            ProtocolError::InlineTooLong => b"too big inline request",
            ProtocolError::UnbalancedQuotes => b"unbalanced quotes in request",
            ProtocolError::ItemCountTooLong => b"too big mbulk count string",
            ProtocolError::InvalidItemCount => b"invalid multibulk length",
            ProtocolError::UnauthenticatedItemCount => b"unauthenticated multibulk length",
            ProtocolError::BulkLengthTooLong => b"too big bulk count string",
            ProtocolError::ExpectedBulk(_) => b"expected '$', got '",
            ProtocolError::InvalidBulkLength => b"invalid bulk length",
            ProtocolError::UnauthenticatedBulkLength => b"unauthenticated bulk length",
        });
        if let ProtocolError::ExpectedBulk(byte) = self {
            out.push(byte);
            out.push(b'\'');
        }
    }
}

/// How far the parser has come in the request at hand. Twelve bytes, all zero between requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestParser {
    /// Offset of the next byte to look at.
    at: u32,
    /// Arguments still to be read; meaningful once `at` is past the array header.
    items_left: u32,
    /// Length plus one of the argument whose header has been read, or zero.
    bulk: u32,
}

impl RequestParser {
    /// Whether the parser stands inside a request.
    #[inline]
    pub fn in_request(&self) -> bool {
        self.at != 0
    }

    /// Reads on in a request whose bytes so far are `input`.
    ///
    /// Argument positions are pushed to `spans` as they are found; the caller keeps both `self` and
    /// the pushed spans when the answer is `Incomplete`, and hands them in again with more bytes.
    /// O(new bytes).
    #[inline]
    pub fn parse(
        &mut self,
        input: &[u8],
        spans: &mut Vec<Span>,
        limits: &Limits,
    ) -> Result<Progress, ProtocolError> {
        if self.at == 0 {
            if let Some(consumed) = parse_whole(input, spans) {
                return Ok(Progress::Complete(consumed));
            }
            match input.first() {
                None => return Ok(Progress::Incomplete { wanted: 1 }),
                Some(b'*') => {}
                Some(_) => return parse_inline(input),
            }
            match self.parse_item_count(input, limits)? {
                Header::Missing => return Ok(Progress::Incomplete { wanted: input.len() + 1 }),
                Header::Value(count) if count <= 0 => return Ok(self.finish()),
                Header::Value(count) => self.items_left = count as u32,
            }
        }
        while self.items_left > 0 {
            if self.bulk == 0 {
                match self.parse_bulk_length(input, limits)? {
                    Header::Missing => return Ok(Progress::Incomplete { wanted: input.len() + 1 }),
                    Header::Value(len) => self.bulk = len as u32 + 1,
                }
            }
            let len = self.bulk - 1;
            let end = self.at as usize + len as usize + 2;
            if end > input.len() {
                return Ok(Progress::Incomplete { wanted: end });
            }
            spans.push(Span { start: self.at, len });
            self.at = end as u32;
            self.bulk = 0;
            self.items_left -= 1;
        }
        Ok(self.finish())
    }

    fn finish(&mut self) -> Progress {
        let consumed = self.at as usize;
        *self = RequestParser::default();
        Progress::Complete(consumed)
    }

    fn parse_item_count(&mut self, input: &[u8], limits: &Limits) -> Result<Header, ProtocolError> {
        let Some((value, end)) = header_line(input, 1, ProtocolError::ItemCountTooLong)? else {
            return Ok(Header::Missing);
        };
        let count = value.filter(|count| *count <= ITEMS_MAX).ok_or(ProtocolError::InvalidItemCount)?;
        if count > UNAUTHENTICATED_ITEMS_MAX && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedItemCount);
        }
        self.at = end as u32;
        Ok(Header::Value(count))
    }

    #[inline]
    fn parse_bulk_length(&mut self, input: &[u8], limits: &Limits) -> Result<Header, ProtocolError> {
        let at = self.at as usize;
        match input.get(at..) {
            // The common case: one or two digits.
            Some([b'$', d1 @ b'0'..=b'9', b'\r', b'\n', ..]) => {
                self.at += 4;
                return Ok(Header::Value(i64::from(d1 - b'0')));
            }
            Some([b'$', d1 @ b'1'..=b'9', d2 @ b'0'..=b'9', b'\r', b'\n', ..]) => {
                self.at += 5;
                return Ok(Header::Value(i64::from(d1 - b'0') * 10 + i64::from(d2 - b'0')));
            }
            Some([]) | None => return Ok(Header::Missing),
            Some([b'$', ..]) => {}
            // The peer's error is reported once its line is whole, as it may still be on its way.
            Some([byte, rest @ ..]) => {
                return if memchr(b'\r', rest).is_some_and(|end| end + 1 < rest.len()) {
                    Err(ProtocolError::ExpectedBulk(*byte))
                } else if rest.len() > LINE_BYTES_MAX {
                    Err(ProtocolError::BulkLengthTooLong)
                } else {
                    Ok(Header::Missing)
                };
            }
        }
        let Some((value, end)) = header_line(input, at + 1, ProtocolError::BulkLengthTooLong)? else {
            return Ok(Header::Missing);
        };
        let len = value
            .filter(|len| (0..=limits.bulk_bytes_max.min(i64::from(u32::MAX) - 1)).contains(len))
            .ok_or(ProtocolError::InvalidBulkLength)?;
        if len > UNAUTHENTICATED_BULK_BYTES_MAX && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        // A request is addressed by 32-bit positions; one that would not fit is refused here.
        let request_end = end as u64 + len as u64 + 2;
        if request_end > crate::limits::REQUEST_BYTES_MAX as u64 {
            return Err(ProtocolError::InvalidBulkLength);
        }
        self.at = end as u32;
        Ok(Header::Value(len))
    }
}

/// The common request: up to nine short arguments, all of it here. Answers its length, or `None`, with
/// nothing pushed, for whatever is not that.
///
/// Every header is read by one eight-byte load: `$`, one to three digits without a leading zero, the
/// line's end.
#[inline(always)]
pub fn parse_whole(input: &[u8], spans: &mut Vec<Span>) -> Option<usize> {
    // Count and length of the name, one digit each: `*2\r\n$3\r\n`.
    let head = u64::from_le_bytes(*input.first_chunk::<8>()?);
    if head & 0xffff_00ff_ffff_00ff != u64::from_le_bytes(*b"*\0\r\n$\0\r\n") {
        return None;
    }
    let (count, name_len) = (digit(head >> 8), digit(head >> 40));
    if count.wrapping_sub(1) > 8 || name_len > 9 {
        return None;
    }
    let name = Span { start: 8, len: name_len as u32 };
    let mut at = 8 + name_len as usize + 2;
    match count {
        2 => {
            let first = short_item(input, &mut at)?;
            if at > input.len() {
                return None;
            }
            spans.extend_from_slice(&[name, first]);
        }
        3 => {
            let (first, second) = (short_item(input, &mut at)?, short_item(input, &mut at)?);
            if at > input.len() {
                return None;
            }
            spans.extend_from_slice(&[name, first, second]);
        }
        _ => {
            let before = spans.len();
            spans.push(name);
            for _ in 1..count {
                let Some(item) = short_item(input, &mut at) else {
                    spans.truncate(before);
                    return None;
                };
                spans.push(item);
            }
            if at > input.len() {
                spans.truncate(before);
                return None;
            }
        }
    }
    Some(at)
}

/// The header of an argument of up to 999 bytes at `at`, which moves behind the argument. One eight-byte load.
#[inline(always)]
fn short_item(input: &[u8], at: &mut usize) -> Option<Span> {
    let head = u64::from_le_bytes(*input.get(*at..)?.first_chunk::<8>()?);
    let (first, second, third) = (digit(head >> 8), digit(head >> 16), digit(head >> 24));
    let (len, header) = if head & 0xff_ff00_00ff == u64::from_le_bytes(*b"$\0\0\r\n\0\0\0")
        && first.wrapping_sub(1) < 9
        && second < 10
    {
        (first * 10 + second, 5)
    } else if head & 0xffff_00ff == u64::from_le_bytes(*b"$\0\r\n\0\0\0\0") && first < 10 {
        (first, 4)
    } else if head & 0xffff_0000_00ff == u64::from_le_bytes(*b"$\0\0\0\r\n\0\0")
        && first.wrapping_sub(1) < 9
        && second < 10
        && third < 10
    {
        (first * 100 + second * 10 + third, 6)
    } else {
        return None;
    };
    let start = *at + header;
    *at = start + len as usize + 2;
    Some(Span { start: start as u32, len: len as u32 })
}

/// The value of the digit in the lowest byte; above 9 for anything else.
#[inline(always)]
fn digit(byte: u64) -> u64 {
    (byte & 0xff) ^ 0x30
}

enum Header {
    /// The line has not arrived yet.
    Missing,
    /// The number it holds.
    Value(i64),
}

/// Reads the line that starts at `from`: its number, if it is one, and where the next line starts.
fn header_line(
    input: &[u8],
    from: usize,
    too_long: ProtocolError,
) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
    let line = input.get(from..).unwrap_or_default();
    match memchr(b'\r', line) {
        Some(len) if len + 1 < line.len() => Ok(Some((parse_number(&line[..len]), from + len + 2))),
        Some(_) => Ok(None),
        None if line.len() > LINE_BYTES_MAX => Err(too_long),
        None => Ok(None),
    }
}

/// A decimal number as the protocol writes it: no sign but `-`, no leading zeros, no blanks.
fn parse_number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty()
        || digits.len() > 19
        || (digits.len() > 1 && digits[0] == b'0')
        || digits == b"0" && negative
    {
        return None;
    }
    let mut value: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(digit - b'0');
        value = value.checked_mul(10)?;
        value = if negative { value.checked_sub(digit)? } else { value.checked_add(digit)? };
    }
    Some(value)
}

fn parse_inline(input: &[u8]) -> Result<Progress, ProtocolError> {
    match memchr(b'\n', input) {
        Some(end) => {
            let line = if end > 0 && input[end - 1] == b'\r' { end - 1 } else { end };
            Ok(Progress::Inline { line, consumed: end + 1 })
        }
        None if input.len() > LINE_BYTES_MAX => Err(ProtocolError::InlineTooLong),
        None => Ok(Progress::Incomplete { wanted: input.len() + 1 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(args: &[Vec<u8>]) -> Vec<u8> {
        let mut out = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            out.extend(format!("${}\r\n", arg.len()).into_bytes());
            out.extend_from_slice(arg);
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    fn error(input: &[u8]) -> Option<ProtocolError> {
        RequestParser::default().parse(input, &mut Vec::new(), &Limits::default()).err()
    }

    #[test]
    fn violations_are_named() {
        assert_eq!(error(b"*x\r\n"), Some(ProtocolError::InvalidItemCount));
        assert_eq!(error(b"*2147483648\r\n"), Some(ProtocolError::InvalidItemCount));
        assert_eq!(error(b"*1\r\n!3\r\n"), Some(ProtocolError::ExpectedBulk(b'!')));
        assert_eq!(error(b"*1\r\n$-1\r\n"), Some(ProtocolError::InvalidBulkLength));
        assert_eq!(error(b"*1\r\n$536870913\r\n"), Some(ProtocolError::InvalidBulkLength));
        assert_eq!(error(&vec![b'a'; LINE_BYTES_MAX + 1]), Some(ProtocolError::InlineTooLong));
        let locked = Limits { authenticated: false, ..Limits::default() };
        let parse = |input: &[u8]| RequestParser::default().parse(input, &mut Vec::new(), &locked);
        assert_eq!(parse(b"*11\r\n"), Err(ProtocolError::UnauthenticatedItemCount));
        assert_eq!(parse(b"*1\r\n$16385\r\n"), Err(ProtocolError::UnauthenticatedBulkLength));
    }

    #[test]
    fn an_empty_array_asks_nothing() {
        for input in [&b"*0\r\n"[..], b"*-1\r\n"] {
            let mut spans = Vec::new();
            let progress = RequestParser::default().parse(input, &mut spans, &Limits::default());
            assert_eq!((progress, spans.len()), (Ok(Progress::Complete(input.len())), 0));
        }
    }

    proptest! {
        #[test]
        fn any_split_reads_the_same_request(
            args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 1..8),
            cuts in proptest::collection::vec(1usize..40, 0..60),
        ) {
            let wire = encode(&args);
            let (mut parser, mut spans, mut have) = (RequestParser::default(), Vec::new(), 0);
            let mut cuts = cuts.into_iter();
            loop {
                match parser.parse(&wire[..have], &mut spans, &Limits::default()).unwrap() {
                    Progress::Complete(consumed) => { prop_assert_eq!(consumed, wire.len()); break }
                    Progress::Incomplete { wanted } => {
                        prop_assert!(wanted > have && wanted <= wire.len());
                        have = (have + cuts.next().unwrap_or(wire.len())).min(wire.len());
                    }
                    Progress::Inline { .. } => prop_assert!(false),
                }
            }
            let read: Vec<Vec<u8>> = spans.iter().map(|span| span.of(&wire).to_vec()).collect();
            prop_assert_eq!(read, args);
        }

        #[test]
        fn no_input_panics(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = RequestParser::default().parse(&input, &mut Vec::new(), &Limits::default());
            let mut prefixed = b"*2\r\n$".to_vec();
            prefixed.extend(input);
            let _ = RequestParser::default().parse(&prefixed, &mut Vec::new(), &Limits::default());
        }
    }
}
