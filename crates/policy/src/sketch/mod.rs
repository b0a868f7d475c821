//! Structures of constant memory that tell what a cache is doing: the hit ratio it would have at other sizes, and who is
//! behind most of the traffic. Read next: `shards.rs`, `heavy.rs`, `top.rs`.

mod heavy;
mod shards;
mod top;

pub use heavy::{Heavy, Hitter};
pub use shards::{Curve, CurveCounts, HashesTo, KEYS_MAX, Shards};
pub use top::{Counted, Top};
