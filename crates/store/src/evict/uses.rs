//! What a thread records of the uses of keys, for whichever policy is in force.
//!
//! Invariant: a hit touches the entry's field and this thread's memory, nothing else. Notes hold what is to be told to a
//! policy whose lock was taken, and are told at the end of the turn.

use super::view::{View, bytes_of, seen};
use super::{Choice, Chosen, State};
use crate::field_ends::DbTable;
use crate::keyspace::Keyspace;
use crate::local::Millis;
use crate::object::Object;
use larder_policy::{Entries, Hits, Ref, Scope, Seen};
use larder_table::{Entry, Removed};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Notes kept while a part's lock is taken, before it is waited for.
const NOTES_MAX: usize = 1024;
/// Hits of a part that are worth telling the policy of.
const HITS_WORTH: u32 = 32;

/// What a policy is still to be told.
#[derive(Debug, Clone, Copy)]
enum Note {
    /// An entry was made.
    Made { part: u32, at: Ref },
    /// An entry could not be looked at when its turn came, and its reference was dropped.
    Missed { part: u32, at: Ref },
    /// An entry left.
    Removed { part: u32, at: Ref, seen: Seen },
    /// An entry's size changed.
    Resized { part: u32, field: u32, before: u32, after: u32 },
}

/// A thread's records.
#[derive(Debug, Default)]
pub struct Uses {
    chosen: Option<Arc<Chosen>>,
    /// One for each part.
    hits: Vec<Hits>,
    notes: Vec<Note>,
    /// Whether the policy is to hear of removals and sizes.
    is_told: bool,
    /// Whether the policy is to hear of ends that are set and taken away.
    is_timed: bool,
    /// Whether fields are the policy's; else they are the clock of Redis' LRU.
    has_fields: bool,
    busy: Vec<Ref>,
}

impl Uses {
    /// Records for a policy from now on.
    pub fn follow(&mut self, chosen: Option<Arc<Chosen>>, seed: u64) {
        if self.chosen.as_ref().map(Arc::as_ptr) == chosen.as_ref().map(Arc::as_ptr) {
            return;
        }
        self.notes = Vec::new();
        self.hits = Vec::new();
        (self.is_told, self.is_timed, self.has_fields) = (false, false, false);
        if let Some(chosen) = &chosen {
            let kind = chosen.choice.kind;
            self.hits = (0..chosen.parts.len() as u64).map(|part| kind.hits(seed ^ part)).collect();
            self.is_told = kind.is_told();
            self.is_timed = chosen.choice.scope == Scope::Timed;
            self.has_fields = kind.has_fields();
        }
        self.chosen = chosen;
    }

    /// The policy that is followed.
    #[must_use]
    pub fn choice(&self) -> Option<Choice> {
        self.chosen.as_ref().map(|chosen| chosen.choice)
    }

    /// Whether entries' access fields are the policy's.
    #[must_use]
    pub fn has_fields(&self) -> bool {
        self.has_fields
    }

    /// Whether a policy is to hear of new entries.
    #[inline]
    pub(crate) fn is_followed(&self) -> bool {
        self.chosen.is_some()
    }

    /// Whether an entry's size before and after a change is of interest.
    #[inline]
    pub(crate) fn asks_for_sizes(&self) -> bool {
        self.is_told
    }

    /// Whether the end of an entry that comes or goes is of interest.
    #[inline]
    pub(crate) fn asks_for_ends(&self) -> bool {
        self.is_timed
    }

    /// A key was read: its new field.
    #[inline]
    pub(crate) fn read(&mut self, table: u32, hash: u64, field: u32) -> u32 {
        self.with_hits(table, hash, |hits, at| hits.read(at, field)).unwrap_or(field)
    }

    /// A key was written: its new field.
    #[inline]
    pub(crate) fn wrote(&mut self, table: u32, hash: u64, field: u32) -> u32 {
        self.with_hits(table, hash, |hits, at| hits.wrote(at, field)).unwrap_or(field)
    }

