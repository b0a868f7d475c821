//! Glob patterns in the dialect of KEYS, SCAN, PSUBSCRIBE and CONFIG GET.
//!
//! `*`, `?`, `[ab]`, `[a-z]`, `[^a]`, `\x`. Bytes, not characters.
//! Invariant: no recursion and no allocation; a match costs at most pattern × text steps, because
//! only the last `*` is ever retried.

/// A pattern that passes this many `*` groups before its last one matches nothing, as in Redis.
const STARS_MAX: usize = 1000;

/// Whether letters of different case are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// `a` matches only `a`.
    Sensitive,
    /// ASCII letters match in either case; an escaped byte inside a class still does not.
    Ignored,
}

impl Case {
    fn fold(self, byte: u8) -> u8 {
        match self {
            Case::Sensitive => byte,
            Case::Ignored => byte.to_ascii_lowercase(),
        }
    }
}

/// Whether `pattern` matches all of `text`, letters by their case.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    matches_with(pattern, text, Case::Sensitive)
}

/// Whether `pattern` matches all of `text`. An empty text is matched by the empty pattern only:
/// callers that mean "everything" ask `is_match_all` first, as Redis does.
pub fn matches_with(pattern: &[u8], text: &[u8], case: Case) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // Where to go on when the rest fails: the pattern after the last `*`, and the text it tries next.
    let mut retry: Option<(usize, usize)> = None;
    let mut stars = 0;
    loop {
        if t == text.len() {
            if pattern[p..].iter().all(|&byte| byte == b'*') {
                return true;
            }
        } else if pattern.get(p) == Some(&b'*') {
            p += pattern[p..].iter().take_while(|&&byte| byte == b'*').count();
            if p == pattern.len() {
                return true;
            }
            stars += 1;
            if stars > STARS_MAX {
                return false;
            }
            retry = Some((p, t));
            continue;
        } else if let Some(used) = step(&pattern[p..], text[t], case) {
            (p, t) = (p + used, t + 1);
            continue;
        }
        match retry {
            Some((after_star, tried)) if tried + 1 < text.len() => {
                retry = Some((after_star, tried + 1));
                (p, t) = (after_star, tried + 1);
            }
            _ => return false,
        }
    }
}

/// Whether the pattern is the bare `*`, which matches every text, the empty one included.
pub fn is_match_all(pattern: &[u8]) -> bool {
    pattern == b"*"
}

/// The bytes every matching text starts with: the pattern up to its first special byte.
pub fn literal_prefix(pattern: &[u8]) -> &[u8] {
    let end =
        pattern.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\')).unwrap_or(pattern.len());
    &pattern[..end]
}

/// Matches one byte against the pattern's first element; the element's length if it matches.
fn step(pattern: &[u8], byte: u8, case: Case) -> Option<usize> {
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ref class @ ..] => {
            let (matched, used) = class_matches(class, byte, case);
            matched.then_some(used + 1)
        }
        [b'\\', escaped, ..] => (case.fold(escaped) == case.fold(byte)).then_some(2),
        [literal, ..] => (case.fold(literal) == case.fold(byte)).then_some(1),
    }
}

/// Matches a byte against a class, given after its `[`. Returns the length with the `]` too;
/// a class without one ends with the pattern.
fn class_matches(class: &[u8], byte: u8, case: Case) -> (bool, usize) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut matched = false;
    loop {
        match class[at..] {
            [] => break,
            [b'\\', escaped, ..] => {
                matched |= escaped == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [start, b'-', end, ..] => {
                matched |= in_range(start, end, byte, case);
                at += 3;
            }
            [member, ..] => {
                matched |= case.fold(member) == case.fold(byte);
                at += 1;
            }
        }
    }
    (matched != negated, at)
}

/// Bounds in either order. Bytes compare as signed: 0x80 to 0xff stand below 0, as in Redis.
fn in_range(start: u8, end: u8, byte: u8, case: Case) -> bool {
    // The bounds are put in order first and folded after, so a range may become empty.
    let (low, high) = if (start as i8) > (end as i8) { (end, start) } else { (start, end) };
    let [low, high, byte] = [low, high, byte].map(|byte| case.fold(byte) as i8);
    low <= byte && byte <= high
}

/// The slow twin of `matches` for tests: carries every place of the pattern that the text so far
/// can have led to. Knows no bound on `*`.
pub(crate) fn matches_all_ways(pattern: &[u8], text: &[u8]) -> bool {
    matches_all_ways_with(pattern, text, Case::Sensitive)
}

fn matches_all_ways_with(pattern: &[u8], text: &[u8], case: Case) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let mut places = vec![false; pattern.len() + 1];
    places[0] = true;
    for &byte in text {
        let mut next = vec![false; pattern.len() + 1];
        for at in 0..pattern.len() {
            if !places[at] {
                continue;
            }
            if pattern[at] == b'*' {
                (places[at + 1], next[at]) = (true, true);
            } else if let Some(used) = step(&pattern[at..], byte, case) {
                next[at + used] = true;
            }
        }
        places = next;
    }
    (0..=pattern.len()).any(|at| places[at] && pattern[at..].iter().all(|&byte| byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_dialect() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("**", "", false),
            ("?", "", false),
            ("a**", "a", true),
            ("h?llo", "hello", true),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[b-a]llo", "hallo", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("[", "[", false),
            ("[a", "a", true),
            ("[^", "a", true),
            ("[]", "a", false),
            ("[]a]", "a", false),
            ("[^]", "a", true),
            ("[a-", "-", true),
            ("[\\]]", "]", true),
            ("[\\", "\\", true),
            ("\\", "\\", true),
            ("[a-c-e]", "d", false),
            ("[a-c-e]", "-", true),
            ("*[", "a", false),
            ("*a*b", "xaxxb", true),
            ("*a*b", "xaxxbc", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        assert!(matches(b"[\x01-\xff]", b"\x00") && !matches(b"[\x01-\xff]", b"\x80"));
        assert!(
            matches_with(b"[a-c]X", b"Bx", Case::Ignored) && !matches_with(b"[\\a]", b"A", Case::Ignored)
        );
        assert_eq!(literal_prefix(b"user:*"), b"user:");
    }

    #[test]
    fn many_stars_end_early() {
        for (stars, expected) in [(999, true), (1000, true), (1001, false)] {
            assert_eq!(matches(&b"*a".repeat(stars), &b"a".repeat(stars)), expected);
        }
        // Minutes, were each `*` retried for each other.
        assert!(!matches(&[b"a*".repeat(900), b"b".to_vec()].concat(), &b"a".repeat(20_000)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        #[test]
        fn one_retry_point_is_enough(pattern in "[abA*?\\[\\]^\\\\-]{0,8}", text in "[abA\\-]{1,8}", nocase: bool) {
            let case = if nocase { Case::Ignored } else { Case::Sensitive };
            prop_assert_eq!(
                matches_with(pattern.as_bytes(), text.as_bytes(), case),
                matches_all_ways_with(pattern.as_bytes(), text.as_bytes(), case)
            );
        }
    }
}
