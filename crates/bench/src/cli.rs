//! The command line of `larder-bench`. Read next: the module of each subcommand.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};

use crate::check::CheckArgs;
use crate::compare::CompareArgs;
use crate::distribution::{Distribution, Zipf};
use crate::endpoint::Endpoint;
use crate::load::{Aside, LoadSpec, Stop};
use crate::schedule::Arrivals;
use crate::template::{Expiry, KeyShape, Protocol, Template, words};
use crate::workload::{ValueKind, Workload};

/// Load generator, null server, trace replay, and the comparison of Larder with its peers.
#[derive(Debug, Parser)]
#[command(name = "larder-bench", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put load on a server from one core and report throughput and latencies.
    Load(LoadArgs),
    /// Write every key once, pipelined.
    Fill(FillArgs),
    /// Answer every request with a fixed reply and store nothing: the yardstick.
    Null(NullArgs),
    /// Measure Larder and its peers in turns and write docs/BENCHMARKS.md.
    Compare(Box<CompareArgs>),
    /// Run our generator and redis-benchmark on the same servers and print both.
    Check(CheckArgs),
    /// Write a trace's records, decompressed, to standard output.
    TraceDump(TraceFileArgs),
    /// Print a trace's requests, keys and footprint.
    TraceInfo(TraceFileArgs),
    /// Become another program that ends when this one's parent does; how `compare` starts servers.
    #[command(hide = true)]
    Exec(ExecArgs),
}

/// Which server, which keys, which values.
#[derive(Debug, Args, Clone)]
pub(crate) struct TargetArgs {
    /// Address of the server.
    #[arg(long, short = 'a', default_value = "127.0.0.1:6379")]
    addr: SocketAddr,
    /// Unix socket of the server, instead of an address.
    #[arg(long)]
    unix: Option<PathBuf>,
    /// The protocol to speak.
    #[arg(long, value_enum, default_value = "resp")]
    protocol: Protocol,
    /// How many keys there are.
    #[arg(long, short = 'k', default_value_t = 1_000_000)]
    keys: u64,
    /// The length of a key in bytes; every key has exactly this length.
    #[arg(long, default_value_t = 16)]
    key_bytes: usize,
    /// What the names of keys begin with.
    #[arg(long, default_value = "key:")]
    key_prefix: String,
    /// The length of a value in bytes.
    #[arg(long, short = 'd', default_value_t = 64)]
    value_bytes: usize,
    /// What values are made of.
    #[arg(long, value_enum, default_value = "ascii")]
    value_kind: ValueKind,
    /// Where the random numbers start: the same seed asks the same requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// `larder-bench load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Connections.
    #[arg(long, short = 'c', default_value_t = 50)]
    connections: usize,
    /// Requests in flight on each connection: a batch (closed loop) or the most (open loop).
    #[arg(long, short = 'P', default_value_t = 1)]
    pipeline: usize,
    /// GETs to SETs, as 10:1, 1:0 or 0:1; with --command, one weight for each command.
    #[arg(long)]
    ratio: Option<String>,
    /// A command instead of GET and SET, with __key__, __value__ and __int__ in it; may be given several times.
    #[arg(long)]
    command: Vec<String>,
    /// Bytes to send as they are (with \r and \n) instead of a RESP command.
    #[arg(long)]
    raw: Vec<String>,
    /// Which keys are asked for: uniform, zipf, zipf:THETA (0.99 unless given), sequential or single.
    #[arg(long, default_value = "uniform")]
    distribution: String,
    /// Time to live of the keys that SET writes, in milliseconds.
    #[arg(long)]
    ttl_ms: Option<u64>,
    /// Stop after this many requests (no warm-up then).
    #[arg(long, short = 'n', conflicts_with = "seconds")]
    requests: Option<u64>,
    /// Stop after this many seconds.
    #[arg(long, short = 's', default_value_t = 5.0)]
    seconds: f64,
    /// Seconds of load before the measured window.
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Open loop: requests a second over all connections. Latencies count from when a request was due.
    #[arg(long, short = 'r')]
    rate: Option<f64>,
    /// Open loop: requests that arrive together on one connection.
    #[arg(long, default_value_t = 1)]
    burst: usize,
    /// Open loop: random (Poisson) instead of equal distances.
    #[arg(long)]
    poisson: bool,
    /// MILLISECONDS:COMMAND, sent once on a connection of its own during the window; may be given several times.
    #[arg(long)]
    aside: Vec<String>,
    /// Run on this core only.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `larder-bench fill`.
#[derive(Debug, Args)]
pub(crate) struct FillArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Time to live of each key, in milliseconds.
    #[arg(long)]
    ttl_ms: Option<u64>,
    /// Run on this core only.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `larder-bench exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    pub(crate) program: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

/// Which trace.
#[derive(Debug, Args)]
pub(crate) struct TraceFileArgs {
    /// The KVT1 trace.
    #[arg(long)]
    pub(crate) trace: PathBuf,
    /// No more than so many requests of it.
    #[arg(long)]
    pub(crate) requests: Option<usize>,
}

/// `larder-bench null`.
#[derive(Debug, Args)]
pub(crate) struct NullArgs {
    /// The port on the loopback.
    #[arg(long, short = 'p', default_value_t = 6390)]
    pub(crate) port: u16,
    /// Event loops.
    #[arg(long, short = 't', default_value_t = 1)]
    pub(crate) threads: usize,
    /// The length of the value in a reply, in bytes.
    #[arg(long, short = 'd', default_value_t = 64)]
    pub(crate) value_bytes: usize,
    /// Run on this core only.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
}

impl TargetArgs {
    fn endpoint(&self) -> Endpoint {
        self.unix.clone().map_or(Endpoint::Tcp(self.addr), Endpoint::Unix)
    }

