//! Lists of a few short elements: packed, but without the lengths for walking backwards.
//!
//! A byte of count, then elements: head and payload of `packed/element.rs`, of at most [`ELEMENT_BYTES_MAX`] bytes, so that in a
//! listpack each has one byte of length behind it. They are so few that to walk to the last of them costs less
//! than those bytes are worth.
//! Invariant: at most [`COUNT_MAX`] elements in at most [`BYTES_MAX`] bytes; an empty buffer may lack the count.

use super::{End, Side};
use crate::mover::Mover;
use crate::packed::{Element, LISTPACK_OVERHEAD_BYTES, Packed, PackedBuf, decode_bare, end_of_bare};

/// Most elements, and what a list that was larger has shrunk to when it gives the lengths up.
pub(super) const COUNT_MAX: usize = 32;
pub(super) const COUNT_BACK: usize = COUNT_MAX / 2;

/// Most bytes of all elements and the count.
const BYTES_MAX: usize = 512;

/// Most bytes of head and payload: more have two bytes of length behind them.
const ELEMENT_BYTES_MAX: usize = 127;

/// Bytes of the count in front.
const HEADER_BYTES: usize = 1;

const _: () = assert!(COUNT_MAX <= u8::MAX as usize && BYTES_MAX <= u16::MAX as usize);

/// A view of such elements.
#[derive(Clone, Copy, Debug)]
pub struct Bare<'a> {
    bytes: &'a [u8],
}

impl<'a> Bare<'a> {
    /// A view of bytes that [`BareBuf`] wrote.
    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Bare<'a> {
        Bare { bytes }
    }

    /// How many elements there are.
    #[inline]
    pub fn len(self) -> usize {
        self.bytes.first().map_or(0, |&count| usize::from(count))
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The size that a listpack of Redis has with these elements.
    #[inline]
    pub fn listpack_bytes(self) -> usize {
        self.bytes.len().saturating_sub(HEADER_BYTES) + self.len() + LISTPACK_OVERHEAD_BYTES
    }

    /// The elements from an index on.
    #[inline]
    pub fn iter_from(self, first: usize) -> impl Iterator<Item = Element<'a>> {
        let mut at = self.position(first).unwrap_or(self.bytes.len());
        std::iter::from_fn(move || {
            if at >= self.bytes.len() {
                return None;
            }
            let (element, next) = decode_bare(self.bytes, at);
            at = next;
            Some(element)
        })
    }

    /// The elements from the last one back.
    #[inline]
    pub fn iter_back(self) -> impl Iterator<Item = Element<'a>> {
        let starts = self.starts();
        (0..self.len()).rev().map(move |index| self.at(usize::from(starts[index])))
    }

    /// The element of an index.
    #[inline]
    pub fn get(self, index: usize) -> Option<Element<'a>> {
        self.position(index).map(|at| self.at(at))
    }

    /// The same elements with lengths behind them.
    pub fn to_packed(self) -> PackedBuf {
        let mut packed = PackedBuf::new();
        packed.reserve_exact((self.bytes.len() + self.len()).saturating_sub(HEADER_BYTES));
        let mut at = HEADER_BYTES;
        while at < self.bytes.len() {
            let end = end_of_bare(self.bytes, at);
            packed.push_back_bare(&self.bytes[at..end]);
            at = end;
        }
        packed
    }

    #[inline]
    fn at(self, at: usize) -> Element<'a> {
        decode_bare(self.bytes, at).0
    }

    /// Where the element of an index begins.
    #[inline]
    fn position(self, index: usize) -> Option<usize> {
        if index >= self.len() {
            return None;
        }
        Some((0..index).fold(HEADER_BYTES, |at, _| end_of_bare(self.bytes, at)))
    }

    /// Where each element begins.
    #[inline]
    fn starts(self) -> [u16; COUNT_MAX] {
        let (mut starts, mut at) = ([0; COUNT_MAX], HEADER_BYTES);
        for start in starts.iter_mut().take(self.len()) {
            *start = at as u16;
            at = end_of_bare(self.bytes, at);
        }
        starts
    }
}

/// Such elements in a buffer of their own.
#[derive(Clone, Debug, Default)]
pub(super) struct BareBuf(Vec<u8>);

impl BareBuf {
    /// No elements, in a buffer whose memory is used again.
    #[inline]
    pub(super) fn reusing(mut spare: Vec<u8>) -> BareBuf {
        spare.clear();
        BareBuf(spare)
    }

    /// The elements in bytes that a view has shown.
    #[inline]
    pub(super) fn from_vec(bytes: Vec<u8>) -> BareBuf {
        BareBuf(bytes)
    }

    /// The elements of a packed buffer, if they are few and short.
    pub(super) fn of_packed(packed: Packed<'_>) -> Option<BareBuf> {
        let count = packed.len();
        let bytes = HEADER_BYTES + packed.element_bytes().len().checked_sub(count)?;
        let cursors = || std::iter::successors(packed.first(), |cursor| packed.next(*cursor));
        let is_short = |cursor| packed.bare(cursor).len() <= ELEMENT_BYTES_MAX;
        if count > COUNT_MAX || bytes > BYTES_MAX || !cursors().all(is_short) {
            return None;
        }
        let mut bare = Vec::with_capacity(bytes);
        bare.push(count as u8);
        cursors().for_each(|cursor| bare.extend_from_slice(packed.bare(cursor)));
        Some(BareBuf(bare))
    }

