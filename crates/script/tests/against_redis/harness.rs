//! Runs cases here and there.

use crate::oracle::{Oracle, Reply};
use larder_script::source::{self, Results};
use larder_script::{libs, sandbox};
use mlua::{Lua, LuaString, StdLib};

/// Shows any value in one way, tables by the order of their keys. Kept on one line: a case starts on line 1.
const SHOW: &str = r#"
local function show(v, d)
    local t = type(v)
    if t == 'number' then
        if v ~= v then return 'nan' end
        return string.format('%.17g', v)
    elseif t == 'string' then
        return "'" .. string.gsub(v, '[^%w%p ]', function(c) return '\\' .. string.byte(c) end) .. "'"
    elseif t == 'table' then
        if d > 12 then return '{...}' end
        local items, seen = {}, {}
        for key, value in pairs(v) do
            items[#items + 1] = show(key, d + 1) .. '=' .. show(value, d + 1)
        end
        table.sort(items)
        return '{' .. table.concat(items, ',') .. '}'
    elseif t == 'function' or t == 'thread' or t == 'userdata' then
        return t
    end
    return tostring(v)
end
local function all(...)
    local out = {}
    for i = 1, select('#', ...) do
        out[i] = show((select(i, ...)), 0)
    end
    return table.concat(out, ' ')
end
"#;

/// The script of a case.
pub fn script(case: &str) -> Vec<u8> {
    let show = SHOW.replace('\n', " ");
    format!("{show} local function run() {case}\nend return all(pcall(run))").into_bytes()
}

/// A state as the engine makes it.
pub fn state() -> Lua {
    let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::OS;
    let lua = Lua::new_with(libraries, mlua::LuaOptions::new()).unwrap();
    libs::install(&lua).unwrap();
    let kept = ["bit", "cjson", "cmsgpack", "struct"];
    let sandbox = sandbox::lock_down(&lua, &kept).unwrap();
    sandbox.set("KEYS", lua.create_table().unwrap()).unwrap();
    sandbox.set("ARGV", lua.create_table().unwrap()).unwrap();
    lua
}

/// What a case shows here.
pub fn run(lua: &Lua, script: &[u8]) -> Vec<u8> {
    let prepared = match source::prepare(script, Results::First) {
        Ok(prepared) => prepared,
        Err(wrong) => return [b"user_script:", &wrong.message()[..]].concat(),
    };
    match lua.load(&*prepared).set_name("@user_script").eval::<LuaString>() {
        Ok(text) => text.as_bytes().to_vec(),
        Err(error) => error.to_string().into_bytes(),
    }
}

/// A case and what it shows here, if that is not what it shows there.
pub type Case = (String, Option<String>);

/// Runs every case on both sides and tells of all that differ without its being known.
pub fn compare(cases: &[Case]) {
    let Some(mut oracle) = Oracle::start() else { return };
    let lua = state();
    let commands: Vec<_> =
        cases.iter().map(|case| vec![b"EVAL".to_vec(), script(&case.0), b"0".to_vec()]).collect();
    let replies = oracle.pipeline(&commands);
    let mut differences = String::new();
    for (((case, known), command), reply) in cases.iter().zip(&commands).zip(replies) {
        let (theirs, ours) = (shown(reply), run(&lua, &command[1]));
        let same = ours == theirs || !is_shown(&theirs) && ours.ends_with(&theirs);
        let (theirs, ours) = (theirs.escape_ascii().to_string(), ours.escape_ascii().to_string());
        match known {
            None if !same => differences += &format!("{case}\n    redis:  {theirs}\n    larder: {ours}\n"),
            Some(_) if same => differences += &format!("{case}\n    does not differ: {ours}\n"),
            Some(known) if *known != ours => {
                differences += &format!("{case}\n    known:  {known}\n    larder: {ours}\n");
            }
            _ => {}
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

fn is_shown(text: &[u8]) -> bool {
    text.starts_with(b"true") || text.starts_with(b"false")
}

/// What a case shows there; of an error that stops the script, what follows the script's name.
fn shown(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Bulk(text) => text,
        Reply::Error(text) => {
            let at = text.windows(12).position(|part| part == b"user_script:").unwrap_or(0);
            text[at..].to_vec()
        }
        other => panic!("not shown: {other:?}"),
    }
}
