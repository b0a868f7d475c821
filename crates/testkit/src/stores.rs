//! Starts stores to fetch from, for tests: PostgreSQL and MariaDB of the system, each in a folder of its own.
//! Invariant: a `Store` owns its processes and folder, and takes both with it on drop.

use crate::session::Session;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

/// The user that tests log in as.
pub const USER: &str = "larder";
/// Its password.
pub const PASSWORD: &str = "sesame & more";
/// The database that is theirs.
pub const DATABASE: &str = "shop";

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A database server.
#[derive(Debug)]
pub struct Store {
    kind: Kind,
    process: Option<Child>,
    folder: PathBuf,
    port: u16,
    /// What its server is started with besides.
    options: Vec<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Postgres,
    MariaDb,
}

/// PostgreSQL; with the reason where it is not installed. A missing one fails the test where CI is set.
pub fn postgres() -> Option<Store> {
    or_skip(Store::start(Kind::Postgres, &[]))
}

/// MariaDB.
pub fn mariadb() -> Option<Store> {
    mariadb_with(&[])
}

/// The same with options of its own.
pub fn mariadb_with(options: &[String]) -> Option<Store> {
    or_skip(Store::start(Kind::MariaDb, options))
}

fn or_skip(started: Result<Store, String>) -> Option<Store> {
    match started {
        Ok(store) => Some(store),
        Err(reason) if env::var_os("CI").is_some() => panic!("{reason}"),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
    }
}

