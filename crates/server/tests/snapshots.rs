//! Snapshots of a running server: what is in them while everything changes, who reads them, and what becomes of failing ones.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_persist::rdb::Dumped;
use larder_persist::rdb::file::{About, Cutter, Records, Terms, Value as Stored};
use larder_testkit::server::available;
use larder_testkit::{Client, Redis82, Valkey, Value};
use larder_values::list::Limit;
use scenario::{figure, info, larder, ok, populate, until};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

const ACCOUNTS: usize = 2_000;
const EACH: i64 = 1_000;
/// Keys that only make a snapshot take longer.
const BULK: usize = 30_000;
const COINS: usize = 400;
const FILES: usize = 15;

/// All keys of a file, each once, in order.
fn keys_of(path: &Path) -> BTreeMap<(u64, Vec<u8>), String> {
    let file = std::fs::read(path).unwrap();
    let mut cutter = Cutter::new(Terms {
        databases: 16,
        skips_modules: false,
        sums: true,
        stops_behind: b"",
        whole_max: usize::MAX,
    });
    let (mut keys, mut start, mut sizes) = (BTreeMap::new(), 0, BTreeMap::new());
    loop {
        let rest = &file[start..];
        let cut = cutter.cut(rest, &mut |about| {
            if let About::Sizes { db, keys, .. } = about {
                sizes.insert(db, keys);
            }
        });
        let cut = cut.unwrap();
        let mut records = Records::new(&rest[..cut.bytes], &cut, cutter.dialect());
        while cut.at != 0
            && let Some(record) = records.next_key().unwrap()
        {
            let value = match records.value(&record).unwrap() {
                Stored::Text(text) => String::from_utf8_lossy(&text).into_owned(),
                Stored::Integer(value) => value.to_string(),
                Stored::Collection(Dumped::List(list)) => list.into_list(Limit::of(-2)).len().to_string(),
                other => format!("{other:?}"),
            };
            let before = keys.insert((record.db, record.key.into_owned()), value);
            assert_eq!(before, None, "a key is there twice");
        }
        start += cut.bytes;
        if cut.is_last {
            assert_eq!(start, file.len());
            break;
        }
        assert_ne!(cut.bytes, 0, "the file is cut off");
    }
    for (db, count) in sizes {
        // Keys that have ended since are not saved.
        let found = keys.range((db, Vec::new())..(db + 1, Vec::new())).count() as u64;
        assert!(found <= count && found + 1000 > count, "database {db}: {found} of {count}");
    }
    keys
}

/// Random numbers enough for a test.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// Moves money between accounts, in transactions and scripts, and renames some.
fn transfer(client: &mut Client, random: &mut Random, number: usize) {
    let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
    let (from, to) = (format!("account:{from}"), format!("account:{to}"));
    let amount = random.below(50).to_string();
    match number % 4 {
        0 => {
            let script =
                "redis.call('DECRBY', KEYS[1], ARGV[1]); return redis.call('INCRBY', KEYS[2], ARGV[1])";
            client.command(&["EVAL", script, "2", &from, &to, &amount]).unwrap();
        }
        1 => {
            // A key of its own for a while, which is not an account under this name.
            let lines = [vec!["MULTI"], vec!["RENAME", &from, "account:moving"]];
            let back = [vec!["RENAME", "account:moving", &from], vec!["EXEC"]];
            let all: Vec<Vec<&str>> = lines.into_iter().chain(back).collect();
            client.pipeline(&all).unwrap();
        }
        2 => {
            // One that has everything waits for it, and a snapshot may begin meanwhile.
            let between = if random.below(2) == 0 { "SWAPDB 14 15" } else { "PING" };
            let (less, more) = (format!("DECRBY {from} {amount}"), format!("INCRBY {to} {amount}"));
            let lines = ["MULTI", &less, between, &more, "EXEC"];
            let all: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
            client.pipeline(&all).unwrap();
        }
        _ => {
            let ends = ["LEFT", "RIGHT"];
            let (one, other) = (random.below(5).to_string(), random.below(5).to_string());
            let words =
                ["LMOVE", &format!("coins:{one}"), &format!("coins:{other}"), ends[number / 4 % 2], "LEFT"];
            client.command(&words).unwrap();
        }
    }
}

