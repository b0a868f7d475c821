//! Functions that do not fit a screen. Those that exist stand in a list that may only shrink.

use crate::source::Source;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Lines of a function, from `fn` to its closing brace, that still fit a screen.
const LINES_MAX: usize = 70;

/// The list, relative to the root.
const LIST: &str = "xtask/long_functions.txt";

/// What stands above the list.
const HEADER: &str = "# Functions of more than 70 lines: lines, file, name. The list may only shrink:\n\
                      # split a function rather than add to it. Written by `cargo xtask tidy --bless`.\n";

/// What to do about the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongFunctions {
    /// Complain about what is longer than the list says.
    Compare,
    /// Write what is left; what is longer remains a complaint.
    Shrink,
}

type Lengths = BTreeMap<(String, String), usize>;

/// Problems with long functions.
pub fn check(root: &Path, sources: &[Source], mode: LongFunctions) -> Result<Vec<String>, String> {
    let path = root.join(LIST);
    let text = fs::read_to_string(&path).map_err(|error| format!("{LIST}: {error}"))?;
    let listed = parse(&text)?;
    let found = measure(sources);
    if mode == LongFunctions::Shrink {
        fs::write(&path, render(&shrunk(&listed, &found))).map_err(|error| format!("{LIST}: {error}"))?;
        return Ok(grown(&listed, &found));
    }
    let mut problems = grown(&listed, &found);
    if shrunk(&listed, &found) != listed {
        problems.push(format!("{LIST}: functions became shorter: run `cargo xtask tidy --bless`"));
    }
    Ok(problems)
}

/// Long functions outside tests; of several of one name in a file, the longest.
fn measure(sources: &[Source]) -> Lengths {
    let mut lengths = Lengths::new();
    for source in sources.iter().filter(|source| !source.is_test) {
        let tests: Vec<_> = source
            .test_ranges()
            .into_iter()
            .map(|range| source.line_at(range.start)..=source.line_at(range.end))
            .collect();
        for function in source.functions() {
            if function.lines > LINES_MAX && !tests.iter().any(|lines| lines.contains(&function.line)) {
                let longest = lengths.entry((source.path.clone(), function.name)).or_default();
                *longest = function.lines.max(*longest);
            }
        }
    }
    lengths
}

fn grown(listed: &Lengths, found: &Lengths) -> Vec<String> {
    let limit = |key| listed.get(key).copied().unwrap_or(LINES_MAX);
    found
        .iter()
        .filter(|(key, lines)| **lines > limit(key))
        .map(|(key, lines)| format!("{}: fn {} has {lines} lines, at most {} fit", key.0, key.1, limit(key)))
        .collect()
}

fn shrunk(listed: &Lengths, found: &Lengths) -> Lengths {
    listed
        .iter()
        .filter_map(|(key, limit)| found.get(key).map(|lines| (key.clone(), *lines.min(limit))))
        .collect()
}

fn parse(text: &str) -> Result<Lengths, String> {
    let mut lengths = Lengths::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [lines, path, name] = words[..] else { return Err(format!("{LIST}: {line:?}")) };
        let lines = lines.parse().map_err(|_| format!("{LIST}: {line:?}"))?;
        lengths.insert((path.to_owned(), name.to_owned()), lines);
    }
    Ok(lengths)
}

fn render(lengths: &Lengths) -> String {
    let lines = lengths.iter().map(|((path, name), lines)| format!("{lines} {path} {name}\n"));
    HEADER.chars().chain(lines.collect::<String>().chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(lines: usize) -> Vec<Source> {
        let text = format!("//! A.\nfn long() {{{}}}\n", "\n".repeat(lines - 1));
        vec![Source::new("crates/store/src/a.rs".into(), text)]
    }

    fn listed(lines: usize) -> Lengths {
        Lengths::from([(("crates/store/src/a.rs".into(), "long".into()), lines)])
    }

    #[test]
    fn seventy_lines_fit() {
        assert!(grown(&Lengths::new(), &measure(&file_with(70))).is_empty());
        assert_eq!(grown(&Lengths::new(), &measure(&file_with(71))).len(), 1);
    }

    #[test]
    fn the_list_only_shrinks() {
        let found = measure(&file_with(80));
        assert!(grown(&listed(80), &found).is_empty());
        assert_eq!(grown(&listed(79), &found).len(), 1);
        assert_eq!(shrunk(&listed(90), &found), listed(80));
        assert_eq!(shrunk(&listed(75), &found), listed(75));
        assert!(shrunk(&listed(90), &measure(&file_with(70))).is_empty());
    }

    #[test]
    fn the_list_is_read_as_it_is_written() {
        assert_eq!(parse(&render(&listed(80))), Ok(listed(80)));
        assert!(parse("80 a").is_err());
    }
}
