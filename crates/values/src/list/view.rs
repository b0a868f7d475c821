//! Reading a list in either form: by index, from either end, in parts.

use super::End;
use super::chunks::At;
use super::quick::{Place, Quick};
use crate::packed::{self, Element, Packed};

/// A list to be read.
#[derive(Clone, Copy, Debug)]
pub enum ListView<'a> {
    /// A small one.
    Packed(Packed<'a>),
    /// A large one.
    Quick(&'a Quick),
}

impl<'a> ListView<'a> {
    /// How many elements there are.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            ListView::Packed(packed) => packed.len(),
            ListView::Quick(quick) => quick.len(),
        }
    }

    /// Whether there is no element.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether OBJECT ENCODING answers `quicklist` instead of `listpack`.
    pub fn is_quick(self) -> bool {
        matches!(self, ListView::Quick(_))
    }

    /// The element with this index. O(chunks).
    pub fn get(self, index: usize) -> Option<Element<'a>> {
        match self {
            ListView::Packed(packed) => packed.seek(index).map(|cursor| packed.get(cursor)),
            ListView::Quick(quick) => {
                quick.seek(index).map(|place| quick.inner().get(place.at).packed.view().get(place.cursor))
            }
        }
    }

    /// Gives `visit` up to `count` elements from index `first` on.
    #[inline]
    pub fn for_each(self, first: usize, count: usize, visit: impl FnMut(Element<'a>)) {
        match self {
            ListView::Packed(packed) => {
                if let Some(cursor) = packed.seek(first) {
                    packed.iter_from(cursor).take(count).for_each(visit);
                }
            }
            ListView::Quick(quick) => for_each_quick(quick, first, count, visit),
        }
    }

    /// Gives `visit` up to `count` elements backwards, beginning before index `end`.
    pub fn for_each_back(self, end: usize, count: usize, visit: impl FnMut(Element<'a>)) {
        let end = end.min(self.len());
        self.iter_back(end).take(count).for_each(visit);
    }

    /// The elements from index `first` on.
    pub fn iter_from(self, first: usize) -> Iter<'a> {
        Iter::new(self, End::Head, first)
    }

    /// The elements before index `end`, backwards.
    pub fn iter_back(self, end: usize) -> Iter<'a> {
        Iter::new(self, End::Tail, end)
    }

    /// All elements.
    pub fn iter(self) -> Iter<'a> {
        self.iter_from(0)
    }
}

fn for_each_quick<'a>(quick: &'a Quick, first: usize, count: usize, mut visit: impl FnMut(Element<'a>)) {
    let Some(place) = quick.seek(first) else { return };
    let (mut at, mut cursor, mut left) = (place.at, Some(place.cursor), count);
    let mut present = quick.inner().get(at).count() - place.offset;
    while left > 0 {
        let packed = quick.inner().get(at).packed.view();
        if let Some(cursor) = cursor {
            packed.iter_from(cursor).take(left).for_each(&mut visit);
        }
        left -= left.min(present);
        let Some(next) = quick.inner().next(at) else { return };
        let chunk = quick.inner().get(next);
        (at, cursor, present) = (next, chunk.packed.view().first(), chunk.count());
    }
}

/// The first element that is `what`.
pub(super) fn find_place(quick: &Quick, what: &[u8]) -> Option<Place> {
    let mut next = quick.inner().first();
    while let Some(at) = next {
        let packed = quick.inner().get(at).packed.view();
        if let Some(cursor) = packed.first().and_then(|first| packed.find(first, what, 0)) {
            let offset = packed.iter_to(cursor).count() - 1;
            return Some(Place { at, cursor, offset });
        }
        next = quick.inner().next(at);
    }
    None
}

/// Elements of a list in one direction.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    view: ListView<'a>,
    /// Where reading began: the head to go to the tail, the tail to go to the head.
    from: End,
    /// Elements of the chunk in turn.
    part: packed::Iter<'a>,
    /// The chunk in turn.
    at: Option<At>,
}

impl<'a> Iter<'a> {
    /// From the head: the elements from index `index` on. From the tail: those before it, backwards.
    fn new(view: ListView<'a>, from: End, index: usize) -> Iter<'a> {
        let none = Packed::new(&[]).iter();
        let seek = match from {
            End::Head => Some(index),
            End::Tail => index.checked_sub(1),
        };
        let (part, at) = match (view, seek) {
            (_, None) => (none, None),
            (ListView::Packed(packed), Some(index)) => {
                (packed.seek(index).map_or(none, |cursor| part_of(packed, from, cursor)), None)
            }
            (ListView::Quick(quick), Some(index)) => match quick.seek(index) {
                Some(Place { at, cursor, .. }) => {
                    (part_of(quick.inner().get(at).packed.view(), from, cursor), Some(at))
                }
                None => (none, None),
            },
        };
        Iter { view, from, part, at }
    }

    /// Turns to the next chunk in the direction.
    fn turn(&mut self) -> Option<()> {
        let ListView::Quick(quick) = self.view else { return None };
        let at = self.at?;
        self.at = match self.from {
            End::Head => quick.inner().next(at),
            End::Tail => quick.inner().prev(at),
        };
        self.part = quick.inner().get(self.at?).packed.view().iter();
        Some(())
    }
}

fn part_of<'a>(packed: Packed<'a>, from: End, cursor: packed::Cursor) -> packed::Iter<'a> {
    match from {
        End::Head => packed.iter_from(cursor),
        End::Tail => packed.iter_to(cursor),
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        loop {
            let next = match self.from {
                End::Head => self.part.next(),
                End::Tail => self.part.next_back(),
            };
            if next.is_some() {
                return next;
            }
            self.turn()?;
        }
    }
}
