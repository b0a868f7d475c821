//! The task that asks a store, and the flights it answers for.

use super::{Brought, Waiting, failure_of};
use crate::execute::Core;
use crate::server::{Message, Server, Work};
use larder_behind::Change;
use larder_source::{
    Answer, Column, FlightId, FlightKey, Parameter, Request, Route, Row, Shaped, Template, Validator, joined,
    rows_by_key,
};
use larder_source_fetch::{FetchError, Source, within};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Keys asked for by one batch, at most.
pub const BATCH_KEYS_MAX: usize = 1000;

/// A flight that somebody is to fetch for.
#[derive(Debug)]
pub struct Lead {
    /// The flight.
    pub flight: FlightId,
    /// Its key.
    pub key: Box<[u8]>,
    /// The key's route.
    pub route: Arc<Route>,
    /// What the names of the route's pattern stand for in the key.
    pub words: Vec<Parameter>,
    /// What names the version of the copy that there is.
    pub validator: Option<Validator>,
    /// What is queued of the key before the store is asked. It is laid over the answer, which may be from before the store had it, also when
    /// it has left the queue meanwhile.
    pub queued: Option<Change>,
}

/// A flight that lands.
#[derive(Debug)]
pub struct Landing {
    /// The flight.
    pub flight: FlightId,
    /// Its key.
    pub key: FlightKey,
    /// The key's route.
    pub route: Arc<Route>,
    /// What was queued of the key before the store was asked.
    pub queued: Option<Change>,
    /// What it brings.
    pub cargo: Cargo,
}

/// What flights bring.
#[derive(Debug)]
pub struct Cargo {
    /// What was found.
    pub brought: Brought,
    /// For how long the store says that it is fresh, in milliseconds.
    pub fresh_ms: Option<u64>,
    /// What names this version.
    pub validator: Option<Validator>,
}

impl From<Brought> for Cargo {
    fn from(brought: Brought) -> Cargo {
        Cargo { brought, fresh_ms: None, validator: None }
    }
}

/// Flights whose landing is owed: each lands once, also when the task that fetches ends before it should.
struct Owed {
    server: &'static Server,
    worker: usize,
    leads: Vec<Lead>,
    route: Arc<Route>,
    since: Instant,
}

impl Owed {
    /// Lands flights, the first of them with the first cargo. Those without one stay owed.
    fn land(&mut self, cargos: Vec<Cargo>) {
        let micros = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let stats = &self.route.stats;
        for cargo in &cargos {
            stats.loaded(micros);
            match &cargo.brought {
                Brought::Nothing => stats.absent.fetch_add(1, Relaxed),
                Brought::Failure(_) => stats.failures.fetch_add(1, Relaxed),
                _ => continue,
            };
        }
        let count = cargos.len().min(self.leads.len());
        let landing = |(lead, cargo): (Lead, Cargo)| {
            let Lead { flight, key, route, queued, .. } = lead;
            Landing { flight, key: FlightKey { db: route.db, key }, route, queued, cargo }
        };
        let landings: Vec<Landing> = self.leads.drain(..count).zip(cargos).map(landing).collect();
        let work = move |core: &mut Core| core.land(landings);
        self.server.mailboxes[self.worker].send(Message::Work(Work(Box::new(work))));
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if !self.leads.is_empty() {
            let text = "LOADFAIL internal error: the load ended before its time";
            let failure = || Cargo::from(Brought::Failure(Some(text.to_owned())));
            self.land((0..self.leads.len()).map(|_| failure()).collect());
        }
    }
}

/// Has the store asked for these keys; what it brings lands at `worker`. Keys of one route go together where it has a batch.
pub fn fetch(server: &'static Server, worker: usize, leads: Vec<Lead>) {
    let mut groups: Vec<Vec<Lead>> = Vec::new();
    for lead in leads {
        let fits = |group: &&mut Vec<Lead>| {
            group.len() < BATCH_KEYS_MAX
                && lead.route.batch.is_some()
                && group.first().is_some_and(|first| Arc::ptr_eq(&first.route, &lead.route))
        };
        match groups.iter_mut().find(fits) {
            Some(group) => group.push(lead),
            None => groups.push(vec![lead]),
        }
    }
    for group in groups {
        let Some(first) = group.first() else { continue };
        let route = Arc::clone(&first.route);
        let owed = Owed { server, worker, leads: group, since: crate::clock::now(), route };
        // Dropped here, it lands with an error.
        let Some(source) = server.through.source(&owed.route.source) else { continue };
        let Ok(runtime) = server.through.runtime() else { continue };
        runtime.spawn(async move { run(owed, &source).await });
    }
}

/// Asks, tells who waits that it takes long when it does, and lands.
async fn run(mut owed: Owed, source: &Source) {
    let route = Arc::clone(&owed.route);
    let cargos = {
        let ask = ask(owed.server, &route, source, &owed.leads);
        let mut ask = std::pin::pin!(ask);
        match route.soft_timeout {
            None => ask.await,
            Some(soft) => match within(soft, ask.as_mut()).await {
                Some(cargos) => cargos,
                None => {
                    owed.leads.iter().for_each(|lead| release(&owed, lead, soft));
                    ask.await
                }
            },
        }
    };
    // A flight that got nothing lands when the rest is dropped.
    owed.land(cargos);
}

