//! For the tests of drivers: futures run to their ends, rows loaded, feeds followed.

#![allow(dead_code, reason = "each test uses a part of it")]

use larder_source::{
    Answer, Cell, Change, Driver, Failure, Language, Limits, Named, Parameter, Position, Request, Rows,
    Template, Told,
};
use larder_source_net::Runtime;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const LIMITS: Limits = Limits { rows: 1000, bytes: 1 << 20 };
const PATIENCE: Duration = Duration::from_secs(20);

pub fn run<T>(future: impl Future<Output = T>) -> T {
    Runtime::get().unwrap().block_on(future)
}

pub fn sql(text: &str) -> Template {
    Template::parse(text, Language::Sql).unwrap()
}

pub fn plain(text: &str) -> Template {
    Template::parse(text, Language::Plain).unwrap()
}

pub fn text(text: &str) -> Cell {
    Cell::Text(text.as_bytes().into())
}

pub fn list(values: impl IntoIterator<Item = i64>) -> Parameter {
    Parameter::List(values.into_iter().map(Parameter::Integer).collect())
}

pub fn load_within(
    driver: &Arc<dyn Driver>,
    statement: &Template,
    parameters: &[Parameter],
    limits: Limits,
) -> Result<Rows, Failure> {
    match run(driver.load(Request { statement, parameters, validator: None, limits }))? {
        Answer::Rows { rows, .. } => Ok(rows),
        Answer::Unchanged { .. } => panic!("nothing was to compare with"),
    }
}

pub fn load(
    driver: &Arc<dyn Driver>,
    statement: &Template,
    parameters: &[Parameter],
) -> Result<Rows, Failure> {
    load_within(driver, statement, parameters, LIMITS)
}

/// Tries until it holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A feed that runs until it is dropped, with what it has told.
pub struct Following {
    told: Arc<Mutex<Vec<Told>>>,
    ended: Arc<Mutex<Option<Failure>>>,
    task: tokio::task::JoinHandle<()>,
}

pub fn follow(driver: &Arc<dyn Driver>, tables: &[&str], from: Option<Position>) -> Following {
    let told = Arc::new(Mutex::new(Vec::new()));
    let ended = Arc::new(Mutex::new(None));
    let (driver, into, end) = (Arc::clone(driver), Arc::clone(&told), Arc::clone(&ended));
    let tables: Vec<String> = tables.iter().map(|table| (*table).to_owned()).collect();
    let task = Runtime::get().unwrap().spawn(async move {
        let mut tell = |told| into.lock().unwrap().push(told);
        let failure = driver.feed().unwrap().follow(&tables, from, &mut tell).await.unwrap_err();
        *end.lock().unwrap() = Some(failure);
    });
    let following = Following { told, ended, task };
    following.wait_for(|told| told.contains(&Told::Following));
    following
}

impl Following {
    pub fn wait_for(&self, is_there: impl Fn(&[Told]) -> bool) {
        let begun = Instant::now();
        while !is_there(&self.told.lock().unwrap()) {
            let ended = self.ended.lock().unwrap().clone();
            assert!(ended.is_none(), "the feed ended: {ended:?}");
            assert!(begun.elapsed() < PATIENCE, "told only {:?}", self.told.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// The changes told so far, once there are as many.
    pub fn changes(&self, count: usize) -> Vec<Change> {
        let changes = |told: &[Told]| -> Vec<Change> {
            let changes = told.iter().filter_map(|told| match told {
                Told::Changed(change) => Some(change.clone()),
                _ => None,
            });
            changes.collect()
        };
        self.wait_for(|told| changes(told).len() >= count);
        changes(&self.told())
    }

    /// The last position told.
    pub fn reached(&self) -> Position {
        let last = |told: &Told| if let Told::Reached(to) = told { Some(to.clone()) } else { None };
        self.told().iter().rev().find_map(last).unwrap()
    }

    /// The same, once all changes told so far lie before it.
    pub fn all_reached(&self) -> Position {
        let is_change = |told: &Told| matches!(told, Told::Changed(_) | Told::Emptied(_));
        let is_position = |told: &Told| matches!(told, Told::Reached(_));
        self.wait_for(|told| told.iter().rposition(is_position) > told.iter().rposition(is_change));
        self.reached()
    }

    pub fn wait_for_end(&self) -> Failure {
        eventually("the feed ends", || self.ended.lock().unwrap().is_some());
        self.ended.lock().unwrap().clone().unwrap()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
        let begun = Instant::now();
        while !self.task.is_finished() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

pub fn cell(named: Option<&Named>, name: &str) -> Option<Cell> {
    let named = named?;
    let at = named.names.iter().position(|known| known == name)?;
    Some(named.row[at].clone())
}
