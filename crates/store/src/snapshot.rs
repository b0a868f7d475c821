//! A snapshot: everything as it was at one moment, saved while everything goes on.
//!
//! A moment is taken with everything held, in the time it takes to enter a number. The tables are cut into *cells*, ranges of hashes of
//! some keys each, and each cell knows whether it has been saved. Whoever is about to change, make or remove an entry has its cell
//! saved before, under the lock of the shard that is held anyway ([`save_first`]); workers save the others in slices between
//! turns ([`Keyspace::sweep_snapshot`]). No entry bears a mark, readers ask nothing, and while no snapshot is in force a writer asks
//! one word of its thread's companion.
//!
//! What is saved goes into a buffer of the thread, and from there in chunks to a [`Sink`]. A database that is flushed meanwhile is saved by
//! whoever frees it; one that is exchanged for another keeps the number it had. A key whose time has come is not saved, and one that
//! an invalidation has removed without anybody having come by is not there either.
//!
//! Invariant: while a snapshot is in force no entry of a cell that is not saved differs from what it was at the moment, but by what no
//! snapshot holds: where it lies, and when it was used. Both ways to an entry that may be changed pass here: `Db::find_in` and
//! `Db::store_payload`; eviction has its own. Read next: `db.rs`.

use crate::evict::Remembering;
use crate::field_ends::DbTable;
use crate::generations::Live;
use crate::item::Item;
use crate::keyspace::{DbIndex, Hashed, Keyspace, SHARD_BITS};
use crate::local::{Access, Local, Millis};
use crate::noted::Note;
use crate::object::Object;
use larder_policy::KEPT_NOTHING;
use larder_table::{Entry, Hasher, Shard};
use larder_values::lru;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Keys that a cell has on average, at the most.
const CELL_KEYS: usize = 6;
/// Cells of a table, as powers of two. A cell lies within one shard.
const CELL_BITS: std::ops::RangeInclusive<u32> = SHARD_BITS as u32..=26;
/// Of so many keys one is hot, where hot keys are parted from cold ones.
const HOT_PART: usize = 5;
/// Keys that are looked at to find out which are hot.
const SAMPLE_KEYS: usize = 512;
/// A buffer of so many bytes is handed on.
const CHUNK_BYTES: usize = 64 * 1024;
/// Room for such a buffer, the last key included unless it is a long one: while it grew it would be copied, and who is saving something
/// on the way to a change would wait for that.
const CHUNK_ROOM: usize = CHUNK_BYTES + 4 * 1024;

/// Writes entries in the form of whatever the snapshot becomes. Each thread has its own.
pub trait Scribe: Send {
    /// Whether it is to be told how long keys have not been used.
    fn asks_for_idle(&self) -> bool;

    /// Appends a key, its end and its value. `idle_ms`: how long it has not been used, if that was asked for and is known. False
    /// where the key is left out.
    fn write(&mut self, item: &Item<'_>, idle_ms: Option<u64>, to: &mut Vec<u8>) -> bool;

    /// Whether work is left, from now on, for whoever gets the chunk: a command waits for what is written.
    fn leave_work(&mut self, _leaves: bool) {}

    /// Where work was left, in the bytes that were written since this was asked last; see [`Chunk::left`].
    fn take_left(&mut self) -> Vec<u32> {
        Vec::new()
    }
}

/// Where a snapshot goes. None of this may wait: shards are locked.
pub trait Sink: Send + Sync {
    /// A scribe for one more thread.
    fn scribe(&self) -> Box<dyn Scribe>;

    /// Whether it wants to know what the eviction policy knows of keys: [`Chunk::kept`].
    fn keeps_uses(&self) -> bool {
        false
    }

