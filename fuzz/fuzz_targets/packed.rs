//! `cargo +nightly fuzz run --features fuzzing packed`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::packed(data));
