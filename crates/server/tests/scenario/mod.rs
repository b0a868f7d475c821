//! What the scenario tests share: starting the built server, figures of INFO, waiting.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each test binary uses its part")]

use larder_testkit::{Client, Server, Value};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that takes no time: generous, since timing must not decide a test.
pub const SOON: Duration = Duration::from_secs(10);

/// Starts the built server (or the one `LARDER_BIN` names) with a number of workers.
pub fn larder(threads: usize, options: &[&str]) -> Server {
    let binary = std::env::var_os("LARDER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_larder").into());
    let threads = threads.to_string();
    let all: Vec<&str> = ["--threads", threads.as_str()].into_iter().chain(options.iter().copied()).collect();
    Server::start(&PathBuf::from(binary), &all).unwrap()
}

/// One line of INFO.
pub fn info(client: &mut Client, name: &str) -> String {
    let text = client.run("INFO everything").unwrap().text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("INFO has no {name}")).to_owned()
}

/// One number of INFO.
pub fn figure(client: &mut Client, name: &str) -> u64 {
    info(client, name).parse().unwrap()
}

/// Waits until `what` holds. Panics when it does not come to hold.
pub fn until(reason: &str, mut what: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < SOON, "waited for: {reason}");
        thread::sleep(Duration::from_millis(1));
    }
    start.elapsed()
}

/// Whether a reply is the simple string OK.
pub fn is_ok(reply: &Value) -> bool {
    *reply == Value::Simple(b"OK".to_vec())
}

/// Sends a command and expects OK.
pub fn ok(client: &mut Client, line: &str) {
    let reply = client.run(line).unwrap();
    assert!(is_ok(&reply), "{line}: {reply:?}");
}

/// The memory of the server's process that is resident, in bytes.
pub fn resident_bytes(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Processor time the server's process has used, in clock ticks of 10 ms.
pub fn cpu_ticks(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Sends a signal to the server.
pub fn signal(server: &Server, name: &str) {
    let sent =
        std::process::Command::new("kill").args([&format!("-{name}"), &server.pid().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// The string of a key, or how an answer that is none is shown.
pub fn get(client: &mut Client, key: &str) -> String {
    client.command(&["GET", key]).unwrap().text()
}

/// Whether a key has no string.
pub fn nothing(client: &mut Client, key: &str) -> bool {
    client.command(&["GET", key]).unwrap().bytes().is_none()
}

/// A field of CACHE SOURCE INFO of the source `shop`, as text.
pub fn source_info(client: &mut Client, name: &str) -> String {
    let info = client.run("CACHE SOURCE INFO shop").unwrap();
    let value = info.pairs().iter().find(|(field, _)| field.text() == name).unwrap().1.clone();
    value.integer().map_or_else(|| value.text(), |number| number.to_string())
}

/// A server of two threads with a source `shop` at a URL, whose password is the one of the tests' stores. `source` are options of the
/// source, `others` the words behind. The folder holds the password's file.
pub fn over_store(url: &str, source: &[&str], others: &[&str]) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, format!("{}\n", larder_testkit::stores::PASSWORD)).unwrap();
    let first = ["--source", "shop", url, "password-file", password.to_str().unwrap(), "timeout", "2s"];
    (larder(2, &[&first[..], source, others].concat()), folder)
}

/// Everything there is in types and forms, for another server to read.
pub fn populate(client: &mut Client) {
    let script = "
        for i = 1, 300 do
            redis.call('RPUSH', 'list:large', string.rep('x', i), i)
            redis.call('HSET', 'hash:large', 'f' .. i, string.rep('v', i % 70))
            redis.call('SADD', 'set:large', 'm' .. i)
            redis.call('SADD', 'set:integers', i * 1000003)
            redis.call('ZADD', 'zset:large', i / 7, 'm' .. i)
            redis.call('XADD', 'stream', i .. '-1', 'field', 'value' .. i, 'other', i)
        end
        redis.call('RPUSH', 'list', 'a', '1', '-5')
        redis.call('HSET', 'hash', 'a', '1', 'b', 'two')
        redis.call('SADD', 'set', 'a', '1')
        redis.call('ZADD', 'zset', 1.5, 'a', '-inf', 'b')
        redis.call('SET', 'long', string.rep('compressible ', 5000))
        redis.call('SET', 'integer', -12345)
        redis.call('SET', 'text', 'v\\0\\r\\n', 'PXAT', 33000000000000)
        redis.call('PFADD', 'hll', 'a', 'b', 'c')
        redis.call('HSET', 'hash:timed', 'a', '1', 'b', '2')
        redis.call('HPEXPIREAT', 'hash:timed', 33000000000000, 'FIELDS', 1, 'a')
        for i = 1, 600 do redis.call('HSET', 'hash:timed:large', 'f' .. i, i) end
        redis.call('HPEXPIREAT', 'hash:timed:large', 33000000000000, 'FIELDS', 1, 'f7')
        redis.call('XGROUP', 'CREATE', 'stream', 'group', '5')
        redis.call('XREADGROUP', 'GROUP', 'group', 'consumer', 'COUNT', 3, 'STREAMS', 'stream', '>')
        redis.call('XDEL', 'stream', '10-1')
        redis.call('SELECT', 9)
        redis.call('SET', 'elsewhere', 1)";
    let done = client.command(&["EVAL", script, "0"]).unwrap();
    assert!(!matches!(done, Value::Error(_)), "{done:?}");
    let library = "#!lua name=lib\nredis.register_function('f', function() return 7 end)";
    client.command(&["FUNCTION", "LOAD", library]).unwrap();
}

/// An HTTP origin, and its URL. `answer` is given a path, and the tag that whoever asks has already; where it answers nothing the
/// connection ends.
pub fn origin(answer: impl Fn(&str, Option<&str>) -> Option<String> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            thread::spawn(move || serve(stream, &*answer));
        }
    });
    url
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&str, Option<&str>) -> Option<String>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    while let Some(first) = lines.next() {
        let headers = lines.by_ref().take_while(|line| !line.is_empty());
        let tags = headers.filter_map(|line| {
            let (name, tag) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("if-none-match").then(|| tag.to_owned())
        });
        let known = tags.last();
        let answered = answer(first.split(' ').nth(1).unwrap_or("/"), known.as_deref());
        if answered.is_none_or(|text| stream.write_all(text.as_bytes()).is_err()) {
            return;
        }
    }
}
