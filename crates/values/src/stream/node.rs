//! A run of entries in one buffer, which fills from the front and is thrown away as a whole.
//!
//! The buffer begins with the fields of the first entry; an entry with the same fields has only its
//! values. Entries are kept as Redis groups them into nodes, so that limits, approximate trimming and
//! DUMP come out alike, but in fewer bytes: an id is told from the one before, and nothing stands
//! behind an element for the way back. A removed entry is flagged and stays until its node goes.
//! Invariant: ids of live entries grow (that of a removed one can be above what XSETID made of the last id); `listpack` is what Redis' form of the same node would take, the two counts
//! apart; the buffer is the node's own, so it is not checked when it is read.

use super::element::{self, Element, int_listpack_size, listpack_size};
use super::id::StreamId;

/// Flags of an entry, in the low bits of the byte it begins with.
const DELETED: u8 = 1;
const SAME_FIELDS: u8 = 2;
/// How its id differs from that of the entry before, in the next two bits.
const ID_SHIFT: u8 = 2;
/// The next sequence of the same millisecond; nothing follows.
const NEXT_SEQ: u8 = 0;
/// A later millisecond, sequence 0; the difference follows in a byte.
const NEAR_MS: u8 = 1;
/// Both numbers follow: the difference of milliseconds, the sequence.
const FAR: u8 = 2;

/// Header and end of a listpack.
const LISTPACK_FRAME_BYTES: usize = 7;
/// The flags of an entry in a listpack.
const FLAGS_LISTPACK_BYTES: usize = 2;

/// A run of entries.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    buffer: Vec<u8>,
    last: StreamId,
    live: u32,
    deleted: u32,
    listpack: u32,
    entries_at: u32,
    last_at: u32,
}

/// Fields in a row, by their codes.
#[derive(Clone, Copy, Debug)]
struct Names<'a> {
    count: usize,
    codes: &'a [u8],
}

/// An entry where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its id.
    pub id: StreamId,
    /// Number of fields.
    pub len: usize,
    names: Option<Names<'a>>,
    codes: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Whether its fields are those its node begins with.
    pub(super) fn has_names_of_node(&self) -> bool {
        self.names.is_some()
    }

    /// The codes of what it has itself: values, and fields in front of each unless they are those its node begins with.
    pub(super) fn own_codes(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut codes = self.codes;
        std::iter::from_fn(move || {
            let len = if codes.is_empty() { 0 } else { element::skip(codes) };
            let (code, rest) = codes.split_at_checked(len).filter(|(code, _)| !code.is_empty())?;
            codes = rest;
            Some(code)
        })
    }

    /// Fields and values in turn, as they were given.
    pub fn words(&self) -> impl Iterator<Item = Element<'a>> + use<'a> {
        let mut names = self.names.map(|names| names.codes);
        let (mut codes, mut is_name) = (self.codes, true);
        std::iter::from_fn(move || {
            let source = match (&mut names, is_name) {
                (Some(names), true) => names,
                _ => &mut codes,
            };
            let (element, len) = element::decode(source)?;
            *source = &source[len..];
            is_name = !is_name;
            Some(element)
        })
    }
}

/// What an entry begins with: its flags, and how its id differs from the one before.
pub(super) enum Head {
    One([u8; 1]),
    Two([u8; 2]),
    /// So many bytes of these.
    Far([u8; HEAD_BYTES_MAX], usize),
}

/// Flags, and two numbers.
const HEAD_BYTES_MAX: usize = 1 + 2 * element::VARINT_BYTES_MAX;

/// Entries that were laid down as a node has them.
pub(super) struct Laid {
    /// The id of the last one; where there is none, the one before the first that may come.
    pub(super) last: StreamId,
    pub(super) live: u32,
    pub(super) deleted: u32,
    entries_at: usize,
    last_at: usize,
}

impl Laid {
    /// No entries of a node filed under `first`, where they begin.
    pub(super) fn before(first: StreamId, entries_at: usize) -> Laid {
        let last = StreamId { ms: first.ms, seq: first.seq.wrapping_sub(1) };
        Laid { last, live: 0, deleted: 0, entries_at, last_at: entries_at }
    }

    /// Adds an entry that begins at `at`.
    #[inline(always)]
    pub(super) fn add(&mut self, id: StreamId, at: usize, is_deleted: bool) {
        (self.last, self.last_at) = (id, at);
        self.deleted += u32::from(is_deleted);
        self.live += u32::from(!is_deleted);
    }
}

/// A place in a node: before some entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    at: u32,
    previous: StreamId,
}

