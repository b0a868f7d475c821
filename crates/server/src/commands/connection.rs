//! Commands about the connection itself: who asks, in which protocol, about which database.

use crate::REDIS_VERSION;
use crate::connection::Closing;
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use larder_acl::{Context, Entry, Reason};
use larder_commands::spec::{Acl, Arg, Flags, Group};
use larder_commands::{Args, Error, Spec, database_number};
use larder_resp::Protocol;
use larder_values::number;
use std::sync::atomic::Ordering::Relaxed;

/// AUTH [username] password
pub static AUTH: HostCommand = HostCommand {
    spec: Spec {
        name: "auth",
        summary: "Proves who the connection speaks for.",
        since: "1.0.0",
        group: Group::Connection,
        complexity: "O(N) where N is the number of passwords defined for the user",
        arity: -2,
        flags: Flags::NO_SCRIPT
            .or(Flags::LOADING)
            .or(Flags::STALE)
            .or(Flags::FAST)
            .or(Flags::NO_AUTH)
            .or(Flags::ALLOW_BUSY),
        acl: Acl::CONNECTION,
        args: &[Arg::string("username").optional().since("6.0.0"), Arg::string("password")],
        history: &[("6.0.0", "Takes a user name.")],
        ..Spec::EMPTY
    },
    run: HostRun::Host(auth),
    subcommands: &[],
};

fn auth(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (user, password): (&[u8], &[u8]) = match args.len() {
        2 => (b"default", args.get(1)),
        3 => (args.get(1), args.get(2)),
        _ => return Err(Error::Syntax),
    };
    let default = host.server().access.users.default_user();
    if args.len() == 2 && default.rules().needs_no_password() {
        return Err(Error::of(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        ));
    }
    log_in(host, args, user, password)?;
    host.reply().ok();
    Ok(())
}

/// Makes the connection speak for a user, or says that it may not.
fn log_in(host: &mut Host<'_>, args: &Args<'_>, user: &[u8], password: &[u8]) -> Result<(), Error> {
    let server = host.server();
    if let Some(user) = server.access.users.log_in(user, password) {
        host.conn.speak_for(&user, true);
        return Ok(());
    }
    let now_ms = host.core.local.now.0;
    let is_in_multi = host.conn.is_in_exec || host.conn.transaction.is_some();
    let context = if is_in_multi { Context::Multi } else { Context::TopLevel };
    let entry = Entry::new(Reason::Auth, context, args.get(0), user, now_ms);
    let line = || super::client_line(server, now_ms, &host.conn.client);
    server.access.note_denied(entry, line, &host.core.settings);
    Err(Error::of("WRONGPASS invalid username-password pair or user is disabled."))
}

/// ECHO message
pub static ECHO: HostCommand = HostCommand {
    spec: Spec {
        name: "echo",
        summary: "Answers the message it is given.",
        group: Group::Connection,
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE).or(Flags::FAST),
        acl: Acl::CONNECTION,
        args: &[Arg::string("message")],
        ..Spec::EMPTY
    },
    run: HostRun::Host(|host, args| {
        host.reply().bulk(args.get(1));
        Ok(())
    }),
    subcommands: &[],
};

/// PING [message]
pub static PING: HostCommand = HostCommand {
    spec: Spec {
        name: "ping",
        summary: "Answers PONG, or the message it is given.",
        group: Group::Connection,
        arity: -1,
        flags: Flags::FAST,
        acl: Acl::CONNECTION,
        args: &[Arg::string("message").optional()],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(|host, args| {
        if args.len() <= 2 && host.conn.is_listening_only() {
            let mut reply = host.reply();
            reply.array(2);
            reply.bulk(b"pong");
            reply.bulk(args.try_get(1).unwrap_or_default());
            return Ok(());
        }
        match args.len() {
            1 => host.reply().simple("PONG"),
            2 => host.reply().bulk(args.get(1)),
            _ => return Err(Error::arity("ping")),
        }
        Ok(())
    }),
    subcommands: &[],
};

/// QUIT
pub static QUIT: HostCommand = HostCommand {
    spec: Spec {
        name: "quit",
        summary: "Closes the connection.",
        group: Group::Connection,
        arity: -1,
        flags: Flags::ALLOW_BUSY
            .or(Flags::NO_SCRIPT)
            .or(Flags::LOADING)
            .or(Flags::STALE)
            .or(Flags::FAST)
            .or(Flags::NO_AUTH),
        acl: Acl::CONNECTION,
        deprecated: Some(("7.2.0", "just closing the connection")),
        ..Spec::EMPTY
    },
    run: HostRun::Host(|host, _| {
        host.reply().ok();
        host.conn.closing = Closing::AfterReplies;
        Ok(())
    }),
    subcommands: &[],
};

/// RESET
pub static RESET: HostCommand = HostCommand {
    spec: Spec {
        name: "reset",
        summary: "Puts the connection back into the state of a new one.",
        since: "6.2.0",
        group: Group::Connection,
        arity: 1,
        flags: Flags::ALLOW_BUSY
            .or(Flags::NO_SCRIPT)
            .or(Flags::LOADING)
            .or(Flags::STALE)
            .or(Flags::FAST)
            .or(Flags::NO_AUTH),
        acl: Acl::CONNECTION,
        ..Spec::EMPTY
    },
    run: HostRun::Host(|host, _| {
        if host.conn.monitor {
            host.server().monitors.fetch_sub(1, Relaxed);
            host.conn.client.monitor.store(false, Relaxed);
        }
        host.core.end_transaction(host.conn);
        host.core.forget_subscriptions(host.conn);
        host.core.end_tracking(host.conn);
        let users = &host.server().access.users;
        host.conn.speak_for(users.default_user(), users.is_open());
        host.conn.reset();
        let client = &host.conn.client;
        client.no_evict.store(false, Relaxed);
        client.no_touch.store(false, Relaxed);
        client.protocol.store(2, Relaxed);
        client.names.lock().name.clear();
        host.reply().simple("RESET");
        Ok(())
    }),
    subcommands: &[],
};

/// SELECT index
pub static SELECT: HostCommand = HostCommand {
    spec: Spec {
        name: "select",
        summary: "Chooses the database of the connection.",
        group: Group::Connection,
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE).or(Flags::FAST),
        acl: Acl::CONNECTION,
        args: &[Arg::integer("index")],
        ..Spec::EMPTY
    },
    run: HostRun::Host(|host, args| {
        host.conn.select(database_number(&host.server().keyspace, args.get(1))?);
        host.reply().ok();
        Ok(())
    }),
    subcommands: &[],
};

