//! What a thread records of the uses of keys, for whichever policies are in force: one for all keys, and one for each class of keys
//! that has room of its own.
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

/// What is recorded for one policy.
#[derive(Debug, Default)]
struct Followed {
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
}

/// A thread's records.
#[derive(Debug, Default)]
pub struct Uses {
    /// For the policy of the keys that are of no class.
    rest: Followed,
    /// For the policies of the classes, in their order.
    classes: Vec<Followed>,
    /// What is known from before a restart of the key that is made next.
    recalled: Option<u32>,
    busy: Vec<Ref>,
}

impl Followed {
    fn new(chosen: Option<Arc<Chosen>>, seed: u64) -> Followed {
        let Some(chosen) = chosen else { return Followed::default() };
        let kind = chosen.choice.kind;
        Followed {
            hits: (0..chosen.parts.len() as u64).map(|part| kind.hits(seed ^ part)).collect(),
            notes: Vec::new(),
            is_told: kind.is_told(),
            is_timed: chosen.choice.scope == Scope::Timed,
            has_fields: kind.has_fields(),
            chosen: Some(chosen),
        }
    }

    fn follows(&self, chosen: Option<&Arc<Chosen>>) -> bool {
        self.chosen.as_ref().map(Arc::as_ptr) == chosen.map(Arc::as_ptr)
    }

    #[inline]
    fn with_hits<R>(&mut self, table: u32, hash: u64, act: impl FnOnce(&mut Hits, Ref) -> R) -> Option<R> {
        let (part, at) = self.chosen.as_ref()?.place(table, hash);
        self.hits.get_mut(part).map(|hits| act(hits, at))
    }

    /// Files a key that was made, or got an end where only keys with one may leave. Writes its field. `kept`: what is known of it
    /// from before a restart.
    fn file(&mut self, table: u32, hash: u64, entry: &Entry<'_, Object>, kept: Option<u32>) {
        let Some(chosen) = &self.chosen else { return };
        let (part, at) = chosen.place(table, hash);
        let Some(of_part) = chosen.parts.get(part) else { return };
        if self.is_timed && entry.deadline().is_none() {
            return;
        }
        // Only while a file is loaded is the lock waited for: a note would not say what is known.
        let state = if kept.is_some() { Some(of_part.state.lock()) } else { of_part.state.try_lock() };
        let Some(mut state) = state else {
            self.notes.push(Note::Made { part: part as u32, at });
            return;
        };
        let bytes = bytes_of(entry);
        let field = match kept {
            Some(kept) => state.policy.recall(at, bytes, kept),
            None => state.policy.created(at, bytes),
        };
        if self.has_fields {
            entry.set_access(field);
        }
        of_part.entries.store(of_part.entries.load(Relaxed) + 1, Relaxed);
        if let Some(hits) = self.hits.get_mut(part) {
            state.policy.absorb(hits);
        }
    }

    #[cold]
    fn note(&mut self, table: u32, hash: u64, note: impl FnOnce(u32, Ref) -> Note) {
        let Some(chosen) = &self.chosen else { return };
        let (part, at) = chosen.place(table, hash);
        self.notes.push(note(part as u32, at));
    }

    /// Counts that an entry of a class changed by so much.
    fn change(&self, hash: u64, keys: isize, bytes: isize) {
        if let Some(chosen) = &self.chosen
            && let Some(room) = &chosen.room
        {
            room.change(chosen.shard_of(hash), keys, bytes);
        }
    }

    /// Takes hits in under the lock of a part.
    fn absorbed_by(&mut self, part: usize, state: &mut State) {
        if let Some(hits) = self.hits.get_mut(part) {
            state.policy.absorb(hits);
        }
    }

    /// Whether there is something to be told that is worth it.
    #[inline]
    fn has_news(&self) -> bool {
        !self.notes.is_empty() || self.hits.iter().any(|hits| hits.count() >= HITS_WORTH)
    }

    #[inline(never)]
    fn tell_all(&mut self, keyspace: &Keyspace, now: Millis, busy: &mut Vec<Ref>) {
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
            busy.clear();
            let mut view = View::new(&chosen, number, &tables, now.0, part.entries.load(Relaxed), busy);
            self.notes.retain(|note| !is_noted(note) || !tell_one(note, &mut state, &mut view, has_fields));
            // A field that could not be written: what was filed under it is none of this entry's.
            let missed = busy.drain(..).map(|at| Note::Missed { part: number as u32, at });
            self.notes.extend(missed);
        }
    }
}

impl Uses {
    /// Records for a policy from now on, and for those of the classes.
    pub fn follow(&mut self, chosen: Option<Arc<Chosen>>, classes: &[Arc<Chosen>], seed: u64) {
        if !self.rest.follows(chosen.as_ref()) {
            self.rest = Followed::new(chosen, seed);
        }
        let is_same = self.classes.len() == classes.len()
            && self.classes.iter().zip(classes).all(|(followed, class)| followed.follows(Some(class)));
        if !is_same {
            let class = |class: &Arc<Chosen>| Followed::new(Some(Arc::clone(class)), seed);
            self.classes = classes.iter().map(class).collect();
        }
    }

