//! Every data command: one declaration that holds its name, arity, flags, keys, categories,
//! arguments and documentation, beside the function that carries it out.
//!
//! A command is synchronous and knows no socket, thread or clock: a test calls it in microseconds.
//! From the declarations come dispatch, arity errors, COMMAND and its subcommands, locking, the
//! memory check, routing and the documentation.
//!
//! Read next: `spec.rs` (what a declaration says), `cx.rs` (what a command gets), then any family,
//! for example `string/`.
#![forbid(unsafe_code)]

#[cfg(test)]
mod alike;
mod args;
pub mod bitmap;
pub mod command_info;
mod cx;
mod error;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod keys;
mod keys_of;
pub mod list;
mod logged;
pub mod memcached;
#[cfg(test)]
mod recorded;
pub mod set;
pub mod spec;
pub mod stream;
pub mod string;
#[cfg(test)]
mod testing;
pub mod wait;
pub mod zset;

pub use args::Args;
pub use cx::{Ctx, KeyspaceCtx, Limits, ReplyStr, database_number};
pub use error::Error;
pub use keys_of::{KeyAt, KeysError, keys_of};
pub use spec::{Command, Run, Spec};

/// Every command of this crate.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    FAMILIES.iter().flat_map(|family| family.iter().copied())
}

/// The families, each a table that stands at the end of its file.
static FAMILIES: &[&[&Command]] = &[
    keys::COMMANDS,
    string::COMMANDS,
    list::COMMANDS,
    hash::COMMANDS,
    set::COMMANDS,
    zset::COMMANDS,
    geo::COMMANDS,
    stream::COMMANDS,
    bitmap::COMMANDS,
    hyperloglog::COMMANDS,
];
