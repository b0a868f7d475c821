//! The suites `collections` and `collections-memory`: what operations on values larger than strings cost, and what
//! such values take. Read next: `throughput.rs`, `rig.rs`.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::compare::rig::{Cell, Contender, Data, Request, Rig};
use crate::compare::table::{Row, Table};
use crate::compare::throughput::{columns, report};
use crate::compare::{Context, progress};
use crate::peers::Kind;

/// A measured operation.
struct Operation {
    name: &'static str,
    /// Which of the prepared keys it asks for.
    data: fn(&Prepared) -> &Data,
    request: Request,
    connections: usize,
    pipeline: usize,
    /// The largest ratio of Larder's CPU to that of Redis and of Valkey.
    aim: f64,
}

/// The names that the operations draw from.
struct Prepared {
    hashes: Data,
    members: Data,
    ranked: Data,
    fresh: Data,
}

const RANKED: u64 = 1_000_000;
const SUBSCRIBERS: usize = 100;

/// An operation of 50 connections with 16 requests in flight.
const fn operation(
    name: &'static str,
    data: fn(&Prepared) -> &Data,
    line: &'static str,
    aim: f64,
) -> Operation {
    Operation { name, data, request: Request::Command(line), connections: 50, pipeline: 16, aim }
}

const fn round(
    name: &'static str,
    lines: &'static [&'static str],
    (connections, pipeline): (usize, usize),
    aim: f64,
) -> Operation {
    let data: fn(&Prepared) -> &Data = |prepared| &prepared.fresh;
    Operation { name, data, request: Request::Round(lines), connections, pipeline, aim }
}

const OPERATIONS: &[Operation] = &[
    operation("LPUSH", |p| &p.members, "LPUSH pushed __value__", 0.6),
    round("LPUSH then RPOP", &["LPUSH popped __value__", "RPOP popped"], (50, 16), 0.6),
    operation("LRANGE of 100", |p| &p.members, "LRANGE hundred 0 99", 0.6),
    operation("HSET, 10 fields", |p| &p.hashes, "HSET __key__ field3 __value__", 0.55),
    operation("HGET, 10 fields", |p| &p.hashes, "HGET __key__ field7", 0.55),
    operation("HINCRBY, 10 fields", |p| &p.hashes, "HINCRBY __key__ count 1", 0.55),
    operation("HGETALL, 10 fields", |p| &p.hashes, "HGETALL __key__", 0.6),
    operation("SADD", |p| &p.members, "SADD members __key__", 0.55),
    operation("SISMEMBER", |p| &p.members, "SISMEMBER members __key__", 0.55),
    round("SADD then SPOP", &["SADD drawn __key__", "SPOP drawn"], (50, 16), 0.55),
    operation("ZADD, 1M members", |p| &p.ranked, "ZADD board __int__ __key__", 0.6),
    operation("ZINCRBY, 1M members", |p| &p.ranked, "ZINCRBY board 1 __key__", 0.6),
    operation("ZRANK, 1M members", |p| &p.ranked, "ZRANK board __key__", 0.6),
    operation(
        "ZRANGEBYSCORE of 10, 1M members",
        |p| &p.ranked,
        "ZRANGEBYSCORE board __int__ +inf LIMIT 0 10",
        0.6,
    ),
    operation("XADD", |p| &p.members, "XADD stream MAXLEN ~ 100000 * field __value__", 0.65),
    round(
        "XADD, XREADGROUP, XACK",
        &[
            "XADD jobs __key__-1 field __value__",
            "XREADGROUP GROUP workers one COUNT 1 STREAMS jobs >",
            "XACK jobs workers __key__-1",
        ],
        (1, 48),
        0.65,
    ),
    operation("PFADD", |p| &p.members, "PFADD visitors __key__", 0.6),
    Operation {
        name: "BITCOUNT of 1 MiB",
        data: |p| &p.members,
        request: Request::Command("BITCOUNT bits"),
        connections: 50,
        pipeline: 1,
        aim: 0.7,
    },
    Operation {
        name: "SINTER of two sets of 100k",
        data: |p| &p.members,
        request: Request::Command("SINTER left right"),
        connections: 10,
        pipeline: 1,
        aim: 0.7,
    },
    round("MULTI of 10 SETs", MULTI_OF_SETS, (50, 24), 0.6),
    operation(
        "EVALSHA of SET and GET",
        |p| &p.members,
        "EVALSHA 2b20e84ba26251fc86a627f03be6dd614b31bac8 1 __key__ __value__",
        0.7,
    ),
    operation("PUBLISH to 100 subscribers", |p| &p.members, "PUBLISH news __value__", 0.7),
];

/// A script of two commands, and what its text is called.
const SCRIPT: (&str, &str) = (
    "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])",
    "2b20e84ba26251fc86a627f03be6dd614b31bac8",
);

