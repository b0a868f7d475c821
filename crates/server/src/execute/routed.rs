//! Writes to keys that come from a source: refused, passed by, or put through to the store first, as the route says.
//!
//! Invariants: a write overtakes what is being fetched of its keys before it runs, so that nothing older is kept after it. With
//! write-through a copy that differs from the store does not stay: once the store has a change the copy is dropped, and the
//! client's command puts the new one there only if no other write of the key began meanwhile (`Marks`); of several at once
//! nobody knows which one the store took last.
//!
//! Read next: `behind.rs`, for writes that are queued; `unfound.rs`, for reads.

use super::exec::places;
use super::fields::{changes_of, writes_fields};
use super::{Core, Outcome, lock_one};
use crate::connection::{Connection, Parked};
use crate::execute::Settled;
use crate::registry::Row;
use crate::server::{Message, Work};
use crate::through::{Brought, Written};
use larder_commands::spec::KeyFlags;
use larder_commands::{Args, Error, keys_of};
use larder_resp::{Output, Protocol, Reply};
use larder_source::{FlightKey, Parameter, Route, Template, Writes, freshness};
use larder_source_fetch::FetchError;
use larder_store::{Db, DbIndex, Hashed, Millis};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Places for marks; keys that share one only drop a copy too many.
const MARKS: usize = 4096;

/// The latest end of a copy that a client may set, in seconds or milliseconds, so that neither overflows.
const TIME_MAX: i64 = i64::MAX / 2000;

/// Buckets looked through at a time for copies to drop.
const DROP_BUCKETS: usize = 64;

/// Which write-through of a key its store took last, where that is known: one that began while no other was under way, and before
/// any other.
#[derive(Debug)]
pub struct Marks {
    /// By hash: how many are under way, and the mark of the last; 0 where several were at once.
    slots: Box<[AtomicU64]>,
    next: AtomicU64,
}

/// One write under way, above the bits of a mark.
const ONE: u64 = 1 << 40;

impl Default for Marks {
    fn default() -> Self {
        Marks { slots: (0..MARKS).map(|_| AtomicU64::new(0)).collect(), next: AtomicU64::new(1) }
    }
}

impl Marks {
    /// Notes that a write of keys begins: the mark of each of them. It is under way until the other is dropped.
    fn begin(&self, hashes: impl Iterator<Item = u64>) -> (Vec<u64>, UnderWay<'_>) {
        let mark = self.next.fetch_add(1, Relaxed) % ONE;
        let mut under_way = UnderWay { marks: self, slots: SmallVec::new() };
        let marks = hashes.map(|hash| {
            let slot = hash as usize % MARKS;
            if !under_way.slots.contains(&slot) {
                under_way.slots.push(slot);
                let enter = |state: u64| {
                    let is_only = state < ONE;
                    Some((state - state % ONE) + ONE + if is_only { mark } else { 0 })
                };
                // Relaxed: whatever is decided by a slot is decided by it alone.
                _ = self.slots[slot].fetch_update(Relaxed, Relaxed, enter);
            }
            mark
        });
        (marks.collect(), under_way)
    }

    /// Whether no other write was under way when this one began, and none began since.
    pub(super) fn is_last(&self, hash: u64, mark: u64) -> bool {
        self.slots[hash as usize % MARKS].load(Relaxed) % ONE == mark
    }
}

/// A write of keys of which it is not known yet when their store takes it.
struct UnderWay<'m> {
    marks: &'m Marks,
    slots: SmallVec<[usize; 1]>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.slots.iter().for_each(|slot| _ = self.marks.slots[*slot].fetch_sub(ONE, Relaxed));
    }
}

/// A key that a command writes, and its route.
pub(super) struct Routed {
    pub(super) key: Box<[u8]>,
    pub(super) hash: u64,
    pub(super) route: Arc<Route>,
}

