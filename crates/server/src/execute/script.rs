//! A script of EVAL or a function of FCALL: run on its connection's worker, its commands as those of a transaction are.
//!
//! Invariants: what a script sees and changes nobody sees in between; whatever ends it, the connection is as it was before.
//! Read next: `larder_script`'s `engine.rs` for the Lua side, `exec.rs` for transactions.

use super::Core;
use super::admit::{MISCONF, NO_REPLICAS};
use super::exec::places;
use super::is_script;
use crate::alloc;
use crate::clock;
use crate::connection::{Connection, Parked};
use crate::monitor;
use crate::registry::{InMulti, Row, RowRun};
use crate::scripts::{Digest, Learned, Reach, Script, digest_of, parse_digest};
use crate::{REDIS_VERSION, REDIS_VERSION_NUMBER};
use foldhash::{HashMap, HashMapExt};
use larder_commands::spec::Flags as CommandFlags;
use larder_commands::{Args, Error};
use larder_resp::{Output, Protocol, Reply};
use larder_script::library::{Found, Library};
use larder_script::{Compiled, Ended, Engine, Failure, Flags, Host, Info, Verdict, Words, parse_header};
use larder_store::{Exclusive, Held, Keyspace, LOCK_ATTEMPTS, Place};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

/// The most memory that scripts of one worker may hold.
const MEMORY_MAX: usize = 512 << 20;
/// A script that runs commands without end is looked after once in so many.
const CALLS_A_TICK: u32 = 256;
/// Compiled scripts that may be unwanted before they are looked through.
const UNWANTED_MAX: usize = 64;
/// Memory that scripts have freed goes back to the system at once where it is more.
const PURGED_MIN: usize = 32 << 20;

/// What one worker has of scripts.
struct Workshop {
    engine: Engine,
    compiled: HashMap<Digest, (Arc<Script>, Compiled)>,
}

thread_local! {
    /// A Lua state cannot leave its thread, and a worker is made on another.
    static WORKSHOP: RefCell<Option<Workshop>> = const { RefCell::new(None) };
}

/// How a script is called.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// It may not write (EVAL_RO).
    pub is_read_only: bool,
    /// How many of the words are keys; they begin at word 3.
    pub keys: usize,
}

/// Whether a command runs a script that may write: one that declares so, or declares nothing and is not called to read only.
pub(super) fn is_script_that_writes(row: &Row, declared: Option<Flags>) -> bool {
    declared.map_or_else(|| matches!(row.spec.name, "eval" | "evalsha" | "fcall"), |flags| !flags.no_writes)
}

impl Core {
    /// EVAL and EVALSHA: the script at hand, by its text or by its digest.
    ///
    /// # Errors
    /// Where there is no such script or it may not run.
    pub fn eval(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        script: &Arc<Script>,
        args: &Args<'_>,
        call: Call,
    ) -> Result<(), Error> {
        let terms = self.terms(script.flags, call)?;
        WORKSHOP.with_borrow_mut(|workshop| {
            let workshop = open(workshop)?;
            let compiled = workshop.compiled(script)?;
            self.server.scripts.touch(script);
            let name = &script.digest;
            let run = Run::new(&workshop.engine, compiled, terms, (call, args), name, &script.reach);
            let answer = self.run_and_answer(conn, out, &run);
            self.note_memory(&workshop.engine);
            answer
        })
    }

    /// FCALL: a function of a library.
    ///
    /// # Errors
    /// Where it may not run.
    pub fn call_function(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        (found, reach): (&Found, &Learned),
        args: &Args<'_>,
        call: Call,
    ) -> Result<(), Error> {
        let declared = found.declared();
        let terms = self.terms(declared.flags, call)?;
        WORKSHOP.with_borrow_mut(|workshop| {
            let workshop = open(workshop)?;
            let compiled = workshop.engine.function(found, &mut Loading::new()).map_err(Error::custom)?;
            let name = &declared.name;
            let mut run = Run::new(&workshop.engine, compiled, terms, (call, args), name, reach);
            run.is_function = true;
            let answer = self.run_and_answer(conn, out, &run);
            self.note_memory(&workshop.engine);
            answer
        })
    }

