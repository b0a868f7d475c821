//! ACL: the part of it that a server with one user can answer truly.

use super::connection::shown_name;
use super::help::{help as answer_help, misused};
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use crate::server::random_hex;
use larder_commands::spec::{Acl, Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};
use larder_values::number;

/// Random bits of a password when it is not told how many.
const PASSWORD_BITS: i64 = 256;
/// Most random bits of a password.
const PASSWORD_BITS_MAX: i64 = 4096;

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
    subcommands: &[&CAT, &GENPASS, &HELP, &USERS, &WHOAMI],
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
    run: HostRun::Host(users),
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
    "GENPASS [<bits>]",
    "    Makes a password from random bits, 256 unless told.",
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
            let registry = &host.server().registry;
            let rows = registry.all().filter(|row| row.spec.categories().has(*category));
            rows.map(|row| row.name.as_str()).collect()
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

fn users(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    answer_names(host, &["default"]);
    Ok(())
}

fn whoami(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let user = host.conn.client.names.lock().user.clone();
    host.reply().bulk(&user);
    Ok(())
}

fn help(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    answer_help(host, "ACL", HELP_LINES);
    Ok(())
}
