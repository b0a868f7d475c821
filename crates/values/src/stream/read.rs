//! Nodes out of Redis' form: `listpack.rs` tells what that is. What is read is hostile: each element, count and length is compared with
//! what is there, and ids must grow.
//!
//! Invariant: a node that was read is the one that its entries make when they are appended one by one.

use super::StreamId;
use super::element::{self, Element, VARINT_BYTES_MAX};
use super::listpack::{BadListpack, COUNT_UNKNOWN, DELETED, END, SAME_FIELDS, elements_of, group_behind};
use super::node::{Head, Laid, Node};

/// Bytes of a code that are copied at once where it has no more than these.
const CODE_BYTES_AT_ONCE: usize = 16;
/// What there is room for behind what is laid down, when it is made.
const ROOM_BYTES_MIN: usize = 64;
/// Longer room is not kept.
const ROOM_BYTES_MAX: usize = 64 * 1024;

/// A node that belongs to no stream yet.
#[derive(Debug)]
pub struct ReadNode {
    pub(super) first: StreamId,
    pub(super) node: Node,
}

/// Reads one node after the other, in memory that is used again.
#[derive(Debug, Default)]
pub struct NodeReader {
    room: Vec<u8>,
}

impl NodeReader {
    /// A node in Redis' form, filed under an id.
    ///
    /// # Errors
    /// Where the bytes are no node.
    pub fn read(&mut self, first: StreamId, listpack: &[u8]) -> Result<ReadNode, BadListpack> {
        let mut list = Reader::new(listpack)?;
        let mut out = Out { room: &mut self.room, at: 0 };
        // Redis' form is the longer one, but for ids far apart.
        out.make_room(listpack.len());
        let laid = lay_down(first, &mut list, &mut out)?;
        // In a buffer of its own length: no entry is appended to most.
        let buffer = out.laid().to_vec();
        if self.room.len() > ROOM_BYTES_MAX {
            self.room = Vec::new();
        }
        Ok(ReadNode { first, node: Node::of_read(buffer, laid, list.kept_bytes()) })
    }
}

fn lay_down(first: StreamId, list: &mut Reader<'_>, out: &mut Out<'_>) -> Result<Laid, BadListpack> {
    let (live, deleted) = (list.count()? as u64, list.count()? as u64);
    let names = list.count()?;
    out.push_varint(names as u64);
    for _ in 0..names {
        list.copy_word(out)?;
    }
    if list.int()? != 0 || names == 0 {
        return Err(BadListpack);
    }
    let mut laid = Laid::before(first, out.at);
    let mut live_before = None;
    while !list.is_at_end() {
        let (flags, ms, seq) = list.head()?;
        let id = StreamId { ms: first.ms.wrapping_add(ms), seq: first.seq.wrapping_add(seq) };
        let (same, is_deleted) = (flags & SAME_FIELDS != 0, flags & DELETED != 0);
        let at = out.at;
        out.push_head(Node::head(laid.last, id, same, is_deleted));
        let fields = if same { names } else { list.count()? };
        if !same {
            out.push_varint(fields as u64);
        }
        let words = if same { fields } else { fields.checked_mul(2).ok_or(BadListpack)? };
        for _ in 0..words {
            list.copy_word(out)?;
        }
        let is_known = flags & !(DELETED | SAME_FIELDS) == 0;
        if !is_known || fields == 0 || list.int()? != elements_of(fields as i64, same) {
            return Err(BadListpack);
        }
        laid.add(id, at, is_deleted);
        if !is_deleted && live_before.replace(id).is_some_and(|before| before >= id) {
            return Err(BadListpack);
        }
    }
    let is_told = (u64::from(laid.live), u64::from(laid.deleted)) == (live, deleted);
    if is_told && live + deleted > 0 { Ok(laid) } else { Err(BadListpack) }
}

/// Where a node is laid down. What stands in the room behind that is of nodes before.
struct Out<'r> {
    room: &'r mut Vec<u8>,
    at: usize,
}

