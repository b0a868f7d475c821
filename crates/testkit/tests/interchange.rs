//! Values move between Larder and redis-server in both directions, by DUMP and RESTORE and by MIGRATE.
//! Invariant: value, type, encoding and expiry time arrive as they were.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::{Client, Larder, Redis82, Server, Value, available};

/// Larder and redis-server, or nothing with a message where there is none and need not be one.
fn servers() -> Option<(Server, Server)> {
    let redis = available(Redis82::start())?;
    Some((Larder::start_with_threads("1").unwrap(), redis))
}

/// Makes keys of all kinds that strings have, and returns their names.
fn fill(client: &mut Client) -> Vec<String> {
    let mut values: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"hello".to_vec(),
        (0..=255).collect(),
        b"abc".repeat(1_000),
        b"x".repeat(100_000),
        (0..50_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect(),
    ];
    for bits in [0, 7, 8, 15, 16, 31, 32, 62] {
        for number in [1_i64 << bits, -(1_i64 << bits), (1_i64 << bits) - 1] {
            values.push(number.to_string().into_bytes());
        }
    }
    let mut names = Vec::new();
    for (n, value) in values.iter().enumerate() {
        let name = format!("string:{n}");
        client.command(&[b"SET".as_slice(), name.as_bytes(), value]).unwrap();
        names.push(name);
    }
    for n in 0..300 {
        client.run(&format!("PFADD hll:sparse e{}", n % 40)).unwrap();
        client.run(&format!("PFADD hll:dense e{n}")).unwrap();
    }
    client.run("PFDEBUG TODENSE hll:dense").unwrap();
    client.run("SET mortal v PXAT 33177117420000").unwrap();
    names.extend(["hll:sparse", "hll:dense", "mortal"].map(str::to_owned));
    names
}

fn look(client: &mut Client, name: &str) -> Vec<Value> {
    let questions = ["GET", "TYPE", "OBJECT ENCODING", "PEXPIRETIME", "DEBUG DIGEST-VALUE"];
    questions.map(|question| client.run(&format!("{question} {name}")).unwrap()).to_vec()
}

fn dump_and_restore(from: &mut Client, to: &mut Client) {
    for name in fill(from) {
        let dump = from.run(&format!("DUMP {name}")).unwrap();
        let time = from.run(&format!("PEXPIRETIME {name}")).unwrap().integer().unwrap().max(0).to_string();
        let restore: [&[u8]; 5] =
            [b"RESTORE", name.as_bytes(), time.as_bytes(), dump.bytes().unwrap(), b"ABSTTL"];
        assert_eq!(to.command(&restore).unwrap(), Value::Simple(b"OK".to_vec()), "{name}");
        assert_eq!(look(to, &name), look(from, &name), "{name}");
    }
}

#[test]
fn what_larder_dumps_redis_restores() {
    let Some((larder, redis)) = servers() else { return };
    dump_and_restore(&mut larder.client(), &mut redis.client());
}

#[test]
fn what_redis_dumps_larder_restores() {
    let Some((larder, redis)) = servers() else { return };
    dump_and_restore(&mut redis.client(), &mut larder.client());
}

#[test]
fn keys_migrate_to_redis_and_back() {
    let Some((larder, redis)) = servers() else { return };
    let (mut ours, mut theirs) = (larder.client(), redis.client());
    let mut names = fill(&mut ours);
    names.retain(|name| name != "mortal");
    ours.run("DEL mortal").unwrap();
    ours.run("SET short v EX 1000").unwrap();
    let expiry = ours.run("PEXPIRETIME short").unwrap().integer().unwrap();
    let before: Vec<_> = names.iter().map(|name| look(&mut ours, name)).collect();
    let migrate = |from: &mut Client, to: &Server, options: &str| {
        let mut request: Vec<String> = vec!["MIGRATE".into(), "127.0.0.1".into(), to.port().to_string()];
        request.extend(["".to_owned(), "0".into(), "5000".into()]);
        request.extend(options.split_whitespace().map(str::to_owned));
        request.push("KEYS".into());
        request.extend(names.iter().cloned());
        request.push("short".into());
        from.command(&request).unwrap()
    };
    let ok = Value::Simple(b"OK".to_vec());
    assert_eq!(migrate(&mut ours, &redis, "COPY"), ok);
    assert_eq!(ours.run("DBSIZE").unwrap(), theirs.run("DBSIZE").unwrap());
    let refused = migrate(&mut ours, &redis, "");
    assert!(refused.text().contains("BUSYKEY"), "{refused:?}");
    assert_eq!(migrate(&mut ours, &redis, "REPLACE"), ok);
    assert_eq!(ours.run("DBSIZE").unwrap(), Value::Integer(0));
    assert_eq!(migrate(&mut theirs, &larder, ""), ok);
    assert_eq!(theirs.run("DBSIZE").unwrap(), Value::Integer(0));
    for (name, before) in names.iter().zip(before) {
        assert_eq!(look(&mut ours, name), before, "{name}");
    }
    // MIGRATE sends what is left of the time, so that the way takes some of it.
    let time = ours.run("PEXPIRETIME short").unwrap().integer().unwrap();
    assert!(time.abs_diff(expiry) < 2_000, "{time} instead of {expiry}");
}
