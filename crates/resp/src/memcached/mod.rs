//! memcached's text protocol without I/O: bytes in, commands out; both the classic commands and the meta commands.
//!
//! As in `request.rs` nothing is copied: the words of a command are positions in the caller's buffer. What is refused without
//! looking at any key is refused here, with memcached's words; `noreply` then has nothing answered, as in memcached.
//! Invariant: whatever the pieces in which the bytes come, the same commands and answers come out.
//!
//! Words are handed over in an order of our own: name, key, value (where there is one), then the rest; see [`Verb`].
//! Read next: `line.rs` (what each line says), `meta.rs` (flags of meta commands).

mod answer;
mod base64;
mod line;
mod meta;
mod number;

use crate::limits::{Limits, UNAUTHENTICATED_BULK_BYTES_MAX};
use crate::request::Span;
pub use answer::write_error;
pub use base64::{decode, encode};
use line::Line;
use memchr::memchr;
pub use meta::{Meta, Mode, OPAQUE_TOO_LONG};
pub use number::{parse_i64, parse_u64};

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 250;
/// Longest line of a command, in bytes.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Longest line of a command that names many keys.
pub const KEYS_LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// memcached's lengths are `int`s; the terminator is counted among them.
const VALUE_BYTES_MAX: i64 = i32::MAX as i64 - 2;

/// A command, with the words that come with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// `get key`, or `gets`.
    Get,
    /// `get key key...`, or `gets`.
    GetMany,
    /// `gat exptime key`, or `gats`.
    Gat,
    /// `gat exptime key key...`, or `gats`.
    GatMany,
    /// `set key value flags exptime [noreply]`
    Set,
    /// As `set`.
    Add,
    /// As `set`.
    Replace,
    /// As `set`.
    Append,
    /// As `set`.
    Prepend,
    /// `cas key value flags exptime unique [noreply]`
    Cas,
    /// `set key`, with a value that is too long to be stored.
    TooLarge,
    /// `incr key delta [noreply]`
    Incr,
    /// As `incr`.
    Decr,
    /// `touch key exptime [noreply]`
    Touch,
    /// `delete key [noreply]`
    Delete,
    /// `flush_all delay [noreply]`
    FlushAll,
    /// `stats [word...]`
    Stats,
    /// `stats cachedump class limit`, which lists keys.
    StatsKeys,
    /// `version`
    Version,
    /// `verbosity [noreply]`
    Verbosity,
    /// `quit`
    Quit,
    /// `mg key flag...` that changes nothing that others than this door see.
    MetaGet,
    /// `mg` with a time to live.
    MetaTouch,
    /// `mg` that makes what it misses.
    MetaVivify,
    /// `ms key value flag...`
    MetaSet,
    /// `md key flag...`
    MetaDelete,
    /// `md` that keeps the value, as a stale one.
    MetaStale,
    /// `ma key flag...`
    MetaArithmetic,
    /// `me key [b]`
    MetaDebug,
    /// `mn`
    MetaNoop,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 30] = [
        Verb::Get,
        Verb::GetMany,
        Verb::Gat,
        Verb::GatMany,
        Verb::Set,
        Verb::Add,
        Verb::Replace,
        Verb::Append,
        Verb::Prepend,
        Verb::Cas,
        Verb::TooLarge,
        Verb::Incr,
        Verb::Decr,
        Verb::Touch,
        Verb::Delete,
        Verb::FlushAll,
        Verb::Stats,
        Verb::StatsKeys,
        Verb::Version,
        Verb::Verbosity,
        Verb::Quit,
        Verb::MetaGet,
        Verb::MetaTouch,
        Verb::MetaVivify,
        Verb::MetaSet,
        Verb::MetaDelete,
        Verb::MetaStale,
        Verb::MetaArithmetic,
        Verb::MetaDebug,
        Verb::MetaNoop,
    ];
}

/// What a call to [`Parser::parse`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// A command of so many bytes; its words have been pushed.
    Command {
        /// Which one.
        verb: Verb,
        /// Its bytes.
        consumed: usize,
        /// Its key is given in base64; see [`decode_words`].
        is_encoded: bool,
    },
    /// So many bytes that are answered with this, terminator excluded.
    Answer {
        /// The answer.
        text: &'static str,
        /// The bytes.
        consumed: usize,
    },
    /// So many bytes that nobody is answered for.
    Skip(usize),
    /// More bytes are needed; at least so many in all, counted from the first byte.
    Incomplete {
        /// A lower bound of the command's length, in bytes.
        wanted: usize,
    },
    /// Nothing to go on with: no end of the line is in sight, or somebody speaks HTTP. This is answered, if it says anything,
    /// and the connection ends.
    Close(&'static str),
}

/// Reads commands from one connection's bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parser {
    /// Bytes of a refused value that are still to come.
    swallow: u64,
    /// Bytes of the first line known to hold no end of a line.
    scanned: usize,
}

impl Parser {
    /// Whether some of a command has been read.
    pub fn in_request(&self) -> bool {
        *self != Parser::default()
    }