/// Keys come, grow, end and go beside the accounts; a database is filled and flushed as one.
fn disturb(client: &mut Client, random: &mut Random) {
    let key = format!("bulk:{}", random.below(BULK));
    match random.below(60) {
        0..20 => drop(client.run(&format!("APPEND {key} more")).unwrap()),
        20..40 => drop(client.run(&format!("SET {key} other PX {}", 1 + random.below(30))).unwrap()),
        40..55 => drop(client.run(&format!("DEL {key}")).unwrap()),
        55..58 => drop(client.run(&format!("HSET hash:{key} a b")).unwrap()),
        58 => {
            let mut words = vec!["MSET".to_owned()];
            (0..500).for_each(|number| words.extend([format!("together:{number}"), "x".to_owned()]));
            let commands = [vec!["SELECT".to_owned(), "3".to_owned()], words];
            client.pipeline(&commands).unwrap();
            client.run("SELECT 0").unwrap();
        }
        _ => {
            let commands = [vec!["SELECT", "3"], vec!["FLUSHDB"], vec!["SELECT", "0"]];
            client.pipeline(&commands).unwrap();
        }
    }
}

fn fill(client: &mut Client) {
    let mut commands: Vec<Vec<String>> = Vec::new();
    for number in 0..ACCOUNTS {
        commands.push(vec!["SET".into(), format!("account:{number}"), EACH.to_string()]);
    }
    for number in 0..BULK {
        commands.push(vec!["SET".into(), format!("bulk:{number}"), "some text ".repeat(number % 20)]);
    }
    for number in 0..COINS {
        commands.push(vec!["RPUSH".into(), format!("coins:{}", number % 5), number.to_string()]);
    }
    for chunk in commands.chunks(1000) {
        client.pipeline(chunk).unwrap();
    }
}

/// Has others stop when it is dropped.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn every_snapshot_is_of_one_moment() {
    let server = larder(2, &["--save", ""]);
    let mut client = server.client();
    fill(&mut client);
    let is_over = AtomicBool::new(false);
    let path = server.dir().join("dump.rdb");
    thread::scope(|scope| {
        // Also where a check fails.
        let _end = AtEnd(&is_over);
        for worker in 0..4 {
            let (server, is_over) = (&server, &is_over);
            scope.spawn(move || {
                let (mut client, mut random) = (server.client(), Random(worker));
                let mut number = 0;
                while !is_over.load(Relaxed) {
                    number += 1;
                    if worker == 3 {
                        disturb(&mut client, &mut random);
                    } else {
                        transfer(&mut client, &mut random, number);
                    }
                }
            });
        }
        for number in 0..FILES {
            let saves = figure(&mut client, "rdb_saves");
            if number % 5 == 4 {
                ok(&mut client, "SAVE");
            } else {
                let begun = client.run("BGSAVE").unwrap();
                assert_eq!(begun, Value::Simple(b"Background saving started".to_vec()));
                until("the end of the snapshot", || figure(&mut client, "rdb_bgsave_in_progress") == 0);
            }
            assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "ok");
            assert_eq!(figure(&mut client, "rdb_saves"), saves + 1);
            check(&keys_of(&path));
            std::fs::remove_file(&path).unwrap();
        }
    });
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// What holds at every moment.
fn check(keys: &BTreeMap<(u64, Vec<u8>), String>) {
    let of = |prefix: &'static [u8]| keys.iter().filter(move |((_, key), _)| key.starts_with(prefix));
    let sum: i64 = of(b"account:").map(|(_, value)| value.parse::<i64>().unwrap()).sum();
    assert_eq!(sum, ACCOUNTS as i64 * EACH);
    assert!(!keys.contains_key(&(0, b"account:moving".to_vec())), "between two commands of a transaction");
    assert_eq!(of(b"account:").count(), ACCOUNTS);
    let together = of(b"together:").count();
    assert!(together == 0 || together == 500, "{together} of what was set and flushed as one");
    let coins: usize = of(b"coins:").map(|(_, list)| list.parse::<usize>().unwrap()).sum();
    assert_eq!(coins, COINS);
}

