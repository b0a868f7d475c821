//! What scripts ask of the host while they run.
//!
//! The functions are made once for a state; the host stands in a variable of the thread for as long as a run lasts. Most
//! commands have a few words, all of them strings, and answer a string, a number or OK: these pass without any value of
//! Lua being held from outside ([`Ask::quick`]); everything else goes the long way.
//! Invariant: without a host nothing is asked, and a script that asks then gets an error.

use super::{Host, Verdict, Words, stop};
use crate::convert::{Names, error_table, read_reply, write_number};
use crate::engine::Shared;
use larder_resp::{Output, Span};
use larder_values::number;
use mlua::{BString, Either, FromLuaMulti, Function, Lua, MultiValue, Value, Variadic};
use scoped_tls_hkt::{ReborrowMut, scoped_thread_local};
use std::cell::RefCell;
use std::rc::Rc;

/// What the long way is asked for, as `redis.lua` has it.
const CALL: i64 = 1;
const LOG: i64 = 2;
const MAY: i64 = 3;
/// As [`CALL`], with the words in a table and their number: only so many values can be held from outside at a time.
const CALL_PACKED: i64 = 5;
const REPLICATE: i64 = 6;

/// What a short answer is that is no value, as `redis.lua` has it: OK, the text of a status, an error.
const OK: i64 = 1;
const STATUS: i64 = 2;
const ERROR: i64 = 3;

/// A call without words.
const NO_WORDS: &[u8] = b"ERR Please specify at least one argument for this redis lib call";
const NO_HOST: &[u8] = b"ERR there is no server to ask";
/// A buffer that has grown larger is not kept.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// The host of the run at hand.
pub(super) struct Way<'a>(pub(super) &'a mut (dyn Host + 'a));

impl<'a, 'b: 'a> ReborrowMut<'a> for Way<'b> {
    type Result = Way<'a>;

    fn reborrow_mut(&'a mut self) -> Way<'a> {
        Way(&mut *self.0)
    }
}

scoped_thread_local!(pub(super) static mut HOST: for<'a> Way<'a>);

/// Buffers of commands and replies.
#[derive(Default)]
struct Buffers {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    reply: Output,
}

/// A short answer: its text, number or other value, and what it is.
type Short = (Either<String, Either<f64, Value>>, Kind);

/// What a short answer is; nothing for a value. It passes to Lua behind the answer, and with it memory is limited again:
/// with a limit, the answer would need a guard on its way.
struct Kind {
    kind: Option<i64>,
    memory_max: usize,
}

impl mlua::IntoLua for Kind {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        lua.set_memory_limit(self.memory_max)?;
        Ok(self.kind.map_or(Value::Nil, Value::Integer))
    }
}

/// What a state's functions need to ask.
pub(super) struct Ask {
    pub(super) names: Names,
    shared: Rc<Shared>,
    buffers: RefCell<Buffers>,
    memory_max: usize,
}

/// The functions by which Lua asks.
pub(crate) struct Ways {
    /// The short ways, see [`Ask::quick`]: for any number of words, and for two, three and four.
    pub(crate) quick: [Function; 4],
    /// Limits memory.
    pub(crate) limit: Function,
    /// The long way.
    pub(crate) ask: Function,
}

impl Ask {
    pub(super) fn new(names: Names, shared: &Rc<Shared>, memory_max: usize) -> Rc<Ask> {
        Rc::new(Ask { names, shared: Rc::clone(shared), buffers: RefCell::default(), memory_max })
    }

    pub(super) fn ways(self: &Rc<Ask>, lua: &Lua) -> mlua::Result<Ways> {
        let (long, memory_max) = (Rc::clone(self), self.memory_max);
        Ok(Ways {
            quick: [
                self.short_way(lua, |ask, lua, words: Variadic<BString>| ask.quick(lua, &words))?,
                self.short_way(lua, |ask, lua, (a, b)| ask.quick(lua, &[a, b]))?,
                self.short_way(lua, |ask, lua, (a, b, c)| ask.quick(lua, &[a, b, c]))?,
                self.short_way(lua, |ask, lua, (a, b, c, d)| ask.quick(lua, &[a, b, c, d]))?,
            ],
            limit: lua.create_function(move |lua, ()| lua.set_memory_limit(memory_max).map(drop))?,
            ask: lua.create_function(move |lua, (what, values): (i64, MultiValue)| {
                unlimited(lua, |lua| long.ask(lua, what, &values))
            })?,
        })
    }

