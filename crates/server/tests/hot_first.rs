//! `load-serving hot-first`: hot keys are served while the rest of a snapshot is being loaded, and nothing of the file comes over what
//! was changed since.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::server::available;
use larder_testkit::{Client, Redis82, Server, Valkey, Value};
use scenario::{figure, info, larder, ok, signal, until};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const LOADING: &str = "LOADING Redis is loading the dataset in memory";
/// Keys that were used last, and those that nobody has asked for for long: a few of these are hot, too, since a fifth of all is.
const HOT: usize = 40;
const COLD: usize = 2_000;

/// What keeps it in files how long keys have not been used.
const POLICY: [&str; 2] = ["--maxmemory-policy", "allkeys-lru"];

/// A folder with a snapshot of hot and cold keys.
fn folder(options: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let server = larder(2, &[&["--dir", dir, "--load-serving", "hot-first"], options].concat());
    let mut client = server.client();
    for number in 0..HOT {
        ok(&mut client, &format!("SET hot:{number} {number}"));
    }
    for line in [
        "RPUSH hot:list a b c",
        "HSET hot:hash f v",
        "SADD hot:set m",
        "ZADD hot:zset 1 m",
        "XADD hot:stream 1-1 f v",
    ] {
        assert!(!client.run(line).unwrap().is_error());
    }
    let value = "v".repeat(2_000);
    ok(&mut client, &format!("SET text {value}"));
    client.run("RPUSH list a b c").unwrap();
    client.run("HSET hash f v g w").unwrap();
    let dumped: Vec<Value> =
        ["text", "list", "hash"].iter().map(|key| client.command(&["DUMP", key]).unwrap()).collect();
    client.run("DEL text list hash").unwrap();
    for number in 0..COLD {
        let payload = dumped[if number % 10 < 8 { 0 } else { number % 10 - 7 }].bytes().unwrap();
        let key = format!("cold:{number}");
        let restore: [&[u8]; 6] = [b"RESTORE", key.as_bytes(), b"0", payload, b"IDLETIME", b"1000000"];
        assert_eq!(client.command(&restore).unwrap().text(), "OK");
    }
    ok(&mut client, "SELECT 1");
    ok(&mut client, "SET hot:0 of-another");
    ok(&mut client, "SAVE");
    folder
}

/// Starts a server on a folder's snapshot, and has it stop before the rest of it is there.
fn held(folder: &Path, options: &[&str]) -> (Server, Client) {
    let dir = folder.to_str().unwrap();
    let all = [&["--dir", dir, "--load-serving", "hot-first", "--key-load-delay", "1000"], options].concat();
    for _ in 0..20 {
        // It has answered PING: what is hot is there.
        let server = larder(2, &all);
        let mut client = server.client();
        ok(&mut client, "CONFIG SET key-load-delay 1000000000");
        if figure(&mut client, "loading") == 1 {
            return (server, client);
        }
    }
    panic!("all of it is always there before anybody can stop it");
}

fn release(client: &mut Client) {
    ok(client, "CONFIG SET key-load-delay 0");
    until("all is loaded", || figure(client, "loading") == 0);
}

fn is_loading(reply: &Value) -> bool {
    reply.is_error() && reply.text() == LOADING
}

/// Cold keys of which nothing is known yet.
fn unknown(client: &mut Client) -> Vec<String> {
    let keys = (0..COLD).map(|number| format!("cold:{number}"));
    keys.filter(|key| is_loading(&client.command(&["EXISTS", key]).unwrap())).collect()
}

fn says(client: &mut Client, line: &str, expected: &str) {
    let reply = client.run(line).unwrap();
    let text = reply.integer().map_or_else(|| reply.text(), |number| number.to_string());
    assert_eq!(text, expected, "{line}");
}

