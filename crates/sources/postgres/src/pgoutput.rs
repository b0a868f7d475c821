//! What the output plugin `pgoutput` writes: rows of a transaction, after it has been committed.

use crate::cells;
use crate::message::Body;
use larder_source::{Cell, Change, Failure, Named, Told};
use larder_source_net::garbled;
use std::collections::HashMap;
use std::sync::Arc;

/// The beginning of PostgreSQL's time, in milliseconds since 1970.
const EPOCH_MS: u64 = 946_684_800_000;

/// Reads the stream; knows the tables that it has told.
#[derive(Default)]
pub struct Reader {
    tables: HashMap<u32, Table>,
    /// Between a beginning and a commit.
    pub in_transaction: bool,
    /// The number of the transaction, and whether it has told of a change.
    transaction: (u32, bool),
}

struct Table {
    name: String,
    names: Arc<[String]>,
    types: Vec<u32>,
    /// Which columns name a row: those of the replica identity.
    is_key: Vec<bool>,
}

/// What a message means.
#[derive(Debug, PartialEq)]
pub enum Read {
    /// Changes, if any.
    Told(Vec<Told>),
    /// A transaction ended: everything before this position has been told. It is the one with this number, if it told of changes.
    Committed(u64, Option<u32>),
}

impl Reader {
    /// Reads one message.
    pub fn read(&mut self, message: &[u8]) -> Result<Read, Failure> {
        let mut body = Body(message);
        let told = match body.u8()? {
            b'B' => {
                self.in_transaction = true;
                body.u64()?;
                // Microseconds since 2000.
                let at = Told::At(EPOCH_MS.saturating_add(body.u64()? / 1000));
                self.transaction = (body.u32()?, false);
                vec![Told::Transaction(u64::from(self.transaction.0)), at]
            }
            b'C' => {
                self.in_transaction = false;
                body.bytes(9)?;
                let (transaction, has_told) = self.transaction;
                return Ok(Read::Committed(body.u64()?, has_told.then_some(transaction)));
            }
            b'R' => {
                self.relation(&mut body)?;
                Vec::new()
            }
            b'I' => {
                let table = self.table(&mut body)?;
                expect(&mut body, b"N")?;
                let after = table.row(&mut body, false)?;
                vec![table.changed(None, Some(after))]
            }
            b'U' => {
                let table = self.table(&mut body)?;
                let kind = expect(&mut body, b"KON")?;
                let mut before = None;
                if kind != b'N' {
                    before = Some(table.row(&mut body, kind == b'K')?);
                    expect(&mut body, b"N")?;
                }
                let after = table.row(&mut body, false)?;
                // Without a row before, what names the row is the same as after.
                let before = before.unwrap_or_else(|| table.key_of(&after));
                vec![table.changed(Some(before), Some(after))]
            }
            b'D' => {
                let table = self.table(&mut body)?;
                let kind = expect(&mut body, b"KO")?;
                let before = table.row(&mut body, kind == b'K')?;
                vec![table.changed(Some(before), None)]
            }
            b'T' => {
                let count = body.u32()?;
                body.u8()?;
                let mut told = Vec::new();
                for _ in 0..count {
                    told.push(Told::Emptied(self.table(&mut body)?.name.clone()));
                }
                told
            }
            // Types, origins, messages.
            _ => Vec::new(),
        };
        let is_change = |told: &Told| matches!(told, Told::Changed(_) | Told::Emptied(_));
        self.transaction.1 |= told.iter().any(is_change);
        Ok(Read::Told(told))
    }

    fn table(&self, body: &mut Body<'_>) -> Result<&Table, Failure> {
        self.tables.get(&body.u32()?).ok_or_else(|| garbled("a change of a table that was not told"))
    }

    fn relation(&mut self, body: &mut Body<'_>) -> Result<(), Failure> {
        let oid = body.u32()?;
        let (schema, name) = (body.text()?, body.text()?);
        let name = if matches!(schema, "" | "public") { name.to_owned() } else { format!("{schema}.{name}") };
        body.u8()?;
        let (mut names, mut types, mut is_key) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..body.i16()? {
            is_key.push(body.u8()? & 1 != 0);
            names.push(body.text()?.to_owned());
            types.push(body.u32()?);
            body.u32()?;
        }
        self.tables.insert(oid, Table { name, names: names.into(), types, is_key });
        Ok(())
    }
}

impl Table {
    /// A row; with `only_key` all other columns are not told, and stand there as NULL.
    fn row(&self, body: &mut Body<'_>, only_key: bool) -> Result<Named, Failure> {
        let mut cells: Vec<Option<Cell>> = Vec::with_capacity(self.types.len());
        for at in 0..usize::from(body.i16()? as u16) {
            let oid = self.types.get(at).copied().ok_or_else(|| garbled("a row with too many columns"))?;
            let cell = match body.u8()? {
                b'n' => Some(Cell::Null),
                // Not changed, and too large to be sent for nothing.
                b'u' => None,
                b't' => {
                    let length = body.u32()? as usize;
                    Some(cells::cell_of(body.bytes(length)?, oid)?)
                }
                other => return Err(garbled(format!("a column of the kind {other}"))),
            };
            cells.push(cell.filter(|_| !only_key || self.is_key[at]));
        }
        Ok(Named::told(&self.names, cells))
    }

    fn key_of(&self, row: &Named) -> Named {
        let is_key = |name: &String| {
            self.names.iter().position(|known| known == name).is_some_and(|at| self.is_key[at])
        };
        let pairs = row.names.iter().zip(&row.row).filter(|(name, _)| is_key(name));
        let (names, row): (Vec<String>, Vec<Cell>) =
            pairs.map(|(name, cell)| (name.clone(), cell.clone())).unzip();
        Named { names: names.into(), row: row.into() }
    }

    fn changed(&self, before: Option<Named>, after: Option<Named>) -> Told {
        Told::Changed(Change { table: self.name.clone(), before, after })
    }
}

fn expect(body: &mut Body<'_>, kinds: &[u8]) -> Result<u8, Failure> {
    let kind = body.u8()?;
    if kinds.contains(&kind) { Ok(kind) } else { Err(garbled("a change with a part of an unknown kind")) }
}
