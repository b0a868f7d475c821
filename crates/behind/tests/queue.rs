//! The queue against a map: whatever fails and is killed, the store ends with the last value that each key was acknowledged with.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_behind::{
    Change, Config, Disk, Fields, Files, Fsync, Key, Letter, NewWrite, Outcome, Owner, Queue, Sink, Store,
    Write, send_all,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// A file system that has room for so many more bytes, whose syncs fail while it is told so, and which knows how much of each file
/// survives a power cut.
#[derive(Clone, Default)]
struct Weak(Arc<(AtomicI64, AtomicI64)>, Arc<Mutex<BTreeMap<PathBuf, u64>>>);

struct WeakSink {
    file: Box<dyn Sink>,
    path: PathBuf,
    disk: Weak,
}

impl Weak {
    fn with_room(bytes: i64) -> Weak {
        let weak = Weak::default();
        weak.0.0.store(bytes, Relaxed);
        weak
    }
}

impl Disk for Weak {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(WeakSink { file: Files.open(path)?, path: path.to_owned(), disk: self.clone() }))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Files.remove(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Files.rename(from, to)?;
        let mut synced = self.1.lock().unwrap();
        match synced.remove(from) {
            Some(length) => synced.insert(to.to_owned(), length),
            None => synced.remove(to),
        };
        Ok(())
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        Files.sync_folder(path)
    }
}

impl Sink for WeakSink {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = self.disk.0.0.fetch_sub(bytes.len() as i64, Relaxed);
        if room < bytes.len() as i64 {
            self.disk.0.0.store(room, Relaxed);
            self.file.append(&bytes[..room.max(0) as usize])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.append(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        if self.disk.0.1.load(Relaxed) > 0 {
            return Err(io::Error::other("the disk is broken"));
        }
        let length = std::fs::metadata(&self.path)?.len();
        self.disk.1.lock().unwrap().insert(self.path.clone(), length);
        self.file.sync()
    }
    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.disk
            .1
            .lock()
            .unwrap()
            .entry(self.path.clone())
            .and_modify(|length| *length = bytes.min(*length));
        self.file.cut(bytes)
    }
}

/// A store that is a map, and what it does with the next batches.
#[derive(Default)]
struct Fake {
    map: Mutex<BTreeMap<Key, Vec<u8>>>,
    hashes: Mutex<BTreeMap<Key, Hash>>,
    /// Every change, in order.
    history: Mutex<Vec<(Key, Option<Vec<u8>>)>>,
    letters: Mutex<Vec<Letter>>,
    /// Batches that it may still take; below 0 for any number.
    patience: AtomicI64,
    batches: AtomicU64,
}

type Hash = BTreeMap<Vec<u8>, Vec<u8>>;

impl Fake {
    fn take(&self, key: &Key, fields: &Fields) {
        let mut hashes = self.hashes.lock().unwrap();
        let before = hashes.remove(key).unwrap_or_default();
        let after: Hash = fields.lay_over(before.into_iter().collect()).into_iter().collect();
        if !after.is_empty() {
            hashes.insert(key.clone(), after);
        }
    }
}

fn is_bad(change: &Change) -> bool {
    match change {
        Change::Set(value) => &**value == b"bad",
        Change::Delete => false,
        Change::Fields(fields) => fields.iter().any(|(_, value)| value == Some(b"bad")),
    }
}

fn fields(all: &[(&str, Option<&str>)]) -> Change {
    let mut fields = Fields::default();
    all.iter().for_each(|(field, value)| fields.put(field.as_bytes(), value.map(str::as_bytes)));
    Change::Fields(Arc::new(fields))
}

struct Handle(Arc<Fake>);

impl Store for Handle {
    type Statement = (Key, Change);

