//! Active defragmentation and `maxmemory-rss`: what moves keeps its contents, and memory is given back.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::client::encode;
use larder_testkit::{Client, Server, Value};
use scenario::{figure, info, larder, ok, resident_bytes};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long defragmentation may take: so long that no machine is too slow.
const PATIENCE: Duration = Duration::from_secs(120);
/// Any waste is worth the work.
const EAGER: [&str; 6] = [
    "--active-defrag-ignore-bytes",
    "1",
    "--active-defrag-threshold-lower",
    "0",
    "--active-defrag-cycle-max",
    "75",
];

/// How large the values of a round are: first in entries and in blocks beside them, by turns, then small. Of few sizes, for what
/// lies in the last span or slab of each cannot move.
fn bytes_of(key: usize, round: usize) -> usize {
    match round {
        0 if key.is_multiple_of(2) => 500 + key % 3 * 200,
        0 => 2000 + key % 3 * 1000,
        _ => 20 + (key + round) % 30,
    }
}

fn value_of(key: usize, round: usize) -> Vec<u8> {
    (0..bytes_of(key, round)).map(|at| (at * 7 + key * 13 + round * 101) as u8).collect()
}

fn set(client: &mut Client, prefix: &str, keys: impl Iterator<Item = usize>, round: usize) {
    let keys: Vec<usize> = keys.collect();
    for batch in keys.chunks(100) {
        let mut bytes = Vec::new();
        for key in batch {
            bytes.extend(encode(&[b"SET", format!("{prefix}:{key}").as_bytes(), &value_of(*key, round)]));
        }
        let replies = client.pipeline_raw(&bytes, batch.len()).unwrap();
        assert!(replies.iter().all(|reply| reply.text() == "OK"), "{:?}", replies.first());
    }
}

fn holds(client: &mut Client, prefix: &str, key: usize, round: usize) -> bool {
    let reply = client.command(&["GET", &format!("{prefix}:{key}")]).unwrap();
    reply.bytes() == Some(&value_of(key, round)[..])
}

/// Waits until `what` holds, patiently.
fn await_that(reason: &str, mut what: impl FnMut() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < PATIENCE, "waited for: {reason}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const KEYS: usize = 20_000;

/// The round in which a key was set last.
fn last_round(key: usize) -> usize {
    usize::from(key % 10 >= 3)
}

/// Writes values over others of other sizes, so that little is left where much was.
fn make_holes(client: &mut Client) {
    set(client, "key", 0..KEYS, 0);
    set(client, "key", (0..KEYS).filter(|key| last_round(*key) == 1), 1);
}

/// Clients that read what does not change and change what is theirs, until told to stop.
fn disturb(server: &Server, number: usize, stop: &AtomicBool) {
    let mut client = server.client();
    let prefix = format!("own{number}");
    let mut round = 0;
    while !stop.load(Relaxed) {
        set(&mut client, &prefix, 0..200, round);
        for key in (0..200).step_by(3) {
            assert!(holds(&mut client, &prefix, key, round), "{prefix}:{key} in round {round}");
            let other = (key * 97 + round * 389) % KEYS;
            assert!(holds(&mut client, "key", other, last_round(other)), "key:{other} while others move");
        }
        let removed = client.run(&format!("DEL {}", own_keys(&prefix))).unwrap();
        assert_eq!(removed.integer(), Some(20));
        round += 1;
    }
}

fn own_keys(prefix: &str) -> String {
    (0..20).map(|key| format!("{prefix}:{key} ")).collect()
}

/// A scan from beginning to end meets every key that stays.
fn scan_all(client: &mut Client) {
    let (mut seen, mut cursor) = (BTreeSet::new(), "0".to_owned());
    loop {
        let reply = client.run(&format!("SCAN {cursor} MATCH key:* COUNT 100")).unwrap();
        let [next, keys] = reply.items().unwrap() else { panic!("{reply:?}") };
        seen.extend(keys.items().unwrap().iter().map(Value::text));
        cursor = next.text();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), KEYS, "a scan missed keys while they moved");
}

#[test]
fn holes_are_closed_while_clients_read_and_write() {
    let limited = ["--maxmemory", "2gb", "--maxmemory-policy", "allkeys-adaptive"];
    for (threads, options) in [(1, &[][..]), (2, &limited[..])] {
        let server = larder(threads, &[&EAGER[..], options].concat());
        let mut client = server.client();
        make_holes(&mut client);
        let before = figure(&mut client, "allocator_frag_bytes");
        assert!(before > 16 << 20, "there are holes: {before}");
        assert_eq!(figure(&mut client, "active_defrag_hits"), 0, "nothing moves unless it is asked for");
        assert_eq!(figure(&mut client, "active_defrag_running"), 0);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let busy: Vec<_> = (0..2)
                .map(|number| {
                    let (server, stop) = (&server, &stop);
                    scope.spawn(move || disturb(server, number, stop))
                })
                .collect();
            ok(&mut client, "CONFIG SET activedefrag yes");
            await_that("work to begin", || figure(&mut client, "active_defrag_hits") > 100);
            scan_all(&mut client);
            await_that("holes to close", || figure(&mut client, "allocator_frag_bytes") < before / 2);
            stop.store(true, Relaxed);
            busy.into_iter().for_each(|thread| thread.join().unwrap());
        });
        for key in 0..KEYS {
            assert!(holds(&mut client, "key", key, last_round(key)), "key:{key}");
        }
        assert!(figure(&mut client, "active_defrag_key_hits") > 100);
        assert!(figure(&mut client, "total_active_defrag_time") > 0);
        await_that("the ratio to fall", || {
            info(&mut client, "allocator_frag_ratio").parse::<f64>().unwrap() < 2.0
        });
        ok(&mut client, "CONFIG SET activedefrag no");
        await_that("work to end", || figure(&mut client, "active_defrag_running") == 0);
        ok(&mut client, "CONFIG RESETSTAT");
        let hits = figure(&mut client, "active_defrag_hits");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(
            figure(&mut client, "active_defrag_hits"),
            hits,
            "something moves though it was switched off"
        );
    }
}

