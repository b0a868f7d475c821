//! The suite `trace`: a trace replayed look-aside against Larder and its peers with a memory limit, natively and,
//! when asked, through redis-py. Servers take turns every hundred thousand requests.
//! Read next: `../replay.rs`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::compare::rig::{Contender, Rig};
use crate::compare::{Context, progress};
use crate::outcome::micros;
use crate::peers::{Kind, Launch};
use crate::replay::{KEY_BYTES, Replay, Replayed};
use crate::template::Protocol;
use crate::trace::footprint_bytes;
use larder_policy::sim::{RECORD_BYTES, Trace, next_record, open_kvt1};

/// How a trace is replayed.
#[derive(Clone, Debug, Args)]
pub(crate) struct TraceArgs {
    /// The KVT1 trace for the suite `trace`; without it the suite is left out.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// The memory limit as a fraction of the bytes of all keys and values.
    #[arg(long, default_value_t = 0.1)]
    trace_fraction: f64,
    /// Replay no more than so many requests.
    #[arg(long)]
    trace_requests: Option<usize>,
    /// Connections of the native replay.
    #[arg(long, default_value_t = 16)]
    trace_connections: usize,
    /// Give keys the TTL of the trace. A replay runs faster than the trace's own time, so they outlive it.
    #[arg(long)]
    trace_ttl: bool,
    /// A Python with redis-py, to replay the trace through it as well; the peers' own unless given.
    #[arg(long)]
    python: Option<PathBuf>,
    /// The script that does it.
    #[arg(long, default_value = "bench/replay_redis_py.py")]
    python_script: PathBuf,
}

const CHUNK: usize = 100_000;

/// What is known of a server at the end of its replay.
struct Ending {
    label: String,
    replayed: Replayed,
    cpu_ns: u64,
    evicted: String,
    resident_mb: f64,
}

/// Replays, or says why not.
pub(crate) fn run(cx: &Context, args: &TraceArgs, peers_dir: &Path) -> Result<()> {
    let Some(path) = &args.trace else {
        return progress("trace: no trace is given (--trace PATH); suite left out");
    };
    let trace = Trace::read_kvt1(path, args.trace_requests.unwrap_or(usize::MAX))
        .with_context(|| path.display().to_string())?;
    let footprint = footprint_bytes(&trace, KEY_BYTES);
    let limit = (footprint as f64 * args.trace_fraction) as u64;
    progress(&format!("trace: {} requests, {} keys, limit {limit} B", trace.requests.len(), trace.keys))?;
    let launch = Launch { memory_bytes_max: Some(limit), ..cx.rig.launch_single() };
    let endings = native(&cx.rig, args, &trace, &launch)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut body = format!(
        "{name}: {} requests, {} keys; keys and values {:.1} MB, memory limit {:.1} MB ({} of it), allkeys-lru. \
         Look-aside: a GET that misses is followed by a SET of the object's size (keys of {KEY_BYTES} B, values of \
         lower-case ASCII, TTLs {}). {} connections with one request in flight on each, started in the order of the \
         trace. Servers take turns every {CHUNK} requests.\n\n",
        trace.requests.len(),
        trace.keys,
        footprint as f64 / 1e6,
        limit as f64 / 1e6,
        args.trace_fraction,
        if args.trace_ttl { "as in the trace" } else { "left out" },
        args.trace_connections
    );
    body.push_str(&table(&endings));
    let python = args.python.clone().unwrap_or_else(|| peers_dir.join("venv/bin/python"));
    if python.exists() {
        body.push_str(&through_python(&cx.rig, args, &python, path, &launch)?);
    } else {
        body.push_str("\nNo Python with redis-py was found: no replay through it.\n");
    }
    cx.places.append_records("trace", RECORD_HEAD, &records(cx, &name, limit, &endings))?;
    cx.finish("trace", "A trace, look-aside, with a memory limit", &body, &[])
}

fn start(rig: &Rig, launch: &Launch, wanted: impl Fn(Kind) -> bool) -> Result<Vec<Contender>> {
    let contenders = rig.start(launch, wanted)?;
    for contender in &contenders {
        let empty = contender.server.used_memory().unwrap_or(0);
        let limit = launch.memory_bytes_max.unwrap_or(u64::MAX);
        ensure!(
            empty.saturating_mul(2) < limit,
            "{} uses {empty} B when empty: a limit of {limit} B is too low for this trace; raise --trace-fraction",
            contender.label
        );
    }
    Ok(contenders)
}

