//! Leases, and what is known of the keys that were set under one: beside the keyspace, for those keys only.
//!
//! A lease lets one client at a time load a key that is missing or old (Nishtala et al., *Scaling Memcache at Facebook*, NSDI
//! 2013, section 3.2.1). It ends with whatever changes the key: a client's write, a removal, an invalidation; not with the end of
//! an old value's time. A *mark* says until when a value is fresh, how long after that it may still be given, and which tags it has. A
//! key keeps its mark as long as it would keep its end: through APPEND and EXPIRE, not through SET or DEL.
//!
//! Changes come in through [`crate::Effects`], as those for WATCH do, and cost one load while there is nothing in here.
//! Invariants: what is said of a key here is said and asked while its shard is locked; the locks in here are the last to be
//! taken, and what there is is bounded. A *space* is what a database's number stands for: SWAPDB exchanges two of them.

use crate::effects::Event;
use crate::keyspace::DbIndex;
use crate::local::Millis;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Parts of a space, each with a lock.
pub(crate) const PARTS: usize = 64;
/// Counters of a space by which a change of a key that nothing is known of is told without a lock.
const COUNTERS: usize = 4096;
/// Leases that may be out at once.
const LEASES_MAX: usize = 65_536;
/// Bytes of keys that leases may be out for.
const LEASE_BYTES_MAX: usize = 64 << 20;
/// Tags that one key may have.
pub const TAGS_MAX: usize = 16;
/// Bytes of a tag.
pub const TAG_BYTES_MAX: usize = 255;

/// Leases and marks of all databases.
#[derive(Debug)]
pub struct Leases {
    spaces: Box<[OnceLock<Space>]>,
    /// Which space each database is.
    space_of: Box<[AtomicU32]>,
    out: AtomicUsize,
    out_bytes: AtomicUsize,
    marks: AtomicUsize,
    /// What was counted since the start.
    pub counts: LeaseCounts,
}

/// What became of leases.
#[derive(Debug, Default)]
pub struct LeaseCounts {
    /// Leases that were given.
    pub given: AtomicU64,
    /// Values that were set under one.
    pub won: AtomicU64,
    /// Values that were refused.
    pub lost: AtomicU64,
    /// Times a client was told to wait for another.
    pub waited: AtomicU64,
    /// Old values given.
    pub stale: AtomicU64,
}

impl LeaseCounts {
    /// Counts from zero again.
    pub fn reset(&self) {
        let counts = [&self.given, &self.won, &self.lost, &self.waited, &self.stale];
        counts.iter().for_each(|count| count.store(0, Relaxed));
    }
}

#[derive(Debug)]
struct Space {
    counters: Box<[AtomicU32]>,
    parts: Box<[Mutex<LeasePart>]>,
}

/// One part of a space.
#[derive(Debug, Default)]
pub(crate) struct LeasePart {
    leases: HashMap<Box<[u8]>, Lease>,
    marks: HashMap<Box<[u8]>, Mark>,
    /// No lease is over before that; where there is none, whatever it says.
    first_end: Millis,
}

#[derive(Debug)]
struct Lease {
    token: u64,
    until: Millis,
    /// The invalidation up to which this lease is known to stand.
    stands_at: u64,
}

/// What is known of a value beside itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Until when it is fresh; `None` for as long as it is there.
    pub fresh_until: Option<Millis>,
    /// How long after that it may be given.
    pub stale_ms: u64,
    /// Its tags, each behind its length.
    tags: Box<[u8]>,
}

impl Mark {
    /// A mark with these tags, of which there are few and none is long; see [`TAGS_MAX`], [`TAG_BYTES_MAX`].
    pub fn new<'t>(
        fresh_until: Option<Millis>,
        stale_ms: u64,
        tags: impl IntoIterator<Item = &'t [u8]>,
    ) -> Mark {
        let mut packed = Vec::new();
        for tag in tags.into_iter().take(TAGS_MAX) {
            if let Ok(len) = u8::try_from(tag.len()) {
                packed.push(len);
                packed.extend_from_slice(tag);
            }
        }
        Mark { fresh_until, stale_ms, tags: packed.into() }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.stale_ms == 0 && self.tags.is_empty()
    }

    /// The tags.
    pub fn tags(&self) -> impl Iterator<Item = &[u8]> {
        let mut left = &self.tags[..];
        std::iter::from_fn(move || {
            let (len, rest) = left.split_first()?;
            let (tag, rest) = rest.split_at_checked(usize::from(*len))?;
            left = rest;
            Some(tag)
        })
    }
}