#[test]
fn a_snapshot_that_fails_leaves_the_last_one_and_refuses_writes() {
    const MISCONF: &str = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may modify the data set are disabled, because this instance is configured to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.";
    let mut server = larder(2, &["--save", "3600 1", "--enable-protected-configs", "yes"]);
    let mut client = server.client();
    ok(&mut client, "SET k v");
    ok(&mut client, "SAVE");
    let before = std::fs::read(server.dir().join("dump.rdb")).unwrap();
    ok(&mut client, "SET k w");
    // A folder stands where the file is to be, so that it cannot have its name.
    std::fs::create_dir(server.dir().join("folder.rdb")).unwrap();
    ok(&mut client, "CONFIG SET dbfilename folder.rdb");
    assert_eq!(client.run("SAVE").unwrap(), Value::Error(b"ERR".to_vec()));
    ok(&mut client, "SET k w");
    client.run("BGSAVE").unwrap();
    until("the end of the snapshot", || figure(&mut client, "rdb_bgsave_in_progress") == 0);
    assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "err");
    assert!(server.log().contains("cannot rename"), "{}", server.log());
    let misconf = Value::Error(MISCONF.as_bytes().to_vec());
    for refused in ["SET k x", "PING", "DEL nothing", "FLUSHALL", "SWAPDB 0 1"] {
        assert_eq!(client.run(refused).unwrap(), misconf, "{refused}");
    }
    let mut eval = |script: &str| client.command(&["EVAL", script, "1", "k"]).unwrap();
    assert_eq!(eval("#!lua\nreturn 1"), misconf);
    assert_eq!(
        [eval("return 1"), eval("#!lua flags=no-writes\nreturn 1")],
        [Value::Integer(1), Value::Integer(1)]
    );
    let script = eval("return redis.call('set', KEYS[1], 'x')");
    let Value::Error(text) = script else { panic!("{script:?}") };
    assert!(text.starts_with(MISCONF.as_bytes()) && text.ends_with(b"on @user_script:1."));
    for allowed in ["GET k", "PUBLISH a b", "PFCOUNT nothing"] {
        assert!(!matches!(client.run(allowed).unwrap(), Value::Error(_)), "{allowed}");
    }
    client.run("MULTI").unwrap();
    assert_eq!(client.run("SET k x").unwrap(), misconf);
    let exec = client.run("EXEC").unwrap();
    assert_eq!(exec, Value::Error(b"EXECABORT Transaction discarded because of previous errors.".to_vec()));
    let failed = Value::Error(b"ERR Errors trying to SHUTDOWN. Check logs.".to_vec());
    assert_eq!(client.run("SHUTDOWN").unwrap(), failed);
    assert_eq!(client.run("SHUTDOWN SAVE").unwrap(), failed);
    // Nothing is held back by an end that did not come.
    ok(&mut client, "CONFIG SET stop-writes-on-bgsave-error no");
    ok(&mut client, "SET k y");
    let names: Vec<_> =
        std::fs::read_dir(server.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with("temp-")), "{names:?}");
    assert_eq!(std::fs::read(server.dir().join("dump.rdb")).unwrap(), before);
    // What is repaired is good again, and the end saves.
    ok(&mut client, "CONFIG SET stop-writes-on-bgsave-error yes dbfilename dump.rdb");
    client.run("BGSAVE").unwrap();
    until("the end of the snapshot", || figure(&mut client, "rdb_bgsave_in_progress") == 0);
    ok(&mut client, "SET k z");
    scenario::signal(&server, "TERM");
    assert_eq!(server.wait_for_end(scenario::SOON), Some(true));
    let keys = keys_of(&server.dir().join("dump.rdb"));
    assert_eq!(keys.get(&(0, b"k".to_vec())).map(String::as_str), Some("z"));
}

