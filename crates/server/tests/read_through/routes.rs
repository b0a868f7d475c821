//! Routes that change at run time, are warmed whole, and are loaded from files.

use crate::scenario::{figure, larder, ok, until};
use crate::shop::{Shop, feed_of, field, get, get_or_error, serve};
use larder_testkit::Server;
use std::thread;

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
