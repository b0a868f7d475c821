//! Fuzz targets as plain functions: each takes any bytes and panics when something is wrong.
//!
//! Invariant: a target depends on nothing but its bytes. `fuzz_targets/` hands them to libFuzzer,
//! `tests/seeds.rs` runs them over `seeds/` and over seeded noise on a stable compiler.

mod commands;
mod eval;
mod hll;
mod memcached;
mod request;
mod rules;
mod tls;

pub use commands::commands;
pub use eval::eval;
pub use hll::hll;
pub use memcached::memcached;
pub use request::request;
pub use rules::rules;
pub use tls::tls;

/// Whatever lies in the place of a log or its manifest is refused or read, and written again it is the same.
pub fn aof(data: &[u8]) {
    larder_persist::fuzz::fuzz_aof(data);
}

/// Foreign files of a queue are read as far as they are right, and what is read comes back from its own bytes.
pub fn behind(data: &[u8]) {
    larder_behind::fuzz::fuzz_behind(data);
}

/// Foreign events of a binlog are refused or told: whole rows of the tables that are followed, and positions that can be read back.
pub fn binlog(data: &[u8]) {
    larder_source_mysql::fuzz::fuzz_binlog(data);
}

/// A JSON text of a script is refused or decoded, and what is encoded of it is decoded as the same.
pub fn cjson(data: &[u8]) {
    larder_script::fuzz::fuzz_cjson(data);
}

/// A script's MessagePack is refused or unpacked, and what is packed of it is unpacked as the same.
pub fn cmsgpack(data: &[u8]) {
    larder_script::fuzz::fuzz_cmsgpack(data);
}

/// A configuration that is accepted survives being rewritten; no text panics.
pub fn config(data: &[u8]) {
    larder_config::fuzz_config(data);
}

/// A payload of functions is refused or read, and what it holds comes back from its own bytes.
pub fn functions(data: &[u8]) {
    larder_persist::fuzz::fuzz_functions(data);
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

/// What Lua takes as a script it also takes when it is prepared, on as many lines.
pub fn lua_source(data: &[u8]) {
    larder_script::fuzz::fuzz_source(data);
}

/// What scripts make of replies, what becomes of their values, and what words of commands they are.
pub fn lua_values(data: &[u8]) {
    larder_script::fuzz::fuzz_lua_values(data);
}

/// Foreign packed elements are refused, or can be read from both ends and changed.
pub fn packed(data: &[u8]) {
    larder_values::fuzz::fuzz_packed(data);
}

/// Foreign packets of MySQL's protocol are refused or read.
pub fn packets(data: &[u8]) {
    larder_source_mysql::fuzz::fuzz_packets(data);
}

/// A pattern of Lua matches the same where it can be ended and where it can't.
pub fn patterns(data: &[u8]) {
    larder_script::fuzz::fuzz_patterns(data);
}

/// Whatever lies in an RDB file's place, the same is found or refused however it arrives, and each value holds what its type promises.
pub fn rdb_file(data: &[u8]) {
    larder_persist::fuzz::fuzz_rdb_file(data);
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

/// A layout of `struct` is refused or followed, and never behind the data's end.
pub fn structs(data: &[u8]) {
    larder_script::fuzz::fuzz_struct(data);
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
    ("aof", aof),
    ("behind", behind),
    ("binlog", binlog),
    ("cjson", cjson),
    ("cmsgpack", cmsgpack),
    ("commands", commands),
    ("config", config),
    ("eval", eval),
    ("functions", functions),
    ("glob", glob),
    ("hash", hash),
    ("hll", hll),
    ("list", list),
    ("lua_source", lua_source),
    ("lua_values", lua_values),
    ("lzf", lzf),
    ("memcached", memcached),
    ("packed", packed),
    ("packets", packets),
    ("patterns", patterns),
    ("rdb_file", rdb_file),
    ("request", request),
    ("restore", restore),
    ("rules", rules),
    ("set", set),
    ("stream", stream),
    ("struct", structs),
    ("tls", tls),
    ("trace", trace),
    ("zset", zset),
];
