//! What leaves when room is needed: the policies of `larder-policy`, over the keyspace.
//!
//! The keyspace is cut into parts by the first bits of hashes, across all databases; each part has a policy behind a lock.
//! A hit never takes it: [`Uses`] writes the entry's access field and counts for itself. The lock is taken for entries
//! that are made, where it is free, and for evictions; what could not be said at once is a note, said later.
//! Invariants: who holds the lock of a part waits for nothing, so whoever wants it may: shards
//! are tried in here and never waited for. Who makes an entry only tries the lock.
//! Read next: `uses.rs` (what a thread records), `view.rs` (how policies see the keyspace), `evictor.rs` (who removes).

mod adoption;
mod evictor;
mod marks;
#[cfg(test)]
mod tests;
mod uses;
mod view;

use crate::field_ends::DbTable;
use crate::keyspace::Keyspace;
use crate::local::Millis;
use adoption::{Adoption, Before};
use larder_policy::{Policy, Ref};
use marks::Marks;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub use evictor::{Cause, Evicted, Evictor};
pub use larder_policy::Scope;
pub use larder_policy::policies::Kind;
pub use uses::Uses;
pub(crate) use view::{bytes_of, seen};

/// Which policy the keyspace runs, and over which keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The policy.
    pub kind: Kind,
    /// The keys that may leave.
    pub scope: Scope,
    /// Whether new keys are on probation under a policy that does not judge them by itself.
    pub admission: bool,
}

/// One part of the keyspace. On lines of its own.
#[repr(align(128))]
struct Part {
    /// About how many entries there are that may leave, of all databases.
    entries: AtomicUsize,
    state: Mutex<State>,
}

/// What the lock of a part guards.
struct State {
    policy: Box<dyn Policy>,
    /// When the policy's clock stood where.
    marks: Marks,
    /// What was there before the policy and is not filed yet.
    adoption: Option<Adoption>,
}

/// The policy that is in force, cut into parts.
pub struct Chosen {
    choice: Choice,
    /// Candidates that policies which choose from some keep.
    candidates: AtomicUsize,
    /// There are two to this power parts.
    part_bits: u32,
    parts: Box<[Part]>,
}

impl std::fmt::Debug for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chosen").field("choice", &self.choice).field("parts", &self.parts.len()).finish()
    }
}

/// Parts for each worker, where there are several: so two seldom want the same.
const PARTS_A_WORKER: usize = 2;

impl Chosen {
    /// Its policies, and what the keys that are there already had before, if there are any.
    fn new(choice: Choice, workers: usize, before: Option<&Before>) -> Chosen {
        let parts = if workers > 1 { (workers * PARTS_A_WORKER).next_power_of_two() } else { 1 };
        let part = |number| Part {
            entries: AtomicUsize::new(0),
            state: Mutex::new(State {
                policy: if choice.admission {
                    choice.kind.make_admitting(choice.scope, number)
                } else {
                    choice.kind.make(choice.scope, number)
                },
                marks: Marks::new(choice.kind.recording()),
                adoption: before.map(|before| Adoption::new(before.clone())),
            }),
        };
        let candidates = AtomicUsize::new(0);
        Chosen {
            choice,
            candidates,
            part_bits: parts.trailing_zeros(),
            parts: (0..parts as u32).map(part).collect(),
        }
    }

    /// Where a hash belongs: the part, and the reference in it for a key of a table. What distinguishes tables stands in
    /// the last bits, so that references are in the order of hashes all the same.
    #[inline]
    fn place(&self, table: u32, hash: u64) -> (usize, Ref) {
        let part = (hash >> 1 >> (u64::BITS - 1 - self.part_bits)) as usize;
        (part, Ref((hash << self.part_bits >> 32) as u32 ^ table))
    }

    /// The first bits of the hash that a reference stands for, and how many they are.
    fn prefix(&self, part: usize, table: u32, at: Ref) -> (u64, u32) {
        let high = (part as u64).checked_shl(u64::BITS - self.part_bits).unwrap_or(0);
        (high | u64::from(at.0 ^ table) << 32 >> self.part_bits, self.part_bits + 32)
    }