    /// An empty buffer for the next part, if there is one that was filled before.
    fn buffer(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes a part over.
    fn take(&self, chunk: Chunk);

    /// So much is waiting to go out that no more should be saved but what has to be.
    fn is_behind(&self) -> bool;

    /// So little is waiting that whoever sends it out has time for work that is left in it, even where nobody waits.
    fn has_time(&self) -> bool {
        false
    }

    /// Everything has been taken over.
    fn end(&self);

    /// It will never be whole.
    fn abort(&self);
}

/// Some keys of a database as a scribe has written them.
#[derive(Debug)]
pub struct Chunk {
    /// The number that the database had at the moment.
    pub db: DbIndex,
    /// Whether they are those that are less likely to be asked for soon. Always false where nobody wants to know.
    pub is_cold: bool,
    /// How many keys they are.
    pub keys: u64,
    /// What was written.
    pub bytes: Vec<u8>,
    /// Where the scribe has left work to be done, in the order of the bytes.
    pub left: Vec<u32>,
    /// What the eviction policy knows of each of them, in their order, [`KEPT_BYTES`] a key; empty where that was not asked for.
    pub kept: Vec<u8>,
    /// What is noted of values beside their bytes: for each of which something is, the place of its key in this chunk, four bytes, the
    /// lowest first, and [`Note::bytes`].
    pub notes: Vec<u8>,
}

/// Bytes of what is known of a key, the lowest first.
pub const KEPT_BYTES: usize = 3;

/// The keyspace's snapshots: at most one is in force.
#[derive(Default)]
pub(crate) struct Snapshots {
    /// That of the snapshot in force; 0 for none.
    number: AtomicU64,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    snapshot: Option<Arc<Snapshot>>,
    last_number: u64,
}

impl Snapshots {
    #[inline]
    pub(crate) fn number(&self) -> u64 {
        // Acquire: pairs with the Release in `begin_snapshot`; besides, a turn is opened behind it.
        self.number.load(Acquire)
    }

    /// For assertions: whether a thread knows of the snapshot in force.
    pub(crate) fn is_known_to(&self, local: &Local) -> bool {
        [0, local.snapshot].contains(&self.number())
    }

    fn forget(&self, number: u64) {
        let mut current = self.current.lock();
        if current.snapshot.as_ref().is_some_and(|snapshot| snapshot.number == number) {
            current.snapshot = None;
            self.number.store(0, Release);
        }
    }
}

/// A snapshot in force.
pub struct Snapshot {
    number: u64,
    /// The moment.
    at: Millis,
    /// What is to be saved of each table, by its number.
    parts: Box<[Option<Part>]>,
    /// The numbers of tables of which something is.
    order: Vec<u32>,
    /// The next shard of these tables that nobody has taken on.
    next_unit: AtomicUsize,
    /// Cells that are not saved.
    left: AtomicUsize,
    /// Threads that may hold a buffer.
    holding: AtomicUsize,
    is_over: AtomicBool,
    keys: u64,
    saved: AtomicU64,
    /// By what the uses of keys are told, where the sink asks for them or for what follows.
    remembering: Option<Remembering>,
    keeps_uses: bool,
    /// From which warmth on a key is hot, where the sink wants these apart.
    hot_from: Option<u32>,
    sink: Box<dyn Sink>,
}

/// What is to be saved of one table.
struct Part {
    db: DbIndex,
    keys: u64,
    timed: u64,
    cell_bits: u32,
    /// A bit for each cell: it has been saved.
    done: Box<[AtomicU64]>,
    /// The table was flushed: who frees its contents saves them.
    is_detached: AtomicBool,
}

/// What a snapshot needs room for, made before anything is held.
pub struct Prepared {
    parts: Vec<(u32, Part)>,
    /// See [`Snapshot::hot_from`].
    hot_from: Option<u32>,
}

impl Part {
    fn new(keys: usize) -> Part {
        let bits = (keys / CELL_KEYS).max(1).ilog2() + 1;
        let cell_bits = bits.clamp(*CELL_BITS.start(), *CELL_BITS.end());
        let words = 1usize << (cell_bits - 6);
        let done = (0..words).map(|_| AtomicU64::new(0)).collect();
        Part { db: DbIndex(0), keys: 0, timed: 0, cell_bits, done, is_detached: AtomicBool::new(false) }
    }

