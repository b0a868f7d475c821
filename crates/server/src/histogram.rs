//! How long a command takes: a histogram of durations, kept per worker and command.
//!
//! Buckets are a thirty-second of a power of two wide, so a percentile is right to 3 %; up to a
//! microsecond they are 32 ns wide. Memory is taken when a command is first measured, since most
//! commands never are. One thread writes, any thread reads.

use larder_store::Counter;
use std::sync::OnceLock;

/// Buckets in a power of two.
const SUB: usize = 32;
/// Durations below 2 to this, in nanoseconds, share the first, linear block of buckets.
const LINEAR_BITS: u32 = 10;
/// Powers of two beyond the linear block; the last bucket takes what is longer (about 18 minutes).
const POWERS: usize = 30;
/// All buckets.
const BUCKETS: usize = SUB * (POWERS + 1);

/// The durations of one command on one worker.
#[derive(Debug, Default)]
pub struct Histogram(OnceLock<Box<[Counter]>>);

impl Histogram {
    /// Counts `times` runs of this duration. Only the owning thread may call this. O(1).
    #[inline]
    pub fn record(&self, nanos: u64, times: u64) {
        let buckets = self.0.get_or_init(|| (0..BUCKETS).map(|_| Counter::default()).collect());
        if let Some(bucket) = buckets.get(bucket_of(nanos)) {
            bucket.add(times);
        }
    }

    /// Starts again from zero.
    pub fn reset(&self) {
        self.0.get().into_iter().flatten().for_each(Counter::reset);
    }
}

/// The bucket that a duration falls into.
#[inline]
fn bucket_of(nanos: u64) -> usize {
    if nanos < 1 << LINEAR_BITS {
        return (nanos >> (LINEAR_BITS - SUB.ilog2())) as usize;
    }
    let power = nanos.ilog2();
    let sub = (nanos >> (power - SUB.ilog2())) as usize & (SUB - 1);
    (SUB * (power - LINEAR_BITS + 1) as usize + sub).min(BUCKETS - 1)
}

/// The longest duration that falls into a bucket, in nanoseconds.
fn longest_of(bucket: usize) -> u64 {
    let (block, sub) = (bucket / SUB, bucket as u64 % SUB as u64);
    match block.checked_sub(1) {
        None => ((sub + 1) << (LINEAR_BITS - SUB.ilog2())) - 1,
        Some(power) => ((SUB as u64 + sub + 1) << (LINEAR_BITS - SUB.ilog2() + power as u32)) - 1,
    }
}

/// The durations of one command on all workers, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durations {
    counts: Vec<u64>,
    /// Runs counted.
    pub total: u64,
}

impl Durations {
    /// Sums histograms up. O(buckets x histograms).
    pub fn sum<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Durations {
        let mut counts = vec![0; BUCKETS];
        for buckets in histograms.filter_map(|histogram| histogram.0.get()) {
            counts.iter_mut().zip(buckets).for_each(|(count, bucket)| *count += bucket.get());
        }
        let total = counts.iter().sum();
        Durations { counts, total }
    }

    /// A duration, in nanoseconds, that `percent` of the runs did not pass; zero when there were none.
    pub fn percentile(&self, percent: f64) -> u64 {
        // A share of a count: rounding it by a run is within what a percentile says.
        let rank = ((percent / 100.0 * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return longest_of(bucket);
            }
        }
        0
    }

    /// The distribution as LATENCY HISTOGRAM shows it: pairs of microseconds and the number of runs
    /// that took no longer, for each power of two that adds runs.
    pub fn cumulative(&self) -> Vec<(u64, u64)> {
        let (mut points, mut seen) = (Vec::new(), 0);
        for (power, block) in self.counts.chunks(SUB).enumerate() {
            let count: u64 = block.iter().sum();
            if count > 0 {
                seen += count;
                points.push((shown_micros(power as u32), seen));
            }
        }
        points
    }
}

/// The number by which Redis names the bucket of durations below 2^(10 + power) nanoseconds: the
/// longest duration its own histogram, exact to one part in 128, can't tell from that bound.
fn shown_micros(power: u32) -> u64 {
    ((1032 << power) - 1) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_in_its_bucket_and_no_earlier_one() {
        let durations = (0..40).flat_map(|power| [1u64 << power, (1 << power) + 1, (2 << power) - 1]);
        for nanos in durations.filter(|nanos| *nanos < 1 << 40) {
            let bucket = bucket_of(nanos);
            assert!(nanos <= longest_of(bucket), "{nanos}");
            assert!(bucket == 0 || nanos > longest_of(bucket - 1), "{nanos}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_right_to_three_percent() {
        let histogram = Histogram::default();
        (1..=1000).for_each(|micros| histogram.record(micros * 1000, 1));
        let durations = Durations::sum([&histogram].into_iter());
        assert_eq!(durations.total, 1000);
        for (percent, exact) in
            [(50.0, 500_000.0), (99.0, 990_000.0), (99.9, 999_000.0), (100.0, 1_000_000.0)]
        {
            let found = durations.percentile(percent) as f64;
            assert!((exact..exact * 1.035).contains(&found), "p{percent}: {found}");
        }
    }

    #[test]
    fn powers_of_two_are_named_as_redis_names_them() {
        let histogram = Histogram::default();
        for nanos in [500, 1_500, 3_000, 30_000, 31_000, 200_000] {
            histogram.record(nanos, 2);
        }
        let durations = Durations::sum([&histogram, &Histogram::default()].into_iter());
        assert_eq!(durations.cumulative(), [(1, 2), (2, 4), (4, 6), (33, 10), (264, 12)]);
        histogram.reset();
        assert_eq!(Durations::sum([&histogram].into_iter()).total, 0);
    }
}
