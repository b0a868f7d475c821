//! The suite `memory`: bytes a key, the empty server, an idle connection, the time to the first answer.
//! Invariant: each figure is taken on a server started for it, after a time to settle.
//! Read next: `rig.rs`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::compare::rig::{Contender, Data, Rig};
use crate::compare::sample::Spread;
use crate::compare::{Context, progress};
use crate::endpoint::field;
use crate::peers::{Kind, Peer};
use crate::template::{Expiry, Protocol};
use crate::workload::ValueKind;
use larder_policy::svg::{Bars, Series};

/// How long a server may tidy up before its memory is read.
const SETTLE: Duration = Duration::from_secs(3);
const IDLE_CONNECTIONS: u32 = 10_000;

/// What is filled in, and the most bytes a key that Larder sets itself.
struct Filling {
    name: &'static str,
    value_bytes: usize,
    value_kind: ValueKind,
    expiry: Expiry,
    larder_bytes_max: u32,
}

const HOUR: Expiry = Expiry::After { ms: 3_600_000 };

const FILLINGS: [Filling; 4] = [
    filling("64 B ASCII values", 64, ValueKind::Ascii, Expiry::Never, 93),
    filling("64 B random bytes", 64, ValueKind::Bytes, Expiry::Never, 105),
    filling("64 B ASCII values, a TTL on each", 64, ValueKind::Ascii, HOUR, 108),
    filling("8 B ASCII values", 8, ValueKind::Ascii, Expiry::Never, 44),
];

const fn filling(
    name: &'static str,
    value_bytes: usize,
    value_kind: ValueKind,
    expiry: Expiry,
    larder_bytes_max: u32,
) -> Filling {
    Filling { name, value_bytes, value_kind, expiry, larder_bytes_max }
}

/// Bytes a key, as the kernel counts and as the server does.
#[derive(Clone, Copy)]
struct BytesPerKey {
    resident: f64,
    /// Not every server tells.
    own: Option<f64>,
}

/// What a server needs before it holds anything.
struct Footing {
    empty_mb: f64,
    start_ms: Spread,
    idle_connection_bytes: f64,
    /// The allocator, in the server's own words.
    allocator: String,
}

/// Measures every server but the null server.
pub(crate) fn run(cx: &Context) -> Result<()> {
    let rig = &cx.rig;
    let peers: Vec<&Peer> = rig.peers.iter().filter(|peer| peer.kind != Kind::Null).collect();
    let keys = rig.scaled(3_000_000);
    let mut bytes: Vec<Vec<Option<BytesPerKey>>> = Vec::new();
    for filling in &FILLINGS {
        let mut row = Vec::new();
        for peer in &peers {
            progress(&format!("memory: {}, {}", filling.name, peer.label()))?;
            row.push(attempt(bytes_per_key(rig, peer, filling, keys))?);
        }
        bytes.push(row);
    }
    let mut footings = Vec::new();
    for peer in &peers {
        progress(&format!("memory: empty, starts and idle connections, {}", peer.label()))?;
        footings.push(attempt(footing(rig, peer))?);
    }
    report(cx, &peers, keys, &bytes, &footings)
}

/// A server that fails leaves its cell empty.
fn attempt<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            progress(&format!("{error:#}"))?;
            Ok(None)
        }
    }
}

fn start(rig: &Rig, peer: &Peer) -> Result<Contender> {
    rig.start_one(peer, &rig.launch_single(), peer.label())
}

fn bytes_per_key(rig: &Rig, peer: &Peer, filling: &Filling, keys: u64) -> Result<BytesPerKey> {
    let mut contender = start(rig, peer)?;
    std::thread::sleep(Duration::from_millis(500));
    let (resident_empty, own_empty) = (contender.server.rss_bytes()?, contender.server.used_memory());
    let (value_kind, expiry) = (filling.value_kind, filling.expiry);
    let data = Data { value_kind, expiry, ..Data::plain(keys, filling.value_bytes) };
    rig.fill(&mut contender, &data)?;
    std::thread::sleep(SETTLE);
    let resident = contender.server.rss_bytes()?.saturating_sub(resident_empty);
    let own = own_empty.and_then(|empty| Ok(contender.server.used_memory()?.saturating_sub(empty))).ok();
    Ok(BytesPerKey { resident: resident as f64 / keys as f64, own: own.map(|own| own as f64 / keys as f64) })
}

fn footing(rig: &Rig, peer: &Peer) -> Result<Footing> {
    let mut starts = Vec::new();
    for _ in 0..rig.rounds {
        starts.push(start(rig, peer)?.server.started_in.as_secs_f64() * 1000.0);
    }
    let contender = start(rig, peer)?;
    std::thread::sleep(Duration::from_millis(500));
    let empty = contender.server.rss_bytes()?;
    let connections =
        (0..IDLE_CONNECTIONS).map(|_| used_connection(&contender)).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(SETTLE);
    let with_connections = contender.server.rss_bytes()?;
    ensure!(connections.len() == IDLE_CONNECTIONS as usize, "not every connection was opened");
    Ok(Footing {
        empty_mb: empty as f64 / 1e6,
        start_ms: Spread::of(starts).context("no start was timed")?,
        idle_connection_bytes: with_connections.saturating_sub(empty) as f64 / f64::from(IDLE_CONNECTIONS),
        allocator: allocator(&contender),
    })
}

