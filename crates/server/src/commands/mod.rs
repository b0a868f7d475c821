//! Commands that need the server: connections, settings, other threads.
//!
//! Rows of the same declaration as data commands; see `larder_commands::spec`.

mod client;
mod connection;
mod monitor;

use crate::logging::LevelHandle;
use crate::registry::HostCommand;
use std::sync::OnceLock;

/// All commands of this crate.
pub static COMMANDS: &[&HostCommand] = &[
    &connection::AUTH,
    &client::CLIENT,
    &connection::ECHO,
    &connection::HELLO,
    &monitor::MONITOR,
    &connection::PING,
    &connection::QUIT,
    &connection::RESET,
    &connection::SELECT,
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
