//! SLOWLOG: the commands that took longest, the newest first, in bounded memory.

use std::collections::VecDeque;

/// Arguments kept of a command.
const ARGUMENTS_MAX: usize = 32;
/// Bytes kept of an argument.
const ARGUMENT_BYTES_MAX: usize = 128;

/// One slow command.
#[derive(Debug, Clone)]
pub struct SlowEntry {
    /// Its number, never given twice.
    pub id: u64,
    /// When it ended, in seconds of Unix time.
    pub unix_secs: u64,
    /// How long it took, in microseconds.
    pub micros: u64,
    /// Its words, shortened.
    pub words: Vec<Vec<u8>>,
    /// The client's address.
    pub address: String,
    /// The client's name.
    pub name: Vec<u8>,
}

/// The newest slow commands.
#[derive(Debug, Default)]
pub struct SlowLog {
    entries: VecDeque<SlowEntry>,
    next_id: u64,
}

impl SlowLog {
    /// Adds a command, keeping at most `length_max`.
    pub fn add(&mut self, mut entry: SlowEntry, length_max: usize) {
        entry.id = self.next_id;
        self.next_id += 1;
        self.entries.push_front(entry);
        self.entries.truncate(length_max);
    }

    /// The newest `count`, or all.
    pub fn newest(&self, count: Option<usize>) -> impl ExactSizeIterator<Item = &SlowEntry> {
        self.entries.iter().take(count.unwrap_or(usize::MAX).min(self.entries.len()))
    }

    /// Entries kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets all entries; numbers go on.
    pub fn reset(&mut self) {
        self.entries.clear();
    }
}

/// A command's words as the log keeps them: at most 32, each at most 128 bytes, saying what is left
/// out.
pub fn shorten<'a>(words: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let count = words.len();
    let kept = if count > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { count };
    let mut short: Vec<Vec<u8>> = words
        .take(kept)
        .map(|word| match word.get(..ARGUMENT_BYTES_MAX) {
            Some(head) if word.len() > ARGUMENT_BYTES_MAX => {
                let mut shortened = head.to_vec();
                shortened.extend_from_slice(
                    format!("... ({} more bytes)", word.len() - ARGUMENT_BYTES_MAX).as_bytes(),
                );
                shortened
            }
            _ => word.to_vec(),
        })
        .collect();
    if kept < count {
        short.push(format!("... ({} more arguments)", count - kept).into_bytes());
    }
    short
}
