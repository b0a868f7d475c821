//! Queues of writes that clients have been answered for, one for each source that a route writes behind: when they are opened and closed,
//! and how what is in them gets to the store.
//!
//! Invariant: a queue with something in it is not given up: its source and the routes of its keys stay as long as it has
//! writes, and what an earlier configuration left in it waits until there is a route for it again.
//!
//! Read next: `larder_behind`; `execute/behind.rs` for the workers' part.

use super::{Brought, Through};
use crate::clock::unix_millis;
use crate::execute::Core;
use crate::server::{Answer, Message, Server, Work};
use arc_swap::ArcSwap;
use larder_behind::{
    Change, Config, Files, Fsync, Key, Letter, Opened, Outcome, Owner, Queue, Store, Write, send_all,
};
use larder_source::{FlightKey, Parameter, Route, Routes, Shaped, SourceSpec, Template, Writes};
use larder_source_fetch::FetchError;
use larder_store::DbIndex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What the keys of the streams with dead letters begin with; the name of the source follows.
pub const DEAD_LETTERS: &str = "larder:dead-letters:";
/// The folder of all queues.
const FOLDER: &str = "write-behind";
/// How long a file of a queue gets.
const SEGMENT_BYTES: u64 = 16 << 20;
/// How long the server waits for stores to take what is queued when it stops.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// All queues, by source.
#[derive(Debug, Default)]
pub struct Behind {
    queues: ArcSwap<BTreeMap<String, Arc<Queue>>>,
    folder: OnceLock<PathBuf>,
}

/// Writes that are on disk, for who pushed them.
#[derive(Debug)]
pub struct Queued {
    /// Their numbers.
    pub seqs: Vec<u64>,
    /// Their keys.
    pub keys: Vec<(Box<[u8]>, Arc<Route>)>,
    /// What HSET or HDEL answers where there is no copy.
    pub fields: i64,
}

impl Through {
    /// The queue of a source, if it has one.
    pub fn queue(&self, source: &str) -> Option<Arc<Queue>> {
        self.behind.queues.load().get(source).cloned()
    }

    /// All queues.
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        self.behind.queues.load().values().cloned().collect()
    }

    /// What becomes of a key of a route by what is queued for the store, if anything is.
    pub fn queued_change(&self, route: &Route, db: u32, key: &[u8]) -> Option<Change> {
        if route.writes != Writes::Behind {
            return None;
        }
        self.behind.queues.load().get(&route.source)?.newest(db, key)
    }

    /// What a key of a route stands for by what is queued for the store, where that says all of it.
    pub fn queued(&self, route: &Route, db: u32, key: &[u8]) -> Option<Brought> {
        let change = self.queued_change(route, db, key)?;
        change.is_whole().then(|| laid_over(&change, Brought::Nothing))
    }
}

/// What a key stands for by a queued change, where the store has brought this.
pub fn laid_over(change: &Change, brought: Brought) -> Brought {
    let fields = match (change, brought) {
        (Change::Set(value), _) => return Brought::Value(Shaped::String(value.to_vec())),
        (Change::Delete, _) => return Brought::Nothing,
        (Change::Fields(fields), Brought::Value(Shaped::Hash(before))) => fields.lay_over(before),
        (Change::Fields(fields), Brought::Nothing) => fields.lay_over(Vec::new()),
        // What is there of it is as written already, or nobody knows.
        (Change::Fields(fields), brought) if !fields.is_new() => return brought,
        (Change::Fields(fields), _) => fields.lay_over(Vec::new()),
    };
    if fields.is_empty() { Brought::Nothing } else { Brought::Value(Shaped::Hash(fields)) }
}

/// Opens the queues that routes need or that are there from before, at start.
///
/// # Errors
/// What is on disk is damaged, or cannot be used: where, and what to do.
pub fn begin(server: &'static Server) -> Result<(), String> {
    let behind = &server.through.behind;
    let here = std::env::current_dir().map_err(|error| format!("write-behind: no folder: {error}"))?;
    let folder = behind.folder.get_or_init(|| here.join(FOLDER));
    let routes = server.through.routes();
    for name in folders(folder) {
        match routes.source(&name) {
            Some(spec) => open(server, spec)?,
            None => tracing::warn!(
                "{} holds writes or dead letters of a source that there is not; they wait there until there is a \
                 source '{name}' again",
                folder.join(&name).display()
            ),
        }
    }
    prepare(server, &routes)
}

