//! The task that asks a store, and the flights it answers for.

use super::{Brought, Waiting, failure_of};
use crate::execute::Core;
use crate::server::{Message, Server, Work};
use larder_source::{Answer, FlightId, Parameter, Request, Route, Row, Rows, Shaped, rows_by_key};
use larder_source_fetch::{FetchError, Source, within};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Keys asked for by one batch, at most.
const BATCH_KEYS_MAX: usize = 1000;

/// A flight that somebody is to fetch for.
#[derive(Debug)]
pub struct Lead {
    /// The flight.
    pub flight: FlightId,
    /// Its key.
    pub key: Box<[u8]>,
    /// The key's route.
    pub route: Arc<Route>,
}

/// What a flight brings, and for how long the store says that it is fresh, in milliseconds.
type Cargo = (Brought, Option<u64>);

/// Flights whose landing is owed: each lands once, also when the task that fetches ends before it should.
struct Owed {
    server: &'static Server,
    worker: usize,
    flights: Vec<(FlightId, Box<[u8]>)>,
    route: Arc<Route>,
    since: Instant,
}

impl Owed {
    fn land(&self, flight: FlightId, cargo: Cargo) {
        let micros = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.route.stats.loaded(micros);
        match &cargo.0 {
            Brought::Nothing => &self.route.stats.absent,
            Brought::Failure(_) => &self.route.stats.failures,
            _ => return self.send(flight, cargo),
        }
        .fetch_add(1, Relaxed);
        self.send(flight, cargo);
    }

    fn send(&self, flight: FlightId, (brought, fresh_ms): Cargo) {
        let work = move |core: &mut Core| core.land(flight, brought, fresh_ms);
        self.server.mailboxes[self.worker].send(Message::Work(Work(Box::new(work))));
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        for (flight, _) in std::mem::take(&mut self.flights) {
            let text = "LOADFAIL internal error: the load ended before its time".to_owned();
            self.land(flight, (Brought::Failure(Some(text)), None));
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
        let owed = Owed {
            server,
            worker,
            flights: group.into_iter().map(|lead| (lead.flight, lead.key)).collect(),
            since: crate::clock::now(),
            route,
        };
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
        let ask = ask(owed.server, &route, source, &owed.flights);
        let mut ask = std::pin::pin!(ask);
        match route.soft_timeout {
            None => ask.await,
            Some(soft) => match within(soft, ask.as_mut()).await {
                Some(cargos) => cargos,
                None => {
                    owed.flights.iter().for_each(|(flight, _)| release(&owed, *flight, soft));
                    ask.await
                }
            },
        }
    };
    owed.flights.reverse();
    for cargo in cargos {
        let Some((flight, _)) = owed.flights.pop() else { break };
        owed.land(flight, cargo);
    }
    // A flight that got nothing lands when the rest is dropped.
}

/// Gives those who wait for a flight what there is of old; it goes on without them.
fn release(owed: &Owed, flight: FlightId, soft: std::time::Duration) {
    let text =
        format!("LOADTIMEOUT source '{}': it takes longer than {} ms", owed.route.source, soft.as_millis());
    let work = move |core: &mut Core| core.release_waiters(flight, text);
    owed.server.mailboxes[owed.worker].send(Message::Work(Work(Box::new(work))));
}

/// Waits until the changes of a source are told, or it is known that they are not, where a route wants to hear of them. A
/// moment at most, after a source or a route came.
async fn wait_for_feed(server: &'static Server, route: &Route, source: &Source) {
    if !route.invalidate.is_empty()
        && let Some(follower) = server.through.follower(&route.source)
    {
        within(source.spec.connect_timeout, follower.begun.opened()).await;
    }
}

/// What each of the keys stands for in the store.
async fn ask(
    server: &'static Server,
    route: &Route,
    source: &Source,
    flights: &[(FlightId, Box<[u8]>)],
) -> Vec<Cargo> {
    wait_for_feed(server, route, source).await;
    let result = match (&route.batch, flights) {
        (_, [(_, key)]) => ask_for_one(route, source, key).await.map(|cargo| vec![cargo]),
        (Some(_), _) => ask_for_many(route, source, flights).await,
        // Without a batch there is one key.
        (None, _) => Ok(Vec::new()),
    };
    match result {
        Ok(cargos) => cargos,
        Err(error) => {
            tracing::debug!(route = route.pattern.text(), error = error.reply(), "a load failed");
            flights.iter().map(|_| (failure_of(route, &error), None)).collect()
        }
    }
}

async fn ask_for_one(route: &Route, source: &Source, key: &[u8]) -> Result<Cargo, FetchError> {
    let Some(parameters) = route.parameters(&route.query, key) else { return Ok((Brought::Nothing, None)) };
    let request =
        Request { statement: &route.query, parameters: &parameters, validator: None, limits: route.limits };
    match source.fetch(request, route.timeout).await? {
        Answer::Rows { rows, fresh_ms, .. } => Ok((shaped(route, source, &rows, &rows.rows, 0)?, fresh_ms)),
        // Nothing was asked with.
        Answer::Unchanged { .. } => Ok((Brought::Nothing, None)),
    }
}

async fn ask_for_many(
    route: &Route,
    source: &Source,
    flights: &[(FlightId, Box<[u8]>)],
) -> Result<Vec<Cargo>, FetchError> {
    let Some(batch) = &route.batch else { return Ok(Vec::new()) };
    let names = route.pattern.names().len();
    let mut lists: Vec<Vec<Parameter>> = vec![Vec::new(); batch.names().len()];
    for (_, key) in flights {
        for (list, value) in lists.iter_mut().zip(route.parameters(batch, key).into_iter().flatten()) {
            list.push(value);
        }
    }
    let parameters: Vec<Parameter> = lists.into_iter().map(Parameter::List).collect();
    let mut limits = route.limits;
    limits.rows = limits.rows.saturating_mul(flights.len());
    limits.bytes = limits.bytes.saturating_mul(flights.len()).min(256 << 20);
    let request = Request { statement: batch, parameters: &parameters, validator: None, limits };
    let Answer::Rows { rows, fresh_ms, .. } = source.fetch(request, route.timeout).await? else {
        return Ok(Vec::new());
    };
    let columns = Arc::clone(&rows.columns);
    let groups: std::collections::HashMap<Vec<Vec<u8>>, Vec<Row>> =
        rows_by_key(rows, names).into_iter().collect();
    let of_columns = Rows { columns, rows: Vec::new() };
    let cargo = |key: &[u8]| {
        let words: Option<Vec<Vec<u8>>> =
            route.pattern.capture(key).map(|words| words.into_iter().map(<[u8]>::to_vec).collect());
        let found = words.and_then(|words| groups.get(&words)).map_or(&[][..], Vec::as_slice);
        match shaped(route, source, &of_columns, found, names) {
            Ok(brought) => (brought, fresh_ms),
            Err(error) => (failure_of(route, &error), None),
        }
    };
    Ok(flights.iter().map(|(_, key)| cargo(key)).collect())
}

fn shaped(
    route: &Route,
    source: &Source,
    of: &Rows,
    rows: &[Row],
    skipped: usize,
) -> Result<Brought, FetchError> {
    let shaped = route.shape.shape(&of.columns, rows, skipped);
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
