//! `cargo +nightly fuzz run --features fuzzing config`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::config(data));
