//! `cargo +nightly fuzz run --features fuzzing restore`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::restore(data));