impl Store {
    fn start(kind: Kind, options: &[String]) -> Result<Store, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Sockets have short paths.
        let folder = env::temp_dir().join(format!("larder-store-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).map_err(|error| error.to_string())?;
        if let Some((user, group)) = kind.owner() {
            chown(&folder, Some(user), Some(group)).map_err(|error| error.to_string())?;
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = port.map_err(|error| error.to_string())?.port();
        let mut store = Store { kind, process: None, folder, port, options: options.to_vec() };
        store.create()?;
        store.run()?;
        Ok(store)
    }

    /// Makes an empty database.
    fn create(&self) -> Result<(), String> {
        let data = self.data();
        let mut command = match self.kind {
            Kind::Postgres => {
                let password = self.folder.join("password");
                fs::write(&password, PASSWORD).map_err(|error| error.to_string())?;
                fs::set_permissions(&password, fs::Permissions::from_mode(0o644))
                    .map_err(|error| error.to_string())?;
                let mut command = self.command("initdb");
                command.arg("-D").arg(&data).args([
                    "-U",
                    USER,
                    "--auth-host=scram-sha-256",
                    "--auth-local=trust",
                ]);
                command.arg("--pwfile").arg(password).args(["-E", "UTF8", "--locale=C", "--no-sync"]);
                command
            }
            Kind::MariaDb => {
                let mut command = self.command("mariadb-install-db");
                command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
                command.arg(format!("--datadir={}", data.display()));
                command
            }
        };
        let output =
            command.output().map_err(|error| format!("{:?} is not installed: {error}", self.kind))?;
        if !output.status.success() {
            return Err(format!(
                "{:?} cannot be set up: {}",
                self.kind,
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        Ok(())
    }

    /// Runs the server on the data that are there, and waits until it answers.
    ///
    /// # Errors
    /// It ends, or does not answer in time.
    pub fn run(&mut self) -> Result<(), String> {
        let log = File::create(self.folder.join("log")).map_err(|error| error.to_string())?;
        let (data, port) = (self.data(), self.port.to_string());
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = self.command("postgres");
                command.arg("-D").arg(&data).args(["-p", &port, "-c", "listen_addresses=127.0.0.1"]);
                command.arg("-k").arg(&self.folder);
                for option in
                    ["fsync=off", "wal_level=logical", "max_wal_senders=8", "max_replication_slots=8"]
                {
                    command.args(["-c", option]);
                }
                command
            }
            Kind::MariaDb => {
                let mut command = self.command("mariadbd");
                command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
                command.arg(format!("--socket={}/mysql.sock", self.folder.display())).args([
                    "--bind-address=127.0.0.1",
                    &format!("--port={port}"),
                    "--server-id=1",
                    "--log-bin=binlog",
                    "--binlog-format=ROW",
                    "--innodb-flush-log-at-trx-commit=2",
                    "--innodb-buffer-pool-size=32M",
                ]);
                command
            }
        };
        command.args(&self.options);
        let error_log = log.try_clone().map_err(|error| error.to_string())?;
        let process = command.stdin(Stdio::null()).stdout(log).stderr(error_log).spawn();
        self.process = Some(process.map_err(|error| format!("{:?} is not installed: {error}", self.kind))?);
        self.wait()?;
        self.prepare()
    }

    fn wait(&mut self) -> Result<(), String> {
        let ready = match self.kind {
            Kind::Postgres => "database system is ready to accept connections",
            Kind::MariaDb => "ready for connections",
        };
        let begun = Instant::now();
        while !(self.log().contains(ready) && TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()) {
            let ended = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
            if ended.is_some() || begun.elapsed() > START_TIMEOUT {
                return Err(format!("{:?} does not start: {}", self.kind, self.log()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The database and the user, unless they are there.
    fn prepare(&self) -> Result<(), String> {
        match self.kind {
            Kind::Postgres => {
                let there = self.client_on("postgres", "SELECT 1 FROM pg_database WHERE datname = 'shop'")?;
                if there.trim().is_empty() {
                    self.client_on("postgres", "CREATE DATABASE shop")?;
                }
            }
            Kind::MariaDb => {
                self.client_on(
                    "mysql",
                    &format!(
                        "CREATE DATABASE IF NOT EXISTS shop CHARACTER SET utf8mb4; \
                        CREATE USER IF NOT EXISTS {USER}@'%' IDENTIFIED BY '{PASSWORD}'; \
                        GRANT ALL ON *.* TO {USER}@'%'; DROP USER IF EXISTS ''@localhost"
                    ),
                )?;
            }
        }
        Ok(())
    }

    /// Has PostgreSQL encrypt with this certificate and key from now on, or with none.
    pub fn encrypt_with(&self, files: Option<(&str, &str)>) {
        assert_eq!(self.kind, Kind::Postgres, "MariaDB is started with options for it");
        for (from, name) in files.into_iter().flat_map(|(cert, key)| [(cert, "cert.pem"), (key, "key.pem")]) {
            let to = self.folder.join(name);
            fs::copy(from, &to).expect("a certificate can be copied");
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("the copy is ours");
            if let Some((user, group)) = self.kind.owner() {
                chown(&to, Some(user), Some(group)).expect("root may");
            }
            let option = if name == "key.pem" { "ssl_key_file" } else { "ssl_cert_file" };
            self.sql(&format!("ALTER SYSTEM SET {option} = '{}'", to.display()));
        }
        self.sql(&format!("ALTER SYSTEM SET ssl = {}", if files.is_some() { "on" } else { "off" }));
        self.sql("SELECT pg_reload_conf()");
    }

    /// Runs SQL by the store's own client, as somebody else would; what it prints.
    pub fn sql(&self, sql: &str) -> String {
        self.client_on(DATABASE, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn client_on(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = self.command("psql");
                command.arg("-h").arg(&self.folder).args([
                    "-p",
                    &self.port.to_string(),
                    "-U",
                    USER,
                    "-d",
                    database,
                ]);
                command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]);
                command
            }
            Kind::MariaDb => {
                let mut command = self.command("mariadb");
                command.args(["--no-defaults", "-u", "root", "-N", "-B", "--default-character-set=utf8mb4"]);
                command.arg(format!("--socket={}/mysql.sock", self.folder.display()));
                command.args(["-D", database, "-e", sql]);
                command
            }
        };
        let output = command.output().map_err(|error| format!("the client of {:?}: {error}", self.kind))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A session of the store's own client that goes on: for many statements.
    pub fn session(&self) -> Session {
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = self.command("psql");
                command.arg("-h").arg(&self.folder).args(["-p", &self.port.to_string(), "-U", USER]);
                command.args(["-d", DATABASE, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
                command
            }
            Kind::MariaDb => {
                let mut command = self.command("mariadb");
                command.args(["--no-defaults", "-u", "root", "-N", "-B", "-n", "-D", DATABASE]);
                command.arg(format!("--socket={}/mysql.sock", self.folder.display()));
                command
            }
        };
        Session::start(command.stderr(Stdio::null()))
    }

    /// The URL of a source for it. The password is [`PASSWORD`].
    pub fn url(&self) -> String {
        let scheme = if self.kind == Kind::Postgres { "postgres" } else { "mysql" };
        format!("{scheme}://{USER}@127.0.0.1:{}/{DATABASE}", self.port)
    }

    /// The folder of its socket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        if self.kind == Kind::Postgres {
            // Its children would hold the port: they are to end with it.
            let stop = Command::new("kill").args(["-s", "QUIT", &process.id().to_string()]).status();
            if stop.is_ok_and(|status| status.success()) {
                let _ = process.wait();
                return;
            }
        }
        let _ = process.kill();
        let _ = process.wait();
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A command as the user that may run the server: these refuse to be run by root.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(find(program));
        command
            .current_dir(&self.folder)
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", &self.folder)
            .env("TMPDIR", &self.folder);
        if let Some((user, group)) = self.kind.owner() {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Kind {
    /// User and group to run as, when the tests are run by root.
    fn owner(self) -> Option<(u32, u32)> {
        let is_root = fs::read_to_string("/proc/self/status")
            .ok()?
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"));
        if !is_root {
            return None;
        }
        let wanted = if self == Kind::Postgres { "postgres" } else { "mysql" };
        let users = fs::read_to_string("/etc/passwd").ok()?;
        let user = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let user = user.filter(|fields| fields.len() > 3).find(|fields| fields[0] == wanted)?;
        Some((user[2].parse().ok()?, user[3].parse().ok()?))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A program on the PATH, or where Debian keeps it.
fn find(program: &str) -> PathBuf {
    let mut places: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    places.push("/usr/sbin".into());
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
        versions.sort();
        places.extend(versions.into_iter().rev());
    }
    let found = places.into_iter().map(|place| place.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| PathBuf::from(program))
}
