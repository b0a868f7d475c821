//! Connections: who may come, who must go, what they are told, and that one's trouble is its own.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::client::encode;
use larder_testkit::{Client, Server, Value};
use scenario::{figure, info, larder, ok, resident_bytes, signal, until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn id(client: &mut Client) -> i64 {
    client.run("CLIENT ID").unwrap().integer().unwrap()
}

fn address_of(client: &mut Client, field: &str) -> String {
    let line = client.run("CLIENT INFO").unwrap().text();
    line.split(' ').find_map(|word| word.strip_prefix(field)).unwrap().to_owned()
}

/// What CLIENT LIST knows of the connections now.
fn count(client: &mut Client) -> usize {
    client.run("CLIENT LIST").unwrap().text().lines().count()
}

#[test]
fn a_panic_ends_its_connection_and_nothing_else() {
    for threads in [1, 2] {
        let server = larder(threads, &[]);
        let mut others: Vec<Client> = (0..4).map(|_| server.client()).collect();
        ok(&mut others[0], "SET key before");
        for _ in 0..3 {
            let mut victim = server.client();
            victim
                .send_raw(
                    &[
                        encode(&["SET", "key", "during"]),
                        encode(&["DEBUG", "PANIC"]),
                        encode(&["SET", "key", "after"]),
                    ]
                    .concat(),
                )
                .unwrap();
            assert!(victim.read().is_ok());
            let error = victim.read().unwrap();
            assert!(error.is_error() && error.text().contains("debug"), "{error:?}");
            assert!(victim.is_closed());
        }
        for other in &mut others {
            assert_eq!(other.run("GET key").unwrap().text(), "during");
            ok(other, "SET key again");
            ok(other, "FLUSHALL");
            ok(other, "SET key during");
        }
        let log = server.log();
        assert!(log.contains("a command panicked") && log.contains("debug"), "{log}");
    }
}

#[test]
fn client_reply_hides_what_it_says() {
    let server = larder(1, &[]);
    let mut client = server.client();
    client.send_raw(b"CLIENT REPLY OFF\r\nPING\r\nNOSUCH\r\nCLIENT REPLY ON\r\nECHO a\r\n").unwrap();
    assert_eq!(client.read().unwrap().text(), "OK");
    assert_eq!(client.read().unwrap().text(), "a");
    client.send_raw(b"CLIENT REPLY SKIP\r\nECHO hidden\r\nECHO b\r\n").unwrap();
    assert_eq!(client.read().unwrap().text(), "b");
    // An answer that comes later is as hidden as one that comes at once.
    client.send_raw(b"SET k v\r\nCLIENT REPLY SKIP\r\nFLUSHALL SYNC\r\nECHO c\r\n").unwrap();
    assert_eq!(client.read().unwrap().text(), "OK");
    assert_eq!(client.read().unwrap().text(), "c");
    client
        .send_raw(b"SET k v\r\nCLIENT REPLY OFF\r\nFLUSHALL SYNC\r\nCLIENT REPLY ON\r\nECHO d\r\n")
        .unwrap();
    assert_eq!(client.read().unwrap().text(), "OK");
    assert_eq!(client.read().unwrap().text(), "OK");
    assert_eq!(client.read().unwrap().text(), "d");
}

#[test]
fn client_kill_reaches_every_worker_by_every_filter() {
    let server = larder(2, &[]);
    let mut admin = server.client();
    type Choose = fn(&mut Client) -> String;
    let filters: [Choose; 4] = [
        |victim| format!("ID {}", id(victim)),
        |victim| format!("ADDR {}", address_of(victim, "addr=")),
        |victim| format!("ADDR {} TYPE normal SKIPME no", address_of(victim, "addr=")),
        |victim| format!("ID {} USER default LADDR {}", id(victim), address_of(victim, "laddr=")),
    ];
    for choose in filters {
        // Connections are dealt to the workers in turn: four hit both of two.
        let mut victims: Vec<Client> = (0..4).map(|_| server.client()).collect();
        for victim in &mut victims {
            let filter = choose(victim);
            assert_eq!(admin.run(&format!("CLIENT KILL {filter}")).unwrap(), Value::Integer(1), "{filter}");
            assert!(victim.is_closed(), "{filter}");
        }
    }
    let mut victim = server.client();
    let address = address_of(&mut victim, "addr=");
    ok(&mut admin, &format!("CLIENT KILL {address}"));
    assert!(victim.is_closed());
    assert!(admin.run(&format!("CLIENT KILL {address}")).unwrap().is_error());
    let mut victims: Vec<Client> = (0..6).map(|_| server.client()).collect();
    for victim in &mut victims {
        victim.run("PING").unwrap();
    }
    assert_eq!(admin.run("CLIENT KILL TYPE normal").unwrap(), Value::Integer(6));
    assert!(victims.iter_mut().all(Client::is_closed));
    assert_eq!(admin.run("CLIENT KILL TYPE pubsub").unwrap(), Value::Integer(0));
    until("the killed are forgotten", || count(&mut admin) == 1);
    assert_eq!(admin.run("CLIENT KILL MAXAGE 100000 SKIPME no").unwrap(), Value::Integer(0));
    let own = id(&mut admin);
    assert_eq!(admin.run(&format!("CLIENT KILL ID {own} SKIPME no")).unwrap(), Value::Integer(1));
    assert!(admin.is_closed());
    assert_eq!(figure(&mut server.client(), "connected_clients"), 1);
}

#[test]
fn monitor_shows_the_commands_of_all_workers() {
    let server = larder(2, &[]);
    let mut monitors: Vec<Client> = (0..2).map(|_| server.client()).collect();
    for monitor in &mut monitors {
        ok(monitor, "MONITOR");
    }
    let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        ok(client, &format!("SELECT {number}"));
        client.command(&[&b"SET"[..], b"key", b"a\"b\r\n\xff"]).unwrap();
    }
    assert!(clients[0].run("AUTH secret").unwrap().is_error());
    let last = address_of(&mut clients[3], "addr=");
    for monitor in &mut monitors {
        let mut lines: Vec<String> = Vec::new();
        while lines.iter().filter(|line| line.contains("\"SET\"")).count() < 4 {
            lines.push(monitor.read().unwrap().text());
        }
        assert!(
            lines
                .iter()
                .any(|line| line.ends_with(&format!("[3 {last}] \"SET\" \"key\" \"a\\\"b\\r\\n\\xff\""))),
            "{lines:?}"
        );
        assert!(lines.iter().all(|line| !line.contains("secret")));
        assert_eq!(info(&mut clients[1], "connected_clients"), "6");
    }
    drop(monitors);
    until("monitors are forgotten", || figure(&mut clients[0], "connected_clients") == 4);
    assert_eq!(clients[0].run("PING").unwrap().text(), "PONG");
}

