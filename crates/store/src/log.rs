//! What of one thread's changes goes to the append-only log and to replicas, in the words of commands.
//!
//! A *unit* is what becomes visible at once: a command, a transaction, a script, a key that was removed because its time had
//! come. Its commands are collected behind one another in the thread's buffer; when it ends, and while everything it
//! touched is still locked, it gets the next number of all threads. So the order of numbers is the order of
//! execution for all units that touch the same keys, and one writer that merges the threads' buffers by number writes a log
//! that replays to the same data. Numbers have no gaps: whoever took one hands its unit over at the end of its turn.
//!
//! What a command is logged as is Redis' decision: as it was asked where it changed anything; or as what it says here
//! ([`Log::instead`], [`Log::nothing`], [`Log::also`]), so that a replay finds no clock, no random choice and no waiting in it.
//!
//! Nobody listening costs one load a command. Invariant: outside of a unit nothing is pending, and what is added is a unit of
//! its own at once.

use crate::item::Item;
use crate::keyspace::DbIndex;
use crate::noted::Note;
use larder_persist::aof;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes in front of a unit: its number, how many commands it has, how long they are.
const HEADER_BYTES: usize = 20;
/// Bytes in front of a command: its database, how long it is.
const COMMAND_HEADER_BYTES: usize = 12;

/// How the command at hand is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Own {
    /// As it was asked, if it changed anything.
    #[default]
    IfChanged,
    /// As it was asked, whether it changed anything or not.
    Always,
    /// Not at all, or as what was added for it.
    Never,
    /// As other words.
    Instead,
}

/// Collects what is logged of one thread's changes; see the module.
#[derive(Debug, Default)]
pub struct Log {
    is_on: bool,
    /// Nothing is logged for now, as a script asked (`redis.set_repl`).
    is_muted: bool,
    own: Own,
    /// Units open within each other.
    depth: u32,
    /// Commands of the unit at hand.
    commands: u32,
    /// Changes when the command at hand began.
    pub(crate) changes_before: u64,
    /// Whole units, and behind them the one at hand.
    bytes: Vec<u8>,
    /// Where the unit at hand begins.
    unit_from: usize,
    /// What the command at hand is logged as.
    instead: Vec<u8>,
    /// The last number that was given to a unit of this thread.
    last: u64,
    /// The last number of all threads.
    numbers: Option<Arc<AtomicU64>>,
    /// Writes a value as DUMP answers it.
    dump: Option<fn(&Item<'_>, &mut Vec<u8>)>,
}

impl Log {
    /// Has units numbered by a counter that all threads share.
    pub fn join(&mut self, numbers: Arc<AtomicU64>) {
        self.numbers = Some(numbers);
    }

    /// Begins or ends collecting. Between two units: within one it has no effect.
    pub fn switch(&mut self, is_on: bool) {
        // A transaction that turns it on begins to be logged with its next unit, as one that turns it off is logged to its end.
        if self.depth == 0 {
            self.is_on = is_on;
        }
    }

    /// Whether anybody wants to know.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether something is changed now by no command, which has to be logged as what came of it.
    #[inline]
    pub(crate) fn is_outside(&self) -> bool {
        self.is_on && self.depth == 0
    }

