//! `cargo +nightly fuzz run --features fuzzing lzf`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::lzf(data));
