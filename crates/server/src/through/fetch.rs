//! The task that asks a store, and the flights it answers for.

use super::{Brought, Waiting, failure_of};
use crate::execute::Core;
use crate::server::{Message, Server, Work};
use larder_behind::Change;
use larder_source::{Answer, Batch, Column, Groups, Request, Route, Row, Shaped, Template, Validator};
use larder_source_fetch::{FetchError, Source, within};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Keys of one batch, at most.
pub const BATCH_KEYS_MAX: usize = 1000;

/// Flights that somebody is to fetch for, all begun by one batch.
#[derive(Debug)]
pub struct Leads {
    /// The batch.
    pub batch: Arc<Batch<Waiting>>,
    /// The places of their keys in it.
    pub places: Vec<u32>,
    /// What names the versions of the copies that there are, by place.
    pub validators: Vec<(u32, Validator)>,
    /// What is queued of keys before the store is asked, by place. It is laid over the answer, which may be from before the store had it,
    /// also when it has left the queue meanwhile.
    pub queued: Vec<(u32, Change)>,
}

impl Leads {
    /// None yet.
    pub fn none(batch: &Arc<Batch<Waiting>>) -> Leads {
        let batch = Arc::clone(batch);
        Leads { batch, places: Vec::new(), validators: Vec::new(), queued: Vec::new() }
    }

    /// Adds one.
    pub fn add(&mut self, place: u32, validator: Option<Validator>, queued: Option<Change>) {
        self.places.push(place);
        self.validators.extend(validator.map(|validator| (place, validator)));
        self.queued.extend(queued.map(|change| (place, change)));
    }

    fn keys(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.places.iter().map(|place| self.batch.key(*place as usize))
    }

    /// The same flights one by one.
    fn one_by_one(self) -> impl Iterator<Item = Leads> {
        let Leads { batch, places, mut validators, mut queued } = self;
        places.into_iter().map(move |place| {
            let mut one = Leads::none(&batch);
            one.places.push(place);
            one.validators.extend(validators.extract_if(.., |(of, _)| *of == place));
            one.queued.extend(queued.extract_if(.., |(of, _)| *of == place));
            one
        })
    }
}

/// Flights that land.
#[derive(Debug)]
pub struct Landings {
    /// The batch that began them.
    pub batch: Arc<Batch<Waiting>>,
    /// The places of their keys in it, and what they bring.
    pub brought: Vec<(u32, Brought)>,
    /// What was queued of keys before the store was asked.
    pub queued: Vec<(u32, Change)>,
    /// For how long the store says that it is fresh, in milliseconds.
    pub fresh_ms: Option<u64>,
    /// What names this version, of one that lands alone.
    pub validator: Option<Validator>,
}

/// What flights bring.
#[derive(Debug, Default)]
struct Cargo {
    /// What was found for each of them, by its place.
    brought: Vec<(u32, Brought)>,
    fresh_ms: Option<u64>,
    validator: Option<Validator>,
}

/// Flights whose landing is owed: each lands once, also when the task that fetches ends before it should.
struct Owed {
    server: &'static Server,
    worker: usize,
    leads: Leads,
    since: Instant,
}

impl Owed {
    /// Lands the flights with what was found for them; they stay owed where that is nothing at all.
    fn land(&mut self, cargo: Cargo) {
        if cargo.brought.is_empty() {
            return;
        }
        let micros = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let Cargo { brought, fresh_ms, validator } = cargo;
        let (mut absent, mut failures) = (0, 0);
        for (_, brought) in &brought {
            absent += u64::from(matches!(brought, Brought::Nothing));
            failures += u64::from(matches!(brought, Brought::Failure(_)));
        }
        let stats = &self.leads.batch.route().stats;
        stats.loaded(brought.len(), micros);
        stats.absent.fetch_add(absent, Relaxed);
        stats.failures.fetch_add(failures, Relaxed);
        self.leads.places.clear();
        let queued = std::mem::take(&mut self.leads.queued);
        let batch = Arc::clone(&self.leads.batch);
        let landings = Landings { batch, brought, queued, fresh_ms, validator };
        let work = move |core: &mut Core| core.land(landings);
        self.server.mailboxes[self.worker].send(Message::Work(Work(Box::new(work))));
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if !self.leads.places.is_empty() {
            let text = "LOADFAIL internal error: the load ended before its time";
            let failure = |place: &u32| (*place, Brought::Failure(Some(text.to_owned())));
            let brought = self.leads.places.iter().map(failure).collect();
            self.land(Cargo { brought, ..Cargo::default() });
        }
    }
}

/// Has the store asked for the keys of these flights; what it brings lands at `worker`. They go together where their route has a batch.
pub fn fetch(server: &'static Server, worker: usize, leads: Leads) {
    let since = crate::clock::now();
    let start = |leads: Leads| {
        let owed = Owed { server, worker, leads, since };
        // Dropped here, it lands with an error.
        let Some(source) = server.through.source(&owed.leads.batch.route().source) else { return };
        let Ok(runtime) = server.through.runtime() else { return };
        runtime.spawn(async move { run(owed, &source).await });
    };
    if leads.places.len() > 1 && leads.batch.route().batch.is_none() {
        leads.one_by_one().for_each(start);
    } else if !leads.places.is_empty() {
        start(leads);
    }
}

/// Asks, tells who waits that it takes long when it does, and lands.
async fn run(mut owed: Owed, source: &Source) {
    let route = Arc::clone(owed.leads.batch.route());
    let cargo = {
        let ask = ask(owed.server, &route, source, &owed.leads);
        let mut ask = std::pin::pin!(ask);
        match route.soft_timeout {
            None => ask.await,
            Some(soft) => match within(soft, ask.as_mut()).await {
                Some(cargo) => cargo,
                None => {
                    release(&owed, &route, soft);
                    ask.await
                }
            },
        }
    };
    // A flight that got nothing lands when the rest is dropped.
    owed.land(cargo);
}

