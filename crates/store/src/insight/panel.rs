//! What threads share: each thread's sketches and notes behind a lock of its own, that only who asks takes as well, and the
//! followed keys, which notes are handed over to some dozens at a time.
//!
//! Locks are taken in this order: a thread's, then that of the followed keys.

use super::lives::{End, Ended, Kept, Lives};
use super::prefix::{LEVELS, PREFIX_BYTES_MAX, hash_of, prefixes};
use super::remembered::Remembered;
use crate::keyspace::{Hashed, TableNumber};
use crate::local::Millis;
use crate::stats::StoreStats;
use larder_policy::Random;
use larder_policy::sketch::{Curve, CurveCounts, HashesTo, Heavy, KEYS_MAX, Shards, Top};
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Accesses from one sample to the next, on average.
const PERIOD: u64 = 256;
/// The same at the beginning, so that little traffic tells something too.
const PERIOD_FIRST: u64 = 16;
/// Samples of the beginning.
const FIRST_SAMPLES: u64 = 4096;
/// Samples of a thread after which its counts are halved: a few million accesses.
const FADE_AFTER: u64 = 1 << 16;
/// Notes that a thread hands over at a time.
const NOTES: usize = 48;
/// Followed keys whose last use a thread remembers until it hands over.
const RECENT: usize = 32;
/// Notes a thread may make beyond its share, at the beginning and after the threshold fell.
const CREDIT_FIRST: i64 = 64 * 1024;
const CREDIT_AGAIN: i64 = 2048;
/// Samples that pay for a note, and turns of the event loop.
const SAMPLES_A_NOTE: u64 = 2;
const TURNS_A_NOTE: u32 = 16;
/// Buckets of the sketches, of eight names each.
const KEY_BUCKETS: usize = 64;
const PREFIX_BUCKETS: usize = 32;
/// Longer keys are neither hot nor large, as far as is told.
const KEY_BYTES_MAX: usize = 1024;
/// Keys of large values that a thread knows.
const LARGE_MAX: usize = 128;
/// Ends that wait for their beginnings, at most.
const EARLY_MAX: usize = 512;
/// The threshold falls no lower than one key in so many.
const RATE_MIN: u32 = 1 << 20;
/// Reads of followed keys after which the curve's counts are halved.
const CURVE_FADES_AFTER: f64 = 131_072.0;

/// Reads and writes, estimated from samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Writes.
    pub writes: u64,
}

impl Traffic {
    pub(super) const HIT: Traffic = Traffic { hits: 1, misses: 0, writes: 0 };
    pub(super) const MISS: Traffic = Traffic { hits: 0, misses: 1, writes: 0 };
    pub(super) const WRITE: Traffic = Traffic { hits: 0, misses: 0, writes: 1 };

    fn add(&mut self, other: Traffic, times: u64) {
        self.hits += other.hits * times;
        self.misses += other.misses * times;
        self.writes += other.writes * times;
    }

    fn halve(&mut self) {
        *self = Traffic { hits: self.hits / 2, misses: self.misses / 2, writes: self.writes / 2 };
    }

    /// Hits by reads; 0 where nothing was read.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        let reads = self.hits + self.misses;
        if reads == 0 { 0.0 } else { self.hits as f64 / reads as f64 }
    }
}

/// What happened to a followed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Found,
    Missed,
    Wrote,
    Left(End),
    /// It is not there any more, and that tells nothing.
    Lost,
}

/// A use of a followed key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Note {
    hash: u64,
    at_ms: u64,
    deadline_ms: u64,
    bytes: u32,
    table: u32,
    prefixes: [u32; LEVELS],
    kind: Kind,
}

impl Note {
    pub fn new(
        key: &Hashed<'_>,
        table: TableNumber,
        kind: Kind,
        found: Option<(usize, u64)>,
        now: Millis,
    ) -> Note {
        let (bytes, deadline_ms) = found.unwrap_or_default();
        let mut of_key = [0; LEVELS];
        // Of a key that is read the record knows them.
        if kind == Kind::Wrote {
            of_key
                .iter_mut()
                .zip(prefixes(key.bytes))
                .for_each(|(place, prefix)| *place = short_hash(prefix));
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Note { hash: key.hash, at_ms: now.0, deadline_ms, bytes, table: table.0, prefixes: of_key, kind }
    }
}

/// By which records know a prefix; never 0.
fn short_hash(prefix: &[u8]) -> u32 {
    (hash_of(prefix) >> 32) as u32 | 1
}

/// Whole seconds, rounded up; 0 for never.
fn seconds(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX)
}

