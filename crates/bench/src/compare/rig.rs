//! The bench on which servers are compared: one core for the server, one for the load; servers take turns round by
//! round, and those whose turn it is not are stopped. Read next: `throughput.rs`.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::cli::Fill;
use crate::compare::progress;
use crate::compare::sample::Sample;
use crate::distribution::Distribution;
use crate::load::{self, LoadSpec, Mark, Stop};
use crate::outcome::Outcome;
use crate::peers::{Kind, Launch, Peer, Server};
use crate::process::Cores;
use crate::schedule::Arrivals;
use crate::template::{Expiry, KeyShape, Template};
use crate::workload::{ValueKind, Workload};

/// Into so many parts the keys of a [`Request::Round`] are divided, one for each round of measuring.
const ROUNDS_APART: u64 = 64;

/// What holds for every measurement of one invocation.
#[derive(Clone, Debug)]
pub(crate) struct Rig {
    pub(crate) peers: Vec<Peer>,
    /// Why servers are not among the peers.
    pub(crate) notes: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) window: Duration,
    pub(crate) warmup: Duration,
    pub(crate) server_cores: Cores,
    pub(crate) load_cores: Cores,
    pub(crate) all_cores: Cores,
    /// Key counts are multiplied by this: 1 for a record, less for a trial.
    pub(crate) scale: f64,
}

/// A set of keys and values.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub(crate) prefix: &'static str,
    pub(crate) keys: u64,
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
    pub(crate) value_kind: ValueKind,
    pub(crate) expiry: Expiry,
}

impl Data {
    /// 16-byte keys with ASCII values that stay.
    pub(crate) fn plain(keys: u64, value_bytes: usize) -> Data {
        let (prefix, key_bytes) = ("key:", 16);
        Data { prefix, keys, key_bytes, value_bytes, value_kind: ValueKind::Ascii, expiry: Expiry::Never }
    }

    /// The names of the keys.
    pub(crate) fn shape(&self) -> Result<KeyShape> {
        KeyShape::new(self.prefix, self.keys, self.key_bytes)
    }
}

/// A server taking part, with the name it has in this comparison.
pub(crate) struct Contender {
    pub(crate) label: String,
    pub(crate) server: Server,
}

/// What one cell of a table asks of a server.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// As it stands in tables.
    pub(crate) name: String,
    pub(crate) connections: usize,
    pub(crate) pipeline: usize,
    pub(crate) distribution: &'static str,
    pub(crate) data: Data,
    pub(crate) request: Request,
}

/// The requests of a cell.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// GETs and SETs by weight.
    Mixed { gets: u64, sets: u64 },
    /// One RESP command; holes as in the load generator's `--command`.
    Command(&'static str),
    /// Bytes as they are.
    Raw(&'static str),
    /// RESP commands one after the other, with one key for each round.
    Round(&'static [&'static str]),
}

impl Rig {
    /// Key counts as this invocation scales them.
    pub(crate) fn scaled(&self, keys: u64) -> u64 {
        ((keys as f64 * self.scale) as u64).max(100)
    }

    /// How a server is started for a single-threaded measurement.
    pub(crate) fn launch_single(&self) -> Launch {
        Launch { threads: 1, cores: self.server_cores.clone(), memory_bytes_max: None, value_bytes: 64 }
    }

    /// Starts every peer that `wanted` accepts. Servers that are not measured at once are stopped.
    pub(crate) fn start(&self, launch: &Launch, wanted: impl Fn(Kind) -> bool) -> Result<Vec<Contender>> {
        let peers = self.peers.iter().filter(|peer| wanted(peer.kind));
        peers.map(|peer| self.start_one(peer, launch, peer.label())).collect()
    }

    /// Starts one.
    pub(crate) fn start_one(&self, peer: &Peer, launch: &Launch, label: String) -> Result<Contender> {
        let server = Server::start(peer, launch)?;
        Ok(Contender { label, server })
    }

