//! Plain data structures and byte algorithms that know nothing of keyspaces, sockets or replies.
//!
//! Everything here is a function of its arguments: no I/O, no clock, no randomness of its own.
//! Read next: `number` for text and numbers, `packed` for small collections, `hll` for the largest structure.
#![forbid(unsafe_code)]

pub mod number;

pub mod collection;

pub mod glob;

pub mod bits;

pub mod hll;

pub mod digest;

pub mod zset;

pub mod geo;

pub mod lcs;

pub mod ascii7;

pub mod list;

pub mod lzf;

pub mod packed;

pub mod stream;

pub mod hash;

mod vector;

pub mod lru;

pub mod index;

pub mod mover;
pub mod set;

#[doc(hidden)]
pub mod fuzz;
