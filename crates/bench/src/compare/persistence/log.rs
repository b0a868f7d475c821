//! What an append-only log costs: CPU of a SET without one, and by `appendfsync`.
//! Invariant: within a row servers take turns, as in the suites of throughput. Read next: `mod.rs`.

use anyhow::Result;

use super::sheet::{Aim, Sheet};
use crate::compare::rig::{Cell, Data, Request};
use crate::compare::sample::Sample;
use crate::compare::{Context, progress};
use crate::peers::{Kind, Peer};

pub(super) const METHOD: &str = "The append-only log: SET of 64 B values, 1M keys (at full scale), one thread; the server on one core, the load on the other. Dragonfly \
    has no such log. CPU of all threads of the process, those that write and force to disk included. How often `always` can \
    force to disk is the disk's: compare within a row.";

/// How the log is kept.
struct Keeping {
    name: &'static str,
    words: &'static [&'static str],
    /// Connections and requests in flight on each.
    loads: &'static [(usize, usize)],
}

const LOADS: &[(usize, usize)] = &[(50, 1), (50, 16)];
const LOG: [&str; 4] = ["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"];
const KEEPINGS: [Keeping; 3] = [
    Keeping { name: "no log", words: &[], loads: LOADS },
    Keeping { name: "everysec", words: &["--appendfsync", "everysec"], loads: LOADS },
    Keeping { name: "always", words: &["--appendfsync", "always"], loads: &[(50, 1), (50, 16), (1000, 1)] },
];

/// Measures the servers that have such a log, in turns.
pub(super) fn measure(cx: &Context) -> Result<Sheet> {
    let rig = &cx.rig;
    let has_log = |kind| matches!(kind, Kind::Larder | Kind::Redis | Kind::Valkey | Kind::RedisSystem);
    let peers: Vec<&Peer> = rig.peers.iter().filter(|peer| has_log(peer.kind)).collect();
    let mut sheet = Sheet::new("SET with an append-only log", &peers);
    let data = Data::plain(rig.scaled(1_000_000), 64);
    for keeping in &KEEPINGS {
        let mut words: Vec<String> = Vec::new();
        if !keeping.words.is_empty() {
            words.extend(LOG.iter().chain(keeping.words).map(|&word| word.to_owned()));
        }
        let mut contenders = Vec::new();
        for peer in &peers {
            let peer = peer.with_arguments(&words);
            let mut contender = rig.start_one(&peer, &rig.launch_single(), peer.label())?;
            rig.fill(&mut contender, &data)?;
            contenders.push(contender);
        }
        for &(connections, pipeline) in keeping.loads {
            let name = format!("{}, {connections} connections, pipeline {pipeline}", keeping.name);
            progress(&format!("persistence: {name}"))?;
            let cell = Cell {
                name: name.clone(),
                connections,
                pipeline,
                distribution: "uniform",
                data: data.clone(),
                request: Request::Mixed { gets: 0, sets: 1 },
            };
            let samples = rig.measure(&mut contenders, &cell)?;
            for (column, sample) in
                samples.iter().enumerate().flat_map(|(at, all)| all.iter().map(move |one| (at, one)))
            {
                add(&mut sheet, column, &name, sample);
            }
        }
    }
    Ok(sheet)
}

fn add(sheet: &mut Sheet, column: usize, name: &str, sample: &Sample) {
    sheet.add(column, &format!("{name}: CPU ns"), (0, Aim::None), sample.cpu_ns_per_request());
    sheet.add(column, &format!("{name}: SETs a second"), (0, Aim::None), sample.per_second());
}
