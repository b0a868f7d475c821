//! The family against a keyspace in memory, and, where REDIS_SERVER names a redis-server binary,
//! against the real one.

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
    let (index, hash) = (world.db, world.keyspace.hash(key.as_bytes()));
    let locked = world.keyspace.lock_many(index, &[hash]);
    let mut db = larder_store::Db::new(&world.keyspace, index, locked, &mut world.local);
    let key = db.key(key.as_bytes());
    db.put_string(&key, value.as_bytes(), larder_store::Expire::Clear);
}

fn get(world: &mut World, key: &str) -> Option<String> {
    let (index, hash) = (world.db, world.keyspace.hash(key.as_bytes()));
    let locked = world.keyspace.lock_many(index, &[hash]);
    let mut db = larder_store::Db::new(&world.keyspace, index, locked, &mut world.local);
    let key = db.key(key.as_bytes());
    let value = db.peek(&key)?.string().unwrap().to_vec();
    Some(String::from_utf8(value).unwrap())
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
    let keys = lines[5..].iter().skip(0).step_by(2).filter(|line| !line.is_empty());
    (lines[2].to_owned(), keys.map(|line| (*line).to_owned()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn scan_sees_every_key_that_stays(
        staying in 0usize..400,
        count in 1usize..60,
        changes in proptest::collection::vec((any::<bool>(), 0u32..5000, 1u32..2000), 0..40),
    ) {
        let mut world = World::new();
        for key in 0..staying {
            put(&mut world, &format!("stay:{key}"), "v");
        }
        let (mut seen, mut cursor, mut changes) = (BTreeSet::new(), "0".to_owned(), changes.into_iter());
        loop {
            let (next, keys) = parse_scan(&run(&mut world, &format!("SCAN {cursor} COUNT {count}")));
            seen.extend(keys);
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
