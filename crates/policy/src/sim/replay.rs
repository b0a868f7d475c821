//! Replays a trace through any number of caches in one pass.
//!
//! A get that misses stores the object with its size and time to live, as a look-aside cache is used. What is over is
//! removed first, before anything else leaves. Misses count from the first request on. Objects larger than a cache pass
//! it by. Read next: `cache.rs`.

use super::cache::Cache;
use super::trace::{Operation, Request, Trace};
use crate::interface::Scope;
use crate::model::{
    Arc, Belady, Lfu, Lirs, Model, Order, Queue, RedisLfu, RedisLru, Room, S3Fifo, Sieve, Use, WTinyLfu,
};
use crate::policies::Kind;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Requests each cache is given before the next one's turn.
const BLOCK: usize = 8192;

/// What can be replayed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A policy of the server, for all keys.
    Policy(Kind),
    /// Redis' sampled LRU: five samples, a pool of 16.
    RedisLru,
    /// Redis' sampled LFU.
    RedisLfu,
    /// Exact LRU.
    ExactLru,
    /// Exact MRU.
    ExactMru,
    /// Exact FIFO.
    ExactFifo,
    /// Exact LFU.
    ExactLfu,
    /// S3-FIFO as published.
    ModelS3Fifo,
    /// SIEVE as published.
    ModelSieve,
    /// Adaptive W-TinyLFU as published.
    ModelWTinyLfu,
    /// ARC.
    Arc,
    /// LIRS.
    Lirs,
    /// Belady's optimum, which knows what comes.
    Belady,
}

/// Names of what is not a policy of the server.
const MODELS: &[(&str, Subject)] = &[
    ("redis-lru", Subject::RedisLru),
    ("redis-lfu", Subject::RedisLfu),
    ("exact-lru", Subject::ExactLru),
    ("exact-mru", Subject::ExactMru),
    ("exact-fifo", Subject::ExactFifo),
    ("exact-lfu", Subject::ExactLfu),
    ("model-s3fifo", Subject::ModelS3Fifo),
    ("model-sieve", Subject::ModelSieve),
    ("model-wtinylfu", Subject::ModelWTinyLfu),
    ("arc", Subject::Arc),
    ("lirs", Subject::Lirs),
    ("belady", Subject::Belady),
];

impl Subject {
    /// All of them, the policies of the server first.
    pub fn all() -> impl Iterator<Item = Subject> {
        let policies = Kind::ALL.iter().map(|kind| Subject::Policy(*kind));
        policies.chain(MODELS.iter().map(|(_, subject)| *subject))
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Subject::Policy(kind) => kind.name(),
            other => MODELS.iter().find(|(_, model)| *model == other).map_or("", |(name, _)| name),
        }
    }

    /// The one of a name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Subject> {
        Subject::all().find(|subject| subject.name() == name)
    }

    /// An empty cache.
    #[must_use]
    pub fn make(self, room: Room) -> Box<dyn Model> {
        match self {
            Subject::Policy(kind) => Box::new(Cache::new(room, kind, Scope::All)),
            Subject::RedisLru => Box::new(RedisLru::new(room)),
            Subject::RedisLfu => Box::new(RedisLfu::new(room)),
            Subject::ExactLru => Box::new(Queue::new(room, Order::Lru)),
            Subject::ExactMru => Box::new(Queue::new(room, Order::Mru)),
            Subject::ExactFifo => Box::new(Queue::new(room, Order::Fifo)),
            Subject::ExactLfu => Box::new(Lfu::new(room)),
            Subject::ModelS3Fifo => Box::new(S3Fifo::new(room)),
            Subject::ModelSieve => Box::new(Sieve::new(room)),
            Subject::ModelWTinyLfu => Box::new(WTinyLfu::new(room)),
            Subject::Arc => Box::new(Arc::new(room)),
            Subject::Lirs => Box::new(Lirs::new(room)),
            Subject::Belady => Box::new(Belady::new(room)),
        }
    }
}

/// What a replay counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Gets.
    pub gets: u64,
    /// Gets that found nothing.
    pub misses: u64,
    /// Bytes asked for by gets.
    pub bytes: u64,
    /// Bytes of gets that found nothing.
    pub bytes_missed: u64,
}

