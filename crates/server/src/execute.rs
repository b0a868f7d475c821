//! From a request to its reply: lock the keys, run, serve those who wait, count.
//!
//! One path for every command: `execute/admit.rs` says whether it may run, `run` here carries it out. A panic in a command ends here: its connection gets an error and is
//! closed, its locks are released by their guards, no other client notices.

mod admit;
mod asked;
mod behind;
mod debts;
mod exec;
mod landing;
mod room;
mod routed;
mod serve;
mod settle;
mod unfound;

use crate::clients::Client;
use crate::connection::{Closing, Connection, Parked, Unfinished};
use crate::pubsub::{Delivery, Name, Notifier, Subscribers};
use crate::registry::{Row, RowRun, RunOnKeys};
use crate::server::{Answer, Message, Server, random_token};
use crate::slowlog::{SlowEntry, shorten};
use crate::stats::WorkerStats;
use crate::transaction::Transaction;
use crate::{clock, monitor};
pub use asked::Looked;
pub use debts::Debts;
pub use landing::Settled;
use larder_commands::keys::flush_waits;
use larder_commands::spec::Flags;
use larder_commands::{Args, Ctx, Error, KeyspaceCtx, Limits, keys_of};
use larder_config::Settings;
use larder_resp::{Output, Protocol, Reply};
use larder_source::Routes;
use larder_store::{
    Database, Db, DbIndex, Evictor, Held, Keyspace, LOCK_ATTEMPTS, LazyFree, Local, Locked, Place, Turn,
};
use larder_values::collection::PackedLimits;
use larder_values::list::Limit;
pub use routed::Marks;
use serve::Waiters;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use unfound::Wanted;

/// Of how many runs of a constant-time command one is timed.
const TIMED_ONE_IN: u32 = 16;
/// The first runs of every command are timed, so that rare commands have a histogram.
const TIMED_FIRST: u64 = 64;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Done,
    /// It waits: nothing was done and it is to be asked again.
    Later,
    /// What it read is to be fetched first: nothing was done, and it is to be asked the long way.
    Unfound,
}

/// What one worker brings to every command.
pub struct Core {
    /// The worker's number.
    pub id: usize,
    /// The shared state.
    pub server: &'static Server,
    /// Companion of the keyspace.
    pub local: Local,
    /// The worker's counters.
    pub stats: Arc<WorkerStats>,
    /// Settings of this turn.
    pub settings: Arc<Settings>,
    /// Settings that data commands obey.
    pub limits: Limits,
    generation: u64,
    /// The open turn; closed while a command has everything to itself.
    turn: Option<Turn<'static>>,
    /// A command or a transaction has everything to itself.
    is_alone: bool,
    /// Where the keys of the transaction at hand lie.
    places: Vec<Place>,
    /// Emptied transactions, for the next MULTI.
    #[expect(clippy::vec_box, reason = "they go from here into connections as they are")]
    spare_transactions: Vec<Box<Transaction>>,
    stopwatch: clock::Stopwatch,
    evictor: Evictor,
    /// Keys that come from sources.
    routes: Arc<Routes>,
    /// What the command at hand is to wait for.
    wanted: Vec<Wanted>,
    turns: u32,
    /// Commands in constant time are timed in this turn, for the others of their kind.
    timing_turn: bool,
    attentive: bool,
    /// What is at hand was settled before and is to stay as it is; see `settle.rs`.
    is_settled: bool,
    /// Commands that have run the short way and are not among [`WorkerStats::commands`] yet.
    short_runs: u64,
    /// Where the reply of the command at hand starts.
    mark: (usize, usize),
    until_memory_check: u32,
    over_limit: bool,
    /// There is a limit to the memory in use.
    is_limited: bool,
    /// The turn in which due keys were removed to make room.
    turn_swept: u32,
    /// Commands that had run when policies looked around last.
    commands_observed: u64,
    /// Memory may be over the limit, and the background is to go on evicting.
    is_evicting: bool,
    /// Memory of this thread at the last look at the memory in use.
    own_bytes_checked: isize,
    /// Commands at least this slow are logged, in nanoseconds; `u64::MAX` for none.
    slow_nanos_min: u64,
    /// Every command is timed: the slow log asks for it.
    time_all: bool,
    /// This worker's connections by what they are subscribed to.
    pub subscribers: Subscribers,
    /// Messages that all get but the connection of this token, which has them.
    pub undelivered: Vec<(Arc<Delivery>, u64)>,
    /// Messages to the connection at hand, and the patterns it gets them by, for when EXEC has answered.
    pub held_back: Vec<(Arc<Delivery>, Option<Name>)>,
    /// What lay in the mailbox between messages and has to wait.
    pub set_aside: Vec<Message>,
    /// The output of the command at hand is not for CLIENT REPLY to hide: out-of-band data, or what EXEC left of it.
    pub reply_is_push: bool,
}

