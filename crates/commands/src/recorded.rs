//! Command lines with the replies that redis-server 8.2 and valkey-server 9.1 gave, run in memory;
//! and random command lines beside a live redis-server.
//!
//! The recordings are in `recorded/`: a `#` starts an emptied keyspace, `>` is a command line, `<`
//! its reply in both protocol versions or `<2` and `<3` in one, escaped as in a Rust byte string.

use crate::alike::{Both, Draws};
use crate::testing::{World, run};
use larder_resp::{Protocol, split_words};

const REDIS: &str = include_str!("recorded/redis.txt");
const VALKEY: &str = include_str!("recorded/valkey.txt");

/// Answers what differs from a recording in one protocol version.
fn differences(recording: &str, protocol: Protocol) -> Vec<String> {
    let (mut world, mut line, mut found) = (World::new(), "", Vec::new());
    world.protocol = protocol;
    let other = if protocol == Protocol::Resp2 { "<3 " } else { "<2 " };
    for recorded in recording.lines() {
        if recorded.starts_with('#') {
            world = World::new();
            world.protocol = protocol;
        } else if let Some(command) = recorded.strip_prefix("> ") {
            line = command;
        } else if !recorded.starts_with(other) && !recorded.is_empty() {
            let (_, expected) = recorded.split_once(' ').unwrap();
            let words = split_words(line.as_bytes()).unwrap();
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let reply = world.run_words(&words).escape_ascii().to_string();
            if reply != expected {
                found.push(format!("{line}\n  recorded {expected}\n  ours     {reply}"));
            }
        }
    }
    found
}

#[test]
fn replies_are_those_recorded() {
    for recording in [REDIS, VALKEY] {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let found = differences(recording, protocol);
            assert!(found.is_empty(), "{protocol:?}\n{}", found.join("\n"));
        }
    }
}

#[test]
fn a_wrong_recording_is_noticed() {
    assert_eq!(
        differences("# x\n> SET k v\n< +OK\\r\\n\n> GET k\n< $1\\r\\nw\\r\\n", Protocol::Resp2).len(),
        1
    );
}

#[test]
fn replies_events_and_changes_are_those_of_redis() {
    let Some(mut both) = Both::start() else { return };
    // A key that ends on the way is a change here and none in Redis; its replies are compared above.
    let (lasting, _) = REDIS.split_once("# times that are past").unwrap();
    for line in lasting.lines() {
        if line.starts_with('#') {
            both.same("FLUSHALL");
        } else if let Some(command) = line.strip_prefix("> ") {
            both.same(command);
        }
    }
}

/// Command lines with words drawn from small sets, so that keys meet.
struct Lines(Draws);

impl Lines {
    fn key(&mut self) -> String {
        format!("k{}", self.0.below(4))
    }

    fn number(&mut self) -> String {
        let edges = ["0", "7", "8", "-8", "100", "9223372036854775807", "-9223372036854775808", "x", "01"];
        if self.0.below(3) == 0 {
            return self.0.pick(&edges).to_owned();
        }
        (self.0.below(60) as i64 - 20).to_string()
    }

    fn value(&mut self) -> String {
        let values = ["a", "abc", "hello world, hello", "12", "-5", "1.5", "\\x00\\xff\\x0f", "", "1e3"];
        let value = self.0.pick(&values);
        let times = if self.0.below(4) == 0 { self.0.below(80) } else { 1 };
        format!("\"{}\"", value.repeat(times))
    }

