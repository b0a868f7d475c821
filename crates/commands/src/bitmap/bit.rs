//! One bit: GETBIT and SETBIT.

use super::offset;
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::Event;
use larder_values::bits;

const INVALID_BIT: Error = Error::of("ERR bit is not an integer or out of range");

/// GETBIT key offset
pub static GETBIT: Command = Command {
    spec: Spec {
        name: "getbit",
        summary: "Answers one bit of a string; bits behind its end are 0.",
        since: "2.2.0",
        group: Group::Bitmap,
        complexity: "O(1)",
        arity: 3,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::BITMAP,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0), Arg::integer("offset")],
        ..Spec::EMPTY
    },
    run: Run::Keys(getbit),
    subcommands: &[],
};

fn getbit(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let offset = offset(args.get(2), cx.limits)?;
    let key = cx.key(args, 1);
    let bit = cx.read_bytes(&key, |bytes| bytes.is_some_and(|bytes| bits::get(bytes, offset)))?;
    cx.reply.integer(bit.into());
    Ok(())
}

/// SETBIT key offset value
pub static SETBIT: Command = Command {
    spec: Spec {
        name: "setbit",
        summary: "Sets or clears one bit of a string, which grows with zeros to reach it.",
        since: "2.2.0",
        group: Group::Bitmap,
        complexity: "O(1)",
        arity: 4,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::BITMAP,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))],
        args: &[Arg::key("key", 0), Arg::integer("offset"), Arg::integer("value")],
        ..Spec::EMPTY
    },
    run: Run::Keys(setbit),
    subcommands: &[],
};

fn setbit(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let offset = offset(args.get(2), cx.limits)?;
    let bit = match args.get(3) {
        b"0" => false,
        b"1" => true,
        _ => return Err(INVALID_BIT),
    };
    let key = cx.key(args, 1);
    let (old, changed) = cx.db.edit_string(&key, |bytes| {
        let reaches = offset / 8 < bytes.len() as u64;
        let old = bits::get(bytes, offset);
        let changed = !reaches || old != bit;
        if changed {
            bits::set(bytes, offset, bit);
        }
        // Stored even when the same: as in Redis, the value is raw from then on.
        ((old, changed), true)
    })?;
    if changed {
        cx.db.changed(&key, Event::SETBIT);
    }
    cx.reply.integer(old.into());
    Ok(())
}
