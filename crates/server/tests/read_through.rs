//! Keys that come from a store: fetched once, kept, given again, and what happens when the store says no.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::{Client, Server, Value};
use rusqlite::Connection;
use scenario::{figure, larder, ok, until};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A shop in a SQLite file, and how it is named.
struct Shop {
    _dir: TempDir,
    path: PathBuf,
}

impl Shop {
    fn new() -> Shop {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.db");
        let shop = Shop { _dir: dir, path };
        shop.run(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT, age INTEGER);
             CREATE TABLE scores (game TEXT, player TEXT, points REAL);
             CREATE TABLE tags (user INTEGER, tag TEXT);
             INSERT INTO users VALUES (1, 'Ada', 'ada@example.org', 36), (2, 'Grace', NULL, 85), (3, 'Ann', 'ann@x', 7);
             INSERT INTO scores VALUES ('go', 'ann', 3.5), ('go', 'ada', 10), ('chess', 'ada', 1);
             INSERT INTO tags VALUES (1, 'admin'), (1, 'math'), (2, 'navy');",
        );
        shop
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    fn run(&self, statements: &str) {
        let store = Connection::open(&self.path).unwrap();
        store.busy_timeout(Duration::from_secs(5)).unwrap();
        store.execute_batch(statements).unwrap();
    }

    fn name_of(&self, id: i64) -> Option<String> {
        let store = Connection::open(&self.path).unwrap();
        store.query_row("SELECT name FROM users WHERE id = ?1", [id], |row| row.get(0)).ok()
    }
}

/// A server with a source `shop` and these routes, each given behind its pattern.
fn serve(threads: usize, shop: &Shop, routes: &[&[&str]]) -> Server {
    let url = shop.url();
    let mut options = vec!["--source", "shop", &url];
    for route in routes {
        options.extend(["--route", route[0], "shop"]);
        options.extend(&route[1..]);
    }
    larder(threads, &options)
}

fn get(client: &mut Client, key: &str) -> Option<String> {
    let value = client.command(&["GET", key]).unwrap();
    assert!(!matches!(value, Value::Error(_)), "{value:?}");
    value.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn texts(value: &Value) -> Vec<String> {
    value.items().unwrap().iter().map(Value::text).collect()
}

/// How a missing value is shown.
fn nil() -> String {
    Value::NilBulk.text()
}

/// A counter of the only route, as CACHE ROUTE LIST tells it.
fn counted(client: &mut Client, name: &str) -> i64 {
    let routes = client.run("CACHE ROUTE LIST").unwrap();
    let route = &routes.items().unwrap()[0];
    let pairs = route.pairs();
    let found = pairs.iter().find(|(field, _)| field.text() == name);
    found.unwrap_or_else(|| panic!("no field {name}")).1.integer().unwrap()
}

const NAME: &[&str] = &["user:<id:int>", "as", "string", "query", "SELECT name FROM users WHERE id = $id"];

fn name_with<'a>(options: &[&'a str]) -> Vec<&'a str> {
    NAME.iter().copied().chain(options.iter().copied()).collect()
}

#[test]
fn every_shape_is_fetched_and_answers_its_commands() {
    let shop = Shop::new();
    let server = serve(
        2,
        &shop,
        &[
            NAME,
            &[
                "user:<id:int>:card",
                "as",
                "hash",
                "query",
                "SELECT name, email, age FROM users WHERE id = $id",
            ],
            &[
                "user:<id:int>:doc",
                "as",
                "json",
                "query",
                "SELECT name, email, age FROM users WHERE id = $id",
            ],
            &[
                "users:<age:int>",
                "as",
                "json-rows",
                "query",
                "SELECT id, name FROM users WHERE age > $age ORDER BY id",
            ],
            &["tags:<id:int>", "as", "set", "query", "SELECT tag FROM tags WHERE user = $id"],
            &["log:<id:int>", "as", "list", "query", "SELECT tag FROM tags WHERE user = $id ORDER BY tag"],
            &["top:<game>", "as", "zset", "query", "SELECT player, points FROM scores WHERE game = $game"],
        ],
    );
    let mut client = server.client();
    let mut run = |line: &str| client.run(line).unwrap();
    assert_eq!(run("GET user:1").text(), "Ada");
    assert_eq!(run("STRLEN user:2").integer(), Some(5));
    assert_eq!(run("GETRANGE user:3 0 1").text(), "An");
    assert_eq!(texts(&run("MGET user:1 user:9 user:3")), ["Ada", nil().as_str(), "Ann"]);
    assert_eq!(run("HGET user:1:card email").text(), "ada@example.org");
    assert_eq!(texts(&run("HGETALL user:2:card")), ["name", "Grace", "age", "85"]);
    assert_eq!(run("GET user:2:doc").text(), r#"{"name":"Grace","email":null,"age":85}"#);
    assert_eq!(run("GET users:30").text(), r#"[{"id":1,"name":"Ada"},{"id":2,"name":"Grace"}]"#);
    assert_eq!(run("SISMEMBER tags:1 math").integer(), Some(1));
    assert_eq!(run("SCARD tags:2").integer(), Some(1));
    assert_eq!(texts(&run("LRANGE log:1 0 -1")), ["admin", "math"]);
    assert_eq!(texts(&run("ZRANGE top:go 0 -1 WITHSCORES")), ["ann", "3.5", "ada", "10"]);
    assert_eq!(run("ZSCORE top:chess ada").text(), "1");
    // What is kept has the forms that commands would have given it.
    assert_eq!(run("OBJECT ENCODING top:go").text(), "listpack");
    assert_eq!(run("OBJECT ENCODING user:1").text(), "embstr");
    // Other commands than those of the shape say so, and those that look from outside do not fetch.
    assert!(run("LLEN user:1:card").text().starts_with("WRONGTYPE"));
    assert_eq!(run("EXISTS tags:3 log:2").integer(), Some(0));
    assert_eq!(run("TTL user:77").integer(), Some(-2));
    // What is no number is no key of the route.
    assert!(run("GET user:me").bytes().is_none());
    assert_eq!(run("DBSIZE").integer(), Some(12));
}

#[test]
fn many_who_miss_ask_once() {
    let shop = Shop::new();
    // A query that takes some time.
    let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000) \
                SELECT name FROM users WHERE id = $id AND (SELECT max(i) FROM n) > 0";
    let server = serve(2, &shop, &[&["user:<id:int>", "as", "string", "query", slow]]);
    let mut clients: Vec<Client> = (0..200).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send(&["GET", "user:1"]).unwrap();
    }
    // Others are served meanwhile.
    let mut other = server.client();
    ok(&mut other, "SET elsewhere 1");
    for client in &mut clients {
        assert_eq!(client.read().unwrap().text(), "Ada");
    }
    assert_eq!(counted(&mut other, "loads"), 1);
    assert_eq!(counted(&mut other, "misses"), 200);
    assert_eq!(counted(&mut other, "coalesced"), 199);
}

