//! The table: shards, arenas, retired blocks, and what concerns all of them.
//!
//! Invariant: shard i holds the hashes whose top bits are i, so shard order is hash order; shard i allocates from
//! arena i / (shards / arenas), and its segments from the first arena of a group. Locks are taken shard first, arena second; several shards in ascending order.
//! Read next: `shard.rs`.

use crate::arena::{Arena, Mapped, Use};
use crate::bucket::{Bucket, Pattern, bits};
use crate::detach::Detached;
use crate::directory::{Root, tag_of};
use crate::entry::Entry;
use crate::epoch::{Epochs, Participant};
use crate::hash::Hasher;
use crate::lock::Owner;
use crate::segment::SegmentRef;
use crate::shard::{Core, Shard, ShardHeader};
use parking_lot::Mutex;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// Most shards a table can have, as bits of the hash.
pub const SHARD_BITS_MAX: u8 = 16;
/// Keys whose memory [`Table::prefetch_all`] asks for at a time.
pub const WINDOW_MAX: usize = 64;
/// Arenas of a table, as bits of the hash; fewer when there are fewer shards.
const ARENA_BITS: u32 = 5;
/// Arenas of which the first holds the index blocks of all, as a shift: segments come in many sizes, and each size has a
/// partly filled span in each arena that holds any.
const GROUP_BITS: u32 = 2;
/// Retired blocks a group lets gather before it looks which can go.
const RETIRED_BATCH: usize = 4;
/// What one SCAN step may skip: empty shards cost 1, empty buckets 4.
const SCAN_SKIPS: usize = 256;
/// SCAN cursors are this many top bits of a hash.
const CURSOR_BITS: u32 = 48;

/// How to build a table.
#[derive(Clone, Debug)]
pub struct TableConfig {
    /// The table has two to this power shards; at most [`SHARD_BITS_MAX`]. 10 suits a server, 0 to 4 tests.
    pub shard_bits: u8,
    /// The hash function.
    pub hasher: Hasher,
    /// Only one thread, the first that does, will ever lock a shard: locking costs next to nothing then. Another
    /// one that does so nevertheless panics.
    pub one_thread: bool,
}

/// What a table takes, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableMemory {
    /// Live entries, each rounded to its size class.
    pub entries: usize,
    /// Segments, directories, deadline codes, and replaced ones not yet freed.
    pub index: usize,
    /// Of the two above, what is too large for the arenas and lives in the global allocator.
    pub outside: usize,
    /// Spans in use, full or not.
    pub spans: usize,
    /// Address space mapped for spans; the untouched part of it takes no memory.
    pub mapped: usize,
    /// Shard headers, arenas and chunk records.
    pub fixed: usize,
    /// Entries, index and fixed: what the table has allocated for its contents.
    pub all: usize,
}

/// A block that left the structure but may still be read by prefetchers.
pub(crate) struct Retired {
    pub(crate) block: NonNull<u8>,
    pub(crate) bytes: usize,
    pub(crate) stamp: u64,
}

// SAFETY: a retired block belongs to whoever holds this record.
unsafe impl Send for Retired {}

/// The table without the payload's type.
pub(crate) struct Inner {
    pub(crate) shards: Mapped<ShardHeader>,
    pub(crate) arenas: Mapped<Arena>,
    pub(crate) retired: Box<[Mutex<Vec<Retired>>]>,
    pub(crate) owner: Owner,
    pub(crate) hasher: Hasher,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) shard_bits: u32,
    /// Shards per arena, as a shift.
    pub(crate) arena_shift: u32,
    /// Arenas per group, as a shift. A group's shards keep their segments in its first arena.
    pub(crate) group_shift: u32,
    pub(crate) boxed_bytes: usize,
}

