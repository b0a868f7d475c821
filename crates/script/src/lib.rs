//! Scripts: Lua 5.1 as Redis has it. A script sees what a host gives it and nothing else: no files, no clock, no sockets.
//!
//! [`Engine`] holds one Lua state, for one thread, and runs scripts in it; what they ask of the server goes to a
//! [`Host`]. Read next: `engine.rs`, then `convert.rs` for how values and replies become each other, `libs/mod.rs` for the
//! libraries that scripts have, `source.rs` for what is done to a script's text, `sandbox.rs` for what is kept from them.

mod convert;
mod engine;
#[doc(hidden)]
pub mod fuzz;
mod header;
pub mod library;
pub mod libs;
mod redis_api;
pub mod sandbox;
pub mod source;

pub use engine::{Compiled, Ended, Engine, Failure, Host, Info, Place, Verdict, Words};
pub use header::{Flags, Header, parse as parse_header};
pub use redis_api::hex_digest;