/// What cannot be answered while nothing is known of two keys.
fn refused(one: &str, other: &str) -> Vec<String> {
    let of_keys = [
        format!("GET {one}"),
        format!("MGET hot:1 {one}"),
        format!("SET {one} v NX"),
        format!("SET {one} v GET"),
        format!("SET {one} v KEEPTTL"),
        format!("SET {one} v PXAT 1"),
        format!("DEL {one}"),
        format!("UNLINK hot:1 {one}"),
        format!("RENAME hot:1 {one}"),
        format!("COPY hot:1 {one}"),
        format!("SINTERSTORE {one} hot:set"),
        format!("INCR {other}"),
        format!("LPUSH {other} x"),
        format!("BLPOP {other} 1"),
        format!("SORT hot:list BY {one}*"),
    ];
    let of_all = [
        "MOVE hot:1 2",
        "DBSIZE",
        "KEYS *",
        "SCAN 0",
        "RANDOMKEY",
        "FLUSHALL",
        "FLUSHDB",
        "SWAPDB 0 1",
        "SAVE",
        "BGSAVE",
        "BGREWRITEAOF",
        "EVAL return(1) 0",
        "DEBUG RELOAD",
        "DEBUG DIGEST",
        "GET never-there",
        "CACHE ROUTE LIST",
        "CACHE INVALIDATE PREFIX hot",
    ];
    of_keys.into_iter().chain(of_all.map(str::to_owned)).collect()
}

#[test]
fn hot_keys_are_served_before_the_rest_is_there() {
    let folder = folder(&[]);
    let (server, mut client) = held(folder.path(), &[]);
    says(&mut client, "PING", "PONG");
    assert_eq!(info(&mut client, "loading_hot_served"), "1");
    let (loaded, total) =
        (figure(&mut client, "loading_loaded_bytes"), figure(&mut client, "loading_total_bytes"));
    assert!(0 < loaded && loaded < total / 2, "{loaded} of {total}");
    assert!(figure(&mut client, "rdb_last_load_keys_loaded") < (COLD / 3) as u64);
    for number in 0..HOT {
        says(&mut client, &format!("GET hot:{number}"), &number.to_string());
    }
    for (line, expected) in [
        ("MGET hot:1 hot:2", "1"),
        ("LRANGE hot:list 0 0", "a"),
        ("SMEMBERS hot:set", "m"),
        ("ZRANGE hot:zset 0 -1", "m"),
    ] {
        assert_eq!(client.run(line).unwrap().items().unwrap()[0].text(), expected, "{line}");
    }
    says(&mut client, "HGET hot:hash f", "v");
    says(&mut client, "XLEN hot:stream", "1");
    says(&mut client, "INCR hot:7", "8");
    let cold = unknown(&mut client);
    assert!(cold.len() > COLD / 2, "{} are not there", cold.len());
    let (one, other) = (&cold[0], &cold[1]);
    for line in refused(one, other) {
        let reply = client.run(&line).unwrap();
        assert!(is_loading(&reply), "{line}: {reply:?}");
    }
    release(&mut client);
    assert_eq!(figure(&mut client, "rdb_last_load_keys_loaded") as usize, COLD + HOT + 6);
    says(&mut client, "DBSIZE", &(COLD + HOT + 5).to_string());
    assert!(unknown(&mut client).is_empty());
    says(&mut client, "GET hot:7", "8");
    let log = server.log();
    assert!(log.contains("the hot keys are loaded"), "{log}");
}

