//! Words of rules: what may stand in them, and selectors that are spread over several.

/// Whether a text has blanks or zero bytes, which no name and no pattern may have.
pub fn has_spaces(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b' ' | b'\t'..=b'\r' | 0))
}

/// A text as C reads it: up to a zero byte.
pub(crate) fn up_to_zero(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Puts the words of each selector together, `( ... )`, so that it is one rule.
///
/// # Errors
/// The place of a bracket that is not closed.
pub fn merge_selectors(words: &[&[u8]]) -> Result<Vec<Vec<u8>>, usize> {
    let mut merged = Vec::with_capacity(words.len());
    let mut open: Option<(usize, Vec<u8>)> = None;
    for (at, word) in words.iter().enumerate() {
        match &mut open {
            None if word.first() == Some(&b'(') && word.last() != Some(&b')') => {
                open = Some((at, word.to_vec()));
            }
            None => merged.push(word.to_vec()),
            Some((_, selector)) => {
                selector.push(b' ');
                selector.extend_from_slice(up_to_zero(word));
                if word.last() == Some(&b')')
                    && let Some((_, selector)) = open.take()
                {
                    merged.push(selector);
                }
            }
        }
    }
    match open {
        Some((at, _)) => Err(at),
        None => Ok(merged),
    }
}