    /// What a script says of itself, where a command is to run one that says anything: by that the command is judged, in place
    /// of its own flags.
    pub(super) fn declared_flags(&self, row: &Row, args: &Args<'_>) -> Option<Flags> {
        let scripts = &self.server.scripts;
        let flags = match row.spec.name {
            "eval" | "eval_ro" => parse_header(args.get(1)).ok().map(|header| header.flags),
            "evalsha" | "evalsha_ro" => {
                parse_digest(args.get(1)).and_then(|digest| scripts.get(&digest)).map(|script| script.flags)
            }
            "fcall" | "fcall_ro" => {
                self.server.functions.find(args.get(1)).map(|(found, _)| found.declared().flags)
            }
            _ => None,
        };
        flags.filter(|flags| !flags.is_silent)
    }

    /// Runs a library's text, to learn which functions it has.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_library(&mut self, text: &[u8]) -> Result<Library, Error> {
        WORKSHOP.with_borrow_mut(|workshop| {
            let workshop = open(workshop)?;
            workshop.engine.read_library(text, &mut Loading::new()).map_err(Error::custom)
        })
    }

    /// What holds for all commands of a script that is to run.
    fn terms(&mut self, flags: Flags, call: Call) -> Result<Terms, Error> {
        if call.is_read_only && !flags.is_silent && !flags.no_writes {
            return Err(Error::of("ERR Can not execute a script with write flag using *_ro command."));
        }
        let is_out_of_memory = self.is_limited && !self.make_room();
        if is_out_of_memory && flags.needs_memory() {
            return Err(Error::of(
                "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
            ));
        }
        if self.refuses_writes() && !flags.is_silent && !flags.no_writes {
            return Err(Error::of(MISCONF));
        }
        if self.lacks_replicas() && !flags.is_silent && !flags.no_writes {
            return Err(Error::of(NO_REPLICAS));
        }
        let is_read_only = call.is_read_only || flags.no_writes;
        Ok(Terms { allows_oom: flags.allow_oom, is_read_only, is_out_of_memory })
    }

    fn run_and_answer(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        run: &Run<'_>,
    ) -> Result<(), Error> {
        match self.run_somewhere(conn, out, run) {
            Some(ended) => self.answer_end(conn, out, ended, run.name),
            None => {
                conn.parked = Some(Parked::Busy);
                Ok(())
            }
        }
    }

    /// Runs a script on the shards of its keys, if it is known to keep to them; or else on everything there is. `None` where
    /// that cannot be had at the moment, and nothing was done.
    fn run_somewhere(&mut self, conn: &mut Connection, out: &mut Output, run: &Run<'_>) -> Option<Ended> {
        let reach = run.reach;
        // One worker locks nothing anyway.
        let learns = self.server.mailboxes.len() > 1 && !self.is_alone;
        if reach.get() == Reach::Declared && learns {
            self.note_places(conn, run);
            let held = self.hold()?;
            let (ended, gave_up) = self.run_script(conn, out, run, Grip::Shards(held));
            if !gave_up {
                return Some(ended);
            }
            // It met a key that is locked elsewhere before it wrote anything: it begins again.
        }
        if !learns || reach.get() != Reach::Unknown {
            return self.alone(|core| core.run_script(conn, out, run, Grip::Everything).0);
        }
        self.note_places(conn, run);
        let grip = Grip::EverythingAndLearns(self.places.clone());
        let (ended, _) = self.alone(|core| core.run_script(conn, out, run, grip))?;
        // One that failed has not shown all.
        if matches!(ended, Ended::Answered) && reach.get() == Reach::Unknown {
            reach.learn(Reach::Declared);
        }
        Some(ended)
    }

    /// Notes where the declared keys lie.
    fn note_places(&mut self, conn: &Connection, run: &Run<'_>) {
        let keyspace: &'static Keyspace = &self.server.keyspace;
        self.places.clear();
        let keys = run.args.from(3).take(run.keys);
        self.places.extend(keys.map(|key| keyspace.place(conn.db, keyspace.hash(key))));
        self.places.sort_unstable();
        self.places.dedup();
    }

    /// Runs a script on what is locked. The second value says that it is to begin again, with everything.
    fn run_script(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        run: &Run<'_>,
        grip: Grip,
    ) -> (Ended, bool) {
        let server = self.server;
        if !run.is_shown.replace(true) {
            self.show_script(conn, run.args);
        }
        let (mark, protocol) = (self.mark, conn.protocol);
        let (db, was_in_exec) = (conn.db, std::mem::replace(&mut conn.is_in_exec, true));
        if !was_in_exec {
            self.unit_micros = None;
        }
        server.running[self.id].begin(clock::unix_millis().0, run.is_function);
        let (mut everything, mut is_roaming) = (None, false);
        // It may take long, and the log of all threads goes on behind what this one has.
        self.hand_log_over();
        self.local.effects.log.open();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let (args, name) = (run.args, run.name);
            let mut session = Session {
                core: self,
                conn,
                terms: run.terms,
                grip,
                gave_up: false,
                reach: run.reach,
                everything: &mut everything,
                is_roaming: &mut is_roaming,
                args,
                name,
                calls: 0,
                is_failed: false,
            };
            let reply = &mut Reply::new(out, protocol);
            let ended = if run.is_function {
                let (keys, rest) = (args.from(3).take(run.keys), args.from(3 + run.keys));
                run.engine.call(run.compiled, keys, rest, &mut session, reply)
            } else {
                run.engine.run(run.compiled, run.keys, args.from(3), &mut session, reply)
            };
            session.core.answered_errors += u64::from(session.is_failed);
            session.core.local.effects.log.mute(false);
            session.core.local.effects.log.close();
            session.serve_waiters(was_in_exec);
            (ended, session.gave_up)
        }));
        if let Some(exclusive) = everything {
            self.is_alone = false;
            self.turn = Some(exclusive.into_turn(self.id));
        }
        if is_roaming {
            server.roaming.store(false, Relaxed);
        }
        server.running[self.id].end(&server.busy);
        self.mark = mark;
        (conn.protocol, conn.is_in_exec) = (protocol, was_in_exec);
        conn.select(db);
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Counts what Lua holds, and gives what it has freed back to the system where that is much: the allocator would only do so
    /// when this worker allocates again.
    fn note_memory(&self, engine: &Engine) {
        self.stats.script_bytes.set(engine.used_memory() as u64);
        if engine.take_freed() > PURGED_MIN {
            alloc::purge();
        }
    }

    /// Answers how a script ended that has no value.
    fn answer_end(
        &mut self,
        conn: &Connection,
        out: &mut Output,
        ended: Ended,
        name: &[u8],
    ) -> Result<(), Error> {
        let Failure { mut text, place, is_counted } = match ended {
            Ended::Answered => return Ok(()),
            Ended::Failed(failure) => failure,
            Ended::Stopped(place) => Failure { text: KILLED.as_bytes().to_vec(), place, is_counted: false },
        };
        if let Some((source, line)) = place {
            text.extend([&b" script: "[..], name, b", on ", &source].concat());
            text.extend(format!(":{line}.").into_bytes());
        }
        if is_counted {
            self.answered_errors += 1;
            Reply::new(out, conn.protocol).error(&text);
            return Ok(());
        }
        Err(Error::custom(text))
    }

    /// The script with this text; it is compiled, so that one which cannot be is not kept.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn script_of(&mut self, body: &[u8], keep: bool) -> Result<Arc<Script>, Error> {
        let digest = digest_of(body);
        WORKSHOP.with_borrow_mut(|workshop| {
            let workshop = open(workshop)?;
            if let Some((script, _)) = workshop.compiled.get(&digest)
                && !script.is_gone()
                && !keep
            {
                return Ok(Arc::clone(script));
            }
            if let Some(script) = self.server.scripts.get(&digest).filter(|_| !keep) {
                return Ok(script);
            }
            let header = parse_header(body).map_err(Error::custom)?;
            let code = body.get(header.code_at..).unwrap_or_default();
            workshop.make_room(MEMORY_MAX / 2);
            let compiled = compile(&mut workshop.engine, code)?;
            let script = self.server.scripts.add(digest, body, (header.flags, header.code_at), keep);
            if let Some((_, old)) = workshop.compiled.insert(digest, (Arc::clone(&script), compiled)) {
                workshop.engine.forget(old);
            }
            workshop.tidy_up(self.server.scripts.len());
            self.note_memory(&workshop.engine);
            Ok(script)
        })
    }

    /// Gives back what this worker has compiled of libraries that are no more. Others do when they next load one.
    pub fn forget_libraries(&mut self) {
        WORKSHOP.with_borrow_mut(|workshop| {
            if let Some(workshop) = workshop {
                workshop.engine.forget_libraries();
            }
        });
    }

    /// Gives back what this worker has compiled. Others do when they next run a script.
    pub fn forget_scripts(&mut self) {
        WORKSHOP.with_borrow_mut(|workshop| *workshop = None);
        self.stats.script_bytes.set(0);
    }

    /// The script with this digest, if there is one.
    pub fn script_by_digest(&self, digest: &Digest) -> Option<Arc<Script>> {
        let known = WORKSHOP.with_borrow(|workshop| {
            let (script, _) = workshop.as_ref()?.compiled.get(digest)?;
            (!script.is_gone()).then(|| Arc::clone(script))
        });
        known.or_else(|| self.server.scripts.get(digest))
    }
}