    /// The peer of that kind.
    pub(crate) fn peer(&self, kind: Kind) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.kind == kind)
    }

    /// Writes every key of `data` once.
    pub(crate) fn fill(&self, contender: &mut Contender, data: &Data) -> Result<()> {
        if contender.server.peer.kind == Kind::Null {
            return Ok(());
        }
        contender.server.resume()?;
        let fill = Fill {
            endpoint: contender.server.endpoint(),
            protocol: contender.server.peer.kind.protocol(),
            shape: data.shape()?,
            keys: data.keys,
            value_bytes: data.value_bytes,
            value_kind: data.value_kind,
            expiry: data.expiry,
        };
        let (spec, workload) = fill.plan()?;
        let outcome = load::run(&spec, workload, &mut |_| ())
            .with_context(|| format!("filling {}", contender.label))?;
        anyhow::ensure!(
            outcome.errors == 0,
            "{} refused to be filled: {:?}",
            contender.label,
            outcome.error_first
        );
        Ok(())
    }

    /// The load of a cell for one server.
    pub(crate) fn plan(
        &self,
        contender: &Contender,
        cell: &Cell,
        arrivals: Option<Arrivals>,
        seed: u64,
    ) -> Result<(LoadSpec, Workload)> {
        let protocol = contender.server.peer.kind.protocol();
        let spec = LoadSpec {
            endpoint: contender.server.endpoint(),
            protocol,
            connections: cell.connections,
            pipeline: cell.pipeline,
            stop: Stop::After(self.window),
            warmup: self.warmup,
            arrivals,
            asides: Vec::new(),
            ended_by: None,
        };
        let data = &cell.data;
        let keys = data.shape()?;
        let command = |line: &str| -> Result<(Template, u64)> {
            Ok((Template::command(&crate::template::words(line)?, &keys, data.value_bytes)?, 1))
        };
        let choices = match &cell.request {
            Request::Mixed { gets, sets } => {
                let get = Template::get(protocol, &keys)?;
                let set = Template::set(protocol, &keys, data.value_bytes, data.expiry)?;
                vec![(get, *gets), (set, *sets)].into_iter().filter(|&(_, weight)| weight > 0).collect()
            }
            Request::Command(line) => vec![command(line)?],
            Request::Raw(text) => vec![(Template::raw(text.as_bytes(), &keys, data.value_bytes), 1)],
            Request::Round(lines) => lines.iter().map(|line| command(line)).collect::<Result<_>>()?,
        };
        let distribution = match &cell.request {
            // Each round of measuring goes on with keys that none before had.
            Request::Round(_) => {
                let share = data.keys / ROUNDS_APART;
                Distribution::Sequential { keys: data.keys, next: seed % ROUNDS_APART * share }
            }
            _ => crate::cli::distribution(cell.distribution, data.keys)?,
        };
        let workload = Workload::new(choices, distribution, data.value_kind, data.value_bytes, seed);
        let in_turn = matches!(cell.request, Request::Round(_));
        Ok((spec, if in_turn { workload.in_turn() } else { workload }))
    }

    /// Sends a command once for each key of `data`, in sequence, to a server that is not stopped.
    pub(crate) fn fill_by(&self, contender: &Contender, data: &Data, line: &str) -> Result<()> {
        let template = Template::command(&crate::template::words(line)?, &data.shape()?, data.value_bytes)?;
        let keys = Distribution::Sequential { keys: data.keys, next: 0 };
        let workload = Workload::new(vec![(template, 1)], keys, data.value_kind, data.value_bytes, 99);
        let spec = LoadSpec {
            endpoint: contender.server.endpoint(),
            protocol: contender.server.peer.kind.protocol(),
            connections: 1,
            pipeline: 128,
            stop: Stop::Requests(data.keys),
            warmup: Duration::ZERO,
            arrivals: None,
            asides: Vec::new(),
            ended_by: None,
        };
        let outcome = load::run(&spec, workload, &mut |_| ())
            .with_context(|| format!("filling {} by {line}", contender.label))?;
        anyhow::ensure!(
            outcome.errors == 0,
            "{} refused '{line}': {:?}",
            contender.label,
            outcome.error_first
        );
        Ok(())
    }

    /// Runs a load and reads the server's CPU at both edges of the window.
    pub(crate) fn observe(
        &self,
        server: &Server,
        spec: &LoadSpec,
        workload: Workload,
    ) -> Result<(Outcome, Sample)> {
        let (mut begin, mut end) = (Ok(0), Ok(0));
        let outcome = load::run(spec, workload, &mut |mark| match mark {
            Mark::Begin => begin = server.cpu_ns(),
            Mark::End => end = server.cpu_ns(),
        })
        .with_context(|| format!("measuring {}", server.peer.label()))?;
        let cpu_ns = end?.saturating_sub(begin?);
        let sample = Sample::of(&outcome, cpu_ns);
        Ok((outcome, sample))
    }

    /// Measures a cell: every contender once in each round. The result has one list of rounds for each contender.
    pub(crate) fn measure(&self, contenders: &mut [Contender], cell: &Cell) -> Result<Vec<Vec<Sample>>> {
        let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
        for contender in contenders.iter_mut() {
            contender.server.pause()?;
        }
        for round in 0..self.rounds {
            for (contender, samples) in contenders.iter_mut().zip(&mut samples) {
                contender.server.resume()?;
                let (spec, workload) = self.plan(contender, cell, None, round as u64 + 1)?;
                // A server that fails loses its place in the row, not the others' hours of measuring.
                match self.observe(&contender.server, &spec, workload) {
                    Ok((_, sample)) => samples.push(sample),
                    Err(error) => progress(&format!("{}, {}: {error:#}", contender.label, cell.name))?,
                }
                contender.server.pause()?;
            }
        }
        for contender in contenders.iter_mut() {
            contender.server.resume()?;
        }
        Ok(samples)
    }
}