    fn batch_max(&self) -> usize {
        7
    }
    fn prepare(&self, write: &Write) -> Option<Self::Statement> {
        let is_held = write.key.bytes.starts_with(b"held");
        (!is_held).then(|| ((*write.key).clone(), write.change.clone()))
    }
    fn text(&self, (key, _): &Self::Statement) -> String {
        format!("statement of {}", key.bytes.escape_ascii())
    }
    fn write(&self, statements: &[Self::Statement]) -> Outcome {
        match self.0.patience.load(Relaxed) {
            0 => return Outcome::Later("down".to_owned()),
            1.. => _ = self.0.patience.fetch_sub(1, Relaxed),
            _ => {}
        }
        self.0.batches.fetch_add(1, Relaxed);
        if statements.iter().any(|(_, change)| is_bad(change)) {
            return Outcome::Refused("it is bad".to_owned());
        }
        for (key, change) in statements {
            let value = match change {
                Change::Set(value) => Some(value.to_vec()),
                Change::Delete => None,
                Change::Fields(fields) => {
                    self.0.take(key, fields);
                    continue;
                }
            };
            match &value {
                Some(value) => _ = self.0.map.lock().unwrap().insert(key.clone(), value.clone()),
                None => {
                    self.0.map.lock().unwrap().remove(key);
                    self.0.hashes.lock().unwrap().remove(key);
                }
            }
            self.0.history.lock().unwrap().push((key.clone(), value));
        }
        Outcome::Done
    }
    fn leaves(&self, _: &[Write]) {}
    fn buried(&self, letter: Letter) {
        self.0.letters.lock().unwrap().push(letter);
    }
    fn now_ms(&self) -> u64 {
        1000
    }
}

fn config(fsync: Fsync) -> Config {
    Config { fsync, bytes_max: 100_000, segment_bytes: 200 }
}

fn key(name: &str) -> Key {
    Key { db: 0, bytes: name.as_bytes().into() }
}

struct Running {
    queue: Arc<Queue>,
    sender: Option<JoinHandle<()>>,
    owner: Arc<Owner>,
    settled: mpsc::Receiver<u64>,
}

impl Running {
    fn open(folder: &Path, store: &Arc<Fake>, disk: &Weak, fsync: Fsync) -> Result<Running, String> {
        let (tell, settled) = mpsc::channel();
        let settled_hook = Box::new(move |owner: &Arc<Owner>| _ = tell.send(owner.client));
        let opened = Queue::open("s", folder, config(fsync), disk.clone(), settled_hook)?;
        let (queue, handle) = (Arc::clone(&opened.queue), Handle(Arc::clone(store)));
        let sender = std::thread::spawn(move || send_all(&queue, &handle));
        Ok(Running { queue: opened.queue, sender: Some(sender), owner: Arc::new(Owner::new(7)), settled })
    }

    /// Pushes and waits until it is on disk.
    fn push(&self, name: &str, value: Option<&str>) -> Result<u64, String> {
        let change = value.map_or(Change::Delete, |value| Change::Set(value.as_bytes().into()));
        self.push_all(&[(name, change)]).map(|seqs| seqs[0])
    }

    /// Pushes some writes together.
    fn push_all(&self, writes: &[(&str, Change)]) -> Result<Vec<u64>, String> {
        let (tell, told) = mpsc::channel();
        let done = Box::new(move |result| tell.send(result).unwrap());
        let write =
            |(name, change): &(&str, Change)| NewWrite { key: key(name), hash: 1, change: change.clone() };
        self.queue.push(writes.iter().map(write).collect(), &self.owner, 5, done)?;
        told.recv_timeout(SOON).unwrap()
    }