#[test]
fn requests_behind_one_that_waits_are_answered_in_order() {
    let shop = Shop::new();
    let server = serve(1, &shop, &[NAME]);
    let mut client = server.client();
    let commands: Vec<Vec<String>> = (0..300)
        .map(|n| match n % 3 {
            0 => vec!["GET".to_owned(), format!("user:{}", n % 4)],
            1 => vec!["SET".to_owned(), format!("k:{n}"), n.to_string()],
            _ => vec!["GET".to_owned(), format!("k:{}", n - 1)],
        })
        .collect();
    let replies = client.pipeline(&commands).unwrap();
    for (n, reply) in replies.iter().enumerate() {
        match (n % 3, n % 4) {
            (0, 0) => assert!(reply.bytes().is_none(), "{reply:?}"),
            (0, id) => assert_eq!(reply.text(), ["", "Ada", "Grace", "Ann"][id]),
            (1, _) => assert_eq!(reply.text(), "OK"),
            _ => assert_eq!(reply.text(), (n - 1).to_string()),
        }
    }
    assert_eq!(counted(&mut client, "loads"), 4);
}

#[test]
fn what_the_store_has_not_is_known_for_a_while() {
    let shop = Shop::new();
    let route = name_with(&["negative-ttl", "2s"]);
    let server = serve(1, &shop, &[&route]);
    let mut client = server.client();
    for _ in 0..5 {
        assert_eq!(get(&mut client, "user:9"), None);
    }
    assert_eq!((counted(&mut client, "loads"), counted(&mut client, "negative_hits")), (1, 4));
    shop.run("INSERT INTO users VALUES (9, 'Nine', NULL, 9)");
    until("it is asked again", || get(&mut client, "user:9").as_deref() == Some("Nine"));
    // A client that knows better has it asked at once.
    assert_eq!(get(&mut client, "user:10"), None);
    shop.run("INSERT INTO users VALUES (10, 'Ten', NULL, 9)");
    client.run("DEL user:10").unwrap();
    assert_eq!(get(&mut client, "user:10").as_deref(), Some("Ten"));
}

#[test]
fn copies_end_and_old_ones_are_given_as_the_route_says() {
    let shop = Shop::new();
    let route =
        name_with(&["ttl", "1s", "jitter", "0", "refresh-ahead", "no", "stale-while-revalidate", "60s"]);
    let server = serve(1, &shop, &[&route]);
    let mut client = server.client();
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("Ada"));
    shop.run("UPDATE users SET name = 'Augusta' WHERE id = 1");
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("Ada"), "it is fresh");
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("Ada"), "old, and given while it is fetched anew");
    until("it is renewed", || get(&mut client, "user:1").as_deref() == Some("Augusta"));
    assert!(counted(&mut client, "stale_served") >= 1);
    assert!(counted(&mut client, "renewed") >= 1);
    // One that is gone from the store is gone once that is known.
    shop.run("DELETE FROM users WHERE id = 1");
    until("it is gone", || get(&mut client, "user:1").is_none());
}

#[test]
fn a_store_that_is_gone_is_told_or_covered_by_old_copies() {
    let shop = Shop::new();
    let covered = name_with(&["ttl", "200ms", "jitter", "0", "refresh-ahead", "no", "stale-if-error", "60s"]);
    let told = ["t:<id:int>", "as", "string", "query", "SELECT name FROM users WHERE id = $id"];
    let silent =
        ["n:<id:int>", "as", "string", "query", "SELECT name FROM users WHERE id = $id", "on-error", "nil"];
    let server = serve(1, &shop, &[&covered, &told, &silent]);
    let mut client = server.client();
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("Ada"));
    shop.run("ALTER TABLE users RENAME TO people");
    thread::sleep(Duration::from_millis(300));
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("Ada"), "old is better than nothing");
    let error = client.run("GET t:1").unwrap().text();
    assert!(error.starts_with("LOADFAIL source 'shop': ") && error.contains("users"), "{error}");
    assert_eq!(get(&mut client, "n:1"), None);
    ok(&mut client, "CACHE SOURCE PAUSE shop");
    assert!(client.run("GET t:2").unwrap().text().starts_with("SOURCEDOWN source 'shop': it is paused"));
    shop.run("ALTER TABLE people RENAME TO users");
    ok(&mut client, "CACHE SOURCE RESUME shop");
    assert_eq!(get(&mut client, "t:2").as_deref(), Some("Grace"));
}

