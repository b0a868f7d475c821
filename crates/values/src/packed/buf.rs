//! Packed elements that are owned and changed.
//!
//! Invariant: the count in front is that of the elements, or 65,535 where there are so many or more.

use super::element::{Element, backlen_bytes, end_of};
use super::{COUNT_UNKNOWN, Cursor, HEADER_BYTES, Packed, write_count};
use crate::mover::Mover;

/// Packed elements in a buffer of their own. An empty one holds no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedBuf(Vec<u8>);

impl PackedBuf {
    /// No elements.
    #[inline]
    pub fn new() -> PackedBuf {
        PackedBuf(Vec::new())
    }

    /// The elements in bytes that [`PackedBuf::into_vec`] gave or [`super::check`] accepted.
    #[inline]
    pub fn from_vec(bytes: Vec<u8>) -> PackedBuf {
        PackedBuf(bytes)
    }

    /// No elements, in a buffer whose memory is used again.
    #[inline]
    pub fn reusing(mut spare: Vec<u8>) -> PackedBuf {
        spare.clear();
        PackedBuf(spare)
    }

    /// The bytes, which may have room to spare.
    #[inline]
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }

    /// For reading.
    #[inline]
    pub fn view(&self) -> Packed<'_> {
        Packed::new(&self.0)
    }

    /// How many elements there are; see [`Packed::len`].
    #[inline]
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there is no element.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.view().is_empty()
    }

    /// Bytes of memory that the buffer holds.
    #[inline]
    pub fn heap_bytes(&self) -> usize {
        self.0.capacity()
    }

    /// Makes room for `bytes` more, and no more than that.
    pub fn reserve_exact(&mut self, bytes: usize) {
        self.0.reserve_exact(bytes + if self.0.is_empty() { HEADER_BYTES } else { 0 });
    }

    /// Moves its memory if that lies badly.
    pub fn move_blocks(&mut self, mover: &mut Mover<'_>) {
        mover.vec(&mut self.0);
    }

    /// Gives spare room back.
    pub fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Removes all elements and keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Appends an element. O(1).
    #[inline]
    pub fn push_back(&mut self, text: &[u8]) {
        self.push_back_element(Element::of(text));
    }

    /// Appends an integer.
    #[inline]
    pub fn push_back_int(&mut self, value: i64) {
        self.push_back_element(Element::Int(value));
    }

    /// Appends an element that is known to be stored so: bytes that spell an integer canonically
    /// must come as the integer.
    #[inline]
    pub fn push_back_element(&mut self, element: Element<'_>) {
        self.begin();
        element.encode(&mut self.0);
        self.count_up(1);
    }

    /// Appends an element as [`Packed::raw`] gave it.
    #[inline]
    pub fn push_back_raw(&mut self, raw: &[u8]) {
        self.begin();
        self.0.extend_from_slice(raw);
        self.count_up(1);
    }

    /// Appends an element by its head and payload, of at most 127 bytes together.
    #[inline]
    pub(crate) fn push_back_bare(&mut self, bare: &[u8]) {
        debug_assert_eq!(backlen_bytes(bare.len()), 1);
        self.begin();
        self.0.extend_from_slice(bare);
        self.0.push(bare.len() as u8);
        self.count_up(1);
    }

    /// Appends all elements of another.
    pub fn append(&mut self, other: Packed<'_>) {
        self.begin();
        self.0.extend_from_slice(other.element_bytes());
        self.count_up(other.len());
    }

    /// Puts an element in front. O(n) bytes are moved.
    pub fn push_front(&mut self, text: &[u8]) {
        self.push_front_element(Element::of(text));
    }

    /// Puts an element in front that is known to be stored so.
    pub fn push_front_element(&mut self, element: Element<'_>) {
        self.begin();
        self.write_at(HEADER_BYTES, 0, element);
        self.count_up(1);
    }

    /// Inserts an element before the one at `cursor`; the place is the new element's then.
    pub fn insert_before(&mut self, cursor: Cursor, text: &[u8]) {
        self.insert_element(cursor, Element::of(text));
    }

    /// Inserts an integer before the element at `cursor`.
    pub fn insert_int_before(&mut self, cursor: Cursor, value: i64) {
        self.insert_element(cursor, Element::Int(value));
    }

    /// Inserts an element after the one at `cursor`.
    pub fn insert_after(&mut self, cursor: Cursor, text: &[u8]) {
        let next = end_of(&self.0, cursor.0);
        self.insert_element(Cursor(next), Element::of(text));
    }

    /// Replaces the element at `cursor`.
    pub fn replace(&mut self, cursor: Cursor, text: &[u8]) {
        self.replace_element(cursor, Element::of(text));
    }

    /// Replaces the element at `cursor` by an integer.
    pub fn replace_int(&mut self, cursor: Cursor, value: i64) {
        self.replace_element(cursor, Element::Int(value));
    }

    /// Removes `count` elements from `cursor` on, or as many as there are; the place of the one
    /// after them.
    pub fn remove(&mut self, cursor: Cursor, count: usize) -> Option<Cursor> {
        let (mut end, mut removed) = (cursor.0, 0);
        while removed < count && end < self.0.len() {
            end = end_of(&self.0, end);
            removed += 1;
        }
        self.cut(cursor.0, end, removed);
        (cursor.0 < self.0.len()).then_some(cursor)
    }

    /// Removes the `count` elements from index `first` on, or as many as there are; how many.
    pub fn remove_range(&mut self, first: usize, count: usize) -> usize {
        let len = self.len();
        let count = count.min(len.saturating_sub(first));
        let Some(start) = self.view().seek(first).filter(|_| count > 0) else { return 0 };
        let end = self.view().seek(first + count).map_or(self.0.len(), |end| end.0);
        self.cut(start.0, end, count);
        count
    }

    /// Removes the elements from index `at` on and returns them.
    pub fn split_off(&mut self, at: usize) -> PackedBuf {
        let Some(start) = self.view().seek(at) else { return PackedBuf::new() };
        let count = self.len() - at;
        let mut tail = PackedBuf::new();
        tail.reserve_exact(self.0.len() - start.0);
        tail.begin();
        tail.0.extend_from_slice(&self.0[start.0..]);
        tail.count_up(count);
        self.cut(start.0, self.0.len(), count);
        tail
    }

    fn insert_element(&mut self, cursor: Cursor, element: Element<'_>) {
        self.write_at(cursor.0, 0, element);
        self.count_up(1);
    }

    fn replace_element(&mut self, cursor: Cursor, element: Element<'_>) {
        let old = end_of(&self.0, cursor.0) - cursor.0;
        self.write_at(cursor.0, old, element);
    }

    /// Writes an element over the `old` bytes at `at`.
    fn write_at(&mut self, at: usize, old: usize, element: Element<'_>) {
        let (tail, new) = (self.0.len(), element.encoded_bytes());
        if at + old == tail {
            self.0.truncate(at);
            element.encode(&mut self.0);
            return;
        }
        if new > old {
            self.0.resize(tail + new - old, 0);
        }
        self.0.copy_within(at + old..tail, at + new);
        if new < old {
            self.0.truncate(tail + new - old);
        }
        element.encode_over(&mut self.0[at..at + new]);
    }

    /// Removes bytes that hold `count` elements.
    fn cut(&mut self, start: usize, end: usize, count: usize) {
        let left = self.count_field().filter(|&len| len != COUNT_UNKNOWN).map(|len| len - count);
        self.0.drain(start..end);
        let left = left.unwrap_or_else(|| self.view().counted());
        self.set_count(left);
    }

    /// Writes the count in front if it is not there yet.
    #[inline]
    fn begin(&mut self) {
        if self.0.is_empty() {
            self.0.extend_from_slice(&[0; HEADER_BYTES]);
        }
    }

    fn count_field(&self) -> Option<usize> {
        self.0.first_chunk::<HEADER_BYTES>().map(|count| usize::from(u16::from_le_bytes(*count)))
    }

    #[inline]
    fn count_up(&mut self, more: usize) {
        if let Some(count) = self.count_field() {
            self.set_count(count.saturating_add(more));
        }
    }

    #[inline]
    fn set_count(&mut self, count: usize) {
        write_count(&mut self.0, count);
    }
}

impl<T: AsRef<[u8]>> Extend<T> for PackedBuf {
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        for element in elements {
            self.push_back(element.as_ref());
        }
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for PackedBuf {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> PackedBuf {
        let mut buf = PackedBuf::new();
        buf.extend(elements);
        buf
    }
}
