//! ZREM and the commands that take ranges of members out.

use super::changed;
use super::lookup::{lex_range, score_range};
use super::range::span_of_ranks;
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::Event;
use larder_values::collection::Collection;
use larder_values::number;
use larder_values::zset::{View, ZSet};
use std::ops::Range;

/// `ZREM key member [member ...]`
pub static ZREM: Command = Command {
    spec: Spec {
        name: "zrem",
        element: 2,
        summary: "Takes members out of a sorted set.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(log N) for each member",
        arity: -3,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::DELETE))],
        args: &[Arg::key("key", 0), Arg::string("member").multiple()],
        history: &[("2.4.0", "Takes several members.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(zrem),
    subcommands: &[],
};

/// `ZREMRANGEBYRANK key start stop`
pub static ZREMRANGEBYRANK: Command = Command {
    spec: Spec {
        name: "zremrangebyrank",
        summary: "Takes out the members within bounds of rank.",
        since: "2.0.0",
        group: Group::SortedSet,
        complexity: "O(M log N), M members taken out",
        arity: 4,
        flags: Flags::WRITE,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::DELETE))],
        args: &[Arg::key("key", 0), Arg::integer("start"), Arg::integer("stop")],
        ..Spec::EMPTY
    },
    run: Run::Keys(zremrangebyrank),
    subcommands: &[],
};

/// `ZREMRANGEBYSCORE key min max`
pub static ZREMRANGEBYSCORE: Command = Command {
    spec: Spec {
        name: "zremrangebyscore",
        summary: "Takes out the members whose scores are within bounds.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(M log N), M members taken out",
        arity: 4,
        flags: Flags::WRITE,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::DELETE))],
        args: &[Arg::key("key", 0), Arg::double("min"), Arg::double("max")],
        ..Spec::EMPTY
    },
    run: Run::Keys(zremrangebyscore),
    subcommands: &[],
};

/// `ZREMRANGEBYLEX key min max`
pub static ZREMRANGEBYLEX: Command = Command {
    spec: Spec {
        name: "zremrangebylex",
        summary: "Takes out the members within bounds of bytes, where all scores are equal.",
        since: "2.8.9",
        group: Group::SortedSet,
        complexity: "O(M log N), M members taken out",
        arity: 4,
        flags: Flags::WRITE,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::DELETE))],
        args: &[Arg::key("key", 0), Arg::string("min"), Arg::string("max")],
        ..Spec::EMPTY
    },
    run: Run::Keys(zremrangebylex),
    subcommands: &[],
};

fn zrem(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    remove(cx, args, Event::ZREM, |set| args.from(2).filter(|member| set.remove(member)).count())
}

fn zremrangebyrank(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let integer = |index| number::parse_i64(args.get(index)).ok_or(Error::NotAnInteger);
    let (start, stop) = (integer(2)?, integer(3)?);
    remove_span(cx, args, Event::ZREMRANGEBYRANK, |set| span_of_ranks(start, stop, set.len()))
}

fn zremrangebyscore(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let range = score_range(args.get(2), args.get(3))?;
    remove_span(cx, args, Event::ZREMRANGEBYSCORE, |set| set.span_of_scores(&range))
}

fn zremrangebylex(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let range = lex_range(args.get(2), args.get(3))?;
    remove_span(cx, args, Event::ZREMRANGEBYLEX, |set| set.span_of_members(&range, false))
}

fn remove_span(
    cx: &mut Ctx<'_>,
    args: &Args<'_>,
    event: Event,
    span: impl FnOnce(View<'_>) -> Range<usize>,
) -> Result<(), Error> {
    remove(cx, args, event, |set| {
        let span = span(set.view());
        set.remove_span(span.start, span.len())
    })
}

/// Answers how many members `work` takes out of the sorted set of the first key.
fn remove(
    cx: &mut Ctx<'_>,
    args: &Args<'_>,
    event: Event,
    work: impl FnOnce(&mut ZSet) -> usize,
) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let edited = cx.db.edit(&key, work)?;
    let removed = edited.as_ref().map_or(0, |edited| edited.value);
    changed(&mut cx.db, &key, event, removed);
    if edited.is_some_and(|edited| edited.emptied) {
        cx.db.notify(&key, Event::DEL);
    }
    cx.reply.count(removed);
    Ok(())
}
