//! A queue, as those see it who push writes, ask for them, and send them.
//!
//! Read next: `state.rs` for whose turn it is, `writer.rs` for how writes get to disk.

use crate::change::Change;
use crate::disk::Disk;
use crate::letters::{Letter, Letters};
use crate::log::Log;
use crate::record::{Key, Record, Write, room_of};
use crate::state::{Cursor, Owners, Pending};
use crate::writer;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Places for the last write of a key; keys that share one are only told too rarely that they are the last.
const LAST: usize = 4096;
/// Bytes of a batch, unless it is one write.
const BATCH_BYTES_MAX: u64 = 4 << 20;

/// When what was written is made to survive a power cut: as `appendfsync`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fsync {
    /// Before the client is answered.
    Always,
    /// Once a second.
    EverySec,
    /// When the system likes.
    No,
}

/// What is decided of a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// When the disk is waited for.
    pub fsync: Fsync,
    /// How much may be queued, dead letters included, in bytes.
    pub bytes_max: u64,
    /// How long a file gets, in bytes.
    pub segment_bytes: u64,
}

/// Somebody who wants to know when their writes are settled: in the store, or dead letters.
#[derive(Debug)]
pub struct Owner {
    /// Who it is.
    pub client: u64,
    unsettled: AtomicU64,
}

impl Owner {
    /// Somebody without writes.
    pub fn new(client: u64) -> Owner {
        Owner { client, unsettled: AtomicU64::new(0) }
    }

    /// How many of their writes are not settled.
    pub fn unsettled(&self) -> u64 {
        self.unsettled.load(Relaxed)
    }
}

/// A write to push.
#[derive(Clone, Debug)]
pub struct NewWrite {
    /// The key.
    pub key: Key,
    /// Its hash.
    pub hash: u64,
    /// What becomes of it.
    pub change: Change,
}

/// Is told the numbers of what was pushed once it is queued, or why it is not. Called by the queue's own thread.
pub type Done = Box<dyn FnOnce(Result<Vec<u64>, String>) + Send>;

/// Is told of an owner whose writes are all settled.
pub type Settled = Box<dyn Fn(&Arc<Owner>) + Send + Sync>;

/// What was pushed and is not on disk.
pub(crate) struct Incoming {
    pub(crate) writes: Vec<Write>,
    pub(crate) owner: Arc<Owner>,
    pub(crate) done: Done,
}

/// What is behind the queue's lock.
pub(crate) struct State {
    pub(crate) pending: Pending,
    pub(crate) incoming: Vec<Incoming>,
    pub(crate) incoming_bytes: u64,
    /// Writes that are done, with the segments that need them no more; the log is to note them.
    pub(crate) done: Vec<(u64, Vec<u64>)>,
    /// Segments that hold too much, since writes have become one.
    pub(crate) freed: Vec<u64>,
    pub(crate) next_seq: u64,
    pub(crate) config: Config,
    /// Why the last attempt to write failed.
    pub(crate) failure: Option<String>,
    pub(crate) is_over: bool,
    /// How much the log has on disk.
    pub(crate) log_bytes: u64,
}

/// Counters of a queue.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: AtomicU64,
    pub(crate) superseded: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) buried: AtomicU64,
    pub(crate) retried: AtomicU64,
    /// Dead letters that are kept, and their bytes. Not asked of the letters, which wait for the disk.
    letters: AtomicU64,
    letter_bytes: AtomicU64,
}

/// What all threads of a queue share.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    /// Something is to be written.
    pub(crate) to_write: Condvar,
    /// Something is to be sent, or nothing is left, or the queue is over.
    pub(crate) to_send: Condvar,
    pub(crate) counts: Counts,
    /// Keys with writes that are not done.
    pub(crate) keys: AtomicUsize,
}

/// The writes of one store.
pub struct Queue {
    name: String,
    number: u64,
    folder: PathBuf,
    shared: Arc<Shared>,
    letters: Mutex<Letters>,
    disk: Box<dyn Disk + Sync>,
    last: Box<[AtomicU64]>,
    settled: Settled,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Holds the folder against another process.
    _lock: File,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Queue").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A queue that was opened.
pub struct Opened {
    /// The queue.
    pub queue: Arc<Queue>,
    /// The dead letters of before.
    pub letters: Vec<Letter>,
}

/// What there is to tell of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Keys with writes that the store does not have.
    pub pending: u64,
    /// Bytes of those writes.
    pub bytes: u64,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    /// Of the keys, those that no route knows how to send.
    pub held: u64,
    /// Since when the oldest waits, in milliseconds of Unix time.
    pub oldest_ms: Option<u64>,
    /// Writes that clients were told are queued.
    pub accepted: u64,
    /// Of them, those that a newer one took the place of.
    pub superseded: u64,
    /// Writes that the store has taken.
    pub sent: u64,
    /// Writes that became dead letters since the start.
    pub buried: u64,
    /// Attempts to send that are to be made again.
    pub retried: u64,
    /// Writes that clients were told are not queued.
    pub refused: u64,
    /// Dead letters that are kept, and their bytes.
    pub letters: (u64, u64),
    /// Why writes are refused at the moment.
    pub failure: Option<String>,
}

