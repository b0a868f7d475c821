//! Before a command runs: which one it is, whether the connection may ask for it, whether it is kept for EXEC, refused
//! or held back; and what of its reply is sent.
//!
//! Invariant: what is refused or held back has changed nothing, and what is held back (`Outcome::Later`) has answered
//! nothing either. Read next: [`Core::run`] in `execute.rs`.

use super::script::is_script_that_writes;
use super::unfound::is_script;
use super::{Core, Outcome};
use crate::clock;
use crate::commands::shown_name;
use crate::connection::{Closing, Connection, Parked, ReplyMode};
use crate::load::LOADING_TEXT;
use crate::monitor;
use crate::registry::{InMulti, Row, RowRun};
use crate::server::Message;
use larder_commands::spec::Flags;
use larder_commands::{Args, Error, memcached};
use larder_resp::{Output, Protocol, Reply};
use larder_script::Flags as ScriptFlags;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What writes are answered after a snapshot in the background failed.
pub(super) const MISCONF: &str = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may modify the data set are disabled, because this instance is configured to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.";

/// What writes are answered where replicas are to hold them and are not there.
pub(super) const NO_REPLICAS: &str = "NOREPLICAS Not enough good replicas to write.";

impl Core {
    /// Carries out one request, answering into `out`.
    ///
    /// `hash` is that of the first key, where `row` has a fixed one.
    pub fn execute(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: Option<&'static Row>,
        args: &Args<'_>,
        hash: u64,
    ) -> Outcome {
        let mut mark = out.mark();
        let mode = conn.reply_mode;
        if mode == ReplyMode::SkipNext {
            conn.reply_mode = ReplyMode::SkipThis;
        }
        if conn.tracked.is_some() {
            self.tell_before(conn, out);
            mark = out.mark();
            self.local.effects.set_client(conn.client.id);
        }
        let outcome = self.admit(conn, out, row, args, hash);
        self.local.effects.set_client(0);
        if outcome == Outcome::Later {
            conn.reply_mode = mode;
            out.truncate(mark);
            return outcome;
        }
        if conn.loading.is_some() {
            self.end_loading(conn);
        }
        let is_quiet = conn.protocol == Protocol::Memcached
            && row.is_some_and(|row| memcached::is_quiet(row.spec.name.as_bytes(), args));
        let hidden = conn.reply_mode != ReplyMode::On || is_quiet;
        if conn.reply_mode == ReplyMode::SkipThis {
            conn.reply_mode = ReplyMode::On;
        }
        let is_push = std::mem::take(&mut self.reply_is_push);
        if hidden && conn.closing == Closing::No && !is_push {
            out.truncate(mark);
            conn.answer_is_hidden = conn.parked.is_some();
        }
        if conn.subscriptions.is_some() || !self.held_back.is_empty() {
            self.take_messages(conn, out);
        }
        if conn.tracked.is_some() {
            let is_whole = row.is_some_and(|row| row.in_multi == InMulti::Exec || is_script(row));
            self.tell_after(conn, out, mark, is_whole);
            if conn.transaction.is_none() && row.is_none_or(|row| row.spec.name != "client") {
                conn.is_caching = false;
            }
        }
        outcome
    }

    /// Whether a command waits until a pause is over, or what is written can be kept again.
    #[inline]
    fn is_held_back(&self, conn: &Connection, row: &Row, args: &Args<'_>) -> bool {
        let writes =
            || may_replicate(conn, row) || is_script_that_writes(row, self.declared_flags(row, args));
        let is_paused = self.server.pause.until_ms.load(Relaxed) != 0
            && self.server.is_paused(self.local.now, writes())
            && !is_exempt_from_pause(row);
        let holds = self.server.snapshots.holds_writes() || self.server.journal.is_congested();
        is_paused || holds && (may_replicate(conn, row) || is_script(row))
    }

