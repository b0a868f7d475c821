//! The suite `limit`: nothing but SETs, at the memory limit and below it, by policy.
//!
//! Each server runs three times under the same policy: with all keys that are drawn, so that every SET overwrites; empty, so
//! that every SET makes a key; and with room for half of the keys, so that every other SET makes one and another leaves for it.
//! Closed loops tell how many SETs there are room for, open ones at half of the slower's peak how long they wait.
//! Invariant: what is compared is measured right after each other. Read next: `rig.rs`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::compare::rig::{Cell, Contender, Data, Request, Rig};
use crate::compare::sample::{Sample, Spread};
use crate::compare::table::{Column, Row, Table};
use crate::compare::throughput::columns;
use crate::compare::{Context, progress};
use crate::endpoint::{Asker, field};
use crate::outcome::micros;
use crate::peers::{Kind, Launch, Peer};
use crate::schedule::Arrivals;

/// Keys that are drawn.
const KEYS: u64 = 1_000_000;
/// New keys there are: more than anybody writes in one window.
const NEW_KEYS: u64 = 40_000_000;
/// A limit that nothing reaches.
const FAR_LIMIT_BYTES: u64 = 8 << 30;
const PIPELINES: [usize; 2] = [1, 16];
const CONNECTIONS: usize = 50;
/// What part of the throughput below the limit the project wants at it, and how many times the p99.9 it may be.
const RATE_PART_MIN: f64 = 0.9;
const P999_TIMES_MAX: f64 = 2.0;
/// Open loop: the most requests in flight on one connection.
const IN_FLIGHT_MAX: usize = 16;
/// How often the memory in use is asked for at the limit.
const WATCH_PERIOD: Duration = Duration::from_millis(20);

/// A server under a policy, three times.
struct Subject {
    /// Has all keys.
    full: Contender,
    /// Gets new ones only.
    growing: Contender,
    /// Has room for half.
    limited: Contender,
    limit_bytes: u64,
    /// The most memory it said it uses while it was measured.
    most_bytes: AtomicU64,
}

/// The loads that are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    Overwriting,
    NewKeys,
    AtLimit,
}

/// What was measured with one depth of the pipeline: the rounds of each subject.
struct Measured {
    pipeline: usize,
    overwriting: Vec<Vec<Sample>>,
    new_keys: Vec<Vec<Sample>>,
    at_limit: Vec<Vec<Sample>>,
    /// At a fixed rate.
    paced_overwriting: Vec<Vec<Sample>>,
    paced_at_limit: Vec<Vec<Sample>>,
    rates: Vec<f64>,
}

/// Runs the suite.
pub(crate) fn run(cx: &Context) -> Result<()> {
    let mut subjects = Vec::new();
    for peer in &cx.rig.peers {
        for policy in policies(peer.kind) {
            progress(&format!("limit: filling {} {policy}", peer.label()))?;
            subjects.push(start(&cx.rig, peer, policy)?);
        }
    }
    let mut measured = Vec::new();
    for pipeline in PIPELINES.into_iter().filter(|pipeline| cx.wants(&name_of(*pipeline))) {
        measured.push(measure(&cx.rig, &mut subjects, pipeline)?);
    }
    report(cx, &subjects, measured)
}

/// The policies that a kind of server is measured under.
fn policies(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Larder => &["allkeys-lru", "allkeys-adaptive", "allkeys-s3fifo", "allkeys-random"],
        Kind::Redis | Kind::Valkey => &["allkeys-lru"],
        Kind::Null | Kind::RedisSystem | Kind::Memcached | Kind::Dragonfly => &[],
    }
}

fn name_of(pipeline: usize) -> String {
    format!("pipeline {pipeline}")
}

