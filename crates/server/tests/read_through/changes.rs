//! Changes that others make in the store are seen.

use crate::scenario::until;
use crate::shop::{Shop, feed_of, get, name_with, serve};
use rusqlite::Connection;
use std::thread;
use std::time::Duration;

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
