//! MODULE: says that there are none. What modules would bring is built in, or absent.

use super::help::help as answer_help;
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use larder_commands::spec::{Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};

const NOT_LOADABLE: Error = Error::of(
    "ERR Larder loads no modules: they are built for the inside of another server. What it has is listed by COMMAND LIST",
);
const NOT_LOADED: Error = Error::of("ERR Error unloading module: no such module with that name");

/// Flags of what Redis does with modules.
const FLAGS: Flags = Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::NO_ASYNC_LOADING);

/// `MODULE subcommand`
pub static MODULE: HostCommand = HostCommand {
    spec: Spec {
        name: "module",
        summary: "Groups the commands about modules, of which Larder has none.",
        since: "4.0.0",
        group: Group::Server,
        complexity: "That of the subcommand.",
        arity: -2,
        ..Spec::EMPTY
    },
    run: HostRun::Container,
    subcommands: &[&HELP, &LIST, &LOAD, &LOADEX, &UNLOAD],
};

/// `MODULE HELP`
static HELP: HostCommand = HostCommand {
    spec: Spec {
        name: "help",
        summary: "Lists the subcommands of MODULE.",
        since: "5.0.0",
        group: Group::Server,
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        ..Spec::EMPTY
    },
    run: HostRun::Host(help),
    subcommands: &[],
};

/// `MODULE LIST`
static LIST: HostCommand = HostCommand {
    spec: Spec {
        name: "list",
        summary: "Answers the modules that are loaded: none.",
        since: "4.0.0",
        group: Group::Server,
        complexity: "O(1)",
        arity: 2,
        flags: Flags::ADMIN.or(Flags::NO_SCRIPT),
        tips: &["nondeterministic_output_order"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(list),
    subcommands: &[],
};

/// `MODULE LOAD path [arg [arg ...]]`
static LOAD: HostCommand = HostCommand {
    spec: Spec {
        name: "load",
        summary: "Refuses to load a module.",
        since: "4.0.0",
        group: Group::Server,
        complexity: "O(1)",
        arity: -3,
        flags: FLAGS,
        args: &[Arg::string("path"), Arg::string("arg").optional().multiple()],
        ..Spec::EMPTY
    },
    run: HostRun::Host(|_, _| Err(NOT_LOADABLE)),
    subcommands: &[],
};

/// `MODULE LOADEX path [CONFIG name value [CONFIG name value ...]] [ARGS arg [arg ...]]`
static LOADEX: HostCommand = HostCommand {
    spec: Spec {
        name: "loadex",
        summary: "Refuses to load a module with settings.",
        since: "7.0.0",
        group: Group::Server,
        complexity: "O(1)",
        arity: -3,
        flags: FLAGS,
        args: &[
            Arg::string("path"),
            Arg::block("configs", &[Arg::string("name"), Arg::string("value")])
                .token("CONFIG")
                .optional()
                .multiple_with_token(),
            Arg::string("args").token("ARGS").optional().multiple(),
        ],
        ..Spec::EMPTY
    },
    run: HostRun::Host(|_, _| Err(NOT_LOADABLE)),
    subcommands: &[],
};

/// `MODULE UNLOAD name`
static UNLOAD: HostCommand = HostCommand {
    spec: Spec {
        name: "unload",
        summary: "Answers that there is no such module.",
        since: "4.0.0",
        group: Group::Server,
        complexity: "O(1)",
        arity: 3,
        flags: FLAGS,
        args: &[Arg::string("name")],
        ..Spec::EMPTY
    },
    run: HostRun::Host(|_, _| Err(NOT_LOADED)),
    subcommands: &[],
};

static HELP_LINES: &[&str] = &[
    "LIST",
    "    Answers the modules that are loaded: none.",
    "LOAD <path> [<arg> ...]",
    "    Refuses: Larder loads no modules.",
    "LOADEX <path> [[CONFIG NAME VALUE] [CONFIG NAME VALUE]] [ARGS ...]",
    "    Refuses: Larder loads no modules.",
    "UNLOAD <name>",
    "    Answers that there is no such module.",
];

fn help(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    answer_help(host, "MODULE", HELP_LINES);
    Ok(())
}

fn list(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    host.reply().array(0);
    Ok(())
}
