//! `cargo +nightly fuzz run --features fuzzing cmsgpack`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::cmsgpack(data));
