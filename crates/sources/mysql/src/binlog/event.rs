//! Events of the binlog, one at a time: header, checksum, and the parts of those that matter here.

use crate::cells::kind;
use crate::message::{Body, text};
use larder_source::Failure;
use larder_source_net::garbled;

/// Kinds of events, by MySQL's and MariaDB's numbers.
pub mod code {
    pub const QUERY: u8 = 2;
    pub const ROTATE: u8 = 4;
    pub const FORMAT_DESCRIPTION: u8 = 15;
    pub const XID: u8 = 16;
    pub const EXECUTE_LOAD_QUERY: u8 = 18;
    pub const TABLE_MAP: u8 = 19;
    pub const WRITE_ROWS_1: u8 = 23;
    #[cfg(test)]
    pub const UPDATE_ROWS_1: u8 = 24;
    pub const DELETE_ROWS_1: u8 = 25;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const WRITE_ROWS_2: u8 = 30;
    #[cfg(test)]
    pub const UPDATE_ROWS_2: u8 = 31;
    pub const DELETE_ROWS_2: u8 = 32;
    pub const XA_PREPARE: u8 = 38;
    pub const PARTIAL_UPDATE_ROWS: u8 = 39;
    /// A whole transaction, compressed.
    pub const TRANSACTION_PAYLOAD: u8 = 40;
    pub const HEARTBEAT_2: u8 = 41;
    pub const MARIADB_GTID: u8 = 162;
    pub const MARIADB_QUERY_COMPRESSED: u8 = 165;
    pub const MARIADB_ROWS_COMPRESSED_FIRST: u8 = 166;
    pub const MARIADB_ROWS_COMPRESSED_LAST: u8 = 171;
}

const HEADER: usize = 19;
/// Made by the sender, and in no file.
const ARTIFICIAL: u16 = 0x20;
/// The file is being written; does not count for the checksum.
const IN_USE: u16 = 1;

/// An event without its checksum.
#[derive(Debug)]
pub struct Event<'a> {
    /// When it was written.
    pub stamp: u32,
    pub kind: u8,
    /// Where in the file it ends; the lower 32 bits.
    pub end: u32,
    pub is_artificial: bool,
    pub body: Body<'a>,
}

impl<'a> Event<'a> {
    /// Takes an event apart; `has_checksum` is what was agreed on, or what the file said last.
    pub fn read(bytes: &'a [u8], has_checksum: bool) -> Result<Event<'a>, Failure> {
        let mut head = Body(bytes);
        let stamp = head.u32()?;
        let kind = head.u8()?;
        head.u32()?;
        let size = head.u32()? as usize;
        let end = head.u32()?;
        let flags = head.u16()?;
        if size != bytes.len() {
            return Err(garbled("an event of the binlog has not the length that it tells"));
        }
        let is_artificial = flags & ARTIFICIAL != 0;
        let mut content = bytes;
        if kind == code::FORMAT_DESCRIPTION {
            // Says by itself whether it has one, and has room for it either way.
            let split = bytes.len().checked_sub(5).filter(|&split| split >= HEADER);
            let split = split.ok_or_else(|| garbled("the beginning of a binlog is too short"))?;
            if bytes[split] == 1 {
                check(bytes, flags)?;
            }
            content = &bytes[..split + 1];
        } else if has_checksum && is_artificial {
            // Servers differ in whether these have one.
            content = check(bytes, flags).unwrap_or(bytes);
        } else if has_checksum {
            content = check(bytes, flags)?;
        }
        Ok(Event { stamp, kind, end, is_artificial, body: Body(&content[HEADER..]) })
    }
}

/// The event without its checksum, if that is right.
fn check(bytes: &[u8], flags: u16) -> Result<&[u8], Failure> {
    let split = bytes.len().checked_sub(4).filter(|&split| split >= HEADER);
    let split = split.ok_or_else(|| garbled("an event of the binlog is too short"))?;
    let (content, sum) = bytes.split_at(split);
    let mut head = [0; HEADER];
    head.copy_from_slice(&content[..HEADER]);
    head[17..].copy_from_slice(&(flags & !IN_USE).to_le_bytes());
    if crc32(&[&head, &content[HEADER..]]).to_le_bytes() != sum {
        return Err(garbled("an event of the binlog has a wrong checksum"));
    }
    Ok(content)
}

const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut value = at as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
};

/// CRC-32 (ISO 3309) of all parts.
pub fn crc32(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    !bytes.fold(!0, |sum, &byte| sum >> 8 ^ CRC[((sum ^ u32::from(byte)) & 0xff) as usize])
}

/// Whether the events of a file have checksums, from what its first event holds.
pub fn has_checksums(mut body: Body<'_>) -> Result<bool, Failure> {
    if body.u16()? != 4 {
        return Err(garbled("the binlog has an unknown format"));
    }
    match body.0.last() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(garbled(
            "the binlog has checksums of an unknown kind, or the store is older than MySQL 5.6 and MariaDB 5.3",
        )),
    }
}

