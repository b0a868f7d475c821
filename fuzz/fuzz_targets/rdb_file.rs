//! `cargo +nightly fuzz run --features fuzzing rdb_file`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::rdb_file(data));
