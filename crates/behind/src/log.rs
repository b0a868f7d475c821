//! The queue's log: segments, files that are appended to one after the other and removed from the front.
//!
//! A segment begins with a head that names it, the number of the next write, and how long the segment before it was. What is damaged is told
//! from what was being written when the system stopped: the latter is the end of the last segment, and nothing right
//! follows it.
//!
//! Invariants: segments are removed from the front only, and only when nothing in them is still to be sent; so what is noted as done
//! stands as long as the write that it is about. After an error the file ends where it ended before, or the segment is given up
//! and all that is to be sent is written into another one (`is_suspect`).

use crate::disk::{Disk, Sink};
use crate::record::{self, Record, crc32c};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"LARDERWB";
const VERSION: u32 = 1;
/// Magic, version, number, next write, length of the one before, checksum.
const HEAD_BYTES: usize = 8 + 4 + 8 + 8 + 8 + 4;

/// One file.
#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// Writes in it that are still to be sent.
    live: u64,
}

/// The log of a queue.
pub(crate) struct Log {
    folder: PathBuf,
    disk: Box<dyn Disk>,
    segments: VecDeque<Segment>,
    /// The last segment, where it is open.
    file: Option<Box<dyn Sink>>,
    segment_bytes: u64,
    /// Something was appended that may not survive a power cut.
    pub(crate) is_unsynced: bool,
    /// What is on disk is not known: all that is to be sent must be written anew.
    pub(crate) is_suspect: bool,
}

/// What a log held.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// All records, with the segments they are in.
    pub(crate) records: Vec<(u64, Record)>,
    /// No write has had this number yet.
    pub(crate) next_seq: u64,
}

impl Log {
    /// Opens the log in a folder.
    ///
    /// # Errors
    /// A file cannot be read, or something is damaged: where, and what to do.
    pub(crate) fn open(
        folder: &Path,
        disk: Box<dyn Disk>,
        segment_bytes: u64,
    ) -> Result<(Log, Held), String> {
        let mut log = Log {
            folder: folder.to_owned(),
            disk,
            segments: VecDeque::new(),
            file: None,
            segment_bytes,
            is_unsynced: false,
            is_suspect: false,
        };
        let mut held = Held { next_seq: 1, ..Held::default() };
        let numbers = log.numbers()?;
        for (place, number) in numbers.iter().enumerate() {
            log.read(*number, place + 1 == numbers.len(), &mut held)?;
        }
        if let Some(last) = log.segments.back() {
            // A server that was killed may have left it to the system, and segments before it are about to go.
            let path = log.path(last.number);
            let synced = log.disk.open(&path).and_then(|mut file| file.sync());
            synced.map_err(|error| format!("cannot write to {}: {error}", path.display()))?;
        }
        Ok((log, held))
    }

