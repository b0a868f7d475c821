//! The option words that SET, GETEX and MSETEX share: conditions, times to live, GET.
//!
//! Invariant: words are judged in the order they come; a time is read as a number only after all
//! words are known to be in place, so a misplaced word wins over a bad number.

use super::conditional::Condition;
use crate::args::Args;
use crate::cx::Ends;
use crate::error::Error;
use crate::spec::Arg;
use larder_store::{Expire, Millis};
use larder_values::number;

/// The four ways to give a time to live, for grammars.
pub(super) const EXPIRATIONS: [Arg; 4] = [
    Arg::integer("seconds").token("EX"),
    Arg::integer("milliseconds").token("PX"),
    Arg::unix_time("unix-time-seconds").token("EXAT"),
    Arg::unix_time("unix-time-milliseconds").token("PXAT"),
];

/// The word that leaves a time to live as it is.
pub(super) const KEEPTTL: Arg = Arg::word("keepttl", "KEEPTTL");

/// The word that takes a time to live away.
pub(super) const PERSIST: Arg = Arg::word("persist", "PERSIST");

/// How a time to live is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Millis,
    /// Seconds since the Unix epoch.
    UnixSeconds,
    /// Milliseconds since the Unix epoch.
    UnixMillis,
}

impl Unit {
    /// The unit that a word names.
    pub(super) fn of(word: &[u8]) -> Option<Unit> {
        let units: [(&[u8], Unit); 4] = [
            (b"ex", Unit::Seconds),
            (b"px", Unit::Millis),
            (b"exat", Unit::UnixSeconds),
            (b"pxat", Unit::UnixMillis),
        ];
        units.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, unit)| unit)
    }

    /// Whether it counts from now.
    fn is_relative(self) -> bool {
        matches!(self, Unit::Seconds | Unit::Millis)
    }

    /// When a key ends by `text`; `command` is named when that is no time.
    pub(super) fn deadline(self, text: &[u8], ends: Ends, command: &str) -> Result<Millis, Error> {
        let at = self.moment(text, ends.now, command)?;
        Ok(if self.is_relative() { ends.spread(at) } else { at })
    }

    /// The moment that `text` gives; `command` is named when it is none.
    fn moment(self, text: &[u8], now: Millis, command: &str) -> Result<Millis, Error> {
        let value = number::parse_i64(text).ok_or(Error::NotAnInteger)?;
        let moment = || {
            let millis = match self {
                Unit::Seconds | Unit::UnixSeconds => value.checked_mul(1000)?,
                Unit::Millis | Unit::UnixMillis => value,
            };
            match self {
                Unit::Seconds | Unit::Millis => millis.checked_add_unsigned(now.0),
                Unit::UnixSeconds | Unit::UnixMillis => Some(millis),
            }
        };
        let at = if value > 0 { moment() } else { None };
        let at = at.and_then(|at| u64::try_from(at).ok());
        at.map(Millis).ok_or_else(|| Error::invalid_expire(command))
    }
}

/// What a command says of the time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry<'a> {
    /// Nothing.
    Unsaid,
    /// KEEPTTL.
    Keep,
    /// PERSIST.
    Persist,
    /// A time, in a word not read yet.
    At(Unit, &'a [u8]),
}

impl Expiry<'_> {
    /// The moment it gives, if it gives one.
    pub(super) fn deadline(self, ends: Ends, command: &str) -> Result<Option<Millis>, Error> {
        match self {
            Expiry::At(unit, text) => unit.deadline(text, ends, command).map(Some),
            Expiry::Unsaid | Expiry::Keep | Expiry::Persist => Ok(None),
        }
    }

    /// What a write does to the key's time to live.
    pub(super) fn expire(self, ends: Ends, command: &str) -> Result<Expire, Error> {
        Ok(match self.deadline(ends, command)? {
            Some(at) => Expire::At(at),
            None if self == Expiry::Keep => Expire::Keep,
            None => Expire::Clear,
        })
    }
}

/// Whose options are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grammar {
    /// Conditions, comparisons, times, KEEPTTL, GET.
    Set,
    /// Times and PERSIST.
    GetEx,
    /// NX, XX, times, KEEPTTL.
    MsetEx,
}

/// The options of one command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options<'a> {
    /// On what the write depends.
    pub(super) condition: Condition<'a>,
    /// What becomes of the time to live.
    pub(super) expiry: Expiry<'a>,
    /// Whether the old value is asked for.
    pub(super) get: bool,
}

impl<'a> Options<'a> {
    /// Reads the words from `index` to the end.
    pub(super) fn parse(args: &Args<'a>, mut index: usize, grammar: Grammar) -> Result<Self, Error> {
        let mut options = Options { condition: Condition::Always, expiry: Expiry::Unsaid, get: false };
        while let Some(word) = args.try_get(index) {
            let next = args.try_get(index + 1);
            index += options.take(word, next, grammar).ok_or(Error::Syntax)?;
        }
        Ok(options)
    }

    /// Takes one option; answers how many words it was made of.
    fn take(&mut self, word: &'a [u8], next: Option<&'a [u8]>, grammar: Grammar) -> Option<usize> {
        if let Some(unit) = Unit::of(word) {
            let free = match self.expiry {
                Expiry::Unsaid => true,
                // The same unit twice is taken, the last one counts.
                Expiry::At(before, _) => before == unit,
                Expiry::Keep | Expiry::Persist => false,
            };
            self.expiry = Expiry::At(unit, next.filter(|_| free)?);
            return Some(2);
        }
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        match grammar {
            Grammar::GetEx if is(b"persist") => self.take_expiry(Expiry::Persist),
            Grammar::Set | Grammar::MsetEx if is(b"keepttl") => self.take_expiry(Expiry::Keep),
            Grammar::Set | Grammar::MsetEx if is(b"nx") => self.take_condition(Condition::Absent),
            Grammar::Set | Grammar::MsetEx if is(b"xx") => self.take_condition(Condition::Present),
            Grammar::Set if is(b"get") => {
                self.get = true;
                Some(1)
            }
            Grammar::Set if self.condition == Condition::Always => {
                self.condition = Condition::comparison(word, next?)?;
                Some(2)
            }
            _ => None,
        }
    }

    fn take_expiry(&mut self, expiry: Expiry<'a>) -> Option<usize> {
        let free = self.expiry == Expiry::Unsaid || self.expiry == expiry;
        self.expiry = expiry;
        free.then_some(1)
    }

    fn take_condition(&mut self, condition: Condition<'a>) -> Option<usize> {
        let free = self.condition == Condition::Always || self.condition == condition;
        self.condition = condition;
        free.then_some(1)
    }
}
