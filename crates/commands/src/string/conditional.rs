//! Writes that depend on the present value: the conditions of SET, DELEX and DELIFEQ, and DIGEST,
//! which tells what to compare with.
//!
//! Redis 8.4 has all of them; Valkey has IFEQ and DELIFEQ.

use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Str};
use larder_values::digest::digest_hex;
use larder_values::number;

const DIGEST_LENGTH: Error = Error::of("ERR digest must be exactly 16 hexadecimal characters");
const NOT_A_STRING: Error = Error::of("ERR Key should be of string type if conditions are specified");
const UNKNOWN_CONDITION: Error = Error::of("ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE");

/// On what a write depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition<'a> {
    /// On nothing.
    Always,
    /// NX: there is no such key.
    Absent,
    /// XX: there is such a key.
    Present,
    /// IFEQ: the value is this.
    Equal(&'a [u8]),
    /// IFNE: the value is not this, or there is none.
    Different(&'a [u8]),
    /// IFDEQ: the value's digest is this.
    DigestEqual(&'a [u8]),
    /// IFDNE: the value's digest is not this, or there is none.
    DigestDifferent(&'a [u8]),
}

impl<'a> Condition<'a> {
    /// The comparison that `word` names.
    pub(super) fn comparison(word: &[u8], operand: &'a [u8]) -> Option<Self> {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is(b"ifeq") {
            Some(Condition::Equal(operand))
        } else if is(b"ifne") {
            Some(Condition::Different(operand))
        } else if is(b"ifdeq") {
            Some(Condition::DigestEqual(operand))
        } else if is(b"ifdne") {
            Some(Condition::DigestDifferent(operand))
        } else {
            None
        }
    }

    /// Whether the value itself is asked, so that it must be a string.
    pub(super) fn compares(&self) -> bool {
        !matches!(self, Condition::Always | Condition::Absent | Condition::Present)
    }

    /// Whether it is met by the present value. A digest is judged only when there is a value to
    /// compare it with, as in Redis.
    pub(super) fn is_met(&self, value: Option<&Str<'_>>) -> Result<bool, Error> {
        let Some(value) = value else {
            return Ok(!matches!(self, Condition::Present | Condition::Equal(_) | Condition::DigestEqual(_)));
        };
        Ok(match self {
            Condition::Always | Condition::Present => true,
            Condition::Absent => false,
            Condition::Equal(other) => equal(value, other),
            Condition::Different(other) => !equal(value, other),
            Condition::DigestEqual(digest) => digest_equal(value, digest)?,
            Condition::DigestDifferent(digest) => !digest_equal(value, digest)?,
        })
    }
}

fn equal(value: &Str<'_>, other: &[u8]) -> bool {
    match value {
        Str::Bytes(bytes) => *bytes == other,
        Str::Blob(blob) => blob.as_slice() == other,
        // An integer has one spelling.
        Str::Int(integer) => number::parse_i64(other) == Some(*integer),
        Str::Ascii7(_, len) => *len == other.len() && value.to_vec() == other,
    }
}

fn digest(value: &Str<'_>) -> [u8; 16] {
    digest_hex(value.bytes(&mut Vec::new()))
}

/// Only the length of `expected` is judged: letters that are no digits differ from every digest.
fn digest_equal(value: &Str<'_>, expected: &[u8]) -> Result<bool, Error> {
    if expected.len() != 16 {
        return Err(DIGEST_LENGTH);
    }
    Ok(digest(value).eq_ignore_ascii_case(expected))
}

/// DELEX key [IFEQ value | IFNE value | IFDEQ digest | IFDNE digest]
pub static DELEX: Command = Command {
    spec: Spec {
        name: "delex",
        summary: "Removes a key if its value or its value's digest is, or is not, the one given.",
        since: "8.4.0",
        group: Group::String,
        complexity: "O(1) for values, O(N) for digests, where N is the length of the string.",
        arity: -2,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::STRING,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::DELETE).or(KeyFlags::VARIABLE_FLAGS))],
        args: &[
            Arg::key("key", 0),
            Arg::one_of(
                "condition",
                &[
                    Arg::string("ifeq-value").token("IFEQ"),
                    Arg::string("ifne-value").token("IFNE"),
                    Arg::integer("ifdeq-digest").token("IFDEQ"),
                    Arg::integer("ifdne-digest").token("IFDNE"),
                ],
            )
            .optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(delex),
    subcommands: &[],
};

fn delex(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let met = match (args.len(), cx.db.peek(&key)) {
        (2, item) => item.is_some(),
        (4, None) => false,
        (4, Some(item)) => {
            let value = item.string().map_err(|_| NOT_A_STRING)?;
            let condition = Condition::comparison(args.get(2), args.get(3)).ok_or(UNKNOWN_CONDITION)?;
            condition.is_met(Some(&value))?
        }
        _ => return Err(Error::arity("delex")),
    };
    if met {
        cx.db.remove(&key);
        cx.db.changed(&key, Event::DEL);
        // Older servers do not know the command.
        cx.log_removal(key.bytes, false);
    }
    cx.reply.integer(met.into());
    Ok(())
}

/// DELIFEQ key value
pub static DELIFEQ: Command = Command {
    spec: Spec {
        name: "delifeq",
        summary: "Removes a key if it holds the string given.",
        since: "9.0.0",
        group: Group::String,
        complexity: "O(1)",
        arity: 3,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::STRING,
        keys: &[KeySpec::at(1, KeyFlags::RM.or(KeyFlags::DELETE))],
        args: &[Arg::key("key", 0), Arg::string("value")],
        ..Spec::EMPTY
    },
    run: Run::Keys(delifeq),
    subcommands: &[],
};

fn delifeq(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let met = cx.db.string_for_edit(&key)?.is_some_and(|value| equal(&value, args.get(2)));
    if met {
        cx.db.remove(&key);
        cx.db.changed(&key, Event::DEL);
        // Redis does not know the command.
        cx.log_removal(key.bytes, false);
    }
    cx.reply.integer(met.into());
    Ok(())
}

/// DIGEST key
pub static DIGEST: Command = Command {
    spec: Spec {
        name: "digest",
        summary: "Answers the XXH3 digest of the string a key holds, in hexadecimal.",
        since: "8.4.0",
        group: Group::String,
        complexity: "O(N) where N is the length of the string.",
        arity: 2,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::STRING,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0)],
        ..Spec::EMPTY
    },
    run: Run::Keys(digest_of_key),
    subcommands: &[],
};

fn digest_of_key(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    match cx.db.string(&key)? {
        Some(value) => cx.reply.bulk(&digest(&value)),
        None => cx.reply.null(),
    }
    Ok(())
}