    fn cells(&self) -> usize {
        1 << self.cell_bits
    }

    fn cell_of(&self, hash: u64) -> usize {
        (hash >> (u64::BITS - self.cell_bits)) as usize
    }

    fn is_saved(&self, cell: usize) -> bool {
        // Relaxed: the lock of the cell's shard orders it.
        self.done.get(cell / 64).is_none_or(|word| word.load(Relaxed) >> (cell % 64) & 1 != 0)
    }

    fn set_saved(&self, cell: usize) {
        if let Some(word) = self.done.get(cell / 64) {
            // A word may have cells of several shards.
            word.fetch_or(1 << (cell % 64), Relaxed);
        }
    }

    fn unsaved(&self) -> usize {
        let saved: usize = self.done.iter().map(|word| word.load(Relaxed).count_ones() as usize).sum();
        self.cells() - saved
    }

    /// The first and the last hash of a cell.
    fn range(&self, cell: usize) -> (u64, u64) {
        let shift = u64::BITS - self.cell_bits;
        let first = (cell as u64) << shift;
        (first, first | ((1 << shift) - 1))
    }
}

impl Snapshot {
    fn part(&self, table: u32) -> Option<&Part> {
        self.parts.get(table as usize)?.as_ref().filter(|part| !part.is_detached.load(Relaxed))
    }

    /// The databases that had keys at the moment: their numbers then, how many keys each had, and how many of them with an end.
    pub fn databases(&self) -> impl Iterator<Item = (DbIndex, u64, u64)> + '_ {
        self.parts.iter().flatten().map(|part| (part.db, part.keys, part.timed))
    }

    /// How many keys there were at the moment, and how many have been looked at since.
    pub fn progress(&self) -> (u64, u64) {
        (self.keys, self.saved.load(Relaxed))
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// It will never be whole. The first to say so has the sink told.
    fn abort(&self) {
        if !self.is_over.swap(true, AcqRel) {
            self.sink.abort();
        }
    }

    /// The table and the cells of a unit: a shard.
    fn unit(&self, unit: usize) -> Option<(u32, std::ops::Range<usize>)> {
        let table = *self.order.get(unit >> SHARD_BITS)?;
        let part = self.parts.get(table as usize)?.as_ref()?;
        let (shard, bits) = (unit & ((1 << SHARD_BITS) - 1), part.cell_bits - u32::from(SHARD_BITS));
        Some((table, shard << bits..(shard + 1) << bits))
    }

    fn count_saved(&self, cells: usize, keys: u64) {
        self.saved.fetch_add(keys, Relaxed);
        // Release: what the caller has handed on is there before whoever finds that nothing is left.
        self.left.fetch_sub(cells, AcqRel);
    }
}

/// Entries on their way from cells to the sink: a buffer, and who writes into it.
struct Pen {
    scribe: Box<dyn Scribe>,
    asks_for_idle: bool,
    db: DbIndex,
    is_cold: bool,
    keys: u64,
    bytes: Vec<u8>,
    keeps: bool,
    kept: Vec<u8>,
    notes: Vec<u8>,
}

impl Pen {
    fn new(snapshot: &Snapshot, is_cold: bool) -> Pen {
        let scribe = snapshot.sink.scribe();
        Pen {
            asks_for_idle: scribe.asks_for_idle(),
            scribe,
            db: DbIndex::default(),
            is_cold,
            keys: 0,
            bytes: Vec::new(),
            keeps: snapshot.keeps_uses && snapshot.remembering.is_some(),
            kept: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn write(&mut self, item: &Item<'_>, idle_ms: Option<u64>, kept: u32) {
        if !self.scribe.write(item, idle_ms, &mut self.bytes) {
            return;
        }
        if let Some(note) = item.note().filter(Note::is_lasting) {
            self.notes.extend_from_slice(&(self.keys as u32).to_le_bytes());
            self.notes.extend_from_slice(&note.bytes());
        }
        self.keys += 1;
        if self.keeps {
            self.kept.extend(kept.to_le_bytes().into_iter().take(KEPT_BYTES));
        }
    }

    /// What follows is of this database.
    fn turn_to(&mut self, db: DbIndex, sink: &dyn Sink) {
        if self.db != db {
            self.hand_on(sink);
            self.db = db;
        }
        if self.bytes.capacity() == 0 {
            self.bytes = sink.buffer();
            self.bytes.reserve(CHUNK_ROOM);
        }
    }

    fn hand_on(&mut self, sink: &dyn Sink) {
        if !self.bytes.is_empty() {
            sink.take(Chunk {
                db: self.db,
                is_cold: self.is_cold,
                keys: std::mem::take(&mut self.keys),
                bytes: std::mem::take(&mut self.bytes),
                left: self.scribe.take_left(),
                kept: std::mem::take(&mut self.kept),
                notes: std::mem::take(&mut self.notes),
            });
        }
    }

    fn hand_on_if_long(&mut self, sink: &dyn Sink) {
        if self.bytes.len() >= CHUNK_BYTES {
            self.hand_on(sink);
        }
    }
}

/// One thread's part in a snapshot.
pub(crate) struct Saver {
    snapshot: Arc<Snapshot>,
    pen: Pen,
    /// For cold keys, where they are wanted apart.
    cold_pen: Option<Pen>,
    /// The table of the shard that this thread goes through, and its cells that are to be looked at.
    at: Option<(u32, std::ops::Range<usize>)>,
    /// Nothing is to be saved any more, and what there was has been handed on.
    is_through: bool,
}

impl std::fmt::Debug for Saver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saver").field("number", &self.snapshot.number).finish_non_exhaustive()
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        if !self.is_through {
            // A scribe has panicked: what the buffer held is lost.
            self.snapshot.abort();
        }
    }
}

impl Saver {
    /// Has its scribes leave work to others, or not.
    fn leave_work(&mut self, leaves: bool) {
        self.pen.scribe.leave_work(leaves);
        self.cold_pen.iter_mut().for_each(|pen| pen.scribe.leave_work(leaves));
    }

