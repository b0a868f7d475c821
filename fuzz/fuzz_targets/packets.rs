//! `cargo +nightly fuzz run --features fuzzing packets`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::packets(data));