/// Starts the three; the limit is what half of the keys take, by what all of them do.
fn start(rig: &Rig, peer: &Peer, policy: &str) -> Result<Subject> {
    let peer = peer.with_arguments(&["--maxmemory-policy".to_owned(), policy.to_owned()]);
    let label = format!("{} {policy}", peer.label());
    let begin = |limit: u64| {
        let launch = Launch { memory_bytes_max: Some(limit), ..rig.launch_single() };
        rig.start_one(&peer, &launch, label.clone())
    };
    let (mut full, mut growing) = (begin(FAR_LIMIT_BYTES)?, begin(FAR_LIMIT_BYTES)?);
    let data = Data::plain(rig.scaled(KEYS), 64);
    let empty = full.server.used_memory()?;
    rig.fill(&mut full, &data)?;
    let limit_bytes = empty.midpoint(full.server.used_memory()?);
    let mut limited = begin(limit_bytes)?;
    rig.fill(&mut limited, &data)?;
    for contender in [&mut full, &mut growing, &mut limited] {
        contender.server.pause()?;
    }
    Ok(Subject { full, growing, limited, limit_bytes, most_bytes: AtomicU64::new(0) })
}

impl Subject {
    /// One window of a load; at a rate, or as fast as it goes.
    fn window(
        &mut self,
        rig: &Rig,
        load: Load,
        pipeline: usize,
        rate: Option<f64>,
        seed: u64,
    ) -> Result<Sample> {
        let contender = match load {
            Load::Overwriting => &mut self.full,
            Load::NewKeys => &mut self.growing,
            Load::AtLimit => &mut self.limited,
        };
        let (distribution, keys) =
            if load == Load::NewKeys { ("sequential", NEW_KEYS) } else { ("uniform", rig.scaled(KEYS)) };
        let cell = Cell {
            name: name_of(pipeline),
            connections: CONNECTIONS,
            pipeline,
            distribution,
            data: Data::plain(keys, 64),
            request: Request::Mixed { gets: 0, sets: 1 },
        };
        let arrivals = rate.map(|rate| Arrivals { rate, burst: pipeline, poisson: false });
        contender.server.resume()?;
        let (mut spec, workload) = rig.plan(contender, &cell, arrivals, seed)?;
        if rate.is_some() {
            spec.pipeline = IN_FLIGHT_MAX.max(pipeline);
        }
        let most_bytes = if load == Load::AtLimit { Some(&self.most_bytes) } else { None };
        let observe = || rig.observe(&contender.server, &spec, workload);
        let (_, sample) = watching(contender.server.port, most_bytes, observe)?;
        if load == Load::NewKeys {
            contender.server.ask(&["FLUSHALL"])?;
        }
        contender.server.pause()?;
        Ok(sample)
    }
}

/// Does something while the memory that a server says it uses is noted, the most of it.
fn watching<R>(port: u16, most_bytes: Option<&AtomicU64>, act: impl FnOnce() -> Result<R>) -> Result<R> {
    let Some(most_bytes) = most_bytes else { return act() };
    let mut asker = Asker::connect(port)?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !is_over.load(Relaxed) {
                let info = asker.ask(&["INFO", "memory"])?;
                let used = field(&info, "used_memory").and_then(|number| number.trim().parse().ok());
                most_bytes.fetch_max(used.context("INFO tells no used_memory")?, Relaxed);
                std::thread::sleep(WATCH_PERIOD);
            }
            Ok::<_, anyhow::Error>(())
        });
        let done = act();
        is_over.store(true, Relaxed);
        watcher.join().map_err(|_| anyhow::anyhow!("the watcher of the memory in use panicked"))??;
        done
    })
}

/// All loads with one depth of the pipeline.
fn measure(rig: &Rig, subjects: &mut [Subject], pipeline: usize) -> Result<Measured> {
    let none = || vec![Vec::new(); subjects.len()];
    let (mut overwriting, mut new_keys, mut at_limit) = (none(), none(), none());
    let (mut paced_overwriting, mut paced_at_limit) = (none(), none());
    for round in 0..rig.rounds {
        progress(&format!("limit: pipeline {pipeline}, round {}", round + 1))?;
        let seed = round as u64 + 1;
        for (column, subject) in subjects.iter_mut().enumerate() {
            for (load, samples) in [
                (Load::Overwriting, &mut overwriting),
                (Load::AtLimit, &mut at_limit),
                (Load::NewKeys, &mut new_keys),
            ] {
                samples[column].push(subject.window(rig, load, pipeline, None, seed)?);
            }
        }
    }
    let rates: Vec<f64> =
        overwriting.iter().zip(&at_limit).map(|(below, at)| peak_of(below).min(peak_of(at)) / 2.0).collect();
    for round in 0..rig.rounds {
        progress(&format!("limit: pipeline {pipeline} at fixed rates, round {}", round + 1))?;
        let seed = (rig.rounds + round) as u64 + 1;
        for (column, (subject, rate)) in subjects.iter_mut().zip(&rates).enumerate() {
            let mut paced = |load| subject.window(rig, load, pipeline, Some(*rate), seed);
            paced_overwriting[column].push(paced(Load::Overwriting)?);
            paced_at_limit[column].push(paced(Load::AtLimit)?);
        }
    }
    Ok(Measured { pipeline, overwriting, new_keys, at_limit, paced_overwriting, paced_at_limit, rates })
}

