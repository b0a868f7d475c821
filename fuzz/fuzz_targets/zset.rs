//! `cargo +nightly fuzz run --features fuzzing zset`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::zset(data));
