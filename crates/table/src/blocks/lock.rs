//! The lock of a pool. It spins: one that parks threads allocates, and whoever allocates may hold it.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Something behind a lock that spins.
pub(super) struct Guarded<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is touched under the lock only, by one thread at a time.
unsafe impl<T: Send> Sync for Guarded<T> {}

impl<T> Guarded<T> {
    pub(super) const fn new(value: T) -> Guarded<T> {
        Guarded { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `act` under the lock. It must neither panic nor allocate.
    #[inline]
    pub(super) fn hold<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        // Acquire: pairs with the Release below.
        if self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_contended();
        }
        // SAFETY: the lock is held, so this is the only reference.
        let result = act(unsafe { &mut *self.value.get() });
        self.locked.store(false, Ordering::Release);
        result
    }

    #[cold]
    fn lock_contended(&self) {
        let mut tries = 0u32;
        loop {
            // Relaxed: to wait without taking the line away from the holder.
            let is_free = !self.locked.load(Ordering::Relaxed);
            // Acquire: pairs with the Release in `hold`.
            if is_free
                && self
                    .locked
                    .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                return;
            }
            tries = tries.wrapping_add(1);
            // Who holds it may have been interrupted.
            if tries.is_multiple_of(64) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }
}

/// Adds to a counter that only the lock holder writes: no read-modify-write instruction is needed.
#[inline]
pub(super) fn add(counter: &AtomicUsize, bytes: usize) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
}

/// As [`add`].
#[inline]
pub(super) fn subtract(counter: &AtomicUsize, bytes: usize) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_sub(bytes), Ordering::Relaxed);
}