/// Operations a second, the median over the rounds.
fn peak_of(samples: &[Sample]) -> f64 {
    Spread::of(samples.iter().map(Sample::per_second)).map_or(0.0, |spread| spread.median)
}

fn p999_us(sample: &Sample) -> f64 {
    sample.latency_ns[2] as f64 / 1000.0
}

fn report(cx: &Context, subjects: &[Subject], measured: Vec<Measured>) -> Result<()> {
    let labels = subjects.iter().map(|subject| &subject.full);
    let columns = labels.flat_map(|contender| columns(std::slice::from_ref(contender))).collect::<Vec<_>>();
    let mut summary = head("at the limit / below it", &columns);
    let (mut closed, mut paced) = (Vec::new(), Vec::new());
    for found in measured {
        summary.push_str(&ratios(&found, &columns));
        let name = name_of(found.pipeline);
        let row = |load: &str, samples| Row { name: format!("{load}, {name}"), samples, targets: Vec::new() };
        closed.push(row("overwriting", found.overwriting));
        closed.push(row("new keys", found.new_keys));
        closed.push(row("at the limit", found.at_limit));
        let rates: Vec<String> = found.rates.iter().map(|rate| larder_policy::svg::short(*rate)).collect();
        let rates = format!("{} SETs/s", rates.join(", "));
        paced.push(row(&format!("overwriting at {rates}"), found.paced_overwriting));
        paced.push(row("at the limit at the same rates", found.paced_at_limit));
    }
    summary.push_str("| most used_memory / maxmemory |");
    for subject in subjects {
        let most = subject.most_bytes.load(Relaxed) as f64 / subject.limit_bytes as f64;
        summary.push_str(&format!(" {most:.4} of {:.1} MB |", subject.limit_bytes as f64 / 1e6));
    }
    let keys = larder_policy::svg::short(cx.rig.scaled(KEYS) as f64);
    let method = format!(
        "One thread, {CONNECTIONS} connections, SETs of 16 B keys and 64 B values. *Overwriting*: {keys} keys, drawn uniformly, all \
         there, under a maxmemory that nothing reaches. *New keys*: each SET makes one, in an empty server, under the same. *At the \
         limit*: the {keys} keys, and room for half of them, so that half of the SETs make a key and another has to leave. Throughput \
         from closed loops; p99.9 from open ones at half of the slower peak of the two, a latency counted from when its request was \
         due. The memory in use is what the server says every {} ms while it is measured at the limit.",
        WATCH_PERIOD.as_millis()
    );
    let stamp = cx.stamp();
    let closed = Table { suite: "limit", columns: columns.clone(), rows: closed };
    let paced = Table { suite: "limit", columns, rows: paced };
    let body = format!(
        "{method}\n\n{summary}\n\n{}\n{}\n{}",
        closed.throughput(),
        closed.cpu(),
        paced.markdown("p99.9 at a fixed rate, us", p999_us, |spread| {
            let text = |us: f64| micros((us * 1000.0) as u64);
            format!("{} [{}-{}]", text(spread.median), text(spread.min), text(spread.max))
        })
    );
    let records = [closed.csv(&stamp), paced.csv(&stamp)].concat();
    cx.finish("limit", "Writing at the memory limit", &body, &records)
}

fn head(title: &str, columns: &[Column]) -> String {
    let labels: Vec<&str> = columns.iter().map(|column| column.label.as_str()).collect();
    format!("| {title} | {} |\n|---|{}\n", labels.join(" | "), "---|".repeat(labels.len()))
}

