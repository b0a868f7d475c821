//! Bodies of fuzz targets, plain functions so that a test on stable Rust runs them too.
//!
//! Each takes any bytes and panics only if an invariant is broken. They share one Lua state for each
//! thread, which has the libraries and nothing that an input could change.

mod replies;
mod values;

pub use values::fuzz_lua_values;

use crate::library;
use crate::libs;
use crate::source::{self, Results};
use mlua::{Function, Lua, LuaString};

/// Takes values apart and puts them together again. Numbers are compared as far as JSON carries them.
const ROUND_TRIPS: &str = r#"
local function same(a, b, format, depth)
    if type(a) ~= type(b) then return false end
    if type(a) == 'number' then
        return a == b or a ~= a and b ~= b or string.format(format, a) == string.format(format, b)
    end
    if type(a) ~= 'table' or depth > 14 then return type(a) == 'table' or a == b end
    for key, value in pairs(a) do
        -- A table as a key has no twin to be found by, and a number may have lost digits.
        local plain = type(key) == 'string' or type(key) == 'boolean'
        if plain and not same(value, b[key], format, depth + 1) then return false end
    end
    return true
end

local function json(text)
    local well, value = pcall(cjson.decode, text)
    if not well then return end
    local well, written = pcall(cjson.encode, value)
    if not well then return end
    local again = cjson.decode(written)
    assert(same(value, again, '%.14g', 0), 'JSON changed on its way')
end

local function pack(text)
    local values = { pcall(cmsgpack.unpack, text) }
    local count = table.maxn(values)
    if not values[1] then return end
    for i = 2, count do
        -- A table that is too deep to be packed becomes nil, which is no key.
        local well, again = pcall(cmsgpack.unpack, cmsgpack.pack(values[i]))
        local refused = not well and again == 'table index is nil'
        assert(refused or well and same(values[i], again, '%.17g', 0), 'MessagePack changed on its way')
    end
    pcall(cmsgpack.unpack_one, text, 1)
    pcall(cmsgpack.unpack_limit, text, 2, 3)
end

local function layout(format, data)
    pcall(struct.size, format)
    local results = { pcall(struct.unpack, format, data) }
    if results[1] then
        assert(results[#results] <= #data + 1, 'read behind the data')
    end
    pcall(struct.pack, format, #data, data, 2.5, data, -1, data, 1e300, data)
end
return json, pack, layout
"#;

struct State {
    lua: Lua,
    json: Function,
    pack: Function,
    layout: Function,
}

thread_local! {
    static STATE: State = state().expect("a state can be made");
}

fn state() -> mlua::Result<State> {
    let lua = Lua::new();
    libs::install(&lua)?;
    let (json, pack, layout) = lua.load(ROUND_TRIPS).set_name("=round_trips").eval()?;
    Ok(State { lua, json, pack, layout })
}

/// Calls one of the functions above.
fn call(function: fn(&State) -> &Function, arguments: &[&[u8]]) {
    STATE.with(|state| {
        let texts = arguments.iter().map(|text| state.lua.create_string(text));
        let texts: Vec<LuaString> = texts.collect::<mlua::Result<_>>().expect("a string can be made");
        let called = function(state).call::<()>(mlua::Variadic::from_iter(texts));
        called.expect("the round trip is whole");
    });
}

/// A text is refused or decoded, and what is encoded of it is decoded as the same.
pub fn fuzz_cjson(bytes: &[u8]) {
    call(|state| &state.json, &[bytes]);
}

/// An input is refused or unpacked, and what is packed of it is unpacked as the same.
pub fn fuzz_cmsgpack(bytes: &[u8]) {
    call(|state| &state.pack, &[bytes]);
}

/// The first line as a format, the rest as data: refused or unpacked, and never behind the data's end.
pub fn fuzz_struct(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (format, data) = bytes.split_at(end);
    call(|state| &state.layout, &[format, data.get(1..).unwrap_or_default()]);
}

/// What Lua takes it also takes when it is prepared, on as many lines.
pub fn fuzz_source(bytes: &[u8]) {
    let _ = library::parse(bytes);
    let short = source::prepare_script(bytes).map(|(ready, _)| ready);
    let all = [short, source::prepare(bytes, Results::First), source::prepare(bytes, Results::All)];
    for ready in all.into_iter().flatten() {
        let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines(bytes), lines(&ready), "lines moved");
        STATE.with(|state| {
            let load = |text: &[u8]| {
                state.lua.load(text).set_mode(mlua::chunk::ChunkMode::Text).set_name("=fuzz").into_function()
            };
            if load(bytes).is_ok() {
                let loaded = load(&ready).map(drop);
                assert!(loaded.is_ok(), "{loaded:?}: {}", ready.escape_ascii());
            }
        });
    }
}