impl Out<'_> {
    fn laid(&self) -> &[u8] {
        self.room.get(..self.at).unwrap_or_default()
    }

    /// Makes room for so many bytes more, and some.
    fn make_room(&mut self, bytes: usize) {
        let needed = self.at + bytes + ROOM_BYTES_MIN;
        if self.room.len() < needed {
            self.room.resize(needed.max(self.at * 2), 0);
        }
    }

    /// Appends the first `len` bytes of a chunk: a copy of known length is the quickest, and what is too much is written over.
    #[inline(always)]
    fn push<const N: usize>(&mut self, chunk: [u8; N], len: usize) {
        match self.room.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut) {
            Some(room) => {
                *room = chunk;
                self.at += len;
            }
            None => self.push_all(&chunk[..len]),
        }
    }

    #[inline(never)]
    fn push_all(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        let end = self.at + bytes.len();
        self.room[self.at..end].copy_from_slice(bytes);
        self.at = end;
    }

    #[inline(always)]
    fn push_head(&mut self, head: Head) {
        match head {
            Head::One(bytes) => self.push(bytes, 1),
            Head::Two(bytes) => self.push(bytes, 2),
            Head::Far(bytes, len) => self.push(bytes, len),
        }
    }

    #[inline(always)]
    fn push_varint(&mut self, value: u64) {
        match u8::try_from(value) {
            Ok(byte @ ..0x80) => self.push([byte], 1),
            _ => {
                let mut bytes = [0; VARINT_BYTES_MAX];
                let len = element::put_varint(&mut bytes, value);
                self.push_all(&bytes[..len]);
            }
        }
    }

    fn push_element(&mut self, word: Element<'_>) {
        let mut bytes = Vec::new();
        word.encode(&mut bytes);
        self.push_all(&bytes);
    }
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
    /// How long all is.
    total: usize,
    /// By how much elements that were read are longer than Redis writes them.
    longer: usize,
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
        let told = (count != COUNT_UNKNOWN).then_some(u64::from(count));
        Ok(Reader { rest, told, read: 0, total: bytes.len(), longer: 0 })
    }

    /// Whether all was read. A number of elements that is not that of the header fails the next read, since nothing is left.
    fn is_at_end(&self) -> bool {
        self.rest.is_empty() && self.told.is_none_or(|told| told == self.read)
    }

    /// How long the listpack is where each element that was read is in its shortest form, as a node has it.
    fn kept_bytes(&self) -> usize {
        self.total.saturating_sub(self.longer)
    }

    /// The next element, and the length of its code.
    #[inline(always)]
    fn element(&mut self) -> Result<(Element<'a>, usize), BadListpack> {
        let (element, len) = element::decode(self.rest).ok_or(BadListpack)?;
        let behind = self.rest.get(len..).ok_or(BadListpack)?;
        self.rest = match behind.split_first() {
            // As most are: the length in one byte.
            Some((&byte, rest)) if len < 0x80 && usize::from(byte) == len => rest,
            _ => strip_length_behind(behind, len).ok_or(BadListpack)?,
        };
        self.read += 1;
        Ok((element, len))
    }

    /// Notes that an element has a code of `len` bytes, and its shortest one has `shortest`.
    #[inline(always)]
    fn note_len(&mut self, len: usize, shortest: usize) {
        self.longer += element::listpack_size(len).saturating_sub(element::listpack_size(shortest));
    }

    #[inline(always)]
    fn int(&mut self) -> Result<i64, BadListpack> {
        // As most are: in one byte.
        if let [value @ ..0x80, 1, ref rest @ ..] = *self.rest {
            (self.rest, self.read) = (rest, self.read + 1);
            return Ok(i64::from(value));
        }
        self.wide_int()
    }

    #[inline(never)]
    fn wide_int(&mut self) -> Result<i64, BadListpack> {
        let (element, len) = self.element()?;
        let value = match element {
            Element::Int(value) => value,
            Element::Bytes(text) => crate::number::parse_i64(text).ok_or(BadListpack)?,
        };
        self.note_len(len, element::int_len(value));
        Ok(value)
    }

    /// What an entry begins with: its flags, and how its id differs from the node's.
    #[inline(always)]
    fn head(&mut self) -> Result<(i64, u64, u64), BadListpack> {
        // As most are: all in one byte each, or the last in two.
        let (rest, flags, ms, seq) = match *self.rest {
            [flags @ ..0x80, 1, ms @ ..0x80, 1, seq @ ..0x80, 1, ref rest @ ..] => {
                (rest, flags, ms, i64::from(seq))
            }
            [flags @ ..0x80, 1, ms @ ..0x80, 1, high @ 0xc0..0xe0, low, 2, ref rest @ ..] => {
                let seq = element::of_13_bits(high, low);
                self.longer += usize::from((0..0x80).contains(&seq));
                (rest, flags, ms, seq)
            }
            _ => return Ok((self.int()?, self.int()? as u64, self.int()? as u64)),
        };
        (self.rest, self.read) = (rest, self.read + 3);
        Ok((i64::from(flags), u64::from(ms), seq as u64))
    }

    #[inline(always)]
    fn count(&mut self) -> Result<usize, BadListpack> {
        usize::try_from(self.int()?).map_err(|_| BadListpack)
    }

    /// Appends the next element. Most have the code here that a node gives them.
    #[inline(always)]
    fn copy_word(&mut self, out: &mut Out<'_>) -> Result<(), BadListpack> {
        if let Some(near) = self.rest.first_chunk::<{ CODE_BYTES_AT_ONCE + 1 }>()
            && let Some(len @ ..=CODE_BYTES_AT_ONCE) = element::len_of_kept(near)
            && usize::from(near[len]) == len
        {
            let (code, _) = near.split_first_chunk::<CODE_BYTES_AT_ONCE>().ok_or(BadListpack)?;
            out.push(*code, len);
            (self.rest, self.read) = (&self.rest[len + 1..], self.read + 1);
            return Ok(());
        }
        self.copy_any_word(out)
    }

    #[inline(never)]
    fn copy_any_word(&mut self, out: &mut Out<'_>) -> Result<(), BadListpack> {
        let code = self.rest;
        let (element, len) = self.element()?;
        let word = match element {
            Element::Bytes(text) => Element::of(text),
            integer @ Element::Int(_) => integer,
        };
        self.note_len(len, word.encoded_len());
        // A form that is as long as the shortest one of its kind is that.
        let is_text = |element| matches!(element, Element::Bytes(_));
        if is_text(element) == is_text(word) && word.encoded_len() == len {
            out.push_all(&code[..len]);
        } else {
            out.push_element(word);
        }
        Ok(())
    }
}
