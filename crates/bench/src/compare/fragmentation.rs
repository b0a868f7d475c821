//! The suite `fragmentation`: every value is overwritten with others of other sizes, for ten times the data, and what is
//! resident then is compared with what is alive, right after and once the server has had time to tidy up.
//!
//! Live bytes are those of all keys and values that a client would read back, as the load knows them: the same for all
//! servers. Invariant: one server runs at a time, and nobody writes while it tidies up.
//! Read next: `rig.rs`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::compare::{Context, progress};
use crate::endpoint::Asker;
use crate::outcome::{Latencies, micros};
use crate::peers::{Kind, Peer, Server};
use crate::random::Random;

/// A key's length.
const KEY_BYTES: usize = 16;
/// Payload of each shape before it is overwritten.
const PAYLOAD_BYTES: u64 = 300_000_000;
/// So many times the payload is written over it.
const TIMES: u64 = 10;
/// Bytes of requests under way.
const BATCH_BYTES: usize = 128 * 1024;
/// How long a server may tidy up at most, and how long nothing more may change until it is done.
const TIDY_MAX: Duration = Duration::from_secs(90);
const TIDY_STILL: Duration = Duration::from_secs(8);
/// The probe sends one GET in so long.
const PROBE_PERIOD: Duration = Duration::from_millis(1);
/// How often memory is looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(250);
/// Sizes of a round are of one of so many parts of the range, on a logarithmic scale, in this order.
const PARTS: [u32; 4] = [0, 2, 1, 3];

/// Sizes of values.
struct Shape {
    name: &'static str,
    bytes: (u32, u32),
}

const SHAPES: [Shape; 3] = [
    Shape { name: "8 to 200 B", bytes: (8, 200) },
    Shape { name: "8 B to 16 KiB", bytes: (8, 16 << 10) },
    Shape { name: "4 to 256 KiB", bytes: (4 << 10, 256 << 10) },
];

/// A server, and whether it is told to defragment.
struct Subject {
    label: String,
    peer: Peer,
}

/// What was found of one server and shape.
#[derive(Clone, Debug)]
struct Found {
    live: u64,
    /// The server's own count at the end.
    used: u64,
    /// Resident after the last write, and in the end.
    written: u64,
    tidied: u64,
    /// Resident on a server that was given the same values once.
    fresh: u64,
    /// How long it tidied up, until the last change, and the CPU it took, the probe's GETs among it.
    tidy: Duration,
    tidy_cpu: Duration,
    probe: Latencies,
}

/// Runs all shapes on all servers.
pub(crate) fn run(cx: &Context) -> Result<()> {
    let mut notes = String::new();
    let subjects = subjects(cx, &mut notes)?;
    let payload = (PAYLOAD_BYTES as f64 * cx.rig.scale) as u64;
    let mut body = format!(
        "Keys of {KEY_BYTES} B and values of {} MB in all are stored, then values of random keys are overwritten until {TIMES} \
         times as much has been written, in rounds of as many writes as there are keys. Sizes are drawn evenly on a \
         logarithmic scale: at first from the whole range, in each round from one quarter of it, another one than in the round before. \
         *Live* are the bytes of keys and values in the end, the same for all servers; *used* is `used_memory`; *fresh* is what \
         is resident on a server of the kind that was given the final values once. After the last write the server is left \
         alone but for a probe that sends a GET every millisecond, until resident memory has not fallen for {} s; *tidied* is \
         what is resident then. Larder defragments with its default options but for `active-defrag-ignore-bytes 4mb`.\n{notes}\n",
        payload / 1_000_000,
        TIDY_STILL.as_secs(),
    );
    let mut records = Vec::new();
    for shape in SHAPES.iter().filter(|shape| cx.wants(shape.name)) {
        body.push_str(&format!("\nValues of {}:\n\n{HEAD}", shape.name));
        for subject in &subjects {
            progress(&format!("fragmentation: {}, {}", shape.name, subject.label))?;
            match measure(cx, subject, shape, payload) {
                Ok(found) => {
                    let line = line(&subject.label, &found);
                    progress(line.trim_end())?;
                    body.push_str(&line);
                    records.push(record(cx, subject, shape, &found));
                }
                Err(error) => progress(&format!("{}: {error:#}", subject.label))?,
            }
        }
    }
    if !records.is_empty() && cx.row.is_none() {
        cx.places.append_records("fragmentation", RECORD_HEAD, &records)?;
    }
    cx.finish("fragmentation", "Memory after overwriting", &body, &[])
}

const HEAD: &str = "| server | live MB | used MB | resident MB: written | tidied | fresh | written / live | tidied / live | \
    tidied / used | tidied / fresh | s to tidy | its CPU s | GET meanwhile, µs: median | p99 | p99.9 |\n\
    |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
