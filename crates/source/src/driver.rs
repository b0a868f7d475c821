//! The contract with stores: what a driver is asked, and how it answers.
//!
//! A driver is one store as a `source` line names it: it holds connections, runs statements, and follows changes. It
//! knows nothing of keys, routes, flights or the cache. Its work is futures, which the program runs on a runtime of its own, so
//! that no worker ever waits for a store. How many run at once, how long they may take and how often they are tried again is
//! decided by the caller; a future that is dropped gives up its work and leaves the driver usable.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::template::{Parameter, ParameterType, Template};
use crate::value::{Cell, Column, Row, Rows};

/// Work of a driver under way.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// A store that is fetched from and written to.
pub trait Driver: Send + Sync + 'static {
    /// Connects and asks the store who it is: "PostgreSQL 16.4".
    fn probe(&self) -> Work<'_, String>;

    /// Has the store check a statement without running it, so that a wrong one is refused where it is written.
    ///
    /// # Errors
    /// `Refused` with the store's words, and the position in the statement where it tells one.
    fn check<'a>(&'a self, statement: &'a Template, purpose: Purpose) -> Work<'a, Checked>;

    /// Runs a query with one value for each of the statement's names, in the order of [`Template::names`].
    /// No rows is an answer: the store has nothing.
    fn load<'a>(&'a self, request: Request<'a>) -> Work<'a, Answer>;

    /// Runs statements that change the store, all or none of them, in this order; how many rows each changed.
    fn write<'a>(&'a self, statements: &'a [(&'a Template, Vec<Parameter>)]) -> Work<'a, Vec<u64>>;

    /// The same for writes that the store is to do one after the other, as they are given under this number: nothing that was
    /// given before under it is done after this is, also where that was given up on, or by a process that was killed since. One
    /// caller at a time writes under a number. It is `write` where the store sees to that by itself, or has no means for it.
    fn write_in_order<'a>(
        &'a self,
        number: u64,
        statements: &'a [(&'a Template, Vec<Parameter>)],
    ) -> Work<'a, Vec<u64>> {
        _ = number;
        self.write(statements)
    }

    /// Runs a query whose rows are too many to hold, and gives them in pieces of at most some hundreds, in order.
    /// `more` answers false to stop early.
    fn stream<'a>(
        &'a self,
        request: Request<'a>,
        more: &'a mut (dyn FnMut(Rows) -> bool + Send),
    ) -> Work<'a, ()>;

    /// How changes made by others are followed, if this store can tell.
    fn feed(&self) -> Option<&dyn Feed>;
}

/// Changes of a store, made by anybody.
pub trait Feed: Send + Sync {
    /// Follows changes of `tables` (for a store of keys: of keys beginning with these words) until it fails or is dropped.
    /// `from` is a position told before, to go on from there; without one, or where the store no longer has it, the feed
    /// begins now, and tells [`Told::Gap`] first if changes may have been missed.
    fn follow<'a>(
        &'a self,
        tables: &'a [String],
        from: Option<Position>,
        tell: &'a mut (dyn FnMut(Told) + Send),
    ) -> Work<'a, std::convert::Infallible>;

    /// Whether a change may be told a moment before queries see it, as by a store that writes its log first, with no
    /// [`Told::Shown`] once they do.
    fn tells_early(&self) -> bool {
        false
    }

    /// Removes what following left in the store (slots, publications, triggers).
    fn remove(&self) -> Work<'_, ()>;
}

/// What a feed tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// From here on every change will be told.
    Following,
    /// Changes before this moment may have been missed: what is kept of these tables can no longer be trusted.
    Gap,
    /// What is told next was done at this time of the store's clock, in milliseconds since 1970.
    At(u64),
    /// What is told next was done by this transaction, which others may not see yet.
    Transaction(u64),
    /// From here on everybody who asks the store sees what this transaction did. The end of the feed says nothing of those for which
    /// this was not told: they are told again.
    Shown(u64),
    /// A row changed.
    Changed(Change),
    /// Every row of this table is gone.
    Emptied(String),
    /// All changes up to here have been told. Give it to [`Feed::follow`] to go on.
    Reached(Position),
    /// The store has nothing further at this moment; how far behind it the last told change was is not known better than this.
    Idle,
}