/// One thread's sketches and notes.
#[derive(Debug)]
pub(super) struct Thread {
    notes: Vec<Note>,
    /// What was noted last of keys, by their hashes: it is not noted again before notes are handed over.
    recent: [(u64, Option<Kind>); RECENT],
    /// Misses of followed keys that were not noted for that.
    repeated_misses: u64,
    keys: Heavy<()>,
    prefixes: Heavy<Traffic>,
    large: Top,
    name: Vec<u8>,
    samples: u64,
    period: u64,
    credit: i64,
    random: Random,
    stats: Option<Arc<StoreStats>>,
    reads_told: u64,
}

impl Thread {
    fn new(seed: u64) -> Thread {
        Thread {
            notes: Vec::with_capacity(NOTES),
            recent: [(0, None); RECENT],
            repeated_misses: 0,
            keys: Heavy::new(KEY_BUCKETS, KEY_BYTES_MAX),
            prefixes: Heavy::new(PREFIX_BUCKETS, PREFIX_BYTES_MAX),
            large: Top::new(LARGE_MAX, KEY_BYTES_MAX + size_of::<u32>()),
            name: Vec::new(),
            samples: 0,
            period: PERIOD_FIRST,
            credit: CREDIT_FIRST,
            random: Random::new(seed),
            stats: None,
            reads_told: 0,
        }
    }

    /// Starts again from nothing, but for what nobody could tell anew without a walk over all keys: the large values.
    fn reset(&mut self) {
        let stats = self.stats.take();
        let reads = reads_of(stats.as_ref());
        let large = std::mem::replace(&mut self.large, Top::new(1, 1));
        *self = Thread { stats, reads_told: reads, large, ..Thread::new(self.random.next()) };
    }

    /// Takes an access as a sample, and says after how many the next is due.
    pub fn sample(&mut self, table: TableNumber, key: &Hashed<'_>, traffic: Traffic) -> u32 {
        self.samples += 1;
        self.credit += i64::from(self.samples.is_multiple_of(SAMPLES_A_NOTE));
        self.keys.add(key.hash, table.0, key.bytes, self.period);
        for prefix in prefixes(key.bytes) {
            if let Some(of_prefix) = self.prefixes.add(hash_of(prefix), 0, prefix, self.period) {
                of_prefix.add(traffic, self.period);
            }
        }
        if self.samples.is_multiple_of(FADE_AFTER) {
            self.keys.halve(|()| {});
            self.prefixes.halve(Traffic::halve);
        }
        if self.samples == FIRST_SAMPLES {
            self.period = PERIOD;
        }
        // Uniform around the period: no rhythm of a load is always met at one place, or never.
        (self.period / 2) as u32 + self.random.below(self.period as usize + 1) as u32
    }

    /// Notes a value that is larger than the least known.
    pub fn note_large(&mut self, table: TableNumber, key: &[u8], bytes: u64) {
        if key.len() > KEY_BYTES_MAX {
            return;
        }
        self.name.clear();
        self.name.extend_from_slice(&table.0.to_le_bytes());
        self.name.extend_from_slice(key);
        self.large.largest(&self.name, bytes);
    }

    /// Values of more bytes are to be noted.
    pub fn large_min(&self) -> usize {
        self.large.least().map_or(0, |least| usize::try_from(least).unwrap_or(usize::MAX))
    }

    /// Keeps a note, unless it says what was said a moment ago. True where notes are to be handed over.
    pub fn note(&mut self, note: Note) -> bool {
        if let Some(place) = self.recent.get_mut((note.hash >> 16) as usize % RECENT) {
            let said = (note.hash, Some(note.kind));
            if *place == said && matches!(note.kind, Kind::Found | Kind::Missed | Kind::Wrote) {
                self.repeated_misses += u64::from(note.kind == Kind::Missed);
                return false;
            }
            *place = said;
        }
        self.credit -= 1;
        self.notes.push(note);
        self.notes.len() >= NOTES
    }
}

/// Reads that a thread counted.
fn reads_of(stats: Option<&Arc<StoreStats>>) -> u64 {
    stats.map_or(0, |stats| stats.hits.get().wrapping_add(stats.misses.get()))
}

