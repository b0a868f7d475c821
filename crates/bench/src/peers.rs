//! The servers that are compared: where their binaries are, how each is started, asked and ended.
//! Invariant: a [`Server`] ends its process and removes its directory when dropped.
//! Read next: `compare/rig.rs`.

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::endpoint::{Asker, Endpoint, field};
use crate::process::{Cores, cpu_ns, rss_bytes, signal};
use crate::template::Protocol;

/// How long a server may take to its first answer; it may have a file to load.
const START_MAX: Duration = Duration::from_secs(180);
/// How often it is asked meanwhile: a hundredth of the time it has taken, within these.
const ASKED_EVERY_MIN: Duration = Duration::from_micros(200);
/// See there.
const ASKED_EVERY_MAX: Duration = Duration::from_millis(10);

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Kind {
    Larder,
    /// The redis-server of `--redis` or the peers directory.
    Redis,
    Valkey,
    /// The system's redis-server.
    RedisSystem,
    Memcached,
    Dragonfly,
    /// Our own null server.
    Null,
}

impl Kind {
    /// The name on charts and in records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Larder => "larder",
            Kind::Redis => "redis-server",
            Kind::Valkey => "valkey-server",
            Kind::RedisSystem => "redis-server (system)",
            Kind::Memcached => "memcached",
            Kind::Dragonfly => "dragonfly",
            Kind::Null => "null server",
        }
    }

    /// The protocol it is measured in.
    pub(crate) fn protocol(self) -> Protocol {
        if self == Kind::Memcached { Protocol::Memcached } else { Protocol::Resp }
    }
}

/// A server's binary.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) version: String,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Peer {
    /// The binary at `program`; `arguments` are added to its command line. It must answer `--version`.
    pub(crate) fn new(kind: Kind, program: &Path, arguments: &[String]) -> Result<Peer> {
        // Servers run in directories of their own.
        let program = std::path::absolute(program)?;
        if kind == Kind::Null {
            let version = env!("CARGO_PKG_VERSION").to_owned();
            return Ok(Peer { kind, version, program, arguments: Vec::new() });
        }
        let flag = if kind == Kind::Memcached { "-V" } else { "--version" };
        let described = || format!("cannot run {} {flag}", program.display());
        let output = Command::new(&program).arg(flag).output().with_context(described)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version =
            version_in(&text).with_context(|| format!("{} tells no version: {text}", program.display()))?;
        Ok(Peer { kind, version, program, arguments: arguments.to_vec() })
    }

    /// The same with more words at the end of its command line.
    pub(crate) fn with_arguments(&self, words: &[String]) -> Peer {
        let mut peer = self.clone();
        peer.arguments.extend_from_slice(words);
        peer
    }

    /// Name and version.
    pub(crate) fn label(&self) -> String {
        format!("{} {}", self.kind.name(), self.version)
    }
}

/// The first word of `text` that looks like a version.
fn version_in(text: &str) -> Option<String> {
    text.split_whitespace()
        .map(|word| word.trim_start_matches("v=").trim_start_matches("df-").trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
        .map(str::to_owned)
}

/// How a server is started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Threads that execute or do I/O.
    pub(crate) threads: usize,
    /// Where it may run.
    pub(crate) cores: Cores,
    /// A memory limit in bytes with `allkeys-lru`.
    pub(crate) memory_bytes_max: Option<u64>,
    /// The null server's value.
    pub(crate) value_bytes: usize,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) peer: Peer,
    pub(crate) port: u16,
    /// From the start of the process to its first answer.
    pub(crate) started_in: Duration,
    child: Child,
    directory: PathBuf,
    paused: bool,
}

