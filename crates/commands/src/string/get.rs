//! Reading one string whole: GET, GETDEL, GETEX.

use super::options::{EXPIRATIONS, Expiry, Grammar, Options, PERSIST};
use crate::args::Args;
use crate::cx::{Ctx, ReplyStr};
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Removal};

/// GET key
pub static GET: Command = Command {
    spec: Spec {
        name: "get",
        summary: "Answers the string a key holds.",
        since: "1.0.0",
        group: Group::String,
        complexity: "O(1)",
        arity: 2,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::STRING,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0)],
        ..Spec::EMPTY
    },
    run: Run::Keys(get),
    subcommands: &[],
};

fn get(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let value = cx.db.string(&key)?;
    cx.reply.string_or_null(value);
    Ok(())
}

/// GETDEL key
pub static GETDEL: Command = Command {
    spec: Spec {
        name: "getdel",
        summary: "Answers the string a key holds and removes the key.",
        since: "6.2.0",
        group: Group::String,
        complexity: "O(1)",
        arity: 2,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::STRING,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))],
        args: &[Arg::key("key", 0)],
        ..Spec::EMPTY
    },
    run: Run::Keys(getdel),
    subcommands: &[],
};

fn getdel(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let value = cx.db.string(&key)?;
    cx.reply.string_or_null(value);
    if value.is_some() {
        cx.db.remove(&key);
        cx.db.changed(&key, Event::DEL);
        cx.log_removal(key.bytes, false);
    }
    Ok(())
}

/// GETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]
pub static GETEX: Command = Command {
    spec: Spec {
        name: "getex",
        summary: "Answers the string a key holds and sets or takes away its time to live.",
        since: "6.2.0",
        group: Group::String,
        complexity: "O(1)",
        arity: -2,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::STRING,
        keys: &[KeySpec {
            notes: Some("RW and UPDATE because it changes the TTL"),
            ..KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))
        }],
        args: &[
            Arg::key("key", 0),
            Arg::one_of(
                "expiration",
                &[EXPIRATIONS[0], EXPIRATIONS[1], EXPIRATIONS[2], EXPIRATIONS[3], PERSIST],
            )
            .optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(getex),
    subcommands: &[],
};

fn getex(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let options = Options::parse(args, 2, Grammar::GetEx)?;
    let ends = cx.ends();
    let Some(value) = cx.db.string(&key)? else {
        // As in Redis, a time is only judged when there is a key to give it to.
        cx.reply.null();
        return Ok(());
    };
    let deadline = options.expiry.deadline(ends, "getex")?;
    cx.reply.string(&value);
    match deadline {
        Some(at) if at <= ends.now => {
            cx.db.remove_for(&key, Removal::Expired);
            cx.db.changed(&key, Event::DEL);
            cx.log_removal(key.bytes, cx.db.local.lazy_free.expired);
        }
        Some(at) => {
            cx.db.set_deadline(&key, Some(at));
            cx.db.changed(&key, Event::EXPIRE);
            cx.log_end(key.bytes, at, &args.tail(args.len()));
        }
        None if options.expiry == Expiry::Persist && cx.db.deadline(&key).flatten().is_some() => {
            cx.db.set_deadline(&key, None);
            cx.db.changed(&key, Event::PERSIST);
            cx.log_instead([b"PERSIST", key.bytes]);
        }
        None => {}
    }
    Ok(())
}