/// A transaction over ten keys.
pub(crate) const MULTI_OF_SETS: &[&str] = &[
    "MULTI",
    "SET __key__:0 __value__",
    "SET __key__:1 __value__",
    "SET __key__:2 __value__",
    "SET __key__:3 __value__",
    "SET __key__:4 __value__",
    "SET __key__:5 __value__",
    "SET __key__:6 __value__",
    "SET __key__:7 __value__",
    "SET __key__:8 __value__",
    "SET __key__:9 __value__",
    "EXEC",
];

/// CPU per operation, one thread.
pub(crate) fn cpu(cx: &Context) -> Result<()> {
    let rig = &cx.rig;
    let speaks = |kind| !matches!(kind, Kind::Memcached | Kind::Null);
    let mut contenders = rig.start(&rig.launch_single(), speaks)?;
    let named = |prefix, keys| Data { prefix, ..Data::plain(rig.scaled(keys), 8) };
    let prepared = Prepared {
        hashes: named("hash:", 100_000),
        members: named("member:", 100_000),
        ranked: named("player:", RANKED),
        fresh: Data { prefix: "", key_bytes: 10, ..Data::plain(6_400_000_000, 8) },
    };
    for contender in &contenders {
        progress(&format!("collections: preparing {}", contender.label))?;
        prepare(rig, contender, &prepared)?;
    }
    let mut table = Table { suite: "collections", columns: columns(&contenders), rows: Vec::new() };
    for operation in OPERATIONS.iter().filter(|operation| cx.wants(operation.name)) {
        progress(&format!("collections: {}", operation.name))?;
        let name = operation.name.to_owned();
        let cell = Cell {
            name: name.clone(),
            connections: operation.connections,
            pipeline: operation.pipeline,
            distribution: "uniform",
            data: (operation.data)(&prepared).clone(),
            request: operation.request.clone(),
        };
        let listeners = if operation.name.starts_with("PUBLISH") {
            contenders.iter().map(Listeners::subscribe).collect::<Result<Vec<_>>>()?
        } else {
            Vec::new()
        };
        let samples = rig.measure(&mut contenders, &cell)?;
        drop(listeners);
        let targets = vec![(Kind::Redis, operation.aim), (Kind::Valkey, operation.aim)];
        table.rows.push(Row { name, samples, targets });
    }
    let method = "One thread, 50 connections with 16 requests in flight unless a row says otherwise; values of 8 B. \
        Rows of several commands count each command; one of PUBLISH counts the messages published.";
    report(cx, "Collections", method, &table)
}

/// Makes the keys that the operations find.
fn prepare(rig: &Rig, contender: &Contender, prepared: &Prepared) -> Result<()> {
    let hash = "HSET __key__ field0 __value__ field1 __value__ field2 __value__ field3 __value__ field4 __value__ \
        field5 __value__ field6 __value__ field7 __value__ field8 __value__ count 1";
    rig.fill_by(contender, &prepared.hashes, hash)?;
    rig.fill_by(contender, &prepared.members, "SADD members __key__")?;
    rig.fill_by(contender, &prepared.ranked, "ZADD board __int__ __key__")?;
    rig.fill_by(contender, &prepared.members, "SADD left __key__")?;
    let others = Data { prefix: "other:", ..prepared.members.clone() };
    rig.fill_by(contender, &others, "SADD right __key__")?;
    let common = Data { keys: 1000, ..prepared.members.clone() };
    rig.fill_by(contender, &common, "SADD right __key__")?;
    rig.fill_by(contender, &Data { keys: 100, ..prepared.members.clone() }, "RPUSH hundred __value__")?;
    for words in
        [&["SETRANGE", "bits", "1048575", "x"][..], &["XGROUP", "CREATE", "jobs", "workers", "$", "MKSTREAM"]]
    {
        contender.server.ask(words)?;
    }
    let (text, sum) = SCRIPT;
    let named = contender.server.ask(&["SCRIPT", "LOAD", text])?;
    ensure!(named == sum, "{} calls the script {named}", contender.label);
    Ok(())
}

