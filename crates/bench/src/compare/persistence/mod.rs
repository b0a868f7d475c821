//! The suite `persistence`: what snapshots, loading and logs cost.
//! Invariant: servers with much data run one at a time, and what is loaded is the same file for all.
//! Read next: `files.rs` for saving and loading, `snapshot.rs` for what others notice of a snapshot, `log.rs` for logs.

mod files;
mod log;
mod sheet;
mod snapshot;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::compare::{Context, progress};
use crate::endpoint::{Asker, field};
use crate::gauge::Gauge;
use crate::peers::{Kind, Launch, Peer, Server};

/// How long a snapshot may take.
const SNAPSHOT_MAX: Duration = Duration::from_secs(300);
/// How often a server is asked whether its snapshot is over.
const ASKED_EVERY: Duration = Duration::from_millis(20);
/// The same of one whose latencies are taken.
const ASKED_EVERY_UNWATCHED: Duration = Duration::from_millis(250);
/// How long a server may tidy up before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);

/// Measures the servers that can save, and writes the section.
pub(crate) fn run(cx: &Context) -> Result<()> {
    let peers: Vec<&Peer> =
        cx.rig.peers.iter().filter(|peer| !matches!(peer.kind, Kind::Null | Kind::Memcached)).collect();
    ensure!(!peers.is_empty(), "there is no server that saves");
    let files = files::measure(cx, &peers)?;
    let snapshot = snapshot::measure(cx, &peers)?;
    let log = log::measure(cx)?;
    let title = "Saving and loading, of redis-server's time";
    let chart = cx.write_chart("persistence", title, &files.bars(title))?;
    let text = format!(
        "{}\n\n{}\n{chart}\n{}\n\n{}\n{}\n\n{}",
        files::METHOD,
        files.markdown(),
        snapshot::METHOD,
        snapshot.markdown(),
        log::METHOD,
        log.markdown()
    );
    let stamp = cx.stamp();
    let records = [files.csv(&stamp), snapshot.csv(&stamp), log.csv(&stamp)].concat();
    cx.finish_with("persistence", "Snapshots, loading and logs", &text, sheet::CSV_HEAD, &records)
}

/// A server that may use all cores, as it is where it saves and loads.
fn launch(cx: &Context, threads: usize) -> Launch {
    let cores = cx.rig.all_cores.clone();
    Launch { threads, cores, memory_bytes_max: None, value_bytes: 64 }
}

/// How many threads a server gets that may use all cores.
fn threads(cx: &Context, kind: Kind) -> usize {
    match kind {
        // The others execute with one thread, and load with it.
        Kind::Redis | Kind::Valkey | Kind::RedisSystem => 1,
        _ => cx.rig.all_cores.count() as usize,
    }
}

/// A snapshot that a server took.
#[derive(Clone, Copy, Debug)]
struct Taken {
    seconds: f64,
    /// The most memory meanwhile, in bytes.
    peak_bytes: u64,
}

/// Has a server take a snapshot in the background, and waits until it is over. Memory is looked at meanwhile, which takes a few per cent of
/// a core.
fn take_snapshot(server: &Server) -> Result<Taken> {
    let gauge = Gauge::start(server.pid());
    let seconds = take_asking(server, ASKED_EVERY);
    let peak_bytes = gauge.peak_bytes()?;
    Ok(Taken { seconds: seconds?, peak_bytes })
}

/// The same with nothing that a load would notice: no look at memory, and few questions. How many seconds it took, to a quarter of one.
fn take_unwatched(server: &Server) -> Result<f64> {
    take_asking(server, ASKED_EVERY_UNWATCHED)
}

fn take_asking(server: &Server, every: Duration) -> Result<f64> {
    let mut asker = Asker::connect(server.port)?;
    let start = Instant::now();
    asker.ask(&["BGSAVE"])?;
    wait_until_saved(&mut asker, start, every)?;
    Ok(start.elapsed().as_secs_f64())
}

fn wait_until_saved(asker: &mut Asker, start: Instant, every: Duration) -> Result<()> {
    loop {
        let info = asker.ask(&["INFO", "persistence"])?;
        let is_saving = field(&info, "rdb_bgsave_in_progress")
            .or_else(|| field(&info, "saving"))
            .context("INFO does not tell whether a snapshot is taken")?;
        if is_saving.trim() == "0" {
            if let Some(status) = field(&info, "rdb_last_bgsave_status") {
                ensure!(status.trim() == "ok", "the snapshot failed: {status}");
            }
            return Ok(());
        }
        if start.elapsed() > SNAPSHOT_MAX {
            bail!("the snapshot is not over after {SNAPSHOT_MAX:?}");
        }
        std::thread::sleep(every);
    }
}

/// A figure that cannot be had leaves its cell empty, and the others' hours of measuring as they are.
fn attempt<T>(what: &str, result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) => {
            progress(&format!("persistence: {what}: {error:#}"))?;
            Ok(None)
        }
    }
}
