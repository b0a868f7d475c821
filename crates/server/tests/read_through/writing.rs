//! What becomes of writes to keys that come from a store.

use crate::scenario::{ok, until};
use crate::shop::{NAME, Shop, counted, figure_of, get, name_through, serve, texts};
use std::thread;

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

#[test]
fn writes_are_refused_passed_by_or_put_through() {
    let shop = Shop::new();
    let query = "SELECT name FROM users WHERE id = $id";
    let around = ["a:<id:int>", "as", "string", "query", query, "writes", "around"];
    let through = name_through(&[
        "set",
        "INSERT INTO users(id, name) VALUES ($id, $value) ON CONFLICT(id) DO UPDATE SET name = $value",
        "del",
        "DELETE FROM users WHERE id = $id",
    ]);
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
    let through = name_through(&["set", "UPDATE users SET name = $value WHERE id = $id"]);
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
