//! Removing entries: one by one, or from the front until a stream is short or young enough.
//!
//! A removed entry is flagged; its node goes with its last live entry, except where Redis leaves one
//! without. What becomes of pending deliveries of a removed entry is the caller's choice.

use super::{Stream, StreamId};

/// What becomes of the groups' deliveries of an entry that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum References {
    /// They stay: `KEEPREF`.
    Keep,
    /// They go with it: `DELREF`.
    Delete,
    /// While there are any, or a group has still to read the entry, it is not removed: `ACKED`.
    Acknowledged,
}

/// How far to trim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimTo {
    /// Until so many entries are left.
    Length(u64),
    /// Until there is none before this id.
    Id(StreamId),
}

/// How to trim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// How far.
    pub to: TrimTo,
    /// Only whole nodes.
    pub is_approximate: bool,
    /// About how many entries at most; 0 for any number.
    pub limit: u64,
    /// What becomes of deliveries.
    pub references: References,
}

/// What became of an entry that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It was removed.
    Removed,
    /// There is none.
    Absent,
    /// A group needs it.
    Referenced,
}

impl Stream {
    /// Removes entries from the front; answers how many. O(nodes removed), and O(entries) where the
    /// deliveries of each have to be looked for.
    pub fn trim(&mut self, trim: Trim) -> u64 {
        let mut deleted = 0;
        let mut next = self.nodes.keys().next().copied();
        while let Some(first) = next {
            if self.is_trimmed(trim.to) {
                break;
            }
            let Some(node) = self.nodes.get(&first) else { break };
            let live = node.live();
            if trim.limit != 0 && deleted + live > trim.limit {
                break;
            }
            let whole = match trim.to {
                TrimTo::Length(length) => self.numbers.length.saturating_sub(live) >= length,
                TrimTo::Id(id) => node.last() < id,
            };
            next = self.nodes.range(first..).nth(1).map(|(first, _)| *first);
            if whole && trim.references == References::Keep {
                self.remove_node(first);
                self.numbers.length -= live;
                deleted += live;
                continue;
            }
            // Redis trims whole nodes only where it need not look at each entry.
            if trim.is_approximate {
                break;
            }
            let removed = self.trim_node(first, trim);
            deleted += removed;
            if !whole {
                break;
            }
            if removed == live {
                self.remove_node(first);
            }
        }
        if deleted > 0 || self.numbers.length == 0 {
            self.find_first_id();
        }
        deleted
    }

    fn is_trimmed(&self, to: TrimTo) -> bool {
        matches!(to, TrimTo::Length(length) if self.numbers.length <= length)
    }

    /// Flags entries of one node from its front; answers how many.
    fn trim_node(&mut self, first: StreamId, trim: Trim) -> u64 {
        let mut removed = 0;
        let Some(mut place) = self.nodes.get(&first).map(|node| node.start(first)) else { return 0 };
        while let Some(found) = self.nodes.get(&first).and_then(|node| node.at(place)) {
            let (id, at, is_deleted) = (found.entry.id, found.at, found.is_deleted);
            place = found.after;
            if self.is_trimmed(trim.to) || matches!(trim.to, TrimTo::Id(least) if id >= least) {
                break;
            }
            if is_deleted || !self.may_remove(id, trim.references) {
                continue;
            }
            if let Some(node) = self.nodes.get_mut(&first) {
                node.delete(at);
            }
            self.numbers.length -= 1;
            removed += 1;
        }
        removed
    }

    /// Does to the deliveries of an entry what is asked; false where it must stay because of them.
    fn may_remove(&mut self, id: StreamId, references: References) -> bool {
        match references {
            References::Keep => true,
            References::Delete => {
                self.forget(id);
                true
            }
            References::Acknowledged => !self.is_needed(id),
        }
    }

    /// Whether a group has still to read or to acknowledge an entry. O(groups * log pending).
    // Differs from Redis: there what a group had not read stays needed after XGROUP DESTROY, until another
    // group reads on, since the least last id is remembered.
    pub fn is_needed(&self, id: StreamId) -> bool {
        self.groups.values().any(|group| group.needs(id))
    }

    /// Takes an entry out of what is pending in any group.
    fn forget(&mut self, id: StreamId) {
        for group in self.groups.values_mut() {
            group.acknowledge(id);
        }
    }

    /// Removes one entry. O(log nodes + entries of a node).
    pub fn delete(&mut self, id: StreamId, references: References) -> Deleted {
        if !self.may_remove(id, references) {
            return Deleted::Referenced;
        }
        let Some((first, node)) = self.nodes.range_mut(..=id).next_back() else { return Deleted::Absent };
        let first = *first;
        let mut place = node.start(first);
        let at = loop {
            match node.at(place) {
                Some(found) if found.is_deleted || found.entry.id < id => place = found.after,
                Some(found) if found.entry.id == id => break found.at,
                _ => return Deleted::Absent,
            }
        };
        if node.live() == 1 {
            self.remove_node(first);
        } else {
            node.delete(at);
        }
        self.numbers.length -= 1;
        self.numbers.max_deleted_id = self.numbers.max_deleted_id.max(id);
        if self.numbers.length == 0 || self.numbers.first_id == id {
            self.find_first_id();
        }
        Deleted::Removed
    }

    /// Finds the first id again after entries before it have gone.
    pub(super) fn find_first_id(&mut self) {
        let first = self.entries(StreamId::MIN, StreamId::MAX).next().map(|entry| entry.id);
        self.numbers.first_id = first.unwrap_or_default();
    }
}
