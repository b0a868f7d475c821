//! Larder's bench: a load generator, a null server, trace replay, and the comparison with other servers.
//! Everything is reached through [`run`]; the binary `larder-bench` only calls it.
#![forbid(unsafe_code)]

mod distribution;
mod random;

/// Runs the command line and returns the process's exit code.
pub fn run() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
