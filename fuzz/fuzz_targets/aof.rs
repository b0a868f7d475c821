//! `cargo +nightly fuzz run --features fuzzing aof`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::aof(data));
