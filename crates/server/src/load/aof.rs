//! Loading the append-only log: its base, then the commands of its incremental files.
//!
//! Invariant: a log that ends in the middle of a command or of a transaction is cut off behind what is whole, where
//! `aof-load-truncated` says so and it is the last file; anything else that is wrong ends the start, with the file and the place.

use super::LoadError;
use crate::clock;
use crate::execute::{Core, Logged, Replay};
use crate::journal::Files;
use crate::server::{Message, Server, Work};
use larder_persist::aof::{self, Damage, Next, Scan, next};
use larder_store::Note;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How often the thread that reads looks whether the server is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes read at once.
const READ_BYTES: usize = 1024 * 1024;

/// Bytes of commands that a worker carries out between two turns.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for the worker.
const PIECES_MAX: usize = 4;

/// Loads the files of a log, in order. Called on a thread that is no worker.
///
/// # Errors
/// What is wrong, with the file and the place.
pub fn aof(server: &'static Server, files: &Files) -> Result<(), LoadError> {
    server.loading.begin(files.bytes());
    let entries: Vec<_> = files.manifest.files().cloned().collect();
    for (index, entry) in entries.iter().enumerate() {
        let path = files.path(&entry.name);
        let is_last = index + 1 == entries.len();
        let is_base = files.manifest.base.as_ref() == Some(entry);
        let mut from = 0;
        if is_base && super::begins_as_snapshot(&path).map_err(|error| system(&path, &error))? {
            from =
                super::rdb(server, &path, super::How { keeps_expired: true, ..super::How::default() })?.bytes;
            if std::fs::metadata(&path).map_or(0, |found| found.len()) <= from {
                continue;
            }
            // What Redis before version 7 wrote: commands behind a snapshot.
        }
        Log::load(server, &path, from, is_last)?;
    }
    Ok(())
}

/// Commands of a file that were read and are to be carried out.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    commands: Vec<Logged>,
    /// Where in the file each command begins.
    places: Vec<u64>,
}

/// What became of a piece.
type Done = Result<(), (u64, String)>;

/// A file that is being loaded.
struct Log<'p> {
    server: &'static Server,
    path: &'p Path,
    replay: Arc<Mutex<Replay>>,
    piece: Piece,
    /// Pieces that are with the worker.
    under_way: usize,
    tell: mpsc::Sender<Done>,
    told: mpsc::Receiver<Done>,
}

