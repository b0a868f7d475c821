//! `cargo +nightly fuzz run --features fuzzing lua_source`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::lua_source(data));
