//! Numbers kept as strings: INCR, DECR, INCRBY, DECRBY, INCRBYFLOAT.

use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{EditIntegerError, Event, Expire, Str};
use larder_values::number::{self, LongDouble};

const FLAGS: Flags = Flags::WRITE.or(Flags::DENY_OOM).or(Flags::FAST);
const KEYS: &[KeySpec] = &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))];
const DECREMENT_OVERFLOW: Error = Error::of("ERR decrement would overflow");

/// INCR key
pub static INCR: Command = Command {
    spec: Spec {
        name: "incr",
        summary: "Adds one to the integer a key holds; no key counts as 0.",
        since: "1.0.0",
        group: Group::String,
        complexity: "O(1)",
        arity: 2,
        flags: FLAGS,
        acl: Acl::STRING,
        keys: KEYS,
        args: &[Arg::key("key", 0)],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| add(cx, args, 1)),
    subcommands: &[],
};

/// DECR key
pub static DECR: Command = Command {
    spec: Spec {
        name: "decr",
        summary: "Takes one from the integer a key holds; no key counts as 0.",
        since: "1.0.0",
        group: Group::String,
        complexity: "O(1)",
        arity: 2,
        flags: FLAGS,
        acl: Acl::STRING,
        keys: KEYS,
        args: &[Arg::key("key", 0)],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| add(cx, args, -1)),
    subcommands: &[],
};

/// INCRBY key increment
pub static INCRBY: Command = Command {
    spec: Spec {
        name: "incrby",
        summary: "Adds a number to the integer a key holds; no key counts as 0.",
        since: "1.0.0",
        group: Group::String,
        complexity: "O(1)",
        arity: 3,
        flags: FLAGS,
        acl: Acl::STRING,
        keys: KEYS,
        args: &[Arg::key("key", 0), Arg::integer("increment")],
        ..Spec::EMPTY
    },
    run: Run::Keys(incrby),
    subcommands: &[],
};

fn incrby(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let increment = number::parse_i64(args.get(2)).ok_or(Error::NotAnInteger)?;
    add(cx, args, increment)
}

/// DECRBY key decrement
pub static DECRBY: Command = Command {
    spec: Spec {
        name: "decrby",
        summary: "Takes a number from the integer a key holds; no key counts as 0.",
        since: "1.0.0",
        group: Group::String,
        complexity: "O(1)",
        arity: 3,
        flags: FLAGS,
        acl: Acl::STRING,
        keys: KEYS,
        args: &[Arg::key("key", 0), Arg::integer("decrement")],
        ..Spec::EMPTY
    },
    run: Run::Keys(decrby),
    subcommands: &[],
};

fn decrby(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let decrement = number::parse_i64(args.get(2)).ok_or(Error::NotAnInteger)?;
    add(cx, args, decrement.checked_neg().ok_or(DECREMENT_OVERFLOW)?)
}

#[inline]
fn add(cx: &mut Ctx<'_>, args: &Args<'_>, increment: i64) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let sum = cx.db.edit_integer(&key, |present| present.checked_add(increment).ok_or(Error::Overflow));
    let sum = sum.map_err(|error| match error {
        EditIntegerError::WrongType => Error::WrongType,
        EditIntegerError::NotAnInteger => Error::NotAnInteger,
        EditIntegerError::Refused(error) => error,
    })?;
    cx.db.changed(&key, Event::INCRBY);
    cx.reply.integer(sum);
    Ok(())
}

/// INCRBYFLOAT key increment
pub static INCRBYFLOAT: Command = Command {
    spec: Spec {
        name: "incrbyfloat",
        summary: "Adds a number with a fraction to the number a key holds; no key counts as 0.",
        since: "2.6.0",
        group: Group::String,
        complexity: "O(1)",
        arity: 3,
        flags: FLAGS,
        acl: Acl::STRING,
        keys: KEYS,
        args: &[Arg::key("key", 0), Arg::double("increment")],
        ..Spec::EMPTY
    },
    run: Run::Keys(incrbyfloat),
    subcommands: &[],
};

fn incrbyfloat(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    // The type is judged before the increment, as in Redis.
    let present = match cx.db.string_for_edit(&key)? {
        None => LongDouble::from_i64(0),
        Some(Str::Int(integer)) => LongDouble::from_i64(integer),
        Some(value) => LongDouble::parse(value.bytes(&mut Vec::new())).ok_or(Error::NotAFloat)?,
    };
    let increment = LongDouble::parse(args.get(2)).ok_or(Error::NotAFloat)?;
    let sum = present.checked_add(increment).ok_or(Error::NanOrInfinity)?;
    let mut text = Vec::with_capacity(32);
    sum.write(&mut text);
    // Never as an integer, as in Redis: OBJECT ENCODING would tell.
    cx.db.put_text(&key, &text, Expire::Keep);
    cx.db.changed(&key, Event::INCRBYFLOAT);
    cx.log_instead([b"SET", key.bytes, &text, b"KEEPTTL"]);
    cx.reply.bulk(&text);
    Ok(())
}
