//! Writes that are answered before the store has them: none is lost, whatever is killed; reads see them; what the store refuses is
//! kept.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::stores::{self, PASSWORD, Store};
use larder_testkit::{Client, Server, Value};
use rusqlite::Connection;
use scenario::{figure, larder, ok, signal, until};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SET: &str =
    "INSERT INTO users(id, name) VALUES ($id, $value) ON CONFLICT(id) DO UPDATE SET name = $value";
const DEL: &str = "DELETE FROM users WHERE id = $id";
const QUERY: &str = "SELECT name FROM users WHERE id = $id";

/// A shop in a SQLite file, which notes every change, and the folder of the server that writes behind to it.
struct Shop {
    dir: TempDir,
    path: PathBuf,
}

impl Shop {
    fn new() -> Shop {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.db");
        std::fs::create_dir(dir.path().join("server")).unwrap();
        let shop = Shop { dir, path };
        shop.run(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT CHECK (name <> 'bad'));
             CREATE TABLE log (n INTEGER PRIMARY KEY, id INTEGER, name TEXT);
             CREATE TRIGGER a AFTER INSERT ON users BEGIN INSERT INTO log(id, name) VALUES (new.id, new.name); END;
             CREATE TRIGGER b AFTER UPDATE ON users BEGIN INSERT INTO log(id, name) VALUES (new.id, new.name); END;
             CREATE TRIGGER c AFTER DELETE ON users BEGIN INSERT INTO log(id) VALUES (old.id); END;
             INSERT INTO users VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Ann');",
        );
        shop
    }

    fn connect(&self) -> Connection {
        let store = Connection::open(&self.path).unwrap();
        store.busy_timeout(Duration::from_secs(5)).unwrap();
        store
    }

    fn run(&self, statements: &str) {
        self.connect().execute_batch(statements).unwrap();
    }

    fn name_of(&self, id: i64) -> Option<String> {
        self.connect().query_row("SELECT name FROM users WHERE id = ?1", [id], |row| row.get(0)).ok()
    }

    /// All that became of a user, in order.
    fn history(&self, id: i64) -> Vec<Option<String>> {
        let store = self.connect();
        let mut rows = store.prepare("SELECT name FROM log WHERE id = ?1 ORDER BY n").unwrap();
        let names = rows.query_map([id], |row| row.get(0)).unwrap();
        names.map(Result::unwrap).collect()
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("server")
    }

    /// A server that writes users behind. Dropped, it is killed with signal 9; another one goes on in the same folder.
    fn serve(&self, source: &[&str], route: &[&str]) -> Server {
        serve(&self.folder(), &format!("sqlite:{}", self.path.display()), source, route)
    }
}

fn serve(folder: &Path, url: &str, source: &[&str], route: &[&str]) -> Server {
    serve_by(SET, folder, url, source, route)
}

/// The same with a statement for SET.
fn serve_by(set: &str, folder: &Path, url: &str, source: &[&str], route: &[&str]) -> Server {
    let mut options = vec!["--dir", folder.to_str().unwrap(), "--source", "shop", url];
    options.extend(source);
    options.extend(["--route", "user:<id:int>", "shop", "as", "string", "query", QUERY, "writes", "behind"]);
    options.extend(["set", set, "del", DEL]);
    options.extend(route);
    larder(2, &options)
}