    fn key_shape(&self) -> Result<KeyShape> {
        ensure!(self.keys > 0, "there must be at least one key");
        KeyShape::new(&self.key_prefix, self.keys, self.key_bytes)
    }
}

impl LoadArgs {
    /// The load and what it asks.
    pub(crate) fn plan(&self) -> Result<(LoadSpec, Workload)> {
        let target = &self.target;
        let stop = match self.requests {
            Some(requests) => Stop::Requests(requests),
            None => Stop::After(seconds(self.seconds)?),
        };
        let warmup = if self.requests.is_some() { Duration::ZERO } else { seconds(self.warmup)? };
        let arrivals = self.rate.map(|rate| Arrivals { rate, burst: self.burst, poisson: self.poisson });
        let asides = self.aside.iter().map(|text| aside(text)).collect::<Result<Vec<_>>>()?;
        let spec = LoadSpec {
            endpoint: target.endpoint(),
            protocol: target.protocol,
            connections: self.connections,
            pipeline: self.pipeline,
            stop,
            warmup,
            arrivals,
            asides,
            ended_by: None,
        };
        let keys = distribution(&self.distribution, target.keys)?;
        let workload =
            Workload::new(self.choices()?, keys, target.value_kind, target.value_bytes, target.seed);
        Ok((spec, workload))
    }

