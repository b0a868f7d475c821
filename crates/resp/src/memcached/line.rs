//! What one line says, before any key is looked at.

use super::meta::{Meta, client_flags};
use super::number::{parse_i64, parse_u64};
use super::{KEY_BYTES_MAX, VALUE_BYTES_MAX, Verb, decode};
use crate::request::Span;

const ERROR: &str = "ERROR";
const BAD_LINE: &str = "CLIENT_ERROR bad command line format";
const BAD_EXPTIME: &str = "CLIENT_ERROR invalid exptime argument";
const BAD_DELTA: &str = "CLIENT_ERROR invalid numeric delta argument";
const BAD_DELETE: &str = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";
const BAD_FLAG: &str = "CLIENT_ERROR invalid or duplicate flag";
const BAD_KEY: &str = "CLIENT_ERROR error decoding key";

/// So many classes of sizes memcached can have, counted from 0.
const SLAB_CLASSES: u64 = 64;

/// What a line is.
pub(super) enum Line {
    /// A command whose words stand in their order.
    Command { verb: Verb, is_encoded: bool },
    /// One that goes on with a value of so many bytes. Its words stand in their order, with the length where the value
    /// is to stand.
    Value { verb: Verb, is_encoded: bool, value_bytes: usize, is_quiet: bool },
    /// Nothing that is carried out. A value of so many bytes comes behind it all the same.
    Refused { text: &'static str, is_quiet: bool, swallow: Option<usize> },
    /// The first line of an HTTP request: somebody has a browser sent here.
    Http,
}

fn refused(text: &'static str) -> Line {
    Line::Refused { text, is_quiet: false, swallow: None }
}

fn command(verb: Verb) -> Line {
    Line::Command { verb, is_encoded: false }
}

impl Line {
    /// Reads the line whose words stand in `spans` behind `from`, and puts them in their order.
    pub(super) fn read(text: &[u8], spans: &mut Vec<Span>, from: usize) -> Line {
        let words = Words { text, spans, from };
        match words.get(0) {
            b"get" | b"gets" => words.read_get(),
            b"set" => words.read_set(Verb::Set),
            b"add" => words.read_set(Verb::Add),
            b"replace" => words.read_set(Verb::Replace),
            b"append" => words.read_set(Verb::Append),
            b"prepend" => words.read_set(Verb::Prepend),
            b"cas" => words.read_set(Verb::Cas),
            b"mg" | b"md" | b"ma" => words.read_meta(),
            b"ms" => words.read_meta_set(),
            b"gat" | b"gats" => words.read_gat(),
            b"incr" => words.read_incr(Verb::Incr),
            b"decr" => words.read_incr(Verb::Decr),
            b"touch" => words.read_touch(),
            b"delete" => words.read_delete(),
            b"me" => words.read_meta_debug(),
            b"mn" => command(Verb::MetaNoop),
            b"flush_all" => words.read_flush(),
            b"verbosity" => words.read_verbosity(),
            b"stats" => words.read_stats(),
            b"version" => command(Verb::Version),
            b"quit" => command(Verb::Quit),
            b"shutdown" => refused("ERROR: shutdown not enabled"),
            _ if words.get(words.len().saturating_sub(1)).starts_with(b"HTTP/") => Line::Http,
            _ => refused(ERROR),
        }
    }
}

/// The words of a line.
struct Words<'l> {
    text: &'l [u8],
    spans: &'l mut Vec<Span>,
    from: usize,
}

