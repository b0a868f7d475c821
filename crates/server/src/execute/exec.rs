//! EXEC: the commands since MULTI, as one.
//!
//! A transaction that keeps to the keys its commands declare locks the shards of all of them, and of the watched
//! keys, before its first command; other workers go on with other keys. One that looks at more (KEYS, FLUSHALL, INFO)
//! has everything to itself for as long as it takes. Either way each command then goes the way it would go alone.
//!
//! Invariant: nothing is done before everything is locked, so a transaction that finds a key locked is asked
//! again later as a whole.

use super::script::is_script_that_writes;
use super::together::Written;
use super::{Core, TIMED_FIRST, is_script};
use crate::connection::{Closing, Connection, ReplyMode};
use crate::registry::{Row, RowRun, RunOnKeys};
use crate::transaction::Transaction;
use larder_commands::{Args, Ctx, Error, database_number, keys_of};
use larder_resp::{Output, Reply};
use larder_script::Flags;
use larder_store::{Db, DbIndex, Hashed, Held, Keyspace, LOCK_ATTEMPTS, Locked, Place};
use smallvec::SmallVec;
use std::sync::atomic::Ordering::Relaxed;

/// Transactions kept for reuse.
const SPARE_TRANSACTIONS: usize = 64;

/// What a transaction has to have for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Footprint {
    /// The shards of its keys.
    Keys,
    /// All there is.
    Everything,
}

impl Core {
    /// Begins to keep a connection's commands.
    pub fn begin_transaction(&mut self, conn: &mut Connection) {
        conn.transaction = Some(self.spare_transactions.pop().unwrap_or_default());
        conn.client.multi.store(0, Relaxed);
    }

    /// Keeps a command for EXEC. The caller answers that it is queued.
    pub fn keep_for_exec(&mut self, conn: &mut Connection, row: &'static Row, args: &Args<'_>, hash: u64) {
        let declared = if is_script(row) { self.declared_flags(row, args) } else { None };
        let Some(transaction) = &mut conn.transaction else { return };
        transaction.may_write |= is_script_that_writes(row, declared);
        transaction.is_writing |= declared.is_some_and(|flags| !flags.no_writes);
        transaction.needs_memory |= declared.is_some_and(Flags::needs_memory);
        // What will not be carried out is not kept.
        if !transaction.is_flawed && !conn.client.watch.has_changed() {
            transaction.push(row, args, hash);
            conn.client.multi.store(transaction.len() as i64, Relaxed);
            conn.client.multi_bytes.store(transaction.memory(), Relaxed);
            let limit = usize::try_from(self.settings.client_query_buffer_limit()).unwrap_or(usize::MAX);
            if transaction.word_bytes() > limit {
                let client = conn.client.id;
                tracing::warn!(client, "closing a client whose transaction passed client-query-buffer-limit");
                self.stats.query_limit_closes.add(1);
                conn.closing = Closing::Now;
            }
        }
    }

    /// Ends a connection's transaction, carried out or not, and forgets the keys it watches.
    pub fn end_transaction(&mut self, conn: &mut Connection) {
        if let Some(mut transaction) = conn.transaction.take()
            && transaction.clear()
            && self.spare_transactions.len() < SPARE_TRANSACTIONS
        {
            self.spare_transactions.push(transaction);
        }
        conn.client.multi.store(-1, Relaxed);
        conn.client.multi_bytes.store(0, Relaxed);
        self.unwatch(conn);
    }

    /// Forgets the keys a connection watches.
    pub fn unwatch(&self, conn: &mut Connection) {
        conn.watching.clear(&self.server.keyspace.followed, &conn.client.watch);
        conn.client.watched.store(0, Relaxed);
    }

    /// Has a connection watch keys. False where one is locked elsewhere, and then nothing was done.
    pub fn watch(&mut self, conn: &mut Connection, args: &Args<'_>) -> bool {
        let keyspace: &'static Keyspace = &self.server.keyspace;
        let db = conn.db;
        self.places.clear();
        self.places.extend(args.from(1).map(|key| keyspace.place(db, keyspace.hash(key))));
        let Some(mut held) = self.hold() else { return false };
        for key in args.from(1) {
            let is_over = self.is_over(db, key, Some(&mut held));
            conn.watching.add(&keyspace.followed, (db, key), &conn.client.watch, is_over);
        }
        conn.client.watched.store(conn.watching.len(), Relaxed);
        true
    }

