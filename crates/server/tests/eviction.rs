//! What leaves when memory is full: every policy, by the commands that show it.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::client::encode;
use larder_testkit::{Client, Value};
use scenario::{figure, larder, ok, until};

const KINDS: [&str; 11] =
    ["lru", "lrm", "mru", "fifo", "lfu", "random", "sieve", "s3fifo", "wtinylfu", "gdsf", "adaptive"];

/// Every word of `maxmemory-policy` but noeviction.
fn policies() -> Vec<String> {
    let scopes = ["allkeys", "volatile"];
    let both = KINDS.iter().flat_map(|kind| scopes.map(|scope| format!("{scope}-{kind}")));
    let short = ["adaptive", "s3fifo", "sieve", "wtinylfu", "gdsf", "volatile-ttl"];
    both.chain(short.map(String::from)).collect()
}

fn integer(client: &mut Client, line: &str) -> i64 {
    client.run(line).unwrap().integer().unwrap()
}

/// Stores keys of 1,000 bytes, each looked at right after; all must be there then.
fn fill(client: &mut Client, name: &str, keys: std::ops::Range<u32>, seconds: Option<u32>) {
    let value = "v".repeat(1000);
    for first in keys.clone().step_by(50) {
        let mut bytes = Vec::new();
        let batch = first..(first + 50).min(keys.end);
        for key in batch.clone() {
            let key = format!("{name}:{key}");
            match seconds {
                Some(seconds) => bytes.extend(encode(&["SET", &key, &value, "EX", &seconds.to_string()])),
                None => bytes.extend(encode(&["SET", &key, &value])),
            }
            bytes.extend(encode(&["EXISTS", &key]));
        }
        for pair in client.pipeline_raw(&bytes, 2 * batch.len()).unwrap().chunks(2) {
            assert_eq!(pair[0].text(), "OK", "{:?}", pair[0]);
            assert_eq!(pair[1].integer(), Some(1), "what was stored is there right after");
        }
    }
}

#[test]
fn every_policy_makes_room_and_keeps_what_was_just_stored() {
    for threads in [1, 2] {
        let server = larder(threads, &["--maxmemory", "8mb"]);
        let mut client = server.client();
        for policy in policies() {
            ok(&mut client, &format!("CONFIG SET maxmemory-policy {policy}"));
            assert_eq!(client.run("CONFIG GET maxmemory-policy").unwrap().items().unwrap()[1].text(), policy);
            let before = figure(&mut client, "evicted_keys");
            fill(&mut client, &policy, 0..10_000, policy.starts_with("volatile").then_some(1000));
            let evicted = figure(&mut client, "evicted_keys") - before;
            assert!(evicted > 1_500, "{policy}: {evicted} evicted");
            let used = figure(&mut client, "used_memory");
            assert!(used < 9 << 20, "{policy}: {used}");
            ok(&mut client, "FLUSHALL");
        }
    }
}

#[test]
fn volatile_policies_leave_keys_without_an_end_alone_and_refuse_when_nothing_else_is_left() {
    let server = larder(2, &["--maxmemory", "16mb"]);
    let mut client = server.client();
    for policy in policies().iter().filter(|policy| policy.starts_with("volatile")) {
        ok(&mut client, &format!("CONFIG SET maxmemory-policy {policy}"));
        fill(&mut client, "lasting", 0..5_000, None);
        fill(&mut client, "passing", 0..20_000, Some(1000));
        for key in (0..5_000).step_by(7) {
            assert_eq!(integer(&mut client, &format!("EXISTS lasting:{key}")), 1, "{policy}");
        }
        // Keys that get an end may leave, and those that lose it may not.
        ok(&mut client, "SET changing v");
        assert_eq!(integer(&mut client, "EXPIRE changing 1000"), 1);
        assert_eq!(integer(&mut client, "PERSIST changing"), 1);
        let mut key = 0;
        let refusal = loop {
            let reply = client.run(&format!("SET more:{key} {}", "v".repeat(1000))).unwrap();
            if reply.is_error() {
                break reply;
            }
            key += 1;
            assert!(key < 30_000, "{policy} refuses nothing");
        };
        assert_eq!(refusal.text(), "OOM command not allowed when used memory > 'maxmemory'.", "{policy}");
        assert_eq!(integer(&mut client, "EXISTS changing"), 1);
        let all = integer(&mut client, "DBSIZE");
        assert_eq!(all, 5_001 + key, "{policy}: all that has an end has left");
        for key in 0..100 {
            assert_eq!(integer(&mut client, &format!("EXPIRE lasting:{key} 1000")), 1);
        }
        ok(&mut client, "SET another v");
        let left = present(&mut client, "lasting", 0..5_000);
        assert!((4_900..5_000).contains(&left), "{policy}: some of those that may now leave have: {left}");
        ok(&mut client, "FLUSHALL");
    }
}