impl Core {
    /// Before a command that may write runs, or is kept for EXEC. `Some`: it is over, or waits.
    ///
    /// # Errors
    /// The route of one of its keys refuses it.
    pub(super) fn before_write(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: &'static Row,
        args: &Args<'_>,
        hash: u64,
    ) -> Result<Option<Outcome>, Error> {
        if matches!(row.spec.name, "flushall" | "flushdb" | "swapdb" | "flush_all") {
            self.server.through.flights.overtake_all(|_, _| true);
            return Ok(None);
        }
        if is_no_write(row) {
            return Ok(None);
        }
        let routed = self.routed_keys(conn.db, row, args);
        if routed.is_empty() {
            return Ok(None);
        }
        for Routed { key, route, .. } in &routed {
            allow(row, key, route, if conn.transaction.is_some() { Within::Multi } else { Within::Nothing })?;
        }
        self.overtake(conn.db, &routed);
        if conn.transaction.is_some() {
            let with_statements =
                |one: &&Routed| matches!(one.route.writes, Writes::Through | Writes::Behind);
            for one in routed.iter().filter(with_statements) {
                statements_for(row, args, one)?;
            }
            return Ok(None);
        }
        let of = |writes| routed.iter().filter(move |routed| routed.route.writes == writes);
        let through: Vec<&Routed> = of(Writes::Through).collect();
        let behind: Vec<&Routed> = of(Writes::Behind).collect();
        if !behind.is_empty() {
            if behind.len() < routed.len() {
                return Err(Error::of("ERR the keys of one command are written behind by one source only"));
            }
            return self.write_behind(conn, out, row, args, hash, &behind);
        }
        if !through.is_empty() {
            return self.write_through(conn, out, row, args, hash, &through);
        }
        if routed.iter().any(|routed| routed.route.writes == Writes::Around) && !only_drops(row) {
            return Ok(Some(self.run_and(conn, out, row, args, hash, |core, held, db| {
                core.drop_lent(held, db, &routed);
            })));
        }
        Ok(None)
    }

    /// Before EXEC: what its commands write overtakes what is being fetched.
    pub(super) fn overtake_for_exec(&mut self, conn: &mut Connection) {
        let Some(transaction) = conn.transaction.take() else { return };
        for (row, args, _) in transaction.commands() {
            if row.may_write() {
                let routed = self.routed_keys(conn.db, row, &args);
                self.overtake(conn.db, &routed);
            }
        }
        conn.transaction = Some(transaction);
    }

    /// Before a command of a script writes: as before one that is kept for EXEC, and as before EXEC.
    ///
    /// # Errors
    /// The route of one of its keys refuses it.
    pub(super) fn before_write_of_script(
        &mut self,
        conn: &Connection,
        row: &'static Row,
        args: &Args<'_>,
    ) -> Result<(), Error> {
        if matches!(row.spec.name, "flushall" | "flushdb" | "swapdb" | "flush_all") {
            self.server.through.flights.overtake_all(|_, _| true);
        }
        if only_ends(row) {
            return Ok(());
        }
        let routed = self.routed_keys(conn.db, row, args);
        for Routed { key, route, .. } in &routed {
            allow(row, key, route, Within::Script)?;
        }
        self.overtake(conn.db, &routed);
        Ok(())
    }

    pub(super) fn routed_keys(&self, db: DbIndex, row: &Row, args: &Args<'_>) -> Vec<Routed> {
        let mut routed = Vec::new();
        for at in keys_of(row.spec, args).unwrap_or_default() {
            let key = args.get(at.index as usize);
            if !at.flags.has(KeyFlags::RO)
                && let Some(route) = self.routes.find(db.0, key)
            {
                let hash = self.server.keyspace.hash(key);
                routed.push(Routed { key: key.into(), hash, route: Arc::clone(route) });
            }
        }
        routed
    }

    fn overtake(&self, db: DbIndex, routed: &[Routed]) {
        for Routed { key, hash, .. } in routed {
            self.server.through.flights.overtake(&FlightKey { db: db.0, key: key.clone() }, *hash);
        }
    }

