//! Whether elements repeat, for what comes from outside.

use super::Element;
use std::borrow::Cow;

/// So many elements are told apart without asking for memory, in twice as many places; the fewer places, the less there is to clear.
const FEW: usize = 16;
/// So many as well.
const SOME: usize = 128;

/// Whether no two elements spell the same text. Elements are looked at several times.
#[must_use]
pub fn are_distinct<'t>(elements: impl Iterator<Item = Element<'t>> + Clone) -> bool {
    // Texts are compared where hashes are equal: almost never, but for one that is there twice.
    hashes_of_some_differ::<{ 2 * FEW }>(elements.clone())
        .or_else(|| hashes_of_some_differ::<{ 2 * SOME }>(elements.clone()))
        .unwrap_or_else(|| hashes_differ(elements.clone()))
        || texts_differ(elements)
}

/// Elements that are told one by one, of which few need to be remembered.
#[derive(Debug, Default)]
pub struct Seen(Hashes<{ 2 * FEW }>);

impl Seen {
    /// Takes note of an element.
    #[inline]
    pub fn add(&mut self, element: Element<'_>) {
        self.0.add(hash(element));
    }

    /// Whether no two of them spell the same text; `elements` are they, once more, to be looked at where that is not certain.
    #[inline]
    pub fn are_distinct<'t>(&self, elements: impl Iterator<Item = Element<'t>> + Clone) -> bool {
        self.0.differ() == Some(true) || are_distinct(elements)
    }
}

/// Hashes, or rather halves of them, up to half as many as there are places.
#[derive(Debug)]
struct Hashes<const PLACES: usize> {
    /// A table without removals: a hash stands at its home, or behind others without a gap. 0 is an empty place.
    places: [u32; PLACES],
    count: usize,
    /// One came twice.
    is_twice: bool,
}

impl<const PLACES: usize> Default for Hashes<PLACES> {
    fn default() -> Self {
        Hashes { places: [0; PLACES], count: 0, is_twice: false }
    }
}

impl<const PLACES: usize> Hashes<PLACES> {
    #[inline]
    fn add(&mut self, hash: u64) {
        self.count += 1;
        if self.is_full() {
            return;
        }
        let half = (hash >> 32) as u32 | 1;
        let mut at = hash as usize % PLACES;
        while self.places[at] != 0 {
            if self.places[at] == half {
                self.is_twice = true;
                return;
            }
            at = (at + 1) % PLACES;
        }
        self.places[at] = half;
    }

    /// Whether more came than are remembered.
    #[inline]
    fn is_full(&self) -> bool {
        self.count > PLACES / 2
    }

    /// Whether no two are the same; `None` for too many.
    #[inline]
    fn differ(&self) -> Option<bool> {
        (!self.is_full()).then_some(!self.is_twice)
    }
}

/// Whether no two have the same hash; `None` for more than half as many as there are places.
fn hashes_of_some_differ<'t, const PLACES: usize>(
    elements: impl Iterator<Item = Element<'t>>,
) -> Option<bool> {
    let mut hashes = Hashes::<PLACES>::default();
    for hash in elements.map(hash) {
        hashes.add(hash);
        if hashes.is_full() || hashes.is_twice {
            break;
        }
    }
    hashes.differ()
}

/// Whether no two have the same hash.
fn hashes_differ<'t>(elements: impl Iterator<Item = Element<'t>>) -> bool {
    let mut hashes: Vec<u64> = elements.map(hash).collect();
    hashes.sort_unstable();
    hashes.is_sorted_by(|hash, next| hash != next)
}

/// Of the text, whichever way it is kept: one that spells an integer may have been kept as a text elsewhere.
#[inline]
fn hash(element: Element<'_>) -> u64 {
    let element = match element {
        Element::Bytes(text @ [.., b'0'..=b'9']) => Element::of(text),
        other => other,
    };
    match element {
        Element::Bytes(text) => hash_of_text(text),
        Element::Int(value) => mixed(value as u64 ^ OF_INTEGERS),
    }
}