    /// Everything that may refuse a command before it runs.
    fn admit(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: Option<&'static Row>,
        args: &Args<'_>,
        hash: u64,
    ) -> Outcome {
        let asked = row;
        let resolved = self.resolve(row, args);
        conn.client.last_command.store(row_shown(&resolved).map_or(0, |row| row.id + 1), Relaxed);
        let row = match resolved {
            Ok(row) => row,
            Err((row, error)) => return self.refuse(conn, out, row, &error),
        };
        // The worker hashed the key of what was asked, and a container itself has none.
        let is_subcommand = !asked.is_some_and(|asked| std::ptr::eq(asked, row));
        let hash = if is_subcommand && row.first_key != 0 {
            self.server.keyspace.hash(args.get(row.first_key))
        } else {
            hash
        };
        let loading = &self.server.loading;
        let may_run = if loading.is_partly_served() {
            match self.may_run_partly(conn, row, args) {
                Some(may_run) => may_run,
                None => {
                    self.mark = out.mark();
                    return self.hold_back(conn, out, row);
                }
            }
        } else {
            !loading.is_on() || may_run_while_loading(conn, row)
        };
        if let Err(error) = self.may(conn, row, args, may_run) {
            return self.refuse(conn, out, Some(row), &error);
        }
        if self.is_held_back(conn, row, args) {
            conn.parked = Some(Parked::Paused);
            conn.client.parked.store(true, Relaxed);
            conn.client.held.store(true, Relaxed);
            return Outcome::Later;
        }
        if let Some(outcome) = self.ask_routes(conn, out, row, args, hash) {
            return outcome;
        }
        if conn.transaction.is_some() && row.in_multi == InMulti::Kept {
            self.keep_for_exec(conn, row, args, hash);
            Reply::new(out, conn.protocol).simple("QUEUED");
            return Outcome::Done;
        }
        let outcome = self.run(conn, out, row, args, hash, None);
        if outcome == Outcome::Done {
            conn.loading = None;
            // With the database that it leaves its connection in; behind what EXEC carries out. What is asked again, once it runs.
            self.show_monitors(conn, row, args);
        }
        outcome
    }

    /// Whether a command may be carried out, or kept, on its connection. `is_loaded`: as far as loading is concerned.
    ///
    /// # Errors
    /// The first reason why it may not, in Redis' order.
    fn may(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        args: &Args<'_>,
        is_loaded: bool,
    ) -> Result<(), Error> {
        // A password that was taken away since binds nobody.
        if !conn.authenticated && !row.has(Flags::NO_AUTH) && !self.server.access.users.is_open() {
            return Err(Error::of("NOAUTH Authentication required."));
        }
        if conn.transaction.is_some() && row.in_multi == InMulti::Refused {
            return Err(Error::of("ERR Command not allowed inside a transaction"));
        }
        self.check_access(conn, row, args)?;
        if self.answers_busy
            && let Some(text) = self.server.busy_text().filter(|_| !row.has(Flags::ALLOW_BUSY))
        {
            return Err(Error::custom(text));
        }
        self.find_room(conn, row, args)?;
        if self.refuses_writes() && (self.writes(conn, row, args) || row.spec.name == "ping") {
            return Err(Error::of(MISCONF));
        }
        if let Some(text) = self.server.journal.trouble()
            && (self.writes(conn, row, args) || row.spec.name == "ping")
        {
            let text = format!("MISCONF Errors writing to the AOF file: {text}");
            return Err(Error::custom(text));
        }
        if self.lacks_replicas() && self.writes(conn, row, args) {
            return Err(Error::of(NO_REPLICAS));
        }
        if conn.is_listening_only() && !is_for_subscribers(row) {
            return Err(not_for_subscribers(row));
        }
        if !is_loaded {
            return Err(Error::of(LOADING_TEXT));
        }
        Ok(())
    }

    /// Whether writes are refused, since the last snapshot in the background failed.
    #[inline]
    pub(super) fn refuses_writes(&self) -> bool {
        self.server.snapshots.has_failed()
            && self.settings.stop_writes_on_bgsave_error()
            && !self.settings.save().is_empty()
    }

    /// Whether writes are refused, since they are to be held by replicas too and there are none.
    #[inline]
    pub(super) fn lacks_replicas(&self) -> bool {
        self.settings.min_replicas_to_write() > 0 && self.settings.min_replicas_max_lag() > 0
    }

    /// Whether a command writes, or EXEC one that does. A script does that says nothing else of itself.
    fn writes(&self, conn: &Connection, row: &Row, args: &Args<'_>) -> bool {
        let kept = conn.transaction.as_ref().filter(|_| row.in_multi == InMulti::Exec);
        row.has(Flags::WRITE)
            || kept.is_some_and(|kept| kept.is_writing)
            || self.declared_flags(row, args).is_some_and(|flags| !flags.no_writes)
    }

