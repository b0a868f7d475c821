//! The driver against redis-server.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../../follower.rs"]
mod follower;

use follower::{cell, eventually, follow, load, load_within, plain, run, text};
use larder_source::{Cell, Driver, FailureKind, Limits, Parameter, Purpose, Request, Rows, Told};
use larder_source_net::{Options, Secret};
use larder_testkit::{Redis82, Server, available};
use std::sync::Arc;
use std::time::Duration;

fn open(server: &Server) -> Arc<dyn Driver> {
    larder_source_redis::open(&format!("redis://{}", server.address()), &Options::default()).unwrap()
}

fn set_up(server: &Server, driver: &Arc<dyn Driver>, commands: &[&str]) {
    let _ = server;
    for command in commands {
        run(driver.write(&[(&plain(command), vec![])])).unwrap();
    }
}

fn names(rows: &Rows) -> Vec<&str> {
    rows.columns.iter().map(|column| column.name.as_str()).collect()
}

fn words(words: &[&str]) -> Parameter {
    Parameter::List(words.iter().map(|word| Parameter::Text((*word).into())).collect())
}

#[test]
fn replies_are_rows() {
    let Some(server) = available(Redis82::start()) else { return };
    let driver = open(&server);
    assert!(run(driver.probe()).unwrap().starts_with("redis 8"));
    set_up(
        &server,
        &driver,
        &[
            "SET a \"x \\xff\"",
            "SET b text",
            "HSET user:1 name Ann age 36",
            "RPUSH l 1 2",
            "ZADD z 1.5 one 2 two",
            "SADD s m",
            "INCR n",
        ],
    );
    let all = |statement: &str| load(&driver, &plain(statement), &[]).unwrap();
    assert_eq!(&*all("GET b").rows[0], &[text("text")]);
    assert_eq!(&*all("GET a").rows[0], &[Cell::Bytes(b"x \xff".as_slice().into())]);
    assert_eq!(&*all("STRLEN b").rows[0], &[Cell::Integer(4)]);
    let user = load(&driver, &plain("HGETALL user:$id"), &[Parameter::Integer(1)]).unwrap();
    assert_eq!((names(&user), &*user.rows[0]), (vec!["name", "age"], [text("Ann"), text("36")].as_slice()));
    assert_eq!(all("LRANGE l 0 -1").rows.len(), 2);
    let scores = all("ZRANGE z 0 -1 WITHSCORES");
    assert_eq!(
        (names(&scores), &*scores.rows[0]),
        (vec!["member", "score"], [text("one"), Cell::Real(1.5)].as_slice())
    );
    assert_eq!(all("SMEMBERS s").rows.len(), 1);
    assert_eq!(&*all("MGET b nothing").rows[1], &[Cell::Null]);
    for nothing in ["GET nothing", "HGETALL nothing", "LRANGE nothing 0 -1"] {
        assert!(all(nothing).rows.is_empty(), "{nothing}");
    }
    let failure = load(&driver, &plain("LRANGE b 0 -1"), &[]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
}

#[test]
fn a_batch_is_sent_together_with_its_values_in_front() {
    let Some(server) = available(Redis82::start()) else { return };
    let driver = open(&server);
    set_up(&server, &driver, &["HSET u:1 name Ann", "HSET u:2 age 7 name Bob"]);
    let rows = load(&driver, &plain("HGETALL u:$id"), &[words(&["1", "9", "2"])]).unwrap();
    assert_eq!(names(&rows), ["id", "name", "age"]);
    assert_eq!(rows.rows.len(), 2);
    assert_eq!(&*rows.rows[0], &[text("1"), text("Ann"), Cell::Null]);
    assert_eq!(&*rows.rows[1], &[text("2"), text("Bob"), text("7")]);
    let many: Vec<Parameter> = (0..10_000).map(Parameter::Integer).collect();
    assert_eq!(load(&driver, &plain("HGETALL u:$id"), &[Parameter::List(many)]).unwrap().rows.len(), 2);
}

#[test]
fn wrong_commands_are_refused_and_limits_hold() {
    let Some(server) = available(Redis82::start()) else { return };
    let driver = open(&server);
    for (statement, purpose) in [
        ("NONSENSE $a", Purpose::Load),
        ("SET a $a", Purpose::Load),
        ("GET a b", Purpose::Load),
        ("GET \"a", Purpose::Load),
        ("BLPOP a 0", Purpose::Write),
    ] {
        let failure = run(driver.check(&plain(statement), purpose)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{statement}");
        assert!(failure.position.is_some(), "{statement}");
    }
    assert!(run(driver.check(&plain("SET a $a"), Purpose::Write)).is_ok());
    assert!(run(driver.check(&plain("HGETALL u:$id"), Purpose::Batch)).is_ok());
    let large = plain("SET a $a");
    run(driver.write(&[(&large, vec![Parameter::Text("x".repeat(100_000).into())])])).unwrap();
    let failure = load_within(&driver, &plain("GET a"), &[], Limits { rows: 10, bytes: 1000 }).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unfit);
    let push = plain("RPUSH l 1 2 3 4 5");
    run(driver.write(&[(&push, vec![])])).unwrap();
    let failure =
        load_within(&driver, &plain("LRANGE l 0 -1"), &[], Limits { rows: 4, bytes: 1000 }).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unfit);
    assert!(run(driver.probe()).is_ok());
    for url in ["redis://127.0.0.1:1/x", "redis://127.0.0.1:1?a=b"] {
        assert!(larder_source_redis::open(url, &Options::default()).is_err(), "{url}");
    }
}

