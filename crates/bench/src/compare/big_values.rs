//! The suite `big-values`: values of ten million elements are built, read, copied, dumped, expired and unlinked, and
//! what takes longer than it should is counted. Read next: `collections.rs`, for what operations cost.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::compare::rig::{Contender, Data, Rig};
use crate::compare::{Context, progress};
use crate::endpoint::Asker;
use crate::peers::Kind;

/// A value: how it is built and read.
struct Big {
    name: &'static str,
    build: &'static str,
    scan: Option<&'static str>,
}

const BIG: &[Big] = &[
    Big { name: "list", build: "RPUSH big __key__", scan: None },
    Big { name: "set", build: "SADD big __key__", scan: Some("SSCAN") },
    Big { name: "hash", build: "HSET big __key__ __value__", scan: Some("HSCAN") },
    Big { name: "sorted set", build: "ZADD big __int__ __key__", scan: Some("ZSCAN") },
    Big { name: "stream", build: "XADD big * field __value__", scan: None },
];

const ELEMENTS: u64 = 10_000_000;
/// A single command is to take no longer, but for those that are O(N) by nature.
const COMMAND_US_MAX: u64 = 1000;
/// How long others are watched while a value is freed.
const WATCHED: Duration = Duration::from_millis(1500);

/// What was found; times in microseconds.
struct Found {
    slow: usize,
    slowest_us: u64,
    scan_us: Option<u64>,
    copy_us: u64,
    dump_us: u64,
    unlink_us: u64,
    after_unlink_us: u64,
    after_expiry_us: u64,
}

/// Measures each server by itself and writes the section.
pub(crate) fn run(cx: &Context) -> Result<()> {
    let rig = &cx.rig;
    let mut text = "| value | server | commands over 1 ms while built | longest of them | longest SCAN | UNLINK | \
        longest PING after it | after PEXPIRE | COPY, O(N) | DUMP, O(N) |\n|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let mut records = Vec::new();
    for big in BIG.iter().filter(|big| cx.wants(big.name)) {
        for peer in rig.peers.iter().filter(|peer| !matches!(peer.kind, Kind::Null | Kind::Memcached)) {
            progress(&format!("big-values: {}, {}", big.name, peer.label()))?;
            let contender = rig.start_one(peer, &rig.launch_single(), peer.label())?;
            let found = measure(rig, &contender, big)
                .with_context(|| format!("{} of {}", big.name, contender.label))?;
            let scan = found.scan_us.map_or("-".to_owned(), shown);
            text.push_str(&format!(
                "| {} | {} | {} | {} | {scan} | {} | {} | {} | {} | {} |\n",
                big.name,
                peer.label(),
                found.slow,
                shown(found.slowest_us),
                shown(found.unlink_us),
                shown(found.after_unlink_us),
                shown(found.after_expiry_us),
                shown(found.copy_us),
                shown(found.dump_us),
            ));
            records.push(format!(
                "{},{},{},{},{},{},{},{},{},{},{},{}",
                cx.stamp(),
                peer.kind.name(),
                peer.version,
                big.name,
                found.slow,
                found.slowest_us,
                found.scan_us.map_or(String::new(), |us| us.to_string()),
                found.unlink_us,
                found.after_unlink_us,
                found.after_expiry_us,
                found.copy_us,
                found.dump_us,
            ));
        }
    }
    cx.places.append_records(
        "big-values",
        "date,machine,server,version,value,slow,slowest_us,scan_us,unlink_us,after_unlink_us,after_expiry_us,copy_us,\
         dump_us",
        &records,
    )?;
    let method = "One thread, ten million elements, one command for each, 128 in flight; what took over 1 ms is what the \
        server's own slow log says. Then a thousand SCAN steps with COUNT 100, COPY, DUMP, UNLINK of \
        the copy, PEXPIRE of the value, each timed by the client; another client sends PING one after the other for a \
        second and a half after UNLINK and PEXPIRE. Aim for Larder: nothing over 1 ms but COPY and DUMP.";
    cx.finish("big-values", "Values of ten million elements", &format!("{method}\n\n{text}"), &[])
}

fn measure(rig: &Rig, contender: &Contender, big: &Big) -> Result<Found> {
    let mut asker = Asker::connect(contender.server.port)?;
    let threshold = COMMAND_US_MAX.to_string();
    asker.ask(&["CONFIG", "SET", "slowlog-log-slower-than", &threshold, "slowlog-max-len", "100000"])?;
    asker.ask(&["SLOWLOG", "RESET"])?;
    let data = Data::plain(rig.scaled(ELEMENTS), 8);
    rig.fill_by(contender, &data, big.build)?;
    let (slow, slowest_us) = slow_commands(&mut asker)?;
    let scan_us = big.scan.map(|scan| longest_scan(&mut asker, scan)).transpose()?;
    let (copy_us, _) = timed(&mut asker, &["COPY", "big", "copy"])?;
    let (dump_us, _) = timed(&mut asker, &["DUMP", "big"])?;
    let (unlink_us, _) = timed(&mut asker, &["UNLINK", "copy"])?;
    let after_unlink_us = longest_ping(&mut asker)?;
    asker.ask(&["PEXPIRE", "big", "1"])?;
    let after_expiry_us = longest_ping(&mut asker)?;
    anyhow::ensure!(asker.ask(&["DBSIZE"])? == "0", "the value is still there");
    Ok(Found { slow, slowest_us, scan_us, copy_us, dump_us, unlink_us, after_unlink_us, after_expiry_us })
}

fn timed(asker: &mut Asker, words: &[&str]) -> Result<(u64, String)> {
    let start = Instant::now();
    let answer = asker.ask(words)?;
    Ok((start.elapsed().as_micros() as u64, answer))
}

/// How many commands are in the slow log, and how long the longest of them took.
fn slow_commands(asker: &mut Asker) -> Result<(usize, u64)> {
    let count = asker.ask(&["SLOWLOG", "LEN"])?.parse().context("SLOWLOG LEN")?;
    let mut longest = 0;
    // An entry is number, time, duration, words, address, name: the third line of each.
    let entries = asker.ask(&["SLOWLOG", "GET", "-1"])?;
    let lines: Vec<&str> = entries.lines().collect();
    for window in lines.windows(3) {
        if let [number, time, duration] = window
            && let (Ok(_), Ok(_), Ok(duration)) =
                (number.parse::<u64>(), time.parse::<u64>(), duration.parse::<u64>())
            && time.len() == 10
        {
            longest = longest.max(duration);
        }
    }
    Ok((count, longest))
}

fn longest_scan(asker: &mut Asker, scan: &str) -> Result<u64> {
    let (mut cursor, mut longest) = ("0".to_owned(), 0);
    for _ in 0..1000 {
        let (us, answer) = timed(asker, &[scan, "big", &cursor, "COUNT", "100"])?;
        longest = longest.max(us);
        cursor = answer.lines().next().unwrap_or("0").to_owned();
        if cursor == "0" {
            break;
        }
    }
    Ok(longest)
}

fn longest_ping(asker: &mut Asker) -> Result<u64> {
    let (start, mut longest) = (Instant::now(), 0);
    while start.elapsed() < WATCHED {
        longest = longest.max(timed(asker, &["PING"])?.0);
    }
    Ok(longest)
}

fn shown(us: u64) -> String {
    if us < 10_000 { format!("{us} µs") } else { format!("{} ms", us / 1000) }
}
