//! Streams: entries of fields and values in the order of their ids, and groups of consumers that share
//! them out.
//!
//! Entries lie in nodes (`node.rs`), which are filed under the id of their first entry as Redis files
//! them, so that all that shows of its nodes is alike. Groups (`group.rs`) hold what was delivered and
//! is not acknowledged yet.
//! Invariants: ids grow from node to node; the length is the sum of live entries; the first id is that
//! of the first live entry, or zero in an empty stream, as Redis keeps it.
//! Read next: `node.rs`, then `range.rs` (reading), `trim.rs` (removing), `group.rs`.

mod element;
pub(crate) mod fuzz;
mod group;
mod id;
mod listpack;
mod node;
mod numbers;
mod radix;
mod range;
mod read;
mod trim;

#[cfg(test)]
mod tests;

pub use element::Element;
pub use group::{Consumer, ConsumerId, Delivery, Group, Pending};
pub use id::{IdText, ParsedId, StreamId};
pub use listpack::{BadListpack, NodeListpack};
pub use node::Entry;
pub use numbers::Numbers;
pub use range::{Entries, EntriesBackwards};
pub use read::{NodeReader, ReadNode};
pub use trim::{Deleted, References, Trim, TrimTo};

use crate::collection::Collection;
use crate::mover::{Mover, Resume};
use node::Node;
use std::collections::BTreeMap;

/// When an entry begins a new node: `stream-node-max-entries` and `stream-node-max-bytes`; 0 for no
/// limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimits {
    /// Entries in a node, deleted ones included.
    pub entries_max: u64,
    /// Bytes of a node in Redis' form.
    pub bytes_max: usize,
}

/// What a node takes at most, whatever the limits say, and what an entry may take.
pub const NODE_BYTES_MAX: usize = 1 << 30;

/// Why an entry was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// The id is not after the last one.
    IdNotAfterLast,
    /// Its fields and values are too large.
    TooLarge,
}

/// Which id an entry is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// The time given, in milliseconds, or what follows the last id where that is not earlier.
    At(u64),
    /// This millisecond with the first sequence that is free.
    OpenSeq(u64),
    /// This id.
    Exactly(StreamId),
}

/// A stream.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    nodes: BTreeMap<StreamId, Node>,
    numbers: Numbers,
    groups: BTreeMap<Box<[u8]>, Group>,
    node_bytes: usize,
}

/// Two streams are equal whose commands would answer alike.
impl PartialEq for Stream {
    fn eq(&self, other: &Stream) -> bool {
        self.numbers == other.numbers && self.nodes == other.nodes && self.groups == other.groups
    }
}

impl Stream {
    /// An empty stream.
    pub const fn new() -> Stream {
        Stream { nodes: BTreeMap::new(), numbers: Numbers::NONE, groups: BTreeMap::new(), node_bytes: 0 }
    }

    /// Number of entries. O(1). A stream without any is a value all the same: its key stays.
    #[expect(clippy::len_without_is_empty, reason = "nobody may take one without entries for no value")]
    pub fn len(&self) -> u64 {
        self.numbers.length
    }

    /// The largest id an entry ever had.
    pub fn last_id(&self) -> StreamId {
        self.numbers.last_id
    }

    /// Id of the first entry; zero where there is none.
    pub fn first_id(&self) -> StreamId {
        self.numbers.first_id
    }

    /// The numbers beside the entries.
    pub fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Sets the largest id (XSETID, RESTORE), and what else is given.
    pub fn set_last_id(&mut self, id: StreamId, entries_added: Option<u64>, max_deleted: Option<StreamId>) {
        self.numbers.last_id = id;
        self.groups.values_mut().for_each(Group::forget_spot);
        if let Some(entries_added) = entries_added {
            self.numbers.entries_added = entries_added;
        }
        if let Some(max_deleted) = max_deleted {
            self.numbers.max_deleted_id = max_deleted;
        }
    }

