//! The synchronisation primitives `epoch.rs` is written with; the loom test puts its own in their place.

pub(crate) use parking_lot::Mutex;
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
