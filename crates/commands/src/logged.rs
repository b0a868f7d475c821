//! What commands are logged as, where that is not as they were asked.
//!
//! A log that is replayed knows no clock, no random numbers and nobody who waits: times become moments, members that were chosen
//! are named, commands that wait become their sisters that do not. All as Redis does it, byte for byte.

use crate::args::Args;
use crate::cx::Ctx;
use larder_store::{Hashed, Item, Log, Millis, Note};
use larder_values::number;

/// A number as text.
pub(crate) struct Digits {
    bytes: [u8; 20],
    from: usize,
}

impl Digits {
    /// The decimal digits of a number.
    pub(crate) fn of(number: u64) -> Digits {
        let (mut bytes, mut from, mut left) = ([b'0'; 20], 20, number);
        loop {
            from -= 1;
            if let Some(digit) = bytes.get_mut(from) {
                *digit = b'0' + (left % 10) as u8;
            }
            left /= 10;
            if left == 0 {
                return Digits { bytes, from };
            }
        }
    }

    /// Its text.
    pub(crate) fn text(&self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or_default()
    }
}

impl Ctx<'_> {
    /// Whether it matters what the command is logged as.
    #[inline]
    pub(crate) fn is_logged(&self) -> bool {
        self.db.local.effects.log.is_on()
    }

    /// What the command is logged as.
    #[inline]
    pub(crate) fn log(&mut self) -> &mut Log {
        &mut self.db.local.effects.log
    }

    /// Logs the command as these words.
    #[inline]
    pub(crate) fn log_instead<const N: usize>(&mut self, words: [&[u8]; N]) {
        if self.is_logged() {
            self.log().instead_of(words);
        }
    }

    /// Logs another command before this one, on the same database.
    pub(crate) fn log_also<const N: usize>(&mut self, words: [&[u8]; N]) {
        let db = self.db.index();
        self.log().also(db, words);
    }

    /// Logs the command as what came of it: that the key holds this string now, or nothing.
    pub(crate) fn log_outcome(&mut self, key: &Hashed<'_>) {
        if !self.is_logged() {
            return;
        }
        self.log().nothing();
        let db = self.db.index();
        let mut scratch = Vec::new();
        let item = self.db.peek(key).filter(Item::is_whole);
        let held = item.and_then(|item| {
            let value = item.string().ok()?.bytes(&mut scratch).to_vec();
            Some((value, item.deadline(), item.note().filter(Note::is_lasting)))
        });
        let Some((value, end, note)) = held else { return self.log().also(db, [b"DEL", key.bytes]) };
        let end = end.map(|end| Digits::of(end.0));
        let mut words = vec![&b"SET"[..], key.bytes, &value];
        if let Some(end) = &end {
            words.extend([&b"PXAT"[..], end.text()]);
        }
        match note {
            Some(note) => self.log().also_noted(db, &note, words.into_iter()),
            None => self.log().also_all(db, words.into_iter()),
        }
    }

    /// Logs the command as it was asked, but for some words.
    pub(crate) fn log_with(&mut self, args: &Args<'_>, others: &[(usize, &[u8])]) {
        if !self.is_logged() {
            return;
        }
        let mut words: Vec<&[u8]> = args.from(0).collect();
        for (index, word) in others {
            if let Some(place) = words.get_mut(*index) {
                *place = word;
            }
        }
        self.log().instead(words.into_iter());
    }

    /// Logs that the command gave a key an end, under the conditions that it names.
    pub(crate) fn log_end(&mut self, key: &[u8], at: Millis, conditions: &Args<'_>) {
        if !self.is_logged() {
            return;
        }
        let at = Digits::of(at.0);
        let mut words: Vec<&[u8]> = vec![b"PEXPIREAT", key, at.text()];
        words.extend(conditions.from(0));
        self.log().instead(words.into_iter());
    }

    /// Logs the command as the removal of a key whose time was over at once.
    pub(crate) fn log_removal(&mut self, key: &[u8], is_lazy: bool) {
        self.log_instead([if is_lazy { b"UNLINK" } else { b"DEL" }, key]);
    }

    /// Logs the command as one that takes so many from an end of what a key holds.
    pub(crate) fn log_pop(&mut self, name: &'static [u8], key: &[u8], count: Option<usize>) {
        match count {
            Some(count) => {
                let count = Digits::of(count as u64);
                self.log_instead([name, key, count.text()]);
            }
            None => self.log_instead([name, key]),
        }
    }
}

/// A word as an integer, where it is one.
pub(crate) fn is_integer(word: &[u8], number: u64) -> bool {
    number::parse_i64(word).and_then(|word| u64::try_from(word).ok()) == Some(number)
}
