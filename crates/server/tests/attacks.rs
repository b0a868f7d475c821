//! The attack list: what a client may try that means harm, with nothing let in and nothing lost.
//!
//! Each test does what it does while another client is served, and looks afterwards at what is left: the data, the memory, the
//! server. Escapes from Lua are in the scripts' own tests, strangers' requests in `connections.rs`.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::client::encode;
use larder_testkit::{Client, Server, Value};
use scenario::{figure, get, larder, ok, resident_bytes, until};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// What no attack may make the server take, in bytes of resident memory.
const RESIDENT_MAX: usize = 300 << 20;

/// The server is well: it answers, has what it had, and takes little.
fn is_well(server: &Server, client: &mut Client) {
    assert_eq!(get(client, "kept"), "safe");
    let resident = resident_bytes(server);
    assert!(resident < RESIDENT_MAX, "{resident} bytes are resident");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

fn begin(options: &[&str]) -> (Server, Client) {
    let server = larder(2, options);
    let mut client = server.client();
    ok(&mut client, "SET kept safe");
    (server, client)
}

#[test]
fn numbers_beyond_all_measure_are_refused_or_mean_little() {
    let (server, mut client) = begin(&[]);
    for line in ["RPUSH l a b c", "SADD s a b c", "HSET h a 1 b 2", "ZADD z 1 a 2 b", "XADD x 1-1 a b"] {
        client.run(line).unwrap();
    }
    let [max, min, wide] = ["9223372036854775807", "-9223372036854775808", "99999999999999999999999"];
    let lines = [
        "LRANGE l MIN MAX",
        "LPOP none MAX",
        "LPOS l a COUNT MAX MAXLEN MAX",
        "LPOS l a RANK MIN",
        "LTRIM none MIN MAX",
        "LMPOP MAX l LEFT",
        "BLMPOP 0.01 MAX l LEFT",
        "BLPOP none 1e300",
        "LINDEX l MIN",
        "LSET l MIN x",
        "LREM l MIN nothing",
        "SRANDMEMBER s MIN",
        "SRANDMEMBER none MIN",
        "SRANDMEMBER s MAX",
        "SPOP none MAX",
        "SINTERCARD MAX s",
        "SSCAN s 0 COUNT MAX",
        "HRANDFIELD h MIN",
        "HRANDFIELD none MIN WITHVALUES",
        "HRANDFIELD h MAX WITHVALUES",
        "HSCAN h MAX",
        "HINCRBY h a MAX",
        "HEXPIRE h MAX FIELDS 1 a",
        "HPEXPIRE h 1 FIELDS MAX a",
        "HSETEX h EX MAX FIELDS 1 a 1",
        "HGETEX h FIELDS MAX a",
        "ZRANDMEMBER z MIN",
        "ZRANDMEMBER none MIN WITHSCORES",
        "ZRANGE z MIN MAX",
        "ZRANGEBYSCORE z -inf +inf LIMIT MAX MAX",
        "ZUNION MAX z",
        "ZINTER WIDE z",
        "ZDIFFSTORE d MAX z",
        "ZMPOP MAX z MIN",
        "ZPOPMIN none MAX",
        "ZADD z nan a",
        "ZINCRBY z inf none",
        "XADD x MAXLEN MAX * a b",
        "XADD x 18446744073709551615-18446744073709551615 a b",
        "XRANGE x - + COUNT MAX",
        "XREAD COUNT MAX BLOCK 1 STREAMS x MAX",
        "XTRIM x MAXLEN MAX",
        "XAUTOCLAIM x g c 0 0 COUNT MAX",
        "XSETID x 1-1 ENTRIESADDED MIN",
        "SETRANGE kept MAX x",
        "SETRANGE none 536870912 x",
        "GETRANGE kept MIN MAX",
        "SETBIT none 4294967296 1",
        "SETBIT none MAX 1",
        "GETBIT kept MAX",
        "BITCOUNT kept MIN MAX",
        "BITPOS kept 1 MIN MAX",
        "BITFIELD none SET u8 MAX 1",
        "BITFIELD none SET u8 #MAX 1",
        "BITFIELD none OVERFLOW WRAP INCRBY i64 0 MAX",
        "INCRBY none2 MAX",
        "INCRBY none2 1",
        "DECRBY none MIN",
        "INCRBYFLOAT none 1e5000",
        "INCREX none BYINT MAX UBOUND MIN SATURATE",
        "CL.THROTTLE none MAX MAX MAX MAX",
        "APPEND none3 x",
        "EXPIRE kept MAX",
        "PEXPIREAT kept MAX",
        "SET none x EX MAX",
        "SET none x PXAT MAX",
        "GETEX kept EX MAX",
        "MSETEX MAX a b",
        "LCS l kept",
        "SCAN MAX COUNT MAX",
        "SCAN 0 COUNT MAX",
        "OBJECT FREQ none",
        "COPY kept none DB MAX",
        "MOVE kept MAX",
        "SELECT MAX",
        "SWAPDB 0 MAX",
        "SORT l LIMIT MIN MAX BY nosort",
        "GEOADD g 200 200 a",
        "GEOSEARCH none FROMLONLAT 0 0 BYRADIUS 1e308 km ASC COUNT MAX",
        "GEORADIUS none 0 0 -1 m",
        "PFADD hll a",
        "DEBUG JMAP",
        "EVAL return 1 MAX",
        "EVAL return 1 WIDE",
        "FCALL none MAX",
        "CLIENT KILL ID MAX",
        "CLIENT PAUSE 0",
        "CLIENT NO-EVICT MAX",
        "SLOWLOG GET MAX",
        "LATENCY HISTORY none",
        "ACL LOG MAX",
        "ACL GENPASS MAX",
        "MEMORY USAGE l SAMPLES MAX",
        "CONFIG SET maxmemory WIDE",
        "CONFIG SET hz MAX",
        "WAIT MAX 1",
        "WAITAOF 0 MAX 1",
        "CACHE HOTKEYS MAX",
        "CACHE BIGKEYS MAX",
        "GETLEASE none WAIT MAX",
        "RESTORE none MAX abc",
        "OBJECT ENCODING WIDE",
        "LOLWUT VERSION MAX MAX MAX",
        "DUMP none",
        "PSUBSCRIBE",
    ];
    let mut asker = server.client();
    asker.set_reply_timeout(Duration::from_secs(5)).unwrap();
    for line in lines {
        let line = line.replace("MAX", max).replace("MIN", min).replace("WIDE", wide);
        asker.run(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    ok(&mut client, "SET kept safe");
    is_well(&server, &mut client);
    // Requests whose lengths nobody could send.
    for request in [
        "*2147483648\r\n",
        "*1048577\r\n$1\r\na\r\n",
        "*99999999999999999999\r\n",
        "*-2\r\n",
        "*1\r\n$536870913\r\n",
        "*1\r\n$-5\r\n",
        "*1\r\n$99999999999999999999\r\n",
        "*1\r\n:5\r\n",
        "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$536870912\r\n",
        "*1048576\r\n$536870912\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.write_all(&[b'x'; 4096]).unwrap_or(());
        is_well(&server, &mut client);
    }
}

#[test]
fn requests_that_never_end_take_what_has_come_of_them() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (server, mut client) = begin(&["--timeout", "1", "--memcached-port", &port.to_string()]);
    let memcached = format!("127.0.0.1:{port}");
    let streams: Vec<TcpStream> = (0..200)
        .map(|number: usize| {
            let address = if number % 8 < 4 { server.address() } else { memcached.clone() };
            let mut stream = TcpStream::connect(address).unwrap();
            let start: &[u8] = match number % 8 {
                0 => b"*1000000\r\n$400000000\r\n",
                1 => b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\nabc",
                2 => b"GET ",
                3 => b"*",
                4 => b"set k 0 0 500000000\r\nabc",
                5 => b"ms k 500000000\r\nabc",
                6 => b"get ",
                _ => b"",
            };
            stream.write_all(start).unwrap();
            stream
        })
        .collect();
    is_well(&server, &mut client);
    // Where there is a time-out, who stops in the middle of a request is as idle as who asks nothing.
    until("they are gone", || {
        assert_eq!(get(&mut client, "kept"), "safe");
        figure(&mut client, "connected_clients") == 1
    });
    drop(streams);
    is_well(&server, &mut client);
}

#[test]
fn clients_may_not_take_more_memory_together_than_is_said() {
    for limit in ["8mb", "10%"] {
        let (server, mut client) = begin(&["--maxmemory", "80mb", "--maxmemory-clients", limit]);
        ok(&mut client, "CLIENT SETNAME small");
        let mut spared = server.client();
        ok(&mut spared, "CLIENT NO-EVICT ON");
        spared.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3000000\r\n").unwrap();
        spared.send_raw(&vec![b'x'; 2_900_000]).unwrap();
        // One grows by a request that is not whole, one by a transaction, one by replies it does not read.
        ok(&mut client, &format!("SET big {}", "x".repeat(15_000)));
        let attacks: [Vec<u8>; 3] = [
            [&b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$60000000\r\n"[..], &vec![b'x'; 20_000_000]].concat(),
            [encode(&["MULTI"]), encode(&["SET", "k", &"x".repeat(10_000)]).repeat(2_000)].concat(),
            encode(&["GET", "big"]).repeat(4_000),
        ];
        for (number, attack) in (1..).zip(&attacks) {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            let _ = stream.write_all(attack);
            until("the large client is gone", || figure(&mut client, "evicted_clients") >= number);
            assert_eq!(figure(&mut client, "evicted_clients"), number);
        }
        // Who asked to be spared goes on, and so does the small one.
        spared.send_raw(&[&vec![b'x'; 100_000][..], b"\r\n"].concat()).unwrap();
        assert_eq!(spared.read().unwrap().text(), "OK");
        assert!(server.log().contains("evicting a client"), "{}", server.log());
        is_well(&server, &mut client);
    }
}

#[test]
fn many_small_clients_are_closed_until_the_rest_fits() {
    let (server, mut client) = begin(&["--maxmemory-clients", "2mb"]);
    ok(&mut client, "CLIENT NO-EVICT ON");
    let half = [&b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$30000\r\n"[..], &[b'x'; 20_000]].concat();
    let streams: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            let _ = stream.write_all(&half);
            stream
        })
        .collect();
    until("many are gone", || figure(&mut client, "evicted_clients") >= 100);
    until("the rest fits", || {
        let clients = client.run("CLIENT LIST").unwrap().text();
        let bytes = clients
            .lines()
            .filter_map(|line| line.split("tot-mem=").nth(1)?.split(' ').next()?.parse::<usize>().ok());
        bytes.sum::<usize>() < 2 << 20
    });
    assert!(figure(&mut client, "connected_clients") > 20, "no more are closed than need be");
    drop(streams);
    is_well(&server, &mut client);
}

#[test]
fn payloads_for_libraries_of_scripts_end_in_errors() {
    let (server, mut client) = begin(&[]);
    let deep = |open: &str, count: usize| open.repeat(count);
    let scripts: Vec<(&str, Vec<u8>)> = vec![
        ("return cjson.decode(ARGV[1])", deep("[", 2_000_000).into_bytes()),
        ("return cjson.decode(ARGV[1])", deep("{\"a\":", 500_000).into_bytes()),
        ("return cjson.decode(ARGV[1])", format!("{}{}", deep("[", 999), deep("]", 999)).into_bytes()),
        ("return cjson.decode(ARGV[1])", b"1e999999999".to_vec()),
        ("return cjson.decode(ARGV[1])", b"\"\\ud800\\u\"".to_vec()),
        ("local t = {} for i = 1, 100000 do t = {t} end return cjson.encode(t)", Vec::new()),
        ("local t = {} t.t = t return cjson.encode(t)", Vec::new()),
        ("return cjson.encode({[1] = 1, [1000000000] = 2})", Vec::new()),
        ("local t = {} t.t = t return #cmsgpack.pack(t)", Vec::new()),
        ("return cmsgpack.unpack(ARGV[1])", vec![0x91; 1_000_000]),
        ("return cmsgpack.unpack(ARGV[1])", vec![0xdd, 0xff, 0xff, 0xff, 0xff]),
        ("return cmsgpack.unpack(ARGV[1])", vec![0xdb, 0xff, 0xff, 0xff, 0xff, b'a']),
        ("return cmsgpack.unpack_limit(ARGV[1], 1000000, 99999999999)", vec![0xc0; 1000]),
        ("return struct.pack('c2000000000', 'x')", Vec::new()),
        ("return struct.unpack('c2000000000', ARGV[1])", b"x".to_vec()),
        ("return struct.unpack('i8', ARGV[1], 9223372036854775807)", b"12345678".to_vec()),
        ("return struct.size('i99')", Vec::new()),
        ("return bit.tohex(1, -2147483648)", Vec::new()),
        ("return string.rep('x', 10000000000)", Vec::new()),
        ("local s = 'x' while true do s = s .. s end", Vec::new()),
        ("return string.format('%99999d', 1)", Vec::new()),
        ("return table.concat({}, 'x', 1, 2^53)", Vec::new()),
        ("return unpack({}, 1, 1e8)", Vec::new()),
        ("local t = {} for i = 1, 1e6 do t[i] = {} end return t", Vec::new()),
        ("local function f() return f() + 1 end return f()", Vec::new()),
        ("return redis.call(unpack({'PING', 'x'}, 1, 1000000))", Vec::new()),
        ("return loadstring(ARGV[1])", [b"\x1bLJ".to_vec(), vec![0; 100]].concat()),
        ("return loadstring(string.dump(function() end))", Vec::new()),
    ];
    let mut asker = server.client();
    asker.set_reply_timeout(Duration::from_secs(60)).unwrap();
    for (script, payload) in &scripts {
        let reply = asker.command(&[&b"EVAL"[..], script.as_bytes(), b"0", payload]);
        reply.unwrap_or_else(|error| panic!("{script}: {error}"));
        assert_eq!(get(&mut client, "kept"), "safe", "{script}");
    }
    is_well(&server, &mut client);
}

/// What was once a way out of the sandbox, or into memory, in Redis or another server with Lua: the names are those of the reports. Each
/// answers what nothing was gained by, or an error.
const KNOWN_ESCAPES: &[(&str, &str, &str)] = &[
    // Bytecode that breaks the machine's own rules.
    (
        "CVE-2015-4335",
        "return tostring(loadstring(string.dump(function() return 1 end)))",
        "nil|unable to dump",
    ),
    ("CVE-2015-4335", "return tostring((loadstring('\\27Lua')))", "nil"),
    ("CVE-2015-4335", "return tostring((loadstring('\\27LJ')))", "nil"),
    // A library that a distribution forgot to take away.
    (
        "CVE-2022-0543",
        "return type(rawget(_G, 'package')) .. type(rawget(_G, 'io')) .. type(rawget(_G, 'debug'))",
        "nilnilnil",
    ),
    (
        "CVE-2022-0543",
        "return package.loadlib('/usr/lib/x86_64-linux-gnu/liblua5.1.so.0', 'luaopen_io')",
        "nonexistent global",
    ),
    (
        "LuaJIT",
        "return type(rawget(_G, 'ffi')) .. type(rawget(_G, 'jit')) .. type(rawget(_G, 'require'))",
        "nilnilnil",
    ),
    ("LuaJIT", "return 1LL", "malformed number"),
    // What others run is not to be changed: globals, libraries, what all values of a type share.
    ("CVE-2022-24735", "redis.call = function() return 'mine' end return 'changed'", "readonly table"),
    ("CVE-2022-24735", "_G.redis = {} return 'changed'", "readonly table"),
    ("CVE-2022-24735", "rawset(redis, 'call', 1) return 'changed'", "readonly table"),
    (
        "CVE-2022-24735",
        "setmetatable(_G, {__index = function() return 1 end}) return 'changed'",
        "readonly table",
    ),
    ("CVE-2022-24735", "table.insert(redis, 1) return 'changed'", "readonly table"),
    (
        "CVE-2025-46818",
        "getmetatable('').__index = function() return 1 end return 'changed'",
        "readonly table",
    ),
    ("CVE-2025-46818", "getmetatable('').__index.upper = 1 return 'changed'", "readonly table"),
    ("CVE-2025-46818", "rawset(getmetatable(''), '__index', 1) return 'changed'", "readonly table"),
    (
        "CVE-2025-46818",
        "return tostring(getmetatable(nil)) .. tostring(getmetatable(1)) .. tostring(getmetatable(print == nil))",
        "nilnilnil|nonexistent",
    ),
    ("sandbox", "setfenv(1, {}) return 'changed'", "nonexistent global"),
    ("sandbox", "return getfenv(0)", "nonexistent global"),
    ("sandbox", "newproxy(true) return 'changed'", "nonexistent global"),
    ("sandbox", "loadstring('redis = 1')() return 'changed'", "readonly table"),
    ("sandbox", "cjson.encode = 1 return 'changed'", "readonly table"),
    // Numbers and lengths that wrap around.
    (
        "CVE-2018-11218",
        "local t = {} for i = 1, 20 do t = {t, t} end return #cmsgpack.pack(t) > 0 and 'packed'",
        "packed",
    ),
    ("CVE-2018-11219", "return struct.unpack('>I2147483648', 'x')", "integral size|limits"),
    ("CVE-2020-14147", "return struct.pack('>I2147483648', '10')", "integral size|limits"),
    ("CVE-2020-14147", "return struct.unpack('c2147483649', '10')", "integral size overflow"),
    ("CVE-2021-32626", "return cmsgpack.unpack(string.rep('\\145', 1000000))", "stack overflow"),
    ("CVE-2022-24834", "local s = string.rep('\\1', 9000000) return tostring(#cjson.encode(s))", "54000002"),
    ("CVE-2024-31449", "return bit.tohex(1, -2147483648)", "00000001"),
    ("CVE-2025-46817", "return unpack({0, 0}, -2147483648, 2147483647)", "too many results"),
    ("CVE-2025-46817", "return unpack({'x'}, 2147483647, 2147483648)", "too many results|-1|"),
    // Reading behind the source's end, and of what the collector has freed.
    ("CVE-2025-46819", "return [=================", "invalid long string|unfinished"),
    ("CVE-2025-46819", "return '\\x", "invalid escape|unfinished string"),
    (
        "CVE-2025-49844",
        "for i = 1, 2000 do loadstring(string.rep('x', i), string.rep('n', 9000) .. i) collectgarbage('step') end return 'freed'",
        "freed",
    ),
    (
        "CVE-2024-46981",
        "local t = setmetatable({}, {__gc = function() redis.call('set', 'kept', 'x') end}) t = nil collectgarbage() return 'freed'",
        "freed",
    ),
    (
        "CVE-2024-46981",
        "local t = setmetatable({}, {__mode = 'kv'}) for i = 1, 1e5 do t[{}] = {} end collectgarbage() return 'freed'",
        "freed",
    ),
];

/// All scripts of a worker run in one state: what a user leaves there would be found by others.
#[test]
fn known_escapes_from_lua_lead_nowhere() {
    let (server, mut client) = begin(&["--threads", "1"]);
    let script =
        "return {redis.call('GET', KEYS[1]), ('x'):upper(), cjson.encode({1}), type(redis), tostring(nil)}";
    let of_another = |client: &mut Client| client.command(&["EVAL", script, "1", "kept"]).unwrap();
    let before = of_another(&mut client);
    ok(&mut client, "ACL SETUSER mallory on >pw ~mine:* +@scripting +get +set");
    let mut mallory = server.client();
    ok(&mut mallory, "AUTH mallory pw");
    mallory.set_reply_timeout(Duration::from_secs(60)).unwrap();
    for (name, script, answers) in KNOWN_ESCAPES {
        let reply =
            mallory.command(&["EVAL", script, "0"]).unwrap_or_else(|error| panic!("{script}: {error}"));
        let told = reply.text();
        assert!(answers.split('|').any(|answer| told.contains(answer)), "{name}: {script}: {told}");
        assert_eq!(of_another(&mut client), before, "{name}: {script}");
    }
    is_well(&server, &mut client);
}

/// A small script may be large once it is compiled, or once it is answered; nobody waits for long, and who waits can end it.
#[test]
fn scripts_that_explode_are_refused_or_ended() {
    let (server, mut client) = begin(&["--busy-reply-threshold", "50"]);
    let mut asker = server.client();
    asker.set_reply_timeout(Duration::from_secs(60)).unwrap();
    for (head, part, count, tail) in [
        ("return ", "(", 1_000_000, ""),
        ("return ", "{", 1_000_000, ""),
        ("return ", "not ", 1_000_000, "1"),
        ("return ", "function() return ", 300_000, ""),
        ("return ", "return ", 1_000_000, ""),
        ("return 1", "^1", 1_000_000, ""),
        ("", "if x then ", 300_000, ""),
        ("if 1 then ", "elseif 1 then ", 500_000, "end"),
        ("return 1", " and 1", 1_000_000, ""),
        ("local function f() ", "arg = pcall return pcall(1) ", 300_000, "end"),
        ("", "function f(...) arg=1 ", 200_000, ""),
        ("", "goto a ", 500_000, ""),
    ] {
        let script = format!("{head}{}{tail}", part.repeat(count));
        let reply = asker.command(&["EVAL", &script, "0"]);
        let reply = reply.unwrap_or_else(|error| panic!("{head}{part}..: {error}"));
        assert!(reply.is_error(), "{head}{part}..: {reply:?}");
    }
    for script in [
        "local t = {} for i = 1, 60 do t = {t, t} end return t",
        "local t = {} t[1], t[2] = t, t return t",
        "redis.setresp(3) local t = {} for i = 1, 60 do t = {map = {a = t, b = t}} end return t",
    ] {
        asker.send(&["EVAL", script, "0"]).unwrap();
        until("it can be ended", || client.run("SCRIPT KILL").unwrap().text() == "OK");
        let told = asker.read().unwrap().text();
        assert!(told.contains("killed by user"), "{script}: {told:.100}");
    }
    is_well(&server, &mut client);
}

/// Patterns that a simple matcher takes for ever for, or falls over: CVE-2022-36021 and CVE-2024-31228.
#[test]
fn patterns_take_no_time() {
    let (server, mut client) = begin(&[]);
    let name = "a".repeat(8_000);
    let patterns = [
        format!("{}b", "*a".repeat(4_000)),
        format!("{}b", "a*".repeat(4_000)),
        format!("{}b", "*?".repeat(4_000)),
        format!("*{}", "[a-z]*".repeat(2_000)),
        format!("*{}", "[^".repeat(4_000)),
        format!("{}b", "*".repeat(8_000)),
    ];
    client.command(&["SET", &name, "1"]).unwrap();
    let mut asker = server.client();
    asker.set_reply_timeout(Duration::from_secs(20)).unwrap();
    for pattern in &patterns {
        for words in [
            &["KEYS", pattern][..],
            &["SCAN", "0", "MATCH", pattern, "COUNT", "1000"],
            &["CONFIG", "GET", pattern],
            &["PUBSUB", "CHANNELS", pattern],
            &["FUNCTION", "LIST", "LIBRARYNAME", pattern],
            &["ACL", "SETUSER", "mallory", "resetkeys", &format!("~{pattern}")],
            &["ACL", "DRYRUN", "mallory", "GET", &name],
            &["COMMAND", "LIST", "FILTERBY", "PATTERN", pattern],
        ] {
            asker.command(words).unwrap_or_else(|error| panic!("{} {:.20}: {error}", words[0], pattern));
        }
        let mut subscriber = server.client();
        subscriber.command(&["PSUBSCRIBE", pattern]).unwrap();
        asker.command(&["PUBLISH", &name, "x"]).unwrap();
    }
    is_well(&server, &mut client);
}

/// Strangers who say who they are, and are wrong: however long their names, what is kept of them is little.
#[test]
fn failed_logins_leave_little_behind() {
    let (server, mut client) = begin(&[]);
    ok(&mut client, "CONFIG SET requirepass secret");
    let before = figure(&mut client, "used_memory");
    let strangers: Vec<Client> = (0..20)
        .map(|number| {
            let mut stranger = server.client();
            for round in 0..50 {
                let name = format!("{number}:{round}:{}", "x".repeat(16_000));
                let reply = stranger.command(&["AUTH", &name, &name]).unwrap();
                assert!(reply.text().starts_with("WRONGPASS"), "{reply:?}");
                let reply = stranger.command(&["HELLO", "3", "AUTH", &name, &name]).unwrap();
                assert!(reply.text().starts_with("WRONGPASS"), "{reply:?}");
            }
            // And they stay, in the middle of the longest request that they may send.
            let part = [&b"*10\r\n"[..], &encode(&["x".repeat(16_000)])[4..].repeat(9)].concat();
            stranger.send_raw(&part).unwrap();
            stranger
        })
        .collect();
    let kept = figure(&mut client, "used_memory").saturating_sub(before);
    // 128 lines of the log of access control, and twenty requests that are not whole.
    assert!(kept < 128 * 40_000 + 20 * 400_000, "{kept} bytes are kept of strangers");
    drop(strangers);
    is_well(&server, &mut client);
}

/// What a user who may read and write `mine:*` tries to learn of `kept`, or to change there.
const WAYS_AROUND: &[&str] = &[
    "GET kept",
    "MGET mine:a kept",
    "COPY kept mine:copy",
    "COPY mine:a kept REPLACE",
    "RENAME kept mine:a",
    "RENAME mine:a kept",
    "DUMP kept",
    "OBJECT ENCODING kept",
    "MEMORY USAGE kept",
    "DEBUG OBJECT kept",
    "STRLEN kept",
    "GETRANGE kept 0 -1",
    "LCS mine:a kept",
    "BITOP OR mine:b kept",
    "PFMERGE mine:c kept",
    "SET kept x",
    "DEL kept",
    "UNLINK kept",
    "DEL mine:a kept",
    "EXPIRE kept 1",
    "TOUCH kept",
    "EXISTS kept",
    "TTL kept",
    "TYPE kept",
    "SORT mine:list BY kept*",
    "SORT mine:list BY nosort GET kept",
    "SORT mine:list BY nosort GET *",
    "SORT mine:list STORE kept",
    "SORT_RO mine:list GET *",
    "SUNIONSTORE kept mine:set",
    "ZUNIONSTORE mine:z 2 mine:zset kept",
    "ZRANGESTORE kept mine:zset 0 -1",
    "GEORADIUS mine:geo 0 0 1 m STORE kept",
    "LMOVE mine:list kept LEFT LEFT",
    "BLMOVE mine:list kept LEFT LEFT 0",
    "BLPOP kept 0.01",
    "BRPOPLPUSH mine:list kept 0",
    "XREAD STREAMS kept 0",
    "XREADGROUP GROUP g c STREAMS kept >",
    "MIGRATE 127.0.0.1 1 kept 0 10",
    "MIGRATE 127.0.0.1 1 \"\" 0 10 KEYS mine:a kept",
    "RESTORE kept 0 x",
    "WATCH kept",
    "MSET mine:a 1 kept 2",
    "MSETNX mine:x 1 kept 2",
    "INCREX kept",
    "CL.THROTTLE kept 1 1 1",
    "GETLEASE kept",
    "EVAL \"return redis.call('GET', KEYS[1])\" 1 kept",
    "EVAL \"return redis.call('GET', 'kept')\" 0",
    "EVAL \"return redis.pcall('GET', 'ke' .. 'pt')\" 0",
    "EVAL \"return redis.call('COPY', 'kept', 'mine:a')\" 1 mine:a",
    "EVAL \"return redis.call('SORT', 'mine:list', 'BY', 'nosort', 'GET', '*')\" 1 mine:list",
    "EVAL_RO \"return redis.call('GET', KEYS[1])\" 1 kept",
    "FCALL steal 1 mine:a",
    "FCALL steal 1 kept",
    "CACHE GET kept",
    "CACHE INVALIDATE KEYS kept",
    "CACHE REFRESH kept",
    "SUBSCRIBE __keyspace@0__:kept",
    "PSUBSCRIBE *",
    "CONFIG GET *",
    "CONFIG SET requirepass x",
    "ACL SETUSER mallory ~*",
    "ACL GETUSER default",
    "MONITOR",
    "CLIENT KILL ID 1",
    "DEBUG SLEEP 0",
    "FLUSHALL",
    "SWAPDB 0 1",
    "SHUTDOWN NOSAVE",
    "SLOWLOG GET",
    "SCRIPT KILL",
    "KEYS *",
    "MODULE LOAD x",
];

#[test]
fn a_user_gets_by_its_rules_in_no_way() {
    let (server, mut client) = begin(&["--enable-debug-command", "yes"]);
    let library = "#!lua name=lib\nredis.register_function('steal', function(keys) return redis.call('GET', 'kept') end)";
    assert_eq!(client.command(&["FUNCTION", "LOAD", library]).unwrap().text(), "lib");
    ok(
        &mut client,
        "ACL SETUSER mallory on >pw ~mine:* &mine:* +@all -@admin -@dangerous +sort +sort_ro +migrate +restore +cache",
    );
    client.run("RPUSH mine:list kept").unwrap();
    client.run("SADD mine:set a").unwrap();
    client.run("ZADD mine:zset 1 a").unwrap();
    let mut mallory = server.client();
    ok(&mut mallory, "AUTH mallory pw");
    ok(&mut mallory, "SET mine:a own");
    for line in WAYS_AROUND {
        // Alone, within a transaction, and through a script.
        let reply = mallory.run(line).unwrap();
        assert!(is_refused(&reply), "{line}: {reply:?}");
        mallory.run("MULTI").unwrap();
        let queued = mallory.run(line).unwrap();
        let done = mallory.run("EXEC").unwrap();
        let replies = done.items().unwrap_or_default();
        assert!(queued.is_error() || replies.iter().all(is_refused), "{line}: {queued:?} {done:?}");
        let words: Vec<String> = words_of(line);
        let script = "return redis.call(unpack(ARGV))";
        let words = [["EVAL", script, "0"].map(str::to_owned).to_vec(), words].concat();
        let reply = mallory.command(&words).unwrap();
        assert!(is_refused(&reply), "{line} in a script: {reply:?}");
        assert_eq!(get(&mut client, "kept"), "safe", "{line}");
    }
    assert_eq!(client.run("TTL kept").unwrap(), Value::Integer(-1));
    // What was allowed when it was sent, or when it began to wait, is asked again when it is done.
    ok(&mut client, "ACL SETUSER mallory ~kept:list");
    mallory.run("MULTI").unwrap();
    mallory.run("RPUSH kept:list stolen").unwrap();
    ok(&mut client, "ACL SETUSER mallory resetkeys ~mine:*");
    let done = mallory.run("EXEC").unwrap();
    assert!(done.is_error() || done.items().unwrap().iter().all(is_refused), "{done:?}");
    assert_eq!(client.run("EXISTS kept:list").unwrap(), Value::Integer(0));
    ok(&mut client, "ACL SETUSER mallory ~kept:list");
    mallory.send(&["BLPOP", "kept:list", "0"]).unwrap();
    until("it waits", || figure(&mut client, "blocked_clients") == 1);
    ok(&mut client, "ACL SETUSER mallory resetkeys ~mine:*");
    client.run("RPUSH kept:list secret").unwrap();
    let reply = mallory.read_within(Duration::from_millis(200)).unwrap_or(None);
    assert!(reply.as_ref().is_none_or(is_refused), "{reply:?}");
    assert_eq!(client.run("LLEN kept:list").unwrap(), Value::Integer(1));
    is_well(&server, &mut client);
}

/// Who waits is asked for its rights to everything when it is served, and is gone when its user is.
#[test]
fn who_waits_keeps_no_rights_that_were_taken() {
    let (server, mut client) = begin(&[]);
    client.run("XGROUP CREATE all:stream g 0 MKSTREAM").unwrap();
    // What waits, what is taken from it, and what would serve it.
    for (wait, rules, served, left) in [
        (
            "BLMOVE all:list all:other LEFT LEFT 0",
            "resetkeys ~all:list",
            "RPUSH all:list secret",
            "LLEN all:list",
        ),
        ("BLMOVE all:list all:other LEFT LEFT 0", "-blmove", "RPUSH all:list secret", "LLEN all:list"),
        ("BRPOPLPUSH all:list all:other 0", "resetkeys ~all:other", "RPUSH all:list secret", "LLEN all:list"),
        (
            "BLMPOP 0 2 all:none all:list LEFT",
            "resetkeys ~all:none",
            "RPUSH all:list secret",
            "LLEN all:list",
        ),
        ("BZPOPMIN all:zset 0", "resetkeys", "ZADD all:zset 1 secret", "ZCARD all:zset"),
        ("BZMPOP 0 1 all:zset MIN", "-@all", "ZADD all:zset 1 secret", "ZCARD all:zset"),
        ("XREAD BLOCK 0 STREAMS all:stream $", "resetkeys", "XADD all:stream * a secret", "XLEN all:stream"),
        (
            "XREADGROUP GROUP g c BLOCK 0 STREAMS all:stream >",
            "resetkeys",
            "XADD all:stream * a secret",
            "XLEN all:stream",
        ),
    ] {
        ok(&mut client, "ACL SETUSER mallory reset on >pw ~all:* +@all");
        let mut mallory = server.client();
        ok(&mut mallory, "AUTH mallory pw");
        mallory.send_raw(&encode(&words_of(wait))).unwrap();
        until("it waits", || figure(&mut client, "blocked_clients") == 1);
        ok(&mut client, &format!("ACL SETUSER mallory {rules}"));
        client.run(served).unwrap();
        let reply = mallory.read_within(Duration::from_millis(100)).unwrap_or(None);
        assert!(reply.as_ref().is_none_or(is_refused), "{wait}, {rules}: {reply:?}");
        assert_eq!(client.run(left).unwrap(), Value::Integer(1), "{wait}, {rules}");
        drop(mallory);
        until("it is gone", || figure(&mut client, "blocked_clients") == 0);
        client.run("DEL all:list all:other all:zset").unwrap();
        client.run("XTRIM all:stream MAXLEN 0").unwrap();
    }
    // Without its user a connection ends, in the middle of a transaction or a wait as well.
    for begun in ["MULTI", "BLPOP all:list 0", "SUBSCRIBE news"] {
        ok(&mut client, "ACL SETUSER mallory reset on >pw ~all:* &* +@all");
        let mut mallory = server.client();
        ok(&mut mallory, "AUTH mallory pw");
        mallory.send_raw(&encode(&words_of(begun))).unwrap();
        until("it has begun", || client.run("CLIENT LIST").unwrap().text().contains("user=mallory"));
        assert_eq!(client.run("ACL DELUSER mallory").unwrap(), Value::Integer(1));
        until("it is shown out", || !client.run("CLIENT LIST").unwrap().text().contains("user=mallory"));
        client.run("RPUSH all:list secret").unwrap();
        assert_eq!(client.run("LLEN all:list").unwrap(), Value::Integer(1), "{begun}");
        client.run("DEL all:list").unwrap();
    }
    is_well(&server, &mut client);
}

/// The words of a line, quoted as on redis-cli's prompt.
fn words_of(line: &str) -> Vec<String> {
    larder_resp::split_words(line.as_bytes())
        .unwrap()
        .into_iter()
        .map(|word| String::from_utf8(word).unwrap())
        .collect()
}

/// Whether a reply tells and does nothing: an error for want of rights, or for the command's own reasons.
fn is_refused(reply: &Value) -> bool {
    reply.is_error()
}
