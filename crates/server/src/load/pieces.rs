//! Pieces of a file on their way to the workers, and what a worker does with one.
//!
//! Invariant: what waits is bounded in bytes, by one piece more than the bound. A piece that was taken is counted as
//! being stored until it is done, also if its worker fails; the first error ends everything.

use super::beside::OfPiece;
use super::parts::PlaceOfPart;
use super::rdb::How;
use crate::execute::{Core, lock_one};
use larder_commands::Limits;
use larder_commands::keys::{Beside, load_key};
use larder_persist::rdb::BadData;
use larder_persist::rdb::file::{
    Cut, Dialect, FileError, Head, ReadPart, Record, Records, Value, Why, join, read_part,
};
use larder_script::library;
use larder_store::{Database, Db, DbIndex, Hashed, Kind, Learned, Locked, Participant};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Bytes that may wait.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// Keys whose memory is asked for together before they are stored.
const WINDOW: usize = 32;
/// Buffers that are kept to be filled again, and how large one may be.
const SPARE_MAX: usize = 16;
const SPARE_BYTES_MAX: usize = 1 << 20;
/// How often the thread that reads looks whether the server is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// A piece of a file.
pub enum Piece {
    /// Whole records.
    Keys {
        /// They.
        bytes: Vec<u8>,
        /// Where they were cut.
        cut: Cut,
        /// Whose they are.
        dialect: Dialect,
        /// How they are to be stored.
        how: How,
        /// Others are served meanwhile: what is decided is left out, and nobody hears of what is stored.
        is_rest: bool,
        /// What is known of them that stands beside them.
        beside: OfPiece,
        /// The eviction policy that had known it of them.
        kept_for: Option<Kind>,
        /// They are a part of one value instead.
        part: Option<PlaceOfPart>,
    },
    /// What an eviction policy had learned.
    Learned(Learned),
    /// How many keys a database will have, so that there is room for them.
    Room {
        /// Number of the database.
        db: u64,
        /// All keys.
        keys: u64,
    },
    /// A library of functions.
    Library {
        /// Its text.
        text: Vec<u8>,
        /// Where it stands in the file.
        at: u64,
        /// One of its name that is there already is replaced.
        replaces: bool,
    },
}

impl Piece {
    fn bytes(&self) -> usize {
        match self {
            Piece::Keys { bytes, .. } => bytes.len(),
            Piece::Library { text, .. } => text.len(),
            Piece::Room { .. } | Piece::Learned(_) => 0,
        }
    }
}

/// A key that is to be stored.
struct Waiting<'r> {
    record: Record<'r>,
    beside: Beside,
}

/// When a key's turn is: by its database and its place in the table.
#[derive(Clone, Copy)]
struct Turn {
    db: u32,
    /// Where it is among the keys of the piece.
    at: u32,
    hash: u64,
}

/// Keys of one shard, with their values.
type Decoded<'r> = Vec<(Turn, Value<'r>)>;

/// What came of pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Keys that were stored.
    pub loaded: u64,
    /// Keys that were left out since their time was over.
    pub expired: u64,
    /// Collections of nothing.
    pub empty: u64,
    /// Values of modules that were left out.
    pub skipped: u64,
    /// Keys that were left out since they had been changed meanwhile.
    pub overtaken: u64,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Piece>,
    waiting_bytes: usize,
    /// Pieces that workers have taken and not done.
    taken: usize,
    /// Buffers of pieces that are done, to be filled again: fresh memory costs more than what is read into it.
    spare: Vec<Vec<u8>>,
    counts: Counts,
    error: Option<FileError>,
}

/// Pieces that wait, and what has come of others.
#[derive(Default)]
pub struct Pieces {
    state: Mutex<State>,
    /// As many as wait, to be looked at without a lock.
    waiting: AtomicUsize,
    changed: Condvar,
}

impl Pieces {
    /// Whether any waits.
    #[inline]
    pub fn any(&self) -> bool {
        self.waiting.load(Relaxed) != 0
    }

    /// Adds a piece, once there is room. Answers how many wait.
    ///
    /// # Errors
    /// The first error of a piece; `None` where `stops` said so.
    pub fn push(&self, piece: Piece, stops: &dyn Fn() -> bool) -> Result<usize, Option<FileError>> {
        let mut state = self.state.lock();
        while state.error.is_none() && !state.waiting.is_empty() && state.waiting_bytes >= WAITING_BYTES_MAX {
            if stops() {
                return Err(None);
            }
            self.changed.wait_for(&mut state, LOOK);
        }
        if let Some(error) = &state.error {
            return Err(Some(error.clone()));
        }
        state.waiting_bytes += piece.bytes();
        state.waiting.push_back(piece);
        self.waiting.store(state.waiting.len(), Relaxed);
        Ok(state.waiting.len())
    }

