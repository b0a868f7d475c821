//! CLUSTER's subcommands about hash slots: who serves them, and what is in them.

use super::{CHANGES, OF_CLUSTER, refused};
use crate::registry::HostCommand;
use larder_commands::Spec;
use larder_commands::spec::{Acl, Arg, Flags};

/// Hash slots, one by one.
const SOME_SLOTS: &[Arg] = &[Arg::integer("slot").multiple()];

/// Hash slots, from one to another.
const RANGES: &[Arg] =
    &[Arg::block("range", &[Arg::integer("start-slot"), Arg::integer("end-slot")]).multiple()];

/// `CLUSTER ADDSLOTS`
pub static ADDSLOTS: HostCommand = refused(Spec {
    name: "addslots",
    summary: "Has this node serve hash slots.",
    since: "3.0.0",
    complexity: "O(N) for N slots",
    arity: -3,
    flags: CHANGES,
    args: SOME_SLOTS,
    ..OF_CLUSTER
});

/// `CLUSTER ADDSLOTSRANGE`
pub static ADDSLOTSRANGE: HostCommand = refused(Spec {
    name: "addslotsrange",
    summary: "Has this node serve ranges of hash slots.",
    since: "7.0.0",
    complexity: "O(N) for N slots",
    arity: -4,
    flags: CHANGES,
    args: RANGES,
    ..OF_CLUSTER
});

/// `CLUSTER CANCELSLOTMIGRATIONS`
pub static CANCELSLOTMIGRATIONS: HostCommand = refused(Spec {
    name: "cancelslotmigrations",
    summary: "Gives up all moves of hash slots.",
    since: "9.0.0",
    complexity: "O(N) for N moves",
    arity: 2,
    flags: CHANGES,
    ..OF_CLUSTER
});

/// `CLUSTER COUNTKEYSINSLOT`
pub static COUNTKEYSINSLOT: HostCommand = refused(Spec {
    name: "countkeysinslot",
    summary: "Counts the keys of a hash slot.",
    since: "3.0.0",
    arity: 3,
    flags: Flags::STALE,
    args: &[Arg::integer("slot")],
    ..OF_CLUSTER
});

/// `CLUSTER DELSLOTS`
pub static DELSLOTS: HostCommand = refused(Spec {
    name: "delslots",
    summary: "Has this node forget who serves some hash slots.",
    since: "3.0.0",
    complexity: "O(N) for N slots",
    arity: -3,
    flags: CHANGES,
    args: SOME_SLOTS,
    ..OF_CLUSTER
});

/// `CLUSTER DELSLOTSRANGE`
pub static DELSLOTSRANGE: HostCommand = refused(Spec {
    name: "delslotsrange",
    summary: "Has this node forget who serves ranges of hash slots.",
    since: "7.0.0",
    complexity: "O(N) for N slots",
    arity: -4,
    flags: CHANGES,
    args: RANGES,
    ..OF_CLUSTER
});

/// `CLUSTER FLUSHSLOT`
pub static FLUSHSLOT: HostCommand = refused(Spec {
    name: "flushslot",
    summary: "Removes all keys of a hash slot.",
    since: "9.0.0",
    complexity: "O(N) for N keys",
    arity: -3,
    flags: Flags::WRITE.or(Flags::ADMIN).or(Flags::NO_ASYNC_LOADING),
    acl: Acl::KEYSPACE,
    args: &[
        Arg::integer("slot"),
        Arg::one_of("flush-type", &[Arg::word("async", "ASYNC"), Arg::word("sync", "SYNC")]).optional(),
    ],
    ..OF_CLUSTER
});

/// `CLUSTER FLUSHSLOTS`
pub static FLUSHSLOTS: HostCommand = refused(Spec {
    name: "flushslots",
    summary: "Has this node forget who serves any hash slot.",
    since: "3.0.0",
    arity: 2,
    flags: CHANGES,
    ..OF_CLUSTER
});

/// `CLUSTER GETKEYSINSLOT`
pub static GETKEYSINSLOT: HostCommand = refused(Spec {
    name: "getkeysinslot",
    summary: "Answers some keys of a hash slot.",
    since: "3.0.0",
    complexity: "O(N) for N keys asked for",
    arity: 4,
    flags: Flags::STALE,
    args: &[Arg::integer("slot"), Arg::integer("count")],
    tips: &["nondeterministic_output"],
    ..OF_CLUSTER
});