    /// The policy that is followed for keys of no class.
    #[must_use]
    pub fn choice(&self) -> Option<Choice> {
        self.rest.chosen.as_ref().map(|chosen| chosen.choice)
    }

    /// Whether access fields of entries of no class are the policy's.
    #[must_use]
    pub fn has_fields(&self) -> bool {
        self.rest.has_fields
    }

    /// Whether there are classes.
    #[inline]
    pub(crate) fn has_classes(&self) -> bool {
        !self.classes.is_empty()
    }

    /// Whether the access field of a key of a class is its policy's; `None` for keys of no class.
    pub(crate) fn has_fields_by_class(&self, table: u32, key: &[u8]) -> Option<bool> {
        match self.class_of(table, key) {
            0 => None,
            class => self.classes.get(class - 1).map(|class| class.has_fields),
        }
    }

    /// Whether uses of keys of no class are recorded for this policy.
    pub(super) fn follows(&self, chosen: &Arc<Chosen>) -> bool {
        self.rest.follows(Some(chosen))
    }

    #[inline]
    fn class_of(&self, table: u32, key: &[u8]) -> usize {
        match self.classes.first().and_then(|class| class.chosen.as_ref()) {
            None => 0,
            Some(chosen) => chosen.classes.of(table, key),
        }
    }

    #[inline]
    fn followed(&mut self, table: u32, key: &[u8]) -> &mut Followed {
        match self.class_of(table, key) {
            0 => &mut self.rest,
            class => self.of_class(class),
        }
    }

    fn of_class(&mut self, class: usize) -> &mut Followed {
        match class.checked_sub(1).and_then(|at| self.classes.get_mut(at)) {
            Some(class) => class,
            None => &mut self.rest,
        }
    }

    /// Whether a policy is to hear of new entries.
    #[inline]
    pub(crate) fn is_followed(&self) -> bool {
        self.rest.chosen.is_some() || self.has_classes()
    }

    /// Whether an entry's size before and after a change is of interest.
    #[inline]
    pub(crate) fn asks_for_sizes(&self) -> bool {
        self.rest.is_told || self.has_classes()
    }

    /// Whether the end of an entry that comes or goes is of interest.
    #[inline]
    pub(crate) fn asks_for_ends(&self) -> bool {
        self.rest.is_timed || self.has_classes()
    }

    /// A key of no class was read: its new field.
    #[inline]
    pub(crate) fn read(&mut self, table: u32, hash: u64, field: u32) -> u32 {
        self.rest.with_hits(table, hash, |hits, at| hits.read(at, field)).unwrap_or(field)
    }

    /// A key of no class was written: its new field.
    #[inline]
    pub(crate) fn wrote(&mut self, table: u32, hash: u64, field: u32) -> u32 {
        self.rest.with_hits(table, hash, |hits, at| hits.wrote(at, field)).unwrap_or(field)
    }

    /// A key of a class whose policy has fields was read or written: its new field.
    pub(crate) fn touched(
        &mut self,
        table: u32,
        (hash, key): (u64, &[u8]),
        field: u32,
        is_read: bool,
    ) -> u32 {
        let act = |hits: &mut Hits, at| if is_read { hits.read(at, field) } else { hits.wrote(at, field) };
        self.followed(table, key).with_hits(table, hash, act).unwrap_or(field)
    }

    /// What is known from before a restart of the key that is made next: see [`Policy::recall`](larder_policy::Policy::recall). The
    /// caller asks [`Uses::has_recalled`] behind it.
    pub fn recall_next(&mut self, kept: Option<u32>) {
        self.recalled = kept;
    }

    /// Whether what was known of the key that was made last is its policy's now.
    pub fn has_recalled(&mut self) -> bool {
        self.recalled.take().is_none()
    }

    /// A key was made. Writes its field.
    #[inline]
    pub(crate) fn made(&mut self, table: u32, hash: u64, entry: &Entry<'_, Object>) {
        if self.has_classes() {
            self.made_in_class(table, hash, entry);
        } else {
            let kept = self.recalled.take();
            self.rest.file(table, hash, entry, kept);
        }
    }

    #[inline(never)]
    fn made_in_class(&mut self, table: u32, hash: u64, entry: &Entry<'_, Object>) {
        let kept = self.recalled.take().filter(|_| self.class_of(table, entry.key()) == 0);
        let followed = self.followed(table, entry.key());
        followed.change(hash, 1, bytes_of(entry) as isize);
        followed.file(table, hash, entry, kept);
    }

    /// A key was made in the place of one whose time was over and that took so much. Writes its field.
    pub(crate) fn made_again(&mut self, table: u32, hash: u64, before: u32, entry: &Entry<'_, Object>) {
        let followed = self.followed(table, entry.key());
        followed.change(hash, 0, bytes_of(entry) as isize - before as isize);
        followed.file(table, hash, entry, None);
    }