    #[inline]
    fn with_hits<R>(&mut self, table: u32, hash: u64, act: impl FnOnce(&mut Hits, Ref) -> R) -> Option<R> {
        let (part, at) = self.chosen.as_ref()?.place(table, hash);
        self.hits.get_mut(part).map(|hits| act(hits, at))
    }

    /// A key was made, or got an end where only keys with one may leave. Writes its field.
    pub(crate) fn made(&mut self, table: u32, hash: u64, entry: &Entry<'_, Object>) {
        let Some(chosen) = &self.chosen else { return };
        let (part, at) = chosen.place(table, hash);
        let Some(of_part) = chosen.parts.get(part) else { return };
        if self.is_timed && entry.deadline().is_none() {
            return;
        }
        let Some(mut state) = of_part.state.try_lock() else {
            self.notes.push(Note::Made { part: part as u32, at });
            return;
        };
        let field = state.policy.created(at, bytes_of(entry));
        if self.has_fields {
            entry.set_access(field);
        }
        of_part.entries.store(of_part.entries.load(Relaxed) + 1, Relaxed);
        if let Some(hits) = self.hits.get_mut(part) {
            state.policy.absorb(hits);
        }
    }

    /// A key was removed, other than by eviction.
    #[inline]
    pub(crate) fn removed(&mut self, table: u32, hash: u64, removed: &Removed<Object>) {
        if self.is_told {
            let bytes = removed.size + removed.boxed.as_ref().map_or(0, Object::bytes);
            let seen = Seen {
                field: removed.access,
                bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                deadline: removed.deadline.unwrap_or(u64::MAX),
                is_over: false,
            };
            self.left(table, hash, seen);
        }
    }

    /// As [`Uses::removed`], where the hash is not at hand.
    #[inline]
    pub(crate) fn removed_key(&mut self, table: &DbTable, key: &[u8], removed: &Removed<Object>) {
        if self.is_told {
            self.removed(table.number, table.hash(key), removed);
        }
    }

    /// As [`Uses::removed`], for one that looked so.
    pub(crate) fn left(&mut self, table: u32, hash: u64, seen: Seen) {
        if self.is_timed && !seen.is_timed() {
            return;
        }
        self.note(table, hash, |part, at| Note::Removed { part, at, seen });
    }

    /// A key lost its end, where only keys with one may leave.
    pub(crate) fn ends_no_more(&mut self, table: u32, hash: u64, entry: &Entry<'_, Object>) {
        let seen = seen(entry, 0);
        self.note(table, hash, |part, at| Note::Removed { part, at, seen });
    }

    /// A key's size changed.
    pub(crate) fn resized(&mut self, table: u32, hash: u64, before: u32, entry: &Entry<'_, Object>) {
        let (field, after) = (entry.access(), bytes_of(entry));
        let may_leave = !self.is_timed || entry.deadline().is_some();
        if before != after && may_leave {
            self.note(table, hash, |part, _| Note::Resized { part, field, before, after });
        }
    }

    #[cold]
    fn note(&mut self, table: u32, hash: u64, note: impl FnOnce(u32, Ref) -> Note) {
        let Some(chosen) = &self.chosen else { return };
        let (part, at) = chosen.place(table, hash);
        self.notes.push(note(part as u32, at));
    }

    /// An entry that was to leave could not be had: its reference is filed again later.
    pub(super) fn made_later(&mut self, part: usize, at: Ref) {
        self.notes.push(Note::Made { part: part as u32, at });
    }

    /// The reference of an entry was dropped, since the entry could not be looked at: it is filed again later.
    pub(super) fn missed(&mut self, part: usize, at: Ref) {
        self.notes.push(Note::Missed { part: part as u32, at });
    }

    /// Takes hits in under the lock of a part.
    pub(super) fn absorbed_by(&mut self, part: usize, state: &mut State) {
        if let Some(hits) = self.hits.get_mut(part) {
            state.policy.absorb(hits);
        }
    }

