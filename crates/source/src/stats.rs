//! What is counted of a route.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Classes of times: four to each doubling, from a microsecond to some hours.
const CLASSES: usize = 4 * 34;

/// Counters of a route, written by any thread.
#[derive(Debug)]
pub struct RouteStats {
    /// Reads that found no copy.
    pub misses: AtomicU64,
    /// Of them, those that joined a load under way.
    pub coalesced: AtomicU64,
    /// Of them, those that were answered by knowing that the store has nothing.
    pub negative: AtomicU64,
    /// Loads that ended.
    pub loads: AtomicU64,
    /// Of them, those that found nothing.
    pub absent: AtomicU64,
    /// Of them, those that failed.
    pub failures: AtomicU64,
    /// Of them, those whose answer was not kept: something overtook them, or there was no room.
    pub not_kept: AtomicU64,
    /// Of them, those to which the store said that the copy is right still.
    pub unchanged: AtomicU64,
    /// Copies fetched anew while the old one was given.
    pub renewed: AtomicU64,
    /// Old copies given.
    pub stale: AtomicU64,
    /// Writes that the store was given first.
    pub writes: AtomicU64,
    /// Keys dropped because they changed in the store.
    pub invalidated: AtomicU64,
    /// Keys that were kept by warming.
    pub warmed: AtomicU64,
    /// How long loads took, by class.
    times: [AtomicU64; CLASSES],
    /// Of late, in microseconds.
    recent_micros: AtomicU64,
}

impl Default for RouteStats {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        RouteStats {
            misses: zero(),
            coalesced: zero(),
            negative: zero(),
            loads: zero(),
            absent: zero(),
            failures: zero(),
            not_kept: zero(),
            unchanged: zero(),
            renewed: zero(),
            stale: zero(),
            writes: zero(),
            invalidated: zero(),
            warmed: zero(),
            times: std::array::from_fn(|_| zero()),
            recent_micros: zero(),
        }
    }
}

impl RouteStats {
    /// Counts so many loads that took so long together, in microseconds.
    pub fn loaded(&self, count: usize, micros: u64) {
        self.loads.fetch_add(count as u64, Relaxed);
        self.times[class_of(micros)].fetch_add(count as u64, Relaxed);
        let mut recent = self.recent_micros.load(Relaxed);
        for _ in 0..count.min(64) {
            recent = if recent == 0 { micros } else { recent - recent / 8 + micros / 8 };
        }
        // Of two at once one may be lost: it is an average.
        self.recent_micros.store(recent, Relaxed);
    }

    /// How long a load takes of late, in milliseconds: an average in which the last eight count most.
    pub fn recent_ms(&self) -> f64 {
        self.recent_micros.load(Relaxed) as f64 / 1000.0
    }

    /// In which time this share of loads ended, in microseconds, to within a fifth; 0 before the first.
    pub fn micros_at(&self, share: f64) -> u64 {
        let counts: Vec<u64> = self.times.iter().map(|count| count.load(Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        let wanted = ((all as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (class, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                return upper_bound(class);
            }
        }
        0
    }

    /// All counters by name.
    pub fn counts(&self) -> [(&'static str, u64); 13] {
        let get = |count: &AtomicU64| count.load(Relaxed);
        [
            ("misses", get(&self.misses)),
            ("coalesced", get(&self.coalesced)),
            ("negative_hits", get(&self.negative)),
            ("loads", get(&self.loads)),
            ("loads_absent", get(&self.absent)),
            ("loads_failed", get(&self.failures)),
            ("loads_not_kept", get(&self.not_kept)),
            ("loads_unchanged", get(&self.unchanged)),
            ("renewed", get(&self.renewed)),
            ("stale_served", get(&self.stale)),
            ("writes", get(&self.writes)),
            ("invalidated", get(&self.invalidated)),
            ("warmed", get(&self.warmed)),
        ]
    }
}

/// The class of a time: the doubling, and which quarter of it.
fn class_of(micros: u64) -> usize {
    let micros = micros.max(1);
    let doubling = micros.ilog2();
    let quarter = if doubling < 2 { 0 } else { (micros >> (doubling - 2)) & 3 };
    (doubling as usize * 4 + quarter as usize).min(CLASSES - 1)
}

fn upper_bound(class: usize) -> u64 {
    let (doubling, quarter) = (class / 4, class as u64 % 4);
    if doubling < 2 { (2 << doubling) - 1 } else { ((4 + quarter + 1) << (doubling - 2)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_to_within_a_fifth() {
        for micros in [1, 2, 3, 7, 100, 1_234, 99_999, 5_000_000] {
            let bound = upper_bound(class_of(micros));
            assert!(bound >= micros && bound <= micros + micros / 4 + 1, "{micros}: {bound}");
        }
        let stats = RouteStats::default();
        assert_eq!(stats.micros_at(0.5), 0);
        (0..99).for_each(|_| stats.loaded(1, 1000));
        stats.loaded(1, 50_000);
        assert!((1000..1250).contains(&stats.micros_at(0.5)));
        assert!((50_000..62_500).contains(&stats.micros_at(1.0)));
        assert!(stats.recent_ms() > 1.0);
    }
}
