//! Larder's bench: a load generator, a null server, trace replay, and the comparison with other servers.
//! Everything is reached through [`run`]; the binary `larder-bench` only calls it.
#![forbid(unsafe_code)]

mod check;
mod cli;
mod compare;
mod null;
mod scan;

mod distribution;
mod load;
mod outcome;
mod random;
mod reply;
mod schedule;
mod template;
mod workload;

mod replay;
mod trace;

mod endpoint;
mod gauge;
mod peers;
mod process;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Command};

/// Runs the command line and returns the process's exit code: 0, or 1 after a message on standard error.
pub fn run() -> ExitCode {
    match dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "larder-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<()> {
    process::raise_open_files();
    match cli.command {
        Command::Load(args) => run_load(args.plan()?, args.cpu, args.json),
        Command::Fill(args) => run_load(args.plan()?, args.cpu, args.json),
        Command::Compare(args) => compare::run(&args),
        Command::Check(args) => say(&check::run(&args)?),
        Command::TraceDump(args) => {
            compare::trace_suite::dump(&args.trace, args.requests, &mut std::io::stdout().lock())
        }
        Command::TraceInfo(args) => {
            let trace =
                larder_policy::sim::Trace::read_kvt1(&args.trace, args.requests.unwrap_or(usize::MAX))?;
            let footprint = trace::footprint_bytes(&trace, replay::KEY_BYTES);
            say(&format!(
                "requests {}\nkeys {}\nfootprint_bytes {footprint}\n",
                trace.requests.len(),
                trace.keys
            ))
        }
        Command::Exec(args) => peers::become_server(&args.program, &args.arguments),
        Command::Null(args) => {
            bind(args.cpu)?;
            null::serve(&null::NullSpec {
                port: args.port,
                threads: args.threads,
                value_bytes: args.value_bytes,
            })
        }
    }
}

fn run_load(plan: (load::LoadSpec, workload::Workload), cpu: Option<usize>, json: bool) -> Result<()> {
    bind(cpu)?;
    let (spec, workload) = plan;
    let outcome = load::run(&spec, workload, &mut |_| ())?;
    say(&if json { outcome.json() + "\n" } else { outcome.text() })
}

fn bind(cpu: Option<usize>) -> Result<()> {
    cpu.map_or(Ok(()), |core| process::Cores::single(core).bind_this_thread())
}

/// Writes to standard output.
fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
