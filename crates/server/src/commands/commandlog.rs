//! COMMANDLOG, as in Valkey 8.1: the logs of commands that were slow, of large requests and of large replies.
//! What enters them is decided in `execute.rs`.

// Differs from Valkey: a command within a transaction counts its own reply, not all of EXEC's up to there, and one that a script
// calls is not logged by itself.

use super::help::help as answer_help;
use super::slowlog::{answer_len, answer_newest, forget, parse_count};
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use crate::slowlog::LogKind;
use larder_commands::spec::{Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};

const TYPES: &[Arg] = &[
    Arg::word("slow", "SLOW"),
    Arg::word("large-request", "LARGE-REQUEST"),
    Arg::word("large-reply", "LARGE-REPLY"),
];

const SPEC: Spec = Spec {
    since: "8.1.0",
    group: Group::Server,
    flags: Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE),
    ..Spec::EMPTY
};

/// `COMMANDLOG subcommand`
pub static COMMANDLOG: HostCommand = HostCommand {
    spec: Spec {
        name: "commandlog",
        summary: "Groups the commands about the logs of commands.",
        complexity: "That of the subcommand.",
        arity: -2,
        flags: Flags::NONE,
        ..SPEC
    },
    run: HostRun::Container,
    subcommands: &[&GET, &HELP, &LEN, &RESET],
};

/// `COMMANDLOG GET count type`
static GET: HostCommand = HostCommand {
    spec: Spec {
        name: "get",
        summary: "Answers the newest entries of one of the logs.",
        complexity: "O(N) where N is the number of entries answered",
        arity: 4,
        args: &[Arg::integer("count"), Arg::one_of("type", TYPES)],
        tips: &["request_policy:all_nodes", "nondeterministic_output"],
        ..SPEC
    },
    run: HostRun::Host(get),
    subcommands: &[],
};

/// `COMMANDLOG HELP`
static HELP: HostCommand = HostCommand {
    spec: Spec {
        name: "help",
        summary: "Lists the subcommands of COMMANDLOG.",
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        ..SPEC
    },
    run: HostRun::Host(help),
    subcommands: &[],
};

/// `COMMANDLOG LEN type`
static LEN: HostCommand = HostCommand {
    spec: Spec {
        name: "len",
        summary: "Counts the entries of one of the logs.",
        arity: 3,
        args: &[Arg::one_of("type", TYPES)],
        tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
        ..SPEC
    },
    run: HostRun::Host(len),
    subcommands: &[],
};

/// `COMMANDLOG RESET type`
static RESET: HostCommand = HostCommand {
    spec: Spec {
        name: "reset",
        summary: "Empties one of the logs.",
        complexity: "O(N) where N is the number of entries",
        arity: 3,
        args: &[Arg::one_of("type", TYPES)],
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        ..SPEC
    },
    run: HostRun::Host(reset),
    subcommands: &[],
};

static HELP_LINES: &[&str] = &[
    "GET <count> <type>",
    "    Answers the newest <count> entries (-1 for all) of the log of this type: slow,",
    "    large-request, large-reply. An entry is made of its number, the time, microseconds or",
    "    bytes, the words, the client's address, the client's name.",
    "LEN <type>",
    "    Counts the entries.",
    "RESET <type>",
    "    Forgets all entries.",
];

fn parse_log(word: &[u8]) -> Result<LogKind, Error> {
    LogKind::by_name(word)
        .ok_or(Error::of("ERR type should be one of the following: slow, large-request, large-reply"))
}

fn get(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let count = parse_count(args.get(2))?;
    answer_newest(host, parse_log(args.get(3))?, count);
    Ok(())
}

fn len(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    answer_len(host, parse_log(args.get(2))?);
    Ok(())
}

fn reset(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    forget(host, parse_log(args.get(2))?);
    Ok(())
}

fn help(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    answer_help(host, "COMMANDLOG", HELP_LINES);
    Ok(())
}
