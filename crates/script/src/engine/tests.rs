//! What the engine does with scripts, and they with it.

use super::*;

const INFO: Info = Info { version: "8.2.3", version_number: 0x0008_0203, memory_max: 32 << 20 };

/// Answers PING, echoes, and stops when told so.
#[derive(Default)]
struct Echo {
    ticks_left: Option<u32>,
    log: Vec<String>,
}

impl Host for Echo {
    fn call(&mut self, words: Words<'_>, protocol: Protocol, reply: &mut Output) -> Verdict {
        let word = |index: usize| words.spans[index].of(words.bytes);
        let mut reply = Reply::new(reply, protocol);
        match word(0) {
            b"ping" => reply.simple("PONG"),
            b"echo" => reply.bulk(word(1)),
            b"nil" => reply.null(),
            b"stop" => return Verdict::Stop,
            _ => reply.error(b"ERR no such thing"),
        }
        Verdict::GoOn
    }

    fn may(&mut self, words: Words<'_>) -> Option<bool> {
        let word = words.spans[0].of(words.bytes);
        (word != b"nope").then_some(word == b"get")
    }

    fn log(&mut self, level: i64, text: &[u8]) {
        self.log.push(format!("{level} {}", String::from_utf8_lossy(text)));
    }

    fn tick(&mut self) -> Verdict {
        match &mut self.ticks_left {
            None => Verdict::GoOn,
            Some(0) => Verdict::Stop,
            Some(left) => {
                *left -= 1;
                Verdict::GoOn
            }
        }
    }
}

fn run_with(engine: &mut Engine, code: &str, host: &mut Echo) -> Result<String, String> {
    let compiled =
        engine.compile("@user_script", code.as_bytes()).map_err(|text| String::from_utf8(text).unwrap())?;
    let mut out = Output::default();
    let mut reply = Reply::new(&mut out, Protocol::Resp2);
    let words = [&b"k1"[..], b"k2", b"a1"];
    match engine.run(compiled, 2, words.into_iter(), host, &mut reply) {
        Ended::Answered => Ok(String::from_utf8(out.to_vec()).unwrap().replace("\r\n", " ")),
        Ended::Stopped(_) => Err("stopped".to_owned()),
        Ended::Failed(Failure { text, place, is_counted }) => {
            let place = place.map(|(source, line)| format!("{}:{line}", String::from_utf8_lossy(&source)));
            let text = String::from_utf8_lossy(&text).into_owned();
            Err(format!("{text} | {} | {is_counted}", place.unwrap_or_default()))
        }
    }
}

fn run(code: &str) -> Result<String, String> {
    run_with(&mut Engine::new(&INFO).unwrap(), code, &mut Echo::default())
}

#[test]
fn scripts_see_their_words_and_call_commands() {
    assert_eq!(run("return {KEYS[1], KEYS[2], ARGV[1], #KEYS}").unwrap(), "*4 $2 k1 $2 k2 $2 a1 :2 ");
    assert_eq!(run("return redis.call('ping')").unwrap(), "+PONG ");
    assert_eq!(run("return redis.call('echo', 12)").unwrap(), "$2 12 ");
    assert_eq!(run("return redis.call('nil')").unwrap(), "$-1 ");
    assert_eq!(run("redis.setresp(3) return type(redis.call('nil'))").unwrap(), "$3 nil ");
    assert_eq!(run("return redis.sha1hex('')").unwrap(), "$40 da39a3ee5e6b4b0d3255bfef95601890afd80709 ");
    assert_eq!(run("return redis.REDIS_VERSION_NUM").unwrap(), ":524803 ");
}

#[test]
fn errors_say_where_they_were_raised() {
    for (code, expected) in [
        ("\nreturn redis.call('x')", "ERR no such thing | @user_script:2 | true"),
        ("\n\nredis.call('x')", "ERR no such thing | @user_script:3 | true"),
        (
            "local f = function() return redis.call('x') end\nreturn f()",
            "ERR no such thing | @user_script:1 | true",
        ),
        ("error('boo')", "ERR user_script:1: boo | @user_script:1 | false"),
        ("return error('boo')", "ERR user_script:1: boo | @user_script:1 | false"),
        ("error({err='MY boo'})", "MY boo | @user_script:1 | false"),
        ("error({})", "ERR unknown error | @user_script:1 | false"),
        ("error()", "ERR nil | @user_script:1 | false"),
        (
            "return nil .. 'x'",
            "ERR user_script:1: attempt to concatenate a nil value | @user_script:1 | false",
        ),
        (
            "return redis.call()",
            "ERR Please specify at least one argument for this redis lib call | @user_script:1 | false",
        ),
        (
            "return redis.call({})",
            "ERR Lua redis lib command arguments must be strings or integers | @user_script:1 | false",
        ),
        ("redis.log(1)", "ERR redis.log() requires two arguments or more. | @user_script:1 | false"),
        (
            "return redis.acl_check_cmd('nope')",
            "ERR Invalid command passed to redis.acl_check_cmd() | @user_script:1 | false",
        ),
    ] {
        assert_eq!(run(code).unwrap_err(), expected, "{code}");
    }
    assert_eq!(run("return (").unwrap_err(), "user_script:1: unexpected symbol near '<eof>'");
}

