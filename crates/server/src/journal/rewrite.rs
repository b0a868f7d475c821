//! A new base for the log: BGREWRITEAOF, growth, and logging that is turned on while the server runs.
//!
//! The writer opens the next incremental file; then a snapshot is begun, and at the moment that it is of the log goes over to
//! that file; when the snapshot is whole it takes the place of everything before (`writer.rs`). Whatever fails, the old files
//! stay in force, and the log goes on behind them.

use super::{Base, Files, Journal, Order};
use crate::clock;
use crate::execute::Core;
use crate::server::{Message, Server, Work};
use crate::snapshot::{self, Failure, Kind, Refused, Target};
use larder_config::Settings;
use std::path::PathBuf;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// After so many failures in a row the next try waits.
const FAILURES_FREE: u64 = 3;
/// The longest wait between two tries, in seconds.
const WAIT_SECS_MAX: u64 = 3600;

/// What came of asking for a rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It is under way.
    Begun,
    /// It begins as soon as it can.
    Scheduled,
    /// One is under way already.
    UnderWay,
    /// Its files cannot be made; the server's log says why.
    Impossible,
}

/// Asks for a rewrite. `later`: not at once.
pub fn ask_for_rewrite(server: &'static Server, later: bool) -> Asked {
    let figures = &server.journal.figures;
    if figures.is_rewriting.load(Relaxed) {
        return Asked::UnderWay;
    }
    if later || server.snapshots.is_on() {
        figures.is_scheduled.store(true, Relaxed);
        figures.failures_in_a_row.store(0, Relaxed);
        figures.not_before_ms.store(0, Relaxed);
        return Asked::Scheduled;
    }
    if try_place(server, &server.settings()).is_err() {
        return Asked::Impossible;
    }
    begin(server);
    Asked::Begun
}

/// Looks whether there is a place for the log where settings have it: the directory, which is made where there is none, and room for a file
/// in it if logging is on. What fails here would fail in the background.
///
/// # Errors
/// Where there is none; the server's log says why.
pub fn try_place(server: &Server, settings: &Settings) -> Result<(), String> {
    let files = Files::unread(settings, Box::new(larder_behind::Files));
    let has_room = || if settings.appendonly() { files.try_file() } else { Ok(()) };
    files.make_folder().and_then(|()| has_room()).inspect_err(|text| {
        server.journal.figures.has_rewrite_failed.store(true, Relaxed);
        tracing::error!("the append-only log cannot be rewritten: {text}");
    })
}

/// Begins a rewrite: the writer gets the next file ready, and has [`begin_snapshot`] called then.
fn begin(server: &'static Server) {
    let figures = &server.journal.figures;
    figures.is_scheduled.store(false, Relaxed);
    figures.is_rewriting.store(true, Relaxed);
    figures.began_ms.store(clock::unix_millis().0, Relaxed);
    figures.rewrites.fetch_add(1, Relaxed);
    server.journal.order(Order::Prepare);
}

/// Has a worker begin the snapshot, once the next file is there.
pub(super) fn go_on(server: &'static Server) {
    if let Some(mailbox) = server.mailboxes.first() {
        mailbox.send(Message::Work(Work(Box::new(begin_snapshot))));
    }
}

fn begin_snapshot(core: &mut Core) {
    let server = core.server;
    let journal: &'static Journal = &server.journal;
    let settings = server.settings();
    // What was turned on since the writer got ready has no file yet: it gets a base, and a file, of its own behind this one.
    let is_on = settings.appendonly() && journal.is_prepared.load(Relaxed);
    let form = Base::form(&settings);
    let path = journal.folder().join(format!("temp-rewriteaof-bg-{}.aof", std::process::id()));
    let whole: PathBuf = path.clone();
    let target = Target {
        path,
        form,
        aux: vec![("aof-base", b"1".to_vec())],
        at_start: Box::new(move || {
            journal.order(Order::Switch(journal.last()));
            journal.switch(is_on);
        }),
        done: Box::new(move |result| {
            journal.order(Order::Rewritten(match result {
                Ok(saved) => {
                    tracing::info!(
                        "the base of the append-only log is written: {} keys, {} bytes",
                        saved.keys,
                        saved.bytes
                    );
                    Ok(Base { path: whole, form })
                }
                Err(Failure::Aborted) => Err("it was given up".into()),
                Err(Failure::Failed(text)) => Err(text),
            }));
        }),
    };
    match snapshot::begin(core, Kind::Rewrite, target) {
        Ok(()) => {
            tracing::info!("Background append only file rewriting started");
            core.follow_log();
        }
        // Somebody has been faster: worker 0 tries again.
        Err((Refused::Busy | Refused::UnderWay, _)) => journal.is_ready.store(true, Relaxed),
        Err((Refused::Failed(text), _)) => journal.order(Order::Rewritten(Err(text))),
    }
}

