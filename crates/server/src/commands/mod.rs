//! Commands that need the server: connections, settings, other threads.
//!
//! Rows of the same declaration as data commands; see `larder_commands::spec`.

mod acl;
pub(crate) mod cache;
mod client;
mod command;
mod config;
mod connection;
mod debug;
mod help;
mod info;
mod latency;
mod lolwut;
mod memory;
mod migrate;
mod monitor;
mod process;
mod pubsub;
mod slowlog;
mod transaction;
mod wait;

pub(crate) use connection::shown_name;
pub(crate) use info::{cpu_seconds, errors_by_code};

use crate::logging::LevelHandle;
use crate::registry::HostCommand;
use std::sync::OnceLock;

/// All commands of this crate.
pub static COMMANDS: &[&HostCommand] = &[
    &acl::ACL,
    &connection::AUTH,
    &cache::CACHE,
    &client::CLIENT,
    &command::COMMAND,
    &config::CONFIG,
    &debug::DEBUG,
    &transaction::DISCARD,
    &connection::ECHO,
    &transaction::EXEC,
    &connection::HELLO,
    &info::INFO,
    &process::LASTSAVE,
    &latency::LATENCY,
    &lolwut::LOLWUT,
    &memory::MEMORY,
    &migrate::MIGRATE,
    &monitor::MONITOR,
    &transaction::MULTI,
    &connection::PING,
    &pubsub::PSUBSCRIBE,
    &pubsub::PUBLISH,
    &pubsub::PUBSUB,
    &pubsub::PUNSUBSCRIBE,
    &connection::QUIT,
    &connection::RESET,
    &process::ROLE,
    &connection::SELECT,
    &process::SHUTDOWN,
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
