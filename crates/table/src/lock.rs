//! The lock of a shard: one byte, taken by an atomic exchange and given back by a plain store.
//!
//! Nobody is woken: whoever finds it taken spins, then yields, then sleeps for moments. Holders hold it for one
//! command, and workers try it only, so waiting is rare; giving it back with no fence is what every command gains.
//! Where a table has but one thread, an [`Owner`], taking it is a plain store as well.
//!
//! A holder that has not finished what others must not see may give it back *owed*: it is free for whoever pays the debt
//! (`try_lock_owed`) and for those who look at everything (`lock`), and taken for all others. They find it out by
//! the same exchange that fails where it is taken, so it costs them nothing.
//! Invariant: between `lock` or a successful `try_lock` and `unlock` no other thread holds it. `tests/lock_loom.rs` runs it, and
//! what is owed, under every interleaving.

use crate::sync::AtomicU8;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Attempts with a pause of the processor between them.
const SPINS: u32 = 100;
/// Attempts, those included, before the thread sleeps.
const YIELDS: u32 = 200;
/// How long it sleeps at a time.
const NAP: Duration = Duration::from_micros(50);

/// Nobody holds it.
const FREE: u8 = 0;
/// Somebody holds it.
const TAKEN: u8 = 1;
/// Nobody holds it, and who held it last owes something.
const OWED: u8 = 2;

/// The lock. All zero is unlocked.
#[derive(Default)]
pub(crate) struct Lock(AtomicU8);

/// What a lock was when it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WasOwed(pub bool);

impl Lock {
    /// Takes the lock unless it is taken or owed.
    #[inline]
    pub(crate) fn try_lock(&self, owner: &Owner) -> bool {
        self.0.load(Ordering::Relaxed) == FREE && self.take(FREE, owner)
    }

    /// Takes the lock unless it is taken, owed or not.
    #[inline]
    pub(crate) fn try_lock_owed(&self, owner: &Owner) -> Option<WasOwed> {
        let found = self.0.load(Ordering::Relaxed);
        (found != TAKEN && self.take(found, owner)).then_some(WasOwed(found == OWED))
    }

    #[inline]
    fn take(&self, found: u8, owner: &Owner) -> bool {
        if owner.is_this_thread() {
            // Nobody else takes it, so nothing comes between the look and the store.
            self.0.store(TAKEN, Ordering::Relaxed);
            return true;
        }
        // Acquire: pairs with the Release in `unlock` and `unlock_owed`.
        self.0.compare_exchange(found, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes the lock, owed or not, waiting for it.
    #[inline]
    pub(crate) fn lock(&self, owner: &Owner) -> WasOwed {
        if self.try_lock(owner) { WasOwed(false) } else { self.wait(owner) }
    }

    #[cold]
    fn wait(&self, owner: &Owner) -> WasOwed {
        let mut attempts = 0;
        loop {
            if let Some(was_owed) = self.try_lock_owed(owner) {
                return was_owed;
            }
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
        // Release: pairs with the Acquire in `take`; what was done under the lock is seen.
        self.0.store(FREE, Ordering::Release);
    }

    /// Gives the lock back, owing.
    ///
    /// # Safety
    /// The calling thread holds it.
    pub(crate) unsafe fn unlock_owed(&self) {
        // Release: as in `unlock`.
        self.0.store(OWED, Ordering::Release);
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