impl Words<'_> {
    fn len(&self) -> usize {
        self.spans.len() - self.from
    }

    fn get(&self, index: usize) -> &[u8] {
        self.spans.get(self.from + index).map_or(&[], |span| span.of(self.text))
    }

    /// Whether the last word says that nothing is to be answered.
    fn is_quiet(&self) -> bool {
        self.get(self.len() - 1) == b"noreply"
    }

    /// Keeps so many words, and the last one where it says that nothing is to be answered.
    fn keep(self, count: usize, is_quiet: bool) {
        let last = self.spans.last().copied().filter(|_| is_quiet);
        self.spans.truncate(self.from + count);
        self.spans.extend(last);
    }

    fn has_long_key(&self, keys_from: usize) -> bool {
        (keys_from..self.len()).any(|index| self.get(index).len() > KEY_BYTES_MAX)
    }

    fn read_get(self) -> Line {
        match self.len() {
            1 => refused(ERROR),
            _ if self.has_long_key(1) => refused(BAD_LINE),
            2 => command(Verb::Get),
            _ => command(Verb::GetMany),
        }
    }

    fn read_gat(self) -> Line {
        match self.len() {
            1 => refused(ERROR),
            _ if parse_i64(self.get(1)).is_none() => refused(BAD_EXPTIME),
            2 => refused("END"),
            _ if self.has_long_key(2) => refused(BAD_LINE),
            3 => command(Verb::Gat),
            _ => command(Verb::GatMany),
        }
    }

    /// `set key flags exptime bytes [noreply]`, and `cas` with a unique number before the last word.
    fn read_set(self, verb: Verb) -> Line {
        let count = if verb == Verb::Cas { 6 } else { 5 };
        if self.len() != count && self.len() != count + 1 {
            return refused(ERROR);
        }
        let is_quiet = self.is_quiet();
        let value_bytes = parse_i64(self.get(4)).filter(|bytes| (0..=VALUE_BYTES_MAX).contains(bytes));
        let is_well_formed = self.get(1).len() <= KEY_BYTES_MAX
            && client_flags(self.get(2)).is_some()
            && parse_i64(self.get(3)).is_some()
            && (verb != Verb::Cas || parse_u64(self.get(5)).is_some());
        let Some(value_bytes) = value_bytes.filter(|_| is_well_formed) else {
            return Line::Refused { text: BAD_LINE, is_quiet, swallow: None };
        };
        // Name, key, flags, exptime, length: the length moves to where the value is to stand.
        if let Some(words) = self.spans.get_mut(self.from + 2..self.from + 5) {
            words.rotate_right(1);
        }
        self.keep(count, is_quiet);
        Line::Value { verb, is_encoded: false, value_bytes: value_bytes as usize, is_quiet }
    }

    fn read_incr(self, verb: Verb) -> Line {
        if self.len() != 3 && self.len() != 4 {
            return refused(ERROR);
        }
        let is_quiet = self.is_quiet();
        let quietly = |text| Line::Refused { text, is_quiet, swallow: None };
        if self.get(1).len() > KEY_BYTES_MAX {
            return quietly(BAD_LINE);
        }
        if parse_u64(self.get(2)).is_none() {
            return quietly(BAD_DELTA);
        }
        self.keep(3, is_quiet);
        command(verb)
    }

    fn read_touch(self) -> Line {
        if self.len() != 3 && self.len() != 4 {
            return refused(ERROR);
        }
        let is_quiet = self.is_quiet();
        let quietly = |text| Line::Refused { text, is_quiet, swallow: None };
        if self.get(1).len() > KEY_BYTES_MAX {
            return quietly(BAD_LINE);
        }
        if parse_i64(self.get(2)).is_none() {
            return quietly(BAD_EXPTIME);
        }
        self.keep(3, is_quiet);
        command(Verb::Touch)
    }

    /// `delete key [0] [noreply]`: the number is what is left of a time that memcached had once.
    fn read_delete(self) -> Line {
        if !(2..=4).contains(&self.len()) {
            return refused(ERROR);
        }
        let is_quiet = self.len() > 2 && self.is_quiet();
        let is_zero = self.get(2) == b"0";
        let is_well_formed = match self.len() {
            2 => true,
            3 => is_zero || is_quiet,
            _ => is_zero && is_quiet,
        };
        let quietly = |text| Line::Refused { text, is_quiet, swallow: None };
        if !is_well_formed {
            return quietly(BAD_DELETE);
        }
        if self.get(1).len() > KEY_BYTES_MAX {
            return quietly(BAD_LINE);
        }
        self.keep(2, is_quiet);
        command(Verb::Delete)
    }

    fn read_flush(self) -> Line {
        if self.len() > 3 {
            return refused(ERROR);
        }
        let is_quiet = self.len() > 1 && self.is_quiet();
        let has_delay = self.len() == 3 || self.len() == 2 && !is_quiet;
        if has_delay && parse_i64(self.get(1)).is_none() {
            return Line::Refused { text: BAD_EXPTIME, is_quiet, swallow: None };
        }
        self.keep(if has_delay { 2 } else { 1 }, is_quiet);
        command(Verb::FlushAll)
    }

    fn read_verbosity(self) -> Line {
        if self.len() != 2 && self.len() != 3 {
            return refused(ERROR);
        }
        let is_quiet = self.is_quiet();
        let has_level = self.len() == 3 || !is_quiet;
        if has_level && parse_u64(self.get(1)).is_none() {
            return Line::Refused { text: BAD_LINE, is_quiet, swallow: None };
        }
        self.keep(1, is_quiet);
        command(Verb::Verbosity)
    }

    /// `stats [word...]`, of which `cachedump class limit` is a command of its own.
    fn read_stats(self) -> Line {
        if self.get(1) != b"cachedump" {
            return command(Verb::Stats);
        }
        if self.len() < 4 {
            return refused("CLIENT_ERROR bad command line");
        }
        match (parse_u64(self.get(2)), parse_u64(self.get(3))) {
            (Some(class), Some(_)) if class < SLAB_CLASSES => command(Verb::StatsKeys),
            (Some(_), Some(_)) => refused("CLIENT_ERROR Illegal slab id"),
            _ => refused(BAD_LINE),
        }
    }

    /// The flags of a meta command from word `at` on, without the text that its verb has for those that cannot be followed.
    fn meta(&self, at: usize) -> Result<Meta, &'static str> {
        let words = self.spans.get(self.from + at..).unwrap_or_default();
        Meta::read(at, words.iter().map(|span| span.of(self.text)))
    }

    /// Whether a key can be read: in base64, if it is to be.
    fn has_key(&self, is_encoded: bool) -> bool {
        !is_encoded || decode(self.get(1), &mut Vec::new()).is_some()
    }

    fn read_meta(self) -> Line {
        if self.len() < 2 {
            return refused(ERROR);
        }
        if self.get(1).len() > KEY_BYTES_MAX {
            return refused(BAD_LINE);
        }
        let is_get = self.get(0) == b"mg";
        let meta = match self.meta(2) {
            Ok(meta) => meta,
            Err(text @ (super::OPAQUE_TOO_LONG | "CLIENT_ERROR options flags are too long")) => {
                return refused(text);
            }
            Err(text) if is_get => return refused(text),
            Err(_) => return refused(BAD_FLAG),
        };
        if !self.has_key(meta.is_encoded) {
            return refused(if is_get { BAD_KEY } else { BAD_FLAG });
        }
        let verb = match self.get(0) {
            b"mg" if meta.vivify.is_some() => Verb::MetaVivify,
            b"mg" if meta.ttl.is_some() => Verb::MetaTouch,
            b"mg" => Verb::MetaGet,
            b"md" if meta.invalidates => Verb::MetaStale,
            b"md" => Verb::MetaDelete,
            _ => Verb::MetaArithmetic,
        };
        Line::Command { verb, is_encoded: meta.is_encoded }
    }

    /// `ms key bytes flag...`
    fn read_meta_set(self) -> Line {
        if self.len() < 2 {
            return refused(ERROR);
        }
        let value_bytes = parse_i64(self.get(2)).filter(|bytes| (0..=VALUE_BYTES_MAX).contains(bytes));
        let Some(value_bytes) = value_bytes.filter(|_| self.get(1).len() <= KEY_BYTES_MAX) else {
            return refused(BAD_LINE);
        };
        let value_bytes = value_bytes as usize;
        let swallowing = |text| Line::Refused { text, is_quiet: false, swallow: Some(value_bytes) };
        let meta = match self.meta(3) {
            Ok(meta) => meta,
            Err(text) => return swallowing(text),
        };
        if !self.has_key(meta.is_encoded) {
            return swallowing(BAD_KEY);
        }
        if !matches!(meta.mode.0, 0 | b'E' | b'A' | b'P' | b'R' | b'S') {
            return swallowing("CLIENT_ERROR invalid mode for ms M token");
        }
        Line::Value { verb: Verb::MetaSet, is_encoded: meta.is_encoded, value_bytes, is_quiet: false }
    }

    fn read_meta_debug(self) -> Line {
        let is_encoded = self.get(2) == b"b";
        match self.get(1).len() {
            1..=KEY_BYTES_MAX if self.has_key(is_encoded) => {
                Line::Command { verb: Verb::MetaDebug, is_encoded }
            }
            _ => refused(BAD_LINE),
        }
    }
}
