//! In which form an answer is kept: as a string, a JSON document, a hash, a list, a set or a sorted set.
//!
//! NULL has no form: a string or an element that is NULL is not there, a field that is NULL is left out; in JSON it is null.
//! Truth is `true` or `false`; numbers are in their shortest decimal form.

use crate::value::{Cell, Column, ColumnKind, Row};
use std::io::Write as _;

/// A form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// One row with one column.
    String,
    /// One row as an object; a single column of JSON is the document itself.
    Json,
    /// All rows as an array of objects; a single column of JSON gives its documents.
    JsonRows,
    /// One row: each column is a field.
    Hash,
    /// The only column of each row, in order.
    List,
    /// The only column of each row.
    Set,
    /// Rows of member and score.
    Zset,
}

/// A value in its form.
#[derive(Clone, Debug, PartialEq)]
pub enum Shaped {
    /// A string.
    String(Vec<u8>),
    /// Fields and values.
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    /// Elements in order.
    List(Vec<Vec<u8>>),
    /// Members.
    Set(Vec<Vec<u8>>),
    /// Members with scores, none of them NaN.
    Zset(Vec<(f64, Vec<u8>)>),
}

const ALL: [Shape; 7] =
    [Shape::String, Shape::Json, Shape::JsonRows, Shape::Hash, Shape::List, Shape::Set, Shape::Zset];

