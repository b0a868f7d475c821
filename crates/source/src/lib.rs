//! Read-through without a driver: what a key stands for in a slower store, who fetches it, who waits, what is kept for how
//! long, and what happens when a change overtakes a load. No I/O, no clock, no threads; drivers are crates under `sources/`.
//!
//! Read next: `driver.rs`, the contract with stores; `template.rs`, statements with names in them.

#![forbid(unsafe_code)]

mod driver;
mod template;
mod value;

pub use driver::{
    Answer, Change, Checked, Driver, Failure, FailureKind, Feed, Limits, Named, Position, Purpose, Request,
    Told, Validator, Work,
};
pub use template::{Language, Misfit, Parameter, ParameterType, Piece, Template};
pub use value::{Cell, Column, ColumnKind, Row, Rows};
