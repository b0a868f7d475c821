//! The only file that reads a clock.

use larder_store::Millis;
use quanta::Clock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub fn unix_millis() -> Millis {
    Millis(u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX))
}

/// Microseconds since the Unix epoch.
pub fn unix_micros() -> u64 {
    u64::try_from(since_epoch().as_micros()).unwrap_or(u64::MAX)
}

fn since_epoch() -> Duration {
    // A clock before 1970 counts as 1970.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A moment for measuring how long something takes.
pub fn now() -> Instant {
    Instant::now()
}

/// Lets the calling thread do nothing for so long.
pub fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

/// Measures commands by the processor's time-stamp counter.
#[derive(Debug, Clone)]
pub struct Stopwatch {
    clock: Clock,
}

impl Stopwatch {
    /// Calibrated once per process, shared by its clones.
    pub fn new() -> Self {
        Stopwatch { clock: Clock::new() }
    }

    /// The counter now.
    #[inline]
    pub fn ticks(&self) -> u64 {
        self.clock.raw()
    }

    /// Nanoseconds between two readings.
    #[inline]
    pub fn nanos(&self, from: u64, to: u64) -> u64 {
        self.clock.delta_as_nanos(from, to)
    }
}
