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
use std::sync::TryLockError;

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
            if let Some(turn) = self.try_enter(worker) {
                return turn;
            }
            // The owner's mutex is held for as long as `wanted` is up: sleep on it.
            drop(self.owner.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
            yield_now();
        }
    }

    /// Opens a turn of `worker`, unless somebody needs everything.
    #[inline]
    pub fn try_enter(&self, worker: usize) -> Option<Turn<'_>> {
        self.inside[worker].store(true, Relaxed);
        // Pairs with the fence in `exclusive`: either we see `wanted`, or it sees our flag.
        fence(SeqCst);
        // Acquire: pairs with the Release in `Exclusive::drop`; what was done alone is seen.
        if !self.wanted.load(Acquire) {
            return Some(Turn { world: self, worker });
        }
        self.inside[worker].store(false, Release);
        None
    }

    /// Waits until no turn is open and keeps it so until the answer is dropped.
    pub fn exclusive(&self) -> Exclusive<'_> {
        // A panic of an earlier holder left nothing half-done in the lock itself.
        let owner = self.owner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while !self.clear(&|| false) {}
        Exclusive { world: self, _owner: owner }
    }

    /// As [`World::exclusive`], but gives up once `gives_up` says so while it waits.
    pub fn try_exclusive(&self, gives_up: &dyn Fn() -> bool) -> Option<Exclusive<'_>> {
        let mut patience = Patience::default();
        let owner = loop {
            match self.owner.try_lock() {
                Ok(owner) => break owner,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if gives_up() => return None,
                Err(TryLockError::WouldBlock) => patience.wait(),
            }
        };
        if self.clear(gives_up) { Some(Exclusive { world: self, _owner: owner }) } else { None }
    }

    /// As [`World::try_exclusive`], without leaving the turn in between: nobody else has everything before the caller. Gives the
    /// turn back where it gives up. Only one at a time may ask, and while one does others have to give up.
    ///
    /// # Errors
    /// The turn, where `gives_up` said so.
    pub fn try_upgrade<'w>(
        &'w self,
        turn: Turn<'w>,
        gives_up: &dyn Fn() -> bool,
    ) -> Result<Exclusive<'w>, Turn<'w>> {
        let mut patience = Patience::default();
        let owner = loop {
            match self.owner.try_lock() {
                Ok(owner) => break owner,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if gives_up() => return Err(turn),
                Err(TryLockError::WouldBlock) => patience.wait(),
            }
        };
        self.wanted.store(true, Relaxed);
        let worker = turn.worker;
        // Nobody enters any more, and nobody else can be exclusive.
        drop(turn);
        if self.clear(gives_up) {
            return Ok(Exclusive { world: self, _owner: owner });
        }
        // `clear` let others in again, but for those who want everything: they wait for the owner's mutex.
        self.inside[worker].store(true, Relaxed);
        fence(SeqCst);
        Err(Turn { world: self, worker })
    }

    /// Has everybody leave their turns, or nobody. The caller holds the owner's mutex.
    fn clear(&self, gives_up: &dyn Fn() -> bool) -> bool {
        self.wanted.store(true, Relaxed);
        fence(SeqCst);
        for flag in &self.inside {
            // Acquire: pairs with the Release in `Turn::drop`; what the turn did is seen.
            while flag.load(Acquire) {
                if gives_up() {
                    self.wanted.store(false, Release);
                    return false;
                }
                std::hint::spin_loop();
                yield_now();
            }
        }
        true
    }
}

/// Waits for others in growing steps: most waits are as long as a turn.
#[derive(Debug, Default)]
pub struct Patience(u32);

/// So often others are let run before the thread sleeps.
const YIELDS: u32 = 200;

impl Patience {
    /// Waits a little, and a little more if it has been for long.
    pub fn wait(&mut self) {
        self.0 = self.0.saturating_add(1);
        #[cfg(not(loom))]
        if self.0 > YIELDS {
            return std::thread::sleep(std::time::Duration::from_micros(50));
        }
        yield_now();
    }
}

impl<'w> Exclusive<'w> {
    /// Goes on as a turn of `worker`: nobody else has everything in between.
    pub fn into_turn(self, worker: usize) -> Turn<'w> {
        // Who wants everything next waits for the owner's mutex, which is held until `self` is dropped, and sees the flag then.
        self.world.inside[worker].store(true, Relaxed);
        Turn { world: self.world, worker }
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
