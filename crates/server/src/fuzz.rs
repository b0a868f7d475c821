//! What fuzz targets need of the server; not for use.

pub use crate::commands::{eval_keys, eval_spec};
pub use crate::io::{Received, Session, Socket};
