//! A file of commands, read piece by piece: what is at hand is looked at, and more is asked for where it is not enough.
//!
//! What is between commands: annotations, lines that begin with `#`. Read next: [`Scan`] for a whole file.

use super::command::{WORD_BYTES_MAX, WORDS_MAX};
use std::ops::Range;

/// An annotation longer than this is none.
const LINE_BYTES_MAX: usize = 1024;

/// What a log goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A command: so many bytes, and where its words lie in them.
    Command(usize, Vec<Range<usize>>),
    /// An annotation of so many bytes, its line end included.
    Annotation(usize),
    /// It is not all there yet.
    Incomplete,
    /// It is none.
    Damaged(Damage),
}

/// What is wrong, and how many bytes behind the start of what was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub at: usize,
    /// What.
    pub what: &'static str,
}

fn damaged(at: usize, what: &'static str) -> Next {
    Next::Damaged(Damage { at, what })
}

/// Looks at the start of `bytes`.
#[must_use]
pub fn next(bytes: &[u8]) -> Next {
    match bytes.first() {
        None => return Next::Incomplete,
        Some(b'#') => {
            return match bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') {
                Some(end) => Next::Annotation(end + 1),
                None if bytes.len() >= LINE_BYTES_MAX => damaged(0, "an annotation without an end"),
                None => Next::Incomplete,
            };
        }
        Some(b'*') => {}
        Some(_) => return damaged(0, "a command begins with '*'"),
    }
    let (words, mut at) = match length(bytes, 0, b'*', WORDS_MAX) {
        Ok(Some(found)) => found,
        Ok(None) => return Next::Incomplete,
        Err(damage) => return Next::Damaged(damage),
    };
    if words == 0 {
        return damaged(0, "a command has at least a name");
    }
    // No more room than what is there can fill.
    let mut spans = Vec::with_capacity(words.min(bytes.len() / 4));
    for _ in 0..words {
        let (len, from) = match length(bytes, at, b'$', WORD_BYTES_MAX) {
            Ok(Some(found)) => found,
            Ok(None) => return Next::Incomplete,
            Err(damage) => return Next::Damaged(damage),
        };
        let to = from + len;
        match bytes.get(to..to + 2) {
            Some(b"\r\n") => {}
            Some(_) => return damaged(to, "a word ends with a line end"),
            None => return Next::Incomplete,
        }
        spans.push(from..to);
        at = to + 2;
    }
    Next::Command(at, spans)
}

/// A length behind its sign at `at`, and where what has it begins. `None`: not all there.
fn length(bytes: &[u8], at: usize, sign: u8, most: usize) -> Result<Option<(usize, usize)>, Damage> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(first) = rest.first() else { return Ok(None) };
    if *first != sign {
        let what = if sign == b'$' { "a word begins with '$'" } else { "a command begins with '*'" };
        return Err(Damage { at, what });
    }
    let mut number = 0_usize;
    for (index, byte) in rest.iter().enumerate().skip(1) {
        match byte {
            b'0'..=b'9' => {
                number = number.saturating_mul(10).saturating_add(usize::from(byte - b'0'));
                if number > most {
                    return Err(Damage { at, what: "a length beyond all limits" });
                }
            }
            b'\r' if index > 1 => {
                return match rest.get(index + 1) {
                    Some(b'\n') => Ok(Some((number, at + index + 2))),
                    Some(_) => Err(Damage { at: at + index, what: "a length ends with a line end" }),
                    None => Ok(None),
                };
            }
            _ => return Err(Damage { at: at + index, what: "a length consists of digits" }),
        }
        if index > 20 {
            return Err(Damage { at, what: "a length beyond all limits" });
        }
    }
    Ok(None)
}

/// The time that an annotation tells, in seconds of Unix time; `None` where it tells something else.
#[must_use]
pub fn timestamp(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"#TS:")?.trim_ascii_end();
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        byte.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
    })
}

/// How far a log is good: fed with what is found, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// Up to here everything is whole: behind the last command that is no part of a transaction, or the last EXEC.
    pub good: u64,
    /// Up to here everything has been read.
    pub read: u64,
    /// A transaction is open.
    pub in_transaction: bool,
    /// Commands so far.
    pub commands: u64,
}

/// What [`Scan::feed`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Go on behind so many bytes.
    Piece(usize),
    /// More bytes are needed.
    More,
    /// The time that what follows is of, in seconds of Unix time, and the annotation's length.
    Time(u64, usize),
    /// It is no log here.
    Damaged(Damage),
}

