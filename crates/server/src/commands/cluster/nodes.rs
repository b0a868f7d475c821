//! CLUSTER's subcommands about nodes: who they are, and what they make of each other.

use super::{CHANGES, OF_CLUSTER, refused};
use crate::registry::HostCommand;
use larder_commands::Spec;
use larder_commands::spec::{Arg, Flags};

/// `CLUSTER BUMPEPOCH`
pub static BUMPEPOCH: HostCommand = refused(Spec {
    name: "bumpepoch",
    summary: "Moves the configuration epoch on.",
    since: "3.0.0",
    arity: 2,
    flags: CHANGES,
    tips: &["nondeterministic_output"],
    ..OF_CLUSTER
});

/// `CLUSTER COUNT-FAILURE-REPORTS`
pub static COUNT_FAILURE_REPORTS: HostCommand = refused(Spec {
    name: "count-failure-reports",
    summary: "Counts the nodes that say a node has failed.",
    since: "3.0.0",
    complexity: "O(N) for N reports",
    arity: 3,
    flags: Flags::ADMIN.or(Flags::STALE),
    args: &[Arg::string("node-id")],
    tips: &["nondeterministic_output"],
    ..OF_CLUSTER
});

/// `CLUSTER FAILOVER`
pub static FAILOVER: HostCommand = refused(Spec {
    name: "failover",
    summary: "Has this replica take over from its primary.",
    since: "3.0.0",
    arity: -2,
    flags: CHANGES,
    args: &[
        Arg::one_of("options", &[Arg::word("force", "FORCE"), Arg::word("takeover", "TAKEOVER")]).optional()
    ],
    ..OF_CLUSTER
});

/// `CLUSTER FORGET`
pub static FORGET: HostCommand = refused(Spec {
    name: "forget",
    summary: "Takes a node off the list of nodes.",
    since: "3.0.0",
    arity: 3,
    flags: CHANGES,
    args: &[Arg::string("node-id")],
    ..OF_CLUSTER
});

/// `CLUSTER INFO`
pub static INFO: HostCommand = refused(Spec {
    name: "info",
    summary: "Answers the state of the cluster as this node sees it.",
    since: "3.0.0",
    arity: 2,
    flags: Flags::STALE,
    tips: &["nondeterministic_output"],
    ..OF_CLUSTER
});

/// `CLUSTER LINKS`
pub static LINKS: HostCommand = refused(Spec {
    name: "links",
    summary: "Answers the links to other nodes.",
    since: "7.0.0",
    complexity: "O(N) for N nodes",
    arity: 2,
    flags: Flags::STALE,
    tips: &["nondeterministic_output"],
    ..OF_CLUSTER
});

/// `CLUSTER MEET`
pub static MEET: HostCommand = refused(Spec {
    name: "meet",
    summary: "Makes a node known to this one.",
    since: "3.0.0",
    arity: -4,
    flags: CHANGES,
    args: &[
        Arg::string("ip"),
        Arg::integer("port"),
        Arg::integer("cluster-bus-port").optional().since("4.0.0"),
    ],
    history: &[("4.0.0", "Added the optional `cluster_bus_port` argument.")],
    ..OF_CLUSTER
});

/// `CLUSTER MYID`
pub static MYID: HostCommand = refused(Spec {
    name: "myid",
    summary: "Answers the name of this node.",
    since: "3.0.0",
    arity: 2,
    flags: Flags::STALE,
    ..OF_CLUSTER
});

/// `CLUSTER MYSHARDID`
pub static MYSHARDID: HostCommand = refused(Spec {
    name: "myshardid",
    summary: "Answers the name of the shard of this node.",
    since: "7.2.0",
    arity: 2,
    flags: Flags::STALE,
    tips: &["nondeterministic_output"],
    ..OF_CLUSTER
});

/// `CLUSTER NODES`
pub static NODES: HostCommand = refused(Spec {
    name: "nodes",
    summary: "Answers the nodes of the cluster as this node knows them.",
    since: "3.0.0",
    complexity: "O(N) for N nodes",
    arity: 2,
    flags: Flags::STALE,
    tips: &["nondeterministic_output"],
    ..OF_CLUSTER
});

/// `CLUSTER REPLICAS`
pub static REPLICAS: HostCommand = refused(Spec {
    name: "replicas",
    summary: "Answers the replicas of a primary.",
    since: "5.0.0",
    complexity: "O(N) for N replicas",
    arity: 3,
    flags: Flags::ADMIN.or(Flags::STALE),
    args: &[Arg::string("node-id")],
    tips: &["nondeterministic_output"],
    ..OF_CLUSTER
});

/// `CLUSTER REPLICATE`
pub static REPLICATE: HostCommand = refused(Spec {
    name: "replicate",
    summary: "Makes this node the replica of a primary.",
    since: "3.0.0",
    arity: 3,
    flags: CHANGES,
    args: &[Arg::string("node-id")],
    ..OF_CLUSTER
});

/// `CLUSTER RESET`
pub static RESET: HostCommand = refused(Spec {
    name: "reset",
    summary: "Has this node leave its cluster.",
    since: "3.0.0",
    complexity: "O(N) for N nodes; it may remove all keys",
    arity: -2,
    flags: Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::STALE),
    args: &[Arg::one_of("reset-type", &[Arg::word("hard", "HARD"), Arg::word("soft", "SOFT")]).optional()],
    ..OF_CLUSTER
});

/// `CLUSTER SAVECONFIG`
pub static SAVECONFIG: HostCommand = refused(Spec {
    name: "saveconfig",
    summary: "Writes what this node knows of its cluster to disk.",
    since: "3.0.0",
    arity: 2,
    flags: CHANGES,
    ..OF_CLUSTER
});

/// `CLUSTER SET-CONFIG-EPOCH`
pub static SET_CONFIG_EPOCH: HostCommand = refused(Spec {
    name: "set-config-epoch",
    summary: "Sets the configuration epoch of a new node.",
    since: "3.0.0",
    arity: 3,
    flags: CHANGES,
    args: &[Arg::integer("config-epoch")],
    ..OF_CLUSTER
});

/// `CLUSTER SLAVES`
pub static SLAVES: HostCommand = refused(Spec {
    name: "slaves",
    summary: "Answers the replicas of a primary.",
    since: "3.0.0",
    complexity: "O(N) for N replicas",
    arity: 3,
    flags: Flags::ADMIN.or(Flags::STALE),
    args: &[Arg::string("node-id")],
    tips: &["nondeterministic_output"],
    deprecated: Some(("5.0.0", "`CLUSTER REPLICAS`")),
    ..OF_CLUSTER
});
