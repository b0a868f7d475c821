//! `cargo +nightly fuzz run --features fuzzing cjson`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::cjson(data));
