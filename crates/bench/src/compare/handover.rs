//! The suite `handover`: how long an element takes from the push to a client that waits for it.
//! Invariant: the waiting client is known to wait before the push is sent.

use std::time::Instant;

use anyhow::{Result, ensure};

use crate::compare::rig::Contender;
use crate::compare::{Context, progress};
use crate::endpoint::Asker;
use crate::outcome::{Latencies, micros};
use crate::peers::Kind;

/// Pushes of one round.
const PUSHES: u32 = 5_000;
/// Clients that wait for the same list.
const WAITERS: [usize; 2] = [1, 50];

/// Measures the servers in turns and writes the section.
pub(crate) fn run(cx: &Context) -> Result<()> {
    let rig = &cx.rig;
    let mut contenders =
        rig.start(&rig.launch_single(), |kind| !matches!(kind, Kind::Null | Kind::Memcached))?;
    for contender in &mut contenders {
        contender.server.pause()?;
    }
    let labels: Vec<&str> = contenders.iter().map(|contender| contender.label.as_str()).collect();
    let mut text =
        format!("| waiting clients | {} |\n|---|{}\n", labels.join(" | "), "---|".repeat(labels.len()));
    let mut records = Vec::new();
    for waiters in WAITERS {
        let mut found: Vec<Latencies> = contenders.iter().map(|_| Latencies::new()).collect();
        for round in 0..rig.rounds {
            progress(&format!("handover: {waiters} waiting, round {}", round + 1))?;
            for (contender, latencies) in contenders.iter_mut().zip(&mut found) {
                contender.server.resume()?;
                hand_over(contender, waiters, latencies)?;
                contender.server.pause()?;
            }
        }
        text.push_str(&format!("| {waiters} |"));
        for (contender, latencies) in contenders.iter().zip(&found) {
            let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|percent| latencies.percentile_ns(percent));
            text.push_str(&format!(" {} / {} / {} |", micros(p50), micros(p99), micros(p999)));
            let peer = &contender.server.peer;
            let server = format!("{},{}", peer.kind.name(), peer.version);
            records.push(format!("{},{server},{waiters},{p50},{p99},{p999}", cx.stamp()));
        }
        text.push('\n');
    }
    let method = format!(
        "One thread. BLPOP by each waiting client, then LPUSH by another; from before the push is sent until its \
         element is read by the client that waited longest. Microseconds, p50 / p99 / p99.9 of {PUSHES} pushes in each \
         round, all rounds together. Aim: p99 not above the others'."
    );
    cx.places.append_records(
        "handover",
        "date,machine,server,version,waiting,p50_ns,p99_ns,p999_ns",
        &records,
    )?;
    cx.finish("handover", "From a push to who waits for it", &format!("{method}\n\n{text}"), &[])
}

fn hand_over(contender: &Contender, waiters: usize, latencies: &mut Latencies) -> Result<()> {
    let mut pusher = Asker::connect(contender.server.port)?;
    let mut waiting =
        (0..waiters).map(|_| Asker::connect(contender.server.port)).collect::<Result<Vec<_>>>()?;
    for waiter in &mut waiting {
        waiter.send(&["BLPOP", "queue", "0"])?;
        pusher.ask(&["PING"])?;
    }
    for push in 0..PUSHES {
        let first = push as usize % waiters;
        let Some(waiter) = waiting.get_mut(first) else { break };
        let start = Instant::now();
        pusher.send(&["LPUSH", "queue", "element"])?;
        let element = waiter.answer()?;
        latencies.record(start.elapsed().as_nanos() as u64, 1);
        ensure!(element == "queue\nelement", "{} gave {element:?} to who waits", contender.label);
        pusher.answer()?;
        waiter.send(&["BLPOP", "queue", "0"])?;
        // When this is answered, the server has read what was sent before.
        pusher.ask(&["PING"])?;
    }
    Ok(())
}
