//! The differential test: random commands to two servers, whose replies and data must be equal.
//! Invariant: a sequence depends on nothing but its seed and the reference server's own description
//! of its commands, so a seed that failed fails again.
//! Read next: `grammar.rs` makes commands, `judge.rs` and `agree.rs` compare, `shrink.rs` makes failures short,
//! `logged.rs` kills a server that logs them.

mod agree;
mod grammar;
mod harm;
mod judge;
mod left_out;
mod lines;
mod logged;
mod random;
mod shrink;
mod stream;
mod values;

use crate::transcript::expectation_lines;
use crate::value::quote;
use grammar::{Grammar, Theme};
use judge::{Judge, Mismatch};
pub use logged::{LogReport, Loss, run_log};
use random::Random;
use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

/// Commands in one sequence, which begins on empty servers.
const SEQUENCE_COMMANDS: usize = 60;

/// In sequences of transactions, how rarely one of the commands of transactions comes up.
const TRANSACTION_COMMAND_ONE_IN: usize = 4;
/// The commands of transactions, the likely ones several times.
const TRANSACTION_COMMANDS: [&str; 11] = [
    "MULTI",
    "MULTI",
    "MULTI",
    "MULTI",
    "EXEC",
    "EXEC",
    "EXEC",
    "DISCARD",
    "WATCH a b",
    "WATCH c",
    "UNWATCH",
];

/// A command with its arguments.
pub type Request = Vec<Vec<u8>>;

/// What to run.
pub struct Options {
    /// The first sequence's seed; the following ones count up.
    pub seed: u64,
    /// How long to go on.
    pub time: Duration,
    /// Address of the server under test.
    pub left: String,
    /// Address of the reference server.
    pub right: String,
    /// Command groups as in COMMAND DOCS ("string", "bitmap"); empty for all.
    pub families: Vec<String>,
    /// Commands to leave out, to see what is behind a known difference ("sort", "object|encoding").
    pub without: Vec<String>,
}

/// What was run without a difference.
#[derive(Debug)]
pub struct Report {
    /// Sequences.
    pub sequences: u64,
    /// Commands in all of them.
    pub commands: u64,
    /// Different commands that both servers have and the grammar makes.
    pub known_commands: usize,
}

/// A difference, made as short as possible.
#[derive(Debug)]
pub struct Difference {
    /// The seed that finds it again.
    pub seed: u64,
    /// What differs.
    pub description: String,
    /// A case for `tests/`, with the reference server's answers.
    pub transcript: String,
}

/// Runs sequences until the time is over or a difference is found.
/// An error means that a server could not be used at all.
pub fn run(options: &Options) -> io::Result<Result<Report, Box<Difference>>> {
    let mut judge = Judge::connect(&options.left, &options.right)?;
    let grammar = Grammar::load(&mut judge, &options.families, &options.without)?;
    let deadline = Instant::now() + options.time;
    let mut report = Report { sequences: 0, commands: 0, known_commands: grammar.len() };
    while Instant::now() < deadline {
        let seed = options.seed.wrapping_add(report.sequences);
        let (sequence, protocol) = make_sequence(&grammar, seed);
        judge.use_protocol(protocol);
        let seen = judge.differs(&grammar, &sequence);
        let seen = seen.map_err(|error| {
            let lines: Vec<String> = sequence.iter().map(line).collect();
            io::Error::new(error.kind(), format!("seed {seed}: {error}, in\n{}", lines.join("\n")))
        })?;
        if let Some(seen) = seen {
            let (sequence, mismatch) = shrink::shrink(&mut judge, &grammar, sequence, seen)?;
            let transcript = transcript(&sequence, &mismatch, protocol, seed);
            let description = mismatch.description;
            return Ok(Err(Box::new(Difference { seed, description, transcript })));
        }
        report.sequences += 1;
        report.commands += sequence.len() as u64;
    }
    Ok(Ok(report))
}

fn make_sequence(grammar: &Grammar, seed: u64) -> (Vec<Request>, u8) {
    let mut random = Random::new(seed);
    let protocol = if random.one_in(2) { 2 } else { 3 };
    let mut sequence = grammar.other_types(&mut random);
    let theme = match random.below(12) {
        0..6 => Theme::Transactions,
        6 if grammar.subscribes() => Theme::Subscriptions,
        _ => Theme::Plain,
    };
    while sequence.len() < SEQUENCE_COMMANDS {
        if theme == Theme::Transactions && random.one_in(TRANSACTION_COMMAND_ONE_IN) {
            sequence.push(lines::split(random.pick::<&str>(&TRANSACTION_COMMANDS)));
        }
        grammar.write_command(theme, &mut sequence, &mut random);
    }
    (sequence, protocol)
}

/// What the grammar does not know of the two servers' commands.
#[derive(Debug)]
pub struct Gaps {
    /// Commands of the server under test that are neither made nor left out for a reason.
    pub commands: Vec<String>,
    /// Reasons for commands that the server under test does not have, or that are made all the same.
    pub needless_reasons: Vec<String>,
    /// Words of options in COMMAND DOCS that did not come up in many requests: `zadd INCR`.
    pub options: Vec<String>,
}

/// Looks for gaps in the grammar; `requests` is how many requests are made for that.
pub fn gaps(left: &str, right: &str, requests: usize) -> io::Result<Gaps> {
    let mut judge = Judge::connect(left, right)?;
    let grammar = Grammar::load(&mut judge, &[], &[])?;
    let names = grammar::names_with_subcommands(&mut judge)?;
    let is_made = |name: &str| grammar.makes(name) || TRANSACTION_COMMANDS.contains(&&*name.to_uppercase());
    let unknown = |name: &&String| !is_made(name) && left_out::reason(name).is_none();
    let mut unseen = grammar.options();
    let mut random = Random::new(0);
    for theme in [Theme::Plain, Theme::Transactions, Theme::Subscriptions] {
        let mut made = Vec::new();
        for _ in 0..requests {
            made.clear();
            grammar.write_command(theme, &mut made, &mut random);
            made.iter().for_each(|request| unseen.saw(request));
        }
    }
    Ok(Gaps {
        commands: names.iter().filter(unknown).cloned().collect(),
        needless_reasons: left_out::LEFT_OUT
            .iter()
            .map(|(pattern, _)| (*pattern).to_owned())
            .filter(|pattern| {
                !names.iter().any(|name| left_out::meets(pattern, name) && !grammar.makes(name))
            })
            .collect(),
        options: unseen.into_lines(),
    })
}

/// A case in the form of tests/README.md.
fn transcript(sequence: &[Request], mismatch: &Mismatch, protocol: u8, seed: u64) -> String {
    let mut text = format!("# what seed {seed} found\n@resp {protocol}\n");
    let replies = mismatch.reference.iter().map(Some).chain(std::iter::repeat(None));
    for (request, reply) in sequence.iter().chain(&mismatch.probe).zip(replies) {
        writeln!(text, "{}", line(request)).expect("a String takes everything");
        let seen = reply.map(|reply| (protocol, reply.notation()));
        for line in expectation_lines(seen.as_slice()) {
            writeln!(text, "{line}").expect("a String takes everything");
        }
    }
    text
}

/// A request as a transcript has it.
fn line(request: &Request) -> String {
    let words: Vec<String> = request.iter().map(|word| readable(word)).collect();
    format!("> {}", words.join(" "))
}

/// A word as a transcript has it: plain when it can be.
fn readable(word: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"$\\".contains(byte);
    if !word.is_empty() && word.iter().all(is_plain) {
        String::from_utf8_lossy(word).into_owned()
    } else {
        quote(word)
    }
}
