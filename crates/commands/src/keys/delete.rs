//! DEL and UNLINK.
//!
//! Both take a key out in O(1) under its shard's lock. A large value is freed later: by the background
//! after UNLINK, and after DEL with `lazyfree-lazy-user-del`; else by the worker before it replies.

use super::{MANY_KEYS, SUM_OVER_SHARDS};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Command, Flags, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Removal};

static REMOVED: &[KeySpec] = &[KeySpec::range(1, -1, 1, KeyFlags::RM.or(KeyFlags::DELETE))];

/// `DEL key [key ...]`
pub static DEL: Command = Command {
    spec: Spec {
        name: "del",
        summary: "Removes keys, whatever they hold.",
        complexity: "O(N), N keys, and the time to free their values unless `lazyfree-lazy-user-del` is on.",
        arity: -2,
        flags: Flags::WRITE,
        acl: Acl::KEYSPACE,
        keys: REMOVED,
        args: MANY_KEYS,
        tips: SUM_OVER_SHARDS,
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| remove(cx, args, Removal::Deleted)),
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
    run: Run::Keys(|cx, args| remove(cx, args, Removal::Unlinked)),
    subcommands: &[],
};

fn remove(cx: &mut Ctx<'_>, args: &Args<'_>, removal: Removal) -> Result<(), Error> {
    let mut removed = 0;
    for index in 1..args.len() {
        let key = cx.key(args, index);
        if cx.db.remove_for(&key, removal) {
            cx.db.changed(&key, Event::DEL);
            removed += 1;
        }
    }
    cx.reply.integer(removed);
    Ok(())
}
