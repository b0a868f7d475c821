//! The append-only log under random commands: a server that logs is sent them and killed, and what it has when it was
//! started again is compared with what it had before; redis-server loads the same files.
//! Invariant: a round depends on nothing but its seed. Read next: `grammar.rs`.

use super::agree::agree_on_stream;
use super::grammar::{Grammar, Theme, is_subscription};
use super::harm::is_harmful;
use super::judge::Judge;
use super::random::Random;
use super::{Request, TRANSACTION_COMMAND_ONE_IN, TRANSACTION_COMMANDS, line, lines};
use crate::client::{Client, is_disconnect};
use crate::server::{Larder, Redis82, Server, fresh_dir};
use crate::value::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, io};

/// Commands of a round.
const ROUND_COMMANDS: usize = 400;
/// How rarely the other connection goes on.
const TURN_ONE_IN: usize = 20;
/// How rarely a round has its log rewritten on the way.
const REWRITE_ONE_IN: usize = 3;
/// Databases that are compared; the grammar selects no others.
const DATABASES: u8 = 3;
/// The database in which nothing but the last word before the kill stands.
const LAST_DATABASE: &str = "15";
/// Differences told.
const TOLD_MAX: usize = 5;
/// How often a shorter round is tried.
const TRIES_MAX: usize = 150;

/// What was run without a loss.
#[derive(Debug, Default)]
pub struct LogReport {
    /// Rounds, each with a kill.
    pub rounds: u64,
    /// Commands in all of them.
    pub commands: u64,
    /// Keys that were compared.
    pub keys: u64,
}

/// Something that is not the same after a kill.
#[derive(Debug)]
pub struct Loss {
    /// The seed that finds it again.
    pub seed: u64,
    /// What differs, where.
    pub description: String,
    /// The commands that it takes.
    pub commands: String,
}

/// Runs rounds until the time is over or something differs.
///
/// # Errors
/// Where a server could not be used at all.
pub fn run_log(seed: u64, time: Duration) -> io::Result<Result<LogReport, Box<Loss>>> {
    let (larder, redis) = (started(Larder::start_with_threads("1"))?, started(Redis82::start())?);
    let grammar = Grammar::load(&mut Judge::connect(&larder.address(), &redis.address())?, &[], &[])?;
    drop((larder, redis));
    let deadline = Instant::now() + time;
    let mut report = LogReport::default();
    while Instant::now() < deadline {
        let seed = seed.wrapping_add(report.rounds);
        let commands = make_round(&grammar, seed);
        match play(&commands)? {
            Ok(keys) => report.keys += keys,
            Err(description) => {
                let (commands, description) = shrink(commands, description)?;
                let commands = commands.iter().map(line).collect::<Vec<_>>().join("\n");
                return Ok(Err(Box::new(Loss { seed, description, commands })));
            }
        }
        report.rounds += 1;
        report.commands += commands.len() as u64;
    }
    Ok(Ok(report))
}

fn started(server: Result<Server, String>) -> io::Result<Server> {
    server.map_err(io::Error::other)
}

fn make_round(grammar: &Grammar, seed: u64) -> Vec<Request> {
    let mut random = Random::new(seed);
    let mut commands = grammar.other_types(&mut random);
    let theme = if random.one_in(2) { Theme::Transactions } else { Theme::Plain };
    let rewrites_at = random.one_in(REWRITE_ONE_IN).then(|| random.below(ROUND_COMMANDS));
    while commands.len() < ROUND_COMMANDS {
        if theme == Theme::Transactions && random.one_in(TRANSACTION_COMMAND_ONE_IN) {
            commands.push(lines::split(random.pick::<&str>(&TRANSACTION_COMMANDS)));
        }
        grammar.write_command(theme, &mut commands, &mut random);
    }
    if let Some(at) = rewrites_at {
        commands.insert(at, lines::split("BGREWRITEAOF"));
    }
    commands.retain(|request| !is_harmful(request) && !is_subscription(request) && !is_a_setting(request));
    commands
}