    /// Saves a cell. Its shard is locked.
    fn save(
        &mut self,
        (table, index): (&DbTable, DbIndex),
        shard: &Shard<'_, Object>,
        local: &Local,
        cell: usize,
        live: Option<&Live>,
    ) {
        let Saver { snapshot, pen, cold_pen, .. } = self;
        let Some(part) = snapshot.part(table.number) else { return };
        pen.turn_to(part.db, &*snapshot.sink);
        cold_pen.iter_mut().for_each(|pen| pen.turn_to(part.db, &*snapshot.sink));
        let (first, last) = part.range(cell);
        let (mut at, mut seen) = (first, 0);
        loop {
            let next = shard.scan_home(at, &mut |entry| {
                let key = Hashed { bytes: entry.key(), hash: table.hash(entry.key()) };
                if !(first..=last).contains(&key.hash) {
                    return;
                }
                seen += 1;
                let is_over = entry.deadline().is_some_and(|end| end <= local.now.0) && !local.keep_expired;
                if !is_over && !is_invalidated(table, index, &key, live) {
                    let idle_ms = if pen.asks_for_idle { idle_ms(local, table, &key, entry) } else { None };
                    let kept = kept(snapshot.remembering.as_ref(), local, table, &key, entry);
                    let is_cold = snapshot.hot_from.is_some_and(|hot_from| {
                        warmth(snapshot.remembering.as_ref(), local, table, (&key, kept), entry) < hot_from
                    });
                    let pen = cold_pen.as_mut().filter(|_| is_cold).unwrap_or(&mut *pen);
                    pen.write(&Item::new(*entry), idle_ms, kept);
                }
            });
            match next.filter(|next| *next <= last) {
                Some(next) => at = next,
                None => break,
            }
        }
        part.set_saved(cell);
        pen.hand_on_if_long(&*snapshot.sink);
        cold_pen.iter_mut().for_each(|pen| pen.hand_on_if_long(&*snapshot.sink));
        snapshot.count_saved(1, seen);
    }

