//! Files that redis-server 8.2, redis-server 7.0 and valkey-server wrote are loaded at start: every type in every
//! encoding arrives as the server that wrote it, or redis-server 8.2, has it after loading the same file.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::{Client, Larder, Redis70, Redis82, Server, Valkey, Value, available};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Commands that make collections of every encoding that all three servers have.
const COLLECTIONS: &[&str] = &[
    "CONFIG SET list-max-listpack-size 8 list-compress-depth 1",
    "RPUSH list:small a b 3 -4 55555555555",
    "SADD set:int16 1 2 3 -5",
    "SADD set:int32 1 2 70000",
    "SADD set:int64 1 2 70000000000",
    "SADD set:small a b c 4",
    "ZADD zset:small 1 a 2.5 b -inf c inf d 1e300 e 0.1 f -0 g",
    "HSET hash:small a 1 b two c 3333333333",
    "XADD stream:groups 1-1 a 1 b 2",
    "XADD stream:groups 1-2 a 3 b 4",
    "XADD stream:groups 2-0 other fields",
    "XADD stream:groups 3-7 a 5",
    "XDEL stream:groups 1-2",
    "XGROUP CREATE stream:groups one 0",
    "XGROUP CREATE stream:groups two $",
    "XREADGROUP GROUP one alice COUNT 2 STREAMS stream:groups >",
    "XREADGROUP GROUP one bob COUNT 1 STREAMS stream:groups >",
    "XGROUP CREATECONSUMER stream:groups two idle",
    "XADD stream:empty 5-5 a 1",
    "XDEL stream:empty 5-5",
    "SET text hello",
    "SET number 12345",
    "SET wide 9223372036854775807",
    "APPEND assembled abc",
    "SETBIT bits 70000 1",
    "SET mortal v PXAT 33177117420000",
    "PEXPIREAT hash:small 33177117420000",
    "SELECT 3",
    "SET other database",
    "SELECT 15",
    "RPUSH last one two",
    "SELECT 0",
];

/// What only Redis has since 7.4.
const FIELDS_THAT_END: &[&str] = &[
    "HSET hash:ends a 1 b 2 c 3",
    "HPEXPIREAT hash:ends 33177117420000 FIELDS 1 b",
    "HSET hash:ended a 1 b 2",
    "HPEXPIREAT hash:ended 33177117420000 FIELDS 1 a",
    "HPERSIST hash:ended FIELDS 1 a",
    "HPEXPIREAT hash:large 33177117420000 FIELDS 2 member:1 member:2",
    "HPEXPIREAT hash:large 33177117420999 FIELDS 1 member:3",
];

fn run_all(client: &mut Client, lines: &[&str]) {
    for line in lines {
        let reply = client.run(line).unwrap();
        assert!(!matches!(reply, Value::Error(_)), "{line}: {reply:?}");
    }
}

