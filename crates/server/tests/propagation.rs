//! What goes into the append-only log, command by command, against what redis-server writes: the same commands are sent to both,
//! and behind each the incremental files must have grown by the same. And the files of each load in the other.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::indexing_slicing, reason = "a failed index is a failed test")]

use larder_persist::aof::{Next, next};
use larder_testkit::server::peers_dir;
use larder_testkit::{Client, Larder, Server, Value, available};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const COMMANDS: &str = include_str!("propagation/commands.txt");
const INCR: &str = "appendonlydir/appendonly.aof.1.incr.aof";

/// Lines for which the two differ, and why.
const DIFFERENCES: &[(&str, &str)] = &[(
    "XADD st MINID ~ 1 * f v",
    "Redis names the first entry of the node, which may be gone; Larder the first there is",
)];

fn redis_binary() -> PathBuf {
    std::env::var_os("REDIS_SERVER").map_or_else(|| peers_dir().join("redis-server"), PathBuf::from)
}

const OPTIONS: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "no"];

/// A server with two clients, and how much of its log has been read.
struct Side {
    server: Server,
    one: Client,
    other: Client,
    read: usize,
    /// What the last line with `=` was answered.
    kept: Vec<u8>,
}

impl Side {
    fn new(server: Server) -> Side {
        let (mut one, other) = (server.client(), server.client());
        assert_eq!(one.run("DEBUG SET-ACTIVE-EXPIRE 0").unwrap().text(), "OK");
        Side { server, one, other, read: 0, kept: Vec::new() }
    }

    /// Sends a line, without waiting for an answer where the line says so.
    fn send(&mut self, line: &str) {
        if let Some(line) = line.strip_prefix("2> ") {
            self.other.send(&words(line)).unwrap();
            // So that it waits before the next line is sent.
            wait_for(|| self.one.run("INFO clients").unwrap().text().contains("blocked_clients:1"));
        } else if line == "2<" {
            self.other.read().unwrap();
        } else if let Some(millis) = line.strip_prefix('!') {
            std::thread::sleep(Duration::from_millis(millis.parse().unwrap()));
        } else {
            let plain = line.strip_prefix('=').unwrap_or(line);
            let mut words = words(plain);
            words.iter_mut().filter(|word| *word == b"$DUMP").for_each(|word| word.clone_from(&self.kept));
            let reply = self.one.command(&words).unwrap();
            if plain != line {
                self.kept = reply.bytes().unwrap().to_vec();
            }
        }
    }

    /// What the log has grown by, if it is as long as that.
    fn grown(&mut self, words_expected: usize) -> Vec<String> {
        let path = self.server.dir().join(INCR);
        let mut commands = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut patience = Instant::now() + Duration::from_millis(if words_expected == 0 { 4 } else { 0 });
        loop {
            let bytes = std::fs::read(&path).unwrap_or_default();
            while let Next::Command(len, words) = next(&bytes[self.read..]) {
                let words = words.into_iter().map(|word| &bytes[self.read..][word]);
                commands.push(words.map(shown).collect::<Vec<_>>().join(" "));
                self.read += len;
                patience = Instant::now();
            }
            let now = Instant::now();
            if (commands.len() >= words_expected && now >= patience) || now > deadline {
                return commands;
            }
            std::thread::sleep(Duration::from_micros(300));
        }
    }
}

