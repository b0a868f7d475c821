//! CONFIG: the settings, read and changed while the server runs.
//!
//! Invariant: a CONFIG SET that answers an error has changed nothing; two at the same time take
//! turns, so that neither loses what the other has set.

use super::help::help as answer_help;
use super::level_handle;
use crate::access;
use crate::admin::Admin;
use crate::execute::Host;
use crate::journal;
use crate::logging;
use crate::registry::{HostCommand, HostRun};
use crate::server::{Message, Server};
use crate::start::raise_file_limit;
use crate::tls;
use larder_commands::spec::{Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};
use larder_config::{Change, OptionSpec, RewriteError, SetError, Settings};
use larder_store::Counter;
use larder_values::glob::{self, Case};
use std::sync::atomic::Ordering::Relaxed;

/// `CONFIG subcommand`
pub static CONFIG: HostCommand = HostCommand {
    spec: Spec {
        name: "config",
        summary: "Groups the commands that read and change settings.",
        since: "2.0.0",
        group: Group::Server,
        complexity: "That of the subcommand.",
        arity: -2,
        ..Spec::EMPTY
    },
    run: HostRun::Container,
    subcommands: &[&GET, &HELP, &RESETSTAT, &REWRITE, &SET],
};

/// `CONFIG GET parameter [parameter ...]`
static GET: HostCommand = HostCommand {
    spec: Spec {
        name: "get",
        summary: "Answers the settings whose names fit.",
        since: "2.0.0",
        group: Group::Server,
        complexity: "O(N) where N is the number of settings named",
        arity: -3,
        flags: Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::LOADING).or(Flags::STALE),
        args: &[Arg::string("parameter").multiple()],
        history: &[("7.0.0", "Takes several patterns.")],
        ..Spec::EMPTY
    },
    run: HostRun::Host(get),
    subcommands: &[],
};

/// `CONFIG HELP`
static HELP: HostCommand = HostCommand {
    spec: Spec {
        name: "help",
        summary: "Lists the subcommands of CONFIG.",
        since: "5.0.0",
        group: Group::Server,
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        ..Spec::EMPTY
    },
    run: HostRun::Host(help),
    subcommands: &[],
};

/// `CONFIG RESETSTAT`
static RESETSTAT: HostCommand = HostCommand {
    spec: Spec {
        name: "resetstat",
        summary: "Starts the statistics again from zero.",
        since: "2.0.0",
        group: Group::Server,
        arity: 2,
        flags: Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::LOADING).or(Flags::STALE),
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(resetstat),
    subcommands: &[],
};

/// `CONFIG REWRITE`
static REWRITE: HostCommand = HostCommand {
    spec: Spec {
        name: "rewrite",
        summary: "Brings the configuration file up to date with the settings.",
        since: "2.8.0",
        group: Group::Server,
        arity: 2,
        flags: Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::LOADING).or(Flags::STALE),
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(rewrite),
    subcommands: &[],
};

/// `CONFIG SET parameter value [parameter value ...]`
static SET: HostCommand = HostCommand {
    spec: Spec {
        name: "set",
        summary: "Changes settings of the running server, all of them or none.",
        since: "2.0.0",
        group: Group::Server,
        complexity: "O(N) where N is the number of settings named",
        arity: -4,
        flags: Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::LOADING).or(Flags::STALE),
        args: &[Arg::block("data", &[Arg::string("parameter"), Arg::string("value")]).multiple()],
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        history: &[("7.0.0", "Takes several settings at once.")],
        ..Spec::EMPTY
    },
    run: HostRun::Host(set),
    subcommands: &[],
};

static HELP_LINES: &[&str] = &[
    "GET <pattern> [<pattern> ...]",
    "    Answers the settings whose names fit, and their values.",
    "RESETSTAT",
    "    Starts the statistics of INFO again from zero.",
    "REWRITE",
    "    Brings the configuration file up to date with the settings.",
    "SET <directive> <value> [<directive> <value> ...]",
    "    Changes settings, all of them or none.",
];

fn get(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let settings = host.server().settings();
    let patterns: Vec<&[u8]> = args.from(2).collect();
    let found = settings.get(&patterns, |pattern, name| glob::matches_with(pattern, name, Case::Ignored));
    let mut reply = host.reply();
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name);
        reply.bulk(&value);
    }
    Ok(())
}

