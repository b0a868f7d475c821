//! The small form: pairs of member and score behind each other in one packed buffer, in order.

use super::{compare_text, precedes};
use crate::number;
use crate::packed::{self, Cursor, Element, Packed, PackedBuf};

/// Most bytes of a packed buffer, as in Redis.
const BYTES_MAX: usize = 1 << 30;

/// The score that an element spells.
#[inline]
pub(super) fn score_of(element: Element<'_>) -> f64 {
    match element {
        Element::Int(value) => value as f64,
        Element::Bytes(text) => number::parse_f64(text).unwrap_or(0.0),
    }
}

/// The place of a member, and of its score.
#[inline]
pub(super) fn find(packed: Packed<'_>, member: &[u8]) -> Option<(Cursor, Cursor)> {
    let at = packed.find(packed.first()?, member, 1)?;
    Some((at, packed.next(at)?))
}

/// A member's rank and score.
pub(super) fn rank(packed: Packed<'_>, member: &[u8]) -> Option<(usize, f64)> {
    let mut pairs = Pairs::all(packed);
    let rank = pairs.by_ref().position(|(text, _)| text.is(member))?;
    let at = packed.seek(rank * 2 + 1)?;
    Some((rank, score_of(packed.get(at))))
}

/// Whether a member of `bytes` bytes may join.
pub(super) fn has_room(packed: Packed<'_>, bytes: usize) -> bool {
    packed.bytes().len() + bytes < BYTES_MAX
}

/// Puts a member in that is not there.
pub(super) fn insert(buf: &mut PackedBuf, member: &[u8], score: f64) {
    let packed = buf.view();
    // Most come with a score above all others.
    let is_last = packed.last().is_none_or(|last| score_of(packed.get(last)) < score);
    let mut at = if is_last { None } else { packed.first() };
    while let Some(cursor) = at {
        let (text, behind) = packed.step(cursor);
        let Some(behind) = behind else { break };
        let other = score_of(packed.get(behind));
        if precedes(score, other) || (score == other && compare_text(text, member).is_gt()) {
            break;
        }
        at = packed.next(behind);
    }
    match at {
        None => {
            buf.push_back(member);
            with_text(score, |text| buf.push_back(text));
        }
        Some(cursor) => {
            with_text(score, |text| buf.insert_before(cursor, text));
            buf.insert_before(cursor, member);
        }
    }
}

/// Puts pairs behind all others.
pub(super) fn push(buf: &mut PackedBuf, member: &[u8], score: f64) {
    buf.push_back(member);
    with_text(score, |text| buf.push_back(text));
}

/// Has `work` see a score's text. The sign of zero is not kept, as in Redis.
fn with_text(score: f64, work: impl FnOnce(&[u8])) {
    let mut text = Vec::with_capacity(32);
    number::write_f64(&mut text, if score == 0.0 { 0.0 } else { score });
    work(&text);
}

/// Pairs one after the other, in either direction.
#[derive(Clone, Debug)]
pub(super) struct Pairs<'a> {
    elements: packed::Iter<'a>,
    backwards: bool,
    left: usize,
}

impl<'a> Pairs<'a> {
    pub(super) fn all(packed: Packed<'a>) -> Pairs<'a> {
        Pairs { elements: packed.iter(), backwards: false, left: packed.len() / 2 }
    }

    /// `count` pairs from rank `first` on, or from there backwards; as many as there are.
    pub(super) fn range(packed: Packed<'a>, first: usize, count: usize, backwards: bool) -> Pairs<'a> {
        let len = packed.len() / 2;
        let (at, there) =
            if backwards { (first * 2 + 1, first + 1) } else { (first * 2, len.saturating_sub(first)) };
        match packed.seek(at) {
            None => Pairs { elements: packed.iter(), backwards, left: 0 },
            Some(at) => {
                let elements = if backwards { packed.iter_to(at) } else { packed.iter_from(at) };
                Pairs { elements, backwards, left: count.min(there) }
            }
        }
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Element<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<(Element<'a>, f64)> {
        self.left = self.left.checked_sub(1)?;
        if self.backwards {
            let score = score_of(self.elements.next_back()?);
            return Some((self.elements.next_back()?, score));
        }
        let member = self.elements.next()?;
        Some((member, score_of(self.elements.next()?)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}
