//! How often each error was answered, by its code: what INFO errorstats shows.
//!
//! Scripts and modules make up codes, so their number is bounded: beyond the bound everything new
//! is counted under one code. Each worker has its own, so the lock is never waited for on the path
//! of a command.

use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Codes told apart, as in Redis.
const CODES_MAX: usize = 128;
/// Bytes in which the blank behind a code is looked for.
const CODE_BYTES_MAX: usize = 32;
/// The code of an error that says none.
const NO_CODE: &[u8] = b"ERR";
/// The code of all errors beyond the bound.
const OVERFLOW: &[u8] = b"ERRORSTATS_OVERFLOW";

/// Errors answered, by code.
#[derive(Debug, Default)]
pub struct ErrorCounts(Mutex<BTreeMap<Box<[u8]>, u64>>);

impl ErrorCounts {
    /// Counts an error reply; `text` is what follows the minus sign.
    #[cold]
    pub fn add(&self, text: &[u8]) {
        let mut counts = self.0.lock();
        let code = code_of(text);
        let code = if counts.contains_key(code) || counts.len() < CODES_MAX { code } else { OVERFLOW };
        *counts.entry(code.into()).or_default() += 1;
    }

    /// Adds the counts to others.
    pub fn add_to(&self, sum: &mut BTreeMap<Box<[u8]>, u64>) {
        for (code, count) in self.0.lock().iter() {
            *sum.entry(code.clone()).or_default() += count;
        }
    }

    /// Starts again from nothing.
    pub fn reset(&self) {
        self.0.lock().clear();
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

    #[test]
    fn errors_are_counted_by_their_first_word_and_no_more_codes_than_the_bound() {
        let counts = ErrorCounts::default();
        counts.add(b"WRONGTYPE Operation against a key");
        counts.add(b"ERR no such key");
        counts.add(b"ERR syntax error");
        counts.add(b"word");
        (0..300).for_each(|number| counts.add(format!("CODE{number} text").as_bytes()));
        let mut sum = BTreeMap::new();
        counts.add_to(&mut sum);
        assert_eq!(sum.get(&b"WRONGTYPE"[..]), Some(&1));
        assert_eq!(sum.get(&b"ERR"[..]), Some(&3));
        assert_eq!(sum.get(OVERFLOW), Some(&(300 - 126)));
        assert_eq!(sum.len(), CODES_MAX + 1);
        counts.reset();
        sum.clear();
        counts.add_to(&mut sum);
        assert!(sum.is_empty());
    }
}
