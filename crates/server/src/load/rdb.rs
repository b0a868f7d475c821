//! A snapshot's way in: read, cut, handed to the workers.

use super::LoadError;
use super::beside::{self, Beside};
use super::pieces::{Counts, Piece};
use crate::clock;
use crate::server::{Message, Server};
use foldhash::HashSet;
use larder_persist::rdb::file::{About, Cut, Cutter, FileError, Terms, Why};
use larder_store::Kind;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Bytes of a piece, unless a single record has more.
const PIECE_BYTES: usize = 1024 * 1024;
/// Bytes that a key takes in a file at least, more or less: a byte for its type and its end, some for itself and its value.
const KEY_BYTES_MIN: u64 = 8;
/// Keys from which on it pays to make room for them before they come.
const ROOM_KEYS_MIN: u64 = 10_000;
/// How often the log tells how far it is.
const PROGRESS_PERIOD: Duration = Duration::from_secs(5);

/// What was loaded.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Keys that were stored.
    pub keys: u64,
    /// Keys that were left out since their time was over.
    pub expired: u64,
    /// Collections of nothing that were left out.
    pub empty: u64,
    /// Values of modules that were left out.
    pub skipped: u64,
    /// Libraries of functions.
    pub libraries: u64,
    /// Bytes up to the snapshot's end. The file may go on behind it, as a log does.
    pub bytes: u64,
}

/// Loads a snapshot, and returns when all of it is there. Called on a thread that is no worker; the workers store what
/// it reads, between their turns. With `keeps_expired` keys whose time is over are stored as well: a log goes on behind it.
///
/// # Errors
/// Where the file is not right, or the server was asked to stop.
pub fn rdb(server: &'static Server, path: &Path, keeps_expired: bool) -> Result<Loaded, LoadError> {
    let start = clock::now();
    let failed = |error| LoadError::File(path.to_path_buf(), error);
    let io = |at, error: std::io::Error| FileError { at, key: None, why: Why::Io(error.to_string()) };
    let file = File::open(path).map_err(|error| failed(io(0, error)))?;
    let total = file.metadata().map_err(|error| failed(io(0, error)))?.len();
    server.loading.begin(total);
    tracing::info!("loading {}, {}", path.display(), shown_bytes(total));
    let settings = server.settings();
    let mut reading = Reading {
        server,
        file,
        cutter: Cutter::new(Terms {
            databases: u64::from(settings.databases()),
            skips_modules: settings.load_skip_modules(),
            sums: settings.rdbchecksum(),
        }),
        buffer: Vec::new(),
        libraries: 0,
        keeps_expired,
        sized: HashSet::default(),
        beside: Beside::default(),
        kept_for: None,
        insight: None,
        next_word: start + PROGRESS_PERIOD,
    };
    let counts = reading.run().map_err(|error| error.map_or(LoadError::Stopped, failed))?;
    // Loading is no use of keys: it takes the place of what was counted meanwhile.
    if let Some(insight) = &reading.insight {
        server.keyspace.recall_insight(insight);
    }
    server.loading.keys_loaded.store(counts.loaded, Relaxed);
    server.loading.keys_expired.store(counts.expired, Relaxed);
    Ok(Loaded {
        keys: counts.loaded,
        expired: counts.expired,
        empty: counts.empty,
        skipped: counts.skipped,
        libraries: reading.libraries,
        bytes: reading.cutter.taken(),
    })
}

/// A file that is being read.
struct Reading {
    server: &'static Server,
    file: File,
    cutter: Cutter,
    /// What was read and not cut.
    buffer: Vec<u8>,
    libraries: u64,
    /// Keys whose time is over are stored, too.
    keeps_expired: bool,
    /// Databases that there is room for.
    sized: HashSet<u64>,
    /// What is known of keys that have not come yet.
    beside: Beside,
    /// The eviction policy that what was known of keys is for, where that is the one in force.
    kept_for: Option<Kind>,
    /// What was told of accesses, if the file says and anybody wants to know.
    insight: Option<Vec<u8>>,
    next_word: Instant,
}

impl Reading {
    fn run(&mut self) -> Result<Counts, Option<FileError>> {
        let server = self.server;
        let stops = || server.stop.load(Relaxed) != 0;
        loop {
            let is_end = self.fill()?;
            let mut about = Vec::new();
            let at = self.cutter.taken();
            let cut = self.cutter.cut(&self.buffer, &mut |told| about.push(told))?;
            for told in about {
                self.take_note(told, at, &stops)?;
            }
            if cut.bytes == 0 && is_end {
                return Err(Some(self.cutter.short(&self.buffer)));
            }
            self.hand_over(cut, &stops)?;
            server.loading.loaded_bytes.store(self.cutter.taken(), Relaxed);
            if cut.is_last {
                return server.loading.pieces.finish(&stops);
            }
            self.say_how_far();
        }
    }