/// What came of asking for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leased {
    /// It is the caller's.
    Given,
    /// Somebody else has it.
    Taken,
    /// Too many are out.
    Full,
}

/// What is known of a lease, before it is known whether an invalidation ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) token: u64,
    pub(crate) stands_at: u64,
}

impl Leases {
    pub(crate) fn new(databases: u32) -> Self {
        Leases {
            spaces: (0..databases).map(|_| OnceLock::new()).collect(),
            space_of: (0..databases).map(AtomicU32::new).collect(),
            out: AtomicUsize::new(0),
            out_bytes: AtomicUsize::new(0),
            marks: AtomicUsize::new(0),
            counts: LeaseCounts::default(),
        }
    }

    /// Leases that are out (those whose time is over and that nobody has met yet included), and keys with marks.
    pub fn counts(&self) -> (usize, usize) {
        (self.out.load(Relaxed), self.marks.load(Relaxed))
    }

    /// Whether there is nothing in a database.
    pub(crate) fn is_empty(&self, db: DbIndex) -> bool {
        self.space(db).is_none()
    }

    /// Gives a key's lease to a caller, under this token, unless it is out.
    pub(crate) fn lease(
        &self,
        db: DbIndex,
        (key, hash): (&[u8], u64),
        (token, stands_at): (u64, u64),
        (now, until): (Millis, Millis),
    ) -> (Leased, usize) {
        let space = self.space_made(db);
        let mut part = lock(space.part(hash));
        let mut added = 0;
        part.first_end = if part.leases.is_empty() { until } else { part.first_end.min(until) };
        if let Some(lease) = part.leases.get_mut(key) {
            if lease.until > now {
                return (Leased::Taken, 0);
            }
            *lease = Lease { token, until, stands_at };
        } else {
            let bytes = self.out_bytes.load(Relaxed).saturating_add(key.len());
            if self.out.load(Relaxed) >= LEASES_MAX || bytes > LEASE_BYTES_MAX {
                return (Leased::Full, 0);
            }
            part.leases.insert(key.into(), Lease { token, until, stands_at });
            self.out.fetch_add(1, Relaxed);
            self.out_bytes.fetch_add(key.len(), Relaxed);
            space.counter(hash).fetch_add(1, Relaxed);
            added = 1;
        }
        self.counts.given.fetch_add(1, Relaxed);
        (Leased::Given, added)
    }

    /// The lease of a key, if one is out.
    pub(crate) fn standing(&self, db: DbIndex, key: &[u8], hash: u64, now: Millis) -> Option<Standing> {
        let space = self.space(db)?;
        if space.counter(hash).load(Relaxed) == 0 {
            return None;
        }
        let part = lock(space.part(hash));
        let lease = part.leases.get(key).filter(|lease| lease.until > now)?;
        Some(Standing { token: lease.token, stands_at: lease.stands_at })
    }

    /// Ends the lease of a key. Answers how many entries less there are.
    pub(crate) fn end(&self, db: DbIndex, key: &[u8], hash: u64) -> usize {
        let Some(space) = self.space(db) else { return 0 };
        if space.counter(hash).load(Relaxed) == 0 {
            return 0;
        }
        let gone = lock(space.part(hash)).leases.remove(key).is_some();
        self.left(space, hash, (usize::from(gone), key.len()), 0)
    }

