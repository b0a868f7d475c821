//! All commands by name: those on data and those that need the server.
//!
//! Built once at start and never changed, so that every thread reads it without a lock.

use crate::door::Rows;
use crate::execute::Host;
use larder_acl::Catalog;
use larder_commands::memcached::MEMCACHED;
use larder_commands::spec::{Begin, Find, Flags, Group};
use larder_commands::{Args, Command, Ctx, Error, KeyspaceCtx, Run, Spec};

/// A command that needs the server: connections, settings, other threads.
pub struct HostCommand {
    /// The declaration.
    pub spec: Spec,
    /// The implementation.
    pub run: HostRun,
    /// Subcommands of a container such as CLIENT.
    pub subcommands: &'static [&'static HostCommand],
}

/// An implementation on declared keys.
pub type RunOnKeys = fn(&mut Ctx<'_>, &Args<'_>) -> Result<(), Error>;

/// How a command that stands in this crate is carried out.
#[derive(Clone, Copy)]
pub enum HostRun {
    /// With the server at hand.
    Host(fn(&mut Host<'_>, &Args<'_>) -> Result<(), Error>),
    /// With the server at hand, while no other thread touches any key.
    HostExclusive(fn(&mut Host<'_>, &Args<'_>) -> Result<(), Error>),
    /// On its declared keys, as data commands are: for containers that hold both.
    Keys(RunOnKeys),
    /// Only through its subcommands.
    Container,
}

/// How a command is carried out, wherever it is declared.
#[derive(Clone, Copy)]
pub enum RowRun {
    /// On its declared keys.
    Keys(RunOnKeys),
    /// On whole databases.
    Keyspace(fn(&mut KeyspaceCtx<'_>, &Args<'_>) -> Result<(), Error>),
    /// On whole databases, alone.
    Exclusive(fn(&mut KeyspaceCtx<'_>, &Args<'_>) -> Result<(), Error>),
    /// With the server at hand.
    Host(fn(&mut Host<'_>, &Args<'_>) -> Result<(), Error>),
    /// With the server at hand, alone.
    HostExclusive(fn(&mut Host<'_>, &Args<'_>) -> Result<(), Error>),
    /// Only through its subcommands.
    Container,
}

/// What becomes of a command between MULTI and EXEC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InMulti {
    /// It is kept until EXEC.
    Kept,
    /// It runs at once.
    Runs,
    /// It is EXEC.
    Exec,
    /// It is refused.
    Refused,
}

/// Whether a command has fetched what it misses of keys that come from a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetches {
    /// Never.
    No,
    /// Where the route says so: it asks whether a key is there, not what it holds.
    IfAsked,
    /// Always.
    Yes,
}

/// A command as the executor needs it.
pub struct Row {
    /// Index for per-command counters; dense over commands and subcommands.
    pub id: usize,
    /// The declaration.
    pub spec: &'static Spec,
    /// Name in lower case, `container|word` for subcommands.
    pub name: String,
    /// How it is carried out.
    pub run: RowRun,
    /// Subcommands, in alphabetical order.
    pub subcommands: Vec<Row>,
    /// [`Spec::words`], worked out once: the least and the most.
    words: (usize, usize),
    /// The word that is the only key, or the first, where that is a fixed one; 0 for none.
    pub first_key: usize,
    /// [`Spec::element`]; 0 where not one key alone is asked.
    pub element: usize,
    /// Whether `first_key` is the only key the command can have.
    pub single_key: bool,
    /// Whether it takes the same short time whatever the data: only a share of its runs is timed.
    pub is_brief: bool,
    /// What becomes of it between MULTI and EXEC.
    pub in_multi: InMulti,
    /// Whether it looks at the keys it declares and at no others.
    pub keeps_to_its_keys: bool,
    /// Whether it has fetched what it misses.
    pub fetches: Fetches,
    /// The implementation, where a command needs nothing but its one key and never has to wait for
    /// memory: the short way.
    pub run_on_key: Option<RunOnKeys>,
}

