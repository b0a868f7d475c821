//! `cargo +nightly fuzz run --features fuzzing functions`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::functions(data));
