//! Checks that no other tool makes. Each is a function from what is there to a list of problems.
//!
//! Read next: `imports.rs` (which crate may use which), `text.rs` (what files may hold),
//! `long.rs` (functions that do not fit a screen), `options.rs` (options that nobody reads).

mod imports;
mod long;
mod options;
mod text;
mod unused;

pub use long::LongFunctions;

use crate::{metadata, source};
use std::path::Path;

/// Runs every check and tells all problems at once.
pub fn run(root: &Path, long_functions: LongFunctions) -> Result<(), String> {
    let sources = source::read_all(root, &["crates", "fuzz", "xtask"])?;
    let metadata = metadata::read(root)?;
    let mut problems = imports::check(&metadata);
    problems.extend(imports::check_reasons(&metadata, root)?);
    problems.extend(unused::check(&metadata, &sources));
    problems.extend(options::check(&sources));
    problems.extend(text::check(&sources));
    problems.extend(long::check(root, &sources, long_functions)?);
    if problems.is_empty() {
        println!("tidy: {} files", sources.len());
        return Ok(());
    }
    Err(format!("{}\ntidy: {} problems", problems.join("\n"), problems.len()))
}
