//! The family against a keyspace in memory, and against redis-server where there is one.

use crate::alike::Both;
use crate::testing::{World, run};
use larder_store::DbIndex;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// A world with strings in it: `a=1 b=2 ...`.
fn with(strings: &[(&str, &str)]) -> World {
    let mut world = World::new();
    for (key, value) in strings {
        put(&mut world, key, value);
    }
    world.effects();
    world
}

fn put(world: &mut World, key: &str, value: &str) {
    world.put(key.as_bytes(), value.as_bytes());
}

fn get(world: &mut World, key: &str) -> Option<String> {
    world.get(key.as_bytes()).map(|value| String::from_utf8(value).unwrap())
}

/// Runs command lines and compares each reply, without its last line end.
#[track_caller]
fn check(world: &mut World, lines: &[(&str, &str)]) {
    for (line, reply) in lines {
        assert_eq!(run(world, line).trim_end(), *reply, "{line}");
    }
}

#[test]
fn keys_are_counted_and_removed() {
    let mut world = with(&[("a", "1"), ("b", "2"), ("c", "3")]);
    check(
        &mut world,
        &[
            ("EXISTS a a none", ":2"),
            ("TOUCH a b none a", ":3"),
            ("TYPE a", "+string"),
            ("TYPE none", "+none"),
            ("DBSIZE", ":3"),
            ("DEL a b none a", ":2"),
            ("UNLINK c none", ":1"),
            ("DBSIZE", ":0"),
            ("RANDOMKEY", "$-1"),
            ("DEL", "-ERR wrong number of arguments for 'del' command"),
        ],
    );
    assert_eq!(world.local.effects.take_changes(), 3);
    let removed: Vec<String> =
        world.effects().into_iter().filter(|effect| effect.contains(" del ")).collect();
    assert_eq!(removed, ["0 del a", "0 del b", "0 del c"]);
}

#[test]
fn ends_are_set_told_and_taken_away() {
    let mut world = with(&[("k", "v")]);
    check(
        &mut world,
        &[
            ("TTL k", ":-1"),
            ("TTL none", ":-2"),
            ("EXPIRE k 100", ":1"),
            ("TTL k", ":100"),
            ("PTTL k", ":100000"),
            ("EXPIRETIME k", ":1800000100"),
            ("PEXPIRETIME k", ":1800000100000"),
            ("EXPIRE k 200 NX", ":0"),
            ("EXPIRE k 50 GT", ":0"),
            ("EXPIRE k 200 LT", ":0"),
            ("EXPIRE k 200 XX GT", ":1"),
            ("PERSIST k", ":1"),
            ("PERSIST k", ":0"),
            ("EXPIRE k 300 GT", ":0"),
            ("EXPIRE k 300 XX", ":0"),
            ("EXPIRE k 300 LT", ":1"),
            ("PEXPIREAT k 1800000000500", ":1"),
            ("TTL k", ":1"),
            ("PEXPIREAT k 1800000000499", ":1"),
            ("TTL k", ":0"),
            ("EXPIRE none 10", ":0"),
            ("EXPIREAT k 9223372036854775", ":1"),
            ("PEXPIRETIME k", ":9223372036854775000"),
            ("PEXPIREAT k 9223372036854775807", ":1"),
            ("PEXPIRETIME k", ":9223372036854775807"),
            ("EXPIRETIME k", ":9223372036854776"),
            ("EXPIRE k 0 GT", ":0"),
            ("EXPIRE k -1 LT", ":1"),
            ("EXISTS k", ":0"),
        ],
    );
    let effects = world.effects();
    assert!(effects.ends_with(&["0 expire k".into(), "0 del k".into(), "0 keymiss k".into()]), "{effects:?}");
}

#[test]
fn a_key_whose_time_has_come_is_gone() {
    let mut world = with(&[("k", "v"), ("l", "v")]);
    check(&mut world, &[("PEXPIRE k 10", ":1"), ("PEXPIRE l 10", ":1")]);
    world.pass(10);
    check(
        &mut world,
        &[
            ("SCAN 0", "*2\r\n$1\r\n0\r\n*0"),
            ("RENAME k z", "-ERR no such key"),
            ("DEL l", ":0"),
            ("DBSIZE", ":0"),
        ],
    );
    assert!(world.effects().contains(&"0 expired k".to_owned()));
}

