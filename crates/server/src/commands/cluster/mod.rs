//! CLUSTER, and what clients of a cluster say to each node.
//!
//! Larder is one node and part of no cluster, and answers as Redis does with `cluster-enabled no`: the number of words is looked at, and
//! then the command is refused. Clients find out by that reply that there is no cluster.
//!
//! Read next: `slots.rs` and `nodes.rs` for the declarations of the subcommands.

mod nodes;
mod slots;

use crate::registry::{HostCommand, HostRun};
use larder_commands::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec};
use larder_commands::{Error, Spec};

const NO_CLUSTER: Error = Error::of("ERR This instance has cluster support disabled");

/// A command of the family, to be completed.
const OF_CLUSTER: Spec = Spec { group: Group::Cluster, ..Spec::EMPTY };

/// Flags of what changes a cluster.
const CHANGES: Flags = Flags::ADMIN.or(Flags::STALE).or(Flags::NO_ASYNC_LOADING);

/// A command that is refused where there is no cluster.
const fn refused(spec: Spec) -> HostCommand {
    HostCommand { spec, run: HostRun::Host(|_, _| Err(NO_CLUSTER)), subcommands: &[] }
}

/// `CLUSTER subcommand`
pub static CLUSTER: HostCommand = HostCommand {
    spec: Spec {
        name: "cluster",
        summary: "Groups the commands about the cluster, of which Larder has none.",
        since: "3.0.0",
        complexity: "That of the subcommand.",
        arity: -2,
        ..OF_CLUSTER
    },
    run: HostRun::Container,
    subcommands: &[
        &slots::ADDSLOTS,
        &slots::ADDSLOTSRANGE,
        &nodes::BUMPEPOCH,
        &slots::CANCELSLOTMIGRATIONS,
        &nodes::COUNT_FAILURE_REPORTS,
        &slots::COUNTKEYSINSLOT,
        &slots::DELSLOTS,
        &slots::DELSLOTSRANGE,
        &nodes::FAILOVER,
        &slots::FLUSHSLOT,
        &slots::FLUSHSLOTS,
        &nodes::FORGET,
        &slots::GETKEYSINSLOT,
        &slots::GETSLOTMIGRATIONS,
        &HELP,
        &nodes::INFO,
        &slots::KEYSLOT,
        &nodes::LINKS,
        &nodes::MEET,
        &slots::MIGRATESLOTS,
        &nodes::MYID,
        &nodes::MYSHARDID,
        &nodes::NODES,
        &nodes::REPLICAS,
        &nodes::REPLICATE,
        &nodes::RESET,
        &nodes::SAVECONFIG,
        &nodes::SET_CONFIG_EPOCH,
        &slots::SETSLOT,
        &slots::SHARDS,
        &nodes::SLAVES,
        &slots::SLOT_STATS,
        &slots::SLOTS,
        &slots::SYNCSLOTS,
    ],
};

/// `CLUSTER HELP`
static HELP: HostCommand = refused(Spec {
    name: "help",
    summary: "Lists the subcommands of CLUSTER.",
    since: "5.0.0",
    arity: 2,
    flags: Flags::LOADING.or(Flags::STALE),
    ..OF_CLUSTER
});

/// `ASKING`
pub static ASKING: HostCommand = refused(Spec {
    name: "asking",
    summary: "Has the next command served though its hash slot is on the move.",
    since: "3.0.0",
    arity: 1,
    flags: Flags::FAST,
    acl: Acl::CONNECTION,
    ..OF_CLUSTER
});

/// `READONLY`
pub static READONLY: HostCommand = refused(Spec {
    name: "readonly",
    summary: "Lets the connection read from a replica of a cluster.",
    since: "3.0.0",
    arity: 1,
    flags: Flags::FAST.or(Flags::LOADING).or(Flags::STALE),
    acl: Acl::CONNECTION,
    ..OF_CLUSTER
});

/// `READWRITE`
pub static READWRITE: HostCommand = refused(Spec {
    name: "readwrite",
    summary: "Has a replica of a cluster redirect the connection's reads again.",
    since: "3.0.0",
    arity: 1,
    flags: Flags::FAST.or(Flags::LOADING).or(Flags::STALE),
    acl: Acl::CONNECTION,
    ..OF_CLUSTER
});

/// `CLUSTERSCAN cursor [MATCH pattern] [COUNT count] [TYPE type] [SLOT slot]`
pub static CLUSTERSCAN: HostCommand = refused(Spec {
    name: "clusterscan",
    summary: "Goes through the keys of a cluster.",
    since: "9.1.0",
    complexity: "O(N) for N keys answered",
    arity: -2,
    flags: Flags::READONLY,
    acl: Acl::KEYSPACE,
    keys: &[KeySpec::at(1, KeyFlags::NOT_KEY)],
    args: &[
        Arg::string("cursor"),
        Arg::pattern("match-pattern").token("MATCH").optional(),
        Arg::integer("count").token("COUNT").optional(),
        Arg::string("type").token("TYPE").optional(),
        Arg::integer("slot").token("SLOT").optional(),
    ],
    tips: &["nondeterministic_output", "request_policy:special", "response_policy:special"],
    ..OF_CLUSTER
});