impl Server {
    /// Starts `peer` on a free port of the loopback and waits for its first answer.
    pub(crate) fn start(peer: &Peer, launch: &Launch) -> Result<Server> {
        let port = free_port()?;
        let directory = fresh_directory()?;
        // Through ourselves, so that the server dies with us even while it is stopped; see `become_server`.
        let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
        command.arg("exec").arg(&peer.program);
        command.args(command_line(peer, launch, port, &directory)).args(&peer.arguments);
        command.current_dir(&directory).stdin(Stdio::null());
        let log = fs::File::create(directory.join("log"))?;
        command.stdout(log.try_clone()?).stderr(log);
        // A process inherits the cores of the thread that starts it.
        let ours = Cores::of_this_thread()?;
        launch.cores.bind_this_thread()?;
        let begin = Instant::now();
        let spawned = command.spawn();
        ours.bind_this_thread()?;
        let child = spawned.with_context(|| format!("cannot start {}", peer.program.display()))?;
        let started_in = Duration::ZERO;
        let mut server = Server { peer: peer.clone(), port, started_in, child, directory, paused: false };
        server.wait_until_ready(begin)?;
        Ok(server)
    }

    fn wait_until_ready(&mut self, begin: Instant) -> Result<()> {
        loop {
            if self.ping().is_ok() {
                self.started_in = begin.elapsed();
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at its start ({status}): {}", self.peer.label(), self.log_tail());
            }
            if begin.elapsed() > START_MAX {
                bail!("{} does not answer: {}", self.peer.label(), self.log_tail());
            }
            // Who loads a file for seconds is not asked thousands of times meanwhile.
            std::thread::sleep((begin.elapsed() / 100).clamp(ASKED_EVERY_MIN, ASKED_EVERY_MAX));
        }
    }

    fn ping(&self) -> Result<()> {
        let mut asker = Asker::connect(self.port)?;
        match self.peer.kind.protocol() {
            Protocol::Resp => asker.ask(&["PING"])?,
            Protocol::Memcached => asker.ask_memcached("version")?,
        };
        Ok(())
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.directory.join("log")).unwrap_or_default();
        let tail = log.get(log.len().saturating_sub(600)..).unwrap_or_default();
        String::from_utf8_lossy(tail).trim().replace('\n', " | ")
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::loopback(self.port)
    }

    /// CPU used so far, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        cpu_ns(self.child.id())
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its files lie, until it is dropped.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Resident memory in bytes.
    pub(crate) fn rss_bytes(&self) -> Result<u64> {
        rss_bytes(self.child.id())
    }

    /// What the server itself says it uses, in bytes.
    pub(crate) fn used_memory(&self) -> Result<u64> {
        let text = match self.peer.kind.protocol() {
            Protocol::Resp => Asker::connect(self.port)?.ask(&["INFO", "memory"])?,
            Protocol::Memcached => Asker::connect(self.port)?.ask_memcached("stats")?,
        };
        let name = if self.peer.kind == Kind::Memcached { "bytes" } else { "used_memory" };
        let number = field(&text, name).and_then(|number| number.trim().parse().ok());
        number.with_context(|| format!("{} tells no {name}", self.peer.label()))
    }

    /// One RESP question.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<String> {
        Asker::connect(self.port)?.ask(words)
    }

    /// Stops the process from running, so that its background work does not disturb others' measurements.
    pub(crate) fn pause(&mut self) -> Result<()> {
        self.paused = true;
        signal(self.child.id(), Signal::STOP)
    }

    /// Lets it run again.
    pub(crate) fn resume(&mut self) -> Result<()> {
        self.paused = false;
        signal(self.child.id(), Signal::CONT)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Replaces this process by `program`, which the kernel ends when the process that started us ends.
pub(crate) fn become_server(program: &Path, arguments: &[OsString]) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("prctl")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// A port of the loopback that nobody listens on.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).context("no free port")?.local_addr()?.port())
}

/// A new directory for temporary files.
pub(crate) fn fresh_directory() -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // Relaxed: the number only has to be a new one.
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("larder-bench-{}-{number}", std::process::id()));
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

