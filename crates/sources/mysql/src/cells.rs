//! What queries answer and are given, in the protocol's binary form, in the words of the contract: texts are those that the store's
//! own client shows.

use crate::message::Body;
use crate::moment::{Moment, Span};
use larder_source::{Cell, Column, ColumnKind, Failure, Parameter};
use larder_source_net::{garbled, unfit};

/// Types by their numbers in the protocol and in the binlog.
pub mod kind {
    pub const DECIMAL: u8 = 0;
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const NULL: u8 = 6;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const NEWDATE: u8 = 14;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const TIMESTAMP2: u8 = 17;
    pub const DATETIME2: u8 = 18;
    pub const TIME2: u8 = 19;
    pub const BLOB_COMPRESSED: u8 = 140;
    pub const VARCHAR_COMPRESSED: u8 = 141;
    pub const VECTOR: u8 = 242;
    pub const JSON: u8 = 245;
    pub const NEWDECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const BLOB: u8 = 252;
    pub const VAR_STRING: u8 = 253;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

/// The number of the character set that is none: bytes.
const BINARY: u16 = 63;
const UNSIGNED: u16 = 32;
/// From here on a number of digits behind the point stands for as many as it takes.
const DIGITS_ANY: u8 = 31;

/// What a column of an answer is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Type {
    kind: u8,
    is_bytes: bool,
    is_unsigned: bool,
    is_json: bool,
    digits: u8,
}

/// A column's name and type, from the packet that tells it.
pub fn read_column(packet: &[u8], is_extended: bool) -> Result<(Column, Type), Failure> {
    let mut body = Body(packet);
    // Catalogue, schema, table by both its names.
    for _ in 0..4 {
        body.counted()?;
    }
    let name = body.counted_text()?.to_owned();
    body.counted()?;
    let mut is_json = false;
    if is_extended {
        let mut besides = Body(body.counted()?);
        while !besides.is_empty() {
            let is_format = besides.u8()? == 1;
            is_json |= is_format && besides.counted()? == b"json";
            if !is_format {
                besides.counted()?;
            }
        }
    }
    body.counter()?;
    let charset = body.u16()?;
    body.u32()?;
    let kind = body.u8()?;
    let flags = body.u16()?;
    let digits = body.u8()?;
    let is_json = is_json || kind == kind::JSON;
    let told =
        Type { kind, is_bytes: charset == BINARY, is_unsigned: flags & UNSIGNED != 0, is_json, digits };
    Ok((Column { name, kind: told.column_kind() }, told))
}

impl Type {
    fn column_kind(&self) -> ColumnKind {
        match self.kind {
            _ if self.is_json => ColumnKind::Json,
            kind::TINY | kind::SHORT | kind::LONG | kind::LONGLONG | kind::INT24 | kind::YEAR => {
                ColumnKind::Integer
            }
            kind::DECIMAL | kind::NEWDECIMAL | kind::FLOAT | kind::DOUBLE => ColumnKind::Number,
            kind::NULL => ColumnKind::Unknown,
            kind::TIMESTAMP | kind::DATE | kind::TIME | kind::DATETIME | kind::NEWDATE => ColumnKind::Text,
            kind::BIT | kind::GEOMETRY | kind::VECTOR => ColumnKind::Bytes,
            _ if self.is_bytes => ColumnKind::Bytes,
            _ => ColumnKind::Text,
        }
    }

