//! Read-through from MariaDB: every shape, batches, writes, changes by others, and a store that goes away.

#![forbid(unsafe_code)]

mod scenario;

use larder_testkit::Server;
use larder_testkit::stores::{self, Store};
use scenario::{get, nothing, ok, over_store, source_info, until};
use std::thread;
use std::time::Duration;

/// A server with a source `shop` over MariaDB.
fn over(store: &Store, options: &[&str]) -> (Server, tempfile::TempDir) {
    over_store(&store.url(), &["retries", "0"], options)
}

const USERS: [&str; 10] = [
    "--route",
    "user:<id:int>",
    "shop",
    "as",
    "string",
    "query",
    "SELECT name FROM users WHERE id = $id",
    "batch",
    "SELECT id, name FROM users WHERE id IN ($id)",
    "invalidate",
];

fn fill(store: &Store) {
    store.sql(
        "DROP TABLE IF EXISTS users; CREATE TABLE users (id int PRIMARY KEY, name varchar(100) NOT NULL); \
         INSERT INTO users SELECT seq, concat('name', seq) FROM seq_1_to_100",
    );
}

#[test]
fn every_shape_is_loaded() {
    let Some(store) = stores::mariadb() else { return };
    store.sql(
        "CREATE TABLE people (id int PRIMARY KEY, name text, born date, height double, email text, score decimal(5,2), extra json); \
         INSERT INTO people VALUES (1, 'Ad\u{e9}', '1815-12-10', 1.625, NULL, 12.50, '{\"a\": 1}'), (2, 'Bob', NULL, 1e20, 'b@x', -1, NULL); \
         CREATE TABLE tags (person int, tag varchar(20), weight float); \
         INSERT INTO tags VALUES (1, 'x', 0.5), (1, 'y', 2), (2, 'z', 1)",
    );
    let routes = [
        ("s:<id:int>", "string", "SELECT name FROM people WHERE id = $id"),
        ("j:<id:int>", "json", "SELECT id, name, height, email, score, extra FROM people WHERE id = $id"),
        ("r:<id:int>", "json-rows", "SELECT tag, weight FROM tags WHERE person = $id ORDER BY tag"),
        ("h:<id:int>", "hash", "SELECT name, born, email, score FROM people WHERE id = $id"),
        ("l:<id:int>", "list", "SELECT tag FROM tags WHERE person = $id ORDER BY tag DESC"),
        ("t:<id:int>", "set", "SELECT tag FROM tags WHERE person = $id"),
        ("z:<id:int>", "zset", "SELECT tag, weight FROM tags WHERE person = $id"),
        (
            "n:<name>",
            "string",
            "SELECT id FROM people WHERE name = $name AND name COLLATE utf8mb4_bin = $name",
        ),
    ];
    let mut options = Vec::new();
    for (pattern, shape, query) in routes {
        options.extend(["--route", pattern, "shop", "as", shape, "query", query]);
    }
    let (server, _folder) = over(&store, &options);
    let mut client = server.client();
    assert_eq!(get(&mut client, "s:1"), "Ad\u{e9}");
    assert_eq!(
        get(&mut client, "j:1"),
        "{\"id\":1,\"name\":\"Ad\u{e9}\",\"height\":1.625,\"email\":null,\"score\":\"12.50\",\"extra\":{\"a\": 1}}"
    );
    assert_eq!(get(&mut client, "r:1"), r#"[{"tag":"x","weight":0.5},{"tag":"y","weight":2}]"#);
    assert_eq!(client.run("HGET h:1 born").unwrap().text(), "1815-12-10");
    assert_eq!(client.run("HLEN h:1").unwrap().integer(), Some(3));
    assert_eq!(client.run("LINDEX l:1 0").unwrap().text(), "y");
    assert_eq!(client.run("SISMEMBER t:1 x").unwrap().integer(), Some(1));
    assert_eq!(client.run("ZSCORE z:1 y").unwrap().text(), "2");
    assert_eq!(get(&mut client, "n:Bob"), "2");
    assert!(nothing(&mut client, "n:bob"), "the collation would say that it is the same");
    assert!(
        nothing(&mut client, "n:' OR 1=1 -- ") && nothing(&mut client, "s:9") && nothing(&mut client, "s:x")
    );
    assert_eq!(client.run("HGET h:2 email").unwrap().text(), "b@x");
}

#[test]
fn mariadb_is_read_written_followed_and_survived() {
    let Some(mut store) = stores::mariadb() else { return };
    fill(&store);
    let mut options = USERS.to_vec();
    options.extend([
        "users.id",
        "stale-if-error",
        "1h",
        "ttl",
        "500ms",
        "jitter",
        "0",
        "refresh-ahead",
        "no",
    ]);
    options.extend(["negative-ttl", "0", "writes", "through", "set"]);
    options.extend(["INSERT INTO users VALUES ($id, $value) ON DUPLICATE KEY UPDATE name = $value"]);
    options.extend(["del", "DELETE FROM users WHERE id = $id"]);
    let (server, _folder) = over(&store, &options);
    let mut client = server.client();
    until("the feed is there", || source_info(&mut client, "feed") == "following");
    assert_eq!(get(&mut client, "user:7"), "name7");
    let names = client.run("MGET user:1 user:2 user:300 user:3").unwrap();
    let names: Vec<_> = names.items().unwrap().iter().map(|name| name.bytes().map(<[u8]>::to_vec)).collect();
    assert_eq!((names[0].as_deref(), names[2].as_deref()), (Some(&b"name1"[..]), None));
    assert_eq!(names[3].as_deref(), Some(&b"name3"[..]));
    store.sql("UPDATE users SET name = 'changed' WHERE id = 7");
    until("a change by others is seen", || get(&mut client, "user:7") == "changed");
    ok(&mut client, "SET user:8 written");
    assert_eq!(store.sql("SELECT name FROM users WHERE id = 8").trim(), "written");
    assert_eq!(get(&mut client, "user:8"), "written");
    ok(&mut client, "SET user:500 new");
    client.run("DEL user:500").unwrap();
    assert_eq!(store.sql("SELECT count(*) FROM users WHERE id = 500").trim(), "0");
    let long = "x".repeat(200);
    let refused = client.command(&["SET", "user:8", &long]).unwrap().text();
    assert!(refused.starts_with("LOADFAIL source 'shop': Data too long for column 'name'"), "{refused}");
    assert_eq!(get(&mut client, "user:8"), "written");
    store.sql("TRUNCATE users");
    until("a table that is emptied is seen", || nothing(&mut client, "user:9"));
    store.sql("INSERT INTO users SELECT seq, concat('again', seq) FROM seq_1_to_100");
    until("it is filled again", || get(&mut client, "user:9") == "again9");
    until("the feed has nothing more", || {
        source_info(&mut client, "feed_changes").parse::<u32>().unwrap() >= 104
    });
    // What was loaded as the changes were told is dropped once more (`settle`); what is loaded from here on stays.
    thread::sleep(Duration::from_millis(400));
    assert_eq!(get(&mut client, "user:9"), "again9");
    // Down: old copies are given, others are told; writes fail; back, all is as before.
    store.kill();
    thread::sleep(Duration::from_millis(600));
    assert_eq!(get(&mut client, "user:9"), "again9");
    assert!(get(&mut client, "user:10").starts_with("SOURCEDOWN source 'shop': "));
    assert!(client.run("SET user:9 x").unwrap().text().starts_with("SOURCEDOWN source 'shop': "));
    store.run().unwrap();
    until("it is asked again", || get(&mut client, "user:10") == "again10");
    until("it is followed again", || source_info(&mut client, "feed") == "following");
    store.sql("UPDATE users SET name = 'later' WHERE id = 10");
    until("changes are seen again", || get(&mut client, "user:10") == "later");
    assert_eq!(source_info(&mut client, "feed_gaps"), "1", "only the beginning");
}

#[test]
fn what_happened_while_nobody_listened_is_seen_too() {
    let Some(mut store) = stores::mariadb() else { return };
    fill(&store);
    let mut options = USERS.to_vec();
    options.extend(["users.id", "ttl", "1h"]);
    let (server, _folder) = over(&store, &options);
    let mut client = server.client();
    until("the feed is there", || source_info(&mut client, "feed") == "following");
    assert_eq!(
        (get(&mut client, "user:1"), get(&mut client, "user:2")),
        ("name1".to_owned(), "name2".to_owned())
    );
    store.kill();
    until("the feed is missed", || source_info(&mut client, "feed") != "following");
    store.run().unwrap();
    store.sql("UPDATE users SET name = 'meanwhile' WHERE id = 1");
    until("it is seen", || get(&mut client, "user:1") == "meanwhile");
    assert_eq!(source_info(&mut client, "feed_gaps"), "1");
    assert_eq!(get(&mut client, "user:2"), "name2");
}

#[test]
fn readers_agree_with_mariadb_once_its_changes_have_come() {
    let Some(store) = stores::mariadb() else { return };
    fill(&store);
    let mut options = USERS.to_vec();
    options.extend(["users.id", "ttl", "1h"]);
    let (server, _folder) = over(&store, &options);
    until("the feed is there", || source_info(&mut server.client(), "feed") == "following");
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..60 {
                store.sql(&format!("UPDATE users SET name = concat('n{n}-', id) WHERE id % 7 = {}", n % 7));
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = server.client();
                for n in 0..20_000 {
                    assert!(!get(&mut client, &format!("user:{}", 1 + n % 100)).starts_with("LOADFAIL"));
                }
            });
        }
    });
    let mut client = server.client();
    let all = store.sql("SELECT concat(id, '=', name) FROM users ORDER BY id");
    assert_eq!(all.lines().count(), 100);
    for (id, name) in all.lines().filter_map(|line| line.split_once('=')) {
        until("it is as the store", || get(&mut client, &format!("user:{id}")) == name);
    }
}

