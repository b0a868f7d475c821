//! Read-through from stores that are servers: PostgreSQL, a Redis-compatible server, an HTTP origin; gone, back, and changed by others.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::stores::{self, DATABASE, PASSWORD, Store, USER};
use larder_testkit::{Client, Server};
use scenario::{SOON, get, is_ok, larder, nothing, ok, over_store, signal, source_info, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// A route on users.
const USERS: [&str; 7] =
    ["--route", "user:<id>", "shop", "as", "string", "query", "SELECT name FROM users WHERE id = $id"];

/// A server with a source `shop` over PostgreSQL and a route on its users.
fn over_postgres(store: &Store, options: &[&str]) -> (Server, tempfile::TempDir) {
    let batch = ["batch", "SELECT id, name FROM users WHERE id = ANY($id)"];
    over_store(&store.url(), &["retries", "0"], &[&USERS[..], &batch, options].concat())
}

fn fill(store: &Store) {
    store.sql(
        "DROP TABLE IF EXISTS users; CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL); \
         INSERT INTO users SELECT n, 'name' || n FROM generate_series(1, 100) n",
    );
}

#[test]
fn postgres_is_read_written_followed_and_survived() {
    let Some(mut store) = stores::postgres() else { return };
    fill(&store);
    let through = "INSERT INTO users VALUES ($id, $value) ON CONFLICT (id) DO UPDATE SET name = $value";
    let (server, _folder) = over_postgres(
        &store,
        &[
            "invalidate",
            "users.id",
            "stale-if-error",
            "1h",
            "ttl",
            "500ms",
            "jitter",
            "0",
            "refresh-ahead",
            "no",
            "negative-ttl",
            "0",
            "writes",
            "through",
            "set",
            through,
            "del",
            "DELETE FROM users WHERE id = $id",
        ],
    );
    let mut client = server.client();
    until("the feed is there", || source_info(&mut client, "feed") == "following");
    // The store says that id is a number: what is none is missing, and not asked for.
    assert_eq!(get(&mut client, "user:7"), "name7");
    assert!(nothing(&mut client, "user:x") && nothing(&mut client, "user:7 OR true"));
    let names = client.run("MGET user:1 user:2 user:300 user:3").unwrap();
    let names: Vec<_> = names.items().unwrap().iter().map(|name| name.bytes().map(<[u8]>::to_vec)).collect();
    assert_eq!((names[0].as_deref(), names[2].as_deref()), (Some(&b"name1"[..]), None));
    store.sql("UPDATE users SET name = 'changed' WHERE id = 7");
    until("a change by others is seen", || get(&mut client, "user:7") == "changed");
    ok(&mut client, "SET user:8 written");
    assert_eq!(store.sql("SELECT name FROM users WHERE id = 8").trim(), "written");
    assert_eq!(get(&mut client, "user:8"), "written");
    let set = client.command(&[
        "CACHE",
        "ROUTE",
        "SET",
        "fields:<id>",
        "shop",
        "AS",
        "hash",
        "QUERY",
        "SELECT name, id AS number FROM users WHERE id = $id",
        "writes",
        "through",
        "hset",
        "UPDATE users SET name = coalesce($name, name), id = coalesce($number, id) WHERE id = $id",
    ]);
    assert_eq!(set.unwrap().text(), "OK");
    assert_eq!(client.run("HSET fields:9 name by-field").unwrap().integer(), Some(0));
    assert_eq!(store.sql("SELECT name FROM users WHERE id = 9").trim(), "by-field");
    // What is no number is none of the store's: refused, and not waited for.
    let unfit = client.run("HSET fields:x name value").unwrap().text();
    assert!(unfit.contains("the key is not of the types"), "{unfit}");
    store.sql("TRUNCATE users");
    until("a table that is emptied is seen", || nothing(&mut client, "user:8"));
    fill_again(&store);
    // Two rows before, and a hundred now: once all are told nothing drops a copy any more.
    until("all changes are told", || source_info(&mut client, "feed_changes").parse::<u32>().unwrap() >= 102);
    until("it is filled again", || get(&mut client, "user:9") == "again9");
    // What was loaded within 'settle' of a change is dropped once more.
    thread::sleep(Duration::from_millis(200));
    until("there is a copy", || get(&mut client, "user:9") == "again9");
    // Down: old copies are given, others are told; writes fail; back, all is as before.
    store.kill();
    thread::sleep(Duration::from_millis(600));
    assert_eq!(get(&mut client, "user:9"), "again9");
    assert!(get(&mut client, "user:10").starts_with("SOURCEDOWN source 'shop': "));
    assert!(client.run("SET user:9 x").unwrap().text().starts_with("SOURCEDOWN source 'shop': "));
    store.run().unwrap();
    until("it is asked again", || get(&mut client, "user:10") == "again10");
    store.sql("UPDATE users SET name = 'later' WHERE id = 10");
    until("changes are seen again", || get(&mut client, "user:10") == "later");
}

fn fill_again(store: &Store) {
    store.sql("INSERT INTO users SELECT n, 'again' || n FROM generate_series(1, 100) n");
}

#[test]
fn readers_agree_with_postgres_once_its_changes_have_come() {
    let Some(store) = stores::postgres() else { return };
    fill(&store);
    let (server, _folder) = over_postgres(&store, &["invalidate", "users.id", "ttl", "1h"]);
    until("the feed is there", || source_info(&mut server.client(), "feed") == "following");
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..60 {
                store.sql(&format!("UPDATE users SET name = 'n{n}-' || id WHERE id % 7 = {}", n % 7));
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
    let all = store.sql("SELECT id || '=' || name FROM users ORDER BY id");
    for (id, name) in all.lines().filter_map(|line| line.split_once('=')) {
        until("it is as the store", || get(&mut client, &format!("user:{id}")) == name);
    }
}

/// Has a role of its own, which may be told of changes or not.
fn over_postgres_as_app(store: &Store, options: &[&str]) -> (Server, tempfile::TempDir) {
    store.sql(&format!(
        "CREATE ROLE app LOGIN REPLICATION PASSWORD '{PASSWORD}'; ALTER TABLE users OWNER TO app; \
         GRANT CREATE ON DATABASE {DATABASE} TO app; GRANT CREATE ON SCHEMA public TO app"
    ));
    let url = store.url().replace(&format!("{USER}@"), "app@");
    let followed = ["ttl", "1h", "invalidate", "users.id"];
    over_store(&url, &["retries", "0"], &[&USERS[..], &followed, options].concat())
}

fn cut_feed(store: &Store) {
    store.sql("ALTER ROLE app NOREPLICATION; SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
}

#[test]
fn copies_are_passed_by_while_changes_are_not_told() {
    let Some(mut store) = stores::postgres() else { return };
    fill(&store);
    let (server, _folder) = over_postgres_as_app(&store, &["feed-down", "bypass"]);
    let mut client = server.client();
    until("the feed is there", || source_info(&mut client, "feed") == "following");
    assert_eq!(get(&mut client, "user:1"), "name1");
    assert!(nothing(&mut client, "user:101"));
    let asked = source_info(&mut client, "asked");
    assert_eq!(get(&mut client, "user:1"), "name1");
    assert_eq!(source_info(&mut client, "asked"), asked);
    cut_feed(&store);
    until("the feed is gone", || source_info(&mut client, "feed") == "interrupted");
    store.sql("UPDATE users SET name = 'unheard' WHERE id = 1; INSERT INTO users VALUES (101, 'new')");
    // Looked at some times a second; from then on every read sees what the store has.
    until("copies are passed by", || get(&mut client, "user:1") == "unheard");
    until("and what was absent", || get(&mut client, "user:101") == "new");
    for n in 0..20 {
        store.sql(&format!("UPDATE users SET name = 'n{n}' WHERE id = 1"));
        assert_eq!(get(&mut client, "user:1"), format!("n{n}"));
    }
    store.kill();
    // There is a copy, and nobody knows whether it is old.
    assert!(get(&mut client, "user:1").starts_with("SOURCEDOWN"));
    store.run().unwrap();
    store.sql("ALTER ROLE app REPLICATION");
    until("the feed is back", || source_info(&mut client, "feed") == "following");
    until("copies are given", || {
        let asked = source_info(&mut client, "asked");
        get(&mut client, "user:1") == "n19" && source_info(&mut client, "asked") == asked
    });
}

#[test]
fn copies_are_given_for_as_long_as_the_route_says_while_changes_are_not_told() {
    let Some(store) = stores::postgres() else { return };
    fill(&store);
    let (server, _folder) = over_postgres_as_app(&store, &["feed-down", "2s"]);
    let mut client = server.client();
    until("the feed is there", || source_info(&mut client, "feed") == "following");
    assert_eq!(get(&mut client, "user:1"), "name1");
    cut_feed(&store);
    let start = Instant::now();
    until("the feed is gone", || source_info(&mut client, "feed") == "interrupted");
    store.sql("UPDATE users SET name = 'unheard' WHERE id = 1");
    let first = get(&mut client, "user:1");
    assert!(first == "name1" || start.elapsed() > Duration::from_secs(2), "{first}");
    until("copies are passed by", || get(&mut client, "user:1") == "unheard");
    assert!(start.elapsed() >= Duration::from_secs(2));
}

/// A counter of the only route.
fn counted(client: &mut Client, name: &str) -> i64 {
    let routes = client.run("CACHE ROUTE LIST").unwrap();
    let pairs = routes.items().unwrap()[0].pairs();
    pairs.iter().find(|(field, _)| field.text() == name).unwrap().1.integer().unwrap()
}

#[test]
fn what_is_asked_for_while_the_feed_begins_is_fetched_once() {
    let Some(store) = stores::postgres() else { return };
    fill(&store);
    // A feed begins once what is under way is over.
    let mut session = store.session();
    session.run("BEGIN; INSERT INTO users VALUES (1000, 'x')").unwrap();
    let others = [&USERS[..], &["invalidate", "users.id"]].concat();
    let (server, _folder) = over_store(&store.url(), &["connect-timeout", "60s"], &others);
    let mut client = server.client();
    let mut reader = server.client();
    reader.send(&["GET", "user:7"]).unwrap();
    until("it is missed", || counted(&mut client, "misses") == 1);
    assert_eq!(source_info(&mut client, "feed_changes"), "0");
    session.run("COMMIT").unwrap();
    assert_eq!(reader.read().unwrap().text(), "name7");
    assert_eq!(client.run("EXISTS user:7").unwrap().integer(), Some(1));
    let counts = ["loads", "loads_not_kept"].map(|name| counted(&mut client, name));
    assert_eq!(counts, [1, 0]);
    // And it is looked after.
    until("the feed is there", || source_info(&mut client, "feed") == "following");
    store.sql("UPDATE users SET name = 'changed' WHERE id = 7");
    until("a change by others is seen", || get(&mut client, "user:7") == "changed");
}

/// While it lives commits wait for a standby that there is not.
struct Awaited<'s>(&'s Store);

impl Awaited<'_> {
    fn by(store: &Store) -> Awaited<'_> {
        store.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
        store.sql("SELECT pg_reload_conf()");
        until("it is so", || store.sql("SHOW synchronous_standby_names").trim() == "nobody");
        Awaited(store)
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.sql("ALTER SYSTEM SET synchronous_standby_names = ''");
        self.0.sql("SELECT pg_reload_conf()");
    }
}

