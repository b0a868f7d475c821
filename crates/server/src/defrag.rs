//! Active defragmentation, as the background does it: when it is worth the work, how much of a worker's time it may take, and
//! what INFO tells of it.
//!
//! Waste is what is resident beyond what is in use. Worker 0 looks at it ten times a second and says what share of their time the
//! workers give; each goes over its own shards, a slice at a time. Invariant: no slice is longer than [`SLICE`] and one step.
//! Read next: `defrag.rs` in the store.

use crate::execute::Core;
use crate::memory_report::resident;
use crate::server::Server;
use crate::stats::WorkerStats;
use crate::{alloc, clock};
use larder_config::Settings;
use larder_store::{DefragCursor, Defragged};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Longest slice of work between two turns.
const SLICE: Duration = Duration::from_micros(300);
/// How long a worker rests that found nothing to move in all its shards; each time in a row twice as long, up to
/// `REST_MAX`.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);
/// A pass that moved less than one block in so many found nothing.
const FEW: u64 = 512;

/// What the workers share.
#[derive(Debug, Default)]
pub struct Defrag {
    /// Which share of its time each worker gives, in percent; 0 when there is nothing to do.
    percent: AtomicU32,
}

impl Defrag {
    /// Which share of its time each worker gives, in percent; 0 when there is nothing to do.
    #[inline]
    pub fn percent(&self) -> u32 {
        self.percent.load(Relaxed)
    }

    /// Looks whether there is something to do, and how urgently.
    pub fn decide(&self, server: &Server, settings: &Settings) {
        let forced = settings.maxmemory_rss() && server.resident.is_over();
        let percent = if settings.activedefrag() || forced {
            let (_, anonymous) = resident();
            let used = server.used_memory();
            let percent = percent(settings, anonymous.saturating_sub(used), used);
            if forced { settings.active_defrag_cycle_max().max(percent) } else { percent }
        } else {
            0
        };
        self.percent.store(percent, Relaxed);
    }
}

/// The share of its time that a worker gives when `waste` bytes are resident beyond `used`: none below the lower threshold, from the
/// least to the most between the two.
fn percent(settings: &Settings, waste: usize, used: usize) -> u32 {
    let share = waste as f64 * 100.0 / used.max(1) as f64;
    let lower = f64::from(settings.active_defrag_threshold_lower());
    let upper = f64::from(settings.active_defrag_threshold_upper());
    if share < lower || (waste as u64) < settings.active_defrag_ignore_bytes() {
        return 0;
    }
    let (least, most) = (settings.active_defrag_cycle_min(), settings.active_defrag_cycle_max());
    let way = if upper > lower { ((share - lower) / (upper - lower)).min(1.0) } else { 1.0 };
    // Where the least is above the most, the least holds, as in Redis.
    least.max((f64::from(least) + (f64::from(most) - f64::from(least)) * way) as u32)
}

/// One worker's part.
#[derive(Debug)]
pub struct Defragmenter {
    worker: (usize, usize),
    cursor: DefragCursor,
    /// Before this it does nothing.
    next: Option<Instant>,
    /// What the pass that is under way has done.
    pass: Defragged,
    rest: Duration,
}

impl Defragmenter {
    /// That of `worker` of `workers`.
    pub fn new(worker: usize, workers: usize) -> Defragmenter {
        Defragmenter {
            worker: (worker, workers),
            cursor: DefragCursor::default(),
            next: None,
            pass: Defragged::default(),
            rest: REST,
        }
    }

    /// How long the worker may sleep; `None` where there is nothing to do.
    pub fn time_to_next(&self, core: &Core) -> Option<Duration> {
        if core.server.defrag.percent() == 0 {
            return None;
        }
        let wait = self.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(clock::now()));
        // The poller counts whole milliseconds.
        Some(wait.max(Duration::from_millis(1)))
    }

    /// Works for a slice, if it is time to.
    pub fn run(&mut self, core: &mut Core) {
        let percent = core.server.defrag.percent();
        if percent == 0 {
            return;
        }
        let start = clock::now();
        if self.next.is_some_and(|next| start < next) {
            return;
        }
        core.open_turn();
        let elements_max =
            usize::try_from(core.settings.active_defrag_max_scan_fields()).unwrap_or(usize::MAX);
        let before = self.pass;
        let mut through = false;
        while !through && start.elapsed() < SLICE {
            through = core.server.keyspace.defrag_step(
                self.worker,
                &mut self.cursor,
                elements_max,
                &alloc::is_sparse,
                &mut self.pass,
            );
        }
        core.close_turn();
        count(&core.stats, &before, &self.pass);
        let took = start.elapsed();
        let pause = took * (100 - percent.min(99)) / percent.min(99);
        self.next = Some(start + took + if through { self.end_pass(core.server) } else { pause });
    }

    /// What was set free is given back; answers how long to wait for the next pass.
    fn end_pass(&mut self, server: &'static Server) -> Duration {
        let Defragged { hits, misses, .. } = std::mem::take(&mut self.pass);
        // By a thread that nobody waits for.
        server.reaper.after(move || {
            server.keyspace.release_unused();
            alloc::purge();
        });
        self.rest = if hits * FEW < hits + misses { (self.rest * 2).min(REST_MAX) } else { REST };
        // Until what was given back is seen.
        if self.rest == REST { Duration::from_millis(200) } else { self.rest }
    }
}

fn count(stats: &WorkerStats, before: &Defragged, after: &Defragged) {
    stats.defrag_hits.add(after.hits - before.hits);
    stats.defrag_misses.add(after.misses - before.misses);
    stats.defrag_key_hits.add(after.key_hits - before.key_hits);
    stats.defrag_key_misses.add(after.key_misses - before.key_misses);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(words: &[&str]) -> Settings {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        match Settings::default().plan_set_args(&words, true) {
            Ok(change) => change.settings,
            Err(error) => panic!("{}", String::from_utf8_lossy(&error.text())),
        }
    }

    #[test]
    fn effort_grows_with_waste_between_the_thresholds() {
        const MB: usize = 1 << 20;
        let usual = settings(&["activedefrag", "yes"]);
        assert_eq!(percent(&usual, 99 * MB, 200 * MB), 0, "below what is ignored");
        assert_eq!(percent(&usual, 110 * MB, 1200 * MB), 0, "below the lower threshold");
        assert_eq!(percent(&usual, 120 * MB, 1200 * MB), 1);
        assert_eq!(percent(&usual, 1200 * MB, 1200 * MB), 25);
        assert_eq!(percent(&usual, 660 * MB, 1200 * MB), 13);
        assert_eq!(percent(&usual, 9000 * MB, 1200 * MB), 25);
        let odd = settings(&["active-defrag-threshold-upper", "5", "active-defrag-cycle-max", "50"]);
        assert_eq!(percent(&odd, 120 * MB, 1200 * MB), 50);
        assert_eq!(percent(&odd, 120 * MB, 0), 50);
    }
}
