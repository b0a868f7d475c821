//! The shared hash table of Larder: byte strings to inline bytes or boxed values, in shards, ordered by hash.
//!
//! It is the only data structure with unsafe code. It knows bytes, hashes, deadlines and sizes, and nothing of commands.
//!
//! - A [`Table`] has shards; [`Table::lock`] gives a [`Shard`], and all reading and writing goes through it.
//! - An entry is one allocation: header, key and value. A slot of a cache-line bucket points to it.
//! - A batch of lookups overlaps its cache misses with [`Table::prefetch_shard`], [`Table::prefetch_all`],
//!   which read without locks; [`Epochs`] keep what they read from being freed.
//! - [`Table::scan`] iterates by position in hash space and so survives growth; [`Shard::expire_due`] finds what is due.
//!
//! ```
//! use larder_table::{DeadlineChange, Epochs, Hasher, NewEntry, Payload, PayloadRef, Table, TableConfig};
//!
//! let config = TableConfig { shard_bits: 10, hasher: Hasher::random(), one_thread: false };
//! let table = Table::<Box<[u8]>>::new(config, Epochs::new(4));
//! let hash = table.hash(b"key");
//! let mut shard = table.lock(table.shard_of(hash));
//! match shard.find_mut(hash, b"key") {
//!     Some(mut entry) => drop(entry.replace(0, Payload::Inline(b"value"), DeadlineChange::Set(None))),
//!     None => {
//!         let new = NewEntry { kind: 0, access: 0, deadline: None, payload: Payload::Inline(b"value") };
//!         shard.insert(hash, b"key", new);
//!     }
//! }
//! let entry = shard.find(hash, b"key").expect("it was just inserted");
//! assert_eq!(entry.payload(), PayloadRef::Inline(b"value"));
//! ```
//!
//! Invariant: no safe call, in whatever order and from whatever threads, can read freed or foreign memory.
//! Read next: `table.rs`, then `shard.rs`, `segment.rs`, `bucket.rs`, `entry.rs`; memory is in `arena/`.

mod arena;
mod audit;
pub mod blocks;
mod bucket;
mod compact;
mod deadline;
mod detach;
mod directory;
mod entry;
mod epoch;
mod hand;
mod hash;
mod lock;
#[cfg(test)]
mod lock_tests;
mod occupied;
mod segment;
mod shard;
mod sweep;
mod sync;
mod table;

pub use arena::keep_pages;
pub use compact::{Compacted, Next, Position};
pub use detach::Detached;
pub use entry::{ACCESS_MAX, Entry, KINDS, NewEntry, Payload, PayloadRef, Removed};
pub use epoch::{Epochs, Participant};
pub use hand::{AT_ONCE, Hand, Passed, Pinned};
pub use hash::Hasher;
pub use occupied::{DeadlineChange, Occupied};
pub use shard::Shard;
pub use table::{SHARD_BITS_MAX, Table, TableConfig, TableMemory, WINDOW_MAX};

const _: () = assert!(usize::BITS == 64, "slots and directory words hold 48-bit addresses in 64 bits");

/// Asks for the cache line at an address, which need not be valid.
#[inline(always)]
pub fn prefetch<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: prefetching has no effect but on the cache, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}

/// Asks for the cache line at an address as one's own, to be written soon: who only reads it first would fetch it a second time,
/// from the core that wrote it last. An instruction of all processors of this kind; those that do not know it do nothing.
#[inline(always)]
pub(crate) fn prefetch_to_write<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: prefetching has no effect but on the cache, whatever the address.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    prefetch(address);
}