#[test]
fn errors_can_be_caught() {
    for (code, expected) in [
        ("return redis.pcall('x')", "-ERR no such thing "),
        (
            "local ok, e = pcall(redis.call, 'x') return {tostring(ok), e}",
            "*2 $5 false $17 ERR no such thing ",
        ),
        ("return {pcall(function() return 1, 2, 3 end)}", "*4 :1 :1 :2 :3 "),
        ("local ok, e = pcall(error, {a = 1}) return type(e)", "$5 table "),
        ("local ok, e = pcall(error, {err = 1}) return type(e)", "$6 number "),
        (
            "local ok, e = xpcall(function() return redis.call('x') end, function(e) return e.err end) return e",
            "$17 ERR no such thing ",
        ),
        ("return redis.error_reply('-boo')", "-ERR boo "),
        ("return redis.error_reply()", "-ERR wrong number or type of arguments "),
    ] {
        assert_eq!(run(code).unwrap(), expected, "{code}");
    }
}

#[test]
fn a_script_is_stopped_whatever_it_catches() {
    let mut engine = Engine::new(&INFO).unwrap();
    for code in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local co = coroutine.wrap(function() while true do end end) while true do pcall(co) end",
        "while true do pcall(redis.call, 'stop') end",
        "local function f() return f() end f()",
    ] {
        let mut host = Echo { ticks_left: Some(2), ..Echo::default() };
        assert_eq!(run_with(&mut engine, code, &mut host).unwrap_err(), "stopped", "{code}");
        assert_eq!(run_with(&mut engine, "return 1", &mut Echo::default()).unwrap(), ":1 ");
    }
}

#[test]
fn a_pattern_that_matches_for_ever_is_stopped() {
    let mut engine = Engine::new(&INFO).unwrap();
    for code in [
        "return string.find(string.rep('a', 50000), '.-.-.-b')",
        "return string.rep('a', 100000):match('.*.*.*b')",
        "return string.gsub(string.rep('a', 300000), '.-.-b', 'x')",
        "return string.gsub(string.rep('a', 300000), '.-.-b', function() end)",
        "return string.gsub(string.rep('a', 300000), '.-.-b', {})",
        "for one in string.gmatch(string.rep('a', 300000), '(.-)(.-)b') do end",
        "return string.find(string.rep('(', 500000), '%b()')",
        "return string.find(string.rep('a', 2000000), string.rep('a', 200000) .. 'b', 1, true)",
        "return string.find(string.rep('a', 30), 'a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-b')",
        "while true do pcall(string.find, string.rep('a', 50000), '.-.-.-b') end",
    ] {
        let mut host = Echo { ticks_left: Some(2), ..Echo::default() };
        assert_eq!(run_with(&mut engine, code, &mut host).unwrap_err(), "stopped", "{code}");
        assert_eq!(run_with(&mut engine, "return 1", &mut Echo::default()).unwrap(), ":1 ");
    }
}

#[test]
fn long_subjects_are_matched_as_short_ones() {
    for (code, expected) in [
        (
            "local s, n = string.gsub(string.rep('ab ', 10000), '(%w+) ', '%1-') return {#s, n, s:sub(1, 6)}",
            "*3 :30000 :10000 $6 ab-ab- ",
        ),
        (
            "return {string.find(string.rep(' ', 30000) .. 'k=v', '(%w+)=(%w+)')}",
            "*4 :30001 :30003 $1 k $1 v ",
        ),
        ("return string.match(string.rep('x', 30000) .. '12', '%d+$')", "$2 12 "),
        (
            "local n = 0 for a, b in string.gmatch(string.rep('k=v,', 9000), '(%w+)=(%w+)') do n = n + #a + #b end return n",
            ":18000 ",
        ),
        (
            "local n = 0 string.gsub(string.rep('a.', 15000), '%a%.*', function(x) n = n + #x end) return n",
            ":30000 ",
        ),
        ("return #string.gsub(string.rep('a', 30000), 'a*', {}, 1)", ":30000 "),
        ("return {pcall(string.find, string.rep('a', 30000), '(a*')}", "*2 $-1 $18 unfinished capture "),
        (
            "return {pcall(string.gsub, string.rep('a', 30000), 'a*', '%2')}",
            "*2 $-1 $21 invalid capture index ",
        ),
        (
            "string.gsub(string.rep('a', 30000), 'a*', function() return {} end)",
            "invalid replacement value (a table)",
        ),
        ("string.gsub(string.rep('a', 30000), 'a*', function() error({err = 'MINE own'}) end)", "MINE own"),
        (
            "return string.gsub(string.rep('a', 30000), 'a*', true)",
            "bad argument #3 to 'gsub' (string/function/table expected)",
        ),
        ("return {string.find(string.rep('a', 30000), 'b-', '29999')}", "*2 :29999 :29998 "),
    ] {
        let told = run(code).unwrap_or_else(|error| error);
        assert!(told.contains(expected), "{code}: {told}");
    }
    // What is said to be wrong is where the script is.
    for wrong in [
        "string.find(s, '[a*')",
        "string.gsub(s, '[a*', '')",
        "string.gsub(s, '[a*', {})",
        "for a in string.gmatch(s, '[a*') do end",
    ] {
        let error = run(&format!("local s = string.rep('a', 30000)\n{wrong}")).unwrap_err();
        assert!(error.starts_with("ERR user_script:2: malformed pattern (missing ']')"), "{wrong}: {error}");
    }
}