/// What stands at a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) entry: Entry<'a>,
    pub(super) is_deleted: bool,
    pub(super) at: u32,
    pub(super) after: Place,
}

impl Node {
    /// Moves its memory if that lies badly; how many entries it has.
    pub(super) fn move_blocks(&mut self, mover: &mut crate::mover::Mover<'_>) -> usize {
        mover.vec(&mut self.buffer);
        (self.live + self.deleted).max(1) as usize
    }

    /// A node that begins with an entry; `words` are its fields and values in turn.
    pub(super) fn new<'w>(id: StreamId, words: impl ExactSizeIterator<Item = &'w [u8]> + Clone) -> Node {
        let mut node = Node::with_names(id, words.clone().step_by(2).map(Element::of));
        node.append_as(id, id, words.map(Element::of), true);
        node
    }

    /// A node without entries, to be filed under `first`, that begins with these fields.
    pub(super) fn with_names<'w>(
        first: StreamId,
        names: impl ExactSizeIterator<Item = Element<'w>> + Clone,
    ) -> Node {
        let bytes: usize = names.clone().map(Element::encoded_len).sum();
        let mut buffer = Vec::with_capacity(32 + bytes);
        let mut listpack =
            LISTPACK_FRAME_BYTES + int_listpack_size(names.len() as i64) + int_listpack_size(0);
        element::push_varint(&mut buffer, names.len() as u64);
        for name in names {
            name.encode(&mut buffer);
            listpack += listpack_size(name.encoded_len());
        }
        let laid = Laid::before(first, buffer.len());
        Node::of(buffer, laid, listpack)
    }

    fn of(buffer: Vec<u8>, laid: Laid, listpack: usize) -> Node {
        let Laid { last, live, deleted, entries_at, last_at } = laid;
        let (entries_at, last_at) = (entries_at as u32, last_at as u32);
        Node { buffer, last, live, deleted, listpack: listpack as u32, entries_at, last_at }
    }

    /// A node that was read from Redis' form, which is as long as said where each element is in its shortest form.
    pub(super) fn of_read(buffer: Vec<u8>, laid: Laid, listpack_bytes: usize) -> Node {
        let counts = int_listpack_size(i64::from(laid.live)) + int_listpack_size(i64::from(laid.deleted));
        Node::of(buffer, laid, listpack_bytes.saturating_sub(counts))
    }

    /// Appends an entry; `first` is the id under which the node is filed, `id` greater than all in it.
    #[inline]
    pub(super) fn append<'w>(
        &mut self,
        first: StreamId,
        id: StreamId,
        words: impl ExactSizeIterator<Item = &'w [u8]> + Clone,
    ) {
        let same = self.has_names(words.len() / 2, words.clone().step_by(2));
        self.append_as(first, id, words.map(Element::of), same);
    }

    /// Appends an entry, without its fields where they are the `same` as the node's. Answers where it
    /// begins.
    #[inline]
    pub(super) fn append_as<'w>(
        &mut self,
        first: StreamId,
        id: StreamId,
        words: impl ExactSizeIterator<Item = Element<'w>>,
        same: bool,
    ) -> u32 {
        let (at, fields) = (self.buffer.len() as u32, words.len() / 2);
        self.push_head(id, same);
        if !same {
            element::push_varint(&mut self.buffer, fields as u64);
        }
        let mut listpack = entry_listpack_base(first, id, fields, same);
        for (index, word) in words.enumerate() {
            if !same || index % 2 == 1 {
                let before = self.buffer.len();
                word.encode(&mut self.buffer);
                listpack += listpack_size(self.buffer.len() - before);
            }
        }
        (self.last, self.last_at) = (id, at);
        self.live += 1;
        self.listpack += listpack as u32;
        at
    }

    fn push_head(&mut self, id: StreamId, same: bool) {
        match Node::head(self.last, id, same, false) {
            Head::One([byte]) => self.buffer.push(byte),
            Head::Two(bytes) => self.buffer.extend_from_slice(&bytes),
            Head::Far(bytes, len) => self.buffer.extend_from_slice(&bytes[..len]),
        }
    }

    /// What an entry of an id begins with, behind one of the id `last`.
    #[inline(always)]
    pub(super) fn head(last: StreamId, id: StreamId, same: bool, is_deleted: bool) -> Head {
        let flags = if same { SAME_FIELDS } else { 0 } | if is_deleted { DELETED } else { 0 };
        let ms = id.ms.wrapping_sub(last.ms);
        if ms == 0 && id.seq == last.seq.wrapping_add(1) {
            return Head::One([flags | NEXT_SEQ << ID_SHIFT]);
        }
        match u8::try_from(ms) {
            Ok(near @ 1..) if id.seq == 0 => Head::Two([flags | NEAR_MS << ID_SHIFT, near]),
            _ => far_head(flags, ms, id.seq),
        }
    }

    /// Whether these are the fields the node begins with, in their order.
    #[inline]
    fn has_names<'w>(&self, count: usize, words: impl Iterator<Item = &'w [u8]>) -> bool {
        let names = self.names();
        let mut codes = names.codes;
        names.count == count
            && words.into_iter().all(|word| {
                let Some((name, len)) = element::decode(codes) else { return false };
                codes = &codes[len..];
                match name {
                    Element::Bytes(bytes) => bytes == word,
                    name => name == Element::of(word),
                }
            })
    }

    fn names(&self) -> Names<'_> {
        let (count, len) = element::varint(&self.buffer);
        Names { count: count as usize, codes: &self.buffer[len..self.entries_at as usize] }
    }

    /// The fields the node begins with.
    pub(super) fn name_elements(&self) -> impl ExactSizeIterator<Item = Element<'_>> {
        let names = self.names();
        let mut codes = names.codes;
        (0..names.count).map(move |_| {
            let (element, len) = element::decode(codes).unwrap_or((Element::Bytes(&[]), 0));
            codes = &codes[len..];
            element
        })
    }

    /// The place before the first entry of a node filed under `first`.
    pub(super) fn start(&self, first: StreamId) -> Place {
        let previous = StreamId { ms: first.ms, seq: first.seq.wrapping_sub(1) };
        Place { at: self.entries_at, previous }
    }

    /// The entry at a place; none at the end.
    #[inline]
    pub(super) fn at(&self, place: Place) -> Option<Found<'_>> {
        let mut at = place.at as usize;
        let head = *self.buffer.get(at)?;
        at += 1;
        let id = match head >> ID_SHIFT & 3 {
            NEXT_SEQ => StreamId { ms: place.previous.ms, seq: place.previous.seq.wrapping_add(1) },
            NEAR_MS => {
                at += 1;
                StreamId { ms: place.previous.ms.wrapping_add(u64::from(self.buffer[at - 1])), seq: 0 }
            }
            _ => {
                let (ms, len) = element::varint(&self.buffer[at..]);
                at += len;
                let (seq, len) = element::varint(&self.buffer[at..]);
                at += len;
                StreamId { ms: place.previous.ms.wrapping_add(ms), seq }
            }
        };
        let same = head & SAME_FIELDS != 0;
        let (len, elements, names) = if same {
            let names = self.names();
            (names.count, names.count, Some(names))
        } else {
            let (len, bytes) = element::varint(&self.buffer[at..]);
            at += bytes;
            (len as usize, len as usize * 2, None)
        };
        let codes = &self.buffer[at..];
        let mut end = 0;
        for _ in 0..elements {
            end += element::skip(&codes[end..]);
        }
        Some(Found {
            entry: Entry { id, len, names, codes: &codes[..end] },
            is_deleted: head & DELETED != 0,
            at: place.at,
            after: Place { at: (at + end) as u32, previous: id },
        })
    }

    /// Flags the entry that begins at `at` as deleted.
    pub(super) fn delete(&mut self, at: u32) {
        let head = &mut self.buffer[at as usize];
        debug_assert_eq!(*head & DELETED, 0);
        *head |= DELETED;
        self.live -= 1;
        self.deleted += 1;
    }

    /// Entries that are not deleted.
    #[inline]
    pub(super) fn live(&self) -> u64 {
        u64::from(self.live)
    }

    /// All entries, deleted ones included.
    #[inline]
    pub(super) fn count(&self) -> u64 {
        u64::from(self.live) + u64::from(self.deleted)
    }

    /// Id of the last entry, deleted or not.
    #[inline]
    pub(super) fn last(&self) -> StreamId {
        self.last
    }

    /// The same, where it is not deleted.
    #[inline]
    pub(super) fn last_live(&self) -> Option<StreamId> {
        self.buffer.get(self.last_at as usize).filter(|head| **head & DELETED == 0).map(|_| self.last)
    }

    /// Deleted entries.
    pub(super) fn deleted(&self) -> u64 {
        u64::from(self.deleted)
    }

    /// What the node takes in Redis' form.
    #[inline]
    pub(super) fn listpack_bytes(&self) -> usize {
        self.listpack as usize
            + int_listpack_size(i64::from(self.live))
            + int_listpack_size(i64::from(self.deleted))
    }

    /// Memory of the buffer.
    pub(super) fn heap_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// No entry will be appended for now: gives back what the buffer has to spare.
    pub(super) fn close(&mut self) {
        // A new buffer: an allocator may leave one that shrinks by less than half where it is.
        if self.buffer.capacity() > self.buffer.len() {
            self.buffer = self.buffer.as_slice().to_vec();
        }
    }

    /// Whether an entry of elements of `bytes` bytes in all may be appended under Redis' limits.
    #[inline]
    pub(super) fn has_room(&self, bytes: usize, limits: super::NodeLimits) -> bool {
        let bytes_max = match limits.bytes_max {
            1..=super::NODE_BYTES_MAX => limits.bytes_max,
            _ => super::NODE_BYTES_MAX,
        };
        self.listpack_bytes() + bytes < bytes_max
            && (limits.entries_max == 0 || self.count() < limits.entries_max)
    }

    /// Compares what is kept about the buffer with what is in it.
    pub(super) fn check(&self, first: StreamId) {
        let (mut place, mut live, mut deleted) = (self.start(first), 0, 0);
        let mut listpack = LISTPACK_FRAME_BYTES + int_listpack_size(0);
        listpack += int_listpack_size(self.names().count as i64);
        for name in self.name_elements() {
            listpack += listpack_size(name.encoded_len());
        }
        let (mut previous, mut live_before) = (None, None);
        while let Some(found) = self.at(place) {
            let entry = found.entry;
            assert!(
                found.is_deleted || live_before < Some(entry.id),
                "{} is not after {live_before:?}",
                entry.id
            );
            let same = entry.names.is_some();
            listpack += entry_listpack_base(first, entry.id, entry.len, same);
            assert_eq!(entry.words().count(), entry.len * 2);
            for (index, word) in entry.words().enumerate() {
                if !same || index % 2 == 1 {
                    listpack += listpack_size(word.encoded_len());
                }
            }
            if found.is_deleted {
                deleted += 1;
            } else {
                live += 1;
                live_before = Some(entry.id);
            }
            previous = Some(entry.id);
            place = found.after;
        }
        assert_eq!(place.at as usize, self.buffer.len());
        assert_eq!((self.live, self.deleted, self.last), (live, deleted, previous.unwrap_or(first)));
        assert_eq!(self.listpack as usize, listpack, "size of the listpack");
    }
}