/// Gives those who wait for flights what there is of old; they go on without them.
fn release(owed: &Owed, route: &Route, soft: std::time::Duration) {
    let text = format!("LOADTIMEOUT source '{}': it takes longer than {} ms", route.source, soft.as_millis());
    let (batch, places) = (Arc::clone(&owed.leads.batch), owed.leads.places.clone());
    let work = move |core: &mut Core| core.release_waiters(&batch, &places, &text);
    owed.server.mailboxes[owed.worker].send(Message::Work(Work(Box::new(work))));
}

/// Waits until the changes of a source are told, or it is known that they are not, where a route wants to hear of them. A
/// moment at most, after a source or a route came.
async fn wait_for_feed(server: &'static Server, route: &Route, source: &Source, leads: &Leads) {
    if !route.invalidate.is_empty()
        && let Some(follower) = server.through.follower(&route.source)
        && !follower.begun.is_open()
    {
        let note = |is_to_ask| {
            for place in &leads.places {
                server.through.flights.set_to_ask(&leads.batch, *place as usize, is_to_ask);
            }
        };
        note(true);
        within(source.spec.connect_timeout, follower.begun.opened()).await;
        note(false);
    }
}

/// What each of the keys stands for in the store.
async fn ask(server: &'static Server, route: &Route, source: &Source, leads: &Leads) -> Cargo {
    wait_for_feed(server, route, source, leads).await;
    let result = match (&route.batch, &leads.places[..]) {
        (_, [place]) => ask_for_one(route, source, leads, *place).await,
        (Some(batch), _) => ask_for_many(route, source, batch, leads).await,
        // Without a batch there is one key.
        (None, _) => Ok(Cargo::default()),
    };
    result.unwrap_or_else(|error| {
        tracing::debug!(route = route.pattern.text(), error = error.reply(), "a load failed");
        let brought = leads.places.iter().map(|place| (*place, failure_of(route, &error))).collect();
        Cargo { brought, ..Cargo::default() }
    })
}

async fn ask_for_one(route: &Route, source: &Source, leads: &Leads, place: u32) -> Result<Cargo, FetchError> {
    // Keys without words are not asked for.
    let parameters = route.parameters(&route.query, leads.batch.key(place as usize)).unwrap_or_default();
    let validator = leads.validators.first().map(|(_, validator)| validator);
    let request =
        Request { statement: &route.query, parameters: &parameters, validator, limits: route.limits };
    match source.fetch(request, route.timeout).await? {
        Answer::Rows { mut rows, fresh_ms, validator } => {
            let brought = shaped(route, source, &rows.columns, &mut rows.rows, 0)?;
            Ok(Cargo { brought: vec![(place, brought)], fresh_ms, validator })
        }
        Answer::Unchanged { fresh_ms } => {
            let brought = vec![(place, Brought::Unchanged)];
            Ok(Cargo { brought, fresh_ms, validator: validator.cloned() })
        }
    }
}

async fn ask_for_many(
    route: &Route,
    source: &Source,
    batch: &Template,
    leads: &Leads,
) -> Result<Cargo, FetchError> {
    let names = route.pattern.names().len();
    let parameters = route.lists_of(batch, leads.keys());
    let mut limits = route.limits;
    limits.rows = limits.rows.saturating_mul(leads.places.len());
    limits.bytes = limits.bytes.saturating_mul(leads.places.len()).min(256 << 20);
    let request = Request { statement: batch, parameters: &parameters, validator: None, limits };
    let Answer::Rows { rows, fresh_ms, .. } = source.fetch(request, route.timeout).await? else {
        return Ok(Cargo::default());
    };
    let columns = rows.columns;
    let mut groups = Groups::new(rows.rows, names);
    let mut brought: Vec<(u32, Brought)> = Vec::with_capacity(leads.places.len());
    let mut words = Vec::new();
    for (place, key) in leads.places.iter().zip(leads.keys()) {
        words.clear();
        route.pattern.push_joined(key, &mut words);
        let found = match groups.take(&words) {
            Some(found) => shaped(route, source, &columns, found, names),
            None => Ok(brought_before(&brought, leads, key)),
        };
        brought.push((*place, found.unwrap_or_else(|error| failure_of(route, &error))));
    }
    Ok(Cargo { brought, fresh_ms, validator: None })
}

/// What was found for a key that is asked for a second time: its first flight was overtaken before the store was asked.
fn brought_before(brought: &[(u32, Brought)], leads: &Leads, key: &[u8]) -> Brought {
    match leads.keys().zip(brought).find(|(other, _)| *other == key) {
        Some((_, (_, Brought::Value(value)))) => Brought::Value(value.clone()),
        Some((_, (_, Brought::Failure(text)))) => Brought::Failure(text.clone()),
        _ => Brought::Nothing,
    }
}

fn shaped(
    route: &Route,
    source: &Source,
    columns: &[Column],
    rows: &mut [Row],
    skipped: usize,
) -> Result<Brought, FetchError> {
    let shaped = route.shape.shape(columns, rows, skipped);
    let too_large = |shaped: &Shaped| shaped.size() > route.limits.bytes;
    match shaped {
        Ok(None) => Ok(Brought::Nothing),
        Ok(Some(shaped)) if too_large(&shaped) => Err(FetchError::Failed(format!(
            "source '{}': the answer has over {} bytes (max-bytes of the route)",
            source.spec.name, route.limits.bytes
        ))),
        Ok(Some(shaped)) => Ok(Brought::Value(shaped)),
        Err(text) => Err(FetchError::Failed(format!("source '{}': {text}", source.spec.name))),
    }
}
