//! The lock of a shard, and what is owed under it, under every interleaving: the crate's own `lock.rs`, compiled with loom's
//! atomics.
//!
//! The protocol of debts is that of `server/src/execute/debts.rs`: who cannot serve those who wait for a key records a debt
//! and gives the lock back owed; who pays looks for debts, takes the lock owed or not, and gives it back free once
//! no debt is left.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod sync {
    //! Loom's primitives under the names of the crate's `sync.rs`.
    pub(crate) use loom::sync::atomic::AtomicU8;
}

#[path = "../src/lock.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
mod lock;

use lock::{Lock, Owner, WasOwed};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::sync::Arc;

/// What a shard holds: how many changes its waiters have not been served for, and how many changes there were.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
struct Contents {
    unserved: u32,
    changes: u32,
}

struct Shard {
    lock: Lock,
    owner: Owner,
    /// Loom reports two threads in here at once, and a look at what another wrote that need not be seen.
    contents: UnsafeCell<Contents>,
    /// Debts on record.
    debts: AtomicUsize,
}

// SAFETY: that the accesses do not race is what the models below check.
unsafe impl Send for Shard {}
// SAFETY: as above.
unsafe impl Sync for Shard {}

impl Shard {
    fn new() -> Arc<Shard> {
        let contents = UnsafeCell::new(Contents::default());
        Arc::new(Shard {
            lock: Lock::default(),
            owner: Owner::new(false),
            contents,
            debts: AtomicUsize::new(0),
        })
    }

    /// What is under the lock, which the caller holds.
    fn edit<R>(&self, edit: impl FnOnce(&mut Contents) -> R) -> R {
        // SAFETY: loom checks that nobody else looks at it meanwhile.
        self.contents.with_mut(|contents| edit(unsafe { &mut *contents }))
    }

    /// Changes the shard, and cannot serve who waits for the change. False where the shard is taken or owed.
    fn change_and_owe(&self) -> bool {
        if !self.lock.try_lock(&self.owner) {
            return false;
        }
        self.edit(|contents| {
            assert_eq!(contents.unserved, 0, "a change was seen before its waiters were served");
            *contents = Contents { unserved: 1, changes: contents.changes + 1 };
        });
        self.debts.fetch_add(1, Ordering::Relaxed);
        // SAFETY: locked above.
        unsafe { self.lock.unlock_owed() };
        true
    }

    /// Pays a debt if there is one and the shard can be locked; whether it did.
    fn pay(&self) -> bool {
        if self.debts.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let Some(WasOwed(was_owed)) = self.lock.try_lock_owed(&self.owner) else { return false };
        let unserved = self.edit(|contents| std::mem::take(&mut contents.unserved));
        assert_eq!(unserved == 1, was_owed, "a shard is owed if and only if somebody is to be served");
        if was_owed {
            assert_eq!(self.debts.fetch_sub(1, Ordering::Relaxed), 1, "what is owed is on record");
        }
        // SAFETY: locked above.
        unsafe { self.lock.unlock() };
        was_owed
    }
}

#[test]
fn one_holds_it_and_sees_what_was_done_before() {
    loom::model(|| {
        let shard = Shard::new();
        let work = |shard: &Shard| {
            let is_locked = shard.lock.try_lock(&shard.owner);
            if is_locked {
                shard.edit(|contents| contents.changes += 1);
                // SAFETY: locked above.
                unsafe { shard.lock.unlock() };
            }
            u32::from(is_locked)
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let shard = Arc::clone(&shard);
                thread::spawn(move || work(&shard))
            })
            .collect();
        let done = work(&shard) + others.into_iter().map(|other| other.join().unwrap()).sum::<u32>();
        assert!(done > 0, "nobody got a lock that nobody held");
        assert_eq!(shard.edit(|contents| contents.changes), done);
    });
}

#[test]
fn what_is_owed_is_seen_by_those_who_pay_alone_and_paid_once() {
    // All interleavings of three threads take half a minute; those with three changes of threads against their will a moment.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shard = Shard::new();
        let debtor = Arc::clone(&shard);
        let debtor = thread::spawn(move || u32::from(debtor.change_and_owe()));
        let payer = Arc::clone(&shard);
        let payer = thread::spawn(move || u32::from(payer.pay()));
        // Changes it as well, unless it is owed: `change_and_owe` looks.
        let mut changes = u32::from(shard.change_and_owe());
        let mut paid = u32::from(shard.pay());
        changes += debtor.join().unwrap();
        paid += payer.join().unwrap();
        // What is left is paid by whoever looks next.
        paid += u32::from(shard.pay());
        assert_eq!(changes, paid, "each debt is paid, and once");
        assert_eq!(shard.debts.load(Ordering::Relaxed), 0);
        assert!(shard.lock.try_lock(&shard.owner), "a shard that owes nothing is free");
        assert_eq!(shard.edit(|contents| *contents), Contents { unserved: 0, changes });
    });
}
