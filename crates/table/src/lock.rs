//! The lock of a shard: one byte, taken by an atomic exchange and given back by a plain store.
//!
//! Nobody is woken: whoever finds it taken spins, then yields, then sleeps for moments. Holders hold it for one
//! command, and workers try it only, so waiting is rare; giving it back with no fence is what every command gains.
//! Where a table has but one thread, an [`Owner`], taking it is a plain store as well.
//! Invariant: between `lock` or a successful `try_lock` and `unlock` no other thread holds it.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Attempts with a pause of the processor between them.
const SPINS: u32 = 100;
/// Attempts, those included, before the thread sleeps.
const YIELDS: u32 = 200;
/// How long it sleeps at a time.
const NAP: Duration = Duration::from_micros(50);

/// The lock. All zero is unlocked.
pub(crate) struct Lock(AtomicBool);

impl Lock {
    /// Takes the lock unless it is taken.
    #[inline]
    pub(crate) fn try_lock(&self, owner: &Owner) -> bool {
        if self.0.load(Ordering::Relaxed) {
            return false;
        }
        if owner.is_this_thread() {
            // Nobody else takes it, so nothing comes between the look and the store.
            self.0.store(true, Ordering::Relaxed);
            return true;
        }
        // Acquire: pairs with the Release in `unlock`.
        self.0.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes the lock, waiting for it.
    #[inline]
    pub(crate) fn lock(&self, owner: &Owner) {
        if !self.try_lock(owner) {
            self.wait(owner);
        }
    }

    #[cold]
    fn wait(&self, owner: &Owner) {
        let mut attempts = 0;
        while !self.try_lock(owner) {
            attempts += 1;
            match attempts {
                ..SPINS => std::hint::spin_loop(),
                SPINS..YIELDS => std::thread::yield_now(),
                _ => std::thread::sleep(NAP),
            }
        }
    }

    /// Gives the lock back.
    ///
    /// # Safety
    /// The calling thread holds it.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        // Release: pairs with the Acquire in `try_lock`; what was done under the lock is seen.
        self.0.store(false, Ordering::Release);
    }
}

/// The only thread that takes the locks of a table, where it has only one.
pub(crate) struct Owner {
    /// The thread's number; [`SHARED`] where any thread may lock, [`UNCLAIMED`] until the first one does.
    thread: AtomicU64,
}

/// Any thread may lock.
const SHARED: u64 = u64::MAX;
/// The first thread that locks will be the owner.
const UNCLAIMED: u64 = u64::MAX - 1;

impl Owner {
    /// No owner, or the thread that locks first.
    pub(crate) fn new(only_one: bool) -> Self {
        Self { thread: AtomicU64::new(if only_one { UNCLAIMED } else { SHARED }) }
    }

    /// Lets any thread lock from here on. The caller proves that none holds a lock.
    pub(crate) fn give_up(&mut self) {
        *self.thread.get_mut() = SHARED;
    }

    /// Whether the calling thread is the owner.
    ///
    /// # Panics
    /// When another one is.
    #[inline]
    fn is_this_thread(&self) -> bool {
        let owner = self.thread.load(Ordering::Relaxed);
        owner == NUMBER.get() || (owner != SHARED && self.claim())
    }

    #[cold]
    fn claim(&self) -> bool {
        if NUMBER.get() == 0 {
            NUMBER.set(NEXT_NUMBER.fetch_add(1, Ordering::Relaxed));
        }
        let own = NUMBER.get();
        let claimed = self.thread.compare_exchange(UNCLAIMED, own, Ordering::Relaxed, Ordering::Relaxed);
        assert!(
            claimed.is_ok() || claimed == Err(own),
            "a table of one thread is locked by another; `TableConfig::one_thread` promised there is none"
        );
        true
    }
}

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The thread's number among those that own tables, from 1; 0 for none. Never given twice.
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn one_thread_at_a_time() {
        let (lock, owner) = (Lock(AtomicBool::new(false)), Owner::new(false));
        let (count, inside) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        lock.lock(&owner);
                        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                        inside.fetch_sub(1, Ordering::Relaxed);
                        // SAFETY: locked above.
                        unsafe { lock.unlock() };
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 6_000);
    }

    #[test]
    fn an_owner_locks_and_another_thread_is_refused() {
        let (lock, owner) = (Lock(AtomicBool::new(false)), Owner::new(true));
        assert!(lock.try_lock(&owner) && !lock.try_lock(&owner));
        // SAFETY: locked above.
        unsafe { lock.unlock() };
        std::thread::scope(|scope| {
            assert!(scope.spawn(|| lock.try_lock(&owner)).join().is_err());
        });
        let mut owner = owner;
        owner.give_up();
        std::thread::scope(|scope| {
            assert!(scope.spawn(|| lock.try_lock(&owner)).join().unwrap());
        });
    }
}