/// What a command that needs the server gets.
pub struct Host<'a> {
    /// The worker.
    pub core: &'a mut Core,
    /// The connection that asks.
    pub conn: &'a mut Connection,
    /// Where the answer goes; see [`Host::reply`].
    pub out: &'a mut Output,
}

impl Host<'_> {
    /// The shared state.
    pub fn server(&self) -> &'static Server {
        self.core.server
    }

    /// A writer for the connection's protocol.
    pub fn reply(&mut self) -> Reply<'_> {
        Reply::new(self.out, self.conn.protocol)
    }

    /// Parks the connection until [`Message::Answer`] brings the reply under the ticket.
    pub fn park(&mut self) -> u64 {
        let ticket = self.server().next_ticket();
        self.conn.parked = Some(Parked::Ticket(ticket));
        self.conn.client.parked.store(true, Relaxed);
        ticket
    }

    /// Takes [`Host::park`] back: nothing will bring the reply.
    pub fn unpark(&mut self) {
        self.conn.parked = None;
        self.conn.client.parked.store(false, Relaxed);
    }
}

impl Core {
    /// What worker `id` brings.
    pub fn new(id: usize, server: &'static Server, seed: u64) -> Core {
        let stats = Arc::clone(&server.stats[id]);
        let settings = server.settings();
        let mut core = Core {
            id,
            server,
            local: Local::of_worker(id, seed, Arc::clone(&stats.store)),
            stats,
            limits: limits_of(server, &settings),
            settings,
            generation: 0,
            turn: None,
            is_alone: false,
            places: Vec::new(),
            spare_transactions: Vec::new(),
            stopwatch: clock::Stopwatch::new(),
            evictor: Evictor::default(),
            routes: Arc::default(),
            wanted: Vec::new(),
            turns: 0,
            timing_turn: false,
            attentive: true,
            is_settled: false,
            short_runs: 0,
            mark: (0, 0),
            until_memory_check: 0,
            over_limit: false,
            is_limited: false,
            turn_swept: 0,
            commands_observed: 0,
            is_evicting: false,
            own_bytes_checked: 0,
            slow_nanos_min: u64::MAX,
            time_all: false,
            subscribers: Subscribers::default(),
            undelivered: Vec::new(),
            held_back: Vec::new(),
            set_aside: Vec::new(),
            reply_is_push: false,
        };
        core.local.secret = Some(random_token);
        core.local.effects.tell(Arc::clone(&server.keyspace.followed));
        core.local.insight.join(&server.keyspace.insight, id, &core.stats.store);
        core.refresh_settings();
        core
    }

