//! RENAME and RENAMENX. The end goes with the value; the access field starts anew, as in Redis.

use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, KeyFlags, KeySpec, Run, Spec};
use larder_store::Event;

const OLD_NAME: KeySpec = KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE));

static NAMES: &[Arg] = &[Arg::key("key", 0), Arg::key("newkey", 1)];

/// `RENAME key newkey`
pub static RENAME: Command = Command {
    spec: Spec {
        name: "rename",
        summary: "Gives a key another name, replacing what had that name.",
        complexity: "O(1); a large value that is replaced is freed in the background.",
        arity: 3,
        flags: Flags::WRITE,
        acl: Acl::KEYSPACE,
        keys: &[OLD_NAME, KeySpec::at(2, KeyFlags::OW.or(KeyFlags::UPDATE))],
        args: NAMES,
        ..Spec::EMPTY
    },
    run: Run::Keys(rename),
    subcommands: &[],
};

/// `RENAMENX key newkey`
pub static RENAMENX: Command = Command {
    spec: Spec {
        name: "renamenx",
        summary: "Gives a key another name unless a key has it already.",
        arity: 3,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::KEYSPACE,
        keys: &[OLD_NAME, KeySpec::at(2, KeyFlags::OW.or(KeyFlags::INSERT))],
        args: NAMES,
        history: &[("3.2.0", "Old and new name may be the same.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(rename_to_new),
    subcommands: &[],
};

fn rename(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let old = cx.key(args, 1);
    if cx.db.touch(&old).is_none() {
        return Err(Error::NoSuchKey);
    }
    if args.get(1) != args.get(2) {
        let new = cx.key(args, 2);
        let overwritten = cx.db.remove(&new);
        give_name(cx, args);
        if overwritten {
            cx.db.overwritten(&new);
        }
    }
    cx.reply.ok();
    Ok(())
}

fn rename_to_new(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let old = cx.key(args, 1);
    if cx.db.touch(&old).is_none() {
        return Err(Error::NoSuchKey);
    }
    let new = cx.key(args, 2);
    let free = cx.db.touch(&new).is_none();
    if free {
        give_name(cx, args);
    }
    cx.reply.integer(i64::from(free));
    Ok(())
}

/// Moves the value of the first key to the second, which does not exist.
fn give_name(cx: &mut Ctx<'_>, args: &Args<'_>) {
    let (old, new) = (cx.key(args, 1), cx.key(args, 2));
    if let Some(value) = cx.db.take(&old) {
        cx.db.put_value(&new, value);
        cx.db.changed(&old, Event::RENAME_FROM);
        cx.db.notify(&new, Event::RENAME_TO);
    }
}