#[test]
fn without_the_password_nothing_is_answered() {
    let server = larder_with_password();
    let mut client = server.client();
    for line in ["GET k", "SET k v", "CLIENT LIST", "FLUSHALL", "MONITOR", "SELECT 1"] {
        assert!(client.run(line).unwrap().text().starts_with("NOAUTH"), "{line}");
    }
    assert!(client.run("AUTH wrong").unwrap().text().starts_with("WRONGPASS"));
    assert!(client.run("AUTH other secret").unwrap().text().starts_with("WRONGPASS"));
    assert!(client.run("HELLO 3").unwrap().text().starts_with("NOAUTH"));
    ok(&mut client, "AUTH secret");
    ok(&mut client, "SET k v");
    assert_eq!(client.run("RESET").unwrap().text(), "RESET");
    assert!(client.run("GET k").unwrap().text().starts_with("NOAUTH"));
    assert!(client.run("HELLO 3 AUTH default secret").unwrap().field("proto").is_some());
    assert_eq!(client.run("GET k").unwrap().text(), "v");
}

fn larder_with_password() -> Server {
    // The harness asks PING until it is answered, which a password prevents: it is set afterwards.
    let server = larder(2, &[]);
    ok(&mut server.client(), "CONFIG SET requirepass secret");
    server
}

#[test]
fn a_stranger_cannot_make_the_server_hold_much() {
    let server = larder_with_password();
    for request in [&b"*11\r\n"[..], b"*1\r\n$16385\r\n", b"*2\r\n$3\r\nGET\r\n$100000000\r\n"] {
        let mut client = server.client();
        client.send_raw(request).unwrap();
        let error = client.read().unwrap();
        assert!(error.text().contains("unauthenticated"), "{error:?}");
        assert!(client.is_closed());
    }
    // What follows the password in the same packet has its full rights, and a half-closed
    // connection is answered to its end.
    let mut client = server.client();
    let value = "x".repeat(100_000);
    client
        .send_raw(
            &[encode(&["AUTH", "secret"]), encode(&["SET", "k", &value]), encode(&["STRLEN", "k"])].concat(),
        )
        .unwrap();
    client.half_close().unwrap();
    let replies: Vec<String> = (0..2).map(|_| client.read().unwrap().text()).collect();
    assert_eq!(replies, ["OK", "OK"]);
    assert_eq!(client.read().unwrap(), Value::Integer(100_000));
    assert!(client.is_closed());
}