#[test]
fn a_change_of_policy_loses_nothing() {
    let server = larder(2, &["--maxmemory", "64mb"]);
    let mut client = server.client();
    fill(&mut client, "key", 0..20_000, None);
    for policy in policies() {
        ok(&mut client, &format!("CONFIG SET maxmemory-policy {policy}"));
        assert_eq!(integer(&mut client, "DBSIZE"), 20_000, "{policy}");
    }
    ok(&mut client, "CONFIG SET maxmemory-policy noeviction");
    assert_eq!(integer(&mut client, "DBSIZE"), 20_000);
    assert_eq!(figure(&mut client, "evicted_keys"), 0);
}

/// How many of a range of keys are there.
fn present(client: &mut Client, name: &str, keys: impl Iterator<Item = u32>) -> usize {
    keys.filter(|key| integer(client, &format!("EXISTS {name}:{key}")) == 1).count()
}

#[test]
fn policies_are_what_their_names_say() {
    let server = larder(1, &["--maxmemory", "17mb", "--cache-insight", "no"]);
    let mut client = server.client();
    // Of 10,000 keys every second one of the first half is read some time later, and then 14,000 are added: some 7,000 leave.
    let mut trial = |policy: &str| {
        ok(&mut client, "FLUSHALL");
        ok(&mut client, &format!("CONFIG SET maxmemory-policy {policy}"));
        fill(&mut client, "key", 0..10_000, None);
        for _ in 0..3 {
            for key in (0..5_000).step_by(2) {
                assert!(client.run(&format!("GET key:{key}")).unwrap() != Value::NilBulk, "{policy}");
            }
        }
        fill(&mut client, "new", 0..14_000, None);
        let read = present(&mut client, "key", (0..5_000).step_by(2));
        let unread = present(&mut client, "key", (1..5_000).step_by(2));
        let later = present(&mut client, "key", 5_000..10_000);
        (read, unread, later)
    };
    let (read, unread, later) = trial("allkeys-lru");
    assert!(read > 2_450 && unread < 25 && later < 1_500, "lru: {read} {unread} {later}");
    let (read, unread, later) = trial("allkeys-fifo");
    assert!(read < 25 && unread < 25 && later > 2_000, "fifo: {read} {unread} {later}");
    let (read, unread, _) = trial("allkeys-lrm");
    assert!(read < 25 && unread < 25, "lrm: {read} {unread}");
    let (read, _, _) = trial("allkeys-lfu");
    assert!(read == 2_500, "lfu: {read}");
    let (read, unread, later) = trial("allkeys-mru");
    assert!(read == 2_500 && unread == 2_500 && later == 5_000, "mru: {read} {unread} {later}");
    let (read, unread, _) = trial("allkeys-random");
    assert!(read.abs_diff(unread) < 250, "random: {read} {unread}");
}

#[test]
fn what_is_used_again_and_again_stays_under_policies_that_learn() {
    let server = larder(1, &["--maxmemory", "17mb", "--cache-insight", "no"]);
    let mut client = server.client();
    for policy in ["allkeys-sieve", "allkeys-s3fifo", "allkeys-wtinylfu", "allkeys-gdsf", "allkeys-adaptive"]
    {
        ok(&mut client, "FLUSHALL");
        ok(&mut client, &format!("CONFIG SET maxmemory-policy {policy}"));
        fill(&mut client, "key", 0..10_000, None);
        let hot: Vec<u8> = (0..2_500).flat_map(|key| encode(&["GET", &format!("key:{key}")])).collect();
        // One key that never comes back for each use of one that does.
        for round in 0..14 {
            client.pipeline_raw(&hot, 2_500).unwrap();
            fill(&mut client, "new", round * 1_000..(round + 1) * 1_000, None);
        }
        let (used, unused) =
            (present(&mut client, "key", 0..2_500), present(&mut client, "key", 7_500..10_000));
        assert!(used > 2_450 && used + 50 >= unused, "{policy}: {used} {unused}");
    }
}

