//! Requests as no polite client sends them: cut anywhere, endless, huge, half closed, broken off.
//! Invariant: the server answers every complete request in order, and lives.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::client::encode;
use larder_testkit::{Client, Larder, Server, Value};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

const MIB: usize = 1024 * 1024;

fn start() -> Server {
    Larder::start_with_threads("2").unwrap()
}

fn bulk(bytes: impl Into<Vec<u8>>) -> Value {
    Value::Bulk(bytes.into())
}

/// Inline commands, requests, errors and empty lines in one stream, and how many replies it gets.
fn mixed_stream() -> (Vec<u8>, usize) {
    let mut stream = Vec::new();
    stream.extend(encode(&["FLUSHALL"]));
    stream.extend(encode(&["SET", "key", "a value\r\n with lines\r\n"]));
    stream.extend(b"GET key\r\n\r\n");
    stream.extend(b"*0\r\n");
    stream.extend(encode(&["NOSUCH", "command"]));
    stream.extend(b"  ECHO \"quoted \\x41\" \r\n");
    stream.extend(encode(&["MGET", "key", "none", ""]));
    stream.extend(encode(&["SET", "empty", ""]));
    stream.extend(encode(&["GET"]));
    stream.extend(encode(&["INCR", "n"]));
    stream.extend(encode(&["GETRANGE", "key", "2", "6"]));
    (stream, 10)
}

/// Long enough for the server to see the first part by itself, most times.
const BETWEEN_PARTS: Duration = Duration::from_millis(1);

#[test]
fn a_stream_may_be_cut_at_any_byte() {
    let server = start();
    let (stream, replies) = mixed_stream();
    for protocol in [2, 3] {
        let mut client = Client::connect_with(&server.address(), protocol).unwrap();
        let whole = client.pipeline_raw(&stream, replies).unwrap();
        assert_eq!(whole[2], bulk("a value\r\n with lines\r\n"));
        assert_eq!(whole[9], bulk("value"));
        for cut in 1..stream.len() {
            let (first, second) = stream.split_at(cut);
            client.send_raw(first).unwrap();
            sleep(BETWEEN_PARTS);
            client.send_raw(second).unwrap();
            let seen: Vec<Value> = (0..replies).map(|_| client.read().unwrap()).collect();
            assert_eq!(seen, whole, "cut after {cut} bytes in RESP{protocol}");
        }
    }
}

#[test]
fn a_stream_may_come_byte_by_byte() {
    let server = start();
    let (stream, replies) = mixed_stream();
    let mut client = server.client();
    let whole = client.pipeline_raw(&stream, replies).unwrap();
    for byte in &stream {
        client.send_raw(&[*byte]).unwrap();
        sleep(BETWEEN_PARTS);
    }
    let seen: Vec<Value> = (0..replies).map(|_| client.read().unwrap()).collect();
    assert_eq!(seen, whole);
}

#[test]
fn ten_thousand_commands_in_one_pipeline_are_answered_in_order() {
    let server = start();
    let commands: Vec<Vec<String>> = (0..10_000)
        .map(|n| match n % 4 {
            0 => vec!["SET".into(), format!("k{n}"), format!("v{n}")],
            1 => vec!["GET".into(), format!("k{}", n - 1)],
            2 => vec!["INCR".into(), "count".into()],
            _ => vec!["NOSUCH".into(), n.to_string()],
        })
        .collect();
    let mut client = server.client();
    for (n, reply) in client.pipeline(&commands).unwrap().into_iter().enumerate() {
        match n % 4 {
            0 => assert_eq!(reply, Value::Simple(b"OK".to_vec())),
            1 => assert_eq!(reply, bulk(format!("v{}", n - 1))),
            2 => assert_eq!(reply, Value::Integer(n as i64 / 4 + 1)),
            _ => assert!(reply.text().ends_with(&format!("'{n}' ")), "{reply:?}"),
        }
    }
    assert_eq!(client.run("DBSIZE").unwrap(), Value::Integer(2501));
}

#[test]
fn pipelines_of_several_connections_do_not_mix() {
    let server = start();
    std::thread::scope(|scope| {
        for name in 0..8 {
            let mut client = server.client();
            scope.spawn(move || {
                let commands: Vec<_> =
                    (0..2_000).map(|n| vec!["ECHO".into(), format!("{name}:{n}")]).collect();
                for (n, reply) in client.pipeline(&commands).unwrap().into_iter().enumerate() {
                    assert_eq!(reply, bulk(format!("{name}:{n}")));
                }
            });
        }
    });
}

#[test]
fn a_half_closed_connection_gets_all_its_replies() {
    let server = start();
    let mut client = server.client();
    let commands: Vec<_> = (0..1_000).map(|n| vec!["ECHO".into(), n.to_string()]).collect();
    let stream: Vec<u8> = commands.iter().flat_map(|args| encode(args)).collect();
    client.send_raw(&stream).unwrap();
    let first = client.read().unwrap();
    client.half_close().unwrap();
    assert_eq!(first, bulk("0"));
    for n in 1..1_000 {
        assert_eq!(client.read().unwrap(), bulk(n.to_string()));
    }
    assert!(client.is_closed());
}

#[test]
fn sixty_four_mebibytes_come_back_as_they_were() {
    let server = start();
    let mut client = server.client();
    let value: Vec<u8> = (0..64 * MIB).map(|n| (n % 251) as u8).collect();
    let stored = client.pipeline_raw(&encode(&[b"SET".as_slice(), b"k", &value]), 1).unwrap();
    assert_eq!(stored, [Value::Simple(b"OK".to_vec())]);
    assert_eq!(client.run("STRLEN k").unwrap(), Value::Integer(64 * MIB as i64));
    assert!(client.run("GET k").unwrap() == bulk(value.clone()), "GET returns other bytes");
    let end = client.run("GETRANGE k -10 -1").unwrap();
    assert_eq!(end, bulk(&value[value.len() - 10..]));
    // Overwritten while another connection still reads it.
    let mut reader = server.client();
    reader.send(&["GET", "k"]).unwrap();
    sleep(Duration::from_millis(20));
    client.run("SET k small").unwrap();
    assert!(reader.read().unwrap() == bulk(value), "a reply changed on its way");
}

