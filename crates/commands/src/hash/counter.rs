//! Numbers kept as values of fields: HINCRBY, HINCRBYFLOAT.

use super::ACCESS_AND_UPDATE_ONE;
use super::announce::remove_due;
use super::set::FLAGS;
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Group, Run, Spec};
use larder_store::Event;
use larder_values::hash::{End, Found, Hash, IncrementError, NEVER_DUE};
use larder_values::number::{self, LongDouble};
use larder_values::packed::Element;

const SPEC: Spec = Spec {
    group: Group::Hash,
    complexity: "O(1)",
    arity: 4,
    flags: FLAGS,
    acl: Acl::HASH,
    keys: ACCESS_AND_UPDATE_ONE,
    ..Spec::EMPTY
};

/// HINCRBY key field increment
pub static HINCRBY: Command = Command {
    spec: Spec {
        name: "hincrby",
        element: 2,
        summary: "Adds a number to the integer a field holds; no field counts as 0.",
        since: "2.0.0",
        args: &[Arg::key("key", 0), Arg::string("field"), Arg::integer("increment")],
        ..SPEC
    },
    run: Run::Keys(hincrby),
    subcommands: &[],
};

fn hincrby(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let by = number::parse_i64(args.get(3)).ok_or(Error::NotAnInteger)?;
    let key = cx.key(args, 1);
    let (now, limits) = (cx.db.now_of_fields(), cx.limits.hash_packed);
    let field = args.get(2);
    let edited = cx.db.edit_or_create::<Hash, _>(&key, |hash| {
        let is_due = hash.look().next_due() <= now && hash.look().find(field, now) == Found::Due;
        (!is_due).then(|| hash.increment(field, by, now, limits))
    })?;
    let Some(incremented) = edited.value else {
        // It goes first, and the key with it if there is no other; then this is a new one.
        remove_due(&mut cx.db, &key, [field].into_iter());
        return hincrby(cx, args);
    };
    let (sum, _) = incremented.map_err(|error| match error {
        IncrementError::NotAnInteger => Error::of("ERR hash value is not an integer"),
        IncrementError::Overflow => Error::Overflow,
    })?;
    cx.db.changed(&key, Event::HINCRBY);
    cx.reply.integer(sum);
    Ok(())
}

/// HINCRBYFLOAT key field increment
pub static HINCRBYFLOAT: Command = Command {
    spec: Spec {
        name: "hincrbyfloat",
        element: 2,
        summary: "Adds a number with a fraction to the number a field holds; no field counts as 0.",
        since: "2.6.0",
        args: &[Arg::key("key", 0), Arg::string("field"), Arg::double("increment")],
        ..SPEC
    },
    run: Run::Keys(hincrbyfloat),
    subcommands: &[],
};

fn hincrbyfloat(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let by = LongDouble::parse(args.get(3)).ok_or(Error::NotAFloat)?;
    if by.is_infinite() {
        return Err(Error::of("ERR value is NaN or Infinity"));
    }
    let key = cx.key(args, 1);
    let (now, limits, field) = (cx.db.now_of_fields(), cx.limits.hash_packed, args.get(2));
    let found = cx.db.peek_as::<Hash>(&key)?.map_or(Found::Absent, |hash| hash.find(field, now));
    let is_due = found == Found::Due;
    let present = match found {
        Found::Absent | Found::Due => LongDouble::from_i64(0),
        Found::Live(Element::Int(integer), _) => LongDouble::from_i64(integer),
        Found::Live(Element::Bytes(text), _) => match number::parse_i64(text) {
            Some(integer) => LongDouble::from_i64(integer),
            None => LongDouble::parse(text).ok_or(Error::of("ERR hash value is not a float"))?,
        },
    };
    let sum = present.checked_add(by).ok_or(Error::NanOrInfinity)?;
    if is_due {
        remove_due(&mut cx.db, &key, [field].into_iter());
    }
    let mut text = std::mem::take(&mut cx.db.local.scratch);
    sum.write(&mut text);
    cx.db.edit_or_create::<Hash, _>(&key, |hash| hash.set(field, &text, End::Keep, NEVER_DUE, limits))?;
    cx.db.changed(&key, Event::HINCRBYFLOAT);
    cx.log_instead([b"HSETEX", key.bytes, b"KEEPTTL", b"FIELDS", b"1", field, &text]);
    cx.reply.bulk(&text);
    text.clear();
    cx.db.local.scratch = text;
    Ok(())
}