fn get(client: &mut Client, key: &str) -> Option<String> {
    let value = client.command(&["GET", key]).unwrap();
    assert!(!matches!(value, Value::Error(_)), "{value:?}");
    value.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn number(client: &mut Client, line: &str) -> i64 {
    let reply = client.run(line).unwrap();
    reply.integer().unwrap_or_else(|| panic!("{line}: {reply:?}"))
}

/// A figure of the queue.
fn behind(client: &mut Client, name: &str) -> i64 {
    let info = client.run("CACHE SOURCE INFO shop").unwrap();
    let name = format!("behind_{name}");
    info.pairs().iter().find(|(field, _)| field.text() == name).unwrap().1.integer().unwrap()
}

/// Tells others to stop when it is dropped.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_write_is_answered_at_once_read_at_once_and_in_the_store_soon() {
    let shop = Shop::new();
    let server = shop.serve(&[], &[]);
    let mut client = server.client();
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("Ada"));
    ok(&mut client, "SET user:1 Augusta");
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("Augusta"));
    assert_eq!(number(&mut client, "WAITSOURCE 0"), 0);
    assert_eq!(shop.name_of(1).as_deref(), Some("Augusta"));
    let ttl = number(&mut client, "TTL user:1");
    assert!((200..=300).contains(&ttl), "as if it were loaded: {ttl}");
    client.run("DEL user:1 user:2").unwrap();
    assert_eq!((get(&mut client, "user:1"), get(&mut client, "user:2")), (None, None));
    assert_eq!(number(&mut client, "WAITSOURCE 0"), 0);
    assert_eq!((shop.name_of(1), shop.name_of(2)), (None, None));
    // What no statement is for is refused, and so is what cannot be done right.
    for line in [
        "APPEND user:3 x",
        "INCR user:3",
        "SET user:3 x NX",
        "MSET user:3 x user:4 y",
        "RENAME user:3 user:4",
    ] {
        let error = client.run(line).unwrap();
        assert!(matches!(error, Value::Error(_)) && error.text().contains("behind"), "{line}: {error:?}");
    }
    let error = client.command(&["EVAL", "redis.call('SET', KEYS[1], 'x')", "1", "user:3"]).unwrap().text();
    assert!(error.contains("writes behind, which a script cannot wait for"), "{error}");
    assert_eq!((shop.name_of(3).as_deref(), behind(&mut client, "sent")), (Some("Ann"), 3));
}

#[test]
fn while_the_store_is_away_reads_see_what_is_queued_and_nothing_is_lost() {
    let shop = Shop::new();
    let server = shop.serve(&[], &[]);
    let mut client = server.client();
    ok(&mut client, "CACHE SOURCE PAUSE shop");
    for n in 0..50 {
        for id in 1..=20 {
            ok(&mut client, &format!("SET user:{id} name{n}"));
        }
    }
    client.run("DEL user:2").unwrap();
    assert_eq!(behind(&mut client, "pending"), 20);
    assert_eq!(behind(&mut client, "superseded") + behind(&mut client, "pending"), 1001);
    // The copies may go: what is queued is what a key is.
    assert_eq!(number(&mut client, "PEXPIRE user:1 1"), 1);
    thread::sleep(Duration::from_millis(5));
    assert_eq!(number(&mut client, "EXISTS user:1"), 0);
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("name49"));
    assert_eq!(number(&mut client, "EXISTS user:1"), 1);
    assert_eq!((get(&mut client, "user:2"), number(&mut client, "STRLEN user:3")), (None, 6));
    client.run("PEXPIRE user:4 1").unwrap();
    thread::sleep(Duration::from_millis(5));
    let names = client.run("MGET user:4 user:2 user:5").unwrap();
    let names: Vec<_> = names.items().unwrap().iter().map(|name| name.bytes().map(<[u8]>::to_vec)).collect();
    assert_eq!(names, [Some(b"name49".to_vec()), None, Some(b"name49".to_vec())]);
    // Also by CACHE GET, which need not wait for it.
    client.run("PEXPIRE user:8 1").unwrap();
    thread::sleep(Duration::from_millis(5));
    assert_eq!(client.run("CACHE GET user:8 WAIT 0").unwrap().text(), "name49");
    // Also what a transaction reads.
    client.run("PEXPIRE user:6 1").unwrap();
    thread::sleep(Duration::from_millis(5));
    ok(&mut client, "MULTI");
    client.run("GET user:6").unwrap();
    assert_eq!(client.run("EXEC").unwrap().items().unwrap()[0].text(), "name49");
    assert_eq!(number(&mut client, "WAITSOURCE 30"), 1001);
    // Killed with 9, and started again: the same, and then the store has it, each the newest only.
    drop(server);
    assert_eq!(shop.name_of(1).as_deref(), Some("Ada"));
    let server = shop.serve(&[], &[]);
    let mut client = server.client();
    assert_eq!(get(&mut client, "user:7").as_deref(), Some("name49"));
    until("all is sent", || behind(&mut client, "pending") == 0);
    for id in (1..=20).filter(|id| *id != 2) {
        assert_eq!(shop.name_of(id).as_deref(), Some("name49"), "user {id}");
    }
    assert_eq!((shop.name_of(2), shop.history(7)), (None, vec![Some("name49".to_owned())]));
    assert_eq!(behind(&mut client, "sent"), 20);
}