/// The worker's workshop, opened when it is first needed.
fn open(workshop: &mut Option<Workshop>) -> Result<&mut Workshop, Error> {
    if workshop.is_none() {
        let info =
            Info { version: REDIS_VERSION, version_number: REDIS_VERSION_NUMBER, memory_max: MEMORY_MAX };
        let engine = Engine::new(&info)
            .map_err(|error| Error::custom(format!("ERR scripts cannot be run: {error}").into_bytes()))?;
        *workshop = Some(Workshop { engine, compiled: HashMap::new() });
    }
    workshop.as_mut().ok_or(Error::of("ERR scripts cannot be run"))
}

fn compile(engine: &mut Engine, code: &[u8]) -> Result<Compiled, Error> {
    engine
        .compile("@user_script", code)
        .map_err(|text| Error::custom([&b"ERR Error compiling script (new function): "[..], &text].concat()))
}

impl Workshop {
    /// The script as this worker has compiled it.
    fn compiled(&mut self, script: &Arc<Script>) -> Result<Compiled, Error> {
        if let Some((known, compiled)) = self.compiled.get(&script.digest)
            && Arc::ptr_eq(known, script)
        {
            return Ok(*compiled);
        }
        self.make_room(MEMORY_MAX / 2);
        let compiled = compile(&mut self.engine, script.code())?;
        if let Some((_, old)) = self.compiled.insert(script.digest, (Arc::clone(script), compiled)) {
            self.engine.forget(old);
        }
        Ok(compiled)
    }