/// A commit that waits for a standby is told before others see it, however long that takes.
#[test]
fn a_copy_goes_when_others_see_the_change() {
    let Some(store) = stores::postgres() else { return };
    fill(&store);
    let others = [&USERS[..], &["invalidate", "users.id", "ttl", "1h"]].concat();
    let (server, _folder) = over_store(&store.url(), &["settle", "1ms"], &others);
    let mut client = server.client();
    until("the feed is there", || source_info(&mut client, "feed") == "following");
    assert_eq!(get(&mut client, "user:7"), "name7");
    thread::scope(|scope| {
        let awaited = Awaited::by(&store);
        scope.spawn(|| store.sql("UPDATE users SET name = 'changed' WHERE id = 7"));
        until("it is told", || source_info(&mut client, "feed_changes") == "1");
        // Nobody sees it yet, so this is what there is, and it is kept.
        thread::sleep(Duration::from_millis(50));
        assert_eq!(get(&mut client, "user:7"), "name7");
        assert_eq!(client.run("EXISTS user:7").unwrap().integer(), Some(1));
        drop(awaited);
    });
    assert_eq!(store.sql("SELECT name FROM users WHERE id = 7").trim(), "changed");
    until("the copy has gone", || get(&mut client, "user:7") == "changed");
}

#[test]
fn nothing_stays_in_the_store_once_nobody_follows() {
    let Some(store) = stores::postgres() else { return };
    fill(&store);
    let left = || {
        store
            .sql("SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_publication)")
    };
    let (mut server, _folder) = over_postgres(&store, &["invalidate", "users.id"]);
    let mut client = server.client();
    until("the feed is there", || source_info(&mut client, "feed") == "following");
    assert_eq!(left().trim(), "2");
    ok(&mut client, "CACHE ROUTE DEL user:<id>");
    until("they are gone with the route", || left().trim() == "0");
    let query = "SELECT name FROM users WHERE id = $id";
    let words = ["user:<id>", "shop", "as", "string", "query", query, "invalidate", "users.id"];
    let set = client.command(&[&["CACHE", "ROUTE", "SET"], &words[..]].concat()).unwrap();
    assert!(is_ok(&set), "{set:?}");
    until("the feed is there again", || source_info(&mut client, "feed") == "following");
    assert_eq!(get(&mut client, "user:1"), "name1");
    assert_eq!(left().trim(), "2");
    signal(&server, "TERM");
    assert_eq!(server.wait_for_end(SOON), Some(true));
    assert_eq!(left().trim(), "0", "{}", server.log());
}

