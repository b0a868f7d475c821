//! Commands as the reference server describes them in COMMAND DOCS and COMMAND INFO.
//! Invariant: only commands that both servers have, and no request that does harm.
//! Read next: `left_out.rs` for the commands that are not made, `lines.rs` for those that are made by hand.

use super::harm::is_harmful;
use super::judge::Judge;
use super::random::Random;
use super::stream;
use super::values;
use super::{Request, left_out, lines};
use crate::value::Value;
use std::collections::BTreeSet;
use std::io;

/// Commands of other groups that change which data the following ones see.
const ALWAYS: [&str; 5] = ["select", "swapdb", "flushdb", "dbsize", "echo"];

/// Commands that come up rarely: they end much of what the others made, or wait.
const RARE: [&str; 9] =
    ["flushall", "flushdb", "swapdb", "select", "reset", "hello", "auth", "client|pause", "wait"];

/// Commands with several replies, or with none.
const SUBSCRIPTIONS: [&str; 6] =
    ["subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe"];

/// How rarely an argument list is spoilt.
const SPOILT_ONE_IN: usize = 12;

/// Of so many commands, one that can is called by a script.
const SCRIPTED_ONE_IN: usize = 15;
/// How rarely a command is not run, but its keys are asked for.
const ASKED_ONE_IN: usize = 60;

/// How rarely a command is one on streams, which are made by hand.
const STREAMS_ONE_IN: usize = 5;

/// What a sequence is about beside data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Theme {
    /// Nothing else.
    Plain,
    /// MULTI, WATCH and EXEC.
    Transactions,
    /// Channels and patterns.
    Subscriptions,
}

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
    /// As in COMMAND LIST: `object|encoding`.
    name: String,
    group: String,
    /// One word, or two for a subcommand.
    words: Request,
    arguments: Vec<Argument>,
    /// What is sent instead of words made from the arguments.
    lines: Vec<Request>,
    unordered: bool,
}

