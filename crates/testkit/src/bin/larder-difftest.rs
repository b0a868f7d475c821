//! Compares two servers by random commands for as long as one likes, and prints a transcript of the
//! first difference:
//! `larder-difftest [--seed N] [--seconds N] [--families a,b] [--without c,d]
//! [--left ADDR] [--right ADDR]`.
//! `larder-difftest --log yes` has Larder log them, kills it again and again, and compares what it has then with what it had.
//! Without an address, Larder is the left server and redis-server 8.2 the right one.

#![forbid(unsafe_code)]

use larder_testkit::difftest::{Options, run, run_log};
use larder_testkit::{Larder, Redis82};
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    match compare() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("larder-difftest: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<bool, String> {
    let (mut options, is_for_log) = options(std::env::args().skip(1))?;
    if is_for_log {
        return kill(&options);
    }
    let mut servers = Vec::new();
    if options.left.is_empty() {
        servers.push(Larder::start_with_threads("1")?);
        options.left = servers.last().map(|server| server.address()).unwrap_or_default();
    }
    if options.right.is_empty() {
        servers.push(Redis82::start()?);
        options.right = servers.last().map(|server| server.address()).unwrap_or_default();
    }
    let outcome = run(&options).map_err(|error| error.to_string())?;
    let (text, agree) = match outcome {
        Ok(report) => (
            format!(
                "no difference in {} commands of {} kinds, {} sequences from seed {}",
                report.commands, report.known_commands, report.sequences, options.seed
            ),
            true,
        ),
        Err(found) => (format!("seed {}: {}\n\n{}", found.seed, found.description, found.transcript), false),
    };
    writeln!(std::io::stdout(), "{text}").map_err(|error| error.to_string())?;
    Ok(agree)
}

fn kill(options: &Options) -> Result<bool, String> {
    let outcome = run_log(options.seed, options.time).map_err(|error| error.to_string())?;
    let (text, agree) = match outcome {
        Ok(report) => (format!("no difference from seed {}: {report:?}", options.seed), true),
        Err(lost) => (format!("seed {}: {}\n\n{}", lost.seed, lost.description, lost.commands), false),
    };
    writeln!(std::io::stdout(), "{text}").map_err(|error| error.to_string())?;
    Ok(agree)
}

/// The options, and whether the log is what is looked at.
fn options(mut args: impl Iterator<Item = String>) -> Result<(Options, bool), String> {
    let mut is_for_log = false;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut options = Options {
        seed: since_epoch.as_secs(),
        time: Duration::from_secs(60),
        left: String::new(),
        right: String::new(),
        families: Vec::new(),
        without: Vec::new(),
    };
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} takes a value"))?;
        let number = || value.parse().map_err(|_| format!("{name} takes a number"));
        match name.as_str() {
            "--seed" => options.seed = number()?,
            "--seconds" => options.time = Duration::from_secs(number()?),
            "--log" => is_for_log = value == "yes",
            "--left" => options.left = value,
            "--right" => options.right = value,
            "--families" => options.families = value.split(',').map(str::to_owned).collect(),
            "--without" => options.without = value.split(',').map(str::to_owned).collect(),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok((options, is_for_log))
}