    /// Nodes of entries, and nodes of the radix tree that Redis files them in. O(nodes).
    pub fn radix_size(&self) -> (u64, u64) {
        (self.nodes.len() as u64, radix::nodes(self.nodes.keys().copied()))
    }

    /// The id that a new entry would have; none where no id is free.
    pub fn next_id(&self, asked: NewId) -> Option<StreamId> {
        match asked {
            NewId::At(ms) if ms > self.numbers.last_id.ms => Some(StreamId { ms, seq: 0 }),
            NewId::At(_) => self.numbers.last_id.next(),
            NewId::OpenSeq(ms) if ms == self.numbers.last_id.ms => {
                self.numbers.last_id.seq.checked_add(1).map(|seq| StreamId { ms, seq })
            }
            NewId::OpenSeq(ms) => Some(StreamId { ms, seq: 0 }).filter(|id| *id > self.numbers.last_id),
            NewId::Exactly(id) => Some(id).filter(|id| *id > self.numbers.last_id),
        }
    }

    /// Appends an entry; `words` are its fields and values in turn. Amortised O(bytes of the entry),
    /// O(log nodes) where it begins a node.
    ///
    /// # Errors
    /// Where its id is not after the last one, or it is too large; nothing has changed then.
    #[inline]
    pub fn add<'w>(
        &mut self,
        id: StreamId,
        words: impl ExactSizeIterator<Item = &'w [u8]> + Clone,
        limits: NodeLimits,
    ) -> Result<(), AddError> {
        if id <= self.numbers.last_id {
            return Err(AddError::IdNotAfterLast);
        }
        let bytes: usize = words.clone().map(<[u8]>::len).sum();
        if bytes > NODE_BYTES_MAX {
            return Err(AddError::TooLarge);
        }
        match self.nodes.last_entry() {
            Some(mut last) if last.get().has_room(bytes, limits) => {
                let (first, node) = (*last.key(), last.get_mut());
                let before = node.heap_bytes();
                node.append(first, id, words);
                self.node_bytes += node.heap_bytes() - before;
            }
            last => {
                if let Some(mut full) = last {
                    let node = full.get_mut();
                    self.node_bytes -= node.heap_bytes();
                    node.close();
                    self.node_bytes += node.heap_bytes();
                }
                self.insert_node(id, Node::new(id, words));
            }
        }
        if self.numbers.length == 0 {
            self.numbers.first_id = id;
        }
        self.numbers.length += 1;
        self.numbers.entries_added = self.numbers.entries_added.wrapping_add(1);
        self.numbers.last_id = id;
        Ok(())
    }

    fn insert_node(&mut self, first: StreamId, node: Node) {
        self.node_bytes += node.heap_bytes();
        // Redis would replace a node of that id too; none is left where the last id can be set below it.
        if let Some(old) = self.nodes.insert(first, node) {
            self.node_bytes -= old.heap_bytes();
            self.numbers.length -= old.live();
        }
    }

    fn remove_node(&mut self, first: StreamId) {
        if let Some(node) = self.nodes.remove(&first) {
            self.node_bytes -= node.heap_bytes();
        }
    }

    /// The groups by their names, in order.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&name[..], group))
    }

    /// A group.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name)
    }

    /// A group, to be changed.
    pub fn group_mut(&mut self, name: &[u8]) -> Option<&mut Group> {
        self.groups.get_mut(name)
    }

    /// Makes a group that has read up to `last_id`; false where there is one of that name.
    pub fn create_group(&mut self, name: &[u8], last_id: StreamId, entries_read: Option<u64>) -> bool {
        if self.groups.contains_key(name) {
            return false;
        }
        self.groups.insert(name.into(), Group::new(last_id, entries_read));
        true
    }

    /// Removes a group with all it holds; false where there is none. O(1) for the caller, who frees it.
    pub fn remove_group(&mut self, name: &[u8]) -> Option<Group> {
        self.groups.remove(name)
    }

    /// Compares what is kept beside the entries with the entries.
    ///
    /// # Panics
    /// Where an invariant is broken.
    pub fn check(&self) {
        let (mut live, mut bytes, mut previous) = (0, 0, None);
        for (first, node) in &self.nodes {
            node.check(*first);
            assert!(previous < Some(*first), "nodes overlap at {first}");
            previous = Some(node.last());
            live += node.live();
            bytes += node.heap_bytes();
        }
        assert_eq!((self.numbers.length, self.node_bytes), (live, bytes));
        assert!(previous <= Some(self.numbers.last_id), "last id {}", self.numbers.last_id);
        let first = self.entries(StreamId::MIN, StreamId::MAX).next().map(|entry| entry.id);
        assert_eq!(self.numbers.first_id, first.unwrap_or_default(), "first id");
        for group in self.groups.values() {
            group.check();
        }
    }
}

