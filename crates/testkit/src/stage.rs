//! The connections of a running case, and the replies it has kept.
//!
//! A step of a scenario names its connection and owns everything that arrives meanwhile, on any of
//! them. Invariant: which lines belong to which step is decided by the reference server, where one
//! thread does everything and a few round trips show that nothing more comes; other servers are only
//! given time until what is expected has come.
//! Read next: `run.rs`.

use crate::client::{Client, is_disconnect};
use crate::transcript::{Action, Arg, Step, split_line};
use crate::value::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use std::{io, thread};

/// How long an expected value may take.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(5);
/// A command without an answer for this long is blocked.
const BLOCKED_AFTER: Duration = Duration::from_millis(80);
/// How long nothing may come at the end of a scenario.
const SILENCE: Duration = Duration::from_millis(30);
/// The time for bytes that are there already; zero would mean for ever.
const AT_ONCE: Duration = Duration::from_millis(1);
/// Round trips after which a server of one thread has done everything it was asked before, and sent it.
const ROUND_TRIPS: usize = 3;
/// How long a server may take to notice that a client has gone.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// In place of an answer that does not come.
const BLOCKED: &str = "(blocked)";
/// In place of an answer where the server closed the connection.
const CLOSED: &str = "(closed)";

/// One connection.
struct Actor {
    client: Client,
    /// What the server calls it, where it is asked: in scenarios.
    id: Option<i64>,
}

/// The connections of a case by their names.
pub struct Stage<'a> {
    address: &'a str,
    protocol: u8,
    is_scenario: bool,
    open: BTreeMap<String, Actor>,
    saved: BTreeMap<String, Vec<u8>>,
    gave_up: bool,
}

impl<'a> Stage<'a> {
    /// No connections yet.
    pub fn new(address: &'a str, protocol: u8, is_scenario: bool) -> Self {
        let (open, saved) = (BTreeMap::new(), BTreeMap::new());
        Self { address, protocol, is_scenario, open, saved, gave_up: false }
    }

    /// Whether something expected has not come, so that the rest of the case means nothing.
    pub fn has_given_up(&self) -> bool {
        self.gave_up
    }

    /// Does what a step says; the result is its notation, or a line in parentheses in place of a
    /// reply that does not come. `other` is a connection outside the case.
    pub fn run(
        &mut self,
        step: &Step,
        expected: Option<&[String]>,
        other: &mut Client,
    ) -> io::Result<Vec<String>> {
        match &step.action {
            Action::Sleep(time) => thread::sleep(*time),
            Action::Hangup => self.hang_up(&step.client, other)?,
            _ if step.collects => self.send(step)?,
            _ => return self.converse(step),
        }
        match expected {
            _ if !step.collects => Ok(Vec::new()),
            Some(lines) => self.collect_expected(step, lines),
            None => self.collect_all(step, other),
        }
    }

    /// Fails if anything more arrives on a connection of a scenario.
    pub fn check_silence(&mut self) -> io::Result<()> {
        if !self.is_scenario {
            return Ok(());
        }
        thread::sleep(SILENCE);
        for (name, actor) in &mut self.open {
            match actor.client.read_within(AT_ONCE) {
                Ok(None) => {}
                Ok(Some(value)) => {
                    return Err(io::Error::other(format!("{name} got more than expected: {value:?}")));
                }
                Err(error) => return Err(io::Error::other(format!("{name}: {error}"))),
            }
        }
        Ok(())
    }

    /// A step on one connection: sends, and reads at most one value.
    fn converse(&mut self, step: &Step) -> io::Result<Vec<String>> {
        let args = self.fill_in(step)?;
        let client = &mut self.actor(&step.client)?.client;
        let reply = match &step.action {
            Action::Closed if client.is_closed() => return Ok(Vec::new()),
            Action::Closed => return Err(io::Error::other("the connection is still open")),
            Action::Send(_) => return sent(client.send(&args)),
            Action::SendRaw(bytes) => return sent(client.send_raw(bytes)),
            Action::Command(_) => client.command(&args),
            Action::Raw(bytes) => client.send_raw(bytes).and_then(|()| client.read()),
            Action::Read | Action::Sleep(_) | Action::Hangup => client.read(),
        };
        match reply {
            Ok(value) => Ok(self.keep(step, value)),
            Err(error) if is_disconnect(&error) => Ok(vec![CLOSED.into()]),
            Err(error) => Err(error),
        }
    }

    /// Sends what a step of a scenario says.
    fn send(&mut self, step: &Step) -> io::Result<()> {
        let args = self.fill_in(step)?;
        let client = &mut self.actor(&step.client)?.client;
        match &step.action {
            Action::Raw(bytes) | Action::SendRaw(bytes) => sent(client.send_raw(bytes)),
            _ => sent(client.send(&args)),
        }?;
        Ok(())
    }

    /// Closes a connection and waits until the server knows.
    fn hang_up(&mut self, name: &str, other: &mut Client) -> io::Result<()> {
        let Some(actor) = self.open.remove(name) else {
            return Err(io::Error::other(format!("there is no connection {name}")));
        };
        drop(actor.client);
        let Some(id) = actor.id else { return Ok(()) };
        let start = Instant::now();
        while start.elapsed() < GOODBYE_TIMEOUT {
            if other.run(&format!("CLIENT LIST ID {id}"))?.text().trim().is_empty() {
                return Ok(());
            }
            thread::sleep(AT_ONCE);
        }
        Err(io::Error::other(format!("the server keeps the connection {name}")))
    }

