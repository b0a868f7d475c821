//! Packets of MySQL's protocol, from and to bytes.
//!
//! Invariant: nothing that a server sends makes a reader go past the end of the packet, or make room for what has not arrived.

use larder_source::{Failure, FailureKind};
use larder_source_net::garbled;

/// The most that one packet holds; what is longer goes on in the next.
pub const PACKET_MAX: usize = 0xff_ffff;

/// Puts a payload into packets, the first with this number; the number that follows the last.
pub fn frame(payload: &[u8], mut number: u8, out: &mut Vec<u8>) -> u8 {
    let mut rest = payload;
    loop {
        let (part, after) = rest.split_at(rest.len().min(PACKET_MAX));
        out.extend_from_slice(&(part.len() as u32).to_le_bytes()[..3]);
        out.push(number);
        out.extend_from_slice(part);
        number = number.wrapping_add(1);
        rest = after;
        // A full packet is followed by another, if need be an empty one.
        if part.len() < PACKET_MAX {
            return number;
        }
    }
}

/// A text that ends with a zero byte. One in it would end it early, so it is cut there: names that hold one do not exist.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.split('\0').next().unwrap_or_default().as_bytes());
    out.push(0);
}

/// Bytes with their length in front, in as few bytes as it takes.
pub fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = bytes.len() as u64;
    match length {
        0..=250 => out.push(length as u8),
        251..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&(length as u16).to_le_bytes());
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            out.extend_from_slice(&(length as u32).to_le_bytes()[..3]);
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&length.to_le_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// Reads what a packet holds. Numbers have their lowest byte first.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a>(pub &'a [u8]);

