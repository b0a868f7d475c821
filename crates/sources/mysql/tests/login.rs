//! How MySQL is logged in to, and what a server cannot make us do: against a server of the test's own, and MariaDB with TLS.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../follower.rs"]
mod follower;

use follower::{load, run, sql};
use larder_source::{Driver, Failure, FailureKind};
use larder_source_net::{Options, Secret};
use larder_testkit::stores::{PASSWORD, mariadb_with};
use ring::digest::{SHA256, digest};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const SCRAMBLE: &[u8; 20] = b"12345678abcdefghijkl";
const OTHER_SCRAMBLE: &[u8; 20] = b"ABCDEFGHIJKL87654321";

fn options() -> Options {
    Options {
        password: Some(Secret::new(PASSWORD)),
        connect_timeout: Duration::from_secs(5),
        ..Options::default()
    }
}

trait Connected: Read + Write + Send {}
impl<T: Read + Write + Send> Connected for T {}

/// The server's side of a connection.
struct Peer {
    stream: Box<dyn Connected>,
    number: u8,
}

impl Peer {
    fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut out = (payload.len() as u32).to_le_bytes().to_vec();
        out[3] = self.number;
        out.extend_from_slice(payload);
        self.number = self.number.wrapping_add(1);
        self.stream.write_all(&out)
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head)?;
        self.number = head[3].wrapping_add(1);
        let mut body = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    fn greet(&mut self, plugin: &str) -> io::Result<()> {
        let mut out = b"\x0a8.0.36\0\x07\0\0\0".to_vec();
        out.extend_from_slice(&SCRAMBLE[..8]);
        out.extend_from_slice(b"\0\xff\xf7\xff\x02\0\xff\xdf\x15");
        out.extend_from_slice(&[0; 10]);
        out.extend_from_slice(&SCRAMBLE[8..]);
        out.push(0);
        out.extend_from_slice(plugin.as_bytes());
        out.push(0);
        self.send(&out)
    }

    fn okay(&mut self) -> io::Result<()> {
        self.send(&[0, 0, 0, 2, 0, 0, 0])
    }

    /// Says yes to whatever is asked.
    fn serve(&mut self) -> io::Result<()> {
        self.okay()?;
        loop {
            self.receive()?;
            self.okay()?;
        }
    }
}

/// A server that does this with each connection, and what it found out.
fn server<T: Send + 'static>(
    is_unix: bool,
    talk: impl Fn(&mut Peer) -> io::Result<T> + Send + 'static,
) -> (Arc<dyn Driver>, Receiver<T>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (found, finds) = channel();
    let serve = move |stream: Box<dyn Connected>| {
        if let Ok(value) = talk(&mut Peer { stream, number: 0 }) {
            let _ = found.send(value);
        }
    };
    let url = if is_unix {
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || listener.incoming().for_each(|stream| serve(Box::new(stream.unwrap()))));
        format!("mysql://u@{}/d", path.display().to_string().replace('/', "%2F"))
    } else {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || listener.incoming().for_each(|stream| serve(Box::new(stream.unwrap()))));
        format!("mysql://u@127.0.0.1:{port}/d?sslmode=disable")
    };
    (larder_source_mysql::open(&url, &options()).unwrap(), finds, folder)
}

/// What MySQL keeps, and how it finds out whether a proof fits.
fn is_proof(proof: &[u8], scramble: &[u8]) -> bool {
    let once = digest(&SHA256, PASSWORD.as_bytes());
    let twice = digest(&SHA256, once.as_ref());
    let mask = digest(&SHA256, &[twice.as_ref(), scramble].concat());
    let unmasked: Vec<u8> = proof.iter().zip(mask.as_ref()).map(|(byte, mask)| byte ^ mask).collect();
    proof.len() == 32 && digest(&SHA256, &unmasked).as_ref() == twice.as_ref()
}

