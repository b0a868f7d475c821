//! The reclamation protocol under every interleaving: the crate's own `epoch.rs`, compiled with loom's atomics.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod sync {
    //! Loom's primitives under the names of the crate's `sync.rs`.
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
    pub(crate) use std::sync::Arc;

    /// Loom's mutex with the interface of the crate's.
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("no model panics while it holds the mutex")
        }
    }
}

#[path = "../src/epoch.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
mod epoch;

use epoch::Epochs;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// Two blocks; the root names the one in use. Loom reports a read of a block that races with its being freed.
struct Structure {
    root: AtomicUsize,
    blocks: [UnsafeCell<u32>; 2],
}

// SAFETY: that the accesses do not race is what the models below check.
unsafe impl Send for Structure {}
// SAFETY: as above.
unsafe impl Sync for Structure {}

const LIVE: u32 = 7;

impl Structure {
    fn new() -> Arc<Self> {
        Arc::new(Self { root: AtomicUsize::new(0), blocks: [UnsafeCell::new(LIVE), UnsafeCell::new(LIVE)] })
    }

    /// What a prefetcher does: finds the block without a lock and reads it.
    fn read(&self) {
        let at = self.root.load(Ordering::Acquire);
        // SAFETY: loom checks that nobody writes the cell meanwhile.
        self.blocks[at].with(|block| assert_eq!(unsafe { *block }, LIVE, "a freed block was read"));
    }

    /// What the table does with a retired block.
    fn free(&self, at: usize) {
        // SAFETY: loom checks that nobody accesses the cell meanwhile.
        self.blocks[at].with_mut(|block| unsafe { *block = 0 });
    }
}

#[test]
fn a_retired_block_is_not_freed_under_a_reader() {
    loom::model(|| {
        let epochs = Epochs::new(1);
        let structure = Structure::new();
        let reader = loom::thread::spawn({
            let (epochs, structure) = (Arc::clone(&epochs), Arc::clone(&structure));
            move || {
                let participant = epochs.register();
                participant.enter();
                structure.read();
                participant.enter();
                structure.read();
                participant.leave();
            }
        });
        structure.root.store(1, Ordering::Release);
        let stamp = epochs.stamp();
        if stamp < epochs.horizon() {
            structure.free(0);
        }
        reader.join().unwrap();
        assert!(stamp < epochs.horizon(), "with nobody entered everything can go");
    });
}

#[test]
fn what_is_deferred_runs_once_and_behind_the_readers() {
    loom::model(|| {
        let epochs = Epochs::new(1);
        let structure = Structure::new();
        let reader = loom::thread::spawn({
            let (epochs, structure) = (Arc::clone(&epochs), Arc::clone(&structure));
            move || {
                let participant = epochs.register();
                participant.enter();
                structure.read();
                participant.leave();
                epochs.collect();
            }
        });
        structure.root.store(1, Ordering::Release);
        let freed = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        epochs.defer(Box::new({
            let (structure, freed) = (Arc::clone(&structure), Arc::clone(&freed));
            move || {
                structure.free(0);
                freed.fetch_add(1, Ordering::SeqCst);
            }
        }));
        reader.join().unwrap();
        epochs.collect();
        assert_eq!(freed.load(Ordering::SeqCst), 1);
    });
}