/// Makes collections too large for the small encodings.
fn fill_large(client: &mut Client) {
    for n in 0..700 {
        let member = format!("member:{n}");
        let long = "x".repeat(n % 90);
        for line in [
            format!("RPUSH list:large {member} {n} {long}"),
            format!("SADD set:large {member} {n}"),
            format!("ZADD zset:large {}.25 {member}", n % 50),
            format!("HSET hash:large {member} value:{n} {n} {n}"),
            format!("XADD stream:large {}-{n} field {long} other {n}", n / 3 + 1),
            format!("SET string:{n} {}", long.repeat(n % 7)),
        ] {
            // Words that are empty are no words of an inline command.
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let reply = client.command(&words).unwrap();
            assert!(!matches!(reply, Value::Error(_)), "{line}: {reply:?}");
        }
    }
    let random: Vec<u8> = (0..50_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    client.command(&[&b"SET"[..], b"random", &random]).unwrap();
    client.command(&[&b"SET"[..], b"long", &b"abc".repeat(100_000)]).unwrap();
    client.command(&[&b"RPUSH"[..], b"list:plain", b"a", &b"0123456789".repeat(2000), b"b"]).unwrap();
    client.command(&[&b"SET"[..], b"\x00\xff binary \r\n key", b"v"]).unwrap();
    for n in 0..300 {
        client.run(&format!("PFADD hll:dense e{n}")).unwrap();
    }
    client.run("PFADD hll:sparse a b c").unwrap();
}

/// Whether how a value is encoded is compared, too.
#[derive(Clone, Copy, PartialEq)]
enum Encodings {
    Compared,
    Others,
}

/// All keys of all databases, each with what there is to ask about it.
fn everything(client: &mut Client, encodings: Encodings) -> Vec<(u32, Vec<u8>, Vec<Value>)> {
    let mut all = Vec::new();
    for db in [0, 3, 15] {
        client.run(&format!("SELECT {db}")).unwrap();
        let Value::Array(keys) = client.run("KEYS *").unwrap() else { panic!("no array") };
        for key in keys {
            let key = key.bytes().unwrap().to_vec();
            let mut answers = vec![
                client.command(&[&b"TYPE"[..], &key]).unwrap(),
                client.command(&[&b"PEXPIRETIME"[..], &key]).unwrap(),
            ];
            if encodings == Encodings::Compared {
                answers.push(client.command(&[&b"OBJECT"[..], b"ENCODING", &key]).unwrap());
            }
            if encodings == Encodings::Others && answers[0].text() == "hash" {
                // Valkey's digest takes the ends of fields in otherwise.
                let Value::Array(words) = client.command(&[&b"HGETALL"[..], &key]).unwrap() else { panic!() };
                let mut fields: Vec<Vec<Value>> = words.chunks(2).map(<[Value]>::to_vec).collect();
                fields.sort_by_key(|field| field[0].text());
                answers.extend(fields.concat());
            } else {
                answers.push(client.command(&[&b"DEBUG"[..], b"DIGEST-VALUE", &key]).unwrap());
            }
            if answers[0].text() == "stream" {
                answers.push(client.command(&[&b"XINFO"[..], b"GROUPS", &key]).unwrap());
                answers.push(client.command(&[&b"XRANGE"[..], &key, b"-", b"+"]).unwrap());
            }
            if answers[0].text() == "hash" && !key.starts_with(b"hash:small") {
                let mut ask = vec![b"HPEXPIRETIME".as_slice(), &key, b"FIELDS", b"5"];
                ask.extend([&b"a"[..], b"b", b"c", b"member:1", b"member:3"]);
                answers.push(client.command(&ask).unwrap());
            }
            all.push((db, key, answers));
        }
    }
    client.run("SELECT 0").unwrap();
    all.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    all
}

fn fill(server: &Server) -> Client {
    let mut client = server.client();
    run_all(&mut client, COLLECTIONS);
    fill_large(&mut client);
    let library = b"#!lua name=lib\nredis.register_function('answer', function() return 42 end)";
    client.command(&[&b"FUNCTION"[..], b"LOAD", library]).unwrap();
    client
}

fn figure(client: &mut Client, name: &str) -> String {
    let info = client.run("INFO persistence").unwrap().text();
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("none").to_owned()
}

fn start_with(file: &Path, options: &[&str]) -> Server {
    let dir = file.parent().unwrap().to_str().unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    Larder::start(&[&["--dir", dir, "--dbfilename", name], options].concat()).unwrap()
}

fn compare(found: &[(u32, Vec<u8>, Vec<Value>)], expected: &[(u32, Vec<u8>, Vec<Value>)]) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected, "{}", found.1.escape_ascii());
    }
    assert_eq!(found.len(), expected.len());
    assert!(found.len() > 700);
}

