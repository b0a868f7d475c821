//! CLIENT: looks at connections, names them, ends them, holds them back.
//!
//! Read next: `list.rs` (how a connection is shown), `filter.rs` (how connections are chosen).

mod filter;
mod kill;
mod list;
mod tracking;

use super::connection::{check_name, shown_name};
use super::help::misused;
use crate::clients::Client;
use crate::connection::{Parked, ReplyMode};
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use crate::server::{Answer, Message, Server};
use larder_commands::spec::{Acl, Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};
use larder_values::number;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// What every subcommand of CLIENT shares.
const SUB: Spec = Spec {
    group: Group::Connection,
    flags: Flags::LOADING.or(Flags::NO_SCRIPT).or(Flags::STALE),
    acl: Acl::CONNECTION,
    ..Spec::EMPTY
};

/// What subcommands for administrators share.
const ADMIN_SUB: Spec = Spec { flags: SUB.flags.or(Flags::ADMIN), ..SUB };

const ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

macro_rules! sub {
    ($name:ident, $run:expr, $spec:expr) => {
        static $name: HostCommand = HostCommand { spec: $spec, run: HostRun::Host($run), subcommands: &[] };
    };
}

/// CLIENT subcommand ...
pub static CLIENT: HostCommand = HostCommand {
    spec: Spec {
        name: "client",
        summary: "Holds the commands about connections.",
        since: "2.4.0",
        group: Group::Connection,
        complexity: "Depends on the subcommand.",
        arity: -2,
        ..Spec::EMPTY
    },
    run: HostRun::Container,
    subcommands: &[
        &tracking::CACHING,
        &CAPA,
        &GETNAME,
        &tracking::GETREDIR,
        &HELP,
        &ID,
        &INFO,
        &KILL,
        &LIST,
        &LOAD,
        &NO_EVICT,
        &NO_TOUCH,
        &PAUSE,
        &REPLY,
        &SETINFO,
        &SETNAME,
        &tracking::TRACKING,
        &tracking::TRACKINGINFO,
        &UNBLOCK,
        &UNPAUSE,
    ],
};

sub!(
    GETNAME,
    |host, _| {
        let name = host.conn.client.names.lock().name.clone();
        if name.is_empty() {
            host.reply().null()
        } else {
            host.reply().bulk(&name)
        }
        Ok(())
    },
    Spec { name: "getname", summary: "Answers the connection's name.", since: "2.6.9", arity: 2, ..SUB }
);

sub!(
    CAPA,
    |host, args| {
        // Others are for other servers.
        if args.from(2).any(|word| word.eq_ignore_ascii_case(b"redirect")) {
            host.conn.client.follows_redirects.store(true, Relaxed);
        }
        host.reply().ok();
        Ok(())
    },
    Spec {
        name: "capa",
        summary: "Says what the client can do.",
        since: "8.0.0",
        arity: -3,
        flags: SUB.flags.or(Flags::ALLOW_BUSY),
        args: &[Arg::string("capability").multiple()],
        ..SUB
    }
);

sub!(
    HELP,
    |host, _| {
        let lines = [
            "CLIENT <subcommand> [<argument> ...]. The subcommands:",
            "CACHING YES|NO -- track the keys of the next command or not.",
            "CAPA REDIRECT -- this client can follow a redirection.",
            "GETNAME -- the name of this connection.",
            "GETREDIR -- where this connection's invalidations go.",
            "ID -- the number of this connection.",
            "INFO -- this connection, as LIST shows it.",
            "KILL <address>|<filter> <value> [<filter> <value> ...] -- close connections.",
            "LIST [<filter> <value> ...] -- all connections, a line each.",
            "    Filters: ADDR, CAPA, DB, FLAGS, ID, IP, LADDR, LIB-NAME, LIB-VER, NAME, TYPE, USER,",
            "    each also with NOT- in front; IDLE, MAXAGE, SKIPME.",
            "NO-EVICT ON|OFF -- keep this connection when memory for clients runs out.",
            "NO-TOUCH ON|OFF -- read without counting as a use of the key.",
            "PAUSE <milliseconds> [WRITE|ALL] -- hold back commands for a while.",
            "REPLY ON|OFF|SKIP -- whether this connection gets replies.",
            "SETINFO LIB-NAME|LIB-VER <value> -- what client library this is.",
            "SETNAME <name> -- give this connection a name.",
            "TRACKING ON|OFF [REDIRECT <number>] [BCAST] [PREFIX <prefix> ...] [OPTIN] [OPTOUT] [NOLOOP]",
            "    -- tell this connection, or another, of changes to keys that it has read.",
            "TRACKINGINFO -- what is tracked for this connection.",
            "UNBLOCK <number> [TIMEOUT|ERROR] -- end the wait of a blocked connection.",
            "UNPAUSE -- end a PAUSE.",
            "HELP -- this text.",
        ];
        let mut reply = host.reply();
        reply.array(lines.len());
        lines.iter().for_each(|line| reply.simple(line));
        Ok(())
    },
    Spec {
        name: "help",
        summary: "Answers a text about the subcommands.",
        since: "5.0.0",
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        ..SUB
    }
);

