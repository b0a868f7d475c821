//! The thread that writes the log.
//!
//! Invariant: units are written in the order of their numbers, each once, and what a file holds ends behind a whole unit unless the
//! system says otherwise: what was written in part is cut off again and tried anew.

use super::files::{Files, Open};
use super::merge::Merge;
use super::{Base, Journal, Order, Policy, SPARE_BUFFERS, SPARE_BYTES_MAX, rewrite};
use crate::clock;
use crate::server::{Answer, Message, Server};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Bytes written at once.
const WRITE_BYTES: usize = 1024 * 1024;
/// How long the writer lets units come together where nobody waits for it.
const GATHER: Duration = Duration::from_micros(500);
/// How long it waits before it tries again what failed.
const AGAIN: Duration = Duration::from_millis(100);
/// What WAITAOF answers when logging ends meanwhile.
const WAITAOF_OFF: &[u8] =
    b"-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n";
/// How often a file is forced to disk with `everysec`.
const SYNC_PERIOD: Duration = Duration::from_secs(1);

/// Begins the thread that writes to `files`; `open` is the file at hand, where there is one.
///
/// # Errors
/// Where there can be no such thread.
pub fn begin(server: &'static Server, files: Files, open: Option<Open>) -> Result<(), String> {
    let mut writer = Writer {
        server,
        journal: &server.journal,
        files,
        open,
        prepared: None,
        switch_at: None,
        rewrites_from: 0,
        merge: Merge::behind(server.journal.last()),
        out: Vec::new(),
        flushes: Vec::new(),
        rewritten: None,
        written: 0,
        is_unsynced: false,
        last_sync: clock::now(),
        tries_again_at: None,
    };
    std::thread::Builder::new()
        .name("larder-log".into())
        .spawn(move || writer.run())
        .map(drop)
        .map_err(|error| format!("cannot start the thread that writes the log: {error}"))
}

struct Prepared {
    open: Open,
    /// It is named in the manifest with its base only.
    is_first: bool,
}

struct Flush {
    to: u64,
    ends: bool,
    done: mpsc::Sender<Result<(), String>>,
}

struct Writer {
    server: &'static Server,
    journal: &'static Journal,
    files: Files,
    /// The file at hand.
    open: Option<Open>,
    /// The next one.
    prepared: Option<Prepared>,
    /// Behind which unit it begins.
    switch_at: Option<u64>,
    /// The number of the incremental file with which the rewrite at hand goes on.
    rewrites_from: u64,
    merge: Merge,
    /// Text that is not written yet: whole units.
    out: Vec<u8>,
    flushes: Vec<Flush>,
    /// What came of the snapshot that is to be the base.
    rewritten: Option<Result<Base, String>>,
    /// The number of the last unit in the file.
    written: u64,
    /// Something was written since the file was forced to disk last.
    is_unsynced: bool,
    last_sync: Instant,
    /// Writing or forcing to disk failed, and is tried again then.
    tries_again_at: Option<Instant>,
}

impl Writer {
    fn run(&mut self) {
        loop {
            self.wait();
            self.take_orders();
            self.write_all();
            // What came before the switch is in the old file then.
            if self.switch_at.is_none()
                && let Some(base) = self.rewritten.take()
            {
                let result = self.end_rewrite(base);
                rewrite::note_end(self.journal, &result);
            }
            self.sync_if_due();
            self.flush_if_asked();
            self.answer_waiting();
        }
    }

    /// Waits until there is something to do, and takes it in.
    fn wait(&mut self) {
        let timeout = self.timeout();
        let mut inbox = self.journal.inbox.lock();
        if inbox.batches.is_empty() && inbox.orders.is_empty() && !self.has_work() {
            inbox.is_asleep = true;
            match timeout {
                Some(timeout) => drop(self.journal.wake.wait_for(&mut inbox, timeout)),
                None => self.journal.wake.wait(&mut inbox),
            }
            inbox.is_asleep = false;
            if self.journal.policy() != Policy::Always && inbox.orders.is_empty() && self.flushes.is_empty() {
                // One wake-up for the units of many turns.
                drop(inbox);
                std::thread::sleep(GATHER);
                inbox = self.journal.inbox.lock();
            }
        }
        for (worker, batch) in inbox.batches.drain(..) {
            self.merge.add(worker, batch);
        }
        for mut batch in self.merge.spent.drain(..) {
            if inbox.spare.len() < SPARE_BUFFERS && batch.capacity() <= SPARE_BYTES_MAX {
                batch.clear();
                inbox.spare.push(batch);
            }
        }
    }

    fn has_work(&self) -> bool {
        !self.out.is_empty() && self.tries_again_at.is_none()
    }

