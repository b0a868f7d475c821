//! Starts servers for tests: Larder itself and the reference servers it is judged by.
//! Invariant: a `Server` owns its process, port and folder, and takes all three with it on drop.
//! Read next: `client.rs` talks to it.

use crate::client::Client;
use crate::transcript::Reference;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, io, thread};

/// How long a server may take until it answers PING.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a port that another process took in between is replaced by a new one.
const START_ATTEMPTS: u32 = 5;

/// Larder, the server under test.
pub struct Larder;
/// redis-server 8.2, the reference for everything.
pub struct Redis82;
/// redis-server 7.0, the second reference.
pub struct Redis70;
/// valkey-server 9.1, the reference for what only it has.
pub struct Valkey;

impl Larder {
    /// Starts the built binary with options as on its command line (`["--threads", "2"]`).
    pub fn start(options: &[&str]) -> Result<Server, String> {
        Server::start(&Self::binary()?, options)
    }

    /// Where the binary is: `LARDER_BIN`, or beside the running test in the target folder.
    pub fn binary() -> Result<PathBuf, String> {
        if let Some(path) = env::var_os("LARDER_BIN") {
            return Ok(PathBuf::from(path));
        }
        let test = env::current_exe().map_err(|error| error.to_string())?;
        let folders = ["", "debug", "release"];
        let places = test.ancestors().flat_map(|dir| folders.map(|folder| dir.join(folder).join("larder")));
        places.into_iter().find(|path| path.is_file()).ok_or_else(|| {
            "the larder binary is not built: run `cargo build --bin larder` or set LARDER_BIN".into()
        })
    }

    /// Starts Larder with a number of worker threads.
    pub fn start_with_threads(threads: &str) -> Result<Server, String> {
        match Self::stand_in() {
            None => Self::start(&["--threads", threads]),
            Some(_) => Self::start(&REFERENCE_OPTIONS),
        }
    }

    /// The reference server that `LARDER_BIN` names in Larder's place, to prove the harness.
    pub fn stand_in() -> Option<Reference> {
        let binary = Self::binary().ok()?;
        match binary.file_name()?.to_str()? {
            "redis-server" => Some(Reference::Redis82),
            "valkey-server" => Some(Reference::Valkey91),
            _ => None,
        }
    }
}

impl Redis82 {
    /// As [`Redis82::start`], with more options.
    pub fn start_with(options: &[&str]) -> Result<Server, String> {
        let all = [&REFERENCE_OPTIONS, options].concat();
        Server::start(&find("REDIS_SERVER", "redis-server", "v=8.2.")?, &all)
    }

    /// Starts it from `REDIS_SERVER`, the peers folder or PATH.
    pub fn start() -> Result<Server, String> {
        Server::start(&find("REDIS_SERVER", "redis-server", "v=8.2.")?, &REFERENCE_OPTIONS)
    }
}

impl Redis70 {
    /// Starts it from `REDIS70_SERVER` or PATH.
    pub fn start() -> Result<Server, String> {
        Server::start(&find("REDIS70_SERVER", "redis-server", "v=7.0.")?, &REFERENCE_OPTIONS)
    }
}

impl Valkey {
    /// As [`Valkey::start`], with more options.
    pub fn start_with(options: &[&str]) -> Result<Server, String> {
        let all = [&REFERENCE_OPTIONS, options].concat();
        Server::start(&find("VALKEY_SERVER", "valkey-server", "v=9.1.")?, &all)
    }

    /// Starts it from `VALKEY_SERVER`, the peers folder or PATH.
    pub fn start() -> Result<Server, String> {
        Server::start(&find("VALKEY_SERVER", "valkey-server", "v=9.1.")?, &REFERENCE_OPTIONS)
    }
}

