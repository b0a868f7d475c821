//! Copies against their stores, while others write, feeds are cut, stores restart and servers are killed.
//!
//! Each key holds a version that its only writer counts up. What must hold: a reader sees no version that was replaced longer ago than
//! copies may be old, and once the writers have stopped and all changes are told, every copy is as the store.
//! `LARDER_CONSISTENCY_READS` is how many reads each reader makes, 40,000 unless told.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::server::available;
use larder_testkit::session::Session;
use larder_testkit::stores::{self, Store};
use larder_testkit::{Client, Redis82, Server};
use scenario::{larder, over_store, signal, until};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const KEYS: usize = 200;
const WRITERS: usize = 2;
const READERS: usize = 3;
/// Between two writes of a writer, so that copies are found, too.
const PAUSE: Duration = Duration::from_micros(300);
/// How old a copy may be: a cut feed is noticed and copies are passed by within far less, unless the machine is busy. What the
/// store needs for a new session and a statement comes on top of it: a store that is held up tells of changes late, too.
const STALE_MAX: Duration = Duration::from_secs(3);
/// Between two looks at how long the store needs.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// What somebody does to a store.
trait Writes: Send {
    /// Stores this version of a key; false where it is not known to be done.
    fn write(&mut self, key: usize, version: u64) -> bool;
}

/// When each version of each key was in the store for certain, in milliseconds since the start.
struct History {
    start: Instant,
    /// By key: version and time.
    done: Vec<Mutex<Vec<(u64, Instant)>>>,
    /// Everything that was to be disturbed has been.
    is_disturbed: AtomicBool,
    /// Writers are to stop.
    is_over: AtomicBool,
    went_back: AtomicU64,
    refused: AtomicUsize,
    held_up: Mutex<HeldUp>,
}

/// How long the store has needed to serve somebody who came anew.
#[derive(Default)]
struct HeldUp {
    longest: Duration,
    /// Who is served at this time came then.
    since: Option<Instant>,
}

impl History {
    fn new() -> History {
        let done = (0..KEYS).map(|_| Mutex::new(Vec::new())).collect();
        History {
            start: Instant::now(),
            done,
            is_disturbed: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            went_back: AtomicU64::new(0),
            refused: AtomicUsize::new(0),
            held_up: Mutex::default(),
        }
    }

    /// Looks again and again how long the store needs, until all is over.
    fn probe<W: Writes>(&self, begin: &impl Fn() -> W) {
        while !self.is_over.load(Relaxed) {
            self.held_up.lock().unwrap().since = Some(Instant::now());
            // A key that nobody reads.
            begin().write(KEYS, 1);
            let mut held_up = self.held_up.lock().unwrap();
            held_up.longest = held_up.needs();
            held_up.since = None;
            drop(held_up);
            thread::sleep(PROBE_EVERY);
        }
    }

    fn wrote(&self, key: usize, version: u64) {
        self.done[key].lock().unwrap().push((version, Instant::now()));
    }

    /// Checks what a reader got that asked at `asked`.
    fn read(&self, key: usize, version: u64, asked: Instant) {
        let done = self.done[key].lock().unwrap();
        let Some((newer, at)) = done.iter().find(|(newer, at)| *newer > version && *at + STALE_MAX < asked)
        else {
            return;
        };
        let needs = self.held_up.lock().unwrap().needs();
        assert!(
            *at + STALE_MAX + needs >= asked,
            "key {key}: version {version} was read {:?} after {newer} was stored, {:?} after the start; the store needed {needs:?}",
            asked.duration_since(*at),
            asked.duration_since(self.start)
        );
    }
}

impl HeldUp {
    fn needs(&self) -> Duration {
        self.longest.max(self.since.map_or(Duration::ZERO, |since| since.elapsed()))
    }
}

fn reads() -> usize {
    std::env::var("LARDER_CONSISTENCY_READS").ok().and_then(|text| text.parse().ok()).unwrap_or(40_000)
}

fn key(number: usize) -> String {
    format!("user:{number}")
}

fn version_in(value: &str) -> u64 {
    value.strip_prefix('v').and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{value}"))
}

