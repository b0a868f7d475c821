//! One measured window, and the statistics over rounds: medians with their spread, ratios within a round.
//! Invariant: a ratio compares two servers in the same round only; machine speed drifts between rounds.
//! Read next: `rig.rs`.

use crate::outcome::Outcome;

/// One server in one round.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu_ns: u64,
    pub(crate) errors: u64,
    pub(crate) absent: u64,
    pub(crate) error_first: Option<String>,
    /// p50, p99, p99.9 and the longest, in nanoseconds.
    pub(crate) latency_ns: [u64; 4],
}

impl Sample {
    /// The sample of a run during which the server used `cpu_ns`.
    pub(crate) fn of(outcome: &Outcome, cpu_ns: u64) -> Sample {
        let percentile = |percent| outcome.latencies.percentile_ns(percent);
        Sample {
            requests: outcome.requests,
            seconds: outcome.seconds,
            cpu_ns,
            errors: outcome.errors,
            absent: outcome.absent,
            error_first: outcome.error_first.clone(),
            latency_ns: [percentile(50.0), percentile(99.0), percentile(99.9), outcome.latencies.max_ns()],
        }
    }

    /// Server CPU for each operation, in nanoseconds.
    pub(crate) fn cpu_ns_per_request(&self) -> f64 {
        self.cpu_ns as f64 / self.requests.max(1) as f64
    }

    /// Operations a second.
    pub(crate) fn per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.requests as f64 / self.seconds } else { 0.0 }
    }
}

/// The median of some numbers, with the smallest and the largest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` without numbers.
    pub(crate) fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = numbers.into_iter().filter(|number| number.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted.get((sorted.len() - 1) / 2)?, sorted.get(sorted.len() / 2)?);
        Some(Spread { median: (low + high) / 2.0, min, max })
    }

    /// The spread of `measure(a) / measure(b)`, round by round.
    pub(crate) fn of_ratios(a: &[Sample], b: &[Sample], measure: fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(a.iter().zip(b).map(|(a, b)| measure(a) / measure(b)))
    }

    /// `median [min-max]` with so many decimals.
    pub(crate) fn text(&self, decimals: usize) -> String {
        format!("{:.decimals$} [{:.decimals$}-{:.decimals$}]", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu_ns: u64) -> Sample {
        Sample {
            requests: 10,
            seconds: 2.0,
            cpu_ns,
            errors: 0,
            absent: 0,
            error_first: None,
            latency_ns: [0; 4],
        }
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN]), None);
    }

    #[test]
    fn ratios_pair_the_rounds() {
        let ours = [sample(100), sample(300), sample(90)];
        let theirs = [sample(200), sample(600), sample(100)];
        let spread = Spread::of_ratios(&ours, &theirs, Sample::cpu_ns_per_request).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (0.5, 0.5, 0.9));
        assert_eq!(ours[0].cpu_ns_per_request(), 10.0);
        assert_eq!(ours[0].per_second(), 5.0);
    }
}
