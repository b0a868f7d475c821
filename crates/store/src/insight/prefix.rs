//! Prefixes of keys: what stands before the first delimiter, and before the second.

use larder_policy::mix;

/// What ends a part of a key's name.
pub const DELIMITERS: &[u8] = b":/|.#";
/// A prefix is looked for in so many bytes of a key.
pub const PREFIX_BYTES_MAX: usize = 64;
/// Prefixes of a key, at most.
pub(super) const LEVELS: usize = 2;

/// Whether a byte is a delimiter.
const ENDS: [bool; 256] = {
    let mut ends = [false; 256];
    let mut at = 0;
    while at < DELIMITERS.len() {
        ends[DELIMITERS[at] as usize] = true;
        at += 1;
    }
    ends
};

/// The prefixes of a key, each with its delimiter, the shortest first. A delimiter at the very beginning ends nothing. A key
/// without one has the empty prefix.
pub(super) fn prefixes(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let looked_at = key.get(..PREFIX_BYTES_MAX).unwrap_or(key);
    let is_end = |(at, byte): (usize, &u8)| (ENDS[usize::from(*byte)] && at > 0).then_some(at + 1);
    let mut ends = looked_at.iter().enumerate().filter_map(is_end);
    let first = ends.next().unwrap_or(0);
    let others = ends.take(LEVELS - 1);
    std::iter::once(first).chain(others).filter_map(|end| looked_at.get(..end))
}

/// A hash of a prefix.
pub(super) fn hash_of(prefix: &[u8]) -> u64 {
    prefix.chunks(8).fold(prefix.len() as u64 + 1, |hash, chunk| {
        let word = chunk.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        mix(hash ^ word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_with_their_delimiters() {
        let of = |key: &str| -> Vec<String> {
            prefixes(key.as_bytes()).map(|prefix| String::from_utf8(prefix.to_vec()).unwrap()).collect()
        };
        assert_eq!(of("user:42:name:first"), ["user:", "user:42:"]);
        assert_eq!(of("user:42"), ["user:"]);
        assert_eq!(of("/img/a.png"), ["/img/", "/img/a."]);
        assert_eq!(of("plain_key-7"), [""]);
        assert_eq!(of(""), [""]);
        assert_eq!(of(":x"), [""]);
        assert_eq!(of(&format!("{}:x", "a".repeat(64))), [""]);
        assert_ne!(hash_of(b"a:"), hash_of(b"b:"));
        assert_ne!(hash_of(b""), hash_of(b"\0"));
    }
}
