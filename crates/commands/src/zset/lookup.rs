//! Single members and counts: ZCARD, ZCOUNT, ZLEXCOUNT, ZSCORE, ZMSCORE, ZRANK, ZREVRANK.

use super::reply::{ReplyMember, reply_score};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_values::zset::{LexRange, ScoreRange, ZSet};

/// `ZCARD key`
pub static ZCARD: Command = Command {
    spec: Spec {
        name: "zcard",
        summary: "Answers how many members a sorted set has.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(1)",
        arity: 2,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RO)],
        args: &[Arg::key("key", 0)],
        ..Spec::EMPTY
    },
    run: Run::Keys(zcard),
    subcommands: &[],
};

/// `ZCOUNT key min max`
pub static ZCOUNT: Command = Command {
    spec: Spec {
        name: "zcount",
        summary: "Counts the members whose scores are within bounds.",
        since: "2.0.0",
        group: Group::SortedSet,
        complexity: "O(log N)",
        arity: 4,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0), Arg::double("min"), Arg::double("max")],
        ..Spec::EMPTY
    },
    run: Run::Keys(zcount),
    subcommands: &[],
};

/// `ZLEXCOUNT key min max`
pub static ZLEXCOUNT: Command = Command {
    spec: Spec {
        name: "zlexcount",
        summary: "Counts the members within bounds of bytes, where all scores are equal.",
        since: "2.8.9",
        group: Group::SortedSet,
        complexity: "O(log N)",
        arity: 4,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0), Arg::string("min"), Arg::string("max")],
        ..Spec::EMPTY
    },
    run: Run::Keys(zlexcount),
    subcommands: &[],
};

/// `ZSCORE key member`
pub static ZSCORE: Command = Command {
    spec: Spec {
        name: "zscore",
        element: 2,
        summary: "Answers a member's score.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(1)",
        arity: 3,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0), Arg::string("member")],
        ..Spec::EMPTY
    },
    run: Run::Keys(zscore),
    subcommands: &[],
};

/// `ZMSCORE key member [member ...]`
pub static ZMSCORE: Command = Command {
    spec: Spec {
        name: "zmscore",
        element: 2,
        summary: "Answers the scores of several members.",
        since: "6.2.0",
        group: Group::SortedSet,
        complexity: "O(M), M members asked for",
        arity: -3,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0), Arg::string("member").multiple()],
        ..Spec::EMPTY
    },
    run: Run::Keys(zmscore),
    subcommands: &[],
};

/// `ZRANK key member [WITHSCORE]`
pub static ZRANK: Command = Command {
    spec: Spec {
        name: "zrank",
        element: 2,
        summary: "Answers how many members come before one, lowest score first.",
        since: "2.0.0",
        group: Group::SortedSet,
        complexity: "O(log N)",
        arity: -3,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0), Arg::string("member"), Arg::word("withscore", "WITHSCORE").optional()],
        history: &[("7.2.0", "Has `WITHSCORE`.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| rank(cx, args, false)),
    subcommands: &[],
};

/// `ZREVRANK key member [WITHSCORE]`
pub static ZREVRANK: Command = Command {
    spec: Spec {
        name: "zrevrank",
        element: 2,
        summary: "Answers how many members come before one, highest score first.",
        since: "2.0.0",
        group: Group::SortedSet,
        complexity: "O(log N)",
        arity: -3,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0), Arg::string("member"), Arg::word("withscore", "WITHSCORE").optional()],
        history: &[("7.2.0", "Has `WITHSCORE`.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| rank(cx, args, true)),
    subcommands: &[],
};

/// A range of scores whose bounds are two words.
pub(super) fn score_range(min: &[u8], max: &[u8]) -> Result<ScoreRange, Error> {
    ScoreRange::parse(min, max).map_err(|_| Error::of("ERR min or max is not a float"))
}

/// A range of members whose bounds are two words.
pub(super) fn lex_range<'a>(min: &'a [u8], max: &'a [u8]) -> Result<LexRange<'a>, Error> {
    LexRange::parse(min, max).map_err(|_| Error::of("ERR min or max not valid string range item"))
}

fn zcard(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let len = cx.db.read_as::<ZSet>(&key)?.map_or(0, |set| set.len());
    cx.reply.count(len);
    Ok(())
}

fn zcount(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let range = score_range(args.get(2), args.get(3))?;
    let key = cx.key(args, 1);
    let count = cx.db.read_as::<ZSet>(&key)?.map_or(0, |set| set.span_of_scores(&range).len());
    cx.reply.count(count);
    Ok(())
}

fn zlexcount(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let range = lex_range(args.get(2), args.get(3))?;
    let key = cx.key(args, 1);
    let count = cx.db.read_as::<ZSet>(&key)?.map_or(0, |set| set.span_of_members(&range, false).len());
    cx.reply.count(count);
    Ok(())
}

fn zscore(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    match cx.db.read_as::<ZSet>(&key)?.and_then(|set| set.score(args.get(2))) {
        Some(score) => reply_score(cx, score),
        None => cx.reply.null(),
    }
    Ok(())
}

fn zmscore(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let set = cx.db.read_as::<ZSet>(&key)?;
    let mut text = Vec::with_capacity(32);
    cx.reply.array(args.len() - 2);
    for member in args.from(2) {
        match set.and_then(|set| set.score(member)) {
            Some(score) => cx.reply.score(score, &mut text),
            None => cx.reply.null(),
        }
    }
    Ok(())
}

fn rank(cx: &mut Ctx<'_>, args: &Args<'_>, backwards: bool) -> Result<(), Error> {
    let with_score = args.len() > 3;
    if args.len() > 4 {
        return Err(Error::arity(if backwards { "zrevrank" } else { "zrank" }));
    }
    if with_score && !args.is(3, b"withscore") {
        return Err(Error::Syntax);
    }
    let key = cx.key(args, 1);
    let set = cx.db.read_as::<ZSet>(&key)?;
    let found = set.and_then(|set| Some((set.len(), set.rank(args.get(2))?)));
    match found {
        Some((len, (rank, score))) => {
            if with_score {
                cx.reply.array(2);
            }
            cx.reply.count(if backwards { len - 1 - rank } else { rank });
            if with_score {
                reply_score(cx, score);
            }
        }
        None if with_score => cx.reply.null_array(),
        None => cx.reply.null(),
    }
    Ok(())
}
