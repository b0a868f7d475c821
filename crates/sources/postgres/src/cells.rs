//! PostgreSQL's types in the words of the contract. Everything is asked for as text, so that any type comes as psql shows it.

use larder_source::{Cell, Column, ColumnKind, Failure, Parameter, ParameterType};
use larder_source_net::{garbled, unfit};
use std::fmt::Write;

/// What a column of a type holds.
pub fn kind_of(oid: u32) -> ColumnKind {
    match oid {
        16 => ColumnKind::Boolean,
        20 | 21 | 23 | 26 => ColumnKind::Integer,
        700 | 701 | 1700 => ColumnKind::Number,
        17 => ColumnKind::Bytes,
        114 | 3802 => ColumnKind::Json,
        2278 => ColumnKind::Unsupported("void".to_owned()),
        2249 => ColumnKind::Unsupported("record".to_owned()),
        _ => ColumnKind::Text,
    }
}

/// What a value of a type is declared as, where that is one of ours; of an array, what its elements are.
pub fn parameter_type_of(oid: u32) -> Option<ParameterType> {
    Some(match oid {
        20 | 21 | 23 | 26 | 1005 | 1007 | 1016 | 1028 => ParameterType::Integer,
        700 | 701 | 1700 | 1021 | 1022 | 1231 => ParameterType::Number,
        2950 | 2951 => ParameterType::Uuid,
        17 | 1001 => ParameterType::Bytes,
        18 | 19 | 25 | 1042 | 1043 | 1002 | 1003 | 1009 | 1014 | 1015 => ParameterType::Text,
        _ => return None,
    })
}

/// A value from its text.
pub fn cell_of(text: &[u8], oid: u32) -> Result<Cell, Failure> {
    let number = || std::str::from_utf8(text).map_err(|_| garbled("a number is not UTF-8"));
    Ok(match oid {
        16 => Cell::Boolean(text == b"t"),
        20 | 21 | 23 | 26 => match number()?.parse() {
            Ok(number) => Cell::Integer(number),
            Err(_) => Cell::Text(text.into()),
        },
        700 | 701 => Cell::Real(number()?.parse().map_err(|_| garbled("a number that is none"))?),
        17 => Cell::Bytes(unhex(text)?),
        114 | 3802 => Cell::Json(text.into()),
        _ => Cell::Text(text.into()),
    })
}

/// `\x00ff`
fn unhex(text: &[u8]) -> Result<Box<[u8]>, Failure> {
    let wrong = || garbled("bytea that is not in hexadecimal");
    let digits = text.strip_prefix(b"\\x").filter(|digits| digits.len() % 2 == 0).ok_or_else(wrong)?;
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    digits.chunks_exact(2).map(byte).collect::<Option<_>>().ok_or_else(wrong)
}

/// The text of a value to bind; none for NULL.
pub fn text_of(parameter: &Parameter) -> Result<Option<String>, Failure> {
    Ok(Some(match parameter {
        Parameter::Null => return Ok(None),
        Parameter::Text(text) | Parameter::Uuid(text) => text.to_string(),
        Parameter::Bytes(bytes) => hex(bytes),
        Parameter::Integer(number) => number.to_string(),
        Parameter::Number(number) => number_text(*number),
        Parameter::List(values) => {
            let mut out = String::from("{");
            for (at, value) in values.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                match (value, text_of(value)?) {
                    (Parameter::List(_), _) => return Err(unfit("a list in a list")),
                    (_, None) => out.push_str("NULL"),
                    (_, Some(text)) => quote(&text, &mut out),
                }
            }
            out.push('}');
            out
        }
    }))
}

fn number_text(number: f64) -> String {
    match number {
        _ if number.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => format!("{number:e}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 + 2 * bytes.len());
    out.push_str("\\x");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// An element of an array.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for ch in text.chars() {
        if ch == '"' || ch == '\\' {
            out.push('\\');
        }
        out.push(ch);
    }
    out.push('"');
}

/// A column by its name and type.
pub fn column(name: &str, oid: u32) -> Column {
    Column { name: name.to_owned(), kind: kind_of(oid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_quoted() {
        let list = Parameter::List(vec![
            Parameter::Text("a\"b\\c,{}".into()),
            Parameter::Null,
            Parameter::Bytes([0, 255].into()),
            Parameter::Integer(-1),
        ]);
        let text = text_of(&list).unwrap().unwrap();
        assert_eq!(text, r#"{"a\"b\\c,{}",NULL,"\\x00ff","-1"}"#);
    }

    #[test]
    fn bytes_come_in_hexadecimal() {
        assert_eq!(cell_of(b"\\x00fF", 17).unwrap(), Cell::Bytes([0, 255].into()));
        assert!(cell_of(b"\\x0", 17).is_err() && cell_of(b"00", 17).is_err());
    }
}
