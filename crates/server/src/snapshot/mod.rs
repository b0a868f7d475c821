//! Snapshots: the data as it was at one moment, in a file that redis-server reads, while everything goes on.
//!
//! [`begin`] takes the moment with everything held; from then on workers save the keyspace between turns (`sweep.rs`; how is told
//! in the store's `snapshot.rs`), and a thread of the snapshot's own writes the file (`writer.rs`). SAVE, BGSAVE, save points,
//! FLUSHALL and SHUTDOWN come in here (`jobs.rs`, `commands/save.rs`), and so does who rewrites a log. There is one at a time.
//!
//! Invariant: `done` of a target is called once, whatever happens, when nothing of its snapshot goes on any more.
//! Read next: `writer.rs`, `jobs.rs`.

mod courtesy;
mod jobs;
mod sweep;
mod writer;

pub use jobs::{
    Asker, Ending, Job, Reload, ask_for, begin_background, finish, give_up, look_after, next_by_calendar,
    reload, reload_log, remove_aside, shut_down, stop,
};
pub use sweep::Sweep;
pub use writer::{Failure, Form};

use crate::execute::Core;
use crate::load::{HOT_FIRST, beside};
use crate::process;
use crate::server::Server;
use crate::{REDIS_VERSION, clock};
use larder_behind::{Disk, Files};
use larder_commands::keys::{write_commands, write_key};
use larder_config::Settings;
use larder_persist::aof::{append, append_timestamp};
use larder_persist::rdb;
use larder_persist::rdb::file::{Access, Pieces, push_header, push_resize, push_select};
use larder_persist::rdb::{VERSION, VERSION_WITHOUT_FIELD_ENDS};
use larder_store::{Chunk, Item, Scribe, Sink, Snapshot, uses_of};
use larder_values::lru::{self, Lfu};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use writer::{BEHIND_BYTES, EASY_BYTES, FULL_BYTES, FULL_PART, Pending, Piece, Plan, write};

/// What a snapshot is made for.
pub struct Target {
    /// Where the file is to stand.
    pub path: PathBuf,
    /// What it is made of.
    pub form: Form,
    /// Names and values for the file, behind those that every file has.
    pub aux: Vec<(&'static str, Vec<u8>)>,
    /// Called at the moment, while everything is held.
    pub at_start: Box<dyn FnOnce() + Send>,
    /// Called by a thread of the snapshot's own when it is over.
    pub done: Box<dyn FnOnce(Result<Saved, Failure>) + Send>,
}

/// Who a snapshot is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A client that waits for it.
    Save,
    /// Nobody waits.
    Background,
    /// The file is to show that all data was removed.
    Flush,
    /// The server is to stop.
    Shutdown,
    /// Everything is to be loaded anew.
    Reload,
    /// A log begins with it.
    Rewrite,
}

/// A snapshot that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    /// Bytes of the file.
    pub bytes: u64,
    /// Keys in it.
    pub keys: u64,
    /// The most memory that what was saved and not yet written took, in bytes.
    pub peak_bytes: usize,
    /// Changes that had been made up to the moment, of all there ever were.
    pub changes: u64,
}

/// Why no snapshot was begun.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// A script is busy, or data is being loaded: to be asked again.
    Busy,
    /// One is under way.
    UnderWay,
    /// The system gives no thread.
    Failed(String),
}

/// What the server knows of its snapshots.
pub struct Snapshots {
    current: Mutex<Option<Current>>,
    /// One is under way.
    is_on: AtomicBool,
    /// What waits to be written of it, and how much of that is too much.
    pending: Mutex<Arc<Pending>>,
    full_bytes: AtomicUsize,
    /// What was changed up to the moment of the last good one, of all changes there ever were.
    pub(crate) changes_saved: AtomicU64,
    /// Figures of those in the background.
    pub(crate) figures: Mutex<Figures>,
    /// The last one in the background failed.
    has_failed: AtomicBool,
    /// Up to when the calendar (`snapshot-cron`) has been looked through, in seconds of Unix time; 0 while it was not.
    calendar_secs: AtomicU64,
    /// What is to be begun as soon as it can be.
    jobs: Mutex<VecDeque<Job>>,
    /// The server is about to stop, or to load everything anew: nothing may change any more.
    is_ending: AtomicBool,
    /// Signals that asked the server to stop.
    pub signals: AtomicU8,
    disk: Arc<dyn Disk + Sync>,
}

