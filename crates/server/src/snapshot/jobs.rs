//! What snapshots are made for by the server itself: SAVE and BGSAVE, `save` rules, the end of FLUSHALL and of the server.
//!
//! What cannot begin at once, since another is under way or a script is busy, waits in a queue; worker 0 looks at it ten times a second,
//! and whenever one has ended. Read next: `commands/save.rs`.

use super::{Failure, Form, Kind, Refused, Saved, Target, begin, changes_since};
use crate::clock;
use crate::execute::Core;
use crate::load;
use crate::process;
use crate::server::{Answer, Message, Server, Work};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// How long nothing is tried again in the background after a snapshot there failed, in seconds, as in Redis.
const RETRY_SECS: u64 = 5;

/// A client that waits for the end of a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// The worker that has its connection.
    pub worker: usize,
    /// Its number.
    pub client: u64,
    /// What the connection is parked under.
    pub ticket: u64,
}

impl Asker {
    /// Answers it.
    pub fn answer(self, server: &Server, reply: &[u8]) {
        server.mailboxes[self.worker].send(Message::Answer(Answer::new(self.client, self.ticket, reply)));
    }
}

/// How everything is loaded anew.
#[derive(Debug, Clone, Copy)]
pub struct Reload {
    /// What there is goes before.
    pub flushes: bool,
    /// What there is and is in the file, too, is replaced; else the file is refused.
    pub merges: bool,
}

/// A snapshot that is to be made as soon as it can be.
#[derive(Debug, Clone, Copy)]
pub enum Job {
    /// A client waits for it.
    Save(Asker),
    /// All data was removed, and the file is to show it.
    Flush(Option<Asker>),
    /// The server is to stop behind it; with `force` whatever comes of it.
    Shutdown {
        /// Who asked, where it was a client.
        asker: Option<Asker>,
        /// Also where there is no snapshot.
        force: bool,
    },
    /// Everything is to be loaded anew from it.
    Reload {
        /// Who asked.
        asker: Asker,
        /// How.
        how: Reload,
    },
}

impl Job {
    fn kind(self) -> Kind {
        match self {
            Job::Save(_) => Kind::Save,
            Job::Flush(_) => Kind::Flush,
            Job::Shutdown { .. } => Kind::Shutdown,
            Job::Reload { .. } => Kind::Reload,
        }
    }

    /// What is to be done when the snapshot is over.
    fn finish(self, server: &'static Server, result: Result<Saved, Failure>) {
        let is_good = note_result(server, &result, false);
        match self {
            Job::Save(asker) => asker.answer(server, if is_good { b"+OK\r\n" } else { b"-ERR\r\n" }),
            // As Redis: that the data is gone is true whatever became of the file.
            Job::Flush(asker) => asker.into_iter().for_each(|asker| asker.answer(server, b"+OK\r\n")),
            Job::Reload { asker, how } if is_good => reload(server, asker, how),
            Job::Reload { asker, .. } => {
                server.snapshots.is_ending.store(false, Relaxed);
                asker.answer(server, b"-ERR\r\n");
            }
            Job::Shutdown { asker, force } => {
                if is_good || force {
                    server.ask_to_stop();
                    return;
                }
                tracing::error!("Error trying to save the DB, can't exit.");
                let status = "STATUS=Error trying to save the DB, can't exit.";
                process::tell_supervisor(&server.settings(), status);
                server.snapshots.is_ending.store(false, Relaxed);
                server.snapshots.signals.store(0, Relaxed);
                let text = b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n";
                asker.into_iter().for_each(|asker| asker.answer(server, text));
            }
        }
    }
}

/// Where the file of the settings stands, whatever becomes of the working directory.
fn path(server: &Server) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let settings = server.settings();
    let name = Path::new(std::ffi::OsStr::from_bytes(settings.dbfilename())).to_owned();
    std::env::current_dir().map_or(name.clone(), |folder| folder.join(name))
}

fn target(server: &'static Server, done: impl FnOnce(Result<Saved, Failure>) + Send + 'static) -> Target {
    Target {
        path: path(server),
        form: Form::Rdb,
        aux: vec![("aof-base", b"0".to_vec())],
        at_start: Box::new(|| ()),
        done: Box::new(done),
    }
}