#[test]
fn idle_times_and_frequencies_are_told_where_the_policy_has_them() {
    let server = larder(1, &["--maxmemory-policy", "allkeys-lru"]);
    let mut client = server.client();
    // Without a limit they are Redis' own.
    ok(&mut client, "SET k v");
    assert_eq!(integer(&mut client, "OBJECT IDLETIME k"), 0);
    let dump = client.run("DUMP k").unwrap();
    let restore = |client: &mut Client, words: &[&str]| {
        let Value::Bulk(payload) = &dump else { panic!("{dump:?}") };
        let command: Vec<Vec<u8>> = [&b"RESTORE"[..], b"k", b"0", payload, b"REPLACE"]
            .iter()
            .map(|word| word.to_vec())
            .chain(words.iter().map(|word| word.as_bytes().to_vec()))
            .collect();
        assert_eq!(client.pipeline(&[command]).unwrap()[0].text(), "OK");
    };
    restore(&mut client, &["IDLETIME", "1000"]);
    assert!((1000..1010).contains(&integer(&mut client, "OBJECT IDLETIME k")));
    assert!(client.run("OBJECT FREQ k").unwrap().is_error());
    ok(&mut client, "CONFIG SET maxmemory-policy allkeys-lfu");
    restore(&mut client, &["FREQ", "100"]);
    assert_eq!(integer(&mut client, "OBJECT FREQ k"), 100);
    assert!(client.run("OBJECT IDLETIME k").unwrap().is_error());
    // With one they are the policy's.
    ok(&mut client, "CONFIG SET maxmemory 64mb");
    ok(&mut client, "SET k v");
    for _ in 0..4 {
        ok(&mut client, "SET k v");
    }
    until("uses are counted", || integer(&mut client, "OBJECT FREQ k") >= 4);
    restore(&mut client, &["FREQ", "100"]);
    assert_eq!(integer(&mut client, "OBJECT FREQ k"), 100);
    ok(&mut client, "CONFIG SET maxmemory-policy allkeys-lru");
    ok(&mut client, "SET k v");
    until("time passes", || integer(&mut client, "OBJECT IDLETIME k") >= 2);
    assert_eq!(client.run("GET k").unwrap().text(), "v");
    assert!(integer(&mut client, "OBJECT IDLETIME k") <= 1);
    ok(&mut client, "CONFIG SET maxmemory-policy s3fifo");
    assert_eq!(
        client.run("OBJECT IDLETIME k").unwrap().text(),
        "ERR The maxmemory policy in force does not track idle times."
    );
}

#[test]
fn what_has_ended_leaves_before_anything_that_has_not() {
    let server = larder(1, &["--maxmemory", "16mb", "--maxmemory-policy", "allkeys-mru"]);
    let mut client = server.client();
    fill(&mut client, "lasting", 0..4_000, None);
    ok(&mut client, "DEBUG SET-ACTIVE-EXPIRE 0");
    for key in 0..6_000 {
        ok(&mut client, &format!("SET passing:{key} {} PX 1", "v".repeat(1000)));
    }
    ok(&mut client, "DEBUG SET-ACTIVE-EXPIRE 1");
    fill(&mut client, "new", 0..5_000, None);
    assert_eq!(figure(&mut client, "evicted_keys"), 0);
    assert_eq!(figure(&mut client, "expired_keys"), 6_000);
}

#[test]
fn evicted_keys_are_told_of() {
    let server = larder(2, &["--maxmemory", "16mb", "--maxmemory-policy", "allkeys-adaptive"]);
    let (mut client, mut listener) = (server.client(), server.client());
    ok(&mut client, "CONFIG SET notify-keyspace-events Ee");
    listener.run("SUBSCRIBE __keyevent@0__:evicted").unwrap();
    fill(&mut client, "key", 0..20_000, None);
    let evicted = figure(&mut client, "evicted_keys");
    assert!(evicted > 1_000);
    for _ in 0..evicted {
        let message = listener.read().unwrap();
        let key = message.items().unwrap()[2].text().to_string();
        assert!(key.starts_with("key:"), "{key}");
    }
    assert_eq!(integer(&mut client, "DBSIZE") as u64, 20_000 - evicted);
}

/// Evicted keys by what room was made for: a command, the limit, ahead of need.
fn evicted_for(client: &mut Client) -> [u64; 3] {
    let info = client.run("INFO cache").unwrap().text().to_string();
    ["for_command", "over_limit", "ahead"].map(|cause| {
        let name = format!("cache_removed_evicted_{cause}:");
        info.lines().find_map(|line| line.strip_prefix(&name)).unwrap().trim().parse().unwrap()
    })
}

