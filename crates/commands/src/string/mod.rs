//! Strings: bytes under a key, read and written whole or in part, counted up and down.
//!
//! Invariant: a value is stored in one place, `set::store`, which announces it; every option word is
//! read in one place, `options.rs`.
//! Read next: `get.rs` and `set.rs` (the hot path), `options.rs` (the grammar), then any other.

mod conditional;
mod counter;
mod get;
mod increx;
mod lcs;
mod lease;
mod multi;
mod options;
mod range;
mod set;
mod throttle;

use crate::spec::Command;

/// The string commands, by name.
pub static COMMANDS: &[&Command] = &[
    &range::APPEND,
    &throttle::CL_THROTTLE,
    &counter::DECR,
    &counter::DECRBY,
    &conditional::DELEX,
    &conditional::DELIFEQ,
    &conditional::DIGEST,
    &get::GET,
    &get::GETDEL,
    &get::GETEX,
    &lease::GETLEASE,
    &range::GETRANGE,
    &set::GETSET,
    &counter::INCR,
    &counter::INCRBY,
    &counter::INCRBYFLOAT,
    &increx::INCREX,
    &lcs::LCS,
    &multi::MGET,
    &multi::MSET,
    &multi::MSETEX,
    &multi::MSETNX,
    &set::PSETEX,
    &set::SET,
    &set::SETEX,
    &lease::SETLEASE,
    &set::SETNX,
    &range::SETRANGE,
    &range::STRLEN,
    &range::SUBSTR,
];