#[test]
fn times_that_make_no_sense_are_refused_before_the_key_is_looked_at() {
    let mut world = with(&[("k", "v")]);
    check(
        &mut world,
        &[
            ("EXPIRE k 9223372036854776", "-ERR invalid expire time in 'expire' command"),
            ("EXPIRE k -9223372036854776", "-ERR invalid expire time in 'expire' command"),
            ("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command"),
            ("EXPIREAT none 9223372036854776", "-ERR invalid expire time in 'expireat' command"),
            ("PEXPIREAT k x", "-ERR value is not an integer or out of range"),
            ("EXPIRE k abc FOO", "-ERR Unsupported option FOO"),
            ("EXPIRE k 10 NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible"),
            ("EXPIRE k abc XX GT LT", "-ERR GT and LT options at the same time are not compatible"),
            ("TTL k", ":-1"),
            ("PEXPIRE k -9223372036854775808", ":1"),
            ("EXISTS k", ":0"),
        ],
    );
}

#[test]
fn a_renamed_key_keeps_value_and_end() {
    let mut world = with(&[("a", "1"), ("b", "2")]);
    check(
        &mut world,
        &[
            ("EXPIRE a 100", ":1"),
            ("RENAMENX a b", ":0"),
            ("RENAME a b", "+OK"),
            ("TTL b", ":100"),
            ("EXISTS a", ":0"),
            ("RENAME b b", "+OK"),
            ("RENAMENX b b", ":0"),
            ("RENAMENX b c", ":1"),
            ("RENAME none none", "-ERR no such key"),
        ],
    );
    assert_eq!(get(&mut world, "c").as_deref(), Some("1"));
    assert!(world.effects().windows(2).any(|pair| pair == ["0 rename_from a", "0 rename_to b"]));
}

#[test]
fn copies_and_moves_reach_other_databases() {
    let mut world = with(&[("a", "1"), ("b", "2")]);
    check(
        &mut world,
        &[
            ("EXPIRE a 100", ":1"),
            ("COPY a b", ":0"),
            ("COPY a b REPLACE", ":1"),
            ("TTL b", ":100"),
            ("COPY a a", "-ERR source and destination objects are the same"),
            ("COPY a x DB 16", "-ERR DB index is out of range"),
            (
                "COPY a x DB 2147483648",
                "-ERR value is out of range, value must between -2147483648 and 2147483647",
            ),
            ("COPY a x DB", "-ERR syntax error"),
            ("COPY none x", ":0"),
            ("COPY a a DB 1", ":1"),
            ("COPY a a DB 1", ":0"),
            ("MOVE a 1", ":0"),
            ("MOVE a 0", "-ERR source and destination objects are the same"),
            ("MOVE a x", "-ERR value is not an integer or out of range"),
            ("MOVE none 1", ":0"),
            ("MOVE a 2", ":1"),
            ("EXISTS a", ":0"),
            ("SELECT 2", "+OK"),
            ("TTL a", ":100"),
            ("COPY a z DB 0", ":1"),
            ("SELECT 0", "+OK"),
            ("TTL z", ":100"),
        ],
    );
    let effects = world.effects();
    assert!(
        effects.windows(3).any(|three| three == ["2 new a", "0 move_from a", "2 move_to a"]),
        "{effects:?}"
    );
    assert!(effects.contains(&"1 copy_to a".to_owned()));
}

#[test]
fn whole_databases_are_emptied_and_exchanged() {
    let mut world = with(&[("a", "1"), ("b", "2")]);
    world.local.effects.take_changes();
    check(&mut world, &[("SWAPDB 0 1", "+OK"), ("DBSIZE", ":0"), ("SELECT 1", "+OK"), ("DBSIZE", ":2")]);
    assert_eq!(world.local.effects.take_changes(), 1);
    check(
        &mut world,
        &[
            ("SWAPDB x 99", "-ERR invalid first DB index"),
            ("SWAPDB 0 99999999999", "-ERR invalid second DB index"),
            ("SWAPDB 0 16", "-ERR DB index is out of range"),
            ("FLUSHDB x", "-ERR syntax error"),
            ("FLUSHALL SYNC ASYNC", "-ERR syntax error"),
            ("DBSIZE", ":2"),
            ("FLUSHDB ASYNC", "+OK"),
            ("DBSIZE", ":0"),
        ],
    );
    assert_eq!((world.local.effects.take_changes(), world.local.garbage.len()), (2, 1));
    put(&mut world, "c", "3");
    world.local.effects.take_changes();
    check(
        &mut world,
        &[
            ("SELECT 0", "+OK"),
            ("FLUSHALL", "+OK"),
            ("FLUSHALL", "+OK"),
            ("SELECT 1", "+OK"),
            ("DBSIZE", ":0"),
        ],
    );
    assert_eq!((world.local.effects.take_changes(), world.local.garbage.len()), (1, 2));
}

