//! The memcached door against memcached itself: the same lines to both, one at a time, and the same bytes back; and against the
//! tools and clients that memcached's users have.
//!
//! What may differ is taken out of both answers: numbers of versions, of which only which are the same counts; seconds that pass;
//! what `me` says of memory. Left out are what memcached 1.6.18 does otherwise than its documentation, or than later versions:
//! `E`, `N` of `ms`, keys that are told in base64 because they came so, the end of a number that `ma` makes longer.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::server::{Server, peers_dir, repository_root};
use larder_testkit::value::Value;
use larder_testkit::{Client, Larder};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Lines of the random test. Each is answered before the next is sent.
const LINES: usize = 6000;

struct Memcached {
    child: Child,
    port: u16,
}

impl Memcached {
    /// memcached itself, unless it is not installed and need not be. Without the threads that look after its LRU: items that
    /// they hold are copied rather than changed in their place.
    fn start() -> Option<Memcached> {
        let port = free_port();
        let mut command = Command::new("memcached");
        command.args([
            "-l",
            "127.0.0.1",
            "-U",
            "0",
            "-m",
            "64",
            "-o",
            "no_modern",
            "-p",
            &port.to_string(),
            "-u",
            "nobody",
        ]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        match child {
            Ok(child) => Some(Memcached { child, port }),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "memcached is not installed: {error}");
                eprintln!("skipped: memcached is not installed: run ./scripts/fetch-peers");
                None
            }
        }
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Larder with its door, and the door's port.
fn larder() -> (Server, u16) {
    let port = free_port();
    let server = Larder::start(&["--threads", "2", "--memcached-port", &port.to_string()]).unwrap();
    (server, port)
}

/// One connection that asks, and makes answers comparable.
struct Asker {
    stream: TcpStream,
    /// The version of each key that was told last.
    last: HashMap<Vec<u8>, Vec<u8>>,
    /// What versions are called here.
    names: HashMap<Vec<u8>, usize>,
}

impl Asker {
    fn connect(port: u16) -> Asker {
        let deadline = Instant::now() + Duration::from_secs(10);
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Asker { stream, last: HashMap::new(), names: HashMap::new() }
    }

    /// What is answered to a line about a key, in which `{cas}` stands for the key's version as it was told last.
    fn ask(&mut self, line: &[u8], key: &[u8]) -> String {
        let mut sent = Vec::new();
        let mut left = line;
        while let Some(at) = left.windows(5).position(|part| part == b"{cas}") {
            sent.extend_from_slice(&left[..at]);
            sent.extend_from_slice(self.last.get(key).map_or(b"1", |version| version));
            left = &left[at + 5..];
        }
        sent.extend_from_slice(left);
        sent.extend_from_slice(b"mn\r\n");
        self.stream.write_all(&sent).unwrap();
        let (mut got, mut buffer) = (Vec::new(), [0; 65536]);
        while !got.ends_with(b"MN\r\n") {
            match self.stream.read(&mut buffer).unwrap() {
                0 => {
                    got.extend_from_slice(b"<end>MN\r\n");
                    break;
                }
                count => got.extend_from_slice(&buffer[..count]),
            }
        }
        let text = &got[..got.len() - 4];
        let lines: Vec<String> =
            text.split(|byte| *byte == b'\n').map(|line| self.comparable(line, key)).collect();
        lines.join("\n")
    }

    fn comparable(&mut self, line: &[u8], key: &[u8]) -> String {
        let words: Vec<&[u8]> =
            line.strip_suffix(b"\r").unwrap_or(line).split(|byte| *byte == b' ').collect();
        let shown: Vec<String> = match words[..] {
            [b"VALUE", name, flags, bytes, version] => {
                self.last.insert(name.to_vec(), version.to_vec());
                let version = self.name(version);
                vec!["VALUE".into(), text(name), text(flags), text(bytes), version]
            }
            [b"ME", _, end, _, _, fetch, ..] => vec!["ME".into(), rounded(end), text(fetch)],
            [b"HD" | b"VA" | b"EX" | b"NS" | b"NF" | b"EN", ..] => words
                .iter()
                .enumerate()
                .map(|(at, word)| match word {
                    [b'c', version @ ..] if at > 0 && is_number(version) && version != b"0" => {
                        self.last.insert(key.to_vec(), version.to_vec());
                        self.name(version)
                    }
                    [b't', seconds @ ..] if at > 0 && is_number(seconds) => rounded(word),
                    // How long ago it was asked for: just now on both, or a second before on one of them.
                    [b'l', seconds @ ..] if at > 0 && is_number(seconds) => "l(seconds)".into(),
                    word => text(word),
                })
                .collect(),
            _ => words.iter().map(|word| text(word)).collect(),
        };
        shown.join(" ")
    }