/// The keys that are followed.
#[derive(Debug)]
struct Followed {
    /// How many at most.
    keys_max: usize,
    shards: Shards,
    lives: Lives,
    /// Keys have records whose hash's lower half lies below; never above the threshold by which keys are followed.
    lives_threshold: u64,
    /// Keys whose end was told by one thread before another told of their beginning, and when that was.
    early: HashesTo<u64>,
}

/// Lower halves of hashes lie below.
const RANGE: u64 = 1 << 32;

/// Fewest keys that are followed where there are as many.
const KEYS_MIN: usize = 256;
/// The part of the memory limit that may be taken for followed keys, as a divisor, and bytes that one takes, its record
/// included.
const LIMIT_PART: usize = 64;
const BYTES_A_KEY: usize = 128;

/// Which part more keys are followed, of a number that is expected, than there is room for: how many they are is chance.
const EXPECTED_SPARE: u64 = 16;

impl Followed {
    fn new(keys_max: usize) -> Followed {
        Followed {
            keys_max,
            shards: Shards::following(keys_max),
            lives: Lives::default(),
            lives_threshold: RANGE,
            early: HashesTo::default(),
        }
    }

    /// Which share of all keys has records.
    fn lives_rate(&self) -> f64 {
        self.lives_threshold as f64 / RANGE as f64
    }

    fn take(&mut self, note: &Note) {
        let Note { hash, at_ms, bytes, table, prefixes, .. } = *note;
        if !self.shards.follows(hash) {
            return;
        }
        match note.kind {
            Kind::Found => self.shards.read(hash, Some(bytes), seconds(at_ms)),
            Kind::Missed => self.shards.read(hash, None, seconds(at_ms)),
            Kind::Wrote => self.shards.wrote(hash, bytes, seconds(note.deadline_ms)),
            Kind::Left(End::Evicted) => {}
            Kind::Left(_) | Kind::Lost => self.shards.removed(hash),
        }
        if hash % RANGE >= self.lives_threshold {
            return;
        }
        let is_end = matches!(note.kind, Kind::Left(_) | Kind::Lost);
        if is_end && !self.lives.has(hash) {
            if self.early.len() >= EARLY_MAX {
                self.early.clear();
            }
            self.early.insert(hash, at_ms);
        } else if note.kind == Kind::Wrote && self.early.remove(&hash).is_some_and(|gone_ms| at_ms <= gone_ms)
        {
            return;
        }
        match note.kind {
            Kind::Found => self.lives.read(hash, bytes, prefixes, table),
            Kind::Missed | Kind::Lost => self.lives.lost(hash),
            Kind::Wrote => self.lives.wrote(hash, bytes, prefixes, table, at_ms),
            Kind::Left(end) => self.lives.left(hash, end, at_ms),
        }
    }

    /// Forgets records that are too many, or of keys that are not followed any more.
    fn keep_up(&mut self) {
        let mut after = self.lives_threshold.min(self.shards.threshold());
        loop {
            if after < self.lives_threshold {
                let scale = after as f64 / self.lives_threshold as f64;
                self.lives_threshold = after;
                self.lives.retain(|hash| hash % RANGE < after, scale);
            }
            // Every second has a record.
            if self.lives.len() <= self.keys_max / 2 {
                return;
            }
            after = after / 8 * 7;
        }
    }
}

/// What all threads share.
#[derive(Debug)]
pub struct Panel {
    threads: Box<[Mutex<Thread>]>,
    followed: Mutex<Followed>,
    threshold: AtomicU32,
}

/// A key with much traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotKey {
    /// Its database.
    pub table: TableNumber,
    /// The key.
    pub key: Vec<u8>,
    /// Reads and writes of it among the last few million accesses, estimated from samples.
    pub accesses: u64,
    /// How many of them may be another key's.
    pub over: u64,
}

/// What is known of a prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct PrefixFigures {
    /// The prefix.
    pub prefix: Vec<u8>,
    /// Reads and writes among the last few million accesses, estimated from samples.
    pub accesses: u64,
    /// How many of them may be another prefix's.
    pub over: u64,
    /// Of which kinds they were.
    pub traffic: Traffic,
    /// What is known of its keys, estimated from those that are followed.
    pub kept: Kept,
}

impl PrefixFigures {
    fn nothing(prefix: &[u8]) -> PrefixFigures {
        PrefixFigures {
            prefix: prefix.to_vec(),
            accesses: 0,
            over: 0,
            traffic: Traffic::default(),
            kept: Kept::default(),
        }
    }
}

