//! What several connections may rely on at once: commands are atomic, SCAN misses no key that stays,
//! expired keys go by themselves.
//! Invariant: each test runs with as many connections as it takes to see a torn command.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::{Client, Larder, Server, Value};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

fn start() -> Server {
    Larder::start_with_threads("2").unwrap()
}

/// How long the concurrent tests go on.
const TRIAL: Duration = Duration::from_millis(700);

/// Runs `change` over and over on some connections while `look` does on others.
fn together(server: &Server, change: impl Fn(&mut Client, usize) + Sync, look: impl Fn(&mut Client) + Sync) {
    let stop = AtomicBool::new(false);
    scope(|scope| {
        for writer in 0..3 {
            let (stop, change) = (&stop, &change);
            scope.spawn(move || {
                let mut client = server.client();
                // Relaxed: only the end of the trial is told, no data goes with it.
                while !stop.load(Ordering::Relaxed) {
                    change(&mut client, writer);
                }
            });
        }
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (stop, look) = (&stop, &look);
                scope.spawn(move || {
                    let mut client = server.client();
                    while !stop.load(Ordering::Relaxed) {
                        look(&mut client);
                    }
                })
            })
            .collect();
        let end = Instant::now() + TRIAL;
        // A reader that panicked ends the trial, or its message would wait for the others.
        while Instant::now() < end && !readers.iter().any(|reader| reader.is_finished()) {
            sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn increments_are_never_lost() {
    let server = start();
    scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let commands = vec![vec!["INCR", "n"]; 2_000];
                let replies = server.client().pipeline(&commands).unwrap();
                // Each connection sees the counter grow.
                assert!(replies.is_sorted_by_key(|reply| reply.integer().unwrap()));
            });
        }
    });
    assert_eq!(server.client().run("GET n").unwrap().text(), "16000");
}

#[test]
fn several_keys_are_set_at_once() {
    let server = start();
    server.client().run("MSET a 0 b 0 c 0 d 0").unwrap();
    together(
        &server,
        |client, writer| {
            // Half of the writers name the keys in the opposite order.
            let order = if writer == 1 { ["d", "c", "b", "a"] } else { ["a", "b", "c", "d"] };
            let value = client.run("CLIENT ID").unwrap().integer().unwrap().to_string();
            let pairs = order.map(|key| format!("{key} {value}")).join(" ");
            client.run(&format!("MSET {pairs}")).unwrap();
        },
        |client| {
            let values = client.run("MGET a b c d").unwrap();
            let values = values.items().unwrap();
            assert!(values.iter().all(|value| value == &values[0]), "a torn MSET: {values:?}");
        },
    );
}

#[test]
fn a_renamed_key_is_always_under_one_name() {
    let server = start();
    server.client().run("SET a v").unwrap();
    together(
        &server,
        |client, _| {
            client.run("RENAME a b").unwrap();
            client.run("RENAME b a").unwrap();
        },
        |client| assert_eq!(client.run("EXISTS a b").unwrap(), Value::Integer(1)),
    );
}

#[test]
fn msetnx_sets_all_keys_or_none() {
    let server = start();
    together(
        &server,
        |client, writer| {
            client.run(&format!("MSETNX a {writer} b {writer} c {writer}")).unwrap();
            client.run("DEL a b c").unwrap();
        },
        |client| {
            let values = client.run("MGET a b c").unwrap();
            let values = values.items().unwrap();
            assert!(values.iter().all(|value| value == &values[0]), "a torn MSETNX: {values:?}");
        },
    );
}

#[test]
fn swapped_databases_are_swapped_for_everybody_at_once() {
    let server = start();
    let mut client = server.client();
    client.run("MSET a zero b zero").unwrap();
    client.run("SELECT 1").unwrap();
    client.run("MSET a one b one").unwrap();
    together(
        &server,
        |client, _| {
            client.run("SWAPDB 0 1").unwrap();
        },
        |client| {
            let values = client.run("MGET a b").unwrap();
            let values = values.items().unwrap();
            assert_eq!(values[0], values[1]);
            assert!(values[0] != Value::NilBulk);
        },
    );
}

