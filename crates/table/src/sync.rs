//! The synchronisation primitives `epoch.rs` and `lock.rs` are written with; the loom tests put their own in their place.

pub(crate) use parking_lot::Mutex;
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