    /// Says how a value is written as DUMP answers it.
    pub fn set_dump(&mut self, dump: fn(&Item<'_>, &mut Vec<u8>)) {
        self.dump = Some(dump);
    }

    /// Logs that a key holds this now.
    #[cold]
    pub(crate) fn holds(&mut self, db: DbIndex, key: &[u8], item: &Item<'_>) {
        let end = item.deadline().map(|end| {
            let mut digits = Vec::with_capacity(20);
            larder_values::number::write_u64(&mut digits, end.0);
            digits
        });
        if let Ok(text) = item.string() {
            let mut scratch = Vec::new();
            let value = text.bytes(&mut scratch);
            match &end {
                Some(end) => self.also(db, [b"SET", key, value, b"PXAT", end.as_slice()]),
                None => self.also(db, [b"SET", key, value]),
            }
            return;
        }
        let Some(dump) = self.dump else { return };
        let mut payload = Vec::new();
        dump(item, &mut payload);
        let end = end.as_ref().map_or(&b"0"[..], Vec::as_slice);
        self.also(db, [b"RESTORE", key, end, &payload, b"REPLACE", b"ABSTTL"]);
    }

    /// Whether words are to be collected for the command at hand.
    #[inline]
    pub fn wants(&self) -> bool {
        self.is_on && !self.is_muted
    }

    /// Has nothing collected for now, or again everything.
    pub fn mute(&mut self, is_muted: bool) {
        self.is_muted = is_muted;
    }

    /// The number of the last unit of this thread.
    #[inline]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Begins a unit, or a part of the one at hand.
    #[inline]
    pub fn open(&mut self) {
        self.depth += u32::from(self.is_on);
    }

    /// Ends what the last [`Log::open`] began. The outermost end gives the unit its number: all that it touched is locked.
    #[inline]
    pub fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 && self.commands != 0 {
            self.commit();
        }
    }

    /// Ends the unit at hand and begins another, unless it is part of a larger one: what it touched is about to be unlocked.
    pub fn cut(&mut self) {
        if self.depth == 1 && self.commands != 0 {
            self.commit();
        }
    }

    /// Ends whatever is open, behind a panic.
    #[cold]
    pub fn close_all(&mut self) {
        (self.depth, self.own, self.is_muted) = (0, Own::IfChanged, false);
        self.instead.clear();
        if self.commands != 0 {
            self.commit();
        }
    }

    /// Begins a command, before it changes anything.
    #[inline]
    pub(crate) fn begin(&mut self, changes: u64) {
        self.changes_before = changes;
        self.own = Own::IfChanged;
    }

    /// Ends a command that was asked in these words.
    #[inline]
    pub(crate) fn end<'w>(&mut self, db: DbIndex, has_changed: bool, words: impl aof::Words<'w>) {
        let own = std::mem::take(&mut self.own);
        match own {
            Own::IfChanged if has_changed => {}
            Own::Always => {}
            Own::Instead => return self.end_instead(db, has_changed),
            Own::IfChanged | Own::Never => return,
        }
        if self.wants() {
            self.push(db, words);
        }
    }

    fn end_instead(&mut self, db: DbIndex, has_changed: bool) {
        if self.wants() && has_changed {
            let at = self.begin_command(db);
            self.bytes.extend_from_slice(&self.instead);
            self.end_command(at);
        }
        self.instead.clear();
        if self.instead.capacity() > 64 * 1024 {
            self.instead = Vec::new();
        }
    }

