//! The suite `eviction`: traces replayed look-aside against real servers with the same memory limit under different
//! policies: how much misses. Servers run one after the other; nothing is timed.
//!
//! Each cell is recorded as soon as it is there, and the section is made of all that is recorded, so that it can be
//! measured in parts. Read next: `../replay.rs`, `trace_suite.rs`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::compare::{Context, progress};
use crate::peers::{Kind, Launch, Peer, Server};
use crate::replay::{KEY_BYTES, Replay, Replayed};
use crate::trace::footprint_bytes;
use larder_policy::sim::Trace;
use larder_policy::svg::{Bars, Series};

/// Which traces are replayed.
#[derive(Clone, Debug, Args)]
pub(crate) struct EvictionArgs {
    /// KVT1 traces for the suite `eviction`; without any its section is made of what is recorded. May be given several times.
    #[arg(long)]
    eviction_trace: Vec<PathBuf>,
    /// Memory limits as parts of the bytes of all keys and values.
    #[arg(long, value_delimiter = ',', default_value = "0.05,0.1,0.2")]
    eviction_fractions: Vec<f64>,
    /// Replay no more than so many requests of each trace.
    #[arg(long)]
    eviction_requests: Option<usize>,
    /// Replay under policies only whose server and name contain one of these.
    #[arg(long, value_delimiter = ',')]
    eviction_only: Vec<String>,
}

/// Connections of a replay.
const CONNECTIONS: usize = 16;
/// Where objects have no sizes they are made so large that the smallest limit is this: servers take some megabytes for
/// themselves.
const LIMIT_BYTES_MIN: f64 = 24e6;
/// What the first column is measured against.
const BASE: &str = "allkeys-lru";
/// In which steps memcached takes its limit.
const MEMCACHED_STEP: u64 = 1 << 20;
const RECORD_HEAD: &str = "date,machine,trace,requests,fraction,memory_bytes_max,server,gets,misses";

/// A server under a policy.
struct Subject {
    label: String,
    peer: Peer,
}

/// Every server under the policies it has.
fn subjects(cx: &Context, only: &[String]) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for peer in &cx.rig.peers {
        let policies: &[&str] = match peer.kind {
            Kind::Redis | Kind::Valkey => &[BASE, "allkeys-lfu"],
            Kind::Larder => &["allkeys-adaptive", BASE, "allkeys-s3fifo", "allkeys-wtinylfu", "allkeys-gdsf"],
            // Its own, a segmented LRU.
            Kind::Memcached => &[""],
            // Dragonfly refuses a limit below 256 MB for each thread.
            Kind::Null | Kind::RedisSystem | Kind::Dragonfly => &[],
        };
        for policy in policies {
            let words = ["--maxmemory-policy".to_owned(), (*policy).to_owned()];
            let words = if policy.is_empty() { &[][..] } else { &words };
            let label = format!("{} {policy}", peer.label()).trim_end().to_owned();
            subjects.push(Subject { label, peer: peer.with_arguments(words) });
        }
    }
    let is_wanted = |label: &str| only.is_empty() || only.iter().any(|part| label.contains(part));
    subjects.retain(|subject| is_wanted(&subject.label));
    subjects
}

/// Replays what is asked for, and renews the section.
pub(crate) fn run(cx: &Context, args: &EvictionArgs) -> Result<()> {
    let subjects = subjects(cx, &args.eviction_only);
    for path in &args.eviction_trace {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = name.split('.').next().unwrap_or_default().to_owned();
        let mut trace = Trace::read_kvt1(path, args.eviction_requests.unwrap_or(usize::MAX))
            .with_context(|| path.display().to_string())?;
        give_sizes(&mut trace, args.eviction_fractions.iter().copied().fold(1.0, f64::min));
        let footprint = footprint_bytes(&trace, KEY_BYTES);
        for fraction in &args.eviction_fractions {
            for subject in &subjects {
                let limit = limit_for(subject.peer.kind, footprint as f64 * fraction);
                let found = replay(cx, subject, &trace, limit)?;
                let (percent, label) = (fraction * 100.0, &subject.label);
                progress(&format!("eviction: {name}, {percent:.0}%, {label}: {:.4}", found.miss_ratio()))?;
                let record = format!(
                    "{},{name},{},{fraction},{limit},\"{label}\",{},{}",
                    cx.stamp(),
                    trace.requests.len(),
                    found.gets,
                    found.misses
                );
                cx.places.append_records("eviction", RECORD_HEAD, &[record])?;
            }
        }
    }
    write(cx, &cx.places.records.join("eviction.csv"))
}