/// A reference server, or nothing with a message where there is none and need not be one.
///
/// # Panics
/// Where there is none and must be one: in continuous integration.
pub fn available(server: Result<Server, String>) -> Option<Server> {
    match server {
        Ok(server) => Some(server),
        Err(problem) => {
            assert!(env::var_os("CI").is_none(), "{problem}");
            eprintln!("skipped: {problem}");
            None
        }
    }
}

/// Nothing is to be written to disk by the reference servers.
const REFERENCE_OPTIONS: [&str; 4] = ["--save", "", "--appendonly", "no"];

/// A running server.
pub struct Server {
    child: Child,
    port: u16,
    dir: PathBuf,
    binary: PathBuf,
}

impl Server {
    /// Starts any server of the Redis kind on a free port, in an own folder, with DEBUG allowed.
    /// The options are as on its command line: a configuration file may stand first.
    pub fn start(binary: &Path, options: &[&str]) -> Result<Self, String> {
        let mut problem = String::new();
        for _ in 0..START_ATTEMPTS {
            let mut server = Self::spawn(binary, options)
                .map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
            match server.wait_until_ready() {
                Ok(()) => return Ok(server),
                Err(error) => problem = error,
            }
            if !server.log().contains("in use") {
                break;
            }
        }
        Err(problem)
    }

    fn spawn(binary: &Path, options: &[&str]) -> io::Result<Self> {
        let dir = fresh_dir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = File::create(dir.join("server.log"))?;
        // A configuration file comes first, as on the command line.
        let (file, options) = match options {
            [file, rest @ ..] if !file.starts_with("--") => (Some(file), rest),
            all => (None, all),
        };
        let child = Command::new(binary)
            .current_dir(&dir)
            .args(file)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--enable-debug-command", "yes", "--save", ""])
            .args(options)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { child, port, dir, binary: binary.to_path_buf() })
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} ended: {status}\n{}", self.binary.display(), self.log()));
            }
            let reply = Client::connect(&self.address()).and_then(|mut client| client.run("PING"));
            if reply.is_ok_and(|reply| reply.bytes() == Some(b"PONG")) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(format!("{} does not answer PING\n{}", self.binary.display(), self.log()))
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A new RESP2 connection. Panics when the server is gone: that is a failed test.
    pub fn client(&self) -> Client {
        Client::connect(&self.address()).expect("the server accepts a connection")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The server's own folder, where it may write files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the server has printed and logged.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.dir.join("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the process has ended by itself and tells whether it succeeded.
    pub fn wait_for_end(&mut self, timeout: Duration) -> Option<bool> {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status.success());
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when the process is gone already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(4000);
            eprintln!("--- log of {}:\n{}", self.binary.display(), log.get(tail..).unwrap_or(&log));
        }
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// A new folder, which whoever asked for it removes.
pub(crate) fn fresh_dir() -> io::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // Relaxed: only the number has to be unique, nothing is published with it.
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = env::temp_dir().join(format!("larder-test-{}-{number}", std::process::id()));
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// The repository's root, where `tests/` and `scripts/` are.
pub fn repository_root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.join("../..").canonicalize().expect("the repository exists while its tests run")
}

/// The folder that `scripts/fetch-peers` fills: `LARDER_PEERS` or `target/peers`.
pub fn peers_dir() -> PathBuf {
    env::var_os("LARDER_PEERS").map_or_else(|| repository_root().join("target/peers"), Into::into)
}

/// Finds a reference server whose `--version` contains `version`.
fn find(variable: &str, program: &str, version: &str) -> Result<PathBuf, String> {
    let named = env::var_os(variable).map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let fetched = [peers_dir().join(program)];
    let candidates =
        named.into_iter().chain(fetched).chain(env::split_paths(&path).map(|dir| dir.join(program)));
    for candidate in candidates.filter(|candidate| candidate.is_file()) {
        let output = Command::new(&candidate).arg("--version").output();
        if output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(version)) {
            return Ok(candidate);
        }
    }
    Err(format!("no {program} with {version} found: run ./scripts/fetch-peers or set {variable}"))
}
