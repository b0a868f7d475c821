//! What scripts see of Lua and its libraries, against a running redis-server (`REDIS_SERVER`).
//!
//! Each case is the body of a function that both run and whose results, or error, both show in the
//! same way. Cases run in order in one state, so that options set by one hold for the next.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cases;
mod functions;
mod harness;
#[path = "../../../values/tests/oracle/mod.rs"]
mod oracle;
mod random;
