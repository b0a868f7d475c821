//! What leaves when room is needed: the policies of `larder-policy`, over the keyspace.
//!
//! The keyspace is cut into parts by the first bits of hashes, across all databases; each part has a policy behind a lock.
//! A hit never takes it: [`Uses`] writes the entry's access field and counts for itself. The lock is taken for entries
//! that are made, where it is free, and for evictions; what could not be said at once is a note, said later.
//! Invariants: who holds the lock of a part waits for nothing, so whoever wants it may: shards
//! are tried in here and never waited for. Who makes an entry only tries the lock.
//! Read next: `uses.rs` (what a thread records), `view.rs` (how policies see the keyspace), `evictor.rs` (who removes).

mod adoption;
mod classes;
mod evictor;
mod marks;
mod remembered;
#[cfg(test)]
mod tests;
mod uses;
mod view;

use crate::field_ends::DbTable;
use crate::keyspace::{Keyspace, SHARD_BITS};
use crate::local::Millis;
use crate::object::Object;
use adoption::{Adoption, Before};
use classes::{Classes, Room};
use larder_policy::{Policy, Ref};
use larder_table::Entry;
use marks::Marks;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub use classes::{ClassSpec, ClassUse, Matcher};
pub use evictor::{Cause, Evicted, Evictor};
pub use larder_policy::Scope;
pub use larder_policy::policies::Kind;
pub use remembered::Learned;
pub(crate) use remembered::Remembering;
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

/// The policy that is in force, cut into parts: of the keys of a class, or of those that are of none.
pub struct Chosen {
    choice: Choice,
    /// The classes there are, and which one this is the policy of, 0 for the keys of none.
    classes: Arc<Classes>,
    class: usize,
    /// What the class takes and may take.
    room: Option<Room>,
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
    fn new(
        choice: Choice,
        workers: usize,
        before: Option<&Before>,
        (classes, class): (&Arc<Classes>, usize),
    ) -> Chosen {
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
            classes: Arc::clone(classes),
            class,
            room: None,
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

    /// Whether a key of a table is one that this policy is for.
    #[inline]
    fn has(&self, table: u32, key: &[u8]) -> bool {
        self.classes.is_empty() || self.classes.of(table, key) == self.class
    }

    /// What the class was made of, if this is the policy of one.
    fn spec(&self) -> Option<&ClassSpec> {
        self.classes.specs().nth(self.class.checked_sub(1)?)
    }

    /// Counts what the class took before it was one, some shards of it. True when all is counted.
    fn count_some(&self, tables: &[(u32, &DbTable)]) -> bool {
        let Some(room) = &self.room else { return true };
        let own = tables.iter().find(|(number, _)| Some(*number) == self.classes.table(self.class));
        own.is_none_or(|(number, table)| {
            let bytes_if =
                |entry: &Entry<'_, Object>| self.has(*number, entry.key()).then(|| bytes_of(entry));
            room.count_some(table, SHARDS_COUNTED, bytes_if)
        })
    }

    /// Has all entries filed anew.
    fn adopt_again(&self) {
        for part in &self.parts {
            part.state.lock().adoption = Some(Adoption::new(Before::Clock));
        }
    }

    /// The shard of a hash.
    #[inline]
    #[expect(clippy::unused_self, reason = "all tables have as many")]
    fn shard_of(&self, hash: u64) -> usize {
        (hash >> (u64::BITS - u32::from(SHARD_BITS))) as usize
    }

    /// The first bits of the hash that a reference stands for, and how many they are.
    fn prefix(&self, part: usize, table: u32, at: Ref) -> (u64, u32) {
        let high = (part as u64).checked_shl(u64::BITS - self.part_bits).unwrap_or(0);
        (high | u64::from(at.0 ^ table) << 32 >> self.part_bits, self.part_bits + 32)
    }

    /// Counts the entries of each part anew, where so many are those of classes. O(shards of all tables).
    fn recount(&self, keyspace: &Keyspace, classed: usize) {
        if let Some(room) = &self.room {
            let each = room.keys().div_ceil(self.parts.len());
            self.parts.iter().for_each(|part| part.entries.store(each, Relaxed));
            return;
        }
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
            let entries: usize = keyspace.tables_in_use().map(of).sum();
            part.entries.store(entries.saturating_sub(classed / self.parts.len()), Relaxed);
        }
    }
}