/// A changed row. A store of keys tells the key as the only column, named `key`, of a table named by the key's first word.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The table, with its schema unless that is the default one.
    pub table: String,
    /// The row before: all columns, or at least those of its key. Absent for an insertion.
    pub before: Option<Named>,
    /// The row after. Absent for a deletion.
    pub after: Option<Named>,
}

/// A row with the names of its columns; columns the store did not tell are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Names of columns, in the order of `row`.
    pub names: Arc<[String]>,
    /// The values.
    pub row: Row,
}

impl Named {
    /// A row of which those cells are told that are there.
    pub fn told(names: &Arc<[String]>, cells: Vec<Option<Cell>>) -> Named {
        if cells.len() == names.len() && cells.iter().all(Option::is_some) {
            return Named { names: Arc::clone(names), row: cells.into_iter().flatten().collect() };
        }
        let told = names.iter().zip(cells).filter_map(|(name, cell)| Some((name.clone(), cell?)));
        let (names, row): (Vec<String>, Vec<Cell>) = told.unzip();
        Named { names: names.into(), row: row.into() }
    }
}

/// A place in a store's history, in the store's own words (an LSN, a binlog position, a row number).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Position(pub String);

/// What a statement is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Reads the rows of one key.
    Load,
    /// Reads the rows of many keys: each name stands for a list of values.
    Batch,
    /// Changes the store.
    Write,
}

/// What the store says of a statement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    /// The columns that it will answer, as far as the store tells.
    pub columns: Vec<Column>,
    /// What the store takes for each of the statement's names, where it tells.
    pub parameters: Vec<Option<ParameterType>>,
}

/// A query to run.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The statement.
    pub statement: &'a Template,
    /// A value for each of its names.
    pub parameters: &'a [Parameter],
    /// What the cache has already, so that a store that can tell need not send it again.
    pub validator: Option<&'a Validator>,
    /// How much may come back.
    pub limits: Limits,
}

/// How much a query may answer. More is a [`Failure`] of kind `Unfit`, found before it is held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Rows.
    pub rows: usize,
    /// Bytes of all values together.
    pub bytes: usize,
}

/// What a query found.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Rows, or none.
    Rows {
        /// The rows.
        rows: Rows,
        /// How long the store itself says that they are fresh (HTTP's max-age less Age), in milliseconds.
        fresh_ms: Option<u64>,
        /// What to ask with next time.
        validator: Option<Validator>,
    },
    /// What the validator stands for is still right.
    Unchanged {
        /// As above.
        fresh_ms: Option<u64>,
    },
}

/// What names a version of an answer (RFC 9110: an entity tag, or when it was last modified).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Validator {
    /// The value of ETag.
    Tag(String),
    /// The value of Last-Modified.
    Modified(String),
}

/// Why a store gave no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// What kind: decides whether to try again, and what clients are told.
    pub kind: FailureKind,
    /// In the store's words, on one line, with no password in it.
    pub text: String,
    /// The position in the statement, in bytes from its start, where the store tells one.
    pub position: Option<usize>,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailureKind {
    /// No connection, or it broke: the same may work in a moment.
    Unreachable,
    /// The store is there and says that it is too busy now, or that a transaction met another: try again.
    Busy,
    /// The store says no, and will again: a wrong statement, a missing table, no permission, a broken constraint.
    Refused,
    /// What came back, or a parameter, cannot be what was declared: too large, a type with no form here, a number that is none.
    Unfit,
    /// The store cannot do this at all.
    Unsupported,
}

impl Failure {
    /// A failure with no position.
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Failure {
        Failure { kind, text: text.into().replace(['\r', '\n'], " "), position: None }
    }

    /// The same, at a position of the statement.
    #[must_use]
    pub fn at(mut self, position: usize) -> Failure {
        self.position = Some(position);
        self
    }

    /// Whether the same may work a moment later.
    pub fn is_passing(&self) -> bool {
        matches!(self.kind, FailureKind::Unreachable | FailureKind::Busy)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
