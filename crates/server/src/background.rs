//! Work that nobody waits for, done by each worker in slices between turns.
//!
//! Each task has a period and is given a slice of time; one with a backlog runs again after the next
//! turn, so that requests are never held up for longer than a slice.

use crate::clock;
use crate::connection::Parked;
use crate::execute::Core;
use crate::slots::Slots;
use larder_config::ClientClass;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Longest slice of background work after one turn.
const SLICE: Duration = Duration::from_micros(300);
/// How often due keys are looked for.
const EXPIRE_PERIOD: Duration = Duration::from_millis(10);
/// How often connections are looked at.
const CONNECTIONS_PERIOD: Duration = Duration::from_millis(1000);
/// How long an idle worker sleeps when nothing has a deadline.
const IDLE: Duration = Duration::from_millis(100);
/// Bites of expiry between two looks at the clock.
const BITES: u32 = 4;

/// The background work of one worker.
#[derive(Debug)]
pub struct Background {
    worker: usize,
    workers: usize,
    last_expire_ms: u64,
    last_connections_ms: u64,
    expire_backlog: bool,
    expired_connections: Vec<u64>,
}

impl Background {
    /// The background work of `worker` of `workers`.
    pub fn new(worker: usize, workers: usize) -> Background {
        Background {
            worker,
            workers,
            last_expire_ms: 0,
            last_connections_ms: 0,
            expire_backlog: false,
            expired_connections: Vec::new(),
        }
    }

    /// Whether a task stopped because its slice was over.
    pub fn has_backlog(&self) -> bool {
        self.expire_backlog
    }

    /// How long the worker may sleep. `quiet`: nothing came in the last turn.
    ///
    /// A busy worker looks for due keys every period anyway; only a quiet one asks whether there are
    /// any, so that an idle server hardly wakes.
    pub fn time_to_next(&self, core: &Core, quiet: bool) -> Duration {
        if !quiet || core.server.pause.until_ms.load(Relaxed) != 0 {
            return EXPIRE_PERIOD;
        }
        let until_answer = self.time_to_answer(core);
        let keyspace = &core.server.keyspace;
        let any_deadline = keyspace.indexes().any(|db| keyspace.len_with_deadline(db) > 0);
        let idle = if any_deadline { EXPIRE_PERIOD } else { IDLE };
        until_answer.map_or(idle, |until| until.min(idle))
    }

    /// How long the first of this worker's waiting clients still waits.
    fn time_to_answer(&self, core: &Core) -> Option<Duration> {
        let blocked = &core.server.blocked;
        if blocked.is_empty() {
            return None;
        }
        let until = blocked.next_deadline(self.worker)?.saturating_duration_since(clock::now());
        // The poller counts whole milliseconds, and the deadline must be over when it wakes.
        Some(until + Duration::from_millis(1))
    }

    /// Runs what is due, for at most a slice.
    #[inline]
    pub fn run(&mut self, core: &mut Core, connections: &Slots) {
        if !core.server.blocked.is_empty() {
            let mailbox = &core.server.mailboxes[self.worker];
            for answer in core.server.blocked.take_due(self.worker, clock::now()) {
                mailbox.send(answer);
            }
        }
        let now = core.local.now.0;
        if self.expire_backlog || is_due(self.last_expire_ms, now, EXPIRE_PERIOD) {
            self.run_due(core, connections, now);
        }
    }

    fn run_due(&mut self, core: &mut Core, connections: &Slots, now: u64) {
        self.last_expire_ms = now;
        self.expire(core, clock::now());
        if is_due(self.last_connections_ms, now, CONNECTIONS_PERIOD) {
            self.last_connections_ms = now;
            self.look_at_connections(core, connections);
            core.server.used_memory();
        }
        if self.worker == 0 {
            let server = core.server;
            server.sampler.sample(now, || {
                server.end_pause(now);
                server.over_limit.note(now, server.is_over_limit());
                crate::rates::totals(server.stats.iter().map(|stats| &**stats))
            });
        }
    }

    /// Connections that were idle for too long, since the last call.
    pub fn take_expired_connections(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.expired_connections)
    }

    fn expire(&mut self, core: &mut Core, start: Instant) {
        if !core.server.active_expire.load(Relaxed) {
            self.expire_backlog = false;
            return;
        }
        core.open_turn();
        let (server, mut bites) = (core.server, 0);
        let done = server.keyspace.sweep_expired((self.worker, self.workers), &mut core.local, &mut || {
            bites += 1;
            bites % BITES != 0 || start.elapsed() < SLICE
        });
        core.close_turn();
        self.expire_backlog = !done;
        core.stats.expire_cuts.add(u64::from(!done));
        if bites > 0 {
            let changes = core.local.effects.take_changes();
            core.stats.store.changes.add(changes);
            core.stats.expire_nanos.add(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
    }

    fn look_at_connections(&mut self, core: &Core, connections: &Slots) {
        let now = core.local.now.0;
        self.find_deaf_connections(core, connections, now);
        let idle_ms_max = u64::from(core.settings.timeout()) * 1000;
        if idle_ms_max == 0 {
            return;
        }
        self.expired_connections.extend(connections.iter().filter_map(|conn| {
            let waits = matches!(conn.parked, Some(Parked::Ticket(_) | Parked::Paused)) || conn.monitor;
            let idle = now.saturating_sub(conn.client.active_ms.load(Relaxed));
            (!waits && idle > idle_ms_max).then_some(conn.token)
        }));
    }

    /// Connections that have been over the soft limit of unread replies for too long. Nothing is
    /// reported of a client that neither reads nor asks, so they are looked for.
    fn find_deaf_connections(&mut self, core: &Core, connections: &Slots, now: u64) {
        let limit = core.settings.client_output_buffer_limit().of(ClientClass::Normal);
        let patience_ms = limit.soft_seconds.saturating_mul(1000);
        for conn in connections.iter().filter(|conn| conn.over_soft_limit_ms != 0) {
            if now.saturating_sub(conn.over_soft_limit_ms) > patience_ms {
                let bytes = conn.output.len();
                tracing::warn!(
                    client = conn.client.id,
                    bytes,
                    "closing a client that does not read its replies"
                );
                core.stats.output_limit_closes.add(1);
                self.expired_connections.push(conn.token);
            }
        }
    }
}

/// Whether a period has passed. A clock that was set back makes everything due.
#[inline]
fn is_due(last_ms: u64, now_ms: u64, period: Duration) -> bool {
    u128::from(now_ms.wrapping_sub(last_ms)) >= period.as_millis()
}
