//! MULTI, EXEC, DISCARD, WATCH, UNWATCH. Read next: `execute/exec.rs`.

use crate::connection::Parked;
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use larder_commands::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec};
use larder_commands::{Args, Error, Spec};

/// What all but EXEC share.
const QUICK: Spec = Spec {
    group: Group::Transactions,
    arity: 1,
    flags: Flags::NO_SCRIPT.or(Flags::LOADING).or(Flags::STALE).or(Flags::FAST).or(Flags::ALLOW_BUSY),
    acl: Acl::TRANSACTION,
    ..Spec::EMPTY
};

/// `MULTI`
pub static MULTI: HostCommand = HostCommand {
    spec: Spec {
        name: "multi",
        summary: "Begins a transaction: the commands that follow are kept for EXEC.",
        since: "1.2.0",
        ..QUICK
    },
    run: HostRun::Host(|host, _| {
        if host.conn.transaction.is_some() {
            return Err(Error::of("ERR MULTI calls can not be nested"));
        }
        host.core.begin_transaction(host.conn);
        host.reply().ok();
        Ok(())
    }),
    subcommands: &[],
};

/// `EXEC`
pub static EXEC: HostCommand = HostCommand {
    spec: Spec {
        name: "exec",
        summary: "Carries out the commands since MULTI as one, unless a watched key has changed.",
        since: "1.2.0",
        complexity: "That of the commands.",
        flags: Flags::NO_SCRIPT.or(Flags::LOADING).or(Flags::STALE).or(Flags::SKIP_SLOWLOG),
        ..QUICK
    },
    run: HostRun::Host(|host, _| {
        if !host.core.exec(host.conn, host.out)? {
            host.conn.parked = Some(Parked::Busy);
        }
        Ok(())
    }),
    subcommands: &[],
};

/// `DISCARD`
pub static DISCARD: HostCommand = HostCommand {
    spec: Spec {
        name: "discard",
        summary: "Drops the commands since MULTI and forgets the watched keys.",
        since: "2.0.0",
        complexity: "O(N) where N is the number of commands dropped.",
        ..QUICK
    },
    run: HostRun::Host(|host, _| {
        if host.conn.transaction.is_none() {
            return Err(Error::of("ERR DISCARD without MULTI"));
        }
        host.core.end_transaction(host.conn);
        host.reply().ok();
        Ok(())
    }),
    subcommands: &[],
};

/// `WATCH key [key ...]`
pub static WATCH: HostCommand = HostCommand {
    spec: Spec {
        name: "watch",
        summary: "Has the next EXEC do nothing if one of the keys changes before it.",
        since: "2.2.0",
        arity: -2,
        complexity: "O(1) for each key.",
        keys: &[KeySpec::range(1, -1, 1, KeyFlags::RO)],
        args: &[Arg::key("key", 0).multiple()],
        ..QUICK
    },
    run: HostRun::Host(watch),
    subcommands: &[],
};

fn watch(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    if host.conn.transaction.is_some() {
        return Err(Error::of("ERR WATCH inside MULTI is not allowed"));
    }
    // Once a watched key has changed EXEC does nothing, whatever else is watched.
    if !host.conn.client.watch.has_changed() && !host.core.watch(host.conn, args) {
        host.conn.parked = Some(Parked::Busy);
        return Ok(());
    }
    host.reply().ok();
    Ok(())
}

/// `UNWATCH`
pub static UNWATCH: HostCommand = HostCommand {
    spec: Spec { name: "unwatch", summary: "Forgets the watched keys.", since: "2.2.0", ..QUICK },
    run: HostRun::Host(|host, _| {
        host.core.unwatch(host.conn);
        host.reply().ok();
        Ok(())
    }),
    subcommands: &[],
};