/// All commands by name.
pub struct Registry {
    rows: &'static [Row],
    /// Open addressing: index + 1 of a row, 0 for none.
    slots: Vec<u16>,
    /// Names of up to eight bytes, in lower or in upper case, as one word each; open addressing.
    short: Vec<(u64, Option<&'static Row>)>,
    /// The same of names of nine to sixteen bytes.
    medium: Vec<(u128, Option<&'static Row>)>,
    /// Number of rows, subcommands included.
    ids: usize,
    /// Those of the memcached door, which no name finds.
    memcached: Rows,
    /// The same commands as users' rules speak of them: by their own names, whatever they are called here.
    catalog: &'static Catalog,
}

/// Longest command name, in bytes.
const NAME_BYTES_MAX: usize = 32;

impl Registry {
    /// All commands of the data crate and of this one. `renames` gives commands new names, or takes
    /// them away where the new name is empty.
    pub fn new(
        host: &[&'static HostCommand],
        memcached: &[&'static HostCommand],
        renames: &[(Vec<u8>, Vec<u8>)],
    ) -> Registry {
        let mut ids = 0;
        let mut rows: Vec<Row> =
            larder_commands::commands().map(|command| data_row(command, "", &mut ids)).collect();
        rows.extend(host.iter().map(|command| host_row(command, "", &mut ids)));
        let memcached = memcached_row(memcached, &mut ids);
        // For the life of the process, which has one registry.
        let catalog: &'static Catalog =
            Box::leak(Box::new(catalog_of(rows.iter().chain(std::iter::once(memcached)))));
        debug_assert_eq!(catalog.len(), ids, "rules name commands by the numbers of rows");
        rename(&mut rows, renames);
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        // For the life of the process, which has one registry.
        let rows: &'static [Row] = Vec::leak(rows);
        let mut slots = vec![0u16; (rows.len() * 4).next_power_of_two()];
        for (index, row) in rows.iter().enumerate() {
            let mut at = hash(row.name.as_bytes()) & (slots.len() - 1);
            while slots[at] != 0 {
                at = (at + 1) & (slots.len() - 1);
            }
            slots[at] = index as u16 + 1;
        }
        let mut short = vec![(0u64, None); (rows.len() * 8).next_power_of_two()];
        for row in rows.iter().filter(|row| row.name.len() <= 8) {
            for name in [row.name.clone(), row.name.to_ascii_uppercase()] {
                let word = short_name(name.as_bytes());
                let mut at = spread(word) & (short.len() - 1);
                while short[at].1.is_some() {
                    at = (at + 1) & (short.len() - 1);
                }
                short[at] = (word, Some(row));
            }
        }
        let mut medium = vec![(0u128, None); (rows.len() * 8).next_power_of_two()];
        for row in rows.iter().filter(|row| (9..=16).contains(&row.name.len())) {
            for name in [row.name.clone(), row.name.to_ascii_uppercase()] {
                let words = medium_name(name.as_bytes());
                let mut at = spread_words(words) & (medium.len() - 1);
                while medium[at].1.is_some() {
                    at = (at + 1) & (medium.len() - 1);
                }
                medium[at] = (words, Some(row));
            }
        }
        Registry { rows, slots, short, medium, ids, memcached: Rows::new(memcached), catalog }
    }

    /// The commands as users' rules speak of them; numbers are those of rows.
    pub fn catalog(&self) -> &'static Catalog {
        self.catalog
    }

    /// Commands in alphabetical order.
    pub fn rows(&self) -> &'static [Row] {
        self.rows
    }

    /// Number of commands and subcommands together; every [`Row::id`] is below it.
    pub fn ids(&self) -> usize {
        self.ids
    }

    /// Those of the memcached door.
    #[inline]
    pub fn memcached(&self) -> &Rows {
        &self.memcached
    }

    /// All commands and subcommands, also those of the memcached door.
    pub fn all(&self) -> impl Iterator<Item = &Row> {
        let memcached = self.memcached.container();
        self.named().chain(std::iter::once(memcached).chain(&memcached.subcommands))
    }

    /// All commands and subcommands that have a name for Redis' clients.
    pub fn named(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().flat_map(|row| std::iter::once(row).chain(&row.subcommands))
    }

    /// The command whose name is the `len` bytes at the start of `bytes`. O(1).
    ///
    /// `bytes` goes on behind the name, so that a short one is read by one load.
    #[inline]
    pub fn find_at(&self, bytes: &[u8], len: usize) -> Option<&'static Row> {
        if let (1..=8, Some(word)) = (len, bytes.first_chunk::<8>()) {
            let word = u64::from_le_bytes(*word) & (u64::MAX >> (64 - 8 * len));
            let mut at = spread(word) & (self.short.len() - 1);
            while let Some((name, row)) = self.short.get(at).filter(|(_, row)| row.is_some()) {
                if *name == word {
                    return *row;
                }
                at = (at + 1) & (self.short.len() - 1);
            }
        }
        self.find_longer(bytes, len)
    }

    #[inline(never)]
    fn find_longer(&self, bytes: &[u8], len: usize) -> Option<&'static Row> {
        if let (9..=16, Some(words)) = (len, bytes.first_chunk::<16>()) {
            let words = u128::from_le_bytes(*words) & (u128::MAX >> (128 - 8 * len));
            let mut at = spread_words(words) & (self.medium.len() - 1);
            while let Some((name, row)) = self.medium.get(at).filter(|(_, row)| row.is_some()) {
                if *name == words {
                    return *row;
                }
                at = (at + 1) & (self.medium.len() - 1);
            }
        }
        // Very long, at the very end of the bytes, in mixed case, or no command.
        self.find(bytes.get(..len)?)
    }

