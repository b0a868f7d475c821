//! ZADD and ZINCRBY.

use super::changed;
use super::reply::reply_score;
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::Event;
use larder_values::number;
use larder_values::zset::{Add, Outcome, Rule, ZSet};
use smallvec::SmallVec;

/// `ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]`
pub static ZADD: Command = Command {
    spec: Spec {
        name: "zadd",
        element: 3,
        summary: "Adds members to a sorted set, or gives present ones new scores.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(log N) for each member",
        arity: -4,
        flags: Flags::WRITE.or(Flags::DENY_OOM).or(Flags::FAST),
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
        args: &[
            Arg::key("key", 0),
            Arg::one_of("condition", &[Arg::word("nx", "NX"), Arg::word("xx", "XX")])
                .since("3.0.2")
                .optional(),
            Arg::one_of("comparison", &[Arg::word("gt", "GT"), Arg::word("lt", "LT")])
                .since("6.2.0")
                .optional(),
            Arg::word("change", "CH").since("3.0.2").optional(),
            Arg::word("increment", "INCR").since("3.0.2").optional(),
            Arg::block("data", &[Arg::double("score"), Arg::string("member")]).multiple(),
        ],
        history: &[
            ("2.4.0", "Takes several members."),
            ("3.0.2", "Has `XX`, `NX`, `CH` and `INCR`."),
            ("6.2.0", "Has `GT` and `LT`."),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(zadd),
    subcommands: &[],
};

/// `ZINCRBY key increment member`
pub static ZINCRBY: Command = Command {
    spec: Spec {
        name: "zincrby",
        element: 3,
        summary: "Adds a number to a member's score; a new member starts from 0.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(log N)",
        arity: 4,
        flags: Flags::WRITE.or(Flags::DENY_OOM).or(Flags::FAST),
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))],
        args: &[Arg::key("key", 0), Arg::integer("increment"), Arg::string("member")],
        ..Spec::EMPTY
    },
    run: Run::Keys(zincrby),
    subcommands: &[],
};

/// The words in front of the scores.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// How members are treated.
    pub(crate) add: Add,
    /// Changed scores are counted as well as new members.
    pub(crate) count_changes: bool,
}

/// A score and its member.
pub(crate) type Pair<'a> = (f64, &'a [u8]);

fn zadd(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (options, first) = parse_options(args, Add::default())?;
    add(cx, args, options, first)
}

fn zincrby(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (options, first) = parse_options(args, Add { increment: true, ..Add::default() })?;
    add(cx, args, options, first)
}

/// The options, and where the first score is.
fn parse_options(args: &Args<'_>, mut add: Add) -> Result<(Options, usize), Error> {
    let (mut present, mut absent, mut count_changes) = (false, false, false);
    let mut index = 2;
    while index < args.len() {
        // Numbers are what comes most often.
        if !args.get(index).first().is_some_and(u8::is_ascii_alphabetic) {
            break;
        }
        if args.is(index, b"nx") {
            absent = true;
        } else if args.is(index, b"xx") {
            present = true;
        } else if args.is(index, b"gt") {
            add.only_greater = true;
        } else if args.is(index, b"lt") {
            add.only_less = true;
        } else if args.is(index, b"ch") {
            count_changes = true;
        } else if args.is(index, b"incr") {
            add.increment = true;
        } else {
            break;
        }
        index += 1;
    }
    let words = args.len() - index;
    if words == 0 || !words.is_multiple_of(2) {
        return Err(Error::Syntax);
    }
    if present && absent {
        return Err(Error::of("ERR XX and NX options at the same time are not compatible"));
    }
    if (absent && (add.only_greater || add.only_less)) || (add.only_greater && add.only_less) {
        return Err(Error::of("ERR GT, LT, and/or NX options at the same time are not compatible"));
    }
    if add.increment && words > 2 {
        return Err(Error::of("ERR INCR option supports a single increment-element pair"));
    }
    add.rule = match (present, absent) {
        (true, _) => Rule::Present,
        (_, true) => Rule::Absent,
        _ => Rule::Any,
    };
    Ok((Options { add, count_changes }, index))
}

fn add(cx: &mut Ctx<'_>, args: &Args<'_>, options: Options, first: usize) -> Result<(), Error> {
    let mut pairs: SmallVec<[Pair<'_>; 4]> = SmallVec::new();
    for index in (first..args.len()).step_by(2) {
        let score = number::parse_f64(args.get(index)).ok_or(Error::NotAFloat)?;
        pairs.push((score, args.get(index + 1)));
    }
    add_pairs(cx, args, options, &pairs)
}

/// What adding came to.
struct Sum {
    added: usize,
    changed: usize,
    /// The last score that was not excluded.
    score: Option<f64>,
    is_nan: bool,
}

/// Adds members to the sorted set of the first key and answers.
pub(crate) fn add_pairs(
    cx: &mut Ctx<'_>,
    args: &Args<'_>,
    options: Options,
    pairs: &[Pair<'_>],
) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let limits = cx.limits.zset_packed;
    let work = |set: &mut ZSet, is_new: bool| {
        if is_new {
            set.expect(pairs.len(), pairs.first().map_or(0, |pair| pair.1.len()), limits);
        }
        let mut sum = Sum { added: 0, changed: 0, score: None, is_nan: false };
        for (score, member) in pairs {
            match set.add(member, *score, options.add, limits) {
                Outcome::Excluded => {}
                Outcome::Added(score) => (sum.added, sum.score) = (sum.added + 1, Some(score)),
                Outcome::Changed(score) => (sum.changed, sum.score) = (sum.changed + 1, Some(score)),
                Outcome::Same(score) => sum.score = Some(score),
                Outcome::NotANumber => sum.is_nan = true,
            }
        }
        sum
    };
    // Only members that are present are looked at: no key is made for them.
    let sum = if options.add.rule == Rule::Present {
        cx.db.edit(&key, |set: &mut ZSet| work(set, false))?.map(|edited| edited.value)
    } else {
        let edited = cx.db.edit_or_create(&key, |set: &mut ZSet| {
            let is_new = larder_values::collection::Collection::is_empty(set);
            work(set, is_new)
        });
        Some(edited?.value)
    };
    let sum = sum.unwrap_or(Sum { added: 0, changed: 0, score: None, is_nan: false });
    if sum.is_nan {
        return Err(Error::of("ERR resulting score is not a number (NaN)"));
    }
    let event = if options.add.increment { Event::ZINCR } else { Event::ZADD };
    changed(&mut cx.db, &key, event, sum.added + sum.changed);
    match sum.score {
        Some(score) if options.add.increment => reply_score(cx, score),
        None if options.add.increment => cx.reply.null(),
        _ if options.count_changes => cx.reply.count(sum.added + sum.changed),
        _ => cx.reply.count(sum.added),
    }
    Ok(())
}
