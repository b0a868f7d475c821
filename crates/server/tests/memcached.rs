//! The memcached port beside the Redis port: the same keys, the same rules, the same limits.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::{Server, Value};
use rusqlite::Connection;
use scenario::{info, larder, ok, until};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// A client of the door.
struct Door {
    stream: TcpStream,
}

impl Door {
    fn open(port: u16) -> Door {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Door { stream }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads until an answer ends so.
    fn read_to(&mut self, end: &str) -> String {
        let (mut got, mut buffer) = (Vec::new(), [0; 65536]);
        while !got.ends_with(end.as_bytes()) {
            let count = self.stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "the connection ended after {:?}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&buffer[..count]);
        }
        got.truncate(got.len() - end.len());
        String::from_utf8(got).unwrap()
    }

    /// What is answered to lines, each without its end.
    fn ask(&mut self, lines: &str) -> String {
        self.send(format!("{}\r\nmn\r\n", lines.replace('\n', "\r\n")).as_bytes());
        self.read_to("MN\r\n").replace("\r\n", "\n")
    }

    /// The number of a key's version.
    fn version(&mut self, key: &str) -> String {
        let answer = self.ask(&format!("gets {key}"));
        answer.lines().next().and_then(|line| line.split(' ').nth(4)).unwrap().to_owned()
    }

    fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).is_ok() && rest.is_empty()
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn serve(threads: usize, options: &[&str]) -> (Server, u16) {
    let port = free_port();
    let text = port.to_string();
    let all: Vec<&str> = ["--memcached-port", &text].into_iter().chain(options.iter().copied()).collect();
    (larder(threads, &all), port)
}

#[test]
fn both_sides_see_the_same_strings() {
    let (server, port) = serve(2, &[]);
    let (mut door, mut redis) = (Door::open(port), server.client());
    assert_eq!(door.ask("set k 7 0 5\nhello"), "STORED\n");
    assert_eq!(redis.run("GET k").unwrap().text(), "hello");
    ok(&mut redis, "SET k there");
    assert_eq!(door.ask("get k"), "VALUE k 0 5\nthere\nEND\n");
    for change in
        ["SET k a", "APPEND k b", "SETRANGE k 0 c", "SETBIT k 1 1", "INCR n", "GETSET k z", "INCRBYFLOAT n 1"]
    {
        ok(&mut redis, "SET n 1");
        let key = change.split(' ').nth(1).unwrap();
        assert_eq!(door.ask(&format!("set {key} 9 0 1\n5")), "STORED\n");
        let version = door.version(key);
        redis.run(change).unwrap();
        let stale = door.ask(&format!("cas {key} 0 0 1 {version}\nx"));
        assert_eq!(stale, "EXISTS\n", "{change}");
        let next = door.version(key);
        assert_ne!(next, version, "{change}");
        assert!(door.ask(&format!("mg {key} f")).starts_with("HD f0"), "{change}");
        assert_eq!(door.ask(&format!("cas {key} 4 0 1 {next}\ny")), "STORED\n", "{change}");
        assert_eq!(redis.command(&["GET", key]).unwrap().text(), "y");
    }
    // What leaves a value as it is leaves its version and its flags.
    door.ask("set k 3 0 1\n1");
    let version = door.version("k");
    for harmless in [
        &["EXPIRE k 100"][..],
        &["PERSIST k"],
        &["GET k"],
        &["OBJECT ENCODING k"],
        &["RENAME k j", "RENAME j k"],
        &["COPY k j"],
    ] {
        harmless.iter().for_each(|line| drop(redis.run(line).unwrap()));
        assert_eq!(door.version("k"), version, "{harmless:?}");
    }
    assert_eq!(door.ask("get k j"), "VALUE k 3 1\n1\nVALUE j 3 1\n1\nEND\n");
    redis.run("DEL k").unwrap();
    assert_eq!(door.ask(&format!("cas k 0 0 1 {version}\nx")), "NOT_FOUND\n");
    let long = "x".repeat(100_000);
    assert_eq!(door.ask(&format!("set k 3 0 100000\n{long}")), "STORED\n");
    let version = door.version("k");
    redis.run("APPEND k y").unwrap();
    assert_eq!(door.ask(&format!("cas k 0 0 1 {version}\nx")), "EXISTS\n");
    assert_eq!(door.ask("get k"), format!("VALUE k 0 100001\n{long}y\nEND\n"));
}

#[test]
fn what_holds_no_string_is_left_alone() {
    let (server, port) = serve(2, &[]);
    let (mut door, mut redis) = (Door::open(port), server.client());
    redis.run("RPUSH l a b").unwrap();
    for (lines, answer) in [
        ("get l", "END\n"),
        ("gets l l", "END\n"),
        ("gat 100 l", "END\n"),
        ("mg l v", "EN\n"),
        ("mg l N30 v", "EN\n"),
        ("me l", "EN\n"),
        ("add l 0 0 1\n1", "NOT_STORED\n"),
        ("replace l 0 0 1\n1", "NOT_STORED\n"),
        ("append l 0 0 1\n1", "NOT_STORED\n"),
        ("ms l 1 MA\n1", "NS\n"),
        ("ms l 1 MR\n1", "NS\n"),
        ("ms l 1 C1\n1", "EX\n"),
        ("cas l 0 0 1 1\n1", "EXISTS\n"),
        ("incr l 1", "CLIENT_ERROR cannot increment or decrement non-numeric value\n"),
        ("ma l", "CLIENT_ERROR cannot increment or decrement non-numeric value\n"),
        ("md l I", "NF\n"),
    ] {
        assert_eq!(door.ask(lines), answer, "{lines}");
        assert_eq!(redis.run("LLEN l").unwrap(), Value::Integer(2), "{lines}");
    }
    assert_eq!(door.ask("set l 1 0 1\n1"), "STORED\n");
    assert_eq!(redis.run("GET l").unwrap().text(), "1");
    redis.run("SADD s a").unwrap();
    assert_eq!(door.ask("delete s"), "DELETED\n");
}

#[test]
fn keys_are_listed_up_to_a_limit_where_the_user_may() {
    let (server, port) = serve(2, &[]);
    let (mut door, mut redis) = (Door::open(port), server.client());
    assert_eq!(door.ask("stats items\nstats cachedump 1 0"), "END\nEND\n");
    assert_eq!(door.ask("set k 0 0 3\nabc"), "STORED\n");
    ok(&mut redis, "SET ends 12345 EXAT 4102444800");
    redis.run("SADD set member").unwrap();
    redis.command(&["SET", "two\r\nlines", "x"]).unwrap();
    assert_eq!(door.ask("stats items"), "STAT items:1:number 4\nEND\n");
    let mut lines: Vec<String> = door.ask("stats cachedump 1 0").lines().map(str::to_owned).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["END", "ITEM ends [5 b; 4102444800 s]", "ITEM k [3 b; 0 s]"]);
    assert_eq!(door.ask("stats cachedump 1 1").lines().count(), 2);
    assert_eq!(door.ask("stats cachedump 2 0"), "END\n");
    for number in 0..30_000 {
        door.send(format!("set {}{number} 0 0 1 noreply\r\nx\r\n", "n".repeat(100)).as_bytes());
    }
    assert_eq!(door.ask("get none"), "END\n");
    let bytes = door.ask("stats cachedump 1 0").len();
    assert!((1_800_000..2_100_000).contains(&bytes), "{bytes}");
    // It tells names, so it is a dangerous command.
    ok(&mut redis, "ACL SETUSER default -@dangerous");
    assert!(door.ask("stats cachedump 1 0").starts_with("SERVER_ERROR NOPERM"));
    assert!(door.ask("stats items").ends_with("END\n"));
}

