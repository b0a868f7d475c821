//! A real Redis server to compare with: started for one test, ended with it.
//!
//! The server's path is in the environment variable `REDIS_SERVER`; without it there is no oracle
//! and tests say that they were skipped.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A reply of RESP2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Status(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Reply>),
}

#[allow(dead_code, reason = "each test binary uses some of these")]
impl Reply {
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Reply::Bulk(bytes) | Reply::Status(bytes) => bytes,
            other => panic!("no bulk string: {other:?}"),
        }
    }

    pub fn integer(self) -> i64 {
        match self {
            Reply::Integer(value) => value,
            other => panic!("no integer: {other:?}"),
        }
    }

    pub fn array(self) -> Vec<Reply> {
        match self {
            Reply::Array(items) => items,
            other => panic!("no array: {other:?}"),
        }
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }
}

/// A running server and one connection to it, by a socket file: no port to be raced for.
pub struct Oracle {
    server: Child,
    socket: PathBuf,
    connection: BufReader<UnixStream>,
}

impl Oracle {
    /// Starts a server; `None`, with a message, if no server is named.
    pub fn start() -> Option<Oracle> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let Some(path) = std::env::var_os("REDIS_SERVER") else {
            eprintln!("skipped: REDIS_SERVER names no redis-server to compare with");
            return None;
        };
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let socket = std::env::temp_dir().join(format!("oracle-{}-{number}.sock", std::process::id()));
        let mut server = Command::new(&path)
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--enable-debug-command", "yes", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(std::env::temp_dir())
            .stdout(Stdio::null())
            .spawn()
            .expect("REDIS_SERVER must be an executable redis-server");
        for _ in 0..500 {
            if let Ok(stream) = UnixStream::connect(&socket) {
                return Some(Oracle { server, socket, connection: BufReader::new(stream) });
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let _ = server.kill();
        let status = server.wait();
        panic!("REDIS_SERVER did not start: {status:?}");
    }

    /// Sends commands at once and returns their replies in order.
    pub fn pipeline(&mut self, commands: &[Vec<Vec<u8>>]) -> Vec<Reply> {
        let mut replies = Vec::new();
        for batch in commands.chunks(500) {
            let mut request = Vec::new();
            for command in batch {
                write!(request, "*{}\r\n", command.len()).unwrap();
                for argument in command {
                    write!(request, "${}\r\n", argument.len()).unwrap();
                    request.extend_from_slice(argument);
                    request.extend_from_slice(b"\r\n");
                }
            }
            self.connection.get_mut().write_all(&request).unwrap();
            replies.extend(batch.iter().map(|_| self.read()));
        }
        replies
    }

    /// Sends one command.
    #[allow(dead_code, reason = "not every test binary sends commands one by one")]
    pub fn call<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Reply {
        let command = arguments.iter().map(|argument| argument.as_ref().to_vec()).collect();
        self.pipeline(&[command]).remove(0)
    }

    fn read(&mut self) -> Reply {
        let mut line = Vec::new();
        self.connection.read_until(b'\n', &mut line).unwrap();
        line.truncate(line.len() - 2);
        let rest = line.split_off(1);
        let number = || std::str::from_utf8(&rest).unwrap().parse::<i64>().unwrap();
        match line[0] {
            b'+' => Reply::Status(rest),
            b'-' => Reply::Error(rest),
            b':' => Reply::Integer(number()),
            b'$' if number() < 0 => Reply::Null,
            b'$' => {
                let mut bytes = vec![0; number() as usize + 2];
                self.connection.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(bytes)
            }
            b'*' if number() < 0 => Reply::Null,
            b'*' => Reply::Array((0..number()).map(|_| self.read()).collect()),
            other => panic!("not RESP2: {}", other as char),
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Arguments of mixed kinds as one command.
#[macro_export]
macro_rules! command {
    ($($argument:expr),+ $(,)?) => { vec![$(AsRef::<[u8]>::as_ref(&$argument).to_vec()),+] };
}

/// A small random number generator (xorshift) with a fixed start, so that a failure repeats.
pub struct Random(u64);

#[allow(dead_code, reason = "each test binary uses some of these")]
impl Random {
    /// Starts at `seed`, moved by the number in `TEST_SEED` if there is one: other cases to try.
    pub fn new(seed: u64) -> Random {
        let moved: u64 =
            std::env::var("TEST_SEED").map_or(0, |text| text.parse().expect("TEST_SEED is a number"));
        Random((seed ^ moved.wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// Up to `len_max` bytes of an alphabet.
    pub fn text(&mut self, alphabet: &[u8], len_max: usize) -> Vec<u8> {
        (0..self.below(len_max + 1)).map(|_| self.pick(alphabet)).collect()
    }
}
