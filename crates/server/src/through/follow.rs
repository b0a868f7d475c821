//! Following what others change in the stores: a change maps to keys by the routes' `invalidate`, and their copies go.
//!
//! A source is followed while one of its routes asks for it. A feed that ends begins again, a little later each time; whenever
//! changes may have been missed, every copy of the routes that depend on it goes.

use crate::clock::unix_millis;
use crate::execute::Core;
use crate::server::{Message, Server, Work};
use larder_source::{Change, Feed, FeedDown, Named, Position, Route, Told};
use larder_source_fetch::{Latch, Source, within};
use larder_store::DbIndex;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::time::Duration;

/// The pause before a feed that ended begins again; it doubles up to the other.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Buckets looked through between two turns that answer clients.
const FEW_BUCKETS: usize = 64;
/// Buckets looked through at a time behind loading, and how often it is looked whether the server is to stop.
const LOADED_BUCKETS: usize = 4096;
const LOOK: Duration = Duration::from_millis(50);
/// How long the server waits for stores when it stops.
const LEAVE_MAX: Duration = Duration::from_secs(3);

/// A source that is followed.
#[derive(Debug)]
pub struct Follower {
    source: Arc<Source>,
    /// The tables whose changes are told.
    pub tables: Vec<String>,
    /// Since when changes are not told, in milliseconds of the system's clock; 0 while they are.
    down_since: AtomicU64,
    /// How long after it was done the last change was told, by the store's clock and ours, in milliseconds; 0 while nothing is left to
    /// tell.
    pub lag_ms: AtomicU64,
    /// Changes told so far.
    pub changes: AtomicU64,
    /// Times that changes may have been missed.
    pub gaps: AtomicU64,
    /// What is to be done once more when everybody sees what was told.
    unseen: Mutex<Unseen>,
    /// Open once the first attempt to follow has come to something: what is loaded before would be dropped when changes begin
    /// to be told.
    pub begun: Latch,
    /// Open when it is no longer wanted.
    over: Latch,
    /// Open when it is gone.
    ended: Latch,
}

/// Does something again.
type Again = Box<dyn Fn() + Send>;

/// What was done for transactions that not everybody sees yet, where a store tells when they do.
#[derive(Default)]
struct Unseen {
    /// The one that is told of.
    current: Option<u64>,
    by_transaction: BTreeMap<u64, Vec<Again>>,
}

impl std::fmt::Debug for Unseen {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Unseen").field("current", &self.current).finish_non_exhaustive()
    }
}

impl Follower {
    fn new(source: Arc<Source>, tables: Vec<String>) -> Follower {
        Follower {
            source,
            tables,
            down_since: AtomicU64::new(unix_millis().0),
            lag_ms: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            unseen: Mutex::default(),
            begun: Latch::default(),
            over: Latch::default(),
            ended: Latch::default(),
        }
    }

    /// Notes that changes are no longer told.
    fn interrupted(&self) {
        let before = self.down_since.load(Relaxed);
        self.down_since.store(unix_millis().0.max(before + 1), Relaxed);
        self.begun.open();
    }

    /// For how long changes have not been told, in milliseconds; nothing while they are.
    pub fn down_ms(&self, now_ms: u64) -> Option<u64> {
        match self.down_since.load(Relaxed) {
            0 => None,
            since => Some(now_ms.saturating_sub(since)),
        }
    }

    /// For how long a change that is told may not be seen by queries yet.
    fn settle(&self) -> Duration {
        let tells_early = self.source.driver().feed().is_some_and(Feed::tells_early);
        if tells_early { self.source.spec.settle } else { Duration::ZERO }
    }

    /// Does again what was done for a transaction, or for all, since everybody sees it from here on.
    fn shown(&self, transaction: Option<u64>) {
        let mut unseen = self.unseen.lock();
        let all = match transaction {
            Some(number) => unseen.by_transaction.remove_entry(&number).into_iter().collect(),
            None => std::mem::take(&mut *unseen).by_transaction,
        };
        drop(unseen);
        all.values().flatten().for_each(|again| again());
    }

    /// Has it done again once everybody sees the transaction that is told of, where the store tells when that is so. Else it comes back.
    fn when_shown(&self, again: Again) -> Option<Again> {
        let mut unseen = self.unseen.lock();
        let Some(current) = unseen.current else { return Some(again) };
        unseen.by_transaction.entry(current).or_default().push(again);
        None
    }

