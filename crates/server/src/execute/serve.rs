//! Clients that wait for keys: parking them, and running their commands again once a key has changed.
//!
//! A client is entered among the followers of its keys while their shards are still locked by the run that found
//! nothing, so no change is missed. Who changes a key serves its waiters, in the order in which they came, before the
//! shards are unlocked: nobody takes away what they wait for. What a waiter needs beside that key (the destination of
//! BLMOVE) is locked out of order, by trying only; where that fails the shard is given back owed, to be opened only
//! once the waiters have been served (`debts.rs`).
//!
//! Read next: `larder_commands::wait` for the commands' side, `blocked.rs` for who waits.

use super::settle::settle;
use super::{Core, lock_one};
use crate::blocked::{Begun, Kept, OnTimeout, Waiter};
use crate::clock;
use crate::connection::{Connection, Parked};
use crate::registry::{Row, RowRun};
use crate::server::{Answer, Message, Server, Work};
use crate::tracking::enter_served;
use larder_commands::wait::{AtOnce, Wait};
use larder_commands::{Args, Ctx, Error, Limits};
use larder_resp::{Output, Protocol, Reply};
use larder_store::{Db, DbIndex, Hashed, Held, Keyspace, LOCK_ATTEMPTS, Local, Locked, Place, Waiting};
use smallvec::SmallVec;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Rounds of serving after one command: what is served may make more keys ready.
const ROUNDS_MAX: usize = 10_000;
/// Shards that paying one debt locks in order; what more it needs is locked by trying only.
const PLACES_MAX: usize = 16;

/// What serving needs of a worker, beside its companion of the keyspace.
#[derive(Clone, Copy)]
pub(super) struct Waiters<'s> {
    pub server: &'static Server,
    pub worker: usize,
    pub limits: &'s Limits,
    pub stopwatch: &'s clock::Stopwatch,
}

/// Parks a connection whose command waits, or answers where nobody may wait. The shards of the command's keys are
/// locked.
pub(super) fn park(
    server: &'static Server,
    conn: &mut Connection,
    row: &'static Row,
    args: &Args<'_>,
    wait: &Wait,
    reply: &mut Reply<'_>,
) {
    if conn.is_in_exec {
        match wait.at_once {
            AtOnce::NullArray => reply.null_array(),
            AtOnce::Null => reply.null(),
        }
        return;
    }
    let kept = Arc::new(Kept::new(row, args, wait, conn));
    let ticket = server.next_ticket();
    let client = conn.client.id;
    conn.parked = Some(Parked::Ticket(ticket));
    conn.client.parked.store(true, Relaxed);
    // An end that the clock cannot tell is never reached.
    let millis = wait.timeout.0;
    let deadline = (millis != 0).then(|| clock::now().checked_add(Duration::from_millis(millis))).flatten();
    let on_timeout = OnTimeout::Text(if conn.protocol == Protocol::Resp3 { b"_\r\n" } else { b"*-1\r\n" });
    let command = Some(Arc::clone(&kept));
    // Whoever takes the waiter out finds it among the followers, too.
    for key in kept.awaited() {
        server.keyspace.followed.wait(conn.db, key, Waiting { place: ticket, client });
    }
    server.blocked.add(client, Waiter { worker: conn.client.worker, ticket, deadline, on_timeout, command });
}

impl Core {
    /// Looks after those who wait for a key that nobody has changed: what they wait for may be theirs. Inside a turn.
    pub fn serve_waiting(&mut self, db: DbIndex, key: Box<[u8]>) {
        let hash = self.server.keyspace.hash(&key);
        let Some(locked) = lock_one(self.server.keyspace.open(db), hash) else {
            let work = move |core: &mut Core| core.serve_waiting(db, key);
            self.server.mailboxes[self.id].send(Message::Work(Work(Box::new(work))));
            return;
        };
        let mut keys = Db::new(&self.server.keyspace, db, locked, &mut self.local);
        keys.settle(&Hashed { bytes: &key, hash }, true);
        keys.local.effects.wake(db, &key);
        if keys.local.effects.has_ready() {
            let (server, worker, limits, stopwatch) = (self.server, self.id, &self.limits, &self.stopwatch);
            Waiters { server, worker, limits, stopwatch }.serve_after(keys);
        }
    }
}