/// The snapshot under way.
struct Current {
    snapshot: Arc<Snapshot>,
    begun: std::time::Instant,
    kind: Kind,
    pending: Arc<Pending>,
}

/// What is told of snapshots.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// How many were begun.
    pub begun: u64,
    /// How long the last one in the background took, in seconds.
    pub last_secs: Option<u64>,
    /// The memory that it took, in bytes.
    pub last_bytes: usize,
    /// When one in the background was last begun, in seconds of Unix time.
    pub tried_secs: u64,
    /// One is to be begun as soon as it can be.
    pub is_scheduled: bool,
}

/// What is known of the snapshot under way.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Keys there were at the moment, and how many have been looked at.
    pub keys: (u64, u64),
    /// Seconds since it was begun.
    pub secs: u64,
    /// Who it is made for.
    pub kind: Kind,
    /// What was saved and is not yet written, in bytes, now and at the most.
    pub bytes: (usize, usize),
}

impl Default for Snapshots {
    fn default() -> Snapshots {
        let figures =
            Figures { begun: 0, last_secs: None, last_bytes: 0, tried_secs: 0, is_scheduled: false };
        Snapshots {
            current: Mutex::default(),
            is_on: AtomicBool::new(false),
            pending: Mutex::default(),
            full_bytes: AtomicUsize::new(usize::MAX),
            changes_saved: AtomicU64::new(0),
            figures: Mutex::new(figures),
            has_failed: AtomicBool::new(false),
            calendar_secs: AtomicU64::new(0),
            jobs: Mutex::default(),
            is_ending: AtomicBool::new(false),
            signals: AtomicU8::new(0),
            disk: Arc::new(Files),
        }
    }
}

impl Snapshots {
    /// Whether one is under way.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    /// Whether one in the background is under way.
    pub fn is_background_on(&self) -> bool {
        self.kind() == Some(Kind::Background)
    }

    /// Counts one that was asked for.
    pub fn count(&self) {
        self.figures.lock().begun += 1;
    }

    /// Begins the count anew (CONFIG RESETSTAT).
    pub fn reset_count(&self) {
        self.figures.lock().begun = 0;
    }

    /// Who the one under way is made for.
    pub fn kind(&self) -> Option<Kind> {
        self.current.lock().as_ref().map(|current| current.kind)
    }

    /// What is known of the one under way.
    pub fn progress(&self) -> Option<Progress> {
        let current = self.current.lock();
        let current = current.as_ref()?;
        Some(Progress {
            keys: current.snapshot.progress(),
            secs: clock::now().saturating_duration_since(current.begun).as_secs(),
            kind: current.kind,
            bytes: (current.pending.bytes(), current.pending.peak()),
        })
    }

    /// Says to the writer of the one under way that there will be no file.
    fn give_up_writing(&self) {
        if let Some(current) = &*self.current.lock() {
            current.pending.give_up();
        }
    }

    /// Bytes that were saved and are not yet written.
    pub fn pending_bytes(&self) -> usize {
        if self.is_on() { self.pending.lock().bytes() } else { 0 }
    }

    /// Whether changes have to wait: so much is to be written, or the server is about to stop.
    #[inline]
    pub fn holds_writes(&self) -> bool {
        self.is_ending.load(Relaxed) || self.is_on() && self.pending_bytes() > self.full_bytes.load(Relaxed)
    }

    /// Whether the last one in the background failed.
    #[inline]
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Relaxed)
    }
}

/// Changes since the last good snapshot.
pub fn changes_since(server: &Server) -> u64 {
    changes(server).saturating_sub(server.snapshots.changes_saved.load(Relaxed))
}

