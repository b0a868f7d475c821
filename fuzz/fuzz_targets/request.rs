//! `cargo +nightly fuzz run --features fuzzing request`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::request(data));