    /// Logs the command at hand in other words.
    pub fn instead<'w>(&mut self, words: impl aof::Words<'w>) {
        if self.is_on {
            self.instead.clear();
            aof::append(&mut self.instead, words);
            self.own = Own::Instead;
        }
    }

    /// Logs the command at hand in other words, given as a list.
    pub fn instead_of<const N: usize>(&mut self, words: [&[u8]; N]) {
        self.instead(words.into_iter());
    }

    /// Does not log the command at hand, whatever it changes; what was added by [`Log::also`] stays.
    pub fn nothing(&mut self) {
        self.own = Own::Never;
    }

    /// Logs the command at hand although it changes nothing.
    pub fn always(&mut self) {
        self.own = Own::Always;
    }

    /// Logs a command besides the one at hand, before it.
    pub fn also<const N: usize>(&mut self, db: DbIndex, words: [&[u8]; N]) {
        self.also_all(db, words.into_iter());
    }

    /// As [`Log::also`], for a command that stores a value of which this is noted.
    pub fn also_noted<'w>(&mut self, db: DbIndex, note: &Note, words: impl aof::Words<'w>) {
        if self.wants() {
            let at = self.begin_command(db);
            aof::append_note(&mut self.bytes, &note.bytes());
            aof::append(&mut self.bytes, words);
            self.end_command(at);
            if self.depth == 0 {
                self.commit();
            }
        }
    }

    /// Logs a command besides the one at hand, before it.
    pub fn also_all<'w>(&mut self, db: DbIndex, words: impl aof::Words<'w>) {
        if self.wants() {
            self.push(db, words);
            if self.depth == 0 {
                self.commit();
            }
        }
    }

    /// Logs that a key was removed because its time had come or to make room. What a script says of its own changes does not
    /// concern it.
    pub(crate) fn removed(&mut self, db: DbIndex, key: &[u8], is_lazy: bool) {
        if self.is_on {
            let name: &[u8] = if is_lazy { b"UNLINK" } else { b"DEL" };
            self.push(db, [name, key].into_iter());
            if self.depth == 0 {
                self.commit();
            }
        }
    }

    #[inline]
    fn push<'w>(&mut self, db: DbIndex, words: impl aof::Words<'w>) {
        let at = self.begin_command(db);
        aof::append(&mut self.bytes, words);
        self.end_command(at);
    }

    #[inline]
    fn begin_command(&mut self, db: DbIndex) -> usize {
        if self.commands == 0 {
            self.bytes.extend_from_slice(&[0; HEADER_BYTES]);
        }
        self.commands += 1;
        self.bytes.extend_from_slice(&db.0.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.len()
    }

    #[inline]
    fn end_command(&mut self, at: usize) {
        let len = (self.bytes.len() - at) as u64;
        if let Some(place) = self.bytes.get_mut(at - 8..at) {
            place.copy_from_slice(&len.to_le_bytes());
        }
    }

    /// Gives the unit at hand its number.
    fn commit(&mut self) {
        let len = (self.bytes.len() - self.unit_from - HEADER_BYTES) as u64;
        let number = match &self.numbers {
            // The shards' locks order it with the units that conflict with this one.
            Some(numbers) => numbers.fetch_add(1, Relaxed) + 1,
            None => self.last + 1,
        };
        self.last = number;
        if let Some(header) = self.bytes.get_mut(self.unit_from..self.unit_from + HEADER_BYTES) {
            header[..8].copy_from_slice(&number.to_le_bytes());
            header[8..12].copy_from_slice(&self.commands.to_le_bytes());
            header[12..].copy_from_slice(&len.to_le_bytes());
        }
        self.unit_from = self.bytes.len();
        self.commands = 0;
    }

    /// Whether there are units to be handed over.
    #[inline]
    pub fn has_units(&self) -> bool {
        self.unit_from != 0
    }

    /// Has the next units go into a buffer that is empty and has room.
    pub fn lend(&mut self, spare: Vec<u8>) {
        if self.bytes.is_empty() && spare.is_empty() {
            self.bytes = spare;
        }
    }

    /// The units since the last call, in ascending order of their numbers; `spare` takes the next ones.
    pub fn take(&mut self, spare: Vec<u8>) -> Vec<u8> {
        debug_assert!(spare.is_empty());
        let mut units = std::mem::replace(&mut self.bytes, spare);
        // A unit that is still open stays.
        self.bytes.extend(units.drain(self.unit_from..));
        self.unit_from = 0;
        units
    }
}

/// A unit of a thread's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit<'a> {
    /// Its number; see the module.
    pub number: u64,
    /// How many commands it has; more than one are a transaction.
    pub commands: u32,
    body: &'a [u8],
}

impl<'a> Unit<'a> {
    /// The unit at the start of what [`Log::take`] answered, and what is behind it.
    #[must_use]
    pub fn first(units: &'a [u8]) -> Option<(Unit<'a>, &'a [u8])> {
        let (header, rest) = units.split_at_checked(HEADER_BYTES)?;
        let (number, lengths) = header.split_first_chunk::<8>()?;
        let (commands, len) = lengths.split_first_chunk::<4>()?;
        let len = u64::from_le_bytes(*len.first_chunk::<8>()?) as usize;
        let (body, rest) = rest.split_at_checked(len)?;
        let unit =
            Unit { number: u64::from_le_bytes(*number), commands: u32::from_le_bytes(*commands), body };
        Some((unit, rest))
    }