#[test]
fn evictions_are_counted_by_what_room_was_made_for() {
    let server = larder(1, &["--maxmemory", "16mb", "--maxmemory-policy", "allkeys-lru"]);
    let mut client = server.client();
    fill(&mut client, "key", 0..30_000, None);
    // More at once than is kept free: the commands make room themselves.
    let large = "v".repeat(100_000);
    let burst: Vec<u8> = (0..40).flat_map(|key| encode(&["SET", &format!("large:{key}"), &large])).collect();
    client.pipeline_raw(&burst, 40).unwrap();
    let [for_command, over_limit, ahead] = evicted_for(&mut client);
    let evicted = figure(&mut client, "evicted_keys");
    assert_eq!(for_command + over_limit + ahead, evicted);
    assert!(for_command > 0 && ahead > 0, "{for_command} {ahead}");
    // Nobody waits when the limit is lowered.
    ok(&mut client, "CONFIG SET maxmemory 8mb");
    until("the limit is kept", || figure(&mut client, "used_memory") <= 8 << 20);
    let [_, later, _] = evicted_for(&mut client);
    assert!(later > over_limit + 4_000, "{over_limit} before, {later} after");
    let evicted = figure(&mut client, "evicted_keys");
    assert_eq!(evicted_for(&mut client).iter().sum::<u64>(), evicted);
    ok(&mut client, "CONFIG RESETSTAT");
    assert_eq!(evicted_for(&mut client), [0; 3]);
}