impl Tally {
    /// Misses by gets.
    #[must_use]
    pub fn miss_ratio(&self) -> f64 {
        self.misses as f64 / self.gets.max(1) as f64
    }

    /// Missed bytes by bytes asked for.
    #[must_use]
    pub fn byte_miss_ratio(&self) -> f64 {
        self.bytes_missed as f64 / self.bytes.max(1) as f64
    }
}

/// What came of one subject at one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Who decided.
    pub subject: Subject,
    /// The cache's size, in the unit of the trace's sizes.
    pub capacity: u64,
    /// What was counted.
    pub tally: Tally,
}

/// Replays a trace through each subject at each capacity, in one pass; outcomes come subject by subject.
/// `progress` is told the requests done and those there are.
pub fn replay(
    trace: &Trace,
    subjects: &[Subject],
    capacities: &[u64],
    progress: &mut dyn FnMut(usize, usize),
) -> Vec<Outcome> {
    let mean = (trace.footprint() / u64::from(trace.keys.max(1))).max(1);
    let mut runs = Vec::new();
    for subject in subjects {
        for capacity in capacities {
            let entries = usize::try_from(capacity / mean).unwrap_or(usize::MAX);
            let room = Room { capacity: *capacity, keys: trace.keys, entries };
            let outcome = Outcome { subject: *subject, capacity: *capacity, tally: Tally::default() };
            runs.push((subject.make(room), outcome));
        }
    }
    drive(trace, &mut runs, progress);
    runs.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Gives the requests to the caches, block by block.
fn drive(trace: &Trace, runs: &mut [(Box<dyn Model>, Outcome)], progress: &mut dyn FnMut(usize, usize)) {
    let needs_future = runs.iter().any(|(_, outcome)| outcome.subject == Subject::Belady);
    let next = if needs_future { trace.next_uses() } else { Vec::new() };
    let ends = trace.requests.iter().any(|request| request.ttl_seconds > 0);
    let mut clocks: Vec<Ends> = runs.iter().map(|_| Ends::new(if ends { trace.keys } else { 0 })).collect();
    let all = trace.requests.len();
    for (index, block) in trace.requests.chunks(BLOCK).enumerate() {
        let start = index * BLOCK;
        for ((model, outcome), ends) in runs.iter_mut().zip(&mut clocks) {
            for (at, request) in block.iter().enumerate() {
                let next = next.get(start + at).copied().unwrap_or(u32::MAX);
                serve(request, next, model.as_mut(), &mut outcome.tally, ends);
            }
        }
        progress((start + block.len()).min(all), all);
    }
}

/// One request to one cache.
fn serve(request: &Request, next: u32, model: &mut dyn Model, tally: &mut Tally, ends: &mut Ends) {
    ends.pass(request.second, model);
    let size = request.bytes.max(1);
    let given = Use { key: request.key, size, next, second: request.second };
    let is_stored = match request.operation {
        Operation::Get => {
            let is_hit = model.access(given);
            tally.gets += 1;
            tally.bytes += u64::from(size);
            if !is_hit {
                tally.misses += 1;
                tally.bytes_missed += u64::from(size);
            }
            !is_hit
        }
        Operation::Set => {
            model.store(given);
            true
        }
        Operation::Delete => {
            model.remove(request.key);
            false
        }
    };
    if is_stored {
        ends.set(request);
    }
}

/// When keys of one cache end.
struct Ends {
    /// By key; empty when no request has a time to live.
    at: Vec<u32>,
    due: BinaryHeap<Reverse<(u32, u32)>>,
}

impl Ends {
    fn new(keys: u32) -> Self {
        Ends { at: vec![u32::MAX; keys as usize], due: BinaryHeap::new() }
    }

    fn pass(&mut self, now: u32, model: &mut dyn Model) {
        while let Some(Reverse((end, key))) = self.due.peek().copied()
            && end <= now
        {
            self.due.pop();
            if let Some(at) = self.at.get_mut(key as usize)
                && *at == end
            {
                *at = u32::MAX;
                model.remove(key);
            }
        }
    }

    fn set(&mut self, request: &Request) {
        if let Some(at) = self.at.get_mut(request.key as usize) {
            *at = u32::MAX;
            if request.ttl_seconds > 0 {
                *at = request.second.saturating_add(request.ttl_seconds);
                self.due.push(Reverse((*at, request.key)));
            }
        }
    }
}
