//! Payloads of FUNCTION DUMP and FUNCTION RESTORE: the texts of libraries, each behind an opcode, and
//! the version and checksum of DUMP's payloads.

use super::dump::{checked_body, push_footer};
use super::{Reader, StringWriter};

/// What stands in front of a library's text.
pub(super) const OPCODE_FUNCTION: u8 = 245;
/// The same before Redis 7 was released, in a form that it never read again.
pub(super) const OPCODE_FUNCTION_EARLY: u8 = 246;

/// Why a payload was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionsError {
    /// Too short, of a newer version, or with another checksum.
    VersionOrChecksum,
    /// Something else than a library.
    NotFunction,
    /// A library in the form that was given up.
    Early,
    /// A text that is not all there.
    BadData,
}

impl std::fmt::Display for FunctionsError {
    /// The error's text as a reply, code first.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            FunctionsError::VersionOrChecksum => "ERR DUMP payload version or checksum are wrong",
            FunctionsError::NotFunction => "ERR given type is not a function",
            FunctionsError::Early => "ERR Pre-GA function format not supported",
            FunctionsError::BadData => "ERR Failed loading library payload",
        })
    }
}

impl std::error::Error for FunctionsError {}

/// The payload with the texts of libraries.
pub fn dump_functions<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut out, mut strings) = (Vec::new(), StringWriter::new(true));
    for text in texts {
        out.push(OPCODE_FUNCTION);
        strings.push(&mut out, text);
    }
    push_footer(&mut out, 0);
    out
}

/// The texts of libraries in a payload; `text_max` bounds each of them.
pub fn restore_functions(payload: &[u8], text_max: usize) -> Result<Vec<Vec<u8>>, FunctionsError> {
    let mut reader = Reader::new(checked_body(payload).ok_or(FunctionsError::VersionOrChecksum)?.0);
    let mut texts = Vec::new();
    while let Ok(opcode) = reader.byte() {
        match opcode {
            OPCODE_FUNCTION => texts.push(reader.string(text_max).map_err(|_| FunctionsError::BadData)?),
            OPCODE_FUNCTION_EARLY => return Err(FunctionsError::Early),
            _ => return Err(FunctionsError::NotFunction),
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payload(body: &[u8]) -> Vec<u8> {
        let mut out = body.to_vec();
        push_footer(&mut out, 0);
        out
    }

    #[test]
    fn payloads_as_redis_writes_them() {
        let one = b"#!lua name=one\nredis.register_function(\"o1\",function() return 1 end)";
        let big = [
            &b"#!lua name=big\n--"[..],
            &[b'x'; 200],
            b"\nredis.register_function(\"b1\",function() return 1 end)",
        ]
        .concat();
        assert_eq!(dump_functions([]), b"\x0c\0\x96\xedh\x80\xf5U<\x93");
        assert_eq!(
            dump_functions([&one[..]]),
            b"\xf5@D#!lua name=one\nredis.register_function(\"o1\",function() return 1 end)\x0c\0\xa6\x7f\xa5Z\xbfh\xe7+"
        );
        assert_eq!(
            dump_functions([&big[..], one]),
            b"\xf5\xc3@HA\x0f\x11#!lua name=big\n--x\xe0\xbe\0\x1d\nredis.register_function(\"b1\",\xe0\0\r\x0e) return 1 end)\
              \xf5@D#!lua name=one\nredis.register_function(\"o1\",function() return 1 end)\x0c\0\xed\x186\xd6\x11\xb1\xa7\xdb"
        );
    }

    #[test]
    fn what_is_refused_and_why() {
        for (body, result) in [
            (&b""[..], Ok(vec![])),
            (b"\xf5\x03foo\xf5\xc0\x05", Ok(vec![b"foo".to_vec(), b"5".to_vec()])),
            (b"\xf5\x20abc", Err(FunctionsError::BadData)),
            (b"\xf5\x82abc", Err(FunctionsError::BadData)),
            (b"\xf5\xc3\x05\x10abc", Err(FunctionsError::BadData)),
            (b"\xf5\x81\xff\xff\xff\xff\xff\xff\xff\xff", Err(FunctionsError::BadData)),
            (b"\xf5", Err(FunctionsError::BadData)),
            (b"\xf5\x0512345", Err(FunctionsError::BadData)),
            (b"\xf6\x01x", Err(FunctionsError::Early)),
            (b"\0\x01x", Err(FunctionsError::NotFunction)),
            (b"\xf5\x01x\xff", Err(FunctionsError::NotFunction)),
        ] {
            assert_eq!(restore_functions(&payload(body), 4), result, "{}", body.escape_ascii());
        }
        let mut wrong = payload(b"\xf5\x01x");
        wrong[2] = b'y';
        assert_eq!(restore_functions(&wrong, 4), Err(FunctionsError::VersionOrChecksum));
        assert_eq!(restore_functions(b"", 4), Err(FunctionsError::VersionOrChecksum));
    }

    proptest! {
        #[test]
        fn dumped_then_restored(texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..5)) {
            let payload = dump_functions(texts.iter().map(Vec::as_slice));
            prop_assert_eq!(restore_functions(&payload, 300), Ok(texts));
        }
    }
}
