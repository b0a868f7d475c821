//! Room for what commands store: memory in use is held against `maxmemory`, and keys are evicted.
//!
//! Invariant: nothing is evicted while a shard is locked. Read next: `evict` in the store.

use super::Core;
use crate::{alloc, clock};
use larder_config::MaxmemoryPolicy;
use larder_store::Policy;
use std::time::Duration;

/// Writes between two looks at the memory in use.
const MEMORY_CHECK_EVERY: u32 = 16;
/// Bytes a worker may take before it looks at the memory in use, however few its writes were.
const MEMORY_UNCHECKED_BYTES_MAX: isize = 16 * 1024;
/// Keys evicted between two looks at the clock, as in Redis.
const EVICTIONS_BETWEEN_LOOKS: u32 = 16;

impl Core {
    /// Makes sure that memory in use is below the limit, evicting where the policy allows it. False
    /// where nothing may leave; true also where the time of one command was not enough and the
    /// background goes on.
    pub(super) fn make_room(&mut self) -> bool {
        let grown = alloc::own_bytes().wrapping_sub(self.own_bytes_checked);
        if self.until_memory_check > 0 && grown < MEMORY_UNCHECKED_BYTES_MAX && !self.over_limit {
            self.until_memory_check -= 1;
            return true;
        }
        self.until_memory_check = MEMORY_CHECK_EVERY;
        self.evict(eviction_time(self.settings.maxmemory_eviction_tenacity()))
    }

    /// Whether the background is to go on evicting.
    #[inline]
    pub fn is_evicting(&self) -> bool {
        self.is_evicting
    }

    /// Evicts until memory in use is below the limit, nothing more may leave, or the time is over.
    /// False only where nothing may leave. Inside a turn, holding no lock.
    pub fn evict(&mut self, time_max: Duration) -> bool {
        let limit = match self.settings.maxmemory() {
            0 => usize::MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        let policy = policy_of(self.settings.maxmemory_policy());
        let samples = self.settings.maxmemory_samples() as usize;
        let start = clock::now();
        let mut evicted = 0u32;
        self.is_evicting = false;
        while self.bytes_over(limit) {
            if evicted != 0 && evicted.is_multiple_of(EVICTIONS_BETWEEN_LOOKS) && start.elapsed() >= time_max
            {
                (self.is_evicting, self.over_limit) = (true, true);
                return true;
            }
            if self.evictor.evict_one(&self.server.keyspace, policy, samples, &mut self.local).is_none() {
                self.over_limit = true;
                return false;
            }
            evicted = evicted.wrapping_add(1);
        }
        self.own_bytes_checked = alloc::own_bytes();
        self.over_limit = false;
        true
    }

    /// Whether more memory than `limit` is in use, beside what the background is about to free. Values
    /// that are this thread's to free are freed first: the limit is about them.
    fn bytes_over(&mut self, limit: usize) -> bool {
        self.local.free_spent();
        self.hand_garbage_over();
        let used = self.server.used_memory();
        used > limit && used.saturating_sub(self.server.reaper.pending_value_bytes()) > limit
    }
}

/// How long one command may evict under a `maxmemory-eviction-tenacity`: 50 microseconds a step up to
/// ten, then 15 percent more with each, and as long as it takes at a hundred.
fn eviction_time(tenacity: u32) -> Duration {
    const STEP_MICROS: u32 = 50;
    const LINEAR_STEPS: u32 = 10;
    match tenacity {
        0..=LINEAR_STEPS => Duration::from_micros(u64::from(tenacity * STEP_MICROS)),
        11..=99 => {
            let growth = 1.15f64.powi((tenacity - LINEAR_STEPS) as i32);
            Duration::from_micros((f64::from(STEP_MICROS * LINEAR_STEPS) * growth) as u64)
        }
        _ => Duration::MAX,
    }
}

fn policy_of(policy: MaxmemoryPolicy) -> Policy {
    match policy {
        MaxmemoryPolicy::NoEviction => Policy::NoEviction,
        MaxmemoryPolicy::AllKeysRandom => Policy::AllKeysRandom,
        MaxmemoryPolicy::AllKeysLru => Policy::AllKeysLru,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenacity_is_time_as_in_redis() {
        assert_eq!(eviction_time(0), Duration::ZERO);
        assert_eq!(eviction_time(1), Duration::from_micros(50));
        assert_eq!(eviction_time(10), Duration::from_micros(500));
        assert_eq!(eviction_time(11), Duration::from_micros(575));
        assert_eq!(eviction_time(12), Duration::from_micros(661));
        assert!((120..130).contains(&eviction_time(99).as_secs()), "{:?}", eviction_time(99));
        assert_eq!(eviction_time(100), Duration::MAX);
    }
}