/// The policies of a keyspace, as far as any are in force.
#[derive(Debug, Default)]
pub(crate) struct Eviction {
    chosen: Mutex<Option<Arc<Chosen>>>,
    /// Of a policy that is not in force any more, with none after it: what takes back the keys' fields.
    leaving: Mutex<Option<Arc<Chosen>>>,
    /// The classes that have room of their own, and the policy of each.
    classes: Mutex<(Arc<Classes>, Vec<Arc<Chosen>>)>,
}

impl Keyspace {
    /// Has keys evicted by a policy from now on; where it is in force already nothing changes. `None`: nothing is evicted
    /// and nothing recorded for it. Each worker passes what it gets on to its [`Uses`] and its [`Evictor`].
    ///
    /// Policies that choose from some candidates keep so many of them.
    ///
    /// O(shards). What the keys' fields held for another policy means nothing to this one, which files them anew on its way.
    pub fn choose_policy(&self, choice: Option<Choice>, candidates: usize) -> Option<Arc<Chosen>> {
        let (classes, classed) = self.eviction.classes.lock().clone();
        let mut chosen = self.eviction.chosen.lock();
        let is_same = |chosen: &Arc<Chosen>| Arc::ptr_eq(&chosen.classes, &classes);
        if chosen.as_ref().map(|chosen| chosen.choice) != choice || !chosen.as_ref().is_none_or(is_same) {
            let before = match chosen.take() {
                _ if self.is_empty() => None,
                Some(chosen) if chosen.choice.kind.has_fields() => Some(Before::Policy(chosen)),
                _ => Some(Before::Clock),
            };
            let rest = (&classes, 0);
            let make = |choice| Arc::new(Chosen::new(choice, self.workers(), before.as_ref(), rest));
            *chosen = choice.map(make);
            *self.eviction.leaving.lock() = match (&*chosen, before) {
                (None, Some(before @ Before::Policy(_))) => {
                    // A policy that has no use for fields leaves them to Redis' clock.
                    let none = Choice { kind: Kind::Random, scope: Scope::All, admission: false };
                    Some(Arc::new(Chosen::new(none, self.workers(), Some(&before), rest)))
                }
                _ => None,
            };
            if let Some(chosen) = &*chosen {
                chosen.recount(self, keys_of(&classed));
            }
        }
        if let Some(chosen) = &*chosen
            && chosen.candidates.swap(candidates, Relaxed) != candidates
        {
            chosen.parts.iter().for_each(|part| part.state.lock().policy.keep(candidates));
        }
        chosen.clone()
    }

    /// Gives classes of keys room of their own, and each a policy; without any, none has. Where these classes are in force already
    /// nothing changes, and the answer is false; else each worker is to ask for the policies anew before it touches a key.
    /// The caller is exclusive. O(shards).
    pub fn choose_classes(&self, specs: Vec<ClassSpec>) -> bool {
        let mut classes = self.eviction.classes.lock();
        if classes.0.are(&specs) {
            return false;
        }
        let before = std::mem::take(&mut classes.1);
        let made = Arc::new(Classes::new(specs, |db| self.table(db).number));
        let of_class = |(at, spec): (usize, &ClassSpec)| {
            let table = self.table(spec.db);
            let same = before.iter().find(|chosen| chosen.spec().is_some_and(|old| old.name == spec.name));
            let before = match same {
                _ if table.is_empty() => None,
                Some(chosen) if chosen.choice.kind.has_fields() => Some(Before::Policy(Arc::clone(chosen))),
                _ => Some(Before::Clock),
            };
            let choice = Choice { kind: spec.kind, scope: spec.scope, admission: false };
            let mut chosen = Chosen::new(choice, self.workers(), before.as_ref(), (&made, at + 1));
            chosen.room = Some(Room::new(table.shards(), table.is_empty()));
            Arc::new(chosen)
        };
        let chosen = made.specs().enumerate().map(of_class).collect();
        *classes = (made, chosen);
        true
    }

