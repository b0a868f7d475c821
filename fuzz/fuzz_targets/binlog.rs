//! `cargo +nightly fuzz run --features fuzzing binlog`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::binlog(data));
