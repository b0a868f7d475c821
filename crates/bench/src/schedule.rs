//! When requests of an open loop are due. The times are fixed before the run: a slow server does not slow the
//! schedule, so that waiting counts as latency (no coordinated omission).
//! Invariant: arrival times never go back, and their mean distance is burst / rate. Read next: `load.rs`.

use crate::random::Random;

/// The shape of an open loop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrivals {
    /// Requests a second over all connections.
    pub(crate) rate: f64,
    /// Requests that arrive together, on one connection.
    pub(crate) burst: usize,
    /// Exponential distances (a Poisson process) instead of equal ones.
    pub(crate) poisson: bool,
}

/// The times of the bursts, in nanoseconds from the start.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    distance_ns: f64,
    poisson: Option<Random>,
    index: u64,
    next_ns: f64,
}

impl Schedule {
    /// The schedule of `arrivals`; the first burst is due at 0.
    pub(crate) fn new(arrivals: Arrivals) -> Schedule {
        let distance_ns = arrivals.burst as f64 / arrivals.rate * 1e9;
        Schedule { distance_ns, poisson: arrivals.poisson.then(|| Random::new(17)), index: 0, next_ns: 0.0 }
    }

    /// When the next burst is due.
    #[inline]
    pub(crate) fn next_ns(&self) -> u64 {
        self.next_ns as u64
    }

    /// Moves on to the burst after the next.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.index += 1;
        self.next_ns = match &mut self.poisson {
            // A product, not a sum: equal distances do not drift however long the run is.
            None => self.index as f64 * self.distance_ns,
            Some(random) => self.next_ns - random.unit().ln() * self.distance_ns,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_distances_do_not_drift() {
        let mut schedule = Schedule::new(Arrivals { rate: 30_000.0, burst: 1, poisson: false });
        for _ in 0..300_000_000u64 / 1000 {
            schedule.advance();
        }
        assert_eq!(schedule.next_ns(), 10_000_000_000);
    }

    #[test]
    fn a_burst_takes_the_time_of_its_requests() {
        let mut schedule = Schedule::new(Arrivals { rate: 1000.0, burst: 16, poisson: false });
        assert_eq!(schedule.next_ns(), 0);
        schedule.advance();
        assert_eq!(schedule.next_ns(), 16_000_000);
    }

    #[test]
    fn poisson_arrivals_keep_the_rate_and_vary() {
        let mut schedule = Schedule::new(Arrivals { rate: 1_000_000.0, burst: 1, poisson: true });
        let mut distances = Vec::new();
        let mut last = 0.0;
        for _ in 0..100_000 {
            schedule.advance();
            assert!(schedule.next_ns >= last);
            distances.push(schedule.next_ns - last);
            last = schedule.next_ns;
        }
        let mean = last / 100_000.0;
        assert!((mean - 1000.0).abs() < 20.0, "{mean}");
        let above = distances.iter().filter(|&&d| d > 1000.0).count();
        assert!((36_000..37_600).contains(&above), "e^-1 of them are longer than the mean: {above}");
    }
}
