//! What libraries must not be made to do.

use super::{OutputMax, install};
use mlua::Lua;
use std::time::{Duration, Instant};

fn state() -> Lua {
    let lua = Lua::new();
    lua.set_app_data(OutputMax(1 << 20));
    install(&lua).unwrap();
    lua
}

/// Runs a script on a thread with little stack; gives what it returns, or the error.
fn run(script: &'static str) -> String {
    let run = move || {
        let lua = state();
        lua.load(script)
            .eval::<mlua::Value>()
            .map_or_else(|error| error.to_string(), |value| value.to_string().unwrap())
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(run).unwrap().join().unwrap()
}

#[test]
fn what_grows_beyond_the_state_is_refused() {
    for script in [
        "local t = {1} for i = 1, 200 do t = {t, t} end return cjson.encode(t)",
        "local t = {1} for i = 1, 200 do t = {a = t, b = t} end return cjson.encode(t)",
        "local t = {} for i = 1, 1000 do t[i] = string.rep('x', 1000) end for i = 1, 10 do t = {t, t, t, t} end return cmsgpack.pack(t)",
        "cjson.encode_sparse_array(false, 0) return cjson.encode({[2000000000] = 1})",
        "local s = string.rep('x', 1000000) return cjson.encode({s, s, s, s})",
        "local s = string.rep('x', 1000000) return struct.pack('ssss', s, s, s, s)",
        "return struct.pack('!1073741824' .. string.rep('bi32', 10000), 1)",
    ] {
        let error = run(script);
        assert!(
            error.contains("not enough memory") || error.contains("number expected"),
            "{script}: {error}"
        );
    }
}

#[test]
fn depth_costs_no_stack() {
    for (script, expected) in [
        (
            "cjson.decode_max_depth(1e6) return type(cjson.decode(string.rep('[', 7000) .. string.rep(']', 7000)))",
            "table",
        ),
        (
            "cjson.encode_max_depth(1e6) local t = {} for i = 1, 7000 do t = {t} end return #cjson.encode(t)",
            "14002",
        ),
        (
            "cjson.encode_max_depth(1e6) local t = {} for i = 1, 3900 do t = {a = t, b = 1} end return #cjson.encode(t) > 3900",
            "true",
        ),
        ("return type(cmsgpack.unpack(string.rep('\\145', 3900) .. '\\1'))", "table"),
        ("return type(cmsgpack.unpack(string.rep('\\129\\1', 3900) .. '\\1'))", "table"),
    ] {
        assert_eq!(run(script), expected, "{script}");
    }
}

#[test]
fn counts_are_not_believed() {
    let started = Instant::now();
    let lua = state();
    for script in [
        "return cmsgpack.unpack('\\221\\255\\255\\255\\255')",
        "return cmsgpack.unpack('\\223\\255\\255\\255\\255\\1\\1')",
        "return cmsgpack.unpack(string.rep('\\221\\255\\255\\255\\255', 1000))",
        "return cmsgpack.unpack('\\219\\255\\255\\255\\255x')",
        "return struct.unpack('c2147483647', 'x')",
    ] {
        let error = lua.load(script).exec().unwrap_err().to_string();
        assert!(
            error.contains("Missing bytes") || error.contains("data string too short"),
            "{script}: {error}"
        );
    }
    assert!(started.elapsed() < Duration::from_secs(5) && lua.used_memory() < 4 << 20);
}
