//! `cargo +nightly fuzz run --features fuzzing memcached`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::memcached(data));
