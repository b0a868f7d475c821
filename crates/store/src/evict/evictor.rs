//! Removes what policies choose, for one worker.

use super::adoption::adopt_some;
use super::classes::Room;
use super::view::{Found, Held, View, find};
use super::{Chosen, Part, State};
use crate::discard::{Removal, discard};
use crate::effects::Event;
use crate::field_ends::DbTable;
use crate::keyspace::Keyspace;
use crate::local::Local;
use crate::object::Object;
use crate::snapshot::save_first;
use larder_policy::policies::Kind;
use larder_policy::{Policy, Ref, Scope, Step};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Buckets of keys that were there before their policy, filed in one go.
const ADOPTED_BUCKETS: usize = 16;
/// Steps of a policy in search of one victim, before the caller is asked to come again.
const STEPS_MAX: usize = 16;

/// What came of an eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evicted {
    /// A key left, and so many bytes are free.
    Bytes(usize),
    /// None yet; ask again.
    NotYet,
    /// Nothing may leave.
    Nothing,
}

/// Why room is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A command waits for it.
    Command,
    /// More is in use than the limit allows, and no command waits: its time was over, or the limit was lowered.
    OverLimit,
    /// Ahead of need.
    Ahead,
}

impl Cause {
    /// All of them, in the order of [`crate::stats::StoreStats::evicted_for`].
    pub const ALL: [Cause; 3] = [Cause::Command, Cause::OverLimit, Cause::Ahead];
}

/// Finds and removes victims for one worker.
#[derive(Debug)]
pub struct Evictor {
    chosen: Option<Arc<Chosen>>,
    /// What takes back the fields that a policy had which is not in force any more.
    leaving: Option<Arc<Chosen>>,
    cause: Cause,
    /// Which parts have not been told yet that something new is about to be made.
    unannounced: Vec<bool>,
    /// Which parts had nothing that may leave, when asked last.
    barren: Vec<bool>,
    /// Takes any key where the policy finds none though there are some.
    any: Option<Box<dyn Policy>>,
    busy: Vec<Ref>,
}

impl Default for Evictor {
    fn default() -> Self {
        Evictor {
            chosen: None,
            leaving: None,
            cause: Cause::Command,
            unannounced: Vec::new(),
            barren: Vec::new(),
            any: None,
            busy: Vec::new(),
        }
    }
}

impl Evictor {
    /// Has evictions counted under a cause from now on.
    pub fn count_for(&mut self, cause: Cause) {
        self.cause = cause;
    }

    /// Gives the fields that a policy had back to Redis' clock, in [`Evictor::adopt`].
    pub fn give_back(&mut self, leaving: Option<Arc<Chosen>>) {
        self.leaving = leaving;
    }

    /// Whether fields are still to be given back.
    #[must_use]
    pub fn is_giving_back(&self) -> bool {
        self.leaving.is_some()
    }

    /// Evicts by a policy from now on.
    pub fn follow(&mut self, chosen: Option<Arc<Chosen>>) {
        if self.chosen.as_ref().map(Arc::as_ptr) == chosen.as_ref().map(Arc::as_ptr) {
            return;
        }
        let parts = chosen.as_ref().map_or(0, |chosen| chosen.parts.len());
        self.unannounced = vec![true; parts];
        self.barren = vec![false; parts];
        self.any = chosen.as_ref().map(|chosen| Kind::Random.make(chosen.choice.scope, 0));
        self.chosen = chosen;
    }

    /// Whether there is a policy.
    #[must_use]
    pub fn has_policy(&self) -> bool {
        self.chosen.is_some()
    }

    /// Whether any key may leave. O(shards) where none may, else less.
    #[must_use]
    pub fn may_evict(&self, keyspace: &Keyspace) -> bool {
        let Some(chosen) = &self.chosen else { return false };
        may_any_leave(keyspace, chosen, &keyspace.numbered_tables().collect::<SmallVec<[_; 4]>>())
    }

    /// Whether what the class whose policy this is takes is not counted yet: [`Evictor::adopt`] does so.
    #[must_use]
    pub fn has_to_count(&self) -> bool {
        self.chosen.as_ref().and_then(|chosen| chosen.room.as_ref()).is_some_and(Room::has_to_count)
    }

    /// By how many bytes the class whose policy this is takes more than it may.
    #[must_use]
    pub fn bytes_over_share(&self) -> usize {
        let room = self.chosen.as_ref().and_then(|chosen| chosen.room.as_ref());
        room.map_or(0, |room| room.bytes().saturating_sub(room.limit()))
    }

    /// Something is about to be made that needs room: what was made last may leave for it.
    pub fn arriving(&mut self) {
        self.unannounced.fill(true);
        self.barren.fill(false);
    }

