//! Replies, and the rows that they make.

use crate::command::Pairs;
use larder_source::{Cell, Column, ColumnKind, Failure, FailureKind, Limits, Row, Rows};
use larder_source_net::unfit;

/// A reply of RESP2 or RESP3.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Null,
    Simple(Vec<u8>),
    Bulk(Vec<u8>),
    Error(String),
    Integer(i64),
    Double(f64),
    Boolean(bool),
    /// Arrays and sets.
    Array(Vec<Reply>),
    /// Fields and values, one behind the other.
    Map(Vec<Reply>),
    Push(Vec<Reply>),
}

impl Reply {
    /// The reply, unless it is an error.
    pub fn or_error(self) -> Result<Reply, Failure> {
        match self {
            Reply::Error(text) => Err(failure_of(&text)),
            reply => Ok(reply),
        }
    }

    /// How much a write has changed.
    pub fn count(&self) -> u64 {
        match self {
            Reply::Integer(count) => u64::try_from(*count).unwrap_or(0),
            Reply::Null | Reply::Boolean(false) => 0,
            _ => 1,
        }
    }

    pub fn into_first_of_array(self) -> Option<Reply> {
        match self {
            Reply::Array(replies) => replies.into_iter().next(),
            _ => None,
        }
    }

    /// The flags in an element of COMMAND INFO's reply.
    pub fn flags(&self) -> Vec<String> {
        let Reply::Array(fields) = self else { return Vec::new() };
        let Some(Reply::Array(flags)) = fields.get(2) else { return Vec::new() };
        flags.iter().filter_map(Reply::text).collect()
    }

    /// The arity there.
    pub fn arity(&self) -> i64 {
        match self {
            Reply::Array(fields) => match fields.get(1) {
                Some(Reply::Integer(arity)) => *arity,
                _ => -1,
            },
            _ => -1,
        }
    }

    /// As text, where it is one.
    pub fn text(&self) -> Option<String> {
        match self {
            Reply::Simple(text) | Reply::Bulk(text) => String::from_utf8(text.clone()).ok(),
            _ => None,
        }
    }

    fn cell(self) -> Result<Cell, Failure> {
        Ok(match self {
            Reply::Null => Cell::Null,
            Reply::Simple(text) | Reply::Bulk(text) => match std::str::from_utf8(&text) {
                Ok(_) => Cell::Text(text.into()),
                Err(_) => Cell::Bytes(text.into()),
            },
            Reply::Integer(number) => Cell::Integer(number),
            Reply::Double(number) => Cell::Real(number),
            Reply::Boolean(truth) => Cell::Boolean(truth),
            Reply::Error(text) => return Err(failure_of(&text)),
            Reply::Array(_) | Reply::Map(_) | Reply::Push(_) => {
                return Err(unfit("a reply that is no row: arrays in arrays"));
            }
        })
    }
}

/// What an error of the server means.
fn failure_of(text: &str) -> Failure {
    let word = text.split(' ').next().unwrap_or_default();
    let kind = match word {
        "LOADING" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "EXECABORT" | "OOM" => {
            FailureKind::Busy
        }
        _ => FailureKind::Refused,
    };
    Failure::new(kind, text)
}

/// Rows being made of replies; columns are found on the way.
pub struct Table {
    columns: Vec<String>,
    /// Columns that stand in front of each reply's.
    given: usize,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(given: &[String]) -> Table {
        Table { columns: given.to_vec(), given: given.len(), rows: Vec::new() }
    }

    /// Adds the rows of a reply, each behind these cells.
    pub fn add(&mut self, front: &[Cell], reply: Reply, pairs: Pairs) -> Result<(), Failure> {
        match reply.or_error()? {
            Reply::Null => Ok(()),
            Reply::Map(flat) => self.add_fields(front, flat),
            Reply::Array(flat) if pairs == Pairs::Fields => self.add_fields(front, flat),
            Reply::Array(replies) | Reply::Push(replies) => {
                let is_flat =
                    pairs == Pairs::Scores && !replies.iter().any(|reply| matches!(reply, Reply::Array(_)));
                if is_flat {
                    let mut replies = replies.into_iter();
                    while let (Some(member), Some(score)) = (replies.next(), replies.next()) {
                        self.add_row(front, &["member", "score"], vec![member, score])?;
                    }
                    return Ok(());
                }
                for reply in replies {
                    match reply {
                        Reply::Array(cells) if cells.len() == 2 => {
                            self.add_row(front, &["member", "score"], cells)?
                        }
                        reply => self.add_row(front, &["value"], vec![reply])?,
                    }
                }
                Ok(())
            }
            reply => self.add_row(front, &["value"], vec![reply]),
        }
    }

    fn add_row(&mut self, front: &[Cell], names: &[&str], replies: Vec<Reply>) -> Result<(), Failure> {
        let start = self.given;
        if self.columns.len() == start {
            self.columns.extend(names.iter().map(|name| (*name).to_owned()));
        } else if self.columns[start..] != *names {
            return Err(unfit("replies of different forms"));
        }
        let mut row = front.to_vec();
        for reply in replies {
            row.push(reply.cell()?);
        }
        self.rows.push(row);
        Ok(())
    }

    fn add_fields(&mut self, front: &[Cell], flat: Vec<Reply>) -> Result<(), Failure> {
        if flat.is_empty() {
            return Ok(());
        }
        let mut row = front.to_vec();
        let mut flat = flat.into_iter();
        while let (Some(field), Some(value)) = (flat.next(), flat.next()) {
            let field = field.text().ok_or_else(|| unfit("a field whose name is not UTF-8"))?;
            let place = self.place_of(&field);
            if row.len() <= place {
                row.resize(place + 1, Cell::Null);
            }
            row[place] = value.cell()?;
        }
        self.rows.push(row);
        Ok(())
    }

    fn place_of(&mut self, field: &str) -> usize {
        // The order of fields is mostly that of the hash before.
        let known = self.columns[self.given..].iter().position(|known| known == field);
        known.map_or_else(
            || {
                self.columns.push(field.to_owned());
                self.columns.len() - 1
            },
            |place| self.given + place,
        )
    }

    pub fn finish(self, limits: Limits) -> Result<Rows, Failure> {
        if self.rows.len() > limits.rows {
            return Err(unfit(format!("more than {} rows", limits.rows)));
        }
        let width = self.columns.len();
        let columns =
            self.columns.into_iter().map(|name| Column { name, kind: ColumnKind::Unknown }).collect();
        let widen = |mut row: Vec<Cell>| -> Row {
            row.resize(width, Cell::Null);
            row.into()
        };
        Ok(Rows { columns, rows: self.rows.into_iter().map(widen).collect() })
    }
}
