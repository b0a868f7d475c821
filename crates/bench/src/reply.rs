//! Counts the replies in a stream of bytes, however it is cut: complete replies, errors, absent values.
//! Invariant: any split of a stream gives the same tally, and bytes that are no reply stop the run instead of
//! being counted. Payloads are skipped, never copied. Read next: `load.rs`.

use crate::template::Protocol;
use anyhow::{Result, bail, ensure};

/// What the replies seen so far amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Complete replies, errors among them.
    pub(crate) replies: u64,
    /// Error replies, also those inside an array.
    pub(crate) errors: u64,
    /// Replies that say "no such value".
    pub(crate) absent: u64,
    /// Bytes of values received.
    pub(crate) payload_bytes: u64,
    /// Out-of-band messages; they are no replies.
    pub(crate) pushes: u64,
}

/// A header line longer than this is no reply of the commands we send.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// No reply has more elements than this.
const ELEMENTS_MAX: u64 = 1 << 32;

/// The counter of one connection.
#[derive(Debug)]
pub(crate) struct ReplyCounter {
    protocol: Protocol,
    partial_line: Vec<u8>,
    payload_left: u64,
    payload_is_error: bool,
    line_end: LineEnd,
    elements_open: u64,
    out_of_band: bool,
    value_seen: bool,
    error_first: Option<String>,
}

/// The two bytes that close a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    None,
    Return,
    Feed,
}

impl ReplyCounter {
    /// A counter at the start of a stream.
    pub(crate) fn new(protocol: Protocol) -> ReplyCounter {
        ReplyCounter {
            protocol,
            partial_line: Vec::new(),
            payload_left: 0,
            payload_is_error: false,
            line_end: LineEnd::None,
            elements_open: 0,
            out_of_band: false,
            value_seen: false,
            error_first: None,
        }
    }

    /// The text of the first error reply.
    pub(crate) fn error_first(&self) -> Option<&str> {
        self.error_first.as_deref()
    }

    /// Counts what `data`, the next bytes of the stream, completes.
    #[inline]
    pub(crate) fn feed(&mut self, mut data: &[u8], tally: &mut Tally) -> Result<()> {
        while !data.is_empty() {
            if self.payload_left > 0 || self.line_end != LineEnd::None {
                data = self.skip_payload(data, tally)?;
                continue;
            }
            let Some(newline) = memchr::memchr(b'\n', data) else {
                self.partial_line.extend_from_slice(data);
                ensure!(self.partial_line.len() <= LINE_BYTES_MAX, "a reply line is endless");
                return Ok(());
            };
            let (line, rest) = data.split_at(newline + 1);
            data = rest;
            if self.partial_line.is_empty() {
                self.line(line, tally)?;
            } else {
                let mut whole = std::mem::take(&mut self.partial_line);
                whole.extend_from_slice(line);
                self.line(&whole, tally)?;
                whole.clear();
                self.partial_line = whole;
            }
        }
        Ok(())
    }

