//! A snapshot's way in: read, cut, handed to the workers.

use super::beside::{self, Beside};
use super::parts::{Parts, PlaceOfPart};
use super::pieces::{Counts, Piece};
use super::{LoadError, Stage};
use crate::clock;
use crate::server::{Message, Server};
use foldhash::HashSet;
use larder_persist::rdb::file::{About, Cut, Cutter, FileError, Part, Terms, Why};
use larder_store::Kind;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Bytes of a piece, unless a single record has more.
const PIECE_BYTES: usize = 256 * 1024;
/// Which part more is read than a record seems to have.
const GUESS_SPARE: u64 = 32;
/// Bytes that a key takes in a file at least, more or less: a byte for its type and its end, some for itself and its value.
const KEY_BYTES_MIN: u64 = 8;
/// Keys from which on it pays to make room for them before they come.
const ROOM_KEYS_MIN: u64 = 10_000;
/// How often it is looked whether the server is to stop, or not to wait any more.
const LOOK: Duration = Duration::from_millis(10);
/// How often the log tells how far it is.
const PROGRESS_PERIOD: Duration = Duration::from_secs(5);

/// How a snapshot is loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Keys whose time is over are stored as well: a log goes on behind it.
    pub keeps_expired: bool,
    /// A key or a library that is there already, or twice in the file, is replaced rather than an error.
    pub merges: bool,
    /// What is hot is served while the rest is loaded, if the file says what that is.
    pub is_hot_first: bool,
}

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
    /// Keys that were left out since they had been changed meanwhile.
    pub overtaken: u64,
    /// Libraries of functions.
    pub libraries: u64,
    /// Bytes up to the snapshot's end. The file may go on behind it, as a log does.
    pub bytes: u64,
}

/// Loads a snapshot, and returns when all of it is there. Called on a thread that is no worker; the workers store what
/// it reads, between their turns.
///
/// # Errors
/// Where the file is not right, or the server was asked to stop.
pub fn rdb(server: &'static Server, path: &Path, how: How) -> Result<Loaded, LoadError> {
    let start = clock::now();
    let hides_keys = server.settings().hide_user_data_from_log();
    let failed = |error: FileError| {
        let key = error.key.clone().filter(|_| !hides_keys);
        LoadError::File(path.to_path_buf(), FileError { key, ..error })
    };
    let io = |at, error: std::io::Error| FileError { at, key: None, why: Why::Io(error.to_string()) };
    let file = File::open(path).map_err(|error| failed(io(0, error)))?;
    let total = file.metadata().map_err(|error| failed(io(0, error)))?.len();
    server.loading.begin(total);
    tracing::info!("loading {}, {}", path.display(), shown_bytes(total));
    let settings = server.settings();
    let mut reading = Reading {
        server,
        file,
        total,
        cutter: Cutter::new(Terms {
            databases: u64::from(settings.databases()),
            skips_modules: settings.load_skip_modules(),
            sums: settings.rdbchecksum(),
            stops_behind: if how.is_hot_first { beside::COLD.as_bytes() } else { b"" },
            whole_max: PIECE_BYTES,
        }),
        buffer: Vec::new(),
        libraries: 0,
        how,
        start,
        sum_of_hot: None,
        is_rest: false,
        sized: HashSet::default(),
        beside: Beside::default(),
        kept_for: None,
        insight: None,
        next_word: start + PROGRESS_PERIOD,
        parts: None,
    };
    if how.is_hot_first {
        server.keyspace.expect_rest();
    }
    let counts = reading.run().map_err(|error| {
        server.loading.pieces.give_up(&|| server.stop.load(Relaxed) != 0);
        error.map_or(LoadError::Stopped, failed)
    })?;
    reading.recall_insight();
    server.loading.keys_loaded.store(counts.loaded, Relaxed);
    server.loading.keys_expired.store(counts.expired, Relaxed);
    Ok(Loaded {
        keys: counts.loaded,
        expired: counts.expired,
        empty: counts.empty,
        skipped: counts.skipped,
        overtaken: counts.overtaken,
        libraries: reading.libraries,
        bytes: reading.cutter.taken(),
    })
}

