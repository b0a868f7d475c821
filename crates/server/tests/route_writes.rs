//! Writes of fields that are queued for the store, and writes of transactions, against SQLite, PostgreSQL and MariaDB: the store and
//! its copies never differ once all is done, whatever is killed.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::stores::{self, PASSWORD, Store};
use larder_testkit::{Client, Server};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use scenario::{is_ok, larder, ok, signal, source_info, until};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A store, and the folder of the server that writes to it.
struct Shop {
    folder: TempDir,
    store: Kind,
}

enum Kind {
    Sqlite(PathBuf),
    Other(Store),
}

impl Shop {
    fn sqlite() -> Shop {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        Connection::open(&path).unwrap().execute_batch("PRAGMA journal_mode = WAL").unwrap();
        Shop { folder, store: Kind::Sqlite(path) }.filled()
    }

    fn over(store: Store) -> Shop {
        Shop { folder: tempfile::tempdir().unwrap(), store: Kind::Other(store) }.filled()
    }

    /// All stores there are on this machine.
    fn all() -> Vec<Shop> {
        let others = [stores::postgres(), stores::mariadb()];
        std::iter::once(Shop::sqlite()).chain(others.into_iter().flatten().map(Shop::over)).collect()
    }

    fn is_mariadb(&self) -> bool {
        matches!(&self.store, Kind::Other(store) if store.url().starts_with("m"))
    }

    fn filled(self) -> Shop {
        std::fs::create_dir(self.folder.path().join("server")).unwrap();
        for statement in [
            "CREATE TABLE users (id int PRIMARY KEY, name varchar(50) CHECK (name <> 'bad'), email varchar(50))",
            "INSERT INTO users VALUES (1, 'Ada', NULL), (2, 'Grace', 'g@navy')",
            "CREATE TABLE prefs (owner int, field varchar(20), value varchar(50), PRIMARY KEY (owner, field))",
        ] {
            self.sql(statement);
        }
        self
    }

    /// What a statement answers: a line a row, columns apart by `|`.
    fn sql(&self, statement: &str) -> String {
        let path = match &self.store {
            Kind::Other(store) => return store.sql(statement).trim().to_owned(),
            Kind::Sqlite(path) => path,
        };
        let store = Connection::open(path).unwrap();
        store.busy_timeout(Duration::from_secs(5)).unwrap();
        let mut prepared = store.prepare(statement).unwrap();
        if prepared.column_count() == 0 {
            prepared.execute([]).unwrap();
            return String::new();
        }
        let text = |row: &rusqlite::Row<'_>| {
            Ok(match row.get_ref(0)? {
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                _ => String::new(),
            })
        };
        let rows = prepared.query_map([], text).unwrap();
        let lines: Vec<String> = rows.map(Result::unwrap).collect();
        lines.join("\n")
    }

    fn name_of(&self, id: i64) -> String {
        self.sql(&format!("SELECT name FROM users WHERE id = {id}"))
    }

    /// What is stored of somebody's preferences.
    fn prefs_of(&self, owner: i64) -> BTreeMap<String, String> {
        let rows = self.sql(&format!(
            "SELECT {} FROM prefs WHERE owner = {owner}",
            if self.is_mariadb() { "concat(field, '=', value)" } else { "field || '=' || value" }
        ));
        let pair =
            |line: &str| line.split_once('=').map(|(field, value)| (field.to_owned(), value.to_owned()));
        rows.lines().filter_map(pair).collect()
    }

    /// A server with the routes `user:` of strings, `u:` of hashes and `p:` of fields, a row each, that write `how`.
    fn serve(&self, how: &str, source: &[&str]) -> Server {
        let folder = self.folder.path().join("server");
        let password = self.folder.path().join("password");
        std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
        let url = match &self.store {
            Kind::Sqlite(path) => format!("sqlite:{}", path.display()),
            Kind::Other(store) => store.url(),
        };
        let mut options = vec!["--dir", folder.to_str().unwrap(), "--source", "shop", &url];
        if matches!(self.store, Kind::Other(_)) {
            options.extend(["password-file", password.to_str().unwrap()]);
        }
        options.extend(source);
        let (set, hset) = if self.is_mariadb() {
            (
                "INSERT INTO users(id, name) VALUES ($id, $value) ON DUPLICATE KEY UPDATE name = $value",
                "INSERT INTO prefs VALUES ($id, $field, $value) ON DUPLICATE KEY UPDATE value = $value",
            )
        } else {
            (
                "INSERT INTO users(id, name) VALUES ($id, $value) ON CONFLICT (id) DO UPDATE SET name = $value",
                "INSERT INTO prefs VALUES ($id, $field, $value) ON CONFLICT (owner, field) DO UPDATE SET value = $value",
            )
        };
        options.extend(["--route", "user:<id:int>", "shop", "as", "string", "query"]);
        options.extend(["SELECT name FROM users WHERE id = $id", "writes", how, "set", set]);
        options.extend(["del", "DELETE FROM users WHERE id = $id"]);
        options.extend(["--route", "u:<id:int>", "shop", "as", "hash", "query"]);
        options.extend(["SELECT name, email FROM users WHERE id = $id", "writes", how, "hset"]);
        options.push(
            "UPDATE users SET name = coalesce($name, name), email = coalesce($email, email) WHERE id = $id",
        );
        options.extend([
            "hdel",
            "UPDATE users SET email = CASE $field WHEN 'email' THEN NULL ELSE email END WHERE id = $id",
        ]);
        options.extend([
            "--route",
            "p:<id:int>",
            "shop",
            "as",
            "hash",
            "query",
            PREFS,
            "writes",
            how,
            "hset",
            hset,
        ]);
        options.extend(["hdel", "DELETE FROM prefs WHERE owner = $id AND field = $field"]);
        options.extend(["del", "DELETE FROM prefs WHERE owner = $id"]);
        larder(2, &options)
    }
}

