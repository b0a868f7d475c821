//! What lies between start and serving: the data of a file is loaded, while clients are answered that it is.
//!
//! One thread reads the file and cuts it into pieces (`rdb.rs`); the workers take them from a queue between their
//! turns (`pieces.rs`; parts of long values: `parts.rs`), decode them and store their keys. Until all is there a command that may not run meanwhile is
//! answered `-LOADING`; no event is told of what is loaded.
//! Invariant: either everything that a file holds is there when serving begins, or the server does not serve. With `load-serving
//! hot-first` serving begins before, for commands whose keys are decided: nothing that the file still has comes over these (`partly.rs`).
//! Read next: `rdb.rs`, then `pieces.rs`.

mod aof;
pub mod beside;
mod check;
mod check_aof;
mod partly;
mod parts;
mod pieces;
mod rdb;

pub use check::check_rdb;
pub use check_aof::{Options as CheckAof, check_aof};
pub use pieces::Pieces;
pub use rdb::{How, Loaded, rdb};

use crate::clock;
use crate::journal::{self, Files};
use crate::server::Server;
use crate::through;
use larder_config::Settings;
use larder_persist::rdb::file::{FileError, START_BYTES, is_start};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{
    AtomicU8, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// `load-serving hot-first`, as the setting's view has it.
pub const HOT_FIRST: usize = 1;

/// What a client is answered meanwhile.
pub const LOADING_TEXT: &str = "LOADING Redis is loading the dataset in memory";

/// How far loading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// There is nothing to load, or all is there.
    Off,
    /// Nothing is served.
    Closed,
    /// What is decided is served.
    Partly,
}

/// Whether something is being loaded, how far it is, and what came of the last time.
#[derive(Default)]
pub struct Loading {
    /// A [`Stage`].
    stage: AtomicU8,
    /// When it began, in seconds of Unix time.
    pub start_secs: AtomicU64,
    /// Bytes of the file, and of those what was read.
    pub total_bytes: AtomicU64,
    /// See there.
    pub loaded_bytes: AtomicU64,
    /// What the server that wrote the file had in use, in bytes, as it said.
    pub memory_then: AtomicU64,
    /// Keys that were stored the last time, and those that were left out since their time was over.
    keys_loaded: AtomicU64,
    /// See there.
    keys_expired: AtomicU64,
    /// What is to be stored.
    pub pieces: Pieces,
}

impl Loading {
    /// Whether something is being loaded.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.stage.load(Relaxed) != Stage::Off as u8
    }

    /// Whether something is being loaded, and what is decided is served already.
    #[inline]
    pub fn is_partly_served(&self) -> bool {
        // Acquire: pairs with the Release in `set`; what is hot is there.
        self.stage.load(Acquire) == Stage::Partly as u8
    }

    fn set(&self, stage: Stage) {
        self.stage.store(stage as u8, Release);
    }

    /// How many keys were stored and how many left out since their time was over: this time, or the last.
    pub fn keys(&self) -> (u64, u64) {
        if self.is_on() {
            let counts = self.pieces.counts();
            return (counts.loaded, counts.expired);
        }
        (self.keys_loaded.load(Relaxed), self.keys_expired.load(Relaxed))
    }

    /// How many percent have been read, and how many seconds it may still take, as Redis reckons.
    pub fn progress(&self) -> (f64, u64) {
        let (total, loaded) = (self.total_bytes.load(Relaxed), self.loaded_bytes.load(Relaxed));
        let percent = if total == 0 { 0.0 } else { loaded as f64 * 100.0 / total as f64 };
        let elapsed = (clock::unix_millis().0 / 1000).saturating_sub(self.start_secs.load(Relaxed));
        let left = u128::from(total.saturating_sub(loaded)) * u128::from(elapsed) / (u128::from(loaded) + 1);
        (percent, if elapsed == 0 { 1 } else { left as u64 })
    }

    fn begin(&self, total_bytes: u64) {
        self.total_bytes.store(total_bytes, Relaxed);
        self.loaded_bytes.store(0, Relaxed);
        self.start_secs.store(clock::unix_millis().0 / 1000, Relaxed);
        self.keys_loaded.store(0, Relaxed);
        self.keys_expired.store(0, Relaxed);
    }
}

/// Why nothing is served.
#[derive(Debug)]
pub enum LoadError {
    /// The file is not right; its name, and what is wrong.
    File(PathBuf, FileError),
    /// Something is wrong with the append-only log; what, and where.
    Log(String),
    /// The server was asked to stop meanwhile.
    Stopped,
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadError::File(path, error) => {
                let path = path.display();
                write!(f, "cannot load {path}: {error}; 'larder check-rdb {path}' tells more")
            }
            LoadError::Log(text) => f.write_str(text),
            LoadError::Stopped => f.write_str("stopped while loading"),
        }
    }
}

/// What there is to load at a start.
pub enum Plan {
    /// A snapshot.
    Rdb(PathBuf),
    /// The append-only log.
    Log(Files),
}

