//! How often each error was answered, by its code: what INFO errorstats shows.
//!
//! Scripts make up codes, so their number is bounded: where there are more, nothing is counted by its code
//! any more until the statistics start again, as in Redis. Each worker has its own, so the lock is never waited
//! for on the path of a command.

use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Codes told apart.
const CODES_MAX: usize = 128;
/// Bytes in which the blank behind a code is looked for: Redis looks at 32, with the minus sign in front.
const CODE_BYTES_MAX: usize = 31;
/// The code of an error that says none.
const NO_CODE: &[u8] = b"ERR";
/// What is shown where there were more codes than are told apart.
const DISABLED: &[u8] = b"ERRORSTATS_DISABLED";

/// Counts by code.
type Counts = BTreeMap<Box<[u8]>, u64>;

/// Errors answered, by code.
#[derive(Debug, Default)]
pub struct ErrorCounts(Mutex<Counts>);

impl ErrorCounts {
    /// Counts an error reply; `text` is what follows the minus sign.
    #[cold]
    pub fn add(&self, text: &[u8]) {
        let mut counts = self.0.lock();
        if counts.contains_key(DISABLED) {
            return;
        }
        *counts.entry(code_of(text).into()).or_default() += 1;
        bound(&mut counts);
    }

    /// The counts of all workers.
    pub fn sum<'a>(all: impl Iterator<Item = &'a ErrorCounts>) -> Counts {
        let mut sum = Counts::new();
        for counts in all {
            for (code, count) in counts.0.lock().iter() {
                *sum.entry(code.clone()).or_default() += count;
            }
        }
        bound(&mut sum);
        sum
    }

    /// Starts again from nothing.
    pub fn reset(&self) {
        self.0.lock().clear();
    }
}

/// Gives up where there are too many codes, or one of the workers has given up.
fn bound(counts: &mut Counts) {
    if counts.len() > CODES_MAX || counts.contains_key(DISABLED) {
        *counts = Counts::from([(DISABLED.into(), 1)]);
    }
}

/// The first word of an error's text.
fn code_of(text: &[u8]) -> &[u8] {
    let head = text.get(..CODE_BYTES_MAX).unwrap_or(text);
    head.iter().position(|byte| *byte == b' ').and_then(|end| head.get(..end)).unwrap_or(NO_CODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(counts: &[ErrorCounts]) -> Vec<(String, u64)> {
        let sum = ErrorCounts::sum(counts.iter());
        sum.into_iter().map(|(code, count)| (String::from_utf8(code.into()).unwrap(), count)).collect()
    }

    #[test]
    fn errors_are_counted_by_their_first_word() {
        let counts = [ErrorCounts::default(), ErrorCounts::default()];
        counts[0].add(b"WRONGTYPE Operation against a key");
        counts[0].add(b"ERR no such key");
        counts[1].add(b"ERR syntax error");
        counts[1].add(b"word");
        counts[0].add(format!("{} x", "A".repeat(30)).as_bytes());
        counts[0].add(format!("{} x", "A".repeat(31)).as_bytes());
        assert_eq!(shown(&counts), [("A".repeat(30), 1), ("ERR".into(), 4), ("WRONGTYPE".into(), 1)]);
    }

    #[test]
    fn of_too_many_codes_nothing_is_shown() {
        let counts = [ErrorCounts::default(), ErrorCounts::default()];
        (0..64).for_each(|number| counts[0].add(format!("A{number} text").as_bytes()));
        (0..64).for_each(|number| counts[1].add(format!("B{number} text").as_bytes()));
        assert_eq!(shown(&counts).len(), CODES_MAX);
        counts[0].add(b"ONE more");
        let disabled = [("ERRORSTATS_DISABLED".to_owned(), 1)];
        assert_eq!(shown(&counts), disabled);
        (0..300).for_each(|number| counts[0].add(format!("A{number} text").as_bytes()));
        assert_eq!(shown(&counts[..1]), disabled);
        assert_eq!(shown(&counts), disabled);
        counts.iter().for_each(ErrorCounts::reset);
        counts[1].add(b"ERR no such key");
        assert_eq!(shown(&counts), [("ERR".to_owned(), 1)]);
    }
}