#[test]
fn memory_has_a_limit_and_the_state_goes_on() {
    let mut engine = Engine::new(&INFO).unwrap();
    for code in [
        "local t = {} while true do t[#t + 1] = {} end",
        "local s = 'x' while true do s = s .. s end",
        "return string.rep('x', 100 * 1024 * 1024)",
        "local t = {} while true do local ok = pcall(function() t[#t + 1] = string.rep('x', 1000000) .. #t end) if not ok then error('full') end end",
    ] {
        let error = run_with(&mut engine, code, &mut Echo::default()).unwrap_err();
        assert!(error.contains("not enough memory") || error.contains("full"), "{code}: {error}");
        engine.collect();
        assert!(engine.used_memory() < 8 << 20, "{code}: {}", engine.used_memory());
        assert_eq!(run_with(&mut engine, "return 1", &mut Echo::default()).unwrap(), ":1 ");
    }
}

#[test]
fn a_script_is_no_larger_than_memory_may_be() {
    let mut engine = Engine::new(&Info { memory_max: 4 << 20, ..INFO }).unwrap();
    let large: String = (0..60_000).map(|number| format!("'{number}', ")).collect();
    let error = engine.compile("@user_script", format!("return {{{large}}}").as_bytes()).unwrap_err();
    assert_eq!(error, b"not enough memory");
    engine.collect();
    assert!(engine.used_memory() < 1 << 20, "{}", engine.used_memory());
    let escaped = format!("return '{}'", "\\.".repeat(5_000_000));
    assert!(engine.compile("@user_script", escaped.as_bytes()).unwrap_err().ends_with(b"not enough memory"));
    assert_eq!(run_with(&mut engine, "return 1", &mut Echo::default()).unwrap(), ":1 ");
}

#[test]
fn a_reply_is_no_larger_than_memory_may_be_and_can_be_stopped() {
    let mut engine = Engine::new(&Info { memory_max: 4 << 20, ..INFO }).unwrap();
    for code in [
        "local t = {} for i = 1, 60 do t = {t, t} end return t",
        "local t = {} t[1], t[2] = t, t return t",
        "local s = string.rep('x', 300000) local t = {} for i = 1, 60 do t[i] = s end return t",
        "redis.setresp(3) local t = {} for i = 1, 60 do t = {map = {a = t, b = t}} end return t",
    ] {
        let mut out = Output::default();
        let mut reply = Reply::new(&mut out, Protocol::Resp3);
        reply.ok();
        let compiled = engine.compile("@user_script", code.as_bytes()).unwrap();
        let ended = engine.run(compiled, 0, std::iter::empty(), &mut Echo::default(), &mut reply);
        assert!(
            matches!(&ended, Ended::Failed(failure) if failure.text == b"ERR not enough memory"),
            "{code}: {ended:?}"
        );
        assert_eq!(out.to_vec(), b"+OK\r\n", "what was written of it is taken back");
    }
    let mut host = Echo { ticks_left: Some(3), ..Echo::default() };
    let code = "local t = {} for i = 1, 60 do t = {t, t} end return t";
    assert_eq!(run_with(&mut engine, code, &mut host).unwrap_err(), "stopped");
    assert_eq!(run_with(&mut engine, "return 1", &mut Echo::default()).unwrap(), ":1 ");
}

#[test]
fn a_command_has_as_many_words_as_lua_can_unpack() {
    let code = |count: u32| {
        format!("local t = {{}} for i = 1, {count} do t[i] = i end return redis.call('echo', unpack(t))")
    };
    for count in [1000, 1001, 7990] {
        assert_eq!(run(&code(count)).unwrap(), "$1 1 ", "{count}");
    }
    assert!(run(&code(8000)).unwrap_err().contains("too many results to unpack"));
    assert!(
        run("local t = {} for i = 1, 2000 do t[i] = i end t[1999] = {} return redis.call('echo', unpack(t))")
            .unwrap_err()
            .contains("must be strings")
    );
    let large = "redis.setresp(3) local t = {} for i = 1, 20000 do t['k' .. i] = 'v' end return {map = t}";
    assert!(run(large).unwrap().starts_with("*40000 "));
}