    fn string(&mut self) -> String {
        let (key, other, value) = (self.key(), self.key(), self.value());
        let (one, two, small) = (self.number(), self.number(), self.0.below(300));
        let float = self.0.pick(&["1.5", "-0.1", "1e10", "3", "x", "1e-10"]);
        let option = self.0.pick(&["NX", "XX", "GET", "KEEPTTL", "PX 99999"]);
        let more = self.0.pick(&["GET", "XX", "EX 100", ""]);
        let lcs = self.0.pick(&["", "LEN", "IDX", "IDX WITHMATCHLEN", "IDX MINMATCHLEN 3"]);
        match self.0.below(17) {
            0 | 1 => format!("SET {key} {value}"),
            2 => format!("SET {key} {value} {option} {more}"),
            3 => format!("GET {key}"),
            4 => format!("APPEND {key} {value}"),
            5 => format!("SETRANGE {key} {small} {value}"),
            6 => format!("GETRANGE {key} {one} {two}"),
            7 => format!("STRLEN {key}"),
            8 => format!("INCRBY {key} {one}"),
            9 => format!("DECRBY {key} {one}"),
            10 => format!("INCRBYFLOAT {key} {float}"),
            11 => format!("MGET {key} {other}"),
            12 => format!("MSET {key} {value} {other} {one}"),
            13 => format!("MSETNX {key} {value} {other} {one}"),
            14 => format!("GETDEL {key}"),
            15 => format!("LCS {key} {other} {lcs}"),
            _ => format!("GETSET {key} {value}"),
        }
    }

    fn bitmap(&mut self) -> String {
        let (key, other, third) = (self.key(), self.key(), self.key());
        let (one, two, small, bit) = (self.number(), self.number(), self.0.below(300), self.0.below(3));
        let kind =
            format!("{}{}", self.0.pick(&["u", "i"]), self.0.pick(&["1", "5", "8", "17", "32", "63", "64"]));
        let overflow = self.0.pick(&["WRAP", "SAT", "FAIL"]);
        let operation = self.0.pick(&["AND", "OR", "XOR", "NOT", "DIFF", "DIFF1", "ANDOR", "ONE"]);
        let unit = self.0.pick(&["", "BYTE", "BIT"]);
        match self.0.below(9) {
            0 => format!("SETBIT {key} {small} {bit}"),
            1 => format!("GETBIT {key} {small}"),
            2 => format!("BITCOUNT {key} {one} {two} {unit}"),
            3 => format!("BITPOS {key} {bit} {one} {two} {unit}"),
            4 => format!("BITPOS {key} {bit} {one}"),
            5 => format!("BITOP {operation} {key} {other} {third}"),
            6 => format!(
                "BITFIELD {key} OVERFLOW {overflow} SET {kind} {small} {one} INCRBY {kind} #{bit} {two}"
            ),
            7 => format!("BITFIELD_RO {key} GET {kind} {small} GET {kind} #{bit}"),
            _ => format!("BITCOUNT {key}"),
        }
    }

    fn hash(&mut self) -> String {
        let fields = ["a", "b", "c", "1", "01", "\"\""];
        let (key, field, other) = (self.key(), self.0.pick(&fields), self.0.pick(&fields));
        let (value, number) = (self.value(), self.number());
        let float = self.0.pick(&["1.5", "-0.1", "1e10", "3", "x", "inf"]);
        let at = self.0.pick(&["0", "1", "33177117420000", "33177117430000", "x", "-1"]);
        let condition = self.0.pick(&["", "NX", "XX", "GT", "LT"]);
        let end = self.0.pick(&["", "PERSIST", "PXAT 1", "PXAT 33177117420000"]);
        let set_end =
            self.0.pick(&["", "KEEPTTL", "PXAT 1", "PXAT 33177117420000", "FNX", "FXX PXAT 33177117430000"]);
        match self.0.below(22) {
            0..3 => format!("HSET {key} {field} {value}"),
            3 => format!("HSET {key} {field} {value} {other} {number}"),
            4 => format!("HMSET {key} {field} {value} {field} {number}"),
            5 => format!("HSETNX {key} {field} {value}"),
            6 => format!("HMGET {key} {field} {other}"),
            7 => format!("HDEL {key} {field} {other}"),
            8 => format!("HGETALL {key}"),
            9 => format!("HINCRBY {key} {field} {number}"),
            10 => format!("HINCRBYFLOAT {key} {field} {float}"),
            11 | 12 => format!("HPEXPIREAT {key} {at} {condition} FIELDS 2 {field} {other}"),
            13 => format!("HPERSIST {key} FIELDS 2 {field} {other}"),
            14 => format!("HPEXPIRETIME {key} FIELDS 2 {field} {other}"),
            15 => format!("HGETDEL {key} FIELDS 2 {field} {other}"),
            16 => format!("HGETEX {key} {end} FIELDS 2 {field} {other}"),
            17 | 18 => format!("HSETEX {key} {set_end} FIELDS 2 {field} {value} {other} {number}"),
            19 => format!("RENAME {key} {}", self.key()),
            20 => format!("COPY {key} {} REPLACE", self.key()),
            _ => format!("OBJECT ENCODING {key}"),
        }
    }