impl Queue {
    /// Opens the queue in a folder, which is made where there is none. `settled` is told of owners; `disk` makes the disk.
    ///
    /// # Errors
    /// The folder cannot be used, or what is in it is damaged: where, and what to do.
    pub fn open<D: Disk + Sync + Clone>(
        name: &str,
        folder: &Path,
        config: Config,
        disk: D,
        settled: Settled,
    ) -> Result<Opened, String> {
        let cannot = |what: &str, error: io::Error| {
            format!("write-behind: cannot {what} {}: {error}", folder.display())
        };
        fs::create_dir_all(folder).map_err(|error| cannot("make the folder", error))?;
        let lock = File::create(folder.join("lock")).map_err(|error| cannot("write to the folder", error))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::Error(error) => cannot("lock the folder", error),
            fs::TryLockError::WouldBlock => {
                format!("write-behind: the folder {} is in use by another server", folder.display())
            }
        })?;
        let prefix = |text: String| format!("write-behind: {text}");
        let number = crate::number::of(folder, &disk).map_err(prefix)?;
        let (mut log, held) =
            Log::open(folder, Box::new(disk.clone()), config.segment_bytes).map_err(prefix)?;
        let (letters, all_letters) = Letters::open(folder, &disk).map_err(prefix)?;
        let buried: HashSet<u64> = all_letters.iter().map(|letter| letter.write.seq).collect();
        let next_seq = held.next_seq.max(buried.iter().max().map_or(0, |seq| seq.saturating_add(1)));
        let pending = recover(held.records, &buried, &mut log);
        log.remove_spent();
        let keys = AtomicUsize::new(pending.len());
        let state = State {
            pending,
            incoming: Vec::new(),
            incoming_bytes: 0,
            done: Vec::new(),
            freed: Vec::new(),
            next_seq,
            config,
            failure: None,
            is_over: false,
            log_bytes: log.bytes(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            to_write: Condvar::new(),
            to_send: Condvar::new(),
            counts: Counts::default(),
            keys,
        });
        shared.counts.count_letters(&letters);
        let writer = writer::start(name, log, Arc::clone(&shared))
            .map_err(|error| format!("write-behind: cannot start a thread: {error}"))?;
        let queue = Queue {
            name: name.to_owned(),
            number,
            folder: folder.to_owned(),
            shared,
            letters: Mutex::new(letters),
            disk: Box::new(disk),
            last: (0..LAST).map(|_| AtomicU64::new(0)).collect(),
            settled,
            writer: Mutex::new(Some(writer)),
            _lock: lock,
        };
        Ok(Opened { queue: Arc::new(queue), letters: all_letters })
    }

    /// The source's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What tells it from other queues, and is the same for all who open it one after the other.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Decides otherwise from here on.
    pub fn set_config(&self, config: Config) {
        self.shared.state.lock().config = config;
    }

    /// Pushes writes, all of them or none. `done` is told once they are on disk, or why they are not. Waits for nothing.
    ///
    /// # Errors
    /// There is no room: why. `done` is not told.
    pub fn push(
        &self,
        writes: Vec<NewWrite>,
        owner: &Arc<Owner>,
        now_ms: u64,
        done: Done,
    ) -> Result<(), String> {
        let size = |write: &NewWrite| room_of(write.key.bytes.len(), &write.change);
        let bytes: u64 = writes.iter().map(size).sum();
        let letters = self.shared.counts.letter_bytes.load(Relaxed);
        let mut state = self.shared.state.lock();
        let queued = state.pending.bytes() + state.incoming_bytes;
        if queued + letters + bytes > state.config.bytes_max {
            self.shared.counts.refused.fetch_add(writes.len() as u64, Relaxed);
            let beside = if letters == 0 { String::new() } else { format!(" and {letters} in dead letters") };
            return Err(format!(
                "{queued} bytes of writes wait for it{beside}, and behind-max-bytes is {}",
                state.config.bytes_max
            ));
        }
        if state.is_over {
            return Err("its queue is closed".to_owned());
        }
        let mut incoming = Vec::with_capacity(writes.len());
        for write in writes {
            let seq = state.next_seq;
            state.next_seq += 1;
            // Under the lock, so that of two writes of a key the later one stays.
            self.last[write.hash as usize % LAST].store(seq, Relaxed);
            incoming.push(Write { seq, at_ms: now_ms, key: Arc::new(write.key), change: write.change });
        }
        owner.unsettled.fetch_add(incoming.len() as u64, Relaxed);
        state.incoming_bytes += bytes;
        state.incoming.push(Incoming { writes: incoming, owner: Arc::clone(owner), done });
        self.shared.to_write.notify_one();
        Ok(())
    }

    /// Whether no later write of a key with this hash was pushed.
    pub fn is_last(&self, hash: u64, seq: u64) -> bool {
        self.last[hash as usize % LAST].load(Relaxed) == seq
    }

    /// What will become of a key in the store, by all that is queued of it. `None` where nothing is.
    pub fn newest(&self, db: u32, key: &[u8]) -> Option<Change> {
        if self.is_empty() {
            return None;
        }
        let key = Key { db, bytes: key.into() };
        self.shared.state.lock().pending.newest(&key)
    }

    /// Whether the store has everything. One load.
    pub fn is_empty(&self) -> bool {
        self.shared.keys.load(Relaxed) == 0
    }

    /// Asks `concern` about every key that the store does not have, and what becomes of it, until it answers something. One that
    /// is sent or given back meanwhile may be left out.
    pub fn find_key<T>(&self, mut concern: impl FnMut(&Key, &Change) -> Option<T>) -> Option<T> {
        let mut cursor = Cursor::default();
        loop {
            let writes = self.shared.state.lock().pending.next(&mut cursor, u64::MAX)?;
            let found = writes.iter().find_map(|write| concern(&write.key, &write.change));
            if found.is_some() {
                return found;
            }
        }
    }

    /// Has those writes take their turn that nobody knew how to send.
    pub fn release(&self) {
        self.shared.state.lock().pending.release();
        self.shared.to_send.notify_all();
    }

    /// What there is to tell.
    pub fn figures(&self) -> Figures {
        let counts = &self.shared.counts;
        let state = self.shared.state.lock();
        let (pending, bytes, held, oldest_ms) = state.pending.figures();
        Figures {
            pending,
            bytes,
            log_bytes: state.log_bytes,
            held,
            oldest_ms,
            accepted: counts.accepted.load(Relaxed),
            superseded: counts.superseded.load(Relaxed),
            sent: counts.sent.load(Relaxed),
            buried: counts.buried.load(Relaxed),
            retried: counts.retried.load(Relaxed),
            refused: counts.refused.load(Relaxed),
            letters: (counts.letters.load(Relaxed), counts.letter_bytes.load(Relaxed)),
            failure: state.failure.clone(),
        }
    }

    /// Drops the dead letters; how many those were. Waits for the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn clear_letters(&self) -> io::Result<u64> {
        let mut letters = self.letters.lock();
        let cleared = letters.clear(&*self.disk)?;
        self.shared.counts.count_letters(&letters);
        Ok(cleared)
    }

    /// Waits until the store has everything, for so long at most. Whether it has.
    pub fn drain(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.shared.state.lock();
        while state.pending.len() > 0 || !state.incoming.is_empty() {
            if self.shared.to_send.wait_until(&mut state, end).timed_out() {
                return state.pending.len() == 0 && state.incoming.is_empty();
            }
        }
        true
    }

    /// Ends the queue's threads, once all that was pushed is on disk. What is queued stays there.
    pub fn close(&self) {
        self.shared.state.lock().is_over = true;
        self.shared.to_write.notify_all();
        self.shared.to_send.notify_all();
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the thread that writes the queue of source {} ended by a panic", self.name);
        }
    }

    /// Removes the folder of a queue that is closed, unless there is something in it.
    pub fn remove_folder(&self) {
        let figures = self.figures();
        if figures.pending == 0
            && figures.letters.0 == 0
            && let Err(error) = fs::remove_dir_all(&self.folder)
        {
            tracing::warn!("cannot remove the folder {}: {error}", self.folder.display());
        }
    }

    /// Waits until it is some write's turn, and takes so many at most. `None` once the queue is over.
    pub(crate) fn take(&self, most: usize) -> Option<Vec<Write>> {
        let mut state = self.shared.state.lock();
        loop {
            if state.is_over {
                return None;
            }
            if state.pending.has_next() {
                return Some(state.pending.take(most, BATCH_BYTES_MAX));
            }
            self.shared.to_send.wait(&mut state);
        }
    }

    /// Waits for so long, unless the queue ends.
    pub(crate) fn rest(&self, time: Duration) {
        let end = Instant::now() + time;
        let mut state = self.shared.state.lock();
        while !state.is_over {
            if self.shared.to_send.wait_until(&mut state, end).timed_out() {
                return;
            }
        }
    }

    /// The store has these writes, or will never have them.
    pub(crate) fn done(&self, writes: &[Write]) {
        let mut owners: Owners = Vec::new();
        let mut state = self.shared.state.lock();
        for write in writes {
            let (segments, own) = state.pending.done(&write.key);
            state.done.push((write.seq, segments));
            owners.extend(own);
        }
        self.shared.keys.store(state.pending.len(), Relaxed);
        self.shared.to_write.notify_one();
        if state.pending.len() == 0 {
            self.shared.to_send.notify_all();
        }
        drop(state);
        self.settle(owners);
    }

    /// The store has these.
    pub(crate) fn sent(&self, writes: &[Write]) {
        self.shared.counts.sent.fetch_add(writes.len() as u64, Relaxed);
        self.done(writes);
    }

    /// These are to be sent again.
    pub(crate) fn back(&self, writes: &[Write], is_held: bool) {
        let mut state = self.shared.state.lock();
        let mut superseded = 0;
        for write in writes {
            if let Some(freed) = state.pending.back(&write.key, is_held) {
                superseded += 1;
                state.freed.extend(freed);
            }
        }
        drop(state);
        self.shared.counts.superseded.fetch_add(superseded, Relaxed);
        if !is_held {
            self.shared.counts.retried.fetch_add(1, Relaxed);
        }
    }

    /// Puts a write that the store refuses among the dead letters; it is still to be told done.
    pub(crate) fn bury(
        &self,
        write: &Write,
        statement: &str,
        error: &str,
        now_ms: u64,
    ) -> io::Result<Letter> {
        let mut letters = self.letters.lock();
        let letter = letters.add(write.clone(), statement, error, now_ms, &*self.disk)?;
        self.shared.counts.count_letters(&letters);
        self.shared.counts.buried.fetch_add(1, Relaxed);
        Ok(letter)
    }

    fn settle(&self, owners: Owners) {
        for (owner, count) in owners {
            if owner.unsettled.fetch_sub(count, Relaxed) == count {
                (self.settled)(&owner);
            }
        }
    }

    /// Looks whether what is in memory holds together. For tests.
    #[doc(hidden)]
    pub fn check(&self) {
        self.shared.state.lock().pending.check();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.close();
    }
}

