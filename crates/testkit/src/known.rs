//! `tests/known_differences.toml`: cases in which Larder answers otherwise on purpose.
//! Invariant: an entry that no failing case needs is itself a failure, so the list cannot rot.
//! Read next: `run.rs` makes the failures that are held against it.

use crate::run::Failure;
use std::fs;
use std::path::Path;

/// The list: patterns of `folder/file.rt: title`, where `*` stands for anything, with reasons.
#[derive(Debug, Default)]
pub struct KnownDifferences {
    entries: Vec<(String, String)>,
}

impl KnownDifferences {
    /// Reads the file: lines of `"pattern" = "reason"`, comments and empty lines.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let lines = text.lines().map(str::trim).enumerate();
        let entries = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let entries = entries.map(|(index, line)| {
            parse_entry(line)
                .ok_or_else(|| format!("{}:{}: not \"pattern\" = \"reason\"", path.display(), index + 1))
        });
        Ok(Self { entries: entries.collect::<Result<_, _>>()? })
    }

    /// Splits off the failures that are not known, and the known patterns of a folder that nothing
    /// needs any more.
    pub fn sort_out(&self, folder: &str, failures: Vec<Failure>) -> (Vec<Failure>, Vec<String>) {
        let ours = |pattern: &str| pattern.starts_with(&format!("{folder}/"));
        let mut stale: Vec<String> = self.entries.iter().map(|(pattern, _)| pattern.clone()).collect();
        stale.retain(|pattern| ours(pattern));
        stale.retain(|pattern| !failures.iter().any(|failure| is_match(pattern, &failure.case)));
        let mut unknown = failures;
        unknown.retain(|failure| !self.entries.iter().any(|(p, _)| is_match(p, &failure.case)));
        (unknown, stale)
    }
}

fn parse_entry(line: &str) -> Option<(String, String)> {
    let (pattern, reason) = line.strip_prefix('"')?.split_once("\" = \"")?;
    let reason = reason.strip_suffix('"')?;
    (!reason.is_empty()).then(|| (pattern.to_owned(), reason.to_owned()))
}

/// Whether a text fits a pattern in which `*` stands for anything.
fn is_match(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|tail| {
            let mut ends = tail.char_indices().map(|(at, _)| at).chain([tail.len()]);
            ends.any(|at| tail.get(at..).is_some_and(|tail| is_match(rest, tail)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(case: &str) -> Failure {
        Failure { case: case.into(), line: 1, protocol: 2, problem: String::new() }
    }

    #[test]
    fn known_failures_pass_and_stale_entries_show() {
        let entry = |pattern: &str| (pattern.to_owned(), "because".to_owned());
        let known = KnownDifferences { entries: vec![entry("a/x.rt: one*"), entry("a/y.rt: gone")] };
        let failures = vec![failure("a/x.rt: one thing"), failure("a/x.rt: two")];
        let (unknown, stale) = known.sort_out("a", failures);
        assert_eq!(unknown.len(), 1);
        assert_eq!(stale, ["a/y.rt: gone"]);
        assert_eq!(known.sort_out("b", Vec::new()).1, Vec::<String>::new());
    }

    #[test]
    fn an_entry_needs_a_reason() {
        assert_eq!(parse_entry("\"a\" = \"\""), None);
        assert_eq!(parse_entry("\"a\" = \"b\""), Some(("a".into(), "b".into())));
    }
}
