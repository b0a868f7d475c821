//! MIGRATE between the built server and a real redis-server, in both directions.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::{Client, Redis82, Server, Valkey, Value};
use scenario::{larder, ok};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

fn migrate(from: &mut Client, to: u16, rest: &str) -> String {
    from.run(&format!("MIGRATE 127.0.0.1 {to} {rest}")).unwrap().text()
}

fn moves_values(from: &Server, to: &Server) {
    let (mut source, mut target) = (from.client(), to.client());
    let large: Vec<u8> =
        (0..3_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let values: [&[u8]; 5] = [b"text", b"12345", b"", &large, b"\0\r\n\xff"];
    for (number, value) in values.iter().enumerate() {
        source.command(&[b"SET", format!("k{number}").as_bytes(), value]).unwrap();
    }
    source.run("PEXPIRE k0 100000").unwrap();
    assert_eq!(migrate(&mut source, to.port(), "k0 2 5000"), "OK");
    assert_eq!(source.run("EXISTS k0").unwrap(), Value::Integer(0));
    ok(&mut target, "SELECT 2");
    let ttl = target.run("PTTL k0").unwrap().integer().unwrap();
    assert!((90_000..=100_000).contains(&ttl), "{ttl}");
    let batch = [
        "MIGRATE",
        "127.0.0.1",
        &to.port().to_string(),
        "",
        "2",
        "5000",
        "COPY",
        "KEYS",
        "k1",
        "none",
        "k2",
        "k3",
        "k4",
    ];
    assert_eq!(source.command(&batch).unwrap().text(), "OK");
    assert_eq!(source.run("EXISTS k1 k2 k3 k4").unwrap(), Value::Integer(4));
    for (number, value) in values.iter().enumerate() {
        assert_eq!(target.run(&format!("GET k{number}")).unwrap().bytes().unwrap(), *value);
    }
    target.run("DEL k4").unwrap();
    let refusal = source.command(&batch).unwrap().text();
    assert_eq!(refusal, "ERR Target instance replied with error: BUSYKEY Target key name already exists.");
    assert_eq!(target.run("EXISTS k4").unwrap(), Value::Integer(1));
    let replace = [
        "MIGRATE",
        "127.0.0.1",
        &to.port().to_string(),
        "",
        "2",
        "5000",
        "REPLACE",
        "KEYS",
        "k1",
        "k2",
        "k3",
        "k4",
    ];
    assert_eq!(source.command(&replace).unwrap().text(), "OK");
    assert_eq!(source.run("DBSIZE").unwrap(), Value::Integer(0));
    assert_eq!(migrate(&mut source, to.port(), "k1 2 5000"), "NOKEY");
}

#[test]
fn values_move_to_redis_and_back() {
    let redis = Redis82::start().unwrap();
    for threads in [1, 2] {
        let ours = larder(threads, &[]);
        moves_values(&ours, &redis);
        ok(&mut redis.client(), "FLUSHALL");
        moves_values(&redis, &ours);
    }
}

/// What there is of keys and their ends, as far as servers tell it alike.
fn told(client: &mut Client, keys: &[String]) -> Vec<String> {
    let mut digests = vec!["DEBUG".to_owned(), "DIGEST-VALUE".to_owned()];
    digests.extend_from_slice(keys);
    let lines = [
        "PEXPIRETIME text",
        "HPEXPIRETIME hash:timed FIELDS 2 a b",
        "HPEXPIRETIME hash:timed:large FIELDS 1 f7",
        "XPENDING stream group",
        "PFCOUNT hll",
    ];
    let digests = client.command(&digests).unwrap();
    std::iter::once(digests)
        .chain(lines.map(|line| client.run(line).unwrap()))
        .map(|reply| reply.text())
        .collect()
}

/// Has one server hold values of every type and the other nothing; their keys, in order.
fn populated(source: &mut Client, target: &mut Client) -> Vec<String> {
    ok(source, "FLUSHALL");
    ok(target, "FLUSHALL");
    source.run("FUNCTION FLUSH").unwrap();
    scenario::populate(source);
    let mut keys: Vec<String> =
        source.run("KEYS *").unwrap().items().unwrap().iter().map(Value::text).collect();
    keys.sort();
    keys
}

#[test]
fn values_of_every_type_move_to_redis_and_back() {
    let Some(redis) = larder_testkit::server::available(Redis82::start()) else { return };
    let ours = larder(2, &[]);
    for (from, to) in [(&ours, &redis), (&redis, &ours)] {
        let (mut source, mut target) = (from.client(), to.client());
        let keys = populated(&mut source, &mut target);
        assert_eq!(keys.len(), 16);
        let before = told(&mut source, &keys);
        // By hand first, under other names: as a cluster's node would that moves a slot.
        for key in &keys {
            let payload = source.command(&["DUMP", key]).unwrap();
            let name = format!("restored:{key}");
            let restore: [&[u8]; 4] = [b"RESTORE-ASKING", name.as_bytes(), b"0", payload.bytes().unwrap()];
            assert_eq!(target.command(&restore).unwrap().text(), "OK", "{key}");
            assert!(target.command(&restore).unwrap().text().starts_with("BUSYKEY"), "{key}");
            let digest =
                |client: &mut Client, key: &str| client.command(&["DEBUG", "DIGEST-VALUE", key]).unwrap();
            if source.command(&["PTTL", key]).unwrap().integer() == Some(-1) {
                assert_eq!(digest(&mut target, &name), digest(&mut source, key), "{key}");
            }
        }
        let port = to.port().to_string();
        let mut batch = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"].map(str::to_owned).to_vec();
        batch.extend_from_slice(&keys);
        assert_eq!(source.command(&batch).unwrap().text(), "OK");
        assert_eq!(source.run("DBSIZE").unwrap(), Value::Integer(0));
        assert_eq!(told(&mut target, &keys), before);
    }
}

/// Redis' digests of what keys hold.
fn digests(client: &mut Client, keys: &[String]) -> String {
    let words = ["DEBUG", "DIGEST-VALUE"].into_iter().chain(keys.iter().map(String::as_str));
    client.command(&words.collect::<Vec<_>>()).unwrap().text()
}

#[test]
fn values_of_every_type_move_to_valkey_and_back() {
    let Some(valkey) = larder_testkit::server::available(Valkey::start()) else { return };
    let ours = larder(2, &[]);
    for (from, to) in [(&ours, &valkey), (&valkey, &ours)] {
        let (mut source, mut target) = (from.client(), to.client());
        let mut keys = populated(&mut source, &mut target);
        // Valkey has a type of its own for fields that end, and refuses Redis'.
        if to.port() == valkey.port() {
            keys.retain(|key| !key.contains("timed"));
        }
        let before = digests(&mut source, &keys);
        let port = to.port().to_string();
        let mut batch = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"].map(str::to_owned).to_vec();
        batch.extend_from_slice(&keys);
        assert_eq!(source.command(&batch).unwrap().text(), "OK");
        assert_eq!(digests(&mut target, &keys), before);
        assert_eq!(target.run("DBSIZE").unwrap(), Value::Integer(keys.len() as i64));
    }
    let (mut source, mut target) = (valkey.client(), ours.client());
    source.run("HSET h a 1 b 2").unwrap();
    source.run("HPEXPIREAT h 4102444800123 FIELDS 1 a").unwrap();
    let payload = source.run("DUMP h").unwrap();
    target.command::<&[u8]>(&[b"RESTORE", b"h", b"0", payload.bytes().unwrap()]).unwrap();
    let ends = target.run("HPEXPIRETIME h FIELDS 2 a b").unwrap();
    assert_eq!(ends.items().unwrap(), [Value::Integer(4_102_444_800_123), Value::Integer(-1)]);
}

#[test]
fn refusals_are_those_of_redis() {
    let (redis, ours, target) = (Redis82::start().unwrap(), larder(2, &[]), Redis82::start().unwrap());
    let (mut oracle, mut client) = (redis.client(), ours.client());
    let lines = [
        "k 0 x",
        "k x 100",
        "k x y",
        "k 0 100 BLAH",
        "k 0 100 AUTH",
        "k 0 100 AUTH2 u",
        "k 0 100 KEYS a",
        "k 99 1000",
        "k 0 1000 AUTH pw",
        "k 0 1000 AUTH2 u pw",
        "none 0 1000",
        "k 0 1000 COPY REPLACE",
        "k 0 -1",
    ];
    for line in lines {
        ok(&mut target.client(), "FLUSHALL");
        ok(&mut target.client(), "SET k there");
        ok(&mut oracle, "SET k v");
        ok(&mut client, "SET k v");
        assert_eq!(
            migrate(&mut client, target.port(), line),
            migrate(&mut oracle, target.port(), line),
            "{line}"
        );
        assert_eq!(client.run("EXISTS k").unwrap(), oracle.run("EXISTS k").unwrap(), "{line}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(migrate(&mut client, nobody, "k 0 500"), migrate(&mut oracle, nobody, "k 0 500"));
}

#[test]
fn a_target_that_is_silent_or_talks_nonsense_costs_no_key_and_delays_nobody() {
    let server = larder(1, &[]);
    let (mut client, mut other) = (server.client(), server.client());
    ok(&mut client, "SET k v");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let start = Instant::now();
    client.send(&["MIGRATE", "127.0.0.1", &port.to_string(), "k", "0", "400"]).unwrap();
    while start.elapsed() < Duration::from_millis(200) {
        assert_eq!(other.run("GET k").unwrap().text(), "v");
    }
    assert_eq!(client.read().unwrap().text(), "IOERR error or timeout reading from target instance");
    assert!(start.elapsed() >= Duration::from_millis(400));
    drop(silent);

    let nonsense = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nonsense.local_addr().unwrap().port();
    let speaker = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = nonsense.accept().unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").unwrap();
        }
    });
    assert_eq!(migrate(&mut client, port, "k 0 1000"), "IOERR error or timeout reading from target instance");
    speaker.join().unwrap();
    assert_eq!(
        migrate(&mut client, server.port(), "k 0 1000 REPLACE"),
        "IOERR error or timeout reading from target instance"
    );
    assert_eq!(client.run("GET k").unwrap().text(), "v");
}

#[test]
fn a_key_that_changes_on_its_way_is_kept() {
    let server = larder(2, &[]);
    let (mut client, mut other) = (server.client(), server.client());
    for (before, after) in
        [("SET k v", "SET k w"), ("SET k v", "EXPIRE k 1000"), ("SETRANGE k 100000 v", "APPEND k w")]
    {
        other.run("DEL k").unwrap();
        other.run(before).unwrap();
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        client
            .send(&[
                "MIGRATE",
                "127.0.0.1",
                &target.local_addr().unwrap().port().to_string(),
                "k",
                "0",
                "5000",
            ])
            .unwrap();
        let (mut stream, _) = target.accept().unwrap();
        other.run(after).unwrap();
        stream.write_all(b"+OK\r\n+OK\r\n").unwrap();
        let reply = client.read().unwrap();
        assert!(reply.text().starts_with("ERR 1 of the keys changed on their way"), "{reply:?}");
        assert_eq!(other.run("EXISTS k").unwrap(), Value::Integer(1));
    }
}
