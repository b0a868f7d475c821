//! `cargo +nightly fuzz run --features fuzzing hash`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::hash(data));