#[test]
fn a_load_that_began_before_a_write_leaves_no_old_value() {
    let shop = Shop::new();
    let server = shop.serve(&["poll", "10ms"], &["invalidate", "users.id", "ttl", "1h"]);
    let mut client = server.client();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut reader = server.client();
                while !stop.load(Relaxed) {
                    get(&mut reader, "user:1");
                    reader.run("CACHE REFRESH user:1").unwrap();
                }
            });
        }
        // Also when an assertion fails.
        let _end = Stop(&stop);
        for n in 0..1000 {
            ok(&mut client, &format!("SET user:1 name{n}"));
            let seen = get(&mut client, "user:1");
            assert_eq!(seen, Some(format!("name{n}")));
            if n % 10 == 0 {
                client.run("PEXPIRE user:1 1").unwrap();
            }
        }
    });
    assert_eq!(number(&mut client, "WAITSOURCE 0"), 0);
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("name999"));
    assert_eq!(shop.name_of(1).as_deref(), Some("name999"));
}

#[test]
fn what_the_store_refuses_is_a_dead_letter_and_the_others_go_on() {
    let shop = Shop::new();
    let server = shop.serve(&[], &[]);
    let mut client = server.client();
    let mut listener = server.client();
    let mut last = "0".to_owned();
    ok(&mut client, "CACHE SOURCE PAUSE shop");
    for id in 1..=30 {
        ok(&mut client, &format!("SET user:{id} {}", if id % 10 == 3 { "bad" } else { "good" }));
    }
    assert_eq!(get(&mut client, "user:3").as_deref(), Some("bad"));
    listener.send(&["XREAD", "BLOCK", "0", "STREAMS", "larder:dead-letters:shop", &last]).unwrap();
    ok(&mut client, "CACHE SOURCE RESUME shop");
    assert_eq!(number(&mut client, "WAITSOURCE 0"), 0);
    // It is an ordinary stream: who waits for it hears of it.
    assert!(listener.read().unwrap().items().is_some());
    until("three are shown", || number(&mut client, "XLEN larder:dead-letters:shop") == 3);
    let letters = client.run("XRANGE larder:dead-letters:shop - +").unwrap();
    for (letter, id) in letters.items().unwrap().iter().zip([3, 13, 23]) {
        let entry = letter.items().unwrap();
        let fields: Vec<String> = entry[1].items().unwrap().iter().map(Value::text).collect();
        let key = format!("user:{id}");
        assert_eq!(fields[..6], ["key", &key, "db", "0", "kind", "set"]);
        assert_eq!(fields[6..10], ["statement", SET, "value", "bad"]);
        assert!(fields[10] == "error" && fields[11].contains("CHECK constraint failed"), "{fields:?}");
        last = entry[0].text();
    }
    // The key is what the store has again.
    until("the copy is dropped", || get(&mut client, "user:3").as_deref() == Some("Ann"));
    assert_eq!((shop.name_of(4).as_deref(), get(&mut client, "user:13")), (Some("good"), None));
    assert_eq!(behind(&mut client, "dead_letters"), 3);
    // They are there after a kill, once each, and go when somebody says so.
    drop(server);
    let server = shop.serve(&[], &[]);
    let mut client = server.client();
    assert_eq!(number(&mut client, "XLEN larder:dead-letters:shop"), 3);
    let newest = client.run("XREVRANGE larder:dead-letters:shop + - COUNT 1").unwrap();
    assert_eq!(newest.items().unwrap()[0].items().unwrap()[0].text(), last);
    assert_eq!(number(&mut client, "CACHE SOURCE DEADLETTERS shop"), 3);
    let error = client.run("CACHE SOURCE DEL shop").unwrap().text();
    assert!(error.contains("uses source 'shop'"), "{error}");
    ok(&mut client, "CACHE ROUTE DEL user:<id:int>");
    let error = client.run("CACHE SOURCE DEL shop").unwrap().text();
    assert!(error.contains("0 queued writes and 3 dead letters"), "{error}");
    assert_eq!(number(&mut client, "CACHE SOURCE DEADLETTERS shop CLEAR"), 3);
    until("the stream is gone", || number(&mut client, "EXISTS larder:dead-letters:shop") == 0);
    ok(&mut client, "CACHE SOURCE DEL shop");
    assert!(!shop.folder().join("write-behind/shop").exists());
}