    /// The numbers of the segments there are, in order.
    fn numbers(&self) -> Result<Vec<u64>, String> {
        let cannot = |error: io::Error| format!("cannot read the folder {}: {error}", self.folder.display());
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(cannot)? {
            let name = entry.map_err(cannot)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn read(&mut self, number: u64, is_last: bool, held: &mut Held) -> Result<(), String> {
        let path = self.path(number);
        let bytes = fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let Some(head) = Head::read(&bytes) else {
            let good = good_bytes(&path, &bytes, HEAD_BYTES.min(bytes.len()), is_last, &*self.disk)?;
            if !is_last || good > HEAD_BYTES {
                return Err(damaged(&path, 0, "its head is not right"));
            }
            // It was being made when the system stopped: nothing was in it yet.
            return self.disk.remove(&path).map_err(|error| {
                format!("cannot remove {}, which was not finished: {error}", path.display())
            });
        };
        if head.number != number {
            return Err(damaged(&path, 0, "it is another segment by its head"));
        }
        if let Some(before) = self.segments.back() {
            if before.number + 1 != number {
                let missing = self.path(before.number + 1);
                return Err(format!(
                    "{} is missing: put it back, or move the folder away",
                    missing.display()
                ));
            }
            if before.bytes != head.bytes_before {
                let path = self.path(before.number);
                let what = format!("it had {} bytes when the next segment began", head.bytes_before);
                return Err(damaged(&path, before.bytes, &what));
            }
        }
        let good = good_bytes(&path, &bytes, HEAD_BYTES, is_last, &*self.disk)?;
        for record in record::scan(&bytes[..good], HEAD_BYTES).records {
            match &record {
                Record::Write(write) => held.next_seq = held.next_seq.max(write.seq.saturating_add(1)),
                Record::Done(_) => {}
                Record::Group(writes) => {
                    let last = writes.last().map_or(0, |write| write.seq);
                    held.next_seq = held.next_seq.max(last.saturating_add(1));
                }
                Record::Letter(_) => return Err(damaged(&path, 0, "it holds a dead letter")),
            }
            held.records.push((number, record));
        }
        held.next_seq = held.next_seq.max(head.next_seq);
        self.segments.push_back(Segment { number, bytes: good as u64, live: 0 });
        Ok(())
    }

    /// Appends records to the log; the number of the segment they are in. `next_seq` is what a new segment begins with.
    ///
    /// # Errors
    /// The system's: nothing was appended then.
    pub(crate) fn append(&mut self, bytes: &[u8], next_seq: u64) -> io::Result<u64> {
        let is_full = self.segments.back().is_none_or(|last| {
            last.bytes > HEAD_BYTES as u64 && last.bytes + bytes.len() as u64 > self.segment_bytes
        });
        if is_full || self.file.is_none() {
            self.begin_segment(next_seq)?;
        }
        let (Some(file), Some(last)) = (&mut self.file, self.segments.back_mut()) else {
            return Err(io::Error::other("the log has no segment"));
        };
        if let Err(error) = file.append(bytes) {
            if file.cut(last.bytes).is_err() {
                self.is_suspect = true;
            }
            return Err(error);
        }
        last.bytes += bytes.len() as u64;
        self.is_unsynced = true;
        Ok(last.number)
    }

    /// Ends the last segment and begins another.
    pub(crate) fn begin_segment(&mut self, next_seq: u64) -> io::Result<()> {
        // A power cut must not take from a segment that another one follows.
        if self.is_unsynced && !self.is_suspect {
            self.sync()?;
        }
        let (number, bytes_before) =
            self.segments.back().map_or((1, 0), |last| (last.number + 1, last.bytes));
        let path = self.path(number);
        let head = Head { number, next_seq, bytes_before }.write();
        let made = self.disk.open(&path).and_then(|mut file| {
            // One that could not be finished may be there.
            file.cut(0)?;
            file.append(&head)?;
            file.sync()?;
            self.disk.sync_folder(&self.folder)?;
            Ok(file)
        });
        match made {
            Ok(file) => {
                self.file = Some(file);
                self.segments.push_back(Segment { number, bytes: head.len() as u64, live: 0 });
                Ok(())
            }
            Err(error) => {
                let _ = self.disk.remove(&path);
                Err(error)
            }
        }
    }

    /// Has all that was appended survive a power cut.
    ///
    /// # Errors
    /// The system's. What was appended since the last time may be lost, whatever later attempts say: the log is suspect.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        match file.sync() {
            Ok(()) => {
                self.is_unsynced = false;
                Ok(())
            }
            Err(error) => {
                self.is_suspect = true;
                Err(error)
            }
        }
    }

    /// Takes back what was appended last, so many bytes.
    pub(crate) fn take_back(&mut self, bytes: u64) {
        if let (Some(file), Some(last)) = (&mut self.file, self.segments.back_mut()) {
            last.bytes = last.bytes.saturating_sub(bytes);
            self.is_suspect |= file.cut(last.bytes).is_err();
        }
    }

