//! Commands about the process: its time, its role, its end.

use super::save::asker;
use crate::clock;
use crate::connection::Closing;
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use crate::snapshot::{Ending, shut_down};
use larder_commands::spec::{Acl, Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};
use std::sync::atomic::Ordering::Relaxed;

/// `TIME`
pub static TIME: HostCommand = HostCommand {
    spec: Spec {
        name: "time",
        summary: "Answers the time of the server.",
        since: "2.6.0",
        group: Group::Server,
        arity: 1,
        flags: Flags::LOADING.or(Flags::STALE).or(Flags::FAST),
        tips: &["nondeterministic_output"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(time),
    subcommands: &[],
};

/// `LASTSAVE`
pub static LASTSAVE: HostCommand = HostCommand {
    spec: Spec {
        name: "lastsave",
        summary: "Answers when the data was last saved.",
        group: Group::Server,
        arity: 1,
        flags: Flags::LOADING.or(Flags::STALE).or(Flags::FAST),
        acl: Acl::ADMIN.or(Acl::DANGEROUS),
        tips: &["nondeterministic_output"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(lastsave),
    subcommands: &[],
};

/// `ROLE`
pub static ROLE: HostCommand = HostCommand {
    spec: Spec {
        name: "role",
        summary: "Answers whether the server is a master or a replica, and how replication stands.",
        since: "2.8.12",
        group: Group::Server,
        arity: 1,
        flags: Flags::NO_SCRIPT.or(Flags::LOADING).or(Flags::STALE).or(Flags::FAST),
        acl: Acl::ADMIN.or(Acl::DANGEROUS),
        ..Spec::EMPTY
    },
    run: HostRun::Host(role),
    subcommands: &[],
};

/// `SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]`
pub static SHUTDOWN: HostCommand = HostCommand {
    spec: Spec {
        name: "shutdown",
        summary: "Stops the server.",
        group: Group::Server,
        arity: -1,
        flags: Flags::ADMIN
            .or(Flags::NO_SCRIPT)
            .or(Flags::LOADING)
            .or(Flags::STALE)
            .or(Flags::NO_MULTI)
            .or(Flags::ALLOW_BUSY),
        args: &[
            Arg::one_of("save-selector", &[Arg::word("nosave", "NOSAVE"), Arg::word("save", "SAVE")])
                .optional(),
            Arg::word("now", "NOW").optional().since("7.0.0"),
            Arg::word("force", "FORCE").optional().since("7.0.0"),
            Arg::word("abort", "ABORT").optional().since("7.0.0"),
        ],
        history: &[("7.0.0", "Takes `NOW`, `FORCE` and `ABORT`.")],
        ..Spec::EMPTY
    },
    run: HostRun::Host(shutdown),
    subcommands: &[],
};

fn time(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    // Time stands still in a transaction and in a script.
    let micros = match host.conn.is_in_exec {
        true => *host.core.unit_micros.get_or_insert_with(clock::unix_micros),
        false => clock::unix_micros(),
    };
    let mut reply = host.reply();
    reply.array(2);
    reply.bulk_integer((micros / 1_000_000) as i64);
    reply.bulk_integer((micros % 1_000_000) as i64);
    Ok(())
}

fn lastsave(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let secs = host.server().last_save_secs.load(Relaxed);
    host.reply().integer(i64::try_from(secs).unwrap_or(i64::MAX));
    Ok(())
}

fn role(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let mut reply = host.reply();
    reply.array(3);
    reply.bulk(b"master");
    // No replica, so no stream of changes that an offset could count.
    reply.integer(0);
    reply.array(0);
    Ok(())
}

fn shutdown(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (mut save, mut nosave, mut abort, mut now, mut force) = (false, false, false, false, false);
    for index in 1..args.len() {
        let option = [(&b"save"[..], &mut save), (b"nosave", &mut nosave), (b"abort", &mut abort)]
            .into_iter()
            .find(|(word, _)| args.is(index, word));
        match option {
            Some((_, given)) => *given = true,
            // There are no replicas for NOW not to wait for.
            None if args.is(index, b"now") => now = true,
            None if args.is(index, b"force") => force = true,
            None => return Err(Error::Syntax),
        }
    }
    if (save && nosave) || (abort && (save || nosave || now || force)) {
        return Err(Error::Syntax);
    }
    if abort {
        return Err(Error::of("ERR No shutdown in progress."));
    }
    if !nosave && let Some(text) = host.server().busy_text() {
        return Err(Error::custom(text));
    }
    tracing::info!(client = host.conn.client.id, "User requested shutdown...");
    let ending = Ending { saves: if save || nosave { Some(save) } else { None }, force };
    if ending.is_saving(host.server()) {
        let asker = asker(host);
        shut_down(host.core, ending, Some(asker));
    } else {
        host.conn.closing = Closing::Now;
        shut_down(host.core, ending, None);
    }
    Ok(())
}
