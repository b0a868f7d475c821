//! The lock of a shard with real threads. Apart from `lock.rs`, which is compiled once more with loom's atomics.

use crate::lock::{Lock, Owner, WasOwed};
use std::sync::atomic::{AtomicU32, Ordering};

#[test]
fn one_thread_at_a_time() {
    let (lock, owner) = (Lock::default(), Owner::new(false));
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
    let (lock, owner) = (Lock::default(), Owner::new(true));
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

#[test]
fn what_is_owed_is_for_those_who_pay_and_for_those_who_wait() {
    for owner in [Owner::new(false), Owner::new(true)] {
        let lock = Lock::default();
        assert_eq!(lock.try_lock_owed(&owner), Some(WasOwed(false)));
        assert_eq!(lock.try_lock_owed(&owner), None);
        // SAFETY: locked above.
        unsafe { lock.unlock_owed() };
        assert!(!lock.try_lock(&owner));
        assert_eq!(lock.try_lock_owed(&owner), Some(WasOwed(true)));
        assert!(!lock.try_lock(&owner));
        // SAFETY: locked above.
        unsafe { lock.unlock_owed() };
        assert_eq!(lock.lock(&owner), WasOwed(true));
        // SAFETY: locked above.
        unsafe { lock.unlock() };
        assert!(lock.try_lock(&owner));
    }
}
