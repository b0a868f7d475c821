//! The table `redis` of scripts: what is Lua of it stands in `redis.lua`, the rest here.
//!
//! Invariant: whatever a script does wrong is raised as a table with a field `err`.

use crate::convert::until_nul;
use crate::engine::{Info, Place, Shared, Ways};
use crate::libs::number::{lua_text, to_integer};
use crate::sandbox::{READONLY, is_protected};
use larder_resp::Protocol;
use mlua::{Function, Lua, LuaString, Table, Value};
use sha1::{Digest, Sha1};
use std::rc::Rc;

/// Where the table gets its wordings from.
const SOURCE: &str = include_str!("redis.lua");
/// Larder's own version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How the chunks of our own are called: no script's place.
pub(crate) const OWN_CHUNK: &str = "=redis";

/// Where Redis' own handler of errors writes into the table that was raised.
const HANDLER_PLACE: (&str, i64) = ("err_handler_def", 10);

/// What the table leaves behind for the engine.
pub(crate) struct Api {
    /// The table itself.
    pub(crate) redis: Table,
    /// The same as Valkey calls it, and what the server is.
    pub(crate) server: Table,
    /// `pcall` as scripts have it.
    pub(crate) pcall: Function,
    /// Run scripts.
    pub(crate) runs: Runs,
    /// Calls a function with what it is given, with the handler of errors around it.
    pub(crate) call: Function,
    /// The handler of errors, which scripts see as well.
    pub(crate) handler: Function,
}

/// Run a compiled script with the handler of errors around it. Each takes the script's number, whether its chunk is given the
/// words, and the words.
pub(crate) struct Runs {
    /// How many keys and how many arguments, and up to six words.
    pub(crate) few: Function,
    /// How many keys, and all words.
    pub(crate) many: Function,
    /// Tables of keys and arguments.
    pub(crate) listed: Function,
}

/// Makes the table. `slot` holds the compiled scripts and their globals; by `ways` the host is asked.
pub(crate) fn install(
    lua: &Lua,
    slot: &Table,
    ways: Ways,
    shared: &Rc<Shared>,
    info: &Info,
) -> mlua::Result<Api> {
    let redis = lua.create_table()?;
    let numbers = [
        ("LOG_DEBUG", 0),
        ("LOG_VERBOSE", 1),
        ("LOG_NOTICE", 2),
        ("LOG_WARNING", 3),
        ("REPL_NONE", 0),
        ("REPL_AOF", 1),
        ("REPL_SLAVE", 2),
        ("REPL_REPLICA", 2),
        ("REPL_ALL", 3),
        ("REDIS_VERSION_NUM", info.version_number),
    ];
    for (name, number) in numbers {
        redis.raw_set(name, number)?;
    }
    redis.raw_set("REDIS_VERSION", info.version)?;
    let native = lua.create_table()?;
    native.raw_set("sha1hex", lua.create_function(|_, text: LuaString| Ok(hex_digest(&text.as_bytes())))?)?;
    native.raw_set("integer", lua.create_function(|_, number: f64| Ok(to_integer(number) as f64))?)?;
    native.raw_set(
        "error_text",
        lua.create_function(|lua, text: LuaString| {
            let text = text.as_bytes();
            let text = until_nul(text.strip_prefix(b"-").unwrap_or(&text));
            // An error has a code.
            let code: &[u8] = if text.contains(&b' ') { b"" } else { b"ERR " };
            lua.create_string([code, text].concat())
        })?,
    )?;
    let protocol = Rc::clone(shared);
    native.raw_set(
        "set_resp",
        lua.create_function(move |_, version: i64| {
            protocol.protocol.set(if version == 3 { Protocol::Resp3 } else { Protocol::Resp2 });
            Ok(())
        })?,
    )?;
    native.raw_set("text_of", lua.create_function(|_, value: Value| Ok(text_of(&value)))?)?;
    let handler = lua.create_function(handle_error)?;
    native.raw_set("handler", &handler)?;
    let chunk = lua.load(SOURCE).set_name(OWN_CHUNK).into_function()?;
    for (name, way) in ["quick", "quick2", "quick3", "quick4"].into_iter().zip(ways.quick) {
        native.raw_set(name, way)?;
    }
    native.raw_set("limit", ways.limit)?;
    native.raw_set("ask", ways.ask)?;
    let (pcall, call, few, many, listed) = chunk.call((slot, &redis, native))?;
    let server = with_names(lua, &redis)?;
    Ok(Api { redis, server, pcall, runs: Runs { few, many, listed }, call, handler })
}

