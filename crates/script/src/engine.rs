//! One Lua state and the scripts that are compiled in it.
//!
//! Invariants: a state belongs to one thread; a script that ends, however it ends, leaves nothing behind for the next one
//! but what the state has compiled.
//! Read next: `engine/ask.rs` for what is asked of the host while a script runs, `redis_api.rs` for what scripts call,
//! `convert.rs` for their values, `engine/functions.rs` for libraries.

mod ask;
mod functions;

pub(crate) use ask::Ways;
use ask::{Ask, HOST, Way};
use functions::Functions;

use crate::convert::{Bounds, Names, Told, until_nul, write_value};
use crate::libs::{self, patterns::GoOn};
use crate::redis_api::{self, Runs, error_text, place_above, text_of};
use crate::sandbox;
use crate::source::{self, Nature, Results};
use larder_resp::{Output, Protocol, Reply, Span};
use mlua::{
    BString, Either, Function, HookTriggers, Lua, LuaOptions, LuaString, StdLib, Table, Value, Variadic,
    VmState,
};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// After so many instructions of Lua the host is asked whether a script goes on.
const TICK_INSTRUCTIONS: u32 = 50_000;
/// More words than these go to a script in tables: only so many fit on Lua's stack.
const WORDS_MAX: usize = 1000;
/// So many words go to a script with the least to do.
const WORDS_FEW: usize = 6;
/// After so many scripts that end by themselves the host is not asked any more whether they go on: each instruction costs twice as
/// much where it is, and to begin with it or end it costs as much as some hundred instructions.
const STRAIGHT_MIN: u32 = 16;
/// Rounds of one collection, at most, and the bytes that one has to free for another to follow.
const COLLECTIONS_MAX: usize = 12;
const COLLECTED_MIN: usize = 1 << 20;

/// What scripts are told of the server.
#[derive(Debug, Clone, Copy)]
pub struct Info {
    /// The version of Redis that scripts are told.
    pub version: &'static str,
    /// The same as a number.
    pub version_number: i64,
    /// The most memory that scripts of one state may hold, in bytes.
    pub memory_max: usize,
}

/// The words of a command that a script asks for.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    /// Their bytes.
    pub bytes: &'a [u8],
    /// Where each of them is.
    pub spans: &'a [Span],
}

/// Whether a script goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    GoOn,
    /// It ends here, whatever it has around it to catch errors.
    Stop,
}

/// What a script asks of the server.
pub trait Host {
    /// Carries out a command and answers in `protocol`. What is refused is answered by an error as well.
    fn call(&mut self, words: Words<'_>, protocol: Protocol, reply: &mut Output) -> Verdict;
    /// Whether the script's user may run a command; `None` where there is no such command.
    fn may(&mut self, words: Words<'_>) -> Option<bool>;
    /// Writes a line to the server's log.
    fn log(&mut self, level: i64, text: &[u8]);
    /// The script says where its changes go from now on: 1 to the log, 2 to replicas, 3 to both, 0 to neither.
    fn replicate(&mut self, _flags: i64) {}
    /// The reply that a script has returned holds this error. `is_counted`: the server has counted it when a command failed.
    fn answers_error(&mut self, _text: &[u8], _is_counted: bool) {}
    /// A script has run for some time without asking for anything: whether it goes on.
    fn tick(&mut self) -> Verdict;
}

/// A script that is compiled in one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compiled {
    number: i64,
    nature: Nature,
}

/// A chunk and a line of it.
pub type Place = (Vec<u8>, i64);

/// Why a script ended in an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The error, its code first.
    pub text: Vec<u8>,
    /// Where it was raised.
    pub place: Option<Place>,
    /// It has been counted among the server's errors already.
    pub is_counted: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Its value has been written as the reply.
    Answered,
    /// In an error; nothing has been written.
    Failed(Failure),
    /// The host stopped it, at this place; nothing has been written.
    Stopped(Option<Place>),
}