#[test]
fn waitsource_ends_with_the_store_the_time_the_client_or_by_unblock() {
    let shop = Shop::new();
    let server = shop.serve(&[], &[]);
    let (mut client, mut other) = (server.client(), server.client());
    for (line, text) in [
        ("WAITSOURCE", "ERR wrong number of arguments for 'waitsource' command"),
        ("WAITSOURCE x", "ERR timeout is not an integer or out of range"),
        ("WAITSOURCE -1", "ERR timeout is negative"),
    ] {
        assert_eq!(client.run(line).unwrap().text(), text);
    }
    assert_eq!(number(&mut client, "WAITSOURCE 0"), 0);
    ok(&mut other, "CACHE SOURCE PAUSE shop");
    ok(&mut client, "SET user:1 a");
    ok(&mut client, "SET user:1 b");
    client.run("DEL user:2 user:3").unwrap();
    assert_eq!(number(&mut client, "WAITSOURCE 20"), 4);
    assert_eq!(number(&mut other, "WAITSOURCE 0"), 0);
    // Inside MULTI nobody waits.
    ok(&mut client, "MULTI");
    client.run("WAITSOURCE 0").unwrap();
    assert_eq!(client.run("EXEC").unwrap().items().unwrap()[0].integer(), Some(4));
    let id = number(&mut client, "CLIENT ID");
    for (word, answer) in [("TIMEOUT", ":4"), ("ERROR", "UNBLOCKED client unblocked via CLIENT UNBLOCK")] {
        client.send(&["WAITSOURCE", "0"]).unwrap();
        until("it waits", || number(&mut other, &format!("CLIENT UNBLOCK {id} {word}")) == 1);
        let reply = client.read().unwrap();
        let text = reply.integer().map_or_else(|| reply.text(), |number| format!(":{number}"));
        assert_eq!(text, answer);
    }
    // One that is gone is not waited for, and its writes go on.
    let mut gone = server.client();
    ok(&mut gone, "SET user:9 z");
    gone.send(&["WAITSOURCE", "0"]).unwrap();
    until("it waits", || figure(&mut other, "blocked_clients") == 1);
    drop(gone);
    until("it is gone", || figure(&mut other, "blocked_clients") == 0);
    client.send(&["WAITSOURCE", "0"]).unwrap();
    until("it waits", || figure(&mut other, "blocked_clients") == 1);
    ok(&mut other, "CACHE SOURCE RESUME shop");
    assert_eq!(client.read().unwrap().integer(), Some(0));
    assert_eq!((shop.name_of(1).as_deref(), shop.name_of(2)), (Some("b"), None));
    until("its write, too", || shop.name_of(9).as_deref() == Some("z"));
}

#[test]
fn a_full_queue_refuses_and_a_route_with_writes_stays() {
    let shop = Shop::new();
    let server = shop.serve(&["behind-max-bytes", "2kb", "behind-fsync", "always"], &[]);
    let mut client = server.client();
    ok(&mut client, "CACHE SOURCE PAUSE shop");
    let mut error = String::new();
    let accepted = (1..100).take_while(|id| {
        let reply = client.run(&format!("SET user:{id} {}", "x".repeat(100))).unwrap();
        error = reply.text();
        scenario::is_ok(&reply)
    });
    let accepted = accepted.count() as i64;
    assert!((10..20).contains(&accepted), "{accepted}");
    let expected = "BEHINDFAIL source 'shop': ";
    assert!(error.starts_with(expected) && error.ends_with("and behind-max-bytes is 2048"), "{error}");
    assert_eq!(get(&mut client, "user:1").map(|name| name.len()), Some(100));
    assert_eq!(behind(&mut client, "refused"), 1);
    // Nothing queued loses its way.
    let set = ["CACHE", "ROUTE", "SET", "user:<id:int>", "shop", "AS", "string", "QUERY", QUERY];
    for words in [&["CACHE", "ROUTE", "DEL", "user:<id:int>"][..], &set] {
        let reply = client.command(words).unwrap().text();
        // One that is paused does not check a route either.
        let is_told = reply.contains("writes are queued for source 'shop'") || reply.contains("it is paused");
        assert!(is_told, "{words:?}: {reply}");
    }
    ok(&mut client, "CACHE SOURCE RESUME shop");
    until("there is room again", || scenario::is_ok(&client.run("SET user:99 room").unwrap()));
    assert_eq!(number(&mut client, "WAITSOURCE 0"), 0);
    assert_eq!(shop.name_of(accepted).map(|name| name.len()), Some(100));
    ok(&mut client, "CACHE ROUTE DEL user:<id:int>");
}