#[test]
fn others_hear_of_what_the_door_changes() {
    let (server, port) = serve(1, &["--notify-keyspace-events", "KEA"]);
    let (mut door, mut redis, mut listener) = (Door::open(port), server.client(), server.client());
    listener.run("PSUBSCRIBE __keyevent@0__:*").unwrap();
    for (lines, events) in [
        ("set k 0 100 1\n1", &["set", "expire"][..]),
        ("incr k 1", &["incrby"]),
        ("append k 0 0 1\n1", &["append"]),
        ("touch k 0", &["persist"]),
        ("gat 100 k", &["expire"]),
        ("ms k 1\n1", &["set"]),
        ("delete k", &["del"]),
    ] {
        redis.run("WATCH k").unwrap();
        redis.run("MULTI").unwrap();
        redis.run("PING").unwrap();
        door.ask(lines);
        let is_aborted = redis.run("EXEC").unwrap() == Value::NilArray;
        assert!(is_aborted, "{lines}");
        for event in events {
            let message = listener.read().unwrap();
            let words: Vec<String> = message.items().unwrap().iter().map(Value::text).collect();
            assert_eq!(words[2..], [format!("__keyevent@0__:{event}"), "k".into()], "{lines}");
        }
    }
    // A waiting client is served by what takes the place of its list, too: it goes on waiting, and nobody is lost.
    door.ask("set k 0 0 1\n1");
    assert_eq!(redis.run("GET k").unwrap().text(), "1");
}

