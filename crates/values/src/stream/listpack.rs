//! Nodes in Redis' form, for DUMP and RESTORE: a listpack whose first elements are the fields of the
//! first entry.
//!
//! Its elements: live entries, deleted ones, number of fields, the fields, 0; then of each entry its
//! flags, the differences of its id from the node's, its fields and values (values alone where the fields
//! are those of the node), and how many elements these were. What is read is hostile: each element,
//! count and length is compared with what is there, and ids must grow.

use super::element::{self, Element};
use super::node::{CODE_BYTES_AT_ONCE, NewEntry, Node};
use super::{Stream, StreamId};

/// Bytes before the first element: the total, and the number of elements.
const HEADER_BYTES: usize = 6;
const END: u8 = 0xff;
/// The number of elements where it is too large to be told.
const COUNT_UNKNOWN: u16 = u16::MAX;

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

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
fn elements_of(fields: i64, same: bool) -> i64 {
    if same { fields + 3 } else { 2 * fields + 4 }
}

impl Stream {
    /// The nodes in order, each to be written in Redis' form.
    pub fn listpacks(&self) -> impl ExactSizeIterator<Item = NodeListpack<'_>> {
        self.nodes.iter().map(|(first, node)| NodeListpack { first: *first, node })
    }

    /// Appends a node in Redis' form, as [`Stream::push_node`] does.
    ///
    /// # Errors
    /// Where the bytes are no node, or its ids do not follow those there are.
    pub fn push_listpack(&mut self, first: StreamId, bytes: &[u8]) -> Result<(), BadListpack> {
        self.push_node(ReadNode::of_listpack(first, bytes)?)
    }

    /// Appends a node that was read. The last id, and what else stands beside the entries, is to be set when all nodes are there.
    ///
    /// # Errors
    /// Where its ids do not follow those there are.
    pub fn push_node(&mut self, ReadNode { first, node }: ReadNode) -> Result<(), BadListpack> {
        if self.nodes.last_key_value().is_some_and(|(_, node)| node.last() >= first) {
            return Err(BadListpack);
        }
        let live = node.live();
        self.insert_node(first, node);
        self.numbers.length = self.numbers.length.checked_add(live).ok_or(BadListpack)?;
        if live > 0 && self.numbers.first_id == StreamId::MIN {
            self.find_first_id();
        }
        Ok(())
    }
}

/// A node that belongs to no stream yet.
#[derive(Debug)]
pub struct ReadNode {
    first: StreamId,
    node: Node,
}

impl ReadNode {
    /// A node in Redis' form, filed under an id.
    ///
    /// # Errors
    /// Where the bytes are no node.
    pub fn of_listpack(first: StreamId, bytes: &[u8]) -> Result<ReadNode, BadListpack> {
        let mut node = read_node(first, Reader::new(bytes)?)?;
        node.close();
        Ok(ReadNode { first, node })
    }
}

