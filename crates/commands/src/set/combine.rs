//! Several sets at once: intersections, unions and differences, answered, counted or stored.
//!
//! All keys of a command are locked before it runs. A key of another type is an error wherever it
//! stands, so every key is looked at before anything is answered.

use super::{Collected, limits};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Db, Event, Expire, Hashed};
use larder_values::number;
use larder_values::set::{Set, View, operations};
use smallvec::SmallVec;
use std::ops::ControlFlow;

const UNION_COST: &str = "O(N) where N is the number of members of all sets.";
const INTERSECTION_COST: &str = "O(N*M), N members of the smallest of M sets.";
const READ: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
const KEYS: Arg = Arg::key("key", 0).multiple();
const STORE_KEYS: &[KeySpec] =
    &[KeySpec::at(1, KeyFlags::OW.or(KeyFlags::UPDATE)), KeySpec::range(2, -1, 1, READ)];
const STORE_ARGS: &[Arg] = &[Arg::key("destination", 0), Arg::key("key", 1).multiple()];

/// What the commands that answer members have in common.
const READING: Spec = Spec {
    since: "1.0.0",
    group: Group::Set,
    arity: -2,
    flags: Flags::READONLY,
    acl: Acl::SET,
    keys: &[KeySpec::range(1, -1, 1, READ)],
    args: &[KEYS],
    tips: &["nondeterministic_output_order"],
    ..Spec::EMPTY
};

/// What the commands that store a set have in common.
const STORING: Spec = Spec {
    since: "1.0.0",
    group: Group::Set,
    arity: -3,
    flags: Flags::WRITE.or(Flags::DENY_OOM),
    acl: Acl::SET,
    keys: STORE_KEYS,
    args: STORE_ARGS,
    ..Spec::EMPTY
};

type Views<'d> = SmallVec<[View<'d>; 8]>;

/// SINTER key [key ...]
pub static SINTER: Command = Command {
    spec: Spec {
        name: "sinter",
        summary: "Answers the members that several sets have in common.",
        complexity: INTERSECTION_COST,
        ..READING
    },
    run: Run::Keys(|cx, args| {
        answer(cx, args, |sources, found| {
            let Some(mut views) = sources.all() else { return };
            operations::sort_by_size(&mut views);
            operations::intersection(&views, |member| {
                found.push(member);
                ControlFlow::Continue(())
            });
        })
    }),
    subcommands: &[],
};

/// SUNION key [key ...]
pub static SUNION: Command = Command {
    spec: Spec {
        name: "sunion",
        summary: "Answers the members that any of several sets has.",
        complexity: UNION_COST,
        ..READING
    },
    run: Run::Keys(|cx, args| {
        answer(cx, args, |sources, found| {
            operations::union(&sources.present(), |member| found.push(member));
        })
    }),
    subcommands: &[],
};

/// SDIFF key [key ...]
pub static SDIFF: Command = Command {
    spec: Spec {
        name: "sdiff",
        summary: "Answers the members of a set that no other of several sets has.",
        complexity: UNION_COST,
        ..READING
    },
    run: Run::Keys(|cx, args| {
        answer(cx, args, |sources, found| {
            let Some((first, others)) = sources.first_and_others() else { return };
            operations::difference(first, &others, |member| found.push(member));
        })
    }),
    subcommands: &[],
};

/// SINTERSTORE destination key [key ...]
pub static SINTERSTORE: Command = Command {
    spec: Spec {
        name: "sinterstore",
        summary: "Stores the members that several sets have in common as a set.",
        complexity: INTERSECTION_COST,
        ..STORING
    },
    run: Run::Keys(|cx, args| {
        store(cx, args, Event::SINTERSTORE, |sources, limits| {
            let mut views = sources.all()?;
            operations::sort_by_size(&mut views);
            Some(operations::make_intersection(&views, limits))
        })
    }),
    subcommands: &[],
};

/// SUNIONSTORE destination key [key ...]
pub static SUNIONSTORE: Command = Command {
    spec: Spec {
        name: "sunionstore",
        summary: "Stores the members that any of several sets has as a set.",
        complexity: UNION_COST,
        ..STORING
    },
    run: Run::Keys(|cx, args| {
        store(cx, args, Event::SUNIONSTORE, |sources, limits| {
            Some(operations::make_union(&sources.present(), limits))
        })
    }),
    subcommands: &[],
};

/// SDIFFSTORE destination key [key ...]
pub static SDIFFSTORE: Command = Command {
    spec: Spec {
        name: "sdiffstore",
        summary: "Stores the members of a set that no other of several sets has as a set.",
        complexity: UNION_COST,
        ..STORING
    },
    run: Run::Keys(|cx, args| {
        store(cx, args, Event::SDIFFSTORE, |sources, limits| {
            if sources.first_is_repeated {
                return None;
            }
            let (first, others) = sources.first_and_others()?;
            Some(operations::make_difference(first, &others, limits))
        })
    }),
    subcommands: &[],
};

