//! The files of the log: the manifest and what it names, in the directory of `appenddirname`.
//!
//! Invariant: what the manifest names is there. A new file is made before it is named, and one that is no longer named is removed
//! after; the manifest itself is written aside and renamed. So a crash at any point leaves a log that loads.

use super::Base;
use larder_behind::{Disk, Sink};
use larder_persist::aof::Manifest;
use std::path::{Path, PathBuf};

/// Where a log lies, and of what it consists.
pub struct Files {
    disk: Box<dyn Disk>,
    /// The directory.
    pub folder: PathBuf,
    /// What the files' names begin with.
    pub name: String,
    /// What there is.
    pub manifest: Manifest,
}

/// A file that is appended to.
pub struct Open {
    sink: Box<dyn Sink>,
    /// How long it is.
    pub len: u64,
    /// There may be a part of something behind that.
    is_torn: bool,
}

impl Open {
    /// Appends all or nothing: what was written in part is cut off again, at the latest before the next try.
    ///
    /// # Errors
    /// The system's text.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.is_torn {
            self.cut()?;
        }
        match self.sink.append(bytes) {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.is_torn = true;
                let _ = self.cut();
                Err(describe(&error))
            }
        }
    }

    fn cut(&mut self) -> Result<(), String> {
        self.sink.cut(self.len).map_err(|error| describe(&error))?;
        self.is_torn = false;
        Ok(())
    }

    /// Has what was appended survive a power cut.
    ///
    /// # Errors
    /// The system's text.
    pub fn sync(&mut self) -> Result<(), String> {
        self.sink.sync().map_err(|error| describe(&error))
    }
}

/// What the system says of an error, without its number.
pub fn describe(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text.get(..at).unwrap_or_default().to_owned(),
        None => text,
    }
}