#[test]
fn writes_happen_together_or_not_at_all() {
    let Some(server) = available(Redis82::start()) else { return };
    let driver = open(&server);
    let (set, push, wrong) = (plain("SET k $v"), plain("RPUSH l a b"), plain("NONSENSE"));
    let value = |text: &str| vec![Parameter::Text(text.into())];
    assert_eq!(run(driver.write(&[(&set, value("1")), (&push, vec![])])).unwrap(), [1, 2]);
    assert!(run(driver.write(&[(&set, value("2")), (&wrong, vec![])])).is_err());
    assert_eq!(load(&driver, &plain("GET k"), &[]).unwrap().rows[0][0], text("1"));
    assert_eq!(run(driver.write(&[(&plain("DEL nothing"), vec![])])).unwrap(), [0]);
}

#[test]
fn users_log_in_and_passwords_are_not_shown() {
    let Some(server) = available(Redis82::start()) else { return };
    let driver = open(&server);
    set_up(&server, &driver, &["ACL SETUSER ann on >geheim ~* +@all"]);
    let url = format!("redis://ann@{}/3", server.address());
    let with = |password: &str| {
        let options = Options { password: Some(Secret::new(password)), ..Options::default() };
        larder_source_redis::open(&url, &options).unwrap()
    };
    assert_eq!(load(&with("geheim"), &plain("ACL WHOAMI"), &[]).unwrap().rows[0][0], text("ann"));
    let failure = run(with("falsch").probe()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(!failure.text.contains("falsch"));
}

#[test]
fn a_load_that_is_given_up_leaves_its_place_and_a_server_that_ended_is_unreachable() {
    let Some(server) = available(Redis82::start()) else { return };
    let url = format!("redis://{}", server.address());
    let driver = larder_source_redis::open(&url, &Options { connections: 1, ..Options::default() }).unwrap();
    let slow =
        plain("EVAL \"local t = redis.call('TIME')[1] + 1; while redis.call('TIME')[1] + 0 <= t do end\" 0");
    let request = Request { statement: &slow, parameters: &[], validator: None, limits: follower::LIMITS };
    run(async {
        assert!(tokio::time::timeout(Duration::from_millis(100), driver.load(request)).await.is_err());
        eprintln!("{:?}", tokio::time::timeout(Duration::from_secs(5), driver.probe()).await.unwrap());
    });
    eventually("it answers again", || run(driver.probe()).is_ok());
    drop(server);
    assert_eq!(run(driver.probe()).unwrap_err().kind, FailureKind::Unreachable);
}

#[test]
fn changes_by_others_are_pushed() {
    let Some(server) = available(Redis82::start()) else { return };
    let driver = open(&server);
    let feed = follow(&driver, &["user", "user:1", "item"], None);
    assert_eq!(feed.told()[0], Told::Gap);
    set_up(&server, &driver, &["SET user:7 x", "SET other y", "SET item:\"\\xff\" z"]);
    let changes = feed.changes(2);
    assert_eq!(
        (changes[0].table.as_str(), cell(changes[0].after.as_ref(), "key")),
        ("user", Some(text("user:7")))
    );
    feed.wait_for(|told| told.last() == Some(&Told::Idle));
    assert_eq!(feed.changes(2).len(), 2);
    set_up(&server, &driver, &["FLUSHALL"]);
    feed.wait_for(|told| told.contains(&Told::Emptied("item".to_owned())));
    drop(server);
    assert!(feed.wait_for_end().is_passing());
}
