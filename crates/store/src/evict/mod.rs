//! What leaves when room is needed.
//!
//! A [`Policy`] sees candidates (their access fields and sizes) and says which is worth least; the
//! [`Evictor`] of each worker finds candidates by sampling, keeps the best of them from one eviction
//! to the next, and removes. A policy is a plain object that a test drives from a list of numbers.

mod pool;

use crate::discard::{Removal, discard};
use crate::effects::Event;
use crate::keyspace::{DbIndex, Keyspace};
use crate::local::Local;
use larder_values::lru;
use pool::{Candidate, Pool};

/// Keys tried at random before the caller is asked to come again.
const RANDOM_ATTEMPTS: u32 = 32;

/// Which keys may leave, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// None: writes that need room are refused.
    #[default]
    NoEviction,
    /// Any key, at random.
    AllKeysRandom,
    /// Keys that were used longest ago first, by sampling.
    AllKeysLru,
}

impl Policy {
    /// How much a key deserves to leave; the largest leaves first. `None`: chance decides.
    fn rank(self, access: u32, now: u64) -> Option<u64> {
        match self {
            Policy::NoEviction | Policy::AllKeysRandom => None,
            Policy::AllKeysLru => Some(lru::idle_ms(lru::clock_at(now), access)),
        }
    }
}

/// Finds and removes victims for one worker.
#[derive(Debug, Default)]
pub struct Evictor {
    pool: Pool,
    next_db: u32,
}

impl Evictor {
    /// Removes one key under `policy`, looking at `samples` keys of each database.
    ///
    /// Answers the bytes freed, none where others were faster, or `None` when nothing may leave.
    pub fn evict_one(
        &mut self,
        keyspace: &Keyspace,
        policy: Policy,
        samples: usize,
        local: &mut Local,
    ) -> Option<usize> {
        let now = local.now.0;
        match policy {
            Policy::NoEviction => None,
            Policy::AllKeysRandom => self.evict_random(keyspace, local),
            Policy::AllKeysLru => {
                for _ in 0..8 {
                    self.fill(keyspace, policy, samples, now, local);
                    while let Some(candidate) = self.pool.pop() {
                        if let Some(freed) = remove(keyspace, &candidate, local) {
                            return Some(freed);
                        }
                    }
                    if keyspace.is_empty() {
                        return None;
                    }
                }
                self.evict_random(keyspace, local)
            }
        }
    }

    /// Offers a few keys of every database in use to the pool.
    fn fill(&mut self, keyspace: &Keyspace, policy: Policy, samples: usize, now: u64, local: &mut Local) {
        for db in keyspace.indexes() {
            let Some(table) = keyspace.table_if_used(db) else { continue };
            let mut left = samples;
            for _ in 0..samples * 4 {
                if left == 0 || table.is_empty() {
                    break;
                }
                let guard = table.lock(local.random() as usize % table.shards());
                if guard.is_empty() {
                    continue;
                }
                guard.sample(local.random(), 1, &mut |entry| {
                    left = left.saturating_sub(1);
                    if let Some(rank) = policy.rank(entry.access(), now) {
                        self.pool.offer(db, entry.key(), rank);
                    }
                });
            }
        }
    }

    /// Removes a key at random. Another worker may take the chosen one first, or it may be promised to a client that
    /// waits: then the next is tried, and after some the answer is that nothing was freed yet.
    fn evict_random(&mut self, keyspace: &Keyspace, local: &mut Local) -> Option<usize> {
        for _ in 0..RANDOM_ATTEMPTS {
            if keyspace.is_empty() {
                return None;
            }
            let used = (0..keyspace.databases())
                .map(|step| DbIndex(self.next_db.wrapping_add(step) % keyspace.databases()))
                .find(|db| keyspace.len(*db) > 0);
            let Some(db) = used else { return None };
            self.next_db = db.0.wrapping_add(1);
            if let Some(key) = keyspace.random_key(db, local)
                && let Some(freed) = remove(keyspace, &Candidate { rank: 0, db, key }, local)
            {
                return Some(freed);
            }
        }
        Some(0)
    }
}

fn remove(keyspace: &Keyspace, candidate: &Candidate, local: &mut Local) -> Option<usize> {
    let table = keyspace.table(candidate.db);
    let hash = table.hash(&candidate.key);
    let mut guard = table.lock(table.shard_of(hash));
    if guard.is_owed() {
        // It may be what a client waits for and is about to get.
        return None;
    }
    let removed = table.remove(local, hash, &candidate.key, guard.find_mut(hash, &candidate.key)?);
    local.stats.evicted.add(1);
    local.effects.changed(candidate.db, &candidate.key, Event::EVICTED);
    let size = removed.size;
    discard(local, removed.boxed, Removal::Evicted);
    Some(size)
}
