//! Clients that wait for keys: parking them, and running their commands again once a key has changed.
//!
//! A client is entered among the followers of its keys while their shards are still locked by the run that found
//! nothing, so no change is missed. Who changes a key serves its waiters, in the order in which they came, before the
//! shards are unlocked: nobody takes away what they wait for. What a waiter needs beside that key (the destination of
//! BLMOVE) is locked out of order, by trying only; where that fails it is served a little later, by [`Core::serve_later`].
//!
//! Read next: `larder_commands::wait` for the commands' side, `blocked.rs` for who waits.

use super::{Core, LOCK_SPINS};
use crate::blocked::{Kept, Waiter};
use crate::clock;
use crate::connection::{Connection, Parked};
use crate::registry::{Row, RowRun};
use crate::server::{Message, Server, Work};
use larder_commands::wait::{AtOnce, Wait};
use larder_commands::{Args, Ctx, Error, Limits};
use larder_resp::{Output, Protocol, Reply};
use larder_store::{Db, DbIndex, Hashed, Held, Keyspace, Local, Waiting};
use smallvec::SmallVec;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Rounds of serving after one command: what is served may make more keys ready.
const ROUNDS_MAX: usize = 10_000;

/// What serving needs of a worker, beside its companion of the keyspace.
#[derive(Clone, Copy)]
pub(super) struct Waiters<'s> {
    pub server: &'static Server,
    pub worker: usize,
    pub limits: &'s Limits,
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
    let kept = Arc::new(Kept::new(row, args, wait, (conn.db, conn.protocol, conn.no_touch)));
    let ticket = server.next_ticket();
    let client = conn.client.id;
    conn.parked = Some(Parked::Ticket(ticket));
    conn.client.parked.store(true, Relaxed);
    // An end that the clock cannot tell is never reached.
    let millis = wait.timeout.0;
    let deadline = (millis != 0).then(|| clock::now().checked_add(Duration::from_millis(millis))).flatten();
    let on_timeout: &[u8] = if conn.protocol == Protocol::Resp3 { b"_\r\n" } else { b"*-1\r\n" };
    let command = Some(Arc::clone(&kept));
    // Whoever takes the waiter out finds it among the followers, too.
    for key in kept.awaited() {
        server.keyspace.followed.wait(conn.db, key, Waiting { place: ticket, client });
    }
    server.blocked.add(client, Waiter { worker: conn.client.worker, ticket, deadline, on_timeout, command });
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
        for _ in 0..ROUNDS_MAX {
            if !local.effects.has_ready() {
                return;
            }
            for (db, key) in local.effects.take_ready() {
                self.serve_key(db, &key, held, local);
            }
        }
    }

    fn serve_key(self, db: DbIndex, key: &[u8], held: &mut Held<'_>, local: &mut Local) {
        let keyspace: &'static Keyspace = &self.server.keyspace;
        let key = Hashed { bytes: key, hash: keyspace.hash(key) };
        if !keyspace.try_hold_more(keyspace.place(db, key.hash), LOCK_SPINS, held) {
            return self.serve_later(db, key.bytes);
        }
        let mut place = 0;
        while let Some(waiting) = keyspace.followed.next_waiting(db, key.bytes, place) {
            place = waiting.place + 1;
            let Some(kept) = self.server.blocked.begin(waiting.client) else { continue };
            if self.run_again(waiting.client, &kept, &key, held, local) {
                continue;
            }
            self.server.blocked.put_back(waiting.client);
        }
    }

    /// Runs the command of a waiter. False where it goes on waiting.
    fn run_again(
        self,
        client: u64,
        kept: &Kept,
        key: &Hashed<'_>,
        held: &mut Held<'_>,
        local: &mut Local,
    ) -> bool {
        let keyspace: &'static Keyspace = &self.server.keyspace;
        let RowRun::Keys(run) = kept.row.run else { return false };
        if !kept.until_gone {
            let locked = held.lend_one(keyspace.place(kept.db, key.hash));
            let found = Db::new(keyspace, kept.db, locked, local).peek(key).map(|item| item.value_type());
            if found != Some(kept.kind) {
                return false;
            }
        }
        let mut places = SmallVec::new();
        for needed in kept.needed() {
            let place = keyspace.place(kept.db, keyspace.hash(needed));
            if !keyspace.try_hold_more(place, LOCK_SPINS, held) {
                self.serve_later(kept.db, key.bytes);
                return false;
            }
            places.push(place);
        }
        // The other keys it waits for are looked at where that costs nobody a wait.
        for awaited in kept.awaited() {
            let place = keyspace.place(kept.db, keyspace.hash(awaited));
            if keyspace.try_hold_more(place, 1, held) {
                places.push(place);
            }
        }
        let no_touch = std::mem::replace(&mut local.no_touch, kept.no_touch);
        let mut out = Output::default();
        let answer = catch_unwind(AssertUnwindSafe(|| {
            let db = Db::new(keyspace, kept.db, held.lend(&mut places), local);
            let mut cx = Ctx::new(db, Reply::new(&mut out, kept.protocol), self.limits, (0, 0));
            let result = run(&mut cx, &kept.args());
            (result, cx.take_wait().is_some())
        }));
        local.no_touch = no_touch;
        match answer {
            Ok((Ok(()), true)) => return false,
            Ok((Ok(()), false)) => {}
            Ok((Err(error), _)) => write_error(&mut out, kept.protocol, error.text()),
            Err(_) => {
                local.scratch = Vec::new();
                tracing::error!(command = kept.row.name, client, "a command panicked when it ran again");
                let text = Error::of("ERR internal error: the data is unharmed");
                write_error(&mut out, kept.protocol, text.text());
            }
        }
        if let Some(waiter) = self.server.blocked.finish(client) {
            let answer = Message::Answer(client, waiter.ticket, out.to_vec());
            self.server.mailboxes[waiter.worker].send_from(answer, waiter.worker == self.worker);
        }
        true
    }

    /// Serves those who wait for a key once it can be locked.
    fn serve_later(self, db: DbIndex, key: &[u8]) {
        let key: Box<[u8]> = key.into();
        let work = move |core: &mut Core| {
            let waiters = Waiters { server: core.server, worker: core.id, limits: &core.limits };
            waiters.serve_key(db, &key, &mut Held::default(), &mut core.local);
            waiters.serve(&mut Held::default(), &mut core.local);
            core.count_changes();
        };
        self.server.mailboxes[self.worker].send(Message::Work(Work(Box::new(work))));
    }
}

impl Core {
    /// Serves those who wait for keys that have changed, after the locks under which they changed are gone.
    #[cold]
    pub(super) fn serve_ready(&mut self) {
        let waiters = Waiters { server: self.server, worker: self.id, limits: &self.limits };
        waiters.serve(&mut Held::default(), &mut self.local);
    }
}

fn write_error(out: &mut Output, protocol: Protocol, text: &[u8]) {
    out.clear();
    Reply::new(out, protocol).error(text);
}