const PREFS: &str = "SELECT max(CASE field WHEN 'f0' THEN value END) AS f0, max(CASE field WHEN 'f1' THEN value END) AS f1, \
    max(CASE field WHEN 'f2' THEN value END) AS f2 FROM prefs WHERE owner = $id HAVING count(*) > 0";

fn integer(client: &mut Client, line: &str) -> i64 {
    let reply = client.run(line).unwrap();
    reply.integer().unwrap_or_else(|| panic!("{line}: {reply:?}"))
}

fn text(client: &mut Client, line: &str) -> String {
    client.run(line).unwrap().text()
}

fn hash(client: &mut Client, key: &str) -> BTreeMap<String, String> {
    let reply = client.run(&format!("HGETALL {key}")).unwrap();
    reply.pairs().iter().map(|(field, value)| (field.text(), value.text())).collect()
}

fn fields(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect()
}

/// The answers of a transaction, as text.
fn transaction(client: &mut Client, lines: &[&str]) -> Vec<String> {
    ok(client, "MULTI");
    for line in lines {
        assert_eq!(text(client, line), "QUEUED", "{line}");
    }
    let answers = client.run("EXEC").unwrap();
    let shown =
        |value: &larder_testkit::Value| value.integer().map_or_else(|| value.text(), |n| n.to_string());
    answers.items().unwrap_or_else(|| panic!("{answers:?}")).iter().map(shown).collect()
}