sub!(
    ID,
    |host, _| {
        let id = host.conn.client.id;
        host.reply().integer(id as i64);
        Ok(())
    },
    Spec { name: "id", summary: "Answers the connection's number.", since: "5.0.0", arity: 2, ..SUB }
);

sub!(
    INFO,
    list::info,
    Spec {
        name: "info",
        summary: "Shows this connection.",
        since: "6.2.0",
        arity: 2,
        tips: &["nondeterministic_output"],
        ..SUB
    }
);

/// What connections are chosen by.
const FILTERS: &[Arg] = &[
    Arg::integer("client-id").token("ID").multiple().optional().since("2.8.12"),
    Arg::one_of("client-type", KINDS).token("TYPE").optional().since("2.8.12"),
    Arg::string("username").token("USER").optional(),
    Arg::string("addr").token("ADDR").optional().display("ip:port"),
    Arg::string("laddr").token("LADDR").optional().since("6.2.0").display("ip:port"),
    Arg::one_of("skipme", &[Arg::word("yes", "YES"), Arg::word("no", "NO")]).token("SKIPME").optional(),
    Arg::integer("maxage").token("MAXAGE").optional().since("7.4.0"),
    Arg::string("flags").token("FLAGS").optional(),
    Arg::string("name").token("NAME").optional(),
    Arg::integer("idle").token("IDLE").optional(),
    Arg::string("lib-name").token("LIB-NAME").optional(),
    Arg::string("lib-ver").token("LIB-VER").optional(),
    Arg::integer("db").token("DB").optional(),
    Arg::string("capa").token("CAPA").optional(),
    Arg::string("ip").token("IP").optional(),
    Arg::integer("not-id").token("NOT-ID").multiple().optional(),
    Arg::one_of("not-type", KINDS).token("NOT-TYPE").optional(),
    Arg::string("not-username").token("NOT-USER").optional(),
    Arg::string("not-addr").token("NOT-ADDR").optional().display("ip:port"),
    Arg::string("not-laddr").token("NOT-LADDR").optional().display("ip:port"),
    Arg::string("not-flags").token("NOT-FLAGS").optional(),
    Arg::string("not-name").token("NOT-NAME").optional(),
    Arg::string("not-lib-name").token("NOT-LIB-NAME").optional(),
    Arg::string("not-lib-ver").token("NOT-LIB-VER").optional(),
    Arg::integer("not-db").token("NOT-DB").optional(),
    Arg::string("not-capa").token("NOT-CAPA").optional(),
    Arg::string("not-ip").token("NOT-IP").optional(),
];

/// The kinds of connection.
const KINDS: &[Arg] = &[
    Arg::word("normal", "NORMAL"),
    Arg::word("master", "MASTER").since("3.2.0"),
    Arg::word("primary", "PRIMARY"),
    Arg::word("slave", "SLAVE"),
    Arg::word("replica", "REPLICA").since("5.0.0"),
    Arg::word("pubsub", "PUBSUB"),
];

sub!(
    KILL,
    kill::kill,
    Spec {
        name: "kill",
        summary: "Closes connections.",
        since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        arity: -3,
        args: &[Arg::one_of(
            "filter",
            &[
                Arg::string("old-format").display("ip:port").deprecated_since("2.8.12"),
                Arg::one_of("new-format", FILTERS).multiple(),
            ],
        )],
        history: &[
            ("2.8.12", "Takes filters, ID among them."),
            ("3.2.0", "Filter TYPE knows `master`."),
            ("5.0.0", "Filter TYPE knows `replica`, the new word for `slave`."),
            ("6.2.0", "Filter LADDR."),
            ("7.4.0", "Filter MAXAGE."),
        ],
        ..ADMIN_SUB
    }
);

sub!(
    LIST,
    list::list,
    Spec {
        name: "list",
        summary: "Shows all connections, a line each.",
        since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        arity: -2,
        args: FILTERS,
        tips: &["nondeterministic_output"],
        history: &[
            ("2.8.12", "Shows `id`."),
            ("5.0.0", "Filter TYPE."),
            ("6.0.0", "Shows `user`."),
            ("6.2.0", "Filter ID; shows `argv-mem`, `tot-mem`, `laddr` and `redir`."),
            ("7.0.0", "Shows `resp`, `multi-mem`, `rbs` and `rbp`."),
            ("7.0.3", "Shows `ssub`."),
            ("7.2.0", "Shows `lib-name` and `lib-ver`."),
            ("7.4.0", "Shows `watch`."),
            ("8.0.0", "Shows `io-thread`."),
        ],
        ..ADMIN_SUB
    }
);

