//! What COMMAND says about each command is what redis-server 8.2 says.
//! Invariant: flags, positions, key specs, categories and tips decide how clients and proxies route
//! and what access rules allow, so they must be equal; texts for people are Larder's own.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::known::KnownDifferences;
use larder_testkit::run::Failure;
use larder_testkit::server::repository_root;
use larder_testkit::{Client, Larder, Redis82, Server, Value, available};
use std::collections::BTreeSet;

#[test]
fn commands_are_described_as_in_redis() {
    let Some(redis) = available(Redis82::start()) else { return };
    let larder = Larder::start_with_threads("1").unwrap();
    let connect = |server: &Server| Client::connect_with(&server.address(), 3).unwrap();
    let (mut ours, mut theirs) = (connect(&larder), connect(&redis));
    let shared: Vec<String> = names(&mut ours).intersection(&names(&mut theirs)).cloned().collect();
    assert!(shared.len() > 50, "only {} commands are shared", shared.len());
    let mut failures = Vec::new();
    for name in &shared {
        let (seen, expected) = (info(&mut ours, name), info(&mut theirs, name));
        failures.extend(difference(format!("command_table/info: {name}"), &seen, &expected));
        for field in ["since", "group", "arguments"] {
            let (seen, expected) = (doc(&mut ours, name, field), doc(&mut theirs, name, field));
            failures.extend(difference(format!("command_table/docs: {name} {field}"), &seen, &expected));
        }
    }
    let tests = repository_root().join("tests");
    let known = KnownDifferences::load(&tests.join("known_differences.toml")).unwrap();
    let (unknown, stale) = known.sort_out("command_table", failures);
    let list: String = unknown.iter().map(ToString::to_string).collect();
    assert!(unknown.is_empty(), "{} descriptions differ:\n{list}", unknown.len());
    assert!(stale.is_empty() || Larder::stand_in().is_some(), "known differences that are none: {stale:?}");
}

fn difference(case: String, seen: &str, expected: &str) -> Option<Failure> {
    let problem = format!("redis:  {expected}\nlarder: {seen}");
    (seen != expected).then_some(Failure { case, line: 0, protocol: 2, problem })
}

fn names(client: &mut Client) -> BTreeSet<String> {
    client.run("COMMAND LIST").unwrap().items().unwrap().iter().map(Value::text).collect()
}

/// All parts but the subcommands, which are asked for by their own names.
fn info(client: &mut Client, name: &str) -> String {
    let reply = client.command(&["COMMAND", "INFO", name]).unwrap();
    let mut parts = reply.items().unwrap()[0].items().unwrap().to_vec();
    parts.truncate(9);
    one_line(&without_order_and_notes(Value::Array(parts)))
}

/// The order of flags, categories and tips means nothing, and notes are text for people.
fn without_order_and_notes(value: Value) -> Value {
    let all = |values: Vec<Value>| values.into_iter().map(without_order_and_notes).collect();
    match value {
        Value::Array(items) => Value::Array(all(items)),
        Value::Set(items) => {
            let mut items: Vec<Value> = all(items);
            items.sort();
            Value::Set(items)
        }
        Value::Map(mut pairs) => {
            pairs.retain(|(name, _)| name.bytes() != Some(b"notes"));
            Value::Map(
                pairs.into_iter().map(|(name, value)| (name, without_order_and_notes(value))).collect(),
            )
        }
        other => other,
    }
}

fn doc(client: &mut Client, name: &str, field: &str) -> String {
    let reply = client.command(&["COMMAND", "DOCS", name]).unwrap();
    let doc = reply.pairs().into_iter().next().map_or(Value::Null, |(_, doc)| doc);
    let value = doc.field(field).unwrap_or(Value::Null);
    one_line(&value)
}

fn one_line(value: &Value) -> String {
    value.notation().iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}