#[test]
fn a_file_of_redis_82_is_loaded() {
    let Some(redis) = available(Redis82::start()) else { return };
    let mut theirs = fill(&redis);
    run_all(&mut theirs, FIELDS_THAT_END);
    // Longer than what is read at a time, by a lot.
    let long = "for i = 1, 40000 do redis.call('HSET', 'hash:long', i * 7, i * 7919 .. ':' .. i * 104729 .. ':' .. i) end";
    theirs.command(&[&b"EVAL"[..], long.as_bytes(), b"0"]).unwrap();
    run_all(
        &mut theirs,
        &["DEBUG SET-ACTIVE-EXPIRE 0", "SET over v PXAT 1000000000000", "SELECT 3", "SET over2 v"],
    );
    // A write in the past deletes, so the end comes while the key is there.
    run_all(&mut theirs, &["PEXPIRE over2 1", "SELECT 0"]);
    std::thread::sleep(Duration::from_millis(5));
    run_all(&mut theirs, &["SAVE"]);
    let file = redis.dir().join("dump.rdb");
    let larder = start_with(&file, &["--list-max-listpack-size", "8", "--list-compress-depth", "1"]);
    let mut ours = larder.client();
    // What it is after loading is asked of Redis after it has loaded the same file.
    run_all(&mut theirs, &["DEBUG RELOAD NOSAVE"]);
    assert_eq!(figure(&mut theirs, "rdb_last_load_keys_expired"), "2");
    for name in ["rdb_last_load_keys_expired", "rdb_last_load_keys_loaded"] {
        assert_eq!(figure(&mut ours, name), figure(&mut theirs, name), "{name}");
    }
    let expected = everything(&mut theirs, Encodings::Compared);
    compare(&everything(&mut ours, Encodings::Compared), &expected);
    assert_eq!(figure(&mut ours, "rdb_changes_since_last_save"), "0");
    assert_eq!(ours.run("FCALL answer 0").unwrap(), Value::Integer(42));
    let list = "FUNCTION LIST WITHCODE";
    assert_eq!(ours.run(list).unwrap(), theirs.run(list).unwrap());
    checks(&file);
}

/// `check-rdb` finds nothing in the file, and something in one with a bit changed.
fn checks(file: &Path) {
    let run =
        |path: &Path| Command::new(Larder::binary().unwrap()).arg("check-rdb").arg(path).output().unwrap();
    let good = run(file);
    let text = String::from_utf8_lossy(&good.stdout).into_owned();
    assert!(good.status.success(), "{text}");
    for line in ["zset: 2\n", "stream: 3\n", "functions: lib\n", "Redis version 12\n"] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    let wrong = file.with_file_name("wrong.rdb");
    std::fs::write(&wrong, &bytes).unwrap();
    let bad = run(&wrong);
    let text = String::from_utf8_lossy(&bad.stdout).into_owned();
    assert!(!bad.status.success() && text.contains("WRONG"), "{text}");
    let refused =
        Larder::start(&["--dir", file.parent().unwrap().to_str().unwrap(), "--dbfilename", "wrong.rdb"]);
    let problem = refused.err().unwrap();
    assert!(problem.contains("cannot load wrong.rdb: at byte"), "{problem}");
    assert!(problem.contains("larder check-rdb wrong.rdb"), "{problem}");
}

#[test]
fn a_file_of_redis_70_is_loaded_as_redis_82_loads_it() {
    let (Some(old), Some(probe)) = (available(Redis70::start()), available(Redis82::start())) else { return };
    let mut client = fill(&old);
    run_all(&mut client, &["SAVE"]);
    let file = old.dir().join("dump.rdb");
    std::fs::copy(&file, probe.dir().join("dump.rdb")).unwrap();
    let mut theirs = probe.client();
    run_all(
        &mut theirs,
        &["CONFIG SET list-max-listpack-size 8 list-compress-depth 1", "DEBUG RELOAD NOSAVE"],
    );
    let larder = start_with(&file, &["--list-max-listpack-size", "8", "--list-compress-depth", "1"]);
    let expected = everything(&mut theirs, Encodings::Compared);
    compare(&everything(&mut larder.client(), Encodings::Compared), &expected);
}

#[test]
fn a_file_of_valkey_is_loaded() {
    let Some(valkey) = available(Valkey::start()) else { return };
    let mut theirs = fill(&valkey);
    run_all(&mut theirs, FIELDS_THAT_END);
    run_all(&mut theirs, &["SAVE", "DEBUG RELOAD NOSAVE"]);
    let larder = start_with(&valkey.dir().join("dump.rdb"), &[]);
    let expected = everything(&mut theirs, Encodings::Others);
    compare(&everything(&mut larder.client(), Encodings::Others), &expected);
}

