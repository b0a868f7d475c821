//! The load generator against the null server, both as the binary a user runs: every request sent is answered and
//! counted, in a closed and in an open loop, whole and split over threads.

#![expect(clippy::unwrap_used, reason = "a test that cannot start its server has failed")]

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Null {
    child: Child,
    address: String,
}

impl Null {
    fn start(threads: &str) -> Null {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_larder-bench"))
            .args(["null", "--port", &port.to_string(), "--threads", threads])
            .spawn()
            .unwrap();
        let address = format!("127.0.0.1:{port}");
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < deadline, "the null server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Null { child, address }
    }
}

impl Drop for Null {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn load(null: &Null, arguments: &[&str]) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_larder-bench"))
        .args(["load", "--addr", &null.address, "--json"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(child.wait().unwrap().success());
    line
}

/// The number behind `"name":` in a JSON text.
fn number(json: &str, name: &str) -> f64 {
    let key = format!("\"{name}\":");
    let start = json.find(&key).unwrap_or_else(|| panic!("{name} in {json}")) + key.len();
    json[start..].split([',', '}']).next().unwrap().parse().unwrap()
}

#[test]
fn a_second_of_closed_loop_counts_every_request_once() {
    let null = Null::start("1");
    let json = load(&null, &["--seconds", "1", "--warmup", "0.1", "--pipeline", "16"]);
    assert!(number(&json, "requests") > 1000.0, "{json}");
    assert_eq!(number(&json, "sent_total"), number(&json, "replies_total"), "{json}");
    assert_eq!((number(&json, "errors"), number(&json, "unanswered")), (0.0, 0.0), "{json}");
    let share = number(&json, "payload_bytes") / number(&json, "requests") / 64.0;
    assert!((share - 10.0 / 11.0).abs() < 0.02, "ten of eleven replies carry 64 bytes: {share}");
}

#[test]
fn an_exact_number_of_requests_is_sent_by_both_loops() {
    let null = Null::start("2");
    for extra in
        [&["--pipeline", "7"][..], &["--rate", "50000"], &["--rate", "50000", "--burst", "16", "--poisson"]]
    {
        let json = load(&null, &[&["--requests", "10001", "--connections", "13"], extra].concat());
        for name in ["requests", "sent_total", "replies_total", "count"] {
            assert_eq!(number(&json, name), 10_001.0, "{name} with {extra:?}: {json}");
        }
    }
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let null = Null::start("1");
    let json = load(&null, &["--rate", "5000", "--seconds", "1", "--warmup", "0.1"]);
    let rate = number(&json, "count") / number(&json, "seconds");
    assert!((rate / 5000.0 - 1.0).abs() < 0.02, "{json}");
}

#[test]
fn a_comparison_writes_its_section_its_chart_and_its_records() {
    let folder = std::env::temp_dir().join(format!("larder-bench-compare-{}", std::process::id()));
    let place = |name: &str| folder.join(name).display().to_string();
    let compare = |suite: &str| {
        let status = Command::new(env!("CARGO_BIN_EXE_larder-bench"))
            .args(["compare", "--only", "null", "--suite", suite, "--scale", "0.001", "--rounds", "1"])
            .args(["--seconds", "0.02", "--warmup", "0.01", "--server-core", "0", "--load-core", "0"])
            .args([
                "--document",
                &place("B.md"),
                "--charts",
                &place("charts"),
                "--records",
                &place("records"),
            ])
            .status();
        assert!(status.unwrap().success());
        std::fs::read_to_string(folder.join("B.md")).unwrap()
    };
    let first = compare("cpu");
    assert!(first.contains("<!-- suite cpu -->") && first.contains("null server"), "{first}");
    let both = compare("commands");
    assert!(both.contains("GET 1 MiB, pipeline 1") && both.contains("<!-- end cpu -->"), "{both}");
    assert_eq!(compare("cpu").matches("<!-- suite cpu -->").count(), 1);
    assert!(folder.join("charts/cpu.svg").exists() && folder.join("charts/commands.svg").exists());
    let records = std::fs::read_to_string(folder.join("records/cpu.csv")).unwrap();
    assert_eq!(records.lines().count(), 1 + 2 * 8, "a head, and eight cells of each run");
    assert!(!records.contains(",0,0.0"), "every window answered something: {records}");
    std::fs::remove_dir_all(folder).unwrap();
}
