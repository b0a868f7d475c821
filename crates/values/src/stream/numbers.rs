//! The numbers that a stream keeps beside its entries, and what can be told from them of how far a
//! group has read: a count, or nothing where removed entries make it uncertain. The rules are Redis'.

use super::{Group, StreamId};

/// The numbers beside the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Live entries.
    pub length: u64,
    /// The largest id an entry ever had.
    pub last_id: StreamId,
    /// Id of the first live entry; zero where there is none.
    pub first_id: StreamId,
    /// The largest id of an entry that was removed from between others.
    pub max_deleted_id: StreamId,
    /// Entries ever added.
    pub entries_added: u64,
}

impl Numbers {
    /// Those of an empty stream.
    pub(super) const NONE: Numbers = Numbers {
        length: 0,
        last_id: StreamId::MIN,
        first_id: StreamId::MIN,
        max_deleted_id: StreamId::MIN,
        entries_added: 0,
    };

    /// Entries that a group has still to read; nothing where that cannot be told.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        if self.entries_added == 0 || self.length == 0 {
            return Some(0);
        }
        if group.last_id() < self.first_id && self.max_deleted_id < self.first_id {
            return Some(self.length as i64);
        }
        let read = match group.entries_read() {
            Some(read) if !self.has_tombstones_from(group.last_id()) => read,
            _ => self.entries_up_to(group.last_id())?,
        };
        Some(self.entries_added.wrapping_sub(read) as i64)
    }

    /// How many entries were added up to an id, where that can be told.
    pub fn entries_up_to(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.length == 0 && id <= self.last_id {
            return Some(self.entries_added);
        }
        if id != StreamId::MIN && id < self.max_deleted_id {
            return None;
        }
        if id == self.last_id {
            return Some(self.entries_added);
        }
        if id > self.last_id {
            return None;
        }
        let is_whole = self.max_deleted_id == StreamId::MIN || self.max_deleted_id < self.first_id;
        if is_whole && id < self.first_id {
            return Some(self.entries_added.wrapping_sub(self.length));
        }
        if is_whole && id == self.first_id {
            return Some(self.entries_added.wrapping_sub(self.length).wrapping_add(1));
        }
        None
    }

    /// Whether an entry from `start` on was removed from between others.
    pub(super) fn has_tombstones_from(&self, start: StreamId) -> bool {
        self.length != 0
            && self.max_deleted_id != StreamId::MIN
            && self.first_id <= self.max_deleted_id
            && start <= self.max_deleted_id
    }
}
