//! Random commands to Larder and to redis-server: 10 seconds here, 20 where CI is set; and that every command
//! and option comes up.
//! Invariant: a failure prints the seed and a transcript to put into `tests/`.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use larder_testkit::difftest::{Options, gaps, run, run_log};
use larder_testkit::{Larder, Redis82};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often random commands are sent for their time until there were enough of them.
const RUNS_MAX: u64 = 6;

/// `LARDER_SEED`, or another one each time.
fn seed() -> u64 {
    let given = std::env::var("LARDER_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() << 20))
}

#[test]
fn random_commands_get_the_answers_of_redis() {
    let is_ci = std::env::var_os("CI").is_some();
    let redis = match Redis82::start() {
        Ok(redis) => redis,
        Err(problem) if !is_ci => return eprintln!("skipped: {problem}"),
        Err(problem) => panic!("{problem}"),
    };
    let larder = Larder::start_with_threads("2").unwrap();
    let mut options = Options {
        seed: seed(),
        time: Duration::from_secs(if is_ci { 20 } else { 10 }),
        left: larder.address(),
        right: redis.address(),
        families: Vec::new(),
        without: Vec::new(),
    };
    let (mut sequences, mut commands) = (0, 0);
    // A busy machine takes longer to do enough.
    for _ in 0..RUNS_MAX {
        let report = match run(&options).unwrap() {
            Ok(report) => report,
            Err(found) => panic!("seed {}: {}\n\n{}", found.seed, found.description, found.transcript),
        };
        eprintln!("{report:?}");
        (sequences, commands) = (sequences + report.sequences, commands.max(report.known_commands));
        if sequences > 10 && commands > 250 {
            return;
        }
        options.seed += 1;
    }
    panic!("too little: {sequences} sequences, {commands} commands");
}

#[test]
fn random_commands_are_there_after_a_kill_and_in_redis_that_loads_the_log() {
    let is_ci = std::env::var_os("CI").is_some();
    if larder_testkit::available(Redis82::start()).is_none() || Larder::stand_in().is_some() {
        return;
    }
    let (mut rounds, mut keys) = (0, 0);
    for number in 0..RUNS_MAX {
        let report = match run_log(seed() + number, Duration::from_secs(if is_ci { 12 } else { 5 })).unwrap()
        {
            Ok(report) => report,
            Err(lost) => panic!("seed {}: {}\n\n{}", lost.seed, lost.description, lost.commands),
        };
        eprintln!("{report:?}");
        (rounds, keys) = (rounds + report.rounds, keys.max(report.keys));
        if rounds > 2 && keys > 30 {
            return;
        }
    }
    panic!("too little: {rounds} rounds, {keys} keys");
}

/// How many requests it takes until every option came up.
const REQUESTS_FOR_OPTIONS: usize = 200_000;

#[test]
fn every_command_and_option_comes_up_or_has_a_reason_not_to() {
    let Some(redis) = larder_testkit::available(Redis82::start()) else { return };
    let larder = Larder::start_with_threads("1").unwrap();
    let gaps = gaps(&larder.address(), &redis.address(), REQUESTS_FOR_OPTIONS).unwrap();
    assert!(
        gaps.commands.is_empty() && gaps.needless_reasons.is_empty() && gaps.options.is_empty(),
        "{gaps:#?}"
    );
}