/// Gives those who wait for a flight what there is of old; it goes on without them.
fn release(owed: &Owed, lead: &Lead, soft: std::time::Duration) {
    let text =
        format!("LOADTIMEOUT source '{}': it takes longer than {} ms", owed.route.source, soft.as_millis());
    let (flight, key) = (lead.flight, FlightKey { db: lead.route.db, key: lead.key.clone() });
    let work = move |core: &mut Core| core.release_waiters(flight, key, text);
    owed.server.mailboxes[owed.worker].send(Message::Work(Work(Box::new(work))));
}

/// Waits until the changes of a source are told, or it is known that they are not, where a route wants to hear of them. A
/// moment at most, after a source or a route came.
async fn wait_for_feed(server: &'static Server, route: &Route, source: &Source, leads: &[Lead]) {
    if !route.invalidate.is_empty()
        && let Some(follower) = server.through.follower(&route.source)
        && !follower.begun.is_open()
    {
        let note = |is_to_ask| {
            for lead in leads {
                let key = FlightKey { db: route.db, key: lead.key.clone() };
                server.through.flights.set_to_ask(lead.flight, &key, is_to_ask);
            }
        };
        note(true);
        within(source.spec.connect_timeout, follower.begun.opened()).await;
        note(false);
    }
}

/// What each of the keys stands for in the store.
async fn ask(server: &'static Server, route: &Route, source: &Source, leads: &[Lead]) -> Vec<Cargo> {
    wait_for_feed(server, route, source, leads).await;
    let result = match (&route.batch, leads) {
        (_, [lead]) => ask_for_one(route, source, lead).await.map(|cargo| vec![cargo]),
        (Some(batch), _) => ask_for_many(route, source, batch, leads).await,
        // Without a batch there is one key.
        (None, _) => Ok(Vec::new()),
    };
    match result {
        Ok(cargos) => cargos,
        Err(error) => {
            tracing::debug!(route = route.pattern.text(), error = error.reply(), "a load failed");
            leads.iter().map(|_| failure_of(route, &error).into()).collect()
        }
    }
}

async fn ask_for_one(route: &Route, source: &Source, lead: &Lead) -> Result<Cargo, FetchError> {
    let parameters = route.bind(&route.query, &lead.words);
    let request = Request {
        statement: &route.query,
        parameters: &parameters,
        validator: lead.validator.as_ref(),
        limits: route.limits,
    };
    match source.fetch(request, route.timeout).await? {
        Answer::Rows { rows, fresh_ms, validator } => {
            let brought = shaped(route, source, &rows.columns, &rows.rows, 0)?;
            Ok(Cargo { brought, fresh_ms, validator })
        }
        Answer::Unchanged { fresh_ms } => {
            let validator = lead.validator.clone();
            Ok(Cargo { brought: Brought::Unchanged, fresh_ms, validator })
        }
    }
}

async fn ask_for_many(
    route: &Route,
    source: &Source,
    batch: &Template,
    leads: &[Lead],
) -> Result<Vec<Cargo>, FetchError> {
    let names = route.pattern.names().len();
    let mut lists: Vec<Vec<Parameter>> = vec![Vec::with_capacity(leads.len()); batch.names().len()];
    for lead in leads {
        for (list, value) in lists.iter_mut().zip(route.bind(batch, &lead.words)) {
            list.push(value);
        }
    }
    let parameters: Vec<Parameter> = lists.into_iter().map(Parameter::List).collect();
    let mut limits = route.limits;
    limits.rows = limits.rows.saturating_mul(leads.len());
    limits.bytes = limits.bytes.saturating_mul(leads.len()).min(256 << 20);
    let request = Request { statement: batch, parameters: &parameters, validator: None, limits };
    let Answer::Rows { rows, fresh_ms, .. } = source.fetch(request, route.timeout).await? else {
        return Ok(Vec::new());
    };
    let groups = rows_by_key(rows.rows, names);
    let cargo = |key: &[u8]| {
        let words = route.pattern.capture(key).map(joined);
        let found = words.and_then(|words| groups.get(&words)).map_or(&[][..], Vec::as_slice);
        let brought = shaped(route, source, &rows.columns, found, names);
        let brought = brought.unwrap_or_else(|error| failure_of(route, &error));
        Cargo { brought, fresh_ms, validator: None }
    };
    Ok(leads.iter().map(|lead| cargo(&lead.key)).collect())
}

fn shaped(
    route: &Route,
    source: &Source,
    columns: &[Column],
    rows: &[Row],
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

impl Waiting {
    /// A connection of a worker.
    pub fn new(worker: usize, client: u64, ticket: u64) -> Waiting {
        Waiting { worker, client, ticket }
    }
}