    /// Reads as many values as are expected on each connection.
    fn collect_expected(&mut self, step: &Step, expected: &[String]) -> io::Result<Vec<String>> {
        let asked = matches!(step.action, Action::Command(_) | Action::Raw(_));
        let mut lines = Vec::new();
        for name in self.names_from(&step.client) {
            let of_it = expected.iter().map(|line| split_line(line)).filter(|(client, _)| *client == name);
            let mut values: Vec<&str> =
                of_it.map(|(_, text)| text).filter(|text| begins_value(text)).collect();
            // What a pattern is for has not been written down.
            if asked && name == step.client && !step.matches.is_empty() {
                values = vec!["+"];
            }
            let mut came = Vec::new();
            for value in values {
                let time = if value == BLOCKED { BLOCKED_AFTER } else { ARRIVAL_TIMEOUT };
                match self.read(step, &name, time)? {
                    Some(notation) => came.push(notation),
                    None if value == BLOCKED => came.push(vec![BLOCKED.to_owned()]),
                    None => {
                        self.gave_up = true;
                        break;
                    }
                }
            }
            append(step, &name, came, &mut lines);
            if self.gave_up {
                break;
            }
        }
        Ok(lines)
    }

    /// Reads everything that a server of one thread has to say to anybody.
    fn collect_all(&mut self, step: &Step, other: &mut Client) -> io::Result<Vec<String>> {
        for _ in 0..ROUND_TRIPS {
            other.run("PING")?;
        }
        let asked = matches!(step.action, Action::Command(_) | Action::Raw(_));
        let mut lines = Vec::new();
        for name in self.names_from(&step.client) {
            let is_own = asked && name == step.client;
            let first = if is_own { BLOCKED_AFTER } else { AT_ONCE };
            let mut came = Vec::from_iter(self.read(step, &name, first)?);
            if came.is_empty() && is_own {
                came.push(vec![BLOCKED.to_owned()]);
            } else if !came.is_empty() {
                while let Some(notation) = self.read(step, &name, AT_ONCE)? {
                    came.push(notation);
                }
            }
            append(step, &name, came, &mut lines);
        }
        Ok(lines)
    }

    /// Reads one value of a connection, or notes that it is closed; its lines, if anything came.
    fn read(&mut self, step: &Step, name: &str, time: Duration) -> io::Result<Option<Vec<String>>> {
        let Some(actor) = self.open.get_mut(name) else { return Ok(None) };
        match actor.client.read_within(time) {
            Ok(None) => Ok(None),
            Ok(Some(value)) if name == step.client => Ok(Some(self.keep(step, value))),
            Ok(Some(value)) => Ok(Some(value.notation())),
            Err(error) if is_disconnect(&error) => {
                self.open.remove(name);
                Ok(Some(vec![CLOSED.to_owned()]))
            }
            Err(error) => Err(error),
        }
    }

    /// The names of the connections, one of them first.
    fn names_from(&self, first: &str) -> Vec<String> {
        let others = self.open.keys().filter(|name| *name != first);
        std::iter::once(first.to_owned()).chain(others.cloned()).collect()
    }

    fn actor(&mut self, name: &str) -> io::Result<&mut Actor> {
        if !self.open.contains_key(name) {
            let mut client = Client::connect_with(self.address, self.protocol)?;
            let id = if self.is_scenario { client.run("CLIENT ID")?.integer() } else { None };
            self.open.insert(name.to_owned(), Actor { client, id });
        }
        Ok(self.open.get_mut(name).expect("it was just inserted"))
    }

    fn keep(&mut self, step: &Step, mut value: Value) -> Vec<String> {
        if let Some(name) = &step.save {
            let bytes = match value.integer() {
                Some(number) => number.to_string().into_bytes(),
                None => value.bytes().unwrap_or_default().to_vec(),
            };
            self.saved.insert(name.clone(), bytes);
        }
        if step.unordered {
            value.sort();
        }
        value.notation()
    }

    fn fill_in(&self, step: &Step) -> io::Result<Vec<Vec<u8>>> {
        let (Action::Command(args) | Action::Send(args)) = &step.action else { return Ok(Vec::new()) };
        let filled = args.iter().map(|arg| match arg {
            Arg::Bytes(bytes) => Ok(bytes.clone()),
            Arg::Saved(name) => self
                .saved
                .get(name)
                .cloned()
                .ok_or_else(|| io::Error::other(format!("nothing was saved as {name}"))),
        });
        filled.collect()
    }
}

/// Waits until the connections of earlier cases have gone, whose subscriptions and waits could be seen.
pub fn wait_to_be_alone(client: &mut Client) -> io::Result<()> {
    let start = Instant::now();
    while start.elapsed() < GOODBYE_TIMEOUT {
        if client.run("CLIENT LIST")?.text().trim().lines().count() <= 1 {
            break;
        }
        thread::sleep(AT_ONCE);
    }
    Ok(())
}

/// Adds what came on a connection to the lines of a step.
fn append(step: &Step, name: &str, mut came: Vec<Vec<String>>, lines: &mut Vec<String>) {
    if step.unordered {
        came.sort();
    }
    lines.extend(came.iter().flatten().map(|line| format!("{name}< {line}")));
}

/// Whether a line of notation is the first of a value: not an element, and not attributes before it.
fn begins_value(line: &str) -> bool {
    !line.starts_with([' ', '|'])
}

/// A server may close before it has read everything; what follows will show.
fn sent(outcome: io::Result<()>) -> io::Result<Vec<String>> {
    match outcome {
        Err(error) if !is_disconnect(&error) => Err(error),
        _ => Ok(Vec::new()),
    }
}