    /// Carries out a command on one key with nothing special about it.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "the hot path: everything is at hand in the caller's loop")]
    pub fn run_on_key(
        &mut self,
        database: Database<'static>,
        protocol: Protocol,
        out: &mut Output,
        row: &'static Row,
        run: RunOnKeys,
        args: &Args<'_>,
        hash: u64,
    ) -> Outcome {
        self.mark = out.mark();
        let stats = &self.stats.by_command[row.id];
        let start = if stats.calls.get() < TIMED_FIRST { Some(self.stopwatch.ticks()) } else { None };
        let Some(locked) = lock_one(database, hash) else { return Outcome::Later };
        let db = Db::on(database, locked, &mut self.local);
        let mut cx = Ctx::new(db, Reply::new(out, protocol), &self.limits, (row.first_key, hash));
        let result = run(&mut cx, args);
        let db = cx.into_db();
        if db.local.effects.has_ready() {
            let (server, worker, limits, stopwatch) = (self.server, self.id, &self.limits, &self.stopwatch);
            Waiters { server, worker, limits, stopwatch }.serve_after(db);
        } else {
            drop(db);
        }
        if !self.local.unfound.keys.is_empty() && self.must_fetch(row) {
            out.truncate(self.mark);
            return Outcome::Unfound;
        }
        let stats = &self.stats.by_command[row.id];
        stats.calls.add(1);
        self.short_runs += 1;
        if result.is_err() || start.is_some() {
            self.end_short_run(protocol, out, row, result, start);
        }
        Outcome::Done
    }

    /// What is rare at the end of [`Core::run_on_key`]: an error, or a run that was timed.
    #[cold]
    fn end_short_run(
        &mut self,
        protocol: Protocol,
        out: &mut Output,
        row: &'static Row,
        result: Result<(), Error>,
        start: Option<u64>,
    ) {
        if let Err(error) = result {
            self.stats.by_command[row.id].failed.add(1);
            out.truncate(self.mark);
            self.count_error(error.text());
            Reply::new(out, protocol).error(error.text());
        }
        if let Some(start) = start {
            self.count_time(row.id, self.stopwatch.nanos(start, self.stopwatch.ticks()));
        }
    }

    /// Counts the commands that [`Core::run_on_key`] has carried out among all. Answers how many all are now.
    #[inline]
    pub fn count_short_runs(&mut self) -> u64 {
        self.stats.commands.add(std::mem::take(&mut self.short_runs));
        self.stats.commands.get()
    }

    /// Counts how long one of the first runs of a command took.
    #[cold]
    fn count_time(&self, command: usize, nanos: u64) {
        let stats = &self.stats.by_command[command];
        stats.nanos.add(nanos);
        if self.settings.latency_tracking() {
            stats.durations.record(nanos, 1);
        }
    }

    /// Whether a command goes the long way because it may write a key that comes from a source.
    #[inline]
    pub fn asks_before(&self, row: &Row) -> bool {
        self.local.unfound.is_on && row.has(Flags::WRITE)
    }

    /// Whether anything asks for more than the short way: a pause, a monitor, a slow
    /// log that wants every command timed, or this turn's share of timing.
    #[inline]
    pub fn is_attentive(&self) -> bool {
        self.attentive
    }

    /// Looks again whether invalidations are in force, for requests that have been received by now.
    #[inline]
    pub fn look_up_invalidations(&mut self) {
        if self.server.keyspace.is_lagging() != self.local.settles {
            self.look_up_attention();
        }
    }

    /// Looks again whether anything asks for attention, after a command that may have changed it.
    pub fn look_up_attention(&mut self) -> bool {
        self.local.settles = !self.is_settled && self.server.keyspace.is_lagging();
        self.attentive = self.timing_turn
            || self.local.settles
            || self.time_all
            || self.generation != self.server.generation()
            || self.server.pause.until_ms.load(Relaxed) != 0
            || self.server.monitors.load(Relaxed) != 0;
        self.attentive
    }

    /// Counts an error reply.
    pub fn count_error(&self, text: &[u8]) {
        self.stats.errors.add(1);
        self.stats.errors_by_code.add(text);
    }

    /// Counts the changes of the commands just carried out.
    #[inline]
    pub fn count_changes(&mut self) {
        let changes = self.local.effects.take_changes();
        if changes != 0 {
            self.stats.store.changes.add(changes);
        }
    }