#[test]
fn fields_are_queued_read_at_once_and_in_the_store_soon() {
    for shop in Shop::all() {
        let server = shop.serve("behind", &[]);
        let mut client = server.client();
        // Counted against what the store has, though nothing was read before.
        assert_eq!(integer(&mut client, "HSET u:1 name Augusta email a@b"), 1);
        assert_eq!(hash(&mut client, "u:1"), fields(&[("name", "Augusta"), ("email", "a@b")]));
        assert_eq!(integer(&mut client, "HDEL u:2 email fax"), 1);
        assert_eq!(integer(&mut client, "WAITSOURCE 0"), 0);
        assert_eq!(
            (shop.name_of(1).as_str(), shop.sql("SELECT email FROM users WHERE id = 1").as_str()),
            ("Augusta", "a@b")
        );
        assert_eq!(shop.sql("SELECT count(*) FROM users WHERE email IS NULL"), "1");
        // While the store is away: what is queued is laid over what it had, and the copy goes on being right.
        shop.sql("INSERT INTO prefs VALUES (7, 'f0', 'stored'), (7, 'f1', 'stored')");
        assert_eq!(hash(&mut client, "p:7").len(), 2);
        ok(&mut client, "CACHE SOURCE PAUSE shop");
        assert_eq!(integer(&mut client, "HSET p:7 f1 a f2 b"), 1);
        assert_eq!(integer(&mut client, "HSET p:7 f2 c"), 0);
        assert_eq!(integer(&mut client, "HDEL p:7 f0"), 1);
        assert_eq!(hash(&mut client, "p:7"), fields(&[("f1", "a"), ("f2", "c")]));
        // Deleted and begun anew, it is known whole, copy or not; a hash that is not here cannot be counted in.
        assert_eq!(integer(&mut client, "DEL p:7"), 1);
        assert_eq!(integer(&mut client, "HSET p:7 f0 new"), 1);
        integer(&mut client, "PEXPIRE p:7 1");
        thread::sleep(Duration::from_millis(5));
        assert_eq!(integer(&mut client, "EXISTS p:7"), 0);
        assert_eq!(hash(&mut client, "p:7"), fields(&[("f0", "new")]));
        assert!(text(&mut client, "HSET p:8 f0 x").starts_with("SOURCEDOWN"), "nobody knows what it answers");
        ok(&mut client, "HMSET p:8 f0 x");
        assert!(text(&mut client, "HGET p:8 f0").starts_with("SOURCEDOWN"));
        // Killed with 9: it is queued, and the store has it soon after the next start.
        drop(server);
        assert_eq!(shop.prefs_of(7), fields(&[("f0", "stored"), ("f1", "stored")]));
        let server = shop.serve("behind", &[]);
        let mut client = server.client();
        assert_eq!(hash(&mut client, "p:7"), fields(&[("f0", "new")]));
        assert_eq!(hash(&mut client, "p:8"), fields(&[("f0", "x")]));
        until("all is sent", || source_info(&mut client, "behind_pending") == "0");
        assert_eq!((shop.prefs_of(7), shop.prefs_of(8)), (fields(&[("f0", "new")]), fields(&[("f0", "x")])));
        // A row that the store does not have is not begun by an UPDATE, and no copy says otherwise.
        assert_eq!(integer(&mut client, "HSET u:9 name nobody"), 1);
        until("the copy goes", || hash(&mut client, "u:9").is_empty());
        // What the store refuses is shown whole, and the copy is what the store has.
        assert_eq!(integer(&mut client, "HSET u:1 name bad"), 0);
        until("it is shown", || integer(&mut client, "XLEN larder:dead-letters:shop") == 1);
        let letter = client.run("XRANGE larder:dead-letters:shop - +").unwrap();
        let entry: Vec<String> = letter.items().unwrap()[0].items().unwrap()[1]
            .items()
            .unwrap()
            .iter()
            .map(|word| word.text())
            .collect();
        assert_eq!(entry[..6], ["key", "u:1", "db", "0", "kind", "hset"]);
        assert_eq!(entry[8..10], ["value", r#"{"name":"bad"}"#]);
        until("the copy is dropped", || hash(&mut client, "u:1")["name"] == "Augusta");
        // A field that no statement names is refused before it is queued.
        assert!(text(&mut client, "HSET u:1 age 5").contains("no field 'age'"));
    }
}

#[test]
fn a_transaction_that_writes_through_is_one_of_the_store() {
    for shop in Shop::all() {
        let server = shop.serve("through", &[]);
        let mut client = server.client();
        let lines = [
            "GET user:1",
            "SET user:1 Augusta",
            "SET user:5 Five EX 1000",
            "GET user:1",
            "DEL user:2 user:8",
            "INCR n",
            "SET user:5 V",
        ];
        let answers = transaction(&mut client, &lines);
        assert_eq!(answers, ["Ada", "OK", "OK", "Augusta", "1", "1", "OK"]);
        assert_eq!(
            (shop.name_of(1).as_str(), shop.name_of(5).as_str(), shop.name_of(2).as_str()),
            ("Augusta", "V", "")
        );
        assert_eq!(
            (text(&mut client, "GET user:1").as_str(), text(&mut client, "GET user:5").as_str()),
            ("Augusta", "V")
        );
        let ttl = integer(&mut client, "TTL user:1");
        assert!((200..=300).contains(&ttl), "as if it were loaded: {ttl}");
        // The store refuses one: it has none of them, nothing has run, and the client is told.
        ok(&mut client, "MULTI");
        for line in ["SET user:1 x", "INCR n", "SET user:5 bad"] {
            assert_eq!(text(&mut client, line), "QUEUED");
        }
        let error = text(&mut client, "EXEC");
        assert!(error.starts_with("LOADFAIL source 'shop': "), "{error}");
        assert_eq!(
            (shop.name_of(1).as_str(), text(&mut client, "GET user:1").as_str()),
            ("Augusta", "Augusta")
        );
        assert_eq!(text(&mut client, "GET n"), "1");
        // A command that fails leaves its copies to the store.
        let answers = transaction(&mut client, &["SET n x", "SET user:1 later", "INCR n"]);
        assert!(answers[2].starts_with("ERR"), "{answers:?}");
        assert_eq!((text(&mut client, "GET user:1").as_str(), shop.name_of(1).as_str()), ("later", "later"));
        // What cannot be done right is refused, where it is queued or at EXEC, and nothing has changed.
        ok(&mut client, "MULTI");
        assert!(text(&mut client, "SET user:1 x NX").contains("takes EX, PX, EXAT, PXAT and KEEPTTL only"));
        ok(&mut client, "DISCARD");
        ok(&mut client, "WATCH other");
        ok(&mut client, "MULTI");
        text(&mut client, "SET user:1 watched");
        assert!(text(&mut client, "EXEC").contains("do not go with WATCH"));
        let error =
            client.command(&["EVAL", "redis.call('SET', KEYS[1], 'x')", "1", "user:1"]).unwrap().text();
        assert!(error.contains("which a script cannot wait for"), "{error}");
        assert_eq!(shop.name_of(1), "later");
    }
}

/// Fields are counted in what the store had, as the transaction goes on.
#[test]
fn a_transaction_writes_fields_through_and_behind() {
    let lines = [
        "HSET p:7 f1 B f2 C",
        "HGET p:7 f0",
        "HLEN p:7",
        "HSET p:7 f2 D",
        "HDEL p:7 f0 f9",
        "HLEN p:7",
        "HSET p:9 f0 new",
        "HMSET u:1 name Augusta",
        "DEL p:8",
        "HSET p:8 f1 x",
        "HLEN p:8",
    ];
    for (shop, way) in Shop::all().iter().flat_map(|shop| [(shop, "through"), (shop, "behind")]) {
        for statement in [
            "DELETE FROM prefs",
            "UPDATE users SET name = 'Ada' WHERE id = 1",
            "INSERT INTO prefs VALUES (7, 'f0', 'a'), (7, 'f1', 'b'), (8, 'f0', 'c')",
        ] {
            shop.sql(statement);
        }
        let server = shop.serve(way, &[]);
        let mut client = server.client();
        let all = [fields(&[("f1", "B"), ("f2", "D")]), fields(&[("f1", "x")]), fields(&[("f0", "new")])];
        // Once without a copy, and once with copies.
        let answers = transaction(&mut client, &lines);
        assert_eq!(answers, ["1", "a", "3", "0", "1", "2", "1", "OK", "1", "1", "1"], "{way}");
        assert_eq!([7, 8, 9].map(|id| hash(&mut client, &format!("p:{id}"))), all, "{way}");
        assert_eq!(integer(&mut client, "WAITSOURCE 0"), 0);
        assert_eq!(([7, 8, 9].map(|id| shop.prefs_of(id)), shop.name_of(1)), (all.clone(), "Augusta".into()));
        for id in [7, 8, 9] {
            hash(&mut client, &format!("p:{id}"));
            assert_eq!(integer(&mut client, &format!("EXISTS p:{id}")), 1);
        }
        let answers = transaction(&mut client, &lines);
        assert_eq!(answers[2..], ["2", "0", "0", "2", "0", "OK", "1", "1", "1"], "{way}");
        assert_eq!(integer(&mut client, "WAITSOURCE 0"), 0);
        assert_eq!([7, 8, 9].map(|id| hash(&mut client, &format!("p:{id}"))), all, "{way}");
        assert_eq!([7, 8, 9].map(|id| shop.prefs_of(id)), all, "{way}");
        // A field that no statement names is refused where it is queued.
        ok(&mut client, "MULTI");
        assert!(text(&mut client, "HSET u:1 age 5").contains("no field 'age'"));
        assert!(text(&mut client, "EXEC").starts_with("EXECABORT"));
        // While the store is away nobody knows what is to be counted in, and nothing runs.
        ok(&mut client, "CACHE SOURCE PAUSE shop");
        ok(&mut client, "MULTI");
        for line in ["HSET p:10 f0 x", "INCR n"] {
            assert_eq!(text(&mut client, line), "QUEUED");
        }
        assert!(text(&mut client, "EXEC").starts_with("SOURCEDOWN"), "{way}");
        assert_eq!(integer(&mut client, "EXISTS n"), 0);
        ok(&mut client, "CACHE SOURCE RESUME shop");
        assert_eq!(transaction(&mut client, &["HSET p:10 f0 x", "INCR n"]), ["1", "1"]);
        assert_eq!(integer(&mut client, "WAITSOURCE 0"), 0);
    }
}

#[test]
fn a_transaction_that_writes_behind_is_queued_whole() {
    for shop in Shop::all() {
        let server = shop.serve("behind", &["behind-fsync", "always"]);
        let mut client = server.client();
        ok(&mut client, "CACHE SOURCE PAUSE shop");
        let answers = transaction(
            &mut client,
            &["SET user:1 a", "SET user:1 b", "SET user:5 c", "GET user:1", "DEL user:2"],
        );
        assert_eq!(answers[..4], ["OK", "OK", "OK", "b"]);
        assert_eq!(integer(&mut client, "WAITSOURCE 20"), 4);
        assert_eq!(
            (text(&mut client, "GET user:1").as_str(), text(&mut client, "GET user:5").as_str()),
            ("b", "c")
        );
        drop(server);
        let server = shop.serve("behind", &["behind-fsync", "always"]);
        let mut client = server.client();
        until("all is sent", || source_info(&mut client, "behind_pending") == "0");
        assert_eq!(
            (shop.name_of(1).as_str(), shop.name_of(5).as_str(), shop.name_of(2).as_str()),
            ("b", "c", "")
        );
        // No room: nothing of it is queued, nothing runs, and the client is told.
        drop(server);
        let server = shop.serve("behind", &["behind-max-bytes", "1kb"]);
        let mut client = server.client();
        let long = format!("SET user:6 {}", "x".repeat(1000));
        ok(&mut client, "MULTI");
        for line in ["SET user:1 lost", long.as_str(), "INCR n"] {
            assert_eq!(text(&mut client, line), "QUEUED");
        }
        let error = text(&mut client, "EXEC");
        assert!(
            error.contains("BEHINDFAIL source 'shop': ") && error.contains("behind-max-bytes"),
            "{error}"
        );
        assert_eq!((text(&mut client, "GET user:1").as_str(), integer(&mut client, "EXISTS n")), ("b", 0));
    }
}

/// What a writer knows of a field: what was acknowledged last, and what was tried after it.
type Known = BTreeMap<(i64, &'static str), Vec<Option<String>>>;

/// Writers change fields of their own hashes, and the server is killed with 9 again and again. Each field ends as it was acknowledged last, or as
/// was tried after that, in the store and in the cache alike.
fn no_field_is_lost(shop: &Shop) {
    const WRITERS: i64 = 3;
    let all: Vec<Mutex<Known>> = (0..WRITERS).map(|_| Mutex::default()).collect();
    let (mut round, begun) = (0, Instant::now());
    while round < 4 || begun.elapsed() < Duration::from_secs(4) {
        round += 1;
        let server = shop.serve("behind", &["behind-batch", "7"]);
        let address = server.address();
        thread::scope(|scope| {
            for (writer, known) in (0..).zip(&all) {
                let address = &address;
                scope.spawn(move || {
                    let Ok(mut client) = Client::connect(address) else { return };
                    for n in 0i64.. {
                        let (owner, field) =
                            (100 + writer * 2 + n % 2, ["f0", "f1", "f2"][(n / 2 % 3) as usize]);
                        let value = (n % 5 != 4).then(|| format!("{round}-{n}"));
                        let mut known = known.lock().unwrap();
                        let tried = known.entry((owner, field)).or_insert_with(|| vec![None]);
                        tried.push(value.clone());
                        let key = format!("p:{owner}");
                        let reply = match &value {
                            Some(value) => client.command(&["HSET", &key, field, value]),
                            None => client.command(&["HDEL", &key, field]),
                        };
                        let Ok(reply) = reply else { return };
                        assert!(reply.integer().is_some(), "{reply:?}");
                        // What was acknowledged is read.
                        let Ok(read) = client.command(&["HGET", &key, field]) else { return };
                        assert_eq!(
                            read.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
                            value
                        );
                        *tried = vec![value];
                    }
                });
            }
            thread::sleep(Duration::from_millis(100 + round * 37 % 200));
            signal(&server, "KILL");
        });
    }
    let server = shop.serve("behind", &[]);
    let mut client = server.client();
    until("all is sent", || source_info(&mut client, "behind_pending") == "0");
    let mut count = 0;
    for known in &all {
        for ((owner, field), tried) in &*known.lock().unwrap() {
            let stored = shop.prefs_of(*owner);
            assert!(
                tried.contains(&stored.get(*field).cloned()),
                "{owner} {field}: {stored:?}, and {tried:?}"
            );
            assert_eq!(hash(&mut client, &format!("p:{owner}")), stored);
            count += 1;
        }
    }
    assert_eq!(count, WRITERS * 2 * 3, "every field was written");
}

#[test]
fn no_field_is_lost_over_random_kills_with_sqlite() {
    no_field_is_lost(&Shop::sqlite());
}

#[test]
fn no_field_is_lost_over_random_kills_with_postgres() {
    let Some(store) = stores::postgres() else { return };
    no_field_is_lost(&Shop::over(store));
}

#[test]
fn no_field_is_lost_over_random_kills_with_mariadb() {
    let Some(store) = stores::mariadb() else { return };
    no_field_is_lost(&Shop::over(store));
}

/// Writers through of strings, fields and transactions, and readers; others are refused by the store now and then. Once all is
/// quiet every copy is as the store.
fn stay_the_same(shop: &Shop) {
    let server = shop.serve("through", &[]);
    thread::scope(|scope| {
        for writer in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for n in 0..60 {
                    let id = 1 + n % 3;
                    let name = if n % 7 == 6 { "bad".to_owned() } else { format!("w{writer}-{n}") };
                    match (n + writer) % 5 {
                        0 => _ = client.command(&["SET", &format!("user:{id}"), &name]).unwrap(),
                        1 => {
                            _ = client.command(&["HSET", &format!("p:{id}"), "f1", &name, "f2", "x"]).unwrap()
                        }
                        2 => _ = client.command(&["HDEL", &format!("p:{id}"), "f1"]).unwrap(),
                        3 => _ = client.command(&["DEL", &format!("user:{id}"), "user:9"]).unwrap(),
                        _ => {
                            ok(&mut client, "MULTI");
                            client.command(&["SET", &format!("user:{id}"), "before"]).unwrap();
                            client.command(&["SET", "user:9", &name]).unwrap();
                            client.run("EXEC").unwrap();
                        }
                    }
                }
            });
        }
        for _ in 0..2 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for n in 0..1000 {
                    client.command(&["GET", &format!("user:{}", 1 + n % 3)]).unwrap();
                    client.command(&["HGETALL", &format!("p:{}", 1 + n % 3)]).unwrap();
                }
            });
        }
    });
    let mut client = server.client();
    for id in [1, 2, 3, 9] {
        let copy = client.command(&["GET", &format!("user:{id}")]).unwrap();
        let copy = copy.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        assert_eq!(copy, shop.name_of(id), "user:{id}");
        assert_eq!(hash(&mut client, &format!("p:{id}")), shop.prefs_of(id), "p:{id}");
    }
    assert!(is_ok(&client.run("SET user:1 end").unwrap()));
}

#[test]
fn what_is_written_through_and_its_copies_are_the_same_in_every_store() {
    Shop::all().iter().for_each(stay_the_same);
}
