//! How a policy sees its part of the keyspace: entries of all databases, under the locks of their shards, each taken for
//! one look.

use super::Chosen;
use crate::field_ends::DbTable;
use crate::item::Item;
use crate::object::Object;
use larder_policy::{Entries, Passing, Ref, Scope, Seen, Shown};
use larder_table::{AT_ONCE, Entry, Hand, Passed, Pinned};

/// A policy's part of the keyspace.
pub(super) struct View<'a, 'k> {
    pub(super) chosen: &'a Chosen,
    pub(super) part: usize,
    pub(super) tables: &'a [(u32, &'k DbTable)],
    /// Unix milliseconds.
    pub(super) now: u64,
    /// Entries in the part that may leave, about.
    pub(super) entries: usize,
    /// Whether a walk stays before a shard that is taken, and whether it did.
    pub(super) stays: bool,
    pub(super) is_stuck: bool,
    /// What could not be looked at, since its shard was taken.
    pub(super) busy: &'a mut Vec<Ref>,
    /// The entry that was looked at last, until the next call.
    held: Option<Held<'k>>,
}

/// An entry in its locked shard.
pub(super) struct Held<'k> {
    pub(super) at: Ref,
    /// The number of its table, and that.
    pub(super) table: (u32, &'k DbTable),
    pub(super) pinned: Pinned<'k, Object>,
}

/// What a policy sees of an entry.
#[inline]
pub(crate) fn seen(entry: &Entry<'_, Object>, now: u64) -> Seen {
    let deadline = entry.deadline().unwrap_or(u64::MAX);
    Seen { field: entry.access(), bytes: bytes_of(entry), deadline, is_over: deadline <= now }
}

/// What an entry takes of the limit.
#[inline]
pub(crate) fn bytes_of(entry: &Entry<'_, Object>) -> u32 {
    let bytes = if entry.is_boxed() { Item::new(*entry).memory() } else { entry.size() };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Entries that a walk comes past, of which the hashes are not known.
struct Walked<'w> {
    chosen: &'w Chosen,
    number: u32,
    table: &'w DbTable,
    entries: &'w Passed<'w, Object>,
    /// Which of them is the first that is shown.
    first: usize,
}

impl Passing for Walked<'_> {
    fn at(&self, index: usize) -> Ref {
        self.chosen.place(self.number, self.table.hash(self.entries.get(self.first + index).key())).1
    }

    fn set_field(&self, index: usize, field: u32) {
        self.entries.get(self.first + index).set_access(field);
    }
}

/// Shows what a walk comes past, as far as the policy is for it.
#[inline]
fn show_passed(
    (chosen, number, table): (&Chosen, u32, &DbTable),
    entries: &Passed<'_, Object>,
    now: u64,
    show: &mut dyn FnMut(&[Seen], &dyn Passing),
) {
    if chosen.classes.is_empty() {
        let mut all = [Seen::default(); AT_ONCE];
        let mut len = 0;
        for (place, entry) in all.iter_mut().zip(entries.iter()) {
            (*place, len) = (seen(&entry, now), len + 1);
        }
        show(&all[..len], &Walked { chosen, number, table, entries, first: 0 });
        return;
    }
    for (first, entry) in entries.iter().enumerate() {
        if chosen.has(number, entry.key()) {
            show(&[seen(&entry, now)], &Walked { chosen, number, table, entries, first });
        }
    }
}

