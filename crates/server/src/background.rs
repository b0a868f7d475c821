//! Work that nobody waits for, done by each worker in slices between turns.
//!
//! Each task has a period and is given a slice of time; one with a backlog runs again after the next
//! turn, so that requests are never held up for longer than a slice.

use crate::clock;
use crate::connection::{Connection, Parked};
use crate::defrag::Defragmenter;
use crate::execute::Core;
use crate::io::Session;
use crate::slots::Slots;
use crate::snapshot::{self, Sweep};
use larder_config::Settings;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Longest slice of background work after one turn, at the least `active-expire-effort`.
const SLICE: Duration = Duration::from_micros(300);
/// How often due keys are looked for in one turn of periodic work: ten times a turn, so that they
/// are gone within 10 ms at the default `hz`.
const EXPIRE_LOOKS: u32 = 10;
/// How often the end of a CLIENT PAUSE is looked for, in milliseconds.
const PAUSE_PERIOD_MS: u64 = 10;
/// With `dynamic-hz`, periodic work runs twice as often when a turn of it would have to look after more
/// connections than this, and so on, as in Redis.
const CONNECTIONS_A_TURN_MAX: usize = 200;
/// Connections looked at in a turn of periodic work even if fewer would do to see each every second.
const CONNECTIONS_A_TURN_MIN: usize = 64;
/// How long a TLS handshake may take, in milliseconds. A client that is behind a slow line needs a second or two.
const HANDSHAKE_MS_MAX: u64 = 10_000;
/// The most turns of periodic work a second.
const HZ_MAX: u32 = 500;

/// The background work of one worker.
#[derive(Debug)]
pub struct Background {
    worker: usize,
    workers: usize,
    last_expire_ms: u64,
    last_turn_ms: u64,
    last_second: u64,
    /// Turns of periodic work a second at present.
    hz: u32,
    /// The connection at which the next turn goes on.
    next_connection: usize,
    expire_backlog: bool,
    evict_backlog: bool,
    /// Invalidations are to be carried out where nobody came by.
    invalidate_backlog: bool,
    expired_connections: Vec<u64>,
    defragmenter: Defragmenter,
    sweep: Sweep,
    /// A snapshot is to be gone on with.
    save_backlog: bool,
}

impl Background {
    /// The background work of `worker` of `workers`.
    pub fn new(worker: usize, workers: usize) -> Background {
        Background {
            worker,
            workers,
            last_expire_ms: 0,
            last_turn_ms: 0,
            last_second: 0,
            hz: 10,
            next_connection: 0,
            expire_backlog: false,
            evict_backlog: false,
            invalidate_backlog: false,
            expired_connections: Vec::new(),
            defragmenter: Defragmenter::new(worker, workers),
            sweep: Sweep::default(),
            save_backlog: false,
        }
    }

    /// Whether a task stopped because its slice was over.
    pub fn has_backlog(&self) -> bool {
        self.expire_backlog || self.evict_backlog || self.invalidate_backlog || self.save_backlog
    }

    /// How long the worker may sleep. `quiet`: nothing came in the last turn.
    ///
    /// A busy worker looks for due keys every period anyway; only a quiet one asks whether there are
    /// any, so that an idle server hardly wakes.
    pub fn time_to_next(&self, core: &Core, quiet: bool) -> Duration {
        let expire_period = Duration::from_millis(expire_period_ms(self.hz));
        if core.server.pause.until_ms.load(Relaxed) != 0 {
            return expire_period.min(Duration::from_millis(PAUSE_PERIOD_MS));
        }
        if let Some(until) = self.sweep.time_to_next(core) {
            return expire_period.min(until);
        }
        if !quiet {
            return expire_period;
        }
        let until_answer = self.time_to_answer(core);
        let idle = self.time_to_sweep(core, expire_period);
        let idle = self.defragmenter.time_to_next(core).map_or(idle, |until| until.min(idle));
        until_answer.map_or(idle, |until| until.min(idle))
    }

