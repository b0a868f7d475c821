//! The server under load: keys that expire together, memory that runs out, databases that are
//! emptied and exchanged while others write, SCAN while keys come and go.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::client::encode;
use larder_testkit::{Client, Server, Value};
use scenario::{cpu_ticks, figure, larder, ok, until};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::scope;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const MIB: u64 = 1 << 20;

/// Requests sent before their replies are read.
const DEPTH: usize = 10_000;

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Sends `count` requests in deep pipelines; every one must be answered OK or by a number.
fn many(client: &mut Client, count: usize, request: impl Fn(usize) -> Vec<u8>) {
    for first in (0..count).step_by(DEPTH) {
        let last = (first + DEPTH).min(count);
        let bytes: Vec<u8> = (first..last).flat_map(&request).collect();
        let replies = client.pipeline_raw(&bytes, last - first).unwrap();
        assert!(
            replies.iter().all(|reply| !reply.is_error()),
            "{:?}",
            replies.iter().find(|reply| reply.is_error())
        );
    }
}

fn keys(client: &mut Client) -> u64 {
    client.run("DBSIZE").unwrap().integer().unwrap() as u64
}

#[test]
fn a_million_keys_that_expire_together_are_gone_at_once() {
    const ALL: usize = 2_000_000;
    for threads in [1, 2] {
        let server = larder(threads, &[]);
        let mut client = server.client();
        client.set_reply_timeout(Duration::from_secs(120)).unwrap();
        many(&mut client, ALL, |number| encode(&["SET", &format!("key:{number}"), "sixteen bytes..."]));
        let deadline = unix_ms() + if cfg!(debug_assertions) { 15_000 } else { 5_000 };
        let at = deadline.to_string();
        many(&mut client, 1_000_000, |number| encode(&["PEXPIREAT", &format!("key:{}", 2 * number), &at]));
        assert!(unix_ms() < deadline, "this machine fills too slowly");
        assert_eq!(keys(&mut client), ALL as u64);
        let used = figure(&mut client, "used_memory");
        std::thread::sleep(Duration::from_millis(deadline.saturating_sub(unix_ms())));
        let (mut slowest, ticks) = (Duration::ZERO, cpu_ticks(&server));
        until("all are gone", || {
            let start = Instant::now();
            let left = keys(&mut client);
            slowest = slowest.max(start.elapsed());
            left == ALL as u64 - 1_000_000
        });
        let late = unix_ms() - deadline;
        println!(
            "{threads} workers: 1M of 2M keys were gone {late} ms after their time, for {} ms of processor time; \
             slowest DBSIZE meanwhile {slowest:?}",
            10 * (cpu_ticks(&server) - ticks)
        );
        assert!(late < 2000, "{late} ms");
        assert_eq!(figure(&mut client, "expired_keys"), 1_000_000);
        until("their memory is free", || figure(&mut client, "used_memory") < used - used / 5);
    }
}

#[test]
fn a_key_that_has_ended_is_gone_for_every_command_without_the_sweep() {
    let server = larder(1, &[]);
    let mut client = server.client();
    ok(&mut client, "DEBUG SET-ACTIVE-EXPIRE 0");
    for number in 0..100 {
        ok(&mut client, &format!("SET k{number} v PX 1"));
    }
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(keys(&mut client), 100);
    for number in 0..100 {
        let line = match number % 5 {
            0 => format!("GET k{number}"),
            1 => format!("GETDEL k{number}"),
            2 => format!("OBJECT ENCODING k{number}"),
            3 => format!("PERSIST k{number}"),
            _ => format!("TYPE k{number}"),
        };
        let reply = client.run(&line).unwrap();
        assert!(
            matches!(reply, Value::NilBulk | Value::Integer(0)) || reply.text() == "none",
            "{line}: {reply:?}"
        );
    }
    assert_eq!(keys(&mut client), 0);
    assert_eq!(figure(&mut client, "expired_keys"), 100);
}

/// Numbers that look random, for sizes and keys.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// Four writers for a while; answers the most memory another connection saw in use, how many writes
/// were refused and how many were accepted.
#[expect(clippy::print_stdout, reason = "the figures are what a person runs it for")]
fn press(server: &Server, limit: u64) -> (u64, u64, u64) {
    let (stop, refused, accepted) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut most = 0;
    scope(|scope| {
        for writer in 0..4u64 {
            let (stop, refused, accepted) = (&stop, &refused, &accepted);
            scope.spawn(move || {
                let mut client = server.client();
                let value = vec![b'v'; 64 * 1024];
                let mut seed = writer;
                // Only ends the trial.
                while !stop.load(Relaxed) {
                    let commands: Vec<Vec<Vec<u8>>> = (0..1 + next(&mut seed) % 8)
                        .map(|_| {
                            let size = 1024 + next(&mut seed) as usize % (63 * 1024);
                            let key = format!("key:{}", next(&mut seed) % 1_000_000);
                            vec![b"SET".to_vec(), key.into_bytes(), value[..size].to_vec()]
                        })
                        .collect();
                    for reply in client.pipeline(&commands).unwrap() {
                        if reply.is_error() {
                            assert_eq!(
                                reply.text(),
                                "OOM command not allowed when used memory > 'maxmemory'."
                            );
                            refused.fetch_add(1, Relaxed);
                        } else {
                            accepted.fetch_add(1, Relaxed);
                        }
                    }
                }
            });
        }
        let mut sampler = server.client();
        let end = Instant::now() + Duration::from_millis(2500);
        while Instant::now() < end {
            most = most.max(figure(&mut sampler, "used_memory"));
        }
        stop.store(true, Relaxed);
    });
    println!(
        "limit {limit}, most in use {most} ({:+} KiB), {refused:?} refused, {accepted:?} accepted",
        (most as i64 - limit as i64) / 1024
    );
    (most, refused.load(Relaxed), accepted.load(Relaxed))
}

