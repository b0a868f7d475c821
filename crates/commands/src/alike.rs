//! Holds a world in memory beside a real redis-server 8.2 that the test harness starts: replies,
//! events and counts of changes must be alike, and so must what COMMAND says of each command.
//!
//! Without a redis-server the tests that use this say so and pass, except in CI.

use crate::command_info;
use crate::spec::Command;
use crate::testing::{World, spans_of};
use crate::{Args, Error};
use larder_resp::{Output, Protocol, Reply, split_words};
use larder_store::{DbIndex, Millis};
use larder_testkit::{Client, Redis82, Server, Value, available};
use std::io::{IoSlice, Write};
use std::net::{TcpListener, TcpStream};

/// Numbers and words that follow from a seed, to make command lines of.
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn new(seed: u64) -> Draws {
        Draws(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    /// One of some words.
    pub(crate) fn pick<'w>(&mut self, words: &[&'w str]) -> &'w str {
        words[self.below(words.len())]
    }

    /// A number from 0 to below 1.
    pub(crate) fn unit_interval(&mut self) -> f64 {
        self.below(1 << 30) as f64 / f64::from(1 << 30)
    }
}

/// A world in memory and a redis-server that are to be alike.
pub(crate) struct Both {
    pub(crate) world: World,
    _redis: Server,
    client: Client,
    listener: Client,
    wire: Wire,
}

impl Both {
    pub(crate) fn start() -> Option<Both> {
        let redis = available(Redis82::start())?;
        let (mut client, mut listener) = (redis.client(), redis.client());
        client.run("CONFIG SET notify-keyspace-events EAmnoc").unwrap();
        listener.run("PSUBSCRIBE __keyevent@*").unwrap();
        Some(Both { world: World::new(), _redis: redis, client, listener, wire: Wire::new() })
    }

    /// From now on both sides answer in RESP3.
    pub(crate) fn speak_resp3(&mut self) {
        self.client.run("HELLO 3").unwrap();
        self.world.protocol = Protocol::Resp3;
    }

