//! Writes that are queued for a store and answered: the connection is parked until its write is on disk, then the command runs.
//!
//! While a write is queued it is what its key stands for: a miss is answered with it, and nothing that the store brings is
//! kept. Invariants: a copy that is there while a write of its key is queued is what the newest one wrote; a write whose command
//! does not run, since its connection is gone or it is refused meanwhile, drops the copy (`end_loading`). Before a write leaves the queue
//! it overtakes what is being fetched, so that no older value lands afterwards.
//!
//! Read next: `larder_behind` for the queue, `through/behind.rs` for its way to the store.

use super::fields::{Change as FieldChange, changes_of, writes_fields};
use super::routed::{Routed, refusal, statement_for};
use super::serve::Waiters;
use super::unfound::Wanted;
use super::{Core, Outcome, lock_one};
use crate::connection::{Connection, Parked};
use crate::execute::Settled;
use crate::registry::Row;
use crate::server::{Message, Work};
use crate::through::{Brought, DEAD_LETTERS, Queued, keep};
use larder_behind::{Change, Done, Fields, Key, Letter, NewWrite, Owner};
use larder_commands::spec::Run;
use larder_commands::{Args, Ctx, Error, Limits};
use larder_resp::{Output, Protocol, Reply, Span};
use larder_source::{Route, Writes, freshness, push_json_text};
use larder_store::{Db, DbIndex, Expire, Hashed, Millis};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Core {
    /// Has a write queued. Asked again once it is on disk, the command runs.
    pub(super) fn write_behind(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: &'static Row,
        args: &Args<'_>,
        hash: u64,
        routed: &[&Routed],
    ) -> Result<Option<Outcome>, Error> {
        // What became of the write stands under no key; beside it may stand what was fetched before, of fields.
        let answered = conn.loading.as_ref().and_then(|loading| loading.brought(&(conn.db, Box::default())));
        match answered.as_deref() {
            Some(Brought::Queued(queued)) => {
                if writes_fields(row) {
                    return Ok(Some(self.change_copy(conn, out, (row, args, hash), routed, queued)));
                }
                let seqs = queued.seqs.iter().copied();
                let outcome = self.run_and(conn, out, row, args, hash, |core, held, db| {
                    let queue = routed.first().and_then(|one| core.server.through.queue(&one.route.source));
                    let is_last = |hash, seq| queue.as_ref().is_some_and(|queue| queue.is_last(hash, seq));
                    core.keep_last(held, db, routed.iter().copied().zip(seqs), is_last);
                });
                if outcome == Outcome::Done {
                    conn.loading = None;
                }
                Ok(Some(outcome))
            }
            Some(Brought::Failure(text)) => {
                self.answer_failure(conn, out, row, text.as_deref().unwrap_or_default().as_bytes());
                Ok(Some(Outcome::Done))
            }
            _ => {
                let mut fields = 0;
                // HMSET answers nothing that the store would have to be asked for.
                if let Some(first) = routed.first().filter(|_| writes_fields(row) && row.spec.name != "hmset")
                {
                    match self.count_fields(conn, out, row, args, first)? {
                        Ok(count) => fields = count,
                        Err(outcome) => return Ok(Some(outcome)),
                    }
                }
                let mut writes = Vec::with_capacity(routed.len());
                for one in routed {
                    writes.push(new_write(conn.db, row, args, one)?);
                }
                self.push(conn, writes, routed, fields)?;
                Ok(Some(Outcome::Later))
            }
        }
    }

    /// Once a change of fields is queued: changes the copy, too, where there is one.
    fn change_copy(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        (row, args, hash): (&'static Row, &Args<'_>, u64),
        routed: &[&Routed],
        queued: &Queued,
    ) -> Outcome {
        let (Some(one), Some(seq)) = (routed.first(), queued.seqs.first()) else { return Outcome::Done };
        let keyspace = &self.server.keyspace;
        self.places.clear();
        self.places.push(keyspace.place(conn.db, one.hash));
        let Some(mut held) = self.hold() else {
            conn.parked = Some(Parked::Busy);
            return Outcome::Later;
        };
        let key = Hashed { bytes: &one.key, hash: one.hash };
        let locked = held.lend_one(keyspace.place(conn.db, one.hash));
        let mut keys = Db::new(keyspace, conn.db, locked, &mut self.local);
        keys.settle(&key, true);
        let is_there = keys.exists(&key);
        drop(keys);
        if is_there {
            let outcome = self.run(conn, out, row, args, hash, Some(&mut held));
            let queue = self.server.through.queue(&one.route.source);
            let is_last = queue.is_some_and(|queue| queue.is_last(one.hash, *seq));
            self.keep_one(Some(&mut held), conn.db, one, is_last);
            debug_assert!(outcome == Outcome::Done, "a command on a key that is held waits");
        } else {
            self.answer_fields(conn, out, row, queued.fields);
        }
        conn.loading = None;
        Outcome::Done
    }

    /// Pushes writes, all of them or none, and parks their connection. `fields` is what it is to be answered of fields.
    pub(super) fn push(
        &mut self,
        conn: &mut Connection,
        writes: Vec<NewWrite>,
        routed: &[&Routed],
        fields: i64,
    ) -> Result<(), Error> {
        let Some(first) = routed.first() else { return Ok(()) };
        let name = &first.route.source;
        if routed.iter().any(|other| other.route.source != *name) {
            return Err(Error::of("ERR the keys of one command are written behind by one source only"));
        }
        let refused = |text: &str| format!("BEHINDFAIL source '{name}': {text}");
        let queue = self.server.through.queue(name);
        let queue = queue.ok_or_else(|| Error::custom(refused("its queue is closed")))?;
        let client = conn.client.id;
        let owner = Arc::clone(conn.owner.get_or_insert_with(|| Arc::new(Owner::new(client))));
        let ticket = self.server.next_ticket();
        let done = self.tell_when_queued(conn, ticket, routed, fields);
        queue.push(writes, &owner, self.local.now.0, done).map_err(|text| Error::custom(refused(&text)))?;
        let loading = conn.loading.get_or_insert_default();
        (loading.ticket, loading.left) = (ticket, 1);
        conn.parked = Some(Parked::Load(ticket));
        conn.client.parked.store(true, Relaxed);
        Ok(())
    }

    /// What tells a connection that its writes are on disk, or why they are not.
    fn tell_when_queued(&self, conn: &Connection, ticket: u64, routed: &[&Routed], fields: i64) -> Done {
        let (server, worker, client, db) = (self.server, self.id, conn.client.id, conn.db);
        let name = routed.first().map(|one| one.route.source.clone()).unwrap_or_default();
        let keys: Vec<(Box<[u8]>, Arc<Route>)> =
            routed.iter().map(|one| (one.key.clone(), Arc::clone(&one.route))).collect();
        Box::new(move |result| {
            let brought = match result {
                Ok(seqs) => Brought::Queued(Box::new(Queued { seqs, keys, fields })),
                Err(text) => Brought::Failure(Some(format!("BEHINDFAIL source '{name}': {text}"))),
            };
            let (waiting, key) = ((client, ticket), Box::default());
            let settled = Settled { waiting, db, key, brought: Arc::new(brought) };
            server.mailboxes[worker].send(Message::Settled(settled));
        })
    }

    /// Forgets what was brought for a connection's request. What it has queued and has not run drops its copies.
    pub fn end_loading(&self, conn: &mut Connection) {
        if let Some(loading) = conn.loading.take() {
            loading.all().for_each(|((db, _), brought)| self.forget_written(*db, brought));
        }
    }

    /// Drops the copies of what is queued, or with its store, and whose command does not run.
    pub fn forget_written(&self, db: DbIndex, brought: &Brought) {
        let keys = match brought {
            Brought::Queued(queued) => &queued.keys,
            Brought::Written(written) => &written.keys,
            _ => return,
        };
        if keys.is_empty() {
            return;
        }
        let keys = keys.clone();
        let work = move |core: &mut Core| core.drop_copies(db, keys);
        self.server.mailboxes[self.id].send(Message::Work(Work(Box::new(work))));
    }

    /// Sees that there is room for what may be queued of what is wanted.
    pub(super) fn has_room_for_queued(&mut self, wanted: &[Wanted]) -> bool {
        let is_any = wanted.iter().any(|wanted| wanted.route.writes == Writes::Behind);
        is_any && (!self.is_limited || self.make_room())
    }

    /// Puts a dead letter into the stream of its source, unless it is there. Inside a turn.
    pub fn show_letter(&mut self, source: &str, letter: &Letter) {
        let write = &letter.write;
        let (key, id) = (dead_letters(source), format!("{}-{}", letter.id.0, letter.id.1));
        let (kind, value) = shown(&write.change);
        let db = write.key.db.to_string();
        let mut words: Vec<&[u8]> = vec![b"XADD", key.as_bytes(), id.as_bytes()];
        words.extend([&b"key"[..], &write.key.bytes, b"db", db.as_bytes(), b"kind", kind.as_bytes()]);
        words.extend([&b"statement"[..], letter.statement.as_bytes()]);
        if let Some(value) = &value {
            words.extend([&b"value"[..], value]);
        }
        words.extend([&b"error"[..], letter.error.as_bytes()]);
        self.run_own(words.iter().map(|word| word.to_vec()).collect());
    }

    /// Removes the stream of a source's dead letters. Inside a turn.
    pub fn hide_letters(&mut self, source: &str) {
        self.run_own(vec![b"DEL".to_vec(), dead_letters(source).into_bytes()]);
    }

    /// Runs a command of the server's own on one key of the first database, as if a client had sent it. What it answers is
    /// for nobody.
    fn run_own(&mut self, words: Vec<Vec<u8>>) {
        let mut named = larder_commands::commands().filter(|command| {
            words.first().is_some_and(|name| name.eq_ignore_ascii_case(command.spec.name.as_bytes()))
        });
        let (Some(command), Some(key)) = (named.next(), words.get(1)) else { return };
        let Run::Keys(run) = command.run else { return };
        let hash = self.server.keyspace.hash(key);
        let Some(locked) = lock_one(self.server.keyspace.open(DbIndex(0)), hash) else {
            let work = move |core: &mut Core| core.run_own(words);
            self.server.mailboxes[self.id].send(Message::Work(Work(Box::new(work))));
            return;
        };
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        for word in &words {
            spans.push(Span { start: bytes.len() as u32, len: word.len() as u32 });
            bytes.extend_from_slice(word);
        }
        let mut out = Output::default();
        let mut db = Db::new(&self.server.keyspace, DbIndex(0), locked, &mut self.local);
        db.settle(&Hashed { bytes: key, hash }, true);
        db.local.effects.begin_logged();
        let mut cx = Ctx::new(db, Reply::new(&mut out, Protocol::Resp2), &self.limits, (1, hash));
        let result = run(&mut cx, &Args::new(&bytes, &spans));
        cx.db.local.effects.end_logged(DbIndex(0), words.iter().map(Vec::as_slice));
        let db = cx.into_db();
        if db.local.effects.has_ready() {
            let (server, worker, limits, stopwatch) = (self.server, self.id, &self.limits, &self.stopwatch);
            Waiters { server, worker, limits, stopwatch }.serve_after(db);
        } else {
            drop(db);
        }
        if let Err(error) = result {
            let (key, error) = (self.shown(key), error.text().escape_ascii());
            tracing::debug!("{} of {key} is left out: {error}", command.spec.name);
        }
    }
}