/// All changes there ever were.
fn changes(server: &Server) -> u64 {
    server.sum(|stats| stats.store.changes.get())
}

/// What a snapshot tells of the uses of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Uses {
    No,
    Idle,
    /// Counted; after how many minutes one is forgotten.
    Frequency(u32),
}

impl Uses {
    /// As Redis: what the policy asks for, whether or not there is a limit.
    fn of(settings: &Settings) -> Uses {
        match settings.maxmemory_policy().name() {
            name if name.ends_with("-lru") => Uses::Idle,
            name if name.ends_with("-lfu") => Uses::Frequency(settings.lfu_decay_time()),
            _ => Uses::No,
        }
    }
}

/// Where workers hand over what they have saved.
struct ToWriter {
    pieces: Sender<Piece>,
    pending: Arc<Pending>,
    uses: Uses,
    counts_in_fields: bool,
    compresses: bool,
    now_ms: u64,
    /// What the eviction policy knows of keys is kept, too.
    keeps_uses: bool,
    form: Form,
}

impl Sink for ToWriter {
    fn scribe(&self) -> Box<dyn Scribe> {
        if self.form == Form::Commands {
            return Box::new(Commands);
        }
        let mut writer = rdb::Writer::new(self.compresses);
        writer.strings().spare_effort();
        Box::new(Rdb {
            writer,
            uses: self.uses,
            now_ms: self.now_ms,
            counts_in_fields: self.counts_in_fields,
        })
    }

    fn keeps_uses(&self) -> bool {
        self.keeps_uses
    }

    fn buffer(&self) -> Vec<u8> {
        self.pending.buffer()
    }

    fn take(&self, mut chunk: Chunk) {
        if chunk.bytes.capacity() / 4 * 3 > chunk.bytes.len() {
            chunk.bytes.shrink_to_fit();
        }
        self.pending.add(writer::held_by(&chunk));
        // Where the writer has failed nobody receives it, and the snapshot is over.
        let _ = self.pieces.send(Piece::Keys(chunk));
    }

    fn is_behind(&self) -> bool {
        self.pending.bytes() > BEHIND_BYTES
    }

    fn has_time(&self) -> bool {
        self.pending.bytes() < EASY_BYTES
    }

    fn end(&self) {
        let _ = self.pieces.send(Piece::End);
    }

    fn abort(&self) {
        self.pending.give_up();
        let _ = self.pieces.send(Piece::Abort);
    }
}

/// Writes keys as the commands that make them.
struct Commands;

impl Scribe for Commands {
    fn asks_for_idle(&self) -> bool {
        false
    }

    fn write(&mut self, item: &Item<'_>, _: Option<u64>, to: &mut Vec<u8>) -> bool {
        if item.is_whole() {
            write_commands(item, to);
        }
        item.is_whole()
    }
}

/// Writes keys as RDB files have them.
struct Rdb {
    writer: rdb::Writer,
    uses: Uses,
    now_ms: u64,
    /// A policy in force counts uses in the access field, in a way of its own.
    counts_in_fields: bool,
}

impl Scribe for Rdb {
    fn asks_for_idle(&self) -> bool {
        self.uses == Uses::Idle
    }

    fn write(&mut self, item: &Item<'_>, idle_ms: Option<u64>, to: &mut Vec<u8>) -> bool {
        if !item.is_whole() {
            return false;
        }
        let access = match (self.uses, idle_ms) {
            (Uses::Idle, Some(idle_ms)) => Access::Idle(idle_ms / 1000),
            (Uses::Frequency(_), _) if self.counts_in_fields => Access::Frequency(uses_of(item.access())),
            (Uses::Frequency(decay_minutes), _) => {
                let minute = lru::minute_at(self.now_ms);
                Access::Frequency(Lfu::from_bits(item.access()).decayed_counter(minute, decay_minutes))
            }
            _ => Access::Unknown,
        };
        write_key(&mut self.writer, item, access, to);
        true
    }

    fn leave_work(&mut self, leaves: bool) {
        self.writer.strings().leave(leaves);
    }

    fn take_left(&mut self) -> Vec<u32> {
        self.writer.strings().take_left()
    }
}

