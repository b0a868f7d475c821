//! Dead letters: writes that the store refuses and would again, kept until somebody says that they may go.
//!
//! They are in one file, in the form of `record.rs`; its torn end is cut off like the log's.
//! Invariant: a letter is on disk before its write leaves the queue.

use crate::disk::{Disk, Sink};
use crate::record::{self, Record, Write};
use std::io;
use std::path::{Path, PathBuf};

/// A write that the store refused for good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Letter {
    /// Its number in a stream: the time in milliseconds, and a count within it. Later ones have greater.
    pub id: (u64, u64),
    /// The statement that was refused.
    pub statement: String,
    /// Why, in the store's words.
    pub error: String,
    /// The write.
    pub write: Write,
}

/// All of a queue.
pub(crate) struct Letters {
    path: PathBuf,
    file: Option<Box<dyn Sink>>,
    /// How long the file is, as far as it is right.
    bytes: u64,
    count: u64,
    last: (u64, u64),
}

/// The file's name in the queue's folder.
const NAME: &str = "dead-letters.log";

impl Letters {
    /// Reads those there are.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged: where, and what to do.
    pub(crate) fn open(folder: &Path, disk: &dyn Disk) -> Result<(Letters, Vec<Letter>), String> {
        let path = folder.join(NAME);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        let good = crate::log::good_bytes(&path, &bytes, 0, true, disk)?;
        let records = record::scan(&bytes[..good], 0).records;
        let letter = |record| match record {
            Record::Letter(letter) => Some(letter),
            _ => None,
        };
        let all: Vec<Letter> = records.into_iter().filter_map(letter).collect();
        let last = all.iter().map(|letter| letter.id).max().unwrap_or_default();
        let count = all.len() as u64;
        Ok((Letters { path, file: None, bytes: good as u64, count, last }, all))
    }

    /// How many, and how many bytes they take.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.count, self.bytes)
    }

    /// Puts one to the others, to survive a power cut.
    ///
    /// # Errors
    /// The system's; it is not there then.
    pub(crate) fn add(
        &mut self,
        write: Write,
        statement: &str,
        error: &str,
        now_ms: u64,
        disk: &dyn Disk,
    ) -> io::Result<Letter> {
        let id = if now_ms > self.last.0 { (now_ms, 0) } else { (self.last.0, self.last.1 + 1) };
        let letter = Letter { id, statement: statement.to_owned(), error: error.to_owned(), write };
        let mut bytes = Vec::new();
        record::write_letter(&letter, &mut bytes);
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut file = disk.open(&self.path)?;
                if let Some(folder) = self.path.parent() {
                    disk.sync_folder(folder)?;
                }
                file.cut(self.bytes)?;
                none.insert(file)
            }
        };
        if let Err(error) = file.append(&bytes).and_then(|()| file.sync()) {
            // What is there of it is cut off now, or when the file is opened for the next.
            self.file = None;
            return Err(error);
        }
        (self.bytes, self.count, self.last) = (self.bytes + bytes.len() as u64, self.count + 1, id);
        Ok(letter)
    }

    /// Drops all; how many those were.
    ///
    /// # Errors
    /// The system's; they are there then.
    pub(crate) fn clear(&mut self, disk: &dyn Disk) -> io::Result<u64> {
        match disk.remove(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        (self.file, self.bytes) = (None, 0);
        Ok(std::mem::take(&mut self.count))
    }
}
