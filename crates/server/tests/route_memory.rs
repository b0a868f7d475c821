//! Routes whose keys have room of their own: they stay within it, push nothing else out, and leave by their own policy.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::{Client, Server};
use rusqlite::Connection;
use scenario::{figure, larder, ok, until};
use tempfile::TempDir;

/// Pages of a kilobyte each, in a SQLite file.
struct Pages {
    _dir: TempDir,
    url: String,
}

impl Pages {
    fn new(count: usize) -> Pages {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pages.db");
        let store = Connection::open(&path).unwrap();
        store
            .execute_batch(
                "PRAGMA journal_mode = WAL; CREATE TABLE pages (id INTEGER PRIMARY KEY, body TEXT)",
            )
            .unwrap();
        store
            .execute(
                "WITH RECURSIVE ids(id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM ids WHERE id + 1 < ?1)
                 INSERT INTO pages SELECT id, hex(zeroblob(512)) FROM ids",
                [count as i64],
            )
            .unwrap();
        Pages { url: format!("sqlite:{}", path.display()), _dir: dir }
    }

    /// A server with a route to them, with these options behind it, and these of the server.
    fn serve(&self, threads: usize, route: &[&str], options: &[&str]) -> Server {
        let mut all = vec!["--source", "cms", &self.url, "--route", "page:<id:int>", "cms", "as", "string"];
        all.extend(["query", "SELECT body FROM pages WHERE id = $id"]);
        all.extend(route);
        all.extend(options);
        larder(threads, &all)
    }
}

/// A figure of the only route.
fn of_route(client: &mut Client, name: &str) -> i64 {
    let routes = client.run("CACHE ROUTE LIST").unwrap();
    let pairs = routes.items().unwrap()[0].pairs().to_vec();
    let found = pairs.iter().find(|(field, _)| field.text() == name);
    found.unwrap_or_else(|| panic!("no field {name}")).1.integer().unwrap()
}

fn read_page(client: &mut Client, id: usize) {
    let page = client.run(&format!("GET page:{id}")).unwrap();
    assert_eq!(page.bytes().map(<[u8]>::len), Some(1024), "{page:?}");
}

#[test]
fn pages_stay_within_their_share_and_push_no_session_out() {
    let pages = Pages::new(3000);
    for (threads, policy) in [(1, "lru"), (2, "adaptive"), (2, "allkeys-s3fifo"), (1, "gdsf"), (1, "random")]
    {
        let route = ["maxmemory", "1mb", "maxmemory-policy", policy];
        let server =
            pages.serve(threads, &route, &["--maxmemory", "32mb", "--maxmemory-policy", "allkeys-lru"]);
        let mut client = server.client();
        for session in 0..2000 {
            ok(&mut client, &format!("SET session:{session} somebody-who-is-logged-in"));
        }
        for id in 0..3000 {
            read_page(&mut client, id);
        }
        until("pages are within their share", || of_route(&mut client, "memory_bytes") <= 1 << 20);
        assert_eq!(of_route(&mut client, "memory_limit"), 1 << 20);
        let kept = of_route(&mut client, "memory_keys");
        assert!((900..=1200).contains(&kept), "{policy}: {kept} pages of a kilobyte are kept in a megabyte");
        assert_eq!(
            figure(&mut client, "evicted_keys") as i64,
            of_route(&mut client, "memory_evicted"),
            "{policy}"
        );
        assert_eq!(
            client.run("DBSIZE").unwrap().integer().unwrap(),
            2000 + kept,
            "{policy}: no session left"
        );
        // What was read last is there.
        let loads = of_route(&mut client, "loads");
        read_page(&mut client, 2999);
        assert_eq!(of_route(&mut client, "loads"), loads, "{policy}");
        // A copy that is gone takes nothing.
        ok(&mut client, "FLUSHALL");
        assert_eq!((of_route(&mut client, "memory_keys"), of_route(&mut client, "memory_bytes")), (0, 0));
    }
}