    fn name(&mut self, version: &[u8]) -> String {
        let next = self.names.len();
        format!("#{}", self.names.entry(version.to_vec()).or_insert(next))
    }
}

fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

fn is_number(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(u8::is_ascii_digit)
}

/// A word with a number at its end, to the next ten: a second may pass between two servers.
fn rounded(word: &[u8]) -> String {
    let at = word.iter().position(u8::is_ascii_digit).unwrap_or(word.len());
    let number: u64 = text(&word[at..]).parse().unwrap_or(0);
    if word.contains(&b'-') && number < 2 {
        text(word)
    } else {
        format!("{}{}", text(&word[..at]), number.div_ceil(10) * 10)
    }
}

/// Chooses by a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn one<'t>(&mut self, all: &[&'t str]) -> &'t str {
        all[self.below(all.len())]
    }

    fn value(&mut self) -> String {
        match self.below(12) {
            0 => "x".repeat(self.below(30)),
            1 => "y".repeat(self.below(3000)),
            _ => self
                .one(&["", "1", "10", "99", "18446744073709551615", "abc", "0", " 7", "8 ", "a\r\nb", "007"])
                .into(),
        }
    }

    fn ttl(&mut self) -> &'static str {
        self.one(&["0", "0", "100", "100", "1000", "-1"])
    }

    /// Some flags of these letters, in any order.
    fn flags(&mut self, letters: &str) -> String {
        let mut left: Vec<char> = letters.chars().collect();
        let mut flags: Vec<String> = Vec::new();
        for _ in 0..self.below(letters.len().min(6) + 1) {
            let letter = left.swap_remove(self.below(left.len()));
            let token = match letter {
                'O' => "q1".into(),
                'T' => self.ttl().into(),
                'N' => "100".into(),
                'R' => self.one(&["50", "200"]).into(),
                'F' => self.below(70_000).to_string(),
                'C' => self.one(&["{cas}", "{cas}", "1", "0"]).into(),
                'D' => self.below(30).to_string(),
                'J' => self.below(300).to_string(),
                'M' => self.one(&["I", "D", "+", "-", "E", "A", "P", "R", "S", "Q", "i", "d"]).into(),
                _ => String::new(),
            };
            flags.push(format!(" {letter}{token}"));
        }
        if flags.iter().any(|flag| flag == " T-1") {
            // memcached still tells something of an item that has ended.
            flags.retain(|flag| flag != " t" && flag != " c");
        }
        flags.concat()
    }

    /// A line, and the key that it is about.
    fn line(&mut self) -> (String, &'static str) {
        let key = self.one(&["a", "b", "c", "d"]);
        let (value, ttl, quiet) = (self.value(), self.ttl(), self.one(&["", "", "", " noreply"]));
        let (len, more) = (value.len(), self.one(&["", " zz", " a b", " d"]));
        match self.below(24) {
            0..3 => {
                let name = self.one(&["set", "set", "add", "replace", "append", "prepend"]);
                let flags = self.one(&["0", "5", "70000"]);
                return (format!("{name} {key} {flags} {ttl} {len}{quiet}\r\n{value}\r\n"), key);
            }
            3 => return (format!("cas {key} 3 {ttl} {len} {{cas}}{quiet}\r\n{value}\r\n"), key),
            4 | 5 => return (format!("{} {key}{more}\r\n", self.one(&["get", "gets"])), key),
            6 => return (format!("{} {ttl} {key}{more}\r\n", self.one(&["gat", "gats"])), key),
            7 | 8 => {
                let name = self.one(&["incr", "decr"]);
                let delta = self.one(&["1", "5", "100", "9223372036854775808"]);
                return (format!("{name} {key} {delta}{quiet}\r\n"), key);
            }
            9 => return (format!("touch {key} {ttl}{quiet}\r\n"), key),
            10 => return (format!("delete {key}{quiet}\r\n"), key),
            _ => {}
        }
        let is_encoded = self.below(6) == 0;
        let (key, encoded) = if is_encoded { ("a2V5", " b") } else { (key, "") };
        let line = match self.below(13) {
            0..5 => format!(
                "mg {key}{encoded}{}\r\n",
                self.flags(if is_encoded { "cfhlOqstvRTu" } else { "cfhklOqstvRTuN" })
            ),
            5..8 => format!("ms {key} {len}{encoded}{}\r\n{value}\r\n", self.flags("ckOqTFMCI")),
            8..10 => format!("md {key}{encoded}{}\r\n", self.flags("kqOCIT")),
            10..12 => format!(
                "ma {key}{encoded}{}\r\n",
                self.flags(if is_encoded { "qOCDJMvct" } else { "kqOCDJMvcN" })
            ),
            _ => format!("me {key}{encoded}\r\n"),
        };
        (line, key)
    }
}

