//! `cargo +nightly fuzz run --features fuzzing behind`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::behind(data));