    /// Says what is known of a key's value. Answers by how many entries more there are.
    pub(crate) fn mark(&self, db: DbIndex, key: &[u8], hash: u64, mark: Mark) -> usize {
        let space = self.space_made(db);
        if lock(space.part(hash)).marks.insert(key.into(), mark).is_some() {
            return 0;
        }
        self.marks.fetch_add(1, Relaxed);
        space.counter(hash).fetch_add(1, Relaxed);
        1
    }

    /// Asks what is known of a key's value.
    pub(crate) fn with_mark<R>(
        &self,
        db: DbIndex,
        (key, hash): (&[u8], u64),
        ask: impl FnOnce(&mut Mark) -> R,
    ) -> Option<R> {
        let space = self.space(db)?;
        if space.counter(hash).load(Relaxed) == 0 {
            return None;
        }
        lock(space.part(hash)).marks.get_mut(key).map(ask)
    }

    /// Whether any key has tags or a time for which it may be given old.
    pub(crate) fn has_marks(&self) -> bool {
        self.marks.load(Relaxed) != 0
    }

    /// A change of a key, whose shard is locked. Answers how many entries less there are.
    pub(crate) fn change(&self, db: DbIndex, key: &[u8], hash: u64, event: Event) -> usize {
        let Some(space) = self.space(db) else { return 0 };
        if space.counter(hash).load(Relaxed) == 0 {
            return 0;
        }
        let mut part = lock(space.part(hash));
        let lease = ends_lease(event) && part.leases.remove(key).is_some();
        let mark = ends_mark(event) && part.marks.remove(key).is_some();
        drop(part);
        self.left(space, hash, (usize::from(lease), key.len()), usize::from(mark))
    }

    /// Takes out all of a database. The caller is exclusive. Answers how many entries that were, and what is still to be
    /// freed of them. O(leases).
    pub(crate) fn flush(&self, db: DbIndex) -> (usize, Vec<LeasePart>) {
        let Some(space) = self.space(db) else { return (0, Vec::new()) };
        let (mut sum, mut taken) = ((0, 0, 0), Vec::new());
        for part in &space.parts {
            let part = std::mem::take(&mut *lock(part));
            sum.0 += part.leases.len();
            sum.1 += part.leases.keys().map(|key| key.len()).sum::<usize>();
            sum.2 += part.marks.len();
            taken.push(part);
        }
        space.counters.iter().for_each(|counter| counter.store(0, Relaxed));
        self.out.fetch_sub(sum.0, Relaxed);
        self.out_bytes.fetch_sub(sum.1, Relaxed);
        self.marks.fetch_sub(sum.2, Relaxed);
        (sum.0 + sum.2, taken)
    }

    /// Exchanges two databases. The caller is exclusive.
    pub(crate) fn swap(&self, one: DbIndex, other: DbIndex) {
        let (one, other) = (&self.space_of[one.0 as usize], &self.space_of[other.0 as usize]);
        let space = one.load(Relaxed);
        one.store(other.load(Relaxed), Relaxed);
        other.store(space, Relaxed);
    }

    /// Takes out the leases of one part of a database of which `ends` says so, given the invalidation up to which each stood; the
    /// others stand up to `newest`. Answers how many entries less there are. O(leases of the part).
    pub(crate) fn settle_part(
        &self,
        db: DbIndex,
        part: usize,
        newest: u64,
        hash: impl Fn(&[u8]) -> u64,
        mut ends: impl FnMut(&[u8], u64, &LeasePart) -> bool,
    ) -> usize {
        let Some(space) = self.space(db) else { return 0 };
        let Some(part) = space.parts.get(part) else { return 0 };
        let mut part = lock(part);
        let mut over: Vec<Box<[u8]>> = Vec::new();
        for (key, lease) in &part.leases {
            if lease.stands_at < newest && ends(key, lease.stands_at, &part) {
                over.push(key.clone());
            }
        }
        for lease in part.leases.values_mut() {
            lease.stands_at = lease.stands_at.max(newest);
        }
        for key in &over {
            part.leases.remove(key);
        }
        drop(part);
        over.iter().map(|key| self.left(space, hash(key), (1, key.len()), 0)).sum()
    }

