//! The suite `persistence` at a thousandth of its scale, with redis-server alone: every part of it finds its figures.

use std::path::{Path, PathBuf};
use std::process::Command;

/// redis-server, where it was fetched.
fn redis() -> Option<PathBuf> {
    let peers = std::env::var_os("LARDER_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers"), PathBuf::from);
    let named = std::env::var_os("REDIS_SERVER").map(PathBuf::from);
    named.into_iter().chain([peers.join("redis-server")]).find(|path| path.is_file())
}

#[test]
fn every_part_of_the_suite_finds_its_figures() {
    let Some(redis) = redis() else {
        assert!(std::env::var_os("CI").is_none(), "there is no redis-server");
        return eprintln!("skipped: there is no redis-server");
    };
    let folder = std::env::temp_dir().join(format!("larder-bench-suite-{}", std::process::id()));
    let place = |name: &str| folder.join(name).display().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_larder-bench"))
        .args(["compare", "--suite", "persistence", "--only", "redis", "--redis", redis.to_str().unwrap()])
        .args(["--scale", "0.001", "--rounds", "1", "--seconds", "0.1", "--warmup", "0.05"])
        .args(["--document", &place("B.md"), "--charts", &place("charts"), "--records", &place("records")])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    let document = std::fs::read_to_string(folder.join("B.md")).unwrap();
    let figures = |row: &str| -> Vec<f64> {
        let lines = document.lines().filter(|line| line.starts_with("| ") && line.contains(row));
        lines
            .map(|line| line.split(" | ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap())
            .collect()
    };
    for row in [
        "strings of 1 KiB: saved",
        "strings of 1 KiB: loaded |",
        "hashes of 10 fields: loaded |",
        "a stream of 1M entries: loaded |",
        "SETs a second, snapshot",
        "p99, us, before",
        "p99, us, during",
        "no log, 50 connections, pipeline 16: CPU ns",
        "everysec, 50 connections, pipeline 16: CPU ns",
        "always, 1000 connections, pipeline 1: SETs a second",
    ] {
        let found = figures(row);
        assert!(found.first().is_some_and(|figure| *figure > 0.0), "{row}: {found:?} in\n{document}\n{told}");
    }
    assert!(std::fs::read_to_string(folder.join("records/persistence.csv")).unwrap().lines().count() > 40);
    assert!(folder.join("charts/persistence.svg").is_file());
    std::fs::remove_dir_all(&folder).unwrap();
}