    fn newest(&self, name: &str) -> Option<Option<String>> {
        match self.queue.newest(0, name.as_bytes())? {
            Change::Set(value) => Some(Some(String::from_utf8_lossy(&value).into_owned())),
            Change::Delete => Some(None),
            Change::Fields(fields) => panic!("{fields:?}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.queue.close();
        self.sender.take().unwrap().join().unwrap();
        self.queue.check();
    }
}

fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < SOON, "it does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Copies a folder as it is at some moment: again where files come and go meanwhile.
fn copy(from: &Path, to: &Path) {
    let all = || -> Vec<PathBuf> {
        let mut paths: Vec<_> = std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    loop {
        let _ = std::fs::remove_dir_all(to);
        std::fs::create_dir_all(to).unwrap();
        let paths = all();
        let copied = paths.iter().all(|path| std::fs::copy(path, to.join(path.file_name().unwrap())).is_ok());
        if copied && paths == all() {
            return;
        }
    }
}

/// What is in a folder after a power cut.
fn copy_what_survives(from: &Path, to: &Path, disk: &Weak) {
    copy(from, to);
    for entry in std::fs::read_dir(to).unwrap() {
        let path = entry.unwrap().path();
        let mut all = disk.1.lock().unwrap();
        let synced = all.get(&from.join(path.file_name().unwrap())).copied().unwrap_or(0);
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(synced).unwrap();
        all.insert(path, synced);
    }
}

fn fake(patience: i64) -> Arc<Fake> {
    let fake = Fake::default();
    fake.patience.store(patience, Relaxed);
    Arc::new(fake)
}

#[test]
fn a_write_is_read_sent_and_settled() {
    let folder = tempfile::tempdir().unwrap();
    let store = fake(0);
    let running = Running::open(folder.path(), &store, &Weak::with_room(i64::MAX), Fsync::Always).unwrap();
    let first = running.push("a", Some("1")).unwrap();
    let second = running.push("a", Some("2")).unwrap();
    running.push("b", None).unwrap();
    assert!(first < second && !running.queue.is_last(1, second));
    assert_eq!((running.newest("a"), running.newest("b")), (Some(Some("2".into())), Some(None)));
    assert_eq!((running.newest("c"), running.owner.unsettled()), (None, 3));
    let figures = running.queue.figures();
    assert_eq!((figures.pending, figures.accepted, figures.oldest_ms), (2, 3, Some(5)));
    store.patience.store(-1, Relaxed);
    assert_eq!(running.settled.recv_timeout(SOON), Ok(7));
    assert_eq!((running.owner.unsettled(), running.newest("a")), (0, None));
    assert_eq!(store.map.lock().unwrap().get(&key("a")), Some(&b"2".to_vec()));
    assert_eq!(running.queue.figures().superseded, 1);
    drop(running);
    // Nothing is sent twice after an orderly end.
    let batches = store.batches.load(Relaxed);
    let running = Running::open(folder.path(), &store, &Weak::with_room(i64::MAX), Fsync::Always).unwrap();
    assert!(running.queue.is_empty());
    drop(running);
    assert_eq!(store.batches.load(Relaxed), batches);
}

#[test]
fn the_bad_ones_become_dead_letters_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = fake(0);
    let disk = Weak::with_room(i64::MAX);
    let running = Running::open(folder.path(), &store, &disk, Fsync::No).unwrap();
    for n in 0..30 {
        running.push(&format!("k{n}"), Some(if n % 10 == 3 { "bad" } else { "good" })).unwrap();
    }
    store.patience.store(-1, Relaxed);
    until(|| running.queue.is_empty());
    assert_eq!(store.map.lock().unwrap().len(), 27);
    let letters = store.letters.lock().unwrap().clone();
    let keys: Vec<_> =
        letters.iter().map(|letter| letter.write.key.bytes.escape_ascii().to_string()).collect();
    assert_eq!(keys, ["k3", "k13", "k23"]);
    assert_eq!((letters[0].id, letters[1].id), ((1000, 0), (1000, 1)));
    assert_eq!((&*letters[0].error, &*letters[0].statement), ("it is bad", "statement of k3"));
    assert_eq!((running.owner.unsettled(), running.queue.figures().letters.0), (0, 3));
    drop(running);
    // They are there again, in the same order, and go when somebody says so.
    let settled = || Box::new(|_: &Arc<Owner>| {});
    let opened = Queue::open("s", folder.path(), config(Fsync::No), disk.clone(), settled()).unwrap();
    assert_eq!(opened.letters, letters);
    assert_eq!(opened.queue.clear_letters().unwrap(), 3);
    drop(opened);
    let opened = Queue::open("s", folder.path(), config(Fsync::No), disk, settled()).unwrap();
    assert!(opened.letters.is_empty());
    opened.queue.close();
    opened.queue.remove_folder();
    assert!(!folder.path().exists());
}

#[test]
fn what_nobody_knows_how_to_send_is_held_and_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = fake(-1);
    let running = Running::open(folder.path(), &store, &Weak::with_room(i64::MAX), Fsync::No).unwrap();
    running.push("held", Some("1")).unwrap();
    running.push("a", Some("1")).unwrap();
    until(|| running.queue.figures().pending == 1);
    assert_eq!((running.queue.figures().held, running.newest("held")), (1, Some(Some("1".into()))));
    running.queue.release();
    until(|| running.queue.figures().held == 1);
    assert!(
        running
            .queue
            .find_key(|key, change| (&*key.bytes == b"held"
                && *change == Change::Set(b"1".as_slice().into()))
            .then_some(()))
            .is_some()
    );
}

#[test]
fn changes_of_fields_add_up_and_those_under_way_are_among_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = fake(0);
    let disk = Weak::with_room(i64::MAX);
    let running = Running::open(folder.path(), &store, &disk, Fsync::No).unwrap();
    for (name, change) in [
        ("h", fields(&[("a", Some("1")), ("b", Some("1"))])),
        ("h", fields(&[("b", Some("2")), ("c", Some("2"))])),
        ("g", Change::Delete),
        ("g", fields(&[("a", Some("3"))])),
        ("h", fields(&[("a", None)])),
    ] {
        running.push_all(&[(name, change)]).unwrap();
    }
    let all = fields(&[("a", None), ("b", Some("2")), ("c", Some("2"))]);
    assert_eq!(running.queue.newest(0, b"h"), Some(all.clone()));
    assert!(running.queue.newest(0, b"g").unwrap().is_whole());
    // Killed, whatever segments those are in, and while some of it may be under way.
    let elsewhere = tempfile::tempdir().unwrap();
    copy(folder.path(), elsewhere.path());
    let again = fake(0);
    again.hashes.lock().unwrap().insert(key("g"), BTreeMap::from([(b"old".to_vec(), b"0".to_vec())]));
    let restarted = Running::open(elsewhere.path(), &again, &Weak::with_room(i64::MAX), Fsync::No).unwrap();
    assert_eq!(restarted.queue.newest(0, b"h"), Some(all));
    again.patience.store(-1, Relaxed);
    until(|| restarted.queue.is_empty());
    let pair = |field: &str, value: &str| (field.as_bytes().to_vec(), value.as_bytes().to_vec());
    let expected = BTreeMap::from([
        (key("g"), BTreeMap::from([pair("a", "3")])),
        (key("h"), BTreeMap::from([pair("b", "2"), pair("c", "2")])),
    ]);
    assert_eq!(*again.hashes.lock().unwrap(), expected);
}

