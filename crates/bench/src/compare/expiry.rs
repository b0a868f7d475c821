//! The suite `expiry`: many keys, a tenth of which have one deadline. How long until they are gone though nobody
//! touches them, and how long PING and GET wait meanwhile, asked by an open loop that sleeps between its requests.
//! Invariant: a server holds every key before the first of them is due. Read next: `rig.rs`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use crate::compare::rig::{Contender, Data, Rig};
use crate::compare::sample::{Sample, Spread};
use crate::compare::table::{Column, Row, Table};
use crate::compare::{Context, progress};
use crate::endpoint::{Asker, field};
use crate::outcome::{Latencies, micros};
use crate::peers::{Kind, Launch, Peer};
use crate::process::Cores;
use crate::random::Random;
use crate::template::{Expiry, KeyShape};

/// Keys in all, and those of them that are due together.
const KEYS: u64 = 10_000_000;
const DOOMED: u64 = 1_000_000;
/// Connections of the probe, and how often each asks.
const PROBES: u64 = 4;
const PROBE_PERIOD: Duration = Duration::from_millis(PROBES);
/// How often the number of keys is asked for.
const WATCH_PERIOD: Duration = Duration::from_millis(1);
/// The probe runs this long before the deadline and after the last key is gone.
const BEFORE: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_millis(50);
/// A server that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the servers run and the probe.
struct Setting {
    name: &'static str,
    launch: Launch,
    probe_cores: Cores,
}

/// One round on one server.
struct Round {
    /// From the deadline until DBSIZE counts the survivors alone, and until `expired_keys` counts the others.
    gone: Option<(Duration, Duration)>,
    cpu_ns: u64,
    before: Latencies,
    during: Latencies,
}

/// Runs both settings.
pub(crate) fn run(cx: &Context) -> Result<()> {
    let rig = &cx.rig;
    let two = Launch { threads: 2, cores: rig.all_cores.clone(), ..rig.launch_single() };
    let settings = [
        Setting { name: "two threads, probe beside them", launch: two, probe_cores: rig.all_cores.clone() },
        Setting {
            name: "one thread, probe on another core",
            launch: rig.launch_single(),
            probe_cores: rig.load_cores.clone(),
        },
    ];
    let columns: Vec<Column> = rig
        .peers
        .iter()
        .map(|peer| Column { label: peer.label(), kind: peer.kind, version: peer.version.clone() })
        .collect();
    let mut body = String::from(
        "A probe asks 1,000 times a second, PING and GET in turns, on four connections, and sleeps in between; \
         milliseconds count from the deadline, latencies are in microseconds.\n",
    );
    let mut rows = Vec::new();
    for setting in &settings {
        body.push_str(&format!("\n{}:\n\n{HEAD}", setting.name));
        let mut samples = Vec::new();
        for peer in &rig.peers {
            let rounds = attempt(peer, setting, rig)?;
            body.push_str(&line(&peer.label(), &rounds));
            samples.push(rounds.iter().map(sample).collect());
        }
        rows.push(Row { name: setting.name.to_owned(), samples, targets: Vec::new() });
    }
    progress(&body)?;
    let table = Table { suite: "expiry", columns, rows };
    cx.finish("expiry", &title(rig), &body, &table.csv(&cx.stamp()))
}

const HEAD: &str = "| server | all gone after ms | counted after ms | CPU ms | slowest before | p99 meanwhile | \
                    p99.9 meanwhile | slowest meanwhile |\n|---|---|---|---|---|---|---|---|\n";

fn title(rig: &Rig) -> String {
    let [keys, doomed] = [KEYS, DOOMED].map(|count| larder_policy::svg::short(rig.scaled(count) as f64));
    format!("{doomed} of {keys} keys expire together, untouched")
}

/// The rounds of one server; one that fails is told and left out.
fn attempt(peer: &Peer, setting: &Setting, rig: &Rig) -> Result<Vec<Round>> {
    let mut rounds = Vec::new();
    if peer.kind == Kind::Memcached {
        return Ok(rounds);
    }
    for number in 0..rig.rounds {
        progress(&format!("expiry: {}, {}, round {}", setting.name, peer.label(), number + 1))?;
        match round(peer, setting, rig) {
            Ok(found) => rounds.push(found),
            Err(error) => progress(&format!("{error:#}"))?,
        }
    }
    Ok(rounds)
}

