//! Client-side caching under threads: no copy stays that is older than what was acknowledged, whoever writes and however.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::{Client, Server, Value};
use scenario::{figure, is_ok, larder, ok, until};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const KEYS: usize = 40;
const WRITERS: usize = 3;
const WRITES: usize = 4_000;

/// A client that keeps copies of what it reads, and drops what it is told of.
struct Cache {
    client: Client,
    copies: HashMap<String, Option<Vec<u8>>>,
}

impl Cache {
    fn new(server: &Server, options: &str) -> Cache {
        let mut client = server.client();
        client.run("HELLO 3").unwrap();
        ok(&mut client, &format!("CLIENT TRACKING on {options}"));
        Cache { client, copies: HashMap::new() }
    }

    /// Takes what one value says: true if it was a message.
    fn hear(&mut self, value: &Value) -> bool {
        let Value::Push(words) = value else { return false };
        assert_eq!(words[0].text(), "invalidate");
        match words[1].items() {
            Some(keys) => keys.iter().for_each(|key| _ = self.copies.remove(&key.text())),
            None => self.copies.clear(),
        }
        true
    }

    /// Reads keys through the copies.
    fn read(&mut self, key: &str) {
        if self.copies.contains_key(key) {
            return;
        }
        self.client.send(&["GET", key]).unwrap();
        loop {
            let value = self.client.read().unwrap();
            if !self.hear(&value) {
                self.copies.insert(key.to_owned(), value.bytes().map(<[u8]>::to_vec));
                return;
            }
        }
    }

    /// Hears everything that was sent before now.
    fn catch_up(&mut self) {
        self.client.send(&["PING"]).unwrap();
        loop {
            let value = self.client.read().unwrap();
            if !self.hear(&value) {
                return;
            }
        }
    }
}

fn key(number: usize) -> String {
    format!("key:{}", number % KEYS)
}

/// What a writer does next: whole values, several at once, transactions, deletions, ends, renames.
fn write(client: &mut Client, writer: usize, number: usize) {
    let (one, other, value) = (key(number), key(number * 7 + writer), format!("{writer}-{number}"));
    let run = |client: &mut Client, words: &[&str]| {
        let reply = client.command(words).unwrap();
        assert!(!matches!(&reply, Value::Error(text) if !text.starts_with(b"ERR no such key")), "{reply:?}");
    };
    match number % 9 {
        0 => run(client, &["DEL", &one]),
        1 => run(client, &["MSET", &one, &value, &other, &value]),
        2 => run(client, &["APPEND", &one, "+"]),
        3 => run(client, &["SET", &one, &value, "PX", "1"]),
        4 => {
            run(client, &["MULTI"]);
            run(client, &["SET", &one, &value]);
            run(client, &["SET", &other, &value]);
            run(client, &["EXEC"]);
        }
        5 if one != other => run(client, &["RENAME", &one, &other]),
        6 if number % 900 == 6 => run(client, &["FLUSHALL"]),
        _ => run(client, &["SET", &one, &value]),
    }
}

#[test]
fn no_copy_stays_that_is_older_than_an_acknowledged_write() {
    for (threads, options) in [(2, ""), (2, "BCAST PREFIX key:"), (1, ""), (2, "NOLOOP")] {
        let server = larder(threads, &["--tracking-table-max-keys", "30"]);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let readers: Vec<_> = (0..3)
                .map(|reader| {
                    let (server, is_over) = (&server, &is_over);
                    scope.spawn(move || {
                        let mut cache = Cache::new(server, options);
                        let mut number = reader;
                        while !is_over.load(Relaxed) {
                            cache.read(&key(number));
                            number += 3 + reader;
                            if number % 50 < 3 {
                                cache.catch_up();
                            }
                        }
                        cache
                    })
                })
                .collect();
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let server = &server;
                    scope.spawn(move || {
                        let mut client = server.client();
                        (0..WRITES).for_each(|number| write(&mut client, writer, number));
                    })
                })
                .collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            is_over.store(true, Relaxed);
            let mut client = server.client();
            for reader in readers {
                let mut cache = reader.join().unwrap();
                // Keys that end by themselves are told of, too.
                thread::sleep(Duration::from_millis(50));
                until("every copy is what the server has", || {
                    cache.catch_up();
                    let mut there =
                        |key: &String| client.command(&["GET", key]).unwrap().bytes().map(<[u8]>::to_vec);
                    cache.copies.iter().all(|(key, copy)| there(key) == *copy)
                });
            }
        });
        let mut client = server.client();
        assert!(figure(&mut client, "tracking_total_keys") <= 30);
        until("nobody tracks any more", || figure(&mut client, "tracking_clients") == 0);
    }
}

