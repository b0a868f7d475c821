//! Arguments as Lua's auxiliary library takes them: numbers for strings and the other way round,
//! and the same complaints.

use super::Failure;
use super::number;
use mlua::{LuaString, Value};

/// The arguments of one call.
#[derive(Clone, Copy)]
pub(crate) struct Args<'a>(&'a [Value]);

/// A string that was given, or that a number stands for.
pub(crate) enum Text {
    Lua(LuaString),
    Number(String),
}

impl Text {
    /// Hands over the bytes.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Text::Lua(text) => f(&text.as_bytes()),
            Text::Number(text) => f(text.as_bytes()),
        }
    }
}

impl<'a> Args<'a> {
    pub(crate) fn new(values: &'a [Value]) -> Args<'a> {
        Args(values)
    }

    /// How many there are.
    pub(crate) fn len(self) -> usize {
        self.0.len()
    }

    /// The argument `number`, counted from 1; nothing if it is not there.
    pub(crate) fn get(self, number: usize) -> Option<&'a Value> {
        self.0.get(number - 1)
    }

    /// Whether the argument is absent or nil.
    pub(crate) fn is_none_or_nil(self, number: usize) -> bool {
        matches!(self.get(number), None | Some(Value::Nil))
    }

    /// A string, or a number as one.
    pub(crate) fn string(self, number: usize) -> Result<Text, Failure> {
        match self.get(number) {
            Some(Value::String(text)) => Ok(Text::Lua(text.clone())),
            Some(&Value::Integer(value)) => Ok(Text::Number(number::lua_text(value as f64))),
            Some(&Value::Number(value)) => Ok(Text::Number(number::lua_text(value))),
            _ => Err(self.wrong_type(number, "string")),
        }
    }

    /// A number, or a string that reads as one.
    pub(crate) fn number(self, number: usize) -> Result<f64, Failure> {
        self.get(number).and_then(number::to_number).ok_or_else(|| self.wrong_type(number, "number"))
    }

    /// A number without what is behind its point.
    pub(crate) fn integer(self, number: usize) -> Result<i64, Failure> {
        self.number(number).map(number::to_integer)
    }

    /// An integer, or `default` if there is none.
    pub(crate) fn integer_or(self, number: usize, default: i64) -> Result<i64, Failure> {
        if self.is_none_or_nil(number) { Ok(default) } else { self.integer(number) }
    }

    /// The complaint about a type.
    pub(crate) fn wrong_type(self, number: usize, expected: &str) -> Failure {
        let got = self.get(number).map_or("no value", type_name);
        Failure::argument(number, format!("{expected} expected, got {got}"))
    }
}

/// The name of a value's type as `type` has it.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Boolean(_) => "boolean",
        Value::Integer(_) | Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Table(_) => "table",
        Value::Function(_) => "function",
        Value::Thread(_) => "thread",
        Value::LightUserData(_) | Value::UserData(_) | Value::Error(_) => "userdata",
        _ => "cdata",
    }
}
