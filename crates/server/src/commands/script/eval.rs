//! EVAL, EVALSHA and those of them that only read.

use crate::execute::{Call, Host};
use crate::registry::{HostCommand, HostRun};
use crate::scripts::{Script, parse_digest};
use larder_commands::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec};
use larder_commands::{Args, Error, Spec};
use larder_values::number;
use std::sync::Arc;

/// What COMMAND INFO remarks where keys may be used in any way.
pub(super) const WORST: &str =
    "We cannot tell how the keys will be used so we assume the worst, RW and UPDATE";
/// The same where they are only read.
pub(super) const WORST_READ: &str =
    "We cannot tell how the keys will be used so we assume the worst, RO and ACCESS";
/// What scripts may do with their keys.
pub(super) const WRITTEN: KeySpec =
    KeySpec::counted(2, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE));
/// What scripts may do with their keys that only read.
pub(super) const READ: KeySpec = KeySpec::counted(2, KeyFlags::RO.or(KeyFlags::ACCESS));
/// The grammar behind the script.
pub(super) const KEYS_AND_ARGS: [Arg; 3] = [
    Arg::integer("numkeys"),
    Arg::key("key", 0).optional().multiple(),
    Arg::string("arg").optional().multiple(),
];

/// What all of them share.
pub(super) const ANY: Spec = Spec {
    since: "2.6.0",
    group: Group::Scripting,
    complexity: "Depends on the script that is executed.",
    arity: -3,
    flags: Flags::NO_SCRIPT.or(Flags::STALE).or(Flags::SKIP_MONITOR).or(Flags::NO_MANDATORY_KEYS),
    acl: Acl::SCRIPTING,
    keys: &[KeySpec { notes: Some(WORST), ..WRITTEN }],
    ..Spec::EMPTY
};

/// What those share that only read.
const READING: Spec = Spec {
    since: "7.0.0",
    flags: ANY.flags.or(Flags::READONLY),
    keys: &[KeySpec { notes: Some(WORST_READ), ..READ }],
    ..ANY
};

/// `EVAL script numkeys [key ...] [arg ...]`
pub(in super::super) static EVAL: HostCommand = HostCommand {
    spec: Spec {
        name: "eval",
        summary: "Runs a script in Lua, as one.",
        args: &[Arg::string("script"), KEYS_AND_ARGS[0], KEYS_AND_ARGS[1], KEYS_AND_ARGS[2]],
        ..ANY
    },
    run: HostRun::Host(|host, args| eval(host, args, false)),
    subcommands: &[],
};

/// `EVALSHA sha1 numkeys [key ...] [arg ...]`
pub(in super::super) static EVALSHA: HostCommand = HostCommand {
    spec: Spec {
        name: "evalsha",
        summary: "Runs a script that the server has, by its digest.",
        args: &[Arg::string("sha1"), KEYS_AND_ARGS[0], KEYS_AND_ARGS[1], KEYS_AND_ARGS[2]],
        keys: &[WRITTEN],
        ..ANY
    },
    run: HostRun::Host(|host, args| eval_by_digest(host, args, false)),
    subcommands: &[],
};

/// `EVAL_RO script numkeys [key ...] [arg ...]`
pub(in super::super) static EVAL_RO: HostCommand = HostCommand {
    spec: Spec {
        name: "eval_ro",
        summary: "Runs a script in Lua that writes nothing.",
        args: &[Arg::string("script"), KEYS_AND_ARGS[0], KEYS_AND_ARGS[1], KEYS_AND_ARGS[2]],
        ..READING
    },
    run: HostRun::Host(|host, args| eval(host, args, true)),
    subcommands: &[],
};

/// `EVALSHA_RO sha1 numkeys [key ...] [arg ...]`
pub(in super::super) static EVALSHA_RO: HostCommand = HostCommand {
    spec: Spec {
        name: "evalsha_ro",
        summary: "Runs a script that the server has and that writes nothing, by its digest.",
        args: &[Arg::string("sha1"), KEYS_AND_ARGS[0], KEYS_AND_ARGS[1], KEYS_AND_ARGS[2]],
        keys: &[READ],
        ..READING
    },
    run: HostRun::Host(|host, args| eval_by_digest(host, args, true)),
    subcommands: &[],
};

fn eval(host: &mut Host<'_>, args: &Args<'_>, is_read_only: bool) -> Result<(), Error> {
    let found = keys(args).and_then(|keys| Ok((keys, host.core.script_of(args.get(1), false)?)));
    run(host, args, found, is_read_only)
}

/// Runs what was found, or shows what was asked for to those who monitor.
fn run(
    host: &mut Host<'_>,
    args: &Args<'_>,
    found: Result<(usize, Arc<Script>), Error>,
    is_read_only: bool,
) -> Result<(), Error> {
    match found {
        Ok((keys, script)) => host.core.eval(host.conn, host.out, &script, args, Call { is_read_only, keys }),
        Err(error) => {
            host.core.show_script(host.conn, args);
            Err(error)
        }
    }
}

fn eval_by_digest(host: &mut Host<'_>, args: &Args<'_>, is_read_only: bool) -> Result<(), Error> {
    const NOT_THERE: Error = Error::of("NOSCRIPT No matching script. Please use EVAL.");
    let found = parse_digest(args.get(1)).ok_or(NOT_THERE).and_then(|digest| {
        let keys = keys(args)?;
        Ok((keys, host.core.script_by_digest(&digest).ok_or(NOT_THERE)?))
    });
    run(host, args, found, is_read_only)
}

/// How many of the words are keys.
pub(super) fn keys(args: &Args<'_>) -> Result<usize, Error> {
    let keys = number::parse_i64(args.get(2)).ok_or(Error::NotAnInteger)?;
    keys_of_number(keys, args)
}

/// The same of a number that was given.
pub(super) fn keys_of_number(keys: i64, args: &Args<'_>) -> Result<usize, Error> {
    if keys > args.len() as i64 - 3 {
        return Err(Error::of("ERR Number of keys can't be greater than number of args"));
    }
    usize::try_from(keys).map_err(|_| Error::of("ERR Number of keys can't be negative"))
}

/// How many of the words of an EVAL are keys.
///
/// # Errors
/// Where that is no number, or none that can be.
pub fn eval_keys(args: &Args<'_>) -> Result<usize, Error> {
    keys(args)
}

/// What is said of EVAL.
pub fn eval_spec() -> &'static Spec {
    &EVAL.spec
}