    /// The command of this name, in any case. O(1).
    pub fn find(&self, name: &[u8]) -> Option<&'static Row> {
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let mut at = hash(name) & (self.slots.len() - 1);
        loop {
            let row = self.rows.get((*self.slots.get(at)? as usize).checked_sub(1)?)?;
            if row.name.len() == name.len() && row.name.as_bytes().eq_ignore_ascii_case(name) {
                return Some(row);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// The command of this name, whatever it is called here.
    pub fn find_original(&self, name: &[u8]) -> Option<&'static Row> {
        let is_it = |row: &&Row| row.spec.name.as_bytes().eq_ignore_ascii_case(name);
        self.find(name).or_else(|| self.rows.iter().find(is_it))
    }

    /// The command or subcommand of this name, such as `get` or `client|list`, in any case.
    pub fn find_full(&self, name: &[u8]) -> Option<&Row> {
        match name.iter().position(|byte| *byte == b'|') {
            Some(bar) => self.find(name.get(..bar)?)?.subcommand(name.get(bar + 1..)?),
            None => self.find(name),
        }
    }
}

impl Row {
    /// The subcommand of this word, in any case.
    #[inline]
    pub fn subcommand(&self, word: &[u8]) -> Option<&Row> {
        self.subcommands.iter().find(|row| row.spec.name.as_bytes().eq_ignore_ascii_case(word))
    }

    /// Whether a pause of writes holds it back. PFCOUNT keeps its sum in the value, and what is
    /// published goes to replicas too.
    pub fn may_write(&self) -> bool {
        self.has(Flags::WRITE) || matches!(self.spec.name, "pfcount" | "publish" | "spublish")
    }

    /// Whether it can be given so many words, its name included.
    #[inline]
    pub fn takes(&self, words: usize) -> bool {
        self.words.0 <= words && words <= self.words.1
    }

    /// Whether the declaration has this flag.
    #[inline]
    pub fn has(&self, flag: Flags) -> bool {
        self.spec.flags.has(flag)
    }
}

fn catalog_of<'r>(rows: impl Iterator<Item = &'r Row>) -> Catalog {
    let mut catalog = Catalog::default();
    for row in rows {
        let id = catalog.add(row.spec, None);
        for subcommand in &row.subcommands {
            catalog.add(subcommand.spec, Some(id));
        }
    }
    catalog
}

fn rename(rows: &mut Vec<Row>, renames: &[(Vec<u8>, Vec<u8>)]) {
    for (from, to) in renames {
        if to.is_empty() {
            rows.retain(|row| !row.name.as_bytes().eq_ignore_ascii_case(from));
        } else if let Some(row) = rows.iter_mut().find(|row| row.name.as_bytes().eq_ignore_ascii_case(from)) {
            row.name = String::from_utf8_lossy(to).to_ascii_lowercase();
        }
    }
}