    /// Stores a string on both sides, without a comparison.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) {
        self.world.put(key, value);
        self.client.command(&[&b"SET"[..], key, value]).unwrap();
        self.announced();
        self.world.effects();
        self.world.local.effects.take_changes();
    }

    /// Runs one command line on both sides; reply, events and number of changes must be equal.
    #[track_caller]
    pub(crate) fn same(&mut self, line: &str) {
        let words = split_words(line.as_bytes()).unwrap();
        self.same_words(&words.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    /// Like `same`, for any words; answers the reply. Lists of keys have no order.
    #[track_caller]
    pub(crate) fn same_words(&mut self, words: &[&[u8]]) -> Value {
        let line: Vec<String> = words.iter().map(|word| word.escape_ascii().to_string()).collect();
        let line = line.join(" ");
        self.take_time();
        let before = self.changes();
        let mut expected = self.client.command(words).unwrap();
        let changes = self.changes() - before;
        let mut announced = self.announced();
        if words[0].eq_ignore_ascii_case(b"select") {
            self.world.db = DbIndex(String::from_utf8_lossy(words[1]).parse().unwrap());
            return expected;
        }
        let reply = self.world.run_words(words);
        let mut seen = self.wire.read(&reply);
        let unordered: [&[u8]; 5] = [b"keys", b"scan", b"hgetall", b"hkeys", b"hvals"];
        if unordered.iter().any(|name| words[0].eq_ignore_ascii_case(name)) {
            sort_arrays(&mut seen);
            sort_arrays(&mut expected);
        }
        assert!(
            are_alike(&words[0].to_ascii_lowercase(), &seen, &expected),
            "{line}: {seen:?}, not {expected:?}"
        );
        let mut effects = self.world.effects();
        // Whether a read missed is told in the order of the look-ups, which is nobody's promise.
        announced.sort_by_key(|event| !event.contains(" keymiss "));
        effects.sort_by_key(|event| !event.contains(" keymiss "));
        assert_eq!(effects, announced, "the events of {line}");
        assert_eq!(self.world.local.effects.take_changes(), changes, "the changes of {line}");
        expected
    }

    /// Both sides live in the same millisecond, as far as that goes.
    fn take_time(&mut self) {
        let Value::Array(time) = self.client.run("TIME").unwrap() else { panic!("TIME answers an array") };
        let number = |at: usize| time[at].text().parse::<u64>().unwrap();
        self.world.local.now = Millis(number(0) * 1000 + number(1) / 1000);
    }

    fn changes(&mut self) -> u64 {
        let info = self.client.run("INFO persistence").unwrap().text();
        let line = info.lines().find_map(|line| line.strip_prefix("rdb_changes_since_last_save:"));
        line.unwrap().trim().parse().unwrap()
    }

    /// What redis-server announced since the last call, in the words of [`World::effects`].
    fn announced(&mut self) -> Vec<String> {
        self.listener.send(&["PING"]).unwrap();
        let mut events = Vec::new();
        loop {
            let Value::Array(message) = self.listener.read().unwrap() else { panic!("not a message") };
            if message[0].text() == "pong" {
                return events;
            }
            let (channel, key) = (message[2].text(), message[3].text());
            let (db, event) = channel.strip_prefix("__keyevent@").unwrap().split_once("__:").unwrap();
            events.push(format!("{db} {event} {key}"));
        }
    }
}

/// Times may differ by as much as the clocks of two processes that are asked one after the other.
fn are_alike(name: &[u8], seen: &Value, expected: &Value) -> bool {
    let apart = match name {
        b"ttl" | b"expiretime" | b"object" => 1,
        b"pttl" | b"pexpiretime" => 100,
        _ => 0,
    };
    match (seen, expected) {
        (Value::Integer(seen), Value::Integer(expected)) if *expected >= 0 => {
            seen.abs_diff(*expected) <= apart
        }
        _ => seen == expected,
    }
}

fn sort_arrays(value: &mut Value) {
    if let Value::Array(items) = value {
        items.iter_mut().for_each(sort_arrays);
        if items.len() != 2 || !matches!(items[1], Value::Array(_)) {
            items.sort();
        }
    }
}

/// Reads replies from memory by the test harness's own reader, which reads from sockets.
struct Wire {
    writer: TcpStream,
    reader: Client,
}

impl Wire {
    fn new() -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let reader = Client::connect(&listener.local_addr().unwrap().to_string()).unwrap();
        Wire { writer: listener.accept().unwrap().0, reader }
    }

    fn read(&mut self, reply: &[u8]) -> Value {
        self.writer.write_all(reply).unwrap();
        self.reader.read().unwrap()
    }

    fn written(&mut self, write: impl FnOnce(&mut Reply<'_>) -> Result<(), Error>) -> Value {
        let mut out = Output::default();
        if let Err(error) = write(&mut Reply::new(&mut out, Protocol::Resp3)) {
            Reply::new(&mut out, Protocol::Resp3).error(error.text());
        }
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = out.fill_slices(&mut slices);
        let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
        self.read(&bytes)
    }
}

/// Takes out what is said in our own words, and the order of subcommands.
fn without_prose(value: Value) -> Value {
    match value {
        Value::Map(pairs) => {
            let mut pairs: Vec<_> = pairs
                .into_iter()
                .map(|(key, value)| (key.clone(), field_without_prose(&key.text(), value)))
                .collect();
            if pairs.iter().all(|(key, _)| key.text().contains('|')) {
                pairs.sort();
            }
            Value::Map(pairs)
        }
        Value::Array(items) => {
            let mut items: Vec<_> = items.into_iter().map(without_prose).collect();
            if items.iter().all(|item| matches!(item, Value::Array(info) if info.len() == 10)) {
                items.sort();
            }
            Value::Array(items)
        }
        Value::Set(items) => Value::Set(items.into_iter().map(without_prose).collect()),
        other => other,
    }
}

fn field_without_prose(name: &str, value: Value) -> Value {
    match (name, value) {
        ("summary" | "complexity" | "notes" | "replaced_by", _) => Value::Null,
        // Versions, without what changed.
        ("history", Value::Set(entries)) => {
            let version = |entry| if let Value::Array(mut pair) = entry { pair.remove(0) } else { entry };
            Value::Set(entries.into_iter().map(version).collect())
        }
        (_, value) => without_prose(value),
    }
}

fn subcommands(command: &Command) -> impl ExactSizeIterator<Item = &crate::Spec> {
    command.subcommands.iter().map(|command| &command.spec)
}

/// Commands whose grammar also takes what Valkey or later versions have.
const EXTENDED: [&str; 6] = ["bitcount", "geosearch", "geosearchstore", "hsetex", "set", "zscan"];

#[test]
fn commands_are_described_as_in_redis() {
    let Some(mut both) = Both::start() else { return };
    both.speak_resp3();
    let mut differences = Vec::new();
    for command in crate::commands() {
        let spec = &command.spec;
        let info = both.client.command(&["COMMAND", "INFO", spec.name]).unwrap();
        if info == Value::Array(vec![Value::Null]) {
            // A command of another server than this one.
            continue;
        }
        let seen = both.wire.written(|reply| {
            reply.array(1);
            command_info::write_info(reply, spec.name, spec, subcommands(command));
            Ok(())
        });
        let docs = both.client.command(&["COMMAND", "DOCS", spec.name]).unwrap();
        let seen_docs = both.wire.written(|reply| {
            reply.map(1);
            command_info::write_docs(reply, spec.name, spec, subcommands(command));
            Ok(())
        });
        // Grammars that take more than Redis 8.2's have descriptions of their own.
        let docs = if EXTENDED.contains(&spec.name) { seen_docs.clone() } else { docs };
        for (seen, expected) in [(seen, info), (seen_docs, docs)] {
            let (seen, expected) = (without_prose(seen), without_prose(expected));
            if seen != expected {
                differences.push(format!("{}\nseen:\n{seen:?}\nexpected:\n{expected:?}", spec.name));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Command lines for COMMAND GETKEYS; those of commands that are not here are left out.
static KEYED_LINES: &[&str] = &[
    "sort a by w_* get x get y store dst store e",
    "sort a foo store d",
    "sort a limit store b store c",
    "sort a by store get store store store",
    "sort a",
    "sort_ro a store d",
    "del a b c",
    "rename a b",
    "rename a",
    "copy a b",
    "object encoding k",
    "object help",
    "keys *",
    "scan 0",
    "restore k 0 x",
    "restore-asking k 0 x",
    "set a b get",
    "set a b GET nonsense",
    "set a get",
    "set a b",
    "mset a b c d",
    "mset a b c",
    "bitfield a",
    "bitfield a get u8 0",
    "bitfield a overflow wrap get u8 0",
    "bitfield a get u8 0 set u8 0 1",
    "bitfield a get",
    "bitop and d a b",
    "pfcount a b",
    "pfmerge d a b",
    "lcs a b len",
    "sintercard +1 a",
    "sintercard 1x a b",
    "sintercard x1 a b",
    "sintercard \"\\x0b 1\\x00\" a b",
    "sintercard 4294967297 a b",
    "sintercard -4294967295 a b",
    "sintercard 2147483648 a b",
    "sintercard 9223372036854775808 a b",
    "sintercard -9223372036854775809 a b",
    "sintercard +3 a b",
    "sintercard +0 a b",
    "zdiff 2.5 a b c",
    "zunionstore d +1 a",
    "zunionstore d 1 a",
    "zinterstore d 02 a b weights 1 2",
    "lmpop +1 a left",
    "lmpop 2 a left",
    "blmpop 0 1x a left",
    "zmpop +1 a min",
    "bzmpop 0 +1 a min",
    "xread streams a b 1 2",
    "xread count streams a 1",
    "xread streams a b 1",
    "xread block 1 streams",
    "xreadgroup group streams c streams a 1",
    "xreadgroup group g c noack streams a b 1 2",
    "georadius a 1 1 1 m store x",
    "georadius a 1 1 1 m storedist x store y",
    "georadius a 1 1 1 m store",
    "georadiusbymember a m 1 m storedist x",
];

#[test]
fn keys_of_command_lines_are_told_as_in_redis() {
    let Some(mut both) = Both::start() else { return };
    both.speak_resp3();
    for line in KEYED_LINES {
        let words = split_words(line.as_bytes()).unwrap();
        let named = |command: &&Command, at: usize| command.spec.name.as_bytes() == words[at];
        let Some(mut command) = crate::commands().find(|command| named(command, 0)) else { continue };
        let mut full = command.spec.name.to_owned();
        if let Some(found) = command.subcommands.iter().find(|command| named(command, 1)) {
            command = found;
            full = command_info::full_name(&full, &command.spec);
        }
        for (subcommand, with_flags) in [("GETKEYS", false), ("GETKEYSANDFLAGS", true)] {
            let (request, spans) = spans_of(line);
            let args = Args::new(&request, &spans);
            let write = |reply: &mut Reply<'_>| {
                command_info::write_keys(reply, &full, &command.spec, &args, with_flags)
            };
            let seen = both.wire.written(write);
            let mut asked = vec![b"COMMAND".to_vec(), subcommand.into()];
            asked.extend(words.iter().cloned());
            assert_eq!(seen, both.client.command(&asked).unwrap(), "{subcommand} {line}");
        }
    }
}