    /// Forgets leases whose time is over, in some part of each database. Answers their databases and keys.
    pub(crate) fn forget_over(
        &self,
        part: usize,
        now: Millis,
        hash: impl Fn(&[u8]) -> u64,
    ) -> Vec<(DbIndex, Box<[u8]>)> {
        let mut over: Vec<(DbIndex, Box<[u8]>)> = Vec::new();
        for (db, space_of) in (0..).zip(&self.space_of) {
            let space = self.spaces.get(space_of.load(Relaxed) as usize).and_then(OnceLock::get);
            let Some(space) = space else { continue };
            let mut part = lock(&space.parts[part % PARTS]);
            if part.leases.is_empty() || part.first_end > now {
                continue;
            }
            let before = over.len();
            part.leases.retain(|key, lease| {
                if lease.until <= now {
                    over.push((DbIndex(db), key.clone()));
                }
                lease.until > now
            });
            part.first_end = part.leases.values().map(|lease| lease.until).min().unwrap_or_default();
            drop(part);
            over[before..].iter().for_each(|(_, key)| _ = self.left(space, hash(key), (1, key.len()), 0));
        }
        over
    }

    fn left(&self, space: &Space, hash: u64, (leases, bytes): (usize, usize), marks: usize) -> usize {
        if leases + marks != 0 {
            self.out.fetch_sub(leases, Relaxed);
            self.out_bytes.fetch_sub(leases * bytes, Relaxed);
            self.marks.fetch_sub(marks, Relaxed);
            space.counter(hash).fetch_sub((leases + marks) as u32, Relaxed);
        }
        leases + marks
    }

    fn space(&self, db: DbIndex) -> Option<&Space> {
        self.spaces.get(self.space_of.get(db.0 as usize)?.load(Relaxed) as usize)?.get()
    }

    fn space_made(&self, db: DbIndex) -> &Space {
        let space = self.space_of[db.0 as usize].load(Relaxed) as usize;
        self.spaces[space].get_or_init(|| Space {
            counters: (0..COUNTERS).map(|_| AtomicU32::new(0)).collect(),
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
        })
    }
}

impl LeasePart {
    /// What is known of a key's value.
    pub(crate) fn mark(&self, key: &[u8]) -> Option<&Mark> {
        self.marks.get(key)
    }
}

impl Space {
    fn counter(&self, hash: u64) -> &AtomicU32 {
        &self.counters[(hash >> 32) as usize % COUNTERS]
    }

    fn part(&self, hash: u64) -> &Mutex<LeasePart> {
        &self.parts[hash as usize % PARTS]
    }
}

/// Whether an event is a change that a load does not survive. That an old value's time is over, or that it had to make room, changes
/// nothing in what it is a copy of; that a key came into being is told beside the change itself.
fn ends_lease(event: Event) -> bool {
    ![Event::EXPIRED, Event::EVICTED, Event::NEW, Event::MISS].contains(&event)
}

/// Whether an event takes away what a key has beside its value: as it would its end.
fn ends_mark(event: Event) -> bool {
    ![
        Event::EXPIRE,
        Event::PERSIST,
        Event::APPEND,
        Event::SETRANGE,
        Event::SETBIT,
        Event::INCRBY,
        Event::INCRBYFLOAT,
        Event::PFADD,
        Event::TOUCHED,
        Event::NEW,
        Event::MISS,
    ]
    .contains(&event)
}