/// A word, with times of now made alike.
fn shown(word: &[u8]) -> String {
    let text = larder_testkit::value::escape(word);
    let is_time = |digits: &str| {
        matches!(digits.len(), 10 | 13)
            && digits.starts_with("1")
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    match text.split_once('-') {
        _ if is_time(&text) => "<time>".into(),
        // Two in one millisecond differ by a number behind it, on a fast machine.
        Some((ms, _)) if is_time(ms) => "<time>-<number>".into(),
        _ => text,
    }
}

fn words(line: &str) -> Vec<Vec<u8>> {
    larder_resp::split_words(line.as_bytes()).unwrap()
}

fn wait_for(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come to be so");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn lines() -> impl Iterator<Item = &'static str> {
    COMMANDS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn what_is_logged_is_what_redis_logs() {
    if Larder::stand_in().is_some() {
        return;
    }
    let Some(redis) = available(Server::start(&redis_binary(), &OPTIONS)) else { return };
    let mut redis = Side::new(redis);
    let mut larder = Side::new(Larder::start(&[&OPTIONS[..], &["--threads", "2"]].concat()).unwrap());
    let mut wrong = Vec::new();
    for line in lines() {
        redis.send(line);
        larder.send(line);
        let expected = redis.grown(0);
        let found = larder.grown(expected.len());
        let is_known = DIFFERENCES.iter().any(|(known, _)| *known == line);
        if (expected != found) != is_known {
            wrong.push(format!("{line}\n  redis:  {expected:?}\n  larder: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} lines:\n{}", wrong.len(), wrong.join("\n"));
}

/// Everything that a server holds: by database and key the type, the digest and the end; and the functions.
fn contents(client: &mut Client) -> BTreeMap<(u32, Vec<u8>), (String, String, String)> {
    let mut all = BTreeMap::new();
    for db in 0..16 {
        client.run(&format!("SELECT {db}")).unwrap();
        for key in client.run("KEYS *").unwrap().items().unwrap() {
            let key = key.bytes().unwrap().to_vec();
            let kind = client.command(&[b"TYPE", &key[..]]).unwrap().text();
            let digest = client.command(&[&b"DEBUG"[..], b"DIGEST-VALUE", &key]).unwrap();
            let end = client.command(&[b"PEXPIRETIME", &key[..]]).unwrap().notation().join(" ");
            all.insert((db, key), (kind, digest.notation().join(" "), end));
        }
    }
    let functions: Value = client.run("FUNCTION DUMP").unwrap();
    all.insert((99, Vec::new()), (functions.notation().join(" "), String::new(), String::new()));
    all
}

fn copy_log(from: &Path, to: &Path) {
    let to = to.join("appendonlydir");
    std::fs::create_dir_all(&to).unwrap();
    for file in std::fs::read_dir(from.join("appendonlydir")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Carries the lines out up to those on what ends, with a rewrite in the middle, and answers what there is then.
fn fill(side: &mut Side) -> BTreeMap<(u32, Vec<u8>), (String, String, String)> {
    let all: Vec<&str> = lines().take_while(|line| *line != "SET e1 v PX 30").collect();
    for (index, line) in all.iter().enumerate() {
        side.send(line);
        if index == all.len() / 2 {
            let reply = side.one.run("BGREWRITEAOF").unwrap().text();
            assert_eq!(reply, "Background append only file rewriting started");
        }
    }
    wait_for(|| side.one.run("INFO persistence").unwrap().text().contains("aof_rewrite_in_progress:0"));
    let info = side.one.run("INFO persistence").unwrap().text();
    assert!(info.contains("aof_last_bgrewrite_status:ok"), "{info}");
    contents(&mut side.one)
}

#[test]
fn the_log_of_each_loads_in_the_other() {
    if Larder::stand_in().is_some() {
        return;
    }
    let Some(redis) = available(Server::start(&redis_binary(), &OPTIONS)) else { return };
    let larder = Larder::start(&[&OPTIONS[..], &["--threads", "2"]].concat()).unwrap();
    for server in [larder, redis] {
        let mut side = Side::new(server);
        let before = fill(&mut side);
        assert!(before.len() > 40);
        std::thread::sleep(Duration::from_millis(50));
        for binary in [Larder::binary().unwrap(), redis_binary()] {
            let folder =
                side.server.dir().join(format!("copy-{}", binary.file_name().unwrap().to_string_lossy()));
            copy_log(side.server.dir(), &folder);
            let options = [&OPTIONS[..], &["--dir", folder.to_str().unwrap()]].concat();
            let loaded = Server::start(&binary, &options).unwrap();
            let after = contents(&mut loaded.client());
            assert!(before == after, "{}: {:?}", binary.display(), different(&before, &after));
        }
    }
}

fn different<K: Ord + Clone + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    one: &BTreeMap<K, V>,
    other: &BTreeMap<K, V>,
) -> Vec<String> {
    let keys = one.keys().chain(other.keys()).filter(|key| one.get(key) != other.get(key));
    keys.map(|key| format!("{key:?}: {:?}, {:?}", one.get(key), other.get(key))).collect()
}
