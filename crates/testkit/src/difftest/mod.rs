//! The differential test: random commands to two servers, whose replies and data must be equal.
//! Invariant: a sequence depends on nothing but its seed and the reference server's own description
//! of its commands, so a seed that failed fails again.
//! Read next: `grammar.rs` makes commands, `judge.rs` compares, `shrink.rs` makes failures short.

mod grammar;
mod judge;
mod random;
mod shrink;
mod stream;
mod values;

use crate::transcript::expectation_lines;
use crate::value::quote;
use grammar::Grammar;
use judge::{Judge, Mismatch};
use random::Random;
use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

/// Commands in one sequence, which begins on empty servers.
const SEQUENCE_COMMANDS: usize = 60;

/// In half of the sequences, how rarely one of the commands of transactions comes up.
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
    /// Command groups as in COMMAND DOCS ("string", "bitmap"); empty for all that are known here.
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
        if let Some(seen) = judge.differs(&grammar, &sequence)? {
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
    let has_transactions = random.one_in(2);
    while sequence.len() < SEQUENCE_COMMANDS {
        if has_transactions && random.one_in(TRANSACTION_COMMAND_ONE_IN) {
            let line = random.pick(&TRANSACTION_COMMANDS);
            sequence.push(line.split(' ').map(|word| word.as_bytes().to_vec()).collect());
        }
        sequence.push(grammar.command(&mut random));
    }
    (sequence, protocol)
}

/// A case in the form of tests/README.md.
fn transcript(sequence: &[Request], mismatch: &Mismatch, protocol: u8, seed: u64) -> String {
    let mut text = format!("# what seed {seed} found\n@resp {protocol}\n");
    let replies = mismatch.reference.iter().map(Some).chain(std::iter::repeat(None));
    for (request, reply) in sequence.iter().chain(&mismatch.probe).zip(replies) {
        let words: Vec<String> = request.iter().map(|word| readable(word)).collect();
        writeln!(text, "> {}", words.join(" ")).expect("a String takes everything");
        let seen = reply.map(|reply| (protocol, reply.notation()));
        for line in expectation_lines(seen.as_slice()) {
            writeln!(text, "{line}").expect("a String takes everything");
        }
    }
    text
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