#[test]
fn idle_times_are_told_when_there_is_no_policy_any_more() {
    for threads in [1, 2] {
        let server = larder(threads, &["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
        let mut client = server.client();
        for (from, to) in [
            ("allkeys-lru", "noeviction"),
            ("allkeys-lfu", "noeviction"),
            ("allkeys-adaptive", "noeviction"),
            ("allkeys-s3fifo", "allkeys-random"),
        ] {
            ok(&mut client, "FLUSHALL");
            ok(&mut client, &format!("CONFIG SET maxmemory-policy {from}"));
            fill(&mut client, "key", 0..3_000, None);
            ok(&mut client, &format!("CONFIG SET maxmemory-policy {to}"));
            // Used meanwhile or not, none was idle for long.
            client.run("GET key:7").unwrap();
            until("idle times are told", || {
                (0..3_000)
                    .all(|key| (0..60).contains(&integer(&mut client, &format!("OBJECT IDLETIME key:{key}"))))
            });
            std::thread::sleep(std::time::Duration::from_millis(2_100));
            client.run("GET key:8").unwrap();
            assert!(integer(&mut client, "OBJECT IDLETIME key:8") <= 1, "{from}");
            assert!(integer(&mut client, "OBJECT IDLETIME key:9") >= 2, "{from}");
        }
        // And where there is no limit any more.
        ok(&mut client, "FLUSHALL");
        ok(&mut client, "CONFIG SET maxmemory-policy allkeys-adaptive");
        fill(&mut client, "key", 0..3_000, None);
        ok(&mut client, "CONFIG SET maxmemory 0");
        until("idle times are told", || {
            (0..3_000)
                .all(|key| (0..60).contains(&integer(&mut client, &format!("OBJECT IDLETIME key:{key}"))))
        });
        ok(&mut client, "CONFIG SET maxmemory 64mb");
    }
}

#[test]
fn hot_and_big_keys_are_told_of_in_the_database_they_are_in() {
    let server = larder(1, &[]);
    let mut client = server.client();
    ok(&mut client, &format!("SET hot {}", "v".repeat(100_000)));
    for _ in 0..20_000 {
        client.run("STRLEN hot").unwrap();
    }
    let database = |client: &mut Client, command: &str| {
        let reply = client.run(command).unwrap();
        let key = reply.items().unwrap()[0].items().unwrap();
        let at = key.iter().position(|word| word.text() == "db").unwrap();
        assert!(key.iter().any(|word| word.text() == "hot"), "{key:?}");
        key[at + 1].integer().unwrap()
    };
    for command in ["CACHE HOTKEYS", "CACHE BIGKEYS"] {
        assert_eq!(database(&mut client, command), 0, "{command}");
    }
    ok(&mut client, "SWAPDB 0 3");
    for command in ["CACHE HOTKEYS", "CACHE BIGKEYS"] {
        assert_eq!(database(&mut client, command), 3, "{command}");
    }
    ok(&mut client, "SWAPDB 3 5");
    assert_eq!(database(&mut client, "CACHE BIGKEYS"), 5);
}

#[test]
fn keys_set_together_need_not_end_together() {
    let server = larder(1, &[]);
    let mut client = server.client();
    let ends = |client: &mut Client, lines: &[String]| -> Vec<i64> {
        for line in lines {
            assert!(!client.run(line).unwrap().is_error(), "{line}");
        }
        (0..200).map(|key| integer(client, &format!("PTTL k{key}"))).collect()
    };
    let set = |words: &str| -> Vec<String> {
        (0..200).map(|key| words.replace("KEY", &format!("k{key}"))).collect()
    };
    let plain = ends(&mut client, &set("SET KEY v EX 1000"));
    assert!(plain.iter().all(|time| (990_000..=1_000_000).contains(time)));
    ok(&mut client, "CONFIG SET ttl-jitter-percent 10");
    for words in ["SET KEY v EX 1000", "SETEX KEY 1000 v", "EXPIRE KEY 1000", "GETEX KEY PX 1000000"] {
        let spread = ends(&mut client, &set(words));
        assert!(spread.iter().all(|time| (890_000..=1_000_000).contains(time)), "{words}: {spread:?}");
        let early = spread.iter().filter(|time| **time < 950_000).count();
        assert!((40..160).contains(&early), "{words}: {early} of 200 in the earlier half");
    }
    let pairs: String = (0..200).map(|key| format!(" k{key} v")).collect();
    let spread = ends(&mut client, &[format!("MSETEX 200{pairs} EX 1000")]);
    assert!(spread.iter().filter(|time| **time < 950_000).count() > 40, "each key for itself");
    // A moment that is named is kept to.
    let at = integer(&mut client, "EXPIRETIME k0") + 5000;
    let named = ends(&mut client, &set(&format!("SET KEY v EXAT {at}")));
    assert!(named.iter().max().unwrap() - named.iter().min().unwrap() < 5_000, "{named:?}");
}

#[test]
fn values_larger_than_an_entry_may_be_are_refused() {
    let server = larder(1, &["--maxmemory", "64mb", "--maxmemory-max-entry", "1%"]);
    let mut client = server.client();
    let refusal = "ERR the value would be larger than 'maxmemory-max-entry' allows";
    let large = "v".repeat(700_000);
    for line in ["SET k", "APPEND k", "SETRANGE k 0", "LPUSH l", "HSET h f", "SADD s"] {
        assert_eq!(client.run(&format!("{line} {large}")).unwrap().text(), refusal, "{line}");
    }
    ok(&mut client, &format!("SET k {}", "v".repeat(600_000)));
    assert_eq!(client.run(&format!("APPEND k {}", "v".repeat(100_000))).unwrap().text(), refusal);
    assert_eq!(client.run("SETRANGE k 690000 v").unwrap().text(), refusal);
    assert_eq!(integer(&mut client, "STRLEN k"), 600_000, "and nothing has changed");
    ok(&mut client, "CONFIG SET maxmemory-max-entry 1mb");
    ok(&mut client, &format!("SET k {large}"));
    ok(&mut client, "CONFIG SET maxmemory-max-entry 0");
    ok(&mut client, &format!("SET k {}", "v".repeat(2_000_000)));
}

#[test]
fn a_cache_takes_its_limit_from_the_machine_unless_told() {
    let server = larder(1, &["--cache"]);
    let mut client = server.client();
    let limit = figure(&mut client, "maxmemory");
    let machine = figure(&mut client, "total_system_memory");
    assert!(limit > 0 && limit <= machine / 4 * 3, "{limit} of {machine}");
    let policy =
        |client: &mut Client| client.run("CONFIG GET maxmemory-policy").unwrap().items().unwrap()[1].text();
    assert_eq!(policy(&mut client), "allkeys-adaptive");
    let server = larder(1, &["--cache", "--maxmemory", "10mb", "--maxmemory-policy", "allkeys-lfu"]);
    let mut client = server.client();
    assert_eq!(figure(&mut client, "maxmemory"), 10 << 20);
    assert_eq!(policy(&mut client), "allkeys-lfu");
}

#[test]
fn what_is_watched_leaves_a_small_cache_its_room() {
    let [watched, unwatched] = ["yes", "no"].map(|insight| {
        let server = larder(
            1,
            &["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-adaptive", "--cache-insight", insight],
        );
        let mut client = server.client();
        fill(&mut client, "key", 0..10_000, None);
        integer(&mut client, "DBSIZE")
    });
    assert!(watched * 10 > unwatched * 9, "{watched} keys, {unwatched} without insight");
}

#[test]
fn what_clients_send_makes_keys_leave_though_nothing_is_stored() {
    let server = larder(2, &["--maxmemory", "20mb", "--maxmemory-policy", "allkeys-lru"]);
    let mut client = server.client();
    fill(&mut client, "key", 0..5_000, None);
    let before = figure(&mut client, "evicted_keys");
    let mut sender = server.client();
    sender.send_raw(b"*2\r\n$3\r\nGET\r\n$30000000\r\n").unwrap();
    sender.send_raw(&vec![b'x'; 20_000_000]).unwrap();
    until("keys leave for what a client has sent", || figure(&mut client, "evicted_keys") > before);
}