#[test]
fn nothing_of_the_file_comes_over_what_was_changed_since() {
    let folder = folder(&[]);
    let (server, mut client) = held(folder.path(), &[]);
    let cold = unknown(&mut client);
    let key = |number: usize| cold[number * cold.len() / 20].clone();
    // Written whole, then changed, removed, ended or moved.
    let [stays, goes, ends, grows, moves, many, transacted] = std::array::from_fn(key);
    ok(&mut client, &format!("SET {stays} new"));
    ok(&mut client, &format!("SET {goes} new"));
    says(&mut client, &format!("DEL {goes}"), "1");
    says(&mut client, &format!("EXISTS {goes}"), "0");
    ok(&mut client, &format!("SET {ends} new PX 1"));
    ok(&mut client, &format!("SETEX {grows} 1000 new"));
    says(&mut client, &format!("APPEND {grows} er"), "5");
    ok(&mut client, &format!("MSET {moves} new {many} new"));
    ok(&mut client, &format!("RENAME {moves} hot:39"));
    // Hot ones go as well, and come again.
    says(&mut client, "DEL hot:1 hot:2", "2");
    assert_eq!(client.run("GET hot:1").unwrap(), Value::NilBulk);
    says(&mut client, "INCR hot:2", "1");
    ok(&mut client, "RENAME hot:3 hot:4");
    says(&mut client, "EXISTS hot:3 hot:4", "1");
    says(&mut client, "LPOP hot:list", "a");
    assert_eq!(client.run("LPOP hot:list 5").unwrap().items().unwrap().len(), 2);
    says(&mut client, "HDEL hot:hash f", "1");
    says(&mut client, "EXPIRE hot:5 1000", "1");
    says(&mut client, "PEXPIRE hot:6 1", "1");
    says(&mut client, "GETDEL hot:8", "8");
    // A transaction is all or nothing.
    ok(&mut client, "MULTI");
    says(&mut client, "INCR hot:9", "QUEUED");
    says(&mut client, &format!("SET {transacted} new"), "QUEUED");
    says(&mut client, "SELECT 1", "QUEUED");
    says(&mut client, "APPEND hot:0 !", "QUEUED");
    assert_eq!(client.run("EXEC").unwrap().items().unwrap().len(), 4);
    ok(&mut client, "SELECT 0");
    ok(&mut client, "MULTI");
    says(&mut client, "INCR hot:9", "QUEUED");
    says(&mut client, &format!("GET {}", key(10)), "QUEUED");
    says(&mut client, "EXEC", &format!("EXECABORT Transaction discarded because of: {LOADING}"));
    ok(&mut client, "MULTI");
    assert!(is_loading(&client.run("DBSIZE").unwrap()));
    assert!(client.run("EXEC").unwrap().text().starts_with("EXECABORT"));
    until("they have ended", || {
        let reply = client.run(&format!("EXISTS {ends} hot:6")).unwrap();
        reply.integer() == Some(0)
    });
    release(&mut client);
    for (key, expected) in [(&stays, "new"), (&grows, "newer"), (&many, "new"), (&transacted, "new")] {
        says(&mut client, &format!("GET {key}"), expected);
    }
    for (line, expected) in [
        (format!("EXISTS {goes} {ends} {moves} hot:1 hot:3 hot:6 hot:8 hot:list hot:hash"), "0"),
        ("GET hot:39".into(), "new"),
        ("GET hot:2".into(), "1"),
        ("GET hot:4".into(), "3"),
        ("GET hot:9".into(), "10"),
        ("GET hot:0".into(), "0"),
    ] {
        says(&mut client, &line, expected);
    }
    assert!(client.run("TTL hot:5").unwrap().integer().unwrap() > 900);
    ok(&mut client, "SELECT 1");
    says(&mut client, "GET hot:0", "of-another!");
    assert!(server.log().contains("7 that were changed meanwhile"), "{}", server.log());
}

/// What a random command answers and leaves by the model, where the server answers it at all.
fn try_one(
    client: &mut Client,
    model: &mut BTreeMap<String, String>,
    key: &str,
    other: &str,
    random: u64,
) -> bool {
    let held = model.get(key).cloned();
    let nil = "nothing".to_owned();
    let (line, expected, left) = match random % 8 {
        0 | 1 => (format!("SET {key} {random}"), "OK".to_owned(), Some(random.to_string())),
        2 => (format!("DEL {key}"), u8::from(held.is_some()).to_string(), None),
        3 => {
            let grown = format!("{}x", held.clone().unwrap_or_default());
            (format!("APPEND {key} x"), grown.len().to_string(), Some(grown))
        }
        4 => (format!("GETSET {key} {random}"), held.clone().unwrap_or(nil), Some(random.to_string())),
        5 => (format!("SETEX {key} 1000 {random}"), "OK".to_owned(), Some(random.to_string())),
        6 if held.is_some() && key != other => {
            let reply = client.run(&format!("RENAME {key} {other}")).unwrap();
            if is_loading(&reply) {
                return false;
            }
            assert_eq!(reply.text(), "OK");
            model.remove(key);
            model.insert(other.to_owned(), held.unwrap());
            return true;
        }
        _ => (format!("GET {key}"), held.clone().unwrap_or(nil), held),
    };
    let reply = client.run(&line).unwrap();
    if is_loading(&reply) {
        return false;
    }
    let text = match &reply {
        Value::NilBulk => "nothing".to_owned(),
        reply => reply.integer().map_or_else(|| reply.text(), |number| number.to_string()),
    };
    assert_eq!(text, expected, "{line}");
    match left {
        Some(left) => _ = model.insert(key.to_owned(), left),
        None => _ = model.remove(key),
    }
    true
}

