//! Figures of several rounds, a line for each thing measured and a column for each server, with what Larder aims at.
//! Read next: `mod.rs`.

use crate::compare::sample::Spread;
use crate::peers::{Kind, Peer};
use larder_policy::svg::{Bars, Series};

/// The first line of the records.
pub(super) const CSV_HEAD: &str = "date,machine,what,server,version,round,value";

/// Figures below this are shown without a ratio to them.
const RATIO_OF_MIN: f64 = 0.01;

/// What Larder's figure should be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Aim {
    /// Nothing is aimed at.
    None,
    /// redis-server's is at least so many times Larder's.
    RedisTimes(f64),
    /// It is no more than this.
    AtMost(f64),
}

/// What was measured of one thing.
pub(super) struct Line {
    pub(super) name: String,
    /// Decimals shown.
    pub(super) decimals: usize,
    pub(super) aim: Aim,
    /// The rounds of each server, in the order of the columns.
    pub(super) rounds: Vec<Vec<f64>>,
}

/// Lines under one heading.
pub(super) struct Sheet {
    heading: &'static str,
    columns: Vec<(Kind, String, String)>,
    lines: Vec<Line>,
}

impl Sheet {
    /// A sheet without lines, with a column for each of `peers`.
    pub(super) fn new(heading: &'static str, peers: &[&Peer]) -> Sheet {
        let columns = peers.iter().map(|peer| (peer.kind, peer.kind.name().to_owned(), peer.version.clone()));
        Sheet { heading, columns: columns.collect(), lines: Vec::new() }
    }

    /// Adds a figure to the line of that name, which is begun where there is none.
    pub(super) fn add(&mut self, column: usize, name: &str, (decimals, aim): (usize, Aim), value: f64) {
        let at = self.lines.iter().position(|line| line.name == name).unwrap_or_else(|| {
            let rounds = vec![Vec::new(); self.columns.len()];
            self.lines.push(Line { name: name.to_owned(), decimals, aim, rounds });
            self.lines.len() - 1
        });
        if let Some(rounds) = self.lines.get_mut(at).and_then(|line| line.rounds.get_mut(column)) {
            rounds.push(value);
        }
    }

    /// The column of a kind of server.
    fn column(&self, kind: Kind) -> Option<usize> {
        self.columns.iter().position(|(of, ..)| *of == kind)
    }

    fn median(&self, line: &Line, kind: Kind) -> Option<f64> {
        let rounds = line.rounds.get(self.column(kind)?)?;
        Spread::of(rounds.iter().copied()).map(|spread| spread.median)
    }

    /// What stands in the last column of a line.
    fn verdict(&self, line: &Line) -> String {
        let said = |met: bool| if met { "met" } else { "**missed**" };
        let ours = self.median(line, Kind::Larder);
        match line.aim {
            Aim::None => ratio(ours, self.median(line, Kind::Redis)).unwrap_or_default(),
            Aim::RedisTimes(least) => {
                let Some((ours, theirs)) = ours.zip(self.median(line, Kind::Redis)) else {
                    return String::new();
                };
                let times = theirs / ours;
                format!("{times:.2} times as fast, at least {least}: {}", said(times >= least))
            }
            Aim::AtMost(most) => {
                ours.map_or_else(String::new, |ours| format!("at most {most}: {}", said(ours <= most)))
            }
        }
    }

    /// The table.
    pub(super) fn markdown(&self) -> String {
        let labels: Vec<String> =
            self.columns.iter().map(|(_, name, version)| format!("{name} {version}")).collect();
        let rule = "---|".repeat(labels.len() + 2);
        let mut text = format!("| {} | {} | larder |\n|{rule}\n", self.heading, labels.join(" | "));
        for line in &self.lines {
            let cells = line.rounds.iter().map(|rounds| {
                Spread::of(rounds.iter().copied())
                    .map_or_else(|| "-".to_owned(), |spread| spread.text(line.decimals))
            });
            let cells: Vec<String> = cells.collect();
            text.push_str(&format!("| {} | {} | {} |\n", line.name, cells.join(" | "), self.verdict(line)));
        }
        text
    }

    /// The lines in which Larder is to be faster than redis-server, as bars in percent of redis-server's median.
    pub(super) fn bars(&self, title: &str) -> String {
        let timed: Vec<&Line> =
            self.lines.iter().filter(|line| matches!(line.aim, Aim::RedisTimes(_))).collect();
        let series = self.columns.iter().map(|(kind, name, version)| Series {
            name: format!("{name} {version}"),
            values: timed
                .iter()
                .map(|line| {
                    let whole = self.median(line, Kind::Redis)?;
                    Some(self.median(line, *kind)? / whole * 100.0)
                })
                .collect(),
        });
        let groups = timed.iter().map(|line| line.name.clone()).collect();
        Bars { title: title.to_owned(), unit: "%".to_owned(), groups, series: series.collect() }.svg()
    }

    /// A line for each round of each server.
    pub(super) fn csv(&self, stamp: &str) -> Vec<String> {
        let mut records = Vec::new();
        for line in &self.lines {
            for ((_, name, version), rounds) in self.columns.iter().zip(&line.rounds) {
                for (round, value) in rounds.iter().enumerate() {
                    records.push(format!(
                        "{stamp},\"{}\",{name},{version},{},{value:.4}",
                        line.name,
                        round + 1
                    ));
                }
            }
        }
        records
    }
}

fn ratio(ours: Option<f64>, theirs: Option<f64>) -> Option<String> {
    let (ours, theirs) = ours.zip(theirs)?;
    // Of next to nothing there is no ratio.
    (theirs >= RATIO_OF_MIN).then(|| format!("{:.2} of redis-server's", ours / theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet {
        let column = |kind: Kind| (kind, kind.name().to_owned(), "1.0".to_owned());
        let mut sheet = Sheet {
            heading: "s",
            columns: vec![column(Kind::Larder), column(Kind::Redis)],
            lines: Vec::new(),
        };
        for (column, value) in [(0, 1.0), (0, 3.0), (1, 6.0)] {
            sheet.add(column, "load", (1, Aim::RedisTimes(2.0)), value);
        }
        sheet.add(0, "p99", (2, Aim::AtMost(1.5)), 1.75);
        sheet.add(1, "bytes", (0, Aim::None), 8.0);
        sheet
    }

    #[test]
    fn figures_are_judged_by_what_is_aimed_at() {
        let text = sheet().markdown();
        assert!(
            text.contains("| load | 2.0 [1.0-3.0] | 6.0 [6.0-6.0] | 3.00 times as fast, at least 2: met |"),
            "{text}"
        );
        assert!(text.contains("| p99 | 1.75 [1.75-1.75] | - | at most 1.5: **missed** |"), "{text}");
        assert!(text.contains("| bytes | - | 8 [8-8] |  |"), "{text}");
    }

    #[test]
    fn every_round_is_recorded() {
        let records = sheet().csv("today,here");
        assert_eq!(records.len(), 5);
        assert!(
            records.iter().all(|line| line.split(',').count() == CSV_HEAD.split(',').count()),
            "{records:?}"
        );
    }
}
