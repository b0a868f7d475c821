//! Cases by library.

use crate::harness::{Case, compare};

/// One case a line; below it `    larder: ` and what it shows here, where that differs from Redis.
/// Empty lines and lines that begin with `#` are no cases.
fn lines(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match (line.strip_prefix("    larder: "), cases.last_mut()) {
            (Some(shown), Some(case)) => case.1 = Some(shown.to_owned()),
            _ => cases.push((line.to_owned(), None)),
        }
    }
    cases
}

#[test]
fn cjson() {
    compare(&lines(include_str!("cjson.txt")));
}

#[test]
fn cmsgpack() {
    compare(&lines(include_str!("cmsgpack.txt")));
}

#[test]
fn structs() {
    compare(&lines(include_str!("struct.txt")));
}

#[test]
fn bit() {
    compare(&lines(include_str!("bit.txt")));
}

#[test]
fn sandbox() {
    compare(&lines(include_str!("sandbox.txt")));
}

#[test]
fn base() {
    compare(&lines(include_str!("base.txt")));
}

/// Where Lua itself differs: each of them stands in `docs`.
#[test]
fn known_differences() {
    compare(&lines(include_str!("differences.txt")));
}
