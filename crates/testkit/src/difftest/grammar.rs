//! Commands as the reference server describes them in COMMAND DOCS and COMMAND INFO.
//! Invariant: only commands that both servers have, that answer the same whenever they are asked,
//! and that neither wait nor stop anything.

use super::Request;
use super::judge::Judge;
use super::random::Random;
use super::stream;
use super::values;
use crate::value::Value;
use std::collections::BTreeSet;
use std::io;

/// Groups that are tried when none are named.
const FAMILIES: [&str; 9] =
    ["string", "generic", "bitmap", "hyperloglog", "hash", "sorted-set", "geo", "list", "set"];

/// Commands of other groups that change which data the following ones see.
const ALWAYS: [&str; 5] = ["select", "swapdb", "flushdb", "dbsize", "echo"];

/// Commands whose replies are not settled, but for which `judge.rs` knows what may differ.
const JUDGED: [&str; 8] =
    ["ttl", "pttl", "expiretime", "pexpiretime", "httl", "hpttl", "dump", "object|encoding"];

/// Left out: they need other servers, take seconds, or have texts of their own.
const LEFT_OUT: [&str; 4] = ["migrate", "pfselftest", "pfdebug", "wait"];

/// How rarely an argument list is spoilt.
const SPOILT_ONE_IN: usize = 12;

/// How rarely a command is not run, but its keys are asked for.
const ASKED_ONE_IN: usize = 60;

/// How rarely a command is one on streams, which are made by hand.
const STREAMS_ONE_IN: usize = 5;

/// The commands and how to make them.
pub struct Grammar {
    commands: Vec<Command>,
    /// What asks for the keys of the command behind it.
    questions: Vec<Request>,
    /// Both servers have these commands to make other types.
    other_types: Vec<Request>,
    /// Commands on streams come up.
    has_streams: bool,
}

struct Command {
    /// One word, or two for a subcommand.
    words: Vec<Vec<u8>>,
    arguments: Vec<Argument>,
    unordered: bool,
    /// How often it comes up compared with others.
    weight: usize,
}

struct Argument {
    name: String,
    kind: String,
    token: Option<Vec<u8>>,
    optional: bool,
    multiple: bool,
    multiple_token: bool,
    parts: Vec<Argument>,
}

impl Grammar {
    /// Asks the reference server, and the other one for what it has.
    pub fn load(judge: &mut Judge, families: &[String], without: &[String]) -> io::Result<Self> {
        let mut shared = names(&judge.ask_left("COMMAND LIST")?);
        shared.retain(|name| !without.contains(name));
        let docs = judge.ask_right("COMMAND DOCS")?;
        let wanted = |group: &str| match families {
            [] => FAMILIES.contains(&group),
            named => named.iter().any(|family| family == group),
        };
        let mut commands = Vec::new();
        for (name, doc) in docs.pairs() {
            let group = doc.field("group").unwrap_or(Value::Null).text();
            let name = name.text();
            if !wanted(&group) && !ALWAYS.contains(&name.as_str()) {
                continue;
            }
            match doc.field("subcommands") {
                None => commands.extend(Command::load(judge, &name, &doc, &shared)?),
                Some(subcommands) => {
                    for (name, doc) in subcommands.pairs() {
                        commands.extend(Command::load(judge, &name.text(), &doc, &shared)?);
                    }
                }
            }
        }
        if commands.is_empty() {
            return Err(io::Error::other("the servers share no command of these families"));
        }
        commands.sort_by(|a, b| a.words.cmp(&b.words));
        let questions = ["command|getkeys", "command|getkeysandflags"];
        let questions = questions.into_iter().filter(|name| shared.contains(*name));
        let questions = questions.map(words).collect();
        let has_streams = (families.is_empty() || families.iter().any(|family| family == "stream"))
            && stream::COMMANDS.iter().all(|name| shared.contains(&name.to_lowercase()));
        Ok(Self { commands, questions, other_types: other_types(&shared), has_streams })
    }

    /// How many commands there are.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// A command with arguments, mostly well-formed.
    pub fn command(&self, random: &mut Random) -> Request {
        if self.has_streams && random.one_in(STREAMS_ONE_IN) {
            return stream::command(random);
        }
        let total: usize = self.commands.iter().map(|command| command.weight).sum();
        let mut at = random.below(total);
        let mut commands = self.commands.iter();
        let chosen = commands.find(|command| {
            let here = at < command.weight;
            at = at.saturating_sub(command.weight);
            here
        });
        let command = chosen.unwrap_or_else(|| random.pick(&self.commands));
        let mut request = command.words.clone();
        command.arguments.iter().for_each(|argument| argument.write(&mut request, random));
        if random.one_in(SPOILT_ONE_IN) {
            spoil(&mut request, command.words.len(), random);
        }
        if let Some(question) = self.questions.get(random.below(ASKED_ONE_IN)) {
            request.splice(0..0, question.iter().cloned());
        }
        request
    }

    /// Now and then, a few keys of other types to begin with.
    pub fn other_types(&self, random: &mut Random) -> Vec<Request> {
        if self.other_types.is_empty() || !random.one_in(4) {
            return Vec::new();
        }
        (0..1 + random.below(3)).map(|_| random.pick(&self.other_types).clone()).collect()
    }

