//! Random commands to Larder and to redis-server: 10 seconds here, a minute where CI is set.
//! Invariant: a failure prints the seed and a transcript to put into `tests/`.

#![forbid(unsafe_code)]

use larder_testkit::difftest::{Options, run};
use larder_testkit::{Larder, Redis82};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The groups that have run for long without a difference; `larder-difftest` takes all others, too.
const FAMILIES: [&str; 5] = ["string", "generic", "bitmap", "hyperloglog", "stream"];

#[test]
fn random_commands_get_the_answers_of_redis() {
    let is_ci = std::env::var_os("CI").is_some();
    let redis = match Redis82::start() {
        Ok(redis) => redis,
        Err(problem) if !is_ci => return eprintln!("skipped: {problem}"),
        Err(problem) => panic!("{problem}"),
    };
    let larder = Larder::start_with_threads("2").unwrap();
    let options = Options {
        seed: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() << 20,
        time: Duration::from_secs(if is_ci { 60 } else { 10 }),
        left: larder.address(),
        right: redis.address(),
        families: FAMILIES.iter().map(|family| (*family).to_owned()).collect(),
        without: Vec::new(),
    };
    match run(&options).unwrap() {
        Ok(report) => {
            eprintln!("{report:?}");
            assert!(report.sequences > 10 && report.known_commands > 50, "too little: {report:?}");
        }
        Err(found) => {
            panic!("seed {}: {}\n\n{}", found.seed, found.description, found.transcript)
        }
    }
}