/// Keeps what is told of a snapshot that is over. Answers whether there is one.
fn note_result(server: &Server, result: &Result<Saved, Failure>, is_background: bool) -> bool {
    match result {
        Ok(saved) => {
            server.snapshots.changes_saved.store(saved.changes, Relaxed);
            server.last_save_secs.store(clock::unix_millis().0 / 1000, Relaxed);
            server.snapshots.has_failed.store(false, Relaxed);
            let what =
                if is_background { "Background saving terminated with success" } else { "DB saved on disk" };
            tracing::info!(
                "{what}: {} keys, {} bytes; up to {} bytes of memory held what was not yet written",
                saved.keys,
                saved.bytes,
                saved.peak_bytes
            );
            true
        }
        Err(Failure::Aborted) => {
            tracing::info!("Background saving terminated: it was given up");
            false
        }
        Err(Failure::Failed(text)) => {
            if is_background {
                server.snapshots.has_failed.store(true, Relaxed);
            }
            let what = if is_background { "Background saving error" } else { "Failed saving the DB" };
            tracing::error!("{what}, and the file of the last snapshot stays: {text}");
            false
        }
    }
}

/// Begins a snapshot in the background.
///
/// # Errors
/// Why there is none.
pub fn begin_background(core: &mut Core) -> Result<(), Refused> {
    let (server, begun) = (core.server, clock::now());
    let done = move |result: Result<Saved, Failure>| {
        note_result(server, &result, true);
        let secs = clock::now().saturating_duration_since(begun).as_secs();
        let mut figures = server.snapshots.figures.lock();
        figures.last_secs = Some(secs);
        if let Ok(saved) = result {
            figures.last_bytes = saved.peak_bytes;
        }
    };
    begin(core, Kind::Background, target(server, done)).map_err(|(refused, _)| refused)?;
    tracing::info!("Background saving started");
    let mut figures = server.snapshots.figures.lock();
    figures.begun += 1;
    (figures.tried_secs, figures.is_scheduled) = (clock::unix_millis().0 / 1000, false);
    Ok(())
}

/// Has a job done as soon as it can be: at once, if nothing is under way.
pub fn ask_for(core: &mut Core, job: Job) {
    core.server.snapshots.jobs.lock().push_back(job);
    next(core);
}

/// Begins the next job of the queue, if it can be. Called inside a turn, or with everything held.
fn next(core: &mut Core) {
    let server = core.server;
    // What is only half loaded is not to take the place of the whole.
    if server.snapshots.is_on() || server.loading.is_on() {
        return;
    }
    let Some(job) = server.snapshots.jobs.lock().pop_front() else { return };
    let mut target = target(server, move |result| job.finish(server, result));
    if let Job::Shutdown { .. } | Job::Reload { .. } = job {
        // What is written from here on would be lost.
        target.at_start = Box::new(move || server.snapshots.is_ending.store(true, Relaxed));
    }
    match begin(core, job.kind(), target) {
        Ok(()) => {}
        Err((Refused::Failed(text), _)) => job.finish(server, Err(Failure::Failed(text))),
        Err((Refused::Busy | Refused::UnderWay, _)) => server.snapshots.jobs.lock().push_front(job),
    }
}

/// One is over: others may begin. Called by the thread of a snapshot.
pub(super) fn go_on(server: &'static Server) {
    if !server.snapshots.jobs.lock().is_empty() {
        server.mailboxes[0].send(Message::Work(Work(Box::new(next))));
    }
}

/// What worker 0 does ten times a second, outside of a turn: begins what is due.
pub fn look_after(core: &mut Core) {
    let server = core.server;
    let now_secs = clock::unix_millis().0 / 1000;
    look_at_calendar(server, now_secs);
    let is_wanted = !server.snapshots.jobs.lock().is_empty();
    if server.snapshots.is_on()
        || server.loading.is_on()
        || !(is_wanted || is_due(server, now_secs))
        || !core.open_turn()
    {
        return;
    }
    if is_wanted {
        next(core);
    } else if let Err(Refused::Failed(text)) = begin_background(core) {
        server.snapshots.has_failed.store(true, Relaxed);
        server.snapshots.figures.lock().tried_secs = now_secs;
        tracing::error!("{text}");
    }
    core.close_turn();
}

