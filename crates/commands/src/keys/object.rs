//! OBJECT: what the server knows about a value beside the value.
//!
//! Looking does not count as a use of the key, and listeners do not hear of a miss.

use super::ONE_KEY;
use crate::args::Args;
use crate::cx::{Ctx, KeyspaceCtx};
use crate::error::Error;
use crate::spec::{Acl, Command, Flags, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Access, Item};
use larder_values::lru::{self, Lfu};

/// `OBJECT subcommand`
pub static OBJECT: Command = Command {
    spec: Spec {
        name: "object",
        summary: "Groups the commands that look into how a value is kept.",
        since: "2.2.3",
        complexity: "That of the subcommand.",
        arity: -2,
        ..Spec::EMPTY
    },
    run: Run::Container,
    subcommands: &[&ENCODING, &FREQ, &HELP, &IDLETIME, &REFCOUNT],
};

const LOOK: Spec = Spec {
    since: "2.2.3",
    arity: 3,
    flags: Flags::READONLY,
    acl: Acl::KEYSPACE,
    keys: &[KeySpec::at(2, KeyFlags::RO)],
    args: ONE_KEY,
    tips: &["nondeterministic_output"],
    ..Spec::EMPTY
};

/// `OBJECT ENCODING key`
static ENCODING: Command = Command {
    spec: Spec { name: "encoding", summary: "Names the form in which a value is kept.", ..LOOK },
    run: Run::Keys(|cx, args| {
        match look(cx, args) {
            Some(item) => {
                let name = item.encoding();
                cx.reply.bulk(name.as_bytes());
            }
            None => cx.reply.null(),
        }
        Ok(())
    }),
    subcommands: &[],
};

/// `OBJECT FREQ key`
static FREQ: Command = Command {
    spec: Spec {
        name: "freq",
        summary: "Tells how often a key is used, on a logarithmic scale of 0 to 255.",
        since: "4.0.0",
        ..LOOK
    },
    run: Run::Keys(freq),
    subcommands: &[],
};

/// `OBJECT IDLETIME key`
static IDLETIME: Command = Command {
    spec: Spec { name: "idletime", summary: "Tells how many seconds a key has not been used.", ..LOOK },
    run: Run::Keys(idle_time),
    subcommands: &[],
};

/// `OBJECT REFCOUNT key`
static REFCOUNT: Command = Command {
    spec: Spec { name: "refcount", summary: "Counts the owners of a value.", ..LOOK },
    run: Run::Keys(|cx, args| {
        // Long strings are shared with replies on their way and with copies of the key; Redis has a
        // copy of its own in each place, so its answer is 1 for every value.
        match look(cx, args).is_some() {
            true => cx.reply.integer(1),
            false => cx.reply.null(),
        }
        Ok(())
    }),
    subcommands: &[],
};

/// `OBJECT HELP`
static HELP: Command = Command {
    spec: Spec {
        name: "help",
        summary: "Lists the subcommands of OBJECT.",
        since: "6.2.0",
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        acl: Acl::KEYSPACE,
        ..Spec::EMPTY
    },
    run: Run::Keyspace(help),
    subcommands: &[],
};

static HELP_LINES: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Names the form in which the value of <key> is kept.",
    "FREQ <key>",
    "    Tells how often <key> is used, on a logarithmic scale. Needs a maxmemory-policy",
    "    that counts uses.",
    "IDLETIME <key>",
    "    Tells the seconds since <key> was last used. Needs a maxmemory-policy that does",
    "    not count uses.",
    "REFCOUNT <key>",
    "    Counts the owners of the value of <key>.",
    "HELP",
    "    Prints this text.",
];

/// The key at word 2; counts a hit or a miss, nothing else.
fn look<'c>(cx: &'c mut Ctx<'_>, args: &Args<'_>) -> Option<Item<'c>> {
    let key = cx.key(args, 2);
    let stats = std::sync::Arc::clone(&cx.db.local.stats);
    let item = cx.db.peek(&key);
    if item.is_some() {
        stats.hits.add(1)
    } else {
        stats.misses.add(1)
    }
    item
}

fn freq(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let Some(access) = look(cx, args).map(|item| item.access()) else {
        cx.reply.null();
        return Ok(());
    };
    if !cx.limits.counts_frequency {
        return Err(Error::of(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
             switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    let counter = match cx.db.access_to(&cx.key(args, 2)) {
        // Differs from Redis: with a memory limit an LFU policy counts uses one by one up to 128 and forgets none with
        // time, so OBJECT FREQ answers that count; without a limit it answers Redis' own counter.
        Access::Policy => larder_store::uses_of(access),
        _ => {
            Lfu::from_bits(access).decayed_counter(lru::minute_at(cx.db.now().0), cx.limits.lfu_decay_minutes)
        }
    };
    cx.reply.integer(i64::from(counter));
    Ok(())
}

fn idle_time(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let Some(access) = look(cx, args).map(|item| item.access()) else {
        cx.reply.null();
        return Ok(());
    };
    if cx.limits.counts_frequency {
        return Err(Error::of(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between \
             policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    let now = cx.db.now();
    let idle = match cx.db.access_to(&cx.key(args, 2)) {
        // Differs from Redis: with a memory limit OBJECT IDLETIME is told by the policy's clock: to about a second, or
        // for long times to some hundredths of them. Policies without a clock (fifo, sieve, s3fifo) answer an error.
        Access::Policy => {
            let key = cx.key(args, 2);
            let idle = cx.db.idle_ms(&key, access);
            idle.ok_or(Error::of("ERR The maxmemory policy in force does not track idle times."))?
        }
        _ => lru::idle_ms(lru::clock_at(now.0), access),
    };
    cx.reply.integer(i64::try_from(idle / 1000).unwrap_or(i64::MAX));
    Ok(())
}

fn help(cx: &mut KeyspaceCtx<'_>, _: &Args<'_>) -> Result<(), Error> {
    cx.reply.array(HELP_LINES.len());
    for line in HELP_LINES {
        cx.reply.simple(line);
    }
    Ok(())
}