/// Two clients with keys of their own go on while the rest is loaded, from before it begins until behind its end.
#[test]
fn every_answer_is_as_if_everything_had_been_there() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let server = larder(2, &["--dir", dir, "--load-serving", "hot-first"]);
    let mut client = server.client();
    let value = "v".repeat(3_000);
    let keys = |own: usize| (0..1_500).map(move |number| format!("{own}:{number}"));
    for key in keys(0).chain(keys(1)) {
        ok(&mut client, &format!("SET {key} {value}"));
    }
    ok(&mut client, "SAVE");
    drop(server);
    let (server, mut client) = held(folder.path(), &[]);
    std::thread::scope(|scope| {
        for own in 0..2 {
            let (server, value) = (&server, &value);
            scope.spawn(move || {
                let mut client = server.client();
                let mut model: BTreeMap<String, String> = keys(own).map(|key| (key, value.clone())).collect();
                let (mut random, mut answered, mut refused, mut behind) = (own as u64 + 1, 0, 0, 0);
                while behind < 500 {
                    let mut next = || {
                        random = random
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        random >> 33
                    };
                    let [key, other] = [next(), next()].map(|number| format!("{own}:{}", number % 1_700));
                    if try_one(&mut client, &mut model, &key, &other, next()) {
                        answered += 1;
                    } else {
                        assert_eq!(behind, 0, "it was loaded");
                        refused += 1;
                    }
                    if answered % 16 == 0 && figure(&mut client, "loading") == 0 {
                        behind += 16;
                    }
                }
                assert!(answered > 500 && refused > 0, "{answered} {refused}");
                for key in (0..1_700).map(|number| format!("{own}:{number}")) {
                    let found = client.command(&["GET", &key]).unwrap();
                    let found = found.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                    assert_eq!(found.as_ref(), model.get(&key), "{key}");
                }
            });
        }
        std::thread::sleep(Duration::from_millis(200));
        // Bit by bit, so that both meet it in all places.
        ok(&mut client, "CONFIG SET key-load-delay 100");
    });
}

#[test]
fn who_follows_keys_is_told_of_changes_and_of_nothing_that_is_loaded() {
    let folder = folder(&[]);
    let (server, mut client) = held(folder.path(), &["--notify-keyspace-events", "KEAn"]);
    let mut listener = server.client();
    listener.run("PSUBSCRIBE __keyevent@*__:*").unwrap();
    let cold = unknown(&mut client);
    let mut watching = server.client();
    ok(&mut watching, &format!("WATCH {} hot:1", cold[0]));
    ok(&mut client, "SET hot:2 told");
    let mut heard = || {
        listener
            .read_within(Duration::from_millis(500))
            .unwrap()
            .map(|message| message.items().unwrap()[3].text())
    };
    assert_eq!(heard().as_deref(), Some("hot:2"));
    release(&mut client);
    assert_eq!(heard(), None);
    ok(&mut watching, "MULTI");
    says(&mut watching, "GET hot:1", "QUEUED");
    assert_eq!(watching.run("EXEC").unwrap().items().unwrap()[0].text(), "1", "nothing has changed");
}

#[test]
fn a_server_that_is_killed_meanwhile_starts_from_the_file_of_before() {
    let folder = folder(&[]);
    let file = folder.path().join("dump.rdb");
    let before = std::fs::read(&file).unwrap();
    let (server, mut client) = held(folder.path(), &["--save", "1 1"]);
    ok(&mut client, "SET hot:1 new");
    says(&mut client, "DEL hot:2", "1");
    signal(&server, "KILL");
    drop(server);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let (_server, mut client) = held(folder.path(), &[]);
    says(&mut client, "GET hot:1", "1");
    release(&mut client);
    says(&mut client, "DBSIZE", &(COLD + HOT + 5).to_string());
}

#[test]
fn an_end_that_saves_waits_for_the_rest_and_one_that_does_not_is_at_once() {
    let folder = folder(&POLICY);
    let (mut server, mut client) = held(folder.path(), &["--save", "100000 1", POLICY[0], POLICY[1]]);
    ok(&mut client, "SET hot:1 new");
    signal(&server, "TERM");
    until("it was asked to stop", || server.log().contains("once all of it is loaded"));
    assert_eq!(server.wait_for_end(Duration::from_millis(100)), None);
    ok(&mut client, "CONFIG SET key-load-delay 0");
    assert_eq!(server.wait_for_end(scenario::SOON), Some(true));
    let (mut server, mut client) = held(folder.path(), &POLICY);
    says(&mut client, "GET hot:1", "new");
    ok(&mut client, "SET hot:1 lost");
    signal(&server, "TERM");
    assert_eq!(server.wait_for_end(scenario::SOON), Some(true));
    let (_server, mut client) = held(folder.path(), &POLICY);
    says(&mut client, "GET hot:1", "new");
    release(&mut client);
    says(&mut client, "DBSIZE", &(COLD + HOT + 5).to_string());
}

