//! ACL: users and their rules, as commands. The declarations, and what needs no user; `users.rs` changes and shows users,
//! `log.rs` shows what was denied, `file.rs` loads and saves them.

mod file;
mod log;
mod users;

use super::connection::shown_name;
use super::help::{help as answer_help, misused};
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use crate::server::random_hex;
use larder_commands::memcached::MEMCACHED;
use larder_commands::spec::{Acl, Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};
use larder_values::number;

/// Random bits of a password when it is not told how many.
const PASSWORD_BITS: i64 = 256;
/// Most random bits of a password.
const PASSWORD_BITS_MAX: i64 = 4096;

/// What is for administrators.
const ADMIN: Flags = Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::LOADING).or(Flags::STALE);
/// What every node of a cluster is to be told.
const ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];
/// A command that each user costs something.
const PER_USER: &str = "O(N) where N is the number of users";

/// `ACL subcommand`
pub static ACL: HostCommand = HostCommand {
    spec: Spec {
        name: "acl",
        summary: "Groups the commands about users and their rights.",
        since: "6.0.0",
        group: Group::Server,
        complexity: "That of the subcommand.",
        arity: -2,
        ..Spec::EMPTY
    },
    run: HostRun::Container,
    subcommands: &[
        &CAT, &DELUSER, &DRYRUN, &GENPASS, &GETUSER, &HELP, &LIST, &LOAD, &LOG, &SAVE, &SETUSER, &USERS,
        &WHOAMI,
    ],
};

/// `ACL CAT [category]`
static CAT: HostCommand = HostCommand {
    spec: Spec {
        name: "cat",
        summary: "Answers the categories of commands, or the commands of one.",
        since: "6.0.0",
        group: Group::Server,
        complexity: "O(N) where N is the number of commands",
        arity: -2,
        flags: Flags::NO_SCRIPT.or(Flags::LOADING).or(Flags::STALE),
        args: &[Arg::string("category").optional()],
        ..Spec::EMPTY
    },
    run: HostRun::Host(cat),
    subcommands: &[],
};

/// `ACL DELUSER username [username ...]`
static DELUSER: HostCommand = HostCommand {
    spec: Spec {
        name: "deluser",
        summary: "Removes users, and ends their connections.",
        since: "6.0.0",
        group: Group::Server,
        arity: -3,
        flags: ADMIN,
        args: &[Arg::string("username").multiple()],
        tips: ALL_NODES,
        ..Spec::EMPTY
    },
    run: HostRun::Host(users::deluser),
    subcommands: &[],
};

/// `ACL DRYRUN username command [arg ...]`
static DRYRUN: HostCommand = HostCommand {
    spec: Spec {
        name: "dryrun",
        summary: "Tells whether a user may run a command line.",
        since: "7.0.0",
        group: Group::Server,
        arity: -4,
        flags: ADMIN,
        args: &[Arg::string("username"), Arg::string("command"), Arg::string("arg").optional().multiple()],
        ..Spec::EMPTY
    },
    run: HostRun::Host(users::dryrun),
    subcommands: &[],
};

/// `ACL GENPASS [bits]`
static GENPASS: HostCommand = HostCommand {
    spec: Spec {
        name: "genpass",
        summary: "Makes a password from random bits.",
        since: "6.0.0",
        group: Group::Server,
        arity: -2,
        flags: Flags::NO_SCRIPT.or(Flags::LOADING).or(Flags::STALE),
        args: &[Arg::integer("bits").optional()],
        ..Spec::EMPTY
    },
    run: HostRun::Host(genpass),
    subcommands: &[],
};

/// `ACL GETUSER username`
static GETUSER: HostCommand = HostCommand {
    spec: Spec {
        name: "getuser",
        summary: "Shows a user's rules.",
        since: "6.0.0",
        group: Group::Server,
        complexity: "O(N) where N is the number of rules of the user",
        arity: 3,
        flags: ADMIN,
        args: &[Arg::string("username")],
        history: &[
            ("6.2.0", "Shows patterns of channels."),
            ("7.0.0", "Shows selectors; keys and channels are shown as rules."),
        ],
        ..Spec::EMPTY
    },
    run: HostRun::Host(users::getuser),
    subcommands: &[],
};

/// `ACL HELP`
static HELP: HostCommand = HostCommand {
    spec: Spec {
        name: "help",
        summary: "Lists the subcommands of ACL.",
        since: "6.0.0",
        group: Group::Server,
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        ..Spec::EMPTY
    },
    run: HostRun::Host(help),
    subcommands: &[],
};

/// `ACL LIST`
static LIST: HostCommand = HostCommand {
    spec: Spec {
        name: "list",
        summary: "Shows all users as the configuration file has them.",
        since: "6.0.0",
        group: Group::Server,
        complexity: PER_USER,
        arity: 2,
        flags: ADMIN,
        ..Spec::EMPTY
    },
    run: HostRun::Host(users::list),
    subcommands: &[],
};

/// `ACL LOAD`
static LOAD: HostCommand = HostCommand {
    spec: Spec {
        name: "load",
        summary: "Reads the users anew from their file.",
        since: "6.0.0",
        group: Group::Server,
        complexity: PER_USER,
        arity: 2,
        flags: ADMIN,
        ..Spec::EMPTY
    },
    run: HostRun::Host(file::load),
    subcommands: &[],
};