    /// Reads on, until there are enough bytes for a piece or for what is wanted. What is wanted is not believed: room is
    /// made for as much again as has come. A record that is longer than a piece is looked at again when there is twice as much
    /// of it, since its parts are only known one after the other. True where the file ends.
    fn fill(&mut self) -> Result<bool, FileError> {
        let wanted = usize::try_from(self.cutter.wanted()).unwrap_or(usize::MAX).max(PIECE_BYTES);
        let is_long = self.buffer.len() >= PIECE_BYTES;
        let wanted = if is_long { wanted.max(self.buffer.len() * 2) } else { wanted };
        while self.buffer.len() < wanted {
            let step = (wanted - self.buffer.len()).min(self.buffer.len().max(PIECE_BYTES)) as u64;
            self.buffer.reserve(step as usize);
            let read = (&self.file).take(step).read_to_end(&mut self.buffer).map_err(|error| FileError {
                at: self.cutter.taken() + self.buffer.len() as u64,
                key: None,
                why: Why::Io(error.to_string()),
            })?;
            if (read as u64) < step {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives what was cut to the workers.
    fn hand_over(&mut self, cut: Cut, stops: &dyn Fn() -> bool) -> Result<(), Option<FileError>> {
        let rest = self.buffer.split_off(cut.bytes);
        let bytes = std::mem::replace(&mut self.buffer, rest);
        if cut.keys == 0 {
            return Ok(());
        }
        let (dialect, beside) = (self.cutter.dialect(), self.beside.take(cut.keys));
        let kept_for = self.kept_for;
        let keeps_expired = self.keeps_expired;
        self.push(Piece::Keys { bytes, cut, dialect, keeps_expired, beside, kept_for }, stops)
    }

    fn push(&self, piece: Piece, stops: &dyn Fn() -> bool) -> Result<(), Option<FileError>> {
        let waiting = self.server.loading.pieces.push(piece, stops)?;
        // Who has something to do looks again by itself.
        if waiting <= self.server.mailboxes.len() {
            self.server.mailboxes.iter().for_each(|mailbox| mailbox.send(Message::Resume));
        }
        Ok(())
    }

    fn take_note(&mut self, told: About, at: u64, stops: &dyn Fn() -> bool) -> Result<(), Option<FileError>> {
        match told {
            About::Library(text) => {
                self.libraries += 1;
                self.push(Piece::Library { text, at }, stops)?;
            }
            About::SkippedModule(name) => {
                tracing::warn!("left out what the module '{name}' keeps beside keys")
            }
            About::Aux { name, value, keys_before } => self.take_aux(&name, value, keys_before, stops)?,
            About::Sizes { db, keys, .. } => self.make_room(db, keys, stops)?,
        }
        Ok(())
    }

    /// Has room made for the keys of a database, when it is told for the first time how many there are.
    fn make_room(&mut self, db: u64, keys: u64, stops: &dyn Fn() -> bool) -> Result<(), Option<FileError>> {
        // Not believed beyond what can be in the file.
        let keys = keys.min(self.server.loading.total_bytes.load(Relaxed) / KEY_BYTES_MIN);
        if keys < ROOM_KEYS_MIN || !self.sized.insert(db) {
            return Ok(());
        }
        self.push(Piece::Room { db, keys }, stops)
    }

    fn take_aux(
        &mut self,
        name: &[u8],
        value: Vec<u8>,
        keys_before: u64,
        stops: &dyn Fn() -> bool,
    ) -> Result<(), Option<FileError>> {
        if name == beside::POLICY.as_bytes() {
            return self.take_policy_up(&value, keys_before, stops);
        }
        let settings = self.server.settings();
        if name == beside::INSIGHT.as_bytes() {
            self.insight = Some(value).filter(|_| settings.warm_restart() && settings.cache_insight());
            return Ok(());
        }
        self.take_word(name, &String::from_utf8_lossy(&value));
        self.beside.tell(name, value, keys_before);
        Ok(())
    }

    /// Has the eviction policy take up what one before had learned: before any key comes, since keys are filed by it.
    fn take_policy_up(
        &mut self,
        value: &[u8],
        keys_before: u64,
        stops: &dyn Fn() -> bool,
    ) -> Result<(), Option<FileError>> {
        let is_wanted = self.server.settings().warm_restart() && keys_before == 0;
        let Some(learned) = beside::read_policy(value).filter(|_| is_wanted) else { return Ok(()) };
        let kind = learned.kind;
        self.push(Piece::Learned(learned), stops)?;
        self.server.loading.pieces.finish(stops)?;
        self.kept_for = Some(kind);
        Ok(())
    }

    fn take_word(&self, name: &[u8], value: &str) {
        match name {
            b"redis-ver" => tracing::info!("it was written by Redis {value} or alike"),
            b"valkey-ver" => tracing::info!("it was written by Valkey {value}"),
            b"ctime" => {
                let now = clock::unix_millis().0 / 1000;
                let age = value.parse().map_or(0, |written: u64| now.saturating_sub(written));
                tracing::info!("it is {age} seconds old");
            }
            b"used-mem" => {
                let bytes = value.parse().unwrap_or(0);
                self.server.loading.memory_then.store(bytes, Relaxed);
                tracing::info!("its server had {} in use", shown_bytes(bytes));
            }
            _ => {}
        }
    }

    fn say_how_far(&mut self) {
        let now = clock::now();
        if now < self.next_word {
            return;
        }
        self.next_word = now + PROGRESS_PERIOD;
        let loading = &self.server.loading;
        let (percent, seconds) = loading.progress();
        let keys = loading.pieces.counts().loaded;
        tracing::info!("loading: {percent:.0}%, {keys} keys, about {seconds} s to go");
    }
}

fn shown_bytes(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{bytes} bytes"),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
