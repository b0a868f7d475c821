//! The keys of a piece that was cut, and their values.

use super::super::dump::{Dumped, RestoreError, read_object};
use super::super::{BadData, Reader};
use super::error::{FileError, Why};
use super::scan::Scan;
use super::{Access, Cut, Dialect, Head, foreign, kind, opcode};
use std::borrow::Cow;

/// A value from a file.
#[derive(Debug, PartialEq)]
pub enum Value<'a> {
    /// A string.
    Text(Cow<'a, [u8]>),
    /// A string that is an integer's decimal text.
    Integer(i64),
    /// Anything else.
    Collection(Dumped),
    /// A collection of nothing: there is no such key.
    Empty,
    /// Left out, since nobody here knows it.
    Skipped,
}

/// A key, before its value is looked at.
#[derive(Debug)]
pub struct Record<'a> {
    /// Number of its database.
    pub db: u64,
    /// Itself.
    pub key: Cow<'a, [u8]>,
    /// What is known of it.
    pub head: Head,
    kind: u8,
    at: usize,
    value_at: usize,
}

impl Record<'_> {
    /// Its type.
    pub(super) fn kind(&self) -> u8 {
        self.kind
    }

    /// Where its value begins, in bytes from the piece's start.
    pub(super) fn value_at(&self) -> usize {
        self.value_at
    }

    /// It, whatever becomes of the piece.
    pub(super) fn into_owned(self) -> Record<'static> {
        let Record { db, key, head, kind, at, value_at } = self;
        Record { db, key: Cow::Owned(key.into_owned()), head, kind, at, value_at }
    }

    /// The error of a key of a piece that begins at `piece_at`.
    #[must_use]
    pub fn error(&self, piece_at: u64, why: Why) -> FileError {
        FileError { at: piece_at + self.at as u64, key: Some((self.db, self.key.as_ref().into())), why }
    }
}

/// Reads the keys of a piece, one after the other.
#[derive(Debug)]
pub struct Records<'a> {
    all: &'a [u8],
    reader: Reader<'a>,
    at: u64,
    db: u64,
    dialect: Dialect,
}

impl<'a> Records<'a> {
    /// The keys of `piece`, which was cut of a file of `dialect`.
    #[must_use]
    pub fn new(piece: &'a [u8], cut: &Cut, dialect: Dialect) -> Records<'a> {
        Records { all: piece, reader: Reader::new(piece), at: cut.at, db: cut.db, dialect }
    }

    fn passed(&self) -> usize {
        self.all.len() - self.reader.rest().len()
    }

    fn error(&self, why: Why) -> FileError {
        FileError { at: self.at + self.passed() as u64, key: None, why }
    }

    /// Goes to the value of a key that was read before, as if it had been read last.
    pub fn go_to_value(&mut self, record: &Record<'_>) {
        self.reader = Reader::new(self.all.get(record.value_at..).unwrap_or_default());
        self.db = record.db;
    }

    /// The error of a key.
    #[must_use]
    pub fn error_of(&self, record: &Record<'_>, why: Why) -> FileError {
        record.error(self.at, why)
    }

    /// The next key; `None` where the piece ends. Its value is to be read or passed then.
    ///
    /// # Errors
    /// Where something stands there that a cut would not have taken.
    pub fn next_key(&mut self) -> Result<Option<Record<'a>>, FileError> {
        self.key().map_err(|BadData| self.error(Why::Bad("a record")))
    }

