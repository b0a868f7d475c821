//! A Rust file with comments, strings and characters blanked out, so that words and braces can be
//! counted without a parser.
//!
//! Invariant: `code` has the length and the line breaks of the file, so positions agree.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A file of the repository.
pub struct Source {
    /// Where it is, relative to the root, with `/`.
    pub path: String,
    /// As it stands on disk.
    pub text: String,
    /// The same with everything but code turned to blanks.
    pub code: String,
    /// Whether the whole file is a test.
    pub is_test: bool,
}

/// A function.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its `fn`, from 1.
    pub line: usize,
    /// From the line of `fn` to the closing brace.
    pub lines: usize,
}

impl Source {
    /// From a path and what the file holds.
    pub fn new(path: String, text: String) -> Self {
        let code = blank(&text);
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        Self { path, text, code, is_test }
    }

    /// The crate's folder name when the file is in `crates/NAME/src`.
    pub fn crate_name(&self) -> Option<&str> {
        let (name, rest) = self.path.strip_prefix("crates/")?.split_once('/')?;
        rest.starts_with("src/").then_some(name)
    }

    /// The files of modules that this one declares for tests only.
    fn test_files(&self) -> Vec<String> {
        let (folder, file) = self.path.rsplit_once('/').unwrap_or_default();
        let folder = match file {
            "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
            _ => format!("{folder}/{}", file.trim_end_matches(".rs")),
        };
        let items = self.test_ranges().into_iter().filter_map(|range| self.code.get(range));
        let names = items.filter_map(|item| item.split_once("mod ").filter(|_| !item.contains('{')));
        names
            .flat_map(|(_, name)| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")])
            .collect()
    }

    /// The line of a position, from 1.
    pub fn line_at(&self, position: usize) -> usize {
        self.text.as_bytes().iter().take(position).filter(|&&byte| byte == b'\n').count() + 1
    }

    /// Where `word` stands in the code as a whole word.
    pub fn find_word(&self, word: &str) -> Vec<usize> {
        let is_part =
            |byte: Option<&u8>| byte.is_some_and(|&byte| byte == b'_' || byte.is_ascii_alphanumeric());
        let bytes = self.code.as_bytes();
        self.code
            .match_indices(word)
            .map(|(at, _)| at)
            .filter(|&at| !is_part(at.checked_sub(1).and_then(|before| bytes.get(before))))
            .filter(|&at| !is_part(bytes.get(at + word.len())))
            .collect()
    }

    /// The parts of the code that exist only in tests.
    pub fn test_ranges(&self) -> Vec<Range<usize>> {
        self.code
            .match_indices("#[cfg(test)]")
            .chain(self.code.match_indices("#[cfg(all(test"))
            .map(|(at, _)| at..self.end_of_item(at).unwrap_or(self.code.len()))
            .collect()
    }

    /// All functions that have a body.
    pub fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for at in self.find_word("fn") {
            let rest = self.code.get(at + 2..).unwrap_or_default().trim_start();
            let name: String = rest.chars().take_while(|c| *c == '_' || c.is_alphanumeric()).collect();
            let Some(end) = self.end_of_item(at) else { continue };
            // Without a name it is a type such as `fn(u8)`, without a brace a trait's signature.
            if name.is_empty() || self.code.as_bytes().get(end) != Some(&b'}') {
                continue;
            }
            let line = self.line_at(at);
            functions.push(Function { name, line, lines: self.line_at(end) - line + 1 });
        }
        functions
    }

    /// The end of the item that begins at `from`: its closing brace, or its semicolon.
    fn end_of_item(&self, from: usize) -> Option<usize> {
        let (mut braces, mut others) = (0_usize, 0_usize);
        for (offset, byte) in self.code.get(from..)?.bytes().enumerate() {
            match byte {
                b'{' => braces += 1,
                b'}' => {
                    braces = braces.checked_sub(1)?;
                    if braces == 0 && others == 0 {
                        return Some(from + offset);
                    }
                }
                b'(' | b'[' => others += 1,
                b')' | b']' => others = others.checked_sub(1)?,
                b';' if braces == 0 && others == 0 => return Some(from + offset),
                _ => {}
            }
        }
        None
    }
}