#[test]
fn a_share_is_kept_without_any_other_limit_and_by_the_policy_of_the_route() {
    let pages = Pages::new(1000);
    let server = pages.serve(1, &["maxmemory", "256kb", "maxmemory-policy", "lru"], &[]);
    let mut client = server.client();
    for id in 0..1000 {
        read_page(&mut client, id);
        // One that is read again and again stays, whatever comes.
        read_page(&mut client, 0);
    }
    until("pages are within their share", || of_route(&mut client, "memory_bytes") <= 256 << 10);
    assert_eq!(of_route(&mut client, "misses"), 1000, "each page was missed once");
    // Idle times of such keys are told by their policy's clock, those of others by Redis'.
    ok(&mut client, "SET other value");
    for key in ["page:0", "other"] {
        assert_eq!(client.run(&format!("OBJECT IDLETIME {key}")).unwrap().integer(), Some(0));
    }
    let mru = pages.serve(1, &["maxmemory", "256kb", "maxmemory-policy", "mru"], &[]);
    let mut client = mru.client();
    (0..1000).for_each(|id| read_page(&mut client, id));
    until("pages are within their share", || of_route(&mut client, "memory_bytes") <= 256 << 10);
    let loads = of_route(&mut client, "loads");
    (0..100).for_each(|id| read_page(&mut client, id));
    assert_eq!(of_route(&mut client, "loads"), loads, "mru keeps the oldest");
}

#[test]
fn copies_leave_before_a_write_is_refused() {
    let pages = Pages::new(3000);
    let server =
        pages.serve(2, &["maxmemory", "50%"], &["--maxmemory", "12mb", "--maxmemory-policy", "noeviction"]);
    let mut client = server.client();
    (0..3000).for_each(|id| read_page(&mut client, id));
    assert_eq!(of_route(&mut client, "memory_limit"), (12 << 20) / 100 * 50);
    assert!(of_route(&mut client, "memory_keys") > 2000);
    let value = "v".repeat(10_000);
    let mut written = 0;
    while client.command(&["SET", &format!("session:{written}"), &value]).unwrap().text() == "OK" {
        written += 1;
        assert!(written < 2000, "a limit of 12 MB is a limit");
    }
    assert_eq!(of_route(&mut client, "memory_keys"), 0, "all copies left before that");
    assert!(written > 500, "{written}");
    ok(&mut client, "CONFIG SET maxmemory 24mb");
    until("the share follows the limit", || of_route(&mut client, "memory_limit") == (24 << 20) / 100 * 50);
}

#[test]
fn a_share_may_be_given_and_taken_while_keys_are_there() {
    let pages = Pages::new(2000);
    let server =
        pages.serve(2, &["writes", "cache"], &["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
    let mut client = server.client();
    // Not fetched, but the client's own: they stay when the route changes, for its copies alone are dropped.
    ok(&mut client, "CACHE ROUTE DEL page:<id:int>");
    for id in 0..2000 {
        client.command(&["SET", &format!("page:{id}"), &"p".repeat(1024)]).unwrap();
        ok(&mut client, &format!("SET other:{id} value"));
    }
    let set = |client: &mut Client, options: &[&str]| {
        let mut words = vec!["CACHE", "ROUTE", "SET", "page:<id:int>", "cms", "AS", "string", "QUERY"];
        words.extend(["SELECT body FROM pages WHERE id = $id", "writes", "cache"]);
        words.extend(options);
        client.command(&words).unwrap().text()
    };
    let refused = set(&mut client, &["maxmemory", "1mb", "maxmemory-policy", "best"]);
    assert!(refused.contains("there is no policy 'best'"), "{refused}");
    assert_eq!(set(&mut client, &["maxmemory", "1mb"]), "OK");
    until("what was there is counted and kept within the share", || {
        client.run("SET page:0 x").unwrap();
        let keys = of_route(&mut client, "memory_keys");
        (900..1200).contains(&keys) && of_route(&mut client, "memory_bytes") <= 1 << 20
    });
    let counted = |client: &mut Client| {
        let keys = of_route(client, "memory_keys");
        client.run("DBSIZE").unwrap().integer() == Some(2000 + keys) && keys > 900
    };
    until("all that is there is counted", || counted(&mut client));
    // Databases that are exchanged take their keys along; the room stays with the number.
    ok(&mut client, "SWAPDB 0 1");
    assert_eq!(of_route(&mut client, "memory_keys"), 0);
    ok(&mut client, "SWAPDB 0 1");
    until("they are counted again", || counted(&mut client));
}
