//! The libraries that scripts have besides Lua's own: `bit`, `cjson`, `cmsgpack`, `struct`.
//!
//! Invariant: a script sees errors of these functions as Lua's own strings, with the place of the
//! call in front, and argument errors under the name that the caller used. An error of a Rust
//! function would reach the script's `pcall` as a userdata, so each function answers its error as
//! a first value, and a closure in Lua raises it.
//! Read next: `args.rs` for the rules that arguments follow.

mod args;
pub mod bit;
pub mod cjson;
pub mod cmsgpack;
pub(crate) mod number;
pub(crate) mod patterns;
pub mod structs;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use args::{Args, type_name};
pub(crate) use values::{Results, ValueStack};

use mlua::{Function, IntoLuaMulti, Lua, MultiValue, Table, Value};

/// The most bytes that one call may make out of its arguments: as many as the state may hold. What Rust
/// makes is not counted as the state's, and small tables that are in each other in many places are large
/// as text.
#[derive(Clone, Copy, Debug)]
pub struct OutputMax(pub usize);

impl OutputMax {
    /// What the host has set for a state, by [`Lua::set_app_data`]; Redis' limit of a string otherwise.
    fn of(lua: &Lua) -> OutputMax {
        lua.app_data_ref::<OutputMax>().map_or(OutputMax(512 << 20), |max| *max)
    }

    /// Whether there are not too many bytes yet.
    fn check(self, bytes: usize) -> Result<(), Failure> {
        if bytes <= self.0 { Ok(()) } else { Err(Failure::Unplaced("not enough memory")) }
    }
}

/// Puts all the libraries into the globals of a state.
pub fn install(lua: &Lua) -> mlua::Result<()> {
    cjson::install(lua)?;
    cmsgpack::install(lua)?;
    structs::install(lua)?;
    bit::install(lua)?;
    patterns::install(lua).map(drop)
}

/// Why a function of a library gives up.
pub(crate) enum Failure {
    /// Something about an argument, counted from 1; the place and the function's name are added.
    Argument(usize, Vec<u8>),
    /// An error with the place of the call in front.
    Message(Vec<u8>),
    /// An error with nothing in front: one that Lua raises and no library.
    Unplaced(&'static str),
    /// An error of Lua itself, which no script sees: no memory.
    Lua(mlua::Error),
}

impl Failure {
    /// An error about an argument.
    pub(crate) fn argument(number: usize, what: impl Into<Vec<u8>>) -> Failure {
        Failure::Argument(number, what.into())
    }

    /// An error with this text.
    pub(crate) fn message(text: impl Into<String>) -> Failure {
        Failure::Message(text.into().into_bytes())
    }
}

impl From<mlua::Error> for Failure {
    fn from(error: mlua::Error) -> Failure {
        Failure::Lua(error)
    }
}

/// `error`'s levels, as the closure that calls it sees them.
const CALLER_LEVEL: i64 = 2;
const NO_LEVEL: i64 = 0;

/// Adds functions to a table, each under its name.
pub(crate) struct Library<'a> {
    lua: &'a Lua,
    table: Table,
    raising: Function,
}

impl<'a> Library<'a> {
    /// An empty table for functions.
    pub(crate) fn new(lua: &'a Lua) -> mlua::Result<Library<'a>> {
        let raising = lua.load(include_str!("raising.lua")).set_name("=raising").into_function()?;
        Ok(Library { lua, table: lua.create_table()?, raising })
    }

    /// The function `name` of the table.
    pub(crate) fn function<F, R>(&self, name: &str, function: F) -> mlua::Result<()>
    where
        F: Fn(&Lua, Args<'_>) -> Result<R, Failure> + 'static,
        R: IntoLuaMulti,
    {
        self.table.raw_set(name, self.raising(function)?)
    }

    /// The function `name` of the table, with any number of results.
    pub(crate) fn function_of_many<F>(&self, name: &str, function: F) -> mlua::Result<()>
    where
        F: for<'l> Fn(&'l Lua, Args<'_>) -> Result<Results<'l>, Failure> + 'static,
    {
        self.table.raw_set(name, self.closure(move |lua, args| Ok(function(lua, args)?.into_answer()?))?)
    }

    /// The value `name` of the table.
    pub(crate) fn value(&self, name: &str, value: impl mlua::IntoLua) -> mlua::Result<()> {
        self.table.raw_set(name, value)
    }

    /// A function of its own that raises errors as Lua's functions do.
    pub(crate) fn raising<F, R>(&self, function: F) -> mlua::Result<Function>
    where
        F: Fn(&Lua, Args<'_>) -> Result<R, Failure> + 'static,
        R: IntoLuaMulti,
    {
        self.closure(move |lua, args| {
            let mut values = function(lua, args)?.into_lua_multi(lua)?;
            values.push_front(Value::Nil);
            Ok(values)
        })
    }

    /// The closure over a function that answers as `raising.lua` says.
    fn closure<F>(&self, function: F) -> mlua::Result<Function>
    where
        F: Fn(&Lua, Args<'_>) -> Result<MultiValue, Failure> + 'static,
    {
        let raw = self.lua.create_function(move |lua, values: MultiValue| {
            let failure = match function(lua, Args::new(&values.into_vec())) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let (text, level) = match failure {
                Failure::Argument(number, what) => (argument_error(lua, number, &what), CALLER_LEVEL),
                Failure::Message(text) => (text, CALLER_LEVEL),
                Failure::Unplaced(text) => (text.as_bytes().to_vec(), NO_LEVEL),
                Failure::Lua(error) => return Err(error),
            };
            (lua.create_string(text)?, level).into_lua_multi(lua)
        })?;
        self.raising.call(raw)
    }

    /// The table with what was added.
    pub(crate) fn into_table(self) -> Table {
        self.table
    }
}

/// The text of an error about an argument; the function is named as its caller names it.
fn argument_error(lua: &Lua, number: usize, what: &[u8]) -> Vec<u8> {
    /// Above the Rust function: the closure that raises its errors.
    const CLOSURE_LEVEL: usize = 1;
    let named = lua.inspect_stack(CLOSURE_LEVEL, |debug| {
        let names = debug.names();
        let name = names.name.map_or_else(|| "?".to_owned(), |name| name.into_owned());
        (name, names.name_what == Some("method"))
    });
    let (name, is_method) = named.unwrap_or_else(|| ("?".to_owned(), false));
    let text = match (is_method, number) {
        (true, 1) => format!("calling '{name}' on bad self ("),
        (true, number) => format!("bad argument #{} to '{name}' (", number.saturating_sub(1)),
        (false, number) => format!("bad argument #{number} to '{name}' ("),
    };
    [text.as_bytes(), what, b")"].concat()
}
