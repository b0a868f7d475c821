//! `larder-bench compare`: starts the peers, measures them in turns, and writes docs/BENCHMARKS.md.
//! Read next: `rig.rs` for how, `throughput.rs`, `latency.rs`, `memory.rs` for what.

mod big_values;
mod collections;
mod eviction;
mod expiry;
mod fragmentation;
mod handover;
mod latency;
mod limit;
mod memory;
mod persistence;
pub(crate) mod redis_benchmark;
mod throughput;
mod tls;
pub(crate) mod trace_suite;

pub(crate) mod document;
mod rig;
mod sample;
mod table;

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::peers::{Kind, Peer, find_below, find_on_path};
use crate::process::Cores;
use document::Places;
use rig::Rig;

/// `larder-bench compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The suites to run; all of them unless given. May be given several times.
    #[arg(long, value_enum, value_delimiter = ',')]
    suite: Vec<Suite>,
    #[command(flatten)]
    servers: ServerArgs,
    #[command(flatten)]
    trace: trace_suite::TraceArgs,
    #[command(flatten)]
    eviction: eviction::EvictionArgs,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds of load before each round.
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// The core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Multiplies the numbers of keys: less than 1 for a trial.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Of the suites of throughput only the rows whose names contain this; printed, not recorded.
    #[arg(long)]
    row: Option<String>,
    /// The document to write.
    #[arg(long, default_value = "docs/BENCHMARKS.md")]
    document: PathBuf,
    /// Where charts go.
    #[arg(long, default_value = "docs/bench")]
    charts: PathBuf,
    /// Where raw records go.
    #[arg(long, default_value = "bench/record")]
    records: PathBuf,
}

/// Where the servers' binaries are.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Larder's binary.
    #[arg(long, env = "LARDER_BENCH_LARDER", default_value = "target/release/larder")]
    larder: PathBuf,
    /// One more word for Larder's command line; may be given several times.
    #[arg(long, allow_hyphen_values = true)]
    larder_arg: Vec<String>,
    /// redis-server 8.2.
    #[arg(long, env = "REDIS_SERVER")]
    redis: Option<PathBuf>,
    /// valkey-server 9.1.
    #[arg(long, env = "VALKEY_SERVER")]
    valkey: Option<PathBuf>,
    /// The system's redis-server.
    #[arg(long, env = "LARDER_BENCH_REDIS_SYSTEM")]
    redis_system: Option<PathBuf>,
    /// memcached.
    #[arg(long, env = "LARDER_BENCH_MEMCACHED")]
    memcached: Option<PathBuf>,
    /// dragonfly.
    #[arg(long, env = "LARDER_BENCH_DRAGONFLY")]
    dragonfly: Option<PathBuf>,
    /// Where redis-server, valkey-server and a Python with redis-py are looked for: what scripts/fetch-peers fills.
    #[arg(long, env = "LARDER_PEERS", default_value = "target/peers")]
    pub(crate) peers_dir: PathBuf,
    /// Only these servers.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
}

/// A group of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Suite {
    /// CPU per operation, one thread.
    Cpu,
    /// Two threads.
    Threads,
    /// redis-benchmark's string commands and large values.
    Commands,
    /// Lists, hashes, sets, sorted sets, streams, transactions, publishing: CPU per operation, one thread.
    Collections,
    /// Bytes that collections take, small and large ones.
    CollectionsMemory,
    /// Values of ten million elements: built, read, copied, dumped, expired, unlinked.
    BigValues,
    /// From a push to the client that waits for it.
    Handover,
    /// Open loop: latencies while nothing and while much happens.
    Latency,
    /// Many keys that are due at once: until they are gone, and who waits meanwhile.
    Expiry,
    /// Bytes a key, empty server, idle connections, start.
    Memory,
    /// The real redis-benchmark.
    RedisBenchmark,
    /// GET over TLS: CPU per operation, one thread.
    Tls,
    /// A trace, look-aside, with a memory limit.
    Trace,
    /// Misses under memory limits, by policy.
    Eviction,
    /// SETs at the memory limit and below it, by policy.
    Limit,
    /// Snapshots, loading and logs: time, memory, latency, CPU.
    Persistence,
    /// Resident memory after values were overwritten with others of other sizes.
    Fragmentation,
}

/// What a suite needs.
pub(crate) struct Context {
    pub(crate) rig: Rig,
    pub(crate) places: Places,
    /// A part of the names of the rows to measure.
    row: Option<String>,
}

/// Runs the suites, one after the other.
pub(crate) fn run(args: &CompareArgs) -> Result<()> {
    ensure!(args.rounds > 0 && args.scale > 0.0, "--rounds and --scale are above 0");
    let (peers, notes) = args.servers.find()?;
    ensure!(!peers.is_empty(), "there is no server to measure: {}", notes.join("; "));
    let seconds = |number| Duration::try_from_secs_f64(number).context("not a number of seconds");
    let rig = Rig {
        peers,
        notes,
        rounds: args.rounds,
        window: seconds(args.seconds)?,
        warmup: seconds(args.warmup)?,
        server_cores: Cores::single(args.server_core),
        load_cores: Cores::single(args.load_core),
        all_cores: Cores::of_this_thread()?,
        scale: args.scale,
    };
    let places = Places {
        document: args.document.clone(),
        charts: args.charts.clone(),
        records: args.records.clone(),
    };
    let cx = Context { rig, places, row: args.row.clone() };
    cx.rig.load_cores.bind_this_thread()?;
    let all = <Suite as clap::ValueEnum>::value_variants();
    let suites = if args.suite.is_empty() { all } else { &args.suite };
    for suite in suites {
        match suite {
            Suite::Cpu => throughput::cpu(&cx)?,
            Suite::Threads => throughput::threads(&cx)?,
            Suite::Commands => throughput::commands(&cx)?,
            Suite::Collections => collections::cpu(&cx)?,
            Suite::CollectionsMemory => collections::memory(&cx)?,
            Suite::BigValues => big_values::run(&cx)?,
            Suite::Handover => handover::run(&cx)?,
            Suite::Latency => latency::run(&cx)?,
            Suite::Expiry => expiry::run(&cx)?,
            Suite::Memory => memory::run(&cx)?,
            Suite::RedisBenchmark => redis_benchmark::run(&cx)?,
            Suite::Tls => tls::run(&cx)?,
            Suite::Trace => trace_suite::run(&cx, &args.trace, &args.servers.peers_dir)?,
            Suite::Eviction => eviction::run(&cx, &args.eviction)?,
            Suite::Limit => limit::run(&cx)?,
            Suite::Persistence => persistence::run(&cx)?,
            Suite::Fragmentation => fragmentation::run(&cx)?,
        }
    }
    Ok(())
}