/// What a command changes of a key, for the queue.
///
/// # Errors
/// The route of the key has no statement for it.
pub(super) fn new_write(
    db: DbIndex,
    row: &'static Row,
    args: &Args<'_>,
    routed: &Routed,
) -> Result<NewWrite, Error> {
    let Routed { key, hash, route } = routed;
    let change = if writes_fields(row) {
        let changes: Vec<FieldChange<'_>> = changes_of(row, args)?;
        // The statements are made when their turn has come; whether there are any is known.
        route.field_statements(key, &changes).map_err(|text| refusal(row, key, route, &text))?;
        let mut fields = Fields::default();
        changes.iter().for_each(|(field, value)| fields.put(field, *value));
        Change::Fields(Arc::new(fields))
    } else {
        statement_for(row, args, routed)?;
        if row.spec.name == "set" { Change::Set(args.get(2).into()) } else { Change::Delete }
    };
    Ok(NewWrite { key: Key { db: db.0, bytes: key.clone() }, hash: *hash, change })
}

/// How a change is shown among the dead letters: what it is, and to what. Fields are an object in JSON.
fn shown(change: &Change) -> (&'static str, Option<Vec<u8>>) {
    let fields = match change {
        Change::Set(value) => return ("set", Some(value.to_vec())),
        Change::Delete => return ("del", None),
        Change::Fields(fields) => fields,
    };
    let mut text = b"{".to_vec();
    for (field, value) in fields.iter() {
        if text.len() > 1 {
            text.push(b',');
        }
        push_json_text(&mut text, &String::from_utf8_lossy(field));
        text.push(b':');
        match value {
            Some(value) => push_json_text(&mut text, &String::from_utf8_lossy(value)),
            None => text.extend_from_slice(b"null"),
        }
    }
    text.push(b'}');
    (if fields.is_new() { "del hset" } else { "hset" }, Some(text))
}

/// Keeps a copy of what is queued for a key that has none.
pub(super) fn keep_queued(
    keys: &mut Db<'_>,
    key: &Hashed<'_>,
    queued: &Brought,
    route: &Route,
    limits: &Limits,
) {
    let Brought::Value(value) = queued else { return };
    let random = keys.local.random();
    let (fresh, grace) = freshness::lifetime_ms(route, None, random);
    if fresh > 0 {
        let end = Millis(keys.now().0.saturating_add(fresh).saturating_add(grace));
        keep(keys, key, value, Expire::At(end), limits);
    }
}

/// The key of the stream with a source's dead letters.
pub fn dead_letters(source: &str) -> String {
    format!("{DEAD_LETTERS}{source}")
}
