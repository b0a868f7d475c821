//! The shop that the tests fetch from, a SQLite file, and what they ask a server.

use crate::scenario::larder;
use larder_testkit::{Client, Server, Value};
use rusqlite::Connection;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// A shop in a SQLite file, and how it is named.
pub struct Shop {
    _dir: TempDir,
    pub path: PathBuf,
}

impl Shop {
    pub fn new() -> Shop {
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

    pub fn url(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    pub fn run(&self, statements: &str) {
        let store = Connection::open(&self.path).unwrap();
        store.busy_timeout(Duration::from_secs(5)).unwrap();
        store.execute_batch(statements).unwrap();
    }

    pub fn name_of(&self, id: i64) -> Option<String> {
        let store = Connection::open(&self.path).unwrap();
        store.query_row("SELECT name FROM users WHERE id = ?1", [id], |row| row.get(0)).ok()
    }
}

/// A server with a source `shop` and these routes, each given behind its pattern.
pub fn serve(threads: usize, shop: &Shop, routes: &[&[&str]]) -> Server {
    let url = shop.url();
    let mut options = vec!["--source", "shop", &url];
    for route in routes {
        options.extend(["--route", route[0], "shop"]);
        options.extend(&route[1..]);
    }
    larder(threads, &options)
}

pub fn get(client: &mut Client, key: &str) -> Option<String> {
    let value = client.command(&["GET", key]).unwrap();
    assert!(!matches!(value, Value::Error(_)), "{value:?}");
    value.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

pub fn get_or_error(client: &mut Client, key: &str) -> String {
    client.command(&["GET", key]).unwrap().text()
}

pub fn texts(value: &Value) -> Vec<String> {
    value.items().unwrap().iter().map(Value::text).collect()
}

/// How a missing value is shown.
pub fn nil() -> String {
    Value::NilBulk.text()
}

/// A counter of the only route, as CACHE ROUTE LIST tells it.
pub fn counted(client: &mut Client, name: &str) -> i64 {
    let routes = client.run("CACHE ROUTE LIST").unwrap();
    let route = &routes.items().unwrap()[0];
    let pairs = route.pairs();
    let found = pairs.iter().find(|(field, _)| field.text() == name);
    found.unwrap_or_else(|| panic!("no field {name}")).1.integer().unwrap()
}

pub fn figure_of(client: &mut Client, name: &str) -> i64 {
    let info = client.run("CACHE SOURCE INFO shop").unwrap();
    let pairs = info.pairs();
    pairs.iter().find(|(field, _)| field.text() == name).unwrap().1.integer().unwrap()
}

pub fn feed_of(client: &mut Client) -> String {
    let info = client.run("CACHE SOURCE INFO shop").unwrap();
    info.pairs().iter().find(|(field, _)| field.text() == "feed").unwrap().1.text()
}

/// A field of an answer that is a map.
pub fn field(value: &Value, name: &str) -> Value {
    let pairs = value.pairs();
    pairs.iter().find(|(field, _)| field.text() == name).unwrap_or_else(|| panic!("no {name}")).1.clone()
}

pub const NAME: &[&str] =
    &["user:<id:int>", "as", "string", "query", "SELECT name FROM users WHERE id = $id"];

/// The route `t:<id>` to names, written through by these statements.
pub fn name_through<'a>(statements: &[&'a str]) -> Vec<&'a str> {
    let route =
        ["t:<id:int>", "as", "string", "query", "SELECT name FROM users WHERE id = $id", "writes", "through"];
    route.iter().chain(statements).copied().collect()
}

pub fn name_with<'a>(options: &[&'a str]) -> Vec<&'a str> {
    NAME.iter().copied().chain(options.iter().copied()).collect()
}