    fn skip_payload<'d>(&mut self, data: &'d [u8], tally: &mut Tally) -> Result<&'d [u8]> {
        let skipped = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(data.len());
        let (payload, mut rest) = data.split_at(skipped);
        if self.payload_is_error && self.error_first.is_none() {
            self.error_first = Some(String::from_utf8_lossy(payload).into_owned());
        }
        self.payload_left -= skipped as u64;
        tally.payload_bytes += skipped as u64;
        while self.payload_left == 0 && self.line_end != LineEnd::None {
            let Some((&byte, after)) = rest.split_first() else { break };
            rest = after;
            match (self.line_end, byte) {
                (LineEnd::Return, b'\r') => self.line_end = LineEnd::Feed,
                (LineEnd::Feed, b'\n') => {
                    self.line_end = LineEnd::None;
                    self.payload_is_error = false;
                    if self.protocol == Protocol::Resp {
                        self.element_done(tally);
                    }
                }
                _ => bail!("a value does not end where its length says"),
            }
        }
        Ok(rest)
    }

    #[inline]
    fn line(&mut self, line: &[u8], tally: &mut Tally) -> Result<()> {
        let Some(text) = line.strip_suffix(b"\r\n") else { bail!("a reply line ends without CR LF") };
        match self.protocol {
            Protocol::Resp => self.resp_line(text, tally),
            Protocol::Memcached => self.memcached_line(text, tally),
        }
    }

    #[inline]
    fn resp_line(&mut self, text: &[u8], tally: &mut Tally) -> Result<()> {
        let Some((&kind, rest)) = text.split_first() else { bail!("an empty line is no reply") };
        let first = self.elements_open == 0;
        if first {
            self.elements_open = 1;
        }
        match kind {
            b'$' | b'=' | b'!' => self.payload(kind, rest, tally)?,
            b'+' | b':' | b',' | b'#' | b'(' => self.element_done(tally),
            b'-' => {
                self.error(rest, tally);
                self.element_done(tally);
            }
            b'_' => {
                tally.absent += 1;
                self.element_done(tally);
            }
            b'*' | b'~' | b'%' | b'>' | b'|' => self.aggregate(kind, rest, first, tally)?,
            _ => bail!("not a reply: {:?}", String::from_utf8_lossy(text)),
        }
        Ok(())
    }

    #[inline]
    fn payload(&mut self, kind: u8, length: &[u8], tally: &mut Tally) -> Result<()> {
        match number(length)? {
            None => {
                tally.absent += 1;
                self.element_done(tally);
            }
            Some(bytes) => {
                if kind == b'!' {
                    tally.errors += 1;
                    self.payload_is_error = true;
                }
                self.payload_left = bytes;
                self.line_end = LineEnd::Return;
            }
        }
        Ok(())
    }

    fn aggregate(&mut self, kind: u8, length: &[u8], first: bool, tally: &mut Tally) -> Result<()> {
        let Some(count) = number(length)? else {
            tally.absent += 1;
            self.element_done(tally);
            return Ok(());
        };
        ensure!(count <= ELEMENTS_MAX, "a reply announces {count} elements");
        let doubled = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
        self.elements_open = self.elements_open.saturating_add(count.saturating_mul(doubled));
        ensure!(self.elements_open <= ELEMENTS_MAX, "a reply has too many elements");
        match kind {
            // An attribute stands before the reply it describes and is no element itself.
            b'|' => {}
            b'>' if first => {
                self.out_of_band = true;
                self.element_done(tally);
            }
            _ => self.element_done(tally),
        }
        Ok(())
    }

    #[inline]
    fn element_done(&mut self, tally: &mut Tally) {
        self.elements_open -= 1;
        if self.elements_open > 0 {
            return;
        }
        if std::mem::take(&mut self.out_of_band) {
            tally.pushes += 1;
        } else {
            tally.replies += 1;
        }
    }

    fn memcached_line(&mut self, text: &[u8], tally: &mut Tally) -> Result<()> {
        if let Some(value) = text.strip_prefix(b"VALUE ") {
            let mut fields = value.split(|&byte| byte == b' ').skip(2);
            let Some(Some(bytes)) = fields.next().map(number).transpose()? else {
                bail!("not a value header: {:?}", String::from_utf8_lossy(text));
            };
            self.value_seen = true;
            self.payload_left = bytes;
            self.line_end = LineEnd::Return;
            return Ok(());
        }
        match text {
            b"END" => tally.absent += u64::from(!std::mem::take(&mut self.value_seen)),
            b"NOT_FOUND" => tally.absent += 1,
            b"STORED" | b"NOT_STORED" | b"EXISTS" | b"DELETED" | b"TOUCHED" | b"OK" => {}
            _ if text.starts_with(b"ERROR")
                || text.starts_with(b"CLIENT_ERROR")
                || text.starts_with(b"SERVER_ERROR") =>
            {
                self.error(text, tally);
            }
            _ if text.starts_with(b"VERSION ") => {}
            _ if !text.is_empty() && text.iter().all(u8::is_ascii_digit) => {}
            _ => bail!("not a reply: {:?}", String::from_utf8_lossy(text)),
        }
        tally.replies += 1;
        Ok(())
    }

    #[cold]
    fn error(&mut self, text: &[u8], tally: &mut Tally) {
        tally.errors += 1;
        self.error_first.get_or_insert_with(|| String::from_utf8_lossy(text).into_owned());
    }
}

