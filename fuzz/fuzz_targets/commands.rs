//! `cargo +nightly fuzz run --features fuzzing commands`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::commands(data));
