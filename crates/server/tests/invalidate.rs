//! CACHE INVALIDATE: what was there is not seen again, what is written later stays, whoever looks and however far the sweep is.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::{Client, Value};
use rusqlite::Connection;
use scenario::{figure, larder, ok, until};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::scope;
use std::time::{Duration, Instant};

fn run(client: &mut Client, line: &str) -> String {
    client.run(line).unwrap().text()
}

/// Sends lines all at once, so that they are carried out in one turn, with no sweep between them.
fn at_once(client: &mut Client, lines: &[&str]) -> Vec<Value> {
    let commands: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
    client.pipeline(&commands).unwrap()
}

fn nil() -> String {
    Value::NilBulk.text()
}

fn is_swept(client: &mut Client) {
    until("the invalidations are carried out", || figure(client, "cache_invalidation_rules") == 0);
}

#[test]
fn an_invalidation_of_a_million_keys_looks_at_none() {
    let server = larder(1, &[]);
    let mut client = server.client();
    client.set_reply_timeout(Duration::from_secs(60)).unwrap();
    ok(&mut client, "DEBUG POPULATE 1000000 page");
    ok(&mut client, "SET other 1");
    let looks = figure(&mut client, "cache_invalidated_looked_at");
    let replies = at_once(
        &mut client,
        &[
            "CACHE INVALIDATE PREFIX page:",
            "GET page:17",
            "EXISTS page:18 page:999999 other",
            "MGET page:19 other",
            "STRLEN page:20",
            "INFO cache",
            "SET page:17 new",
            "GET page:17",
            "DBSIZE",
        ],
    );
    let texts: Vec<String> = replies.iter().map(Value::text).collect();
    assert_eq!(
        (texts[0].as_str(), &texts[1], texts[6].as_str(), texts[7].as_str()),
        ("OK", &nil(), "OK", "new")
    );
    assert_eq!((replies[2].integer(), replies[4].integer()), (Some(1), Some(0)));
    assert_eq!(replies[3].items().unwrap()[0], Value::NilBulk);
    let line = texts[5].lines().find(|line| line.starts_with("cache_invalidated_looked_at:")).unwrap();
    assert_eq!(line, format!("cache_invalidated_looked_at:{looks}"));
    assert!(replies[8].integer().unwrap() > 900_000, "{:?}", replies[8]);
    is_swept(&mut client);
    assert_eq!(run(&mut client, "DBSIZE"), Value::Integer(2).text());
    assert_eq!(run(&mut client, "GET page:17"), "new");
}

#[test]
fn whatever_looks_sees_nothing_of_what_was_invalidated() {
    // Debug builds check with one thread that every look is settled.
    for threads in [1, 2] {
        let server = larder(threads, &[]);
        let mut client = server.client();
        let fill = |client: &mut Client| {
            ok(client, "FLUSHALL");
            ok(client, "DEBUG POPULATE 50000 old");
            for line in [
                "RPUSH old:list a b",
                "SADD old:set a",
                "HSET old:hash a 1",
                "ZADD old:zset 1 a",
                "SET weight_1 5",
            ] {
                assert!(!client.run(line).unwrap().is_error());
            }
            run(client, "RPUSH keep 1 2 3");
        };
        let looks: &[(&str, &str)] = &[
            ("KEYS old*", "[]"),
            // It looks at some keys, and may meet none that is there.
            ("RANDOMKEY", "weight_1|keep|nil"),
            ("SCAN 0 COUNT 100000 MATCH old*", "['0', []]"),
            ("TYPE old:list", "none"),
            ("TTL old:1", "-2"),
            ("OBJECT ENCODING old:1", "nil"),
            ("DEBUG OBJECT old:1", "ERR"),
            ("DUMP old:1", "nil"),
            ("RENAME old:2 x", "ERR"),
            ("COPY old:3 x", "0"),
            ("COPY old:3 x DB 1", "0"),
            ("MOVE old:4 1", "0"),
            ("SMEMBERS old:set", "[]"),
            ("SUNIONSTORE old:sum old:set", "0"),
            ("HGETALL old:hash", "[]"),
            ("ZRANGE old:zset 0 -1", "[]"),
            ("LPOP old:list", "nil"),
            ("APPEND old:5 x", "1"),
            ("GET old:5", "x"),
            ("INCR old:6", "1"),
            ("SETNX old:7 new", "1"),
            ("SET old:8 new XX", "nil"),
            ("GETSET old:9 new", "nil"),
            ("EXPIRE old:10 100", "0"),
            ("GETDEL old:11", "nil"),
            ("DEL old:12", "0"),
            ("LPUSHX old:list a", "0"),
            ("SORT keep BY old:* STORE old:sorted", "3"),
            ("LRANGE old:sorted 0 -1", "['1', '2', '3']"),
            ("GETLEASE old:13", "LEASE"),
            ("MEMORY USAGE old:14", "nil"),
            ("BITOP NOT old:15 old:16", "0"),
            ("PFMERGE old:17 old:18", "OK"),
            ("XADD old:19 1-1 a b", "1-1"),
        ];
        for in_multi in [false, true] {
            fill(&mut client);
            let mut lines = vec!["CACHE INVALIDATE PREFIX old"];
            if in_multi {
                lines.push("MULTI");
            }
            lines.extend(looks.iter().map(|(line, _)| *line));
            if in_multi {
                lines.push("EXEC");
            }
            let mut replies = at_once(&mut client, &lines);
            if in_multi {
                let exec = replies.pop().unwrap();
                replies = [vec![Value::NilBulk], exec.items().unwrap().to_vec()].concat();
            }
            for ((line, expected), reply) in looks.iter().zip(&replies[1..]) {
                let shown = shown(reply);
                let is_right =
                    expected.split('|').any(|one| shown == one || (one.len() > 2 && shown.contains(one)));
                assert!(is_right, "{line}: {shown}, not {expected}; in MULTI: {in_multi}");
            }
            is_swept(&mut client);
            // What was written since is still there.
            for (line, expected) in [
                ("GET old:5", "x"),
                ("GET old:6", "1"),
                ("GET old:7", "new"),
                ("GET old:9", "new"),
                ("LLEN old:sorted", "3"),
                ("XLEN old:19", "1"),
                ("GET old:20", "nil"),
            ] {
                assert_eq!(shown(&client.run(line).unwrap()), expected, "{line}");
            }
            // 5, 6, 7, 9, 17, 19, sorted; weight_1 and keep.
            assert_eq!(client.run("DBSIZE").unwrap().integer(), Some(9));
        }
    }
}