#[test]
fn the_default_user_decides() {
    let (server, port) = serve(2, &[]);
    let (mut door, mut redis) = (Door::open(port), server.client());
    redis.run("ACL SETUSER admin on nopass +@all ~* &*").unwrap();
    redis.run("AUTH admin x").unwrap();
    redis.run("ACL SETUSER default -@all +memcached|get +memcached|mn resetkeys ~public:*").unwrap();
    assert!(door.ask("get private").starts_with("SERVER_ERROR NOPERM "));
    assert_eq!(door.ask("get public:1"), "END\n");
    assert!(door.ask("set public:1 0 0 1\n1").starts_with("SERVER_ERROR NOPERM "));
    // Whoever wants no answer gets none, or would take it for another's.
    assert_eq!(door.ask("set public:1 0 0 1 noreply\n1\nget public:1"), "END\n");
    redis.run("ACL SETUSER default +@all ~*").unwrap();
    assert_eq!(door.ask("set public:1 0 0 1\n1"), "STORED\n");
    ok(&mut redis, "CONFIG SET requirepass secret");
    let mut stranger = Door::open(port);
    stranger.send(b"get public:1\r\nset k 0 0 1\r\n1\r\nset k 0 0 1000000\r\n");
    stranger.read_to(
        "CLIENT_ERROR unauthenticated\r\nCLIENT_ERROR unauthenticated\r\nCLIENT_ERROR unauthenticated\r\n",
    );
    // A million bytes are on their way: none of them is kept.
    stranger.send(&vec![b'x'; 900_000]);
    let clients = redis.run("CLIENT LIST").unwrap().text();
    assert!(clients.lines().any(|line| line.contains(" resp=0 ")), "{clients}");
    until("nothing is kept", || !redis.run("CLIENT LIST").unwrap().text().contains("qbuf=9"));
}

