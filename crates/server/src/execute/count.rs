//! What is counted of commands and turns, and the logs of slow and large commands.
//!
//! Counters are each worker's own; INFO adds them up.

use super::Core;
use crate::clients::Client;
use crate::connection::Unfinished;
use crate::monitor;
use crate::registry::{Row, RowRun};
use crate::slowlog::{LogEntry, LogKind, shorten};
use larder_commands::Args;
use larder_commands::spec::Flags;

impl Core {
    /// Notes a command that took longer than somebody wants to know of.
    #[inline]
    pub(super) fn look_whether_slow(&self, client: &Client, row: &'static Row, args: &Args<'_>, nanos: u64) {
        if nanos >= self.slow_nanos_min || self.settings.latency_monitor_threshold() > 0 {
            self.note_slow(client, row, nanos, || shorten(monitor::redacted(row, args)));
        }
    }

    /// Counts the commands that [`Core::run_on_key`] has carried out among all. Answers how many all are now.
    #[inline]
    pub fn count_short_runs(&mut self) -> u64 {
        self.stats.commands.add(std::mem::take(&mut self.short_runs));
        self.stats.commands.get()
    }

    /// Begins to count the commands of another connection. Answers how many of the one before are not counted yet, for
    /// [`Core::go_on_with_client`].
    #[inline]
    pub fn begin_client(&mut self) -> u64 {
        let now = self.count_short_runs();
        let before = std::mem::replace(&mut self.commands_before, now);
        now.saturating_sub(before)
    }

    /// Goes on with a connection whose commands were not all counted when another's began.
    pub fn go_on_with_client(&mut self, uncounted: u64) {
        self.commands_before = self.stats.commands.get().saturating_sub(uncounted);
    }

    /// Counts the commands since it began among those of the connection at hand: at its end, and where it asks for the number.
    #[inline]
    pub fn count_commands_of(&mut self, client: &Client) {
        let after = self.count_short_runs();
        // CONFIG RESETSTAT may have begun the count anew meanwhile.
        client.commands.add(after.checked_sub(self.commands_before).unwrap_or(after));
        self.commands_before = after;
    }

    /// Counts how long a run of a command took, which stands for `scale` runs.
    #[inline]
    pub(super) fn count_time(&self, command: usize, nanos: u64, scale: u64) {
        let stats = &self.stats.by_command[command];
        stats.nanos.add(nanos * scale);
        if self.settings.latency_tracking() {
            stats.durations.record(nanos, scale);
        }
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

    /// Counts a command whose answer came later than it was asked. One whose connection ends before is counted nowhere,
    /// as in Redis.
    #[cold]
    pub fn count_end(&self, client: &Client, unfinished: Unfinished, reply: &[u8]) {
        let Unfinished { row, nanos, words } = unfinished;
        let stats = &self.stats.by_command[row.id];
        if let Some(text) = reply.strip_prefix(b"-").filter(|text| text.starts_with(b"NOPERM ")) {
            // Its rules had changed by the time that it was served, so that it never ran.
            stats.rejected.add(1);
            self.count_error(text.trim_ascii_end());
            return;
        }
        stats.calls.add(1);
        self.stats.commands.add(1);
        client.commands.add(1);
        self.count_time(row.id, nanos, 1);
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

    /// Counts the time since `start` as spent in a turn. `commands_before`: how many commands had run when it began.
    #[inline]
    pub fn count_busy(&self, start: u64, commands_before: u64) {
        let nanos = self.stopwatch.nanos(start, self.stopwatch.ticks());
        self.stats.busy_nanos.add(nanos);
        self.stats.turn_nanos_max.raise(nanos);
        // CONFIG RESETSTAT may have begun the count anew meanwhile.
        let commands = self.stats.commands.get().saturating_sub(commands_before);
        self.stats.turn_commands_max.raise(commands);
    }

    /// Counts the time since `start` as spent on the work between turns.
    #[inline]
    pub fn count_background(&self, start: u64) {
        self.stats.background_nanos.add(self.stopwatch.nanos(start, self.stopwatch.ticks()));
    }

    /// Logs a command that was slow.
    #[cold]
    pub(super) fn note_slow(
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
        self.log_command(LogKind::Slow, client, nanos / 1000, words());
    }

    /// Notes a command whose request or reply is larger than somebody wants to know of. Commands within a transaction or a script
    /// have no request of their own.
    #[inline]
    pub(super) fn look_whether_large(
        &self,
        client: &Client,
        reply_bytes: usize,
        row: &'static Row,
        args: &Args<'_>,
        request_bytes: usize,
    ) {
        if reply_bytes >= self.large.reply || request_bytes >= self.large.request {
            self.note_large(client, reply_bytes, row, args, request_bytes);
        }
    }

    #[cold]
    fn note_large(
        &self,
        client: &Client,
        reply_bytes: usize,
        row: &'static Row,
        args: &Args<'_>,
        request_bytes: usize,
    ) {
        if row.has(Flags::SKIP_SLOWLOG) {
            return;
        }
        let words = || shorten(monitor::redacted(row, args));
        if request_bytes > 0 && request_bytes >= self.large.request {
            self.log_command(LogKind::LargeRequest, client, request_bytes as u64, words());
        }
        if reply_bytes > 0 && reply_bytes >= self.large.reply {
            self.log_command(LogKind::LargeReply, client, reply_bytes as u64, words());
        }
    }

    fn log_command(&self, log: LogKind, client: &Client, figure: u64, words: Vec<Vec<u8>>) {
        let entries_max = match log {
            LogKind::Slow => self.settings.slowlog_max_len(),
            LogKind::LargeRequest => self.settings.commandlog_large_request_max_len(),
            LogKind::LargeReply => self.settings.commandlog_large_reply_max_len(),
        };
        // Differs from Redis: a command of a script is logged with the address and the name of who called the script; Redis has
        // neither there.
        let entry = LogEntry {
            id: 0,
            unix_secs: self.local.now.0 / 1000,
            figure,
            words,
            address: client.address.clone(),
            name: client.names.lock().name.clone(),
        };
        self.server
            .command_logs
            .of(log)
            .lock()
            .add(entry, usize::try_from(entries_max).unwrap_or(usize::MAX));
    }
}
