//! `bit`: LuaJIT's own library, which is the newer half of the same work as Redis', but for `tohex`:
//! that one knows 64 bits and so answers other numbers of digits.

use super::{Failure, Library, number};
use mlua::{Lua, StdLib, Table};

/// Puts `bit` into the globals.
pub fn install(lua: &Lua) -> mlua::Result<()> {
    lua.load_std_libs(StdLib::BIT)?;
    let bit: Table = lua.globals().raw_get("bit")?;
    let library = Library::new(lua)?;
    let tohex = library.raising(|_, args| {
        let value = to_bits(args.number(1)?);
        let digits = if args.len() < 2 { 8 } else { to_bits(args.number(2)?) };
        let count = digits.unsigned_abs().min(8) as usize;
        let text = if digits < 0 { format!("{value:08X}") } else { format!("{value:08x}") };
        Ok::<String, Failure>(text[8 - count..].to_owned())
    })?;
    bit.raw_set("tohex", tohex)
}

/// The low 32 bits of a number that is rounded to an integer.
fn to_bits(value: f64) -> i32 {
    number::to_integer(value.round_ties_even()) as i32
}
