//! `cargo +nightly fuzz run --features fuzzing lua_values`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::lua_values(data));