#[test]
fn writes_pushed_together_are_there_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = fake(0);
    let running = Running::open(folder.path(), &store, &Weak::with_room(i64::MAX), Fsync::No).unwrap();
    let set = |value: &str| Change::Set(value.as_bytes().into());
    running.push("a", Some("1")).unwrap();
    let seqs = running.push_all(&[("a", set("2")), ("b", Change::Delete), ("c", fields(&[("x", None)]))]);
    assert_eq!(seqs.unwrap().len(), 3);
    let file = || std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let path = file().filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap();
    let length = std::fs::metadata(&path).unwrap().len();
    // Cut off anywhere in the group, none of it is there.
    for cut in [1, 30, 60, 90] {
        let elsewhere = tempfile::tempdir().unwrap();
        copy(folder.path(), elsewhere.path());
        let torn =
            std::fs::OpenOptions::new().write(true).open(elsewhere.path().join(path.file_name().unwrap()));
        torn.unwrap().set_len(length - cut).unwrap();
        let again = Running::open(elsewhere.path(), &fake(0), &Weak::with_room(i64::MAX), Fsync::No).unwrap();
        assert_eq!((again.newest("a"), again.queue.figures().pending), (Some(Some("1".into())), 1), "{cut}");
    }
    drop(running);
    let again = Running::open(folder.path(), &store, &Weak::with_room(i64::MAX), Fsync::No).unwrap();
    assert_eq!((again.newest("a"), again.queue.figures().pending), (Some(Some("2".into())), 3));
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let (store, disk) = (fake(0), Weak::with_room(2000));
    let running = Running::open(folder.path(), &store, &disk, Fsync::EverySec).unwrap();
    let mut accepted = Vec::new();
    let error = (0..).find_map(|n| match running.push(&format!("k{n}"), Some("value")) {
        Ok(_) => {
            accepted.push(format!("k{n}"));
            None
        }
        Err(error) => Some(error),
    });
    let error = error.unwrap();
    assert!(error.contains("cannot write to") && error.contains("log:"), "{error}");
    assert!(accepted.len() > 20 && running.newest(&format!("k{}", accepted.len())).is_none());
    assert!(running.push("another", Some("value")).is_err());
    assert_eq!(running.owner.unsettled(), accepted.len() as u64);
    assert!(running.queue.figures().failure.is_some());
    let elsewhere = tempfile::tempdir().unwrap();
    copy(folder.path(), elsewhere.path());
    disk.0.0.store(i64::MAX, Relaxed);
    running.push("another", Some("value")).unwrap();
    assert_eq!(running.queue.figures().failure, None);
    store.patience.store(-1, Relaxed);
    until(|| running.queue.is_empty());
    assert_eq!(store.map.lock().unwrap().len(), accepted.len() + 1);
    // Killed while it was full.
    let store = fake(-1);
    let running = Running::open(elsewhere.path(), &store, &Weak::with_room(i64::MAX), Fsync::No).unwrap();
    until(|| running.queue.is_empty());
    assert!(accepted.iter().all(|name| store.map.lock().unwrap().contains_key(&key(name))));
}

