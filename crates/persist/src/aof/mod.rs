//! The append-only log, as Redis writes it: commands one behind the other, and the manifest that names the files.
//!
//! Formats only: bytes in, bytes out. Invariant: what is read is hostile; nothing panics, and nothing is made room for before
//! the bytes that would fill it are there.
//! Read next: `command.rs` for one command, `read.rs` for a file of them, `manifest.rs` for which files there are.

mod command;
mod manifest;
mod read;

pub use command::{Words, append, append_note, append_timestamp, append_word, begin, note};
pub use manifest::{Entry, FileKind, Manifest, ManifestError};
pub use read::{Damage, Found, Next, Scan, next, timestamp};
