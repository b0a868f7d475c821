//! REPLICAOF and FAILOVER on a primary that has no replica, which is all there is yet.
//!
//! What changes nothing on such a primary is answered as Redis does; to follow another server is refused. PSYNC, SYNC and REPLCONF,
//! which only servers send, are not there.

use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use larder_commands::spec::{Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};
use larder_values::number::parse_i64;

/// Flags of what changes whom a server follows.
const CHANGES: Flags = Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::STALE).or(Flags::NO_ASYNC_LOADING);

const NOT_HERE: Error = Error::of(
    "ERR This version of Larder does not replicate: it can be the replica of no server, and has none. \
     To move data in, load the other server's dump file, or use MIGRATE there",
);
const INVALID_PORT: Error = Error::of("ERR Invalid master port");

/// Whom to follow, or nobody.
const PRIMARY: &[Arg] = &[Arg::one_of(
    "args",
    &[
        Arg::block("host-port", &[Arg::string("host"), Arg::integer("port")]),
        Arg::block("no-one", &[Arg::word("no", "NO"), Arg::word("one", "ONE")]),
    ],
)];

/// `REPLICAOF host port`, `REPLICAOF NO ONE`
pub static REPLICAOF: HostCommand = HostCommand {
    spec: Spec {
        name: "replicaof",
        summary: "Makes the server a primary, which it is; to follow another server is refused.",
        since: "5.0.0",
        group: Group::Server,
        arity: 3,
        flags: CHANGES,
        args: PRIMARY,
        ..Spec::EMPTY
    },
    run: HostRun::Host(replicaof),
    subcommands: &[],
};

/// `SLAVEOF host port`, `SLAVEOF NO ONE`
pub static SLAVEOF: HostCommand = HostCommand {
    spec: Spec {
        name: "slaveof",
        summary: "The same as REPLICAOF.",
        group: Group::Server,
        arity: 3,
        flags: CHANGES,
        args: PRIMARY,
        deprecated: Some(("5.0.0", "`REPLICAOF`")),
        ..Spec::EMPTY
    },
    run: HostRun::Host(replicaof),
    subcommands: &[],
};

/// `FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]`
pub static FAILOVER: HostCommand = HostCommand {
    spec: Spec {
        name: "failover",
        summary: "Hands the part of the primary to a replica, of which there is none.",
        since: "6.2.0",
        group: Group::Server,
        arity: -1,
        flags: Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::STALE),
        args: &[
            Arg::block(
                "target",
                &[Arg::string("host"), Arg::integer("port"), Arg::word("force", "FORCE").optional()],
            )
            .token("TO")
            .optional(),
            Arg::word("abort", "ABORT").optional(),
            Arg::integer("milliseconds").token("TIMEOUT").optional(),
        ],
        ..Spec::EMPTY
    },
    run: HostRun::Host(failover),
    subcommands: &[],
};

fn replicaof(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.is(1, b"no") && args.is(2, b"one") {
        host.reply().ok();
        return Ok(());
    }
    let port = parse_i64(args.get(2)).ok_or(INVALID_PORT)?;
    u16::try_from(port).map_err(|_| INVALID_PORT)?;
    Err(NOT_HERE)
}

fn failover(_: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (mut is_timed, mut is_named, mut is_forced) = (false, false, false);
    let mut index = 1;
    while index < args.len() {
        let rest = args.len() - index - 1;
        if args.is(index, b"abort") && args.len() == 2 {
            return Err(Error::of("ERR No failover in progress."));
        } else if args.is(index, b"timeout") && rest >= 1 && !is_timed {
            if parse_i64(args.get(index + 1)).ok_or(Error::NotAnInteger)? <= 0 {
                return Err(Error::of("ERR FAILOVER timeout must be greater than 0"));
            }
            is_timed = true;
            index += 2;
        } else if args.is(index, b"to") && rest >= 2 && !is_named {
            // Whether it is a port nobody asks before there is a replica.
            parse_i64(args.get(index + 2)).ok_or(Error::NotAnInteger)?;
            is_named = true;
            index += 3;
        } else if args.is(index, b"force") && !is_forced {
            is_forced = true;
            index += 1;
        } else {
            return Err(Error::Syntax);
        }
    }
    Err(Error::of("ERR FAILOVER requires connected replicas."))
}