#[test]
fn only_a_synchronous_flush_waits() {
    let mut limits = World::new().limits;
    let mut waits = |line: &str, lazy| {
        limits.flush_is_lazy = lazy;
        let (request, spans) = crate::testing::spans_of(line);
        super::flush_waits(&crate::Args::new(&request, &spans), &limits)
    };
    assert!(waits("FLUSHALL", false) && waits("FLUSHDB sync", true));
    assert!(!waits("FLUSHALL", true) && !waits("FLUSHDB ASYNC", false) && !waits("FLUSHALL x", false));
}

#[test]
fn what_was_dumped_can_be_restored() {
    let mut world = with(&[("k", "some text that is some text"), ("n", "-129")]);
    for key in ["k", "n"] {
        let reply = world.run_words(&[b"DUMP", key.as_bytes()]);
        let body = reply.splitn(2, |byte| *byte == b'\n').nth(1).unwrap();
        let payload = body[..body.len() - 2].to_vec();
        let mut restore = |options: &[&[u8]]| {
            let words = [&[b"RESTORE".as_slice(), b"r"], options].concat();
            String::from_utf8(world.run_words(&words)).unwrap()
        };
        assert_eq!(restore(&[b"0", &payload]), "+OK\r\n");
        assert_eq!(restore(&[b"0", &payload]), "-BUSYKEY Target key name already exists.\r\n");
        assert_eq!(restore(&[b"-1", &payload, b"REPLACE"]), "-ERR Invalid TTL value, must be >= 0\r\n");
        assert_eq!(restore(&[b"0", b"x", b"REPLACE"]), "-ERR DUMP payload version or checksum are wrong\r\n");
        assert_eq!(
            restore(&[b"0", &payload, b"REPLACE", b"IDLETIME", b"1", b"FREQ", b"1"]),
            "-ERR syntax error\r\n"
        );
        assert_eq!(
            restore(&[b"0", &payload, b"FREQ", b"256"]),
            "-ERR Invalid FREQ value, must be >= 0 and <= 255\r\n"
        );
        assert_eq!(restore(&[b"5000", &payload, b"REPLACE", b"IDLETIME", b"1000"]), "+OK\r\n");
        check(&mut world, &[("TTL r", ":5"), ("OBJECT IDLETIME r", ":1000")]);
        assert_eq!(get(&mut world, "r"), get(&mut world, key));
        world.effects();
        let mut restore =
            |ttl: &[u8]| world.run_words(&[b"RESTORE", b"r", ttl, &payload, b"REPLACE", b"ABSTTL"]);
        assert_eq!(restore(b"1"), b"+OK\r\n");
        check(&mut world, &[("EXISTS r", ":0")]);
        assert_eq!(world.effects(), ["0 del r", "0 keymiss r"]);
    }
}

#[test]
fn object_tells_how_a_value_is_kept() {
    let mut world = with(&[("i", "12"), ("e", "short"), ("r", &"x".repeat(100))]);
    check(
        &mut world,
        &[
            ("OBJECT ENCODING i", "$3\r\nint"),
            ("OBJECT ENCODING e", "$6\r\nembstr"),
            ("OBJECT ENCODING r", "$3\r\nraw"),
            ("OBJECT ENCODING none", "$-1"),
            ("OBJECT REFCOUNT i", ":1"),
            ("OBJECT ENCODING", "-ERR wrong number of arguments for 'object|encoding' command"),
        ],
    );
    world.pass(7000);
    check(
        &mut world,
        &[("EXISTS i", ":1"), ("OBJECT IDLETIME i", ":7"), ("TOUCH i", ":1"), ("OBJECT IDLETIME i", ":0")],
    );
    assert!(
        run(&mut world, "OBJECT FREQ i").starts_with("-ERR An LFU maxmemory policy is not selected, access")
    );
    check(&mut world, &[("OBJECT FREQ none", "$-1")]);
    world.limits.counts_frequency = true;
    assert!(
        run(&mut world, "OBJECT IDLETIME i").starts_with("-ERR An LFU maxmemory policy is selected, idle")
    );
    assert!(run(&mut world, "OBJECT HELP").starts_with("*13\r\n+OBJECT <subcommand>"));
    assert!(!world.effects().iter().any(|effect| effect.contains("keymiss")));
}

