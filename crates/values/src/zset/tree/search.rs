//! Finding a place among scores that lie in order side by side.
//!
//! A search by score takes no branch that depends on it: the last score of each block of eight is counted, then
//! those of one block. Binary search would guess wrong at every other step, and wait for one line after the other.

use super::Item;
use super::inner::Inner;
use super::leaf::Leaf;
use std::cmp::Ordering;

/// Says which items come before a place.
pub trait Lead {
    /// The score at which the place is: all items of lower scores lead, none of higher ones does. `None` where
    /// scores decide nothing.
    fn score(&self) -> Option<f64>;

    /// Whether an item leads. Where there is a score, only items of that score are asked about.
    fn leads(&mut self, item: Item) -> bool;
}

impl<F: FnMut(Item) -> bool> Lead for F {
    #[inline]
    fn score(&self) -> Option<f64> {
        None
    }

    #[inline]
    fn leads(&mut self, item: Item) -> bool {
        self(item)
    }
}

/// A place among the items of one score: those lead whose references the function accepts.
#[derive(Debug)]
pub struct Among<F>(pub f64, pub F);

impl<F: FnMut(u32) -> bool> Lead for Among<F> {
    #[inline]
    fn score(&self) -> Option<f64> {
        Some(self.0)
    }

    #[inline]
    fn leads(&mut self, item: Item) -> bool {
        (self.1)(item.record)
    }
}

/// How many items lead: of those before the first for which `lead` does not hold.
#[inline]
pub(super) fn leading(scores: &[f64], records: &[u32], lead: &mut impl Lead) -> usize {
    let (mut low, mut high) = (0, scores.len());
    if let Some(score) = lead.score() {
        low = count(scores, |other| other < score);
        let equal = |at: usize| scores.get(at) == Some(&score);
        if !equal(low) {
            return low;
        }
        // Mostly there is one item of a score.
        high = if equal(low + 1) { count(scores, |other| other <= score) } else { low + 1 };
    }
    while low < high {
        let middle = low.midpoint(high);
        let (Some(&score), Some(&record)) = (scores.get(middle), records.get(middle)) else { break };
        if lead.leads(Item { score, record }) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// How many scores at the beginning `holds` holds for; for none behind them.
#[inline]
fn count(scores: &[f64], holds: impl Fn(f64) -> bool) -> usize {
    const BLOCK: usize = 8;
    let (blocks, rest) = scores.as_chunks::<BLOCK>();
    let whole: usize = blocks.iter().map(|block| usize::from(holds(block[BLOCK - 1]))).sum();
    let within: usize = match blocks.get(whole) {
        Some(block) => block.iter().map(|score| usize::from(holds(*score))).sum(),
        None => rest.iter().map(|score| usize::from(holds(*score))).sum(),
    };
    whole * BLOCK + within
}

/// Finds the one item that is to be taken out.
pub(super) trait Seek {
    /// The child that holds it.
    fn child(&mut self, inner: &Inner) -> usize;
    /// Where it is in its leaf, if it is there.
    fn slot(&mut self, leaf: &Leaf) -> Option<usize>;
}

pub(super) struct ByRank(pub(super) u32);

impl Seek for ByRank {
    fn child(&mut self, inner: &Inner) -> usize {
        let (at, rank) = inner.child_of_rank(self.0);
        self.0 = rank;
        at
    }

    fn slot(&mut self, leaf: &Leaf) -> Option<usize> {
        let index = self.0 as usize;
        (index < leaf.len()).then_some(index)
    }
}

/// By its score, and a function that compares any reference of that score with its own.
pub(super) struct ByOrder<F>(pub(super) f64, pub(super) F);

impl<F: FnMut(u32) -> Ordering> Seek for ByOrder<F> {
    fn child(&mut self, inner: &Inner) -> usize {
        inner.child_where(&mut Among(self.0, |record| (self.1)(record) != Ordering::Greater)).0
    }

    fn slot(&mut self, leaf: &Leaf) -> Option<usize> {
        let index = leaf.leading(&mut Among(self.0, |record| (self.1)(record) == Ordering::Less));
        let item = leaf.item(index);
        (index < leaf.len() && item.score == self.0 && (self.1)(item.record) == Ordering::Equal)
            .then_some(index)
    }
}
