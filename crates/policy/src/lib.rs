//! Which entries a cache keeps: policies that a server runs, the models they are measured against, and the simulator that
//! replays traces through both. No sockets, no clocks, no `unsafe`, no threads but a replay's; whatever is random
//! follows from a seed.
//!
//! # Policy and table
//!
//! A policy never sees keys or values. It knows an entry as a [`Ref`], 32 bits of the key's hash, and by what [`Seen`] tells:
//! 24 bits in the entry's header that belong to the policy (its *field*), the size, the deadline. The table implements
//! [`Entries`]: look an entry up by reference, write its field, walk a bucket in the order of hashes. The policy implements
//! [`Policy`]; its one decision is [`Policy::step`].
//!
//! **A hit** costs what the caller pays for reading the entry anyway. The caller's own [`Hits`] computes the new field from the
//! old one and from a clock it was told before; the field is written back with one relaxed store, under the lock the
//! caller holds for the read, if it changed. Counters and lists of hits are the thread's own. No policy is called, no
//! lock taken, no line written that others share. Once a turn the thread gives its notes to the policy ([`Policy::absorb`]).
//!
//! **Where policies live.** One policy for each part of the keyspace, a range of hashes (say, as many parts as workers, rounded
//! up to a power of two), behind a lock that is taken for misses, insertions and evictions only. Not one for each
//! shard: with a thousand shards a small cache would have ten entries in each, and the order among ten says little.
//! Not one for each worker: an entry made by one worker is used by all, and a name remembered by one would be new to
//! the others. References are the hash's bits below those that choose the part, so two entries in a part share one
//! about once in 2^32 / entries; then either may leave in the other's place.
//! Locks are taken in the order policy, shard; a step that looks at an entry whose shard is busy sees `None`, and its
//! reference is dropped: the table remembers which these were, and has them filed again ([`Policy::refile`]).
//!
//! **Cost.** The field is there in every entry whatever the policy, for OBJECT IDLETIME and FREQ. Beyond it: rings of references
//! take 4.6 bytes an entry (lru, lrm, mru, fifo, lfu, sieve), names of what left 4 (adaptive, s3fifo), the sketch of
//! wtinylfu 2; random, ttl and gdsf nothing. Each step looks at some eight to sixteen entries and takes a few microseconds.
//! A policy that is not chosen does not exist.
//!
//! **A restart.** What a field says is told by [`policies::Kind::kept`] in a form without clocks, [`Policy::recall`] files an entry by it, and
//! [`Policy::learned`] has what a policy knows beyond single entries. Names of what left are not kept: hashes are others after a restart.
//!
//! # Read next
//!
//! `interface.rs`, `hits.rs`, then `policies/adaptive.rs`; `sim/mod.rs` for replays. What was tried and what it gave is in
//! `docs/eviction.md`.

#![forbid(unsafe_code)]

mod hits;
mod interface;
pub mod model;
pub mod policies;
mod random;
mod ring;
pub mod sim;
pub mod sketch;
pub mod svg;

pub use hits::{Hits, Recording};
pub use interface::{
    Entries, Epoch, FIELD_BITS, FIELD_MAX, KEPT_NOTHING, Passing, Policy, Ref, Scope, Seen, Shown, Step,
};
pub use random::{Random, mix};
