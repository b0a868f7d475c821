//! The threads' units, merged by number into the text of the log.
//!
//! Each thread hands its units over in ascending order; numbers have no gaps, so a unit is written once all before it
//! have been. Units of several commands become transactions, and the database is named where it changes, as in Redis.

use larder_persist::aof;
use larder_store::{DbIndex, Unit};
use std::collections::VecDeque;

/// What one thread has handed over and is not written yet.
#[derive(Debug, Default)]
struct Lane {
    batches: VecDeque<Vec<u8>>,
    /// How far the first of them is written.
    at: usize,
    /// The number of the unit there; none where there is no batch.
    head: Option<u64>,
}

impl Lane {
    fn look(&mut self) {
        self.head = self.first().map(|(unit, _)| unit.number);
    }

    /// The unit at the head, and the bytes it takes.
    fn first(&self) -> Option<(Unit<'_>, usize)> {
        let rest = self.batches.front()?.get(self.at..)?;
        let (unit, behind) = Unit::first(rest)?;
        Some((unit, rest.len() - behind.len()))
    }

    /// Goes on behind the head; answers a batch that is written in full.
    fn pass(&mut self, len: usize) -> Option<Vec<u8>> {
        self.at += len;
        let is_over = self.batches.front().is_some_and(|batch| self.at >= batch.len());
        let batch = if is_over {
            self.at = 0;
            self.batches.pop_front()
        } else {
            None
        };
        self.look();
        batch
    }
}

/// Merges units; see the module.
#[derive(Debug, Default)]
pub(super) struct Merge {
    lanes: Vec<Lane>,
    /// The number of the last unit that was written.
    pub(super) last: u64,
    /// The database that the file is at.
    db: Option<DbIndex>,
    /// The time that the file is at, in seconds.
    secs: u64,
    /// Batches that can be used again.
    pub(super) spent: Vec<Vec<u8>>,
    /// Bytes of units that became text since this was asked for last.
    passed_bytes: u64,
}

impl Merge {
    /// Goes on behind the unit of this number.
    pub(super) fn behind(last: u64) -> Merge {
        Merge { last, ..Merge::default() }
    }

    /// Takes units over that a thread hands over.
    pub(super) fn add(&mut self, lane: usize, batch: Vec<u8>) {
        if self.lanes.len() <= lane {
            self.lanes.resize_with(lane + 1, Lane::default);
        }
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.batches.push_back(batch);
            if lane.head.is_none() {
                lane.look();
            }
        }
    }

    /// How many bytes of what was handed over became text since this was asked last.
    pub(super) fn take_passed_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.passed_bytes)
    }

    /// The file is another one: it begins with no database and no time.
    pub(super) fn begin_file(&mut self) {
        (self.db, self.secs) = (None, 0);
    }

    /// Appends the text of what can be written, up to the unit of number `to` and not much more than `bytes_max` bytes.
    /// `secs` is the time to be told, if any. Answers whether anything could.
    pub(super) fn write(&mut self, to: u64, secs: Option<u64>, bytes_max: usize, out: &mut Vec<u8>) -> bool {
        let (mut lane_at, mut misses) = (0, 0);
        let before = self.last;
        while misses < self.lanes.len() && self.last < to && out.len() < bytes_max {
            let Some(lane) = self.lanes.get_mut(lane_at) else { break };
            if lane.head != Some(self.last + 1) {
                misses += 1;
                lane_at = (lane_at + 1) % self.lanes.len();
                continue;
            }
            misses = 0;
            let Some((unit, len)) = lane.first() else { break };
            if let Some(secs) = secs
                && secs > self.secs
            {
                aof::append_timestamp(out, secs);
                self.secs = secs;
            }
            write_unit(unit, &mut self.db, out);
            self.last += 1;
            self.passed_bytes += len as u64;
            self.spent.extend(lane.pass(len));
        }
        self.last != before
    }
}

fn write_unit(unit: Unit<'_>, at: &mut Option<DbIndex>, out: &mut Vec<u8>) {
    if unit.commands > 1 {
        out.extend_from_slice(b"*1\r\n$5\r\nMULTI\r\n");
    }
    for (db, command) in unit.each() {
        if *at != Some(db) {
            let number = db.0.to_string();
            aof::append(out, [&b"SELECT"[..], number.as_bytes()].into_iter());
            *at = Some(db);
        }
        out.extend_from_slice(command);
    }
    if unit.commands > 1 {
        out.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_store::Log;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    fn two_logs() -> [Log; 2] {
        let numbers = Arc::new(AtomicU64::new(0));
        [(); 2].map(|()| {
            let mut log = Log::default();
            log.join(Arc::clone(&numbers));
            log.switch(true);
            log
        })
    }

    fn waiting_bytes(merge: &Merge) -> u64 {
        merge.lanes.iter().flat_map(|lane| &lane.batches).map(|batch| batch.len() as u64).sum()
    }

    fn text(out: &[u8]) -> String {
        String::from_utf8_lossy(out)
            .split("\r\n")
            .filter(|word| !word.starts_with(['*', '$']))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn units_are_written_in_the_order_of_their_numbers() {
        let [mut one, mut other] = two_logs();
        one.also(DbIndex(0), [b"A"]);
        other.also(DbIndex(0), [b"B"]);
        one.open();
        one.also(DbIndex(0), [b"C"]);
        one.also(DbIndex(2), [b"D"]);
        one.close();
        other.also(DbIndex(2), [b"E"]);
        let (mut merge, mut out) = (Merge::default(), Vec::new());
        merge.add(0, one.take(Vec::new()));
        let handed_over = waiting_bytes(&merge);
        assert!(merge.write(u64::MAX, None, usize::MAX, &mut out));
        assert_eq!((text(&out), merge.last), ("SELECT 0 A ".into(), 1));
        let first = merge.take_passed_bytes();
        assert!(0 < first && first < handed_over, "a part was written: {first} of {handed_over}");
        assert_eq!(merge.take_passed_bytes(), 0);
        assert!(!merge.write(u64::MAX, None, usize::MAX, &mut out));
        merge.add(1, other.take(Vec::new()));
        assert!(merge.write(3, Some(7), usize::MAX, &mut out));
        assert_eq!(text(&out), "SELECT 0 A #TS:7 B MULTI C SELECT 2 D EXEC ");
        merge.begin_file();
        out.clear();
        assert!(merge.write(u64::MAX, Some(7), usize::MAX, &mut out));
        assert_eq!((text(&out), merge.last), ("#TS:7 SELECT 2 E ".into(), 4));
        assert_eq!(merge.spent.len(), 2);
        let all: usize = merge.spent.iter().map(Vec::len).sum();
        assert_eq!(first + merge.take_passed_bytes(), all as u64, "all that was handed over");
    }
}
