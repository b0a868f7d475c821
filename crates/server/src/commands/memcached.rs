//! Commands of memcached's protocol that need the server; those on data stand in `larder_commands::memcached`.

use super::config::reset_statistics;
use super::cpu_seconds;
use crate::clock;
use crate::connection::Closing;
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun, Row};
use larder_commands::memcached::{CLASS, is_quiet};
use larder_commands::spec::{Acl, Flags, Group};
use larder_commands::{Args, Error, Spec};
use larder_resp::memcached::parse_i64;
use std::fmt::Display;
use std::sync::atomic::Ordering::Relaxed;

/// The version of memcached whose protocol is spoken.
const MEMCACHED_VERSION: &str = "1.6.18";
/// From how many seconds on a delay is a moment in Unix time.
const RELATIVE_SECONDS_MAX: u64 = 30 * 24 * 3600;

/// All of them.
pub static COMMANDS: &[&HostCommand] =
    &[&ANSWER, &CLOSE, &FLUSH_LATER, &NOOP, &QUIT, &STATS, &VERBOSITY, &VERSION];

const ABOUT_CONNECTION: Spec = Spec {
    since: "0.1.0",
    group: Group::Connection,
    arity: -1,
    flags: Flags::LOADING.or(Flags::STALE).or(Flags::FAST).or(Flags::ALLOW_BUSY),
    acl: Acl::CONNECTION,
    ..Spec::EMPTY
};

/// Runs for whoever is connected.
const FOR_ALL: Spec = Spec { flags: ABOUT_CONNECTION.flags.or(Flags::NO_AUTH), ..ABOUT_CONNECTION };

/// What is answered to a line that asks for nothing that can be done.
static ANSWER: HostCommand = HostCommand {
    spec: Spec { name: "answer", summary: "Answers what is wrong with a line.", ..FOR_ALL },
    run: HostRun::Host(|host, args| {
        if !args.get(1).starts_with(b"END") {
            host.core.count_error(args.get(1));
        }
        host.out.bytes_mut().extend_from_slice(args.get(1));
        host.out.bytes_mut().extend_from_slice(b"\r\n");
        Ok(())
    }),
    subcommands: &[],
};

/// The same where nothing can come behind the line.
static CLOSE: HostCommand = HostCommand {
    spec: Spec { name: "close", summary: "Ends a connection that does not speak the protocol.", ..FOR_ALL },
    run: HostRun::Host(|host, args| {
        host.core.stats.protocol_errors.add(1);
        if !args.get(1).is_empty() {
            host.core.count_error(args.get(1));
            host.out.bytes_mut().extend_from_slice(args.get(1));
            host.out.bytes_mut().extend_from_slice(b"\r\n");
        }
        host.conn.closing = Closing::AfterReplies;
        Ok(())
    }),
    subcommands: &[],
};

/// `flush_all delay [noreply]`
static FLUSH_LATER: HostCommand = HostCommand {
    spec: Spec {
        name: "flush_all-later",
        summary: "Has every key of the database removed after some time.",
        since: "0.1.0",
        group: Group::Server,
        arity: -2,
        flags: Flags::WRITE,
        acl: Acl::KEYSPACE.or(Acl::DANGEROUS),
        ..Spec::EMPTY
    },
    run: HostRun::Host(|host, args| {
        let seconds = parse_i64(args.get(1)).map_or(0, |seconds| seconds.max(0).unsigned_abs());
        let start = if seconds > RELATIVE_SECONDS_MAX { 0 } else { host.core.local.now.0 };
        let at = start.saturating_add(seconds.saturating_mul(1000));
        host.server().flush_at_ms.store(at.max(1), Relaxed);
        if !is_quiet(b"flush_all", args) {
            host.out.bytes_mut().extend_from_slice(b"OK\r\n");
        }
        Ok(())
    }),
    subcommands: &[],
};

/// `mn`
static NOOP: HostCommand = HostCommand {
    spec: Spec { name: "mn", summary: "Answers that all before it is answered.", ..ABOUT_CONNECTION },
    run: HostRun::Host(|host, _| {
        host.out.bytes_mut().extend_from_slice(b"MN\r\n");
        Ok(())
    }),
    subcommands: &[],
};

/// `quit`
static QUIT: HostCommand = HostCommand {
    spec: Spec { name: "quit", summary: "Closes the connection.", ..FOR_ALL },
    run: HostRun::Host(|host, _| {
        host.conn.closing = Closing::AfterReplies;
        Ok(())
    }),
    subcommands: &[],
};

/// `verbosity level [noreply]`
static VERBOSITY: HostCommand = HostCommand {
    spec: Spec {
        name: "verbosity",
        summary: "Changes nothing: what is logged CONFIG SET loglevel says.",
        ..ABOUT_CONNECTION
    },
    run: HostRun::Host(|host, args| {
        if !is_quiet(b"verbosity", args) {
            host.out.bytes_mut().extend_from_slice(b"OK\r\n");
        }
        Ok(())
    }),
    subcommands: &[],
};

/// `version`
static VERSION: HostCommand = HostCommand {
    spec: Spec { name: "version", summary: "Answers whose protocol is spoken.", ..ABOUT_CONNECTION },
    run: HostRun::Host(|host, _| {
        let line = format!("VERSION {MEMCACHED_VERSION}\r\n");
        host.out.bytes_mut().extend_from_slice(line.as_bytes());
        Ok(())
    }),
    subcommands: &[],
};

