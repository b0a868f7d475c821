//! Libraries of functions: what FUNCTION LOAD says of them, and what their functions answer.

use crate::oracle::{Oracle, Reply};
use larder_resp::{Output, Protocol, Reply as Writer};
use larder_script::library::{self, Libraries};
use larder_script::{Ended, Engine, Host, Info, Verdict, Words};
use std::sync::Arc;

/// A host without commands, which stops what runs on for some time.
struct NoCommands {
    ticks_left: u32,
}

impl Host for NoCommands {
    fn call(&mut self, _: Words<'_>, protocol: Protocol, reply: &mut Output) -> Verdict {
        Writer::new(reply, protocol).simple("PONG");
        Verdict::GoOn
    }

    fn may(&mut self, _: Words<'_>) -> Option<bool> {
        Some(true)
    }

    fn log(&mut self, _: i64, _: &[u8]) {}

    fn tick(&mut self) -> Verdict {
        self.ticks_left -= 1;
        if self.ticks_left == 0 { Verdict::Stop } else { Verdict::GoOn }
    }
}

/// Libraries and the state that runs them.
struct Here {
    engine: Engine,
    libraries: Libraries,
}

impl Here {
    fn new() -> Here {
        let info = Info { version: "8.2.3", version_number: 0x0008_0203, memory_max: 32 << 20 };
        Here { engine: Engine::new(&info).unwrap(), libraries: Libraries::default() }
    }

    /// What FUNCTION LOAD answers.
    fn load(&mut self, text: &[u8]) -> Result<Vec<u8>, Vec<u8>> {
        let name = library::parse(text)?.name;
        self.libraries.may_load(&name, false)?;
        let library = self.engine.read_library(text, &mut NoCommands { ticks_left: 20 })?;
        self.libraries.add(Arc::new(library))?;
        Ok(name)
    }

    /// What FCALL answers, as bytes of RESP2.
    fn call(&mut self, function: &str) -> Vec<u8> {
        let Some(found) = self.libraries.find(function.as_bytes()).cloned() else {
            return b"-ERR Function not found\r\n".to_vec();
        };
        let mut host = NoCommands { ticks_left: 20 };
        let mut out = Output::default();
        let function = self.engine.function(&found, &mut host).unwrap();
        let (keys, arguments) = ([&b"k"[..]], [&b"v"[..], b"w"]);
        let mut reply = Writer::new(&mut out, Protocol::Resp2);
        match self.engine.call(function, keys.into_iter(), arguments.into_iter(), &mut host, &mut reply) {
            Ended::Answered => out.to_vec(),
            Ended::Failed(failure) => {
                let name = String::from_utf8_lossy(&found.declared().name).into_owned();
                let place = failure.place.map_or_else(String::new, |(source, line)| {
                    format!(" script: {name}, on {}:{line}.", String::from_utf8_lossy(&source))
                });
                [b"-", &failure.text[..], place.as_bytes(), b"\r\n"].concat()
            }
            Ended::Stopped(_) => b"stopped".to_vec(),
        }
    }
}

/// A reply as it came.
fn written(reply: &Reply) -> Vec<u8> {
    match reply {
        Reply::Status(text) => [b"+", &text[..], b"\r\n"].concat(),
        Reply::Error(text) => [b"-", &text[..], b"\r\n"].concat(),
        Reply::Integer(number) => format!(":{number}\r\n").into_bytes(),
        Reply::Null => b"$-1\r\n".to_vec(),
        Reply::Bulk(text) => [format!("${}\r\n", text.len()).as_bytes(), &text[..], b"\r\n"].concat(),
        Reply::Array(items) => {
            let head = format!("*{}\r\n", items.len()).into_bytes();
            items.iter().fold(head, |out, item| [out, written(item)].concat())
        }
    }
}

