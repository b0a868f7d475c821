//! Streams: entries in the order of their ids, and groups of consumers that share them out.
//!
//! Invariant: how ids, ranges and trimming are written is read in `options.rs`, and entries are answered
//! by `reply.rs`, whatever the command.
//! Read next: `add.rs`, then `read.rs` for XREAD and XREADGROUP, `claim.rs` for what becomes of
//! deliveries that nobody acknowledges.

mod add;
mod claim;
mod delete;
mod group;
mod info;
mod options;
mod pending;
mod range;
mod read;
mod reply;

#[cfg(test)]
mod tests;

use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Spec};
use larder_store::{Event, Hashed};

/// The stream commands, by name.
pub static COMMANDS: &[&Command] = &[
    &delete::XACK,
    &delete::XACKDEL,
    &add::XADD,
    &claim::XAUTOCLAIM,
    &claim::XCLAIM,
    &delete::XDEL,
    &delete::XDELEX,
    &group::XGROUP,
    &info::XINFO,
    &range::XLEN,
    &pending::XPENDING,
    &range::XRANGE,
    &read::XREAD,
    &read::XREADGROUP,
    &range::XREVRANGE,
    &add::XSETID,
    &add::XTRIM,
];

/// What the declarations of stream commands have in common.
const STREAM: Spec = Spec { since: "5.0.0", group: Group::Stream, acl: Acl::STREAM, ..Spec::EMPTY };

const WRITE_FAST: Flags = Flags::WRITE.or(Flags::FAST);

const READS: &[KeySpec] = &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))];
const UPDATES: &[KeySpec] = &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::UPDATE))];
const DELETES: &[KeySpec] = &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::DELETE))];

/// What becomes of the groups' deliveries of an entry that is removed.
const REFERENCES: Arg = Arg::one_of(
    "condition",
    &[Arg::word("keepref", "KEEPREF"), Arg::word("delref", "DELREF"), Arg::word("acked", "ACKED")],
)
.optional();

/// A name as an error names it: Redis writes it as a C string, which ends at a NUL.
fn told(name: &[u8]) -> &[u8] {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    &name[..end]
}

/// The key or the group that a command needs is not there.
fn no_group(key: &[u8], group: &[u8]) -> Error {
    let (key, group) = (told(key), told(group));
    Error::custom([b"NOGROUP No such key '", key, b"' or consumer group '", group, b"'"].concat())
}

/// A command that stands in a container was given words it does not take.
fn bad_subcommand(args: &Args<'_>, container: &str) -> Error {
    let typed = told(args.get(1));
    let typed = &typed[..typed.len().min(128)];
    let text = [b"ERR unknown subcommand or wrong number of arguments for '", typed, b"'. Try "].concat();
    Error::custom([&text, container.as_bytes(), b" HELP."].concat())
}

/// Counts changes of a group and announces what came of them. The entries are as they were: nobody who
/// watches the key is told.
fn group_changed(cx: &mut Ctx<'_>, key: &Hashed<'_>, changes: u64, event: Option<Event>) {
    cx.db.changed_unwatched(key, changes, event);
}

fn now_ms(cx: &Ctx<'_>) -> i64 {
    i64::try_from(cx.db.now().0).unwrap_or(i64::MAX)
}