/// `ACL LOG [count | RESET]`
static LOG: HostCommand = HostCommand {
    spec: Spec {
        name: "log",
        summary: "Shows what was denied lately, or forgets it.",
        since: "6.0.0",
        group: Group::Server,
        complexity: "O(N) where N is the number of entries shown",
        arity: -2,
        flags: ADMIN,
        args: &[Arg::one_of("operation", &[Arg::integer("count"), Arg::word("reset", "RESET")]).optional()],
        history: &[("7.2.0", "Shows numbers and times of entries.")],
        ..Spec::EMPTY
    },
    run: HostRun::Host(log::log),
    subcommands: &[],
};

/// `ACL SAVE`
static SAVE: HostCommand = HostCommand {
    spec: Spec {
        name: "save",
        summary: "Writes the users into their file.",
        since: "6.0.0",
        group: Group::Server,
        complexity: PER_USER,
        arity: 2,
        flags: ADMIN,
        tips: ALL_NODES,
        ..Spec::EMPTY
    },
    run: HostRun::Host(file::save),
    subcommands: &[],
};

/// `ACL SETUSER username [rule ...]`
static SETUSER: HostCommand = HostCommand {
    spec: Spec {
        name: "setuser",
        summary: "Makes a user, or changes its rules.",
        since: "6.0.0",
        group: Group::Server,
        complexity: "O(N) where N is the number of rules given",
        arity: -3,
        flags: ADMIN,
        args: &[Arg::string("username"), Arg::string("rule").optional().multiple()],
        tips: ALL_NODES,
        history: &[
            ("6.2.0", "Takes patterns of channels."),
            ("7.0.0", "Takes selectors, and patterns for reading or writing keys."),
        ],
        ..Spec::EMPTY
    },
    run: HostRun::Host(users::setuser),
    subcommands: &[],
};

/// `ACL USERS`
static USERS: HostCommand = HostCommand {
    spec: Spec {
        name: "users",
        summary: "Names the users.",
        since: "6.0.0",
        group: Group::Server,
        arity: 2,
        flags: Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::LOADING).or(Flags::STALE),
        ..Spec::EMPTY
    },
    run: HostRun::Host(users::users),
    subcommands: &[],
};

/// `ACL WHOAMI`
static WHOAMI: HostCommand = HostCommand {
    spec: Spec {
        name: "whoami",
        summary: "Answers which user the connection speaks for.",
        since: "6.0.0",
        group: Group::Server,
        arity: 2,
        flags: Flags::NO_SCRIPT.or(Flags::LOADING).or(Flags::STALE),
        ..Spec::EMPTY
    },
    run: HostRun::Host(whoami),
    subcommands: &[],
};

static HELP_LINES: &[&str] = &[
    "CAT [<category>]",
    "    Answers the categories of commands, or the commands of <category>.",
    "DELUSER <username> [<username> ...]",
    "    Removes users, and ends their connections.",
    "DRYRUN <username> <command> [<arg> ...]",
    "    Tells whether a user may run a command line, and runs nothing.",
    "GETUSER <username>",
    "    Shows a user's rules.",
    "GENPASS [<bits>]",
    "    Makes a password from random bits, 256 unless told.",
    "LIST",
    "    Shows all users as the configuration file has them.",
    "LOAD",
    "    Reads the users anew from their file.",
    "LOG [<count> | RESET]",
    "    Shows what was denied lately, or forgets it.",
    "SAVE",
    "    Writes the users into their file.",
    "SETUSER <username> <rule> [<rule> ...]",
    "    Makes a user, or changes its rules.",
    "USERS",
    "    Names the users.",
    "WHOAMI",
    "    Answers which user the connection speaks for.",
];

fn cat(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let names: Vec<&str> = match args.len() {
        2 => Acl::WORDS.iter().map(|(_, word)| *word).collect(),
        3 => {
            let wanted = args.get(2);
            let category = Acl::WORDS.iter().find(|(_, word)| word.as_bytes().eq_ignore_ascii_case(wanted));
            let Some((category, _)) = category else {
                let mut text = b"ERR Unknown category '".to_vec();
                text.extend_from_slice(shown_name(wanted.get(..128).unwrap_or(wanted)));
                text.push(b'\'');
                return Err(Error::custom(text));
            };
            let named = host.server().registry.catalog().of_category(*category);
            // Those of the memcached door are no commands that its reader could name.
            named.filter(|name| !name.starts_with(MEMCACHED.spec.name)).collect()
        }
        _ => return Err(misused("ACL", args.get(1))),
    };
    answer_names(host, &names);
    Ok(())
}

fn answer_names(host: &mut Host<'_>, names: &[&str]) {
    let mut reply = host.reply();
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
}

fn genpass(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let bits = match args.len() {
        2 => PASSWORD_BITS,
        3 => number::parse_i64(args.get(2)).ok_or(Error::NotAnInteger)?,
        _ => return Err(misused("ACL", args.get(1))),
    };
    if !(1..=PASSWORD_BITS_MAX).contains(&bits) {
        return Err(Error::of(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
        ));
    }
    let password = random_hex((bits as usize).div_ceil(4));
    host.reply().bulk(password.as_bytes());
    Ok(())
}

fn whoami(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let user = std::sync::Arc::clone(&host.conn.user);
    host.reply().bulk(user.name());
    Ok(())
}

fn help(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    answer_help(host, "ACL", HELP_LINES);
    Ok(())
}
