//! How long copies and their absence are good, and what is given when the store is slow or gone.

use crate::scenario::{ok, until};
use crate::shop::{Shop, counted, get, get_or_error, name_with, serve};
use larder_testkit::Client;
use std::thread;
use std::time::{Duration, Instant};

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