fn command_line(peer: &Peer, launch: &Launch, port: u16, directory: &Path) -> Vec<String> {
    let port = port.to_string();
    let threads = launch.threads.to_string();
    let directory = directory.display().to_string();
    let mut line: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| line.extend(words.iter().map(|&word| word.to_owned()));
    match peer.kind {
        Kind::Null => {
            add(&["null", "--port", &port, "--threads", &threads]);
            add(&["--value-bytes", &launch.value_bytes.to_string()]);
        }
        Kind::Memcached => {
            let megabytes =
                launch.memory_bytes_max.map_or(16384, |bytes| bytes.div_ceil(1 << 20)).to_string();
            add(&[
                "-p",
                &port,
                "-l",
                "127.0.0.1",
                "-U",
                "0",
                "-t",
                &threads,
                "-m",
                &megabytes,
                "-c",
                "20000",
            ]);
            if rustix::process::getuid().is_root() {
                add(&["-u", "root"]);
            }
        }
        Kind::Dragonfly => {
            add(&["--port", &port, "--bind", "127.0.0.1", "--dbfilename=", "--dir", &directory]);
            add(&[&format!("--proactor_threads={threads}"), "--maxclients=20000"]);
            if let Some(bytes) = launch.memory_bytes_max {
                add(&["--cache_mode=true", &format!("--maxmemory={bytes}")]);
            }
        }
        Kind::Larder | Kind::Redis | Kind::Valkey | Kind::RedisSystem => {
            add(&["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
            add(&["--dir", &directory, "--loglevel", "warning", "--maxclients", "20000"]);
            match peer.kind {
                Kind::Larder => add(&["--threads", &threads]),
                _ if launch.threads > 1 => add(&["--io-threads", &threads]),
                _ => {}
            }
            if let Some(bytes) = launch.memory_bytes_max {
                add(&["--maxmemory", &bytes.to_string(), "--maxmemory-policy", "allkeys-lru"]);
            }
        }
    }
    line
}

/// The first executable called `name` (or `name` with a version behind it) below `directory`.
pub(crate) fn find_below(directory: &Path, name: &str, depth_max: u32) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let fits = |path: &PathBuf| {
        let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        let versioned = file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        versioned && is_executable(path)
    };
    if let Some(found) = entries.iter().find(|path| fits(path)) {
        return Some(found.clone());
    }
    let folders = entries.iter().filter(|path| depth_max > 0 && path.is_dir() && !path.is_symlink());
    folders.into_iter().find_map(|folder| find_below(folder, name, depth_max - 1))
}

/// The first executable called `name` in the directories of PATH.
pub(crate) fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_each_servers_own_words() {
        for (text, version) in [
            ("Redis server v=8.2.3 sha=00000000:1 malloc=libc bits=64 build=x", "8.2.3"),
            ("Valkey server v=9.1.2 sha=0", "9.1.2"),
            ("memcached 1.6.18", "1.6.18"),
            ("larder 0.1.0", "0.1.0"),
            ("dragonfly v1.40.0-abc\nbuild time", "1.40.0-abc"),
        ] {
            assert_eq!(version_in(text).as_deref(), Some(version));
        }
        assert_eq!(version_in("nothing here"), None);
    }

    #[test]
    fn binaries_are_found_by_name_with_or_without_a_version() {
        use std::os::unix::fs::PermissionsExt;
        let root = fresh_directory().unwrap();
        let folder = root.join("redis/bin");
        fs::create_dir_all(&folder).unwrap();
        for (file, mode) in
            [("redis-server-8.2.3", 0o755), ("redis-server.txt", 0o644), ("valkey-server", 0o644)]
        {
            fs::write(folder.join(file), "").unwrap();
            fs::set_permissions(folder.join(file), fs::Permissions::from_mode(mode)).unwrap();
        }
        assert_eq!(find_below(&root, "redis-server", 4), Some(folder.join("redis-server-8.2.3")));
        assert_eq!(find_below(&root, "redis-server", 1), None);
        assert_eq!(find_below(&root, "valkey-server", 4), None);
        fs::remove_dir_all(root).unwrap();
    }
}