#[test]
fn idle_times_and_frequencies_arrive() {
    let Some(redis) = available(Redis82::start()) else { return };
    let mut theirs = redis.client();
    let payload = |client: &mut Client| client.run("DUMP seed").unwrap();
    run_all(&mut theirs, &["SET seed v", "CONFIG SET maxmemory-policy allkeys-lru"]);
    let seed = payload(&mut theirs);
    let restore = |client: &mut Client, key: &[u8], word: &[u8], number: &[u8]| {
        client.command(&[&b"RESTORE"[..], key, b"0", seed.bytes().unwrap(), word, number]).unwrap()
    };
    restore(&mut theirs, b"idle", b"IDLETIME", b"5000");
    run_all(&mut theirs, &["SAVE"]);
    let larder = start_with(&redis.dir().join("dump.rdb"), &[]);
    let idle = larder.client().run("OBJECT IDLETIME idle").unwrap().integer().unwrap();
    assert!((5000..5030).contains(&idle), "{idle}");
    run_all(&mut theirs, &["CONFIG SET maxmemory-policy allkeys-lfu"]);
    restore(&mut theirs, b"often", b"FREQ", b"77");
    run_all(&mut theirs, &["SAVE"]);
    let options = ["--maxmemory-policy", "allkeys-lfu", "--lfu-decay-time", "0"];
    let larder = start_with(&redis.dir().join("dump.rdb"), &options);
    assert_eq!(larder.client().run("OBJECT FREQ often").unwrap(), Value::Integer(77));
}

/// What a connection answers to inline commands, as many bytes as there are of the expected.
fn asked(stream: &mut UnixStream, lines: &str, expected: &str) {
    stream.write_all(lines.as_bytes()).unwrap();
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), expected);
}

#[test]
fn clients_are_answered_while_it_is_loaded() {
    let folder = std::env::temp_dir().join(format!("larder-loading-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (pipe, socket) = (folder.join("slow.rdb"), folder.join("socket"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let options =
        ["--unixsocket", socket.to_str().unwrap(), "--notify-keyspace-events", "KEAn"].map(str::to_owned);
    let place = pipe.clone();
    let starting = std::thread::spawn(move || {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        start_with(&place, &options)
    });
    // Opens once the server does.
    let mut file = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    file.write_all(b"REDIS0012\xfe\x00\x00\x01a\x01x").unwrap();
    let mut client = UnixStream::connect(&socket).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let loading = "-LOADING Redis is loading the dataset in memory\r\n";
    for line in ["PING", "GET a", "SET a 1", "DBSIZE", "FUNCTION LIST", "KEYS *", "WAIT 0 0", "FLUSHALL"] {
        asked(&mut client, &format!("{line}\r\n"), loading);
    }
    asked(&mut client, "MULTI\r\n", "+OK\r\n");
    asked(&mut client, "GET a\r\n", loading);
    asked(&mut client, "EXEC\r\n", "-EXECABORT Transaction discarded because of previous errors.\r\n");
    asked(&mut client, "SELECT 0\r\n", "+OK\r\n");
    asked(&mut client, "PSUBSCRIBE *\r\n", "*3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n");
    let mut other = UnixStream::connect(&socket).unwrap();
    other.write_all(b"INFO persistence\r\n").unwrap();
    other.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut info = String::new();
    // That it takes another second is a guess of the first one.
    while !["1", "0"].iter().any(|eta| info.contains(&format!("loading_eta_seconds:{eta}\r\n"))) {
        let mut bytes = [0; 512];
        let read = other.read(&mut bytes).unwrap();
        assert!(read > 0, "the connection was closed behind {info}");
        info.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    for line in
        ["loading:1\r\n", "async_loading:0\r\n", "loading_total_bytes:0\r\n", "loading_loaded_perc:0.00\r\n"]
    {
        assert!(info.contains(line), "{line} is not in {info}");
    }
    file.write_all(b"\x00\x01b\x01y\xff\0\0\0\0\0\0\0\0").unwrap();
    drop(file);
    let larder = starting.join().unwrap();
    let mut ready = larder.client();
    assert_eq!(figure(&mut ready, "loading"), "0");
    assert_eq!(figure(&mut ready, "loading_eta_seconds"), "none");
    assert_eq!(ready.run("GET b").unwrap().bytes(), Some(&b"y"[..]));
    // The first that listeners hear is what happens after loading.
    ready.run("SET after 1").unwrap();
    asked(&mut client, "", "*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$20\r\n__keyspace@0__:after\r\n");
    std::fs::remove_dir_all(&folder).unwrap();
}
