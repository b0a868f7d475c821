//! The simulator's command line: what `larder sim FILE` does. Tables on the output, progress on the terminal.
//! Invariant: nothing is written to the output but the report. Read next: `replay.rs`.

use super::replay::{Outcome, Subject, replay};
use super::trace::{Operation, Trace};
use crate::random::mix;
use crate::sketch::Shards;
use crate::svg::{Lines, Series};
use std::fs::{self, File};
use std::io::{self, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The trace.
    pub file: PathBuf,
    /// Through what it is replayed.
    pub subjects: Vec<Subject>,
    /// Sizes as shares of the trace's footprint.
    pub shares: Vec<f64>,
    /// Counts objects: every size is one.
    pub is_by_objects: bool,
    /// Where a chart of miss ratios over sizes goes; its sizes are twenty steps up to the largest share.
    pub chart: Option<PathBuf>,
    /// Compares the live estimator of hit ratios with full simulation.
    pub is_estimating: bool,
    /// The share of misses saved against this subject is shown.
    pub against: Subject,
}

/// How to ask.
pub const USAGE: &str = "usage: larder sim FILE [--policies NAME,NAME] [--sizes PERCENT,PERCENT] [--objects]
                       [--svg FILE] [--against NAME] [--estimate]

Replays a trace through the eviction policies: KVT1 (compressed with zstd), CSV (.csv), or the output of
MONITOR (.monitor, .log, .txt). Misses count from the first request on.

  --policies  which; `all` for every one there is, or names such as adaptive, lru, redis-lru, belady
  --sizes     sizes of the cache in percent of the bytes of all keys (0.1,1,10,20)
  --objects   every object counts as one, whatever its size
  --svg       draws miss ratios over sizes, up to the largest size
  --estimate  shows what the server's estimator of hit ratios (SHARDS) says of LRU, from half to eight times each size
  --against   whom the misses are compared with (redis-lru)
";

/// What is replayed unless told.
const SUBJECTS: &[&str] = &["adaptive", "lru", "lfu", "s3fifo", "wtinylfu", "gdsf", "redis-lru", "belady"];
const SHARES: &[f64] = &[0.001, 0.01, 0.1, 0.2];
const CHART_STEPS: u32 = 20;

impl Options {
    /// Reads the words behind `sim`. The error is a sentence for the user.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let mut words = words.into_iter();
        let named = SUBJECTS.iter().filter_map(|name| Subject::by_name(name));
        let mut options = Options {
            file: PathBuf::new(),
            subjects: named.collect(),
            shares: SHARES.to_vec(),
            is_by_objects: false,
            chart: None,
            is_estimating: false,
            against: Subject::RedisLru,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--policies" => options.subjects = subjects(&value()?)?,
                "--sizes" => options.shares = shares(&value()?)?,
                "--objects" => options.is_by_objects = true,
                "--estimate" => options.is_estimating = true,
                "--svg" => options.chart = Some(PathBuf::from(value()?)),
                "--against" => options.against = subject(&value()?)?,
                word if word.starts_with('-') => return Err(format!("{word} is no option\n\n{USAGE}")),
                file if options.file.as_os_str().is_empty() => options.file = PathBuf::from(file),
                other => return Err(format!("{other} is one file too many")),
            }
        }
        if options.file.as_os_str().is_empty() { Err(USAGE.to_owned()) } else { Ok(options) }
    }
}

fn subject(name: &str) -> Result<Subject, String> {
    Subject::by_name(name).ok_or_else(|| {
        let names: Vec<&str> = Subject::all().map(Subject::name).collect();
        format!("{name} is no policy; there are {}", names.join(", "))
    })
}

fn subjects(text: &str) -> Result<Vec<Subject>, String> {
    if text == "all" {
        return Ok(Subject::all().collect());
    }
    text.split(',').map(subject).collect()
}

fn shares(text: &str) -> Result<Vec<f64>, String> {
    let share = |word: &str| match word.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent / 100.0),
        _ => Err(format!("{word} is no size: percent of the footprint, above 0 and at most 100")),
    };
    text.split(',').map(share).collect()
}

