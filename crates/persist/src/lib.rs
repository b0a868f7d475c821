//! Formats in which values leave memory: RDB objects, LZF, CRC-64.
//!
//! Formats only: no files, no clock.
#![forbid(unsafe_code)]