    /// Opens a turn: takes the time and looks whether settings have changed.
    #[inline]
    pub fn open_turn(&mut self) {
        self.local.now = clock::unix_millis();
        if self.generation != self.server.generation() {
            self.refresh_settings();
        }
        self.turn = Some(self.server.keyspace.world.enter(self.id));
        if self.server.debts.any() {
            self.pay_debts();
        }
        self.turns = self.turns.wrapping_add(1);
        self.local.insight.turn();
        self.timing_turn = self.turns.is_multiple_of(TIMED_ONE_IN);
        self.look_up_attention();
    }

    /// Closes the turn, frees large values that were removed, and hands others to the background.
    #[inline]
    pub fn close_turn(&mut self) {
        if self.local.effects.has_ready() {
            self.serve_ready();
        }
        self.local.uses.tell(&self.server.keyspace, self.local.now);
        self.turn = None;
        self.local.free_spent();
        self.hand_garbage_over();
    }

    #[inline]
    fn hand_garbage_over(&mut self) {
        if !self.local.garbage.is_empty() {
            let garbage = std::mem::take(&mut self.local.garbage);
            let objects = self.server.reaper.free(garbage);
            self.stats.store.lazy_freed.add(objects as u64);
        }
    }

    fn refresh_settings(&mut self) {
        self.generation = self.server.generation();
        self.settings = self.server.settings();
        self.limits = limits_of(self.server, &self.settings);
        self.local.lazy_free = LazyFree {
            deleted: self.settings.lazyfree_lazy_user_del(),
            replaced: self.settings.lazyfree_lazy_server_del(),
            expired: self.settings.lazyfree_lazy_expire(),
            evicted: self.settings.lazyfree_lazy_eviction(),
        };
        self.follow_policy();
        self.routes = self.server.through.routes();
        self.local.unfound.is_on = !self.routes.is_empty();
        self.local.unfound.firsts = self.routes.firsts();
        self.look_after_routes();
        self.local.insight.switch(self.settings.cache_insight());
        if self.id == 0 {
            let limit = if self.settings.cache_insight() { self.memory_limit() } else { 0 };
            self.server.keyspace.insight.fit(limit);
        }
        // Another limit may be below what is in use: the background looks, without waiting for a write.
        // A policy that ends has the background give fields back.
        self.is_evicting |= self.is_limited;
        let slower_than = self.settings.slowlog_log_slower_than();
        self.slow_nanos_min =
            u64::try_from(slower_than).map_or(u64::MAX, |micros| micros.saturating_mul(1000));
        // Below this a constant-time command could be slow enough to be logged.
        self.time_all = self.slow_nanos_min < 1_000_000 || self.settings.latency_monitor_threshold() > 0;
        self.until_memory_check = 0;
        let events = self.settings.notify_keyspace_events();
        let notifier = Notifier::new(self.server, self.id, events);
        self.local.effects.set_listener(events.bits(), notifier.map(|notifier| Box::new(notifier) as _));
    }

