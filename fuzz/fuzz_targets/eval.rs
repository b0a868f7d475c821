//! `cargo +nightly fuzz run --features fuzzing eval`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::eval(data));
