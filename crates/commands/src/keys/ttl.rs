//! When a key ends: TTL, PTTL, EXPIRETIME, PEXPIRETIME.
//!
//! -2 says that there is no key, -1 that it has no end. Seconds are rounded to the nearest.

use super::{ONE_KEY, READ_ONE};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Command, Flags, Run, Spec};

static NONDETERMINISTIC: &[&str] = &["nondeterministic_output"];
static HISTORY: &[(&str, &str)] = &[("2.8.0", "Answers -2 where there is no key.")];

const SPEC: Spec = Spec {
    arity: 2,
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Acl::KEYSPACE,
    keys: READ_ONE,
    args: ONE_KEY,
    ..Spec::EMPTY
};

/// `TTL key`
pub static TTL: Command = Command {
    spec: Spec {
        name: "ttl",
        summary: "Tells how many seconds a key has left.",
        tips: NONDETERMINISTIC,
        history: HISTORY,
        ..SPEC
    },
    run: Run::Keys(|cx, args| tell(cx, args, Measure::Left, 1000)),
    subcommands: &[],
};

/// `PTTL key`
pub static PTTL: Command = Command {
    spec: Spec {
        name: "pttl",
        summary: "Tells how many milliseconds a key has left.",
        since: "2.6.0",
        tips: NONDETERMINISTIC,
        history: HISTORY,
        ..SPEC
    },
    run: Run::Keys(|cx, args| tell(cx, args, Measure::Left, 1)),
    subcommands: &[],
};

/// `EXPIRETIME key`
pub static EXPIRETIME: Command = Command {
    spec: Spec {
        name: "expiretime",
        summary: "Tells at which Unix time, in seconds, a key ends.",
        since: "7.0.0",
        ..SPEC
    },
    run: Run::Keys(|cx, args| tell(cx, args, Measure::Moment, 1000)),
    subcommands: &[],
};

/// `PEXPIRETIME key`
pub static PEXPIRETIME: Command = Command {
    spec: Spec {
        name: "pexpiretime",
        summary: "Tells at which Unix time, in milliseconds, a key ends.",
        since: "7.0.0",
        ..SPEC
    },
    run: Run::Keys(|cx, args| tell(cx, args, Measure::Moment, 1)),
    subcommands: &[],
};

/// What is told of a key's end.
#[derive(Clone, Copy)]
enum Measure {
    Left,
    Moment,
}

/// Answers in units of `unit` milliseconds.
fn tell(cx: &mut Ctx<'_>, args: &Args<'_>, measure: Measure, unit: u64) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let now = cx.db.now();
    let answer = match cx.db.look(&key).map(|item| item.deadline()) {
        None => -2,
        Some(None) => -1,
        Some(Some(end)) => {
            let milliseconds = match measure {
                Measure::Left => end.0.saturating_sub(now.0),
                Measure::Moment => end.0,
            };
            i64::try_from(milliseconds.saturating_add(unit / 2) / unit).unwrap_or(i64::MAX)
        }
    };
    cx.reply.integer(answer);
    Ok(())
}
