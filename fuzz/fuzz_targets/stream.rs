//! `cargo +nightly fuzz run --features fuzzing stream`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::stream(data));
