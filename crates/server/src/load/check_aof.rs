//! `larder check-aof`: whether an append-only log is whole, and where it is not; and to cut it off there.
//!
//! Given a manifest it looks through all files that it names, in order; only the last of them may be cut off.

use super::begins_as_snapshot;
use super::check::check_snapshot;
use larder_persist::aof::{Found, Manifest, Scan};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes read at once.
const READ_BYTES: usize = 1024 * 1024;

/// What `larder check-aof` was asked for.
#[derive(Debug, Default)]
pub struct Options {
    /// What is wrong is cut off.
    pub fix: bool,
    /// Nothing is asked before.
    pub yes: bool,
    /// What was written behind this time is cut off, in seconds of Unix time.
    pub truncate_to: Option<u64>,
    /// A file of the log, or its manifest.
    pub path: PathBuf,
}

impl Options {
    /// Reads the words behind `check-aof`.
    ///
    /// # Errors
    /// How it is called.
    pub fn parse(words: impl Iterator<Item = std::ffi::OsString>) -> Result<Options, String> {
        const USAGE: &str =
            "check-aof is called as: larder check-aof [--fix | --truncate-to-timestamp SECONDS] [--yes] FILE";
        let (mut options, mut words) = (Options::default(), words);
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("--fix") => options.fix = true,
                Some("--yes") => options.yes = true,
                Some("--truncate-to-timestamp") => {
                    let secs = words.next().and_then(|secs| secs.to_str()?.parse().ok());
                    options.truncate_to = Some(secs.ok_or(USAGE)?);
                }
                _ if options.path.as_os_str().is_empty() => options.path = word.into(),
                _ => return Err(USAGE.into()),
            }
        }
        if options.path.as_os_str().is_empty() || (options.fix && options.truncate_to.is_some()) {
            return Err(USAGE.into());
        }
        Ok(options)
    }
}

/// What became of one file.
struct Looked {
    /// Up to here it is good, or was written in time.
    good: u64,
    bytes: u64,
    /// What is wrong behind that.
    wrong: Option<String>,
}

/// Looks through a log and says what it finds. Answers whether it is whole, or is now.
///
/// # Errors
/// Where a file cannot be read or cut off.
pub fn check_aof(options: &Options, out: &mut impl Write) -> io::Result<bool> {
    let files = match files_of(&options.path)? {
        Ok(files) => files,
        Err(text) => {
            writeln!(out, "{}: {text}", options.path.display())?;
            return Ok(false);
        }
    };
    for (index, path) in files.iter().enumerate() {
        let is_last = index + 1 == files.len();
        let mut from = 0;
        if begins_as_snapshot(path)? {
            let Some(snapshot) = check_snapshot(path, out)? else { return Ok(false) };
            if std::fs::metadata(path)?.len() <= snapshot {
                continue;
            }
            // What Redis before version 7 wrote: commands behind a snapshot.
            from = snapshot;
        }
        let looked = look(path, from, options.truncate_to)?;
        let name = path.display();
        let Some(wrong) = &looked.wrong else {
            writeln!(out, "{name}: {} bytes, all of them good", looked.bytes)?;
            continue;
        };
        writeln!(out, "{name}: {wrong}; {} of {} bytes are before that", looked.good, looked.bytes)?;
        if !options.fix && options.truncate_to.is_none() {
            writeln!(out, "'larder check-aof --fix' cuts it off there")?;
            return Ok(false);
        }
        if !is_last {
            writeln!(
                out,
                "it is not the last file of the log: what follows would have no ground, and nothing is cut off"
            )?;
            return Ok(false);
        }
        if !(options.yes || is_confirmed(out, looked.bytes - looked.good)?) {
            return Ok(false);
        }
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(looked.good)?;
        file.sync_all()?;
        writeln!(out, "{name}: cut off behind byte {}", looked.good)?;
    }
    Ok(true)
}

/// The files of a log: those that a manifest names, or the one that is given.
fn files_of(path: &Path) -> io::Result<Result<Vec<PathBuf>, String>> {
    let mut start = Vec::new();
    File::open(path)?.take(5).read_to_end(&mut start)?;
    if start != b"file " {
        return Ok(Ok(vec![path.to_owned()]));
    }
    Ok(match Manifest::parse(&std::fs::read(path)?) {
        Ok(manifest) => {
            let folder = path.parent().unwrap_or(Path::new(""));
            Ok(manifest.files().map(|entry| folder.join(&entry.name)).collect())
        }
        Err(error) => Err(error.to_string()),
    })
}

/// Looks through the commands of a file from a place on.
fn look(path: &Path, from: u64, truncate_to: Option<u64>) -> io::Result<Looked> {
    let mut file = File::open(path)?;
    let total = file.metadata()?.len();
    file.seek(SeekFrom::Start(from))?;
    let (mut bytes, mut at, mut scan) = (Vec::new(), 0, Scan { good: from, read: from, ..Scan::default() });
    loop {
        match scan.feed(bytes.get(at..).unwrap_or_default()) {
            Found::Piece(len) => at += len,
            Found::Time(secs, _) if truncate_to.is_some_and(|to| secs > to) => {
                let wrong = format!("what follows was written behind the time given, from {secs} on");
                return Ok(Looked { good: scan.good, bytes: total, wrong: Some(wrong) });
            }
            Found::Time(_, len) => at += len,
            Found::Damaged(damage) => {
                let place = scan.read + damage.at as u64;
                let wrong = format!("damaged at byte {place}: {}", damage.what);
                return Ok(Looked { good: scan.good, bytes: total, wrong: Some(wrong) });
            }
            Found::More => {
                bytes.drain(..at);
                at = 0;
                let more = READ_BYTES.max(bytes.len()) as u64;
                if (&mut file).take(more).read_to_end(&mut bytes)? > 0 {
                    continue;
                }
                let wrong = match (bytes.is_empty(), scan.in_transaction) {
                    (true, false) => None,
                    (_, true) => Some("ends in the middle of a transaction".to_owned()),
                    (false, false) => Some("ends in the middle of a command".to_owned()),
                };
                return Ok(Looked { good: scan.good, bytes: total, wrong });
            }
        }
    }
}

fn is_confirmed(out: &mut impl Write, bytes: u64) -> io::Result<bool> {
    write!(out, "{bytes} bytes are cut off for good. Go on? [y/N] ")?;
    out.flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().eq_ignore_ascii_case("y"))
}