    /// The next shard whose cells this thread goes through.
    fn next_cell(&mut self) -> Option<(u32, usize)> {
        loop {
            if let Some((table, cells)) = &mut self.at {
                if let Some(part) = self.snapshot.part(*table)
                    && let Some(cell) = cells.find(|cell| !part.is_saved(*cell))
                {
                    // Until it is saved it is the next one.
                    cells.start = cell;
                    return Some((*table, cell));
                }
                self.at = None;
            }
            if self.snapshot.next_unit.load(Relaxed) >> SHARD_BITS >= self.snapshot.order.len() {
                return None;
            }
            self.at = Some(self.snapshot.unit(self.snapshot.next_unit.fetch_add(1, Relaxed))?);
        }
    }
}

/// Whether an invalidation has removed a key, though nobody has come by. `live`: those in force, where the caller holds them.
fn is_invalidated(table: &DbTable, db: DbIndex, key: &Hashed<'_>, live: Option<&Live>) -> bool {
    match live {
        Some(live) => live.is_gone(&table.followed, db, key),
        None => table.generations.is_gone(&table.followed, db, key),
    }
}

/// What the eviction policy knows of a key, by its field.
fn kept(
    remembering: Option<&Remembering>,
    local: &Local,
    table: &DbTable,
    key: &Hashed<'_>,
    entry: &Entry<'_, Object>,
) -> u32 {
    remembering.map_or(KEPT_NOTHING, |remembering| {
        remembering.of_key(&local.uses, table.number, (key.hash, key.bytes), entry.access())
    })
}

/// How likely a key is to be asked for soon: more where it is likelier. `kept`: what the policy knows of it. Keys of which the same is
/// known are told apart by their hashes, so that any share of them can be taken.
fn warmth(
    remembering: Option<&Remembering>,
    local: &Local,
    table: &DbTable,
    (key, kept): (&Hashed<'_>, u32),
    entry: &Entry<'_, Object>,
) -> u32 {
    const SECONDS_MAX: u64 = (1 << 24) - 1;
    let warmth = match local.access_to(table.number, key.bytes) {
        Access::Lru => {
            let seconds = lru::idle_ms(lru::clock_at(local.now.0), entry.access()) / 1000;
            SECONDS_MAX.saturating_sub(seconds) as u32
        }
        Access::Lfu { decay_minutes, .. } => {
            let counted = lru::Lfu::from_bits(entry.access());
            u32::from(counted.decayed_counter(lru::minute_at(local.now.0), decay_minutes))
        }
        Access::Policy => remembering.map_or(0, |remembering| remembering.warmth(kept)),
        Access::ByClass => 0,
    };
    warmth << 8 | (key.hash & 0xff) as u32
}

fn idle_ms(local: &Local, table: &DbTable, key: &Hashed<'_>, entry: &Entry<'_, Object>) -> Option<u64> {
    match local.access_to(table.number, key.bytes) {
        Access::Lru => Some(lru::idle_ms(lru::clock_at(local.now.0), entry.access())),
        Access::Policy => local.uses.idle_ms(table.number, (key.hash, key.bytes), entry.access(), local.now),
        Access::Lfu { .. } | Access::ByClass => None,
    }
}

/// Before an entry of a locked shard is changed, made or removed: has its cell saved if a snapshot still needs it.
#[inline(always)]
pub(crate) fn save_first(
    (table, index): (&DbTable, DbIndex),
    shard: &Shard<'_, Object>,
    local: &mut Local,
    hash: u64,
) {
    debug_assert!(table.snapshots.is_known_to(local), "a turn was begun without looking for snapshots");
    if local.saver.is_some() {
        save_cell_of((table, index), shard, local, hash, None);
    }
}

/// As [`save_first`], for who holds what invalidations are in force.
#[cold]
#[inline(never)]
pub(crate) fn save_cell_of(
    (table, index): (&DbTable, DbIndex),
    shard: &Shard<'_, Object>,
    local: &mut Local,
    hash: u64,
    live: Option<&Live>,
) {
    let Some(mut saver) = local.saver.take() else { return };
    if let Some(part) = saver.snapshot.part(table.number)
        && !saver.snapshot.is_over()
    {
        let cell = part.cell_of(hash);
        if !part.is_saved(cell) {
            saver.save((table, index), shard, local, cell, live);
        }
    }
    local.saver = Some(saver);
}

/// Has every cell between two hashes of a locked shard saved, for who is about to carry out what invalidations say of them.
#[cold]
pub(crate) fn save_range(
    table: (&DbTable, DbIndex),
    shard: &Shard<'_, Object>,
    local: &mut Local,
    (first, last): (u64, u64),
    live: &Live,
) {
    let Some(bits) =
        local.saver.as_ref().and_then(|saver| Some(saver.snapshot.part(table.0.number)?.cell_bits))
    else {
        return;
    };
    let mut hash = first;
    loop {
        save_cell_of(table, shard, local, hash, Some(live));
        // The first hash of the next cell.
        match ((hash >> (u64::BITS - bits)) + 1).checked_shl(u64::BITS - bits) {
            Some(next) if next > hash && next <= last => hash = next,
            _ => return,
        }
    }
}

impl Local {
    /// Looks whether a snapshot has begun or ended: at the beginning of every turn, and behind having waited for everything.
    #[inline]
    pub fn look_for_snapshot(&mut self, keyspace: &Keyspace) {
        let number = keyspace.snapshots.number();
        if number != self.snapshot {
            self.join_snapshot(keyspace);
        }
    }

    #[cold]
    fn join_snapshot(&mut self, keyspace: &Keyspace) {
        let current = keyspace.snapshots.current.lock();
        self.snapshot = current.snapshot.as_ref().map_or(0, |snapshot| snapshot.number);
        self.saver = current.snapshot.as_ref().map(|snapshot| {
            let pen = Pen::new(snapshot, false);
            let cold_pen = snapshot.hot_from.map(|_| Pen::new(snapshot, true));
            let snapshot = Arc::clone(snapshot);
            let mut saver = Saver { snapshot, pen, cold_pen, at: None, is_through: false };
            saver.leave_work(true);
            Box::new(saver)
        });
    }

    /// Whether a snapshot is in force, as far as this thread knows.
    #[inline]
    #[must_use]
    pub fn is_saving(&self) -> bool {
        self.saver.is_some()
    }
}

/// How far a sweep got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// Nothing is left for this thread to do.
    All,
    /// There was no time left, or somebody else has a shard that is wanted.
    Some,
    /// Others have to get on first: the sink, or threads at their last shards.
    Waiting,
}

impl Keyspace {
    /// Makes room for what a snapshot is to know of cells, and, where hot keys are to be parted from cold ones, looks at some keys to
    /// see which are which. Inside a turn; O(keys / 400).
    pub fn prepare_snapshot(&self, local: &mut Local, parts_hot_from_cold: bool) -> Prepared {
        let parts = self.numbered_tables().map(|(number, table)| (number, Part::new(table.len()))).collect();
        Prepared { parts, hot_from: parts_hot_from_cold.then(|| self.hot_from(local)) }
    }