    /// Removes keys, those the policy names, of the part of the keyspace that holds the most, until `bytes` are free or
    /// `count` keys were looked for. The caller holds no shard. O(1) amortised, a microsecond a key.
    pub fn evict(&mut self, keyspace: &Keyspace, local: &mut Local, bytes: usize, count: u32) -> Evicted {
        let Evictor { chosen: Some(chosen), cause, unannounced, barren, any, busy, .. } = self else {
            return Evicted::Nothing;
        };
        let tables: SmallVec<[_; 4]> = keyspace.numbered_tables().collect();
        let (mut round, before) = (Round { bytes, freed: 0, left: count }, local.stats.evicted.get());
        while round.left > 0 && round.freed < bytes {
            let candidates = chosen.parts.iter().enumerate().filter(|(number, _)| !barren[*number]);
            let fullest = candidates.max_by_key(|(_, part)| part.entries.load(Relaxed));
            match fullest {
                Some((number, part)) => {
                    let is_new = std::mem::take(&mut unannounced[number]);
                    let place = Place { keyspace, chosen, number, part, tables: &tables };
                    barren[number] = evict_from(place, is_new, local, busy, &mut round);
                }
                None => {
                    barren.fill(false);
                    round.left -= 1;
                    match evict_any(keyspace, chosen, any.as_deref_mut(), &tables, local, busy) {
                        Evicted::Bytes(more) => round.freed += more,
                        Evicted::NotYet => {}
                        Evicted::Nothing if round.freed == 0 => return Evicted::Nothing,
                        Evicted::Nothing => break,
                    }
                }
            }
        }
        let evicted = local.stats.evicted.get() - before;
        local.stats.evicted_for[*cause as usize].add(evicted);
        if round.freed > 0 { Evicted::Bytes(round.freed) } else { Evicted::NotYet }
    }

    /// Files some of the keys that were there before the policy was. True when all are, or others are at it. The caller
    /// holds no shard.
    pub fn adopt(&mut self, keyspace: &Keyspace, local: &mut Local) -> bool {
        let is_leaving = self.chosen.is_none();
        let Some(chosen) = self.chosen.as_ref().or(self.leaving.as_ref()) else { return true };
        let tables: SmallVec<[_; 4]> = keyspace.numbered_tables().collect();
        let mut is_done = chosen.count_some(&tables);
        for (number, part) in chosen.parts.iter().enumerate() {
            let Some(mut state) = part.state.try_lock() else { continue };
            if state.adoption.is_none() {
                continue;
            }
            self.busy.clear();
            let mut view =
                View::new(chosen, number, &tables, local.now.0, part.entries.load(Relaxed), &mut self.busy);
            is_done &= adopt_some(&mut state, &mut view, ADOPTED_BUCKETS, local);
            drop(state);
            for at in self.busy.drain(..) {
                local.uses.missed(chosen.class, number, at);
            }
        }
        if is_done && is_leaving {
            self.leaving = None;
        }
        is_done
    }

    /// Has the policy of each part look around, while nothing has to leave. A part whose lock is taken does not. Answers
    /// whether one has more to put in order than usual.
    pub fn observe(&mut self, keyspace: &Keyspace, local: &mut Local) -> bool {
        let Some(chosen) = &self.chosen else { return false };
        let mut is_cluttered = false;
        let tables: SmallVec<[_; 4]> = keyspace.numbered_tables().collect();
        for (number, part) in chosen.parts.iter().enumerate() {
            let Some(mut state) = part.state.try_lock() else { continue };
            local.uses.absorbed_by(chosen.class, number, &mut state);
            self.busy.clear();
            let (now, entries) = (local.now.0, part.entries.load(Relaxed));
            let mut view = View::new(chosen, number, &tables, now, entries, &mut self.busy);
            state.policy.observe(&mut view);
            is_cluttered |= state.policy.is_cluttered(entries);
            drop(state);
            for at in self.busy.drain(..) {
                local.uses.missed(chosen.class, number, at);
            }
        }
        is_cluttered
    }
}

fn may_any_leave(keyspace: &Keyspace, chosen: &Chosen, tables: &[(u32, &DbTable)]) -> bool {
    if let Some(room) = &chosen.room {
        return room.keys() > 0;
    }
    // Keys of classes are none of this policy's; how many of them have an end is not known, so all are taken to.
    let mut others = keyspace.keys_of_classes();
    let may_leave = |table: &DbTable, shard| match chosen.choice.scope {
        Scope::All => table.shard_len(shard),
        Scope::Timed => table.shard_len_with_deadline(shard),
    };
    tables.iter().any(|(_, table)| {
        (0..table.shards()).any(|shard| {
            let left = may_leave(table, shard).saturating_sub(others);
            others = others.saturating_sub(may_leave(table, shard));
            left > 0
        })
    })
}

/// What one call is to free, has freed, and how many keys more it looks for.
struct Round {
    bytes: usize,
    freed: usize,
    left: u32,
}

/// A part of the keyspace and its policy.
#[derive(Clone, Copy)]
struct Place<'a, 'k> {
    keyspace: &'k Keyspace,
    chosen: &'a Chosen,
    number: usize,
    part: &'a Part,
    tables: &'a [(u32, &'k DbTable)],
}

