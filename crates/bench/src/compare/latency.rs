//! The suite `latency`: an open loop at a fixed rate, half of the slowest server's peak, while nothing happens,
//! while a million keys expire at once, while the table grows, and while another client runs KEYS and FLUSHALL.
//! Invariant: within a scenario every server gets the same rate. Read next: `load.rs`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use crate::cli::aside_command;
use crate::compare::rig::{Cell, Contender, Data, Request, Rig};
use crate::compare::sample::{Sample, Spread};
use crate::compare::table::{Column, Row, Table};
use crate::compare::{Context, progress};
use crate::load::{LoadSpec, Stop};
use crate::outcome::{Latencies, Outcome, SLICE, micros};
use crate::peers::{Kind, Peer};
use crate::schedule::Arrivals;
use crate::template::Expiry;
use crate::workload::Workload;
use larder_policy::svg::{Bars, Lines, Series};

/// Open loop: the most requests in flight on one connection.
const IN_FLIGHT_MAX: usize = 16;
const GROW_BURST: usize = 16;

/// What one scenario found.
struct Scenario {
    row: Row,
    /// The longest latency of each step of the time line, by column; milliseconds.
    timelines: Vec<Vec<f64>>,
    /// All latencies of all rounds, by column.
    histograms: Vec<Latencies>,
}

/// Runs the four scenarios.
pub(crate) fn run(cx: &Context) -> Result<()> {
    let rig = &cx.rig;
    let columns: Vec<Column> = rig
        .peers
        .iter()
        .map(|peer| Column { label: peer.label(), kind: peer.kind, version: peer.version.clone() })
        .collect();
    let (steady, rate) = steady(rig)?;
    let expire = expire(rig, rate)?;
    let grow = grow(rig)?;
    let disturbed = disturbed(rig, rate)?;
    let mut charts = cx.places.write_chart("latency", PERCENTILES_TITLE, &percentiles(&steady, &columns))?;
    for (name, title, scenario) in [
        ("latency-expire", "Longest latency in each 100 ms while keys expire together", &expire),
        ("latency-grow", "Longest latency in each 100 ms while the table grows", &grow),
        ("latency-disturbed", "Longest latency in each 100 ms with KEYS * and FLUSHALL ASYNC", &disturbed),
    ] {
        charts.push_str(&cx.places.write_chart(name, title, &timeline_chart(title, scenario, &columns))?);
    }
    let histograms: String =
        [&steady, &expire, &grow, &disturbed].map(|scenario| histogram(scenario, &columns)).concat();
    let rows = vec![steady.row, expire.row, grow.row, disturbed.row];
    let table = Table { suite: "latency", columns, rows };
    let method = "Open loop at a fixed rate; a latency counts from when its request was due (no coordinated \
        omission). Microseconds, p50 / p99 / p99.9 / longest: medians over the rounds, and the longest of all rounds.";
    let body = format!("{method}\n\n{}\n{charts}\n{histograms}", table.latencies());
    cx.finish("latency", "Latency at a fixed rate", &body, &table.csv(&cx.stamp()))
}

const PERCENTILES_TITLE: &str = "Latency at half of the slowest server's peak";

fn mixed_cell(name: &str, data: Data) -> Cell {
    let request = Request::Mixed { gets: 10, sets: 1 };
    Cell { name: name.to_owned(), connections: 50, pipeline: 1, distribution: "uniform", data, request }
}

/// Half of the slowest server's peak; the null server is no competitor.
fn half_of_slowest(rig: &Rig, contenders: &mut [Contender], cell: &Cell) -> Result<f64> {
    let quick = Rig { rounds: rig.rounds.min(3), ..rig.clone() };
    let samples = quick.measure(contenders, cell)?;
    let peaks = contenders
        .iter()
        .zip(&samples)
        .filter(|(contender, _)| contender.server.peer.kind != Kind::Null)
        .filter_map(|(_, samples)| Spread::of(samples.iter().map(Sample::per_second)))
        .map(|spread| spread.median);
    let slowest = peaks.fold(f64::MAX, f64::min);
    // Whole thousands read better, and the rate is a choice anyway.
    let half = (slowest / 2000.0).floor() * 1000.0;
    Ok(if slowest < f64::MAX { half.max(1000.0) } else { 20_000.0 })
}

