//! Nodes in Redis' form, for DUMP and RESTORE: a listpack whose first elements are the fields of the
//! first entry.
//!
//! Its elements: live entries, deleted ones, number of fields, the fields, 0; then of each entry its
//! flags, the differences of its id from the node's, its fields and values (values alone where the fields
//! are those of the node), and how many elements these were. Read next: `read.rs`.

use super::element::{self, Element};
use super::node::Node;
use super::read::ReadNode;
use super::{Stream, StreamId};

/// Bytes before the first element: the total, and the number of elements.
const HEADER_BYTES: usize = 6;
pub(super) const END: u8 = 0xff;
/// The number of elements where it is too large to be told.
pub(super) const COUNT_UNKNOWN: u16 = u16::MAX;

pub(super) const DELETED: i64 = 1;
pub(super) const SAME_FIELDS: i64 = 2;

/// The bytes are no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadListpack;

/// A node, to be written in Redis' form.
#[derive(Clone, Copy, Debug)]
pub struct NodeListpack<'a> {
    first: StreamId,
    node: &'a Node,
}

impl NodeListpack<'_> {
    /// The id under which the node is filed.
    pub fn first_id(&self) -> StreamId {
        self.first
    }

    /// Appends the listpack.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.node.listpack_bytes());
        let mut list = Writer::new(out);
        list.int(self.node.live() as i64);
        list.int(self.node.deleted() as i64);
        let names = self.node.name_elements();
        list.int(names.len() as i64);
        names.for_each(|name| list.element(name));
        list.int(0);
        let mut place = self.node.start(self.first);
        while let Some(found) = self.node.at(place) {
            let entry = found.entry;
            let same = entry.has_names_of_node();
            let flag = |set: bool, flag: i64| if set { flag } else { 0 };
            list.int(flag(found.is_deleted, DELETED) | flag(same, SAME_FIELDS));
            list.int(entry.id.ms.wrapping_sub(self.first.ms) as i64);
            list.int(entry.id.seq.wrapping_sub(self.first.seq) as i64);
            if !same {
                list.int(entry.len as i64);
            }
            entry.own_codes().for_each(|code| list.code(code));
            list.int(elements_of(entry.len as i64, same));
            place = found.after;
        }
        list.finish();
    }
}

/// Elements of an entry before the one that says their number.
pub(super) fn elements_of(fields: i64, same: bool) -> i64 {
    if same { fields + 3 } else { 2 * fields + 4 }
}

impl Stream {
    /// The nodes in order, each to be written in Redis' form.
    pub fn listpacks(&self) -> impl ExactSizeIterator<Item = NodeListpack<'_>> {
        self.nodes.iter().map(|(first, node)| NodeListpack { first: *first, node })
    }

    /// A stream of nodes that were read, in their order. The last id, and what else stands beside the entries, is to be set.
    ///
    /// # Errors
    /// Where ids of a node do not follow those of the one before.
    pub fn of_nodes(nodes: Vec<ReadNode>) -> Result<Stream, BadListpack> {
        let follows = |before: &ReadNode, node: &ReadNode| before.first.max(before.node.last()) < node.first;
        if !nodes.is_sorted_by(follows) {
            return Err(BadListpack);
        }
        let mut stream = Stream::new();
        for ReadNode { node, .. } in &nodes {
            stream.node_bytes += node.heap_bytes();
            stream.numbers.length = stream.numbers.length.checked_add(node.live()).ok_or(BadListpack)?;
        }
        // A map of keys in order is laid down without a search for each.
        stream.nodes = nodes.into_iter().map(|ReadNode { first, node }| (first, node)).collect();
        if stream.numbers.length > 0 {
            stream.find_first_id();
        }
        Ok(stream)
    }
}

/// Writes elements, each followed by its length.
struct Writer<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    count: u64,
}

impl Writer<'_> {
    fn new(out: &mut Vec<u8>) -> Writer<'_> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        Writer { out, start, count: 0 }
    }

    fn int(&mut self, value: i64) {
        self.element(Element::Int(value));
    }

    #[inline]
    fn element(&mut self, element: Element<'_>) {
        element.encode(self.out);
        self.end_element(element.encoded_len());
    }

    /// Appends an element by its code.
    #[inline]
    fn code(&mut self, code: &[u8]) {
        self.out.extend_from_slice(code);
        self.end_element(code.len());
    }

    #[inline]
    fn end_element(&mut self, len: usize) {
        match u8::try_from(len) {
            Ok(short) if short < 0x80 => self.out.push(short),
            _ => push_length_behind(self.out, len),
        }
        self.count += 1;
    }

    fn finish(self) {
        self.out.push(END);
        let total = (self.out.len() - self.start) as u32;
        self.out[self.start..][..4].copy_from_slice(&total.to_le_bytes());
        let count = u16::try_from(self.count).unwrap_or(COUNT_UNKNOWN);
        self.out[self.start + 4..][..2].copy_from_slice(&count.to_le_bytes());
    }
}

/// The length of an element behind it: groups of seven bits, high ones first, all but the first marked,
/// so that it is read from its end.
fn push_length_behind(out: &mut Vec<u8>, len: usize) {
    let groups = element::listpack_size(len) - len;
    out.extend((0..groups).rev().map(|group| group_behind(len, groups, group)));
}

/// One group of a length behind an element, of so many.
pub(super) fn group_behind(len: usize, groups: usize, group: usize) -> u8 {
    let bits = (len >> (7 * group)) as u8 & 0x7f;
    if group + 1 == groups { bits } else { bits | 0x80 }
}
