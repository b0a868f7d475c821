//! Counters that one thread writes and any thread reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter with a single writer: adding is a load and a store, not an atomic read-modify-write.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only the owning thread may call this.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Sets the value. Only the owning thread may call this.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Sets the value if it grows by that. Only the owning thread may call this.
    #[inline]
    pub fn raise(&self, value: u64) {
        if value > self.get() {
            self.set(value);
        }
    }

    /// The value as last written.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Starts again from zero (`CONFIG RESETSTAT`); an addition under way may survive.
    pub fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// What one thread counts about the keyspace.
#[derive(Debug, Default)]
pub struct StoreStats {
    /// Reads that found their key.
    pub hits: Counter,
    /// Reads that did not.
    pub misses: Counter,
    /// Keys removed because their time had come.
    pub expired: Counter,
    /// Fields of hashes removed because their time had come.
    pub expired_fields: Counter,
    /// Of them, those that a command met.
    pub expired_on_access: Counter,
    /// Keys that a client removed.
    pub deleted: Counter,
    /// Keys removed to make room.
    pub evicted: Counter,
    /// The same by what room was made for, in the order of [`crate::Cause::ALL`].
    pub evicted_for: [Counter; 3],
    /// Values that invalidations removed, and those that they made old.
    pub invalidated: Counter,
    /// See above.
    pub softened: Counter,
    /// Entries looked at for invalidations of prefixes and tags.
    pub settled: Counter,
    /// Changes made to the data.
    pub changes: Counter,
    /// Objects handed to background freeing.
    pub lazy_freed: Counter,
}