/// One open-loop window on one server. `None` after a failure, which is told but stops nobody else.
fn window(
    rig: &Rig,
    contender: &Contender,
    cell: &Cell,
    arrivals: Arrivals,
    change: impl FnOnce(&mut LoadSpec) -> Result<()>,
) -> Result<Option<(Outcome, Sample)>> {
    let (mut spec, workload) = rig.plan(contender, cell, Some(arrivals), 5)?;
    spec.pipeline = IN_FLIGHT_MAX.max(arrivals.burst);
    change(&mut spec)?;
    observe(rig, contender, &spec, workload, &cell.name)
}

fn observe(
    rig: &Rig,
    contender: &Contender,
    spec: &LoadSpec,
    workload: Workload,
    name: &str,
) -> Result<Option<(Outcome, Sample)>> {
    match rig.observe(&contender.server, spec, workload) {
        Ok(observed) => Ok(Some(observed)),
        Err(error) => {
            progress(&format!("{}, {name}: {error:#}", contender.label))?;
            Ok(None)
        }
    }
}

fn equal_distances(rate: f64) -> Arrivals {
    Arrivals { rate, burst: 1, poisson: false }
}

/// Collects rounds by column.
struct Collected {
    samples: Vec<Vec<Sample>>,
    timelines: Vec<Vec<f64>>,
    histograms: Vec<Latencies>,
}

impl Collected {
    fn new(columns: usize) -> Collected {
        Collected {
            samples: vec![Vec::new(); columns],
            timelines: vec![Vec::new(); columns],
            histograms: vec![Latencies::new(); columns],
        }
    }

    fn add(&mut self, column: usize, observed: Option<(Outcome, Sample)>) {
        let Some((outcome, sample)) = observed else { return };
        if let Some(samples) = self.samples.get_mut(column) {
            samples.push(sample);
        }
        if let Some(histogram) = self.histograms.get_mut(column) {
            histogram.merge(&outcome.latencies);
        }
        if let Some(timeline) = self.timelines.get_mut(column) {
            *timeline = outcome.timeline.iter().map(|slice| slice.latency_ns_max as f64 / 1e6).collect();
        }
    }

    fn scenario(self, name: String) -> Scenario {
        Scenario {
            row: Row { name, samples: self.samples, targets: Vec::new() },
            timelines: self.timelines,
            histograms: self.histograms,
        }
    }
}

/// Nothing but the load. Also finds the rate that the other scenarios on filled servers use.
fn steady(rig: &Rig) -> Result<(Scenario, f64)> {
    let data = Data::plain(rig.scaled(1_000_000), 64);
    let mut contenders = rig.start(&rig.launch_single(), |_| true)?;
    for contender in &mut contenders {
        rig.fill(contender, &data)?;
    }
    let cell = mixed_cell("steady", data);
    let rate = half_of_slowest(rig, &mut contenders, &cell)?;
    let mut collected = Collected::new(contenders.len());
    pause_all(&mut contenders)?;
    for round in 0..rig.rounds {
        progress(&format!("latency: steady at {rate} requests a second, round {}", round + 1))?;
        for (column, contender) in contenders.iter_mut().enumerate() {
            contender.server.resume()?;
            collected.add(column, window(rig, contender, &cell, equal_distances(rate), |_| Ok(()))?);
            contender.server.pause()?;
        }
    }
    let name = format!("steady, {} requests/s", larder_policy::svg::short(rate));
    Ok((collected.scenario(name), rate))
}

