//! The transcripts of `tests/` against the built Larder, with one and with two worker threads.
//! Invariant: every folder of transcripts has a test here.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::Larder;
use larder_testkit::known::KnownDifferences;
use larder_testkit::run::{in_lanes, replay};
use larder_testkit::server::repository_root;
use larder_testkit::transcript::Transcript;
use std::fs;

/// Servers at once: a transcript mostly waits.
const LANES: usize = 3;

/// Declares a test for each folder, and the list of all of them.
macro_rules! families {
    ($($family:ident),*) => {
        $(#[test] fn $family() { check_family(stringify!($family)); })*
        const FAMILIES: &[&str] = &[$(stringify!($family)),*];
    };
}

families!(
    acl,
    bitmap,
    blocking,
    connection,
    geo,
    hash,
    hll,
    keys,
    list,
    pubsub,
    script,
    server,
    set,
    stream,
    string,
    transactions,
    zset
);

#[test]
fn every_folder_of_transcripts_is_tested() {
    for entry in fs::read_dir(repository_root().join("tests")).unwrap() {
        let folder = entry.unwrap().path();
        let has_transcripts = folder.is_dir() && !Transcript::load_folder(&folder).unwrap().is_empty();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!has_transcripts || FAMILIES.contains(&name.as_str()), "add {name} to families!");
    }
}

fn check_family(family: &str) {
    let tests = repository_root().join("tests");
    let known = KnownDifferences::load(&tests.join("known_differences.toml")).unwrap();
    for threads in ["1", "2"] {
        let mut transcripts = Transcript::load_folder(&tests.join(family)).unwrap();
        if let Some(stand_in) = Larder::stand_in() {
            transcripts.iter_mut().for_each(|transcript| {
                transcript.cases.retain(|case| case.settings.reference == stand_in);
            });
        }
        let start = || Larder::start_with_threads(threads);
        let replayed =
            in_lanes(LANES, transcripts, start, |server, transcript| replay(&transcript, &server.address()));
        let (failures, runs): (Vec<_>, Vec<_>) = replayed.unwrap().into_iter().unzip();
        let (failures, runs) = (failures.into_iter().flatten().collect(), runs.iter().sum::<usize>());
        let (failures, stale) = known.sort_out(family, failures);
        let list: String = failures.iter().map(ToString::to_string).collect();
        eprintln!("{family}: {runs} runs with {threads} threads");
        assert!(runs > 0 || Larder::stand_in().is_some(), "no transcript of {family} ran");
        assert!(
            failures.is_empty(),
            "{} of {runs} runs with {threads} threads differ:\n{list}",
            failures.len()
        );
        assert!(
            stale.is_empty() || Larder::stand_in().is_some(),
            "known differences that are none: {stale:?}"
        );
    }
}