/// The container of the memcached door's commands: those on data and those that need the server.
fn memcached_row(host: &[&'static HostCommand], ids: &mut usize) -> &'static Row {
    let mut row = data_row(&MEMCACHED, "", ids);
    row.subcommands.extend(host.iter().map(|command| host_row(command, MEMCACHED.spec.name, ids)));
    // For the life of the process, which has one registry.
    Box::leak(Box::new(row))
}

fn data_row(command: &'static Command, container: &str, ids: &mut usize) -> Row {
    let run = match command.run {
        Run::Keys(run) => RowRun::Keys(run),
        Run::Keyspace(run) => RowRun::Keyspace(run),
        Run::Exclusive(run) => RowRun::Exclusive(run),
        Run::Container => RowRun::Container,
    };
    let mut row = new_row(&command.spec, run, container, ids);
    row.subcommands = command.subcommands.iter().map(|sub| data_row(sub, command.spec.name, ids)).collect();
    row
}

fn host_row(command: &'static HostCommand, container: &str, ids: &mut usize) -> Row {
    let run = match command.run {
        HostRun::Host(run) => RowRun::Host(run),
        HostRun::HostExclusive(run) => RowRun::HostExclusive(run),
        HostRun::Keys(run) => RowRun::Keys(run),
        HostRun::Container => RowRun::Container,
    };
    let mut row = new_row(&command.spec, run, container, ids);
    row.subcommands = command.subcommands.iter().map(|sub| host_row(sub, command.spec.name, ids)).collect();
    row
}

fn new_row(spec: &'static Spec, run: RowRun, container: &str, ids: &mut usize) -> Row {
    let id = *ids;
    *ids += 1;
    let name = if container.is_empty() { spec.name.to_owned() } else { format!("{container}|{}", spec.name) };
    let first = match spec.keys {
        [first, ..] => match (first.begin, first.find) {
            (Begin::Index(index), Find::Range { .. }) => index as usize,
            _ => 0,
        },
        [] => 0,
    };
    let single_key =
        matches!(spec.keys, [only] if first != 0 && matches!(only.find, Find::Range { last: 0, .. }));
    // What may wait is timed always: when it ends others have been timed for it.
    let is_brief =
        (spec.flags.has(Flags::FAST) || spec.complexity == "O(1)") && !spec.flags.has(Flags::BLOCKING);
    let run_on_key = match run {
        RowRun::Keys(run) if single_key && is_brief && !spec.flags.has(Flags::BLOCKING) => Some(run),
        _ => None,
    };
    let in_multi = match spec.name {
        _ if spec.flags.has(Flags::NO_MULTI) => InMulti::Refused,
        // Differs from Redis: MIGRATE is refused inside MULTI. Until its target has answered nobody may see or change what
        // the transaction touches, and no lock is held while a network is waited for.
        "migrate" => InMulti::Refused,
        "exec" => InMulti::Exec,
        "discard" | "multi" | "watch" if spec.group == Group::Transactions => InMulti::Runs,
        "quit" | "reset" if spec.group == Group::Connection && container.is_empty() => InMulti::Runs,
        _ => InMulti::Kept,
    };
    let keeps_to_its_keys = match run {
        RowRun::Keys(_) => true,
        // Commands about connections and channels have no key at all.
        RowRun::Host(_) => matches!(spec.group, Group::Connection | Group::PubSub | Group::Transactions),
        _ => false,
    };
    Row {
        id,
        spec,
        name,
        in_multi,
        keeps_to_its_keys,
        fetches: fetches(spec, run),
        run,
        words: (*spec.words().start(), *spec.words().end()),
        subcommands: Vec::new(),
        first_key: first,
        element: if single_key { usize::from(spec.element) } else { 0 },
        single_key,
        is_brief,
        run_on_key,
    }
}

/// Commands that read values fetch; those that look at keys from outside do not. GETEX reads, whatever else it does,
/// and so do memcached's commands of its kind.
fn fetches(spec: &Spec, run: RowRun) -> Fetches {
    let is_on_keys = matches!(run, RowRun::Keys(_));
    let reads =
        spec.flags.has(Flags::READONLY) || matches!(spec.name, "getex" | "gat" | "gat-many" | "mg-touch");
    match spec.group {
        _ if !is_on_keys || !reads => Fetches::No,
        Group::String
        | Group::Hash
        | Group::List
        | Group::Set
        | Group::SortedSet
        | Group::Bitmap
        | Group::Geo => Fetches::Yes,
        _ if matches!(spec.name, "exists" | "ttl" | "pttl" | "type" | "expiretime" | "pexpiretime") => {
            Fetches::IfAsked
        }
        _ => Fetches::No,
    }
}

/// Case-folding hash of a command name: FNV-1a over letters with the case bit set.
#[inline]
fn hash(name: &[u8]) -> usize {
    let folded = name.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte | 0x20)).wrapping_mul(0x0100_0000_01b3)
    });
    (folded ^ (folded >> 32)) as usize
}

/// A name of up to eight bytes as a word.
fn short_name(name: &[u8]) -> u64 {
    name.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// A name of up to sixteen bytes as two words.
fn medium_name(name: &[u8]) -> u128 {
    name.iter().rev().fold(0, |words, byte| words << 8 | u128::from(*byte))
}

/// Spreads two words over the table of longer names.
#[inline]
fn spread_words(words: u128) -> usize {
    spread((words as u64).rotate_left(29) ^ (words >> 64) as u64)
}

/// Spreads a word over the table of short names.
#[inline]
fn spread(word: u64) -> usize {
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}