const RECORD_HEAD: &str =
    "date,machine,server,sizes,live,used,written,tidied,fresh,tidy_s,tidy_cpu_s,p50_us,p99_us,p999_us";

/// Every server, and those that can defragment once more with that; what the others say goes to the notes.
fn subjects(cx: &Context, notes: &mut String) -> Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    for peer in &cx.rig.peers {
        if matches!(peer.kind, Kind::Memcached | Kind::Null | Kind::RedisSystem | Kind::Dragonfly) {
            continue;
        }
        subjects.push(Subject { label: peer.label(), peer: peer.clone() });
        let server = Server::start(peer, &cx.rig.launch_single())?;
        if let Err(error) = server.ask(&["CONFIG", "SET", "activedefrag", "yes"]) {
            notes.push_str(&format!(
                "{} answers to `CONFIG SET activedefrag yes`: \"{}\".\n",
                peer.label(),
                error.root_cause()
            ));
            continue;
        }
        let words = ["--activedefrag", "yes", "--active-defrag-ignore-bytes", "4mb"].map(str::to_owned);
        subjects.push(Subject {
            label: format!("{} activedefrag", peer.label()),
            peer: peer.with_arguments(&words),
        });
    }
    Ok(subjects)
}

fn measure(cx: &Context, subject: &Subject, shape: &Shape, payload: u64) -> Result<Found> {
    let server = Server::start(&subject.peer, &cx.rig.launch_single())?;
    let mut writer = Writer::connect(server.port)?;
    let mut sizes = Sizes::new(shape, payload);
    for key in 0..sizes.bytes.len() {
        let bytes = sizes.change(key, 0..PARTS.len() as u32);
        writer.set(key, bytes)?;
    }
    let (mut written, mut round) = (0, 0);
    while written < TIMES * payload {
        let part = PARTS.get(round % PARTS.len()).copied().unwrap_or(0);
        for _ in 0..sizes.bytes.len() {
            let key = sizes.random.below(sizes.bytes.len() as u64) as usize;
            let bytes = sizes.change(key, part..part + 1);
            writer.set(key, bytes)?;
            written += u64::from(bytes) + KEY_BYTES as u64;
        }
        round += 1;
    }
    writer.flush()?;
    let written = server.rss_bytes()?;
    let (tidied, tidy, tidy_cpu, probe) = tidy(&server, sizes.bytes.len() as u64)?;
    let used = server.used_memory()?;
    drop(server);
    let fresh = fresh(cx, subject, &sizes)?;
    Ok(Found { live: sizes.live(), used, written, tidied, fresh, tidy, tidy_cpu, probe })
}

/// What is resident on a server that is given the final values once.
fn fresh(cx: &Context, subject: &Subject, sizes: &Sizes) -> Result<u64> {
    let server = Server::start(&subject.peer, &cx.rig.launch_single())?;
    let mut writer = Writer::connect(server.port)?;
    for (key, bytes) in sizes.bytes.iter().enumerate() {
        writer.set(key, *bytes)?;
    }
    writer.flush()?;
    std::thread::sleep(Duration::from_secs(3));
    server.rss_bytes()
}

/// Waits until the server's memory does not fall any more, and sends a GET now and then.
fn tidy(server: &Server, keys: u64) -> Result<(u64, Duration, Duration, Latencies)> {
    let (start, cpu) = (Instant::now(), server.cpu_ns()?);
    let (mut least, mut changed, mut looked) = (server.rss_bytes()?, start, start);
    let mut changed_cpu = cpu;
    let mut latencies = Latencies::new();
    let (mut asker, mut random) = (Asker::connect(server.port)?, Random::new(5));
    while changed.elapsed() < TIDY_STILL && start.elapsed() < TIDY_MAX {
        let name = key_name(random.below(keys) as usize);
        let asked = Instant::now();
        asker.ask(&["GET", &name])?;
        latencies.record(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX), 1);
        if looked.elapsed() >= LOOK_PERIOD {
            looked = Instant::now();
            let now = server.rss_bytes()?;
            // Half a percent is a change.
            if now < least - least / 200 {
                (least, changed, changed_cpu) = (now, looked, server.cpu_ns()?);
            }
        }
        std::thread::sleep(PROBE_PERIOD.saturating_sub(asked.elapsed()));
    }
    let cpu = Duration::from_nanos(changed_cpu.saturating_sub(cpu));
    Ok((server.rss_bytes()?, changed - start, cpu, latencies))
}

fn key_name(key: usize) -> String {
    format!("key:{key:012}")
}

/// How large each value is.
struct Sizes {
    bytes: Vec<u32>,
    range: (f64, f64),
    random: Random,
}

