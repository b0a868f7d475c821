//! Writes of a transaction to keys whose routes write through or behind.
//!
//! Before EXEC runs anything, the store has all of it in one transaction of its own, or all of it is queued as one; then the
//! commands run, as they would without a route. What hashes are whose fields it writes is noted first: the commands count in that. Invariants: EXEC runs them whatever happens meanwhile, so watched keys, which may say no
//! at the last moment, do not go with such writes. A copy that its transaction has not left as the store has it does not stay.
//!
//! Read next: `routed.rs` and `behind.rs`, for writes that come alone.

use super::behind::new_write;
use super::fields::writes_fields;
use super::routed::{Routed, Within, allow, is_no_write, only_drops, statements_for};
use super::{Core, Outcome};
use crate::connection::Connection;
use crate::registry::Row;
use crate::through::{Brought, keep};
use crate::transaction::Transaction;
use larder_behind::NewWrite;
use larder_commands::{Error, database_number};
use larder_resp::{Output, Reply};
use larder_source::{Parameter, Route, Shape, Shaped, Template, Writes};
use larder_store::{Db, DbIndex, Expire, Hashed, Held};
use std::collections::HashSet;
use std::sync::Arc;

/// What a transaction writes to one store.
#[derive(Default)]
struct Together {
    routed: Vec<Routed>,
    /// Which command each of the writes is of.
    commands: Vec<usize>,
    /// What the store is told, where it is written through.
    statements: Vec<(Template, Vec<Parameter>)>,
    /// Which command each of these is of.
    statements_of: Vec<usize>,
    /// Those whose fields are written, by their places in `routed`.
    hashes: Vec<usize>,
    /// What is queued, where it is written behind.
    queued: Vec<NewWrite>,
}

/// What a store has of a transaction, or will, while the commands run.
pub(super) struct Written {
    writes: Vec<(Routed, u64)>,
    /// Which command each of the statements is of.
    statements_of: Vec<usize>,
    /// Rows that each of these changed, where that is known.
    rows: Vec<u64>,
    source: String,
    is_behind: bool,
    /// Keys that had no copy, and were given what was noted of them.
    lent: Vec<Box<[u8]>>,
    /// Every command has run as it was asked.
    is_whole: bool,
}

impl Core {
    /// Before EXEC: fetches what its reads miss, and has its store change, or queues that. `Some`: it waits, or is over.
    ///
    /// # Errors
    /// The routes of its keys do not let it write so.
    pub(super) fn write_before_exec(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: &'static Row,
    ) -> Result<Option<Outcome>, Error> {
        let loading = conn.loading.as_ref();
        let written = loading.and_then(|loading| loading.brought(&(conn.db, Box::default())));
        if let Some(Brought::Failure(text)) = written.as_deref() {
            self.end_transaction(conn);
            self.answer_failure(conn, out, row, text.as_deref().unwrap_or_default().as_bytes());
            return Ok(Some(Outcome::Done));
        }
        if written.is_none()
            && let Some(outcome) = self.fetch_for_exec(conn)
        {
            return Ok(Some(outcome));
        }
        self.overtake_for_exec(conn);
        if written.is_some() || conn.client.watch.has_changed() {
            return Ok(None);
        }
        let Some(mut transaction) = conn.transaction.take() else { return Ok(None) };
        let together = self.writes_of(conn, &transaction);
        if let Ok(together) = &together {
            transaction.writes.clone_from(&together.commands);
            transaction.statements.clone_from(&together.statements_of);
        }
        let is_flawed = transaction.is_flawed;
        conn.transaction = Some(transaction);
        let together = together?;
        let routed: Vec<&Routed> = together.routed.iter().collect();
        let Some(first) = routed.first().filter(|_| !is_flawed) else { return Ok(None) };
        if conn.watching.len() > 0 {
            return Err(Error::of(
                "ERR keys are watched, which may change while a store is written to: writes through and behind do not go with WATCH",
            ));
        }
        let hashes = together.hashes.iter().filter_map(|place| together.routed.get(*place));
        for hash in hashes {
            if let Some(outcome) = self.note_fields(conn, out, row, hash)? {
                if outcome == Outcome::Done {
                    self.end_transaction(conn);
                }
                return Ok(Some(outcome));
            }
        }
        if first.route.writes == Writes::Behind {
            self.push(conn, together.queued, &routed, 0)?;
        } else {
            self.send_to_store(conn, together.statements, &routed, None)?;
        }
        Ok(Some(Outcome::Later))
    }

    /// What the commands of a transaction write through or behind.
    fn writes_of(&self, conn: &Connection, transaction: &Transaction) -> Result<Together, Error> {
        let (mut together, mut db) = (Together::default(), conn.db);
        let catalog = self.server.registry.catalog();
        for (number, (row, args, _)) in transaction.commands().enumerate() {
            if row.spec.name == "select" {
                db = database_number(&self.server.keyspace, args.get(1)).unwrap_or(db);
            }
            if !row.may_write() || is_no_write(row) || conn.user.check(catalog, row.id, &args, db.0).is_err()
            {
                continue;
            }
            for routed in self.routed_keys(db, row, &args) {
                allow(row, &routed.key, &routed.route, Within::Multi)?;
                match routed.route.writes {
                    Writes::Through => {
                        for (statement, values) in statements_for(row, &args, &routed)? {
                            together.statements.push((statement.clone(), values));
                            together.statements_of.push(number);
                        }
                    }
                    Writes::Behind => together.queued.push(new_write(db, row, &args, &routed)?),
                    _ => continue,
                }
                if db != conn.db {
                    return Err(Error::of(
                        "ERR a route of a database that is selected inside MULTI writes there alone",
                    ));
                }
                if writes_fields(row) {
                    together.hashes.push(together.routed.len());
                }
                together.routed.push(routed);
                together.commands.push(number);
            }
        }
        self.fits_together(&together)?;
        Ok(together)
    }

