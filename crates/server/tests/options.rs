//! Options whose effect shows only in what the server does: each test fails when its option is read by
//! nobody.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::{Client, Server};
use scenario::{figure, info, larder, ok, until};
use std::time::Duration;

/// A value that is large enough for the background.
const LARGE: usize = 200_000;

/// Objects that the background has freed or is about to.
fn lazily_freed(client: &mut Client) -> u64 {
    // Both from one reply: an object moves from one to the other at any time.
    let text = client.run("INFO memory").unwrap().text();
    let value = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().trim().parse().unwrap()
    };
    value("lazyfreed_objects") + value("lazyfree_pending_objects")
}

fn set_large(client: &mut Client, key: &str) {
    let value = vec![b'x'; LARGE];
    client.command(&[b"SET".as_slice(), key.as_bytes(), &value]).unwrap();
}

/// Runs `removal` with the option off and on: nothing, then something goes to the background.
fn check_lazy_free(server: &Server, option: &str, mut removal: impl FnMut(&mut Client)) {
    let mut client = server.client();
    for (value, expected) in [("no", 0), ("yes", 1), ("no", 0)] {
        ok(&mut client, &format!("CONFIG SET {option} {value}"));
        set_large(&mut client, "k");
        let before = (lazily_freed(&mut client), figure(&mut client, "used_memory"));
        removal(&mut client);
        assert_eq!(lazily_freed(&mut client) - before.0, expected, "{option} {value}");
        if expected == 0 {
            // It is gone by the time of the reply.
            let used = figure(&mut client, "used_memory");
            assert!(used + LARGE as u64 / 2 < before.1, "{option} {value}: {} then {used}", before.1);
        }
        client.run("UNLINK k").unwrap();
        until("the background is done", || figure(&mut client, "lazyfree_pending_objects") == 0);
    }
}

#[test]
fn lazy_freeing_is_an_option_for_each_kind_of_removal() {
    let server = larder(1, &[]);
    check_lazy_free(&server, "lazyfree-lazy-user-del", |client| {
        client.run("DEL k").unwrap();
    });
    check_lazy_free(&server, "lazyfree-lazy-server-del", |client| ok(client, "SET k small"));
    check_lazy_free(&server, "lazyfree-lazy-server-del", |client| {
        ok(client, "SET other small");
        ok(client, "RENAME other k");
    });
    check_lazy_free(&server, "lazyfree-lazy-expire", |client| {
        client.run("PEXPIREAT k 1").unwrap();
    });
}

#[test]
fn lazy_freeing_of_expired_keys_is_an_option() {
    let server = larder(1, &[]);
    ok(&mut server.client(), "DEBUG SET-ACTIVE-EXPIRE 0");
    check_lazy_free(&server, "lazyfree-lazy-expire", |client| {
        client.run("PEXPIRE k 1").unwrap();
        std::thread::sleep(Duration::from_millis(5));
        client.run("GET k").unwrap();
    });
}

#[test]
fn lazy_freeing_of_evicted_keys_is_an_option() {
    // What is watched shrinks with the limit, and would make the room that the key is to make.
    let server = larder(1, &["--maxmemory-policy", "allkeys-random", "--cache-insight", "no"]);
    check_lazy_free(&server, "lazyfree-lazy-eviction", |client| {
        let used = figure(client, "used_memory");
        ok(client, &format!("CONFIG SET maxmemory {}", used - LARGE as u64 / 4));
        until("the key is evicted", || client.run("EXISTS k").unwrap().integer() == Some(0));
        ok(client, "CONFIG SET maxmemory 0");
    });
}

#[test]
fn unlink_always_frees_in_the_background_and_a_flush_counts_its_keys() {
    let server = larder(1, &[]);
    let mut client = server.client();
    set_large(&mut client, "k");
    client.run("UNLINK k").unwrap();
    assert_eq!(lazily_freed(&mut client), 1);
    ok(&mut client, "DEBUG POPULATE 1000");
    ok(&mut client, "FLUSHALL ASYNC");
    assert_eq!(lazily_freed(&mut client), 1001);
}

#[test]
fn a_flush_waits_for_the_memory_unless_the_option_says_otherwise() {
    let server = larder(1, &[]);
    let mut client = server.client();
    for _ in 0..3 {
        ok(&mut client, "DEBUG POPULATE 50000");
        ok(&mut client, "FLUSHALL");
        assert_eq!(figure(&mut client, "lazyfree_pending_objects"), 0);
    }
    ok(&mut client, "CONFIG SET lazyfree-lazy-user-flush yes");
    ok(&mut client, "DEBUG POPULATE 500000");
    ok(&mut client, "FLUSHALL");
    assert_eq!(figure(&mut client, "lazyfree_pending_objects"), 500_000);
}