    /// Forgets all that is compiled, where nothing else helps against holding more than `max` bytes: it is compiled again when it is
    /// wanted, and no script could run if what is compiled took all the memory.
    fn make_room(&mut self, max: usize) {
        if self.engine.used_memory() <= max {
            return;
        }
        self.engine.collect();
        if self.engine.used_memory() > max {
            self.compiled.drain().for_each(|(_, (_, compiled))| self.engine.forget(compiled));
            self.engine.collect();
        }
    }

    /// Forgets what is not wanted any more, once it is much.
    fn tidy_up(&mut self, wanted: usize) {
        if self.compiled.len() <= wanted + UNWANTED_MAX {
            return;
        }
        let engine = &mut self.engine;
        self.compiled.retain(|_, (script, compiled)| {
            if script.is_gone() {
                engine.forget(*compiled);
            }
            !script.is_gone()
        });
    }
}

/// What holds for all commands of one run.
#[derive(Debug, Clone, Copy)]
struct Terms {
    allows_oom: bool,
    is_read_only: bool,
    /// Memory was over its limit when the script began.
    is_out_of_memory: bool,
}

/// A script that is to run.
struct Run<'a> {
    reach: &'a Learned,
    is_function: bool,
    engine: &'a Engine,
    compiled: Compiled,
    terms: Terms,
    /// How many of the words are keys; they begin at word 3.
    keys: usize,
    args: &'a Args<'a>,
    /// The script's digest or the function's name.
    name: &'a [u8],
    /// Those who monitor have been shown it.
    is_shown: Cell<bool>,
}