/// What came of looking after one waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// It has been answered, or goes on waiting.
    After,
    /// What it needs is locked elsewhere, or another thread is serving it: it is to be looked after again.
    Later,
}

impl Waiters<'_> {
    /// Serves those who wait for keys that one command on one database has changed.
    #[cold]
    pub(super) fn serve_after(self, db: Db<'_>) {
        let (index, locked, local) = db.into_parts();
        let mut held = self.server.keyspace.hold_locked(index, locked);
        self.serve(&mut held, local);
    }

    /// Serves those who wait for changed keys, with the shards in `held` locked.
    #[cold]
    pub(super) fn serve(self, held: &mut Held<'_>, local: &mut Local) {
        for round in 0.. {
            if !local.effects.has_ready() {
                return;
            }
            for (db, key) in local.effects.take_ready() {
                // Behind what is owed already: of one shard all is done in order.
                let keyspace = &self.server.keyspace;
                let is_owed = held.is_owed(keyspace.place(db, keyspace.hash(&key)));
                if is_owed || round >= ROUNDS_MAX || !self.serve_key(db, &key, held, local) {
                    self.owe(db, &key, held);
                }
            }
        }
    }

    /// Serves those who wait for a key, as far as it goes round. False where somebody is still to be looked after.
    pub(super) fn serve_key(self, db: DbIndex, key: &[u8], held: &mut Held<'_>, local: &mut Local) -> bool {
        let keyspace: &'static Keyspace = &self.server.keyspace;
        let key = Hashed { bytes: key, hash: keyspace.hash(key) };
        let place = keyspace.place(db, key.hash);
        if !keyspace.try_hold_more(place, LOCK_ATTEMPTS, held) {
            return false;
        }
        let mut from = 0;
        while let Some(waiting) = keyspace.followed.next_waiting(db, key.bytes, from) {
            from = waiting.place + 1;
            let locked = held.lend_one(place);
            let mut at = Db::new(keyspace, db, locked, local);
            if at.local.settles {
                at.settle(&key, true);
            }
            // One that is over serves nobody, and stays for whoever asks for it next.
            let found = at.glance(&key).map(|item| item.value_type());
            drop(at);
            if found.is_none() && !self.server.blocked.any_until_gone() {
                return true;
            }
            let Some(kept) = self.server.blocked.command(waiting.client) else { continue };
            let ends_wait = kept.until_gone || found == Some(kept.kind);
            if ends_wait && self.look_after(waiting.client, &kept, &key, held, local) == Looked::Later {
                return false;
            }
        }
        true
    }

    /// Where a key lies, and what its first waiters need to be served.
    pub(super) fn places_needed(self, db: DbIndex, key: &[u8]) -> Vec<Place> {
        let keyspace: &Keyspace = &self.server.keyspace;
        let place = |key: &[u8]| keyspace.place(db, keyspace.hash(key));
        let mut places = vec![place(key)];
        let mut from = 0;
        while places.len() < PLACES_MAX
            && let Some(waiting) = keyspace.followed.next_waiting(db, key, from)
        {
            from = waiting.place + 1;
            let Some(kept) = self.server.blocked.command(waiting.client) else { continue };
            places.extend(kept.needed().map(place));
            if places.len() > 1 {
                break;
            }
        }
        places
    }

    /// Runs the command of a waiter, if all that it needs can be locked.
    fn look_after(
        self,
        client: u64,
        kept: &Kept,
        key: &Hashed<'_>,
        held: &mut Held<'_>,
        local: &mut Local,
    ) -> Looked {
        let keyspace: &'static Keyspace = &self.server.keyspace;
        let mut places = SmallVec::from_iter([keyspace.place(kept.db, key.hash)]);
        for needed in kept.needed() {
            let place = keyspace.place(kept.db, keyspace.hash(needed));
            if !keyspace.try_hold_more(place, LOCK_ATTEMPTS, held) {
                return Looked::Later;
            }
            places.push(place);
        }
        // The other keys it waits for are looked at where that costs nobody a wait, and where nobody is to be served
        // before it.
        for awaited in kept.awaited() {
            let place = keyspace.place(kept.db, keyspace.hash(awaited));
            if keyspace.try_hold_free(place, held) {
                places.push(place);
            }
        }
        match self.server.blocked.begin(client) {
            Begun::Here => {}
            Begun::Elsewhere => return Looked::Later,
            Begun::Answered => return Looked::After,
        }
        if !self.run_again(client, kept, key.bytes, held.lend(&mut places), local) {
            self.server.blocked.put_back(client);
        }
        Looked::After
    }

    /// Runs the command of a waiter on the shards that it gets, since a key has changed. False where it goes on waiting.
    fn run_again(self, client: u64, kept: &Kept, key: &[u8], locked: Locked<'_>, local: &mut Local) -> bool {
        let RowRun::Keys(run) = kept.row.run else { return false };
        let is_allowed =
            if kept.user.is_free() { Ok(()) } else { self.check_access(client, kept, local.now.0) };
        let start = self.stopwatch.ticks();
        let no_touch = std::mem::replace(&mut local.no_touch, kept.no_touch);
        let mut out = Output::default();
        let answer = catch_unwind(AssertUnwindSafe(|| {
            if is_allowed.is_err() {
                return (is_allowed, false);
            }
            let mut db = Db::new(&self.server.keyspace, kept.db, locked, local);
            if db.local.settles {
                settle(&mut db, kept.row, &kept.args(), 0);
            }
            db.local.effects.begin_logged();
            let mut cx = Ctx::new(db, Reply::new(&mut out, kept.protocol), self.limits, (0, 0));
            let result = run(&mut cx, &kept.args());
            cx.db.local.effects.end_logged(kept.db, kept.args().from(0));
            let waits = cx.take_wait().is_some();
            if let Some(reader) = kept.reader.as_ref().filter(|_| !waits) {
                enter_served(self.server, reader, kept.row, &kept.args(), key);
            }
            (result, waits)
        }));
        local.no_touch = no_touch;
        match answer {
            Ok((Ok(()), true)) => return false,
            Ok((Ok(()), false)) => {}
            Ok((Err(error), _)) => write_error(&mut out, kept.protocol, error.text()),
            Err(_) => {
                local.scratch = Vec::new();
                local.effects.log.close_all();
                tracing::error!(command = kept.row.name, client, "a command panicked when it ran again");
                let text = Error::of("ERR internal error: the data is unharmed");
                write_error(&mut out, kept.protocol, text.text());
            }
        }
        if let Some(waiter) = self.server.blocked.finish(client) {
            let nanos = self.stopwatch.nanos(start, self.stopwatch.ticks());
            let answer = Answer { client, ticket: waiter.ticket, reply: out.to_vec(), nanos };
            let mailbox = &self.server.mailboxes[waiter.worker];
            mailbox.send_from(Message::Answer(answer), waiter.worker == self.worker);
        }
        true
    }
}

impl Core {
    /// What serving needs of this worker, and its companion of the keyspace.
    pub(super) fn waiters(&mut self) -> (Waiters<'_>, &mut Local) {
        let Core { server, id, limits, stopwatch, local, .. } = self;
        (Waiters { server, worker: *id, limits, stopwatch }, local)
    }

    /// Serves those who wait for keys that changed while nothing was locked for long enough (keys that expired, keys that
    /// a command changed that has everything to itself).
    #[cold]
    pub(super) fn serve_ready(&mut self) {
        let (waiters, local) = self.waiters();
        waiters.serve(&mut Held::default(), local);
    }
}

fn write_error(out: &mut Output, protocol: Protocol, text: &[u8]) {
    out.clear();
    Reply::new(out, protocol).error(text);
}