sub!(
    LOAD,
    |host, args| {
        host.conn.loads = on_or_off(args, 2)?;
        host.reply().ok();
        Ok(())
    },
    Spec {
        name: "load",
        summary: "Has the connection's reads fetch what is missing from its source, or not.",
        since: "7.2.0",
        arity: 3,
        args: ON_OFF,
        ..SUB
    }
);

sub!(
    NO_EVICT,
    |host, args| {
        let on = on_or_off(args, 2)?;
        host.conn.client.no_evict.store(on, Relaxed);
        host.reply().ok();
        Ok(())
    },
    Spec {
        name: "no-evict",
        summary: "Exempts the connection from being closed for memory.",
        since: "7.0.0",
        arity: 3,
        args: ON_OFF,
        ..ADMIN_SUB
    }
);

sub!(
    NO_TOUCH,
    |host, args| {
        let on = on_or_off(args, 2)?;
        host.conn.no_touch = on;
        host.conn.client.no_touch.store(on, Relaxed);
        host.reply().ok();
        Ok(())
    },
    Spec {
        name: "no-touch",
        summary: "Lets the connection read keys without marking them as used.",
        since: "7.2.0",
        arity: 3,
        args: ON_OFF,
        ..SUB
    }
);

const ON_OFF: &[Arg] = &[Arg::one_of("enabled", &[Arg::word("on", "ON"), Arg::word("off", "OFF")])];

fn on_or_off(args: &Args<'_>, index: usize) -> Result<bool, Error> {
    if args.is(index, b"on") {
        Ok(true)
    } else if args.is(index, b"off") {
        Ok(false)
    } else {
        Err(Error::Syntax)
    }
}

sub!(
    PAUSE,
    pause,
    Spec {
        name: "pause",
        summary: "Holds back commands for a while.",
        since: "3.0.0",
        arity: -3,
        args: &[
            Arg::integer("timeout"),
            Arg::one_of("mode", &[Arg::word("write", "WRITE"), Arg::word("all", "ALL")])
                .optional()
                .since("6.2.0"),
        ],
        history: &[("6.2.0", "Mode WRITE, which holds back writes only.")],
        ..ADMIN_SUB
    }
);

