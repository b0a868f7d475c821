//! What happens in a second: a few counters sampled ten times a second, and the mean of the last
//! samples.

use crate::stats::WorkerStats;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Samples kept, as in Redis.
const SAMPLES: usize = 16;
/// Milliseconds between two samples.
const PERIOD_MS: u64 = 100;
/// Counters sampled.
const METRICS: usize = 5;

/// Rates of the last one and a half seconds, in units a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Commands carried out.
    pub commands: f64,
    /// Bytes read from clients.
    pub bytes_in: f64,
    /// Bytes sent to clients.
    pub bytes_out: f64,
    /// Turns of the event loops.
    pub turns: f64,
    /// Nanoseconds spent in turns.
    pub busy_nanos: f64,
}

/// Samples the counters whose rates are told.
#[derive(Debug, Default)]
pub struct Sampler {
    next_ms: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken_ms: u64,
    last: [u64; METRICS],
    rates: [[f64; METRICS]; SAMPLES],
    count: usize,
}

impl Rates {
    /// The mean length of a turn, in microseconds.
    pub fn turn_micros(&self) -> f64 {
        if self.turns == 0.0 { 0.0 } else { self.busy_nanos / self.turns / 1000.0 }
    }
}

impl Sampler {
    /// Takes a sample if it is time to; `now_ms` is any clock of milliseconds that doesn't jump far.
    #[inline]
    pub fn sample(&self, now_ms: u64, totals: impl FnOnce() -> [u64; METRICS]) {
        if now_ms >= self.next_ms.load(Relaxed) {
            self.next_ms.store(now_ms + PERIOD_MS, Relaxed);
            self.state.lock().add(now_ms, totals());
        }
    }

    /// The mean of the last samples.
    pub fn rates(&self) -> Rates {
        let state = self.state.lock();
        let samples = state.count.min(SAMPLES);
        let mean = |metric: usize| {
            let sum: f64 = state.rates.iter().take(samples).map(|rates| rates[metric]).sum();
            if samples == 0 { 0.0 } else { sum / samples as f64 }
        };
        Rates {
            commands: mean(0),
            bytes_in: mean(1),
            bytes_out: mean(2),
            turns: mean(3),
            busy_nanos: mean(4),
        }
    }

    /// Forgets all samples, because the counters start again from zero.
    pub fn reset(&self) {
        *self.state.lock() = State::default();
    }
}

impl State {
    fn add(&mut self, now_ms: u64, totals: [u64; METRICS]) {
        let elapsed_ms = now_ms.saturating_sub(self.taken_ms);
        // The first sample after a start has nothing to be compared with.
        if self.taken_ms != 0 && elapsed_ms != 0 {
            let slot = &mut self.rates[self.count % SAMPLES];
            for (metric, rate) in slot.iter_mut().enumerate() {
                *rate = totals[metric].saturating_sub(self.last[metric]) as f64 * 1000.0 / elapsed_ms as f64;
            }
            self.count += 1;
        }
        (self.taken_ms, self.last) = (now_ms, totals);
    }
}

/// The counters that are sampled, summed over the workers.
pub fn totals<'a>(workers: impl Iterator<Item = &'a WorkerStats>) -> [u64; METRICS] {
    workers.fold([0; METRICS], |sum, stats| {
        let counters = [&stats.commands, &stats.bytes_in, &stats.bytes_out, &stats.turns, &stats.busy_nanos];
        std::array::from_fn(|metric| sum[metric] + counters[metric].get())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_the_mean_of_the_last_samples() {
        let sampler = Sampler::default();
        assert_eq!(sampler.rates(), Rates::default());
        sampler.sample(1_000, || [5, 0, 0, 0, 0]);
        sampler.sample(1_050, || unreachable!("it is not time yet"));
        assert_eq!(sampler.rates(), Rates::default());
        sampler.sample(1_200, || [25, 2_000, 0, 2, 5_000]);
        assert_eq!(
            sampler.rates(),
            Rates { commands: 100.0, bytes_in: 10_000.0, bytes_out: 0.0, turns: 10.0, busy_nanos: 25_000.0 }
        );
        sampler.sample(1_300, || [25, 2_000, 0, 2, 5_000]);
        assert_eq!(sampler.rates().commands, 50.0);
        assert_eq!(sampler.rates().turn_micros(), 2.5);
        for step in 1..=16 {
            sampler.sample(1_300 + step * 100, || [25 + step, 2_000, 0, 2, 5_000]);
        }
        assert_eq!(sampler.rates(), Rates { commands: 10.0, ..Rates::default() });
        sampler.reset();
        assert_eq!(sampler.rates(), Rates::default());
    }
}
