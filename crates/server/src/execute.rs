//! From a request to its reply: lock the keys, run, serve those who wait, count.
//!
//! One path for every command: `execute/admit.rs` says whether it may run, `run` here carries it out. A panic in a command ends here: its connection gets an error and is
//! closed, its locks are released by their guards, no other client notices.

mod access;
mod admit;
mod asked;
mod attend;
mod behind;
mod count;
mod debts;
mod delayed_flush;
mod exec;
mod fields;
mod landing;
mod replay;
mod room;
mod routed;
mod script;
mod serve;
mod settings;
mod settle;
mod shares;
mod together;
mod turn;
mod unfound;

use crate::clients::Client;
use crate::connection::{Closing, Connection, Parked, Unfinished};
use crate::pubsub::{Delivery, Name, Subscribers};
use crate::registry::{Row, RowRun, RunOnKeys};
use crate::server::{Answer, Message, Server, random_token};
use crate::slowlog::{LargeSizes, shorten};
use crate::snapshot::{Asker, Job, ask_for, give_up};
use crate::stats::WorkerStats;
use crate::tracking::enter_reads;
use crate::transaction::Transaction;
use crate::{clock, monitor};
pub use asked::Looked;
pub use attend::{Desk, adopt, attend};
pub use debts::Debts;
pub use landing::{Settled, Tidings};
use larder_commands::keys::flush_waits;
use larder_commands::memcached::is_quiet;
use larder_commands::spec::Flags;
use larder_commands::{Args, Ctx, Error, KeyspaceCtx, Limits, keys_of};
use larder_config::Settings;
use larder_resp::{Output, Protocol, Reply};
use larder_source::Routes;
use larder_store::{
    Database, Db, DbIndex, Evictor, Garbage, Held, Keyspace, LOCK_ATTEMPTS, Local, Locked, Patience, Place,
    Turn,
};
pub use replay::{Logged, Replay};
pub use routed::Marks;
pub use script::Call;
use serve::Waiters;
use settings::limits_of;
pub use shares::{classes_of, put_classes, share_of};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use unfound::Wanted;
pub(crate) use unfound::is_script;

/// Of how many runs of a constant-time command one is timed.
const TIMED_ONE_IN: u32 = 16;
/// The first runs of every command are timed, so that rare commands have a histogram.
const TIMED_FIRST: u64 = 64;

/// A command on whole databases that has everything to itself.
type RunAlone = fn(&mut KeyspaceCtx<'_>, &Args<'_>) -> Result<(), Error>;

