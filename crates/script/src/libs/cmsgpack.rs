//! `cmsgpack`: MessagePack for scripts, with lua-cmsgpack's choices of formats.
//!
//! Invariant: what an input says it holds is believed only as far as its bytes reach; how deep it
//! is nested costs heap, never the thread's stack.

use super::{Args, Failure, Library, OutputMax, Results, ValueStack};
use mlua::{Lua, Table, Value};

/// Tables inside of tables that are written; deeper ones become nil.
const PACKED_DEPTH_MAX: usize = 16;

/// Places that a C function can have on Lua's stack; Redis' library stops where they end.
const LUA_STACK_MAX: usize = 8000;

/// Puts `cmsgpack` into the globals.
pub fn install(lua: &Lua) -> mlua::Result<()> {
    let library = Library::new(lua)?;
    library.value("_NAME", "cmsgpack")?;
    library.value("_VERSION", "lua-cmsgpack 0.4.0")?;
    library.value("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    library.value("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    library.function("pack", |lua, args| {
        if args.len() == 0 {
            return Err(Failure::argument(0, "MessagePack pack needs input."));
        }
        let mut out = Vec::new();
        for number in 1..=args.len() {
            pack(&mut out, OutputMax::of(lua), args.get(number).unwrap_or(&Value::Nil), 0)?;
        }
        Ok(lua.create_string(out)?)
    })?;
    library.function_of_many("unpack", |lua, args| unpack(lua, args, 0, 0))?;
    library.function_of_many("unpack_one", |lua, args| {
        let offset = args.integer_or(2, 0)?;
        unpack(lua, args, 1, offset)
    })?;
    library.function_of_many("unpack_limit", |lua, args| {
        let limit = args.integer(2)?;
        let offset = args.integer_or(3, 0)?;
        unpack(lua, args, limit, offset)
    })?;
    lua.globals().raw_set("cmsgpack", library.into_table())
}

/// Appends a value. The depth of its tables is bounded, and so is this recursion.
fn pack(out: &mut Vec<u8>, max: OutputMax, value: &Value, depth: usize) -> Result<(), Failure> {
    max.check(out.len())?;
    match value {
        Value::String(text) => {
            let text = text.as_bytes();
            push_head(out, &STRING, text.len());
            out.extend_from_slice(&text);
        }
        Value::Boolean(value) => out.push(0xc2 + u8::from(*value)),
        Value::Integer(value) => push_integer(out, *value),
        Value::Number(value) => push_number(out, *value),
        Value::Table(table) if depth < PACKED_DEPTH_MAX => pack_table(out, max, table, depth)?,
        _ => out.push(0xc0),
    }
    Ok(())
}

fn pack_table(out: &mut Vec<u8>, max: OutputMax, table: &Table, depth: usize) -> Result<(), Failure> {
    let (mut is_array, mut count, mut highest) = (true, 0_usize, 0_usize);
    for pair in table.pairs::<Value, bool>() {
        count += 1;
        match pair?.0 {
            // An int in C, like the others of this library.
            Value::Integer(index) if (1..=i64::from(i32::MAX)).contains(&index) => {
                highest = highest.max(index as usize)
            }
            _ => is_array = false,
        }
    }
    if is_array && count == highest {
        push_head(out, &ARRAY, count);
        for index in 1..=count {
            pack(out, max, &table.raw_get(index)?, depth + 1)?;
        }
        return Ok(());
    }
    push_head(out, &MAP, count);
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        pack(out, max, &key, depth + 1)?;
        pack(out, max, &value, depth + 1)?;
    }
    Ok(())
}

/// How the number of bytes or items is written: in the first byte, in one byte, in two, in four.
struct Head {
    small: u8,
    small_max: usize,
    byte: Option<u8>,
    two: u8,
    four: u8,
}

const STRING: Head = Head { small: 0xa0, small_max: 31, byte: Some(0xd9), two: 0xda, four: 0xdb };
const ARRAY: Head = Head { small: 0x90, small_max: 15, byte: None, two: 0xdc, four: 0xdd };
const MAP: Head = Head { small: 0x80, small_max: 15, byte: None, two: 0xde, four: 0xdf };

fn push_head(out: &mut Vec<u8>, head: &Head, count: usize) {
    match (count, head.byte) {
        (count, _) if count <= head.small_max => out.push(head.small | count as u8),
        (0..=0xff, Some(byte)) => out.extend_from_slice(&[byte, count as u8]),
        (0..=0xffff, _) => {
            out.push(head.two);
            out.extend_from_slice(&(count as u16).to_be_bytes());
        }
        _ => {
            out.push(head.four);
            out.extend_from_slice(&(count as u32).to_be_bytes());
        }
    }
}

