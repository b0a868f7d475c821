//! Cells of rows in the binlog, as the texts that a query would give.

use super::columns::{Described, Meaning};
use super::event::Stored;
use crate::cells::{float, integer, kind, text};
use crate::message::Body;
use crate::moment::{Moment, Span};
use larder_source::{Cell, Failure};
use larder_source_net::garbled;
use std::fmt::Write;

/// How far the clock of connections is ahead of UTC, in seconds; none where that changes over the year.
pub type Zone = Option<i64>;

/// Reads a value that is not NULL. None where a query's text for it cannot be told.
pub fn read(
    body: &mut Body<'_>,
    stored: Stored,
    told: &Described,
    zone: Zone,
) -> Result<Option<Cell>, Failure> {
    let meta = stored.meta;
    Ok(match stored.kind {
        kind::NULL => None,
        kind::TINY => whole(body, 1, told)?,
        kind::SHORT => whole(body, 2, told)?,
        kind::INT24 => whole(body, 3, told)?,
        kind::LONG => whole(body, 4, told)?,
        kind::LONGLONG => whole(body, 8, told)?,
        kind::FLOAT => real(float(f32::from_le_bytes(body.array()?)), told),
        kind::DOUBLE => real(f64::from_le_bytes(body.array()?), told),
        kind::NEWDECIMAL => Some(text(decimal(body, usize::from(meta >> 8), usize::from(meta & 0xff))?)),
        kind::YEAR => Some(match body.u8()? {
            0 => text("0000".to_owned()),
            year => Cell::Integer(1900 + i64::from(year)),
        }),
        kind::DATE => Some(text(date(body.number(3)?).date())),
        kind::TIME => Some(text(old_time(body.number(3)?).text(0))),
        kind::DATETIME => Some(text(old_moment(body.u64()?).date_and_time(0))),
        kind::TIMESTAMP => timestamp(body.u32()?, 0, 0, zone),
        kind::TIME2 => {
            let digits = fraction_digits(meta)?;
            let bytes = digits.div_ceil(2) as usize;
            Some(text(time(body.number_be(3 + bytes)?, bytes).text(digits)))
        }
        kind::DATETIME2 => {
            let digits = fraction_digits(meta)?;
            let packed = body.number_be(5)?;
            Some(text(moment(packed, fraction(body, digits)?).date_and_time(digits)))
        }
        kind::TIMESTAMP2 => {
            let digits = fraction_digits(meta)?;
            let seconds = body.number_be(4)? as u32;
            timestamp(seconds, fraction(body, digits)?, digits, zone)
        }
        kind::BIT => {
            let bits = usize::from(meta >> 8) * 8 + usize::from(meta & 0xff);
            Some(Cell::Bytes(body.bytes(bits.div_ceil(8))?.into()))
        }
        kind::ENUM => chosen(body.number(length_bytes(meta)?)?, told),
        kind::SET => joined(body.number(length_bytes(meta)?)?, told),
        kind::STRING | kind::VARCHAR | kind::VAR_STRING => {
            let length = body.number(if meta > 255 { 2 } else { 1 })? as usize;
            bytes(body.bytes(length)?, told)
        }
        kind::BLOB | kind::VECTOR | kind::GEOMETRY => {
            let length = body.number(length_bytes(meta)?)?;
            bytes(body.bytes(usize::try_from(length).unwrap_or(usize::MAX))?, told)
        }
        // In forms of their own.
        kind::JSON | kind::BLOB_COMPRESSED => {
            let length = body.number(length_bytes(meta)?)?;
            body.bytes(usize::try_from(length).unwrap_or(usize::MAX))?;
            None
        }
        kind::VARCHAR_COMPRESSED => {
            let length = body.number(if meta > 255 { 2 } else { 1 })? as usize;
            body.bytes(length)?;
            None
        }
        other => return Err(garbled(format!("a column of the kind {other} in the binlog"))),
    })
}