impl Shape {
    /// The shape of this name.
    pub(crate) fn parse(word: &str) -> Result<Shape, String> {
        ALL.into_iter().find(|shape| shape.name() == word).ok_or_else(|| {
            let names: Vec<&str> = ALL.iter().map(|shape| shape.name()).collect();
            format!("'{word}' is no shape; there are {}", names.join(", "))
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Shape::String => "string",
            Shape::Json => "json",
            Shape::JsonRows => "json-rows",
            Shape::Hash => "hash",
            Shape::List => "list",
            Shape::Set => "set",
            Shape::Zset => "zset",
        }
    }

    /// Whether columns fit, as far as is known before rows have come.
    ///
    /// # Errors
    /// Why not, and what would.
    pub fn check(self, columns: &[Column]) -> Result<(), String> {
        if columns.is_empty() {
            return Ok(());
        }
        if let Some(column) = columns.iter().find(|column| matches!(column.kind, ColumnKind::Unsupported(_)))
        {
            let ColumnKind::Unsupported(name) = &column.kind else { return Ok(()) };
            return Err(format!(
                "column '{}' has the type {name}, which has no form here: cast it to text",
                column.name
            ));
        }
        let (wanted, what) = match self {
            Shape::Json | Shape::JsonRows | Shape::Hash => return self.check_names(columns),
            Shape::String | Shape::List | Shape::Set => (1, "one column"),
            Shape::Zset => (2, "two columns, member and score"),
        };
        if columns.len() != wanted {
            return Err(format!("a {} takes {what}, and the query answers {}", self.name(), columns.len()));
        }
        if self == Shape::Zset && !may_be_number(&columns[1].kind) {
            return Err(format!("a zset's score is a number, and column '{}' is none", columns[1].name));
        }
        Ok(())
    }

    fn check_names(self, columns: &[Column]) -> Result<(), String> {
        for (place, column) in columns.iter().enumerate() {
            if self != Shape::Hash && column.kind == ColumnKind::Bytes {
                return Err(format!(
                    "column '{}' holds bytes, which JSON cannot: encode it in the query",
                    column.name
                ));
            }
            if columns[..place].iter().any(|other| other.name == column.name) {
                return Err(format!("two columns are named '{}': name one of them with AS", column.name));
            }
        }
        Ok(())
    }

    /// Rows in this form; nothing if they hold nothing. `skipped` columns at the front are none of its. What they hold is moved out of
    /// them where that can be.
    ///
    /// # Errors
    /// Why the rows cannot take the form.
    pub fn shape(
        self,
        columns: &[Column],
        rows: &mut [Row],
        skipped: usize,
    ) -> Result<Option<Shaped>, String> {
        let columns = columns.get(skipped..).unwrap_or_default();
        self.check(columns)?;
        if rows.is_empty() {
            return Ok(None);
        }
        if rows.len() > 1 && matches!(self, Shape::String | Shape::Hash | Shape::Json) {
            return Err(format!(
                "a {} takes one row, and the query answers {}: add LIMIT 1, or another shape",
                self.name(),
                rows.len()
            ));
        }
        let mut cells = rows.iter_mut().map(|row| row.get_mut(skipped..).unwrap_or_default());
        Ok(match self {
            Shape::String => {
                cells.next().and_then(<[Cell]>::first_mut).and_then(take_text).map(Shaped::String)
            }
            Shape::Hash => {
                let fields = columns.iter().zip(cells.next().unwrap_or_default());
                let fields: Vec<_> = fields
                    .filter_map(|(column, cell)| Some((column.name.clone().into_bytes(), take_text(cell)?)))
                    .collect();
                (!fields.is_empty()).then_some(Shaped::Hash(fields))
            }
            Shape::Json => Some(Shaped::String(json_of_row(columns, cells.next().unwrap_or_default())?)),
            Shape::JsonRows => {
                let mut out = vec![b'['];
                for cells in cells {
                    if out.len() > 1 {
                        out.push(b',');
                    }
                    out.extend(json_of_row(columns, cells)?);
                }
                out.push(b']');
                Some(Shaped::String(out))
            }
            Shape::List | Shape::Set => {
                let column = cells.filter_map(|cells| cells.first_mut().and_then(take_text)).collect();
                some(column, if self == Shape::List { Shaped::List } else { Shaped::Set })
            }
            Shape::Zset => {
                let member = |cells: &mut [Cell]| {
                    let [member, score, ..] = cells else { return Ok(None) };
                    let Some(member) = take_text(member) else { return Ok(None) };
                    let score = score_of(score)
                        .ok_or_else(|| format!("{score:?} is no score: a number is wanted, and no NaN"))?;
                    Ok(Some((score, member)))
                };
                let members: Result<Vec<Option<_>>, String> = cells.map(member).collect();
                some(members?.into_iter().flatten().collect(), Shaped::Zset)
            }
        })
    }
}

impl Shaped {
    /// Bytes that it holds, about.
    pub fn size(&self) -> usize {
        match self {
            Shaped::String(bytes) => bytes.len(),
            Shaped::Hash(fields) => fields.iter().map(|(field, value)| field.len() + value.len()).sum(),
            Shaped::List(items) | Shaped::Set(items) => items.iter().map(Vec::len).sum(),
            Shaped::Zset(members) => members.iter().map(|(_, member)| member.len() + 8).sum(),
        }
    }

    /// How many parts it has.
    pub fn len(&self) -> usize {
        match self {
            Shaped::String(_) => 1,
            Shaped::Hash(fields) => fields.len(),
            Shaped::List(items) | Shaped::Set(items) => items.len(),
            Shaped::Zset(members) => members.len(),
        }
    }