    fn key(&mut self) -> Result<Option<Record<'a>>, BadData> {
        let mut head = Head::default();
        let mut at = self.passed();
        while !self.reader.rest().is_empty() {
            let byte = self.reader.byte()?;
            match byte {
                opcode::END_MS => head.end_ms = end_of(i64::from_le_bytes(self.reader.array()?)),
                opcode::END_SECONDS => {
                    let seconds = i64::from(i32::from_le_bytes(self.reader.array()?));
                    head.end_ms = if seconds < 0 { end_of(seconds) } else { Some(seconds as u64 * 1000) };
                }
                opcode::IDLE => head.access = Access::Idle(self.reader.plain_length()?),
                opcode::FREQUENCY => head.access = Access::Frequency(self.reader.byte()?),
                opcode::DRAGONFLY_MASK => {
                    let mask = u32::from_le_bytes(self.reader.array()?);
                    self.reader.take(if mask & 2 == 0 { 0 } else { 4 })?;
                }
                opcode::END => return Ok(None),
                opcode::SELECT => self.db = self.reader.plain_length()?,
                opcode::FIRST.. => self.pass_about(byte)?,
                byte => {
                    let key = text(&mut self.reader)?;
                    let kind = kind::of(byte, self.dialect);
                    let value_at = self.passed();
                    return Ok(Some(Record { db: self.db, key, head, kind, at, value_at }));
                }
            }
            if byte >= opcode::FIRST && !is_of_key(byte) {
                at = self.passed();
            }
        }
        Ok(None)
    }

    fn pass_about(&mut self, byte: u8) -> Result<(), BadData> {
        let mut scan = Scan::new(self.reader.rest());
        let passed = match byte {
            opcode::RESIZE => scan.lengths(2),
            opcode::SLOT => scan.lengths(3),
            opcode::AUX => scan.strings(2),
            opcode::LIBRARY => scan.string(),
            opcode::MODULE => scan.length().and_then(|_| scan.module()),
            _ => return Err(BadData),
        };
        passed.map_err(|_| BadData)?;
        self.reader.take(scan.at() as u64).map(drop)
    }

    /// Passes the value of the key that was read last.
    ///
    /// # Errors
    /// Where it is none.
    pub fn pass(&mut self, record: &Record<'_>) -> Result<(), FileError> {
        let mut scan = Scan::new(self.reader.rest());
        let passed = scan.object(record.kind).is_ok() && self.reader.take(scan.at() as u64).is_ok();
        if passed { Ok(()) } else { Err(self.error_of(record, Why::Value)) }
    }

    /// The value of the key that was read last. Passes it also where it is wrong.
    ///
    /// # Errors
    /// Where its parts do not fit together.
    pub fn value(&mut self, record: &Record<'_>) -> Result<Value<'a>, FileError> {
        let start = self.reader.clone();
        self.read_value(record).inspect_err(|_| {
            self.reader = start;
            if self.pass(record).is_err() {
                self.reader = Reader::new(&[]);
            }
        })
    }

    fn read_value(&mut self, record: &Record<'_>) -> Result<Value<'a>, FileError> {
        match record.kind {
            kind::STRING => self.string().map_err(|_| self.error_of(record, Why::Value)),
            kind::MODULE | kind::JSON => self.pass(record).map(|()| Value::Skipped),
            of => match self.collection(of) {
                Ok(dumped) => Ok(Value::Collection(dumped)),
                Err(RestoreError::Empty) => Ok(Value::Empty),
                Err(RestoreError::UnsupportedType(of)) => {
                    let why = kind::name(of).map_or(Why::Unknown(of), Why::Foreign);
                    Err(self.error_of(record, why))
                }
                Err(_) => Err(self.error_of(record, Why::Value)),
            },
        }
    }

    fn collection(&mut self, of: u8) -> Result<Dumped, RestoreError> {
        match of {
            kind::HASH_VALKEY | kind::HASH_WITH_ENDS | kind::SET_WITH_ENDS => {
                foreign::read(of, &mut self.reader)
            }
            of => read_object(of, &mut self.reader, usize::MAX),
        }
    }

    fn string(&mut self) -> Result<Value<'a>, BadData> {
        if let Some(integer) = self.reader.small_integer()? {
            return Ok(Value::Integer(integer));
        }
        text(&mut self.reader).map(Value::Text)
    }
}

/// When a key ends, by the number in a file: -1 says never, and what lies before 1970 is over.
fn end_of(number: i64) -> Option<u64> {
    (number != -1).then_some(number.max(0) as u64)
}

/// Whether an opcode belongs to the key behind it.
fn is_of_key(byte: u8) -> bool {
    matches!(byte, opcode::IDLE | opcode::FREQUENCY | opcode::END_MS | opcode::END_SECONDS)
}

/// A string object, where it stands if it stands there as it is.
fn text<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>, BadData> {
    reader.text(usize::MAX).map_err(|_| BadData)
}