    /// Runs an admitted command, timing it where that matters.
    fn run(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: &'static Row,
        args: &Args<'_>,
        hash: u64,
        held: Option<&mut Held<'static>>,
    ) -> Outcome {
        self.local.no_touch = conn.no_touch;
        let few = self.stats.by_command[row.id].calls.get() < TIMED_FIRST;
        let always = !row.is_brief || self.time_all || few;
        let scale = if always { 1 } else { u64::from(TIMED_ONE_IN) };
        let timed = always || self.timing_turn;
        let start = if timed { self.stopwatch.ticks() } else { 0 };
        self.mark = out.mark();
        let mark = self.mark;
        let failed = match self.dispatch(conn, out, row, args, hash, held) {
            Ok(true) => false,
            Ok(false) => {
                conn.parked = Some(Parked::Busy);
                return Outcome::Later;
            }
            Err(error) => {
                out.truncate(mark);
                self.count_error(error.text());
                Reply::new(out, conn.protocol).error(error.text());
                true
            }
        };
        if !self.local.unfound.keys.is_empty()
            && let Some(outcome) = self.after_unfound(conn, out, row, args, hash)
        {
            return outcome;
        }
        if self.local.effects.has_ready() && !conn.is_in_exec {
            self.serve_ready();
        }
        if matches!(conn.parked, Some(Parked::Load(_) | Parked::Busy)) {
            out.truncate(mark);
            return Outcome::Later;
        }
        if matches!(conn.parked, Some(Parked::Ticket(_))) {
            let nanos = if timed { self.stopwatch.nanos(start, self.stopwatch.ticks()) } else { 0 };
            let is_logged = self.settings.slowlog_log_slower_than() >= 0 && !row.has(Flags::SKIP_SLOWLOG);
            let words = if is_logged { shorten(monitor::redacted(row, args)) } else { Vec::new() };
            conn.unfinished = Some(Unfinished { row, nanos, words });
            self.count_changes();
            return Outcome::Done;
        }
        let stats = &self.stats.by_command[row.id];
        stats.calls.add(1);
        self.stats.commands.add(1);
        if failed {
            stats.failed.add(1);
        }
        self.count_changes();
        let stats = &self.stats.by_command[row.id];
        if timed {
            let nanos = self.stopwatch.nanos(start, self.stopwatch.ticks());
            stats.nanos.add(nanos * scale);
            if self.settings.latency_tracking() {
                stats.durations.record(nanos, scale);
            }
            if nanos >= self.slow_nanos_min || self.settings.latency_monitor_threshold() > 0 {
                self.note_slow(&conn.client, row, nanos, || shorten(monitor::redacted(row, args)));
            }
        }
        Outcome::Done
    }

    /// Counts a command whose answer came later than it was asked. One whose connection ends before is counted nowhere,
    /// as in Redis.
    #[cold]
    pub fn count_end(&self, client: &Client, unfinished: Unfinished, reply: &[u8]) {
        let Unfinished { row, nanos, words } = unfinished;
        let stats = &self.stats.by_command[row.id];
        stats.calls.add(1);
        self.stats.commands.add(1);
        client.commands.add(1);
        self.count_time(row.id, nanos);
        if let Some(text) = reply.strip_prefix(b"-") {
            stats.failed.add(1);
            self.count_error(text.trim_ascii_end());
            if text.starts_with(b"UNBLOCKED") && !matches!(row.run, RowRun::Keys(_)) {
                // As Redis does with WAIT: once for the error, once for the end of the wait.
                stats.calls.add(1);
            }
        }
        if !words.is_empty() {
            self.note_slow(client, row, nanos, || words);
        }
    }

    /// The time-stamp counter, for [`Core::count_busy`].
    #[inline]
    pub fn ticks(&self) -> u64 {
        self.stopwatch.ticks()
    }

    /// Counts the time since `start` as spent in a turn.
    #[inline]
    pub fn count_busy(&self, start: u64) {
        self.stats.busy_nanos.add(self.stopwatch.nanos(start, self.stopwatch.ticks()));
    }

    /// Calls the implementation with what it needs. `Ok(false)`: a key is locked elsewhere.
    #[inline]
    fn dispatch(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: &'static Row,
        args: &Args<'_>,
        hash: u64,
        held: Option<&mut Held<'static>>,
    ) -> Result<bool, Error> {
        match row.run {
            RowRun::Keys(run) => {
                let keyspace: &Keyspace = &self.server.keyspace;
                let locked = match held {
                    Some(held) => exec::lend(held, keyspace, conn.db, row, args, hash),
                    None => match lock(keyspace, conn.db, row, args, hash) {
                        Some(locked) => locked,
                        None => return Ok(false),
                    },
                };
                let mut db = Db::new(keyspace, conn.db, locked, &mut self.local);
                if db.local.settles {
                    settle::settle(&mut db, row, args, hash);
                }
                let mut cx =
                    Ctx::new(db, Reply::new(out, conn.protocol), &self.limits, (row.first_key, hash));
                run(&mut cx, args)?;
                if let Some(wait) = cx.take_wait() {
                    serve::park(self.server, conn, row, args, &wait, &mut cx.reply);
                }
                if cx.db.local.effects.has_ready() && !conn.is_in_exec {
                    let (server, worker, limits, stopwatch) =
                        (self.server, self.id, &self.limits, &self.stopwatch);
                    Waiters { server, worker, limits, stopwatch }.serve_after(cx.into_db());
                }
            }
            RowRun::Keyspace(run) => {
                let (mut cx, waiters) = self.keyspace_cx(conn, out);
                let answer = run(&mut cx, args);
                if cx.is_busy {
                    return Ok(false);
                }
                if cx.local.effects.has_ready() && !conn.is_in_exec {
                    waiters.serve(&mut cx.held, cx.local);
                }
                answer?;
            }
            RowRun::Exclusive(run) => {
                let mark = out.mark();
                self.alone(|core| run(&mut core.keyspace_cx(conn, out).0, args))?;
                if matches!(row.spec.name, "flushall" | "flushdb")
                    && flush_waits(args, &self.limits)
                    && !conn.is_in_exec
                {
                    self.answer_once_freed(conn, out, mark);
                }
            }
            RowRun::Host(run) => {
                run(&mut Host { core: self, conn, out }, args)?;
                return Ok(conn.parked != Some(Parked::Busy));
            }
            RowRun::HostExclusive(run) => self.alone(|core| run(&mut Host { core, conn, out }, args))?,
            RowRun::Container => return Err(Error::arity(&row.name)),
        }
        Ok(true)
    }