impl<'a> Run<'a> {
    fn new(
        engine: &'a Engine,
        compiled: Compiled,
        terms: Terms,
        (call, args): (Call, &'a Args<'a>),
        name: &'a [u8],
        reach: &'a Learned,
    ) -> Run<'a> {
        let (is_function, is_shown) = (false, Cell::new(false));
        Run { reach, is_function, engine, compiled, terms, keys: call.keys, args, name, is_shown }
    }
}

/// What is locked for a script.
enum Grip {
    /// The shards of its keys, and of what it has come upon since.
    Shards(Held<'static>),
    /// Everything; which of it the script touches is learned, by where its keys lie.
    EverythingAndLearns(Vec<Place>),
    /// Everything.
    Everything,
}

/// A script that runs, and what it runs on.
struct Session<'a> {
    core: &'a mut Core,
    conn: &'a mut Connection,
    terms: Terms,
    grip: Grip,
    /// It is to begin again, with everything.
    gave_up: bool,
    reach: &'a Learned,
    /// It began on some shards and has everything since.
    everything: &'a mut Option<Exclusive<'static>>,
    /// It is the one that may have everything while it holds shards.
    is_roaming: &'a mut bool,
    /// How it was called.
    args: &'a Args<'a>,
    name: &'a [u8],
    /// Commands so far.
    calls: u32,
    /// It answers an error that no command of it has failed with.
    is_failed: bool,
}