    /// Whether every change is told at this time.
    pub fn is_following(&self) -> bool {
        self.down_since.load(Relaxed) == 0
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.over.open();
    }
}

/// Ends a follower when it is dropped.
#[derive(Debug)]
pub struct Stop(pub Arc<Follower>);

/// Follows the sources that routes want followed, goes on with those that are, and ends the others.
pub fn follow(server: &'static Server) {
    let through = &server.through;
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for route in through.routes().all() {
        for (table, _) in &route.invalidate {
            let tables = wanted.entry(route.source.clone()).or_default();
            if !tables.contains(table) {
                tables.push(table.clone());
            }
        }
    }
    let mut followers = through.followers.lock();
    followers.retain(|name, stop| {
        let is_same = through.source(name).is_some_and(|source| Arc::ptr_eq(&source, &stop.0.source));
        is_same && wanted.get(name).is_some_and(|tables| *tables == stop.0.tables)
    });
    for (name, tables) in wanted {
        if followers.contains_key(&name) {
            continue;
        }
        let (Some(source), Ok(runtime)) = (through.source(&name), through.runtime()) else { continue };
        let follower = Arc::new(Follower::new(source, tables));
        followers.insert(name, Stop(Arc::clone(&follower)));
        runtime.spawn(async move {
            go_on(server, &follower).await;
            follower.begun.open();
            follower.ended.open();
        });
    }
}

/// Follows a source until that is no longer wanted, and then takes away what following left in the store.
async fn go_on(server: &'static Server, follower: &Arc<Follower>) {
    let (source, over) = (&follower.source, &follower.over);
    let name = &source.spec.name;
    let Some(feed) = source.driver().feed() else { return };
    let mut pause = PAUSE_FIRST;
    let mut reached: Option<Position> = None;
    while !over.is_open() {
        let from = reached.clone();
        let mut goes_on = from.is_some();
        let mut tell = |told: Told| match told {
            Told::Reached(position) => reached = Some(position),
            told => heed(server, follower, told, &mut goes_on),
        };
        let ended = over.unless(feed.follow(&follower.tables, from, &mut tell)).await;
        // Those that are not seen yet are told again, or everything is dropped.
        follower.shown(None);
        pause = if follower.is_following() { PAUSE_FIRST } else { (pause * 2).min(PAUSE_MAX) };
        follower.interrupted();
        match ended {
            None => break,
            Some(Ok(never)) => match never {},
            Some(Err(failure)) => tracing::warn!(
                "source {name} does not tell of changes any more, and is followed again: {failure}"
            ),
        }
        over.unless(larder_source_fetch::pause(pause)).await;
    }
    // Unless another follows it by now.
    if server.through.follower(name).is_none()
        && let Err(failure) = feed.remove().await
    {
        tracing::warn!("what told of changes stays in source {name}: {failure}");
    }
}

/// Does what is to be done about what a feed tells. `goes_on`: nothing has been missed since it told before.
fn heed(server: &'static Server, follower: &Arc<Follower>, told: Told, goes_on: &mut bool) {
    match told {
        Told::Following if *goes_on => following(server, follower, Vec::new()),
        Told::Following => {
            // What was loaded before somebody listened may have changed since.
            let routes = routes_of(server, follower, None);
            let settle = follower.settle();
            match server.through.runtime() {
                Ok(runtime) if !settle.is_zero() => {
                    let follower = Arc::clone(follower);
                    runtime.spawn(async move {
                        larder_source_fetch::pause(settle).await;
                        following(server, &follower, routes);
                    });
                }
                _ => following(server, follower, routes),
            }
        }
        Told::Gap => {
            follower.gaps.fetch_add(1, Relaxed);
            // Before the first one follows nothing is loaded.
            if follower.begun.is_open() {
                drop_routes(server, follower, None);
            }
            *goes_on = false;
        }
        Told::Transaction(number) => follower.unseen.lock().current = Some(number),
        Told::Shown(number) => follower.shown(Some(number)),
        Told::Emptied(table) => drop_routes(server, follower, Some(&table)),
        Told::Changed(change) => {
            follower.changes.fetch_add(1, Relaxed);
            invalidate(server, follower, &change);
        }
        Told::At(at_ms) => follower.lag_ms.store(unix_millis().0.saturating_sub(at_ms), Relaxed),
        Told::Idle => follower.lag_ms.store(0, Relaxed),
        Told::Reached(_) => {}
    }
}

