//! What `larder sim` does: reads a trace, replays it, and reports. Progress is shown on the terminal.
//! Invariant: nothing is written to the output but the report. Read next: `options.rs`, `read.rs`, `replay.rs`.

use super::options::{Asked, Options, Size, help};
use super::read::{self, Format};
use super::replay::{Outcome, Subject, replay_each};
use super::trace::{Operation, Trace, TraceError};
use crate::random::mix;
use crate::sketch::Shards;
use crate::svg::{Lines, Series};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

const CHART_STEPS: u32 = 20;
/// Half to eight times a size.
const ESTIMATED: [f64; 5] = [0.5, 1.0, 2.0, 4.0, 8.0];

/// Does what the words behind `larder sim` ask for. The error is a sentence for the user.
pub fn run(words: impl IntoIterator<Item = OsString>, out: &mut dyn Write) -> Result<(), String> {
    let written = match Options::parse(words)? {
        Asked::Help => out.write_all(help().as_bytes()),
        Asked::Replay(options) => report(&options, out)?,
    };
    match written {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| format!("cannot write the report: {error}")),
    }
}

/// What is replayed.
struct Plan {
    trace: Trace,
    footprint: u64,
    unit: &'static str,
    subjects: Vec<Subject>,
    /// Sizes that are reported, drawn, and estimated.
    sizes: Vec<u64>,
    drawn: Vec<u64>,
    estimated: Vec<u64>,
}

impl Plan {
    fn new(trace: Trace, options: &Options) -> Plan {
        let trace = if options.is_by_objects || !trace.has_sizes() { trace.with_unit_sizes() } else { trace };
        let footprint = trace.footprint();
        let mut subjects = options.subjects.clone();
        if !subjects.contains(&options.against) {
            subjects.push(options.against);
        }
        let of = |size: &Size| match size {
            Size::Share(share) => ((footprint as f64 * share) as u64).max(1),
            Size::Fixed(bytes) => *bytes,
        };
        let sizes: Vec<u64> = options.sizes.iter().map(of).collect();
        let largest = sizes.iter().copied().max().unwrap_or(1);
        let step = |step: u32| (largest * u64::from(step) / u64::from(CHART_STEPS)).max(1);
        let drawn = if options.chart.is_some() { (1..=CHART_STEPS).map(step).collect() } else { Vec::new() };
        let times = |size: &u64| ESTIMATED.map(|times| ((*size as f64 * times) as u64).max(1));
        let estimated =
            if options.is_estimating { sizes.iter().flat_map(times).collect() } else { Vec::new() };
        let is_by_objects = trace.requests.iter().all(|request| request.bytes == 1);
        let unit = if is_by_objects { "objects" } else { "bytes" };
        Plan { trace, footprint, unit, subjects, sizes, drawn, estimated }
    }

    /// Every subject at every size that is asked for, each once.
    fn cells(&self) -> Vec<(Subject, u64)> {
        let sizes: BTreeSet<u64> = self.sizes.iter().chain(&self.drawn).copied().collect();
        let of = |subject: &Subject| sizes.iter().map(|size| (*subject, *size)).collect::<Vec<_>>();
        let mut cells: Vec<_> = self.subjects.iter().flat_map(of).collect();
        for size in &self.estimated {
            if !cells.contains(&(Subject::ExactLru, *size)) {
                cells.push((Subject::ExactLru, *size));
            }
        }
        cells
    }
}

