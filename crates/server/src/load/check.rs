//! `larder check-rdb FILE`: whether a snapshot is right, what is in it, and what is wrong where.

use crate::clock;
use larder_persist::rdb::Dumped;
use larder_persist::rdb::file::{About, Cut, Cutter, FileError, Record, Records, Terms, Value, Why};
use larder_script::library;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// Bytes read at a time.
const STEP_BYTES: u64 = 1 << 20;
/// Keys that are told of singly when their values are wrong.
const TOLD_MAX: u64 = 20;

/// What was found in a file so far.
#[derive(Default)]
struct Found {
    types: BTreeMap<&'static str, u64>,
    /// By database: keys, those that end, those whose time is over.
    databases: BTreeMap<u64, [u64; 3]>,
    libraries: Vec<String>,
    wrong: u64,
}

/// Looks through a file and tells what is in it; false where something is wrong.
///
/// # Errors
/// Where nothing can be told.
pub fn check_rdb(path: &Path, out: &mut dyn Write) -> std::io::Result<bool> {
    check_snapshot(path, out).map(|bytes| bytes.is_some())
}

/// The same; how many bytes the snapshot has, behind which the file may go on, where nothing is wrong with it.
///
/// # Errors
/// As [`check_rdb`].
pub fn check_snapshot(path: &Path, out: &mut dyn Write) -> std::io::Result<Option<u64>> {
    let mut file = File::open(path)?;
    writeln!(out, "{}: {} bytes", path.display(), file.metadata()?.len())?;
    let terms = Terms {
        databases: u64::MAX,
        skips_modules: true,
        sums: true,
        stops_behind: b"",
        whole_max: usize::MAX,
    };
    let (mut found, mut cutter) = (Found::default(), Cutter::new(terms));
    let outcome = found.look_through(&mut file, &mut cutter, out)?;
    found.tell(&cutter, out)?;
    match outcome {
        Err(error) => writeln!(out, "WRONG {error}; what stands behind it was not looked at")?,
        Ok(()) if found.wrong == 0 => {
            writeln!(out, "OK: {} bytes of snapshot", cutter.taken())?;
            return Ok(Some(cutter.taken()));
        }
        Ok(()) => writeln!(out, "WRONG: {} values", found.wrong)?,
    }
    Ok(None)
}

impl Found {
    fn look_through(
        &mut self,
        file: &mut File,
        cutter: &mut Cutter,
        out: &mut dyn Write,
    ) -> std::io::Result<Result<(), FileError>> {
        let mut buffer = Vec::new();
        loop {
            let mut about = Vec::new();
            let cut = match cutter.cut(&buffer, &mut |told| about.push(told)) {
                Ok(cut) => cut,
                Err(error) => return Ok(Err(error)),
            };
            for told in about {
                self.take_note(told, out)?;
            }
            let piece = buffer.get(..cut.bytes).unwrap_or_default();
            if let Err(error) = self.look_at(piece, &cut, cutter, out)? {
                return Ok(Err(error));
            }
            buffer.drain(..cut.bytes);
            if cut.is_last {
                return Ok(Ok(()));
            }
            if cut.bytes == 0 {
                // As much again as has come, however much is wanted: a long record is looked at few times.
                let step = (buffer.len() as u64).max(STEP_BYTES);
                if file.take(step).read_to_end(&mut buffer)? == 0 {
                    return Ok(Err(cutter.short(&buffer)));
                }
            }
        }
    }

    /// Reads the keys of a piece, and their values.
    fn look_at(
        &mut self,
        piece: &[u8],
        cut: &Cut,
        cutter: &Cutter,
        out: &mut dyn Write,
    ) -> std::io::Result<Result<(), FileError>> {
        if cut.keys == 0 {
            return Ok(Ok(()));
        }
        let now = clock::unix_millis().0;
        let mut records = Records::new(piece, cut, cutter.dialect());
        loop {
            let record = match records.next_key() {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            };
            self.count(&record, now);
            let kind = match records.value(&record) {
                Ok(value) => name_of(&value),
                Err(error) => {
                    self.wrong += 1;
                    if self.wrong <= TOLD_MAX {
                        writeln!(out, "WRONG {error}")?;
                    }
                    if matches!(error.why, Why::Value) { "broken" } else { "unknown here" }
                }
            };
            *self.types.entry(kind).or_default() += 1;
        }
    }

    fn count(&mut self, record: &Record<'_>, now: u64) {
        let [keys, ending, over] = self.databases.entry(record.db).or_default();
        *keys += 1;
        *ending += u64::from(record.head.end_ms.is_some());
        *over += u64::from(record.head.end_ms.is_some_and(|end| end < now));
    }

    fn take_note(&mut self, told: About, out: &mut dyn Write) -> std::io::Result<()> {
        match told {
            // What Larder has beside keys is not for eyes.
            About::Aux { name, value, .. } if name.starts_with(b"larder-") => {
                writeln!(out, "aux {}: {} bytes", name.escape_ascii(), value.len())?;
            }
            About::Aux { name, value, .. } => {
                writeln!(out, "aux {} = {}", name.escape_ascii(), value.escape_ascii())?;
            }
            About::Library(text) => match library::parse(&text) {
                Ok(header) => self.libraries.push(header.name.escape_ascii().to_string()),
                Err(text) => {
                    self.wrong += 1;
                    writeln!(out, "WRONG: a library of functions: {}", text.escape_ascii())?;
                }
            },
            About::SkippedModule(name) => {
                writeln!(out, "the module '{name}' keeps data beside keys; load-skip-modules leaves it out")?;
            }
            About::Sizes { .. } => {}
        }
        Ok(())
    }

    fn tell(&self, cutter: &Cutter, out: &mut dyn Write) -> std::io::Result<()> {
        if cutter.version() != 0 {
            writeln!(out, "{:?} version {}", cutter.dialect(), cutter.version())?;
        }
        for (db, [keys, ending, over]) in &self.databases {
            writeln!(out, "database {db}: {keys} keys, {ending} of them end, {over} of those are over")?;
        }
        for (kind, keys) in &self.types {
            writeln!(out, "{kind}: {keys}")?;
        }
        if !self.libraries.is_empty() {
            writeln!(out, "functions: {}", self.libraries.join(", "))?;
        }
        Ok(())
    }
}

fn name_of(value: &Value<'_>) -> &'static str {
    match value {
        Value::Text(_) | Value::Integer(_) => "string",
        Value::Empty => "empty, left out",
        Value::Skipped => "of modules, left out with load-skip-modules",
        Value::Collection(dumped) => match dumped {
            Dumped::String(_) => "string",
            Dumped::ZSet(_) => "zset",
            Dumped::Stream(_) => "stream",
            Dumped::Hash(_) => "hash",
            Dumped::Set(_) => "set",
            Dumped::List(_) => "list",
        },
    }
}
