//! What must hold of every policy whatever its holder of entries does: shards that are taken, entries that vanish without
//! a word, ends that come and go, fields full of another policy's bits.
//!
//! The holder here does what the server's does: what could not be looked at is filed again with `refile`, an eviction that
//! could not be carried out with `created`, and what was there before the policy with `adopt`, in one walk.
//! Read next: `exact.rs`, policies against exact models.

use larder_policy::policies::{Kind, Probation};
use larder_policy::{Entries, FIELD_MAX, Hits, Passing, Policy, Ref, Scope, Seen, Shown, Step};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// Entries in the order of references, some of which cannot be had when they are asked for.
struct Table {
    entries: BTreeMap<u32, Seen>,
    /// Of a hundred looks so many find the shard taken.
    taken: u64,
    /// What could not be looked at.
    busy: Vec<Ref>,
    random: Random,
}

impl Table {
    fn is_taken(&mut self) -> bool {
        self.taken > 0 && self.random.below(100) < self.taken
    }
}

impl Entries for Table {
    fn look(&mut self, at: Ref) -> Option<Seen> {
        let seen = self.entries.get(&at.0).copied()?;
        if self.is_taken() {
            self.busy.push(at);
            return None;
        }
        Some(seen)
    }

    fn set_field(&mut self, at: Ref, field: u32) {
        assert!(field <= FIELD_MAX, "a field beyond its bits: {field:x}");
        if !self.entries.contains_key(&at.0) {
            return;
        }
        if self.is_taken() {
            self.busy.push(at);
        } else if let Some(seen) = self.entries.get_mut(&at.0) {
            seen.field = field;
        }
    }

    fn walk(&mut self, from: u32, show: &mut dyn FnMut(&[Seen], &dyn Passing)) -> u32 {
        let bucket: Vec<(u32, Seen)> =
            self.entries.range(from..).take(8).map(|(at, seen)| (*at, *seen)).collect();
        if !self.is_taken() {
            let mut shown: Shown = bucket.iter().map(|(at, seen)| (Ref(*at), *seen)).collect();
            for (Ref(at), field) in shown.to(show) {
                assert!(field <= FIELD_MAX, "a field beyond its bits: {field:x}");
                self.entries.entry(at).and_modify(|seen| seen.field = field);
            }
        }
        if bucket.len() < 8 { 0 } else { bucket.last().map_or(0, |(at, _)| at.saturating_add(1)) }
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}

#[derive(Clone, Debug)]
enum Act {
    Make(u32, u32, bool),
    Read(u32),
    Write(u32, u32),
    /// Gets or loses a time to live.
    Retime(u32),
    /// Its time comes.
    End(u32),
    /// Removed, and the policy is told.
    Remove(u32),
    /// Removed, and it is not.
    Vanish(u32),
    Flush,
    Adopt,
    Tell,
    Absorb,
    Observe,
    Second,
    Evict,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let key = || 0u32..80;
    let act = prop_oneof![
        80 => (key(), 1u32..5000, any::<bool>()).prop_map(|(key, bytes, is_timed)| Act::Make(key, bytes, is_timed)),
        60 => key().prop_map(Act::Read),
        20 => (key(), 1u32..5000).prop_map(|(key, bytes)| Act::Write(key, bytes)),
        20 => key().prop_map(Act::Retime),
        5 => key().prop_map(Act::End),
        10 => key().prop_map(Act::Remove),
        10 => key().prop_map(Act::Vanish),
        1 => Just(Act::Flush),
        20 => Just(Act::Adopt),
        20 => Just(Act::Tell),
        20 => Just(Act::Absorb),
        20 => Just(Act::Observe),
        5 => Just(Act::Second),
        60 => Just(Act::Evict),
    ];
    proptest::collection::vec(act, 1..500)
}

/// Where a key stands: spread, so that references are large numbers too.
fn at_of(key: u32) -> Ref {
    Ref(key.wrapping_mul(0x9e37_79b1))
}

/// A policy and the holder of its entries.
struct House {
    kind: Kind,
    scope: Scope,
    policy: Box<dyn Policy>,
    hits: Hits,
    table: Table,
    newest: Option<Ref>,
    /// Entries whose eviction could not be carried out.
    kept: Vec<Ref>,
    /// Where the walk is that files what was there before the policy; `None` when it is done.
    adopting: Option<u32>,
}

impl House {
    /// With so many entries that were there before, whose fields hold anything.
    fn new(kind: Kind, scope: Scope, before: u32, taken: u64, seed: u64) -> House {
        House::with(kind, scope, before, taken, seed, false)
    }