impl<'a, 'k> View<'a, 'k> {
    /// A view that passes over what is taken, at `now`, Unix ms; `entries` may leave, about.
    pub(super) fn new(
        chosen: &'a Chosen,
        part: usize,
        tables: &'a [(u32, &'k DbTable)],
        now: u64,
        entries: usize,
        busy: &'a mut Vec<Ref>,
    ) -> Self {
        View { chosen, part, tables, now, entries, stays: false, is_stuck: false, busy, held: None }
    }

    /// The entry that was looked at last, if it is the one of this reference; it is this one's no more.
    #[inline]
    pub(super) fn take_held(&mut self, at: Ref) -> Option<Held<'k>> {
        self.held.take().filter(|held| held.at == at)
    }

    /// Walks where there are several tables: each goes as far as its next bucket; what lies before the nearest end of these is shown.
    fn walk_tables(&mut self, start: u64, hand: Hand, show: &mut dyn FnMut(&[Seen], &dyn Passing)) -> u32 {
        let (chosen, part, now) = (self.chosen, self.part, self.now);
        let mut found = Vec::new();
        let nexts = self.tables.iter().map(|(number, table)| {
            table.walk(start, hand, &mut |_, entries| {
                let own = entries.iter().filter(|entry| chosen.has(*number, entry.key()));
                found.extend(own.map(|entry| (table.hash(entry.key()), *number, seen(&entry, now))));
            })
        });
        let next = nexts.flatten().min();
        self.is_stuck |= self.stays && next == Some(start);
        let is_before = |hash: u64| hash >= start && next.is_none_or(|next| hash < next);
        let found = found.into_iter().filter(|(hash, _, _)| is_before(*hash));
        let placed = found.map(|(hash, number, seen)| (chosen.place(number, hash), seen));
        let mut shown: Shown =
            placed.filter(|((of_part, _), _)| *of_part == part).map(|((_, at), seen)| (at, seen)).collect();
        for (at, field) in shown.to(show) {
            self.set_field(at, field);
        }
        self.position(next)
    }

    /// The reference at which a walk goes on from a hash; 0 outside of the part.
    fn position(&self, hash: Option<u64>) -> u32 {
        match hash.map(|hash| self.chosen.place(0, hash)) {
            Some((part, at)) if part == self.part => at.0,
            _ => 0,
        }
    }
}

impl Entries for View<'_, '_> {
    fn look(&mut self, at: Ref) -> Option<Seen> {
        // What is held goes first: it may be in the same shard.
        self.held = None;
        match find(self.chosen, self.part, self.tables, at) {
            Found::Held(held) => {
                let seen = seen(&held.pinned.entry(), self.now);
                self.held = Some(held);
                Some(seen)
            }
            Found::Busy => {
                self.busy.push(at);
                None
            }
            Found::Gone => None,
        }
    }

    fn set_field(&mut self, at: Ref, field: u32) {
        if self.held.as_ref().is_some_and(|held| held.at == at) || self.look(at).is_some() {
            let held = self.held.take();
            held.iter().for_each(|held| held.pinned.entry().set_access(field));
        }
    }

    fn walk(&mut self, from: u32, show: &mut dyn FnMut(&[Seen], &dyn Passing)) -> u32 {
        self.held = None;
        let (chosen, part, now) = (self.chosen, self.part, self.now);
        let (start, _) = chosen.prefix(part, 0, Ref(from));
        let hand = Hand { stays: self.stays, timed_only: chosen.choice.scope == Scope::Timed };
        let [(number, table)] = self.tables else { return self.walk_tables(start, hand, show) };
        let (number, table) = (*number, *table);
        let next = table.walk(start, hand, &mut |lowest, entries| {
            // A shard is of one part.
            if chosen.place(number, lowest).0 == part {
                show_passed((chosen, number, table), entries, now, show);
            }
        });
        self.is_stuck |= self.stays && next == Some(start);
        self.position(next)
    }

    fn len(&self) -> usize {
        self.entries
    }
}

/// What came of a search.
pub(super) enum Found<'k> {
    /// The entry, in its locked shard.
    Held(Held<'k>),
    /// Its shard is taken.
    Busy,
    /// There is none.
    Gone,
}

/// Finds the entry of a reference in the first database that has it, and locks its shard.
pub(super) fn find<'k>(chosen: &Chosen, part: usize, tables: &[(u32, &'k DbTable)], at: Ref) -> Found<'k> {
    for (number, table) in tables.iter().copied() {
        let (prefix, bits) = chosen.prefix(part, number, at);
        let shard = table.shard_of(prefix);
        if table.shard_len(shard) == 0 {
            continue;
        }
        let Some(shard) = table.try_lock_for_a_moment(shard) else { return Found::Busy };
        if let Some(pinned) = shard.pin_by_prefix(prefix, bits)
            && (chosen.classes.is_empty() || chosen.has(number, pinned.entry().key()))
        {
            return Found::Held(Held { at, table: (number, table), pinned });
        }
    }
    Found::Gone
}