/// Connections that subscribe to `news` and read what comes, until dropped.
struct Listeners {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listeners {
    fn subscribe(contender: &Contender) -> Result<Listeners> {
        let mut streams = Vec::with_capacity(SUBSCRIBERS);
        for _ in 0..SUBSCRIBERS {
            let mut stream = TcpStream::connect(("127.0.0.1", contender.server.port))
                .with_context(|| format!("subscribing to {}", contender.label))?;
            stream.write_all(b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n")?;
            stream.set_nonblocking(true)?;
            streams.push(stream);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 256 * 1024];
            while !stopped.load(Relaxed) {
                let mut quiet = true;
                for stream in &mut streams {
                    match stream.read(&mut buffer) {
                        Ok(bytes) => quiet &= bytes == 0,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(_) => return,
                    }
                }
                if quiet {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        Ok(Listeners { stop, thread: Some(thread) })
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Values that take memory: how they are made and how many things are counted.
struct Held {
    name: &'static str,
    lines: &'static [&'static str],
    things: u64,
    /// The largest ratio to the better of Redis and Valkey.
    aim: f64,
}

const HELD: &[Held] = &[
    Held {
        name: "a hash of 5 short fields",
        lines: &["HSET __key__ name __value__ mail __value__ city __value__ age 42 plan gold"],
        things: 1_000_000,
        aim: 0.8,
    },
    Held {
        name: "a list of 10 short elements",
        lines: &[
            "RPUSH __key__ __value__ __value__ __value__ __value__ __value__ __value__ __value__ __value__ \
            __value__ __value__",
        ],
        things: 1_000_000,
        aim: 0.8,
    },
    Held {
        name: "a set of 10 integers",
        lines: &[
            "SADD __key__ __int__ __int__ __int__ __int__ __int__ __int__ __int__ __int__ __int__ __int__",
        ],
        things: 1_000_000,
        aim: 0.8,
    },
    Held {
        name: "a member of a sorted set of 10M",
        lines: &["ZADD board __int__ __key__"],
        things: 10_000_000,
        aim: 0.7,
    },
    Held {
        name: "a field of a hash of 10M",
        lines: &["HSET table __key__ __value__"],
        things: 10_000_000,
        aim: 0.75,
    },
    Held {
        name: "a field with a TTL of a hash of 10M",
        lines: &["HSET table __key__ __value__", "HEXPIRE table 100000 FIELDS 1 __key__"],
        things: 10_000_000,
        aim: 0.7,
    },
    Held {
        name: "an entry of a stream of 10M",
        lines: &["XADD stream * field __value__"],
        things: 10_000_000,
        aim: 0.9,
    },
];

/// How long a server may tidy up before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// Bytes for each thing held.
pub(crate) fn memory(cx: &Context) -> Result<()> {
    let rig = &cx.rig;
    let peers: Vec<_> =
        rig.peers.iter().filter(|peer| !matches!(peer.kind, Kind::Null | Kind::Memcached)).collect();
    let labels: Vec<String> = peers.iter().map(|peer| peer.label()).collect();
    let mut text = format!(
        "| resident bytes | {} | larder / the better of the others |\n|---|{}---|\n",
        labels.join(" | "),
        "---|".repeat(labels.len())
    );
    let mut records = Vec::new();
    for held in HELD {
        let mut row: Vec<(Kind, Option<f64>)> = Vec::new();
        for peer in &peers {
            progress(&format!("collections-memory: {}, {}", held.name, peer.label()))?;
            let contender = rig.start_one(peer, &rig.launch_single(), peer.label())?;
            let bytes = match bytes_each(rig, &contender, held) {
                Ok(bytes) => Some(bytes),
                Err(error) => {
                    progress(&format!("{error:#}"))?;
                    None
                }
            };
            let shown = bytes.map_or_else(String::new, |bytes| format!("{bytes:.2}"));
            let server = format!("{},{}", peer.kind.name(), peer.version);
            records.push(format!("{},{server},\"{}\",{},{shown}", cx.stamp(), held.name, held.things));
            row.push((peer.kind, bytes));
        }
        text.push_str(&line(held, &row));
    }
    cx.places.append_records(
        "collections-memory",
        "date,machine,server,version,what,things,bytes",
        &records,
    )?;
    let method = format!(
        "Each server started afresh for each row; (resident memory after the fill and {} s - before) / things held. \
         Keys, members and fields of 16 B, values of 8 B, numbers of 9 digits.",
        SETTLE.as_secs()
    );
    cx.finish("collections-memory", "Memory of collections", &format!("{method}\n\n{text}"), &[])
}

fn bytes_each(rig: &Rig, contender: &Contender, held: &Held) -> Result<f64> {
    std::thread::sleep(Duration::from_millis(300));
    let before = contender.server.rss_bytes()?;
    let data = Data::plain(rig.scaled(held.things), 8);
    for line in held.lines {
        rig.fill_by(contender, &data, line)?;
    }
    std::thread::sleep(SETTLE);
    Ok(contender.server.rss_bytes()?.saturating_sub(before) as f64 / data.keys as f64)
}

fn line(held: &Held, row: &[(Kind, Option<f64>)]) -> String {
    let cells: Vec<String> =
        row.iter().map(|(_, bytes)| bytes.map_or("-".to_owned(), |bytes| format!("{bytes:.1}"))).collect();
    let ours = row.iter().find(|(kind, _)| *kind == Kind::Larder).and_then(|(_, bytes)| *bytes);
    let better = row.iter().filter(|(kind, _)| *kind != Kind::Larder).filter_map(|(_, bytes)| *bytes);
    let better = better.reduce(f64::min);
    let judged = ours.zip(better).map_or("-".to_owned(), |(ours, better)| {
        let ratio = ours / better;
        let verdict = if ratio <= held.aim { "met" } else { "**missed**" };
        format!("{ratio:.2}, at most {}: {verdict}", held.aim)
    });
    format!("| {} | {} | {judged} |\n", held.name, cells.join(" | "))
}
