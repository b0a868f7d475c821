//! Libraries of functions in a Lua state: they are loaded where one of their functions is first called.
//!
//! Invariants: a library's chunk sees `redis` (and `server`, which is the same) alone, and of that what it needs to register functions; the functions,
//! once registered, see what scripts see, but for `KEYS` and `ARGV`. A library that fails leaves nothing behind.
//! What a library keeps in its local variables is kept for each state.
//! Read next: `functions.lua` for the registering, `library.rs` for what is known of libraries without Lua.

use super::{Compiled, Ended, Engine, Host, error_text, failure};
use crate::header::Flags;
use crate::library::{self, Declared, Found, Library};
use crate::redis_api::{Api, with_names};
use crate::sandbox::Sandbox;
use crate::source::Nature;
use larder_resp::Reply;
use mlua::{Function, Lua, LuaString, Table, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// What libraries are called where Lua tells of them.
const CHUNK: &str = "@user_function";
/// Fields of `redis` that a library sees while it is loaded.
const SEEN_AT_LOAD: &[&str] =
    &["LOG_DEBUG", "LOG_NOTICE", "LOG_VERBOSE", "LOG_WARNING", "REDIS_VERSION", "REDIS_VERSION_NUM", "log"];
/// Globals of scripts that functions do not see.
const SCRIPTS_ONLY: &[&str] = &["KEYS", "ARGV", "__redis__err__handler", "_G", "redis", "server"];
/// Fields of `redis` that functions do not see.
const REDIS_OF_SCRIPTS_ONLY: &[&str] = &["breakpoint", "debug", "replicate_commands"];

/// What a state has for libraries.
pub(super) struct Functions {
    /// The globals of libraries, which are in front of one of the next two.
    environment: Table,
    at_load: Table,
    at_run: Table,
    load: Function,
    /// Loaded libraries by their address, with their functions in order.
    loaded: BTreeMap<usize, (Weak<Library>, Vec<Compiled>)>,
}

impl Functions {
    pub(super) fn new(lua: &Lua, sandbox: &Sandbox, api: &Api) -> mlua::Result<Functions> {
        let chunk = lua.load(include_str!("functions.lua")).set_name(crate::redis_api::OWN_CHUNK);
        let (register, load): (Function, Function) = chunk.call(&api.handler)?;

        let redis = lua.create_table()?;
        for name in SEEN_AT_LOAD {
            redis.raw_set(*name, api.redis.raw_get::<Value>(*name)?)?;
        }
        redis.raw_set("register_function", register)?;
        let server = with_names(lua, &redis)?;
        sandbox.make_strict(lua, &redis)?;
        sandbox.make_strict(lua, &server)?;
        let at_load = lua.create_table_from([
            ("redis", sandbox.protect(&redis)?),
            ("server", sandbox.protect(&server)?),
        ])?;
        sandbox.make_strict(lua, &at_load)?;

        let at_run = without(lua, sandbox.globals(), SCRIPTS_ONLY)?;
        let redis = without(lua, &api.redis, REDIS_OF_SCRIPTS_ONLY)?;
        at_run.raw_set("redis", sandbox.protect(&redis)?)?;
        let server = without(lua, &api.server, REDIS_OF_SCRIPTS_ONLY)?;
        at_run.raw_set("server", sandbox.protect(&server)?)?;
        let environment = sandbox.environment(lua, &at_run)?;
        Ok(Functions { environment, at_load, at_run, load, loaded: BTreeMap::new() })
    }

    /// Puts the globals of libraries in front of a table.
    fn see(&self, table: &Table) -> mlua::Result<()> {
        match self.environment.metatable() {
            Some(metatable) => metatable.raw_set("__index", table),
            None => Ok(()),
        }
    }
}

/// A copy of a table without some of its fields.
fn without(lua: &Lua, table: &Table, fields: &[&str]) -> mlua::Result<Table> {
    let copy = lua.create_table()?;
    table.for_each(
        |name: String, value: Value| {
            if fields.contains(&name.as_str()) { Ok(()) } else { copy.raw_set(name, value) }
        },
    )?;
    Ok(copy)
}

impl Engine {
    /// Runs a library's text. It is what it registers; its functions are compiled when they are first asked for.
    ///
    /// # Errors
    /// The text of the reply where it can't be loaded.
    pub fn read_library(&mut self, text: &[u8], host: &mut dyn Host) -> Result<Library, Vec<u8>> {
        let metadata = library::parse(text)?;
        let (functions, compiled): (Vec<_>, Vec<_>) = self.load(metadata.code, host)?.into_iter().unzip();
        compiled.into_iter().for_each(|compiled| self.forget(compiled));
        Ok(Library { name: metadata.name, text: text.to_vec(), functions })
    }

    /// A function, compiled in this state.
    ///
    /// # Errors
    /// The text of the reply where its library can't be loaded here.
    pub fn function(&mut self, found: &Found, host: &mut dyn Host) -> Result<Compiled, Vec<u8>> {
        // Differs from Redis: each thread has its own copy of the local variables that a library's functions share.
        let address = Arc::as_ptr(&found.library).addr();
        if let Some((_, compiled)) = self.functions.loaded.get(&address) {
            return Ok(compiled[found.index]);
        }
        self.forget_libraries();
        let code = library::parse(&found.library.text)?.code;
        let (functions, compiled): (Vec<Declared>, Vec<Compiled>) =
            self.load(code, host)?.into_iter().unzip();
        if functions != found.library.functions {
            // Nothing that a library sees at its loading differs from one time to the next.
            return Err(b"ERR Error registering functions: ERR other functions than before".to_vec());
        }
        let function = compiled[found.index];
        // While this weak one is there, no other library has the address.
        self.functions.loaded.insert(address, (Arc::downgrade(&found.library), compiled));
        Ok(function)
    }

    /// Forgets the functions of libraries that are no more.
    pub fn forget_libraries(&mut self) {
        let gone = |(library, _): &(Weak<Library>, Vec<Compiled>)| library.strong_count() == 0;
        let mut forgotten = Vec::new();
        self.functions.loaded.retain(|_, library| {
            let is_gone = gone(library);
            if is_gone {
                forgotten.append(&mut library.1);
            }
            !is_gone
        });
        forgotten.into_iter().for_each(|compiled| self.forget(compiled));
    }

    /// Calls a function with its keys and arguments, and writes its value as the reply.
    pub fn call<'w>(
        &self,
        function: Compiled,
        keys: impl Iterator<Item = &'w [u8]>,
        arguments: impl Iterator<Item = &'w [u8]>,
        host: &mut dyn Host,
        reply: &mut Reply<'_>,
    ) -> Ended {
        self.watch_over(false);
        let run = || {
            let function: Function = self.compiled.raw_get(function.number)?;
            let (keys, arguments) = (self.list(keys)?, self.list(arguments)?);
            self.limited(|| self.call.call((function, keys, arguments)))
        };
        self.answered(host, run, reply)
    }

    /// Runs a library's code; its functions are kept.
    fn load(&mut self, code: &[u8], host: &mut dyn Host) -> Result<Vec<(Declared, Compiled)>, Vec<u8>> {
        let registering = |text: &[u8]| [b"ERR Error registering functions: ", text].concat();
        let chunk = self
            .chunk(CHUNK, code, Some(&self.functions.environment))
            .map_err(|text| [b"ERR Error compiling function: ", &text[..]].concat())?;
        self.watch_over(false);
        let run = || {
            self.functions.see(&self.functions.at_load)?;
            let ran = self.limited(|| self.functions.load.call::<(bool, Value)>(chunk));
            self.functions.see(&self.functions.at_run)?;
            ran
        };
        let mut registered = Value::Nil;
        let ran = self.with_host(host, run).and_then(|(is_well, value)| {
            if !is_well {
                return Ok(Ended::Failed(failure(&value)?));
            }
            registered = value;
            Ok(Ended::Answered)
        });
        match self.ended(ran) {
            Ended::Answered => {}
            Ended::Stopped(_) => return Err(registering(b"ERR FUNCTION LOAD timeout")),
            Ended::Failed(failure) => return Err(registering(&failure.text)),
        }
        self.keep_registered(&registered).map_err(|error| registering(&error_text(&error)))
    }

    fn keep_registered(&mut self, registered: &Value) -> mlua::Result<Vec<(Declared, Compiled)>> {
        let Value::Table(registered) = registered else { return Ok(Vec::new()) };
        (1..=registered.raw_len())
            .map(|index| {
                let function: Table = registered.raw_get(index)?;
                let text = |name| function.raw_get::<Option<LuaString>>(name);
                let mut flags = Flags::default();
                if let Some(words) = function.raw_get::<Option<Table>>("flags")? {
                    words.for_each(|_: Value, word: LuaString| {
                        flags.set(&word.as_bytes());
                        Ok(())
                    })?;
                }
                let declared = Declared {
                    name: text("function_name")?.map_or_else(Vec::new, |name| name.as_bytes().to_vec()),
                    description: text("description")?.map(|text| text.as_bytes().to_vec()),
                    flags,
                };
                Ok((declared, self.keep(function.raw_get("callback")?, Nature::default())?))
            })
            .collect()
    }
}