    fn hyperloglog(&mut self) -> String {
        let (key, other, third) = (self.key(), self.key(), self.key());
        let (many, from) = (self.0.below(120), self.0.below(5000));
        let elements: Vec<String> = (from..from + many).map(|element| format!("e{element}")).collect();
        match self.0.below(10) {
            0..4 => format!("PFADD {key} {}", elements.join(" ")),
            4 => format!("PFCOUNT {key}"),
            5 => format!("PFCOUNT {key} {other}"),
            6 => format!("PFMERGE {key} {other} {third}"),
            7 => format!("GET {key}"),
            8 => format!("PFDEBUG DECODE {key}"),
            _ => format!("PFDEBUG ENCODING {key}"),
        }
    }
}

#[test]
fn random_lines_do_what_they_do_in_redis() {
    let Some(mut both) = Both::start() else { return };
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut lines = Lines(Draws::new(seed));
    for round in 0..40 {
        both.same("FLUSHALL");
        for _ in 0..60 {
            let line = match round % 5 {
                4 => lines.hash(),
                0 | 1 => lines.string(),
                2 => {
                    if lines.0.below(3) == 0 {
                        lines.string()
                    } else {
                        lines.bitmap()
                    }
                }
                _ => lines.hyperloglog(),
            };
            both.same(line.trim_end());
        }
    }
}

/// What only Redis from 8.4 on has, by its documentation.
#[test]
fn comparisons_and_digests() {
    let mut world = World::new();
    let digest = "b6acb9d84a38ff74";
    for (line, reply) in [
        ("DIGEST k", "$-1\r\n".to_owned()),
        ("SET k \"Hello world\"", "+OK\r\n".into()),
        ("DIGEST k", format!("$16\r\n{digest}\r\n")),
        ("SET k w IFNE \"Hello world\"", "$-1\r\n".into()),
        ("SET k w IFDEQ B6ACB9D84A38FF74", "+OK\r\n".into()),
        ("SET k x IFDEQ b6acb9d84a38ff74", "$-1\r\n".into()),
        ("SET k x IFDNE b6acb9d84a38ff74 GET", "$1\r\nw\r\n".into()),
        ("SET k y IFDNE short", "-ERR digest must be exactly 16 hexadecimal characters\r\n".into()),
        ("SET k y IFDNE short GET", "-ERR digest must be exactly 16 hexadecimal characters\r\n".into()),
        ("SET none y IFDEQ short", "$-1\r\n".into()),
        ("SET k y IFNE x IFNE y", "-ERR syntax error\r\n".into()),
        ("SET k y IFNE x NX", "-ERR syntax error\r\n".into()),
        ("SET k y NX IFNE x", "-ERR syntax error\r\n".into()),
        ("SET k y IFNE", "-ERR syntax error\r\n".into()),
        ("GET k", "$1\r\nx\r\n".into()),
        ("SET new v IFNE x", "+OK\r\n".into()),
        ("SET new2 v IFDNE short", "+OK\r\n".into()),
        ("SET new3 v IFEQ x", "$-1\r\n".into()),
        ("DELEX k IFEQ y", ":0\r\n".into()),
        ("DELEX k IFNE x", ":0\r\n".into()),
        ("DELEX k IFFY x", "-ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE\r\n".into()),
        ("DELEX k IFDEQ x", "-ERR digest must be exactly 16 hexadecimal characters\r\n".into()),
        ("DELEX k IFEQ", "-ERR wrong number of arguments for 'delex' command\r\n".into()),
        ("DELEX none IFDEQ x", ":0\r\n".into()),
        ("DELEX k IFEQ x", ":1\r\n".into()),
        ("DELEX k", ":0\r\n".into()),
        ("DELEX new", ":1\r\n".into()),
    ] {
        assert_eq!(run(&mut world, line), reply, "{line}");
    }
    assert_eq!(world.effects().last().unwrap(), "0 del new");
}