/// Replays and reports. The error is a sentence for the user.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<(), String> {
    let mut trace = read(&options.file)?;
    if options.is_by_objects || !trace.has_sizes() {
        trace = trace.with_unit_sizes();
    }
    let footprint = trace.footprint();
    let mut subjects = options.subjects.clone();
    if !subjects.contains(&options.against) {
        subjects.push(options.against);
    }
    let capacities: Vec<u64> = options.shares.iter().map(|share| capacity(footprint, *share)).collect();
    let outcomes = replay(&trace, &subjects, &capacities, &mut Bar::new("replaying").shown());
    let unit = if trace.requests.iter().all(|request| request.bytes == 1) { "objects" } else { "bytes" };
    let (requests, keys) = (trace.requests.len(), trace.keys);
    let report = |out: &mut dyn Write| -> io::Result<()> {
        writeln!(out, "{requests} requests for {keys} keys of {footprint} {unit}")?;
        for (share, capacity) in options.shares.iter().zip(&capacities) {
            writeln!(out, "\n{}% of the footprint, {capacity} {unit}", share * 100.0)?;
            let here: Vec<&Outcome> =
                outcomes.iter().filter(|outcome| outcome.capacity == *capacity).collect();
            table(&here, options.against, out)?;
        }
        Ok(())
    };
    report(out).map_err(|error| error.to_string())?;
    if options.is_estimating {
        estimate(&trace, &capacities, out).map_err(|error| error.to_string())?;
    }
    match &options.chart {
        Some(path) => draw(&trace, &subjects, options, path),
        None => Ok(()),
    }
}

/// Half to eight times a size.
const ESTIMATED: [f64; 5] = [0.5, 1.0, 2.0, 4.0, 8.0];

fn estimate(trace: &Trace, capacities: &[u64], out: &mut dyn Write) -> io::Result<()> {
    let mut shards = Shards::new();
    for request in trace.requests.iter().filter(|request| request.operation == Operation::Get) {
        shards.count(1);
        shards.used(mix(u64::from(request.key) + 1), request.bytes.max(1));
    }
    let curve = shards.curve();
    let times = |capacity: &u64| ESTIMATED.map(|times| ((*capacity as f64 * times) as u64).max(1));
    let sizes: Vec<u64> = capacities.iter().flat_map(times).collect();
    let exact = replay(trace, &[Subject::ExactLru], &sizes, &mut Bar::new("estimating").shown());
    writeln!(out, "\n{:>14} {:>10} {:>10} {:>8}", "size", "LRU hits", "estimate", "points")?;
    let mut sum = 0.0;
    for outcome in &exact {
        let (hits, estimate) = (1.0 - outcome.tally.miss_ratio(), curve.hit_ratio(outcome.capacity));
        sum += (hits - estimate).abs();
        let points = 100.0 * (estimate - hits);
        writeln!(out, "{:>14} {hits:>10.5} {estimate:>10.5} {points:>8.2}", outcome.capacity)?;
    }
    let mean = 100.0 * sum / exact.len().max(1) as f64;
    writeln!(out, "mean absolute error {mean:.2} points, {} bytes", shards.memory())
}

fn capacity(footprint: u64, share: f64) -> u64 {
    ((footprint as f64 * share) as u64).max(1)
}

fn table(outcomes: &[&Outcome], against: Subject, out: &mut dyn Write) -> io::Result<()> {
    let base = outcomes.iter().find(|outcome| outcome.subject == against).map(|outcome| outcome.tally);
    writeln!(
        out,
        "{:16} {:>10} {:>10} {:>14} {:>14}",
        "policy", "hit ratio", "by byte", "misses saved", "bytes saved"
    )?;
    for outcome in outcomes {
        let (tally, base) = (outcome.tally, base.unwrap_or(outcome.tally));
        let saved = |mine: u64, theirs: u64| 100.0 * (1.0 - mine as f64 / theirs.max(1) as f64);
        writeln!(
            out,
            "{:16} {:>10.5} {:>10.5} {:>13.2}% {:>13.2}%",
            outcome.subject.name(),
            1.0 - tally.miss_ratio(),
            1.0 - tally.byte_miss_ratio(),
            saved(tally.misses, base.misses),
            saved(tally.bytes_missed, base.bytes_missed)
        )?;
    }
    Ok(())
}

/// Reads a trace of whatever format the name tells.
fn read(path: &Path) -> Result<Trace, String> {
    let text =
        || File::open(path).map(BufReader::new).map_err(|error| format!("{}: {error}", path.display()));
    let trace = match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Trace::parse_csv(text()?),
        Some("monitor" | "log" | "txt") => Trace::parse_monitor(text()?),
        _ => Trace::read_kvt1(path, usize::MAX),
    };
    trace.map_err(|error| format!("{}: {error}", path.display()))
}