    /// As [`House::new`], with what is new on probation.
    fn with(kind: Kind, scope: Scope, before: u32, taken: u64, seed: u64, is_admitting: bool) -> House {
        let mut random = Random(seed);
        let scope = if kind == Kind::Ttl { Scope::Timed } else { scope };
        let mut entries = BTreeMap::new();
        for key in 0..before {
            let field = random.next() as u32 & FIELD_MAX;
            let deadline = if random.below(2) == 0 { u64::MAX } else { 1_700_000_000_000 };
            let bytes = 1 + random.below(3000) as u32;
            entries.insert(at_of(1000 + key).0, Seen { field, bytes, deadline, is_over: false });
        }
        House {
            kind,
            scope,
            policy: match kind.make(scope, 1) {
                policy if is_admitting => Box::new(Probation::before(policy, scope)),
                policy => policy,
            },
            hits: kind.hits(2),
            table: Table { entries, taken, busy: Vec::new(), random },
            newest: None,
            kept: Vec::new(),
            adopting: Some(0),
        }
    }

    fn in_scope(&self) -> usize {
        self.table.entries.values().filter(|seen| self.scope.has(seen)).count()
    }

    fn created(&mut self, at: Ref) {
        if let Some(seen) = self.table.entries.get_mut(&at.0) {
            seen.field = self.policy.created(at, seen.bytes);
            self.newest = Some(at);
        }
    }

    /// Files again what could not be had before.
    fn tell(&mut self) {
        for at in std::mem::take(&mut self.table.busy) {
            if let Some(seen) = self.table.entries.get_mut(&at.0)
                && self.scope.has(seen)
            {
                seen.field = self.policy.refile(at, *seen);
            }
        }
        for at in std::mem::take(&mut self.kept) {
            if self.table.entries.get(&at.0).is_some_and(|seen| self.scope.has(seen)) {
                self.created(at);
            }
        }
    }

    fn adopt(&mut self, count: usize) {
        let Some(from) = self.adopting else { return };
        let found: Vec<u32> = self.table.entries.range(from..).take(count).map(|(at, _)| *at).collect();
        for (index, at) in found.iter().enumerate() {
            if let Some(seen) = self.table.entries.get_mut(at)
                && self.scope.has(seen)
            {
                seen.field = self.policy.adopt(Ref(*at), *seen, index as f32 / count as f32);
                assert!(seen.field <= FIELD_MAX);
            }
        }
        let is_done = found.len() < count;
        self.adopting = found.last().and_then(|last| last.checked_add(1)).filter(|_| !is_done);
    }

    fn retime(&mut self, at: Ref) {
        let Some(seen) = self.table.entries.get_mut(&at.0) else { return };
        let before = *seen;
        seen.deadline = if seen.is_timed() { u64::MAX } else { 1_700_000_000_000 + u64::from(seen.bytes) };
        seen.is_over = false;
        match (self.scope.has(&before), self.scope.has(seen)) {
            (true, false) => self.policy.removed(at, before),
            (false, true) => self.created(at),
            _ => {}
        }
    }