#[test]
fn random_lines_are_answered_as_memcached_does() {
    let Some(memcached) = Memcached::start() else { return };
    let (_server, port) = larder();
    let (mut theirs, mut ours) = (Asker::connect(memcached.port), Asker::connect(port));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut lines: Vec<String> = Vec::new();
    for _ in 0..LINES {
        let (line, key) = random.line();
        let expected = theirs.ask(line.as_bytes(), key.as_bytes());
        let answered = ours.ask(line.as_bytes(), key.as_bytes());
        let about = format!(" {key}");
        lines.push(line.clone());
        if answered != expected {
            let before: Vec<&String> = lines.iter().filter(|line| line.contains(&about)).collect();
            let from = before.len().saturating_sub(9);
            panic!(
                "{line:?}\nmemcached: {expected:?}\nours:      {answered:?}\nbefore: {:#?}",
                &before[from..]
            );
        }
    }
}

#[test]
fn odd_lines_are_answered_as_memcached_does() {
    let Some(memcached) = Memcached::start() else { return };
    let (_server, port) = larder();
    let cases = std::fs::read_to_string(repository_root().join("tests/memcached/lines.txt")).unwrap();
    let mut different = String::new();
    for case in cases.split("\n\n").filter(|case| !case.trim().is_empty()) {
        let (mut theirs, mut ours) = (Asker::connect(memcached.port), Asker::connect(port));
        for asker in [&mut theirs, &mut ours] {
            asker.ask(b"flush_all\r\n", b"");
        }
        for line in case.lines().filter(|line| !line.starts_with('#')) {
            let long = line.replace("{250}", &"k".repeat(250)).replace("{251}", &"k".repeat(251));
            let bytes =
                long.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0").replace("\\t", "\t");
            let bytes = format!("{bytes}\r\n");
            let expected = theirs.ask(bytes.as_bytes(), b"a");
            let answered = ours.ask(bytes.as_bytes(), b"a");
            if answered != expected {
                let title = case.lines().next().unwrap_or_default();
                different.push_str(&format!(
                    "{title}: {line}\n  memcached: {expected:?}\n  ours:      {answered:?}\n"
                ));
            }
            if expected.contains("<end>") {
                break;
            }
        }
    }
    assert!(different.is_empty(), "{different}");
}

#[test]
fn memccapable_is_content() {
    let (_server, port) = larder();
    let mut command = Command::new("memccapable");
    let Ok(output) = command.args(["-a", "-h", "127.0.0.1", "-p", &port.to_string()]).output() else {
        assert!(std::env::var_os("CI").is_none(), "memccapable is not installed");
        return eprintln!("skipped: memccapable is not installed: run ./scripts/fetch-peers");
    };
    let shown = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() && shown.contains("All tests passed"), "{shown}");
}

/// What a tool of libmemcached prints, with how it ended; `None` where the tools are not installed and need not be.
fn tool(name: &str, port: u16, args: &[&str]) -> Option<(bool, String)> {
    let mut command = Command::new(name);
    command.arg(format!("--servers=127.0.0.1:{port}")).args(args).stdin(Stdio::null());
    match command.output() {
        Ok(output) => Some((output.status.success(), text(&output.stdout) + &text(&output.stderr))),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{name} is not installed: {error}");
            eprintln!("skipped: {name} is not installed: run ./scripts/fetch-peers");
            None
        }
    }
}

