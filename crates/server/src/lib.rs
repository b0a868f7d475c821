//! The server: event loops, connections, execution, and the commands that need them.
//!
//! From socket to data: `worker.rs` (one turn of the event loop), `execute.rs` (one request),
//! `registry.rs` (the commands), then `larder-commands` and `larder-store`.
//!
//! `unsafe` stands in `alloc.rs` and in `io/writeback.rs` only; otherwise the kernel is reached through safe wrappers.
#![deny(unsafe_code)]

mod access;
mod admin;
pub mod alloc;
mod background;
mod blocked;
mod cache_report;
mod clients;
mod clock;
mod commands;
mod connection;
mod defrag;
mod door;
mod error_counts;
mod execute;
#[doc(hidden)]
pub mod fuzz;
mod histogram;
mod io;
mod journal;
mod latency;
mod listen;
mod load;
pub mod logging;
mod machine;
mod mailbox;
mod memory_report;
mod monitor;
mod process;
mod pubsub;
mod rates;
mod reaper;
mod registry;
mod resident;
mod scripts;
mod server;
mod slots;
mod slowlog;
mod snapshot;
mod start;
mod stats;
mod syslog;
mod through;
mod tls;
mod tracking;
mod transaction;
mod transfer;
mod worker;

pub use start::run;

/// The version of Larder.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The version of Redis whose commands and replies are spoken: what INFO and HELLO tell clients.
pub const REDIS_VERSION: &str = "8.2.3";
/// The same as a number, a byte for each part of it.
pub const REDIS_VERSION_NUMBER: i64 = 0x0008_0203;
