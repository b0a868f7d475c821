//! A log whose base is commands and not a snapshot (`aof-use-rdb-preamble no`): it makes the same data, here and in redis-server, whichever of
//! them wrote it.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::{Client, Redis82, Server, Value, available};
use scenario::{figure, larder, ok, until};
use std::path::{Path, PathBuf};

/// Commands that make keys of every type and form, in two databases.
const DATA: &[&str] = &[
    "SET number 12345",
    "SET text \"a b\\x00\\xff\"",
    "SET timed v PX 10000000",
    "SETBIT bits 900 1",
    "RPUSH list a 1 -5 \"\" b",
    "SADD ints 1 2 300000 -7",
    "SADD words a b 3",
    "ZADD scores 1.5 a -inf b inf c 3 d 0.1 e 1e300 f -0.0000001 g",
    "HSET hash f 1 g \"x y\"",
    "HSET ending f 1 g 2 h 3",
    "HPEXPIREAT ending 9999999999999 FIELDS 2 f h",
    "PEXPIREAT ending 88888888888888",
    "PFADD loglog a b c",
    "XADD stream 1-1 f v g w",
    "XADD stream 2-1 f v",
    "XADD stream 5-0 other \"\"",
    "XADD stream 6-0 f v",
    "XDEL stream 2-1",
    "XGROUP CREATE stream group 1-1 ENTRIESREAD 1",
    "XGROUP CREATECONSUMER stream group idle",
    "XREADGROUP GROUP group busy COUNT 1 STREAMS stream >",
    "XREADGROUP GROUP group busy COUNT 1 STREAMS stream 0",
    "XGROUP CREATE stream other $",
    "XGROUP CREATE emptied group 0 MKSTREAM",
    "XADD gone 9-9 f v",
    "XTRIM gone MAXLEN 0",
    "XGROUP CREATE gone group 0",
    "FUNCTION LOAD \"#!lua name=lib\\nredis.register_function('f', function() return 7 end)\"",
    "SELECT 3",
    "SET there 1",
    "SELECT 0",
];

/// What is asked of the data beside its digest.
const QUESTIONS: &[&str] = &[
    "DEBUG DIGEST",
    "PEXPIRETIME timed",
    "PEXPIRETIME ending",
    "HPEXPIRETIME ending FIELDS 3 f g h",
    "XINFO STREAM stream",
    "XINFO GROUPS stream",
    "XPENDING stream group",
    "XINFO STREAM emptied",
    "XINFO STREAM gone",
    "XINFO GROUPS gone",
    "FCALL f 0",
    "ZRANGE scores 0 -1 WITHSCORES",
    "DBSIZE",
];

/// Sends a line whose words may be quoted.
fn send(client: &mut Client, line: &str) -> Value {
    client.command(&larder_resp::split_words(line.as_bytes()).unwrap()).unwrap()
}

fn fill(client: &mut Client) {
    for line in DATA {
        let reply = send(client, line);
        assert!(!matches!(reply, Value::Error(_)), "{line}: {reply:?}");
    }
    // More than one command holds of each.
    for number in 0..200 {
        for line in [
            format!("RPUSH long {number} element:{number}"),
            format!("SADD many member:{number}"),
            format!("ZADD ranked {number}.25 member:{number}"),
            format!("HSET wide field:{number} {number}"),
        ] {
            client.run(&line).unwrap();
        }
    }
}

fn answers(client: &mut Client) -> Vec<String> {
    QUESTIONS.iter().map(|line| format!("{line}: {:?}", client.run(line).unwrap())).collect()
}

fn rewrite(client: &mut Client) {
    until("nothing is written", || figure(client, "aof_rewrite_in_progress") == 0);
    client.run("BGREWRITEAOF").unwrap();
    until("the log is rewritten", || {
        figure(client, "aof_rewrite_in_progress") + figure(client, "aof_rewrite_scheduled") == 0
    });
    assert_eq!(scenario::info(client, "aof_last_bgrewrite_status"), "ok");
}

/// The base of the log in a folder, which is the only one.
fn base(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder.join("appendonlydir")).unwrap();
    let mut bases = files.map(|file| file.unwrap().path());
    bases.find(|path| path.to_string_lossy().contains(".base.")).unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to.join("appendonlydir")).unwrap();
    for file in std::fs::read_dir(from.join("appendonlydir")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join("appendonlydir").join(file.file_name())).unwrap();
    }
}

fn options(folder: &Path) -> Vec<String> {
    let words = ["--appendonly", "yes", "--aof-use-rdb-preamble", "no", "--appendfsync", "always", "--dir"];
    words.iter().map(|word| (*word).to_owned()).chain([folder.to_str().unwrap().to_owned()]).collect()
}

fn ours(folder: &Path) -> Server {
    let options = options(folder);
    larder(2, &options.iter().map(String::as_str).collect::<Vec<_>>())
}

fn redis(folder: &Path) -> Option<Server> {
    let options = options(folder);
    available(Redis82::start_with(&options.iter().map(String::as_str).collect::<Vec<_>>()))
}

#[test]
fn where_there_is_no_log_nothing_is_loaded_from_it_and_nothing_lost() {
    let folder = tempfile::tempdir().unwrap();
    let server = larder(2, &["--dir", folder.path().to_str().unwrap(), "--enable-debug-command", "yes"]);
    let mut client = server.client();
    ok(&mut client, "SET key value");
    let refused = client.run("DEBUG LOADAOF").unwrap();
    assert_eq!(refused.text(), "ERR Error trying to load the AOF files, check server logs.");
    assert_eq!(client.run("GET key").unwrap().text(), "value");
    assert!(server.log().contains("there is no append-only log in"), "{}", server.log());
    ok(&mut client, "SET key other");
}

#[test]
fn a_base_of_commands_makes_the_same_data_here_and_in_redis() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second, third] = [0, 1, 2].map(|index: usize| folders[index].path());
    let server = ours(first);
    let mut client = server.client();
    fill(&mut client);
    let before = answers(&mut client);
    rewrite(&mut client);
    assert!(base(first).to_string_lossy().ends_with(".base.aof"));
    assert!(std::fs::read(base(first)).unwrap().starts_with(b"*3\r\n$8\r\nFUNCTION\r\n"));
    ok(&mut client, "DEBUG LOADAOF");
    assert_eq!(answers(&mut client), before);
    // What is written behind it is logged, and once.
    ok(&mut client, "SET behind 1");
    ok(&mut client, "DEBUG LOADAOF");
    let after = answers(&mut client);
    assert_eq!(client.run("INCR behind").unwrap(), Value::Integer(2));
    ok(&mut client, "SET behind 1");
    client.run("SHUTDOWN NOSAVE").ok();
    drop(server);
    copy(first, second);
    assert_eq!(answers(&mut ours(first).client()), after);
    let Some(theirs) = redis(second) else { return };
    let mut client = theirs.client();
    until("it is loaded", || figure(&mut client, "loading") == 0);
    assert_eq!(answers(&mut client), after);
    rewrite(&mut client);
    assert!(base(second).to_string_lossy().ends_with(".base.aof"));
    client.run("SHUTDOWN NOSAVE").ok();
    drop(theirs);
    copy(second, third);
    let server = ours(third);
    let mut client = server.client();
    until("it is loaded", || figure(&mut client, "loading") == 0);
    assert_eq!(answers(&mut client), after);
    // The form is that of the settings at the time.
    ok(&mut client, "CONFIG SET aof-use-rdb-preamble yes");
    rewrite(&mut client);
    assert!(base(third).to_string_lossy().ends_with(".base.rdb"));
}