/// Reads, replays and reports.
fn report(options: &Options, out: &mut dyn Write) -> Result<io::Result<()>, String> {
    let name = options.file.display();
    let read::Read { trace, format, passed_over } =
        open(options).map_err(|error| format!("{name}: {error}"))?;
    let plan = Plan::new(trace, options);
    let jobs = match options.jobs {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        jobs => jobs,
    };
    let mut bar = Bar::new("replaying");
    let outcomes = replay_each(&plan.trace, &plan.cells(), jobs, &mut |done, all| bar.show(done, all));
    if let Some(path) = &options.chart {
        draw(&plan, &outcomes, &options.file, path)?;
    }
    if options.is_csv {
        return Ok(rows(&plan, &outcomes, out));
    }
    let write = |out: &mut dyn Write| -> io::Result<()> {
        let (requests, keys, unit) = (plan.trace.requests.len(), plan.trace.keys, plan.unit);
        writeln!(out, "{requests} requests for {keys} keys of {} {unit} ({format})", plan.footprint)?;
        if format == Format::Monitor && passed_over > 0 {
            writeln!(out, "{passed_over} commands that touch no value, or are not known, were passed over")?;
        }
        for size in &plan.sizes {
            let share = *size as f64 / plan.footprint.max(1) as f64 * 100.0;
            writeln!(out, "\n{size} {unit}, {share:.3}% of the footprint")?;
            table(&at(&outcomes, *size, &plan.subjects), options.against, out)?;
        }
        if options.is_estimating { estimate(&plan, &outcomes, out) } else { Ok(()) }
    };
    Ok(write(out))
}

/// Reads the trace, with progress where its length is known.
fn open(options: &Options) -> Result<read::Read, TraceError> {
    if options.file == Path::new("-") {
        return Trace::read(io::stdin().lock(), options.columns);
    }
    let file = File::open(&options.file)?;
    let all = file.metadata()?.len();
    let mut bar = Bar::new("reading");
    let read = Trace::read(Watched { file, done: 0, all, bar: &mut bar }, options.columns)?;
    bar.show(all, all);
    Ok(read)
}

/// A file that shows how far it has been read.
struct Watched<'a> {
    file: File,
    done: u64,
    all: u64,
    bar: &'a mut Bar,
}

impl Read for Watched<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(out)?;
        self.done += read as u64;
        // The last step is shown when what was read has been understood.
        if self.done < self.all {
            self.bar.show(self.done, self.all);
        }
        Ok(read)
    }
}

/// The outcomes at a size, in the order of the subjects.
fn at<'a>(outcomes: &'a [Outcome], size: u64, subjects: &[Subject]) -> Vec<&'a Outcome> {
    let of = |subject: &Subject| {
        outcomes.iter().find(|outcome| outcome.capacity == size && outcome.subject == *subject)
    };
    subjects.iter().filter_map(of).collect()
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

/// Every outcome as comma-separated values.
fn rows(plan: &Plan, outcomes: &[Outcome], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "policy,capacity,footprint,gets,misses,bytes,bytes_missed,hit_ratio,byte_hit_ratio")?;
    for outcome in outcomes {
        let (name, tally) = (outcome.subject.name(), outcome.tally);
        writeln!(
            out,
            "{name},{},{},{},{},{},{},{:.6},{:.6}",
            outcome.capacity,
            plan.footprint,
            tally.gets,
            tally.misses,
            tally.bytes,
            tally.bytes_missed,
            1.0 - tally.miss_ratio(),
            1.0 - tally.byte_miss_ratio()
        )?;
    }
    Ok(())
}

fn estimate(plan: &Plan, outcomes: &[Outcome], out: &mut dyn Write) -> io::Result<()> {
    let mut shards = Shards::new();
    for request in plan.trace.requests.iter().filter(|request| request.operation == Operation::Get) {
        shards.count(1);
        shards.used(mix(u64::from(request.key) + 1), request.bytes.max(1));
    }
    let curve = shards.curve();
    writeln!(out, "\n{:>14} {:>10} {:>10} {:>8}", "size", "LRU hits", "estimate", "points")?;
    let mut sum = 0.0;
    for size in &plan.estimated {
        for outcome in at(outcomes, *size, &[Subject::ExactLru]) {
            let (hits, estimate) = (1.0 - outcome.tally.miss_ratio(), curve.hit_ratio(outcome.capacity));
            sum += (hits - estimate).abs();
            let points = 100.0 * (estimate - hits);
            writeln!(out, "{size:>14} {hits:>10.5} {estimate:>10.5} {points:>8.2}")?;
        }
    }
    let mean = 100.0 * sum / plan.estimated.len().max(1) as f64;
    writeln!(out, "mean absolute error {mean:.2} points, {} bytes", shards.memory())
}