fn round(peer: &Peer, setting: &Setting, rig: &Rig) -> Result<Round> {
    let mut contender = rig.start_one(peer, &setting.launch, peer.label())?;
    let (keys, doomed) = (rig.scaled(KEYS), rig.scaled(DOOMED));
    let stay = Data::plain(keys - doomed, 64);
    rig.fill(&mut contender, &stay)?;
    // Long enough for the slowest to write them all, and for what it does afterwards.
    let lead = Duration::from_secs_f64(3.0 + doomed as f64 / 60_000.0);
    let deadline = since_epoch()? + lead;
    let unix_ms = u64::try_from(deadline.as_millis()).context("the clock is far off")?;
    let deadline = Duration::from_millis(unix_ms);
    let due = Data { prefix: "due:", expiry: Expiry::At { unix_ms }, ..Data::plain(doomed, 64) };
    rig.fill(&mut contender, &due)?;
    setting.probe_cores.bind_this_thread()?;
    let found = observe(&contender, &stay, deadline, doomed);
    rig.load_cores.bind_this_thread()?;
    found
}

/// Probes and watches a filled server around the deadline.
fn observe(contender: &Contender, stay: &Data, deadline: Duration, doomed: u64) -> Result<Round> {
    let server = &contender.server;
    let begin = deadline.checked_sub(BEFORE).context("the clock is far off")?;
    let stores = server.peer.kind != Kind::Null;
    if stores {
        let here = Asker::connect(server.port)?.ask(&["DBSIZE"])?;
        ensure!(here == (stay.keys + doomed).to_string(), "{} keys before the deadline", here);
    }
    ensure!(since_epoch()? < begin, "filling took until the deadline");
    sleep_until(begin)?;
    let shape = stay.shape()?;
    let stop = AtomicBool::new(false);
    let cpu_before = server.cpu_ns()?;
    let (gone, answers) = std::thread::scope(|scope| {
        let (shape, stop) = (&shape, &stop);
        let probes: Vec<_> = (0..PROBES)
            .map(|index| scope.spawn(move || probe(server.port, shape, stay.keys, begin, index, stop)))
            .collect();
        let gone = if stores { watch(server.port, stay.keys, doomed, deadline) } else { blank(deadline) };
        std::thread::sleep(AFTER);
        // Relaxed: the probes only have to see it some time.
        stop.store(true, Ordering::Relaxed);
        let answers = probes
            .into_iter()
            .map(|probe| probe.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a probe panicked"))));
        (gone, answers.collect::<Result<Vec<_>>>())
    });
    let cpu_ns = server.cpu_ns()?.saturating_sub(cpu_before);
    let gone = gone?;
    let end = deadline + gone.map_or(PATIENCE, |(gone, _)| gone.max(Duration::from_millis(100)));
    let (mut before, mut during) = (Latencies::new(), Latencies::new());
    for (due, latency) in answers?.into_iter().flatten().filter(|&(due, _)| due < end) {
        let latencies = if due < deadline { &mut before } else { &mut during };
        latencies.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX), 1);
    }
    Ok(Round { gone, cpu_ns, before, during })
}

/// Asks until the keys are gone; `None` when that takes too long.
fn watch(port: u16, stay: u64, doomed: u64, deadline: Duration) -> Result<Option<(Duration, Duration)>> {
    let mut asker = Asker::connect(port)?;
    sleep_until(deadline)?;
    let since = || Ok::<_, anyhow::Error>(since_epoch()?.saturating_sub(deadline));
    while asker.ask(&["DBSIZE"])?.parse::<u64>().context("DBSIZE tells no number")? > stay {
        if since()? > PATIENCE {
            return Ok(None);
        }
        std::thread::sleep(WATCH_PERIOD);
    }
    let gone = since()?;
    loop {
        let info = asker.ask(&["INFO", "stats"])?;
        let count = field(&info, "expired_keys").and_then(|count| count.trim().parse::<u64>().ok());
        if count.context("INFO tells no expired_keys")? >= doomed {
            return Ok(Some((gone, since()?)));
        }
        ensure!(since()? < PATIENCE, "keys are gone but not counted as expired");
    }
}