#[test]
fn memory_has_a_limit_here_too() {
    let (server, port) = serve(2, &[]);
    let (mut door, mut redis) = (Door::open(port), server.client());
    assert_eq!(door.ask("set k 0 0 1\n1"), "STORED\n");
    ok(&mut redis, "CONFIG SET maxmemory 1");
    assert_eq!(door.ask("set k 0 0 1\n2"), "SERVER_ERROR out of memory storing object\n");
    assert_eq!(door.ask("ms k 1\n2"), "SERVER_ERROR out of memory storing object\n");
    assert_eq!(door.ask("incr k 1"), "SERVER_ERROR out of memory storing object\n");
    assert_eq!(door.ask("set k 0 0 1 noreply\n2\nget k"), "VALUE k 0 1\n1\nEND\n");
    assert_eq!(door.ask("delete k"), "DELETED\n");
    let limit = 40 << 20;
    ok(
        &mut redis,
        &format!("CONFIG SET maxmemory {limit} maxmemory-policy allkeys-lru maxmemory-max-entry 1000000"),
    );
    let value = "v".repeat(10_000);
    for number in 0..8000 {
        door.send(format!("set k{number} 1 0 10000 noreply\r\n{value}\r\n").as_bytes());
    }
    assert_eq!(door.ask("get k7999").len(), 10_000 + "VALUE k7999 1 10000\n\nEND\n".len());
    assert!(info(&mut redis, "evicted_keys").parse::<u64>().unwrap() > 1000);
    assert_eq!(
        door.ask(&format!("set long 0 0 1000001\n{}", "v".repeat(1_000_001))),
        "SERVER_ERROR object too large for cache\n"
    );
}

#[test]
fn keys_of_a_route_are_fetched_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    let store = Connection::open(&path).unwrap();
    store
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
             INSERT INTO users VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Ann');",
        )
        .unwrap();
    let url = format!("sqlite:{}", path.display());
    let query = "SELECT name FROM users WHERE id = $id";
    let set = "INSERT INTO users VALUES ($id, $value) ON CONFLICT(id) DO UPDATE SET name = $value";
    let (server, port) = serve(
        2,
        &[
            "--source",
            "shop",
            &url,
            "--route",
            "user:<id:int>",
            "shop",
            "as",
            "string",
            "query",
            query,
            "writes",
            "through",
            "set",
            set,
            "del",
            "DELETE FROM users WHERE id = $id",
        ],
    );
    let (mut door, mut redis) = (Door::open(port), server.client());
    let name_of = |id: i64| {
        store.query_row(query.replace("$id", "?1").as_str(), [id], |row| row.get::<_, String>(0)).ok()
    };
    assert_eq!(door.ask("get user:1"), "VALUE user:1 0 3\nAda\nEND\n");
    assert_eq!(
        door.ask("get user:2 user:9 user:3 other"),
        "VALUE user:2 0 5\nGrace\nVALUE user:3 0 3\nAnn\nEND\n"
    );
    redis.run("DEL other").unwrap();
    assert_eq!(door.ask("set user:1 0 0 3\nEve"), "STORED\n");
    assert_eq!((name_of(1), redis.run("GET user:1").unwrap().text()), (Some("Eve".into()), "Eve".into()));
    assert_eq!(door.ask("set user:4 5 100 3 noreply\nBob\nget user:4"), "VALUE user:4 5 3\nBob\nEND\n");
    assert_eq!(name_of(4), Some("Bob".into()));
    assert_eq!(door.ask("delete user:4"), "DELETED\n");
    assert_eq!(door.ask("delete user:4"), "NOT_FOUND\n");
    assert_eq!(name_of(4), None);
    for lines in ["add user:5 0 0 1\nx", "incr user:1 1", "ms user:1 1\nx", "mg user:7 N30"] {
        let refused = door.ask(lines);
        assert!(
            refused.starts_with("SERVER_ERROR ") && refused.contains("is refused by its route"),
            "{lines}: {refused}"
        );
    }
    ok(&mut redis, "FLUSHALL");
    assert_eq!(door.ask("mg user:2 v"), "VA 5\nGrace\n");
    ok(&mut redis, "FLUSHALL");
    assert_eq!(door.ask("gat 100 user:2"), "VALUE user:2 0 5\nGrace\nEND\n");
}