    fn choices(&self) -> Result<Vec<(Template, u64)>> {
        let target = &self.target;
        let keys = target.key_shape()?;
        let mut templates = Vec::new();
        for line in &self.command {
            ensure!(target.protocol == Protocol::Resp, "--command speaks RESP; memcached takes --raw");
            templates.push(Template::command(&words(line)?, &keys, target.value_bytes)?);
        }
        for text in &self.raw {
            let text = text.replace("\\r", "\r").replace("\\n", "\n");
            templates.push(Template::raw(text.as_bytes(), &keys, target.value_bytes));
        }
        let default_ratio = if templates.is_empty() {
            let expiry = self.ttl_ms.map_or(Expiry::Never, |ms| Expiry::After { ms });
            templates.push(Template::get(target.protocol, &keys)?);
            templates.push(Template::set(target.protocol, &keys, target.value_bytes, expiry)?);
            "10:1".to_owned()
        } else {
            vec!["1"; templates.len()].join(":")
        };
        let weights = ratio(self.ratio.as_ref().unwrap_or(&default_ratio))?;
        ensure!(weights.len() == templates.len(), "--ratio needs {} weights", templates.len());
        Ok(templates.into_iter().zip(weights).filter(|&(_, weight)| weight > 0).collect())
    }
}

impl FillArgs {
    /// The load that writes every key once.
    pub(crate) fn plan(&self) -> Result<(LoadSpec, Workload)> {
        let target = &self.target;
        let expiry = self.ttl_ms.map_or(Expiry::Never, |ms| Expiry::After { ms });
        let fill = Fill {
            endpoint: target.endpoint(),
            protocol: target.protocol,
            shape: target.key_shape()?,
            keys: target.keys,
            value_bytes: target.value_bytes,
            value_kind: target.value_kind,
            expiry,
        };
        fill.plan()
    }
}

/// Writing every key once.
#[derive(Clone, Debug)]
pub(crate) struct Fill {
    pub(crate) endpoint: Endpoint,
    pub(crate) protocol: Protocol,
    pub(crate) shape: KeyShape,
    pub(crate) keys: u64,
    pub(crate) value_bytes: usize,
    pub(crate) value_kind: ValueKind,
    pub(crate) expiry: Expiry,
}

impl Fill {
    /// The load that does it: few connections, deep pipelines, keys in sequence.
    pub(crate) fn plan(&self) -> Result<(LoadSpec, Workload)> {
        let set = Template::set(self.protocol, &self.shape, self.value_bytes, self.expiry)?;
        let keys = Distribution::Sequential { keys: self.keys, next: 0 };
        let workload = Workload::new(vec![(set, 1)], keys, self.value_kind, self.value_bytes, 99);
        let spec = LoadSpec {
            endpoint: self.endpoint.clone(),
            protocol: self.protocol,
            connections: 4,
            pipeline: (256 * 1024 / (self.value_bytes + 64)).clamp(1, 256),
            stop: Stop::Requests(self.keys),
            warmup: Duration::ZERO,
            arrivals: None,
            asides: Vec::new(),
            ended_by: None,
        };
        Ok((spec, workload))
    }
}

/// The distribution of that name over `keys` keys.
pub(crate) fn distribution(name: &str, keys: u64) -> Result<Distribution> {
    let (name, theta) = name.split_once(':').unwrap_or((name, "0.99"));
    Ok(match name {
        "uniform" => Distribution::Uniform { keys },
        "sequential" => Distribution::Sequential { keys, next: 0 },
        "single" => Distribution::Single,
        "zipf" => Distribution::Zipf(Zipf::new(keys, theta.parse().context("theta is a number")?)),
        _ => anyhow::bail!("no distribution is called {name}: uniform, zipf, zipf:THETA, sequential, single"),
    })
}

fn ratio(text: &str) -> Result<Vec<u64>> {
    let weights =
        text.split(':').map(|weight| weight.parse().context("a ratio is numbers with colons between"));
    let weights = weights.collect::<Result<Vec<u64>>>()?;
    ensure!(weights.iter().any(|&weight| weight > 0), "a ratio needs a weight above 0");
    Ok(weights)
}

fn seconds(number: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(number).with_context(|| format!("{number} is no number of seconds"))
}

fn aside(text: &str) -> Result<Aside> {
    let (ms, line) = text.split_once(':').context("--aside takes MILLISECONDS:COMMAND")?;
    let ms = ms.parse().context("--aside takes MILLISECONDS:COMMAND")?;
    aside_command(Duration::from_millis(ms), line)
}

/// A command to send once, `at` from the start of the window.
pub(crate) fn aside_command(at: Duration, line: &str) -> Result<Aside> {
    let mut request = Vec::new();
    let words = words(line)?;
    request.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(&word);
        request.extend_from_slice(b"\r\n");
    }
    Ok(Aside { at, request })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn asides_and_ratios_are_checked() {
        let aside = aside("1500:KEYS *").unwrap();
        assert_eq!(
            (aside.at.as_millis(), &aside.request[..]),
            (1500, &b"*2\r\n$4\r\nKEYS\r\n$1\r\n*\r\n"[..])
        );
        assert!(super::aside("KEYS *").is_err());
        assert_eq!(ratio("10:1").unwrap(), [10, 1]);
        assert!(ratio("0:0").is_err());
        assert!(distribution("zipf:1.2", 10).is_ok());
        assert!(distribution("gauss", 10).is_err());
    }
}