    /// Whether there is something to be told that is worth it.
    #[inline]
    fn has_news(&self) -> bool {
        !self.notes.is_empty() || self.hits.iter().any(|hits| hits.count() >= HITS_WORTH)
    }

    /// Tells the policy what it has not heard yet. The caller holds no shard. A part whose lock is taken hears it next time.
    #[inline]
    pub fn tell(&mut self, keyspace: &Keyspace, now: Millis) {
        if self.has_news() {
            self.tell_all(keyspace, now);
        }
    }

    #[inline(never)]
    fn tell_all(&mut self, keyspace: &Keyspace, now: Millis) {
        let Some(chosen) = self.chosen.clone() else { return };
        let (waits, has_fields) = (self.notes.len() > NOTES_MAX, self.has_fields);
        let mut tables = smallvec::SmallVec::<[_; 4]>::new();
        for (number, part) in chosen.parts.iter().enumerate() {
            let has_hits = self.hits.get(number).is_some_and(|hits| hits.count() >= HITS_WORTH);
            let is_noted = |note: &Note| note.part() as usize == number;
            if !has_hits && !self.notes.iter().any(is_noted) {
                continue;
            }
            let state = if waits { Some(part.state.lock()) } else { part.state.try_lock() };
            let Some(mut state) = state else { continue };
            self.absorbed_by(number, &mut state);
            if self.notes.is_empty() {
                continue;
            }
            if tables.is_empty() {
                tables.extend(keyspace.numbered_tables());
            }
            self.busy.clear();
            let mut view =
                View::new(&chosen, number, &tables, now.0, part.entries.load(Relaxed), &mut self.busy);
            self.notes.retain(|note| !is_noted(note) || !tell_one(note, &mut state, &mut view, has_fields));
            // A field that could not be written: what was filed under it is none of this entry's.
            let missed = self.busy.drain(..).map(|at| Note::Missed { part: number as u32, at });
            self.notes.extend(missed);
        }
    }

    /// How long ago a key was used, by its field; `None` where the policy's fields do not tell.
    #[must_use]
    pub fn idle_ms(&self, hash: u64, field: u32, now: Millis) -> Option<u64> {
        let chosen = self.chosen.as_ref()?;
        chosen.parts.get(chosen.place(0, hash).0)?.state.lock().marks.idle_ms(field, now)
    }

    /// The field of a key that was used so long ago.
    #[must_use]
    pub fn used_before(&self, hash: u64, field: u32, idle_ms: u64, now: Millis) -> Option<u32> {
        let chosen = self.chosen.as_ref()?;
        chosen.parts.get(chosen.place(0, hash).0)?.state.lock().marks.used_before(field, idle_ms, now)
    }
}

impl Note {
    fn part(&self) -> u32 {
        match self {
            Note::Made { part, .. }
            | Note::Missed { part, .. }
            | Note::Removed { part, .. }
            | Note::Resized { part, .. } => *part,
        }
    }
}

/// Tells a policy one thing. False where the entry cannot be had at the moment, and is to be told of later.
fn tell_one(note: &Note, state: &mut State, view: &mut View<'_, '_>, has_fields: bool) -> bool {
    match *note {
        Note::Removed { at, seen, .. } => state.policy.removed(at, seen),
        Note::Resized { field, before, after, .. } => state.policy.resized(field, before, after),
        Note::Made { at, .. } | Note::Missed { at, .. } => {
            let scope = view.chosen.choice.scope;
            match view.look(at) {
                Some(seen) if scope.has(&seen) => {
                    let field = match note {
                        Note::Missed { .. } => state.policy.refile(at, seen),
                        _ => state.policy.created(at, seen.bytes),
                    };
                    if has_fields {
                        view.set_field(at, field);
                    }
                }
                Some(_) => {}
                None => {
                    let is_busy = view.busy.contains(&at);
                    view.busy.retain(|busy| *busy != at);
                    return !is_busy;
                }
            }
        }
    }
    true
}
