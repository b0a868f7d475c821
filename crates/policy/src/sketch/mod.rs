//! Structures of constant memory that tell what a cache is doing: the hit ratio it would have at other sizes, and who is
//! behind most of the traffic. Read next: `shards.rs`, `top.rs`.

mod shards;
mod top;

pub use shards::{Curve, Shards};
pub use top::{Counted, Top};
