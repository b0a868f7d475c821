//! Commands on keys of any type: existence, names, ends, copies, walks, whole databases.
//!
//! Invariant: every command parses all of its words before it looks at a key, and one that answers
//! an error has changed nothing.
//! Read next: `delete.rs` (the simplest), `expire.rs`, `scan.rs`, `sort/`.

mod copy;
mod delete;
mod dump;
mod expire;
mod flush;
mod object;
mod presence;
mod remake;
mod rename;
pub(crate) mod scan;
mod sort;
mod ttl;

pub use dump::{Beside, load_key, write_key, write_payload, write_payload_for_any};
pub(crate) use flush::flush;
pub use flush::flush_waits;
pub use remake::write_commands;
pub(crate) use scan::parse_cursor;

use crate::spec::{Arg, Command, KeyFlags, KeySpec};

/// Every command of the family, in alphabetical order.
pub static COMMANDS: &[&Command] = &[
    &copy::COPY,
    &presence::DBSIZE,
    &delete::DEL,
    &dump::DUMP,
    &presence::EXISTS,
    &expire::EXPIRE,
    &expire::EXPIREAT,
    &ttl::EXPIRETIME,
    &flush::FLUSHALL,
    &flush::FLUSHDB,
    &scan::KEYS,
    &copy::MOVE,
    &object::OBJECT,
    &expire::PERSIST,
    &expire::PEXPIRE,
    &expire::PEXPIREAT,
    &ttl::PEXPIRETIME,
    &ttl::PTTL,
    &presence::RANDOMKEY,
    &rename::RENAME,
    &rename::RENAMENX,
    &dump::RESTORE,
    &dump::RESTORE_ASKING,
    &scan::SCAN,
    &sort::SORT,
    &sort::SORT_RO,
    &flush::SWAPDB,
    &presence::TOUCH,
    &ttl::TTL,
    &presence::TYPE,
    &delete::UNLINK,
];

/// The grammar of a command that takes one key.
static ONE_KEY: &[Arg] = &[Arg::key("key", 0)];

/// The grammar of a command that takes any number of keys.
static MANY_KEYS: &[Arg] = &[Arg::key("key", 0).multiple()];

/// One key whose value is read.
static READ_ONE: &[KeySpec] = &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))];

/// One key whose value or end is changed.
static UPDATE_ONE: &[KeySpec] = &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::UPDATE))];

/// A cluster proxy splits the command by shard and adds the answers up.
static SUM_OVER_SHARDS: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];

#[cfg(test)]
mod tests;
