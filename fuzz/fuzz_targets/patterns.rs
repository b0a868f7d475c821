//! `cargo +nightly fuzz run --features fuzzing patterns`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::patterns(data));