    fn act(&mut self, act: &Act) -> Result<(), TestCaseError> {
        match *act {
            Act::Make(key, bytes, is_timed) => {
                let at = at_of(key);
                let deadline = if is_timed { 1_700_000_000_000 + u64::from(bytes) } else { u64::MAX };
                let seen = Seen { field: 0, bytes, deadline, is_over: false };
                if let Entry::Vacant(vacant) = self.table.entries.entry(at.0) {
                    vacant.insert(seen);
                    if self.scope.has(&seen) {
                        self.policy.arriving();
                        self.created(at);
                    }
                }
            }
            Act::Read(key) => {
                if let Some(seen) = self.table.entries.get_mut(&at_of(key).0) {
                    seen.field = self.hits.read(at_of(key), seen.field);
                    prop_assert!(seen.field <= FIELD_MAX);
                }
            }
            Act::Write(key, bytes) => {
                if let Some(seen) = self.table.entries.get_mut(&at_of(key).0) {
                    let before = std::mem::replace(&mut seen.bytes, bytes);
                    seen.field = self.hits.wrote(at_of(key), seen.field);
                    if self.scope.has(seen) {
                        self.policy.resized(seen.field, before, bytes);
                    }
                }
            }
            Act::Retime(key) => self.retime(at_of(key)),
            Act::End(key) => {
                if let Some(seen) = self.table.entries.get_mut(&at_of(key).0) {
                    seen.is_over = seen.is_timed();
                }
            }
            Act::Remove(key) => {
                if let Some(seen) = self.table.entries.remove(&at_of(key).0)
                    && self.scope.has(&seen)
                {
                    self.policy.removed(at_of(key), seen);
                }
            }
            Act::Vanish(key) => drop(self.table.entries.remove(&at_of(key).0)),
            Act::Flush => self.table.entries.clear(),
            Act::Adopt => self.adopt(4),
            Act::Tell => self.tell(),
            Act::Absorb => self.policy.absorb(&mut self.hits),
            Act::Observe => self.policy.observe(&mut self.table),
            Act::Second => self.policy.second_passed(),
            Act::Evict => drop(self.evict()?),
        }
        Ok(())
    }

    /// Steps until something leaves. False when nothing does, which must have its reason.
    fn evict(&mut self) -> Result<bool, TestCaseError> {
        let (kind, scope) = (self.kind, self.scope);
        for _ in 0..3000 {
            if self.table.entries.len() <= 1 {
                // Where it is the only one there is, it may go after all.
                self.newest = None;
            }
            match self.policy.step(&mut self.table) {
                Step::Evict(at) => {
                    let seen = self.table.entries.get(&at.0).copied();
                    prop_assert!(seen.is_some_and(|seen| scope.has(&seen)), "{:?} evicts out of scope", kind);
                    let is_over = seen.is_some_and(|seen| seen.is_over);
                    prop_assert!(self.newest != Some(at) || is_over, "{:?} evicts what was just made", kind);
                    if self.table.is_taken() {
                        self.kept.push(at);
                    } else {
                        self.table.entries.remove(&at.0);
                        return Ok(true);
                    }
                }
                Step::More => {}
                // What is not filed yet is not known.
                Step::Nothing if self.adopting.is_some() => return Ok(false),
                Step::Nothing if self.in_scope() <= usize::from(self.newest.is_some()) => return Ok(false),
                Step::Nothing => {}
            }
            self.tell();
        }
        prop_assert!(self.in_scope() <= 1, "{:?} {:?} finds none of {}", kind, scope, self.in_scope());
        Ok(false)
    }