    /// Carries out the commands since MULTI. `Ok(false)`: a key is locked elsewhere, and nothing was done.
    pub fn exec(&mut self, conn: &mut Connection, out: &mut Output) -> Result<bool, Error> {
        let Some(transaction) = conn.transaction.take() else {
            return Err(Error::of("ERR EXEC without MULTI"));
        };
        if transaction.is_flawed {
            conn.transaction = Some(transaction);
            self.end_transaction(conn);
            return Err(Error::of("EXECABORT Transaction discarded because of previous errors."));
        }
        let is_done = match self.footprint(conn, &transaction) {
            Footprint::Everything => {
                self.alone(|core| core.carry_out(conn, out, &transaction, None)).is_some()
            }
            Footprint::Keys => match self.hold() {
                Some(mut held) => {
                    self.carry_out(conn, out, &transaction, Some(&mut held));
                    true
                }
                None => false,
            },
        };
        conn.transaction = Some(transaction);
        if is_done {
            self.end_transaction(conn);
        }
        Ok(is_done)
    }

    /// Finds what a transaction will look at; its places are in `self.places` then.
    fn footprint(&mut self, conn: &Connection, transaction: &Transaction) -> Footprint {
        let keyspace: &Keyspace = &self.server.keyspace;
        self.places.clear();
        let mut db = conn.db;
        for (row, args, hash) in transaction.commands() {
            match row.run {
                _ if !row.keeps_to_its_keys => return Footprint::Everything,
                RowRun::Keys(_) if row.single_key => self.places.push(keyspace.place(db, hash)),
                RowRun::Keys(_) => self.places.extend(places(keyspace, db, row, &args, hash)),
                _ if row.spec.name == "select" => {
                    db = database_number(keyspace, args.get(1)).unwrap_or(db);
                }
                _ => {}
            }
        }
        let watched = conn.watching.keys();
        self.places.extend(watched.map(|(db, key)| keyspace.place(db, keyspace.hash(key))));
        Footprint::Keys
    }