fn pause_all(contenders: &mut [Contender]) -> Result<()> {
    contenders.iter_mut().try_for_each(|contender| contender.server.pause())
}

/// A million keys with one deadline, which falls into the window.
fn expire(rig: &Rig, rate: f64) -> Result<Scenario> {
    let data = Data::plain(rig.scaled(1_000_000), 64);
    let mut contenders = rig.start(&rig.launch_single(), |_| true)?;
    for contender in &mut contenders {
        rig.fill(contender, &data)?;
    }
    pause_all(&mut contenders)?;
    let cell = mixed_cell("keys expire", data);
    let mut collected = Collected::new(contenders.len());
    for round in 0..rig.rounds.min(3) {
        progress(&format!("latency: keys expire, round {}", round + 1))?;
        for (column, contender) in contenders.iter_mut().enumerate() {
            contender.server.resume()?;
            collected.add(column, expire_window(rig, contender, &cell, rate)?);
            contender.server.pause()?;
        }
    }
    let count = larder_policy::svg::short(rig.scaled(1_000_000) as f64);
    let name = format!(
        "{count} of twice as many keys expire together, {} requests/s",
        larder_policy::svg::short(rate)
    );
    Ok(collected.scenario(name))
}

fn expire_window(
    rig: &Rig,
    contender: &mut Contender,
    cell: &Cell,
    rate: f64,
) -> Result<Option<(Outcome, Sample)>> {
    let keys = rig.scaled(1_000_000);
    // Long enough for the slowest to write them all, and for the warm-up.
    let lead = Duration::from_secs_f64(2.0 + keys as f64 / 150_000.0) + rig.warmup;
    let start = Instant::now();
    let at = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")? + lead;
    let unix_ms = u64::try_from(at.as_millis()).context("the clock is far off")?;
    let doomed = Data { prefix: "doomed:", expiry: Expiry::At { unix_ms }, ..Data::plain(keys, 64) };
    rig.fill(contender, &doomed)?;
    let begin = lead.saturating_sub(rig.warmup + rig.window / 4);
    std::thread::sleep(begin.saturating_sub(start.elapsed()));
    window(rig, contender, cell, equal_distances(rate), |_| Ok(()))
}

/// From the empty server to twenty million keys: each request inserts one.
fn grow(rig: &Rig) -> Result<Scenario> {
    let data = Data::plain(rig.scaled(20_000_000), 64);
    let mut cell = Cell {
        name: "grow".to_owned(),
        connections: 50,
        pipeline: GROW_BURST,
        distribution: "sequential",
        data,
        request: Request::Mixed { gets: 0, sets: 1 },
    };
    let rate = {
        let mut contenders = rig.start(&rig.launch_single(), |_| true)?;
        half_of_slowest(rig, &mut contenders, &cell)?
    };
    cell.name = format!(
        "grows from 0 to {} keys, {} SETs/s",
        larder_policy::svg::short(cell.data.keys as f64),
        larder_policy::svg::short(rate)
    );
    let arrivals = Arrivals { rate, burst: GROW_BURST, poisson: false };
    let mut collected = Collected::new(rig.peers.len());
    for (column, peer) in rig.peers.iter().enumerate() {
        progress(&format!("latency: {} {}", peer.label(), cell.name))?;
        let contender = alone(rig, peer)?;
        let keys = cell.data.keys;
        let observed = window(rig, &contender, &cell, arrivals, |spec| {
            spec.stop = Stop::Requests(keys);
            spec.warmup = Duration::ZERO;
            Ok(())
        });
        collected.add(column, observed?);
    }
    Ok(collected.scenario(cell.name))
}

/// A server that lives for one turn only: several with so many keys would not fit into memory.
fn alone(rig: &Rig, peer: &Peer) -> Result<Contender> {
    rig.start_one(peer, &rig.launch_single(), peer.label())
}