/// How long clients are waited for at a time while a script is busy.
pub const ATTENDS: Duration = Duration::from_millis(5);

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
    /// For routes whose keys have room of their own.
    share_evictors: Vec<Evictor>,
    /// Keys that come from sources.
    routes: Arc<Routes>,
    /// What the command at hand is to wait for.
    wanted: Vec<Wanted>,
    turns: u32,
    /// Commands in constant time are timed in this turn, for the others of their kind.
    timing_turn: bool,
    attentive: bool,
    /// The number in the log of what was changed last before the connection at hand.
    pub logged_before: u64,
    /// What is at hand was settled before and is to stay as it is; see `settle.rs`.
    is_settled: bool,
    /// Commands that have run the short way and are not among [`WorkerStats::commands`] yet.
    short_runs: u64,
    /// Commands of all when those of the connection at hand began, or were counted last.
    commands_before: u64,
    /// How often the script that just ended has failed by the errors it answered, as Redis counts: once for each that a command
    /// of it had failed with, and once for all others.
    answered_errors: u64,
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
    /// Requests and replies of at least these sizes are logged.
    large: LargeSizes,
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
    /// Keys that changed in this turn, and who changed them last, for those who hear of all with some beginning.
    pub broadcast: BTreeMap<Box<[u8]>, u64>,
    /// What the worker lends to a script that may run for long: so that its clients are answered meanwhile.
    pub desk: Desk,
    /// Requests are answered that a script is busy, but for the few that are not.
    pub answers_busy: bool,
    /// What TIME answers in the transaction or script at hand, once it has been asked, in microseconds of Unix time.
    pub unit_micros: Option<u64>,
    /// Most memory of all clients together, in bytes; 0 for no limit.
    client_bytes_max: usize,
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
            share_evictors: Vec::new(),
            routes: Arc::default(),
            wanted: Vec::new(),
            turns: 0,
            timing_turn: false,
            attentive: true,
            logged_before: 0,
            is_settled: false,
            short_runs: 0,
            commands_before: 0,
            answered_errors: 0,
            mark: (0, 0),
            until_memory_check: 0,
            over_limit: false,
            is_limited: false,
            turn_swept: 0,
            commands_observed: 0,
            is_evicting: false,
            own_bytes_checked: 0,
            slow_nanos_min: u64::MAX,
            large: LargeSizes::NONE,
            time_all: false,
            subscribers: Subscribers::default(),
            undelivered: Vec::new(),
            held_back: Vec::new(),
            set_aside: Vec::new(),
            broadcast: BTreeMap::new(),
            desk: Desk::default(),
            answers_busy: false,
            unit_micros: None,
            client_bytes_max: 0,
            reply_is_push: false,
        };
        core.local.secret = Some(random_token);
        core.local.effects.tell(Arc::clone(&server.keyspace.followed));
        core.local.effects.log.join(Arc::clone(&server.journal.numbers));
        core.local.effects.log.set_dump(larder_commands::keys::write_payload);
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
        (client, protocol): (&Client, Protocol),
        out: &mut Output,
        row: &'static Row,
        run: RunOnKeys,
        args: &Args<'_>,
        hash: u64,
    ) -> Outcome {
        self.mark = out.mark();
        let is_timed = self.timing_turn || self.stats.by_command[row.id].calls.get() < TIMED_FIRST;
        let start = if is_timed { Some(self.stopwatch.ticks()) } else { None };
        let Some(locked) = lock_one(database, hash) else { return Outcome::Later };
        let logs = self.local.effects.log.is_on();
        if logs {
            self.local.effects.begin_logged();
        }
        let db = Db::on(database, locked, &mut self.local);
        let mut cx = Ctx::new(db, Reply::new(out, protocol), &self.limits, (row.first_key, hash));
        let result = run(&mut cx, args);
        let db = cx.into_db();
        if logs {
            db.local.effects.end_logged(db.index(), args.from(0));
        }
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
        // What waits for the client is at least as large as this reply.
        let is_large = out.len() >= self.large.reply || args.wire_bytes() >= self.large.request;
        if result.is_err() || start.is_some() || is_large {
            self.end_short_run((client, protocol), out, (row, args), result, start);
        }
        Outcome::Done
    }

    /// What is rare at the end of [`Core::run_on_key`]: an error, or a run that was timed.
    #[cold]
    fn end_short_run(
        &mut self,
        (client, protocol): (&Client, Protocol),
        out: &mut Output,
        (row, args): (&'static Row, &Args<'_>),
        result: Result<(), Error>,
        start: Option<u64>,
    ) {
        if let Err(error) = result {
            self.stats.by_command[row.id].failed.add(1);
            out.truncate(self.mark);
            self.count_error(error.text());
            if protocol != Protocol::Memcached || !is_quiet(row.spec.name.as_bytes(), args) {
                Reply::new(out, protocol).error(error.text());
            }
        }
        self.look_whether_large(client, out.since(self.mark), row, args, args.wire_bytes());
        if let Some(start) = start {
            let nanos = self.stopwatch.nanos(start, self.stopwatch.ticks());
            let is_one_of_few = self.stats.by_command[row.id].calls.get() <= TIMED_FIRST;
            self.count_time(row.id, nanos, if is_one_of_few { 1 } else { u64::from(TIMED_ONE_IN) });
            self.look_whether_slow(client, row, args, nanos);
        }
    }

    /// Whether a command goes the long way because it may write a key that comes from a source.
    #[inline]
    pub fn asks_before(&self, row: &Row) -> bool {
        self.local.unfound.is_on && row.has(Flags::WRITE)
    }

    /// Most memory of all clients together, in bytes; 0 for no limit.
    #[inline]
    pub fn client_bytes_max(&self) -> usize {
        self.client_bytes_max
    }

    /// Whether anything asks for more than the short way: a pause, a monitor, or a slow log that wants every command
    /// timed.
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
        self.take_settings_over();
        self.local.settles = !self.is_settled && self.server.keyspace.is_lagging();
        self.attentive = self.local.settles
            || self.time_all
            || self.server.loading.is_on()
            || self.server.pause.until_ms.load(Relaxed) != 0
            || self.server.monitors.load(Relaxed) != 0
            || self.server.journal.is_in_trouble()
            || self.server.journal.is_congested()
            || self.server.snapshots.holds_writes()
            || self.server.snapshots.has_failed()
            || self.lacks_replicas();
        self.attentive
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
        self.local.leaves_expired = self.server.is_paused(self.local.now, true) && !row.may_write();
        let few = self.stats.by_command[row.id].calls.get() < TIMED_FIRST;
        let always = !row.is_brief || self.time_all || few;
        let scale = if always { 1 } else { u64::from(TIMED_ONE_IN) };
        let timed = always || self.timing_turn;
        let start = if timed { self.stopwatch.ticks() } else { 0 };
        self.mark = out.mark();
        let mark = self.mark;
        let dispatched = self.dispatch(conn, out, row, args, hash, held);
        self.local.leaves_expired = false;
        let failed = match dispatched {
            Ok(true) => false,
            Ok(false) => return self.hold_back(conn, out, row),
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
        // What a busy script has changed is nobody's before it ends.
        if self.local.effects.has_ready() && !conn.is_in_exec && !self.answers_busy {
            self.serve_ready();
        }
        if matches!(conn.parked, Some(Parked::Load(_) | Parked::Busy)) {
            out.truncate(mark);
            return Outcome::Later;
        }
        if matches!(conn.parked, Some(Parked::Ticket(_))) {
            let nanos = if timed { self.stopwatch.nanos(start, self.stopwatch.ticks()) } else { 0 };
            self.leave_unfinished(conn, row, args, nanos);
            return Outcome::Done;
        }
        let stats = &self.stats.by_command[row.id];
        stats.calls.add(1);
        self.stats.commands.add(1);
        let failures = u64::from(failed) + std::mem::take(&mut self.answered_errors);
        if failures > 0 {
            stats.failed.add(failures);
        }
        self.count_changes();
        if row.has(Flags::ADMIN) && !conn.is_in_exec {
            // What it has set says already whether it is logged.
            self.take_settings_over();
        }
        let request_bytes = if conn.is_in_exec { 0 } else { args.wire_bytes() };
        self.look_whether_large(&conn.client, out.since(mark), row, args, request_bytes);
        if timed {
            let nanos = self.stopwatch.nanos(start, self.stopwatch.ticks());
            self.count_time(row.id, nanos, scale);
            self.look_whether_slow(&conn.client, row, args, nanos);
        }
        Outcome::Done
    }

    /// Notes that a command's answer comes later.
    fn leave_unfinished(&mut self, conn: &mut Connection, row: &'static Row, args: &Args<'_>, nanos: u64) {
        let is_logged = self.settings.slowlog_log_slower_than() >= 0 && !row.has(Flags::SKIP_SLOWLOG);
        let words = if is_logged { shorten(monitor::redacted(row, args)) } else { Vec::new() };
        conn.unfinished = Some(Unfinished { row, nanos, words });
        self.count_changes();
    }

    /// What it needs is locked elsewhere: it is asked again, unless a script is busy, which may take for ever.
    #[cold]
    fn hold_back(&mut self, conn: &mut Connection, out: &mut Output, row: &'static Row) -> Outcome {
        match self.server.busy_text().filter(|_| !conn.is_in_exec) {
            Some(text) => {
                conn.parked = None;
                out.truncate(self.mark);
                self.refuse(conn, out, Some(row), &Error::custom(text))
            }
            None => {
                conn.parked = Some(Parked::Busy);
                Outcome::Later
            }
        }
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
        if conn.tracked.is_some() && !matches!(row.run, RowRun::Keys(_)) {
            // It locks its keys by itself: what changes from here on is told behind its reply.
            enter_reads(self.server, conn, row, args);
        }
        match row.run {
            RowRun::Keys(run) => return self.dispatch_on_keys(conn, out, (row, run), args, hash, held),
            RowRun::Keyspace(run) => {
                let catalog = self.server.registry.catalog();
                let may_read_any =
                    conn.user.is_free() || conn.user.reads_all_keys(catalog, row.id, args, conn.db.0);
                let (mut cx, waiters) = self.keyspace_cx(conn, out);
                cx.may_read_any = may_read_any;
                cx.begin_logged();
                let answer = run(&mut cx, args);
                cx.end_logged(args);
                if cx.is_busy {
                    return Ok(false);
                }
                if cx.local.effects.has_ready() && !conn.is_in_exec {
                    waiters.serve(&mut cx.held, cx.local);
                }
                answer?;
            }
            RowRun::Exclusive(run) => return self.run_alone(conn, out, (row, run), args),
            RowRun::Host(run) => {
                run(&mut Host { core: self, conn, out }, args)?;
                return Ok(conn.parked != Some(Parked::Busy));
            }
            RowRun::HostExclusive(run) => match self.alone(|core| run(&mut Host { core, conn, out }, args)) {
                Some(answer) => answer?,
                None => return Ok(false),
            },
            RowRun::Container => return Err(Error::arity(&row.name)),
        }
        Ok(true)
    }

    /// The same for a command on declared keys.
    #[inline]
    fn dispatch_on_keys(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        (row, run): (&'static Row, RunOnKeys),
        args: &Args<'_>,
        hash: u64,
        held: Option<&mut Held<'static>>,
    ) -> Result<bool, Error> {
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
        let logs = db.local.effects.log.is_on();
        if logs {
            db.local.effects.begin_logged();
        }
        let mut cx = Ctx::new(db, Reply::new(out, conn.protocol), &self.limits, (row.first_key, hash));
        let result = run(&mut cx, args);
        if logs {
            cx.db.local.effects.end_logged(conn.db, args.from(0));
        }
        if conn.tracked.is_some() {
            enter_reads(self.server, conn, row, args);
        }
        result?;
        if let Some(wait) = cx.take_wait() {
            serve::park(self.server, conn, row, args, &wait, &mut cx.reply);
        }
        if cx.db.local.effects.has_ready() && !conn.is_in_exec {
            let (server, worker, limits, stopwatch) = (self.server, self.id, &self.limits, &self.stopwatch);
            Waiters { server, worker, limits, stopwatch }.serve_after(cx.into_db());
        }
        Ok(true)
    }

    /// Runs a command that has everything to itself. `Ok(false)`: it cannot have it.
    fn run_alone(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        (row, run): (&'static Row, RunAlone),
        args: &Args<'_>,
    ) -> Result<bool, Error> {
        let (mark, garbage_before) = (out.mark(), self.local.garbage.len());
        let answer = self.alone(|core| {
            let mut cx = core.keyspace_cx(conn, out).0;
            cx.local.effects.begin_logged();
            let answer = run(&mut cx, args);
            cx.local.effects.end_logged(cx.db, args.from(0));
            answer
        });
        match answer {
            Some(answer) => answer?,
            None => return Ok(false),
        }
        let is_flush = matches!(row.spec.name, "flushall" | "flushdb");
        if row.spec.name == "flushall" {
            self.save_emptiness(conn, out, mark);
        }
        if is_flush && flush_waits(args, &self.limits) {
            if conn.is_in_exec {
                self.local.garbage.iter_mut().skip(garbage_before).for_each(Garbage::unask);
            } else if conn.parked.is_none() {
                self.answer_once_freed(conn, out, mark);
            }
        }
        Ok(true)
    }

    /// Everything was removed: no snapshot of what there was goes on, and where snapshots are made there is one of nothing, behind
    /// which the command is answered.
    #[cold]
    fn save_emptiness(&mut self, conn: &mut Connection, out: &mut Output, mark: (usize, usize)) {
        // It is of nothing that is still there.
        give_up(self.server, "all data was removed");
        if self.settings.save().is_empty() {
            return;
        }
        let asker = if conn.is_in_exec {
            None
        } else {
            out.truncate(mark);
            let ticket = Host { core: self, conn, out }.park();
            Some(Asker { worker: self.id, client: conn.client.id, ticket })
        };
        ask_for(self, Job::Flush(asker));
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
            may_read_any: true,
            logs: false,
        };
        (cx, Waiters { server, worker: *id, limits, stopwatch })
    }

    /// Runs `work` while no other worker is inside a turn. `None` where a script elsewhere is busy: nothing was done.
    pub(crate) fn alone<R>(&mut self, work: impl FnOnce(&mut Core) -> R) -> Option<R> {
        if self.is_alone {
            return Some(work(self));
        }
        // It may take long, and the log of all threads goes on behind what this one has.
        self.hand_log_over();
        // Our own turn must be closed, or two workers that both want everything would wait for each
        // other.
        self.turn = None;
        let server = self.server;
        let Some(exclusive) = server.keyspace.world.try_exclusive(&|| server.is_kept_from_everything())
        else {
            self.wait_for_turn();
            return None;
        };
        self.is_alone = true;
        self.local.look_for_snapshot(&server.keyspace);
        if server.debts.any() {
            self.pay_debts();
        }
        let result = work(self);
        if self.local.effects.has_ready() {
            self.serve_ready();
        }
        self.is_alone = false;
        self.turn = Some(exclusive.into_turn(self.id));
        Some(result)
    }

    /// Opens the turn again in the middle of it, once nobody has everything.
    #[cold]
    fn wait_for_turn(&mut self) {
        let mut patience = Patience::default();
        loop {
            self.turn = self.server.keyspace.world.try_enter(self.id);
            if self.turn.is_some() {
                self.local.look_for_snapshot(&self.server.keyspace);
                return;
            }
            if self.server.busy.load(Relaxed) != 0 {
                self.attend_meanwhile(ATTENDS);
            } else {
                patience.wait();
            }
        }
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
        self.answered_errors = 0;
        self.local.effects.set_client(0);
        self.local.effects.log.close_all();
        self.local.unfound.is_on = !self.routes.is_empty();
        self.local.leaves_expired = false;
        (self.is_alone, self.is_settled, conn.is_in_exec) = (false, false, false);
        if self.turn.is_none() {
            self.wait_for_turn();
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