/// HELLO [protover [AUTH username password] [SETNAME clientname]]
pub static HELLO: HostCommand = HostCommand {
    spec: Spec {
        name: "hello",
        summary: "Greets the server: chooses the protocol, and may log in and name the connection.",
        since: "6.0.0",
        group: Group::Connection,
        arity: -1,
        flags: Flags::NO_SCRIPT
            .or(Flags::LOADING)
            .or(Flags::STALE)
            .or(Flags::FAST)
            .or(Flags::NO_AUTH)
            .or(Flags::ALLOW_BUSY),
        acl: Acl::CONNECTION,
        args: &[Arg::block(
            "arguments",
            &[
                Arg::integer("protover"),
                Arg::block("auth", &[Arg::string("username"), Arg::string("password")])
                    .token("AUTH")
                    .optional(),
                Arg::string("clientname").token("SETNAME").optional(),
            ],
        )
        .optional()],
        history: &[("6.2.0", "The protocol version may be left out.")],
        ..Spec::EMPTY
    },
    run: HostRun::Host(hello),
    subcommands: &[],
};

fn hello(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let protocol = match args.try_get(1) {
        None => None,
        Some(text) => Some(match number::parse_i64(text) {
            None => return Err(Error::of("ERR Protocol version is not an integer or out of range")),
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(Error::of("NOPROTO unsupported protocol version")),
        }),
    };
    let (mut credentials, mut name) = (None, None);
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        if args.is(at, b"auth") && left >= 2 {
            credentials = Some((args.get(at + 1), args.get(at + 2)));
            at += 3;
        } else if args.is(at, b"setname") && left >= 1 {
            name = Some(args.get(at + 1));
            check_name(args.get(at + 1))?;
            at += 2;
        } else {
            let mut text = b"ERR Syntax error in HELLO option '".to_vec();
            text.extend_from_slice(shown_name(args.get(at)));
            text.push(b'\'');
            return Err(Error::custom(text));
        }
    }
    if let Some((user, password)) = credentials {
        log_in(host, args, user, password)?;
    }
    if !host.conn.authenticated && !host.server().access.users.is_open() {
        return Err(Error::of(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        host.conn.client.names.lock().name = name.to_vec();
    }
    if let Some(protocol) = protocol {
        host.conn.protocol = protocol;
        host.conn.client.protocol.store(if protocol == Protocol::Resp3 { 3 } else { 2 }, Relaxed);
    }
    greet(host);
    Ok(())
}

fn greet(host: &mut Host<'_>) {
    let id = host.conn.client.id;
    let settings = host.server().settings();
    let zone = Some(settings.availability_zone()).filter(|zone| !zone.is_empty());
    let mut reply = host.reply();
    let version = if reply.is_resp3() { 3 } else { 2 };
    reply.map(7 + usize::from(zone.is_some()));
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(version);
    reply.bulk(b"id");
    reply.integer(id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    if let Some(zone) = zone {
        reply.bulk(b"availability_zone");
        reply.bulk(zone);
    }
}

/// A client's name is printable and has no blanks, so that CLIENT LIST can be read. What is behind a
/// zero byte is not shown and may be anything.
pub(super) fn check_name(name: &[u8]) -> Result<(), Error> {
    if shown_name(name).iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(());
    }
    Err(Error::of("ERR Client names cannot contain spaces, newlines or special characters."))
}

/// The part of a text that is shown to people: up to a zero byte.
pub(crate) fn shown_name(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}