#[inline(never)]
fn far_head(flags: u8, ms: u64, seq: u64) -> Head {
    let (mut bytes, mut len) = ([0; HEAD_BYTES_MAX], 1);
    bytes[0] = flags | FAR << ID_SHIFT;
    for number in [ms, seq] {
        len += element::put_varint(&mut bytes[len..], number);
    }
    Head::Far(bytes, len)
}

/// Size in a listpack of what an entry has beside its elements.
#[inline]
fn entry_listpack_base(first: StreamId, id: StreamId, count: usize, same: bool) -> usize {
    let ms = id.ms.wrapping_sub(first.ms) as i64;
    let seq = id.seq.wrapping_sub(first.seq) as i64;
    let (fields, elements) =
        if same { (0, count + 3) } else { (int_listpack_size(count as i64), count * 2 + 4) };
    FLAGS_LISTPACK_BYTES
        + int_listpack_size(ms)
        + int_listpack_size(seq)
        + fields
        + int_listpack_size(elements as i64)
}

/// Entries of a node from its end to its start, in blocks that are told from checkpoints: a node may
/// be large, so not every place in it is remembered at once.
#[derive(Clone, Debug)]
pub(super) struct Backwards<'a> {
    node: &'a Node,
    checkpoints: Vec<Place>,
    block: Vec<Place>,
}

/// Entries from one checkpoint to the next.
const BLOCK_ENTRIES: usize = 128;

impl<'a> Backwards<'a> {
    /// Begins at the end of a node filed under `first`.
    pub(super) fn new(node: &'a Node, first: StreamId) -> Backwards<'a> {
        let mut back = Backwards { node, checkpoints: vec![node.start(first)], block: Vec::new() };
        let mut place = node.start(first);
        let mut passed = 0;
        while let Some(found) = node.at(place) {
            if passed == BLOCK_ENTRIES {
                back.checkpoints.push(place);
                back.block.clear();
                passed = 0;
            }
            back.block.push(place);
            passed += 1;
            place = found.after;
        }
        back.checkpoints.pop();
        back
    }

    /// The entry before; none at the start.
    pub(super) fn previous(&mut self) -> Option<Found<'a>> {
        if self.block.is_empty() {
            let mut place = self.checkpoints.pop()?;
            for _ in 0..BLOCK_ENTRIES {
                let Some(found) = self.node.at(place) else { break };
                self.block.push(place);
                place = found.after;
            }
        }
        self.node.at(self.block.pop()?)
    }
}
