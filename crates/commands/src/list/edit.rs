//! Changing a list within: LSET, LINSERT, LREM, LTRIM.

use super::read::OUT_OF_RANGE;
use super::{announce, index_of, integer, limit, range_of};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::Event;
use larder_values::list::{End, List, Side};

const SPEC: Spec =
    Spec { since: "1.0.0", group: Group::List, flags: Flags::WRITE, acl: Acl::LIST, ..Spec::EMPTY };

const REMOVED_FROM: &[KeySpec] = &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::DELETE))];

/// `LSET key index element`
pub static LSET: Command = Command {
    spec: Spec {
        name: "lset",
        summary: "Replaces the element of a list at an index.",
        complexity: "O(N), N chunks between the index and the nearer end.",
        arity: 4,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
        args: &[Arg::key("key", 0), Arg::integer("index"), Arg::string("element")],
        ..SPEC
    },
    run: Run::Keys(lset),
    subcommands: &[],
};

fn lset(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    // As in Redis, the index is only judged when there is a list.
    let len = cx.db.peek_as::<List>(&key)?.ok_or(Error::NoSuchKey)?.len();
    // One beyond the ends changes no element, but as in Redis the list makes room for another first.
    // An index is taken by its lower 32 bits, as Redis does.
    let index = i64::from(integer(args, 2)? as i32);
    let index = index_of(index, len).unwrap_or(usize::MAX);
    let limit = limit(cx.limits);
    let edited = cx.db.edit::<List, _>(&key, |list| list.set(limit, index, args.get(3)))?;
    edited.filter(|edited| edited.value).ok_or(Error::OutOfRange)?;
    cx.db.changed(&key, Event::LSET);
    cx.reply.ok();
    Ok(())
}

/// `LINSERT key <BEFORE | AFTER> pivot element`
pub static LINSERT: Command = Command {
    spec: Spec {
        name: "linsert",
        summary: "Puts an element before or behind the first one of a list that equals a pivot.",
        since: "2.2.0",
        complexity: "O(N), N elements up to the pivot.",
        arity: 5,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::INSERT))],
        args: &[
            Arg::key("key", 0),
            Arg::one_of("where", &[Arg::word("before", "BEFORE"), Arg::word("after", "AFTER")]),
            Arg::string("pivot"),
            Arg::string("element"),
        ],
        ..SPEC
    },
    run: Run::Keys(linsert),
    subcommands: &[],
};

fn linsert(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let side = if args.is(2, b"after") {
        Side::After
    } else if args.is(2, b"before") {
        Side::Before
    } else {
        return Err(Error::Syntax);
    };
    let (key, limit) = (cx.key(args, 1), limit(cx.limits));
    let edited = cx.db.edit::<List, _>(&key, |list| {
        list.insert(limit, side, args.get(3), args.get(4)).then(|| list.len())
    })?;
    match edited.map(|edited| edited.value) {
        None => cx.reply.integer(0),
        Some(None) => cx.reply.integer(-1),
        Some(Some(len)) => {
            cx.db.changed(&key, Event::LINSERT);
            cx.reply.count(len);
        }
    }
    Ok(())
}

/// `LREM key count element`
pub static LREM: Command = Command {
    spec: Spec {
        name: "lrem",
        summary: "Removes elements of a list that equal another, from either end or all.",
        complexity: "O(N + M), N elements of the list and M removed.",
        arity: 4,
        keys: REMOVED_FROM,
        args: &[Arg::key("key", 0), Arg::integer("count"), Arg::string("element")],
        ..SPEC
    },
    run: Run::Keys(lrem),
    subcommands: &[],
};

fn lrem(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let count = integer(args, 2)?;
    if count == i64::MIN {
        return Err(OUT_OF_RANGE);
    }
    let from = if count < 0 { End::Tail } else { End::Head };
    let count = match count {
        0 => usize::MAX,
        count => usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX),
    };
    let (key, limit) = (cx.key(args, 1), limit(cx.limits));
    let edited = cx.db.edit::<List, _>(&key, |list| list.remove(limit, from, count, args.get(3)))?;
    let (removed, emptied) = edited.map_or((0, false), |edited| (edited.value, edited.emptied));
    if removed > 0 {
        announce(cx, &key, Event::LREM, removed, emptied);
    }
    cx.reply.count(removed);
    Ok(())
}

/// `LTRIM key start stop`
pub static LTRIM: Command = Command {
    spec: Spec {
        name: "ltrim",
        summary: "Keeps the elements of a list between two indexes, both included, and removes the others.",
        complexity: "O(N), N elements removed.",
        arity: 4,
        keys: REMOVED_FROM,
        args: &[Arg::key("key", 0), Arg::integer("start"), Arg::integer("stop")],
        ..SPEC
    },
    run: Run::Keys(ltrim),
    subcommands: &[],
};

fn ltrim(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (start, stop) = (integer(args, 2)?, integer(args, 3)?);
    let (key, limit) = (cx.key(args, 1), limit(cx.limits));
    let edited = cx.db.edit::<List, _>(&key, |list| {
        let (first, end) = range_of(start, stop, list.len());
        let removed = list.len() - (end - first);
        list.trim(limit, first, end);
        removed
    })?;
    if let Some(edited) = edited {
        // Redis announces a trim that removed nothing, but does not count it as a change.
        if edited.value == 0 {
            cx.db.notify(&key, Event::LTRIM);
        } else {
            announce(cx, &key, Event::LTRIM, edited.value, edited.emptied);
        }
    }
    cx.reply.ok();
    Ok(())
}
