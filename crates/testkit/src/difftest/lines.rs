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
pub static LINES: [Lines; 29] = [
    lines("acl|cat", &["ACL CAT", "ACL CAT read", "ACL CAT STREAM", "ACL CAT nope"]),
    lines(
        "acl|genpass",
        &["ACL GENPASS", "ACL GENPASS 5", "ACL GENPASS 0", "ACL GENPASS 4097", "ACL GENPASS x"],
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

/// A line's words.
pub fn split(line: &str) -> Request {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}