/// What tells integers from texts of their eight bytes.
const OF_INTEGERS: u64 = 0xd1b5_4a32_d192_ed03;

/// A quick hash under no secret: texts that were made to share it cost a comparison of all texts, which is bounded, and no more.
#[inline]
fn hash_of_text(text: &[u8]) -> u64 {
    let (words, rest) = text.as_chunks::<8>();
    let mut hash = text.len() as u64;
    for word in words {
        hash = mixed(hash ^ u64::from_le_bytes(*word));
    }
    match (rest, text.last_chunk::<8>()) {
        ([], _) => hash,
        (_, Some(last)) => mixed(hash ^ u64::from_le_bytes(*last)),
        (rest, None) => {
            let bytes = rest.iter().fold(0, |bytes, &byte| bytes << 8 | u64::from(byte));
            mixed(hash ^ bytes)
        }
    }
}

/// Both halves of the product with an odd number, that of the golden ratio.
#[inline]
fn mixed(word: u64) -> u64 {
    let wide = u128::from(word) * 0x9e37_79b9_7f4a_7c15;
    wide as u64 ^ (wide >> 64) as u64
}

fn texts_differ<'t>(elements: impl Iterator<Item = Element<'t>>) -> bool {
    let mut texts: Vec<Cow<'t, [u8]>> = elements
        .map(|element| match element {
            Element::Bytes(text) => Cow::Borrowed(text),
            Element::Int(_) => Cow::Owned(element.to_vec()),
        })
        .collect();
    texts.sort_unstable();
    texts.is_sorted_by(|one, next| one != next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn many_are_told_apart_as_few_are() {
        for count in [FEW - 1, FEW, FEW + 1, 3 * FEW, SOME - 1, SOME, SOME + 1, 3 * SOME] {
            let elements = (0..count as i64).map(Element::Int);
            assert!(are_distinct(elements.clone()), "{count}");
            assert!(!are_distinct(elements.chain([Element::Bytes(b"5")])), "{count}");
        }
    }

    #[test]
    fn a_text_is_the_same_however_it_is_kept() {
        let [seven, text, other] = [Element::Int(7), Element::Bytes(b"7"), Element::Bytes(b"07")];
        assert!(!are_distinct([seven, text].into_iter()));
        assert!(are_distinct([seven, other].into_iter()));
        // The eight bytes of an integer are another text.
        let bytes = 7_i64.to_le_bytes();
        assert!(are_distinct([seven, Element::Bytes(&bytes)].into_iter()));
        assert!(are_distinct([].into_iter()));
    }

    #[test]
    fn texts_that_share_a_hash_are_compared() {
        // The second word makes up for the first.
        let text = |first: u64| {
            let second = mixed(16 ^ first) ^ 99;
            [first.to_le_bytes(), second.to_le_bytes()].concat()
        };
        let texts: Vec<_> = (0..=SOME as u64 * 2).map(text).collect();
        for count in [2, FEW, SOME, texts.len()] {
            let elements = texts.iter().take(count).map(|text| Element::Bytes(text));
            assert_eq!(elements.clone().map(hash).collect::<HashSet<_>>().len(), 1);
            assert!(are_distinct(elements.clone()), "{count}");
            assert!(!are_distinct(elements.chain([Element::Bytes(&texts[1])])), "{count}");
        }
    }

    proptest! {
        #[test]
        fn as_a_set_of_texts_says(texts in proptest::collection::vec("[a-c]{0,2}|[0-9]{1,3}", 0..90), step in 1_usize..20) {
            let texts: Vec<String> =
                texts.iter().enumerate().map(|(at, text)| format!("{text}{}", at / step)).collect();
            let set: HashSet<&String> = texts.iter().collect();
            let elements = texts.iter().map(|text| Element::of(text.as_bytes()));
            prop_assert_eq!(are_distinct(elements.clone()), set.len() == texts.len());
            let mut seen = Seen::default();
            elements.clone().for_each(|element| seen.add(element));
            prop_assert_eq!(seen.are_distinct(elements), set.len() == texts.len());
        }
    }
}