#[test]
fn the_tools_of_libmemcached_work() {
    let (server, port) = larder();
    let mut redis = Client::connect(&server.address()).unwrap();
    let folder = std::env::temp_dir().join(format!("larder-memcached-tools-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| {
        let path = folder.join(name);
        std::fs::write(&path, format!("these are {name}\n")).unwrap();
        path.display().to_string()
    };
    let (apples, pears) = (file("apples"), file("pears"));
    let run = |name: &str, args: &[&str]| tool(name, port, args);
    let Some(pinged) = run("memcping", &[]) else { return };
    let did = |name: &str, args: &[&str]| {
        let (succeeded, shown) = run(name, args).unwrap();
        assert!(succeeded, "{name} {args:?}: {shown}");
        shown
    };
    assert!(pinged.0, "{}", pinged.1);
    did("memccp", &["--set", &apples, &pears]);
    std::fs::remove_dir_all(&folder).ok();
    assert_eq!(did("memccat", &["apples"]).trim(), "these are apples");
    assert_eq!(redis.run("GET pears").unwrap(), Value::Bulk(b"these are pears\n".to_vec()));
    // A name that no line of memcached's can hold, and what is no string, are not listed.
    redis.command(&["SET", "two words", "x"]).unwrap();
    redis.run("LPUSH list x").unwrap();
    let listed = did("memcdump", &[]);
    let mut names: Vec<&str> = listed.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["apples", "pears"]);
    did("memctouch", &["--expire=100", "apples"]);
    assert!(matches!(redis.run("TTL apples").unwrap(), Value::Integer(90..=100)));
    did("memcexist", &["apples"]);
    did("memcrm", &["apples"]);
    let (found, _) = run("memcexist", &["apples"]).unwrap();
    assert!(!found, "apples are still there");
    assert!(did("memcstat", &[]).contains("curr_items: 3"));
    did("memcslap", &["--concurrency=4", "--execute-number=200", "--test=get"]);
    did("memcslap", &["--concurrency=4", "--execute-number=200", "--test=set"]);
    assert!(matches!(redis.run("DBSIZE").unwrap(), Value::Integer(100..)), "memcslap stored nothing");
    did("memcflush", &[]);
    assert_eq!(redis.run("DBSIZE").unwrap(), Value::Integer(0));
}

#[test]
fn pymemcache_works() {
    let python = peers_dir().join("venv/bin/python");
    let has = Command::new(&python).args(["-c", "import pymemcache"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "run ./scripts/fetch-peers first");
        return eprintln!("skipped: pymemcache is not there: run ./scripts/fetch-peers");
    }
    let (server, port) = larder();
    let output = Command::new(&python)
        .arg(repository_root().join("tests/python/test_memcached.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("LARDER_PORT", server.port().to_string())
        .env("LARDER_MEMCACHED_PORT", port.to_string())
        .output()
        .unwrap();
    eprintln!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "a client failed; see above");
}

#[test]
fn the_examples_of_the_documentation_run() {
    let page = std::fs::read_to_string(repository_root().join("docs/MEMCACHED.md")).unwrap();
    let (server, port) = larder();
    let (mut asker, mut redis) = (Asker::connect(port), Client::connect(&server.address()).unwrap());
    let blocks = page.split("```text session\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut count = 0;
    for block in blocks {
        redis.run("FLUSHALL").unwrap();
        let (mut expected, mut answered) = (String::new(), String::new());
        let mut lines = block.lines().peekable();
        while let Some(line) = lines.next() {
            count += 1;
            if let Some(command) = line.strip_prefix("redis> ") {
                redis.run(command).unwrap();
                continue;
            }
            let mut sent = format!("{}\r\n", line.strip_prefix("> ").unwrap_or_else(|| panic!("{line}")));
            while let Some(data) = lines.next_if(|line| line.starts_with("> ") && needs_value(&sent)) {
                sent.push_str(&format!("{}\r\n", &data[2..]));
            }
            while let Some(line) =
                lines.next_if(|line| !line.starts_with("> ") && !line.starts_with("redis> "))
            {
                expected.push_str(line);
                expected.push('\n');
            }
            answered.push_str(&asker.ask(sent.as_bytes(), b""));
        }
        assert_eq!(answered, expected, "{block}");
    }
    assert!(count > 10, "the page has no examples any more");
}

/// Whether a line goes on with a value.
fn needs_value(sent: &str) -> bool {
    sent.matches("\r\n").count() == 1
        && ["set ", "add ", "replace ", "append ", "prepend ", "cas ", "ms "]
            .iter()
            .any(|name| sent.starts_with(name))
}
