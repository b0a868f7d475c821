//! WAIT, WAITAOF and WAITSOURCE: wait until others have the connection's writes.
//!
//! Replicas and logs: a server without replicas and without a log waits until the time given is over, since nobody will
//! ever say to have them. Read next: `blocked.rs`, where those who wait are kept.

use crate::blocked::{OnTimeout, Waiter};
use crate::clock;
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use crate::server::{Answer, Message};
use larder_commands::spec::{Acl, Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};
use larder_values::number;
use std::sync::Arc;
use std::time::Duration;

/// What both share.
const EITHER: Spec = Spec {
    group: Group::Generic,
    complexity: "O(1)",
    flags: Flags::BLOCKING,
    acl: Acl::CONNECTION,
    tips: &["request_policy:all_shards", "response_policy:agg_min"],
    ..Spec::EMPTY
};

/// `WAIT numreplicas timeout`
pub static WAIT: HostCommand = HostCommand {
    spec: Spec {
        name: "wait",
        summary: "Waits until so many replicas have the connection's writes, or for a time in milliseconds.",
        since: "3.0.0",
        arity: 3,
        args: &[Arg::integer("numreplicas"), Arg::integer("timeout")],
        ..EITHER
    },
    run: HostRun::Host(wait),
    subcommands: &[],
};

/// `WAITAOF numlocal numreplicas timeout`
pub static WAITAOF: HostCommand = HostCommand {
    spec: Spec {
        name: "waitaof",
        summary: "Waits until the logs of this server and of so many replicas have the connection's writes, or for a time in milliseconds.",
        since: "7.2.0",
        arity: 4,
        args: &[Arg::integer("numlocal"), Arg::integer("numreplicas"), Arg::integer("timeout")],
        ..EITHER
    },
    run: HostRun::Host(waitaof),
    subcommands: &[],
};

/// `WAITSOURCE timeout`
pub static WAITSOURCE: HostCommand = HostCommand {
    spec: Spec {
        name: "waitsource",
        summary: "Waits until the stores have the connection's writes that are queued for them, or for a time in milliseconds; answers how many they do not have.",
        since: "0.1.0",
        arity: 2,
        acl: Acl::CONNECTION.or(Acl::CACHE),
        args: &[Arg::integer("timeout")],
        tips: &[],
        ..EITHER
    },
    run: HostRun::Host(waitsource),
    subcommands: &[],
};

fn waitsource(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let timeout = timeout(host, args.get(1))?;
    let owner = host.conn.owner.as_ref().filter(|owner| owner.unsettled() > 0).map(Arc::clone);
    let Some(owner) = owner else {
        host.reply().integer(0);
        return Ok(());
    };
    if host.conn.is_in_exec {
        host.reply().integer(i64::try_from(owner.unsettled()).unwrap_or(i64::MAX));
        return Ok(());
    }
    block(host, timeout, OnTimeout::Unsettled(Arc::clone(&owner)));
    // The last of them may have reached its store before there was anybody to tell.
    if owner.unsettled() == 0
        && let Some(waiter) = host.server().blocked.take_settled(owner.client)
    {
        let answer = Answer::new(owner.client, waiter.ticket, b":0\r\n");
        host.server().mailboxes[waiter.worker].send(Message::Answer(answer));
    }
    Ok(())
}

fn wait(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let replicas = number::parse_i64(args.get(1)).ok_or(Error::NotAnInteger)?;
    let timeout = timeout(host, args.get(2))?;
    if replicas <= 0 || host.conn.is_in_exec {
        host.reply().integer(0);
    } else {
        block(host, timeout, OnTimeout::Text(b":0\r\n"));
    }
    Ok(())
}

fn waitaof(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let local = number::parse_i64(args.get(1)).ok_or(Error::NotAnInteger)?;
    if !(0..=1).contains(&local) {
        return Err(Error::of("ERR value is out of range, value must between 0 and 1"));
    }
    let replicas = number::parse_i64(args.get(2)).filter(|replicas| *replicas >= 0);
    let replicas = replicas.ok_or(Error::of("ERR value is out of range, must be positive"))?;
    let timeout = timeout(host, args.get(3))?;
    let journal = &host.server().journal;
    if local > 0 && !host.core.settings.appendonly() {
        return Err(Error::of("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."));
    }
    // What the commands before this one in the pipeline changed is the connection's, too.
    host.core.note_logged(host.conn);
    let number = host.conn.logged;
    let is_durable = journal.has_on_disk(number);
    if host.conn.is_in_exec || (replicas == 0 && (local == 0 || is_durable)) {
        let mut reply = host.reply();
        reply.array(2);
        reply.integer(is_durable.into());
        reply.integer(0);
        return Ok(());
    }
    block(host, timeout, OnTimeout::Logged(number, journal));
    if replicas == 0 {
        journal.answer_when_durable(number, host.conn.client.id);
    }
    Ok(())
}

/// A time in milliseconds; 0 is for ever.
fn timeout(host: &Host<'_>, text: &[u8]) -> Result<u64, Error> {
    let millis = number::parse_i64(text).ok_or(Error::of("ERR timeout is not an integer or out of range"))?;
    let millis = u64::try_from(millis).map_err(|_| Error::of("ERR timeout is negative"))?;
    let end = host.core.local.now.0.checked_add(millis).and_then(|end| i64::try_from(end).ok());
    end.map(|_| millis).ok_or(Error::of("ERR timeout is out of range"))
}

/// Parks the connection until the time is over, CLIENT UNBLOCK ends its wait, or it is gone.
fn block(host: &mut Host<'_>, millis: u64, on_timeout: OnTimeout) {
    let ticket = host.park();
    // An end that the clock cannot tell is never reached.
    let deadline = (millis != 0).then(|| clock::now().checked_add(Duration::from_millis(millis))).flatten();
    let waiter = Waiter { worker: host.core.id, ticket, deadline, on_timeout, command: None };
    host.server().blocked.add(host.conn.client.id, waiter);
}
