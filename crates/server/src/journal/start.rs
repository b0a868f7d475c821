//! The log when the server starts: which files there are, and the files with which it goes on.

use super::Base;
use super::files::{Files, Open};
use super::{turn_off, turn_on};
use crate::REDIS_VERSION;
use crate::clock;
use crate::server::{Message, Server, Work};
use crate::snapshot::Form;
use larder_behind::Disk;
use larder_config::Settings;
use larder_persist::aof::Entry;
use larder_persist::crc64;
use larder_persist::rdb::VERSION_WITHOUT_FIELD_ENDS;
use larder_persist::rdb::file::{Pieces, push_end, push_header};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

impl Files {
    /// The log that the settings name. A file of the time before Redis 7 becomes its base.
    ///
    /// # Errors
    /// Where the manifest cannot be read, or is none.
    pub fn of(settings: &Settings, disk: Box<dyn Disk>) -> Result<Files, String> {
        let (folder, name) = place(settings);
        Files::open(disk, folder, name)
    }

    /// The log that the settings name, of which nothing is known to be there.
    pub fn unread(settings: &Settings, disk: Box<dyn Disk>) -> Files {
        let (folder, name) = place(settings);
        Files::empty(disk, folder, name)
    }

    /// Makes the one file that Redis before version 7 wrote the base of this log, where there is none yet.
    ///
    /// # Errors
    /// The system's text.
    pub fn take_old_file_over(&mut self) -> Result<(), String> {
        self.take_over(&PathBuf::from(&self.name))
    }

    /// As [`Files::take_old_file_over`], from wherever it is.
    pub(super) fn take_over(&mut self, old: &Path) -> Result<(), String> {
        let named: Vec<&str> = self.manifest.files().map(|entry| entry.name.as_str()).collect();
        let is_named = match named[..] {
            [] => false,
            // A start before this one got so far.
            [only] if only == self.name && !self.path(only).is_file() => true,
            _ => return Ok(()),
        };
        if !old.is_file() {
            return Ok(());
        }
        tracing::info!(
            "the append-only file {} becomes the base of the log in {}",
            self.name,
            self.folder.display()
        );
        self.make_folder()?;
        if !is_named {
            let mut manifest = self.manifest.clone();
            manifest.base = Some(Entry { name: self.name.clone(), seq: 1 });
            manifest.base_seq = 1;
            // Named before it is there: who finds it missing finds it where it was.
            self.change(manifest)?;
        }
        self.give_name(old, &self.name)
    }

    fn remove_left_behind(&self) {
        for found in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if found.file_name().to_str().is_some_and(is_left_behind) {
                // It is in nobody's way, only useless.
                self.remove(&found.path());
            }
        }
    }

    /// Opens the file with which the log goes on, once what there is has been loaded. A log without a base gets one of no data:
    /// there is none yet.
    ///
    /// # Errors
    /// The system's text.
    pub fn go_on(&mut self, form: Form) -> Result<Open, String> {
        self.make_folder()?;
        self.remove_left_behind();
        if self.manifest.base.is_none() && self.manifest.incr.is_empty() {
            let aside = PathBuf::from(format!("temp-{}.rdb", std::process::id()));
            tracing::info!("the append-only log begins in {}", self.folder.display());
            let bytes = if form == Form::Rdb { empty() } else { Vec::new() };
            self.write_aside(&aside, &bytes)?;
            self.replace_base(&Base { path: aside, form }, 1)?;
        }
        self.remove_history();
        match self.manifest.incr.last() {
            Some(last) => self.open_to_append(&last.name),
            None => self.add_incr(),
        }
    }
}

/// Where the settings have the log, and what its files' names begin with.
fn place(settings: &Settings) -> (PathBuf, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(settings.appenddirname()).into(), text(settings.appendfilename()))
}

/// The pairs of names and values with which the base of a log begins.
pub fn aux_of_base() -> Vec<(Vec<u8>, Vec<u8>)> {
    let secs = clock::unix_millis().0 / 1000;
    [
        ("redis-ver", REDIS_VERSION.to_owned()),
        ("redis-bits", "64".to_owned()),
        ("ctime", secs.to_string()),
        ("aof-base", "1".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.into(), value.into()))
    .collect()
}

/// What a process leaves in the directory that ended while it wrote something aside.
fn is_left_behind(name: &str) -> bool {
    name.starts_with("temp-") && [".rdb", ".aof", ".incr", ".manifest"].iter().any(|end| name.ends_with(end))
}

/// A snapshot of no data.
fn empty() -> Vec<u8> {
    let mut out = Vec::new();
    push_header(VERSION_WITHOUT_FIELD_ENDS, &mut out);
    let mut pieces = Pieces::new(false);
    for (name, value) in aux_of_base() {
        pieces.push_aux(&name, &value, &mut out);
    }
    push_end(&mut out, crc64::checksum);
    out
}

/// Begins to log, with the log that was loaded or with none. Logging is turned off or on if settings have changed meanwhile.
///
/// # Errors
/// Where the files cannot be had.
pub fn begin(server: &'static Server, files: Option<Files>) -> Result<(), String> {
    begin_writer(server, files)?;
    // Who changes settings from here on sees to it, and what was changed before is seen here.
    let turn = server.plan.lock();
    server.journal.has_begun.store(true, Relaxed);
    drop(turn);
    match (server.journal.is_on(), server.settings().appendonly()) {
        (false, true) => turn_on(server),
        (true, false) => {
            if let Some(mailbox) = server.mailboxes.first() {
                mailbox.send(Message::Work(Work(Box::new(turn_off))));
            }
        }
        _ => {}
    }
    Ok(())
}

fn begin_writer(server: &'static Server, files: Option<Files>) -> Result<(), String> {
    let settings = server.settings();
    server.journal.follow(&settings);
    let Some(mut files) = files else {
        let disk = || Box::new(larder_behind::Files);
        let files = Files::of(&settings, disk()).unwrap_or_else(|text| {
            tracing::warn!("{text}");
            Files::unread(&settings, disk())
        });
        return super::writer::begin(server, files, None);
    };
    let open = files.go_on(Base::form(&settings))?;
    let bytes = files.bytes();
    server.journal.figures.current_bytes.store(bytes, Relaxed);
    server.journal.figures.base_bytes.store(bytes, Relaxed);
    server.journal.switch(true);
    super::writer::begin(server, files, Some(open))
}

/// Writes what is still to be written, and forces it to disk, once no worker is left.
pub fn finish(server: &'static Server) {
    if server.journal.is_on()
        && let Err(text) = server.journal.flush(true)
    {
        tracing::error!("the append-only log is not all on disk: {text}");
    }
}