/// A panic under one of these locks leaves an entry too many or too few, which costs a load.
fn lock(part: &Mutex<LeasePart>) -> MutexGuard<'_, LeasePart> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DB: DbIndex = DbIndex(0);
    const LONG: (Millis, Millis) = (Millis(0), Millis(1000));

    #[test]
    fn one_caller_has_the_lease_until_it_is_over_or_the_key_changes() {
        let leases = Leases::new(2);
        assert_eq!(leases.lease(DB, (b"k", 7), (1, 0), LONG), (Leased::Given, 1));
        assert_eq!(leases.lease(DB, (b"k", 7), (2, 0), (Millis(999), Millis(2000))), (Leased::Taken, 0));
        assert_eq!(leases.lease(DbIndex(1), (b"k", 7), (3, 0), LONG), (Leased::Given, 1));
        assert_eq!(leases.standing(DB, b"k", 7, Millis(999)).map(|lease| lease.token), Some(1));
        assert_eq!(leases.standing(DB, b"k", 7, Millis(1000)), None);
        for harmless in [Event::EXPIRED, Event::EVICTED, Event::NEW] {
            assert_eq!(leases.change(DB, b"k", 7, harmless), 0);
        }
        assert_eq!(leases.change(DB, b"k", 7, Event::SET), 1);
        assert_eq!(leases.standing(DB, b"k", 7, Millis(1)), None);
        assert_eq!(leases.lease(DB, (b"k", 7), (4, 0), LONG), (Leased::Given, 1));
        assert_eq!(leases.forget_over(7, Millis(999), |_| 7), []);
        assert_eq!(leases.forget_over(7, Millis(1000), |_| 7).len(), 2);
        assert_eq!(leases.counts(), (0, 0));
    }

    #[test]
    fn leases_are_bounded() {
        let leases = Leases::new(1);
        for number in 0..LEASES_MAX as u64 {
            assert_eq!(leases.lease(DB, (&number.to_le_bytes(), number), (1, 0), LONG).0, Leased::Given);
        }
        assert_eq!(leases.lease(DB, (b"one more", 1), (1, 0), LONG).0, Leased::Full);
        // One that is out already is none more.
        let over = (Millis(1000), Millis(2000));
        assert_eq!(leases.lease(DB, (&7u64.to_le_bytes(), 7), (2, 0), over), (Leased::Given, 0));
        assert_eq!(leases.flush(DB).0, LEASES_MAX);
        let huge = vec![0; LEASE_BYTES_MAX + 1];
        assert_eq!(leases.lease(DB, (&huge, 1), (1, 0), LONG).0, Leased::Full);
        assert_eq!(leases.lease(DB, (&huge[1..], 1), (1, 0), LONG).0, Leased::Given);
    }

    #[test]
    fn a_mark_goes_as_an_end_would_and_follows_its_space() {
        let leases = Leases::new(2);
        let mark = Mark::new(None, 5, [&b"tenant:1"[..], b"", b"all"]);
        assert_eq!(mark.tags().collect::<Vec<_>>(), [&b"tenant:1"[..], b"", b"all"]);
        assert_eq!(leases.mark(DB, b"k", 7, mark.clone()), 1);
        assert_eq!(leases.mark(DB, b"k", 7, mark), 0);
        for harmless in [Event::APPEND, Event::EXPIRE, Event::PERSIST, Event::INCRBY] {
            assert_eq!(leases.change(DB, b"k", 7, harmless), 0);
        }
        leases.swap(DB, DbIndex(1));
        assert_eq!(leases.with_mark(DB, (b"k", 7), |mark| mark.stale_ms), None);
        assert_eq!(leases.with_mark(DbIndex(1), (b"k", 7), |mark| mark.stale_ms), Some(5));
        assert_eq!(leases.change(DbIndex(1), b"k", 7, Event::EXPIRED), 1);
        assert_eq!((leases.counts(), leases.has_marks()), ((0, 0), false));
    }

    #[test]
    fn what_an_invalidation_concerns_loses_its_lease_and_the_rest_stands() {
        let leases = Leases::new(1);
        for key in [b"a1", b"a2", b"b1"] {
            leases.lease(DB, (key, 7), (1, 3), LONG);
        }
        let ended = leases.settle_part(DB, 7, 4, |_| 7, |key, at, _| at < 4 && key.starts_with(b"a"));
        assert_eq!((ended, leases.counts().0), (2, 1));
        assert_eq!(leases.standing(DB, b"b1", 7, Millis(1)).map(|lease| lease.stands_at), Some(4));
        assert_eq!(leases.settle_part(DB, 7, 4, |_| 7, |_, _, _| true), 0);
    }
}
