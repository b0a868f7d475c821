//! `cargo +nightly fuzz run --features fuzzing list`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::list(data));
