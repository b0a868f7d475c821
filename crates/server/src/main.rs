//! The `larder` program.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: larder_server::alloc::Counted = larder_server::alloc::Counted;

fn main() -> ExitCode {
    larder_server::run(std::env::args_os().skip(1))
}