/// Whether a request changes settings. They are not kept over a restart, and some decide in what form values are.
fn is_a_setting(request: &Request) -> bool {
    request.first().is_some_and(|name| name.eq_ignore_ascii_case(b"config"))
}

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Folder> {
        fresh_dir().map(Folder)
    }

    fn options<'f>(&'f self, more: &[&'f str]) -> Vec<&'f str> {
        let dir = self.0.to_str().unwrap_or_default();
        [&["--appendonly", "yes", "--dir", dir][..], more].concat()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Sends the commands, kills the server, and compares: how many keys there are, or what differs.
fn play(commands: &[Request]) -> io::Result<Result<u64, String>> {
    let (folder, copy) = (Folder::new()?, Folder::new()?);
    let options = folder.options(&["--threads", "2"]);
    let server = started(Larder::start(&options))?;
    send(&server, commands)?;
    let before = contents(&mut server.client())?;
    // The end of a server is that of its process.
    drop(server);
    copy_log(&folder.0, &copy.0)?;
    let again = match Larder::start(&options) {
        Ok(again) => again,
        Err(problem) => return Ok(Err(format!("Larder does not start again: {problem}"))),
    };
    if let Some(difference) = compare(&before, &contents(&mut again.client())?) {
        return Ok(Err(format!("Larder has after the kill\n{difference}")));
    }
    drop(again);
    let redis = match Redis82::start_with(&copy.options(&[])) {
        Ok(redis) => redis,
        Err(problem) => return Ok(Err(format!("redis-server does not load the log: {problem}"))),
    };
    if let Some(difference) = compare(&before, &contents(&mut redis.client())?) {
        return Ok(Err(format!("redis-server has of the same log\n{difference}")));
    }
    Ok(Ok(before.len() as u64))
}

/// Sends commands over two connections in turn, each after the answer to the one before, and has all of it be on disk.
fn send(server: &Server, commands: &[Request]) -> io::Result<()> {
    let mut random = Random::new(commands.len() as u64);
    let mut clients = [Client::connect(&server.address())?, Client::connect(&server.address())?];
    for request in commands {
        if random.one_in(TURN_ONE_IN) {
            clients.swap(0, 1);
        }
        match clients[0].command(request) {
            Ok(_) => {}
            // Some commands end connections.
            Err(error) if is_disconnect(&error) => clients[0] = Client::connect(&server.address())?,
            Err(error) => return Err(error),
        }
    }
    drop(clients);
    let mut last = server.client();
    last.run(&format!("SELECT {LAST_DATABASE}"))?;
    last.run("SET last word")?;
    let reply = last.run("WAITAOF 1 0 10000")?;
    if reply.items().and_then(|items| items.first()).and_then(Value::integer) == Some(1) {
        return Ok(());
    }
    Err(io::Error::other(format!("the log is not on disk: {}", reply.notation().join(" "))))
}

fn copy_log(from: &Path, to: &Path) -> io::Result<()> {
    let to = to.join("appendonlydir");
    fs::create_dir_all(&to)?;
    for file in fs::read_dir(from.join("appendonlydir"))? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

/// What is known of a key.
#[derive(Debug)]
struct Entry {
    /// Type, digest, end, and the ends of its fields.
    told: Vec<String>,
    /// Groups of a stream.
    groups: Value,
    /// When it or a part of it ends first, in milliseconds of Unix time.
    end_ms: i64,
}

type Contents = BTreeMap<(u8, Vec<u8>), Entry>;

/// Everything that a server holds.
fn contents(client: &mut Client) -> io::Result<Contents> {
    let mut all = Contents::new();
    for db in 0..DATABASES {
        client.run(&format!("SELECT {db}"))?;
        let keys = client.run("KEYS *")?;
        for key in keys.items().unwrap_or_default().iter().filter_map(Value::bytes) {
            all.insert((db, key.to_vec()), entry(client, key)?);
        }
    }
    let libraries = client.run("FUNCTION LIST WITHCODE")?;
    let code = |library: &Value| library.field("library_code").map_or(String::new(), |code| code.text());
    let mut told: Vec<String> = libraries.items().unwrap_or_default().iter().map(code).collect();
    told.sort();
    all.insert((DATABASES, b"functions".to_vec()), Entry { told, groups: Value::Null, end_ms: i64::MAX });
    Ok(all)
}

fn entry(client: &mut Client, key: &[u8]) -> io::Result<Entry> {
    let kind = client.command(&[b"TYPE", key])?.text();
    let digest = client.command(&[&b"DEBUG"[..], b"DIGEST-VALUE", key])?;
    let end = client.command(&[b"PEXPIRETIME", key])?;
    let mut ends = vec![end.clone()];
    if kind == "hash" {
        let fields = client.command(&[b"HKEYS", key])?;
        let fields: Vec<&[u8]> = fields.items().unwrap_or_default().iter().filter_map(Value::bytes).collect();
        for field in fields {
            let end = client.command(&[&b"HPEXPIRETIME"[..], key, b"FIELDS", b"1", field])?;
            ends.extend(end.items().unwrap_or_default().iter().cloned());
        }
        // Fields come in no order that means anything.
        ends[1..].sort();
    }
    let groups = match kind.as_str() {
        "stream" => client.command(&[&b"XINFO"[..], b"STREAM", key, b"FULL", b"COUNT", b"0"])?,
        _ => Value::Null,
    };
    let end_ms = ends.iter().filter_map(Value::integer).filter(|end| *end >= 0).min().unwrap_or(i64::MAX);
    let ends = ends.iter().flat_map(Value::notation);
    let told = std::iter::once(kind).chain(digest.notation()).chain(ends).collect();
    Ok(Entry { told, groups: without_sizes(groups), end_ms })
}

/// XINFO without the figures of each server's own structures, and without what is not logged in Redis either: consumers who have
/// nothing (one whom XAUTOCLAIM makes and gives nothing), and when and how often an entry was delivered (to read again what
/// is pending counts as a delivery).
fn without_sizes(info: Value) -> Value {
    let own = [&b"radix-tree-keys"[..], b"radix-tree-nodes"];
    let kept =
        info.pairs().into_iter().filter(|(name, _)| !name.bytes().is_some_and(|name| own.contains(&name)));
    Value::Map(kept.map(|(name, value)| change(name, "groups", value, logged_of_group)).collect())
}

fn logged_of_group(group: &Value) -> Option<Value> {
    let fields = group.pairs().into_iter().map(|(name, value)| {
        let (name, value) = change(name, "pending", value, |row| first_words(row, 2));
        change(name, "consumers", value, logged_of_consumer)
    });
    Some(Value::Map(fields.collect()))
}

fn logged_of_consumer(consumer: &Value) -> Option<Value> {
    if consumer.field("pel-count") == Some(Value::Integer(0)) {
        return None;
    }
    let fields = consumer.pairs().into_iter();
    let fields = fields.map(|(name, value)| change(name, "pending", value, |row| first_words(row, 1)));
    Some(Value::Map(fields.collect()))
}

/// The first words of a row: of one that is pending its id, and the consumer where it is told.
fn first_words(row: &Value, count: usize) -> Option<Value> {
    Some(Value::Array(row.items()?.iter().take(count).cloned().collect()))
}

/// A field, whose elements are changed or left out if it has this name.
fn change(name: Value, wanted: &str, value: Value, by: impl Fn(&Value) -> Option<Value>) -> (Value, Value) {
    let value = match value.items() {
        Some(items) if name.bytes() == Some(wanted.as_bytes()) => {
            Value::Array(items.iter().filter_map(by).collect())
        }
        _ => value,
    };
    (name, value)
}

/// What is not the same, but for what has ended meanwhile.
fn compare(before: &Contents, after: &Contents) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
    let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let mut told = Vec::new();
    for key in keys {
        let pair = [before.get(key), after.get(key)];
        let has_ended = pair.into_iter().flatten().any(|entry| entry.end_ms <= now);
        let is_same = match pair {
            [Some(one), Some(other)] => one.told == other.told && agree_on_stream(&one.groups, &other.groups),
            _ => false,
        };
        if !has_ended && !is_same {
            told.push(format!("in {} {}: {pair:?}", key.0, key.1.escape_ascii()));
        }
    }
    told.truncate(TOLD_MAX);
    (!told.is_empty()).then(|| told.join("\n"))
}

/// Leaves out what the difference does not need.
fn shrink(mut commands: Vec<Request>, mut seen: String) -> io::Result<(Vec<Request>, String)> {
    let (mut chunk, mut tries) = (commands.len().div_ceil(2), 0);
    while chunk > 0 && tries < TRIES_MAX {
        let mut start = 0;
        while start < commands.len() && tries < TRIES_MAX {
            let mut fewer = commands.clone();
            fewer.drain(start..(start + chunk).min(fewer.len()));
            tries += 1;
            match play(&fewer)? {
                Err(description) => (commands, seen) = (fewer, description),
                Ok(_) => start += chunk,
            }
        }
        chunk /= 2;
    }
    Ok((commands, seen))
}
