//! ACL LOG: what was denied lately, the same things within a minute as one.

use std::collections::VecDeque;

/// How long the same thing goes on being one entry, in milliseconds.
const GROUPING_MS: u64 = 60_000;
/// How many of the latest entries are looked at for the same thing.
const LOOKED_AT: usize = 10;

/// What was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A command.
    Command,
    /// A key.
    Key,
    /// A login.
    Auth,
    /// A channel.
    Channel,
    /// A database.
    Database,
}

impl Reason {
    /// The word of ACL LOG.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Auth => "auth",
            Reason::Channel => "channel",
            Reason::Database => "database",
        }
    }
}

/// Where it was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// To a client.
    TopLevel,
    /// In a transaction.
    Multi,
    /// In a script.
    Lua,
}

impl Context {
    /// The word of ACL LOG.
    pub fn name(self) -> &'static str {
        match self {
            Context::TopLevel => "toplevel",
            Context::Multi => "multi",
            Context::Lua => "lua",
        }
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// How often.
    pub count: u64,
    /// What.
    pub reason: Reason,
    /// Where.
    pub context: Context,
    /// The command, key or channel.
    pub object: Vec<u8>,
    /// Who.
    pub user: Vec<u8>,
    /// The line of CLIENT LIST of who did it last.
    pub client: Vec<u8>,
    /// Its number, never given twice.
    pub id: u64,
    /// When first, in milliseconds of Unix time.
    pub created_ms: u64,
    /// When last.
    pub updated_ms: u64,
}

impl Entry {
    /// An entry of now.
    pub fn new(reason: Reason, context: Context, object: &[u8], user: &[u8], now_ms: u64) -> Entry {
        Entry {
            count: 1,
            reason,
            context,
            object: object.to_vec(),
            user: user.to_vec(),
            client: Vec::new(),
            id: 0,
            created_ms: now_ms,
            updated_ms: now_ms,
        }
    }

    fn is_like(&self, other: &Entry) -> bool {
        self.reason == other.reason
            && self.context == other.context
            && self.updated_ms.abs_diff(other.updated_ms) <= GROUPING_MS
            && self.object == other.object
            && self.user == other.user
    }
}

/// All entries, the latest first.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl Log {
    /// Adds an entry, or counts it with one that says the same. At most `len_max` are kept.
    pub fn add(&mut self, mut entry: Entry, len_max: usize) {
        if len_max > 0 {
            let same = self.entries.iter().take(LOOKED_AT).position(|known| known.is_like(&entry));
            if let Some(mut known) = same.and_then(|at| self.entries.remove(at)) {
                known.count += 1;
                (known.client, known.updated_ms) = (entry.client, entry.updated_ms);
                self.entries.push_front(known);
                return;
            }
            entry.id = self.next_id;
            self.next_id += 1;
            self.entries.push_front(entry);
        }
        self.entries.truncate(len_max);
    }

    /// The entries, the latest first.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Forgets all entries; numbers go on.
    pub fn reset(&mut self) {
        self.entries = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(object: &[u8], now_ms: u64) -> Entry {
        Entry::new(Reason::Key, Context::TopLevel, object, b"ann", now_ms)
    }

    #[test]
    fn the_same_thing_within_a_minute_is_one_entry() {
        let mut log = Log::default();
        log.add(denied(b"a", 0), 10);
        log.add(denied(b"b", 1), 10);
        log.add(denied(b"a", 60_000), 10);
        let seen: Vec<_> = log.entries().map(|entry| (&entry.object[..], entry.count, entry.id)).collect();
        assert_eq!(seen, [(&b"a"[..], 2, 0), (b"b", 1, 1)]);
        // A minute after it was last seen.
        log.add(denied(b"a", 120_001), 10);
        assert_eq!(log.entries().len(), 3);
        log.add(denied(b"c", 120_002), 2);
        assert_eq!(log.entries().map(|entry| entry.id).collect::<Vec<_>>(), [3, 2]);
        log.reset();
        log.add(denied(b"a", 0), 2);
        assert_eq!(log.entries().next().map(|entry| entry.id), Some(4));
        log.add(denied(b"a", 0), 0);
        assert_eq!(log.entries().len(), 0);
    }

    #[test]
    fn only_the_latest_ten_are_looked_at() {
        let mut log = Log::default();
        for object in 0..11u8 {
            log.add(denied(&[object], 0), 100);
        }
        log.add(denied(&[1], 0), 100);
        assert_eq!(log.entries().len(), 11);
        log.add(denied(&[0], 0), 100);
        assert_eq!(log.entries().len(), 12);
    }
}
