//! The connections to the file.
//!
//! Invariant: an idle connection is to the file that stands at the path now: a file put in its place is seen by the next statement.

use crate::cells::failure_of;
use larder_source::Failure;
use larder_source_net::{refused, unreachable};
use rusqlite::{Connection, OpenFlags};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long to wait for a lock of another process.
const BUSY: Duration = Duration::from_secs(2);
/// Prepared statements kept for each connection.
const STATEMENTS: usize = 64;
/// Times that `STEPS` may go by for a statement that is in a hurry: some hundred microseconds.
const HURRIED_LOOKS: u32 = 20;
/// Steps of SQLite's machine between two looks at whether anybody still waits.
const STEPS: i32 = 1000;

/// The file and its idle connections.
pub struct Connections {
    path: PathBuf,
    read_only: bool,
    readers: Mutex<Vec<Held>>,
    writer: Mutex<Option<Held>>,
}

/// A connection, and the file that it is to.
pub struct Held {
    pub connection: Connection,
    file: FileId,
}

/// Device and inode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileId(u64, u64);

impl Connections {
    pub fn new(path: PathBuf, read_only: bool) -> Connections {
        Connections { path, read_only, readers: Mutex::default(), writer: Mutex::default() }
    }

    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// Such a connection, if there is one that is open and idle.
    pub fn take_idle_reader(&self) -> Option<Held> {
        let file = self.file_id().ok()?;
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.filter(|held| held.file == file)
    }

    /// A connection that cannot change anything.
    pub fn take_reader(&self) -> Result<Held, Failure> {
        let file = self.file_id()?;
        loop {
            let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(held) if held.file == file => return Ok(held),
                Some(_) => {}
                None => break,
            }
        }
        let connection = open(&self.path, self.read_only)?;
        connection.pragma_update(None, "query_only", true).map_err(|error| failure_of(&error))?;
        Ok(Held { connection, file })
    }

    /// The connection that writes. The caller has seen to it that there is one writer.
    pub fn take_writer(&self) -> Result<Held, Failure> {
        let file = self.file_id()?;
        let idle = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        match idle.filter(|held| held.file == file) {
            Some(held) => Ok(held),
            None => self.open_writer(file),
        }
    }

    fn open_writer(&self, file: FileId) -> Result<Held, Failure> {
        Ok(Held { connection: open(&self.path, false)?, file })
    }

    /// A connection for the feed alone.
    pub fn open_own(&self) -> Result<(Connection, FileId), Failure> {
        let file = self.file_id()?;
        Ok((self.open_writer(file)?.connection, file))
    }

    /// Which file stands at the path.
    pub fn file_id(&self) -> Result<FileId, Failure> {
        match std::fs::metadata(&self.path) {
            Ok(found) if found.is_file() => Ok(FileId(found.dev(), found.ino())),
            Ok(_) => Err(refused(format!("{} is no file", self.path.display()))),
            Err(error) => Err(unreachable(format!("{}: {error}", self.path.display()))),
        }
    }
}

impl Held {
    /// Has statements end once nobody waits for them any more.
    pub fn stop_when(&mut self, stop: Arc<AtomicBool>) -> Result<(), Failure> {
        let stopped = self.connection.progress_handler(STEPS, Some(move || stop.load(Ordering::Relaxed)));
        stopped.map_err(|error| failure_of(&error))
    }

    /// Has statements end after few steps, and where they would have to wait for a lock.
    pub fn hurry(&mut self) -> rusqlite::Result<()> {
        let mut left = HURRIED_LOOKS;
        self.connection.busy_timeout(Duration::ZERO)?;
        let is_over = move || {
            left -= 1;
            left == 0
        };
        self.connection.progress_handler(STEPS, Some(is_over))
    }

    /// Puts it back; what failed is rather opened anew.
    pub fn give_back(mut self, good: bool, to: &Connections) {
        if good && self.unstop() {
            to.readers.lock().unwrap_or_else(PoisonError::into_inner).push(self);
        }
    }

    /// Puts the writer back.
    pub fn give_back_writer(mut self, to: &Connections) {
        if self.connection.is_autocommit() && self.unstop() {
            *to.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(self);
        }
    }

    fn unstop(&mut self) -> bool {
        self.connection.busy_timeout(BUSY).is_ok()
            && self.connection.progress_handler(0, None::<fn() -> bool>).is_ok()
    }
}

fn open(path: &Path, read_only: bool) -> Result<Connection, Failure> {
    let mode = if read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    };
    open().map_err(|error| failure_of(&error))
}

/// Sets its flag when it is dropped before it was told that the work is done.
pub struct Stopper {
    flag: Arc<AtomicBool>,
    finished: bool,
}

impl Stopper {
    pub fn new() -> Stopper {
        Stopper { flag: Arc::default(), finished: false }
    }

    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    pub fn finished(mut self) {
        self.finished = true;
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        // Relaxed: it only ends work earlier; nothing else is read by it.
        self.flag.store(!self.finished, Ordering::Relaxed);
    }
}