/// A file that is being read.
struct Reading {
    server: &'static Server,
    file: File,
    /// Bytes that it had when it was opened.
    total: u64,
    cutter: Cutter,
    /// What was read and not cut.
    buffer: Vec<u8>,
    libraries: u64,
    how: How,
    start: Instant,
    /// The checksum of the file up to behind its hot keys, once that has been read.
    sum_of_hot: Option<u64>,
    /// What is hot is served already.
    is_rest: bool,
    /// Databases that there is room for.
    sized: HashSet<u64>,
    /// What is known of keys that have not come yet.
    beside: Beside,
    /// The eviction policy that what was known of keys is for, where that is the one in force.
    kept_for: Option<Kind>,
    /// What was told of accesses, if the file says and anybody wants to know.
    insight: Option<Vec<u8>>,
    next_word: Instant,
    /// The value that comes in parts, and how many have come.
    parts: Option<(Arc<Parts>, usize)>,
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
            if matches!(about.last(), Some(About::Aux { name, .. }) if name == beside::COLD.as_bytes()) {
                self.sum_of_hot = self.cutter.sum();
            }
            for told in about {
                self.take_note(told, at, &stops)?;
            }
            if cut.bytes == 0 && is_end {
                return Err(Some(self.cutter.short(&self.buffer)));
            }
            self.delay(cut.keys, &stops)?;
            self.hand_over(cut, &stops)?;
            server.loading.loaded_bytes.store(self.cutter.taken(), Relaxed);
            if cut.is_last {
                return server.loading.pieces.finish(&stops);
            }
            self.say_how_far();
        }
    }

    /// Reads on, until there are enough bytes for a piece or for what is wanted. What is wanted is not believed: room is
    /// made for what the file has, or for as much again as has come. A record that is longer than a piece is looked at again when there
    /// is twice as much of it, or as much as it seems to have, since its parts are only known one after the other.
    fn fill(&mut self) -> Result<bool, FileError> {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let there = self.total.saturating_sub(self.cutter.taken());
        let wanted = size(self.cutter.wanted()).max(PIECE_BYTES);
        let is_long = self.buffer.len() >= PIECE_BYTES;
        let guess = self.cutter.likely();
        let likely = size(guess.saturating_add(guess / GUESS_SPARE).min(there)).max(self.buffer.len() * 2);
        let wanted = if is_long { wanted.max(likely) } else { wanted };
        while self.buffer.len() < wanted {
            let ahead = size(there).saturating_sub(self.buffer.len()).max(self.buffer.len()).max(PIECE_BYTES);
            let step = (wanted - self.buffer.len()).min(ahead) as u64;
            self.buffer.reserve_exact(step as usize);
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
        if cut.keys == 0 && cut.part.is_none() {
            self.buffer.drain(..cut.bytes);
            return Ok(());
        }
        let mut next = self.server.loading.pieces.spare();
        next.extend_from_slice(self.buffer.get(cut.bytes..).unwrap_or_default());
        let mut bytes = std::mem::replace(&mut self.buffer, next);
        bytes.truncate(cut.bytes);
        let (dialect, beside) = (self.cutter.dialect(), self.beside.take(cut.keys));
        let kept_for = self.kept_for;
        let (how, is_rest) = (self.how, self.is_rest);
        let part = cut.part.map(|part| self.place_of(part));
        self.push(Piece::Keys { bytes, cut, dialect, how, is_rest, beside, kept_for, part }, stops)
    }

    /// Where a part of a value goes, and as which.
    fn place_of(&mut self, part: Part) -> PlaceOfPart {
        let (of, place) = self.parts.take().unwrap_or_default();
        if !part.is_last {
            self.parts = Some((Arc::clone(&of), place + 1));
        }
        PlaceOfPart { part, of, place }
    }

    /// Waits as `key-load-delay` says, which may be set anew meanwhile.
    fn delay(&self, keys: u64, stops: &dyn Fn() -> bool) -> Result<(), Option<FileError>> {
        let start = clock::now();
        loop {
            let delay = self.server.settings().key_load_delay();
            let micros = match u64::from(delay.unsigned_abs()) {
                0 => return Ok(()),
                one_for if delay < 0 => keys / one_for,
                each => keys.saturating_mul(each),
            };
            let left = Duration::from_micros(micros).saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            if stops() {
                return Err(None);
            }
            clock::sleep(left.min(LOOK));
        }
    }

    /// What stands before the field at hand was hot: once all of it is there it is served.
    fn serve_hot(&mut self, sum: &[u8], stops: &dyn Fn() -> bool) -> Result<(), Option<FileError>> {
        if !self.how.is_hot_first || self.is_rest {
            return Ok(());
        }
        let stored = sum.try_into().map_or(0, u64::from_le_bytes);
        if let Some(summed) = self.sum_of_hot
            && stored != 0
            && stored != summed
        {
            let why = Why::Checksum { stored, summed };
            return Err(Some(FileError { at: self.cutter.taken(), key: None, why }));
        }
        let loading = &self.server.loading;
        loading.pieces.wait_for_all(stops)?;
        self.recall_insight();
        self.is_rest = true;
        loading.set(Stage::Partly);
        self.server.touch_settings();
        tracing::info!(
            "the hot keys are loaded in {:.3} s, {} keys, and served; the rest is being loaded",
            self.start.elapsed().as_secs_f64(),
            loading.pieces.counts().loaded
        );
        Ok(())
    }

    /// Loading is no use of keys: what was told before takes the place of what was counted meanwhile.
    fn recall_insight(&mut self) {
        if let Some(insight) = self.insight.take() {
            self.server.keyspace.recall_insight(&insight);
        }
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
                let replaces = self.how.merges;
                self.push(Piece::Library { text, at, replaces }, stops)?;
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
        if name == beside::HOT_SUM.as_bytes() {
            return self.serve_hot(&value, stops);
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
