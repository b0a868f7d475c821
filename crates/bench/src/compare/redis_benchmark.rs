//! The suite `redis-benchmark`: the real redis-benchmark against each server, its own table recorded.
//! Read next: `../check.rs`, which compares it with our generator.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::compare::{Context, progress};
use crate::peers::{Kind, find_on_path};
use crate::process::cpu_ns;

/// A line of redis-benchmark's CSV.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) test: String,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    raw: String,
}

/// What a run of redis-benchmark printed, and the CPU it used itself.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) lines: Vec<Line>,
    pub(crate) client_cpu_ns: u64,
}

/// Runs redis-benchmark with `--csv` and the given arguments.
pub(crate) fn run_program(program: &Path, port: u16, arguments: &[&str]) -> Result<Printed> {
    let mut child = Command::new(program)
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "--csv"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    // Its CPU time can only be read while it lives: the last reading is at most 5 ms short.
    let mut client_cpu_ns = 0;
    while child.try_wait()?.is_none() {
        client_cpu_ns = cpu_ns(child.id()).unwrap_or(client_cpu_ns).max(client_cpu_ns);
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "redis-benchmark failed: {}", output.status);
    Ok(Printed { lines: parse(&String::from_utf8_lossy(&output.stdout))?, client_cpu_ns })
}

/// Reads `"test","rps","avg_latency_ms",...` and the lines below; columns are found by name.
fn parse(text: &str) -> Result<Vec<Line>> {
    let mut rows = text.lines().filter(|line| line.starts_with('"'));
    let head: Vec<String> = fields(rows.next().context("redis-benchmark printed no table")?);
    let column = |name: &str| head.iter().position(|field| field == name);
    let (Some(rps), Some(p50), Some(p99)) =
        (column("rps"), column("p50_latency_ms"), column("p99_latency_ms"))
    else {
        bail!("redis-benchmark's table has other columns: {}", head.join(", "));
    };
    let line = |row: &str| {
        let fields = fields(row);
        let number = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
        let test = fields.first().context("a line without a test")?.clone();
        let missing = || format!("not a line of figures: {row}");
        Ok(Line {
            test,
            per_second: number(rps).with_context(missing)?,
            p50_ms: number(p50).with_context(missing)?,
            p99_ms: number(p99).with_context(missing)?,
            raw: row.to_owned(),
        })
    };
    rows.map(line).collect()
}

/// Fields of a line whose every field is quoted.
fn fields(row: &str) -> Vec<String> {
    row.trim().trim_matches('"').split("\",\"").map(str::to_owned).collect()
}

const TESTS: &str = "ping,set,get,incr,mset";

/// Runs the string tests of its default list with pipelines 1 and 16 against each server that speaks RESP.
pub(crate) fn run(cx: &Context) -> Result<()> {
    let Some(program) = find_on_path("redis-benchmark") else {
        return progress("redis-benchmark: the program is not on PATH; suite left out");
    };
    let rig = &cx.rig;
    let mut contenders =
        rig.start(&rig.launch_single(), |kind| !matches!(kind, Kind::Memcached | Kind::Null))?;
    let mut text = String::new();
    let mut records = Vec::new();
    for (pipeline, requests) in [("1", rig.scaled(300_000)), ("16", rig.scaled(2_000_000))] {
        let requests = requests.to_string();
        let mut by_test: BTreeMap<usize, (String, Vec<String>)> = BTreeMap::new();
        for contender in &mut contenders {
            progress(&format!("redis-benchmark: pipeline {pipeline}, {}", contender.label))?;
            let arguments = ["-t", TESTS, "-P", pipeline, "-n", &requests, "-r", "100000"];
            let printed = run_program(&program, contender.server.port, &arguments)?;
            for (index, line) in printed.lines.iter().enumerate() {
                let cell = format!("{:.0} ({} / {})", line.per_second, line.p50_ms, line.p99_ms);
                by_test.entry(index).or_insert_with(|| (line.test.clone(), Vec::new())).1.push(cell);
                records.push(format!("{},\"{}\",{pipeline},{}", cx.stamp(), contender.label, line.raw));
            }
        }
        let labels: Vec<&str> = contenders.iter().map(|contender| contender.label.as_str()).collect();
        text.push_str(&format!(
            "\n| -P {pipeline} -n {requests} | {} |\n|---|{}\n",
            labels.join(" | "),
            "---|".repeat(labels.len())
        ));
        for (test, cells) in by_test.values() {
            text.push_str(&format!("| {test} | {} |\n", cells.join(" | ")));
        }
    }
    let head = "date,machine,server,pipeline,test,rps,avg_latency_ms,min_latency_ms,p50_latency_ms,p95_latency_ms,p99_latency_ms,max_latency_ms";
    cx.places.append_records("redis-benchmark", head, &records)?;
    let method = format!(
        "`redis-benchmark -t {TESTS} -r 100000`, on the load's core, one server after the other: requests a second \
         (p50 / p99 in ms, closed loop at saturation). Often it is the limit itself."
    );
    cx.finish("redis-benchmark", "redis-benchmark", &format!("{method}\n{text}"), &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_table_is_read_by_column_names() {
        let text = "warning: something\n\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\
            \"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
            \"MSET (10 keys)\",\"100.50\",\"0.1\",\"0.2\",\"0.3\",\"0.4\",\"0.5\",\"0.6\"\n";
        let lines = parse(text).unwrap();
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].test.as_str(), lines[0].per_second), ("MSET (10 keys)", 100.5));
        assert_eq!((lines[0].p50_ms, lines[0].p99_ms), (0.3, 0.5));
        assert!(parse("").is_err());
        assert!(parse("\"test\",\"speed\"\n").is_err());
    }
}
