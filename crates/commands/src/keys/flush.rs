//! Whole databases: FLUSHALL, FLUSHDB, SWAPDB.
//!
//! A flush detaches the tables while nobody else touches a key, in time that does not depend on
//! their size; what they held is freed by the background in either mode. The difference between the
//! modes is whether the answer waits for that: [`flush_waits`] tells the server.

use crate::args::Args;
use crate::cx::{KeyspaceCtx, Limits};
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, Run, Spec};
use larder_store::DbIndex;
use larder_values::number;

static MODE: &[Arg] = &[Arg::one_of(
    "flush-type",
    &[Arg::word("async", "ASYNC").since("4.0.0"), Arg::word("sync", "SYNC").since("6.2.0")],
)
.optional()];

const FLUSH: Spec = Spec {
    group: Group::Server,
    complexity: "O(1) for the caller; the background frees N keys in O(N).",
    arity: -1,
    flags: Flags::WRITE,
    acl: Acl::KEYSPACE.or(Acl::DANGEROUS),
    args: MODE,
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    history: &[("4.0.0", "Takes `ASYNC`."), ("6.2.0", "Takes `SYNC`.")],
    ..Spec::EMPTY
};

/// `FLUSHALL [ASYNC | SYNC]`
pub static FLUSHALL: Command = Command {
    spec: Spec { name: "flushall", summary: "Removes every key of every database.", ..FLUSH },
    run: Run::Exclusive(|cx, args| {
        is_synchronous(args, cx.limits)?;
        cx.local.effects.log.always();
        for db in cx.keyspace.indexes() {
            flush(cx, db);
        }
        cx.reply.ok();
        Ok(())
    }),
    subcommands: &[],
};

/// `FLUSHDB [ASYNC | SYNC]`
pub static FLUSHDB: Command = Command {
    spec: Spec { name: "flushdb", summary: "Removes every key of the database.", ..FLUSH },
    run: Run::Exclusive(|cx, args| {
        is_synchronous(args, cx.limits)?;
        cx.local.effects.log.always();
        flush(cx, cx.db);
        cx.reply.ok();
        Ok(())
    }),
    subcommands: &[],
};

/// `SWAPDB index1 index2`
pub static SWAPDB: Command = Command {
    spec: Spec {
        name: "swapdb",
        summary: "Exchanges two databases.",
        since: "4.0.0",
        group: Group::Server,
        complexity: "O(N), N clients that watch or wait for keys of either database.",
        arity: 3,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::KEYSPACE.or(Acl::DANGEROUS),
        args: &[Arg::integer("index1"), Arg::integer("index2")],
        ..Spec::EMPTY
    },
    run: Run::Exclusive(swap),
    subcommands: &[],
};

/// Whether the answer of a FLUSHALL or FLUSHDB with these words is sent only after the memory has
/// been freed. False where the words are no valid command.
pub fn flush_waits(args: &Args<'_>, limits: &Limits) -> bool {
    is_synchronous(args, limits).unwrap_or(false)
}

fn is_synchronous(args: &Args<'_>, limits: &Limits) -> Result<bool, Error> {
    match args.len() {
        1 => Ok(!limits.flush_is_lazy),
        2 if args.is(1, b"sync") => Ok(true),
        2 if args.is(1, b"async") => Ok(false),
        _ => Err(Error::Syntax),
    }
}

/// Empties a database.
pub(crate) fn flush(cx: &mut KeyspaceCtx<'_>, db: DbIndex) {
    let keys = cx.keyspace.len(db) as u64;
    if let Some(garbage) = cx.keyspace.flush(db, &mut cx.local.effects) {
        cx.local.garbage.push(garbage);
        cx.local.effects.changed_many(keys);
    }
}

fn swap(cx: &mut KeyspaceCtx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let number = |index, refusal| {
        let number = number::parse_i64(args.get(index)).and_then(|number| i32::try_from(number).ok());
        number.ok_or(Error::of(refusal))
    };
    let one = number(1, "ERR invalid first DB index")?;
    let other = number(2, "ERR invalid second DB index")?;
    let database = |number: i32| match u32::try_from(number) {
        Ok(number) if number < cx.keyspace.databases() => Ok(DbIndex(number)),
        _ => Err(Error::DbOutOfRange),
    };
    let (one, other) = (database(one)?, database(other)?);
    cx.keyspace.swap(one, other, cx.local);
    cx.local.effects.changed_many(1);
    cx.reply.ok();
    Ok(())
}
