//! Which keys there are: EXISTS, TOUCH, TYPE, DBSIZE, RANDOMKEY.

use super::{MANY_KEYS, ONE_KEY, SUM_OVER_SHARDS};
use crate::args::Args;
use crate::cx::{Ctx, KeyspaceCtx};
use crate::error::Error;
use crate::spec::{Acl, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};

static NAMED: &[KeySpec] = &[KeySpec::range(1, -1, 1, KeyFlags::RO)];

/// `EXISTS key [key ...]`
pub static EXISTS: Command = Command {
    spec: Spec {
        name: "exists",
        summary: "Counts how many of the named keys exist.",
        complexity: "O(N), N keys.",
        arity: -2,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::KEYSPACE,
        keys: NAMED,
        args: MANY_KEYS,
        tips: SUM_OVER_SHARDS,
        history: &[("3.0.3", "Several keys may be named.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(exists),
    subcommands: &[],
};

/// `TOUCH key [key ...]`
pub static TOUCH: Command = Command {
    spec: Spec {
        name: "touch",
        summary: "Marks keys as used now and counts those that exist.",
        since: "3.2.1",
        complexity: "O(N), N keys.",
        arity: -2,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::KEYSPACE,
        keys: NAMED,
        args: MANY_KEYS,
        tips: SUM_OVER_SHARDS,
        ..Spec::EMPTY
    },
    run: Run::Keys(touch),
    subcommands: &[],
};

/// `TYPE key`
pub static TYPE: Command = Command {
    spec: Spec {
        name: "type",
        summary: "Names the type of a key's value.",
        arity: 2,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::KEYSPACE,
        keys: &[KeySpec::at(1, KeyFlags::RO)],
        args: ONE_KEY,
        ..Spec::EMPTY
    },
    run: Run::Keys(value_type),
    subcommands: &[],
};

/// `DBSIZE`
pub static DBSIZE: Command = Command {
    spec: Spec {
        name: "dbsize",
        summary: "Counts the keys of the database.",
        group: Group::Server,
        arity: 1,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::KEYSPACE,
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        ..Spec::EMPTY
    },
    run: Run::Keyspace(dbsize),
    subcommands: &[],
};

/// `RANDOMKEY`
pub static RANDOMKEY: Command = Command {
    spec: Spec {
        name: "randomkey",
        summary: "Names a key of the database, chosen by chance.",
        arity: 1,
        flags: Flags::READONLY,
        acl: Acl::KEYSPACE,
        tips: &["request_policy:all_shards", "response_policy:special", "nondeterministic_output"],
        ..Spec::EMPTY
    },
    run: Run::Keyspace(random_key),
    subcommands: &[],
};

fn exists(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let mut found = 0;
    for index in 1..args.len() {
        let key = cx.key(args, index);
        found += i64::from(cx.db.look(&key).is_some());
    }
    cx.reply.integer(found);
    Ok(())
}

fn touch(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    // The one read that CLIENT NO-TOUCH does not silence: it is what the command is for.
    let no_touch = std::mem::replace(&mut cx.db.local.no_touch, false);
    let mut found = 0;
    for index in 1..args.len() {
        let key = cx.key(args, index);
        found += i64::from(cx.db.read(&key).is_some());
    }
    cx.db.local.no_touch = no_touch;
    cx.reply.integer(found);
    Ok(())
}

fn value_type(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let name = cx.db.look(&key).map_or("none", |item| item.value_type().name());
    cx.reply.simple(name);
    Ok(())
}

fn dbsize(cx: &mut KeyspaceCtx<'_>, _: &Args<'_>) -> Result<(), Error> {
    cx.reply.count(cx.keyspace.len(cx.db));
    Ok(())
}

fn random_key(cx: &mut KeyspaceCtx<'_>, _: &Args<'_>) -> Result<(), Error> {
    match cx.keyspace.random_key(cx.db, cx.local) {
        Some(key) => cx.reply.bulk(&key),
        None => cx.reply.null(),
    }
    Ok(())
}