/// What the state's functions share.
pub(crate) struct Shared {
    /// The protocol in which commands answer the script.
    pub(crate) protocol: Cell<Protocol>,
    /// The host has stopped the script.
    is_stopped: Cell<bool>,
    /// Where that was.
    stopped_at: RefCell<Option<Place>>,
}

/// What a run answered, as `redis.lua` has it: whether it is a string, another value or an error; the string; the value.
type Answer = (i64, Option<BString>, Value);
const STRING: i64 = 1;
const FAILED: i64 = 2;

/// Globals that are not Lua's own.
const HOST_GLOBALS: &[&str] =
    &["__redis__err__handler", "bit", "cjson", "cmsgpack", "redis", "server", "struct"];
/// A word on its way to Lua.
struct Word<'w>(&'w [u8]);

impl mlua::IntoLua for Word<'_> {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        Ok(Value::String(lua.create_string(self.0)?))
    }
}

/// Limits memory, behind the words of a script, on whose way to Lua it is not limited.
struct Limit(usize);

impl mlua::IntoLua for Limit {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        lua.set_memory_limit(self.0)?;
        Ok(Value::Nil)
    }
}

/// A Lua state.
pub struct Engine {
    lua: Lua,
    ask: Rc<Ask>,
    /// Compiled scripts by their numbers.
    compiled: Table,
    next: i64,
    /// Run a compiled script with its words.
    runs: Runs,
    /// Calls a function with tables of its words.
    call: Function,
    functions: Functions,
    shared: Rc<Shared>,
    memory_max: usize,
    /// The host is asked now and then whether a script goes on.
    is_watched: Cell<bool>,
    /// How many scripts have run since the last that may not end by itself.
    straight: Cell<u32>,
    /// What was left when everything else was last freed, in bytes.
    collected: Cell<usize>,
    /// What was freed by collections since somebody asked, in bytes.
    freed: Cell<usize>,
}