/// The curve, and what it was made from.
#[derive(Debug, Clone)]
pub struct MissRatio {
    /// Hit ratios by bytes of keys and values.
    pub curve: Curve,
    /// All reads, less what has faded.
    pub reads: u64,
    /// Reads that were noted.
    pub reads_followed: u64,
    /// Keys that are followed, those that have left included.
    pub keys: usize,
    /// Which share of all keys that is.
    pub rate: f64,
}

/// What became of keys.
#[derive(Debug, Clone)]
pub struct Lifetimes {
    /// Those that left because room was needed.
    pub evicted: Ended,
    /// Those whose time had come.
    pub expired: Ended,
    /// Those a client removed.
    pub deleted: Ended,
    /// Keys that are there and have records.
    pub keys: usize,
    /// Their bytes, keys included.
    pub bytes: u64,
    /// Which share of all keys has records.
    pub rate: f64,
}

impl Panel {
    /// For so many threads.
    #[must_use]
    pub fn new(threads: usize) -> Panel {
        Panel {
            threads: (0..threads.max(1) as u64).map(|seed| Mutex::new(Thread::new(seed))).collect(),
            followed: Mutex::new(Followed::new(KEYS_MAX)),
            threshold: AtomicU32::new(u32::MAX),
        }
    }

    pub(super) fn join(&self, worker: usize, stats: &Arc<StoreStats>) {
        let mut thread = self.thread(worker);
        thread.reads_told = reads_of(Some(stats));
        thread.stats = Some(Arc::clone(stats));
    }

    /// Below which lower half of its hash a key is followed.
    #[inline]
    pub(super) fn threshold(&self) -> u32 {
        self.threshold.load(Relaxed)
    }

