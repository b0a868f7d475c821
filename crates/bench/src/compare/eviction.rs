//! The suite `eviction`: traces replayed look-aside against real servers with the same memory limit under different
//! policies: how much misses. Servers run one after the other; nothing is timed.
//! Read next: `../replay.rs`, `trace_suite.rs`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::compare::{Context, progress};
use crate::peers::{Kind, Launch, Peer, Server};
use crate::replay::{KEY_BYTES, Replay, Replayed};
use crate::trace::footprint_bytes;
use larder_policy::sim::Trace;

/// Which traces are replayed.
#[derive(Clone, Debug, Args)]
pub(crate) struct EvictionArgs {
    /// KVT1 traces for the suite `eviction`; without any the suite is left out. May be given several times.
    #[arg(long)]
    eviction_trace: Vec<PathBuf>,
    /// Memory limits as parts of the bytes of all keys and values.
    #[arg(long, value_delimiter = ',', default_value = "0.05,0.1,0.2")]
    eviction_fractions: Vec<f64>,
    /// Replay no more than so many requests of each trace.
    #[arg(long)]
    eviction_requests: Option<usize>,
}

/// Connections of a replay.
const CONNECTIONS: usize = 16;
/// Where objects have no sizes they are made so large that the smallest limit is this: servers take some megabytes for
/// themselves.
const LIMIT_BYTES_MIN: f64 = 24e6;
/// What the first column is measured against.
const BASE: &str = "allkeys-lru";

/// A server under a policy.
struct Subject {
    label: String,
    peer: Peer,
}

/// Every server under the policies it has.
fn subjects(cx: &Context) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for peer in &cx.rig.peers {
        let policies: &[&str] = match peer.kind {
            Kind::Redis | Kind::Valkey => &[BASE, "allkeys-lfu"],
            Kind::Larder => &["allkeys-adaptive", BASE, "allkeys-s3fifo", "allkeys-wtinylfu", "allkeys-gdsf"],
            // The replay speaks RESP; and Dragonfly refuses a limit below 256 MB for each thread.
            Kind::Memcached | Kind::Null | Kind::RedisSystem | Kind::Dragonfly => &[],
        };
        for policy in policies {
            let words = ["--maxmemory-policy".to_owned(), (*policy).to_owned()];
            let label = format!("{} {policy}", peer.label());
            subjects.push(Subject { label, peer: peer.with_arguments(&words) });
        }
    }
    // The one that others are compared with comes first.
    subjects.sort_by_key(|subject| !(subject.peer.kind == Kind::Redis && subject.label.ends_with(BASE)));
    subjects
}

/// Replays, or says why not.
pub(crate) fn run(cx: &Context, args: &EvictionArgs) -> Result<()> {
    if args.eviction_trace.is_empty() {
        return progress("eviction: no trace is given (--eviction-trace PATH); suite left out");
    }
    let subjects = subjects(cx);
    let mut body = format!(
        "Look-aside: a GET that misses is followed by a SET of the object's size (keys of {KEY_BYTES} B, values of \
         lower-case ASCII). {CONNECTIONS} connections with one request in flight on each. Every server has the same \
         maxmemory, a part of the bytes of all keys and values; its own overhead counts. Objects of traces without \
         sizes are all of one size, such that the smallest limit is {} MB. Each cell: misses of GETs, and in brackets \
         how many fewer than the first column's, percent.\n\n",
        LIMIT_BYTES_MIN / 1e6
    );
    body.push_str(&format!(
        "| trace | limit |{}\n",
        subjects.iter().map(|subject| format!(" {} |", subject.label)).collect::<String>()
    ));
    body.push_str(&format!("|---|---|{}\n", "---|".repeat(subjects.len())));
    let mut records = Vec::new();
    for path in &args.eviction_trace {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = name.split('.').next().unwrap_or_default().to_owned();
        let mut trace = Trace::read_kvt1(path, args.eviction_requests.unwrap_or(usize::MAX))
            .with_context(|| path.display().to_string())?;
        give_sizes(&mut trace, args.eviction_fractions.iter().copied().fold(1.0, f64::min));
        let footprint = footprint_bytes(&trace, KEY_BYTES);
        for fraction in &args.eviction_fractions {
            let limit = (footprint as f64 * fraction) as u64;
            let mut line = format!("| {name} | {:.0}%, {:.1} MB |", fraction * 100.0, limit as f64 / 1e6);
            let mut base = None;
            for subject in &subjects {
                progress(&format!("eviction: {name}, {:.0}%, {}", fraction * 100.0, subject.label))?;
                let found = replay(cx, subject, &trace, limit)?;
                let ratio = found.miss_ratio();
                let base = *base.get_or_insert(ratio);
                line.push_str(&format!(" {ratio:.4} ({:.1}) |", (1.0 - ratio / base) * 100.0));
                records.push(format!(
                    "{},{name},{limit},\"{}\",{},{}",
                    cx.stamp(),
                    subject.label,
                    found.gets,
                    found.misses
                ));
            }
            progress(&line)?;
            body.push_str(&line);
            body.push('\n');
        }
    }
    cx.places.append_records(
        "eviction",
        "date,machine,trace,memory_bytes_max,server,gets,misses",
        &records,
    )?;
    cx.finish("eviction", "Misses under a memory limit, by policy", &body, &[])
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
    let mut replay = Replay::connect(&server.endpoint(), CONNECTIONS, trace.keys, largest, false)?;
    replay.run(&trace.requests).with_context(|| subject.label.clone())?;
    Ok(replay.found().clone())
}