/// A reply in short.
fn shown(reply: &Value) -> String {
    match reply {
        Value::Integer(number) => number.to_string(),
        Value::NilBulk | Value::NilArray => "nil".to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| if item.items().is_some() { shown(item) } else { format!("'{}'", shown(item)) })
                .collect();
            format!("[{}]", items.join(", "))
        }
        other => other.text(),
    }
}

#[test]
fn those_who_watch_and_those_who_wait_hear_of_it() {
    for threads in [1, 2] {
        let server = larder(threads, &["--notify-keyspace-events", "Kg"]);
        let (mut one, mut two, mut listener) = (server.client(), server.client(), server.client());
        ok(&mut one, "DEBUG POPULATE 20000 k");
        ok(&mut two, "SET watched:1 old");
        listener.run("SUBSCRIBE __keyspace@0__:watched:1").unwrap();
        ok(&mut one, "WATCH watched:1");
        ok(&mut two, "CACHE INVALIDATE PREFIX watched");
        ok(&mut one, "MULTI");
        run(&mut one, "SET k:1 changed");
        assert_eq!(one.run("EXEC").unwrap(), Value::NilArray);
        let message = listener.read().unwrap();
        assert_eq!(message.items().unwrap()[2].text(), "del");
        // A waiter that is served while the invalidation is in force pushes to a list that is not there any more.
        run(&mut one, "RPUSH to old");
        two.send(&["BLMOVE", "from", "to", "LEFT", "RIGHT", "0"]).unwrap();
        until("it waits", || figure(&mut one, "blocked_clients") == 1);
        at_once(&mut one, &["CACHE INVALIDATE PREFIX to", "RPUSH from moved"]);
        assert_eq!(two.read().unwrap().text(), "moved");
        let list = |client: &mut Client| shown(&client.run("LRANGE to 0 -1").unwrap());
        assert_eq!(list(&mut one), "['moved']");
        is_swept(&mut one);
        assert_eq!(list(&mut one), "['moved']");
    }
}

/// What the threads of the race know of one another.
#[derive(Default)]
struct Race {
    clock: AtomicU64,
    /// When the SET of each value was answered; 0 while it was not.
    answered: Vec<AtomicU64>,
    /// When the last invalidation of all keys began that was answered, and that of the first eight.
    invalidated: AtomicU64,
    few_invalidated: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
    is_over: AtomicBool,
    wrong: Mutex<Vec<String>>,
}

