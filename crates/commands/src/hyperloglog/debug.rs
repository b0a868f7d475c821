//! PFDEBUG and PFSELFTEST: a look inside, for tests and the curious.

use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Hashed};
use larder_values::hll::{self, REGISTERS};

const NO_SUCH_KEY: Error = Error::of("ERR The specified key does not exist");
const NOT_SPARSE: Error = Error::of("ERR HLL encoding is not sparse");
const NOT_A_SWITCH: Error = Error::of("ERR Argument must be ON or OFF");

/// PFDEBUG subcommand key
pub static PFDEBUG: Command = Command {
    spec: Spec {
        name: "pfdebug",
        summary: "Shows or changes how a HyperLogLog is kept.",
        since: "2.8.9",
        group: Group::HyperLogLog,
        complexity: "N/A",
        arity: 3,
        flags: Flags::WRITE.or(Flags::DENY_OOM).or(Flags::ADMIN),
        acl: Acl::HYPERLOGLOG,
        keys: &[KeySpec::at(2, KeyFlags::RW.or(KeyFlags::ACCESS))],
        args: &[Arg::string("subcommand"), Arg::key("key", 0)],
        system: true,
        ..Spec::EMPTY
    },
    run: Run::Keys(pfdebug),
    subcommands: &[],
};

fn pfdebug(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.is(1, b"simd") {
        return simd(cx, args);
    }
    let key = cx.key(args, 2);
    let Some(value) = cx.db.string_for_edit(&key)? else { return Err(NO_SUCH_KEY) };
    let value = value.to_vec();
    let encoding = hll::encoding(&value)?;
    if args.is(1, b"getreg") {
        getreg(cx, &key, &value)
    } else if args.is(1, b"decode") {
        let opcodes = hll::decode(&value)?.ok_or(NOT_SPARSE)?;
        cx.reply.bulk(&opcodes);
        Ok(())
    } else if args.is(1, b"encoding") {
        cx.reply.status(encoding.name());
        Ok(())
    } else if args.is(1, b"todense") {
        let changed = to_dense(cx, &key)?;
        cx.reply.integer(changed.into());
        Ok(())
    } else {
        let mut text = b"ERR Unknown PFDEBUG subcommand '".to_vec();
        text.extend_from_slice(args.get(1));
        text.push(b'\'');
        Err(Error::custom(text))
    }
}

/// PFDEBUG SIMD ON | OFF: there is one implementation here, whose answer is the same either way.
fn simd(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.is(2, b"on") {
        cx.reply.status("enabled");
    } else if args.is(2, b"off") {
        cx.reply.status("disabled");
    } else {
        return Err(NOT_A_SWITCH);
    }
    Ok(())
}

/// Answers all registers; the value becomes dense, as in Redis.
fn getreg(cx: &mut Ctx<'_>, key: &Hashed<'_>, value: &[u8]) -> Result<(), Error> {
    let registers = hll::registers(value)?;
    to_dense(cx, key)?;
    cx.reply.array(REGISTERS);
    for register in registers.iter() {
        cx.reply.integer((*register).into());
    }
    Ok(())
}

fn to_dense(cx: &mut Ctx<'_>, key: &Hashed<'_>) -> Result<bool, Error> {
    let changed = cx.db.edit_string(key, |value| {
        let changed = hll::to_dense(value);
        (changed, changed == Ok(true))
    })??;
    if changed {
        // Redis tells nobody who watches the key.
        cx.db.changed_unwatched(key, 1, Some(Event::TOUCHED));
    }
    Ok(changed)
}

/// PFSELFTEST
pub static PFSELFTEST: Command = Command {
    spec: Spec {
        name: "pfselftest",
        summary: "Checks that HyperLogLogs count as they should on this machine.",
        since: "2.8.9",
        group: Group::HyperLogLog,
        complexity: "N/A",
        arity: 1,
        flags: Flags::ADMIN,
        acl: Acl::HYPERLOGLOG,
        system: true,
        ..Spec::EMPTY
    },
    run: Run::Keys(pfselftest),
    subcommands: &[],
};

fn pfselftest(cx: &mut Ctx<'_>, _args: &Args<'_>) -> Result<(), Error> {
    hll::self_test().map_err(Error::custom)?;
    cx.reply.ok();
    Ok(())
}