#[test]
fn an_orderly_end_gives_the_store_what_it_takes_and_keeps_the_rest() {
    let shop = Shop::new();
    let mut server = shop.serve(&[], &[]);
    let mut client = server.client();
    (0..500).for_each(|n| ok(&mut client, &format!("SET user:{} n{n}", n % 100)));
    signal(&server, "TERM");
    assert_eq!(server.wait_for_end(Duration::from_secs(20)), Some(true));
    assert_eq!(shop.name_of(99).as_deref(), Some("n499"));
    drop(server);
    let mut server = shop.serve(&[], &[]);
    let mut client = server.client();
    ok(&mut client, "CACHE SOURCE PAUSE shop");
    ok(&mut client, "SET user:7 later");
    signal(&server, "TERM");
    assert_eq!(server.wait_for_end(Duration::from_secs(20)), Some(true));
    assert!(server.log().contains("1 writes stay queued"), "{}", server.log());
    drop(server);
    // Without its route it waits, and says so.
    let folder = shop.folder();
    let url = format!("sqlite:{}", shop.path.display());
    let server = larder(1, &["--dir", folder.to_str().unwrap(), "--source", "shop", &url]);
    let mut client = server.client();
    until("it is held", || behind(&mut client, "held") == 1);
    let route = ["CACHE", "ROUTE", "SET", "user:<id:int>", "shop", "AS", "string", "QUERY", QUERY];
    let route = [&route[..], &["writes", "behind", "set", SET]].concat();
    assert!(scenario::is_ok(&client.command(&route).unwrap()));
    until("it is sent", || shop.name_of(7).as_deref() == Some("later"));
    ok(&mut client, "SET user:8 more");
    drop(server);
    // Damage is told, and nothing is served over it.
    let log = std::fs::read_dir(folder.join("write-behind/shop")).unwrap().map(|entry| entry.unwrap().path());
    let log = log.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[20] ^= 1;
    bytes.extend_from_slice(&bytes.clone());
    std::fs::write(&log, bytes).unwrap();
    let binary = std::env::var_os("LARDER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_larder").into());
    let error =
        Server::start(Path::new(&binary), &["--dir", folder.to_str().unwrap(), "--source", "shop", &url])
            .err()
            .unwrap();
    assert!(
        error.contains("is damaged at byte") && error.contains(log.file_name().unwrap().to_str().unwrap()),
        "{error}"
    );
}

/// Writers set keys of their own to ever greater numbers, and a server is killed with 9 again and again. Of each key the store
/// ends with the last number that was acknowledged, or one that was sent after it; and it never went back.
fn killed_at_random(start: &dyn Fn() -> Server, name_of: &dyn Fn(i64) -> Option<String>) {
    const WRITERS: i64 = 4;
    const KEYS: i64 = 5;
    let acknowledged: Vec<Mutex<(i64, i64)>> = (0..WRITERS * KEYS).map(|_| Mutex::new((0, 0))).collect();
    let mut round = 0;
    let begun = Instant::now();
    while round < 6 || begun.elapsed() < Duration::from_secs(6) {
        round += 1;
        let server = start();
        let address = server.address();
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (acknowledged, address) = (&acknowledged, &address);
                scope.spawn(move || {
                    let Ok(mut client) = Client::connect(address) else { return };
                    for n in 0.. {
                        let id = writer * KEYS + n % KEYS;
                        let mut last = acknowledged[id as usize].lock().unwrap();
                        last.1 += 1;
                        let number = last.1.to_string();
                        match client.command(&["SET", &format!("user:{}", 100 + id), &number]) {
                            Ok(reply) if scenario::is_ok(&reply) => last.0 = last.1,
                            Ok(reply) => panic!("{reply:?}"),
                            // It was killed.
                            Err(_) => return,
                        }
                        // What was acknowledged is read.
                        if n % 7 == 0
                            && let Ok(reply) = client.command(&["GET", &format!("user:{}", 100 + id)])
                        {
                            assert_eq!(reply.text(), number);
                        }
                    }
                });
            }
            thread::sleep(Duration::from_millis(50 + round * 37 % 200));
            signal(&server, "KILL");
        });
    }
    let server = start();
    let mut client = server.client();
    until("all is sent", || behind(&mut client, "pending") == 0);
    let mut all = 0;
    for (id, last) in acknowledged.iter().enumerate() {
        let (told, tried) = *last.lock().unwrap();
        let found: i64 = name_of(100 + id as i64).map_or(0, |name| name.parse().unwrap());
        assert!((told..=tried).contains(&found), "user {}: {found}, and {told} was told", 100 + id);
        assert_eq!(get(&mut client, &format!("user:{}", 100 + id)), Some(found.to_string()));
        all += told;
    }
    eprintln!("{round} kills, {all} writes acknowledged");
    assert!(all > 1000);
}

