//! TLS with stores: what is encrypted, what is checked, and what is refused, with PostgreSQL, the redis-server of the system
//! (the 8.2 that tests use was built without TLS) and an HTTP origin.
//! MariaDB's is tested with its driver.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../../follower.rs"]
mod follower;

use follower::{eventually, follow, load, plain, run, sql, text};
use larder_source::{Driver, Failure};
use larder_source_net::{Options, Secret};
use larder_testkit::stores::{PASSWORD, postgres};
use larder_testkit::{Certificates, Redis70, Server, available};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
// What follows feeds is a task of its.
use tokio as _;

type Open = fn(&str, &Options) -> Result<Arc<dyn Driver>, Failure>;

/// A store whose certificate is for `localhost`.
struct Peer<'a> {
    certificates: &'a Certificates,
    open: Open,
    /// With HOST in place of the host.
    url: String,
    /// Asks for the simplest thing.
    ask: fn(&Arc<dyn Driver>) -> Result<(), Failure>,
}

fn probe(driver: &Arc<dyn Driver>) -> Result<(), Failure> {
    run(driver.probe()).map(drop)
}

impl Peer<'_> {
    fn driver(&self, host: &str, mode: Option<&str>, ca: Option<&str>) -> Arc<dyn Driver> {
        let options = Options {
            password: Some(Secret::new(PASSWORD)),
            ca_file: ca.map(|name| self.certificates.path(name)),
            ..Options::default()
        };
        let mode = mode.map_or(String::new(), |mode| format!("?sslmode={mode}"));
        (self.open)(&format!("{}{mode}", self.url.replace("HOST", host)), &options).unwrap()
    }

    fn works(&self, host: &str, mode: Option<&str>, ca: Option<&str>) -> Arc<dyn Driver> {
        let driver = self.driver(host, mode, ca);
        (self.ask)(&driver).unwrap_or_else(|failure| panic!("{host} {mode:?} {ca:?}: {failure}"));
        driver
    }

    /// Nothing is asked, for a reason that has these words.
    fn is_refused(&self, host: &str, mode: Option<&str>, ca: Option<&str>, words: &[&str]) {
        let failure = (self.ask)(&self.driver(host, mode, ca)).unwrap_err();
        for word in words {
            assert!(failure.text.contains(word), "{host} {mode:?} {ca:?}: {failure}");
        }
    }

    /// What holds of every store, while its certificate is good.
    fn check_verification(&self, mode: Option<&str>) {
        self.works("localhost", mode, Some("ca.pem"));
        self.is_refused("localhost", mode, Some("other-ca.pem"), &["TLS", "ca-file"]);
        self.is_refused("127.0.0.1", mode, Some("ca.pem"), &["TLS", "connect by a name that it is for"]);
    }
}

fn certificates() -> Option<Certificates> {
    let certificates = Certificates::make()?;
    certificates.issue("store", "localhost", 2);
    certificates.issue("old", "localhost", -1);
    Some(certificates)
}

#[test]
fn postgres_is_asked_over_tls() {
    let Some(certificates) = certificates() else { return };
    let Some(store) = postgres() else { return };
    let url = store.url().replace("127.0.0.1", "HOST");
    let peer = Peer { certificates: &certificates, open: larder_source_postgres::open, url, ask: probe };
    // A server without TLS is never talked to plainly where TLS is wanted.
    peer.works("localhost", Some("prefer"), None);
    peer.is_refused("localhost", Some("require"), None, &["PostgreSQL does not encrypt"]);
    peer.is_refused("localhost", None, Some("ca.pem"), &["PostgreSQL does not encrypt"]);
    let switch = |name: &str| {
        let [cert, key] = ["pem", "key"].map(|end| certificates.path(&format!("{name}.{end}")));
        store.encrypt_with(Some((&cert, &key)));
    };
    switch("store");
    eventually("it encrypts", || probe(&peer.driver("localhost", Some("require"), None)).is_ok());
    peer.check_verification(Some("verify-full"));
    peer.check_verification(None);
    peer.works("127.0.0.1", Some("verify-ca"), Some("ca.pem"));
    peer.is_refused("127.0.0.1", Some("verify-ca"), Some("other-ca.pem"), &["ca-file"]);
    let is_encrypted = sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    for (mode, expected) in [("disable", false), ("prefer", true), ("require", true), ("verify-full", true)] {
        let ca = (mode == "verify-full").then_some("ca.pem");
        let rows = load(&peer.works("localhost", Some(mode), ca), &is_encrypted, &[]).unwrap();
        assert_eq!(rows.rows[0][0], larder_source::Cell::Boolean(expected), "{mode}");
    }
    store.sql("CREATE TABLE users (id int PRIMARY KEY)");
    let driver = peer.works("localhost", Some("verify-full"), Some("ca.pem"));
    let feed = follow(&driver, &["users"], None);
    let feeds = "SELECT count(*) FROM pg_stat_replication JOIN pg_stat_ssl USING (pid) WHERE ssl";
    assert_eq!(store.sql(feeds).trim(), "1");
    store.sql("INSERT INTO users VALUES (1)");
    assert_eq!(feed.changes(1).len(), 1);
    drop(feed);
    switch("old");
    eventually("the old one is shown", || {
        probe(&peer.driver("localhost", Some("verify-full"), Some("ca.pem"))).is_err()
    });
    peer.is_refused("localhost", Some("verify-full"), Some("ca.pem"), &["Expired", "needs a new one"]);
    peer.works("localhost", Some("require"), None);
}

