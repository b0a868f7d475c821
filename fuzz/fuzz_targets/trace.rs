//! `cargo +nightly fuzz run --features fuzzing trace`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::trace(data));
