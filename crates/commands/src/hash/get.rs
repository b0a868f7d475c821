//! Reading: HGET, HMGET, HGETALL, HKEYS, HVALS, HLEN, HSTRLEN, HEXISTS.

use super::announce::remove_due;
use super::{ACCESS_ONE, KEY, KEY_FIELD, KEY_FIELDS, LOOK_ONE, bulk, bulk_or_null};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Command, Flags, Group, Run, Spec};
use larder_values::hash::{Found, Hash};

const SPEC: Spec = Spec {
    since: "2.0.0",
    group: Group::Hash,
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Acl::HASH,
    keys: ACCESS_ONE,
    ..Spec::EMPTY
};

/// What a command that walks over all fields has in common with the others.
const WALK: Spec = Spec {
    complexity: "O(N), N fields in the hash.",
    arity: 2,
    flags: Flags::READONLY,
    args: KEY,
    tips: &["nondeterministic_output_order"],
    ..SPEC
};

/// HGET key field
pub static HGET: Command = Command {
    spec: Spec {
        name: "hget",
        element: 2,
        summary: "Answers the value of a field.",
        arity: 3,
        args: KEY_FIELD,
        ..SPEC
    },
    run: Run::Keys(hget),
    subcommands: &[],
};

fn hget(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let now = cx.db.now_of_fields();
    let found = cx.db.read_as::<Hash>(&key)?.map_or(Found::Absent, |hash| hash.find(args.get(2), now));
    bulk_or_null(&mut cx.reply, found.value());
    if found == Found::Due {
        remove_due(&mut cx.db, &key, args.from(2));
    }
    Ok(())
}

/// HMGET key field [field ...]
pub static HMGET: Command = Command {
    spec: Spec {
        name: "hmget",
        element: 2,
        summary: "Answers the values of several fields.",
        complexity: "O(N), N fields asked for.",
        arity: -3,
        args: KEY_FIELDS,
        ..SPEC
    },
    run: Run::Keys(hmget),
    subcommands: &[],
};

fn hmget(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let now = cx.db.now_of_fields();
    let hash = cx.db.read_as::<Hash>(&key)?;
    let mut met_due = false;
    cx.reply.array(args.len() - 2);
    for field in args.from(2) {
        let found = hash.map_or(Found::Absent, |hash| hash.find(field, now));
        met_due |= found == Found::Due;
        bulk_or_null(&mut cx.reply, found.value());
    }
    if met_due {
        remove_due(&mut cx.db, &key, args.from(2));
    }
    Ok(())
}

/// HGETALL key
pub static HGETALL: Command = Command {
    spec: Spec { name: "hgetall", summary: "Answers all fields with their values.", ..WALK },
    run: Run::Keys(hgetall),
    subcommands: &[],
};

fn hgetall(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let now = cx.db.now_of_fields();
    let Some(hash) = cx.db.read_as::<Hash>(&key)? else {
        cx.reply.map(0);
        return Ok(());
    };
    cx.reply.map(hash.live(now));
    hash.for_each(now, |field, value| {
        bulk(&mut cx.reply, field);
        bulk(&mut cx.reply, value);
    });
    Ok(())
}

/// HKEYS key
pub static HKEYS: Command = Command {
    spec: Spec { name: "hkeys", summary: "Answers all fields.", ..WALK },
    run: Run::Keys(|cx, args| one_side(cx, args, true)),
    subcommands: &[],
};

/// HVALS key
pub static HVALS: Command = Command {
    spec: Spec { name: "hvals", summary: "Answers the values of all fields.", ..WALK },
    run: Run::Keys(|cx, args| one_side(cx, args, false)),
    subcommands: &[],
};

/// Answers all fields, or all values.
fn one_side(cx: &mut Ctx<'_>, args: &Args<'_>, fields: bool) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let now = cx.db.now_of_fields();
    let Some(hash) = cx.db.read_as::<Hash>(&key)? else {
        cx.reply.array(0);
        return Ok(());
    };
    cx.reply.array(hash.live(now));
    hash.for_each(now, |field, value| bulk(&mut cx.reply, if fields { field } else { value }));
    Ok(())
}

/// HLEN key
pub static HLEN: Command = Command {
    spec: Spec {
        name: "hlen",
        summary: "Tells how many fields a hash has.",
        arity: 2,
        keys: LOOK_ONE,
        args: KEY,
        ..SPEC
    },
    run: Run::Keys(hlen),
    subcommands: &[],
};

fn hlen(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let len = cx.db.read_as::<Hash>(&key)?.map_or(0, larder_values::hash::HashView::len);
    cx.reply.integer(i64::try_from(len).unwrap_or(i64::MAX));
    Ok(())
}

/// HSTRLEN key field
pub static HSTRLEN: Command = Command {
    spec: Spec {
        name: "hstrlen",
        element: 2,
        summary: "Tells how long the value of a field is, in bytes.",
        since: "3.2.0",
        arity: 3,
        keys: LOOK_ONE,
        args: KEY_FIELD,
        ..SPEC
    },
    run: Run::Keys(|cx, args| {
        number_of(cx, args, |found| found.value().map_or(0, larder_values::packed::Element::len))
    }),
    subcommands: &[],
};

/// HEXISTS key field
pub static HEXISTS: Command = Command {
    spec: Spec {
        name: "hexists",
        element: 2,
        summary: "Tells whether a hash has a field.",
        arity: 3,
        keys: LOOK_ONE,
        args: KEY_FIELD,
        ..SPEC
    },
    run: Run::Keys(|cx, args| number_of(cx, args, |found| usize::from(found.value().is_some()))),
    subcommands: &[],
};

/// Answers a number that a field is told by.
fn number_of(cx: &mut Ctx<'_>, args: &Args<'_>, number: fn(Found<'_>) -> usize) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let now = cx.db.now_of_fields();
    let found = cx.db.read_as::<Hash>(&key)?.map_or(Found::Absent, |hash| hash.find(args.get(2), now));
    cx.reply.integer(i64::try_from(number(found)).unwrap_or(i64::MAX));
    if found == Found::Due {
        remove_due(&mut cx.db, &key, args.from(2));
    }
    Ok(())
}