#[test]
fn a_write_during_a_load_wins() {
    let shop = Shop::new();
    let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) \
                SELECT name FROM users WHERE id = $id AND (SELECT max(i) FROM n) > 0";
    let route = ["user:<id:int>", "as", "string", "query", slow, "writes", "cache"];
    let server = serve(2, &shop, &[&route]);
    let (mut reader, mut writer) = (server.client(), server.client());
    reader.send(&["GET", "user:1"]).unwrap();
    until("it is fetched", || figure_of(&mut writer, "under_way") == 1);
    // Invalidated: who waits is answered, and what comes is not kept.
    writer.run("DEL user:1").unwrap();
    assert_eq!(reader.read().unwrap().text(), "Ada");
    assert_eq!(writer.run("EXISTS user:1").unwrap().integer(), Some(0));
    assert_eq!(counted(&mut writer, "loads_not_kept"), 1);
    // Written: the client's value stays.
    reader.send(&["GET", "user:2"]).unwrap();
    until("it is fetched", || figure_of(&mut writer, "under_way") == 1);
    ok(&mut writer, "SET user:2 mine");
    assert_eq!(reader.read().unwrap().text(), "mine");
    assert_eq!(get(&mut writer, "user:2").as_deref(), Some("mine"));
}

fn figure_of(client: &mut Client, name: &str) -> i64 {
    let info = client.run("CACHE SOURCE INFO shop").unwrap();
    let pairs = info.pairs();
    pairs.iter().find(|(field, _)| field.text() == name).unwrap().1.integer().unwrap()
}

#[test]
fn transactions_have_what_they_read_fetched_first() {
    let shop = Shop::new();
    let server = serve(2, &shop, &[NAME]);
    let mut client = server.client();
    ok(&mut client, "MULTI");
    for line in ["GET user:1", "SET other 1", "MGET user:2 user:3 user:9", "GET user:1"] {
        assert_eq!(client.run(line).unwrap().text(), "QUEUED");
    }
    let replies = client.run("EXEC").unwrap();
    let replies = replies.items().unwrap();
    assert_eq!((replies[0].text(), replies[3].text()), ("Ada".into(), "Ada".into()));
    assert_eq!(texts(&replies[2])[..2], ["Grace", "Ann"]);
    // A write that the route refuses is refused when it is queued.
    ok(&mut client, "MULTI");
    assert!(client.run("SET user:1 x").unwrap().text().contains("refused by its route user:<id:int>"));
    assert!(client.run("EXEC").unwrap().text().starts_with("EXECABORT"));
}

#[test]
fn what_a_script_declares_is_fetched_before_it_runs() {
    let shop = Shop::new();
    for threads in [1, 2] {
        let server = serve(threads, &shop, &[NAME]);
        let mut client = server.client();
        let get = "return redis.call('get', KEYS[1])";
        assert_eq!(client.command(&["EVAL", get, "1", "user:1"]).unwrap().text(), "Ada");
        assert_eq!(client.command(&["EVAL_RO", get, "1", "user:9"]).unwrap().text(), nil());
        assert_eq!(
            client.command(&["EVAL", "return redis.call('get', 'user:2')", "0"]).unwrap().text(),
            nil()
        );
        let both = "return redis.call('mget', KEYS[1], KEYS[2])";
        assert_eq!(
            texts(&client.command(&["EVAL", both, "2", "user:2", "user:3"]).unwrap()),
            ["Grace", "Ann"]
        );
        client.run("DEL user:2").unwrap();
        ok(&mut client, "MULTI");
        client.command(&["EVAL", get, "1", "user:2"]).unwrap();
        assert_eq!(texts(&client.run("EXEC").unwrap()), ["Grace"]);
        let write =
            client.command(&["EVAL", "return redis.call('set', KEYS[1], 'x')", "1", "user:2"]).unwrap();
        assert!(write.text().contains("is refused by its route user:<id:int>"), "{}", write.text());
        ok(&mut client, "CLIENT LOAD OFF");
        client.run("DEL user:2").unwrap();
        assert_eq!(client.command(&["EVAL", get, "1", "user:2"]).unwrap().text(), nil());
    }
}

