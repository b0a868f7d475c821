//! Small collections in one buffer: elements behind each other, readable from both ends.
//!
//! Two bytes of count (little-endian), then elements in the encoding of Redis' listpacks: a head
//! that says what follows, the payload, and the length of both once more for walking backwards.
//! A string that spells an integer canonically is stored as that integer. A count of 65,535 says
//! "so many or more": the elements are then counted by walking.
//!
//! Invariant: bytes under a view are what [`PackedBuf`] wrote or [`check`] accepted; a view does
//! not look at them twice. An empty buffer may lack the count.
//! Read next: `element.rs` for the encoding, `buf.rs` for changes, `foreign.rs` for bytes of others.

mod buf;
mod element;
mod foreign;
#[cfg(test)]
mod tests;

use crate::number;
pub use buf::PackedBuf;
pub use element::{Element, encoded_bytes};
use element::{SHORT_STRING, SHORT_STRING_MASK, decode, end_of, start_before};
pub(crate) use element::{decode_bare, end_of_bare};
pub use foreign::{
    Bad, check, from_listpack, from_listpack_shown, from_listpack_vec, from_listpack_vec_shown, to_listpack,
};

mod distinct;
pub use distinct::{Seen, are_distinct};

/// Bytes of the count in front.
pub(crate) const HEADER_BYTES: usize = 2;

/// Bytes of a listpack of Redis beside its elements: total, count and terminator.
pub const LISTPACK_OVERHEAD_BYTES: usize = 7;

/// The size that a listpack of Redis has whose elements take `packed_bytes` here, the count in front included.
#[inline]
pub(crate) fn listpack_bytes_of(packed_bytes: usize) -> usize {
    packed_bytes.saturating_sub(HEADER_BYTES) + LISTPACK_OVERHEAD_BYTES
}

/// The count that stands for itself and everything above.
const COUNT_UNKNOWN: usize = 65_535;

/// Writes a count of elements in front of them.
#[inline]
pub(crate) fn write_count(bytes: &mut [u8], count: usize) {
    if let Some(field) = bytes.first_chunk_mut::<HEADER_BYTES>() {
        *field = (count.min(COUNT_UNKNOWN) as u16).to_le_bytes();
    }
}

/// A place of an element. Good for the buffer it came from until that is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(usize);

impl Cursor {
    /// Where the element begins in the bytes under its view.
    #[inline]
    pub(crate) fn offset(self) -> usize {
        self.0
    }
}

/// A view of packed elements.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    bytes: &'a [u8],
}