/// As many values there are of every type, of which a quarter stays.
const NUMBERS: usize = 480;

/// Makes values of every type, large and small, each between others that go.
fn make_types(client: &mut Client) -> Vec<String> {
    let mut names = Vec::new();
    let mut run = |line: &str| {
        let reply = client.run(line).unwrap();
        assert!(!reply.is_error(), "{line}: {reply:?}");
    };
    for number in 0..NUMBERS {
        let keep = number % 4 == 0;
        let count = [3, 40, 400][number / 4 % 3];
        let each = |item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(" ");
        let pad = "p".repeat(40);
        let name = |of: &str| format!("{of}:{number}");
        run(&format!("RPUSH {} {}", name("list"), each(&|at| format!("{at}{pad}"))));
        run(&format!("SADD {} {}", name("set"), each(&|at| format!("m{at}{pad}"))));
        run(&format!("SADD {} {}", name("ints"), each(&|at| (at * 1_000_003).to_string())));
        run(&format!("HSET {} {}", name("hash"), each(&|at| format!("f{at} {pad}{at}"))));
        run(&format!("HSET {} {}", name("ends"), each(&|at| format!("f{at} {pad}{at}"))));
        run(&format!("HPEXPIRE {} 86400000 FIELDS 2 f0 f2", name("ends")));
        run(&format!("ZADD {} {}", name("zset"), each(&|at| format!("{}.5 m{at}{pad}", at * 7 % 100))));
        for at in 0..count / 3 + 1 {
            run(&format!("XADD {} {}-1 field {pad}{at}", name("stream"), at + 1));
        }
        run(&format!("XGROUP CREATE {} readers 0", name("stream")));
        run(&format!("XREADGROUP GROUP readers me COUNT 5 STREAMS {} >", name("stream")));
        run(&format!("SET {} {}", name("text"), "t".repeat(count * 30)));
        run(&format!("SET {} {}", name("number"), number * 1000));
        run(&format!("PFADD {} {}", name("hll"), each(&|at| format!("e{at}"))));
        run(&format!("PEXPIRE {} 86400000", name("text")));
        for of in ["list", "set", "ints", "hash", "ends", "zset", "stream", "text", "number", "hll"] {
            if keep {
                names.push(name(of));
            }
        }
    }
    for number in (0..NUMBERS).filter(|number| number % 4 != 0) {
        let gone = ["list", "set", "ints", "hash", "ends", "zset", "stream", "text", "number", "hll"];
        let gone: Vec<String> = gone.iter().map(|of| format!("{of}:{number}")).collect();
        run(&format!("DEL {}", gone.join(" ")));
    }
    names
}

/// All that shows of a key.
fn shown(client: &mut Client, name: &str) -> Vec<Value> {
    let mut lines =
        vec![format!("DUMP {name}"), format!("PEXPIRETIME {name}"), format!("OBJECT ENCODING {name}")];
    match name.split_once(':').unwrap().0 {
        "ends" => lines.push(format!("HPEXPIRETIME {name} FIELDS 3 f0 f1 f2")),
        "stream" => {
            lines.push(format!("XINFO STREAM {name}"));
            lines.push(format!("XPENDING {name} readers - + 10 me"));
        }
        "zset" => lines.push(format!("ZRANGE {name} 0 -1 WITHSCORES")),
        _ => {}
    }
    let replies: Vec<Value> = lines.iter().map(|line| client.run(line).unwrap()).collect();
    assert!(replies.iter().all(|reply| !reply.is_error()), "{name}: {replies:?}");
    // How long a delivery is ago is no matter of memory.
    replies
        .into_iter()
        .enumerate()
        .map(|(at, reply)| if at == 4 { pending_ids(&reply) } else { reply })
        .collect()
}

fn pending_ids(reply: &Value) -> Value {
    let ids = reply.items().unwrap().iter().map(|entry| entry.items().unwrap()[0].clone()).collect();
    Value::Array(ids)
}