fn set(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let server = host.server();
    let words: Vec<&[u8]> = args.from(2).collect();
    // Whoever holds the plan changes settings: what is read here is what is replaced.
    let turn = server.plan.lock();
    let before = server.settings();
    let outcome = before
        .plan_set_args(&words, host.conn.client.is_local())
        .and_then(|change| apply(server, &before, change, reloaded(&words)));
    let has_writer = server.journal.has_begun();
    drop(turn);
    match outcome {
        Ok(()) => {
            server.journal.follow(&server.settings());
            if has_writer {
                follow_log(host, &before);
            }
            host.reply().ok();
            Ok(())
        }
        Err(error) => {
            if let Some(nearest) = error.nearest_option() {
                tracing::info!("CONFIG SET of an option that does not exist; there is '{nearest}'");
            }
            Err(Error::custom(error.text()))
        }
    }
}

/// Begins or ends logging where that has changed.
fn follow_log(host: &mut Host<'_>, before: &Settings) {
    let (server, after) = (host.server(), host.server().settings());
    match (before.appendonly(), after.appendonly()) {
        (false, true) => journal::turn_on(server),
        (true, false) => journal::turn_off(host.core),
        _ => {}
    }
}

/// The first option of TLS among names and values.
fn reloaded<'a>(words: &[&'a [u8]]) -> Option<&'a [u8]> {
    words.iter().step_by(2).copied().find(|name| name.to_ascii_lowercase().starts_with(b"tls-"))
}

/// Puts a change into effect: first what can fail, then what cannot.
///
/// `tls` is the option of TLS that was given first: its files are read anew, also where its value is the old one.
fn apply(
    server: &'static Server,
    before: &Settings,
    change: Change,
    tls: Option<&[u8]>,
) -> Result<(), SetError> {
    let changed = |name: &str| change.changed.iter().any(|spec| spec.name == name);
    if changed("maxclients") {
        make_room_for_clients(&change.settings)?;
    }
    if changed("dir")
        && let Err(error) = std::env::set_current_dir(change.settings.dir())
    {
        return Err(SetError::refused(b"dir", &error.to_string()));
    }
    let scored = change.changed.iter().find(|spec| spec.name.starts_with("oom-score-adj"));
    scored.map_or(Ok(()), |option| set_score(server, before, &change.settings, option))?;
    let undo = |level_too: bool| {
        if scored.is_some() {
            let _ = server.oom_score.follow(before);
        }
        if changed("dir") {
            // The directory was there a moment ago.
            let _ = std::env::set_current_dir(before.dir());
        }
        if level_too && changed("loglevel") {
            let _ = set_level(before);
        }
    };
    begin_log(server, before, &change.settings).inspect_err(|_| undo(false))?;
    if changed("loglevel")
        && let Err(text) = set_level(&change.settings)
    {
        undo(false);
        return Err(SetError::refused(b"loglevel", &text));
    }
    let old_tls = server.tls.load_full();
    if let Some(option) = tls {
        reload_tls(server, &change.settings, option).inspect_err(|_| undo(true))?;
    }
    if changed("admin-port") || changed("admin-bind") {
        move_admin(server, before, &change.settings, changed("admin-port")).inspect_err(|_| {
            server.tls.store(old_tls.clone());
            undo(true);
        })?;
    }
    let listening = ["port", "tls-port", "memcached-port", "bind"].into_iter().find(|name| changed(name));
    if let Some(option) = listening {
        move_listeners(server, &change.settings, option).inspect_err(|_| {
            if changed("admin-port") || changed("admin-bind") {
                // It listened there a moment ago.
                let _ = move_admin(server, &change.settings, before, true);
            }
            server.tls.store(old_tls);
            undo(true);
        })?;
    }
    if changed("cache-insight") {
        server.keyspace.insight.reset();
    }
    if changed("maxmemory-rss") {
        server.resident.forget();
    }
    if changed("requirepass") {
        server.access.set_default_password(change.settings.requirepass());
    }
    server.set_settings(change.settings);
    Ok(())
}

/// Lets the process open a file for each client.
fn make_room_for_clients(settings: &Settings) -> Result<(), SetError> {
    let wanted = u64::from(settings.maxclients());
    let possible = raise_file_limit(wanted);
    if possible >= wanted {
        return Ok(());
    }
    let reason = format!(
        "The operating system is not able to handle the specified number of clients, try with {possible}"
    );
    Err(SetError::refused(b"maxclients", &reason))
}