/// What is known of the uses of keys beyond single ones, as it stands in a file's head.
fn known(server: &Server, settings: &Settings) -> Vec<u8> {
    let (mut out, mut pieces) = (Vec::new(), Pieces::new(settings.rdbcompression()));
    if !settings.warm_restart() {
        return out;
    }
    if let Some(learned) = server.keyspace.learned() {
        pieces.push_aux(beside::POLICY.as_bytes(), &beside::policy(&learned), &mut out);
    }
    if settings.cache_insight() {
        pieces.push_aux(beside::INSIGHT.as_bytes(), &server.keyspace.insight_kept(), &mut out);
    }
    out
}

/// What begins a log of commands: the time, where it is asked for, and the libraries.
fn head_of_commands(server: &Server, settings: &Settings) -> Vec<u8> {
    let mut out = Vec::new();
    if settings.aof_timestamp_enabled() {
        append_timestamp(&mut out, clock::unix_millis().0 / 1000);
    }
    for library in server.functions.all().iter() {
        append(&mut out, [&b"FUNCTION"[..], b"LOAD", &library.text].into_iter());
    }
    out
}

/// What begins a file of now. `known`: see there.
fn head(server: &Server, snapshot: &Snapshot, target: &Target, settings: &Settings, known: &[u8]) -> Vec<u8> {
    let (mut out, mut pieces) = (Vec::new(), Pieces::new(settings.rdbcompression()));
    // What older servers read, and Valkey, where nothing is in it that they do not know.
    let has_field_ends = server.keyspace.indexes().any(|db| server.keyspace.len_with_field_ends(db) > 0);
    push_header(if has_field_ends { VERSION } else { VERSION_WITHOUT_FIELD_ENDS }, &mut out);
    let secs = (clock::unix_millis().0 / 1000).to_string();
    let used = server.used_memory().to_string();
    let fields = [
        ("redis-ver", REDIS_VERSION.as_bytes()),
        ("redis-bits", b"64"),
        ("ctime", secs.as_bytes()),
        ("used-mem", used.as_bytes()),
    ];
    let own = target.aux.iter().map(|(name, value)| (*name, value.as_slice()));
    for (name, value) in fields.into_iter().chain(own) {
        pieces.push_aux(name.as_bytes(), value, &mut out);
    }
    out.extend_from_slice(known);
    for library in server.functions.all().iter() {
        pieces.push_library(&library.text, &mut out);
    }
    for (db, keys, timed) in snapshot.databases() {
        push_select(u64::from(db.0), &mut out);
        push_resize(keys, timed, &mut out);
    }
    out
}

/// What a snapshot's thread calls in the end, and how many changes there ever were at the moment.
type Told = (Box<dyn FnOnce(Result<Saved, Failure>) + Send>, u64);

/// Starts the thread that writes the file. It begins once it is told what to call in the end; where it is never told, there is no
/// snapshot.
fn start_writer(
    server: &'static Server,
    (plan, cores): (Plan, &[u8]),
    pieces: Receiver<Piece>,
    told: Receiver<Told>,
    pending: Arc<Pending>,
) -> std::io::Result<()> {
    let disk = Arc::clone(&server.snapshots.disk);
    let thread = std::thread::Builder::new().name("larder-snapshot".into());
    let cores = cores.to_vec();
    let started = thread.spawn(move || {
        process::pin(&cores);
        let Ok((done, changes)) = told.recv() else { return };
        let written = write(&plan, &*disk, &pieces, &pending);
        drop(pieces);
        // Where it failed, workers are still at it.
        server.keyspace.end_snapshot();
        // What came of it is noted before anybody can see that it is over.
        done(written.map(|written| Saved {
            bytes: written.bytes,
            keys: written.keys,
            peak_bytes: pending.peak(),
            changes,
        }));
        *server.snapshots.current.lock() = None;
        server.snapshots.is_on.store(false, Relaxed);
        jobs::go_on(server);
        server.wake_all();
    });
    started.map(drop)
}