fn pause(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let writes_only = match args.len() {
        3 => false,
        4 if args.is(3, b"write") => true,
        4 if args.is(3, b"all") => false,
        4 => return Err(Error::of("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(misused("CLIENT", args.get(1))),
    };
    let millis =
        number::parse_i64(args.get(2)).ok_or(Error::of("ERR timeout is not an integer or out of range"))?;
    let millis = u64::try_from(millis).map_err(|_| Error::of("ERR timeout is negative"))?;
    let until = host
        .core
        .local
        .now
        .0
        .checked_add(millis)
        .filter(|until| i64::try_from(*until).is_ok())
        .ok_or(Error::of("ERR timeout is out of range"))?;
    let pause = &host.server().pause;
    let running = host.server().is_paused(host.core.local.now, true);
    // A pause under way is never shortened nor weakened.
    let weaker = writes_only && (!running || pause.writes_only.load(Relaxed));
    pause.writes_only.store(weaker, Relaxed);
    if !running || pause.until_ms.load(Relaxed) < until {
        pause.until_ms.store(until, Relaxed);
    }
    host.reply().ok();
    Ok(())
}

sub!(
    REPLY,
    |host, args| {
        if args.is(2, b"on") {
            host.conn.reply_mode = ReplyMode::On;
            host.reply().ok();
        } else if args.is(2, b"off") {
            host.conn.reply_mode = ReplyMode::Off;
        } else if args.is(2, b"skip") {
            if host.conn.reply_mode != ReplyMode::Off {
                host.conn.reply_mode = ReplyMode::SkipNext;
            }
        } else {
            return Err(Error::Syntax);
        }
        Ok(())
    },
    Spec {
        name: "reply",
        summary: "Chooses whether the connection gets replies.",
        since: "3.2.0",
        arity: 3,
        args: &[Arg::one_of(
            "action",
            &[Arg::word("on", "ON"), Arg::word("off", "OFF"), Arg::word("skip", "SKIP")]
        )],
        ..SUB
    }
);

sub!(
    SETINFO,
    set_info,
    Spec {
        name: "setinfo",
        summary: "Says what client library speaks on the connection.",
        since: "7.2.0",
        arity: 4,
        args: &[Arg::one_of(
            "attr",
            &[Arg::string("libname").token("LIB-NAME"), Arg::string("libver").token("LIB-VER")]
        )],
        tips: ALL_NODES,
        ..SUB
    }
);

fn set_info(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let option = args.get(2);
    let is_name = option.eq_ignore_ascii_case(b"lib-name");
    if !is_name && !option.eq_ignore_ascii_case(b"lib-ver") {
        let mut text = b"ERR Unrecognized option '".to_vec();
        text.extend_from_slice(shown_name(option));
        text.push(b'\'');
        return Err(Error::custom(text));
    }
    let value = args.get(3);
    if check_name(value).is_err() {
        // The option is told as it was asked for.
        let text =
            [&b"ERR "[..], option, b" cannot contain spaces, newlines or special characters."].concat();
        return Err(Error::custom(text));
    }
    let mut names = host.conn.client.names.lock();
    if is_name {
        names.library = value.to_vec()
    } else {
        names.library_version = value.to_vec()
    }
    drop(names);
    host.reply().ok();
    Ok(())
}

sub!(
    SETNAME,
    |host, args| {
        check_name(args.get(2))?;
        host.conn.client.names.lock().name = args.get(2).to_vec();
        host.reply().ok();
        Ok(())
    },
    Spec {
        name: "setname",
        summary: "Gives the connection a name.",
        since: "2.6.9",
        arity: 3,
        args: &[Arg::string("connection-name")],
        tips: ALL_NODES,
        ..SUB
    }
);

/// How often CLIENT UNBLOCK looks again at a client whose command another thread is running.
const LOOKS_MAX: u32 = 100_000;

/// Whether a client waits, or does not. False where another thread is about to find out, since it runs the client's command or
/// a pause that held it back is over, and this connection can ask again later; a transaction, which cannot, gives it the time that
/// it takes to run a command.
fn is_decided(host: &Host<'_>, client: u64) -> bool {
    let server = host.server();
    let blocked = &server.blocked;
    let held = server.clients.get(client).filter(|client| client.id != host.conn.client.id);
    let goes_on = || {
        let holds = server.snapshots.holds_writes() || server.journal.is_congested();
        !holds && !server.is_paused(host.core.local.now, true)
    };
    let is_going_on = || held.as_ref().is_some_and(|client| client.held.load(Acquire) && goes_on());
    let looks = if host.conn.is_in_exec { LOOKS_MAX } else { 1 };
    let is_served = (0..looks).all(|look| {
        if look > 0 {
            std::thread::yield_now();
        }
        is_going_on() || blocked.is_being_served(client)
    });
    !is_served || host.conn.is_in_exec
}

sub!(
    UNBLOCK,
    |host, args| {
        match args.len() {
            3 => {}
            4 if args.is(3, b"timeout") || args.is(3, b"error") => {}
            4 => return Err(Error::of("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
            _ => return Err(misused("CLIENT", args.get(1))),
        }
        let id = number::parse_i64(args.get(2)).ok_or(Error::NotAnInteger)?;
        let id = u64::try_from(id).ok();
        if id.is_some_and(|id| !is_decided(host, id)) {
            host.conn.parked = Some(Parked::Busy);
            return Ok(());
        }
        let waiter = id.and_then(|id| host.server().blocked.take(id).map(|w| (id, w)));
        host.reply().integer(waiter.is_some().into());
        if let Some((id, waiter)) = waiter {
            let reply = match args.is(3, b"error") {
                true => b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n".to_vec(),
                false => waiter.on_timeout.reply(),
            };
            host.server().mailboxes[waiter.worker].send(Message::Answer(Answer::new(
                id,
                waiter.ticket,
                reply,
            )));
        }
        Ok(())
    },
    Spec {
        name: "unblock",
        summary: "Ends the wait of a connection that a blocking command holds.",
        since: "5.0.0",
        complexity: "O(log N) where N is the number of client connections",
        arity: -3,
        args: &[
            Arg::integer("client-id"),
            Arg::one_of("unblock-type", &[Arg::word("timeout", "TIMEOUT"), Arg::word("error", "ERROR")])
                .optional(),
        ],
        ..ADMIN_SUB
    }
);

sub!(
    UNPAUSE,
    |host, _| {
        host.server().pause.until_ms.store(0, Relaxed);
        host.server().wake_all();
        host.reply().ok();
        Ok(())
    },
    Spec {
        name: "unpause",
        summary: "Ends a pause.",
        since: "6.2.0",
        complexity: "O(N) where N is the number of paused clients",
        arity: 2,
        ..ADMIN_SUB
    }
);

/// A connection's line of CLIENT LIST.
pub(crate) fn client_line(server: &Server, now_ms: u64, client: &Client) -> Vec<u8> {
    let mut line = Vec::new();
    list::write_line(server, now_ms, client, &mut line);
    line.truncate(line.trim_ascii_end().len());
    line
}
