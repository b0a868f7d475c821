//! docs/BENCHMARKS.md: each suite owns the text between its markers, so that one suite can be run again alone.
//! Invariant: replacing a section leaves every other byte of the file as it was. Read next: `mod.rs`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where results go.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The document.
    pub(crate) document: PathBuf,
    /// The directory of the charts.
    pub(crate) charts: PathBuf,
    /// The directory of the raw records.
    pub(crate) records: PathBuf,
}

const HEADING: &str = "# Benchmarks

Every figure here was produced by one command, `cargo run --release -p larder-bench -- compare`, after
`scripts/fetch-peers` and `cargo build --release`; each section says how it was called, and `--suite NAME` renews one
of them. It starts the servers itself, gives the server one core and the load another, lets the servers take turns
round by round, and reports medians with the smallest and the largest round in brackets. Servers share a machine whose
speed is not constant: compare ratios within a table, not absolute figures between tables. CPU per operation is the
server process's user and system time divided by the operations done; it holds even where the load generator is the
limit. The null server answers each complete request with a fixed reply and stores nothing: the limit of this kernel
and a plain epoll loop. The raw records of every round are in `bench/record/`.
";

impl Places {
    /// Replaces the section of `suite`.
    pub(crate) fn write_section(&self, suite: &str, title: &str, body: &str) -> Result<()> {
        write_section(&self.document, suite, title, body)
    }

    /// Writes a chart and returns the Markdown that shows it.
    pub(crate) fn write_chart(&self, name: &str, title: &str, svg: &str) -> Result<String> {
        fs::create_dir_all(&self.charts)?;
        fs::write(self.charts.join(format!("{name}.svg")), svg)?;
        let folder =
            self.charts.file_name().map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(format!("![{title}]({folder}/{name}.svg)\n"))
    }

    /// Appends raw records to `suite`'s file.
    pub(crate) fn append_records(&self, suite: &str, head: &str, lines: &[String]) -> Result<()> {
        fs::create_dir_all(&self.records)?;
        let path = self.records.join(format!("{suite}.csv"));
        let fresh = !path.exists();
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
        let head = if fresh { format!("{head}\n") } else { String::new() };
        Ok(file.write_all(format!("{head}{}\n", lines.join("\n")).as_bytes())?)
    }
}

/// Replaces the section of `suite` in `document`, which is begun when it is not there.
pub(crate) fn write_section(document: &Path, suite: &str, title: &str, body: &str) -> Result<()> {
    let old = match fs::read_to_string(document) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => HEADING.to_owned(),
        Err(error) => return Err(error).with_context(|| document.display().to_string()),
    };
    let section = format!("## {title}\n\n{}\n", body.trim_end());
    create_parent(document)?;
    Ok(fs::write(document, with_section(&old, suite, &section))?)
}

fn create_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => Ok(fs::create_dir_all(parent)?),
        _ => Ok(()),
    }
}

/// `old` with the text between `suite`'s markers replaced, or the section added at the end.
fn with_section(old: &str, suite: &str, section: &str) -> String {
    let begin = format!("<!-- suite {suite} -->\n");
    let end = format!("<!-- end {suite} -->\n");
    let found = old.find(&begin).and_then(|start| {
        let inner = start + begin.len();
        let length = old.get(inner..)?.find(&end)?;
        Some((inner, inner + length))
    });
    match found {
        Some((from, to)) => {
            format!("{}{section}{}", old.get(..from).unwrap_or_default(), old.get(to..).unwrap_or_default())
        }
        None => format!("{}\n{begin}{section}{end}", old.trim_end_matches('\n').to_owned() + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_others_stay() {
        let one = with_section("# T\n", "a", "A1\n");
        let both = with_section(&one, "b", "B1\n");
        let again = with_section(&both, "a", "A2\nmore\n");
        assert_eq!(
            again,
            "# T\n\n<!-- suite a -->\nA2\nmore\n<!-- end a -->\n\n<!-- suite b -->\nB1\n<!-- end b -->\n"
        );
        assert_eq!(with_section(&again, "a", "A1\n"), both);
    }
}