impl Inner {
    fn new(config: TableConfig, epochs: Arc<Epochs>, boxed_bytes: usize) -> Self {
        assert!(config.shard_bits <= SHARD_BITS_MAX, "too many shards");
        let shard_bits = u32::from(config.shard_bits);
        let arena_bits = shard_bits.min(ARENA_BITS);
        let group_shift = arena_bits.min(GROUP_BITS);
        Self {
            shards: Mapped::new(1 << shard_bits),
            arenas: Mapped::new(1 << arena_bits),
            retired: (0..1 << (arena_bits - group_shift)).map(|_| Mutex::new(Vec::new())).collect(),
            owner: Owner::new(config.one_thread),
            hasher: config.hasher,
            epochs,
            shard_bits,
            arena_shift: shard_bits - arena_bits,
            group_shift,
            boxed_bytes,
        }
    }

    #[inline]
    pub(crate) fn shard_of(&self, hash: u64) -> usize {
        // In two steps, since a shift by 64 is none.
        (hash >> 1 >> (u64::BITS - 1 - self.shard_bits)) as usize
    }

    /// The lowest hash of a shard.
    #[inline]
    pub(crate) fn start_of(&self, shard: usize) -> u64 {
        (shard as u64).checked_shl(u64::BITS - self.shard_bits).unwrap_or(0)
    }

    #[inline]
    pub(crate) fn arena(&self, shard: usize) -> &Arena {
        &self.arenas[shard >> self.arena_shift]
    }

    #[inline]
    pub(crate) fn group_of(&self, shard: usize) -> usize {
        shard >> (self.arena_shift + self.group_shift)
    }

    /// The shards of a group.
    pub(crate) fn shards_of(&self, group: usize) -> Range<usize> {
        let shift = self.arena_shift + self.group_shift;
        group << shift..(group + 1) << shift
    }

    /// The arenas of a group; the first holds its index blocks.
    pub(crate) fn arenas_of(&self, group: usize) -> &[Arena] {
        &self.arenas[group << self.group_shift..(group + 1) << self.group_shift]
    }

    /// Frees a block that was just unlinked, once no participant can be reading it.
    pub(crate) fn retire(&self, shard: usize, block: NonNull<u8>, bytes: usize) {
        let group = self.group_of(shard);
        let mut retired = self.retired[group].lock();
        retired.push(Retired { block, bytes, stamp: self.epochs.stamp() });
        if retired.len() >= RETIRED_BATCH {
            self.reclaim(group, &mut retired);
        }
    }

    /// Frees the retired blocks nobody can be reading any more.
    pub(crate) fn reclaim(&self, group: usize, retired: &mut Vec<Retired>) {
        let horizon = self.epochs.horizon();
        let arena = &self.arenas[group << self.group_shift];
        retired.retain(|block| {
            if block.stamp < horizon {
                // SAFETY: the block was allocated from this arena with this size and is unlinked; everybody who could
                // have found it has ended that turn.
                unsafe { arena.free(block.block, block.bytes, Use::Lines) };
            }
            block.stamp >= horizon
        });
    }

    /// The word for a hash, read without the lock.
    ///
    /// # Safety
    /// The calling thread is an entered participant of this table's epochs, and uses the word before it leaves.
    #[inline(always)]
    unsafe fn glimpse(&self, hash: u64) -> SegmentRef {
        // Acquire: pairs with the Release in `set_root`: the block's words are there.
        let root = self.shards[self.shard_of(hash)].root.load(Acquire);
        // SAFETY: the root was read while entered, so its directory is not freed before the participant leaves.
        unsafe { Root::read(root).find(hash, self.shard_bits) }
    }
}

/// A concurrent hash table from byte strings to inline bytes or values of type `B`, ordered by hash.
pub struct Table<B: Send + Sync + 'static> {
    pub(crate) inner: Inner,
    payloads: PhantomData<B>,
}

