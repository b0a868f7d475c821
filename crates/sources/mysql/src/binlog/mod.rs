//! The binlog: what a replica is sent, in row format.
//!
//! Read next: `reader.rs`, what a stream of events means; `event.rs`, their forms; `value.rs`, cells of rows.

pub mod columns;
pub mod event;
pub mod reader;
pub mod value;