#[test]
fn a_server_of_our_kind_is_a_source_and_this_one_a_near_cache() {
    let origin = larder(1, &[]);
    let mut far = origin.client();
    far.run("HSET u:1 name Ada age 36").unwrap();
    ok(&mut far, "SET s:1 far");
    let url = format!("redis://{}", origin.address());
    let server = larder(
        2,
        &[
            "--source",
            "far",
            &url,
            "--route",
            "u:<id>",
            "far",
            "as",
            "hash",
            "query",
            "HGETALL u:$id",
            "--route",
            "s:<id>",
            "far",
            "as",
            "string",
            "query",
            "GET s:$id",
            "writes",
            "through",
            "set",
            "SET s:$id $value",
        ],
    );
    let mut near = server.client();
    assert_eq!(near.run("HGET u:1 name").unwrap().text(), "Ada");
    assert_eq!(get(&mut near, "s:1"), "far");
    assert!(nothing(&mut near, "s:2"));
    ok(&mut near, "SET s:2 written");
    assert_eq!(far.run("GET s:2").unwrap().text(), "written");
    assert_eq!(get(&mut near, "s:2"), "written");
    assert!(near.run("HGET u:2 name").unwrap().bytes().is_none());
}

/// Requests that origins were sent for paths that begin with /api/slow.
static SLOW: AtomicUsize = AtomicUsize::new(0);

