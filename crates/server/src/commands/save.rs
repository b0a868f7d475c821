//! SAVE and BGSAVE: a snapshot now, waited for or not. The server goes on with other clients meanwhile.

use crate::connection::Parked;
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use crate::snapshot::{Asker, Job, Kind, Refused, ask_for, begin_background, give_up};
use larder_commands::spec::{Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};

/// `SAVE`
pub static SAVE: HostCommand = HostCommand {
    spec: Spec {
        name: "save",
        summary: "Writes a snapshot, and answers when it is whole.",
        complexity: "O(N) in the number of keys",
        group: Group::Server,
        arity: 1,
        flags: Flags::ADMIN.or(Flags::NO_ASYNC_LOADING).or(Flags::NO_SCRIPT).or(Flags::NO_MULTI),
        ..Spec::EMPTY
    },
    run: HostRun::Host(save),
    subcommands: &[],
};

/// `BGSAVE [SCHEDULE | CANCEL]`
pub static BGSAVE: HostCommand = HostCommand {
    spec: Spec {
        name: "bgsave",
        summary: "Begins a snapshot in the background, or gives one up.",
        complexity: "O(1)",
        group: Group::Server,
        arity: -1,
        flags: Flags::ADMIN.or(Flags::NO_ASYNC_LOADING).or(Flags::NO_SCRIPT),
        args: &[Arg::one_of(
            "operation",
            &[Arg::word("schedule", "SCHEDULE").since("3.2.2"), Arg::word("cancel", "CANCEL").since("8.1.0")],
        )
        .optional()],
        history: &[("3.2.2", "Takes `SCHEDULE`.")],
        ..Spec::EMPTY
    },
    run: HostRun::Host(bgsave),
    subcommands: &[],
};

const IN_PROGRESS: Error = Error::of("ERR Background save already in progress");

// Differs from Redis: SAVE holds nobody up but the client that asked: others are served while it is written. What it holds is the
// moment at which it was asked for.
fn save(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    match host.server().snapshots.kind() {
        Some(Kind::Background) => return Err(IN_PROGRESS),
        Some(Kind::Rewrite) => {
            // Asked again until a log is rewritten.
            host.conn.parked = Some(Parked::Busy);
            return Ok(());
        }
        _ => {}
    }
    let asker = asker(host);
    host.server().snapshots.count();
    ask_for(host.core, Job::Save(asker));
    Ok(())
}

/// Parks the connection until a job's end answers it.
pub(in crate::commands) fn asker(host: &mut Host<'_>) -> Asker {
    Asker { worker: host.core.id, client: host.conn.client.id, ticket: host.park() }
}

/// `BGSAVE CANCEL`
fn cancel(host: &mut Host<'_>) -> Result<(), Error> {
    let server = host.server();
    if give_up(server, "BGSAVE CANCEL asked for that") {
        host.reply().simple("Background saving cancelled");
    } else if std::mem::take(&mut server.snapshots.figures.lock().is_scheduled) {
        host.reply().simple("Scheduled background saving cancelled");
    } else {
        return Err(Error::of("ERR Background saving is currently not in progress or scheduled"));
    }
    Ok(())
}

fn bgsave(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.len() == 2 && args.is(1, b"cancel") {
        return cancel(host);
    }
    let is_schedule = args.len() == 2 && args.is(1, b"schedule");
    if args.len() > 1 && !is_schedule {
        return Err(Error::Syntax);
    }
    let snapshots = &host.server().snapshots;
    let is_in_exec = host.conn.is_in_exec;
    match snapshots.kind() {
        Some(Kind::Background) => return Err(IN_PROGRESS),
        Some(Kind::Rewrite) if !is_schedule && !is_in_exec => {
            return Err(Error::of(
                "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a BGSAVE whenever possible.",
            ));
        }
        kind if is_in_exec || kind == Some(Kind::Rewrite) => {
            snapshots.figures.lock().is_scheduled = true;
            host.reply().simple("Background saving scheduled");
            return Ok(());
        }
        _ => {}
    }
    match begin_background(host.core) {
        Ok(()) => host.reply().simple("Background saving started"),
        // In Redis nobody could have asked meanwhile.
        Err(Refused::Busy | Refused::UnderWay) => host.conn.parked = Some(Parked::Busy),
        Err(Refused::Failed(text)) => {
            tracing::error!("{text}");
            return Err(Error::of("ERR"));
        }
    }
    Ok(())
}
