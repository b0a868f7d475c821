//! What the cache is doing, in figures of the whole server: behind CACHE, INFO's section and the metrics.
//!
//! The store tells of bytes of keys and values; people ask for memory. What else there is, tables and connections, is taken
//! off first, and the rest grows with the data.

use crate::memory_report::MemoryReport;
use crate::server::Server;
use larder_store::{Cause, MissRatio};
use std::sync::atomic::Ordering::Relaxed;

/// Sizes for which the hit ratio is told, as multiples of today's.
pub const TIMES: [f64; 17] =
    [0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0];

/// The hit ratio at one size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The size, as a multiple of today's.
    pub times: f64,
    /// The size, in bytes of memory.
    pub bytes: u64,
    /// Hits by reads.
    pub hit_ratio: f64,
}

/// Which hit ratio the cache would have.
#[derive(Debug, Clone)]
pub struct MissRatioReport {
    /// Today's size, in bytes of memory.
    pub bytes: u64,
    /// Whether that is `maxmemory`; else it is what is in use.
    pub is_limit: bool,
    /// Hits by reads, as counted.
    pub measured: f64,
    /// What the curve was made from.
    pub source: MissRatio,
    /// The curve.
    pub points: Vec<Point>,
}

impl MissRatioReport {
    /// Asks the estimator.
    pub fn measure(server: &Server) -> MissRatioReport {
        let memory = MemoryReport::measure(server);
        let limit = server.settings().maxmemory();
        let bytes = if limit == 0 { memory.used as u64 } else { limit };
        let apart = server.keyspace.policy_bytes() + server.keyspace.insight.memory();
        let share = DataShare::of(&memory, apart);
        let source = server.keyspace.insight.miss_ratio();
        let point = |times: f64| {
            let bytes = (bytes as f64 * times) as u64;
            Point { times, bytes, hit_ratio: source.curve.hit_ratio(share.of_bytes(bytes)) }
        };
        let points = TIMES.into_iter().map(point).collect();
        MissRatioReport {
            bytes,
            is_limit: limit != 0,
            measured: Reads::count(server).hit_ratio(),
            source,
            points,
        }
    }

    /// The hit ratio at so many times today's size, if that is among the points.
    pub fn at(&self, times: f64) -> Option<f64> {
        self.points.iter().find(|point| point.times == times).map(|point| point.hit_ratio)
    }
}

/// Which part of some memory holds keys and values.
#[derive(Debug, Clone, Copy, PartialEq)]
struct DataShare {
    /// What is taken however little data there is.
    fixed: u64,
    /// Of the rest.
    share: f64,
}

impl DataShare {
    /// `apart` is what policies and estimators hold beside the data.
    fn of(memory: &MemoryReport, apart: usize) -> DataShare {
        let fixed = memory.startup + memory.clients + apart;
        let rest = memory.used.saturating_sub(fixed);
        let data = memory.dataset().saturating_sub(apart).min(rest);
        // Where there is next to nothing there is nothing to be told either.
        let share = if rest == 0 || memory.keys == 0 { 1.0 } else { (data as f64 / rest as f64).max(0.01) };
        DataShare { fixed: fixed as u64, share }
    }

    fn of_bytes(self, bytes: u64) -> u64 {
        (bytes.saturating_sub(self.fixed) as f64 * self.share).round() as u64
    }
}

/// Reads as they were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    /// Those that found their key.
    pub hits: u64,
    /// Those that did not.
    pub misses: u64,
}

impl Reads {
    /// Sums over the workers.
    pub fn count(server: &Server) -> Reads {
        Reads {
            hits: server.sum(|stats| stats.store.hits.get()),
            misses: server.sum(|stats| stats.store.misses.get()),
        }
    }

    /// Hits by reads; 0 where nothing was read.
    pub fn hit_ratio(self) -> f64 {
        ratio(self.hits, self.hits + self.misses)
    }
}

/// Keys that left, by the reason, as they were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removals {
    /// Room was needed, in the order of [`Cause::ALL`].
    pub evicted: [u64; 3],
    /// Their time had come, and a command met them.
    pub expired_on_access: u64,
    /// Their time had come, and the background removed them.
    pub expired_by_sweep: u64,
    /// A client asked for it.
    pub deleted: u64,
}