    /// What routes have to say before a command runs or is kept for EXEC. `Some`: it is over, or waits.
    fn ask_routes(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: &'static Row,
        args: &Args<'_>,
        hash: u64,
    ) -> Option<Outcome> {
        if self.routes.is_empty() {
            return None;
        }
        if row.in_multi == InMulti::Exec {
            return match self.write_before_exec(conn, out, row) {
                Ok(outcome) => outcome,
                Err(error) => Some(self.refuse(conn, out, Some(row), &error)),
            };
        }
        if is_script(row) && conn.transaction.is_none() {
            return self.fetch_for_script(conn, row, args);
        }
        if !row.may_write() {
            return None;
        }
        match self.before_write(conn, out, row, args, hash) {
            Ok(None) => None,
            Ok(Some(Outcome::Done)) => {
                conn.loading = None;
                self.show_monitors(conn, row, args);
                Some(Outcome::Done)
            }
            Ok(later) => later,
            Err(error) => Some(self.refuse(conn, out, Some(row), &error)),
        }
    }

    /// Sees that there is room for what the command may store.
    fn find_room(&mut self, conn: &Connection, row: &Row, args: &Args<'_>) -> Result<(), Error> {
        if conn.loading.as_ref().is_some_and(|loading| loading.is_written()) {
            // Its store has it, or will: it is answered so.
            return Ok(());
        }
        // A script that says nothing of itself runs, and its commands are refused.
        let needs_memory = needs_memory(conn, row);
        if self.is_limited
            && (needs_memory || is_script(row))
            && !self.make_room()
            && (needs_memory || self.declared_flags(row, args).is_some_and(ScriptFlags::needs_memory))
        {
            return Err(Error::OutOfMemory);
        }
        let bytes_max = self.limits.entry_bytes_max;
        let is_bounded = bytes_max != usize::MAX && row.has(Flags::DENY_OOM);
        if is_bounded && args.from(1).any(|word| word.len() > bytes_max) {
            return Err(Error::EntryTooLarge);
        }
        Ok(())
    }

    /// Finds the subcommand where there is one, and checks the number of words.
    fn resolve(
        &self,
        row: Option<&'static Row>,
        args: &Args<'_>,
    ) -> Result<&'static Row, (Option<&'static Row>, Error)> {
        let Some(row) = row else { return Err((None, unknown_command(args))) };
        if row.subcommands.is_empty() {
            return if row.spec.takes(args.len()) {
                Ok(row)
            } else {
                Err((Some(row), Error::arity(&row.name)))
            };
        }
        let Some(word) = args.try_get(1) else {
            return match row.run {
                RowRun::Container => Err((Some(row), Error::arity(&row.name))),
                _ => Ok(row),
            };
        };
        let Some(sub) = row.subcommand(word) else { return Err((None, unknown_subcommand(row, word))) };
        if sub.spec.takes(args.len()) { Ok(sub) } else { Err((Some(sub), Error::arity(&sub.name))) }
    }

    /// Answers why a command does not run. A transaction that it was part of will not be carried out.
    pub(super) fn refuse(
        &mut self,
        conn: &mut Connection,
        out: &mut Output,
        row: Option<&'static Row>,
        error: &Error,
    ) -> Outcome {
        if let Some(stats) = row.and_then(|row| self.stats.by_command.get(row.id)) {
            stats.rejected.add(1);
        }
        if let Some(transaction) = &mut conn.transaction {
            transaction.is_flawed = true;
        }
        if row.is_some_and(|row| row.in_multi == InMulti::Exec) {
            self.end_transaction(conn);
            let reason = error.text();
            let reason = reason.strip_prefix(b"ERR ").unwrap_or(reason);
            let text = [&b"EXECABORT Transaction discarded because of: "[..], reason].concat();
            self.count_error(&text);
            Reply::new(out, Protocol::Resp2).error(&text);
        } else {
            self.count_error(error.text());
            Reply::new(out, conn.protocol).error(error.text());
        }
        Outcome::Done
    }

    /// Shows a command to those who monitor, unless it is none for their eyes.
    #[inline]
    pub(super) fn show_monitors(&self, conn: &Connection, row: &'static Row, args: &Args<'_>) {
        if self.server.monitors.load(Relaxed) != 0 && !row.has(Flags::SKIP_MONITOR) && !row.has(Flags::ADMIN)
        {
            self.feed_monitors(monitor::line(conn, row, args, clock::unix_micros()));
        }
    }

    #[cold]
    pub(super) fn feed_monitors(&self, line: Vec<u8>) {
        let line = Arc::new(line);
        for mailbox in &self.server.mailboxes {
            mailbox.send(Message::Monitor(Arc::clone(&line)));
        }
    }
}

