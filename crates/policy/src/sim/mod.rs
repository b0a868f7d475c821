//! The simulator: replays traces through the policies a server runs, and through the models they are measured against.
//!
//! ```
//! use larder_policy::sim::{Subject, Trace, replay};
//! use larder_policy::policies::Kind;
//!
//! let trace = Trace::parse_csv("time,key,size\n1,a,10\n2,b,20\n3,a,10\n".as_bytes())?;
//! let outcomes = replay(&trace, &[Subject::Policy(Kind::Adaptive)], &[30], &mut |_, _| {});
//! assert_eq!((outcomes[0].tally.gets, outcomes[0].tally.misses), (3, 2));
//! # Ok::<(), larder_policy::sim::TraceError>(())
//! ```
//!
//! Read next: `replay.rs`, `trace.rs`, `text.rs`, `report.rs`.

mod cache;
mod replay;
mod report;
mod text;
mod trace;

pub use cache::Cache;
pub use replay::{Outcome, Subject, Tally, replay};
pub use report::{Options, run};
pub use trace::{Operation, RECORD_BYTES, Request, Trace, TraceError, next_record, open_kvt1};