impl Host for Session<'_> {
    fn call(&mut self, words: Words<'_>, protocol: Protocol, reply: &mut Output) -> Verdict {
        let args = Args::new(words.bytes, words.spans);
        self.conn.protocol = protocol;
        let row = match self.admit(&args) {
            Ok(row) => row,
            Err((row, error)) => {
                if let Some(stats) = row.and_then(|row| self.core.stats.by_command.get(row.id)) {
                    stats.rejected.add(1);
                }
                self.core.count_error(error.text());
                Reply::new(reply, protocol).error(error.text());
                return Verdict::GoOn;
            }
        };
        let hash =
            if row.first_key == 0 { 0 } else { self.core.server.keyspace.hash(args.get(row.first_key)) };
        match self.reach_for(row, &args, hash) {
            Ok(()) => {}
            Err(None) => return Verdict::Stop,
            Err(Some(error)) => {
                self.core.count_error(error.text());
                Reply::new(reply, protocol).error(error.text());
                return Verdict::GoOn;
            }
        }
        if row.has(CommandFlags::WRITE) {
            self.core.server.running[self.core.id].has_written.store(true, Relaxed);
        }
        let held = if let Grip::Shards(held) = &mut self.grip { Some(held) } else { None };
        self.core.run(self.conn, reply, row, &args, hash, held);
        if self.conn.parked.take().is_some() {
            // Nothing may wait, and what waits all the same is not waited for.
            self.conn.unfinished = None;
            self.conn.client.parked.store(false, Relaxed);
            reply.clear();
            Reply::new(reply, protocol).error(NOT_FROM_SCRIPTS.as_bytes());
        }
        self.core.reply_is_push = false;
        self.core.show_script_command(self.conn, row, &args);
        self.calls = self.calls.wrapping_add(1);
        if self.calls.is_multiple_of(CALLS_A_TICK) { self.tick() } else { Verdict::GoOn }
    }

    fn may(&mut self, words: Words<'_>) -> Option<bool> {
        let args = Args::new(words.bytes, words.spans);
        let registry = &self.core.server.registry;
        let row = registry.find(args.get(0))?;
        // How many words there are is not asked.
        let row = match args.try_get(1) {
            Some(word) if !row.subcommands.is_empty() => row.subcommand(word)?,
            _ => row,
        };
        Some(self.conn.user.check(registry.catalog(), row.id, &args, self.conn.db.0).is_ok())
    }

    fn answers_error(&mut self, text: &[u8], is_counted: bool) {
        if is_counted {
            self.core.answered_errors += 1;
            return;
        }
        self.core.count_error(text);
        self.is_failed = true;
    }

    fn log(&mut self, level: i64, text: &[u8]) {
        log(level, text);
    }

    fn replicate(&mut self, flags: i64) {
        self.core.local.effects.log.mute(flags & 1 == 0);
    }

    fn tick(&mut self) -> Verdict {
        let server = self.core.server;
        let running = &server.running[self.core.id];
        if !running.is_busy.load(Relaxed) {
            let threshold = self.core.settings.busy_reply_threshold();
            if threshold != 0 && running.millis() >= threshold {
                running
                    .become_busy(&server.busy, self.name, || self.args.from(0).map(<[u8]>::to_vec).collect());
                tracing::warn!(millis = running.millis(), "a script is slow; SCRIPT KILL ends it");
            }
        }
        if running.is_busy.load(Relaxed) {
            // Time stands still in a script until then.
            self.core.unit_micros = None;
            self.core.attend_meanwhile(Duration::ZERO);
        }
        let is_over = running.is_killed.load(Relaxed) || server.stop.load(Relaxed) != 0;
        if is_over { Verdict::Stop } else { Verdict::GoOn }
    }
}

/// How long a script that has written waits for another that is about to have everything.
const ROAMING_WAIT: Duration = Duration::from_secs(1);

/// Whether a command touches no keys but those it declares.
fn keeps_to_its_keys(row: &Row) -> bool {
    row.keeps_to_its_keys || matches!(row.spec.name, "time" | "lastsave" | "role")
}

/// How a script ends that SCRIPT KILL ended.
const KILLED: &str = "ERR Script killed by user with SCRIPT KILL...";
/// A library that is being loaded: it may write to the log, for some time.
struct Loading {
    start: Instant,
}

impl Loading {
    fn new() -> Loading {
        Loading { start: clock::now() }
    }
}

impl Host for Loading {
    fn call(&mut self, _: Words<'_>, protocol: Protocol, reply: &mut Output) -> Verdict {
        Reply::new(reply, protocol).error(NOT_FROM_SCRIPTS.as_bytes());
        Verdict::GoOn
    }

    fn may(&mut self, _: Words<'_>) -> Option<bool> {
        None
    }

    fn log(&mut self, level: i64, text: &[u8]) {
        log(level, text);
    }

    fn tick(&mut self) -> Verdict {
        if self.start.elapsed() > LOADING_MAX { Verdict::Stop } else { Verdict::GoOn }
    }
}

/// Writes what a script says to the log.
fn log(level: i64, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    match level {
        0 => tracing::debug!("{text}"),
        1 | 2 => tracing::info!("{text}"),
        _ => tracing::warn!("{text}"),
    }
}