impl Counts {
    fn count_letters(&self, letters: &Letters) {
        let (count, bytes) = letters.size();
        self.letters.store(count, Relaxed);
        self.letter_bytes.store(bytes, Relaxed);
    }
}

impl Incoming {
    /// They are not queued.
    pub(crate) fn refuse(self, counts: &Counts, why: &str) {
        counts.refused.fetch_add(self.writes.len() as u64, Relaxed);
        self.owner.unsettled.fetch_sub(self.writes.len() as u64, Relaxed);
        (self.done)(Err(why.to_owned()));
    }
}

/// What is still to be sent, by what a log held.
fn recover(records: Vec<(u64, Record)>, buried: &HashSet<u64>, log: &mut Log) -> Pending {
    let mut writes: BTreeMap<u64, (Write, u64)> = BTreeMap::new();
    let mut by_key: HashMap<Arc<Key>, BTreeSet<u64>> = HashMap::new();
    let mut done: Vec<u64> = buried.iter().copied().collect();
    for (segment, record) in records {
        let some = match record {
            Record::Write(write) => vec![write],
            Record::Group(writes) => writes,
            Record::Done(seqs) => {
                done.extend(seqs);
                continue;
            }
            Record::Letter(_) => continue,
        };
        for write in some {
            by_key.entry(Arc::clone(&write.key)).or_default().insert(write.seq);
            // One that was written anew has in it what it was made of.
            writes.insert(write.seq, (write, segment));
        }
    }
    for seq in done {
        // With a write the store has all that was written to its key before.
        let Some(seqs) = writes.get(&seq).and_then(|(write, _)| by_key.get_mut(&write.key)) else { continue };
        let left = seqs.split_off(&seq.saturating_add(1));
        std::mem::replace(seqs, left).iter().for_each(|seq| _ = writes.remove(seq));
    }
    let mut pending = Pending::default();
    for (_, (write, segment)) in writes {
        log.hold(segment);
        for freed in pending.add(write, segment, None).unwrap_or_default() {
            log.let_go(freed);
        }
    }
    pending
}