#[test]
fn writes_are_refused_passed_by_or_put_through() {
    let shop = Shop::new();
    let query = "SELECT name FROM users WHERE id = $id";
    let around = ["a:<id:int>", "as", "string", "query", query, "writes", "around"];
    let through = [
        "t:<id:int>",
        "as",
        "string",
        "query",
        query,
        "writes",
        "through",
        "set",
        "INSERT INTO users(id, name) VALUES ($id, $value) ON CONFLICT(id) DO UPDATE SET name = $value",
        "del",
        "DELETE FROM users WHERE id = $id",
    ];
    let server = serve(2, &shop, &[NAME, &around, &through]);
    let mut client = server.client();
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("Ada"));
    let error = client.run("SET user:1 x").unwrap().text();
    assert!(error.starts_with("ERR 'set' of key 'user:1' is refused by its route"), "{error}");
    assert_eq!(client.run("DEL user:1").unwrap().integer(), Some(1));
    // Around: acknowledged, and the copy is dropped.
    assert_eq!(get(&mut client, "a:1").as_deref(), Some("Ada"));
    ok(&mut client, "SET a:1 x");
    assert_eq!(client.run("EXISTS a:1").unwrap().integer(), Some(0));
    assert_eq!(get(&mut client, "a:1").as_deref(), Some("Ada"));
    // Through: the store has it once the client is told.
    for n in 0..50 {
        ok(&mut client, &format!("SET t:1 name{n}"));
        assert_eq!(shop.name_of(1).as_deref(), Some(format!("name{n}").as_str()));
        assert_eq!(get(&mut client, "t:1"), Some(format!("name{n}")));
    }
    let ttl = client.run("TTL t:1").unwrap().integer().unwrap();
    assert!((200..=300).contains(&ttl), "as if it were loaded: {ttl}");
    ok(&mut client, "SET t:7 Seven EX 1000");
    assert!(client.run("TTL t:7").unwrap().integer().unwrap() > 900);
    // What is deleted is what the store had, whether there is a copy or not.
    ok(&mut client, "SET t:8 Eight");
    assert_eq!(client.run("DEL t:7 t:8 t:9").unwrap().integer(), Some(2));
    assert_eq!(client.run("DEL t:7").unwrap().integer(), Some(0));
    assert_eq!((shop.name_of(7), get(&mut client, "t:7")), (None, None));
    // What only has the copy end at another time changes nothing in the store.
    for (line, key) in
        [("EXPIRE t:1 100", "t:1"), ("GETEX t:1 EX 100", "t:1"), ("GETEX user:2 EX 100", "user:2")]
    {
        assert!(!client.run(line).unwrap().text().starts_with("ERR"), "{line}");
        assert!(client.run(&format!("TTL {key}")).unwrap().integer().unwrap() <= 100, "{line}");
    }
    assert_eq!((shop.name_of(1).as_deref(), shop.name_of(2).as_deref()), (Some("name49"), Some("Grace")));
    // The store says no: the client sees it, and the copy is as the store.
    shop.run("CREATE TRIGGER no BEFORE UPDATE ON users WHEN NEW.name = 'bad' BEGIN SELECT RAISE(ABORT, 'not that name'); END");
    let error = client.run("SET t:1 bad").unwrap().text();
    assert!(error.starts_with("LOADFAIL source 'shop': ") && error.contains("not that name"), "{error}");
    assert_eq!(get(&mut client, "t:1").as_deref(), Some("name49"));
    for line in ["APPEND t:1 x", "SET t:1 x NX", "INCR t:1"] {
        assert!(client.run(line).unwrap().text().starts_with("ERR "), "{line}");
    }
}

#[test]
fn fields_are_written_through() {
    let shop = Shop::new();
    shop.run("CREATE TABLE prefs (user INTEGER, field TEXT, value TEXT, PRIMARY KEY (user, field))");
    let by_name = [
        "u:<id:int>",
        "as",
        "hash",
        "query",
        "SELECT name, email FROM users WHERE id = $id",
        "writes",
        "through",
        "hset",
        "UPDATE users SET name = coalesce($name, name), email = coalesce($email, email) WHERE id = $id",
        "hdel",
        "UPDATE users SET email = CASE $field WHEN 'email' THEN NULL ELSE email END WHERE id = $id",
    ];
    let one_by_one = ["p:<id:int>", "as", "string", "query", "SELECT value FROM prefs WHERE user = $id"];
    let server = serve(2, &shop, &[&by_name, &one_by_one]);
    let mut client = server.client();
    // Counted against what the store has, though nothing was read before.
    assert_eq!(client.run("HSET u:2 name Hopper email g@navy").unwrap().integer(), Some(1));
    assert_eq!(shop.name_of(2).as_deref(), Some("Hopper"));
    assert_eq!(texts(&client.run("HMGET u:2 name email").unwrap()), ["Hopper", "g@navy"]);
    // And with a copy.
    assert_eq!(client.run("HSET u:2 email navy@mil").unwrap().integer(), Some(0));
    assert_eq!(client.run("HGET u:2 email").unwrap().text(), "navy@mil");
    assert_eq!(client.run("HDEL u:2 email fax").unwrap().integer(), Some(1));
    assert_eq!(client.run("HDEL u:2 email").unwrap().integer(), Some(0));
    assert_eq!(client.run("HLEN u:2").unwrap().integer(), Some(1));
    ok(&mut client, "HMSET u:2 name Grace name Grace2");
    assert_eq!(shop.name_of(2).as_deref(), Some("Grace2"), "the last of two counts");
    // What the route has no statement for, or no field, is refused and changes nothing.
    for (line, what) in [
        ("HSET u:1 age 5", "its route has no field 'age' in its statement hset"),
        ("HSET u:1 id 5", "its route has no field 'id' in its statement hset"),
        ("HSET u:1 name", "wrong number of arguments for 'hset' command"),
        ("HSETNX u:1 name x", "it writes through, and has no statement for this"),
        ("HINCRBY u:1 name 1", "it writes through, and has no statement for this"),
        ("SET u:1 x", "it writes through, and has no statement for this"),
        ("HSET u:x name y", "the key is not of the types"),
    ] {
        let error = client.run(line).unwrap().text();
        assert!(error.starts_with("ERR ") && error.contains(what) || line.contains("u:x"), "{line}: {error}");
    }
    assert_eq!(shop.name_of(1).as_deref(), Some("Ada"));
    // The store says no.
    shop.run("CREATE TRIGGER no BEFORE UPDATE ON users WHEN NEW.name = 'bad' BEGIN SELECT RAISE(ABORT, 'not that name'); END");
    let error = client.run("HSET u:1 name bad").unwrap().text();
    assert!(error.starts_with("LOADFAIL source 'shop': ") && error.contains("not that name"), "{error}");
    assert_eq!(client.run("HGET u:1 name").unwrap().text(), "Ada");
    // Rows of fields: one statement for each.
    let set = client.command(&[
        "CACHE", "ROUTE", "SET", "p:<id:int>", "shop", "AS", "hash", "QUERY",
        "SELECT max(CASE field WHEN 'theme' THEN value END) AS theme, max(CASE field WHEN 'lang' THEN value END) AS lang
         FROM prefs WHERE user = $id HAVING count(*) > 0",
        "writes", "through",
        "hset", "INSERT INTO prefs VALUES ($id, $field, $value) ON CONFLICT DO UPDATE SET value = $value",
        "hdel", "DELETE FROM prefs WHERE user = $id AND field = $field",
    ]);
    assert_eq!(set.unwrap().text(), "OK");
    assert_eq!(client.run("HSET p:1 theme dark lang de").unwrap().integer(), Some(2));
    assert_eq!(client.run("HSET p:1 theme light").unwrap().integer(), Some(0));
    assert_eq!(texts(&client.run("HMGET p:1 theme lang").unwrap()), ["light", "de"]);
    assert_eq!(client.run("HDEL p:1 theme lang none").unwrap().integer(), Some(2));
    assert_eq!(client.run("EXISTS p:1").unwrap().integer(), Some(0));
    assert_eq!(client.run("HGETALL p:1").unwrap().pairs().len(), 0);
}

