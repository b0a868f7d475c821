//! What a suite measured, as Markdown tables, a chart and CSV records. Read next: `document.rs`.

use crate::compare::sample::{Sample, Spread};
use crate::outcome::micros;
use crate::peers::Kind;
use larder_policy::svg::{Bars, Series};

/// One column: a server in the role it has in a suite.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) label: String,
    pub(crate) kind: Kind,
    pub(crate) version: String,
}

/// A measured row: the rounds of each column; a column that took no part has none.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) samples: Vec<Vec<Sample>>,
    /// The largest ratio of Larder's CPU to that of a kind of server that the project sets itself.
    pub(crate) targets: Vec<(Kind, f64)>,
}

/// All rows of a suite.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) suite: &'static str,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
}

type Measure = fn(&Sample) -> f64;

impl Table {
    /// A Markdown table of one figure: median and spread.
    pub(crate) fn markdown(&self, heading: &str, measure: Measure, format: fn(Spread) -> String) -> String {
        let mut text = self.head(heading);
        for row in &self.rows {
            text.push_str(&format!("| {} |", row.name));
            for samples in &row.samples {
                let spread = Spread::of(samples.iter().map(measure));
                let errors: u64 = samples.iter().map(|sample| sample.errors).sum();
                let cell = spread.map_or("-".to_owned(), format);
                let error = samples.iter().find_map(|sample| sample.error_first.clone()).unwrap_or_default();
                let note = if errors == 0 { String::new() } else { format!(" ({errors} errors: {error})") };
                text.push_str(&format!(" {cell}{note} |"));
            }
            text.push('\n');
        }
        text
    }

    /// CPU for each operation in nanoseconds.
    pub(crate) fn cpu(&self) -> String {
        self.markdown("CPU ns per operation", Sample::cpu_ns_per_request, |spread| spread.text(0))
    }

    /// Operations a second.
    pub(crate) fn throughput(&self) -> String {
        self.markdown("operations a second", Sample::per_second, |spread| {
            larder_policy::svg::short(spread.median)
        })
    }

    /// Latencies of each row and column.
    pub(crate) fn latencies(&self) -> String {
        let mut text = self.head("latency in microseconds");
        for row in &self.rows {
            let cells = row.samples.iter().map(|samples| latency_text(samples).unwrap_or("-".to_owned()));
            text.push_str(&format!("| {} | {} |\n", row.name, cells.collect::<Vec<_>>().join(" | ")));
        }
        text
    }

    /// Larder's CPU for each operation divided by each other's, beside the targets.
    pub(crate) fn ratios(&self) -> String {
        let Some(ours) = self.columns.iter().position(|column| column.kind == Kind::Larder) else {
            return "Larder took no part: no ratios.\n".to_owned();
        };
        let mut text = self.head("larder's CPU per operation / the other's");
        for row in &self.rows {
            text.push_str(&format!("| {} |", row.name));
            for (index, samples) in row.samples.iter().enumerate() {
                let ours_samples = row.samples.get(ours).map(Vec::as_slice).unwrap_or_default();
                let spread = Spread::of_ratios(ours_samples, samples, Sample::cpu_ns_per_request);
                let cell = match spread {
                    Some(spread) if index != ours => {
                        spread.text(2) + &self.verdict(row, index, spread.median)
                    }
                    _ => "-".to_owned(),
                };
                text.push_str(&format!(" {cell} |"));
            }
            text.push('\n');
        }
        text
    }

    fn verdict(&self, row: &Row, column: usize, ratio: f64) -> String {
        let kind = self.columns.get(column).map(|column| column.kind);
        let target = row.targets.iter().find(|(target, _)| Some(*target) == kind);
        target.map_or(String::new(), |&(_, most)| {
            let verdict = if ratio <= most { "met" } else { "**missed**" };
            format!(", at most {most}: {verdict}")
        })
    }

    fn head(&self, heading: &str) -> String {
        let labels: Vec<&str> = self.columns.iter().map(|column| column.label.as_str()).collect();
        format!("| {heading} | {} |\n|---|{}\n", labels.join(" | "), "---|".repeat(labels.len()))
    }

