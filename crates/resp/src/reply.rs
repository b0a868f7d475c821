//! The reply writer: one method per shape, RESP3 in, RESP2 out where the peer speaks that.
//!
//! Invariant: the downgrade from RESP3 to RESP2 happens in this file and nowhere else. Commands
//! state the RESP3 shape (map, set, double, boolean, null) and never ask which protocol is spoken,
//! except where Redis itself gives different data.

use crate::memcached::write_error;
use crate::output::{Blob, Output};

/// The protocol version a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// RESP2: the version every connection starts with.
    #[default]
    Resp2,
    /// RESP3: asked for by `HELLO 3`.
    Resp3,
    /// memcached's text protocol. Its commands write their replies themselves; errors of any command are put into its words.
    Memcached,
}

/// Longest header: a type byte, 20 characters of number, the line's end.
const HEADER_BYTES_MAX: usize = 23;

/// Appends replies to one connection's output.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Output,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    /// A writer for a peer that speaks `protocol`.
    #[inline]
    pub fn new(out: &'a mut Output, protocol: Protocol) -> Self {
        Reply { out, protocol }
    }

    /// The protocol the peer speaks.
    #[inline]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether the peer speaks RESP3.
    #[inline]
    pub fn is_resp3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }

    /// The output behind the writer, for replies that are taken back or measured.
    #[inline]
    pub fn output(&mut self) -> &mut Output {
        self.out
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// A simple string. It must hold neither CR nor LF.
    pub fn simple(&mut self, text: &str) {
        let bytes = self.out.bytes_mut();
        bytes.push(b'+');
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }

    /// An error, code included, such as `ERR syntax error`. CR and LF are replaced by blanks.
    pub fn error(&mut self, text: &[u8]) {
        let bytes = self.out.bytes_mut();
        if self.protocol == Protocol::Memcached {
            return write_error(bytes, text);
        }
        // Differs from Redis: line breaks in an error that a script raises become blanks; Redis sends them, and clients
        // take what follows for another reply.
        bytes.push(b'-');
        bytes.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
        bytes.extend_from_slice(b"\r\n");
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        match value {
            0 => self.raw(b":0\r\n"),
            1 => self.raw(b":1\r\n"),
            _ => self.header(b':', value),
        }
    }

    /// An unsigned count; counts in memory fit an `i64`.
    #[inline]
    pub fn count(&mut self, value: usize) {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// A bulk string.
    #[inline]
    pub fn bulk(&mut self, value: &[u8]) {
        if self.out.is_over() {
            return;
        }
        let bytes = self.out.bytes_mut();
        bytes.reserve(value.len() + HEADER_BYTES_MAX + 2);
        write_bulk_header(bytes, value.len());
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }

    /// A bulk string of `len` bytes that `write` appends to the buffer itself.
    #[inline(always)]
    pub fn bulk_with(&mut self, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if self.out.is_over() {
            return;
        }
        let bytes = self.out.bytes_mut();
        bytes.reserve(len + HEADER_BYTES_MAX + 2);
        write_bulk_header(bytes, len);
        let before = bytes.len();
        write(bytes);
        debug_assert_eq!(bytes.len() - before, len);
        bytes.extend_from_slice(b"\r\n");
    }

    /// A bulk string that is shared with its owner, not copied.
    pub fn bulk_shared(&mut self, blob: Blob) {
        if self.out.is_over() {
            return;
        }
        self.header(b'$', blob.len() as i64);
        self.out.push_blob(blob);
        self.raw(b"\r\n");
    }

    /// A bulk string holding a decimal integer.
    #[inline]
    pub fn bulk_integer(&mut self, value: i64) {
        let mut buffer = itoa::Buffer::new();
        self.bulk(buffer.format(value).as_bytes());
    }

    /// No value: `_` in RESP3, the null bulk string in RESP2.
    #[inline]
    pub fn null(&mut self) {
        match self.protocol {
            Protocol::Resp2 | Protocol::Memcached => self.raw(b"$-1\r\n"),
            Protocol::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// No array: `_` in RESP3, the null array in RESP2.
    pub fn null_array(&mut self) {
        match self.protocol {
            Protocol::Resp2 | Protocol::Memcached => self.raw(b"*-1\r\n"),
            Protocol::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// The header of an array; `len` replies follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// The header of a map; `len` pairs follow. A flat array of both in RESP2.
    pub fn map(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 | Protocol::Memcached => self.header(b'*', len as i64 * 2),
            Protocol::Resp3 => self.header(b'%', len as i64),
        }
    }

    /// The header of a set; `len` replies follow. An array in RESP2.
    pub fn set(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 | Protocol::Memcached => self.header(b'*', len as i64),
            Protocol::Resp3 => self.header(b'~', len as i64),
        }
    }

    /// The header of out-of-band data; `len` replies follow. An array in RESP2.
    pub fn push(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 | Protocol::Memcached => self.header(b'*', len as i64),
            Protocol::Resp3 => self.header(b'>', len as i64),
        }
    }

    /// A truth value: `#t`/`#f` in RESP3, 1/0 in RESP2.
    pub fn boolean(&mut self, value: bool) {
        match (self.protocol, value) {
            (Protocol::Resp3, true) => self.raw(b"#t\r\n"),
            (Protocol::Resp3, false) => self.raw(b"#f\r\n"),
            (Protocol::Resp2 | Protocol::Memcached, value) => self.integer(i64::from(value)),
        }
    }

    /// A double whose text is `text` (`larder-values` writes it as Redis does): `,` in RESP3, a bulk
    /// string in RESP2.
    pub fn double_text(&mut self, text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 | Protocol::Memcached => self.bulk(text),
            Protocol::Resp3 => self.line(b',', text),
        }
    }

    /// An integer too large for 64 bits, as text: `(` in RESP3, a bulk string in RESP2.
    pub fn big_number(&mut self, text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 | Protocol::Memcached => self.bulk(text),
            Protocol::Resp3 => self.line(b'(', text),
        }
    }

    /// Text for people with a three-letter format such as `txt`: `=` in RESP3, a bulk string in RESP2.
    pub fn verbatim(&mut self, format: &[u8; 3], text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 | Protocol::Memcached => self.bulk(text),
            Protocol::Resp3 => {
                self.header(b'=', text.len() as i64 + 4);
                let bytes = self.out.bytes_mut();
                bytes.extend_from_slice(format);
                bytes.push(b':');
                bytes.extend_from_slice(text);
                bytes.extend_from_slice(b"\r\n");
            }
        }
    }

    /// The header of an attribute of `len` pairs; only RESP3 has them, and the caller asks first.
    pub fn attribute(&mut self, len: usize) {
        debug_assert!(self.is_resp3());
        self.header(b'|', len as i64);
    }

    /// A command or text name in an array, as a simple string where Redis uses one.
    pub fn status(&mut self, text: &str) {
        self.simple(text);
    }

    /// Appends a reply that is already encoded.
    #[inline]
    pub fn raw(&mut self, encoded: &[u8]) {
        self.out.bytes_mut().extend_from_slice(encoded);
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        let bytes = self.out.bytes_mut();
        bytes.push(kind);
        bytes.extend_from_slice(text);
        bytes.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn header(&mut self, kind: u8, value: i64) {
        let bytes = self.out.bytes_mut();
        if (0..10).contains(&value) {
            bytes.extend_from_slice(&[kind, b'0' + value as u8, b'\r', b'\n']);
        } else if (10..100).contains(&value) {
            let value = value as u8;
            bytes.extend_from_slice(&[kind, b'0' + value / 10, b'0' + value % 10, b'\r', b'\n']);
        } else {
            let mut buffer = itoa::Buffer::new();
            bytes.push(kind);
            bytes.extend_from_slice(buffer.format(value).as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
    }
}

/// The header of a bulk string.
#[inline(always)]
fn write_bulk_header(bytes: &mut Vec<u8>, len: usize) {
    if (10..100).contains(&len) {
        let (tens, ones) = (len as u8 / 10, len as u8 % 10);
        bytes.extend_from_slice(&[b'$', b'0' + tens, b'0' + ones, b'\r', b'\n']);
    } else if len < 10 {
        bytes.extend_from_slice(&[b'$', b'0' + len as u8, b'\r', b'\n']);
    } else {
        write_long_header(bytes, len);
    }
}

#[inline(never)]
fn write_long_header(bytes: &mut Vec<u8>, len: usize) {
    let mut buffer = itoa::Buffer::new();
    bytes.push(b'$');
    bytes.extend_from_slice(buffer.format(len).as_bytes());
    bytes.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn written(protocol: Protocol, write: impl FnOnce(&mut Reply<'_>)) -> String {
        let mut out = Output::default();
        write(&mut Reply::new(&mut out, protocol));
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let filled = out.fill_slices(&mut slices);
        slices[..filled].iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect()
    }

    #[test]
    fn shapes_are_downgraded_for_resp2() {
        let all = |r: &mut Reply<'_>| {
            r.map(1);
            r.set(2);
            r.boolean(true);
            r.null();
            r.null_array();
            r.double_text(b"1.5");
            r.verbatim(b"txt", b"hi");
            r.integer(-12345);
            r.bulk(b"0123456789");
            r.bulk_shared(Arc::new(b"big".to_vec()));
            r.error(b"ERR a\r\nb");
        };
        assert_eq!(
            written(Protocol::Resp2, all),
            "*2\r\n*2\r\n:1\r\n$-1\r\n*-1\r\n$3\r\n1.5\r\n$2\r\nhi\r\n:-12345\r\n$10\r\n0123456789\r\n$3\r\nbig\r\n-ERR a  b\r\n"
        );
        assert_eq!(
            written(Protocol::Resp3, all),
            "%1\r\n~2\r\n#t\r\n_\r\n_\r\n,1.5\r\n=6\r\ntxt:hi\r\n:-12345\r\n$10\r\n0123456789\r\n$3\r\nbig\r\n-ERR a  b\r\n"
        );
    }
}