impl Scan {
    /// Looks at what follows what was read so far.
    pub fn feed(&mut self, bytes: &[u8]) -> Found {
        match next(bytes) {
            Next::Incomplete => Found::More,
            Next::Damaged(damage) => Found::Damaged(damage),
            Next::Annotation(len) => {
                self.read += len as u64;
                let line = bytes.get(..len).unwrap_or_default();
                match timestamp(line) {
                    Some(secs) => Found::Time(secs, len),
                    None => {
                        self.settle();
                        Found::Piece(len)
                    }
                }
            }
            Next::Command(len, words) => {
                let command = bytes.get(..len).unwrap_or_default();
                if let Err(what) = self.feed_command(command, &words) {
                    return Found::Damaged(Damage { at: 0, what });
                }
                Found::Piece(len)
            }
        }
    }

    /// Notes an annotation.
    pub fn pass(&mut self, len: usize) {
        self.read += len as u64;
        self.settle();
    }

    /// Notes a command that was found.
    ///
    /// # Errors
    /// Where it cannot follow what was before.
    pub fn feed_command(&mut self, bytes: &[u8], words: &[Range<usize>]) -> Result<(), &'static str> {
        let name = words.first().and_then(|span| bytes.get(span.clone())).unwrap_or_default();
        if name.eq_ignore_ascii_case(b"multi") {
            if self.in_transaction {
                return Err("MULTI inside of MULTI");
            }
            self.in_transaction = true;
        } else if name.eq_ignore_ascii_case(b"exec") {
            if !self.in_transaction {
                return Err("EXEC without MULTI");
            }
            self.in_transaction = false;
        }
        self.commands += 1;
        self.pass(bytes.len());
        Ok(())
    }

    fn settle(&mut self) {
        if !self.in_transaction {
            self.good = self.read;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{append, append_timestamp};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            commands in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6), 1..10),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for words in &commands {
                append(&mut bytes, words.iter().map(Vec::as_slice));
                ends.push(bytes.len());
            }
            let mut at = 0;
            for words in &commands {
                let Next::Command(len, spans) = next(&bytes[at..]) else { panic!("no command") };
                let read: Vec<&[u8]> = spans.into_iter().map(|span| &bytes[at..][span]).collect();
                let written: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                prop_assert_eq!(read, written);
                at += len;
            }
            prop_assert_eq!(at, bytes.len());
            // What is cut off is incomplete, wherever it is.
            let cut = cut.index(bytes.len());
            let start = *ends.iter().rev().find(|end| **end <= cut).unwrap();
            prop_assert_eq!(next(&bytes[start..cut]), Next::Incomplete);
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), b'0'..=b'9'], 0..60)) {
            let mut scan = Scan::default();
            let mut at = 0;
            while let Found::Piece(len) | Found::Time(_, len) = scan.feed(&bytes[at..]) {
                at += len;
            }
            prop_assert!(scan.good <= scan.read && scan.read <= bytes.len() as u64);
        }
    }

    #[test]
    fn damage_is_told_with_its_place() {
        for (bytes, at) in [
            (&b"x"[..], 0),
            (b"*0\r\n", 0),
            (b"*x\r\n", 1),
            (b"*1\r\n+3", 4),
            (b"*1\r\n$1\r\nab\r\n", 9),
            (b"*1\r\n$99999999999999999999\r\n", 4),
            (b"*-1\r\n", 1),
        ] {
            let Next::Damaged(damage) = next(bytes) else { panic!("{bytes:?}: {:?}", next(bytes)) };
            assert_eq!(damage.at, at, "{bytes:?}");
        }
    }

    #[test]
    fn a_transaction_is_good_as_a_whole() {
        let mut bytes = Vec::new();
        let word = |bytes: &mut Vec<u8>, text: &'static str| append(bytes, [text.as_bytes()].into_iter());
        word(&mut bytes, "PING");
        append_timestamp(&mut bytes, 12);
        let good = bytes.len() as u64 - "#TS:12\r\n".len() as u64;
        word(&mut bytes, "MULTI");
        word(&mut bytes, "PING");
        let mut scan = Scan::default();
        let mut at = 0;
        let mut times = Vec::new();
        loop {
            match scan.feed(&bytes[at..]) {
                Found::Piece(len) => at += len,
                Found::Time(secs, len) => {
                    times.push(secs);
                    at += len;
                }
                Found::More => break,
                Found::Damaged(damage) => panic!("{damage:?}"),
            }
        }
        assert_eq!((scan.good, scan.read, scan.in_transaction), (good, bytes.len() as u64, true));
        assert_eq!(times, [12]);
    }
}