impl<'a> Body<'a> {
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Failure> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        self.bytes(N)?.try_into().map_err(|_| short())
    }

    pub fn u8(&mut self) -> Result<u8, Failure> {
        Ok(self.bytes(1)?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Failure> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Failure> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Failure> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A number of so many bytes, eight at most.
    pub fn number(&mut self, bytes: usize) -> Result<u64, Failure> {
        Ok(self.bytes(bytes)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// The same with the highest byte first.
    pub fn number_be(&mut self, bytes: usize) -> Result<u64, Failure> {
        Ok(self.bytes(bytes)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// A number in as few bytes as it takes.
    pub fn counter(&mut self) -> Result<u64, Failure> {
        match self.u8()? {
            small @ 0..=250 => Ok(u64::from(small)),
            0xfc => self.number(2),
            0xfd => self.number(3),
            0xfe => self.number(8),
            _ => Err(garbled("the store sent a length that is none")),
        }
    }

    /// A length that cannot be more than what is there.
    pub fn length(&mut self) -> Result<usize, Failure> {
        usize::try_from(self.counter()?).map_err(|_| short())
    }

    /// Bytes with their length in front.
    pub fn counted(&mut self) -> Result<&'a [u8], Failure> {
        let length = self.length()?;
        self.bytes(length)
    }

    pub fn counted_text(&mut self) -> Result<&'a str, Failure> {
        text(self.counted()?)
    }

    /// Bytes up to a zero byte, or to the end where there is none.
    pub fn until_zero(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| byte == 0);
        let (taken, rest) = match end {
            Some(end) => (&self.0[..end], &self.0[end + 1..]),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        taken
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub fn text(bytes: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(bytes).map_err(|_| garbled("the store sent a name that is not UTF-8"))
}

fn short() -> Failure {
    garbled("the store sent a packet that is too short")
}

/// What an error says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerError {
    pub code: u16,
    state: String,
    text: String,
}

/// A statement that was prepared is not known, or is not valid any more.
pub const UNKNOWN_STATEMENT: u16 = 1243;
pub const NEEDS_PREPARING: u16 = 1615;
/// There is no such thread.
pub const NO_SUCH_THREAD: u16 = 1094;
/// The user may not do this.
pub const ACCESS_DENIED: u16 = 1045;
/// The binlog cannot be read from where it was to be.
pub const BINLOG_UNREADABLE: u16 = 1236;
const PARSE_ERROR: u16 = 1064;
/// Errors show at most so many characters of a statement, some of which may be dots.
const SHOWN_MAX: usize = 77;

impl ServerError {
    /// From the packet that follows the byte 0xff.
    pub fn read(packet: &[u8]) -> ServerError {
        let mut body = Body(packet);
        let code = body.u16().unwrap_or(0);
        // Before a connection has agreed on the protocol there is no state.
        let state = match body.0.first() {
            Some(b'#') if body.0.len() >= 6 => String::from_utf8_lossy(&body.0[1..6]).into_owned(),
            _ => String::new(),
        };
        let text = if state.is_empty() { body.0 } else { &body.0[6..] };
        ServerError { code, state, text: String::from_utf8_lossy(text).into_owned() }
    }

    /// What kind of failure it is.
    fn kind(&self) -> FailureKind {
        match self.code {
            // Too many connections, of all or of this user; what a user may do in an hour; locks; time limits; too many statements; two
            // replicas of one number.
            1040 | 1203 | 1226 | 1205 | 1213 | 1317 | 1461 | 1637 | 1969 | 3024 | 1479 | 3572 | 4052 => {
                FailureKind::Busy
            }
            // Ending, or the connection was ended.
            1053 | 1077..=1081 | 1152..=1161 | 1184 | 1927 | 1218 | 1236 | 3169 | 4031 => {
                FailureKind::Unreachable
            }
            // Out of range, no number, too long, no date, division by zero.
            1264..=1266 | 1292 | 1365..=1367 | 1406 | 1690 | 1411 | 1441 => FailureKind::Unfit,
            _ if self.state.starts_with("08") => FailureKind::Unreachable,
            _ if self.state.starts_with("40") => FailureKind::Busy,
            _ if self.state.starts_with("22") => FailureKind::Unfit,
            _ => FailureKind::Refused,
        }
    }

    /// The failure, with no position.
    pub fn failure(&self) -> Failure {
        let state = if self.state.is_empty() { String::new() } else { format!(", {}", self.state) };
        Failure::new(self.kind(), format!("{} ({}{state})", self.text, self.code))
    }

    /// Where in what was sent a statement could not be read. The error shows how the statement goes on from there.
    pub fn position(&self, sent: &str) -> Option<usize> {
        if self.code != PARSE_ERROR {
            return None;
        }
        let (_, after) = self.text.split_once(" near '")?;
        let (shown, _) = after.rsplit_once("' at line ")?;
        if shown.chars().count() < SHOWN_MAX {
            return sent.ends_with(shown).then(|| sent.len() - shown.len());
        }
        let shown = shown.strip_suffix("...").unwrap_or(shown);
        let mut found = sent.match_indices(shown);
        let (position, _) = found.next()?;
        found.next().is_none().then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_put_into_packets() {
        let mut out = Vec::new();
        assert_eq!(frame(b"abc", 0, &mut out), 1);
        assert_eq!(out, b"\x03\0\0\0abc");
        let large = vec![7; PACKET_MAX];
        out.clear();
        assert_eq!(frame(&large, 255, &mut out), 1);
        assert_eq!(out.len(), 4 + PACKET_MAX + 4);
        assert_eq!((&out[..4], &out[4 + PACKET_MAX..]), (&b"\xff\xff\xff\xff"[..], &b"\0\0\0\0"[..]));
    }

    #[test]
    fn lengths_go_both_ways() {
        for length in [0, 1, 250, 251, 65535, 65536, PACKET_MAX, PACKET_MAX + 1] {
            let mut out = Vec::new();
            put_counted(&mut out, &vec![1; length]);
            let mut body = Body(&out);
            assert_eq!(body.counted().unwrap().len(), length);
            assert!(body.is_empty());
        }
        assert!(Body(b"\xfb").counter().is_err() && Body(b"\xff").counter().is_err());
        assert!(Body(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff").counted().is_err());
        assert!(Body(b"\x05abc").counted().is_err());
    }

    #[test]
    fn errors_are_read() {
        let error = ServerError::read(b"\x7a\x04#42S02Table 'a.b' doesn't exist");
        let failure = error.failure();
        assert_eq!(failure.kind, FailureKind::Refused);
        assert_eq!(failure.text, "Table 'a.b' doesn't exist (1146, 42S02)");
        let early = ServerError::read(b"\x10\x04Too many connections");
        assert_eq!(
            (early.failure().kind, early.failure().text.as_str()),
            (FailureKind::Busy, "Too many connections (1040)")
        );
        assert_eq!(ServerError::read(b"").code, 0);
    }

    #[test]
    fn the_place_of_an_error_is_told_only_where_it_is_sure() {
        let at = |text: &str, sent: &str| {
            let error = ServerError { code: PARSE_ERROR, state: "42000".to_owned(), text: text.to_owned() };
            error.position(sent)
        };
        let sent = "SELECT name FRM users WHERE id = ?";
        assert_eq!(at("bad near 'users WHERE id = ?' at line 1", sent), Some(16));
        assert_eq!(at("bad near '' at line 1", sent), Some(sent.len()));
        assert_eq!(at("bad near 'elsewhere' at line 1", sent), None);
        let long = format!("SELECT x FRM {}", "abc, ".repeat(40));
        let shown = &long[9..9 + 80];
        assert_eq!(at(&format!("bad near '{shown}' at line 1"), &long), Some(9));
        assert_eq!(at(&format!("bad near '{}...' at line 1", &long[9..9 + 77]), &long), Some(9));
        assert_eq!(
            at(&format!("bad near '{}' at line 1", &long[13..13 + 80]), &long),
            None,
            "it is there twice"
        );
    }
}
