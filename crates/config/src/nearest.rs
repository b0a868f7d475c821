//! The known option that a misspelt name most likely meant.
//!
//! Invariant: bounded work: names longer than any option's are not compared at all.
//! Read next: `load.rs` and `access.rs`, which add the answer to their error texts.

use crate::options::{OPTIONS, OptionSpec};

/// Names longer than this resemble none of ours.
const NAME_BYTES_MAX: usize = 64;

/// The option name closest to this one, if one is close. O(options x length squared).
pub(crate) fn nearest(name: &[u8]) -> Option<&'static str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let known = OPTIONS.iter().flat_map(OptionSpec::names).chain(["include"]);
    let scored = known.map(|known| (distance(&name, known.as_bytes()), known));
    let (steps, known) = scored.min_by_key(|&(steps, _)| steps)?;
    let close_enough = (name.len() / 3).clamp(2, 4).min(name.len() / 2);
    (steps <= close_enough).then_some(known)
}

/// Single-byte insertions, deletions and replacements that turn one into the other.
fn distance(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, byte) in one.iter().enumerate() {
        let mut diagonal = index;
        let mut left = index.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, other_byte) in row.iter_mut().skip(1).zip(other) {
            let replaced = diagonal.saturating_add(usize::from(byte != other_byte));
            diagonal = *cell;
            left = replaced.min(diagonal.saturating_add(1)).min(left.saturating_add(1));
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        assert_eq!(distance(b"kitten", b"sitting"), 3);
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"abc", b""), 3);
        assert_eq!(distance(b"abc", b"abc"), 0);
    }

    #[test]
    fn misspelt_options_are_recognised_and_nonsense_is_not() {
        for (wrong, right) in [
            ("maxmemry", "maxmemory"),
            ("MaxMemory-Polcy", "maxmemory-policy"),
            ("prot", "port"),
            ("notify_keyspace_events", "notify-keyspace-events"),
            ("thread", "threads"),
            ("slave-prioritie", "slave-priority"),
        ] {
            assert_eq!(nearest(wrong.as_bytes()), Some(right));
        }
        assert_eq!(nearest(b"zzzzzzzzzz"), None);
        assert_eq!(nearest(&[b'a'; 1000]), None);
        assert_eq!(nearest(b""), None);
    }
}