/// The file that the next event is in, and where in it.
pub fn read_rotation(mut body: Body<'_>) -> Result<(String, u64), Failure> {
    let position = body.u64()?;
    Ok((text(body.0)?.to_owned(), position))
}

/// A statement that stands in the binlog as text.
pub fn read_query(mut body: Body<'_>, is_load: bool) -> Result<(String, String), Failure> {
    body.bytes(8)?;
    let schema = usize::from(body.u8()?);
    body.u16()?;
    let variables = usize::from(body.u16()?);
    if is_load {
        body.bytes(13)?;
    }
    body.bytes(variables)?;
    let schema = String::from_utf8_lossy(body.bytes(schema)?).into_owned();
    body.u8()?;
    Ok((schema, String::from_utf8_lossy(body.0).into_owned()))
}

/// How a column stands in rows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stored {
    pub kind: u8,
    /// Lengths and digits, as the kind has them.
    pub meta: u16,
}

/// What the rows that follow belong to.
#[derive(Debug, Eq, PartialEq)]
pub struct TableMap {
    pub id: u64,
    pub schema: String,
    pub table: String,
    /// None where a column has a type that is not known.
    pub columns: Option<Vec<Stored>>,
    /// Names of columns, with `binlog_row_metadata = FULL`.
    pub names: Option<Vec<String>>,
}

impl TableMap {
    pub fn read(mut body: Body<'_>) -> Result<TableMap, Failure> {
        let id = body.number(6)?;
        body.u16()?;
        let schema = text(counted_with_zero(&mut body)?)?.to_owned();
        let table = text(counted_with_zero(&mut body)?)?.to_owned();
        let count = body.length()?;
        let kinds = body.bytes(count)?;
        let mut metas = Body(body.counted()?);
        let columns: Result<Option<Vec<Stored>>, Failure> =
            kinds.iter().map(|&kind| stored(kind, &mut metas)).collect();
        body.bytes(count.div_ceil(8))?;
        let mut names = None;
        while !body.is_empty() {
            let tag = body.u8()?;
            let mut field = Body(body.counted()?);
            if tag == 4 {
                let mut all = Vec::new();
                while !field.is_empty() {
                    all.push(field.counted_text()?.to_owned());
                }
                names = Some(all);
            }
        }
        Ok(TableMap { id, schema, table, columns: columns?, names })
    }
}

fn counted_with_zero<'a>(body: &mut Body<'a>) -> Result<&'a [u8], Failure> {
    let length = usize::from(body.u8()?);
    let name = body.bytes(length)?;
    body.u8()?;
    Ok(name)
}

/// A column from its type and what the table map tells besides.
fn stored(kind: u8, metas: &mut Body<'_>) -> Result<Option<Stored>, Failure> {
    let meta = match kind {
        kind::TINY
        | kind::SHORT
        | kind::LONG
        | kind::LONGLONG
        | kind::INT24
        | kind::YEAR
        | kind::DATE
        | kind::TIME
        | kind::DATETIME
        | kind::TIMESTAMP
        | kind::NULL => 0,
        kind::FLOAT
        | kind::DOUBLE
        | kind::BLOB
        | kind::JSON
        | kind::GEOMETRY
        | kind::VECTOR
        | kind::BLOB_COMPRESSED
        | kind::TIMESTAMP2
        | kind::DATETIME2
        | kind::TIME2 => u16::from(metas.u8()?),
        kind::VARCHAR | kind::VAR_STRING | kind::VARCHAR_COMPRESSED | kind::BIT => metas.u16()?,
        // Precision, and of it behind the point.
        kind::NEWDECIMAL => metas.number_be(2)? as u16,
        kind::STRING | kind::ENUM | kind::SET => {
            let (first, second) = (metas.u8()?, metas.u8()?);
            // The length has two more bits, which stand in the type.
            if first & 0x30 != 0x30 {
                let length = u16::from(first & 0x30 ^ 0x30) << 4 | u16::from(second);
                return Ok(Some(Stored { kind: first | 0x30, meta: length }));
            }
            return Ok(Some(Stored { kind: first, meta: u16::from(second) }));
        }
        _ => return Ok(None),
    };
    Ok(Some(Stored { kind, meta }))
}

/// Rows that changed: which, and which of their columns are told.
#[derive(Debug)]
pub struct RowsEvent<'a> {
    pub columns: usize,
    pub before: Option<&'a [u8]>,
    pub after: Option<&'a [u8]>,
    pub rows: Body<'a>,
}

/// The table that rows belong to: the first thing in any event with rows.
pub fn table_of(mut body: Body<'_>) -> Result<u64, Failure> {
    body.number(6)
}

