//! SCRIPT: the scripts that the server has.

use super::super::help::help as answer_help;
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use crate::scripts::{Kill, busy_text, kill as kill_scripts, parse_digest};
use larder_commands::spec::{Acl, Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};

/// What the subcommands share.
const SUB: Spec = Spec {
    since: "2.6.0",
    group: Group::Scripting,
    flags: Flags::NO_SCRIPT,
    acl: Acl::SCRIPTING,
    ..Spec::EMPTY
};
/// SYNC or ASYNC.
pub(super) const FLUSH_TYPE: Arg =
    Arg::one_of("flush-type", &[Arg::word("async", "ASYNC"), Arg::word("sync", "SYNC")]).optional();

/// `SCRIPT subcommand`
pub(in super::super) static SCRIPT: HostCommand = HostCommand {
    spec: Spec {
        name: "script",
        summary: "Groups the commands about scripts.",
        since: "2.6.0",
        group: Group::Scripting,
        complexity: "Depends on subcommand.",
        arity: -2,
        ..Spec::EMPTY
    },
    run: HostRun::Container,
    subcommands: &[&DEBUG, &EXISTS, &FLUSH, &HELP, &KILL, &LOAD, &SHOW],
};

/// `SCRIPT DEBUG YES|SYNC|NO`
static DEBUG: HostCommand = HostCommand {
    spec: Spec {
        name: "debug",
        summary: "Says that there is no debugger for scripts.",
        since: "3.2.0",
        arity: 3,
        args: &[Arg::one_of(
            "mode",
            &[Arg::word("yes", "YES"), Arg::word("sync", "SYNC"), Arg::word("no", "NO")],
        )],
        ..SUB
    },
    run: HostRun::Host(debug),
    subcommands: &[],
};

/// `SCRIPT EXISTS sha1 [sha1 ...]`
static EXISTS: HostCommand = HostCommand {
    spec: Spec {
        name: "exists",
        summary: "Says which scripts the server has, by their digests.",
        complexity: "O(N) with N being the number of scripts to check (so checking a single script is an O(1) operation).",
        arity: -3,
        args: &[Arg::string("sha1").multiple()],
        tips: &["request_policy:all_shards", "response_policy:agg_logical_and"],
        ..SUB
    },
    run: HostRun::Host(exists),
    subcommands: &[],
};

/// `SCRIPT FLUSH [ASYNC|SYNC]`
static FLUSH: HostCommand = HostCommand {
    spec: Spec {
        name: "flush",
        summary: "Forgets all scripts.",
        complexity: "O(N) with N being the number of scripts in cache",
        arity: -2,
        args: &[FLUSH_TYPE.since("6.2.0")],
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        history: &[("6.2.0", "Takes `ASYNC` and `SYNC`.")],
        ..SUB
    },
    run: HostRun::Host(flush),
    subcommands: &[],
};

/// `SCRIPT HELP`
static HELP: HostCommand = HostCommand {
    spec: Spec {
        name: "help",
        summary: "Lists the subcommands of SCRIPT.",
        since: "5.0.0",
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        ..SUB
    },
    run: HostRun::Host(help),
    subcommands: &[],
};

/// `SCRIPT KILL`
static KILL: HostCommand = HostCommand {
    spec: Spec {
        name: "kill",
        summary: "Ends a script that runs too long, unless it has written.",
        arity: 2,
        flags: Flags::NO_SCRIPT.or(Flags::ALLOW_BUSY),
        tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
        ..SUB
    },
    run: HostRun::Host(|host, _| {
        answer_kill(host, false)?;
        host.reply().ok();
        Ok(())
    }),
    subcommands: &[],
};

/// `SCRIPT LOAD script`
static LOAD: HostCommand = HostCommand {
    spec: Spec {
        name: "load",
        summary: "Gives the server a script to keep, and answers its digest.",
        complexity: "O(N) with N being the length in bytes of the script body.",
        arity: 3,
        flags: Flags::NO_SCRIPT.or(Flags::STALE),
        args: &[Arg::string("script")],
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        ..SUB
    },
    run: HostRun::Host(load),
    subcommands: &[],
};

/// `SCRIPT SHOW sha1`
static SHOW: HostCommand = HostCommand {
    spec: Spec {
        name: "show",
        summary: "Answers the text of a script, by its digest.",
        since: "8.0.0",
        arity: 3,
        args: &[Arg::string("sha1")],
        ..SUB
    },
    run: HostRun::Host(show),
    subcommands: &[],
};

static HELP_LINES: &[&str] = &[
    "DEBUG (YES|SYNC|NO)",
    "    Says that there is no debugger for scripts.",
    "EXISTS <sha1> [<sha1> ...]",
    "    Says which of these scripts the server has.",
    "FLUSH [ASYNC|SYNC]",
    "    Forgets all scripts. Both ways take the same time.",
    "KILL",
    "    Ends the script that runs too long, unless it has written.",
    "LOAD <script>",
    "    Keeps a script and answers its digest.",
    "SHOW <sha1>",
    "    Answers the text of a script.",
];

fn debug(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.is(2, b"no") {
        host.reply().ok();
        return Ok(());
    }
    if args.is(2, b"yes") || args.is(2, b"sync") {
        // Differs from Redis: there is no debugger for scripts, and SCRIPT DEBUG YES and SYNC say so.
        return Err(Error::of("ERR SCRIPT DEBUG is not there: this server has no debugger for scripts"));
    }
    Err(Error::of("ERR Use SCRIPT DEBUG YES/SYNC/NO"))
}

fn exists(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let server = host.server();
    let mut reply = host.reply();
    reply.array(args.len() - 2);
    for word in args.from(2) {
        let is_there = parse_digest(word).is_some_and(|digest| server.scripts.get(&digest).is_some());
        reply.integer(i64::from(is_there));
    }
    Ok(())
}

fn flush(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.len() > 3 || (args.len() == 3 && !args.is(2, b"sync") && !args.is(2, b"async")) {
        return Err(Error::of("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    }
    host.server().scripts.flush();
    host.core.forget_scripts();
    host.reply().ok();
    Ok(())
}

fn help(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    answer_help(host, "SCRIPT", HELP_LINES);
    Ok(())
}

/// Ends what runs too long.
pub(super) fn answer_kill(host: &mut Host<'_>, functions: bool) -> Result<(), Error> {
    let server = host.server();
    match kill_scripts(&server.running, functions) {
        Kill::Done => Ok(()),
        Kill::NotBusy => Err(Error::of("NOTBUSY No scripts in execution right now.")),
        Kill::Unkillable => Err(Error::of(
            "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
        )),
        Kill::Function => Err(Error::custom(busy_text(true))),
        Kill::Script => Err(Error::custom(busy_text(false))),
    }
}

fn load(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let script = host.core.script_of(args.get(2), true)?;
    host.reply().bulk(&script.digest);
    Ok(())
}

fn show(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let script = parse_digest(args.get(2)).and_then(|digest| host.server().scripts.get(&digest));
    let script = script.ok_or(Error::of("NOSCRIPT No matching script."))?;
    host.reply().bulk(&script.body);
    Ok(())
}
