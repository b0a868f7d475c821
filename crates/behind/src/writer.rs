//! The thread that writes a queue's log: all that came in since the last time at once, then it tells who waits.
//!
//! Invariants: a write is in memory (`Pending`) only once it is on disk, so nobody reads or sends what may be refused. What could not
//! be written is refused, and the next is tried again: the queue recovers by itself.

use crate::log::Log;
use crate::queue::{Fsync, Incoming, Shared, State};
use crate::record::{write_done, write_group, write_write};
use crate::state::Cursor;
use parking_lot::MutexGuard;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// How long the disk may have what it was given without being waited for.
const SYNC_PERIOD: Duration = Duration::from_secs(1);
/// After a failure that needs everything to be written anew, nothing is tried for so long.
const PAUSE: Duration = Duration::from_millis(500);

/// Starts the thread.
pub(crate) fn start(name: &str, log: Log, shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let writer = Writer { log, shared, last_sync: Instant::now(), unlogged: Vec::new(), last_try: None };
    // The system cuts names off behind 15 bytes.
    Builder::new().name(format!("behind-{name}")).spawn(move || writer.run())
}

struct Writer {
    log: Log,
    shared: Arc<Shared>,
    last_sync: Instant,
    /// What is done and the log does not say so yet.
    unlogged: Vec<u64>,
    /// When the log was last to be written anew and was not.
    last_try: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let mut state = shared.state.lock();
            while state.incoming.is_empty() && state.done.is_empty() && !state.is_over {
                if !self.wait(&mut state) {
                    break;
                }
            }
            let incoming = std::mem::take(&mut state.incoming);
            let done = std::mem::take(&mut state.done);
            let freed = std::mem::take(&mut state.freed);
            state.incoming_bytes = 0;
            let (is_over, next_seq, fsync) = (state.is_over, state.next_seq, state.config.fsync);
            drop(state);
            freed.into_iter().for_each(|segment| self.log.let_go(segment));
            for (seq, segments) in done {
                segments.into_iter().for_each(|segment| self.log.let_go(segment));
                self.unlogged.push(seq);
            }
            self.write(incoming, next_seq, fsync);
            self.tidy(next_seq);
            let is_due = fsync == Fsync::EverySec && self.last_sync.elapsed() >= SYNC_PERIOD;
            if self.log.is_unsynced && (is_due || is_over) {
                self.last_sync = Instant::now();
                let result = self.log.sync();
                self.note(result.err().map(|error| self.say(&error)));
            }
            if is_over {
                return;
            }
        }
    }

    /// Waits for something to do. False where the disk is to be waited for first.
    fn wait(&self, state: &mut MutexGuard<'_, State>) -> bool {
        let is_owed = self.log.is_unsynced && state.config.fsync == Fsync::EverySec;
        if is_owed || !self.unlogged.is_empty() || self.log.is_suspect {
            let end = self.last_sync + SYNC_PERIOD;
            let end = if is_owed { end } else { Instant::now() + SYNC_PERIOD };
            return !self.shared.to_write.wait_until(state, end).timed_out();
        }
        self.shared.to_write.wait(state);
        true
    }

    /// Writes what came in and what is done, and tells.
    fn write(&mut self, incoming: Vec<Incoming>, next_seq: u64, fsync: Fsync) {
        if self.log.is_suspect
            && let Err(text) = self.write_anew(next_seq)
        {
            return self.refuse(incoming, text);
        }
        if incoming.is_empty() && self.unlogged.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        incoming.iter().for_each(|some| write_group(&some.writes, &mut bytes));
        if !self.unlogged.is_empty() {
            write_done(self.unlogged.iter().copied(), &mut bytes);
        }
        let segment = match self.log.append(&bytes, next_seq) {
            Ok(segment) => segment,
            Err(error) => {
                let text = self.say(&error);
                return self.refuse(incoming, text);
            }
        };
        if fsync == Fsync::Always
            && !incoming.is_empty()
            && let Err(error) = self.log.sync()
        {
            let text = self.say(&error);
            self.log.take_back(bytes.len() as u64);
            return self.refuse(incoming, text);
        }
        self.unlogged.clear();
        self.accept(incoming, segment);
    }

    fn accept(&mut self, incoming: Vec<Incoming>, segment: u64) {
        let shared = Arc::clone(&self.shared);
        let (mut accepted, mut superseded) = (0, 0);
        let mut told = Vec::with_capacity(incoming.len());
        let mut state = shared.state.lock();
        state.failure = None;
        for Incoming { writes, owner, done } in incoming {
            let seqs: Vec<u64> = writes.iter().map(|write| write.seq).collect();
            for write in writes {
                accepted += 1;
                self.log.hold(segment);
                if let Some(freed) = state.pending.add(write, segment, Some(&owner)) {
                    superseded += 1;
                    freed.into_iter().for_each(|segment| self.log.let_go(segment));
                }
            }
            told.push((done, seqs));
        }
        state.log_bytes = self.log.bytes();
        shared.keys.store(state.pending.len(), Relaxed);
        drop(state);
        shared.counts.accepted.fetch_add(accepted, Relaxed);
        shared.counts.superseded.fetch_add(superseded, Relaxed);
        if accepted > 0 {
            shared.to_send.notify_all();
        }
        told.into_iter().for_each(|(done, seqs)| done(Ok(seqs)));
    }

    fn refuse(&mut self, incoming: Vec<Incoming>, text: String) {
        if !incoming.is_empty() {
            incoming.into_iter().for_each(|some| some.refuse(&self.shared.counts, &text));
        }
        self.note(Some(text));
    }

    fn note(&self, failure: Option<String>) {
        if let Some(text) = failure {
            let mut state = self.shared.state.lock();
            if state.failure.as_ref() != Some(&text) {
                tracing::error!("write-behind: {text}");
            }
            state.failure = Some(text);
        }
    }

    /// Removes what is not needed any more, and writes anew what keeps old segments alive where they are mostly of no use.
    fn tidy(&mut self, next_seq: u64) {
        self.remove_spent();
        let (live, segment_bytes) = {
            let mut state = self.shared.state.lock();
            state.log_bytes = self.log.bytes();
            (state.pending.bytes(), state.config.segment_bytes)
        };
        while !self.log.is_suspect
            && self.log.bytes() > 2 * live + 4 * segment_bytes
            && let Some(first) = self.log.first_of_several()
        {
            if self.move_to_end(first, next_seq).is_err() {
                return;
            }
            self.remove_spent();
            if self.log.first_of_several() == Some(first) {
                return;
            }
        }
    }

    /// Removes segments that are not needed, once what has taken their place survives a power cut.
    fn remove_spent(&mut self) {
        if self.log.is_suspect || !self.log.has_spent() {
            return;
        }
        if self.log.is_unsynced
            && let Err(error) = self.log.sync()
        {
            return self.note(Some(self.say(&error)));
        }
        self.log.remove_spent();
    }

    /// After a failure that leaves it open what is on disk: all that is to be sent goes into a new segment.
    fn write_anew(&mut self, next_seq: u64) -> Result<(), String> {
        if let Some(last_try) = self.last_try
            && last_try.elapsed() < PAUSE
        {
            let failure = self.shared.state.lock().failure.clone();
            return Err(failure.unwrap_or_else(|| "its log could not be written".to_owned()));
        }
        let last = self.log.last();
        let result = self.log.begin_segment(next_seq).and_then(|()| {
            // What is in the new segment is known.
            (self.log.is_suspect, self.log.is_unsynced) = (false, false);
            while self.shared.state.lock().pending.is_any_in_segments_to(last) {
                self.move_to_end(last, next_seq)?;
            }
            self.log.sync()
        });
        match result {
            Ok(()) => {
                self.last_try = None;
                self.log.remove_spent();
                Ok(())
            }
            Err(error) => {
                self.log.is_suspect = true;
                self.last_try = Some(Instant::now());
                Err(self.say(&error))
            }
        }
    }

    /// Appends the writes in segments up to this one again; but for some that are sent or given back meanwhile.
    fn move_to_end(&mut self, number: u64, next_seq: u64) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut cursor = Cursor::default();
        loop {
            let Some(writes) = shared.state.lock().pending.next(&mut cursor, number) else { return Ok(()) };
            if writes.is_empty() {
                continue;
            }
            let mut bytes = Vec::new();
            writes.iter().for_each(|write| write_write(write, &mut bytes));
            let segment = self.log.append(&bytes, next_seq)?;
            let mut state = shared.state.lock();
            for write in &writes {
                if let Some(freed) = state.pending.moved(write, segment) {
                    self.log.hold(segment);
                    freed.into_iter().for_each(|segment| self.log.let_go(segment));
                }
            }
        }
    }

    fn say(&self, error: &io::Error) -> String {
        format!("cannot write to {}: {error}", self.log.path(self.log.last().max(1)).display())
    }
}
