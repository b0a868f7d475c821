//! Chores of the workspace, run as `cargo xtask NAME`: what a reviewer should never have to say
//! (`tidy`), and the files that are written by a program (`gen`).
//!
//! Invariant: nothing here decides what the server does; it only reads the sources and asks the
//! built binary. Read next: `tidy/mod.rs`, `generate/mod.rs`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command-line tool answers on standard output")]

mod ask;
mod generate;
mod metadata;
mod source;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How to call it.
const USAGE: &str = "usage: cargo xtask COMMAND

  tidy                             check what rustfmt and clippy do not: imports between crates,
                                   file headers, unsafe, strings on the data path, long functions
  tidy --bless                     the same, and shrink xtask/long_functions.txt to what is left
  gen [--server PATH]              write the generated files; PATH is the built larder,
                                   target/release/larder unless given
  gen --check [--server PATH]      fail when a generated file would change
  record-commands --server PATH --out FILE
                                   record the names a server of the Redis kind answers to";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), String> {
    let root = root();
    match words {
        ["tidy"] => tidy::run(&root, tidy::LongFunctions::Compare),
        ["tidy", "--bless"] => tidy::run(&root, tidy::LongFunctions::Shrink),
        ["gen"] => generate::run(&root, None, generate::Mode::Write),
        ["gen", "--check"] => generate::run(&root, None, generate::Mode::Check),
        ["gen", "--server", path] => generate::run(&root, Some(Path::new(path)), generate::Mode::Write),
        ["gen", "--check", "--server", path] => {
            generate::run(&root, Some(Path::new(path)), generate::Mode::Check)
        }
        ["record-commands", "--server", server, "--out", out] => {
            ask::record_commands(Path::new(server), Path::new(out))
        }
        _ => Err(USAGE.into()),
    }
}

/// The repository's root.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