/// Whole megabytes where the server takes no others.
fn limit_for(kind: Kind, bytes: f64) -> u64 {
    let bytes = bytes as u64;
    if kind == Kind::Memcached {
        (bytes + MEMCACHED_STEP / 2) / MEMCACHED_STEP * MEMCACHED_STEP
    } else {
        bytes
    }
}

/// Gives objects of a trace without sizes one that makes the smallest limit large enough for real servers.
fn give_sizes(trace: &mut Trace, fraction_min: f64) {
    if trace.requests.iter().any(|request| request.bytes > 1) {
        return;
    }
    let bytes = (LIMIT_BYTES_MIN / fraction_min / f64::from(trace.keys.max(1))).clamp(100.0, 1e6) as u32;
    trace.requests.iter_mut().for_each(|request| request.bytes = bytes);
}

fn replay(cx: &Context, subject: &Subject, trace: &Trace, limit: u64) -> Result<Replayed> {
    let launch = Launch { memory_bytes_max: Some(limit), ..cx.rig.launch_single() };
    let server = Server::start(&subject.peer, &launch)?;
    let largest = trace.requests.iter().map(|request| request.bytes).max().unwrap_or(0);
    let protocol = subject.peer.kind.protocol();
    let mut replay = Replay::connect(&server.endpoint(), CONNECTIONS, trace.keys, largest, false, protocol)?;
    replay.run(&trace.requests).with_context(|| subject.label.clone())?;
    Ok(replay.found().clone())
}

/// What a replay came to, as it was recorded.
#[derive(Clone, Debug, PartialEq)]
struct Recorded {
    trace: String,
    requests: u64,
    fraction: f64,
    limit: u64,
    server: String,
    misses: f64,
}

impl Recorded {
    fn parse(line: &str) -> Option<Recorded> {
        let words: Vec<&str> = line.split(',').map(|word| word.trim_matches('"')).collect();
        let [_, _, trace, requests, fraction, limit, server, gets, misses] = words[..] else { return None };
        let ratio = misses.parse::<f64>().ok()? / gets.parse::<f64>().ok()?.max(1.0);
        Some(Recorded {
            trace: trace.to_owned(),
            requests: requests.parse().ok()?,
            fraction: fraction.parse().ok()?,
            limit: limit.parse().ok()?,
            server: server.to_owned(),
            misses: ratio,
        })
    }

    fn is_base(&self) -> bool {
        self.server.starts_with(Kind::Redis.name()) && self.server.ends_with(BASE)
    }
}

/// The last record of each cell, in the order of the first ones.
fn recorded(text: &str) -> Vec<Recorded> {
    let mut cells: Vec<Recorded> = Vec::new();
    for found in text.lines().filter_map(Recorded::parse) {
        let is_it = |cell: &&mut Recorded| {
            cell.trace == found.trace && cell.fraction == found.fraction && cell.server == found.server
        };
        match cells.iter_mut().find(is_it) {
            Some(cell) => *cell = found,
            None => cells.push(found),
        }
    }
    cells
}

