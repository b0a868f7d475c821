//! The suite `tls`: what GET costs a server over TLS, and without it beside that; by the real redis-benchmark, which speaks TLS.
//! Read next: `redis_benchmark.rs`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::compare::redis_benchmark::run_program;
use crate::compare::rig::{Contender, Data, Rig};
use crate::compare::sample::Sample;
use crate::compare::table::{Row, Table};
use crate::compare::throughput::{columns, report};
use crate::compare::{Context, progress};
use crate::peers::{Kind, Peer, find_on_path, free_port, fresh_directory};

/// A key and a certificate that nobody is to trust; they go when this is dropped.
struct Certificate {
    folder: PathBuf,
}

impl Certificate {
    fn make() -> Result<Certificate> {
        let made = Certificate { folder: fresh_directory()? };
        // A key as most servers have it, and as redis-benchmark's handshake takes it.
        let status = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-newkey", "ec"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(&made.folder)
            .stderr(Stdio::null())
            .status()
            .context("cannot run openssl")?;
        ensure!(status.success(), "openssl makes no certificate: {status}");
        Ok(made)
    }

    /// What a server's command line is told of it.
    fn arguments(&self, port: u16) -> Vec<String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let words = [
            ["--tls-port", &port.to_string()],
            ["--tls-cert-file", &path("cert.pem")],
            ["--tls-key-file", &path("key.pem")],
            ["--tls-auth-clients", "no"],
        ];
        words.into_iter().flatten().map(str::to_owned).collect()
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// GET with and without TLS, pipelines 1 and 16, one thread.
pub(crate) fn run(cx: &Context) -> Result<()> {
    let Some(program) = find_on_path("redis-benchmark") else {
        return progress("tls: redis-benchmark is not on PATH; suite left out");
    };
    let rig = &cx.rig;
    let certificate = Certificate::make()?;
    let (mut contenders, left_out) = start(rig, &certificate)?;
    ensure!(!contenders.is_empty(), "no server speaks TLS: {}", left_out.join("; "));
    let data = Data::plain(rig.scaled(100_000), 64);
    for (contender, _) in &mut contenders {
        rig.fill(contender, &data)?;
        contender.server.pause()?;
    }
    let mut rows = Vec::new();
    for (pipeline, requests) in [("1", rig.scaled(300_000)), ("16", rig.scaled(2_000_000))] {
        for is_encrypted in [false, true] {
            let name = format!("GET, {}, pipeline {pipeline}", if is_encrypted { "TLS" } else { "plain" });
            if !cx.wants(&name) {
                continue;
            }
            progress(&format!("tls: {name}"))?;
            let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
            for _ in 0..rig.rounds {
                for ((contender, port), samples) in contenders.iter_mut().zip(&mut samples) {
                    contender.server.resume()?;
                    let port = if is_encrypted { *port } else { contender.server.port };
                    samples.push(measure(&program, contender, port, is_encrypted, pipeline, requests)?);
                    contender.server.pause()?;
                }
            }
            rows.push(Row { name, samples, targets: Vec::new() });
        }
    }
    let contenders: Vec<Contender> = contenders.into_iter().map(|(contender, _)| contender).collect();
    let table = Table { suite: "tls", columns: columns(&contenders), rows };
    let left_out = left_out.iter().map(|note| format!(" {note}.")).collect::<String>();
    let method = format!(
        "One thread, 50 connections, 100k keys, 64 B values; the load is `redis-benchmark -t get -r 100000`, with `--tls` \
         where a row says so: TLS 1.3, a key on P-256. CPU is that of the server, the fifty handshakes included. The load is \
         often the limit of the operations a second.{left_out}"
    );
    report(cx, "TLS", &method, &table)
}

/// Servers with their ports for TLS, and notes about those that have none.
type Started = (Vec<(Contender, u16)>, Vec<String>);

/// Starts the servers that speak TLS, each with its port for that; and tells which do not.
fn start(rig: &Rig, certificate: &Certificate) -> Result<Started> {
    let (mut contenders, mut left_out) = (Vec::new(), Vec::new());
    let speaks =
        |peer: &&Peer| matches!(peer.kind, Kind::Larder | Kind::Redis | Kind::Valkey | Kind::RedisSystem);
    for peer in rig.peers.iter().filter(speaks) {
        let port = free_port()?;
        let peer = peer.with_arguments(&certificate.arguments(port));
        match rig.start_one(&peer, &rig.launch_single(), peer.label()) {
            Ok(contender) => contenders.push((contender, port)),
            // The packages of some servers are built without it.
            Err(error) => {
                progress(&format!("tls: without {}: {error:#}", peer.label()))?;
                left_out.push(format!("{} here is built without TLS", peer.label()));
            }
        }
    }
    Ok((contenders, left_out))
}

/// One run of redis-benchmark, and the CPU that the server used meanwhile.
fn measure(
    program: &Path,
    contender: &Contender,
    port: u16,
    is_encrypted: bool,
    pipeline: &str,
    requests: u64,
) -> Result<Sample> {
    let count = requests.to_string();
    let mut arguments = vec!["-t", "get", "-P", pipeline, "-n", &count, "-r", "100000"];
    if is_encrypted {
        arguments.extend(["--tls", "--insecure"]);
    }
    let (before, begin) = (contender.server.cpu_ns()?, Instant::now());
    let printed = run_program(program, port, &arguments)?;
    let cpu_ns = contender.server.cpu_ns()?.saturating_sub(before);
    let line = printed.lines.first().context("redis-benchmark printed no line")?;
    let nanos = |millis: f64| (millis * 1e6) as u64;
    Ok(Sample {
        requests,
        seconds: if line.per_second > 0.0 {
            requests as f64 / line.per_second
        } else {
            begin.elapsed().as_secs_f64()
        },
        cpu_ns,
        errors: 0,
        absent: 0,
        error_first: None,
        latency_ns: [nanos(line.p50_ms), nanos(line.p99_ms), 0, 0],
    })
}