fn native(rig: &Rig, args: &TraceArgs, trace: &Trace, launch: &Launch) -> Result<Vec<Ending>> {
    // memcached's limit has steps of a megabyte, and Dragonfly refuses one below 256 MB for each thread.
    let mut contenders =
        start(rig, launch, |kind| !matches!(kind, Kind::Memcached | Kind::Null | Kind::Dragonfly))?;
    let largest = trace.requests.iter().map(|request| request.bytes).max().unwrap_or(0);
    let mut replays = Vec::new();
    for contender in &mut contenders {
        let endpoint = contender.server.endpoint();
        let (connections, ttl) = (args.trace_connections, args.trace_ttl);
        let replay = Replay::connect(&endpoint, connections, trace.keys, largest, ttl, Protocol::Resp)?;
        replays.push((replay, 0u64));
        contender.server.pause()?;
    }
    for (number, chunk) in trace.requests.chunks(CHUNK).enumerate() {
        if number % 10 == 0 {
            progress(&format!("trace: native replay, request {}", number * CHUNK))?;
        }
        for (contender, (replay, cpu_ns)) in contenders.iter_mut().zip(&mut replays) {
            contender.server.resume()?;
            let before = contender.server.cpu_ns()?;
            replay.run(chunk).with_context(|| contender.label.clone())?;
            *cpu_ns += contender.server.cpu_ns()?.saturating_sub(before);
            contender.server.pause()?;
        }
    }
    contenders
        .iter_mut()
        .zip(replays)
        .map(|(contender, (replay, cpu_ns))| ending(contender, &replay, cpu_ns))
        .collect()
}

fn ending(contender: &mut Contender, replay: &Replay, cpu_ns: u64) -> Result<Ending> {
    contender.server.resume()?;
    let stats = contender.server.ask(&["INFO", "stats"]).unwrap_or_default();
    Ok(Ending {
        label: contender.label.clone(),
        replayed: replay.found().clone(),
        cpu_ns,
        evicted: crate::endpoint::field(&stats, "evicted_keys").unwrap_or("-").to_owned(),
        resident_mb: contender.server.rss_bytes()? as f64 / 1e6,
    })
}

fn table(endings: &[Ending]) -> String {
    let mut text = String::from(
        "| native replay | miss ratio | requests/s | CPU ns per request | latency us p50 / p99 / p99.9 / longest | \
         evicted | resident MB | errors |\n|---|---|---|---|---|---|---|---|\n",
    );
    for ending in endings {
        let found = &ending.replayed;
        let percentile = |percent| micros(found.latencies.percentile_ns(percent));
        let error = found.error_first.as_ref().map_or(String::new(), |error| format!(" ({error})"));
        text.push_str(&format!(
            "| {} | {:.4} | {:.0} | {:.0} | {} / {} / {} / {} | {} | {:.1} | {}{error} |\n",
            ending.label,
            found.miss_ratio(),
            found.per_second(),
            ending.cpu_ns as f64 / found.requests.max(1) as f64,
            percentile(50.0),
            percentile(99.0),
            percentile(99.9),
            micros(found.latencies.max_ns()),
            ending.evicted,
            ending.resident_mb,
            found.errors
        ));
    }
    text
}

const RECORD_HEAD: &str = "date,machine,trace,memory_bytes_max,server,requests,gets,misses,errors,seconds,cpu_ns,p50_ns,p99_ns,p999_ns,max_ns";

fn records(cx: &Context, trace: &str, limit: u64, endings: &[Ending]) -> Vec<String> {
    let line = |ending: &Ending| {
        let found = &ending.replayed;
        format!(
            "{},{trace},{limit},\"{}\",{},{},{},{},{:.3},{},{},{},{},{}",
            cx.stamp(),
            ending.label,
            found.requests,
            found.gets,
            found.misses,
            found.errors,
            found.elapsed.as_secs_f64(),
            ending.cpu_ns,
            found.latencies.percentile_ns(50.0),
            found.latencies.percentile_ns(99.0),
            found.latencies.percentile_ns(99.9),
            found.latencies.max_ns()
        )
    };
    endings.iter().map(line).collect()
}

/// The same trace through redis-py, by the script, which gets the records on its standard input.
fn through_python(
    rig: &Rig,
    args: &TraceArgs,
    python: &Path,
    trace: &Path,
    launch: &Launch,
) -> Result<String> {
    progress("trace: replay through redis-py")?;
    // Python is the limit here and takes its time: Larder and the one it is to be compared with.
    let contenders = start(rig, launch, |kind| matches!(kind, Kind::Larder | Kind::Redis))?;
    let mut command = Command::new(python);
    command.arg(&args.python_script).arg("--markdown").stdin(Stdio::piped()).stdout(Stdio::piped());
    for contender in &contenders {
        command.arg("--target").arg(format!("{}=127.0.0.1:{}", contender.label, contender.server.port));
    }
    if args.trace_ttl {
        command.arg("--ttl");
    }
    let mut child = command.spawn().with_context(|| format!("cannot run {}", python.display()))?;
    {
        let mut input = child.stdin.take().context("the script has no standard input")?;
        dump(trace, args.trace_requests, &mut input)?;
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the redis-py replay failed: {}", output.status);
    Ok(format!(
        "\nThe same through redis-py, one connection, one request at a time:\n\n{}",
        String::from_utf8_lossy(&output.stdout)
    ))
}

/// Writes the decompressed records of the trace at `path` to `out`.
pub(crate) fn dump(path: &Path, limit: Option<usize>, out: &mut impl Write) -> Result<()> {
    let mut input = open_kvt1(path)?;
    let mut buffer = Vec::with_capacity(RECORD_BYTES * 4096);
    for at in 0..limit.map_or(u64::MAX, |limit| limit as u64) {
        let Some(record) = next_record(&mut input, at)? else { break };
        buffer.extend_from_slice(&record);
        if buffer.len() >= RECORD_BYTES * 4096 {
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    out.write_all(&buffer)?;
    Ok(out.flush()?)
}