/// Sets how readily the kernel ends the process; where that fails, the directory is that of before again.
fn set_score(
    server: &Server,
    before: &Settings,
    after: &Settings,
    option: &OptionSpec,
) -> Result<(), SetError> {
    server.oom_score.follow(after).map_err(|()| {
        // It was there a moment ago.
        let _ = std::env::set_current_dir(before.dir());
        let reason = "Failed to apply new oom_score_adj configuration, check server logs.";
        SetError::refused(option.name.as_bytes(), reason)
    })
}

/// Sees to it that there is a place for the log where other settings have it, if they turn it on.
fn begin_log(server: &Server, before: &Settings, after: &Settings) -> Result<(), SetError> {
    if before.appendonly() || !after.appendonly() {
        return Ok(());
    }
    journal::try_place(server, after)
        .map_err(|_| SetError::refused(b"appendonly", "Unable to turn on AOF. Check server logs."))
}

/// Has new connections encrypted as other settings say.
fn reload_tls(server: &'static Server, settings: &Settings, option: &[u8]) -> Result<(), SetError> {
    let config = tls::configure(settings).map_err(|text| {
        tracing::warn!("CONFIG SET: {text}");
        SetError::refused(option, "Unable to update TLS configuration. Check server logs.")
    })?;
    server.tls.store(config);
    Ok(())
}

/// Listens where other settings say; where that cannot be, where it did before.
fn move_listeners(server: &'static Server, settings: &Settings, option: &str) -> Result<(), SetError> {
    let outcome = server.listeners.lock().rebind(settings);
    // Also where it listens as before, it may do so by new sockets.
    server.mailboxes[0].send(Message::Listen);
    outcome.map_err(|text| {
        tracing::warn!("CONFIG SET: {text}");
        let reason = match option {
            "bind" => "Failed to bind to specified addresses.",
            _ => "Unable to listen on this port. Check server logs.",
        };
        SetError::refused(option.as_bytes(), reason)
    })
}

/// Has the admin page listen where other settings say; where that cannot be, where it did before.
fn move_admin(
    server: &'static Server,
    before: &Settings,
    after: &Settings,
    port_too: bool,
) -> Result<(), SetError> {
    let mut admin = server.admin.lock();
    // First what listens: it can stand in the way of what is to come.
    *admin = None;
    let text = match Admin::start(server, after) {
        Ok(started) => {
            *admin = started;
            return Ok(());
        }
        Err(text) => text,
    };
    tracing::warn!("CONFIG SET: {text}");
    *admin = Admin::start(server, before).unwrap_or_else(|error| {
        tracing::error!("the admin port is closed: {error}");
        None
    });
    Err(match port_too {
        true => SetError::refused(b"admin-port", "Unable to listen on this port. Check server logs."),
        false => SetError::refused(b"admin-bind", "Failed to bind to specified addresses."),
    })
}

fn set_level(settings: &Settings) -> Result<(), String> {
    let Some(handle) = level_handle() else { return Ok(()) };
    handle.modify(|level| *level = logging::level(settings.loglevel())).map_err(|error| error.to_string())
}

fn resetstat(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    reset_statistics(host.server());
    host.reply().ok();
    Ok(())
}

/// Starts the statistics again from zero.
pub(super) fn reset_statistics(server: &Server) {
    for stats in &server.stats {
        stats.reset();
        [&stats.turns, &stats.busy_nanos, &stats.store.lazy_freed].into_iter().for_each(Counter::reset);
    }
    server.refused.store(0, Relaxed);
    server.sampler.reset();
    server.keyspace.insight.reset_counts();
    server.over_limit.reset();
    server.defrag_times.reset();
    server.snapshots.reset_count();
    server.keyspace.invalidated.reset();
    server.keyspace.followed.leases.counts.reset();
}

fn rewrite(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let server = host.server();
    let plan = server.plan.lock();
    let outcome = match &plan.config_file {
        Some(file) => {
            let settings = server.settings();
            file.rewrite(&settings, &access::config_lines(&server.access.users, &settings))
        }
        None => Err(RewriteError::NoFile),
    };
    drop(plan);
    match outcome {
        Ok(()) => {
            tracing::info!("CONFIG REWRITE: the configuration file is up to date");
            host.reply().ok();
            Ok(())
        }
        Err(error) => {
            tracing::warn!("CONFIG REWRITE failed: {}", String::from_utf8_lossy(&error.text()));
            Err(Error::custom(error.text()))
        }
    }
}

fn help(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    answer_help(host, "CONFIG", HELP_LINES);
    Ok(())
}