/// The proof in an answer to a greeting.
fn proof_of(answer: &[u8]) -> Vec<u8> {
    let rest = &answer[32..];
    let rest = &rest[rest.iter().position(|&byte| byte == 0).unwrap() + 1..];
    rest[1..=usize::from(rest[0])].to_vec()
}

#[test]
fn a_known_password_is_proved_by_its_hash() {
    let (driver, ..) = server(false, |peer| {
        peer.greet("caching_sha2_password")?;
        let answer = peer.receive()?;
        if !is_proof(&proof_of(&answer), SCRAMBLE) {
            return peer.send(b"\xff\x15\x04#28000Access denied");
        }
        peer.send(b"\x01\x03")?;
        peer.serve()
    });
    assert_eq!(run(driver.probe()).unwrap(), "MySQL 8.0.36");
}

#[test]
fn another_way_and_another_scramble_may_be_asked_for() {
    let (driver, ..) = server(false, |peer| {
        peer.greet("mysql_native_password")?;
        assert_eq!(proof_of(&peer.receive()?).len(), 20);
        let mut switch = b"\xfecaching_sha2_password\0".to_vec();
        switch.extend_from_slice(OTHER_SCRAMBLE);
        switch.push(0);
        peer.send(&switch)?;
        if !is_proof(&peer.receive()?, OTHER_SCRAMBLE) {
            return peer.send(b"\xff\x15\x04#28000Access denied");
        }
        peer.serve()
    });
    run(driver.probe()).unwrap();
    let (driver, ..) = server(false, |peer| {
        peer.greet("sha256_password")?;
        peer.receive()?;
        peer.send(b"\xfeclient_ed25519\0abc\0")
    });
    let failure = run(driver.probe()).unwrap_err();
    assert!(failure.kind == FailureKind::Refused && failure.text.contains("client_ed25519"), "{failure}");
}

#[test]
fn the_password_itself_is_sent_only_where_nobody_else_reads() {
    let talk = |peer: &mut Peer| {
        peer.greet("caching_sha2_password")?;
        peer.receive()?;
        peer.send(b"\x01\x04")?;
        let sent = peer.receive()?;
        let _ = peer.serve();
        Ok(sent)
    };
    let (driver, finds, _folder) = server(true, talk);
    run(driver.probe()).unwrap();
    drop(driver);
    assert_eq!(finds.recv_timeout(Duration::from_secs(5)).unwrap(), [PASSWORD.as_bytes(), b"\0"].concat());
    let (driver, finds, _folder) = server(false, talk);
    let failure = run(driver.probe()).unwrap_err();
    assert!(
        failure.kind == FailureKind::Refused && failure.text.contains("sslmode=verify-full"),
        "{failure}"
    );
    assert!(finds.recv_timeout(Duration::from_millis(200)).is_err(), "nothing was sent");
}

/// How a probe ends when the server sends this as its greeting.
fn greeted_with(bytes: Vec<u8>) -> Failure {
    let (driver, ..) = server(false, move |peer| {
        peer.stream.write_all(&bytes)?;
        peer.receive()
    });
    run(driver.probe()).unwrap_err()
}