    /// Waits until everything is done, and answers what has come of it.
    ///
    /// # Errors
    /// As [`Pieces::push`].
    pub fn finish(&self, stops: &dyn Fn() -> bool) -> Result<Counts, Option<FileError>> {
        self.wait_for_all(stops)?;
        let mut state = self.state.lock();
        state.spare = Vec::new();
        Ok(std::mem::take(&mut state.counts))
    }

    /// Waits until everything is done that was pushed so far.
    ///
    /// # Errors
    /// As [`Pieces::push`].
    pub fn wait_for_all(&self, stops: &dyn Fn() -> bool) -> Result<(), Option<FileError>> {
        let mut state = self.state.lock();
        while state.error.is_none() && (!state.waiting.is_empty() || state.taken != 0) {
            if stops() {
                return Err(None);
            }
            self.changed.wait_for(&mut state, LOOK);
        }
        match state.error.take() {
            Some(error) => Err(Some(error)),
            None => Ok(()),
        }
    }

    /// Gives up what waits, once nothing is being stored any more: what was to be loaded is not right, and nothing of it is to come
    /// later.
    pub fn give_up(&self, stops: &dyn Fn() -> bool) {
        let mut state = self.state.lock();
        state.waiting.clear();
        state.waiting_bytes = 0;
        self.waiting.store(0, Relaxed);
        while state.taken != 0 && !stops() {
            self.changed.wait_for(&mut state, LOOK);
        }
        (state.counts, state.error, state.spare) = (Counts::default(), None, Vec::new());
    }

    /// What has come of pieces so far.
    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// A buffer for the next piece, empty.
    pub fn spare(&self) -> Vec<u8> {
        self.state.lock().spare.pop().unwrap_or_default()
    }

    /// Keeps the buffer of a piece that is done.
    fn keep(&self, mut buffer: Vec<u8>) {
        let mut state = self.state.lock();
        if state.spare.len() < SPARE_MAX && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            state.spare.push(buffer);
        }
    }

    fn take(&self) -> Option<Piece> {
        let mut state = self.state.lock();
        if state.error.is_some() {
            state.waiting.clear();
            self.waiting.store(0, Relaxed);
        }
        let piece = state.waiting.pop_front()?;
        self.waiting.store(state.waiting.len(), Relaxed);
        state.waiting_bytes -= piece.bytes();
        state.taken += 1;
        self.changed.notify_all();
        Some(piece)
    }

    fn done(&self, counts: Counts, error: Option<FileError>) {
        let mut state = self.state.lock();
        state.taken -= 1;
        state.counts.loaded += counts.loaded;
        state.counts.expired += counts.expired;
        state.counts.empty += counts.empty;
        state.counts.skipped += counts.skipped;
        state.counts.overtaken += counts.overtaken;
        if state.error.is_none() {
            state.error = error;
        }
        self.changed.notify_all();
    }
}

/// Counts a piece as done, whatever becomes of the worker.
struct Taken<'p> {
    pieces: &'p Pieces,
    counts: Counts,
    outcome: Result<(), FileError>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Ok(()));
        self.pieces.done(self.counts, outcome.err());
    }
}

impl Core {
    /// Stores what waits of a file that is being loaded, a piece of it.
    #[cold]
    pub fn load_some(&mut self, participant: &Participant) {
        if !self.open_turn() {
            return;
        }
        let server = self.server;
        if let Some(piece) = server.loading.pieces.take() {
            let at = match &piece {
                Piece::Keys { cut, .. } => cut.at,
                Piece::Library { at, .. } => *at,
                Piece::Room { .. } | Piece::Learned(_) => 0,
            };
            let broken = FileError { at, key: None, why: Why::Value };
            let mut taken =
                Taken { pieces: &server.loading.pieces, counts: Counts::default(), outcome: Err(broken) };
            taken.outcome = match &piece {
                Piece::Keys { bytes, cut, dialect, how, is_rest, beside, kept_for, part } => {
                    let choice = self.local.uses.choice();
                    let recalls = choice.is_some_and(|choice| Some(choice.kind) == *kept_for);
                    let beside = |place| Beside {
                        kept: if recalls { beside.kept(place) } else { None },
                        note: beside.note(place),
                    };
                    match part {
                        Some(place) => {
                            let read = read_part(bytes, (cut, place.part), *dialect);
                            self.load_part(
                                place,
                                (read, cut.at),
                                (*how, *is_rest, beside(0)),
                                &mut taken.counts,
                            )
                        }
                        None => {
                            let mut records = Records::new(bytes, cut, *dialect);
                            let how = (*how, *is_rest, &beside as &dyn Fn(usize) -> Beside);
                            let announced = usize::try_from(cut.keys).unwrap_or(0);
                            self.load_keys(&mut records, how, announced, &mut taken.counts, participant)
                        }
                    }
                }
                Piece::Learned(learned) => {
                    let is_taken_up = server.keyspace.take_up(learned);
                    let name = learned.kind.name();
                    if is_taken_up {
                        tracing::info!("what the policy {name} knew of keys is taken up");
                    } else {
                        tracing::info!(
                            "what the policy {name} knew of keys means nothing to the one in force"
                        );
                    }
                    Ok(())
                }
                Piece::Library { text, at, replaces } => self.load_library(text, *at, *replaces),
                Piece::Room { db, keys } => {
                    server.keyspace.open(DbIndex(u32::try_from(*db).unwrap_or(0))).reserve(*keys);
                    server.keyspace.insight.expect(*keys);
                    Ok(())
                }
            };
            if let Piece::Keys { bytes, .. } = piece {
                server.loading.pieces.keep(bytes);
            }
        }
        self.close_turn();
    }

