//! The append-only log: what workers have collected (`larder_store::Log`) goes to disk by one thread.
//!
//! Workers hand their units over at the end of each turn and wait for nothing. The writer merges them by number
//! (`merge.rs`), appends them to the file at hand (`writer.rs`, `files.rs`) and forces it to disk as `appendfsync` says. With
//! `always` a connection whose command is in the log gets its replies once that is on disk: it is held (`worker/flush.rs`) until
//! [`Held`] has passed its number, so one fsync serves all that was written since the last.
//!
//! Read next: `writer.rs`.

mod files;
mod held;
mod merge;
mod rewrite;
mod start;
mod writer;

use crate::snapshot::Form;
use larder_config::Settings;
use parking_lot::{Condvar, Mutex};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64};
use std::sync::mpsc;

pub use files::Files;
use held::Held;
pub use rewrite::{Asked, ask_for_rewrite, look_after, try_place, turn_off, turn_on};
pub use start::{begin, finish};

/// Buffers kept for workers. What is kept counts as memory in use, so it is not to be much.
const SPARE_BUFFERS: usize = 16;
/// Larger ones are not kept.
const SPARE_BYTES_MAX: usize = 256 * 1024;
/// More units than this, in bytes, that are not written yet: write commands wait.
const BACKLOG_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// `appendfsync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Policy {
    /// Before anybody is answered.
    Always,
    /// Once a second.
    EverySecond,
    /// When the system likes.
    Never,
}

/// A new base, as it was written aside.
#[derive(Debug, Clone)]
pub struct Base {
    /// Where it is.
    pub path: PathBuf,
    /// What it is made of.
    pub form: Form,
}

impl Base {
    /// What a base is made of, as the settings say.
    pub fn form(settings: &Settings) -> Form {
        if settings.aof_use_rdb_preamble() { Form::Rdb } else { Form::Commands }
    }

    /// How the name of a base of this form ends.
    pub fn extension(form: Form) -> &'static str {
        match form {
            Form::Rdb => "rdb",
            Form::Commands => "aof",
        }
    }
}

/// What the writer is asked to do, beside writing.
pub enum Order {
    /// Open the next incremental file, and have a snapshot begun then. Where nothing is logged yet, the file is named in the
    /// manifest only with its base.
    Prepare,
    /// Units behind this number go to the file that was prepared.
    Switch(u64),
    /// The base behind which the file that was switched to last begins is written, or could not be.
    Rewritten(Result<Base, String>),
    /// Look who waits.
    Look,
    /// Write and force to disk all units up to this number; then say so, and end if asked to.
    Flush {
        /// Up to where.
        to: u64,
        /// Logging ends.
        ends: bool,
        /// Where to say that it is done.
        done: mpsc::Sender<Result<(), String>>,
    },
}

#[derive(Default)]
struct Inbox {
    batches: Vec<(usize, Vec<u8>)>,
    orders: Vec<Order>,
    spare: Vec<Vec<u8>>,
    /// The writer sleeps.
    is_asleep: bool,
}

/// What threads share of the log.
#[derive(Default)]
pub struct Journal {
    /// The number of the last unit of any thread.
    pub numbers: Arc<AtomicU64>,
    /// There is a writer. Set under the lock of `Server::plan`.
    has_begun: AtomicBool,
    /// Whether workers collect.
    is_on: AtomicBool,
    policy: AtomicU8,
    inbox: Mutex<Inbox>,
    wake: Condvar,
    /// Up to which number replies may go out, and whether a connection waits for that or for [`Journal::durable`].
    held: Held,
    /// Up to which number units are on disk.
    durable: AtomicU64,
    /// Bytes handed over and not written.
    backlog: AtomicU64,
    /// Writing or forcing to disk fails at present.
    is_in_trouble: AtomicBool,
    trouble: Mutex<String>,
    folder: Mutex<PathBuf>,
    /// The next file is ready, and its snapshot is still to be begun.
    is_ready: AtomicBool,
    /// The rewrite under way has a file for what is logged from its moment on: logging was on when the writer got it ready.
    is_prepared: AtomicBool,
    /// Clients that wait for [`Journal::durable`] to reach a number.
    waiting: Mutex<Vec<(u64, u64)>>,
    /// How long the writer waits each time before it writes, in microseconds: for tests.
    pub sleep_micros: AtomicU64,
    /// Figures for INFO.
    pub figures: Figures,
}

/// What INFO tells.
#[derive(Debug, Default)]
pub struct Figures {
    /// Bytes of all files that would be loaded.
    pub current_bytes: AtomicU64,
    /// The same behind the last rewrite or start.
    pub base_bytes: AtomicU64,
    /// Nothing can be loaded yet of what is logged: the first base is still to be written.
    pub has_no_base: AtomicBool,
    /// A rewrite is under way.
    pub is_rewriting: AtomicBool,
    /// A rewrite is to begin when the snapshot at hand is over.
    pub is_scheduled: AtomicBool,
    /// The rewrite under way was given up, since logging has been turned off.
    pub is_given_up: AtomicBool,
    /// The last rewrite failed.
    pub has_rewrite_failed: AtomicBool,
    /// Rewrites so far.
    pub rewrites: AtomicU64,
    /// How many rewrites in a row have failed.
    pub failures_in_a_row: AtomicU64,
    /// How long the last rewrite took, in seconds; -1 before the first (kept one higher, so that 0 is the beginning).
    pub last_secs_and_one: AtomicI64,
    /// When the rewrite at hand began, in milliseconds of Unix time.
    pub began_ms: AtomicU64,
    /// When a rewrite is tried next by itself, in milliseconds of Unix time.
    pub not_before_ms: AtomicU64,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Journal").field("is_on", &self.is_on).finish_non_exhaustive()
    }
}