#[test]
fn what_is_wrong_is_refused_with_the_stores_words() {
    let Some(store) = stores::mariadb() else { return };
    fill(&store);
    let (server, _folder) = over(&store, &[]);
    let mut client = server.client();
    let mut refusal = |query: &str| {
        let words = ["CACHE", "ROUTE", "SET", "a:<id:int>", "shop", "AS", "string", "QUERY", query];
        client.command(&words).unwrap().text()
    };
    let wrong = refusal("SELECT nam FROM users WHERE id = $id");
    assert!(wrong.contains("Unknown column 'nam' in "), "{wrong}");
    let wrong = refusal("SELECT name FRM users WHERE id = $id");
    assert!(wrong.contains("SQL syntax") && wrong.contains("at byte 16"), "{wrong}");
    let wrong = refusal("SELECT id, name FROM users WHERE id = $id");
    assert!(wrong.contains("one column"), "{wrong}");
    let wrong = refusal("DELETE FROM users WHERE id = $id");
    assert!(wrong.contains("answers no rows"), "{wrong}");
    // Another password is no password.
    let url = format!("CACHE SOURCE ADD other {} user nobody", store.url().replace("larder@", ""));
    let wrong = client.run(&url).unwrap().text();
    assert!(wrong.contains("Access denied for user 'nobody'"), "{wrong}");
    assert!(!client.run("CACHE SOURCE TEST shop").unwrap().is_error());
}
