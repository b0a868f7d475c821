//! `larder-bench check`: our generator and redis-benchmark on the same server, side by side, so that a person sees
//! that they agree; and both on the null server, to see how much each can drive from one core.
//! Read next: `load.rs`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::compare::document::write_section;
use crate::compare::{ServerArgs, date, machine, progress, redis_benchmark};
use crate::load::{self, LoadSpec, Stop};
use crate::outcome::Outcome;
use crate::peers::{Kind, Launch, Peer, Server, find_on_path};
use crate::process::{Cores, cpu_ns};
use crate::template::{KeyShape, Protocol, Template};
use crate::workload::{ValueKind, Workload};

/// `larder-bench check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    servers: ServerArgs,
    /// The core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Requests of a run with pipeline 1; deeper pipelines get ten times as many.
    #[arg(long, default_value_t = 300_000)]
    requests: u64,
    /// Write the table into this document as well.
    #[arg(long)]
    document: Option<PathBuf>,
}

/// One generator's figures.
struct Figures {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    client_cpu_ns: f64,
}

const VALUE_BYTES: usize = 64;
const KEYS: u64 = 100_000;

/// Runs both generators and returns the table to print.
pub(crate) fn run(args: &CheckArgs) -> Result<String> {
    let (peers, notes) = args.servers.find()?;
    let program = find_on_path("redis-benchmark").context("redis-benchmark is not on PATH")?;
    Cores::single(args.load_core).bind_this_thread()?;
    let redis = peers.iter().find(|peer| peer.kind == Kind::Redis);
    let redis = redis.or_else(|| peers.iter().find(|peer| peer.kind == Kind::RedisSystem));
    let redis = redis.with_context(|| format!("a redis-server is needed: {}", notes.join("; ")))?;
    let null = peers.iter().find(|peer| peer.kind == Kind::Null).context("the null server is left out")?;
    let mut text = String::from(
        "GET, 64 B values, 50 connections; latencies of a closed loop at saturation.\n\n\
         | server, pipeline | requests/s: redis-benchmark | ours | ratio | p50 us: theirs | ours | p99 us: theirs | \
         ours | client CPU ns/request: theirs | ours | ratio |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for peer in [redis, null] {
        let server = start(args, peer)?;
        for pipeline in [1, 16, 64] {
            progress(&format!("check: {}, pipeline {pipeline}", peer.label()))?;
            let requests = if pipeline == 1 { args.requests } else { args.requests * 10 };
            let theirs = theirs(&program, &server, pipeline, requests)?;
            let ours = ours(&server, pipeline, requests)?;
            text.push_str(&row(&format!("{}, {pipeline}", peer.label()), &theirs, &ours));
        }
    }
    if let Some(document) = &args.document {
        let section =
            format!("Measured on {} on {}. Command: `larder-bench check`\n\n{text}", date(), machine());
        write_section(document, "check", "The load generator beside redis-benchmark", &section)?;
    }
    Ok(text)
}

fn start(args: &CheckArgs, peer: &Peer) -> Result<Server> {
    let cores = Cores::single(args.server_core);
    let launch = Launch { threads: 1, cores, memory_bytes_max: None, value_bytes: VALUE_BYTES };
    let server = Server::start(peer, &launch)?;
    // redis-benchmark's own keys, so that both read the same values.
    let (spec, workload) = load_of(&server, 16, KEYS, Template::set)?;
    load::run(&spec, workload, &mut |_| ())?;
    Ok(server)
}

type MakeTemplate = fn(Protocol, &KeyShape, usize, crate::template::Expiry) -> Result<Template>;

fn load_of(
    server: &Server,
    pipeline: usize,
    requests: u64,
    make: MakeTemplate,
) -> Result<(LoadSpec, Workload)> {
    let shape = KeyShape::new("key:", KEYS, 16)?;
    let template = make(Protocol::Resp, &shape, VALUE_BYTES, crate::template::Expiry::Never)?;
    let filling = requests == KEYS;
    let keys = crate::cli::distribution(if filling { "sequential" } else { "uniform" }, KEYS)?;
    let spec = LoadSpec {
        endpoint: server.endpoint(),
        protocol: Protocol::Resp,
        connections: 50,
        pipeline,
        stop: Stop::Requests(requests),
        warmup: std::time::Duration::ZERO,
        arrivals: None,
        asides: Vec::new(),
        ended_by: None,
    };
    Ok((spec, Workload::new(vec![(template, 1)], keys, ValueKind::Ascii, VALUE_BYTES, 3)))
}

fn ours(server: &Server, pipeline: usize, requests: u64) -> Result<Figures> {
    let (spec, workload) =
        load_of(server, pipeline, requests, |protocol, keys, _, _| Template::get(protocol, keys))?;
    let before = cpu_ns(std::process::id())?;
    let outcome: Outcome = load::run(&spec, workload, &mut |_| ())?;
    let used = cpu_ns(std::process::id())?.saturating_sub(before);
    Ok(Figures {
        per_second: outcome.per_second(),
        p50_us: outcome.latencies.percentile_ns(50.0) as f64 / 1000.0,
        p99_us: outcome.latencies.percentile_ns(99.0) as f64 / 1000.0,
        client_cpu_ns: used as f64 / requests as f64,
    })
}

fn theirs(program: &std::path::Path, server: &Server, pipeline: usize, requests: u64) -> Result<Figures> {
    let (pipeline, count, keys) = (pipeline.to_string(), requests.to_string(), KEYS.to_string());
    let arguments = ["-t", "get", "-c", "50", "-P", &pipeline, "-n", &count, "-r", &keys, "-d", "64"];
    let printed = redis_benchmark::run_program(program, server.port, &arguments)?;
    let line = printed.lines.first().context("redis-benchmark printed no figures")?;
    Ok(Figures {
        per_second: line.per_second,
        p50_us: line.p50_ms * 1000.0,
        p99_us: line.p99_ms * 1000.0,
        client_cpu_ns: printed.client_cpu_ns as f64 / requests as f64,
    })
}

fn row(name: &str, theirs: &Figures, ours: &Figures) -> String {
    format!(
        "| {name} | {:.0} | {:.0} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} |\n",
        theirs.per_second,
        ours.per_second,
        ours.per_second / theirs.per_second,
        theirs.p50_us,
        ours.p50_us,
        theirs.p99_us,
        ours.p99_us,
        theirs.client_cpu_ns,
        ours.client_cpu_ns,
        ours.client_cpu_ns / theirs.client_cpu_ns
    )
}
