//! `larder-sim FILE`: replays a trace through eviction policies. See `larder_policy::sim`.

use larder_policy::sim::{Options, run};
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome =
        Options::parse(std::env::args().skip(1)).and_then(|options| run(&options, &mut io::stdout().lock()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}