/// What others changed in the very turn in which a client begins to track is not told to it: its first answer is OK.
#[test]
fn who_begins_to_track_hears_nothing_of_what_was_before() {
    let server = larder(1, &["--enable-debug-command", "yes"]);
    let (mut sleeper, mut writer, mut other) = (server.client(), server.client(), Cache::new(&server, ""));
    for number in 0..20 {
        let mut cache = server.client();
        cache.run("HELLO 3").unwrap();
        // What both send while the one worker sleeps is answered in one turn, the writer's first.
        sleeper.send(&["DEBUG", "SLEEP", "0.02"]).unwrap();
        thread::sleep(Duration::from_millis(5));
        writer.send(if number % 2 == 0 { &["FLUSHALL"] } else { &["SET", "key:1", "value"] }).unwrap();
        thread::sleep(Duration::from_millis(1));
        cache.send(&["CLIENT", "TRACKING", "on"]).unwrap();
        assert!(is_ok(&cache.read().unwrap()), "round {number}");
        assert!(is_ok(&writer.read().unwrap()) && is_ok(&sleeper.read().unwrap()));
        assert_eq!(cache.run("PING").unwrap(), Value::Simple(b"PONG".to_vec()));
        other.read("key:1");
    }
}

/// Commands that have run often take a shorter way, in transactions too.
#[test]
fn what_transactions_read_is_tracked_however_often_they_ran() {
    let server = larder(1, &[]);
    let (mut writer, mut cache) = (server.client(), Cache::new(&server, ""));
    for number in 0..300 {
        for line in ["MULTI", "GET key:1", "EXEC"] {
            cache.client.run(line).unwrap();
        }
        cache.copies.insert("key:1".to_owned(), None);
        ok(&mut writer, "SET key:1 value");
        cache.catch_up();
        assert!(cache.copies.is_empty(), "it is not told after {number} transactions");
    }
}

#[test]
fn keys_that_are_evicted_are_told_of() {
    let server = larder(2, &["--maxmemory", "17mb", "--maxmemory-policy", "allkeys-lru"]);
    let mut cache = Cache::new(&server, "");
    let mut client = server.client();
    ok(&mut client, "SET key:1 value");
    cache.read("key:1");
    let (value, mut number) = ("v".repeat(1000), 0);
    until("it is evicted", || {
        for _ in 0..2000 {
            client.command(&["SET", &format!("other:{number}"), &value]).unwrap();
            number += 1;
        }
        cache.catch_up();
        cache.copies.is_empty()
    });
    assert!(figure(&mut client, "evicted_keys") > 0);
}

/// Whatever invalidates or replaces copies of routes is told to clients that keep theirs, by key or by beginnings.
#[test]
fn copies_of_copies_hear_of_every_invalidation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let store = rusqlite::Connection::open(&path).unwrap();
    store.busy_timeout(Duration::from_secs(5)).unwrap();
    let rows = "PRAGMA journal_mode = WAL; CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT); \
        INSERT INTO users VALUES (1, 'Ada')";
    store.execute_batch(rows).unwrap();
    let url = format!("sqlite:{}", path.display());
    let options = [
        "--source",
        "shop",
        &url,
        "poll",
        "10ms",
        "--route",
        "user:<id:int>",
        "shop",
        "as",
        "string",
        "query",
    ];
    let query = ["SELECT name FROM users WHERE id = $id", "tags", "people", "invalidate", "users.id"];
    let more = ["stale-while-revalidate", "1h", "writes", "around"];
    let server = larder(2, &[&options[..], &query, &more].concat());
    let mut other = server.client();
    until("the feed has begun", || scenario::source_info(&mut other, "feed") == "following");
    let change = |name: &str| _ = store.execute("UPDATE users SET name = ?1 WHERE id = 1", [name]).unwrap();
    for options in ["", "bcast prefix user:"] {
        let mut cache = Cache::new(&server, options);
        for step in [
            "CACHE INVALIDATE KEYS 1 user:1",
            "CACHE INVALIDATE PREFIX user:",
            "CACHE INVALIDATE TAG people",
            "feed",
            "CACHE REFRESH user:1",
            "SET user:1 x",
            "new row",
            // What is old is fetched anew in passing, which is told, too.
            "CACHE INVALIDATE KEYS 1 user:1 SOFT",
            "CACHE INVALIDATE TAG people SOFT",
        ] {
            let key = if step == "new row" { "user:2" } else { "user:1" };
            // A fresh copy, of which there is no news on the way.
            other.command(&["CACHE", "GET", key, "NOSTALE"]).unwrap();
            cache.catch_up();
            cache.copies.clear();
            cache.read(key);
            match step {
                "feed" => change(&format!("by the feed {options}")),
                "new row" => _ = store.execute("INSERT INTO users VALUES (2, 'Bea')", []).unwrap(),
                line => assert!(!other.run(line).unwrap().is_error(), "{line}"),
            }
            until(&format!("it hears of {step} with '{options}'"), || {
                cache.catch_up();
                !cache.copies.contains_key(key)
            });
        }
        store.execute("DELETE FROM users WHERE id = 2", []).unwrap();
        until("it is seen", || scenario::nothing(&mut other, "user:2"));
    }
}