    /// Stores the keys of a piece in the order of the table, so that what lies together is reached together, and a shard is
    /// locked once for all that it gets.
    fn load_keys(
        &mut self,
        records: &mut Records<'_>,
        (how, is_rest, beside): (How, bool, &dyn Fn(usize) -> Beside),
        announced: usize,
        counts: &mut Counts,
        participant: &Participant,
    ) -> Result<(), FileError> {
        let keyspace = &self.server.keyspace;
        let (keys, mut turns) = self.read_keys(records, (how, beside), announced, counts)?;
        turns.sort_unstable_by_key(|turn| (turn.db, turn.hash));
        // Each worker begins elsewhere: two that go through the table side by side wait for each other's locks.
        let workers = self.server.mailboxes.len().max(1);
        let first = turns.len() * (self.id % workers) / workers;
        turns.rotate_left(first);
        let looked_at = |turn: &Turn| (keyspace.open(DbIndex(turn.db)), turn.hash);
        let (mut decoded, mut later) = (Decoded::new(), Vec::new());
        let mut windows = turns.chunks(WINDOW).peekable();
        while let Some(window) = windows.next() {
            Database::prefetch_all(participant, window.iter().map(looked_at));
            let next = windows.peek().copied().unwrap_or_default();
            next.iter().map(looked_at).for_each(|(database, hash)| database.prefetch_shard(hash));
            Database::prefetch_homes(participant, next.iter().map(looked_at));
            let mut left = window;
            while let Some(first) = left.first() {
                let place = keyspace.place(DbIndex(first.db), first.hash);
                let same = |turn: &&Turn| {
                    turn.db == first.db && keyspace.place(DbIndex(turn.db), turn.hash) == place
                };
                let (here, rest) = left.split_at(left.iter().take_while(same).count());
                left = rest;
                // No lock is held while values are decoded, nor waited for while there is something else to do: who has it may not
                // run at all just then.
                for turn in here {
                    let Some(Waiting { record, .. }) = keys.get(turn.at as usize) else { continue };
                    records.go_to_value(record);
                    decoded.push((*turn, records.value(record)?));
                }
                let database = keyspace.open(DbIndex(first.db));
                match database.try_lock_one(first.hash) {
                    Some(locked) => {
                        let db = (&mut Db::on(database, locked, &mut self.local), &self.limits);
                        load_into_shard(db, (records, &keys), &mut decoded, (how.merges, is_rest), counts)?;
                    }
                    None => later.push(std::mem::take(&mut decoded)),
                }
            }
        }
        for mut decoded in later {
            let Some((first, _)) = decoded.first() else { continue };
            let database = keyspace.open(DbIndex(first.db));
            let locked = self.lock_to_load(database, first.hash);
            let db = (&mut Db::on(database, locked, &mut self.local), &self.limits);
            load_into_shard(db, (records, &keys), &mut decoded, (how.merges, is_rest), counts)?;
        }
        Ok(())
    }