/// Removes keys that the policy of a part names. `is_new`: something is about to be made that needs room. True where nothing
/// of the part may leave.
fn evict_from(
    place: Place<'_, '_>,
    is_new: bool,
    local: &mut Local,
    busy: &mut Vec<Ref>,
    round: &mut Round,
) -> bool {
    let Place { keyspace, chosen, number, part, tables } = place;
    let mut state = part.state.lock();
    if is_new {
        state.policy.arriving();
    }
    local.uses.absorbed_by(chosen.class, number, &mut state);
    busy.clear();
    let mut view = View::new(chosen, number, tables, local.now.0, part.entries.load(Relaxed), busy);
    let mut has_any = true;
    while has_any && round.left > 0 && round.freed < round.bytes {
        round.left -= 1;
        if state.adoption.is_some() {
            adopt_some(&mut state, &mut view, ADOPTED_BUCKETS, local);
        }
        match step(&mut state, &mut view) {
            Step::Evict(at) => {
                view.entries = view.entries.saturating_sub(1);
                part.entries.store(view.entries, Relaxed);
                let held = view.take_held(at);
                // What is told of a removal may wait for other locks, so nobody is to wait for this one meanwhile.
                drop(state);
                let evicted = match held {
                    Some(held) => remove(keyspace, held, local),
                    None => remove_named(keyspace, chosen, number, tables, at, local),
                };
                if let Evicted::Bytes(more) = evicted {
                    round.freed += more;
                }
                if round.left == 0 || round.freed >= round.bytes {
                    break;
                }
                state = part.state.lock();
                view.entries = part.entries.load(Relaxed);
            }
            Step::More => {}
            Step::Nothing => has_any = false,
        }
    }
    for at in busy.drain(..) {
        local.uses.missed(chosen.class, number, at);
    }
    !has_any
}

/// Has a policy choose.
#[inline]
fn step(state: &mut State, view: &mut View<'_, '_>) -> Step {
    for _ in 0..STEPS_MAX {
        match state.policy.step(view) {
            Step::More => {}
            step => return step,
        }
    }
    Step::More
}

/// No policy names a victim. Where there are keys that may leave nevertheless, such as those that are not filed
/// yet, any of them does.
fn evict_any(
    keyspace: &Keyspace,
    chosen: &Chosen,
    any: Option<&mut (dyn Policy + 'static)>,
    tables: &[(u32, &DbTable)],
    local: &mut Local,
    busy: &mut Vec<Ref>,
) -> Evicted {
    let Some(any) = any else { return Evicted::Nothing };
    if !may_any_leave(keyspace, chosen, tables) {
        return Evicted::Nothing;
    }
    let parts = chosen.parts.len();
    let first = local.random() as usize % parts;
    for number in (0..parts).map(|step| (first + step) % parts) {
        let entries = chosen.parts[number].entries.load(Relaxed);
        busy.clear();
        let mut view = View::new(chosen, number, tables, local.now.0, entries, busy);
        for _ in 0..STEPS_MAX {
            match any.step(&mut view) {
                Step::Evict(at) => {
                    return remove_named(keyspace, chosen, number, tables, at, local);
                }
                Step::More => {}
                Step::Nothing => break,
            }
        }
    }
    Evicted::NotYet
}

/// Removes the key of a reference. One that cannot be had at the moment is filed again.
fn remove_named(
    keyspace: &Keyspace,
    chosen: &Chosen,
    part: usize,
    tables: &[(u32, &DbTable)],
    at: Ref,
    local: &mut Local,
) -> Evicted {
    match find(chosen, part, tables, at) {
        Found::Held(held) => remove(keyspace, held, local),
        Found::Busy => {
            local.uses.made_later(chosen.class, part, at);
            Evicted::NotYet
        }
        Found::Gone => Evicted::NotYet,
    }
}

/// Removes the key at hand.
fn remove(keyspace: &Keyspace, held: Held<'_>, local: &mut Local) -> Evicted {
    let Held { table: (number, table), pinned, .. } = held;
    let (db, hash, entry) = (keyspace.database_of(number), pinned.hash(), pinned.entry());
    save_first((table, db), pinned.shard(), local, hash);
    let is_over = entry.deadline().is_some_and(|deadline| deadline <= local.now.0);
    let cause = if is_over { Removal::Expired } else { Removal::Evicted };
    // All is told before the entry goes, which has the key; its shard is locked until both are done.
    local.insight.removed(hash, cause, local.now);
    local.uses.evicted(number, hash, &entry);
    if is_over {
        crate::db::expired(local, db, entry.key());
    } else {
        local.stats.evicted.add(1);
        if local.effects.log.is_on() {
            local.effects.log.removed(db, entry.key(), local.lazy_free.evicted);
        }
        local.effects.changed_by(db, Event::EVICTED, || entry.key());
    }
    let removed = table.evict(local, pinned);
    let bytes = removed.size + removed.boxed.as_ref().map_or(0, Object::bytes);
    discard(local, removed.boxed, cause);
    Evicted::Bytes(bytes)
}