    pub(super) fn thread(&self, worker: usize) -> MutexGuard<'_, Thread> {
        // Workers are as many as the panel was made for.
        self.threads[worker % self.threads.len()].lock()
    }

    /// Takes a thread's notes. `turns` of its event loop have passed since the last time; where it may have made more than
    /// its share of notes, it made them by the threshold `by`.
    pub(super) fn take_over(&self, thread: &mut Thread, turns: u32, by: Option<u32>) {
        thread.credit = (thread.credit + i64::from(turns / TURNS_A_NOTE)).min(CREDIT_FIRST);
        let reads = reads_of(thread.stats.as_ref());
        // CONFIG RESETSTAT may have begun the count anew.
        let new = reads.checked_sub(thread.reads_told).unwrap_or(reads);
        thread.reads_told = reads;
        let mut followed = self.followed.lock();
        followed.shards.count(new);
        followed.shards.missed(std::mem::take(&mut thread.repeated_misses));
        thread.notes.drain(..).for_each(|note| followed.take(&note));
        if thread.credit < 0 && by.is_some() {
            thread.credit = CREDIT_AGAIN;
            if by == Some(self.threshold()) {
                let half = followed.shards.threshold() / 2;
                followed.shards.lower_to(half.max(RANGE / u64::from(RATE_MIN)));
            }
        }
        followed.keep_up();
        if followed.shards.reads_followed() > CURVE_FADES_AFTER {
            followed.shards.fade(0.5);
        }
        self.threshold.store(u32::try_from(followed.shards.threshold()).unwrap_or(u32::MAX), Relaxed);
        drop(followed);
        thread.recent = [(0, None); RECENT];
    }

    /// Has the notes of all threads taken.
    fn catch_up(&self) {
        for thread in &self.threads {
            self.take_over(&mut thread.lock(), 0, None);
        }
    }

    /// Forgets what was counted. Which keys are there, and in which order they were used, stays known.
    pub fn reset_counts(&self) {
        self.catch_up();
        for thread in &self.threads {
            thread.lock().reset();
        }
        let mut followed = self.followed.lock();
        followed.shards.fade(0.0);
        followed.lives.reset_counts();
    }

    /// Forgets everything, but which values are large.
    pub fn reset(&self) {
        for thread in &self.threads {
            thread.lock().reset();
        }
        let mut followed = self.followed.lock();
        *followed = Followed::new(followed.keys_max);
        self.threshold.store(u32::MAX, Relaxed);
    }

    /// Has no more keys followed while so many are stored than can be once all are there: notes of the others would be in vain.
    pub fn expect(&self, keys: u64) {
        let mut followed = self.followed.lock();
        let wanted = followed.keys_max as u64 + followed.keys_max as u64 / EXPECTED_SPARE;
        if keys <= wanted {
            return;
        }
        followed.shards.lower_to((RANGE / keys).saturating_mul(wanted).max(RANGE / u64::from(RATE_MIN)));
        followed.keep_up();
        self.threshold.store(u32::try_from(followed.shards.threshold()).unwrap_or(u32::MAX), Relaxed);
    }

    /// Follows fewer keys where memory is limited to little: what a small cache is told of itself is not to take its room.
    /// Where that changes something, which keys were followed is forgotten.
    pub fn fit(&self, limit_bytes: usize) {
        let affordable = limit_bytes / LIMIT_PART / BYTES_A_KEY;
        // In powers of two: a limit that moves a little changes nothing.
        let keys_max = KEYS_MAX.min(1 << affordable.max(KEYS_MIN).ilog2());
        let mut followed = self.followed.lock();
        if followed.keys_max != keys_max {
            *followed = Followed::new(keys_max);
            self.threshold.store(u32::MAX, Relaxed);
        }
    }

    /// A database was emptied; `all` where nothing is left in any other either.
    pub(crate) fn flushed(&self, table: TableNumber, all: bool) {
        self.catch_up();
        let mut followed = self.followed.lock();
        for hash in followed.lives.flushed(table.0) {
            followed.shards.removed(hash);
        }
        if all {
            // Also those that had left before: a larger cache would have been emptied as well.
            followed.shards.removed_all();
        }
    }

    /// Which hit ratio the cache would have at other sizes.
    #[must_use]
    pub fn miss_ratio(&self) -> MissRatio {
        self.catch_up();
        let followed = self.followed.lock();
        let shards = &followed.shards;
        MissRatio {
            curve: shards.curve(),
            reads: shards.reads(),
            reads_followed: shards.reads_followed() as u64,
            keys: shards.len(),
            rate: shards.rate(),
        }
    }

    /// What the curve is made from.
    pub(super) fn curve_counts(&self) -> CurveCounts {
        self.catch_up();
        self.followed.lock().shards.counts()
    }

    /// Goes on from what was told before a restart, in place of what was counted since. Keys come with their hashes of now.
    pub(super) fn recall(&self, keys: Vec<(u64, TableNumber, Vec<u8>, [u64; 2])>, remembered: &Remembered) {
        self.reset_counts();
        let mut thread = self.thread(0);
        let mut known = 0u64;
        for (hash, table, key, [accesses, over]) in keys {
            if thread.keys.recall((hash, table.0, key.as_slice()), (accesses, over), ()) {
                known = accesses.saturating_add(known);
            }
        }
        thread.keys.count(remembered.whole.saturating_sub(known));
        for (prefix, [accesses, over, hits, misses, writes]) in &remembered.prefixes {
            let traffic = Traffic { hits: *hits, misses: *misses, writes: *writes };
            thread.prefixes.recall((hash_of(prefix), 0, prefix.as_slice()), (*accesses, *over), traffic);
        }
        drop(thread);
        self.followed.lock().shards.recall(&remembered.curve);
    }

    /// What became of keys.
    #[must_use]
    pub fn lifetimes(&self) -> Lifetimes {
        self.catch_up();
        let followed = self.followed.lock();
        let lives = &followed.lives;
        Lifetimes {
            evicted: lives.ended(End::Evicted),
            expired: lives.ended(End::Expired),
            deleted: lives.ended(End::Deleted),
            keys: lives.len(),
            bytes: lives.bytes(),
            rate: followed.lives_rate(),
        }
    }

    /// The keys with the most traffic, the hottest first, and all accesses that were counted.
    #[must_use]
    pub fn hot_keys(&self, most: usize) -> (Vec<HotKey>, u64) {
        let (mut sums, mut whole) = (HashMap::<(u32, Vec<u8>), (u64, u64)>::new(), 0);
        for thread in &self.threads {
            let thread = thread.lock();
            whole += thread.keys.whole();
            for one in thread.keys.hitters() {
                let sum = sums.entry((one.space, one.name.clone())).or_default();
                *sum = (sum.0 + one.count, sum.1 + one.over);
            }
        }
        let key = |((db, key), (accesses, over))| HotKey { table: TableNumber(db), key, accesses, over };
        let mut found: Vec<HotKey> = sums.into_iter().map(key).collect();
        // What a key had for certain decides: a name that has just come has the count of the one before it.
        found.sort_unstable_by(|a, b| (b.accesses - b.over, &a.key).cmp(&(a.accesses - a.over, &b.key)));
        found.truncate(most);
        (found, whole)
    }

    /// Keys whose values are among the largest, as far as was seen, the largest first, with the bytes they had. Who asks
    /// looks them up: they may have changed or gone.
    #[must_use]
    pub fn large_keys(&self) -> Vec<(TableNumber, Vec<u8>, u64)> {
        let mut found: HashMap<Box<[u8]>, u64> = HashMap::new();
        for thread in &self.threads {
            for one in thread.lock().large.heaviest(LARGE_MAX) {
                let bytes = found.entry(one.name).or_default();
                *bytes = one.count.max(*bytes);
            }
        }
        let key = |(name, bytes): (Box<[u8]>, u64)| {
            let (table, key) = name.split_first_chunk::<4>()?;
            Some((TableNumber(u32::from_le_bytes(*table)), key.to_vec(), bytes))
        };
        let mut keys: Vec<_> = found.into_iter().filter_map(key).collect();
        keys.sort_unstable_by(|a, b| (b.2, &a.1).cmp(&(a.2, &b.1)));
        keys
    }

    /// Forgets a key that was said to be large, or corrects its size.
    pub fn correct_large(&self, table: TableNumber, key: &[u8], bytes: Option<u64>) {
        let name = [&table.0.to_le_bytes()[..], key].concat();
        for thread in &self.threads {
            let mut thread = thread.lock();
            match bytes {
                Some(bytes) if thread.large.contains(&name) => thread.large.largest(&name, bytes),
                Some(_) => {}
                None => thread.large.remove(&name),
            }
        }
    }

    /// The prefixes with the most traffic, those with most first, and all accesses that were counted.
    #[must_use]
    pub fn prefixes(&self, most: usize) -> (Vec<PrefixFigures>, u64) {
        let (found, whole) = self.traffic_by_prefix();
        let mut found: Vec<PrefixFigures> = found.into_values().collect();
        found
            .sort_unstable_by(|a, b| (b.accesses - b.over, &a.prefix).cmp(&(a.accesses - a.over, &b.prefix)));
        found.truncate(most);
        found.iter_mut().for_each(|figures| figures.kept = self.kept(&figures.prefix));
        (found, whole)
    }

    /// What is known of one prefix. `None` where nothing is.
    #[must_use]
    pub fn prefix(&self, prefix: &[u8]) -> Option<PrefixFigures> {
        let kept = self.kept(prefix);
        match self.traffic_by_prefix().0.remove(prefix) {
            Some(figures) => Some(PrefixFigures { kept, ..figures }),
            None if kept == Kept::default() => None,
            None => Some(PrefixFigures { kept, ..PrefixFigures::nothing(prefix) }),
        }
    }

    /// Sums over the threads, by prefix; and all accesses that were counted.
    fn traffic_by_prefix(&self) -> (HashMap<Vec<u8>, PrefixFigures>, u64) {
        let (mut sums, mut whole) = (HashMap::<Vec<u8>, PrefixFigures>::new(), 0);
        for thread in &self.threads {
            let thread = thread.lock();
            whole += thread.keys.whole();
            for one in thread.prefixes.hitters() {
                let sum = sums.entry(one.name.clone()).or_insert_with(|| PrefixFigures::nothing(&one.name));
                (sum.accesses, sum.over) = (sum.accesses + one.count, sum.over + one.over);
                sum.traffic.add(one.more, 1);
            }
        }
        (sums, whole)
    }

    /// What the records tell of a prefix's keys, in the scale of all keys.
    fn kept(&self, prefix: &[u8]) -> Kept {
        self.catch_up();
        let followed = self.followed.lock();
        scaled(followed.lives.of_prefix(short_hash(prefix)), followed.lives_rate())
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let of_threads: usize = self
            .threads
            .iter()
            .map(|thread| {
                let thread = thread.lock();
                thread.keys.memory() + thread.prefixes.memory() + thread.large.memory() + size_of::<Thread>()
            })
            .sum();
        let followed = self.followed.lock();
        of_threads + followed.shards.memory() + followed.lives.memory()
    }
}

/// Of all keys what was counted of some.
fn scaled(kept: Kept, rate: f64) -> Kept {
    let scale = |count: u64| (count as f64 / rate).round() as u64;
    Kept {
        keys: scale(kept.keys),
        bytes: scale(kept.bytes),
        evicted: scale(kept.evicted),
        expired: scale(kept.expired),
        deleted: scale(kept.deleted),
        unread: scale(kept.unread),
    }
}