    /// How long until keys are due. Asked for all shards, not this worker's alone: whoever gave a key a
    /// deadline looks here before it sleeps, so no deadline passes while every worker sleeps.
    fn time_to_sweep(&self, core: &Core, expire_period: Duration) -> Duration {
        let idle = Duration::from_millis(period_ms(self.hz));
        if !core.server.active_expire.load(Relaxed) || core.server.is_cron_paused.load(Relaxed) {
            return idle;
        }
        let now = core.local.now.0;
        let until_due = Duration::from_millis(core.server.keyspace.next_due().saturating_sub(now));
        let since_last = Duration::from_millis(now.saturating_sub(self.last_expire_ms));
        until_due.max(expire_period.saturating_sub(since_last)).max(Duration::from_millis(1)).min(idle)
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
                mailbox.send(crate::server::Message::Answer(answer));
            }
        }
        let now = core.local.now.0;
        if self.expire_backlog || is_due(self.last_expire_ms, now, expire_period_ms(self.hz)) {
            if core.server.is_cron_paused.load(Relaxed) {
                (self.last_expire_ms, self.expire_backlog) = (now, false);
            } else {
                self.run_due(core, connections, now);
            }
        }
        let is_held = core.server.snapshots.holds_writes() || core.server.is_paused(core.local.now, true);
        if core.is_evicting() && !is_held && core.open_turn() {
            core.evict_ahead(SLICE);
            core.count_changes();
            core.close_turn();
        }
        self.evict_backlog = core.is_evicting() && !is_held;
        self.invalidate_backlog = core.server.keyspace.is_lagging() && !sweep_invalidated(core);
        self.save_backlog = self.sweep.is_wanted(core) && self.sweep.run(core);
        if core.server.defrag.percent() != 0 {
            self.defragmenter.run(core);
        }
    }

    fn run_due(&mut self, core: &mut Core, connections: &Slots, now: u64) {
        self.last_expire_ms = now;
        self.expire(core, clock::now());
        core.observe_uses();
        core.notice_shares();
        self.hz = turns_a_second(&core.settings, core.server.clients.count());
        if is_due(self.last_turn_ms, now, period_ms(self.hz)) {
            self.last_turn_ms = now;
            self.look_at_connections(core, connections);
            core.server.used_memory();
            core.notice_memory();
            core.look_after_routes();
            if self.worker == 0 {
                core.flush_if_due();
                for (db, key) in core.server.keyspace.followed.forget_leases(core.local.now) {
                    core.serve_waiting(db, key);
                }
                let second = now / 1000;
                core.look_after_policy(second != self.last_second);
                self.last_second = second;
                snapshot::look_after(core);
                crate::journal::look_after(core);
            }
        }
        if self.worker == 0 {
            let server = core.server;
            server.sampler.sample(now, || {
                server.end_pause(now);
                server.over_limit.note(now, server.is_over_limit());
                server.defrag.decide(server, &server.settings(), now);
                server.defrag_times.note(now, server.defrag.percent() != 0);
                crate::rates::totals(server.stats.iter().map(|stats| &**stats))
            });
        }
    }

    /// Connections that were idle for too long, since the last call.
    pub fn take_expired_connections(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.expired_connections)
    }

    fn expire(&mut self, core: &mut Core, start: Instant) {
        // What a log says of a key whose time is over may still come.
        let loading = &core.server.loading;
        let is_closed = loading.is_on() && !loading.is_partly_served();
        let is_paused = core.server.is_paused(core.local.now, true);
        if !core.server.active_expire.load(Relaxed) || is_closed || is_paused {
            self.expire_backlog = false;
            return;
        }
        if !core.open_turn() {
            return;
        }
        let slice = expire_slice(core.settings.active_expire_effort());
        let (server, mut bites) = (core.server, 0u32);
        let done = server.keyspace.sweep_expired((self.worker, self.workers), &mut core.local, &mut || {
            bites += 1;
            start.elapsed() < slice
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

    /// Looks at so many connections that each is seen once a second.
    fn look_at_connections(&mut self, core: &Core, connections: &Slots) {
        let places = connections.places();
        let count = places.div_ceil(self.hz.max(1) as usize).max(CONNECTIONS_A_TURN_MIN).min(places);
        let from = if self.next_connection < places { self.next_connection } else { 0 };
        self.next_connection = from + count;
        let wrapped = self.next_connection.saturating_sub(places);
        if wrapped > 0 {
            self.next_connection = wrapped;
        }
        for conn in connections.range(from, count).chain(connections.range(0, wrapped)) {
            if is_deaf(core, conn) || is_idle(core, conn) || is_slow_to_shake_hands(core, conn) {
                self.expired_connections.push(conn.token);
            }
        }
    }
}

/// Carries out invalidations for a slice of time. True when nothing is left to do for this worker.
#[cold]
fn sweep_invalidated(core: &mut Core) -> bool {
    let start = clock::now();
    if !core.open_turn() {
        return false;
    }
    let keyspace = &core.server.keyspace;
    let is_done = keyspace.sweep_invalidated(&mut core.local, &mut || start.elapsed() < SLICE);
    core.count_changes();
    core.close_turn();
    is_done
}

/// Whether a connection is to be closed since `timeout` is over.
fn is_idle(core: &Core, conn: &Connection) -> bool {
    let idle_ms_max = u64::from(core.settings.timeout()) * 1000;
    let waits = matches!(conn.parked, Some(Parked::Ticket(_) | Parked::Paused))
        || conn.monitor
        || conn.subscriptions.is_some();
    let idle_ms = core.local.now.0.saturating_sub(conn.client.active_ms.load(Relaxed));
    idle_ms_max != 0 && !waits && idle_ms > idle_ms_max
}

/// Whether a connection that is to be encrypted has taken too long to begin.
fn is_slow_to_shake_hands(core: &Core, conn: &Connection) -> bool {
    let is_over = is_late(conn.socket.tls(), conn.client.created_ms, core.local.now.0);
    if is_over {
        tracing::debug!(
            client = conn.client.id,
            "a connection from {} ends: TLS: the handshake takes too long",
            conn.client.address
        );
    }
    is_over
}

fn is_late(tls: Option<&Session>, begun_ms: u64, now_ms: u64) -> bool {
    tls.is_some_and(Session::is_shaking_hands) && now_ms.saturating_sub(begun_ms) > HANDSHAKE_MS_MAX
}

/// Whether a connection has been over the soft limit of unread replies for too long. Nothing is
/// reported of a client that neither reads nor asks, so it is looked for.
fn is_deaf(core: &Core, conn: &Connection) -> bool {
    if conn.over_soft_limit_ms == 0 {
        return false;
    }
    let limit = core.settings.client_output_buffer_limit().of(conn.class());
    let patience_ms = limit.soft_seconds.saturating_mul(1000);
    if core.local.now.0.saturating_sub(conn.over_soft_limit_ms) <= patience_ms {
        return false;
    }
    let bytes = conn.output.len();
    tracing::warn!(client = conn.client.id, bytes, "closing a client that does not read its replies");
    core.stats.output_limit_closes.add(1);
    true
}

/// Turns of periodic work a second: `hz`, and with `dynamic-hz` more for many connections.
pub fn turns_a_second(settings: &Settings, connections: usize) -> u32 {
    let mut hz = settings.hz().clamp(1, HZ_MAX);
    while settings.dynamic_hz() && hz < HZ_MAX && connections / hz as usize > CONNECTIONS_A_TURN_MAX {
        hz = (hz * 2).min(HZ_MAX);
    }
    hz
}

fn period_ms(hz: u32) -> u64 {
    u64::from(1000 / hz.max(1))
}

fn expire_period_ms(hz: u32) -> u64 {
    (period_ms(hz) / u64::from(EXPIRE_LOOKS)).max(1)
}

/// Longest slice of expiry after one turn: a quarter more with each step of `active-expire-effort`.
fn expire_slice(effort: u32) -> Duration {
    SLICE + SLICE * effort.saturating_sub(1) / 4
}

/// Whether a period has passed. A clock that was set back makes everything due.
#[inline]
fn is_due(last_ms: u64, now_ms: u64, period_ms: u64) -> bool {
    now_ms.wrapping_sub(last_ms) >= period_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&[u8], &[u8])]) -> Settings {
        Settings::default().plan_set(pairs, true).map(|change| change.settings).expect("good settings")
    }

    #[test]
    fn a_handshake_has_its_time() {
        use rustls::server::{ResolvesServerCertUsingSni, ServerConfig};
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the default goes with the default")
            .with_no_client_auth()
            .with_cert_resolver(std::sync::Arc::new(ResolvesServerCertUsingSni::new()));
        let session = Session::new(std::sync::Arc::new(config)).expect("a session");
        assert!(!is_late(Some(&session), 5, 5 + HANDSHAKE_MS_MAX));
        assert!(is_late(Some(&session), 5, 6 + HANDSHAKE_MS_MAX));
        assert!(!is_late(None, 5, 6 + HANDSHAKE_MS_MAX));
    }

    #[test]
    fn many_connections_make_periodic_work_run_more_often() {
        let fixed = |hz: &[u8]| settings(&[(b"hz", hz), (b"dynamic-hz", b"no")]);
        let dynamic = |hz: &[u8]| settings(&[(b"hz", hz)]);
        assert_eq!(turns_a_second(&fixed(b"10"), 100_000), 10);
        assert_eq!(turns_a_second(&fixed(b"1"), 0), 1);
        assert_eq!(turns_a_second(&dynamic(b"10"), 2009), 10);
        assert_eq!(turns_a_second(&dynamic(b"10"), 2010), 20);
        assert_eq!(turns_a_second(&dynamic(b"10"), 10_000), 80);
        assert_eq!(turns_a_second(&dynamic(b"10"), 1_000_000), 500);
        assert_eq!(turns_a_second(&dynamic(b"500"), 1_000_000), 500);
    }

    #[test]
    fn hz_is_a_period_and_keys_are_looked_for_ten_times_in_it() {
        assert_eq!([1, 10, 100, 500].map(period_ms), [1000, 100, 10, 2]);
        assert_eq!([1, 10, 100, 500].map(expire_period_ms), [100, 10, 1, 1]);
    }

    #[test]
    fn effort_lengthens_the_slices_of_expiry() {
        let micros = [1, 2, 5, 10].map(|effort| expire_slice(effort).as_micros());
        assert_eq!(micros, [300, 375, 600, 975]);
    }
}