    /// Locks `self.places`, or answers `None` where one is locked elsewhere.
    pub(super) fn hold(&mut self) -> Option<Held<'static>> {
        let mut held = Held::default();
        self.server.keyspace.try_hold(&mut self.places, LOCK_ATTEMPTS, &mut held).then_some(held)
    }

    /// Locks the shards of keys, or answers `None` where one is locked elsewhere.
    pub fn hold_keys(&mut self, db: DbIndex, keys: &[&[u8]]) -> Option<Held<'static>> {
        let keyspace: &'static Keyspace = &self.server.keyspace;
        self.places.clear();
        self.places.extend(keys.iter().map(|key| keyspace.place(db, keyspace.hash(key))));
        self.hold()
    }

    /// Runs the commands of a transaction, unless a watched key has changed. Everything they need is locked.
    fn carry_out(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        transaction: &Transaction,
        mut held: Option<&mut Held<'static>>,
    ) {
        self.local.effects.log.open();
        if self.has_watched_ended(conn, held.as_deref_mut()) || conn.client.watch.has_changed() {
            self.local.effects.log.close();
            Reply::new(out, conn.protocol).null_array();
            return;
        }
        if let Some(held) = held.as_deref_mut().filter(|_| self.local.settles) {
            self.settle_transaction(conn.db, transaction, held);
        }
        let (db, mut written) = (conn.db, self.written_for_exec(conn, transaction));
        if let Some(written) = &mut written {
            self.lend_noted(conn, written, held.as_deref_mut());
        }
        conn.is_in_exec = true;
        self.unit_micros = None;
        if conn.reply_mode != ReplyMode::Off {
            Reply::new(out, conn.protocol).array(transaction.len());
        }
        let mut is_plain = self.is_plain_in_exec(conn);
        for (number, (row, args, hash)) in transaction.commands().enumerate() {
            if !conn.user.is_free()
                && let Some(text) = self.denied_in_exec(conn, row, &args)
            {
                self.count_error(&text);
                written.iter_mut().for_each(Written::has_gap);
                if !is_hidden(conn.reply_mode, row) {
                    Reply::new(out, conn.protocol).error(&text);
                }
                continue;
            }
            let mark = out.mark();
            if is_plain
                && written.is_none()
                && let Some(run) = row.run_on_key
                && let Some(held) = &mut held
                && !self.timing_turn
                && self.stats.by_command[row.id].calls.get() >= TIMED_FIRST
            {
                let locked = held.lend_one(self.server.keyspace.place(conn.db, hash));
                self.run_on_lent_key(conn, out, row, run, (&args, hash), locked);
                self.look_whether_large(&conn.client, out.since(mark), row, &args, 0);
                continue;
            }
            let failed = self.stats.by_command[row.id].failed.get();
            self.run(conn, out, row, &args, hash, held.as_deref_mut());
            debug_assert!(conn.parked.is_none(), "a command of a transaction waits");
            if let Some(written) = &mut written {
                self.answer_written(conn, out, written, (number, row, args.len() - 1), failed);
            }
            if !std::mem::take(&mut self.reply_is_push) && is_hidden(conn.reply_mode, row) {
                out.truncate(mark);
            }
            self.show_monitors(conn, row, &args);
            is_plain = self.is_plain_in_exec(conn);
        }
        self.keep_written(db, written.as_ref(), held.as_deref_mut());
        conn.is_in_exec = false;
        self.close_transaction(held);
    }

    /// Whether the time of a watched key has come since it was watched, which is a change, whether or not it has been removed.
    fn has_watched_ended(&mut self, conn: &Connection, mut held: Option<&mut Held<'static>>) -> bool {
        let (followed, watch) = (&self.server.keyspace.followed, &conn.client.watch);
        conn.watching.keys().any(|(db, key)| {
            self.is_over(db, key, held.as_deref_mut()) && !followed.sees_over(db, key, watch)
        })
    }

    /// What comes behind the last command of a transaction.
    fn close_transaction(&mut self, held: Option<&mut Held<'static>>) {
        self.local.effects.log.close();
        self.count_changes();
        self.is_settled = false;
        // What was to be hidden is, command by command.
        self.reply_is_push = true;
        if self.local.effects.has_ready() {
            self.take_time();
            let (waiters, local) = self.waiters();
            waiters.serve(held.unwrap_or(&mut Held::default()), local);
        }
    }

    /// Whether the next command of a transaction may go the short way: nobody follows what it reads or does not find.
    fn is_plain_in_exec(&mut self, conn: &Connection) -> bool {
        self.local.no_touch = conn.no_touch;
        let is_followed = conn.tracked.is_some() || self.local.unfound.is_on;
        !self.look_up_attention() && !is_followed && conn.reply_mode != ReplyMode::Off
    }

    /// Runs a command on one key that needs nothing else, as [`Core::run_on_key`] does outside of a transaction.
    #[inline]
    fn run_on_lent_key(
        &mut self,
        conn: &Connection,
        out: &mut Output,
        row: &'static Row,
        run: RunOnKeys,
        (args, hash): (&Args<'_>, u64),
        locked: Locked<'_>,
    ) {
        self.mark = out.mark();
        let logs = self.local.effects.log.is_on();
        if logs {
            self.local.effects.begin_logged();
        }
        let db = Db::new(&self.server.keyspace, conn.db, locked, &mut self.local);
        let mut cx = Ctx::new(db, Reply::new(out, conn.protocol), &self.limits, (row.first_key, hash));
        let result = run(&mut cx, args);
        drop(cx);
        if logs {
            self.local.effects.end_logged(conn.db, args.from(0));
        }
        let stats = &self.stats.by_command[row.id];
        stats.calls.add(1);
        self.stats.commands.add(1);
        if let Err(error) = result {
            stats.failed.add(1);
            out.truncate(self.mark);
            self.count_error(error.text());
            Reply::new(out, conn.protocol).error(error.text());
        }
    }

    /// Whether a key is there though its time has come; an invalidation that has come for it removes it.
    fn is_over(&mut self, db: DbIndex, key: &[u8], held: Option<&mut Held<'static>>) -> bool {
        let keyspace: &Keyspace = &self.server.keyspace;
        let key = Hashed { bytes: key, hash: keyspace.hash(key) };
        let locked = match held {
            Some(held) => held.lend_one(keyspace.place(db, key.hash)),
            None => keyspace.lock_many(db, &[key.hash]),
        };
        let mut db = Db::new(keyspace, db, locked, &mut self.local);
        if db.local.settles {
            db.settle(&key, false);
        }
        db.is_over(&key)
    }
}

/// Whether the reply of a command of a transaction is not sent. One that is skipped leaves the others as they are, and
/// their number as it was announced, as in Redis.
fn is_hidden(mode: ReplyMode, row: &Row) -> bool {
    match mode {
        ReplyMode::On => false,
        ReplyMode::Off => true,
        ReplyMode::SkipNext | ReplyMode::SkipThis => row.name == "client|reply",
    }
}

/// Where the keys of a command lie. `hash` is that of its first key, where `row` has a fixed one.
pub(super) fn places(
    keyspace: &Keyspace,
    db: DbIndex,
    row: &Row,
    args: &Args<'_>,
    hash: u64,
) -> SmallVec<[Place; 16]> {
    if row.single_key {
        return SmallVec::from_iter([keyspace.place(db, hash)]);
    }
    // A key specification that finds no keys leaves it to the command to say what is wrong.
    let keys = keys_of(row.spec, args).unwrap_or_default();
    keys.iter().map(|key| keyspace.place(db, keyspace.hash(args.get(key.index as usize)))).collect()
}

/// What a command of a transaction gets of the shards that are locked for the whole of it.
pub(super) fn lend<'h>(
    held: &'h mut Held<'static>,
    keyspace: &Keyspace,
    db: DbIndex,
    row: &Row,
    args: &Args<'_>,
    hash: u64,
) -> Locked<'h> {
    if row.single_key {
        return held.lend_one(keyspace.place(db, hash));
    }
    held.lend(&mut places(keyspace, db, row, args, hash))
}