/// What CLIENT LIST shows of a request: the command that was found, also where it is refused.
fn row_shown(resolved: &Result<&'static Row, (Option<&'static Row>, Error)>) -> Option<&'static Row> {
    match resolved {
        Ok(row) => Some(row),
        // A container stands there when it has no such subcommand.
        Err((row, _)) => row.filter(|row| row.subcommands.is_empty()),
    }
}

/// Whether a pause of writes holds a command back.
fn may_replicate(conn: &Connection, row: &Row) -> bool {
    row.may_write()
        || (row.in_multi == InMulti::Exec && conn.transaction.as_ref().is_some_and(|kept| kept.may_write))
}

/// Whether a command is refused when memory is over its limit.
fn needs_memory(conn: &Connection, row: &Row) -> bool {
    row.has(Flags::DENY_OOM)
        || (row.in_multi == InMulti::Exec && conn.transaction.as_ref().is_some_and(|kept| kept.needs_memory))
}

/// Whether a command runs before all data is there. EXEC does if all that it carries out does.
#[cold]
fn may_run_while_loading(conn: &Connection, row: &Row) -> bool {
    let is_kept_back = row.in_multi == InMulti::Exec
        && conn.transaction.as_ref().is_some_and(|kept| {
            let mut commands = kept.commands();
            commands.any(|(row, _, _)| !row.has(Flags::LOADING))
        });
    row.has(Flags::LOADING) && !is_kept_back
}

/// The command that a pause does not hold back.
fn is_exempt_from_pause(row: &Row) -> bool {
    // Differs from Redis: CLIENT UNPAUSE is not held back by the pause of all commands that it is to end.
    row.name == "client|unpause"
}

/// The error for a name that no command has, with the beginning of what was asked.
fn unknown_command(args: &Args<'_>) -> Error {
    const SHOWN: usize = 128;
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(head(args.get(0), SHOWN));
    text.extend_from_slice(b"', with args beginning with: ");
    let mut shown = 0;
    for word in args.from(1) {
        if shown >= SHOWN {
            break;
        }
        let part = head(word, SHOWN - shown);
        text.push(b'\'');
        text.extend_from_slice(part);
        text.extend_from_slice(b"' ");
        shown += part.len() + 3;
    }
    Error::custom(text)
}

/// Whether a connection that speaks RESP2 may send a command while it is subscribed.
fn is_for_subscribers(row: &Row) -> bool {
    let is_one = matches!(
        row.spec.name,
        "subscribe"
            | "unsubscribe"
            | "psubscribe"
            | "punsubscribe"
            | "ssubscribe"
            | "sunsubscribe"
            | "ping"
            | "quit"
            | "reset"
    );
    // A subcommand may have the same word for its name.
    is_one && !row.name.contains('|')
}

fn not_for_subscribers(row: &Row) -> Error {
    let mut text = b"ERR Can't execute '".to_vec();
    text.extend_from_slice(row.name.as_bytes());
    text.extend_from_slice(
        b"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
    );
    Error::custom(text)
}

fn unknown_subcommand(row: &Row, word: &[u8]) -> Error {
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(head(word, 128));
    text.extend_from_slice(b"'. Try ");
    text.extend_from_slice(row.name.to_ascii_uppercase().as_bytes());
    text.extend_from_slice(b" HELP.");
    Error::custom(text)
}

/// The first `max` bytes of `word`, up to a NUL.
fn head(word: &[u8], max: usize) -> &[u8] {
    shown_name(word.get(..max).unwrap_or(word))
}
