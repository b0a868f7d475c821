//! What can be read of a sorted set, whatever its form.

use super::bounds::{LexRange, ScoreRange};
use super::large::Large;
use super::{small, tree};
use crate::packed::{Element, Packed};
use std::ops::Range;

/// A look at a sorted set.
#[derive(Debug, Clone, Copy)]
pub enum View<'a> {
    /// Pairs of member and score in order.
    Packed(Packed<'a>),
    /// A tree and an index.
    Large(&'a Large),
}

impl<'a> View<'a> {
    /// How many members there are. O(1).
    #[inline]
    pub fn len(self) -> usize {
        match self {
            View::Packed(packed) => packed.len() / 2,
            View::Large(large) => large.len(),
        }
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// A member's score. O(1) in a large set.
    #[inline]
    pub fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            View::Packed(packed) => {
                let (_, score) = small::find(packed, member)?;
                Some(small::score_of(packed.get(score)))
            }
            View::Large(large) => large.score(member),
        }
    }

    /// How many members come before one, and its score. O(log N).
    #[inline]
    pub fn rank(self, member: &[u8]) -> Option<(usize, f64)> {
        match self {
            View::Packed(packed) => small::rank(packed, member),
            View::Large(large) => large.rank(member),
        }
    }

    /// `count` members with their scores from rank `first` on, or from there backwards; as many as
    /// there are. O(log N) to begin.
    pub fn range(self, first: usize, count: usize, backwards: bool) -> Members<'a> {
        match self {
            View::Packed(packed) => {
                Members(Way::Packed(small::Pairs::range(packed, first, count, backwards)))
            }
            View::Large(large) => {
                let fit = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
                Members(Way::Large(large, large.tree().range(fit(first), fit(count), backwards)))
            }
        }
    }

    /// All members with their scores, in order.
    pub fn iter(self) -> Members<'a> {
        self.range(0, usize::MAX, false)
    }

    /// The member before which there are `rank`, and its score.
    pub fn get(self, rank: usize) -> Option<(Element<'a>, f64)> {
        self.range(rank, 1, false).next()
    }

    /// The ranks of the members whose scores are in a range. O(log N).
    pub fn span_of_scores(self, range: &ScoreRange) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        match self {
            View::Packed(packed) => {
                let mut scores = small::Pairs::all(packed).map(|(_, score)| score);
                let before = scores.clone().take_while(|score| range.is_before(*score)).count();
                let within =
                    scores.by_ref().skip(before).take_while(|score| !range.is_behind(*score)).count();
                before..before + within
            }
            View::Large(large) => {
                let first = large.tree().rank(range.start()) as usize;
                let end = large.tree().rank(range.end()) as usize;
                first..end.max(first)
            }
        }
    }

    /// The ranks of the members that are in a range, where all scores are equal. O(log N).
    ///
    /// Where they are not, the answer for a small set is what Redis' search from the front, or
    /// backwards from the end, comes to.
    pub fn span_of_members(self, range: &LexRange<'_>, backwards: bool) -> Range<usize> {
        let ends = self.get(0).zip(self.get(self.len().saturating_sub(1)));
        let Some(((first, _), (last, _))) = ends else { return 0..0 };
        if range.is_empty() || range.is_before(last) || range.is_behind(first) {
            return 0..0;
        }
        match self {
            View::Packed(packed) if backwards => {
                let members =
                    small::Pairs::range(packed, self.len() - 1, usize::MAX, true).map(|(member, _)| member);
                let behind = members.clone().take_while(|member| range.is_behind(*member)).count();
                let within = members.skip(behind).take_while(|member| !range.is_before(*member)).count();
                let end = self.len() - behind;
                end - within..end
            }
            View::Packed(packed) => {
                let members = small::Pairs::all(packed).map(|(member, _)| member);
                let before = members.clone().take_while(|member| range.is_before(*member)).count();
                let within = members.skip(before).take_while(|member| !range.is_behind(*member)).count();
                before..before + within
            }
            View::Large(large) => {
                let member = |item: tree::Item| Element::Bytes(large.member(item.record));
                let first = large.tree().rank(|item: tree::Item| range.is_before(member(item))) as usize;
                let end = large.tree().rank(|item: tree::Item| !range.is_behind(member(item))) as usize;
                first..end.max(first)
            }
        }
    }

    /// Visits about `count` members from a position on and answers the next position; 0 begins and
    /// ends. A small set is visited as a whole.
    pub fn scan(self, cursor: u64, count: usize, mut visit: impl FnMut(Element<'_>, f64)) -> u64 {
        match self {
            View::Packed(_) => {
                self.iter().for_each(|(member, score)| visit(member, score));
                0
            }
            View::Large(large) => {
                large.scan(cursor, count, |member, score| visit(Element::Bytes(member), score))
            }
        }
    }
}

/// Members with their scores, one after the other.
pub struct Members<'a>(Way<'a>);

enum Way<'a> {
    Packed(small::Pairs<'a>),
    Large(&'a Large, tree::Range<'a>),
}

impl<'a> Iterator for Members<'a> {
    type Item = (Element<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<(Element<'a>, f64)> {
        match &mut self.0 {
            Way::Packed(pairs) => pairs.next(),
            Way::Large(large, range) => {
                let item = range.next()?;
                Some((Element::Bytes(large.member(item.record)), item.score))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Way::Packed(pairs) => pairs.size_hint(),
            Way::Large(_, range) => range.size_hint(),
        }
    }
}

impl ExactSizeIterator for Members<'_> {}