/// A server that stores nothing is probed for as long as the promise is.
fn blank(deadline: Duration) -> Result<Option<(Duration, Duration)>> {
    sleep_until(deadline + Duration::from_millis(100))?;
    Ok(Some((Duration::ZERO, Duration::ZERO)))
}

/// Asks PING and GET in turns at fixed times. Answers when each request was due and how long it took: from when it was
/// due if the answer before it came too late, else from when it was sent, since oversleeping is not the server's doing.
fn probe(
    port: u16,
    keys: &KeyShape,
    count: u64,
    begin: Duration,
    index: u64,
    stop: &AtomicBool,
) -> Result<Vec<(Duration, Duration)>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("cannot connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut random = Random::new(index + 1);
    let (mut answers, mut answer) = (Vec::new(), vec![0; 4096]);
    let mut due = begin + Duration::from_millis(index);
    while !stop.load(Ordering::Relaxed) {
        let is_late = since_epoch()? > due;
        sleep_until(due)?;
        let request = if answers.len() % 2 == 0 {
            b"*1\r\n$4\r\nPING\r\n".to_vec()
        } else {
            let key = keys.name(random.below(count));
            [format!("*2\r\n$3\r\nGET\r\n${}\r\n", key.len()).as_bytes(), &key, b"\r\n"].concat()
        };
        let start = if is_late { due } else { since_epoch()? };
        stream.write_all(&request)?;
        read_reply(&mut stream, &mut answer)?;
        answers.push((due, since_epoch()?.saturating_sub(start)));
        due += PROBE_PERIOD;
    }
    Ok(answers)
}

/// Reads one status or bulk reply.
fn read_reply(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut length = 0;
    loop {
        let read = stream.read(buffer.get_mut(length..).unwrap_or_default())?;
        ensure!(read > 0, "the server closed a probe's connection");
        length += read;
        let text = buffer.get(..length).unwrap_or_default();
        let lines_wanted = if text.first() == Some(&b'$') && text.get(1) != Some(&b'-') { 2 } else { 1 };
        if text.ends_with(b"\r\n") && text.iter().filter(|byte| **byte == b'\n').count() >= lines_wanted {
            return Ok(());
        }
    }
}

fn since_epoch() -> Result<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")
}

fn sleep_until(time: Duration) -> Result<()> {
    std::thread::sleep(time.saturating_sub(since_epoch()?));
    Ok(())
}

/// A server's line of the table: medians over the rounds, and the slowest of all.
fn line(label: &str, rounds: &[Round]) -> String {
    if rounds.is_empty() {
        return format!("| {label} |{}\n", " - |".repeat(7));
    }
    let spread = |figure: &dyn Fn(&Round) -> Option<f64>| {
        let spread = Spread::of(rounds.iter().filter_map(figure));
        spread.map_or(format!("over {}", PATIENCE.as_millis()), |spread| spread.text(0))
    };
    let latency = |figure: &dyn Fn(&Round) -> u64| {
        let spread = Spread::of(rounds.iter().map(|round| figure(round) as f64));
        let text = |ns: f64| micros(ns as u64);
        spread.map_or("-".to_owned(), |spread| {
            format!("{} [{}-{}]", text(spread.median), text(spread.min), text(spread.max))
        })
    };
    format!(
        "| {label} | {} | {} | {} | {} | {} | {} | {} |\n",
        spread(&|round| round.gone.map(|(gone, _)| gone.as_secs_f64() * 1e3)),
        spread(&|round| round.gone.map(|(_, counted)| counted.as_secs_f64() * 1e3)),
        spread(&|round| Some(round.cpu_ns as f64 / 1e6)),
        latency(&|round| round.before.max_ns()),
        latency(&|round| round.during.percentile_ns(99.0)),
        latency(&|round| round.during.percentile_ns(99.9)),
        latency(&|round| round.during.max_ns()),
    )
}

/// A round as raw records have it: `seconds` is the time until the keys were gone.
fn sample(round: &Round) -> Sample {
    let percentile = |percent| round.during.percentile_ns(percent);
    Sample {
        requests: round.during.count(),
        seconds: round.gone.map_or(PATIENCE, |(gone, _)| gone).as_secs_f64(),
        cpu_ns: round.cpu_ns,
        errors: 0,
        absent: 0,
        error_first: None,
        latency_ns: [percentile(50.0), percentile(99.0), percentile(99.9), round.during.max_ns()],
    }
}