    /// Whether the order of a request's reply means nothing.
    pub fn is_unordered(&self, request: &Request) -> bool {
        self.commands.iter().any(|command| command.unordered && is_call_of(request, &command.words))
    }
}

impl Command {
    /// Nothing when the command is not for this test.
    fn load(
        judge: &mut Judge,
        name: &str,
        doc: &Value,
        shared: &BTreeSet<String>,
    ) -> io::Result<Option<Self>> {
        if !shared.contains(name) || LEFT_OUT.contains(&name) || name.ends_with("|help") {
            return Ok(None);
        }
        let info = judge.ask_right(&format!("COMMAND INFO {name}"))?;
        let info = info.items().and_then(|items| items.first()).cloned().unwrap_or(Value::Null);
        let part = |at: usize| names(info.items().and_then(|parts| parts.get(at)).unwrap_or(&Value::Null));
        let (flags, tips) = (part(2), part(7));
        let unsettled = tips.contains("nondeterministic_output") && !JUDGED.contains(&name);
        if unsettled || flags.contains("blocking") || flags.contains("pubsub") || flags.contains("noscript") {
            return Ok(None);
        }
        Ok(Some(Self {
            words: words(name),
            arguments: arguments(doc),
            unordered: tips.contains("nondeterministic_output_order"),
            weight: if ["flushall", "flushdb", "swapdb", "select"].contains(&name) { 1 } else { 6 },
        }))
    }
}

impl Argument {
    fn load(description: &Value) -> Self {
        let text = |name: &str| description.field(name).unwrap_or(Value::Null).text();
        let flags = names(&description.field("flags").unwrap_or(Value::Null));
        Self {
            name: text("name"),
            kind: text("type"),
            token: description.field("token").map(|token| token.text().into_bytes()),
            optional: flags.contains("optional"),
            multiple: flags.contains("multiple"),
            multiple_token: flags.contains("multiple_token"),
            parts: arguments(description),
        }
    }

    fn write(&self, request: &mut Request, random: &mut Random) {
        if self.optional && random.below(5) < 3 {
            return;
        }
        let times = if self.multiple { 1 + random.below(3) } else { 1 };
        for time in 0..times {
            if let Some(token) = &self.token
                && (time == 0 || self.multiple_token)
                && !token.is_empty()
            {
                request.push(in_some_case(token, random));
            }
            match self.kind.as_str() {
                "pure-token" => {}
                "oneof" => random.pick(&self.parts).write(request, random),
                "block" => self.write_block(request, random),
                kind => request.push(values::value(kind, &self.name, random)),
            }
        }
    }
}

impl Argument {
    /// Mostly with the right number in front of fields that are counted.
    fn write_block(&self, request: &mut Request, random: &mut Random) {
        let start = request.len();
        self.parts.iter().for_each(|part| part.write(request, random));
        let counts = self.parts.first().is_some_and(|part| part.name == "numfields");
        if !counts || random.one_in(SPOILT_ONE_IN) {
            return;
        }
        let counted = self.parts.get(1).map_or(1, |part| part.parts.len().max(1));
        let number = (request.len() - start - 1) / counted;
        if let Some(word) = request.get_mut(start) {
            *word = number.to_string().into_bytes();
        }
    }
}

fn arguments(description: &Value) -> Vec<Argument> {
    let list = description.field("arguments");
    list.iter().flat_map(|list| list.items().unwrap_or_default()).map(Argument::load).collect()
}

fn names(list: &Value) -> BTreeSet<String> {
    list.items().unwrap_or_default().iter().map(Value::text).collect()
}

/// The words of a command or `command|subcommand`.
fn words(name: &str) -> Request {
    name.split('|').map(|word| word.to_uppercase().into_bytes()).collect()
}

fn in_some_case(token: &[u8], random: &mut Random) -> Vec<u8> {
    if random.one_in(4) { token.to_ascii_lowercase() } else { token.to_vec() }
}

/// Makes an argument list wrong: one too few, too many, or out of place.
fn spoil(request: &mut Request, command_words: usize, random: &mut Random) {
    let arguments = request.len() - command_words;
    let at = command_words + random.below(arguments);
    match random.below(4) {
        0 if arguments > 0 => drop(request.remove(at)),
        1 if arguments > 0 => request.insert(at, values::string(random)),
        2 if arguments > 1 => request.swap(at, command_words),
        _ => request.push(values::string(random)),
    }
}

/// Requests that make keys of types that no family here makes.
fn other_types(shared: &BTreeSet<String>) -> Vec<Request> {
    let requests =
        ["RPUSH a x 1 2", "RPUSH b 3 1 2", "HSET b f v", "SADD c m", "ZADD d 1 m", "XADD e 1-1 f v"];
    let words = requests.iter().map(|line| line.split(' ').map(|word| word.as_bytes().to_vec()).collect());
    words
        .filter(|request: &Request| {
            request.first().is_some_and(|name| shared.contains(&String::from_utf8_lossy(name).to_lowercase()))
        })
        .collect()
}

fn is_call_of(request: &Request, words: &[Vec<u8>]) -> bool {
    request.len() >= words.len() && request.iter().zip(words).all(|(a, b)| a.eq_ignore_ascii_case(b))
}