/// Turns of the event loop of an idle server in half a second.
fn idle_turns(client: &mut Client) -> u64 {
    // The server comes to rest first.
    std::thread::sleep(Duration::from_millis(300));
    let before = figure(client, "eventloop_cycles");
    std::thread::sleep(Duration::from_millis(500));
    figure(client, "eventloop_cycles") - before
}

#[test]
fn hz_is_how_often_an_idle_server_wakes() {
    let server = larder(1, &["--hz", "1"]);
    let mut client = server.client();
    let slow = idle_turns(&mut client);
    ok(&mut client, "CONFIG SET hz 200");
    let fast = idle_turns(&mut client);
    assert!(slow <= 10 && fast >= 30, "{slow} turns at 1, {fast} at 200");
}

#[test]
fn many_connections_raise_hz_if_it_is_dynamic() {
    let server = larder(1, &["--hz", "1"]);
    let mut client = server.client();
    assert_eq!(info(&mut client, "hz"), "1");
    let crowd: Vec<Client> = (0..450).map(|_| server.client()).collect();
    // A connection that is made may still wait to be accepted: they are taken a few in each turn.
    until("450 connections make it 4", || info(&mut client, "hz") == "4");
    assert_eq!(info(&mut client, "configured_hz"), "1");
    ok(&mut client, "CONFIG SET dynamic-hz no");
    assert_eq!(info(&mut client, "hz"), "1");
    drop(crowd);
}

/// Slices of expiry that were full until everything that ended at once was gone.
fn full_slices(effort: u32) -> u64 {
    let server = larder(1, &["--active-expire-effort", &effort.to_string()]);
    let mut client = server.client();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let keys = 100_000;
    let at = now + 4_000;
    for first in (0..keys).step_by(500) {
        for key in first..first + 500 {
            client.send(&["SET", &format!("key:{key}"), "v", "PXAT", &at.to_string()]).unwrap();
        }
        for _ in 0..500 {
            client.read().unwrap();
        }
    }
    until("all keys are gone", || client.run("DBSIZE").unwrap().integer().unwrap() == 0);
    assert_eq!(figure(&mut client, "expired_keys"), keys);
    figure(&mut client, "expired_time_cap_reached_count")
}

#[test]
fn effort_makes_the_slices_of_expiry_longer() {
    let (least, most) = (full_slices(1), full_slices(10));
    assert!(least > most + most / 2, "{least} slices at 1, {most} at 10");
}

#[test]
fn tenacity_is_how_long_a_command_evicts() {
    let server = larder(1, &["--maxmemory-policy", "allkeys-random"]);
    let mut client = server.client();
    // A limit far below what is in use, and a write that has to make room.
    let mut over_limit_after = |tenacity: u32| {
        ok(&mut client, "CONFIG SET maxmemory 0");
        ok(&mut client, &format!("CONFIG SET maxmemory-eviction-tenacity {tenacity}"));
        ok(&mut client, "FLUSHALL");
        ok(&mut client, "DEBUG POPULATE 300000 key 100");
        let limit = figure(&mut client, "used_memory") - 25_000_000;
        ok(&mut client, &format!("CONFIG SET maxmemory {limit}"));
        ok(&mut client, "SET one more");
        let over = figure(&mut client, "used_memory").saturating_sub(limit);
        until("the background goes on", || figure(&mut client, "used_memory") <= limit + 300_000);
        over
    };
    let (lazy, tenacious) = (over_limit_after(0), over_limit_after(100));
    assert!(lazy > 5_000_000 && tenacious < 300_000, "over the limit: {lazy} at 0, {tenacious} at 100");
}

#[test]
fn the_logo_is_for_terminals_unless_it_is_always_to_be_shown() {
    let shows = |options: &[&str]| larder(1, options).log().contains("|_o_0_8_|");
    assert!(!shows(&[]));
    assert!(shows(&["--always-show-logo", "yes"]));
}

#[test]
fn every_idle_connection_is_found_though_a_turn_looks_at_a_part_of_them() {
    let server = larder(1, &["--timeout", "1", "--hz", "10"]);
    let crowd: Vec<Client> = (0..300).map(|_| server.client()).collect();
    let mut client = server.client();
    until("only the one that asks is left", || figure(&mut client, "connected_clients") == 1);
    drop(crowd);
}