    /// Reads the command at the start of `bytes`. After [`Parsed::Incomplete`] the same bytes are to be given again, with more
    /// behind them.
    pub fn parse(&mut self, bytes: &[u8], spans: &mut Vec<Span>, limits: &Limits) -> Parsed {
        if self.swallow > 0 {
            return self.go_on_swallowing(bytes);
        }
        let rest = bytes.get(self.scanned..).unwrap_or_default();
        let end = memchr(b'\n', rest).map(|at| at + self.scanned);
        let bytes_max = if names_many(bytes) { KEYS_LINE_BYTES_MAX } else { LINE_BYTES_MAX };
        if end.unwrap_or(bytes.len()) > bytes_max {
            return Parsed::Close("CLIENT_ERROR line too long");
        }
        let Some(end) = end else {
            self.scanned = bytes.len();
            return Parsed::Incomplete { wanted: bytes.len() + 1 };
        };
        self.scanned = end;
        let text = match bytes.get(..end).unwrap_or_default() {
            [line @ .., b'\r'] if !line.is_empty() => line,
            line => line,
        };
        let from = spans.len();
        push_words(text, spans);
        let line = Line::read(text, spans, from);
        self.finish(bytes, end + 1, line, spans, from, limits)
    }

    fn go_on_swallowing(&mut self, bytes: &[u8]) -> Parsed {
        let here = usize::try_from(self.swallow).unwrap_or(usize::MAX).min(bytes.len());
        if here == 0 {
            return Parsed::Incomplete { wanted: 1 };
        }
        self.swallow -= here as u64;
        Parsed::Skip(here)
    }

    /// What becomes of a line that has been read, whose value, if it has one, starts at `body`.
    fn finish(
        &mut self,
        bytes: &[u8],
        body: usize,
        line: Line,
        spans: &mut Vec<Span>,
        from: usize,
        limits: &Limits,
    ) -> Parsed {
        let (verb, is_encoded, value_bytes, is_quiet) = match line {
            Line::Command { verb, is_encoded } => {
                self.scanned = 0;
                return Parsed::Command { verb, consumed: body, is_encoded };
            }
            Line::Http => {
                spans.truncate(from);
                return Parsed::Close("");
            }
            Line::Refused { text, is_quiet, swallow } => {
                spans.truncate(from);
                *self = Parser { swallow: swallow.map_or(0, |bytes| bytes as u64 + 2), scanned: 0 };
                return answer(text, is_quiet, body);
            }
            Line::Value { verb, is_encoded, value_bytes, is_quiet } => {
                (verb, is_encoded, value_bytes, is_quiet)
            }
        };
        if value_bytes > largest(limits) {
            *self = Parser { swallow: value_bytes as u64 + 2, scanned: 0 };
            if matches!(verb, Verb::Set | Verb::MetaSet) && !is_encoded {
                // What was to be replaced does not stay, as in memcached: nobody is to read it as what was set.
                spans.truncate(from + 2);
                if is_quiet {
                    spans.push(Span::default());
                }
                return Parsed::Command { verb: Verb::TooLarge, consumed: body, is_encoded };
            }
            spans.truncate(from);
            return answer("SERVER_ERROR object too large for cache", is_quiet, body);
        }
        let consumed = body + value_bytes + 2;
        if bytes.len() < consumed {
            spans.truncate(from);
            return Parsed::Incomplete { wanted: consumed };
        }
        self.scanned = 0;
        if bytes.get(consumed - 2..consumed) != Some(b"\r\n") {
            spans.truncate(from);
            return answer("CLIENT_ERROR bad data chunk", is_quiet, consumed);
        }
        // The place of the value's length becomes the value's own.
        if let Some(place) = spans.get_mut(from + 2) {
            *place = Span { start: body as u32, len: value_bytes as u32 };
        }
        Parsed::Command { verb, consumed, is_encoded }
    }
}

fn answer(text: &'static str, is_quiet: bool, consumed: usize) -> Parsed {
    if is_quiet { Parsed::Skip(consumed) } else { Parsed::Answer { text, consumed } }
}

/// Longest value that is read.
fn largest(limits: &Limits) -> usize {
    let bytes_max = if limits.authenticated {
        limits.bulk_bytes_max
    } else {
        limits.bulk_bytes_max.min(UNAUTHENTICATED_BULK_BYTES_MAX)
    };
    usize::try_from(bytes_max).unwrap_or(0)
}

/// Whether a line begins as one that may name many keys.
fn names_many(bytes: &[u8]) -> bool {
    let begin =
        bytes.iter().position(|byte| *byte != b' ').and_then(|at| bytes.get(at..)).unwrap_or_default();
    [&b"get "[..], b"gets ", b"gat ", b"gats "].iter().any(|name| begin.starts_with(name))
}

/// The words of a line: what stands between blanks.
fn push_words(line: &[u8], spans: &mut Vec<Span>) {
    let mut at = 0;
    while let Some(rest) = line.get(at..).filter(|rest| !rest.is_empty()) {
        let len = memchr(b' ', rest).unwrap_or(rest.len());
        if len > 0 {
            spans.push(Span { start: at as u32, len: len as u32 });
        }
        at += len + 1;
    }
}

/// Rewrites the words of a command whose key is in base64, one behind the other: the key is decoded. `None` where it cannot be,
/// which the parser has seen to.
pub fn decode_words(request: &[u8], words: &mut [Span], out: &mut Vec<u8>) -> Option<()> {
    let base = out.len();
    for (index, word) in words.iter_mut().enumerate() {
        let start = out.len() - base;
        if index == 1 {
            decode(word.of(request), out)?;
        } else {
            out.extend_from_slice(word.of(request));
        }
        *word = Span { start: start as u32, len: (out.len() - base - start) as u32 };
    }
    Some(())
}

#[cfg(test)]
mod tests;
