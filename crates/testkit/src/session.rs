//! A store's own client as a process that takes one statement after the other.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What the store is asked after each statement, and answers when that is done.
const MARK: &str = "~done~";

/// A session; it ends at the first statement that fails.
#[derive(Debug)]
pub struct Session {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    pub(crate) fn start(command: &mut Command) -> Session {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = started.unwrap_or_else(|error| panic!("the client is not installed: {error}"));
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            unreachable!("both are pipes");
        };
        Session { process, input, output: BufReader::new(output) }
    }

    /// Runs a statement, and waits until it is done; its lines. Nothing where it failed: whether it was done is not known, and the
    /// session is over.
    pub fn run(&mut self, statement: &str) -> Option<Vec<String>> {
        writeln!(self.input, "{statement};\nSELECT '{MARK}';").ok()?;
        self.input.flush().ok()?;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end() {
                MARK => return Some(lines),
                line => lines.push(line.to_owned()),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
