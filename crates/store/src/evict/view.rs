//! How a policy sees its part of the keyspace: entries of all databases, under the locks of their shards, each taken for
//! one look.

use super::Chosen;
use crate::db::Item;
use crate::field_ends::DbTable;
use crate::object::Object;
use larder_policy::{Entries, Ref, Scope, Seen};
use larder_table::{Entry, Hand};

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
}

/// What a policy sees of an entry.
pub(crate) fn seen(entry: &Entry<'_, Object>, now: u64) -> Seen {
    let deadline = entry.deadline().unwrap_or(u64::MAX);
    Seen { field: entry.access(), bytes: bytes_of(entry), deadline, is_over: deadline <= now }
}

/// What an entry takes of the limit.
pub(crate) fn bytes_of(entry: &Entry<'_, Object>) -> u32 {
    u32::try_from(Item::new(*entry).memory()).unwrap_or(u32::MAX)
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
        View { chosen, part, tables, now, entries, stays: false, is_stuck: false, busy }
    }

    /// Finds the entry of a reference in the first database that has it.
    fn with<R>(&mut self, at: Ref, act: impl FnOnce(&Entry<'_, Object>) -> R) -> Option<R> {
        for (number, table) in self.tables {
            let (prefix, bits) = self.chosen.prefix(self.part, *number, at);
            let shard = table.shard_of(prefix);
            if table.shard_len(shard) == 0 {
                continue;
            }
            let Some(guard) = table.try_lock_for_a_moment(shard) else {
                self.busy.push(at);
                return None;
            };
            if let Some((_, entry)) = guard.find_by_prefix(prefix, bits) {
                return Some(act(&entry));
            }
        }
        None
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
        self.with(at, |entry| seen(entry, now))
    }

    fn set_field(&mut self, at: Ref, field: u32) {
        self.with(at, |entry| entry.set_access(field));
    }

    fn walk(&mut self, from: u32, show: &mut dyn FnMut(Ref, Seen)) -> u32 {
        let (chosen, part, now) = (self.chosen, self.part, self.now);
        let (start, _) = chosen.prefix(part, 0, Ref(from));
        let hand = Hand { stays: self.stays, timed_only: chosen.choice.scope == Scope::Timed };
        if let [(number, table)] = self.tables {
            let next = table.walk(start, hand, &mut |hash, entry| {
                let (of_part, at) = chosen.place(*number, hash);
                if of_part == part {
                    show(at, seen(entry, now));
                }
            });
            self.is_stuck |= self.stays && next == Some(start);
            return self.position(next);
        }
        // Each table goes as far as its next bucket; what lies before the nearest end of these is shown.
        let mut found = Vec::new();
        let nexts = self.tables.iter().map(|(number, table)| {
            table.walk(start, hand, &mut |hash, entry| found.push((hash, *number, seen(entry, now))))
        });
        let next = nexts.flatten().min();
        self.is_stuck |= self.stays && next == Some(start);
        for (hash, number, seen) in found {
            let (of_part, at) = chosen.place(number, hash);
            if of_part == part && hash >= start && next.is_none_or(|next| hash < next) {
                show(at, seen);
            }
        }
        self.position(next)
    }

    fn len(&self) -> usize {
        self.entries
    }
}