/// What the server says it allocates with: two builds of one version may differ in it.
fn allocator(contender: &Contender) -> String {
    let info = match contender.server.peer.kind.protocol() {
        Protocol::Resp => contender.server.ask(&["INFO", "memory"]).unwrap_or_default(),
        Protocol::Memcached => return "slabs".to_owned(),
    };
    field(&info, "mem_allocator").unwrap_or("-").trim().to_owned()
}

/// A connection that asked once: one that never did may not have its buffers yet.
fn used_connection(contender: &Contender) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", contender.server.port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request: &[u8] = match contender.server.peer.kind.protocol() {
        Protocol::Resp => b"*1\r\n$4\r\nPING\r\n",
        Protocol::Memcached => b"version\r\n",
    };
    stream.write_all(request)?;
    let mut reply = [0; 64];
    ensure!(stream.read(&mut reply)? > 0, "{} closed a connection", contender.label);
    Ok(stream)
}

fn report(
    cx: &Context,
    peers: &[&Peer],
    keys: u64,
    bytes: &[Vec<Option<BytesPerKey>>],
    footings: &[Option<Footing>],
) -> Result<()> {
    let labels: Vec<String> = peers.iter().map(|peer| peer.label()).collect();
    let head = |first: &str| {
        format!(
            "| {first} | {} | larder's aim |\n|---|{}---|\n",
            labels.join(" | "),
            "---|".repeat(labels.len())
        )
    };
    let mut text = head("bytes a key: resident (the server's own count)");
    for (filling, row) in FILLINGS.iter().zip(bytes) {
        let cells = row
            .iter()
            .map(|cell| cell.map_or("-".to_owned(), |b| format!("{:.1} ({})", b.resident, or_dash(b.own))));
        let cells: Vec<String> = cells.collect();
        text.push_str(&format!(
            "| {} | {} | {} |\n",
            filling.name,
            cells.join(" | "),
            filling.larder_bytes_max
        ));
    }
    text.push('\n');
    text.push_str(&head("before any key"));
    let line = |name: &str, show: &dyn Fn(&Footing) -> String, aim: &str| {
        let cells: Vec<String> =
            footings.iter().map(|footing| footing.as_ref().map_or("-".to_owned(), show)).collect();
        format!("| {name} | {} | {aim} |\n", cells.join(" | "))
    };
    text.push_str(&line("empty server, resident, MB", &|footing| format!("{:.1}", footing.empty_mb), "8"));
    text.push_str(&line("from start to first answer, ms", &|footing| footing.start_ms.text(1), "30"));
    text.push_str(&line(
        "idle connection, bytes",
        &|footing| format!("{:.0}", footing.idle_connection_bytes),
        "1500",
    ));
    text.push_str(&line("allocator", &|footing| footing.allocator.clone(), ""));
    let title = "Resident bytes a key";
    let series = labels.iter().enumerate().map(|(index, label)| Series {
        name: label.clone(),
        values: bytes.iter().map(|row| row.get(index).copied().flatten().map(|b| b.resident)).collect(),
    });
    let groups = FILLINGS.iter().map(|filling| filling.name.to_owned()).collect();
    let unit = "bytes".to_owned();
    let svg = Bars { title: title.to_owned(), unit, groups, series: series.collect() }.svg();
    let chart = cx.places.write_chart("memory", title, &svg)?;
    let method = format!(
        "{keys} keys of 16 B, each server started afresh; (resident memory after the fill and {} s - before) / keys. \
         {IDLE_CONNECTIONS} connections that each asked once and then stayed idle.",
        SETTLE.as_secs()
    );
    cx.places.append_records("memory", RECORD_HEAD, &records(cx, peers, keys, bytes, footings))?;
    cx.finish("memory", "Memory", &format!("{method}\n\n{text}\n{chart}"), &[])
}

fn or_dash(number: Option<f64>) -> String {
    number.map_or("-".to_owned(), |number| format!("{number:.1}"))
}

const RECORD_HEAD: &str = "date,machine,server,version,what,keys,resident,own";

fn records(
    cx: &Context,
    peers: &[&Peer],
    keys: u64,
    bytes: &[Vec<Option<BytesPerKey>>],
    footings: &[Option<Footing>],
) -> Vec<String> {
    let stamp = cx.stamp();
    let mut lines = Vec::new();
    for (index, peer) in peers.iter().enumerate() {
        let start = format!("{stamp},{},{}", peer.kind.name(), peer.version);
        for (filling, row) in FILLINGS.iter().zip(bytes) {
            if let Some(cell) = row.get(index).copied().flatten() {
                lines.push(format!(
                    "{start},\"{}\",{keys},{:.2},{}",
                    filling.name,
                    cell.resident,
                    or_dash(cell.own)
                ));
            }
        }
        if let Some(Some(footing)) = footings.get(index) {
            lines.push(format!("{start},empty MB,0,{:.2},", footing.empty_mb));
            lines.push(format!("{start},start ms,0,{:.2},", footing.start_ms.median));
            lines.push(format!("{start},idle connection bytes,0,{:.0},", footing.idle_connection_bytes));
        }
    }
    lines
}