    /// A write in this segment is still to be sent.
    pub(crate) fn hold(&mut self, number: u64) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == number) {
            segment.live += 1;
        }
    }

    /// It is not any more.
    pub(crate) fn let_go(&mut self, number: u64) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == number) {
            segment.live = segment.live.saturating_sub(1);
        }
    }

    /// Whether nothing in the first segment is to be sent, and another one follows.
    pub(crate) fn has_spent(&self) -> bool {
        self.segments.len() > 1 && self.segments.front().is_some_and(|first| first.live == 0)
    }

    /// Removes segments from the front in which nothing is to be sent; never the last one, whose head knows the next number.
    pub(crate) fn remove_spent(&mut self) {
        while self.has_spent()
            && let Some(first) = self.segments.front()
        {
            let path = self.path(first.number);
            if let Err(error) = self.disk.remove(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!("cannot remove {}, which is not needed any more: {error}", path.display());
                return;
            }
            self.segments.pop_front();
        }
    }

    /// The number of the first segment, where another one follows.
    pub(crate) fn first_of_several(&self) -> Option<u64> {
        self.segments.front().filter(|_| self.segments.len() > 1).map(|first| first.number)
    }

    /// The number of the last segment.
    pub(crate) fn last(&self) -> u64 {
        self.segments.back().map_or(0, |last| last.number)
    }

    /// How much there is on disk, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    pub(crate) fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:020}.log"))
    }
}

/// How much of a file's bytes is right. A torn end of the last file is cut off it.
///
/// # Errors
/// It is damaged, or cannot be cut: where, and what to do.
pub(crate) fn good_bytes(
    path: &Path,
    bytes: &[u8],
    start: usize,
    is_last: bool,
    disk: &dyn Disk,
) -> Result<usize, String> {
    let scanned = record::scan(bytes, start);
    if scanned.good == bytes.len() {
        return Ok(scanned.good);
    }
    if let Some(next) = scanned.next {
        let what = format!("what stands there is not right, and more that is follows at byte {next}");
        return Err(damaged(path, scanned.good as u64, &what));
    }
    if !is_last {
        return Err(damaged(path, scanned.good as u64, "what stands there is not right"));
    }
    tracing::warn!(
        "{}: {} bytes at the end were being written when the system stopped, and are cut off",
        path.display(),
        bytes.len() - scanned.good
    );
    let cut = disk.open(path).and_then(|mut file| {
        file.cut(scanned.good as u64)?;
        file.sync()
    });
    match cut {
        Ok(()) => Ok(scanned.good),
        Err(error) => Err(format!("cannot cut the end off {}: {error}", path.display())),
    }
}

fn damaged(path: &Path, offset: u64, what: &str) -> String {
    format!(
        "{} is damaged at byte {offset}: {what}. Bring the file back from a copy; or keep one, and cut it off there \
         (truncate -s {offset}) to go on without what follows; or move the folder away to go on without all of it",
        path.display()
    )
}

/// What a segment begins with.
#[derive(Debug, PartialEq)]
struct Head {
    number: u64,
    next_seq: u64,
    bytes_before: u64,
}

