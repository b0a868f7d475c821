//! The scripts that clients have sent, by their digests, and what runs of them at the moment.
//!
//! A script that EVAL brought goes again when five hundred others have been used since; one that SCRIPT LOAD brought stays. Each
//! worker has compiled what it has run (`execute/script.rs`), and asks a script whether it is still wanted by a flag of it.
//!
//! Invariant: a script in the table is wanted; one that left it says so.

use crate::clock;
use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use foldhash::HashMap;
use larder_script::library::{Declared, Found, Libraries, Library};
use larder_script::{Flags, hex_digest};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Scripts kept that nobody asked to keep.
const PASSING_MAX: usize = 500;

/// A digest in hexadecimal digits, in lower case.
pub type Digest = [u8; 40];

/// Which keys a script touches, as far as its runs have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It has not run.
    Unknown = 0,
    /// Those it declares.
    Declared = 1,
    /// Others too, or all there are.
    Beyond = 2,
}

/// What is known of the keys that a script touches.
#[derive(Debug, Default)]
pub struct Learned(AtomicU8);

impl Learned {
    /// What is known.
    #[inline]
    pub fn get(&self) -> Reach {
        match self.0.load(Relaxed) {
            0 => Reach::Unknown,
            1 => Reach::Declared,
            _ => Reach::Beyond,
        }
    }

    /// Notes what a run has shown.
    pub fn learn(&self, reach: Reach) {
        self.0.store(reach as u8, Relaxed);
    }
}

/// A script.
#[derive(Debug)]
pub struct Script {
    /// Its digest, by which it is asked for.
    pub digest: Digest,
    /// Its text.
    pub body: Box<[u8]>,
    /// What its first line says.
    pub flags: Flags,
    /// Where its code begins.
    pub code_at: usize,
    /// SCRIPT LOAD brought it: it stays until SCRIPT FLUSH.
    is_kept: AtomicBool,
    /// It is not in the table any more.
    is_gone: AtomicBool,
    /// When it was last used, by a counter.
    used: AtomicU64,
    pub reach: Learned,
}

impl Script {
    /// Whether it has left the table.
    #[inline]
    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Relaxed)
    }

    /// Its code.
    pub fn code(&self) -> &[u8] {
        self.body.get(self.code_at..).unwrap_or_default()
    }
}

/// All scripts.
#[derive(Debug, Default)]
pub struct Scripts {
    all: Mutex<HashMap<Digest, Arc<Script>>>,
    /// How many of them nobody asked to keep.
    passing: AtomicUsize,
    clock: AtomicU64,
    /// Scripts that went because of others.
    pub evicted: AtomicU64,
    bytes: AtomicUsize,
}

impl Scripts {
    /// The script with this digest.
    pub fn get(&self, digest: &Digest) -> Option<Arc<Script>> {
        self.all.lock().get(digest).map(Arc::clone)
    }

    /// Notes that a script is used.
    #[inline]
    pub fn touch(&self, script: &Script) {
        if !script.is_kept.load(Relaxed) {
            // Whoever comes later has the greater number; that two may have the same says nothing of the order anyway.
            let now = self.clock.load(Relaxed) + 1;
            self.clock.store(now, Relaxed);
            script.used.store(now, Relaxed);
        }
    }

    /// Adds a script, or answers the one that is there. `keep`: SCRIPT LOAD brought it.
    pub fn add(
        &self,
        digest: Digest,
        body: &[u8],
        (flags, code_at): (Flags, usize),
        keep: bool,
    ) -> Arc<Script> {
        let mut all = self.all.lock();
        if let Some(script) = all.get(&digest) {
            if keep && !script.is_kept.swap(true, Relaxed) {
                self.passing.fetch_sub(1, Relaxed);
            }
            return Arc::clone(script);
        }
        let script = Arc::new(Script {
            digest,
            body: body.into(),
            flags,
            code_at,
            is_kept: AtomicBool::new(keep),
            is_gone: AtomicBool::new(false),
            used: AtomicU64::new(0),
            reach: Learned::default(),
        });
        self.touch(&script);
        if !keep {
            if self.passing.load(Relaxed) >= PASSING_MAX {
                self.drop_oldest(&mut all);
            }
            self.passing.fetch_add(1, Relaxed);
        }
        self.bytes.fetch_add(memory_of(&script), Relaxed);
        all.insert(digest, Arc::clone(&script));
        script
    }