/// An origin that answers as its paths say: /users/N, nothing at /users/0, and /slow/N after 200 ms.
fn origin() -> String {
    let url = scenario::origin(|path, known| {
        if path.starts_with("/api/tagged") {
            return Some(tagged(known));
        }
        if path.starts_with("/api/slow") {
            SLOW.fetch_add(1, Relaxed);
            thread::sleep(Duration::from_millis(200));
        }
        let (status, body) = match path.rsplit('/').next() {
            Some("0") => ("404 Not Found", String::new()),
            Some(id) => ("200 OK", format!("{{\"path\":\"{path}\",\"id\":\"{id}\"}}")),
            None => ("400 Bad Request", String::new()),
        };
        let head = "Content-Type: application/json\r\nCache-Control: max-age=30";
        Some(format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    });
    format!("{url}/api")
}

/// The version of what has a tag; how often it was sent whole, and how often not.
static VERSION: AtomicUsize = AtomicUsize::new(1);
static WHOLE: AtomicUsize = AtomicUsize::new(0);
static UNCHANGED: AtomicUsize = AtomicUsize::new(0);

/// An answer with a tag, whole unless the tag is known.
fn tagged(known: Option<&str>) -> String {
    let version = VERSION.load(Relaxed);
    let tag = format!("\"v{version}\"");
    if known == Some(&tag) {
        UNCHANGED.fetch_add(1, Relaxed);
        return format!("HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\nCache-Control: max-age=1\r\n\r\n");
    }
    WHOLE.fetch_add(1, Relaxed);
    let body = format!("version {version}");
    format!(
        "HTTP/1.1 200 OK\r\nETag: {tag}\r\nCache-Control: max-age=1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn an_origin_need_not_send_again_what_has_not_changed() {
    let url = origin();
    let route = ["page:<id>", "web", "as", "string", "query", "GET /tagged/$id", "stale-if-error", "1h"];
    let options = ["jitter", "0", "refresh-ahead", "no"];
    let all = [&["--source", "web", &url, "--route"], &route[..], &options].concat();
    let server = larder(2, &all);
    let mut client = server.client();
    assert_eq!(get(&mut client, "page:1"), "version 1");
    let end = |client: &mut Client| client.run("PEXPIRETIME page:1").unwrap().integer().unwrap();
    let first = end(&mut client);
    until("it is asked again", || get(&mut client, "page:1") == "version 1" && UNCHANGED.load(Relaxed) == 1);
    assert_eq!(WHOLE.load(Relaxed), 1);
    assert!(end(&mut client) > first, "it is fresh again");
    VERSION.store(2, Relaxed);
    until("a new version is seen", || get(&mut client, "page:1") == "version 2");
    assert_eq!(WHOLE.load(Relaxed), 2);
    // What was dropped is sent whole, though its tag was known.
    assert_eq!(client.run("DEL page:1").unwrap().integer(), Some(1));
    assert_eq!(get(&mut client, "page:1"), "version 2");
    assert_eq!(WHOLE.load(Relaxed), 3);
    let unchanged = client.run("CACHE ROUTE LIST").unwrap().items().unwrap()[0].pairs();
    let unchanged = unchanged.iter().find(|(name, _)| name.text() == "loads_unchanged").unwrap();
    assert!(unchanged.1.integer().unwrap() >= 1);
}

#[test]
fn cache_get_waits_as_long_as_it_is_told() {
    let url = origin();
    let route = ["page:<id>", "web", "as", "string", "query", "GET /slow/$id"];
    let server = larder(2, &[&["--source", "web", &url, "--route"], &route[..]].concat());
    let mut client = server.client();
    let status = |client: &mut Client, key: &str, wait: &str| {
        let answer = client.command(&["CACHE", "GET", key, "WAIT", wait, "META"]).unwrap();
        answer.pairs()[0].1.text()
    };
    // It takes 200 ms, and goes on without those who wait no longer.
    assert_eq!(status(&mut client, "page:1", "0"), "MISS");
    assert_eq!(status(&mut client, "page:1", "20"), "MISS");
    until("it has come", || status(&mut client, "page:1", "0") == "HIT");
    assert_eq!(status(&mut client, "page:2", "60000"), "LOADED");
}

/// A thousand clients that miss a key at once are one request, and others are served meanwhile. How long it takes is printed, and
/// decides nothing.
#[test]
fn a_stampede_is_one_question() {
    let url = origin();
    let route = ["slow:<id>", "web", "as", "string", "query", "GET /slow/$id"];
    let server = larder(2, &[&["--source", "web", &url, "--route"][..], &route].concat());
    let mut clients: Vec<Client> = (0..1000).map(|_| server.client()).collect();
    let start = Instant::now();
    for client in &mut clients {
        client.send(&["GET", "slow:7"]).unwrap();
    }
    let mut other = server.client();
    let (mut others, mut slowest) = (0, Duration::ZERO);
    while others < 10 || start.elapsed() < Duration::from_millis(150) {
        let asked = Instant::now();
        ok(&mut other, "SET elsewhere 1");
        (others, slowest) = (others + 1, slowest.max(asked.elapsed()));
    }
    for client in &mut clients {
        assert_eq!(client.read().unwrap().text(), r#"{"path":"/api/slow/7","id":"7"}"#);
    }
    println!("all answered after {:?}; {others} others, the slowest in {slowest:?}", start.elapsed());
    assert_eq!(SLOW.load(Relaxed), 1);
    assert!(others > 0);
}

#[test]
fn who_goes_away_takes_no_answer_from_others() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let url = scenario::origin(move |_, _| {
        counted.fetch_add(1, Relaxed);
        thread::sleep(Duration::from_millis(300));
        Some("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere".to_owned())
    });
    let route = ["page:<id>", "web", "as", "string", "query", "GET /$id"];
    let server = larder(2, &[&["--source", "web", &url, "--route"][..], &route].concat());
    let mut first = server.client();
    first.send(&["GET", "page:1"]).unwrap();
    until("it is asked for", || asked.load(Relaxed) == 1);
    drop(first);
    let mut others: Vec<Client> = (0..10).map(|_| server.client()).collect();
    for client in &mut others {
        client.send(&["GET", "page:1"]).unwrap();
    }
    for client in &mut others {
        assert_eq!(client.read().unwrap().text(), "there");
    }
    // Who is alone and goes away leaves a copy for the next.
    let mut alone = server.client();
    alone.send(&["GET", "page:2"]).unwrap();
    until("it is asked for", || asked.load(Relaxed) == 2);
    drop(alone);
    assert_eq!(get(&mut server.client(), "page:2"), "there");
    assert_eq!(asked.load(Relaxed), 2);
}

#[test]
fn an_http_origin_is_a_source() {
    let url = origin();
    let server = larder(
        1,
        &[
            "--source",
            "web",
            &url,
            "--route",
            "page:<id>",
            "web",
            "as",
            "string",
            "query",
            "GET /users/$id",
            "ttl",
            "1h",
        ],
    );
    let mut client = server.client();
    assert_eq!(get(&mut client, "page:7"), r#"{"path":"/api/users/7","id":"7"}"#);
    assert!(nothing(&mut client, "page:0"));
    assert_eq!(get(&mut client, "page:a/b c"), r#"{"path":"/api/users/a%2Fb%20c","id":"a%2Fb%20c"}"#);
    let ttl = client.run("TTL page:7").unwrap().integer().unwrap();
    assert!((20..=30).contains(&ttl), "as long as the origin says: {ttl}");
}