    /// Has the store change first. Asked again once it has, the command runs.
    fn write_through(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: &'static Row,
        args: &Args<'_>,
        hash: u64,
        routed: &[&Routed],
    ) -> Result<Option<Outcome>, Error> {
        // What became of the write stands under no key; beside it may stand what was fetched before, of fields.
        let ended = conn.loading.as_ref().and_then(|loading| loading.brought(&(conn.db, Box::default())));
        let written = match ended.as_deref() {
            Some(Brought::Written(written)) => {
                Some(Ok((written.marks.clone(), written.rows.clone(), written.fields)))
            }
            Some(Brought::Failure(text)) => Some(Err(text.clone().unwrap_or_default())),
            _ => None,
        };
        match written {
            None => {
                let mut fields = 0;
                if writes_fields(row) {
                    let Some(first) = routed.first() else { return Ok(None) };
                    match self.count_fields(conn, out, row, args, first)? {
                        Ok(count) => fields = count,
                        Err(outcome) => return Ok(Some(outcome)),
                    }
                }
                self.ask_to_write(conn, row, args, routed, fields)?;
                Ok(Some(Outcome::Later))
            }
            Some(Err(text)) => {
                self.answer_failure(conn, out, row, text.as_bytes());
                Ok(Some(Outcome::Done))
            }
            Some(Ok((.., fields))) if writes_fields(row) => {
                self.answer_fields(conn, out, row, fields);
                Ok(Some(Outcome::Done))
            }
            Some(Ok((marks, rows, _))) => {
                let outcome = self.run_and(conn, out, row, args, hash, |core, held, db| {
                    let marks_of = &core.server.through.marks;
                    let is_last = |hash, mark| marks_of.is_last(hash, mark);
                    core.keep_last(held, db, routed.iter().copied().zip(marks), is_last);
                });
                if outcome == Outcome::Done && only_drops(row) && routed.len() + 1 == args.len() {
                    // What was there is what the store had: a copy is not the key.
                    out.truncate(self.mark);
                    let removed = rows.iter().filter(|rows| **rows > 0).count();
                    if conn.protocol == Protocol::Memcached {
                        out.bytes_mut().extend_from_slice(if removed > 0 {
                            b"DELETED\r\n"
                        } else {
                            b"NOT_FOUND\r\n"
                        });
                    } else {
                        Reply::new(out, conn.protocol).count(removed);
                    }
                }
                Ok(Some(outcome))
            }
        }
    }

    /// Keeps the copies of those writes that are the last ones of their keys, and drops the others: what a later write has put
    /// there, or will, is not an earlier one's to replace.
    pub(super) fn keep_last<'r>(
        &mut self,
        held: &mut larder_store::Held<'static>,
        db: DbIndex,
        writes: impl Iterator<Item = (&'r Routed, u64)>,
        is_last: impl Fn(u64, u64) -> bool,
    ) {
        for (routed, number) in writes {
            let is_last = is_last(routed.hash, number);
            self.keep_one(Some(held), db, routed, is_last);
        }
    }

    fn ask_to_write(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        args: &Args<'_>,
        routed: &[&Routed],
        fields: i64,
    ) -> Result<(), Error> {
        let Some(first) = routed.first() else { return Ok(()) };
        if routed.iter().any(|other| other.route.source != first.route.source) {
            return Err(Error::of("ERR the keys of one command are written through to one source only"));
        }
        let mut statements: Vec<(Template, Vec<Parameter>)> = Vec::new();
        for routed in routed {
            let bound = statements_for(row, args, routed)?;
            statements.extend(bound.into_iter().map(|(statement, values)| (statement.clone(), values)));
        }
        self.send_to_store(conn, statements, routed, Some(fields))
    }