/// Lets writers and readers at it, and `disturb` in between; readers go on reading whatever it does to the server.
fn contend<W: Writes>(
    server: &Mutex<Server>,
    writer: impl Fn() -> W + Sync,
    disturb: impl FnOnce() + Send,
) -> History {
    let history = History::new();
    thread::scope(|scope| {
        for number in 0..WRITERS {
            let (history, writer) = (&history, &writer);
            scope.spawn(move || write(history, number, writer));
        }
        scope.spawn(|| history.probe(&writer));
        let readers: Vec<_> = (0..READERS)
            .map(|seed| {
                let history = &history;
                scope.spawn(move || read(history, server, seed as u64))
            })
            .collect();
        scope.spawn(|| {
            disturb();
            history.is_disturbed.store(true, Relaxed);
        });
        let ended: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        // Also when one of them found something wrong.
        history.is_over.store(true, Relaxed);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    let (back, refused) = (history.went_back.load(Relaxed), history.refused.load(Relaxed));
    let writes: usize = history.done.iter().map(|done| done.lock().unwrap().len()).sum();
    let needed = history.held_up.lock().unwrap().longest;
    eprintln!(
        "{}+ reads, {writes} writes, {back} went back, {refused} refused, the store needed {needed:?}",
        reads() * READERS
    );
    history
}

fn write<W: Writes>(history: &History, number: usize, begin: &impl Fn() -> W) {
    let mut writer = begin();
    let mut versions = vec![0_u64; KEYS];
    let mut random = 7 + number as u64;
    while !history.is_over.load(Relaxed) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Each key has one writer.
        let key = (random >> 33) as usize % (KEYS / WRITERS) * WRITERS + number;
        versions[key] += 1;
        // A version that may have been stored or not is not used again.
        while !writer.write(key, versions[key]) {
            if history.is_over.load(Relaxed) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
            writer = begin();
            versions[key] += 1;
        }
        history.wrote(key, versions[key]);
        thread::sleep(PAUSE);
    }
}

fn read(history: &History, server: &Mutex<Server>, seed: u64) {
    let connect = || loop {
        let address = server.lock().unwrap().address();
        match Client::connect(&address) {
            Ok(client) => return client,
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut client = connect();
    let mut seen = vec![0_u64; KEYS];
    let mut random = 1000 + seed;
    let (mut count, mut last) = (0, usize::MAX);
    while count < last {
        count += 1;
        if last == usize::MAX && count >= reads() && history.is_disturbed.load(Relaxed) {
            // The last reads leave copies that nobody writes any more.
            history.is_over.store(true, Relaxed);
            last = count + reads() / 10;
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let key_number = (random >> 33) as usize % KEYS;
        let asked = Instant::now();
        let Ok(answer) = client.command(&["GET", &key(key_number)]) else {
            client = connect();
            continue;
        };
        let text = answer.text();
        if text.starts_with("SOURCEDOWN") || text.starts_with("LOAD") {
            history.refused.fetch_add(1, Relaxed);
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let version = version_in(&text);
        history.read(key_number, version, asked);
        if version < seen[key_number] {
            history.went_back.fetch_add(1, Relaxed);
        }
        seen[key_number] = seen[key_number].max(version);
    }
}

/// Once all is told, what is kept is what the store has: nothing is fetched to find out.
fn all_are_as(server: &Server, stored: &dyn Fn(usize) -> String) {
    let mut client = server.client();
    client.run("CLIENT LOAD OFF").unwrap();
    let mut kept = 0;
    thread::sleep(Duration::from_millis(300));
    for number in 0..KEYS {
        until("copies are as the store", || match client.command(&["GET", &key(number)]).unwrap().bytes() {
            None => true,
            Some(copy) => copy == stored(number).as_bytes(),
        });
        kept += usize::from(client.command(&["EXISTS", &key(number)]).unwrap().integer() == Some(1));
    }
    eprintln!("{kept} copies are as the store");
    assert!(kept > KEYS / 2, "copies were kept: {kept}");
    // And those who ask see it.
    let mut client = server.client();
    for number in 0..KEYS {
        until("everybody sees what is stored", || {
            client.command(&["GET", &key(number)]).unwrap().text() == stored(number)
        });
    }
}

struct Sql(Session);

impl Writes for Sql {
    fn write(&mut self, key: usize, version: u64) -> bool {
        self.0.run(&format!("UPDATE users SET name = 'v{version}' WHERE id = {key}")).is_some()
    }
}

const ROUTE: &[&str] = &["--route", "user:<id:int>", "shop", "as", "string", "query"];

fn route(options: &[&'static str]) -> Vec<&'static str> {
    [ROUTE, &["SELECT name FROM users WHERE id = $id", "ttl", "1h", "invalidate", "users.id"], options]
        .concat()
}

/// A server over a store that is a server of its own, whose address stays when it is started again.
fn over(store: &Store, options: &[&'static str]) -> (Mutex<Server>, tempfile::TempDir) {
    let (server, folder) = over_store(&store.url(), &["breaker", "1000000"], &route(options));
    (Mutex::new(server), folder)
}

fn fill(store: &Store) {
    store.sql("CREATE TABLE users (id int PRIMARY KEY, name varchar(100) NOT NULL)");
    let rows: Vec<String> = (0..KEYS).map(|key| format!("({key}, 'v0')")).collect();
    store.sql(&format!("INSERT INTO users VALUES {}", rows.join(", ")));
}

fn is_following(server: &Mutex<Server>) -> bool {
    let Ok(answer) = server.lock().unwrap().client().run("CACHE SOURCE INFO shop") else { return false };
    answer.pairs().iter().any(|(name, value)| name.text() == "feed" && value.text() == "following")
}

fn stored_in(store: &Store) -> impl Fn(usize) -> String {
    let rows = store.sql("SELECT name FROM users ORDER BY id");
    let rows: Vec<String> = rows.lines().map(|line| line.trim().to_owned()).collect();
    move |key| rows[key].clone()
}

/// The feed is cut some times, and then the store is killed and started again.
fn agree_whatever_is_cut(store: Store, cut: impl Fn(&Store) + Sync) {
    fill(&store);
    let (server, _folder) = over(&store, &["feed-down", "bypass"]);
    until("the feed is there", || is_following(&server));
    let store = Mutex::new(store);
    contend(
        &server,
        || Sql(store.lock().unwrap().session()),
        || {
            for _ in 0..3 {
                thread::sleep(Duration::from_millis(300));
                cut(&store.lock().unwrap());
            }
            let mut store = store.lock().unwrap();
            store.kill();
            thread::sleep(Duration::from_millis(300));
            store.run().unwrap();
        },
    );
    let store = store.into_inner().unwrap();
    all_are_as(&server.lock().unwrap(), &stored_in(&store));
}

/// The server is killed and started again, twice.
fn agree_when_the_server_is_killed(store: &Store) {
    fill(store);
    let (server, _folder) = over(store, &[]);
    until("the feed is there", || is_following(&server));
    contend(
        &server,
        || Sql(store.session()),
        || {
            for _ in 0..2 {
                thread::sleep(Duration::from_millis(400));
                let mut running = server.lock().unwrap();
                signal(&running, "KILL");
                running.wait_for_end(STALE_MAX);
                let (again, folder) = over(store, &[]);
                *running = again.into_inner().unwrap();
                // The password is read once, at the start.
                drop(folder);
            }
        },
    );
    all_are_as(&server.lock().unwrap(), &stored_in(store));
}

#[test]
fn postgres_and_its_copies_agree_whatever_is_cut() {
    let Some(store) = stores::postgres() else { return };
    agree_whatever_is_cut(store, |store| {
        store.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
    });
}

#[test]
fn postgres_and_its_copies_agree_when_the_server_is_killed() {
    let Some(store) = stores::postgres() else { return };
    agree_when_the_server_is_killed(&store);
}

/// Ends the connections over which the binlog is sent.
fn cut_binlog(store: &Store) {
    let replicas = "SELECT id FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'";
    for id in store.sql(replicas).split_whitespace() {
        // It may have ended by itself.
        store.sql(&format!(
            "DELIMITER //\nBEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR 1094 DO 0; KILL {id}; END//"
        ));
    }
}

#[test]
fn mariadb_and_its_copies_agree_whatever_is_cut() {
    let Some(store) = stores::mariadb() else { return };
    agree_whatever_is_cut(store, |store| {
        cut_binlog(store);
        // The next one goes on in another file.
        store.sql("FLUSH BINARY LOGS");
    });
}

#[test]
fn mariadb_and_its_copies_agree_when_the_server_is_killed() {
    let Some(store) = stores::mariadb() else { return };
    agree_when_the_server_is_killed(&store);
}

/// A file that many write.
struct File(rusqlite::Connection);

impl Writes for File {
    fn write(&mut self, key: usize, version: u64) -> bool {
        let sql = format!("UPDATE users SET name = 'v{version}' WHERE id = {key}");
        self.0.execute_batch(&sql).is_ok()
    }
}

#[test]
fn sqlite_and_its_copies_agree() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let open = || {
        let store = rusqlite::Connection::open(&path).unwrap();
        store.busy_timeout(Duration::from_secs(10)).unwrap();
        store
    };
    let store = open();
    let rows: Vec<String> = (0..KEYS).map(|key| format!("({key}, 'v0')")).collect();
    store
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
             INSERT INTO users VALUES {}",
            rows.join(", ")
        ))
        .unwrap();
    let url = format!("sqlite:{}", path.display());
    let server = Mutex::new(larder(2, &[&["--source", "shop", &url], &route(&[])[..]].concat()));
    until("the feed is there", || is_following(&server));
    contend(
        &server,
        || File(open()),
        || {
            thread::sleep(Duration::from_millis(300));
            // What tells of changes is taken away by somebody.
            let triggers = "SELECT group_concat('DROP TRIGGER [' || name || ']', ';') FROM sqlite_schema WHERE type = 'trigger'";
            let drop: String = open().query_row(triggers, [], |row| row.get(0)).unwrap();
            open().execute_batch(&drop).unwrap();
        },
    );
    let stored = |key: usize| -> String {
        store.query_row("SELECT name FROM users WHERE id = ?1", [key as i64], |row| row.get(0)).unwrap()
    };
    all_are_as(&server.lock().unwrap(), &stored);
}

struct Keys(Client);

impl Writes for Keys {
    fn write(&mut self, number: usize, version: u64) -> bool {
        self.0.command(&["SET", &key(number), &format!("v{version}")]).is_ok()
    }
}

#[test]
fn redis_and_its_copies_agree_whatever_is_cut() {
    // Ours tells nobody of changes yet.
    let Some(origin) = available(Redis82::start()) else { return };
    let mut filling = origin.client();
    for number in 0..KEYS {
        filling.command(&["SET", &key(number), "v0"]).unwrap();
    }
    let url = format!("redis://{}/0", origin.address());
    let route = ["--route", "user:<id:int>", "shop", "as", "string", "query", "GET user:$id", "ttl", "1h"];
    let feed = ["invalidate", "user:.key", "feed-down", "bypass"];
    let server = Mutex::new(larder(2, &[&["--source", "shop", &url], &route[..], &feed].concat()));
    until("the feed is there", || is_following(&server));
    contend(
        &server,
        || Keys(origin.client()),
        || {
            for _ in 0..4 {
                thread::sleep(Duration::from_millis(200));
                origin.client().run("CLIENT KILL TYPE normal SKIPME yes").unwrap();
            }
        },
    );
    let stored = |number: usize| origin.client().command(&["GET", &key(number)]).unwrap().text();
    all_are_as(&server.lock().unwrap(), &stored);
}

/// Users of an HTTP origin, each with a version that is fresh for a second; and now and then nothing.
struct Origin {
    versions: Vec<AtomicU64>,
    is_down: AtomicBool,
}

impl Origin {
    fn answer(&self, path: &str, known: Option<&str>) -> Option<String> {
        if self.is_down.load(Relaxed) {
            return None;
        }
        let id: usize = path.rsplit('/').next()?.parse().ok()?;
        let body = format!("v{}", self.versions[id].load(Relaxed));
        let tag = format!("\"{body}\"");
        let head = format!("ETag: {tag}\r\nCache-Control: max-age=1\r\n");
        Some(if known == Some(tag.as_str()) {
            format!("HTTP/1.1 304 Not Modified\r\n{head}\r\n")
        } else {
            format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len())
        })
    }
}

impl Writes for Arc<Origin> {
    fn write(&mut self, key: usize, version: u64) -> bool {
        self.versions[key].store(version, Relaxed);
        true
    }
}

#[test]
fn copies_of_an_http_origin_are_no_older_than_it_says() {
    let versions = (0..=KEYS).map(|_| AtomicU64::new(0)).collect();
    let origin = Arc::new(Origin { versions, is_down: AtomicBool::new(false) });
    let answering = Arc::clone(&origin);
    let url = scenario::origin(move |path, known| answering.answer(path, known));
    let route = ["--route", "user:<id:int>", "shop", "as", "string", "query", "GET /users/$id", "ttl", "1h"];
    let source = ["--source", "shop", &url, "breaker", "1000000"];
    let server = Mutex::new(larder(2, &[&source, &route[..]].concat()));
    contend(
        &server,
        || Arc::clone(&origin),
        || {
            for _ in 0..4 {
                thread::sleep(Duration::from_millis(400));
                origin.is_down.store(true, Relaxed);
                thread::sleep(Duration::from_millis(200));
                origin.is_down.store(false, Relaxed);
            }
        },
    );
    let mut client = server.lock().unwrap().client();
    for number in 0..KEYS {
        let stored = format!("v{}", origin.versions[number].load(Relaxed));
        until("everybody sees what is there", || {
            client.command(&["GET", &key(number)]).unwrap().text() == stored
        });
    }
}