/// KEYS * and then FLUSHALL ASYNC by another client, on ten million keys.
fn disturbed(rig: &Rig, rate: f64) -> Result<Scenario> {
    let data = Data::plain(rig.scaled(10_000_000), 64);
    let cell = mixed_cell("KEYS * and FLUSHALL ASYNC", data.clone());
    let length = rig.window * 3;
    let mut collected = Collected::new(rig.peers.len());
    for (column, peer) in rig.peers.iter().enumerate() {
        if peer.kind == Kind::Memcached {
            continue;
        }
        progress(&format!("latency: {} with {} keys, KEYS * and FLUSHALL ASYNC", peer.label(), data.keys))?;
        let mut contender = alone(rig, peer)?;
        rig.fill(&mut contender, &data)?;
        let observed = window(rig, &contender, &cell, equal_distances(rate), |spec| {
            spec.stop = Stop::After(length);
            spec.asides = vec![
                aside_command(length.mul_f64(0.1), "KEYS *")?,
                aside_command(length.mul_f64(0.7), "FLUSHALL ASYNC")?,
            ];
            Ok(())
        });
        collected.add(column, observed?);
    }
    let count = larder_policy::svg::short(data.keys as f64);
    let name = format!(
        "another client runs KEYS * and FLUSHALL ASYNC on {count} keys, {} requests/s",
        larder_policy::svg::short(rate)
    );
    Ok(collected.scenario(name))
}

/// How the latencies of a scenario are distributed: what each share of the requests stayed within.
fn histogram(scenario: &Scenario, columns: &[Column]) -> String {
    const SHARES: [f64; 9] = [50.0, 75.0, 90.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0];
    let shares = SHARES.map(|share| format!("{share}%")).join(" | ");
    let rule = "---|".repeat(SHARES.len());
    let mut text = format!("\n| us, {} | {shares} | requests |\n|---|{rule}---|\n", scenario.row.name);
    for (column, latencies) in columns.iter().zip(&scenario.histograms) {
        if latencies.count() > 0 {
            let cells = SHARES.map(|share| micros(latencies.percentile_ns(share))).join(" | ");
            text.push_str(&format!("| {} | {cells} | {} |\n", column.label, latencies.count()));
        }
    }
    text
}

fn percentiles(steady: &Scenario, columns: &[Column]) -> String {
    let series = columns.iter().zip(&steady.row.samples).map(|(column, samples)| Series {
        name: column.label.clone(),
        values: (0..3)
            .map(|index| {
                let values = samples.iter().filter_map(|sample| sample.latency_ns.get(index));
                Spread::of(values.map(|&ns| ns as f64 / 1000.0)).map(|spread| spread.median)
            })
            .collect(),
    });
    let groups = ["p50", "p99", "p99.9"].map(str::to_owned).to_vec();
    let title = PERCENTILES_TITLE.to_owned();
    Bars { title, unit: "us".to_owned(), groups, series: series.collect() }.svg()
}

fn timeline_chart(title: &str, scenario: &Scenario, columns: &[Column]) -> String {
    // A chart has room for some hundred points: longer lines are joined, keeping the longest latency.
    const POINTS_MAX: usize = 300;
    let longest = scenario.timelines.iter().map(Vec::len).max().unwrap_or(0);
    let joined = longest.div_ceil(POINTS_MAX).max(1);
    let series = columns.iter().zip(&scenario.timelines).map(|(column, timeline)| Series {
        name: column.label.clone(),
        values: timeline
            .chunks(joined)
            .map(|chunk| chunk.iter().copied().fold(0.0, f64::max))
            .map(|value| (value > 0.0).then_some(value))
            .collect(),
    });
    Lines {
        title: title.to_owned(),
        unit: "ms".to_owned(),
        step: SLICE.as_secs_f64() * joined as f64,
        step_unit: "s".to_owned(),
        series: series.collect(),
        logarithmic: true,
    }
    .svg()
}
