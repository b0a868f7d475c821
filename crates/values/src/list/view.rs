//! Reading a list in either form: by index, from either end, in parts.
//!
//! Elements are shown to a function and not handed out, since those of a compressed chunk exist only while it
//! is looked at.

use super::quick::Quick;
use super::{Bare, End};
use crate::packed::{Element, Packed};

/// A list to be read.
#[derive(Clone, Copy, Debug)]
pub enum ListView<'a> {
    /// A small one of a few short elements.
    Bare(Bare<'a>),
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
            ListView::Bare(bare) => bare.len(),
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

    /// What `look` makes of the element with this index. O(chunks).
    pub fn look_at<R>(self, index: usize, look: impl FnOnce(Element<'_>) -> R) -> Option<R> {
        match self {
            ListView::Bare(bare) => bare.get(index).map(look),
            ListView::Packed(packed) => packed.seek(index).map(|cursor| look(packed.get(cursor))),
            ListView::Quick(quick) => {
                let (at, offset) = quick.inner().seek(index)?;
                let mut room = Vec::new();
                let packed = quick.inner().get(at).look(&mut room);
                packed.seek(offset).map(|cursor| look(packed.get(cursor)))
            }
        }
    }

    /// Gives `visit` up to `count` elements from index `first` on.
    #[inline]
    pub fn for_each(self, first: usize, count: usize, visit: impl FnMut(Element<'_>)) {
        match self {
            ListView::Bare(bare) => bare.iter_from(first).take(count).for_each(visit),
            ListView::Packed(packed) => {
                if let Some(cursor) = packed.seek(first) {
                    packed.iter_from(cursor).take(count).for_each(visit);
                }
            }
            ListView::Quick(quick) => for_each_quick(quick, first, count, visit),
        }
    }

    /// Gives `visit` elements from an end on, until it says that it has seen enough.
    #[inline]
    pub fn walk(self, from: End, mut goes_on: impl FnMut(Element<'_>) -> bool) {
        match self {
            ListView::Bare(bare) => {
                let _ = match from {
                    End::Head => bare.iter_from(0).all(goes_on),
                    End::Tail => bare.iter_back().all(goes_on),
                };
            }
            ListView::Packed(packed) => {
                walk_part(packed, from, &mut goes_on);
            }
            ListView::Quick(quick) => {
                let (chunks, mut room) = (quick.inner(), Vec::new());
                let mut next = if from == End::Head { chunks.first() } else { chunks.last() };
                while let Some(at) = next {
                    if !walk_part(chunks.get(at).look(&mut room), from, &mut goes_on) {
                        return;
                    }
                    next = if from == End::Head { chunks.next(at) } else { chunks.prev(at) };
                }
            }
        }
    }

    /// Copies of all elements. O(bytes).
    pub fn to_vecs(self) -> Vec<Vec<u8>> {
        let mut all = Vec::with_capacity(self.len());
        self.for_each(0, self.len(), |element| all.push(element.to_vec()));
        all
    }
}

/// Walks over the elements of a chunk; false once enough is seen.
#[inline]
fn walk_part(packed: Packed<'_>, from: End, goes_on: &mut impl FnMut(Element<'_>) -> bool) -> bool {
    match from {
        End::Head => packed.iter().all(goes_on),
        End::Tail => packed.iter().rev().all(goes_on),
    }
}

fn for_each_quick(quick: &Quick, first: usize, count: usize, mut visit: impl FnMut(Element<'_>)) {
    let Some((mut at, mut offset)) = quick.inner().seek(first) else { return };
    let (mut left, mut room) = (count, Vec::new());
    while left > 0 {
        let chunk = quick.inner().get(at);
        let packed = chunk.look(&mut room);
        if let Some(cursor) = packed.seek(offset) {
            packed.iter_from(cursor).take(left).for_each(&mut visit);
        }
        left -= left.min(chunk.count() - offset);
        let Some(next) = quick.inner().next(at) else { return };
        (at, offset) = (next, 0);
    }
}