#[test]
fn after_a_sync_that_failed_everything_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (store, disk) = (fake(0), Weak::with_room(i64::MAX));
    let running = Running::open(folder.path(), &store, &disk, Fsync::Always).unwrap();
    (0..40).for_each(|n| _ = running.push(&format!("k{n}"), Some("value")).unwrap());
    disk.0.1.store(1, Relaxed);
    assert!(running.push("a", Some("1")).unwrap_err().contains("the disk is broken"));
    assert!(running.push("a", Some("2")).is_err());
    disk.0.1.store(0, Relaxed);
    until(|| running.push("a", Some("3")).is_ok());
    drop(running);
    let running = Running::open(folder.path(), &store, &disk, Fsync::Always).unwrap();
    assert_eq!((running.newest("a"), running.queue.figures().pending), (Some(Some("3".into())), 41));
}

#[test]
fn there_is_room_for_so_much() {
    let folder = tempfile::tempdir().unwrap();
    let store = fake(0);
    let running = Running::open(folder.path(), &store, &Weak::with_room(i64::MAX), Fsync::No).unwrap();
    let large = "x".repeat(60_000);
    running.push("a", Some(&large)).unwrap();
    let error = running.push("b", Some(&large)).unwrap_err();
    assert!(error.contains("wait for it, and behind-max-bytes is 100000"), "{error}");
    // The log does not grow with what is written over and over.
    for n in 0..2000 {
        running.push("c", Some(&format!("{n}"))).unwrap();
    }
    let figures = running.queue.figures();
    assert!(figures.log_bytes < 2 * figures.bytes + 10 * 200, "{figures:?}");
    store.patience.store(-1, Relaxed);
    until(|| running.queue.is_empty());
    running.push("b", Some(&large)).unwrap();
}

#[test]
fn a_power_cut_takes_nothing_while_old_files_go() {
    let folder = tempfile::tempdir().unwrap();
    let (store, disk) = (fake(0), Weak::with_room(i64::MAX));
    let running = Running::open(folder.path(), &store, &disk, Fsync::Always).unwrap();
    (0..5).for_each(|n| _ = running.push(&format!("k{n}"), Some("value")).unwrap());
    for n in 0..100 {
        running.push("c", Some(&format!("{n}"))).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        let after = tempfile::tempdir().unwrap();
        copy_what_survives(folder.path(), after.path(), &disk);
        let again = Running::open(after.path(), &fake(0), &Weak::with_room(i64::MAX), Fsync::No).unwrap();
        assert_eq!((again.queue.figures().pending, again.newest("c")), (6, Some(Some(format!("{n}")))));
    }
}

