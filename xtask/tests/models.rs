//! The lock and wake-up protocols under every interleaving of threads: the files of the server and the
//! store themselves, compiled alone with loom's primitives. Each holds its own models.
//!
//! `./test` runs it with `RUSTFLAGS='--cfg loom'`; without, there is nothing here. Compiled here and
//! not in their crates, since the whole server would be compiled once more for it.
#![cfg(loom)]
#![allow(dead_code, missing_docs, reason = "the files are parts of other crates")]

// `world.rs` pads its flags with it.
use crossbeam_utils as _;

#[path = "../../crates/server/src/journal/held.rs"]
mod held;
#[path = "../../crates/server/src/mailbox.rs"]
mod mailbox;
#[path = "../../crates/store/src/world.rs"]
mod world;
