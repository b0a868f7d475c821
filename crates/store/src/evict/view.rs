//! How a policy sees its part of the keyspace: entries of all databases, under the locks of their shards, each taken for
//! one look.

use super::Chosen;
use crate::field_ends::DbTable;
use crate::item::Item;
use crate::object::Object;
use larder_policy::{Entries, Glance, Passing, Ref, Scope, Seen, Shown};
use larder_table::{Entry, Hand, Shard, Spot};

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
    pub(super) shard: Shard<'k, Object>,
    pub(super) spot: Spot,
}

/// What a policy sees of an entry.
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

/// An entry that a walk comes past, of which the hash is not known.
struct Walked<'w> {
    chosen: &'w Chosen,
    number: u32,
    table: &'w DbTable,
    entry: &'w Entry<'w, Object>,
}

impl Passing for Walked<'_> {
    fn at(&self) -> Ref {
        self.chosen.place(self.number, self.table.hash(self.entry.key())).1
    }

    fn bytes(&self) -> u32 {
        bytes_of(self.entry)
    }

    fn set_field(&self, field: u32) {
        self.entry.set_access(field);
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

    /// Finds the entry of a reference in the first database that has it, and holds it.
    fn hold(&mut self, at: Ref) -> Option<Entry<'_, Object>> {
        if self.held.as_ref().is_none_or(|held| held.at != at) {
            // What is held goes first: it may be in the same shard.
            self.held = None;
            match find(self.chosen, self.part, self.tables, at) {
                Found::Held(held) => self.held = Some(held),
                Found::Busy => self.busy.push(at),
                Found::Gone => {}
            }
        }
        let held = self.held.as_ref()?;
        held.shard.at(held.spot)
    }

    /// The entry that was looked at last, if it is the one of this reference.
    pub(super) fn into_held(self, at: Ref) -> Option<Held<'k>> {
        self.held.filter(|held| held.at == at)
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
        let now = self.now;
        self.hold(at).map(|entry| seen(&entry, now))
    }

    fn set_field(&mut self, at: Ref, field: u32) {
        if let Some(entry) = self.hold(at) {
            entry.set_access(field);
        }
        self.held = None;
    }

    fn walk(&mut self, from: u32, show: &mut dyn FnMut(&Glance<'_>)) -> u32 {
        self.held = None;
        let (chosen, part, now) = (self.chosen, self.part, self.now);
        let (start, _) = chosen.prefix(part, 0, Ref(from));
        let hand = Hand { stays: self.stays, timed_only: chosen.choice.scope == Scope::Timed };
        if let [(number, table)] = self.tables {
            let (number, table) = (*number, *table);
            let next = table.walk(start, hand, &mut |lowest, entry| {
                // A shard is of one part.
                if chosen.place(number, lowest).0 == part && chosen.has(number, entry.key()) {
                    let walked = Walked { chosen, number, table, entry };
                    let deadline = entry.deadline().unwrap_or(u64::MAX);
                    let field = entry.access();
                    show(&Glance { field, deadline, is_over: deadline <= now, entry: &walked });
                }
            });
            self.is_stuck |= self.stays && next == Some(start);
            return self.position(next);
        }
        // Each table goes as far as its next bucket; what lies before the nearest end of these is shown.
        let mut found = Vec::new();
        let nexts = self.tables.iter().map(|(number, table)| {
            table.walk(start, hand, &mut |_, entry| {
                if chosen.has(*number, entry.key()) {
                    found.push((table.hash(entry.key()), *number, seen(entry, now)));
                }
            })
        });
        let next = nexts.flatten().min();
        self.is_stuck |= self.stays && next == Some(start);
        for (hash, number, seen) in found {
            let (of_part, at) = chosen.place(number, hash);
            if of_part == part
                && hash >= start
                && next.is_none_or(|next| hash < next)
                && let Some(field) = Shown::new(at, seen).to(show)
            {
                self.set_field(at, field);
            }
        }
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
        if let Some(spot) = shard.spot_by_prefix(prefix, bits)
            && (chosen.classes.is_empty()
                || shard.at(spot).is_some_and(|entry| chosen.has(number, entry.key())))
        {
            return Found::Held(Held { at, table: (number, table), shard, spot });
        }
    }
    Found::Gone
}
