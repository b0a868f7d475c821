//! What drivers share: options and URLs, the runtime that they run on, connections with and without TLS, a pool, and SQL with
//! marks in place of names.
//!
//! Invariant: no password is in any text that this crate makes.
//! Read next: `wire.rs`, bytes from and to a store; `pool.rs`, who may use which connection.

#![forbid(unsafe_code)]

mod alone;
mod base64;
mod options;
mod place;
mod pool;
mod runtime;
pub mod sql;
mod tls;
mod wire;

pub use alone::{Alone, Claim, Exclusive};
pub use base64::{base64, unbase64};
pub use options::{Options, Secret, TlsMode};
pub use place::{Place, decode, encode};
pub use pool::{Lease, Pool, Pooled};
pub use runtime::Runtime;
pub use tls::Tls;
pub use wire::{Address, Wire};

use larder_source::{Failure, FailureKind};

/// The store cannot be reached, or the connection broke.
pub fn unreachable(text: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Unreachable, text)
}

/// The store said what makes no sense in its protocol; the connection is of no use any more.
pub fn garbled(text: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Unreachable, text)
}

/// No, and no again.
pub fn refused(text: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Refused, text)
}

/// What came back, or was given, cannot be what was declared.
pub fn unfit(text: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Unfit, text)
}

/// The store cannot do this.
pub fn unsupported(text: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Unsupported, text)
}