/// `stats [items | slabs | sizes | settings | reset]`
static STATS: HostCommand = HostCommand {
    spec: Spec {
        name: "stats",
        summary: "Answers figures about the server.",
        since: "0.1.0",
        group: Group::Server,
        complexity: "O(N) where N is the number of commands",
        arity: -1,
        flags: Flags::LOADING.or(Flags::STALE),
        acl: Acl::SLOW,
        ..Spec::EMPTY
    },
    run: HostRun::Host(stats),
    subcommands: &[],
};

fn stats(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    match args.get(1) {
        b"" => general(host),
        b"settings" => settings(host),
        // There are no classes of sizes that items could be told by: `stats cachedump` has them all in one.
        b"items" => {
            let count = host.server().keyspace.len(host.conn.db);
            if count > 0 {
                line(host, &format!("items:{CLASS}:number"), count);
            }
        }
        b"slabs" => {
            let bytes = host.server().used_memory();
            line(host, "active_slabs", 0);
            line(host, "total_malloced", bytes);
        }
        b"sizes" => line(host, "sizes_status", "disabled"),
        b"reset" => {
            reset_statistics(host.server());
            host.out.bytes_mut().extend_from_slice(b"RESET\r\n");
            return Ok(());
        }
        _ => {
            host.out.bytes_mut().extend_from_slice(b"ERROR\r\n");
            return Ok(());
        }
    }
    host.out.bytes_mut().extend_from_slice(b"END\r\n");
    Ok(())
}

fn line(host: &mut Host<'_>, name: &str, value: impl Display) {
    let line = format!("STAT {name} {value}\r\n");
    host.out.bytes_mut().extend_from_slice(line.as_bytes());
}

/// How often commands of these names have run.
fn calls(host: &Host<'_>, names: &[&str]) -> u64 {
    let rows = &host.server().registry.memcached().container().subcommands;
    let is_one = |row: &&Row| names.contains(&row.spec.name);
    let of =
        |row: &Row| host.server().sum(|stats| stats.by_command.get(row.id).map_or(0, |row| row.calls.get()));
    rows.iter().filter(is_one).map(of).sum()
}

fn general(host: &mut Host<'_>) {
    let server = host.server();
    let uptime = clock::now().duration_since(server.started).as_secs();
    let (user, system) = cpu_seconds();
    let connections = server.sum(|stats| stats.connections.get());
    let gets = calls(host, &["get", "get-many", "gat", "gat-many", "mg", "mg-touch", "mg-vivify"]);
    let sets = calls(host, &["set", "add", "replace", "append", "prepend", "cas", "ms"]);
    let touches = calls(host, &["touch", "gat", "gat-many", "mg-touch"]);
    let metas = calls(host, &["mg", "mg-touch", "mg-vivify", "ms", "md", "md-stale", "ma", "me", "mn"]);
    line(host, "pid", std::process::id());
    line(host, "uptime", uptime);
    line(host, "time", host.core.local.now.0 / 1000);
    line(host, "version", MEMCACHED_VERSION);
    line(host, "larder_version", crate::VERSION);
    line(host, "pointer_size", usize::BITS);
    line(host, "rusage_user", format!("{user:.6}"));
    line(host, "rusage_system", format!("{system:.6}"));
    line(host, "max_connections", host.core.settings.maxclients());
    line(host, "curr_connections", server.clients.count());
    line(host, "total_connections", connections);
    line(host, "rejected_connections", server.refused.load(Relaxed));
    line(host, "cmd_get", gets);
    line(host, "cmd_set", sets);
    line(host, "cmd_flush", calls(host, &["flush_all", "flush_all-later"]));
    line(host, "cmd_touch", touches);
    line(host, "cmd_meta", metas);
    line(host, "get_hits", server.sum(|stats| stats.store.hits.get()));
    line(host, "get_misses", server.sum(|stats| stats.store.misses.get()));
    line(host, "get_expired", server.sum(|stats| stats.store.expired_on_access.get()));
    line(host, "bytes_read", server.sum(|stats| stats.bytes_in.get()));
    line(host, "bytes_written", server.sum(|stats| stats.bytes_out.get()));
    line(host, "limit_maxbytes", host.core.settings.maxmemory());
    line(host, "accepting_conns", 1);
    line(host, "threads", server.mailboxes.len());
    line(host, "bytes", server.used_memory());
    line(host, "curr_items", server.keyspace.len(host.conn.db));
    line(host, "evictions", server.sum(|stats| stats.store.evicted.get()));
    line(host, "reclaimed", server.sum(|stats| stats.store.expired.get()));
}

fn settings(host: &mut Host<'_>) {
    let settings = host.server().settings();
    line(host, "maxbytes", settings.maxmemory());
    line(host, "maxconns", settings.maxclients());
    line(host, "tcpport", settings.memcached_port());
    line(host, "udpport", 0);
    line(host, "num_threads", host.server().mailboxes.len());
    line(host, "evictions", if settings.maxmemory() == 0 { "off" } else { "on" });
    line(host, "shutdown_command", "no");
    line(host, "cas_enabled", "yes");
    line(host, "auth_enabled_sasl", "no");
    line(host, "item_size_max", settings.proto_max_bulk_len());
    line(host, "flush_enabled", "yes");
    line(host, "binding_protocol", "ascii");
}
