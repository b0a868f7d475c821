//! `cargo +nightly fuzz run --features fuzzing rules`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::rules(data));