    /// Has a store change, all or nothing, and parks the connection. `fields` is what it is to be answered of fields; nothing where
    /// what follows is a transaction, which leaves the copies right by itself.
    pub(super) fn send_to_store(
        &mut self,
        conn: &mut Connection,
        statements: Vec<(Template, Vec<Parameter>)>,
        routed: &[&Routed],
        fields: Option<i64>,
    ) -> Result<(), Error> {
        let Some(first) = routed.first() else { return Ok(()) };
        let through = &self.server.through;
        let source = through.source(&first.route.source).ok_or_else(|| {
            Error::custom(format!("SOURCEDOWN there is no source '{}'", first.route.source))
        })?;
        let runtime = through.runtime().map_err(|text| Error::custom(format!("ERR {text}")))?;
        let (marks, under_way) = through.marks.begin(routed.iter().map(|routed| routed.hash));
        let ticket = self.server.next_ticket();
        let loading = conn.loading.get_or_insert_default();
        (loading.ticket, loading.left) = (ticket, 1);
        conn.parked = Some(Parked::Load(ticket));
        conn.client.parked.store(true, Relaxed);
        let keys: Vec<(Box<[u8]>, Arc<Route>)> =
            routed.iter().map(|routed| (routed.key.clone(), Arc::clone(&routed.route))).collect();
        let (server, worker, client, db) = (self.server, self.id, conn.client.id, conn.db);
        runtime.spawn(async move {
            let statements: Vec<(&Template, Vec<Parameter>)> =
                statements.iter().map(|(statement, values)| (statement, values.clone())).collect();
            let result = source.write(&statements).await;
            drop(under_way);
            let brought = match &result {
                Ok(rows) => {
                    let keys = if fields.is_none() { keys.clone() } else { Vec::new() };
                    let (rows, fields) = (rows.clone(), fields.unwrap_or_default());
                    Brought::Written(Box::new(Written { marks, rows, fields, keys }))
                }
                Err(error) => Brought::Failure(Some(error.reply())),
            };
            let is_kept = matches!(result, Err(FetchError::Failed(_))) || fields.is_none() && result.is_ok();
            for (_, route) in &keys {
                route.stats.writes.fetch_add(1, Relaxed);
            }
            // First the copies: the connection may be gone. A store that refused has changed nothing.
            if !is_kept {
                let work = move |core: &mut Core| core.drop_copies(db, keys);
                server.mailboxes[worker].send(Message::Work(Work(Box::new(work))));
            }
            let settled =
                Settled { waiting: (client, ticket), db, key: Box::default(), brought: Arc::new(brought) };
            server.mailboxes[worker].send(Message::Settled(settled));
        });
        Ok(())
    }

    /// Drops copies that the store no longer has so. Inside a turn.
    pub fn drop_copies(&mut self, db: DbIndex, keys: Vec<(Box<[u8]>, Arc<Route>)>) {
        let mut left = Vec::new();
        for (key, route) in keys {
            let hash = self.server.keyspace.hash(&key);
            self.server.through.flights.overtake(&FlightKey { db: db.0, key: key.clone() }, hash);
            let Some(locked) = lock_one(self.server.keyspace.open(db), hash) else {
                left.push((key, route));
                continue;
            };
            let mut at = Db::new(&self.server.keyspace, db, locked, &mut self.local);
            let hashed = Hashed { bytes: &key, hash };
            at.settle(&hashed, false);
            at.remove(&hashed);
            // Also where there is no copy: some client may know that the store had nothing.
            at.local.effects.tell_copiers(&key);
        }
        if !left.is_empty() {
            let work = move |core: &mut Core| core.drop_copies(db, left);
            self.server.mailboxes[self.id].send(Message::Work(Work(Box::new(work))));
        }
    }

    /// Drops all copies of a route, some buckets at a time. Inside a turn.
    pub fn drop_route(&mut self, route: &Arc<Route>, cursor: u64) {
        if cursor == 0 {
            self.overtake_route(route);
        }
        let cursor = self.drop_some_of_route(route, cursor, DROP_BUCKETS);
        if cursor != 0 {
            let route = Arc::clone(route);
            let work = move |core: &mut Core| core.drop_route(&route, cursor);
            self.server.mailboxes[self.id].send(Message::Work(Work(Box::new(work))));
        }
    }

    /// Has nothing kept that is being loaded for a route.
    pub fn overtake_route(&mut self, route: &Route) {
        self.server.through.flights.overtake_all(|db, key| route.has(db, key));
    }

    /// Drops the copies of a route from a place on, in so many buckets at most. Answers where to go on, 0 at the end.
    pub fn drop_some_of_route(&mut self, route: &Arc<Route>, mut cursor: u64, buckets: usize) -> u64 {
        let (keyspace, db) = (&self.server.keyspace, DbIndex(route.db));
        let mut keys: Vec<(Box<[u8]>, Arc<Route>)> = Vec::new();
        for _ in 0..buckets {
            cursor = keyspace.scan(db, cursor, self.local.now, &mut |item| {
                if item.key().starts_with(route.pattern.prefix())
                    && route.pattern.capture(item.key()).is_some()
                {
                    keys.push((item.key().into(), Arc::clone(route)));
                }
            });
            if cursor == 0 {
                break;
            }
        }
        route.stats.invalidated.fetch_add(keys.len() as u64, Relaxed);
        self.drop_copies(db, keys);
        cursor
    }

