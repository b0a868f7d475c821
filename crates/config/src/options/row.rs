//! What the row of an option says: its name, form and default, when it may be set, and how far it is implemented.

use super::{DIFFERS, Settings};
use crate::kind::{Kind, Reason};
use crate::value::Context;

/// How far an option is implemented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// The server acts on it.
    Live,
    /// Read, set and kept as by Redis; it changes nothing, since what it tunes is not here.
    Kept,
    /// Readable; the only value it can have is its default.
    Fixed,
}

/// What may be done with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub(super) u8);

impl Flags {
    /// Nothing special.
    pub const NONE: Flags = Flags(0);
    /// Only set at start.
    pub const IMMUTABLE: Flags = Flags(1);
    /// Set by CONFIG SET only as `enable-protected-configs` allows.
    pub const PROTECTED: Flags = Flags(1 << 1);
    /// Its value must not be logged.
    pub const SENSITIVE: Flags = Flags(1 << 2);
    /// May stand on several lines of a file, which add up.
    pub const MULTI: Flags = Flags(1 << 3);
    /// Answered where it is asked for by its whole name, and left out where a pattern fits it.
    pub const HIDDEN: Flags = Flags(1 << 4);

    /// Whether all of these are set.
    #[must_use]
    pub const fn has(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }
}

/// The headings under which the help text and the example file list options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Sockets and connections.
    Network,
    /// The process, its files and threads.
    General,
    /// Passwords and guards.
    Security,
    /// The memory limit, eviction and freeing.
    Memory,
    /// What one client may hold.
    Clients,
    /// Logs of slow commands and latency.
    Observation,
    /// When small values change to their large form.
    Encodings,
    /// Stores that the cache fetches from.
    Sources,
    /// Scripts and notifications.
    Features,
    /// Snapshots and the append-only file.
    Persistence,
    /// Replicas.
    Replication,
    /// Cluster mode.
    Cluster,
    /// Encrypted connections.
    Tls,
}

impl Group {
    /// Every group, in the order of the help text.
    pub const ALL: [Group; 13] = [
        Group::Network,
        Group::General,
        Group::Security,
        Group::Memory,
        Group::Clients,
        Group::Observation,
        Group::Encodings,
        Group::Sources,
        Group::Features,
        Group::Persistence,
        Group::Replication,
        Group::Cluster,
        Group::Tls,
    ];

    /// The heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Group::Network => "Network",
            Group::General => "Process, files, threads",
            Group::Security => "Security",
            Group::Memory => "Memory, eviction, expiry",
            Group::Clients => "Limits of a client",
            Group::Observation => "Slow log, latency, insight",
            Group::Encodings => "Compact forms of values",
            Group::Sources => "Sources: read-through",
            Group::Features => "Scripts and notifications",
            Group::Persistence => "Persistence",
            Group::Replication => "Replication",
            Group::Cluster => "Cluster",
            Group::Tls => "TLS",
        }
    }
}

/// All that is known about an option.
#[derive(Debug)]
pub struct OptionSpec {
    /// The name, in lower case.
    pub name: &'static str,
    /// An older or other name for the same value.
    pub alias: Option<&'static str>,
    /// The form of the value.
    pub kind: Kind,
    /// The default as a file would give it.
    pub default: &'static str,
    /// When it may be set.
    pub flags: Flags,
    /// How far it is implemented.
    pub support: Support,
    /// Where it is listed.
    pub group: Group,
    /// The unit of the value, empty if none.
    pub unit: &'static str,
    /// What it does, in a line.
    pub doc: &'static str,
    /// Why it has but one value, or changes nothing, where that is not plain from the rest.
    pub because: Option<&'static str>,
    pub(crate) ops: Ops,
}

/// Takes over the words of a value.
type Assign = fn(&mut Settings, &OptionSpec, &[&[u8]], Context) -> Result<(), Reason>;

/// How to reach the option's value in [`Settings`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ops {
    pub(crate) assign: Assign,
    pub(crate) show: fn(&Settings, &OptionSpec, &mut Vec<u8>),
    pub(crate) lines: fn(&Settings, &OptionSpec) -> Vec<Vec<u8>>,
    pub(crate) same: fn(&Settings, &Settings) -> bool,
}

impl OptionSpec {
    /// Whether CONFIG SET may change it at all.
    #[must_use]
    pub fn is_modifiable(&self) -> bool {
        self.has_field() && !self.flags.has(Flags::IMMUTABLE)
    }

    /// Whether it can have other values than its default.
    #[must_use]
    pub fn has_field(&self) -> bool {
        self.support != Support::Fixed
    }

    /// Why its value changes nothing, where that is so.
    #[must_use]
    pub fn idle_because(&self) -> Option<&'static str> {
        let of_group = match self.group {
            Group::Replication => "there are no replicas yet",
            Group::Cluster => "there is no cluster mode yet",
            _ => "what it tunes is not here",
        };
        (self.support == Support::Kept).then(|| self.because.unwrap_or(of_group))
    }

    /// Why its default is not that of Redis, if it is not.
    #[must_use]
    pub fn difference(&self) -> Option<&'static Difference> {
        DIFFERS.iter().find(|difference| difference.name == self.name)
    }

    /// Whether `name` is this option's name or alias, in any case.
    #[must_use]
    pub fn is_named(&self, name: &[u8]) -> bool {
        self.names().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Its name, then its alias.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.alias)
    }
}

/// The words of a value given as one string. Several blanks in a row make empty words, as in Redis.
pub(crate) fn words_of<'a>(kind: &Kind, value: &'a [u8]) -> Vec<&'a [u8]> {
    if kind.takes_words() { value.split(|&byte| byte == b' ').collect() } else { vec![value] }
}

/// A default that is not that of Redis.
#[derive(Debug)]
pub struct Difference {
    /// The option.
    pub name: &'static str,
    /// Redis' default, as CONFIG GET answers it.
    pub redis: &'static str,
    /// Why ours is another.
    pub reason: &'static str,
}
