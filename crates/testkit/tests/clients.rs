//! Real clients and frameworks against Larder, unmodified: redis-py, redis-cli and redis-benchmark, RQ, dramatiq and Django, node-redis
//! and ioredis, BullMQ, Redlock and rate limiters for both, Redigo, Sidekiq, Laravel's queue.
//! Invariant: with the variable CI set, a client that is missing is a failure and not a pass.

#![forbid(unsafe_code)]

use larder_testkit::Larder;
use larder_testkit::server::{peers_dir, repository_root};
use std::path::Path;
use std::process::Command;

/// Runs a client's program against a server of its own; `needed` is what `./scripts/fetch-peers` brings for it.
fn check(needed: &Path, command: &mut Command) {
    if !needed.exists() {
        assert!(std::env::var_os("CI").is_none(), "run ./scripts/fetch-peers first");
        return eprintln!("skipped: {} is not there: run ./scripts/fetch-peers", needed.display());
    }
    let server = Larder::start_with_threads("2").expect("the server starts");
    let output = command
        .env("LARDER_PORT", server.port().to_string())
        .output()
        .expect("the client's program can be started");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    eprintln!("{text}{errors}");
    assert!(output.status.success(), "a client failed; see above");
}

fn check_python(file: &str) {
    let python = peers_dir().join("venv/bin/python");
    let mut command = Command::new(&python);
    command.arg(repository_root().join("tests/python").join(file)).env("PYTHONDONTWRITEBYTECODE", "1");
    check(&python, &mut command);
}

#[test]
fn real_clients_work() {
    check_python("test_clients.py");
}

#[test]
fn scripts_of_clients_work() {
    check_python("test_scripts.py");
}

#[test]
fn rq_and_django_work() {
    check_python("test_frameworks.py");
}

#[test]
fn workers_locks_and_limiters_work() {
    check_python("test_workers.py");
}

fn check_node(file: &str, package: &str) {
    let folder = peers_dir().join("node");
    let mut command = Command::new("node");
    command.arg("--test").arg(repository_root().join("tests/node").join(file));
    check(&folder.join("node_modules").join(package), command.env("LARDER_NODE_MODULES", &folder));
}

#[test]
fn node_redis_and_ioredis_work() {
    check_node("clients.test.mjs", "redis");
}

#[test]
fn bullmq_works() {
    check_node("bullmq.test.mjs", "bullmq");
}

#[test]
fn redlock_and_limiters_for_node_work() {
    check_node("limits.test.mjs", "rate-limiter-flexible");
}

#[test]
fn sidekiq_works() {
    let mut command = Command::new("ruby");
    command.arg(repository_root().join("tests/ruby/test_sidekiq.rb"));
    check(Path::new("/usr/bin/ruby"), &mut command);
}

#[test]
fn the_queue_of_laravel_works() {
    let mut command = Command::new("php");
    command.arg(repository_root().join("tests/php/queue.php"));
    check(Path::new("/usr/share/php/Illuminate/Queue"), &mut command);
}

#[test]
fn redigo_works() {
    let sources = Path::new("/usr/share/gocode");
    let mut command = Command::new("go");
    command.args(["run", "main.go"]).current_dir(repository_root().join("tests/go"));
    // The system's package of the client lies in the old layout of sources.
    command.env("GO111MODULE", "off").env("GOPATH", sources).env("GOCACHE", peers_dir().join("go-cache"));
    check(&sources.join("src/github.com/gomodule/redigo"), &mut command);
}