impl Journal {
    /// Whether workers collect what is logged.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    /// Whether there is a writer. Before, while data is loaded, `CONFIG SET appendonly` only changes the setting, and [`begin`] sees to it.
    /// Asked by who has the lock of `Server::plan`.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Relaxed)
    }

    /// Has workers collect from their next turn on, or no more. Nobody else is inside a turn.
    pub fn switch(&self, is_on: bool) {
        self.is_on.store(is_on, Relaxed);
    }

    /// `appendfsync`.
    pub fn policy(&self) -> Policy {
        match self.policy.load(Relaxed) {
            0 => Policy::Always,
            1 => Policy::EverySecond,
            _ => Policy::Never,
        }
    }

    /// Does as settings say from now on.
    pub fn follow(&self, settings: &Settings) {
        self.set_policy(match settings.appendfsync() {
            1 => Policy::Always,
            2 => Policy::Never,
            _ => Policy::EverySecond,
        });
    }

    fn set_policy(&self, policy: Policy) {
        self.policy.store(policy as u8, Relaxed);
        self.wake.notify_all();
    }

    /// Takes a worker's units over; answers a buffer for the next ones.
    pub fn hand_over(&self, worker: usize, units: Vec<u8>) -> Vec<u8> {
        self.backlog.fetch_add(units.len() as u64, Relaxed);
        let mut inbox = self.inbox.lock();
        inbox.batches.push((worker, units));
        let spare = inbox.spare.pop();
        if std::mem::take(&mut inbox.is_asleep) {
            drop(inbox);
            self.wake.notify_one();
        }
        spare.unwrap_or_default()
    }

    /// Counts what was handed over as written, or as what nobody needs any more.
    fn pass(&self, bytes: u64) {
        self.backlog.fetch_sub(bytes, Relaxed);
    }

    /// Asks the writer for something.
    pub fn order(&self, order: Order) {
        let mut inbox = self.inbox.lock();
        inbox.orders.push(order);
        inbox.is_asleep = false;
        drop(inbox);
        self.wake.notify_one();
    }

    /// Whether replies that come behind the unit of this number are to be held for now.
    #[inline]
    pub fn holds(&self, number: u64) -> bool {
        self.held.holds(number) && self.policy() == Policy::Always && self.is_on()
    }

    /// The same, for who is told when that has changed: the writer wakes all workers then.
    #[cold]
    pub fn holds_and_tells(&self, number: u64) -> bool {
        self.held.holds_and_waits(number)
    }

    /// Up to which number units are on disk.
    pub fn durable(&self) -> u64 {
        self.durable.load(SeqCst)
    }

    /// Whether units up to a number can be loaded from disk: they are there, and so is the base before them.
    pub fn has_on_disk(&self, number: u64) -> bool {
        self.is_on() && !self.figures.has_no_base.load(SeqCst) && self.durable() >= number
    }

    /// Has a client that is among the blocked ones answered when units up to a number are on disk.
    pub fn answer_when_durable(&self, number: u64, client: u64) {
        self.waiting.lock().push((number, client));
        // It may have been so before anybody was told; and there may be nothing more to write.
        let mut inbox = self.inbox.lock();
        inbox.orders.push(Order::Look);
        inbox.is_asleep = false;
        drop(inbox);
        self.wake.notify_one();
    }

    /// Where the files of the rewrite at hand lie.
    pub fn folder(&self) -> PathBuf {
        self.folder.lock().clone()
    }

    /// The number of the last unit of any thread.
    pub fn last(&self) -> u64 {
        self.numbers.load(Relaxed)
    }

    /// Whether write commands are to wait, since the disk does not keep up.
    #[inline]
    pub fn is_congested(&self) -> bool {
        self.backlog.load(Relaxed) > BACKLOG_BYTES_MAX
    }

    /// Bytes that are not written yet.
    pub fn backlog(&self) -> u64 {
        self.backlog.load(Relaxed)
    }

    /// Whether write commands are refused, since they cannot be logged.
    #[inline]
    pub fn is_in_trouble(&self) -> bool {
        self.is_in_trouble.load(Relaxed)
    }

    /// What the trouble is.
    pub fn trouble(&self) -> Option<String> {
        self.is_in_trouble().then(|| self.trouble.lock().clone())
    }

    fn set_trouble(&self, text: Option<String>) {
        let is_in_trouble = text.is_some();
        if let Some(text) = text {
            *self.trouble.lock() = text;
        }
        self.is_in_trouble.store(is_in_trouble, Release);
    }

    /// Writes and forces to disk everything up to now. `ends`: nothing is collected any more, and logging ends.
    ///
    /// # Errors
    /// Why it could not be.
    pub fn flush(&self, ends: bool) -> Result<(), String> {
        let (done, is_done) = mpsc::channel();
        self.order(Order::Flush { to: self.last(), ends, done });
        is_done.recv().unwrap_or_else(|_| Err("the writer of the log has ended".into()))
    }
}
