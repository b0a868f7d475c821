//! Runs transcripts: against recorded expectations, against two servers at once, or to record.
//! Invariant: every case starts on an emptied server with connections of its own, and leaves the
//! server's configuration as it was.
//! Read next: `known.rs` for differences that are meant.

use crate::client::Client;
use crate::stage::{Stage, wait_to_be_alone};
use crate::transcript::{Case, Reference, Step, Transcript, expectation_lines, split_line, written};
use crate::value::Value;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::{fmt, fs, io};

/// What a case did on one server in one protocol version: the reply lines of each step.
pub type Seen = Vec<Vec<String>>;

/// A case that went wrong.
#[derive(Debug)]
pub struct Failure {
    /// `folder/file.rt: title`
    pub case: String,
    /// Line of the step in its file.
    pub line: usize,
    /// 2 or 3.
    pub protocol: u8,
    /// What went wrong, in several lines.
    pub problem: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (line {}, RESP{})", self.case, self.line, self.protocol)?;
        self.problem.lines().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// Runs every case of a file and compares with its recorded expectations.
/// Returns the failures and how many runs there were (a case runs once per protocol).
pub fn replay(transcript: &Transcript, address: &str) -> (Vec<Failure>, usize) {
    let mut failures = Vec::new();
    let mut runs = 0;
    for case in &transcript.cases {
        if !has_what_it_needs(case, address) {
            continue;
        }
        for &protocol in &case.settings.protocols {
            runs += 1;
            let expected = case.steps.iter().map(|step| step.expected_in(protocol)).collect();
            let outcome = run_case(case, address, protocol, Some(&expected))
                .and_then(|seen| check_steps(case, &seen, &expected, "recorded"));
            failures.extend(outcome.err().map(|p| p.into_failure(transcript, case, protocol)));
        }
    }
    (failures, runs)
}

/// Does something with each of `jobs`, in so many lanes at once, each with what `begin` makes for it: transcripts mostly wait. What
/// comes of them is in no order.
///
/// # Errors
/// What `begin` says.
///
/// # Panics
/// Where a job does.
pub fn in_lanes<J: Send, S, R: Send, E: Send>(
    lanes: usize,
    jobs: Vec<J>,
    begin: impl Fn() -> Result<S, E> + Sync,
    work: impl Fn(&S, J) -> R + Sync,
) -> Result<Vec<R>, E> {
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let lane = || {
        let state = begin()?;
        Ok(std::iter::from_fn(next).map(|job| work(&state, job)).collect::<Vec<R>>())
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        let mut all = Vec::new();
        for lane in running {
            match lane.join() {
                Ok(done) => all.extend(done?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}

/// Runs every case of a file on two servers and compares what they answer.
pub fn compare(transcript: &Transcript, ours: &str, theirs: &str) -> (Vec<Failure>, usize) {
    let mut failures = Vec::new();
    let mut runs = 0;
    for case in &transcript.cases {
        if !has_what_it_needs(case, ours) || !has_what_it_needs(case, theirs) {
            continue;
        }
        for &protocol in &case.settings.protocols {
            runs += 1;
            let outcome = run_case(case, theirs, protocol, None).and_then(|reference| {
                let seen = run_case(case, ours, protocol, Some(&reference))?;
                check_steps(case, &seen, &reference, "reference")
            });
            failures.extend(outcome.err().map(|p| p.into_failure(transcript, case, protocol)));
        }
    }
    (failures, runs)
}

/// Runs the cases for which a server is the reference and writes its answers into the file.
/// Answers that cannot be recorded (no reply, a pattern that does not match) come back as failures.
pub fn record(transcript: &Transcript, address: &str, reference: Reference) -> io::Result<Vec<Failure>> {
    let mut after_line: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut failures = Vec::new();
    for case in &transcript.cases {
        if case.settings.reference != reference {
            keep_expectations(case, &mut after_line);
            continue;
        }
        // Without the old expectations, which may be wrong, an error is taken as it comes.
        let mut unchecked = case.clone();
        unchecked.steps.iter_mut().for_each(|step| step.expected.clear());
        let mut seen_by_protocol = Vec::new();
        for &protocol in &case.settings.protocols {
            match run_case(&unchecked, address, protocol, None) {
                Ok(seen) => seen_by_protocol.push((protocol, seen)),
                Err(problem) => failures.push(problem.into_failure(transcript, case, protocol)),
            }
        }
        for (index, step) in case.steps.iter().enumerate() {
            let lines_of = |seen: &Seen| seen.get(index).cloned().unwrap_or_default();
            let seen: Vec<_> = seen_by_protocol.iter().map(|(p, seen)| (*p, lines_of(seen))).collect();
            for (protocol, lines) in &seen {
                let problem = check_patterns(step, lines).err();
                failures.extend(problem.map(|p| p.into_failure(transcript, case, *protocol)));
            }
            if step.has_reply() {
                let compared = |lines: &Vec<String>| step.compared(lines).into_iter().cloned().collect();
                let seen: Vec<_> = seen.iter().map(|(p, lines)| (*p, compared(lines))).collect();
                after_line.insert(step.source, expectation_lines(&seen));
            }
        }
    }
    let mut text = String::new();
    for (index, line) in transcript.lines.iter().enumerate() {
        for line in std::iter::once(line).chain(after_line.get(&index).into_iter().flatten()) {
            text.push_str(line);
            text.push('\n');
        }
    }
    fs::write(&transcript.path, text)?;
    Ok(failures)
}

fn keep_expectations(case: &Case, after_line: &mut BTreeMap<usize, Vec<String>>) {
    for step in &case.steps {
        let lines = step.expected.iter().map(|(protocol, line)| written(*protocol, line));
        after_line.insert(step.source, lines.collect());
    }
}

/// Something wrong at a line; the case is added on the way out.
struct Problem {
    line: usize,
    text: String,
}

impl Problem {
    fn into_failure(self, transcript: &Transcript, case: &Case, protocol: u8) -> Failure {
        let case = format!("{}: {}", transcript.name, case.title);
        Failure { case, line: self.line, protocol, problem: self.text }
    }
}

fn check_steps(case: &Case, seen: &Seen, expected: &Seen, name: &str) -> Result<(), Problem> {
    for ((step, seen), expected) in case.steps.iter().zip(seen).zip(expected) {
        check_patterns(step, seen)?;
        if step.has_reply() && step.compared(seen) != step.compared(expected) {
            return Err(Problem { line: step.line, text: difference(name, expected, seen) });
        }
    }
    Ok(())
}

/// Lines shown of a long reply: some before the first difference, some after it.
const LINES_BEFORE: usize = 3;
const LINES_SHOWN: usize = 12;

fn difference(name: &str, expected: &[String], seen: &[String]) -> String {
    let same = expected.iter().zip(seen).take_while(|(a, b)| a == b).count();
    let skipped = same.saturating_sub(LINES_BEFORE);
    let part = |lines: &[String]| {
        let shown: Vec<String> = lines.iter().skip(skipped).take(LINES_SHOWN).cloned().collect();
        indented(&shown)
    };
    let note = if skipped == 0 { String::new() } else { format!(", after {skipped} lines") };
    format!("{name}{note}:\n{}got{note}:\n{}", part(expected), part(seen))
}

fn check_patterns(step: &Step, seen: &[String]) -> Result<(), Problem> {
    // What other connections get beside it is compared word by word.
    let own = seen.iter().map(|line| split_line(line));
    let own = own.filter(|(client, _)| client.is_empty() || *client == step.client);
    let text = own.map(|(_, text)| text).collect::<Vec<_>>().join("\n");
    for pattern in &step.matches {
        if !pattern.is_match(&text) {
            let text = format!("the pattern {pattern} does not match\n{}", indented(seen));
            return Err(Problem { line: step.line, text });
        }
    }
    Ok(())
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

/// A command that stands for a value type or feature in `@needs`; others stand for themselves.
fn needed_command(name: &str) -> &str {
    match name {
        "list" => "rpush",
        "hash" => "hset",
        "set" => "sadd",
        "zset" => "zadd",
        "stream" => "xadd",
        "scripts" => "eval",
        "transactions" => "multi",
        "pubsub" => "subscribe",
        other => other,
    }
}

fn has_what_it_needs(case: &Case, address: &str) -> bool {
    case.settings.needs.iter().all(|name| {
        let reply = Client::connect(address)
            .and_then(|mut client| client.command(&["COMMAND", "INFO", needed_command(name)]));
        let found = reply.ok().and_then(|reply| Some(reply.items()?.first()?.items()?.len() > 1));
        found.unwrap_or(false)
    })
}

/// Runs a case and returns what each step saw. An error stands for what no server may do: to change
/// data while answering an error, to keep a connection open that it should close, to send what nobody
/// expects. With `expected` lines, steps wait for these; without, for what the server has to say.
fn run_case(case: &Case, address: &str, protocol: u8, expected: Option<&Seen>) -> Result<Seen, Problem> {
    let at = |line: usize| move |error: io::Error| Problem { line, text: error.to_string() };
    let mut observer = Observer::prepare(address, case).map_err(at(case.line))?;
    let mut stage = Stage::new(address, protocol, case.is_scenario());
    let mut seen = Vec::new();
    let mut outcome = Ok(());
    for (index, step) in case.steps.iter().enumerate() {
        let checked = step.expects_error(protocol) && !step.unchecked;
        let before = if checked { observer.keyspace().map_err(at(step.line))? } else { Vec::new() };
        let expected = expected.map(|seen| seen.get(index).map_or(&[][..], Vec::as_slice));
        match stage.run(step, expected, &mut observer.client) {
            Ok(lines) => seen.push(lines),
            Err(error) => {
                outcome = Err(at(step.line)(error));
                break;
            }
        }
        if checked && observer.keyspace().map_err(at(step.line))? != before {
            outcome = Err(at(step.line)(io::Error::other("the error reply came with a change of data")));
            break;
        }
        if stage.has_given_up() {
            break;
        }
    }
    if outcome.is_ok() && expected.is_some() {
        outcome = stage.check_silence().map_err(at(case.steps.last().map_or(case.line, |step| step.line)));
    }
    drop(stage);
    observer.restore().map_err(at(case.line))?;
    outcome.map(|()| seen)
}

/// A connection beside the case: it empties the server, sets and restores its configuration, and
/// looks at the data without touching it.
struct Observer {
    address: String,
    client: Client,
    restore: Vec<(String, Vec<u8>)>,
}

impl Observer {
    fn prepare(address: &str, case: &Case) -> io::Result<Self> {
        let client = Client::connect(address)?;
        let mut observer = Self { address: address.to_owned(), client, restore: Vec::new() };
        observer.client.run("CLIENT NO-TOUCH ON")?;
        // Those of the case before may still be there, and would be counted.
        if case.is_scenario() || case.settings.config.iter().any(|(name, _)| name == "maxclients") {
            wait_to_be_alone(&mut observer.client)?;
        }
        observer.must(&["FLUSHALL"])?;
        for (name, value) in &case.settings.config {
            let old = observer.client.command(&["CONFIG", "GET", name])?;
            let old = old.field(name).unwrap_or(Value::Null);
            observer.restore.push((name.clone(), old.bytes().unwrap_or_default().to_vec()));
            observer.must(&["CONFIG", "SET", name, value.trim_matches('"')])?;
        }
        Ok(observer)
    }

    fn restore(mut self) -> io::Result<()> {
        if self.restore.is_empty() {
            return Ok(());
        }
        // The case may have closed this connection by its settings.
        if self.client.run("PING").is_err() {
            self.client = Client::connect(&self.address)?;
        }
        // An option that was set twice was at first what it is restored to at last.
        for (name, value) in std::mem::take(&mut self.restore).into_iter().rev() {
            self.must(&[b"CONFIG".as_slice(), b"SET", name.as_bytes(), &value])?;
        }
        Ok(())
    }

    fn must<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<()> {
        let reply = self.client.command(args)?;
        if reply.is_error() {
            let words: Vec<_> = args.iter().map(|arg| String::from_utf8_lossy(arg.as_ref())).collect();
            return Err(io::Error::other(format!("{}: {}", words.join(" "), reply.text())));
        }
        Ok(())
    }

    /// Every key of database 0 with its serialized value and expiry time, sorted by key.
    fn keyspace(&mut self) -> io::Result<Vec<Value>> {
        keyspace(&mut self.client)
    }
}

/// Every key of the client's database with its serialized value and expiry time, sorted by key.
pub fn keyspace(client: &mut Client) -> io::Result<Vec<Value>> {
    let keys = client.command(&["KEYS", "*"])?;
    let mut keys: Vec<Vec<u8>> = match keys.items() {
        Some(items) => items.iter().filter_map(|key| key.bytes().map(<[u8]>::to_vec)).collect(),
        None => return Err(io::Error::other(format!("KEYS *: {}", keys.text()))),
    };
    keys.sort();
    let mut entries = Vec::new();
    for key in keys {
        let dump = client.command(&[b"DUMP".as_slice(), &key])?;
        let expiry = client.command(&[b"PEXPIRETIME".as_slice(), &key])?;
        entries.push(Value::Array(vec![Value::Bulk(key), dump, expiry]));
    }
    Ok(entries)
}
