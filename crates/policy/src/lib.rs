//! policies
#![forbid(unsafe_code)]
mod hits;
mod interface;
pub mod model;
pub mod policies;
mod random;
mod ring;
pub mod sim;
pub mod svg;
pub use hits::{Hits, Recording};
pub use interface::{Entries, FIELD_BITS, FIELD_MAX, Policy, Ref, Scope, Seen, Step};
