//! Read-through: keys that stand for something in a slower store, and how it gets here.
//!
//! A read that misses such a key leads or joins its flight and its connection is parked (`execute/unfound.rs`); the store is asked on a runtime of its own
//! (`fetch.rs`); what it answers is kept by the worker that led (`execute/landing.rs`), and who waited is asked again. No
//! command knows of it, and without routes it costs nothing.
//!
//! Invariants: a flight that began lands, whatever becomes of the task that fetches (`fetch.rs` sees to it when dropped). Routes and the
//! lines of the settings they were made of are changed together, under the lock of the plan.
//! Read next: `larder_source`'s `route.rs` and `flight.rs` for what all this means.

mod arrived;
pub mod behind;
mod fetch;
mod follow;
mod keep;
mod nature;
mod warm;

pub use arrived::{Arrived, Given, Loading};
pub use behind::{DEAD_LETTERS, Queued, laid_over};
pub use fetch::{BATCH_KEYS_MAX, Landings, Leads, fetch};
pub use follow::{Follower, Stop, drop_route, drop_unfollowed, follow, leave};
pub use keep::keep;
pub use warm::{Piece, warm};

use crate::execute::{Marks, classes_of, put_classes};
use crate::server::Server;
use arc_swap::ArcSwap;
use larder_config::Settings;
use larder_source::{
    Driver, Failure, FeedDown, Flights, OnError, Purpose, Route, Routes, Shaped, SourceSpec, Template,
};
use larder_source_fetch::{FetchError, Source};
use larder_sources::Runtime;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who waits for a flight: a connection, by its worker and what it is parked under.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Waiting {
    /// The worker that owns the connection.
    pub worker: usize,
    /// The client.
    pub client: u64,
    /// What its connection is parked under.
    pub ticket: u64,
}

/// What a flight brought, for those who wait.
#[derive(Debug)]
pub enum Brought {
    /// A value, kept or not.
    Value(Shaped),
    /// The copy that there was is right still.
    Unchanged,
    /// The store has nothing.
    Nothing,
    /// The store gave no answer: what clients are told who have no old copy; as if there were nothing where the route says so.
    Failure(Option<String>),
    /// The store has what was to be written.
    Written(Box<Written>),
    /// What was to be written is queued on disk.
    Queued(Box<Queued>),
    /// It takes long: who has an old copy is to be given it.
    Late(String),
}

/// Writes that the store has, for who asked for them.
#[derive(Debug)]
pub struct Written {
    /// The number of the write, for each key.
    pub marks: Vec<u64>,
    /// Rows that each statement changed.
    pub rows: Vec<u64>,
    /// What HSET or HDEL answers.
    pub fields: i64,
    /// The keys of a transaction's writes, whose copies go if it does not run.
    pub keys: Vec<(Box<[u8]>, Arc<Route>)>,
}

// Thousands of them are brought at a time.
const _: () = assert!(size_of::<Brought>() <= 40);

/// Sources, routes and flights.
#[derive(Debug, Default)]
pub struct Through {
    routes: ArcSwap<Routes>,
    sources: Mutex<BTreeMap<String, Arc<Source>>>,
    /// Who fetches, and who waits.
    pub flights: Flights<Waiting>,
    /// Which writes began last.
    pub marks: Marks,
    /// Writes that stores do not have yet.
    behind: behind::Behind,
    /// What routes say of keys to those who invalidate them.
    natures: nature::Natures,
    /// Sources whose changes are followed, by name.
    followers: Mutex<BTreeMap<String, Stop>>,
}

impl Through {
    /// The routes in force.
    pub fn routes(&self) -> Arc<Routes> {
        self.routes.load_full()
    }

    /// What the routes in force say of the keys of a database.
    pub fn nature(&self, db: u32) -> Arc<nature::ByRoutes> {
        self.natures.of(db, &self.routes())
    }

    /// A source by its name.
    pub fn source(&self, name: &str) -> Option<Arc<Source>> {
        self.sources.lock().get(name).cloned()
    }

    /// All sources, by name.
    pub fn sources(&self) -> Vec<Arc<Source>> {
        self.sources.lock().values().cloned().collect()
    }

