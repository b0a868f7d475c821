//! What columns are, as `information_schema` tells it: the binlog has their bytes, but not their signs, character sets and names.

use super::event::Stored;
use crate::cells::kind;

/// A column of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    pub name: String,
    pub meaning: Meaning,
}

/// What the bytes of a column mean.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    Integer {
        is_unsigned: bool,
    },
    /// With so many digits behind the point, if it was given any.
    Real {
        digits: Option<usize>,
    },
    Decimal,
    Text(Charset),
    /// With zeros at the end up to this length.
    Bytes {
        length: usize,
    },
    Enum(Vec<String>),
    Set(Vec<String>),
    Date,
    Time,
    DateTime,
    Timestamp,
    Year,
    Bit,
    Uuid,
    /// Of a type whose values are not told.
    Other,
}

/// How text is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Charset {
    Utf8,
    Latin1,
    Utf16,
    Utf16Le,
    Utf32,
    /// What is ASCII in it is ASCII.
    LikeAscii,
    Other,
}

/// One row of `information_schema.columns`.
#[derive(Debug)]
pub struct ToldColumn<'a> {
    pub name: &'a str,
    pub data_type: &'a str,
    pub column_type: &'a str,
    pub charset: Option<&'a str>,
    pub scale: Option<usize>,
    pub length: Option<usize>,
}

impl Described {
    pub fn of(told: &ToldColumn<'_>) -> Described {
        let column_type = told.column_type.to_ascii_lowercase();
        let meaning = match told.data_type.to_ascii_lowercase().as_str() {
            "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" => {
                Meaning::Integer { is_unsigned: column_type.contains("unsigned") }
            }
            "float" | "double" => Meaning::Real {
                digits: told.scale.filter(|_| column_type.contains(',')).map(|scale| scale.min(30)),
            },
            "decimal" => Meaning::Decimal,
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
                Meaning::Text(Charset::by_name(told.charset.unwrap_or_default()))
            }
            "binary" => Meaning::Bytes { length: told.length.unwrap_or(0).min(255) },
            "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "vector" => {
                Meaning::Bytes { length: 0 }
            }
            "enum" => Meaning::Enum(listed(told.column_type)),
            "set" => Meaning::Set(listed(told.column_type)),
            "date" => Meaning::Date,
            "time" => Meaning::Time,
            "datetime" => Meaning::DateTime,
            "timestamp" => Meaning::Timestamp,
            "year" => Meaning::Year,
            "bit" => Meaning::Bit,
            "uuid" => Meaning::Uuid,
            _ => Meaning::Other,
        };
        Described { name: told.name.to_owned(), meaning }
    }

    /// Whether a column that stands in rows like this can be the one.
    pub fn fits(&self, stored: Stored) -> bool {
        match &self.meaning {
            Meaning::Integer { .. } => {
                matches!(stored.kind, kind::TINY | kind::SHORT | kind::INT24 | kind::LONG | kind::LONGLONG)
            }
            Meaning::Real { .. } => matches!(stored.kind, kind::FLOAT | kind::DOUBLE),
            Meaning::Decimal => stored.kind == kind::NEWDECIMAL,
            Meaning::Text(_) | Meaning::Bytes { .. } => matches!(
                stored.kind,
                kind::STRING
                    | kind::VARCHAR
                    | kind::VAR_STRING
                    | kind::BLOB
                    | kind::BLOB_COMPRESSED
                    | kind::VARCHAR_COMPRESSED
                    | kind::VECTOR
            ),
            Meaning::Enum(_) => stored.kind == kind::ENUM,
            Meaning::Set(_) => stored.kind == kind::SET,
            Meaning::Date => stored.kind == kind::DATE,
            Meaning::Time => matches!(stored.kind, kind::TIME | kind::TIME2),
            Meaning::DateTime => matches!(stored.kind, kind::DATETIME | kind::DATETIME2),
            Meaning::Timestamp => matches!(stored.kind, kind::TIMESTAMP | kind::TIMESTAMP2),
            Meaning::Year => stored.kind == kind::YEAR,
            Meaning::Bit => stored.kind == kind::BIT,
            Meaning::Uuid => stored.kind == kind::STRING,
            Meaning::Other => true,
        }
    }
}

/// The values of `enum('a','b')` or `set(...)`; a quote in one is written twice.
fn listed(column_type: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = column_type;
    while let Some((_, after)) = rest.split_once('\'') {
        let mut value = String::new();
        rest = after;
        while let Some((part, after)) = rest.split_once('\'') {
            value.push_str(part);
            rest = after;
            match rest.strip_prefix('\'') {
                Some(after) => {
                    value.push('\'');
                    rest = after;
                }
                None => break,
            }
        }
        values.push(value);
    }
    values
}

impl Charset {
    fn by_name(name: &str) -> Charset {
        match name {
            "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => Charset::Utf8,
            "latin1" => Charset::Latin1,
            "utf16" | "ucs2" => Charset::Utf16,
            "utf16le" => Charset::Utf16Le,
            "utf32" => Charset::Utf32,
            "swe7" | "" => Charset::Other,
            _ => Charset::LikeAscii,
        }
    }

    /// The text in UTF-8, where that can be told.
    pub fn text(self, bytes: &[u8]) -> Option<String> {
        let utf16 = |of: fn([u8; 2]) -> u16| {
            let units = bytes.chunks_exact(2).map(|pair| of([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<String, _>>().ok()
        };
        match self {
            Charset::Utf8 => String::from_utf8(bytes.to_vec()).ok(),
            Charset::LikeAscii => String::from_utf8(bytes.to_vec()).ok().filter(|text| text.is_ascii()),
            Charset::Latin1 => Some(bytes.iter().map(|&byte| windows_1252(byte)).collect()),
            Charset::Utf16 => utf16(u16::from_be_bytes),
            Charset::Utf16Le => utf16(u16::from_le_bytes),
            Charset::Utf32 => {
                let units = bytes
                    .chunks_exact(4)
                    .map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]));
                units.map(char::from_u32).collect()
            }
            Charset::Other => None,
        }
    }
}

/// MySQL's latin1 is Windows-1252, whose five holes stand for themselves.
fn windows_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}',
        '\u{2c6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}', '\u{90}',
        '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}', '\u{2dc}',
        '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}', '\u{178}',
    ];
    match byte {
        0x80..=0x9f => HIGH[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_enums_are_listed() {
        assert_eq!(listed("enum('a','it''s','','b,c')"), ["a", "it's", "", "b,c"]);
        assert_eq!(listed("set('')"), [""]);
        assert_eq!(listed("enum('a"), [""], "what does not end is nothing of use, and ends all the same");
    }

    #[test]
    fn text_is_utf_8_or_not_told() {
        assert_eq!(Charset::Latin1.text(b"\xe9\x80").as_deref(), Some("\u{e9}\u{20ac}"));
        assert_eq!(Charset::Utf16.text(b"\0a\xd8\x3e\xdd\x80").as_deref(), Some("a\u{1f980}"));
        assert_eq!(Charset::Utf32.text(b"\0\x01\xf9\x80").as_deref(), Some("\u{1f980}"));
        assert_eq!(Charset::by_name("sjis").text(b"abc").as_deref(), Some("abc"));
        assert_eq!((Charset::LikeAscii.text(b"\xe9"), Charset::Utf8.text(b"\xe9")), (None, None));
    }
}
