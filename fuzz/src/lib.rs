//! Fuzz targets as plain functions: each takes any bytes and panics when something is wrong.
//!
//! Invariant: a target depends on nothing but its bytes. `fuzz_targets/` hands them to libFuzzer,
//! `tests/seeds.rs` runs them over `seeds/` and over seeded noise on a stable compiler.

mod commands;
mod hll;
mod request;

pub use commands::commands;
pub use hll::hll;
pub use request::request;

/// Foreign files of a queue are read as far as they are right, and what is read comes back from its own bytes.
pub fn behind(data: &[u8]) {
    larder_behind::fuzz::fuzz_behind(data);
}

/// Foreign events of a binlog are refused or told: whole rows of the tables that are followed, and positions that can be read back.
pub fn binlog(data: &[u8]) {
    larder_source_mysql::fuzz::fuzz_binlog(data);
}

/// A configuration that is accepted survives being rewritten; no text panics.
pub fn config(data: &[u8]) {
    larder_config::fuzz_config(data);
}

/// The matcher agrees with a slow one that tries every way a `*` can be filled.
pub fn glob(data: &[u8]) {
    larder_values::fuzz::fuzz_glob(data);
}

/// A hash is the map that the same changes make.
pub fn hash(data: &[u8]) {
    larder_values::fuzz::fuzz_hash(data);
}

/// A list is the deque that the same changes make.
pub fn list(data: &[u8]) {
    larder_values::fuzz::fuzz_list(data);
}

/// Foreign packed elements are refused, or can be read from both ends and changed.
pub fn packed(data: &[u8]) {
    larder_values::fuzz::fuzz_packed(data);
}

/// Foreign packets of MySQL's protocol are refused or read.
pub fn packets(data: &[u8]) {
    larder_source_mysql::fuzz::fuzz_packets(data);
}

/// A payload for RESTORE is refused or gives a value that is dumped and restored as the same.
pub fn restore(data: &[u8]) {
    larder_persist::fuzz::fuzz_restore(data);
}

/// Foreign compressed bytes are refused or decompressed; what we compress comes back.
pub fn lzf(data: &[u8]) {
    larder_values::fuzz::fuzz_lzf(data);
}

/// A set is the one that the same changes make.
pub fn set(data: &[u8]) {
    larder_values::fuzz::fuzz_set(data);
}

/// Foreign nodes of streams are refused, or can be written again, trimmed and taken apart.
pub fn stream(data: &[u8]) {
    larder_values::fuzz::fuzz_stream(data);
}

/// Foreign traces are refused, or requests with keys in order of appearance, read back from CSV and KVT1 as they are.
pub fn trace(data: &[u8]) {
    larder_policy::sim::fuzz_trace(data);
}

/// A sorted set is the map that the same changes make, in order.
pub fn zset(data: &[u8]) {
    larder_values::fuzz::fuzz_zset(data);
}

/// A target: any bytes in, a panic when something is wrong.
pub type Target = fn(&[u8]);

/// Every target under its name, which is also that of its folder in `seeds/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("behind", behind),
    ("binlog", binlog),
    ("commands", commands),
    ("config", config),
    ("glob", glob),
    ("hash", hash),
    ("hll", hll),
    ("list", list),
    ("lzf", lzf),
    ("packed", packed),
    ("packets", packets),
    ("request", request),
    ("restore", restore),
    ("set", set),
    ("stream", stream),
    ("trace", trace),
    ("zset", zset),
];