impl Head {
    fn write(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for number in [self.number, self.next_seq, self.bytes_before] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = crc32c(0, &bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Head> {
        let (head, checksum) = bytes.get(..HEAD_BYTES)?.split_at(HEAD_BYTES - 4);
        if crc32c(0, head).to_le_bytes() != checksum || !head.starts_with(MAGIC) {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(*head.get(at..)?.first_chunk()?));
        (head[8..12] == VERSION.to_le_bytes()).then_some(())?;
        Some(Head { number: number(12)?, next_seq: number(20)?, bytes_before: number(28)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Change;
    use crate::disk::Files;
    use crate::record::{Key, Write, write_write};
    use std::sync::Arc;

    fn write(seq: u64) -> Write {
        Write {
            seq,
            at_ms: 5,
            key: Arc::new(Key { db: 0, bytes: b"k".as_slice().into() }),
            change: Change::Set(vec![b'v'; 50].into()),
        }
    }

    /// A log of some segments with two writes each.
    fn filled(folder: &Path) -> Vec<PathBuf> {
        let (mut log, _) = Log::open(folder, Box::new(Files), 250).expect("opens");
        for seq in 1..=6 {
            let mut bytes = Vec::new();
            write_write(&write(seq), &mut bytes);
            let number = log.append(&bytes, seq).expect("appends");
            log.hold(number);
        }
        log.segments.iter().map(|segment| log.path(segment.number)).collect()
    }

    fn seqs(folder: &Path) -> Result<(Vec<u64>, u64), String> {
        let (_, held) = Log::open(folder, Box::new(Files), 250)?;
        let seq = |(_, record): &(u64, Record)| match record {
            Record::Write(write) => write.seq,
            _ => 0,
        };
        Ok((held.records.iter().map(seq).collect(), held.next_seq))
    }

    #[test]
    fn what_was_appended_is_there_again() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(filled(folder.path()).len(), 3);
        assert_eq!(seqs(folder.path()), Ok((vec![1, 2, 3, 4, 5, 6], 7)));
    }

    #[test]
    fn the_end_of_the_last_segment_may_be_torn_and_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = filled(folder.path());
        let whole: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("reads")).collect();
        for length in 0..whole[2].len() {
            fs::write(&paths[2], &whole[2][..length]).expect("writes");
            let (found, next) = seqs(folder.path()).expect("a torn end is cut off");
            assert!(
                found.len() >= 4 && found.iter().zip(1..).all(|(seq, n)| *seq == n),
                "{length}: {found:?}"
            );
            assert!(next >= 5);
            fs::write(&paths[2], &whole[2]).expect("writes");
        }
        for (place, path) in paths.iter().enumerate().take(2) {
            for length in 0..whole[place].len() {
                fs::write(path, &whole[place][..length]).expect("writes");
                let error = seqs(folder.path()).expect_err("it is no end");
                assert!(error.contains(path.to_str().expect("text")), "{error}");
            }
            fs::write(path, &whole[place]).expect("writes");
        }
        fs::remove_file(&paths[1]).expect("removes");
        assert!(seqs(folder.path()).expect_err("one is missing").contains("is missing"));
    }

    #[test]
    fn every_flipped_bit_is_found_or_at_the_very_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = filled(folder.path());
        for (place, path) in paths.iter().enumerate() {
            let whole = fs::read(path).expect("reads");
            for bit in 0..whole.len() * 8 {
                let mut damaged = whole.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                fs::write(path, &damaged).expect("writes");
                match seqs(folder.path()) {
                    Err(error) => assert!(error.contains("is damaged at byte"), "{error}"),
                    Ok((found, _)) => assert_eq!((place, found), (2, vec![1, 2, 3, 4, 5]), "bit {bit}"),
                }
            }
            fs::write(path, &whole).expect("writes");
        }
        assert_eq!(seqs(folder.path()), Ok((vec![1, 2, 3, 4, 5, 6], 7)));
    }

    #[test]
    fn segments_go_from_the_front_and_numbers_go_on() {
        let folder = tempfile::tempdir().expect("a folder");
        filled(folder.path());
        let (mut log, held) = Log::open(folder.path(), Box::new(Files), 250).expect("opens");
        log.hold(2);
        log.remove_spent();
        assert_eq!((log.first_of_several(), held.next_seq), (Some(2), 7));
        log.let_go(2);
        log.remove_spent();
        assert_eq!((log.first_of_several(), log.last()), (None, 3));
        log.begin_segment(held.next_seq).expect("begins");
        log.remove_spent();
        assert_eq!(seqs(folder.path()), Ok((vec![], 7)));
    }
}