/// Words of options that did not come up yet, each with its command.
pub struct Unseen(BTreeSet<(Request, Vec<u8>)>);

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
        let wanted = |group: &str| families.is_empty() || families.iter().any(|family| family == group);
        let mut commands = Vec::new();
        for (name, doc) in docs.pairs() {
            let group = doc.field("group").unwrap_or(Value::Null).text();
            let name = name.text();
            if !wanted(&group) && !ALWAYS.contains(&name.as_str()) {
                continue;
            }
            match doc.field("subcommands") {
                None => commands.extend(Command::load(judge, &group, &name, &doc, &shared)?),
                Some(subcommands) => {
                    for (name, doc) in subcommands.pairs() {
                        commands.extend(Command::load(judge, &group, &name.text(), &doc, &shared)?);
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

    /// Whether it makes a command of this name.
    pub fn makes(&self, name: &str) -> bool {
        self.commands.iter().any(|command| command.name == name)
    }

    /// Whether it makes commands that subscribe.
    pub fn subscribes(&self) -> bool {
        SUBSCRIPTIONS.iter().any(|name| self.makes(name))
    }

    /// The words of all options.
    pub fn options(&self) -> Unseen {
        let mut unseen = BTreeSet::new();
        for command in &self.commands {
            command.arguments.iter().for_each(|argument| argument.add_tokens(&command.words, &mut unseen));
        }
        Unseen(unseen)
    }

    /// Adds a command with arguments, mostly well-formed. Behind one that changes data by chance, the key's removal
    /// follows, so that both servers have the same again.
    pub fn write_command(&self, theme: Theme, sequence: &mut Vec<Request>, random: &mut Random) {
        let request = loop {
            let request = self.command(theme, random);
            if !is_harmful(&request) {
                break request;
            }
        };
        let first = request.first().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
        let draws = first == b"SPOP" || first == b"XADD" && request.iter().any(|word| word == b"*");
        let removal = request.get(1).filter(|_| draws).map(|key| vec![b"DEL".to_vec(), key.clone()]);
        sequence.push(request);
        sequence.extend(removal);
    }

    fn command(&self, theme: Theme, random: &mut Random) -> Request {
        if self.has_streams && random.one_in(STREAMS_ONE_IN) {
            return stream::command(random);
        }
        let Some(command) = self.choose(theme, random) else { return vec![b"PING".to_vec()] };
        let mut request = if command.lines.is_empty() {
            let mut request = command.words.clone();
            write_arguments(&command.arguments, &mut request, random);
            request
        } else {
            random.pick(&command.lines).clone()
        };
        if random.one_in(SPOILT_ONE_IN) {
            spoil(&mut request, command.words.len(), random);
        }
        if theme == Theme::Plain
            && command.can_be_scripted()
            && random.one_in(SCRIPTED_ONE_IN)
            && self.makes("eval")
        {
            let script =
                *random.pick(&["return redis.call(unpack(ARGV))", "return redis.pcall(unpack(ARGV))"]);
            request.splice(0..0, ["EVAL", script, "0"].map(|word| word.as_bytes().to_vec()));
        } else if let Some(question) = self.questions.get(random.below(ASKED_ONE_IN)) {
            request.splice(0..0, question.iter().cloned());
        }
        request
    }

    fn choose(&self, theme: Theme, random: &mut Random) -> Option<&Command> {
        let on_channels = theme == Theme::Subscriptions && random.one_in(2);
        let weight = |command: &Command| match command.group.as_str() {
            _ if on_channels => usize::from(["pubsub", "connection"].contains(&command.group.as_str())),
            "transactions" => usize::from(theme == Theme::Transactions),
            _ if SUBSCRIPTIONS.contains(&command.name.as_str()) => usize::from(theme == Theme::Subscriptions),
            _ if RARE.contains(&command.name.as_str()) => 1,
            "server" | "connection" | "pubsub" => 2,
            _ => 6,
        };
        let mut at = random.below(self.commands.iter().map(weight).sum());
        self.commands.iter().find(|command| {
            let here = at < weight(command);
            at = at.saturating_sub(weight(command));
            here
        })
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

impl Unseen {
    /// Takes out what a request shows.
    pub fn saw(&mut self, request: &Request) {
        self.0.retain(|(words, token)| {
            !is_call_of(request, words)
                || !request.iter().skip(words.len()).any(|word| word.eq_ignore_ascii_case(token))
        });
    }

    /// What is left: `ZADD INCR`.
    pub fn into_lines(self) -> Vec<String> {
        let line = |(words, token): (Request, Vec<u8>)| {
            let words: Vec<_> =
                words.iter().chain([&token]).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            words.join(" ")
        };
        self.0.into_iter().map(line).collect()
    }
}

/// The names of all commands of the server under test; of one that has subcommands, those.
pub fn names_with_subcommands(judge: &mut Judge) -> io::Result<Vec<String>> {
    let names = names(&judge.ask_left("COMMAND LIST")?);
    let is_container = |name: &String| names.iter().any(|other| other.starts_with(&format!("{name}|")));
    Ok(names.iter().filter(|name| !is_container(name)).cloned().collect())
}

/// Whether a request has several replies, or none.
pub fn is_subscription(request: &Request) -> bool {
    let first = request.first().map(Vec::as_slice).unwrap_or_default();
    SUBSCRIPTIONS.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(first))
}

impl Command {
    /// Whether what it answers is the same in a script, and is compared to the byte.
    fn can_be_scripted(&self) -> bool {
        const FAMILIES: [&str; 6] = ["string", "hash", "list", "set", "sorted-set", "bitmap"];
        const BY_CHANCE_OR_TIME: [&str; 7] = ["ttl", "time", "rand", "pop", "scan", "getall", "expire"];
        FAMILIES.contains(&self.group.as_str())
            && !self.unordered
            && !BY_CHANCE_OR_TIME.iter().any(|part| self.name.contains(part))
    }

    /// Nothing when the command is not for this test.
    fn load(
        judge: &mut Judge,
        group: &str,
        name: &str,
        doc: &Value,
        shared: &BTreeSet<String>,
    ) -> io::Result<Option<Self>> {
        if !shared.contains(name) || left_out::reason(name).is_some() {
            return Ok(None);
        }
        let info = judge.ask_right(&format!("COMMAND INFO {name}"))?;
        let info = info.items().and_then(|items| items.first()).cloned().unwrap_or(Value::Null);
        let tips = names(info.items().and_then(|parts| parts.get(7)).unwrap_or(&Value::Null));
        Ok(Some(Self {
            name: name.to_owned(),
            group: group.to_owned(),
            words: words(name),
            arguments: arguments(doc),
            lines: lines::of(name),
            unordered: tips.contains("nondeterministic_output_order"),
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
    fn add_tokens(&self, words: &Request, tokens: &mut BTreeSet<(Request, Vec<u8>)>) {
        if let Some(token) = self.token.as_ref().filter(|token| !token.is_empty()) {
            tokens.insert((words.clone(), token.clone()));
        }
        self.parts.iter().for_each(|part| part.add_tokens(words, tokens));
    }

    /// Mostly with the right number in front of fields that are counted.
    fn write_block(&self, request: &mut Request, random: &mut Random) {
        let start = request.len();
        write_arguments(&self.parts, request, random);
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

/// Writes arguments in their order, mostly with the right number in front of keys that are counted.
fn write_arguments(arguments: &[Argument], request: &mut Request, random: &mut Random) {
    let mut number_at = None;
    for argument in arguments {
        let start = request.len();
        argument.write(request, random);
        let written = request.len() - start;
        if let Some(at) = number_at.take()
            && argument.kind == "key"
            && argument.multiple
            && !random.one_in(SPOILT_ONE_IN)
            && let Some(number) = request.get_mut(at)
        {
            *number = written.to_string().into_bytes();
        }
        number_at = (argument.name == "numkeys").then_some(start);
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
