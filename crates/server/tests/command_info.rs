//! COMMAND and its subcommands: what declarations say, and that it is what redis-server 8.2 says.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::value::Value;
use larder_testkit::{Client, Redis82, Server};
use std::path::Path;

/// Commands of versions of Redis and Valkey beyond 8.2.
const NEWER: [&str; 18] = [
    "client|capa",
    "clusterscan",
    "cluster|cancelslotmigrations",
    "cluster|flushslot",
    "cluster|getslotmigrations",
    "cluster|migrateslots",
    "cluster|syncslots",
    "commandlog",
    "commandlog|get",
    "commandlog|help",
    "commandlog|len",
    "commandlog|reset",
    "delex",
    "delifeq",
    "digest",
    "increx",
    "msetex",
    "script|show",
];

fn larder() -> Server {
    Server::start(Path::new(env!("CARGO_BIN_EXE_larder")), &[]).unwrap()
}

fn names(client: &mut Client) -> Vec<String> {
    client.run("COMMAND LIST").unwrap().items().unwrap().iter().map(Value::text).collect()
}

/// The entry of COMMAND INFO for one command, without order where there is none and without the
/// remarks on keys, whose words are our own.
fn entry(client: &mut Client, name: &str) -> Option<Vec<Value>> {
    let answer = client.command(&["COMMAND", "INFO", name]).unwrap();
    let mut entry = answer.items()?.first()?.items()?.get(..9)?.to_vec();
    entry.iter_mut().take(8).for_each(Value::sort);
    if let Some(Value::Set(keys)) = entry.get_mut(8) {
        for key in keys {
            if let Value::Map(fields) = key {
                fields.retain(|(field, _)| field.text() != "notes");
                fields.iter_mut().for_each(|(_, value)| value.sort());
            }
        }
    }
    Some(entry)
}

#[test]
fn every_command_is_declared_as_redis_declares_it() {
    if std::env::var_os("REDIS_SERVER").is_none() {
        return eprintln!("skipped: REDIS_SERVER names no redis-server 8.2");
    }
    let (ours, theirs) = (larder(), Redis82::start().unwrap());
    let mut ours = Client::connect_with(&ours.address(), 3).unwrap();
    let mut theirs = Client::connect_with(&theirs.address(), 3).unwrap();
    let names = names(&mut ours);
    assert!(names.len() > 100, "{names:?}");
    let mut different = String::new();
    for name in names {
        let Some(expected) = entry(&mut theirs, &name) else {
            let is_ours = name.starts_with("cache|")
                || matches!(
                    name.as_str(),
                    "cache" | "cl.throttle" | "client|load" | "getlease" | "setlease" | "waitsource"
                );
            assert!(is_ours || NEWER.contains(&name.as_str()), "redis-server 8.2 has no {name}");
            continue;
        };
        let found = entry(&mut ours, &name).unwrap();
        if found != expected {
            different.push_str(&format!("{name}\n  ours:   {found:?}\n  theirs: {expected:?}\n"));
        }
    }
    assert!(different.is_empty(), "{different}");
}

#[test]
fn every_command_is_documented() {
    let server = larder();
    for protocol in [2, 3] {
        let mut client = Client::connect_with(&server.address(), protocol).unwrap();
        let names = names(&mut client);
        let docs = client.run("COMMAND DOCS").unwrap().pairs();
        let top: Vec<_> = names.iter().filter(|name| !name.contains('|')).collect();
        assert_eq!(
            docs.iter().map(|(name, _)| name.text()).collect::<Vec<_>>().iter().collect::<Vec<_>>(),
            top
        );
        for (name, doc) in docs {
            for field in ["summary", "since", "group"] {
                let text = doc.field(field).map(|value| value.text()).unwrap_or_default();
                assert!(!text.is_empty(), "{} has no {field}", name.text());
            }
            for (sub, _) in doc.field("subcommands").map(|subs| subs.pairs()).unwrap_or_default() {
                assert!(names.contains(&sub.text()), "{}", sub.text());
            }
        }
        let count = client.run("COMMAND COUNT").unwrap().integer().unwrap();
        assert_eq!(count as usize, top.len());
        let one = client.run("COMMAND DOCS get nosuch").unwrap().pairs();
        assert_eq!(one.iter().map(|(name, _)| name.text()).collect::<Vec<_>>(), ["get"]);
        assert_eq!(client.run("COMMAND INFO").unwrap().items().unwrap().len(), top.len());
    }
}

#[test]
fn keys_of_a_command_line_are_found_and_refusals_are_those_of_redis() {
    let server = larder();
    let mut client = server.client();
    let mut answer = |line: &str| client.run(line).unwrap().notation().join(" ");
    assert_eq!(answer("COMMAND GETKEYS MSET a 1 b 2"), answer("COMMAND GETKEYS MGET a b"));
    for (line, error) in [
        ("COMMAND GETKEYS nosuch", "ERR Invalid command specified"),
        ("COMMAND GETKEYS PING", "ERR The command has no key arguments"),
        ("COMMAND GETKEYS GET", "ERR Invalid number of arguments specified for command"),
        ("COMMAND LIST FILTERBY x y", "ERR syntax error"),
        ("COMMAND x", "ERR unknown subcommand 'x'. Try COMMAND HELP."),
    ] {
        assert!(answer(line).contains(error), "{line}: {}", answer(line));
    }
    assert!(answer("COMMAND LIST FILTERBY PATTERN CONFIG|GE*").contains("config|get"));
    assert_eq!(client.run("COMMAND LIST FILTERBY ACLCAT nosuch").unwrap().items().unwrap().len(), 0);
}