impl Race {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst) + 1
    }

    fn invalidate(&self, client: &mut Client, round: u64) {
        let line = match round % 4 {
            0 => "CACHE INVALIDATE PREFIX race:",
            1 => "CACHE INVALIDATE PREFIX r SOFT",
            2 => "CACHE INVALIDATE PREFIX race:",
            _ => "CACHE INVALIDATE KEYS 8 race:0 race:1 race:2 race:3 race:4 race:5 race:6 race:7",
        };
        self.begun.fetch_add(1, SeqCst);
        let began = self.tick();
        assert!(!client.run(line).unwrap().is_error());
        let of = if round % 4 == 3 { &self.few_invalidated } else { &self.invalidated };
        of.fetch_max(began, SeqCst);
        self.ended.fetch_add(1, SeqCst);
    }

    /// When the last invalidation of a key began that was answered.
    fn invalidated(&self, key: usize) -> u64 {
        let few = if key < 8 { self.few_invalidated.load(SeqCst) } else { 0 };
        few.max(self.invalidated.load(SeqCst))
    }

    /// A value is seen: it must not be one whose SET was answered before an invalidation began that was answered since.
    fn saw(&self, invalidated: u64, value: &Value, how: &str) {
        let Some(bytes) = value.bytes() else { return };
        let number: usize = String::from_utf8_lossy(bytes).parse().unwrap();
        let answered = self.answered[number].load(SeqCst);
        if answered != 0 && answered < invalidated {
            self.wrong
                .lock()
                .unwrap()
                .push(format!("{how} saw value {number}, set at {answered}, invalidated at {invalidated}"));
        }
    }

    fn write(&self, client: &mut Client, key: &str, number: usize) {
        let value = number.to_string();
        let ended = self.ended.load(SeqCst);
        let kind = number % 3;
        let reply = match kind {
            0 => client.command(&["SET", key, &value]),
            1 => client.command(&["MSET", key, &value]),
            _ => client
                .pipeline(&[vec!["MULTI"], vec!["SET", key, &value], vec!["EXEC"]])
                .map(|mut all| all.remove(2)),
        };
        assert!(!reply.unwrap().is_error());
        self.answered[number].store(self.tick(), SeqCst);
        for _ in 0..3 {
            let seen = client.command(&["GET", key]).unwrap();
            let is_quiet = self.begun.load(SeqCst) == ended;
            if is_quiet && seen.bytes() != Some(value.as_bytes()) {
                self.wrong
                    .lock()
                    .unwrap()
                    .push(format!("value {number} of {key} is lost: {seen:?}, kind {kind}"));
            }
        }
    }
}

/// Writers, readers and invalidators on all threads: no value is seen that an invalidation was answered for, none is lost
/// that was set after all invalidations begun by then were answered.
#[test]
fn no_old_value_is_seen_and_no_new_one_is_lost() {
    const VALUES: usize = 400_000;
    for threads in [1, 2] {
        let server = larder(threads, &[]);
        // With these the sweep takes its time, and the table has more than the smallest number of cells.
        ok(&mut server.client(), "DEBUG POPULATE 200000 race:bulk");
        let race = Race { answered: (0..VALUES).map(|_| AtomicU64::new(0)).collect(), ..Race::default() };
        let (next, time) = (AtomicU64::new(1), Instant::now());
        scope(|all| {
            for writer in 0..2u64 {
                let (race, next, server) = (&race, &next, &server);
                all.spawn(move || {
                    let mut client = server.client();
                    while !race.is_over.load(SeqCst) {
                        let number = next.fetch_add(1, SeqCst) as usize;
                        if number >= VALUES {
                            break;
                        }
                        // Each key has one writer.
                        race.write(&mut client, &format!("race:{}", number as u64 % 20 * 2 + writer), number);
                    }
                });
            }
            for reader in 0..3 {
                let (race, server) = (&race, &server);
                all.spawn(move || {
                    let (mut client, mut at) = (server.client(), reader);
                    while !race.is_over.load(SeqCst) {
                        at = (at * 7 + 3) % 40;
                        let both = [at, (at + 20) % 40];
                        let keys = both.map(|at| format!("race:{at}"));
                        let invalidated = race.invalidated(at);
                        let one = client.command(&["GET", &keys[0]]).unwrap();
                        race.saw(invalidated, &one, "GET");
                        let invalidated = both.map(|at| race.invalidated(at));
                        let values = client.command(&["MGET", &keys[0], &keys[1]]).unwrap();
                        for (value, invalidated) in values.items().unwrap().iter().zip(invalidated) {
                            race.saw(invalidated, value, "MGET");
                        }
                    }
                });
            }
            let mut client = server.client();
            let mut round = 0;
            while time.elapsed() < Duration::from_secs(4) {
                race.invalidate(&mut client, round);
                round += 1;
                // At times so quickly that they overlap in the sweep, at times with a pause.
                std::thread::sleep(Duration::from_micros([0, 300, 3_000, 20_000][(round / 8 % 4) as usize]));
            }
            race.is_over.store(true, SeqCst);
        });
        let wrong = race.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{} wrong, first: {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
        let rounds = race.ended.load(SeqCst);
        assert!(next.load(SeqCst) > 100 && rounds > 50, "{rounds} rounds");
        is_swept(&mut server.client());
    }
}

/// A shop in a SQLite file.
fn shop() -> (tempfile::TempDir, Connection, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    let store = Connection::open(&path).unwrap();
    store
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE users (tenant TEXT, id INTEGER, name TEXT);
             INSERT INTO users VALUES ('acme', 1, 'Ada'), ('acme', 2, 'Bea'), ('zoo', 1, 'Cid');",
        )
        .unwrap();
    store.busy_timeout(Duration::from_secs(5)).unwrap();
    (dir, store, format!("sqlite:{}", path.display()))
}