    /// Grouped bars: each server's figure divided by redis-server's in the same round (by the first column's where
    /// redis-server took no part), so that rows of very different size fit one chart.
    pub(crate) fn bars(&self, title: &str, measure: Measure) -> String {
        let base = self.columns.iter().position(|column| column.kind == Kind::Redis).unwrap_or(0);
        let ratio = |row: &Row, index: usize| {
            let (ours, others) = (row.samples.get(index)?, row.samples.get(base)?);
            Spread::of_ratios(ours, others, measure).map(|spread| spread.median)
        };
        let series = self.columns.iter().enumerate().map(|(index, column)| Series {
            name: column.label.clone(),
            values: self.rows.iter().map(|row| ratio(row, index)).collect(),
        });
        let label = self.columns.get(base).map(|column| column.label.as_str()).unwrap_or_default();
        Bars {
            title: format!("{title} ({label} = 1)"),
            unit: "ratio".to_owned(),
            groups: self.rows.iter().map(|row| row.name.clone()).collect(),
            series: series.collect(),
        }
        .svg()
    }

    /// The raw records: one line for each server, row and round.
    pub(crate) fn csv(&self, stamp: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for row in &self.rows {
            for (column, samples) in self.columns.iter().zip(&row.samples) {
                for (round, sample) in samples.iter().enumerate() {
                    let [p50, p99, p999, max] = sample.latency_ns;
                    lines.push(format!(
                        "{stamp},{},\"{}\",\"{}\",{},{round},{},{:.6},{},{},{},{p50},{p99},{p999},{max}",
                        self.suite,
                        row.name,
                        column.label,
                        column.version,
                        sample.requests,
                        sample.seconds,
                        sample.cpu_ns,
                        sample.errors,
                        sample.absent
                    ));
                }
            }
        }
        lines
    }
}

/// The first line of the records that [`Table::csv`] writes.
pub(crate) const CSV_HEAD: &str = "date,machine,suite,cell,server,version,round,requests,seconds,cpu_ns,errors,absent,p50_ns,p99_ns,p999_ns,max_ns";

/// Latencies of some rounds in microseconds, for tables.
fn latency_text(samples: &[Sample]) -> Option<String> {
    let median = |index: usize| {
        Spread::of(samples.iter().map(|sample| sample.latency_ns.get(index).copied().unwrap_or(0) as f64))
    };
    let part = |index: usize| Some(micros(median(index)?.median as u64));
    let worst = median(3)?;
    Some(format!(
        "{} / {} / {} / {} (worst {})",
        part(0)?,
        part(1)?,
        part(2)?,
        part(3)?,
        micros(worst.max as u64)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu_ns: u64) -> Sample {
        let latency_ns = [1000, 2000, 3000, 4000];
        Sample { requests: 10, seconds: 1.0, cpu_ns, errors: 0, absent: 0, error_first: None, latency_ns }
    }

    fn table() -> Table {
        let column = |label: &str, kind| Column { label: label.to_owned(), kind, version: "1.0".to_owned() };
        Table {
            suite: "cpu",
            columns: vec![
                column("larder", Kind::Larder),
                column("redis", Kind::Redis),
                column("null", Kind::Null),
            ],
            rows: vec![Row {
                name: "pipeline 1".to_owned(),
                samples: vec![
                    vec![sample(100), sample(110)],
                    vec![sample(200), sample(200)],
                    vec![sample(50)],
                ],
                targets: vec![(Kind::Redis, 0.6), (Kind::Null, 1.1)],
            }],
        }
    }

    #[test]
    fn ratios_are_judged_against_their_targets() {
        let text = table().ratios();
        assert!(text.contains("0.53 [0.50-0.55], at most 0.6: met"), "{text}");
        assert!(text.contains("2.00 [2.00-2.00], at most 1.1: **missed**"), "{text}");
    }

    #[test]
    fn every_round_is_recorded_with_as_many_fields_as_the_head() {
        let lines = table().csv("2026-01-01,machine");
        assert_eq!(lines.len(), 5);
        let fields = CSV_HEAD.split(',').count();
        assert!(lines.iter().all(|line| line.split(',').count() == fields), "{lines:?}");
    }

    #[test]
    fn latencies_are_the_medians_over_rounds() {
        assert_eq!(latency_text(&[sample(1), sample(2)]).unwrap(), "1.0 / 2.0 / 3.0 / 4.0 (worst 4.0)");
        assert_eq!(latency_text(&[]), None);
    }
}
