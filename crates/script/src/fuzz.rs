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

local function same_results(one, other)
    if not one[1] and not other[1] then
        -- A place may stand in front.
        return other[2]:sub(-#one[2]) == one[2]
    end
    local count = table.maxn(one)
    if count ~= table.maxn(other) then return false end
    for i = 1, count do
        if one[i] ~= other[i] then return false end
    end
    return true
end

local function all_of(gmatch, subject, pattern)
    local all = {}
    for a, b in gmatch(subject, pattern) do
        all[#all + 1] = tostring(a) .. '|' .. tostring(b)
        if #all > 100 then error('it never ends') end
    end
    return table.concat(all, ';')
end

local function patterns(long, own, pattern, text, subject, start)
    local function compare(name, call, ...)
        local one, other = { pcall(call, own, ...) }, { pcall(call, long, ...) }
        if not same_results(one, other) then
            local told = { name, table.concat({ tostring(one[2]), tostring(one[3]) }, ' '),
                table.concat({ tostring(other[2]), tostring(other[3]) }, ' ') }
            error(table.concat(told, ' / '), 0)
        end
    end
    for _, from in ipairs({ 1, start, -start }) do
        compare('find', function(by) return by.find(subject, pattern, from) end)
        compare('match', function(by) return by.match(subject, pattern, from) end)
    end
    compare('plain', function(by) return by.find(subject, pattern, start, true) end)
    compare('gmatch', function(by) return all_of(by.gmatch, subject, pattern) end)
    compare('gsub', function(by) return by.gsub(subject, pattern, text) end)
    compare('gsub few', function(by) return by.gsub(subject, pattern, text, start) end)
    local kinds = { a = 'X', b = 1, c = false, d = {} }
    compare('gsub table', function(by) return by.gsub(subject, pattern, kinds) end)
    compare('gsub function', function(by)
        return by.gsub(subject, pattern, function(a, b) return kinds[a] or b and a .. '!' end, start + 1)
    end)
end
return json, pack, layout, patterns
"#;

struct State {
    lua: Lua,
    json: Function,
    pack: Function,
    layout: Function,
    patterns: Function,
}

thread_local! {
    static STATE: State = state().expect("a state can be made");
}

fn state() -> mlua::Result<State> {
    let lua = Lua::new();
    // First: the functions that it replaces are LuaJIT's.
    let (long, own) = libs::patterns::install(&lua)?;
    libs::install(&lua)?;
    let (json, pack, layout, patterns): (_, _, _, Function) =
        lua.load(ROUND_TRIPS).set_name("=round_trips").eval()?;
    let patterns = patterns.bind((long, own))?;
    Ok(State { lua, json, pack, layout, patterns })
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

/// A pattern, a replacement and the start on lines of their own, and a subject: where it can be ended and where it can't, to match has
/// the same results.
pub fn fuzz_patterns(bytes: &[u8]) {
    /// More of them, and LuaJIT's functions take too long.
    const BYTES_MAX: usize = 14;
    let mut lines = bytes.splitn(4, |byte| *byte == b'\n');
    let mut line = || {
        let line = lines.next().unwrap_or_default();
        line.get(..BYTES_MAX).unwrap_or(line)
    };
    let (pattern, text, start, subject) = (line(), line(), line().len(), line());
    STATE.with(|state| {
        let string = |text| state.lua.create_string(text).expect("a string can be made");
        let called = state.patterns.call::<()>((string(pattern), string(text), string(subject), start));
        let told = called.map_err(|error| error.to_string());
        assert_eq!(told, Ok(()), "{}", bytes.escape_ascii());
    });
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