    #[inline]
    pub(super) fn into_vec(self) -> Vec<u8> {
        self.0
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    #[inline]
    pub(super) fn view(&self) -> Bare<'_> {
        Bare::new(&self.0)
    }

    #[inline]
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.capacity()
    }

    /// Moves its memory if that lies badly.
    pub(super) fn move_blocks(&mut self, mover: &mut Mover<'_>) {
        mover.vec(&mut self.0);
    }

    /// Whether an element goes in, in the place of so many bytes and elements.
    #[inline]
    fn takes(&self, element: Element<'_>, (bytes, count): (usize, usize)) -> bool {
        let new = element.bare_bytes();
        new <= ELEMENT_BYTES_MAX
            && self.view().len() - count < COUNT_MAX
            && self.0.len().max(HEADER_BYTES) + new - bytes <= BYTES_MAX
    }

    /// Adds an element at an end. False, and nothing is changed, where it does not go in.
    #[inline]
    pub(super) fn push(&mut self, end: End, text: &[u8]) -> bool {
        let element = Element::of(text);
        if !self.takes(element, (0, 0)) {
            return false;
        }
        let at = match end {
            End::Head => HEADER_BYTES,
            End::Tail => self.0.len().max(HEADER_BYTES),
        };
        self.put(at, element);
        true
    }

    /// Puts an element in the place of the one of an index, which is there. False, and nothing is changed, where it does not go in.
    pub(super) fn set(&mut self, index: usize, text: &[u8]) -> bool {
        let Some(at) = self.view().position(index) else { return false };
        let (element, old) = (Element::of(text), end_of_bare(&self.0, at) - at);
        if !self.takes(element, (old, 1)) {
            return false;
        }
        self.cut(at, at + old, 1);
        self.put(at, element);
        true
    }

    /// The index of the first element that is `what`.
    pub(super) fn find(&self, what: &[u8]) -> Option<usize> {
        self.view().iter_from(0).position(|element| element.is(what))
    }

    /// Puts an element beside the one of an index, which is there. False, and nothing is changed, where it does not go in.
    pub(super) fn insert(&mut self, index: usize, side: Side, text: &[u8]) -> bool {
        let element = Element::of(text);
        let Some(at) = self.view().position(index).filter(|_| self.takes(element, (0, 0))) else {
            return false;
        };
        self.put(if side == Side::Before { at } else { end_of_bare(&self.0, at) }, element);
        true
    }

    /// Takes up to `count` elements from an end, one behind the other; how many there were.
    #[inline]
    pub(super) fn pop(&mut self, end: End, count: usize, visit: &mut impl FnMut(Element<'_>)) -> usize {
        let view = self.view();
        let len = view.len();
        let count = count.min(len);
        match end {
            End::Tail if count == 1 => view.get(len - 1).into_iter().for_each(visit),
            End::Tail => view.iter_back().take(count).for_each(visit),
            End::Head => view.iter_from(0).take(count).for_each(visit),
        }
        self.remove_range(if end == End::Head { 0 } else { len - count }, count);
        count
    }

    /// Removes the elements from index `first` on, at most `count`.
    pub(super) fn remove_range(&mut self, first: usize, count: usize) {
        let view = self.view();
        let count = count.min(view.len().saturating_sub(first));
        let Some(start) = view.position(first).filter(|_| count > 0) else { return };
        let end = (0..count).fold(start, |at, _| end_of_bare(&self.0, at));
        self.cut(start, end, count);
    }

    /// Removes elements that are `what`, at most `count` of them, searched from an end; how many.
    pub(super) fn remove(&mut self, from: End, count: usize, what: &[u8]) -> usize {
        let matching = self.view().iter_from(0).filter(|element| element.is(what)).count();
        let goes = count.min(matching);
        // From the tail, the first ones stay.
        let stay = if from == End::Tail { matching - goes } else { 0 };
        let (mut at, mut met) = (HEADER_BYTES, 0);
        while met < stay + goes {
            let (element, end) = decode_bare(&self.0, at);
            let is_it = element.is(what);
            if is_it && met >= stay {
                self.cut(at, end, 1);
            } else {
                at = end;
            }
            met += usize::from(is_it);
        }
        goes
    }

    /// Panics where an invariant is broken.
    pub(super) fn check(&self) {
        let packed = self.view().to_packed();
        assert!(crate::packed::check(packed.view().bytes()).is_ok());
        assert_eq!(self.view().len(), packed.view().counted(), "the count is wrong");
        assert!(self.view().len() <= COUNT_MAX && self.0.len() <= BYTES_MAX, "too much without lengths");
    }

    /// Writes an element, for which there is room, before what begins at `at`.
    #[inline]
    fn put(&mut self, at: usize, element: Element<'_>) {
        if self.0.is_empty() {
            self.0.push(0);
        }
        let end = self.0.len();
        element.encode_bare(&mut self.0);
        let new = self.0.len() - end;
        if at < end {
            self.0[at..].rotate_right(new);
        }
        self.0[0] += 1;
    }

    /// Removes bytes that hold `count` elements.
    #[inline]
    fn cut(&mut self, start: usize, end: usize, count: usize) {
        if end == self.0.len() {
            self.0.truncate(start);
        } else {
            self.0.drain(start..end);
        }
        self.0[0] -= count as u8;
    }
}