/// Looks whether a time of `snapshot-cron` has come, and has a snapshot made then, as soon as it can be. What came while the server did not
/// run, or was loading, is not made up for, and neither is what a clock that is set forward has passed over.
fn look_at_calendar(server: &Server, now_secs: u64) {
    /// As far as it may have been looked through longer ago: a worker was busy.
    const LATE_SECS_MAX: u64 = 60;
    let looked_at = server.snapshots.calendar_secs.swap(now_secs, Relaxed);
    // A clock that is set back does not make anything come again, but for what is ahead of it then.
    if looked_at == 0 || looked_at >= now_secs || server.loading.is_on() {
        return;
    }
    let from = looked_at.max(now_secs.saturating_sub(LATE_SECS_MAX));
    if next_by_calendar(server, from).is_some_and(|next| next <= now_secs) {
        tracing::info!("the time of 'snapshot-cron' has come: a snapshot begins");
        server.snapshots.figures.lock().is_scheduled = true;
    }
}

/// The next time behind one at which `snapshot-cron` has a snapshot made, in seconds of Unix time.
pub fn next_by_calendar(server: &Server, from_secs: u64) -> Option<u64> {
    server.settings().snapshot_cron().iter().filter_map(|schedule| schedule.next_after(from_secs)).min()
}

/// Whether a snapshot in the background is due.
fn is_due(server: &Server, now_secs: u64) -> bool {
    let snapshots = &server.snapshots;
    let figures = *snapshots.figures.lock();
    if snapshots.has_failed() && now_secs.saturating_sub(figures.tried_secs) <= RETRY_SECS {
        return false;
    }
    if figures.is_scheduled {
        return true;
    }
    let settings = server.settings();
    if settings.save().is_empty() {
        return false;
    }
    let changes = changes_since(server);
    let secs = now_secs.saturating_sub(server.last_save_secs.load(Relaxed));
    let mut rules = settings.save().iter();
    let Some(rule) = rules.find(|rule| changes >= u64::from(rule.changes) && secs > rule.seconds) else {
        return false;
    };
    tracing::info!("{} changes in {} seconds. Saving...", rule.changes, rule.seconds);
    true
}

/// How the server is to stop.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ending {
    /// Whether the data is to be saved; where nothing was said, as `save` rules are set.
    pub saves: Option<bool>,
    /// Also where that fails.
    pub force: bool,
}

impl Ending {
    /// Whether a snapshot comes before the end.
    pub fn is_saving(self, server: &Server) -> bool {
        // What is changed while the rest is loaded is saved as soon as all is there.
        let is_closed = server.loading.is_on() && !server.loading.is_partly_served();
        !is_closed && self.saves.unwrap_or_else(|| !server.settings().save().is_empty())
    }
}

/// Stops the server, behind a last snapshot where there is to be one.
pub fn shut_down(core: &mut Core, ending: Ending, asker: Option<Asker>) {
    let server = core.server;
    process::tell_supervisor(&server.settings(), "STOPPING=1");
    if server.snapshots.is_background_on() {
        tracing::info!("a snapshot in the background is given up, since the server is to stop");
        server.keyspace.end_snapshot();
    }
    if ending.is_saving(server) {
        process::tell_supervisor(&server.settings(), "STATUS=Saving the final RDB snapshot");
        let when = if server.loading.is_on() { ", once all of it is loaded" } else { "" };
        tracing::info!("Saving the final RDB snapshot before exiting{when}.");
        ask_for(core, Job::Shutdown { asker, force: ending.force });
    } else {
        server.ask_to_stop();
    }
}

/// As [`shut_down`], from a thread that is no worker.
pub fn stop(server: &'static Server, ending: Ending) {
    if ending.is_saving(server) {
        let work = Work(Box::new(move |core| shut_down(core, ending, None)));
        server.mailboxes[0].send(Message::Work(work));
    } else {
        process::tell_supervisor(&server.settings(), "STOPPING=1");
        server.ask_to_stop();
    }
}

/// Loads everything anew from the file of the settings (DEBUG RELOAD). Called on a thread that is no worker.
pub fn reload(server: &'static Server, asker: Asker, how: Reload) {
    let empty = || {
        if how.flushes {
            let (tell, told) = channel();
            ask_for_emptiness(server, tell);
            // Where the server stops meanwhile nobody tells.
            let _ = told.recv();
        }
        server.snapshots.is_ending.store(false, Relaxed);
    };
    let loaded = load::again(server, &path(server), how.merges, empty);
    let text = "-ERR Error trying to load the RDB dump, check server logs.\r\n";
    let reply = loaded.map_or_else(
        |error| {
            tracing::error!("{error}");
            text.as_bytes()
        },
        |_| b"+OK\r\n",
    );
    asker.answer(server, reply);
}