    /// The keys of a piece, as many as are announced and not over, and where each of them goes.
    fn read_keys<'r>(
        &self,
        records: &mut Records<'r>,
        (how, beside): (How, &dyn Fn(usize) -> Beside),
        announced: usize,
        counts: &mut Counts,
    ) -> Result<(Vec<Waiting<'r>>, Vec<Turn>), FileError> {
        let (keyspace, now) = (&self.server.keyspace, self.local.now.0);
        // As many as the cut counted, each of them some bytes of the piece.
        let mut keys: Vec<Waiting<'r>> = Vec::with_capacity(announced);
        let mut turns: Vec<Turn> = Vec::with_capacity(announced);
        for place in 0..announced {
            let Some(record) = records.next_key()? else { break };
            // Behind the last one is nothing to be found.
            if place + 1 < announced {
                records.pass(&record)?;
            }
            let beside = beside(place);
            if !how.keeps_expired && record.head.end_ms.is_some_and(|end| end < now) {
                counts.expired += 1;
                continue;
            }
            let db = u32::try_from(record.db).unwrap_or(0);
            // A piece has fewer than 2^32 records, since each is some bytes of one that fits in memory.
            turns.push(Turn { db, at: keys.len() as u32, hash: keyspace.hash(&record.key) });
            keys.push(Waiting { record, beside });
        }
        Ok((keys, turns))
    }

    /// Takes a part of a value in, and stores the value where that was the last one.
    fn load_part(
        &mut self,
        place: &PlaceOfPart,
        ((record, read), at): ((Option<Record<'static>>, Result<ReadPart, BadData>), u64),
        (how, is_rest, beside): (How, bool, Beside),
        counts: &mut Counts,
    ) -> Result<(), FileError> {
        if place.part.is_first && record.is_none() {
            return Err(FileError { at, key: None, why: Why::Bad("a record") });
        }
        let Some(whole) = place.fill((record, at), read.ok(), beside) else { return Ok(()) };
        let (record, now) = (&whole.record, self.local.now.0);
        if !how.keeps_expired && record.head.end_ms.is_some_and(|end| end < now) {
            counts.expired += 1;
            return Ok(());
        }
        let value = whole.parts.map(|parts| join(parts.into_values()));
        let Some(Ok(value)) = value else { return Err(record.error(whole.at, Why::Value)) };
        let index = DbIndex(u32::try_from(record.db).unwrap_or(0));
        let database = self.server.keyspace.open(index);
        let hashed = Hashed { bytes: &record.key, hash: self.server.keyspace.hash(&record.key) };
        let locked = self.lock_to_load(database, hashed.hash);
        let mut db = Db::on(database, locked, &mut self.local);
        let is_new =
            load_value(&mut db, &self.limits, &hashed, (record.head, whole.beside), (value, is_rest), counts);
        if is_new || how.merges { Ok(()) } else { Err(record.error(whole.at, Why::Twice)) }
    }

    /// Locks the shard of a key that is to be stored. Where it is promised to a client that waits, others have to be served before, and
    /// this worker may be the one that is to do it.
    fn lock_to_load(&mut self, database: Database<'static>, hash: u64) -> Locked<'static> {
        loop {
            if let Some(locked) = lock_one(database, hash) {
                return locked;
            }
            if self.server.debts.any() {
                self.pay_debts();
            }
            std::thread::yield_now();
        }
    }

    fn load_library(&mut self, text: &[u8], at: u64, replaces: bool) -> Result<(), FileError> {
        let loaded = self.try_library(text, replaces);
        loaded.map_err(|text| {
            let text = String::from_utf8_lossy(text.strip_prefix(b"ERR ").unwrap_or(&text)).into_owned();
            FileError { at, key: None, why: Why::Library(text) }
        })?;
        self.forget_libraries();
        Ok(())
    }

    fn try_library(&mut self, text: &[u8], replaces: bool) -> Result<(), Vec<u8>> {
        let name = library::parse(text)?.name;
        let library = Arc::new(self.read_library(text).map_err(|error| error.text().to_vec())?);
        let functions = &self.server.functions;
        functions
            .change(|libraries| libraries.may_load(&name, replaces).and_then(|()| libraries.add(library)))
    }
}

/// Stores keys of one shard, which is locked.
fn load_into_shard<'r>(
    (db, limits): (&mut Db<'_>, &Limits),
    (records, keys): (&Records<'_>, &[Waiting<'r>]),
    decoded: &mut Decoded<'r>,
    (merges, is_rest): (bool, bool),
    counts: &mut Counts,
) -> Result<(), FileError> {
    for (turn, value) in decoded.drain(..) {
        let Some(Waiting { record, beside }) = keys.get(turn.at as usize) else { continue };
        let hashed = Hashed { bytes: &record.key, hash: turn.hash };
        let is_new = load_value(db, limits, &hashed, (record.head, *beside), (value, is_rest), counts);
        if !is_new && !merges {
            return Err(records.error_of(record, Why::Twice));
        }
    }
    Ok(())
}

/// Stores the value of a key, unless that is decided. False where the key was there.
fn load_value(
    db: &mut Db<'_>,
    limits: &Limits,
    key: &Hashed<'_>,
    known: (Head, Beside),
    (value, is_rest): (Value<'_>, bool),
    counts: &mut Counts,
) -> bool {
    match value {
        Value::Empty => counts.empty += 1,
        Value::Skipped => counts.skipped += 1,
        value => {
            db.settle(key, true);
            if is_rest && db.is_decided(key) {
                counts.overtaken += 1;
                return true;
            }
            let hushed = db.local.effects.hush();
            let existed = load_key(db, limits, key, known, value);
            db.local.effects.speak(hushed);
            counts.loaded += 1;
            return !existed;
        }
    }
    true
}