/// Appends a number: as an integer if it is one, else in as few bytes as hold all of it.
fn push_number(out: &mut Vec<u8>, value: f64) {
    let integer = value as i64;
    if value.is_finite() && integer as f64 == value && value < i64::MAX as f64 {
        push_integer(out, integer);
    } else if f64::from(value as f32) == value {
        out.push(0xca);
        out.extend_from_slice(&(value as f32).to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends an integer in as few bytes as hold it.
fn push_integer(out: &mut Vec<u8>, value: i64) {
    let mut push = |head: u8, bytes: &[u8]| {
        out.push(head);
        out.extend_from_slice(bytes);
    };
    if (-32..=127).contains(&value) {
        push(value as u8, &[]);
    } else if let Ok(value) = u8::try_from(value) {
        push(0xcc, &value.to_be_bytes());
    } else if let Ok(value) = u16::try_from(value) {
        push(0xcd, &value.to_be_bytes());
    } else if let Ok(value) = u32::try_from(value) {
        push(0xce, &value.to_be_bytes());
    } else if let Ok(value) = u64::try_from(value) {
        push(0xcf, &value.to_be_bytes());
    } else if let Ok(value) = i8::try_from(value) {
        push(0xd0, &value.to_be_bytes());
    } else if let Ok(value) = i16::try_from(value) {
        push(0xd1, &value.to_be_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        push(0xd2, &value.to_be_bytes());
    } else {
        push(0xd3, &value.to_be_bytes());
    }
}

/// Up to `limit` values from `offset` on, and where the next one is; all of them and nothing else
/// if both are 0.
fn unpack<'l>(lua: &'l Lua, args: Args<'_>, limit: i64, offset: i64) -> Result<Results<'l>, Failure> {
    args.string(1)?.with(|input| {
        // The numbers in complaints are ints of C.
        let (length, shown) = (input.len(), offset as i32);
        if offset < 0 || limit < 0 {
            return Err(Failure::message(format!(
                "Invalid request to unpack with offset of {shown} and limit of {length}."
            )));
        }
        let Some(rest) = input.get(offset as usize..) else {
            return Err(Failure::message(format!(
                "Start offset {shown} greater than input length {length}."
            )));
        };
        let all = limit == 0 && offset == 0;
        let limit = if all { usize::MAX } else { limit as usize };
        let arguments = if all { args.len() } else { 1 };
        let mut unpacker = Unpacker::new(lua, rest, arguments);
        let mut values = Results::new(lua);
        while !unpacker.rest.is_empty() && values.len() < limit {
            values.push(unpacker.value()?)?;
            unpacker.lua_stack += 1;
        }
        if !all {
            let next = if unpacker.rest.is_empty() { -1 } else { (length - unpacker.rest.len()) as i64 };
            values.push_front(Value::Integer(next));
        }
        Ok(values)
    })
}

/// A table that is being read. It is on the stack.
struct Open {
    /// Values that are missing.
    missing: u64,
    place: Place,
}

/// Where a value goes.
enum Place {
    /// Behind the last index.
    Index(i64),
    /// It is a key.
    Key,
    /// It belongs to the key on the stack.
    Value,
}

impl Place {
    /// Places that Redis' library has on Lua's stack while it reads such a value: for the table, and
    /// for the index or the key.
    fn lua_stack(&self) -> usize {
        match self {
            Place::Key => 1,
            Place::Index(_) | Place::Value => 2,
        }
    }
}

struct Unpacker<'a> {
    lua: &'a Lua,
    rest: &'a [u8],
    /// Places that Redis' library would have on Lua's stack.
    lua_stack: usize,
    open: Vec<Open>,
    values: ValueStack<'a>,
}

/// What a head stands for.
enum Read {
    Value(Value),
    Array(u64),
    Map(u64),
}

impl<'a> Unpacker<'a> {
    fn new(lua: &'a Lua, rest: &'a [u8], lua_stack: usize) -> Unpacker<'a> {
        Unpacker { lua, rest, lua_stack, open: Vec::new(), values: ValueStack::new(lua) }
    }

    /// One value with everything in it.
    fn value(&mut self) -> Result<Value, Failure> {
        loop {
            if self.lua_stack >= LUA_STACK_MAX {
                return Err(stack_overflow(
                    "too many return values at once; use unpack_one or unpack_limit instead.",
                ));
            }
            let (missing, place) = match self.read()? {
                Read::Value(value) => match self.put(value)? {
                    Some(whole) => return Ok(whole),
                    None => continue,
                },
                Read::Array(_) if self.lua_stack + 1 >= LUA_STACK_MAX => {
                    return Err(stack_overflow("in function mp_decode_to_lua_array"));
                }
                Read::Array(count) => (count, Place::Index(0)),
                Read::Map(count) => (count * 2, Place::Key),
            };
            let table = Value::Table(self.lua.create_table()?);
            if missing > 0 {
                self.values.push(table)?;
                self.lua_stack += place.lua_stack();
                self.open.push(Open { missing, place });
            } else if let Some(whole) = self.put(table)? {
                return Ok(whole);
            }
        }
    }

    /// Puts a value into the table that is open; gives it back if none is, and so for a table that
    /// is filled by it.
    fn put(&mut self, mut value: Value) -> Result<Option<Value>, Failure> {
        while let Some(open) = self.open.last_mut() {
            self.lua_stack -= open.place.lua_stack();
            let table = match &mut open.place {
                Place::Key => {
                    self.values.push(value)?;
                    open.place = Place::Value;
                    None
                }
                Place::Index(index) => {
                    *index += 1;
                    let table = self.values.pop_table()?;
                    table.raw_set(*index, value)?;
                    Some(table)
                }
                Place::Value => {
                    let (key, table) = (self.values.pop()?, self.values.pop_table()?);
                    match key {
                        Value::Nil => return Err(Failure::Unplaced("table index is nil")),
                        Value::Number(number) if number.is_nan() => {
                            return Err(Failure::Unplaced("table index is NaN"));
                        }
                        key => table.raw_set(key, value)?,
                    }
                    open.place = Place::Key;
                    Some(table)
                }
            };
            open.missing -= 1;
            match table {
                Some(table) if open.missing == 0 => value = Value::Table(table),
                Some(table) => {
                    self.lua_stack += open.place.lua_stack();
                    self.values.push(Value::Table(table))?;
                    return Ok(None);
                }
                None => {
                    self.lua_stack += open.place.lua_stack();
                    return Ok(None);
                }
            }
            self.open.pop();
        }
        Ok(Some(value))
    }

    fn read(&mut self) -> Result<Read, Failure> {
        let [head] = self.bytes()?;
        Ok(Read::Value(match head {
            0x00..=0x7f => Value::Integer(i64::from(head)),
            0xe0..=0xff => Value::Integer(i64::from(head as i8)),
            0x80..=0x8f => return Ok(Read::Map(u64::from(head & 15))),
            0x90..=0x9f => return Ok(Read::Array(u64::from(head & 15))),
            0xa0..=0xbf => self.text(usize::from(head & 31))?,
            0xc0 => Value::Nil,
            0xc2 => Value::Boolean(false),
            0xc3 => Value::Boolean(true),
            0xca => Value::Number(f64::from(f32::from_be_bytes(self.bytes()?))),
            0xcb => Value::Number(f64::from_be_bytes(self.bytes()?)),
            0xcc => Value::Integer(i64::from(u8::from_be_bytes(self.bytes()?))),
            0xcd => Value::Integer(i64::from(u16::from_be_bytes(self.bytes()?))),
            0xce => Value::Integer(i64::from(u32::from_be_bytes(self.bytes()?))),
            0xcf | 0xd3 => Value::Integer(i64::from_be_bytes(self.bytes()?)),
            0xd0 => Value::Integer(i64::from(i8::from_be_bytes(self.bytes()?))),
            0xd1 => Value::Integer(i64::from(i16::from_be_bytes(self.bytes()?))),
            0xd2 => Value::Integer(i64::from(i32::from_be_bytes(self.bytes()?))),
            0xd9 => {
                let length = u8::from_be_bytes(self.bytes()?);
                self.text(usize::from(length))?
            }
            0xda => {
                let length = u16::from_be_bytes(self.bytes()?);
                self.text(usize::from(length))?
            }
            0xdb => {
                let length = u32::from_be_bytes(self.bytes()?);
                self.text(length as usize)?
            }
            0xdc => return Ok(Read::Array(u64::from(u16::from_be_bytes(self.bytes()?)))),
            0xdd => return Ok(Read::Array(u64::from(u32::from_be_bytes(self.bytes()?)))),
            0xde => return Ok(Read::Map(u64::from(u16::from_be_bytes(self.bytes()?)))),
            0xdf => return Ok(Read::Map(u64::from(u32::from_be_bytes(self.bytes()?)))),
            _ => return Err(Failure::message("Bad data format in input.")),
        }))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(missing_bytes)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn text(&mut self, length: usize) -> Result<Value, Failure> {
        let (text, rest) = self.rest.split_at_checked(length).ok_or_else(missing_bytes)?;
        self.rest = rest;
        Ok(Value::String(self.lua.create_string(text)?))
    }
}

fn missing_bytes() -> Failure {
    Failure::message("Missing bytes in input.")
}

fn stack_overflow(what: &str) -> Failure {
    Failure::message(format!("stack overflow ({what})"))
}
