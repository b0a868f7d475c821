//! `cargo +nightly fuzz run --features fuzzing hll`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::hll(data));
