//! DEL and UNLINK.
//!
//! Both take a key out in O(1) under its shard's lock; a value that is large is freed by the
//! background in either case.

use super::{MANY_KEYS, SUM_OVER_SHARDS};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Command, Flags, KeyFlags, KeySpec, Run, Spec};
use larder_store::Event;

static REMOVED: &[KeySpec] = &[KeySpec::range(1, -1, 1, KeyFlags::RM.or(KeyFlags::DELETE))];

/// `DEL key [key ...]`
pub static DEL: Command = Command {
    spec: Spec {
        name: "del",
        summary: "Removes keys, whatever they hold.",
        complexity: "O(N), N keys; large values are freed in the background.",
        arity: -2,
        flags: Flags::WRITE,
        acl: Acl::KEYSPACE,
        keys: REMOVED,
        args: MANY_KEYS,
        tips: SUM_OVER_SHARDS,
        ..Spec::EMPTY
    },
    run: Run::Keys(remove),
    subcommands: &[],
};

/// `UNLINK key [key ...]`
pub static UNLINK: Command = Command {
    spec: Spec {
        name: "unlink",
        summary: "Removes keys and frees their values in the background.",
        since: "4.0.0",
        complexity: "O(N), N keys, whatever their size.",
        arity: -2,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::KEYSPACE,
        keys: REMOVED,
        args: MANY_KEYS,
        tips: SUM_OVER_SHARDS,
        ..Spec::EMPTY
    },
    run: Run::Keys(remove),
    subcommands: &[],
};

fn remove(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let mut removed = 0;
    for index in 1..args.len() {
        let key = cx.key(args, index);
        if cx.db.remove(&key) {
            cx.db.changed(&key, Event::DEL);
            removed += 1;
        }
    }
    cx.reply.integer(removed);
    Ok(())
}
