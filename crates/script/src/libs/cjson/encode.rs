//! Values as JSON.
//!
//! Invariant: few of Lua's values are held at once (see `libs/values.rs`): the pairs of a table are
//! fetched in portions.

use super::super::{Failure, OutputMax, ValueStack, number, type_name};
use super::{InvalidNumbers, Options};
use mlua::{Function, Lua, Table, Value};

/// Places that a C function can have on Lua's stack; Redis' cjson stops where they end.
const LUA_STACK_MAX: i64 = 8000;

/// Pairs of tables that are held at once.
const PAIRS_HELD_MAX: usize = 800;

/// Pairs that are fetched from a table at once.
const PAIRS_FETCHED_MAX: usize = 400;

/// A table that is being written.
enum Open {
    /// The table is on the stack.
    Array { next: i64, length: i64 },
    /// On the stack are the table and the last key that was fetched, or nil if that was the last one.
    Object {
        /// Fetched and not yet written, last first.
        fetched: Vec<(Value, Value)>,
        is_first: bool,
    },
}

struct Encoder<'a> {
    out: Vec<u8>,
    out_max: OutputMax,
    options: &'a Options,
    next: &'a Function,
    open: Vec<Open>,
    values: ValueStack<'a>,
    /// Places that Redis' cjson would have on Lua's stack.
    lua_stack: i64,
    pairs_held: usize,
}

/// The text of a value; `next` is Lua's function of that name.
pub(super) fn encode(
    lua: &Lua,
    value: &Value,
    options: &Options,
    next: &Function,
) -> Result<Vec<u8>, Failure> {
    let values = ValueStack::new(lua);
    let out_max = OutputMax::of(lua);
    let mut encoder = Encoder {
        out: Vec::new(),
        out_max,
        options,
        next,
        open: Vec::new(),
        values,
        lua_stack: 1,
        pairs_held: 0,
    };
    encoder.value(value)?;
    while let Some(open) = encoder.open.pop() {
        encoder.go_on(open)?;
    }
    Ok(encoder.out)
}

