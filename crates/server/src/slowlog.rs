//! SLOWLOG and COMMANDLOG: the commands that took long, and those with large requests or replies, the newest first, in
//! bounded memory.

use parking_lot::Mutex;
use std::collections::VecDeque;

/// Arguments kept of a command.
const ARGUMENTS_MAX: usize = 32;
/// Bytes kept of an argument.
const ARGUMENT_BYTES_MAX: usize = 128;

/// What a log is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    /// Commands that took long: those of SLOWLOG.
    Slow,
    /// Commands with large requests.
    LargeRequest,
    /// Commands with large replies.
    LargeReply,
}

impl LogKind {
    /// By the word that COMMANDLOG takes, in any case.
    pub fn by_name(word: &[u8]) -> Option<LogKind> {
        let names = [
            ("slow", LogKind::Slow),
            ("large-request", LogKind::LargeRequest),
            ("large-reply", LogKind::LargeReply),
        ];
        names.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes())).map(|(_, log)| log)
    }
}

/// The logs.
#[derive(Debug, Default)]
pub struct CommandLogs {
    slow: Mutex<CommandLog>,
    large_requests: Mutex<CommandLog>,
    large_replies: Mutex<CommandLog>,
}

impl CommandLogs {
    /// One of them.
    pub fn of(&self, log: LogKind) -> &Mutex<CommandLog> {
        match log {
            LogKind::Slow => &self.slow,
            LogKind::LargeRequest => &self.large_requests,
            LogKind::LargeReply => &self.large_replies,
        }
    }
}

/// From which sizes on requests and replies are logged, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LargeSizes {
    pub request: usize,
    pub reply: usize,
}

impl LargeSizes {
    /// None is logged.
    pub const NONE: LargeSizes = LargeSizes { request: usize::MAX, reply: usize::MAX };

    /// Those that two options say: bytes, and below zero for none.
    pub fn new(request: i64, reply: i64) -> LargeSizes {
        let size = |bytes: i64| usize::try_from(bytes).unwrap_or(usize::MAX);
        LargeSizes { request: size(request), reply: size(reply) }
    }
}

/// One command of a log.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// Its number, never given twice.
    pub id: u64,
    /// When it ended, in seconds of Unix time.
    pub unix_secs: u64,
    /// How long it took, in microseconds, or how large it was, in bytes.
    pub figure: u64,
    /// Its words, shortened.
    pub words: Vec<Vec<u8>>,
    /// The client's address.
    pub address: String,
    /// The client's name.
    pub name: Vec<u8>,
}

/// The newest commands of one log.
#[derive(Debug, Default)]
pub struct CommandLog {
    entries: VecDeque<LogEntry>,
    next_id: u64,
}

impl CommandLog {
    /// Adds a command, keeping at most `length_max`. While none is to be kept the log stays as it is.
    pub fn add(&mut self, mut entry: LogEntry, length_max: usize) {
        if length_max == 0 {
            return;
        }
        entry.id = self.next_id;
        self.next_id += 1;
        self.entries.push_front(entry);
        self.entries.truncate(length_max);
    }

    /// The newest `count`, or all.
    pub fn newest(&self, count: Option<usize>) -> impl ExactSizeIterator<Item = &LogEntry> {
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
