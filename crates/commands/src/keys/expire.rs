//! EXPIRE and its family, and PERSIST.
//!
//! A time that is not in the future removes the key at once: listeners hear `del`, not `expired`.

use super::{ONE_KEY, UPDATE_ONE};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Run, Spec};
use larder_store::{Event, Millis, Removal};
use larder_values::number;

static CONDITION: &[Arg] =
    &[Arg::word("nx", "NX"), Arg::word("xx", "XX"), Arg::word("gt", "GT"), Arg::word("lt", "LT")];

const CONDITIONS: Arg = Arg::one_of("condition", CONDITION).optional().since("7.0.0");

static HISTORY: &[(&str, &str)] = &[("7.0.0", "Takes the conditions `NX`, `XX`, `GT` and `LT`.")];

const SPEC: Spec = Spec {
    arity: -3,
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Acl::KEYSPACE,
    keys: UPDATE_ONE,
    history: HISTORY,
    ..Spec::EMPTY
};

/// `EXPIRE key seconds [NX | XX | GT | LT]`
pub static EXPIRE: Command = Command {
    spec: Spec {
        name: "expire",
        summary: "Lets a key end after a number of seconds.",
        args: &[Arg::key("key", 0), Arg::integer("seconds"), CONDITIONS],
        ..SPEC
    },
    run: Run::Keys(|cx, args| set_end(cx, args, "expire", Unit::Seconds, From::Now)),
    subcommands: &[],
};

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`
pub static PEXPIRE: Command = Command {
    spec: Spec {
        name: "pexpire",
        summary: "Lets a key end after a number of milliseconds.",
        since: "2.6.0",
        args: &[Arg::key("key", 0), Arg::integer("milliseconds"), CONDITIONS],
        ..SPEC
    },
    run: Run::Keys(|cx, args| set_end(cx, args, "pexpire", Unit::Milliseconds, From::Now)),
    subcommands: &[],
};

/// `EXPIREAT key unix-time-seconds [NX | XX | GT | LT]`
pub static EXPIREAT: Command = Command {
    spec: Spec {
        name: "expireat",
        summary: "Lets a key end at a Unix time in seconds.",
        since: "1.2.0",
        args: &[Arg::key("key", 0), Arg::unix_time("unix-time-seconds"), CONDITIONS],
        ..SPEC
    },
    run: Run::Keys(|cx, args| set_end(cx, args, "expireat", Unit::Seconds, From::Epoch)),
    subcommands: &[],
};

/// `PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]`
pub static PEXPIREAT: Command = Command {
    spec: Spec {
        name: "pexpireat",
        summary: "Lets a key end at a Unix time in milliseconds.",
        since: "2.6.0",
        args: &[Arg::key("key", 0), Arg::unix_time("unix-time-milliseconds"), CONDITIONS],
        ..SPEC
    },
    run: Run::Keys(|cx, args| set_end(cx, args, "pexpireat", Unit::Milliseconds, From::Epoch)),
    subcommands: &[],
};

/// `PERSIST key`
pub static PERSIST: Command = Command {
    spec: Spec {
        name: "persist",
        summary: "Takes a key's end away, so that it stays.",
        since: "2.2.0",
        arity: 2,
        args: ONE_KEY,
        history: &[],
        ..SPEC
    },
    run: Run::Keys(persist),
    subcommands: &[],
};

/// What a time is given in.
#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// What a time counts from.
#[derive(Clone, Copy)]
enum From {
    Now,
    Epoch,
}

/// Under which circumstances a key gets its new end. A key without one counts as ending never.
#[derive(Clone, Copy, Default)]
struct Conditions {
    no_end_yet: bool,
    has_end: bool,
    later: bool,
    earlier: bool,
}

impl Conditions {
    fn parse(args: &Args<'_>) -> Result<Conditions, Error> {
        let mut conditions = Conditions::default();
        for word in args.from(3) {
            if word.eq_ignore_ascii_case(b"nx") {
                conditions.no_end_yet = true;
            } else if word.eq_ignore_ascii_case(b"xx") {
                conditions.has_end = true;
            } else if word.eq_ignore_ascii_case(b"gt") {
                conditions.later = true;
            } else if word.eq_ignore_ascii_case(b"lt") {
                conditions.earlier = true;
            } else {
                // Redis quotes the word up to a zero byte and drops line ends behind it.
                let word = word.split(|byte| *byte == 0).next().unwrap_or_default();
                let end = word.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
                return Err(Error::custom([b"ERR Unsupported option ", &word[..end]].concat()));
            }
        }
        if conditions.no_end_yet && (conditions.has_end || conditions.later || conditions.earlier) {
            return Err(Error::of("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if conditions.later && conditions.earlier {
            return Err(Error::of("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }

    /// Whether a key that ends at `present` is to end at `at` (milliseconds; negative: long ago).
    fn admit(self, present: Option<Millis>, at: i64) -> bool {
        let at = i128::from(at);
        match present.map(|present| i128::from(present.0)) {
            None => !self.has_end && !self.later,
            Some(present) => {
                !self.no_end_yet && (!self.later || at > present) && (!self.earlier || at < present)
            }
        }
    }
}

/// The moment that `text` names, in milliseconds of Unix time.
fn moment(text: &[u8], name: &str, unit: Unit, from: From, now: Millis) -> Result<i64, Error> {
    let number = number::parse_i64(text).ok_or(Error::NotAnInteger)?;
    let scaled = match unit {
        Unit::Milliseconds => Some(number),
        Unit::Seconds => number.checked_mul(1000),
    };
    let base = match from {
        From::Epoch => 0,
        From::Now => i64::try_from(now.0).unwrap_or(i64::MAX),
    };
    scaled.and_then(|scaled| scaled.checked_add(base)).ok_or_else(|| Error::invalid_expire(name))
}

fn set_end(cx: &mut Ctx<'_>, args: &Args<'_>, name: &str, unit: Unit, from: From) -> Result<(), Error> {
    let conditions = Conditions::parse(args)?;
    let at = moment(args.get(2), name, unit, from, cx.db.now())?;
    let key = cx.key(args, 1);
    let present = cx.db.touch(&key).map(|item| item.deadline());
    if !present.is_some_and(|present| conditions.admit(present, at)) {
        cx.reply.integer(0);
        return Ok(());
    }
    match u64::try_from(at) {
        // While a log is replayed nothing ends: what follows may need the key.
        Ok(at) if Millis(at) > cx.db.now() || cx.db.local.keep_expired => {
            let at = match from {
                From::Now => cx.ends().spread(Millis(at)),
                From::Epoch => Millis(at),
            };
            cx.db.set_deadline(&key, Some(at));
            cx.db.changed(&key, Event::EXPIRE);
            if name != "pexpireat" {
                cx.log_end(key.bytes, at, &args.tail(3));
            }
        }
        _ => {
            cx.db.remove_for(&key, Removal::Expired);
            cx.db.changed(&key, Event::DEL);
            cx.log_removal(key.bytes, cx.db.local.lazy_free.expired);
        }
    }
    cx.reply.integer(1);
    Ok(())
}

fn persist(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let ends = cx.db.touch(&key).is_some_and(|item| item.deadline().is_some());
    if ends {
        cx.db.set_deadline(&key, None);
        cx.db.changed(&key, Event::PERSIST);
    }
    cx.reply.integer(i64::from(ends));
    Ok(())
}
