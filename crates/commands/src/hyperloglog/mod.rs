//! HyperLogLogs: counting distinct elements in at most 12 KiB, in the bytes that Redis keeps.
//!
//! The structure is `larder_values::hll`; here are the grammar and what is announced. A value is an
//! ordinary string, so GET, SET, DUMP and BITCOUNT work on it.
//! Read next: `count.rs`, then `debug.rs`.

mod count;
mod debug;

use crate::spec::Command;

/// The HyperLogLog commands, by name.
pub static COMMANDS: &[&Command] =
    &[&count::PFADD, &count::PFCOUNT, &debug::PFDEBUG, &count::PFMERGE, &debug::PFSELFTEST];
