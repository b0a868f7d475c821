//! What a connection keeps between MULTI and EXEC, and the keys it watches.
//!
//! The words of all queued commands lie in one buffer, so that queueing allocates nothing once a
//! transaction has grown. Read next: `execute/exec.rs`, which carries one out.

use crate::registry::Row;
use larder_commands::Args;
use larder_commands::spec::Flags;
use larder_resp::Span;
use larder_store::{DbIndex, Followed, Watch};
use std::sync::Arc;

/// A transaction that took more memory than this is not kept for the next.
const SPARE_BYTES_MAX: usize = 16 * 1024;

/// A command that waits for EXEC.
#[derive(Clone, Copy)]
struct Queued {
    row: &'static Row,
    /// Where its words start in the buffer.
    base: usize,
    /// Its first word and how many it has.
    spans: (usize, usize),
    /// Hash of its first key, where it has a fixed one.
    hash: u64,
}

/// The commands since MULTI.
#[derive(Default)]
pub struct Transaction {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    commands: Vec<Queued>,
    /// A command was refused, so that EXEC will be.
    pub is_flawed: bool,
    /// One of the commands is refused when memory is over its limit.
    pub needs_memory: bool,
    /// One of the commands may write.
    pub may_write: bool,
    /// One of the commands writes, by its flags or those of its script.
    pub is_writing: bool,
    /// Which commands the writes are of that its keys' store has been told of, in their order.
    pub writes: Vec<usize>,
    /// The same of the statements: a write of fields may have several.
    pub statements: Vec<usize>,
}

impl Transaction {
    /// Keeps a command.
    pub fn push(&mut self, row: &'static Row, args: &Args<'_>, hash: u64) {
        let (base, first) = (self.bytes.len(), self.spans.len());
        for word in args.from(0) {
            // A request is shorter than 4 GiB: its own spans say so.
            let start = (self.bytes.len() - base) as u32;
            self.bytes.extend_from_slice(word);
            self.spans.push(Span { start, len: word.len() as u32 });
        }
        self.commands.push(Queued { row, base, spans: (first, args.len()), hash });
        self.needs_memory |= row.has(Flags::DENY_OOM);
        self.may_write |= row.may_write();
        self.is_writing |= row.has(Flags::WRITE);
    }

    /// Number of commands.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Bytes of the words of all commands.
    pub fn word_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Memory it takes, in bytes.
    pub fn memory(&self) -> usize {
        size_of::<Transaction>()
            + self.bytes.capacity()
            + self.spans.capacity() * size_of::<Span>()
            + self.commands.capacity() * size_of::<Queued>()
            + (self.writes.capacity() + self.statements.capacity()) * size_of::<usize>()
    }

    /// The commands in order: row, words, hash of the first key.
    pub fn commands(&self) -> impl Iterator<Item = (&'static Row, Args<'_>, u64)> {
        self.commands.iter().map(|queued| {
            let (first, count) = queued.spans;
            let spans = self.spans.get(first..first + count).unwrap_or_default();
            (queued.row, Args::new(self.bytes.get(queued.base..).unwrap_or_default(), spans), queued.hash)
        })
    }

    /// Empties it. Answers whether it is worth keeping for another.
    pub fn clear(&mut self) -> bool {
        self.bytes.clear();
        self.spans.clear();
        self.commands.clear();
        self.writes.clear();
        self.statements.clear();
        (self.is_flawed, self.needs_memory) = (false, false);
        (self.may_write, self.is_writing) = (false, false);
        self.memory() <= SPARE_BYTES_MAX
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Transaction").field("commands", &self.commands.len()).finish_non_exhaustive()
    }
}

/// The keys a connection watches.
#[derive(Debug, Default)]
pub struct Watching {
    keys: Vec<(DbIndex, Box<[u8]>)>,
    key_bytes: usize,
}

impl Watching {
    /// Adds a key whose shard is locked, and which may be over already, unless it is watched already.
    pub fn add(
        &mut self,
        followed: &Followed,
        (db, key): (DbIndex, &[u8]),
        watch: &Arc<Watch>,
        is_over: bool,
    ) {
        if followed.watch(db, key, watch, is_over) {
            self.keys.push((db, key.into()));
            self.key_bytes += key.len();
        }
    }

    /// Forgets all keys, and that any of them changed.
    pub fn clear(&mut self, followed: &Followed, watch: &Arc<Watch>) {
        if self.keys.is_empty() {
            return;
        }
        for (db, key) in self.keys.drain(..) {
            followed.unwatch(db, &key, watch);
        }
        (self.keys, self.key_bytes) = (Vec::new(), 0);
        watch.reset();
    }

    /// The keys, with their databases.
    pub fn keys(&self) -> impl Iterator<Item = (DbIndex, &[u8])> {
        self.keys.iter().map(|(db, key)| (*db, &**key))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Memory taken for them, here and among those who follow keys, in bytes.
    pub fn memory(&self) -> usize {
        2 * self.key_bytes + self.keys.len() * 2 * size_of::<(DbIndex, Box<[u8]>)>()
    }
}
