//! EVAL and its kin, SCRIPT, FCALL and FUNCTION. Read next: `execute/script.rs`, which runs scripts.

mod eval;
mod functions;
mod scripts;

pub(super) use eval::{EVAL, EVAL_RO, EVALSHA, EVALSHA_RO};
pub use eval::{eval_keys, eval_spec};
pub(super) use functions::{FCALL, FCALL_RO, FUNCTION};
pub(super) use scripts::SCRIPT;