/// A copy of a table, with the names by which scripts tell servers apart. They are not in `redis`, whose fields are Redis'.
pub(crate) fn with_names(lua: &Lua, table: &Table) -> mlua::Result<Table> {
    let copy = lua.create_table()?;
    table.for_each(|name: Value, value: Value| copy.raw_set(name, value))?;
    copy.raw_set("SERVER_NAME", "larder")?;
    copy.raw_set("LARDER_VERSION", VERSION)?;
    copy.raw_set("LARDER_VERSION_NUM", version_number(VERSION))?;
    Ok(copy)
}

/// Major, minor and patch as one number, a byte each, as in REDIS_VERSION_NUM.
fn version_number(version: &str) -> i64 {
    version.split('.').fold(0, |number, part| number << 8 | part.parse::<i64>().unwrap_or(0) & 0xff)
}

/// The SHA-1 of `text` in hexadecimal digits.
pub fn hex_digest(text: &[u8]) -> String {
    Sha1::digest(text).iter().fold(String::with_capacity(40), |mut hex, byte| {
        use std::fmt::Write as _;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Makes a table of whatever was raised, and notes where that was. It runs where the error was raised: the script's
/// functions are still on the stack.
fn handle_error(lua: &Lua, error: Value) -> mlua::Result<Value> {
    let (table, place) = match error {
        // Nothing is noted in a table that all scripts see: Redis' handler, which is in Lua, fails at that.
        Value::Table(table) if is_protected(lua, &table)? => {
            let (chunk, line) = HANDLER_PLACE;
            let text = format!("{chunk}:{line}: {READONLY}");
            (table_of_error(lua, text.as_bytes())?, Some((format!("@{chunk}").into_bytes(), line)))
        }
        Value::Table(table) => (table, place_above(lua, 1)),
        other => (table_of_error(lua, &text_of(&other))?, place_above(lua, 1)),
    };
    if let Some((source, line)) = place {
        table.raw_set("source", lua.create_string(source)?)?;
        table.raw_set("line", line)?;
    }
    Ok(Value::Table(table))
}

fn table_of_error(lua: &Lua, text: &[u8]) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("err", lua.create_string([b"ERR ", text].concat())?)?;
    Ok(table)
}

/// Where the script is, at `level` of the stack or above: chunks of our own and C's functions have no place.
pub(crate) fn place_above(lua: &Lua, level: usize) -> Option<Place> {
    for level in level.. {
        let found = lua.inspect_stack(level, |debug| {
            let source = debug.source().source?.into_owned();
            (!source.starts_with('='))
                .then(|| (source.into_bytes(), debug.current_line().unwrap_or(0) as i64))
        })?;
        if found.is_some() {
            return found;
        }
    }
    None
}

/// What is said of a value that was raised.
pub(crate) fn text_of(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Error(error) => error_text(error),
        Value::Nil => b"nil".to_vec(),
        Value::Integer(number) => lua_text(*number as f64).into_bytes(),
        Value::Number(number) => lua_text(*number).into_bytes(),
        other => other.to_string().map_or_else(|_| other.type_name().into(), String::into_bytes),
    }
}

/// The text of an error as Lua has it, without what is added on its way through.
pub(crate) fn error_text(error: &mlua::Error) -> Vec<u8> {
    match error {
        mlua::Error::CallbackError { cause, .. } => error_text(cause),
        mlua::Error::RuntimeError(text)
        | mlua::Error::MemoryError(text)
        | mlua::Error::SyntaxError { message: text, .. } => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}
