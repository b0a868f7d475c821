//! ZPOPMIN, ZPOPMAX and ZMPOP.
//!
//! What they share with the commands that wait is [`pop`]. Read next: `block.rs`.

use super::changed;
use super::reply::ReplyMember;
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Hashed};
use larder_values::number;
use larder_values::zset::ZSet;

/// `ZPOPMIN key [count]`
pub static ZPOPMIN: Command = Command {
    spec: Spec {
        name: "zpopmin",
        summary: "Takes out and answers the members with the lowest scores.",
        since: "5.0.0",
        group: Group::SortedSet,
        complexity: "O(M log N), M members taken out",
        arity: -2,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))],
        args: &[Arg::key("key", 0), Arg::integer("count").optional()],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| zpop(cx, args, End::Min)),
    subcommands: &[],
};

/// `ZPOPMAX key [count]`
pub static ZPOPMAX: Command = Command {
    spec: Spec {
        name: "zpopmax",
        summary: "Takes out and answers the members with the highest scores.",
        since: "5.0.0",
        group: Group::SortedSet,
        complexity: "O(M log N), M members taken out",
        arity: -2,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))],
        args: &[Arg::key("key", 0), Arg::integer("count").optional()],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| zpop(cx, args, End::Max)),
    subcommands: &[],
};

/// `ZMPOP numkeys key [key ...] <MIN | MAX> [COUNT count]`
pub static ZMPOP: Command = Command {
    spec: Spec {
        name: "zmpop",
        summary: "Takes members out of the first of several sorted sets that has any.",
        since: "7.0.0",
        group: Group::SortedSet,
        complexity: "O(K + M log N), K keys, M members taken out",
        arity: -4,
        flags: Flags::WRITE,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::counted(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))],
        args: &[
            Arg::integer("numkeys"),
            Arg::key("key", 0).multiple(),
            Arg::one_of("where", &[Arg::word("min", "MIN"), Arg::word("max", "MAX")]),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(zmpop),
    subcommands: &[],
};

/// From which end members are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Min,
    Max,
}

/// How the members taken are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Members and scores in turn.
    Flat,
    /// An array of pairs.
    Pairs,
    /// The key, then the member and its score.
    KeyFlat,
    /// The key, then an array of pairs.
    KeyPairs,
}

fn zpop(cx: &mut Ctx<'_>, args: &Args<'_>, end: End) -> Result<(), Error> {
    if args.len() > 3 {
        return Err(Error::Syntax);
    }
    let count = match args.try_get(2) {
        None => 1,
        Some(text) => positive(text).ok_or(Error::of("ERR value is out of range, must be positive"))?,
    };
    let shape = if args.len() == 3 && cx.reply.is_resp3() { Shape::Pairs } else { Shape::Flat };
    let key = cx.key(args, 1);
    let is_there = cx.db.peek_as::<ZSet>(&key)?.is_some();
    if count == 0 || !is_there {
        cx.reply.array(0);
        return Ok(());
    }
    pop(cx, &key, end, count, shape)
}

/// A number of members as a client writes it: zero or more.
fn positive(text: &[u8]) -> Option<usize> {
    number::parse_i64(text).and_then(|count| usize::try_from(count).ok())
}

/// The words of ZMPOP and BZMPOP from the number of keys on: where the keys end, which end, how many.
pub(super) fn parse_many(args: &Args<'_>, first: usize) -> Result<(usize, End, usize), Error> {
    let at_least_one = |text: &[u8]| positive(text).filter(|count| *count > 0);
    let keys = at_least_one(args.get(first)).ok_or(Error::of("ERR numkeys should be greater than 0"))?;
    let keys_end = keys.saturating_add(first + 1);
    let end = match args.try_get(keys_end) {
        Some(word) if word.eq_ignore_ascii_case(b"min") => End::Min,
        Some(word) if word.eq_ignore_ascii_case(b"max") => End::Max,
        _ => return Err(Error::Syntax),
    };
    let mut count = None;
    let mut index = keys_end + 1;
    while index < args.len() {
        if count.is_some() || !args.is(index, b"count") || index + 1 == args.len() {
            return Err(Error::Syntax);
        }
        let number = at_least_one(args.get(index + 1));
        count = Some(number.ok_or(Error::of("ERR count should be greater than 0"))?);
        index += 2;
    }
    Ok((keys_end, end, count.unwrap_or(1)))
}

fn zmpop(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (keys_end, end, count) = parse_many(args, 1)?;
    for index in 2..keys_end {
        let key = cx.key(args, index);
        if cx.db.peek_as::<ZSet>(&key)?.is_some() {
            return pop(cx, &key, end, count, Shape::KeyPairs);
        }
    }
    cx.reply.null_array();
    Ok(())
}

/// Takes up to `count` members out of a sorted set that is there, and answers them.
pub(super) fn pop(
    cx: &mut Ctx<'_>,
    key: &Hashed<'_>,
    end: End,
    count: usize,
    shape: Shape,
) -> Result<(), Error> {
    let Some(set) = cx.db.peek_as::<ZSet>(key)? else { return Ok(()) };
    let len = set.len();
    let count = count.min(len);
    let members = match end {
        End::Min => set.range(0, count, false),
        End::Max => set.range(len.saturating_sub(1), count, true),
    };
    let name: &'static [u8] = if end == End::Min { b"ZPOPMIN" } else { b"ZPOPMAX" };
    match shape {
        Shape::Flat => cx.reply.array(count * 2),
        Shape::Pairs => cx.reply.array(count),
        Shape::KeyFlat => {
            cx.reply.array(3);
            cx.reply.bulk(key.bytes);
        }
        Shape::KeyPairs => {
            cx.reply.array(2);
            cx.reply.bulk(key.bytes);
            cx.reply.array(count);
        }
    }
    let mut text = Vec::new();
    for (member, score) in members {
        if matches!(shape, Shape::Pairs | Shape::KeyPairs) {
            cx.reply.array(2);
        }
        cx.reply.member(member);
        cx.reply.score(score, &mut text);
    }
    match shape {
        Shape::Flat | Shape::Pairs => {}
        Shape::KeyFlat => cx.log_pop(name, key.bytes, None),
        Shape::KeyPairs => cx.log_pop(name, key.bytes, Some(count)),
    }
    let first = if end == End::Min { 0 } else { len - count };
    let edited = cx.db.edit(key, |set: &mut ZSet| set.remove_span(first, count))?;
    changed(&mut cx.db, key, if end == End::Min { Event::ZPOPMIN } else { Event::ZPOPMAX }, count);
    if edited.is_some_and(|edited| edited.emptied) {
        cx.db.notify(key, Event::DEL);
    }
    Ok(())
}