    /// Runs a command on its keys, and something after it under the same locks.
    pub(super) fn run_and(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: &'static Row,
        args: &Args<'_>,
        hash: u64,
        after: impl FnOnce(&mut Core, &mut larder_store::Held<'static>, DbIndex),
    ) -> Outcome {
        self.places.clear();
        self.places.extend(places(&self.server.keyspace, conn.db, row, args, hash));
        let Some(mut held) = self.hold() else {
            conn.parked = Some(Parked::Busy);
            return Outcome::Later;
        };
        let db = conn.db;
        let outcome = self.run(conn, out, row, args, hash, Some(&mut held));
        after(self, &mut held, db);
        outcome
    }

    pub(super) fn drop_lent<'r>(
        &mut self,
        held: &mut larder_store::Held<'static>,
        db: DbIndex,
        routed: impl IntoIterator<Item = &'r Routed>,
    ) {
        let keyspace = &self.server.keyspace;
        for Routed { key, hash, .. } in routed {
            let locked = held.lend_one(keyspace.place(db, *hash));
            Db::new(keyspace, db, locked, &mut self.local).remove(&Hashed { bytes: key, hash: *hash });
        }
    }

    /// Gives a copy that was written the end that loaded ones have, unless the client gave it one; drops it where it is not the
    /// last write's. Without `held`, everything is.
    pub(super) fn keep_one(
        &mut self,
        held: Option<&mut larder_store::Held<'static>>,
        db: DbIndex,
        Routed { key, hash, route }: &Routed,
        is_last: bool,
    ) {
        let keyspace = &self.server.keyspace;
        let random = self.local.random();
        let (fresh, grace) = freshness::lifetime_ms(route, None, random);
        let locked = match held {
            Some(held) => held.lend_one(keyspace.place(db, *hash)),
            None => keyspace.lock_many(db, &[*hash]),
        };
        let mut keys = Db::new(keyspace, db, locked, &mut self.local);
        let hashed = Hashed { bytes: key, hash: *hash };
        if fresh == 0 || !is_last {
            keys.remove(&hashed);
            keys.local.effects.tell_copiers(key);
        } else if keys.deadline(&hashed) == Some(None) {
            let end = Millis(keys.now().0.saturating_add(fresh).saturating_add(grace));
            keys.set_deadline(&hashed, Some(end));
        }
    }
}

/// Whether a command only has a copy end at another time: no change to what it is a copy of.
fn only_ends(row: &Row) -> bool {
    matches!(row.spec.name, "expire" | "pexpire" | "expireat" | "pexpireat" | "getex")
        || is_memcached_touch(row)
}

/// The same of memcached's commands.
fn is_memcached_touch(row: &Row) -> bool {
    matches!(
        row.name.as_str(),
        "memcached|touch" | "memcached|gat" | "memcached|gat-many" | "memcached|mg-touch"
    )
}

/// Whether a command changes nothing of what copies are copies of.
pub(super) fn is_no_write(row: &Row) -> bool {
    only_ends(row) || row.name == "cache|invalidate"
}

/// Whether a command only drops a copy.
pub(super) fn only_drops(row: &Row) -> bool {
    matches!(row.spec.name, "del" | "unlink" | "getdel" | "delete" | "md" | "set-too-large")
}

/// What a command is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    Nothing,
    Multi,
    Script,
}

/// Whether the route of a key lets a command write it.
pub(super) fn allow(row: &Row, key: &[u8], route: &Route, within: Within) -> Result<(), Error> {
    let refused = |what: &str| Err(refusal(row, key, route, what));
    let name = route.writes.name();
    let is_alone = within == Within::Nothing;
    match route.writes {
        _ if matches!(row.spec.name, "getlease" | "setlease" | "mg-vivify") => {
            refused("the route loads it, as GET does")
        }
        Writes::Cache => Ok(()),
        Writes::Refuse if only_drops(row) => Ok(()),
        Writes::Refuse => refused("it is read-only; write to its source, or set 'writes' of the route"),
        Writes::Around if !is_alone && !only_drops(row) => refused("it writes around, which MULTI cannot"),
        Writes::Around => Ok(()),
        // What a script writes is not known before it has run, and its store would be asked in the middle.
        Writes::Through | Writes::Behind if within == Within::Script => {
            refused(&format!("it writes {name}, which a script cannot wait for"))
        }
        Writes::Through | Writes::Behind => match row.spec.name {
            "set" if route.set.is_some() => Ok(()),
            "del" | "unlink" | "delete" if route.del.is_some() => Ok(()),
            "hset" | "hmset" if route.hset.is_some() => Ok(()),
            "hdel" if route.hdel.is_some() => Ok(()),
            _ => refused(&format!("it writes {name}, and has no statement for this")),
        },
    }
}

