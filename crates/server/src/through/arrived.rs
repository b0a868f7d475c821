//! What a connection waits for from sources, and what has come.
//!
//! What flights of one batch bring stays together, and is shared by all who waited for any of it.

use super::{Brought, Waiting};
use foldhash::HashMap;
use larder_source::Batch;
use larder_store::DbIndex;
use std::ops::Deref;
use std::sync::Arc;

/// What flights of one batch brought.
#[derive(Debug)]
pub struct Arrived {
    /// The batch.
    pub batch: Arc<Batch<Waiting>>,
    /// The places of their keys in it, and what was brought for them.
    pub brought: Vec<(u32, Brought)>,
}

impl Arrived {
    /// A key that something was brought for.
    fn key(&self, at: usize) -> &[u8] {
        self.brought.get(at).map_or(&[][..], |(place, _)| self.batch.key(*place as usize))
    }
}

/// What was brought for one key.
#[derive(Clone, Debug)]
pub enum Given {
    /// By itself.
    Alone(Arc<Brought>),
    /// Among others, at this position.
    Among(Arc<Arrived>, usize),
}

impl Deref for Given {
    type Target = Brought;

    fn deref(&self) -> &Brought {
        match self {
            Given::Alone(brought) => brought,
            Given::Among(arrived, at) => {
                arrived.brought.get(*at).map_or(&Brought::Nothing, |(_, brought)| brought)
            }
        }
    }
}

/// What a connection waits for from sources, and what it has been brought for the request that is kept.
#[derive(Debug, Default)]
pub struct Loading {
    /// What the connection is parked under.
    pub ticket: u64,
    /// Flights that have not landed.
    pub left: usize,
    /// What has been brought, by key.
    all: HashMap<(DbIndex, Box<[u8]>), Given>,
    /// What came of whole batches and is not among it: it is not looked at where its keys are found in the keyspace.
    arrived: Vec<Arc<Arrived>>,
}

impl Loading {
    /// Notes what was brought for a key.
    pub fn add(&mut self, db: DbIndex, key: Box<[u8]>, brought: Arc<Brought>) {
        self.all.insert((db, key), Given::Alone(brought));
    }

    /// Notes all that came.
    pub fn add_all(&mut self, arrived: Arc<Arrived>) {
        self.arrived.push(arrived);
    }

    /// Notes what came for one key.
    pub fn add_among(&mut self, arrived: &Arc<Arrived>, at: usize) {
        let place = (DbIndex(arrived.batch.db()), arrived.key(at).into());
        self.all.insert(place, Given::Among(Arc::clone(arrived), at));
    }

    /// Sees that everything is found by its key, before it is looked for.
    pub fn sort(&mut self) {
        for arrived in std::mem::take(&mut self.arrived) {
            self.all.reserve(arrived.brought.len());
            (0..arrived.brought.len()).for_each(|at| self.add_among(&arrived, at));
        }
    }

    /// Whether what was brought for a key is all there is to say of it. That its copy is right says nothing where there is none
    /// any more.
    pub fn settles(&self, place: &(DbIndex, Box<[u8]>), is_there: bool) -> bool {
        self.brought(place).is_some_and(|brought| is_there || !matches!(*brought, Brought::Unchanged))
    }

    /// Whether a write of the request is with its store already, or queued for it: then it runs.
    pub fn is_written(&self) -> bool {
        let is_written = |given: &Given| matches!(**given, Brought::Written(_) | Brought::Queued(_));
        self.all.values().any(is_written)
    }

    /// What was brought for a key, if anything was.
    pub fn brought(&self, place: &(DbIndex, Box<[u8]>)) -> Option<Given> {
        if let Some(given) = self.all.get(place) {
            return Some(given.clone());
        }
        // Few, or sorted before.
        self.arrived.iter().rev().filter(|arrived| arrived.batch.db() == place.0.0).find_map(|arrived| {
            let at = (0..arrived.brought.len()).find(|at| *arrived.key(*at) == *place.1)?;
            Some(Given::Among(Arc::clone(arrived), at))
        })
    }

    /// All that was brought, by key. What came of whole batches is sorted first.
    pub fn all(&self) -> impl Iterator<Item = (&(DbIndex, Box<[u8]>), &Given)> {
        self.all.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_source::{Keys, Language, Route, Shaped};

    #[test]
    fn what_came_is_found_before_and_after_it_is_sorted() {
        let line = ["k:<id>", "s", "as", "string", "query", "SELECT 1"];
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let route = Route::parse(&words, |_| Some(Language::Sql)).expect("a route");
        let mut keys = Keys::one(b"k:1", 1);
        keys.push(b"k:2", 2);
        keys.push(b"k:3", 3);
        let batch = Arc::new(Batch::new(Arc::new(route), keys, None));
        let value = || Brought::Value(Shaped::String(b"three".to_vec()));
        let arrived = Arrived { batch, brought: vec![(2, value()), (0, Brought::Unchanged)] };
        let mut loading = Loading::default();
        loading.add_all(Arc::new(arrived));
        let place = |key: &[u8]| (DbIndex(0), Box::from(key));
        for _ in 0..2 {
            assert!(loading.brought(&place(b"k:2")).is_none());
            assert!(matches!(loading.brought(&place(b"k:3")).as_deref(), Some(Brought::Value(_))));
            assert!(loading.settles(&place(b"k:3"), false) && loading.settles(&place(b"k:1"), true));
            assert!(!loading.settles(&place(b"k:1"), false) && !loading.is_written());
            assert!(loading.brought(&(DbIndex(1), Box::from(&b"k:3"[..]))).is_none());
            loading.sort();
        }
        assert_eq!(loading.all().count(), 2);
    }
}
