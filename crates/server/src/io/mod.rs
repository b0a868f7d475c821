//! The kernel, behind one small interface: which sockets are ready, bytes in, bytes out.
//!
//! epoll stands behind it now; a completion-based back-end can take its place, since a turn already
//! reads everything first and sends everything last.

mod epoll;
mod socket;
mod tls;
pub mod writeback;

pub use epoll::{Poller, Readiness, Waker};
pub use socket::{Received, Sent, Socket};
pub use tls::Session;