    /// From which warmth on a key is among the [`HOT_PART`] of all keys that are likeliest to be asked for: by a sample.
    fn hot_from(&self, local: &mut Local) -> u32 {
        let remembering = self.remember();
        let keys: usize = self.numbered_tables().map(|(_, table)| table.len()).sum();
        let mut found = Vec::with_capacity(SAMPLE_KEYS + SAMPLE_KEYS / 2);
        for (_, table) in self.numbered_tables() {
            let wanted = found.len() + (SAMPLE_KEYS * table.len()).div_ceil(keys.max(1));
            // A look may find nothing, or a shard that is locked.
            for _ in 0..SAMPLE_KEYS {
                if found.len() >= wanted || table.is_empty() {
                    break;
                }
                let hash = local.random();
                let Some(shard) = table.try_lock(table.shard_of(hash)) else { continue };
                shard.scan_home(hash, &mut |entry| {
                    let key = Hashed { bytes: entry.key(), hash: table.hash(entry.key()) };
                    let kept = kept(remembering.as_ref(), local, table, &key, entry);
                    found.push(warmth(remembering.as_ref(), local, table, (&key, kept), entry));
                });
            }
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.get(found.len() / HOT_PART).copied().unwrap_or(0)
    }

    /// Takes the moment: everything as it is now goes to `sink`. The caller is exclusive. `None` where a snapshot is in force.
    pub fn begin_snapshot(
        &self,
        Prepared { parts: mut prepared, hot_from }: Prepared,
        at: Millis,
        sink: Box<dyn Sink>,
    ) -> Option<Arc<Snapshot>> {
        let mut current = self.snapshots.current.lock();
        if current.snapshot.is_some() {
            return None;
        }
        let (mut parts, mut order) = (Vec::new(), Vec::new());
        for (number, table) in self.numbered_tables().filter(|(_, table)| !table.is_empty()) {
            let made = prepared.iter().position(|(prepared, _)| *prepared == number);
            let made = made.map(|at| prepared.swap_remove(at).1);
            let mut part = made.unwrap_or_else(|| Part::new(table.len()));
            part.db = self.database_of(number);
            (part.keys, part.timed) = (table.len() as u64, table.len_with_deadline() as u64);
            parts.resize_with(number as usize + 1, || None);
            parts[number as usize] = Some(part);
            order.push(number);
        }
        current.last_number += 1;
        let snapshot = Arc::new(Snapshot {
            number: current.last_number,
            at,
            left: AtomicUsize::new(parts.iter().flatten().map(Part::cells).sum()),
            keys: parts.iter().flatten().map(|part| part.keys).sum(),
            parts: parts.into(),
            order,
            next_unit: AtomicUsize::new(0),
            holding: AtomicUsize::new(self.workers()),
            is_over: AtomicBool::new(false),
            saved: AtomicU64::new(0),
            remembering: if sink.keeps_uses() || hot_from.is_some() { self.remember() } else { None },
            keeps_uses: sink.keeps_uses(),
            hot_from,
            sink,
        });
        current.snapshot = Some(Arc::clone(&snapshot));
        self.snapshots.number.store(snapshot.number, Release);
        Some(snapshot)
    }

    /// Gives the snapshot in force up, if there is one.
    pub fn end_snapshot(&self) {
        let snapshot = self.snapshots.current.lock().snapshot.clone();
        if let Some(snapshot) = snapshot {
            snapshot.abort();
            self.snapshots.forget(snapshot.number);
        }
    }

    /// Saves what nobody came by, cell after cell, while there is time.
    pub fn sweep_snapshot(&self, local: &mut Local, more_time: &mut dyn FnMut() -> bool) -> Saved {
        loop {
            let Some(saver) = local.saver.as_deref_mut().filter(|saver| !saver.is_through) else {
                return Saved::All;
            };
            if saver.snapshot.is_over() {
                saver.is_through = true;
                self.snapshots.forget(saver.snapshot.number);
                return Saved::All;
            }
            if saver.snapshot.sink.is_behind() {
                return Saved::Waiting;
            }
            let Some((number, cell)) = saver.next_cell() else { break };
            let Some((table, part)) =
                self.table_of_number(number).zip(saver.snapshot.parts[number as usize].as_ref())
            else {
                return Saved::All;
            };
            let hash = part.range(cell).0;
            let Some(shard) = table.try_lock(table.shard_of(hash)) else { return Saved::Some };
            // No command waits. It is for all threads to share: for this one, where the one that writes has enough to do.
            let leaves = saver.snapshot.sink.has_time();
            local.saver.iter_mut().for_each(|saver| saver.leave_work(leaves));
            save_cell_of((table, self.database_of(number)), &shard, local, hash, None);
            local.saver.iter_mut().for_each(|saver| saver.leave_work(true));
            drop(shard);
            if !more_time() {
                return Saved::Some;
            }
        }
        self.finish_saving(local)
    }

    /// Hands on what this thread has, once nothing is left to be saved anywhere.
    fn finish_saving(&self, local: &mut Local) -> Saved {
        let Some(saver) = local.saver.as_deref_mut() else { return Saved::All };
        let snapshot = &saver.snapshot;
        if snapshot.left.load(Acquire) != 0 {
            return Saved::Waiting;
        }
        saver.pen.hand_on(&*snapshot.sink);
        saver.cold_pen.iter_mut().for_each(|pen| pen.hand_on(&*snapshot.sink));
        saver.is_through = true;
        if snapshot.holding.fetch_sub(1, AcqRel) == 1 && !snapshot.is_over.swap(true, AcqRel) {
            snapshot.sink.end();
            self.snapshots.forget(snapshot.number);
        }
        Saved::All
    }
}

/// What a snapshot still needs of a table that was flushed.
pub(crate) struct Unsaved {
    snapshot: Arc<Snapshot>,
    pen: Pen,
    table: u32,
    hasher: Hasher,
    /// What invalidations were still to be carried out.
    pub(crate) invalidated: Option<Box<Live>>,
    seen: u64,
    is_shown: bool,
}

impl Snapshots {
    /// A table is flushed, and everything is held: what the snapshot in force still needs of it.
    pub(crate) fn detach(&self, table: u32, hasher: &Hasher) -> Option<Unsaved> {
        let snapshot = self.current.lock().snapshot.clone()?;
        let part = snapshot.part(table)?;
        if part.unsaved() == 0 {
            return None;
        }
        part.is_detached.store(true, Relaxed);
        // Nobody asks for what is removed.
        let mut pen = Pen::new(&snapshot, snapshot.hot_from.is_some());
        pen.db = part.db;
        let hasher = hasher.clone();
        Some(Unsaved { snapshot, pen, table, hasher, invalidated: None, seen: 0, is_shown: false })
    }
}

impl Unsaved {
    /// Whether there is anything to be shown to it.
    pub(crate) fn is_needed(&self) -> bool {
        !self.is_shown && !self.snapshot.is_over()
    }