/// How long a library may run while it is loaded.
const LOADING_MAX: Duration = Duration::from_millis(500);

/// The refusal of commands that scripts may not use.
const NOT_FROM_SCRIPTS: &str = "ERR This Redis command is not allowed from script";

impl Session<'_> {
    /// Sees that what a command needs is locked.
    ///
    /// # Errors
    /// `None` where the script is given up, to begin again with everything locked; a text where it has written and cannot have
    /// what it needs.
    #[inline]
    fn reach_for(&mut self, row: &'static Row, args: &Args<'_>, hash: u64) -> Result<(), Option<Error>> {
        match &mut self.grip {
            Grip::Everything => Ok(()),
            Grip::EverythingAndLearns(declared) => {
                let keyspace = &self.core.server.keyspace;
                let is_declared = match row.run {
                    RowRun::Keys(_) => places(keyspace, self.conn.db, row, args, hash)
                        .iter()
                        .all(|place| declared.binary_search(place).is_ok()),
                    _ => keeps_to_its_keys(row),
                };
                if !is_declared {
                    self.reach.learn(Reach::Beyond);
                }
                Ok(())
            }
            Grip::Shards(held) => {
                let keyspace: &'static Keyspace = &self.core.server.keyspace;
                let is_had = match row.run {
                    RowRun::Keys(_) => {
                        let mut wanted = places(keyspace, self.conn.db, row, args, hash);
                        wanted.retain(|place| !held.has(*place));
                        if !wanted.is_empty() {
                            // Whoever runs it from here on has everything from the start.
                            self.reach.learn(Reach::Beyond);
                        }
                        wanted
                            .iter()
                            .all(|place| (0..LOCK_ATTEMPTS).any(|_| keyspace.try_hold_free(*place, held)))
                    }
                    _ => keeps_to_its_keys(row),
                };
                if is_had { Ok(()) } else { self.roam() }
            }
        }
    }

    /// Has everything locked for a script that began with less.
    #[cold]
    fn roam(&mut self) -> Result<(), Option<Error>> {
        self.reach.learn(Reach::Beyond);
        let server = self.core.server;
        if !server.running[self.core.id].has_written.load(Relaxed) {
            self.gave_up = true;
            return Err(None);
        }
        let start = clock::now();
        // Differs from Redis: of two scripts that touch keys of each other which neither declared, at the same time, after both have
        // written, and when neither has done so before, one ends in an error.
        while server.roaming.swap(true, Acquire) {
            if start.elapsed() > ROAMING_WAIT || server.stop.load(Relaxed) != 0 {
                return Err(Some(Error::of(
                    "ERR the script touches a key that it did not declare and that another script holds",
                )));
            }
            self.core.attend_if_busy();
        }
        *self.is_roaming = true;
        // Everybody else leaves what is locked when their turns end.
        while let Some(turn) = self.core.turn.take() {
            match server.keyspace.world.try_upgrade(turn, &|| server.busy.load(Relaxed) != 0) {
                Ok(exclusive) => *self.everything = Some(exclusive),
                Err(turn) => {
                    self.core.turn = Some(turn);
                    self.core.attend_if_busy();
                }
            }
        }
        self.core.is_alone = true;
        self.grip = Grip::Everything;
        Ok(())
    }

    /// Serves those who wait for what the script has changed.
    fn serve_waiters(&mut self, is_in_exec: bool) {
        if is_in_exec || !self.core.local.effects.has_ready() {
            return;
        }
        self.core.count_changes();
        self.core.take_time();
        let (waiters, local) = self.core.waiters();
        match &mut self.grip {
            Grip::Shards(held) => waiters.serve(held, local),
            _ => waiters.serve(&mut Held::default(), local),
        }
    }

    /// Finds the command of a script's call.
    fn resolve(&self, args: &Args<'_>) -> Result<&'static Row, (Option<&'static Row>, Error)> {
        const UNKNOWN: Error = Error::of("ERR Unknown Redis command called from script");
        const MISCOUNTED: Error = Error::of("ERR Wrong number of args calling Redis command from script");
        let Some(row) = self.core.server.registry.find(args.get(0)) else { return Err((None, UNKNOWN)) };
        let row = match args.try_get(1) {
            Some(word) if !row.subcommands.is_empty() => row.subcommand(word).ok_or((None, UNKNOWN))?,
            _ => row,
        };
        let is_container = matches!(row.run, RowRun::Container);
        if is_container || !row.takes(args.len()) { Err((Some(row), MISCOUNTED)) } else { Ok(row) }
    }

    /// Everything that may refuse a script's command before it runs.
    fn admit(&mut self, args: &Args<'_>) -> Result<&'static Row, (Option<&'static Row>, Error)> {
        let row = self.resolve(args)?;
        // Differs from Redis: MIGRATE is refused in scripts, as it is inside MULTI: no lock is held while a network is waited for.
        // Also where DEBUG lets scripts call what they must not: no script runs and no transaction ends inside a script.
        let never = row.name == "migrate" || is_script(row) || row.in_multi != InMulti::Kept;
        let may_all = !never && self.core.server.scripts_may_all.load(Relaxed);
        if row.name == "migrate" || row.has(CommandFlags::NO_SCRIPT) && !may_all {
            return Err((Some(row), Error::of(NOT_FROM_SCRIPTS)));
        }
        self.core.check_access_in_script(self.conn, row, args).map_err(|error| (Some(row), error))?;
        if self.terms.is_read_only && row.may_write() {
            let error = Error::of("ERR Write commands are not allowed from read-only scripts.");
            return Err((Some(row), error));
        }
        let has_written = self.core.server.running[self.core.id].has_written.load(Relaxed);
        if row.has(CommandFlags::WRITE) && !has_written && self.core.refuses_writes() {
            return Err((Some(row), Error::of(MISCONF)));
        }
        if row.has(CommandFlags::WRITE) && !has_written && self.core.lacks_replicas() {
            return Err((Some(row), Error::of(NO_REPLICAS)));
        }
        if row.has(CommandFlags::DENY_OOM) {
            if self.terms.is_out_of_memory && !self.terms.allows_oom && !has_written {
                return Err((Some(row), Error::OutOfMemory));
            }
            let bytes_max = self.core.limits.entry_bytes_max;
            if bytes_max != usize::MAX && args.from(1).any(|word| word.len() > bytes_max) {
                return Err((Some(row), Error::EntryTooLarge));
            }
        }
        if row.may_write() && self.core.local.unfound.is_on {
            self.core.before_write_of_script(self.conn, row, args).map_err(|error| (Some(row), error))?;
        }
        Ok(row)
    }
}

impl Core {
    /// Lets others go on while something is waited for; clients too, where a script is busy.
    fn attend_if_busy(&mut self) {
        if self.server.busy.load(Relaxed) != 0 {
            self.attend_meanwhile(Duration::from_millis(1));
        } else {
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Shows a command of a script to those who monitor.
    #[inline]
    fn show_script_command(&self, conn: &Connection, row: &'static Row, args: &Args<'_>) {
        if self.server.monitors.load(Relaxed) != 0
            && !row.has(CommandFlags::SKIP_MONITOR)
            && !row.has(CommandFlags::ADMIN)
        {
            self.feed_monitors(monitor::line_of_script(conn.db, row, args, clock::unix_micros()));
        }
    }

    /// Shows EVAL and its kin to those who monitor: before their commands.
    pub fn show_script(&self, conn: &Connection, args: &Args<'_>) {
        if self.server.monitors.load(Relaxed) != 0
            && let Some(row) = self.server.registry.find(args.get(0))
        {
            self.feed_monitors(monitor::line(conn, row, args, clock::unix_micros()));
        }
    }
}
