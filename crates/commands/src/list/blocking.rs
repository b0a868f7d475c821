//! The commands that wait until there is an element: BLPOP, BRPOP, BLMOVE, BRPOPLPUSH, BLMPOP.
//!
//! Each does what its sister without B does, and waits where that would find nothing.

use super::moving::{self, DESTINATION, FROM, SOURCE, TO, move_one};
use super::pop::{ManyKeys, TAKEN, pop_name, pop_one};
use super::{end, end_arg};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeySpec, Run, Spec};
use crate::wait::{AtOnce, Timeout, Wait, timeout_seconds};
use larder_store::Type;
use larder_values::list::{End, List};

const TIMEOUT: Arg = Arg::double("timeout");
const TIMEOUT_HISTORY: &[(&str, &str)] = &[("6.0.0", "`timeout` may have a fraction.")];

const POP: Spec = Spec {
    since: "2.0.0",
    group: Group::List,
    complexity: "O(N), N keys.",
    arity: -3,
    flags: Flags::WRITE.or(Flags::BLOCKING),
    acl: Acl::LIST,
    keys: &[KeySpec::range(1, -2, 1, TAKEN)],
    args: &[Arg::key("key", 0).multiple(), TIMEOUT],
    history: TIMEOUT_HISTORY,
    ..Spec::EMPTY
};

/// `BLPOP key [key ...] timeout`
pub static BLPOP: Command = Command {
    spec: Spec {
        name: "blpop",
        summary: "Takes the first element of the first of several lists that has one, or waits for one.",
        ..POP
    },
    run: Run::Keys(|cx, args| pop(cx, args, End::Head)),
    subcommands: &[],
};

/// `BRPOP key [key ...] timeout`
pub static BRPOP: Command = Command {
    spec: Spec {
        name: "brpop",
        summary: "Takes the last element of the first of several lists that has one, or waits for one.",
        ..POP
    },
    run: Run::Keys(|cx, args| pop(cx, args, End::Tail)),
    subcommands: &[],
};

fn pop(cx: &mut Ctx<'_>, args: &Args<'_>, end: End) -> Result<(), Error> {
    let last = args.len() - 1;
    let timeout = timeout_seconds(cx, args.get(last))?;
    for index in 1..last {
        let key = cx.key(args, index);
        if cx.is_at_hand(&key) && cx.db.peek_as::<List>(&key)?.is_some() {
            cx.reply.array(2);
            cx.reply.bulk(key.bytes);
            cx.log_pop(pop_name(end), key.bytes, None);
            pop_one(cx, &key, end)?;
            return Ok(());
        }
    }
    cx.wait(Wait::for_keys(1..last, Type::List, timeout));
    Ok(())
}

const MOVE: Spec = Spec { flags: Flags::WRITE.or(Flags::DENY_OOM).or(Flags::BLOCKING), ..moving::SPEC };

/// `BLMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout`
pub static BLMOVE: Command = Command {
    spec: Spec {
        name: "blmove",
        summary: "Moves an element from an end of a list to an end of another and answers it, or waits for one.",
        since: "6.2.0",
        arity: 6,
        args: &[SOURCE, DESTINATION, FROM, TO, TIMEOUT],
        ..MOVE
    },
    run: Run::Keys(|cx, args| {
        let ends = (end(args, 3)?, end(args, 4)?);
        let timeout = timeout_seconds(cx, args.get(5))?;
        move_or_wait(cx, args, ends, timeout)
    }),
    subcommands: &[],
};

/// `BRPOPLPUSH source destination timeout`
pub static BRPOPLPUSH: Command = Command {
    spec: Spec {
        name: "brpoplpush",
        summary: "Moves the last element of a list to the front of another and answers it, or waits for one.",
        since: "2.2.0",
        arity: 4,
        args: &[SOURCE, DESTINATION, TIMEOUT],
        history: TIMEOUT_HISTORY,
        deprecated: Some(("6.2.0", "`BLMOVE` with the `RIGHT` and `LEFT` arguments")),
        ..MOVE
    },
    run: Run::Keys(|cx, args| {
        let timeout = timeout_seconds(cx, args.get(3))?;
        move_or_wait(cx, args, (End::Tail, End::Head), timeout)
    }),
    subcommands: &[],
};

fn move_or_wait(cx: &mut Ctx<'_>, args: &Args<'_>, ends: (End, End), timeout: Timeout) -> Result<(), Error> {
    let source = cx.key(args, 1);
    if !cx.is_at_hand(&source) || !move_one(cx, args, ends)? {
        cx.wait(Wait::for_keys(1..2, Type::List, timeout).at_once(AtOnce::Null));
        return Ok(());
    }
    match args.len() {
        4 => cx.log_instead([b"RPOPLPUSH", args.get(1), args.get(2)]),
        _ => cx.log_instead([b"LMOVE", args.get(1), args.get(2), args.get(3), args.get(4)]),
    }
    Ok(())
}

/// `BLMPOP timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]`
pub static BLMPOP: Command = Command {
    spec: Spec {
        name: "blmpop",
        summary: "Takes elements from the first of several lists that has some, or waits for one.",
        since: "7.0.0",
        group: Group::List,
        complexity: "O(N + M), N keys and M elements taken.",
        arity: -5,
        flags: Flags::WRITE.or(Flags::BLOCKING),
        acl: Acl::LIST,
        keys: &[KeySpec::counted(2, TAKEN)],
        args: &[
            TIMEOUT,
            Arg::integer("numkeys"),
            Arg::key("key", 0).multiple(),
            end_arg("where"),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(blmpop),
    subcommands: &[],
};

fn blmpop(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let plan = ManyKeys::parse(args, 2)?;
    let timeout = timeout_seconds(cx, args.get(1))?;
    if !plan.pop(cx, args, |cx, key| cx.is_at_hand(key))? {
        cx.wait(Wait::for_keys(plan.keys, Type::List, timeout));
    }
    Ok(())
}