/// From here on changes are told; `unsure` are the routes whose copies are older than that.
fn following(server: &'static Server, follower: &Arc<Follower>, unsure: Vec<Arc<Route>>) {
    let (follower, since) = (Arc::clone(follower), follower.down_since.load(Relaxed));
    let begin = move || {
        // Unless the feed has ended meanwhile.
        _ = follower.down_since.compare_exchange(since, 0, Relaxed, Relaxed);
        follower.begun.open();
    };
    send(server, move |core| drop_then(core, unsure, 0, Box::new(begin)));
}

/// Drops the copies of routes, the last one's from a place on, some at a time, and then does something. What is being loaded of
/// them is not kept either, unless the store is yet to be asked: loads that wait for the feed begin behind this.
fn drop_then(core: &mut Core, mut routes: Vec<Arc<Route>>, cursor: u64, then: Box<dyn FnOnce() + Send>) {
    let Some(route) = routes.last() else { return then() };
    if cursor == 0 {
        core.server.through.flights.overtake_asked(|db, key| route.has(db, key));
    }
    let next = core.drop_some_of_route(route, cursor, FEW_BUCKETS);
    if next == 0 {
        routes.pop();
    }
    send(core.server, move |core| drop_then(core, routes, next, then));
}

/// Ends all followers, and has the stores forget them: a slot that nobody reads would fill the disk of its store. Waits a moment at
/// most.
pub fn leave(server: &'static Server) {
    let stops = std::mem::take(&mut *server.through.followers.lock());
    let followers: Vec<Arc<Follower>> = stops.values().map(|stop| Arc::clone(&stop.0)).collect();
    drop(stops);
    if followers.is_empty() {
        return;
    }
    let Ok(runtime) = server.through.runtime() else { return };
    let all = async {
        for follower in &followers {
            follower.ended.opened().await;
        }
    };
    if runtime.block_on(async { within(LEAVE_MAX, all).await }).is_none() {
        tracing::warn!("a source did not answer in time: what told of its changes may still be there");
    }
}

/// Drops the copies of the keys that a change concerns.
fn invalidate(server: &'static Server, follower: &Follower, change: &Change) {
    for route in server.through.routes().all() {
        if route.source != follower.source.spec.name {
            continue;
        }
        for (table, columns) in &route.invalidate {
            if !concerns(table, change) {
                continue;
            }
            let rows = [change.before.as_ref(), change.after.as_ref()];
            let mut keys: Vec<Box<[u8]>> = Vec::new();
            let mut is_told = true;
            for row in rows.into_iter().flatten() {
                match key_of(route, table, columns, row) {
                    Some(key) if !keys.iter().any(|known| **known == *key) => keys.push(key.into()),
                    Some(_) => {}
                    None => is_told = false,
                }
            }
            if !is_told {
                // The store did not tell what the row was before, or is: any key may be meant.
                drop_now_and_settled(server, follower, route, None);
            } else if !keys.is_empty() {
                route.stats.invalidated.fetch_add(keys.len() as u64, Relaxed);
                drop_now_and_settled(server, follower, route, Some(keys));
            }
        }
    }
}

/// Drops these copies of a route, or all; and again once a store that tells of a change before others can see it shows it
/// to everybody, by what it says or after some time: what was loaded in between is old.
fn drop_now_and_settled(
    server: &'static Server,
    follower: &Follower,
    route: &Arc<Route>,
    keys: Option<Vec<Box<[u8]>>>,
) {
    let route = Arc::clone(route);
    let again: Again = Box::new(move || match &keys {
        None => drop_route(server, &route),
        Some(keys) => {
            let keys = keys.iter().map(|key| (key.clone(), Arc::clone(&route))).collect();
            let db = DbIndex(route.db);
            send(server, move |core| core.drop_copies(db, keys));
        }
    });
    again();
    let Some(again) = follower.when_shown(again) else { return };
    let settle = follower.settle();
    if !settle.is_zero()
        && let Ok(runtime) = server.through.runtime()
    {
        runtime.spawn(async move {
            larder_source_fetch::pause(settle).await;
            again();
        });
    }
}