    /// An entry is about to be freed.
    pub(crate) fn show(&mut self, entry: &Entry<'_, Object>) {
        let Some(part) = self.snapshot.parts.get(self.table as usize).and_then(Option::as_ref) else {
            return;
        };
        let key = Hashed { bytes: entry.key(), hash: self.hasher.hash(entry.key()) };
        if part.is_saved(part.cell_of(key.hash)) {
            return;
        }
        self.seen += 1;
        let is_gone = self.invalidated.as_ref().is_some_and(|live| live.was_gone(&key));
        if !is_gone && entry.deadline().is_none_or(|end| end > self.snapshot.at.0) {
            self.pen.write(&Item::new(*entry), None, KEPT_NOTHING);
            self.pen.hand_on_if_long(&*self.snapshot.sink);
        }
    }

    /// All entries were shown.
    pub(crate) fn end(&mut self) {
        let Some(part) = self.snapshot.parts.get(self.table as usize).and_then(Option::as_ref) else {
            return;
        };
        if !std::mem::replace(&mut self.is_shown, true) {
            self.pen.hand_on(&*self.snapshot.sink);
            self.snapshot.count_saved(part.unsaved(), self.seen);
        }
    }
}

impl Drop for Unsaved {
    fn drop(&mut self) {
        if !self.is_shown {
            // Freed without having been shown.
            self.snapshot.abort();
        }
    }
}
