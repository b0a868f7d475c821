//! The glob matcher against a slow twin that tries every way a `*` can be filled.

use larder_values::glob::{Case, is_match_all, literal_prefix, matches, matches_with};

/// Longest pattern and text that the twin is asked about, in bytes.
const LENGTH_MAX: usize = 200;

/// A pattern and a text, apart at the first zero byte.
pub fn glob(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    let (pattern, text) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let matched = matches(pattern, text);
    matches_with(pattern, text, Case::Ignored);
    if matched {
        assert!(text.starts_with(literal_prefix(pattern)));
    }
    if is_match_all(pattern) && !text.is_empty() {
        assert!(matched);
    }
    let escaped: Vec<u8> = text.iter().flat_map(|&byte| [b'\\', byte]).collect();
    assert!(matches(&escaped, text), "an escaped text matches itself");
    if pattern.len() <= LENGTH_MAX && text.len() <= LENGTH_MAX && !text.is_empty() {
        assert_eq!(matched, matches_slowly(&tokens(pattern), text));
    }
}

/// One row for each token: which ends of the text are reached when all tokens so far are used.
fn matches_slowly(tokens: &[&[u8]], text: &[u8]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for token in tokens {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            if *token == b"*" {
                next[at] = reached[at] || at > 0 && next[at - 1];
            } else if at > 0 {
                next[at] = reached[at - 1] && matches(token, &text[at - 1..at]);
            }
        }
        reached = next;
    }
    reached[text.len()]
}

/// Splits a pattern into what matches one byte, and stars.
fn tokens(mut pattern: &[u8]) -> Vec<&[u8]> {
    let mut tokens = Vec::new();
    while let Some(&first) = pattern.first() {
        let length = match first {
            b'\\' => 2,
            b'[' => class_length(pattern),
            _ => 1,
        };
        let (token, rest) = pattern.split_at(length.min(pattern.len()));
        tokens.push(token);
        pattern = rest;
    }
    tokens
}

fn class_length(pattern: &[u8]) -> usize {
    let mut at = if pattern.get(1) == Some(&b'^') { 2 } else { 1 };
    loop {
        at += match pattern.get(at..).unwrap_or_default() {
            [] => return at,
            [b'\\', _, ..] => 2,
            [b']', ..] => return at + 1,
            [_, b'-', _, ..] => 3,
            _ => 1,
        };
    }
}