/// SINTERCARD numkeys key [key ...] [LIMIT limit]
pub static SINTERCARD: Command = Command {
    spec: Spec {
        name: "sintercard",
        summary: "Answers how many members several sets have in common.",
        since: "7.0.0",
        group: Group::Set,
        complexity: INTERSECTION_COST,
        arity: -3,
        flags: Flags::READONLY,
        acl: Acl::SET,
        keys: &[KeySpec::counted(1, READ)],
        args: &[Arg::integer("numkeys"), KEYS, Arg::integer("limit").token("LIMIT").optional()],
        ..Spec::EMPTY
    },
    run: Run::Keys(sintercard),
    subcommands: &[],
};

fn sintercard(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (words, limit) = parse_sintercard(args)?;
    let keys = keys_at(cx, args, words);
    let sources = Sources::read(&mut cx.db, &keys)?;
    let mut count = 0;
    if let Some(mut views) = sources.all() {
        operations::sort_by_size(&mut views);
        operations::intersection(&views, |_| {
            count += 1;
            if count == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
    cx.reply.count(count);
    Ok(())
}

/// The words that are keys, and the limit; 0 is none.
fn parse_sintercard(args: &Args<'_>) -> Result<(std::ops::Range<usize>, usize), Error> {
    let count = number::parse_i64(args.get(1)).filter(|&count| count > 0);
    let count = count.ok_or(Error::of("ERR numkeys should be greater than 0"))?;
    let end = usize::try_from(count).ok().and_then(|count| count.checked_add(2));
    let end = end
        .filter(|&end| end <= args.len())
        .ok_or(Error::of("ERR Number of keys can't be greater than number of args"))?;
    let (mut index, mut limit) = (end, 0);
    while index < args.len() {
        let Some(value) = args.try_get(index + 1).filter(|_| args.is(index, b"limit")) else {
            return Err(Error::Syntax);
        };
        let parsed = number::parse_i64(value).filter(|&limit| limit >= 0);
        let parsed = parsed.ok_or(Error::of("ERR LIMIT can't be negative"))?;
        limit = usize::try_from(parsed).unwrap_or(usize::MAX);
        index += 2;
    }
    Ok((2..end, limit))
}

/// The sets that a command names, in its order; a missing key is an empty set.
struct Sources<'d> {
    views: SmallVec<[Option<View<'d>>; 8]>,
    /// Whether the first key is named again.
    first_is_repeated: bool,
}

impl<'d> Sources<'d> {
    /// Reads all keys, of which none may hold another type.
    fn read(db: &'d mut Db<'_>, keys: &[Hashed<'_>]) -> Result<Sources<'d>, Error> {
        for key in keys {
            db.read_as::<Set>(key)?;
        }
        let db = &*db;
        let first_is_repeated = keys
            .split_first()
            .is_some_and(|(first, others)| others.iter().any(|key| key.bytes == first.bytes));
        Ok(Sources { views: keys.iter().map(|key| db.seen_as::<Set>(key)).collect(), first_is_repeated })
    }

    /// All sets, unless one is empty.
    fn all(&self) -> Option<Views<'d>> {
        self.views.iter().copied().collect()
    }

    /// The sets that are not empty.
    fn present(&self) -> Views<'d> {
        self.views.iter().copied().flatten().collect()
    }

    /// The first set, unless it is empty, and the others that are not empty.
    fn first_and_others(&self) -> Option<(View<'d>, Views<'d>)> {
        let (first, others) = self.views.split_first()?;
        Some(((*first)?, others.iter().copied().flatten().collect()))
    }
}

fn keys_at<'k>(cx: &Ctx<'_>, args: &Args<'k>, words: std::ops::Range<usize>) -> SmallVec<[Hashed<'k>; 8]> {
    words.map(|index| cx.key(args, index)).collect()
}

/// Answers what `work` finds.
fn answer(
    cx: &mut Ctx<'_>,
    args: &Args<'_>,
    work: impl FnOnce(&Sources<'_>, &mut Collected),
) -> Result<(), Error> {
    let keys = keys_at(cx, args, 1..args.len());
    let mut found = Collected::new(std::mem::take(&mut cx.db.local.scratch));
    let read = Sources::read(&mut cx.db, &keys).map(|sources| work(&sources, &mut found));
    if read.is_ok() {
        found.answer(&mut cx.reply);
    }
    cx.db.local.scratch = found.into_scratch();
    read
}

/// Stores the set that `work` makes under the first key, or removes that key if it is empty.
fn store(
    cx: &mut Ctx<'_>,
    args: &Args<'_>,
    event: Event,
    work: impl FnOnce(&Sources<'_>, &larder_values::set::Limits) -> Option<Set>,
) -> Result<(), Error> {
    let destination = cx.key(args, 1);
    let limits = limits(cx.limits);
    let keys = keys_at(cx, args, 2..args.len());
    let made = work(&Sources::read(&mut cx.db, &keys)?, &limits);
    let Some(made) = made.filter(|made| !made.is_empty()) else {
        if cx.db.remove_even_if_over(&destination) {
            cx.db.changed(&destination, Event::DEL);
        }
        cx.reply.count(0);
        return Ok(());
    };
    let count = made.len();
    if cx.db.put_collection(&destination, made, Expire::Clear) {
        cx.db.overwritten(&destination);
    }
    cx.db.changed(&destination, event);
    cx.reply.count(count);
    Ok(())
}
