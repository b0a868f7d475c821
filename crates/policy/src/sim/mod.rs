//! The simulator: replays traces through the policies a server runs, and through the models they are measured against.
//!
//! ```
//! use larder_policy::sim::{Subject, Trace, replay};
//! use larder_policy::policies::Kind;
//!
//! let trace = Trace::read(&b"time,key,size\n1,a,10\n2,b,20\n3,a,10\n"[..], None)?.trace;
//! let outcomes = replay(&trace, &[Subject::Policy(Kind::Adaptive)], &[30], 1, &mut |_, _| {});
//! assert_eq!((outcomes[0].tally.gets, outcomes[0].tally.misses), (3, 2));
//! # Ok::<(), larder_policy::sim::TraceError>(())
//! ```
//!
//! Read next: `replay.rs`, `trace.rs`, `read.rs`, `options.rs`, `report.rs`.

mod cache;
mod csv;
mod keys;
mod monitor;
mod options;
mod read;
mod replay;
mod report;
mod trace;

pub use cache::Cache;
pub use csv::Columns;
pub use options::{Asked, Options};
pub use read::{Format, Read, fuzz_trace};
pub use replay::{Outcome, Subject, Tally, replay};
pub use report::run;
pub use trace::{Operation, Place, RECORD_BYTES, Request, Trace, TraceError, next_record, open_kvt1};