fn read_node(first: StreamId, mut list: Reader<'_>) -> Result<Node, BadListpack> {
    let (live, deleted) = (list.count()?, list.count()?);
    let names = list.count()?;
    let names = {
        let mut texts = Vec::new();
        list.words(names, &mut texts)?;
        texts
    };
    if list.int()? != 0 || names.is_empty() {
        return Err(BadListpack);
    }
    // Redis' form is the longer one, but for ids far apart.
    let room = Vec::with_capacity(list.rest.len() + CODE_BYTES_AT_ONCE);
    let mut node = Node::with_names_in(room, first, names.iter().copied());
    let mut live_before = None;
    while !list.is_at_end() {
        let flags = list.int()?;
        let (ms, seq) = (list.int()? as u64, list.int()? as u64);
        let id = StreamId { ms: first.ms.wrapping_add(ms), seq: first.seq.wrapping_add(seq) };
        let same = flags & SAME_FIELDS != 0;
        let fields = if same { names.len() } else { list.count()? };
        let words = if same { fields } else { fields.checked_mul(2).ok_or(BadListpack)? };
        if words > list.rest.len() {
            return Err(BadListpack);
        }
        let mut entry = node.begin_entry(first, id, fields, same);
        for _ in 0..words {
            list.copy_word(&mut entry)?;
        }
        let at = entry.finish();
        if flags & !(DELETED | SAME_FIELDS) != 0 || list.int()? != elements_of(fields as i64, same) {
            return Err(BadListpack);
        }
        if flags & DELETED != 0 {
            node.delete(at);
        } else if live_before.replace(id).is_some_and(|before| before >= id) {
            return Err(BadListpack);
        }
        if fields == 0 {
            return Err(BadListpack);
        }
    }
    if node.count() == 0 || node.deleted() != deleted as u64 || node.live() != live as u64 {
        return Err(BadListpack);
    }
    Ok(node)
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
fn group_behind(len: usize, groups: usize, group: usize) -> u8 {
    let bits = (len >> (7 * group)) as u8 & 0x7f;
    if group + 1 == groups { bits } else { bits | 0x80 }
}

/// What follows a length behind an element; nothing where it is another length.
fn strip_length_behind(rest: &[u8], len: usize) -> Option<&[u8]> {
    let groups = element::listpack_size(len) - len;
    let (behind, rest) = rest.split_at_checked(groups)?;
    let is_it =
        behind.iter().zip((0..groups).rev()).all(|(&byte, group)| byte == group_behind(len, groups, group));
    is_it.then_some(rest)
}

/// Reads elements from bytes that are not trusted.
struct Reader<'a> {
    rest: &'a [u8],
    /// How many elements are told, and how many were read.
    told: Option<u64>,
    read: u64,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Reader<'a>, BadListpack> {
        let (total, rest) = bytes.split_first_chunk::<4>().ok_or(BadListpack)?;
        let (count, rest) = rest.split_first_chunk::<2>().ok_or(BadListpack)?;
        let (end, rest) = rest.split_last().ok_or(BadListpack)?;
        let count = u16::from_le_bytes(*count);
        if u32::from_le_bytes(*total) as usize != bytes.len() || *end != END {
            return Err(BadListpack);
        }
        Ok(Reader { rest, told: (count != COUNT_UNKNOWN).then_some(u64::from(count)), read: 0 })
    }

    /// Whether all was read. A number of elements that is not that of the header fails the next read, since nothing is left.
    fn is_at_end(&self) -> bool {
        self.rest.is_empty() && self.told.is_none_or(|told| told == self.read)
    }

    #[inline(always)]
    fn element(&mut self) -> Result<Element<'a>, BadListpack> {
        let (element, len) = element::decode(self.rest).ok_or(BadListpack)?;
        let behind = self.rest.get(len..).ok_or(BadListpack)?;
        self.rest = match behind.split_first() {
            // As most are: the length in one byte.
            Some((&byte, rest)) if len < 0x80 && usize::from(byte) == len => rest,
            _ => strip_length_behind(behind, len).ok_or(BadListpack)?,
        };
        self.read += 1;
        Ok(element)
    }

    #[inline(always)]
    fn int(&mut self) -> Result<i64, BadListpack> {
        // As most are: in one byte, or in two.
        match *self.rest {
            [value @ ..0x80, 1, ref rest @ ..] => {
                (self.rest, self.read) = (rest, self.read + 1);
                return Ok(i64::from(value));
            }
            [high @ 0xc0..0xe0, low, 2, ref rest @ ..] => {
                (self.rest, self.read) = (rest, self.read + 1);
                return Ok(element::of_13_bits(high, low));
            }
            _ => {}
        }
        match self.element()? {
            Element::Int(value) => Ok(value),
            Element::Bytes(text) => crate::number::parse_i64(text).ok_or(BadListpack),
        }
    }

    #[inline(always)]
    fn count(&mut self) -> Result<usize, BadListpack> {
        usize::try_from(self.int()?).map_err(|_| BadListpack)
    }

    /// Appends the next element to an entry. Most have the code here that a node gives them.
    #[inline(always)]
    fn copy_word(&mut self, entry: &mut NewEntry<'_>) -> Result<(), BadListpack> {
        if let Some(len) = element::len_of_kept(self.rest)
            && self.rest.get(len).is_some_and(|&behind| usize::from(behind) == len)
        {
            entry.push_code(self.rest, len);
            self.rest = self.rest.get(len + 1..).unwrap_or_default();
            self.read += 1;
            return Ok(());
        }
        entry.push(self.word()?);
        Ok(())
    }

    /// An element as a node keeps it, whatever form its text has here.
    #[inline(always)]
    fn word(&mut self) -> Result<Element<'a>, BadListpack> {
        Ok(match self.element()? {
            Element::Bytes(text) => Element::of(text),
            integer => integer,
        })
    }

    /// Appends `count` elements to `words`, of which no more are made room for than are there.
    #[inline(always)]
    fn words(&mut self, count: usize, words: &mut Vec<Element<'a>>) -> Result<(), BadListpack> {
        for _ in 0..count {
            words.push(self.word()?);
        }
        Ok(())
    }
}