#[test]
fn other_servers_read_the_file_and_so_does_a_start_that_is_not_hot_first() {
    for options in [&[][..], &["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-adaptive"]] {
        let folder = folder(options);
        let dir = folder.path().to_str().unwrap();
        let plain = larder(2, &["--dir", dir]);
        let digest = plain.client().run("DEBUG DIGEST").unwrap();
        says(&mut plain.client(), "DBSIZE", &(COLD + HOT + 5).to_string());
        for other in [Redis82::start_with(&["--dir", dir]), Valkey::start_with(&["--dir", dir])] {
            let Some(other) = available(other) else { return };
            assert_eq!(other.client().run("DEBUG DIGEST").unwrap(), digest);
        }
        let (_server, mut client) = held(folder.path(), options);
        release(&mut client);
        assert_eq!(client.run("DEBUG DIGEST").unwrap(), digest);
    }
}

#[test]
fn what_is_damaged_is_not_served_and_ends_the_server() {
    let folder = folder(&["--rdbcompression", "no"]);
    let (file, dir) = (folder.path().join("dump.rdb"), folder.path().to_str().unwrap());
    let whole = std::fs::read(&file).unwrap();
    let boundary = whole.windows(11).position(|bytes| bytes == b"larder-cold").unwrap();
    assert!(boundary < whole.len() / 2);
    // Within a text: lengths are as they were.
    let text = |range: std::ops::Range<usize>| {
        range.start + whole[range].windows(100).position(|bytes| bytes == [b'v'; 100]).unwrap() + 50
    };
    for (place, is_hot) in [(text(0..boundary), true), (text(boundary..whole.len()), false)] {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        std::fs::write(&file, damaged).unwrap();
        let started = if is_hot {
            let binary =
                std::env::var_os("LARDER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_larder").into());
            Server::start(Path::new(&binary), &["--dir", dir, "--load-serving", "hot-first"]).map(|_| ())
        } else {
            let (mut server, mut client) = held(folder.path(), &[]);
            says(&mut client, "GET hot:1", "1");
            // The answer may be lost with the server.
            let _ = client.run("CONFIG SET key-load-delay 0");
            assert_eq!(server.wait_for_end(scenario::SOON), Some(false));
            Err(server.log())
        };
        let log = started.expect_err("the checksum is wrong");
        assert!(log.contains("checksum"), "{log}");
        assert_eq!(log.contains("the hot keys are loaded"), !is_hot, "{log}");
    }
}

#[test]
fn logging_that_is_turned_on_meanwhile_begins_once_all_is_there() {
    let folder = folder(&[]);
    let (server, mut client) = held(folder.path(), &[]);
    ok(&mut client, "CONFIG SET appendonly yes");
    ok(&mut client, "CONFIG SET appendonly no");
    ok(&mut client, "CONFIG SET appendonly yes");
    ok(&mut client, "SET hot:1 new");
    release(&mut client);
    says(&mut client, "DEL hot:2", "1");
    let reply = client.run("WAITAOF 1 0 20000").unwrap();
    assert_eq!(reply.notation(), ["*2", "  :1", "  :0"]);
    signal(&server, "KILL");
    drop(server);
    let server = larder(2, &["--dir", folder.path().to_str().unwrap(), "--appendonly", "yes"]);
    let mut client = server.client();
    says(&mut client, "GET hot:1", "new");
    says(&mut client, "DBSIZE", &(COLD + HOT + 5 - 1).to_string());
}

#[test]
fn a_log_is_loaded_before_anything_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let options =
        ["--dir", dir, "--load-serving", "hot-first", "--appendonly", "yes", "--appendfsync", "always"];
    let server = larder(1, &options);
    ok(&mut server.client(), "SET k v");
    drop(server);
    let server = larder(1, &options);
    says(&mut server.client(), "GET k", "v");
    assert!(server.log().contains("does not go with an append-only log"), "{}", server.log());
}