#[test]
fn another_server_may_not_have_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = fake(-1);
    let _running = Running::open(folder.path(), &store, &Weak::with_room(i64::MAX), Fsync::No).unwrap();
    let error = Running::open(folder.path(), &store, &Weak::with_room(i64::MAX), Fsync::No).err().unwrap();
    assert!(error.contains("in use by another server"), "{error}");
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8),
    Del(u8),
    /// Fields of a hash change: this one is set or removed.
    Fields(u8, u8, bool),
    /// The store takes so many batches.
    Serve(i64),
    Full(i64),
    /// The server is killed, or the power cut, and it starts again on what is on disk.
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0u8..6).prop_map(Step::Set),
        2 => (0u8..8).prop_map(Step::Del),
        6 => (6u8..8, 0u8..4, any::<bool>()).prop_map(|(id, field, set)| Step::Fields(id, field, set)),
        2 => (1i64..4).prop_map(Step::Serve),
        1 => (0i64..300).prop_map(Step::Full),
        1 => Just(Step::Kill),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn the_store_ends_with_what_was_acknowledged_last(steps in steps(), with_power_cuts: bool) {
        let fsync = if with_power_cuts { Fsync::Always } else { Fsync::No };
        let mut folder = tempfile::tempdir().unwrap();
        let (store, disk) = (fake(0), Weak::with_room(i64::MAX));
        let mut running = Running::open(folder.path(), &store, &disk, fsync).unwrap();
        let mut acknowledged: BTreeMap<Key, Option<Vec<u8>>> = BTreeMap::new();
        let mut hashes: BTreeMap<Key, Hash> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Set(id) | Step::Del(id) => {
                    let value = matches!(step, Step::Set(_)).then(|| format!("{number:05}"));
                    let name = format!("k{id}");
                    if running.push(&name, value.as_deref()).is_ok() {
                        hashes.remove(&key(&name));
                        acknowledged.insert(key(&name), value.clone().map(String::into_bytes));
                        prop_assert!(running.newest(&name).is_none_or(|newest| newest == value));
                    }
                }
                Step::Fields(id, field, is_set) => {
                    let (name, value) = (format!("k{id}"), format!("{number:05}"));
                    let field = format!("f{field}");
                    let change = fields(&[(&field, is_set.then_some(&value))]);
                    if running.push_all(&[(&name, change)]).is_ok() {
                        let hash = hashes.entry(key(&name)).or_default();
                        if is_set {
                            hash.insert(field.into_bytes(), value.into_bytes());
                        } else {
                            hash.remove(field.as_bytes());
                        }
                    }
                }
                Step::Serve(batches) => store.patience.store(batches, Relaxed),
                Step::Full(room) => disk.0.0.store(room, Relaxed),
                Step::Kill => {
                    let next = tempfile::tempdir().unwrap();
                    let patience = store.patience.swap(0, Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                    if with_power_cuts {
                        copy_what_survives(folder.path(), next.path(), &disk);
                    } else {
                        copy(folder.path(), next.path());
                    }
                    drop(running);
                    store.patience.store(patience, Relaxed);
                    folder = next;
                    disk.0.0.store(i64::MAX, Relaxed);
                    running = Running::open(folder.path(), &store, &disk, fsync).unwrap();
                }
            }
            running.queue.check();
        }
        disk.0.0.store(i64::MAX, Relaxed);
        store.patience.store(-1, Relaxed);
        until(|| running.queue.is_empty());
        let expected: BTreeMap<Key, Vec<u8>> =
            acknowledged.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        prop_assert_eq!(&*store.map.lock().unwrap(), &expected);
        hashes.retain(|_, hash| !hash.is_empty());
        prop_assert_eq!(&*store.hashes.lock().unwrap(), &hashes);
        // Of each key nothing older came after something newer.
        let mut last: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
        for (key, value) in store.history.lock().unwrap().iter() {
            let Some(value) = value else { continue };
            prop_assert!(last.get(key).is_none_or(|before| before <= value));
            last.insert(key.clone(), value.clone());
        }
    }
}
