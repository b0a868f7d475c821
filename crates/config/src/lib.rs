//! Configuration of Larder: the syntax of redis.conf, the table of options, and the logic of CONFIG GET, SET and
//! REWRITE and of the command line.
//!
//! Invariants: an option is one row of one table (`options.rs`); no input panics; nothing here does I/O but reading
//! and writing configuration files. A setting the server can't honour is refused in words, never ignored in silence.
//! Read next: `options.rs` for what can be set, `load.rs` for how a start finds its settings, `access.rs` for CONFIG.
#![forbid(unsafe_code)]

mod access;
mod include;
mod kind;
mod line;
mod load;
mod nearest;
mod options;
mod rewrite;
mod text;
mod value;

pub use access::{Change, SetError, VALUE_BYTES_MAX};
pub use kind::{BIND_ADDRESSES_MAX, Kind, Reason, memory};
pub use load::{
    Action, ConfigError, FILE_BYTES_MAX, FILES_MAX, INCLUDE_DEPTH_MAX, LINE_BYTES_MAX, Problem, Rename,
    Source, StartPlan, UserLine, check_config, from_args_and, from_text,
};
pub use options::{
    DIFFERS, Difference, Flags, Group, OPTIONS, OptionSpec, RETIRED, Settings, Support, lookup,
};
pub use rewrite::{ConfigFile, RewriteError, fuzz_config, rewritten};
pub use text::{default_conf, help_text};
pub use value::{
    Addresses, Choice, ClientClass, Directory, EndBySignal, Guard, HashFunction, KeyspaceEvents, Lines,
    LogFormat, LogLevel, MaxmemoryPolicy, MemoryOrPercent, OomScoreAdj, OomScores, OutputLimit, OutputLimits,
    Percentiles, SanitizePayload, SaveRule, SaveRules, Schedule, Schedules, Setting, Supervision, Text,
    TlsAuthClients, Words,
};