    fn drop_oldest(&self, all: &mut HashMap<Digest, Arc<Script>>) {
        let passing = all.values().filter(|script| !script.is_kept.load(Relaxed));
        let Some(oldest) = passing.min_by_key(|script| script.used.load(Relaxed)).map(|script| script.digest)
        else {
            return;
        };
        if let Some(script) = all.remove(&oldest) {
            script.is_gone.store(true, Relaxed);
            self.bytes.fetch_sub(memory_of(&script), Relaxed);
            self.passing.fetch_sub(1, Relaxed);
            self.evicted.fetch_add(1, Relaxed);
        }
    }

    /// Forgets all scripts.
    pub fn flush(&self) {
        let mut all = self.all.lock();
        for (_, script) in all.drain() {
            script.is_gone.store(true, Relaxed);
        }
        self.passing.store(0, Relaxed);
        self.bytes.store(0, Relaxed);
    }

    /// How many scripts there are.
    pub fn len(&self) -> usize {
        self.all.lock().len()
    }

    /// Bytes held for them, beside what workers have compiled.
    pub fn memory(&self) -> usize {
        self.bytes.load(Relaxed)
    }
}

fn memory_of(script: &Script) -> usize {
    size_of::<Script>() + script.body.len() + size_of::<(Digest, Arc<Script>)>()
}

/// The digest of a script's text.
pub fn digest_of(body: &[u8]) -> Digest {
    let mut digest = [0; 40];
    digest.iter_mut().zip(hex_digest(body).bytes()).for_each(|(to, from)| *to = from);
    digest
}

/// A digest as a client writes it, in any case.
pub fn parse_digest(word: &[u8]) -> Option<Digest> {
    let mut digest: Digest = word.try_into().ok()?;
    digest.make_ascii_lowercase();
    Some(digest)
}

/// The libraries of functions.
#[derive(Debug, Default)]
pub struct Functions {
    libraries: ArcSwap<Libraries>,
    /// Held while they are changed.
    changing: Mutex<()>,
    /// What is known of functions, by name.
    reach: Mutex<HashMap<Vec<u8>, Arc<Learned>>>,
    bytes: AtomicUsize,
}

impl Functions {
    /// The libraries as they are.
    pub fn all(&self) -> Arc<Libraries> {
        self.libraries.load_full()
    }

    /// The function of this name, and what is known of it.
    pub fn find(&self, name: &[u8]) -> Option<(Found, Arc<Learned>)> {
        let found = self.libraries.load().find(name)?.clone();
        let mut reach = self.reach.lock();
        if let Some(known) = reach.get(name) {
            return Some((found, Arc::clone(known)));
        }
        let known = Arc::<Learned>::default();
        reach.insert(name.to_vec(), Arc::clone(&known));
        Some((found, known))
    }

    /// Changes the libraries, or leaves them where `change` refuses.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn change<R, E>(&self, change: impl FnOnce(&mut Libraries) -> Result<R, E>) -> Result<R, E> {
        let _changing = self.changing.lock();
        let mut libraries = Libraries::clone(&self.libraries.load());
        let answer = change(&mut libraries)?;
        self.bytes.store(libraries.iter().map(|library| memory_of_library(library)).sum(), Relaxed);
        self.libraries.store(Arc::new(libraries));
        // What a function touches may be another one's business now.
        self.reach.lock().clear();
        Ok(answer)
    }

    /// Bytes held for them, beside what workers have compiled.
    pub fn memory(&self) -> usize {
        self.bytes.load(Relaxed)
    }
}

fn memory_of_library(library: &Library) -> usize {
    let names: usize =
        library.functions.iter().map(|function| size_of::<Declared>() + 2 * function.name.len()).sum();
    size_of::<Library>() + library.text.len() + names
}

/// What one worker runs at the moment, as others see it.
#[derive(Debug, Default)]
pub struct Running {
    /// When it began, in milliseconds of Unix time; 0 for nothing.
    since_ms: AtomicU64,
    /// It has run for longer than `busy-reply-threshold`.
    pub is_busy: AtomicBool,
    /// It has changed something, and is not to be ended in the middle.
    pub has_written: AtomicBool,
    /// It is a function.
    pub is_function: AtomicBool,
    /// It is to end.
    pub is_killed: AtomicBool,
    /// The name of a function and the words it was called by, once it is busy.
    pub named: Mutex<(Vec<u8>, Vec<Vec<u8>>)>,
}

impl Running {
    /// Notes that a script begins.
    pub fn begin(&self, now_ms: u64, is_function: bool) {
        self.has_written.store(false, Relaxed);
        self.is_killed.store(false, Relaxed);
        self.is_function.store(is_function, Relaxed);
        self.since_ms.store(now_ms, Relaxed);
    }

