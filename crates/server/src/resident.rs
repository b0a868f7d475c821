//! `maxmemory-rss`: the limit held against resident memory, so that a container is not killed below its limit.
//!
//! Evicting does not make memory non-resident at once: what leaves are single entries of spans that others still lie in. So
//! what is resident beyond what is in use is taken for an overhead and subtracted from the limit, and is looked at
//! again when resident memory has grown, or once in [`PATIENCE_MS`]: meanwhile eviction keeps memory in use below the smaller
//! limit, which stops growth, while memory is defragmented and given back. Only what that does not give back is evicted for.

use crate::memory_report::resident;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Resident memory is read at most so often, milliseconds.
const READ_EVERY_MS: u64 = 10;
/// How long defragmentation has to show an effect before more is evicted, milliseconds.
const PATIENCE_MS: u64 = 1000;
/// Growth that is noticed at once, bytes.
const GROWTH: usize = 1 << 20;

/// What is known of resident memory.
#[derive(Debug, Default)]
pub struct Resident {
    read_ms: AtomicU64,
    over: AtomicBool,
    /// Resident beyond what is in use, as of `since_ms`, when `bytes` were resident.
    overhead: AtomicUsize,
    bytes: AtomicUsize,
    since_ms: AtomicU64,
}

impl Resident {
    /// Whether more than the limit was resident when it was last looked at.
    pub fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// The limit for memory in use, of which there are `used` bytes, that keeps resident memory below `limit`.
    pub fn limit(&self, limit: usize, used: usize, now_ms: u64) -> usize {
        if now_ms.saturating_sub(self.read_ms.load(Relaxed)) >= READ_EVERY_MS {
            self.read_ms.store(now_ms, Relaxed);
            self.note(limit, used, resident().0, now_ms);
        }
        limit.saturating_sub(self.overhead.load(Relaxed))
    }

    /// The option was switched off.
    pub fn forget(&self) {
        self.over.store(false, Relaxed);
        self.overhead.store(0, Relaxed);
    }

    fn note(&self, limit: usize, used: usize, resident: usize, now_ms: u64) {
        let over = resident > limit;
        let was_over = self.over.swap(over, Relaxed);
        if !over {
            // What is in use may grow by what is left, and no further.
            self.overhead.store(resident.saturating_sub(used), Relaxed);
            self.bytes.store(resident, Relaxed);
            self.since_ms.store(now_ms, Relaxed);
            return;
        }
        let grown = resident > self.bytes.load(Relaxed) + GROWTH;
        let waited = now_ms.saturating_sub(self.since_ms.load(Relaxed)) >= PATIENCE_MS;
        if !was_over || grown || waited {
            self.overhead.store(resident.saturating_sub(used), Relaxed);
            self.bytes.store(resident, Relaxed);
            self.since_ms.store(now_ms, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(it: &Resident) -> usize {
        1000usize.saturating_sub(it.overhead.load(Relaxed))
    }

    #[test]
    fn eviction_waits_for_memory_that_is_being_given_back() {
        const MB: usize = 1 << 20;
        let it = Resident::default();
        it.note(1000 * MB, 700 * MB, 900 * MB, 5);
        assert!(!it.is_over());
        assert_eq!(it.overhead.load(Relaxed), 200 * MB);
        it.note(1000 * MB, 800 * MB, 1100 * MB, 20);
        assert!(it.is_over());
        assert_eq!(it.overhead.load(Relaxed), 300 * MB);
        // A hundred went, and nothing is less resident: that is no reason to evict more, yet.
        it.note(1000 * MB, 700 * MB, 1100 * MB, 40);
        assert_eq!(it.overhead.load(Relaxed), 300 * MB);
        it.note(1000 * MB, 700 * MB, 1110 * MB, 60);
        assert_eq!(it.overhead.load(Relaxed), 410 * MB);
        it.note(1000 * MB, 600 * MB, 1110 * MB, 60 + PATIENCE_MS);
        assert_eq!(it.overhead.load(Relaxed), 510 * MB);
        it.note(1000 * MB, 600 * MB, 650 * MB, 3000);
        assert!(!it.is_over());
        assert_eq!(it.overhead.load(Relaxed), 50 * MB);
        it.forget();
        assert_eq!(allowed(&it), 1000);
    }
}
