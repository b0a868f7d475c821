//! Quiescent-state reclamation: when memory that was unlinked can be freed although others read it without a lock.
//!
//! Invariant: a participant that entered before a block was unlinked announces an epoch not above the block's stamp
//! until it enters again or leaves. A block is free to go when every announced epoch is above its stamp.
//! The file is also compiled by the loom test, with loom's atomics in place of `sync`.

use super::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, fence};
use std::cell::Cell;

/// What an idle participant announces.
const IDLE: u64 = u64::MAX;

/// One per process or table family; participants are the threads that prefetch.
pub struct Epochs {
    global: AtomicU64,
    seats: Box<[Seat]>,
    deferred: Mutex<Vec<Deferred>>,
}

/// A participant's announcement, on a cache line (and its prefetch pair) of its own.
#[repr(align(128))]
struct Seat {
    announced: AtomicU64,
    taken: AtomicBool,
}

struct Deferred {
    stamp: u64,
    free: Box<dyn FnOnce() + Send>,
}

/// A thread's seat among the epochs. While entered, what it finds by lock-free reads stays allocated.
pub struct Participant {
    epochs: Arc<Epochs>,
    seat: usize,
    /// The turn it is in, counted from 1; 0 between turns.
    entered: Cell<u64>,
    turns: Cell<u64>,
}

impl Epochs {
    /// Epochs for at most `max_participants` threads at a time.
    #[must_use]
    pub fn new(max_participants: usize) -> Arc<Self> {
        let seat = || Seat { announced: AtomicU64::new(IDLE), taken: AtomicBool::new(false) };
        let seats = (0..max_participants).map(|_| seat()).collect();
        Arc::new(Self { global: AtomicU64::new(0), seats, deferred: Mutex::new(Vec::new()) })
    }

    /// Takes a seat; it is given back when the participant is dropped.
    ///
    /// # Panics
    /// When all seats are taken: the caller sized the epochs for its threads.
    #[must_use]
    pub fn register(self: &Arc<Self>) -> Participant {
        // Acquire: pairs with the Release in `Participant::drop`.
        let free = |seat: &Seat| {
            seat.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        let seat =
            self.seats.iter().position(free).expect("epochs have a seat for each participating thread");
        Participant { epochs: Arc::clone(self), seat, entered: Cell::new(0), turns: Cell::new(0) }
    }

    /// The stamp for blocks that were unlinked before this call.
    pub(crate) fn stamp(&self) -> u64 {
        // Whoever reads a later epoch synchronises with this and sees the unlinking.
        self.global.fetch_add(1, Ordering::AcqRel)
    }

    /// Blocks whose stamp is below the result can be freed.
    pub(crate) fn horizon(&self) -> u64 {
        // Pairs with the fence in `enter`: either the announcement is seen here, or the participant sees the unlinking.
        fence(Ordering::SeqCst);
        // Acquire: pairs with the Release stores, so that the participant's reads are over before the memory goes.
        self.seats.iter().map(|seat| seat.announced.load(Ordering::Acquire)).min().unwrap_or(IDLE)
    }

    /// Runs `free` once everything unlinked before this call can be freed; at once when nobody is entered.
    pub(crate) fn defer(&self, free: Box<dyn FnOnce() + Send>) {
        let stamp = self.stamp();
        self.deferred.lock().push(Deferred { stamp, free });
        self.collect();
    }

    /// Frees what was deferred and can go by now. Cheap when there is nothing.
    pub fn collect(&self) {
        let mut ready = Vec::new();
        {
            let mut deferred = self.deferred.lock();
            if deferred.is_empty() {
                return;
            }
            let horizon = self.horizon();
            let mut at = 0;
            while at < deferred.len() {
                if deferred[at].stamp < horizon {
                    ready.push(deferred.swap_remove(at));
                } else {
                    at += 1;
                }
            }
        }
        for deferred in ready {
            (deferred.free)();
        }
    }
}

impl Drop for Epochs {
    fn drop(&mut self) {
        // Participants and tables hold the epochs by `Arc`: nobody is entered any more.
        self.collect();
    }
}

impl Participant {
    /// Begins a turn, or the next one: what was unlinked before may be freed, what is found from here on may not.
    #[inline]
    pub fn enter(&self) {
        // Acquire: pairs with `stamp`; a block stamped below this epoch is not found any more.
        let epoch = self.epochs.global.load(Ordering::Acquire);
        // Release: the reads of the last turn are over; pairs with the Acquire in `horizon`.
        self.epochs.seats[self.seat].announced.store(epoch, Ordering::Release);
        // Pairs with the fence in `horizon`.
        fence(Ordering::SeqCst);
        self.turns.set(self.turns.get() + 1);
        self.entered.set(self.turns.get());
    }

    /// Ends the turn: the participant reads nothing until it enters again and holds up no reclamation.
    #[inline]
    pub fn leave(&self) {
        self.entered.set(0);
        // Release: as in `enter`.
        self.epochs.seats[self.seat].announced.store(IDLE, Ordering::Release);
    }

    /// Whether lock-free reads are allowed in structures that retire to `epochs`.
    #[inline]
    pub(crate) fn may_read(&self, epochs: &Arc<Epochs>) -> bool {
        self.entered.get() != 0 && Arc::ptr_eq(&self.epochs, epochs)
    }

    /// The turn it is in, a number that never comes again; 0 between turns.
    #[inline]
    pub(crate) fn turn(&self) -> u64 {
        self.entered.get()
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.leave();
        // Release: the next owner of the seat starts after `leave`.
        self.epochs.seats[self.seat].taken.store(false, Ordering::Release);
    }
}