    /// Counts the entries of each part anew. O(shards of all tables).
    fn recount(&self, keyspace: &Keyspace) {
        for (number, part) in self.parts.iter().enumerate() {
            let shards = |table: &DbTable| {
                let each = table.shards() / self.parts.len();
                number * each..(number + 1) * each
            };
            let len = |table: &DbTable, shard| match self.choice.scope {
                Scope::All => table.shard_len(shard),
                Scope::Timed => table.shard_len_with_deadline(shard),
            };
            let of = |table: &DbTable| shards(table).map(|shard| len(table, shard)).sum::<usize>();
            part.entries.store(keyspace.tables_in_use().map(of).sum(), Relaxed);
        }
    }
}

/// The policy of a keyspace, as far as one is in force.
#[derive(Debug, Default)]
pub(crate) struct Eviction {
    chosen: Mutex<Option<Arc<Chosen>>>,
    /// Of a policy that is not in force any more, with none after it: what takes back the keys' fields.
    leaving: Mutex<Option<Arc<Chosen>>>,
}

impl Keyspace {
    /// Has keys evicted by a policy from now on; where it is in force already nothing changes. `None`: nothing is evicted
    /// and nothing recorded for it. Each worker passes what it gets on to its [`Uses`] and its [`Evictor`].
    ///
    /// Policies that choose from some candidates keep so many of them.
    ///
    /// O(shards). What the keys' fields held for another policy means nothing to this one, which files them anew on its way.
    pub fn choose_policy(&self, choice: Option<Choice>, candidates: usize) -> Option<Arc<Chosen>> {
        let mut chosen = self.eviction.chosen.lock();
        if chosen.as_ref().map(|chosen| chosen.choice) != choice {
            let before = match chosen.take() {
                _ if self.is_empty() => None,
                Some(chosen) if chosen.choice.kind.has_fields() => Some(Before::Policy(chosen)),
                _ => Some(Before::Clock),
            };
            *chosen = choice.map(|choice| Arc::new(Chosen::new(choice, self.workers(), before.as_ref())));
            *self.eviction.leaving.lock() = match (&*chosen, before) {
                (None, Some(before @ Before::Policy(_))) => {
                    // A policy that has no use for fields leaves them to Redis' clock.
                    let none = Choice { kind: Kind::Random, scope: Scope::All, admission: false };
                    Some(Arc::new(Chosen::new(none, self.workers(), Some(&before))))
                }
                _ => None,
            };
            if let Some(chosen) = &*chosen {
                chosen.recount(self);
            }
        }
        if let Some(chosen) = &*chosen
            && chosen.candidates.swap(candidates, Relaxed) != candidates
        {
            chosen.parts.iter().for_each(|part| part.state.lock().policy.keep(candidates));
        }
        chosen.clone()
    }

    /// Of a policy that is not in force any more, with none after it: what gives the keys' fields back to Redis' clock,
    /// for [`Evictor::give_back`].
    pub fn policy_leaving(&self) -> Option<Arc<Chosen>> {
        self.eviction.leaving.lock().clone()
    }

    /// Has the policy in force count entries anew, and see that a second has passed where it has. There will be
    /// about `expected` entries when the limit is reached. O(shards).
    pub fn look_after_policy(&self, now: Millis, second_passed: bool, expected: usize) {
        let chosen = self.eviction.chosen.lock().clone();
        let Some(chosen) = chosen else { return };
        chosen.recount(self);
        for part in &chosen.parts {
            let state = &mut *part.state.lock();
            state.policy.expect(expected / chosen.parts.len());
            if second_passed {
                state.policy.second_passed();
            }
            state.marks.note(state.policy.clock(), now);
        }
    }

    /// What the policy in force holds beside the entries, in bytes.
    pub fn policy_bytes(&self) -> usize {
        let chosen = self.eviction.chosen.lock().clone();
        chosen.iter().flat_map(|chosen| &chosen.parts).map(|part| part.state.lock().policy.memory()).sum()
    }
}
