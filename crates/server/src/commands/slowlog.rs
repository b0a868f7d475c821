//! SLOWLOG: the log of slow commands, newest first; COMMANDLOG has it too (`commandlog.rs`). What enters it is decided in `execute.rs`.

use super::help::{help as answer_help, misused};
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use crate::slowlog::LogKind;
use larder_commands::spec::{Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};
use larder_values::number;

/// Entries that SLOWLOG GET answers when it is not told how many.
const ENTRIES_DEFAULT: usize = 10;

/// `SLOWLOG subcommand`
pub static SLOWLOG: HostCommand = HostCommand {
    spec: Spec {
        name: "slowlog",
        summary: "Groups the commands about the log of slow commands.",
        since: "2.2.12",
        group: Group::Server,
        complexity: "That of the subcommand.",
        arity: -2,
        ..Spec::EMPTY
    },
    run: HostRun::Container,
    subcommands: &[&GET, &HELP, &LEN, &RESET],
};

/// `SLOWLOG GET [count]`
static GET: HostCommand = HostCommand {
    spec: Spec {
        name: "get",
        summary: "Answers the newest entries of the slow log.",
        since: "2.2.12",
        group: Group::Server,
        complexity: "O(N) where N is the number of entries answered",
        arity: -2,
        flags: Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE),
        args: &[Arg::integer("count").optional()],
        tips: &["request_policy:all_nodes", "nondeterministic_output"],
        history: &[("4.0.0", "Entries tell the client's address and name.")],
        ..Spec::EMPTY
    },
    run: HostRun::Host(get),
    subcommands: &[],
};

/// `SLOWLOG HELP`
static HELP: HostCommand = HostCommand {
    spec: Spec {
        name: "help",
        summary: "Lists the subcommands of SLOWLOG.",
        since: "6.2.0",
        group: Group::Server,
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        ..Spec::EMPTY
    },
    run: HostRun::Host(help),
    subcommands: &[],
};

/// `SLOWLOG LEN`
static LEN: HostCommand = HostCommand {
    spec: Spec {
        name: "len",
        summary: "Counts the entries of the slow log.",
        since: "2.2.12",
        group: Group::Server,
        arity: 2,
        flags: Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE),
        tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(len),
    subcommands: &[],
};

/// `SLOWLOG RESET`
static RESET: HostCommand = HostCommand {
    spec: Spec {
        name: "reset",
        summary: "Empties the slow log.",
        since: "2.2.12",
        group: Group::Server,
        complexity: "O(N) where N is the number of entries",
        arity: 2,
        flags: Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE),
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(reset),
    subcommands: &[],
};

static HELP_LINES: &[&str] = &[
    "GET [<count>]",
    "    Answers the newest <count> entries (10 unless told, -1 for all). An entry is made of",
    "    its number, the time, microseconds, the words, the client's address, the client's name.",
    "LEN",
    "    Counts the entries.",
    "RESET",
    "    Forgets all entries.",
];

fn get(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let count = match args.len() {
        2 => Some(ENTRIES_DEFAULT),
        3 => parse_count(args.get(2))?,
        _ => return Err(misused("SLOWLOG", args.get(1))),
    };
    answer_newest(host, LogKind::Slow, count);
    Ok(())
}

/// How many entries are asked for; `None` for all.
pub(super) fn parse_count(word: &[u8]) -> Result<Option<usize>, Error> {
    match number::parse_i64(word) {
        Some(-1) => Ok(None),
        Some(count @ 0..) => Ok(Some(usize::try_from(count).unwrap_or(usize::MAX))),
        _ => Err(Error::of("ERR count should be greater than or equal to -1")),
    }
}

pub(super) fn answer_newest(host: &mut Host<'_>, log: LogKind, count: Option<usize>) {
    let log = host.server().command_logs.of(log).lock();
    let entries = log.newest(count);
    let mut reply = host.reply();
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        for figure in [entry.id, entry.unix_secs, entry.figure] {
            reply.integer(i64::try_from(figure).unwrap_or(i64::MAX));
        }
        reply.array(entry.words.len());
        entry.words.iter().for_each(|word| reply.bulk(word));
        reply.bulk(entry.address.as_bytes());
        reply.bulk(&entry.name);
    }
}

pub(super) fn answer_len(host: &mut Host<'_>, log: LogKind) {
    let len = host.server().command_logs.of(log).lock().len();
    host.reply().count(len);
}

pub(super) fn forget(host: &mut Host<'_>, log: LogKind) {
    host.server().command_logs.of(log).lock().reset();
    host.reply().ok();
}

fn len(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    answer_len(host, LogKind::Slow);
    Ok(())
}

fn reset(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    forget(host, LogKind::Slow);
    Ok(())
}

fn help(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    answer_help(host, "SLOWLOG", HELP_LINES);
    Ok(())
}
