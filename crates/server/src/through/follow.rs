//! Following what others change in the stores: a change maps to keys by the routes' `invalidate`, and their copies go.
//!
//! A source is followed while one of its routes asks for it. A feed that ends begins again, a little later each time; whenever
//! changes may have been missed, every copy of the routes that depend on it goes.

use crate::execute::Core;
use crate::server::{Message, Server, Work};
use larder_source::{Change, Named, Position, Route, Told};
use larder_source_fetch::Source;
use larder_store::DbIndex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The pause before a feed that ended begins again; it doubles up to the other.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A source that is followed.
#[derive(Debug)]
pub struct Follower {
    /// The tables whose changes are told.
    pub tables: Vec<String>,
    /// Whether every change is told from here on.
    pub is_following: AtomicBool,
    /// Changes told so far.
    pub changes: AtomicU64,
    /// Times that changes may have been missed.
    pub gaps: AtomicU64,
    /// Set when it is no longer wanted.
    is_over: AtomicBool,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.is_over.store(true, Relaxed);
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
    followers.retain(|name, stop| wanted.get(name).is_some_and(|tables| *tables == stop.0.tables));
    for (name, tables) in wanted {
        if followers.contains_key(&name) {
            continue;
        }
        let (Some(source), Ok(runtime)) = (through.source(&name), through.runtime()) else { continue };
        let follower = Arc::new(Follower {
            tables,
            is_following: AtomicBool::new(false),
            changes: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        followers.insert(name, Stop(Arc::clone(&follower)));
        runtime.spawn(async move { go_on(server, &source, &follower).await });
    }
}

/// Follows a source until that is no longer wanted.
async fn go_on(server: &'static Server, source: &Source, follower: &Follower) {
    let name = &source.spec.name;
    let mut pause = PAUSE_FIRST;
    let mut reached: Option<Position> = None;
    while !follower.is_over.load(Relaxed) {
        let Some(feed) = source.driver().feed() else {
            tracing::error!("source {name} cannot tell of changes: 'invalidate' of its routes has no effect");
            return;
        };
        let from = reached.clone();
        let goes_on = from.is_some();
        let mut tell = |told: Told| match told {
            Told::Following => {
                follower.is_following.store(true, Relaxed);
                // What was loaded before nobody watched may have changed since.
                if !goes_on {
                    drop_routes(server, name, None);
                }
            }
            Told::Gap => {
                follower.gaps.fetch_add(1, Relaxed);
                drop_routes(server, name, None);
            }
            Told::Emptied(table) => drop_routes(server, name, Some(&table)),
            Told::Changed(change) => {
                follower.changes.fetch_add(1, Relaxed);
                invalidate(server, name, &change);
            }
            Told::Reached(position) => reached = Some(position),
            Told::Idle => {}
        };
        let ended = until_unwanted(feed.follow(&follower.tables, from, &mut tell), follower).await;
        follower.is_following.store(false, Relaxed);
        let Some(failure) = ended else { return };
        tracing::warn!("source {name} does not tell of changes any more, and is followed again: {failure}");
        larder_source_fetch::pause(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// The end of a feed, unless it is no longer wanted first.
async fn until_unwanted(
    feed: larder_source::Work<'_, std::convert::Infallible>,
    follower: &Follower,
) -> Option<larder_source::Failure> {
    let mut feed = feed;
    loop {
        match larder_source_fetch::within(Duration::from_millis(200), &mut feed).await {
            Some(Err(failure)) => return Some(failure),
            Some(Ok(never)) => match never {},
            None if follower.is_over.load(Relaxed) => return None,
            None => {}
        }
    }
}

/// Drops the copies of the keys that a change concerns.
fn invalidate(server: &'static Server, source: &str, change: &Change) {
    for route in server.through.routes().all() {
        if route.source != source {
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
            if !is_told && keys.is_empty() {
                // The store did not tell the columns: any key may be meant.
                drop_route(server, route);
            }
            if !keys.is_empty() {
                route.stats.invalidated.fetch_add(keys.len() as u64, Relaxed);
                let keys = keys.into_iter().map(|key| (key, Arc::clone(route))).collect();
                let db = DbIndex(route.db);
                let work = move |core: &mut Core| core.drop_copies(db, keys);
                send(server, work);
            }
        }
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

fn drop_routes(server: &'static Server, source: &str, table: Option<&str>) {
    for route in server.through.routes().all() {
        let concerns = |(named, _): &(String, Vec<String>)| table.is_none_or(|table| is_table(named, table));
        if route.source == source && route.invalidate.iter().any(concerns) {
            drop_route(server, route);
        }
    }
}

/// Drops every copy of a route, in the background.
pub fn drop_route(server: &'static Server, route: &Arc<Route>) {
    let route = Arc::clone(route);
    send(server, move |core| core.drop_route(&route, 0));
}

fn send(server: &'static Server, work: impl FnOnce(&mut Core) + Send + 'static) {
    server.mailboxes[0].send(Message::Work(Work(Box::new(work))));
}