#[test]
fn strings_do_not_grow_over_the_limit() {
    let mut world = World::new();
    world.limits.string_bytes_max = 10;
    let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    let no_offset = "-ERR bit offset is not an integer or out of range\r\n";
    for (line, reply) in [
        ("APPEND k 12345678", ":8\r\n"),
        ("APPEND k 123", too_long),
        ("APPEND k 12", ":10\r\n"),
        ("SETRANGE k 8 abc", too_long),
        ("SETRANGE k 8 ab", ":10\r\n"),
        ("SETRANGE none 11 a", too_long),
        ("SETBIT k 80 1", no_offset),
        ("BITFIELD k SET u8 #10 1", no_offset),
        ("GET k", "$10\r\n12345678ab\r\n"),
        ("EXISTS none", ":0\r\n"),
        ("LCS k k", "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len\r\n"),
    ] {
        assert_eq!(run(&mut world, line), reply, "{line}");
    }
}

/// A value too long for its entry lies apart, and edits of it are made where it lies.
#[test]
fn long_values_are_edited_and_read_in_part() {
    let mut world = World::new();
    let long = "x".repeat(5000);
    world.put(b"k", long.as_bytes());
    for (line, reply) in [
        ("APPEND k tail", ":5004\r\n"),
        ("SETRANGE k 4998 YZ", ":5004\r\n"),
        ("GETRANGE k 4997 -1", "$7\r\nxYZtail\r\n"),
        ("SETBIT k 40032 1", ":0\r\n"),
        ("STRLEN k", ":5005\r\n"),
        ("BITCOUNT k 5004 5004", ":1\r\n"),
        ("GETBIT k 40032", ":1\r\n"),
        ("BITOP NOT not k", ":5005\r\n"),
        ("BITOP AND none k not", ":5005\r\n"),
        ("BITPOS none 1", ":-1\r\n"),
        ("INCR k", "-ERR value is not an integer or out of range\r\n"),
    ] {
        assert_eq!(run(&mut world, line), reply, "{line}");
    }
}

#[test]
fn getreg_answers_every_register() {
    let mut world = World::new();
    run(&mut world, "PFADD h a b c");
    let reply = run(&mut world, "PFDEBUG GETREG h");
    assert!(reply.starts_with("*16384\r\n:0\r\n"));
    assert_eq!(reply.matches(":1\r\n").count() + reply.matches(":2\r\n").count(), 3);
    assert_eq!(run(&mut world, "PFDEBUG ENCODING h"), "+dense\r\n");
}

#[test]
fn a_write_is_an_access() {
    let mut world = World::new();
    world.put(b"long", "x".repeat(5000).as_bytes());
    run(&mut world, "MSET number 1 short abc");
    for (key, line) in [
        ("number", "INCR number"),
        ("number", "SETNX number 1"),
        ("number", "MSETNX number 1"),
        ("short", "APPEND short d"),
        ("short", "SET short x NX"),
        ("short", "SETBIT short 1 1"),
        ("long", "SETRANGE long 10 y"),
        ("long", "SET long x"),
    ] {
        world.pass(20_000);
        assert_eq!(run(&mut world, &format!("OBJECT IDLETIME {key}")), ":20\r\n", "{line}");
        run(&mut world, line);
        assert_eq!(run(&mut world, &format!("OBJECT IDLETIME {key}")), ":0\r\n", "{line}");
        for key in ["number", "short", "long"] {
            run(&mut world, &format!("TOUCH {key}"));
        }
    }
}