    /// Its commands: the database each is for, and its bytes in the protocol.
    pub fn each(self) -> impl Iterator<Item = (DbIndex, &'a [u8])> {
        let mut body = self.body;
        std::iter::from_fn(move || {
            let (header, rest) = body.split_at_checked(COMMAND_HEADER_BYTES)?;
            let (db, len) = header.split_first_chunk::<4>()?;
            let len = u64::from_le_bytes(*len.first_chunk::<8>()?) as usize;
            let (command, rest) = rest.split_at_checked(len)?;
            body = rest;
            Some((DbIndex(u32::from_le_bytes(*db)), command))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: DbIndex = DbIndex(0);

    fn words(texts: &[&'static str]) -> impl ExactSizeIterator<Item = &'static [u8]> {
        texts.iter().map(|text| text.as_bytes()).collect::<Vec<_>>().into_iter()
    }

    /// What a log holds: number, and the commands with their databases.
    fn read(log: &mut Log) -> Vec<(u64, Vec<(u32, String)>)> {
        let taken = log.take(Vec::new());
        let mut rest = &taken[..];
        let mut units = Vec::new();
        while let Some((unit, behind)) = Unit::first(rest) {
            let commands: Vec<_> = unit
                .each()
                .map(|(db, bytes)| {
                    let text = String::from_utf8_lossy(bytes);
                    let words = text.split("\r\n").skip(2).step_by(2).collect::<Vec<_>>();
                    (db.0, words.join(" "))
                })
                .collect();
            assert_eq!(commands.len(), unit.commands as usize);
            units.push((unit.number, commands));
            rest = behind;
        }
        assert!(rest.is_empty());
        units
    }

    fn on() -> Log {
        let mut log = Log::default();
        log.join(Arc::new(AtomicU64::new(0)));
        log.switch(true);
        log
    }

    #[test]
    fn a_command_is_logged_as_it_was_asked_or_as_it_says() {
        let mut log = on();
        let mut run = |has_changed, say: fn(&mut Log)| {
            log.open();
            log.begin(0);
            say(&mut log);
            log.end(ZERO, has_changed, words(&["spop", "k"]));
            log.close();
            let units = read(&mut log);
            units.into_iter().flat_map(|(_, commands)| commands).map(|(_, text)| text).collect::<Vec<_>>()
        };
        assert_eq!(run(true, |_| {}), ["spop k"]);
        assert!(run(false, |_| {}).is_empty());
        assert_eq!(run(false, Log::always), ["spop k"]);
        assert_eq!(run(true, |log| log.instead_of([b"SREM", b"k", b"m"])), ["SREM k m"]);
        assert!(run(false, |log| log.instead_of([b"SREM", b"k", b"m"])).is_empty());
        assert!(run(true, Log::nothing).is_empty());
        assert_eq!(run(true, |log| log.also(ZERO, [b"DEL", b"j"])), ["DEL j", "spop k"]);
        assert!(run(true, |log| log.mute(true)).is_empty());
        assert!(run(true, |log| log.also(ZERO, [b"DEL", b"j"])).is_empty());
        assert_eq!(run(true, |log| log.removed(ZERO, b"j", true)), ["UNLINK j"]);
    }

    #[test]
    fn a_unit_has_one_number_and_ends_at_its_outermost_end() {
        let mut log = on();
        log.removed(ZERO, b"a", false);
        log.open();
        log.open();
        log.also(DbIndex(3), [b"SET", b"b", b"1"]);
        log.close();
        assert!(log.has_units());
        let mut rest = log.take(Vec::new());
        assert_eq!(Unit::first(&rest).map(|(unit, _)| unit.number), Some(1));
        log.also(ZERO, [b"SET", b"c", b"1"]);
        assert!(!log.has_units());
        log.close();
        rest.clear();
        assert_eq!(log.last(), 2);
        let commands = vec![(3, "SET b 1".to_owned()), (0, "SET c 1".to_owned())];
        assert_eq!(read(&mut log), [(2, commands)]);
        log.switch(false);
        log.removed(ZERO, b"a", false);
        log.open();
        log.close();
        assert!(!log.has_units() && read(&mut log).is_empty());
    }
}