    /// How long there is nothing to do if nothing comes.
    fn timeout(&self) -> Option<Duration> {
        if let Some(at) = self.tries_again_at {
            return Some(at.saturating_duration_since(clock::now()));
        }
        if self.is_unsynced && self.journal.policy() != Policy::Never {
            return Some((self.last_sync + SYNC_PERIOD).saturating_duration_since(clock::now()));
        }
        None
    }

    fn take_orders(&mut self) {
        let orders = std::mem::take(&mut self.journal.inbox.lock().orders);
        for order in orders {
            match order {
                Order::Prepare => match self.prepare() {
                    Ok(()) => rewrite::go_on(self.server),
                    Err(text) => rewrite::note_end(self.journal, &Err(text)),
                },
                Order::Switch(at) => self.switch_at = Some(at),
                Order::Rewritten(base) => self.rewritten = Some(base),
                Order::Look => {}
                Order::Flush { to, ends, done } => self.flushes.push(Flush { to, ends, done }),
            }
        }
    }

    fn prepare(&mut self) -> Result<(), String> {
        self.files.make_folder()?;
        // The working directory may be another than at the last rewrite.
        *self.journal.folder.lock() = std::env::current_dir()
            .map_or_else(|_| self.files.folder.clone(), |dir| dir.join(&self.files.folder));
        let settings = self.server.settings();
        self.journal.is_prepared.store(settings.appendonly(), Relaxed);
        if !settings.appendonly() {
            // A base alone.
            self.rewrites_from = u64::MAX;
            return Ok(());
        }
        let is_first = self.open.is_none() || self.journal.figures.has_no_base.load(Relaxed);
        if is_first {
            let name = temp_incr_name(&self.files.name);
            self.files.remove(&self.files.path(&name));
            let open = self.files.open_to_append(&name)?;
            self.prepared = Some(Prepared { open, is_first });
            return Ok(());
        }
        if self.prepared.is_none() {
            let open = self.files.add_incr()?;
            self.prepared = Some(Prepared { open, is_first });
        }
        self.rewrites_from = self.files.manifest.incr_seq;
        Ok(())
    }

    /// Writes what there is, and goes over to the next file where that is due.
    fn write_all(&mut self) {
        if self.tries_again_at.is_some_and(|at| at > clock::now()) {
            return;
        }
        self.tries_again_at = None;
        loop {
            if self.switch_at.is_some_and(|at| self.merge.last >= at) && self.out.is_empty() {
                self.switch();
            }
            let to = self.switch_at.unwrap_or(u64::MAX);
            let secs = self.server.settings().aof_timestamp_enabled().then(clock::unix_millis);
            let has_more = self.merge.write(to, secs.map(|now| now.0 / 1000), WRITE_BYTES, &mut self.out);
            if self.out.is_empty() {
                if has_more || self.switch_at.is_some_and(|at| self.merge.last >= at) {
                    continue;
                }
                return;
            }
            let micros = self.journal.sleep_micros.load(Relaxed);
            if micros > 0 {
                clock::sleep(Duration::from_micros(micros));
            }
            if !self.write() {
                return;
            }
        }
    }

    /// Writes the text at hand. False where that fails.
    fn write(&mut self) -> bool {
        let Some(open) = &mut self.open else {
            // Logging has ended meanwhile: nobody will ask for it.
            self.out.clear();
            self.journal.pass(self.merge.take_passed_bytes());
            return true;
        };
        let result = open.append(&self.out);
        match result {
            Ok(()) => {
                // Gone before it counts as written: room is made for what is in use and not waiting for the disk.
                self.merge.spent.retain(|batch| batch.capacity() <= SPARE_BYTES_MAX);
                self.merge.spent.truncate(SPARE_BUFFERS);
                self.journal.figures.current_bytes.fetch_add(self.out.len() as u64, Relaxed);
                self.out.clear();
                self.out.shrink_to(WRITE_BYTES);
                self.written = self.merge.last;
                self.is_unsynced = true;
                self.journal.pass(self.merge.take_passed_bytes());
                if self.journal.is_in_trouble() {
                    tracing::warn!("the append-only log can be written again");
                    self.journal.set_trouble(None);
                }
                self.release();
                true
            }
            Err(text) => {
                if self.journal.policy() == Policy::Always {
                    give_up(&format!("cannot write to the append-only log: {text}"));
                }
                if !self.journal.is_in_trouble() {
                    tracing::error!(
                        "cannot write to the append-only log: {text}; writes are refused until it can"
                    );
                }
                self.fail(text);
                false
            }
        }
    }

    fn fail(&mut self, text: String) {
        self.journal.set_trouble(Some(text));
        self.tries_again_at = Some(clock::now() + AGAIN);
        self.wake_workers();
    }

    /// Lets replies go that wait for a write only.
    fn release(&mut self) {
        if self.journal.policy() != Policy::Always {
            self.journal.held.release(self.written);
        }
    }

