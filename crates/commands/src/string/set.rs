//! Writing one string whole: SET, SETNX, SETEX, PSETEX, GETSET.

use super::conditional::Condition;
use super::options::{EXPIRATIONS, Expiry, Grammar, KEEPTTL, Options, Unit};
use crate::args::Args;
use crate::cx::{Ctx, ReplyStr};
use crate::error::Error;
use crate::logged::{Digits, is_integer};
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Expire, Hashed, Millis};

/// Stores a string whatever the key held, and says so.
#[inline]
pub(super) fn store(cx: &mut Ctx<'_>, key: &Hashed<'_>, value: &[u8], expire: Expire) {
    if cx.db.put_string(key, value, expire) {
        cx.db.overwritten(key);
    }
    cx.db.changed(key, Event::SET);
    if let Expire::At(_) = expire {
        cx.db.notify(key, Event::EXPIRE);
    }
}

/// SET key value [NX | XX | IFEQ value | IFNE value | IFDEQ digest | IFDNE digest] [GET]
/// [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]
pub static SET: Command = Command {
    spec: Spec {
        name: "set",
        summary: "Stores a string under a key, whatever the key held before.",
        since: "1.0.0",
        group: Group::String,
        complexity: "O(1)",
        arity: -3,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::STRING,
        keys: &[KeySpec {
            notes: Some("RW and ACCESS due to the optional `GET` argument"),
            ..KeySpec::at(
                1,
                KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE).or(KeyFlags::VARIABLE_FLAGS),
            )
        }],
        args: &[
            Arg::key("key", 0),
            Arg::string("value"),
            Arg::one_of(
                "condition",
                &[
                    Arg::word("nx", "NX"),
                    Arg::word("xx", "XX"),
                    Arg::string("ifeq-value").token("IFEQ").since("8.4.0"),
                    Arg::string("ifne-value").token("IFNE").since("8.4.0"),
                    Arg::integer("ifdeq-digest").token("IFDEQ").since("8.4.0"),
                    Arg::integer("ifdne-digest").token("IFDNE").since("8.4.0"),
                ],
            )
            .optional()
            .since("2.6.12"),
            Arg::word("get", "GET").optional().since("6.2.0"),
            Arg::one_of(
                "expiration",
                &[
                    EXPIRATIONS[0].since("2.6.12"),
                    EXPIRATIONS[1].since("2.6.12"),
                    EXPIRATIONS[2].since("6.2.0"),
                    EXPIRATIONS[3].since("6.2.0"),
                    KEEPTTL.since("6.0.0"),
                ],
            )
            .optional(),
        ],
        history: &[
            ("2.6.12", "Options `EX`, `PX`, `NX` and `XX`."),
            ("6.0.0", "Option `KEEPTTL`."),
            ("6.2.0", "Options `GET`, `EXAT` and `PXAT`."),
            ("7.0.0", "`NX` and `GET` may be given together."),
            ("8.4.0", "Options `IFEQ`, `IFNE`, `IFDEQ` and `IFDNE`."),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(set),
    subcommands: &[],
};

fn set(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    if args.len() > 3 {
        return set_with_options(cx, args, &key);
    }
    store(cx, &key, args.get(2), Expire::Clear);
    cx.reply.ok();
    Ok(())
}

fn set_with_options(cx: &mut Ctx<'_>, args: &Args<'_>, key: &Hashed<'_>) -> Result<(), Error> {
    let options = Options::parse(args, 3, Grammar::Set)?;
    let expire = options.expiry.expire(cx.ends(), "set")?;
    let met = if options.get {
        let old = cx.db.string(key)?;
        let met = options.condition.is_met(old.as_ref())?;
        cx.reply.string_or_null(old);
        met
    } else if options.condition.compares() {
        let old = cx.db.string_for_edit(key)?;
        options.condition.is_met(old.as_ref())?
    } else {
        match options.condition {
            Condition::Absent => cx.db.touch(key).is_none(),
            Condition::Present => cx.db.touch(key).is_some(),
            _ => true,
        }
    };
    if met {
        store(cx, key, args.get(2), expire);
        if cx.is_logged() {
            log_set(cx, args, key, &options, expire);
        }
    }
    match (options.get, met) {
        (true, _) => {}
        (false, true) => cx.reply.ok(),
        (false, false) => cx.reply.null(),
    }
    Ok(())
}

/// Says what a SET with options is logged as: with the moment of its end, and without GET.
#[cold]
fn log_set(cx: &mut Ctx<'_>, args: &Args<'_>, key: &Hashed<'_>, options: &Options<'_>, expire: Expire) {
    match expire {
        Expire::At(at) => {
            let is_moment =
                matches!(options.expiry, Expiry::At(Unit::UnixMillis, text) if is_integer(text, at.0));
            if !is_moment || options.condition.compares() {
                log_with_end(cx, key, args.get(2), at);
            }
        }
        // Older servers do not know these conditions.
        Expire::Keep if options.condition.compares() => {
            cx.log_instead([b"SET", key.bytes, args.get(2), b"KEEPTTL"]);
        }
        Expire::Clear if options.condition.compares() => {
            cx.log_instead([b"SET", key.bytes, args.get(2)]);
        }
        Expire::Keep | Expire::Clear if options.get => {
            // The value may be the word itself.
            let words = args.from(0).enumerate();
            let kept = words.filter(|(index, word)| *index < 3 || !word.eq_ignore_ascii_case(b"get"));
            let kept: Vec<&[u8]> = kept.map(|(_, word)| word).collect();
            cx.log().instead(kept.into_iter());
        }
        Expire::Keep | Expire::Clear => {}
    }
}

/// Says that a command is logged as SET with the moment of the end.
pub(super) fn log_with_end(cx: &mut Ctx<'_>, key: &Hashed<'_>, value: &[u8], at: Millis) {
    let at = Digits::of(at.0);
    cx.log_instead([b"SET", key.bytes, value, b"PXAT", at.text()]);
}

/// SETNX key value
pub static SETNX: Command = Command {
    spec: Spec {
        name: "setnx",
        summary: "Stores a string under a key that does not exist.",
        since: "1.0.0",
        group: Group::String,
        complexity: "O(1)",
        arity: 3,
        flags: Flags::WRITE.or(Flags::DENY_OOM).or(Flags::FAST),
        acl: Acl::STRING,
        keys: &[KeySpec::at(1, KeyFlags::OW.or(KeyFlags::INSERT))],
        args: &[Arg::key("key", 0), Arg::string("value")],
        deprecated: Some(("2.6.12", "`SET` with the `NX` argument")),
        ..Spec::EMPTY
    },
    run: Run::Keys(setnx),
    subcommands: &[],
};

fn setnx(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let absent = cx.db.touch(&key).is_none();
    if absent {
        store(cx, &key, args.get(2), Expire::Clear);
    }
    cx.reply.integer(absent.into());
    Ok(())
}

/// SETEX key seconds value
pub static SETEX: Command = Command {
    spec: Spec {
        name: "setex",
        summary: "Stores a string under a key for a number of seconds.",
        since: "2.0.0",
        group: Group::String,
        complexity: "O(1)",
        arity: 4,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::STRING,
        keys: &[KeySpec::at(1, KeyFlags::OW.or(KeyFlags::UPDATE))],
        args: &[Arg::key("key", 0), Arg::integer("seconds"), Arg::string("value")],
        deprecated: Some(("2.6.12", "`SET` with the `EX` argument")),
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| set_for(cx, args, Unit::Seconds, "setex")),
    subcommands: &[],
};

/// PSETEX key milliseconds value
pub static PSETEX: Command = Command {
    spec: Spec {
        name: "psetex",
        summary: "Stores a string under a key for a number of milliseconds.",
        since: "2.6.0",
        group: Group::String,
        complexity: "O(1)",
        arity: 4,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::STRING,
        keys: &[KeySpec::at(1, KeyFlags::OW.or(KeyFlags::UPDATE))],
        args: &[Arg::key("key", 0), Arg::integer("milliseconds"), Arg::string("value")],
        deprecated: Some(("2.6.12", "`SET` with the `PX` argument")),
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| set_for(cx, args, Unit::Millis, "psetex")),
    subcommands: &[],
};

fn set_for(cx: &mut Ctx<'_>, args: &Args<'_>, unit: Unit, command: &str) -> Result<(), Error> {
    let deadline = unit.deadline(args.get(2), cx.ends(), command)?;
    let key = cx.key(args, 1);
    store(cx, &key, args.get(3), Expire::At(deadline));
    log_with_end(cx, &key, args.get(3), deadline);
    cx.reply.ok();
    Ok(())
}

/// GETSET key value
pub static GETSET: Command = Command {
    spec: Spec {
        name: "getset",
        summary: "Stores a string under a key and answers the one it held before.",
        since: "1.0.0",
        group: Group::String,
        complexity: "O(1)",
        arity: 3,
        flags: Flags::WRITE.or(Flags::DENY_OOM).or(Flags::FAST),
        acl: Acl::STRING,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))],
        args: &[Arg::key("key", 0), Arg::string("value")],
        deprecated: Some(("6.2.0", "`SET` with the `!GET` argument")),
        ..Spec::EMPTY
    },
    run: Run::Keys(getset),
    subcommands: &[],
};

fn getset(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let old = cx.db.string(&key)?;
    cx.reply.string_or_null(old);
    store(cx, &key, args.get(2), Expire::Clear);
    cx.log_instead([b"SET", key.bytes, args.get(2)]);
    Ok(())
}