    /// Notes that it has ended. `busy` counts what is busy.
    pub fn end(&self, busy: &AtomicUsize) {
        self.since_ms.store(0, Relaxed);
        if self.is_busy.swap(false, Relaxed) {
            busy.fetch_sub(1, Relaxed);
            *self.named.lock() = Default::default();
        }
    }

    /// Notes that it has run for long, called by these words.
    pub fn become_busy(&self, busy: &AtomicUsize, name: &[u8], words: impl FnOnce() -> Vec<Vec<u8>>) {
        *self.named.lock() = (name.to_vec(), words());
        if !self.is_busy.swap(true, Relaxed) {
            busy.fetch_add(1, Relaxed);
        }
    }

    /// For how long it has run, in milliseconds.
    pub fn millis(&self) -> u64 {
        clock::unix_millis().0.saturating_sub(self.since_ms.load(Relaxed))
    }
}

/// What becomes of a request to end what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// It ends.
    Done,
    /// Nothing runs that could be meant.
    NotBusy,
    /// It has written.
    Unkillable,
    /// What runs is of the other kind: a function.
    Function,
    /// What runs is of the other kind: a script.
    Script,
}

/// Ends what is busy: functions, or scripts of EVAL.
pub fn kill(running: &[CachePadded<Running>], functions: bool) -> Kill {
    let mut answer = Kill::NotBusy;
    for one in running.iter().filter(|one| one.is_busy.load(Relaxed)) {
        let is_function = one.is_function.load(Relaxed);
        if one.has_written.load(Relaxed) {
            if answer == Kill::NotBusy {
                answer = Kill::Unkillable;
            }
        } else if is_function != functions {
            if answer == Kill::NotBusy {
                answer = if is_function { Kill::Function } else { Kill::Script };
            }
        } else {
            one.is_killed.store(true, Relaxed);
            answer = Kill::Done;
        }
    }
    answer
}

/// What a request is answered while a function, or a script of EVAL, is busy.
pub fn busy_text(is_function: bool) -> &'static [u8] {
    if is_function {
        b"BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
    } else {
        b"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(scripts: &Scripts, text: &str, keep: bool) -> Arc<Script> {
        scripts.add(digest_of(text.as_bytes()), text.as_bytes(), (Flags::default(), 0), keep)
    }

    #[test]
    fn the_script_that_was_used_longest_ago_goes() {
        let scripts = Scripts::default();
        let kept = add(&scripts, "kept", true);
        let first = add(&scripts, "first", false);
        let second = add(&scripts, "second", false);
        for number in 0..PASSING_MAX - 2 {
            add(&scripts, &number.to_string(), false);
        }
        assert_eq!(scripts.len(), PASSING_MAX + 1);
        scripts.touch(&first);
        add(&scripts, "one too many", false);
        assert_eq!(scripts.len(), PASSING_MAX + 1);
        assert!(second.is_gone() && !first.is_gone() && !kept.is_gone());
        assert_eq!(scripts.evicted.load(Relaxed), 1);
        // What is loaded again stays from then on, and makes room.
        add(&scripts, "first", true);
        add(&scripts, "another", false);
        assert_eq!(scripts.len(), PASSING_MAX + 2);
        scripts.flush();
        assert!(first.is_gone() && scripts.len() == 0 && scripts.memory() == 0);
    }

    #[test]
    fn digests_are_read_in_any_case() {
        let digest = digest_of(b"return 1");
        assert_eq!(&digest, b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(parse_digest(b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"), Some(digest));
        assert_eq!(parse_digest(b"e0e1"), None);
    }

    #[test]
    fn what_has_written_is_not_killed() {
        let running = [CachePadded::<Running>::default(), CachePadded::default()];
        assert_eq!(kill(&running, false), Kill::NotBusy);
        running[0].begin(1, false);
        let busy = AtomicUsize::new(0);
        running[0].become_busy(&busy, b"one", Vec::new);
        assert_eq!(kill(&running, true), Kill::Script);
        running[0].has_written.store(true, Relaxed);
        assert_eq!(kill(&running, false), Kill::Unkillable);
        running[1].begin(1, true);
        running[1].become_busy(&busy, b"two", Vec::new);
        assert_eq!(busy.load(Relaxed), 2);
        assert_eq!(kill(&running, true), Kill::Done);
        assert!(running[1].is_killed.load(Relaxed) && !running[0].is_killed.load(Relaxed));
        running[1].end(&busy);
        assert_eq!(busy.load(Relaxed), 1);
        assert_eq!(kill(&running, true), Kill::Unkillable);
    }
}