    /// A value that is not NULL.
    fn cell(&self, body: &mut Body<'_>) -> Result<Cell, Failure> {
        Ok(match self.kind {
            kind::TINY => self.integer(body, 1)?,
            kind::YEAR => match body.u16()? {
                0 => text("0000".to_owned()),
                year => Cell::Integer(i64::from(year)),
            },
            kind::SHORT => self.integer(body, 2)?,
            kind::LONG | kind::INT24 => self.integer(body, 4)?,
            kind::LONGLONG => self.integer(body, 8)?,
            kind::FLOAT => self.real(float(f32::from_le_bytes(body.array()?))),
            kind::DOUBLE => self.real(f64::from_le_bytes(body.array()?)),
            kind::DATE | kind::NEWDATE => text(moment(body.counted()?)?.date()),
            kind::DATETIME | kind::TIMESTAMP => {
                text(moment(body.counted()?)?.date_and_time(u32::from(self.digits)))
            }
            kind::TIME => text(span(body.counted()?)?.text(u32::from(self.digits))),
            kind::NULL => Cell::Null,
            _ => {
                let bytes = body.counted()?.into();
                match self.column_kind() {
                    ColumnKind::Json => Cell::Json(bytes),
                    ColumnKind::Bytes => Cell::Bytes(bytes),
                    _ => Cell::Text(bytes),
                }
            }
        })
    }

    fn integer(&self, body: &mut Body<'_>, bytes: usize) -> Result<Cell, Failure> {
        Ok(integer(body.number(bytes)?, bytes, self.is_unsigned))
    }

    /// With as many digits as the column was given, which are part of its text then.
    fn real(&self, number: f64) -> Cell {
        if self.digits < DIGITS_ANY {
            return text(format!("{number:.*}", usize::from(self.digits)));
        }
        Cell::Real(number)
    }
}

/// A whole number of so many bytes.
pub fn integer(bits: u64, bytes: usize, is_unsigned: bool) -> Cell {
    let unused = 64 - 8 * bytes as u32;
    if !is_unsigned {
        return Cell::Integer((bits << unused) as i64 >> unused);
    }
    i64::try_from(bits).map_or_else(|_| text(bits.to_string()), Cell::Integer)
}

/// A number of single precision as the store shows it: with six digits.
pub fn float(number: f32) -> f64 {
    format!("{number:.5e}").parse().unwrap_or(f64::from(number))
}

pub fn text(text: String) -> Cell {
    Cell::Text(text.into_bytes().into())
}

fn moment(bytes: &[u8]) -> Result<Moment, Failure> {
    let mut moment = Moment::default();
    let mut body = Body(bytes);
    if bytes.len() >= 4 {
        moment.year = u32::from(body.u16()?);
        moment.month = u32::from(body.u8()?);
        moment.day = u32::from(body.u8()?);
    }
    if bytes.len() >= 7 {
        moment.hour = u32::from(body.u8()?);
        moment.minute = u32::from(body.u8()?);
        moment.second = u32::from(body.u8()?);
    }
    if bytes.len() >= 11 {
        moment.micros = body.u32()?;
    }
    if matches!(bytes.len(), 0 | 4 | 7 | 11) {
        Ok(moment)
    } else {
        Err(garbled("a date of an unknown length"))
    }
}

fn span(bytes: &[u8]) -> Result<Span, Failure> {
    let mut span = Span::default();
    let mut body = Body(bytes);
    if bytes.len() >= 8 {
        span.is_negative = body.u8()? != 0;
        let days = u64::from(body.u32()?);
        span.hours = 24 * days + u64::from(body.u8()?);
        span.minutes = u32::from(body.u8()?);
        span.seconds = u32::from(body.u8()?);
    }
    if bytes.len() >= 12 {
        span.micros = body.u32()?;
    }
    if matches!(bytes.len(), 0 | 8 | 12) { Ok(span) } else { Err(garbled("a time of an unknown length")) }
}

/// A row, and how many bytes its values have.
pub fn read_row(packet: &[u8], types: &[Type]) -> Result<(Box<[Cell]>, usize), Failure> {
    let mut body = Body(packet);
    body.u8()?;
    let nulls = body.bytes((types.len() + 9) / 8)?;
    let mut size = 0;
    let mut row = Vec::with_capacity(types.len());
    for (at, told) in types.iter().enumerate() {
        let bit = at + 2;
        let cell = if nulls[bit / 8] >> (bit % 8) & 1 == 1 { Cell::Null } else { told.cell(&mut body)? };
        size += cell.size();
        row.push(cell);
    }
    Ok((row.into(), size))
}

