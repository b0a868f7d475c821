//! Write-behind: writes that clients have been answered for and a store does not have yet.
//!
//! A queue is one store's. Each write goes to a log on disk first (`log.rs`), by a thread of its own that writes all that came in
//! since the last time at once (`writer.rs`); then its client is answered, and a second thread gives it to the store
//! (`sender.rs`). In memory the queue knows what waits of each key, as one change (`state.rs`, `change.rs`): it is what a read of the
//! key answers meanwhile, and all that is sent.
//!
//! Invariants: what a client was told is queued is on disk until the store has it or has refused it for good, and then it is among the
//! dead letters (`letters.rs`), or a newer write of its key is queued that leaves nothing of it. What is pushed together is on disk together or not at all. Writes of one key reach the store in the order
//! in which they came. Nobody who pushes or asks waits for a disk or a store.

#![forbid(unsafe_code)]

mod change;
mod disk;
#[doc(hidden)]
pub mod fuzz;
mod letters;
mod log;
mod number;
mod queue;
mod record;
mod sender;
mod state;
mod writer;

pub use change::{Change, Fields};
pub use disk::{Disk, Files, Sink};
pub use letters::Letter;
pub use queue::{Config, Done, Figures, Fsync, NewWrite, Opened, Owner, Queue};
pub use record::{Key, Write};
pub use sender::{Outcome, Store, send_all};
