//! When fields end: HTTL, HPTTL, HEXPIRETIME, HPEXPIRETIME.

use super::ACCESS_ONE;
use super::fields::{FIELDS, Fields};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, Run, Spec};
use larder_values::hash::{Found, Hash};

const SPEC: Spec = Spec {
    since: "7.4.0",
    group: Group::Hash,
    complexity: "O(N), N fields named.",
    arity: -5,
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Acl::HASH,
    keys: ACCESS_ONE,
    args: &[Arg::key("key", 0), FIELDS],
    ..Spec::EMPTY
};

/// HTTL key FIELDS numfields field [field ...]
pub static HTTL: Command = Command {
    spec: Spec {
        name: "httl",
        summary: "Tells how long fields still live, in seconds.",
        tips: &["nondeterministic_output"],
        ..SPEC
    },
    run: Run::Keys(|cx, args| tell(cx, args, Measure::Left, 1000)),
    subcommands: &[],
};

/// HPTTL key FIELDS numfields field [field ...]
pub static HPTTL: Command = Command {
    spec: Spec {
        name: "hpttl",
        summary: "Tells how long fields still live, in milliseconds.",
        tips: &["nondeterministic_output"],
        ..SPEC
    },
    run: Run::Keys(|cx, args| tell(cx, args, Measure::Left, 1)),
    subcommands: &[],
};

/// HEXPIRETIME key FIELDS numfields field [field ...]
pub static HEXPIRETIME: Command = Command {
    spec: Spec { name: "hexpiretime", summary: "Tells at which Unix time, in seconds, fields end.", ..SPEC },
    run: Run::Keys(|cx, args| tell(cx, args, Measure::Moment, 1000)),
    subcommands: &[],
};

/// HPEXPIRETIME key FIELDS numfields field [field ...]
pub static HPEXPIRETIME: Command = Command {
    spec: Spec {
        name: "hpexpiretime",
        summary: "Tells at which Unix time, in milliseconds, fields end.",
        ..SPEC
    },
    run: Run::Keys(|cx, args| tell(cx, args, Measure::Moment, 1)),
    subcommands: &[],
};

/// What is told of a field's end.
#[derive(Clone, Copy)]
enum Measure {
    Left,
    Moment,
}

/// Answers in units of `unit` milliseconds, rounded up.
fn tell(cx: &mut Ctx<'_>, args: &Args<'_>, measure: Measure, unit: u64) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let now = cx.db.now_of_fields();
    let hash = cx.db.read_as::<Hash>(&key)?;
    let fields = Fields::parse(args, 2)?;
    cx.reply.array(fields.count);
    for field in args.from(fields.first) {
        let answer = match hash.map_or(Found::Absent, |hash| hash.find(field, now)) {
            Found::Absent | Found::Due => -2,
            Found::Live(_, None) => -1,
            Found::Live(_, Some(end)) => {
                let millis = match measure {
                    Measure::Left => end.saturating_sub(now),
                    Measure::Moment => end,
                };
                i64::try_from(millis.div_ceil(unit)).unwrap_or(i64::MAX)
            }
        };
        cx.reply.integer(answer);
    }
    Ok(())
}
