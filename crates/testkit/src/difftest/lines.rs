//! Lines for commands on connections and servers, whose words in COMMAND DOCS do not tell what is harmless here,
//! and what the two servers can agree on.
//! Invariant: no line ends a connection of the test or stops a server for longer than a millisecond.

use super::Request;

/// The lines of one command.
pub struct Lines {
    /// As in COMMAND DOCS: `client|kill`.
    pub name: &'static str,
    /// What may come up.
    pub lines: &'static [&'static str],
}

const fn lines(name: &'static str, lines: &'static [&'static str]) -> Lines {
    Lines { name, lines }
}

/// All commands with lines; their other words in COMMAND DOCS are not used.
pub static LINES: [Lines; 55] = [
    lines("acl|cat", &["ACL CAT", "ACL CAT read", "ACL CAT STREAM", "ACL CAT nope"]),
    lines(
        "acl|genpass",
        &["ACL GENPASS", "ACL GENPASS 5", "ACL GENPASS 0", "ACL GENPASS 4097", "ACL GENPASS x"],
    ),
    lines("acl|deluser", &["ACL DELUSER u1", "ACL DELUSER default", "ACL DELUSER u2 nobody"]),
    lines(
        "acl|dryrun",
        &[
            "ACL DRYRUN default GET k",
            "ACL DRYRUN u1 GET k",
            "ACL DRYRUN u2 SET k v GET",
            "ACL DRYRUN u1 NOPE",
            "ACL DRYRUN nobody GET k",
        ],
    ),
    lines("acl|getuser", &["ACL GETUSER u1", "ACL GETUSER u2", "ACL GETUSER default", "ACL GETUSER nobody"]),
    lines("acl|list", &["ACL LIST"]),
    lines("acl|load", &["ACL LOAD"]),
    lines("acl|log", &["ACL LOG RESET", "ACL LOG 0", "ACL LOG x", "ACL LOG 1 2"]),
    lines("acl|save", &["ACL SAVE"]),
    lines(
        "acl|setuser",
        &[
            "ACL SETUSER u1",
            "ACL SETUSER u1 on >p ~k* +@read -get",
            "ACL SETUSER u2 reset (+set ~k) &c",
            "ACL SETUSER u2 allkeys ~x",
            "ACL SETUSER u1 +nope",
        ],
    ),
    lines("acl|users", &["ACL USERS"]),
    lines("acl|whoami", &["ACL WHOAMI"]),
    lines("auth", &["AUTH x", "AUTH default x", "AUTH default x y"]),
    lines("client|caching", &["CLIENT CACHING YES", "CLIENT CACHING NO", "CLIENT CACHING x"]),
    lines("client|getredir", &["CLIENT GETREDIR"]),
    lines("client|id", &["CLIENT ID"]),
    lines("client|info", &["CLIENT INFO"]),
    lines(
        "client|kill",
        &[
            "CLIENT KILL ID 99999999",
            "CLIENT KILL ID 0",
            "CLIENT KILL ID x",
            "CLIENT KILL 1.2.3.4:5",
            "CLIENT KILL ADDR 1.2.3.4:5 SKIPME yes",
            "CLIENT KILL LADDR 1.2.3.4:5 SKIPME no",
            "CLIENT KILL USER nobody",
            "CLIENT KILL USER default MAXAGE 99999999",
            "CLIENT KILL TYPE master",
            "CLIENT KILL TYPE slave",
            "CLIENT KILL TYPE replica",
            "CLIENT KILL TYPE pubsub MAXAGE 99999999",
            "CLIENT KILL TYPE normal MAXAGE 99999999",
            "CLIENT KILL TYPE x",
            "CLIENT KILL SKIPME maybe",
            "CLIENT KILL MAXAGE x",
        ],
    ),
    lines(
        "client|list",
        &[
            "CLIENT LIST",
            "CLIENT LIST ID 99999999",
            "CLIENT LIST ID 99999999 99999998",
            "CLIENT LIST ID 0",
            "CLIENT LIST TYPE normal",
            "CLIENT LIST TYPE master",
            "CLIENT LIST TYPE replica",
            "CLIENT LIST TYPE pubsub",
            "CLIENT LIST TYPE x",
        ],
    ),
    lines("client|no-evict", &["CLIENT NO-EVICT ON", "CLIENT NO-EVICT OFF", "CLIENT NO-EVICT x"]),
    lines("client|no-touch", &["CLIENT NO-TOUCH ON", "CLIENT NO-TOUCH OFF", "CLIENT NO-TOUCH x"]),
    lines(
        "client|pause",
        &[
            "CLIENT PAUSE 1",
            "CLIENT PAUSE 1 WRITE",
            "CLIENT PAUSE 1 ALL",
            "CLIENT PAUSE -1",
            "CLIENT PAUSE x",
            "CLIENT PAUSE 1 x",
        ],
    ),
    lines(
        "client|setinfo",
        &["CLIENT SETINFO LIB-NAME x", "CLIENT SETINFO LIB-VER 1.2", "CLIENT SETINFO LIB-AGE 3"],
    ),
    lines("client|trackinginfo", &["CLIENT TRACKINGINFO"]),
    lines(
        "client|unblock",
        &[
            "CLIENT UNBLOCK 99999999",
            "CLIENT UNBLOCK 99999999 TIMEOUT",
            "CLIENT UNBLOCK 99999999 ERROR",
            "CLIENT UNBLOCK 99999999 x",
            "CLIENT UNBLOCK x",
        ],
    ),
    lines(
        "config|get",
        &[
            "CONFIG GET maxmemory",
            "CONFIG GET maxmemory-policy",
            "CONFIG GET hash-max-listpack-entries",
            "CONFIG GET SET-MAX-INTSET-ENTRIES zset-max-listpack-value",
            "CONFIG GET x y",
        ],
    ),
    lines("config|resetstat", &["CONFIG RESETSTAT"]),
    lines("config|rewrite", &["CONFIG REWRITE"]),
    lines(
        "config|set",
        &[
            "CONFIG SET hash-max-listpack-entries 3",
            "CONFIG SET hash-max-listpack-value 10",
            "CONFIG SET hash-max-listpack-entries 512 hash-max-listpack-value 64",
            "CONFIG SET set-max-listpack-entries 3",
            "CONFIG SET set-max-intset-entries 2",
            "CONFIG SET set-max-listpack-value 4",
            "CONFIG SET zset-max-listpack-entries 3",
            "CONFIG SET zset-max-listpack-value 4",
            "CONFIG SET list-max-listpack-size 3",
            "CONFIG SET list-max-listpack-size -1",
            "CONFIG SET hll-sparse-max-bytes 100",
            "CONFIG SET stream-node-max-entries 2",
            "CONFIG SET stream-node-max-bytes 100",
            "CONFIG SET hash-max-listpack-entries x",
            "CONFIG SET set-max-intset-entries 2 zset-max-listpack-value -4",
            "CONFIG SET no-such-option 1",
            "CONFIG SET set-max-intset-entries 2 set-max-intset-entries 3",
        ],
    ),
    lines(
        "eval",
        &[
            "EVAL \"return 1\" 0",
            "EVAL \"return {1, 2.5, 'a', true, false, {3}, nil, 4}\" 0",
            "EVAL \"return {KEYS, ARGV}\" 2 a b c",
            "EVAL \"return redis.call('set', KEYS[1], ARGV[1])\" 1 a 1",
            "EVAL \"return redis.call('incrby', KEYS[1], ARGV[1])\" 1 a 5",
            "EVAL \"return redis.pcall('lpush', KEYS[1], unpack(ARGV))\" 1 b x y z",
            "EVAL \"redis.setresp(3) return redis.call('hgetall', KEYS[1])\" 1 h",
            "EVAL \"local t = redis.call('type', KEYS[1]) return t.ok\" 1 a",
            "EVAL \"local n = 0 for i = 1, #KEYS do n = n + redis.call('exists', KEYS[i]) end return n\" 3 a b c",
            "EVAL \"redis.call('rename', KEYS[1], KEYS[2]) return redis.call('exists', KEYS[1])\" 2 a b",
            "EVAL \"return {redis.pcall('get', KEYS[1]), redis.pcall('llen', KEYS[1])}\" 1 a",
            "EVAL \"error('no')\" 0",
            "EVAL \"return redis.error_reply('MY no')\" 0",
            "EVAL \"return cjson.encode({a = 1})\" 0",
            "EVAL \"return struct.pack('>I2', 258)\" 0",
            "EVAL \"return (\" 0",
            "EVAL \"return 1\" 1",
            "EVAL \"return 1\" x",
        ],
    ),
    lines(
        "eval_ro",
        &[
            "EVAL_RO \"return redis.call('get', KEYS[1])\" 1 a",
            "EVAL_RO \"return redis.call('del', KEYS[1])\" 1 a",
            "EVAL_RO \"#!lua\\nreturn 1\" 0",
        ],
    ),
    lines(
        "evalsha",
        &[
            "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0",
            "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8dx 0",
            "EVALSHA x 0",
        ],
    ),
    lines("evalsha_ro", &["EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0", "EVALSHA_RO x 0"]),
    lines("fcall", &["FCALL f 1 a x", "FCALL f 0", "FCALL nope 0", "FCALL f x"]),
    lines("fcall_ro", &["FCALL_RO f 1 a x", "FCALL_RO nope 0"]),
    lines("function|delete", &["FUNCTION DELETE lib", "FUNCTION DELETE nope"]),
    lines("function|dump", &["FUNCTION DUMP"]),
    lines(
        "function|flush",
        &["FUNCTION FLUSH", "FUNCTION FLUSH SYNC", "FUNCTION FLUSH ASYNC", "FUNCTION FLUSH x"],
    ),
    lines("function|kill", &["FUNCTION KILL"]),
    lines(
        "function|list",
        &["FUNCTION LIST", "FUNCTION LIST WITHCODE", "FUNCTION LIST LIBRARYNAME L*", "FUNCTION LIST x"],
    ),
    lines(
        "function|load",
        &[
            "FUNCTION LOAD \"#!lua name=lib\\nredis.register_function('f', function(k, a) return {k[1], a[1]} end)\"",
            "FUNCTION LOAD REPLACE \"#!lua name=lib\\nredis.register_function('f', function(k, a) return redis.call('get', k[1] or 'a') end)\"",
            "FUNCTION LOAD \"#!lua name=lib\\nx\"",
            "FUNCTION LOAD x",
        ],
    ),
    lines(
        "function|restore",
        &[
            "FUNCTION RESTORE x",
            "FUNCTION RESTORE x NOPE",
            "FUNCTION RESTORE x FLUSH",
            "FUNCTION RESTORE x APPEND",
            "FUNCTION RESTORE x REPLACE",
        ],
    ),
    lines("function|stats", &["FUNCTION STATS"]),
    lines(
        "hello",
        &[
            "HELLO",
            "HELLO 2",
            "HELLO 3",
            "HELLO 4",
            "HELLO x",
            "HELLO 3 SETNAME a",
            "HELLO 2 AUTH default x",
            "HELLO 3 SETNAME",
            "HELLO 3 x",
        ],
    ),
    lines("latency|graph", &["LATENCY GRAPH x", "LATENCY GRAPH command"]),
    lines("latency|history", &["LATENCY HISTORY x", "LATENCY HISTORY command"]),
    lines("pfdebug", &PFDEBUG_LINES),
    lines("script|exists", &["SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db x"]),
    lines("script|flush", &["SCRIPT FLUSH", "SCRIPT FLUSH ASYNC", "SCRIPT FLUSH SYNC", "SCRIPT FLUSH x"]),
    lines("script|kill", &["SCRIPT KILL"]),
    lines("script|load", &["SCRIPT LOAD \"return 1\"", "SCRIPT LOAD \"return (\""]),
    lines(
        "slowlog|get",
        &["SLOWLOG GET", "SLOWLOG GET 0", "SLOWLOG GET -1", "SLOWLOG GET -2", "SLOWLOG GET x"],
    ),
    lines("wait", &["WAIT 0 1", "WAIT 1 1", "WAIT 0 -1", "WAIT x 1", "WAIT 0 x", "WAIT 0 0"]),
    lines(
        "waitaof",
        &[
            "WAITAOF 0 0 1",
            "WAITAOF 0 1 1",
            "WAITAOF 1 0 1",
            "WAITAOF 2 0 1",
            "WAITAOF 0 -1 1",
            "WAITAOF x 0 1",
            "WAITAOF 0 0 -1",
        ],
    ),
    lines("time", &["TIME"]),
];

const PFDEBUG_LINES: [&str; 8] = [
    "PFDEBUG ENCODING a",
    "PFDEBUG ENCODING b",
    "PFDEBUG DECODE a",
    "PFDEBUG DECODE b",
    "PFDEBUG GETREG a",
    "PFDEBUG TODENSE a",
    "PFDEBUG TODENSE nothing",
    "PFDEBUG x a",
];

/// What makes good what a sequence did to the configuration; the defaults of both servers.
pub const DEFAULTS: &str = "CONFIG SET hash-max-listpack-entries 512 hash-max-listpack-value 64 \
    set-max-listpack-entries 128 set-max-intset-entries 512 set-max-listpack-value 64 \
    zset-max-listpack-entries 128 zset-max-listpack-value 64 list-max-listpack-size -2 \
    hll-sparse-max-bytes 3000 stream-node-max-entries 100 stream-node-max-bytes 4096";

/// The lines of a command, split into words.
pub fn of(name: &str) -> Vec<Request> {
    let found = LINES.iter().find(|lines| lines.name == name);
    found.map_or(Vec::new(), |found| found.lines.iter().map(|line| split(line)).collect())
}

/// A line's words: between double quotes a blank is a part of a word, and `\n` is the end of a line.
pub fn split(line: &str) -> Request {
    let (mut words, mut in_quotes, mut is_escaped) = (vec![Vec::new()], false, false);
    for byte in line.bytes() {
        let Some(word) = words.last_mut() else { break };
        match byte {
            b'n' if std::mem::take(&mut is_escaped) => word.push(b'\n'),
            b'\\' => is_escaped = true,
            b'"' => in_quotes = !in_quotes,
            b' ' if !in_quotes => words.push(Vec::new()),
            byte => word.push(byte),
        }
    }
    words
}