impl Log<'_> {
    /// Carries out the commands of a file from a place on.
    fn load(server: &'static Server, path: &Path, from: u64, is_last: bool) -> Result<(), LoadError> {
        let mut file = File::open(path).map_err(|error| system(path, &error))?;
        file.seek(SeekFrom::Start(from)).map_err(|error| system(path, &error))?;
        let replay = Arc::new(Mutex::new(Replay::new(server).map_err(LoadError::Log)?));
        let (tell, told) = mpsc::channel();
        let mut log = Log { server, path, replay, piece: Piece::default(), under_way: 0, tell, told };
        let start = clock::now();
        let mut scan = Scan { good: from, read: from, ..Scan::default() };
        let read = log.read(&mut file, &mut scan);
        let carried_out = log.finish();
        let left = read?;
        carried_out?;
        if left || scan.read != scan.good {
            cut_off(server, path, &scan, is_last)?;
        }
        let replay = log.replay.lock();
        let (commands, failures, name) = (replay.commands, replay.failures, path.display());
        if failures > 0 {
            tracing::warn!(
                "{failures} of {commands} commands in {name} failed when they were carried out again"
            );
        }
        tracing::info!("{name}: {commands} commands in {:.3} s", start.elapsed().as_secs_f64());
        Ok(())
    }

    /// Reads the file and hands its commands over. True where it ends within one.
    fn read(&mut self, file: &mut File, scan: &mut Scan) -> Result<bool, LoadError> {
        let (path, mut bytes, mut at, mut note) = (self.path, Vec::new(), 0, None);
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match next(rest) {
                Next::Command(len, words) => {
                    let (text, place) = (rest.get(..len).unwrap_or_default(), scan.read);
                    scan.feed_command(text, &words).map_err(|what| damaged(path, place, what))?;
                    let begin = self.piece.bytes.len();
                    self.piece.commands.push(Logged { at: begin, words, note: note.take() });
                    self.piece.places.push(place);
                    self.piece.bytes.extend_from_slice(text);
                    at += len;
                    if self.piece.bytes.len() >= PIECE_BYTES {
                        self.hand_over(scan.read)?;
                    }
                }
                Next::Annotation(len) => {
                    note = rest.get(..len).and_then(aof::note).map(|bytes| Note::of_bytes(&bytes)).or(note);
                    scan.pass(len);
                    at += len;
                }
                Next::Damaged(Damage { at, what }) => return Err(damaged(path, scan.read + at as u64, what)),
                Next::Incomplete => {
                    bytes.drain(..at);
                    at = 0;
                    // Room for as much again as has come.
                    let more = READ_BYTES.max(bytes.len()) as u64;
                    let read = (&mut *file).take(more).read_to_end(&mut bytes);
                    if read.map_err(|error| system(path, &error))? == 0 {
                        return Ok(!bytes.is_empty());
                    }
                }
            }
        }
    }

    /// Has a worker carry the piece out, which goes up to `place`.
    fn hand_over(&mut self, place: u64) -> Result<(), LoadError> {
        while self.under_way >= PIECES_MAX {
            self.wait()?;
        }
        let piece = std::mem::take(&mut self.piece);
        let (replay, tell) = (Arc::clone(&self.replay), self.tell.clone());
        let work = move |core: &mut Core| {
            let result = replay.lock().run(core, &piece.bytes, &piece.commands);
            let place = |index: usize| piece.places.get(index).copied().unwrap_or(0);
            let _ = tell.send(result.map_err(|(index, what)| (place(index), what)));
        };
        self.under_way += 1;
        if let Some(mailbox) = self.server.mailboxes.first() {
            mailbox.send(Message::Work(Work(Box::new(work))));
        }
        self.server.loading.loaded_bytes.store(place, Relaxed);
        Ok(())
    }

    /// Waits for a piece to be carried out.
    fn wait(&mut self) -> Result<(), LoadError> {
        loop {
            match self.told.recv_timeout(LOOK) {
                Ok(result) => {
                    self.under_way -= 1;
                    return result.map_err(|(place, what)| damaged(self.path, place, &what));
                }
                Err(_) if self.server.stop.load(Relaxed) != 0 => return Err(LoadError::Stopped),
                Err(_) => {}
            }
        }
    }

    fn finish(&mut self) -> Result<(), LoadError> {
        if !self.piece.commands.is_empty() {
            let place = self.piece.places.last().copied().unwrap_or(0);
            self.hand_over(place)?;
        }
        while self.under_way > 0 {
            self.wait()?;
        }
        Ok(())
    }
}

fn system(path: &Path, error: &std::io::Error) -> LoadError {
    LoadError::Log(format!("cannot read {}: {error}", path.display()))
}

fn damaged(path: &Path, place: u64, what: &str) -> LoadError {
    LoadError::Log(format!(
        "{} is damaged at byte {place}: {what}; 'larder check-aof --fix' cuts it off there",
        path.display()
    ))
}

/// Cuts a file off behind what is whole in it.
fn cut_off(server: &'static Server, path: &Path, scan: &Scan, is_last: bool) -> Result<(), LoadError> {
    let name = path.display();
    let place = scan.good;
    if !is_last {
        return Err(LoadError::Log(format!(
            "{name} ends in the middle, behind byte {place}, and is not the last file of the log"
        )));
    }
    if !server.settings().aof_load_truncated() {
        return Err(LoadError::Log(format!(
            "{name} ends in the middle of a command or transaction, behind byte {place}: 'larder check-aof --fix' cuts it off there, \
             and so does the start with 'aof-load-truncated yes'"
        )));
    }
    tracing::warn!(
        "{name} ends in the middle of a command or transaction; it is cut off behind byte {place}"
    );
    let file = OpenOptions::new().write(true).open(path).map_err(|error| system(path, &error))?;
    file.set_len(place).and_then(|()| file.sync_all()).map_err(|error| system(path, &error))
}