fn length_bytes(meta: u16) -> Result<usize, Failure> {
    match meta {
        1..=8 => Ok(usize::from(meta)),
        _ => Err(garbled("a length of no or too many bytes in the binlog")),
    }
}

fn fraction_digits(meta: u16) -> Result<u32, Failure> {
    if meta > 6 { Err(garbled("a time with too many digits in the binlog")) } else { Ok(u32::from(meta)) }
}

fn whole(body: &mut Body<'_>, bytes: usize, told: &Described) -> Result<Option<Cell>, Failure> {
    let bits = body.number(bytes)?;
    Ok(match told.meaning {
        Meaning::Integer { is_unsigned } => Some(integer(bits, bytes, is_unsigned)),
        _ => None,
    })
}

fn real(number: f64, told: &Described) -> Option<Cell> {
    match told.meaning {
        Meaning::Real { digits: Some(digits) } => Some(text(format!("{number:.digits$}"))),
        Meaning::Real { digits: None } => Some(Cell::Real(number)),
        _ => None,
    }
}

/// Nine digits stand in four bytes, fewer in fewer. What is negative is inverted, and the first bit is the other way round.
fn decimal(body: &mut Body<'_>, precision: usize, scale: usize) -> Result<String, Failure> {
    const BYTES: [usize; 9] = [0, 1, 1, 2, 2, 3, 3, 4, 4];
    let whole = precision.checked_sub(scale).filter(|_| precision <= 90);
    let whole = whole.ok_or_else(|| garbled("a decimal with digits that make no sense in the binlog"))?;
    // How many digits each group has, from the left.
    let groups = std::iter::once(whole % 9).chain(std::iter::repeat_n(9, whole / 9));
    let fraction = std::iter::repeat_n(9, scale / 9).chain(std::iter::once(scale % 9));
    let size = |digits: usize| if digits == 9 { 4 } else { BYTES[digits] };
    let total: usize = groups.clone().chain(fraction.clone()).map(size).sum();
    let mut bytes = body.bytes(total)?.to_vec();
    let first = bytes.first_mut().ok_or_else(|| garbled("a decimal without digits in the binlog"))?;
    let is_negative = *first & 0x80 == 0;
    *first ^= 0x80;
    if is_negative {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let mut rest = Body(&bytes);
    let mut digits = |groups: &mut dyn Iterator<Item = usize>| -> Result<String, Failure> {
        let mut out = String::new();
        for width in groups.filter(|width| *width > 0) {
            let _ = write!(out, "{:0width$}", rest.number_be(size(width))?);
        }
        Ok(out)
    };
    let whole = digits(&mut groups.clone())?;
    let fraction = digits(&mut fraction.clone())?;
    let whole = whole.trim_start_matches('0');
    let sign = if is_negative { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    Ok(format!("{sign}{}{point}{fraction}", if whole.is_empty() { "0" } else { whole }))
}

fn date(packed: u64) -> Moment {
    Moment {
        day: (packed & 31) as u32,
        month: (packed >> 5 & 15) as u32,
        year: (packed >> 9) as u32,
        ..Moment::default()
    }
}

/// `hhmmss` as a number of three bytes.
fn old_time(bits: u64) -> Span {
    let number = (bits << 40) as i64 >> 40;
    let size = number.unsigned_abs();
    Span {
        is_negative: number < 0,
        hours: size / 10_000,
        minutes: (size / 100 % 100) as u32,
        seconds: (size % 100) as u32,
        micros: 0,
    }
}

/// `YYYYMMDDhhmmss`
fn old_moment(number: u64) -> Moment {
    let part = |unit: u64, size: u64| (number / unit % size) as u32;
    Moment {
        year: part(10_000_000_000, 10_000),
        month: part(100_000_000, 100),
        day: part(1_000_000, 100),
        hour: part(10_000, 100),
        minute: part(100, 100),
        second: part(1, 100),
        micros: 0,
    }
}

/// A span and the bytes of its fraction as one number, from which half of the range is to be taken.
fn time(packed: u64, bytes: usize) -> Span {
    let number = packed as i64 - (0x80_0000_i64 << (8 * bytes));
    let size = number.unsigned_abs();
    let (whole, part) = (size >> (8 * bytes), size & ((1 << (8 * bytes)) - 1));
    Span {
        is_negative: number < 0,
        hours: whole >> 12 & 0x3ff,
        minutes: (whole >> 6 & 63) as u32,
        seconds: (whole & 63) as u32,
        micros: micros(part, bytes),
    }
}

fn moment(packed: u64, micros: u32) -> Moment {
    let packed = packed & 0x7f_ffff_ffff;
    let (days, seconds) = (packed >> 17, packed & 0x1_ffff);
    Moment {
        year: (days / 32 / 13) as u32,
        month: (days / 32 % 13) as u32,
        day: (days % 32) as u32,
        hour: (seconds >> 12) as u32,
        minute: (seconds >> 6 & 63) as u32,
        second: (seconds & 63) as u32,
        micros,
    }
}

fn fraction(body: &mut Body<'_>, digits: u32) -> Result<u32, Failure> {
    let bytes = digits.div_ceil(2) as usize;
    Ok(micros(body.number_be(bytes)?, bytes))
}

/// Each byte of a fraction stands for two digits.
fn micros(part: u64, bytes: usize) -> u32 {
    let micros = part * 100_u64.pow(3_u32.saturating_sub(bytes as u32));
    micros.min(999_999) as u32
}

fn timestamp(seconds: u32, micros: u32, digits: u32, zone: Zone) -> Option<Cell> {
    if seconds == 0 {
        return Some(text(Moment { micros, ..Moment::default() }.date_and_time(digits)));
    }
    let moment = Moment::of_unix(i64::from(seconds) + zone?, micros);
    Some(text(moment.date_and_time(digits)))
}

fn chosen(number: u64, told: &Described) -> Option<Cell> {
    let Meaning::Enum(values) = &told.meaning else { return None };
    match number.checked_sub(1) {
        // What was no value of it when it was written.
        None => Some(text(String::new())),
        Some(place) => values.get(usize::try_from(place).ok()?).cloned().map(text),
    }
}

fn joined(bits: u64, told: &Described) -> Option<Cell> {
    let Meaning::Set(values) = &told.meaning else { return None };
    if values.len() < 64 && bits >> values.len() != 0 {
        return None;
    }
    let chosen = values.iter().enumerate().take(64).filter(|(place, _)| bits >> place & 1 == 1);
    Some(text(chosen.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(",")))
}

fn bytes(bytes: &[u8], told: &Described) -> Option<Cell> {
    match told.meaning {
        Meaning::Text(charset) => charset.text(bytes).map(text),
        Meaning::Bytes { length } => {
            let mut bytes = bytes.to_vec();
            bytes.resize(bytes.len().max(length), 0);
            Some(Cell::Bytes(bytes.into()))
        }
        Meaning::Uuid => uuid(bytes).map(text),
        _ => None,
    }
}

/// MariaDB keeps those of the versions 1 to 5 with their groups in the opposite order, so that they sort by time.
fn uuid(bytes: &[u8]) -> Option<String> {
    let mut kept = [0; 16];
    // Zeros at the end are left out.
    kept.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let turned = [&kept[12..], &kept[10..12], &kept[8..10], &kept[6..8], &kept[..6]].concat();
    let is_turned = matches!(turned[6] >> 4, 1..=5) && turned[8] & 0x80 != 0;
    let order = if is_turned { turned.as_slice() } else { &kept };
    let mut out = String::new();
    for (at, byte) in order.iter().enumerate() {
        out.push_str(if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" });
        let _ = write!(out, "{byte:02x}");
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(meaning: Meaning) -> Described {
        Described { name: "v".to_owned(), meaning }
    }

    fn one(kind: u8, meta: u16, meaning: Meaning, bytes: &[u8]) -> Option<Cell> {
        let mut body = Body(bytes);
        let cell = read(&mut body, Stored { kind, meta }, &told(meaning.clone()), Some(0)).unwrap();
        assert!(body.is_empty(), "{kind}: all of it is read");
        for end in 0..bytes.len() {
            assert!(
                read(&mut Body(&bytes[..end]), Stored { kind, meta }, &told(meaning.clone()), Some(0))
                    .is_err()
            );
        }
        cell
    }

    fn shown(value: &str) -> Option<Cell> {
        Some(text(value.to_owned()))
    }

    #[test]
    fn decimals_have_all_their_digits() {
        // MySQL's manual: 1234567890.1234 as DECIMAL(14,4).
        let bytes = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        assert_eq!(one(kind::NEWDECIMAL, 14 << 8 | 4, Meaning::Decimal, &bytes), shown("1234567890.1234"));
        let negative = bytes.map(|byte| !byte);
        assert_eq!(
            one(kind::NEWDECIMAL, 14 << 8 | 4, Meaning::Decimal, &negative),
            shown("-1234567890.1234")
        );
        assert_eq!(one(kind::NEWDECIMAL, 9 << 8, Meaning::Decimal, &[0x80, 0, 0, 7]), shown("7"));
        assert_eq!(one(kind::NEWDECIMAL, 2 << 8 | 2, Meaning::Decimal, &[0x85]), shown("0.05"));
        let wrong = Stored { kind: kind::NEWDECIMAL, meta: 1 << 8 | 2 };
        assert!(read(&mut Body(&[0; 9]), wrong, &told(Meaning::Decimal), None).is_err());
        let none = Stored { kind: kind::NEWDECIMAL, meta: 0 };
        assert!(read(&mut Body(&[0; 9]), none, &told(Meaning::Decimal), None).is_err());
    }

    #[test]
    fn times_have_all_their_digits() {
        let packed = |hours: u64, minutes: u64, seconds: u64| hours << 12 | minutes << 6 | seconds;
        let one_and_a_bit = (0x80_0000_u64 << 8) - (packed(0, 0, 1) << 8 | 10);
        let bytes = one_and_a_bit.to_be_bytes();
        assert_eq!(one(kind::TIME2, 2, Meaning::Time, &bytes[4..]), shown("-00:00:01.10"));
        let bytes = (0x80_0000 + packed(838, 59, 59)).to_be_bytes();
        assert_eq!(one(kind::TIME2, 0, Meaning::Time, &bytes[5..]), shown("838:59:59"));
        let days = (2024_u64 * 13 + 2) * 32 + 29;
        let bytes = (0x80_0000_0000 | days << 17 | packed(12, 34, 56)).to_be_bytes();
        assert_eq!(
            one(kind::DATETIME2, 3, Meaning::DateTime, &[&bytes[3..], &[0x1e, 0xd2]].concat()),
            shown("2024-02-29 12:34:56.789")
        );
        let seconds = 951_782_400_u32.to_be_bytes();
        assert_eq!(one(kind::TIMESTAMP2, 0, Meaning::Timestamp, &seconds), shown("2000-02-29 00:00:00"));
        assert_eq!(one(kind::TIMESTAMP2, 0, Meaning::Timestamp, &[0; 4]), shown("0000-00-00 00:00:00"));
        assert_eq!(timestamp(1, 0, 0, None), None);
        assert_eq!(one(kind::DATE, 0, Meaning::Date, &[0x5d, 0xd0, 0x0f]), shown("2024-02-29"));
        assert_eq!(
            one(kind::DATETIME, 0, Meaning::DateTime, &20_240_229_123_456_u64.to_le_bytes()),
            shown("2024-02-29 12:34:56")
        );
        assert_eq!(one(kind::TIME, 0, Meaning::Time, &(-101_i32).to_le_bytes()[..3]), shown("-00:01:01"));
    }

    #[test]
    fn other_types_are_read() {
        assert_eq!(one(kind::YEAR, 0, Meaning::Year, &[124]), Some(Cell::Integer(2024)));
        let values = || vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(one(kind::ENUM, 1, Meaning::Enum(values()), &[2]), shown("b"));
        assert_eq!(one(kind::ENUM, 1, Meaning::Enum(values()), &[0]), shown(""));
        assert_eq!(one(kind::ENUM, 1, Meaning::Enum(values()), &[3]), None);
        assert_eq!(one(kind::SET, 1, Meaning::Set(values()), &[3]), shown("a,b"));
        assert_eq!(one(kind::SET, 1, Meaning::Set(values()), &[4]), None);
        assert_eq!(
            one(kind::STRING, 4, Meaning::Bytes { length: 4 }, b"\x01a"),
            Some(Cell::Bytes(b"a\0\0\0".as_slice().into()))
        );
        assert_eq!(
            one(kind::BIT, 1 << 8 | 4, Meaning::Bit, &[0x0a, 0xaa]),
            Some(Cell::Bytes([0x0a, 0xaa].into()))
        );
        assert_eq!(one(kind::LONG, 0, Meaning::Other, &[1, 2, 3, 4]), None);
        assert_eq!(one(kind::JSON, 4, Meaning::Other, &[1, 0, 0, 0, 9]), None);
    }

    /// Digits as the binlog has them, written down from MySQL's description.
    fn packed(whole: &str, fraction: &str, is_negative: bool) -> Vec<u8> {
        let size = |digits: usize| [0, 1, 1, 2, 2, 3, 3, 4, 4, 4][digits];
        let mut out = Vec::new();
        let mut put = |digits: &str| {
            let number: u32 = digits.parse().unwrap_or(0);
            out.extend_from_slice(&number.to_be_bytes()[4 - size(digits.len())..]);
        };
        let (first, rest) = whole.split_at(whole.len() % 9);
        put(first);
        rest.as_bytes().chunks(9).for_each(|nine| put(std::str::from_utf8(nine).unwrap()));
        fraction.as_bytes().chunks(9).for_each(|nine| put(std::str::from_utf8(nine).unwrap()));
        if is_negative {
            out.iter_mut().for_each(|byte| *byte = !*byte);
        }
        out[0] ^= 0x80;
        out
    }

    proptest::proptest! {
        #[test]
        fn decimals_go_both_ways(whole in "[0-9]{0,35}", fraction in "[0-9]{0,30}", is_negative in proptest::bool::ANY) {
            proptest::prop_assume!(!whole.is_empty() || !fraction.is_empty());
            let meta = ((whole.len() + fraction.len()) << 8 | fraction.len()) as u16;
            let stored = Stored { kind: kind::NEWDECIMAL, meta };
            let bytes = packed(&whole, &fraction, is_negative);
            let mut body = Body(&bytes);
            let cell = read(&mut body, stored, &told(Meaning::Decimal), None).unwrap();
            let short = whole.trim_start_matches('0');
            let text = format!(
                "{}{}{}{fraction}",
                if is_negative { "-" } else { "" },
                if short.is_empty() { "0" } else { short },
                if fraction.is_empty() { "" } else { "." },
            );
            proptest::prop_assert!(body.is_empty());
            proptest::prop_assert_eq!(cell, shown(&text));
        }

        #[test]
        fn times_go_both_ways(is_negative: bool, hours in 0..839_u64, minutes in 0..60_u64, seconds in 0..60_u64, micros in 1..1_000_000_u64) {
            let whole = (hours << 12 | minutes << 6 | seconds) << 24 | micros;
            let half = 0x80_0000_u64 << 24;
            let bytes = if is_negative { half - whole } else { half + whole }.to_be_bytes();
            let stored = Stored { kind: kind::TIME2, meta: 6 };
            let cell = read(&mut Body(&bytes[2..]), stored, &told(Meaning::Time), None).unwrap();
            let sign = if is_negative { "-" } else { "" };
            proptest::prop_assert_eq!(cell, shown(&format!("{sign}{hours:02}:{minutes:02}:{seconds:02}.{micros:06}")));
        }
    }
}