#[test]
fn flushall_and_many_writers_leave_a_true_count() {
    let server = start();
    together(
        &server,
        |client, writer| {
            let commands: Vec<_> =
                (0..50).map(|n| vec!["SET".to_owned(), format!("{writer}:{n}"), "v".into()]).collect();
            client.pipeline(&commands).unwrap();
        },
        |client| {
            client.run("FLUSHALL").unwrap();
        },
    );
    let mut client = server.client();
    let keys = client.run("KEYS *").unwrap().items().unwrap().len();
    assert_eq!(client.run("DBSIZE").unwrap(), Value::Integer(keys as i64));
    client.run("FLUSHALL").unwrap();
    assert_eq!(client.run("DBSIZE").unwrap(), Value::Integer(0));
}

/// Every key that SCAN gives from beginning to end, with something done between its steps.
fn scan(client: &mut Client, mut between: impl FnMut(&mut Client, usize)) -> Vec<String> {
    let mut found = Vec::new();
    let mut cursor = "0".to_owned();
    for step in 0.. {
        let reply = client.run(&format!("SCAN {cursor} COUNT 10")).unwrap();
        let parts = reply.items().unwrap();
        found.extend(parts[1].items().unwrap().iter().map(Value::text));
        cursor = parts[0].text();
        if cursor == "0" {
            break;
        }
        between(client, step);
    }
    found
}

fn fill(client: &mut Client, prefix: &str, count: usize) {
    let commands: Vec<_> =
        (0..count).map(|n| vec!["SET".to_owned(), format!("{prefix}{n}"), "v".into()]).collect();
    client.pipeline(&commands).unwrap();
}

fn assert_all_found(found: Vec<String>, staying: usize) {
    let found: BTreeSet<String> = found.into_iter().collect();
    let missing = (0..staying).filter(|n| !found.contains(&format!("stay:{n}")));
    assert_eq!(missing.count(), 0, "SCAN missed keys that were there all the time");
}

#[test]
fn scan_of_a_quiet_server_finds_each_key_once() {
    let server = start();
    let mut client = server.client();
    fill(&mut client, "stay:", 5_000);
    let found = scan(&mut client, |_, _| {});
    assert_eq!(found.len(), 5_000, "keys came twice or not at all");
    assert_all_found(found, 5_000);
}

#[test]
fn scan_misses_no_key_while_the_table_grows() {
    let server = start();
    let mut client = server.client();
    fill(&mut client, "stay:", 1_000);
    let found = scan(&mut client, |client, step| {
        if step < 100 {
            fill(client, &format!("new:{step}:"), 500);
        }
    });
    assert_all_found(found, 1_000);
}

#[test]
fn scan_misses_no_key_while_the_table_shrinks() {
    let server = start();
    let mut client = server.client();
    fill(&mut client, "stay:", 1_000);
    fill(&mut client, "go:", 50_000);
    let found = scan(&mut client, |client, step| {
        let commands: Vec<_> =
            (0..500).map(|n| vec!["DEL".to_owned(), format!("go:{}", step * 500 + n)]).collect();
        client.pipeline(&commands).unwrap();
    });
    assert_all_found(found, 1_000);
}

#[test]
fn expired_keys_go_without_being_touched() {
    let server = start();
    let mut client = server.client();
    fill(&mut client, "stay:", 1_000);
    let commands: Vec<_> = (0..20_000)
        .map(|n| vec!["SET".to_owned(), format!("go:{n}"), "v".into(), "PX".into(), "100".into()])
        .collect();
    client.pipeline(&commands).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while client.run("DBSIZE").unwrap() != Value::Integer(1_000) {
        assert!(Instant::now() < deadline, "expired keys are still counted");
        sleep(Duration::from_millis(10));
    }
    let stats = client.run("INFO stats").unwrap().text();
    assert!(stats.contains("expired_keys:20000\r\n"), "{stats}");
}