#[test]
fn redis_is_asked_over_tls() {
    let Some(certificates) = certificates() else { return };
    let port = free_port();
    let Some(server) = available(Redis70::start()) else { return };
    let mut control = server.client();
    let mut set = |pairs: &[&str]| {
        let done = control.command(&[&["CONFIG", "SET"], pairs].concat()).unwrap();
        assert_eq!(done.text(), "OK", "{pairs:?}");
    };
    let path = |name: &str| certificates.path(name);
    let [cert, key, ca] = ["store.pem", "store.key", "ca.pem"].map(path);
    set(&["tls-cert-file", &cert, "tls-key-file", &key, "tls-ca-cert-file", &ca, "tls-auth-clients", "no"]);
    set(&["tls-port", &port.to_string(), "requirepass", PASSWORD]);
    let url = format!("rediss://HOST:{port}/0");
    let peer = Peer { certificates: &certificates, open: larder_source_redis::open, url, ask: probe };
    peer.check_verification(None);
    peer.works("127.0.0.1", Some("verify-ca"), Some("ca.pem"));
    peer.works("127.0.0.1", Some("require"), None);
    let driver = peer.works("localhost", None, Some("ca.pem"));
    let feed = follow(&driver, &["user:"], None);
    run(driver.write(&[(&plain("SET user:1 Ann"), vec![])])).unwrap();
    assert_eq!(feed.changes(1).len(), 1);
    set(&["tls-cert-file", &path("old.pem"), "tls-key-file", &path("old.key")]);
    peer.is_refused("localhost", None, Some("ca.pem"), &["Expired", "needs a new one"]);
    not_plain(&certificates, &server);
}

/// A port without TLS is not talked to plainly, and a URL cannot ask for it.
fn not_plain(certificates: &Certificates, server: &Server) {
    let url = format!("rediss://HOST:{}/0", server.port());
    let peer = Peer { certificates, open: larder_source_redis::open, url, ask: probe };
    peer.is_refused("localhost", Some("require"), None, &["does it speak TLS at this port?"]);
    for mode in ["disable", "prefer"] {
        let url = format!("rediss://localhost:{}/0?sslmode={mode}", server.port());
        let Err(failure) = larder_source_redis::open(&url, &Options::default()) else { panic!("{mode}") };
        assert!(failure.text.contains("always encrypted"), "{failure}");
    }
}

/// `openssl s_server`, which answers GET with a file of its folder.
struct Origin(Child);

impl Origin {
    fn start(certificates: &Certificates, name: &str, port: u16) -> Origin {
        let mut command = Command::new("openssl");
        command.current_dir(certificates.folder()).args(["s_server", "-WWW", "-quiet"]);
        command.args(["-port", &port.to_string()]);
        command.args(["-cert", &format!("{name}.pem"), "-key", &format!("{name}.key")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let origin = Origin(command.spawn().unwrap());
        eventually("the origin listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        origin
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn an_origin_is_asked_over_tls() {
    let Some(certificates) = certificates() else { return };
    std::fs::write(certificates.folder().join("user"), "Ann").unwrap();
    let port = free_port();
    let peer = Peer {
        certificates: &certificates,
        open: larder_source_http::open,
        url: format!("https://HOST:{port}"),
        ask: |driver| {
            let rows = load(driver, &plain("GET /user"), &[])?;
            assert_eq!(rows.rows[0][0], text("Ann"));
            Ok(())
        },
    };
    let origin = Origin::start(&certificates, "store", port);
    peer.check_verification(None);
    drop(origin);
    let origin = Origin::start(&certificates, "old", port);
    peer.is_refused("localhost", None, Some("ca.pem"), &["Expired", "needs a new one"]);
    drop(origin);
    // One that answers in plain text.
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            let _ = std::io::Write::write_all(&mut stream, answer);
        }
    });
    peer.is_refused("localhost", None, Some("ca.pem"), &["does the store speak TLS"]);
}