    /// Whether one store can have all of it at once.
    fn fits_together(&self, Together { routed, statements, .. }: &Together) -> Result<(), Error> {
        let Some(first) = routed.first() else { return Ok(()) };
        let goes = |route: &Route| (route.writes, route.source.clone());
        if routed.iter().any(|other| goes(&other.route) != goes(&first.route)) {
            return Err(Error::of(
                "ERR the keys of one transaction are written through or behind, to one source only",
            ));
        }
        let source = self.server.through.source(&first.route.source);
        let is_http = source.is_some_and(|source| matches!(source.spec.scheme(), "http" | "https"));
        if is_http && statements.len() > 1 {
            return Err(Error::of(
                "ERR an origin has no transactions: one write through is all that MULTI can do there",
            ));
        }
        Ok(())
    }

    /// What the store has of a transaction that is about to run.
    pub(super) fn written_for_exec(&self, conn: &Connection, transaction: &Transaction) -> Option<Written> {
        let brought = conn.loading.as_ref()?.brought(&(conn.db, Box::default()))?;
        let (numbers, rows, keys, is_behind) = match &*brought {
            Brought::Written(done) => (&done.marks, done.rows.clone(), &done.keys, false),
            Brought::Queued(queued) => (&queued.seqs, Vec::new(), &queued.keys, true),
            _ => return None,
        };
        let source = keys.first()?.1.source.clone();
        let routed = |(key, route): &(Box<[u8]>, Arc<Route>)| Routed {
            key: key.clone(),
            hash: self.server.keyspace.hash(key),
            route: Arc::clone(route),
        };
        let writes = keys.iter().map(routed).zip(numbers.iter().copied()).collect();
        let statements_of = transaction.statements.clone();
        let lent = Vec::new();
        Some(Written { writes, statements_of, rows, source, is_behind, lent, is_whole: true })
    }

    /// Before the first command of such a transaction: gives hashes that have no copy what was noted of them.
    pub(super) fn lend_noted(
        &mut self,
        conn: &Connection,
        written: &mut Written,
        mut held: Option<&mut Held<'static>>,
    ) {
        let Some(loading) = conn.loading.as_deref() else { return };
        let keyspace = &self.server.keyspace;
        for (routed, _) in &written.writes {
            let noted = loading.brought(&(conn.db, routed.key.clone()));
            let Some(Brought::Value(value @ Shaped::Hash(_))) = noted.as_deref() else { continue };
            let locked = match held.as_deref_mut() {
                Some(held) => held.lend_one(keyspace.place(conn.db, routed.hash)),
                None => keyspace.lock_many(conn.db, &[routed.hash]),
            };
            let mut keys = Db::new(keyspace, conn.db, locked, &mut self.local);
            let key = Hashed { bytes: &routed.key, hash: routed.hash };
            if !keys.exists(&key) {
                keep(&mut keys, &key, value, Expire::Clear, &self.limits);
                written.lent.push(routed.key.clone());
            }
        }
    }

    /// Behind a command of such a transaction: what was there is what the store had. `failed` is how many of its kind had failed
    /// before it.
    pub(super) fn answer_written(
        &self,
        conn: &Connection,
        out: &mut Output,
        written: &mut Written,
        (number, row, keys): (usize, &'static Row, usize),
        failed: u64,
    ) {
        if self.stats.by_command[row.id].failed.get() != failed {
            written.is_whole = false;
            return;
        }
        let own = written.statements_of.iter().zip(&written.rows).filter(|(command, _)| **command == number);
        let rows: Vec<u64> = own.map(|(_, rows)| *rows).collect();
        if only_drops(row) && !rows.is_empty() && rows.len() == keys {
            out.truncate(self.mark);
            let removed = rows.iter().filter(|rows| **rows > 0).count();
            Reply::new(out, conn.protocol).count(removed);
        }
    }

    /// Once its commands have run: keeps those copies that are as the store has them, or will.
    pub(super) fn keep_written(
        &mut self,
        db: DbIndex,
        written: Option<&Written>,
        mut held: Option<&mut Held<'static>>,
    ) {
        let Some(written) = written else { return };
        let queue = self.server.through.queue(&written.source);
        let mut known: HashSet<&[u8]> = HashSet::new();
        for (routed, number) in written.writes.iter().rev() {
            if !known.insert(&routed.key) {
                continue;
            }
            let is_last = if written.is_behind {
                queue.as_ref().is_some_and(|queue| queue.is_last(routed.hash, *number))
            } else {
                // What the store has made of fields only it knows.
                routed.route.shape != Shape::Hash && self.server.through.marks.is_last(routed.hash, *number)
            };
            let is_kept = is_last && written.is_whole && !written.lent.contains(&routed.key);
            self.keep_one(held.as_deref_mut(), db, routed, is_kept);
        }
    }
}

impl Written {
    /// A command of the transaction does not run.
    pub(super) fn has_gap(&mut self) {
        self.is_whole = false;
    }
}
