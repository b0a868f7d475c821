//! The grammar that commands on fields with ends share: `FIELDS numfields field ...`, and times.

use crate::args::Args;
use crate::error::Error;
use crate::spec::Arg;
use larder_store::Millis;
use larder_values::hash::END_MAX;
use larder_values::number;

/// Fields, counted by a number in front.
pub(super) const FIELDS: Arg =
    Arg::block("fields", &[Arg::integer("numfields"), Arg::string("field").multiple()]).token("FIELDS");

const MISPLACED: Error = Error::of("ERR Mandatory argument FIELDS is missing or not at the right position");
const NOT_COUNTED: Error = Error::of("ERR The `numfields` parameter must match the number of arguments");
const NOT_POSITIVE: Error = Error::of("ERR Number of fields must be a positive integer");
const NOT_ABOVE_ZERO: Error = Error::of("ERR Parameter `numFields` should be greater than 0");

/// Where the fields of a command are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    /// The word of the first.
    pub(super) first: usize,
    /// How many there are: all words to the end.
    pub(super) count: usize,
}

impl Fields {
    /// Reads `FIELDS numfields field ...` from word `index` to the end.
    pub(super) fn parse(args: &Args<'_>, index: usize) -> Result<Fields, Error> {
        Fields::parse_with(args, index, NOT_POSITIVE)
    }

    /// The same for the commands that have another text for a bad number.
    pub(super) fn parse_of_expire(args: &Args<'_>, index: usize) -> Result<Fields, Error> {
        Fields::parse_with(args, index, NOT_ABOVE_ZERO)
    }

    fn parse_with(args: &Args<'_>, index: usize, bad_number: Error) -> Result<Fields, Error> {
        if !args.is(index, b"fields") {
            return Err(MISPLACED);
        }
        let number = args.try_get(index + 1).and_then(number::parse_i64).filter(|number| *number > 0);
        let number = number.ok_or(bad_number)?;
        let (first, count) = (index + 2, args.len().saturating_sub(index + 2));
        if usize::try_from(number).ok() != Some(count) {
            return Err(NOT_COUNTED);
        }
        Ok(Fields { first, count })
    }
}

/// What a time is given in, and what it counts from.
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
    /// The unit that an option word introduces.
    pub(super) fn of(word: &[u8]) -> Option<Unit> {
        let units: [(&[u8], Unit); 4] = [
            (b"ex", Unit::Seconds),
            (b"px", Unit::Millis),
            (b"exat", Unit::UnixSeconds),
            (b"pxat", Unit::UnixMillis),
        ];
        units.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, unit)| unit)
    }

    /// The moment that `text` gives, Unix ms; `command` is named when it is too far away.
    pub(super) fn moment(self, text: &[u8], now: Millis, command: &str) -> Result<u64, Error> {
        let number = number::parse_i64(text).ok_or(Error::NotAnInteger)?;
        let number = u64::try_from(number).map_err(|_| Error::of("ERR invalid expire time, must be >= 0"))?;
        let millis = match self {
            Unit::Seconds | Unit::UnixSeconds => number.checked_mul(1000),
            Unit::Millis | Unit::UnixMillis => Some(number),
        };
        let moment = millis.and_then(|millis| match self {
            Unit::Seconds | Unit::Millis => millis.checked_add(now.0),
            Unit::UnixSeconds | Unit::UnixMillis => Some(millis),
        });
        moment.filter(|moment| *moment <= END_MAX).ok_or_else(|| Error::invalid_expire(command))
    }
}

/// The four ways to give a time, for grammars.
pub(super) const EXPIRATIONS: [Arg; 4] = [
    Arg::integer("seconds").token("EX"),
    Arg::integer("milliseconds").token("PX"),
    Arg::unix_time("unix-time-seconds").token("EXAT"),
    Arg::unix_time("unix-time-milliseconds").token("PXAT"),
];