#[test]
fn more_than_maxclients_are_refused_and_places_are_given_back() {
    let server = larder(2, &["--maxclients", "10"]);
    until("the harness' own connection is forgotten", || {
        figure(&mut server.client(), "connected_clients") <= 2
    });
    for _ in 0..3 {
        let mut clients: Vec<Client> = Vec::new();
        until("all places are taken", || {
            let mut client = server.client();
            match client.run("PING") {
                Ok(reply) if reply.text() == "PONG" => {
                    clients.push(client);
                    false
                }
                Ok(reply) => {
                    assert_eq!(reply.text(), "ERR max number of clients reached");
                    assert!(client.is_closed());
                    clients.len() == 10
                }
                Err(_) => clients.len() == 10,
            }
        });
    }
    let mut client = server.client();
    until("places are given back", || {
        client = server.client();
        client.run("PING").is_ok_and(|reply| reply.text() == "PONG")
    });
    assert!(figure(&mut client, "rejected_connections") >= 3);
}

#[test]
fn an_idle_connection_is_closed_after_the_timeout() {
    let server = larder(2, &["--timeout", "1"]);
    let (mut idle, mut busy) = (server.client(), server.client());
    idle.run("PING").unwrap();
    let start = Instant::now();
    idle.set_reply_timeout(Duration::from_millis(10)).unwrap();
    let mut lived = Duration::ZERO;
    until("the idle connection is closed", || {
        busy.run("PING").unwrap();
        lived = start.elapsed();
        matches!(idle.read(), Err(error) if larder_testkit::client::is_disconnect(&error))
    });
    assert!(lived >= Duration::from_millis(900), "closed after {lived:?}");
    assert_eq!(busy.run("PING").unwrap().text(), "PONG");
}

#[test]
fn a_request_beyond_the_query_buffer_limit_ends_its_connection() {
    let server = larder(1, &["--client-query-buffer-limit", "1mb"]);
    let mut other = server.client();
    let mut client = server.client();
    let sent = client.send(&[&b"SET"[..], b"k", &vec![b'x'; 4 << 20]]);
    assert!(sent.is_err() || client.is_closed());
    assert_eq!(other.run("EXISTS k").unwrap(), Value::Integer(0));
    until("the close is counted", || figure(&mut other, "client_query_buffer_limit_disconnections") == 1);
    ok(&mut other, &format!("SET k {}", "x".repeat(500_000)));
}

#[test]
fn a_client_that_never_reads_is_closed_at_its_limits() {
    let server = larder(2, &["--client-output-buffer-limit", "normal 8mb 0 0"]);
    let mut other = server.client();
    other.command(&[&b"SET"[..], b"k", &vec![b'x'; 200_000]]).unwrap();
    let mut deaf = server.client();
    let gets = encode(&["GET", "k"]).repeat(200);
    deaf.send_raw(&gets).unwrap();
    until("the hard limit is noticed", || {
        figure(&mut other, "client_output_buffer_limit_disconnections") == 1
    });
    until("the connection is gone", || count(&mut other) == 1);
    let limit = ["CONFIG", "SET", "client-output-buffer-limit", "normal 0 1mb 1"];
    assert_eq!(other.command(&limit).unwrap().text(), "OK");
    let mut deaf = server.client();
    deaf.send_raw(&encode(&["GET", "k"]).repeat(60)).unwrap();
    let start = Instant::now();
    until("the soft limit is noticed", || {
        figure(&mut other, "client_output_buffer_limit_disconnections") == 2
    });
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    until("the connection is gone", || count(&mut other) == 1);
}