#[test]
fn values_of_all_types_move_as_they_are() {
    let server = larder(2, &EAGER);
    let mut client = server.client();
    let names = make_types(&mut client);
    let before: Vec<Vec<Value>> = names.iter().map(|name| shown(&mut client, name)).collect();
    let holes = figure(&mut client, "allocator_frag_bytes");
    ok(&mut client, "CONFIG SET activedefrag yes");
    await_that("blocks to move", || figure(&mut client, "active_defrag_hits") > 200);
    await_that("holes to close", || figure(&mut client, "allocator_frag_bytes") < holes * 3 / 4);
    // Of the largest values every step moves but a few elements.
    ok(&mut client, "CONFIG SET active-defrag-max-scan-fields 1");
    for (name, before) in names.iter().zip(before) {
        assert_eq!(shown(&mut client, name), before, "{name}");
    }
    for name in &names {
        assert_eq!(client.run(&format!("UNLINK {name}")).unwrap().integer(), Some(1), "{name}");
    }
    assert_eq!(client.run("DBSIZE").unwrap().integer(), Some(0));
}

#[test]
fn a_client_that_waits_and_one_that_watches_are_served_while_keys_move() {
    let server = larder(2, &EAGER);
    let (mut client, mut waiting, mut watching) = (server.client(), server.client(), server.client());
    make_holes(&mut client);
    ok(&mut watching, "WATCH key:1 key:2");
    waiting.send(&["BLPOP", "nothing", "0"]).unwrap();
    ok(&mut client, "CONFIG SET activedefrag yes");
    await_that("blocks to move", || figure(&mut client, "active_defrag_hits") > 1000);
    ok(&mut watching, "MULTI");
    watching.run("GET key:1").unwrap();
    let reply = watching.run("EXEC").unwrap();
    let [value] = reply.items().unwrap() else { panic!("moving a key is no change of it: {reply:?}") };
    assert_eq!(value.bytes(), Some(&value_of(1, last_round(1))[..]));
    assert_eq!(client.run("RPUSH nothing element").unwrap().integer(), Some(1));
    assert_eq!(waiting.read().unwrap().items().unwrap()[1].text(), "element");
}

/// Sets most of some keys to values of sizes that are others in each round.
fn overwrite(client: &mut Client, keys: std::ops::Range<usize>, round: usize) {
    let keys: Vec<usize> = keys.filter(|key| (key * 31 + round * 17) % 5 >= 2).collect();
    for batch in keys.chunks(100) {
        let mut bytes = Vec::new();
        for key in batch {
            let base = [20, 400, 90, 3000][round % 4];
            let value = vec![*key as u8; base + ((key * 40_503) >> 7) % (2 * base)];
            bytes.extend(encode(&[b"SET", format!("key:{key}").as_bytes(), &value]));
        }
        let replies = client.pipeline_raw(&bytes, batch.len()).unwrap();
        assert!(replies.iter().all(|reply| reply.text() == "OK"), "{:?}", replies.first());
    }
}

#[test]
fn resident_memory_is_held_to_the_limit() {
    const LIMIT: usize = 96 << 20;
    // What may be written between two looks, and what the system takes notice of late.
    const SLACK: usize = 8 << 20;
    let mut peaks = Vec::new();
    for rss in ["no", "yes"] {
        let limit = LIMIT.to_string();
        let server =
            larder(2, &["--maxmemory", &limit, "--maxmemory-policy", "allkeys-lru", "--maxmemory-rss", rss]);
        let mut client = server.client();
        let mut peak = 0;
        for round in 0..12 {
            for part in 0..25 {
                overwrite(&mut client, part * 2000..(part + 1) * 2000, round);
                peak = peak.max(resident_bytes(&server));
            }
        }
        assert!(figure(&mut client, "evicted_keys") > 0, "{rss}");
        let used = figure(&mut client, "used_memory") as usize;
        assert!(used > LIMIT / 2, "with {rss} but {used} bytes were kept");
        peaks.push(peak);
    }
    assert!(peaks[0] > LIMIT + SLACK, "without the option more is resident: {peaks:?}");
    assert!(peaks[1] < LIMIT + SLACK, "with the option no more is resident: {peaks:?}");
}

#[test]
fn under_noeviction_writes_are_refused_above_the_resident_limit_until_memory_is_given_back() {
    const LIMIT: usize = 64 << 20;
    let server = larder(1, &["--maxmemory", &LIMIT.to_string(), "--maxmemory-rss", "yes"]);
    let mut client = server.client();
    let value = "v".repeat(3000);
    let mut key = 0;
    while !client.command(&["SET", &format!("key:{key}"), &value]).unwrap().is_error() {
        key += 1;
        assert!(key < 100_000, "nothing is refused");
    }
    let used = figure(&mut client, "used_memory") as usize;
    assert!(used < LIMIT, "memory in use is below the limit: {used}");
    assert!(resident_bytes(&server) < LIMIT + (4 << 20));
    for gone in 0..key {
        client.command(&["DEL", &format!("key:{gone}")]).unwrap();
    }
    await_that("room for writes", || !client.command(&["SET", "another", &value]).unwrap().is_error());
    ok(&mut client, "CONFIG SET maxmemory-rss no");
    ok(&mut client, "SET yet another");
}
