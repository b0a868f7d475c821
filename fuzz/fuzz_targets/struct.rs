//! `cargo +nightly fuzz run --features fuzzing struct`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::structs(data));