pub(super) fn refusal(row: &Row, key: &[u8], route: &Route, what: &str) -> Error {
    let key = String::from_utf8_lossy(key);
    let pattern = &route.pattern;
    Error::custom(format!("ERR '{}' of key '{key}' is refused by its route {pattern}: {what}", row.name))
}

/// The statements by which a command changes the store of a key, each with what is bound to its names.
pub(super) fn statements_for<'r>(
    row: &Row,
    args: &Args<'_>,
    routed: &'r Routed,
) -> Result<Vec<(&'r Template, Vec<Parameter>)>, Error> {
    if !writes_fields(row) {
        return Ok(vec![statement_for(row, args, routed)?]);
    }
    let bound = routed.route.field_statements(&routed.key, &changes_of(row, args)?);
    bound.map_err(|text| refusal(row, &routed.key, &routed.route, &text))
}

/// The only statement by which a command changes the store, and what is bound to its names.
pub(super) fn statement_for<'r>(
    row: &Row,
    args: &Args<'_>,
    routed: &'r Routed,
) -> Result<(&'r Template, Vec<Parameter>), Error> {
    let value = (row.spec.name == "set").then(|| args.get(2));
    // What memcached's `set` has behind its value, its parser has seen.
    if value.is_some() && row.name != "memcached|set" {
        check_options(args, &routed.route)?;
    }
    let unfit = || Error::of("ERR the key is not of the types that the names of its route have");
    routed.route.statement(&routed.key, value).ok_or_else(unfit)
}

/// Sees that SET can be done once its store has it: what its options say is right, and does not ask for what the store holds.
fn check_options(args: &Args<'_>, route: &Route) -> Result<(), Error> {
    let is_one_of = |word: &[u8], names: &[&[u8]]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
    let mut words = args.from(3);
    let mut has_end = false;
    while let Some(word) = words.next() {
        let is_time = is_one_of(word, &[b"ex", b"px", b"exat", b"pxat"]);
        if !is_time && !is_one_of(word, &[b"keepttl"]) {
            let name = route.writes.name();
            return Err(Error::custom(format!(
                "ERR SET of a key that is written {name} takes EX, PX, EXAT, PXAT and KEEPTTL only"
            )));
        }
        if std::mem::replace(&mut has_end, true) {
            return Err(Error::Syntax);
        }
        if is_time {
            let number = words.next().ok_or(Error::Syntax)?;
            let number = std::str::from_utf8(number).ok().and_then(|number| number.parse::<i64>().ok());
            let number = number.ok_or(Error::NotAnInteger)?;
            if !(1..=TIME_MAX).contains(&number) {
                return Err(Error::invalid_expire("set"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_the_last_where_no_other_was_beside_it_or_behind_it() {
        let all = Marks::default();
        let begin = |hash: u64| all.begin([hash].into_iter());
        let (first, under_way) = begin(7);
        assert!(all.is_last(7, first[0]));
        drop(under_way);
        assert!(all.is_last(7, first[0]), "until another begins");
        let (second, under_way) = begin(7);
        let (third, beside) = begin(7);
        assert!(![first[0], second[0], third[0]].iter().any(|mark| all.is_last(7, *mark)));
        drop(under_way);
        let (fourth, behind) = begin(7);
        drop(beside);
        assert!(!all.is_last(7, fourth[0]), "the third was under way");
        // Of one key that is written twice, the other keys, and what begins alone again.
        let (twice, under_way) = all.begin([8, 9, 8].into_iter());
        assert!(all.is_last(8, twice[0]) && all.is_last(8, twice[2]) && all.is_last(9, twice[1]));
        drop(under_way);
        drop(behind);
        let (alone, _under_way) = begin(7);
        assert!(all.is_last(7, alone[0]));
    }
}
