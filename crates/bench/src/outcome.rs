//! What a run of load found: counts, latencies, a time line; as text and as JSON.
//! Read next: `load.rs`.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Latencies in nanoseconds, three digits exact, up to ten minutes.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
}

const LATENCY_NS_MAX: u64 = 600_000_000_000;

impl Latencies {
    /// No latency yet.
    pub(crate) fn new() -> Latencies {
        let histogram = Histogram::new_with_max(LATENCY_NS_MAX, 3).expect("constant bounds are valid");
        Latencies { histogram }
    }

    /// `count` requests took `ns`.
    #[inline]
    pub(crate) fn record(&mut self, ns: u64, count: u64) {
        self.histogram.saturating_record_n(ns, count);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.histogram.reset();
    }

    /// The latency in nanoseconds that `percent` of the requests stayed within.
    pub(crate) fn percentile_ns(&self, percent: f64) -> u64 {
        self.histogram.value_at_quantile(percent / 100.0)
    }

    /// The longest latency in nanoseconds (to three digits).
    pub(crate) fn max_ns(&self) -> u64 {
        self.histogram.max()
    }

    /// The mean in nanoseconds.
    pub(crate) fn mean_ns(&self) -> f64 {
        self.histogram.mean()
    }

    /// Adds the requests of `other`.
    pub(crate) fn merge(&mut self, other: &Latencies) {
        self.histogram.add(&other.histogram).expect("both histograms have the same bounds");
    }

    /// How many requests were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }
}

/// One step of the time line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slice {
    /// Requests answered in this step.
    pub(crate) requests: u64,
    /// The longest latency among them.
    pub(crate) latency_ns_max: u64,
}

/// The length of a step of the time line.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// The result of one run.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Requests answered within the measured window.
    pub(crate) requests: u64,
    /// Error replies within the window.
    pub(crate) errors: u64,
    /// Replies without a value within the window.
    pub(crate) absent: u64,
    /// Bytes of values received within the window.
    pub(crate) payload_bytes: u64,
    /// The text of the first error reply of the whole run.
    pub(crate) error_first: Option<String>,
    /// The window's length in seconds.
    pub(crate) seconds: f64,
    /// Latencies of the requests of the window.
    pub(crate) latencies: Latencies,
    /// Steps of [`SLICE`] from the window's start.
    pub(crate) timeline: Vec<Slice>,
    /// Requests sent over the whole run, warm-up and drain included.
    pub(crate) sent_total: u64,
    /// Replies received over the whole run.
    pub(crate) replies_total: u64,
    /// Requests that never got an answer before the drain ended; their age is in the latencies.
    pub(crate) unanswered: u64,
    /// Replies to the commands given aside.
    pub(crate) aside_replies: u64,
}

impl Outcome {
    /// Requests answered a second.
    pub(crate) fn per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.requests as f64 / self.seconds } else { 0.0 }
    }

    /// A few lines for a person.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{} requests in {:.3} s: {:.0} a second; {} errors, {} absent, {} unanswered",
            self.requests,
            self.seconds,
            self.per_second(),
            self.errors,
            self.absent,
            self.unanswered
        );
        let _ = write!(text, "latency us: mean {:.1}", self.latencies.mean_ns() / 1000.0);
        for percent in PERCENTS {
            let _ = write!(text, ", p{percent} {}", micros(self.latencies.percentile_ns(percent)));
        }
        let _ = writeln!(text, ", max {}", micros(self.latencies.max_ns()));
        if let Some(error) = &self.error_first {
            let _ = writeln!(text, "first error: {error}");
        }
        text
    }

    /// One JSON object.
    pub(crate) fn json(&self) -> String {
        let mut text = format!(
            "{{\"requests\":{},\"seconds\":{:.6},\"requests_per_second\":{:.1},\"errors\":{},\"absent\":{},\
             \"payload_bytes\":{},\"unanswered\":{},\"sent_total\":{},\"replies_total\":{},\"aside_replies\":{},\
             \"latency_ns\":{{\"count\":{},\"mean\":{:.1}",
            self.requests,
            self.seconds,
            self.per_second(),
            self.errors,
            self.absent,
            self.payload_bytes,
            self.unanswered,
            self.sent_total,
            self.replies_total,
            self.aside_replies,
            self.latencies.count(),
            self.latencies.mean_ns()
        );
        for percent in PERCENTS {
            let _ = write!(text, ",\"p{percent}\":{}", self.latencies.percentile_ns(percent));
        }
        let _ = write!(text, ",\"max\":{}}},\"timeline\":[", self.latencies.max_ns());
        for (index, slice) in self.timeline.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(text, "{comma}[{},{}]", slice.requests, slice.latency_ns_max);
        }
        let error = self.error_first.as_deref().map_or("null".to_owned(), json_string);
        let _ = write!(text, "],\"error_first\":{error}}}");
        text
    }
}

const PERCENTS: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// Nanoseconds as microseconds, with one decimal.
pub(crate) fn micros(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1000.0)
}

/// `text` as a JSON string.
pub(crate) fn json_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_to_three_digits() {
        let mut latencies = Latencies::new();
        for step in 1..=1000u64 {
            latencies.record(step * 1000, 3);
        }
        assert_eq!(latencies.count(), 3000);
        for (percent, expected) in [(50.0, 500_000.0), (99.0, 990_000.0), (99.85, 999_000.0)] {
            let got = latencies.percentile_ns(percent) as f64;
            assert!((got / expected - 1.0).abs() < 0.001, "p{percent}: {got}");
        }
        assert!((latencies.max_ns() as f64 / 1_000_000.0 - 1.0).abs() < 0.001);
        assert!((latencies.mean_ns() / 500_500.0 - 1.0).abs() < 0.001);
        latencies.clear();
        assert_eq!(latencies.count(), 0);
    }

    #[test]
    fn merged_latencies_are_those_of_both() {
        let (mut short, mut long) = (Latencies::new(), Latencies::new());
        short.record(1_000, 99);
        long.record(9_000_000, 1);
        short.merge(&long);
        assert_eq!(short.count(), 100);
        assert_eq!((short.percentile_ns(99.0) / 10, short.max_ns() / 100_000), (100, 90));
    }

    #[test]
    fn a_latency_beyond_the_range_counts_as_the_longest() {
        let mut latencies = Latencies::new();
        latencies.record(u64::MAX, 1);
        assert_eq!(latencies.count(), 1);
        assert!(latencies.max_ns() >= LATENCY_NS_MAX - LATENCY_NS_MAX / 500);
    }

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(json_string("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
    }
}
