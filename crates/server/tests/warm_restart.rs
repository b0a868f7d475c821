//! What a cache still knows after a restart: the hit ratio goes on where it was, and other servers read the file all the same.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::client::encode;
use larder_testkit::server::available;
use larder_testkit::{Client, Redis82, Server, Valkey};
use scenario::{figure, larder, ok, until};
use std::path::Path;

/// Keys of the load that come again.
const KEYS: f64 = 40_000.0;
/// Requests before the restart, and those whose hits are counted behind it.
const BEFORE: u64 = 120_000;
const BEHIND: u64 = 12_000;
/// Requests in a pipeline.
const BATCH: u64 = 100;

fn mixed(number: u64) -> u64 {
    let mixed = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// The key of a request: popularity by Zipf's law, about 0.9, of which the favourites change slowly; one in five is asked for once.
fn key_of(request: u64) -> u64 {
    let random = mixed(request.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    if random.is_multiple_of(5) {
        return 1 << 32 | request;
    }
    let share = (random >> 11) as f64 / (1u64 << 53) as f64;
    // The inverse of the sum of ranks to the power of -0.9.
    let rank = ((KEYS.powf(0.1) - 1.0) * share + 1.0).powf(10.0) as u64;
    // Each rank passes to another key now and then, at a time of its own.
    mixed((rank << 20) | ((request + mixed(rank) % 60_000) / 60_000))
}

fn value_of(key: u64) -> String {
    "v".repeat(100 + (mixed(key) % 1_500) as usize)
}

/// Asks for keys, stores what was missing. Answers how many were there.
fn ask(client: &mut Client, requests: std::ops::Range<u64>) -> u64 {
    let mut hits = 0;
    for first in requests.clone().step_by(BATCH as usize) {
        let keys: Vec<u64> = (first..(first + BATCH).min(requests.end)).map(key_of).collect();
        let gets: Vec<u8> = keys.iter().flat_map(|key| encode(&["GET", &key.to_string()])).collect();
        let replies = client.pipeline_raw(&gets, keys.len()).unwrap();
        let missing: Vec<u64> = keys
            .iter()
            .zip(&replies)
            .filter(|(_, reply)| reply.bytes().is_none())
            .map(|(key, _)| *key)
            .collect();
        hits += (keys.len() - missing.len()) as u64;
        let sets: Vec<u8> =
            missing.iter().flat_map(|key| encode(&["SET", &key.to_string(), &value_of(*key)])).collect();
        assert!(client.pipeline_raw(&sets, missing.len()).unwrap().iter().all(|reply| !reply.is_error()));
    }
    hits
}

fn started(folder: &Path, policy: &str, warm: &str) -> Server {
    let dir = folder.to_str().unwrap();
    let policy = format!("allkeys-{policy}");
    larder(
        1,
        &[
            "--dir",
            dir,
            "--save",
            "",
            "--maxmemory",
            "8mb",
            "--maxmemory-policy",
            &policy,
            "--warm-restart",
            warm,
        ],
    )
}

#[expect(clippy::print_stdout, reason = "the figures are what a person runs it for")]
fn show(when: &str, client: &mut Client) {
    let keys = client.run("DBSIZE").unwrap().integer().unwrap();
    println!(
        "  {when}: {keys} keys, {} bytes, {} evicted",
        figure(client, "used_memory"),
        figure(client, "evicted_keys")
    );
}

/// Hits by requests: where there was no restart, behind one that keeps what is known, and behind one that does not.
fn ratios(policy: &str) -> [f64; 3] {
    let folder = tempfile::tempdir().unwrap();
    let before = started(folder.path(), policy, "yes");
    let mut client = before.client();
    ask(&mut client, 0..BEFORE);
    ok(&mut client, "SAVE");
    let behind = |client: &mut Client| ask(client, BEFORE..BEFORE + BEHIND) as f64 / BEHIND as f64;
    show("before", &mut client);
    let without = behind(&mut client);
    let restarted = |warm| {
        let server = started(folder.path(), policy, warm);
        let mut client = server.client();
        until("it is loaded", || !client.run("DBSIZE").unwrap().is_error());
        assert!(figure(&mut client, "rdb_last_load_keys_loaded") > 5_000);
        show("loaded", &mut client);
        behind(&mut client)
    };
    [without, restarted("yes"), restarted("no")]
}

#[test]
fn the_hit_ratio_after_a_restart_is_what_it_was_before() {
    for policy in ["lru", "lfu", "s3fifo", "wtinylfu", "gdsf", "adaptive"] {
        let [without, warm, cold] = ratios(policy);
        println!("{policy}: without a restart {without:.4}, kept {warm:.4}, not kept {cold:.4}");
        assert!(warm > without - 0.012, "{policy}: {warm} after {without}");
    }
}

#[test]
fn other_servers_read_a_file_with_what_is_kept() {
    for policy in ["adaptive", "lfu", "lru", "wtinylfu"] {
        let folder = tempfile::tempdir().unwrap();
        let server = started(folder.path(), policy, "yes");
        let mut client = server.client();
        ask(&mut client, 0..5_000);
        ok(&mut client, "SAVE");
        let file = std::fs::read(folder.path().join("dump.rdb")).unwrap();
        let has = |name: &[u8]| file.windows(name.len()).any(|bytes| bytes == name);
        assert!(has(b"larder-uses") && has(b"larder-policy"));
        let digest = client.run("DEBUG DIGEST").unwrap();
        let dir = folder.path().to_str().unwrap();
        for other in [Redis82::start_with(&["--dir", dir]), Valkey::start_with(&["--dir", dir])] {
            let Some(other) = available(other) else { return };
            assert_eq!(other.client().run("DEBUG DIGEST").unwrap(), digest, "{policy}");
            let log = other.log();
            assert!(!log.contains("larder") && !log.contains("Unrecognized"), "{log}");
        }
        // Without it the file is as Redis would write it.
        ok(&mut client, "CONFIG SET warm-restart no");
        ok(&mut client, "SAVE");
        let file = std::fs::read(folder.path().join("dump.rdb")).unwrap();
        assert!(!file.windows(7).any(|bytes| bytes == b"larder-"));
    }
}

#[test]
fn a_policy_that_is_another_goes_by_idle_times_and_counts() {
    let folder = tempfile::tempdir().unwrap();
    let server = started(folder.path(), "lfu", "yes");
    let mut client = server.client();
    ok(&mut client, "SET key v");
    (0..20).for_each(|_| drop(client.run("GET key").unwrap()));
    let uses = client.run("OBJECT FREQ key").unwrap();
    ok(&mut client, "SAVE");
    let again = started(folder.path(), "lfu", "yes");
    until("it is loaded", || !again.client().run("DBSIZE").unwrap().is_error());
    assert_eq!(again.client().run("OBJECT FREQ key").unwrap(), uses);
    let other = started(folder.path(), "adaptive", "yes");
    until("it is loaded", || !other.client().run("DBSIZE").unwrap().is_error());
    assert_eq!(other.client().run("GET key").unwrap().text(), "v");
    assert!(other.log().contains("means nothing"), "{}", other.log());
}

#[test]
fn hot_keys_and_traffic_are_still_known() {
    let folder = tempfile::tempdir().unwrap();
    let server = started(folder.path(), "lru", "yes");
    let mut client = server.client();
    ask(&mut client, 0..20_000);
    ok(&mut client, "SELECT 3");
    ok(&mut client, "SET user:1 v");
    for _ in 0..100 {
        let gets: Vec<u8> = (0..100).flat_map(|_| encode(&["GET", "user:1"])).collect();
        client.pipeline_raw(&gets, 100).unwrap();
    }
    let hottest = |client: &mut Client| {
        let keys = client.run("CACHE HOTKEYS COUNT 1").unwrap();
        let first = keys.items().unwrap().first().cloned();
        let field = |name| first.as_ref().and_then(|key| key.field(name)).map(|field| field.text());
        (field("key"), field("db"), field("accesses"))
    };
    let before = hottest(&mut client);
    assert_eq!(before.0.as_deref(), Some("user:1"));
    ok(&mut client, "SAVE");
    let restarted = |warm| {
        let server = started(folder.path(), "lru", warm);
        let mut client = server.client();
        until("it is loaded", || !client.run("DBSIZE").unwrap().is_error());
        hottest(&mut client)
    };
    assert_eq!(restarted("yes"), before);
    assert_ne!(restarted("no"), before);
}
