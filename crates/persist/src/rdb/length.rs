//! Lengths: 6, 14, 32 or 64 bits, or the mark of a specially encoded string.

use super::{BadData, Reader};

const SIX_BITS: u8 = 0;
const FOURTEEN_BITS: u8 = 1;
const WIDE: u8 = 2;
const WIDE_32: u8 = 0x80;
const WIDE_64: u8 = 0x81;

/// What stands where a length is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// A plain length.
    Plain(u64),
    /// The number, 0 to 63, of a special encoding of the string that follows.
    Encoded(u8),
}

/// Appends a length in its shortest form.
pub fn push_length(out: &mut Vec<u8>, len: u64) {
    if len < 1 << 6 {
        out.push(SIX_BITS << 6 | len as u8);
    } else if len < 1 << 14 {
        out.extend_from_slice(&(u16::from(FOURTEEN_BITS) << 14 | len as u16).to_be_bytes());
    } else if let Ok(len) = u32::try_from(len) {
        out.push(WIDE_32);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(WIDE_64);
        out.extend_from_slice(&len.to_be_bytes());
    }
}

impl Reader<'_> {
    /// A length or the mark of an encoding. A length need not be in its shortest form.
    pub fn length(&mut self) -> Result<Length, BadData> {
        let first = self.byte()?;
        let low = first & 63;
        Ok(match first >> 6 {
            SIX_BITS => Length::Plain(u64::from(low)),
            FOURTEEN_BITS => Length::Plain(u64::from(low) << 8 | u64::from(self.byte()?)),
            WIDE => Length::Plain(match first {
                WIDE_32 => u64::from(u32::from_be_bytes(self.array()?)),
                WIDE_64 => u64::from_be_bytes(self.array()?),
                _ => return Err(BadData),
            }),
            _ => Length::Encoded(low),
        })
    }

    /// A length where no encoding may stand.
    pub fn plain_length(&mut self) -> Result<u64, BadData> {
        match self.length()? {
            Length::Plain(len) => Ok(len),
            Length::Encoded(_) => Err(BadData),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_form() {
        for (len, bytes) in [
            (0_u64, &b"\0"[..]),
            (63, b"\x3f"),
            (64, b"\x40\x40"),
            (16_383, b"\x7f\xff"),
            (16_384, b"\x80\0\0\x40\0"),
            (u64::from(u32::MAX), b"\x80\xff\xff\xff\xff"),
            (1 << 32, b"\x81\0\0\0\x01\0\0\0\0"),
        ] {
            let mut out = Vec::new();
            push_length(&mut out, len);
            assert_eq!(out, bytes);
            assert_eq!(Reader::new(bytes).length(), Ok(Length::Plain(len)));
            assert_eq!(Reader::new(&bytes[..bytes.len() - 1]).length(), Err(BadData));
        }
        assert_eq!(Reader::new(b"\x82\0\0\0\0\0\0\0\0").length(), Err(BadData));
        assert_eq!(Reader::new(b"\xc3").length(), Ok(Length::Encoded(3)));
        assert_eq!(Reader::new(b"\xc3").plain_length(), Err(BadData));
    }

    proptest! {
        #[test]
        fn written_then_read(len: u64, shift in 0_u32..64) {
            let mut out = Vec::new();
            push_length(&mut out, len >> shift);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.plain_length(), Ok(len >> shift));
            prop_assert!(reader.rest().is_empty());
        }
    }
}