#[test]
fn nothing_is_lost_over_random_kills_with_sqlite() {
    let shop = Shop::new();
    killed_at_random(&|| shop.serve(&[], &[]), &|id| shop.name_of(id));
    for id in 100..120 {
        let numbers: Vec<i64> = shop.history(id).iter().flatten().map(|name| name.parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "user {id} went back: {numbers:?}");
    }
}

#[test]
fn nothing_is_lost_over_random_kills_with_postgres() {
    let Some(mut store) = stores::postgres() else { return };
    store.sql("CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL CHECK (name <> 'bad'))");
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let (url, password) = (store.url(), password.to_str().unwrap().to_owned());
    let start = || {
        let source = ["password-file", &password, "behind-batch", "7", "behind-fsync", "no"];
        serve(folder.path(), &url, &source, &["invalidate", "users.id"])
    };
    killed_at_random(&start, &|id| {
        let name = store.sql(&format!("SELECT name FROM users WHERE id = {id}"));
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    });
    // The store itself goes and comes back.
    let server = start();
    let mut client = server.client();
    store.kill();
    for id in 1..=50 {
        ok(&mut client, &format!("SET user:{id} {}", if id == 25 { "bad" } else { "down" }));
    }
    assert_eq!(get(&mut client, "user:50").as_deref(), Some("down"));
    assert!(number(&mut client, "WAITSOURCE 50") == 50);
    store.run().unwrap();
    assert_eq!(number(&mut client, "WAITSOURCE 0"), 0);
    assert_eq!(store.sql("SELECT count(*) FROM users WHERE name = 'down'").trim(), "49");
    until("the bad one is shown", || number(&mut client, "XLEN larder:dead-letters:shop") == 1);
}

/// A server is killed while the store is busy with its batch, which takes so long that a newer write of the next server would be
/// there first.
fn killed_while_the_store_is_busy(store: &Store, set: &str, sleepers: &str) {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let (url, source) = (store.url(), ["password-file", password.to_str().unwrap()]);
    let start = || serve_by(set, folder.path(), &url, &source, &[]);
    let is_busy = || store.sql(sleepers).trim() == "1";
    let server = start();
    ok(&mut server.client(), "SET user:1 old");
    until("the store is busy", is_busy);
    signal(&server, "KILL");
    drop(server);
    let server = start();
    let mut client = server.client();
    ok(&mut client, "SET user:1 new");
    assert_eq!(number(&mut client, "WAITSOURCE 0"), 0);
    // Otherwise the older one would come now.
    let begun = Instant::now();
    while is_busy() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(store.sql("SELECT name FROM users WHERE id = 1").trim(), "new");
}

#[test]
fn what_a_killed_server_sent_to_postgres_does_not_come_behind_what_the_next_one_sends() {
    let Some(store) = stores::postgres() else { return };
    store.sql(
        "CREATE TABLE users (id int PRIMARY KEY, name text); CREATE SEQUENCE writes;
         CREATE FUNCTION delay() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN IF nextval('writes') = 1 THEN PERFORM pg_sleep(30); END IF; RETURN NEW; END $$;
         CREATE TRIGGER delay BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION delay()",
    );
    let sleepers = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    killed_while_the_store_is_busy(&store, SET, sleepers);
}

#[test]
fn what_a_killed_server_sent_to_mariadb_does_not_come_behind_what_the_next_one_sends() {
    let Some(store) = stores::mariadb() else { return };
    store.sql(
        "CREATE TABLE users (id int PRIMARY KEY, name text); CREATE SEQUENCE writes;
         CREATE TRIGGER delay BEFORE INSERT ON users FOR EACH ROW SET @slept = IF(NEXT VALUE FOR writes = 1, sleep(30), 0)",
    );
    let sleepers = "SELECT count(*) FROM information_schema.processlist WHERE state = 'User sleep'";
    let set = "INSERT INTO users(id, name) VALUES ($id, $value) ON DUPLICATE KEY UPDATE name = $value";
    killed_while_the_store_is_busy(&store, set, sleepers);
}
