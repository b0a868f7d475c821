//! Replays a trace through any number of caches in one pass.
//!
//! A get that misses stores the object with its size and time to live, as a look-aside cache is used. What is over is
//! removed first, before anything else leaves. Misses count from the first request on. Objects larger than a cache pass
//! it by. Caches know nothing of each other, so threads share them out. Read next: `cache.rs`.

use super::cache::Cache;
use super::trace::{Operation, Request, Trace};
use crate::interface::Scope;
use crate::model::{
    Arc, Belady, Lfu, Lirs, Model, Order, Queue, RedisLfu, RedisLru, Room, S3Fifo, Sieve, Use, WTinyLfu,
};
use crate::policies::Kind;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::mpsc;
use std::thread;

/// Requests each cache is given before the next one's turn.
const BLOCK: usize = 8192;

/// What can be replayed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A policy of the server, for all keys; `ttl`, for those that end.
    Policy(Kind),
    /// A policy of the server, for keys that end.
    Volatile(Kind),
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
    /// All of them but the volatile ones, the policies of the server first.
    pub fn all() -> impl Iterator<Item = Subject> {
        let policies = Kind::ALL.iter().map(|kind| Subject::Policy(*kind));
        policies.chain(MODELS.iter().map(|(_, subject)| *subject))
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Subject::Policy(kind) => kind.name(),
            Subject::Volatile(kind) => kind.volatile_name(),
            other => MODELS.iter().find(|(_, model)| *model == other).map_or("", |(name, _)| name),
        }
    }

    /// The one of a name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Subject> {
        if let Some(kind) = name.strip_prefix("volatile-") {
            let kind = Kind::by_name(kind.as_bytes())?;
            return Some(if kind == Kind::Ttl { Subject::Policy(kind) } else { Subject::Volatile(kind) });
        }
        if let Some(kind) = name.strip_prefix("allkeys-") {
            return Kind::by_name(kind.as_bytes()).map(Subject::Policy);
        }
        Subject::all().find(|subject| subject.name() == name)
    }

    /// An empty cache.
    #[must_use]
    pub fn make(self, room: Room) -> Box<dyn Model> {
        match self {
            Subject::Policy(kind) => Box::new(Cache::new(room, kind, Scope::All)),
            Subject::Volatile(kind) => Box::new(Cache::new(room, kind, Scope::Timed)),
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

/// A cache and what came of it so far.
struct Run {
    model: Box<dyn Model>,
    ends: Ends,
    outcome: Outcome,
}

/// Replays a trace through each subject at each capacity, in one pass; outcomes come subject by subject.
/// So many threads work on it. `progress` is told the requests done and those there are, over all caches.
pub fn replay(
    trace: &Trace,
    subjects: &[Subject],
    capacities: &[u64],
    threads: usize,
    progress: &mut dyn FnMut(u64, u64),
) -> Vec<Outcome> {
    let of = |subject: &Subject| capacities.iter().map(|capacity| (*subject, *capacity)).collect::<Vec<_>>();
    replay_each(trace, &subjects.iter().flat_map(of).collect::<Vec<_>>(), threads, progress)
}

/// As [`replay`], through given subjects at given capacities.
pub(super) fn replay_each(
    trace: &Trace,
    cells: &[(Subject, u64)],
    threads: usize,
    progress: &mut dyn FnMut(u64, u64),
) -> Vec<Outcome> {
    let mean = (trace.footprint() / u64::from(trace.keys.max(1))).max(1);
    let has_ends = trace.requests.iter().any(|request| request.ttl_seconds > 0);
    let run = |(subject, capacity): &(Subject, u64)| {
        let entries = usize::try_from(capacity / mean).unwrap_or(usize::MAX);
        let room = Room { capacity: *capacity, keys: trace.keys, entries };
        let outcome = Outcome { subject: *subject, capacity: *capacity, tally: Tally::default() };
        let ends = Ends::new(if has_ends { trace.keys } else { 0 });
        Run { model: subject.make(room), ends, outcome }
    };
    let mut runs: Vec<Run> = cells.iter().map(run).collect();
    let is_foreseen = cells.iter().any(|(subject, _)| *subject == Subject::Belady);
    let next = if is_foreseen { trace.next_uses() } else { Vec::new() };
    // Dealt out one by one, so that each thread has some of the slow ones.
    let threads = threads.clamp(1, runs.len().max(1));
    let mut hands: Vec<Vec<&mut Run>> = (0..threads).map(|_| Vec::new()).collect();
    for (at, run) in runs.iter_mut().enumerate() {
        if let Some(hand) = hands.get_mut(at % threads) {
            hand.push(run);
        }
    }
    let all = trace.requests.len() as u64 * cells.len() as u64;
    thread::scope(|scope| {
        let (done, dones) = mpsc::channel();
        for hand in hands {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || drive(trace, next, hand, &done));
        }
        drop(done);
        let mut sum = 0;
        for done in dones {
            sum += done;
            progress(sum, all);
        }
    });
    runs.into_iter().map(|run| run.outcome).collect()
}

/// Gives the requests to some caches, block by block.
fn drive(trace: &Trace, next: &[u32], mut runs: Vec<&mut Run>, done: &mpsc::Sender<u64>) {
    for (index, block) in trace.requests.chunks(BLOCK).enumerate() {
        let start = index * BLOCK;
        for run in &mut runs {
            for (at, request) in block.iter().enumerate() {
                run.serve(request, next.get(start + at).copied().unwrap_or(u32::MAX));
            }
        }
        // Nobody listens to how far it is where the caller is unwinding.
        let _ = done.send((block.len() * runs.len()) as u64);
    }
}

impl Run {
    /// One request.
    fn serve(&mut self, request: &Request, next: u32) {
        let model = self.model.as_mut();
        self.ends.pass(request.second, model);
        let size = request.bytes.max(1);
        let given = Use { key: request.key, size, next, second: request.second, end: request.end() };
        match request.operation {
            Operation::Get => {
                let tally = &mut self.outcome.tally;
                tally.gets += 1;
                tally.bytes += u64::from(size);
                if !model.access(given) {
                    tally.misses += 1;
                    tally.bytes_missed += u64::from(size);
                    self.ends.set(request.key, given.end);
                }
            }
            Operation::Set => {
                model.store(given);
                self.ends.set(request.key, given.end);
            }
            Operation::Update => {
                let is_held = model.size_of(request.key).is_some();
                let end = if is_held { self.ends.of(request.key) } else { u32::MAX };
                model.store(Use { end, ..given });
                self.ends.set(request.key, end);
            }
            Operation::Expire => {
                if model.size_of(request.key).is_some() {
                    model.expire(request.key, given.end);
                    self.ends.set(request.key, given.end);
                }
            }
            Operation::Delete => model.remove(request.key),
        }
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

    /// When a key ends that is held.
    fn of(&self, key: u32) -> u32 {
        self.at.get(key as usize).copied().unwrap_or(u32::MAX)
    }

    fn set(&mut self, key: u32, end: u32) {
        if let Some(at) = self.at.get_mut(key as usize) {
            if end != u32::MAX && *at != end {
                self.due.push(Reverse((end, key)));
            }
            *at = end;
        }
    }
}