/// All Rust files below the given folders of the repository, sorted by path.
pub fn read_all(root: &Path, folders: &[&str]) -> Result<Vec<Source>, String> {
    let mut paths = Vec::new();
    for folder in folders {
        collect(&root.join(folder), &mut paths).map_err(|error| format!("{folder}: {error}"))?;
    }
    paths.sort();
    let sources: Result<Vec<Source>, String> = paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            Ok(Source::new(relative, text))
        })
        .collect();
    let mut sources = sources?;
    let test_files: BTreeSet<String> = sources.iter().flat_map(Source::test_files).collect();
    for source in &mut sources {
        source.is_test |= test_files.contains(&source.path);
    }
    Ok(sources)
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

/// Turns comments, strings and characters into blanks of the same length.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let length = length_of_other(bytes, at);
        for byte in code.iter_mut().skip(at).take(length) {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at += length.max(1);
    }
    // Only whole comments and literals were replaced, and identifiers are left alone.
    String::from_utf8(code).unwrap_or_default()
}

/// How many bytes from `at` on are a comment, a string or a character; 0 when it is code.
fn length_of_other(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let inside_word = at.checked_sub(1).and_then(|before| bytes.get(before)).is_some_and(is_word);
    match rest {
        [b'/', b'/', ..] => rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => 1 + string(rest.get(1..).unwrap_or_default()),
        [b'r', b'"' | b'#', ..] if !inside_word => raw_string(rest, 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !inside_word => raw_string(rest, 2),
        [b'\'', ..] => character(rest),
        _ => 0,
    }
}

fn is_word(byte: &u8) -> bool {
    *byte == b'_' || byte.is_ascii_alphanumeric()
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match rest.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// From behind the opening quote to behind the closing one.
fn string(rest: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = rest.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `prefix` letters, then any number of `#`, then a quote; otherwise (a raw identifier) 0.
fn raw_string(rest: &[u8], prefix: usize) -> usize {
    let hashes = rest.iter().skip(prefix).take_while(|&&byte| byte == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let from = prefix + hashes + 1;
    let body = rest.get(from..).unwrap_or_default();
    body.windows(end.len()).position(|window| window == end).map_or(rest.len(), |at| from + at + end.len())
}

/// A character such as `'x'` or `'\n'`; a lifetime is code.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|&byte| byte == b'\'');
        return close.map_or(rest.len(), |at| at + 4);
    }
    let text = std::str::from_utf8(rest.get(1..rest.len().min(8)).unwrap_or_default());
    let valid = text.unwrap_or_else(|error| {
        std::str::from_utf8(rest.get(1..1 + error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
    });
    let first = valid.chars().next().map_or(1, char::len_utf8);
    if rest.get(1 + first) == Some(&b'\'') { first + 2 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("crates/store/src/x.rs".into(), text.into())
    }

    #[test]
    fn only_code_is_left() {
        let text =
            "a /* b /* c */ d */ \"{ \\\" }\" r#\"\"}\"# b\"}\" '{' '\\'' '\\u{7b}' 'ü' <'a> r#fn // {\nz";
        let kept: String = blank(text).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(kept, "a b <'a> r#fn z");
        assert_eq!(blank(text).len(), text.len());
    }

    #[test]
    fn functions_are_found_with_their_length() {
        let source =
            source("fn a(x: [u8; 3]) -> fn() {\n  { }\n}\ntrait T {\n  fn none(&self);\n  fn b() {}\n}\n");
        let found: Vec<_> = source.functions().into_iter().map(|f| (f.name, f.line, f.lines)).collect();
        assert_eq!(found, [("a".into(), 1, 3), ("b".into(), 6, 1)]);
    }

    #[test]
    fn test_modules_are_known() {
        let source = source("fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nfn c() {}");
        let [range] = source.test_ranges().try_into().unwrap();
        assert_eq!(source.line_at(range.start), 2);
        assert_eq!(source.line_at(range.end), 5);
    }

    #[test]
    fn files_of_test_modules_are_tests() {
        let source =
            Source::new("crates/store/src/lib.rs".into(), "mod a;\n#[cfg(test)]\nmod testing;\n".into());
        assert_eq!(source.test_files(), ["crates/store/src/testing.rs", "crates/store/src/testing/mod.rs"]);
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(source("unsafe_code unsafe { } not_unsafe // unsafe").find_word("unsafe"), [12]);
    }
}