#[test]
fn a_snapshot_that_is_cancelled_leaves_nothing() {
    let server = larder(2, &["--save", ""]);
    let mut client = server.client();
    (0..200).for_each(|number| ok(&mut client, &format!("SET key:{number} x")));
    // Until somebody cancels it.
    ok(&mut client, "CONFIG SET rdb-key-save-delay 100000");
    assert_eq!(client.run("BGSAVE").unwrap().text(), "Background saving started");
    assert_eq!(client.run("BGSAVE CANCEL").unwrap().text(), "Background saving cancelled");
    until("the end of the snapshot", || figure(&mut client, "rdb_bgsave_in_progress") == 0);
    assert!(
        client.run("BGSAVE CANCEL").unwrap().text().starts_with("ERR Background saving is currently not")
    );
    assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "ok");
    let left = std::fs::read_dir(server.dir()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().ends_with(".rdb")).collect();
    assert!(left.is_empty(), "{left:?}");
    ok(&mut client, "CONFIG SET rdb-key-save-delay 0");
    client.run("BGSAVE").unwrap();
    until("the end of the snapshot", || figure(&mut client, "rdb_bgsave_in_progress") == 0);
    assert_eq!(keys_of(&server.dir().join("dump.rdb")).len(), 200);
}

#[test]
fn an_end_during_a_snapshot_leaves_one_whole_file_and_nothing_aside() {
    for (line, saves) in [("SHUTDOWN NOSAVE", false), ("SHUTDOWN SAVE", true), ("SHUTDOWN", true)] {
        let mut server = larder(2, &["--save", "3600 1000000"]);
        let mut client = server.client();
        ok(&mut client, "SET k before");
        ok(&mut client, "SAVE");
        let fill = "for i = 1, 200000 do redis.call('SET', 'key:' .. i, string.rep('x', 200)) end";
        client.command(&["EVAL", fill, "0"]).unwrap();
        ok(&mut client, "SET k during");
        until("a snapshot that is seen under way", || {
            client.run("BGSAVE").unwrap();
            figure(&mut client, "rdb_bgsave_in_progress") == 1
        });
        ok(&mut client, "SET k after");
        client.send(&line.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!(server.wait_for_end(scenario::SOON), Some(true), "{line}");
        let keys = keys_of(&server.dir().join("dump.rdb"));
        let found = keys.get(&(0, b"k".to_vec())).map(String::as_str);
        if saves {
            assert_eq!((found, keys.len()), (Some("after"), 200_001), "{line}");
        } else {
            // The one under way may have been faster.
            let (is_old, is_new) = (found == Some("before"), found == Some("during"));
            assert!(is_old && keys.len() == 1 || is_new && keys.len() == 200_001, "{line}: {found:?}");
        }
        let names: Vec<_> =
            std::fs::read_dir(server.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!names.iter().any(|name| name.to_string_lossy().starts_with("temp-")), "{line}: {names:?}");
    }
}

#[test]
fn a_signal_ends_the_server_as_its_option_says() {
    let rules = "3600 1";
    for (name, option, words, save, saves) in [
        ("TERM", "--shutdown-on-sigterm", "save", "", true),
        ("TERM", "--shutdown-on-sigterm", "nosave force", rules, false),
        ("INT", "--shutdown-on-sigint", "save now", "", true),
        ("INT", "--shutdown-on-sigint", "default", "", false),
        ("INT", "--shutdown-on-sigterm", "nosave", rules, true),
    ] {
        let mut server = larder(1, &["--save", save, option, words]);
        ok(&mut server.client(), "SET k v");
        scenario::signal(&server, name);
        assert_eq!(server.wait_for_end(scenario::SOON), Some(true), "{option} {words}");
        assert_eq!(server.dir().join("dump.rdb").exists(), saves, "{name}: {option} {words}");
    }
    // Where it cannot be saved.
    for (words, ends) in [("save", false), ("save force", true)] {
        let folder = tempfile::tempdir().unwrap();
        let mut server =
            larder(1, &["--dir", folder.path().to_str().unwrap(), "--shutdown-on-sigterm", words]);
        ok(&mut server.client(), "SET k v");
        drop(folder);
        scenario::signal(&server, "TERM");
        if ends {
            assert_eq!(server.wait_for_end(scenario::SOON), Some(true));
        } else {
            until("it is told", || server.log().contains("can't exit"));
            assert_eq!(scenario::get(&mut server.client(), "k"), "v");
        }
    }
}

#[test]
fn save_rules_and_flushes_write_by_themselves() {
    let server = larder(2, &["--save", "1 3"]);
    let mut client = server.client();
    let path = server.dir().join("dump.rdb");
    ok(&mut client, "SET a 1");
    ok(&mut client, "SET b 2");
    thread::sleep(std::time::Duration::from_millis(2500));
    assert!(!path.exists(), "two changes are not three");
    ok(&mut client, "SET c 3");
    until("a snapshot by a rule", || path.exists());
    until("that it is noted", || figure(&mut client, "rdb_changes_since_last_save") == 0);
    assert_eq!(keys_of(&path).len(), 3);
    ok(&mut client, "SET d 4");
    ok(&mut client, "FLUSHALL");
    assert_eq!((keys_of(&path).len(), figure(&mut client, "rdb_changes_since_last_save")), (0, 0));
}

#[test]
fn redis_and_valkey_read_what_was_written() {
    for (policy, peer) in [("noeviction", "redis"), ("allkeys-lfu", "redis"), ("volatile-lru", "valkey")] {
        let server = larder(2, &["--maxmemory-policy", policy]);
        let mut client = server.client();
        populate(&mut client);
        (0..50).for_each(|_| drop(client.run("GET long").unwrap()));
        if peer == "valkey" {
            // It knows no ends of fields in Redis' form.
            client.run("DEL hash:timed hash:timed:large").unwrap();
        }
        ok(&mut client, "SAVE");
        let dir = server.dir().to_str().unwrap();
        let options = ["--dir", dir, "--maxmemory-policy", policy];
        let other =
            if peer == "redis" { Redis82::start_with(&options) } else { Valkey::start_with(&options) };
        let Some(other) = available(other) else { return };
        let mut other = other.client();
        for line in ["DBSIZE", "DEBUG DIGEST", "FUNCTION LIST WITHCODE", "PEXPIRETIME text", "FCALL f 0"] {
            assert_eq!(other.run(line).unwrap(), client.run(line).unwrap(), "{line}");
        }
        for line in ["HPEXPIRETIME hash:timed FIELDS 2 a b", "HPEXPIRETIME hash:timed:large FIELDS 1 f7"] {
            assert_eq!(other.run(line).unwrap(), client.run(line).unwrap(), "{line}");
        }
        for line in ["XINFO STREAM stream FULL", "XPENDING stream group"] {
            let of = |client: &mut Client| client.run(line).unwrap().text();
            assert_eq!(of(&mut other), of(&mut client), "{line}");
        }
        if policy == "allkeys-lfu" {
            let of = |client: &mut Client| client.run("OBJECT FREQ long").unwrap();
            assert_eq!(of(&mut other), of(&mut client));
        }
        let digest = client.run("DEBUG DIGEST").unwrap();
        for reload in ["DEBUG RELOAD", "DEBUG RELOAD NOSAVE"] {
            ok(&mut client, reload);
            assert_eq!(client.run("DEBUG DIGEST").unwrap(), digest);
            assert_eq!(client.run("FCALL f 0").unwrap(), Value::Integer(7));
        }
        let twice = client.run("DEBUG RELOAD NOFLUSH").unwrap();
        assert!(matches!(twice, Value::Error(text) if text.starts_with(b"ERR Error trying to load")));
        merges(&mut client);
        merges(&mut other);
        let log = info(&mut other, "rdb_last_load_keys_loaded");
        assert_eq!(log, if peer == "valkey" { "15" } else { "17" });
    }
}

#[test]
fn the_calendar_has_a_snapshot_made() {
    let server = larder(1, &["--save", "", "--snapshot-cron", "0 0 1 1 *"]);
    let mut client = server.client();
    let (now, next) = (std::time::SystemTime::now(), figure(&mut client, "rdb_next_scheduled_time"));
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(next > now && next < now + 367 * 86_400 && next.is_multiple_of(86_400), "{next}");
    let refused = client.command(&["CONFIG", "SET", "snapshot-cron", "61 * * * *"]).unwrap();
    assert!(refused.text().contains("as in cron"), "{refused:?}");
    ok(&mut client, "SET key value");
    let set = client.command(&["CONFIG", "SET", "snapshot-cron", "0 0 1 1 *; * * * * *"]).unwrap();
    assert_eq!(set.text(), "OK");
    let next = figure(&mut client, "rdb_next_scheduled_time");
    assert!(next.is_multiple_of(60));
    let start = std::time::Instant::now();
    while figure(&mut client, "rdb_saves") == 0 {
        assert!(start.elapsed().as_secs() < 180, "a minute has begun long ago");
        thread::sleep(std::time::Duration::from_millis(100));
    }
    until("it is whole", || figure(&mut client, "rdb_bgsave_in_progress") == 0);
    assert_eq!(keys_of(&server.dir().join("dump.rdb")).len(), 1);
    // Not at every look, but at every time.
    assert!(figure(&mut client, "rdb_next_scheduled_time") > next - 1);
    assert_eq!(client.command(&["CONFIG", "SET", "snapshot-cron", ""]).unwrap().text(), "OK");
    assert!(!client.run("INFO persistence").unwrap().text().contains("rdb_next_scheduled_time"));
}

/// DEBUG RELOAD NOSAVE, with what stands in the file over what there is, and in place of it.
fn merges(client: &mut Client) {
    let values = |client: &mut Client| {
        ["GET integer", "EXISTS zset", "EXISTS own"].map(|line| {
            let reply = client.run(line).unwrap();
            reply.integer().map_or_else(|| reply.text(), |number| number.to_string())
        })
    };
    for (options, expected) in [("MERGE NOFLUSH", ["-12345", "1", "1"]), ("merge", ["-12345", "1", "0"])] {
        client.run("DEL integer zset").unwrap();
        client.run("RPUSH integer another type").unwrap();
        ok(client, "SET own 1");
        ok(client, &format!("DEBUG RELOAD NOSAVE {options}"));
        assert_eq!(values(client), expected, "{options}");
    }
}

/// Values that are cut into parts for several threads: each has more bytes in a file than a piece of it, and with compression too.
#[test]
fn long_lists_and_streams_come_back_whole() {
    const ELEMENTS: usize = 60_000;
    for threads in [1, 3] {
        let server = larder(threads, &["--save", ""]);
        let mut client = server.client();
        ok(&mut client, "DEBUG SET-ACTIVE-EXPIRE 0");
        let mut random = Random(7);
        let mut commands: Vec<Vec<String>> = Vec::new();
        for number in 0..ELEMENTS {
            let text = format!("{number}:{}", random.below(1 << 30));
            for list in ["list", "over"] {
                commands.push(vec!["RPUSH".into(), list.into(), text.clone()]);
            }
            commands.push(vec!["XADD".into(), "stream".into(), format!("{number}-1"), "field".into(), text]);
            commands.push(vec!["SET".into(), format!("key:{number}"), number.to_string()]);
        }
        for chunk in commands.chunks(10_000) {
            client.pipeline(chunk).unwrap();
        }
        ok(&mut client, "XGROUP CREATE stream group 0");
        client.run("XREADGROUP GROUP group alice COUNT 20000 STREAMS stream >").unwrap();
        let seen = |client: &mut Client| {
            [
                "DEBUG DIGEST-VALUE list stream",
                "XINFO STREAM stream FULL COUNT 3",
                "LRANGE list 40000 40003",
                "DBSIZE",
            ]
            .map(|line| client.run(line).unwrap())
        };
        let before = seen(&mut client);
        assert_eq!(before[3], Value::Integer(ELEMENTS as i64 + 3));
        ok(&mut client, "DEBUG RELOAD");
        assert_eq!(seen(&mut client), before, "{threads} threads");
        // One whose time is over is not stored, however many parts it has.
        assert_eq!(client.run("PEXPIRE over 500").unwrap(), Value::Integer(1));
        ok(&mut client, "SAVE");
        thread::sleep(std::time::Duration::from_millis(600));
        ok(&mut client, "DEBUG RELOAD NOSAVE");
        assert_eq!(client.run("DBSIZE").unwrap(), Value::Integer(ELEMENTS as i64 + 2));
        assert_eq!(client.run("EXISTS over").unwrap(), Value::Integer(0));
    }
}