/// A length: `None` for -1, which means absent.
#[inline]
fn number(digits: &[u8]) -> Result<Option<u64>> {
    if digits == b"-1" {
        return Ok(None);
    }
    ensure!(!digits.is_empty() && digits.len() <= 12, "a length of {} digits", digits.len());
    let mut value = 0u64;
    for &digit in digits {
        ensure!(digit.is_ascii_digit(), "not a length: {:?}", String::from_utf8_lossy(digits));
        value = value * 10 + u64::from(digit - b'0');
    }
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESP: &[u8] = b"+OK\r\n$3\r\nabc\r\n$-1\r\n:12\r\n-ERR no\r\n*2\r\n$1\r\nx\r\n*1\r\n-ERR inner\r\n*0\r\n\
        %1\r\n+k\r\n,1.5\r\n>2\r\n+message\r\n$2\r\n\r\n\r\n_\r\n#t\r\n!5\r\nERR x\r\n|1\r\n+a\r\n+b\r\n~1\r\n(99\r\n*-1\r\n$0\r\n\r\n=7\r\ntxt:abc\r\n";
    const RESP_TALLY: Tally = Tally { replies: 15, errors: 3, absent: 3, payload_bytes: 18, pushes: 1 };

    const MEMCACHED: &[u8] = b"STORED\r\nVALUE key:1 0 5\r\nEND\r\n\r\nEND\r\nEND\r\nNOT_FOUND\r\nERROR\r\n\
        SERVER_ERROR out of memory\r\n17\r\nDELETED\r\nVERSION 1.6\r\n";
    const MEMCACHED_TALLY: Tally = Tally { replies: 9, errors: 2, absent: 2, payload_bytes: 5, pushes: 0 };

    fn counted(protocol: Protocol, parts: &[&[u8]]) -> Tally {
        let mut counter = ReplyCounter::new(protocol);
        let mut tally = Tally::default();
        for part in parts {
            counter.feed(part, &mut tally).unwrap();
        }
        assert_eq!(counter.elements_open, 0);
        tally
    }

    fn every_split(protocol: Protocol, stream: &[u8], expected: Tally) {
        assert_eq!(counted(protocol, &[stream]), expected);
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(counted(protocol, &single), expected);
        for first in 0..stream.len() {
            for second in first..stream.len() {
                let parts = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(counted(protocol, &parts), expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn resp_replies_count_the_same_under_every_split() {
        every_split(Protocol::Resp, RESP, RESP_TALLY);
    }

    #[test]
    fn memcached_replies_count_the_same_under_every_split() {
        every_split(Protocol::Memcached, MEMCACHED, MEMCACHED_TALLY);
    }

    #[test]
    fn what_is_no_reply_stops_the_count() {
        let cases: [(Protocol, &[u8]); 9] = [
            (Protocol::Resp, b"hello\r\n"),
            (Protocol::Resp, b"$3\r\nabcd\r\n"),
            (Protocol::Resp, b"+OK\n"),
            (Protocol::Resp, b"$x\r\n"),
            (Protocol::Resp, b"\r\n"),
            (Protocol::Resp, b"*99999999999\r\n"),
            (Protocol::Memcached, b"STORE\r\n"),
            (Protocol::Memcached, b"VALUE k 0\r\n"),
            (Protocol::Memcached, b"VALUE k 0 1\r\nab"),
        ];
        for (protocol, stream) in cases {
            let mut counter = ReplyCounter::new(protocol);
            assert!(counter.feed(stream, &mut Tally::default()).is_err(), "{stream:?}");
        }
    }

    #[test]
    fn the_first_error_is_remembered() {
        let mut counter = ReplyCounter::new(Protocol::Resp);
        counter.feed(b"+OK\r\n-ERR one\r\n-ERR two\r\n", &mut Tally::default()).unwrap();
        assert_eq!(counter.error_first(), Some("ERR one"));
    }
}
