//! Whether elements repeat, for what comes from outside.

use super::Element;
use crate::index::hash_of;
use std::borrow::Cow;

/// So many hashes are kept without asking for memory.
const FEW: usize = 64;

/// Whether no two elements spell the same text. Elements are looked at several times.
#[must_use]
pub fn are_distinct<'t>(elements: impl Iterator<Item = Element<'t>> + Clone) -> bool {
    let mut few = [0; FEW];
    let mut many = Vec::new();
    let mut count = 0;
    for hash in elements.clone().map(hash) {
        match few.get_mut(count) {
            Some(place) => *place = hash,
            None => {
                if many.is_empty() {
                    many.extend_from_slice(&few);
                }
                many.push(hash);
            }
        }
        count += 1;
    }
    let hashes = if many.is_empty() { few.get_mut(..count).unwrap_or_default() } else { &mut many[..] };
    hashes.sort_unstable();
    // Texts are compared where hashes are equal: almost never, but for one that is there twice.
    hashes.is_sorted_by(|hash, next| hash != next) || texts_differ(elements)
}

/// Of the text, whichever way it is kept: one that spells an integer is taken for it.
fn hash(element: Element<'_>) -> u64 {
    match element {
        Element::Int(value) => hash_of(&value.to_le_bytes()),
        Element::Bytes(text) => match Element::of(text) {
            Element::Int(value) => hash_of(&value.to_le_bytes()),
            Element::Bytes(text) => hash_of(text),
        },
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