    /// Holds an OK back until the background has freed what the command removed.
    #[cold]
    fn answer_once_freed(&mut self, conn: &mut Connection, out: &mut Output, mark: (usize, usize)) {
        if self.local.garbage.is_empty() {
            return;
        }
        out.truncate(mark);
        self.hand_garbage_over();
        let ticket = Host { core: self, conn, out }.park();
        let (server, worker, id) = (self.server, self.id, conn.client.id);
        server.reaper.after(move || {
            server.mailboxes[worker].send(Message::Answer(Answer::new(id, ticket, b"+OK\r\n")));
        });
    }

    fn keyspace_cx<'c>(
        &'c mut self,
        conn: &Connection,
        out: &'c mut Output,
    ) -> (KeyspaceCtx<'c>, Waiters<'c>) {
        let Core { server, id, limits, stopwatch, local, .. } = self;
        let cx = KeyspaceCtx {
            keyspace: &server.keyspace,
            db: conn.db,
            reply: Reply::new(out, conn.protocol),
            limits,
            local,
            held: Held::default(),
            is_busy: false,
        };
        (cx, Waiters { server, worker: *id, limits, stopwatch })
    }

    /// Runs `work` while no other worker is inside a turn.
    fn alone<R>(&mut self, work: impl FnOnce(&mut Core) -> R) -> R {
        if self.is_alone {
            return work(self);
        }
        // Our own turn must be closed, or two workers that both want everything would wait for each
        // other.
        self.turn = None;
        let server = self.server;
        let exclusive = server.keyspace.world.exclusive();
        self.is_alone = true;
        if server.debts.any() {
            self.pay_debts();
        }
        let result = work(self);
        if self.local.effects.has_ready() {
            self.serve_ready();
        }
        self.is_alone = false;
        drop(exclusive);
        self.turn = Some(server.keyspace.world.enter(self.id));
        result
    }

    /// Logs a command that was slow.
    #[cold]
    fn note_slow(
        &self,
        client: &Client,
        row: &'static Row,
        nanos: u64,
        words: impl FnOnce() -> Vec<Vec<u8>>,
    ) {
        let threshold_ms = self.settings.latency_monitor_threshold();
        let millis = nanos / 1_000_000;
        if threshold_ms > 0 && millis >= threshold_ms {
            let event = if row.has(Flags::FAST) { "fast-command" } else { "command" };
            self.server.latency.add(event, self.local.now.0 / 1000, millis);
        }
        if nanos < self.slow_nanos_min || row.has(Flags::SKIP_SLOWLOG) {
            return;
        }
        let length_max = usize::try_from(self.settings.slowlog_max_len()).unwrap_or(usize::MAX);
        let entry = SlowEntry {
            id: 0,
            unix_secs: self.local.now.0 / 1000,
            micros: nanos / 1000,
            words: words(),
            address: client.address.clone(),
            name: client.names.lock().name.clone(),
        };
        self.server.slowlog.lock().add(entry, length_max);
    }

    /// A command panicked: its connection ends, the server goes on.
    #[cold]
    pub fn after_panic(&mut self, conn: &mut Connection, out: &mut Output, row: Option<&'static Row>) {
        let name = row.map_or("?", |row| row.name.as_str());
        tracing::error!(
            command = name,
            client = conn.client.id,
            "a command panicked; its connection is closed"
        );
        out.truncate(self.mark);
        self.local.scratch = Vec::new();
        (self.is_alone, self.is_settled, conn.is_in_exec) = (false, false, false);
        if self.turn.is_none() {
            self.turn = Some(self.server.keyspace.world.enter(self.id));
        }
        if let Some(stats) = row.and_then(|row| self.stats.by_command.get(row.id)) {
            stats.calls.add(1);
            stats.failed.add(1);
        }
        let text = format!("ERR internal error in '{name}': the connection is closed, the data is unharmed");
        self.count_error(text.as_bytes());
        Reply::new(out, conn.protocol).error(text.as_bytes());
        conn.closing = Closing::AfterReplies;
    }
}

