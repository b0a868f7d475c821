//! How a command says that it waits: for which keys, for how long, and what is answered where nobody may wait.
//!
//! A blocking command does what it can at once. Where there is nothing to do it calls [`Ctx::wait`] and ends without
//! a reply. The server keeps its words, and runs the very same command again when one of the keys has changed: the
//! command cannot tell. Read next: `blocked.rs` and `execute/serve.rs` of the server.

use crate::cx::Ctx;
use crate::error::Error;
use larder_store::Type;
use larder_values::number::{self, LongDouble};
use smallvec::SmallVec;
use std::ops::Range;

/// How long a command waits, in milliseconds; 0 for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout(pub u64);

/// What a command answers that may not wait (inside a transaction).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AtOnce {
    /// A null array, which is also the answer when the time is over.
    #[default]
    NullArray,
    /// A null string.
    Null,
}

/// A word that reads differently when the command runs again.
pub type Rewritten = (usize, Vec<u8>);

/// What a command waits for.
#[derive(Debug)]
pub struct Wait {
    /// The words that are the keys.
    pub keys: Range<usize>,
    /// The type that a key must have to end the wait.
    pub kind: Type,
    /// How long.
    pub timeout: Timeout,
    /// The answer where nobody may wait.
    pub at_once: AtOnce,
    /// Whether a key that is gone, or of another type, ends the wait as well.
    pub until_gone: bool,
    /// Words that are replaced in the command that runs again.
    pub rewritten: SmallVec<[Rewritten; 1]>,
}

impl Wait {
    /// A wait for one of the keys at these words to hold something of this type.
    pub fn for_keys(keys: Range<usize>, kind: Type, timeout: Timeout) -> Wait {
        let at_once = AtOnce::default();
        Wait { keys, kind, timeout, at_once, until_gone: false, rewritten: SmallVec::new() }
    }

    /// What is answered where nobody may wait.
    #[must_use]
    pub fn at_once(mut self, at_once: AtOnce) -> Wait {
        self.at_once = at_once;
        self
    }

    /// Ends the wait also when a key is gone or has another type.
    #[must_use]
    pub fn when_gone(mut self) -> Wait {
        self.until_gone = true;
        self
    }

    /// Has a word read differently when the command runs again.
    #[must_use]
    pub fn rewrite(mut self, word: usize, text: Vec<u8>) -> Wait {
        self.rewritten.push((word, text));
        self
    }
}

/// A time in seconds, with fractions.
///
/// # Errors
/// Where the text is no number, negative, or too far off.
pub fn timeout_seconds(cx: &Ctx<'_>, text: &[u8]) -> Result<Timeout, Error> {
    // What is no long double is refused; what is one and no double is far too long, or next to nothing.
    LongDouble::parse(text).ok_or(Error::of("ERR timeout is not a float or out of range"))?;
    let coarse = || match number::parse_weight(text) {
        Some(nothing @ 0.0) => f64::MIN_POSITIVE.copysign(nothing),
        other => other.unwrap_or(f64::INFINITY),
    };
    let millis = (number::parse_f64(text).unwrap_or_else(coarse) * 1000.0).ceil();
    if millis > i64::MAX as f64 {
        return Err(Error::of("ERR timeout is out of range"));
    }
    timeout(cx, millis as i64)
}

/// A time in milliseconds.
///
/// # Errors
/// Where the text is no number, negative, or too far off.
pub fn timeout_millis(cx: &Ctx<'_>, text: &[u8]) -> Result<Timeout, Error> {
    let millis = number::parse_i64(text).ok_or(Error::of("ERR timeout is not an integer or out of range"))?;
    timeout(cx, millis)
}

fn timeout(cx: &Ctx<'_>, millis: i64) -> Result<Timeout, Error> {
    let millis = u64::try_from(millis).map_err(|_| Error::of("ERR timeout is negative"))?;
    let end = cx.db.now().0.checked_add(millis).and_then(|end| i64::try_from(end).ok());
    end.map(|_| Timeout(millis)).ok_or(Error::of("ERR timeout is out of range"))
}
