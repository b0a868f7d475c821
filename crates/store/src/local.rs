//! What one thread brings to the keyspace: the time, random numbers, counters, scratch memory and
//! the place where effects go.

use crate::discard::LazyFree;
use crate::effects::Effects;
use crate::evict::Uses;
use crate::insight::Insight;
use crate::keyspace::{DbIndex, Garbage};
use crate::object::Object;
use crate::snapshot::Saver;
use crate::stats::StoreStats;
use larder_table::Entry;
use larder_values::lru::{self, Lfu};
use std::sync::Arc;

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Millis(pub u64);

/// How an access is written into an entry's 24-bit field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A clock of seconds: the key's idle time can be told.
    Lru,
    /// A logarithmic counter that decays: the key's frequency can be told.
    Lfu {
        /// `lfu-log-factor`.
        log_factor: u32,
        /// `lfu-decay-time`, in minutes.
        decay_minutes: u32,
    },
    /// What the policy in force wants: [`Local::uses`].
    Policy,
    /// It depends on the key: some have policies of their own. What the others have stands in [`Local::unclassed`].
    ByClass,
}

/// What reads did not find, or found about to end, for whoever can fetch it. Off, it costs a load where a key is missing.
#[derive(Debug, Default)]
pub struct Unfound {
    /// Whether anything is noted.
    pub is_on: bool,
    /// A key that ends within so many milliseconds is noted when it is read.
    pub ahead_ms: u64,
    /// The first bytes that keys of interest have, a bit for each.
    pub firsts: [u64; 4],
    /// The keys noted since somebody looked.
    pub keys: NotedKeys,
}

/// Keys, one behind the other in one buffer.
#[derive(Debug, Default)]
pub struct NotedKeys {
    bytes: Vec<u8>,
    /// The database of each, where it ends in the buffer, and its own end if it is there.
    keys: Vec<(DbIndex, usize, Option<Millis>)>,
}

/// Bytes of noted keys for which memory is kept.
const NOTED_BYTES_MAX: usize = 256 * 1024;

impl NotedKeys {
    /// Whether nothing is noted.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.keys.clear();
        if self.bytes.capacity() > NOTED_BYTES_MAX {
            *self = NotedKeys::default();
        }
    }

    /// Each with its database, and with its end if it is there, in the order in which they were noted.
    pub fn iter(&self) -> impl Iterator<Item = (DbIndex, &[u8], Option<Millis>)> {
        let mut start = 0;
        self.keys.iter().map(move |(db, end, ends)| {
            let key = &self.bytes[start..*end];
            start = *end;
            (*db, key, *ends)
        })
    }
}

impl Unfound {
    #[cold]
    pub(crate) fn note(&mut self, db: DbIndex, key: &[u8], end: Option<Millis>) {
        let Some(first) = key.first() else { return };
        if self.firsts[usize::from(first >> 6)] >> (first & 63) & 1 != 0 {
            self.keys.bytes.extend_from_slice(key);
            self.keys.keys.push((db, self.keys.bytes.len(), end));
        }
    }
}

/// Per-thread companion of every access to the keyspace.
#[derive(Debug)]
pub struct Local {
    /// The number of this thread among the keyspace's workers.
    pub worker: usize,
    /// The time of this loop turn; all commands of a turn see the same.
    pub now: Millis,
    /// How accesses are recorded.
    pub access: Access,
    /// How accesses to keys of no class are recorded where it depends on the key.
    pub unclassed: Access,
    /// What is recorded for the policy in force.
    pub uses: Uses,
    /// What is told of accesses.
    pub insight: Insight,
    /// Whether reads leave the access field alone (`CLIENT NO-TOUCH`).
    pub no_touch: bool,
    /// Whether lazy expiry is off (`DEBUG SET-ACTIVE-EXPIRE 0` leaves it on; importing turns it off).
    pub keep_expired: bool,
    /// Whether keys whose time has come are found absent and left where they are: writes are paused, and so is what would be
    /// told of their end. For commands that only read.
    pub leaves_expired: bool,
    /// Counters of this thread.
    pub stats: Arc<StoreStats>,
    /// Where changes are announced.
    pub effects: Effects,
    /// Memory for values that must be assembled before they are stored. Never holds anything
    /// between two commands.
    pub scratch: Vec<u8>,
    /// Memory in which packed collections are edited. Empty between two edits.
    pub spare: Vec<u8>,
    /// Values to be freed by the background; the thread hands them on after each turn.
    pub garbage: Vec<Garbage>,
    /// Large values that the thread frees itself once it holds no lock; see [`Local::free_spent`].
    pub spent: Vec<Object>,
    /// Which removed values become garbage.
    pub lazy_free: LazyFree,
    /// What reads did not find.
    pub unfound: Unfound,
    /// Keys are settled before they are looked at, since invalidations are in force; see [`crate::Db::settle`].
    pub settles: bool,
    /// Where tokens come from that nobody can guess; without it, from random numbers that are not for secrets.
    pub secret: Option<fn() -> u64>,
    /// The kind of the value that was last replaced or removed.
    pub(crate) replaced_kind: u8,
    /// This thread's part in the snapshot in force; see `snapshot.rs`.
    pub(crate) saver: Option<Box<Saver>>,
    /// The number of that snapshot; 0 for none.
    pub(crate) snapshot: u64,
    random: u64,
}