impl Encoder<'_> {
    /// Writes a value; of a table only what opens it.
    fn value(&mut self, value: &Value) -> Result<(), Failure> {
        self.out_max.check(self.out.len())?;
        match value {
            Value::String(text) => push_string(&mut self.out, &text.as_bytes()),
            Value::Integer(number) => self.number(*number as f64)?,
            Value::Number(number) => self.number(*number)?,
            Value::Boolean(true) => self.out.extend_from_slice(b"true"),
            Value::Boolean(false) => self.out.extend_from_slice(b"false"),
            Value::Table(table) => self.table(table)?,
            Value::Nil => self.out.extend_from_slice(b"null"),
            Value::LightUserData(pointer) if pointer.0.is_null() => self.out.extend_from_slice(b"null"),
            other => return Err(unsupported(other, "type not supported")),
        }
        Ok(())
    }

    fn number(&mut self, number: f64) -> Result<(), Failure> {
        if number.is_finite() {
            number::push_g(&mut self.out, number, self.options.number_digits as usize);
            return Ok(());
        }
        self.out.extend_from_slice(match self.options.encode_invalid {
            InvalidNumbers::Refused => {
                return Err(unsupported(&Value::Number(number), "must not be NaN or Inf"));
            }
            InvalidNumbers::Null => b"null",
            InvalidNumbers::Written if number.is_nan() => b"nan",
            InvalidNumbers::Written if number < 0.0 => b"-inf",
            InvalidNumbers::Written => b"inf",
        });
        Ok(())
    }

    fn table(&mut self, table: &Table) -> Result<(), Failure> {
        let depth = self.open.len() as i64 + 1;
        if depth > self.options.encode_depth_max || self.lua_stack + 3 > LUA_STACK_MAX {
            return Err(Failure::message(format!("Cannot serialise, excessive nesting ({depth})")));
        }
        match self.array_length(table)? {
            length @ 1.. => {
                self.lua_stack += 1;
                self.out.push(b'[');
                self.values.push(Value::Table(table.clone()))?;
                self.open.push(Open::Array { next: 1, length });
            }
            _ => {
                self.lua_stack += 2;
                self.out.push(b'{');
                let portion = self.portion();
                let pairs = table.pairs().take(portion);
                let mut fetched = pairs.collect::<mlua::Result<Vec<(Value, Value)>>>()?;
                let last = fetched.get(portion - 1).map_or(Value::Nil, |pair| pair.0.clone());
                self.pairs_held += fetched.len();
                fetched.reverse();
                self.values.push(Value::Table(table.clone()))?;
                self.values.push(last)?;
                self.open.push(Open::Object { fetched, is_first: true });
            }
        }
        Ok(())
    }

    /// The highest index of a table whose keys are all indices; 0 or less if it is none.
    fn array_length(&self, table: &Table) -> Result<i64, Failure> {
        let (mut length, mut items) = (0_i64, 0_i64);
        for pair in table.pairs::<Value, bool>() {
            match pair?.0 {
                // An int in C, which is the least one for an index beyond it.
                Value::Integer(index) if index > length => {
                    length = i32::try_from(index).map_or(i64::from(i32::MIN), i64::from);
                }
                Value::Integer(1..) => {}
                Value::Number(index) if index >= 1.0 && index == index.trunc() => {
                    length = i64::from(i32::MIN)
                }
                _ => return Ok(-1),
            }
            items += 1;
        }
        let Options { sparse_ratio: ratio, sparse_safe: safe, sparse_convert: convert, .. } = *self.options;
        if ratio > 0 && length > items.saturating_mul(ratio) && length > safe {
            return if convert {
                Ok(-1)
            } else {
                Err(Failure::message("Cannot serialise table: excessively sparse array"))
            };
        }
        Ok(length)
    }

    /// Writes what comes next of an open table, and keeps it open unless that was all.
    fn go_on(&mut self, open: Open) -> Result<(), Failure> {
        match open {
            Open::Array { next, length } => {
                if next > length {
                    self.out.push(b']');
                    self.lua_stack -= 1;
                    self.values.pop()?;
                    return Ok(());
                }
                if next > 1 {
                    self.out.push(b',');
                }
                let table = self.values.pop_table()?;
                let value = table.raw_get(next)?;
                self.values.push(Value::Table(table))?;
                self.below(Open::Array { next: next + 1, length }, &value)
            }
            Open::Object { mut fetched, mut is_first } => {
                if fetched.is_empty() {
                    self.fetch(&mut fetched)?;
                }
                let Some((key, value)) = fetched.pop() else {
                    self.out.push(b'}');
                    self.lua_stack -= 2;
                    self.values.pop()?;
                    self.values.pop()?;
                    return Ok(());
                };
                self.pairs_held -= 1;
                if !std::mem::take(&mut is_first) {
                    self.out.push(b',');
                }
                self.key(&key)?;
                self.below(Open::Object { fetched, is_first }, &value)
            }
        }
    }

    /// Writes a value inside of an open table, which stays open.
    fn below(&mut self, open: Open, value: &Value) -> Result<(), Failure> {
        self.open.push(open);
        self.value(value)
    }

    fn key(&mut self, key: &Value) -> Result<(), Failure> {
        match key {
            Value::String(text) => push_string(&mut self.out, &text.as_bytes()),
            Value::Integer(_) | Value::Number(_) => {
                self.out.push(b'"');
                self.value(key)?;
                self.out.push(b'"');
            }
            other => return Err(unsupported(other, "table key must be a number or string")),
        }
        self.out.push(b':');
        Ok(())
    }

    /// Fetches more pairs of the table that is on the stack.
    fn fetch(&mut self, fetched: &mut Vec<(Value, Value)>) -> Result<(), Failure> {
        let (mut last, table) = (self.values.pop()?, self.values.pop_table()?);
        for _ in 0..self.portion() {
            if last.is_nil() {
                break;
            }
            let (key, value): (Value, Value) = self.next.call((&table, &last))?;
            last = key.clone();
            if !key.is_nil() {
                fetched.push((key, value));
            }
        }
        self.values.push(Value::Table(table))?;
        self.values.push(last)?;
        self.pairs_held += fetched.len();
        fetched.reverse();
        Ok(())
    }

    /// How many pairs may be fetched at once.
    fn portion(&self) -> usize {
        PAIRS_HELD_MAX.saturating_sub(self.pairs_held).clamp(1, PAIRS_FETCHED_MAX)
    }
}

fn unsupported(value: &Value, reason: &str) -> Failure {
    Failure::message(format!("Cannot serialise {}: {reason}", type_name(value)))
}

/// Appends a string in quotes; a slash and DEL are escaped as well.
fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut plain = 0;
    for (at, &byte) in text.iter().enumerate() {
        let short = match byte {
            b'"' | b'\\' | b'/' => byte,
            8 => b'b',
            9 => b't',
            10 => b'n',
            12 => b'f',
            13 => b'r',
            0..=31 | 127 => b'u',
            _ => continue,
        };
        out.extend_from_slice(&text[plain..at]);
        plain = at + 1;
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(format!("{byte:04x}").as_bytes());
        }
    }
    out.extend_from_slice(&text[plain..]);
    out.push(b'"');
}