/// Writes values to bind: which are NULL, of what types they are, and they themselves.
pub fn put_values(values: &[&Parameter], out: &mut Vec<u8>) -> Result<(), Failure> {
    if values.is_empty() {
        return Ok(());
    }
    let start = out.len();
    out.resize(start + values.len().div_ceil(8), 0);
    for (at, _) in values.iter().enumerate().filter(|(_, value)| matches!(value, Parameter::Null)) {
        out[start + at / 8] |= 1 << (at % 8);
    }
    // Types follow.
    out.push(1);
    for value in values {
        let kind = match value {
            Parameter::Null => kind::NULL,
            Parameter::Text(_) | Parameter::Uuid(_) => kind::VAR_STRING,
            Parameter::Bytes(_) => kind::BLOB,
            Parameter::Integer(_) => kind::LONGLONG,
            Parameter::Number(_) => kind::DOUBLE,
            Parameter::List(_) => return Err(unfit("a list in a list")),
        };
        out.extend_from_slice(&[kind, 0]);
    }
    for value in values {
        match value {
            Parameter::Null | Parameter::List(_) => {}
            Parameter::Text(text) | Parameter::Uuid(text) => {
                crate::message::put_counted(out, text.as_bytes())
            }
            Parameter::Bytes(bytes) => crate::message::put_counted(out, bytes),
            Parameter::Integer(number) => out.extend_from_slice(&number.to_le_bytes()),
            Parameter::Number(number) if !number.is_finite() => {
                return Err(unfit("MySQL has no number that is infinite, or none"));
            }
            Parameter::Number(number) => out.extend_from_slice(&number.to_le_bytes()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: u8, is_unsigned: bool, digits: u8) -> Type {
        Type { kind, is_bytes: false, is_unsigned, is_json: false, digits }
    }

    #[test]
    fn numbers_have_signs_or_none() {
        assert_eq!(integer(0xff, 1, false), Cell::Integer(-1));
        assert_eq!(integer(0xff, 1, true), Cell::Integer(255));
        assert_eq!(integer(0x80_0000, 3, false), Cell::Integer(-8_388_608));
        assert_eq!(integer(u64::MAX, 8, false), Cell::Integer(-1));
        assert_eq!(integer(u64::MAX, 8, true), text("18446744073709551615".to_owned()));
        assert_eq!(float(0.1), 0.1);
        assert_eq!(float(16_777_217.0), 16_777_200.0);
        assert_eq!(told(kind::DOUBLE, false, 2).real(1.5), text("1.50".to_owned()));
    }

    #[test]
    fn rows_are_read() {
        let types = [
            told(kind::LONG, false, 0),
            told(kind::VAR_STRING, false, 0),
            told(kind::TIME, false, 3),
            told(kind::DATE, false, 0),
        ];
        let mut packet = vec![0, 0b0010_0000];
        packet.extend_from_slice(&(-5_i32).to_le_bytes());
        packet.extend_from_slice(b"\x02ab");
        packet.extend_from_slice(&[12, 1, 1, 0, 0, 0, 2, 3, 4, 0x88, 0x13, 0, 0]);
        let (row, _) = read_row(&packet, &types).unwrap();
        assert_eq!(&*row, &[Cell::Integer(-5), text("ab".into()), text("-26:03:04.005".into()), Cell::Null]);
        for end in 0..packet.len() {
            assert!(read_row(&packet[..end], &types).is_err());
        }
    }

    #[test]
    fn values_are_written() {
        let mut out = Vec::new();
        let values = [Parameter::Null, Parameter::Integer(1), Parameter::Text("a".into())];
        put_values(&values.iter().collect::<Vec<_>>(), &mut out).unwrap();
        assert_eq!(out, b"\x01\x01\x06\0\x08\0\xfd\0\x01\0\0\0\0\0\0\0\x01a");
        assert!(put_values(&[&Parameter::Number(f64::NAN)], &mut out).is_err());
    }
}
