//! Serving while the rest of a snapshot is being loaded: which commands run.
//!
//! A command runs if it keeps to the keys that it declares and all of them are *decided*: they are there, or were and went since
//! serving began (`rest.rs` of the store). The loader leaves decided keys out, looking under the same lock. Besides run: what runs
//! while anything is loaded, PING, and a few commands that write whole values and never look at what was there, whose keys are
//! decided from then on. All others are answered `-LOADING`, and have done nothing.
//!
//! Invariant: what a command that runs has found, or not found, is what it would have found had everything been loaded before.
//! Keys stay decided, so what is found out here holds when the command runs.

use crate::connection::Connection;
use crate::execute::{Core, lock_one};
use crate::registry::{InMulti, Row, RowRun};
use larder_commands::spec::Flags;
use larder_commands::{Args, database_number, keys_of};
use larder_store::{Db, DbIndex, Hashed};

impl Core {
    /// Whether a command may run, or be kept for EXEC, by what is decided. `None`: a key is locked elsewhere.
    #[cold]
    pub fn may_run_partly(&mut self, conn: &Connection, row: &Row, args: &Args<'_>) -> Option<bool> {
        let Some(kept) = &conn.transaction else { return self.is_decided(conn.db, row, args) };
        if row.in_multi != InMulti::Exec {
            // Its keys are looked at by EXEC, before anything of the transaction runs.
            return Some(matches!(row.run, RowRun::Keys(_)) || runs_without_keys(row));
        }
        let mut db = conn.db;
        for (row, args, _) in kept.commands() {
            if row.spec.name == "select" {
                db = database_number(&self.server.keyspace, args.get(1)).unwrap_or(db);
            } else if !self.is_decided(db, row, &args)? {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Whether all keys of a command are decided, or are once it has run, whatever they held.
    fn is_decided(&mut self, db: DbIndex, row: &Row, args: &Args<'_>) -> Option<bool> {
        if !matches!(row.run, RowRun::Keys(_)) {
            return Some(runs_without_keys(row));
        }
        if puts_whole_values(row, args) {
            return Some(true);
        }
        let (keyspace, database) = (&self.server.keyspace, self.server.keyspace.open(db));
        // Where the words do not tell the keys the command says what is wrong, and looks at none.
        for key in keys_of(row.spec, args).unwrap_or_default() {
            let key = args.get(key.index as usize);
            let hashed = Hashed { bytes: key, hash: keyspace.hash(key) };
            let locked = lock_one(database, hashed.hash)?;
            let mut db = Db::on(database, locked, &mut self.local);
            db.settle(&hashed, false);
            if !db.is_decided(&hashed) {
                return Some(false);
            }
        }
        Some(true)
    }
}

/// Whether a command without keys of its own runs: those that run while anything is loaded, but for those that would have keys come from
/// elsewhere, and PING, which says that there is somebody to serve.
fn runs_without_keys(row: &Row) -> bool {
    let brings_keys = ["cache|source", "cache|route", "cache|refresh", "cache|warm"];
    row.name == "ping" || row.has(Flags::LOADING) && !brings_keys.contains(&row.name.as_str())
}

/// Whether a command gives every key of its a whole value, if it does anything, and answers nothing of what was there. Where an end
/// is given it has to lie ahead: a value that had ended before would be no value.
fn puts_whole_values(row: &Row, args: &Args<'_>) -> bool {
    match row.name.as_str() {
        "setex" | "psetex" | "mset" => true,
        "set" => match args.len() {
            3 => true,
            5 => args.is(3, b"ex") || args.is(3, b"px"),
            _ => false,
        },
        _ => false,
    }
}