impl<B: Send + Sync + 'static> Table<B> {
    /// An empty table: its memory is mapped but not touched.
    ///
    /// # Panics
    /// When `config.shard_bits` is above [`SHARD_BITS_MAX`].
    #[must_use]
    pub fn new(config: TableConfig, epochs: Arc<Epochs>) -> Self {
        const { assert!(size_of::<B>() <= 16 && align_of::<B>() <= 8, "a boxed payload is a pointer or two") };
        Self { inner: Inner::new(config, epochs, size_of::<B>()), payloads: PhantomData }
    }

    /// The hash of a key.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.inner.hasher.hash(key)
    }

    /// Number of shards.
    #[inline]
    #[must_use]
    pub fn shards(&self) -> usize {
        self.inner.shards.len()
    }

    /// The shard a hash belongs to.
    #[inline]
    #[must_use]
    pub fn shard_of(&self, hash: u64) -> usize {
        self.inner.shard_of(hash)
    }

    /// Locks a shard, owed or not; spins briefly, then sleeps. Whoever locks several does so in ascending order.
    ///
    /// # Panics
    /// When there is no such shard.
    #[inline]
    #[must_use]
    pub fn lock(&self, shard: usize) -> Shard<'_, B> {
        let header = &self.inner.shards[shard];
        let was_owed = header.lock(&self.inner.owner);
        // SAFETY: locked just now, by this thread.
        let mut core = unsafe { Core::held(&self.inner, header, shard) };
        core.set_owed(was_owed.0);
        Shard::new(core)
    }

    /// Locks a shard unless somebody else holds it, also where it is owed; it stays so until [`Shard::set_owed`].
    ///
    /// # Panics
    /// When there is no such shard.
    #[must_use]
    pub fn try_lock_owed(&self, shard: usize) -> Option<Shard<'_, B>> {
        let header = &self.inner.shards[shard];
        let was_owed = header.try_lock_owed(&self.inner.owner)?;
        // SAFETY: locked just now, by this thread.
        let mut core = unsafe { Core::held(&self.inner, header, shard) };
        core.set_owed(was_owed.0);
        Some(Shard::new(core))
    }

    /// Locks a shard unless somebody else holds it or it is owed.
    ///
    /// # Panics
    /// When there is no such shard.
    #[inline]
    #[must_use]
    pub fn try_lock(&self, shard: usize) -> Option<Shard<'_, B>> {
        let header = &self.inner.shards[shard];
        // SAFETY: locked just now, by this thread.
        header
            .try_lock(&self.inner.owner)
            .then(|| Shard::new(unsafe { Core::held(&self.inner, header, shard) }))
    }

    /// First step of prefetching a key: its shard's header.
    #[inline]
    pub fn prefetch_shard(&self, hash: u64) {
        crate::prefetch(&raw const self.inner.shards[self.inner.shard_of(hash)]);
    }

    /// The beginning of the second step alone, for keys whose turn is later: their home buckets. Reads without locks, as the
    /// second step does.
    #[inline]
    pub fn prefetch_homes<'t>(participant: &Participant, keys: impl Iterator<Item = (&'t Self, u64)>) {
        for (table, hash) in keys {
            if !participant.may_read(&table.inner.epochs) {
                return;
            }
            // SAFETY: checked above; the word is not used behind this.
            let word = unsafe { table.inner.glimpse(hash) };
            if !word.is_vacant() {
                crate::prefetch(word.bucket(word.home(tag_of(hash, table.inner.shard_bits + word.depth()))));
            }
        }
    }

    /// Second step for several keys, by their hashes: first all their home buckets; then their entries, as far as the
    /// buckets' tags tell which they are; then what the buckets after the homes hold, for those that are not at home.
    /// A line asked for in vain delays the next: a core waits for a dozen or so at a time. Takes the first [`WINDOW_MAX`]
    /// keys. Reads without locks, which only an entered participant of the tables' epochs may do; for
    /// others it does nothing.
    #[inline]
    pub fn prefetch_all<'t>(participant: &Participant, keys: impl Iterator<Item = (&'t Self, u64)>) {
        const NOTHING: (SegmentRef, u64) = (SegmentRef::vacant(0), 0);
        let mut glimpses = [NOTHING; WINDOW_MAX];
        let mut count = 0;
        let turn = participant.turn();
        for ((table, hash), glimpse) in keys.zip(&mut glimpses) {
            if !participant.may_read(&table.inner.epochs) {
                return;
            }
            // SAFETY: checked above; that the turn goes on is checked before the word is used again.
            let word = unsafe { table.inner.glimpse(hash) };
            // Its lock is taken soon. Not in the first step: until a window's turn comes another thread may have had it.
            crate::prefetch_to_write(&raw const table.inner.shards[table.inner.shard_of(hash)]);
            if !word.is_vacant() {
                let tag = tag_of(hash, table.inner.shard_bits + word.depth());
                let home = word.home(tag);
                crate::prefetch(word.bucket(home));
                *glimpse = (word, tag);
            }
            count += 1;
        }
        if participant.turn() != turn {
            return;
        }
        let mut away = [0u8; WINDOW_MAX];
        let mut away_count = 0;
        for (at, (word, tag)) in glimpses[..count].iter().enumerate() {
            if word.is_vacant() {
                continue;
            }
            let home = word.home(*tag);
            // SAFETY: the segment was found in this turn of the participant, so it is not freed before the turn ends.
            if !unsafe { prefetch_matches(word.bucket(home), Pattern::new(*tag, false)) } {
                crate::prefetch(word.bucket(word.after(home)));
                away[away_count] = at as u8;
                away_count += 1;
            }
        }
        for at in &away[..away_count] {
            let (word, tag) = glimpses[usize::from(*at)];
            // SAFETY: as above.
            unsafe { prefetch_matches(word.bucket(word.after(word.home(tag))), Pattern::new(tag, true)) };
        }
    }

    /// Entries; exact when nobody writes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.shards.iter().map(|shard| shard.len.load(Relaxed) as usize).sum()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.shards.iter().all(|shard| shard.len.load(Relaxed) == 0)
    }

    /// Entries with a deadline; exact when nobody writes.
    #[must_use]
    pub fn len_with_deadline(&self) -> usize {
        self.inner.shards.iter().map(|shard| shard.timed.load(Relaxed) as usize).sum()
    }

    /// Entries of a shard, read without its lock.
    #[inline]
    #[must_use]
    pub fn shard_len(&self, shard: usize) -> usize {
        self.inner.shards[shard].len.load(Relaxed) as usize
    }

    /// Entries of a shard with a deadline, read without its lock.
    #[inline]
    #[must_use]
    pub fn shard_len_with_deadline(&self, shard: usize) -> usize {
        self.inner.shards[shard].timed.load(Relaxed) as usize
    }

    /// A time, Unix ms, not above any deadline in the shard, read without its lock; `u64::MAX` when there is none.
    #[inline]
    #[must_use]
    pub fn next_due(&self, shard: usize) -> u64 {
        self.inner.shards[shard].due()
    }

    /// What the table takes. O(arenas); exact when nobody writes.
    #[must_use]
    pub fn memory(&self) -> TableMemory {
        let mut memory = TableMemory {
            fixed: self.inner.shards.bytes() + self.inner.arenas.bytes(),
            ..Default::default()
        };
        for arena in self.inner.arenas.iter() {
            let stats = arena.stats();
            memory.entries += stats.entries.load(Relaxed);
            memory.index += stats.index.load(Relaxed);
            memory.outside += stats.outside.load(Relaxed);
            memory.spans += stats.spans.load(Relaxed);
            memory.mapped += stats.mapped.load(Relaxed);
            memory.fixed += arena.record_bytes();
        }
        memory.all = memory.entries + memory.index + memory.fixed;
        memory
    }

    /// Bytes of live entries and index. O(arenas), cheap enough to ask before each write.
    #[inline]
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        let live = |arena: &Arena| {
            arena.stats().entries.load(Relaxed).wrapping_add(arena.stats().index.load(Relaxed))
        };
        self.inner.arenas.iter().map(live).sum()
    }

    /// Bytes of live entries and index that lie in the arenas, not in the global allocator. O(arenas).
    #[inline]
    #[must_use]
    pub fn arena_bytes(&self) -> usize {
        let inside = |arena: &Arena| {
            let stats = arena.stats();
            let live = stats.entries.load(Relaxed).wrapping_add(stats.index.load(Relaxed));
            live.saturating_sub(stats.outside.load(Relaxed))
        };
        self.inner.arenas.iter().map(inside).sum()
    }

    /// One step of an iteration over all entries: visits those at home in the next bucket that has any, and returns the
    /// next cursor, 0 when done. Start with 0. Cursors are below 2^48.
    /// An entry that is there during the whole iteration is visited at least once, whatever grows, splits or shrinks
    /// meanwhile. `visit` runs under the shard's lock and must not lock a shard of this table. A step skips a bounded
    /// stretch of empty space, so it may visit nothing and yet not be done.
    pub fn scan(&self, cursor: u64, visit: &mut dyn FnMut(&Entry<'_, B>)) -> u64 {
        let end = 1u64 << CURSOR_BITS;
        let mut position = cursor & (end - 1);
        let mut skipped = 0;
        loop {
            let hash = position << (u64::BITS - CURSOR_BITS);
            let shard = self.shard_of(hash);
            // Acquire: whoever inserted an entry before this iteration began is seen.
            let (count, next) = if self.inner.shards[shard].root.load(Acquire) == 0 {
                skipped += 1;
                (0, (shard as u64 + 1) << (CURSOR_BITS - self.inner.shard_bits))
            } else {
                skipped += 4;
                self.lock(shard).scan_bucket(hash, visit)
            };
            if next >= end {
                return 0;
            }
            position = next;
            if count > 0 || skipped >= SCAN_SKIPS {
                return position;
            }
        }
    }

    /// Takes all contents out, leaving the table empty. O(shards). The caller keeps others out meanwhile, or accepts that
    /// what they insert may or may not be taken. Must not be called while the thread holds a shard.
    #[must_use]
    pub fn detach_all(&self) -> Detached<B> {
        Detached::take(&self.inner)
    }

    /// Gives memory that serves nothing back to the system: free spans and empty chunks. Returns how many bytes.
    pub fn release_unused(&self) -> usize {
        self.inner.epochs.collect();
        for (group, retired) in self.inner.retired.iter().enumerate() {
            self.inner.reclaim(group, &mut retired.lock());
        }
        self.inner.arenas.iter().map(Arena::release_unused).sum()
    }

    /// Checks all invariants of all shards and the accounting. For tests and audits, when nobody writes.
    ///
    /// # Panics
    /// When one is broken.
    pub fn check(&self) {
        crate::audit::check(self);
    }
}

impl<B: Send + Sync + 'static> Drop for Table<B> {
    fn drop(&mut self) {
        self.inner.owner.give_up();
        drop(self.detach_all());
    }
}

/// Prefetches the entries whose slots match; whether there was one.
///
/// # Safety
/// The bucket is not freed meanwhile. Its slots may be written.
#[inline]
pub(crate) unsafe fn prefetch_matches(bucket: *const Bucket, pattern: Pattern) -> bool {
    // SAFETY: the caller's promise; the slots are read as atomics.
    let bucket = unsafe { &*bucket };
    let mut any = false;
    for at in bits(bucket.glimpse(pattern)) {
        let slot = bucket.get(at);
        if !slot.is_empty() {
            // The entry may be gone: its address is only prefetched, never read.
            let entry = slot.entry().as_ptr();
            crate::prefetch(entry);
            crate::prefetch(entry.wrapping_add(64));
            any = true;
        }
    }
    any
}