/// What an entry that lies inside of its key's would hold: no stream does.
static EMPTY: Stream = Stream::new();

impl Collection for Stream {
    type View<'a> = &'a Stream;

    fn new(_: Vec<u8>) -> Stream {
        Stream::new()
    }

    fn view(&self) -> &Stream {
        self
    }

    fn view_inline(_: u8, _: &[u8]) -> &Stream {
        &EMPTY
    }

    fn from_inline(_: u8, _: Vec<u8>) -> Stream {
        Stream::new()
    }

    fn inline(&self) -> Option<(u8, &[u8])> {
        None
    }

    fn into_spare(self) -> Vec<u8> {
        Vec::new()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_gone(&self) -> bool {
        false
    }

    #[inline]
    fn items(view: &Stream) -> usize {
        view.len() as usize
    }

    fn encoding(_: &Stream) -> &'static str {
        "stream"
    }

    /// O(groups).
    fn heap_bytes(&self) -> usize {
        let groups: usize = self.groups.iter().map(|(name, group)| name.len() + group.heap_bytes()).sum();
        self.node_bytes
            + self.nodes.len() * NODE_OVERHEAD_BYTES
            + groups
            + self.groups.len() * (size_of::<Group>() + 2 * size_of::<usize>())
    }

    fn free_effort(&self) -> usize {
        let pending = self.groups.values().next().map_or(0, Group::pending_len);
        // A leaf and a branch for each node but the first.
        2 * self.nodes.len().max(1) + self.groups.len() * (1 + pending)
    }

    /// Frees nodes and pending entries worth about `budget` entries.
    fn free_step(&mut self, budget: usize) -> bool {
        let mut left = budget as u64;
        while left > 0 {
            if let Some((_, node)) = self.nodes.pop_first() {
                // A node is one allocation: freeing it costs as much as a few pending entries.
                self.node_bytes -= node.heap_bytes();
                left = left.saturating_sub(4);
            } else if let Some(mut group) = self.groups.first_entry() {
                if !group.get_mut().free_step(&mut left) {
                    return false;
                }
                group.remove();
            } else {
                self.numbers.length = 0;
                return true;
            }
        }
        false
    }

    fn move_blocks(&mut self, mover: &mut Mover<'_>, from: Resume) -> Resume {
        // A place is the id of a node's first entry. 0-0 is none, so it cannot be mistaken for the start.
        let first = StreamId { ms: (from.0 >> 64) as u64, seq: from.0 as u64 };
        for (id, node) in self.nodes.range_mut(first..) {
            if mover.is_spent() {
                return Resume(u128::from(id.ms) << 64 | u128::from(id.seq));
            }
            let entries = node.move_blocks(mover);
            mover.pass(entries);
        }
        Resume::START
    }

    fn duplicate(&self) -> Stream {
        self.clone()
    }
}

/// A node in the map of nodes, whose own nodes are a good half full where they fill in order.
const NODE_OVERHEAD_BYTES: usize = (size_of::<Node>() + size_of::<StreamId>()) * 11 / 6;
