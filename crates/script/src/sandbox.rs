//! What a script can reach: the globals that Redis leaves, none of which it can change.
//!
//! Invariant: nothing that a script does to a state is seen by the next one, but for what the host lets
//! it do and for tables that the host hands out unprotected. There is no way to LuaJIT's own
//! extensions: no bytecode, no foreign functions, no debugger.
//! Read next: `sandbox.lua`, which does it; `source.rs` for what is refused before it is compiled.

use crate::libs::{Failure, Library};
use crate::source::{self, Results};
use mlua::{Function, IntoLua, LightUserData, Lua, MultiValue, Table, Value};
use std::cell::Cell;
use std::rc::Rc;

/// The generator of random numbers where nobody has seeded it: scripts go on where the last one stopped.
const RANDOM_START: u64 = 0x1234_abcd_330e;

/// What a script is told that writes where it must not.
pub(crate) const READONLY: &str = "Attempt to modify a readonly table";
/// The name under which a state keeps its unchangeable tables.
const PROTECTED: &str = "larder.protected";
/// Chunks of Larder's own, which stand where Redis has functions of C.
const OWN_CHUNKS: &[&str] = &["=redis", "=sandbox", "=patterns", "=raising"];

/// What a host needs of a state that is locked down.
#[derive(Clone, Debug)]
pub struct Sandbox {
    globals: Table,
    protect: Function,
    /// Makes `load` and `loadstring`.
    loaders: Function,
    /// Complains of a field that there is not.
    absent: Function,
}

/// Locks a state down. Of what the host put into its globals, `names` are kept, tables protected.
pub fn lock_down(lua: &Lua, names: &[&str]) -> mlua::Result<Sandbox> {
    let random = Rc::new(Cell::new(RANDOM_START));
    let library = Library::new(lua)?;
    let state = random.clone();
    let draw = library.raising(move |_, args| draw(&state, args))?;
    let state = random.clone();
    let seed = library.raising(move |_, args| {
        state.set(seeded(args.integer(1)?));
        Ok::<(), Failure>(())
    })?;
    let host = lua.create_table()?;
    for name in names {
        host.raw_set(*name, lua.globals().raw_get::<Value>(*name)?)?;
    }
    let null = Value::LightUserData(LightUserData(std::ptr::null_mut()));
    let prepare = lua.create_function(prepare)?;
    let chunk = lua.load(include_str!("sandbox.lua")).set_name("=sandbox");
    let place = lua.create_function(|lua, ()| Ok(place_of_caller(lua)))?;
    let place_at = lua.create_function(|lua, level: usize| Ok(place_at(lua, level)))?;
    let (globals, protect, behind, loaders, absent, of_pointers): (_, _, Table, _, _, _) =
        chunk.call((prepare, place, place_at, draw, seed, null, READONLY, host))?;
    lua.set_named_registry_value(PROTECTED, behind)?;
    lua.set_type_metatable::<LightUserData>(Some(of_pointers));
    Ok(Sandbox { globals, protect, loaders, absent })
}

impl Sandbox {
    /// The globals, which scripts see and can't change.
    pub fn globals(&self) -> &Table {
        &self.globals
    }

    /// Sets a global.
    pub fn set(&self, name: &str, value: impl IntoLua) -> mlua::Result<()> {
        self.globals.raw_set(name, value)
    }

    /// A table that scripts see in front of this one, and can't change.
    pub fn protect(&self, table: &Table) -> mlua::Result<Table> {
        self.protect.call(table)
    }

    /// Has a table complain of what is read and not there, as globals do.
    pub(crate) fn make_strict(&self, lua: &Lua, table: &Table) -> mlua::Result<()> {
        table.set_metatable(Some(lua.create_table_from([("__index", &self.absent)])?))
    }

    /// Other globals than those of scripts: what scripts see in front of a table that is strict.
    pub(crate) fn environment(&self, lua: &Lua, table: &Table) -> mlua::Result<Table> {
        self.make_strict(lua, table)?;
        let shown = self.protect(&lua.create_table_from([("__index", &self.absent)])?)?;
        let environment: Table = self.protect.call((table, shown))?;
        table.raw_set("_G", &environment)?;
        let (load, loadstring): (Function, Function) = self.loaders.call(&environment)?;
        table.raw_set("load", load)?;
        table.raw_set("loadstring", loadstring)?;
        Ok(environment)
    }
}