#[test]
fn writers_through_and_readers_agree_with_the_store() {
    let shop = Shop::new();
    let query = "SELECT name FROM users WHERE id = $id";
    let through = [
        "t:<id:int>",
        "as",
        "string",
        "query",
        query,
        "writes",
        "through",
        "set",
        "UPDATE users SET name = $value WHERE id = $id",
    ];
    let server = serve(2, &shop, &[&through]);
    thread::scope(|scope| {
        for writer in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for n in 0..100 {
                    ok(&mut client, &format!("SET t:{} w{writer}-{n}", 1 + n % 3));
                }
            });
        }
        for _ in 0..2 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for n in 0..2000 {
                    assert!(get(&mut client, &format!("t:{}", 1 + n % 3)).is_some());
                }
            });
        }
    });
    let mut client = server.client();
    for id in 1..=3 {
        assert_eq!(get(&mut client, &format!("t:{id}")), shop.name_of(id), "{id}");
    }
}

#[test]
fn a_batch_fetches_what_mget_misses_with_one_question() {
    let shop = Shop::new();
    let batch = name_with(&["batch", "SELECT id, name FROM users WHERE id IN ($id)"]);
    let server = serve(1, &shop, &[&batch]);
    let mut client = server.client();
    let names = client.run("MGET user:1 user:2 user:8 user:3").unwrap();
    assert_eq!(texts(&names), ["Ada", "Grace", nil().as_str(), "Ann"]);
    assert_eq!(counted(&mut client, "loads"), 4);
    assert_eq!(figure_of(&mut client, "asked"), 1 + 2, "one question, and two when the route was checked");
}

#[test]
fn what_cannot_be_kept_is_given_all_the_same() {
    let shop = Shop::new();
    let route = name_with(&["ttl", "0"]);
    let server = serve(2, &shop, &[&route]);
    let mut client = server.client();
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("Ada"));
    shop.run("UPDATE users SET name = 'Augusta' WHERE id = 1");
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("Augusta"));
    assert_eq!(texts(&client.run("MGET user:1 user:2").unwrap()), ["Augusta", "Grace"]);
    assert_eq!(figure(&mut client, "used_memory") > 0, client.run("DBSIZE").unwrap().integer() == Some(0));
}

#[test]
fn sources_and_routes_change_at_run_time_and_are_kept_by_rewrite() {
    let shop = Shop::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("larder.conf");
    std::fs::write(&file, "threads 1\n").unwrap();
    let server = larder(1, &[]);
    let mut client = server.client();
    let url = shop.url();
    let mut cache = |words: &[&str]| client.command(&[&["CACHE"][..], words].concat()).unwrap();
    assert!(cache(&["SOURCE", "ADD", "shop", "oracle:x"]).text().starts_with("ERR source: "));
    assert!(
        cache(&["SOURCE", "ADD", "shop", "sqlite:/nowhere/at/all.db"]).text().contains("/nowhere/at/all.db")
    );
    assert_eq!(cache(&["SOURCE", "LIST"]).items().unwrap().len(), 0);
    assert_eq!(cache(&["SOURCE", "ADD", "shop", &url]).text(), "OK");
    let wrong: [(&[&str], &str); 6] = [
        (&["u:<id>", "none", "AS", "string", "QUERY", "SELECT 1"], "word 2: there is no source 'none'"),
        (&["u:<id", "shop", "AS", "string", "QUERY", "SELECT 1"], "word 1: this name does not end"),
        (&["u:<id>", "shop", "AS", "string", "QUERY", "SELEC 1"], "syntax error"),
        (&["u:<id>", "shop", "AS", "string", "QUERY", "SELECT * FROM users"], "a string takes one column"),
        (&["u:<id>", "shop", "AS", "string", "QUERY", "SELECT name FROM nobody"], "no such table: nobody"),
        (&["u:<id>", "shop", "AS", "string", "QUERY", "SELECT $key"], "$key is no name of the pattern"),
    ];
    for (words, expected) in wrong {
        let error = cache(&[&["ROUTE", "SET"], words].concat()).text();
        assert!(error.starts_with("ERR route: ") && error.contains(expected), "{words:?}: {error}");
    }
    let route = [
        "ROUTE",
        "SET",
        "u:<id:int>",
        "shop",
        "AS",
        "string",
        "QUERY",
        "SELECT name FROM users WHERE id = $id",
    ];
    assert_eq!(cache(&route).text(), "OK");
    let error = cache(&["ROUTE", "SET", "u:<x>", "shop", "AS", "string", "QUERY", "SELECT 1"]).text();
    assert!(error.contains("overlaps u:<id:int>"), "{error}");
    let tested = cache(&["ROUTE", "TEST", "u:2"]);
    assert!(tested.pairs().iter().any(|(name, value)| name.text() == "value" && value.text() == "Grace"));
    assert!(cache(&["SOURCE", "DEL", "shop"]).text().contains("route u:<id:int> uses source 'shop'"));
    assert_eq!(get(&mut client, "u:2").as_deref(), Some("Grace"));
    let mut cache = |words: &[&str]| client.command(&[&["CACHE"][..], words].concat()).unwrap();
    assert_eq!(cache(&["ROUTE", "DEL", "u:<id:int>"]).text(), "OK");
    assert_eq!(cache(&["SOURCE", "DEL", "shop"]).text(), "OK");
    assert_eq!(get(&mut client, "u:3"), None);
}