impl<'a> Packed<'a> {
    /// A view of bytes that [`PackedBuf`] wrote or [`check`] accepted.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Packed<'a> {
        Packed { bytes }
    }

    /// How many elements there are. O(1) up to 65,534, beyond that O(n).
    #[inline]
    pub fn len(self) -> usize {
        match self.bytes.first_chunk::<HEADER_BYTES>() {
            None => 0,
            Some(count) => match usize::from(u16::from_le_bytes(*count)) {
                COUNT_UNKNOWN => self.counted(),
                count => count,
            },
        }
    }

    /// Whether there is no element.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.bytes.len() <= HEADER_BYTES
    }

    /// The bytes under the view.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The elements without the count in front.
    #[inline]
    pub fn element_bytes(self) -> &'a [u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or(&[])
    }

    /// The size that a listpack of Redis with these elements has: what its limits are held against.
    #[inline]
    pub fn listpack_bytes(self) -> usize {
        self.element_bytes().len() + LISTPACK_OVERHEAD_BYTES
    }

    /// The first element's place.
    #[inline]
    pub fn first(self) -> Option<Cursor> {
        (!self.is_empty()).then_some(Cursor(HEADER_BYTES))
    }

    /// The last element's place.
    #[inline]
    pub fn last(self) -> Option<Cursor> {
        (!self.is_empty()).then(|| Cursor(start_before(self.bytes, self.bytes.len())))
    }

    /// The place after `cursor`.
    #[inline]
    pub fn next(self, cursor: Cursor) -> Option<Cursor> {
        let next = end_of(self.bytes, cursor.0);
        (next < self.bytes.len()).then_some(Cursor(next))
    }

    /// The place before `cursor`.
    #[inline]
    pub fn prev(self, cursor: Cursor) -> Option<Cursor> {
        (cursor.0 > HEADER_BYTES).then(|| Cursor(start_before(self.bytes, cursor.0)))
    }

    /// The place of the element with this index, walked to from the nearer end.
    pub fn seek(self, index: usize) -> Option<Cursor> {
        let len = self.len();
        if index >= len {
            return None;
        }
        if index <= len / 2 {
            let start = (0..index).fold(HEADER_BYTES, |at, _| end_of(self.bytes, at));
            return Some(Cursor(start));
        }
        let start = (index..len).fold(self.bytes.len(), |at, _| start_before(self.bytes, at));
        Some(Cursor(start))
    }

    /// The element at `cursor`.
    #[inline]
    pub fn get(self, cursor: Cursor) -> Element<'a> {
        decode(self.bytes, cursor.0).0
    }

    /// The element at `cursor` and the place after it, in one look.
    #[inline]
    pub fn step(self, cursor: Cursor) -> (Element<'a>, Option<Cursor>) {
        let (element, next) = decode(self.bytes, cursor.0);
        (element, (next < self.bytes.len()).then_some(Cursor(next)))
    }

    /// The element at `cursor` as it lies there, for [`PackedBuf::push_back_raw`].
    #[inline]
    pub fn raw(self, cursor: Cursor) -> &'a [u8] {
        &self.bytes[cursor.0..end_of(self.bytes, cursor.0)]
    }

    /// Head and payload of the element at `cursor`, as they lie there.
    #[inline]
    pub(crate) fn bare(self, cursor: Cursor) -> &'a [u8] {
        let (head, payload) = element::head(self.bytes, cursor.0);
        &self.bytes[cursor.0..cursor.0 + head + payload]
    }

    /// All elements, from either end.
    #[inline]
    pub fn iter(self) -> Iter<'a> {
        Iter { bytes: self.bytes, front: HEADER_BYTES, back: self.bytes.len().max(HEADER_BYTES) }
    }

    /// The elements from `cursor` on.
    #[inline]
    pub fn iter_from(self, cursor: Cursor) -> Iter<'a> {
        Iter { bytes: self.bytes, front: cursor.0, back: self.bytes.len() }
    }

    /// The elements up to and with `cursor`; to be read from the back.
    #[inline]
    pub fn iter_to(self, cursor: Cursor) -> Iter<'a> {
        Iter { bytes: self.bytes, front: HEADER_BYTES, back: end_of(self.bytes, cursor.0) }
    }

    /// The first place, from `from` on, of an element that is `what`; after each one that is
    /// compared, `skip` are passed over.
    pub fn find(self, from: Cursor, what: &[u8], skip: usize) -> Option<Cursor> {
        let integer = number::parse_i64(what);
        let (bytes, mut at) = (self.bytes, from.0);
        loop {
            let &head = bytes.get(at)?;
            if head & SHORT_STRING_MASK == SHORT_STRING {
                // Most elements: a length, so many bytes, one byte of length again.
                let len = usize::from(head & !SHORT_STRING_MASK);
                if len == what.len() && bytes[at + 1..at + 1 + len] == *what {
                    return Some(Cursor(at));
                }
                at += len + 2;
            } else {
                let (element, next) = decode(bytes, at);
                let same = match element {
                    Element::Int(value) => Some(value) == integer,
                    Element::Bytes(bytes) => bytes == what,
                };
                if same {
                    return Some(Cursor(at));
                }
                at = next;
            }
            for _ in 0..skip {
                if at >= bytes.len() {
                    return None;
                }
                at = end_of(bytes, at);
            }
        }
    }

    pub(crate) fn counted(self) -> usize {
        let (mut at, mut count) = (HEADER_BYTES, 0);
        while at < self.bytes.len() {
            at = end_of(self.bytes, at);
            count += 1;
        }
        count
    }
}

impl<'a> IntoIterator for Packed<'a> {
    type Item = Element<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Elements between two places.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    front: usize,
    back: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        if self.front >= self.back {
            return None;
        }
        let (element, next) = decode(self.bytes, self.front);
        self.front = next;
        Some(element)
    }

    #[inline]
    fn nth(&mut self, count: usize) -> Option<Element<'a>> {
        for _ in 0..count {
            if self.front >= self.back {
                return None;
            }
            self.front = end_of(self.bytes, self.front);
        }
        self.next()
    }
}

impl<'a> DoubleEndedIterator for Iter<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<Element<'a>> {
        if self.front >= self.back {
            return None;
        }
        self.back = start_before(self.bytes, self.back);
        Some(decode(self.bytes, self.back).0)
    }
}
