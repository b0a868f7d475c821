//! How long a snapshot takes on an idle server, how long it takes to load, and how much memory either needs.
//! Invariant: all servers load one file, which the first of them wrote. Read next: `mod.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::sheet::{Aim, Sheet};
use super::{SETTLE, attempt, launch, take_snapshot, threads};
use crate::compare::rig::{Contender, Data};
use crate::compare::{Context, progress};
use crate::peers::{Kind, Peer};
use crate::process::rss_peak_bytes;

pub(super) const METHOD: &str = "Saving: BGSAVE on a server that has nothing else to do, until INFO says that it is over; every server its \
    own. Loading: from the start of the process to its first PONG; all servers load the same file, that the first of the columns \
    wrote, and that was read through right before, so that it is in memory for all. Servers may use all cores: Larder has a thread for each, Redis and Valkey execute and load with one. Memory is \
    resident memory while there is one process, and the sum of the proportional shares (`Pss` in `smaps_rollup`) of all \
    of them while the server has forked, so that a page is counted once. Above idle: the most during the snapshot less what \
    was resident before it. Collections: 200k of 10 elements each, or one of 1M (at full scale); members, elements and \
    fields of 16 B, values of 8 B.";

const LOAD_AIM: Aim = Aim::RedisTimes(2.0);
const KEYS: u64 = 5_000_000;
const VALUE_BYTES: usize = 1024;

/// Collections to be loaded: what makes one, and how many are made.
struct Filling {
    name: &'static str,
    line: &'static str,
    keys: u64,
}

const fn filling(name: &'static str, keys: u64, line: &'static str) -> Filling {
    Filling { name, line, keys }
}

const SMALL: u64 = 200_000;
const LARGE: u64 = 1_000_000;

const FILLINGS: &[Filling] = &[
    filling(
        "hashes of 10 fields",
        SMALL,
        "HSET __key__ field0 __value__ field1 __value__ field2 __value__ field3 __value__ field4 __value__ field5 \
         __value__ field6 __value__ field7 __value__ field8 __value__ field9 __value__",
    ),
    filling(
        "lists of 10 elements",
        SMALL,
        "RPUSH __key__ 0:__key__ 1:__key__ 2:__key__ 3:__key__ 4:__key__ 5:__key__ 6:__key__ 7:__key__ 8:__key__ \
         9:__key__",
    ),
    filling(
        "sets of 10 integers",
        SMALL,
        "SADD __key__ __int__ __int__ __int__ __int__ __int__ __int__ __int__ __int__ __int__ __int__",
    ),
    filling(
        "sets of 10 members",
        SMALL,
        "SADD __key__ 0:__key__ 1:__key__ 2:__key__ 3:__key__ 4:__key__ 5:__key__ 6:__key__ 7:__key__ 8:__key__ \
         9:__key__",
    ),
    filling(
        "sorted sets of 10 members",
        SMALL,
        "ZADD __key__ __int__ 0:__key__ __int__ 1:__key__ __int__ 2:__key__ __int__ 3:__key__ __int__ 4:__key__ \
         __int__ 5:__key__ __int__ 6:__key__ __int__ 7:__key__ __int__ 8:__key__ __int__ 9:__key__",
    ),
    filling("a hash of 1M fields", LARGE, "HSET large __key__ __value__"),
    filling("a list of 1M elements", LARGE, "RPUSH large __key__"),
    filling("a set of 1M members", LARGE, "SADD large __key__"),
    filling("a sorted set of 1M members", LARGE, "ZADD large __int__ __key__"),
    filling("a stream of 1M entries", LARGE, "XADD large * field __value__"),
];

/// A directory with a snapshot in it, until dropped.
struct Shelf(PathBuf);