/// Whether all scripts see a table, and none may change it.
pub(crate) fn is_protected(lua: &Lua, table: &Table) -> mlua::Result<bool> {
    let protected: Option<Table> = lua.named_registry_value(PROTECTED)?;
    protected.map_or(Ok(false), |protected| protected.raw_get::<Value>(table).map(|real| !real.is_nil()))
}

/// The place on a level of the stack, as messages have it in front; level 1 is who called `error`. A function of C has
/// none, and a function of C with what Larder has around it, in Lua, is one level.
fn place_at(lua: &Lua, level: usize) -> String {
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Kind {
        Script,
        C,
        Own,
    }
    // Behind this function and `error`.
    const CALLER_LEVEL: usize = 2;
    let (mut levels, mut above) = (0, Kind::Script);
    for position in CALLER_LEVEL.. {
        let found = lua.inspect_stack(position, |debug| {
            let (source, line) = (debug.source(), debug.current_line());
            let kind = match source.source.as_deref() {
                _ if source.what == "C" => Kind::C,
                Some(name) if OWN_CHUNKS.contains(&name) => Kind::Own,
                _ => Kind::Script,
            };
            let place = source.short_src.zip(line).map(|(name, line)| format!("{name}:{line}: "));
            (kind, place.filter(|_| kind == Kind::Script))
        });
        let Some((kind, place)) = found else { break };
        levels += usize::from(kind != Kind::Own || above == Kind::Script);
        above = kind;
        if levels == level {
            return place.unwrap_or_default();
        }
    }
    String::new()
}

/// The place of what called `load`, as messages have it in front.
fn place_of_caller(lua: &Lua) -> String {
    /// Above are this function, the one that reads pieces, and `load`.
    const CALLER_LEVEL: usize = 3;
    let place = lua.inspect_stack(CALLER_LEVEL, |debug| {
        let (source, line) = (debug.source(), debug.current_line()?);
        Some(format!("{}:{line}: ", source.short_src?))
    });
    place.flatten().unwrap_or_default()
}

/// A source for LuaJIT; or nil, the line that is wrong and what is.
fn prepare(lua: &Lua, text: mlua::LuaString) -> mlua::Result<MultiValue> {
    let text = text.as_bytes();
    let answer = match source::prepare(&text, Results::All) {
        Ok(ready) => vec![Value::String(lua.create_string(ready)?)],
        Err(wrong) => {
            let message = Value::String(lua.create_string(wrong.text())?);
            vec![Value::Nil, Value::Integer(wrong.line as i64), message]
        }
    };
    Ok(MultiValue::from_vec(answer))
}

/// The state of the generator after `srand48`.
fn seeded(seed: i64) -> u64 {
    u64::from(seed as u32) << 16 | 0x330e
}

/// `math.random`: POSIX's `lrand48`, whose sequence is the same everywhere.
fn draw(state: &Cell<u64>, args: crate::libs::Args<'_>) -> Result<f64, Failure> {
    let next = state.get().wrapping_mul(0x5_deec_e66d).wrapping_add(0xb) & ((1 << 48) - 1);
    state.set(next);
    let number = ((next >> 17) % (i32::MAX as u64)) as f64 / f64::from(i32::MAX);
    match args.len() {
        0 => Ok(number),
        1 => {
            let high = args.integer(1)? as i32;
            if high < 1 {
                return Err(Failure::argument(1, "interval is empty"));
            }
            Ok((number * f64::from(high)).floor() + 1.0)
        }
        2 => {
            let (low, high) = (args.integer(1)? as i32, args.integer(2)? as i32);
            if low > high {
                return Err(Failure::argument(2, "interval is empty"));
            }
            let width = high.wrapping_sub(low).wrapping_add(1);
            Ok((number * f64::from(width)).floor() + f64::from(low))
        }
        _ => Err(Failure::message("wrong number of arguments")),
    }
}