#[test]
fn old_values_are_stale_and_a_lease_says_who_makes_the_new_one() {
    let (server, port) = serve(1, &[]);
    let (mut door, mut redis) = (Door::open(port), server.client());
    let lease = redis.run("GETLEASE page").unwrap().items().unwrap()[1].text();
    ok(&mut redis, &format!("SETLEASE page {lease} old EX 1000 STALE 60000"));
    assert_eq!(door.ask("mg page v"), "VA 3\nold\n");
    redis.run("CACHE INVALIDATE KEYS 1 page SOFT").unwrap();
    assert_eq!(door.ask("mg page v"), "VA 3 X W\nold\n");
    assert_eq!(door.ask("mg page v"), "VA 3 Z X\nold\n");
    let reply = redis.run("GETLEASE page").unwrap();
    assert_eq!(reply.items().unwrap()[0].text(), "STALE");
    door.ask("ms page 3\nnew");
    assert_eq!(door.ask("mg page v"), "VA 3\nnew\n");
    assert_eq!(redis.run("GETLEASE page").unwrap().items().unwrap()[0].text(), "HIT");
}

#[test]
fn answers_keep_their_order_however_lines_arrive() {
    let (_server, port) = serve(2, &[]);
    let long = "v".repeat(70_000);
    let mut sent = String::new();
    let mut expected = String::new();
    for number in 0..200 {
        sent.push_str(&format!("set k{number} {number} 0 3\r\nabc\r\nget k{number} k\r\nset quiet 0 0 1 noreply\r\nx\r\nnonsense\r\n"));
        expected.push_str(&format!("STORED\r\nVALUE k{number} {number} 3\r\nabc\r\nEND\r\nERROR\r\n"));
        if number % 50 == 0 {
            sent.push_str(&format!("set long 0 0 70000\r\n{long}\r\nms Zm9v 3 b k\r\nfoo\r\nget long\r\n"));
            expected.push_str(&format!("STORED\r\nHD kZm9v b\r\nVALUE long 0 70000\r\n{long}\r\nEND\r\n"));
        }
    }
    for piece in [1_usize, 7, 100, 4096, usize::MAX] {
        let mut door = Door::open(port);
        let bytes = if piece == 1 { &sent.as_bytes()[..300] } else { sent.as_bytes() };
        for part in bytes.chunks(piece.min(bytes.len())) {
            door.send(part);
        }
        if piece == 1 {
            continue;
        }
        door.send(b"mn\r\n");
        assert_eq!(door.read_to("MN\r\n"), expected, "in pieces of {piece}");
    }
}

#[test]
fn the_port_is_a_port_like_the_other() {
    let (server, port) = serve(2, &["--maxclients", "3"]);
    let mut redis = server.client();
    let mut door = Door::open(port);
    assert_eq!(door.ask("set k 0 0 1\n1\nget k"), "STORED\nVALUE k 0 1\n1\nEND\n");
    let clients = redis.run("CLIENT LIST").unwrap().text();
    assert!(
        clients.lines().any(|line| line.contains(" resp=0 ") && line.contains(" cmd=memcached|mn ")),
        "{clients}"
    );
    assert!(info(&mut redis, "cmdstat_memcached|get").starts_with("calls=1,"));
    let listeners = redis.run("INFO server").unwrap().text();
    assert!(listeners.contains(&format!("name=memcached,bind=127.0.0.1,port={port}")), "{listeners}");
    let stats = door.ask("stats");
    assert!(stats.contains("STAT curr_items 1\n") && stats.ends_with("END\n"), "{stats}");
    let _third = Door::open(port);
    Door::open(port).read_to("ERROR Too many open connections\r\n");
    drop(_third);
    // No name of a Redis command leads here, and COMMAND knows none of it.
    assert!(redis.run("MEMCACHED get k").unwrap().text().contains("unknown command"));
    assert_eq!(redis.run("COMMAND INFO memcached").unwrap().items().unwrap()[0], Value::NilBulk);
    assert_eq!(door.ask("flush_all 1\nget k"), "OK\nVALUE k 0 1\n1\nEND\n");
    until("the delay is over", || door.ask("get k") == "END\n");
    let other = free_port();
    ok(&mut redis, &format!("CONFIG SET memcached-port {other}"));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert_eq!(door.ask("get k"), "END\n");
    until("a place is free", || info(&mut redis, "connected_clients") == "2");
    assert_eq!(Door::open(other).ask("get k"), "END\n");
    ok(&mut redis, "CONFIG SET memcached-port 0");
    let mut last = Door { stream: door.stream.try_clone().unwrap() };
    last.send(b"quit\r\n");
    assert!(last.is_closed());
}