#[test]
fn a_hundred_megabytes_are_stored_while_others_are_served() {
    let server = larder(1, &[]);
    let mut other = server.client();
    let value = vec![b'v'; 100_000_000];
    std::thread::scope(|scope| {
        let big = scope.spawn(|| {
            let mut client = server.client();
            let reply = client.command(&[&b"SET"[..], b"big", &value]).unwrap();
            assert_eq!(reply.text(), "OK");
            assert!(client.command(&["GET", "big"]).unwrap().bytes().unwrap() == value);
        });
        while !big.is_finished() {
            other.run("PING").unwrap();
        }
        big.join().unwrap();
    });
    assert_eq!(other.run("STRLEN big").unwrap(), Value::Integer(100_000_000));
    assert_eq!(other.run("UNLINK big").unwrap(), Value::Integer(1));
    until("the memory is given back", || figure(&mut other, "used_memory") < 20_000_000);
}

/// Opens connections that ask once and then stay idle.
fn open_idle(server: &Server, count: usize) -> Vec<TcpStream> {
    let mut idle: Vec<TcpStream> = (0..count)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(b"PING\r\n").unwrap();
            stream
        })
        .collect();
    for stream in &mut idle {
        let mut reply = [0; 7];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"+PONG\r\n");
    }
    idle
}

#[test]
fn ten_thousand_idle_connections_take_little_memory() {
    // Both ends are files of somebody: of this process, and of the server.
    let limit = std::process::Command::new("sh").args(["-c", "ulimit -n"]).output().unwrap();
    let limit: usize = String::from_utf8_lossy(&limit.stdout).trim().parse().unwrap_or(usize::MAX);
    let wanted = 10_000.min(limit.saturating_sub(500));
    let server = larder(2, &["--maxclients", "11000"]);
    let mut client = server.client();
    // The first fifth also brings what all share, and where the kernel backs memory by huge pages
    // the first of these.
    let first = open_idle(&server, wanted / 5);
    let (resident, used) = (resident_bytes(&server), figure(&mut client, "used_memory"));
    let more = open_idle(&server, wanted - wanted / 5);
    assert_eq!(figure(&mut client, "connected_clients"), wanted as u64 + 1);
    let per_connection = resident_bytes(&server).saturating_sub(resident) / more.len();
    let counted = (figure(&mut client, "used_memory") - used) / more.len() as u64;
    println!("{wanted} idle connections: {per_connection} B resident each, {counted} B counted");
    assert!(counted <= 1024, "{counted} bytes are counted for a connection");
    assert!(
        per_connection <= 1536 + HUGE_PAGE / more.len(),
        "{per_connection} bytes are resident for a connection"
    );
    drop((first, more));
    until("all are forgotten", || figure(&mut client, "connected_clients") == 1);
}

/// Resident memory grows by so much at a time where the kernel gives huge pages.
const HUGE_PAGE: usize = 2 << 20;

#[test]
fn the_second_signal_ends_it_at_once() {
    let mut server = larder(1, &[]);
    let mut client = server.client();
    client.send(&["DEBUG", "SLEEP", "30"]).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    signal(&server, "TERM");
    std::thread::sleep(Duration::from_millis(100));
    signal(&server, "TERM");
    assert_eq!(server.wait_for_end(Duration::from_secs(5)), Some(false));
}

#[test]
fn who_sees_the_server_end_finds_nobody_to_take_the_next_connection() {
    for _ in 0..20 {
        let server = larder(2, &[]);
        let mut client = server.client();
        client.send(&["SHUTDOWN", "NOSAVE"]).unwrap();
        assert!(client.is_closed());
        assert!(TcpStream::connect(server.address()).is_err(), "it still listens");
    }
}

#[test]
fn what_came_before_in_a_pipeline_shows_in_client_info() {
    let server = larder(1, &[]);
    let mut client = server.client();
    for words in [&["SELECT", "3"][..], &["PING"], &["CLIENT", "INFO"], &["SELECT", "4"], &["CLIENT", "LIST"]]
    {
        client.send(words).unwrap();
    }
    let replies: Vec<String> = (0..5).map(|_| client.read().unwrap().text()).collect();
    assert!(
        replies[2].contains(" db=3 ") && replies[2].trim_end().ends_with(" tot-cmds=2"),
        "{}",
        replies[2]
    );
    assert!(
        replies[4].contains(" db=4 ") && replies[4].trim_end().ends_with(" tot-cmds=4"),
        "{}",
        replies[4]
    );
    let after = client.run("CLIENT INFO").unwrap().text();
    assert!(after.trim_end().ends_with(" tot-cmds=5"), "{after}");
}
