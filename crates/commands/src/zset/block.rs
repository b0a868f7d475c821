//! The commands that wait for members: BZPOPMIN, BZPOPMAX and BZMPOP.

use super::pop::{End, Shape, parse_many, pop};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use crate::wait::{Timeout, Wait, timeout_seconds};
use larder_store::Type;
use larder_values::zset::ZSet;
use std::ops::Range;

/// `BZPOPMIN key [key ...] timeout`
pub static BZPOPMIN: Command = Command {
    spec: Spec {
        name: "bzpopmin",
        summary: "Takes out the member with the lowest score of the first sorted set that has any, or waits for one.",
        since: "5.0.0",
        group: Group::SortedSet,
        complexity: "O(K + log N), K keys",
        arity: -3,
        flags: Flags::WRITE.or(Flags::BLOCKING).or(Flags::FAST),
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::range(1, -2, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))],
        args: &[Arg::key("key", 0).multiple(), Arg::double("timeout")],
        history: &[("6.0.0", "Takes fractions of seconds as `timeout`.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| bzpop(cx, args, End::Min)),
    subcommands: &[],
};

/// `BZPOPMAX key [key ...] timeout`
pub static BZPOPMAX: Command = Command {
    spec: Spec {
        name: "bzpopmax",
        summary: "Takes out the member with the highest score of the first sorted set that has any, or waits for one.",
        since: "5.0.0",
        group: Group::SortedSet,
        complexity: "O(K + log N), K keys",
        arity: -3,
        flags: Flags::WRITE.or(Flags::BLOCKING).or(Flags::FAST),
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::range(1, -2, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))],
        args: &[Arg::key("key", 0).multiple(), Arg::double("timeout")],
        history: &[("6.0.0", "Takes fractions of seconds as `timeout`.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| bzpop(cx, args, End::Max)),
    subcommands: &[],
};

/// `BZMPOP timeout numkeys key [key ...] <MIN | MAX> [COUNT count]`
pub static BZMPOP: Command = Command {
    spec: Spec {
        name: "bzmpop",
        summary: "Takes members out of the first of several sorted sets that has any, or waits for some.",
        since: "7.0.0",
        group: Group::SortedSet,
        complexity: "O(K + M log N), K keys, M members taken out",
        arity: -5,
        flags: Flags::WRITE.or(Flags::BLOCKING),
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::counted(2, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))],
        args: &[
            Arg::double("timeout"),
            Arg::integer("numkeys"),
            Arg::key("key", 0).multiple(),
            Arg::one_of("where", &[Arg::word("min", "MIN"), Arg::word("max", "MAX")]),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(bzmpop),
    subcommands: &[],
};

fn bzpop(cx: &mut Ctx<'_>, args: &Args<'_>, end: End) -> Result<(), Error> {
    let last = args.len() - 1;
    let timeout = timeout_seconds(cx, args.get(last))?;
    pop_or_wait(cx, args, 1..last, timeout, |cx, index| {
        let key = cx.key(args, index);
        pop(cx, &key, end, 1, Shape::KeyFlat)
    })
}

fn bzmpop(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (keys_end, end, count) = parse_many(args, 2)?;
    let timeout = timeout_seconds(cx, args.get(1))?;
    pop_or_wait(cx, args, 3..keys_end, timeout, |cx, index| {
        let key = cx.key(args, index);
        pop(cx, &key, end, count, Shape::KeyPairs)
    })
}

/// Has `take` take from the first of the keys that holds a sorted set, or waits for one.
fn pop_or_wait(
    cx: &mut Ctx<'_>,
    args: &Args<'_>,
    keys: Range<usize>,
    timeout: Timeout,
    take: impl FnOnce(&mut Ctx<'_>, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    for index in keys.clone() {
        let key = cx.key(args, index);
        if cx.is_at_hand(&key) && cx.db.peek_as::<ZSet>(&key)?.is_some() {
            return take(cx, index);
        }
    }
    cx.wait(Wait::for_keys(keys, Type::ZSet, timeout));
    Ok(())
}
