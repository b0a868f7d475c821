//! Numbers as text: which bytes are a number, and which bytes a number becomes.
//!
//! Invariant: what is accepted and what is printed is what Redis accepts and prints, to the byte.
//! Read next: `integer`, then `double` and `long_double`; `shortest` and `round` serve those two.

mod double;
mod integer;
mod long_double;
mod round;
mod shortest;

pub use double::{parse_f64, parse_weight, write_f64, write_f64_17, write_f64_shortest};
pub use integer::{i64_len, parse_i64, parse_u64, write_i64, write_u64};
pub use long_double::LongDouble;