/// The names of the queues that are on disk.
fn folders(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Before these routes are put into force: opens the queues that they need, and sees that nothing queued loses its way.
///
/// # Errors
/// Why they may not be put into force.
pub(super) fn prepare(server: &'static Server, after: &Routes) -> Result<(), String> {
    let before = server.through.routes();
    for queue in server.through.queues() {
        let name = queue.name();
        let figures = queue.figures();
        if after.source(name).is_none() && (figures.pending > 0 || figures.letters.0 > 0) {
            return Err(format!(
                "source '{name}' has {} queued writes and {} dead letters: wait for those, and CACHE SOURCE \
                 DEADLETTERS {name} CLEAR drops these",
                figures.pending, figures.letters.0
            ));
        }
        let lost = queue.find_key(|key, change| {
            let is_lost = can_send(&before, name, key, change) && !can_send(after, name, key, change);
            is_lost.then(|| key.bytes.escape_ascii().to_string())
        });
        if let Some(key) = lost {
            return Err(format!(
                "writes are queued for source '{name}' that need this route, like one of {key}: wait until the store has \
                 them (behind_pending in CACHE SOURCE INFO {name})"
            ));
        }
    }
    for route in after.all() {
        if route.writes == Writes::Behind
            && let Some(spec) = after.source(&route.source)
        {
            open(server, spec)?;
        }
    }
    Ok(())
}

/// Once other routes are in force.
pub(super) fn follow_change(server: &'static Server) {
    let routes = server.through.routes();
    for queue in server.through.queues() {
        match routes.source(queue.name()) {
            Some(spec) => {
                queue.set_config(config(spec));
                queue.release();
            }
            None => {
                let mut queues = (**server.through.behind.queues.load()).clone();
                queues.remove(queue.name());
                server.through.behind.queues.store(Arc::new(queues));
                queue.close();
                queue.remove_folder();
            }
        }
    }
}

/// At the end: gives the stores some time to take what is queued. What they do not is on disk.
pub fn finish(server: &'static Server) {
    let queues = server.through.queues();
    let end = crate::clock::now() + DRAIN_MAX;
    for queue in queues {
        let left = end.saturating_duration_since(crate::clock::now());
        // One that is paused or left alone takes nothing.
        let is_asked = server.through.source(queue.name()).is_some_and(|source| source.state() == "closed");
        if !queue.drain(if is_asked { left } else { Duration::ZERO }) {
            let pending = queue.figures().pending;
            tracing::warn!(
                "source {}: {pending} writes stay queued, and are sent after the next start",
                queue.name()
            );
        }
        queue.close();
    }
}

fn config(spec: &SourceSpec) -> Config {
    let fsync = match spec.behind_fsync {
        larder_source::Fsync::Always => Fsync::Always,
        larder_source::Fsync::EverySec => Fsync::EverySec,
        larder_source::Fsync::No => Fsync::No,
    };
    Config { fsync, bytes_max: spec.behind_bytes_max as u64, segment_bytes: SEGMENT_BYTES }
}

/// Whether there is a route by which a queued write can be sent.
fn can_send(routes: &Routes, source: &str, key: &Key, change: &Change) -> bool {
    routes.find(key.db, &key.bytes).is_some_and(|route| {
        route.source == source
            && route.writes == Writes::Behind
            && statements_for(route, &key.bytes, change).is_some()
    })
}

/// The statements by which a store takes a change; nothing where the route does not have them.
fn statements_for(route: &Route, key: &[u8], change: &Change) -> Option<Vec<(Template, Vec<Parameter>)>> {
    let mut bound: Vec<(&Template, Vec<Parameter>)> = Vec::new();
    match change {
        Change::Set(value) => bound.push(route.statement(key, Some(value))?),
        Change::Delete => bound.push(route.statement(key, None)?),
        Change::Fields(fields) => {
            if fields.is_new() {
                bound.push(route.statement(key, None)?);
            }
            let (set, removed): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| value.is_some());
            if !set.is_empty() {
                bound.extend(route.field_statements(key, &set).ok()?);
            }
            if !removed.is_empty() && !fields.is_new() {
                bound.extend(route.field_statements(key, &removed).ok()?);
            }
        }
    }
    Some(bound.into_iter().map(|(statement, values)| (statement.clone(), values)).collect())
}

/// Opens the queue of a source and begins to send, unless that is so.
fn open(server: &'static Server, spec: &Arc<SourceSpec>) -> Result<(), String> {
    let behind = &server.through.behind;
    let Some(folder) = behind.folder.get() else { return Ok(()) };
    if server.through.queue(&spec.name).is_some() {
        return Ok(());
    }
    let settled = move |owner: &Arc<Owner>| {
        if let Some(waiter) = server.blocked.take_settled(owner.client) {
            let answer = Answer::new(owner.client, waiter.ticket, b":0\r\n");
            server.mailboxes[waiter.worker].send(Message::Answer(answer));
        }
    };
    let folder = folder.join(&spec.name);
    let Opened { queue, letters } = Queue::open(&spec.name, &folder, config(spec), Files, Box::new(settled))?;
    let figures = queue.figures();
    if figures.pending > 0 {
        tracing::info!("source {}: {} writes from before are queued", spec.name, figures.pending);
    }
    let sender = ToSource { server, name: spec.name.clone(), number: queue.number() };
    letters.into_iter().for_each(|letter| sender.show(letter));
    let sent = Arc::clone(&queue);
    std::thread::Builder::new()
        .name(format!("send-{}", spec.name))
        .spawn(move || send_all(&sent, &sender))
        .map_err(|error| format!("write-behind: cannot start a thread: {error}"))?;
    let mut queues = (**behind.queues.load()).clone();
    queues.insert(spec.name.clone(), queue);
    behind.queues.store(Arc::new(queues));
    Ok(())
}