#[test]
fn a_soft_time_limit_gives_the_old_copy_while_the_load_goes_on() {
    let shop = Shop::new();
    let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < (SELECT age FROM users WHERE id = 3)) \
                SELECT name FROM users WHERE id = $id AND (SELECT max(i) FROM n) > 0";
    let route = [
        "user:<id:int>",
        "as",
        "string",
        "query",
        slow,
        "ttl",
        "200ms",
        "jitter",
        "0",
        "refresh-ahead",
        "no",
        "stale-if-error",
        "60s",
        "soft-timeout",
        "50ms",
    ];
    let server = serve(1, &shop, &[&route]);
    let mut client = server.client();
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("Ada"));
    shop.run("UPDATE users SET name = 'Augusta' WHERE id = 1; UPDATE users SET age = 3000000 WHERE id = 3");
    thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("Ada"));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    // A key of which there is no copy: told, and there once it has come.
    assert!(client.run("GET user:2").unwrap().text().starts_with("LOADTIMEOUT source 'shop': "));
    until("it has come", || get_or_error(&mut client, "user:1") == "Augusta");
}

/// A field of an answer that is a map.
fn field(value: &Value, name: &str) -> Value {
    let pairs = value.pairs();
    pairs.iter().find(|(field, _)| field.text() == name).unwrap_or_else(|| panic!("no {name}")).1.clone()
}

const ITEMS: [&str; 9] = [
    "item:<id:int>",
    "as",
    "string",
    "query",
    "SELECT name FROM items WHERE id = $id",
    "warm",
    "SELECT id, name FROM items",
    "invalidate",
    "items.id",
];

#[test]
fn a_route_is_warmed_whole() {
    let shop = Shop::new();
    shop.run(
        "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
         INSERT INTO items SELECT i, 'item' || i FROM n;",
    );
    let tags = [
        "tags:<user:int>",
        "as",
        "set",
        "query",
        "SELECT tag FROM tags WHERE user = $user",
        "warm",
        "SELECT user, tag FROM tags ORDER BY user",
    ];
    let server = serve(2, &shop, &[&ITEMS, &tags]);
    let mut client = server.client();
    until("the feed is there", || feed_of(&mut client) == "following");
    ok(&mut client, "CLIENT LOAD OFF");
    let warmed = client.run("CACHE WARM item:<id:int> LIMIT 10").unwrap();
    assert_eq!(field(&warmed, "kept").integer(), Some(10));
    assert_eq!(client.run("DBSIZE").unwrap().integer(), Some(10));
    let warmed = client.run("CACHE WARM item:<id:int>").unwrap();
    assert_eq!(field(&warmed, "rows").integer(), Some(5000));
    assert_eq!(field(&warmed, "kept").integer(), Some(4990), "those that are there stay");
    assert_eq!(get(&mut client, "item:4321").as_deref(), Some("item4321"));
    assert!((1..=300).contains(&client.run("TTL item:4321").unwrap().integer().unwrap()));
    assert_eq!(client.run("CACHE WARM tags:<user:int>").unwrap().pairs()[1].1.integer(), Some(2));
    assert_eq!(client.run("SCARD tags:1").unwrap().integer(), Some(2));
    for (command, error) in [
        ("CACHE WARM item:*", "there is no route with this pattern"),
        ("CACHE WARM item:<id:int> LIMIT 0", "must be positive"),
        ("CACHE WARM item:<id:int> COUNT 1", "syntax error"),
    ] {
        assert!(client.run(command).unwrap().text().contains(error), "{command}");
    }
}

