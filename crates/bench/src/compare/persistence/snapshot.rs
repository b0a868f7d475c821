//! What others notice of a snapshot: memory while everything is written to meanwhile, and latencies at a fixed rate.
//! Invariant: a latency counts as "during" if its request was due while the snapshot was under way.
//! Read next: `mod.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::sheet::{Aim, Sheet};
use super::{SETTLE, attempt, take_snapshot, take_unwatched};
use crate::compare::rig::{Cell, Contender, Data, Request};
use crate::compare::{Context, progress};
use crate::gauge::Gauge;
use crate::load::{self, LoadSpec, Mark, Stop};
use crate::outcome::Outcome;
use crate::peers::Peer;
use crate::schedule::Arrivals;
use crate::workload::Workload;

pub(super) const METHOD: &str = "While a snapshot is taken: one thread, and the server with all it starts - Larder's writer, the others' child - on one core, \
    the load on the other; 1M keys with values of 1 KiB (at full scale). Full write load: SETs of keys drawn \
    uniformly, 50 connections with 16 in flight, from a second before BGSAVE until it is over; memory as above, and what the load \
    alone adds is told, too. Latency: half GETs, half SETs at a fixed rate in an open loop, in a window before, and then for as long as the snapshot takes.";

const KEYS: u64 = 1_000_000;
const VALUE_BYTES: usize = 1024;
/// Requests a second of the open loop.
const RATE: f64 = 20_000.0;
const IN_FLIGHT_MAX: usize = 64;
/// Longer than any snapshot takes.
const WINDOW_MAX: Duration = Duration::from_secs(400);
/// What a snapshot may take beyond the idle server: this and a twentieth of it.
const ABOVE_MIB_MAX: f64 = 64.0;
const MIB: f64 = 1024.0 * 1024.0;

/// Measures every server.
pub(super) fn measure(cx: &Context, peers: &[&Peer]) -> Result<Sheet> {
    let mut sheet = Sheet::new("while a snapshot is taken", peers);
    let data = Data::plain(cx.rig.scaled(KEYS), VALUE_BYTES);
    for round in 0..cx.rig.rounds.min(3) {
        for (column, peer) in peers.iter().enumerate() {
            progress(&format!("persistence: under load, {}, round {}", peer.label(), round + 1))?;
            attempt(&peer.label(), measure_one(cx, peer, &data, &mut sheet, column))?;
        }
    }
    Ok(sheet)
}

fn measure_one(cx: &Context, peer: &Peer, data: &Data, sheet: &mut Sheet, column: usize) -> Result<()> {
    let rig = &cx.rig;
    let mut contender = rig.start_one(peer, &rig.launch_single(), peer.label())?;
    rig.fill(&mut contender, data)?;
    std::thread::sleep(SETTLE);
    memory(cx, &contender, data, sheet, column)?;
    latency(cx, &contender, data, sheet, column)
}

/// A load that goes on until a snapshot, begun behind its warm-up, is over.
fn under_snapshot<T: Send>(
    spec: LoadSpec,
    workload: Workload,
    take: impl FnOnce() -> Result<T> + Send,
) -> Result<(Outcome, T)> {
    let over = Arc::new(AtomicBool::new(false));
    let spec = LoadSpec { stop: Stop::After(WINDOW_MAX), ended_by: Some(Arc::clone(&over)), ..spec };
    std::thread::scope(|scope| {
        let (begin, begun) = std::sync::mpsc::channel();
        let taker = scope.spawn(move || {
            // Nobody begins where the load fails before.
            let taken = begun.recv().context("the load did not begin").and_then(|()| take());
            over.store(true, Relaxed);
            taken
        });
        let outcome = load::run(&spec, workload, &mut |mark| {
            if mark == Mark::Begin {
                let _ = begin.send(());
            }
        });
        drop(begin);
        let taken = taker.join().ok().context("the snapshot was not watched to its end")?;
        Ok((outcome?, taken?))
    })
}

fn memory(cx: &Context, contender: &Contender, data: &Data, sheet: &mut Sheet, column: usize) -> Result<()> {
    let cell = Cell {
        name: "full write load".to_owned(),
        connections: 50,
        pipeline: 16,
        distribution: "uniform",
        data: data.clone(),
        request: Request::Mixed { gets: 0, sets: 1 },
    };
    let server = &contender.server;
    let idle = server.rss_bytes()? as f64;
    let (mut spec, workload) = cx.rig.plan(contender, &cell, None, 3)?;
    spec.warmup = Duration::from_secs(1);
    let alone = LoadSpec { stop: Stop::After(cx.rig.window), ..spec.clone() };
    let gauge = Gauge::start(server.pid());
    let outcome = load::run(&alone, workload.clone(), &mut |_| ());
    let load_peak = gauge.peak_bytes()? as f64;
    let without = outcome?.per_second();
    let (outcome, taken) = under_snapshot(spec, workload, || take_snapshot(server))?;
    let above = (taken.peak_bytes as f64 - idle).max(0.0) / MIB;
    let allowed = idle / MIB / 20.0 + ABOVE_MIB_MAX;
    let plain = |decimals| (decimals, Aim::None);
    sheet.add(
        column,
        "full write load: MiB above idle, no snapshot",
        plain(0),
        (load_peak - idle).max(0.0) / MIB,
    );
    sheet.add(column, "full write load: MiB above idle, snapshot", plain(0), above);
    let name = "the same, of 5 % of the idle server and 64 MiB";
    sheet.add(column, name, (2, Aim::AtMost(1.0)), above / allowed);
    sheet.add(column, "full write load: SETs a second, no snapshot", plain(0), without);
    sheet.add(column, "full write load: SETs a second, snapshot", plain(0), outcome.per_second());
    sheet.add(column, "full write load: seconds of the snapshot", plain(2), taken.seconds);
    Ok(())
}

fn latency(cx: &Context, contender: &Contender, data: &Data, sheet: &mut Sheet, column: usize) -> Result<()> {
    let cell = Cell {
        name: "fixed rate".to_owned(),
        connections: 50,
        pipeline: 1,
        distribution: "uniform",
        data: data.clone(),
        request: Request::Mixed { gets: 1, sets: 1 },
    };
    let arrivals = Arrivals { rate: RATE, burst: 1, poisson: false };
    let (mut spec, workload) = cx.rig.plan(contender, &cell, Some(arrivals), 5)?;
    spec.pipeline = IN_FLIGHT_MAX;
    let before = load::run(&spec, workload.clone(), &mut |_| ())?;
    // Looking at memory would hold up the load, on whose core it is done.
    let (during, seconds) = under_snapshot(spec, workload, || take_unwatched(&contender.server))?;
    let us = |outcome: &Outcome, percent: f64| outcome.latencies.percentile_ns(percent) as f64 / 1000.0;
    for (percent, aim) in [(50.0, Aim::None), (99.0, Aim::AtMost(1.5)), (99.9, Aim::None)] {
        let (was, is) = (us(&before, percent), us(&during, percent));
        sheet.add(column, &format!("20k requests/s: p{percent}, us, before"), (0, Aim::None), was);
        sheet.add(column, &format!("20k requests/s: p{percent}, us, during"), (0, Aim::None), is);
        sheet.add(column, &format!("20k requests/s: p{percent}, during / before"), (2, aim), is / was);
    }
    sheet.add(column, "20k requests/s: seconds of the snapshot", (2, Aim::None), seconds);
    Ok(())
}