/// Whether a change is of what a route names: a table, or for a store of keys the beginning of its keys.
fn concerns(named: &str, change: &Change) -> bool {
    let row = change.after.as_ref().or(change.before.as_ref());
    match row.and_then(key_told) {
        Some(key) => key.starts_with(named.as_bytes()),
        None => is_table(named, &change.table),
    }
}

/// The key that changed, where the store is one of keys.
fn key_told(row: &Named) -> Option<Vec<u8>> {
    match (&*row.names, &*row.row) {
        ([name], [cell]) if name == "key" => larder_source::text_of(cell),
        _ => None,
    }
}

/// Whether a table that a store tells is the one that a route names, with or without its schema.
fn is_table(named: &str, told: &str) -> bool {
    named == told || told.rsplit_once('.').is_some_and(|(_, bare)| bare == named)
}

fn key_of(route: &Route, table: &str, columns: &[String], row: &Named) -> Option<Vec<u8>> {
    if let (Some(key), [column]) = (key_told(row), columns)
        && column == "key"
    {
        // What stands behind the beginning is what the pattern's name stands for.
        let value = key.strip_prefix(table.as_bytes())?;
        return Some(route.pattern.key_of(&[value.to_vec()]));
    }
    let value = |column: &String| {
        let place = row.names.iter().position(|name| name.eq_ignore_ascii_case(column))?;
        larder_source::text_of(row.row.get(place)?)
    };
    let values: Option<Vec<Vec<u8>>> = columns.iter().map(value).collect();
    Some(route.pattern.key_of(&values?))
}

fn drop_routes(server: &'static Server, follower: &Follower, table: Option<&str>) {
    for route in routes_of(server, follower, table) {
        drop_now_and_settled(server, follower, &route, None);
    }
}

/// The routes that hear of a source's table, or of any of its.
fn routes_of(server: &'static Server, follower: &Follower, table: Option<&str>) -> Vec<Arc<Route>> {
    let concerns = |(named, _): &(String, Vec<String>)| table.is_none_or(|table| is_table(named, table));
    let routes = server.through.routes();
    let all = routes.all().iter().filter(|route| route.source == follower.source.spec.name);
    all.filter(|route| route.invalidate.iter().any(concerns)).cloned().collect()
}

/// Drops every copy of a route, in the background.
pub fn drop_route(server: &'static Server, route: &Arc<Route>) {
    let route = Arc::clone(route);
    send(server, move |core| core.drop_route(&route, 0));
}

/// Behind loading, before anything is served: drops the copies of routes that may be given for a limited time only while changes are not
/// told. Nobody has listened since the file was written, and how long ago that was says nothing of what changed. Called on a thread
/// that is no worker; returns when they are gone, or the server stops.
pub fn drop_unfollowed(server: &'static Server) {
    let routes = server.through.routes();
    for route in routes.all().iter().filter(|route| route.feed_down != FeedDown::Serve) {
        let mut cursor = 0;
        loop {
            let route = Arc::clone(route);
            let some = move |core: &mut Core| core.drop_some_of_route(&route, cursor, LOADED_BUCKETS);
            match done(server, some) {
                Some(0) => break,
                Some(next) => cursor = next,
                None => return,
            }
        }
    }
    // What could not be had at once is in the worker's mailbox, before this.
    done(server, |_| ());
}

/// Has a worker do something, and waits for what comes of it. `None` where the server stops.
fn done<R: Send + 'static>(
    server: &'static Server,
    work: impl FnOnce(&mut Core) -> R + Send + 'static,
) -> Option<R> {
    let (tell, told) = channel();
    send(server, move |core| drop(tell.send(work(core))));
    loop {
        match told.recv_timeout(LOOK) {
            Ok(result) => return Some(result),
            Err(_) if server.stop.load(Relaxed) != 0 => return None,
            Err(_) => {}
        }
    }
}

fn send(server: &'static Server, work: impl FnOnce(&mut Core) + Send + 'static) {
    server.mailboxes[0].send(Message::Work(Work(Box::new(work))));
}