#[test]
fn a_busy_script_is_told_and_nothing_is_lost() {
    let (server, port) = serve(2, &["--busy-reply-threshold", "50"]);
    let (mut door, mut busy, mut redis) = (Door::open(port), server.client(), server.client());
    door.ask("set k 0 0 1\n1");
    busy.send(&["EVAL", "while true do redis.call('get', 'other') end", "0"]).unwrap();
    until("the script is busy", || redis.run("PING").unwrap().text().contains("BUSY"));
    door.send(b"get k\r\n");
    assert!(door.read_to("\r\n").starts_with("SERVER_ERROR BUSY "));
    ok(&mut redis, "SCRIPT KILL");
    until("it has ended", || door.ask("get k") == "VALUE k 0 1\n1\nEND\n");
}

#[test]
fn flags_and_versions_last_over_a_restart() {
    for appendonly in ["no", "yes"] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_str().unwrap();
        let options = ["--dir", dir, "--save", "", "--appendonly", appendonly, "--appendfsync", "always"];
        let (server, port) = serve(2, &options);
        let mut door = Door::open(port);
        let mut redis = server.client();
        let long = "x".repeat(3000);
        door.ask(
            "set short 5 0 3\nabc\nset number 4294967295 0 2\n42\nset plain 0 0 1\np\nset end 9 3000 1\ne",
        );
        door.ask(&format!(
            "set long 6 0 3000\n{long}\nset moved 7 0 1\nm\nset gone 8 0 1\ng\nms stale 2 T0 F3\nab"
        ));
        assert_eq!(redis.run("RENAME moved there").unwrap().text(), "OK");
        assert_eq!(redis.run("SET gone plain").unwrap().text(), "OK");
        assert_eq!(door.ask("md stale I"), "HD\n");
        let version = door.version("short");
        if appendonly == "no" {
            ok(&mut redis, "SAVE");
        }
        drop((server, door));
        let (server, port) = serve(2, &options);
        until("it is loaded", || !server.client().run("DBSIZE").unwrap().is_error());
        let mut door = Door::open(port);
        let expected = "VALUE short 5 3\nabc\nVALUE number 4294967295 2\n42\nVALUE plain 0 1\np\nVALUE there 7 1\nm\n\
                        VALUE gone 0 5\nplain\nEND\n";
        assert_eq!(door.ask("get short number plain there gone"), expected);
        assert_eq!(door.ask("get long"), format!("VALUE long 6 3000\n{long}\nEND\n"));
        assert_eq!(door.ask("mg end f t v").split(' ').take(3).collect::<Vec<_>>(), ["VA", "1", "f9"]);
        assert_eq!(door.ask("get stale"), "END\n");
        if appendonly == "no" {
            assert_eq!(door.ask(&format!("cas short 5 0 3 {version}\nnew")), "STORED\n");
        } else {
            // The number was given out behind the write, which the log does not tell.
            assert_eq!(door.ask(&format!("cas short 5 0 3 {version}\nnew")), "EXISTS\n");
        }
        drop((server, door));
        let options = ["--dir", dir, "--appendonly", appendonly];
        let Some(other) = larder_testkit::server::available(larder_testkit::Redis82::start_with(&options))
        else {
            return;
        };
        let mut other = other.client();
        assert_eq!(other.run("MGET number there long").unwrap().items().unwrap()[2].text(), long);
        assert_eq!(other.run("GET number").unwrap().text(), "42");
    }
}
