//! `cargo +nightly fuzz run --features fuzzing set`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::set(data));