    /// Whether it has no part.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn some<T>(items: Vec<T>, of: impl FnOnce(Vec<T>) -> Shaped) -> Option<Shaped> {
    (!items.is_empty()).then(|| of(items))
}

fn may_be_number(kind: &ColumnKind) -> bool {
    matches!(
        kind,
        ColumnKind::Unknown
            | ColumnKind::Integer
            | ColumnKind::Number
            | ColumnKind::Boolean
            | ColumnKind::Text
    )
}

/// A cell as bytes; NULL is none.
pub fn text_of(cell: &Cell) -> Option<Vec<u8>> {
    match cell {
        Cell::Null => None,
        Cell::Boolean(truth) => Some(truth.to_string().into_bytes()),
        Cell::Integer(number) => Some(number.to_string().into_bytes()),
        Cell::Real(number) => Some(number.to_string().into_bytes()),
        Cell::Text(bytes) | Cell::Bytes(bytes) | Cell::Json(bytes) => Some(bytes.to_vec()),
    }
}

/// The same, moved out of the cell where that can be.
fn take_text(cell: &mut Cell) -> Option<Vec<u8>> {
    match std::mem::replace(cell, Cell::Null) {
        Cell::Text(bytes) | Cell::Bytes(bytes) | Cell::Json(bytes) => Some(bytes.into_vec()),
        other => text_of(&other),
    }
}

/// Appends a cell as bytes; NULL is none.
pub(crate) fn push_text(out: &mut Vec<u8>, cell: &Cell) {
    // Writing to a vector does not fail.
    _ = match cell {
        Cell::Null => Ok(()),
        Cell::Boolean(truth) => write!(out, "{truth}"),
        Cell::Integer(number) => {
            // What rows are told apart by is mostly one, and formatting takes several times as long.
            out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes());
            Ok(())
        }
        Cell::Real(number) => write!(out, "{number}"),
        Cell::Text(bytes) | Cell::Bytes(bytes) | Cell::Json(bytes) => {
            out.extend_from_slice(bytes);
            Ok(())
        }
    };
}

fn score_of(cell: &Cell) -> Option<f64> {
    let score = match cell {
        Cell::Integer(number) => *number as f64,
        Cell::Real(number) => *number,
        Cell::Boolean(truth) => f64::from(u8::from(*truth)),
        Cell::Text(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok()?,
        Cell::Null | Cell::Bytes(_) | Cell::Json(_) => return None,
    };
    (!score.is_nan()).then_some(score)
}

/// A row as an object, or the document that is its only column.
fn json_of_row(columns: &[Column], cells: &[Cell]) -> Result<Vec<u8>, String> {
    if let [Cell::Json(document)] = cells {
        return Ok(document.to_vec());
    }
    let mut out = vec![b'{'];
    for (column, cell) in columns.iter().zip(cells) {
        if out.len() > 1 {
            out.push(b',');
        }
        push_json_text(&mut out, &column.name);
        out.push(b':');
        match cell {
            Cell::Null => out.extend_from_slice(b"null"),
            Cell::Boolean(truth) => out.extend_from_slice(truth.to_string().as_bytes()),
            Cell::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Cell::Real(number) if number.is_finite() => out.extend_from_slice(number.to_string().as_bytes()),
            Cell::Real(_) => out.extend_from_slice(b"null"),
            Cell::Json(document) => out.extend_from_slice(document),
            Cell::Text(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| {
                    format!("column '{}' holds text that is not UTF-8, which JSON cannot", column.name)
                })?;
                push_json_text(&mut out, text);
            }
            Cell::Bytes(_) => {
                return Err(format!(
                    "column '{}' holds bytes, which JSON cannot: encode it in the query",
                    column.name
                ));
            }
        }
    }
    out.push(b'}');
    Ok(out)
}

