//! `cjson`: JSON for scripts, with lua-cjson's options and its words for what is wrong.
//!
//! Invariant: how deep a text or a table is nested costs heap, never the thread's stack.

mod decode;
mod encode;

use decode::Decoder;

use super::{Args, Failure, Library};
use mlua::{Function, IntoLuaMulti, LightUserData, Lua, MultiValue, Table, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// What the functions of one library table are set to.
#[derive(Clone, Debug)]
struct Options {
    /// Sparse arrays become objects instead of errors.
    sparse_convert: bool,
    /// An array is sparse with more places than this for each item; 0 for never.
    sparse_ratio: i64,
    /// No array is sparse that is not longer than this.
    sparse_safe: i64,
    encode_depth_max: i64,
    decode_depth_max: i64,
    number_digits: i64,
    keep_buffer: bool,
    encode_invalid: InvalidNumbers,
    /// Hexadecimal numbers, infinities and NaNs are read.
    decode_invalid: bool,
}

/// What becomes of infinities and NaNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InvalidNumbers {
    Refused,
    Written,
    Null,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth_max: 1000,
            decode_depth_max: 1000,
            number_digits: 14,
            keep_buffer: true,
            encode_invalid: InvalidNumbers::Refused,
            decode_invalid: true,
        }
    }
}

/// Puts `cjson` into the globals.
pub fn install(lua: &Lua) -> mlua::Result<()> {
    let next = lua.globals().raw_get("next")?;
    lua.globals().raw_set("cjson", library(lua, next)?)
}

/// A table of functions with options of its own; `next` is Lua's function of that name.
fn library(lua: &Lua, next: Function) -> mlua::Result<Table> {
    let options = Rc::new(RefCell::new(Options::default()));
    let library = Library::new(lua)?;
    library.value("null", null())?;
    library.value("_NAME", "cjson")?;
    library.value("_VERSION", "2.1.0")?;
    let (shared, of_tables) = (options.clone(), next.clone());
    library.function("encode", move |lua, args| {
        one_argument(args)?;
        let value = args.get(1).cloned().unwrap_or(Value::Nil);
        let text = encode::encode(lua, &value, &shared.borrow(), &of_tables)?;
        Ok(lua.create_string(text)?)
    })?;
    let shared = options.clone();
    library.function("decode", move |lua, args| {
        one_argument(args)?;
        args.string(1)?.with(|text| Decoder::new(lua, text, &shared.borrow()).decode())
    })?;
    library.function("new", move |lua, _| Ok(self::library(lua, next.clone())?))?;
    settings(&library, &options)?;
    Ok(library.into_table())
}

/// The functions that read and change options.
fn settings(library: &Library<'_>, options: &Rc<RefCell<Options>>) -> mlua::Result<()> {
    let add = |name: &str, run: fn(&mut Options, Args<'_>) -> Result<Value, Failure>| {
        let options = options.clone();
        library.function(name, move |_, args| {
            at_most(args, 1)?;
            run(&mut options.borrow_mut(), args)
        })
    };
    add("encode_max_depth", |options, args| integer(args, 1, &mut options.encode_depth_max, 1, INT_MAX))?;
    add("decode_max_depth", |options, args| integer(args, 1, &mut options.decode_depth_max, 1, INT_MAX))?;
    add("encode_number_precision", |options, args| integer(args, 1, &mut options.number_digits, 1, 14))?;
    add("encode_keep_buffer", |options, args| boolean(args, 1, &mut options.keep_buffer))?;
    add("decode_invalid_numbers", |options, args| boolean(args, 1, &mut options.decode_invalid))?;
    let shared = options.clone();
    library.function("encode_invalid_numbers", move |lua, args| {
        at_most(args, 1)?;
        let setting = &mut shared.borrow_mut().encode_invalid;
        invalid_numbers(args, setting)?;
        Ok(match setting {
            InvalidNumbers::Refused => Value::Boolean(false),
            InvalidNumbers::Written => Value::Boolean(true),
            InvalidNumbers::Null => Value::String(lua.create_string("null")?),
        })
    })?;
    let options = options.clone();
    library.function("encode_sparse_array", move |lua, args| {
        at_most(args, 3)?;
        let options = &mut *options.borrow_mut();
        let convert = boolean(args, 1, &mut options.sparse_convert)?;
        let ratio = integer(args, 2, &mut options.sparse_ratio, 0, INT_MAX)?;
        let safe = integer(args, 3, &mut options.sparse_safe, 0, INT_MAX)?;
        Ok::<MultiValue, Failure>((convert, ratio, safe).into_lua_multi(lua)?)
    })
}

/// `null` in Lua: a pointer to nothing, which is not nil and so can stand in a table.
fn null() -> Value {
    Value::LightUserData(LightUserData(std::ptr::null_mut()))
}

const INT_MAX: i64 = i32::MAX as i64;

fn one_argument(args: Args<'_>) -> Result<(), Failure> {
    if args.len() == 1 { Ok(()) } else { Err(Failure::argument(1, "expected 1 argument")) }
}

fn at_most(args: Args<'_>, count: usize) -> Result<(), Failure> {
    if args.len() <= count {
        return Ok(());
    }
    Err(Failure::argument(count + 1, "found too many arguments"))
}

/// Sets an integer if one is given; answers what is set.
fn integer(args: Args<'_>, number: usize, setting: &mut i64, min: i64, max: i64) -> Result<Value, Failure> {
    if !args.is_none_or_nil(number) {
        // An int in C: of larger numbers the low bits count.
        let value = i64::from(args.integer(number)? as i32);
        if !(min..=max).contains(&value) {
            return Err(Failure::argument(1, format!("expected integer between {min} and {max}")));
        }
        *setting = value;
    }
    Ok(Value::Integer(*setting))
}

/// Sets a boolean if one, "on" or "off" is given; answers what is set.
fn boolean(args: Args<'_>, number: usize, setting: &mut bool) -> Result<Value, Failure> {
    match args.get(number) {
        None | Some(Value::Nil) => {}
        Some(Value::Boolean(value)) => *setting = *value,
        Some(_) => *setting = option(args, number, &["off", "on"])? == 1,
    }
    Ok(Value::Boolean(*setting))
}

/// Sets what becomes of invalid numbers if something is given.
fn invalid_numbers(args: Args<'_>, setting: &mut InvalidNumbers) -> Result<(), Failure> {
    match args.get(1) {
        None | Some(Value::Nil) => {}
        Some(Value::Boolean(true)) => *setting = InvalidNumbers::Written,
        Some(Value::Boolean(false)) => *setting = InvalidNumbers::Refused,
        Some(_) => {
            *setting = match option(args, 1, &["off", "on", "null"])? {
                0 => InvalidNumbers::Refused,
                1 => InvalidNumbers::Written,
                _ => InvalidNumbers::Null,
            }
        }
    }
    Ok(())
}

/// Which of the options an argument names.
fn option(args: Args<'_>, number: usize, options: &[&str]) -> Result<usize, Failure> {
    args.string(number)?.with(|given| {
        options
            .iter()
            .position(|option| option.as_bytes() == given)
            .ok_or_else(|| Failure::argument(number, [b"invalid option '", given, b"'"].concat()))
    })
}