    /// A key was removed, other than by eviction.
    #[inline]
    pub(crate) fn removed(&mut self, table: u32, hash: u64, key: &[u8], removed: &Removed<Object>) {
        if self.asks_for_sizes() {
            let seen = Seen {
                field: removed.access,
                bytes: bytes_of_removed(removed),
                deadline: removed.deadline.unwrap_or(u64::MAX),
                is_over: false,
            };
            self.left(table, hash, key, seen);
        }
    }

    /// As [`Uses::removed`], where the hash is not at hand.
    #[inline]
    pub(crate) fn removed_key(&mut self, table: &DbTable, key: &[u8], removed: &Removed<Object>) {
        if self.asks_for_sizes() {
            self.removed(table.number, table.hash(key), key, removed);
        }
    }

    /// As [`Uses::removed`], for one that looked so.
    pub(crate) fn left(&mut self, table: u32, hash: u64, key: &[u8], seen: Seen) {
        let followed = self.followed(table, key);
        followed.change(hash, -1, -(seen.bytes as isize));
        if followed.is_told && (!followed.is_timed || seen.is_timed()) {
            followed.note(table, hash, |part, at| Note::Removed { part, at, seen });
        }
    }

    /// A key is evicted.
    #[inline]
    pub(crate) fn evicted(&mut self, table: u32, hash: u64, entry: &Entry<'_, Object>) {
        if self.has_classes() {
            let followed = self.followed(table, entry.key());
            followed.change(hash, -1, -(bytes_of(entry) as isize));
            let room = followed.chosen.as_ref().and_then(|chosen| chosen.room.as_ref());
            room.map(|room| room.evicted.fetch_add(1, Relaxed));
        }
    }

    /// A key got an end, or lost it.
    pub(crate) fn end_changed(&mut self, table: u32, hash: u64, entry: &Entry<'_, Object>) {
        let followed = self.followed(table, entry.key());
        if !followed.is_timed {
            return;
        }
        if entry.deadline().is_some() {
            followed.file(table, hash, entry, None);
        } else if followed.is_told {
            let seen = seen(entry, 0);
            followed.note(table, hash, |part, at| Note::Removed { part, at, seen });
        }
    }

    /// A key's size changed, perhaps.
    pub(crate) fn resized(&mut self, table: u32, hash: u64, before: u32, entry: &Entry<'_, Object>) {
        let (field, after) = (entry.access(), bytes_of(entry));
        if before == after {
            return;
        }
        let followed = self.followed(table, entry.key());
        followed.change(hash, 0, after as isize - before as isize);
        if followed.is_told && (!followed.is_timed || entry.deadline().is_some()) {
            followed.note(table, hash, |part, _| Note::Resized { part, field, before, after });
        }
    }

    /// An entry of a class that was to leave could not be had: its reference is filed again later.
    pub(super) fn made_later(&mut self, class: usize, part: usize, at: Ref) {
        self.of_class(class).notes.push(Note::Made { part: part as u32, at });
    }

    /// The reference of an entry was dropped, since the entry could not be looked at: it is filed again later.
    pub(super) fn missed(&mut self, class: usize, part: usize, at: Ref) {
        self.of_class(class).notes.push(Note::Missed { part: part as u32, at });
    }

    /// Takes hits in under the lock of a part.
    pub(super) fn absorbed_by(&mut self, class: usize, part: usize, state: &mut State) {
        self.of_class(class).absorbed_by(part, state);
    }

    /// Tells the policies what they have not heard yet. The caller holds no shard. A part whose lock is taken hears it next time.
    #[inline]
    pub fn tell(&mut self, keyspace: &Keyspace, now: Millis) {
        if self.rest.has_news() {
            self.rest.tell_all(keyspace, now, &mut self.busy);
        }
        for class in &mut self.classes {
            if class.has_news() {
                class.tell_all(keyspace, now, &mut self.busy);
            }
        }
    }

    fn chosen(&self, table: u32, key: &[u8]) -> Option<&Arc<Chosen>> {
        match self.class_of(table, key) {
            0 => self.rest.chosen.as_ref(),
            class => self.classes.get(class - 1)?.chosen.as_ref(),
        }
    }

    /// How long ago a key was used, by its field; `None` where the policy's fields do not tell.
    pub(crate) fn idle_ms(
        &self,
        table: u32,
        (hash, key): (u64, &[u8]),
        field: u32,
        now: Millis,
    ) -> Option<u64> {
        let chosen = self.chosen(table, key)?;
        chosen.parts.get(chosen.place(0, hash).0)?.state.lock().marks.idle_ms(field, now)
    }

    /// The field of a key that was used so long ago.
    pub(crate) fn used_before(
        &self,
        table: u32,
        (hash, key): (u64, &[u8]),
        field: u32,
        idle_ms: u64,
        now: Millis,
    ) -> Option<u32> {
        let chosen = self.chosen(table, key)?;
        chosen.parts.get(chosen.place(0, hash).0)?.state.lock().marks.used_before(field, idle_ms, now)
    }
}

/// What an entry took of the limit.
pub(super) fn bytes_of_removed(removed: &Removed<Object>) -> u32 {
    let bytes = removed.size + removed.boxed.as_ref().map_or(0, Object::memory);
    u32::try_from(bytes).unwrap_or(u32::MAX)
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