#[test]
fn the_log_gets_its_words_joined() {
    let mut host = Echo::default();
    run_with(&mut Engine::new(&INFO).unwrap(), "redis.log(redis.LOG_WARNING, 'a', 1, {}, 'b')", &mut host)
        .unwrap();
    assert_eq!(host.log, ["3 a 1 b"]);
}

#[test]
fn a_forgotten_script_leaves_its_memory() {
    let mut engine = Engine::new(&INFO).unwrap();
    engine.collect();
    let before = engine.used_memory();
    for number in 0..100 {
        let code = format!("return {number} -- {}", "x".repeat(1000));
        let compiled = engine.compile("@user_script", code.as_bytes()).unwrap();
        engine.forget(compiled);
    }
    engine.collect();
    assert!(engine.used_memory() < before + 4096, "{} {before}", engine.used_memory());
}

#[test]
fn scripts_are_watched_after_many_that_end_by_themselves() {
    let mut engine = Engine::new(&INFO).unwrap();
    for round in 0..3 {
        for _ in 0..2 * STRAIGHT_MIN {
            assert_eq!(
                run_with(&mut engine, "return redis.call('echo', ARGV[1])", &mut Echo::default()).unwrap(),
                "$2 a1 "
            );
        }
        assert!(!engine.is_watched.get());
        // One that is not watched is stopped where it asks for something.
        let stopped = "redis.pcall('stop') return redis.call('echo', 'x')";
        if round == 1 {
            assert_eq!(run_with(&mut engine, stopped, &mut Echo::default()).unwrap_err(), "stopped");
        }
        let mut host = Echo { ticks_left: Some(1), ..Echo::default() };
        let spinning = "while true do pcall(redis.call, 'ping') end";
        assert_eq!(run_with(&mut engine, spinning, &mut host).unwrap_err(), "stopped");
        assert!(engine.is_watched.get());
    }
}

#[test]
fn scripts_of_any_number_of_words_find_them() {
    let mut engine = Engine::new(&INFO).unwrap();
    for code in [
        "return {#KEYS, #ARGV, KEYS[1], ARGV[#ARGV]}",
        "local k = KEYS return {#k, #ARGV, k[1], ARGV[#ARGV]}",
    ] {
        let compiled = engine.compile("@user_script", code.as_bytes()).unwrap();
        for count in [0, 1, 2, 3, 5, 6, 7, 8, 30, 1200] {
            for keys in [0, 1, 2, 3, 6, 7, count].into_iter().filter(|keys| *keys <= count) {
                let words: Vec<String> = (1..=count).map(|number| number.to_string()).collect();
                let (mut out, mut host) = (Output::default(), Echo::default());
                let mut reply = Reply::new(&mut out, Protocol::Resp2);
                let bytes = words.iter().map(|word| word.as_bytes());
                assert_eq!(engine.run(compiled, keys, bytes, &mut host, &mut reply), Ended::Answered);
                let mut expected = vec![format!(":{keys}"), format!(":{}", count - keys)];
                let bulk = |word: &String| format!("${} {word}", word.len());
                expected.extend(words.first().filter(|_| keys > 0).map(bulk));
                if keys > 0 {
                    expected.extend(words.last().filter(|_| keys < count).map(bulk));
                }
                let expected = format!("*{} {} ", expected.len(), expected.join(" "));
                let text = String::from_utf8(out.to_vec()).unwrap().replace("\r\n", " ");
                assert_eq!(text, expected, "{keys} of {count}");
            }
        }
    }
}

#[test]
fn the_server_is_told_by_its_name() {
    let mut engine = Engine::new(&INFO).unwrap();
    let mut run = |code: &str| run_with(&mut engine, code, &mut Echo::default());
    assert_eq!(run("return server.SERVER_NAME").unwrap(), "$6 larder ");
    assert_eq!(
        run("return server.LARDER_VERSION").unwrap().split(' ').nth(1),
        Some(env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(run("return server.LARDER_VERSION_NUM > 0").unwrap(), ":1 ");
    assert_eq!(run("return server.REDIS_VERSION").unwrap(), "$5 8.2.3 ");
    assert_eq!(run("return server.call('echo', 'x')").unwrap(), "$1 x ");
    // What Redis has not got is not in its table.
    assert_eq!(run("return redis.SERVER_NAME").unwrap(), "$-1 ");
    assert!(run("server.x = 1").unwrap_err().contains("readonly"));
}