/// Text in JSON's quotes (RFC 8259, section 7).
pub fn push_json_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for ch in text.chars() {
        match ch {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            ch if (ch as u32) < 0x20 => {
                // Writing to a vector does not fail.
                let _ = write!(out, "\\u{:04x}", ch as u32);
            }
            ch => out.extend_from_slice(ch.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// The words of a key as one, which no other words give.
pub fn joined<W: AsRef<[u8]> + Into<Vec<u8>>>(words: Vec<W>) -> Vec<u8> {
    match <[W; 1]>::try_from(words) {
        Ok([only]) => only.into(),
        Err(words) => {
            let mut all = Vec::new();
            for word in &words {
                let word = word.as_ref();
                all.extend_from_slice(&(word.len() as u64).to_le_bytes());
                all.extend_from_slice(word);
            }
            all
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &[&str]) -> Vec<Column> {
        names.iter().map(|name| Column { name: (*name).to_owned(), kind: ColumnKind::Unknown }).collect()
    }

    fn text(text: &str) -> Cell {
        Cell::Text(text.as_bytes().into())
    }

    fn row(cells: &[Cell]) -> Row {
        cells.into()
    }

    #[test]
    fn a_row_takes_each_form() {
        let rows = [row(&[text("Ada"), Cell::Null, Cell::Integer(36), Cell::Real(1.5), Cell::Boolean(true)])];
        let names = columns(&["name", "email", "age", "score", "on"]);
        let hash = Shape::Hash.shape(&names, &mut rows.clone(), 0).expect("a hash");
        let field = |field: &str, value: &str| (field.as_bytes().to_vec(), value.as_bytes().to_vec());
        let fields =
            vec![field("name", "Ada"), field("age", "36"), field("score", "1.5"), field("on", "true")];
        assert_eq!(hash, Some(Shaped::Hash(fields)));
        let json = Shape::Json.shape(&names, &mut rows.clone(), 0).expect("json");
        let document = r#"{"name":"Ada","email":null,"age":36,"score":1.5,"on":true}"#;
        assert_eq!(json, Some(Shaped::String(document.into())));
        assert_eq!(
            Shape::String.shape(&names[..1], &mut [row(&[text("Ada")])], 0),
            Ok(Some(Shaped::String(b"Ada".to_vec())))
        );
        assert_eq!(Shape::String.shape(&names[..1], &mut [row(&[Cell::Null])], 0), Ok(None));
        assert_eq!(Shape::Hash.shape(&names, &mut [], 0), Ok(None));
    }

    #[test]
    fn rows_take_each_form() {
        let rows = [row(&[text("a"), Cell::Integer(2)]), row(&[text("b"), text("-0.5")])];
        let names = columns(&["member", "score"]);
        let zset = Shape::Zset.shape(&names, &mut rows.clone(), 0);
        assert_eq!(zset, Ok(Some(Shaped::Zset(vec![(2.0, b"a".to_vec()), (-0.5, b"b".to_vec())]))));
        assert_eq!(
            Shape::List.shape(&names, &mut rows.clone(), 1),
            Ok(Some(Shaped::List(vec![b"2".to_vec(), b"-0.5".to_vec()])))
        );
        let json = Shape::JsonRows.shape(&names, &mut rows.clone(), 0);
        let document = r#"[{"member":"a","score":2},{"member":"b","score":"-0.5"}]"#;
        assert_eq!(json, Ok(Some(Shaped::String(document.into()))));
        assert!(Shape::Hash.shape(&names, &mut rows.clone(), 0).is_err_and(|what| what.contains("LIMIT 1")));
        assert!(Shape::Zset.shape(&names, &mut [row(&[text("a"), text("x")])], 0).is_err());
    }

    #[test]
    fn what_does_not_fit_is_known_before() {
        let mut wrong = columns(&["a", "a"]);
        assert!(Shape::Hash.check(&wrong).is_err() && Shape::List.check(&wrong).is_err());
        wrong[1] = Column { name: "b".to_owned(), kind: ColumnKind::Unsupported("point".to_owned()) };
        assert!(Shape::Hash.check(&wrong).is_err_and(|what| what.contains("point")));
        wrong[1].kind = ColumnKind::Bytes;
        assert!(Shape::Json.check(&wrong).is_err() && Shape::Zset.check(&wrong).is_err());
        assert!(Shape::Hash.check(&wrong).is_ok());
    }

    #[test]
    fn text_in_json_is_escaped() {
        let mut out = Vec::new();
        push_json_text(&mut out, "a\"\\\n\u{1}é");
        assert_eq!(String::from_utf8_lossy(&out), r#""a\"\\\n\u0001é""#);
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, -7, 10, -10, 1_234_567_890, i64::MAX, i64::MIN] {
            let mut out = b"n".to_vec();
            push_text(&mut out, &Cell::Integer(number));
            assert_eq!(out, format!("n{number}").into_bytes());
        }
    }

    #[test]
    fn words_are_joined_apart() {
        let joined = |words: &[&str]| joined(words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
        assert_eq!(joined(&["only"]), b"only");
        assert_ne!(joined(&["a", "bc"]), joined(&["ab", "c"]));
        assert_ne!(joined(&["", "a"]), joined(&["a", ""]));
    }
}