/// Loads everything anew from the append-only log, once all of it is written (DEBUG LOADAOF). Called on a thread that is no worker.
pub fn reload_log(server: &'static Server, asker: Asker) {
    // What is written from here on waits. What is loaded is in the log, and is not to be there twice.
    server.snapshots.is_ending.store(true, Relaxed);
    let is_on = server.journal.is_on();
    if is_on {
        switch_log(server, false);
    }
    let empty = || {
        let (tell, told) = channel();
        ask_for_emptiness(server, tell);
        let _ = told.recv();
    };
    let flushed = if is_on { server.journal.flush(false) } else { Ok(()) };
    let flushed = flushed.map_err(load::LoadError::Log);
    let loaded = flushed.and_then(|()| load::log_again(server, empty));
    if is_on {
        switch_log(server, true);
    }
    server.snapshots.is_ending.store(false, Relaxed);
    let text = "-ERR Error trying to load the AOF files, check server logs.\r\n";
    let reply = loaded.map_or_else(
        |error| {
            tracing::error!("{error}");
            text.as_bytes()
        },
        |()| b"+OK\r\n",
    );
    asker.answer(server, reply);
}

/// Has changes logged or not from now on. Comes back once that is so.
fn switch_log(server: &'static Server, is_on: bool) {
    let (tell, told) = channel();
    ask_for_switch(server, is_on, tell);
    // Where the server stops meanwhile nobody tells.
    let _ = told.recv();
}

fn ask_for_switch(server: &'static Server, is_on: bool, tell: Sender<()>) {
    let work = move |core: &mut Core| {
        let switched = core.alone(|core| {
            server.journal.switch(is_on);
            core.follow_log();
        });
        match switched {
            Some(()) => drop(tell.send(())),
            // A script is busy.
            None => ask_for_switch(server, is_on, tell),
        }
    };
    server.mailboxes[0].send(Message::Work(Work(Box::new(work))));
}

/// Has a worker remove all data and all functions.
fn ask_for_emptiness(server: &'static Server, tell: Sender<()>) {
    let work = move |core: &mut Core| {
        let emptied = core.alone(|core| {
            for db in server.keyspace.indexes() {
                let garbage = server.keyspace.flush(db, &mut core.local.effects);
                core.local.garbage.extend(garbage);
            }
            let forget = server.functions.change(|libraries| {
                *libraries = larder_script::library::Libraries::default();
                Ok::<(), ()>(())
            });
            core.forget_libraries();
            forget
        });
        match emptied {
            Some(_) => drop(tell.send(())),
            // A script is busy.
            None => ask_for_emptiness(server, tell),
        }
    };
    server.mailboxes[0].send(Message::Work(Work(Box::new(work))));
}

/// Where a file stands until it has its name.
pub(super) fn aside(path: &Path) -> PathBuf {
    path.with_file_name(format!("temp-{}.rdb", std::process::id()))
}

/// Where its cold keys stand until they have their place in it.
pub(super) fn cold_aside(path: &Path) -> PathBuf {
    path.with_file_name(format!("temp-{}-cold.rdb", std::process::id()))
}

/// Removes what a snapshot has written so far: the process ends at once.
pub fn remove_aside(server: &Server) {
    if server.snapshots.is_on() {
        let path = path(server);
        let _ = std::fs::remove_file(aside(&path));
        let _ = std::fs::remove_file(cold_aside(&path));
    }
}

/// How long the end of the process waits for a snapshot that is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Gives a snapshot up that is still under way, once all workers have stopped.
pub fn finish(server: &Server) {
    server.keyspace.end_snapshot();
    let start = clock::now();
    while server.snapshots.is_on() && start.elapsed() < PATIENCE {
        clock::sleep(Duration::from_millis(1));
    }
}

/// Gives a snapshot in the background up. False where there is none.
pub fn give_up(server: &Server, why: &str) -> bool {
    let is_on = server.snapshots.is_background_on();
    if is_on {
        tracing::info!("a snapshot in the background is given up, since {why}");
        server.keyspace.end_snapshot();
        // All may have been handed on already, and not be written.
        server.snapshots.give_up_writing();
    }
    is_on
}
