//! The test harness: starts Larder and the reference servers, runs transcripts, compares replies.
//! Invariant: nothing here knows what a command means, `history.rs` apart; only the reference servers do.
//! Read next: tests/README.md for the transcripts, then `run.rs`.

#![forbid(unsafe_code)]

pub mod certificates;
pub mod client;
pub mod difftest;
pub mod history;
pub mod known;
pub mod run;
pub mod server;
pub mod session;
pub mod stage;
pub mod stores;
pub mod transcript;
pub mod value;

pub use certificates::Certificates;
pub use client::Client;
pub use server::{Larder, Redis70, Redis82, Server, Valkey, available};
pub use value::Value;
