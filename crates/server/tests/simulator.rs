//! `larder sim` of the built program: what it prints, where it fails, and traces as a real MONITOR prints them.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::{Client, Redis82, Server, available};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn larder() -> Command {
    Command::new(env!("CARGO_BIN_EXE_larder"))
}

fn sim(words: &[&str], input: &[u8]) -> Output {
    let mut child = larder()
        .arg("sim")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its options does not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Two keys that come all the time, and a row of others that come once: LRU with room for three keeps the two.
fn trace() -> String {
    let mut text = String::from("time,key,size\n");
    for at in 0..300 {
        writeln!(text, "{at},hot{},10", at % 2).unwrap();
        if at % 2 == 0 {
            writeln!(text, "{at},once{at},10").unwrap();
        }
    }
    text
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("larder-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_trace_is_replayed_through_every_policy_and_size_and_drawn() {
    let folder = folder("sim");
    let (file, chart) = (folder.join("trace.csv"), folder.join("curve.svg"));
    std::fs::write(&file, trace()).unwrap();
    let words = [
        file.to_str().unwrap(),
        "--policies",
        "all",
        "--sizes",
        "30b,100%",
        "--svg",
        chart.to_str().unwrap(),
    ];
    let output = sim(&words, b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report = text(&output.stdout);
    assert!(report.starts_with("450 requests for 152 keys of 1520 bytes (CSV)\n\n30 bytes, "), "{report}");
    let ratios = |policy: &str| -> Vec<String> {
        let of = report.lines().filter(|line| line.split_whitespace().next() == Some(policy));
        of.map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
    };
    // 298 of 450 hit where nothing leaves, and where the two stay.
    for policy in ["lru", "exact-lru", "lfu", "belady", "adaptive"] {
        assert_eq!(ratios(policy).last().map(String::as_str), Some("0.66222"), "{policy}");
    }
    for policy in ["lru", "exact-lru", "belady"] {
        assert_eq!(ratios(policy), ["0.66222", "0.66222"], "{policy}");
    }
    let drawn = std::fs::read_to_string(&chart).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("belady") && drawn.contains("adaptive"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_trace_may_come_through_a_pipe_and_results_as_values() {
    let output =
        sim(&["-", "--policies", "lru", "--sizes", "30b", "--against", "lru", "--csv"], trace().as_bytes());
    let expected = "policy,capacity,footprint,gets,misses,bytes,bytes_missed,hit_ratio,byte_hit_ratio\n\
        lru,30,1520,450,152,4500,1520,0.662222,0.662222\n";
    assert_eq!(text(&output.stdout), expected);
}

#[test]
fn mistakes_are_named_with_the_way_out() {
    for (words, input, expected) in [
        (&["-"][..], "time,key,size\n1,a,ten\n", "larder: sim: -: line 2: the size is 'ten'"),
        (&["-"], "", "larder: sim: -: there is no request"),
        (&["-", "--policies", "best"], "", "larder: sim: best is no policy; there are lru"),
        (&[], "", "larder: sim: no trace is named; see larder sim --help"),
        (&["/nonexistent"], "", "larder: sim: /nonexistent: cannot read the trace"),
    ] {
        let output = sim(words, input.as_bytes());
        let told = text(&output.stderr);
        assert!(!output.status.success() && told.starts_with(expected), "{told}");
        assert!(output.stdout.is_empty());
    }
    let help = sim(&["--help"], b"");
    assert!(help.status.success() && text(&help.stdout).starts_with("Usage: larder sim TRACE"));
    let help = larder().arg("--help").output().unwrap();
    assert!(text(&help.stdout).contains("larder sim TRACE"));
}

/// What a MONITOR of a server prints for these commands, up to a last one.
fn monitored(server: &Server, commands: &[Vec<&[u8]>]) -> Vec<u8> {
    let mut monitor = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    monitor.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    monitor.write_all(b"MONITOR\r\n").unwrap();
    let mut printed = Vec::new();
    let mut until = |printed: &mut Vec<u8>, end: &[u8]| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !printed.windows(end.len()).any(|window| window == end) {
            assert!(Instant::now() < deadline, "{}", printed.escape_ascii());
            let mut some = [0; 4096];
            if let Ok(read) = std::io::Read::read(&mut monitor, &mut some) {
                printed.extend_from_slice(&some[..read]);
            }
        }
    };
    until(&mut printed, b"+OK\r\n");
    let mut client: Client = server.client();
    for command in commands {
        client.send(command).unwrap();
        let reply = client.read().unwrap();
        assert!(!reply.is_error(), "{}: {reply:?}", command.concat().escape_ascii());
    }
    client.run("ECHO end").unwrap();
    until(&mut printed, b"\"end\"\r\n");
    printed
}

/// The same commands, seen by the MONITOR of Larder and of Redis, are the same trace.
#[test]
fn traces_are_read_as_servers_print_them() {
    let value = [&[0, 7, 8, 9, 10, 13, 27, 34, 39, 92, 127, 128, 200, 255][..], b"] \"x\" [0 a] "].concat();
    let key: &[u8] = b"k \"\\\n\x00\xe9]";
    let commands: Vec<Vec<&[u8]>> = vec![
        vec![b"SET", key, &value, b"EX", b"100"],
        vec![b"get", key],
        vec![b"MGET", key, b"b", b"c"],
        vec![b"SET", b"b", b"", b"KEEPTTL"],
        vec![b"EVAL", b"return redis.call('GET', KEYS[1])", b"1", key],
        vec![b"MULTI"],
        vec![b"INCR", b"n"],
        vec![b"EXPIRE", b"n", b"60"],
        vec![b"EXEC"],
        vec![b"HSET", b"h", b"f", &value],
        vec![b"DEL", b"b", b"c"],
        vec![b"SELECT", b"3"],
        vec![b"GETEX", key, b"PERSIST"],
        vec![b"FLUSHDB"],
        vec![b"PING"],
        vec![b"FLUSHALL"],
    ];
    let rows = |printed: &[u8]| {
        let output =
            sim(&["-", "--policies", "lru", "--sizes", "100%", "--against", "lru", "--csv"], printed);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let summary = sim(&["-", "--policies", "lru", "--against", "lru", "--sizes", "100%"], printed);
        (text(&output.stdout), text(&summary.stdout).lines().next().map(str::to_owned))
    };
    let is_scripted = |command: &Vec<&[u8]>| command[0] == b"EVAL";
    let mine = Server::start(Path::new(env!("CARGO_BIN_EXE_larder")), &[]).unwrap();
    let has_scripts = !mine.client().run("EVAL 'return 1' 0").unwrap().is_error();
    let commands: Vec<_> =
        commands.into_iter().filter(|command| has_scripts || !is_scripted(command)).collect();
    let printed = monitored(&mine, &commands);
    let (table, summary) = rows(&printed);
    // Of GETs and MGETs: the key twice in database 0, b and c, the key in 3; those that were stored before hit.
    let gets = if has_scripts { 6 } else { 5 };
    let counts: Vec<&str> = table.lines().nth(1).unwrap().split(',').collect();
    assert_eq!((counts[3], counts[4]), (gets.to_string().as_str(), "3"), "{table}");
    // With the entries that the flushes found.
    let requests = format!("{} requests for 6 keys", gets + 12);
    assert_eq!(summary.as_deref().and_then(|line| line.split(" of ").next()), Some(requests.as_str()));
    if let Some(theirs) = available(Redis82::start()) {
        assert_eq!(rows(&monitored(&theirs, &commands)), (table, summary));
    }
}
