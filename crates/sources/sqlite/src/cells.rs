//! SQLite's values, columns and errors in the words of the contract.

use larder_source::{Cell, Column, ColumnKind, Failure, FailureKind};
use rusqlite::ErrorCode;
use rusqlite::types::ValueRef;

/// Bytes that a value takes.
pub fn size_of(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        _ => 8,
    }
}

/// A value. Any column can hold any type; what is declared only tells JSON from other text.
pub fn cell_of(value: ValueRef<'_>, column: &Column) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Real(number) => Cell::Real(number),
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.into()),
        ValueRef::Text(text) if std::str::from_utf8(text).is_err() => Cell::Bytes(text.into()),
        ValueRef::Text(text) if column.kind == ColumnKind::Json => Cell::Json(text.into()),
        ValueRef::Text(text) => Cell::Text(text.into()),
    }
}

/// A column, with the kind that its declared type means by SQLite's rules of affinity.
pub fn column_of(column: &rusqlite::Column<'_>) -> Column {
    let declared = column.decl_type().unwrap_or_default().to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    let kind = if declared == "JSON" {
        ColumnKind::Json
    } else if has(&["INT"]) {
        ColumnKind::Integer
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        ColumnKind::Text
    } else if has(&["BLOB"]) {
        ColumnKind::Bytes
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        ColumnKind::Number
    } else {
        ColumnKind::Unknown
    };
    Column { name: column.name().to_owned(), kind }
}

/// An error while a statement runs.
pub fn failure_of(error: &rusqlite::Error) -> Failure {
    failure_in(error, &|offset| offset)
}

/// An error, at the position that `at` makes of SQLite's.
pub fn failure_in(error: &rusqlite::Error, at: &dyn Fn(usize) -> usize) -> Failure {
    let (code, text) = match error {
        rusqlite::Error::SqlInputError { msg, offset, .. } => {
            let failure = Failure::new(FailureKind::Refused, msg.clone());
            return match usize::try_from(*offset) {
                Ok(offset) => failure.at(at(offset)),
                Err(_) => failure,
            };
        }
        rusqlite::Error::SqliteFailure(code, text) => (code, text.clone()),
        rusqlite::Error::MultipleStatement => {
            return Failure::new(FailureKind::Refused, "more than one statement");
        }
        other => return Failure::new(FailureKind::Refused, other.to_string()),
    };
    let kind = match code.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull => FailureKind::Busy,
        ErrorCode::CannotOpen
        | ErrorCode::SystemIoFailure
        | ErrorCode::OperationInterrupted
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::SchemaChanged
        | ErrorCode::OutOfMemory => FailureKind::Unreachable,
        ErrorCode::TooBig => FailureKind::Unfit,
        _ => FailureKind::Refused,
    };
    Failure::new(kind, text.unwrap_or_else(|| code.to_string()))
}
