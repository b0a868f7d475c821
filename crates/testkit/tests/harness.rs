//! The harness itself, on the reference servers: it must notice what it is there to notice.
//! Invariant: none of these tests needs Larder.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::difftest::{self, Options};
use larder_testkit::run::{compare, record, replay};
use larder_testkit::transcript::{Reference, Transcript};
use larder_testkit::{Redis82, Valkey, available};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// A transcript in a file of its own.
fn transcript(name: &str, text: &str) -> (Transcript, PathBuf) {
    let path = std::env::temp_dir().join(format!("larder-harness-{}-{name}.rt", std::process::id()));
    fs::write(&path, text).unwrap();
    (Transcript::load(&path).unwrap(), path)
}

fn problems(name: &str, text: &str) -> Option<Vec<String>> {
    let redis = available(Redis82::start())?;
    let (transcript, path) = transcript(name, text);
    let (failures, runs) = replay(&transcript, &redis.address());
    fs::remove_file(path).unwrap();
    assert_eq!(runs, transcript.cases.iter().map(|case| case.settings.protocols.len()).sum::<usize>());
    Some(failures.into_iter().map(|failure| failure.problem).collect())
}

#[test]
fn a_right_transcript_passes() {
    let text = "@both\n# right\n> SET k v\n< +OK\n> GET none\n< $-1\n@match ^:[0-9]$\n> STRLEN k\n";
    let Some(found) = problems("right", text) else { return };
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn wrong_replies_are_noticed() {
    let text = "# value\n> ECHO a\n< \"b\"\n\n# kind\n> ECHO a\n< +a\n\n# error\n> GET\n< -ERR other\n\n\
                # length\n> ECHO a\n< \"a\"\n< \"a\"\n\n# missing\n> ECHO a\n\n\
                # pattern\n@match ^:9\n> STRLEN none\n\n# open\n> PING\n< +PONG\n@closed\n";
    // The last one waits for the server to close, which it does not.
    let Some(found) = problems("wrong", text) else { return };
    assert_eq!(found.len(), 7, "{found:?}");
}

#[test]
fn an_error_that_changes_data_is_noticed() {
    let script = "redis.call('set','k','v') return redis.error_reply('ERR x')";
    let text = format!("# torn\n> EVAL \"{script}\" 0\n< -ERR x\n");
    let Some(found) = problems("torn", &text) else { return };
    assert!(found[0].contains("change of data"), "{found:?}");
}

#[test]
fn recording_writes_what_the_server_says() {
    let Some(redis) = available(Redis82::start()) else { return };
    let text = "@both\n\n# nil\n> GET none\n< wrong\n> CONFIG GET timeout\n\n# other\n@since valkey91\n> PING\n< +KEPT\n";
    let (recorded, path) = transcript("record", text);
    assert!(record(&recorded, &redis.address(), Reference::Redis82).unwrap().is_empty());
    let written = fs::read_to_string(&path).unwrap();
    fs::remove_file(path).unwrap();
    let pair = "\"timeout\"\n<N   \"0\"\n";
    let expected = format!(
        "@both\n\n# nil\n> GET none\n< $-1\n> CONFIG GET timeout\n<2 *2\n<2   {}<3 %1\n<3   {}\
         \n# other\n@since valkey91\n> PING\n< +KEPT\n",
        pair.replace('N', "2"),
        pair.replace('N', "3")
    );
    assert_eq!(written, expected);
}

/// What happens between several connections, with what redis-server says to each of them.
const SCENARIO: &str = "@both\n\n# pushes\nA> SUBSCRIBE c\nB> PUBLISH c hi\nB> QUIT\n\n# waits\n\
    A> BLPOP k 0\nB>> BLPOP k 0.15\n@match ^:[0-9]+$\nC> CLIENT ID\n@sleep 200\n@close A\nC> RPUSH k v\n";

#[test]
fn a_scenario_records_who_got_what() {
    let Some(redis) = available(Redis82::start()) else { return };
    let (unrecorded, path) = transcript("scenario", SCENARIO);
    assert!(record(&unrecorded, &redis.address(), Reference::Redis82).unwrap().is_empty());
    let written = fs::read_to_string(&path).unwrap();
    let recorded = Transcript::load(&path).unwrap();
    let (failures, runs) = replay(&recorded, &redis.address());
    let (differences, _) = compare(&recorded, &redis.address(), &redis.address());
    fs::remove_file(&path).unwrap();
    assert_eq!((failures.len(), differences.len(), runs), (0, 0, 4), "{failures:?} {differences:?}");
    let message = "  \"message\"\n  \"c\"\n  \"hi\"\n";
    let pushed = |sign: &str, name: &str| {
        message.replace("  \"", &format!("A<{name}   \"")).replacen(
            &format!("A<{name}   \"m"),
            &format!("A<{name} {sign}3\nA<{name}   \"m"),
            1,
        )
    };
    let published = format!("B<2 :1\n{}B<3 :1\n{}", pushed("*", "2"), pushed(">", "3"));
    assert!(
        written.contains(&format!("B> PUBLISH c hi\n{published}B> QUIT\nB< +OK\nB< (closed)\n")),
        "{written}"
    );
    assert!(written.contains("A> BLPOP k 0\nA< (blocked)\nB>> BLPOP k 0.15\n@match"), "{written}");
    assert!(written.contains("@sleep 200\nB< *-1\n@close A\nC> RPUSH k v\nC< :1\n"), "{written}");
}

#[test]
fn a_scenario_notices_what_is_missing_and_what_is_too_much() {
    let text = "# missing\nA> SUBSCRIBE c\nA< *3\nA<   \"subscribe\"\nA<   \"c\"\nA<   :1\n\
                B> PING\nB< +PONG\nA< +more\n\n\
                # too much\nA> PING\nA< +PONG\nB>> PING\n\n\
                # not blocked\nA> PING\nA< (blocked)\n\n# not closed\nA> PING\nA< +PONG\nA< (closed)\n\n\
                # closed\nA>> QUIT\nA< +OK\n";
    let Some(found) = problems("scene", text) else { return };
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found[1].contains("more than expected"), "{found:?}");
}

#[test]
fn servers_that_differ_are_told_apart() {
    let Some(redis) = available(Redis82::start()) else { return };
    let Some(valkey) = available(Valkey::start()) else { return };
    let (differing, path) = transcript("differ", "@both\n# same\n> PING\n\n# other\n> BITOP ONE a b\n");
    let (failures, runs) = compare(&differing, &valkey.address(), &redis.address());
    fs::remove_file(path).unwrap();
    assert_eq!((failures.len(), runs), (2, 4), "{failures:?}");
    let options = Options {
        seed: 1,
        time: Duration::from_secs(20),
        left: valkey.address(),
        right: redis.address(),
        families: vec!["bitmap".into(), "string".into()],
        without: Vec::new(),
    };
    let found = difftest::run(&options).unwrap().unwrap_err();
    let commands = found.transcript.lines().filter(|line| line.starts_with("> ")).count();
    assert!(commands <= 3, "not short:\n{}", found.transcript);
    let again = difftest::run(&Options { seed: found.seed, ..options }).unwrap().unwrap_err();
    assert_eq!(again.transcript, found.transcript);
}
