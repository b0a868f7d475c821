//! `cargo +nightly fuzz run --features fuzzing glob`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::glob(data));