impl Files {
    /// The log named `name` in `folder`, with what its manifest names; nothing where there is none.
    ///
    /// # Errors
    /// Where the manifest cannot be read, or is none.
    pub fn open(disk: Box<dyn Disk>, folder: PathBuf, name: String) -> Result<Files, String> {
        let path = folder.join(manifest_name(&name));
        let manifest = match std::fs::read(&path) {
            Ok(text) => {
                Manifest::parse(&text).map_err(|error| format!("{} is damaged: {error}", path.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Manifest::default(),
            Err(error) => return Err(format!("cannot read {}: {}", path.display(), describe(&error))),
        };
        Ok(Files { disk, folder, name, manifest })
    }

    /// A log of which nothing is known to be there.
    pub fn empty(disk: Box<dyn Disk>, folder: PathBuf, name: String) -> Files {
        Files { disk, folder, name, manifest: Manifest::default() }
    }

    /// The path of a file of the log.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// How long all files are that are loaded.
    pub fn bytes(&self) -> u64 {
        let len = |name: &str| std::fs::metadata(self.path(name)).map_or(0, |found| found.len());
        self.manifest.files().map(|entry| len(&entry.name)).sum()
    }

    /// Opens a file of the log to append to it; it is made where there is none.
    ///
    /// # Errors
    /// The system's text.
    pub fn open_to_append(&self, name: &str) -> Result<Open, String> {
        let path = self.path(name);
        let sink =
            self.disk.open(&path).map_err(|error| format!("{}: {}", path.display(), describe(&error)))?;
        let len = std::fs::metadata(&path).map_or(0, |found| found.len());
        Ok(Open { sink, len, is_torn: false })
    }

    /// Makes the directory where there is none.
    ///
    /// # Errors
    /// The system's text.
    pub fn make_folder(&self) -> Result<(), String> {
        let made = match std::fs::create_dir(&self.folder) {
            Err(_) if self.folder.is_dir() => Ok(()),
            made => made,
        };
        made.map_err(|error| {
            format!("cannot make the directory {}: {}", self.folder.display(), describe(&error))
        })
    }

    /// Makes a file in the directory, and removes it: whether the next one can be made.
    ///
    /// # Errors
    /// The system's text.
    pub fn try_file(&self) -> Result<(), String> {
        let name = format!("temp-{}.trial.incr", self.name);
        self.open_to_append(&name)?;
        self.remove(&self.path(&name));
        Ok(())
    }

    /// Puts a manifest into force.
    ///
    /// # Errors
    /// The system's text; the old one is in force then, or the new one is and may not survive a power cut.
    pub fn change(&mut self, manifest: Manifest) -> Result<(), String> {
        let path = self.path(&manifest_name(&self.name));
        let aside = self.path(&format!("temp-{}", manifest_name(&self.name)));
        let failed = |error: std::io::Error| format!("cannot write {}: {}", path.display(), describe(&error));
        let write = || -> std::io::Result<()> {
            self.remove(&aside);
            let mut sink = self.disk.open(&aside)?;
            sink.append(manifest.print().as_bytes())?;
            sink.sync()?;
            self.disk.rename(&aside, &path)
        };
        write().map_err(failed)?;
        self.manifest = manifest;
        self.disk.sync_folder(&self.folder).map_err(failed)
    }

    /// Opens a new incremental file and names it in the manifest.
    ///
    /// # Errors
    /// The system's text; all is as it was then.
    pub fn add_incr(&mut self) -> Result<Open, String> {
        let mut manifest = self.manifest.clone();
        let name = manifest.add_incr(&self.name);
        let open = self.open_to_append(&name)?;
        if let Err(text) = self.change(manifest) {
            if self.manifest.incr.last().is_none_or(|last| last.name != name) {
                let _ = self.disk.remove(&self.path(&name));
            }
            return Err(text);
        }
        Ok(open)
    }

    /// Puts a file that was written aside in place of the base and of all incremental files before number `from`.
    ///
    /// # Errors
    /// The system's text; all is as it was then.
    pub fn replace_base(&mut self, base: &Base, from: u64) -> Result<(), String> {
        let mut manifest = self.manifest.clone();
        let name = manifest.replace_base(&self.name, Base::extension(base.form), from);
        self.give_name(&base.path, &name)?;
        self.change(manifest)?;
        self.remove_history();
        Ok(())
    }

    /// Puts a base and the incremental file behind it into force, which were both written aside: the first of this log, or of one that
    /// begins anew. What there was before goes.
    ///
    /// # Errors
    /// The system's text. The manifest is as it was then, or the new one is and may not survive a power cut.
    pub fn put_first(&mut self, base: &Base, incr_aside: &Path) -> Result<(), String> {
        let mut manifest = self.manifest.clone();
        let name = manifest.replace_base(&self.name, Base::extension(base.form), u64::MAX);
        let incr = manifest.add_incr(&self.name);
        self.give_name(&base.path, &name)?;
        self.give_name(incr_aside, &incr)?;
        self.change(manifest)?;
        self.remove_history();
        Ok(())
    }

    /// Gives a file that was written elsewhere its name in this log.
    ///
    /// # Errors
    /// The system's text.
    pub(super) fn give_name(&self, from: &Path, name: &str) -> Result<(), String> {
        let to = self.path(name);
        self.disk.rename(from, &to).map_err(|error| {
            format!("cannot rename {} to {}: {}", from.display(), to.display(), describe(&error))
        })
    }

    /// Writes a file anew and forces it to disk.
    ///
    /// # Errors
    /// The system's text; nothing of the file is there then, as far as the system lets it be removed.
    pub(super) fn write_aside(&self, path: &Path, bytes: &[u8]) -> Result<(), String> {
        self.remove(path);
        let write = || -> std::io::Result<()> {
            let mut sink = self.disk.open(path)?;
            sink.append(bytes)?;
            sink.sync()
        };
        write().map_err(|error| {
            self.remove(path);
            format!("cannot write {}: {}", path.display(), describe(&error))
        })
    }

    /// Removes a file that is in nobody's way, if it is there.
    pub fn remove(&self, path: &Path) {
        let _ = self.disk.remove(path);
    }

    /// Removes files of the past, and forgets them.
    pub fn remove_history(&mut self) {
        if self.manifest.history.is_empty() {
            return;
        }
        let mut manifest = self.manifest.clone();
        for entry in manifest.history.drain(..) {
            let path = self.path(&entry.name);
            if let Err(error) = self.disk.remove(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!("cannot remove {}: {error}", path.display());
            }
        }
        if let Err(text) = self.change(manifest) {
            tracing::warn!("{text}");
        }
    }
}

/// The file name of the manifest of a log named `name`.
fn manifest_name(name: &str) -> String {
    format!("{name}.manifest")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Form;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// A disk of which the call of a number fails, and all that follow do so, as often as said.
    #[derive(Clone)]
    struct Weak {
        calls: Arc<AtomicUsize>,
        fails_at: usize,
        times: usize,
    }

    impl Weak {
        fn call(&self) -> io::Result<()> {
            let call = self.calls.fetch_add(1, Relaxed);
            let fails = (self.fails_at..self.fails_at + self.times).contains(&call);
            if fails { Err(io::Error::other("the disk is weak")) } else { Ok(()) }
        }
    }

    struct WeakSink(Box<dyn Sink>, Weak);

    impl Disk for Weak {
        fn open(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
            self.call()?;
            Ok(Box::new(WeakSink(larder_behind::Files.open(path)?, self.clone())))
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            self.call()?;
            larder_behind::Files.remove(path)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.call()?;
            larder_behind::Files.rename(from, to)
        }

        fn sync_folder(&self, path: &Path) -> io::Result<()> {
            self.call()?;
            larder_behind::Files.sync_folder(path)
        }
    }

    impl Sink for WeakSink {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            if let Err(error) = self.1.call() {
                // Half of it gets through.
                self.0.append(&bytes[..bytes.len() / 2])?;
                return Err(error);
            }
            self.0.append(bytes)
        }

        fn sync(&mut self) -> io::Result<()> {
            self.1.call()?;
            self.0.sync()
        }

        fn cut(&mut self, bytes: u64) -> io::Result<()> {
            self.1.call()?;
            self.0.cut(bytes)
        }
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("larder-journal-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        folder
    }

    /// Opens a log, rewrites it twice, and has one call after the other fail.
    fn live(folder: &Path, weak: Weak) -> Result<(), String> {
        let mut files = Files::open(Box::new(weak), folder.to_owned(), "a".into())?;
        files.make_folder()?;
        let mut open = match files.manifest.incr.last() {
            Some(last) => files.open_to_append(&last.name)?,
            None => files.add_incr()?,
        };
        open.append(b"one")?;
        open.sync()?;
        let mut next = files.add_incr()?;
        let aside = folder.join("aside");
        std::fs::write(&aside, b"base").map_err(|error| describe(&error))?;
        next.append(b"two")?;
        files.replace_base(&Base { path: aside, form: Form::Rdb }, files.manifest.incr_seq)
    }

    #[test]
    fn whatever_call_fails_the_manifest_names_files_that_are_there() {
        let is_whole = |folder: &Path| {
            let files = Files::open(Box::new(larder_behind::Files), folder.to_owned(), "a".into())
                .expect("a manifest");
            files.manifest.files().all(|entry| files.path(&entry.name).is_file())
        };
        let mut was_good = false;
        for fails_at in 0..60 {
            for times in [1, 5] {
                let folder = folder(&format!("weak-{fails_at}-{times}"));
                let weak = Weak { calls: Arc::default(), fails_at, times };
                let result = live(&folder, weak.clone());
                was_good |= result.is_ok() && weak.calls.load(Relaxed) <= fails_at;
                assert!(is_whole(&folder), "call {fails_at} failed");
                // And it goes on from there.
                live(&folder, Weak { calls: Arc::default(), fails_at: usize::MAX / 2, times: 0 })
                    .expect("a good disk");
                assert!(is_whole(&folder), "behind call {fails_at}");
                let _ = std::fs::remove_dir_all(&folder);
            }
        }
        assert!(was_good, "there are more calls than that");
    }

    /// What the server does at its start with a log that is not there yet, and when logging is turned on while it runs.
    fn begin_anew(folder: &Path, weak: Weak) -> Result<(), String> {
        let mut files = Files::open(Box::new(weak), folder.to_owned(), "a".into())?;
        files.make_folder()?;
        let [base, incr] = ["temp-1.rdb", "temp-a.incr"].map(|name| folder.join(name));
        files.remove(&incr);
        let mut open = files.open_to_append("temp-a.incr")?;
        open.append(b"one")?;
        files.write_aside(&base, b"base")?;
        open.sync()?;
        files.put_first(&Base { path: base, form: Form::Rdb }, &incr)
    }

    #[test]
    fn whatever_call_fails_a_log_that_begins_anew_begins_whole_or_not_at_all() {
        let contents = |folder: &Path| -> Vec<Vec<u8>> {
            let files = Files::open(Box::new(larder_behind::Files), folder.to_owned(), "a".into())
                .expect("a manifest");
            let read = |entry: &larder_persist::aof::Entry| {
                std::fs::read(files.path(&entry.name)).expect("a named file")
            };
            files.manifest.files().map(read).collect()
        };
        let new = [b"base".to_vec(), b"one".to_vec()];
        for is_there in [false, true] {
            let (mut fails_at, mut was_good) = (0, false);
            while !was_good {
                let folder = folder(&format!("anew-{is_there}-{fails_at}"));
                let good = || Weak { calls: Arc::default(), fails_at: usize::MAX / 2, times: 0 };
                if is_there {
                    live(&folder, good()).expect("a good disk");
                }
                let before = if is_there { contents(&folder) } else { Vec::new() };
                let weak = Weak { calls: Arc::default(), fails_at, times: 1 };
                let result = begin_anew(&folder, weak.clone());
                was_good = weak.calls.load(Relaxed) <= fails_at;
                let after = contents(&folder);
                assert!(after == before || after == new, "call {fails_at} failed: {after:?}");
                assert!(result.is_err() || after == new, "call {fails_at} failed and was not told");
                begin_anew(&folder, good()).expect("a good disk");
                assert_eq!(contents(&folder), new, "behind call {fails_at}");
                let _ = std::fs::remove_dir_all(&folder);
                fails_at += 1;
            }
            assert!(fails_at > 8, "{fails_at} calls");
        }
    }

    #[test]
    fn whatever_call_fails_the_log_of_before_version_7_is_taken_over_or_left() {
        let mut was_good = false;
        for fails_at in 0..20 {
            let folder = folder(&format!("old-{fails_at}"));
            std::fs::create_dir_all(&folder).expect("a folder");
            let old = folder.join("a");
            std::fs::write(&old, b"commands").expect("a log");
            let take = |weak: Weak| {
                let mut files = Files::open(Box::new(weak), folder.join("dir"), "a".into())?;
                files.take_over(&old)?;
                Ok::<_, String>(files)
            };
            let weak = Weak { calls: Arc::default(), fails_at, times: 1 };
            let taken = take(weak.clone());
            was_good |= taken.is_ok() && weak.calls.load(Relaxed) <= fails_at;
            // As a start behind that finds it, whatever state it was left in.
            let files = take(Weak { calls: Arc::default(), fails_at: usize::MAX / 2, times: 0 });
            let files = files.unwrap_or_else(|text| panic!("behind call {fails_at}: {text}"));
            let names: Vec<_> = files.manifest.files().map(|entry| entry.name.as_str()).collect();
            assert_eq!(names, ["a"], "behind call {fails_at}");
            assert_eq!(
                std::fs::read(files.path("a")).expect("the log"),
                b"commands",
                "behind call {fails_at}"
            );
            let _ = std::fs::remove_dir_all(&folder);
        }
        assert!(was_good, "there are more calls than that");
    }

    #[test]
    fn what_was_written_in_part_is_cut_off_before_the_next_try() {
        let folder = folder("torn");
        std::fs::create_dir_all(&folder).expect("a folder");
        // The second append fails, and so does the cut behind it.
        let weak = Weak { calls: Arc::default(), fails_at: 2, times: 2 };
        let files = Files::empty(Box::new(weak), folder.clone(), "a".into());
        let mut open = files.open_to_append("x").expect("a file");
        open.append(b"good").expect("the first");
        assert_eq!(open.append(b"halved"), Err("the disk is weak".into()));
        assert_eq!(std::fs::read(folder.join("x")).expect("a file"), b"goodhal");
        open.append(b"whole").expect("the third");
        assert_eq!(std::fs::read(folder.join("x")).expect("a file"), b"goodwhole");
        let _ = std::fs::remove_dir_all(&folder);
    }
}