#[test]
fn sort_of_nothing_and_of_a_string() {
    let mut world = with(&[("s", "v"), ("d", "v")]);
    check(
        &mut world,
        &[
            ("SORT none BY w* GET # GET x*->f LIMIT 0 1 ALPHA DESC", "*0"),
            ("SORT_RO none", "*0"),
            ("SORT s", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("SORT s BY w* STORE d", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("SORT s FOO", "-ERR syntax error"),
            ("SORT none LIMIT a b FOO", "-ERR value is not an integer or out of range"),
            ("SORT_RO none STORE d", "-ERR syntax error"),
            ("EXISTS d", ":1"),
            ("SORT none STORE d", ":0"),
            ("EXISTS d", ":0"),
            ("SORT none STORE d", ":0"),
        ],
    );
    assert!(world.effects().contains(&"0 del d".to_owned()));
}

#[test]
fn keys_and_scan_filter() {
    let mut world = with(&[("one", "1"), ("two", "2"), ("", "3")]);
    check(
        &mut world,
        &[
            ("KEYS o*", "*1\r\n$3\r\none"),
            ("KEYS \"\"", "*1\r\n$0"),
            ("SCAN 0 COUNT 100 MATCH t??", "*2\r\n$1\r\n0\r\n*1\r\n$3\r\ntwo"),
            ("SCAN 0 TYPE STRING MATCH one COUNT 9223372036854775807", "*2\r\n$1\r\n0\r\n*1\r\n$3\r\none"),
            ("SCAN 0 TYPE nosuchtype COUNT 100", "*2\r\n$1\r\n0\r\n*0"),
            ("SCAN x FOO", "-ERR invalid cursor"),
            ("SCAN 0 COUNT 0", "-ERR syntax error"),
            ("SCAN 0 COUNT x FOO", "-ERR value is not an integer or out of range"),
            ("SCAN 0 NOVALUES", "-ERR NOVALUES option can only be used in HSCAN"),
            ("SCAN 0 MATCH", "-ERR syntax error"),
        ],
    );
    assert!(run(&mut world, "KEYS *").starts_with("*3\r\n"));
    assert!(run(&mut world, "SCAN 18446744073709551615").starts_with("*2\r\n"));
}

/// The cursor and the keys of a reply of SCAN.
fn parse_scan(reply: &str) -> (String, Vec<String>) {
    let lines: Vec<&str> = reply.split("\r\n").collect();
    let keys = lines[5..].iter().step_by(2).filter(|line| !line.is_empty());
    (lines[2].to_owned(), keys.map(|line| (*line).to_owned()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn scan_sees_every_key_that_stays(
        staying in 0usize..400,
        count in 1usize..60,
        changes in proptest::collection::vec((any::<bool>(), 0u32..50_000, 1u32..30_000), 0..40),
    ) {
        let mut world = World::new();
        for key in 0..staying {
            put(&mut world, &format!("stay:{key}"), "v");
        }
        let (mut seen, mut cursor, mut changes) = (BTreeSet::new(), "0".to_owned(), changes.into_iter());
        loop {
            let (next, keys) = parse_scan(&run(&mut world, &format!("SCAN {cursor} COUNT {count}")));
            for key in keys {
                let again = !seen.insert(key.clone());
                prop_assert!(!(again && key.starts_with("stay")), "{key} twice");
            }
            cursor = next;
            if cursor == "0" {
                break;
            }
            if let Some((insert, from, len)) = changes.next() {
                for key in from..from + len {
                    if insert {
                        put(&mut world, &format!("other:{key}"), "v");
                    } else {
                        run(&mut world, &format!("DEL other:{key}"));
                    }
                }
            }
        }
        for key in 0..staying {
            prop_assert!(seen.contains(&format!("stay:{key}")), "{key} of {staying}");
        }
        let listed = run(&mut world, "KEYS *");
        prop_assert_eq!(listed.matches('$').count(), world.keyspace.len(DbIndex(0)));
    }
}

#[test]
fn randomkey_names_keys_that_exist() {
    let mut world = with(&[("a", "1"), ("b", "2")]);
    let mut met = BTreeMap::new();
    for _ in 0..200 {
        *met.entry(run(&mut world, "RANDOMKEY")).or_insert(0) += 1;
    }
    assert_eq!(met.keys().map(String::as_str).collect::<Vec<_>>(), ["$1\r\na\r\n", "$1\r\nb\r\n"]);
}

#[test]
fn replies_events_and_changes_are_those_of_redis() {
    let Some(mut both) = Both::start() else { return };
    compare_lines(&mut both);
    both.speak_resp3();
    compare_lines(&mut both);
}

fn compare_lines(both: &mut Both) {
    for (key, value) in [("a", "1"), ("b", "text"), ("c", ""), ("long", &"x".repeat(3000)), ("n", "-129")] {
        both.set(key.as_bytes(), value.as_bytes());
    }
    for line in LINES {
        both.same(line);
    }
    for key in ["a", "b", "c", "long", "n", "none"] {
        let dumped = both.same_words(&[&b"DUMP"[..], key.as_bytes()]);
        let Some(payload) = dumped.bytes() else { continue };
        for options in [&["0"][..], &["0"], &["9", "x"], &["1", "ABSTTL"], &["99999", "REPLACE", "FREQ", "7"]]
        {
            let mut words = vec![&b"RESTORE"[..], b"restored", options[0].as_bytes(), payload];
            words.extend(options[1..].iter().map(|option| option.as_bytes()));
            both.same_words(&words);
        }
        both.same_words(&[&b"RESTORE"[..], b"restored", b"1", payload, b"REPLACE", b"ABSTTL"]);
        both.same_words(&[&b"RESTORE"[..], b"restored", b"9223372036854775807", payload, b"REPLACE"]);
        both.same_words(&[&b"RESTORE"[..], b"far", b"9223372036854775807", payload, b"REPLACE", b"ABSTTL"]);
        both.same("PEXPIRETIME far");
        for idle in ["0", "1000", "16777216", "100000000", "9223372036854775807", "-1", "x"] {
            both.same_words(&[
                &b"RESTORE"[..],
                b"idle",
                b"0",
                payload,
                b"REPLACE",
                b"IDLETIME",
                idle.as_bytes(),
            ]);
            both.same("OBJECT IDLETIME idle");
        }
    }
    both.same("FLUSHDB");
    both.same("FLUSHALL SYNC");
}

/// Command lines in the order they run.
static LINES: &[&str] = &[
    "EXISTS a none b a",
    "TOUCH a none",
    "TYPE a",
    "TYPE none",
    "DBSIZE",
    "KEYS *",
    "KEYS **",
    "KEYS ?",
    "KEYS [a-b]",
    "KEYS [^a]*",
    "KEYS lon[",
    "OBJECT ENCODING a",
    "OBJECT ENCODING b",
    "OBJECT ENCODING long",
    "OBJECT ENCODING none",
    "OBJECT REFCOUNT a",
    "OBJECT REFCOUNT b",
    "OBJECT REFCOUNT none",
    "OBJECT FREQ a",
    "OBJECT FREQ none",
    "OBJECT IDLETIME a",
    "TTL a",
    "PTTL none",
    "EXPIRE a 100",
    "TTL a",
    "EXPIRE a 50 GT",
    "EXPIRE a 50 LT",
    "EXPIRE a 60 NX",
    "EXPIRE a 60 XX",
    "EXPIRE a 70 XX LT",
    "EXPIRE a -1 GT",
    "PERSIST a",
    "PERSIST a",
    "PERSIST none",
    "EXPIRE a 10 XX",
    "EXPIRE a 10 GT",
    "EXPIRE a 10 NX NX",
    "EXPIRE none 10",
    "EXPIRE a 10 nx XX",
    "EXPIRE a 10 GT lt",
    "EXPIRE a 10 NX FOO",
    "EXPIRE a x FOO",
    "EXPIRE a x",
    "EXPIRE a 9223372036854775807",
    "EXPIRE a -9223372036854775808",
    "PEXPIRE a 9223372036854775807",
    "PEXPIREAT a 9223372036854775807",
    "PEXPIRETIME a",
    "EXPIRETIME a",
    "EXPIREAT a 9223372036854775",
    "EXPIREAT a 9223372036854776",
    "PEXPIREAT a 33177117420000",
    "PEXPIREAT a 33177117420000 GT",
    "PEXPIREAT a 33177117420000 LT",
    "PEXPIREAT a 33177117420001 GT",
    "PEXPIRETIME a",
    "EXPIRETIME a",
    "COPY a x",
    "PEXPIRETIME x",
    "COPY a x",
    "COPY b x REPLACE",
    "TTL x",
    "COPY none x REPLACE",
    "COPY a a",
    "COPY none none",
    "COPY a y DB 3",
    "COPY a y DB 3",
    "COPY a y DB 3 REPLACE",
    "COPY a y DB",
    "COPY a y DB -1",
    "COPY a y DB 16",
    "COPY a y DB x",
    "COPY a y DB 2147483648",
    "COPY a y FOO",
    "COPY a a DB 0",
    "COPY a a REPLACE DB x",
    "MOVE x 0",
    "MOVE x 3",
    "MOVE none 3",
    "MOVE y 3",
    "COPY a y",
    "MOVE y 3",
    "MOVE a -1",
    "MOVE a 16",
    "MOVE a x",
    "MOVE none 0",
    "SELECT 3",
    "KEYS *",
    "PEXPIRETIME y",
    "TTL x",
    "MOVE x 0",
    "SELECT 0",
    "RENAME x x",
    "RENAME none none",
    "RENAMENX none none",
    "RENAMENX x x",
    "RENAME x z",
    "COPY z x",
    "RENAME x z",
    "RENAMENX a z",
    "RENAMENX z zz",
    "COPY a t",
    "RENAME t t2",
    "PEXPIRETIME t2",
    "RENAME zz t2",
    "PEXPIRETIME t2",
    "DEL t2 none t2",
    "SCAN 0 COUNT 1000",
    "SCAN 0 COUNT 1000 MATCH [ab]",
    "SCAN 0 MATCH a MATCH b COUNT 1000",
    "SCAN 0 TYPE string COUNT 1000",
    "SCAN 0 TYPE LIST COUNT 1000",
    "SCAN 0 TYPE foo COUNT 1000",
    "SCAN 0 COUNT 0",
    "SCAN 0 COUNT -1",
    "SCAN 0 COUNT x",
    "SCAN x",
    "SCAN 0 FOO",
    "SCAN 0 COUNT",
    "SCAN 0 NOVALUES",
    "SCAN 0 MATCH NOVALUES COUNT 1000",
    "SCAN -1",
    "SCAN 1.5",
    "SCAN \"\"",
    "SCAN \"0 \"",
    "SORT none",
    "SORT a",
    "SORT none STORE b",
    "EXISTS b",
    "SORT none STORE b",
    "SORT a STORE n",
    "SORT a FOO",
    "SORT none LIMIT 0",
    "SORT none LIMIT 0 x",
    "SORT none LIMIT x 0",
    "SORT none BY",
    "SORT none GET # BY w* ALPHA DESC ASC LIMIT -1 -1",
    "SORT none GET",
    "SORT none STORE",
    "SORT_RO none STORE x",
    "SORT_RO none GET x*->y",
    "SORT_RO a",
    "SWAPDB 0 0",
    "SWAPDB 0 3",
    "KEYS *",
    "SWAPDB 3 0",
    "SWAPDB 0 16",
    "SWAPDB -1 0",
    "SWAPDB x 16",
    "SWAPDB 0 x",
    "SWAPDB 2147483648 0",
    "FLUSHDB x",
    "FLUSHALL SYNC x",
    "EXPIRE z 0 XX",
    "COPY a z",
    "EXPIRE z 0 LT",
    "EXISTS z",
    "COPY a z",
    "PEXPIREAT z -5",
    "PEXPIRE z 50000",
    "UNLINK z n none",
    "DEL none",
    "RANDOMKEY x",
    "DEL",
    "RENAME a",
    "COPY a",
    "OBJECT ENCODING",
    "OBJECT HELP x",
    "SELECT 9",
    "RANDOMKEY",
    "DBSIZE",
    "KEYS *",
    "SCAN 0",
    "FLUSHDB",
    "SELECT 0",
];

/// Builds a random line of the family over few keys.
fn random_line(random: &mut impl FnMut(usize) -> usize) -> String {
    let mut any = |words: &[&str]| words[random(words.len())].to_owned();
    let key = any(&["a", "b", "c", "d", "e"]);
    let other = any(&["a", "b", "c", "d", "e"]);
    let time = any(&["-1", "0", "33177117421", "33177117422", "x", "9223372036854775807", "33177117420"]);
    let condition = any(&["", "", "NX", "XX", "GT", "LT", "XX GT", "NX LT", "FOO"]);
    let db = any(&["0", "1", "2", "16", "x"]);
    let replace = any(&["", "REPLACE"]);
    match random(17) {
        0 => format!("DEL {key} {other}"),
        1 => format!("EXPIREAT {key} {time} {condition}"),
        2 => format!("PEXPIREAT {key} {time}000 {condition}"),
        3 => format!("RENAME {key} {other}"),
        4 => format!("RENAMENX {key} {other}"),
        5 => format!("COPY {key} {other} {replace}"),
        6 => format!("COPY {key} {other} DB {db} {replace}"),
        7 => format!("MOVE {key} {db}"),
        8 => format!("PERSIST {key}"),
        9 => format!("TTL {key}"),
        10 => format!("PEXPIRETIME {key}"),
        11 => format!("TYPE {key}"),
        12 => "KEYS *".to_owned(),
        13 => format!("SORT {key} STORE {other}"),
        14 => format!("OBJECT ENCODING {key}"),
        15 => format!("EXPIRE {key} 1000"),
        _ => format!("EXISTS {key} {other}"),
    }
}

#[test]
fn random_lines_do_what_they_do_in_redis() {
    let Some(mut both) = Both::start() else { return };
    let mut state = 7u64;
    let mut random = move |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for round in 0..1500 {
        if round % 3 == 0 {
            let key = ["a", "b", "c", "d", "e"][random(5)];
            both.set(key.as_bytes(), ["1", "text", "-5"][random(3)].as_bytes());
        }
        both.same(random_line(&mut random).trim());
        if round % 50 == 0 {
            both.same(["SELECT 0", "SELECT 1", "SELECT 2", "SWAPDB 0 1"][random(4)]);
        }
    }
}

#[test]
fn the_table_is_in_order_and_its_grammar_points_at_keys() {
    let names: Vec<&str> = super::COMMANDS.iter().map(|command| command.spec.name).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(names, sorted);
    for command in
        super::COMMANDS.iter().flat_map(|command| std::iter::once(command).chain(command.subcommands))
    {
        let spec = &command.spec;
        assert!(spec.arity != 0 && spec.summary.ends_with('.'), "{}", spec.name);
        let named = spec.args.iter().filter_map(|arg| arg.key_spec);
        assert!(named.max().is_none_or(|index| usize::from(index) < spec.keys.len()), "{}", spec.name);
    }
}

#[test]
fn the_transcripts_of_the_family_hold() {
    let Some(mut both) = Both::start() else { return };
    let transcripts = [
        include_str!("../../../../tests/keys/basic.rt"),
        include_str!("../../../../tests/keys/dump_restore.rt"),
        include_str!("../../../../tests/keys/expire.rt"),
        include_str!("../../../../tests/keys/object.rt"),
        include_str!("../../../../tests/keys/scan.rt"),
        include_str!("../../../../tests/keys/sort.rt"),
    ];
    let mut compared = 0;
    for case in transcripts.iter().flat_map(|text| text.split("\n# ")) {
        let lines: Vec<&str> = case.lines().filter_map(|line| line.strip_prefix("> ")).collect();
        if lines.iter().all(|line| is_plain(line)) && !UNPLAIN_CASES.iter().any(|word| case.contains(word)) {
            both.same("SELECT 0");
            both.same("FLUSHALL");
            lines.iter().for_each(|line| both.same(line));
            compared += lines.len();
        }
    }
    assert!(compared > 300, "{compared}");
}

/// What a transcript needs that a world in memory does not have, what has no equal reply twice, and
/// what is about other families.
static UNPLAIN_CASES: &[&str] = &[
    "@needs",
    "@config",
    "@client",
    "@sleep",
    "@match",
    "HELP",
    "WAIT",
    "SELECT with",
    "OBJECT FOO",
    "ENCODING after",
];

/// Whether a line is plain words of a command that is here.
fn is_plain(line: &str) -> bool {
    let name = line.split(' ').next().unwrap_or_default().to_ascii_lowercase();
    let is_known = name == "select" || crate::commands().any(|command| command.spec.name == name);
    is_known && !line.contains("\"*") && !line.contains("${") && !line.contains("\"+")
}