impl Local {
    /// The companion of an only worker, whose random numbers start from `seed`.
    pub fn new(seed: u64, stats: Arc<StoreStats>) -> Self {
        Local::of_worker(0, seed, stats)
    }

    /// The companion of one of several workers.
    pub fn of_worker(worker: usize, seed: u64, stats: Arc<StoreStats>) -> Self {
        Local {
            worker,
            now: Millis(0),
            access: Access::Lru,
            unclassed: Access::Lru,
            uses: Uses::default(),
            insight: Insight::default(),
            no_touch: false,
            keep_expired: false,
            leaves_expired: false,
            stats,
            effects: Effects::default(),
            scratch: Vec::new(),
            spare: Vec::new(),
            garbage: Vec::new(),
            spent: Vec::new(),
            lazy_free: LazyFree::default(),
            unfound: Unfound::default(),
            settles: false,
            secret: None,
            replaced_kind: 0,
            saver: None,
            snapshot: 0,
            random: seed | 1,
        }
    }

    /// The next random number: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), not for secrets.
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A token for a lease: 63 random bits, never 0.
    pub fn token(&mut self) -> u64 {
        (self.secret.map_or_else(|| self.random(), |secret| secret()) >> 1).max(1)
    }

    /// How accesses to keys of no class are recorded.
    pub(crate) fn access_of_rest(&self) -> Access {
        if self.access == Access::ByClass { self.unclassed } else { self.access }
    }

    /// How accesses to a key of a table are recorded.
    pub(crate) fn access_to(&self, table: u32, key: &[u8]) -> Access {
        match self.access {
            Access::ByClass => match self.uses.has_fields_by_class(table, key) {
                Some(true) => Access::Policy,
                Some(false) => Access::Lru,
                None => self.unclassed,
            },
            access => access,
        }
    }

    /// The access field of a key that is created now. A policy that is in force writes its own; see [`Uses`].
    #[inline]
    pub(crate) fn access_of_new(&self) -> u32 {
        match self.access_of_rest() {
            Access::Lru | Access::ByClass => lru::clock_at(self.now.0),
            Access::Lfu { .. } => Lfu::new(lru::minute_at(self.now.0)).to_bits(),
            Access::Policy => 0,
        }
    }

    /// The access field of an entry of a table, which is read now.
    #[inline]
    pub(crate) fn access_touched(&mut self, table: u32, hash: u64, entry: &Entry<'_, Object>) -> u32 {
        match self.access {
            Access::Lru => lru::clock_at(self.now.0),
            Access::Lfu { .. } => self.counted(entry.access()),
            Access::Policy => self.uses.read(table, hash, entry.access()),
            Access::ByClass => self.access_by_class(table, hash, entry, true),
        }
    }

    /// The access field of an entry that is given a new value now.
    #[inline]
    pub(crate) fn access_written(&mut self, table: u32, hash: u64, entry: &Entry<'_, Object>) -> u32 {
        match self.access {
            Access::Lru => lru::clock_at(self.now.0),
            // The frequency of a key that is overwritten stays its own.
            Access::Lfu { .. } => self.counted(entry.access()),
            Access::Policy => self.uses.wrote(table, hash, entry.access()),
            Access::ByClass => self.access_by_class(table, hash, entry, false),
        }
    }

    #[inline(never)]
    fn access_by_class(&mut self, table: u32, hash: u64, entry: &Entry<'_, Object>, is_read: bool) -> u32 {
        match self.access_to(table, entry.key()) {
            Access::Lru | Access::ByClass => lru::clock_at(self.now.0),
            Access::Lfu { .. } => self.counted(entry.access()),
            Access::Policy => self.uses.touched(table, (hash, entry.key()), entry.access(), is_read),
        }
    }

    fn counted(&mut self, field: u32) -> u32 {
        let Access::Lfu { log_factor, decay_minutes } = self.access_of_rest() else { return field };
        let (minute, random) = (lru::minute_at(self.now.0), self.random());
        Lfu::from_bits(field).touched(minute, decay_minutes, log_factor, random).to_bits()
    }
}
