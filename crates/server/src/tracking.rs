//! CLIENT TRACKING: clients that keep copies of what they read, and are told when it changes.
//!
//! Who has read which key stands in one table for all threads; who wants to hear of all keys with some beginning, in another.
//! What changes is noted by [`larder_store::Effects`] while the key is locked, and told at the end of the command, if a tracking
//! client sent it, else of the turn, before any reply of the turn goes out.
//!
//! Invariants: a read is entered while its key is locked, or before it; a change is looked up after the key was changed. So for
//! every value that a client was given, each later change finds its entry, and what is told of it comes behind
//! that value in the client's output: values and messages of one connection pass through one worker.
//! Read next: `tracking/table.rs`, `tracking/tell.rs`.

mod table;
mod tell;

pub use tell::{Invalidation, enter_reads, enter_served, reader};

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use table::Table;

/// How a client tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mode {
    /// By beginnings of keys, whether it has read them or not.
    pub broadcast: bool,
    /// Only what it reads right after CLIENT CACHING YES.
    pub opt_in: bool,
    /// Not what it reads right after CLIENT CACHING NO.
    pub opt_out: bool,
    /// It is not told of what it changes itself.
    pub no_loop: bool,
}

/// A client that tracks, as all threads see it.
#[derive(Debug)]
pub struct Tracked {
    /// Its number.
    pub client: u64,
    /// The worker that has its connection.
    pub worker: usize,
    is_on: AtomicBool,
    mode: AtomicU8,
    /// To whom its messages go instead; 0 for nobody.
    redirect: AtomicU64,
    /// That one is gone.
    is_broken: AtomicBool,
    /// The beginnings of keys of which it hears, in order.
    prefixes: Mutex<Vec<Box<[u8]>>>,
}

impl Tracked {
    /// Tracks from now on, and so.
    pub fn new(client: u64, worker: usize) -> Tracked {
        Tracked {
            client,
            worker,
            is_on: AtomicBool::new(true),
            mode: AtomicU8::new(0),
            redirect: AtomicU64::new(0),
            is_broken: AtomicBool::new(false),
            prefixes: Mutex::default(),
        }
    }

    /// Whether it still does.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    /// How it tracks.
    pub fn mode(&self) -> Mode {
        let bits = self.mode.load(Relaxed);
        let has = |bit: u8| bits >> bit & 1 != 0;
        Mode { broadcast: has(0), opt_in: has(1), opt_out: has(2), no_loop: has(3) }
    }

    /// To whom its messages go instead, and whether that one is known to be gone.
    pub fn redirect(&self) -> (u64, bool) {
        (self.redirect.load(Relaxed), self.is_broken.load(Relaxed))
    }

    /// The beginnings of keys of which it hears.
    pub fn prefixes(&self) -> Vec<Box<[u8]>> {
        self.prefixes.lock().clone()
    }

    fn set(&self, mode: Mode, redirect: u64) {
        let bits = [mode.broadcast, mode.opt_in, mode.opt_out, mode.no_loop];
        let bits = bits.iter().rev().fold(0, |bits, bit| bits << 1 | u8::from(*bit));
        self.mode.store(bits, Relaxed);
        self.redirect.store(redirect, Relaxed);
        self.is_broken.store(false, Relaxed);
    }
}

/// Who hears of all keys with some beginning.
type ByPrefix = BTreeMap<Box<[u8]>, Vec<Arc<Tracked>>>;

/// Who tracks what.
#[derive(Debug, Default)]
pub struct Tracking {
    clients: AtomicUsize,
    table: Table,
    prefixes: Mutex<ByPrefix>,
    prefix_count: AtomicUsize,
}

/// Figures for INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackingCounts {
    /// Clients that track.
    pub clients: usize,
    /// Keys in the table.
    pub keys: usize,
    /// Entries in it: a key with two clients has two.
    pub items: usize,
    /// Beginnings of keys that clients hear of.
    pub prefixes: usize,
}

impl Tracking {
    /// Has a client track, or track otherwise. `prefixes` are added to those it has; without any it hears of all keys.
    pub fn begin(
        &self,
        tracked: &Arc<Tracked>,
        mode: Mode,
        redirect: u64,
        prefixes: Vec<Box<[u8]>>,
        followed: &larder_store::Followed,
        is_new: bool,
    ) {
        if is_new {
            self.clients.fetch_add(1, Relaxed);
            followed.add_copier(mode.broadcast);
        }
        tracked.set(mode, redirect);
        if !mode.broadcast {
            return;
        }
        let mut own = tracked.prefixes.lock();
        let prefixes = if prefixes.is_empty() { vec![Box::default()] } else { prefixes };
        let mut all = self.prefixes.lock();
        for prefix in prefixes {
            if !own.contains(&prefix) {
                all.entry(prefix.clone()).or_default().push(Arc::clone(tracked));
                own.push(prefix);
            }
        }
        own.sort_unstable();
        self.prefix_count.store(all.len(), Relaxed);
    }

    /// Ends a client's tracking. What it has in the table goes when its keys change, or the table is full.
    pub fn end(&self, tracked: &Arc<Tracked>, followed: &larder_store::Followed) {
        if !tracked.is_on.swap(false, Relaxed) {
            return;
        }
        self.clients.fetch_sub(1, Relaxed);
        followed.remove_copier(tracked.mode().broadcast);
        let mut all = self.prefixes.lock();
        for prefix in tracked.prefixes.lock().drain(..) {
            if let Some(clients) = all.get_mut(&prefix) {
                clients.retain(|other| !Arc::ptr_eq(other, tracked));
                if clients.is_empty() {
                    all.remove(&prefix);
                }
            }
        }
        self.prefix_count.store(all.len(), Relaxed);
    }

    /// Figures for INFO.
    pub fn counts(&self) -> TrackingCounts {
        let (keys, items) = self.table.counts();
        TrackingCounts {
            clients: self.clients.load(Relaxed),
            keys,
            items,
            prefixes: self.prefix_count.load(Relaxed),
        }
    }
}