impl Shelf {
    fn new() -> Result<Shelf> {
        let directory = std::env::temp_dir().join(format!("larder-bench-{}-shelf", std::process::id()));
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Shelf(directory))
    }

    fn file(&self) -> PathBuf {
        self.0.join("dump.rdb")
    }

    /// Takes over what a server saved.
    fn keep(&self, directory: &Path) -> Result<()> {
        let saved = directory.join("dump.rdb");
        // Both lie in one directory of temporary files.
        fs::rename(&saved, self.file()).with_context(|| format!("there is no {}", saved.display()))
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Measures every server.
pub(super) fn measure(cx: &Context, peers: &[&Peer]) -> Result<Sheet> {
    let mut sheet = Sheet::new("saving and loading, seconds unless another unit is told", peers);
    let strings = Data::plain(cx.rig.scaled(KEYS), VALUE_BYTES);
    let count = larder_policy::svg::short(strings.keys as f64);
    let name = format!("{count} strings of 1 KiB");
    // Servers with so much data are started, filled and ended one by one, and not as often as others.
    let rounds = (cx.rig.rounds / 2).max(1);
    if cx.wants(&name) {
        measure_one(cx, peers, &mut sheet, &name, rounds, &|contender| cx.rig.fill(contender, &strings))?;
    }
    for filling in FILLINGS.iter().filter(|filling| cx.wants(filling.name)) {
        let data = Data::plain(cx.rig.scaled(filling.keys), 8);
        let fill = |contender: &mut Contender| cx.rig.fill_by(contender, &data, filling.line);
        measure_one(cx, peers, &mut sheet, filling.name, cx.rig.rounds, &fill)?;
    }
    Ok(sheet)
}

type Fill<'f> = dyn Fn(&mut Contender) -> Result<()> + 'f;

fn measure_one(
    cx: &Context,
    peers: &[&Peer],
    sheet: &mut Sheet,
    name: &str,
    rounds: usize,
    fill: &Fill<'_>,
) -> Result<()> {
    let shelf = Shelf::new()?;
    for (column, peer) in peers.iter().enumerate() {
        progress(&format!("persistence: {name}, {} saves", peer.label()))?;
        attempt(&peer.label(), save(cx, peer, sheet, (column, name), rounds, fill, &shelf))?;
    }
    let keys = (0..rounds).flat_map(|_| peers.iter().enumerate());
    for (column, peer) in keys {
        progress(&format!("persistence: {name}, {} loads", peer.label()))?;
        attempt(&peer.label(), load(cx, peer, sheet, (column, name), &shelf))?;
    }
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn save(
    cx: &Context,
    peer: &Peer,
    sheet: &mut Sheet,
    (column, name): (usize, &str),
    rounds: usize,
    fill: &Fill<'_>,
    shelf: &Shelf,
) -> Result<()> {
    let launch = launch(cx, threads(cx, peer.kind));
    let peer = saving(peer);
    let mut contender = cx.rig.start_one(&peer, &launch, peer.label())?;
    fill(&mut contender)?;
    std::thread::sleep(SETTLE);
    for _ in 0..rounds {
        let idle_bytes = contender.server.rss_bytes()?;
        let taken = take_snapshot(&contender.server)?;
        sheet.add(column, &format!("{name}: saved"), (2, Aim::None), taken.seconds);
        let above = mib(taken.peak_bytes.saturating_sub(idle_bytes));
        sheet.add(column, &format!("{name}: saved, MiB above idle"), (0, Aim::None), above);
    }
    if !shelf.file().exists() {
        shelf.keep(contender.server.directory())?;
    }
    Ok(())
}

/// A peer that writes its snapshots in Redis' format, and reads those of redis-server 8.2.
fn saving(peer: &Peer) -> Peer {
    let words: &[&str] = match peer.kind {
        Kind::Dragonfly => &["--dbfilename=dump", "--nodf_snapshot_format"],
        Kind::Valkey => &["--rdb-version-check", "relaxed"],
        _ => &[],
    };
    peer.with_arguments(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
}

fn load(
    cx: &Context,
    peer: &Peer,
    sheet: &mut Sheet,
    (column, name): (usize, &str),
    shelf: &Shelf,
) -> Result<()> {
    ensure!(shelf.file().exists(), "nobody wrote a file");
    // Servers drop what they wrote, or read, from the system's memory; who comes next is not to wait for the disk.
    std::io::copy(&mut fs::File::open(shelf.file())?, &mut std::io::sink())?;
    let directory = shelf.0.display().to_string();
    let place = match peer.kind {
        Kind::Dragonfly => vec![format!("--dir={directory}")],
        _ => vec!["--dir".to_owned(), directory],
    };
    let launch = launch(cx, threads(cx, peer.kind));
    let peer = saving(peer).with_arguments(&place);
    let contender = cx.rig.start_one(&peer, &launch, peer.label())?;
    ensure!(contender.server.ask(&["DBSIZE"])? != "0", "nothing was loaded");
    sheet.add(column, &format!("{name}: loaded"), (2, LOAD_AIM), contender.server.started_in.as_secs_f64());
    let peak = mib(rss_peak_bytes(contender.server.pid())?);
    sheet.add(column, &format!("{name}: loaded, MiB at the most"), (0, Aim::None), peak);
    Ok(())
}