fn draw(trace: &Trace, subjects: &[Subject], options: &Options, path: &Path) -> Result<(), String> {
    let largest = options.shares.iter().copied().fold(0.0, f64::max);
    let step = largest / f64::from(CHART_STEPS);
    let footprint = trace.footprint();
    let sizes: Vec<u64> =
        (1..=CHART_STEPS).map(|index| capacity(footprint, step * f64::from(index))).collect();
    let outcomes = replay(trace, subjects, &sizes, &mut Bar::new("drawing").shown());
    let of = |subject: &Subject| Series {
        name: subject.name().to_owned(),
        values: std::iter::once(Some(1.0))
            .chain(outcomes.iter().filter(|o| o.subject == *subject).map(|o| Some(o.tally.miss_ratio())))
            .collect(),
    };
    let chart = Lines {
        title: format!(
            "Miss ratio by size of the cache: {}",
            path.file_stem().unwrap_or_default().to_string_lossy()
        ),
        unit: "misses a get".to_owned(),
        step: step * 100.0,
        step_unit: "%".to_owned(),
        series: subjects.iter().map(of).collect(),
        logarithmic: false,
    };
    fs::write(path, chart.svg()).map_err(|error| format!("{}: {error}", path.display()))
}

/// A progress bar on the terminal, if standard error is one.
struct Bar {
    what: &'static str,
    is_shown: bool,
    percent: usize,
}

const BAR_WIDTH: usize = 40;

impl Bar {
    fn new(what: &'static str) -> Self {
        Bar { what, is_shown: io::stderr().is_terminal(), percent: usize::MAX }
    }

    fn shown(mut self) -> impl FnMut(usize, usize) {
        move |done, all| {
            let percent = done * 100 / all.max(1);
            if self.is_shown && percent != self.percent {
                self.percent = percent;
                let filled = percent * BAR_WIDTH / 100;
                let bar = format!("{}{}", "#".repeat(filled), ".".repeat(BAR_WIDTH - filled));
                let end = if done >= all { "\n" } else { "" };
                let _ = write!(io::stderr(), "\r{} [{bar}] {percent:3}%{end}", self.what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, String> {
        Options::parse(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn options_are_read_and_wrong_ones_named() {
        let options = parse(&["t.csv", "--policies", "lru,arc", "--sizes", "5%,50", "--objects"]).unwrap();
        assert_eq!(options.subjects.len(), 2);
        assert_eq!(options.shares, [0.05, 0.5]);
        assert!(options.is_by_objects);
        assert!(parse(&["t.csv", "--policies", "lruu"]).unwrap_err().contains("adaptive"));
        assert!(parse(&["t.csv", "--sizes", "0"]).unwrap_err().contains("no size"));
        assert!(parse(&["t.csv", "--sizes"]).unwrap_err().contains("needs a value"));
        assert!(parse(&["a", "b"]).is_err() && parse(&["--x"]).is_err() && parse(&[]).is_err());
        assert_eq!(parse(&["t", "--policies", "all"]).unwrap().subjects.len(), Subject::all().count());
    }

    #[test]
    fn every_name_finds_its_subject() {
        for subject in Subject::all() {
            assert_eq!(Subject::by_name(subject.name()), Some(subject));
        }
    }

    #[test]
    fn a_report_has_a_line_for_each_policy_and_size_and_a_chart() {
        let folder = std::env::temp_dir().join(format!("larder-sim-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, chart) = (folder.join("t.csv"), folder.join("t.svg"));
        let lines: String = (0..3000u32).map(|i| format!("{i},k{},{}\n", i * i % 97, 10 + i % 7)).collect();
        fs::write(&file, lines).unwrap();
        let words = [
            file.to_str().unwrap(),
            "--policies",
            "all",
            "--sizes",
            "10,50",
            "--svg",
            chart.to_str().unwrap(),
            "--estimate",
        ];
        let mut out = Vec::new();
        run(&parse(&words).unwrap(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for subject in Subject::all() {
            let starts = |line: &&str| line.split(' ').next() == Some(subject.name());
            assert_eq!(text.lines().filter(starts).count(), 2, "{}", subject.name());
        }
        assert!(text.contains("mean absolute error"));
        assert!(fs::read_to_string(&chart).unwrap().contains("belady"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