    /// How a source is followed, if it is.
    pub fn follower(&self, name: &str) -> Option<Arc<Follower>> {
        self.followers.lock().get(name).map(|stop| Arc::clone(&stop.0))
    }

    /// Whether copies of a route are not to be relied on at this time, since the changes of its source are not told.
    pub fn is_bypassed(&self, route: &Route, now_ms: u64) -> bool {
        let FeedDown::BypassAfter(limit) = route.feed_down else { return false };
        let down_ms = self.follower(&route.source).and_then(|follower| follower.down_ms(now_ms));
        down_ms.is_some_and(|down_ms| u128::from(down_ms) >= limit.as_millis())
    }

    /// Whether copies of any route are not to be relied on.
    pub fn is_any_bypassed(&self, routes: &Routes, now_ms: u64) -> bool {
        routes.all().iter().any(|route| self.is_bypassed(route, now_ms))
    }

    /// The runtime on which stores are asked; started when it is first needed.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn runtime(&self) -> Result<Runtime, String> {
        Runtime::get().map_err(|failure| failure.text)
    }

    /// Puts routes and the sources they name into force. Sources whose line is the same stay as they are.
    fn put(&self, routes: Routes, sources: BTreeMap<String, Arc<Source>>) {
        *self.sources.lock() = sources;
        self.routes.store(Arc::new(routes));
    }

    /// Takes over the lines of the settings at start, and has the stores check them.
    ///
    /// # Errors
    /// A line is wrong, or its store refuses it: which, where, and why. A store that cannot be reached is not an error: it is
    /// asked when a key is.
    pub fn begin(&self, server: &Server, settings: &Settings) -> Result<(), String> {
        let (specs, mut routes) = parse_lines(settings)?;
        if specs.is_empty() {
            return Ok(());
        }
        let mut sources = BTreeMap::new();
        for spec in &specs {
            let driver = open(spec).map_err(|failure| format!("source {}: {failure}", spec.name))?;
            sources.insert(spec.name.clone(), Arc::new(Source::new(Arc::clone(spec), driver)));
        }
        let runtime = self.runtime()?;
        for route in &mut routes {
            let Some(source) = sources.get(&route.source).cloned() else { continue };
            let checked = runtime.block_on(check(&source, route));
            match checked {
                Ok(()) => {}
                Err(CheckError::Unknown(text)) => {
                    tracing::warn!("route {} is not checked: {text}", route.pattern)
                }
                Err(CheckError::Wrong(text)) => return Err(format!("route {}: {text}", route.pattern)),
            }
        }
        let routes = Routes::new(routes.into_iter().map(Arc::new).collect(), specs)?;
        let classes = classes_of(&routes)?;
        self.put(routes, sources);
        put_classes(server, classes);
        Ok(())
    }
}

/// Why a route was not found right by its store.
#[derive(Debug)]
pub enum CheckError {
    /// The store was not asked, or gave no answer.
    Unknown(String),
    /// The store refuses it, or what it answers does not fit.
    Wrong(String),
}

/// A driver for a source.
///
/// # Errors
/// The URL is none of a store that there is a driver for, or the password cannot be read.
pub fn open(spec: &SourceSpec) -> Result<Arc<dyn Driver>, Failure> {
    larder_sources::open(spec)
}

/// Reads the `source` and `route` lines of settings, without asking any store.
///
/// # Errors
/// Which line is wrong, at which word, and why.
pub fn parse_lines(settings: &Settings) -> Result<(Vec<Arc<SourceSpec>>, Vec<Route>), String> {
    let mut specs: Vec<Arc<SourceSpec>> = Vec::new();
    for line in settings.source() {
        let spec = SourceSpec::parse(&words(line)).map_err(|error| shown("source", line, &error))?;
        if specs.iter().any(|known| known.name == spec.name) {
            return Err(format!("there are two sources named {}", spec.name));
        }
        specs.push(Arc::new(spec));
    }
    let mut routes = Vec::new();
    for line in settings.route() {
        let language = |name: &str| specs.iter().find(|spec| spec.name == name).map(|spec| spec.language());
        let route = Route::parse(&words(line), language).map_err(|error| shown("route", line, &error))?;
        if route.db as usize >= settings.databases() as usize {
            return Err(format!("route {}: there is no database {}", route.pattern, route.db));
        }
        routes.push(route);
    }
    classes_of(&Routes::new(routes.iter().cloned().map(Arc::new).collect(), specs.clone())?)?;
    Ok((specs, routes))
}