impl Removals {
    /// Sums over the workers.
    pub fn count(server: &Server) -> Removals {
        let on_access = server.sum(|stats| stats.store.expired_on_access.get());
        Removals {
            evicted: Cause::ALL
                .map(|cause| server.sum(|stats| stats.store.evicted_for[cause as usize].get())),
            expired_on_access: on_access,
            expired_by_sweep: server.sum(|stats| stats.store.expired.get()).saturating_sub(on_access),
            deleted: server.sum(|stats| stats.store.deleted.get()),
        }
    }

    /// Each with its name.
    pub fn named(self) -> [(&'static str, u64); 6] {
        let [for_command, over_limit, ahead] = self.evicted;
        [
            ("evicted_for_command", for_command),
            ("evicted_over_limit", over_limit),
            ("evicted_ahead", ahead),
            ("expired_on_access", self.expired_on_access),
            ("expired_by_sweep", self.expired_by_sweep),
            ("deleted", self.deleted),
        ]
    }
}

/// Invalidations and leases, as they were counted since the start, and what there is of them at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalidations {
    /// What was counted: its name and number.
    pub counts: [(&'static str, u64); 11],
    /// Rules of prefixes and tags that are still to be carried out everywhere, leases that are out, keys with tags or a time for
    /// which they may be given old.
    pub present: [(&'static str, u64); 3],
}

impl Invalidations {
    /// Sums over the workers.
    pub fn count(server: &Server) -> Invalidations {
        let keyspace = &server.keyspace;
        let (made, leases) = (&keyspace.invalidated, &keyspace.followed.leases);
        let (out, marked) = leases.counts();
        Invalidations {
            counts: [
                ("invalidations_keys", made.keys.load(Relaxed)),
                ("invalidations_prefix", made.prefixes.load(Relaxed)),
                ("invalidations_tag", made.tags.load(Relaxed)),
                ("invalidated_dropped", server.sum(|stats| stats.store.invalidated.get())),
                ("invalidated_made_old", server.sum(|stats| stats.store.softened.get())),
                ("invalidated_looked_at", server.sum(|stats| stats.store.settled.get())),
                ("leases_given", leases.counts.given.load(Relaxed)),
                ("leases_won", leases.counts.won.load(Relaxed)),
                ("leases_lost", leases.counts.lost.load(Relaxed)),
                ("leases_waited", leases.counts.waited.load(Relaxed)),
                ("leases_stale_given", leases.counts.stale.load(Relaxed)),
            ],
            present: [
                ("invalidation_rules", keyspace.rules() as u64),
                ("leases_out", out as u64),
                ("lease_marks", marked as u64),
            ],
        }
    }

    /// All of it.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.into_iter().chain(self.present)
    }
}

/// A part of a whole; 0 of nothing.
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A figure as it is shown: to four places, without more digits than it has.
pub fn shown(figure: f64) -> f64 {
    (figure * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_store::KeyspaceMemory;

    #[test]
    fn memory_for_data_is_what_is_left_beside_tables_and_connections() {
        let memory = MemoryReport {
            used: 100,
            peak: 100,
            peak_ms: 0,
            startup: 10,
            overhead: 35,
            clients: 5,
            scripts: 0,
            functions: 0,
            script_states: 0,
            keyspace: KeyspaceMemory::default(),
            rss: 0,
            anonymous: 0,
            active: 0,
            keys: 3,
        };
        // Of 100 bytes 25 are there without data; of the other 75 the data has 55.
        let share = DataShare::of(&memory, 10);
        assert_eq!((share.fixed, share.of_bytes(100), share.of_bytes(20)), (25, 55, 0));
        assert_eq!(share.of_bytes(175), 110);
        let empty = DataShare::of(&MemoryReport { used: 10, keys: 0, ..memory }, 0);
        assert_eq!((empty.of_bytes(115), empty.of_bytes(1)), (100, 0));
    }

    #[test]
    fn figures_are_rounded_to_what_they_are_worth() {
        assert_eq!([shown(0.123_456), shown(2.0), shown(0.0)], [0.1235, 2.0, 0.0]);
        assert_eq!((ratio(1, 0), ratio(1, 4)), (0.0, 0.25));
    }
}
