//! The files that an `include` line names: one path, or every path that fits a pattern, sorted.
//!
//! Invariant: bounded work: a pattern yields at most [`FILES_MAX`] paths, and matching is linear in practice and at
//! worst pattern x name. Read next: `load.rs`.

use crate::kind::Reason;
use crate::load::FILES_MAX;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The paths that `pattern` names, counted from `base` when relative. A pattern that fits nothing names none.
///
/// # Errors
/// Too many paths.
pub(crate) fn expand(base: &Path, pattern: &[u8]) -> Result<Vec<PathBuf>, Reason> {
    let pattern = Path::new(OsStr::from_bytes(pattern));
    if !has_wildcard(pattern.as_os_str()) {
        return Ok(vec![base.join(pattern)]);
    }
    let mut paths = vec![if pattern.is_absolute() { PathBuf::new() } else { base.to_owned() }];
    for component in pattern.components() {
        paths = step(paths, component)?;
    }
    paths.retain(|path| path.exists());
    Ok(paths)
}

/// Every path lengthened by what the component stands for.
fn step(paths: Vec<PathBuf>, component: Component<'_>) -> Result<Vec<PathBuf>, Reason> {
    let name = component.as_os_str();
    if !has_wildcard(name) {
        return Ok(paths.into_iter().map(|path| path.join(name)).collect());
    }
    let mut longer = Vec::new();
    for path in paths {
        for entry in entries(&path, name) {
            longer.push(path.join(entry));
            if longer.len() > FILES_MAX {
                return Err(Reason::new(format!("the pattern fits more than {FILES_MAX} files")));
            }
        }
    }
    Ok(longer)
}

/// The sorted names in a directory that fit. A hidden name needs a dot in the pattern.
fn entries(directory: &Path, pattern: &OsStr) -> Vec<OsString> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let pattern = pattern.as_bytes();
    let fits = |name: &OsString| {
        let name = name.as_bytes();
        (!name.starts_with(b".") || pattern.starts_with(b".")) && fits(pattern, name)
    };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).filter(fits).collect();
    names.sort();
    names
}

fn has_wildcard(text: &OsStr) -> bool {
    text.as_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// Whether a name fits a pattern of `*`, `?`, `[...]` and plain bytes.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // Where to go on when the bytes after the last star do not fit: one byte further in the name.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some(after_star) = pattern.strip_prefix(b"*") {
            retry = Some((after_star, name));
            pattern = after_star;
            continue;
        }
        if name.is_empty() && pattern.is_empty() {
            return true;
        }
        if let Some((&byte, after)) = name.split_first()
            && let Some(rest) = one(pattern, byte)
        {
            (pattern, name) = (rest, after);
            continue;
        }
        let Some((after_star, [_, further @ ..])) = retry else { return false };
        retry = Some((after_star, further));
        (pattern, name) = (after_star, further);
    }
}

/// The pattern behind its first element, if that element fits the byte.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] if rest.contains(&b']') => {
            let end = rest.iter().skip(1).position(|&end| end == b']')?.checked_add(1)?;
            let set = rest.get(..end)?;
            let (inverted, set) = match set {
                [b'!' | b'^', set @ ..] => (true, set),
                set => (false, set),
            };
            (in_set(set, byte) != inverted).then(|| rest.get(end.saturating_add(1)..)).flatten()
        }
        [first, rest @ ..] if *first == byte => Some(rest),
        _ => None,
    }
}

fn in_set(mut set: &[u8], byte: u8) -> bool {
    loop {
        set = match set {
            [low, b'-', high, rest @ ..] => {
                if (*low..=*high).contains(&byte) {
                    return true;
                }
                rest
            }
            [single, rest @ ..] => {
                if *single == byte {
                    return true;
                }
                rest
            }
            [] => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_question_marks_and_sets_fit_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a*b*c", "aXXbYYbZc", true),
            ("a*b*c", "aXXbYYbZ", false),
            ("?.conf", "ab.conf", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[", "[", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_names_files_in_order_and_no_hidden_ones() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", ".hidden.conf", "c.txt"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let expected = vec![directory.path().join("a.conf"), directory.path().join("b.conf")];
        assert_eq!(expand(directory.path(), b"*.conf"), Ok(expected.clone()));
        let absolute = [directory.path().as_os_str().as_bytes(), b"/[ab].conf"].concat();
        assert_eq!(expand(Path::new("/nowhere"), &absolute), Ok(expected));
        assert_eq!(expand(directory.path(), b"*.none"), Ok(vec![]));
        assert_eq!(expand(directory.path(), b"gone.conf"), Ok(vec![directory.path().join("gone.conf")]));
    }

    proptest::proptest! {
        #[test]
        fn matching_answers_for_any_bytes(pattern in ".{0,20}", name in ".{0,20}") {
            let _ = fits(pattern.as_bytes(), name.as_bytes());
        }
    }
}
