//! Starting and stopping: command line, configuration files, sockets, signals.
//! Invariant: what a user can write wrongly gives an error that names it, and a status that is not 0.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::{Client, Larder, Server, Value};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

/// A reference server in Larder's place has a command line and messages of its own.
fn is_larder() -> bool {
    Larder::stand_in().is_none()
}

fn run(args: &[&str]) -> Output {
    Command::new(Larder::binary().unwrap()).args(args).output().unwrap()
}

fn all_text(output: &Output) -> String {
    let bytes = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A file in a folder that is removed again.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("larder-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

fn config(client: &mut Client, name: &str) -> String {
    client.command(&["CONFIG", "GET", name]).unwrap().field(name).unwrap_or(Value::Null).text()
}

fn signal(server: &Server, name: &str) {
    let status = Command::new("kill").args(["-s", name, &server.pid().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn version_and_help_are_printed() {
    let version = run(&["--version"]);
    assert!(version.status.success());
    let help = run(&["--help"]);
    assert!(all_text(&help).contains("--"), "{}", all_text(&help));
    if is_larder() {
        assert!(help.status.success());
        assert!(all_text(&version).starts_with("Larder "), "{}", all_text(&version));
    }
}

#[test]
fn a_wrong_option_is_named_with_the_nearest_right_one() {
    let output = run(&["--maxmemroy", "1mb", "--port", "0"]);
    assert!(!output.status.success());
    let text = all_text(&output);
    assert!(text.contains("maxmemroy"), "{text}");
    assert!(!is_larder() || text.contains("maxmemory"), "no nearest option: {text}");
}

#[test]
fn a_wrong_value_is_named() {
    let output = run(&["--maxmemory-policy", "nonsense", "--port", "0"]);
    assert!(!output.status.success());
    assert!(all_text(&output).contains("maxmemory-policy"), "{}", all_text(&output));
}

#[test]
fn a_wrong_line_in_a_file_is_named() {
    let file = TemporaryFile::new("wrong.conf", "# fine\nmaxmemory 100mb\nport abc\n");
    let output = run(&[file.path()]);
    assert!(!output.status.success());
    let text = all_text(&output);
    assert!(text.contains("port") && text.contains('3'), "{text}");
}

#[test]
fn a_missing_file_is_named() {
    let output = run(&["/nonexistent/larder.conf"]);
    assert!(!output.status.success());
    assert!(all_text(&output).contains("/nonexistent/larder.conf"), "{}", all_text(&output));
}

#[test]
fn check_config_judges_a_file_without_starting() {
    if !is_larder() {
        return eprintln!("skipped: the reference server has no --check-config");
    }
    let right = TemporaryFile::new("right.conf", "maxmemory 100mb\nport 1\n");
    let output = run(&[right.path(), "--check-config"]);
    assert!(output.status.success(), "{}", all_text(&output));
    let wrong = TemporaryFile::new("wrong2.conf", "maxmemory 100mb\nnosuch 1\n");
    let output = run(&[wrong.path(), "--check-config"]);
    assert!(!output.status.success());
    assert!(all_text(&output).contains("nosuch"), "{}", all_text(&output));
}

#[test]
fn files_include_files_and_the_command_line_has_the_last_word() {
    let included = TemporaryFile::new("included.conf", "maxmemory-samples 7\nslowlog-max-len 11\n");
    let text = format!(
        "# a comment\ninclude {}\nslowlog-max-len 12\nmaxmemory 1gb\nlatency-monitor-threshold 3\n\
         client-output-buffer-limit pubsub 1mb 2mb 60\nrequirepass \"a b\\x41\"\n",
        included.path()
    );
    let file = TemporaryFile::new("main.conf", &text);
    // The password stops the PING that tells that the server is there.
    let server =
        Larder::start(&[file.path(), "--latency-monitor-threshold", "5", "--requirepass", ""]).unwrap();
    let mut client = server.client();
    assert_eq!(config(&mut client, "maxmemory-samples"), "7");
    assert_eq!(config(&mut client, "slowlog-max-len"), "12");
    assert_eq!(config(&mut client, "maxmemory"), "1073741824");
    assert_eq!(config(&mut client, "latency-monitor-threshold"), "5");
    assert!(config(&mut client, "client-output-buffer-limit").contains("pubsub 1048576 2097152 60"));
}

#[test]
fn config_rewrite_keeps_comments_and_what_was_set() {
    let file = TemporaryFile::new("rewrite.conf", "# my comment\nmaxmemory 100mb\n\n# another\ntimeout 0\n");
    let server = Larder::start(&[file.path()]).unwrap();
    let mut client = server.client();
    client.run("CONFIG SET maxmemory 200mb slowlog-max-len 13").unwrap();
    assert_eq!(client.run("CONFIG REWRITE").unwrap(), Value::Simple(b"OK".to_vec()));
    let text = fs::read_to_string(file.path()).unwrap();
    assert!(text.contains("# my comment\n") && text.contains("# another\n"), "{text}");
    // The first server stays: its folder, which the file names now, would go with it.
    let again = Larder::start(&[file.path()]).unwrap();
    let mut client = again.client();
    assert_eq!(config(&mut client, "maxmemory"), "209715200");
    assert_eq!(config(&mut client, "slowlog-max-len"), "13");
}

#[test]
fn a_unix_socket_has_its_permissions() {
    let path = std::env::temp_dir().join(format!("larder-{}.sock", std::process::id()));
    let name = path.to_str().unwrap();
    let server = Larder::start(&["--unixsocket", name, "--unixsocketperm", "700"]).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let mut socket = UnixStream::connect(&path).unwrap();
    socket.write_all(b"PING\r\n").unwrap();
    let mut reply = [0; 7];
    socket.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
    assert!(server.client().run("CLIENT LIST").unwrap().text().contains(&format!("laddr={name}:0")));
    drop(server);
    fs::remove_file(&path).ok();
}

#[test]
fn several_addresses_are_bound() {
    if TcpListener::bind("[::1]:0").is_err() {
        return eprintln!("skipped: there is no IPv6 here");
    }
    let server = Larder::start(&["--bind", "127.0.0.1", "::1"]).unwrap();
    let mut socket = TcpStream::connect(format!("[::1]:{}", server.port())).unwrap();
    socket.write_all(b"PING\r\n").unwrap();
    let mut reply = [0; 7];
    socket.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
    assert!(server.client().run("CLIENT LIST").unwrap().text().contains("addr=[::1]:"));
}

#[test]
fn a_taken_port_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let output = run(&["--port", &port, "--bind", "127.0.0.1"]);
    assert!(!output.status.success());
    assert!(all_text(&output).contains(&port), "{}", all_text(&output));
}

#[test]
fn the_signals_term_and_int_end_it_cleanly() {
    for name in ["TERM", "INT"] {
        let mut server = Larder::start_with_threads("2").unwrap();
        let mut idle = server.client();
        idle.run("SET k v").unwrap();
        signal(&server, name);
        assert_eq!(server.wait_for_end(Duration::from_secs(5)), Some(true), "after SIG{name}");
        assert!(idle.is_closed());
    }
}

#[test]
fn shutdown_ends_it_cleanly() {
    for request in ["SHUTDOWN", "SHUTDOWN NOSAVE"] {
        let mut server = Larder::start_with_threads("2").unwrap();
        let mut client = server.client();
        assert!(client.run(request).is_err(), "SHUTDOWN answers nothing when it succeeds");
        assert_eq!(server.wait_for_end(Duration::from_secs(5)), Some(true), "after {request}");
    }
}