#[test]
fn warming_evicts_nothing_and_keeps_nothing_old() {
    let shop = Shop::new();
    shop.run(
        "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
         INSERT INTO items SELECT i, 'item' || hex(zeroblob(100)) || '-0' FROM n;",
    );
    let server = serve(2, &shop, &[&ITEMS]);
    let mut client = server.client();
    until("the feed is there", || feed_of(&mut client) == "following");
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=20 {
                shop.run(&format!(
                    "UPDATE items SET name = 'item' || hex(zeroblob(100)) || '-{round}' WHERE id % 997 = {round}"
                ));
            }
        });
        let warmed = server.client().run("CACHE WARM item:<id:int>").unwrap();
        assert!(field(&warmed, "rows").integer() > Some(0), "{warmed:?}");
    });
    for id in (1..=40_000_i64).filter(|id| (1..=20).contains(&(id % 997))) {
        let ends = format!("-{}", id % 997);
        until("it is as the store", || get(&mut client, &format!("item:{id}")).unwrap().ends_with(&ends));
    }
    ok(&mut client, "FLUSHALL");
    ok(&mut client, "SET mine too");
    let used = figure(&mut client, "used_memory");
    ok(&mut client, &format!("CONFIG SET maxmemory-policy allkeys-lru maxmemory {}", used + 4_000_000));
    let warmed = client.run("CACHE WARM item:<id:int>").unwrap();
    assert_eq!(field(&warmed, "ended").text(), "memory is full");
    assert!(field(&warmed, "kept").integer() > Some(1000));
    assert_eq!(figure(&mut client, "evicted_keys"), 0);
    assert_eq!(get(&mut client, "mine").as_deref(), Some("too"));
}

/// The answer of CACHE GET with META: status, value, and how long it is fresh.
fn meta(client: &mut Client, words: &[&str]) -> (String, Option<String>, Option<i64>) {
    let all = [&["CACHE", "GET"], words, &["META"]].concat();
    let answer = client.command(&all).unwrap();
    let pairs = answer.pairs();
    let field = |name: &str| pairs.iter().find(|(field, _)| field.text() == name).unwrap().1.clone();
    let value = field("value").bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (field("status").text(), value, field("fresh_ms").integer())
}

#[test]
fn cache_get_tells_of_copies() {
    let shop = Shop::new();
    let options = ["ttl", "300ms", "jitter", "0", "refresh-ahead", "no", "stale-while-revalidate", "1h"];
    let server = serve(2, &shop, &[&name_with(&options)]);
    let mut client = server.client();
    let name = |text: &str| Some(text.to_owned());
    let (status, value, fresh) = meta(&mut client, &["user:1"]);
    assert_eq!((status.as_str(), value), ("LOADED", name("Ada")));
    assert!((1..=300).contains(&fresh.unwrap()));
    assert_eq!(meta(&mut client, &["user:1"]).0, "HIT");
    assert_eq!(meta(&mut client, &["user:404"]).0, "NEGATIVE");
    assert_eq!(meta(&mut client, &["user:404"]), ("NEGATIVE".to_owned(), None, None));
    assert_eq!(meta(&mut client, &["user:none"]).0, "MISS");
    ok(&mut client, "SET plain text");
    assert_eq!(meta(&mut client, &["plain"]), ("HIT".to_owned(), name("text"), None));
    assert_eq!(client.run("CACHE GET plain").unwrap().text(), "text");
    shop.run("UPDATE users SET name = 'Augusta' WHERE id = 1");
    thread::sleep(Duration::from_millis(350));
    // Old: given as the route says, and fetched anew behind; or not given.
    assert_eq!(meta(&mut client, &["user:1", "STALE"]).0, "STALE");
    until("it is fetched anew", || get(&mut client, "user:1") == name("Augusta"));
    shop.run("UPDATE users SET name = 'Byron' WHERE id = 1");
    thread::sleep(Duration::from_millis(350));
    assert_eq!(client.run("CACHE GET user:1 NOSTALE").unwrap().text(), "Byron");
    ok(&mut client, "CLIENT LOAD OFF");
    assert_eq!(meta(&mut client, &["user:2"]).0, "MISS");
    for wrong in ["CACHE GET user:1 STALE NOSTALE", "CACHE GET user:1 WAIT", "CACHE GET user:1 WAIT -1"] {
        assert!(client.run(wrong).unwrap().text().contains("ERR"), "{wrong}");
    }
}

#[test]
fn cache_get_gives_old_copies_in_need_unless_they_are_not_wanted() {
    let shop = Shop::new();
    let options = ["ttl", "200ms", "jitter", "0", "refresh-ahead", "no", "stale-if-error", "1h"];
    for on_error in ["nil", "error"] {
        let options = [&options[..], &["on-error", on_error]].concat();
        let server = serve(1, &shop, &[&name_with(&options)]);
        let mut client = server.client();
        assert_eq!(meta(&mut client, &["user:1"]).0, "LOADED");
        thread::sleep(Duration::from_millis(250));
        ok(&mut client, "CACHE SOURCE PAUSE shop");
        for words in [&["user:1"][..], &["user:1", "STALE"]] {
            let (status, value, fresh) = meta(&mut client, words);
            assert_eq!((status.as_str(), value.as_deref(), fresh), ("STALE", Some("Ada"), Some(0)));
        }
        let answer = client.run("CACHE GET user:1 NOSTALE").unwrap();
        match on_error {
            "nil" => assert!(answer.bytes().is_none(), "{answer:?}"),
            _ => assert!(answer.text().starts_with("SOURCEDOWN"), "{answer:?}"),
        }
    }
}

fn get_or_error(client: &mut Client, key: &str) -> String {
    client.command(&["GET", key]).unwrap().text()
}

