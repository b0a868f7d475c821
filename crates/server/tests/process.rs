//! What the server is to the system that runs it: a daemon, a service that is supervised, a candidate for the kernel.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::{Client, Value};
use scenario::{info, larder, until};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The built server in a folder, on a port that is free.
fn command(folder: &Path) -> (Command, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let binary = std::env::var_os("LARDER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_larder").into());
    let mut command = Command::new(binary);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--threads", "1"]);
    command.args(["--logfile", "log"]);
    (command, format!("127.0.0.1:{port}"))
}

fn connect(address: &str) -> Client {
    let mut client = None;
    until("it listens", || {
        client = Client::connect(address).ok();
        client.is_some()
    });
    client.unwrap()
}

#[test]
fn a_daemon_leaves_its_number_behind_and_no_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let (mut command, address) = command(folder.path());
    let mut child = command.args(["--daemonize", "yes", "--pidfile", "pid"]).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let pid_file = folder.path().join("pid");
    let mut client = connect(&address);
    until("its number is there", || {
        std::fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n'))
    });
    let pid = info(&mut client, "process_id");
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), format!("{pid}\n"));
    assert_ne!(pid, child.id().to_string());
    for number in 0..3 {
        let file = std::fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
        assert_eq!(file, Path::new("/dev/null"), "{number}");
    }
    // It leads a session of its own.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert_eq!(stat.rsplit(')').next().unwrap().split_whitespace().nth(3), Some(pid.as_str()));
    client.run("SHUTDOWN NOSAVE").ok();
    until("it has ended", || !pid_file.exists());
}

#[test]
fn what_keeps_a_daemon_from_starting_is_told_to_who_starts_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut command, address) = command(folder.path());
    let _taken = TcpListener::bind(&address).unwrap();
    assert!(!command.args(["--daemonize", "yes"]).status().unwrap().success());
}

#[test]
fn systemd_is_told_when_the_server_is_ready_and_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (mut command, address) = command(folder.path());
    let mut child = command
        .args(["--supervised", "auto", "--daemonize", "yes"])
        .env_remove("UPSTART_JOB")
        .env("NOTIFY_SOCKET", &path)
        .spawn()
        .unwrap();
    let next = || {
        let mut buffer = [0; 256];
        let bytes = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..bytes].to_vec()).unwrap()
    };
    assert!(next().starts_with("STATUS="));
    assert!(next().lines().any(|line| line == "READY=1"));
    // Who is supervised does not go to the background.
    let mut client = connect(&address);
    assert_eq!(info(&mut client, "process_id"), child.id().to_string());
    client.run("SHUTDOWN NOSAVE").ok();
    assert_eq!(next(), "STOPPING=1");
    assert!(child.wait().unwrap().success());
}

fn set(client: &mut Client, words: &[&str]) {
    let reply = client.command(&[&["CONFIG", "SET"], words].concat()).unwrap();
    assert!(scenario::is_ok(&reply), "{words:?}: {reply:?}");
}

#[test]
fn the_score_of_the_process_is_set_and_put_back() {
    let server = larder(1, &["--enable-protected-configs", "yes"]);
    let mut client = server.client();
    let score = || -> i32 {
        let text = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", server.pid())).unwrap();
        text.trim().parse().unwrap()
    };
    let before = score();
    set(&mut client, &["oom-score-adj-values", "3 20 30"]);
    assert_eq!(score(), before);
    set(&mut client, &["oom-score-adj", "relative"]);
    assert_eq!(score(), (before + 3).min(1000));
    assert_eq!(client.run("CONFIG GET oom-score-adj").unwrap().field("oom-score-adj").unwrap().text(), "yes");
    set(&mut client, &["oom-score-adj-values", "9 20 30"]);
    assert_eq!(score(), (before + 9).min(1000));
    // A change of which another part fails is taken back.
    let words =
        ["CONFIG", "SET", "oom-score-adj-values", "50 60 70", "tls-cert-file", "/none", "tls-port", "1"];
    let failed = client.command(&words).unwrap();
    assert!(matches!(failed, Value::Error(_)), "{failed:?}");
    assert_eq!(score(), (before + 9).min(1000));
    set(&mut client, &["oom-score-adj", "absolute", "oom-score-adj-values", "990 1000 1000"]);
    assert_eq!(score(), 990);
    set(&mut client, &["oom-score-adj", "no"]);
    assert_eq!(score(), before);
}