fn draw(plan: &Plan, outcomes: &[Outcome], trace: &Path, path: &Path) -> Result<(), String> {
    let of = |subject: &Subject| {
        let value = |size: &u64| {
            let found = at(outcomes, *size, std::slice::from_ref(subject));
            found.first().map(|outcome| outcome.tally.miss_ratio())
        };
        let values = std::iter::once(Some(1.0)).chain(plan.drawn.iter().map(value)).collect();
        Series { name: subject.name().to_owned(), values }
    };
    let largest = plan.drawn.last().copied().unwrap_or(1) as f64 / plan.footprint.max(1) as f64;
    let chart = Lines {
        title: format!(
            "Miss ratio by size of the cache: {}",
            trace.file_name().unwrap_or_default().to_string_lossy()
        ),
        unit: "misses a get".to_owned(),
        step: largest / f64::from(CHART_STEPS) * 100.0,
        step_unit: "% of the footprint".to_owned(),
        series: plan.subjects.iter().map(of).collect(),
        logarithmic: false,
    };
    fs::write(path, chart.svg()).map_err(|error| format!("{}: {error}", path.display()))
}

/// A progress bar on the terminal, if standard error is one.
struct Bar {
    what: &'static str,
    is_shown: bool,
    percent: u64,
}

const BAR_WIDTH: usize = 40;

impl Bar {
    fn new(what: &'static str) -> Self {
        Bar { what, is_shown: io::stderr().is_terminal(), percent: u64::MAX }
    }

    fn show(&mut self, done: u64, all: u64) {
        let percent = done.saturating_mul(100) / all.max(1);
        if self.is_shown && percent != self.percent {
            self.percent = percent;
            let filled = percent as usize * BAR_WIDTH / 100;
            let bar = format!("{}{}", "#".repeat(filled), ".".repeat(BAR_WIDTH.saturating_sub(filled)));
            let end = if done >= all { "\n" } else { "" };
            let _ = write!(io::stderr(), "\r{:9} [{bar}] {percent:3}%{end}", self.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(words: &[&str]) -> Result<String, String> {
        let mut out = Vec::new();
        run(words.iter().map(OsString::from), &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn a_report_has_a_line_for_each_policy_and_size_and_a_chart() {
        let folder = std::env::temp_dir().join(format!("larder-sim-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, chart) = (folder.join("t.csv"), folder.join("t.svg"));
        let lines: String = (0..3000u32)
            .map(|i| format!("{i},k{},{},get,{}\n", i * i % 97, 10 + i % 7, i % 3 * 100))
            .collect();
        fs::write(&file, lines).unwrap();
        let (file, drawn) = (file.to_str().unwrap(), chart.to_str().unwrap());
        let text =
            ask(&[file, "--policies", "all", "--sizes", "10,500b", "--svg", drawn, "--estimate"]).unwrap();
        for subject in Subject::all() {
            let starts = |line: &&str| line.split(' ').next() == Some(subject.name());
            assert_eq!(text.lines().filter(starts).count(), 2, "{}", subject.name());
        }
        assert!(text.starts_with("3000 requests for ") && text.contains("(CSV)"), "{text}");
        assert!(text.contains("mean absolute error") && text.contains("\n500 bytes, "), "{text}");
        assert!(fs::read_to_string(&chart).unwrap().contains("belady"));
        // One thread or three, one chart more or less: a cell comes out the same.
        let rows =
            |jobs| ask(&[file, "--policies", "all", "--sizes", "10", "--csv", "--jobs", jobs]).unwrap();
        assert_eq!(rows("1"), rows("3"));
        assert_eq!(rows("1").lines().count(), 1 + Subject::all().count());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn help_and_errors_are_for_people() {
        assert!(ask(&["--help"]).unwrap().starts_with("Usage: larder sim TRACE"));
        assert!(ask(&["/nonexistent/trace"]).unwrap_err().starts_with("/nonexistent/trace: "));
    }
}