/// Bodies of libraries, each of which has a name of its own.
const BODIES: &[&str] = &[
    "",
    "local x = = 1",
    "return (",
    "x = 1LL",
    "error('x')",
    "foo()",
    "redis.call('get', 'x')",
    "redis.pcall('get', 'x')",
    "x = 1",
    "return 1",
    "local x = KEYS",
    "local x = ARGV",
    "local x = math.huge",
    "local x = _G",
    "local x = _VERSION",
    "local x = pcall",
    "local x = redis.foo",
    "local x = redis[1]",
    "redis.x = 1",
    "redis.register_function = 1",
    "redis.sha1hex('x')",
    "redis.setresp(3)",
    "redis.error_reply('x')",
    "redis.breakpoint()",
    "redis.log('x')",
    "redis.log(5, 'x')",
    "redis.log()",
    "local x = {} x.y.z = 1",
    "local x = {}\n\n x.y.z = 1",
    "\x1bLua",
    "#!x",
    "while true do end",
    "local function f() return f() end f()",
    "redis.register_function()",
    "redis.register_function('a')",
    "redis.register_function('a', 1)",
    "redis.register_function('a', function() end, 3)",
    "redis.register_function(1, function() return 'number' end)",
    "redis.register_function({}, function() end)",
    "redis.register_function('a b', function() end)",
    "redis.register_function('', function() end)",
    "redis.register_function('a-b', function() end)",
    "redis.register_function('\\0', function() end)",
    "redis.register_function('\\200', function() end)",
    "redis.register_function('a1', function() end) redis.register_function('a1', function() end)",
    "redis.register_function('a', redis.call)",
    "redis.register_function(redis, redis.log)",
    "redis.register_function{}",
    "redis.register_function{function_name = 'b'}",
    "redis.register_function{callback = function() end}",
    "redis.register_function{function_name = 1, callback = function() end}",
    "redis.register_function{function_name = {}, callback = function() end}",
    "redis.register_function{function_name = 'b', callback = 1}",
    "redis.register_function{function_name = 'b1', callback = function() end, description = 1}",
    "redis.register_function{function_name = 'b2', callback = function() end, description = {}}",
    "redis.register_function{function_name = 'b3', callback = function() end, description = 'd'}",
    "redis.register_function{function_name = 'b4', callback = function() end, flags = 1}",
    "redis.register_function{function_name = 'b5', callback = function() end, flags = {}}",
    "redis.register_function{function_name = 'b6', callback = function() end, flags = {'no-writes', 'allow-oom', 'allow-stale', 'no-cluster', 'allow-cross-slot-keys'}}",
    "redis.register_function{function_name = 'b7', callback = function() end, flags = {'x'}}",
    "redis.register_function{function_name = 'b8', callback = function() end, flags = {1}}",
    "redis.register_function{function_name = 'b9', callback = function() end, flags = {a = 'no-writes'}}",
    "redis.register_function{function_name = 'b10', callback = function() end, flags = {'no-writes', 'no-writes'}}",
    "redis.register_function{function_name = 'c', callback = function() end, foo = 1}",
    "redis.register_function{[1] = 'c', callback = function() end}",
    "redis.register_function{'x', function() end}",
    "redis.register_function{[redis] = 1}",
    "redis.register_function{[redis.log] = 1}",
    "redis.register_function{[2.5] = 1}",
    "redis.register_function{FUNCTION_NAME = 'up', Callback = function() return 'up' end, FLAGS = {'NO-WRITES'}, Description = 'D'}",
    "redis.register_function{function_name = 'nul\\0x', callback = function() end}",
    "redis.register_function('f1', function() return 'one' end) redis.register_function('f2', function() return redis.call('ping') end)",
    "redis.register_function('f1', function() end)",
    "redis.register_function('f3', function() end) redis.register_function('f2', function() end)",
    "redis.register_function('late', function() redis.register_function('later', function() end) end)",
    "local reg = redis.register_function redis.register_function('later', function() reg('x', function() end) end)",
    "redis.register_function('errf', function() error('boom') end)",
    "redis.register_function('errt', function() error({err = 'MY boom'}) end)",
    "redis.register_function('errr', function() return error('boom') end)",
    "redis.register_function('gl', function() x = 1 end)",
    "redis.register_function('gr', function() return x end)",
    "redis.register_function('kk', function() return KEYS end)",
    "redis.register_function('kg', function() return rawget(_G, 'KEYS') == nil and _G == _G._G end)",
    "redis.register_function('handler', function() return __redis__err__handler end)",
    "redis.register_function('loads', function() return loadstring('return KEYS')() end)",
    "redis.register_function('loads2', function() return loadstring('return type(redis.register_function)')() end)",
    "redis.register_function('args', function(...) return {select('#', ...), type((...)), (...)[1], (select(2, ...))[1], (select(2, ...))[2]} end)",
    "redis.register_function('old', function(...) return arg.n end)",
    "local n = 0 redis.register_function('cnt', function() n = n + 1 return n end)",
    "local s = ('x'):rep(3) redis.register_function(s, function() return s end)",
    "local log = redis.log redis.register_function('lg', function() log(redis.LOG_NOTICE, 'x') return 'logged' end)",
    "redis.register_function('clog', redis.log)",
    "redis.register_function('env', function() local r = {} for k in pairs(redis) do r[#r + 1] = k end table.sort(r) return table.concat(r, ' ') end)",
    "redis.register_function('envg', function() local r = {} for k in pairs(_G) do if k ~= 'server' then r[#r + 1] = k end end table.sort(r) return table.concat(r, ' ') end)",
    "redis.register_function('mt', function() return type(getmetatable(_G)) .. tostring(getmetatable(redis)) end)",
    "redis.register_function('set', function() redis.x = 1 end)",
    "redis.register_function('setg', function() rawset(_G, 'x', 1) end)",
    "redis.register_function('sets', function() string.x = 1 end)",
    "redis.register_function('dec', function() return cjson.decode('[1') end)",
];