/// What worker 0 does ten times a second, outside of a turn: begins what is due.
pub fn look_after(core: &mut Core) {
    let server = core.server;
    let journal = &server.journal;
    if server.snapshots.is_on() || server.loading.is_on() {
        return;
    }
    if journal.is_ready.swap(false, Relaxed) {
        go_on(server);
    } else if !journal.figures.is_rewriting.load(Relaxed) && is_due(server) {
        begin(server);
    }
}

/// Whether a rewrite is to begin.
fn is_due(server: &Server) -> bool {
    let (journal, settings) = (&server.journal, server.settings());
    let figures = &journal.figures;
    if clock::unix_millis().0 < figures.not_before_ms.load(Relaxed) {
        return false;
    }
    if figures.is_scheduled.load(Relaxed) {
        return true;
    }
    if !settings.appendonly() {
        return false;
    }
    if figures.has_no_base.load(Relaxed) {
        return true;
    }
    let (current, base) = (figures.current_bytes.load(Relaxed), figures.base_bytes.load(Relaxed).max(1));
    let percentage = u64::from(settings.auto_aof_rewrite_percentage());
    if percentage == 0 || current <= settings.auto_aof_rewrite_min_size() {
        return false;
    }
    let growth = u128::from(current) * 100 / u128::from(base);
    let is_due = growth >= u128::from(percentage) + 100;
    if is_due {
        tracing::info!("the append-only log has grown by {} percent: it is rewritten", growth - 100);
    }
    is_due
}

/// Notes what came of a rewrite.
pub(super) fn note_end(journal: &Journal, result: &Result<(), String>) {
    let figures = &journal.figures;
    let now_ms = clock::unix_millis().0;
    let secs = now_ms.saturating_sub(figures.began_ms.load(Relaxed)) / 1000;
    figures.last_secs_and_one.store(i64::try_from(secs).unwrap_or(0) + 1, Relaxed);
    let is_given_up = figures.is_given_up.swap(false, Relaxed);
    figures.has_rewrite_failed.store(result.is_err() && !is_given_up, Relaxed);
    match result {
        Ok(()) => {
            figures.failures_in_a_row.store(0, Relaxed);
            // Where logging was turned on after it had begun, this is no base of what is logged.
            if journal.is_on() {
                figures.has_no_base.store(false, SeqCst);
            }
            tracing::info!("Background AOF rewrite finished successfully");
        }
        Err(_) if is_given_up => {
            tracing::info!("Background AOF rewrite was given up: logging was turned off")
        }
        Err(text) => {
            let failures = figures.failures_in_a_row.fetch_add(1, Relaxed) + 1;
            let wait_secs = match failures.checked_sub(FAILURES_FREE) {
                None => 1,
                Some(more) => (60_u64 << more.min(6)).min(WAIT_SECS_MAX),
            };
            figures.not_before_ms.store(now_ms + wait_secs * 1000, Relaxed);
            tracing::error!(
                "Background AOF rewrite terminated with error, and the log goes on as it was: {text}"
            );
        }
    }
    figures.is_rewriting.store(false, Relaxed);
}

/// Begins to log (CONFIG SET appendonly yes): with a base of what there is.
pub fn turn_on(server: &'static Server) {
    server.journal.figures.has_no_base.store(true, SeqCst);
    server.journal.figures.not_before_ms.store(0, Relaxed);
    ask_for_rewrite(server, false);
}

/// Ends logging (CONFIG SET appendonly no): what there is goes to disk.
pub fn turn_off(core: &mut Core) {
    let server = core.server;
    server.journal.figures.has_no_base.store(false, Relaxed);
    server.journal.figures.is_scheduled.store(false, Relaxed);
    let is_rewriting = server.journal.figures.is_rewriting.load(Relaxed);
    server.journal.figures.is_given_up.store(is_rewriting, Relaxed);
    if server.snapshots.kind() == Some(Kind::Rewrite) {
        server.keyspace.end_snapshot();
    }
    // Where a script is busy its changes are still logged.
    let _ = core.alone(|core| {
        core.server.journal.switch(false);
        core.hand_log_over();
        core.follow_log();
    });
    if let Err(text) = server.journal.flush(true) {
        tracing::error!("the append-only log is not all on disk: {text}");
    }
}
