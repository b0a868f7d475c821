//! Ziplists: small collections as Redis kept them before listpacks. They are read, never written.
//!
//! Ten bytes of header (total, place of the last entry, count), entries, a byte of ones. An entry is the
//! length of the one before, what it is, and its text or integer.
//! Invariant: every byte is looked at before anything is believed.

use super::{BadData, Reader};
use larder_values::packed::{Element, PackedBuf};

const END: u8 = 0xff;
const WIDE_PREVIOUS: u8 = 0xfe;
const HEADER_BYTES: usize = 10;

/// The count that says that there are so many or more.
const COUNT_UNKNOWN: usize = 65_535;

const INT_16: u8 = 0xc0;
const INT_32: u8 = 0xd0;
const INT_64: u8 = 0xe0;
const INT_24: u8 = 0xf0;
const INT_8: u8 = 0xfe;
/// Integers of 0 to 12 follow this mark, one for each.
const INT_SMALL: u8 = 0xf1;
const INT_SMALL_LAST: u8 = 0xfd;
const STRING_32: u8 = 0x80;

/// The entries of a ziplist, packed.
pub(super) fn read(ziplist: &[u8]) -> Result<PackedBuf, BadData> {
    let mut reader = Reader::new(ziplist);
    let total = u32::from_le_bytes(reader.array()?) as usize;
    let last = u32::from_le_bytes(reader.array()?) as usize;
    let count = usize::from(u16::from_le_bytes(reader.array()?));
    let mut packed = PackedBuf::new();
    let (mut previous, mut last_seen, mut seen) = (0, HEADER_BYTES, 0);
    while reader.rest().len() > 1 {
        let start = ziplist.len() - reader.rest().len();
        if previous_length(&mut reader)? != previous {
            return Err(BadData);
        }
        packed.push_back_element(entry(&mut reader)?);
        previous = ziplist.len() - reader.rest().len() - start;
        (last_seen, seen) = (start, seen + 1);
    }
    let is_whole = total == ziplist.len() && reader.byte()? == END && last == last_seen;
    let counts = count == COUNT_UNKNOWN || count == seen;
    if is_whole && counts { Ok(packed) } else { Err(BadData) }
}

fn previous_length(reader: &mut Reader<'_>) -> Result<usize, BadData> {
    match reader.byte()? {
        END => Err(BadData),
        WIDE_PREVIOUS => Ok(u32::from_le_bytes(reader.array()?) as usize),
        short => Ok(usize::from(short)),
    }
}

fn entry<'a>(reader: &mut Reader<'a>) -> Result<Element<'a>, BadData> {
    let first = reader.byte()?;
    let integer = match first {
        INT_16 => i64::from(i16::from_le_bytes(reader.array()?)),
        INT_32 => i64::from(i32::from_le_bytes(reader.array()?)),
        INT_64 => i64::from_le_bytes(reader.array()?),
        INT_24 => {
            let [low, middle, high] = reader.array()?;
            i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8)
        }
        INT_8 => i64::from(i8::from_le_bytes(reader.array()?)),
        INT_SMALL..=INT_SMALL_LAST => i64::from(first - INT_SMALL),
        _ => {
            let len = match first >> 6 {
                0 => u64::from(first),
                1 => u64::from(first & 63) << 8 | u64::from(reader.byte()?),
                _ if first == STRING_32 => u64::from(u32::from_be_bytes(reader.array()?)),
                _ => return Err(BadData),
            };
            // Text that spells an integer is that integer from now on.
            return Ok(Element::of(reader.take(len)?));
        }
    };
    Ok(Element::Int(integer))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ziplist of entries that are given without the length of the one before.
    fn ziplist(entries: &[&[u8]]) -> Vec<u8> {
        let (mut body, mut last, mut previous) = (Vec::new(), HEADER_BYTES, 0);
        for entry in entries {
            last = HEADER_BYTES + body.len();
            body.push(previous);
            body.extend_from_slice(entry);
            previous = entry.len() as u8 + 1;
        }
        let mut out = ((HEADER_BYTES + body.len() + 1) as u32).to_le_bytes().to_vec();
        out.extend_from_slice(&(last as u32).to_le_bytes());
        out.extend_from_slice(&(entries.len() as u16).to_le_bytes());
        out.extend_from_slice(&body);
        out.push(END);
        out
    }

    #[test]
    fn every_kind_of_entry_is_read() {
        let bytes = ziplist(&[
            b"\x02hi",
            b"\x40\x03abc",
            b"\x80\0\0\0\x01x",
            b"\xf1",
            b"\xfd",
            b"\xfe\xff",
            b"\xc0\0\x80",
            b"\xf0\xff\xff\xff",
            b"\xd0\0\0\0\x80",
            b"\xe0\0\0\0\0\0\0\0\x80",
            b"\x0242",
        ]);
        let packed = read(&bytes).unwrap();
        let texts: Vec<String> =
            packed.view().iter().map(|element| String::from_utf8(element.to_vec()).unwrap()).collect();
        let expected =
            ["hi", "abc", "x", "0", "12", "-1", "-32768", "-1", "-2147483648", "-9223372036854775808", "42"];
        assert_eq!(texts, expected);
        assert!(read(&ziplist(&[])).unwrap().is_empty());
    }

    #[test]
    fn a_ziplist_that_lies_is_refused() {
        let good = ziplist(&[b"\x02hi", b"\xf1"]);
        for at in 0..good.len() - 1 {
            let mut bad = good.clone();
            bad[at] ^= 0x80;
            // The texts themselves may be any.
            assert!(read(&bad).is_err() || (12..14).contains(&at), "{at}");
            assert!(read(&good[..at]).is_err());
        }
    }
}
