//! `maxmemory-rss`: the limit held against resident memory, so that a container is not killed below its limit.
//!
//! What is resident beyond what is in use is taken for an overhead and subtracted from the limit, so that memory in use may grow
//! by what is left and no further. Since writing values of other sizes makes memory resident though no more is in use, what is
//! aimed at is a sixteenth below the limit. Close to that memory is moved together and given back, before any key has to leave.
//! Above it keys leave; but evicting does not make memory non-resident at once, for what leaves are single entries of
//! spans that others still lie in. So the overhead is looked at again only when resident memory has grown, or has not fallen
//! for [`PATIENCE_MS`]: meanwhile memory is given back, and only what that does not yield is evicted for.
//! Invariant: resident memory is read at most once in [`READ_EVERY_MS`], whoever asks.

use crate::memory_report::resident;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Resident memory is read at most so often, milliseconds.
const READ_EVERY_MS: u64 = 10;
/// How long resident memory may stay as it is before more is evicted, milliseconds.
const PATIENCE_MS: u64 = 1000;
/// A change that is noticed, bytes.
const NOTICED: usize = 256 << 10;
/// The part of the limit that is left free, as a divisor.
const FREE_PART: usize = 16;
/// The part of it from which on memory is given back.
const CLOSE_PART: usize = 8;

/// How resident memory stands to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is room, or no limit.
    None,
    /// It will be reached soon.
    Close,
    /// It is reached.
    Over,
}

/// What is known of resident memory.
#[derive(Debug, Default)]
pub struct Resident {
    read_ms: AtomicU64,
    /// What was resident then.
    bytes: AtomicUsize,
    /// Resident beyond what was in use, as of `since_ms`, when `noted` bytes were resident.
    overhead: AtomicUsize,
    noted: AtomicUsize,
    since_ms: AtomicU64,
}

impl Resident {
    /// How resident memory stood to its limit when it was read last.
    pub fn pressure(&self, limit: usize) -> Pressure {
        match self.bytes.load(Relaxed) {
            bytes if bytes > aim(limit) => Pressure::Over,
            bytes if bytes > limit - limit / CLOSE_PART => Pressure::Close,
            _ => Pressure::None,
        }
    }

    /// The limit for memory in use, of which there are `used` bytes, that keeps resident memory below `limit`.
    pub fn limit(&self, limit: usize, used: usize, now_ms: u64) -> usize {
        if now_ms.saturating_sub(self.read_ms.load(Relaxed)) >= READ_EVERY_MS {
            self.read_ms.store(now_ms, Relaxed);
            self.note(aim(limit), used, resident().0, now_ms);
        }
        aim(limit).saturating_sub(self.overhead.load(Relaxed))
    }

    /// The option was switched on or off.
    pub fn forget(&self) {
        self.bytes.store(0, Relaxed);
        self.overhead.store(0, Relaxed);
    }

    fn note(&self, aim: usize, used: usize, resident: usize, now_ms: u64) {
        let before = self.bytes.swap(resident, Relaxed);
        let noted = self.noted.load(Relaxed);
        let has_grown = resident > noted + NOTICED;
        let has_fallen = resident + NOTICED < noted;
        let has_waited = now_ms.saturating_sub(self.since_ms.load(Relaxed)) >= PATIENCE_MS;
        if resident <= aim || before <= aim || has_grown || has_waited && !has_fallen {
            self.overhead.store(resident.saturating_sub(used), Relaxed);
        } else if !has_fallen {
            return;
        }
        self.noted.store(resident, Relaxed);
        self.since_ms.store(now_ms, Relaxed);
    }
}

/// How much may be resident in the long run.
fn aim(limit: usize) -> usize {
    limit - limit / FREE_PART
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1 << 20;

    /// The overhead after so many megabytes were in use and resident.
    fn note(it: &Resident, used: usize, resident: usize, now_ms: u64) -> usize {
        it.note(1000 * MB, used * MB, resident * MB, now_ms);
        it.overhead.load(Relaxed) / MB
    }

    #[test]
    fn eviction_waits_for_memory_that_is_being_given_back() {
        let it = Resident::default();
        assert_eq!(note(&it, 700, 900, 5), 200);
        assert_eq!(it.pressure(1100 * MB), Pressure::None);
        assert_eq!(it.pressure(1020 * MB), Pressure::Close);
        assert_eq!(note(&it, 700, 950, 10), 250);
        assert_eq!(it.pressure(1020 * MB), Pressure::Close);
        assert_eq!(it.pressure(1000 * MB), Pressure::Over);
        assert_eq!(note(&it, 800, 1100, 20), 300);
        assert_eq!(it.pressure(1000 * MB), Pressure::Over);
        // A hundred left, and nothing is less resident: that is no reason to evict more, yet.
        assert_eq!(note(&it, 700, 1100, 40), 300);
        assert_eq!(note(&it, 700, 1110, 60), 410);
        assert_eq!(note(&it, 600, 1110, 60 + PATIENCE_MS), 510);
        // As long as resident memory falls there is no hurry.
        for step in 1..=10 {
            assert_eq!(note(&it, 500, 1110 - 5 * step, 60 + (1 + step as u64) * PATIENCE_MS - 1), 510);
        }
        assert_eq!(note(&it, 500, 1060, 60 + 12 * PATIENCE_MS), 560);
        assert_eq!(note(&it, 600, 650, 20_000), 50);
        assert_eq!(it.pressure(1000 * MB), Pressure::None);
    }

    #[test]
    fn what_is_resident_leaves_so_much_less_for_use() {
        let it = Resident::default();
        let limit = it.limit(1 << 40, 0, 100);
        assert!(limit < aim(1 << 40), "this process is resident");
        assert_eq!(it.limit(1 << 40, 0, 100), limit);
        it.forget();
        assert_eq!(it.limit(1 << 40, 0, 100), aim(1 << 40));
        assert_eq!(it.limit(1 << 40, usize::MAX, 200), aim(1 << 40), "an overhead below nought");
    }
}