#[test]
fn changes_that_others_make_are_seen() {
    let shop = Shop::new();
    let route = name_with(&["ttl", "1h", "invalidate", "users.id"]);
    let server = serve(2, &shop, &[&route]);
    let mut client = server.client();
    until("the feed is there", || feed_of(&mut client) == "following");
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("Ada"));
    assert_eq!(get(&mut client, "user:2").as_deref(), Some("Grace"));
    assert_eq!(get(&mut client, "user:9"), None);
    shop.run("UPDATE users SET name = 'Augusta' WHERE id = 1");
    until("a change is seen", || get(&mut client, "user:1").as_deref() == Some("Augusta"));
    assert_eq!(get(&mut client, "user:2").as_deref(), Some("Grace"));
    shop.run("DELETE FROM users WHERE id = 2; INSERT INTO users VALUES (9, 'Nine', NULL, 9)");
    until("a row that went is seen", || get(&mut client, "user:2").is_none());
    until("one that came is, too, though it was known to be absent", || get(&mut client, "user:9").is_some());
    // A key that moves to another row's number: both are dropped.
    assert_eq!(get(&mut client, "user:3").as_deref(), Some("Ann"));
    shop.run("UPDATE users SET id = 4 WHERE id = 3");
    until("both are seen", || get(&mut client, "user:3").is_none() && get(&mut client, "user:4").is_some());
}

fn feed_of(client: &mut Client) -> String {
    let info = client.run("CACHE SOURCE INFO shop").unwrap();
    info.pairs().iter().find(|(field, _)| field.text() == "feed").unwrap().1.text()
}

#[test]
fn readers_agree_with_a_store_that_others_write() {
    let shop = Shop::new();
    let route = name_with(&["ttl", "1h", "invalidate", "users.id"]);
    let server = serve(2, &shop, &[&route]);
    until("the feed is there", || feed_of(&mut server.client()) == "following");
    thread::scope(|scope| {
        scope.spawn(|| {
            let store = Connection::open(&shop.path).unwrap();
            store.busy_timeout(Duration::from_secs(10)).unwrap();
            for n in 0..500 {
                store
                    .execute("UPDATE users SET name = ?1 WHERE id = ?2", (format!("n{n}"), 1 + n % 3))
                    .unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = server.client();
                for n in 0..5000 {
                    assert!(get(&mut client, &format!("user:{}", 1 + n % 3)).is_some());
                }
            });
        }
    });
    let mut client = server.client();
    for id in 1..=3 {
        until("it is as the store", || get(&mut client, &format!("user:{id}")) == shop.name_of(id));
    }
}

#[test]
fn the_first_example_of_the_documentation_runs() {
    let text =
        std::fs::read_to_string(larder_testkit::server::repository_root().join("docs/READ-THROUGH.md"))
            .unwrap();
    let block = text.split("```sh demo\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let binary = std::env::var_os("LARDER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_larder").into());
    let binary = PathBuf::from(binary).canonicalize().unwrap();
    let has = |tool: &str| std::process::Command::new(tool).arg("--version").output().is_ok();
    if !(has("sqlite3") && has("redis-cli")) {
        assert!(std::env::var_os("CI").is_none(), "sqlite3 and redis-cli are not installed");
        return;
    }
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let shown = std::process::Command::new("bash").args(["-c", block]).env("PATH", path).output().unwrap();
    assert!(shown.status.success(), "{shown:?}");
}

/// A server that keeps its data in a folder, over a store of keys, with two routes that hear of changes and one that does not.
fn over_files(store: &str, folder: &std::path::Path, appendonly: &str) -> Server {
    let (url, dir) = (format!("redis://{store}"), folder.to_str().unwrap());
    let files = ["--dir", dir, "--save", "", "--appendonly", appendonly, "--appendfsync", "always"];
    let mut options = [&files[..], &["--source", "shop", &url, "connect-timeout", "1s"]].concat();
    for (pattern, query, others) in [
        ("strict:<id>", "GET strict:$id", &["invalidate", "strict:.key", "feed-down", "1h"][..]),
        ("lenient:<id>", "GET lenient:$id", &["invalidate", "lenient:.key"]),
        ("timed:<id>", "GET timed:$id", &[]),
    ] {
        options.extend(["--route", pattern, "shop", "as", "string", "query", query, "ttl", "1h"]);
        options.extend(others);
    }
    larder(2, &options)
}

#[test]
fn copies_of_a_file_are_given_as_far_as_their_routes_say() {
    for appendonly in ["no", "yes"] {
        let (store, folder) = (larder(1, &[]), tempfile::tempdir().unwrap());
        for kind in ["strict", "lenient", "timed"] {
            ok(&mut store.client(), &format!("SET {kind}:1 Ada"));
        }
        let address = store.address();
        let server = over_files(&address, folder.path(), appendonly);
        let mut client = server.client();
        until("the feed is there", || feed_of(&mut client) == "following");
        for kind in ["strict", "lenient", "timed"] {
            assert_eq!(get(&mut client, &format!("{kind}:1")).as_deref(), Some("Ada"));
        }
        let end = client.run("PEXPIRETIME timed:1").unwrap();
        ok(&mut client, "SET own value");
        if appendonly == "no" {
            ok(&mut client, "SAVE");
        }
        // Without a store to be asked or followed nothing but the files tells.
        drop((server, store));
        let server = over_files(&address, folder.path(), appendonly);
        let mut client = server.client();
        until("it is loaded", || !client.run("DBSIZE").unwrap().is_error());
        assert_eq!(get(&mut client, "own").as_deref(), Some("value"));
        assert_eq!(
            client.run("DBSIZE").unwrap().integer(),
            Some(3),
            "nobody has listened for strict:1 meanwhile"
        );
        assert_eq!(get(&mut client, "timed:1").as_deref(), Some("Ada"));
        assert_eq!(client.run("PEXPIRETIME timed:1").unwrap(), end, "it ends when it would have ended");
        assert_eq!(get(&mut client, "lenient:1").as_deref(), Some("Ada"), "as while a feed is interrupted");
        assert!(get_or_error(&mut client, "strict:1") != "Ada");
    }
}