    /// All of it may leave, when nothing is in the way.
    fn empty(&mut self) -> Result<(), TestCaseError> {
        self.tell();
        while self.adopting.is_some() {
            self.adopt(16);
        }
        self.table.taken = 0;
        for _ in 0..=self.table.entries.len() {
            self.policy.arriving();
            self.newest = None;
            if self.in_scope() == 0 {
                break;
            }
            let has_left = self.evict()?;
            prop_assert!(has_left, "{:?} {:?}: {} stay for ever", self.kind, self.scope, self.in_scope());
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A victim is there, in scope, and not what was made last; something leaves within bounded time as long as anything
    /// in scope is filed; and whatever happened, in the end everything can leave.
    #[test]
    fn something_in_scope_leaves_whatever_happened(
        acts in acts(),
        before in 0u32..60,
        taken in prop_oneof![Just(0u64), 1u64..50],
        is_admitting in any::<bool>(),
        seed in any::<u64>(),
    ) {
        for kind in Kind::ALL.iter().copied() {
            for scope in [Scope::All, Scope::Timed] {
                let mut house = House::with(kind, scope, before, taken, seed, is_admitting);
                for act in &acts {
                    house.act(act)?;
                }
                house.empty()?;
            }
        }
    }
}

/// Bytes an entry that a policy may take on the average.
fn budget(kind: Kind) -> usize {
    match kind {
        Kind::Lru | Kind::Lrm | Kind::Lfu => 8,
        _ => 5,
    }
}

/// What a policy takes however few entries there are: rings, tables of what it learns.
const FIXED: usize = 256 << 10;

/// Entries come and go without a word to the policy and without need for room, as with SET and DEL below the limit. What
/// the policy holds stays within its budget, as long as it may look around when it asks for it.
#[test]
fn memory_stays_within_budget_under_deletions_that_nobody_tells() {
    const ENTRIES: u32 = 20_000;
    let with_probation = [(Kind::Lru, true), (Kind::Fifo, true)];
    let kinds = Kind::ALL.iter().map(|kind| (*kind, false)).chain(with_probation);
    for (kind, is_admitting) in kinds {
        let mut house = House::with(kind, Scope::All, 0, 0, 9, is_admitting);
        let mut random = Random(5);
        let mut key = 0;
        for round in 0..100_000 {
            let at = at_of(key);
            key += 1;
            let deadline = if kind == Kind::Ttl { 1 } else { u64::MAX };
            house.table.entries.insert(at.0, Seen { field: 0, bytes: 100, deadline, is_over: false });
            house.policy.arriving();
            house.created(at);
            if key > ENTRIES {
                // One of those made lately, or the oldest.
                let old = if round % 3 == 0 { key - ENTRIES } else { key - 1 - random.below(3000) as u32 };
                house.table.entries.remove(&at_of(old).0);
                while house.table.entries.len() > ENTRIES as usize {
                    house.table.entries.pop_first();
                }
            }
            let used = at_of(key.saturating_sub(1 + random.below(5000) as u32));
            if let Some(seen) = house.table.entries.get_mut(&used.0) {
                seen.field = house.hits.read(used, seen.field);
            }
            house.policy.absorb(&mut house.hits);
            if house.policy.is_cluttered(house.table.entries.len()) {
                house.policy.observe(&mut house.table);
            }
            let (entries, bytes) = (house.table.entries.len(), house.policy.memory());
            assert!(
                bytes <= FIXED + budget(kind) * ENTRIES as usize,
                "{kind:?}: {bytes} bytes for {entries} entries in round {round}"
            );
        }
        // All of them vanish. What they took is given back while the policy looks around.
        house.table.entries.clear();
        for _ in 0..10_000 {
            house.policy.observe(&mut house.table);
        }
        assert!(house.policy.memory() <= FIXED, "{kind:?}: {} bytes for none", house.policy.memory());
        // And it is in order.
        for key in 0..1000 {
            house.act(&Act::Make(key, 10, true)).unwrap();
        }
        house.empty().unwrap();
        assert_eq!(house.in_scope(), 0);
    }
}

/// A hundred thousand names of what left must not stay when hardly anything is left to name them for.
#[test]
fn names_of_what_left_shrink_with_the_cache() {
    for kind in [Kind::Adaptive, Kind::S3Fifo, Kind::WTinyLfu] {
        let mut house = House::new(kind, Scope::All, 0, 0, 3);
        for key in 0..60_000 {
            house.act(&Act::Make(key, 10, false)).unwrap();
        }
        for _ in 0..1000 {
            house.policy.arriving();
            house.newest = None;
            house.evict().unwrap();
        }
        let full = house.policy.memory();
        house.table.entries.clear();
        for key in 0..500 {
            house.act(&Act::Make(key, 10, false)).unwrap();
        }
        for _ in 0..4000 {
            house.policy.observe(&mut house.table);
            house.policy.arriving();
            house.newest = None;
            if house.in_scope() > 400 {
                house.evict().unwrap();
            }
        }
        let left = house.policy.memory();
        assert!(full > 100_000 && left < 100_000, "{kind:?}: {full} bytes, then {left}");
    }
}
