//! Files that a program writes: the documentation of commands, the compatibility table, the list
//! of differences, the example configuration. What they say about commands comes from the built
//! binary itself.
//!
//! Invariant: every file is a function of the sources, the binary and `xtask/data`, so `--check`
//! can compare. Read next: `compatibility.rs`, `pages.rs`, `differences.rs`.

mod compatibility;
mod differences;
mod pages;

use crate::{ask, source};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What to do with the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Write them.
    Write,
    /// Fail when one would change.
    Check,
}

/// Where the pages of commands are; nothing else may be there.
const PAGES: &str = "docs/commands";

/// Generated files: path relative to the root, and text.
pub type Files = BTreeMap<String, String>;

/// Writes or checks all generated files.
pub fn run(root: &Path, server: Option<&Path>, mode: Mode) -> Result<(), String> {
    let built = target_dir(root).join("release/larder");
    let server = server.unwrap_or(&built);
    if !server.is_file() {
        return Err(format!("{} is not there: run cargo build --release", server.display()));
    }
    let entries = ask::entries(server, &[])?;
    let mut files = Files::new();
    files.insert("docs/COMPATIBILITY.md".into(), compatibility::render(root, &entries)?);
    files.insert(
        "docs/DIFFERENCES.md".into(),
        differences::render(root, &source::read_all(root, &["crates"])?)?,
    );
    files.insert("larder.conf".into(), larder_config::default_conf());
    files.extend(pages::render(PAGES, &entries));
    let stale = stale_pages(root, &files)?;
    match mode {
        Mode::Write => write(root, &files, &stale),
        Mode::Check => check(root, &files, &stale),
    }
}

fn target_dir(root: &Path) -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

fn write(root: &Path, files: &Files, stale: &BTreeSet<String>) -> Result<(), String> {
    for (path, text) in files {
        let full = root.join(path);
        let folder = full.parent().unwrap_or(root);
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&full, text));
        written.map_err(|error| format!("{path}: {error}"))?;
    }
    for path in stale {
        fs::remove_file(root.join(path)).map_err(|error| format!("{path}: {error}"))?;
    }
    println!("gen: {} files", files.len());
    Ok(())
}

fn check(root: &Path, files: &Files, stale: &BTreeSet<String>) -> Result<(), String> {
    let mut problems: Vec<String> =
        stale.iter().map(|path| format!("{path}: is not generated any more")).collect();
    for (path, text) in files {
        let there = fs::read_to_string(root.join(path)).unwrap_or_default();
        if there != *text {
            let line = there.lines().zip(text.lines()).take_while(|(old, new)| old == new).count();
            let (old, new) = (there.lines().nth(line), text.lines().nth(line));
            problems.push(format!(
                "{path}:{}: would change\n  - {}\n  + {}",
                line + 1,
                shown(old),
                shown(new)
            ));
        }
    }
    if problems.is_empty() {
        println!("gen: {} files are as they would be written", files.len());
        return Ok(());
    }
    Err(format!("{}\ngen: run `cargo xtask gen` and commit what it writes", problems.join("\n")))
}

fn shown(line: Option<&str>) -> &str {
    line.unwrap_or("(end of the file)")
}

/// Pages that are there and would not be written.
fn stale_pages(root: &Path, files: &Files) -> Result<BTreeSet<String>, String> {
    let Ok(entries) = fs::read_dir(root.join(PAGES)) else { return Ok(BTreeSet::new()) };
    let mut stale = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("{PAGES}: {error}"))?;
        let path = format!("{PAGES}/{}", entry.file_name().to_string_lossy());
        if !files.contains_key(&path) {
            stale.insert(path);
        }
    }
    Ok(stale)
}

/// Lines of the form `"name" = "text"`; comments and empty lines are skipped.
fn quoted_pairs(root: &Path, path: &str) -> Result<BTreeMap<String, String>, String> {
    let text = fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"))?;
    let mut pairs = BTreeMap::new();
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let (name, value) = pair
            .and_then(|pair| pair.split_once("\" = \""))
            .ok_or_else(|| format!("{path}:{}: not \"name\" = \"text\"", index + 1))?;
        if pairs.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{path}:{}: {name} stands twice", index + 1));
        }
    }
    Ok(pairs)
}

/// What stands above each generated document.
fn notice() -> &'static str {
    "<!-- Written by `cargo xtask gen`. Do not edit. -->\n"
}
