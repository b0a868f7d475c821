//! The transcripts run live on Larder and on the reference servers: the same answers, now.
//! Invariant: with the variable CI set, a missing reference server is a failure and not a pass.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::known::KnownDifferences;
use larder_testkit::run::{compare, in_lanes};
use larder_testkit::server::repository_root;
use larder_testkit::transcript::{Reference, Transcript};
use larder_testkit::{Larder, Redis82, Server, Valkey};
use std::fs;
use std::path::Path;

/// Pairs of servers at once: a transcript mostly waits.
const LANES: usize = 6;
/// Runs of a command after which only a few of its runs are timed.
const OFTEN: usize = 100;
/// Common commands on one key.
const COMMON: &str = "\
    SET s 1; GET s; INCR s; APPEND s 1; STRLEN s; SETBIT b 1 1; GETBIT b 1; PFADD p 1; HSET h f 1; HGET h f; \
    HINCRBY h f 1; HGETALL h; RPUSH l 1; LPUSH l 1; LPOP l; RPOP l; LRANGE l 0 -1; LLEN l; SADD e 1; SISMEMBER e 1; \
    SMEMBERS e; SREM e 1; ZADD z 1 m; ZSCORE z m; ZRANGE z 0 -1; ZINCRBY z 1 m; ZREM z m; XADD x * f 1; XLEN x; \
    EXPIRE s 100; TTL s; TYPE s; EXISTS s; DEL s";

#[test]
fn transcripts_agree_with_redis() {
    compare_all(Reference::Redis82, Redis82::start);
}

#[test]
fn transcripts_agree_with_valkey_on_what_only_it_has() {
    compare_all(Reference::Valkey91, Valkey::start);
}

fn compare_all(reference: Reference, start: impl Fn() -> Result<Server, String> + Sync) {
    if Larder::stand_in().is_some_and(|stand_in| stand_in != reference) {
        return eprintln!("skipped: LARDER_BIN is the other reference server");
    }
    let tests = repository_root().join("tests");
    let known = KnownDifferences::load(&tests.join("known_differences.toml")).unwrap();
    let pair = || Ok((well_used(Larder::start_with_threads("1").unwrap()), start()?));
    let compared =
        in_lanes(LANES, transcripts(&tests, reference), pair, |(ours, theirs), (name, transcript)| {
            let (failures, _) = compare(&transcript, &ours.address(), &theirs.address());
            let (unknown, _) = known.sort_out(&name, failures);
            unknown.iter().map(ToString::to_string).collect::<String>()
        });
    let list = match compared {
        Ok(lists) => lists.concat(),
        Err(problem) if std::env::var_os("CI").is_none() => {
            let problem: String = problem;
            return eprintln!("skipped: {problem}");
        }
        Err(problem) => panic!("{problem}"),
    };
    assert!(list.is_empty(), "answers differ from the reference server's:\n{list}");
}

/// Runs common commands so often that they take the short way from now on; the long way is that of all servers just started.
fn well_used(server: Server) -> Server {
    let mut client = server.client();
    for line in COMMON.split("; ") {
        (0..OFTEN).for_each(|_| _ = client.run(line).unwrap());
    }
    client.run("FLUSHALL").unwrap();
    server
}

/// All transcripts with their folders' names, of each the cases that a server is the reference for.
fn transcripts(tests: &Path, reference: Reference) -> Vec<(String, Transcript)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(tests).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        for mut transcript in Transcript::load_folder(&folder).unwrap() {
            transcript.cases.retain(|case| case.settings.reference == reference);
            all.push((name.clone(), transcript));
        }
    }
    all
}