/// How the load at the limit compares with those below it, and whether that is what the project wants of Larder.
fn ratios(found: &Measured, columns: &[Column]) -> String {
    let name = name_of(found.pipeline);
    let compare = |title, at, below, measure, aim| Comparison { title, at, below, measure, aim };
    let (at, paced_at) = (&found.at_limit[..], &found.paced_at_limit[..]);
    let (below, paced_below) = (&found.overwriting[..], &found.paced_overwriting[..]);
    let (rate, cpu): (Measure, Measure) = (Sample::per_second, Sample::cpu_ns_per_request);
    let least = Some(Aim::AtLeast(RATE_PART_MIN));
    let rows = [
        compare("operations a second, overwriting = 1", at, below, rate, least),
        compare("operations a second, new keys = 1", at, &found.new_keys, rate, None),
        compare("CPU per operation, overwriting = 1", at, below, cpu, None),
        compare("p99.9, overwriting = 1", paced_at, paced_below, p999_us, Some(Aim::AtMost(P999_TIMES_MAX))),
    ];
    let mut text = String::new();
    for Comparison { title, at, below, measure, aim } in rows {
        text.push_str(&format!("| {title}, {name} |"));
        for ((at, below), column) in at.iter().zip(below).zip(columns) {
            let Some(spread) = Spread::of_ratios(at, below, measure) else {
                text.push_str(" - |");
                continue;
            };
            let aim = aim.filter(|_| column.kind == Kind::Larder);
            let verdict = aim.map_or(String::new(), |aim| aim.verdict(spread.median));
            text.push_str(&format!(" {}{verdict} |", spread.text(2)));
        }
        text.push('\n');
    }
    text
}

type Measure = fn(&Sample) -> f64;

/// One figure of a load at the limit beside that of one below it: the rounds of each subject.
struct Comparison<'a> {
    title: &'a str,
    at: &'a [Vec<Sample>],
    below: &'a [Vec<Sample>],
    measure: Measure,
    aim: Option<Aim>,
}

/// What a ratio should be.
#[derive(Clone, Copy)]
enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

impl Aim {
    fn verdict(self, ratio: f64) -> String {
        let (words, aim, is_met) = match self {
            Aim::AtLeast(least) => ("at least", least, ratio >= least),
            Aim::AtMost(most) => ("at most", most, ratio <= most),
        };
        format!(", {words} {aim}: {}", if is_met { "met" } else { "**missed**" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(requests: u64, p999_us: u64) -> Vec<Vec<Sample>> {
        let sample = Sample {
            requests,
            seconds: 1.0,
            cpu_ns: 1000,
            errors: 0,
            absent: 0,
            error_first: None,
            latency_ns: [0, 0, p999_us * 1000, 0],
        };
        vec![vec![sample.clone()], vec![sample]]
    }

    #[test]
    fn larder_is_judged_by_both_aims_and_others_by_none() {
        let column = |label: &str, kind| Column { label: label.to_owned(), kind, version: "1".to_owned() };
        let columns = [column("larder", Kind::Larder), column("redis", Kind::Redis)];
        let found = Measured {
            pipeline: 16,
            overwriting: rounds(100, 50),
            new_keys: rounds(80, 0),
            at_limit: rounds(88, 0),
            paced_overwriting: rounds(0, 50),
            paced_at_limit: rounds(0, 90),
            rates: vec![44.0, 44.0],
        };
        let text = ratios(&found, &columns);
        let line = |title: &str| text.lines().find(|line| line.contains(title)).unwrap().to_owned();
        let rate = line("a second, overwriting = 1, pipeline 16");
        assert!(rate.ends_with(" 0.88 [0.88-0.88], at least 0.9: **missed** | 0.88 [0.88-0.88] |"), "{rate}");
        assert!(line("new keys = 1").ends_with(" 1.10 [1.10-1.10] | 1.10 [1.10-1.10] |"), "{text}");
        assert!(line("CPU").contains(" 1.14 [1.14-1.14] |"), "{text}");
        assert!(line("p99.9").contains(" 1.80 [1.80-1.80], at most 2: met |"), "{text}");
    }
}
