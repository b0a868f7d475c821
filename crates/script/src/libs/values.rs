//! Any number of Lua's values at once.
//!
//! mlua keeps a reference for each string and table that Rust holds, and has room for some 8,000 of
//! them. Invariant: these keep a few hundred, and the others in a table of Lua's.

use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};

/// How many values are kept by reference.
const HELD_MAX: usize = 256;

/// Values of which the last come out first.
pub(crate) struct ValueStack<'a> {
    lua: &'a Lua,
    held: Vec<Value>,
    /// Older values, and how many.
    older: Option<Table>,
    older_count: usize,
}

impl<'a> ValueStack<'a> {
    pub(crate) fn new(lua: &'a Lua) -> ValueStack<'a> {
        ValueStack { lua, held: Vec::new(), older: None, older_count: 0 }
    }

    pub(crate) fn push(&mut self, value: Value) -> mlua::Result<()> {
        if self.held.len() == HELD_MAX {
            let older = match &mut self.older {
                Some(older) => older,
                none => none.insert(self.lua.create_table()?),
            };
            for value in self.held.drain(..HELD_MAX / 2) {
                self.older_count += 1;
                older.raw_set(self.older_count, value)?;
            }
        }
        self.held.push(value);
        Ok(())
    }

    /// The last value; nil if there is none.
    pub(crate) fn pop(&mut self) -> mlua::Result<Value> {
        if let (true, Some(older)) = (self.held.is_empty(), &self.older) {
            let first = self.older_count - self.older_count.min(HELD_MAX / 2);
            for index in first..self.older_count {
                self.held.push(older.raw_get(index + 1)?);
                older.raw_set(index + 1, Value::Nil)?;
            }
            self.older_count = first;
        }
        Ok(self.held.pop().unwrap_or(Value::Nil))
    }

    /// The last value, which is a table.
    pub(crate) fn pop_table(&mut self) -> mlua::Result<Table> {
        match self.pop()? {
            Value::Table(table) => Ok(table),
            _ => Err(mlua::Error::runtime("a table is not where it was put")),
        }
    }
}

/// Results of a function, in order.
pub(crate) struct Results<'a> {
    lua: &'a Lua,
    first: Option<Value>,
    held: Vec<Value>,
    /// All of them but the first if there are many, and how many.
    all: Option<Table>,
    count: usize,
}

impl<'a> Results<'a> {
    pub(crate) fn new(lua: &'a Lua) -> Results<'a> {
        Results { lua, first: None, held: Vec::new(), all: None, count: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn push(&mut self, value: Value) -> mlua::Result<()> {
        self.count += 1;
        if let Some(all) = &self.all {
            return all.raw_set(self.count, value);
        }
        self.held.push(value);
        if self.held.len() > HELD_MAX {
            self.all = Some(self.lua.create_sequence_from(self.held.drain(..))?);
        }
        Ok(())
    }

    /// The last one, taken away.
    pub(crate) fn pop(&mut self) -> mlua::Result<Option<Value>> {
        if self.count == 0 {
            return Ok(None);
        }
        self.count -= 1;
        match &self.all {
            Some(all) => {
                let value = all.raw_get(self.count + 1)?;
                all.raw_set(self.count + 1, Value::Nil)?;
                Ok(Some(value))
            }
            None => Ok(self.held.pop()),
        }
    }

    /// Puts one value in front of all that are pushed.
    pub(crate) fn push_front(&mut self, value: Value) {
        self.first = Some(value);
    }

    /// What the closure that calls the function makes its results of: see `raising.lua`.
    pub(crate) fn into_answer(self) -> mlua::Result<MultiValue> {
        match self.all {
            // There is a place 0 in front of the first one.
            Some(all) => {
                let start = if let Some(first) = self.first {
                    all.raw_set(0, first)?;
                    0
                } else {
                    1
                };
                (false, all, start, self.count).into_lua_multi(self.lua)
            }
            None => {
                let mut values = MultiValue::from_vec(self.held);
                if let Some(first) = self.first {
                    values.push_front(first);
                }
                values.push_front(Value::Nil);
                Ok(values)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_gives_back_what_it_got() {
        let lua = Lua::new();
        let mut stack = ValueStack::new(&lua);
        let mut model = Vec::new();
        // Up and down in steps of other sizes than those of the stack.
        for (up, down) in [(10_000, 300), (700, 9_000), (400, 1_000), (20_000, 20_800)] {
            for number in 0..up {
                stack.push(Value::String(lua.create_string(number.to_string()).unwrap())).unwrap();
                model.push(number.to_string());
            }
            for _ in 0..down {
                let Value::String(text) = stack.pop().unwrap() else { panic!("not a string") };
                assert_eq!(Some(text.to_string_lossy()), model.pop());
            }
        }
        assert!(model.is_empty() && stack.pop().unwrap().is_nil());
    }
}