impl Engine {
    /// A state with nothing compiled.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn new(info: &Info) -> mlua::Result<Engine> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::OS;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        let shared = Rc::new(Shared {
            protocol: Cell::new(Protocol::Resp2),
            is_stopped: Cell::new(false),
            stopped_at: RefCell::default(),
        });
        let ask = Ask::new(Names::new(&lua)?, &shared, info.memory_max);
        let compiled = lua.create_table()?;
        let slot = lua.create_table()?;
        slot.raw_set("compiled", &compiled)?;
        let api = redis_api::install(&lua, &slot, ask.ways(&lua)?, &shared, info)?;
        lua.set_app_data(libs::OutputMax(info.memory_max));
        let of_state = Rc::clone(&shared);
        lua.set_app_data(GoOn(Rc::new(move |lua| ask_host(lua, &of_state))));
        libs::install(&lua)?;
        let globals = lua.globals();
        globals.raw_set("redis", &api.redis)?;
        globals.raw_set("server", &api.server)?;
        globals.raw_set("pcall", &api.pcall)?;
        globals.raw_set("__redis__err__handler", &api.handler)?;
        let sandbox = sandbox::lock_down(&lua, HOST_GLOBALS)?;
        let functions = Functions::new(&lua, &sandbox, &api)?;
        slot.raw_set("globals", sandbox.globals())?;
        let engine = Engine {
            ask,
            compiled,
            next: 1,
            runs: api.runs,
            call: api.call,
            functions,
            shared,
            memory_max: info.memory_max,
            is_watched: Cell::new(false),
            straight: Cell::new(0),
            collected: Cell::new(0),
            freed: Cell::new(0),
            lua,
        };
        engine.watch()?;
        Ok(engine)
    }

    /// Compiles the code of a script.
    ///
    /// # Errors
    /// What Lua has to say of it.
    pub fn compile(&mut self, chunk: &str, code: &[u8]) -> Result<Compiled, Vec<u8>> {
        let compiled = self.script(chunk, code);
        self.collect_if_much();
        let (function, nature) = compiled?;
        self.keep(function, nature).map_err(|error| error_text(&error))
    }

    /// The chunk of a script, and what is known of it.
    fn script(&self, name: &str, code: &[u8]) -> Result<(Function, Nature), Vec<u8>> {
        if let Ok((ready, nature)) = source::prepare_script(code)
            && let Ok(function) = self.load_text(name, &ready, None)
        {
            return Ok((function, nature));
        }
        Ok((self.chunk(name, code, None)?, Nature::default()))
    }

    /// A chunk of which only the first result counts, with an environment of its own or that of scripts.
    fn chunk(&self, name: &str, code: &[u8], environment: Option<&Table>) -> Result<Function, Vec<u8>> {
        let ready = source::prepare(code, Results::First).map_err(|wrong| {
            let name = name.strip_prefix('@').unwrap_or(name);
            [name.as_bytes(), b":", &wrong.message()].concat()
        })?;
        // What is wrong is said of the script as it was sent.
        let loaded = self.load_text(name, &ready, environment);
        loaded.or_else(|_| self.load_text(name, code, environment)).map_err(|error| error_text(&error))
    }

    fn load_text(&self, name: &str, code: &[u8], environment: Option<&Table>) -> mlua::Result<Function> {
        let chunk = self.lua.load(code).set_name(name).set_mode(mlua::chunk::ChunkMode::Text);
        let chunk = match environment {
            Some(environment) => chunk.set_environment(environment.clone()),
            None => chunk,
        };
        self.limited(|| chunk.into_function())
    }

    fn keep(&mut self, function: Function, nature: Nature) -> mlua::Result<Compiled> {
        let number = self.next;
        self.compiled.raw_set(number, function)?;
        self.next += 1;
        Ok(Compiled { number, nature })
    }

    /// Forgets a compiled script.
    pub fn forget(&mut self, compiled: Compiled) {
        // Setting what is there to nil needs no memory.
        let _ = self.compiled.raw_set(compiled.number, Value::Nil);
    }

    /// Bytes that the state holds.
    pub fn used_memory(&self) -> usize {
        self.lua.used_memory()
    }

    /// Frees what no script can reach any more. Each round halves the buffer in which Lua puts strings together, too.
    pub fn collect(&self) {
        for _ in 0..COLLECTIONS_MAX {
            let before = self.used_memory();
            let _ = self.lua.gc_collect();
            let freed = before.saturating_sub(self.used_memory());
            self.freed.set(self.freed.get() + freed);
            if freed < COLLECTED_MIN {
                break;
            }
        }
        self.collected.set(self.used_memory());
    }

    /// What collections have freed since this was last asked, in bytes.
    pub fn take_freed(&self) -> usize {
        self.freed.take()
    }

    /// Collects if much has been added since. What is compiled stays, and to look through it each time would take long.
    fn collect_if_much(&self) {
        if self.used_memory() > self.collected.get() + self.memory_max / 8 {
            self.collect();
        }
    }

    /// Runs a script with its words, of which the first so many are keys, and writes its value as the reply.
    pub fn run<'w>(
        &self,
        compiled: Compiled,
        keys: usize,
        mut words: impl Iterator<Item = &'w [u8]>,
        host: &mut dyn Host,
        reply: &mut Reply<'_>,
    ) -> Ended {
        let Compiled { number, nature } = compiled;
        let script = (number, nature.is_given_words);
        self.watch_over(nature.is_straight);
        let run = || {
            let (mut few, mut len) = ([None; WORDS_FEW], 0);
            for (place, word) in few.iter_mut().zip(words.by_ref()) {
                *place = Some(word);
                len += 1;
            }
            let rest: Vec<&[u8]> = words.collect();
            if rest.is_empty() {
                return self.run_few(script, keys.min(len), len, few);
            }
            let words: Vec<&[u8]> = few.into_iter().flatten().chain(rest).collect();
            self.run_many(script, keys, &words)
        };
        self.answered(host, run, reply)
    }

    /// Runs a script with the first `len` of these words.
    fn run_few(
        &self,
        (number, is_given): (i64, bool),
        keys: usize,
        len: usize,
        words: [Option<&[u8]>; WORDS_FEW],
    ) -> mlua::Result<Answer> {
        let word = |index: usize| words[index].map(|word| self.word(word)).transpose();
        let words = (word(0)?, word(1)?, word(2)?, word(3)?, word(4)?, word(5)?);
        let (a, b, c, d, e, f) = words;
        let limit = Limit(self.memory_max);
        self.runs.few.call((number, is_given, keys, len - keys, a, b, c, d, e, f, limit))
    }

    fn run_many(
        &self,
        (number, is_given): (i64, bool),
        keys: usize,
        words: &[&[u8]],
    ) -> mlua::Result<Answer> {
        // `redis.lua` limits memory once the words are there.
        if words.len() > WORDS_MAX {
            let (keys, arguments) = words.split_at(keys);
            let (keys, arguments) = (self.list(keys.iter().copied())?, self.list(arguments.iter().copied())?);
            return self.runs.listed.call((number, is_given, keys, arguments));
        }
        let words: Variadic<_> = words.iter().map(|word| self.word(word)).collect::<mlua::Result<_>>()?;
        self.runs.many.call((number, is_given, keys, words))
    }

    /// A word on its way to Lua: as text where it is, since that passes without being held from outside.
    fn word<'w>(&self, word: &'w [u8]) -> mlua::Result<Either<&'w str, LuaString>> {
        match std::str::from_utf8(word) {
            Ok(text) => Ok(Either::Left(text)),
            Err(_) => self.lua.create_string(word).map(Either::Right),
        }
    }

    /// Runs something that a script is, and writes its value as the reply.
    fn answered(
        &self,
        host: &mut dyn Host,
        run: impl FnOnce() -> mlua::Result<Answer>,
        reply: &mut Reply<'_>,
    ) -> Ended {
        let mark = reply.output().mark();
        let answered = self.with_host(host, run).and_then(|(kind, text, value)| {
            if kind == FAILED {
                return Ok(Ended::Failed(failure(&value)?));
            }
            match text.filter(|_| kind == STRING) {
                Some(text) => reply.bulk(&text),
                None => {
                    let is_resp3 = self.shared.protocol.get() == Protocol::Resp3;
                    let tell = &mut |told: Told<'_>| match told {
                        Told::Further => self.go_on(host),
                        Told::Error { text, is_counted } => {
                            host.answers_error(text, is_counted);
                            Ok(())
                        }
                    };
                    let bounds = &mut Bounds { bytes_max: self.memory_max, tell };
                    write_value(&self.lua, reply, &self.ask.names, value, is_resp3, bounds)?;
                }
            }
            Ok(Ended::Answered)
        });
        if answered.is_err() {
            reply.output().truncate(mark);
        }
        self.ended(answered)
    }

    /// Asks the host whether what has run is still to be answered.
    fn go_on(&self, host: &mut dyn Host) -> mlua::Result<()> {
        if host.tick() == Verdict::GoOn {
            return Ok(());
        }
        self.shared.is_stopped.set(true);
        Err(mlua::Error::runtime("stopped"))
    }

    /// Runs something while there is a host to be asked.
    fn with_host<R>(&self, host: &mut dyn Host, run: impl FnOnce() -> R) -> R {
        self.shared.protocol.set(Protocol::Resp2);
        HOST.set(Way(host), run)
    }

    /// Calls Lua's functions with memory limited. What is done for them around it needs none, and Lua, without a limit,
    /// no guard around each step of it.
    fn limited<R>(&self, call: impl FnOnce() -> mlua::Result<R>) -> mlua::Result<R> {
        self.lua.set_memory_limit(self.memory_max)?;
        let answer = call();
        self.lua.set_memory_limit(0)?;
        answer
    }

    /// How a run ended, with the state ready for the next one.
    fn ended(&self, ended: mlua::Result<Ended>) -> Ended {
        self.tidy_up();
        match ended {
            _ if self.shared.is_stopped.take() => {
                let _ = self.watch();
                Ended::Stopped(self.shared.stopped_at.take())
            }
            Ok(ended) => ended,
            Err(error) => {
                self.collect();
                let text = [&b"ERR "[..], &error_text(&error)].concat();
                Ended::Failed(Failure { text, place: None, is_counted: false })
            }
        }
    }

    fn list<'w>(&self, words: impl Iterator<Item = &'w [u8]>) -> mlua::Result<Table> {
        self.lua.create_sequence_from(words.map(Word))
    }

    /// Sees that the host is asked whether a script goes on, unless only such have run for a while that end by themselves.
    fn watch_over(&self, is_straight: bool) {
        let straight = if is_straight { self.straight.get().saturating_add(1) } else { 0 };
        self.straight.set(straight);
        if self.is_watched.get() && straight > STRAIGHT_MIN {
            self.is_watched.set(false);
            // Without a trigger it is never called.
            let _ = self.lua.set_global_hook(HookTriggers::new(), |_, _| Ok(VmState::Continue));
        } else if !self.is_watched.get() && !is_straight {
            let _ = self.watch();
        }
    }

    /// Has the host asked now and then whether a script goes on.
    fn watch(&self) -> mlua::Result<()> {
        self.is_watched.set(true);
        let (shared, memory_max) = (Rc::clone(&self.shared), self.memory_max);
        let every = HookTriggers::new().every_nth_instruction(TICK_INSTRUCTIONS);
        self.lua.set_global_hook(every, move |lua, _| {
            let asked = ask_host(lua, &shared);
            lua.set_memory_limit(memory_max)?;
            asked.map(|()| VmState::Continue)
        })
    }

    /// Forgets what belonged to one run.
    fn tidy_up(&self) {
        self.collect_if_much();
        let _ = self.lua.set_memory_limit(0);
        self.ask.tidy_up();
    }
}