/// What there is to load, by the settings and what lies in the working directory. Has clients be answered that it is
/// being loaded, from now on.
///
/// # Errors
/// Where the log's manifest is damaged or cannot be read.
pub fn plan(server: &Server, settings: &Settings) -> Result<Option<Plan>, String> {
    if settings.appendonly() {
        let mut files = Files::of(settings, Box::new(larder_behind::Files))?;
        files.take_old_file_over()?;
        server.loading.set(Stage::Closed);
        return Ok(Some(Plan::Log(files)));
    }
    let path = PathBuf::from(String::from_utf8_lossy(settings.dbfilename()).into_owned());
    // What is there and cannot be read is to be told, not passed over.
    let is_there =
        !matches!(std::fs::metadata(&path), Err(error) if error.kind() == std::io::ErrorKind::NotFound);
    server.loading.set(if is_there { Stage::Closed } else { Stage::Off });
    Ok(is_there.then_some(Plan::Rdb(path)))
}

/// Loads a snapshot into a server that has been serving, and answers clients that it does meanwhile: `prepare` is called once they
/// are. With `merges` keys that are there already are replaced. Called on a thread that is no worker.
///
/// # Errors
/// As [`rdb`]; what was loaded before stays.
pub fn again(
    server: &'static Server,
    path: &Path,
    merges: bool,
    prepare: impl FnOnce(),
) -> Result<Loaded, LoadError> {
    server.loading.set(Stage::Closed);
    server.touch_settings();
    prepare();
    let loaded = rdb(server, path, How { merges, ..How::default() });
    server.loading.set(Stage::Off);
    server.touch_settings();
    loaded
}

/// As [`again`], from the append-only log as its files are.
///
/// # Errors
/// As [`run`]; what was loaded before stays.
pub fn log_again(server: &'static Server, prepare: impl FnOnce()) -> Result<(), LoadError> {
    let files = Files::of(&server.settings(), Box::new(larder_behind::Files)).map_err(LoadError::Log)?;
    // Differs from Redis: DEBUG LOADAOF answers its error where there is no log, and the data stays; Redis has removed it by then.
    if files.manifest.files().next().is_none() {
        return Err(LoadError::Log(format!("there is no append-only log in {}", files.folder.display())));
    }
    server.loading.set(Stage::Closed);
    server.touch_settings();
    prepare();
    let loaded = aof::aof(server, &files);
    server.loading.set(Stage::Off);
    server.touch_settings();
    loaded
}

/// Whether a file of a log begins as a snapshot does, be it Redis' or Valkey's.
fn begins_as_snapshot(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(START_BYTES as u64).read_to_end(&mut start)?;
    Ok(is_start(&start))
}

/// Whether hot keys are to be served before the rest is there.
fn is_hot_first(server: &Server) -> bool {
    if server.settings().load_serving() != HOT_FIRST {
        return false;
    }
    if !server.through.routes().is_empty() {
        tracing::warn!(
            "'load-serving hot-first' does not go with routes: nothing is served before everything is loaded"
        );
        return false;
    }
    true
}

/// Carries a plan out, on a thread that is no worker, and lets everything be served.
///
/// # Errors
/// Where a file is not right, or the server was asked to stop.
pub fn run(server: &'static Server, plan: Plan) -> Result<(), LoadError> {
    match plan {
        Plan::Rdb(path) => {
            let start = clock::now();
            let how = How { is_hot_first: is_hot_first(server), ..How::default() };
            let loaded = rdb(server, &path, how)?;
            let seconds = clock::now().saturating_duration_since(start).as_secs_f64();
            let Loaded { keys, libraries, expired, empty, skipped, overtaken, bytes } = loaded;
            tracing::info!(
                "DB loaded from disk: {seconds:.3} seconds, {}: {bytes} bytes, {keys} keys, {libraries} libraries of functions; left out: \
                 {expired} keys whose time was over, {empty} empty ones, {skipped} of modules, {overtaken} that were changed meanwhile",
                path.display(),
            );
            through::drop_unfollowed(server);
            journal::begin(server, None).map_err(LoadError::Log)?;
        }
        Plan::Log(files) => {
            if server.settings().load_serving() == HOT_FIRST {
                tracing::warn!(
                    "'load-serving hot-first' does not go with an append-only log: nothing is served before all of it is loaded"
                );
            }
            let start = clock::now();
            aof::aof(server, &files)?;
            let seconds = clock::now().saturating_duration_since(start).as_secs_f64();
            tracing::info!("DB loaded from append only file: {seconds:.3} seconds");
            through::drop_unfollowed(server);
            journal::begin(server, Some(files)).map_err(LoadError::Log)?;
        }
    }
    server.loading.set(Stage::Off);
    server.keyspace.forget_rest();
    // Listeners of events, and the limit of memory, are for the time after.
    server.touch_settings();
    Ok(())
}
