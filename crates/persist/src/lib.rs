//! Formats in which values leave memory: RDB objects, CRC-64.
//!
//! Formats only: bytes in, bytes out; no files, no clock.
//! Invariant: what is read is hostile. Nothing panics, and no length is believed before the bytes
//! that would fill it are there.
//! Read next: `rdb` for DUMP and RESTORE, which use the other.
#![forbid(unsafe_code)]

pub mod aof;
pub mod rdb;

pub mod crc64;

#[doc(hidden)]
pub mod fuzz;