#[test]
fn a_reader_that_waits_delays_nobody() {
    let server = start();
    let mut slow = server.client();
    slow.command(&["SET", "k", &"x".repeat(MIB)]).unwrap();
    let gets: Vec<u8> = (0..64).flat_map(|_| encode(&["GET", "k"])).collect();
    slow.send_raw(&gets).unwrap();
    let mut other = server.client();
    for _ in 0..20 {
        let before = Instant::now();
        assert_eq!(other.run("PING").unwrap(), Value::Simple(b"PONG".to_vec()));
        assert!(before.elapsed() < Duration::from_millis(500), "PING took {:?}", before.elapsed());
    }
    for _ in 0..64 {
        assert_eq!(slow.read().unwrap(), bulk("x".repeat(MIB)));
    }
}

/// How many connections are subscribed to a channel.
fn subscribers(client: &mut Client, channel: &str) -> i64 {
    client.run(&format!("PUBSUB NUMSUB {channel}")).unwrap().items().unwrap()[1].integer().unwrap()
}

#[test]
fn a_subscriber_over_the_soft_limit_has_its_time_to_read() {
    const MESSAGES: usize = 24;
    const PATIENCE: Duration = Duration::from_secs(4);
    let server = start();
    let mut publisher = server.client();
    let limit = ["CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 1000000 4"];
    assert_eq!(publisher.command(&limit).unwrap().text(), "OK");
    let subscribe = || {
        let mut client = server.client();
        client.run("SUBSCRIBE news").unwrap();
        client
    };
    let (mut deaf, mut reader) = (subscribe(), subscribe());
    let message = "x".repeat(MIB);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..MESSAGES {
                assert_eq!(reader.read().unwrap().items().unwrap()[2].text().len(), MIB);
            }
        });
        for _ in 0..MESSAGES {
            assert_eq!(publisher.command(&["PUBLISH", "news", &message]).unwrap(), Value::Integer(2));
        }
    });
    // Nobody asks it anything: the server looks by itself.
    let end = Instant::now() + Duration::from_secs(20);
    while subscribers(&mut publisher, "news") > 1 {
        assert!(Instant::now() < end, "the deaf subscriber is still there");
        sleep(Duration::from_millis(10));
    }
    assert!(start.elapsed() >= PATIENCE, "closed after {:?}", start.elapsed());
    while deaf.read().is_ok() {}
    assert!(deaf.is_closed());
    assert_eq!(publisher.run("PUBLISH news end").unwrap(), Value::Integer(1));
    assert_eq!(reader.read().unwrap().items().unwrap()[2].text(), "end");
}

#[test]
fn headers_that_promise_much_cost_little() {
    let server = start();
    let before = resident_bytes(&server);
    let mut clients: Vec<Client> = (0..50).map(|_| server.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        let header: &[u8] = if n % 2 == 0 { b"*1048576\r\n" } else { b"*2\r\n$536870912\r\nx" };
        client.send_raw(header).unwrap();
    }
    sleep(Duration::from_millis(100));
    assert_eq!(server.client().run("PING").unwrap(), Value::Simple(b"PONG".to_vec()));
    let grown = resident_bytes(&server).saturating_sub(before);
    assert!(grown < 64 * MIB, "50 headers without bodies made the server grow by {grown} bytes");
}

#[test]
fn a_client_that_goes_while_it_waits_is_forgotten() {
    let server = start();
    let mut witness = server.client();
    let mut wait_for = |count: &str| {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !witness.run("INFO clients").unwrap().text().contains(&format!("blocked_clients:{count}\r")) {
            assert!(Instant::now() < deadline, "there are never {count} clients that wait");
            sleep(Duration::from_millis(5));
        }
    };
    for bytes in ["WAIT 1 0\r\n", "WAIT 1 0\r\nPING\r\n"] {
        let mut client = server.client();
        client.send_raw(bytes.as_bytes()).unwrap();
        wait_for("1");
        drop(client);
        wait_for("0");
    }
}

#[test]
fn connections_that_break_off_leave_nothing() {
    let server = start();
    let (stream, _) = mixed_stream();
    for cut in 0..stream.len() {
        let mut client = server.client();
        client.send_raw(&stream[..cut]).unwrap();
    }
    let mut client = server.client();
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let clients = client.run("CLIENT LIST").unwrap().text();
        if clients.lines().count() == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "connections are left:\n{clients}");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn garbage_closes_only_its_own_connection() {
    let server = start();
    let mut witness = server.client();
    let mut state = 12_345_u64;
    for _ in 0..300 {
        let mut garbage = b"*".to_vec();
        for _ in 0..40 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let choice = (state >> 33) as usize;
            garbage.extend(
                *[&b"*3\r\n"[..], b"$3\r\nGET\r\n", b"$-1\r\n", b"\r\n", b"\x00", b"$", b"9999"]
                    .get(choice % 7)
                    .unwrap(),
            );
        }
        let mut client = server.client();
        // The server may close before everything is written.
        client.send_raw(&garbage).ok();
        assert_eq!(witness.run("PING").unwrap(), Value::Simple(b"PONG".to_vec()));
    }
}

/// Memory of the server's process, in bytes.
fn resident_bytes(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kibibytes: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kibibytes * 1024
}