/// A source as the store of a queue.
struct ToSource {
    server: &'static Server,
    name: String,
    /// The queue's, under which it is written in order.
    number: u64,
}

/// What the store is told for a write. Shared, since batches are cut up.
#[derive(Clone)]
struct Told {
    key: Arc<Key>,
    route: Arc<Route>,
    statements: Arc<Vec<(Template, Vec<Parameter>)>>,
    /// Some fields of a row that may not be there.
    is_partial: bool,
}

impl ToSource {
    fn show(&self, letter: Letter) {
        let name = self.name.clone();
        let work = move |core: &mut Core| core.show_letter(&name, &letter);
        self.send(work);
    }

    fn send(&self, work: impl FnOnce(&mut Core) + Send + 'static) {
        if let Some(mailbox) = self.server.mailboxes.first() {
            mailbox.send(Message::Work(Work(Box::new(work))));
        }
    }

    /// Drops the copies of hashes of which the store has changed nothing: it may have no such row.
    fn drop_without_rows(&self, told: &[Told], rows: &[u64]) {
        let mut rows = rows.iter();
        for Told { key, route, statements, is_partial } in told {
            let changed: u64 = rows.by_ref().take(statements.len()).sum();
            if *is_partial && changed == 0 {
                let keys = vec![(key.bytes.clone(), Arc::clone(route))];
                let db = DbIndex(key.db);
                self.send(move |core: &mut Core| core.drop_copies(db, keys));
            }
        }
    }

    fn route(&self, write: &Write) -> Option<Arc<Route>> {
        let routes = self.server.through.routes();
        let route = routes.find(write.key.db, &write.key.bytes)?;
        (route.source == self.name && route.writes == Writes::Behind).then(|| Arc::clone(route))
    }
}

impl Store for ToSource {
    type Statement = Told;

    fn batch_max(&self) -> usize {
        let Some(source) = self.server.through.source(&self.name) else { return 1 };
        // An origin takes one change at a time.
        let is_http = matches!(source.spec.scheme(), "http" | "https");
        if is_http { 1 } else { source.spec.behind_batch }
    }

    fn prepare(&self, write: &Write) -> Option<Told> {
        let route = self.route(write)?;
        let statements = Arc::new(statements_for(&route, &write.key.bytes, &write.change)?);
        Some(Told { key: Arc::clone(&write.key), route, statements, is_partial: !write.change.is_whole() })
    }

    fn text(&self, told: &Told) -> String {
        let mut texts: Vec<&str> = told.statements.iter().map(|(statement, _)| statement.text()).collect();
        texts.dedup();
        texts.join("; ")
    }

    fn write(&self, told: &[Told]) -> Outcome {
        let Some(source) = self.server.through.source(&self.name) else {
            return Outcome::Later(format!("there is no source '{}'", self.name));
        };
        let runtime = match self.server.through.runtime() {
            Ok(runtime) => runtime,
            Err(text) => return Outcome::Later(text),
        };
        let statements: Vec<(&Template, Vec<Parameter>)> = told
            .iter()
            .flat_map(|told| &*told.statements)
            .map(|(one, values)| (one, values.clone()))
            .collect();
        match runtime.block_on(source.write_in_order(self.number, &statements)) {
            Ok(rows) => {
                self.drop_without_rows(told, &rows);
                Outcome::Done
            }
            Err(FetchError::Failed(text)) => Outcome::Refused(text),
            Err(FetchError::Down(text) | FetchError::TimedOut(text)) => Outcome::Later(text),
        }
    }

    fn leaves(&self, writes: &[Write]) {
        for write in writes {
            let Key { db, bytes } = &*write.key;
            let hash = self.server.keyspace.hash(bytes);
            self.server.through.flights.overtake(&FlightKey { db: *db, key: bytes.clone() }, hash);
            if let Some(route) = self.route(write) {
                route.stats.writes.fetch_add(1, Relaxed);
            }
        }
    }

    fn buried(&self, letter: Letter) {
        tracing::warn!("write-behind: source {} refuses a write for good: {}", self.name, letter.error);
        if let Some(route) = self.route(&letter.write) {
            // The copy is what the store does not have.
            let keys = vec![(letter.write.key.bytes.clone(), route)];
            let db = DbIndex(letter.write.key.db);
            self.send(move |core: &mut Core| core.drop_copies(db, keys));
        }
        self.show(letter);
    }

    fn now_ms(&self) -> u64 {
        unix_millis().0
    }
}