impl Sizes {
    /// As many keys as have the payload on average, all without a value yet.
    fn new(shape: &Shape, payload: u64) -> Sizes {
        let (least, most) = (f64::from(shape.bytes.0), f64::from(shape.bytes.1));
        let mean = (most - least) / (most / least).ln();
        let keys = (payload as f64 / (mean + KEY_BYTES as f64)) as usize;
        Sizes { bytes: vec![0; keys.max(1)], range: (least.ln(), most.ln()), random: Random::new(11) }
    }

    /// Draws another size for a key, from some of the parts of the range.
    fn change(&mut self, key: usize, parts: std::ops::Range<u32>) -> u32 {
        let part = (self.range.1 - self.range.0) / PARTS.len() as f64;
        let span = f64::from(parts.end - parts.start) * part;
        let drawn = self.range.0 + f64::from(parts.start) * part + self.random.unit() * span;
        let bytes = drawn.exp() as u32;
        if let Some(place) = self.bytes.get_mut(key) {
            *place = bytes;
        }
        bytes
    }

    fn live(&self) -> u64 {
        self.bytes.iter().map(|bytes| u64::from(*bytes) + KEY_BYTES as u64).sum()
    }
}

/// Sends SETs in batches.
struct Writer {
    stream: TcpStream,
    batch: Vec<u8>,
    waiting: usize,
    pool: Vec<u8>,
}

/// What answers a SET.
const OK: &[u8] = b"+OK\r\n";

impl Writer {
    fn connect(port: u16) -> Result<Writer> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("cannot connect")?;
        stream.set_nodelay(true)?;
        let mut random = Random::new(3);
        let pool = (0..1 << 20).map(|_| b'a' + random.below(26) as u8).collect();
        Ok(Writer { stream, batch: Vec::new(), waiting: 0, pool })
    }

    fn set(&mut self, key: usize, bytes: u32) -> Result<()> {
        let bytes = bytes as usize;
        let start = key.wrapping_mul(31) % (self.pool.len() / 2);
        let value = self.pool.get(start..start + bytes).context("a value larger than any shape has")?;
        write!(self.batch, "*3\r\n$3\r\nSET\r\n${KEY_BYTES}\r\n{}\r\n${bytes}\r\n", key_name(key))?;
        self.batch.extend_from_slice(value);
        self.batch.extend_from_slice(b"\r\n");
        self.waiting += 1;
        if self.batch.len() >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.batch)?;
        self.batch.clear();
        let mut replies = vec![0; self.waiting * OK.len()];
        self.stream.read_exact(&mut replies)?;
        self.waiting = 0;
        ensure!(replies.chunks(OK.len()).all(|reply| reply == OK), "{}", String::from_utf8_lossy(&replies));
        Ok(())
    }
}

fn line(label: &str, found: &Found) -> String {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let by = |bytes: u64, of: u64| bytes as f64 / of.max(1) as f64;
    let at = |share: f64| micros(found.probe.percentile_ns(share * 100.0));
    format!(
        "| {label} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {:.2} | {} | {} | {} |\n",
        mb(found.live),
        mb(found.used),
        mb(found.written),
        mb(found.tidied),
        mb(found.fresh),
        by(found.written, found.live),
        by(found.tidied, found.live),
        by(found.tidied, found.used),
        by(found.tidied, found.fresh),
        found.tidy.as_secs_f64(),
        found.tidy_cpu.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999)
    )
}

fn record(cx: &Context, subject: &Subject, shape: &Shape, found: &Found) -> String {
    let at = |share: f64| found.probe.percentile_ns(share * 100.0) as f64 / 1000.0;
    format!(
        "{},\"{}\",\"{}\",{},{},{},{},{},{:.2},{:.3},{:.1},{:.1},{:.1}",
        cx.stamp(),
        subject.label,
        shape.name,
        found.live,
        found.used,
        found.written,
        found.tidied,
        found.fresh,
        found.tidy.as_secs_f64(),
        found.tidy_cpu.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_stay_in_their_part_of_the_range_and_live_bytes_are_their_sum() {
        let shape = &SHAPES[1];
        let mut sizes = Sizes::new(shape, 10_000_000);
        let keys = sizes.bytes.len();
        for key in 0..keys {
            let bytes = sizes.change(key, 0..4);
            assert!((shape.bytes.0 - 1..=shape.bytes.1).contains(&bytes), "{bytes}");
        }
        let live = sizes.live();
        assert!((9_000_000..11_000_000).contains(&live), "{live}");
        for part in 0..4 {
            let before: u64 = sizes.live();
            let old = u64::from(sizes.bytes[7]);
            let bytes = sizes.change(7, part..part + 1);
            assert_eq!(sizes.live(), before - old + u64::from(bytes));
            let ratio = 2048f64.powf(1.0 / 4.0);
            let low = 8.0 * ratio.powi(part as i32);
            assert!((low - 1.0..=low * ratio).contains(&f64::from(bytes)), "{part}: {bytes}");
        }
    }
}