/// Asks the host whether a script goes on, and ends it where it does not.
fn ask_host(lua: &Lua, shared: &Shared) -> mlua::Result<()> {
    if HOST.is_set() && HOST.with(|host| host.0.tick()) == Verdict::Stop {
        stop(lua, shared)?;
    }
    if shared.is_stopped.get() { Err(mlua::Error::runtime("stopped")) } else { Ok(()) }
}

/// Ends a script: from now on every instruction is an error, so that it can catch none of them.
fn stop(lua: &Lua, shared: &Shared) -> mlua::Result<()> {
    shared.is_stopped.set(true);
    shared.stopped_at.replace(place_above(lua, 0));
    let every = HookTriggers::new().every_nth_instruction(1);
    lua.set_global_hook(every, |_, _| Err(mlua::Error::runtime("stopped")))
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Engine").field("memory", &self.used_memory()).finish_non_exhaustive()
    }
}

/// What a script's error says.
fn failure(value: &Value) -> mlua::Result<Failure> {
    let Value::Table(table) = value else {
        // Lua's own want of memory passes by the handler of errors.
        let text = [&b"ERR "[..], &text_of(value)].concat();
        return Ok(Failure { text, place: None, is_counted: false });
    };
    let text = match table.raw_get("err")? {
        text @ (Value::String(_) | Value::Integer(_) | Value::Number(_)) => text_of(&text),
        _ => b"ERR unknown error".to_vec(),
    };
    let text = until_nul(&text).to_vec();
    let source: Option<LuaString> = table.raw_get("source")?;
    let line: Option<i64> = table.raw_get("line")?;
    let place = source.zip(line).map(|(source, line)| (source.as_bytes().to_vec(), line));
    let is_counted = table.raw_get::<Option<bool>>("ignore_error_stats_update")?.unwrap_or(false);
    Ok(Failure { text, place, is_counted })
}

#[cfg(test)]
mod tests;
