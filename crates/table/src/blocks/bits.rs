//! A bit for each page of a stretch, and the spans of bits that are alike.

use super::runs::PAGES;
use std::ops::Range;

const WORDS: usize = PAGES / 64;

/// The bits, all clear at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits([u64; WORDS]);

impl Bits {
    /// Sets or clears a span, which lies within.
    pub(super) fn put(&mut self, span: Range<usize>, is_set: bool) {
        for (at, word) in self.0.iter_mut().enumerate() {
            let from = span.start.clamp(at * 64, at * 64 + 64) - at * 64;
            let to = span.end.clamp(at * 64, at * 64 + 64) - at * 64;
            if from < to {
                let mask = (u64::MAX >> (64 - (to - from))) << from;
                *word = if is_set { *word | mask } else { *word & !mask };
            }
        }
    }

    /// How many bits of a span are set.
    pub(super) fn count(&self, span: Range<usize>) -> usize {
        let mut only = Bits::default();
        only.put(span, true);
        self.0.iter().zip(only.0).map(|(word, mask)| (word & mask).count_ones() as usize).sum()
    }

    /// Sets what another has set.
    pub(super) fn set_all(&mut self, other: &Bits) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
    }

    /// Clears what another has set.
    pub(super) fn clear_all(&mut self, other: &Bits) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= !other);
    }

    /// The first bit from a position on that is as asked for; `PAGES` for none.
    #[inline]
    fn first(&self, from: usize, is_set: bool) -> usize {
        let flip = if is_set { 0 } else { u64::MAX };
        let mut mask = u64::MAX.checked_shl(from as u32 % 64).unwrap_or(0);
        for (at, word) in self.0.iter().enumerate().skip(from / 64) {
            let found = (word ^ flip) & mask;
            if found != 0 {
                return at * 64 + found.trailing_zeros() as usize;
            }
            mask = u64::MAX;
        }
        PAGES
    }

    /// The spans of set bits, or of clear ones, in ascending order.
    pub(super) fn spans(&self, is_set: bool) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.first(at, is_set);
            at = self.first(start, !is_set);
            (start < PAGES).then_some(start..at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_are_those_of_a_vector(
            puts in prop::collection::vec((0..PAGES, 0..PAGES, any::<bool>()), 0..30),
            counted in (0..PAGES, 0..PAGES),
        ) {
            let (mut bits, mut vector) = (Bits::default(), vec![false; PAGES]);
            for (one, other, is_set) in puts {
                let span = one.min(other)..one.max(other);
                bits.put(span.clone(), is_set);
                vector[span].fill(is_set);
            }
            for is_set in [false, true] {
                let mut seen = vec![!is_set; PAGES];
                let mut end = None;
                for span in bits.spans(is_set) {
                    // Each is as long as it can be, so two never touch.
                    prop_assert!(!span.is_empty() && end.is_none_or(|end| end < span.start));
                    end = Some(span.end);
                    seen[span].fill(is_set);
                }
                prop_assert_eq!(&seen, &vector);
            }
            let span = counted.0.min(counted.1)..counted.0.max(counted.1);
            prop_assert_eq!(bits.count(span.clone()), vector[span].iter().filter(|bit| **bit).count());
            let mut both = Bits::default();
            both.set_all(&bits);
            prop_assert_eq!(both, bits);
            both.clear_all(&bits);
            prop_assert_eq!(both, Bits::default());
        }
    }
}