impl ServerArgs {
    /// The servers that are there, and a note for each that is not.
    pub(crate) fn find(&self) -> Result<(Vec<Peer>, Vec<String>)> {
        let below = |name| find_below(&self.peers_dir, name, 8);
        let larder = Some(self.larder.clone()).filter(|path| path.exists());
        let own = std::env::current_exe().context("where is this program?")?;
        let candidates = [
            (Kind::Larder, larder, "--larder"),
            (Kind::Redis, self.redis.clone().or_else(|| below("redis-server")), "--redis"),
            (Kind::Valkey, self.valkey.clone().or_else(|| below("valkey-server")), "--valkey"),
            (
                Kind::RedisSystem,
                self.redis_system.clone().or_else(|| find_on_path("redis-server")),
                "--redis-system",
            ),
            (Kind::Memcached, self.memcached.clone().or_else(|| find_on_path("memcached")), "--memcached"),
            (Kind::Dragonfly, self.dragonfly.clone().or_else(|| below("dragonfly")), "--dragonfly"),
            (Kind::Null, Some(own), "--null"),
        ];
        let mut peers = Vec::new();
        let mut notes = Vec::new();
        for (kind, path, flag) in candidates {
            if !self.only.is_empty() && !self.only.contains(&kind) {
                continue;
            }
            let arguments = if kind == Kind::Larder { &self.larder_arg[..] } else { &[] };
            match path {
                Some(path) => peers.push(Peer::new(kind, &path, arguments)?),
                None => notes.push(format!("{} was not found ({flag} PATH)", kind.name())),
            }
        }
        Ok((peers, notes))
    }
}

impl Context {
    /// Date and machine, as the records begin.
    pub(crate) fn stamp(&self) -> String {
        format!("{},\"{}\"", date(), machine())
    }

    /// Whether a row of that name is asked for.
    pub(crate) fn wants(&self, row: &str) -> bool {
        self.row.as_ref().is_none_or(|part| row.contains(part))
    }

    /// Writes a chart and returns the Markdown that shows it; nothing where not all rows were asked for.
    pub(crate) fn write_chart(&self, name: &str, title: &str, svg: &str) -> Result<String> {
        if self.row.is_some() {
            return Ok(String::new());
        }
        self.places.write_chart(name, title, svg)
    }

    /// Writes a suite's section and records; prints the section where not all rows were asked for.
    pub(crate) fn finish(&self, suite: &str, title: &str, body: &str, records: &[String]) -> Result<()> {
        self.finish_with(suite, title, body, table::CSV_HEAD, records)
    }

    /// The same, for records whose first line is `head`.
    pub(crate) fn finish_with(
        &self,
        suite: &str,
        title: &str,
        body: &str,
        head: &str,
        records: &[String],
    ) -> Result<()> {
        let section = format!("{}\n{body}", self.provenance());
        if self.row.is_some() {
            return Ok(writeln!(std::io::stdout(), "{section}")?);
        }
        self.places.write_section(suite, title, &section)?;
        if !records.is_empty() {
            self.places.append_records(suite, head, records)?;
        }
        progress(&format!("{suite}: written to {}", self.places.document.display()))
    }

    /// When, where, with what: at the head of every section.
    pub(crate) fn provenance(&self) -> String {
        let peers: Vec<String> = self.rig.peers.iter().map(Peer::label).collect();
        let notes = self.rig.notes.iter().map(|note| format!(" {note}.")).collect::<String>();
        format!(
            "Measured on {} on {} ({} cores, Linux {}); {} rounds of {} s. Servers: {}.{notes}\nCommand: `{}`\n",
            date(),
            machine(),
            self.rig.all_cores.count(),
            kernel(),
            self.rig.rounds,
            self.rig.window.as_secs_f64(),
            peers.join(", "),
            command_line()
        )
    }
}

/// The command that was given, without the directories of the machine it was given on.
fn command_line() -> String {
    let words = std::env::args().map(|word| match word.rsplit_once('/') {
        Some((directory, name)) if word.starts_with('/') && !directory.is_empty() => name.to_owned(),
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The time in UTC, to the minute.
pub(crate) fn date() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// The processor's name.
pub(crate) fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name));
    model.map(|name| name.trim().replace([',', '"'], " ")).unwrap_or("an unknown processor".to_owned())
}

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().split('-').next().unwrap_or_default().to_owned()
}

/// One line about what is being done, on standard error.
pub(crate) fn progress(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stderr(), "{text}")?)
}
