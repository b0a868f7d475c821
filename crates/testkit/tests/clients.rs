//! Runs `tests/python/test_clients.py`: redis-py, redis-cli and redis-benchmark against Larder.
//! Invariant: with the variable CI set, a missing Python environment is a failure and not a pass.

#![forbid(unsafe_code)]

use larder_testkit::Larder;
use larder_testkit::server::{peers_dir, repository_root};
use std::process::Command;

#[test]
fn real_clients_work() {
    let python = peers_dir().join("venv/bin/python");
    if !python.is_file() {
        assert!(std::env::var_os("CI").is_none(), "run ./scripts/fetch-peers first");
        return eprintln!("skipped: {} is not there: run ./scripts/fetch-peers", python.display());
    }
    let server = Larder::start_with_threads("2").unwrap();
    let output = Command::new(python)
        .arg(repository_root().join("tests/python/test_clients.py"))
        .env("LARDER_PORT", server.port().to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    eprintln!("{text}{errors}");
    assert!(output.status.success(), "a client failed; see above");
}
