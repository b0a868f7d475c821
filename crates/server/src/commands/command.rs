//! COMMAND: what commands there are, and what their declarations say.

use super::help::help as answer_help;
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun, Row};
use larder_commands::command_info::{Filter, UNKNOWN_COMMAND, write_docs, write_info, write_keys};
use larder_commands::spec::{Acl, Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};
use larder_resp::{Reply, Span};

/// `COMMAND subcommand`
pub static COMMAND: HostCommand = HostCommand {
    spec: Spec {
        name: "command",
        summary: "Describes every command of the server.",
        since: "2.8.13",
        group: Group::Server,
        complexity: "O(N) where N is the number of commands",
        arity: -1,
        flags: Flags::LOADING.or(Flags::STALE),
        acl: Acl::CONNECTION,
        tips: &["nondeterministic_output_order"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(command),
    subcommands: &[&COUNT, &DOCS, &GETKEYS, &GETKEYSANDFLAGS, &HELP, &INFO, &LIST],
};

/// `COMMAND COUNT`
static COUNT: HostCommand = HostCommand {
    spec: Spec {
        name: "count",
        summary: "Counts the commands.",
        since: "2.8.13",
        group: Group::Server,
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        acl: Acl::CONNECTION,
        ..Spec::EMPTY
    },
    run: HostRun::Host(count),
    subcommands: &[],
};

/// `COMMAND DOCS [command-name [command-name ...]]`
static DOCS: HostCommand = HostCommand {
    spec: Spec {
        name: "docs",
        summary: "Documents the named commands, or all.",
        since: "7.0.0",
        group: Group::Server,
        complexity: "O(N) where N is the number of commands named",
        arity: -2,
        flags: Flags::LOADING.or(Flags::STALE),
        acl: Acl::CONNECTION,
        args: &[Arg::string("command-name").optional().multiple()],
        tips: &["nondeterministic_output_order"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(docs),
    subcommands: &[],
};

/// `COMMAND GETKEYS command [arg [arg ...]]`
static GETKEYS: HostCommand = HostCommand {
    spec: Spec {
        name: "getkeys",
        summary: "Finds the keys of a command line.",
        since: "2.8.13",
        group: Group::Server,
        complexity: "O(N) where N is the number of words",
        arity: -3,
        flags: Flags::LOADING.or(Flags::STALE),
        acl: Acl::CONNECTION,
        args: &[Arg::string("command"), Arg::string("arg").optional().multiple()],
        ..Spec::EMPTY
    },
    run: HostRun::Host(getkeys),
    subcommands: &[],
};

/// `COMMAND GETKEYSANDFLAGS command [arg [arg ...]]`
static GETKEYSANDFLAGS: HostCommand = HostCommand {
    spec: Spec {
        name: "getkeysandflags",
        summary: "Finds the keys of a command line and tells what is done with each.",
        since: "7.0.0",
        group: Group::Server,
        complexity: "O(N) where N is the number of words",
        arity: -3,
        flags: Flags::LOADING.or(Flags::STALE),
        acl: Acl::CONNECTION,
        args: &[Arg::string("command"), Arg::string("arg").optional().multiple()],
        ..Spec::EMPTY
    },
    run: HostRun::Host(getkeysandflags),
    subcommands: &[],
};

/// `COMMAND HELP`
static HELP: HostCommand = HostCommand {
    spec: Spec {
        name: "help",
        summary: "Lists the subcommands of COMMAND.",
        since: "5.0.0",
        group: Group::Server,
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        acl: Acl::CONNECTION,
        ..Spec::EMPTY
    },
    run: HostRun::Host(help),
    subcommands: &[],
};

/// `COMMAND INFO [command-name [command-name ...]]`
static INFO: HostCommand = HostCommand {
    spec: Spec {
        name: "info",
        summary: "Describes the named commands, or all.",
        since: "2.8.13",
        group: Group::Server,
        complexity: "O(N) where N is the number of commands named",
        arity: -2,
        flags: Flags::LOADING.or(Flags::STALE),
        acl: Acl::CONNECTION,
        args: &[Arg::string("command-name").optional().multiple()],
        tips: &["nondeterministic_output_order"],
        history: &[("7.0.0", "Without a name, describes all commands.")],
        ..Spec::EMPTY
    },
    run: HostRun::Host(info),
    subcommands: &[],
};

/// `COMMAND LIST [FILTERBY MODULE module-name | ACLCAT category | PATTERN pattern]`
static LIST: HostCommand = HostCommand {
    spec: Spec {
        name: "list",
        summary: "Names the commands, all of them or those that a filter lets through.",
        since: "7.0.0",
        group: Group::Server,
        complexity: "O(N) where N is the number of commands",
        arity: -2,
        flags: Flags::LOADING.or(Flags::STALE),
        acl: Acl::CONNECTION,
        args: &[Arg::one_of(
            "filterby",
            &[
                Arg::string("module-name").token("MODULE"),
                Arg::string("category").token("ACLCAT"),
                Arg::pattern("pattern").token("PATTERN"),
            ],
        )
        .token("FILTERBY")
        .optional()],
        tips: &["nondeterministic_output_order"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(list),
    subcommands: &[],
};

static HELP_LINES: &[&str] = &[
    "(no subcommand)",
    "    Describes every command.",
    "COUNT",
    "    Counts the commands.",
    "DOCS [<command-name> ...]",
    "    Documents the named commands, or all.",
    "GETKEYS <full-command>",
    "    Finds the keys of a command line.",
    "GETKEYSANDFLAGS <full-command>",
    "    Finds the keys of a command line and tells what is done with each.",
    "INFO [<command-name> ...]",
    "    Describes the named commands, or all.",
    "LIST [FILTERBY MODULE <module>|ACLCAT <category>|PATTERN <pattern>]",
    "    Names the commands, all of them or those that the filter lets through.",
];

fn command(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let rows = host.server().registry.rows();
    let mut reply = host.reply();
    reply.array(rows.len());
    rows.iter().for_each(|row| info_of(&mut reply, row));
    Ok(())
}

fn info_of(reply: &mut Reply<'_>, row: &Row) {
    write_info(reply, &row.name, row.spec, row.subcommands.iter().map(|sub| sub.spec));
}

fn docs_of(reply: &mut Reply<'_>, row: &Row) {
    write_docs(reply, &row.name, row.spec, row.subcommands.iter().map(|sub| sub.spec));
}

fn count(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let count = host.server().registry.rows().len();
    host.reply().count(count);
    Ok(())
}

fn info(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.len() == 2 {
        return command(host, args);
    }
    let registry = &host.server().registry;
    let mut reply = host.reply();
    reply.array(args.len() - 2);
    for name in args.from(2) {
        match registry.find_full(name) {
            Some(row) => info_of(&mut reply, row),
            None => reply.null(),
        }
    }
    Ok(())
}

fn docs(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let registry = &host.server().registry;
    let rows: Vec<&Row> = match args.len() {
        2 => registry.rows().iter().collect(),
        _ => args.from(2).filter_map(|name| registry.find_full(name)).collect(),
    };
    let mut reply = host.reply();
    reply.map(rows.len());
    rows.into_iter().for_each(|row| docs_of(&mut reply, row));
    Ok(())
}

fn list(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let filter = match args.len() {
        2 => None,
        5 if args.is(2, b"filterby") => Some(Filter::parse(args.get(3), args.get(4)).ok_or(Error::Syntax)?),
        _ => return Err(Error::Syntax),
    };
    let admits = |row: &&Row| filter.is_none_or(|filter| filter.admits(&row.name, row.spec));
    let names: Vec<&str> =
        host.server().registry.named().filter(admits).map(|row| row.name.as_str()).collect();
    let mut reply = host.reply();
    reply.array(names.len());
    names.into_iter().for_each(|name| reply.bulk(name.as_bytes()));
    Ok(())
}

fn getkeys(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    keys_of_line(host, args, false)
}

fn getkeysandflags(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    keys_of_line(host, args, true)
}

/// Answers the keys of the command line that starts at word 2.
fn keys_of_line(host: &mut Host<'_>, args: &Args<'_>, with_flags: bool) -> Result<(), Error> {
    let registry = &host.server().registry;
    let (mut line, mut spans) = (Vec::new(), Vec::with_capacity(args.len() - 2));
    for word in args.from(2) {
        // The words come from one request, whose length fits 32 bits.
        spans.push(Span { start: line.len() as u32, len: word.len() as u32 });
        line.extend_from_slice(word);
    }
    let line = Args::new(&line, &spans);
    let row = registry.find(line.get(0)).ok_or(UNKNOWN_COMMAND)?;
    let row = match line.try_get(1) {
        Some(word) if !row.subcommands.is_empty() => row.subcommand(word).ok_or(UNKNOWN_COMMAND)?,
        _ => row,
    };
    write_keys(&mut host.reply(), &row.name, row.spec, &line, with_flags)
}

fn help(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    answer_help(host, "COMMAND", HELP_LINES);
    Ok(())
}
