//! HSET, HMSET and HDEL of keys whose route writes through: the store changes first, and the copy goes.
//!
//! The answer counts fields that are new, or were there, which the store does not tell. So a key that has no copy is fetched
//! before it is written, and the fields are counted in what is there then. Of several writers at once each counts for itself.
//! A transaction is run on what is there then.
//!
//! Read next: `routed.rs`, `together.rs`.

use super::routed::Routed;
use super::unfound::{Waits, Wanted};
use super::{Core, Outcome, lock_one};
use crate::connection::{Connection, Parked};
use crate::registry::Row;
use crate::through::Brought;
use larder_commands::{Args, Error};
use larder_resp::{Output, Reply};
use larder_source::Shaped;
use larder_store::{Db, Hashed};
use larder_values::hash::{Found, Hash, HashView};
use std::collections::HashSet;
use std::sync::Arc;

/// A field, and what it is to be; nothing where it is removed.
pub(super) type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// Whether a command writes fields of a hash in a way that a route has statements for.
pub(super) fn writes_fields(row: &Row) -> bool {
    matches!(row.spec.name, "hset" | "hmset" | "hdel")
}

/// The fields that such a command writes.
///
/// # Errors
/// A field without a value.
pub(super) fn changes_of<'a>(row: &Row, args: &Args<'a>) -> Result<Vec<Change<'a>>, Error> {
    if row.spec.name == "hdel" {
        return Ok(args.from(2).map(|field| (field, None)).collect());
    }
    if !args.len().is_multiple_of(2) {
        return Err(Error::arity(row.spec.name));
    }
    let mut words = args.from(2);
    let mut changes = Vec::with_capacity(args.len() / 2);
    while let (Some(field), Some(value)) = (words.next(), words.next()) {
        changes.push((field, Some(value)));
    }
    Ok(changes)
}

/// How many different fields the changes concern that are there already, or are not.
fn count(changes: &[Change<'_>], is_there: impl Fn(&[u8]) -> bool) -> i64 {
    let mut fields: HashSet<&[u8]> = HashSet::new();
    let counts = |(field, value): &&Change<'_>| is_there(field) == value.is_none();
    changes.iter().filter(counts).for_each(|(field, _)| _ = fields.insert(field));
    fields.len() as i64
}

/// The fields that a key has before it is written.
enum Before<'a> {
    /// Those of its copy, at this time.
    Copy(HashView<'a>, u64),
    Brought(&'a [(Vec<u8>, Vec<u8>)]),
    Nothing,
}

impl Core {
    /// What a command that writes fields is to answer once the store has them. `Ok(Err(outcome))`: the connection waits for the
    /// key to be fetched, or is answered that it could not be.
    pub(super) fn count_fields(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: &Row,
        args: &Args<'_>,
        routed: &Routed,
    ) -> Result<Result<i64, Outcome>, Error> {
        let changes = changes_of(row, args)?;
        self.look_before(conn, out, row, routed, |before| match before {
            Before::Copy(hash, now) => {
                count(&changes, |field| matches!(hash.find(field, now), Found::Live(..)))
            }
            Before::Brought(fields) => count(&changes, |field| fields.iter().any(|(own, _)| own == field)),
            Before::Nothing => count(&changes, |_| false),
        })
    }

    /// Notes what a key is before a transaction writes its fields, so that it runs on that whatever becomes of the copy.
    /// `Some`: as above.
    pub(super) fn note_fields(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: &Row,
        routed: &Routed,
    ) -> Result<Option<Outcome>, Error> {
        let fields = self.look_before(conn, out, row, routed, |before| match before {
            Before::Copy(hash, now) => {
                let mut fields = Vec::with_capacity(hash.len());
                hash.for_each(now, |field, value| fields.push((field.to_vec(), value.to_vec())));
                fields
            }
            Before::Brought(fields) => fields.to_vec(),
            Before::Nothing => Vec::new(),
        })?;
        Ok(match fields {
            Ok(fields) => {
                let is_any = !fields.is_empty();
                let brought = if is_any { Brought::Value(Shaped::Hash(fields)) } else { Brought::Nothing };
                conn.loading.get_or_insert_default().add(conn.db, routed.key.clone(), Arc::new(brought));
                None
            }
            Err(outcome) => Some(outcome),
        })
    }

    /// Looks at what a key is before its fields are written: at its copy, or at what was fetched.
    fn look_before<T>(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: &Row,
        routed: &Routed,
        look: impl FnOnce(Before<'_>) -> T,
    ) -> Result<Result<T, Outcome>, Error> {
        let place = (conn.db, routed.key.clone());
        let brought = conn.loading.as_ref().and_then(|loading| loading.brought(&place));
        let unfit = Error::of("ERR the key is not of the types that the names of its route have");
        if !routed.route.has_words(&routed.key) {
            return Err(unfit);
        }
        let Some(locked) = lock_one(self.server.keyspace.open(conn.db), routed.hash) else {
            conn.parked = Some(Parked::Busy);
            return Ok(Err(Outcome::Later));
        };
        let mut keys = Db::new(&self.server.keyspace, conn.db, locked, &mut self.local);
        let key = Hashed { bytes: &routed.key, hash: routed.hash };
        keys.settle(&key, false);
        let now = keys.now().0;
        if let Some(item) = keys.peek(&key) {
            return Ok(Ok(look(Before::Copy(item.view::<Hash>()?, now))));
        }
        drop(keys);
        match brought.as_deref() {
            Some(Brought::Value(Shaped::Hash(fields))) => return Ok(Ok(look(Before::Brought(fields)))),
            Some(Brought::Nothing) => return Ok(Ok(look(Before::Nothing))),
            Some(Brought::Failure(text)) => {
                let nothing = || format!("SOURCEDOWN source '{}' gave no answer", routed.route.source);
                let text = text.clone().unwrap_or_else(nothing);
                self.answer_failure(conn, out, row, text.as_bytes());
                return Ok(Err(Outcome::Done));
            }
            Some(Brought::Late(text)) => {
                self.answer_failure(conn, out, row, text.as_bytes());
                return Ok(Err(Outcome::Done));
            }
            _ => {}
        }
        self.wanted = vec![Wanted::one(&routed.route, &routed.key, routed.hash, false)];
        match self.join_wanted(conn) {
            Waits::No => Ok(Ok(look(Before::Nothing))),
            Waits::Yes => Ok(Err(Outcome::Later)),
            Waits::Again => {
                conn.parked = Some(Parked::Busy);
                Ok(Err(Outcome::Later))
            }
        }
    }

    /// Answers a command that wrote fields.
    pub(super) fn answer_fields(&self, conn: &Connection, out: &mut Output, row: &Row, fields: i64) {
        self.stats.by_command[row.id].calls.add(1);
        self.stats.commands.add(1);
        let mut reply = Reply::new(out, conn.protocol);
        if row.spec.name == "hmset" { reply.ok() } else { reply.integer(fields) }
    }
}
