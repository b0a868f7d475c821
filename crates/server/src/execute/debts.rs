//! Keys that have changed and whose waiters could not be served before the locks were released.
//!
//! A waiter may need more than the key it waits for: the destination of BLMOVE, which may be locked elsewhere. No thread
//! waits for another, so who changed the key then gives its shard back *owed* (`larder_store::Held`): all others
//! find it locked, park their connections and ask again. Every worker looks for debts when a turn begins, locks what one
//! needs in the one order of all locks, and serves the waiters; who wants everything for itself pays all debts first.
//!
//! Invariant: a shard is owed if and only if a debt of one of its keys is on record, as anybody finds it who has locked
//! the shard. A debt without such a shard is of a key that nobody could lock when it changed (one that expired).

use super::Core;
use super::serve::Waiters;
use larder_store::{DbIndex, Held, Keyspace, LOCK_ATTEMPTS, Place};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A key whose waiters are to be served.
#[derive(Debug, PartialEq, Eq)]
struct Debt {
    db: DbIndex,
    key: Box<[u8]>,
}

/// What all workers owe, in the order in which it came about.
#[derive(Debug, Default)]
pub struct Debts {
    queue: Mutex<VecDeque<Debt>>,
    /// Debts on record, those included that somebody is about to pay.
    count: AtomicUsize,
}

impl Debts {
    /// Whether anything is owed. One load.
    #[inline]
    pub fn any(&self) -> bool {
        self.count.load(Relaxed) != 0
    }

    fn add(&self, db: DbIndex, key: &[u8]) {
        let mut queue = self.queue.lock();
        self.count.fetch_add(1, Relaxed);
        queue.push_back(Debt { db, key: key.into() });
    }
}

impl Waiters<'_> {
    /// Records that the waiters of a key are still to be served, and closes its shard to others until they are.
    #[cold]
    pub(super) fn owe(self, db: DbIndex, key: &[u8], held: &mut Held<'_>) {
        let keyspace: &Keyspace = &self.server.keyspace;
        held.set_owed(keyspace.place(db, keyspace.hash(key)), true);
        self.server.debts.add(db, key);
    }
}

impl Core {
    /// Serves those whom anybody owes it, as far as what they need can be locked.
    #[cold]
    pub(crate) fn pay_debts(&mut self) {
        let server = self.server;
        let (debts, keyspace) = (&server.debts, &server.keyspace);
        let (waiters, local) = self.waiters();
        let mut due = std::mem::take(&mut *debts.queue.lock());
        let mut unpaid = VecDeque::new();
        while let Some(debt) = due.pop_front() {
            let place = place_of(keyspace, &debt);
            let is_place = |other: &Debt| place_of(keyspace, other) == place;
            // What is owed of one shard is paid in order.
            if unpaid.iter().any(is_place) {
                unpaid.push_back(debt);
                continue;
            }
            let mut held = Held::default();
            let mut places = waiters.places_needed(debt.db, &debt.key);
            if !keyspace.try_hold_owed(&mut places, LOCK_ATTEMPTS, &mut held)
                || !waiters.serve_key(debt.db, &debt.key, &mut held, local)
            {
                unpaid.push_back(debt);
                continue;
            }
            // The shard is locked: nobody adds a debt of it meanwhile.
            let is_last = !due.iter().any(is_place) && !debts.queue.lock().iter().any(is_place);
            held.set_owed(place, !is_last);
            debts.count.fetch_sub(1, Relaxed);
            waiters.serve(&mut held, local);
        }
        if !unpaid.is_empty() {
            let mut queue = debts.queue.lock();
            unpaid.append(&mut queue);
            *queue = unpaid;
        }
        self.count_changes();
    }
}

fn place_of(keyspace: &Keyspace, debt: &Debt) -> Place {
    keyspace.place(debt.db, keyspace.hash(&debt.key))
}
