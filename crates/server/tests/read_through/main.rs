//! Keys that come from a store: fetched once, kept, given again, and what happens when the store says no.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../scenario/mod.rs"]
mod scenario;
mod shop;

mod age;
mod changes;
mod fetching;
mod routes;
mod writing;