    /// A function that takes words and answers with memory not limited; [`Kind`] limits it again.
    fn short_way<W: FromLuaMulti + 'static>(
        self: &Rc<Ask>,
        lua: &Lua,
        quick: fn(&Ask, &Lua, W) -> mlua::Result<Short>,
    ) -> mlua::Result<Function> {
        let ask = Rc::clone(self);
        lua.create_function(move |lua, words: W| {
            lua.set_memory_limit(0)?;
            let answer = quick(&ask, lua, words);
            if answer.is_err() {
                lua.set_memory_limit(ask.memory_max)?;
            }
            answer
        })
    }

    /// Carries out a command whose words are strings.
    fn quick(&self, lua: &Lua, words: &[BString]) -> mlua::Result<Short> {
        let mut buffers = self.buffers.borrow_mut();
        buffers.bytes.clear();
        buffers.spans.clear();
        for word in words {
            if let Err(text) = buffers.add(word) {
                return self.short_error(lua, text);
            }
        }
        if !HOST.is_set() {
            return self.short_error(lua, NO_HOST);
        }
        let reply = self.carry_out(lua, &mut buffers)?;
        self.shorten(lua, reply)
    }

    /// Has the command in the buffers carried out. What it answers is all of `Output::as_single_slice`, or a copy.
    fn carry_out<'b>(&self, lua: &Lua, buffers: &'b mut Buffers) -> mlua::Result<std::borrow::Cow<'b, [u8]>> {
        let Buffers { bytes, spans, reply } = buffers;
        reply.clear();
        let words = Words { bytes, spans };
        if HOST.with(|host| host.0.call(words, self.shared.protocol.get(), reply)) == Verdict::Stop {
            stop(lua, &self.shared)?;
            return Ok(b"-ERR stopped\r\n"[..].into());
        }
        Ok(match reply.as_single_slice() {
            Some(reply) => reply.into(),
            None => reply.to_vec().into(),
        })
    }

    /// What an answer is.
    fn kind(&self, kind: Option<i64>) -> Kind {
        Kind { kind, memory_max: self.memory_max }
    }

    fn short_error(&self, lua: &Lua, text: &[u8]) -> mlua::Result<Short> {
        let table = error_table(lua, &self.names, text, false)?;
        Ok((Either::Right(Either::Right(table)), self.kind(Some(ERROR))))
    }

    /// Answers a reply as it passes to Lua with the least to do.
    fn shorten(&self, lua: &Lua, reply: std::borrow::Cow<'_, [u8]>) -> mlua::Result<Short> {
        let line = |at: usize| reply.get(at..)?.split(|byte| *byte == b'\r').next();
        match reply.first() {
            Some(b'$') => {
                if let Some(text) = bulk(&reply).and_then(|text| std::str::from_utf8(text).ok()) {
                    return Ok((Either::Left(text.to_owned()), self.kind(None)));
                }
            }
            Some(b'+') => {
                if *reply == *b"+OK\r\n" {
                    return Ok((Either::Right(Either::Right(Value::Nil)), self.kind(Some(OK))));
                }
                if let Some(text) = line(1).and_then(|text| std::str::from_utf8(text).ok()) {
                    return Ok((Either::Left(text.to_owned()), self.kind(Some(STATUS))));
                }
            }
            Some(b':') => {
                let number = line(1).and_then(number::parse_i64).unwrap_or(0);
                return Ok((Either::Right(Either::Left(number as f64)), self.kind(None)));
            }
            _ => {}
        }
        let kind = (reply.first() == Some(&b'-')).then_some(ERROR);
        let value = read_reply(lua, &self.names, &reply, &mut 0)?;
        Ok((Either::Right(Either::Right(value)), self.kind(kind)))
    }

    /// Does what a script asks for. The second value says whether the first is an error to be raised.
    fn ask(&self, lua: &Lua, what: i64, values: &MultiValue) -> mlua::Result<(Value, bool)> {
        if !HOST.is_set() {
            return Ok((error_table(lua, &self.names, NO_HOST, false)?, true));
        }
        if what == REPLICATE {
            let flags = values.front().map_or(0.0, as_float);
            HOST.with(|host| host.0.replicate(flags as i64));
            return Ok((Value::Nil, false));
        }
        if what == LOG {
            if let (Some(level), Some(Value::String(text))) = (values.front(), values.get(1)) {
                HOST.with(|host| host.0.log(as_float(level) as i64, &text.as_bytes()));
            }
            return Ok((Value::Nil, false));
        }
        let mut buffers = self.buffers.borrow_mut();
        if let Err(text) = buffers.collect(what, values) {
            return Ok((error_table(lua, &self.names, text, false)?, true));
        }
        if what == MAY {
            return self.may(lua, &buffers);
        }
        debug_assert!(what == CALL || what == CALL_PACKED, "{what}");
        let reply = self.carry_out(lua, &mut buffers)?;
        Ok((read_reply(lua, &self.names, &reply, &mut 0)?, reply.first() == Some(&b'-')))
    }

    fn may(&self, lua: &Lua, buffers: &Buffers) -> mlua::Result<(Value, bool)> {
        let words = Words { bytes: &buffers.bytes, spans: &buffers.spans };
        match HOST.with(|host| host.0.may(words)) {
            Some(may) => Ok((Value::Boolean(may), false)),
            None => {
                let text = b"ERR Invalid command passed to redis.acl_check_cmd()";
                Ok((error_table(lua, &self.names, text, false)?, true))
            }
        }
    }

    /// Gives back buffers that have grown large.
    pub(super) fn tidy_up(&self) {
        let mut buffers = self.buffers.borrow_mut();
        if buffers.bytes.capacity() > BUFFER_BYTES_MAX {
            buffers.bytes = Vec::new();
        }
        if buffers.reply.memory() > BUFFER_BYTES_MAX {
            buffers.reply = Output::default();
        }
    }
}

