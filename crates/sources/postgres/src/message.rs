//! Messages of PostgreSQL's protocol 3.0, from and to bytes.

use larder_source::{Failure, FailureKind};
use larder_source_net::garbled;

/// Messages to send, one behind the other.
#[derive(Default)]
pub struct Outbox(Vec<u8>);

impl Outbox {
    /// A message with a tag and what `body` writes.
    pub fn message(&mut self, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
        self.0.push(tag);
        self.bare(body);
    }

    /// A message without a tag: those that begin a connection.
    pub fn bare(&mut self, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        body(&mut self.0);
        let length = (self.0.len() - start) as u32;
        self.0[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    pub fn sync(&mut self) {
        self.message(b'S', |_| {});
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A text that ends with a zero byte. One in it would end it early, so it is cut there: names that hold one do not exist.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.split('\0').next().unwrap_or_default().as_bytes());
    out.push(0);
}

/// Reads what a message holds.
pub struct Body<'a>(pub &'a [u8]);

impl<'a> Body<'a> {
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Failure> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn u8(&mut self) -> Result<u8, Failure> {
        Ok(self.bytes(1)?[0])
    }

    pub fn i16(&mut self) -> Result<i16, Failure> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32, Failure> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Failure> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Failure> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        self.bytes(N)?.try_into().map_err(|_| short())
    }

    /// A text that ends with a zero byte.
    pub fn text(&mut self) -> Result<&'a str, Failure> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or_else(short)?;
        let text = std::str::from_utf8(&self.0[..end]).map_err(|_| garbled("PostgreSQL sent no UTF-8"))?;
        self.0 = &self.0[end + 1..];
        Ok(text)
    }
}

fn short() -> Failure {
    garbled("PostgreSQL sent a message that is too short")
}

/// What an error says.
#[derive(Debug)]
pub struct ErrorFields {
    pub code: String,
    pub text: String,
    /// In characters, from 1, of what was sent.
    pub position: Option<usize>,
}

impl ErrorFields {
    pub fn read(body: &[u8]) -> ErrorFields {
        let mut fields = ErrorFields { code: String::new(), text: String::new(), position: None };
        for field in body.split(|&byte| byte == 0).filter(|field| !field.is_empty()) {
            // In another encoding, before the connection has agreed on one.
            let value = String::from_utf8_lossy(&field[1..]);
            match field[0] {
                b'C' => fields.code = value.into_owned(),
                b'M' => fields.text.insert_str(0, &value),
                b'D' => fields.text.push_str(&format!(" ({value})")),
                b'P' => fields.position = value.parse().ok(),
                _ => {}
            }
        }
        fields
    }

    /// What kind of failure it is, by the SQLSTATE.
    fn kind(&self) -> FailureKind {
        match self.code.as_str() {
            "57014" | "55P03" | "55006" => FailureKind::Busy,
            // The server ends, or begins, or the database was dropped while connected.
            code if code.starts_with("57P") || code.starts_with("08") => FailureKind::Unreachable,
            code if code.starts_with("40") || code.starts_with("53") => FailureKind::Busy,
            code if code.starts_with("22") || code.starts_with("54") => FailureKind::Unfit,
            _ => FailureKind::Refused,
        }
    }

    /// The failure, at the position that `at` makes of the byte in what was sent.
    pub fn failure(&self, sent: &str, at: impl Fn(usize) -> usize) -> Failure {
        let failure = Failure::new(self.kind(), self.text.clone());
        let byte = self.position.and_then(|position| sent.char_indices().nth(position.checked_sub(1)?));
        match byte {
            Some((byte, _)) => failure.at(at(byte)),
            // At its end.
            None if self.position.is_some() => failure.at(at(sent.len())),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read() {
        let fields = ErrorFields::read(b"SERROR\0C42703\0Mno column\0P10\0Ddetail\0\0");
        assert_eq!((fields.code.as_str(), fields.text.as_str()), ("42703", "no column (detail)"));
        let failure = fields.failure("SELECT '\u{e9}x'", |at| at);
        assert_eq!((failure.kind, failure.position), (FailureKind::Refused, Some(10)));
    }

    #[test]
    fn a_short_message_is_an_error() {
        let mut body = Body(&[0, 1, 2]);
        assert!(body.i16().is_ok() && body.i16().is_err());
        assert!(Body(b"abc").text().is_err());
    }
}