    /// The policies of the classes, in the order of the classes.
    pub fn policies_of_classes(&self) -> Vec<Arc<Chosen>> {
        self.eviction.classes.lock().1.clone()
    }

    /// What the classes may take, in their order, in bytes.
    pub fn limit_classes(&self, limits: impl Iterator<Item = usize>) {
        let classes = self.eviction.classes.lock();
        for (chosen, limit) in classes.1.iter().zip(limits) {
            chosen.room.iter().for_each(|room| room.set_limit(limit));
        }
    }

    /// What each class takes.
    pub fn use_of_classes(&self) -> Vec<ClassUse> {
        let of = |chosen: &Arc<Chosen>| {
            let (spec, room) = (chosen.spec()?, chosen.room.as_ref()?);
            Some(ClassUse {
                name: spec.name.clone(),
                keys: room.keys(),
                bytes: room.bytes(),
                limit: room.limit(),
                evicted: room.evicted.load(Relaxed),
            })
        };
        self.policies_of_classes().iter().filter_map(of).collect()
    }

    /// A database was emptied. The caller is exclusive.
    pub(crate) fn classes_emptied(&self, table: u32) {
        let classes = self.eviction.classes.lock();
        for chosen in classes.1.iter().filter(|chosen| classes.0.table(chosen.class) == Some(table)) {
            chosen.room.iter().for_each(|room| room.begin_again(true));
        }
    }

    /// Databases were exchanged: classes follow theirs. The caller is exclusive.
    pub(crate) fn classes_moved(&self) {
        let classes = self.eviction.classes.lock();
        let moved = classes.0.reseat(|db| self.table(db).number);
        if moved.is_empty() {
            return;
        }
        for chosen in classes.1.iter().filter(|chosen| moved.contains(&chosen.class)) {
            let is_empty = chosen.spec().is_some_and(|spec| self.table(spec.db).is_empty());
            chosen.room.iter().for_each(|room| room.begin_again(is_empty));
            chosen.adopt_again();
        }
        self.eviction.chosen.lock().iter().for_each(|chosen| chosen.adopt_again());
    }

    /// Of a policy that is not in force any more, with none after it: what gives the keys' fields back to Redis' clock,
    /// for [`Evictor::give_back`].
    pub fn policy_leaving(&self) -> Option<Arc<Chosen>> {
        self.eviction.leaving.lock().clone()
    }

    /// Has the policies in force count entries anew, and see that a second has passed where it has. There will be
    /// about `expected` entries when the limit is reached. O(shards).
    pub fn look_after_policy(&self, now: Millis, second_passed: bool, expected: usize) {
        let classed = self.policies_of_classes();
        let keys_of_classes = keys_of(&classed);
        let chosen = self.eviction.chosen.lock().clone();
        for chosen in chosen.iter().chain(&classed) {
            chosen.recount(self, keys_of_classes);
            let expected = chosen.room.as_ref().map_or(expected, Room::keys_expected);
            for part in &chosen.parts {
                let state = &mut *part.state.lock();
                state.policy.expect(expected / chosen.parts.len());
                if second_passed {
                    state.policy.second_passed();
                }
                state.marks.note(state.policy.clock(), now);
            }
        }
    }

    /// What the policies in force hold beside the entries, in bytes.
    pub fn policy_bytes(&self) -> usize {
        let chosen = self.eviction.chosen.lock().clone();
        let classed = self.policies_of_classes();
        let all = chosen.iter().chain(&classed);
        all.flat_map(|chosen| &chosen.parts).map(|part| part.state.lock().policy.memory()).sum()
    }
}

/// Shards counted in one go.
const SHARDS_COUNTED: usize = 4;

impl Keyspace {
    /// Keys of all classes.
    pub(crate) fn keys_of_classes(&self) -> usize {
        keys_of(&self.eviction.classes.lock().1)
    }
}

/// Keys of all classes.
fn keys_of(classes: &[Arc<Chosen>]) -> usize {
    classes.iter().filter_map(|chosen| chosen.room.as_ref()).map(Room::keys).sum()
}