    fn sync_if_due(&mut self) {
        if !self.is_unsynced || self.tries_again_at.is_some_and(|at| at > clock::now()) {
            return;
        }
        let figures = &self.journal.figures;
        let is_skipped =
            figures.is_rewriting.load(Relaxed) && self.server.settings().no_appendfsync_on_rewrite();
        let is_due = match self.journal.policy() {
            Policy::Always => true,
            Policy::EverySecond => self.last_sync.elapsed() >= SYNC_PERIOD,
            Policy::Never => false,
        };
        if !is_due {
            return;
        }
        if is_skipped {
            self.journal.held.release(self.written);
            self.tell();
            self.last_sync = clock::now();
            return;
        }
        self.sync();
    }

    /// Forces the file to disk.
    fn sync(&mut self) {
        let Some(open) = &mut self.open else { return };
        let result = open.sync();
        self.last_sync = clock::now();
        match result {
            Ok(()) => {
                self.is_unsynced = false;
                if self.journal.is_in_trouble() {
                    self.journal.set_trouble(None);
                }
                self.journal.durable.store(self.written, SeqCst);
                self.journal.held.release(self.written);
                self.tell();
            }
            Err(text) => {
                if self.journal.policy() == Policy::Always {
                    give_up(&format!("cannot force the append-only log to disk: {text}"));
                }
                tracing::error!(
                    "cannot force the append-only log to disk: {text}; writes are refused until it can"
                );
                self.fail(text);
            }
        }
    }

    /// Answers clients that waited for their writes to be on disk.
    fn answer_waiting(&self) {
        let mut waiting = self.journal.waiting.lock();
        if waiting.is_empty() {
            return;
        }
        let is_off = self.open.is_none() && self.prepared.is_none() && !self.server.settings().appendonly();
        let reply: &[u8] = if is_off { WAITAOF_OFF } else { b"*2\r\n:1\r\n:0\r\n" };
        waiting.retain(|(number, client)| {
            let is_over = self.journal.has_on_disk(*number) || is_off;
            if is_over && let Some(waiter) = self.server.blocked.take_logged(*client) {
                let answer = Answer::new(*client, waiter.ticket, reply);
                self.server.mailboxes[waiter.worker].send(Message::Answer(answer));
            }
            !is_over
        });
    }

    /// Tells workers that replies may go, if any wait for that.
    fn tell(&self) {
        if self.journal.held.must_tell() {
            self.wake_workers();
        }
    }

    fn wake_workers(&self) {
        for mailbox in &self.server.mailboxes {
            mailbox.send(Message::Resume);
        }
    }

    /// Goes on in the next file.
    fn switch(&mut self) {
        self.switch_at = None;
        let Some(prepared) = self.prepared.take() else { return };
        // What was written to the old one must not be less durable than what follows.
        if let Some(open) = &mut self.open
            && self.is_unsynced
            && let Err(text) = open.sync()
        {
            tracing::error!("cannot force the append-only log to disk: {text}");
            if self.journal.policy() == Policy::Always {
                give_up(&format!("cannot force the append-only log to disk: {text}"));
            }
        }
        if prepared.is_first {
            self.rewrites_from = 0;
        }
        self.open = Some(prepared.open);
        self.merge.begin_file();
    }

    /// Puts a new base into force, or leaves all as it is.
    fn end_rewrite(&mut self, base: Result<Base, String>) -> Result<(), String> {
        let result = base.and_then(|base| {
            let result = self.put_base(&base);
            if result.is_err() {
                self.files.remove(&base.path);
            }
            result
        });
        let bytes = self.files.bytes();
        self.journal.figures.current_bytes.store(bytes, Relaxed);
        if result.is_ok() {
            self.journal.figures.base_bytes.store(bytes, Relaxed);
        }
        result
    }

    fn put_base(&mut self, base: &Base) -> Result<(), String> {
        let temp = self.files.path(&temp_incr_name(&self.files.name));
        if self.rewrites_from == 0 {
            return self.files.put_first(base, &temp);
        }
        self.files.replace_base(base, self.rewrites_from)
    }

    fn flush_if_asked(&mut self) {
        let mut index = 0;
        while let Some(flush) = self.flushes.get(index) {
            if self.merge.last < flush.to && !self.journal.is_in_trouble() {
                index += 1;
                continue;
            }
            let flush = self.flushes.swap_remove(index);
            if self.is_unsynced && !self.journal.is_in_trouble() {
                self.sync();
            }
            let result = self.journal.trouble().map_or(Ok(()), Err);
            if flush.ends && result.is_ok() {
                self.open = None;
                self.prepared = None;
            }
            drop(flush.done.send(result));
        }
    }
}

/// The name of the file that is written to before there is a base.
fn temp_incr_name(name: &str) -> String {
    format!("temp-{name}.incr")
}

/// Ends the process: somebody would be told that a write is safe which is not.
fn give_up(text: &str) -> ! {
    tracing::error!("{text}: the server stops, since it could not keep what it acknowledges");
    std::process::exit(1);
}
