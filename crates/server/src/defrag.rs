//! Active defragmentation, as the background does it: when it is worth the work, how much of a worker's time it may take, and
//! what INFO tells of it.
//!
//! Waste is what is resident beyond what is in use. Worker 0 looks at it ten times a second and says what share of their time the
//! workers give; each goes over its own shards, a slice at a time, and rests when a pass over all of them found nothing to move.
//! Invariant: no slice is longer than [`SLICE`] and one step.
//! Read next: `defrag.rs` in the store.

use crate::execute::Core;
use crate::memory_report::resident;
use crate::resident::Pressure;
use crate::server::Server;
use crate::stats::WorkerStats;
use crate::{alloc, clock};
use larder_config::Settings;
use larder_store::{DefragCursor, Defragged};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Longest slice of work between two turns.
const SLICE: Duration = Duration::from_micros(300);
/// How long a worker rests that found nothing to move in all its shards; each time in a row twice as long, up to
/// `REST_MAX`.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);
/// How long it takes until what was given back is seen.
const GIVEN_BACK: Duration = Duration::from_millis(200);
/// A pass that moved less than one block in so many found nothing.
const FEW: u64 = 512;
/// More waste than this, and than an eighth, wakes a worker that rests, bytes.
const WASTE_NOTICED: usize = 4 << 20;

/// What the workers share.
#[derive(Debug, Default)]
pub struct Defrag {
    /// Which share of its time each worker gives, in percent; 0 when there is nothing to do.
    percent: AtomicU32,
    /// Workers amid a pass over their shards.
    passing: AtomicUsize,
    /// Resident beyond what is in use, bytes.
    waste: AtomicUsize,
}

impl Defrag {
    /// Which share of its time each worker gives, in percent; 0 when there is nothing to do.
    #[inline]
    pub fn percent(&self) -> u32 {
        self.percent.load(Relaxed)
    }

    /// Looks whether there is something to do, and how urgently. A worker goes on to the end of its shards once it has begun.
    pub fn decide(&self, server: &'static Server, settings: &Settings, now_ms: u64) {
        let pressure = pressure(server, settings, now_ms);
        let before = self.percent();
        let percent = if settings.activedefrag() || pressure > Pressure::None {
            let (_, anonymous) = resident();
            let used = server.used_memory();
            let waste = anonymous.saturating_sub(used);
            self.waste.store(waste, Relaxed);
            match percent(settings, waste, used, pressure) {
                0 if self.passing.load(Relaxed) > 0 => before,
                percent => percent,
            }
        } else {
            0
        };
        self.percent.store(percent, Relaxed);
        if before == 0 && pressure > Pressure::None {
            give_back(server);
        }
    }
}

/// How resident memory stands to the limit that is held against it.
fn pressure(server: &Server, settings: &Settings, now_ms: u64) -> Pressure {
    match usize::try_from(settings.maxmemory()).unwrap_or(usize::MAX) {
        limit if limit > 0 && settings.maxmemory_rss() => {
            server.resident.limit(limit, server.used_memory(), now_ms);
            server.resident.pressure(limit)
        }
        _ => Pressure::None,
    }
}

/// Has what nothing lies in given back to the system, by a thread that nobody waits for.
fn give_back(server: &'static Server) {
    server.reaper.after(move || {
        server.keyspace.release_unused();
        alloc::purge();
    });
}

/// The share of its time that a worker gives when `waste` bytes are resident beyond `used`: none below the lower threshold, from the
/// least to the most between the two. Where resident memory comes close to its limit any waste is worth some work, and
/// above it the most.
fn percent(settings: &Settings, waste: usize, used: usize, pressure: Pressure) -> u32 {
    let share = waste as f64 * 100.0 / used.max(1) as f64;
    let lower = f64::from(settings.active_defrag_threshold_lower());
    let upper = f64::from(settings.active_defrag_threshold_upper());
    let is_little = share < lower || (waste as u64) < settings.active_defrag_ignore_bytes();
    let (least, most) = (settings.active_defrag_cycle_min(), settings.active_defrag_cycle_max());
    let way = match pressure {
        Pressure::None if is_little => return 0,
        Pressure::Over => 1.0,
        _ if upper > lower => ((share - lower) / (upper - lower)).clamp(0.0, 1.0),
        _ => 1.0,
    };
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
    /// What the pass that is under way has done; `None` between two.
    pass: Option<Defragged>,
    /// How long it rests between two.
    rest: Duration,
    /// The waste that passes in vain have left.
    waste_left: usize,
}

impl Defragmenter {
    /// That of `worker` of `workers`.
    pub fn new(worker: usize, workers: usize) -> Defragmenter {
        Defragmenter {
            worker: (worker, workers),
            cursor: DefragCursor::default(),
            next: None,
            pass: None,
            rest: REST,
            waste_left: usize::MAX,
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
        let defrag = &core.server.defrag;
        let percent = defrag.percent().min(99);
        let start = clock::now();
        if percent == 0 || self.next.is_some_and(|next| start < next) && !self.is_woken(defrag) {
            return;
        }
        let before = self.pass.unwrap_or_else(|| {
            defrag.passing.fetch_add(1, Relaxed);
            Defragged::default()
        });
        let mut pass = before;
        let elements_max =
            usize::try_from(core.settings.active_defrag_max_scan_fields()).unwrap_or(usize::MAX);
        let mut through = false;
        if !core.open_turn() {
            return;
        }
        while !through && start.elapsed() < SLICE {
            let (worker, cursor) = (self.worker, &mut self.cursor);
            through =
                core.server.keyspace.defrag_step(worker, cursor, elements_max, &alloc::is_sparse, &mut pass);
        }
        core.close_turn();
        count(&core.stats, &before, &pass);
        self.pass = Some(pass);
        let took = start.elapsed();
        let pause = if through { self.end_pass(core.server) } else { took * (100 - percent) / percent };
        self.next = Some(start + took + pause);
    }

    /// Whether so much more is wasted than when a pass found nothing that another may find something.
    fn is_woken(&self, defrag: &Defrag) -> bool {
        let waste = self.waste_left;
        self.pass.is_none()
            && defrag.waste.load(Relaxed) > waste.saturating_add(waste / 8).saturating_add(WASTE_NOTICED)
    }

    /// What was set free is given back; answers how long to wait for the next pass.
    fn end_pass(&mut self, server: &'static Server) -> Duration {
        let Defragged { hits, misses, .. } = self.pass.take().unwrap_or_default();
        server.defrag.passing.fetch_sub(1, Relaxed);
        give_back(server);
        if hits * FEW < hits + misses {
            (self.rest, self.waste_left) = ((self.rest * 2).min(REST_MAX), server.defrag.waste.load(Relaxed));
            self.rest
        } else {
            (self.rest, self.waste_left) = (REST, usize::MAX);
            GIVEN_BACK
        }
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
        let percent = |settings: &Settings, waste, used| percent(settings, waste, used, Pressure::None);
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
    #[test]
    fn close_to_the_limit_of_resident_memory_any_waste_is_worth_the_work() {
        const MB: usize = 1 << 20;
        let usual = settings(&["maxmemory-rss", "yes"]);
        assert_eq!(percent(&usual, MB, 1000 * MB, Pressure::Close), 1);
        assert_eq!(percent(&usual, 550 * MB, 1000 * MB, Pressure::Close), 13);
        assert_eq!(percent(&usual, MB, 1000 * MB, Pressure::Over), 25);
        assert_eq!(percent(&usual, 2000 * MB, 1000 * MB, Pressure::Over), 25);
    }
}