/// The words of a line as text; what is not UTF-8 is found wrong where it is read.
pub fn words(line: &[Vec<u8>]) -> Vec<String> {
    line.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn shown(directive: &str, line: &[Vec<u8>], error: &larder_source::LineError) -> String {
    let name = line.first().map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default();
    format!("{directive} {name}: {error}")
}

/// Has a source check the statements of a route, and takes what it says over.
pub async fn check(source: &Source, route: &mut Route) -> Result<(), CheckError> {
    let statements: Vec<(&str, Template, Purpose)> = [
        ("query", Some(&route.query), Purpose::Load),
        ("batch", route.batch.as_ref(), Purpose::Batch),
        ("warm", route.warm.as_ref(), Purpose::Batch),
        ("set", route.set.as_ref(), Purpose::Write),
        ("del", route.del.as_ref(), Purpose::Write),
        ("hset", route.hset.as_ref(), Purpose::Write),
        ("hdel", route.hdel.as_ref(), Purpose::Write),
    ]
    .into_iter()
    .filter_map(|(name, statement, purpose)| Some((name, statement?.clone(), purpose)))
    .collect();
    if !route.invalidate.is_empty() && source.driver().feed().is_none() {
        let text = format!("invalidate: source '{}' cannot tell of changes", source.spec.name);
        return Err(CheckError::Wrong(text));
    }
    for (name, statement, purpose) in statements {
        let checked = source.check(&statement, purpose).await.map_err(|error| match error {
            FetchError::Failed(text) => CheckError::Wrong(format!("{name}: {text}")),
            FetchError::Down(text) | FetchError::TimedOut(text) => CheckError::Unknown(text),
        })?;
        route.learn(purpose, &checked).map_err(|text| CheckError::Wrong(format!("{name}: {text}")))?;
    }
    Ok(())
}

/// A change of sources or routes, made whole or not at all: what is in force, and the lines that CONFIG REWRITE writes.
///
/// # Errors
/// What is wrong with it; nothing has changed then.
pub fn change(
    server: &'static Server,
    work: impl FnOnce(&mut Vec<Arc<Route>>, &mut BTreeMap<String, Arc<Source>>) -> Result<(), String>,
) -> Result<(), String> {
    let through = &server.through;
    // Whoever holds the plan changes settings.
    let turn = server.plan.lock();
    let mut routes = through.routes().all().to_vec();
    let mut sources = through.sources.lock().clone();
    work(&mut routes, &mut sources)?;
    let specs: Vec<Arc<SourceSpec>> = sources.values().map(|source| Arc::clone(&source.spec)).collect();
    let lines = |words: &[String]| words.iter().map(|word| word.clone().into_bytes()).collect::<Vec<_>>();
    let source_lines: Vec<_> = specs.iter().map(|spec| lines(&spec.words)).collect();
    let route_lines: Vec<_> = routes.iter().map(|route| lines(&route.words)).collect();
    let before = through.routes();
    let after = Routes::new(routes, specs)?;
    let classes = classes_of(&after)?;
    behind::prepare(server, &after)?;
    through.put(after, sources);
    put_classes(server, classes);
    let settings = server.settings().with_lines("source", &source_lines).with_lines("route", &route_lines);
    server.set_settings(settings);
    behind::follow_change(server);
    drop(turn);
    // What is under way by a route that is gone or another is not kept.
    let now = through.routes();
    through.flights.overtake_all(|db, key| {
        let (old, new) = (before.find(db, key), now.find(db, key));
        !matches!((old, new), (Some(old), Some(new)) if Arc::ptr_eq(old, new))
    });
    for route in before.all() {
        if !now.all().iter().any(|kept| Arc::ptr_eq(kept, route)) {
            // What it brought is no longer looked after.
            drop_route(server, route);
        }
    }
    follow(server);
    Ok(())
}

/// What clients are told of a failure, by what their route says.
pub fn failure_of(route: &Route, error: &FetchError) -> Brought {
    Brought::Failure((route.on_error == OnError::Error).then(|| error.reply()))
}
