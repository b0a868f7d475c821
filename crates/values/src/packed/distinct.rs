//! Whether elements repeat, for what comes from outside.

use super::Element;
use crate::index::hash_of;
use std::borrow::Cow;

/// So many elements are told apart without asking for memory.
const FEW: usize = 64;
/// Places for their hashes.
const PLACES: usize = 2 * FEW;

/// Whether no two elements spell the same text. Elements are looked at several times.
#[must_use]
pub fn are_distinct<'t>(elements: impl Iterator<Item = Element<'t>> + Clone) -> bool {
    // Texts are compared where hashes are equal: almost never, but for one that is there twice.
    few_differ(elements.clone()).unwrap_or_else(|| hashes_differ(elements.clone())) || texts_differ(elements)
}

/// Whether no two have the same hash; `None` for more than a few.
fn few_differ<'t>(elements: impl Iterator<Item = Element<'t>>) -> Option<bool> {
    // A table without removals: a hash stands at its home, or behind others without a gap. 0 is an empty place.
    let mut places = [0_u64; PLACES];
    for (count, hash) in elements.map(hash).enumerate() {
        if count == FEW {
            return None;
        }
        let hash = hash.max(1);
        let mut at = hash as usize % PLACES;
        while places[at] != 0 {
            if places[at] == hash {
                return Some(false);
            }
            at = (at + 1) % PLACES;
        }
        places[at] = hash;
    }
    Some(true)
}

/// Whether no two have the same hash.
fn hashes_differ<'t>(elements: impl Iterator<Item = Element<'t>>) -> bool {
    let mut hashes: Vec<u64> = elements.map(hash).collect();
    hashes.sort_unstable();
    hashes.is_sorted_by(|hash, next| hash != next)
}

/// Of the text, whichever way it is kept: one that spells an integer is taken for it.
fn hash(element: Element<'_>) -> u64 {
    match element {
        Element::Int(value) => hash_of(&value.to_le_bytes()),
        // Most texts are told to be no integer by how they begin.
        Element::Bytes(text @ [b'-' | b'0'..=b'9', ..]) => match Element::of(text) {
            Element::Int(value) => hash_of(&value.to_le_bytes()),
            Element::Bytes(text) => hash_of(text),
        },
        Element::Bytes(text) => hash_of(text),
    }
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
        for count in [FEW - 1, FEW, FEW + 1, 3 * FEW] {
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
        // The eight bytes of an integer are another text, though they are what is hashed for it.
        let bytes = 7_i64.to_le_bytes();
        assert!(are_distinct([seven, Element::Bytes(&bytes)].into_iter()));
        assert!(are_distinct([].into_iter()));
    }

    proptest! {
        #[test]
        fn as_a_set_of_texts_says(texts in proptest::collection::vec("[a-c]{0,2}|[0-9]{1,3}", 0..90), step in 1_usize..20) {
            let texts: Vec<String> =
                texts.iter().enumerate().map(|(at, text)| format!("{text}{}", at / step)).collect();
            let set: HashSet<&String> = texts.iter().collect();
            let elements = texts.iter().map(|text| Element::of(text.as_bytes()));
            prop_assert_eq!(are_distinct(elements), set.len() == texts.len());
        }
    }
}
