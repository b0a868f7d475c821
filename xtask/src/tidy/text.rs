//! What source files may hold: a header on each, unsafe code in few places, bytes instead of
//! strings on the data path, names that say something.

use crate::source::Source;

/// Where `unsafe` may stand: the table, the I/O back-ends, the allocator hook.
const UNSAFE_ALLOWED: &[&str] = &["crates/table/", "crates/server/src/io", "crates/server/src/alloc"];

/// Crates in which keys, members and values are `[u8]` and nothing else.
const BYTES_ONLY: &[&str] = &["table", "store", "resp", "commands"];

/// Where text is built in those crates after all: (file, why). Each entry must still be needed.
const TEXT_ALLOWED: &[(&str, &str)] = &[
    ("crates/commands/src/command_info.rs", "names of subcommands are put together once, at start"),
    ("crates/commands/src/keys/dump.rs", "the text of an error about a payload"),
];

/// Names that say nothing about what is in a file.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "misc"];

/// Problems with the text of files.
pub fn check(sources: &[Source]) -> Vec<String> {
    let mut problems: Vec<String> = sources.iter().flat_map(check_one).collect();
    for (path, _) in TEXT_ALLOWED {
        if !sources.iter().any(|source| source.path == *path && !text_uses(source).is_empty()) {
            problems
                .push(format!("{path}: no longer needs its entry in TEXT_ALLOWED of xtask/src/tidy/text.rs"));
        }
    }
    problems
}

fn check_one(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    let path = source.path.as_str();
    if source.path.contains("/src/") && !source.text.starts_with("//!") {
        problems.push(format!("{path}:1: begin with //! (what it is, its invariant, where to read next)"));
    }
    let stem = path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs")).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        problems.push(format!("{path}: name the file after the idea in it"));
    }
    if !UNSAFE_ALLOWED.iter().any(|allowed| path.starts_with(allowed)) {
        let places = source.find_word("unsafe").into_iter().map(|at| source.line_at(at));
        problems.extend(
            places.map(|line| format!("{path}:{line}: unsafe is for the table and the I/O back-ends")),
        );
    }
    if !TEXT_ALLOWED.iter().any(|(allowed, _)| *allowed == path) {
        let places = text_uses(source).into_iter().map(|at| source.line_at(at));
        problems.extend(
            places.map(|line| format!("{path}:{line}: the data path is bytes: no String, no from_utf8")),
        );
    }
    problems
}

/// Where a file of the data path builds or reads text outside its tests.
fn text_uses(source: &Source) -> Vec<usize> {
    if source.is_test || !source.crate_name().is_some_and(|name| BYTES_ONLY.contains(&name)) {
        return Vec::new();
    }
    let tests = source.test_ranges();
    let words = ["from_utf8", "from_utf8_lossy", "from_utf8_lossy_owned", "from_utf8_unchecked", "to_string"];
    let mut found: Vec<usize> = words.iter().flat_map(|word| source.find_word(word)).collect();
    found.extend(source.find_word("String").into_iter().filter(|&at| is_type(source, at)));
    found.retain(|&at| !tests.iter().any(|range| range.contains(&at)));
    found
}

/// Whether `String` at a position is the type, and not the variant of an enum.
fn is_type(source: &Source, at: usize) -> bool {
    let before = source.code.get(..at).unwrap_or_default().trim_end();
    let after = source.code.get(at + "String".len()..).unwrap_or_default();
    let in_type = ["string::", "<", "->", "&", "("].iter().any(|end| before.ends_with(end));
    let after_colon = before.ends_with(':') && !before.ends_with("::");
    after.starts_with("::") || in_type || after_colon
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> usize {
        check_one(&Source::new(path.into(), text.into())).len()
    }

    #[test]
    fn headers_are_asked_for_in_sources_only() {
        assert_eq!(problems("crates/resp/src/a.rs", "fn a() {}"), 1);
        assert_eq!(problems("crates/resp/src/a.rs", "//! A.\nfn a() {}"), 0);
        assert_eq!(problems("crates/resp/tests/a.rs", "fn a() {}"), 0);
    }

    #[test]
    fn unsafe_stays_where_it_belongs() {
        assert_eq!(problems("crates/store/src/a.rs", "//! A.\nfn a() { unsafe { } }"), 1);
        assert_eq!(problems("crates/store/src/a.rs", "//! unsafe\n#![forbid(unsafe_code)]"), 0);
        assert_eq!(problems("crates/server/src/io/epoll.rs", "//! A.\nfn a() { unsafe { } }"), 0);
    }

    #[test]
    fn strings_are_found_and_variants_are_not() {
        let path = "crates/store/src/a.rs";
        assert_eq!(problems(path, "//! A.\nfn a(b: String) -> std::string::String {}"), 2);
        assert_eq!(problems(path, "//! A.\nfn a() { str::from_utf8(b) }"), 1);
        assert_eq!(problems(path, "//! A.\nenum A {\n    String,\n}\nconst B: A = A::String;"), 0);
        assert_eq!(problems(path, "//! A.\n#[cfg(test)]\nmod tests { fn a(b: String) {} }"), 0);
        assert_eq!(problems("crates/config/src/a.rs", "//! A.\nfn a(b: String) {}"), 0);
    }
}
