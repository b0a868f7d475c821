//! RESP2 and RESP3 without I/O: bytes in, requests out; replies in, bytes out. And memcached's protocol, in `memcached/`.
//!
//! Nothing here knows a socket, a command or a key. The parser never copies an argument: it
//! answers positions in the caller's buffer. The writer never builds a tree: it appends to an
//! output buffer, and large shared values are queued without a copy.
//!
//! Read next: `request.rs` (bytes in), `output.rs` and `reply.rs` (bytes out).
#![forbid(unsafe_code)]

mod inline;
pub mod limits;
pub mod memcached;
mod output;
mod reply;
mod request;

pub use inline::split_words;
pub use limits::Limits;
pub use output::{Blob, Output};
pub use reply::{Protocol, Reply};
pub use request::{Progress, ProtocolError, RequestParser, Span, parse_whole};