/// `CLUSTER GETSLOTMIGRATIONS`
pub static GETSLOTMIGRATIONS: HostCommand = refused(Spec {
    name: "getslotmigrations",
    summary: "Answers the moves of hash slots, present and past.",
    since: "9.0.0",
    complexity: "O(N) for N moves",
    arity: 2,
    flags: CHANGES,
    ..OF_CLUSTER
});

/// `CLUSTER KEYSLOT`
pub static KEYSLOT: HostCommand = refused(Spec {
    name: "keyslot",
    summary: "Answers the hash slot of a key.",
    since: "3.0.0",
    complexity: "O(N) for N bytes",
    arity: 3,
    flags: Flags::STALE,
    args: &[Arg::string("key")],
    ..OF_CLUSTER
});

/// `CLUSTER MIGRATESLOTS`
pub static MIGRATESLOTS: HostCommand = refused(Spec {
    name: "migrateslots",
    summary: "Begins to move hash slots to other nodes.",
    since: "9.0.0",
    complexity: "O(N) for N slots",
    arity: -4,
    flags: CHANGES,
    args: &[Arg::block(
        "migration-group",
        &[
            Arg::word("slotsrange-token", "SLOTSRANGE"),
            Arg::block("range", &[Arg::integer("start-slot"), Arg::integer("end-slot")]).multiple(),
            Arg::word("node-token", "NODE"),
            Arg::string("node-id"),
        ],
    )
    .multiple()],
    ..OF_CLUSTER
});

/// `CLUSTER SETSLOT`
pub static SETSLOT: HostCommand = refused(Spec {
    name: "setslot",
    summary: "Says who serves a hash slot, or where it moves.",
    since: "3.0.0",
    arity: -4,
    flags: CHANGES,
    args: &[
        Arg::integer("slot"),
        Arg::one_of(
            "subcommand",
            &[
                Arg::string("importing").token("IMPORTING").display("node-id"),
                Arg::string("migrating").token("MIGRATING").display("node-id"),
                Arg::string("node").token("NODE").display("node-id"),
                Arg::word("stable", "STABLE"),
            ],
        ),
    ],
    ..OF_CLUSTER
});

/// `CLUSTER SHARDS`
pub static SHARDS: HostCommand = refused(Spec {
    name: "shards",
    summary: "Answers the shards: their hash slots and their nodes.",
    since: "7.0.0",
    complexity: "O(N) for N nodes",
    arity: 2,
    flags: Flags::LOADING.or(Flags::STALE),
    tips: &["nondeterministic_output"],
    ..OF_CLUSTER
});

/// `CLUSTER SLOT-STATS`
pub static SLOT_STATS: HostCommand = refused(Spec {
    name: "slot-stats",
    summary: "Answers how much some hash slots are used.",
    since: "8.2.0",
    complexity: "O(N) for N slots; O(N*log(N)) in an order",
    arity: -4,
    flags: Flags::LOADING.or(Flags::STALE),
    args: &[Arg::one_of(
        "filter",
        &[
            Arg::block("slotsrange", &[Arg::integer("start-slot"), Arg::integer("end-slot")])
                .token("SLOTSRANGE"),
            Arg::block(
                "orderby",
                &[
                    Arg::string("metric"),
                    Arg::integer("limit").token("LIMIT").optional(),
                    Arg::one_of("order", &[Arg::word("asc", "ASC"), Arg::word("desc", "DESC")]).optional(),
                ],
            )
            .token("ORDERBY"),
        ],
    )],
    tips: &["nondeterministic_output", "request_policy:all_shards"],
    ..OF_CLUSTER
});

/// `CLUSTER SLOTS`
pub static SLOTS: HostCommand = refused(Spec {
    name: "slots",
    summary: "Answers which nodes serve which hash slots.",
    since: "3.0.0",
    complexity: "O(N) for N nodes",
    arity: 2,
    flags: Flags::LOADING.or(Flags::STALE),
    tips: &["nondeterministic_output"],
    history: &[("4.0.0", "Added node IDs."), ("7.0.0", "Added additional networking metadata field.")],
    deprecated: Some(("7.0.0", "`CLUSTER SHARDS`")),
    ..OF_CLUSTER
});

/// `CLUSTER SYNCSLOTS`
pub static SYNCSLOTS: HostCommand = refused(Spec {
    name: "syncslots",
    summary: "Carries a move of hash slots; one node sends it to another.",
    since: "9.0.0",
    complexity: "That of the subcommand.",
    arity: -3,
    flags: CHANGES,
    system: true,
    ..OF_CLUSTER
});
