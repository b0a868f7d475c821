//! What stores answer: rows of cells.

use std::sync::Arc;

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// SQL's NULL.
    Null,
    /// Truth, of a type that has only the two.
    Boolean(bool),
    /// A whole number. What does not fit comes as `Text`, in decimal.
    Integer(i64),
    /// A binary floating-point number.
    Real(f64),
    /// Text, and whatever has a text that stands for it: decimals, times, UUIDs, network addresses. UTF-8.
    Text(Box<[u8]>),
    /// Bytes.
    Bytes(Box<[u8]>),
    /// A JSON document, as the store writes it.
    Json(Box<[u8]>),
}

impl Cell {
    /// Bytes that it takes, about.
    pub fn size(&self) -> usize {
        match self {
            Cell::Null | Cell::Boolean(_) | Cell::Integer(_) | Cell::Real(_) => 8,
            Cell::Text(bytes) | Cell::Bytes(bytes) | Cell::Json(bytes) => bytes.len(),
        }
    }
}

/// A row: a cell for each column.
pub type Row = Box<[Cell]>;

/// What a query found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The columns, in the order of the cells.
    pub columns: Arc<[Column]>,
    /// The rows, in the store's order.
    pub rows: Vec<Row>,
}

/// A column of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Column {
    /// Its name, as the statement gives it.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
}

/// What a column holds, as far as the store tells before rows have come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ColumnKind {
    /// Not told; any cell may come.
    Unknown,
    /// `Cell::Boolean`.
    Boolean,
    /// `Cell::Integer`.
    Integer,
    /// `Cell::Real`, or a decimal as text.
    Number,
    /// `Cell::Text`.
    Text,
    /// `Cell::Bytes`.
    Bytes,
    /// `Cell::Json`.
    Json,
    /// A type with no form here, by the store's name for it: a statement that answers it is to be refused.
    Unsupported(String),
}
