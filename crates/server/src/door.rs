//! The memcached door: which command a line of memcached's protocol is.
//!
//! What is refused without looking at a key becomes a command too, which answers its second word: so answers keep their
//! order. Read next: `larder_resp::memcached` (the protocol), `larder_commands::memcached` and `commands/memcached.rs` (the commands).

use crate::registry::{Registry, Row};
use larder_resp::memcached::{Parsed, Parser, Verb, decode_words, parse_i64};
use larder_resp::{Limits, Span};

/// What a connection sent.
pub enum Next {
    /// A command of so many bytes. Its words have been pushed; they lie in its own bytes, or behind what was rewritten.
    Request {
        /// Which command.
        row: &'static Row,
        /// Its bytes.
        consumed: usize,
        /// Whether its words were rewritten.
        is_rewritten: bool,
    },
    /// So many bytes that ask nothing.
    Nothing(usize),
    /// No more than a beginning.
    Incomplete {
        /// A lower bound of the command's length, in bytes.
        wanted: usize,
    },
}

/// The commands of the door, by verb.
pub struct Rows {
    container: &'static Row,
    by_verb: [&'static Row; Verb::ALL.len()],
    answer: &'static Row,
    close: &'static Row,
    flush_later: &'static Row,
}

impl Rows {
    /// Finds them among the subcommands of their container.
    pub fn new(container: &'static Row) -> Rows {
        let find = |name: &str| container.subcommand(name.as_bytes()).unwrap_or(container);
        let by_verb = Verb::ALL.map(|verb| find(name_of(verb)));
        debug_assert!(by_verb.iter().all(|row| !std::ptr::eq(*row, container)), "every verb has a command");
        let (answer, close) = (find("answer"), find("close"));
        Rows { container, by_verb, answer, close, flush_later: find("flush_all-later") }
    }

    /// The command that all are subcommands of.
    pub fn container(&self) -> &'static Row {
        self.container
    }

    /// The command of a verb.
    #[inline]
    fn of(&self, verb: Verb) -> &'static Row {
        self.by_verb.get(verb as usize).copied().unwrap_or(self.container)
    }
}

fn name_of(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "get",
        Verb::GetMany => "get-many",
        Verb::Gat => "gat",
        Verb::GatMany => "gat-many",
        Verb::Set => "set",
        Verb::Add => "add",
        Verb::Replace => "replace",
        Verb::Append => "append",
        Verb::Prepend => "prepend",
        Verb::Cas => "cas",
        Verb::TooLarge => "set-too-large",
        Verb::Incr => "incr",
        Verb::Decr => "decr",
        Verb::Touch => "touch",
        Verb::Delete => "delete",
        Verb::FlushAll => "flush_all",
        Verb::Stats => "stats",
        Verb::StatsKeys => "stats-keys",
        Verb::Version => "version",
        Verb::Verbosity => "verbosity",
        Verb::Quit => "quit",
        Verb::MetaGet => "mg",
        Verb::MetaTouch => "mg-touch",
        Verb::MetaVivify => "mg-vivify",
        Verb::MetaSet => "ms",
        Verb::MetaDelete => "md",
        Verb::MetaStale => "md-stale",
        Verb::MetaArithmetic => "ma",
        Verb::MetaDebug => "me",
        Verb::MetaNoop => "mn",
    }
}

/// The command at the start of `bytes`. Words that do not lie there as they are to be read are rewritten into `inline`.
#[inline]
pub fn next(
    registry: &Registry,
    parser: &mut Parser,
    bytes: &[u8],
    (spans, inline): (&mut Vec<Span>, &mut Vec<u8>),
    limits: &Limits,
) -> Next {
    let rows = registry.memcached();
    let first = spans.len();
    match parser.parse(bytes, spans, limits) {
        Parsed::Command { verb, consumed, is_encoded } => {
            let words = spans.get_mut(first..).unwrap_or_default();
            let row = match verb {
                Verb::FlushAll if delays(bytes, words) => rows.flush_later,
                verb => rows.of(verb),
            };
            if is_encoded && decode_words(bytes, words, inline).is_none() {
                return Next::Nothing(consumed);
            }
            Next::Request { row, consumed, is_rewritten: is_encoded }
        }
        Parsed::Answer { text, consumed } => {
            rewrite(&[b"answer", text.as_bytes()], spans, inline);
            Next::Request { row: rows.answer, consumed, is_rewritten: true }
        }
        Parsed::Close(text) => {
            rewrite(&[b"close", text.as_bytes()], spans, inline);
            Next::Request { row: rows.close, consumed: bytes.len(), is_rewritten: true }
        }
        Parsed::Skip(consumed) => Next::Nothing(consumed),
        Parsed::Incomplete { wanted } => Next::Incomplete { wanted },
    }
}

/// Whether a flush is for later.
fn delays(bytes: &[u8], words: &[Span]) -> bool {
    words.get(1).and_then(|word| parse_i64(word.of(bytes))).is_some_and(|delay| delay > 0)
}

fn rewrite(words: &[&[u8]], spans: &mut Vec<Span>, inline: &mut Vec<u8>) {
    let mut start = 0;
    for word in words {
        spans.push(Span { start, len: word.len() as u32 });
        start += word.len() as u32;
        inline.extend_from_slice(word);
    }
}
