//! The world lock: normal work never writes a line that another thread reads often, and the rare
//! operation that needs everything at once (FLUSHALL, SWAPDB, a change of policy) can have it.
//!
//! A big-reader lock: each worker raises its own padded flag for the length of one turn; the
//! exclusive side announces itself and waits until every flag is down. A turn is short, so the wait
//! is.
//!
//! Invariant: while an [`Exclusive`] exists no [`Turn`] is open, and there is one `Exclusive`.
//! Checked by a loom model (`cargo test -p larder-store --release --lib world` with `--cfg loom`).

#[cfg(loom)]
use loom::{
    sync::atomic::{AtomicBool, Ordering::*, fence},
    sync::{Mutex, MutexGuard},
    thread::yield_now,
};
#[cfg(not(loom))]
use std::{
    sync::atomic::{AtomicBool, Ordering::*, fence},
    sync::{Mutex, MutexGuard},
    thread::yield_now,
};

use crossbeam_utils::CachePadded;

/// The lock. One slot per worker.
#[derive(Debug)]
pub struct World {
    /// Somebody holds or waits for everything.
    wanted: AtomicBool,
    /// Who may be exclusive; held for as long as `wanted` is up.
    owner: Mutex<()>,
    /// Whether each worker is inside a turn.
    inside: Box<[CachePadded<AtomicBool>]>,
}

/// Proof that a worker is inside a turn.
#[derive(Debug)]
pub struct Turn<'w> {
    world: &'w World,
    worker: usize,
}

/// Proof that nobody else is inside a turn.
#[derive(Debug)]
pub struct Exclusive<'w> {
    world: &'w World,
    _owner: MutexGuard<'w, ()>,
}

impl World {
    /// A lock for `workers` workers, none of them inside.
    pub fn new(workers: usize) -> Self {
        World {
            wanted: AtomicBool::new(false),
            owner: Mutex::new(()),
            inside: (0..workers).map(|_| CachePadded::new(AtomicBool::new(false))).collect(),
        }
    }

    /// Opens a turn of `worker`, waiting while somebody needs everything.
    ///
    /// A worker has one turn at a time; it must not hold a turn while it asks for
    /// [`World::exclusive`].
    #[inline]
    pub fn enter(&self, worker: usize) -> Turn<'_> {
        loop {
            self.inside[worker].store(true, Relaxed);
            // Pairs with the fence in `exclusive`: either we see `wanted`, or it sees our flag.
            fence(SeqCst);
            // Acquire: pairs with the Release in `Exclusive::drop`; what was done alone is seen.
            if !self.wanted.load(Acquire) {
                return Turn { world: self, worker };
            }
            self.inside[worker].store(false, Release);
            // The owner's mutex is held for as long as `wanted` is up: sleep on it.
            drop(self.owner.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
            yield_now();
        }
    }

    /// Waits until no turn is open and keeps it so until the answer is dropped.
    pub fn exclusive(&self) -> Exclusive<'_> {
        // A panic of an earlier holder left nothing half-done in the lock itself.
        let owner = self.owner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.wanted.store(true, Relaxed);
        fence(SeqCst);
        for flag in &self.inside {
            // Acquire: pairs with the Release in `Turn::drop`; what the turn did is seen.
            while flag.load(Acquire) {
                std::hint::spin_loop();
                yield_now();
            }
        }
        Exclusive { world: self, _owner: owner }
    }
}

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        self.world.inside[self.worker].store(false, Release);
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        self.world.wanted.store(false, Release);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::{sync::Arc, thread};

    #[test]
    fn nobody_is_inside_while_somebody_has_everything() {
        loom::model(|| {
            let world = Arc::new(World::new(1));
            let inside = Arc::new(AtomicBool::new(false));
            let worker = {
                let (world, inside) = (Arc::clone(&world), Arc::clone(&inside));
                thread::spawn(move || {
                    let turn = world.enter(0);
                    inside.store(true, Relaxed);
                    inside.store(false, Relaxed);
                    drop(turn);
                })
            };
            {
                let exclusive = world.exclusive();
                assert!(!inside.load(Relaxed));
                drop(exclusive);
            }
            worker.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn turns_and_exclusive_sections_never_overlap() {
        let world = Arc::new(World::new(3));
        let inside = Arc::new(AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for worker in 0..3 {
                let (world, inside) = (&world, &inside);
                scope.spawn(move || {
                    for round in 0..3_000 {
                        if round % 50 == worker {
                            let _exclusive = world.exclusive();
                            assert_eq!(inside.load(SeqCst), 0);
                        } else {
                            let _turn = world.enter(worker);
                            inside.fetch_add(1, SeqCst);
                            inside.fetch_sub(1, SeqCst);
                        }
                    }
                });
            }
        });
    }
}