#[test]
fn memory_stays_below_its_limit_under_concurrent_writers() {
    for threads in [1, 2] {
        for policy in ["noeviction", "allkeys-random", "allkeys-lru", "allkeys-s3fifo", "allkeys-adaptive"] {
            let server = larder(threads, &["--maxmemory", "64mb", "--maxmemory-policy", policy]);
            let limit = 64 * MIB;
            let (most, refused, accepted) = press(&server, limit);
            let connections = 5;
            let allowed = limit + limit / 100 + connections * 64 * 1024;
            assert!(
                most <= allowed,
                "{policy}, {threads} workers: {most} bytes, {} too many",
                most - allowed
            );
            assert!(most > limit / 2, "the trial must fill the memory");
            let mut client = server.client();
            if policy == "noeviction" {
                assert!(refused > 0);
                assert_eq!(figure(&mut client, "evicted_keys"), 0);
                // What gives memory back is never refused.
                assert!(client.run("GET none").unwrap() == Value::NilBulk);
                ok(&mut client, "FLUSHALL SYNC");
                ok(&mut client, "SET k v");
            } else {
                assert_eq!(refused, 0, "{policy}, {threads} workers");
                assert!(accepted > 0 && figure(&mut client, "evicted_keys") > 0);
            }
        }
    }
}

#[test]
fn flushall_sync_answers_once_the_memory_is_free_and_holds_nobody_up() {
    for threads in [1, 2] {
        let server = larder(threads, &[]);
        let (mut client, mut other) = (server.client(), server.client());
        let empty = figure(&mut client, "used_memory");
        client.set_reply_timeout(Duration::from_secs(60)).unwrap();
        for flush in ["FLUSHALL SYNC", "FLUSHDB SYNC", "FLUSHALL"] {
            many(&mut client, 1_000_000, |number| encode(&["SET", &format!("key:{number}"), "a value"]));
            client.send_raw(&encode(&flush.split(' ').collect::<Vec<_>>())).unwrap();
            let start = Instant::now();
            let mut slowest = Duration::ZERO;
            until("it is flushed", || {
                let asked = Instant::now();
                let left = keys(&mut other);
                slowest = slowest.max(asked.elapsed());
                left == 0
            });
            assert_eq!(client.read().unwrap().text(), "OK");
            let took = start.elapsed();
            let used = figure(&mut client, "used_memory");
            println!(
                "{threads} workers, {flush} of 1M keys: answered after {took:?}, slowest DBSIZE of another {slowest:?}, {used} B in use"
            );
            assert!(used < empty + 12 * MIB, "{flush}: {used} bytes are still in use, {empty} were before");
        }
    }
}

#[test]
fn flushes_and_swaps_during_load_leave_true_counts() {
    let server = larder(2, &[]);
    let stop = AtomicBool::new(false);
    scope(|scope| {
        for writer in 0..3 {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                let mut client = server.client();
                ok(&mut client, &format!("SELECT {}", writer % 2));
                while !stop.load(Relaxed) {
                    many(&mut client, 2000, |number| encode(&["SET", &format!("{writer}:{number}"), "v"]));
                }
            });
        }
        let mut client = server.client();
        for round in 0..300 {
            ok(&mut client, ["FLUSHALL ASYNC", "SWAPDB 0 1", "FLUSHDB SYNC", "SWAPDB 1 0"][round % 4]);
        }
        stop.store(true, Relaxed);
    });
    let mut client = server.client();
    for db in 0..2 {
        ok(&mut client, &format!("SELECT {db}"));
        let found = client.run("KEYS *").unwrap().items().unwrap().len() as u64;
        assert_eq!(found, keys(&mut client));
        let mut seen = BTreeSet::new();
        scan(&mut client, |key| _ = seen.insert(key));
        assert_eq!(seen.len() as u64, found);
    }
    ok(&mut client, "FLUSHALL");
    assert_eq!(keys(&mut client), 0);
}

/// A whole SCAN.
fn scan(client: &mut Client, mut found: impl FnMut(String)) {
    let mut cursor = "0".to_owned();
    loop {
        let reply = client.command(&["SCAN", &cursor, "COUNT", "50"]).unwrap();
        let parts = reply.items().unwrap();
        parts[1].items().unwrap().iter().for_each(|key| found(key.text()));
        cursor = parts[0].text();
        if cursor == "0" {
            return;
        }
    }
}

#[test]
fn scan_finds_every_key_that_stays_while_others_come_and_go() {
    for threads in [1, 2] {
        let server = larder(threads, &[]);
        let mut client = server.client();
        many(&mut client, 20_000, |number| encode(&["SET", &format!("stays:{number}"), "v"]));
        let stop = AtomicBool::new(false);
        scope(|scope| {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                let mut other = server.client();
                while !stop.load(Relaxed) {
                    many(&mut other, 100_000, |number| encode(&["SET", &format!("goes:{number}"), "v"]));
                    many(&mut other, 100_000, |number| encode(&["DEL", &format!("goes:{number}")]));
                }
            });
            for _ in 0..10 {
                let mut seen = BTreeSet::new();
                scan(&mut client, |key| {
                    if key.starts_with("stays:") {
                        seen.insert(key);
                    }
                });
                assert_eq!(seen.len(), 20_000);
            }
            stop.store(true, Relaxed);
        });
    }
}