impl<'a> RowsEvent<'a> {
    pub fn read(kind: u8, mut body: Body<'a>) -> Result<RowsEvent<'a>, Failure> {
        body.bytes(6 + 2)?;
        if kind >= code::WRITE_ROWS_2 {
            let besides = usize::from(body.u16()?);
            body.bytes(
                besides
                    .checked_sub(2)
                    .ok_or_else(|| garbled("rows of the binlog with a length that is none"))?,
            )?;
        }
        let columns = body.length()?;
        let told = body.bytes(columns.div_ceil(8))?;
        let (before, after) = match kind {
            code::WRITE_ROWS_1 | code::WRITE_ROWS_2 => (None, Some(told)),
            code::DELETE_ROWS_1 | code::DELETE_ROWS_2 => (Some(told), None),
            _ => (Some(told), Some(body.bytes(columns.div_ceil(8))?)),
        };
        Ok(RowsEvent { columns, before, after, rows: body })
    }
}

/// The name of a transaction that was prepared, as `XA COMMIT` names it; none if it was committed at once.
pub fn read_prepared(mut body: Body<'_>) -> Result<Option<String>, Failure> {
    if body.u8()? != 0 {
        return Ok(None);
    }
    let format = body.u32()? as i32;
    let (global, branch) = (body.u32()? as usize, body.u32()? as usize);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let global = hex(body.bytes(global)?);
    Ok(Some(format!("x'{global}',x'{}',{format}", hex(body.bytes(branch)?))))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An event with a header and a checksum.
    pub fn made(kind: u8, end: u32, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut out = 1_700_000_000_u32.to_le_bytes().to_vec();
        out.push(kind);
        out.extend_from_slice(&1_u32.to_le_bytes());
        out.extend_from_slice(&((HEADER + body.len() + 4) as u32).to_le_bytes());
        out.extend_from_slice(&end.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(body);
        let sum = crc32(&[&out]);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    #[test]
    fn checksums_are_checked() {
        assert_eq!(crc32(&[b"1234", b"56789"]), 0xcbf4_3926);
        let mut bytes = made(code::XID, 100, 0, &[1, 0, 0, 0, 0, 0, 0, 0]);
        let read = Event::read(&bytes, true).unwrap();
        assert_eq!((read.kind, read.end, read.body.0.len(), read.is_artificial), (code::XID, 100, 8, false));
        assert_eq!(Event::read(&bytes, false).unwrap().body.0.len(), 12);
        bytes[20] ^= 1;
        assert!(Event::read(&bytes, true).is_err());
        bytes.pop();
        assert!(Event::read(&bytes, true).is_err(), "another length");
        let artificial = made(code::ROTATE, 0, ARTIFICIAL, b"\x04\0\0\0\0\0\0\0binlog.000001");
        let read = Event::read(&artificial, true).unwrap();
        assert_eq!(read_rotation(read.body).unwrap(), ("binlog.000001".to_owned(), 4));
    }

    #[test]
    fn a_file_says_whether_it_has_checksums() {
        let mut body = vec![4, 0];
        body.extend_from_slice(&[0; 60]);
        body.push(1);
        let bytes = made(code::FORMAT_DESCRIPTION, 100, IN_USE, &body);
        assert!(Event::read(&bytes, false).is_err(), "the flag does not count");
        let bytes = made(code::FORMAT_DESCRIPTION, 100, 0, &body);
        assert!(has_checksums(Event::read(&bytes, false).unwrap().body).unwrap());
        assert!(has_checksums(Body(&[3, 0, 1])).is_err() && has_checksums(Body(&[4, 0, 9])).is_err());
    }

    #[test]
    fn tables_are_read() {
        let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 4];
        body.extend_from_slice(b"shop\0\x05users\0\x05");
        body.extend_from_slice(&[kind::LONG, kind::VARCHAR, kind::STRING, kind::STRING, kind::NEWDECIMAL]);
        body.extend_from_slice(&[8, 44, 1, 247, 1, 0xee, 0x2c, 10, 2, 0b11111]);
        let map = TableMap::read(Body(&body)).unwrap();
        assert_eq!(
            (map.id, map.schema.as_str(), map.table.as_str(), map.names.as_ref()),
            (7, "shop", "users", None)
        );
        let stored = |kind, meta| Stored { kind, meta };
        let columns = [
            stored(kind::LONG, 0),
            stored(kind::VARCHAR, 300),
            stored(kind::ENUM, 1),
            stored(kind::STRING, 300),
            stored(kind::NEWDECIMAL, 0x0a02),
        ];
        assert_eq!(map.columns.as_deref(), Some(&columns[..]));
        body.extend_from_slice(b"\x01\x01\x80\x04\x06\x02id\x02ab");
        assert_eq!(TableMap::read(Body(&body)).unwrap().names, Some(vec!["id".to_owned(), "ab".to_owned()]));
        for end in 0..body.len() {
            let _ = TableMap::read(Body(&body[..end]));
        }
    }
}