/// Locks the shard of a command's only key, or answers `None` after a short while.
#[inline]
pub(crate) fn lock_one(database: Database<'_>, hash: u64) -> Option<Locked<'_>> {
    for _ in 0..LOCK_ATTEMPTS {
        if let Some(locked) = database.try_lock_one(hash) {
            return Some(locked);
        }
        std::hint::spin_loop();
    }
    None
}

/// Locks the shards of a command's keys, or answers `None` after a short while.
fn lock<'k>(
    keyspace: &'k Keyspace,
    db: DbIndex,
    row: &Row,
    args: &Args<'_>,
    hash: u64,
) -> Option<Locked<'k>> {
    let database = keyspace.open(db);
    if row.single_key {
        return lock_one(database, hash);
    }
    // A key specification that finds no keys leaves it to the command to say what is wrong.
    let keys = keys_of(row.spec, args).unwrap_or_default();
    let hashes: smallvec::SmallVec<[u64; 16]> =
        keys.iter().map(|key| keyspace.hash(args.get(key.index as usize))).collect();
    for _ in 0..LOCK_ATTEMPTS {
        if let Some(locked) = database.try_lock_many(&hashes) {
            return Some(locked);
        }
        std::hint::spin_loop();
    }
    None
}

fn limits_of(server: &Server, settings: &Settings) -> Limits {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let packed = |entries, bytes| PackedLimits { entries_max: size(entries), value_bytes_max: size(bytes) };
    Limits {
        string_bytes_max: size(settings.proto_max_bulk_len()),
        hll_sparse_bytes_max: size(settings.hll_sparse_max_bytes()),
        hash_packed: packed(settings.hash_max_listpack_entries(), settings.hash_max_listpack_value()),
        set_packed: packed(settings.set_max_listpack_entries(), settings.set_max_listpack_value()),
        set_integers_max: size(settings.set_max_intset_entries()),
        zset_packed: packed(settings.zset_max_listpack_entries(), settings.zset_max_listpack_value()),
        list: Limit::of(i64::from(settings.list_max_listpack_size()))
            .compressed_from(settings.list_compress_depth())
            .large_from(server.list_large_bytes_min()),
        stream_node_bytes_max: size(settings.stream_node_max_bytes()),
        stream_node_entries_max: size(settings.stream_node_max_entries()),
        counts_frequency: room::counts_frequency(settings),
        lfu_decay_minutes: settings.lfu_decay_time(),
        ttl_jitter_percent: settings.ttl_jitter_percent(),
        lease_ms: u64::from(settings.lease_time()) * 1000,
        entry_bytes_max: room::entry_bytes_max(settings),
        flush_is_lazy: settings.lazyfree_lazy_user_flush(),
        maxmemory_is_set: settings.maxmemory() != 0,
    }
}
