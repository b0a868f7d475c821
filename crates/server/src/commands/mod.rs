//! Commands that need the server: connections, settings, other threads.
//!
//! Rows of the same declaration as data commands; see `larder_commands::spec`.

mod acl;
mod bgrewriteaof;
pub(crate) mod cache;
mod client;
mod cluster;
mod command;
mod commandlog;
mod config;
mod connection;
mod debug;
mod help;
mod info;
mod latency;
mod lolwut;
mod memcached;
mod memory;
mod migrate;
mod module;
mod monitor;
mod process;
mod pubsub;
mod replication;
mod save;
mod script;
mod slowlog;
mod transaction;
mod wait;

pub(crate) use client::client_line;
pub(crate) use connection::shown_name;
pub(crate) use info::{cpu_seconds, errors_by_code};
pub use memcached::COMMANDS as MEMCACHED;
pub use script::{eval_keys, eval_spec};

use crate::logging::LevelHandle;
use crate::registry::HostCommand;
use std::sync::OnceLock;

/// All commands of this crate.
pub static COMMANDS: &[&HostCommand] = &[
    &acl::ACL,
    &cluster::ASKING,
    &connection::AUTH,
    &save::BGSAVE,
    &cache::CACHE,
    &client::CLIENT,
    &cluster::CLUSTER,
    &cluster::CLUSTERSCAN,
    &command::COMMAND,
    &config::CONFIG,
    &debug::DEBUG,
    &transaction::DISCARD,
    &connection::ECHO,
    &script::EVAL,
    &script::EVALSHA,
    &script::EVALSHA_RO,
    &script::EVAL_RO,
    &transaction::EXEC,
    &replication::FAILOVER,
    &script::FCALL,
    &script::FCALL_RO,
    &script::FUNCTION,
    &connection::HELLO,
    &info::INFO,
    &process::LASTSAVE,
    &latency::LATENCY,
    &lolwut::LOLWUT,
    &memory::MEMORY,
    &migrate::MIGRATE,
    &module::MODULE,
    &monitor::MONITOR,
    &transaction::MULTI,
    &connection::PING,
    &pubsub::PSUBSCRIBE,
    &pubsub::PUBLISH,
    &pubsub::PUBSUB,
    &pubsub::PUNSUBSCRIBE,
    &connection::QUIT,
    &cluster::READONLY,
    &cluster::READWRITE,
    &replication::REPLICAOF,
    &connection::RESET,
    &process::ROLE,
    &save::SAVE,
    &script::SCRIPT,
    &connection::SELECT,
    &process::SHUTDOWN,
    &commandlog::COMMANDLOG,
    &replication::SLAVEOF,
    &slowlog::SLOWLOG,
    &pubsub::SPUBLISH,
    &pubsub::SSUBSCRIBE,
    &pubsub::SUBSCRIBE,
    &pubsub::SUNSUBSCRIBE,
    &process::TIME,
    &transaction::UNWATCH,
    &pubsub::UNSUBSCRIBE,
    &wait::WAIT,
    &wait::WAITAOF,
    &bgrewriteaof::BGREWRITEAOF,
    &wait::WAITSOURCE,
    &transaction::WATCH,
];

static LEVEL: OnceLock<LevelHandle> = OnceLock::new();

/// Keeps the handle by which CONFIG SET changes the level of the log.
pub fn set_level_handle(handle: LevelHandle) {
    // Set once, at start.
    let _ = LEVEL.set(handle);
}

/// The handle, once the log has been started.
pub fn level_handle() -> Option<&'static LevelHandle> {
    LEVEL.get()
}