#[test]
fn tags_of_routes_are_those_of_their_keys() {
    let (_dir, store, url) = shop();
    let query = "SELECT name FROM users WHERE tenant = $tenant AND id = $id";
    let route = ["t:<tenant>:u:<id:int>", "shop", "as", "string", "query", query];
    let options = ["ttl", "1h", "tags", "tenant:<tenant> users", "stale-while-revalidate", "1h"];
    let all = ["--source", "shop", &url, "--route"].into_iter().chain(route).chain(options);
    let server = larder(2, &all.collect::<Vec<_>>());
    let mut client = server.client();
    let names = |client: &mut Client| {
        ["t:acme:u:1", "t:acme:u:2", "t:zoo:u:1"].map(|key| client.command(&["GET", key]).unwrap().text())
    };
    assert_eq!(shown(&client.run("CACHE TAGS t:acme:u:1").unwrap()), "['tenant:acme', 'users']");
    assert_eq!(names(&mut client), ["Ada", "Bea", "Cid"]);
    store.execute("UPDATE users SET name = name || '!'", []).unwrap();
    assert_eq!(names(&mut client), ["Ada", "Bea", "Cid"]);
    ok(&mut client, "CACHE INVALIDATE TAG tenant:acme");
    assert_eq!(names(&mut client), ["Ada!", "Bea!", "Cid"]);
    // Softly: an old copy is given while it is fetched anew.
    store.execute("UPDATE users SET name = name || '?'", []).unwrap();
    ok(&mut client, "CACHE INVALIDATE TAG users SOFT");
    assert_eq!(names(&mut client), ["Ada!", "Bea!", "Cid"]);
    until("they are fetched anew", || names(&mut client) == ["Ada!?", "Bea!?", "Cid!?"]);
    // A lease is for keys that nobody else loads.
    let refused = run(&mut client, "GETLEASE t:zoo:u:1");
    assert!(refused.contains("refused by its route"), "{refused}");
    store.execute("UPDATE users SET name = 'new'", []).unwrap();
    assert_eq!(client.run("CACHE INVALIDATE KEYS 2 t:acme:u:2 t:acme:u:9").unwrap().integer(), Some(1));
    assert_eq!(names(&mut client), ["Ada!?", "new", "Cid!?"]);
    assert_eq!(client.run("CACHE INVALIDATE KEYS 1 t:zoo:u:1 SOFT").unwrap().integer(), Some(1));
    until("it is fetched anew", || names(&mut client) == ["Ada!?", "new", "new"]);
}

#[test]
fn what_is_being_fetched_is_answered_and_not_kept() {
    let (_dir, store, url) = shop();
    let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000) \
                SELECT name || (SELECT max(i) FROM n) FROM users WHERE id = $id AND tenant = 'acme'";
    let route = ["u:<id:int>", "shop", "as", "string", "query", slow, "tags", "all"];
    let all = ["--source", "shop", &url, "--route"].into_iter().chain(route);
    let server = larder(2, &all.collect::<Vec<_>>());
    let (mut asker, mut other) = (server.client(), server.client());
    other.set_reply_timeout(Duration::from_secs(60)).unwrap();
    for line in ["CACHE INVALIDATE PREFIX u:", "CACHE INVALIDATE TAG all", "CACHE INVALIDATE KEYS 1 u:1"] {
        for soft in ["", " SOFT"] {
            run(&mut other, "CACHE INVALIDATE PREFIX u:");
            asker.send(&["GET", "u:1"]).unwrap();
            until("it is being fetched", || under_way(&mut other) == 1);
            store.execute("UPDATE users SET name = name || '.'", []).unwrap();
            let reply = other.run(&format!("{line}{soft}")).unwrap();
            assert!(!reply.is_error(), "{reply:?}");
            assert!(asker.read().unwrap().text().starts_with("Ada"), "{line}");
            // Nothing was kept: there is no copy, until somebody asks again.
            ok(&mut other, "CLIENT LOAD OFF");
            assert_eq!(run(&mut other, "GET u:1"), nil(), "{line}{soft}");
            ok(&mut other, "CLIENT LOAD ON");
        }
    }
}

fn under_way(client: &mut Client) -> i64 {
    let reply = client.run("CACHE SOURCE INFO shop").unwrap();
    reply.field("under_way").unwrap().integer().unwrap()
}