#[test]
fn libraries() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut here = Here::new();
    let mut differences = String::new();
    let mut compare = |what: &str, theirs: &[u8], ours: &[u8]| {
        if theirs != ours {
            let (theirs, ours) = (theirs.escape_ascii(), ours.escape_ascii());
            differences += &format!("{what}\n    redis:  {theirs}\n    larder: {ours}\n");
        }
    };
    for (number, body) in BODIES.iter().enumerate() {
        let text = format!("#!lua name=l{number}\n{body}");
        let theirs = written(&oracle.call(&["FUNCTION", "LOAD", &text]));
        let ours = match here.load(text.as_bytes()) {
            Ok(name) => written(&Reply::Bulk(name)),
            Err(text) => written(&Reply::Error(text)),
        };
        compare(body, &theirs, &ours);
    }
    let names: Vec<String> = (here.libraries.iter())
        .flat_map(|library| &library.functions)
        .map(|function| String::from_utf8(function.name.clone()).unwrap())
        .collect();
    assert!(names.len() > 30, "{}", names.len());
    for name in names.iter().map(String::as_str).chain(["cnt", "nothing"]) {
        let theirs = written(&oracle.call(&["FCALL", name, "1", "k", "v", "w"]));
        compare(name, &theirs, &here.call(name));
    }
    // In a library with more functions Redis answers them in any order.
    for library in here.libraries.iter().filter(|library| library.functions.len() == 1) {
        let name = String::from_utf8(library.name.clone()).unwrap();
        let theirs = oracle.call(&["FUNCTION", "LIST", "LIBRARYNAME", &name, "WITHCODE"]);
        compare(&name, &written(&theirs), &written(&listed(library)));
    }
    assert!(differences.is_empty(), "{differences}");
}

/// What FUNCTION LIST answers of one library.
fn listed(library: &library::Library) -> Reply {
    let bulk = |text: &[u8]| Reply::Bulk(text.to_vec());
    let functions = library.functions.iter().map(|function| {
        let flags = function.flags.words().map(|word| Reply::Status(word.into())).collect();
        Reply::Array(vec![
            bulk(b"name"),
            bulk(&function.name),
            bulk(b"description"),
            function.description.clone().map_or(Reply::Null, Reply::Bulk),
            bulk(b"flags"),
            Reply::Array(flags),
        ])
    });
    Reply::Array(vec![Reply::Array(vec![
        bulk(b"library_name"),
        bulk(&library.name),
        bulk(b"engine"),
        bulk(b"LUA"),
        bulk(b"functions"),
        Reply::Array(functions.collect()),
        bulk(b"library_code"),
        bulk(&library.text),
    ])])
}