impl Buffers {
    /// Adds a word of a command.
    fn add(&mut self, word: &[u8]) -> Result<(), &'static [u8]> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(word);
        self.end_word(start)
    }

    fn end_word(&mut self, start: usize) -> Result<(), &'static [u8]> {
        let (Ok(start), Ok(len)) = (u32::try_from(start), u32::try_from(self.bytes.len() - start)) else {
            return Err(b"ERR the arguments of a command are larger than 4 GiB");
        };
        self.spans.push(Span { start, len });
        Ok(())
    }

    /// Adds a value as a word.
    fn add_value(&mut self, value: &Value) -> Result<(), &'static [u8]> {
        let start = self.bytes.len();
        match value {
            Value::String(text) => return self.add(&text.as_bytes()),
            // Any whole number comes so; one that is a number of Lua's is exact as such.
            Value::Integer(integer) => write_number(&mut self.bytes, *integer as f64),
            Value::Number(number) => write_number(&mut self.bytes, *number),
            _ => return Err(b"ERR Lua redis lib command arguments must be strings or integers"),
        }
        self.end_word(start)
    }

    /// Takes the words of a command.
    fn collect(&mut self, what: i64, values: &MultiValue) -> Result<(), &'static [u8]> {
        self.bytes.clear();
        self.spans.clear();
        match (values.front(), values.get(1)) {
            (Some(Value::Table(packed)), Some(count)) if what == CALL_PACKED => {
                let count = as_float(count) as i64;
                (1..=count).try_for_each(|index| self.add_value(&packed.raw_get(index).unwrap_or(Value::Nil)))
            }
            (None, _) => Err(NO_WORDS),
            _ => values.iter().try_for_each(|value| self.add_value(value)),
        }
    }
}

/// Runs what is asked with memory not limited: what is made there is small or has its own bounds, and without a limit Lua needs no
/// guard around it.
fn unlimited<R>(lua: &Lua, ask: impl FnOnce(&Lua) -> mlua::Result<R>) -> mlua::Result<R> {
    let limit = lua.set_memory_limit(0)?;
    let answer = ask(lua);
    lua.set_memory_limit(limit)?;
    answer
}

/// The text of a bulk string that is a whole reply.
fn bulk(reply: &[u8]) -> Option<&[u8]> {
    let end = reply.iter().position(|byte| *byte == b'\r')?;
    let len = usize::try_from(number::parse_i64(reply.get(1..end)?)?).ok()?;
    reply.get(end + 2..end + 2 + len)
}

fn as_float(value: &Value) -> f64 {
    match value {
        Value::Integer(number) => *number as f64,
        Value::Number(number) => *number,
        _ => 0.0,
    }
}
