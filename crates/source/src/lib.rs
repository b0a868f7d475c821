//! Read-through without a driver: what a key stands for in a slower store, who fetches it, who waits, what is kept for how
//! long, and what happens when a change overtakes a load. No I/O, no clock, no threads; drivers are crates under `sources/`.
//!
//! Read next: `route.rs`, what a key stands for; `flight.rs`, who fetches and who waits; `freshness.rs`, how long a copy is
//! good; `driver.rs`, the contract with stores.

#![forbid(unsafe_code)]

mod batch;
mod breaker;
mod driver;
mod flight;
pub mod freshness;
mod groups;
mod pattern;
mod route;
mod routes;
mod shape;
mod source;
mod stats;
mod tags;
mod template;
mod value;
mod words;

pub use batch::{Batch, Keys};
pub use breaker::{Asking, Breaker};
pub use driver::{
    Answer, Change, Checked, Driver, Failure, FailureKind, Feed, Limits, Named, Position, Purpose, Request,
    Told, Validator, Work,
};
pub use flight::{FlightKey, Flights, Joined, Landed, Warming};
pub use groups::Groups;
pub use pattern::{KEY_BYTES_MAX, KeyName, Pattern, parameter_of};
pub use route::{DEFAULT_POLICY, FeedDown, OnError, Route, Share, Writes};
pub use routes::{ROUTES_MAX, Routes};
pub use shape::{Shape, Shaped, joined, push_json_text, text_of};
pub use source::{Fsync, Secret, SourceSpec};
pub use stats::RouteStats;
pub use tags::TagTemplate;
pub use template::{Language, Misfit, Parameter, ParameterType, Piece, Template};
pub use value::{Cell, Column, ColumnKind, Row, Rows};
pub use words::LineError;
