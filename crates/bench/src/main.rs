//! The `larder-bench` binary; see `lib.rs`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    larder_bench::run()
}
