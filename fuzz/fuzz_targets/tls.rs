//! `cargo +nightly fuzz run --features fuzzing tls`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::tls(data));