/// How the file of a snapshot is written, and on which cores.
fn plan<'s>(kind: Kind, target: &Target, settings: &'s Settings, is_hot_first: bool) -> (Plan, &'s [u8]) {
    let is_rewrite = kind == Kind::Rewrite;
    let plan = Plan {
        path: target.path.clone(),
        aside: jobs::aside(&target.path),
        cold_aside: is_hot_first.then(|| jobs::cold_aside(&target.path)),
        form: target.form,
        is_summed: settings.rdbchecksum() && target.form == Form::Rdb,
        compresses: settings.rdbcompression(),
        syncs_often: if is_rewrite {
            settings.aof_rewrite_incremental_fsync()
        } else {
            settings.rdb_save_incremental_fsync()
        },
        gives_way: matches!(kind, Kind::Background | Kind::Rewrite),
        key_delay: settings.rdb_key_save_delay(),
    };
    (plan, if is_rewrite { settings.aof_rewrite_cpulist() } else { settings.bgsave_cpulist() })
}

/// Begins a snapshot: what it is of is everything as it is now. Called inside a turn, or with everything held; who is no worker sends
/// one a [`crate::server::Work`] that calls it.
///
/// # Errors
/// Why there is none, and the target, of which nothing was called.
pub fn begin(core: &mut Core, kind: Kind, target: Target) -> Result<(), (Refused, Target)> {
    let (server, settings) = (core.server, core.server.settings());
    if server.loading.is_on() {
        return Err((Refused::Busy, target));
    }
    if server.snapshots.is_on.swap(true, Relaxed) {
        return Err((Refused::UnderWay, target));
    }
    let (pieces, receiver) = channel();
    let pending = Arc::new(Pending::default());
    let form = target.form;
    // A log is loaded as a whole.
    let is_hot_first = settings.load_serving() == HOT_FIRST && kind != Kind::Rewrite;
    let (plan, cores) = plan(kind, &target, &settings, is_hot_first);
    let (tell, told) = channel();
    let started = start_writer(server, (plan, cores), receiver, told, Arc::clone(&pending));
    if let Err(error) = started {
        server.snapshots.is_on.store(false, Relaxed);
        return Err((Refused::Failed(format!("cannot start a thread for the snapshot: {error}")), target));
    }
    let prepared = server.keyspace.prepare_snapshot(&mut core.local, is_hot_first);
    let used = server.used_memory();
    server.snapshots.full_bytes.store(FULL_BYTES + used / FULL_PART, Relaxed);
    *server.snapshots.pending.lock() = Arc::clone(&pending);
    let sink = ToWriter {
        pieces: pieces.clone(),
        pending: Arc::clone(&pending),
        uses: Uses::of(&settings),
        counts_in_fields: core.local.unclassed == larder_store::Access::Policy,
        compresses: settings.rdbcompression(),
        now_ms: core.local.now.0,
        keeps_uses: settings.warm_restart() && form == Form::Rdb,
        form,
    };
    // Before everything is held: it takes a while.
    let known = known(server, &settings);
    let mut target = Some(target);
    let begun = core.alone(|core| {
        core.count_changes();
        let snapshot = server.keyspace.begin_snapshot(prepared, core.local.now, Box::new(sink))?;
        core.local.look_for_snapshot(&server.keyspace);
        // Before any worker may hand anything over.
        let target = target.take()?;
        let head = match form {
            Form::Rdb => head(server, &snapshot, &target, &settings, &known),
            Form::Commands => head_of_commands(server, &settings),
        };
        let _ = pieces.send(Piece::Head(head));
        (target.at_start)();
        let begun = clock::now();
        *server.snapshots.current.lock() = Some(Current { snapshot, begun, kind, pending });
        let _ = tell.send((target.done, changes(server)));
        Some(())
    });
    match target {
        // It has begun.
        None => {
            server.wake_all();
            Ok(())
        }
        Some(target) => {
            server.snapshots.is_on.store(false, Relaxed);
            Err((if begun.is_some() { Refused::UnderWay } else { Refused::Busy }, target))
        }
    }
}
