//! Leases: one of those who miss a key loads it, and what was loaded before a change is not stored after it.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::{Client, Value};
use scenario::{figure, larder, ok, until};
use std::sync::Barrier;
use std::thread::scope;

/// What GETLEASE answers, as texts.
fn getlease(client: &mut Client, key: &str) -> Vec<String> {
    let reply = client.command(&["GETLEASE", key]).unwrap();
    reply.items().unwrap_or_else(|| panic!("{reply:?}")).iter().map(Value::text).collect()
}

/// A token that GETLEASE gives.
fn token(client: &mut Client, key: &str) -> String {
    let reply = getlease(client, key);
    assert_eq!(reply[0], "LEASE", "{reply:?}");
    reply[1].clone()
}

fn setlease(client: &mut Client, words: &[&str]) -> String {
    let words: Vec<&str> = std::iter::once("SETLEASE").chain(words.iter().copied()).collect();
    client.command(&words).unwrap().text()
}

fn is_lost(reply: &str) -> bool {
    reply.contains("LEASELOST the key was changed or invalidated since, or the time of the lease is over")
}

#[test]
fn of_a_hundred_who_miss_a_key_one_gets_the_lease() {
    let server = larder(2, &[]);
    for round in 0..20 {
        let key = format!("key:{round}");
        let barrier = Barrier::new(100);
        let replies: Vec<Vec<String>> = scope(|threads| {
            let ask = || {
                let mut client = server.client();
                barrier.wait();
                getlease(&mut client, &key)
            };
            let all: Vec<_> = (0..100).map(|_| threads.spawn(ask)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let given: Vec<&Vec<String>> = replies.iter().filter(|reply| reply[0] == "LEASE").collect();
        assert_eq!(given.len(), 1, "{replies:?}");
        assert!(replies.iter().all(|reply| reply[0] == "LEASE" || *reply == ["WAIT"]), "{replies:?}");
        let mut client = server.client();
        assert_eq!(setlease(&mut client, &[&key, &given[0][1], "loaded"]), "OK");
        assert_eq!(getlease(&mut client, &key), ["HIT", "loaded"]);
        assert!(is_lost(&setlease(&mut client, &[&key, &given[0][1], "again"])));
    }
    let mut client = server.client();
    assert_eq!(figure(&mut client, "cache_leases_given"), 20);
    assert_eq!(figure(&mut client, "cache_leases_waited"), 20 * 99);
    assert_eq!((figure(&mut client, "cache_leases_won"), figure(&mut client, "cache_leases_lost")), (20, 20));
    assert_eq!(figure(&mut client, "cache_leases_out"), 0);
}

#[test]
fn whatever_changes_the_key_ends_its_lease() {
    let endings = [
        "SET k other",
        "SET k other; DEL k",
        "SET k other PX 1",
        "RPUSH k a",
        "INCR k",
        "RENAME other k",
        "COPY other k",
        "MSET j 1 k 2",
        "FLUSHALL",
        "FLUSHDB ASYNC",
        "SWAPDB 0 1",
        "CACHE INVALIDATE KEYS 2 j k",
        "CACHE INVALIDATE KEYS 1 k SOFT",
        "CACHE INVALIDATE PREFIX k",
        "CACHE INVALIDATE PREFIX k SOFT",
        "CACHE INVALIDATE PREFIX ",
    ];
    for threads in [1, 2] {
        let server = larder(threads, &[]);
        let (mut loader, mut other) = (server.client(), server.client());
        for ending in endings {
            ok(&mut other, "FLUSHALL");
            ok(&mut other, "SET other value");
            let token = token(&mut loader, "k");
            for step in ending.split("; ") {
                let reply = other.command(&step.split(' ').collect::<Vec<_>>()).unwrap();
                assert!(!reply.is_error(), "{ending}: {reply:?}");
            }
            let reply = setlease(&mut loader, &["k", &token, "stale"]);
            assert!(is_lost(&reply), "{ending}: {reply}");
            assert_ne!(loader.run("GET k").unwrap(), Value::Bulk(b"stale".to_vec()), "{ending}");
        }
    }
}

#[test]
fn what_changes_another_key_leaves_a_lease_alone() {
    let server = larder(2, &[]);
    let (mut loader, mut other) = (server.client(), server.client());
    let token = token(&mut loader, "k");
    for harmless in [
        "SET kk 1",
        "DEL k",
        "CACHE INVALIDATE PREFIX kk",
        "CACHE INVALIDATE TAG k",
        "CACHE INVALIDATE KEYS 1 kk",
        "EXPIRE k 10",
        "GET k",
    ] {
        assert!(!other.run(harmless).unwrap().is_error(), "{harmless}");
    }
    ok(&mut other, "SELECT 1");
    ok(&mut other, "SET k 1");
    ok(&mut other, "CACHE INVALIDATE PREFIX k");
    ok(&mut other, "FLUSHDB");
    until("the invalidations are carried out", || figure(&mut other, "cache_invalidation_rules") == 0);
    assert_eq!(setlease(&mut loader, &["k", &token, "loaded"]), "OK");
    assert_eq!(getlease(&mut loader, "k"), ["HIT", "loaded"]);
}

#[test]
fn a_lease_ends_by_itself_and_a_wrong_token_sets_nothing() {
    let server = larder(2, &["--lease-time", "1"]);
    let (mut first, mut second) = (server.client(), server.client());
    let old = token(&mut first, "k");
    assert_eq!(getlease(&mut second, "k"), ["WAIT"]);
    for wrong in ["0", "1", "-1", "x", "", "18446744073709551616", &format!("+{old}x")] {
        assert!(is_lost(&setlease(&mut second, &["k", wrong, "forged"])), "{wrong}");
    }
    let mut new = Vec::new();
    until("the lease is over", || {
        new = getlease(&mut second, "k");
        new[0] == "LEASE"
    });
    assert!(is_lost(&setlease(&mut first, &["k", &old, "late"])));
    assert_eq!(setlease(&mut second, &["k", &new[1], "loaded"]), "OK");
    // Those whose time is over are forgotten without anybody asking.
    for number in 0..1000 {
        token(&mut first, &format!("key:{number}"));
    }
    until("they are forgotten", || figure(&mut first, "cache_leases_out") == 0);
}

#[test]
fn an_old_value_is_given_to_those_who_have_no_lease() {
    let server = larder(2, &[]);
    let (mut one, mut two) = (server.client(), server.client());
    let first = token(&mut one, "k");
    assert_eq!(setlease(&mut one, &["k", &first, "old", "PX", "50", "STALE", "60000"]), "OK");
    let mut reply = getlease(&mut one, "k");
    until("it is old", || {
        reply = getlease(&mut one, "k");
        reply[0] != "HIT"
    });
    assert_eq!((reply[0].as_str(), reply[2].as_str()), ("LEASE", "old"));
    assert_eq!(getlease(&mut two, "k"), ["STALE", "old"]);
    // It is there for those who do not ask, until its time is over.
    assert_eq!(two.run("GET k").unwrap().text(), Value::Bulk(b"old".to_vec()).text());
    assert!((55_000..=60_000).contains(&two.run("PTTL k").unwrap().integer().unwrap()));
    assert_eq!(setlease(&mut one, &["k", &reply[1], "new", "EX", "100", "STALE", "5000"]), "OK");
    assert_eq!(getlease(&mut two, "k"), ["HIT", "new"]);
    assert!((104_000..=105_000).contains(&two.run("PTTL k").unwrap().integer().unwrap()));
    // An invalidation that is soft has it be old at once, for as long as it may be given.
    for soft in
        ["CACHE INVALIDATE KEYS 1 k SOFT", "CACHE INVALIDATE PREFIX k SOFT", "CACHE INVALIDATE TAG t SOFT"]
    {
        two.run("DEL k").unwrap();
        let token = token(&mut one, "k");
        let value = ["k", &token, "value", "EX", "100", "STALE", "5000", "TAGS", "1", "t"];
        assert_eq!(setlease(&mut one, &value), "OK");
        let reply = two.run(soft).unwrap();
        assert!(!reply.is_error(), "{reply:?}");
        let reply = getlease(&mut one, "k");
        assert_eq!((reply[0].as_str(), reply.get(2).map(String::as_str)), ("LEASE", Some("value")), "{soft}");
        assert_eq!(getlease(&mut two, "k"), ["STALE", "value"]);
        assert!((4_000..=5_000).contains(&two.run("PTTL k").unwrap().integer().unwrap()), "{soft}");
    }
    // One that may not be given old is gone.
    ok(&mut two, "SET k plain");
    ok(&mut two, "CACHE INVALIDATE PREFIX k SOFT");
    assert_eq!(two.run("EXISTS k").unwrap().integer(), Some(0));
}

#[test]
fn who_waits_is_answered_once_the_value_is_there() {
    let server = larder(2, &[]);
    let mut loader = server.client();
    let token = token(&mut loader, "k");
    scope(|threads| {
        let wait = || server.client().run("GETLEASE k WAIT 20000").unwrap();
        let waiting: Vec<_> = (0..10).map(|_| threads.spawn(wait)).collect();
        until("they wait", || figure(&mut loader, "blocked_clients") == 10);
        assert_eq!(setlease(&mut loader, &["k", &token, "loaded"]), "OK");
        for one in waiting {
            let reply = one.join().unwrap();
            let words: Vec<String> = reply.items().unwrap().iter().map(Value::text).collect();
            assert_eq!(words, ["HIT", "loaded"]);
        }
    });
    let reply = server.client().run("GETLEASE j").unwrap();
    assert_eq!(reply.items().unwrap().len(), 2);
    assert_eq!(loader.run("GETLEASE j WAIT 20").unwrap(), Value::NilArray);
}

#[test]
fn who_waits_gets_the_lease_of_one_that_did_not_come_back() {
    let server = larder(2, &["--lease-time", "1"]);
    let mut gone = server.client();
    token(&mut gone, "k");
    drop(gone);
    let mut other = server.client();
    let answers: Vec<Vec<String>> = scope(|threads| {
        let wait = || server.client().run("GETLEASE k WAIT 20000").unwrap();
        let waiting: Vec<_> = (0..5).map(|_| threads.spawn(wait)).collect();
        until("they wait", || figure(&mut other, "blocked_clients") == 5);
        // One of them is given it, and sets the value; the others have waited for that.
        until("one has the lease", || figure(&mut other, "blocked_clients") == 4);
        let done = |one: &std::thread::ScopedJoinHandle<'_, Value>| one.is_finished();
        until("it is answered", || waiting.iter().any(done));
        let (first, others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(done);
        let given = texts(&first.into_iter().next().unwrap().join().unwrap());
        assert_eq!(setlease(&mut other, &["k", &given[1], "loaded"]), "OK");
        let rest = others.into_iter().map(|one| texts(&one.join().unwrap()));
        std::iter::once(given.clone()).chain(rest).collect()
    });
    assert_eq!(answers[0][0], "LEASE");
    assert!(answers[1..].iter().all(|answer| *answer == ["HIT", "loaded"]), "{answers:?}");
}

#[test]
fn resetstat_counts_from_zero_again() {
    let server = larder(2, &[]);
    let mut client = server.client();
    let given = token(&mut client, "k");
    assert_eq!(setlease(&mut client, &["k", &given, "v"]), "OK");
    client.run("CACHE INVALIDATE KEYS 1 k").unwrap();
    client.run("CACHE INVALIDATE PREFIX k").unwrap();
    client.run("CACHE INVALIDATE TAG t SOFT").unwrap();
    let counted =
        ["invalidations_keys", "invalidations_prefix", "invalidations_tag", "leases_given", "leases_won"];
    let mut figures = || counted.map(|name| figure(&mut client, &format!("cache_{name}")));
    assert_eq!(figures(), [1; 5]);
    ok(&mut server.client(), "CONFIG RESETSTAT");
    assert_eq!(figures(), [0; 5]);
}

#[test]
fn what_is_known_of_values_goes_with_them() {
    let server = larder(2, &[]);
    let mut client = server.client();
    let marks = |client: &mut Client| figure(client, "cache_lease_marks");
    for number in 0..100 {
        let key = format!("k{number}");
        let token = token(&mut client, &key);
        assert_eq!(setlease(&mut client, &[&key, &token, "v", "PX", "100", "TAGS", "2", "a", "b"]), "OK");
    }
    assert_eq!(texts(&client.run("CACHE TAGS k7").unwrap()), ["a", "b"]);
    until("their time is over", || figure(&mut client, "expired_keys") == 100);
    assert_eq!(marks(&mut client), 0);
    for ending in
        ["SET k 1", "DEL k", "FLUSHALL", "RENAME k j", "CACHE INVALIDATE TAG a", "GETDEL k", "MOVE k 1"]
    {
        ok(&mut client, "FLUSHALL");
        let token = token(&mut client, "k");
        assert_eq!(setlease(&mut client, &["k", &token, "v", "TAGS", "1", "a"]), "OK");
        assert_eq!(marks(&mut client), 1);
        assert!(!client.run("APPEND k x").unwrap().is_error());
        assert!(!client.run("EXPIRE k 1000").unwrap().is_error());
        assert_eq!(marks(&mut client), 1);
        assert!(!client.run(ending).unwrap().is_error(), "{ending}");
        until("the mark is gone", || marks(&mut client) == 0);
        assert_eq!(texts(&client.run("CACHE TAGS k").unwrap()), [""; 0], "{ending}");
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.items().unwrap().iter().map(Value::text).collect()
}

#[test]
fn inside_multi_a_lease_is_given_and_redeemed() {
    let server = larder(2, &[]);
    let mut client = server.client();
    ok(&mut client, "MULTI");
    client.run("GETLEASE k").unwrap();
    client.run("GETLEASE k WAIT 1000").unwrap();
    let reply = client.run("EXEC").unwrap();
    let [given, waited] = reply.items().unwrap() else { panic!("{reply:?}") };
    assert_eq!(*waited, Value::NilArray);
    let token = given.items().unwrap()[1].text();
    ok(&mut client, "MULTI");
    setlease(&mut client, &["k", &token, "v"]);
    client.run("CACHE INVALIDATE PREFIX k").unwrap();
    client.run("GET k").unwrap();
    client.run("SET k w").unwrap();
    client.run("CACHE INVALIDATE KEYS 1 k").unwrap();
    client.run("EXISTS k").unwrap();
    let reply = client.run("EXEC").unwrap();
    let shown: Vec<String> = reply.items().unwrap().iter().map(Value::text).collect();
    assert_eq!(
        shown,
        ["OK", "OK", &Value::NilBulk.text(), "OK", &Value::Integer(1).text(), &Value::Integer(0).text()]
    );
}
