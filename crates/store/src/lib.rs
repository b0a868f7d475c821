//! The keyspace: which keys exist, what they hold, when they end, who may touch them when.
//!
//! A command never sees a lock: the executor locks the shards of the command's keys through
//! [`Keyspace`] and hands the command a [`Db`], which reaches those keys only. Time enters through
//! [`Local::now`]; nothing here reads a clock, opens a file or knows the protocol.
//!
//! Read next: `keyspace.rs` (databases and locking), `db.rs` (what a command can do with keys), `collection.rs` (and with collections),
//! `string.rs` (how strings are kept), `object.rs` (which types there are), `effects.rs` (who hears of changes), `discard.rs` (who frees), `sizes.rs` (how large values are), `field_ends.rs` (which keys have fields that end), `insight/mod.rs` (what the cache is doing), `noted.rs` (what memcached's protocol knows of a value), `generations.rs` and `rules.rs` (invalidation of many keys at once), `leases.rs` (who may load), `snapshot.rs` (everything as it was at one moment), `rest.rs` (which keys are decided while a file is being loaded), `world.rs` (everything at once).
#![forbid(unsafe_code)]

mod collection;
mod db;
mod defrag;
mod discard;
mod effects;
mod evict;
mod field_ends;
mod followed;
mod generations;
mod held;
mod insight;
mod item;
mod keyspace;
mod leases;
mod local;
mod log;
mod noted;
mod object;
mod rest;
mod rules;
mod sizes;
mod snapshot;
mod stats;
mod string;
mod sweep;
mod world;

pub use collection::{Edited, PACKED_BYTES_MAX};
pub use db::{Db, EditIntegerError, Elsewhere, Expire, WrongType};
pub use defrag::{DefragCursor, Defragged};
pub use discard::{LazyFree, Removal};
pub use effects::{Changed, Effect, Effects, Event, EventClass, Hushed, Listener};
pub use evict::{
    Cause, Choice, Chosen, ClassSpec, ClassUse, Evicted, Evictor, Kind, Learned, Matcher, Scope, Uses,
};
pub use followed::{Followed, Waiting, Watch};
pub use generations::{Entered, Invalidated};
pub use held::Held;
pub use insight::{
    DELIMITERS, End, Ended, HotKey, Insight, Kept, Lifetimes, MissRatio, PREFIX_BYTES_MAX, Panel,
    PrefixFigures, Traffic,
};
pub use item::{Item, Value};
pub use keyspace::{
    Database, DbIndex, Flushed, Garbage, Hashed, Keyspace, KeyspaceMemory, LOCK_ATTEMPTS, Locked, Place,
    TableNumber,
};
pub use larder_policy::KEPT_NOTHING;
pub use larder_policy::policies::levels::uses_of;
pub use leases::{LeaseCounts, Leased, Leases, Mark, TAG_BYTES_MAX, TAGS_MAX};
pub use local::{Access, Local, Millis, Unfound};
pub use log::{Log, Unit};
pub use noted::{NOTE_BYTES, Note, Noted};
pub use object::{Object, Stored, Type};
pub use rules::{Concerns, Force, Nature};
pub use sizes::{SIZE_BINS, SIZED_TYPES};
pub use snapshot::{Chunk, KEPT_BYTES, Prepared, Saved, Scribe, Sink, Snapshot};
pub use stats::{Counter, StoreStats};
pub use string::{INLINE_BYTES_MAX, Str};
pub use world::{Exclusive, Patience, Turn, World};

pub use larder_table::{Epochs, Hasher, Participant, WINDOW_MAX, blocks, keep_pages};
