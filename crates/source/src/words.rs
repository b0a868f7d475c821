//! Reading `source` and `route` lines: options by name, durations and sizes as people write them.

use std::fmt;
use std::time::Duration;

/// What is wrong with a line, and at which of its words (counted from 0 behind the directive).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LineError {
    /// What is wrong, and what to write instead.
    pub what: String,
    /// The word.
    pub word: usize,
}

impl LineError {
    pub(crate) fn new(word: usize, what: impl Into<String>) -> LineError {
        LineError { what: what.into(), word }
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "word {}: {}", self.word + 1, self.what)
    }
}

impl std::error::Error for LineError {}

/// The words of a line, read one by one.
#[derive(Debug)]
pub(crate) struct Words<'w> {
    words: &'w [String],
    at: usize,
}

impl<'w> Words<'w> {
    pub(crate) fn new(words: &'w [String]) -> Words<'w> {
        Words { words, at: 0 }
    }

    /// The number of the word that was read last.
    pub(crate) fn place(&self) -> usize {
        self.at.saturating_sub(1)
    }

    pub(crate) fn next(&mut self) -> Option<&'w str> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    /// The next word; `what` says what it should have been.
    pub(crate) fn expect(&mut self, what: &str) -> Result<&'w str, LineError> {
        self.next().ok_or_else(|| LineError::new(self.at, format!("{what} is missing here")))
    }

    /// The value of the option that was read last.
    pub(crate) fn value(&mut self, option: &str) -> Result<&'w str, LineError> {
        self.next().ok_or_else(|| LineError::new(self.at, format!("the value of '{option}' is missing")))
    }

    pub(crate) fn read<T>(
        &mut self,
        option: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, LineError> {
        let word = self.value(option)?;
        read(word).map_err(|what| LineError::new(self.place(), format!("'{option}': {what}")))
    }
}

/// `300` (seconds), `250ms`, `10s`, `5m`, `2h`, `1d`. At most 10 years.
pub(crate) fn duration(word: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    const MAX_MS: u64 = 10 * 365 * 86_400_000;
    let digits = word.find(|ch: char| !ch.is_ascii_digit()).unwrap_or(word.len());
    let (number, unit) = word.split_at(digits);
    let scale = if unit.is_empty() {
        Some(1000)
    } else {
        UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale)
    };
    let millis = number.parse::<u64>().ok().zip(scale).and_then(|(number, scale)| number.checked_mul(scale));
    match millis {
        Some(millis) if millis <= MAX_MS => Ok(Duration::from_millis(millis)),
        _ => Err(format!("'{word}' is no duration (like 250ms, 10s, 5m, 2h, 1d; at most 10 years)")),
    }
}

/// A duration as the line holds it, in the largest unit that is exact.
pub(crate) fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, scale) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if millis != 0 && millis.is_multiple_of(scale) {
            return format!("{}{unit}", millis / scale);
        }
    }
    format!("{millis}ms")
}

/// A whole number within bounds.
pub(crate) fn number(word: &str, min: u64, max: u64) -> Result<u64, String> {
    match word.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("'{word}' is no whole number from {min} to {max}")),
    }
}

/// Bytes: `1048576`, `64k`, `8mb`; at most a gigabyte.
pub(crate) fn bytes(word: &str) -> Result<usize, String> {
    let size = bytes_in(word).filter(|size| (1..=1 << 30).contains(size));
    size.ok_or_else(|| format!("'{word}' is no size from 1 to 1gb"))
}

/// Bytes, however many.
pub(crate) fn large_bytes(word: &str) -> Result<usize, String> {
    bytes_in(word).filter(|size| *size > 0).ok_or_else(|| format!("'{word}' is no size (like 512mb, 4gb)"))
}

fn bytes_in(word: &str) -> Option<usize> {
    const UNITS: [(&str, usize); 7] = [
        ("gb", 1 << 30),
        ("mb", 1 << 20),
        ("kb", 1 << 10),
        ("g", 1 << 30),
        ("m", 1 << 20),
        ("k", 1 << 10),
        ("b", 1),
    ];
    let lower = word.to_ascii_lowercase();
    let (number, scale) = UNITS
        .iter()
        .find_map(|(unit, scale)| lower.strip_suffix(unit).map(|number| (number, *scale)))
        .unwrap_or((&lower, 1));
    number.parse::<usize>().ok().and_then(|number| number.checked_mul(scale))
}

/// `yes` or `no`.
pub(crate) fn yes(word: &str) -> Result<bool, String> {
    match word {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(format!("'{word}' is neither yes nor no")),
    }
}

/// The name nearest to `word`, if one is near.
pub(crate) fn nearest<'n>(word: &str, names: &[&'n str]) -> Option<&'n str> {
    let distance = |name: &str| {
        let (a, b) = (word.as_bytes(), name.as_bytes());
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (i, ca) in a.iter().enumerate() {
            let mut before = row[0];
            row[0] = i + 1;
            for (j, cb) in b.iter().enumerate() {
                let cost = (before + usize::from(ca != cb)).min(row[j] + 1).min(row[j + 1] + 1);
                before = std::mem::replace(&mut row[j + 1], cost);
            }
        }
        row[b.len()]
    };
    let best = names.iter().min_by_key(|name| distance(name))?;
    (word.len() <= 64 && distance(best) <= 3).then_some(best)
}

/// The error for an option that there is not.
pub(crate) fn unknown(place: usize, word: &str, names: &[&str]) -> LineError {
    let hint = match nearest(word, names) {
        Some(near) => format!("; did you mean '{near}'?"),
        None => format!("; there are {}", names.join(", ")),
    };
    LineError::new(place, format!("there is no option '{word}' here{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, millis) in [("300", 300_000), ("250ms", 250), ("5m", 300_000), ("2h", 7_200_000), ("0", 0)]
        {
            let read = duration(text).expect(text);
            assert_eq!(read.as_millis(), millis);
            assert_eq!(duration(&duration_text(read)), Ok(read));
        }
        for text in ["", "m", "1w", "-1", "1.5s", "99999999999d", "1 s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!((bytes("64k"), bytes("8MB"), bytes("17")), (Ok(65_536), Ok(8 << 20), Ok(17)));
        assert!(bytes("0").is_err() && bytes("2gb").is_err() && bytes("x").is_err());
        assert_eq!(large_bytes("2gb"), Ok(2 << 30));
        assert!(large_bytes("0").is_err() && large_bytes("99999999999999gb").is_err());
    }

    #[test]
    fn what_was_meant_is_found() {
        assert_eq!(nearest("tll", &["ttl", "query"]), Some("ttl"));
        assert_eq!(nearest("something", &["ttl", "query"]), None);
    }
}
