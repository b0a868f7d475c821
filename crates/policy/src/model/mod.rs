//! Reference models: the textbook algorithms, exact and with all the memory they like, for comparison.
//!
//! No server runs these. They know keys as dense numbers, keep linked lists, and tell the policies of
//! [`crate::policies`] what they are measured against. Invariant: after each request a model holds at most its capacity.
//! Read next: `list.rs`, then any model.

mod arc;
mod belady;
mod lfu;
mod lirs;
mod list;
mod queue;
mod redis;
mod s3fifo;
mod sieve;
mod wtinylfu;

pub use arc::Arc;
pub use belady::Belady;
pub use lfu::Lfu;
pub use lirs::Lirs;
pub use queue::{Order, Queue};
pub use redis::{RedisLfu, RedisLru};
pub use s3fifo::S3Fifo;
pub use sieve::Sieve;
pub use wtinylfu::WTinyLfu;

/// A request as a model sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Dense from 0.
    pub key: u32,
    /// What the object takes of the capacity, at least 1.
    pub size: u32,
    /// The index of the next request for the key; `u32::MAX` for none. Only Belady's optimum looks.
    pub next: u32,
    /// Seconds from the start of the trace.
    pub second: u32,
    /// The second at which it ends where it is stored; `u32::MAX` for never.
    pub end: u32,
}

/// What fits in a cache of a given model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Capacity, in the unit of the sizes.
    pub capacity: u64,
    /// Keys that can appear.
    pub keys: u32,
    /// How many objects of the mean size fit: sizes sketches.
    pub entries: usize,
}

/// A cache that holds keys, not values.
pub trait Model: Send {
    /// Looks the key up, and stores it when it is absent; answers whether it was there.
    fn access(&mut self, request: Use) -> bool;
    /// Stores the key, whether or not it is there.
    fn store(&mut self, request: Use) {
        if self.size_of(request.key).is_some_and(|size| size != request.size) {
            self.remove(request.key);
        }
        self.access(request);
    }
    /// The key, which is held, ends at another second. Whoever drives the model removes what is over; this is for those
    /// that go by the time that is left.
    fn expire(&mut self, _key: u32, _end: u32) {}
    /// The size the key is held with, if it is.
    fn size_of(&self, key: u32) -> Option<u32>;
    /// Forgets the key, as a deletion or the end of its time does.
    fn remove(&mut self, key: u32);
    /// The sum of sizes held.
    fn used(&self) -> u64;
}