/// What stands once in some records, in their order.
fn distinct<T: PartialEq>(cells: &[Recorded], of: impl Fn(&Recorded) -> T) -> Vec<T> {
    let mut found = Vec::new();
    for value in cells.iter().map(of) {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

fn write(cx: &Context, records: &Path) -> Result<()> {
    let Ok(text) = std::fs::read_to_string(records) else {
        return progress("eviction: no trace is given (--eviction-trace PATH), and none is recorded");
    };
    let cells = recorded(&text);
    let mut body = format!(
        "Look-aside: a GET that misses is followed by a SET of the object's size (keys of {KEY_BYTES} B, values of \
         lower-case ASCII). {CONNECTIONS} connections with one request in flight on each. Every server has the same \
         maxmemory, a part of the bytes of all keys and values; its own overhead counts. memcached takes whole \
         megabytes: it has the nearest, and its hash table beside them. Objects of traces without sizes are all of one \
         size, such that the smallest limit is about {} MB. Each cell: misses of GETs, the empty cache's included, and \
         in brackets how many fewer than those of the first column, percent.\n\n",
        LIMIT_BYTES_MIN / 1e6
    );
    body.push_str(&table(&cells));
    for fraction in distinct(&cells, |cell| cell.fraction) {
        let percent = (fraction * 100.0).round();
        let title = format!("Misses at {percent:.0}% of the footprint, redis allkeys-lru = 100");
        let svg = chart(&cells, fraction, &title).svg();
        body.push('\n');
        body.push_str(&cx.write_chart(&format!("eviction-{percent:.0}"), &title, &svg)?);
    }
    cx.finish("eviction", "Misses under a memory limit, by policy", &body, &[])
}

/// The servers, the one that others are compared with first.
fn servers(cells: &[Recorded]) -> Vec<String> {
    let mut servers = distinct(cells, |cell| (!cell.is_base(), cell.server.clone()));
    servers.sort_by_key(|(is_other, _)| *is_other);
    servers.into_iter().map(|(_, server)| server).collect()
}

fn table(cells: &[Recorded]) -> String {
    let servers = servers(cells);
    let heads: String = servers.iter().map(|server| format!(" {server} |")).collect();
    let mut text =
        format!("| trace | requests | limit |{heads}\n|---|---|---|{}\n", "---|".repeat(servers.len()));
    for trace in distinct(cells, |cell| cell.trace.clone()) {
        for fraction in distinct(cells, |cell| cell.fraction) {
            let row: Vec<&Recorded> =
                cells.iter().filter(|cell| cell.trace == trace && cell.fraction == fraction).collect();
            let Some(base) = row.iter().find(|cell| cell.is_base()).or(row.first()) else { continue };
            let limit = base.limit as f64 / 1e6;
            text.push_str(&format!(
                "| {trace} | {} | {:.0}%, {limit:.1} MB |",
                base.requests,
                fraction * 100.0
            ));
            for server in &servers {
                match row.iter().find(|cell| cell.server == *server) {
                    Some(cell) => {
                        let saved = (1.0 - cell.misses / base.misses) * 100.0;
                        text.push_str(&format!(" {:.4} ({saved:.1}) |", cell.misses));
                    }
                    None => text.push_str(" - |"),
                }
            }
            text.push('\n');
        }
    }
    text
}

fn chart(cells: &[Recorded], fraction: f64, title: &str) -> Bars {
    let cells: Vec<Recorded> = cells.iter().filter(|cell| cell.fraction == fraction).cloned().collect();
    let groups = distinct(&cells, |cell| cell.trace.clone());
    let find = |trace: &str, is_it: &dyn Fn(&Recorded) -> bool| {
        cells.iter().find(|cell| cell.trace == trace && is_it(cell)).map(|cell| cell.misses)
    };
    let others = servers(&cells)
        .into_iter()
        .filter(|server| cells.iter().any(|cell| cell.server == *server && !cell.is_base()));
    let series = others.map(|server| Series {
        values: groups
            .iter()
            .map(|trace| {
                let base = find(trace, &|cell| cell.is_base())?;
                Some(find(trace, &|cell| cell.server == server)? / base * 100.0)
            })
            .collect(),
        name: server,
    });
    let series = series.collect();
    Bars { title: title.to_owned(), unit: "% of redis allkeys-lru".to_owned(), groups, series }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: &str = "date,machine,trace,requests,fraction,memory_bytes_max,server,gets,misses
2026-01-01 10:00,\"a machine\",one,1000,0.1,5000000,\"larder 1 allkeys-adaptive\",1000,300
2026-01-01 10:00,\"a machine\",one,1000,0.1,5000000,\"redis-server 8 allkeys-lru\",1000,500
2026-01-01 10:00,\"a machine\",one,1000,0.2,5000000,\"memcached 1\",1000,500
2026-01-01 11:00,\"a machine\",one,1000,0.1,5000000,\"larder 1 allkeys-adaptive\",1000,400
";

    #[test]
    fn the_table_shows_the_last_of_each_cell_against_the_base() {
        let cells = recorded(RECORDS);
        assert_eq!(cells.len(), 3);
        let text = table(&cells);
        assert!(text.starts_with(
            "| trace | requests | limit | redis-server 8 allkeys-lru | larder 1 allkeys-adaptive |"
        ));
        assert!(text.contains("| one | 1000 | 10%, 5.0 MB | 0.5000 (0.0) | 0.4000 (20.0) | - |"), "{text}");
        assert!(text.contains("| one | 1000 | 20%, 5.0 MB | - | - | 0.5000 (0.0) |"), "{text}");
    }

    #[test]
    fn the_chart_is_of_one_limit() {
        let bars = chart(&recorded(RECORDS), 0.1, "title");
        assert_eq!(bars.groups, ["one"]);
        let series: Vec<_> =
            bars.series.iter().map(|series| (&series.name[..], &series.values[..])).collect();
        assert_eq!(series, [("larder 1 allkeys-adaptive", &[Some(80.0)][..])]);
    }

    #[test]
    fn memcached_has_the_nearest_megabytes() {
        assert_eq!(limit_for(Kind::Memcached, 5.1e6), 5 << 20);
        assert_eq!(limit_for(Kind::Memcached, 10.3e6), 10 << 20);
        assert_eq!(limit_for(Kind::Larder, 5.1e6), 5_100_000);
    }
}