#[test]
fn a_server_that_makes_no_sense_is_no_store() {
    assert!(greeted_with(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).is_passing());
    assert!(greeted_with(b"\0\0\0\0".to_vec()).is_passing(), "empty");
    assert!(greeted_with(b"\x02\0\0\x05\x0a5".to_vec()).is_passing(), "out of order");
    assert_eq!(greeted_with(b"\xff\xff\xff\0".to_vec()).kind, FailureKind::Unfit, "16 MiB");
    assert_eq!(
        greeted_with(b"\x03\0\0\0\xff\x10\x04".to_vec()).kind,
        FailureKind::Busy,
        "too many connections"
    );
    // What follows the login: endless columns, a request for a file, rows that are shorter than they say.
    for answers in [
        vec![b"\x03abc".to_vec()],
        vec![b"\xfb/etc/passwd".to_vec()],
        vec![b"\0\x01\0\0\0\xff\xff\0\0\0\0\0".to_vec(), vec![3; 200_000]],
        vec![
            b"\0\x01\0\0\0\x01\0\0\0\0\0\0".to_vec(),
            b"\x03def\0\0\0\x01a\0\x0c\x3f\0\0\0\0\0\x03\0\0\0\0\0".to_vec(),
        ],
    ] {
        let (driver, ..) = server::<()>(false, move |peer| {
            peer.greet("mysql_native_password")?;
            peer.receive()?;
            peer.okay()?;
            peer.receive()?;
            peer.okay()?;
            loop {
                peer.receive()?;
                for answer in &answers {
                    // The last one again and again.
                    for _ in 0..if answers.len() > 1 && Some(answer) == answers.last() { 1000 } else { 1 } {
                        peer.send(answer)?;
                    }
                }
            }
        });
        let failure = load(&driver, &sql("SELECT 1"), &[]).unwrap_err();
        assert!(matches!(failure.kind, FailureKind::Unreachable | FailureKind::Unfit), "{failure}");
    }
    let (driver, ..) = server::<()>(false, |peer| {
        peer.greet("caching_sha2_password")?;
        peer.receive()?;
        loop {
            peer.send(b"\x01\x03")?;
        }
    });
    assert_eq!(run(driver.probe()).unwrap_err().text, "logging in does not end");
}

fn openssl(folder: &std::path::Path, arguments: &[&str]) {
    let made = Command::new("openssl").current_dir(folder).args(arguments).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn connections_are_encrypted_and_certificates_checked() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let days = ["-days", "2", "-nodes", "-newkey", "rsa:2048"];
    let ca = ["req", "-x509", "-subj", "/CN=test", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(folder.path(), &[&ca[..], &days].concat());
    let request =
        ["req", "-subj", "/CN=store", "-nodes", "-newkey", "rsa:2048", "-keyout", "key.pem", "-out", "r.pem"];
    openssl(folder.path(), &request);
    std::fs::write(folder.path().join("ext"), "subjectAltName=DNS:localhost").unwrap();
    let sign = [
        "x509",
        "-req",
        "-in",
        "r.pem",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
    ];
    openssl(folder.path(), &[&sign[..], &["-extfile", "ext", "-out", "cert.pem"]].concat());
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::set_permissions(path("key.pem"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let ssl = [format!("--ssl-cert={}", path("cert.pem")), format!("--ssl-key={}", path("key.pem"))];
    let Some(store) = mariadb_with(&ssl) else { return };
    let open = |host: &str, mode: &str, ca_file: Option<String>| {
        let url = format!("mysql://larder@{host}:{}/shop?sslmode={mode}", store.port());
        larder_source_mysql::open(&url, &Options { ca_file, ..options() }).unwrap()
    };
    let ca = || Some(path("ca.pem"));
    let cipher = sql(
        "SELECT VARIABLE_VALUE <> '' FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_cipher'",
    );
    for (host, mode, ca_file, is_encrypted) in [
        ("localhost", "disable", None, 0),
        ("127.0.0.1", "prefer", None, 1),
        ("127.0.0.1", "require", None, 1),
        ("127.0.0.1", "verify-ca", ca(), 1),
        ("localhost", "verify-full", ca(), 1),
    ] {
        let rows = load(&open(host, mode, ca_file), &cipher, &[]).unwrap();
        assert_eq!(rows.rows[0][0], larder_source::Cell::Integer(is_encrypted), "{mode}");
    }
    for (host, ca_file) in [("127.0.0.1", ca()), ("localhost", Some(path("cert.pem")))] {
        let failure = run(open(host, "verify-full", ca_file).probe()).unwrap_err();
        assert!(failure.text.contains("TLS"), "{failure}");
    }
    // The binlog as well.
    store.sql("CREATE TABLE t (id int PRIMARY KEY)");
    let driver = open("localhost", "verify-full", ca());
    let feed = follower::follow(&driver, &["t"], None);
    store.sql("INSERT INTO t VALUES (1)");
    assert_eq!(feed.changes(1).len(), 1);
}
