//! MONITOR: shows every command on this connection from now on.

use crate::registry::{HostCommand, HostRun};
use larder_commands::spec::{Flags, Group};
use larder_commands::{Error, Spec};
use std::sync::atomic::Ordering::Relaxed;

/// MONITOR
pub static MONITOR: HostCommand = HostCommand {
    spec: Spec {
        name: "monitor",
        summary: "Shows every command that any connection runs, as it comes.",
        group: Group::Server,
        complexity: "",
        arity: 1,
        flags: Flags::ADMIN.or(Flags::LOADING).or(Flags::NO_SCRIPT).or(Flags::STALE),
        ..Spec::EMPTY
    },
    run: HostRun::Host(|host, _| {
        if host.conn.is_in_exec {
            return Err(Error::of("ERR MONITOR isn't allowed for DENY BLOCKING client"));
        }
        if !host.conn.monitor {
            host.conn.monitor = true;
            host.conn.client.monitor.store(true, Relaxed);
            host.server().monitors.fetch_add(1, Relaxed);
        }
        host.reply().ok();
        Ok(())
    }),
    subcommands: &[],
};
